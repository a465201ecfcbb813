/*
 * names.h: IDs of named entities of an account.
 */
#ifndef LPU_SYNC_NAMES_H
#define LPU_SYNC_NAMES_H

#include "lib/stringinfo.h"

#include "options/option.h"

typedef struct LpuSyncNames LpuSyncNames;

/*
 * Read the names of an account's profiles (or skills ...); allocated in the current memory context.
 */
extern LpuSyncNames *lpu_sync_names_read(const LpuOptions *options, LpuResourceId resource);

/* Set *id to the id of a name. */
extern bool lpu_sync_names_find(const LpuSyncNames *names, const char *name, int64 *id,
								StringInfo problem);

#endif

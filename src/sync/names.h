/*
 * names.h: ids of what an account has names for.
 */
#ifndef LPU_SYNC_NAMES_H
#define LPU_SYNC_NAMES_H

#include "lib/stringinfo.h"

#include "options/option.h"

typedef struct LpuSyncNames LpuSyncNames;

/* Read what an account calls its profiles (or skills ...); in the current memory context. */
extern LpuSyncNames *lpu_sync_names_read(const LpuOptions *options, LpuResourceId resource);

/* Set *id to the id of a name. */
extern bool lpu_sync_names_find(const LpuSyncNames *names, const char *name, int64 *id,
								StringInfo problem);

#endif

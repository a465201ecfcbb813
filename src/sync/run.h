/*
 * run.h: a run of a sync: plan, and apply what is within the limits.
 */
#ifndef LPU_SYNC_RUN_H
#define LPU_SYNC_RUN_H

#include "nodes/pg_list.h"

/* The names of the syncs that the current user may run, with SPI connected. */
extern List *lpu_sync_names(void);

/*
 * Run a sync in a subtransaction, with SPI connected; with watched, only the keys that are
 * marked. One that is quarantined is an error if it is to run alone. Each lock is waited for at
 * most timeout_ms.
 */
extern ErrorData *lpu_sync_run(const char *name, bool watched, bool alone, int timeout_ms);

#endif

/*
 * run.h: a run of a sync: plan, and apply what is within the limits.
 */
#ifndef LPU_SYNC_RUN_H
#define LPU_SYNC_RUN_H

#include "nodes/pg_list.h"

/* The names of the syncs that the current user may run, with SPI connected. */
extern List *lpu_sync_names(void);

/*
 * Run a sync, in a subtransaction, with SPI connected; watched: only the keys that are marked.
 * Return NULL, or the error by which it failed, allocated in the current memory context; a run that
 * was held or failed is written down in the row of the sync. Raises if there is no such sync, or
 * the current user may not act as its owner.
 */
extern ErrorData *lpu_sync_run(const char *name, bool watched);

#endif

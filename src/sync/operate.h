/*
 * operate.h: operator functions on syncs.
 */
#ifndef LPU_SYNC_OPERATE_H
#define LPU_SYNC_OPERATE_H

#include "sync/definition.h"

/* Remove the links of these keys, a text[]; return their number. */
extern int64 lpu_sync_unlink(const LpuSync *sync, Datum keys);

/* Pause; resume, also after a quarantine and in a copy of the database; drop. */
extern void lpu_sync_pause(const LpuSync *sync);
extern void lpu_sync_resume(const LpuSync *sync);
extern void lpu_sync_drop(const LpuSync *sync);

#endif

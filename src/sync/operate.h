/*
 * operate.h: what people do with syncs.
 */
#ifndef LPU_SYNC_OPERATE_H
#define LPU_SYNC_OPERATE_H

#include "sync/definition.h"

/* Give up the links of these keys, a text[]; return how many there were. */
extern int64 lpu_sync_unlink(const LpuSync *sync, Datum keys);

/* Stop; go on, also after a quarantine and in a copy of the database; forget. */
extern void lpu_sync_pause(const LpuSync *sync);
extern void lpu_sync_resume(const LpuSync *sync);
extern void lpu_sync_drop(const LpuSync *sync);

#endif

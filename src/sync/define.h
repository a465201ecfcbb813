/*
 * define.h: declaring a sync.
 */
#ifndef LPU_SYNC_DEFINE_H
#define LPU_SYNC_DEFINE_H

#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "sync/definition.h"

/* Parts of a definition besides the fields of LpuSync. */
typedef struct LpuSyncPolicy
{
	const char *leavers;
	const Interval *delete_after;	/* or NULL */
	Jsonb	   *limits;			/* or NULL */
} LpuSyncPolicy;

/*
 * Check a definition (name, account, source, key, create_only, add_only and drift are set) and
 * store it, with SPI connected; its columns are read then.
 */
extern void lpu_sync_define(LpuSync *sync, const LpuSyncPolicy *policy);

#endif

/*
 * plan.h: stored differences, to be applied later.
 */
#ifndef LPU_SYNC_PLAN_H
#define LPU_SYNC_PLAN_H

#include "tcop/dest.h"

#include "sync/definition.h"

/* A plan, and why it must not be applied. */
typedef struct LpuSyncPlanned
{
	int64		id;
	const char *guard;			/* source, listing or duplicates; NULL: it may
								 * be applied */
	const char *reason;			/* the same in words */
} LpuSyncPlanned;

/* Make a plan of a sync, with SPI connected; keys: a text[] of those to look at, or 0. */
extern void lpu_sync_plan(LpuSync *sync, Datum keys, LpuSyncPlanned *planned);

/* The items of a sync get the states that their requests give them. */
extern void lpu_sync_settle_items(const LpuSync *sync);

/* The work of one call of lp_sync_apply(): confirm is an object of numbers, or NULL. */
extern void lpu_sync_apply(int64 plan, Jsonb *confirm, DestReceiver *dest);

/* The links, when requests of plans are settled; set as lpu_settled_hook. */
extern void lpu_sync_settled(const int64 *ids, int n);

#endif

/*
 * applied_plan.h: queuing the items of a plan as requests.
 */
#ifndef LPU_SYNC_APPLIED_PLAN_H
#define LPU_SYNC_APPLIED_PLAN_H

#include "sync/rows.h"

/* A plan that is being applied. Its sync is locked. */
typedef struct LpuAppliedPlan
{
	int64		id;
	LpuSync    *sync;
	const char *state;			/* draft, applied, superseded or expired */
	const char *guard;
	const char *reason;
	bool		whole;
	int64		source_rows;
	bool		withdraws;		/* it has leavers who wait for a request */
	LpuSyncRows *source;		/* read again, registered as "_source" */
} LpuAppliedPlan;

/* Run a statement on it: $1 is its number, $2 that of the sync; the second may read the source. */
extern void lpu_applied_run(const LpuAppliedPlan *plan, const char *sql);
extern void lpu_applied_run_with_source(const LpuAppliedPlan *plan, const char *sql);

/* Withdraw the unsent requests that would open users of leavers. */
extern void lpu_applied_withdraw(const LpuAppliedPlan *plan);

/* Execute the items that change only links; queue the other planned items. */
extern void lpu_applied_change_links(const LpuAppliedPlan *plan);
extern void lpu_applied_queue(const LpuAppliedPlan *plan);

#endif

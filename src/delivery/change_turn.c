/*
 * change_turn.c: when updates and deletes of the queue are carried out.
 *
 * They go before creates.  While rows are created it is asked twice a second whether an update or
 * delete is due; if so, no more creates are started, those in flight have their end, and then the
 * revision's lock is taken for a chain (change_chain.c), and given back after it.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/account_lock.h"
#include "delivery/delivery_state.h"

/* So often it is asked whether changes are due: a leaver waits for that long at most. */
#define CHECK_MS 500

/* A delivery does not stay open for longer only because the account asked to wait. */
#define MAX_WAIT_MS 2000

/* A CALL waits for so long until other clients of an account have come to rest. */
#define PATIENCE_MS 60000

/*
 * Ask whether an update or delete can be claimed now, if that was not just asked; *wait_ms says
 * when it may be asked again.
 */
static void
check_changes(LpuDelivery *d, long *wait_ms)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next = TimestampTzPlusMilliseconds(d->changes_checked, CHECK_MS);
	bool		rest = d->empty && d->ready == NIL && d->flying == NIL && d->done == NIL;
	MemoryContext caller;

	*wait_ms = CHECK_MS;
	if (d->changes_due)
		return;
	/* a change may have waited for what was created just now */
	if (now < next && !(rest && d->changes_stale))
	{
		*wait_ms = TimestampDifferenceMilliseconds(now, next);
		return;
	}
	caller = lpu_delivery_begin(d);
	(void) lpu_take_over_look_first(d->account);
	d->changes_due = lpu_claim_next_change(d->account, &d->next_change);
	d->changes_checked = now;
	d->changes_stale = false;
	lpu_delivery_commit(d, caller);
}

/*
 * Return true if a CALL has to wait for changes that went back into the queue because other
 * clients keep changing the account.  The worker comes back to them.
 */
static bool
waits_for_rest(LpuDelivery *d, long *wait_ms)
{
	TimestampTz now = GetCurrentTimestamp();

	if (d->deliverer->stop != NULL || d->unrest == 0 || d->totals->unreachable ||
		now > TimestampTzPlusMilliseconds(d->unrest_until, CHECK_MS) ||
		now > TimestampTzPlusMilliseconds(d->unrest_since, PATIENCE_MS))
		return false;
	*wait_ms = Max(TimestampDifferenceMilliseconds(now, d->unrest_until), 10);
	if (now >= d->unrest_until)
		d->changes_checked = 0;
	return true;
}

/* A chain is over, or could not begin: others may have the lock, and more may be due. */
static void
end_chain(LpuDelivery *d)
{
	lpu_delivery_unshare_revision(d);
	d->changes_due = false;
	d->changes_checked = 0;
	/* creates may have waited for these changes */
	d->empty = false;
}

/* Begin a chain if changes are due.  Return LPU_STEP_OVER if none are. */
static LpuStep
begin_chain(LpuDelivery *d, long *wait_ms)
{
	bool		may = GetCurrentTimestamp() < d->slice_end && !d->totals->unreachable &&
	!lpu_delivery_must_stop(d);
	bool		claimed;

	if (may)
		check_changes(d, wait_ms);
	if (!d->changes_due)
		return waits_for_rest(d, wait_ms) ? LPU_STEP_WAITS : LPU_STEP_OVER;
	if (!may)
	{
		d->changes_left = !d->totals->unreachable;
		d->changes_due = false;
		lpu_delivery_unshare_revision(d);
		return LPU_STEP_OVER;
	}
	*wait_ms = lpu_delivery_request_wait(d);
	if (*wait_ms > MAX_WAIT_MS + (d->rate_limit > 0 ? 1000 / d->rate_limit : 0))
	{
		/*
		 * the account asked to wait: what is due by then is found when it may
		 * be asked again
		 */
		d->changes_due = false;
		return LPU_STEP_OVER;
	}
	if (*wait_ms > 0)
		return LPU_STEP_WAITS;
	/* creates in flight have their end first */
	if (d->flying != NIL || d->done != NIL)
	{
		*wait_ms = -1;
		return LPU_STEP_WAITS;
	}
	if (d->shares)
		lpu_delivery_unshare_revision(d);
	if (!lpu_hold_revision(d->account))
	{
		*wait_ms = LPU_REVISION_POLL_MS;
		return LPU_STEP_WAITS;
	}
	lpu_delivery_check_lock(d);
	claimed = lpu_change_chain_begin(d);
	if (d->chain == NULL)
		end_chain(d);
	/* rows that are locked by others are due, and cannot be claimed */
	if (!claimed)
		d->changes_checked = GetCurrentTimestamp();
	return LPU_STEP_MOVED;
}

/*
 * Go on with updates and deletes, without waiting; LPU_STEP_OVER if none are under way or due.
 * Called outside of a transaction.
 */
LpuStep
lpu_delivery_change(LpuDelivery *d, long *wait_ms)
{
	if (d->chain == NULL)
		return begin_chain(d, wait_ms);
	if (!lpu_change_chain_step(d, wait_ms))
		return LPU_STEP_WAITS;
	if (d->chain == NULL)
		end_chain(d);
	return LPU_STEP_MOVED;
}

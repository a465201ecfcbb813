/*
 * change_turn.c: scheduling of queued updates and deletes.
 *
 * Updates and deletes go before creates.  While rows are created, the deliverer checks twice a
 * second if an update or delete is due.  If so, it starts no more creates, lets those in flight
 * end, takes the revision lock for a chain (change_chain.c), and releases it after the chain.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/account_lock.h"
#include "delivery/delivery_state.h"
#include "http/request.h"

/* Interval of the check for due changes: the maximum delay of a leaver. */
#define CHECK_MS 500

/* Maximum time that a delivery stays open only because the account requested a delay. */
#define MAX_WAIT_MS 2000

/* Interval of attempts while the role has too many requests under way. */
#define ROOM_WAIT_MS 1000

/* Maximum time that a CALL waits for other clients to stop changing the account. */
#define PATIENCE_MS 60000

/*
 * Check if an update or delete can be claimed now, unless this was checked recently; *wait_ms gets
 * the time until the next check.
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
	/* a change may have waited for a user created just now */
	if (now < next && !(rest && d->changes_stale))
	{
		*wait_ms = TimestampDifferenceMilliseconds(now, next);
		return;
	}
	caller = lpu_delivery_begin(d);
	(void) lpu_take_over_look_first(d->account);
	d->changes_due = lpu_claim_next_change(d->account, d->party, &d->next_change);
	d->changes_checked = now;
	d->changes_stale = false;
	lpu_delivery_commit(d, caller);
}

/*
 * Return true if a CALL has to wait for changes that went back into the queue because other clients
 * keep changing the account.  The worker retries these later.
 */
static bool
waits_for_rest(LpuDelivery *d, long *wait_ms)
{
	TimestampTz now = GetCurrentTimestamp();

	if (d->deliverer->stop != NULL || d->unrest == 0 ||
		now > TimestampTzPlusMilliseconds(d->unrest_until, CHECK_MS) ||
		now > TimestampTzPlusMilliseconds(d->unrest_since, PATIENCE_MS))
		return false;
	*wait_ms = Max(TimestampDifferenceMilliseconds(now, d->unrest_until), 10);
	if (now >= d->unrest_until)
		d->changes_checked = 0;
	return true;
}

/* A chain is over, or could not begin: release the lock, and check again for due changes. */
static void
end_chain(LpuDelivery *d)
{
	lpu_delivery_unshare_revision(d);
	d->changes_due = false;
	d->changes_checked = d->changes_locked ? GetCurrentTimestamp() : 0;
	d->changes_locked = false;
	/* creates may have waited for these changes */
	d->empty = false;
}

/* Begin a chain if changes are due.  Return LPU_STEP_OVER if none are. */
static LpuStep
begin_chain(LpuDelivery *d, long *wait_ms)
{
	bool		may = GetCurrentTimestamp() < d->slice_end && !lpu_delivery_must_stop(d);
	bool		claimed;

	if (may)
		check_changes(d, wait_ms);
	if (!d->changes_due)
		return waits_for_rest(d, wait_ms) ? LPU_STEP_WAITS : LPU_STEP_OVER;
	if (!may)
	{
		d->changes_left = true;
		d->changes_due = false;
		lpu_delivery_unshare_revision(d);
		return LPU_STEP_OVER;
	}
	*wait_ms = lpu_delivery_request_wait(d);
	if (*wait_ms > MAX_WAIT_MS + (d->rate_limit > 0 ? 1000 / d->rate_limit : 0))
	{
		/*
		 * the account requested a delay: check again after it
		 */
		d->changes_due = false;
		return LPU_STEP_OVER;
	}
	if (*wait_ms > 0)
		return LPU_STEP_WAITS;
	if (!lpu_http_has_room(d->next_change.role))
	{
		*wait_ms = ROOM_WAIT_MS;
		d->changes_due = false;
		return d->deliverer->stop == NULL ? LPU_STEP_WAITS : LPU_STEP_OVER;
	}
	/* creates in flight end first */
	if (d->flying != NIL || d->done != NIL)
	{
		*wait_ms = -1;
		return LPU_STEP_WAITS;
	}
	if (d->shares)
		lpu_delivery_unshare_revision(d);
	if (!lpu_hold_revision(d->account, d->party))
	{
		*wait_ms = LPU_REVISION_POLL_MS;
		return LPU_STEP_WAITS;
	}
	lpu_delivery_check_lock(d);
	claimed = lpu_change_chain_begin(d);
	if (d->chain == NULL)
		end_chain(d);
	/* due rows locked by others cannot be claimed */
	if (!claimed)
		d->changes_checked = GetCurrentTimestamp();
	return LPU_STEP_MOVED;
}

/*
 * Continue updates and deletes, without waiting; return LPU_STEP_OVER if none are under way or due.
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

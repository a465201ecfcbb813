/*
 * delivery_step.c: the steps of a delivery: start batches, wait for responses, settle batches.
 *
 * A delivery never waits: turns.c runs it in steps, so that no account delays others. Connections
 * do not idle while SQL runs: the next batches are claimed in advance, and started as soon as
 * earlier ones are done, before these are settled. After its turn the delivery claims and starts
 * nothing more, but settles batches in flight when their responses arrive, during the turns of
 * other accounts.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/account_lock.h"
#include "delivery/delivery.h"
#include "delivery/delivery_state.h"
#include "http/request.h"

/* Number of rows of the first claim, before the options are known. */
#define FIRST_CLAIM 100

/*
 * Duration of a turn: rows are claimed and sent for this time while new ones keep arriving.
 * Requests in flight may take longer.
 */
#define SLICE_MS 10000

/* Maximum time that the revision lock is kept while a writer waits for it. */
#define SHARE_MS 2000

/*
 * Time without an idle moment of the delivery after which uncertain rows are looked up in parallel
 * with other requests.
 */
#define LOOK_MS 10000

/* Maximum wait of a worker that has claimed rows and no request under way. */
#define IDLE_HAND_MS 2000

/*
 * Raise if another party has released the deliverer's lock: another process may deliver this
 * account now.
 */
void
lpu_delivery_check_lock(const LpuDelivery *d)
{
	if (!lpu_account_is_locked(d->account))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("lock on the queue of account \"%s\" was released during delivery",
						d->account),
				 errdetail("The outcome of requests in flight will be looked up."),
				 errhint("Triggers on the extension's tables must not call pg_advisory_unlock_all() or DISCARD ALL.")));
}

/* Return true if nothing more is to be claimed or sent because the process was asked to stop. */
bool
lpu_delivery_must_stop(const LpuDelivery *d)
{
	return d->deliverer->stop != NULL && d->deliverer->stop();
}

/* Release the revision lock. */
void
lpu_delivery_unshare_revision(LpuDelivery *d)
{
	lpu_release_revision(d->account, d->party);
	d->shares = false;
}

/*
 * Take the revision lock in shared mode, which is needed to send. Return false if a conditional
 * write holds the lock, or has waited for too long: then nothing is sent until the requests in
 * flight are done and the write has finished.
 */
static bool
share_revision(LpuDelivery *d)
{
	TimestampTz now = GetCurrentTimestamp();

	if (d->shares && now > TimestampTzPlusMilliseconds(d->shared_since, SHARE_MS))
	{
		if (!lpu_revision_is_wanted(d->account, d->party))
			d->shared_since = now;
		else if (d->flying != NIL)
			return false;
		else
			lpu_delivery_unshare_revision(d);
	}
	if (!d->shares)
	{
		d->shares = lpu_share_revision(d->account, d->party);
		d->shared_since = now;
	}
	return d->shares;
}

/* Return true if there is a next batch, and rate limit, connections and turn allow starting it. */
static bool
may_send(LpuDelivery *d)
{
	TimestampTz now = GetCurrentTimestamp();

	if (d->chain != NULL || d->changes_due)
		return false;
	return list_length(d->flying) < d->max_connections && now >= d->next_start &&
		(now < d->send_end || d->deliverer->stop == NULL) && lpu_delivery_has_next_batch(d);
}

/* Start the batches that may be started now. Return true if there was one. */
static bool
start_batches(LpuDelivery *d)
{
	MemoryContext caller = MemoryContextSwitchTo(d->context);
	bool		any = false;

	while (may_send(d) && share_revision(d))
	{
		LpuCreateBatch *batch;

		lpu_delivery_check_lock(d);
		batch = lpu_delivery_next_batch(d);
		d->flying = lappend(d->flying, batch);
		lpu_batch_start(batch);
		any = true;
		d->totals->requests++;
		if (d->rate_limit > 0)
			d->next_start = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
														(int64) (1000 / d->rate_limit));
	}
	MemoryContextSwitchTo(caller);
	return any;
}

/* Move the batches that are done from those under way to those to be settled. */
static void
collect_done(LpuDelivery *d)
{
	MemoryContext caller = MemoryContextSwitchTo(d->context);
	List	   *flying = NIL;
	ListCell   *cell;

	foreach(cell, d->flying)
	{
		LpuCreateBatch *batch = lfirst(cell);

		if (!lpu_batch_done(batch))
		{
			flying = lappend(flying, batch);
			continue;
		}
		d->done = lappend(d->done, batch);
		d->refused |= !lpu_batch_accepted(batch);
	}
	list_free(d->flying);
	d->flying = flying;
	MemoryContextSwitchTo(caller);
}

/*
 * Advance the transfers without waiting, and start batches: to be called before and after SQL. A
 * refusal can forbid further requests, so responses are read first.
 */
static void
keep_flying(LpuDelivery *d)
{
	do
	{
		if (d->flying != NIL)
			lpu_http_turn(0);
		collect_done(d);
	}
	while (!lpu_delivery_must_stop(d) && !d->refused && start_batches(d));
}

/* Settle all batches that are done. Return true if there was one. */
static bool
settle_done(LpuDelivery *d)
{
	MemoryContext caller;
	ListCell   *cell;

	if (d->done == NIL)
		return false;
	caller = lpu_delivery_begin(d);
	foreach(cell, d->done)
		lpu_delivery_settle_batch(d, lfirst(cell));
	if (d->asked_to_wait)
		lpu_delivery_give_back(d);
	list_free(d->done);
	d->done = NIL;
	lpu_delivery_commit(d, caller);
	d->refused = false;

	/*
	 * a login in flight may have prevented the claim of another row with this
	 * login
	 */
	d->empty = false;
	d->changes_stale = true;
	if (d->deliverer->progress != NULL)
		d->deliverer->progress(d->account, d->totals);
	return true;
}

/*
 * Return the time to wait for the network: until a batch may be started or has to be given back,
 * else without limit.
 */
static long
time_to_wait(LpuDelivery *d)
{
	TimestampTz now = GetCurrentTimestamp();
	long		wait_ms = -1;

	if (d->ready == NIL || lpu_delivery_must_stop(d))
		return -1;
	if (d->deliverer->stop != NULL)
		wait_ms = TimestampDifferenceMilliseconds(now, d->send_end);
	if (list_length(d->flying) < d->max_connections)
	{
		long		start_ms = LPU_REVISION_POLL_MS;

		if (now < d->next_start)
			start_ms = TimestampDifferenceMilliseconds(now, d->next_start);
		wait_ms = wait_ms < 0 ? start_ms : Min(wait_ms, start_ms);
	}
	return wait_ms;
}

static bool
may_claim(LpuDelivery *d)
{
	if (d->chain != NULL || d->changes_due)
		return false;
	return !d->empty && !d->must_look && d->refusal == NULL &&
		GetCurrentTimestamp() < d->slice_end && !lpu_delivery_must_stop(d);
}

/*
 * Return true if it is time for the next claim. One claim is kept ready as long as nothing slows
 * the delivery down; otherwise rows stay in the queue.
 */
static bool
wants_claim(LpuDelivery *d)
{
	bool		slow = d->rate_limit > 0 || GetCurrentTimestamp() < d->next_start;

	if (list_length(d->ready) >= (slow ? 1 : LPU_CLAIM_BATCHES))
		return false;
	return may_claim(d);
}

/*
 * Return true if the claimed rows have to go back into the queue: the turn is over, the worker has
 * to stop, or nothing is under way and nothing may be sent for a while. A CALL waits instead, since
 * the user requested this delivery.
 */
static bool
better_given_back(LpuDelivery *d)
{
	if (d->ready == NIL || d->deliverer->stop == NULL)
		return false;
	if (lpu_delivery_must_stop(d) || !lpu_delivery_has_turn(d))
		return true;
	/* too many requests of the role are under way, for other accounts */
	if (d->flying == NIL && d->done == NIL && !lpu_delivery_has_next_batch(d))
		d->next_start = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), 2 * IDLE_HAND_MS);
	return d->flying == NIL &&
		TimestampDifferenceMilliseconds(GetCurrentTimestamp(), d->next_start) > IDLE_HAND_MS;
}

static void
give_back(LpuDelivery *d)
{
	MemoryContext caller = lpu_delivery_begin(d);

	lpu_delivery_give_back(d);
	lpu_delivery_commit(d, caller);
	/* rows given back after the turn are due as before */
	d->empty |= lpu_delivery_has_turn(d);
}

/* No rows are claimed and no requests under way. */
static LpuStep
step_at_rest(LpuDelivery *d, long *wait_ms)
{
	if (!d->looked && !lpu_delivery_must_stop(d))
	{
		LpuStep		result = lpu_delivery_look_up(d, wait_ms);

		if (result != LPU_STEP_OVER)
			return result;
	}
	/* the worker delivers the remaining rows after other accounts */
	if ((d->empty && !d->changes_left) || d->deliverer->stop != NULL)
		return LPU_STEP_OVER;
	*wait_ms = -1;
	return LPU_STEP_WAITS;		/* for its next turn */
}

/*
 * List the account if rows to be claimed, or refused rows, require it.  Return LPU_STEP_OVER if
 * not.
 */
static LpuStep
step_listing(LpuDelivery *d, long *wait_ms)
{
	LpuStep		result = lpu_delivery_look_ahead(d, wait_ms);

	return result == LPU_STEP_OVER ? lpu_delivery_judge_refused(d, wait_ms) : result;
}

/*
 * Continue a lookup that is under way, or begin one that has waited for too long.  Return
 * LPU_STEP_OVER if there is none.
 */
static LpuStep
step_look_up(LpuDelivery *d, long *wait_ms)
{
	if (lpu_delivery_must_stop(d))
		return LPU_STEP_OVER;
	if (d->reconciliation == NULL &&
		GetCurrentTimestamp() < TimestampTzPlusMilliseconds(d->looked_at, LOOK_MS))
		return LPU_STEP_OVER;
	return lpu_delivery_look_up(d, wait_ms);
}

/*
 * Continue the delivery, without waiting. Return if the next step may be taken at once, after
 * network activity or *wait_ms (-1: no limit), or never. Called outside of begin and commit. Raises
 * what the database raises, and is interruptible; after an error the delivery can only be closed.
 */
LpuStep
lpu_delivery_step(LpuDelivery *d, long *wait_ms)
{
	bool		claimed;
	LpuStep		change;
	LpuStep		listing;
	LpuStep		lookup;
	long		change_ms = -1;
	long		listing_ms = -1;
	long		lookup_ms = -1;

	keep_flying(d);
	change = lpu_delivery_change(d, &change_ms);
	if (change == LPU_STEP_MOVED)
		return LPU_STEP_MOVED;
	claimed = wants_claim(d);
	if (claimed)
	{
		lpu_delivery_check_lock(d);
		lpu_delivery_claim(d);
		keep_flying(d);
	}
	if (settle_done(d) || claimed)
		return LPU_STEP_MOVED;
	listing = step_listing(d, &listing_ms);
	if (listing == LPU_STEP_MOVED)
		return LPU_STEP_MOVED;
	lookup = step_look_up(d, &lookup_ms);
	if (lookup == LPU_STEP_MOVED)
		return LPU_STEP_MOVED;
	if (better_given_back(d))
	{
		give_back(d);
		return LPU_STEP_MOVED;
	}
	*wait_ms = lpu_delivery_shorter(change_ms, lpu_delivery_shorter(listing_ms, lookup_ms));
	if (d->flying == NIL && d->ready == NIL)
	{
		if (change == LPU_STEP_OVER)
			lpu_delivery_unshare_revision(d);
		if (change == LPU_STEP_WAITS || listing == LPU_STEP_WAITS || lookup == LPU_STEP_WAITS)
			return LPU_STEP_WAITS;
		return may_claim(d) ? LPU_STEP_MOVED : step_at_rest(d, wait_ms);
	}
	*wait_ms = lpu_delivery_shorter(*wait_ms, time_to_wait(d));
	return LPU_STEP_WAITS;
}

/* Let the delivery claim, for the time of a turn from now on. */
void
lpu_delivery_begin_turn(LpuDelivery *d)
{
	TimestampTz now = GetCurrentTimestamp();

	d->empty = d->changes_left = false;
	d->changes_checked = 0;

	/*
	 * rows that arrive during a turn do not extend it, since lookups would
	 * then never run
	 */
	if (now >= d->slice_end)
		d->slice_end = TimestampTzPlusMilliseconds(now, SLICE_MS);
	d->send_end = d->slice_end;
}

/*
 * Return the earliest time of another turn of an open delivery.  After a turn its requests end
 * first, so that lookups can run, unless requests in flight take as long as a turn.
 */
TimestampTz
lpu_delivery_next_turn(const LpuDelivery *d)
{
	if (GetCurrentTimestamp() < d->slice_end)
		return 0;
	return TimestampTzPlusMilliseconds(d->slice_end, SLICE_MS);
}

/* Extend the time for claims, up to the duration of a turn from now on. */
void
lpu_delivery_extend_turn(LpuDelivery *d, int64 ms)
{
	TimestampTz limit = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), SLICE_MS);

	d->slice_end = Min(TimestampTzPlusMilliseconds(d->slice_end, ms), limit);
	d->send_end = Max(d->send_end, d->slice_end);
}

/* Let the delivery send its claimed rows, for the time of a turn from now on. */
void
lpu_delivery_extend_sending(LpuDelivery *d)
{
	d->send_end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), SLICE_MS);
}

/* Return true while the turn lasts and rows may have to be claimed or sent. */
bool
lpu_delivery_has_turn(const LpuDelivery *d)
{
	TimestampTz now = GetCurrentTimestamp();

	return (now < d->slice_end && (!d->empty || d->changes_due || d->chain != NULL)) ||
		(now < d->send_end && d->ready != NIL);
}

/* Return true if the turn is over and due rows are left. */
bool
lpu_delivery_wants_turn(const LpuDelivery *d)
{
	return GetCurrentTimestamp() >= d->slice_end && (!d->empty || d->changes_left);
}

/*
 * Begin to deliver the due rows of an account that belong to servers of a party, under its lock.
 * Return NULL if another process is delivering the account. The delivery lives in a child of the
 * current memory context; rows that an earlier delivery was sending become uncertain. Called
 * outside of begin and commit; "account" and "totals" must stay valid.
 */
LpuDelivery *
lpu_delivery_open(const char *account, Oid party, const LpuDeliverer *deliverer,
				  LpuTotals *totals)
{
	MemoryContext context;
	LpuDelivery *d;

	if (!lpu_lock_account(account))
		return NULL;
	context = AllocSetContextCreate(CurrentMemoryContext, "lpusers delivery",
									ALLOCSET_DEFAULT_SIZES);
	d = MemoryContextAllocZero(context, sizeof(LpuDelivery));
	d->context = context;
	d->account = account;
	d->party = party;
	d->deliverer = deliverer;
	d->totals = totals;
	d->claim_size = FIRST_CLAIM;
	d->max_connections = 1;
	d->looked_at = GetCurrentTimestamp();
	PG_TRY();
	{
		lpu_delivery_take_over(d);
	}
	PG_CATCH();
	{
		lpu_delivery_close(d);
		PG_RE_THROW();
	}
	PG_END_TRY();
	lpu_delivery_begin_turn(d);
	return d;
}

/*
 * End the delivery and its requests under way, and release its locks. To be called after an error
 * as well; raises no error.
 */
void
lpu_delivery_close(LpuDelivery *d)
{
	const char *account = d->account;
	Oid			party = d->party;

	MemoryContextDelete(d->context);	/* ends the requests */
	lpu_release_revision(account, party);
	lpu_unlock_account(account);
}

/*
 * delivery_state.c: the results of the batches of a delivery.
 *
 * The result of each row is added to the settlement of the current step, which is written once,
 * before the step is committed. One response can affect other batches.  A 429 delays the whole
 * account.  Rejected credentials hold every batch that would use them.  If the service is
 * unreachable, the remaining batches with the same mapping go back to the queue instead of being
 * tried one by one.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "delivery/delivery_state.h"
#include "http/request.h"
#include "queue/claim.h"
#include "queue/pending.h"
#include "queue/silence.h"

/* Maximum number of logins named in the log. */
#define MAX_NAMES 50

/* A row that was counted and may be counted again. */
typedef struct UnfinishedRow
{
	int64		id;
	int64	   *counter;		/* the total that includes it */
} UnfinishedRow;

/* A service that refuses credentials does so within this time. */
#define REFUSAL_MS 2000

static HTAB *
unfinished_rows(LpuDelivery *d)
{
	HASHCTL		ctl = {.keysize = sizeof(int64),.entrysize = sizeof(UnfinishedRow),
	.hcxt = d->context};

	if (d->unfinished == NULL)
		d->unfinished = hash_create("lpusers unfinished rows", 256, &ctl,
									HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	return d->unfinished;
}

/* Count the state of a row among the totals; only the last state of a row counts. */
void
lpu_delivery_count(LpuDelivery *d, const LpuQueueRow *row)
{
	bool		finished = row->state == LPU_STATE_CREATED || row->state == LPU_STATE_DONE ||
	row->state == LPU_STATE_FAILED;
	int64	   *counter = row->state == LPU_STATE_CREATED ? &d->totals->created :
	row->state == LPU_STATE_DONE ? &d->totals->done :
	row->state == LPU_STATE_FAILED ? &d->totals->failed :
	row->state == LPU_STATE_HELD ? &d->totals->held : &d->totals->again;
	bool		found;
	UnfinishedRow *before = hash_search(unfinished_rows(d), &row->id,
										finished ? HASH_REMOVE : HASH_ENTER, &found);

	if (found)
		--* before->counter;
	++*counter;
	if (!finished)
		before->counter = counter;
}

/* Note that the account was reached: the next failure begins with the shortest delay. */
void
lpu_delivery_note_reached(LpuDelivery *d, const LpuOptions *options)
{
	MemoryContext caller = MemoryContextSwitchTo(d->context);

	d->proved = list_append_unique_oid(d->proved, options->mapping);
	MemoryContextSwitchTo(caller);
	lpu_silence_end(options->mapping);
}

/* ----- what may be sent ----- */

/*
 * Return true if a batch may be started.  Until the account has accepted a mapping, only one
 * request is sent with its credentials, since more would only be refused, too.  A refusal arrives
 * soon, so one request that hangs does not block the others.
 */
static bool
batch_may_start(const LpuDelivery *d, const LpuCreateBatch *batch)
{
	TimestampTz now = GetCurrentTimestamp();
	ListCell   *cell;

	if (!lpu_http_has_room(batch->options->payer))
		return false;
	if (list_member_oid(d->proved, batch->options->mapping))
		return true;
	foreach(cell, d->flying)
		if (((const LpuCreateBatch *) lfirst(cell))->options->mapping == batch->options->mapping &&
			now < TimestampTzPlusMilliseconds(((const LpuCreateBatch *) lfirst(cell))->started,
											  REFUSAL_MS))
		return false;
	foreach(cell, d->done)
		if (((const LpuCreateBatch *) lfirst(cell))->options->mapping == batch->options->mapping)
		return false;
	return true;
}

/* Return true if a batch is ready that may be started now. */
bool
lpu_delivery_has_next_batch(const LpuDelivery *d)
{
	ListCell   *cell;

	foreach(cell, d->ready)
		if (batch_may_start(d, lfirst(cell)))
		return true;
	return false;
}

/*
 * Remove the next batch that may be started from those that are ready, and return it; NULL if
 * there is none.
 */
LpuCreateBatch *
lpu_delivery_next_batch(LpuDelivery *d)
{
	ListCell   *cell;

	foreach(cell, d->ready)
	{
		LpuCreateBatch *batch = lfirst(cell);

		if (!batch_may_start(d, batch))
			continue;
		d->ready = foreach_delete_current(d->ready, cell);
		return batch;
	}
	return NULL;
}

/* Return true if a request may be sent now, and count it for rate_limit. */
bool
lpu_delivery_may_request(LpuDelivery *d)
{
	TimestampTz now = GetCurrentTimestamp();

	if (now < d->next_start)
		return false;
	if (d->rate_limit > 0)
		d->next_start = TimestampTzPlusMilliseconds(now, (int64) (1000 / d->rate_limit));
	return true;
}

/* Return the milliseconds until a request may be sent. */
long
lpu_delivery_request_wait(const LpuDelivery *d)
{
	return TimestampDifferenceMilliseconds(GetCurrentTimestamp(), d->next_start);
}

/* Return the shorter of two times to wait; -1 is no limit. */
long
lpu_delivery_shorter(long a, long b)
{
	if (a < 0 || b < 0)
		return Max(a, b);
	return Min(a, b);
}

/* ----- settling ----- */

/* Rows of a request get a batch number; rows settled by a lookup keep theirs. */
static void
settle_rows(LpuDelivery *d, LpuQueueRow **rows, int n, bool looked)
{
	MemoryContext caller = MemoryContextSwitchTo(d->context);
	LpuSettlement **settlement = &d->settlements[looked];
	int			i;

	if (*settlement == NULL)
		*settlement = lpu_settlement_new(!looked);
	if (!looked)
		lpu_settlement_next_batch(*settlement, d->schema_oid);
	for (i = 0; i < n; i++)
	{
		lpu_settlement_add(*settlement, rows[i]);
		lpu_delivery_count(d, rows[i]);
		d->settled = lappend(d->settled, rows[i]);
	}
	MemoryContextSwitchTo(caller);
}

/*
 * In a step: settle rows of one request, when the step ends. The rows must not be used afterwards.
 */
void
lpu_delivery_settle(LpuDelivery *d, LpuQueueRow **rows, int n)
{
	settle_rows(d, rows, n, false);
}

/* In a step: settle one row whose outcome is known from a lookup. */
void
lpu_delivery_settle_looked(LpuDelivery *d, LpuQueueRow *row)
{
	settle_rows(d, &row, 1, true);
}

/*
 * In a transaction: write the results of the settled rows, with one statement.
 */
void
lpu_delivery_write_settled(LpuDelivery *d)
{
	ListCell   *cell;
	int			i;

	for (i = 0; i < lengthof(d->settlements); i++)
	{
		if (d->settlements[i] != NULL)
			lpu_settlement_write(d->settlements[i]);
		d->settlements[i] = NULL;
	}
	foreach(cell, d->settled)
		lpu_claim_release(lfirst(cell));
	list_free(d->settled);
	d->settled = NIL;
}

/* Append logins, up to the maximum number, and return the number of users so far. */
static int
list_logins(StringInfo logins, LpuQueueRow **rows, int n, int before)
{
	int			i;

	for (i = 0; i < n; i++)
		if (before + i < MAX_NAMES)
			appendStringInfo(logins, "%s%s", before + i > 0 ? ", " : "", rows[i]->login_name);
	return before + n;
}

/*
 * The extension and its tables were dropped while requests were under way. The server log is the
 * only place left to say so.
 */
static void
report_dropped(LpuDelivery *d)
{
	StringInfoData logins;
	ListCell   *cell;
	int			n = 0;

	if (d->chain != NULL)
		lpu_change_chain_report(d->chain);
	initStringInfo(&logins);
	foreach(cell, d->refused_batches)
	{
		const LpuRefusedBatch *batch = lfirst(cell);

		n = list_logins(&logins, batch->rows, batch->n, n);
	}
	foreach(cell, list_concat_copy(d->done, d->flying))
	{
		const LpuCreateBatch *batch = lfirst(cell);

		n = list_logins(&logins, batch->rows, batch->n, n);
	}
	if (n > MAX_NAMES)
		appendStringInfo(&logins, " and %d more", n - MAX_NAMES);
	if (n > 0)
		ereport(LOG,
				(errmsg_plural("extension \"lpusers\" was dropped while %d user of account \"%s\" was being created",
							   "extension \"lpusers\" was dropped while %d users of account \"%s\" were being created",
							   n, n, d->account),
				 errdetail("The outcome is unknown: %s.", logins.data),
				 errhint("Check the account before these users are created again."),
				 errhidestmt(true)));
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_TABLE),
			 errmsg("the queue of account \"%s\" was dropped during delivery", d->account)));
}

/*
 * Begin a step: a transaction. Return the caller's memory context; that of the delivery is the
 * current one. Raises if the extension has been dropped since the last step.
 */
MemoryContext
lpu_delivery_begin(LpuDelivery *d)
{
	MemoryContext caller = CurrentMemoryContext;

	d->deliverer->begin();
	/* the transaction of a CALL began before the wait */
	AcceptInvalidationMessages();
	if (!OidIsValid(d->table))
		d->table = get_relname_relid("lp_requests", d->schema_oid);
	if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(d->table)))
		report_dropped(d);
	MemoryContextSwitchTo(d->context);
	return caller;
}

/*
 * End a step of the delivery: commit its transaction and return to the caller's memory context.
 */
void
lpu_delivery_commit(LpuDelivery *d, MemoryContext caller)
{
	lpu_delivery_write_settled(d);
	MemoryContextSwitchTo(caller);
	d->deliverer->commit();
}

/* Claimed rows wait in this process no longer than a request may take. */
void
lpu_delivery_wait_as_asked(LpuDelivery *d, int64 wait_ms, int64 patience_ms)
{
	d->next_start = Max(d->next_start, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), wait_ms));
	d->asked_to_wait |= wait_ms > patience_ms;
	/* the server is not listed until then */
	lpu_delivery_end_round(d);
}

/* In a step: return claimed rows that will not be sent soon to the queue. */
void
lpu_delivery_give_back(LpuDelivery *d)
{
	int64		wait_ms = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), d->next_start);
	ListCell   *cell;

	foreach(cell, d->ready)
	{
		LpuCreateBatch *batch = lfirst(cell);
		LpuQueueRow **rows = batch->rows;
		int			n = batch->n;

		lpu_rows_set_later(rows, n, NULL, wait_ms);
		lpu_batch_free(batch);
		lpu_delivery_settle(d, rows, n);
	}
	list_free(d->ready);
	d->ready = NIL;
	d->asked_to_wait = false;
}

/*
 * In a transaction: do not try claimed rows that would fail like a request that could not be sent.
 * Hold these rows (refused credentials), or let them wait as long as that request (unreachable
 * account).
 */
static void
spare_ready(LpuDelivery *d, const LpuOptions *options, LpuHoldKind hold, const char *why,
			int64 wait_ms)
{
	List	   *others = NIL;
	ListCell   *cell;

	foreach(cell, d->ready)
	{
		LpuCreateBatch *batch = lfirst(cell);
		LpuQueueRow **rows = batch->rows;
		int			n = batch->n;

		if (batch->options->mapping != options->mapping)
		{
			others = lappend(others, batch);
			continue;
		}
		if (hold != LPU_HOLD_NONE)
			lpu_rows_set_held(rows, n, hold, why);
		else
			lpu_rows_set_later(rows, n, why, wait_ms);
		lpu_batch_free(batch);
		lpu_delivery_settle(d, rows, n);
	}
	list_free(d->ready);
	d->ready = others;
}

/* Hold all claimed and queued rows of the role, instead of one refused request for each batch. */
void
lpu_delivery_hold_role(LpuDelivery *d, const LpuOptions *options, const LpuQueueRow *row,
					   LpuHoldKind hold, const char *why)
{
	spare_ready(d, options, hold, why, 0);
	/* rows that became pending just now are held, too */
	lpu_delivery_write_settled(d);
	d->totals->held += lpu_pending_hold(d->account, row->server, row->role, hold, why);
}

/*
 * The account was not reached with the sender's mapping, by an attempt that began at "since".
 * Other due rows with this mapping wait in the queue for the next attempt.
 */
void
lpu_delivery_note_unreachable(LpuDelivery *d, const LpuOptions *options,
							  const LpuNextChange *sender, TimestampTz since, const char *why,
							  int64 wait_ms)
{
	LpuSender	silent = {d->account, d->party, sender->server, sender->role, options->mapping};

	spare_ready(d, options, LPU_HOLD_NONE, why, wait_ms);
	lpu_silence_note(&silent, since, why);
}

/*
 * Return the milliseconds until the sender's mapping is to be tried again, because the account was
 * not reached with it; 0: now.  Else *why gets the reason.
 */
int64
lpu_delivery_silence(const LpuDelivery *d, const LpuOptions *options, const LpuQueueRow *row,
					 const char **why)
{
	LpuSender	sender = {d->account, d->party, row->server, row->role, options->mapping};

	return lpu_silence_of(&sender, why);
}

/* The account was not reached by the request of a batch. */
static void
set_unreachable(LpuDelivery *d, const LpuOptions *options, TimestampTz since, LpuQueueRow **rows,
				int n)
{
	int64		wait_ms = lpu_silence_backoff(options->mapping);
	LpuNextChange sender = {rows[0]->server, rows[0]->role};
	const char *why = rows[0]->error ? rows[0]->error : rows[0]->reason;
	int			i;

	for (i = 0; i < n; i++)
		rows[i]->wait_ms = wait_ms;
	lpu_delivery_note_unreachable(d, options, &sender, since, why, wait_ms);
}

/* In a step: settle one batch that is done. */
void
lpu_delivery_settle_batch(LpuDelivery *d, LpuCreateBatch *batch)
{
	const LpuOptions *options = batch->options;
	LpuQueueRow **rows = batch->rows;
	int			n = batch->n;
	TimestampTz since = batch->started;
	LpuBatchResult result;

	lpu_batch_finish(batch, &result);
	if (result.end == LPU_BATCH_AGAIN)
	{
		d->ready = list_concat(result.again, d->ready);
		return;
	}
	if (result.verdict == LPU_OK || result.verdict == LPU_REJECTED || result.verdict == LPU_LATER)
		lpu_delivery_note_reached(d, options);
	if (result.verdict == LPU_OK)
		d->revision = -1;
	if (result.end == LPU_BATCH_REFUSED)
	{
		lpu_delivery_put_refused(d, options, rows, n);
		return;
	}
	if (rows[0]->state == LPU_STATE_HELD)
		lpu_delivery_hold_role(d, options, rows[0], rows[0]->hold, rows[0]->reason);
	if (result.verdict == LPU_NOT_SENT)
		set_unreachable(d, options, since, rows, n);
	if (rows[0]->status == 429)
		lpu_delivery_wait_as_asked(d, rows[0]->wait_ms, options->timeout);
	lpu_delivery_settle(d, rows, n);
}

/*
 * delivery_state.c: the part of a delivery that sees to what became of batches.
 *
 * Each row's result goes into the settlement of the step at work, which is written once, before the step is committed. An
 * answer may concern more than the batch it belongs to: who asks to wait asks the whole account, credentials that were
 * refused are refused for the next batch, too, and where nobody answers the next batch need not knock.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/spi_plan.h"
#include "delivery/delivery_state.h"
#include "queue/claim.h"

/* So many logins are named in the log. */
#define MAX_NAMES 50

void
lpu_delivery_count(lpu_delivery *d, const lpu_row *row)
{
	if (row->state == LPU_STATE_CREATED)
		d->totals->created++;
	else if (row->state == LPU_STATE_FAILED)
		d->totals->failed++;
	else if (row->state == LPU_STATE_HELD)
		d->totals->held++;
	else
		d->totals->again++;
}

void
lpu_delivery_limit_retries(const lpu_options *options, lpu_row *row, const char *trouble)
{
	if (row->state != LPU_STATE_PENDING || row->attempts <= options->max_retries)
		return;
	row->state = LPU_STATE_FAILED;
	row->error = psprintf("given up after %d attempts: %s", row->attempts, trouble ? trouble : "no answer");
}

void
lpu_delivery_settle(lpu_delivery *d, lpu_row **rows, int n)
{
	MemoryContext caller = MemoryContextSwitchTo(d->context);
	int			i;

	if (d->settlement == NULL)
		d->settlement = lpu_settlement_new(true);
	lpu_settlement_next_batch(d->settlement, d->schema_oid);
	for (i = 0; i < n; i++)
	{
		lpu_settlement_add(d->settlement, rows[i]);
		lpu_delivery_count(d, rows[i]);
		d->settled = lappend(d->settled, rows[i]);
	}
	MemoryContextSwitchTo(caller);
}

/* In a transaction: write down what became of the rows that are settled, with one statement for all. */
static void
write_settled(lpu_delivery *d)
{
	ListCell   *cell;

	if (d->settlement == NULL)
		return;
	lpu_settlement_write(d->settlement, d->schema_oid);
	d->settlement = NULL;
	foreach(cell, d->settled)
		lpu_claim_release(lfirst(cell));
	list_free(d->settled);
	d->settled = NIL;
}

/*
 * Append the logins of these batches, so many as are named at most, and return how many users
 * they have.
 */
static int
list_logins(StringInfo logins, List *batches, int before)
{
	ListCell   *cell;
	int			n = before;
	int			i;

	foreach(cell, batches)
	{
		const lpu_batch *batch = lfirst(cell);

		for (i = 0; i < batch->n; i++, n++)
			if (n < MAX_NAMES)
				appendStringInfo(logins, "%s%s", n > 0 ? ", " : "", batch->rows[i]->login_name);
	}
	return n;
}

/*
 * The extension was dropped, and its tables with it, while requests were under way. The server
 * log is the only place left to say so.
 */
static void
report_dropped(lpu_delivery *d)
{
	StringInfoData logins;
	int			n;

	initStringInfo(&logins);
	n = list_logins(&logins, d->done, 0);
	n = list_logins(&logins, d->flying, n);
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
lpu_delivery_begin(lpu_delivery *d)
{
	MemoryContext caller = CurrentMemoryContext;

	d->deliverer->begin();
	if (!OidIsValid(d->table))
		d->table = get_relname_relid("lp_requests", d->schema_oid);
	if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(d->table)))
		report_dropped(d);
	MemoryContextSwitchTo(d->context);
	return caller;
}

void
lpu_delivery_commit(lpu_delivery *d, MemoryContext caller)
{
	write_settled(d);
	MemoryContextSwitchTo(caller);
	d->deliverer->commit();
}

/* The service asks the whole account to wait. What was claimed waits here for no longer than a request may take. */
static void
wait_as_asked(lpu_delivery *d, int64 wait_ms, int64 patience_ms)
{
	d->next_start = Max(d->next_start, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), wait_ms));
	d->asked_to_wait |= wait_ms > patience_ms;
	/* nothing of the account is listed until then */
	d->next_listed = d->nlisted;
}

void
lpu_delivery_give_back(lpu_delivery *d)
{
	int64		wait_ms = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), d->next_start);
	ListCell   *cell;

	foreach(cell, d->ready)
	{
		lpu_batch  *batch = lfirst(cell);
		lpu_row   **rows = batch->rows;
		int			n = batch->n;

		lpu_batch_set_later(batch, NULL, wait_ms);
		lpu_batch_free(batch);
		lpu_delivery_settle(d, rows, n);
	}
	list_free(d->ready);
	d->ready = NIL;
	d->asked_to_wait = false;
}

/*
 * In a transaction: what is in hand and would go the same way as a batch that could not be sent is not tried. It is held
 * (the credentials were refused), or waits as long as that batch (nobody answers).
 */
static void
spare_ready(lpu_delivery *d, const lpu_options *options, bool held, const char *why)
{
	List	   *others = NIL;
	ListCell   *cell;

	foreach(cell, d->ready)
	{
		lpu_batch  *batch = lfirst(cell);
		lpu_row   **rows = batch->rows;
		int			n = batch->n;

		if (batch->options->mapping != options->mapping)
		{
			others = lappend(others, batch);
			continue;
		}
		if (held)
			lpu_batch_set_held(batch, why);
		else
			lpu_batch_set_later(batch, why, -1);
		lpu_batch_free(batch);
		lpu_delivery_settle(d, rows, n);
	}
	list_free(d->ready);
	d->ready = others;
}

/*
 * The credentials of a role were refused: hold whatever else would be sent with them, in hand and in the queue, instead of
 * asking again for each batch.
 */
static void
hold_role(lpu_delivery *d, const lpu_options *options, const char *send_as, const char *why)
{
	Oid			types[3] = {TEXTOID, TEXTOID, TEXTOID};
	Datum		values[3] = {CStringGetTextDatum(d->account), CStringGetTextDatum(send_as), CStringGetTextDatum(why)};

	spare_ready(d, options, true, why);
	/* what became pending just now is held, too */
	write_settled(d);
	lpu_run("SELECT @extschema@.lp_hold($1, $2, $3)", 3, types, values);
}

/* Nobody answers. What else is due waits in the queue until the caller comes back, instead of trying batch by batch. */
static void
note_unreachable(lpu_delivery *d, const lpu_options *options, const char *why)
{
	spare_ready(d, options, false, why);
	d->totals->unreachable = true;
}

void
lpu_delivery_settle_batch(lpu_delivery *d, lpu_batch *batch)
{
	const lpu_options *options = batch->options;
	lpu_row   **rows = batch->rows;
	int			n = batch->n;
	List	   *more;
	int			i;

	more = lpu_batch_finish(batch);
	if (more != NIL)
	{
		d->ready = list_concat(more, d->ready);
		return;
	}
	/* only a request that was never sent leaves its rows pending without a status */
	if (rows[0]->state == LPU_STATE_PENDING && rows[0]->status == 0)
		note_unreachable(d, options, rows[0]->error);
	for (i = 0; i < n; i++)
		if (rows[i]->wait_ms < 0)
			lpu_delivery_limit_retries(options, rows[i], rows[i]->error);
	if (rows[0]->status == 429)
		wait_as_asked(d, rows[0]->wait_ms, options->timeout);
	if (rows[0]->state == LPU_STATE_HELD)
		hold_role(d, options, rows[0]->send_as, rows[0]->reason);
	lpu_delivery_settle(d, rows, n);
}

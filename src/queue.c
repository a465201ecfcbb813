/*
 * queue.c: delivering the queue: claim, send, settle.
 *
 * One deliverer per account and database, under a session-level lock that no SQL function can take and that dies with
 * its process. Rows are claimed and committed before they are sent, so that a crash leaves them "sending": whoever gets
 * the lock next knows that nobody is sending them any more, and looks them up before they are sent again. While requests
 * are under way there is no transaction; several batches fly at once, the next ones are claimed meanwhile. Claim and
 * settle are SQL functions of the install script; this file moves rows between them and the batches.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "claim.h"
#include "delivery.h"
#include "http.h"
#include "lock.h"
#include "lpusers.h"
#include "owner.h"
#include "queue.h"
#include "server.h"
#include "settle.h"

/* Before the options of the first rows are known. */
#define FIRST_CLAIM 100

/* So long rows are claimed and sent while new ones keep coming; then look-ups and other accounts have their turn. */
#define SLICE_MS 10000

/* A worker does not wait longer than this with claimed rows in hand and nothing under way. */
#define IDLE_HAND_MS 2000

/* ---------------------------------------------------------------------------------------------------- SQL */

lpu_due *
lpu_queue_due(const char *schema, int *n)
{
	MemoryContext caller = CurrentMemoryContext;
	lpu_due    *due;
	int			i;

	lpu_run(psprintf("SELECT account, wait_ms FROM %s.lp_due()", quote_identifier(schema)), 0, NULL, NULL);
	*n = (int) SPI_processed;
	due = MemoryContextAlloc(caller, Max(*n, 1) * sizeof(lpu_due));
	for (i = 0; i < *n; i++)
	{
		due[i].account = MemoryContextStrdup(caller, lpu_text_column(i, 1));
		due[i].wait_ms = lpu_int64_column(i, 2);
	}
	return due;
}

static void
take_over(lpu_delivery *d)
{
	Oid			types[2] = {TEXTOID, BOOLOID};
	Datum		values[2] = {CStringGetTextDatum(d->account), BoolGetDatum(lpu_after_promotion == LPU_RESUME)};

	d->deliverer->begin();
	ForceSyncCommit();
	lpu_run(psprintf("SELECT %s.lp_take_over($1, $2)", d->schema), 2, types, values);
	d->deliverer->commit();
}

/* --------------------------------------------------------------------------------------------------- settling */

void
lpu_delivery_count(lpu_delivery *d, const lpu_row *row)
{
	if (strcmp(row->state, "created") == 0)
		d->totals->created++;
	else if (strcmp(row->state, "failed") == 0)
		d->totals->failed++;
	else if (strcmp(row->state, "held") == 0)
		d->totals->held++;
	else
		d->totals->again++;
}

/* The network or the service failed once more for this row: is it to be tried again? */
void
lpu_delivery_limit_retries(const lpu_options *options, lpu_row *row, const char *trouble)
{
	if (strcmp(row->state, "pending") != 0 || row->attempts <= options->max_retries)
		return;
	row->state = "failed";
	row->error = psprintf("given up after %d attempts: %s", row->attempts, trouble ? trouble : "no answer");
}

/* In a transaction: write down what became of rows, which are then not needed any more. */
static void
settle_rows(lpu_delivery *d, lpu_row **rows, int n)
{
	MemoryContext step = AllocSetContextCreate(CurrentMemoryContext, "lpusers settlement", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(step);
	lpu_settlement *s = lpu_settlement_new(n);
	int			i;

	for (i = 0; i < n; i++)
	{
		lpu_settlement_add(s, rows[i]);
		lpu_delivery_count(d, rows[i]);
	}
	lpu_settlement_write(s, d->schema, true);
	for (i = 0; i < n; i++)
		lpu_claim_release(rows[i]);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(step);
}

/* The service asks the whole account to wait. What was claimed waits here for no longer than a request may take. */
static void
wait_as_asked(lpu_delivery *d, int64 wait_ms, int64 patience_ms)
{
	d->next_start = Max(d->next_start, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), wait_ms));
	d->asked_to_wait |= wait_ms > patience_ms;
}

/* In a transaction: put claimed rows that will not be sent soon back into the queue. */
static void
give_back_ready(lpu_delivery *d)
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
		settle_rows(d, rows, n);
	}
	list_free(d->ready);
	d->ready = NIL;
	d->asked_to_wait = false;
}

/*
 * The credentials of a role were refused: hold whatever else would be sent with them, in hand and in the queue, instead of
 * asking again for each batch.
 */
static void
hold_role(lpu_delivery *d, const lpu_options *options, const char *send_as, const char *why)
{
	Oid			types[3] = {TEXTOID, NAMEOID, TEXTOID};
	Datum		values[3] = {CStringGetTextDatum(d->account), lpu_name_datum(send_as), CStringGetTextDatum(why)};
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
		lpu_batch_set_held(batch, why);
		lpu_batch_free(batch);
		settle_rows(d, rows, n);
	}
	list_free(d->ready);
	d->ready = others;
	lpu_run(psprintf("SELECT %s.lp_hold($1, $2, $3)", d->schema), 3, types, values);
}

/* Settle one batch that is done, in a transaction. */
static void
settle_batch(lpu_delivery *d, lpu_batch *batch)
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
	for (i = 0; i < n; i++)
		if (rows[i]->wait_ms < 0)
			lpu_delivery_limit_retries(options, rows[i], rows[i]->error);
	if (rows[0]->status == 429)
		wait_as_asked(d, rows[0]->wait_ms, options->timeout);
	if (strcmp(rows[0]->state, "held") == 0)
		hold_role(d, options, rows[0]->send_as, rows[0]->reason);
	settle_rows(d, rows, n);
}

/* Settle all batches that are done. True if there was one. */
static bool
settle_done(lpu_delivery *d)
{
	List	   *done = NIL;
	ListCell   *cell;
	MemoryContext caller;

	foreach(cell, d->flying)
		if (lpu_batch_done(lfirst(cell)))
			done = lappend(done, lfirst(cell));
	if (done == NIL)
		return false;
	d->deliverer->begin();
	caller = MemoryContextSwitchTo(d->context);
	foreach(cell, done)
	{
		d->flying = list_delete_ptr(d->flying, lfirst(cell));
		settle_batch(d, lfirst(cell));
	}
	if (d->asked_to_wait)
		give_back_ready(d);
	MemoryContextSwitchTo(caller);
	d->deliverer->commit();
	list_free(done);
	/* a login that was in flight may have kept another row of it from being claimed */
	d->empty = false;
	if (d->deliverer->progress != NULL)
		d->deliverer->progress(d->account, d->totals);
	return true;
}

/* --------------------------------------------------------------------------------------------------- claiming */

/* Rows that cannot be sent go no further: settle them at once. */
static void
refuse_rows(lpu_delivery *d, lpu_row **rows, int n, const char *state, const char *text)
{
	int			i;

	for (i = 0; i < n; i++)
	{
		rows[i]->state = state;
		if (strcmp(state, "held") == 0)
			rows[i]->reason = text;
		else
			rows[i]->error = text;
	}
	settle_rows(d, rows, n);
}

/* The options for a role; NULL and *why if it cannot send. They live as long as the memory context. */
const lpu_options *
lpu_delivery_options(lpu_delivery *d, const char *name, MemoryContext context, const char **why)
{
	Oid			role = get_role_oid(name, true);
	const lpu_options *options;
	const lpu_options *copy;
	MemoryContext caller;
	lpu_problem *problem = NULL;

	if (!OidIsValid(role))
	{
		*why = psprintf("role \"%s\" does not exist", name);
		return NULL;
	}
	options = lpu_server_for_account(d->account, role, &problem);
	if (options == NULL)
	{
		*why = problem->message;
		return NULL;
	}
	caller = MemoryContextSwitchTo(context);
	copy = lpu_options_copy(options);
	MemoryContextSwitchTo(caller);
	d->max_connections = options->max_connections;
	d->rate_limit = options->rate_limit;
	d->claim_size = options->batch_size * options->max_connections;
	return copy;
}

static int
compare_roles(const void *a, const void *b)
{
	const lpu_row *left = *(lpu_row *const *) a;
	const lpu_row *right = *(lpu_row *const *) b;
	int			order = strcmp(left->send_as, right->send_as);

	return order != 0 ? order : left->id < right->id ? -1 : 1;
}

/* Batches for rows of one role. */
static void
make_batches(lpu_delivery *d, lpu_row **rows, int n)
{
	const char *why = NULL;
	const lpu_options *options = lpu_delivery_options(d, rows[0]->send_as, lpu_claim_context(rows[0]), &why);
	int			i;

	if (options == NULL)
	{
		refuse_rows(d, rows, n, "held", why);
		return;
	}
	for (i = 0; i < n; i += options->batch_size)
		d->ready = lappend(d->ready, lpu_batch_new(options, rows + i, Min(options->batch_size, n - i)));
}

/* Rows whose payload is gone cannot be sent. They are moved to the end and refused; returns how many are left. */
static int
drop_without_payload(lpu_delivery *d, lpu_row **rows, int n)
{
	int			kept = 0;
	int			i;

	for (i = 0; i < n; i++)
		if (rows[i]->body != NULL)
		{
			lpu_row    *row = rows[i];

			rows[i] = rows[kept];
			rows[kept++] = row;
		}
	if (kept < n)
		refuse_rows(d, rows + kept, n - kept, "failed", "what was to be sent is gone");
	return kept;
}

static void
claim_batches(lpu_delivery *d)
{
	MemoryContext caller;
	lpu_row   **rows;
	int			n;
	int			from;
	int			i;

	d->deliverer->begin();
	caller = MemoryContextSwitchTo(d->context);
	/* with synchronous_commit = off a crash would take the claim back after the request was sent */
	ForceSyncCommit();
	rows = lpu_server_is_paused(d->account) ? NULL : lpu_claim_rows(d->schema, d->account, d->claim_size, &n);
	d->empty = rows == NULL;
	if (rows != NULL)
	{
		n = drop_without_payload(d, rows, n);
		qsort(rows, n, sizeof(lpu_row *), compare_roles);
		for (from = 0, i = 1; i <= n; i++)
			if (i == n || strcmp(rows[i]->send_as, rows[from]->send_as) != 0)
			{
				make_batches(d, rows + from, i - from);
				from = i;
			}
	}
	MemoryContextSwitchTo(caller);
	d->deliverer->commit();
}

/* ---------------------------------------------------------------------------------------------------- sending */

/* Start what may be started now. */
static void
start_batches(lpu_delivery *d)
{
	MemoryContext caller = MemoryContextSwitchTo(d->context);

	while (d->ready != NIL && list_length(d->flying) < d->max_connections && GetCurrentTimestamp() >= d->next_start)
	{
		lpu_batch  *batch = linitial(d->ready);

		d->ready = list_delete_first(d->ready);
		d->flying = lappend(d->flying, batch);
		lpu_batch_start(batch);
		d->totals->requests++;
		if (d->rate_limit > 0)
			d->next_start = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), (int64) (1000 / d->rate_limit));
	}
	MemoryContextSwitchTo(caller);
}

static bool
must_stop(lpu_delivery *d)
{
	return d->deliverer->stop != NULL && d->deliverer->stop();
}

/* How long to wait for the network: until something may be started, else as long as it takes. */
static long
time_to_wait(lpu_delivery *d)
{
	if (d->ready == NIL || list_length(d->flying) >= d->max_connections || must_stop(d))
		return -1;
	return TimestampDifferenceMilliseconds(GetCurrentTimestamp(), d->next_start);
}

static bool
may_claim(lpu_delivery *d)
{
	return !d->empty && !must_stop(d) && GetCurrentTimestamp() < d->slice_end;
}

/*
 * Nothing is under way, and what is in hand may not be sent for a while, or not at all: a worker has other accounts to
 * serve, and may be asked to stop. CALL waits, it was told to deliver this.
 */
static bool
better_given_back(lpu_delivery *d)
{
	return d->ready != NIL && d->flying == NIL && d->deliverer->stop != NULL &&
		(must_stop(d) || TimestampDifferenceMilliseconds(GetCurrentTimestamp(), d->next_start) > IDLE_HAND_MS);
}

/* Send and settle until nothing is due. */
static void
deliver_due(lpu_delivery *d)
{
	d->empty = false;
	d->slice_end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), SLICE_MS);
	for (;;)
	{
		if (d->ready == NIL && may_claim(d))
			claim_batches(d);
		if (!must_stop(d))
			start_batches(d);
		if (settle_done(d))
			continue;
		if (better_given_back(d))
		{
			d->deliverer->begin();
			give_back_ready(d);
			d->deliverer->commit();
			d->empty = true;
		}
		if (d->ready == NIL && d->flying == NIL)
		{
			if (!may_claim(d))
				break;
			continue;
		}
		lpu_http_turn(time_to_wait(d));
	}
}

bool
lpu_queue_deliver(const char *schema, const char *account, const lpu_deliverer *deliverer, lpu_totals *totals)
{
	lpu_delivery d = {0};
	MemoryContext caller = CurrentMemoryContext;

	if (!lpu_lock_account(account))
		return false;
	d.context = AllocSetContextCreate(caller, "lpusers delivery", ALLOCSET_DEFAULT_SIZES);
	d.schema = MemoryContextStrdup(d.context, quote_identifier(schema));
	d.account = account;
	d.deliverer = deliverer;
	d.totals = totals;
	d.claim_size = FIRST_CLAIM;
	d.max_connections = 1;
	PG_TRY();
	{
		take_over(&d);
		/* a worker comes back to what is left after the other accounts */
		do
			deliver_due(&d);
		while (lpu_delivery_look_up(&d) || (!d.empty && deliverer->stop == NULL));
	}
	PG_FINALLY();
	{
		/* calls under way end with the context */
		MemoryContextSwitchTo(caller);
		MemoryContextDelete(d.context);
		lpu_unlock_account(account);
	}
	PG_END_TRY();
	return true;
}

/*
 * delivery.c: delivering the queue: claim, send, settle.
 *
 * One deliverer per account and database, under a session-level lock that no SQL function can take and that dies with
 * its process. Rows are claimed and committed before they are sent, so that a crash leaves them "sending": whoever gets
 * the lock next knows that nobody is sending them any more, and looks them up before they are sent again. While requests
 * are under way there is no transaction; several batches fly at once. No connection idles while SQL runs: the next
 * batches are claimed before they are needed, and take the place of those that are done before these are settled. Claim
 * and settle are SQL functions of the install script; this file moves rows between them and the batches.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/account_lock.h"
#include "base/extension.h"
#include "base/guc.h"
#include "base/spi_plan.h"
#include "delivery/delivery.h"
#include "delivery/delivery_state.h"
#include "http/request.h"
#include "options/server.h"
#include "queue/claim.h"
#include "queue/settle.h"

/*
 * Rows of one claim: enough that the statement's own cost does not count, so few that it is over while the requests under
 * way still are. Small batches are claimed as many at a time as may fly.
 */
#define CLAIM_ROWS 100
#define CLAIM_BATCHES 2

/* Due rows kept in memory (16 bytes each); what is behind them is listed when they are through. */
#define LIST_ROWS 100000

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

	lpu_run("SELECT account, wait_ms FROM @extschema@.lp_due()", 0, NULL, NULL);
	*n = (int) SPI_processed;
	due = MemoryContextAlloc(caller, Max(*n, 1) * sizeof(lpu_due));
	for (i = 0; i < *n; i++)
	{
		due[i].account = MemoryContextStrdup(caller, lpu_text_column(i, 1));
		due[i].wait_ms = lpu_int64_column(i, 2);
	}
	return due;
}

void
lpu_queue_housekeep(const char *schema)
{
	Oid			types[2] = {FLOAT8OID, FLOAT8OID};
	Datum		values[2] = {Float8GetDatum(lpu_keep_secrets), Float8GetDatum(lpu_retention)};

	lpu_run("SELECT @extschema@.lp_housekeep(make_interval(secs => $1), make_interval(secs => $2))", 2, types, values);
}

static void
take_over(lpu_delivery *d, const char *schema)
{
	Oid			types[2] = {TEXTOID, BOOLOID};
	Datum		values[2] = {CStringGetTextDatum(d->account), BoolGetDatum(lpu_after_promotion == LPU_RESUME)};

	d->deliverer->begin();
	d->schema_oid = lpu_extension_schema();
	ForceSyncCommit();
	lpu_run("SELECT @extschema@.lp_take_over($1, $2)", 2, types, values);
	d->deliverer->commit();
}

/* --------------------------------------------------------------------------------------------------- claiming */

/* Rows that cannot be sent go no further: settle them at once. */
static void
refuse_rows(lpu_delivery *d, lpu_row **rows, int n, LpuState state, const char *text)
{
	int			i;

	for (i = 0; i < n; i++)
	{
		rows[i]->state = state;
		if (state == LPU_STATE_HELD)
			rows[i]->reason = text;
		else
			rows[i]->error = text;
	}
	lpu_delivery_settle(d, rows, n);
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
	d->claim_size = Max(options->batch_size * Min(CLAIM_BATCHES, options->max_connections),
						Min(options->batch_size * options->max_connections, CLAIM_ROWS));
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
		refuse_rows(d, rows, n, LPU_STATE_HELD, why);
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
		refuse_rows(d, rows + kept, n - kept, LPU_STATE_FAILED, "what was to be sent is gone");
	return kept;
}

/* The next rows of the list, which is made anew when it is through; NULL if nothing is due that can be claimed. */
static lpu_row **
claim_rows(lpu_delivery *d, int *n)
{
	bool		listed = false;

	for (;;)
	{
		lpu_row   **rows;
		int			chunk;

		if (d->next_listed == d->nlisted)
		{
			if (listed)
				return NULL;
			if (d->list != NULL)
				pfree(d->list);
			d->list = lpu_claim_list(d->schema, d->account, LIST_ROWS, &d->nlisted);
			d->next_listed = 0;
			listed = true;
		}
		chunk = Min(d->claim_size, d->nlisted - d->next_listed);
		if (chunk == 0)
			return NULL;
		rows = lpu_claim_rows(d->schema_oid, d->account, d->list + d->next_listed, chunk, n);
		d->next_listed += chunk;
		if (rows != NULL)
			return rows;
	}
}

static void
claim_batches(lpu_delivery *d)
{
	MemoryContext caller = lpu_delivery_begin(d);
	lpu_row   **rows;
	int			n;
	int			from;
	int			i;

	/* with synchronous_commit = off a crash would take the claim back after the request was sent */
	ForceSyncCommit();
	rows = lpu_server_is_paused(d->account) ? NULL : claim_rows(d, &n);
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
	lpu_delivery_commit(d, caller);
}

/* ---------------------------------------------------------------------------------------------------- sending */

static bool
must_stop(lpu_delivery *d)
{
	return d->deliverer->stop != NULL && d->deliverer->stop();
}

/* Start what may be started now. True if something was. */
static bool
start_batches(lpu_delivery *d)
{
	MemoryContext caller = MemoryContextSwitchTo(d->context);
	bool		any = false;

	while (d->ready != NIL && list_length(d->flying) < d->max_connections && GetCurrentTimestamp() >= d->next_start)
	{
		lpu_batch  *batch = linitial(d->ready);

		d->ready = list_delete_first(d->ready);
		d->flying = lappend(d->flying, batch);
		lpu_batch_start(batch);
		any = true;
		d->totals->requests++;
		if (d->rate_limit > 0)
			d->next_start = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), (int64) (1000 / d->rate_limit));
	}
	MemoryContextSwitchTo(caller);
	return any;
}

/* Move the batches that are done from those under way to those to be settled. */
static void
collect_done(lpu_delivery *d)
{
	MemoryContext caller = MemoryContextSwitchTo(d->context);
	List	   *flying = NIL;
	ListCell   *cell;

	foreach(cell, d->flying)
	{
		lpu_batch  *batch = lfirst(cell);

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
 * Let the network go on without waiting, and start what may be started: before and after SQL has its turn. A refusal may
 * mean that nothing else must be started: it is read first.
 */
static void
keep_flying(lpu_delivery *d)
{
	do
	{
		if (d->flying != NIL)
			lpu_http_turn(0);
		collect_done(d);
	}
	while (!must_stop(d) && !d->refused && start_batches(d));
}

/* Settle all batches that are done. True if there was one. */
static bool
settle_done(lpu_delivery *d)
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
	/* a login that was in flight may have kept another row of it from being claimed */
	d->empty = false;
	if (d->deliverer->progress != NULL)
		d->deliverer->progress(d->account, d->totals);
	return true;
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
	return !d->empty && !d->totals->unreachable && !must_stop(d) && GetCurrentTimestamp() < d->slice_end;
}

/*
 * Is it time for the next claim? One is kept ahead while nothing slows the delivery down: then rows had better wait in
 * the queue than in hand.
 */
static bool
wants_claim(lpu_delivery *d)
{
	bool		slow = d->rate_limit > 0 || GetCurrentTimestamp() < d->next_start;

	if (list_length(d->ready) >= (slow ? 1 : CLAIM_BATCHES))
		return false;
	return may_claim(d);
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
		bool		claimed;

		keep_flying(d);
		claimed = wants_claim(d);
		if (claimed)
		{
			claim_batches(d);
			keep_flying(d);
		}
		if (settle_done(d) || claimed)
			continue;
		if (better_given_back(d))
		{
			MemoryContext caller = lpu_delivery_begin(d);

			lpu_delivery_give_back(d);
			lpu_delivery_commit(d, caller);
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
	d.claim_size = CLAIM_ROWS;
	d.max_connections = 1;
	PG_TRY();
	{
		take_over(&d, schema);
		/* a worker comes back to what is left after the other accounts */
		do
			deliver_due(&d);
		while (lpu_delivery_look_up(&d) || (!d.empty && !totals->unreachable && deliverer->stop == NULL));
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

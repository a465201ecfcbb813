/*
 * delivery.c: delivering the queue: what is due, and claiming it.
 *
 * One deliverer per account and database, under a session-level lock that no SQL function can
 * take and that dies with its process. Rows are claimed and committed before they are sent, so
 * that a crash leaves them "sending": the process that gets the lock next knows that no other
 * is sending them, and looks them up before they are sent again. While requests are under way
 * there is no transaction; several batches fly at once. Claim and settle are SQL functions of the
 * install script; this file moves rows between them and the batches, and delivery_step.c sends.
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

#include "base/extension.h"
#include "base/guc.h"
#include "base/spi_plan.h"
#include "delivery/delivery.h"
#include "delivery/delivery_state.h"
#include "options/server.h"
#include "queue/claim.h"
#include "queue/settle.h"

/*
 * Rows of one claim: enough that the statement's own cost does not count, so few that it is over while the requests under
 * way still are. Small batches are claimed as many at a time as may fly.
 */
#define CLAIM_ROWS 100

/* Due rows kept in memory (16 bytes each); what is behind them is listed when they are through. */
#define LIST_ROWS 100000

/*
 * A request of the queue may not take longer than this, whatever the server's option says: it
 * keeps the account's lock.
 */
#define MAX_TIMEOUT_MS (5 * 60 * 1000)

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

/* Rows that an earlier delivery was sending become uncertain. */
void
lpu_delivery_take_over(lpu_delivery *d, const char *schema)
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
		if (state == LPU_STATE_HELD)
			lpu_rows_set_held(&rows[i], 1, LPU_HOLD_SETUP, text);
		else
			lpu_row_set_failed(rows[i], LPU_CAUSE_REFUSED, text);
	lpu_delivery_settle(d, rows, n);
}

/* The options for a role; NULL and *why if it cannot send. They live as long as the memory context. */
const lpu_options *
lpu_delivery_options(lpu_delivery *d, const char *name, MemoryContext context, const char **why)
{
	Oid			role = get_role_oid(name, true);
	const lpu_options *options;
	lpu_options *copy;
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
	copy->timeout = Min(copy->timeout, MAX_TIMEOUT_MS);
	MemoryContextSwitchTo(caller);
	d->max_connections = options->max_connections;
	d->rate_limit = options->rate_limit;
	d->claim_size = Max(options->batch_size * Min(LPU_CLAIM_BATCHES, options->max_connections),
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

	if (options == NULL)
	{
		refuse_rows(d, rows, n, LPU_STATE_HELD, why);
		return;
	}
	lpu_delivery_make_batches(d, options, rows, n);
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

/*
 * The next rows of the list, which is made anew when it is through; NULL if nothing is due that can be claimed, or the
 * account must be listed first.
 */
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
			lpu_delivery_note_list(d);
			if (d->must_look)
				return NULL;
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

/* Claim what is due, for a few batches, and make these of it. Raises what the database raises. */
void
lpu_delivery_claim(lpu_delivery *d)
{
	MemoryContext caller;
	lpu_row   **rows;
	int			n;
	int			from;
	int			i;

	caller = lpu_delivery_begin(d);
	/* with synchronous_commit = off a crash would take the claim back after the request was sent */
	ForceSyncCommit();
	rows = lpu_server_is_paused(d->account) ? NULL : claim_rows(d, &n);
	d->empty = rows == NULL && !d->must_look;
	d->looked = false;
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

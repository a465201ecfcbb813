/*
 * delivery.c: delivering the queue: finding and claiming due requests.
 *
 * One deliverer per account and database, under a session-level lock that no SQL function can take
 * and that dies with its process. Rows are claimed and committed before they are sent, so that a
 * crash leaves them "sending": the next process that gets the lock knows that no other process is
 * sending these rows, and looks them up before it sends them again. While requests are under way
 * there is no transaction; several batches are in flight at once. Claim and settle are statements
 * of src/queue/; this file moves rows between them and the batches, and delivery_step.c sends.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/extension.h"
#include "base/guc.h"
#include "delivery/delivery.h"
#include "delivery/delivery_state.h"
#include "options/server.h"
#include "queue/claim.h"
#include "queue/housekeeping.h"
#include "queue/settle.h"
#include "queue/silence.h"
#include "queue/take_over.h"

/*
 * Rows of one claim: enough to make the fixed cost of the statement negligible, and few enough to
 * end the claim while requests are still under way. Of small batches, a claim takes as many as may
 * be in flight.
 */
#define CLAIM_ROWS 100

/*
 * Upper limit of the server option "timeout" for requests of the queue, since the deliverer holds
 * the account's lock during a request.
 */
#define MAX_TIMEOUT_MS (5 * 60 * 1000)

/* ----- SQL ----- */

/* Return the accounts with unfinished rows, in the current memory context. */
LpuDue *
lpu_queue_due(int *n)
{
	return lpu_due_accounts(n);
}

/*
 * Remove secrets of failed requests after lpusers.keep_secrets and of held ones after
 * lpusers.keep_held_secrets, and finished requests after lpusers.retention. Reads both tables,
 * which is too expensive for every round. Needs a transaction with SPI connected.
 */
void
lpu_queue_housekeep(void)
{
	lpu_housekeep();
}

/* Mark the rows that an earlier delivery was sending as uncertain. */
void
lpu_delivery_take_over(LpuDelivery *d)
{
	if (d->deliverer->stop == NULL)
		lpu_silence_end_waits();
	d->deliverer->begin();
	d->schema_oid = lpu_extension_schema();
	lpu_check_tables_owner();
	ForceSyncCommit();
	lpu_take_over(d->account, lpu_after_promotion == LPU_RESUME);
	MemoryContextSwitchTo(d->context);
	d->claimer = lpu_claimer_new(d->account, d->party);
	d->deliverer->commit();
}

/* ----- claiming ----- */

/* Settle rows that cannot be sent. */
static void
refuse_rows(LpuDelivery *d, LpuQueueRow **rows, int n, LpuState state, const char *text)
{
	int			i;

	for (i = 0; i < n; i++)
		if (state == LPU_STATE_HELD)
			lpu_rows_set_held(&rows[i], 1, LPU_HOLD_SETUP, text);
		else
			lpu_row_set_failed(rows[i], LPU_CAUSE_REFUSED, text);
	lpu_delivery_settle(d, rows, n);
}

/*
 * The options for a row; NULL and *why if its role cannot send. They live as
 * long as the memory context.
 */
const LpuOptions *
lpu_delivery_options(LpuDelivery *d, const LpuQueueRow *row, MemoryContext context,
					 const char **why)
{
	LpuProblem *problem = NULL;
	const LpuOptions *options = lpu_server_for_request(row->server, d->account, row->role,
													   row->send_as, &problem);
	LpuOptions *copy;
	MemoryContext caller;

	if (options == NULL)
	{
		*why = problem->message;
		return NULL;
	}
	caller = MemoryContextSwitchTo(context);
	copy = lpu_options_copy(options);
	copy->timeout = Min(copy->timeout, MAX_TIMEOUT_MS);
	copy->payer = row->role;
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
	const LpuQueueRow *left = *(LpuQueueRow *const *) a;
	const LpuQueueRow *right = *(LpuQueueRow *const *) b;

	if (left->role != right->role)
		return left->role < right->role ? -1 : 1;
	return left->id < right->id ? -1 : 1;
}

/* Batches for rows of one role. */
static void
make_batches(LpuDelivery *d, LpuQueueRow **rows, int n)
{
	const char *why = NULL;
	const LpuOptions *options = lpu_delivery_options(d, rows[0], lpu_claim_context(rows[0]), &why);
	int64		wait_ms;

	if (options == NULL)
	{
		refuse_rows(d, rows, n, LPU_STATE_HELD, why);
		return;
	}
	/* the account was not reached with this mapping by another role */
	wait_ms = lpu_delivery_silence(d, options, rows[0], &why);
	if (wait_ms > 0)
	{
		lpu_rows_set_later(rows, n, why, wait_ms);
		lpu_delivery_settle(d, rows, n);
		return;
	}
	lpu_delivery_make_batches(d, options, rows, n);
}

/*
 * Rows without a payload cannot be sent. Move these to the end and fail them; return the number of
 * the others.
 */
static int
drop_without_payload(LpuDelivery *d, LpuQueueRow **rows, int n)
{
	int			kept = 0;
	int			i;

	for (i = 0; i < n; i++)
		if (rows[i]->body != NULL)
		{
			LpuQueueRow *row = rows[i];

			rows[i] = rows[kept];
			rows[kept++] = row;
		}
	if (kept < n)
		refuse_rows(d, rows + kept, n - kept, LPU_STATE_HELD, "its data were removed, see lpusers.keep_held_secrets");
	return kept;
}

/*
 * Claim rows that were due when the round began; return NULL if no due row can be claimed, or if
 * the account has to be listed first.  If a round has claimed no row, the due rows wait for others
 * in flight or are locked, and no other round begins: it would only list the account again.
 */
static LpuQueueRow **
claim_rows(LpuDelivery *d, int *n)
{
	bool		begun = false;

	for (;;)
	{
		LpuQueueRow **rows;

		if (!d->in_round)
		{
			if (begun)
				return NULL;
			lpu_delivery_begin_round(d);
			begun = true;
			if (d->must_look)
				return NULL;
		}
		rows = lpu_claim_rows(d->claimer, d->claim_size, n);
		if (rows != NULL)
		{
			d->claimed = true;
			return rows;
		}
		d->in_round = false;
		if (!d->claimed)
			return NULL;
	}
}

/* Claim due rows for a few batches, and make the batches. Raises what the database raises. */
void
lpu_delivery_claim(LpuDelivery *d)
{
	MemoryContext caller;
	LpuQueueRow **rows;
	int			n;
	int			from;
	int			i;

	caller = lpu_delivery_begin(d);

	/*
	 * with synchronous_commit = off a crash could lose the claim after the
	 * request was sent
	 */
	ForceSyncCommit();
	(void) lpu_take_over_look_first(d->account);
	rows = claim_rows(d, &n);
	d->empty = rows == NULL && !d->must_look;
	d->looked = false;
	if (rows != NULL)
	{
		n = drop_without_payload(d, rows, n);
		qsort(rows, n, sizeof(LpuQueueRow *), compare_roles);
		for (from = 0, i = 1; i <= n; i++)
			if (i == n || rows[i]->role != rows[from]->role)
			{
				make_batches(d, rows + from, i - from);
				from = i;
			}
	}
	lpu_delivery_commit(d, caller);
}

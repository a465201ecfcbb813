/*
 * refusal.c: the part of a delivery that finds the results of refused batches.
 *
 * The API does not say whether a batch is all or nothing.  After a refusal one listing shows which
 * of the users exist; since these did not exist before (presence.c), the batch created them.  The
 * others are sent again in halves, until each invalid user is alone.  Several refused batches share
 * one listing.  During the listing claimed batches are sent, and no rows are claimed; batches
 * refused meanwhile wait for the next listing.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "delivery/delivery_state.h"
#include "http/request.h"

/* Maximum number of batches that wait for a listing: their rows are in memory. */
#define MAX_REFUSED 8

/* A listing for refused batches. */
struct LpuRefusal
{
	MemoryContext context;		/* of the listing, and its own */
	LpuLookup  *lookup;
	List	   *batches;		/* LpuRefusedBatch, of one server */
	int			next;			/* the batch whose mapping is tried next */
	bool		listing;		/* under way */
	int64		revision;		/* revision of the account before they were
								 * sent; -1: unknown */
	LpuListingResult result;
};

/* In a step: put the rows of a refused batch aside. */
void
lpu_delivery_put_refused(LpuDelivery *d, const LpuOptions *options, LpuQueueRow **rows, int n)
{
	MemoryContext caller = MemoryContextSwitchTo(d->context);
	LpuRefusedBatch *batch = palloc(sizeof(LpuRefusedBatch));

	batch->options = options;
	batch->rows = rows;
	batch->n = n;
	d->refused_batches = lappend(d->refused_batches, batch);
	MemoryContextSwitchTo(caller);
}

static bool
mapping_was_tried(const List *batches, int at)
{
	const LpuRefusedBatch *batch = list_nth(batches, at);
	int			i;

	for (i = 0; i < at; i++)
		if (((LpuRefusedBatch *) list_nth(batches, i))->options->mapping == batch->options->mapping)
			return true;
	return false;
}

/*
 * Return the batches of the server that was refused first.  A listing through another server of the
 * account is not used for these batches.
 */
static List *
batches_of_server(const LpuDelivery *d)
{
	Oid			server = ((LpuRefusedBatch *) linitial(d->refused_batches))->rows[0]->server;
	List	   *batches = NIL;
	ListCell   *cell;

	foreach(cell, d->refused_batches)
		if (((LpuRefusedBatch *) lfirst(cell))->rows[0]->server == server)
		batches = lappend(batches, lfirst(cell));
	return batches;
}

/* Begin to look up the results of the batches refused so far. */
static struct LpuRefusal *
begin_refusal(LpuDelivery *d)
{
	MemoryContext context = AllocSetContextCreate(d->context, "lpusers refused users",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = lpu_delivery_begin(d);
	struct LpuRefusal *r = MemoryContextAllocZero(context, sizeof(struct LpuRefusal));
	ListCell   *cell;
	int			i;

	r->context = context;
	r->revision = d->revision;
	r->result.verdict = LPU_UNCERTAIN;
	MemoryContextSwitchTo(context);
	r->batches = batches_of_server(d);
	r->lookup = lpu_lookup_new(true);
	foreach(cell, r->batches)
	{
		const LpuRefusedBatch *batch = lfirst(cell);

		for (i = 0; i < batch->n; i++)
			lpu_lookup_add(r->lookup, batch->rows[i]->login_name);
	}
	lpu_delivery_commit(d, caller);
	return r;
}

/*
 * Every role that may read sees the whole account: list it with the credentials of the next one.
 * Return false if all were tried.
 */
static bool
list_with_next_mapping(LpuDelivery *d, struct LpuRefusal *r)
{
	for (; r->next < list_length(r->batches); r->next++)
	{
		const LpuOptions *options = ((LpuRefusedBatch *) list_nth(r->batches, r->next))->options;

		if (mapping_was_tried(r->batches, r->next))
			continue;
		if (!lpu_http_has_room(options->payer))
		{
			r->result.verdict = LPU_UNCERTAIN;
			r->result.why = "too many requests of the role are under way";
			continue;
		}
		lpu_lookup_start(r->lookup, options, r->revision);
		r->listing = true;
		r->next++;
		return true;
	}
	return false;
}

/* A listing has ended.  Return true if no other mapping is to be tried. */
static bool
finish_refusal_listing(LpuDelivery *d, struct LpuRefusal *r)
{
	MemoryContext caller = lpu_delivery_begin(d);

	lpu_lookup_finish(r->lookup, &r->result);
	r->listing = false;
	d->totals->requests += r->result.requests;
	lpu_delivery_commit(d, caller);
	return r->result.known || r->result.verdict == LPU_LATER || r->result.verdict == LPU_NOT_SENT ||
		r->result.verdict == LPU_UNCERTAIN;
}

/* A user of a refused batch exists. */
static void
settle_found(LpuDelivery *d, LpuQueueRow *row, const LpuListedUser *user)
{
	char	   *differences = lpu_lookup_namesakes(user);

	if (lpu_delivery_login_becomes_free(d, row, user))
	{
		lpu_delivery_settle(d, &row, 1);
		return;
	}
	if (differences == NULL)
	{
		row->user_id = user->id;
		differences = lpu_delivery_differences(row->body, user);
	}
	if (differences != NULL)
		lpu_row_set_failed(row, LPU_CAUSE_REFUSED,
						   MemoryContextStrdup(lpu_claim_context(row), differences));
	else
		lpu_rows_set(&row, 1, LPU_STATE_CREATED, NULL, NULL, 0);
	lpu_delivery_settle_looked(d, row);
}

static void
judge_refused_user(LpuDelivery *d, const LpuRefusedBatch *batch, const LpuLookup *lookup)
{
	int			absent = 0;
	int			i;

	for (i = 0; i < batch->n; i++)
	{
		const LpuListedUser *user = lpu_lookup_find(lookup, batch->rows[i]->login_name);

		if (user != NULL)
			settle_found(d, batch->rows[i], user);
		else
			batch->rows[absent++] = batch->rows[i];
	}
	if (absent > 0)
		d->ready = list_concat(lpu_batch_halves(batch->options, batch->rows, absent, true),
							   d->ready);
}

/* The result of a refused batch is not available now. */
static void
settle_unknown(LpuDelivery *d, const LpuRefusedBatch *batch, const LpuListingResult *result)
{
	const char *refusal = batch->rows[0]->error;
	const char *why = result->why ? result->why : "the delivery was asked to stop";
	MemoryContext context = lpu_claim_context(batch->rows[0]);
	char	   *text = psprintf("a batch was refused (%s), and the lookup failed: %s", refusal,
								why);
	int			i;

	text = MemoryContextStrdup(context, text);

	switch (result->verdict)
	{
		case LPU_UNAUTHORIZED:
		case LPU_FORBIDDEN:
		case LPU_REJECTED:
		case LPU_MISDIRECTED:
			/* then the refusal did not concern these users either */
			lpu_rows_set_held(batch->rows, batch->n, LPU_HOLD_SETUP, text);
			lpu_delivery_hold_role(d, batch->options, batch->rows[0], LPU_HOLD_SETUP, text);
			break;
		default:
			lpu_rows_set(batch->rows, batch->n, LPU_STATE_UNCERTAIN, NULL, text, -1);
			/* the status is not a refusal of one user */
			for (i = 0; i < batch->n; i++)
				batch->rows[i]->status = 0;
			break;
	}
	lpu_delivery_settle(d, batch->rows, batch->n);
}

/*
 * Settle the batches, or send them again in halves, even if the turn is over.
 */
static LpuStep
end_refusal(LpuDelivery *d, struct LpuRefusal *r)
{
	MemoryContext caller = lpu_delivery_begin(d);
	ListCell   *cell;

	foreach(cell, r->batches)
	{
		LpuRefusedBatch *batch = lfirst(cell);

		if (r->result.known)
			judge_refused_user(d, batch, r->lookup);
		else
			settle_unknown(d, batch, &r->result);
		d->refused_batches = list_delete_ptr(d->refused_batches, batch);
		pfree(batch);
	}
	lpu_delivery_commit(d, caller);
	d->refusal = NULL;
	MemoryContextDelete(r->context);
	lpu_delivery_extend_sending(d);
	return LPU_STEP_MOVED;
}

/*
 * Look up the results of refused batches, if there are many or nothing else is to be done.  Return
 * the progress of the lookup, or LPU_STEP_OVER if there is none.  Called outside of a transaction.
 */
LpuStep
lpu_delivery_judge_refused(LpuDelivery *d, long *wait_ms)
{
	struct LpuRefusal *r = d->refusal;

	if (r == NULL)
	{
		if (d->refused_batches == NIL ||
			(list_length(d->refused_batches) < MAX_REFUSED &&
			 (d->ready != NIL || d->flying != NIL || d->done != NIL)))
			return LPU_STEP_OVER;
		r = d->refusal = begin_refusal(d);
	}
	for (;;)
	{
		if (lpu_delivery_must_stop(d))
		{
			r->result = (LpuListingResult)
			{
				.verdict = LPU_UNCERTAIN
			};
			break;
		}
		if (!r->listing && !list_with_next_mapping(d, r))
			break;
		if (!lpu_lookup_done(r->lookup, wait_ms))
			return LPU_STEP_WAITS;
		if (finish_refusal_listing(d, r))
			break;
	}
	return end_refusal(d, r);
}

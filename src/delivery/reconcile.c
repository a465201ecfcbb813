/*
 * reconcile.c: the part of a delivery that looks up what became of rows in doubt.
 *
 * One listing answers for all rows of the account that are due for it. Any role that may read
 * sees the whole account, so the credentials of one role after the other are tried. While the
 * listing is under way there is no transaction, and other accounts go on: the look-up is
 * advanced by the steps of its delivery and never waits itself.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "delivery/delivery_state.h"
#include "delivery/lookup.h"
#include "options/server.h"
#include "queue/claim.h"
#include "queue/settle.h"

/* A look-up under way. */
typedef struct lookup
{
	MemoryContext context;		/* the look-up itself, its rows and its calls */
	lpu_doubt  *doubts;
	int			n;
	int			next;			/* the row whose role is tried next */
	const lpu_options *options;
	lpu_api_call *call;			/* or NULL */
	bool		renewed;		/* the listing was asked for again after a 401 */
	const char *why;			/* what was wrong with the last answer, or NULL */
} lookup;

static void
settle_doubts(lpu_delivery *d, lpu_doubt *doubts, int n, const lpu_options *options)
{
	lpu_settlement *s = lpu_settlement_new(false);
	int			i;

	for (i = 0; i < n; i++)
	{
		/* absent: to be sent again, after the time that its attempts ask for; the look-up waited for the first */
		if (options != NULL)
			lpu_delivery_limit_retries(options, &doubts[i].row, doubts[i].trouble);
		lpu_settlement_add(s, &doubts[i].row);
		lpu_delivery_count(d, &doubts[i].row);
	}
	lpu_settlement_write(s, d->schema_oid);
}

/* No role can look: all stay uncertain. */
static void
settle_unseen(lpu_delivery *d, lpu_doubt *doubts, int n, const char *why)
{
	int			i;

	for (i = 0; i < n; i++)
	{
		doubts[i].row.state = LPU_STATE_UNCERTAIN;
		doubts[i].row.error = doubts[i].trouble;
		doubts[i].row.reason = psprintf("look-up failed: %s", why ? why : "no role can send");
		doubts[i].row.wait_ms = -1;
	}
	settle_doubts(d, doubts, n, NULL);
}

/* Return true if an earlier row has the same role, which was tried already. */
static bool
role_was_tried(const lpu_doubt *doubts, int i)
{
	int			j;

	for (j = 0; j < i; j++)
		if (strcmp(doubts[j].row.send_as, doubts[i].row.send_as) == 0)
			return true;
	return false;
}

/* Find the rows that are due. NULL if there are none. */
static lookup *
begin_lookup(lpu_delivery *d)
{
	MemoryContext context = AllocSetContextCreate(d->context, "lpusers look-up",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = CurrentMemoryContext;
	lookup	   *l = MemoryContextAllocZero(context, sizeof(lookup));

	l->context = context;
	d->deliverer->begin();
	MemoryContextSwitchTo(context);
	if (!lpu_server_is_paused(d->account))
		l->doubts = lpu_claim_doubts(d->schema, d->account, &l->n);
	d->deliverer->commit();
	MemoryContextSwitchTo(caller);
	if (l->n > 0)
		return l;
	MemoryContextDelete(context);
	return NULL;
}

static void
start_listing(lpu_delivery *d, lookup *l)
{
	MemoryContext caller = MemoryContextSwitchTo(l->context);

	l->call = lpu_lookup_start(l->options);
	d->totals->requests++;
	MemoryContextSwitchTo(caller);
}

/*
 * Any role that may read sees the whole account: ask as the next of them. False if all were
 * asked.
 */
static bool
ask_next_role(lpu_delivery *d, lookup *l)
{
	MemoryContext caller = CurrentMemoryContext;

	for (l->options = NULL; l->next < l->n && l->options == NULL; l->next++)
	{
		if (role_was_tried(l->doubts, l->next))
			continue;
		d->deliverer->begin();
		MemoryContextSwitchTo(l->context);
		l->options = lpu_delivery_options(d, l->doubts[l->next].row.send_as, l->context, &l->why);
		d->deliverer->commit();
		MemoryContextSwitchTo(caller);
	}
	if (l->options == NULL)
		return false;
	l->renewed = false;
	start_listing(d, l);
	return true;
}

/*
 * Read the listing that has come. If it was refused to this role, ask again with a new bearer,
 * or leave it to the next role; else all rows are settled. Return true if they are.
 */
static bool
read_listing(lpu_delivery *d, lookup *l)
{
	MemoryContext caller = CurrentMemoryContext;
	lpu_api_call *call = l->call;
	lpu_verdict verdict;
	bool		settled;

	l->call = NULL;
	d->deliverer->begin();
	MemoryContextSwitchTo(l->context);
	verdict = lpu_lookup_finish(call, l->doubts, l->n, &l->why);
	settled = verdict == LPU_OK || verdict == LPU_LATER || verdict == LPU_UNCERTAIN;
	if (settled)
		settle_doubts(d, l->doubts, l->n, l->options);
	d->deliverer->commit();
	MemoryContextSwitchTo(caller);
	if (verdict == LPU_UNAUTHORIZED && !l->renewed && lpu_api_renewed(call))
	{
		l->renewed = true;
		start_listing(d, l);
	}
	return settled;
}

static LpuLookup
end_lookup(lpu_delivery *d, LpuLookup result)
{
	MemoryContextDelete(d->lookup->context);
	d->lookup = NULL;
	return result;
}

/*
 * Look up the rows whose outcome is unknown, if that is due. Advances as far as it can without
 * waiting.
 */
LpuLookup
lpu_delivery_look_up(lpu_delivery *d)
{
	MemoryContext caller = CurrentMemoryContext;
	lookup	   *l = d->lookup;

	if (l == NULL)
		l = d->lookup = begin_lookup(d);
	if (l == NULL)
		return LPU_LOOKUP_NOTHING;
	while (l->call != NULL || ask_next_role(d, l))
	{
		if (!lpu_api_done(l->call))
			return LPU_LOOKUP_WAITS;
		if (read_listing(d, l))
			return end_lookup(d, l->why == NULL ? LPU_LOOKUP_KNOWN : LPU_LOOKUP_NOTHING);
	}
	d->deliverer->begin();
	MemoryContextSwitchTo(l->context);
	settle_unseen(d, l->doubts, l->n, l->why);
	d->deliverer->commit();
	MemoryContextSwitchTo(caller);
	return end_lookup(d, LPU_LOOKUP_NOTHING);
}

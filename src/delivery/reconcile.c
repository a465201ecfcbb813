/*
 * reconcile.c: the part of a delivery that looks up what became of rows in doubt.
 *
 * One listing answers for all rows of the account that are due for it. Any role that may read sees the whole account, so
 * the credentials of one role after the other are tried. While the listing is under way there is no transaction.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "delivery/delivery_state.h"
#include "delivery/lookup.h"
#include "http/request.h"
#include "options/server.h"
#include "queue/claim.h"
#include "queue/settle.h"

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

/* Nobody can look: all stay uncertain. */
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

/*
 * List the account with these credentials, once more if the bearer had to be renewed. The answer is read, and *why says
 * what was wrong with it, or is NULL. Returns inside of a transaction.
 */
static lpu_verdict
list_account(lpu_delivery *d, const lpu_options *options, lpu_doubt *doubts, int n, MemoryContext context, const char **why)
{
	bool		renewed = false;

	for (;;)
	{
		lpu_api_call *call;
		lpu_verdict verdict;

		MemoryContextSwitchTo(context);
		call = lpu_lookup_start(options);
		d->totals->requests++;
		while (!lpu_api_done(call))
			lpu_http_turn(-1);
		d->deliverer->begin();
		MemoryContextSwitchTo(context);
		verdict = lpu_lookup_finish(call, doubts, n, why);
		if (verdict != LPU_UNAUTHORIZED || renewed || !lpu_api_renewed(call))
			return verdict;
		d->deliverer->commit();
		renewed = true;
	}
}

/* Has an earlier row of these the same role? Then that was tried already. */
static bool
role_was_tried(const lpu_doubt *doubts, int i)
{
	int			j;

	for (j = 0; j < i; j++)
		if (strcmp(doubts[j].row.send_as, doubts[i].row.send_as) == 0)
			return true;
	return false;
}

/* Any role that may read sees the whole account: ask with the credentials of each until one answer can be used. */
static bool
list_as_anybody(lpu_delivery *d, lpu_doubt *doubts, int n, MemoryContext context)
{
	const char *why = NULL;
	int			i;

	for (i = 0; i < n; i++)
	{
		const lpu_options *options;
		lpu_verdict verdict;

		if (role_was_tried(doubts, i))
			continue;
		d->deliverer->begin();
		MemoryContextSwitchTo(context);
		options = lpu_delivery_options(d, doubts[i].row.send_as, context, &why);
		d->deliverer->commit();
		if (options == NULL)
			continue;
		verdict = list_account(d, options, doubts, n, context, &why);
		if (verdict == LPU_OK || verdict == LPU_LATER || verdict == LPU_UNCERTAIN)
		{
			settle_doubts(d, doubts, n, options);
			d->deliverer->commit();
			return why == NULL;
		}
		d->deliverer->commit();
	}
	d->deliverer->begin();
	MemoryContextSwitchTo(context);
	settle_unseen(d, doubts, n, why);
	d->deliverer->commit();
	return false;
}

/* Look up the rows whose outcome is unknown, if that is due. True if there were some, and the result is known. */
bool
lpu_delivery_look_up(lpu_delivery *d)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext context = AllocSetContextCreate(d->context, "lpusers look-up", ALLOCSET_DEFAULT_SIZES);
	lpu_doubt  *doubts;
	int			n = 0;
	bool		found;

	d->deliverer->begin();
	MemoryContextSwitchTo(context);
	doubts = lpu_server_is_paused(d->account) ? NULL : lpu_claim_doubts(d->schema, d->account, &n);
	d->deliverer->commit();
	found = n > 0 && list_as_anybody(d, doubts, n, context);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
	return found;
}

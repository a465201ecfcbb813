/*
 * change_settle.c: users of a chain that are settled, given back, held, or to be read again.
 *
 * All changes are part of a step of the delivery, and written when the step is committed.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "api/conditional_write.h"
#include "delivery/change_chain.h"

/* Maximum number of user IDs named in the log. */
#define MAX_IDS 50

/* Number of successful writes after which other clients count as idle. */
#define CALM_WRITES 5

/*
 * A request by login whose user was found belongs to that user from now on.  Two requests in flight
 * must not have the same user.
 */
static void
keep_found(const LpuChangedUser *user)
{
	LpuQueueRow *row = user->row;

	if (user->id == 0 || (user->login_key == NULL && !row->by_login) ||
		(row->state == LPU_STATE_UNCERTAIN && user->blocked))
		return;
	row->user_id = user->id;
	if (row->state != LPU_STATE_DONE && row->outcome == NULL)
		row->outcome = "{\"by_login\": true}";
}

/* Settle users whose rows have their results. */
void
lpu_chain_settle(LpuChangeChain *chain, LpuChangedUser **users, int n, bool looked)
{
	LpuQueueRow **rows = palloc(Max(n, 1) * sizeof(LpuQueueRow *));
	int			i;

	for (i = 0; i < n; i++)
	{
		rows[i] = users[i]->row;
		/* two requests in flight must not have the same user */
		if (rows[i]->state == LPU_STATE_DONE || rows[i]->state == LPU_STATE_FAILED)
			rows[i]->user_id = users[i]->id;
		keep_found(users[i]);
		users[i]->row = NULL;
		if (looked)
			lpu_delivery_settle_looked(chain->delivery, rows[i]);
	}
	if (!looked)
		lpu_delivery_settle(chain->delivery, rows, n);
	chain->left -= n;
}

/* Return a row that was not sent to its state before the claim. */
void
lpu_chain_set_back(LpuQueueRow *row, const char *why, int64 wait_ms, int status)
{
	lpu_rows_set(&row, 1, row->doubtful ? LPU_STATE_UNCERTAIN : LPU_STATE_UNSENT,
				 row->doubtful ? row->last_error : why, row->doubtful ? why : NULL, wait_ms);
	row->unsent = true;
	row->status = row->doubtful && status == 0 ? row->last_status : status;
	row->outcome = NULL;
}

/* Return the remaining users, in the current memory context. */
LpuChangedUser **
lpu_chain_left(const LpuChangeChain *chain, int *n)
{
	LpuChangedUser **left = palloc(Max(chain->n, 1) * sizeof(LpuChangedUser *));
	int			i;

	*n = 0;
	for (i = 0; i < chain->n; i++)
		if (chain->users[i].row != NULL)
			left[(*n)++] = &chain->users[i];
	return left;
}

/* In a step: return the remaining users to the queue, and end the chain.  "why" may be NULL. */
void
lpu_chain_give_back(LpuChangeChain *chain, const char *why, int64 wait_ms, int status)
{
	int			n;
	LpuChangedUser **left = lpu_chain_left(chain, &n);
	int			i;

	for (i = 0; i < n; i++)
	{
		MemoryContext context = lpu_claim_context(left[i]->row);

		lpu_chain_set_back(left[i]->row, why ? MemoryContextStrdup(context, why) : NULL, wait_ms,
						   status);
	}
	lpu_chain_settle(chain, left, n, false);
	chain->step = LPU_CHAIN_OVER;
}

/* In a step: hold the remaining users, and end the chain. */
void
lpu_chain_hold_rows(LpuChangeChain *chain, LpuHoldKind hold, const char *why)
{
	int			n;
	LpuChangedUser **left = lpu_chain_left(chain, &n);
	int			i;

	for (i = 0; i < n; i++)
	{
		lpu_rows_set_held(&left[i]->row, 1, hold,
						  MemoryContextStrdup(lpu_claim_context(left[i]->row), why));
		left[i]->row->unsent = true;
	}
	lpu_chain_settle(chain, left, n, false);
	chain->step = LPU_CHAIN_OVER;
}

/* The same, and hold the other requests of the role. */
void
lpu_chain_hold_role(LpuChangeChain *chain, LpuHoldKind hold, const char *why)
{
	LpuQueueRow sender = {.server = chain->sender.server,.role = chain->sender.role};

	lpu_chain_hold_rows(chain, hold, why);
	lpu_delivery_hold_role(chain->delivery, chain->options, &sender, hold, why);
}

/* The entities are no longer valid: read the remaining users again. */
void
lpu_chain_forget(LpuChangeChain *chain)
{
	int			i;

	for (i = 0; i < chain->n; i++)
	{
		chain->users[i].seen = false;
		chain->users[i].entity = NULL;
		chain->users[i].body = NULL;
		chain->users[i].set = NULL;
		chain->users[i].renamed_from = chain->users[i].renamed_to = NULL;
	}
	chain->step = LPU_CHAIN_READ;
}

/* Another client has changed the account since the users were read. */
void
lpu_chain_note_stale(LpuChangeChain *chain)
{
	LpuDelivery *d = chain->delivery;

	if (d->unrest++ == 0)
		d->unrest_since = GetCurrentTimestamp();
	d->calm = 0;
}

/* A write succeeded. */
void
lpu_chain_note_written(LpuChangeChain *chain)
{
	LpuDelivery *d = chain->delivery;

	d->unrest = ++d->calm >= CALM_WRITES ? 0 : Min(d->unrest, LPU_STALE_ROUNDS);
}

/* Wait until other clients stop changing the account, then read again. */
void
lpu_chain_pause(LpuChangeChain *chain)
{
	lpu_chain_forget(chain);
	chain->step = LPU_CHAIN_PAUSE;
	chain->resume = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												lpu_write_pause(chain->delivery->unrest));
}

/*
 * The extension was dropped while a write was under way: the server log is the only place left to
 * say so.
 */
void
lpu_change_chain_report(const LpuChangeChain *chain)
{
	const LpuChainWrite *writes[] = {chain->write, chain->ahead};
	StringInfoData ids;
	int			n = 0;
	int			i;
	int			j;

	initStringInfo(&ids);
	for (j = 0; j < lengthof(writes); j++)
		for (i = 0; writes[j]->call != NULL && i < writes[j]->n; i++)
			if (n++ < MAX_IDS)
				appendStringInfo(&ids, "%s" INT64_FORMAT, n > 1 ? ", " : "",
								 writes[j]->users[i]->id);
	if (n == 0)
		return;
	if (n > MAX_IDS)
		appendStringInfo(&ids, " and %d more", n - MAX_IDS);
	ereport(LOG,
			(errmsg_plural("extension \"lpusers\" was dropped while %d user of account \"%s\" was being changed",
						   "extension \"lpusers\" was dropped while %d users of account \"%s\" were being changed",
						   n, n, chain->options->account),
			 errdetail("The outcome is unknown: %s.", ids.data),
			 errhidestmt(true)));
}

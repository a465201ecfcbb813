/*
 * change_chain.c: sending queued updates and deletes, one request after the other.
 *
 * A chain has claimed some rows of one role and server, and holds the revision lock of the account.
 * It reads the users at a revision (change_read.c), judges each (change_judge.c), and writes those
 * that need a change (change_send.c, change_write.c), batch by batch and phase by phase, on
 * condition of that revision. A successful write creates the next revision, and the chain continues
 * with the entities that it has read: it sends the next request before it records the results of
 * the last one.  If the account is at another revision, or the outcome of a write is unknown, the
 * remaining users are read again.  So the account refuses a delayed or repeated write, and an
 * uncertain row is looked up before anything is sent for it.
 *
 * A write that is stale because of another client is not a failure.  After two stale rounds only a
 * few users are read at a time, one by one, which takes less time than a listing.
 *
 * A chain lasts two seconds, so that creates, other writers and more urgent changes are not delayed
 * longer.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "api/conditional_write.h"
#include "api/transport.h"
#include "base/account_lock.h"
#include "base/encoding.h"
#include "delivery/change_chain.h"
#include "http/request.h"
#include "queue/silence.h"
#include "user/login.h"

/* Maximum number of rows of a chain: their entities are in memory, some kB each. */
#define CHAIN_ROWS 2000

/* See above. */
#define CHAIN_MS 2000

/* Number of users read at a time while other clients keep changing the account. */
#define FEW_USERS 10

/* ----- reading ----- */

/* Choose the users to settle: all remaining ones, or a few with known ids. */
static void
choose_users(LpuChangeChain *chain)
{
	bool		few = chain->delivery->unrest >= LPU_STALE_ROUNDS;
	int			n;
	int			i;

	MemoryContextReset(chain->round);
	chain->reading = lpu_chain_left(chain, &n);
	chain->nreading = n;
	chain->njudged = 0;
	if (!few)
		return;
	chain->nreading = 0;
	for (i = 0; i < n && chain->nreading < FEW_USERS; i++)
		if (chain->reading[i]->id != 0)
			chain->reading[chain->nreading++] = chain->reading[i];
	/* users without an id are found only by a listing */
	if (chain->nreading == 0)
		chain->nreading = n;
}

/*
 * Return the users to read: the chosen ones and those of older requests by login, which a listing
 * has to show once.
 */
static LpuChangedUser **
users_to_read(LpuChangeChain *chain, int *n)
{
	LpuChangedUser **users = palloc((chain->nreading + chain->nolder) * sizeof(LpuChangedUser *));
	int			i;

	for (i = 0; i < chain->nreading; i++)
		users[i] = chain->reading[i];
	for (i = 0; i < chain->nolder; i++)
	{
		chain->older[i].id = 0;
		users[chain->nreading + i] = &chain->older[i];
	}
	*n = chain->nreading + chain->nolder;
	return users;
}

/* Users cannot be read now. */
static void
end_unread(LpuChangeChain *chain, const LpuListingResult *result)
{
	LpuDelivery *d = chain->delivery;
	const char *why = psprintf("could not read users: %s", result->why ? result->why : "");
	int64		wait_ms;

	switch (result->verdict)
	{
		case LPU_UNAUTHORIZED:
		case LPU_FORBIDDEN:
			lpu_chain_hold_role(chain, LPU_HOLD_CREDENTIALS, why);
			break;
		case LPU_REJECTED:
		case LPU_MISDIRECTED:
			lpu_chain_hold_role(chain, LPU_HOLD_SETUP, why);
			break;
		case LPU_LATER:
			lpu_chain_give_back(chain, why, result->wait_ms, 429);
			lpu_delivery_wait_as_asked(d, result->wait_ms, chain->options->timeout);
			break;
		default:
			wait_ms = lpu_silence_backoff(chain->options->mapping);
			lpu_chain_give_back(chain, why, wait_ms, 0);
			lpu_delivery_note_unreachable(d, chain->options, &chain->sender, chain->since, why,
										  wait_ms);
			break;
	}
}

/* Requests that are not of a plan have nothing of what the account does not show. */
static void
add_hidden(LpuChangeChain *chain)
{
	LpuQueueRow **rows = palloc(Max(chain->nreading, 1) * sizeof(LpuQueueRow *));
	int64	   *users = palloc(Max(chain->nreading, 1) * sizeof(int64));
	int			n = 0;
	int			i;

	for (i = 0; i < chain->nreading; i++)
	{
		const LpuChangedUser *user = chain->reading[i];

		if (user->row == NULL || user->row->planned || user->row->deletes || user->id == 0)
			continue;
		users[n] = user->id;
		rows[n++] = user->row;
	}
	if (n > 0)
		lpu_claim_add_hidden(chain->delivery->account, rows, users, n);
}

/* Judge the users of the next request.  Return false if they are judged already. */
static bool
step_judge(LpuChangeChain *chain)
{
	MemoryContext caller;

	if (lpu_chain_is_judged(chain))
		return false;
	caller = lpu_delivery_begin(chain->delivery);
	MemoryContextSwitchTo(chain->round);
	lpu_chain_judge(chain);
	lpu_delivery_commit(chain->delivery, caller);
	return true;
}

/* Without a revision in the responses, concurrent changes by others cannot be detected. */
static void
check_revision(LpuChangeChain *chain)
{
	if (chain->left == 0 || chain->revision >= 0 || !chain->options->if_match_required)
		return;
	lpu_chain_hold_rows(chain, LPU_HOLD_SETUP,
						psprintf("responses of account \"%s\" carry no revision, so that concurrent"
								 " changes could not be noticed: see option \"if_match\" of server"
								 " \"%s\"", chain->options->account, chain->options->server_name));
}

/* The users were read: judge them. */
static void
end_read(LpuChangeChain *chain)
{
	LpuDelivery *d = chain->delivery;
	MemoryContext caller = lpu_delivery_begin(d);
	const LpuListingResult *result = lpu_change_read_result(chain->read);
	int64		refused_at = chain->refused_at;

	MemoryContextSwitchTo(chain->round);
	chain->read = NULL;
	chain->refused_at = -1;
	chain->revision = result->revision;
	if (!result->known)
		end_unread(chain, result);
	else
	{
		lpu_delivery_note_reached(d, chain->options);
		chain->step = LPU_CHAIN_WRITE;
		chain->wrote = false;
		if (chain->end == 0)
			chain->end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), CHAIN_MS);
		/* a 409 concerns a user or the revision */
		if (refused_at >= 0 && refused_at == chain->revision)
			lpu_chain_judge_refused(chain, chain->refusal, 409);
		else if (refused_at >= 0)
			lpu_chain_note_stale(chain);
		lpu_chain_put_in_order(chain);
		add_hidden(chain);
		lpu_chain_judge(chain);
		check_revision(chain);
		lpu_chain_follow_renames(chain);
	}
	lpu_delivery_commit(d, caller);
}

/* Start or continue to read users.  Return false if this has to wait. */
static bool
step_read(LpuChangeChain *chain, long *wait_ms)
{
	if (chain->read == NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(chain->round);

		LpuChangedUser **users;
		int			n;

		choose_users(chain);
		users = users_to_read(chain, &n);
		chain->read = lpu_change_read_start(chain->delivery, chain->options, users, n);
		MemoryContextSwitchTo(caller);
	}
	if (!lpu_change_read_done(chain->read, wait_ms))
		return false;
	end_read(chain);
	return true;
}

/* ----- writing ----- */

/* Continue with the next users, or end. */
static bool
step_write(LpuChangeChain *chain, long *wait_ms)
{
	LpuDelivery *d = chain->delivery;
	MemoryContext caller;

	/* each chain writes at least once, however long reading the users takes */
	if (chain->wrote && GetCurrentTimestamp() >= chain->end)
	{
		caller = lpu_delivery_begin(d);
		MemoryContextSwitchTo(chain->round);
		lpu_chain_give_back(chain, NULL, 0, 0);
		lpu_delivery_commit(d, caller);
		return true;
	}
	if (step_judge(chain))
		return true;
	if (!lpu_delivery_may_request(d))
	{
		*wait_ms = lpu_delivery_request_wait(d);
		return false;
	}
	caller = MemoryContextSwitchTo(chain->round);
	/* the others have not been read */
	if (!lpu_chain_send(chain))
		lpu_chain_forget(chain);
	MemoryContextSwitchTo(caller);
	return true;
}

/* Settle the users that were sent, after the next ones have been sent. */
static void
finish_write(LpuChangeChain *chain)
{
	LpuDelivery *d = chain->delivery;
	MemoryContext caller = lpu_delivery_begin(d);
	LpuApiAnswer *answer;

	MemoryContextSwitchTo(chain->round);
	answer = lpu_api_finish(chain->write->call);
	lpu_delivery_commit(d, caller);

	MemoryContextSwitchTo(chain->round);
	if (lpu_chain_renew(chain, answer))
	{
		MemoryContextSwitchTo(caller);
		return;
	}
	if (!lpu_delivery_must_stop(d) && GetCurrentTimestamp() < chain->end &&
		lpu_chain_is_judged(chain))
		lpu_chain_send_ahead(chain, answer);
	lpu_delivery_begin(d);
	MemoryContextSwitchTo(chain->round);
	lpu_chain_finish_write(chain, answer);
	lpu_delivery_commit(d, caller);
	if (d->deliverer->progress != NULL)
		d->deliverer->progress(d->account, d->totals);
}

static bool
step_sent(LpuChangeChain *chain, long *wait_ms)
{
	*wait_ms = -1;
	if (lpu_api_done(chain->write->call))
		finish_write(chain);
	else if (!lpu_chain_is_judged(chain))
	{
		lpu_http_turn(0);
		step_judge(chain);
	}
	else
		return false;
	return true;
}

/* The chain releases the lock while it waits for other clients. */
static bool
step_pause(LpuChangeChain *chain, long *wait_ms)
{
	LpuDelivery *d = chain->delivery;
	TimestampTz now = GetCurrentTimestamp();
	MemoryContext caller;

	if (now >= chain->end)
	{
		int64		left_ms = TimestampDifferenceMilliseconds(now, chain->resume);

		caller = lpu_delivery_begin(d);
		MemoryContextSwitchTo(chain->round);
		lpu_chain_give_back(chain, "other clients keep changing the account", left_ms, 0);
		lpu_delivery_commit(d, caller);
		d->unrest_until = chain->resume;
		return true;
	}
	if (now < chain->resume)
	{
		lpu_delivery_unshare_revision(d);
		*wait_ms = TimestampDifferenceMilliseconds(now, Min(chain->resume, chain->end));
		return false;
	}
	if (!lpu_hold_revision(d->account, d->party))
	{
		*wait_ms = LPU_REVISION_POLL_MS;
		return false;
	}
	chain->step = LPU_CHAIN_READ;
	return true;
}

/* ----- the chain ----- */

/* The delivery is to end. */
static void
give_back_all(LpuChangeChain *chain)
{
	MemoryContext caller = lpu_delivery_begin(chain->delivery);

	MemoryContextSwitchTo(chain->context);
	lpu_chain_give_back(chain, NULL, 0, 0);
	lpu_delivery_commit(chain->delivery, caller);
}

/* The users of the rows that were claimed.  In a step. */
static void
add_users(LpuChangeChain *chain, LpuQueueRow **rows, int n)
{
	LpuChainWrite **writes[] = {&chain->write, &chain->ahead};
	int			i;

	chain->users = palloc0(n * sizeof(LpuChangedUser));
	for (i = 0; i < lengthof(writes); i++)
	{
		*writes[i] = palloc0(sizeof(LpuChainWrite));
		(*writes[i])->users = palloc(n * sizeof(LpuChangedUser *));
	}
	chain->n = chain->left = n;
	for (i = 0; i < n; i++)
	{
		LpuChangedUser *user = &chain->users[i];

		user->row = rows[i];
		user->id = rows[i]->target;

		/*
		 * a user that a response did not name is sent alone, so that its
		 * result is unambiguous
		 */
		user->part = rows[i]->doubtful && rows[i]->last_status / 100 == 2 ? 1 : PG_INT32_MAX;
		if (user->id == 0)
			user->login_key = lpu_login_key(rows[i]->login_name);
	}
}

/* Settle the rows that cannot be sent, and return the number of the others. */
static int
drop_unsendable(LpuDelivery *d, LpuQueueRow **rows, int n, const char *why)
{
	int			kept = 0;
	int			i;

	for (i = 0; i < n; i++)
		if (why == NULL && rows[i]->body != NULL)
			rows[kept++] = rows[i];
		else
		{
			lpu_rows_set_held(&rows[i], 1, LPU_HOLD_SETUP, why ? why : "its data were removed, see lpusers.keep_held_secrets");
			rows[i]->unsent = true;
			lpu_delivery_settle(d, &rows[i], 1);
		}
	return kept;
}

/* Return the rows to the queue if another role did not reach the account with their mapping. */
static int
drop_silent(LpuDelivery *d, const LpuOptions *options, LpuQueueRow **rows, int n)
{
	const char *why = NULL;
	int64		wait_ms = lpu_delivery_silence(d, options, rows[0], &why);

	if (wait_ms == 0)
		return n;
	for (int i = 0; i < n; i++)
		lpu_chain_set_back(rows[i], why, wait_ms, 0);
	lpu_delivery_settle(d, rows, n);
	return 0;
}

/*
 * Claim the due updates and deletes of d->next_change, and begin a chain.  The revision lock is
 * held.  Return false if a chain has nothing to do.
 */
bool
lpu_change_chain_begin(LpuDelivery *d)
{
	MemoryContext caller = lpu_delivery_begin(d);
	MemoryContext context = AllocSetContextCreate(d->context, "lpusers change chain",
												  ALLOCSET_DEFAULT_SIZES);
	LpuChangeChain *chain = MemoryContextAllocZero(context, sizeof(LpuChangeChain));
	const char *why = NULL;
	LpuQueueRow **rows;
	int			n;

	ForceSyncCommit();
	rows = lpu_claim_changes(d->account, d->party, &d->next_change, CHAIN_ROWS, &n);
	if (rows != NULL)
	{
		chain->options = lpu_delivery_options(d, rows[0], context, &why);
		n = drop_unsendable(d, rows, n, why);
		if (n > 0)
			n = drop_silent(d, chain->options, rows, n);
	}
	if (n > 0)
	{
		MemoryContextSwitchTo(context);
		chain->delivery = d;
		chain->context = context;
		chain->round = AllocSetContextCreate(context, "lpusers change round",
											 ALLOCSET_DEFAULT_SIZES);
		chain->refused_at = -1;
		chain->sender = d->next_change;
		chain->since = GetCurrentTimestamp();
		add_users(chain, rows, n);
		lpu_http_hold(lpu_request_pool(chain->options));
		lpu_chain_find_older(chain);
		d->chain = chain;
	}
	lpu_delivery_commit(d, caller);
	if (n == 0)
		MemoryContextDelete(context);
	return rows != NULL;
}

/*
 * Continue the chain, without waiting.  Return true after progress, false if it has to wait for
 * *wait_ms; the chain is over when d->chain is NULL.  Called outside of a transaction.
 */
bool
lpu_change_chain_step(LpuDelivery *d, long *wait_ms)
{
	LpuChangeChain *chain = d->chain;
	bool		moved = true;

	if (chain->left == 0)
		chain->step = LPU_CHAIN_OVER;
	else if (chain->step != LPU_CHAIN_SENT && lpu_delivery_must_stop(d))
		give_back_all(chain);
	switch (chain->step)
	{
		case LPU_CHAIN_READ:
			moved = step_read(chain, wait_ms);
			break;
		case LPU_CHAIN_WRITE:
			moved = step_write(chain, wait_ms);
			break;
		case LPU_CHAIN_SENT:
			moved = step_sent(chain, wait_ms);
			break;
		case LPU_CHAIN_PAUSE:
			moved = step_pause(chain, wait_ms);
			break;
		case LPU_CHAIN_OVER:
			break;
	}
	if (chain->step == LPU_CHAIN_OVER)
	{
		d->chain = NULL;
		MemoryContextDelete(chain->context);
	}
	return moved;
}

/*
 * change_send.c: the requests of a chain of updates and deletes.
 *
 * A request has users of one phase.  While it is under way, the users of the next one are judged;
 * when its response has arrived, the next one is sent before the results are written.  So the
 * account does not wait for SQL.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/memutils.h"

#include "api/conditional_write.h"
#include "delivery/change_chain.h"
#include "http/request.h"

/* Number of times that a new transfer is driven before SQL runs: enough for some hundred kB. */
#define SEND_TURNS 4

/* ----- judging ----- */

/* Judge a user that was read.  Return true if a request for it is to be sent. */
static bool
judge_user(LpuChangeChain *chain, LpuChangedUser *user, MemoryContext scratch)
{
	MemoryContext caller = MemoryContextSwitchTo(scratch);
	bool		sends;

	sends = lpu_change_judge(user, chain->options);
	MemoryContextSwitchTo(chain->round);
	if (sends)
	{
		user->body = pstrdup(user->body);
		if (user->set != NULL)
			user->set = DatumGetJsonbPCopy(PointerGetDatum(user->set));
		if (user->renamed_to != NULL)
		{
			user->renamed_from = pstrdup(user->renamed_from ? user->renamed_from : "");
			user->renamed_to = pstrdup(user->renamed_to);
		}
	}
	MemoryContextSwitchTo(caller);
	MemoryContextReset(scratch);
	return sends;
}

/* Return the number of users that are ready for the next request. */
static int
count_ready(const LpuChangeChain *chain)
{
	int			ready = 0;
	int			i;

	for (i = 0; i < chain->n; i++)
		ready += chain->users[i].row != NULL && chain->users[i].body != NULL;
	return chain->step == LPU_CHAIN_SENT ? ready - chain->write->n : ready;
}

/*
 * Return true if the next user that was read is to be judged, with so many ready for the next
 * request.  A rename may wait for any other one.
 */
static bool
wants_judging(const LpuChangeChain *chain, int ready)
{
	const LpuQueueRow *row;

	if (chain->njudged == chain->nreading)
		return false;
	row = chain->reading[chain->njudged]->row;
	return row == NULL || row->phase <= LPU_RENAME_PHASE || chain->revision < 0 ||
		ready < chain->options->batch_size;
}

/* Return true if all users of the next request are judged. */
bool
lpu_chain_is_judged(const LpuChangeChain *chain)
{
	return !wants_judging(chain, count_ready(chain));
}

/*
 * In a step: judge the users of the next request, and settle those that need none.  The others are
 * judged while that request is under way.
 */
void
lpu_chain_judge(LpuChangeChain *chain)
{
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "lpusers judged user",
												  ALLOCSET_DEFAULT_SIZES);
	int			ready = count_ready(chain);
	int			first = chain->njudged;

	while (wants_judging(chain, ready))
	{
		LpuChangedUser *user = chain->reading[chain->njudged++];

		if (user->row == NULL)
			continue;
		if (judge_user(chain, user, scratch))
			ready++;
		else
		{
			user->row->unsent = !user->sent;
			lpu_chain_settle(chain, &user, 1, true);
		}
	}
	MemoryContextDelete(scratch);
	lpu_chain_await_logins(chain, chain->reading + first, chain->njudged - first);
}

/* ----- sending ----- */

/*
 * Return true if the new login of a user still belongs to another user, which is to be renamed,
 * too.
 */
static bool
waits_for_rename(const LpuChangeChain *chain, const LpuChangedUser *user)
{
	int			i;

	for (i = 0; user->renamed_to != NULL && i < chain->n; i++)
	{
		const LpuChangedUser *other = &chain->users[i];

		if (other != user && other->row != NULL && other->renamed_to != NULL &&
			strcmp(other->renamed_from, user->renamed_to) == 0)
			return true;
	}
	return false;
}

/* Choose the users of a request: the first ones to be sent, all of one phase. */
static void
choose_sent(LpuChangeChain *chain, LpuChainWrite *write, bool wait)
{
	int			max = chain->options->batch_size;
	int			phase = 0;
	int			i;

	write->n = 0;
	for (i = 0; i < chain->n && write->n < max; i++)
	{
		LpuChangedUser *user = &chain->users[i];

		if (user->row == NULL || user->body == NULL)
			continue;
		if (phase != 0 && user->row->phase != phase)
			break;
		phase = user->row->phase;
		if (write->n >= user->part)
			break;
		if (wait && phase == LPU_RENAME_PHASE && waits_for_rename(chain, user))
			continue;
		max = Min(max, user->part);
		write->users[write->n++] = user;
	}
}

/* Build the request for the next users.  Return false if no user that was judged needs one. */
static bool
build_write(LpuChangeChain *chain, LpuChainWrite *write)
{
	StringInfoData body;
	int			i;

	choose_sent(chain, write, true);
	/* logins exchanged in a cycle: send them, and let the account decide */
	if (write->n == 0)
		choose_sent(chain, write, false);
	if (write->n == 0)
		return false;
	initStringInfo(&body);
	for (i = 0; i < write->n; i++)
	{
		appendStringInfoChar(&body, i > 0 ? ',' : '[');
		appendStringInfoString(&body, write->users[i]->body);
	}
	appendStringInfoChar(&body, ']');
	memset(&write->request, 0, sizeof(LpuApiRequest));
	write->request.method = write->users[0]->row->deletes ? LPU_DELETE_USERS : LPU_UPDATE_USERS;
	write->request.body = body.data;
	write->request.body_length = body.len;
	write->request.if_match = chain->revision;
	write->renewed = false;
	return true;
}

static bool
start_write(LpuChangeChain *chain, LpuChainWrite *write)
{
	LpuDelivery *d = chain->delivery;

	if (!build_write(chain, write))
		return false;
	lpu_delivery_check_lock(d);
	write->call = lpu_api_start(chain->options, &write->request);
	chain->wrote = true;
	d->totals->requests++;
	/* the earlier listing is obsolete */
	d->revision = -1;
	d->changed = true;
	return true;
}

/*
 * Send the next users.  Return false if no user that was judged needs a request.  Called outside
 * of a transaction, as are the next two functions: a bearer may have to be waited for.
 */
bool
lpu_chain_send(LpuChangeChain *chain)
{
	if (!start_write(chain, chain->write))
		return false;
	chain->step = LPU_CHAIN_SENT;
	return true;
}

/* Send the request again, once, if another bearer can be had after a 401. */
bool
lpu_chain_renew(LpuChangeChain *chain, const LpuApiAnswer *answer)
{
	LpuChainWrite *write = chain->write;

	if (answer->verdict != LPU_UNAUTHORIZED || write->renewed || !lpu_api_renewed(write->call))
		return false;
	write->renewed = true;
	write->call = lpu_api_start(chain->options, &write->request);
	chain->delivery->totals->requests++;
	return true;
}

/*
 * Return true if a successful response leaves the entities of the other users valid: only this
 * write has changed the account.
 */
bool
lpu_chain_keeps_entities(const LpuChangeChain *chain, const LpuApiAnswer *answer)
{
	return chain->revision < 0 ||
		(answer->has_revision && answer->revision == chain->write->request.if_match + 1);
}

/*
 * The response has arrived.  If it leaves the other entities valid, send the next users now: the
 * account works on them while the results of this request are written.
 */
void
lpu_chain_send_ahead(LpuChangeChain *chain, const LpuApiAnswer *answer)
{
	LpuChainWrite *write = chain->write;
	int			i;

	if (answer->verdict != LPU_OK || !lpu_chain_keeps_entities(chain, answer) ||
		!lpu_delivery_may_request(chain->delivery))
		return;
	for (i = 0; i < write->n; i++)
	{
		write->users[i]->body = NULL;
		write->users[i]->renamed_to = NULL;
	}
	if (chain->revision >= 0)
		chain->revision = answer->revision;
	if (!start_write(chain, chain->ahead))
		return;
	/* SQL follows, which does not drive the transfer */
	for (i = 0; i < SEND_TURNS; i++)
		lpu_http_turn(0);
}

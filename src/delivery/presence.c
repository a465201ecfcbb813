/*
 * presence.c: the part of a delivery that finds the users of the account before anything is sent.
 *
 * A user found after a lost response or a refused batch was created by this delivery only if it did
 * not exist before.  So the account is listed before rows are claimed, and existing users are not
 * sent.  A few rows are sent without a listing, each in a request of its own: then a refusal
 * concerns one user, and costs less than a listing of a large account.  While a delete or rename
 * waits the account is listed for these, too: only the list shows if it is of the user who has the
 * login.  The steps of the delivery advance the listing; meanwhile no rows are claimed.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "delivery/delivery_state.h"
#include "http/request.h"
#include "queue/claim_order.h"
#include "queue/silence.h"

/* Maximum number of roles tried to list the account. */
#define MAX_TRIED 100

/* Up to this number of due rows are sent one by one. */
#define FEW_ROWS 5

/*
 * Maximum number of due rows whose logins are kept in memory; later rows are left to the next
 * round.
 */
#define LIST_ROWS 100000

/* Minimum time that a create waits for an older request to take its login from a user. */
#define MIN_FREE_MS 1000

/* The listing before rows are claimed, in the context of the users that it finds. */
struct LpuLookAhead
{
	ListCell   *cell;			/* the server whose account is listed, among
								 * d->presences */
	int			next;			/* the due row whose role is tried next */
	Oid		   *tried;			/* number of roles tried for the server */
	int			ntried;
	const LpuQueueRow *row;		/* a row of the role as which the account is
								 * being listed */
	const LpuOptions *options;	/* ... its options, or NULL */
	TimestampTz since_role;		/* ... and when it began */
	bool		alone;			/* no rows were claimed or under way when it
								 * began */
	TimestampTz since;
};

static LpuPresence *
find_presence(const LpuDelivery *d, Oid server)
{
	ListCell   *cell;

	foreach(cell, d->presences)
		if (((LpuPresence *) lfirst(cell))->server == server)
		return lfirst(cell);
	return NULL;
}

/* Count the due rows of each server. */
static void
count_due(LpuDelivery *d)
{
	int			i;

	d->presences = NIL;
	for (i = 0; i < d->ndue; i++)
	{
		LpuPresence *presence = find_presence(d, d->due[i].server);

		if (presence == NULL)
		{
			presence = palloc0(sizeof(LpuPresence));
			presence->server = d->due[i].server;
			d->presences = lappend(d->presences, presence);
		}
		presence->ndue++;
	}
}

/* Look up the users of the rows of a server, if there are many or a login may become free. */
static void
prepare_presence(LpuDelivery *d, LpuPresence *presence)
{
	int			i;

	presence->few = presence->ndue <= FEW_ROWS &&
		!lpu_claim_may_free(d->account, presence->server);
	if (presence->few)
		return;
	d->must_look = true;
	presence->users = lpu_lookup_new(false);
	for (i = 0; i < d->ndue; i++)
		if (d->due[i].server == presence->server && d->due[i].login_name != NULL)
			lpu_lookup_add(presence->users, d->due[i].login_name);
}

/* In a transaction: begin to claim the rows that are due now. */
void
lpu_delivery_begin_round(LpuDelivery *d)
{
	MemoryContext caller = CurrentMemoryContext;
	ListCell   *cell;

	if (d->present_context != NULL)
		MemoryContextDelete(d->present_context);
	d->present_context = AllocSetContextCreate(d->context, "lpusers present users",
											   ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(d->present_context);
	lpu_silence_tell(d->account, d->party);
	lpu_claimer_restart(d->claimer);
	lpu_claimer_set_until(d->claimer, GetCurrentTimestamp());
	d->due = lpu_claim_list(d->claimer, LIST_ROWS, &d->ndue);
	d->revision = -1;
	d->in_round = true;
	d->must_look = d->claimed = d->changed = false;
	count_due(d);
	foreach(cell, d->presences)
		prepare_presence(d, lfirst(cell));
	MemoryContextSwitchTo(caller);
}

/* End the round: no more of its rows are claimed. */
void
lpu_delivery_end_round(LpuDelivery *d)
{
	lpu_claimer_restart(d->claimer);
	d->in_round = false;
}

/* ----- the listing ----- */

/*
 * Continue with the next server whose account is to be listed.  Return the server, or NULL if there
 * is none.
 */
static LpuPresence *
next_presence(LpuDelivery *d, struct LpuLookAhead *l)
{
	for (l->cell = l->cell == NULL ? list_head(d->presences) :
		 lnext(d->presences, l->cell); l->cell != NULL;
		 l->cell = lnext(d->presences, l->cell))
	{
		LpuPresence *presence = lfirst(l->cell);

		if (presence->few)
			continue;
		presence->few = true;	/* unless a listing succeeds */
		l->next = l->ntried = 0;
		l->options = NULL;
		return presence;
	}
	return NULL;
}

/* Begin to look up the users of the round. */
static struct LpuLookAhead *
begin_look_ahead(LpuDelivery *d)
{
	struct LpuLookAhead *l = MemoryContextAllocZero(d->present_context,
													sizeof(struct LpuLookAhead));

	l->alone = list_length(d->presences) == 1 && d->ready == NIL && d->flying == NIL &&
		d->done == NIL &&
		d->refused_batches == NIL;
	l->since = GetCurrentTimestamp();
	l->tried = MemoryContextAlloc(d->present_context, MAX_TRIED * sizeof(Oid));
	(void) next_presence(d, l);
	return l;
}

/* Return why nothing can be sent now with this mapping, or NULL. */
static const LpuListFailure *
find_failure(const LpuPresence *presence, Oid mapping)
{
	ListCell   *cell;

	foreach(cell, presence->failures)
	{
		const LpuListFailure *failure = lfirst(cell);

		if (failure->mapping == mapping || !OidIsValid(failure->mapping))
			return failure;
	}
	return NULL;
}

static bool
lister_was_tried(const struct LpuLookAhead *l, Oid role)
{
	int			i;

	for (i = 0; i < l->ntried; i++)
		if (l->tried[i] == role)
			return true;
	return false;
}

/*
 * Every role that may read sees the whole account: list it with the next of the roles whose rows
 * the server has.  Return false if there is none.  Rows of a role that cannot be used are held when
 * they are claimed.
 */
static bool
list_as_next_role(LpuDelivery *d, struct LpuLookAhead *l, LpuPresence *presence)
{
	for (; l->next < d->ndue && l->ntried < MAX_TRIED && l->options == NULL; l->next++)
	{
		MemoryContext caller;
		const char *why;

		l->row = &d->due[l->next];
		if (l->row->server != presence->server || lister_was_tried(l, l->row->role))
			continue;
		l->tried[l->ntried++] = l->row->role;
		if (!lpu_http_has_room(l->row->role))
			continue;
		caller = lpu_delivery_begin(d);
		l->options = lpu_delivery_options(d, l->row, d->present_context, &why);
		if (l->options != NULL && (find_failure(presence, l->options->mapping) != NULL ||
								   lpu_delivery_silence(d, l->options, l->row, &why) > 0))
			l->options = NULL;
		lpu_delivery_commit(d, caller);
	}
	if (l->options == NULL)
		return false;
	l->since_role = GetCurrentTimestamp();
	lpu_lookup_start(presence->users, l->options, 0);
	return true;
}

/*
 * The account cannot be listed now: rows with this mapping, or all of the server if the account
 * requested a delay, are given back when they are claimed.
 */
static void
postpone(LpuDelivery *d, const struct LpuLookAhead *l, LpuPresence *presence,
		 const LpuListingResult *result, const char *why)
{
	MemoryContext caller = MemoryContextSwitchTo(d->present_context);
	LpuListFailure *failure = palloc0(sizeof(LpuListFailure));

	failure->why = pstrdup(why);
	failure->since = l->since_role;
	if (result->verdict != LPU_LATER)
	{
		failure->mapping = l->options->mapping;
		failure->wait_ms = lpu_silence_backoff(l->options->mapping);
	}
	else
	{
		failure->status = 429;
		failure->wait_ms = result->wait_ms;
		d->next_start = Max(d->next_start,
							TimestampTzPlusMilliseconds(GetCurrentTimestamp(), result->wait_ms));
	}
	presence->failures = lappend(presence->failures, failure);
	MemoryContextSwitchTo(caller);
}

/*
 * In a step: evaluate a listing that has ended.  Return true if no other role is to be tried.
 */
static bool
use_listing(LpuDelivery *d, const struct LpuLookAhead *l, LpuPresence *presence,
			const LpuListingResult *result)
{
	const char *why = psprintf("could not list users: %s", result->why ? result->why : "");

	if (result->known)
	{
		presence->few = false;
		/* requests under way will change it */
		if (l->alone)
			d->revision = result->revision;
		lpu_delivery_note_reached(d, l->options);
		return true;
	}
	switch (result->verdict)
	{
		case LPU_UNAUTHORIZED:
		case LPU_FORBIDDEN:
			lpu_delivery_hold_role(d, l->options, l->row, LPU_HOLD_CREDENTIALS, why);
			return false;
		case LPU_REJECTED:
		case LPU_MISDIRECTED:
			lpu_delivery_hold_role(d, l->options, l->row, LPU_HOLD_SETUP, why);
			return false;
		default:
			postpone(d, l, presence, result, why);
			return result->verdict == LPU_LATER;
	}
}

/* Rows may be claimed now.  The turn starts after the listing. */
static LpuStep
end_look_ahead(LpuDelivery *d, const struct LpuLookAhead *l)
{
	lpu_delivery_extend_turn(d, TimestampDifferenceMilliseconds(l->since, GetCurrentTimestamp()));
	/* stopped before the other servers were listed */
	if (l->cell != NULL)
		lpu_delivery_end_round(d);
	d->must_look = false;
	d->look_ahead = NULL;
	return LPU_STEP_MOVED;
}

/*
 * List the account before the rows of a round are claimed, if necessary.  Return the progress of
 * the listing, or LPU_STEP_OVER if none is needed. Called outside of a transaction.
 */
LpuStep
lpu_delivery_look_ahead(LpuDelivery *d, long *wait_ms)
{
	struct LpuLookAhead *l = d->look_ahead;

	if (!d->must_look)
		return LPU_STEP_OVER;
	if (l == NULL)
		l = d->look_ahead = begin_look_ahead(d);
	while (l->cell != NULL && !lpu_delivery_must_stop(d))
	{
		LpuPresence *presence = lfirst(l->cell);
		LpuListingResult result;
		MemoryContext caller;
		bool		enough;

		if (l->options == NULL && !list_as_next_role(d, l, presence))
		{
			(void) next_presence(d, l);
			continue;
		}
		if (!lpu_lookup_done(presence->users, wait_ms))
			return LPU_STEP_WAITS;
		caller = lpu_delivery_begin(d);
		lpu_lookup_finish(presence->users, &result);
		d->totals->requests += result.requests;
		enough = use_listing(d, l, presence, &result);
		lpu_delivery_commit(d, caller);
		l->options = NULL;
		if (enough)
			(void) next_presence(d, l);
	}
	return end_look_ahead(d, l);
}

/* ----- what is claimed ----- */

/*
 * In a step: return true, with the state of the row set, if a user has its login now, and an older
 * request that has yet to be carried out takes the login from this user.  The row did not create
 * the user, and waits.
 */
bool
lpu_delivery_login_becomes_free(LpuDelivery *d, LpuQueueRow *row, const LpuListedUser *user)
{
	int64		wait_ms;
	int64		request;
	char	   *why;

	if (user->namesake != 0)
		return false;
	request = lpu_claim_find_freeing(d->account, row, user->id, &wait_ms);
	if (request == 0)
		return false;
	why = psprintf("user " INT64_FORMAT " has this login until request " INT64_FORMAT " is done",
				   user->id, request);
	lpu_rows_set(&row, 1, LPU_STATE_PENDING, NULL, why, Max(wait_ms, MIN_FREE_MS));
	return true;
}

/* The login of the row is to be looked up again: leave the row to the next round. */
static void
postpone_row(LpuDelivery *d, LpuQueueRow *row)
{
	lpu_rows_set_later(&row, 1, NULL, 0);
	lpu_delivery_settle(d, &row, 1);
	lpu_delivery_end_round(d);
}

/*
 * The account has a user with the row's login, unless a change has taken it from the user since the
 * account was listed.  A row that was sent before may have created the user, so it is looked up.
 */
static void
settle_present(LpuDelivery *d, LpuQueueRow *row, const LpuListedUser *user)
{
	char	   *why = lpu_lookup_namesakes(user);

	row->unsent = true;
	if (lpu_delivery_login_becomes_free(d, row, user))
	{
		lpu_delivery_settle(d, &row, 1);
		return;
	}
	if (!row->sent_before && d->changed)
	{
		postpone_row(d, row);
		return;
	}
	if (row->sent_before)
	{
		lpu_rows_set(&row, 1, LPU_STATE_UNCERTAIN, NULL, "the account has a user with this login",
					 0);
		lpu_delivery_settle(d, &row, 1);
		return;
	}
	if (why == NULL)
	{
		why = psprintf("login exists: user " INT64_FORMAT " (%s)", user->id,
					   user->enabled ? "enabled" : "disabled");
		row->user_id = user->id;
	}
	lpu_row_set_failed(row, LPU_CAUSE_REFUSED, MemoryContextStrdup(lpu_claim_context(row), why));
	lpu_delivery_settle_looked(d, row);
}

/*
 * In a step: make batches of claimed rows of one role and server whose users the account does not
 * have.
 */
void
lpu_delivery_make_batches(LpuDelivery *d, const LpuOptions *options, LpuQueueRow **rows, int n)
{
	const LpuPresence *presence = find_presence(d, rows[0]->server);
	bool		few = presence == NULL || presence->few;
	const LpuListFailure *failure;
	int			absent = 0;
	int			size;
	int			i;

	failure = presence == NULL ? NULL : find_failure(presence, options->mapping);
	if (failure != NULL)
	{
		LpuNextChange sender = {rows[0]->server, rows[0]->role};

		lpu_rows_set_later(rows, n, failure->why, failure->wait_ms);
		for (i = 0; i < n; i++)
			rows[i]->status = failure->status;
		lpu_delivery_settle(d, rows, n);
		lpu_delivery_end_round(d);
		if (OidIsValid(failure->mapping))
			lpu_delivery_note_unreachable(d, options, &sender, failure->since, failure->why,
										  failure->wait_ms);
		return;
	}
	for (i = 0; i < n; i++)
	{
		const LpuListedUser *user = few ? NULL :
		lpu_lookup_find(presence->users, rows[i]->login_name);

		if (user != NULL)
			settle_present(d, rows[i], user);
		else if (!few && !lpu_lookup_has(presence->users, rows[i]->login_name))
			postpone_row(d, rows[i]);
		else
			rows[absent++] = rows[i];
	}
	size = few ? 1 : options->batch_size;
	for (i = 0; i < absent; i += size)
		d->ready = lappend(d->ready, lpu_batch_new(options, rows + i, Min(size, absent - i)));
}

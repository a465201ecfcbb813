/*
 * change_order.c: requests of a chain that wait for others outside of it.
 *
 * Once a listing has shown the id of a login, requests for one user are sent in the order of their
 * ids, whether they name the user by id or by login: the oldest is judged, the others go back into
 * the queue with the id of their user.  Requests that wait for a user by its login find the user
 * after a rename, too.
 *
 * A request by id must not overtake an older one by login that waits for its retry or lookup, or is
 * held: the first read of a chain also shows the users of such requests.  Nor must it change a user
 * before the lookup of an older create with the login of this user, which compares the user with
 * what was sent.
 *
 * A rename to the login of another user waits for the older request that takes the login from this
 * user, also if that one waits for its retry or lookup.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "base/account_lock.h"
#include "base/text_table.h"
#include "delivery/change_chain.h"
#include "queue/claim_doubt.h"
#include "user/login.h"

/* Minimum time that a change waits for an older request: a lookup begins when nothing is due. */
#define MIN_WAIT_MS 1000

/* Return true if a user was found by its login in the current read or an earlier one. */
static bool
is_found(const LpuChangedUser *user)
{
	return user->row != NULL && user->login_key != NULL && user->id != 0;
}

/* Return the requests of the chain, in the current memory context. */
static LpuOrderedRows
rows_of(const LpuChangeChain *chain)
{
	LpuOrderedRows rows = {.account = chain->delivery->account,.server = chain->sender.server,
	.role = chain->sender.role};
	int64	   *claimed = palloc(Max(chain->n, 1) * sizeof(int64));
	int			i;

	for (i = 0; i < chain->n; i++)
		if (chain->users[i].row != NULL)
			claimed[rows.nclaimed++] = chain->users[i].row->id;
	rows.claimed = claimed;
	return rows;
}

/* A create to be looked up. */
typedef struct SoughtCreate
{
	const char *login_key;		/* folded login, UTF-8 */
	int64		request;
	int64		wait_ms;		/* until the lookup */
} SoughtCreate;

/* Note the older creates that are to be looked up. */
static void
find_uncertain_creates(LpuChangeChain *chain, int64 newest)
{
	LpuUncertainCreate *creates;
	int			n;
	int			i;

	creates = lpu_claim_find_uncertain_creates(chain->delivery->account, chain->sender.server,
											   newest, &n);
	if (n == 0)
		return;
	chain->creates = lpu_text_table("lpusers creates to be looked up", sizeof(SoughtCreate), n);
	for (i = 0; i < n; i++)
	{
		char	   *key = lpu_login_key(creates[i].login_name);
		SoughtCreate *entry = hash_search(chain->creates, &key, HASH_ENTER, NULL);

		entry->request = creates[i].id;
		entry->wait_ms = creates[i].wait_ms;
	}
}

/* In a step, before users are read: note the older unfinished requests by login, if any. */
void
lpu_chain_find_older(LpuChangeChain *chain)
{
	LpuOrderedRows rows = {.account = chain->delivery->account,.server = chain->sender.server,
	.role = chain->sender.role};
	int64		newest = 0;
	int			i;

	for (i = 0; i < chain->n; i++)
		if (chain->users[i].id != 0)
			newest = Max(newest, chain->users[i].row->id);
	if (newest == 0)
		return;
	chain->waiting = lpu_claim_find_older_by_login(&rows, newest, &chain->nolder);
	chain->older = palloc0(Max(chain->nolder, 1) * sizeof(LpuChangedUser));
	for (i = 0; i < chain->nolder; i++)
		chain->older[i].login_key = lpu_login_key(chain->waiting[i].login_name);
	find_uncertain_creates(chain, newest);
}

/* ----- the oldest requests of each user ----- */

/* The oldest requests of a user whose id is known; 0: none. */
typedef struct OldestRequests
{
	int64		user;
	int64		any;			/* in the chain */
	int64		by_login;		/* ... by login */
	int64		outside;		/* by login, which waits or is uncertain */
} OldestRequests;

static void
note_older(int64 *oldest, int64 request)
{
	if (*oldest == 0 || request < *oldest)
		*oldest = request;
}

static OldestRequests *
enter_user(HTAB *table, int64 user)
{
	bool		found;
	OldestRequests *entry = hash_search(table, &user, HASH_ENTER, &found);

	if (!found)
		entry->any = entry->by_login = entry->outside = 0;
	return entry;
}

/* Return the oldest requests of the users that were read, a table in the current memory context. */
static HTAB *
find_oldest(const LpuChangeChain *chain)
{
	HASHCTL		ctl = {.keysize = sizeof(int64),.entrysize = sizeof(OldestRequests),
	.hcxt = CurrentMemoryContext};
	HTAB	   *table = hash_create("lpusers oldest requests", 256, &ctl,
									HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	int			i;

	for (i = 0; i < chain->nreading; i++)
	{
		const LpuChangedUser *user = chain->reading[i];
		OldestRequests *entry;

		if (user->row == NULL || user->id == 0)
			continue;
		entry = enter_user(table, user->id);
		note_older(&entry->any, user->row->id);
		if (user->login_key != NULL)
			note_older(&entry->by_login, user->row->id);
	}
	for (i = 0; i < chain->nolder; i++)
		if (chain->older[i].entity != NULL)
			note_older(&enter_user(table, chain->older[i].id)->outside, chain->waiting[i].id);
	return table;
}

/*
 * Return true if an older request of the same user goes first, one of the two by login.  An
 * uncertain request does not wait for one outside the chain, which waits for it.
 */
static bool
has_older(HTAB *table, const LpuChangedUser *user)
{
	const OldestRequests *entry = hash_search(table, &user->id, HASH_FIND, NULL);
	int64		oldest;

	if (entry == NULL)
		return false;
	oldest = user->login_key != NULL ? entry->any : entry->by_login;
	return (oldest != 0 && oldest < user->row->id) ||
		(entry->outside != 0 && entry->outside < user->row->id && !user->row->doubtful);
}

/* ----- requests that wait ----- */

/* Return the request to the queue: another one of its user goes first. */
static void
set_back(LpuChangeChain *chain, LpuChangedUser *user, int64 wait_ms)
{
	user->blocked = true;
	lpu_chain_set_back(user->row, NULL, wait_ms, 0);
	lpu_chain_settle(chain, &user, 1, false);
}

/*
 * Store the users of the older requests by login that were found: newer requests of these users
 * wait for them.  An uncertain one is in flight, so it can get its user only after the newer ones
 * have been returned to the queue.
 */
static void
keep_older(LpuChangeChain *chain)
{
	LpuOrderedRows rows = {.account = chain->delivery->account,.server = chain->sender.server,
	.role = chain->sender.role};
	int64	   *ids = palloc(Max(chain->nolder, 1) * sizeof(int64));
	int64	   *users = palloc(Max(chain->nolder, 1) * sizeof(int64));
	char	  **logins = palloc(Max(chain->nolder, 1) * sizeof(char *));
	int			n = 0;
	int			i;

	for (i = 0; i < chain->nolder; i++)
		if (chain->older[i].entity != NULL)
		{
			ids[n] = chain->waiting[i].id;
			users[n] = chain->older[i].id;
			logins[n++] = chain->waiting[i].login_name;
		}
	chain->nolder = 0;
	if (n == 0)
		return;
	lpu_delivery_write_settled(chain->delivery);
	/* a row that is locked by another transaction does not keep its user */
	if (lpu_claim_keep_users(&rows, ids, users, logins, n) < n)
		chain->delivery->changes_locked = true;
}

static int
compare_requests(const void *a, const void *b)
{
	int64		left = *(const int64 *) a;
	int64		right = *(const int64 *) b;

	return left < right ? -1 : left > right;
}

/*
 * Return to the queue the requests whose users were found by their logins and that wait for
 * requests outside the chain; a claim knows of those that have the id.
 */
static void
set_back_blocked(LpuChangeChain *chain)
{
	LpuOrderedRows rows = rows_of(chain);
	int64	   *ids = palloc(chain->nreading * sizeof(int64));
	int64	   *users = palloc(chain->nreading * sizeof(int64));
	int64	   *blocked;
	int			nblocked;
	int			n = 0;
	int			i;

	for (i = 0; i < chain->nreading; i++)
		if (is_found(chain->reading[i]))
		{
			ids[n] = chain->reading[i]->row->id;
			users[n++] = chain->reading[i]->id;
		}
	if (n == 0)
		return;
	blocked = lpu_claim_find_blocked(&rows, ids, users, n, &nblocked);
	if (nblocked == 0)
		return;
	qsort(blocked, nblocked, sizeof(int64), compare_requests);
	for (i = 0; i < chain->nreading; i++)
		if (is_found(chain->reading[i]) &&
			bsearch(&chain->reading[i]->row->id, blocked, nblocked, sizeof(int64),
					compare_requests) != NULL)
			set_back(chain, chain->reading[i], 0);
}

/* Return to the queue the requests whose users may be those of creates to be looked up. */
static void
wait_for_lookups(LpuChangeChain *chain)
{
	int			i;

	for (i = 0; chain->creates != NULL && i < chain->nreading; i++)
	{
		LpuChangedUser *user = chain->reading[i];
		const SoughtCreate *create;

		/* what an uncertain request changes may be changed already */
		if (user->row == NULL || user->row->doubtful || user->login == NULL)
			continue;
		create = hash_search(chain->creates, &user->login, HASH_FIND, NULL);
		if (create != NULL && create->request < user->row->id)
			set_back(chain, user, Max(create->wait_ms, MIN_WAIT_MS));
	}
}

/* Fail the requests by a login that several users have. */
static void
fail_ambiguous(LpuChangeChain *chain)
{
	int			i;

	for (i = 0; i < chain->nreading; i++)
	{
		LpuChangedUser *user = chain->reading[i];
		char	   *why;

		if (user->row == NULL || user->namesakes[1] == 0)
			continue;
		why = psprintf("several users have this login: " INT64_FORMAT " and " INT64_FORMAT,
					   user->namesakes[0], user->namesakes[1]);
		lpu_row_set_failed(user->row, user->row->doubtful ? LPU_CAUSE_GAVE_UP : LPU_CAUSE_REFUSED,
						   MemoryContextStrdup(lpu_claim_context(user->row), why));
		user->row->unsent = true;
		lpu_chain_settle(chain, &user, 1, true);
	}
}

/*
 * In a step, after users were read: settle those that have to wait for other requests of their
 * user, and those whose login does not name one user.
 */
void
lpu_chain_put_in_order(LpuChangeChain *chain)
{
	bool		found = chain->nolder > 0;
	HTAB	   *table;
	int			i;

	fail_ambiguous(chain);
	wait_for_lookups(chain);
	for (i = 0; i < chain->nreading && !found; i++)
		found = is_found(chain->reading[i]);
	if (!found)
		return;
	table = find_oldest(chain);
	for (i = 0; i < chain->n; i++)
		if (chain->users[i].row != NULL && chain->users[i].id != 0 &&
			has_older(table, &chain->users[i]))
			set_back(chain, &chain->users[i], 0);
	keep_older(chain);
	set_back_blocked(chain);
}

/* ----- logins of other users ----- */

/* Set a user whose rename has to wait. */
static void
set_awaiting(LpuChangedUser *user, const LpuWaitingRename *rename, int status)
{
	char	   *why = psprintf("the loginName is free when request " INT64_FORMAT " is done",
							   rename->older);

	lpu_chain_set_back(user->row, NULL, Max(rename->wait_ms, MIN_WAIT_MS), status);
	user->row->reason = MemoryContextStrdup(lpu_claim_context(user->row), why);
}

/* Return to the queue those of the users whose new logins older requests have yet to free. */
static int
set_back_awaiting(LpuChangeChain *chain, LpuChangedUser **users, int n)
{
	LpuOrderedRows rows = rows_of(chain);
	int64	   *ids = palloc(Max(n, 1) * sizeof(int64));
	LpuWaitingRename *waiting;
	int			nwaiting;
	int			nids = 0;
	int			i;
	int			j;

	for (i = 0; i < n; i++)
		if (users[i]->row != NULL && users[i]->body != NULL && users[i]->renamed_to != NULL)
			ids[nids++] = users[i]->row->id;
	if (nids == 0)
		return 0;
	lpu_delivery_write_settled(chain->delivery);
	waiting = lpu_claim_find_waiting_renames(&rows, ids, nids, &nwaiting);
	for (j = 0; j < nwaiting; j++)
		for (i = 0; i < n; i++)
			if (users[i]->row != NULL && users[i]->row->id == waiting[j].id)
			{
				set_awaiting(users[i], &waiting[j], 0);
				lpu_chain_settle(chain, &users[i], 1, false);
			}
	return nwaiting;
}

/*
 * In a step, after users were judged: set back the renames whose logins are not free yet, and then
 * those that need the logins of these.
 */
void
lpu_chain_await_logins(LpuChangeChain *chain, LpuChangedUser **users, int n)
{
	while (set_back_awaiting(chain, users, n) > 0)
		CHECK_FOR_INTERRUPTS();
}

/*
 * In a step, after the account has refused a user with this status: return true, with the state of
 * the row set, if an older request has yet to free its new login.
 */
bool
lpu_chain_awaits_login(LpuChangeChain *chain, LpuChangedUser *user, int status)
{
	LpuOrderedRows rows = rows_of(chain);
	LpuWaitingRename *waiting;
	int			nwaiting;

	lpu_delivery_write_settled(chain->delivery);
	waiting = lpu_claim_find_waiting_renames(&rows, &user->row->id, 1, &nwaiting);
	if (nwaiting > 0)
		set_awaiting(user, &waiting[0], status);
	return nwaiting > 0;
}

/* In a step, after users were judged: some are about to be renamed. */
void
lpu_chain_follow_renames(LpuChangeChain *chain)
{
	LpuOrderedRows rows = rows_of(chain);
	int64	   *users = palloc(Max(chain->nreading, 1) * sizeof(int64));
	char	  **logins = palloc(Max(chain->nreading, 1) * sizeof(char *));
	int			n = 0;
	int			i;
	int			j;

	for (i = 0; i < chain->nreading; i++)
	{
		const LpuChangedUser *user = chain->reading[i];
		char	   *key;

		if (user->row == NULL || user->body == NULL || user->renamed_to == NULL ||
			user->renamed_from[0] == '\0')
			continue;
		users[n] = user->id;
		logins[n++] = unconstify(char *, user->renamed_from);
		/* other users of the chain, not read yet */
		key = lpu_login_key(user->renamed_from);
		for (j = 0; j < chain->n; j++)
			if (chain->users[j].row != NULL && chain->users[j].id == 0 &&
				strcmp(chain->users[j].login_key, key) == 0)
				chain->users[j].id = user->id;
	}
	if (n > 0)
		lpu_claim_follow_renames(&rows, users, logins, n);
}

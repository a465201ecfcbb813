/*
 * change_order.c: users of a chain that are named by id and by login.
 *
 * Once a listing has shown the id of a login, requests for one user are sent in the order of their
 * ids, whether they name the user by id or by login: the oldest is judged, the others go back into
 * the queue with the id of their user.  Requests that wait for a user by its login find the user
 * after a rename, too.
 *
 * A request by id must not overtake an older one by login that waits for its retry or is held: the
 * first read of a chain also shows the users of such requests.
 */
#include "postgres.h"

#include "base/account_lock.h"
#include "delivery/change_chain.h"
#include "user/login.h"

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
	LpuOrderedRows rows = {.account = chain->delivery->account,.server = chain->sender.server};
	int64	   *claimed = palloc(Max(chain->n, 1) * sizeof(int64));
	int			i;

	for (i = 0; i < chain->n; i++)
		if (chain->users[i].row != NULL)
			claimed[rows.nclaimed++] = chain->users[i].row->id;
	rows.claimed = claimed;
	return rows;
}

/* In a step, before users are read: note the older waiting requests by login, if any. */
void
lpu_chain_find_older(LpuChangeChain *chain)
{
	LpuOrderedRows rows = {.account = chain->delivery->account,.server = chain->sender.server};
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
}

/*
 * Store the users of the older requests by login that were found.  Return true if there are any.
 */
static bool
keep_older(LpuChangeChain *chain)
{
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
	if (n > 0)
		lpu_claim_keep_users(ids, users, logins, n);
	return n > 0;
}

/* Return true if the chain has an older request for the same user. */
static bool
has_older_twin(const LpuChangeChain *chain, const LpuChangedUser *user)
{
	int			i;

	for (i = 0; i < chain->nreading; i++)
	{
		const LpuChangedUser *other = chain->reading[i];

		if (other != user && other->row != NULL && other->id == user->id &&
			(user->login_key != NULL || other->login_key != NULL) && other->row->id < user->row->id)
			return true;
	}
	return false;
}

static void
set_back(LpuChangeChain *chain, LpuChangedUser *user)
{
	lpu_chain_set_back(user->row, NULL, 0, 0);
	lpu_chain_settle(chain, &user, 1, false);
}

/*
 * Return true if the user may have requests outside the chain that go first: a claim knows of those
 * that have its id.  An uncertain request by id does not wait, since the others wait for it.
 */
static bool
may_wait(const LpuChangedUser *user, bool older)
{
	return is_found(user) || (older && user->row != NULL && user->id != 0 && !user->row->doubtful);
}

/*
 * Return to the queue the requests that wait for requests outside the chain.  older: some of those
 * by login have got their users just now.
 */
static void
set_back_blocked(LpuChangeChain *chain, bool older)
{
	LpuOrderedRows rows = rows_of(chain);
	int64	   *ids = palloc(chain->nreading * sizeof(int64));
	int64	   *users = palloc(chain->nreading * sizeof(int64));
	int64	   *blocked;
	int			nblocked;
	int			n = 0;
	int			i;
	int			j;

	for (i = 0; i < chain->nreading; i++)
		if (may_wait(chain->reading[i], older))
		{
			ids[n] = chain->reading[i]->row->id;
			users[n++] = chain->reading[i]->id;
		}
	blocked = lpu_claim_find_blocked(&rows, ids, users, n, &nblocked);
	for (j = 0; j < nblocked; j++)
		for (i = 0; i < chain->nreading; i++)
			if (chain->reading[i]->row != NULL && chain->reading[i]->row->id == blocked[j])
			{
				chain->reading[i]->blocked = true;
				set_back(chain, chain->reading[i]);
			}
}

/*
 * In a step, after users were read: settle those that have to wait for other requests of their
 * user.
 */
void
lpu_chain_put_in_order(LpuChangeChain *chain)
{
	int			nfound = 0;
	bool	   *waits = palloc0(Max(chain->nreading, 1) * sizeof(bool));
	bool		older = keep_older(chain);
	int			i;

	for (i = 0; i < chain->nreading; i++)
		nfound += is_found(chain->reading[i]);
	if (nfound == 0 && !older)
		return;
	for (i = 0; i < chain->nreading; i++)
		waits[i] = chain->reading[i]->row != NULL && chain->reading[i]->id != 0 &&
			has_older_twin(chain, chain->reading[i]);
	for (i = 0; i < chain->nreading; i++)
		if (waits[i])
		{
			chain->reading[i]->blocked = true;
			set_back(chain, chain->reading[i]);
		}
	set_back_blocked(chain, older);
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

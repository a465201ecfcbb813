/*
 * change_read.c: reading the current state of the users that are to be changed.
 *
 * The revision is read first, by a cheap request, then the users: a change of the account in
 * between makes the write stale, and is never overwritten.  A few users are read by single
 * requests, several at a time, since these cost less than a listing of a large account; more users
 * are read by one listing.  Finding users by their login takes a listing.  A service may show a
 * new user late: one with an id is gone only if a request for it and a listing both lack it, or if
 * the response says that it was deleted.
 *
 * A read takes steps that do not wait.  The read and its entities live in the memory context that
 * was the current one at the start.
 */
#include "postgres.h"

#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "api/conditional_write.h"
#include "base/encoding.h"
#include "base/text_table.h"
#include "delivery/change_read.h"
#include "http/request.h"
#include "user/json_to_datum.h"
#include "user/login.h"

/* Next action of a read. */
typedef enum ReadStep
{
	READ_REVISION,				/* from one user */
	READ_REVISION_OF_LIST,
	READ_USERS,					/* one by one */
	READ_LIST,
	READ_OVER
} ReadStep;

/* A user sought in a listing, by its id or by its login. */
typedef struct SoughtUser
{
	const char *key;			/* folded login or id, UTF-8 */
	LpuChangedUser *user;
} SoughtUser;

/* A GET of one user under way. */
typedef struct ReadGet
{
	LpuUserQuery query;
	LpuUserList *list;			/* or NULL */
	LpuChangeRead *read;
	LpuChangedUser *user;
	bool		other;			/* the response shows another user, or none */
} ReadGet;

struct LpuChangeRead
{
	MemoryContext context;
	LpuDelivery *delivery;
	const LpuOptions *options;
	LpuChangedUser **users;
	int			n;
	ReadStep	step;
	LpuUserQuery query;			/* of the revision, or of the listing */
	LpuUserList *list;			/* ... under way, or NULL */
	ReadGet    *gets;			/* up to the maximum number under way */
	int			ngets;
	int			next;			/* the user that is to be read next */
	bool		absent;			/* a request for a user got 404 */
	bool		listed;			/* the account has been listed */
	HTAB	   *sought;			/* of SoughtUser, for a listing */
	LpuListingResult result;	/* revision; known: all users were read */
};

/* Attributes that are read of each user, besides its JSON. */
static const char *const attributes[] = {"id", "loginName", "deleted"};

enum
{
	ID,
	LOGIN_NAME,
	DELETED
};

/* ----- sought users ----- */

static SoughtUser *
find_user(LpuChangeRead *r, const char *key)
{
	return hash_search(r->sought, &key, HASH_FIND, NULL);
}

/*
 * Begin to list the users that were not read yet.  Since a login may be a number, ids get a prefix
 * that no login has.
 */
static void
begin_list(LpuChangeRead *r)
{
	MemoryContext caller = MemoryContextSwitchTo(r->context);
	int			i;

	r->step = READ_LIST;
	r->sought = lpu_text_table("lpusers sought users", sizeof(SoughtUser), 256);
	MemoryContextSwitchTo(caller);
	for (i = 0; i < r->n; i++)
	{
		LpuChangedUser *user = r->users[i];
		const char *key = user->id != 0 ? psprintf("\t" INT64_FORMAT, user->id) : user->login_key;
		bool		found;
		SoughtUser *entry;

		if (user->entity != NULL)
			continue;
		entry = hash_search(r->sought, &key, HASH_ENTER, &found);
		/* the other request is in the next read */
		if (!found)
			entry->user = user;
	}
}

/* Store the entity of a user that was found.  login: UTF-8, or NULL. */
static void
keep_user(LpuChangeRead *r, LpuChangedUser *user, int64 id, const char *login, const char *entity)
{
	user->id = id;
	user->login = login ? MemoryContextStrdup(r->context, lpu_login_fold_utf8(login)) : NULL;
	user->entity = MemoryContextStrdup(r->context, entity);
}

/* Keep a user of the listing if it is sought.  A LpuTakeUser. */
static const char *
take_listed(void *arg, LpuReader *reader)
{
	LpuChangeRead *r = arg;
	const LpuValue *values = lpu_reader_values(reader);
	const char *id_text = lpu_value_text(&values[ID]);
	const char *login = lpu_value_text(&values[LOGIN_NAME]);
	SoughtUser *entry;
	int64		id;

	if (lpu_value_is_true(&values[DELETED]))
		return NULL;
	if (login == NULL || id_text == NULL || !lpu_text_as_int64(id_text, &id) || id <= 0)
		return LPU_USER_UNNAMED;
	entry = find_user(r, psprintf("\t" INT64_FORMAT, id));
	if (entry != NULL)
		keep_user(r, entry->user, id, login, lpu_reader_whole(reader)->text);
	entry = find_user(r, lpu_login_fold_utf8(login));
	if (entry == NULL)
		return NULL;
	if (entry->user->entity == NULL)
		keep_user(r, entry->user, id, login, lpu_reader_whole(reader)->text);
	else if (entry->user->id != id)
		entry->user->namesakes[1] = id;
	return NULL;
}

/* The read is over: users found by a login that several users have were not found. */
static void
drop_namesakes(LpuChangeRead *r)
{
	int			i;

	for (i = 0; i < r->n; i++)
	{
		LpuChangedUser *user = r->users[i];

		if (user->namesakes[1] == 0)
			continue;
		user->namesakes[0] = user->id;
		user->id = 0;
		user->entity = NULL;
	}
}

/* Keep a user that was requested by its id, if the response shows this one.  A LpuTakeUser. */
static const char *
take_one(void *arg, LpuReader *reader)
{
	ReadGet    *get = arg;
	const LpuValue *values = lpu_reader_values(reader);
	const char *id_text = lpu_value_text(&values[ID]);
	int64		id;

	get->other = id_text == NULL || !lpu_text_as_int64(id_text, &id) || id != get->user->id;
	if (!get->other && !lpu_value_is_true(&values[DELETED]))
		keep_user(get->read, get->user, get->user->id, lpu_value_text(&values[LOGIN_NAME]),
				  lpu_reader_whole(reader)->text);
	return NULL;
}

/* ----- steps ----- */

/* End the read with a failure. */
static void
fail(LpuChangeRead *r, const LpuListingResult *result)
{
	int64		revision = r->result.revision;

	r->result = *result;
	r->result.known = false;
	r->result.revision = revision;
	r->step = READ_OVER;
}

/* End a list, and count its requests.  Needs no step of the delivery under way. */
static void
finish_list(LpuChangeRead *r, LpuUserList *list, LpuListingResult *result)
{
	MemoryContext caller = lpu_delivery_begin(r->delivery);

	lpu_user_list_finish(list, r->context, result);
	r->delivery->totals->requests += result->requests;
	lpu_delivery_commit(r->delivery, caller);
}

/* Start the listing of the current step.  Return false if it is too early. */
static bool
start_list(LpuChangeRead *r, int64 user_id, const char *query, LpuTakeUser take)
{
	MemoryContext caller;

	if (!lpu_delivery_may_request(r->delivery))
		return false;
	caller = MemoryContextSwitchTo(r->context);
	memset(&r->query, 0, sizeof(LpuUserQuery));
	r->query.user_id = user_id;
	r->query.query = query;
	r->query.names = attributes;
	r->query.nnames = lengthof(attributes);
	r->query.whole = take != NULL;
	r->query.take = take;
	r->query.arg = r;
	r->list = lpu_user_list_start(r->options, &r->query);
	MemoryContextSwitchTo(caller);
	return true;
}

/* Continue the list of the current step.  Return false if this has to wait; else set *result. */
static bool
step_list(LpuChangeRead *r, int64 user_id, const char *query, LpuTakeUser take,
		  LpuListingResult *result, long *wait_ms)
{
	if (r->list == NULL && !start_list(r, user_id, query, take))
	{
		*wait_ms = lpu_delivery_request_wait(r->delivery);
		return false;
	}
	if (!lpu_user_list_done(r->list, wait_ms))
		return false;
	finish_list(r, r->list, result);
	r->list = NULL;
	return true;
}

static int64
first_id(const LpuChangeRead *r)
{
	int			i;

	for (i = 0; i < r->n; i++)
		if (r->users[i]->id != 0)
			return r->users[i]->id;
	return 0;
}

static bool
all_have_ids(const LpuChangeRead *r)
{
	int			i;

	for (i = 0; i < r->n && r->users[i]->id != 0; i++)
		;
	return i == r->n;
}

/* The revision is known, or not available. */
static void
begin_users(LpuChangeRead *r)
{
	if (r->n <= LPU_MAX_REREADS && all_have_ids(r))
		r->step = READ_USERS;
	else
		begin_list(r);
}

/* Read the revision, from one user or from the list of all users, requesting only their ids. */
static bool
step_revision(LpuChangeRead *r, long *wait_ms)
{
	LpuListingResult result;
	int64		id = r->step == READ_REVISION ? first_id(r) : 0;

	if (!step_list(r, id, "&select=id", NULL, &result, wait_ms))
		return false;
	if (!result.known)
	{
		fail(r, &result);
		return true;
	}
	r->result.revision = result.revision;
	/* the response for a deleted user may have none */
	if (result.revision < 0 && r->step == READ_REVISION && result.absent)
		r->step = READ_REVISION_OF_LIST;
	else
		begin_users(r);
	return true;
}

static bool
read_listing(LpuChangeRead *r, long *wait_ms)
{
	LpuListingResult result;

	if (!step_list(r, 0, "&select=$all", take_listed, &result, wait_ms))
		return false;
	drop_namesakes(r);
	if (!result.known)
		fail(r, &result);
	else
		r->step = READ_USERS;	/* those that it lacks */
	r->listed = true;
	return true;
}

/* Advance to the next user that has an id and was not read.  Return false if there is none. */
static bool
has_next(LpuChangeRead *r)
{
	while (r->next < r->n &&
		   (r->users[r->next]->entity != NULL || r->users[r->next]->id == 0))
		r->next++;
	return r->next < r->n;
}

/*
 * Start GETs for the next users, up to the maximum number under way.  The chain counts as one of
 * the role's requests.
 */
static void
start_gets(LpuChangeRead *r)
{
	MemoryContext caller = MemoryContextSwitchTo(r->context);
	bool		others = false;
	int			i;

	for (i = 0; i < r->ngets; i++)
		others |= r->gets[i].list != NULL;
	for (i = 0; i < r->ngets && has_next(r); i++)
	{
		ReadGet    *get = &r->gets[i];

		if (get->list != NULL)
			continue;
		if ((others && !lpu_http_has_room(r->options->payer)) ||
			!lpu_delivery_may_request(r->delivery))
			break;
		others = true;
		get->read = r;
		get->user = r->users[r->next++];
		get->other = false;
		memset(&get->query, 0, sizeof(LpuUserQuery));
		get->query.user_id = get->user->id;
		get->query.query = "&select=$all";
		get->query.names = attributes;
		get->query.nnames = lengthof(attributes);
		get->query.whole = true;
		get->query.take = take_one;
		get->query.arg = get;
		get->list = lpu_user_list_start(r->options, &get->query);
	}
	MemoryContextSwitchTo(caller);
}

/* A GET has ended. */
static void
finish_get(LpuChangeRead *r, ReadGet *get)
{
	LpuListingResult result;

	finish_list(r, get->list, &result);
	get->list = NULL;
	if (result.known && get->other)
	{
		result.known = false;
		result.verdict = LPU_UNCERTAIN;
		result.why = "the response is another user";
	}
	if (!result.known)
		fail(r, &result);
	r->absent |= result.absent;
}

/* Read users one by one.  Return false if this has to wait. */
static bool
step_users(LpuChangeRead *r, long *wait_ms)
{
	bool		waits = false;
	int			i;

	start_gets(r);
	*wait_ms = -1;
	for (i = 0; i < r->ngets && r->step == READ_USERS; i++)
	{
		long		ms;

		if (r->gets[i].list == NULL)
			continue;
		if (lpu_user_list_done(r->gets[i].list, &ms))
		{
			finish_get(r, &r->gets[i]);
			return true;
		}
		waits = true;
		*wait_ms = lpu_delivery_shorter(*wait_ms, ms);
	}
	if (r->step == READ_USERS && !waits && has_next(r))
	{
		*wait_ms = lpu_delivery_request_wait(r->delivery);
		return false;
	}
	if (waits)
		return false;
	r->result.known = true;
	r->step = READ_OVER;
	if (r->absent && !r->listed)
		begin_list(r);
	return true;
}

/*
 * Begin to read users, in the current memory context, which must outlive the read; so must the
 * options.  All of them have an id or a login_key.
 */
LpuChangeRead *
lpu_change_read_start(LpuDelivery *d, const LpuOptions *options, LpuChangedUser **users, int n)
{
	LpuChangeRead *r = palloc0(sizeof(LpuChangeRead));
	int			i;

	r->context = CurrentMemoryContext;
	r->delivery = d;
	r->options = options;
	r->users = users;
	r->n = n;
	r->ngets = Min(n, options->max_connections);
	r->gets = palloc0(r->ngets * sizeof(ReadGet));
	r->result.revision = -1;
	r->step = first_id(r) != 0 ? READ_REVISION : READ_REVISION_OF_LIST;
	for (i = 0; i < n; i++)
	{
		users[i]->seen = false;
		users[i]->login = users[i]->entity = NULL;
		users[i]->namesakes[0] = users[i]->namesakes[1] = 0;
	}
	return r;
}

/*
 * Continue, without waiting.  Return true if all users were read, or reading has failed.  Else set
 * *wait_ms to the time to wait for the network.  Called outside of a transaction; serves
 * interrupts.
 */
bool
lpu_change_read_done(LpuChangeRead *r, long *wait_ms)
{
	bool		moved = true;
	int			i;

	while (moved && r->step != READ_OVER)
		switch (r->step)
		{
			case READ_REVISION:
			case READ_REVISION_OF_LIST:
				moved = step_revision(r, wait_ms);
				break;
			case READ_USERS:
				moved = step_users(r, wait_ms);
				break;
			case READ_LIST:
				moved = read_listing(r, wait_ms);
				break;
			case READ_OVER:
				break;
		}
	for (i = 0; i < r->n && r->step == READ_OVER; i++)
		r->users[i]->seen = r->result.known;
	return r->step == READ_OVER;
}

/*
 * Return the result: "known" if the entities of all users were read, and the revision before that;
 * -1 if the account does not show one.
 */
const LpuListingResult *
lpu_change_read_result(const LpuChangeRead *r)
{
	return &r->result;
}

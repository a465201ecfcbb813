/*
 * identity.c: the users that the response to a create names.
 *
 * They are matched by login: by the login as it was sent, then as accounts may
 * store it (login.c).  If one user that was sent and one user of the response
 * are left, they are a pair.  By position they are matched only if the account has
 * stored other logins, and all e-mails show that the order is the same.  A response
 * that gives two users one id, or one login two ids, names none of them.  No tree is
 * built of a response of which only logins, ids and e-mails are needed.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "base/encoding.h"
#include "base/text_table.h"
#include "json/array_reader.h"
#include "user/identity.h"
#include "user/login.h"

/* A shorter login is no shortened form of another, since it may well be that of another user. */
#define MIN_SHORTENED 8

/* A user of the response. */
typedef struct AnsweredUser
{
	char	   *login_name;		/* or NULL */
	char	   *email;			/* or NULL */
	int64		id;				/* or 0 */
	bool		matched;
} AnsweredUser;

typedef struct AnsweredEntry
{
	const char *key;
	AnsweredUser *user;
} AnsweredEntry;

/* The element does not name a user. */
static void
forget_answered(AnsweredUser *user)
{
	user->login_name = user->email = NULL;
	user->id = 0;
}

static int
compare_answered(const void *a, const void *b)
{
	const AnsweredUser *left = *(AnsweredUser *const *) a;
	const AnsweredUser *right = *(AnsweredUser *const *) b;

	return left->id < right->id ? -1 : left->id > right->id;
}

static bool
is_same_login(const AnsweredUser *a, const AnsweredUser *b)
{
	return a->login_name != NULL && b->login_name != NULL &&
		strcmp(a->login_name, b->login_name) == 0;
}

/* Forget users that have one id and different logins. */
static void
forget_shared_ids(AnsweredUser *users, int n)
{
	AnsweredUser **sorted;
	int			from;
	int			i;
	int			j;

	/* a service assigns them in this order */
	for (i = 1; i < n && users[i - 1].id < users[i].id; i++)
		;
	if (i >= n)
		return;
	sorted = palloc(n * sizeof(AnsweredUser *));
	for (i = 0; i < n; i++)
		sorted[i] = &users[i];
	qsort(sorted, n, sizeof(AnsweredUser *), compare_answered);
	for (from = 0; from < n; from = i)
	{
		bool		shared = false;
		int64		id = sorted[from]->id;

		for (i = from + 1; i < n && sorted[i]->id == id; i++)
			shared |= !is_same_login(sorted[i], sorted[from]);
		for (j = from; shared && id != 0 && j < i; j++)
			forget_answered(sorted[j]);
	}
}

/* Read the users of a response. If any part of it is invalid, none of it is used. */
static AnsweredUser *
read_answer(const char *body, size_t length, int expected, int *n)
{
	static const char *const names[] = {"loginName", "id", "email", "error"};
	LpuReader  *reader = lpu_reader_new(names, lengthof(names), false);
	LpuReaderState state;
	int			capacity = Max(expected, 1);
	AnsweredUser *users = palloc0(capacity * sizeof(AnsweredUser));

	*n = 0;
	lpu_reader_feed(reader, body, length);
	lpu_reader_end(reader);
	while ((state = lpu_reader_next(reader)) == LPU_READER_ELEMENT)
	{
		const LpuValue *values = lpu_reader_values(reader);
		const char *login = lpu_value_text(&values[0]);
		const char *id = lpu_value_text(&values[1]);
		const char *email = lpu_value_text(&values[2]);

		CHECK_FOR_INTERRUPTS();
		if (*n == capacity)
		{
			capacity *= 2;
			users = repalloc(users, capacity * sizeof(AnsweredUser));
		}
		users[*n].login_name = login ? lpu_text_from_utf8(login) : NULL;
		users[*n].email = email ? lpu_text_from_utf8(email) : NULL;
		users[*n].matched = false;
		if (values[3].type > LPU_VALUE_NULL || id == NULL ||
			!lpu_text_as_int64(id, &users[*n].id) || users[*n].id <= 0)
			forget_answered(&users[*n]);
		++*n;
	}
	if (state != LPU_READER_END)
		*n = 0;
	forget_shared_ids(users, *n);
	return users;
}

static void
match(LpuAnsweredUser *sent, AnsweredUser *answered)
{
	sent->named = answered->matched = true;
	sent->id = answered->id;
}

/*
 * Match users in the order of the request, which responses usually have. Return true if all were
 * matched.
 */
static bool
match_in_order(LpuAnsweredUser *users, int n, AnsweredUser *answered, int nanswered)
{
	int			i;

	if (nanswered != n)
		return false;
	for (i = 0; i < n; i++)
		if (users[i].login_name == NULL || answered[i].login_name == NULL ||
			strcmp(answered[i].login_name, users[i].login_name) != 0)
			return false;
	for (i = 0; i < n; i++)
		match(&users[i], &answered[i]);
	return true;
}

/* Match what is left by a form of the logins. */
static void
match_by(char *(*form) (const char *login), LpuAnsweredUser *users, int n, AnsweredUser *answered,
		 int nanswered)
{
	HTAB	   *table = lpu_text_table("lpusers answered users", sizeof(AnsweredEntry), Max(nanswered, 16));
	AnsweredEntry *entry;
	const char *key;
	bool		found;
	int			i;

	for (i = 0; i < nanswered; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (answered[i].matched || answered[i].login_name == NULL)
			continue;
		key = form(answered[i].login_name);
		entry = hash_search(table, &key, HASH_ENTER, &found);
		if (!found)
			entry->user = &answered[i];
		else if (entry->user != NULL && entry->user->id != answered[i].id)
			entry->user = NULL; /* two users have the login */
		else
			answered[i].matched = true; /* repeated */
	}
	for (i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (users[i].named || users[i].login_name == NULL)
			continue;
		key = form(users[i].login_name);
		entry = hash_search(table, &key, HASH_FIND, NULL);
		if (entry != NULL && entry->user != NULL && !entry->user->matched)
			match(&users[i], entry->user);
	}
}

/*
 * Return true if an account may have stored a login in this form: cut, or without the tag of an
 * address such as user+tag@example.com.
 */
static bool
may_be_stored_as(const char *sent, const char *stored)
{
	char	   *full = lpu_login_fold(sent);
	char	   *form = lpu_login_fold(stored);
	char	   *tag = strchr(full, '+');
	char	   *domain = strrchr(full, '@');

	if (strlen(form) >= MIN_SHORTENED && strncmp(full, form, strlen(form)) == 0)
		return true;
	if (tag == NULL || domain == NULL || tag > domain)
		return false;
	memmove(tag, domain, strlen(domain) + 1);
	return strcmp(full, form) == 0;
}

/* The rest: one user that was sent, and one of the response whose login does not contradict it. */
static void
match_single_pair(LpuAnsweredUser *users, int n, AnsweredUser *answered, int nanswered)
{
	int			user = -1;
	int			other = -1;
	int			i;

	for (i = 0; i < n; i++)
		if (!users[i].named)
		{
			if (user >= 0)
				return;
			user = i;
		}
	for (i = 0; i < nanswered; i++)
		if (!answered[i].matched && answered[i].id != 0)
		{
			if (other >= 0)
				return;
			other = i;
		}
	if (user >= 0 && other >= 0 &&
		(answered[other].login_name == NULL || users[user].login_name == NULL ||
		 may_be_stored_as(users[user].login_name, answered[other].login_name)))
		match(&users[user], &answered[other]);
}

/*
 * Match what is left by position, if the response has as many users as were sent, and no login or
 * e-mail in it contradicts the order.
 */
static void
match_positions(LpuAnsweredUser *users, int n, AnsweredUser *answered, int nanswered)
{
	int			i;

	if (nanswered != n)
		return;
	for (i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (users[i].named ? users[i].id != answered[i].id :
			answered[i].matched || answered[i].id == 0 || users[i].email == NULL ||
			answered[i].email == NULL ||
			strcmp(lpu_login_fold(users[i].email), lpu_login_fold(answered[i].email)) != 0)
			return;
	}
	for (i = 0; i < n; i++)
		match(&users[i], &answered[i]);
}

/*
 * Set named and id of users that were sent from the body of a 2xx response: an
 * array, or one object.  The time is linear in the number of users.  Serves
 * interrupts; leaves nothing allocated.
 */
void
lpu_created_match(const char *body, size_t length, LpuAnsweredUser *users, int n)
{
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "lpusers answer",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(scratch);
	int			nanswered;
	AnsweredUser *answered = read_answer(body, length, n, &nanswered);
	int			i;

	for (i = 0; i < n; i++)
	{
		users[i].named = false;
		users[i].id = 0;
	}
	if (!match_in_order(users, n, answered, nanswered) && nanswered > 0)
	{
		match_by(pstrdup, users, n, answered, nanswered);
		match_by(lpu_login_fold, users, n, answered, nanswered);
		match_single_pair(users, n, answered, nanswered);
		match_positions(users, n, answered, nanswered);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(scratch);
}

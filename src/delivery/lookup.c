/*
 * lookup.c: what became of users whose outcome is unknown.
 *
 * One listing of the account, deleted users too, answers for all of them. A user who is there, not deleted, with the
 * email and nickname that were sent, was created by us: there is no other sign. With other data somebody else has the
 * login. One who is absent, or only there as deleted, was not created and may be sent again, unless the service had
 * rejected it.
 */
#include "postgres.h"

#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "base/encoding.h"
#include "delivery/lookup.h"
#include "json/array_reader.h"

/* Of longer logins only the beginning is compared: email and nickname have to agree as well. */
#define KEY_LENGTH 256

/* What the listing says of a login in doubt. */
typedef struct listed_user
{
	char		key[KEY_LENGTH];	/* login in lower case (ASCII) */
	bool		found;			/* and not deleted */
	int64		id;
	char	   *email;			/* in the database's encoding, or NULL */
	char	   *nickname;
} listed_user;

/* What is read of each user. */
static const char *const attributes[] = {"loginName", "id", "email", "nickname", "deleted"};

enum
{
	LOGIN_NAME,
	ID,
	EMAIL,
	NICKNAME,
	DELETED
};

lpu_api_call *
lpu_lookup_start(const lpu_options *options)
{
	lpu_api_request request = {.method = LPU_LIST_USERS,
		.query = "&select=id,loginName,email,nickname,deleted&include_deleted=true"};

	return lpu_api_start(options, &request);
}

static void
make_key(char *key, const char *login)
{
	int			i;

	memset(key, 0, KEY_LENGTH);
	for (i = 0; login[i] != '\0' && i < KEY_LENGTH - 1; i++)
		key[i] = pg_ascii_tolower((unsigned char) login[i]);
}

static HTAB *
index_doubts(const lpu_doubt *doubts, int n)
{
	HASHCTL		ctl = {.keysize = KEY_LENGTH, .entrysize = sizeof(listed_user), .hcxt = CurrentMemoryContext};
	HTAB	   *users = hash_create("lpusers doubts", Max(n, 16), &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	int			i;

	for (i = 0; i < n; i++)
	{
		char		key[KEY_LENGTH];

		make_key(key, doubts[i].row.login_name);
		((listed_user *) hash_search(users, key, HASH_ENTER, NULL))->found = false;
	}
	return users;
}

static bool
is_true(const lpu_value *value)
{
	return value->type == LPU_VALUE_TRUE || (value->type == LPU_VALUE_STRING && strcmp(value->text, "true") == 0);
}

/* The entry of a user of the listing; NULL if nobody asks for it. */
static listed_user *
find_doubt(HTAB *users, const lpu_value *values)
{
	const char *login = lpu_value_text(&values[LOGIN_NAME]);
	char		key[KEY_LENGTH];

	if (login == NULL || is_true(&values[DELETED]))
		return NULL;
	make_key(key, lpu_text_from_utf8(login));
	return hash_search(users, key, HASH_FIND, NULL);
}

static char *
copy_text(const lpu_value *value)
{
	const char *text = lpu_value_text(value);

	return text ? lpu_text_from_utf8(text) : NULL;
}

/*
 * Look for the users in doubt. False if the answer is not a list: one object may be an error with a status of success.
 * What is wrong somewhere is believed nowhere.
 */
static bool
read_listing(const lpu_api_answer *answer, HTAB *users)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext scratch = AllocSetContextCreate(context, "lpusers listed user", ALLOCSET_SMALL_SIZES);
	lpu_reader *reader = lpu_reader_new(attributes, lengthof(attributes), false);
	lpu_reader_state state;

	if (answer->body[strspn(answer->body, " \t\r\n")] != '[')
		return false;
	lpu_reader_feed(reader, answer->body, answer->body_length);
	lpu_reader_end(reader);
	while ((state = lpu_reader_next(reader)) == LPU_READER_ELEMENT)
	{
		const lpu_value *values = lpu_reader_values(reader);
		const char *id = lpu_value_text(&values[ID]);
		listed_user *user;

		MemoryContextSwitchTo(scratch);
		user = find_doubt(users, values);
		MemoryContextSwitchTo(context);
		MemoryContextReset(scratch);
		if (user == NULL)
			continue;
		user->found = true;
		if (id == NULL || !lpu_text_as_int64(id, &user->id))
			user->id = 0;
		user->email = copy_text(&values[EMAIL]);
		user->nickname = copy_text(&values[NICKNAME]);
	}
	return state == LPU_READER_END;
}

static bool
same_text(const char *listed, const char *sent)
{
	return listed != NULL && sent != NULL && strcmp(listed, sent) == 0;
}

static void
judge(lpu_doubt *doubt, HTAB *users)
{
	char		key[KEY_LENGTH];
	listed_user *listed;

	make_key(key, doubt->row.login_name);
	listed = hash_search(users, key, HASH_FIND, NULL);
	if (!listed->found)
	{
		doubt->row.state = doubt->rejected ? LPU_STATE_FAILED : LPU_STATE_PENDING;
		doubt->row.wait_ms = 0;
		doubt->row.error = doubt->rejected ? doubt->trouble : NULL;
		return;
	}
	doubt->row.user_id = listed->id;
	if (same_text(listed->email, doubt->email) && same_text(listed->nickname, doubt->nickname))
		doubt->row.state = LPU_STATE_CREATED;
	else
	{
		doubt->row.state = LPU_STATE_FAILED;
		doubt->row.error = "login exists with other data";
	}
}

lpu_verdict
lpu_lookup_finish(lpu_api_call *call, lpu_doubt *doubts, int n, const char **problem)
{
	lpu_api_answer *answer = lpu_api_finish(call);
	HTAB	   *users = index_doubts(doubts, n);
	bool		known = answer->verdict == LPU_OK && answer->error == NULL && read_listing(answer, users);
	int			i;

	*problem = NULL;
	if (!known)
		*problem = answer->problem ? answer->problem->message : answer->error ? answer->error :
			"the answer is not a list of users";
	for (i = 0; i < n; i++)
	{
		doubts[i].row.error = doubts[i].row.reason = NULL;
		if (known)
		{
			judge(&doubts[i], users);
			continue;
		}
		doubts[i].row.state = LPU_STATE_UNCERTAIN;
		doubts[i].row.error = doubts[i].trouble;
		doubts[i].row.reason = psprintf("look-up failed: %s", *problem);
		doubts[i].row.wait_ms = -1;
	}
	return answer->verdict;
}

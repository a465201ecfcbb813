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

#include "json.h"
#include "lookup.h"
#include "text.h"

/* Longer logins are told apart by their beginnings no longer, and are then compared one by one. */
#define KEY_LENGTH 256

typedef struct listed_user
{
	char		key[KEY_LENGTH];	/* login in lower case (ASCII) */
	lpu_json   *user;
} listed_user;

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

static bool
is_true(lpu_json *json)
{
	const char *text = lpu_json_text(json);

	return lpu_json_is_true(json) || (text != NULL && strcmp(text, "true") == 0);
}

/* The listing's undeleted users by login; NULL if it is not a list. */
static HTAB *
index_users(lpu_json *list)
{
	HASHCTL		ctl = {.keysize = KEY_LENGTH, .entrysize = sizeof(listed_user), .hcxt = CurrentMemoryContext};
	HTAB	   *users;
	int			n = lpu_json_length(list);
	int			i;

	if (n < 0)
		return NULL;
	users = hash_create("lpusers listing", Max(n, 16), &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	for (i = 0; i < n; i++)
	{
		lpu_json   *user = lpu_json_element(list, i);
		const char *login = lpu_json_text(lpu_json_member(user, "loginName"));
		char		key[KEY_LENGTH];

		if (login == NULL || is_true(lpu_json_member(user, "deleted")))
			continue;
		make_key(key, lpu_text_from_utf8(login));
		((listed_user *) hash_search(users, key, HASH_ENTER, NULL))->user = user;
	}
	return users;
}

static bool
same_text(lpu_json *json, const char *sent)
{
	const char *text = lpu_json_text(json);

	return text != NULL && sent != NULL && strcmp(lpu_text_from_utf8(text), sent) == 0;
}

static void
judge(lpu_doubt *doubt, HTAB *users)
{
	char		key[KEY_LENGTH];
	listed_user *listed;
	const char *id;

	make_key(key, doubt->row.login_name);
	listed = hash_search(users, key, HASH_FIND, NULL);
	if (listed == NULL)
	{
		doubt->row.state = doubt->rejected ? "failed" : "pending";
		doubt->row.wait_ms = 0;
		doubt->row.error = doubt->rejected ? doubt->trouble : NULL;
		return;
	}
	id = lpu_json_text(lpu_json_member(listed->user, "id"));
	doubt->row.user_id = id ? strtoll(id, NULL, 10) : 0;
	if (same_text(lpu_json_member(listed->user, "email"), doubt->email) &&
		same_text(lpu_json_member(listed->user, "nickname"), doubt->nickname))
		doubt->row.state = "created";
	else
	{
		doubt->row.state = "failed";
		doubt->row.error = "login exists with other data";
	}
}

lpu_verdict
lpu_lookup_finish(lpu_api_call *call, lpu_doubt *doubts, int n, const char **problem)
{
	lpu_api_answer *answer = lpu_api_finish(call);
	HTAB	   *users = NULL;
	int			i;

	*problem = NULL;
	if (answer->verdict == LPU_OK && answer->error == NULL)
		users = index_users(lpu_json_parse(answer->body, answer->body_length));
	if (users == NULL)
		*problem = answer->problem ? answer->problem->message : answer->error ? answer->error :
			"the answer is not a list of users";
	for (i = 0; i < n; i++)
	{
		doubts[i].row.error = doubts[i].row.reason = NULL;
		if (users != NULL)
		{
			judge(&doubts[i], users);
			continue;
		}
		doubts[i].row.state = "uncertain";
		doubts[i].row.error = doubts[i].trouble;
		doubts[i].row.reason = psprintf("look-up failed: %s", *problem);
		doubts[i].row.wait_ms = -1;
	}
	return answer->verdict;
}

/*-------------------------------------------------------------------------
 *
 * users_api.c
 *	  The methods of users.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "account.h"
#include "attribute.h"
#include "config.h"
#include "json.h"
#include "listing.h"
#include "log.h"
#include "users_api.h"
#include "view.h"

/* Return true if there is an If-Match that requires a check: -1 and * do not. */
bool
if_match(const Request *req, int64_t *revision)
{
	const char *text = request_header(req, "If-Match");
	char		plain[32];

	if (text == NULL || strcmp(text, "*") == 0)
		return false;
	text += *text == '"';
	text += strncmp(text, "rev-", 4) == 0 ? 4 : 0;
	snprintf(plain, sizeof(plain), "%.*s", (int) strcspn(text, "\""), text);
	if (!parse_int64(plain, revision))
		*revision = -2;
	return *revision != -1;
}

/* Answer 304 if the request knows this revision.  Return false if it does not. */
bool
not_modified(const Request *req, Answer *ans, int64_t revision)
{
	int64_t		known;

	if (!if_match(req, &known) || known != revision)
		return false;
	answer_empty(ans, 304);
	return true;
}

static bool
stale(const Request *req, Answer *ans)
{
	int64_t		known;

	if (config_bool("ignore_if_match") || !if_match(req, &known) || known == account.revision)
		return false;
	answer_error(ans, config_int("stale_status"), "revision is %" PRId64 ", not that of If-Match",
				 account.revision);
	return true;
}

/* GET users. */
void
users_get_all(Request *req, Answer *ans)
{
	if (not_modified(req, ans, account.revision))
		return;
	body_release(ans->body);
	ans->status = 200;
	ans->type = "application/json";
	ans->body = listing_build(req, wants_deleted(req));
}

/* The user named in the path, or NULL with a 404. */
static User *
user_of_path(Request *req, Answer *ans, bool deleted)
{
	int64_t		id;
	User	   *u = parse_int64(req->arg[1], &id) ? user_by_id(id) : NULL;

	if (u && (deleted || !u->deleted))
		return u;
	answer_error(ans, 404, "no user with id %s", req->arg[1]);
	return NULL;
}

/* GET users/ID. */
void
users_get_one(Request *req, Answer *ans)
{
	User	   *u = user_of_path(req, ans, wants_deleted(req));
	View	   *view;
	Buf			b = {0};

	if (u == NULL || not_modified(req, ans, account.revision))
		return;
	view = view_of_request(req, "$all", "single_form", NULL);
	put_entity(&b, u->entity, view);
	answer_json(ans, 200, &b);
	view_free(view);
}

/* Answers users in the form of the request: one object, or an array. */
static void
answer_users(Request *req, Answer *ans, unsigned status, User **users, size_t n)
{
	bool		array = json_object_is_type(req->json, json_type_array);
	View	   *view = view_everything(req, false);
	Buf			b = {0};

	buf_puts(&b, array ? "[" : "");
	for (size_t i = 0; i < n; i++)
	{
		buf_puts(&b, i > 0 ? "," : "");
		put_entity(&b, users[i]->entity, view);
	}
	buf_puts(&b, array ? "]" : "");
	answer_json(ans, status, &b);
	view_free(view);
}

static bool
is_array(const Request *req)
{
	return json_object_is_type(req->json, json_type_array);
}

/* Return true if an array is answered with success although one of its users was refused. */
static bool
success_anyway(const Request *req)
{
	return is_array(req) && config_is("bulk", "partial_ok");
}

static void
note_made(Request *req, json_object *in)
{
	const char *login = json_object_get_string(json_member(in, "loginName"));

	buf_put(&req->entry->made, login, strlen(login) + 1);
}

static void
note_changed(Request *req, const User *u)
{
	buf_put(&req->entry->changed, &u->id, sizeof(u->id));
}

/*
 * One or many.  They are put in one by one, which also finds duplicates within
 * the array; when one is refused, the others leave again, unless the account
 * is configured to keep them.
 */
void
users_post(Request *req, Answer *ans)
{
	size_t		n = body_count(req);
	size_t		from = account.nusers;
	bool		partial = !config_is("bulk", "all_or_nothing");
	Problem		first = {0};

	for (size_t i = 0; i < n && (partial || first.status == 0); i++)
	{
		Problem		p = {0};

		if (user_create(body_item(req, i), &p) != NULL)
			note_made(req, body_item(req, i));
		else if (first.status == 0)
			first = p;
	}
	if (first.status && !partial)
	{
		req->entry->made.len = 0;
		while (account.nusers > from)
			user_drop_last();
	}
	if (account.nusers > from)
	{
		account.created += account.nusers - from;
		account.revision++;
	}
	if (first.status && !success_anyway(req))
	{
		answer_problem(ans, &first);
		return;
	}
	answer_users(req, ans, 201, account.users + from, account.nusers - from);
	if (!is_array(req))
	{
		char		where[512];

		snprintf(where, sizeof(where), "%s/%" PRId64, req->path, account.users[from]->id);
		answer_header(ans, "Location", where);
	}
}

/* The user whom an element of an update or a list of ids means, or NULL with a problem. */
static User *
user_meant(json_object *id, Problem *p)
{
	json_object *number = convert_scalar(T_LONG, id);
	User	   *u;

	if (number == NULL)
	{
		problem(p, 400, "id", "id is missing or not a number");
		return NULL;
	}
	u = user_by_id(json_object_get_int64(number));
	if (u && u->deleted)
		u = NULL;
	if (u == NULL)
		problem(p, 404, "id", "no user with id %" PRId64, json_object_get_int64(number));
	json_object_put(number);
	return u;
}

/* PUT of one or many: each is replaced at once, and put back if a later one is refused. */
static void
users_replace(Request *req, Answer *ans)
{
	size_t		n = body_count(req);
	User	  **done = need(calloc(n + 1, sizeof(User *)));
	Entity	  **former = need(calloc(n + 1, sizeof(Entity *)));
	size_t		ndone = 0;
	bool		partial = !config_is("bulk", "all_or_nothing");
	Problem		first = {0};

	for (size_t i = 0; i < n && (partial || first.status == 0); i++)
	{
		Problem		p = {0};
		json_object *in = body_item(req, i);
		User	   *u = user_meant(json_member(in, "id"), &p);

		if (u && (former[ndone] = user_replace(u, in, &p)) != NULL)
			done[ndone++] = u;
		else if (first.status == 0)
			first = p;
	}
	if (first.status && !partial)
		while (ndone > 0)
		{
			json_object *old = entity_json(former[--ndone]);

			free(user_swap(done[ndone], former[ndone],
						   json_object_get_string(json_member(old, "loginName")), false));
			json_object_put(old);
		}
	account.revision += ndone > 0;
	for (size_t i = 0; i < ndone; i++)
		note_changed(req, done[i]);
	if (first.status && !success_anyway(req))
		answer_problem(ans, &first);
	else
		answer_users(req, ans, 200, done, ndone);
	while (ndone > 0)
		free(former[--ndone]);
	free(former);
	free(done);
}

/* PUT users. */
void
users_put(Request *req, Answer *ans)
{
	if (!stale(req, ans))
		users_replace(req, ans);
}

/* PUT users/ID. */
void
users_put_one(Request *req, Answer *ans)
{
	json_object *id;
	User	   *u = user_of_path(req, ans, false);

	if (u == NULL || stale(req, ans))
		return;
	id = convert_scalar(T_LONG, json_member(req->json, "id"));
	if (id == NULL || json_object_get_int64(id) != u->id)
		answer_error(ans, 400, "the id in the body is missing or not that of the path");
	else
		users_replace(req, ans);
	json_object_put(id);
}

/* DELETE users, a list of ids in the body. */
void
users_delete(Request *req, Answer *ans)
{
	size_t		n = json_object_is_type(req->json, json_type_array) ?
		json_object_array_length(req->json) : 0;
	User	  **found = need(calloc(n + 1, sizeof(User *)));
	size_t		nfound = 0;
	Problem		p = {0};

	for (size_t i = 0; i < n; i++)
		if ((found[nfound] = user_meant(json_object_array_get_idx(req->json, i), &p)) != NULL)
			nfound++;
	if (n == 0)
		problem(&p, 400, "", "the body must be a list of ids");
	if (p.status && config_is("bulk", "all_or_nothing"))
		nfound = 0;
	if (!stale(req, ans))
	{
		for (size_t i = 0; i < nfound; i++)
		{
			user_patch(found[i], "deleted", json_object_new_boolean(true));
			note_changed(req, found[i]);
		}
		account.revision += nfound > 0;
		if (p.status && !success_anyway(req))
			answer_problem(ans, &p);
		else
			answer_empty(ans, 200);
	}
	free(found);
}

/* DELETE users/ID. */
void
users_delete_one(Request *req, Answer *ans)
{
	User	   *u = user_of_path(req, ans, false);

	if (u == NULL || stale(req, ans))
		return;
	user_patch(u, "deleted", json_object_new_boolean(true));
	note_changed(req, u);
	account.revision++;
	answer_empty(ans, 200);
}

/* PUT users/ID/resetPassword. */
void
users_reset_password(Request *req, Answer *ans)
{
	json_object *password = json_member(req->json, "newPassword");
	User	   *u = user_of_path(req, ans, false);
	Problem		p = {0};

	if (u == NULL || stale(req, ans))
		return;
	if (!json_object_is_type(password, json_type_string))
		problem(&p, 400, "newPassword", "newPassword is missing or no string");
	else if (json_object_get_string_len(password) < MIN_PASSWORD)
		problem(&p, 400, "newPassword", "the password has fewer than %d characters", MIN_PASSWORD);
	if (p.status)
	{
		answer_problem(ans, &p);
		return;
	}
	user_patch(u, "passwordSh", json_object_get(password));
	note_changed(req, u);
	account.revision++;
	answer_empty(ans, 200);
}

/*-------------------------------------------------------------------------
 *
 * change.c
 *	  Writes of another client.
 *
 * A change is {"user": LOGIN or "ID" or "*", "set": {ATTRIBUTES}, "delete": true}, all optional; it
 * always raises the revision.  "*" stands for the users whom the request at hand names.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "account.h"
#include "action.h"
#include "change.h"
#include "fault.h"
#include "json.h"
#include "log.h"

static void
change_user(User *u, json_object *spec)
{
	json_object *set = json_member(spec, "set");

	if (json_object_is_type(set, json_type_object))
	{
		json_object_object_foreach(set, name, value)
			user_patch(u, name, json_object_get(value));
	}
	if (json_object_get_boolean(json_member(spec, "delete")))
		user_patch(u, "deleted", json_object_new_boolean(true));
}

/* Return the user with this login or id, or NULL. */
static User *
user_named(const char *name)
{
	int64_t		id;
	char	   *key;
	User	   *u;

	if (parse_int64(name, &id))
		return user_by_id(id);
	key = login_key(name);
	u = user_by_key(key, NULL);
	free(key);
	return u;
}

/* Carry out a change.  Return false with a problem if there is no such user. */
bool
change_carry_out(json_object *spec, Problem *p)
{
	const char *name = json_object_get_string(json_member(spec, "user"));
	User	   *u = name ? user_named(name) : NULL;

	if (name && u == NULL)
		return problem(p, 400, "", "no user %s", name);
	if (u)
		change_user(u, spec);
	account.revision++;
	return true;
}

/* The fault "meddle": the change of its rule, before the request is judged. */
void
prepare_meddle(Request *req)
{
	json_object *spec = req->rule->spec;
	const char *name = json_object_get_string(json_member(spec, "user"));
	const Buf  *ids = &req->entry->ids;
	Problem		p = {0};

	if (name == NULL || strcmp(name, "*") != 0)
	{
		(void) change_carry_out(spec, &p);
		return;
	}
	for (size_t at = 0; at < ids->len; at += sizeof(int64_t))
	{
		int64_t		id;
		User	   *u;

		memcpy(&id, ids->data + at, sizeof(id));
		u = user_by_id(id);
		if (u)
			change_user(u, spec);
	}
	account.revision++;
}

/*-------------------------------------------------------------------------
 *
 * entity.c
 *	  The user entity: what the account makes of what a client sent.
 *
 * A stored entity is one block of text: 100,000 of them as trees of json-c objects would take
 * several times as much.  Trees live as long as the request which brought them.
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

#include "attribute.h"
#include "clock.h"
#include "config.h"
#include "entity.h"
#include "json.h"
#include "neighbour.h"
#include "normalise.h"
#include "version.h"

/* What each role's users lose when the role is taken from them. */
static const struct
{
	int			role;
	const char *loses[5];
}			role_losses[] = {
	{2, {"maxChats", "maxAsyncChats", "memberOf", "skillIds", NULL}},
	{3, {"managerOf", NULL}},
};

/* Return true if the account is configured to refuse an update with this attribute. */
static bool
is_refused(const char *name)
{
	const char *list = config_text("refuse");
	size_t		length = strlen(name);

	for (; *list; list += strcspn(list, ","), list += *list == ',')
		if (strcspn(list, ",") == length && strncmp(list, name, length) == 0)
			return true;
	return false;
}

/*
 * Unknown attributes pass through: the service's list is not closed.  An entity with dateCreated
 * was read as one of version 5.0 or 6.0: what they have more is not stored.
 */
static bool
copy_attributes(json_object *in, json_object *out, bool create, Problem *p)
{
	bool		later = json_member(in, "dateCreated") != NULL;

	json_object_object_foreach(in, name, value)
	{
		int			i = attribute_find(name);
		const AttrRule *rule = i < 0 ? NULL : &user_attributes[i];
		json_object *copy;

		if (rule && (rule->flags & A_READ) && create)
			return problem(p, 400, name, "%s is read-only", name);
		if (!create && is_refused(name))
			return problem(p, 400, name, "%s cannot be updated", name);
		if (rule ? (rule->flags & (A_READ | A_FORGET)) != 0 : later && version_own(name))
			continue;
		copy = rule && value ? convert(rule->type, value) : json_object_get(value);
		if (value && copy == NULL)
			return problem(p, 400, name, "%s has the wrong type", name);
		json_object_object_add(out, name, copy);
	}
	return true;
}

static bool
check_required(json_object *user, Problem *p)
{
	bool		api = json_object_get_boolean(json_member(user, "isApiUser"));
	Buf			missing = {0};

	for (int i = 0; i < n_attributes; i++)
	{
		const char *name = user_attributes[i].name;
		bool		required = user_attributes[i].flags & A_REQUIRED;

		if (strcmp(name, "passwordSh") == 0)
			required = !api;
		else if (strcmp(name, "allowedAppKeys") == 0)
			required = api;
		else if (strcmp(name, "memberOf") == 0)
			required = roles_of(user) & (1 << 2);
		if (required && json_member(user, name) == NULL)
			buf_printf(&missing, "%s%s", missing.len ? "," : "", name);
	}
	if (missing.len > 0)
		problem(p, 400, missing.data, "missing: %s", missing.data);
	free(missing.data);
	return p->status == 0;
}

static bool
check_values(json_object *user, Problem *p)
{
	const char *login = json_object_get_string(json_member(user, "loginName"));
	json_object *password = json_member(user, "passwordSh");

	if (login == NULL || *login == '\0')
		return problem(p, 400, "loginName", "loginName is missing or empty");
	if (password && json_object_get_string_len(password) < MIN_PASSWORD)
		return problem(p, 400, "passwordSh", "the password has fewer than %d characters",
					   MIN_PASSWORD);
	return true;
}

/* The service's own part of a new or changed user.  "old" is NULL on create. */
static void
fill_in(json_object *user, json_object *old)
{
	char		date[32];
	json_object *group = json_member(user, "memberOf");
	json_object *changed = json_member(old, "lastPwdChangeDate");
	bool		password = json_member(user, "passwordSh") != NULL;

	date_text(date);
	if (json_member(user, "isEnabled"))
		set_bool_if_absent(user, "disabledManually",
						   !json_object_get_boolean(json_member(user, "isEnabled")));
	if (group && json_member(group, "assignmentDate") == NULL)
		set_text(group, "assignmentDate", date);
	if (old == NULL)
	{
		set_bool_if_absent(user, "isApiUser", false);
		if (json_member(user, "userTypeId") == NULL)
			json_object_object_add(user, "userTypeId", json_object_new_int64(1));
	}
	else if (!password && json_member(old, "passwordSh"))
		json_object_object_add(user, "passwordSh", json_object_get(json_member(old, "passwordSh")));
	if (password)
		set_text(user, "lastPwdChangeDate", date);
	else if (changed)
		json_object_object_add(user, "lastPwdChangeDate", json_object_get(changed));
	set_text(user, "dateUpdated", date);
}

static void
lose_roles(json_object *user, json_object *old)
{
	int			lost = roles_of(old) & ~roles_of(user);

	for (size_t i = 0; i < lengthof(role_losses); i++)
		for (int j = 0; (lost & (1 << role_losses[i].role)) && role_losses[i].loses[j]; j++)
			json_object_object_del(user, role_losses[i].loses[j]);
}

/*
 * From what a client sent to what the account stores.  "old" is what it
 * stores now, NULL on create.  Returns NULL with a problem.
 */
json_object *
user_accept(json_object *in, json_object *old, int64_t id, Problem *p)
{
	json_object *user = json_object_new_object();
	char		pid[32];

	json_object_object_add(user, "id", json_object_new_int64(id));
	snprintf(pid, sizeof(pid), "p%" PRId64, id);
	if (old == NULL)
		set_text(user, "pid", pid);
	json_object_object_add(user, "deleted", json_object_new_boolean(false));
	if (!json_object_is_type(in, json_type_object))
		problem(p, 400, "", "a user must be an object");
	else if (copy_attributes(in, user, old == NULL, p) && (old || check_required(user, p)))
		check_values(user, p);
	if (p->status)
	{
		json_object_put(user);
		return NULL;
	}
	normalise_user(user);
	fill_in(user, old);
	lose_roles(user, old);
	return user;
}

Entity *
entity_build(json_object *o)
{
	int			n = json_object_object_length(o);
	size_t		head = sizeof(Entity) + n * sizeof(Attr);
	Buf			b = {0};
	Entity	   *e;
	char	   *p;

	json_object_object_foreach(o, name, value)
	{
		buf_put(&b, name, strlen(name) + 1);
		put_json(&b, value, false, NULL);
		buf_put(&b, "", 1);
	}
	e = need(malloc(head + b.len + 1));
	p = memcpy((char *) e + head, b.data ? b.data : "", b.len + 1);
	free(b.data);
	e->n = n;
	for (int i = 0; i < n; i++)
	{
		e->attr[i].name = p;
		e->attr[i].known = attribute_find(p);
		p += strlen(p) + 1;
		e->attr[i].value = p;
		p += strlen(p) + 1;
	}
	return e;
}

/* Return the entity as an object, the caller's to put. */
json_object *
entity_json(const Entity *e)
{
	json_object *o = json_object_new_object();

	for (int i = 0; i < e->n; i++)
		json_object_object_add(o, e->attr[i].name, json_own(e->attr[i].value));
	return o;
}

/*-------------------------------------------------------------------------
 *
 * neighbour.c
 *	  The neighbours of users: profiles, skills, agent groups, lines of business.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "neighbour.h"
#include "users_api.h"
#include "view.h"

#define D "\"dateUpdated\":\"2026-01-05 09:00:00\""
#define SKILL(id, name, rest) "{\"id\":" id ",\"name\":\"" name "\",\"description\":\"\"," \
	"\"maxWaitTime\":120," \
	"\"skillOrder\":1,\"canTransfer\":true," rest "," D "}"
#define PROFILE(id, name, role) "{\"id\":" id ",\"name\":\"" name "\"," \
	"\"description\":\"" name "\"," \
	"\"roleTypeId\":" role ",\"numOfAssignedUsers\":0," D "}"
#define GROUP(id, name, parent) "{\"id\":" id ",\"name\":\"" name "\",\"description\":\"\"," \
	"\"parentGroupId\":" parent ",\"isEnabled\":true,\"deleted\":false," D "}"
#define LOB(id, name, gone) "{\"id\":" id ",\"name\":\"" name "\",\"description\":\"\"," \
	"\"deleted\":" gone "," D "}"

/* Read only; each with a revision of its own. */
static Neighbour neighbours[] = {
	{"profiles", "id,name", 11, "["
		PROFILE("1001", "Administrator", "1") "," PROFILE("1002", "Agent", "2") ","
		PROFILE("1003", "Agent Manager", "3") "," PROFILE("1004", "Campaign Manager", "4") ","
	PROFILE("1005", "Night Agent", "2") "]", NULL, NULL},
	{"skills", "id,name,deleted", 12, "["
		SKILL("3001", "Sales", "\"lobIds\":[4001],\"deleted\":false") ","
		SKILL("3002", "Support", "\"lobIds\":[4002],\"deleted\":false") ","
		SKILL("3003", "Billing", "\"lobIds\":[4001,4002],\"deleted\":false") ","
	SKILL("3004", "Fax", "\"lobIds\":[],\"deleted\":true") "]", NULL, NULL},
	{"agentGroups", "id,name,deleted", 13, "["
		GROUP("-1", "Main Group", "null") "," GROUP("2001", "Day", "-1") ","
		GROUP("2002", "Night", "-1") ","
	GROUP("2003", "Weekend", "2002") "]", NULL, NULL},
	{"lobs", "id,name,deleted", 14, "["
		LOB("4001", "Retail", "false") "," LOB("4002", "Business", "false") ","
		LOB("4003", "Telex", "true")
	"]", NULL, NULL},
};

#undef D
#undef SKILL
#undef PROFILE
#undef GROUP
#undef LOB

static void
entities_free(Neighbour *nb)
{
	for (size_t i = 0; nb->items && i < json_object_array_length(nb->items); i++)
		free(nb->entities[i]);
	free(nb->entities);
	nb->entities = NULL;
}

static void
entities_build(Neighbour *nb)
{
	size_t		n = json_object_array_length(nb->items);

	nb->entities = need(calloc(n + 1, sizeof(Entity *)));
	for (size_t i = 0; i < n; i++)
		nb->entities[i] = entity_build(json_object_array_get_idx(nb->items, i));
}

/* Make the neighbours what they are at the start. */
void
neighbours_reset(void)
{
	static const int first_revision = 11;

	for (size_t i = 0; i < lengthof(neighbours); i++)
	{
		Neighbour  *nb = &neighbours[i];

		entities_free(nb);
		json_object_put(nb->items);
		nb->items = json_own(nb->text);
		nb->revision = first_revision + (int) i;
		entities_build(nb);
	}
}

/* Put one in, in the place of that with the same id. */
static void
item_put(Neighbour *nb, json_object *item)
{
	int64_t		id = json_object_get_int64(json_member(item, "id"));
	size_t		i = 0;

	while (i < json_object_array_length(nb->items) &&
		   json_object_get_int64(json_member(json_object_array_get_idx(nb->items, i), "id")) != id)
		i++;
	json_object_array_put_idx(nb->items, i, json_object_get(item));
}

static bool
check_items(const char *name, json_object *list, Problem *p)
{
	if (neighbour_find(name) == NULL)
		return problem(p, 400, "", "no such resource: %s", name);
	if (!json_object_is_type(list, json_type_array))
		return problem(p, 400, "", "%s must be an array", name);
	for (size_t i = 0; i < json_object_array_length(list); i++)
	{
		json_object *id = json_member(json_object_array_get_idx(list, i), "id");

		if (!json_object_is_type(id, json_type_int))
			return problem(p, 400, "", "%s: each needs an id, a number", name);
	}
	return true;
}

/* Add an object of arrays of neighbours, of which only the ids are checked. */
bool
neighbours_add(json_object *all, Problem *p)
{
	if (!json_object_is_type(all, json_type_object))
		return problem(p, 400, "", "the body must be an object");
	json_object_object_foreach(all, name, list)
		if (!check_items(name, list, p))
			return false;
	{
		json_object_object_foreach(all, resource, items)
		{
			Neighbour  *nb = neighbour_find(resource);

			entities_free(nb);
			for (size_t i = 0; i < json_object_array_length(items); i++)
				item_put(nb, json_object_array_get_idx(items, i));
			entities_build(nb);
			nb->revision++;
		}
	}
	return true;
}

/* Write all neighbours as an object of arrays. */
void
put_neighbours(Buf *b)
{
	for (size_t i = 0; i < lengthof(neighbours); i++)
	{
		buf_printf(b, "%s\"%s\":", i == 0 ? "{" : ",\n", neighbours[i].name);
		put_json(b, neighbours[i].items, false, NULL);
	}
	buf_puts(b, "}");
}

/*
 * The roles which a user's profiles give, as a set of bits.  Profiles which do not exist give
 * none.
 */
int
roles_of(json_object *user)
{
	json_object *ids = json_member(user, "profileIds");
	json_object *profiles = neighbours[0].items;
	int			roles = 0;

	if (!json_object_is_type(ids, json_type_array))
		return 0;
	for (size_t i = 0; i < json_object_array_length(ids); i++)
		for (size_t j = 0; j < json_object_array_length(profiles); j++)
		{
			json_object *profile = json_object_array_get_idx(profiles, j);

			if (json_object_get_int64(json_member(profile, "id")) ==
				json_object_get_int64(json_object_array_get_idx(ids, i)))
				roles |= 1 << json_object_get_int(json_member(profile, "roleTypeId"));
		}
	return roles;
}

Neighbour *
neighbour_find(const char *name)
{
	for (size_t i = 0; i < lengthof(neighbours); i++)
		if (strcmp(neighbours[i].name, name) == 0)
			return &neighbours[i];
	return NULL;
}

/* Return the name of a neighbour, "?" if there is none with this id. */
const char *
neighbour_name(const char *resource, int64_t id)
{
	json_object *items = neighbour_find(resource)->items;

	for (size_t i = 0; i < json_object_array_length(items); i++)
	{
		json_object *item = json_object_array_get_idx(items, i);

		if (json_object_get_int64(json_member(item, "id")) == id)
			return json_object_get_string(json_member(item, "name"));
	}
	return "?";
}

/* All, or the one whose id stands in the path. */
void
neighbours_get(Request *req, Answer *ans)
{
	Neighbour *nb = neighbour_find(req->arg[1]);
	bool		one = req->arg[2][0] != '\0';
	bool		found = false;
	View	   *view;
	Buf			b = {0};

	if (nb == NULL)
	{
		answer_error(ans, 404, "no such resource: %s", req->arg[1]);
		return;
	}
	if (not_modified(req, ans, nb->revision))
		return;
	view = view_of_request(req, one ? "$all" : nb->otherwise, NULL, NULL);
	buf_puts(&b, one ? "" : "[");
	for (size_t i = 0; i < json_object_array_length(nb->items); i++)
	{
		json_object *item = json_object_array_get_idx(nb->items, i);
		bool		gone = json_object_get_boolean(json_member(item, "deleted")) &&
			!wants_deleted(req);
		const char *id = json_object_get_string(json_member(item, "id"));

		if (gone || (one && strcmp(req->arg[2], id) != 0))
			continue;
		buf_puts(&b, found ? "," : "");
		put_entity(&b, nb->entities[i], view);
		found = true;
	}
	buf_puts(&b, one ? "" : "]");
	if (one && !found)
		answer_error(ans, 404, "no %s with id %s", nb->name, req->arg[2]);
	else
		answer_json(ans, 200, &b);
	free(b.data);
	view_free(view);
}

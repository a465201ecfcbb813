/*-------------------------------------------------------------------------
 *
 * misname.c
 *	  Successes whose body names other users than the request, or none.
 *
 * What the usual answer was is changed; of a request which is not carried out the client gets its
 * own users back, with ids that no user has.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "action.h"
#include "form.h"
#include "json.h"
#include "misname.h"

/* Ids of users that do not exist. */
#define MADE_UP_ID	INT64_C(7000000001)

static json_object *
double_id(int64_t id, int form)
{
	Buf			b = {0};
	json_object *v;

	put_number_form(&b, id, form);
	v = json_object_new_double_s((double) id, b.data);
	free(b.data);
	return v;
}

/* Change one user of the answer. */
static void
misname_user(json_object *user, size_t place, const char *form)
{
	json_object *known = json_member(user, "id");
	int64_t		id = known ? json_object_get_int64(known) : MADE_UP_ID + (int64_t) place;
	char		text[64];

	if (!json_object_is_type(user, json_type_object))
		return;
	json_object_object_add(user, "id", json_object_new_int64(id));
	snprintf(text, sizeof(text), "%" PRId64, id);
	if (strcmp(form, "no_id") == 0)
		json_object_object_del(user, "id");
	else if (strcmp(form, "null_id") == 0)
		json_object_object_add(user, "id", NULL);
	else if (strcmp(form, "string_id") == 0)
		set_text(user, "id", text);
	else if (strcmp(form, "double_id") == 0)
		json_object_object_add(user, "id", double_id(id, FORM_DOUBLE));
	else if (strcmp(form, "exponent_id") == 0)
		json_object_object_add(user, "id", double_id(id, FORM_EXPONENT));
	else if (strcmp(form, "wrong_id") == 0)
		json_object_object_add(user, "id", json_object_new_int64(id + 1000000));
	else if (strcmp(form, "other") == 0)
	{
		snprintf(text, sizeof(text), "other%zu@example.com", place);
		set_text(user, "loginName", text);
	}
}

/* Return the elements in the order of the form; the array is the caller's to put. */
static json_object *
rearrange(json_object *users, const char *form)
{
	size_t		n = json_object_array_length(users);
	size_t		most = strcmp(form, "first_only") == 0 && n > 0 ? 1 : n;
	bool		reversed = strcmp(form, "reversed") == 0;
	int			times = strcmp(form, "twice") == 0 ? 2 : 1;
	json_object *out = json_object_new_array();

	for (size_t i = 0; i < most; i++)
		for (int time = 0; time < times; time++)
			json_object_array_add(out, json_object_get(
				json_object_array_get_idx(users, reversed ? n - 1 - i : i)));
	return out;
}

/* The usual success, with another body. */
void
act_misname(Request *req, Answer *ans, const Action *action)
{
	const char *form = rule_text(req, "form", "");
	const char *why;
	json_object *o;
	Buf			b = {0};

	if (ans->status >= 300)
		return;
	o = json_parse(ans->body->data, ans->body->len, &why);
	if (strcmp(form, "null") == 0 || strncmp(form, "empty_", 6) == 0)
		buf_puts(&b, form[0] == 'n' ? "null" : strcmp(form, "empty_array") == 0 ? "[]" : "{}");
	else if (json_object_is_type(o, json_type_array))
	{
		json_object *out = rearrange(o, form);

		for (size_t i = 0; i < json_object_array_length(o); i++)
			misname_user(json_object_array_get_idx(o, i), i, form);
		put_json(&b, out, false, NULL);
		json_object_put(out);
	}
	else
	{
		misname_user(o, 0, form);
		put_json(&b, o, false, NULL);
	}
	json_object_put(o);
	substitute(ans, 0, action->type, body_from(&b));
}

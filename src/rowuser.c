/*
 * rowuser.c: one row of a mapping's query becomes one user for the queue.
 *
 * Values are written straight into the JSON text: building jsonb for each row of a load would cost more than all the
 * rest. What does not fit is a problem of the row, with the attribute's name, never an error. (A domain does not come
 * here: the query has the base types.)
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/json.h"

#include "rowuser.h"
#include "user.h"
#include "validate.h"
#include "value.h"

static void
add_problem(StringInfo problems, const char *attribute, const char *text)
{
	appendStringInfo(problems, "%s\"%s\" %s", problems->len > 0 ? "; " : "", attribute, text);
}

/* Is this row an API user? Then it needs a key and no password. */
static bool
is_api_user(const lpu_mapping *mapping, TupleTableSlot *slot)
{
	int			i;

	for (i = 0; i < mapping->nattributes; i++)
	{
		Oid			type = TupleDescAttr(slot->tts_tupleDescriptor, i)->atttypid;
		Datum		value = slot->tts_values[i];
		bool		isnull = slot->tts_isnull[i];

		if (strcmp(mapping->attributes[i].attribute->name, "isApiUser") != 0)
			continue;
		lpu_datum_unify_json(&type, &value, &isnull);
		return !isnull && (type == BOOLOID ? DatumGetBool(value) : strcmp(lpu_datum_text(type, value), "true") == 0);
	}
	return false;
}

/* Required attributes that the mapping does not have at all. */
static void
find_missing(const lpu_mapping *mapping, bool require_password, bool api_user, StringInfo problems)
{
	int			a;
	int			i;

	for (a = 0; a < lpu_nattributes; a++)
	{
		if (!lpu_is_required(&lpu_attributes[a], require_password, api_user))
			continue;
		for (i = 0; i < mapping->nattributes; i++)
			if (mapping->attributes[i].attribute == &lpu_attributes[a])
				break;
		if (i == mapping->nattributes)
			add_problem(problems, lpu_attributes[a].name, "is required");
	}
}

/* The columns behind the attributes are the key. */
static char *
write_key(const lpu_mapping *mapping, TupleTableSlot *slot)
{
	TupleDesc	desc = slot->tts_tupleDescriptor;
	StringInfoData out;
	int			i;

	if (desc->natts == mapping->nattributes)
		return NULL;
	initStringInfo(&out);
	for (i = mapping->nattributes; i < desc->natts; i++)
	{
		Oid			type = TupleDescAttr(desc, i)->atttypid;

		appendStringInfoChar(&out, i > mapping->nattributes ? ',' : '{');
		escape_json(&out, NameStr(TupleDescAttr(desc, i)->attname));
		appendStringInfoChar(&out, ':');
		if (slot->tts_isnull[i])
			appendStringInfoString(&out, "null");
		else
			lpu_datum_write_scalar(&out, type, slot->tts_values[i]);
	}
	appendStringInfoChar(&out, '}');
	return out.data;
}

/* Append one attribute to the body; returns what is wrong with it, or NULL. */
static const char *
write_attribute(StringInfo body, const lpu_attribute *attribute, bool required, Oid type, Datum value, bool isnull,
				lpu_queued_user *user)
{
	const char *problem;
	int			start;

	lpu_datum_unify_json(&type, &value, &isnull);
	if (isnull)
		return required ? "is required and must not be null" : NULL;
	appendStringInfo(body, "%s\"%s\":", body->len > 0 ? "," : "{", attribute->name);
	start = body->len;
	problem = lpu_datum_write(body, attribute, type, value);
	if (problem == NULL && required && strcmp(body->data + start, "\"\"") == 0)
		problem = "is required and must not be empty";
	if (problem == NULL && strcmp(attribute->name, "loginName") == 0)
		user->login_name = lpu_datum_text(type, value);
	return problem;
}

void
lpu_user_from_slot(const lpu_mapping *mapping, bool require_password, TupleTableSlot *slot, lpu_queued_user *user)
{
	lpu_mapping_place place = {mapping, 0};
	ErrorContextCallback context = {error_context_stack, lpu_mapping_context, &place};
	StringInfoData body;
	StringInfoData problems;
	bool		api_user;

	slot_getallattrs(slot);
	initStringInfo(&body);
	initStringInfo(&problems);
	api_user = is_api_user(mapping, slot);
	error_context_stack = &context;
	for (place.at = 0; place.at < mapping->nattributes; place.at++)
	{
		const lpu_attribute *attribute = mapping->attributes[place.at].attribute;
		const char *problem = write_attribute(&body, attribute, lpu_is_required(attribute, require_password, api_user),
											  TupleDescAttr(slot->tts_tupleDescriptor, place.at)->atttypid,
											  slot->tts_values[place.at], slot->tts_isnull[place.at], user);

		if (problem != NULL)
			add_problem(&problems, attribute->name, problem);
	}
	error_context_stack = context.previous;
	appendStringInfoString(&body, body.len > 0 ? "}" : "{}");
	find_missing(mapping, require_password, api_user, &problems);
	user->problem = problems.len > 0 ? problems.data : NULL;
	user->body = user->problem ? NULL : body.data;
	user->key = write_key(mapping, slot);
}

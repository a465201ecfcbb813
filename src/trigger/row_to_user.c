/*
 * row_to_user.c: one row of a mapping's query becomes one user for the queue.
 *
 * Values are written directly into the JSON text: building jsonb for each row of a load would
 * cost more than all the rest. What the rows have in common is computed once, and each user is
 * stored at its exact size, since a load has many. A value that does not fit becomes a problem
 * of the row, with the attribute's name, never an error. (A domain does not come here: the query
 * has the base types.)
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

#include "trigger/row_to_user.h"
#include "user/datum_to_json.h"
#include "user/login.h"
#include "user/serialize.h"
#include "user/validate.h"

/* An attribute of the mapping. */
typedef struct WrittenAttribute
{
	const LpuAttribute *attribute;
	Oid			type;			/* of its expression */
	char	   *prefix;			/* ,"name": */
	int			length;			/* of the prefix */
	bool		is_login;
	bool		required[2];	/* of users, and of API users */
} WrittenAttribute;

struct LpuUserWriter
{
	const LpuMapping *mapping;
	TupleDesc	desc;
	WrittenAttribute *attributes;
	int			api_user;		/* which says whether it is an API user; -1:
								 * none */
	char	   *missing[2];		/* required attributes that the mapping lacks,
								 * of users, and of API users; or NULL */
	MemoryContext context;		/* of the users */
	MemoryContext row_context;	/* of what is left over from a row */
	StringInfoData body;		/* of the row at work */
	StringInfoData problems;
};

static void
add_row_problem(StringInfo problems, const char *attribute, const char *text)
{
	appendStringInfo(problems, "%s\"%s\" %s", problems->len > 0 ? "; " : "", attribute, text);
}

/* Return true if this row is an API user, which needs a key and no password. */
static bool
is_api_user(const LpuUserWriter *writer, TupleTableSlot *slot)
{
	Oid			type;
	Datum		value;
	bool		isnull;

	if (writer->api_user < 0)
		return false;
	type = writer->attributes[writer->api_user].type;
	value = slot->tts_values[writer->api_user];
	isnull = slot->tts_isnull[writer->api_user];
	lpu_datum_unify_json(&type, &value, &isnull);
	return !isnull &&
		(type == BOOLOID ? DatumGetBool(value) : strcmp(lpu_datum_text(type, value), "true") == 0);
}

/* Required attributes that the mapping does not have at all; NULL if there are none. */
static char *
find_missing(const LpuMapping *mapping, bool require_password, bool api_user)
{
	StringInfoData problems;
	int			a;
	int			i;

	initStringInfo(&problems);
	for (a = 0; a < lpu_nattributes; a++)
	{
		if (!lpu_is_required(&lpu_attributes[a], require_password, api_user))
			continue;
		for (i = 0; i < mapping->nattributes; i++)
			if (mapping->attributes[i].attribute == &lpu_attributes[a])
				break;
		if (i == mapping->nattributes)
			add_row_problem(&problems, lpu_attributes[a].name, "is required");
	}
	return problems.len > 0 ? problems.data : NULL;
}

/*
 * Return what writes users for rows of this kind. It and the users live in the current memory
 * context.
 */
LpuUserWriter *
lpu_user_writer_new(const LpuMapping *mapping, bool require_password, TupleDesc desc)
{
	LpuUserWriter *writer = palloc0(sizeof(LpuUserWriter));
	int			i;

	writer->mapping = mapping;
	writer->desc = desc;
	writer->api_user = -1;
	writer->attributes = palloc0(mapping->nattributes * sizeof(WrittenAttribute));
	for (i = 0; i < mapping->nattributes; i++)
	{
		const LpuAttribute *attribute = mapping->attributes[i].attribute;
		WrittenAttribute *written = &writer->attributes[i];

		written->attribute = attribute;
		written->type = TupleDescAttr(desc, i)->atttypid;
		written->prefix = psprintf(",\"%s\":", attribute->name);
		written->length = strlen(written->prefix);
		written->is_login = strcmp(attribute->name, "loginName") == 0;
		written->required[false] = lpu_is_required(attribute, require_password, false);
		written->required[true] = lpu_is_required(attribute, require_password, true);
		if (strcmp(attribute->name, "isApiUser") == 0)
			writer->api_user = i;
	}
	writer->missing[false] = find_missing(mapping, require_password, false);
	writer->missing[true] = find_missing(mapping, require_password, true);
	writer->context = CurrentMemoryContext;
	writer->row_context = AllocSetContextCreate(CurrentMemoryContext, "lpusers row",
												ALLOCSET_SMALL_SIZES);
	initStringInfo(&writer->body);
	initStringInfo(&writer->problems);
	return writer;
}

/* The columns behind the attributes are the key. */
static Jsonb *
write_key(const LpuUserWriter *writer, TupleTableSlot *slot)
{
	JsonbParseState *state = NULL;
	int			i;

	if (writer->desc->natts == writer->mapping->nattributes)
		return NULL;
	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (i = writer->mapping->nattributes; i < writer->desc->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(writer->desc, i);
		JsonbValue	name = {.type = jbvString};
		JsonbValue	value = {.type = jbvNull};

		name.val.string.val = NameStr(column->attname);
		name.val.string.len = strlen(NameStr(column->attname));
		if (!slot->tts_isnull[i])
			lpu_datum_scalar(&value, column->atttypid, slot->tts_values[i]);
		(void) pushJsonbValue(&state, WJB_KEY, &name);
		(void) pushJsonbValue(&state, WJB_VALUE, &value);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* Append one attribute to the body; returns what is wrong with it, or NULL. */
static const char *
write_attribute(StringInfo body, const WrittenAttribute *written, bool api_user, Datum value,
				bool isnull,
				LpuQueuedUser *user)
{
	Oid			type = written->type;
	bool		required = written->required[api_user];
	const char *problem;
	int			start;

	lpu_datum_unify_json(&type, &value, &isnull);
	if (isnull)
		return required ? "is required and must not be null" : NULL;
	appendBinaryStringInfo(body, written->prefix, written->length);
	start = body->len;
	problem = lpu_datum_write(body, written->attribute, type, value, LPU_USER_CREATE);
	if (problem == NULL && required && strcmp(body->data + start, "\"\"") == 0)
		problem = "is required and must not be empty";
	if (problem == NULL && written->is_login)
		user->login_name = lpu_text_nfc(lpu_datum_text(type, value));
	return problem;
}

/* The attributes have a comma before each. */
static char *
copy_body(StringInfo body)
{
	char	   *copy = palloc(body->len + 3);

	if (body->len == 0)
		return memcpy(copy, "{}", 3);
	memcpy(copy, body->data, body->len);
	copy[0] = '{';
	copy[body->len] = '}';
	copy[body->len + 1] = '\0';
	return copy;
}

/* A user outlives the row it comes from. */
static void
keep_written_user(LpuUserWriter *writer, LpuQueuedUser *user)
{
	StringInfo	problems = &writer->problems;
	Jsonb	   *key = user->key;

	if (problems->len == 0 && writer->body.len > LPU_MAX_USER)
		appendStringInfoString(problems, "the user is larger than 1 MB");
	user->login_name = user->login_name ? pstrdup(user->login_name) : NULL;
	user->problem = problems->len > 0 ? pstrdup(problems->data) : NULL;
	user->body = user->problem ? NULL : copy_body(&writer->body);
	user->key = key ? memcpy(palloc(VARSIZE(key)), key, VARSIZE(key)) : NULL;
}

/* Write the row's user; user->problem says what is wrong with its data. */
void
lpu_user_from_slot(LpuUserWriter *writer, TupleTableSlot *slot, LpuQueuedUser *user)
{
	LpuMappingPlace place = {writer->mapping, 0};
	ErrorContextCallback context = {error_context_stack, lpu_mapping_context, &place};
	MemoryContext caller = MemoryContextSwitchTo(writer->row_context);
	bool		api_user;

	memset(user, 0, sizeof(LpuQueuedUser));
	slot_getallattrs(slot);
	resetStringInfo(&writer->body);
	resetStringInfo(&writer->problems);
	api_user = is_api_user(writer, slot);
	error_context_stack = &context;
	for (place.at = 0; place.at < writer->mapping->nattributes; place.at++)
	{
		const WrittenAttribute *written = &writer->attributes[place.at];
		const char *problem = write_attribute(&writer->body, written, api_user,
											  slot->tts_values[place.at],
											  slot->tts_isnull[place.at], user);

		if (problem != NULL)
			add_row_problem(&writer->problems, written->attribute->name, problem);
	}
	error_context_stack = context.previous;
	if (writer->missing[api_user] != NULL)
		appendStringInfo(&writer->problems, "%s%s", writer->problems.len > 0 ? "; " : "",
						 writer->missing[api_user]);
	user->key = write_key(writer, slot);
	MemoryContextSwitchTo(writer->context);
	keep_written_user(writer, user);
	MemoryContextSwitchTo(caller);
	MemoryContextReset(writer->row_context);
}

/*
 * rowuser.c: one row of a mapping's query becomes one user for the queue.
 *
 * Values are written straight into the JSON text, by the kind of the attribute and the type of the expression: building
 * jsonb for each row of a load would cost more than all the rest. What does not fit is a problem of the row, with the
 * attribute's name, never an error. (A domain does not come here: the query has the types below.)
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"

#include "rowuser.h"
#include "user.h"
#include "validate.h"

static bool
is_number_type(Oid type)
{
	return type == INT2OID || type == INT4OID || type == INT8OID || type == NUMERICOID || type == OIDOID;
}

/* Dates as JSON has them, whatever the session's DateStyle; the blanks that fill up a char(n) mean nothing. */
static char *
output(Oid type, Datum value)
{
	char		buffer[MAXDATELEN + 1];
	Oid			function;
	bool		varlena;

	switch (type)
	{
		case DATEOID:
		case TIMEOID:
		case TIMETZOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			return pstrdup(JsonEncodeDateTime(buffer, value, type, NULL));
		case BPCHAROID:
			return TextDatumGetCString(DirectFunctionCall1(rtrim1, value));
			/* the common ones, without looking up their output function for each value of a load */
		case TEXTOID:
		case VARCHAROID:
			return TextDatumGetCString(value);
		case INT4OID:
			return DatumGetCString(DirectFunctionCall1(int4out, value));
		case INT8OID:
			return DatumGetCString(DirectFunctionCall1(int8out, value));
		default:
			getTypeOutputInfo(type, &function, &varlena);
			return OidOutputFunctionCall(function, value);
	}
}

/*
 * json as jsonb, and its null as NULL: for the API, too, an attribute that is null is one that is not there.
 */
static void
unify_json(Oid *type, Datum *value, bool *isnull)
{
	JsonbValue	scalar;
	Jsonb	   *jsonb;

	if (*isnull || (*type != JSONOID && *type != JSONBOID))
		return;
	if (*type == JSONOID)
		*value = DirectFunctionCall1(jsonb_in, CStringGetDatum(TextDatumGetCString(*value)));
	*type = JSONBOID;
	jsonb = DatumGetJsonbP(*value);
	*isnull = JB_ROOT_IS_SCALAR(jsonb) && JsonbExtractScalar(&jsonb->root, &scalar) && scalar.type == jbvNull;
}

/* The value as text; a JSON string without its quotes. */
static char *
text_of(Oid type, Datum value)
{
	JsonbValue	scalar;

	if (type == JSONBOID && JB_ROOT_IS_SCALAR(DatumGetJsonbP(value)) &&
		JsonbExtractScalar(&DatumGetJsonbP(value)->root, &scalar) && scalar.type == jbvString)
		return pnstrdup(scalar.val.string.val, scalar.val.string.len);
	return output(type, value);
}

static bool
is_whole_number(const char *text, int64 *number)
{
	char	   *end;

	if (strspn(text, "-0123456789") != strlen(text))
		return false;
	errno = 0;
	*number = strtoll(text, &end, 10);
	return errno == 0 && end != text && *end == '\0';
}

/* Not "NaN" or "Infinity", which JSON does not know. */
static bool
is_plain_number(const char *text)
{
	return strspn(text, "-0123456789.") == strlen(text);
}

static const char *
write_number(StringInfo out, lpu_value_kind kind, Oid type, Datum value)
{
	char	   *text = output(type, value);
	char		digits[MAXINT8LEN + 1];
	int64		number = 0;
	bool		whole = is_whole_number(text, &number);

	if (!whole && (kind != LPU_NUMBER || !is_number_type(type) || !is_plain_number(text)))
		return kind == LPU_NUMBER ? "must be a number" : "must be a whole number";
	if (kind == LPU_ID && (!whole || number <= 0))
		return "must be a positive whole number";
	/* a text may have leading zeros, JSON must not */
	if (whole)
		appendBinaryStringInfo(out, digits, pg_lltoa(number, digits));
	else
		appendStringInfoString(out, text);
	return NULL;
}

static const char *
write_boolean(StringInfo out, Oid type, Datum value)
{
	char	   *text = type == BOOLOID ? (DatumGetBool(value) ? "true" : "false") : output(type, value);

	if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
		return "must be true or false";
	appendStringInfoString(out, text);
	return NULL;
}

static const char *
write_ids(StringInfo out, Oid type, Datum value)
{
	Oid			element = get_element_type(type);
	int16		length;
	bool		byval;
	char		align;
	Datum	   *values;
	bool	   *nulls;
	int			n;
	int			i;

	if (!OidIsValid(element))
		return "must be an array of positive whole numbers";
	get_typlenbyvalalign(element, &length, &byval, &align);
	deconstruct_array(DatumGetArrayTypeP(value), element, length, byval, align, &values, &nulls, &n);
	appendStringInfoChar(out, '[');
	for (i = 0; i < n; i++)
	{
		if (nulls[i])
			return "must not hold null";
		if (i > 0)
			appendStringInfoChar(out, ',');
		if (write_number(out, LPU_ID, element, values[i]) != NULL)
			return "must be an array of positive whole numbers";
	}
	appendStringInfoChar(out, ']');
	return NULL;
}

/* jsonb stands for itself, if it is what the attribute needs. */
static const char *
write_json(StringInfo out, const lpu_attribute *attribute, Datum value)
{
	Jsonb	   *jsonb = DatumGetJsonbP(value);
	const char *problem = lpu_value_check(attribute, jsonb);

	if (problem == NULL)
		lpu_value_write(out, attribute->kind, jsonb);
	return problem;
}

/* Anything has a text, but "t", "{a,b}" and "(a,b)" are nobody's name. */
static const char *
write_text(StringInfo out, Oid type, Datum value)
{
	if (type != TEXTOID && type != VARCHAROID &&
		(type == BOOLOID || type_is_rowtype(type) || OidIsValid(get_element_type(type))))
		return "must be a string";
	escape_json(out, output(type, value));
	return NULL;
}

/* Write one value that is not null; returns what is wrong with it, or NULL. */
static const char *
write_value(StringInfo out, const lpu_attribute *attribute, Oid type, Datum value)
{
	if (type == JSONBOID)
		return write_json(out, attribute, value);
	switch (attribute->kind)
	{
		case LPU_LONG:
		case LPU_ID:
		case LPU_NUMBER:
			return write_number(out, attribute->kind, type, value);
		case LPU_BOOLEAN:
			return write_boolean(out, type, value);
		case LPU_IDS:
			return write_ids(out, type, value);
		case LPU_GROUP:
		case LPU_GROUPS:
			return "must be jsonb, such as jsonb_build_object('agentGroupId', 1)";
		case LPU_TEXT:
		case LPU_ANY:
			break;
	}
	return write_text(out, type, value);
}

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
		unify_json(&type, &value, &isnull);
		return !isnull && (type == BOOLOID ? DatumGetBool(value) : strcmp(text_of(type, value), "true") == 0);
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
		char	   *text = slot->tts_isnull[i] ? NULL : output(type, slot->tts_values[i]);

		appendStringInfoChar(&out, i > mapping->nattributes ? ',' : '{');
		escape_json(&out, NameStr(TupleDescAttr(desc, i)->attname));
		appendStringInfoChar(&out, ':');
		if (text == NULL)
			appendStringInfoString(&out, "null");
		else if (is_number_type(type) && is_plain_number(text))
			appendStringInfoString(&out, text);
		else
			escape_json(&out, text);
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

	unify_json(&type, &value, &isnull);
	if (isnull)
		return required ? "is required and must not be null" : NULL;
	appendStringInfo(body, "%s\"%s\":", body->len > 0 ? "," : "{", attribute->name);
	start = body->len;
	problem = write_value(body, attribute, type, value);
	if (problem == NULL && required && strcmp(body->data + start, "\"\"") == 0)
		problem = "is required and must not be empty";
	if (problem == NULL && strcmp(attribute->name, "loginName") == 0)
		user->login_name = text_of(type, value);
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

/*
 * serialize.c: users as JSON for the wire, and who they are.
 *
 * Users are given as jsonb and written as JSON text. Numbers and booleans are written unquoted,
 * the form that the API documents; its examples quote them, which it does not promise to accept.
 * Unknown attributes pass unchanged. It knows nothing of requests.
 */
#include "postgres.h"

#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

#include "user/attribute.h"
#include "user/login.h"
#include "user/serialize.h"

/* ----- writing ----- */

static void write_user_value(StringInfo out, LpuValueKind kind, const JsonbValue *value);

static void
write_string(StringInfo out, const char *text, int length)
{
	char	   *copy = pnstrdup(text, length);

	escape_json(out, copy);
	pfree(copy);
}

static void
write_user_elements(StringInfo out, LpuValueKind kind, JsonbContainer *array)
{
	JsonbIterator *it = JsonbIteratorInit(array);
	JsonbValue	element;
	bool		first = true;

	(void) JsonbIteratorNext(&it, &element, true);
	appendStringInfoChar(out, '[');
	while (JsonbIteratorNext(&it, &element, true) == WJB_ELEM)
	{
		/*
		 * a service that returns nulls in arrays of ids does not accept them
		 */
		if (element.type == jbvNull)
			continue;
		if (!first)
			appendStringInfoChar(out, ',');
		first = false;
		write_user_value(out, kind, &element);
	}
	appendStringInfoChar(out, ']');
}

static void
write_object(StringInfo out, const LpuAttribute *defs, int n, JsonbContainer *object)
{
	JsonbIterator *it = JsonbIteratorInit(object);
	JsonbValue	value;
	bool		first = true;

	(void) JsonbIteratorNext(&it, &value, true);
	appendStringInfoChar(out, '{');
	while (JsonbIteratorNext(&it, &value, true) == WJB_KEY)
	{
		const LpuAttribute *def = lpu_find_attribute(defs, n, &value);

		if (!first)
			appendStringInfoChar(out, ',');
		first = false;
		write_string(out, value.val.string.val, value.val.string.len);
		appendStringInfoChar(out, ':');
		(void) JsonbIteratorNext(&it, &value, true);
		write_user_value(out, def ? def->kind : LPU_ANY, &value);
	}
	appendStringInfoChar(out, '}');
}

/*
 * Write a number or boolean, however it was written, in the API's own form: 3.0 as 3, "true" as
 * true.  Return false if it is neither.
 */
static bool
write_plain(StringInfo out, LpuValueKind kind, const JsonbValue *value)
{
	int64		number;
	bool		boolean;

	if (kind == LPU_BOOLEAN && lpu_value_as_boolean(value, &boolean))
	{
		appendStringInfoString(out, boolean ? "true" : "false");
		return true;
	}
	if ((kind == LPU_LONG || kind == LPU_ID || kind == LPU_NUMBER) &&
		lpu_value_as_int64(value, &number))
	{
		appendStringInfo(out, INT64_FORMAT, number);
		return true;
	}
	return false;
}

static void
write_scalar(StringInfo out, const JsonbValue *value)
{
	Datum		number;

	switch (value->type)
	{
		case jbvNull:
			appendStringInfoString(out, "null");
			break;
		case jbvBool:
			appendStringInfoString(out, value->val.boolean ? "true" : "false");
			break;
		case jbvNumeric:
			number = DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric));
			appendStringInfoString(out, DatumGetCString(number));
			break;
		case jbvString:
			write_string(out, value->val.string.val, value->val.string.len);
			break;
		default:
			elog(ERROR, "unexpected jsonb value type %d", (int) value->type);
	}
}

static void
write_normalized_user(StringInfo out, const JsonbValue *value)
{
	char	   *text = lpu_text_nfc(pnstrdup(value->val.string.val, value->val.string.len));

	write_string(out, text, strlen(text));
	pfree(text);
}

static void
write_user_value(StringInfo out, LpuValueKind kind, const JsonbValue *value)
{
	LpuValueKind element = lpu_element_kind(kind);

	if (lpu_jsonb_is_array(value) && element != LPU_ANY)
		write_user_elements(out, element, value->val.binary.data);
	else if (lpu_jsonb_is_object(value) && kind == LPU_GROUP)
		write_object(out, lpu_group_members, lpu_ngroup_members, value->val.binary.data);
	else if (value->type == jbvBinary)
		(void) JsonbToCString(out, value->val.binary.data, value->val.binary.len);
	else if (value->type == jbvString && (kind == LPU_LOGIN || kind == LPU_EMAIL))
		write_normalized_user(out, value);
	else if (!write_plain(out, kind, value))
		write_scalar(out, value);
}

/* Append the value of one attribute, which must have passed lpu_value_check(). */
void
lpu_value_write(StringInfo out, LpuValueKind kind, Jsonb *document)
{
	JsonbValue	value;

	if (!JB_ROOT_IS_SCALAR(document) || !JsonbExtractScalar(&document->root, &value))
	{
		value.type = jbvBinary;
		value.val.binary.data = &document->root;
		value.val.binary.len = VARSIZE(document) - VARHDRSZ;
	}
	write_user_value(out, kind, &value);
}

/*
 * Append the users as JSON text in the database's encoding, in the form they have (array or
 * object). Numbers and booleans that are written as strings become real ones. The users must
 * have passed lpu_users_check().  Return the ordinal, from 1, of the first that is larger than
 * LPU_MAX_USER, or 0.
 */
int
lpu_users_write(StringInfo out, Jsonb *users)
{
	JsonbIterator *it = NULL;
	JsonbValue	user;
	bool		array = JB_ROOT_IS_ARRAY(users);
	int			ordinal = 0;
	int			large = 0;

	if (array)
		appendStringInfoChar(out, '[');
	while (lpu_next_user(&it, &users->root, &user))
	{
		int			start;

		if (ordinal++ > 0)
			appendStringInfoChar(out, ',');
		start = out->len;
		write_object(out, lpu_attributes, lpu_nattributes, user.val.binary.data);
		if (large == 0 && out->len - start > LPU_MAX_USER)
			large = ordinal;
	}
	if (array)
		appendStringInfoChar(out, ']');
	return large;
}

/*
 * Return each user as a C string, in the current memory context; n is their number. What is no
 * object becomes NULL.
 */
char	  **
lpu_users_write_each(Jsonb *users, int n)
{
	char	  **texts = palloc0(Max(n, 1) * sizeof(char *));
	JsonbIterator *it = NULL;
	JsonbValue	user;
	int			i;

	for (i = 0; i < n && lpu_next_user(&it, &users->root, &user); i++)
	{
		StringInfoData out;

		if (!lpu_jsonb_is_object(&user))
			continue;
		initStringInfo(&out);
		write_object(&out, lpu_attributes, lpu_nattributes, user.val.binary.data);
		texts[i] = out.data;
	}
	return texts;
}

/* ----- who is who ----- */

/*
 * Return login names and ids, as far as they are given, of an array of users or of one, in the
 * current memory context; *n is their number.
 */
LpuUserIdentity *
lpu_users_identify(Jsonb *users, int *n)
{
	int			room = JB_ROOT_IS_ARRAY(users) ? JB_ROOT_COUNT(users) : 1;
	LpuUserIdentity *identities = palloc0(Max(room, 1) * sizeof(LpuUserIdentity));
	JsonbIterator *it = NULL;
	JsonbValue	user;
	JsonbValue	value;

	*n = 0;
	if (JB_ROOT_IS_SCALAR(users))
		return identities;
	while (lpu_next_user(&it, &users->root, &user))
	{
		LpuUserIdentity *identity = &identities[(*n)++];

		if (!lpu_jsonb_is_object(&user))
			continue;
		if (lpu_jsonb_get_member(user.val.binary.data, "loginName", &value) != NULL &&
			value.type == jbvString)
			identity->login_name = lpu_text_nfc(pnstrdup(value.val.string.val,
														 value.val.string.len));
		if (lpu_jsonb_get_member(user.val.binary.data, "id", &value) == NULL ||
			!lpu_value_as_int64(&value, &identity->id))
			identity->id = 0;
	}
	return identities;
}

/*
 * Return the values of the attributes that hold secrets, a list of C strings in the current
 * memory context, to keep them out of messages.
 */
List *
lpu_users_secrets(Jsonb *users)
{
	JsonbIterator *it = NULL;
	JsonbValue	user;
	JsonbValue	value;
	List	   *secrets = NIL;
	int			i;

	if (JB_ROOT_IS_SCALAR(users))
		return NIL;
	while (lpu_next_user(&it, &users->root, &user))
		for (i = 0; lpu_jsonb_is_object(&user) && i < lpu_nattributes; i++)
		{
			if ((lpu_attributes[i].rules & LPU_SECRET) == 0 ||
				lpu_jsonb_get_member(user.val.binary.data, lpu_attributes[i].name,
									 &value) == NULL ||
				value.type != jbvString)
				continue;
			secrets = lappend(secrets, pnstrdup(value.val.string.val, value.val.string.len));
		}
	return secrets;
}

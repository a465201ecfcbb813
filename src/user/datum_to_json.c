/*
 * datum_to_json.c: values of SQL types as JSON values of attributes.
 *
 * Values are written directly into the JSON text, by the kind of the attribute and their type. A
 * value that does not fit is reported as a text, never raised. It knows neither where values
 * come from nor where they go.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "common/string.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"

#include "base/encoding.h"
#include "user/datum_to_json.h"
#include "user/login.h"
#include "user/serialize.h"

/* Return true for the types that hold nothing but numbers. */
bool
lpu_type_is_number(Oid type)
{
	return type == INT2OID || type == INT4OID || type == INT8OID || type == NUMERICOID ||
		type == OIDOID ||
		type == FLOAT4OID || type == FLOAT8OID;
}

/*
 * Dates as JSON has them, whatever the session's DateStyle; the blanks that
 * fill up a char(n) mean nothing.
 */
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
		default:
			getTypeOutputInfo(type, &function, &varlena);
			return OidOutputFunctionCall(function, value);
	}
}

/*
 * Convert json to jsonb, and its null to NULL: for the API an attribute that is null is absent,
 * too.
 */
void
lpu_datum_unify_json(Oid *type, Datum *value, bool *isnull)
{
	JsonbValue	scalar;
	Jsonb	   *jsonb;

	if (*isnull || (*type != JSONOID && *type != JSONBOID))
		return;
	if (*type == JSONOID)
		*value = DirectFunctionCall1(jsonb_in, CStringGetDatum(TextDatumGetCString(*value)));
	*type = JSONBOID;
	jsonb = DatumGetJsonbP(*value);
	*isnull = JB_ROOT_IS_SCALAR(jsonb) && JsonbExtractScalar(&jsonb->root, &scalar) &&
		scalar.type == jbvNull;
}

/*
 * Return the value as text, a JSON string without its quotes. Allocated in the current memory
 * context.
 */
char *
lpu_datum_text(Oid type, Datum value)
{
	JsonbValue	scalar;

	if (type == JSONBOID && JB_ROOT_IS_SCALAR(DatumGetJsonbP(value)) &&
		JsonbExtractScalar(&DatumGetJsonbP(value)->root, &scalar) && scalar.type == jbvString)
		return pnstrdup(scalar.val.string.val, scalar.val.string.len);
	return output(type, value);
}

/* Of a number type: not "NaN" or "Infinity", which JSON does not know. */
static bool
is_plain_number(const char *text)
{
	return strspn(text, "+-0123456789.e") == strlen(text);
}

/* A whole number of a type whose text may write it otherwise. */
static bool
is_integer(Oid type, Datum value, int64 *number)
{
	float8		real = type == FLOAT4OID ? DatumGetFloat4(value) : type == FLOAT8OID ?
	DatumGetFloat8(value) : 0;

	if (type == INT4OID)
		*number = DatumGetInt32(value);
	else if (type == INT8OID)
		*number = DatumGetInt64(value);
	else if (type == INT2OID)
		*number = DatumGetInt16(value);
	else if ((type == FLOAT4OID || type == FLOAT8OID) && real == rint(real) &&
			 FLOAT8_FITS_IN_INT64(real))
		*number = (int64) real;
	else
		return false;
	return true;
}

static const char *
write_number(StringInfo out, LpuValueKind kind, Oid type, Datum value)
{
	char		digits[MAXINT8LEN + 1];
	int64		number = 0;
	bool		whole = is_integer(type, value, &number);
	char	   *text = NULL;

	/* the scale of a column is not part of the number: 3.0 is 3 */
	if (type == NUMERICOID)
		value = DirectFunctionCall1(numeric_trim_scale, value);
	if (!whole)
		text = output(type, value);

	whole = whole || lpu_text_as_int64(text, &number);

	if (!whole && (kind != LPU_NUMBER || !lpu_type_is_number(type) || !is_plain_number(text)))
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
	char	   *text = type == BOOLOID ? (DatumGetBool(value) ? "true" : "false") :
	output(type, value);

	if (pg_strcasecmp(text, "true") != 0 && pg_strcasecmp(text, "false") != 0)
		return "must be true or false";
	appendStringInfoString(out, pg_strcasecmp(text, "true") == 0 ? "true" : "false");
	return NULL;
}

/* A group by its id. */
static const char *
write_group(StringInfo out, Oid type, Datum value)
{
	const char *problem;

	if (!lpu_type_is_number(type))
		return "must be a group id, or jsonb such as jsonb_build_object('agentGroupId', 1)";
	appendStringInfoString(out, "{\"agentGroupId\":");
	problem = write_number(out, LPU_LONG, type, value);
	appendStringInfoChar(out, '}');
	return problem;
}

/* An array of ids or groups; "expected" is said if it is something else. */
static const char *
write_array_elements(StringInfo out, LpuValueKind kind, Oid type, Datum value, const char *expected)
{
	Oid			element = get_element_type(type);
	int16		length;
	bool		byval;
	char		align;
	Datum	   *values;
	bool	   *nulls;
	int			n;
	int			i;

	if (!OidIsValid(element) || ARR_NDIM(DatumGetArrayTypeP(value)) > 1)
		return expected;
	get_typlenbyvalalign(element, &length, &byval, &align);
	deconstruct_array(DatumGetArrayTypeP(value), element, length, byval, align, &values, &nulls,
					  &n);
	appendStringInfoChar(out, '[');
	for (i = 0; i < n; i++)
	{
		if (nulls[i])
			return "must not hold null";
		if (i > 0)
			appendStringInfoChar(out, ',');
		if ((kind == LPU_GROUP ? write_group(out, element, values[i]) :
			 write_number(out, kind, element, values[i])) != NULL)
			return expected;
	}
	appendStringInfoChar(out, ']');
	return NULL;
}

/* jsonb stands for itself, if it is what the attribute needs. */
static const char *
write_json(StringInfo out, const LpuAttribute *attribute, Datum value, LpuUserUse use)
{
	Jsonb	   *jsonb = DatumGetJsonbP(value);
	const char *problem = lpu_value_check(attribute, jsonb, use);

	if (problem == NULL)
		lpu_value_write(out, attribute->kind, jsonb);
	return problem;
}

/* Every type has a text form, but "t", "{a,b}" and "(a,b)" are not names: refuse those types. */
static const char *
write_text(StringInfo out, Oid type, Datum value)
{
	if (type != TEXTOID && type != VARCHAROID &&
		(type == BOOLOID || type_is_rowtype(type) || OidIsValid(get_element_type(type))))
		return "must be a string";
	escape_json(out, output(type, value));
	return NULL;
}

/* In NFC. */
static const char *
write_normalized_json(StringInfo out, Oid type, Datum value)
{
	int			length = out->len;
	const char *problem = write_text(out, type, value);

	if (problem != NULL || pg_is_ascii(out->data + length))
		return problem;
	out->len = length;
	escape_json(out, lpu_text_nfc(output(type, value)));
	return NULL;
}

static const char *
write_login(StringInfo out, Oid type, Datum value)
{
	const char *problem = write_normalized_json(out, type, value);

	return problem ? problem : lpu_login_check(output(type, value));
}

/* Append a value that is not null: as number or boolean if it is one, else as string. */
void
lpu_datum_write_scalar(StringInfo out, Oid type, Datum value)
{
	char	   *text = output(type, value);

	if (type == BOOLOID)
		appendStringInfoString(out, DatumGetBool(value) ? "true" : "false");
	else if (lpu_type_is_number(type) && is_plain_number(text))
		appendStringInfoString(out, text);
	else
		escape_json(out, text);
}

/*
 * Set *json to a value that is not null: a number or boolean if it is one, else a string.
 * Allocated in the current memory context.
 */
void
lpu_datum_scalar(JsonbValue *json, Oid type, Datum value)
{
	int64		number;
	char	   *text;

	if (type == BOOLOID)
	{
		json->type = jbvBool;
		json->val.boolean = DatumGetBool(value);
		return;
	}
	if (is_integer(type, value, &number))
	{
		json->type = jbvNumeric;
		json->val.numeric = int64_to_numeric(number);
		return;
	}
	text = output(type, value);

	if (lpu_type_is_number(type) && is_plain_number(text))
	{
		json->type = jbvNumeric;
		json->val.numeric = DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(text),
																ObjectIdGetDatum(InvalidOid),
																Int32GetDatum(-1)));
		return;
	}
	json->type = jbvString;
	json->val.string.val = text;

	json->val.string.len = strlen(text);
}

/* An attribute that this version does not know: as its type suggests. */
static const char *
write_any(StringInfo out, Oid type, Datum value)
{
	if (OidIsValid(get_element_type(type)))
		appendStringInfoString(out, TextDatumGetCString(DirectFunctionCall1(array_to_json, value)));
	else
		lpu_datum_write_scalar(out, type, value);
	return NULL;
}

/*
 * Append a value that is not null in the form that the attribute needs; json must be unified
 * before. A group may be given by its id. Return what is wrong with the value (then what was
 * appended is of no use), or NULL.
 */
const char *
lpu_datum_write(StringInfo out, const LpuAttribute *attribute, Oid type, Datum value,
				LpuUserUse use)
{
	if (type == JSONBOID)
		return write_json(out, attribute, value, use);
	switch (attribute->kind)
	{
		case LPU_LONG:
		case LPU_ID:
		case LPU_NUMBER:
			return write_number(out, attribute->kind, type, value);
		case LPU_BOOLEAN:
			return write_boolean(out, type, value);
		case LPU_IDS:
			return write_array_elements(out, LPU_ID, type, value,
										"must be an array of positive whole numbers");
		case LPU_LONGS:
			return write_array_elements(out, LPU_LONG, type, value, "must be an array of whole numbers");
		case LPU_GROUP:
			return write_group(out, type, value);
		case LPU_GROUPS:
			return write_array_elements(out, LPU_GROUP, type, value,
										"must be an array of group ids, or jsonb");
		case LPU_ANY:
			return write_any(out, type, value);
		case LPU_LOGIN:
			return write_login(out, type, value);
		case LPU_EMAIL:
			return write_normalized_json(out, type, value);
		case LPU_TEXT:
		case LPU_DATE:
			break;
	}
	return write_text(out, type, value);
}

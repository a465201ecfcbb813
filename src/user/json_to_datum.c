/*
 * json_to_datum.c: values of the API as values of columns.
 *
 * Values go through the type's input function, which also words the error.
 * The API writes numbers and booleans as such or as strings, and whole numbers
 * also as 4.0 or 4e0; all mean the same here.  Values come in UTF-8 and leave
 * in the database's encoding.  A group assignment is shown as its
 * agentGroupId, and as itself only in a column of type json or jsonb.  Nulls
 * in arrays of ids are left out.  This file knows neither tables nor users.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"

#include "base/encoding.h"
#include "user/json_to_datum.h"
#include "user/merge.h"

/* How a type is made. */
typedef enum ConversionKind
{
	BY_INPUT,					/* its input function */
	BY_TEXT,
	BY_INTEGER,
	BY_JSON,
	BY_ELEMENTS,				/* an array */
	BY_BASE						/* a domain: as its base type */
} ConversionKind;

struct LpuConverter
{
	LpuValueKind kind;
	ConversionKind how;
	bool		takes_blank;	/* the empty string is a value of its own, not
								 * the absence of one */
	Oid			type;
	int32		typmod;
	FmgrInfo	input;
	Oid			ioparam;
	LpuConverter *element;		/* of an array; of a domain the base type's */
	int16		length;			/* of an array's elements */
	bool		byval;
	char		align;
	void	   *checks;			/* of a domain, kept by domain_check() */
	MemoryContext context;
};

static ConversionKind
way_of(Oid type, int32 typmod)
{
	switch (type)
	{
		case TEXTOID:
			return BY_TEXT;
		case VARCHAROID:
			return typmod < 0 ? BY_TEXT : BY_INPUT;
		case INT2OID:
		case INT4OID:
		case INT8OID:
			return BY_INTEGER;
		case JSONOID:
		case JSONBOID:
			return BY_JSON;
		default:
			return OidIsValid(get_element_type(type)) ? BY_ELEMENTS :
				get_typtype(type) == TYPTYPE_DOMAIN ? BY_BASE : BY_INPUT;
	}
}

static bool
is_text(Oid type)
{
	char		category;
	bool		preferred;

	get_type_category_preferred(type, &category, &preferred);
	return category == TYPCATEGORY_STRING;
}

/* Return what converts values of an attribute to this type, in the current memory context. */
LpuConverter *
lpu_converter_new(LpuValueKind kind, Oid type, int32 typmod)
{
	LpuConverter *c = palloc0(sizeof(LpuConverter));
	Oid			function;

	c->kind = kind;
	c->type = type;
	c->typmod = typmod;
	c->context = CurrentMemoryContext;
	c->how = way_of(type, typmod);
	c->takes_blank = c->how == BY_JSON || is_text(type);
	getTypeInputInfo(type, &function, &c->ioparam);
	fmgr_info(function, &c->input);
	if (c->how == BY_ELEMENTS)
	{
		Oid			element = get_element_type(type);

		c->element = lpu_converter_new(lpu_element_kind(kind), element, typmod);
		get_typlenbyvalalign(element, &c->length, &c->byval, &c->align);
	}
	if (c->how == BY_BASE)
	{
		Oid			base = getBaseTypeAndTypmod(type, &typmod);

		c->element = lpu_converter_new(kind, base, typmod);
	}
	return c;
}

/* ----- texts ----- */

/* In the database's encoding. */
static char *
to_server(const char *utf8, size_t length)
{
	char	   *text = pg_any_to_server(utf8, (int) length, PG_UTF8);

	return text == utf8 ? pnstrdup(utf8, length) : text;
}

/* The value as text: a string without its quotes, everything else as JSON writes it. */
static char *
text_of(const LpuValue *value)
{
	switch (value->type)
	{
		case LPU_VALUE_TRUE:
			return pstrdup("true");
		case LPU_VALUE_FALSE:
			return pstrdup("false");
		default:
			return to_server(value->text, value->length);
	}
}

static Datum
by_input(LpuConverter *c, const LpuValue *value)
{
	return InputFunctionCall(&c->input, text_of(value), c->ioparam, c->typmod);
}

static Datum
by_text(const LpuValue *value)
{
	const char *text = value->text;
	char	   *converted;

	if (text == NULL)
		return CStringGetTextDatum(text_of(value));
	/* without a copy if the encodings are the same */
	converted = pg_any_to_server(text, (int) value->length, PG_UTF8);
	return PointerGetDatum(converted == text ? cstring_to_text_with_len(text, (int) value->length) :
						   cstring_to_text(converted));
}

static Datum
by_json(LpuConverter *c, const LpuValue *value)
{
	StringInfoData quoted;

	if (value->type != LPU_VALUE_STRING)
		return by_input(c, value);
	initStringInfo(&quoted);
	escape_json(&quoted, text_of(value));
	return InputFunctionCall(&c->input, quoted.data, c->ioparam, c->typmod);
}

/* ----- scalars ----- */

static Datum
by_integer(LpuConverter *c, const LpuValue *value)
{
	int64		number;

	if ((value->type != LPU_VALUE_NUMBER && value->type != LPU_VALUE_STRING) ||
		!lpu_text_as_int64(value->text, &number))
		return by_input(c, value);
	return InputFunctionCall(&c->input, psprintf(INT64_FORMAT, number), c->ioparam, c->typmod);
}

/* ----- nested ----- */

/*
 * Return a nested value as jsonb. The text has been read before, so it is valid JSON; it is
 * converted to the database's encoding.
 */
static Jsonb *
parse_nested(const LpuValue *value)
{
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text_of(value))));
}

/* A value of a jsonb document as the reader would return it, in the current memory context. */
static LpuValue
value_of_jsonb(const JsonbValue *json)
{
	LpuValue	value = {LPU_VALUE_NULL};
	char	   *text = NULL;

	switch (json->type)
	{
		case jbvNull:
			break;
		case jbvBool:
			value.type = json->val.boolean ? LPU_VALUE_TRUE : LPU_VALUE_FALSE;
			break;
		case jbvNumeric:
			value.type = LPU_VALUE_NUMBER;
			text = DatumGetCString(DirectFunctionCall1(numeric_out,
													   NumericGetDatum(json->val.numeric)));

			break;
		case jbvString:
			value.type = LPU_VALUE_STRING;
			text = pnstrdup(json->val.string.val, json->val.string.len);

			break;
		default:
			value.type = LPU_VALUE_NESTED;
			text = JsonbToCString(NULL, json->val.binary.data, json->val.binary.len);

			break;
	}
	/* values are in UTF-8 */
	if (text !=NULL)
	{
		value.text = pg_server_to_any(text, (int) strlen(text), PG_UTF8);
		value.length = strlen(value.text);
	}
	return value;
}

/* Return true for [] and {}. */
static bool
is_hollow(const LpuValue *value)
{
	const char *inner;

	if (value->type != LPU_VALUE_NESTED)
		return false;
	inner = &value->text[1];

	inner += strspn(inner, " \t\r\n");
	return *inner == ']' || *inner == '}';
}

static Datum
by_elements(LpuConverter *c, const LpuValue *value)
{
	ArrayBuildState *array = initArrayResult(c->element->type, CurrentMemoryContext, false);
	bool		ids = c->element->kind != LPU_ANY;
	JsonbIterator *it;
	JsonbValue	json;
	Datum		element;
	bool		isnull;

	if (is_hollow(value))
		return PointerGetDatum(construct_empty_array(c->element->type));
	if (value->type != LPU_VALUE_NESTED || value->text[0] != '[')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("invalid input syntax for type %s: \"%s\"", format_type_be(c->type),
						text_of(value)),
				 errdetail("It is no array.")));
	it = JsonbIteratorInit(&parse_nested(value)->root);
	(void) JsonbIteratorNext(&it, &json, true);
	while (JsonbIteratorNext(&it, &json, true) == WJB_ELEM)
	{
		LpuValue	v = value_of_jsonb(&json);

		isnull = lpu_convert(c->element, &v, &element);
		if (!isnull || !ids)
			(void) accumArrayResult(array, element, isnull, c->element->type, CurrentMemoryContext);
	}
	return makeArrayResult(array, CurrentMemoryContext);
}

static bool
by_base(LpuConverter *c, const LpuValue *value, Datum *result)
{
	bool		isnull = lpu_convert(c->element, value, result);

	domain_check(isnull ? (Datum) 0 : *result, isnull, c->type, &c->checks, c->context);
	return isnull;
}

/*
 * The id of a group assignment: of {"agentGroupId": 1, ...}, or of an array of
 * one of these or of one id.  {} and [] are no group.  Anything else stays as
 * it is.
 */
static LpuValue
group_id(const LpuValue *value)
{
	JsonbContainer *object = &parse_nested(value)->root;
	LpuValue	none = {LPU_VALUE_NULL};
	JsonbValue	member;

	if (JsonContainerSize(object) == 0)
		return none;
	if (JsonContainerIsArray(object))
	{
		JsonbValue *element = getIthJsonbValueFromContainer(object, 0);

		if (JsonContainerSize(object) > 1 || lpu_jsonb_is_array(element))
			return *value;
		if (!lpu_jsonb_is_object(element))
			return value_of_jsonb(element);
		object = element->val.binary.data;
	}
	if (lpu_jsonb_get_member(object, "agentGroupId", &member) == NULL || member.type == jbvBinary)
		return *value;
	return value_of_jsonb(&member);
}

/* Return true if values of the kind are neither arrays nor objects. */
static bool
is_scalar(LpuValueKind kind)
{
	return kind != LPU_ANY && kind != LPU_GROUP && lpu_element_kind(kind) == LPU_ANY;
}

/*
 * Convert a value, in the current memory context. Return true if it is null: null, absent, or,
 * unless the column holds text, the empty string that the API writes for what it does not show. An
 * empty array or object stands for nothing in any attribute (compare.c).
 * Raises for a value that the type does not take.
 */
bool
lpu_convert(LpuConverter *c, const LpuValue *value, Datum *result)
{
	LpuValue	group;

	if (c->how == BY_BASE)
		return by_base(c, value, result);
	if (c->kind == LPU_GROUP && c->how != BY_JSON && value->type == LPU_VALUE_NESTED)
	{
		group = group_id(value);
		value = &group;
	}
	if (value->type == LPU_VALUE_ABSENT || value->type == LPU_VALUE_NULL ||
		(value->type == LPU_VALUE_STRING && value->length == 0 && !c->takes_blank) ||
		(c->how != BY_JSON && is_scalar(c->kind) && is_hollow(value)))
		return true;
	switch (c->how)
	{
		case BY_INPUT:
			*result = by_input(c, value);
			break;
		case BY_TEXT:
			*result = by_text(value);
			break;
		case BY_INTEGER:
			*result = by_integer(c, value);
			break;
		case BY_JSON:
			*result = by_json(c, value);
			break;
		case BY_ELEMENTS:
			*result = by_elements(c, value);
			break;
		case BY_BASE:			/* not here */
			break;
	}
	return false;
}

/*
 * Return an entity without its secrets, whose n values say which of them it has; NULL: not known.
 * Allocated in the current memory context. Raises if it has one and is not JSON that jsonb holds.
 */
LpuValue
lpu_value_without_secrets(const LpuValue *whole, const LpuValue *secrets, int n)
{
	LpuValue	value = {LPU_VALUE_NESTED};
	Jsonb	   *entity;
	char	   *text;
	int			i;

	for (i = 0; i < n && secrets[i].type == LPU_VALUE_ABSENT; i++)
		;
	if (secrets != NULL && i == n)
		return *whole;
	entity = parse_nested(whole);
	if (!JB_ROOT_IS_OBJECT(entity))
		return *whole;
	entity = lpu_user_without_secrets(entity);
	text = JsonbToCString(NULL, &entity->root, VARSIZE(entity));

	value.text = pg_server_to_any(text, (int) strlen(text), PG_UTF8);
	value.length = strlen(value.text);
	return value;
}

/* Return true for what a column of type boolean shows as true: true, "True", 1, "yes". */
bool
lpu_value_is_true(const LpuValue *value)
{
	const char *text = lpu_value_text(value);
	bool		result;

	return value->type == LPU_VALUE_TRUE ||
		(text !=NULL && parse_bool_with_len(text, value->length, &result) && result);
}

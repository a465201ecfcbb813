/*
 * json_to_datum.c: values of the API as values of columns.
 *
 * The API writes numbers and booleans as such or as strings; both mean the same here. The common types are made by hand;
 * all others, and whatever is not plain, go through the type's input function, which also words the error. Values come in
 * UTF-8 and leave in the database's encoding. A group assignment shows its agentGroupId, and itself only as JSON. It knows
 * neither tables nor users.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/lsyscache.h"

#include "user/json_to_datum.h"

/* A user has up to four profiles and some dozen skills; what has more is read in the general way. */
#define MAX_PLAIN 64

/* How a type is made. */
typedef enum way
{
	BY_INPUT,					/* its input function */
	BY_TEXT,
	BY_INTEGER,
	BY_BOOLEAN,
	BY_TIMESTAMP,
	BY_JSON,
	BY_ELEMENTS,				/* an array */
	BY_BASE						/* a domain: as its base type */
} way;

struct lpu_converter
{
	lpu_value_kind kind;
	way			how;
	bool		takes_blank;	/* the empty string is a value of its own, not the absence of one */
	Oid			type;
	int32		typmod;
	FmgrInfo	input;
	Oid			ioparam;
	lpu_converter *element;		/* of an array; of a domain the base type's */
	int16		length;			/* of an array's elements */
	bool		byval;
	char		align;
	void	   *checks;			/* of a domain, kept by domain_check() */
	MemoryContext context;
};

static way
way_of(Oid type, int32 typmod)
{
	switch (type)
	{
		case TEXTOID:
			return BY_TEXT;
		case VARCHAROID:
			return typmod < 0 ? BY_TEXT : BY_INPUT;
		case INT4OID:
		case INT8OID:
			return BY_INTEGER;
		case BOOLOID:
			return BY_BOOLEAN;
		case TIMESTAMPOID:
			return typmod < 0 ? BY_TIMESTAMP : BY_INPUT;
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

lpu_converter *
lpu_converter_new(lpu_value_kind kind, Oid type, int32 typmod)
{
	lpu_converter *c = palloc0(sizeof(lpu_converter));
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

		c->element = lpu_converter_new(kind == LPU_GROUPS ? LPU_GROUP : LPU_ANY, element, typmod);
		get_typlenbyvalalign(element, &c->length, &c->byval, &c->align);
	}
	if (c->how == BY_BASE)
	{
		Oid			base = getBaseTypeAndTypmod(type, &typmod);

		c->element = lpu_converter_new(kind, base, typmod);
	}
	return c;
}

/* ------------------------------------------------------------------------------------------------------- texts */

/* In the database's encoding. */
static char *
to_server(const char *utf8, size_t length)
{
	char	   *text = pg_any_to_server(utf8, (int) length, PG_UTF8);

	return text == utf8 ? pnstrdup(utf8, length) : text;
}

/* The value as text: a string without its quotes, everything else as JSON writes it. */
static char *
text_of(const lpu_value *value)
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
by_input(lpu_converter *c, const lpu_value *value)
{
	return InputFunctionCall(&c->input, text_of(value), c->ioparam, c->typmod);
}

static Datum
by_text(const lpu_value *value)
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
by_json(lpu_converter *c, const lpu_value *value)
{
	StringInfoData quoted;

	if (value->type != LPU_VALUE_STRING)
		return by_input(c, value);
	initStringInfo(&quoted);
	escape_json(&quoted, text_of(value));
	return InputFunctionCall(&c->input, quoted.data, c->ioparam, c->typmod);
}

/* ------------------------------------------------------------------------------------------------------- scalars */

/* Only digits, and few enough to fit: what int8in() need not see. */
static bool
plain_integer(const lpu_value *value, int64 *number)
{
	const char *c = value->text;
	const char *end = c + value->length;
	bool		negative = value->length > 0 && *c == '-';

	if (negative)
		c++;
	if (c == end || end - c > 18)
		return false;
	for (*number = 0; c < end; c++)
	{
		if (*c < '0' || *c > '9')
			return false;
		*number = *number * 10 + (*c - '0');
	}
	if (negative)
		*number = -*number;
	return true;
}

static Datum
by_integer(lpu_converter *c, const lpu_value *value)
{
	int64		number;

	if ((value->type != LPU_VALUE_NUMBER && value->type != LPU_VALUE_STRING) || !plain_integer(value, &number))
		return by_input(c, value);
	if (c->type == INT8OID)
		return Int64GetDatum(number);
	return number >= PG_INT32_MIN && number <= PG_INT32_MAX ? Int32GetDatum((int32) number) : by_input(c, value);
}

static Datum
by_boolean(lpu_converter *c, const lpu_value *value)
{
	if (value->type == LPU_VALUE_TRUE || value->type == LPU_VALUE_FALSE)
		return BoolGetDatum(value->type == LPU_VALUE_TRUE);
	return by_input(c, value);
}

/* Two digits, or something that is no part of a date or a time. */
static int
two_digits(const char *p)
{
	return p[0] >= '0' && p[0] <= '9' && p[1] >= '0' && p[1] <= '9' ? (p[0] - '0') * 10 + (p[1] - '0') : 100;
}

/* "2026-02-28 10:11:12", as the API writes it and every DateStyle reads it, and a day that there is. */
static bool
plain_timestamp(const char *p, size_t length, Timestamp *result)
{
	int			year;
	int			month;
	int			day;
	int			hour;
	int			minute;
	int			second;

	if (length != strlen("2026-02-28 10:11:12") || p[4] != '-' || p[7] != '-' || p[10] != ' ' || p[13] != ':' ||
		p[16] != ':')
		return false;
	year = two_digits(p) * 100 + two_digits(p + 2);
	month = two_digits(p + 5);
	day = two_digits(p + 8);
	hour = two_digits(p + 11);
	minute = two_digits(p + 14);
	second = two_digits(p + 17);
	if (two_digits(p) > 99 || two_digits(p + 2) > 99 || year < 1 || month < 1 || month > MONTHS_PER_YEAR || day < 1 ||
		hour >= HOURS_PER_DAY || minute >= MINS_PER_HOUR || second >= SECS_PER_MINUTE ||
		day > day_tab[isleap(year)][month - 1])
		return false;
	*result = (date2j(year, month, day) - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY +
		((hour * MINS_PER_HOUR + minute) * SECS_PER_MINUTE + second) * USECS_PER_SEC;
	return true;
}

static Datum
by_timestamp(lpu_converter *c, const lpu_value *value)
{
	Timestamp	result;

	if (value->type != LPU_VALUE_STRING || !plain_timestamp(value->text, value->length, &result))
		return by_input(c, value);
	return TimestampGetDatum(result);
}

/* ------------------------------------------------------------------------------------------------------- nested */

/* The value of a member of an object, in the current memory context. */
static lpu_value
read_member(const char *object, size_t length, const char *name)
{
	lpu_reader *reader = lpu_reader_new(&name, 1, false);

	lpu_reader_feed(reader, object, length);
	lpu_reader_end(reader);
	if (lpu_reader_next(reader) != LPU_READER_ELEMENT)
		elog(ERROR, "a value that has been read cannot be read again: %s", lpu_reader_complaint(reader));
	return lpu_reader_values(reader)[0];
}

static const char *
skip_blanks(const char *p)
{
	return p + strspn(p, " \t\n\r");
}

/* Where the element of an array ends that begins here: at a comma or a bracket. */
static const char *
end_of_element(const char *p)
{
	bool		in_string = false;
	int			depth = 0;

	for (;; p++)
	{
		if (in_string)
		{
			if (*p == '\\')
				p++;
			else
				in_string = *p != '"';
		}
		else if (depth == 0 && (*p == ',' || *p == ']'))
			return p;
		else if (*p == '"')
			in_string = true;
		else if (*p == '[' || *p == '{')
			depth++;
		else if (*p == ']' || *p == '}')
			depth--;
	}
}

/* The elements of an array. The reader knows members of objects, so each becomes one. */
static lpu_value *
read_elements(const char *array, int *n)
{
	const char *p = array + 1;
	int			room = 8;
	lpu_value  *values = palloc(room * sizeof(lpu_value));

	*n = 0;
	if (*skip_blanks(p) == ']')
		return values;
	for (;; p++)
	{
		const char *end = end_of_element(p);
		StringInfoData object;

		if (*n == room)
			values = repalloc(values, (room *= 2) * sizeof(lpu_value));
		initStringInfo(&object);
		appendStringInfoString(&object, "{\"\":");
		appendBinaryStringInfo(&object, p, (int) (end - p));
		appendStringInfoChar(&object, '}');
		values[(*n)++] = read_member(object.data, object.len, "");
		p = end;
		if (*p == ']')
			return values;
	}
}

/*
 * An array of whole numbers, as ids are, quoted or not, read without a tree of it, which costs more than all other columns
 * of a user together. False: it is something else.
 */
static bool
plain_integers(lpu_converter *c, const lpu_value *value, Datum *result)
{
	Datum		numbers[MAX_PLAIN];
	const char *p = skip_blanks(value->text + 1);
	int			n = 0;

	if (c->element->type != INT8OID)
		return false;
	while (*p != ']')
	{
		bool		quoted = *p == '"';
		lpu_value	number = {LPU_VALUE_NUMBER, p + quoted, strspn(p + quoted, "-0123456789")};
		int64		plain;

		p = number.text + number.length;
		if (n == MAX_PLAIN || !plain_integer(&number, &plain) || (quoted && *p != '"'))
			return false;
		numbers[n++] = Int64GetDatum(plain);
		p = skip_blanks(p + quoted);
		if (*p == ',')
			p = skip_blanks(p + 1);
		else if (*p != ']')
			return false;
	}
	*result = PointerGetDatum(construct_array(numbers, n, INT8OID, c->length, c->byval, c->align));
	return true;
}

static Datum
by_elements(lpu_converter *c, const lpu_value *value)
{
	Datum		result;
	lpu_value  *elements;
	int			n;
	Datum	   *values;
	bool	   *nulls;
	int			lower = 1;
	int			i;

	if (value->type != LPU_VALUE_NESTED || value->text[0] != '[')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("invalid input syntax for type %s: \"%s\"", format_type_be(c->type), text_of(value)),
				 errdetail("It is no array.")));
	if (plain_integers(c, value, &result))
		return result;
	elements = read_elements(value->text, &n);
	values = palloc(Max(n, 1) * sizeof(Datum));
	nulls = palloc(Max(n, 1) * sizeof(bool));
	for (i = 0; i < n; i++)
		nulls[i] = lpu_convert(c->element, &elements[i], &values[i]);
	if (n == 0)
		return PointerGetDatum(construct_empty_array(c->element->type));
	return PointerGetDatum(construct_md_array(values, nulls, 1, &n, &lower, c->element->type, c->length, c->byval,
											  c->align));
}

static bool
by_base(lpu_converter *c, const lpu_value *value, Datum *result)
{
	bool		isnull = lpu_convert(c->element, value, result);

	domain_check(isnull ? (Datum) 0 : *result, isnull, c->type, &c->checks, c->context);
	return isnull;
}

static bool
is_empty_object(const lpu_value *value)
{
	return value->text[0] == '{' && *skip_blanks(value->text + 1) == '}';
}

/*
 * Of {"agentGroupId": 1, ...} the id; of {}, as the API may write that there is no group, nothing. What is no such object
 * stays as it is.
 */
static lpu_value
group_id(const lpu_value *value)
{
	lpu_value	id = *value;

	if (value->type == LPU_VALUE_NESTED && value->text[0] == '{')
		id = read_member(value->text, value->length, "agentGroupId");
	return id.type == LPU_VALUE_NESTED || (id.type == LPU_VALUE_ABSENT && !is_empty_object(value)) ? *value : id;
}

bool
lpu_convert(lpu_converter *c, const lpu_value *value, Datum *result)
{
	lpu_value	group;

	if (c->how == BY_BASE)
		return by_base(c, value, result);
	if (c->kind == LPU_GROUP && c->how != BY_JSON && value->type == LPU_VALUE_NESTED)
	{
		group = group_id(value);
		value = &group;
	}
	if (value->type == LPU_VALUE_ABSENT || value->type == LPU_VALUE_NULL ||
		(value->type == LPU_VALUE_STRING && value->length == 0 && !c->takes_blank))
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
		case BY_TIMESTAMP:
			*result = by_timestamp(c, value);
			break;
		case BY_BOOLEAN:
			*result = by_boolean(c, value);
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

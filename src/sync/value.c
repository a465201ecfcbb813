/*
 * value.c: values of attributes in the form in which a sync compares them.
 *
 * Source and account are joined and compared in SQL, for all users at once. Values with the same
 * meaning (user/compare.c) must be equal there, so both sides are converted to one form while they
 * are read. The forms have only types of pg_catalog, and the SQL generated here runs with the
 * rights of the role that reads: the extension's owner uses no operator or cast of a type that
 * another role created.
 */
#include "postgres.h"

#include <float.h>

#include "catalog/pg_type.h"
#include "lib/qunique.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"

#include "base/compat.h"
#include "base/encoding.h"
#include "sync/value.h"
#include "user/datum_to_json.h"
#include "user/login.h"

PG_FUNCTION_INFO_V1(_lp_sync_fold);

/* Return the form in which values of an attribute are compared. */
LpuSyncForm
lpu_sync_form(LpuValueKind kind)
{
	switch (kind)
	{
		case LPU_LOGIN:
		case LPU_EMAIL:
			return LPU_FORM_FOLDED;
		case LPU_LONG:
		case LPU_ID:
		case LPU_NUMBER:
			return LPU_FORM_NUMBER;
		case LPU_BOOLEAN:
			return LPU_FORM_BOOLEAN;
		case LPU_IDS:
		case LPU_LONGS:
		case LPU_GROUP:
		case LPU_GROUPS:
			return LPU_FORM_SET;
		case LPU_ANY:
		case LPU_TEXT:
		case LPU_DATE:
			break;
	}
	return LPU_FORM_TEXT;
}

/* Return the type of a form. */
Oid
lpu_sync_form_type(LpuSyncForm form)
{
	static const Oid types[] = {
		[LPU_FORM_TEXT] = TEXTOID,
		[LPU_FORM_FOLDED] = TEXTOID,
		[LPU_FORM_NUMBER] = NUMERICOID,
		[LPU_FORM_BOOLEAN] = BOOLOID,
		[LPU_FORM_SET] = INT8ARRAYOID,
		[LPU_FORM_NAMES] = TEXTARRAYOID,
	};

	return types[form];
}

/* Return true if values of the form are compared by a second one, lpu_sync_fold(). */
bool
lpu_sync_form_folds(LpuSyncForm form)
{
	return form == LPU_FORM_FOLDED || form == LPU_FORM_NAMES;
}

/* ----- SQL that reads a column ----- */

/* Return true for types whose text representation is the value. */
static bool
is_textual(Oid type)
{
	char		category;
	bool		preferred;

	if (!OidIsValid(type))
		return false;
	get_type_category_preferred(type, &category, &preferred);
	return category == TYPCATEGORY_STRING || category == TYPCATEGORY_ENUM ||
		category == TYPCATEGORY_NUMERIC || category == TYPCATEGORY_DATETIME || type == UUIDOID;
}

/* Return true if a column of this type can hold an attribute, or its names. */
bool
lpu_sync_type_fits(LpuValueKind kind, bool names, Oid type)
{
	Oid			base = getBaseType(type);
	Oid			element = get_element_type(base);

	if (OidIsValid(element))
		element = getBaseType(element);
	switch (lpu_sync_form(kind))
	{
		case LPU_FORM_NUMBER:
			return lpu_type_is_number(base);
		case LPU_FORM_BOOLEAN:
			return base == BOOLOID;
		case LPU_FORM_SET:
			if (kind == LPU_GROUP)
				return names ? is_textual(base) : lpu_type_is_number(base);
			return OidIsValid(element) &&
				(names ? is_textual(element) : lpu_type_is_number(element));
		default:
			return is_textual(base);
	}
}

/* Return true for a number type, or an array of one, whose values may exceed bigint. */
static bool
exceeds_bigint(Oid type)
{
	Oid			element = get_element_type(type);

	if (OidIsValid(element))
		type = getBaseType(element);
	return type == NUMERICOID || type == FLOAT4OID || type == FLOAT8OID;
}

/*
 * Return SQL for a column, which is quoted, as text. The text of a time with time zone is that in
 * UTC, whatever TimeZone is.
 */
char *
lpu_sync_text_expression(Oid type, const char *column)
{
	if (getBaseType(type) == TIMESTAMPTZOID)
		return psprintf("(pg_catalog.timezone('UTC', %s)::pg_catalog.text "
						"OPERATOR(pg_catalog.||) '+00'::pg_catalog.text)", column);
	return psprintf("(%s)::pg_catalog.text", column);
}

/*
 * The column is quoted. An empty name of a group is the empty set: the user is in no group.
 */
char *
lpu_sync_expression(LpuValueKind kind, bool names, Oid type, bool checked, const char *column)
{
	const char *element = checked && exceeds_bigint(type) ? "numeric" : "int8";

	if (kind == LPU_GROUP && names)
		return psprintf("CASE WHEN (%s)::pg_catalog.text OPERATOR(pg_catalog.=) ''::pg_catalog.text"
						" THEN '{}'::pg_catalog.text[] WHEN (%s)::pg_catalog.text IS NOT NULL"
						" THEN ARRAY[(%s)::pg_catalog.text] END", column, column, column);
	if (kind == LPU_GROUP)
		return psprintf("CASE WHEN (%s)::pg_catalog.%s IS NOT NULL"
						" THEN ARRAY[(%s)::pg_catalog.%s] END", column, element, column, element);
	if (names)
		return psprintf("(%s)::pg_catalog.text[]", column);
	if (lpu_sync_form(kind) == LPU_FORM_SET)
		return psprintf("(%s)::pg_catalog.%s[]", column, element);
	if (lpu_sync_form_type(lpu_sync_form(kind)) == TEXTOID)
		return lpu_sync_text_expression(type, column);
	/* there is no cast from oid to numeric */
	return psprintf(getBaseType(type) == OIDOID ? "(%s)::pg_catalog.int8::%s" : "(%s)::%s", column,
					format_type_extended(lpu_sync_form_type(lpu_sync_form(kind)), -1,
										 FORMAT_TYPE_FORCE_QUALIFY));
}

/* ----- what an attribute cannot hold ----- */

static bool
is_bigint(Datum number, int64 *result)
{
	number = DirectFunctionCall1(numeric_trim_scale, number);
	return lpu_text_as_int64(DatumGetCString(DirectFunctionCall1(numeric_out, number)), result);
}

/* In the current memory context. */
bool
lpu_sync_whole_numbers(Datum numbers, Datum *set)
{
	ArrayType  *array = DatumGetArrayTypeP(numbers);
	Datum	   *elements;
	bool	   *nulls;
	int			count = 0;
	int			n;
	int			i;

	deconstruct_array(array, NUMERICOID, -1, false, TYPALIGN_INT, &elements, &nulls, &n);
	for (i = 0; i < n; i++)
	{
		int64		number;

		if (nulls[i])
			continue;
		if (!is_bigint(elements[i], &number))
			return false;
		elements[count++] = Int64GetDatum(number);
	}
	*set = PointerGetDatum(construct_array(elements, count, INT8OID, sizeof(int64),
										   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	return true;
}

/*
 * Most JSON parsers read numbers as double, so a number with more digits than a double keeps would
 * be returned changed; ids are exempt.
 */
const char *
lpu_sync_number_problem(LpuValueKind kind, Datum number)
{
	bool		is_whole;
	char	   *text;
	int64		whole;
	int			digits = 0;

	is_whole = is_bigint(number, &whole);
	if (kind == LPU_ID)
		return is_whole && whole > 0 ? NULL : "must be a positive whole number";
	if (kind == LPU_LONG)
		return is_whole ? NULL : "must be a whole number";
	text = DatumGetCString(DirectFunctionCall1(numeric_out, DirectFunctionCall1(numeric_trim_scale,
																				number)));

	if (strspn(text, "-.0123456789") != strlen(text))
		return "must be a number";
	for (text +=strspn(text, "-.0"); *text !='\0'; text ++)
		digits += *text !='.';
	return digits > DBL_DIG ? "must be a number of at most " CppAsString2(DBL_DIG) " digits" : NULL;
}

/* ----- one form ----- */

static bool
is_ascii(const char *text, int length)
{
	while (length > 0 && !IS_HIGHBIT_SET(text[length - 1]))
		length--;
	return length == 0;
}

static Datum
normalize_text(Datum value)
{
	text	   *given = DatumGetTextPP(value);
	const char *start = VARDATA_ANY(given);
	int			length = VARSIZE_ANY_EXHDR(given);

	if (!is_ascii(start, length))
	{
		start = lpu_text_nfc(text_to_cstring(given));
		length = (int) strlen(start);
	}
	else if (length == 0 || (start[0] != ' ' && start[length - 1] != ' '))
		return PointerGetDatum(given);
	for (; length > 0 && *start == ' '; length--)
		start++;
	while (length > 0 && start[length - 1] == ' ')
		length--;
	return PointerGetDatum(cstring_to_text_with_len(start, length));
}

static int
compare_ids(const void *a, const void *b)
{
	int64		left = *(const int64 *) a;
	int64		right = *(const int64 *) b;

	return left < right ? -1 : left > right;
}

static int
compare_texts(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

static Datum
normalize_set(Datum value)
{
	Datum	   *elements;
	bool	   *nulls;
	int64	   *ids;
	int			n;
	int			count = 0;
	int			i;

	deconstruct_array(DatumGetArrayTypeP(value), INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
					  TYPALIGN_DOUBLE, &elements, &nulls, &n);
	ids = palloc(Max(n, 1) * sizeof(int64));
	for (i = 0; i < n; i++)
		if (!nulls[i])
			ids[count++] = DatumGetInt64(elements[i]);
	qsort(ids, count, sizeof(int64), compare_ids);
	count = (int) qunique(ids, count, sizeof(int64), compare_ids);
	for (i = 0; i < count; i++)
		elements[i] = Int64GetDatum(ids[i]);
	return PointerGetDatum(construct_array(elements, count, INT8OID, sizeof(int64),
										   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/* Without nulls and blanks, ascending. */
static Datum
normalize_names(Datum value, bool folded)
{
	Datum	   *elements;
	bool	   *nulls;
	char	  **names;
	int			n;
	int			count = 0;
	int			i;

	deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT, &elements,
					  &nulls, &n);
	names = palloc(Max(n, 1) * sizeof(char *));
	for (i = 0; i < n; i++)
	{
		if (nulls[i])
			continue;
		names[count] = TextDatumGetCString(normalize_text(elements[i]));
		if (folded)
			names[count] = lpu_login_fold(names[count]);
		count += names[count][0] != '\0';
	}
	qsort(names, count, sizeof(char *), compare_texts);
	count = (int) qunique(names, count, sizeof(char *), compare_texts);
	for (i = 0; i < count; i++)
		elements[i] = CStringGetTextDatum(names[i]);
	return PointerGetDatum(construct_array(elements, count, TEXTOID, -1, false, TYPALIGN_INT));
}

/*
 * Return a value, which is not null, in its form, allocated in the current memory context or
 * unchanged.
 */
Datum
lpu_sync_normalize(LpuSyncForm form, Datum value)
{
	switch (form)
	{
		case LPU_FORM_TEXT:
		case LPU_FORM_FOLDED:
			return normalize_text(value);
		case LPU_FORM_SET:
			return normalize_set(value);
		case LPU_FORM_NAMES:
			return normalize_names(value, false);
		case LPU_FORM_NUMBER:
		case LPU_FORM_BOOLEAN:
			break;
	}
	return value;
}

/* Return the folded value, for a form that folds. */
Datum
lpu_sync_fold(LpuSyncForm form, Datum value)
{
	if (form == LPU_FORM_NAMES)
		return normalize_names(value, true);
	return CStringGetTextDatum(lpu_login_fold(TextDatumGetCString(value)));
}

/*
 * _lp_sync_fold(login text) RETURNS text: logins in SQL are compared as those of the two sides are.
 */
Datum
_lp_sync_fold(PG_FUNCTION_ARGS)
{
	return lpu_sync_fold(LPU_FORM_FOLDED, PG_GETARG_DATUM(0));
}

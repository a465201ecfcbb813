/*
 * compare.c: when two values of an attribute, or two users, mean the same.
 *
 * Accounts differ in how they write values: numbers and booleans as strings, sets of ids in any
 * order, no value as null, as an empty string or as an absent attribute, groups with the date of
 * the assignment. Such differences are ignored.
 */
#include "postgres.h"

#include "lib/qunique.h"
#include "lib/stringinfo.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

#include "base/encoding.h"
#include "user/attribute.h"
#include "user/compare.h"
#include "user/login.h"

typedef struct IdSet
{
	int64	   *ids;
	int			n;
} IdSet;

/* A string that numeric_in() takes. */
static bool
is_number(const char *text)
{
	size_t		digits;

	text	  +=*text == '-';

	digits = strspn(text, "0123456789");
	text	  +=digits;

	if (digits > 0 && *text == '.')
	{
		digits = strspn(++text, "0123456789");
		text	  +=digits;
	}
	if (digits > 0 && (*text == 'e' || *text == 'E'))
	{
		text	  ++;
		text	  +=*text == '-' || *text == '+';

		digits = strspn(text, "0123456789");
		/* numeric_in() raises for exponents of more digits */
		if (digits > 3)
			return false;
		text	  +=digits;
	}
	return digits > 0 && *text == '\0';
}

/* Return a number, also one that is written as a string; NULL if the value is none. */
static Numeric
as_numeric(const JsonbValue *value)
{
	char	   *text;

	if (value->type == jbvNumeric)
		return value->val.numeric;
	if (value->type != jbvString)
		return NULL;
	text = pnstrdup(value->val.string.val, value->val.string.len);

	if (!is_number(text))
		return NULL;
	return DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(text),
											   ObjectIdGetDatum(InvalidOid),
											   Int32GetDatum(-1)));
}

static bool
same_number(const JsonbValue *a, const JsonbValue *b)
{
	Numeric		left = as_numeric(a);
	Numeric		right = as_numeric(b);

	return left != NULL && right != NULL &&
		DatumGetBool(DirectFunctionCall2(numeric_eq, NumericGetDatum(left),
										 NumericGetDatum(right)));
}

/* Return 1 or 0, or -1 if the value is no boolean. */
static int
as_boolean(const JsonbValue *value)
{
	if (value->type == jbvBool)
		return value->val.boolean;
	if (value->type != jbvString)
		return -1;
	if (value->val.string.len == 4 && pg_strncasecmp(value->val.string.val, "true", 4) == 0)
		return 1;
	return value->val.string.len == 5 &&
		pg_strncasecmp(value->val.string.val, "false", 5) == 0 ? 0 : -1;
}

static bool
same_boolean(const JsonbValue *a, const JsonbValue *b)
{
	return as_boolean(a) >= 0 && as_boolean(a) == as_boolean(b);
}

/* As it is stored by an account that trims and composes. */
static char *
plain_text(const JsonbValue *value)
{
	char	   *text = lpu_text_nfc(pnstrdup(value->val.string.val, value->val.string.len));
	size_t		length = strlen(text);

	while (length > 0 && text[length - 1] == ' ')
		text[	  --length] = '\0';
	return text +strspn(text, " ");
}

static bool
same_text(const JsonbValue *a, const JsonbValue *b)
{
	return a->type == jbvString && b->type == jbvString &&
		strcmp(plain_text(a), plain_text(b)) == 0;
}

static bool
same_login(const JsonbValue *a, const JsonbValue *b)
{
	return a->type == jbvString && b->type == jbvString &&
		strcmp(lpu_login_fold(pnstrdup(a->val.string.val, a->val.string.len)),
			   lpu_login_fold(pnstrdup(b->val.string.val, b->val.string.len))) == 0;
}

/* ----- sets of ids ----- */

static int
compare_member_ids(const void *a, const void *b)
{
	int64		left = *(const int64 *) a;
	int64		right = *(const int64 *) b;

	return left < right ? -1 : left > right;
}

/* Add an id, or the id of a group.  Return false if the value is neither; null is nothing. */
static bool
add_member_id(IdSet *set, const JsonbValue *value)
{
	JsonbValue	member;
	Numeric		number;
	Datum		trimmed;
	int64		id;

	if (lpu_jsonb_is_object(value))
	{
		if (lpu_jsonb_get_member(value->val.binary.data, "agentGroupId", &member) == NULL)
			return JsonContainerSize(value->val.binary.data) == 0;
		value = &member;
	}
	if (value->type == jbvNull)
		return true;
	number = as_numeric(value);
	if (number == NULL)
		return false;
	trimmed = DirectFunctionCall1(numeric_trim_scale, NumericGetDatum(number));
	if (!lpu_text_as_int64(DatumGetCString(DirectFunctionCall1(numeric_out, trimmed)), &id))
		return false;
	set->ids[set->n++] = id;
	return true;
}

/* Read ids, groups, or one group.  Return false if the value is something else. */
static bool
read_ids(const JsonbValue *value, IdSet *set)
{
	JsonbIterator *it;
	JsonbValue	element;
	bool		ok = true;

	set->n = 0;
	if (!lpu_jsonb_is_array(value))
	{
		set->ids = palloc(sizeof(int64));
		return add_member_id(set, value);
	}
	set->ids = palloc(Max(JsonContainerSize(value->val.binary.data), 1) * sizeof(int64));
	it = JsonbIteratorInit(value->val.binary.data);
	(void) JsonbIteratorNext(&it, &element, true);
	while (ok && JsonbIteratorNext(&it, &element, true) == WJB_ELEM)
		ok = add_member_id(set, &element);
	qsort(set->ids, set->n, sizeof(int64), compare_member_ids);
	set->n = (int) qunique(set->ids, set->n, sizeof(int64), compare_member_ids);
	return ok;
}

static bool
same_ids(const JsonbValue *a, const JsonbValue *b)
{
	IdSet		left;
	IdSet		right;

	return read_ids(a, &left) && read_ids(b, &right) && left.n == right.n &&
		memcmp(left.ids, right.ids, left.n * sizeof(int64)) == 0;
}

/* ----- values ----- */

static bool
same_json(const JsonbValue *a, const JsonbValue *b)
{
	Jsonb	   *left = JsonbValueToJsonb(unconstify(JsonbValue *, a));
	Jsonb	   *right = JsonbValueToJsonb(unconstify(JsonbValue *, b));

	return compareJsonbContainers(&left->root, &right->root) == 0;
}

/* Return true if a value stands for nothing. */
static bool
is_empty(LpuValueKind kind, const JsonbValue *value)
{
	IdSet		set;

	if (value == NULL || value->type == jbvNull)
		return true;
	if (value->type == jbvString)
		return value->val.string.len == 0;
	if (kind == LPU_IDS || kind == LPU_LONGS || kind == LPU_GROUP || kind == LPU_GROUPS)
		return read_ids(value, &set) && set.n == 0;
	return value->type == jbvBinary && JsonContainerSize(value->val.binary.data) == 0;
}

/*
 * Return true if two values of an attribute of this kind mean the same.  NULL
 * stands for an attribute that is absent, and is the same as null, as an empty
 * text and as an empty list.  Logins and e-mails are compared as
 * lpu_login_fold() writes them, lists of ids as sets, groups by their id.
 * Allocates in the current memory context.
 */
bool
lpu_value_means_same(LpuValueKind kind, const JsonbValue *a, const JsonbValue *b)
{
	if (is_empty(kind, a) || is_empty(kind, b))
		return is_empty(kind, a) && is_empty(kind, b);
	switch (kind)
	{
		case LPU_LONG:
		case LPU_ID:
		case LPU_NUMBER:
			return same_number(a, b);
		case LPU_BOOLEAN:
			return same_boolean(a, b);
		case LPU_IDS:
		case LPU_LONGS:
		case LPU_GROUP:
		case LPU_GROUPS:
			return same_ids(a, b);
		case LPU_LOGIN:
		case LPU_EMAIL:
			return same_login(a, b);
		case LPU_TEXT:
		case LPU_DATE:
			return same_text(a, b);
		case LPU_ANY:
			break;
	}
	return same_json(a, b);
}

/*
 * Return the names of the attributes of a user that the account has with
 * another meaning, separated by commas; NULL if there are none.  Only
 * attributes that "wanted" has are compared, and of them only those that an
 * account shows as they were sent: no secrets, none that it leaves blank, none
 * that it sets itself, none that are not in the table.
 */
char *
lpu_user_differences(Jsonb *wanted, Jsonb *listed)
{
	StringInfoData names;
	int			i;

	initStringInfo(&names);
	for (i = 0; i < lpu_nattributes; i++)
	{
		const LpuAttribute *def = &lpu_attributes[i];
		JsonbValue	left;
		JsonbValue	right;

		if ((def->rules & (LPU_SECRET | LPU_HIDDEN | LPU_READ_ONLY)) != 0 ||
			lpu_jsonb_get_member(&wanted->root, def->name, &left) == NULL)
			continue;
		if (!lpu_value_means_same(def->kind, &left,
								  lpu_jsonb_get_member(&listed->root, def->name, &right)))
			appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "", def->name);
	}
	return names.len > 0 ? names.data : NULL;
}

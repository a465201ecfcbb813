/*
 * reader_compare.c: the reader of lists against json-c.
 *
 * Either both refuse a document, or both read the same values from it. json-c is laxer here and there than RFC 8259, even
 * if it is told to be strict. Each such case is one row of a table: what the reader complains of, and a function that
 * looks whether just that byte is such a case, and if so mends it. The mended document is then compared in turn, so that
 * nothing else in it escapes. Without a row for it, a difference is a failure.
 */
#include <json-c/json.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "standalone.h"

#include "json/array_reader.h"
#include "reader_compare.h"

/* As json.c sets it. */
#define MAX_DEPTH 32

/* Twice the same, ones that are alike, a long one, one that has to be written with escapes, one that is not ASCII. */
const char *const compared_names[] = {"id", "loginName", "a", "", "id", "b", "x\"\n", "loginNamE", "\xc3\xa9t\xc3\xa9",
"an_attribute_with_a_name_that_is_longer_than_all", "an_attribute_with_a_name_that_is_longer_than_all_others"};
const int	ncompared_names = sizeof(compared_names) / sizeof(compared_names[0]);

long		compared_documents;
long		accepted_documents;

uint64_t
next_random(uint64_t *seed)
{
	/* splitmix64 */
	uint64_t	z = (*seed += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* -------------------------------------------------------------------------------------------------------- readings */

/* What the reader said of a document: its elements, with all names and the whole last; or a complaint. */
typedef struct reading
{
	int			nvalues;		/* of an element */
	int			nelements;
	int			room;
	LpuValue  *values;
	LpuReaderState state;
	char		complaint[200];
} reading;

static void
add_value(LpuValue *copy, const LpuValue *value)
{
	*copy = *value;
	if (value->text == NULL)
		return;
	/* with the byte that has to be behind it */
	copy->text = memcpy(palloc(value->length + 1), value->text, value->length + 1);
}

static void
add_element(reading *r, const LpuReader *reader, int n, bool whole)
{
	LpuValue  *element;
	int			i;

	if (r->nelements == r->room)
	{
		r->room = r->room * 2 + 4;
		r->values = r->values ? repalloc(r->values, sizeof(LpuValue) * r->nvalues * r->room) :
			palloc(sizeof(LpuValue) * r->nvalues * r->room);
	}
	element = &r->values[r->nelements++ * r->nvalues];
	for (i = 0; i < n; i++)
		add_value(&element[i], &lpu_reader_values(reader)[i]);
	if (whole)
		add_value(&element[n], lpu_reader_whole(reader));
	else
		memset(&element[n], 0, sizeof(LpuValue));
}

/* How large the next piece is. NULL: as large as it can be. */
static size_t
next_piece(uint64_t *seed, size_t left)
{
	static const int sizes[] = {1, 2, 3, 7, 20, 100, 1000};
	size_t		size;

	if (seed == NULL)
		return left;
	size = next_random(seed) % (sizes[next_random(seed) % 7] + 1);
	return size < left ? size : left;
}

/* Each piece is memory of its own, which is gone as soon as the reader wants the next one. */
static reading *
read_document(const char *text, size_t length, int n, bool whole, uint64_t *seed)
{
	reading    *r = palloc0(sizeof(reading));
	LpuReader *reader = lpu_reader_new(compared_names, n, whole);
	char	   *piece = NULL;
	size_t		at = 0;

	r->nvalues = n + 1;
	for (;;)
	{
		size_t		size;

		r->state = lpu_reader_next(reader);
		if (r->state == LPU_READER_ELEMENT)
		{
			add_element(r, reader, n, whole);
			continue;
		}
		if (piece != NULL)
			pfree(piece);
		piece = NULL;
		if (r->state == LPU_READER_WRONG || (r->state == LPU_READER_END && at == length))
			break;
		if (at == length)
		{
			lpu_reader_end(reader);
			continue;
		}
		size = next_piece(seed, length - at);
		piece = memcpy(palloc(size), text + at, size);
		lpu_reader_feed(reader, piece, size);
		at += size;
	}
	if (r->state == LPU_READER_WRONG)
		snprintf(r->complaint, sizeof(r->complaint), "%s", lpu_reader_complaint(reader));
	return r;
}

static bool
same_value(const LpuValue *a, const LpuValue *b)
{
	if (a->type != b->type || a->length != b->length || (a->text == NULL) != (b->text == NULL))
		return false;
	return a->text == NULL || (memcmp(a->text, b->text, a->length) == 0 && a->text[a->length] == '\0' &&
							   b->text[b->length] == '\0');
}

static bool
same_reading(const reading *a, const reading *b)
{
	int			i;

	if (a->state != b->state || a->nelements != b->nelements || strcmp(a->complaint, b->complaint) != 0)
		return false;
	for (i = 0; i < a->nelements * a->nvalues; i++)
		if (!same_value(&a->values[i], &b->values[i]))
			return false;
	return true;
}

/* ---------------------------------------------------------------------------------------------------------- json-c */

static struct json_object *
parse(const char *text, size_t length, bool *valid)
{
	struct json_tokener *tokener = json_tokener_new_ex(MAX_DEPTH);
	struct json_object *root;

	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	root = json_tokener_parse_ex(tokener, text, (int) length);
	/* a lone number is complete only when the end is seen */
	if (root == NULL && json_tokener_get_error(tokener) == json_tokener_continue)
		root = json_tokener_parse_ex(tokener, "", 1);
	*valid = json_tokener_get_error(tokener) == json_tokener_success;
	json_tokener_free(tokener);
	return root;
}

/* Return true if the document is what the reader reads: an object, or an array of objects. */
static bool
is_list(struct json_object *root)
{
	size_t		i;

	if (!json_object_is_type(root, json_type_array))
		return json_object_is_type(root, json_type_object);
	for (i = 0; i < json_object_array_length(root); i++)
		if (!json_object_is_type(json_object_array_get_idx(root, i), json_type_object))
			return false;
	return true;
}

/* Return true if the text is a number by RFC 8259, section 6, which json-c does not check. */
static bool
is_number(const char *text)
{
	static regex_t regex;
	static bool compiled = false;

	if (!compiled && regcomp(&regex, "^-?(0|[1-9][0-9]*)([.][0-9]+)?([eE][-+]?[0-9]+)?$", REG_EXTENDED | REG_NOSUB) != 0)
		abort();
	compiled = true;
	return regexec(&regex, text, 0, NULL, 0) == 0;
}

/*
 * Return true if any string of the value has a NUL. Names do not count: json-c ends them there.
 */
static bool
has_nul(struct json_object *object)
{
	size_t		i;

	switch (json_object_get_type(object))
	{
		case json_type_string:
			return strlen(json_object_get_string(object)) < (size_t) json_object_get_string_len(object);
		case json_type_array:
			for (i = 0; i < json_object_array_length(object); i++)
				if (has_nul(json_object_array_get_idx(object, i)))
					return true;
			return false;
		case json_type_object:
			{
				json_object_object_foreach(object, name, member)
				{
					(void) name;
					if (has_nul(member))
						return true;
				}
			}
			return false;
		default:
			return false;
	}
}

/* A number as it is written, and what json-c made of it. An integer that is too large became the largest. */
static bool
same_number(const char *text, struct json_object *object)
{
	if (!is_number(text))
		return false;
	if (json_object_is_type(object, json_type_double))
		return strcmp(text, json_object_get_string(object)) == 0;
	if (!json_object_is_type(object, json_type_int) || strpbrk(text, ".eE") != NULL)
		return false;
	if (text[0] == '-')
		return strtoll(text, NULL, 10) == json_object_get_int64(object);
	return strtoull(text, NULL, 10) == json_object_get_uint64(object);
}

static bool
same_nested(const LpuValue *value, struct json_object *object)
{
	bool		valid;
	struct json_object *parsed = parse(value->text, value->length, &valid);
	bool		same = valid && json_object_equal(parsed, object);

	json_object_put(parsed);
	return same;
}

static bool
agrees(const LpuValue *value, struct json_object *object)
{
	if (has_nul(object))
		return false;
	switch (value->type)
	{
		case LPU_VALUE_ABSENT:
			return false;
		case LPU_VALUE_NULL:
			return object == NULL;
		case LPU_VALUE_FALSE:
		case LPU_VALUE_TRUE:
			return json_object_is_type(object, json_type_boolean) &&
				json_object_get_boolean(object) == (value->type == LPU_VALUE_TRUE);
		case LPU_VALUE_NUMBER:
			return same_number(value->text, object);
		case LPU_VALUE_STRING:
			return json_object_is_type(object, json_type_string) &&
				(size_t) json_object_get_string_len(object) == value->length &&
				memcmp(json_object_get_string(object), value->text, value->length) == 0;
		case LPU_VALUE_NESTED:
			return same_nested(value, object);
	}
	return false;
}

/*
 * Return true if the reader's elements are those of json-c's list; else i and name say where
 * they differ.
 */
static bool
same_elements(const reading *r, struct json_object *root, int n, bool whole, int *i, int *name)
{
	bool		list = json_object_is_type(root, json_type_array);

	*name = -1;
	for (*i = 0; *i < r->nelements; ++*i)
	{
		struct json_object *element = list ? json_object_array_get_idx(root, *i) : root;
		const LpuValue *values = &r->values[*i * r->nvalues];

		for (*name = 0; *name < n; ++*name)
		{
			struct json_object *member = NULL;
			bool		present = json_object_object_get_ex(element, compared_names[*name], &member);

			if (present ? !agrees(&values[*name], member) : values[*name].type != LPU_VALUE_ABSENT)
				return false;
		}
		if (whole && !agrees(&values[n], element))
			return false;
	}
	*name = -1;
	return (size_t) r->nelements == (list ? json_object_array_length(root) : 1);
}

/* ----------------------------------------------------------------------------------------- where json-c is not strict */

typedef struct document
{
	char	   *text;
	size_t		length;
} document;

/* The byte at an offset; 0 outside. */
static unsigned char
byte_at(const document *d, long at)
{
	return at >= 0 && (size_t) at < d->length ? d->text[at] : 0;
}

static bool
starts_with(const document *d, long at, const char *text)
{
	return at >= 0 && (size_t) at + strlen(text) <= d->length && memcmp(d->text + at, text, strlen(text)) == 0;
}

static bool
overwrite(document *d, long at, const char *text)
{
	memcpy(d->text + at, text, strlen(text));
	return true;
}

static bool
is_digit(unsigned char c)
{
	return c >= '0' && c <= '9';
}

/* RFC 8259, section 7: control characters must be escaped. json-c takes all but NUL. */
static bool
mend_control(document *d, long at)
{
	return byte_at(d, at) > 0 && byte_at(d, at) < 0x20 && overwrite(d, at, " ");
}

/* RFC 3629: json-c looks at the number of continuation bytes only, not at the character. */
static bool
mend_utf8(document *d, long at)
{
	unsigned char first = byte_at(d, at);
	unsigned char second = byte_at(d, at + 1);
	int			length = first >= 0xf8 ? 0 : first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : first >= 0xc0 ? 2 : 0;
	bool		overlong = first == 0xc0 || first == 0xc1 || (first == 0xe0 && second < 0xa0) || (first == 0xf0 && second < 0x90);
	bool		surrogate = first == 0xed && second >= 0xa0;
	bool		beyond = first > 0xf4 || (first == 0xf4 && second >= 0x90);
	int			i;

	for (i = 1; i < length; i++)
		if ((byte_at(d, at + i) & 0xc0) != 0x80)
			return false;
	if (length == 0 || !(overlong || surrogate || beyond))
		return false;
	memset(d->text + at, 'x', length);
	return true;
}

/* ... section 6: no NaN, no Infinity. */
static bool
mend_value(document *d, long at)
{
	if (starts_with(d, at, "NaN"))
		return overwrite(d, at, "0  ");
	return starts_with(d, at, "Infinity") && overwrite(d, at, "0       ");
}

/* ... and no -Infinity; no zeros in front (json-c: none but before zeros, behind a minus, or before a point); a digit before a point and behind it. */
static bool
mend_number(document *d, long at)
{
	long		start = at;

	if (byte_at(d, at - 1) == '-' && starts_with(d, at, "Infinity"))
		return overwrite(d, at, "0       ");
	while (start > 0 && byte_at(d, start - 1) != 0 && strchr("+-.eE0123456789", byte_at(d, start - 1)) != NULL)
		start--;
	if (byte_at(d, start) == '-')
		start++;
	/* 007 */
	if (is_digit(byte_at(d, at)) && at == start + 1 && byte_at(d, start) == '0')
		return overwrite(d, start, "1");
	/* -.7 */
	if (byte_at(d, at) == '.' && at == start)
		return overwrite(d, at, "1");
	/* 7. */
	return byte_at(d, at - 1) == '.' && is_digit(byte_at(d, at - 2)) && overwrite(d, at - 1, "1");
}

/* ... section 7: names in single quotes. */
static bool
mend_quotes(document *d, long at)
{
	long		end = at;

	if (byte_at(d, at) != '\'')
		return false;
	do
	{
		end += byte_at(d, end) == '\\' ? 2 : 1;
		if (byte_at(d, end) == '"')
			d->text[end] = 'x';
	} while ((size_t) end < d->length && byte_at(d, end) != '\'');
	if ((size_t) end >= d->length)
		return false;
	overwrite(d, at, "\"");
	return overwrite(d, end, "\"");
}

/* ... section 2: json-c 0.15 takes any character that isspace(). */
static bool
mend_blank(document *d, long at)
{
	return (byte_at(d, at) == '\v' || byte_at(d, at) == '\f') && overwrite(d, at, " ");
}

/* json-c takes a NUL for the end. */
static bool
mend_end(document *d, long at)
{
	if ((size_t) at >= d->length || d->text[at] != '\0')
		return false;
	d->length = at;
	return true;
}

/* This one is ours: reader.c says why. */
static bool
mend_nul(document *d, long at)
{
	return starts_with(d, at, "\\u0000") && overwrite(d, at, "\\u0001");
}

/* Return true if the text at an offset, within a string, is part of a name. */
static bool
in_name(const document *d, long at)
{
	while ((size_t) at < d->length && d->text[at] != '"')
		at += d->text[at] == '\\' ? 2 : 1;
	do
		at++;
	while (byte_at(d, at) != '\0' && strchr(" \t\r\n", byte_at(d, at)) != NULL);
	return byte_at(d, at) == ':';
}

static const struct
{
	const char *complaint;
	bool		(*mend) (document *d, long at);
}			rules[] = {
	{"a control character in a string", mend_control},
	{"bytes that are not UTF-8", mend_utf8},
	{"not a value", mend_value},
	{"not a number", mend_number},
	{"not a name", mend_quotes},
	{"more after the end", mend_end},
	{"\\u0000, which is no text,", mend_nul},
};

/*
 * Return true if a wanted value of this element can have \u0000. In a nested value it may be
 * gone with a name that occurs twice.
 */
static bool
may_have_nul(struct json_object *root, int i, int n)
{
	struct json_object *element = json_object_is_type(root, json_type_array) ? json_object_array_get_idx(root, i) : root;
	struct json_object *member;
	int			name;

	for (name = 0; name < n; name++)
		if (json_object_object_get_ex(element, compared_names[name], &member) &&
			(has_nul(member) || json_object_is_type(member, json_type_object) || json_object_is_type(member, json_type_array)))
			return true;
	return false;
}

/* A name ends at \u0000 for json-c, and may be equal to one that was looked for: let there be none in any name. */
static bool
mend_names(document *d)
{
	bool		mended = false;
	size_t		i;

	for (i = 0; i < d->length; i += d->text[i] == '\\' ? 2 : 1)
		if (starts_with(d, i, "\\u0000") && in_name(d, i))
			mended = mend_nul(d, i);
	return mended;
}

/* The code of the \uXXXX at an offset, or 0. */
static unsigned
unit_at(const document *d, long at)
{
	char		digits[5] = "";

	if (!starts_with(d, at, "\\u") || (size_t) at + 6 > d->length)
		return 0;
	memcpy(digits, d->text + at + 2, 4);
	return (unsigned) strtoul(digits, NULL, 16);
}

/* Before 0.19, json-c takes a pair for the first half of another one if it is U+1D800 to U+1DBFF, or any other plane's. */
static bool
mend_pairs(document *d)
{
	bool		mended = false;
	size_t		i;

	for (i = 0; i < d->length; i += d->text[i] == '\\' ? 2 : 1)
		/* the second half tells the last ten bits, the first one six bits more */
		if ((unit_at(d, i) & 0xfc3e) == 0xd836 && (unit_at(d, i + 6) & 0xfc00) == 0xdc00)
			mended = overwrite(d, i, "\\u0041\\u0042");
	return mended;
}

/* Since 0.17, json-c refuses whole numbers that do not fit into 64 bits: shorten them. */
static bool
mend_integers(document *d)
{
	bool		mended = false;
	size_t		i = 0;

	while (i < d->length)
	{
		size_t		digits = 0;

		if (d->text[i] == '"')
		{
			/* behind the string */
			for (i++; i < d->length && d->text[i] != '"';)
				i += d->text[i] == '\\' ? 2 : 1;
			i++;
			continue;
		}
		while (is_digit(byte_at(d, i + digits)))
			digits++;
		if (digits > 18 && strchr(".eE", byte_at(d, i + digits)) == NULL)
		{
			memset(d->text + i + 18, ' ', digits - 18);
			mended = true;
		}
		i += digits + 1;
	}
	return mended;
}

/* json-c 0.18 takes all that is not ASCII for control characters. */
static bool
mend_high(document *d)
{
	bool		mended = false;
	size_t		i;

	if (json_c_version_num() >> 8 != 18)
		return false;
	for (i = 0; i < d->length; i++)
		if (byte_at(d, i) >= 0x80)
			mended = overwrite(d, i, "x");
	return mended;
}

/*
 * json-c read a list from the document, the reader did not. If that is a known case, the document is mended. The reader
 * may refuse \u0000 only where it is wanted; json-c knows where that is, unless there are names that it ended at one.
 */
static bool
mend_refused(document *d, const reading *r, struct json_object *root, int n, bool whole)
{
	const char *where = strstr(r->complaint, " at byte ");
	long		at = where ? strtol(where + strlen(" at byte "), NULL, 10) - 1 : 0;
	size_t		i;

	for (i = 0; where != NULL && i < sizeof(rules) / sizeof(rules[0]); i++)
	{
		if (strlen(rules[i].complaint) != (size_t) (where - r->complaint) ||
			strncmp(rules[i].complaint, r->complaint, where - r->complaint) != 0)
			continue;
		if (rules[i].mend == mend_nul && !whole && !in_name(d, at) && !may_have_nul(root, r->nelements, n))
			return mend_names(d);
		if (rules[i].mend(d, at))
			return true;
	}
	return where != NULL && mend_blank(d, at);
}

/* ------------------------------------------------------------------------------------------------------ comparison */

static bool
complain(const document *d, const char *what, const reading *r)
{
	size_t		i;

	fprintf(stderr, "%s; the reader: %s\ndocument of %zu bytes: ", what,
			r->state == LPU_READER_WRONG ? r->complaint : "no complaint", d->length);
	for (i = 0; i < d->length && i < 2000; i++)
	{
		unsigned char c = d->text[i];

		if (c < ' ' || c > '~' || c == '\\')
			fprintf(stderr, "\\%03o", c);
		else
			fputc(c, stderr);
	}
	fputc('\n', stderr);
	return false;
}

/* Compare once. *mended: they differ in a way that is known and mended, so that it has to be compared again. */
static bool
compare_once(document *d, int n, bool whole, uint64_t seed, bool *mended)
{
	reading    *r = read_document(d->text, d->length, n, whole, NULL);
	bool		valid;
	bool		agreed = true;
	struct json_object *root;
	char		where[100];
	int			element;
	int			name;
	int			i;

	*mended = false;
	for (i = 0; i < 3; i++)
	{
		reading    *cut = read_document(d->text, d->length, n, whole, &seed);

		if (!same_reading(r, cut))
			return complain(d, "cut in pieces", r) || complain(d, "it makes a difference", cut);
	}
	root = parse(d->text, d->length, &valid);
	valid = valid && is_list(root);
	if (r->state == LPU_READER_WRONG)
	{
		*mended = valid && mend_refused(d, r, root, n, whole);
		agreed = !valid || *mended || complain(d, "accepted by json-c only", r);
	}
	else if (!valid)
	{
		*mended = mend_integers(d) || mend_high(d);
		agreed = *mended || complain(d, "accepted by the reader only", r);
	}
	else if (same_elements(r, root, n, whole, &element, &name))
		accepted_documents++;
	else
	{
		*mended = mend_names(d) || mend_pairs(d);
		snprintf(where, sizeof(where), "not the same in element %d, name %d", element, name);
		agreed = *mended || complain(d, where, r);
	}
	json_object_put(root);
	return agreed;
}

bool
compare_document(const char *text, size_t length, uint64_t seed)
{
	document	d = {.text = malloc(length + 1), .length = length};
	int			n = next_random(&seed) % 4 == 0 ? 0 : ncompared_names;
	bool		whole = next_random(&seed) % 4 == 0;
	bool		agreed;
	bool		mended;

	memcpy(d.text, text, length);
	compared_documents++;
	do
	{
		agreed = compare_once(&d, n, whole, seed, &mended);
		standalone_reset();
	} while (mended);
	free(d.text);
	return agreed;
}

/*
 * object_scanner.c: one object of a list, read while its bytes arrive.
 *
 * It reads each byte once, checks that the text is JSON (RFC 8259) in UTF-8, and records where
 * the values of the wanted names are; of a name that occurs twice the last one counts. It is a
 * state machine: "expect" is what must come next, so that reading continues wherever the bytes
 * were cut. Nesting is a number and a bit for each level, without recursion. Nested values are
 * checked like others, and kept as a whole.
 *
 * Most of the time of a large list is spent here. So the state is held in a local variable, hot
 * functions are inlined, and strings, most of the bytes, are skipped 16 or 8 bytes at a time.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "json/lexer.h"
#include "json/object_scanner.h"
#include "json/simd.h"

/* Names are looked for by length. No attribute has so long a name; those that have share a list. */
#define NAME_LENGTHS 32

/* What comes next, or what has begun and goes on. */
typedef enum ScannerExpectation
{
	NO_VALUE,					/* a character begins none */
	FIRST,						/* name or value, or the end of what was
								 * opened */
	NAME,
	IN_NAME,
	COLON,
	VALUE,
	STRING,
	IN_STRING,
	NUMBER,
	IN_NUMBER,
	LITERAL,
	OBJECT,
	ARRAY,
	AFTER_VALUE,
	CLOSE						/* the brace or bracket is there */
} ScannerExpectation;

/* The value that begins with a character. */
static const uint8 value_starts[256] = {
	['"'] = STRING,['{'] = OBJECT,['['] = ARRAY,['t'] = LITERAL,['f'] = LITERAL,['n'] = LITERAL,
	['-'] = NUMBER,['0'] = NUMBER,['1'] = NUMBER,['2'] = NUMBER,['3'] = NUMBER,['4'] = NUMBER,
	['5'] = NUMBER,['6'] = NUMBER,['7'] = NUMBER,['8'] = NUMBER,['9'] = NUMBER,
};

/* How far the element has been read. Offsets are from its first byte. */
typedef struct ScannerCursor
{
	const char *base;			/* that first byte */
	const char *p;				/* the next one */
	const char *end;			/* of the bytes at hand */
	const char *problem;		/* what is wrong at p, or NULL */
	ScannerExpectation expect;
	LpuNumberState number;
	int			levels;			/* so many are allowed */
	int			depth;			/* objects and arrays that are open; 1: only
								 * the element itself */
	uint32		objects;		/* a bit for each, set if it is an object */
	bool		in_object;		/* the innermost is an object */
	bool		escaped;		/* the string has an escape */
	bool		high;			/* ... or a byte that is not ASCII */
	int			wanted;			/* the name whose value comes next, or -1 */
	int			nested;			/* ... whose value this is a part of */
	uint32		token;			/* where the name or value began */
	uint32		nested_at;
	uint32		nul_at;			/* the last \u0000, or 0 */
} ScannerCursor;

struct LpuElement
{
	ScannerCursor cursor;
	size_t		offset;			/* of the next byte */
	LpuFoundValue *found;
	int			n;
	const char *const *names;
	int		   *lengths;
	int			first[NAME_LENGTHS];	/* a name of this length, or -1 */
	int		   *next;			/* another one of the same, or -1 */
	int			longest;
	char	   *decoded;		/* room for a name with escapes */
};

/* ----- names ----- */

static pg_attribute_always_inline int
find_name(const LpuElement *e, const char *name, size_t length)
{
	int			i;

	for (i = e->first[Min(length, NAME_LENGTHS - 1)]; i >= 0; i = e->next[i])
		if (e->lengths[i] == length && memcmp(e->names[i], name, length) == 0)
			break;
	return i;
}

/* A character takes at most six to write. */
static pg_noinline int
find_escaped_name(const LpuElement *e, const char *p, const char *end)
{
	if (end - p > 6 * e->longest)
		return -1;
	return find_name(e, e->decoded, lpu_token_decode(e->decoded, p, end) - e->decoded);
}

/*
 * Return a scanner for elements, which looks for these names in each; they must live as long.
 * Allocated in the current memory context.
 */
LpuElement *
lpu_element_new(const char *const *names, int n)
{
	LpuElement *e = palloc0(sizeof(LpuElement));
	int			i;

	e->n = n;
	e->names = names;
	e->lengths = palloc0(Max(n, 1) * sizeof(int));
	e->next = palloc0(Max(n, 1) * sizeof(int));
	e->found = palloc0(Max(n, 1) * sizeof(LpuFoundValue));
	memset(e->first, -1, sizeof(e->first));
	for (i = 0; i < n; i++)
	{
		size_t		length = strlen(names[i]);
		int		   *list = &e->first[Min(length, NAME_LENGTHS - 1)];

		e->lengths[i] = (int) length;
		e->longest = Max(e->longest, e->lengths[i]);
		if (find_name(e, names[i], length) >= 0)
			continue;
		e->next[i] = *list;
		*list = i;
	}
	e->decoded = palloc(6 * e->longest + 1);
	return e;
}

/* ----- tokens ----- */

static pg_attribute_always_inline bool
wrong(ScannerCursor *c, const char *problem)
{
	c->problem = problem;
	return false;
}

/*
 * Advance to the next token. As all functions below it is false if the bytes
 * end before that, or if they are wrong.
 */
static pg_attribute_always_inline bool
skip_blanks(ScannerCursor *c)
{
	while (c->p < c->end && (*c->p == ' ' || *c->p == '\n' || *c->p == '\r' || *c->p == '\t'))
		c->p++;
	return c->p < c->end;
}

/* Advance to this character. */
static pg_attribute_always_inline bool
reach(ScannerCursor *c, char character, const char *problem)
{
	return skip_blanks(c) && (*c->p == character || wrong(c, problem));
}

static pg_attribute_always_inline void
begin_string(ScannerCursor *c)
{
	c->token = c->p - c->base;
	c->p++;
	c->escaped = c->high = false;
}

static pg_attribute_always_inline bool
take_escape(ScannerCursor *c)
{
	const char *problem = NULL;
	pg_wchar	code = 0;
	int			length = lpu_token_escape(c->p, c->end, &code, &problem);

	if (length == 0)
		return wrong(c, problem);
	if (code == 0)
		c->nul_at = c->p - c->base;
	c->escaped = true;
	c->p += length;
	return true;
}

/* The rest of a string, and its closing quote. */
static pg_attribute_always_inline bool
take_string(ScannerCursor *c)
{
	for (;;)
	{
		c->p = lpu_plain_end(c->p, c->end, &c->high);
		if (c->p == c->end)
			return false;
		if (*c->p == '"')
			break;
		if (*c->p != '\\')
			return wrong(c, "a control character in a string");
		if (!take_escape(c))
			return false;
	}
	if (c->high)
	{
		const char *text = c->base + c->token + 1;
		int			valid = pg_encoding_verifymbstr(PG_UTF8, text, c->p - text);

		if (text +valid < c->p)
		{
			c->p = text +valid;

			return wrong(c, "bytes that are not UTF-8");
		}
	}
	c->p++;
	return true;
}

static pg_attribute_always_inline bool
take_number(ScannerCursor *c)
{
	LpuNumberState seen = c->number;

	c->p = lpu_token_number(c->p, c->end, &seen);
	c->number = seen;
	return seen == LPU_NUMBER_END || (seen == LPU_NUMBER_WRONG && wrong(c, "not a number"));
}

static pg_attribute_always_inline bool
take_literal(ScannerCursor *c, LpuValueType *type)
{
	const char *problem = NULL;
	int			length = lpu_token_literal(c->p, c->end, type, &problem);

	c->p += length;
	return length > 0 || wrong(c, problem);
}

/* ----- structure ----- */

/* Keep where the value stands that ends here, if it is wanted. */
static pg_attribute_always_inline void
keep_value(LpuElement *e, const ScannerCursor *c, int wanted, LpuValueType type, uint32 start)
{
	LpuFoundValue *found;

	if (wanted < 0)
		return;
	found = &e->found[wanted];
	found->type = type;
	found->escaped = c->escaped;
	found->start = start;
	found->length = c->p - c->base - start;
	found->nul_at = c->nul_at > start ? c->nul_at : 0;
}

/* A value is complete. */
static pg_attribute_always_inline void
end_value(LpuElement *e, ScannerCursor *c, LpuValueType type)
{
	keep_value(e, c, c->wanted, type, c->token);
	c->expect = AFTER_VALUE;
}

/* A name is complete: note whether its value is wanted. */
static pg_attribute_always_inline void
end_name(LpuElement *e, ScannerCursor *c)
{
	const char *name = c->base + c->token + 1;
	const char *end = c->p - 1;

	c->wanted = c->depth > 1 ? -1 : c->escaped ? find_escaped_name(e, name, end) :
		find_name(e, name, end - name);
	c->expect = COLON;
}

static pg_attribute_always_inline void
open_container(ScannerCursor *c, bool is_object)
{
	uint32		bit = (uint32) 1 << c->depth;

	if (c->depth == 1)
	{
		c->nested = c->wanted;
		c->nested_at = c->token;
	}
	c->wanted = -1;
	c->in_object = is_object;
	c->objects = is_object ? c->objects | bit : c->objects & ~bit;
	c->depth++;
	c->p++;
	c->expect = FIRST;
}

static pg_attribute_always_inline void
close_container(LpuElement *e, ScannerCursor *c)
{
	c->p++;
	c->depth--;
	c->expect = AFTER_VALUE;
	if (c->depth == 0)
		return;
	c->in_object = (c->objects >> (c->depth - 1)) & 1;
	if (c->depth == 1)
		keep_value(e, c, c->nested, LPU_VALUE_NESTED, c->nested_at);
}

static pg_attribute_always_inline bool
at_close(const ScannerCursor *c)
{
	return *c->p == (c->in_object ? '}' : ']');
}

/* After an opening brace or bracket. */
static pg_attribute_always_inline bool
take_first(ScannerCursor *c)
{
	if (!skip_blanks(c))
		return false;
	c->expect = at_close(c) ? CLOSE : c->in_object ? NAME : VALUE;
	if (c->expect != CLOSE && c->depth >= c->levels)
		return wrong(c, "too deep a nesting");
	return true;
}

static pg_attribute_always_inline bool
take_separator(ScannerCursor *c)
{
	if (!skip_blanks(c))
		return false;
	if (at_close(c))
		c->expect = CLOSE;
	else if (*c->p != ',')
		return wrong(c,
					 c->in_object ? "neither a comma nor a brace" :
					 "neither a comma nor a bracket");
	else
	{
		c->p++;
		c->expect = c->in_object ? NAME : VALUE;
	}
	return true;
}

/* Advance until the element is complete, the bytes end, or something is wrong. */
static void
advance_state(LpuElement *e)
{
	ScannerCursor c = e->cursor;
	LpuValueType literal;

	/* "continue": on to what is expected next; "break": no further */
	for (;;)
	{
		switch (c.expect)
		{
			case FIRST:
				if (!take_first(&c))
					break;
				continue;
			case NAME:
				if (!reach(&c, '"', "not a name"))
					break;
				begin_string(&c);
				c.expect = IN_NAME;
				/* FALLTHROUGH */
			case IN_NAME:
				if (!take_string(&c))
					break;
				end_name(e, &c);
				/* FALLTHROUGH */
			case COLON:
				if (!reach(&c, ':', "not a colon"))
					break;
				c.p++;
				c.expect = VALUE;
				/* FALLTHROUGH */
			case VALUE:
				if (!skip_blanks(&c))
					break;
				c.token = c.p - c.base;
				c.expect = value_starts[(unsigned char) *c.p];
				continue;
			case STRING:
				begin_string(&c);
				c.expect = IN_STRING;
				/* FALLTHROUGH */
			case IN_STRING:
				if (!take_string(&c))
					break;
				end_value(e, &c, LPU_VALUE_STRING);
				/* FALLTHROUGH */
			case AFTER_VALUE:
				if (!take_separator(&c))
					break;
				continue;
			case NUMBER:
				c.number = LPU_NUMBER_START;
				c.expect = IN_NUMBER;
				/* FALLTHROUGH */
			case IN_NUMBER:
				if (!take_number(&c))
					break;
				end_value(e, &c, LPU_VALUE_NUMBER);
				continue;
			case LITERAL:
				if (!take_literal(&c, &literal))
					break;
				end_value(e, &c, literal);
				continue;
			case OBJECT:
			case ARRAY:
				open_container(&c, c.expect == OBJECT);
				continue;
			case CLOSE:
				close_container(e, &c);
				if (c.depth == 0)
					break;
				continue;
			case NO_VALUE:
				wrong(&c, "not a value");
				break;
		}
		break;
	}
	e->cursor = c;
}

/* ----- interface ----- */

/*
 * Begin with the object whose brace these bytes begin with. Its values are on the second of so
 * many levels, at most 32.
 */
void
lpu_element_begin(LpuElement *e, const char *bytes, size_t length, int levels)
{
	/* its brace is seen */
	ScannerCursor c = {.base = bytes,.p = bytes + 1,.end = bytes + length,.levels = levels,
	.expect = FIRST,.depth = 1,.objects = 1,.in_object = true,.wanted = -1,.nested = -1};

	e->cursor = c;
	e->offset = 1;
	memset(e->found, 0, e->n * sizeof(LpuFoundValue));
}

/* Replace the bytes by the same with more behind them, perhaps at another address. */
void
lpu_element_extend(LpuElement *e, const char *bytes, size_t length)
{
	ScannerCursor *c = &e->cursor;

	c->base = bytes;
	c->p = bytes + e->offset;
	c->end = bytes + length;
}

/* Read on. Return whether the element is complete, needs more bytes, or has a *problem. */
LpuElementState
lpu_element_read(LpuElement *e, const char **problem)
{
	advance_state(e);
	e->offset = e->cursor.p - e->cursor.base;
	*problem = e->cursor.problem;
	return *problem ? LPU_ELEMENT_WRONG : e->cursor.depth == 0 ? LPU_ELEMENT_COMPLETE :
		LPU_ELEMENT_CUT;
}

/* Return how many bytes were read: all if COMPLETE, those before the error if WRONG. */
size_t
lpu_element_offset(const LpuElement *e)
{
	return e->offset;
}

/* Return the n values of a complete element. Of a name wanted twice the first has it. */
const LpuFoundValue *
lpu_element_found(const LpuElement *e)
{
	return e->found;
}

/* Return the offset of \u0000 in any string of the element, or 0. */
uint32
lpu_element_nul_at(const LpuElement *e)
{
	return e->cursor.nul_at;
}

/*
 * lexer.c: escapes, numbers and literals of JSON (RFC 8259, sections 3, 6 and
 * 7).
 *
 * All of them may be cut anywhere: an escape or a literal is then read once
 * more from its beginning, a number goes on. A half of a surrogate pair that
 * stands alone, as a text has it that was cut inside of a pair, is read as
 * U+FFFD, which stands for what is no character: one user's nickname must not
 * keep a whole list from being read. \u0000 is a character here.
 */
#include "postgres.h"

#include "json/lexer.h"

/* ----- escapes ----- */

/* Escapes of one character, and what they stand for. */
static const char written[] = {'"', '\\', '/', 'b', 'f', 'n', 'r', 't'};
static const char meant[] = {'"', '\\', '/', '\b', '\f', '\n', '\r', '\t'};

/* The \uXXXX at p. Its length, or 0. */
static int
read_unicode(const char *p, const char *end, pg_wchar *code, const char **problem)
{
	int			i;

	*code = 0;
	for (i = 2; i < 6 && p + i < end; i++)
	{
		unsigned char c = p[i];

		if (c >= '0' && c <= '9')
			*code = *code << 4 | (c - '0');
		else if ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'))
			*code = *code << 4 | ((c | 0x20) - 'a' + 10);
		else
		{
			*problem = "an unknown escape";
			return 0;
		}
	}
	return i == 6 ? 6 : 0;
}

static int
lone_half(pg_wchar *code)
{
	*code = 0xFFFD;
	return 6;
}

/*
 * Read the escape at p, of which a surrogate pair is one, and set *code. Return its length; 0 if
 * the bytes end too early, or with *problem (NULL before) if it is wrong.
 */
int
lpu_token_escape(const char *p, const char *end, pg_wchar *code, const char **problem)
{
	pg_wchar	second = 0;

	if (end - p < 2)
		return 0;
	if (p[1] != 'u')
	{
		const char *simple = memchr(written, p[1], sizeof(written));

		if (simple != NULL)
			*code = meant[simple - written];
		else
			*problem = "an unknown escape";
		return simple ? 2 : 0;
	}
	if (read_unicode(p, end, code, problem) == 0)
		return 0;
	if (!is_utf16_surrogate_first(*code) && !is_utf16_surrogate_second(*code))
		return 6;

	/* the other half must follow */
	if (is_utf16_surrogate_second(*code) || (end - p > 6 && p[6] != '\\') ||
		(end - p > 7 && p[7] != 'u'))
		return lone_half(code);
	if (end - p < 8 || read_unicode(p + 6, end, &second, problem) == 0)
		return 0;
	if (!is_utf16_surrogate_second(second))
		return lone_half(code);
	*code = surrogate_pair_to_codepoint(*code, second);
	return 12;
}

/*
 * Decode a string whose escapes have been read before; the result is never longer. Return the
 * end of what was written.
 */
char *
lpu_token_decode(char *out, const char *p, const char *end)
{
	for (;;)
	{
		const char *escape = memchr(p, '\\', end - p);
		size_t		plain = (escape ? escape : end) - p;
		const char *problem = NULL;
		pg_wchar	code = 0;
		int			length;

		memcpy(out, p, plain);
		out += plain;
		if (escape == NULL)
			return out;
		length = lpu_token_escape(escape, end, &code, &problem);
		/* here the end is that of the string: nothing else follows */
		p = escape + (length > 0 ? length : lone_half(&code));
		unicode_to_utf8(code, (unsigned char *) out);
		out += pg_utf_mblen((unsigned char *) out);
	}
}

/* ----- literals ----- */

static const struct
{
	LpuValueType type;
	const char *text;
	int			length;
}			literals[] = {
	{LPU_VALUE_TRUE, "true", 4},
	{LPU_VALUE_FALSE, "false", 5},
	{LPU_VALUE_NULL, "null", 4},
};

/*
 * Read the literal at p and set *type. Return its length; 0 if the bytes end too early, or with
 * *problem if it is wrong.
 */
int
lpu_token_literal(const char *p, const char *end, LpuValueType *type, const char **problem)
{
	int			i;

	for (i = 0; i < lengthof(literals); i++)
	{
		int			length = literals[i].length;

		if (memcmp(p, literals[i].text, Min(length, end - p)) != 0)
			continue;
		*type = literals[i].type;
		return length <= end - p ? length : 0;
	}
	*problem = "not a value";
	return 0;
}

/* ----- numbers ----- */

/* Kinds of characters. */
enum
{
	IS_OTHER,
	IS_ZERO,
	IS_DIGIT,
	IS_POINT,
	IS_E,
	IS_MINUS,
	IS_PLUS,
	KINDS
};

static const uint8 kinds[256] = {
	['0'] = IS_ZERO,['1'] = IS_DIGIT,['2'] = IS_DIGIT,['3'] = IS_DIGIT,['4'] = IS_DIGIT,['5'] =
	IS_DIGIT,
	['6'] = IS_DIGIT,['7'] = IS_DIGIT,['8'] = IS_DIGIT,['9'] = IS_DIGIT,
	['.'] = IS_POINT,['e'] = IS_E,['E'] = IS_E,['-'] = IS_MINUS,['+'] = IS_PLUS,
};

#define END			LPU_NUMBER_END
#define ZERO		LPU_NUMBER_ZERO
#define INTEGER		LPU_NUMBER_INTEGER
#define FRACTION	LPU_NUMBER_FRACTION
#define EXPONENT	LPU_NUMBER_EXPONENT

/* What a character makes of what has been seen: something WRONG where nothing is said. */
static const uint8 parts[][KINDS] = {
	[LPU_NUMBER_START] = {[IS_ZERO] = ZERO,[IS_DIGIT] = INTEGER,[IS_MINUS] = LPU_NUMBER_MINUS},
	[LPU_NUMBER_MINUS] = {[IS_ZERO] = ZERO,[IS_DIGIT] = INTEGER},
	[LPU_NUMBER_ZERO] = {[IS_OTHER] = END,[IS_POINT] = LPU_NUMBER_POINT,[IS_E] = LPU_NUMBER_E},
	[LPU_NUMBER_INTEGER] = {[IS_OTHER] = END,[IS_ZERO] = INTEGER,[IS_DIGIT] = INTEGER,
	[IS_POINT] = LPU_NUMBER_POINT,[IS_E] = LPU_NUMBER_E},
	[LPU_NUMBER_POINT] = {[IS_ZERO] = FRACTION,[IS_DIGIT] = FRACTION},
	[LPU_NUMBER_FRACTION] = {[IS_OTHER] = END,[IS_ZERO] = FRACTION,[IS_DIGIT] = FRACTION,
	[IS_E] = LPU_NUMBER_E},
	[LPU_NUMBER_E] = {[IS_ZERO] = EXPONENT,[IS_DIGIT] = EXPONENT,[IS_MINUS] = LPU_NUMBER_SIGN,
	[IS_PLUS] = LPU_NUMBER_SIGN},
	[LPU_NUMBER_SIGN] = {[IS_ZERO] = EXPONENT,[IS_DIGIT] = EXPONENT},
	[LPU_NUMBER_EXPONENT] = {[IS_OTHER] = END,[IS_ZERO] = EXPONENT,[IS_DIGIT] = EXPONENT},
};

/*
 * Continue a number of which *seen has been read. Return the end of the number or of the bytes,
 * or the first character that does not belong to it.
 */
const char *
lpu_token_number(const char *p, const char *end, LpuNumberState *seen)
{
	LpuNumberState part = *seen;

	for (; p < end; p++)
	{
		part = parts[part][kinds[(unsigned char) *p]];
		if (part == LPU_NUMBER_END || part == LPU_NUMBER_WRONG)
			break;
	}
	*seen = part;
	return p;
}

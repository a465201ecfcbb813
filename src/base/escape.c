/*
 * escape.c: what a text has in letters and digits, without its escapes.
 *
 * Services repeat texts with escapes of JSON, URLs and HTML, also within each other, or in another
 * encoding.  What is left without escapes and punctuation is the same for all of them.
 */
#include "postgres.h"

#include <ctype.h>

#include "base/escape.h"

/* Escapes within escapes are removed so many times. */
#define MAX_ROUNDS 5

/* Return the value of hexadecimal digits; -1 if they are none. */
int
lpu_hex_value(const char *digits, int n)
{
	int			value = 0;
	int			i;

	for (i = 0; i < n; i++)
	{
		char		c = pg_ascii_tolower((unsigned char) digits[i]);

		if (!isxdigit((unsigned char) c))
			return -1;
		value = value * 16 + (c <= '9' ? c - '0' : c - 'a' + 10);
	}
	return value;
}

/*
 * Set *code to the character that an escape of JSON, URLs or HTML stands for (0: one that is no
 * ASCII letter or digit), and return the length of the escape; 0 if it is none.
 */
static int
read_escape(const char *p, size_t left, int *code)
{
	static const char *const entities[] = {"&quot;", "&amp;", "&lt;", "&gt;", "&apos;"};
	static const char meanings[] = "\"&<>'";
	bool		hex;
	size_t		n;
	int			i;

	*code = 0;
	if (*p == '\\' && left >= 6 && p[1] == 'u' && (*code = lpu_hex_value(p + 2, 4)) >= 0)
		return 6;
	*code = left > 1 && (p[1] == '"' || p[1] == '\\' || p[1] == '/') ? p[1] : 0;
	if (*p == '\\' && left > 1 && p[1] != '\0' && strchr("\"\\/bfnrt", p[1]) != NULL)
		return 2;
	if (*p == '%' && left > 2 && (*code = lpu_hex_value(p + 1, 2)) >= 0)
		return 3;
	for (i = 0; *p == '&' && i < lengthof(entities); i++)
	{
		*code = meanings[i];
		if (left >= strlen(entities[i]) && strncmp(p, entities[i], strlen(entities[i])) == 0)
			return strlen(entities[i]);
	}
	if (*p != '&' || left < 4 || p[1] != '#')
		return 0;
	hex = p[2] == 'x' || p[2] == 'X';
	*code = 0;
	for (n = hex ? 3 : 2; n < Min(left, 10) && isxdigit((unsigned char) p[n]); n++)
		*code = *code * (hex ? 16 : 10) + lpu_hex_value(p + n, 1);
	return n < left && p[n] == ';' ? n + 1 : 0;
}

/*
 * Return the ASCII letters and digits of a text without escapes of JSON, URLs and HTML, also nested
 * ones, whatever their order.  Text in Latin-1 or UTF-16 gives the same.
 */
StringInfoData
lpu_letters_of(const char *text, size_t length)
{
	StringInfoData out;
	size_t		before = length + 1;
	size_t		i;
	size_t		n;
	int			round;
	int			taken;
	int			code;

	initStringInfo(&out);
	appendBinaryStringInfo(&out, text, (int) length);
	for (round = 0; round < MAX_ROUNDS && out.len < before; round++)
	{
		before = out.len;
		for (i = n = 0; i < before; i += taken)
		{
			taken = read_escape(out.data + i, before - i, &code);
			if (taken == 0)
				code = (unsigned char) out.data[i];
			taken = Max(taken, 1);
			if (code > 0 && code < 0x80)
				out.data[n++] = (char) code;
		}
		out.len = n;
	}
	for (i = n = 0; i < out.len; i++)
		if (isalnum((unsigned char) out.data[i]))
			out.data[n++] = out.data[i];
	out.data[out.len = n] = '\0';
	return out;
}

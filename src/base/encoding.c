/*
 * encoding.c: text between the account's UTF-8 and the database's encoding.
 *
 * The account sends and expects UTF-8. The text of its errors is arbitrary, so an excerpt for a
 * message is made here: one line, bounded, valid. Everything is allocated in the current memory
 * context.
 */
#include "postgres.h"

#include <ctype.h>

#include "access/xact.h"
#include "catalog/namespace.h"
#include "common/string.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/varlena.h"

#include "base/character.h"
#include "base/encoding.h"
#include "base/escape.h"

/* A longer number, or one with a larger exponent, is no bigint in any notation. */
#define MAX_NUMBER_LENGTH 64
#define MAX_EXPONENT_DIGITS 2

/* An error's message is seldom longer; it is stored, and shown in the report. */
#define MAX_STRANGER 2000

/* Shorter secrets would be found everywhere. */
#define MIN_SECRET 8

/* A text is searched for secrets in pieces of this size, each of which is decoded several times. */
#define PIECE (1024 * 1024)

/* One byte of a secret as an escape of JSON of which each character is percent-encoded twice. */
#define MAX_ENCODED_LENGTH 30

/*
 * Return an excerpt for a message, in the database's encoding: one line of at most max_chars
 * characters, with control characters and invalid bytes replaced. Allocated in the current
 * memory context.
 */
char *
lpu_text_excerpt(const char *utf8, size_t length, int max_chars)
{
	const unsigned char *in = (const unsigned char *) utf8;
	const unsigned char *end = in + length;
	char	   *text = palloc((size_t) max_chars * MAX_MULTIBYTE_CHAR_LEN + 4);
	char	   *out = text;
	bool		blank = true;	/* nothing yet, or a blank was written last */
	int			chars;

	for (chars = 0; in < end && chars < max_chars;)
	{
		int			width = pg_utf_mblen(in);

		bool		broken = in + width > end || !pg_utf8_islegal(in, width);

		if (!broken && (lpu_character_is_control(utf8_to_unicode(in)) ||
						lpu_character_is_separator(utf8_to_unicode(in))))
		{
			if (!blank)
			{
				*out++ = ' ';
				chars++;
			}
			blank = true;
			in += width;
			continue;
		}
		if (broken)
		{
			*out++ = '?';
			in++;
		}
		else
		{
			memcpy(out, in, width);
			out += width;
			in += width;
		}
		blank = false;
		chars++;
	}
	if (out > text &&out[-1] == ' ')
		out--;
	if (in < end)
	{
		memcpy(out, "...", 3);
		out += 3;
	}
	*out = '\0';
	return text;
}

/*
 * The conversion would raise for a character that the encoding lacks: give it
 * one character at a time, and look.
 */
char *
lpu_text_from_utf8(const char *utf8)
{
	int			encoding = GetDatabaseEncoding();
	Oid			converter;
	size_t		room = strlen(utf8) * MAX_CONVERSION_GROWTH + 1;
	char	   *text;
	char	   *out;

	if (encoding == PG_UTF8 || encoding == PG_SQL_ASCII || pg_is_ascii(utf8))
		return pstrdup(utf8);

	/*
	 * the worker may read an error of a token service outside of a
	 * transaction, when catalogs cannot be read
	 */
	converter = IsTransactionState() ? FindDefaultConversionProc(PG_UTF8, encoding) : InvalidOid;
	out = text = palloc(room);

	while (*utf8)
	{
		int			width = pg_utf_mblen((const unsigned char *) utf8);
		unsigned char dest[MAX_CONVERSION_INPUT_LENGTH + 1];
		int			taken = 0;

		if (OidIsValid(converter))
			taken = pg_do_encoding_conversion_buf(converter, PG_UTF8, encoding,
												  (unsigned char *) unconstify(char *, utf8),
												  width, dest, sizeof(dest), true);
		if (taken == width)
		{
			memcpy(out, dest, strlen((char *) dest));
			out += strlen((char *) dest);
		}
		else
			*out++ = '?';
		utf8 += width;
	}
	*out = '\0';
	return text;
}

/* pg_server_to_any() would raise, and the log would have the statement with its passwords. */
char *
lpu_text_to_utf8(const char *text, size_t *length)
{
	int			encoding = GetDatabaseEncoding();
	Oid			converter;
	char	   *utf8;
	int			room;

	if (encoding == PG_UTF8 || encoding == PG_SQL_ASCII || *length == 0)
		return pg_verify_mbstr(PG_UTF8, text, (int) *length, true) ? unconstify(char *, text) :
			NULL;
	converter = FindDefaultConversionProc(encoding, PG_UTF8);
	if (!OidIsValid(converter) || *length >= MaxAllocSize / MAX_CONVERSION_GROWTH)
		return NULL;
	room = (int) *length * MAX_CONVERSION_GROWTH + 1;
	utf8 = palloc(room);
	if (pg_do_encoding_conversion_buf(converter, encoding, PG_UTF8,
									  (unsigned char *) unconstify(char *, text),
									  (int) *length, (unsigned char *) utf8, room,
									  true) != (int) *length)
		return NULL;
	*length = strlen(utf8);
	return utf8;
}

/* In the current memory context; what cannot be converted becomes '?'. */
char *
lpu_text_of_stranger(const char *text)
{
	size_t		length = strlen(text);
	const char *utf8 = lpu_text_to_utf8(text, &length);

	return lpu_text_from_utf8(lpu_text_excerpt(utf8 ? utf8 : text, length, MAX_STRANGER));
}

/*
 * Append the character that an escape of JSON stands for, and return the
 * length of the escape; 0 if it is none.
 */
static int
append_escaped(StringInfo out, const char *p, size_t left)
{
	static const char letters[] = "\"\\/bfnrt";
	static const char meanings[] = "\"\\/\b\f\n\r\t";
	const char *letter = left > 1 && p[1] != '\0' ? strchr(letters, p[1]) : NULL;
	unsigned char utf8[MAX_MULTIBYTE_CHAR_LEN];
	int			length = 6;
	int			code;
	int			low;

	if (letter != NULL)
	{
		appendStringInfoChar(out, meanings[letter - letters]);
		return 2;
	}
	if (left < 6 || p[1] != 'u' || (code = lpu_hex_value(p + 2, 4)) <= 0)
		return 0;
	if (is_utf16_surrogate_first(code) && left >= 12 && p[6] == '\\' && p[7] == 'u' &&
		(low = lpu_hex_value(p + 8, 4)) > 0 && is_utf16_surrogate_second(low))
	{
		code = surrogate_pair_to_codepoint(code, low);
		length = 12;
	}
	unicode_to_utf8(code, utf8);
	appendBinaryStringInfo(out, (char *) utf8, pg_utf_mblen(utf8));
	return length;
}

/* Return true if a character may be the first one of an escape. */
static bool
begins_escape(char c, bool json)
{
	return json ? c == '\\' : c == '%' || c == '+';
}

/* The text without the escapes of JSON, or of URLs and forms. */
static StringInfoData
decode(const char *text, size_t length, bool json)
{
	StringInfoData out;
	size_t		i = 0;

	initStringInfo(&out);
	while (i < length)
	{
		size_t		plain = i;
		int			taken = 0;
		int			value;

		while (i < length && !begins_escape(text[i], json))
			i++;
		appendBinaryStringInfo(&out, text +plain, (int) (i - plain));
		if (i == length)
			break;
		if (json && text[i] == '\\')
			taken = append_escaped(&out, text +i, length - i);
		else if (!json && text[i] == '%' && length - i > 2 &&
				 (value = lpu_hex_value(text +i + 1, 2)) >= 0)
		{
			appendStringInfoChar(&out, (char) value);
			taken = 3;
		}
		if (taken == 0)
		{
			appendStringInfoChar(&out, !json && text[i] == '+' ? ' ' : text[i]);
			taken = 1;
		}
		i += taken;
	}
	return out;
}

static bool
holds_any(const char *text, size_t length, const List *secrets)
{
	const ListCell *cell;

	foreach(cell, secrets)
	{
		const char *secret = lfirst(cell);

		CHECK_FOR_INTERRUPTS();
		if (strlen(secret) >= MIN_SECRET && memmem(text, length, secret, strlen(secret)) != NULL)
			return true;
	}
	return false;
}

/* Return true if a text that has escapes of JSON shows one of these secrets without them. */
static bool
shows_escaped(const char *text, size_t length, const List *secrets)
{
	StringInfoData json;
	bool		shown;

	if (memchr(text, '\\', length) == NULL)
		return false;
	json = decode(text, length, true);
	shown = holds_any(json.data, json.len, secrets);
	pfree(json.data);
	return shown;
}

/* Return true if a piece that has escapes, or is not UTF-8, shows one of these secrets. */
static bool
shows_disguised(const char *text, size_t length, const List *secrets)
{
	List	   *letters = NIL;
	StringInfoData shown;
	const ListCell *cell;
	bool		found;

	if (memchr(text, '\\', length) == NULL && memchr(text, '%', length) == NULL &&
		memchr(text, '&', length) == NULL && pg_verify_mbstr(PG_UTF8, text, (int) length, true))
		return false;
	foreach(cell, secrets)
		letters = lappend(letters, lpu_letters_of(lfirst(cell), strlen(lfirst(cell))).data);
	shown = lpu_letters_of(text, length);
	found = holds_any(shown.data, shown.len, letters);
	pfree(shown.data);
	list_free_deep(letters);
	return found;
}

/* Return true if a piece of a text shows one of these secrets, as it is or encoded. */
static bool
piece_shows(const char *text, size_t length, const List *secrets)
{
	bool		shown = holds_any(text, length, secrets) ||
	shows_escaped(text, length, secrets) || shows_disguised(text, length, secrets);
	StringInfoData url;

	if (shown || (memchr(text, '%', length) == NULL && memchr(text, '+', length) == NULL))
		return shown;
	url = decode(text, length, false);
	shown = holds_any(url.data, url.len, secrets) || shows_escaped(url.data, url.len, secrets);
	pfree(url.data);
	return shown;
}

/*
 * Return true if a text shows one of these secrets (C strings): as it is, or
 * with the escapes of JSON, URLs, forms or HTML, also nested ones.  Text and secrets are UTF-8.
 * Secrets of less than eight characters are not looked for.  Memory is needed
 * for a piece of the text only; the pieces overlap, so that a secret is whole
 * in one of them.
 */
bool
lpu_text_shows(const char *text, size_t length, const List *secrets)
{
	const ListCell *cell;
	size_t		overlap = 0;
	size_t		start;

	if (secrets == NIL)
		return false;
	foreach(cell, secrets)
		overlap = Max(overlap, (strlen(lfirst(cell)) + 1) * MAX_ENCODED_LENGTH);
	for (start = 0; start < length; start += PIECE)
		if (piece_shows(text +start, Min(length - start, PIECE + overlap), secrets))
			return true;
	return false;
}

/*
 * Return true if the text is a number as JSON writes it, short enough that
 * numeric_in() raises nothing.
 */
static bool
is_json_number(const char *text)
{
	static const char digits[] = "0123456789";
	const char *p = text +(*text == '-');
	size_t		n = strspn(p, digits);

	p += n;
	if (n > 0 && *p == '.')
	{
		n = strspn(++p, digits);
		p += n;
	}
	if (n > 0 && (*p == 'e' || *p == 'E'))
	{
		p += 1 + (p[1] == '+' || p[1] == '-');
		n = strspn(p, digits);
		p += n;
		if (n > MAX_EXPONENT_DIGITS)
			return false;
	}
	return n > 0 && *p == '\0' && p - text <=MAX_NUMBER_LENGTH;
}

/*
 * JSON does not tell 4, 4.0 and 4e0 apart (RFC 8259, section 6), and services
 * write ids in each of these forms.
 */
bool
lpu_text_as_int64(const char *text, int64 *result)
{
	Datum		number;
	Datum		whole;

	if (!is_json_number(text))
		return false;
	if (strpbrk(text, ".eE") != NULL)
	{
		number = DirectFunctionCall3(numeric_in, CStringGetDatum(text),
									 ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
		whole = DirectFunctionCall2(numeric_trunc, number, Int32GetDatum(0));
		if (!DatumGetBool(DirectFunctionCall2(numeric_eq, number, whole)))
			return false;
		text = DatumGetCString(DirectFunctionCall1(numeric_out, whole));
	}
	errno = 0;
	*result = strtoll(text, NULL, 10);
	return errno == 0;
}

/* Begin to look for the name that is nearest to the one that was written. */
void
lpu_nearest_start(LpuNearestName *nearest, const char *written)
{
	nearest->written = written;
	nearest->name = NULL;

	/*
	 * half of the characters may differ, or two of a short name, but not all
	 */
	nearest->distance = Min(Max((int) strlen(written) / 2, 2), (int) strlen(written) - 1) + 1;
}

/* Consider a name: nearest->name is it if it is nearer than the others so far. */
void
lpu_nearest_consider(LpuNearestName *nearest, const char *name)
{
	int			distance;

	if (strlen(nearest->written) > NAMEDATALEN)
		return;
	distance = varstr_levenshtein_less_equal(nearest->written, strlen(nearest->written), name,
											 strlen(name), 1, 1, 1,
											 nearest->distance, true);
	if (distance < nearest->distance)
	{
		nearest->distance = distance;
		nearest->name = name;
	}
}

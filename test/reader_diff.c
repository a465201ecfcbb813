/*
 * reader_diff.c: the reader of lists against json-c, over documents that are kept, and many that are made up.
 *
 *	reader_diff [-n DOCUMENTS] [-s SEED] [FILE...]
 *
 * Compares the documents in the files, and those at the limit of depth; reads some whose outcome is known; then compares so
 * many that are generated from the seed, a quarter of them with
 * wrong tokens, a quarter damaged. The same seed gives the same documents. Prints one line and
 * ends with status 0, or shows the first document on which they differ.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "standalone.h"

#include "json/array_reader.h"
#include "reader_compare.h"

/* Larger than any that is generated. */
#define ROOM (1 << 16)

#define MAX_ELEMENT (1024 * 1024)

static uint64_t seed = 1;

static unsigned
below(unsigned limit)
{
	return next_random(&seed) % limit;
}

static void
fail(const char *what)
{
	fprintf(stderr, "reader_diff: %s\n", what);
	exit(1);
}

/* -------------------------------------------------------------------------------------------------- made-up documents */

static char made[ROOM];
static size_t made_length;
static bool careless;			/* tokens may be wrong */

static void
put_bytes(const char *bytes, size_t length)
{
	if (made_length + length > ROOM)
		fail("a generated document is too large");
	memcpy(made + made_length, bytes, length);
	made_length += length;
}

static void
put(const char *text)
{
	put_bytes(text, strlen(text));
}

static void
put_any(const char *const *texts, int n)
{
	put(texts[below(n)]);
}

#define PUT_ANY(...) \
	do { \
		static const char *const texts[] = {__VA_ARGS__}; \
		put_any(texts, sizeof(texts) / sizeof(texts[0])); \
	} while (0)

static void
put_blanks(void)
{
	if (below(8) == 0)
		PUT_ANY(" ", "\n", "\t", "\r\n", "    ", "\n\t\t");
}

/* Characters of a string, each as it is or as one of its escapes. */
static void
put_characters(const char *text)
{
	unsigned	one_of = below(4) ? 16 : 1;

	for (; *text != '\0'; text++)
	{
		unsigned char c = *text;
		char		escape[8];

		if (c < 0x80 && (c < ' ' || c == '"' || c == '\\' || below(one_of) == 0))
		{
			snprintf(escape, sizeof(escape), below(2) ? "\\u%04x" : "\\u%04X", c);
			put(escape);
		}
		else
			put_bytes(text, 1);
	}
}

static void
put_name(void)
{
	put("\"");
	if (below(2) == 0)
		put_characters(compared_names[below(ncompared_names)]);
	else
		PUT_ANY("c", "email", "nickname", "a\\\\", "id ", "loginNamee", "\\u0000", "id\\u0000", "d\xc3\xa9", "\\ud83d\\ude00");
	put("\"");
}

static char long_text[4096];

static void
put_string(void)
{
	unsigned	n = below(6);

	put("\"");
	if (below(100) == 0)
		put_bytes(long_text, below(sizeof(long_text)));
	while (n-- > 0)
		switch (below(careless ? 9 : 8))
		{
			case 8:
				PUT_ANY("\\", "\\u", "\\u12", "\\u123x", "\\ud800", "\\udc00", "\\ud800\\n", "\\ud83d\\u0041", "\\udc00\\udc00",
						"\\ud800\\ud800", "\\x41", "\\a", "\x01", "\x1f", "\n", "\x80", "\xc0\x80", "\xc3", "\xe2\x82", "\xe0\x80\x80",
						"\xed\xa0\x80", "\xf0\x80\x80\x80", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xf8\x88\x80\x80\x80", "\xff");
				break;
			case 0:
				PUT_ANY("\\\"", "\\\\", "\\/", "\\b", "\\f", "\\n", "\\r", "\\t", "\\u0041", "\\u00e9", "\\u20AC");
				break;
			case 1:
				PUT_ANY("\\ud83d\\ude00", "\\uDBFF\\uDFFF", "\\uD800\\uDC00", "\\ud836\\udc00", "\\ud837\\udfff", "\\u0000", "\\uffff", "\\u0001");
				break;
			case 2:
				PUT_ANY("\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xed\x9f\xbf", "\xee\x80\x80", "\xf4\x8f\xbf\xbf",
						"\xc2\x80", "\xe0\xa0\x80", "\xf0\x90\x80\x80", "\x7f");
				break;
			case 3:
				put("a text that is longer than a register of the processor");
				break;
			default:
				PUT_ANY("a", "Ab", "user", "@example.com", " ", "0123456789", "{", "]", ",", ":");
				break;
		}
	put("\"");
}

static void
put_number(void)
{
	if (careless && below(4) == 0)
	{
		PUT_ANY("-", "+1", "00", "01", "-00", "-01", "1.", ".5", "-.5", "1.e5", "00.5", "1e", "1e+", "1e5.", "1e5e5", "1.5.5", "--1",
				"1-", "0x10", "1_0", "-Infinity", "1.+5", "-e5", "NaN", "Infinity", "nan", "nul", "truee", "True", "'a'", "");
		return;
	}
	PUT_ANY("0", "-0", "1", "-1", "7", "10", "1234567890", "4294967296", "-9223372036854775808", "9223372036854775807",
			"18446744073709551615", "18446744073709551616", "-9223372036854775809", "0.5", "-0.0", "3.14159", "1e5", "1E5", "1e+5", "2.5e-7", "-1.0E+10", "0e0", "100000000000");
}

/* A scalar, or something open to put values into. */
static void
put_value(int depth)
{
	unsigned	n = below(4);
	bool		object;

	switch (below(depth < 6 ? 8 : 6))
	{
		case 0:
		case 1:
		case 2:
			put_string();
			return;
		case 3:
		case 4:
			put_number();
			return;
		case 5:
			PUT_ANY("true", "false", "null");
			return;
	}
	object = below(2);
	put(object ? "{" : "[");
	put_blanks();
	while (n-- > 0)
	{
		if (object)
		{
			put_name();
			put_blanks();
			put(":");
			put_blanks();
		}
		put_value(depth + 1);
		put_blanks();
		put(n > 0 ? "," : "");
		put_blanks();
	}
	put(object ? "}" : "]");
}

static void
put_element(void)
{
	unsigned	n = below(8);

	put("{");
	while (n-- > 0)
	{
		put_blanks();
		put_name();
		put_blanks();
		put(":");
		put_blanks();
		put_value(0);
		put_blanks();
		put(n > 0 ? "," : "");
	}
	put_blanks();
	put("}");
}

static void
make_document(void)
{
	unsigned	n = below(5);

	made_length = 0;
	put_blanks();
	if (below(8) == 0)
		put_element();
	else
	{
		put("[");
		while (n-- > 0)
		{
			put_blanks();
			put_element();
			put_blanks();
			put(n > 0 ? "," : "");
		}
		put_blanks();
		put("]");
	}
	put_blanks();
}

/* ----------------------------------------------------------------------------------------------------------- damage */

/* Put something in the place of so many bytes. */
static void
replace(size_t at, size_t count, const char *bytes, size_t length)
{
	if (made_length - count + length > ROOM)
		return;
	memmove(made + at + length, made + at + count, made_length - at - count);
	memcpy(made + at, bytes, length);
	made_length += length - count;
}

/* What is wrong in most places, and is at the limits of what is right. */
static const struct
{
	const char *bytes;
	int			length;
}			splinters[] = {
#define SPLINTER(bytes) {bytes, sizeof(bytes) - 1}
	SPLINTER("\0"), SPLINTER("\""), SPLINTER("\\"), SPLINTER("{"), SPLINTER("}"), SPLINTER("["), SPLINTER("]"),
	SPLINTER(","), SPLINTER(":"), SPLINTER("'"), SPLINTER("/"), SPLINTER("/**/"), SPLINTER("//\n"), SPLINTER("-"),
	SPLINTER("+"), SPLINTER("."), SPLINTER("e"), SPLINTER("E-"), SPLINTER("0"), SPLINTER("00"), SPLINTER("1."),
	SPLINTER(".5"), SPLINTER("-.5"), SPLINTER("-01"), SPLINTER("1.e5"), SPLINTER("NaN"), SPLINTER("Infinity"),
	SPLINTER("-Infinity"), SPLINTER("nan"), SPLINTER("True"), SPLINTER("NULL"), SPLINTER("nul"), SPLINTER("truee"),
	SPLINTER("\\u"), SPLINTER("\\u12"), SPLINTER("\\ud800"), SPLINTER("\\udc00"), SPLINTER("\\ud83d\\u0041"),
	SPLINTER("\\ud83d\\n"), SPLINTER("\\u0000"), SPLINTER("\\x41"), SPLINTER("\\a"), SPLINTER("\x01"), SPLINTER("\x1f"),
	SPLINTER("\x0b"), SPLINTER("\x0c"), SPLINTER("\x7f"), SPLINTER("\x80"), SPLINTER("\xc0\x80"), SPLINTER("\xc3"),
	SPLINTER("\xe2\x82"), SPLINTER("\xe0\x80\x80"), SPLINTER("\xed\xa0\x80"), SPLINTER("\xf0\x80\x80\x80"),
	SPLINTER("\xf4\x90\x80\x80"), SPLINTER("\xf5\x80\x80\x80"), SPLINTER("\xff"), SPLINTER("\xef\xbb\xbf"),
	SPLINTER("{}"), SPLINTER("[]"), SPLINTER("\"id\":1,"), SPLINTER(",{}"), SPLINTER("'id'"), SPLINTER("\r"),
};

static void
damage(void)
{
	size_t		at = below(made_length);
	size_t		count = below(below(4) == 0 ? 40 : 3);
	int			i = below(sizeof(splinters) / sizeof(splinters[0]));
	char		any = below(256);

	if (count > made_length - at)
		count = made_length - at;
	switch (below(6))
	{
		case 0:
			replace(at, 1, &any, 1);
			break;
		case 1:
			replace(at, count, "", 0);
			break;
		case 2:
			made_length = at;
			break;
		case 3:
			/* a piece of itself, before itself */
			{
				char		copy[40];

				memcpy(copy, made + at, count);
				replace(at, 0, copy, count);
			}
			break;
		default:
			replace(at, below(2) ? count : 0, splinters[i].bytes, splinters[i].length);
			break;
	}
}

static void
compare_generated(long n)
{
	long		i;

	memset(long_text, 'x', sizeof(long_text));
	for (i = 0; i < n; i++)
	{
		unsigned	wounds = i % 4 == 1 ? 1 + below(3) : 0;

		careless = i % 4 == 3;
		make_document();
		while (wounds-- > 0 && made_length > 0)
			damage();
		if (!compare_document(made, made_length, next_random(&seed)))
			exit(1);
	}
}

/* ------------------------------------------------------------------------------------------------- kept ones, limits */

static void
compare_file(const char *name)
{
	FILE	   *file = fopen(name, "rb");
	int			i;

	if (file == NULL)
		fail(name);
	made_length = fread(made, 1, ROOM, file);
	if (ferror(file) || !feof(file))
		fail(name);
	fclose(file);
	/* with names and without, whole and not, cut differently */
	for (i = 0; i < 20; i++)
		if (!compare_document(made, made_length, i))
		{
			fprintf(stderr, "in %s\n", name);
			exit(1);
		}
}

/* What json-c cannot tell: which complaint it is, and where; and whether \u0000 matters. */
static const struct
{
	const char *document;
	bool		whole;
	const char *complaint;		/* NULL: it is accepted */
}			outcomes[] = {
	{"", false, "an end that comes too early at byte 1"},
	{" [{}", false, "an end that comes too early at byte 5"},
	{"[{\"a\"", false, "an end that comes too early at byte 6"},
	{"1", false, "neither an array nor an object at byte 1"},
	{"[{}, 1]", false, "an element that is not an object at byte 6"},
	{"[{},]", false, "an element that is not an object at byte 5"},
	{"[{}{}]", false, "neither a comma nor a bracket at byte 4"},
	{"[] []", false, "more after the end at byte 4"},
	{"{}\n,", false, "more after the end at byte 4"},
	{"[{a:1}]", false, "not a name at byte 3"},
	{"[{\"a\" 1}]", false, "not a colon at byte 7"},
	{"[{\"a\":}]", false, "not a value at byte 7"},
	{"[{\"a\":nul}]", false, "not a value at byte 7"},
	{"[{\"a\":1 2}]", false, "neither a comma nor a brace at byte 9"},
	{"[{\"a\":[1:2]}]", false, "neither a comma nor a bracket at byte 9"},
	{"[{\"a\":-}]", false, "not a number at byte 8"},
	{"[{\"a\":\"\\x\"}]", false, "an unknown escape at byte 8"},
	{"[{\"a\":\"\\u00g0\"}]", false, "an unknown escape at byte 8"},
	{"[{\"a\":\"\n\"}]", false, "a control character in a string at byte 8"},
	{"[{\"a\":\"\xc3\"}]", false, "bytes that are not UTF-8 at byte 8"},
	{"[{\"c\":\"\\u0000\",\"a\":\"x\"}]", false, NULL},
	{"[{\"c\":\"\\u0000\",\"a\":\"x\"}]", true, "\\u0000, which is no text, at byte 8"},
	{"[{\"a\":\"\\u0000\",\"a\":\"x\"}]", false, NULL},
	{"[{\"a\":\"x\",\"a\":\"\\u0000\"}]", false, "\\u0000, which is no text, at byte 16"},
	{"[{\"a\\u0000\":1}]", false, NULL},
	{"[{\"a\\u0000\":1}]", true, "\\u0000, which is no text, at byte 5"},
	{"[{\"a\":{\"c\\u0000\":1}}]", false, "\\u0000, which is no text, at byte 10"},
	{"[{\"c\":[\"\\u0000\"],\"a\":[]}]", false, NULL},
};

static void
check_outcomes(void)
{
	static const char *const names[] = {"a"};
	size_t		i;

	for (i = 0; i < sizeof(outcomes) / sizeof(outcomes[0]); i++)
	{
		LpuReader *reader = lpu_reader_new(names, 1, outcomes[i].whole);
		LpuReaderState state;

		lpu_reader_feed(reader, outcomes[i].document, strlen(outcomes[i].document));
		lpu_reader_end(reader);
		while ((state = lpu_reader_next(reader)) == LPU_READER_ELEMENT)
			continue;
		if (state != (outcomes[i].complaint ? LPU_READER_WRONG : LPU_READER_END) ||
			(outcomes[i].complaint && strcmp(lpu_reader_complaint(reader), outcomes[i].complaint) != 0))
		{
			fprintf(stderr, "%s is \"%s\", not \"%s\"\n", outcomes[i].document,
					state == LPU_READER_WRONG ? lpu_reader_complaint(reader) : "accepted",
					outcomes[i].complaint ? outcomes[i].complaint : "accepted");
			exit(1);
		}
		/* and it stays so */
		if (lpu_reader_next(reader) != state)
			fail("the outcome did not last");
	}
	standalone_reset();
}

/* A list, or one object, of so many levels: the innermost is a number, or an empty array or object. */
static void
compare_depth(int levels, bool list, bool object, bool empty)
{
	int			opened = empty ? levels : levels - 1;
	long		accepted = accepted_documents;
	int			i;

	made_length = 0;
	for (i = 0; i < opened; i++)
		if (i == 0 && list)
			put("[");
		else if (object || i == 0 || (i == 1 && list))
			put(i == opened - 1 && empty ? "{" : "{\"a\":");
		else
			put("[");
	put(empty ? "" : "1");
	while (opened-- > 0)
		put(opened == 0 && list ? "]" : object || opened == 0 || (opened == 1 && list) ? "}" : "]");
	for (i = 0; i < 20; i++)
		if (!compare_document(made, made_length, i))
			exit(1);
	if ((accepted_documents - accepted) != (levels <= 32 ? 20 : 0))
		fail("the limit of depth is not where it was");
}

/* An element of so many bytes, read in pieces of a size. */
static LpuReaderState
read_large(size_t size, size_t piece)
{
	static const char *const names[] = {"a"};
	LpuReader *reader = lpu_reader_new(names, 1, true);
	char	   *text = palloc(size + 3);
	size_t		length = size + 3;
	size_t		at;
	LpuReaderState state = LPU_READER_MORE;

	memset(text, 'x', length);
	memcpy(text, "[ {\"a\":\"", 8);
	memcpy(text + length - 3, "\"}]", 3);
	for (at = 0; at < length && state == LPU_READER_MORE; at += piece)
	{
		lpu_reader_feed(reader, text + at, piece < length - at ? piece : length - at);
		state = lpu_reader_next(reader);
	}
	if (state == LPU_READER_ELEMENT && (lpu_reader_whole(reader)->length != size ||
										lpu_reader_values(reader)[0].length != size - strlen("{\"a\":\"\"}") ||
										memcmp(lpu_reader_whole(reader)->text, text + 2, size) != 0))
		fail("a large element is not what it was");
	standalone_reset();
	return state;
}

static void
check_limits(void)
{
	static const size_t pieces[] = {1000, 1024, 65536, MAX_ELEMENT, 2 * MAX_ELEMENT};
	int			levels;
	size_t		i;

	for (levels = 30; levels <= 34; levels++)
		for (i = 0; i < 8; i++)
			compare_depth(levels, i & 1, i & 2, i & 4);
	for (i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++)
	{
		if (read_large(MAX_ELEMENT, pieces[i]) != LPU_READER_ELEMENT)
			fail("an element of 1 MB was not read");
		if (read_large(MAX_ELEMENT + 1, pieces[i]) != LPU_READER_WRONG)
			fail("an element larger than 1 MB was read");
	}
	/* byte by byte in a time that grows with the size only */
	if (read_large(MAX_ELEMENT, 1) != LPU_READER_ELEMENT)
		fail("an element of 1 MB was not read");
}

int
main(int argc, char **argv)
{
	long		n = 200000;
	uint64_t	first_seed;
	int			option;

	while ((option = getopt(argc, argv, "n:s:")) != -1)
	{
		if (option == 'n')
			n = strtol(optarg, NULL, 10);
		else if (option == 's')
			seed = strtoull(optarg, NULL, 10);
		else
			return 2;
	}
	first_seed = seed;
	fprintf(stderr, "reader_diff: seed %llu\n", (unsigned long long) first_seed);
	for (; optind < argc; optind++)
		compare_file(argv[optind]);
	check_outcomes();
	check_limits();
	compare_generated(n);
	printf("reader_diff: seed %llu, %ld documents, %ld of them lists, no difference\n", (unsigned long long) first_seed,
		   compared_documents, accepted_documents);
	return 0;
}

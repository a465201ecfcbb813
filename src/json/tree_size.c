/*
 * tree_size.c: how much memory a JSON document takes as a tree, without
 * building it.
 *
 * A parser allocates for each value, not for each byte: "{}," is three bytes
 * and 650 bytes of json-c. A service could answer 64 MB of that. So values are
 * counted first, in one pass that knows nothing of JSON but its brackets,
 * commas, colons and strings. The weights are what was measured with json-c
 * 0.16 and PostgreSQL 15, rounded up: json-c has a table of 16 members for
 * each object and 32 pointers for each array, jsonb_in() a little less.
 */
#include "postgres.h"

#include "json/tree_size.h"

#define OBJECT_BYTES 750
#define ARRAY_BYTES 400
#define VALUE_BYTES 80			/* and its place in an array */
#define MEMBER_BYTES 160		/* name, and its place in a table that doubles */

/* Return the end of a string that begins after its quotation mark. */
static const char *
skip_string(const char *p, const char *end)
{
	while (p < end && *p != '"')
		p += *p == '\\' ? 2 : 1;
	return p < end ? p + 1 : end;
}

/*
 * Return an estimate, in bytes, of what json-c and jsonb_in() allocate for this text, which need
 * not be valid JSON.
 */
uint64
lpu_json_tree_size(const char *text, size_t length)
{
	const char *p = text;
	const char *end = p + length;
	uint64		size = length;

	while (p < end)
	{
		switch (*p++)
		{
			case '{':
				size += OBJECT_BYTES;
				break;
			case '[':
				size += ARRAY_BYTES;
				break;
			case ',':
				size += VALUE_BYTES;
				break;
			case ':':
				size += MEMBER_BYTES;
				break;
			case '"':
				p = skip_string(p, end);
				break;
			default:
				break;
		}
	}
	return size;
}

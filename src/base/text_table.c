/*
 * text_table.c: hash tables whose keys are C strings of any length.
 *
 * dynahash copies keys of fixed length. Here the key is a pointer, and the string that it points
 * to is hashed and compared.
 */
#include "postgres.h"

#include "common/hashfn.h"

#include "base/text_table.h"

static uint32
hash_text(const void *key, Size size)
{
	const char *text = *(char *const *) key;

	return hash_bytes((const unsigned char *) text, (int) strlen(text));
}

static int
compare_table_texts(const void *a, const void *b, Size size)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

/*
 * Return an empty table in the current memory context, for about n entries.
 * An entry begins with its key, a char *; the caller keeps the string.
 */
HTAB *
lpu_text_table(const char *name, Size entry_size, long n)
{
	HASHCTL		ctl = {.keysize = sizeof(char *),.entrysize = entry_size,.hash = hash_text,
	.match = compare_table_texts,.hcxt = CurrentMemoryContext};

	return hash_create(name, n, &ctl, HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
}

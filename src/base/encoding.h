/*
 * encoding.h: text between the account's UTF-8 and the database's encoding.
 */
#ifndef LPU_BASE_ENCODING_H
#define LPU_BASE_ENCODING_H

#include "nodes/pg_list.h"

/*
 * Return an excerpt for a message, in the database's encoding: one line of at most max_chars
 * characters, with control characters and invalid bytes replaced.
 */
extern char *lpu_text_excerpt(const char *utf8, size_t length, int max_chars);

/*
 * The same of a text in the database's encoding that code of another role has written, such as the
 * message of its error; of at most 2000 characters.
 */
extern char *lpu_text_of_stranger(const char *text);

/* To the database's encoding; characters it lacks become '?'. The input must be valid UTF-8. */
extern char *lpu_text_from_utf8(const char *utf8);

/*
 * From the database's encoding to UTF-8; NULL if the bytes are not valid in it
 * (SQL_ASCII). *length is in and out.
 */
extern char *lpu_text_to_utf8(const char *text, size_t *length);

/* Return true if a text shows one of these secrets.  All are UTF-8. */
extern bool lpu_text_shows(const char *text, size_t length, const List *secrets);

/*
 * Read a whole number within bigint, such as an id, in any form of JSON: 4,
 * 4.0, 4e0.  False if the text is none.
 */
extern bool lpu_text_as_int64(const char *text, int64 *result);

/*
 * The nearest of some names to what was written, if near enough to be what was
 * meant: start, then consider each.
 */
typedef struct LpuNearestName
{
	const char *written;
	const char *name;			/* NULL if none is near enough */
	int			distance;
} LpuNearestName;

extern void lpu_nearest_start(LpuNearestName *nearest, const char *written);
extern void lpu_nearest_consider(LpuNearestName *nearest, const char *name);

#endif

/*
 * serialize.h: users as JSON for the wire, and who they are.
 */
#ifndef LPU_USER_SERIALIZE_H
#define LPU_USER_SERIALIZE_H

#include "lib/stringinfo.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"

#include "user/attribute.h"

/* Who a user is. */
typedef struct LpuUserIdentity
{
	char	   *login_name;		/* or NULL */
	int64		id;				/* or 0 */
} LpuUserIdentity;

/*
 * A larger user, as JSON text, could not be read: json/array_reader.c takes elements of this size.
 */
#define LPU_MAX_USER (1024 * 1024)

/*
 * Append the users as JSON text in the database's encoding, in the form they have (array or
 * object).  Return the ordinal of the first that is larger than LPU_MAX_USER, or 0.
 */
extern int	lpu_users_write(StringInfo out, Jsonb *users);

/* Return each user as a C string, in the current memory context; n is their number. */
extern char **lpu_users_write_each(Jsonb *users, int n);

/* Append the value of one attribute, which must have passed lpu_value_check(). */
extern void lpu_value_write(StringInfo out, LpuValueKind kind, Jsonb *document);

/*
 * Return login names and ids, as far as they are given, of an array of users or of one, in the
 * current memory context; *n is their number.
 */
extern LpuUserIdentity *lpu_users_identify(Jsonb *users, int *n);

/*
 * Return the values of the attributes that hold secrets, a list of C strings in the current
 * memory context, to keep them out of messages.
 */
extern List *lpu_users_secrets(Jsonb *users);

#endif

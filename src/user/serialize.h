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
 * Append the users as JSON text in the database's encoding, in the form they
 * have (array or object). Numbers and booleans that are written as strings
 * become real ones. The users must have passed lpu_users_check().
 */
extern void lpu_users_write(StringInfo out, Jsonb *users);

/*
 * Likewise each user by itself, as a C string; n is their number. What is no
 * object becomes NULL.
 */
extern char **lpu_users_write_each(Jsonb *users, int n);

/* Likewise the value of one attribute, which must have passed lpu_value_check(). */
extern void lpu_value_write(StringInfo out, LpuValueKind kind, Jsonb *document);

/*
 * Login names and ids, as far as they are there, of an array of users or of
 * one; *n is their number.
 */
extern LpuUserIdentity *lpu_users_identify(Jsonb *users, int *n);

/*
 * The values of the attributes that hold secrets: a list of C strings, for
 * keeping them out of messages.
 */
extern List *lpu_users_secrets(Jsonb *users);

#endif

/*
 * validate.h: what is wrong with users, before they are sent.
 */
#ifndef LPU_USER_VALIDATE_H
#define LPU_USER_VALIDATE_H

#include "nodes/pg_list.h"
#include "utils/jsonb.h"

#include "user/attribute.h"

/* What the entities are meant for decides which attributes are required or forbidden. */
typedef enum LpuUserUse
{
	LPU_USER_CREATE,
	LPU_USER_UPDATE
} LpuUserUse;

/* One thing that is wrong. */
typedef struct LpuUserProblem
{
	int			ordinal;		/* of the user in the array, from 1; 0: the
								 * whole document */
	const char *attribute;		/* or NULL */
	const char *text;
	int			twin;			/* ordinal of the user whose login this one
								 * has, too; 0 */
	int			position;		/* in the order of discovery */
} LpuUserProblem;

/* Check an array of user objects, or one object, against what is documented of them. */
extern List *lpu_users_check(Jsonb *users, LpuUserUse use, bool require_password);

/* What is wrong with a user that is larger than LPU_MAX_USER. */
extern LpuUserProblem *lpu_user_too_large(int ordinal);

/*
 * Return what is wrong with one value, which is not null, for an attribute; NULL if nothing is.
 */
extern const char *lpu_value_check(const LpuAttribute *attribute, Jsonb *value, LpuUserUse use);

/* Return true if a user to be created must have this attribute. */
extern bool lpu_is_required(const LpuAttribute *attribute, bool require_password, bool api_user);

#endif

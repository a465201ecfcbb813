/*
 * identity.h: the users that the response to a create names.
 */
#ifndef LPU_USER_IDENTITY_H
#define LPU_USER_IDENTITY_H

/* What a response says of one user that was sent. */
typedef struct LpuAnsweredUser
{
	const char *login_name;		/* that was sent, or NULL; in the database's
								 * encoding */
	const char *email;			/* that was sent, or NULL: not to be compared */
	bool		named;			/* the response names the user */
	int64		id;				/* as it says; 0: it does not */
} LpuAnsweredUser;

extern void lpu_created_match(const char *body, size_t length, LpuAnsweredUser *users, int n);

#endif

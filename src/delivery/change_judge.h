/*
 * change_judge.h: what is to be done with a user whose update or delete was claimed.
 */
#ifndef LPU_DELIVERY_CHANGE_JUDGE_H
#define LPU_DELIVERY_CHANGE_JUDGE_H

#include "utils/jsonb.h"

#include "options/option.h"
#include "queue/claim.h"

/* A user to be changed, and what its request wants of it. */
typedef struct LpuChangedUser
{
	LpuQueueRow *row;			/* NULL: it is settled */
	int64		id;				/* 0: not known yet */
	const char *login_key;		/* of a request without an id: the folded
								 * login, UTF-8 */
	bool		blocked;		/* another request of the user goes first */
	bool		seen;			/* entity is what the account has: */
	const char *entity;			/* JSON in UTF-8; NULL: there is no such user */
	char	   *body;			/* what is to be sent, in UTF-8; NULL: not
								 * known */
	Jsonb	   *set;			/* ... of an update: the attributes in it */
	const char *renamed_from;	/* ... of one that sets another login: the
								 * folded logins */
	const char *renamed_to;
	bool		sent;			/* in a request that perhaps was carried out */
	int			part;			/* at most so many go in one request with it */
	const char *refusal;		/* with what words it was refused, or NULL */
} LpuChangedUser;

extern bool lpu_change_judge(LpuChangedUser *user, const LpuOptions *options);
extern bool lpu_change_is_as_sent(LpuChangedUser *user, const char *entity, size_t length,
								  const char **why);

#endif

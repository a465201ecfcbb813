/*
 * change_judge.h: what is to be done with a user whose update or delete was claimed.
 */
#ifndef LPU_DELIVERY_CHANGE_JUDGE_H
#define LPU_DELIVERY_CHANGE_JUDGE_H

#include "utils/jsonb.h"

#include "queue/claim.h"

/* A user to be changed, and what its request wants of it. */
typedef struct LpuChangedUser
{
	LpuQueueRow *row;
	int64		id;				/* 0: not known yet */
	bool		seen;			/* entity is what the account has now: */
	const char *entity;			/* JSON in UTF-8; NULL: there is no such user */
	Jsonb	   *set;			/* attributes that are sent, as far as they
								 * can be seen later */
	char	   *body;			/* what is to be sent, for the wire; NULL:
								 * nothing yet */
	int			part;			/* at most so many go in one request with it */
	const char *refusal;		/* the words with which a request with others
								 * was refused, or NULL */
} LpuChangedUser;

extern bool lpu_change_judge(LpuChangedUser *user, int max_retries);
extern bool lpu_change_is_as_sent(LpuChangedUser *user, const char *entity, size_t length,
								  const char **why);

#endif

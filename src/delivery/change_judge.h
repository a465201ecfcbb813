/*
 * change_judge.h: deciding what to send for a claimed update or delete.
 */
#ifndef LPU_DELIVERY_CHANGE_JUDGE_H
#define LPU_DELIVERY_CHANGE_JUDGE_H

#include "utils/jsonb.h"

#include "options/option.h"
#include "queue/claim.h"

/* A user to be changed, and the values that its request sets. */
typedef struct LpuChangedUser
{
	LpuQueueRow *row;			/* NULL: it is settled */
	int64		id;				/* 0: not known yet */
	int64		namesakes[2];	/* ... because both users have the login, or 0 */
	const char *login_key;		/* of a request without an id: the folded
								 * login, UTF-8 */
	const char *login;			/* the folded login of the user that was read,
								 * UTF-8; NULL: unknown */
	bool		blocked;		/* another request of the user goes first */
	bool		seen;			/* entity is the user in the account: */
	const char *entity;			/* JSON in UTF-8; NULL: there is no such user */
	char	   *body;			/* what is to be sent, in UTF-8; NULL: not
								 * known */
	Jsonb	   *set;			/* ... of an update: the attributes in it */
	const char *renamed_from;	/* ... of a rename: the folded logins */
	const char *renamed_to;
	bool		sent;			/* in a request that may have been executed */
	int			part;			/* maximum number of users in its request */
	const char *refusal;		/* message of its refusal, or NULL */
} LpuChangedUser;

extern bool lpu_change_judge(LpuChangedUser *user, const LpuOptions *options);
extern bool lpu_change_is_as_sent(LpuChangedUser *user, const char *entity, size_t length,
								  const char **why);

#endif

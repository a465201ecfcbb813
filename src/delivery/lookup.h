/*
 * lookup.h: a listing of the account, of which the users are kept that were asked for.
 */
#ifndef LPU_DELIVERY_LOOKUP_H
#define LPU_DELIVERY_LOOKUP_H

#include "api/users_api.h"

typedef struct lpu_lookup lpu_lookup;

/* A user whom the account has, and has not deleted. */
typedef struct lpu_listed_user
{
	int64		id;				/* 0 if it cannot be read */
	bool		enabled;
	const char *entity;			/* JSON in UTF-8; NULL if it was not asked for */
} lpu_listed_user;

/* How a listing ended. */
typedef struct lpu_listing_result
{
	bool		known;			/* lpu_lookup_find() tells who is there */
	bool		unchanged;		/* ... nothing changed since the revision that was given: no user is found */
	lpu_verdict verdict;		/* of a listing that failed */
	const char *why;			/* ... in words */
	long		wait_ms;		/* ... as long as the account asks to wait */
	int			requests;		/* that were sent */
	int64		revision;		/* of the answer; -1: none */
} lpu_listing_result;

extern lpu_lookup *lpu_lookup_new(bool entities);
extern void lpu_lookup_add(lpu_lookup *lookup, const char *login);
extern void lpu_lookup_start(lpu_lookup *lookup, const lpu_options *options, int64 revision);
extern bool lpu_lookup_done(lpu_lookup *lookup, long *wait_ms);
extern void lpu_lookup_finish(lpu_lookup *lookup, lpu_listing_result *result);
extern bool lpu_lookup_has(const lpu_lookup *lookup, const char *login);
extern const lpu_listed_user *lpu_lookup_find(const lpu_lookup *lookup, const char *login);

#endif

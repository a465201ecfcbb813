/*
 * lookup.h: a listing of the account that keeps only the requested users.
 */
#ifndef LPU_DELIVERY_LOOKUP_H
#define LPU_DELIVERY_LOOKUP_H

#include "delivery/user_list.h"

typedef struct LpuLookup LpuLookup;

/* A user of the account that is not deleted. */
typedef struct LpuListedUser
{
	int64		id;				/* 0 if it cannot be read */
	int64		namesake;		/* another user with this login, or 0 */
	bool		enabled;
	const char *entity;			/* JSON in UTF-8; NULL if not requested */
} LpuListedUser;

extern LpuLookup *lpu_lookup_new(bool entities);
extern void lpu_lookup_add(LpuLookup *lookup, const char *login);
extern void lpu_lookup_start(LpuLookup *lookup, const LpuOptions *options, int64 revision);
extern bool lpu_lookup_done(LpuLookup *lookup, long *wait_ms);
extern void lpu_lookup_finish(LpuLookup *lookup, LpuListingResult *result);
extern bool lpu_lookup_has(const LpuLookup *lookup, const char *login);
extern char *lpu_lookup_namesakes(const LpuListedUser *user);
extern const LpuListedUser *lpu_lookup_find(const LpuLookup *lookup, const char *login);

#endif

/*
 * user_list.h: users of the account, read while they arrive, in steps that do not wait.
 */
#ifndef LPU_DELIVERY_USER_LIST_H
#define LPU_DELIVERY_USER_LIST_H

#include "api/users_api.h"
#include "json/array_reader.h"

typedef struct LpuUserList LpuUserList;

/*
 * Called for each user that has arrived; the current memory context is reset afterwards. Returns
 * NULL, or a constant that says why the list cannot be used; it is not called again then.
 */
typedef const char *(*LpuTakeUser) (void *arg, LpuReader *reader);

/* ... for a user that cannot be told from others. */
#define LPU_USER_UNNAMED "a user of the list has no valid id or no loginName"

/* Parameters of a list.  All pointers must stay valid until the list has ended. */
typedef struct LpuUserQuery
{
	int64		user_id;		/* only this user; 0: all */
	const char *query;			/* "&select=..." */
	int64		revision;		/* of a list: 304 if nothing changed since, if
								 * above 0 */
	const char *const *names;	/* attributes to be read of each user */
	int			nnames;
	bool		whole;			/* ... and its JSON */
	LpuTakeUser take;			/* or NULL */
	void	   *arg;
} LpuUserQuery;

/* Result of a list. */
typedef struct LpuListingResult
{
	bool		known;			/* complete */
	bool		unchanged;		/* ... unchanged since the given revision */
	bool		absent;			/* ... the account has no user with this id */
	LpuVerdict	verdict;		/* of one that failed */
	const char *why;			/* ... in words */
	long		wait_ms;		/* ... delay requested by the account */
	int			requests;		/* that were sent */
	int64		revision;		/* of the response; -1: none */
} LpuListingResult;

extern LpuUserList *lpu_user_list_start(const LpuOptions *options, const LpuUserQuery *query);
extern bool lpu_user_list_done(LpuUserList *list, long *wait_ms);
extern void lpu_user_list_finish(LpuUserList *list, MemoryContext texts, LpuListingResult *result);

#endif

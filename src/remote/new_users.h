/*
 * new_users.h: the users of one request, while their rows are collected and sent.
 */
#ifndef LPU_REMOTE_NEW_USERS_H
#define LPU_REMOTE_NEW_USERS_H

#include "lib/stringinfo.h"
#include "nodes/pg_list.h"

#include "user/serialize.h"

typedef struct LpuNewUsers
{
	StringInfoData text;		/* as a JSON array: for the wire, once they
								 * are checked */
	int		   *starts;			/* of each user in it, and the end */
	int64	   *rows;			/* their numbers in the statement, from 1 */
	int			n;
	bool		rewrite;		/* the text is not yet as the wire needs it */
	bool		checked;
	LpuUserIdentity *users;		/* of those that are checked */
	List	   *secrets;
} LpuNewUsers;

/* Begin with at most "room" users. */
extern void lpu_new_users_begin(LpuNewUsers *batch, int room);

/* Before the text of the next user, which is this row, is appended. */
extern void lpu_new_users_next(LpuNewUsers *batch, int64 row);

/* Return what is wrong with them. */
extern List *lpu_new_users_check(LpuNewUsers *batch, MemoryContext scratch, bool require_password);

/* Return some of them as one array. */
extern char *lpu_new_users_array(LpuNewUsers *batch, const int *users, int n);

#endif

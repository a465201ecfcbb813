/*
 * conditional.h: users that are read again, and written if the account is still at that revision.
 */
#ifndef LPU_REMOTE_CONDITIONAL_H
#define LPU_REMOTE_CONDITIONAL_H

#include "remote/fetch.h"
#include "remote/update_row.h"

typedef struct lpu_reread lpu_reread;

/* A user of a batch, by its number, as it is now. Called in a memory context of this row. */
typedef void (*lpu_with_user) (void *batch, int user, const Datum *values, const bool *nulls);

/* What reads the users of a statement again; "entity" as in lpu_fetch_plan. */
extern lpu_reread *lpu_reread_new(const lpu_update *update, bool entity);
extern int64 lpu_reread_users(lpu_reread *reread, const int64 *ids, const int *users, int n,
							  lpu_with_user with_user, void *batch);
extern const char *lpu_reread_entity(const lpu_reread *reread, size_t *length);

/* What a batch can do; its users have numbers, as for lpu_batch. */
typedef struct lpu_conditional
{
	/* Read these again, raise if one was changed; the revision, -1 if it is not known. */
	int64		(*read) (void *batch, const int *users, int n);
	/* Write the request about them, without if_match. No users: there is nothing to send. */
	void		(*write) (void *batch, const int *users, int n, lpu_write *write);
} lpu_conditional;

extern lpu_api_answer *lpu_conditional_send(lpu_writer *writer, const lpu_conditional *methods, void *batch,
											const int *users, int n, lpu_write *write, MemoryContext try);

/* Raise that a user was changed meanwhile. */
pg_noreturn extern void lpu_conditional_conflict(const lpu_delta *delta, const char *detail);

#endif

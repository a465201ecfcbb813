/*
 * conditional.h: users that are read again, and written if the account is still at that revision.
 */
#ifndef LPU_REMOTE_CONDITIONAL_H
#define LPU_REMOTE_CONDITIONAL_H

#include "api/refused_attributes.h"
#include "remote/fetch.h"
#include "remote/update_row.h"

typedef struct LpuReread LpuReread;

/* A user of a batch, by its number, as it is now. Called in a memory context of this row. */
typedef void (*LpuWithUser) (void *batch, int user, const Datum *values, const bool *nulls);

/* What reads the users of a statement again; "entity" as in LpuFetchPlan. */
extern LpuReread *lpu_reread_new(const LpuUpdate *update, bool entity);
extern int64 lpu_reread_users(LpuReread *reread, const int64 *ids, const int *users, int n,
							  LpuWithUser with_user, void *batch);
extern const char *lpu_reread_entity(const LpuReread *reread, size_t *length);

/* What a batch can do; its users have numbers, as for LpuWriteBatch. */
typedef struct LpuConditional
{
	/*
	 * Read these again, raise if one was changed; the revision, -1 if it is
	 * not known. What was read is kept until the next reading: requests about
	 * some of these users may follow without another one.
	 */
	int64		(*read) (void *batch, const int *users, int n);

	/*
	 * Write the request about them, without if_match. No users: there is
	 * nothing to send.
	 */
	void		(*write) (void *batch, const int *users, int n, LpuWriteRequest *write);

	/*
	 * Return true if one of them sets this attribute. NULL: what is refused
	 * is not left out.
	 */
	LpuSetsAttribute sets;
} LpuConditional;

/* Return how many rows of a statement may wait: those of several requests. */
extern int	lpu_conditional_room(const LpuOptions *options);

/* Before the first request about n users, whom the statement has listed at a revision, or -1. */
extern void lpu_conditional_begin(LpuReread *reread, int n, int64 scanned);

/* Return true if the users are still as the statement has read them: they were not read again. */
extern bool lpu_conditional_as_scanned(const LpuReread *reread);

extern LpuApiAnswer *lpu_conditional_send(LpuReread *reread, const LpuConditional *methods,
										  void *batch,
										  const int *users, int n, LpuWriteRequest *write,
										  MemoryContext try);

/* After the last of them: release the revision's lock. */
extern void lpu_conditional_end(LpuReread *reread);

/* Raise that a user was changed meanwhile. */
pg_noreturn extern void lpu_conditional_conflict(const LpuRowChange *delta, const char *detail);

#endif

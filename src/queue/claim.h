/*
 * claim.h: claimed rows of the queue, in memory.
 */
#ifndef LPU_QUEUE_CLAIM_H
#define LPU_QUEUE_CLAIM_H

#include "datatype/timestamp.h"

#include "queue/request_state.h"

/* A claimed row of the queue, and its result. */
typedef struct LpuQueueRow
{
	int64		id;
	char	   *login_name;
	char	   *send_as;		/* name as it is now */
	Oid			role;			/* that of send_as */
	Oid			server;
	int			attempts;
	TimestampTz last_sent_at;	/* before this claim; 0: never */
	char	   *body;			/* JSON in the database's encoding, or NULL if
								 * the payload is gone */
	bool		sent_before;	/* in an earlier attempt, or in a batch that
								 * was split */
	bool		split;			/* ... the latter */
	bool		unsent;			/* nothing was sent: this attempt is not
								 * counted */

	LpuState	state;			/* state to be stored; NONE while it is not
								 * known */
	LpuHoldKind hold;			/* of a row that is to be held; NONE: setup */
	LpuCause	cause;			/* of a row that has failed; NONE: refused */
	int			status;			/* HTTP status, or 0 */
	bool		has_revision;
	int64		revision;
	int64		user_id;		/* or 0 */
	const char *error;			/* or NULL */
	const char *reason;			/* or NULL */
	int64		wait_ms;		/* of pending and uncertain; -1: by the number
								 * of attempts */
	const char *outcome;		/* JSON, or NULL */

	/* of an update or delete (claim_change.h) */
	bool		deletes;
	int			phase;
	int64		target;			/* the user's id, or 0 */
	bool		doubtful;		/* it was uncertain when it was claimed */
	int			last_status;	/* before this claim, or 0 */
	const char *last_error;		/* ... or NULL */
	bool		planned;		/* it belongs to a plan */
	bool		by_login;		/* named by login; an earlier chain has found
								 * the user */
} LpuQueueRow;

/* The rows of one claim, which are freed together. */
typedef struct LpuClaimGroup LpuClaimGroup;

/* For the files that claim: a group below the current memory context, and a row in it. */
extern LpuClaimGroup *lpu_claim_group(void);
extern MemoryContext lpu_claim_group_context(const LpuClaimGroup *group);
extern LpuQueueRow *lpu_claim_add(LpuClaimGroup *group);
extern void lpu_claim_group_clear(LpuClaimGroup *group);

/* The ids of the rows that this process has claimed, a bigint[]. */
extern Datum lpu_claimed_ids(void);

/* The due rows of a party's servers of an account, one by one, each from the front to the end. */
typedef struct LpuClaimer LpuClaimer;

/* Allocated in the current memory context; "account" must outlive it. */
extern LpuClaimer *lpu_claimer_new(const char *account, Oid party);

/* Claim at most "max" due rows of one of the listed servers; NULL at the end. */
extern LpuQueueRow **lpu_claim_rows(LpuClaimer *claimer, int max, int *n);

/* Begin again at the front. */
extern void lpu_claimer_restart(LpuClaimer *claimer);

/* Claim only rows that were due at this time. */
extern void lpu_claimer_set_until(LpuClaimer *claimer, TimestampTz until);

/*
 * Return the first due rows, at most "max": id, login_name, role and server of each, allocated in
 * the current memory context. Later claims are limited to their servers.
 */
extern LpuQueueRow *lpu_claim_list(LpuClaimer *claimer, int max, int *n);

/* Memory context that lives as long as the rows of this row's claim. */
extern MemoryContext lpu_claim_context(const LpuQueueRow *row);

/* Release a settled row; the last one of a claim frees all rows of the claim. */
extern void lpu_claim_release(LpuQueueRow *row);

#endif

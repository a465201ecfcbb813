/*
 * claim.h: rows of the queue in memory: the claimed ones, and those in doubt.
 */
#ifndef LPU_QUEUE_CLAIM_H
#define LPU_QUEUE_CLAIM_H

#include "storage/itemptr.h"

#include "queue/request_state.h"

/* A claimed row of the queue, and what became of it. */
typedef struct lpu_row
{
	int64		id;
	char	   *login_name;
	char	   *send_as;
	int			attempts;
	char	   *body;			/* JSON in the database's encoding, or NULL if the payload is gone */
	bool		sent_before;	/* in an earlier attempt, or in a batch that was split */
	bool		split;			/* ... the latter */
	bool		unsent;			/* it has a result, but nothing was sent: the attempt of this claim does not count */
	ItemPointerData place;		/* where its row and its payload were last seen */
	ItemPointerData payload_place;

	LpuState	state;			/* what to write down; NONE while it is not known */
	LpuHoldKind hold;			/* of a row that is to be held */
	LpuCause	cause;			/* of a row that has failed */
	int			status;			/* HTTP status, or 0 */
	bool		has_revision;
	int64		revision;
	int64		user_id;		/* or 0 */
	const char *error;			/* or NULL */
	const char *reason;			/* or NULL */
	int64		wait_ms;		/* of pending and uncertain; -1: lp_backoff() */
} lpu_row;

/* A row whose outcome is unknown, and what was sent for it. */
typedef struct lpu_doubt
{
	lpu_row		row;
	char	   *body;			/* JSON in the database's encoding, or NULL */
	int			status;			/* of the last answer, or 0 */
	char	   *trouble;		/* what was wrong with the answer, or NULL */
	bool		rejected;		/* it was rejected when it was sent alone */
	bool		accepted;		/* the last answer was a success that does not name it */
} lpu_doubt;

/* A row that is due, and where it was when it was listed. */
typedef struct lpu_listed
{
	int64		id;
	ItemPointerData place;
} lpu_listed;

/* At most so many rows of an account that are due, in the order to claim them. The schema is quoted. */
extern lpu_listed *lpu_claim_list(const char *schema, const char *account, int room, int *n);

/*
 * Claim those of the rows that are still due, in order; NULL if there are none. Both need a transaction with SPI
 * connected and a snapshot, as the owner of the tables. The rows have a memory context of their own, below the current one.
 */
extern lpu_row **lpu_claim_rows(Oid schema, const char *account, const lpu_listed *listed, int nlisted,
								int *n);

/* Where what lives as long as the rows of this one's claim may be allocated. */
extern MemoryContext lpu_claim_context(const lpu_row *row);

/* The rows of an account that are to be looked up now, in the current memory context. */
extern lpu_doubt *lpu_claim_doubts(const char *schema, const char *account, int *n);

/* The row is settled and not needed any more; the last one of a claim frees them all. */
extern void lpu_claim_release(lpu_row *row);

#endif

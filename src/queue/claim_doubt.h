/*
 * claim_doubt.h: creates of the queue whose outcome is to be looked up.
 */
#ifndef LPU_QUEUE_CLAIM_DOUBT_H
#define LPU_QUEUE_CLAIM_DOUBT_H

#include "queue/claim.h"

/* A row whose outcome is unknown, and its payload. */
typedef struct LpuDoubt
{
	LpuQueueRow row;			/* row.body: what was sent, or NULL */
	int			status;			/* of the last response, or 0 */
	char	   *trouble;		/* what was wrong with the response, or NULL */
	bool		rejected;		/* it was rejected when it was sent alone */
	bool		accepted;		/* the last response was a success that does
								 * not name it */
} LpuDoubt;

extern LpuDoubt *lpu_claim_doubts(const char *account, Oid party, int *n);

/* A create whose outcome is unknown, and the time until its lookup. */
typedef struct LpuUncertainCreate
{
	int64		id;				/* of the request */
	char	   *login_name;
	int64		wait_ms;
} LpuUncertainCreate;

extern LpuUncertainCreate *lpu_claim_find_uncertain_creates(const char *account, Oid server,
															int64 newest, int *n);

#endif

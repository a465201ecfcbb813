/*
 * claim_doubt.h: creates of the queue whose outcome is to be looked up.
 */
#ifndef LPU_QUEUE_CLAIM_DOUBT_H
#define LPU_QUEUE_CLAIM_DOUBT_H

#include "queue/claim.h"

/* A row whose outcome is unknown, and what was sent for it. */
typedef struct LpuDoubt
{
	LpuQueueRow row;			/* row.body: what was sent, or NULL */
	int			status;			/* of the last answer, or 0 */
	char	   *trouble;		/* what was wrong with the answer, or NULL */
	bool		rejected;		/* it was rejected when it was sent alone */
	bool		accepted;		/* the last answer was a success that does not
								 * name it */
} LpuDoubt;

extern LpuDoubt *lpu_claim_doubts(const char *account, int *n);

#endif

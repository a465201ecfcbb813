/*
 * claim.h: rows of the queue in memory: the claimed ones, and those in doubt.
 */
#ifndef LPU_QUEUE_CLAIM_H
#define LPU_QUEUE_CLAIM_H

#include "delivery/lookup.h"

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

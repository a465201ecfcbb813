/*
 * delivery.h: a delivery under way, for queue.c and recheck.c.
 */
#ifndef LPU_DELIVERY_H
#define LPU_DELIVERY_H

#include "batch.h"
#include "queue.h"

typedef struct lpu_delivery
{
	const char *schema;			/* quoted */
	const char *account;
	const lpu_deliverer *deliverer;
	lpu_totals *totals;
	MemoryContext context;
	List	   *ready;			/* batches to be sent */
	List	   *flying;			/* batches under way */
	int			claim_size;
	int			max_connections;
	double		rate_limit;
	TimestampTz next_start;		/* by rate_limit, or Retry-After */
	bool		asked_to_wait;	/* for so long that what is ready goes back into the queue */
	bool		empty;			/* the last claim found nothing */
	TimestampTz slice_end;		/* no claims after this */
} lpu_delivery;

/* Count a row's result among the totals. */
extern void lpu_delivery_count(lpu_delivery *d, const lpu_row *row);

/* The network or the service failed once more for this row: a pending one past max_retries has failed. */
extern void lpu_delivery_limit_retries(const lpu_options *options, lpu_row *row, const char *trouble);

/* The options for a role; NULL and *why if it cannot send. They live as long as the memory context. */
extern const lpu_options *lpu_delivery_options(lpu_delivery *d, const char *name, MemoryContext context, const char **why);

/* recheck.c: look up the rows whose outcome is unknown, if due. True if there were some, and the result is known. */
extern bool lpu_delivery_look_up(lpu_delivery *d);

#endif

/*
 * delivery_state.h: a delivery under way, for delivery.c, delivery_state.c and reconcile.c.
 */
#ifndef LPU_DELIVERY_DELIVERY_STATE_H
#define LPU_DELIVERY_DELIVERY_STATE_H

#include "delivery/create_batch.h"
#include "delivery/delivery.h"
#include "queue/claim.h"
#include "queue/settle.h"

struct lpu_delivery
{
	Oid			schema_oid;
	Oid			table;			/* lp_requests, since the first step */
	const char *schema;			/* quoted */
	const char *account;
	const lpu_deliverer *deliverer;
	lpu_totals *totals;
	MemoryContext context;		/* the delivery itself, and what lives as long */
	struct lookup *lookup;		/* under way, or NULL */
	bool		looked;			/* since the last claim */
	bool		shares;			/* the revision's lock, since: */
	TimestampTz shared_since;
	List	   *ready;			/* batches to be sent */
	List	   *flying;			/* batches under way */
	List	   *done;			/* batches to be settled */
	bool		refused;		/* ... not all of which were accepted */
	lpu_listed *list;			/* rows that are due, in the order to claim them */
	int			nlisted;
	int			next_listed;	/* the first that was not claimed */
	lpu_settlement *settlement; /* of the transaction at work, or NULL */
	List	   *settled;		/* the rows in it */
	int			claim_size;
	int			max_connections;
	double		rate_limit;
	TimestampTz next_start;		/* by rate_limit, or Retry-After */
	bool		asked_to_wait;	/* for so long that what is ready goes back into the queue */
	bool		empty;			/* the last claim found nothing */
	TimestampTz slice_end;		/* no claims after this */
};

/* How far a look-up has come. */
typedef enum LpuLookup
{
	LPU_LOOKUP_WAITS,			/* for the network */
	LPU_LOOKUP_NOTHING,			/* no rows were due for it, or it failed */
	LPU_LOOKUP_KNOWN			/* some rows were settled by it */
} LpuLookup;

/*
 * delivery_state.c: begin a step of the delivery, a transaction, and end it. What is allocated in
 * it lives with the delivery, unless it is freed.
 */
extern MemoryContext lpu_delivery_begin(lpu_delivery *d);
extern void lpu_delivery_commit(lpu_delivery *d, MemoryContext caller);

/* In a step: settle rows at its end, which are then not needed any more. They went together. */
extern void lpu_delivery_settle(lpu_delivery *d, lpu_row **rows, int n);

/* In a step: settle one batch that is done. */
extern void lpu_delivery_settle_batch(lpu_delivery *d, lpu_batch *batch);

/* In a step: put claimed rows that will not be sent soon back into the queue. */
extern void lpu_delivery_give_back(lpu_delivery *d);

/* Count a row's result among the totals. */
extern void lpu_delivery_count(lpu_delivery *d, const lpu_row *row);

/* The network or the service failed once more for this row: a pending one past max_retries has failed. */
extern void lpu_delivery_limit_retries(const lpu_options *options, lpu_row *row, const char *trouble);

/* So many batches are claimed at a time, or kept ahead. */
#define LPU_CLAIM_BATCHES 2

/* delivery.c: what an earlier delivery was sending is in doubt; claim a few batches. */
extern void lpu_delivery_take_over(lpu_delivery *d, const char *schema);
extern void lpu_delivery_claim(lpu_delivery *d);

/* delivery.c: the options for a role; NULL and *why if it cannot send. They live as long as the memory context. */
extern const lpu_options *lpu_delivery_options(lpu_delivery *d, const char *name, MemoryContext context, const char **why);

/*
 * reconcile.c: look up the rows whose outcome is unknown, if due, without waiting. To be called
 * until it has an end.
 */
extern LpuLookup lpu_delivery_look_up(lpu_delivery *d);

#endif

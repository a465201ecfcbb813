/*
 * delivery.h: delivering the queue: claim, send, settle.
 */
#ifndef LPU_DELIVERY_DELIVERY_H
#define LPU_DELIVERY_DELIVERY_H

#include "datatype/timestamp.h"

/* What a delivery has done so far. */
typedef struct lpu_totals
{
	int64		created;
	int64		failed;
	int64		again;			/* to be sent or looked up later */
	int64		held;
	int64		requests;		/* HTTP requests sent */
	bool		unreachable;	/* nobody answers: what is left was not tried */
} lpu_totals;

/*
 * How the one who delivers makes transactions. Claims and settlements are each one, with SPI connected and a snapshot
 * to be had; between them, while requests are under way, there is none.
 */
typedef struct lpu_deliverer
{
	void		(*begin) (void);
	void		(*commit) (void);
	void		(*progress) (const char *account, const lpu_totals *totals);	/* or NULL */
	bool		(*stop) (void); /* or NULL; true: claim no more, settle what is under way */
} lpu_deliverer;

/*
 * Deliver what is due for an account now, under its lock. False if somebody else is delivering it. Called outside of
 * begin and commit; raises what the database raises, and is interruptible: rows that were being sent are looked up by
 * whoever gets the lock next.
 */
extern bool lpu_queue_deliver(const char *schema, const char *account, const lpu_deliverer *deliverer,
							  lpu_totals *totals);

/* Milliseconds until the account or another has something due: 0 now, -1 never. Also its name. Needs a transaction. */
typedef struct lpu_due
{
	char	   *account;
	int64		wait_ms;
} lpu_due;

/* Accounts with unfinished rows, in the current memory context. Needs a transaction with SPI connected. */
extern lpu_due *lpu_queue_due(const char *schema, int *n);

/*
 * Drop secrets of failed and held requests after lpusers.keep_secrets, and finished requests after lpusers.retention. It
 * reads both tables: not for every round. Needs a transaction with SPI connected.
 */
extern void lpu_queue_housekeep(const char *schema);

#endif

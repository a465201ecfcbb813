/*
 * delivery.h: delivering the queue: claim, send, settle.
 */
#ifndef LPU_DELIVERY_DELIVERY_H
#define LPU_DELIVERY_DELIVERY_H

#include "queue/take_over.h"

/* Totals of a delivery so far. */
typedef struct LpuTotals
{
	int64		created;
	int64		done;			/* updated or deleted */
	int64		failed;
	int64		again;			/* to be sent or looked up later */
	int64		held;
	int64		requests;		/* HTTP requests sent */
} LpuTotals;

/*
 * How the deliverer makes transactions. Each claim and each settlement is a transaction, with SPI
 * connected and a snapshot available; there is none between them, while requests are under way.
 */
typedef struct LpuDeliverer
{
	void		(*begin) (void);
	void		(*commit) (void);
	void		(*progress) (const char *account, const LpuTotals *totals); /* or NULL */
	/* or NULL; totals are NULL if another process delivers the account */
	void		(*over) (const char *account, const LpuTotals *totals);
	/* or NULL; runs a part and returns false if it raised */
	bool		(*guard) (void (*part) (void *arg), void *arg);
	bool		(*stop) (void); /* or NULL; true: claim no more, settle what
								 * is under way */
} LpuDeliverer;

/*
 * A running delivery of one account, for the servers of one party. A delivery takes steps that do
 * not wait, so that those of other accounts run concurrently.
 */
typedef struct LpuDelivery LpuDelivery;

typedef enum LpuStep
{
	LPU_STEP_MOVED,				/* more may be done at once */
	LPU_STEP_WAITS,				/* for the network, or until some time has
								 * passed */
	LPU_STEP_OVER				/* this delivery can do nothing more */
} LpuStep;

extern LpuDelivery *lpu_delivery_open(const char *account, Oid party, const LpuDeliverer *deliverer,
									  LpuTotals *totals);
extern LpuStep lpu_delivery_step(LpuDelivery *d, long *wait_ms);
extern void lpu_delivery_begin_turn(LpuDelivery *d);
extern TimestampTz lpu_delivery_next_turn(const LpuDelivery *d);
extern bool lpu_delivery_has_turn(const LpuDelivery *d);
extern bool lpu_delivery_wants_turn(const LpuDelivery *d);
extern void lpu_delivery_close(LpuDelivery *d);

typedef LpuDueAccount LpuDue;

/*
 * Accounts with unfinished rows, in the current memory context. Needs a
 * transaction with SPI connected.
 */
extern LpuDue *lpu_queue_due(int *n);

/*
 * Remove secrets of failed requests after lpusers.keep_secrets and of held ones after
 * lpusers.keep_held_secrets, and finished requests after lpusers.retention.
 */
extern void lpu_queue_housekeep(void);

#endif

/*
 * settle.h: writing down what became of rows of the queue.
 */
#ifndef LPU_QUEUE_SETTLE_H
#define LPU_QUEUE_SETTLE_H

#include "queue/claim.h"

typedef struct LpuSettlement LpuSettlement;

/*
 * Called in the transaction of a settlement, with SPI connected: these rows of plans are created,
 * done or failed now.  It may raise nothing but what is no fault of the rows.
 */
typedef void (*LpuSettledHook) (const int64 *ids, int n);
extern LpuSettledHook lpu_settled_hook;

/*
 * A settlement, in the current memory context; "answered": what is settled is known from answers,
 * not from a lookup. Add each row whose state is set; it is copied.
 */
extern LpuSettlement *lpu_settlement_new(bool answered);
extern void lpu_settlement_add(LpuSettlement *settlement, const LpuQueueRow *row);

/*
 * The rows that are added from now on went together. Without it they keep the number of the batch
 * they went in.
 */
extern void lpu_settlement_next_batch(LpuSettlement *settlement, Oid schema);

/*
 * Write the rows down and free the settlement. Needs a transaction with SPI connected. Rows that
 * another transaction has locked are kept, and written with a later settlement of this process.
 */
extern void lpu_settlement_write(LpuSettlement *settlement);

/* Write what earlier settlements had to keep. */
extern void lpu_settlement_write_kept(void);

/*
 * Mark failed requests as mended that these successful ones made good. Needs a transaction with SPI
 * connected.
 */
extern void lpu_settle_mend(const int64 *ids, int n);

#endif

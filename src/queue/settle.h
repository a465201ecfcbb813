/*
 * settle.h: recording the results of queued requests.
 */
#ifndef LPU_QUEUE_SETTLE_H
#define LPU_QUEUE_SETTLE_H

#include "queue/claim.h"

typedef struct LpuSettlement LpuSettlement;

/*
 * Called in the transaction of a settlement, with SPI connected: these rows of plans are created,
 * done or failed now.  It may raise only errors that the rows did not cause.
 */
typedef void (*LpuSettledHook) (const int64 *ids, int n);
extern LpuSettledHook lpu_settled_hook;

/*
 * A settlement, in the current memory context; "answered": the results are known from responses,
 * not from a lookup. Add each row whose state is set; it is copied.
 */
extern LpuSettlement *lpu_settlement_new(bool answered);
extern void lpu_settlement_add(LpuSettlement *settlement, const LpuQueueRow *row);

/*
 * The rows added from now on were sent in one batch. Without this call rows keep their batch
 * number.
 */
extern void lpu_settlement_next_batch(LpuSettlement *settlement, Oid schema);

/*
 * Write the rows and free the settlement. Needs a transaction with SPI connected. Results of rows
 * locked by another transaction are kept, and written with a later settlement of this process.
 */
extern void lpu_settlement_write(LpuSettlement *settlement);

/* Write the results that earlier settlements kept. */
extern void lpu_settlement_write_kept(void);

#endif

/*
 * create_batch.h: users of the queue that go in one request.
 */
#ifndef LPU_DELIVERY_CREATE_BATCH_H
#define LPU_DELIVERY_CREATE_BATCH_H

#include "api/users_api.h"
#include "queue/claim.h"

/* Rows that go together, all with the same options. */
typedef struct lpu_batch
{
	const lpu_options *options;
	lpu_row   **rows;
	int			n;
	bool		renewed;		/* it was sent again after a 401 */
	MemoryContext context;		/* of the batch, its request and its answer */
	lpu_api_request request;
	lpu_api_call *call;			/* while it is under way */
} lpu_batch;

/* A batch of n rows, in the current memory context. Needs a transaction, as lpu_batch_finish() does. */
extern lpu_batch *lpu_batch_new(const lpu_options *options, lpu_row **rows, int n);

/* Start its request. */
extern void lpu_batch_start(lpu_batch *batch);
extern bool lpu_batch_done(const lpu_batch *batch);

/* Of one that is done: did the service answer with success? */
extern bool lpu_batch_accepted(const lpu_batch *batch);

/*
 * Read the answer of a batch that is done. Either every row's result is set, or the batch has to go out again: as it is
 * after a 401, or in two halves because somebody in it was rejected. Then the batches to send are returned. The batch
 * is freed.
 */
extern List *lpu_batch_finish(lpu_batch *batch);

/* It is not to be sent after all: free it, but not its rows. */
extern void lpu_batch_free(lpu_batch *batch);

/* Its rows wait so long and are then sent as if nothing had been, unless they had been in a batch that was split. */
extern void lpu_batch_set_later(lpu_batch *batch, const char *error, int64 wait_ms);

/* Its rows are held, or, if they had been in a batch that was split, looked up. */
extern void lpu_batch_set_held(lpu_batch *batch, const char *why);

/* The outcome of all rows alike. */
extern void lpu_batch_set_all(lpu_batch *batch, LpuState state, const char *error, const char *reason, int64 wait_ms);

#endif

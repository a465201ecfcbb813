/*
 * create_batch.h: queued users that are created by one request.
 */
#ifndef LPU_DELIVERY_CREATE_BATCH_H
#define LPU_DELIVERY_CREATE_BATCH_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

#include "api/users_api.h"
#include "queue/claim.h"

/* Rows sent in one request, all with the same options. */
typedef struct LpuCreateBatch
{
	const LpuOptions *options;
	LpuQueueRow **rows;
	int			n;
	bool		renewed;		/* it was repeated after a 401 */
	bool		looked;			/* its users were refused in a larger batch,
								 * and are not in the account */
	MemoryContext context;		/* for the batch, its request and its response */
	LpuApiRequest request;
	LpuApiCall *call;			/* while it is under way */
	TimestampTz started;
} LpuCreateBatch;

/* Result of a batch that is done. */
typedef enum LpuBatchEnd
{
	LPU_BATCH_SETTLED,			/* the state of every row is set */
	LPU_BATCH_AGAIN,			/* other batches have to be sent instead */
	LPU_BATCH_REFUSED			/* a user was refused; look up the others */
} LpuBatchEnd;

typedef struct LpuBatchResult
{
	LpuBatchEnd end;
	LpuVerdict	verdict;		/* of the response; not for AGAIN */
	List	   *again;			/* batches */
} LpuBatchResult;

extern LpuCreateBatch *lpu_batch_new(const LpuOptions *options, LpuQueueRow **rows, int n);
extern void lpu_batch_start(LpuCreateBatch *batch);
extern bool lpu_batch_done(const LpuCreateBatch *batch);
extern bool lpu_batch_accepted(const LpuCreateBatch *batch);
extern void lpu_batch_finish(LpuCreateBatch *batch, LpuBatchResult *result);
extern void lpu_batch_free(LpuCreateBatch *batch);
extern List *lpu_batch_halves(const LpuOptions *options, LpuQueueRow **rows, int n, bool looked);

extern void lpu_rows_set(LpuQueueRow **rows, int n, LpuState state, const char *error,
						 const char *reason, int64 wait_ms);
extern void lpu_rows_set_held(LpuQueueRow **rows, int n, LpuHoldKind hold, const char *why);
extern void lpu_rows_set_later(LpuQueueRow **rows, int n, const char *error, int64 wait_ms);
extern void lpu_row_set_failed(LpuQueueRow *row, LpuCause cause, const char *error);

#endif

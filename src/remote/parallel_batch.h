/*
 * parallel_batch.h: batches of a statement that are sent side by side.
 */
#ifndef LPU_REMOTE_PARALLEL_BATCH_H
#define LPU_REMOTE_PARALLEL_BATCH_H

#include "remote/write_batch.h"

typedef struct LpuParallel LpuParallel;

/* Return what sends the batches of a statement, in the current memory context. */
extern LpuParallel *lpu_parallel_new(LpuWriterState *writer, const LpuWriteBatch *methods,
									 void *batch);

/* Return a place that no request uses, whose users are to be collected. */
extern int	lpu_parallel_place(LpuParallel *parallel);

/* Start the request about the users of a place, as soon as a connection is free. */
extern void lpu_parallel_send(LpuParallel *parallel, int place, int n);

/* Send the request about the users of a place alone; it keeps its memory until it is used again. */
extern void lpu_parallel_send_alone(LpuParallel *parallel, int place, int n);

/* Let the requests in flight go on without waiting. */
extern void lpu_parallel_turn(LpuParallel *parallel);

/* Wait until no request is in flight, and tell if one is. */
extern bool lpu_parallel_is_busy(const LpuParallel *parallel);
extern void lpu_parallel_finish(LpuParallel *parallel);

#endif

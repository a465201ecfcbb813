/*
 * carry_out.h: a batch of users while it is carried out; of remote/carry_out.c and
 * remote/parallel_batch.c only.
 */
#ifndef LPU_REMOTE_CARRY_OUT_H
#define LPU_REMOTE_CARRY_OUT_H

#include "remote/write_batch.h"

/* The request was too large: its users were certainly not processed. */
#define LPU_TOO_LARGE 413

typedef struct LpuBatchState
{
	LpuWriterState *writer;
	const LpuWriteBatch *methods;
	void	   *batch;
	bool		looked;			/* once is enough */
} LpuBatchState;

/* Send n users in one request, and judge the response. */
extern void lpu_batch_carry_out(LpuBatchState *state, const int *users, int n);

/* Count the users of a request that succeeded, or find the one that was refused. */
extern void lpu_batch_judge(LpuBatchState *state, const int *users, int n,
							const LpuApiAnswer *answer, LpuWriteRequest *write);

#endif

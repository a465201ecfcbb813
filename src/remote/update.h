/*
 * update.h: users of a foreign table that are updated: read, merged, put back.
 */
#ifndef LPU_REMOTE_UPDATE_H
#define LPU_REMOTE_UPDATE_H

#include "remote/update_row.h"

typedef struct LpuUpdateState LpuUpdateState;

/*
 * Return the state of an UPDATE, in the current memory context, with at most batch_size users in
 * a batch.
 */
extern LpuUpdateState *lpu_change_new(const LpuUpdate *update);

/*
 * Add a row to the batch: the user's id, the row as the statement read it (a composite value),
 * and the new row.
 */
extern void lpu_change_add(LpuUpdateState *change, int64 id, Datum before, TupleTableSlot *after);

/* Return how many rows are in the batch. */
extern int	lpu_change_pending(const LpuUpdateState *change);

/* Update the users of the batch, which is empty afterwards. */
extern void lpu_change_flush(LpuUpdateState *change, int64 scanned);

/*
 * After a batch of one: complete its row from the response, with the date of the update for
 * example.
 */
extern void lpu_change_return(LpuUpdateState *change, TupleTableSlot *slot);

#endif

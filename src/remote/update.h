/*
 * update.h: users of a foreign table that are updated: read, merged, put back.
 */
#ifndef LPU_REMOTE_UPDATE_H
#define LPU_REMOTE_UPDATE_H

#include "remote/update_row.h"

typedef struct LpuUpdateState LpuUpdateState;

/*
 * For the rows of one statement, at most batch_size a batch. In the current
 * memory context; the argument lives as long.
 */
extern LpuUpdateState *lpu_change_new(const LpuUpdate *update);

/*
 * Add a row to the batch: the user's id, the row as the statement read it (a
 * composite value), and as it is to be.
 */
extern void lpu_change_add(LpuUpdateState *change, int64 id, Datum before, TupleTableSlot *after);

/* Rows in the batch. */
extern int	lpu_change_pending(const LpuUpdateState *change);

/*
 * Update the users of the batch, which is then empty. Raises 40001 if one of
 * them was changed since the statement read it, and for any refusal.
 */
extern void lpu_change_flush(LpuUpdateState *change);

/*
 * After a batch of one: complete its row by what the account answered, such as
 * the date of the update.
 */
extern void lpu_change_return(LpuUpdateState *change, TupleTableSlot *slot);

#endif

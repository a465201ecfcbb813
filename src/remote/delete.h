/*
 * delete.h: rows of a foreign table that are deleted.
 */
#ifndef LPU_REMOTE_DELETE_H
#define LPU_REMOTE_DELETE_H

#include "remote/update_row.h"

typedef struct LpuDeleteState LpuDeleteState;

/*
 * For the rows of one statement, at most batch_size a batch. In the current
 * memory context; the argument lives as long.
 */
extern LpuDeleteState *lpu_removal_new(const LpuUpdate *statement);

/* Add a user to the batch: the id, and the row as the statement read it (a composite value). */
extern void lpu_removal_add(LpuDeleteState *removal, int64 id, Datum before);

/* Return how many users are in the batch. */
extern int	lpu_removal_pending(const LpuDeleteState *removal);

/*
 * Delete the users of the batch, which is then empty. One that is gone already
 * is no error. Raises 40001 if one of them was changed since the statement
 * read it, and for any refusal.
 */
extern void lpu_removal_flush(LpuDeleteState *removal, int64 scanned);

#endif

/*
 * change.h: rows of a foreign table that are updated: read, merged, put back.
 */
#ifndef LPU_CHANGE_H
#define LPU_CHANGE_H

#include "executor/tuptable.h"
#include "nodes/bitmapset.h"

#include "resource.h"
#include "writer.h"

typedef struct lpu_change lpu_change;

/*
 * For the rows of one statement that sets these columns (numbers less one). by_trigger: rows may differ from what was read
 * in other columns too. In the current memory context; the arguments must live as long. At most batch_size rows a batch.
 */
extern lpu_change *lpu_change_new(lpu_writer *writer, const lpu_table *table, TupleDesc desc, const Bitmapset *columns,
								  bool by_trigger);

/* Add a row to the batch: the user's id, the row as the statement read it (a composite value), and as it is to be. */
extern void lpu_change_add(lpu_change *change, int64 id, Datum before, TupleTableSlot *after);

/* Rows in the batch. */
extern int	lpu_change_pending(const lpu_change *change);

/*
 * Update the users of the batch, which is then empty. Raises 40001 if one of them was changed since the statement read it,
 * and for any refusal.
 */
extern void lpu_change_flush(lpu_change *change);

#endif

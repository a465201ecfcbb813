/*
 * insert.h: rows that are inserted into a foreign table, as users to be created.
 */
#ifndef LPU_REMOTE_INSERT_H
#define LPU_REMOTE_INSERT_H

#include "executor/tuptable.h"

#include "remote/write_batch.h"

typedef struct LpuInsertState LpuInsertState;

/*
 * For the rows of one statement. skip_existing: rows whose login the account
 * has already are left out (ON CONFLICT DO NOTHING). In the current memory
 * context; the writer must live as long.
 */
extern LpuInsertState *lpu_creation_new(LpuWriterState *writer, bool skip_existing);

/*
 * Add a row to the batch. False: it is left out. Raises for a value that its
 * attribute does not take.
 */
extern bool lpu_creation_add(LpuInsertState *creation, TupleTableSlot *slot);

/* Rows in the batch. */
extern int	lpu_creation_pending(const LpuInsertState *creation);

/*
 * Create the users of the batch, which is then empty. Raises if one of them
 * was not created, unless others have just created it and it may be left out.
 */
extern void lpu_creation_flush(LpuInsertState *creation);

/* After a batch of one: complete its row by what the account answered, such as the id. */
extern void lpu_creation_return(LpuInsertState *creation, TupleTableSlot *slot);

#endif

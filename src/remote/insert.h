/*
 * insert.h: rows that are inserted into a foreign table, as users to be created.
 */
#ifndef LPU_REMOTE_INSERT_H
#define LPU_REMOTE_INSERT_H

#include "executor/tuptable.h"

#include "remote/write_batch.h"

typedef struct LpuInsertState LpuInsertState;

/* Return the state of an INSERT, in the current memory context; the writer must live as long. */
extern LpuInsertState *lpu_creation_new(LpuWriterState *writer, bool skip_existing);

/* Add a row to those that wait. */
extern bool lpu_creation_add(LpuInsertState *creation, TupleTableSlot *slot);

/* Return true if as many rows wait as a request takes. */
extern bool lpu_creation_is_full(const LpuInsertState *creation);

/* Return how many rows the executor may hand over at a time, if all are sent at once. */
extern int	lpu_creation_room(const LpuOptions *options);

/* Create the users of the rows that wait, and leave the request in flight. */
extern void lpu_creation_send(LpuInsertState *creation);

/* The same, and wait until all of the statement are created. */
extern void lpu_creation_flush(LpuInsertState *creation);

/* After a batch of one: complete its row from the response, with the id for example. */
extern void lpu_creation_return(LpuInsertState *creation, TupleTableSlot *slot);

#endif

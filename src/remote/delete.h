/*
 * delete.h: rows of a foreign table that are deleted.
 */
#ifndef LPU_REMOTE_DELETE_H
#define LPU_REMOTE_DELETE_H

#include "remote/write_batch.h"

typedef struct lpu_removal lpu_removal;

/* For the rows of one statement, at most batch_size a batch. In the current memory context; the writer must live as long. */
extern lpu_removal *lpu_removal_new(lpu_writer *writer);

/* Add a user to the batch: the id, and the login (a text value) if it is known, else 0. */
extern void lpu_removal_add(lpu_removal *removal, int64 id, Datum login);

/* Users in the batch. */
extern int	lpu_removal_pending(const lpu_removal *removal);

/* Delete the users of the batch, which is then empty. Whoever is gone already is no error. */
extern void lpu_removal_flush(lpu_removal *removal);

#endif

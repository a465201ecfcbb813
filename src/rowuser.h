/*
 * rowuser.h: one row of a mapping's query becomes one user for the queue.
 */
#ifndef LPU_ROWUSER_H
#define LPU_ROWUSER_H

#include "executor/tuptable.h"

#include "enqueue.h"
#include "mapping.h"

/* Write the row's user; what is wrong with its data goes into "problem". Texts are in the current memory context. */
extern void lpu_user_from_slot(const lpu_mapping *mapping, bool require_password, TupleTableSlot *slot,
							   lpu_queued_user *user);

#endif

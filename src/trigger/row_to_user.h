/*
 * row_to_user.h: one row of a mapping's query becomes one user for the queue.
 */
#ifndef LPU_TRIGGER_ROW_TO_USER_H
#define LPU_TRIGGER_ROW_TO_USER_H

#include "executor/tuptable.h"

#include "queue/enqueue.h"
#include "trigger/mapping.h"

typedef struct LpuUserWriter LpuUserWriter;

/* Return what writes users for rows of this kind. */
extern LpuUserWriter *lpu_user_writer_new(const LpuMapping *mapping, bool require_password,
										  TupleDesc desc);

/* Write the row's user; user->problem says what is wrong with its data. */
extern void lpu_user_from_slot(LpuUserWriter *writer, TupleTableSlot *slot, LpuQueuedUser *user);

#endif

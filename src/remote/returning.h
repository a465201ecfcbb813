/*
 * returning.h: a row as the account answered it.
 */
#ifndef LPU_REMOTE_RETURNING_H
#define LPU_REMOTE_RETURNING_H

#include "executor/tuptable.h"

#include "api/users_api.h"
#include "remote/foreign_table.h"

typedef struct LpuReturnedUsers LpuReturnedUsers;

/* Return what completes rows of this table, in the current memory context. */
extern LpuReturnedUsers *lpu_answered_new(const LpuForeignTable *table);

/*
 * Complete a row that was just written from what the response says of the user with this id:
 * values that the account has set or changed, such as the id.
 */
extern void lpu_answered_complete(LpuReturnedUsers *answered, const LpuApiAnswer *answer,
								  int64 id, TupleTableSlot *slot);

#endif

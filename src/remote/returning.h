/*
 * returning.h: a row as the account answered it.
 */
#ifndef LPU_REMOTE_RETURNING_H
#define LPU_REMOTE_RETURNING_H

#include "executor/tuptable.h"

#include "api/users_api.h"
#include "remote/foreign_table.h"

typedef struct LpuReturnedUsers LpuReturnedUsers;

/* For rows of this table; in the current memory context. */
extern LpuReturnedUsers *lpu_answered_new(const LpuForeignTable *table);

/*
 * Complete a row that was just written by what the account answered of its
 * user: values that it has made or changed, such as the id. What the answer
 * lacks, or hides, stays as it is; secrets are null from now on. Raises for a
 * value that its column does not take. May use the current memory context.
 */
extern void lpu_answered_complete(LpuReturnedUsers *answered, const LpuApiAnswer *answer,
								  TupleTableSlot *slot);

#endif

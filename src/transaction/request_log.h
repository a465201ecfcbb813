/*
 * request_log.h: the rows of lp_requests that a direct call leaves.
 */
#ifndef LPU_TRANSACTION_REQUEST_LOG_H
#define LPU_TRANSACTION_REQUEST_LOG_H

#include "options/option.h"
#include "queue/request_state.h"
#include "user/serialize.h"

typedef struct LpuRecord LpuRecord;

/* How a request ended, for all its users alike. */
typedef struct LpuRecordResult
{
	const char *state;			/* created, done or failed */
	LpuCause	cause;			/* of failed; NONE: refused */
	int			status;			/* HTTP status */
	bool		has_revision;
	int64		revision;
	const char *error;			/* or NULL */
	const char *reason;			/* or NULL */
} LpuRecordResult;

/*
 * Write one row for each user, in the caller's transaction, with the rights of the table's owner.
 * "schema" is the extension's, path one of direct, trigger, table. The rows have the reason
 * "outcome unknown" until they are settled. The record lives in the current memory context.
 */
extern LpuRecord *lpu_record_begin(Oid schema, const LpuOptions *options, const char *operation,
								   const char *path,
								   const LpuUserIdentity *users, int n);

/*
 * Complete the rows; users are those of lpu_record_begin(), now perhaps with
 * ids.  Those of users that are doubtful (or NULL) keep saying "outcome
 * unknown".
 */
extern void lpu_record_settle(LpuRecord *record, const LpuRecordResult *result,
							  const LpuUserIdentity *users,
							  const bool *doubtful);

/*
 * The request was refused, and its users are sent again, each with another record: delete the rows,
 * except those of doubtful users (or NULL), for which the request may have been executed.
 */
extern void lpu_record_forget(LpuRecord *record, const bool *doubtful);

#endif

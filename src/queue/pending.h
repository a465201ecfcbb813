/*
 * pending.h: pending rows of an account, taken together.
 */
#ifndef LPU_QUEUE_PENDING_H
#define LPU_QUEUE_PENDING_H

#include "queue/request_state.h"

/*
 * The servers that have pending rows of an account and may be sent to, in the current memory
 * context.  Rows without a server get one before, or are held; so are those whose server is gone.
 */
extern Oid *lpu_pending_servers(const char *account, int *n);

/* Hold what is pending for a role on a server; InvalidOid: for every role.  Returns how many. */
extern int64 lpu_pending_hold(const char *account, Oid server, Oid role, LpuHoldKind kind,
							  const char *why);

/* Hold these rows, if they are pending. */
extern int64 lpu_pending_hold_rows(const int64 *ids, int n, LpuHoldKind kind, const char *why);

#endif

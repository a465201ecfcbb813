/*
 * pending.h: operations on all pending rows of an account.
 */
#ifndef LPU_QUEUE_PENDING_H
#define LPU_QUEUE_PENDING_H

#include "queue/request_state.h"

/*
 * The servers of a party that have pending rows of an account and may be sent to, an oid[].
 * Rows without a server get one first, or are held; rows of a dropped server are held.
 */
extern Datum lpu_pending_servers(const char *account, Oid party);

/*
 * Hold the rows that are pending for a role on a server; InvalidOid: for every role.  Returns
 * their number.
 */
extern int64 lpu_pending_hold(const char *account, Oid server, Oid role, LpuHoldKind kind,
							  const char *why);

/* Hold these rows, if they are pending. */
extern int64 lpu_pending_hold_rows(const int64 *ids, int n, LpuHoldKind kind, const char *why);

#endif

/*
 * claim_change.h: claiming queued updates and deletes.
 */
#ifndef LPU_QUEUE_CLAIM_CHANGE_H
#define LPU_QUEUE_CLAIM_CHANGE_H

#include "queue/claim.h"

/* The role and server of the update or delete that is to be sent next. */
typedef struct LpuNextChange
{
	Oid			server;
	Oid			role;
} LpuNextChange;

extern bool lpu_claim_next_change(const char *account, Oid party, LpuNextChange *next);
extern LpuQueueRow **lpu_claim_changes(const char *account, Oid party,
									   const LpuNextChange *next, int max, int *n);
extern void lpu_claim_add_hidden(const char *account, LpuQueueRow **rows, const int64 *users,
								 int n);

#endif

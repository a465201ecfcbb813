/*
 * claim_order.h: the order of requests that name one user by id and by login.
 */
#ifndef LPU_QUEUE_CLAIM_ORDER_H
#define LPU_QUEUE_CLAIM_ORDER_H

#include "queue/claim.h"

/* Requests of one account and server, and the ids of their users, as the account has them now. */
typedef struct LpuOrderedRows
{
	const char *account;
	Oid			server;
	const int64 *claimed;		/* requests that are claimed */
	int			nclaimed;
} LpuOrderedRows;

extern int64 *lpu_claim_find_blocked(const LpuOrderedRows *rows, const int64 *ids,
									 const int64 *users, int n, int *nblocked);
extern void lpu_claim_follow_renames(const LpuOrderedRows *rows, const int64 *users,
									 char *const *logins, int n);

#endif

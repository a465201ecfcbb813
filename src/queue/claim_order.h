/*
 * claim_order.h: the order of requests that name one user by id and by login.
 */
#ifndef LPU_QUEUE_CLAIM_ORDER_H
#define LPU_QUEUE_CLAIM_ORDER_H

#include "queue/claim.h"

/*
 * SQL: request "f" may be waited for by "r": it is of the same role, or it is not held, and "more".
 * Requests of a role that does not let them move, because it has no valid credentials or its
 * account is not reached, do not keep those of other roles waiting.
 */
#define LPU_ORDERS_SQL(f, r, more) \
"(" f ".send_as_oid = " r ".send_as_oid OR " f ".state <> 'held' AND " more ")"

/*
 * SQL: the id of an older unfinished change that gives the login of request "r" to a user, or NULL.
 * r then refers to the login's next user.  $1 account.  Reads lp_requests and lp_payloads.
 */
#define LPU_OLDER_RENAME_SQL(r) \
"(SELECT f.id FROM @extschema@.lp_payloads p JOIN @extschema@.lp_requests f ON f.id = p.request_id" \
" WHERE lower((p.body #>> '{set,loginName}') COLLATE \"C\") = lower(" r ".login_name COLLATE \"C\")" \
"   AND (p.body #>> '{set,loginName}') IS NOT NULL AND p.request_id < " r ".id" \
"   AND f.account = $1 AND f.server_oid = " r ".server_oid AND f.operation = 'update'" \
"   AND f.hold IS DISTINCT FROM 'elsewhere' AND " LPU_ORDERS_SQL("f", r, "true") \
"   AND f.state IN ('pending', 'held', 'sending', 'uncertain') LIMIT 1)"

/* Requests of one account and server, and the ids of their users, as the account has them now. */
typedef struct LpuOrderedRows
{
	const char *account;
	Oid			server;
	Oid			role;
	const int64 *claimed;		/* requests that are claimed */
	int			nclaimed;
} LpuOrderedRows;

/* A change, waiting or uncertain, of a user named by its login. */
typedef struct LpuWaitingChange
{
	int64		id;				/* of the request */
	char	   *login_name;
} LpuWaitingChange;

extern LpuWaitingChange *lpu_claim_find_older_by_login(const LpuOrderedRows *rows, int64 newest,
													   int *n);
extern int64 lpu_claim_keep_users(const LpuOrderedRows *rows, const int64 *ids,
								  const int64 *users, char *const *logins, int n);
extern int64 *lpu_claim_find_blocked(const LpuOrderedRows *rows, const int64 *ids,
									 const int64 *users, int n, int *nblocked);
extern void lpu_claim_follow_renames(const LpuOrderedRows *rows, const int64 *users,
									 char *const *logins, int n);

/* A create, and the change that takes its login from another user first. */
extern int64 lpu_claim_find_freeing(const char *account, const LpuQueueRow *row, int64 user,
									int64 *wait_ms);
extern bool lpu_claim_may_free(const char *account, Oid server);

/* A rename, and the older change that takes its new login from another user first. */
typedef struct LpuWaitingRename
{
	int64		id;
	int64		older;
	int64		wait_ms;		/* until the older one is due */
} LpuWaitingRename;

extern LpuWaitingRename *lpu_claim_find_waiting_renames(const LpuOrderedRows *rows,
														const int64 *ids, int n, int *nwaiting);

#endif

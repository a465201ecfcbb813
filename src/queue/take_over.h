/*
 * take_over.h: taking over requests that earlier deliverers left.
 */
#ifndef LPU_QUEUE_TAKE_OVER_H
#define LPU_QUEUE_TAKE_OVER_H

/*
 * To be called first under the lock on an account: rows that earlier deliverers, other timelines
 * and other systems left become held or are to be looked up.  Needs a transaction with SPI
 * connected.
 */
extern void lpu_take_over(const char *account, bool resume);

/*
 * Rows that are to be looked up before they are sent become uncertain, unless a request with
 * their login is in flight.
 */
extern int64 lpu_take_over_look_first(const char *account);

/*
 * Accounts with unfinished rows and the parties of their servers, and the milliseconds until the
 * first is due; in the current memory context.  An account and a party may occur more than once.
 */
typedef struct LpuDueAccount
{
	char	   *account;
	Oid			party;
	int64		wait_ms;
} LpuDueAccount;

extern LpuDueAccount *lpu_due_accounts(int *n);

#endif

/*
 * account_lock.h: the locks of an account.
 */
#ifndef LPU_BASE_ACCOUNT_LOCK_H
#define LPU_BASE_ACCOUNT_LOCK_H

/*
 * The deliverer's lock: held by one process, for its session, from the first claim to the last
 * settlement.
 */
extern bool lpu_lock_account(const char *account);
extern bool lpu_account_is_locked(const char *account);
extern void lpu_unlock_account(const char *account);

/* Likewise for the one worker of this database; kept until the process ends. */
extern bool lpu_lock_worker(void);

/*
 * The revision's lock, shared by a delivery for its session while creates are in flight, or held
 * by it for conditional writes; none of these waits.  Each party has its own.
 */
extern bool lpu_share_revision(const char *account, Oid party);
extern bool lpu_revision_is_wanted(const char *account, Oid party);
extern bool lpu_hold_revision(const char *account, Oid party);
extern void lpu_release_revision(const char *account, Oid party);

/* The revision's lock, taken by a transaction: for creates, or for one conditional write. */
typedef enum LpuRevisionUse
{
	LPU_REVISION_SHARED,
	LPU_REVISION_EXCLUSIVE
} LpuRevisionUse;

extern void lpu_lock_revision(const char *account, Oid party, LpuRevisionUse use, int timeout_ms);
extern bool lpu_try_revision(const char *account, Oid party, LpuRevisionUse use);
extern void lpu_unlock_revision(const char *account, Oid party, LpuRevisionUse use);

/* The lock of a transaction that applies a plan for a server of the account. */
extern void lpu_lock_plans(Oid server, const char *account);

#endif

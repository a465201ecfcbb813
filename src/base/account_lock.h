/*
 * account_lock.h: who delivers.
 */
#ifndef LPU_BASE_ACCOUNT_LOCK_H
#define LPU_BASE_ACCOUNT_LOCK_H

/*
 * Take the lock on an account of this database, which only one process can have; false if another has it. It is kept
 * until it is released or the process ends, however that ends.
 */
extern bool lpu_lock_account(const char *account);
extern void lpu_unlock_account(const char *account);

/* Likewise for the one worker of this database; kept until the process ends. */
extern bool lpu_lock_worker(void);

#endif

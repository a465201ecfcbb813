/*
 * account_lock.c: the locks of an account.
 *
 * Heavyweight locks of a kind that no SQL function can take. The deliverer's lock of an account
 * is held by the session: it outlives transactions and ends with the process. So while a process
 * holds it, no other process sends requests from the queue of the account.
 * pg_advisory_unlock_all() and DISCARD ALL release it, so the holder checks it before each claim
 * and each request.
 *
 * The revision's lock of an account serializes conditional writes (read, then PUT or DELETE with
 * the revision), and excludes creates, which change the revision, while one runs. Creates share
 * it while requests are in flight: those of a delivery for its session, those of a foreign table
 * for their transaction. Both release it when a writer waits. A writer takes it exclusively, for
 * one batch, or for several until another session has waited for a while, as a lock of its
 * transaction, so that an error or a rollback to a savepoint releases it.
 *
 * Servers of owners that do not trust each other can have one account id, and the service of one of
 * them can keep its requests in flight for minutes.  So each party (options/known_server.h) has a
 * revision's lock of its own: what another party writes is a change by another client.
 *
 * A delivery never waits for a lock, because that would stop all accounts of its process.
 * Instead it tries again, and meanwhile holds a third lock, the turnstile. A writer must pass
 * the turnstile before it waits for the revision's lock, so the delivery gets that lock next,
 * and writers and deliveries alternate. For its own conditional writes the delivery takes the
 * revision's lock exclusively, in the same way.
 *
 * The plans' lock of a server is that of a transaction which applies a plan: another sync of the
 * server sees what it has queued.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/timestamp.h"

#include "base/account_lock.h"
#include "base/compat.h"

/* A plan is applied within seconds; a transaction that has applied one may stay open. */
#define PLANS_TIMEOUT_MS (60 * 1000)

/* Distinguishes our locks from others of this kind. */
#define LOCK_MARK 0x4c50

/* What is locked. */
typedef enum AccountLockKind
{
	DELIVERER,
	REVISION,
	TURNSTILE,
	PLANS
} AccountLockKind;

static LOCKTAG
make_tag(AccountLockKind kind, uint64 hash)
{
	LOCKTAG		tag;

	memset(&tag, 0, sizeof(LOCKTAG));
	tag.locktag_field1 = MyDatabaseId;
	tag.locktag_field2 = (uint32) (hash >> 32);
	tag.locktag_field3 = (uint32) hash;
	tag.locktag_field4 = LOCK_MARK + kind;
	tag.locktag_type = LOCKTAG_USERLOCK;
	tag.locktag_lockmethodid = USER_LOCKMETHOD;
	return tag;
}

static LOCKTAG
account_tag(AccountLockKind kind, const char *account, Oid party)
{
	const unsigned char *name = (const unsigned char *) account;

	return make_tag(kind, DatumGetUInt64(hash_any_extended(name, (int) strlen(account),
														   (uint64) party + 1)));
}

static bool
try_for_session(const LOCKTAG *tag, LOCKMODE mode)
{
	return LockAcquire(tag, mode, true, true) != LOCKACQUIRE_NOT_AVAIL;
}

static void
release_if_held(const LOCKTAG *tag, LOCKMODE mode)
{
	if (LPU_LOCK_HELD_BY_ME(tag, mode))
		LockRelease(tag, mode, true);
}

/* ----- the deliverer's lock ----- */

/*
 * Take the deliverer's lock of an account of this database for the session. Return false if
 * another process has it.
 */
bool
lpu_lock_account(const char *account)
{
	LOCKTAG		tag = account_tag(DELIVERER, account, InvalidOid);

	return try_for_session(&tag, ExclusiveLock);
}

/* Return true if this process has the deliverer's lock of the account. */
bool
lpu_account_is_locked(const char *account)
{
	LOCKTAG		tag = account_tag(DELIVERER, account, InvalidOid);

	return LPU_LOCK_HELD_BY_ME(&tag, ExclusiveLock);
}

/* Release the deliverer's lock, if this process still has it. */
void
lpu_unlock_account(const char *account)
{
	LOCKTAG		tag = account_tag(DELIVERER, account, InvalidOid);

	if (LPU_LOCK_HELD_BY_ME(&tag, ExclusiveLock))
		LockRelease(&tag, ExclusiveLock, true);
}

/*
 * Take the lock of the database's only worker until the process ends. Return false if another
 * process has it. May be called again: the lock is taken once only.
 */
bool
lpu_lock_worker(void)
{
	LOCKTAG		tag = make_tag(DELIVERER, 0);

	return LPU_LOCK_HELD_BY_ME(&tag, ExclusiveLock) || try_for_session(&tag, ExclusiveLock);
}

/* ----- the revision's lock ----- */

/*
 * Take the revision's lock for the session without waiting; if that fails, hold the turnstile.
 */
static bool
try_revision(const char *account, Oid party, LOCKMODE mode)
{
	LOCKTAG		tag = account_tag(REVISION, account, party);
	LOCKTAG		turnstile = account_tag(TURNSTILE, account, party);
	bool		had = LPU_LOCK_HELD_BY_ME(&tag, mode) || try_for_session(&tag, mode);

	if (had)
		release_if_held(&turnstile, ExclusiveLock);
	else if (!LPU_LOCK_HELD_BY_ME(&turnstile, ExclusiveLock))
		(void) try_for_session(&turnstile, ExclusiveLock);
	return had;
}

/*
 * Share the revision's lock for the session, without waiting. Return false if a writer has it
 * or waits for it: then call again after a while, or lpu_release_revision() to give up.
 */
bool
lpu_share_revision(const char *account, Oid party)
{
	return try_revision(account, party, ShareLock);
}

/* The same for conditional writes of a delivery, which exclude creates and other writers. */
bool
lpu_hold_revision(const char *account, Oid party)
{
	return try_revision(account, party, ExclusiveLock);
}

/*
 * Return true if another session waits for the revision's lock that this one has: a writer in the
 * queue for it, or a delivery behind the turnstile.
 */
bool
lpu_revision_is_wanted(const char *account, Oid party)
{
	LOCKTAG		tag = account_tag(REVISION, account, party);
	LOCKTAG		turnstile = account_tag(TURNSTILE, account, party);
	LOCKMODE	mode = LPU_LOCK_HELD_BY_ME(&tag, ExclusiveLock) ? ExclusiveLock : ShareLock;

	if (!LPU_LOCK_HELD_BY_ME(&tag, mode))
		return false;
	if (LockHasWaiters(&tag, mode, true))
		return true;
	if (!try_for_session(&turnstile, ShareLock))
		return true;
	LockRelease(&turnstile, ShareLock, true);
	return false;
}

/*
 * Release the revision's lock, or stop trying to take it. Does nothing if neither is the case.
 */
void
lpu_release_revision(const char *account, Oid party)
{
	LOCKTAG		tag = account_tag(REVISION, account, party);
	LOCKTAG		turnstile = account_tag(TURNSTILE, account, party);

	release_if_held(&tag, ShareLock);
	release_if_held(&tag, ExclusiveLock);
	release_if_held(&turnstile, ExclusiveLock);
}

/*
 * Pass the turnstile, unless it is NULL, then wait for the lock, each at most for timeout_ms or
 * lock_timeout if that is shorter. Return false if it was not granted by then.
 */
static bool
acquire_in_time(const LOCKTAG *turnstile, const LOCKTAG *tag, LOCKMODE mode, int timeout_ms)
{
	MemoryContext caller = CurrentMemoryContext;
	int			before = LockTimeout;
	volatile bool granted = true;

	LockTimeout = before > 0 ? Min(before, timeout_ms) : timeout_ms;
	PG_TRY();
	{
		if (turnstile != NULL)
		{
			(void) LockAcquire(turnstile, ShareLock, false, false);
			LockRelease(turnstile, ShareLock, false);
		}
		(void) LockAcquire(tag, mode, false, false);
	}
	PG_CATCH();
	{
		LockTimeout = before;
		if (geterrcode() != ERRCODE_LOCK_NOT_AVAILABLE)
			PG_RE_THROW();
		MemoryContextSwitchTo(caller);
		FlushErrorState();
		granted = false;
	}
	PG_END_TRY();
	LockTimeout = before;
	return granted;
}

static LOCKMODE
mode_of(LpuRevisionUse use)
{
	return use == LPU_REVISION_SHARED ? ShareLock : ExclusiveLock;
}

/*
 * Take the revision's lock of an account for creates or for a conditional write, until
 * lpu_unlock_revision() or the end of the (sub)transaction. Waits at most timeout_ms for each of
 * the two locks behind it, or lock_timeout if that is shorter, and can be cancelled. Raises 55P03
 * if it cannot be taken by then.
 */
void
lpu_lock_revision(const char *account, Oid party, LpuRevisionUse use, int timeout_ms)
{
	LOCKTAG		tag = account_tag(REVISION, account, party);
	LOCKTAG		turnstile = account_tag(TURNSTILE, account, party);

	if (!acquire_in_time(&turnstile, &tag, mode_of(use), timeout_ms))
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("could not lock the revision of account \"%s\" in time", account),
				 errdetail("Other writes to the account are under way. Nothing was sent."),
				 errhint("Retry the statement.")));
}

/*
 * The same without waiting. Return false if another session has the lock in a way that excludes
 * this one, or is to have it next.
 */
bool
lpu_try_revision(const char *account, Oid party, LpuRevisionUse use)
{
	LOCKTAG		tag = account_tag(REVISION, account, party);
	LOCKTAG		turnstile = account_tag(TURNSTILE, account, party);

	if (LockAcquire(&turnstile, ShareLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		return false;
	LockRelease(&turnstile, ShareLock, false);
	return LockAcquire(&tag, mode_of(use), false, true) != LOCKACQUIRE_NOT_AVAIL;
}

/*
 * Release what lpu_lock_revision() took. It must be called in the same subtransaction, and not
 * after an error.
 */
void
lpu_unlock_revision(const char *account, Oid party, LpuRevisionUse use)
{
	LOCKTAG		tag = account_tag(REVISION, account, party);

	LockRelease(&tag, mode_of(use), false);
}

/*
 * Take the plans' lock of a server of the account until the end of the transaction. Raises 55P03 if
 * it cannot be taken within a minute, or lock_timeout if that is shorter.
 */
void
lpu_lock_plans(Oid server, const char *account)
{
	LOCKTAG		tag = make_tag(PLANS, server);

	if (!acquire_in_time(NULL, &tag, ExclusiveLock, PLANS_TIMEOUT_MS))
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("could not lock the plans of account \"%s\" in time", account),
				 errdetail("Another transaction that has applied a plan for its server has not ended."
						   " Nothing was queued."),
				 errhint("Retry the statement.")));
}

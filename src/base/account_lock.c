/*
 * account_lock.c: who delivers.
 *
 * A heavyweight lock of a kind that no SQL function can take, held by the session: it outlives transactions and dies with
 * the process. So whoever gets the lock on an account knows that nobody is sending anything for it.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lock.h"

#include "base/account_lock.h"

/* Distinguishes our locks from others who might use this kind. */
#define LOCK_MARK 0x4c50

static void
set_tag(LOCKTAG *tag, uint64 hash)
{
	memset(tag, 0, sizeof(LOCKTAG));
	tag->locktag_field1 = MyDatabaseId;
	tag->locktag_field2 = (uint32) (hash >> 32);
	tag->locktag_field3 = (uint32) hash;
	tag->locktag_field4 = LOCK_MARK;
	tag->locktag_type = LOCKTAG_USERLOCK;
	tag->locktag_lockmethodid = USER_LOCKMETHOD;
}

static void
account_tag(LOCKTAG *tag, const char *account)
{
	set_tag(tag, DatumGetUInt64(hash_any_extended((const unsigned char *) account, (int) strlen(account), 1)));
}

static bool
acquire(const LOCKTAG *tag)
{
	return LockAcquire(tag, ExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL;
}

bool
lpu_lock_account(const char *account)
{
	LOCKTAG		tag;

	account_tag(&tag, account);
	return acquire(&tag);
}

void
lpu_unlock_account(const char *account)
{
	LOCKTAG		tag;

	account_tag(&tag, account);
	LockRelease(&tag, ExclusiveLock, true);
}

bool
lpu_lock_worker(void)
{
	LOCKTAG		tag;

	set_tag(&tag, 0);
	return acquire(&tag);
}

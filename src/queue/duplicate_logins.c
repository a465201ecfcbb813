/*
 * duplicate_logins.c: the logins of the users that are enqueued together.
 *
 * They are in a hash table, by the hash under which the queue's waiting rows are indexed; those in flight are indexed by
 * the login itself. A few logins are looked up in each index one by one; when they are many for its size, it is read
 * through once instead, which costs a tenth for each entry. An entry that is found proves nothing: the row is looked at.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_collation.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/formatting.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "queue/duplicate_logins.h"

/* A page of the index, some 300 entries, is read through at the cost of so many look-ups. */
#define LOOKUPS_A_PAGE 20

struct lpu_doubles
{
	lpu_login  *logins;			/* each once */
	int			n;
	lpu_login **of_user;
	lpu_login **places;			/* hash table: a login is at its hash, or at the next free place */
	uint32		mask;			/* number of places, a power of two, less one */
};

/* The index at work. */
typedef struct login_scan
{
	Relation	table;
	Relation	index;
	Snapshot	snapshot;
	IndexScanDesc scan;
	TupleTableSlot *slot;
	AttrNumber	account_number;
	AttrNumber	login_number;
	const char *account;
	bool		by_hash;		/* else by the texts */
	ScanKeyData keys[2];
} login_scan;

/* --------------------------------------------------------------------------------------------------- collecting */

/* Does the database write ASCII in lower case as everybody does? (Turkish does not.) */
static bool
ascii_is_plain(void)
{
	static int	plain = -1;
	static const char upper[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

	if (plain < 0)
		plain = strcmp(str_tolower(upper, strlen(upper), DEFAULT_COLLATION_OID), "abcdefghijklmnopqrstuvwxyz") == 0;
	return plain == 1;
}

char *
lpu_login_lower(const char *login)
{
	size_t		length = strlen(login);
	char	   *lowered;
	size_t		i;

	if (!ascii_is_plain())
		return str_tolower(login, length, DEFAULT_COLLATION_OID);
	lowered = palloc(length + 1);
	for (i = 0; i < length; i++)
	{
		unsigned char c = (unsigned char) login[i];

		if (IS_HIGHBIT_SET(c))
		{
			pfree(lowered);
			return str_tolower(login, length, DEFAULT_COLLATION_OID);
		}
		lowered[i] = c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c;
	}
	lowered[length] = '\0';
	return lowered;
}

uint32
lpu_text_hash(const char *text)
{
	return DatumGetUInt32(hash_any((const unsigned char *) text, (int) strlen(text)));
}

/* The place of a login in the hash table, or the free one where it belongs. */
static lpu_login **
find_place(const lpu_doubles *logins, uint32 hash, const char *lowered)
{
	uint32		i = hash & logins->mask;

	while (logins->places[i] != NULL &&
		   (logins->places[i]->hash != hash || strcmp(logins->places[i]->lowered, lowered) != 0))
		i = (i + 1) & logins->mask;
	return &logins->places[i];
}

lpu_doubles *
lpu_doubles_collect(const char *const *logins, int n)
{
	lpu_doubles *collected = palloc0(sizeof(lpu_doubles));
	int			flags = MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO;
	int			i;

	/* at most half full */
	collected->mask = pg_nextpower2_32(Max(n, 8)) * 2 - 1;
	collected->places = palloc_extended(((Size) collected->mask + 1) * sizeof(lpu_login *), flags);
	collected->logins = palloc_extended(Max(n, 1) * sizeof(lpu_login), flags);
	collected->of_user = palloc_extended(Max(n, 1) * sizeof(lpu_login *), flags);
	for (i = 0; i < n; i++)
	{
		lpu_login **place;
		lpu_login  *login = &collected->logins[collected->n];

		if (logins[i] == NULL)
			continue;
		login->lowered = lpu_login_lower(logins[i]);
		login->hash = lpu_text_hash(login->lowered);
		place = find_place(collected, login->hash, login->lowered);
		if (*place == NULL)
		{
			*place = login;
			collected->n++;
		}
		collected->of_user[i] = *place;
	}
	return collected;
}

lpu_login *
lpu_doubles_of(const lpu_doubles *logins, int user)
{
	return logins->of_user[user];
}

/* ---------------------------------------------------------------------------------------------------- the queue */

static void
set_key(login_scan *s, int n, const char *text, uint32 hash)
{
	ScanKeyEntryInitialize(&s->keys[n], 0, n + 1, BTEqualStrategyNumber, InvalidOid, s->index->rd_indcollation[n],
						   s->by_hash ? F_INT4EQ : F_TEXTEQ,
						   s->by_hash ? UInt32GetDatum(hash) : CStringGetTextDatum(text));
}

static void
begin_scan(login_scan *s, Oid schema, const char *index, bool by_hash, const char *account, Snapshot snapshot)
{
	s->table = table_open(get_relname_relid("lp_requests", schema), AccessShareLock);
	s->index = index_open(get_relname_relid(index, schema), AccessShareLock);
	s->snapshot = snapshot;
	s->slot = table_slot_create(s->table, NULL);
	s->account_number = get_attnum(RelationGetRelid(s->table), "account");
	s->login_number = get_attnum(RelationGetRelid(s->table), "login_name");
	s->account = account;
	s->by_hash = by_hash;
	set_key(s, 0, account, lpu_text_hash(account));
}

static void
end_scan(login_scan *s)
{
	index_endscan(s->scan);
	ExecDropSingleTupleTableSlot(s->slot);
	index_close(s->index, AccessShareLock);
	table_close(s->table, AccessShareLock);
}

/* Is the row to which the scan points there, and of this login? */
static bool
is_of_login(login_scan *s, const lpu_login *login)
{
	Datum		value;
	bool		isnull;

	if (!index_fetch_heap(s->scan, s->slot))
		return false;
	value = slot_getattr(s->slot, s->account_number, &isnull);
	if (isnull || strcmp(TextDatumGetCString(value), s->account) != 0)
		return false;
	value = slot_getattr(s->slot, s->login_number, &isnull);
	return !isnull && strcmp(lpu_login_lower(TextDatumGetCString(value)), login->lowered) == 0;
}

static void
look_up_each(login_scan *s, lpu_doubles *logins)
{
	int			i;

	s->scan = LPU_INDEX_BEGINSCAN(s->table, s->index, s->snapshot, 2);
	for (i = 0; i < logins->n; i++)
	{
		lpu_login  *login = &logins->logins[i];

		set_key(s, 1, login->lowered, login->hash);
		index_rescan(s->scan, s->keys, 2, NULL, 0);
		while (!login->queued && index_getnext_tid(s->scan, ForwardScanDirection) != NULL)
			login->queued = is_of_login(s, login);
		CHECK_FOR_INTERRUPTS();
	}
}

static void
read_through(login_scan *s, lpu_doubles *logins)
{
	s->scan = LPU_INDEX_BEGINSCAN(s->table, s->index, s->snapshot, 1);
	s->scan->xs_want_itup = true;
	index_rescan(s->scan, s->keys, 1, NULL, 0);
	while (index_getnext_tid(s->scan, ForwardScanDirection) != NULL)
	{
		bool		isnull;
		Datum		key = index_getattr(s->scan->xs_itup, 2, s->scan->xs_itupdesc, &isnull);
		uint32		hash = isnull ? 0 : s->by_hash ? DatumGetUInt32(key) : lpu_text_hash(TextDatumGetCString(key));
		lpu_login  *login;
		uint32		i;

		CHECK_FOR_INTERRUPTS();
		for (i = hash & logins->mask; !isnull && (login = logins->places[i]) != NULL; i = (i + 1) & logins->mask)
			if (login->hash == hash && !login->queued)
				login->queued = is_of_login(s, login);
	}
}

static void
mark_found(lpu_doubles *logins, Oid schema, const char *index, bool by_hash, const char *account, Snapshot snapshot)
{
	login_scan	s = {0};

	begin_scan(&s, schema, index, by_hash, account, snapshot);
	if (logins->n / LOOKUPS_A_PAGE >= (int64) RelationGetNumberOfBlocks(s.index))
		read_through(&s, logins);
	else
		look_up_each(&s, logins);
	end_scan(&s);
}

void
lpu_doubles_mark_queued(lpu_doubles *logins, Oid schema, const char *account)
{
	/* one for both: a row that goes from one index to the other meanwhile is seen in one of them */
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());

	mark_found(logins, schema, "lp_requests_waiting", true, account, snapshot);
	mark_found(logins, schema, "lp_requests_in_flight", false, account, snapshot);
	UnregisterSnapshot(snapshot);
}

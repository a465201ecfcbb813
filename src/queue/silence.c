/*
 * silence.c: senders whose account is unreachable.
 *
 * Servers with the same account id, and the mappings of one server, may belong to roles that do not
 * trust each other.  So only the requests with the mapping that failed wait: nothing is claimed for
 * it until its silence is over, and then one request is tried.  Such attempts take at most half of
 * the time of an account, however long each takes.  All of this is in the memory of the process
 * that delivers, in TopMemoryContext.  The rows that wait get the error of the attempt, each once.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "common/pg_prng.h"
#include "executor/spi.h"
#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/spi_plan.h"
#include "queue/silence.h"
#include "queue/statement.h"

/*
 * Row that was tried: after a failure its next attempt waits for half of the time since the first
 * failure, within these limits.
 */
#define MIN_BACKOFF_MS 5000
#define MAX_BACKOFF_MS 480000

/* The other rows with this mapping: 5, 10, 20, 40 s, then every minute. */
#define FIRST_SILENCE_MS 5000
#define MAX_SILENCE_MS 60000

/*
 * Rows of one sender that are told at a time why they wait, and the interval: finding them reads
 * those that were told before.
 */
#define TELL_ROWS 1000
#define TELL_MS 5000

/*
 * Due rows of a sender that do not say why they wait.  $1 account, $2 server, $3 role, $4 limit.
 * Reads lp_requests.
 */
static const char untold_sql[] =
"SELECT r.id FROM @extschema@.lp_requests r"
" WHERE r.account = $1 AND r.server_oid = $2 AND r.state = 'pending' AND NOT r.look_first"
"   AND r.next_attempt_at <= clock_timestamp() AND r.send_as_oid = $3"
"   AND r.error IS NULL AND r.reason IS NULL "
"ORDER BY r.next_attempt_at, r.id LIMIT $4";

/* Say it.  $1 ids, $2 why.  Writes lp_requests. */
static const char tell_sql[] =
"WITH locked AS MATERIALIZED ("
"  SELECT r.id FROM @extschema@.lp_requests r"
"  WHERE r.id = ANY ($1) AND r.state = 'pending' FOR UPDATE SKIP LOCKED)"
"UPDATE @extschema@.lp_requests r SET error = $2 FROM locked l WHERE r.id = l.id RETURNING r.id";

/* A mapping that failed, since its account was last reached. */
typedef struct Silence
{
	Oid			mapping;
	uint32		account;		/* hash of the account id and the party */
	TimestampTz since;			/* the first failure */
	int			failures;		/* in a row */
	TimestampTz until;			/* nothing is sent before this */
	char	   *why;			/* the last error, or NULL */
} Silence;

/* A role and a server whose requests have such a mapping. */
typedef struct SilentSender
{
	uint64		sender;
	Oid			mapping;
	TimestampTz told;			/* when its rows were told last */
} SilentSender;

/* There are few entries. */
static HTAB *silences = NULL;
static HTAB *senders = NULL;

static void
make_tables(void)
{
	HASHCTL		by_mapping = {.keysize = sizeof(Oid),.entrysize = sizeof(Silence)};
	HASHCTL		by_sender = {.keysize = sizeof(uint64),.entrysize = sizeof(SilentSender)};

	if (silences == NULL)
		silences = hash_create("lpusers silences", 16, &by_mapping, HASH_ELEM | HASH_BLOBS);
	if (senders == NULL)
		senders = hash_create("lpusers silent senders", 16, &by_sender, HASH_ELEM | HASH_BLOBS);
}

static uint32
hash_account(const char *account, Oid party)
{
	const unsigned char *name = (const unsigned char *) account;

	return hash_combine(DatumGetUInt32(hash_any(name, (int) strlen(account))), party);
}

static Silence *
find_silence(Oid mapping)
{
	return silences == NULL ? NULL : hash_search(silences, &mapping, HASH_FIND, NULL);
}

static Silence *
enter_silence(Oid mapping)
{
	bool		found;
	Silence    *s;

	make_tables();
	s = hash_search(silences, &mapping, HASH_ENTER, &found);
	if (!found)
	{
		s->account = 0;
		s->since = GetCurrentTimestamp();
		s->failures = 0;
		s->until = 0;
		s->why = NULL;
	}
	return s;
}

static void
forget_silence(Silence *s)
{
	if (s->why != NULL)
		pfree(s->why);
	(void) hash_search(silences, &s->mapping, HASH_REMOVE, NULL);
}

static void
enter_sender(const LpuSender *sender)
{
	uint64		key = ((uint64) sender->server << 32) | sender->role;
	SilentSender *entry;
	bool		found;

	make_tables();
	entry = hash_search(senders, &key, HASH_ENTER, &found);
	entry->mapping = sender->mapping;
	if (!found)
		entry->told = 0;
}

/* Return the milliseconds until the next attempt of a row that could not be sent. */
int64
lpu_silence_backoff(Oid mapping)
{
	const Silence *s = enter_silence(mapping);
	int64		wait_ms = TimestampDifferenceMilliseconds(s->since, GetCurrentTimestamp()) / 2;

	wait_ms = Min(Max(wait_ms, MIN_BACKOFF_MS), MAX_BACKOFF_MS);
	return (int64) (wait_ms * (0.9 + 0.2 * pg_prng_double(&pg_global_prng_state)));
}

/*
 * The account was not reached with the sender's mapping by an attempt that began at "since"; why:
 * its error, or NULL.  The other senders of the account that failed before wait as long as this
 * attempt took.
 */
void
lpu_silence_note(const LpuSender *sender, TimestampTz since, const char *why)
{
	TimestampTz now = GetCurrentTimestamp();
	Silence    *s = enter_silence(sender->mapping);
	HASH_SEQ_STATUS scan;
	Silence    *other;

	enter_sender(sender);
	if (s->why != NULL)
		pfree(s->why);
	s->why = why != NULL ? MemoryContextStrdup(TopMemoryContext, why) : NULL;
	s->account = hash_account(sender->account, sender->party);
	if (now >= s->until)
	{
		int64		wait_ms = (int64) FIRST_SILENCE_MS << Min(s->failures++, 10);

		s->until = TimestampTzPlusMilliseconds(now, Min(wait_ms, MAX_SILENCE_MS));
	}
	hash_seq_init(&scan, silences);
	while ((other = hash_seq_search(&scan)) != NULL)
		if (other->account == s->account)
			other->until = Max(other->until, now + (now - since));
}

/*
 * Return the milliseconds until something may be sent with the mapping of a sender; 0: now.  Else
 * *why gets the reason, which is valid until the next attempt.
 */
int64
lpu_silence_of(const LpuSender *sender, const char **why)
{
	const Silence *s = find_silence(sender->mapping);
	TimestampTz now = GetCurrentTimestamp();

	if (s == NULL || s->until <= now)
		return 0;
	enter_sender(sender);
	*why = s->why;
	return TimestampDifferenceMilliseconds(now, s->until);
}

/*
 * Return the milliseconds until the first silence of an account and a party is over, -1 if there is
 * none.
 */
long
lpu_silence_left(const char *account, Oid party)
{
	TimestampTz now = GetCurrentTimestamp();
	uint32		hash = hash_account(account, party);
	HASH_SEQ_STATUS scan;
	Silence    *s;
	long		left_ms = -1;

	make_tables();
	hash_seq_init(&scan, silences);
	while ((s = hash_seq_search(&scan)) != NULL)
	{
		long		ms = TimestampDifferenceMilliseconds(now, s->until);

		if (s->account == hash && s->until > now && (left_ms < 0 || ms < left_ms))
			left_ms = ms;
	}
	return left_ms;
}

/* The account was reached with a mapping: the next failure begins with the shortest delay. */
void
lpu_silence_end(Oid mapping)
{
	Silence    *s = find_silence(mapping);

	if (s != NULL)
		forget_silence(s);
}

/* A user asks for a delivery now: try each mapping once. */
void
lpu_silence_end_waits(void)
{
	HASH_SEQ_STATUS scan;
	Silence    *s;

	make_tables();
	hash_seq_init(&scan, silences);
	while ((s = hash_seq_search(&scan)) != NULL)
		s->until = 0;
}

/* Forget mappings that were dropped.  A change of a mapping does not end its silence. */
static void
forget_dropped(void)
{
	HASH_SEQ_STATUS scan;
	Silence    *s;

	hash_seq_init(&scan, silences);
	while ((s = hash_seq_search(&scan)) != NULL)
		if (!SearchSysCacheExists1(USERMAPPINGOID, ObjectIdGetDatum(s->mapping)))
			forget_silence(s);
}

/*
 * Return the senders of which nothing is to be claimed now, a bigint[] of server * 2^32 + role;
 * "all": those as well whose mappings failed and are to be tried again.  Those whose mappings were
 * reached or dropped are forgotten.  Needs a transaction.
 */
Datum
lpu_silence_senders(bool all)
{
	TimestampTz now = GetCurrentTimestamp();
	HASH_SEQ_STATUS scan;
	SilentSender *entry;
	int64	   *keys;
	int			n = 0;

	make_tables();
	forget_dropped();
	keys = palloc((hash_get_num_entries(senders) + 1) * sizeof(int64));
	hash_seq_init(&scan, senders);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		const Silence *s = find_silence(entry->mapping);

		if (s == NULL)
			(void) hash_search(senders, &entry->sender, HASH_REMOVE, NULL);
		else if (all || s->until > now)
			keys[n++] = (int64) entry->sender;
	}
	return lpu_queue_id_array(keys, n);
}

/* Return true if a mapping has failed since its account was last reached. */
bool
lpu_silence_any(void)
{
	return silences != NULL && hash_get_num_entries(silences) > 0;
}

/* Tell the rows of a sender why they wait. */
static void
tell_sender(const char *account, uint64 sender, const char *why)
{
	Oid			types[4] = {TEXTOID, OIDOID, OIDOID, INT4OID};
	Datum		values[4] = {CStringGetTextDatum(account),
		ObjectIdGetDatum((Oid) (sender >> 32)), ObjectIdGetDatum((Oid) sender),
	Int32GetDatum(TELL_ROWS)};
	Oid			change_types[2] = {INT8ARRAYOID, TEXTOID};
	Datum		change[2] = {(Datum) 0, CStringGetTextDatum(why)};
	int64	   *ids;
	int			n;

	lpu_queue_run(untold_sql, 4, types, values);
	ids = lpu_queue_ids(&n);
	SPI_freetuptable(SPI_tuptable);
	(void) lpu_queue_change(tell_sql, ids, n, 2, change_types, change);
}

/*
 * Tell the due rows of the silent senders of an account and a party why they wait.  Needs a
 * transaction with SPI connected; skips locked rows.
 */
void
lpu_silence_tell(const char *account, Oid party)
{
	TimestampTz now = GetCurrentTimestamp();
	uint32		hash = hash_account(account, party);
	HASH_SEQ_STATUS scan;
	SilentSender *entry;
	List	   *found = NIL;
	ListCell   *cell;

	if (!lpu_silence_any())
		return;
	make_tables();
	hash_seq_init(&scan, senders);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		const Silence *s = find_silence(entry->mapping);

		if (s != NULL && s->account == hash && s->until > now && s->why != NULL &&
			now >= TimestampTzPlusMilliseconds(entry->told, TELL_MS))
			found = lappend(found, entry);
	}
	foreach(cell, found)
	{
		entry = lfirst(cell);
		entry->told = now;
		tell_sender(account, entry->sender, find_silence(entry->mapping)->why);
	}
	list_free(found);
}

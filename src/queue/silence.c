/*
 * silence.c: senders whose account is unreachable.
 *
 * Servers with the same account id, and the mappings of one server, may belong to roles that do not
 * trust each other.  So only the requests with the mapping that failed wait: nothing is claimed
 * for it until its silence is over, and then one request is tried.  Such attempts take at most half
 * of the time of an account, however long each takes.  All of this is in the memory of the
 * process that delivers.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "common/pg_prng.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"

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

/* A mapping that failed, since its account was last reached. */
typedef struct Silence
{
	Oid			mapping;
	uint32		account;		/* hash of the account id and the party */
	TimestampTz since;			/* the first failure */
	int			failures;		/* in a row */
	TimestampTz until;			/* nothing is sent before this */
} Silence;

/* A role and a server whose requests have such a mapping. */
typedef struct SilentSender
{
	uint64		sender;
	Oid			mapping;
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
	}
	return s;
}

static void
enter_sender(const LpuSender *sender)
{
	uint64		key = ((uint64) sender->server << 32) | sender->role;
	SilentSender *entry;

	make_tables();
	entry = hash_search(senders, &key, HASH_ENTER, NULL);
	entry->mapping = sender->mapping;
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
 * The account was not reached with the sender's mapping by an attempt that began at "since".  The
 * other senders of the account that failed before wait as long as this attempt took.
 */
void
lpu_silence_note(const LpuSender *sender, TimestampTz since)
{
	TimestampTz now = GetCurrentTimestamp();
	Silence    *s = enter_silence(sender->mapping);
	HASH_SEQ_STATUS scan;
	Silence    *other;

	enter_sender(sender);
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

/* Return the milliseconds until something may be sent with the mapping of a sender; 0: now. */
int64
lpu_silence_of(const LpuSender *sender)
{
	const Silence *s = find_silence(sender->mapping);
	TimestampTz now = GetCurrentTimestamp();

	if (s == NULL || s->until <= now)
		return 0;
	enter_sender(sender);
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
	if (silences != NULL)
		(void) hash_search(silences, &mapping, HASH_REMOVE, NULL);
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

/*
 * Return the senders of which nothing is to be claimed now, a bigint[] of server * 2^32 + role;
 * "all": those as well whose mappings failed and are to be tried again.  Those whose mappings were
 * reached are forgotten.
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

/*
 * lookup.c: a listing of the account, of which the users are kept that were
 * asked for.
 *
 * The API has no search by login, so the whole account is listed.  The answer
 * is read while it arrives, and only users with a login that was added before
 * are kept: memory grows with the queue, not with the account.  The deliveries
 * of other accounts go on meanwhile: what has come is read whenever
 * lpu_lookup_done() asks, which does not wait.  No transaction is needed then,
 * so keys are UTF-8, which needs no conversion.  It knows nothing of requests
 * and what they mean.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/encoding.h"
#include "delivery/lookup.h"
#include "http/request.h"
#include "json/array_reader.h"
#include "user/attribute.h"
#include "user/login.h"

/*
 * What libcurl may bring before the reader has its turn: several of the pieces
 * in which a list comes.
 */
#define SINK_BYTES (512 * 1024)

/* A login that was added, and what the listing says of it. */
typedef struct SoughtLogin
{
	const char *key;			/* folded, UTF-8 */
	bool		found;
	LpuListedUser user;
} SoughtLogin;

typedef struct LookupSink
{
	LpuHttpSink sink;			/* first: a sink is also a lookup_sink */
	size_t		used;
	char		data[SINK_BYTES];
} LookupSink;

/* A listing under way. */
struct LookupListing
{
	LookupSink	sink;			/* first */
	MemoryContext context;		/* its own, and of what it needs */
	MemoryContext scratch;
	const LpuOptions *options;
	LpuApiRequest request;
	int64		revision;		/* the request's If-Match */
	LpuApiCall *call;
	bool		renewed;		/* it was sent again after a 401 */
	int			requests;
	LpuReader  *reader;
	LpuReaderState state;
	char		first;			/* character of the answer that is no blank;
								 * 0: not seen */
	TimestampTz last;			/* when something came */
	bool		silent;			/* nothing came for too long */
};

struct LpuLookup
{
	MemoryContext context;
	HTAB	   *users;			/* of sought */
	bool		entities;
	struct LookupListing *listing;	/* or NULL */
};

/* What is read of each user. */
static const char *const attributes[] = {"loginName", "id", "deleted", "isEnabled"};

enum
{
	LOGIN_NAME,
	ID,
	DELETED,
	IS_ENABLED
};

static uint32
hash_key(const void *key, Size size)
{
	const char *text = *(char *const *) key;

	return hash_bytes((const unsigned char *) text, (int) strlen(text));
}

static int
compare_keys(const void *a, const void *b, Size size)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

/*
 * Return a lookup without logins, which lives in the current memory context.
 * entities: keep the attributes of the users that are found, to compare them.
 */
LpuLookup *
lpu_lookup_new(bool entities)
{
	HASHCTL		ctl = {.keysize = sizeof(char *),.entrysize = sizeof(SoughtLogin),
	.hash = hash_key,.match = compare_keys,.hcxt = CurrentMemoryContext};
	LpuLookup  *lookup = palloc0(sizeof(LpuLookup));

	lookup->context = CurrentMemoryContext;
	lookup->entities = entities;
	lookup->users = hash_create("lpusers lookup", 256, &ctl,
								HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
	return lookup;
}

/* The key of a login in the database's encoding.  Needs a transaction. */
static char *
key_of(const char *login)
{
	char	   *folded = lpu_login_fold(login);
	size_t		length = strlen(folded);
	char	   *utf8 = lpu_text_to_utf8(folded, &length);

	return utf8 ? utf8 : folded;
}

static SoughtLogin *
find_key(const LpuLookup *lookup, const char *key)
{
	return hash_search(lookup->users, &key, HASH_FIND, NULL);
}

/* Ask for a login, in the database's encoding.  Needs a transaction. */
void
lpu_lookup_add(LpuLookup *lookup, const char *login)
{
	MemoryContext caller = MemoryContextSwitchTo(lookup->context);
	char	   *key = key_of(login);
	bool		found;
	SoughtLogin *entry = hash_search(lookup->users, &key, HASH_ENTER, &found);

	if (!found)
	{
		entry->found = false;
		memset(&entry->user, 0, sizeof(LpuListedUser));
	}
	MemoryContextSwitchTo(caller);
}

/* Return true if the login was added.  Needs a transaction. */
bool
lpu_lookup_has(const LpuLookup *lookup, const char *login)
{
	return find_key(lookup, key_of(login)) != NULL;
}

/*
 * Return the user with this login; NULL if the account does not have it, or
 * has deleted it.  Needs a transaction.
 */
const LpuListedUser *
lpu_lookup_find(const LpuLookup *lookup, const char *login)
{
	SoughtLogin *entry = find_key(lookup, key_of(login));

	return entry != NULL && entry->found ? &entry->user : NULL;
}

/* ----- the listing ----- */

/* Called by libcurl: nothing here may raise. */
static bool
sink_write(LpuHttpSink *arg, const char *data, size_t length)
{
	LookupSink *sink = (LookupSink *) arg;

	if (length > SINK_BYTES - sink->used)
		return false;
	memcpy(sink->data + sink->used, data, length);
	sink->used += length;
	return true;
}

static bool
is_true(const LpuValue *value)
{
	return value->type == LPU_VALUE_TRUE ||
		(value->type == LPU_VALUE_STRING && pg_strcasecmp(value->text, "true") == 0);
}

/* Keep a user of the listing if its login was asked for.  The current memory context is scratch. */
static void
take_user(LpuLookup *lookup, LpuReader *reader)
{
	const LpuValue *values = lpu_reader_values(reader);
	const char *login = lpu_value_text(&values[LOGIN_NAME]);
	const char *id = lpu_value_text(&values[ID]);
	SoughtLogin *entry;

	if (login == NULL || is_true(&values[DELETED]))
		return;
	entry = find_key(lookup, lpu_login_fold_utf8(login));
	if (entry == NULL || entry->found)
		return;
	entry->found = true;
	entry->user.enabled = is_true(&values[IS_ENABLED]);
	if (id == NULL || !lpu_text_as_int64(id, &entry->user.id))
		entry->user.id = 0;
	if (lookup->entities)
		entry->user.entity = MemoryContextStrdup(lookup->context, lpu_reader_whole(reader)->text);
}

/* Read what has come.  Return the state of the reader. */
static LpuReaderState
read_piece(LpuLookup *lookup, LpuReader *reader, LookupSink *sink, MemoryContext scratch)
{
	MemoryContext caller = CurrentMemoryContext;
	LpuReaderState state;

	lpu_reader_feed(reader, sink->data, sink->used);
	while ((state = lpu_reader_next(reader)) == LPU_READER_ELEMENT)
	{
		MemoryContextSwitchTo(scratch);
		take_user(lookup, reader);
		MemoryContextSwitchTo(caller);
		MemoryContextReset(scratch);
	}
	return state;
}

/* The attributes that an account shows as they were sent. */
static char *
entity_query(void)
{
	StringInfoData query;
	int			i;

	initStringInfo(&query);
	appendStringInfoString(&query, "&select=id,deleted");
	for (i = 0; i < lpu_nattributes; i++)
	{
		const LpuAttribute *def = &lpu_attributes[i];

		if ((def->rules & (LPU_SECRET | LPU_HIDDEN | LPU_READ_ONLY)) == 0)
			appendStringInfo(&query, ",%s%s", def->name,
							 def->kind == LPU_GROUP ||
							 def->kind == LPU_GROUPS ? "(agentGroupId)" : "");
	}
	return query.data;
}

static void
note_first(struct LookupListing *l)
{
	size_t		i;

	for (i = 0; l->first == '\0' && i < l->sink.used; i++)
		if (strchr(" \t\r\n", l->sink.data[i]) == NULL)
			l->first = l->sink.data[i];
}

/* Send the request, for the first time or once more with a new bearer. */
static void
send_request(LpuLookup *lookup)
{
	struct LookupListing *l = lookup->listing;
	MemoryContext caller = MemoryContextSwitchTo(l->context);

	l->sink.used = 0;
	l->first = '\0';
	l->reader = lpu_reader_new(attributes, lengthof(attributes), lookup->entities);
	l->state = LPU_READER_MORE;
	l->call = lpu_api_start(l->options, &l->request);
	l->last = GetCurrentTimestamp();
	l->requests++;
	MemoryContextSwitchTo(caller);
}

/*
 * Start to list the account, to keep the users that were added.  revision: ask
 * only if something changed since, if it is above 0.  The options must stay
 * valid until the listing has ended.  It ends with the lookup's memory
 * context, too.
 */
void
lpu_lookup_start(LpuLookup *lookup, const LpuOptions *options, int64 revision)
{
	MemoryContext context = AllocSetContextCreate(lookup->context, "lpusers listing",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	struct LookupListing *l = palloc0(sizeof(struct LookupListing));

	l->context = context;
	l->scratch = AllocSetContextCreate(context, "lpusers listed user", ALLOCSET_SMALL_SIZES);
	l->options = options;
	l->revision = revision;
	l->sink.sink.write = sink_write;
	l->request.method = LPU_LIST_USERS;
	l->request.if_match = revision;
	l->request.query = lookup->entities ? entity_query() : "&select=id,loginName,deleted,isEnabled";
	l->request.sink = &l->sink.sink;
	lookup->listing = l;
	send_request(lookup);
	MemoryContextSwitchTo(caller);
}

/* Read what has come. */
static void
take_piece(LpuLookup *lookup)
{
	struct LookupListing *l = lookup->listing;

	l->last = GetCurrentTimestamp();
	note_first(l);
	if (l->state != LPU_READER_WRONG)
		l->state = read_piece(lookup, l->reader, &l->sink, l->scratch);
	l->sink.used = 0;
	lpu_api_resume(l->call);
}

/* Read what has come.  Return true if the listing has ended. */
static bool
advance(LpuLookup *lookup, long *wait_ms)
{
	struct LookupListing *l = lookup->listing;
	bool		done;

	*wait_ms = 0;
	/* what came while this process was busy is no silence */
	lpu_http_turn(0);
	done = lpu_api_done(l->call);
	if (l->sink.used > 0)
	{
		take_piece(lookup);
		return false;
	}
	if (!done)
	{
		*wait_ms = l->options->timeout -
			TimestampDifferenceMilliseconds(l->last, GetCurrentTimestamp());
		l->silent = *wait_ms <= 0;
		return l->silent;
	}
	if (lpu_api_status(l->call) == 401 && !l->renewed && lpu_api_renewed(l->call))
	{
		l->renewed = true;
		send_request(lookup);
		return false;
	}
	lpu_reader_end(l->reader);
	l->state = lpu_reader_next(l->reader);
	return true;
}

/*
 * Read what has come of the listing, without waiting.  Return true if it has
 * ended, also because nothing came for "timeout".  Else *wait_ms says how long
 * to wait for the network; 0: there may be more at once.  A 401 is answered
 * with a new bearer once.  Serves interrupts.
 */
bool
lpu_lookup_done(LpuLookup *lookup, long *wait_ms)
{
	MemoryContext caller = MemoryContextSwitchTo(lookup->listing->context);
	bool		done = advance(lookup, wait_ms);

	MemoryContextSwitchTo(caller);
	return done;
}

/* Say how a listing ended of which the answer is here. */
static void
conclude(const struct LookupListing *l, const LpuApiAnswer *answer, LpuListingResult *result)
{
	result->verdict = lpu_api_sqlstate(answer) == ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION ?
		LPU_UNAUTHORIZED :
		answer->verdict;
	result->wait_ms = answer->retry_after_ms;
	result->revision = answer->has_revision ? answer->revision : -1;
	result->unchanged = l->revision > 0 && answer->status == 304;
	result->known = result->unchanged ||
		(answer->verdict == LPU_OK && l->first != '{' &&
		 (l->state == LPU_READER_END || answer->status == 204));
	if (result->known)
		return;
	if (answer->verdict != LPU_OK)
		result->why = answer->problem ? answer->problem->message : answer->error;
	else
	{
		/*
		 * a page is a gateway's; anything else may be one user that cannot be
		 * read
		 */
		result->verdict = l->first == '<' ? LPU_MISDIRECTED : LPU_UNCERTAIN;
		result->why = l->first != '[' ? "the answer is not a list of users" :
			lpu_reader_complaint(l->reader);
	}
}

/*
 * Say how a listing ended, and free it.  Texts of the result live with the
 * lookup.  Another listing may be started then, of which more users are kept.
 * Needs a transaction.
 */
void
lpu_lookup_finish(LpuLookup *lookup, LpuListingResult *result)
{
	struct LookupListing *l = lookup->listing;
	MemoryContext caller = MemoryContextSwitchTo(l->context);

	memset(result, 0, sizeof(LpuListingResult));
	result->requests = l->requests;
	if (l->silent)
	{
		result->verdict = LPU_UNCERTAIN;
		result->why = "nothing came for too long";
	}
	else
		conclude(l, lpu_api_finish(l->call), result);
	if (result->why != NULL)
		result->why = MemoryContextStrdup(lookup->context, result->why);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(l->context);
	lookup->listing = NULL;
}

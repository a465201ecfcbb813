/*
 * user_list.c: users of the account, read while they arrive, in steps that do not wait.
 *
 * All users, or the one with an id.  The deliveries of other accounts continue meanwhile: each call
 * of lpu_user_list_done() reads the data that have arrived.  No transaction is needed for this.
 * This file does not depend on the queue; each user is passed to the caller.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "delivery/user_list.h"
#include "http/request.h"

/*
 * Bytes that libcurl may deliver before they are read: several of the pieces in which a list
 * arrives.
 */
#define SINK_BYTES (512 * 1024)

/*
 * Maximum duration of a list, as a multiple of "timeout", even if data arrive steadily: an account
 * that sends one user a second without end must not block its queue forever.
 */
#define LIST_TIMEOUTS 10

typedef struct UserSink
{
	LpuHttpSink sink;			/* first: a sink is also a UserSink */
	size_t		used;
	char		data[SINK_BYTES];
} UserSink;

struct LpuUserList
{
	UserSink	sink;			/* first */
	MemoryContext context;		/* for the list and all that belongs to it */
	MemoryContext scratch;
	const LpuOptions *options;
	const LpuUserQuery *query;
	LpuApiRequest request;
	LpuApiCall *call;
	bool		renewed;		/* it was repeated after a 401 */
	int			requests;
	LpuReader  *reader;
	LpuReaderState state;
	const char *unusable;		/* why the users cannot be used, or NULL */
	char		first;			/* character of the response that is not
								 * blank; 0: none yet */
	TimestampTz since;			/* when it was sent */
	TimestampTz last;			/* time of the last data */
	uint64		bytes;			/* that came */
	const char *given_up;		/* why the transfer was stopped, or NULL */
};

/* Called by libcurl: nothing here may raise. */
static bool
sink_write(LpuHttpSink *arg, const char *data, size_t length)
{
	UserSink   *sink = (UserSink *) arg;

	if (length > SINK_BYTES - sink->used)
		return false;
	memcpy(sink->data + sink->used, data, length);
	sink->used += length;
	return true;
}

/* Read the data that have arrived. */
static void
read_piece(LpuUserList *l)
{
	MemoryContext caller = CurrentMemoryContext;

	lpu_reader_feed(l->reader, l->sink.data, l->sink.used);
	while ((l->state = lpu_reader_next(l->reader)) == LPU_READER_ELEMENT)
	{
		MemoryContextSwitchTo(l->scratch);
		if (l->query->take != NULL && l->unusable == NULL)
			l->unusable = l->query->take(l->query->arg, l->reader);
		MemoryContextSwitchTo(caller);
		MemoryContextReset(l->scratch);
	}
}

static void
note_first(LpuUserList *l)
{
	size_t		i;

	for (i = 0; l->first == '\0' && i < l->sink.used; i++)
		if (strchr(" \t\r\n", l->sink.data[i]) == NULL)
			l->first = l->sink.data[i];
}

/* Send the request, for the first time or again with a new bearer token. */
static void
send_request(LpuUserList *l)
{
	MemoryContext caller = MemoryContextSwitchTo(l->context);

	l->sink.used = 0;
	l->first = '\0';
	l->reader = lpu_reader_new(l->query->names, l->query->nnames, l->query->whole);
	l->state = LPU_READER_MORE;
	l->unusable = NULL;
	l->call = lpu_api_start(l->options, &l->request);
	l->since = l->last = GetCurrentTimestamp();
	l->bytes = 0;
	l->requests++;
	MemoryContextSwitchTo(caller);
}

/*
 * Start to read users, in a child of the current memory context; deleting the context ends the
 * request, too. The options must stay valid until the list has ended.
 */
LpuUserList *
lpu_user_list_start(const LpuOptions *options, const LpuUserQuery *query)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "lpusers listing",
												  ALLOCSET_DEFAULT_SIZES);
	LpuUserList *l = MemoryContextAllocZero(context, sizeof(LpuUserList));

	l->context = context;
	l->scratch = AllocSetContextCreate(context, "lpusers listed user", ALLOCSET_SMALL_SIZES);
	l->options = options;
	l->query = query;
	l->sink.sink.write = sink_write;
	l->request.method = query->user_id != 0 ? LPU_GET_USER : LPU_LIST_USERS;
	l->request.user_id = query->user_id;
	l->request.if_match = query->revision;
	l->request.query = query->query;
	l->request.sink = &l->sink.sink;
	send_request(l);
	return l;
}

/* Read the data that have arrived, and resume the transfer. */
static void
take_piece(LpuUserList *l)
{
	l->last = GetCurrentTimestamp();
	note_first(l);
	if (l->state != LPU_READER_WRONG)
		read_piece(l);
	l->bytes += l->sink.used;
	l->sink.used = 0;
	lpu_api_resume(l->call);
}

/*
 * Return the time to wait for more data, in ms.  Give up a list that is too large or takes too
 * long.
 */
static long
time_left(LpuUserList *l)
{
	TimestampTz now = GetCurrentTimestamp();
	int			timeout = l->options->timeout;
	long		silence_ms = timeout - TimestampDifferenceMilliseconds(l->last, now);
	long		list_ms = (long) timeout * LIST_TIMEOUTS -
	TimestampDifferenceMilliseconds(l->since, now);

	if (l->bytes / 1024 >= l->options->max_list_size)
		l->given_up = "the list of users is larger than max_list_size";
	else if (list_ms <= 0)
		l->given_up = psprintf("the list of users takes longer than %d times timeout",
							   LIST_TIMEOUTS);
	else if (silence_ms <= 0)
		l->given_up = "nothing came for too long";
	return Min(silence_ms, list_ms);
}

/* Read the data that have arrived.  Return true if the listing has ended. */
static bool
advance(LpuUserList *l, long *wait_ms)
{
	bool		done;

	*wait_ms = 0;

	/*
	 * read data that arrived while this process was busy before the timeout
	 * is checked
	 */
	lpu_http_turn(0);
	done = lpu_api_done(l->call);
	if (l->sink.used > 0)
	{
		take_piece(l);
		(void) time_left(l);
		return l->given_up != NULL;
	}
	if (!done)
	{
		*wait_ms = time_left(l);
		return l->given_up != NULL;
	}
	if (lpu_api_status(l->call) == 401 && !l->renewed && lpu_api_renewed(l->call))
	{
		l->renewed = true;
		send_request(l);
		return false;
	}
	lpu_reader_end(l->reader);
	l->state = lpu_reader_next(l->reader);
	return true;
}

/*
 * Read the data that have arrived, without waiting.  Return true if the list has ended, or was
 * given up because no data arrived for "timeout" or the list does not end.  Else set *wait_ms to
 * the time to wait for the network; 0: more may be available at once. A 401 is followed by one
 * retry with a new bearer token.  Serves interrupts.
 */
bool
lpu_user_list_done(LpuUserList *l, long *wait_ms)
{
	MemoryContext caller = MemoryContextSwitchTo(l->context);
	bool		done = advance(l, wait_ms);

	MemoryContextSwitchTo(caller);
	return done;
}

/* Return true if the response is complete: a list, or the one requested user. */
static bool
is_whole(const LpuUserList *l, const LpuApiAnswer *answer)
{
	if (answer->verdict != LPU_OK || l->unusable != NULL)
		return false;
	if (l->query->user_id != 0)
		return l->state == LPU_READER_END && l->first == '{';
	return l->first != '{' && (l->state == LPU_READER_END || answer->status == 204);
}

/* Return the result of a list whose response has arrived. */
static void
conclude(const LpuUserList *l, const LpuApiAnswer *answer, LpuListingResult *result)
{
	result->verdict = answer->verdict;
	if (lpu_api_sqlstate(answer) == ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION)
		result->verdict = LPU_UNAUTHORIZED;
	result->wait_ms = answer->retry_after_ms;
	result->revision = answer->has_revision ? answer->revision : -1;
	result->unchanged = l->query->revision > 0 && answer->status == 304;
	result->absent = l->query->user_id != 0 &&
		(answer->status == 410 || (answer->status == 404 && answer->verdict == LPU_REJECTED));
	result->known = result->unchanged || result->absent || is_whole(l, answer);
	if (result->known)
		return;
	if (answer->verdict != LPU_OK)
	{
		result->why = answer->problem ? answer->problem->message : answer->error;
		return;
	}

	/*
	 * an HTML page comes from a gateway; anything else may be one user that
	 * cannot be read
	 */
	result->verdict = l->first == '<' ? LPU_MISDIRECTED : LPU_UNCERTAIN;
	if (l->first != (l->query->user_id != 0 ? '{' : '['))
		result->why = l->query->user_id != 0 ? "the response is not a user" :
			"the response is not a list of users";
	else if (l->unusable != NULL)
		result->why = l->unusable;
	else
		result->why = lpu_reader_complaint(l->reader);
}

/*
 * Return the result of a list, and free it.  Texts of the result are in the memory context "texts".
 * Needs a transaction.
 */
void
lpu_user_list_finish(LpuUserList *l, MemoryContext texts, LpuListingResult *result)
{
	MemoryContext caller = MemoryContextSwitchTo(l->context);

	memset(result, 0, sizeof(LpuListingResult));
	result->requests = l->requests;
	if (l->given_up != NULL)
	{
		result->verdict = LPU_UNCERTAIN;
		result->why = l->given_up;
	}
	else
		conclude(l, lpu_api_finish(l->call), result);
	if (result->why != NULL)
		result->why = MemoryContextStrdup(texts, result->why);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(l->context);
}

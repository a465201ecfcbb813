/*
 * list_stream.c: the entities of a GET, one after the other while they arrive.
 *
 * The response of a list has no limit: it goes through a spool (which takes what the network
 * offers) and a reader (which finds the entities) and is never whole in memory. The listing ends
 * only after the last byte: a list that breaks off is a failure, however many entities it
 * returned, and so is an object in place of a list, because errors have that form. After a 401
 * the request is sent once more with a new bearer, after a 429 it is sent again later, as for
 * any call, and once more after a connection that breaks off; all of these come before the first
 * entity. It knows nothing of tables.
 *
 * A GET by id is answered with 404 if there is no such user, but also if there is no such
 * account, and by a gateway for a wrong path. So it counts as a response about the user only
 * where the account has listed something for the same options before; else users are listed
 * first.
 */
#include "postgres.h"

#include "lib/ilist.h"
#include "portability/instr_time.h"
#include "utils/memutils.h"

#include "api/answered_mapping.h"
#include "api/list_problem.h"
#include "api/list_stream.h"
#include "http/response_spool.h"
#include "http/socket_wait.h"

/*
 * How often the network is driven while there are bytes to read. No service gives up within a
 * millisecond.
 */
#define TURN_EVERY_MS 1.0

/*
 * Before a pause the rest of a response is received as long as the gaps in it are no longer than
 * this, several round trips of a slow network. That costs nothing if the whole list is wanted.
 */
#define DRAIN_GAP_MS 250

/* A single user of more bytes is read while it arrives. */
#define MAX_HELD_USER 65536

struct LpuListing
{
	dlist_node	node;			/* in under_way */
	MemoryContextCallback on_delete;
	MemoryContext context;
	const LpuOptions *options;
	LpuApiRequest request;
	const char *what;
	const char *const *names;
	int			nnames;
	bool		whole;
	LpuApiCall *call;
	LpuApiAnswer *answer;		/* when it has ended */
	LpuSpool   *spool;
	LpuReader  *reader;
	bool		fed_list;		/* the reader has seen that it is a list */
	bool		fed_all;		/* the reader knows that nothing more comes */
	bool		renewed;		/* the bearer, after a 401 */
	bool		reconnected;	/* after it was left alone */
	bool		repeated;		/* after the connection broke off */
	bool		fed_any;		/* the reader has something of the response */
	long		waited_ms;		/* after 429 */
	int			requests;
	instr_time	sent;			/* the last of them */
	double		looked_after_ms;	/* since then */
	instr_time	last_turn;
	double		network_ms;		/* spent waiting and receiving */
	LpuProblem *problem;
};

/* The listings of this process, of whatever statement. */
static dlist_head under_way = DLIST_STATIC_INIT(under_way);

static bool
fail_listing(LpuListing *l, LpuProblem *problem)
{
	l->problem = problem;
	return false;
}

/* (Re)send the request. Nothing of an earlier response has been read: it was no success. */
static void
send_list_request(LpuListing *l)
{
	if (l->spool != NULL)
		lpu_spool_close(l->spool);
	l->spool = lpu_spool_new();
	l->reader = lpu_reader_new(l->names, l->nnames, l->whole);
	l->request.sink = lpu_spool_sink(l->spool);
	l->call = lpu_api_start(l->options, &l->request);
	l->requests++;
	INSTR_TIME_SET_CURRENT(l->sent);
	l->last_turn = l->sent;
	l->looked_after_ms = 0;
}

static void
forget_listing(void *arg)
{
	dlist_delete(&((LpuListing *) arg)->node);
}

/*
 * Send a GET and return at once; several listings can be open. The request has method, user_id
 * and query; names, n and whole are as for lpu_reader_new(); what is for messages, such as "list
 * users", and is copied. The options and all other strings must live as long as the listing. It
 * is allocated in the current memory context and lives until lpu_listing_close(), or until the
 * context ends by an error.
 */
LpuListing *
lpu_listing_open(const LpuOptions *options, const LpuApiRequest *request, const char *what,
				 const char *const *names, int n, bool whole)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "lpusers listing",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	LpuListing *l = palloc0(sizeof(LpuListing));

	l->context = context;
	l->options = options;
	l->request = *request;
	l->what = pstrdup(what);
	l->names = names;
	l->nnames = n;
	l->whole = whole;
	l->on_delete.func = forget_listing;
	l->on_delete.arg = l;
	dlist_push_tail(&under_way, &l->node);
	MemoryContextRegisterResetCallback(context, &l->on_delete);
	send_list_request(l);
	MemoryContextSwitchTo(caller);
	return l;
}

/* End a listing and free it. */
void
lpu_listing_close(LpuListing *l)
{
	lpu_spool_close(l->spool);
	MemoryContextDelete(l->context);
}

static double
ms_since(instr_time start)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, start);
	return INSTR_TIME_GET_MILLISEC(now);
}

/* Drive the network for at most max_ms. Return true if bytes came, or the response has ended. */
static bool
turn(LpuListing *l, long max_ms)
{
	int64		before = lpu_spool_written(l->spool);
	instr_time	start;
	double		ms;

	INSTR_TIME_SET_CURRENT(start);
	lpu_spool_begin_turn(l->spool);
	lpu_api_resume(l->call);

	/*
	 * what libcurl held may have filled the memory at once: the next turn
	 * makes room, and nothing comes before that
	 */
	lpu_http_turn(lpu_spool_written(l->spool) > before || lpu_spool_is_full(l->spool) ? 0 : max_ms);
	INSTR_TIME_SET_CURRENT(l->last_turn);
	ms = ms_since(start);
	l->network_ms += ms;
	l->looked_after_ms += ms;
	return lpu_spool_written(l->spool) > before || lpu_api_done(l->call);
}

/* Wait for bytes, or for the end of the response, at most max_ms. Return true if they came. */
static bool
wait_for_bytes(LpuListing *l, double max_ms)
{
	instr_time	start;
	double		waited = 0;

	INSTR_TIME_SET_CURRENT(start);
	while (!lpu_api_done(l->call))
	{
		if (turn(l, (long) (max_ms - waited) + 1))
			break;
		waited = ms_since(start);
		if (waited >= max_ms)
			return false;
	}
	return true;
}

/*
 * A request that was started ahead may time out because the caller was busy
 * with the rows of an earlier one and did not drive the transfer.
 */
static bool
was_left_alone(const LpuListing *l)
{
	return l->answer->verdict == LPU_NOT_SENT && ms_since(l->sent) >= l->options->connect_timeout &&
		l->looked_after_ms < l->options->connect_timeout / 2;
}

/*
 * Return true if the connection broke off: to repeat a GET is always safe (RFC 9110, section
 * 9.2.2), as long as nothing of its response was handed over.
 */
static bool
has_broken_off(const LpuListing *l)
{
	return l->answer->verdict == LPU_UNCERTAIN && l->answer->problem != NULL;
}

/* Return true if a response that is no success may be requested once more. */
static bool
may_ask_again(LpuListing *l)
{
	if (l->answer->verdict == LPU_UNAUTHORIZED && !l->renewed)
		return l->renewed = lpu_api_renewed(l->call);
	if (was_left_alone(l) && !l->reconnected)
		return l->reconnected = true;
	if (has_broken_off(l) && !l->repeated && !l->fed_any)
		return l->repeated = true;
	if (l->answer->verdict != LPU_LATER ||
		l->waited_ms + l->answer->retry_after_ms > l->options->timeout)
		return false;
	lpu_listings_drain();
	lpu_pause(l->answer->retry_after_ms);
	l->waited_ms += l->answer->retry_after_ms;
	return true;
}

/* Judge a response that has ended. Return true if reading goes on, from it or from a new one. */
static bool
conclude_list(LpuListing *l)
{
	l->answer = lpu_api_finish(l->call);
	if (l->answer->verdict == LPU_OK)
		return true;
	if (may_ask_again(l))
	{
		l->answer = NULL;
		send_list_request(l);
		return true;
	}
	l->problem = lpu_api_refusal(l->options, l->answer, l->what);
	/* the outcome of a GET does not matter */
	if (l->answer->problem != NULL)
		l->problem->detail = l->problem->hint = NULL;
	return false;
}

/*
 * Check that a list begins here. The reader accepts one object as a list of one, so return false
 * for an object.
 */
static bool
check_is_list(LpuListing *l, const char *data, size_t length)
{
	size_t		i;

	for (i = 0; i < length && strchr(" \t\r\n", data[i]) != NULL; i++)
		;
	l->fed_list = i < length;
	return !l->fed_list || data[i] != '{' ||
		fail_listing(l, lpu_list_unreadable(l->options, l->what, "It is an object, not a list"));
}

/* Return true if more has come than a list may have. */
static bool
is_too_long(const LpuListing *l)
{
	return lpu_spool_written(l->spool) / 1024 >= l->options->max_list_size;
}

/*
 * Return true if the reader may have what has come. A single user is small: it is read when all of
 * it is there, so that the request can be repeated if it does not come whole.
 */
static bool
may_be_read(const LpuListing *l)
{
	return l->request.method != LPU_GET_USER || l->answer != NULL ||
		lpu_spool_written(l->spool) > MAX_HELD_USER;
}

/* Get more bytes for the reader. Return false if the listing has failed. */
static bool
feed(LpuListing *l)
{
	const char *data;
	size_t		length;

	if (is_too_long(l))
		return fail_listing(l, lpu_list_too_long(l->options, l->what));
	for (;;)
	{
		if (may_be_read(l) && lpu_spool_read(l->spool, &data, &length))
		{
			l->fed_any = true;
			if (!l->fed_list && l->request.method != LPU_GET_USER &&
				!check_is_list(l, data, length))
				return false;
			lpu_reader_feed(l->reader, data, length);
			return true;
		}
		if (l->answer != NULL)
		{
			/* no content: an empty list, but no user */
			if (l->answer->status == 204 && l->request.method != LPU_GET_USER)
				lpu_reader_feed(l->reader, "[]", 2);
			lpu_reader_end(l->reader);
			l->fed_all = true;
			return true;
		}
		if (lpu_api_done(l->call) ? !conclude_list(l) : !wait_for_bytes(l, l->options->timeout) &&
			!fail_listing(l, lpu_list_too_slow(l->options, l->what)))
			return false;
	}
}

/*
 * Return true if the response says that there is no entity with the requested id. An HTML page
 * is written by a gateway, which does not know. May set problem.
 */
static bool
is_absent(LpuListing *l)
{
	const LpuApiAnswer *answer = l->answer;

	return l->request.method == LPU_GET_USER && answer != NULL &&
		(answer->status == 404 || answer->status == 410) &&
		answer->body[strspn(answer->body, " \t\r\n")] != '<' &&
		lpu_answered_verify(l->options, &l->problem, &l->requests, &l->network_ms);
}

/* Read until there is an entity, or the listing has ended or failed. */
static LpuListingState
read_on(LpuListing *l)
{
	for (;;)
	{
		switch (lpu_reader_next(l->reader))
		{
			case LPU_READER_ELEMENT:
				return LPU_LISTING_ELEMENT;
			case LPU_READER_WRONG:
				l->problem = lpu_list_unreadable(l->options, l->what,
												 lpu_reader_complaint(l->reader));
				return LPU_LISTING_FAILED;
			case LPU_READER_END:
				if (l->fed_all)
					return LPU_LISTING_END;
				/* FALLTHROUGH: the response has not come to its end yet */
			case LPU_READER_MORE:
				break;
		}
		if (!feed(l))
			return is_absent(l) ? LPU_LISTING_ABSENT : LPU_LISTING_FAILED;
	}
}

static LpuListingState
advance_list(LpuListing *l)
{
	LpuListingState state = read_on(l);

	if ((state == LPU_LISTING_ELEMENT || state == LPU_LISTING_END) && !lpu_answered_has(l->options))
		lpu_answered_remember(l->options);
	return state;
}

/*
 * Receive what came while the reader was busy, for at most a tenth of that time: that hardly
 * delays a fast reader, and keeps the connection of a slow one alive.
 */
static void
catch_up(LpuListing *l)
{
	double		busy_ms = ms_since(l->last_turn);
	instr_time	start;

	if (busy_ms < TURN_EVERY_MS)
		return;
	INSTR_TIME_SET_CURRENT(start);
	while (turn(l, 0) && !lpu_api_done(l->call) && !is_too_long(l) &&
		   ms_since(start) < busy_ms / 10)
		;
}

/*
 * Read the next entity. Waits for it no longer than the option "timeout" without a byte, and
 * meanwhile takes from the network what other listings offer, so that no service waits for a
 * slow reader. Raises if the disk is full; can be cancelled.
 */
LpuListingState
lpu_listing_next(LpuListing *l)
{
	MemoryContext caller = MemoryContextSwitchTo(l->context);
	LpuListingState state;

	if (!lpu_api_done(l->call))
		catch_up(l);
	state = advance_list(l);
	MemoryContextSwitchTo(caller);
	return state;
}

/*
 * Return the values of the entity in the order of the names, after ELEMENT and until the next
 * lpu_listing_next().
 */
const LpuValue *
lpu_listing_values(const LpuListing *l)
{
	return lpu_reader_values(l->reader);
}

/* Return the entity as the API wrote it, after ELEMENT and until the next lpu_listing_next(). */
const LpuValue *
lpu_listing_whole(const LpuListing *l)
{
	return lpu_reader_whole(l->reader);
}

/* Return why the listing failed, after FAILED. */
LpuProblem *
lpu_listing_problem(const LpuListing *l)
{
	return l->problem;
}

/*
 * Take the rest of the response now, since the caller will not read for a long time. Return
 * false if the network is too slow for that.
 */
bool
lpu_listing_drain(LpuListing *l)
{
	MemoryContext caller = MemoryContextSwitchTo(l->context);

	while (!lpu_api_done(l->call) && !is_too_long(l) && wait_for_bytes(l, DRAIN_GAP_MS))
		;
	MemoryContextSwitchTo(caller);
	return lpu_api_done(l->call);
}

/*
 * Take all listings of this process off the network, as far as it is quick: to
 * be called before a wait that does not read them, such as for the response to a
 * write or after a 429, in which a service may lose its patience. Raises if
 * the disk is full; can be cancelled.
 */
void
lpu_listings_drain(void)
{
	dlist_iter	iter;

	/* they go on together: if one is slow, so are the others */
	dlist_foreach(iter, &under_way)
		if (!lpu_listing_drain(dlist_container(LpuListing, node, iter.cur)))
		break;
}

/* Return how many requests were sent so far. */
int
lpu_listing_requests(const LpuListing *l)
{
	return l->requests;
}

/* Return how many bytes were received so far. */
int64
lpu_listing_bytes(const LpuListing *l)
{
	return lpu_spool_written(l->spool);
}

/* Return how many milliseconds were spent waiting and receiving so far. */
double
lpu_listing_ms(const LpuListing *l)
{
	return l->network_ms;
}

/* Return the revision of a response that has ended, or -1 if it has none. */
int64
lpu_listing_revision(const LpuListing *l)
{
	return l->answer != NULL && l->answer->has_revision ? l->answer->revision : -1;
}

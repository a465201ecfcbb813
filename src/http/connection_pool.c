/*
 * connection_pool.c: the connections of a user mapping: one libcurl multi handle each.
 *
 * Connections, TLS sessions and the parsed CA bundle belong to a multi handle. Each mapping has
 * its own, so that they are kept between requests and never shared with another mapping.
 * Callbacks of libcurl report the sockets and the timer that it waits for; lpu_http_turn() waits
 * for those of all pools and for the latch together, so that an interrupt ends any phase of a
 * request at once. Nothing that libcurl calls here raises.
 *
 * Threads: libcurl resolves names in a thread. The thread is started with all signals blocked,
 * so that no signal handler of PostgreSQL runs in it. It is left running when a request ends
 * early.
 */
#include "postgres.h"

#include <curl/curl.h>
#include <signal.h>
#include <time.h>

#include "lib/ilist.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/latch.h"

#include "http/connection_pool.h"
#include "http/request.h"
#include "http/socket_wait.h"

/*
 * Handles kept for the next request of a pool; more than max_connections
 * requests are never in flight.
 */
#define MAX_IDLE_HANDLES 64

/*
 * Pools kept open.  Each holds two descriptors of its multi handle and its idle connections, and a
 * worker serves all accounts of a database.
 */
#define MAX_POOLS 32

/* Of a request: two of a new multi handle, and a connection. */
#define DESCRIPTORS_OF_REQUEST 3

/*
 * Descriptors of the same kind that PostgreSQL and socket_wait.c use: for signals, the postmaster's
 * death, and up to three sets of wait events.
 */
#define OTHER_DESCRIPTORS 6

/*
 * How many times in a row libcurl is called at once when it asks for that. A request needs a few
 * such calls; a request that is paused with unread bytes may ask without end (seen with 8.14),
 * and must not delay its reader or other requests.
 */
#define MAX_STEPS 16

struct LpuHttpPool
{
	dlist_node	node;			/* in pools */
	Oid			key;
	uint64		generation;
	Oid			payer;			/* who uses it now, see lpu_http_has_room() */
	CURLM	   *multi;
	bool		dropped;		/* to be destroyed when nothing is in flight */
	int			in_flight;		/* handles that are in use */
	int			under_way;		/* ... for requests that have not ended */
	int			holders;		/* see lpu_http_hold() */
	int64		due;			/* when libcurl wants to be called, in ms of
								 * now_ms(); -1: never */
	int			nidle;
	CURL	   *idle[MAX_IDLE_HANDLES];
};

/* All pools, the one used last at the end. */
static dlist_head pools = DLIST_STATIC_INIT(pools);
static int	npools = 0;

static int64
now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ----- what libcurl calls: nothing here may raise ----- */

static int
watch_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *unused)
{
	if (what == CURL_POLL_REMOVE)
	{
		lpu_sockets_forget(fd);
		return 0;
	}
	return lpu_sockets_watch(fd, ((what & CURL_POLL_IN) ? WL_SOCKET_READABLE : 0) |
							 ((what & CURL_POLL_OUT) ? WL_SOCKET_WRITEABLE : 0), arg, easy) ? 0 :
		-1;
}

static int
set_timer(CURLM *multi, long timeout_ms, void *arg)
{
	LpuHttpPool *pool = arg;

	pool->due = timeout_ms < 0 ? -1 : timeout_ms == 0 ? 0 : now_ms() + timeout_ms;
	return 0;
}

/* ----- pools ----- */

static void
destroy_pool(LpuHttpPool *pool)
{
	dlist_delete(&pool->node);
	npools--;
	while (pool->nidle > 0)
		curl_easy_cleanup(pool->idle[--pool->nidle]);
	curl_multi_cleanup(pool->multi);
	ReleaseExternalFD();
	ReleaseExternalFD();
	free(pool);
}

static bool
is_idle(const LpuHttpPool *pool)
{
	return pool->in_flight == 0 && pool->holders == 0;
}

/* Close idle pools, those used longest ago first, until fewer than "keep" are open. */
static void
close_idle_pools(int keep)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &pools)
	{
		LpuHttpPool *pool = dlist_container(LpuHttpPool, node, iter.cur);

		if (npools < keep)
			break;
		if (is_idle(pool))
			destroy_pool(pool);
	}
}

/* Return true if so many descriptors can be had. */
static bool
has_descriptors(int n)
{
	int			had = 0;
	int			i;

	while (had < n && AcquireExternalFD())
		had++;
	for (i = 0; i < had; i++)
		ReleaseExternalFD();
	return had == n;
}

/*
 * Close idle pools, those used longest ago first, until a request has the descriptors it needs.
 * Inside of libcurl, where they are taken, that cannot be done.
 */
static void
free_descriptors(void)
{
	int			before;

	do
	{
		if (has_descriptors(DESCRIPTORS_OF_REQUEST))
			return;
		before = npools;
		close_idle_pools(npools);
	} while (npools < before);
}

/* Reserve the two descriptors that a multi handle uses by itself.  Raises if none are left. */
static void
acquire_descriptors(void)
{
	bool		first = AcquireExternalFD();

	if (first && AcquireExternalFD())
		return;
	if (first)
		ReleaseExternalFD();
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
			 errmsg("out of file descriptors for a connection")));
}

static LpuHttpPool *
make_pool(Oid key, uint64 generation)
{
	LpuHttpPool *pool;
	CURLMcode	code = CURLM_OK;

	lpu_libcurl_initialise();
	close_idle_pools(MAX_POOLS);
	acquire_descriptors();
	pool = calloc(1, sizeof(LpuHttpPool));
	if (pool == NULL || (pool->multi = curl_multi_init()) == NULL)
	{
		free(pool);
		ReleaseExternalFD();
		ReleaseExternalFD();
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	}
	npools++;
	pool->key = key;
	pool->generation = generation;
	pool->due = -1;
	dlist_push_tail(&pools, &pool->node);

#define SETM(option, value) \
	do { if (code == CURLM_OK) code = curl_multi_setopt(pool->multi, option, value); } while (0)
	SETM(CURLMOPT_SOCKETFUNCTION, watch_socket);
	SETM(CURLMOPT_SOCKETDATA, pool);
	SETM(CURLMOPT_TIMERFUNCTION, set_timer);
	SETM(CURLMOPT_TIMERDATA, pool);
#undef SETM
	if (code != CURLM_OK)
	{
		destroy_pool(pool);
		elog(ERROR, "could not set up libcurl: %s", curl_multi_strerror(code));
	}
	return pool;
}

/*
 * Return the connections of a key and a generation, which are created at first use; those of
 * older generations are dropped. The pointer is valid until the next lpu_http_pool_for(), or
 * while a call runs. Raises if memory is exhausted.
 */
LpuHttpPool *
lpu_http_pool_for(Oid key, uint64 generation, Oid payer)
{
	dlist_mutable_iter iter;
	LpuHttpPool *found = NULL;

	free_descriptors();
	dlist_foreach_modify(iter, &pools)
	{
		LpuHttpPool *pool = dlist_container(LpuHttpPool, node, iter.cur);

		if (pool->key == key && pool->generation < generation)
			pool->dropped = true;
		if (pool->dropped && is_idle(pool))
			destroy_pool(pool);
		else if (pool->key == key && pool->generation == generation && !pool->dropped)
			found = pool;
	}
	if (found == NULL)
		found = make_pool(key, generation);
	found->payer = payer;
	dlist_delete(&found->node);
	dlist_push_tail(&pools, &found->node);
	return found;
}

/*
 * Return true if a payer may start another request: of the descriptors that this process may open,
 * no payer uses more than it leaves to the others, so that services that do not answer cannot take
 * all of them.  Idle connections count as free, since they are closed for a request.  The request
 * has to be started, or its pool held, before this is asked for another one.
 */
bool
lpu_http_has_room(Oid payer)
{
	/* a third: see AcquireExternalFD() */
	int			left = max_safe_fds / 3 - OTHER_DESCRIPTORS;
	int			used = 0;
	dlist_iter	iter;

	dlist_foreach(iter, &pools)
	{
		LpuHttpPool *pool = dlist_container(LpuHttpPool, node, iter.cur);
		int			n = Max(pool->under_way, pool->holders);

		n += n > 0 ? DESCRIPTORS_OF_REQUEST - 1 : 0;
		left -= n;
		used += pool->payer == payer ? n : 0;
	}
	return used + DESCRIPTORS_OF_REQUEST <= left;
}

static void
end_hold(void *arg)
{
	((LpuHttpPool *) arg)->holders--;
}

/*
 * Count a task as a request under way, also between its requests, until the current memory context
 * is reset or deleted.  The pool is not closed until then.
 */
void
lpu_http_hold(LpuHttpPool *pool)
{
	MemoryContextCallback *callback = palloc0(sizeof(MemoryContextCallback));

	callback->func = end_hold;
	callback->arg = pool;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
	pool->holders++;
}

/*
 * Use the connections of this key (InvalidOid: of all keys) for no new call, and close them when
 * that is safe.
 */
void
lpu_http_pool_drop(Oid key)
{
	dlist_iter	iter;

	dlist_foreach(iter, &pools)
	{
		LpuHttpPool *pool = dlist_container(LpuHttpPool, node, iter.cur);

		if (!OidIsValid(key) || pool->key == key)
			pool->dropped = true;
	}
}

/* Call libcurl without waiting, with all signals blocked, because it may start a thread. */
static void
drive(LpuHttpPool *pool, curl_socket_t fd, int events)
{
	sigset_t	all;
	sigset_t	before;
	int			running;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	curl_multi_socket_action(pool->multi, fd, events, &running);
	sigprocmask(SIG_SETMASK, &before, NULL);
}

/* ----- handles ----- */

/*
 * Return a handle for one request, with all options reset; its CURLINFO_PRIVATE is the call.
 * Raises if memory is exhausted.
 */
CURL *
lpu_pool_take(LpuHttpPool *pool)
{
	CURL	   *easy = pool->nidle > 0 ? pool->idle[--pool->nidle] : curl_easy_init();

	if (easy == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	pool->in_flight++;
	return easy;
}

/*
 * Keep the next request from a connection that the service has closed since its last one. Until
 * 8.21 libcurl checks a connection at each use; later at most once in a second, so that a
 * service which closes a connection within that time would make an outcome unknown. Therefore
 * libcurl is told to use a new connection.
 */
static void
forget_ended(LpuHttpPool *pool)
{
	bool		any = lpu_sockets_drain_ended(pool);

#if LIBCURL_VERSION_NUM >= 0x081600
	if (any)
		(void) curl_multi_setopt(pool->multi, CURLMOPT_NETWORK_CHANGED, CURLMNWC_CLEAR_CONNS);
#else
	(void) any;
#endif
}

/* Begin the request that the handle is set up for. Return false if libcurl refuses it. */
bool
lpu_pool_begin(LpuHttpPool *pool, CURL *easy)
{
	forget_ended(pool);
	if (curl_multi_add_handle(pool->multi, easy) != CURLM_OK)
		return false;
	pool->under_way++;
	return true;
}

/* End a request; if that is early, its connection is closed. */
void
lpu_pool_end(LpuHttpPool *pool, CURL *easy)
{
	curl_multi_remove_handle(pool->multi, easy);
	pool->under_way--;
	lpu_sockets_leave(easy);
}

/* Continue a paused transfer; what libcurl holds of it is written at once. */
void
lpu_pool_resume(LpuHttpPool *pool, CURL *easy)
{
	/* this arms the pool's timer: the rest comes with the next turn */
	(void) curl_easy_pause(easy, CURLPAUSE_CONT);
}

/*
 * Return the handle of a request that has ended.  "keep": without a failure.  After one, such as a
 * host that cannot be resolved, 7.88 keeps the receive buffer and refuses to set its size again.
 */
void
lpu_pool_give_back(LpuHttpPool *pool, CURL *easy, bool keep)
{
	curl_easy_reset(easy);
	if (keep && pool->nidle < MAX_IDLE_HANDLES && !pool->dropped)
		pool->idle[pool->nidle++] = easy;
	else
		curl_easy_cleanup(easy);
	pool->in_flight--;
}

/* ----- waiting ----- */

/* Tell the calls that libcurl has finished. */
static void
reap(LpuHttpPool *pool)
{
	CURLMsg    *message;
	int			left;

	while ((message = curl_multi_info_read(pool->multi, &left)) != NULL)
	{
		void	   *call;
		CURL	   *easy = message->easy_handle;
		CURLcode	code = message->data.result;

		if (message->msg != CURLMSG_DONE ||
			curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **) &call) != CURLE_OK)
			continue;
		lpu_pool_end(pool, easy);	/* the message is gone with it */
		lpu_http_finished(call, code);
	}
}

/*
 * Run the timers that are due and set *wait_ms to the time until the next. Return true if one
 * was due.
 */
static bool
run_timers(long max_ms, long *wait_ms)
{
	dlist_iter	iter;
	int64		now = now_ms();
	bool		any = false;

	*wait_ms = max_ms;
	dlist_foreach(iter, &pools)
	{
		LpuHttpPool *pool = dlist_container(LpuHttpPool, node, iter.cur);
		int			step;

		for (step = 0; step < MAX_STEPS && pool->due >= 0 && pool->due <= now; step++)
		{
			pool->due = -1;
			drive(pool, CURL_SOCKET_TIMEOUT, 0);
			reap(pool);
			any = true;
		}
		if (pool->due >= 0 && (*wait_ms < 0 || pool->due - now < *wait_ms))
			*wait_ms = (long) Max(pool->due - now, 0);
	}
	return any;
}

/* Tell libcurl what happened on a socket. */
static void
drive_socket(int fd, uint32 events, void *arg)
{
	LpuHttpPool *pool = arg;

	drive(pool, fd,
		  ((events & WL_SOCKET_READABLE) ? CURL_CSELECT_IN : 0) |
		  ((events & WL_SOCKET_WRITEABLE) ? CURL_CSELECT_OUT : 0));
	reap(pool);
}

/*
 * Drive all calls of this process until something has happened or max_ms have passed (-1: no
 * limit). Raises interrupts at once, and may then be left by longjmp.
 */
void
lpu_http_turn(long max_ms)
{
	long		wait_ms;

	CHECK_FOR_INTERRUPTS();
	if (!run_timers(max_ms, &wait_ms) || wait_ms == 0)
		lpu_sockets_wait(wait_ms, drive_socket);
}

/*
 * socket_wait.c: waiting for sockets together with the process latch.
 *
 * A module that drives sockets registers them; lpu_sockets_wait() waits for all of them, the
 * latch and the postmaster's death in one wait event set. The set is kept from one wait to the
 * next while the sockets stay the same, because building it takes longer than a request over a
 * kept connection. The kernel removes a closed socket from the set without notice, so every
 * close must be reported.
 */
#include "postgres.h"

#include <poll.h>
#include <sys/socket.h>

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "http/socket_wait.h"

/* Sockets that are ready are served in rounds of so many. */
#define EVENTS_A_ROUND 16

/* Latch and postmaster death come first in the set. */
#define FIRST_SOCKET 2

typedef struct WatchedSocket
{
	int			fd;
	uint32		events;			/* WL_SOCKET_* */
	void	   *arg;
} WatchedSocket;

/* The wanted sockets; malloc'ed, because they change where nothing may raise. */
static WatchedSocket *watched = NULL;
static int	nwatched = 0;
static int	watched_room = 0;

typedef struct OpenedSocket
{
	int			fd;
	const void *owner;
	const void *user;			/* NULL: it is idle */
} OpenedSocket;

/* All sockets that are open, in use or idle; likewise. */
static OpenedSocket *opened = NULL;
static int	nopened = 0;
static int	opened_room = 0;

/* What the wait event set holds. */
static WaitEventSet *wait_set = NULL;
static WatchedSocket *held = NULL;
static int	nheld = 0;
static bool stale = true;

static WatchedSocket *
find_socket(int fd)
{
	int			i;

	for (i = 0; i < nwatched; i++)
		if (watched[i].fd == fd)
			return &watched[i];
	return NULL;
}

static OpenedSocket *
find_opened(int fd)
{
	int			i;

	for (i = 0; i < nopened; i++)
		if (opened[i].fd == fd)
			return &opened[i];
	return NULL;
}

/*
 * Watch a socket for these WL_SOCKET_* events; events and arg replace earlier ones. The socket
 * belongs to user until that user leaves, also while it is not watched. Called by libcurl's
 * callbacks: raises nothing and returns false if memory is exhausted.
 */
bool
lpu_sockets_watch(int fd, uint32 events, void *arg, const void *user)
{
	WatchedSocket *socket = find_socket(fd);
	OpenedSocket *used = find_opened(fd);

	if (socket == NULL && nwatched == watched_room)
	{
		int			room = watched_room + 16;
		WatchedSocket *larger = realloc(watched, room * sizeof(WatchedSocket));

		if (larger == NULL)
			return false;
		watched = larger;
		watched_room = room;
	}
	if (socket == NULL)
		socket = &watched[nwatched++];
	socket->fd = fd;
	socket->events = events;
	socket->arg = arg;
	if (used != NULL)
		used->user = user;
	return true;
}

/* Stop watching a socket. Raises nothing. */
void
lpu_sockets_forget(int fd)
{
	WatchedSocket *socket = find_socket(fd);

	if (socket == NULL)
		return;
	*socket = watched[--nwatched];

	/*
	 * libcurl closes those of its name resolver without notice, and another
	 * may get the same number
	 */
	if (find_opened(fd) == NULL)
		stale = true;
}

/* Release all sockets of a user. Raises nothing. */
void
lpu_sockets_leave(const void *user)
{
	int			i;

	for (i = 0; i < nopened; i++)
		if (opened[i].user == user)
			opened[i].user = NULL;
}

/*
 * Note that an owner has opened a socket, whose number an earlier socket may have had. Raises
 * nothing and returns false if memory is exhausted.
 */
bool
lpu_sockets_opened(int fd, const void *owner)
{
	if (nopened == opened_room)
	{
		int			room = opened_room + 16;
		OpenedSocket *larger = realloc(opened, room * sizeof(OpenedSocket));

		if (larger == NULL)
			return false;
		opened = larger;
		opened_room = room;
	}
	opened[nopened].fd = fd;
	opened[nopened].owner = owner;
	opened[nopened++].user = NULL;
	return true;
}

/* Note that a socket was closed. Raises nothing. */
void
lpu_sockets_closed(int fd)
{
	OpenedSocket *socket = find_opened(fd);

	stale = true;
	if (socket != NULL)
		*socket = opened[--nopened];
}

/* Return true if the peer has closed its side. */
static bool
is_ended(int fd)
{
#ifdef POLLRDHUP
	struct pollfd state = {fd, POLLRDHUP, 0};

	return poll(&state, 1, 0) == 1 && (state.revents & POLLRDHUP) != 0;
#else
	return false;
#endif
}

/*
 * Discard what was received on the sockets of an owner that have no user and whose peer has
 * closed its side. A TLS peer sends a closing alert first, and libcurl 7.88 takes a connection
 * for alive as long as anything can be read from it. Return true if there are such sockets.
 */
bool
lpu_sockets_drain_ended(const void *owner)
{
	bool		any = false;
	int			i;

	for (i = 0; i < nopened; i++)
	{
		char		rest[1024];

		if (opened[i].owner != owner || opened[i].user != NULL || !is_ended(opened[i].fd))
			continue;
		while (recv(opened[i].fd, rest, sizeof(rest), MSG_DONTWAIT) > 0)
			;
		any = true;
	}
	return any;
}

/*
 * Return true if the set has exactly the sockets that are wanted: then at most their events must
 * be changed.
 */
static bool
same_sockets(void)
{
	int			i;

	if (stale || nheld != nwatched)
		return false;
	for (i = 0; i < nwatched; i++)
		if (held[i].fd != watched[i].fd)
			return false;
	return true;
}

static void
rebuild_wait_set(void)
{
	int			i;

	stale = true;				/* until it is whole */
	if (wait_set != NULL)
		FreeWaitEventSet(wait_set);
	wait_set = NULL;
	if (held != NULL)
		pfree(held);
	held = NULL;
	held = MemoryContextAlloc(TopMemoryContext, Max(nwatched, 1) * sizeof(WatchedSocket));
	wait_set = LPU_CREATE_WAIT_EVENT_SET(nwatched + FIRST_SOCKET);
	AddWaitEventToSet(wait_set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(wait_set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	for (i = 0; i < nwatched; i++)
	{
		AddWaitEventToSet(wait_set, watched[i].events, watched[i].fd, NULL, NULL);
		held[i] = watched[i];
	}
	nheld = nwatched;
	stale = false;
}

static void
prepare_wait_set(void)
{
	int			i;

	if (!same_sockets())
	{
		rebuild_wait_set();
		return;
	}
	for (i = 0; i < nwatched; i++)
	{
		if (held[i].events != watched[i].events)
			ModifyWaitEvent(wait_set, i + FIRST_SOCKET, watched[i].events, NULL);
		held[i] = watched[i];
	}
}

/*
 * Wait until something happens on a watched socket, the latch is set, or timeout_ms have passed
 * (-1: no limit), and call ready for each socket. Raises interrupts before and after the wait,
 * and may then be left by longjmp.
 */
void
lpu_sockets_wait(long timeout_ms, void (*ready) (int fd, uint32 events, void *arg))
{
	static uint32 event_network = 0;
	WaitEvent	events[EVENTS_A_ROUND];
	int			n;
	int			i;

	CHECK_FOR_INTERRUPTS();
	prepare_wait_set();
	n = WaitEventSetWait(wait_set, timeout_ms, events, lengthof(events),
						 lpu_wait_event(&event_network, "LpusersNetwork"));
	for (i = 0; i < n; i++)
	{
		WatchedSocket *socket;

		if (events[i].events & WL_LATCH_SET)
			ResetLatch(MyLatch);
		/* serving one socket may have ended the interest in another */
		else if ((socket = find_socket(events[i].fd)) != NULL)
			ready(socket->fd, events[i].events, socket->arg);
	}
	CHECK_FOR_INTERRUPTS();
}

/* Wait so many milliseconds. Raises interrupts at once. */
void
lpu_pause(long ms)
{
	static uint32 event_pause = 0;
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms);
	long		left;

	while ((left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), end)) > 0)
	{
		CHECK_FOR_INTERRUPTS();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, left,
						 lpu_wait_event(&event_pause, "LpusersPause"));
		ResetLatch(MyLatch);
	}
	CHECK_FOR_INTERRUPTS();
}

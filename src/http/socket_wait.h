/*
 * socket_wait.h: waiting for sockets together with the process latch.
 */
#ifndef LPU_HTTP_SOCKET_WAIT_H
#define LPU_HTTP_SOCKET_WAIT_H

/*
 * Watch a socket for these WL_SOCKET_* events from now on; events and arg
 * replace what was asked before. It has a user from now on, also while it is
 * not watched, until that user leaves. Called by libcurl's callbacks: raises
 * nothing, false for lack of memory.
 */
extern bool lpu_sockets_watch(int fd, uint32 events, void *arg, const void *user);
extern void lpu_sockets_forget(int fd);
extern void lpu_sockets_leave(const void *user);

/*
 * A socket was opened, or closed: its number may come back as another one.
 * Raises nothing, false for lack of memory.
 */
extern bool lpu_sockets_opened(int fd, const void *owner);
extern void lpu_sockets_closed(int fd);

/*
 * Discard what was received on the sockets of an owner that have no user and whose peer has
 * closed its side.
 */
extern bool lpu_sockets_drain_ended(const void *owner);

/*
 * Wait until something happens on a watched socket, the latch is set, or timeout_ms have passed
 * (-1: no limit), and call ready for each socket.
 */
extern void lpu_sockets_wait(long timeout_ms, void (*ready) (int fd, uint32 events, void *arg));

/* Wait so many milliseconds. */
extern void lpu_pause(long ms);

#endif

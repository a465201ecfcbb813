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
 * Of an owner's sockets that have no user, and whose peer has closed its side,
 * throw away what came before: a TLS peer says goodbye first, and libcurl 7.88
 * takes a connection for alive as long as anything can be read from it. True
 * if there are any.
 */
extern bool lpu_sockets_drain_ended(const void *owner);

/*
 * Wait until something happens on a watched socket, the latch is set, or
 * timeout_ms passed (-1: no limit); call "ready" for each socket. Interrupts
 * are served before and after: this may be left by longjmp.
 */
extern void lpu_sockets_wait(long timeout_ms, void (*ready) (int fd, uint32 events, void *arg));

/* Wait so many milliseconds. Interrupts are served at once. */
extern void lpu_pause(long ms);

#endif

/*
 * clock.h
 *	  What time it is, and sleeping until the program ends.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 */
#ifndef LPSIM_CLOCK_H
#define LPSIM_CLOCK_H

#include <stdbool.h>

/* Becomes readable, for good, when the program ends: every sleep looks at it. */
extern int	stop_fd;

extern double now_monotonic(void);
extern const char *date_text(char buf[32]);
extern bool nap(int fd, double seconds);

#endif

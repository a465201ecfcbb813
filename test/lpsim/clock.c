/*-------------------------------------------------------------------------
 *
 * clock.c
 *	  What time it is, and sleeping until the program ends.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <math.h>
#include <poll.h>
#include <time.h>

#include "clock.h"

int			stop_fd = -1;

/* Return the seconds since some point in the past. */
double
now_monotonic(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* The form in which the API writes dates; it states no time zone, this is UTC. */
const char *
date_text(char buf[32])
{
	time_t		t = time(NULL);
	struct tm	tm;

	strftime(buf, 32, "%Y-%m-%d %H:%M:%S", gmtime_r(&t, &tm));
	return buf;
}

/*
 * Sleep until the time is over, the program ends, or the peer of fd hangs up (-1: no peer).  Return
 * true if the time is over.
 */
bool
nap(int fd, double seconds)
{
	struct pollfd p[2] = {{stop_fd, POLLIN, 0}, {fd, POLLRDHUP, 0}};
	double		end = now_monotonic() + seconds;
	double		left;

	while ((left = end - now_monotonic()) > 0)
		if (poll(p, 2, (int) ceil(left * 1000)) > 0)
			return false;
	return true;
}

/*
 * limits.c: what the programs share that show how fast a job can be done.
 */
#include <stdio.h>
#include <time.h>

#include "limits.h"

static double
clock_us(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * 1e6 + now.tv_nsec / 1e3;
}

double
now_us(void)
{
	return clock_us(CLOCK_MONOTONIC);
}

double
worked_us(void)
{
	return clock_us(CLOCK_PROCESS_CPUTIME_ID);
}

size_t
limit_drop(char *data, size_t size, size_t count, void *arg)
{
	(void) data;
	(void) arg;
	return size * count;
}

struct curl_slist *
limit_headers(void)
{
	struct curl_slist *headers = curl_slist_append(NULL, "Authorization: Bearer lp-token");

	headers = curl_slist_append(headers, "Content-Type: application/json");
	return curl_slist_append(headers, "Expect:");
}

size_t
limit_room(int users)
{
	return (size_t) users * 400 + 100;
}

size_t
limit_write_users(char *body, size_t room, const char *prefix, int first, int users)
{
	size_t		length = 0;
	int			i;

	for (i = first; i < first + users; i++)
		length += snprintf(body + length, room - length,
						   "%s{\"loginName\":\"%s%d@example.com\",\"fullName\":\"Full Name\",\"nickname\":\"nick\","
						   "\"email\":\"%s%d@example.com\",\"passwordSh\":\"Start-1234\",\"isEnabled\":true,"
						   "\"maxChats\":3,\"profileIds\":[1001]}",
						   i > first ? "," : "[", prefix, i, prefix, i);
	return length + snprintf(body + length, room - length, "]");
}

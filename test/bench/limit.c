/*
 * limit.c: what plain C with libcurl needs for the same job: the limit that lpusers is measured against.
 *
 *	limit URL CALLS USERS PREFIX [CA]
 *
 * Creates USERS users (logins PREFIX...) with each of CALLS requests over one kept connection, reads the answers and
 * drops them, and prints the microseconds of one call on average, the first one not counted.
 */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static size_t
drop(char *data, size_t size, size_t count, void *arg)
{
	(void) data;
	(void) arg;
	return size * count;
}

static double
now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1e6 + now.tv_nsec / 1e3;
}

/* The body of one call; like those of bench.sql. */
static size_t
write_users(char *body, size_t room, const char *prefix, int call, int users)
{
	size_t		length = 0;
	int			i;

	for (i = 0; i < users; i++)
		length += snprintf(body + length, room - length,
						   "%s{\"loginName\":\"%s%d.%d@example.com\",\"fullName\":\"Full Name\",\"nickname\":\"nick\","
						   "\"email\":\"%s%d.%d@example.com\",\"passwordSh\":\"Start-1234\",\"isEnabled\":true,"
						   "\"maxChats\":3,\"profileIds\":[1001]}",
						   i > 0 ? "," : "[", prefix, call, i, prefix, call, i);
	length += snprintf(body + length, room - length, "]");
	return length;
}

int
main(int argc, char **argv)
{
	int			calls = argc > 2 ? atoi(argv[2]) : 0;
	int			users = argc > 3 ? atoi(argv[3]) : 0;
	size_t		room = (size_t) users * 400 + 100;
	double		total = 0;
	char	   *body;
	struct curl_slist *headers = NULL;
	CURL	   *easy;
	int			i;

	if (argc < 5 || calls < 1 || users < 1)
	{
		fprintf(stderr, "usage: limit URL CALLS USERS PREFIX [CA]\n");
		return 2;
	}
	body = malloc(room);
	curl_global_init(CURL_GLOBAL_DEFAULT);
	easy = curl_easy_init();
	headers = curl_slist_append(headers, "Authorization: Bearer lp-token");
	headers = curl_slist_append(headers, "Content-Type: application/json");
	headers = curl_slist_append(headers, "Expect:");
	curl_easy_setopt(easy, CURLOPT_URL, argv[1]);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, drop);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
	if (argc > 5)
	{
		curl_easy_setopt(easy, CURLOPT_CAINFO, argv[5]);
		curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
	}
	for (i = 0; i < calls; i++)
	{
		size_t		length = write_users(body, room, argv[4], i, users);
		double		start = now_us();
		long		status = 0;

		curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long) length);
		if (curl_easy_perform(easy) != CURLE_OK ||
			curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status) != CURLE_OK || status != 201)
		{
			fprintf(stderr, "limit: call %d failed with status %ld\n", i, status);
			return 1;
		}
		if (i > 0)
			total += now_us() - start;
	}
	printf("%.1f\n", total / (calls > 1 ? calls - 1 : 1));
	return 0;
}

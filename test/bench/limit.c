/*
 * limit.c: what plain C with libcurl needs for the same job: the limit that lpusers is measured against.
 *
 *	limit kept|new URL CALLS USERS PREFIX [CA]
 *
 * Creates USERS users (logins PREFIX...) with each of CALLS requests, over one kept connection or over a new one for each,
 * reads the answers and drops them, and prints the microseconds of one call on average, the first one not counted; a
 * dash; and for how many of them its processor worked.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "limits.h"

static CURL *
make_handle(const char *url, bool kept, const char *ca, const char *body)
{
	CURL	   *easy = curl_easy_init();

	curl_easy_setopt(easy, CURLOPT_URL, url);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, limit_headers());
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, limit_drop);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
	curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, kept ? 0L : 1L);
	if (ca != NULL)
	{
		curl_easy_setopt(easy, CURLOPT_CAINFO, ca);
		/* a directory would keep libcurl from caching what it has read */
		curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
	}
	return easy;
}

static bool
create_users(CURL *easy, size_t length)
{
	long		status = 0;

	curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long) length);
	return curl_easy_perform(easy) == CURLE_OK &&
		curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status) == CURLE_OK && status == 201;
}

int
main(int argc, char **argv)
{
	int			calls = argc > 3 ? (int) strtol(argv[3], NULL, 10) : 0;
	int			users = argc > 4 ? (int) strtol(argv[4], NULL, 10) : 0;
	double		total = 0;
	double		worked = 0;
	char	   *body;
	CURL	   *easy;
	int			i;

	if (argc < 6 || calls < 2 || users < 1)
	{
		fprintf(stderr, "usage: limit kept|new URL CALLS USERS PREFIX [CA]\n");
		return 2;
	}
	body = malloc(limit_room(users));
	curl_global_init(CURL_GLOBAL_DEFAULT);
	easy = make_handle(argv[2], strcmp(argv[1], "kept") == 0, argc > 6 ? argv[6] : NULL, body);
	for (i = 0; i < calls; i++)
	{
		size_t		length = limit_write_users(body, limit_room(users), argv[5], i * users, users);
		double		begun = now_us();
		double		begun_work = worked_us();

		if (!create_users(easy, length))
		{
			fprintf(stderr, "limit: call %d failed\n", i);
			return 1;
		}
		if (i == 0)
			continue;
		total += now_us() - begun;
		worked += worked_us() - begun_work;
	}
	printf("%.1f - %.1f\n", total / (calls - 1), worked / (calls - 1));
	return 0;
}

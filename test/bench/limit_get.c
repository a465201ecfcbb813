/*
 * limit_get.c: what plain C with libcurl's multi interface needs to fetch users one by one, by their ids.
 *
 *	limit_get URL FIRST USERS CONNECTIONS
 *
 * Fetches USERS users with the ids FIRST, FIRST + 1 ..., so many at a time; %s in the URL stands for the id. Prints the
 * milliseconds it took; a dash; and for how many of them its processor worked.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "limits.h"

#define MAX_URL 1000

typedef struct job
{
	CURLM	   *multi;
	const char *before;			/* the URL, as far as the id */
	const char *after;
	long		next;			/* id */
	long		end;
	int			under_way;
} job;

static void
fetch_next(job *j, CURL *easy)
{
	char		url[MAX_URL];

	snprintf(url, sizeof(url), "%s%ld%s", j->before, j->next++, j->after);
	curl_easy_setopt(easy, CURLOPT_URL, url);
	curl_multi_add_handle(j->multi, easy);
	j->under_way++;
}

/* Take what is done and fetch the next users with its handles. Returns false after a failure. */
static bool
collect(job *j)
{
	CURLMsg    *message;
	int			left;

	while ((message = curl_multi_info_read(j->multi, &left)) != NULL)
	{
		CURL	   *easy = message->easy_handle;
		CURLcode	code = message->data.result;
		long		status = 0;

		curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
		if (code != CURLE_OK || status != 200)
			return false;
		curl_multi_remove_handle(j->multi, easy);
		j->under_way--;
		if (j->next < j->end)
			fetch_next(j, easy);
	}
	return true;
}

static bool
run(job *j)
{
	while (j->under_way > 0)
	{
		int			running;

		curl_multi_perform(j->multi, &running);
		if (!collect(j))
			return false;
		if (running > 0)
			curl_multi_poll(j->multi, NULL, 0, 1000, NULL);
	}
	return true;
}

int
main(int argc, char **argv)
{
	int			connections = argc > 4 ? (int) strtol(argv[4], NULL, 10) : 0;
	char	   *id = argc > 1 ? strstr(argv[1], "%s") : NULL;
	struct curl_slist *headers = limit_headers();
	job			j = {0};
	double		begin;
	double		begin_work;
	int			i;

	if (argc < 5 || id == NULL || connections < 1)
	{
		fprintf(stderr, "usage: limit_get URL FIRST USERS CONNECTIONS\n");
		return 2;
	}
	*id = '\0';
	j.before = argv[1];
	j.after = id + 2;
	j.next = strtol(argv[2], NULL, 10);
	j.end = j.next + strtol(argv[3], NULL, 10);
	curl_global_init(CURL_GLOBAL_DEFAULT);
	j.multi = curl_multi_init();
	begin = now_us();
	begin_work = worked_us();
	for (i = 0; i < connections && j.next < j.end; i++)
	{
		CURL	   *easy = curl_easy_init();

		curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
		curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, limit_drop);
		fetch_next(&j, easy);
	}
	if (!run(&j))
	{
		fprintf(stderr, "limit_get: a request failed\n");
		return 1;
	}
	printf("%.1f - %.1f\n", (now_us() - begin) / 1e3, (worked_us() - begin_work) / 1e3);
	return 0;
}

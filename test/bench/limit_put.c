/*
 * limit_put.c: what plain C with libcurl needs to list an account and to write users back, batch after batch.
 *
 *	limit_put URL USERS BATCH
 *
 * Lists the users, throws the list away, puts the first USERS of users.awk in requests of BATCH, each with the revision that the
 * response before had, and prints the milliseconds it took; a dash; and for how many of them its processor worked.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "limits.h"

#define FIRST_ID 5000000001LL

static long revision;

/* A callback of libcurl that notes the revision. */
static size_t
on_header(char *data, size_t size, size_t count, void *arg)
{
	static const char name[] = "ac-revision:";

	(void) arg;
	if (size * count > sizeof(name) && strncasecmp(data, name, sizeof(name) - 1) == 0)
		revision = strtol(data + sizeof(name) - 1, NULL, 10);
	return size * count;
}

static size_t
write_users(char *body, size_t room, int first, int users)
{
	size_t		length = 0;
	int			i;

	for (i = first; i < first + users; i++)
		length += snprintf(body + length, room - length,
						   "%s{\"id\":%lld,\"loginName\":\"user%06d@example.com\",\"fullName\":\"Full Name %d\","
						   "\"nickname\":\"nick%d\",\"email\":\"user%06d@example.com\",\"isEnabled\":true,"
						   "\"maxChats\":3,\"profileIds\":[1001,1002],\"skillIds\":[2001,2002,2003],"
						   "\"memberOf\":{\"agentGroupId\":3%03d},\"employeeId\":\"E%06d\"}",
						   i > first ? "," : "[", FIRST_ID + i, i, i, i, i, i % 1000, i);
	return length + snprintf(body + length, room - length, "]");
}

static bool
perform(CURL *easy)
{
	long		status = 0;

	return curl_easy_perform(easy) == CURLE_OK &&
		curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status) == CURLE_OK && status == 200;
}

static bool
put(CURL *easy, const char *body, size_t length)
{
	struct curl_slist *headers = limit_headers();
	char		if_match[64];
	bool		done;

	snprintf(if_match, sizeof(if_match), "If-Match: %ld", revision);
	headers = curl_slist_append(headers, if_match);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, "PUT");
	curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long) length);
	done = perform(easy);
	curl_slist_free_all(headers);
	return done;
}

int
main(int argc, char **argv)
{
	int			users = argc > 2 ? (int) strtol(argv[2], NULL, 10) : 0;
	int			batch = argc > 3 ? (int) strtol(argv[3], NULL, 10) : 0;
	char	   *body;
	CURL	   *easy;
	double		begun;
	double		begun_work;
	int			i;

	if (argc < 4 || users < 1 || batch < 1)
	{
		fprintf(stderr, "usage: limit_put URL USERS BATCH\n");
		return 2;
	}
	body = malloc(limit_room(batch) * 2);
	curl_global_init(CURL_GLOBAL_DEFAULT);
	easy = curl_easy_init();
	curl_easy_setopt(easy, CURLOPT_URL, argv[1]);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, limit_headers());
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, limit_drop);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	begun = now_us();
	begun_work = worked_us();
	if (!perform(easy))
	{
		fprintf(stderr, "limit_put: the list failed\n");
		return 1;
	}
	for (i = 0; i < users; i += batch)
		if (!put(easy, body, write_users(body, limit_room(batch) * 2, i, batch)))
		{
			fprintf(stderr, "limit_put: the request from user %d on failed\n", i);
			return 1;
		}
	printf("%.1f - %.1f\n", (now_us() - begun) / 1e3, (worked_us() - begun_work) / 1e3);
	return 0;
}

/*
 * limit_put.c: what plain C with libcurl needs to list an account and to write users back, batch after batch.
 *
 *	limit_put URL USERS BATCH
 *
 * Lists the users and puts the first USERS of them back as they were listed, since a PUT replaces all of a user, in requests of
 * BATCH, each with the revision that the response before had.  Prints the milliseconds it took; a dash; and for how many of them
 * its processor worked.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "limits.h"

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

/* The list, as far as it has arrived. */
static char *list;
static size_t listed;
static size_t list_room;

/* A callback of libcurl that keeps what comes. */
static size_t
keep_list(char *data, size_t size, size_t count, void *arg)
{
	(void) arg;
	if (listed + size * count > list_room)
	{
		list_room = (listed + size * count) * 2;
		list = realloc(list, list_room);
	}
	memcpy(list + listed, data, size * count);
	listed += size * count;
	return size * count;
}

/* Return the length of the object at the beginning of a text, 0 if there is none. */
static size_t
object_length(const char *text, size_t length)
{
	bool		quoted = false;
	int			depth = 0;
	size_t		i;

	for (i = 0; i < length; i++)
	{
		if (text[i] == '\\')
			i++;
		else if (text[i] == '"')
			quoted = !quoted;
		else if (!quoted && text[i] == '{')
			depth++;
		else if (!quoted && text[i] == '}' && --depth == 0)
			return i + 1;
	}
	return 0;
}

/* Write the next users of the list, from *at on, as the body of a request.  Return its length, 0 if there are too few. */
static size_t
write_users(char *body, size_t *at, int users)
{
	size_t		length = 0;
	int			i;

	for (i = 0; i < users; i++)
	{
		/* a bracket or a comma precedes each user */
		size_t		user = *at < listed ? object_length(list + *at + 1, listed - *at - 1) : 0;

		if (user == 0)
			return 0;
		body[length++] = i > 0 ? ',' : '[';
		memcpy(body + length, list + *at + 1, user);
		length += user;
		*at += user + 1;
	}
	body[length++] = ']';
	return length;
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
	size_t		length;
	size_t		at = 0;
	CURL	   *easy;
	double		begun;
	double		begun_work;
	int			i;

	if (argc < 4 || users < 1 || batch < 1)
	{
		fprintf(stderr, "usage: limit_put URL USERS BATCH\n");
		return 2;
	}
	curl_global_init(CURL_GLOBAL_DEFAULT);
	easy = curl_easy_init();
	curl_easy_setopt(easy, CURLOPT_URL, argv[1]);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, limit_headers());
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, keep_list);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	begun = now_us();
	begun_work = worked_us();
	if (!perform(easy))
	{
		fprintf(stderr, "limit_put: the list failed\n");
		return 1;
	}
	body = malloc(listed + 2);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, limit_drop);
	for (i = 0; i < users; i += batch)
	{
		length = write_users(body, &at, batch);
		if (length == 0 || !put(easy, body, length))
		{
			fprintf(stderr, "limit_put: the request from user %d on failed\n", i);
			return 1;
		}
	}
	printf("%.1f - %.1f\n", (now_us() - begun) / 1e3, (worked_us() - begun_work) / 1e3);
	return 0;
}

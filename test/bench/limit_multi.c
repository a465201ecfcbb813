/*
 * limit_multi.c: what plain C with libcurl's multi interface needs to send the same batches as a delivery of the queue.
 *
 *	limit_multi URL USERS BATCH CONNECTIONS PREFIX
 *
 * Creates USERS users in requests of BATCH, so many at a time, and prints the milliseconds it took.
 */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct sender
{
	CURL	   *easy;
	char	   *body;
} sender;

static size_t
drop(char *data, size_t size, size_t count, void *arg)
{
	(void) data;
	(void) arg;
	return size * count;
}

static double
now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

static size_t
write_users(char *body, size_t room, const char *prefix, int first, int users)
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

static void
start(CURLM *multi, sender *s, size_t room, const char *prefix, int first, int users)
{
	curl_easy_setopt(s->easy, CURLOPT_POSTFIELDSIZE, (long) write_users(s->body, room, prefix, first, users));
	curl_multi_add_handle(multi, s->easy);
}

static sender *
make_senders(int n, size_t room, const char *url, struct curl_slist *headers)
{
	sender	   *senders = calloc(n, sizeof(sender));
	int			i;

	for (i = 0; i < n; i++)
	{
		senders[i].easy = curl_easy_init();
		senders[i].body = malloc(room);
		curl_easy_setopt(senders[i].easy, CURLOPT_URL, url);
		curl_easy_setopt(senders[i].easy, CURLOPT_HTTPHEADER, headers);
		curl_easy_setopt(senders[i].easy, CURLOPT_WRITEFUNCTION, drop);
		curl_easy_setopt(senders[i].easy, CURLOPT_POSTFIELDS, senders[i].body);
		curl_easy_setopt(senders[i].easy, CURLOPT_PRIVATE, &senders[i]);
	}
	return senders;
}

/* Collect what is done and start the next batch with its handle. Returns how many were done, -1 after a failure. */
static int
collect(CURLM *multi, size_t room, const char *prefix, int *next, int users, int batch)
{
	CURLMsg    *message;
	int			left;
	int			done = 0;

	while ((message = curl_multi_info_read(multi, &left)) != NULL)
	{
		CURL	   *easy = message->easy_handle;
		sender	   *s;
		long		status = 0;

		curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
		curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **) &s);
		if (message->data.result != CURLE_OK || status != 201)
			return -1;
		curl_multi_remove_handle(multi, easy);
		done++;
		if (*next < users)
		{
			start(multi, s, room, prefix, *next, batch);
			*next += batch;
		}
	}
	return done;
}

int
main(int argc, char **argv)
{
	int			users = argc > 2 ? atoi(argv[2]) : 0;
	int			batch = argc > 3 ? atoi(argv[3]) : 0;
	int			connections = argc > 4 ? atoi(argv[4]) : 0;
	size_t		room = (size_t) batch * 400 + 100;
	struct curl_slist *headers = NULL;
	sender	   *senders;
	CURLM	   *multi;
	double		begin;
	int			running;
	int			next = 0;
	int			done = 0;
	int			i;

	if (argc < 6 || users < 1 || batch < 1 || connections < 1)
	{
		fprintf(stderr, "usage: limit_multi URL USERS BATCH CONNECTIONS PREFIX\n");
		return 2;
	}
	curl_global_init(CURL_GLOBAL_DEFAULT);
	headers = curl_slist_append(headers, "Authorization: Bearer lp-token");
	headers = curl_slist_append(headers, "Content-Type: application/json");
	headers = curl_slist_append(headers, "Expect:");
	senders = make_senders(connections, room, argv[1], headers);
	multi = curl_multi_init();
	begin = now_ms();
	for (i = 0; i < connections && next < users; i++, next += batch)
		start(multi, &senders[i], room, argv[5], next, batch);
	while (done * batch < users)
	{
		int			n;

		curl_multi_perform(multi, &running);
		n = collect(multi, room, argv[5], &next, users, batch);
		if (n < 0)
		{
			fprintf(stderr, "limit_multi: a request failed\n");
			return 1;
		}
		done += n;
		if (n == 0)
			curl_multi_poll(multi, NULL, 0, 1000, NULL);
	}
	printf("%.1f\n", now_ms() - begin);
	return 0;
}

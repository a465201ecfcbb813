/*
 * limit_multi.c: what plain C with libcurl's multi interface needs to send the same batches as a delivery of the queue.
 *
 *	limit_multi URL USERS BATCH CONNECTIONS PREFIX
 *
 * Creates USERS users in requests of BATCH, so many at a time, and prints the milliseconds it took; a dash; and for how
 * many of them its processor worked.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "limits.h"

typedef struct sender
{
	CURL	   *easy;
	char	   *body;
} sender;

typedef struct job
{
	CURLM	   *multi;
	const char *prefix;
	int			users;
	int			batch;
	int			next;			/* the first user not sent yet */
	int			done;			/* users created */
} job;

static sender *
make_senders(int n, int batch, const char *url)
{
	sender	   *senders = calloc(n, sizeof(sender));
	struct curl_slist *headers = limit_headers();
	int			i;

	for (i = 0; i < n; i++)
	{
		senders[i].easy = curl_easy_init();
		senders[i].body = malloc(limit_room(batch));
		curl_easy_setopt(senders[i].easy, CURLOPT_URL, url);
		curl_easy_setopt(senders[i].easy, CURLOPT_HTTPHEADER, headers);
		curl_easy_setopt(senders[i].easy, CURLOPT_WRITEFUNCTION, limit_drop);
		curl_easy_setopt(senders[i].easy, CURLOPT_POSTFIELDS, senders[i].body);
		curl_easy_setopt(senders[i].easy, CURLOPT_PRIVATE, &senders[i]);
	}
	return senders;
}

static void
send_next(job *j, sender *s)
{
	size_t		length = limit_write_users(s->body, limit_room(j->batch), j->prefix, j->next, j->batch);

	curl_easy_setopt(s->easy, CURLOPT_POSTFIELDSIZE, (long) length);
	curl_multi_add_handle(j->multi, s->easy);
	j->next += j->batch;
}

/* Take what is done and start the next batch with its handle. Returns how many were done, -1 after a failure. */
static int
collect(job *j)
{
	CURLMsg    *message;
	int			left;
	int			n = 0;

	while ((message = curl_multi_info_read(j->multi, &left)) != NULL)
	{
		CURL	   *easy = message->easy_handle;
		CURLcode	code = message->data.result;
		sender	   *s;
		long		status = 0;

		curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
		curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **) &s);
		if (code != CURLE_OK || status != 201)
			return -1;
		curl_multi_remove_handle(j->multi, easy);
		n++;
		if (j->next < j->users)
			send_next(j, s);
	}
	return n;
}

static bool
run(job *j)
{
	while (j->done < j->users)
	{
		int			running;
		int			n;

		curl_multi_perform(j->multi, &running);
		n = collect(j);
		if (n < 0)
			return false;
		j->done += n * j->batch;
		if (n == 0)
			curl_multi_poll(j->multi, NULL, 0, 1000, NULL);
	}
	return true;
}

int
main(int argc, char **argv)
{
	int			connections = argc > 4 ? (int) strtol(argv[4], NULL, 10) : 0;
	job			j = {0};
	sender	   *senders;
	double		begin;
	double		begin_work;
	int			i;

	j.users = argc > 2 ? (int) strtol(argv[2], NULL, 10) : 0;
	j.batch = argc > 3 ? (int) strtol(argv[3], NULL, 10) : 0;
	if (argc < 6 || j.users < 1 || j.batch < 1 || connections < 1)
	{
		fprintf(stderr, "usage: limit_multi URL USERS BATCH CONNECTIONS PREFIX\n");
		return 2;
	}
	j.prefix = argv[5];
	curl_global_init(CURL_GLOBAL_DEFAULT);
	senders = make_senders(connections, j.batch, argv[1]);
	j.multi = curl_multi_init();
	begin = now_us();
	begin_work = worked_us();
	for (i = 0; i < connections && j.next < j.users; i++)
		send_next(&j, &senders[i]);
	if (!run(&j))
	{
		fprintf(stderr, "limit_multi: a request failed\n");
		return 1;
	}
	printf("%.1f - %.1f\n", (now_us() - begin) / 1e3, (worked_us() - begin_work) / 1e3);
	return 0;
}

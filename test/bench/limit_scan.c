/*
 * limit_scan.c: what plain C with libcurl needs to fetch a list of users, and to read it.
 *
 *	limit_scan download URL		throw away what comes
 *	limit_scan read URL			find each user's id with the reader of src/
 *
 * Prints milliseconds, bytes and users.
 */
#include "postgres_fe.h"

#include <curl/curl.h>
#include <time.h>

#include "../standalone.h"
#include "reader.h"

typedef struct state
{
	lpu_reader *reader;			/* NULL: download only */
	long		users;
	size_t		bytes;
	bool		wrong;
} state;

static size_t
take(char *data, size_t size, size_t count, void *arg)
{
	state	   *s = arg;
	lpu_reader_state next = LPU_READER_MORE;

	s->bytes += size * count;
	if (s->reader == NULL)
		return size * count;
	lpu_reader_feed(s->reader, data, size * count);
	while ((next = lpu_reader_next(s->reader)) == LPU_READER_ELEMENT)
		s->users++;
	s->wrong = next == LPU_READER_WRONG;
	return s->wrong ? 0 : size * count;
}

static double
now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

int
main(int argc, char **argv)
{
	static const char *const names[] = {"id"};
	struct curl_slist *headers = NULL;
	state		s = {0};
	CURL	   *easy;
	double		begin;

	if (argc != 3)
	{
		fprintf(stderr, "usage: limit_scan download|read URL\n");
		return 2;
	}
	if (strcmp(argv[1], "read") == 0)
		s.reader = lpu_reader_new(names, 1, false);
	curl_global_init(CURL_GLOBAL_DEFAULT);
	headers = curl_slist_append(headers, "Authorization: Bearer lp-token");
	easy = curl_easy_init();
	curl_easy_setopt(easy, CURLOPT_URL, argv[2]);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, &s);
	curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, 262144L);
	begin = now_ms();
	if (curl_easy_perform(easy) != CURLE_OK || s.wrong)
	{
		fprintf(stderr, "limit_scan: the list did not come\n");
		return 1;
	}
	printf("%.1f %zu %ld\n", now_ms() - begin, s.bytes, s.users);
	return 0;
}

/*
 * limit_scan.c: what plain C with libcurl needs to fetch a list of users, and to read it.
 *
 *	limit_scan download URL		throw away what comes
 *	limit_scan read URL			find each user's id with the reader of src/
 *	limit_scan json-c URL		make a tree of each user with json-c, one at a time
 *
 * Prints milliseconds, megabytes of memory at the most, for how many of the milliseconds the processor worked, and how many
 * users came.
 */
#include "postgres_fe.h"

#include <json-c/json.h>
#include <sys/resource.h>

#include "../standalone.h"
#include "limits.h"
#include "json/array_reader.h"

/* As many levels as json.c of lpusers allows. */
#define MAX_LEVELS 32

typedef struct state
{
	LpuReader *reader;
	struct json_tokener *tokener;	/* what is parsed with it stands behind a bracket or a comma */
	bool		inside;			/* of a user */
	long		users;
	bool		wrong;
} state;

typedef void (*take) (state *s, const char *data, size_t length);

static void
take_nothing(state *s, const char *data, size_t length)
{
	(void) s;
	(void) data;
	(void) length;
}

static void
take_by_reader(state *s, const char *data, size_t length)
{
	LpuReaderState next;

	lpu_reader_feed(s->reader, data, length);
	while ((next = lpu_reader_next(s->reader)) == LPU_READER_ELEMENT)
		s->users++;
	s->wrong = next == LPU_READER_WRONG;
}

static void
take_by_json_c(state *s, const char *data, size_t length)
{
	const char *p = data;
	const char *end = data + length;

	while (p < end && !s->wrong)
	{
		struct json_object *user;
		struct json_object *id;

		if (!s->inside && (*p == '[' || *p == ',' || *p == ']'))
		{
			p++;
			continue;
		}
		s->inside = true;
		user = json_tokener_parse_ex(s->tokener, p, (int) (end - p));
		if (user == NULL)
		{
			s->wrong = json_tokener_get_error(s->tokener) != json_tokener_continue;
			return;
		}
		p += json_tokener_get_parse_end(s->tokener);
		s->users += json_object_object_get_ex(user, "id", &id);
		json_object_put(user);
		s->inside = false;
	}
}

static const struct
{
	const char *name;
	take		take;
}			ways[] = {
	{"download", take_nothing},
	{"read", take_by_reader},
	{"json-c", take_by_json_c},
};

static take chosen;

static size_t
on_data(char *data, size_t size, size_t count, void *arg)
{
	state	   *s = arg;

	chosen(s, data, size * count);
	return s->wrong ? 0 : size * count;
}

static double
peak_mb(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_maxrss / 1024.0;
}

int
main(int argc, char **argv)
{
	static const char *const names[] = {"id"};
	state		s = {0};
	CURL	   *easy;
	double		begin;
	double		begin_work;
	int			i;

	for (i = 0; i < lengthof(ways) && argc == 3; i++)
		if (strcmp(argv[1], ways[i].name) == 0)
			chosen = ways[i].take;
	if (chosen == NULL)
	{
		fprintf(stderr, "usage: limit_scan download|read|json-c URL\n");
		return 2;
	}
	s.reader = lpu_reader_new(names, lengthof(names), false);
	s.tokener = json_tokener_new_ex(MAX_LEVELS);
	json_tokener_set_flags(s.tokener, JSON_TOKENER_VALIDATE_UTF8 | JSON_TOKENER_ALLOW_TRAILING_CHARS);
	curl_global_init(CURL_GLOBAL_DEFAULT);
	easy = curl_easy_init();
	curl_easy_setopt(easy, CURLOPT_URL, argv[2]);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, limit_headers());
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_data);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, &s);
	curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, 262144L);
	begin = now_us();
	begin_work = worked_us();
	if (curl_easy_perform(easy) != CURLE_OK || s.wrong)
	{
		fprintf(stderr, "limit_scan: the list did not come\n");
		return 1;
	}
	printf("%.1f %.1f %.1f %ld\n", (now_us() - begin) / 1e3, peak_mb(), (worked_us() - begin_work) / 1e3, s.users);
	return 0;
}

/*
 * limit_reader.c: what reading a list of users costs: the reader, json-c, and a look at each byte.
 *
 *	limit_reader [USERS [ROUNDS]]
 *
 * Prints nanoseconds of the processor for a user, the median of the rounds, in which all take their turns; and how many
 * times that is of the reader with four wanted attributes. The list is in memory and comes in pieces of 16 kB, as libcurl
 * hands them over.
 */
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../standalone.h"

#include "json/array_reader.h"

#define PIECE (16 * 1024)
#define MAX_ROUNDS 1000

static const char *const names[] = {"id", "loginName", "email", "nickname", "isEnabled", "maxChats", "profileIds",
"memberOf", "description", "employeeId", "dateUpdated", "fullName"};

static char *list;
static size_t list_length;
static int users;
static volatile size_t sink;	/* so that nothing is left out */

static void
make_list(void)
{
	size_t		room = (size_t) users * 1000 + 10;
	int			i;

	list = malloc(room);
	list_length = 0;
	for (i = 0; i < users; i++)
		list_length += snprintf(list + list_length, room - list_length,
								"%s{\"id\":%d,\"deleted\":false,\"loginName\":\"user%06d@example.com\",\"fullName\":\"Full Name %d\","
								"\"nickname\":\"nick%d\",\"email\":\"user%06d@example.com\",\"isEnabled\":true,\"maxChats\":3,"
								"\"maxAsyncChats\":12,\"profileIds\":[1001,1002],\"skillIds\":[2001,2002,2003],\"lobIds\":[],"
								"\"permissionGroups\":[1],\"memberOf\":{\"agentGroupId\":3%03d,\"assignmentDate\":\"2026-01-02 03:04:05\"},"
								"\"managerOf\":[],\"changePwdNextLogin\":true,\"isApiUser\":false,\"userTypeId\":1,"
								"\"description\":\"Somebody who answers questions about orders, deliveries, bills and the weather\","
								"\"mobileNumber\":\"+49 170 1234567\",\"pictureUrl\":\"https://example.com/pictures/of/users/%06d.png\","
								"\"employeeId\":\"E%06d\",\"pid\":\"pid-%06d\",\"disabledManually\":false,"
								"\"lastPwdChangeDate\":\"2026-01-02 03:04:05\",\"dateUpdated\":\"2026-01-02 03:04:05\"}",
								i > 0 ? "," : "[", 1000000000 + i, i, i, i, i, i % 1000, i, i, i);
	list[list_length++] = ']';
	list[list_length] = '\0';
}

static void
expect(int count)
{
	if (count == users)
		return;
	fprintf(stderr, "limit_reader: %d users of %d\n", count, users);
	exit(1);
}

static void
by_reader(int n, bool whole)
{
	LpuReader *reader = lpu_reader_new(names, n, whole);
	size_t		at = 0;
	int			count = 0;

	for (;;)
	{
		LpuReaderState state = lpu_reader_next(reader);
		size_t		length = list_length - at < PIECE ? list_length - at : PIECE;

		if (state == LPU_READER_ELEMENT)
		{
			count++;
			if (n > 0)
				sink += lpu_reader_values(reader)[n - 1].length;
			continue;
		}
		if (length == 0 || state != LPU_READER_MORE)
			break;
		lpu_reader_feed(reader, list + at, length);
		at += length;
	}
	standalone_reset();
	expect(count);
}

static void
count_only(void)
{
	by_reader(0, false);
}

static void
four_values(void)
{
	by_reader(4, false);
}

static void
twelve_values(void)
{
	by_reader(12, false);
}

static void
whole_users(void)
{
	by_reader(0, true);
}

/* Small chunks that were freed are put together when a large one is wanted: let it be in the time of who freed them. */
static void
settle(void)
{
	palloc(64 * 1024);
	standalone_reset();
}

/* A tree of one user at a time. The tokener stops behind it. */
static void
by_json_c(void)
{
	struct json_tokener *tokener = json_tokener_new_ex(32);
	const char *p = list;
	const char *end = list + list_length;
	int			count = 0;
	int			i;

	json_tokener_set_flags(tokener, JSON_TOKENER_VALIDATE_UTF8 | JSON_TOKENER_ALLOW_TRAILING_CHARS);
	while (*p++ != ']')
	{
		struct json_object *user = json_tokener_parse_ex(tokener, p, (int) (end - p));
		struct json_object *value;

		for (i = 0; i < 4; i++)
			if (json_object_object_get_ex(user, names[i], &value))
				sink += strlen(json_object_get_string(value));
		json_object_put(user);
		p += json_tokener_get_parse_end(tokener);
		count++;
	}
	json_tokener_free(tokener);
	expect(count);
	settle();
}

static void
by_json_c_tree(void)
{
	struct json_tokener *tokener = json_tokener_new_ex(32);
	struct json_object *root;

	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	root = json_tokener_parse_ex(tokener, list, (int) list_length);
	json_tokener_free(tokener);
	expect((int) json_object_array_length(root));
	json_object_put(root);
	settle();
}

/* Nothing but the ends of objects: one too many for each user, with a group inside. */
static void
by_memchr(void)
{
	const char *p = list;
	int			count = 0;

	while ((p = memchr(p, '}', list + list_length - p)) != NULL)
	{
		p++;
		count++;
	}
	expect(count / 2);
}

static void
by_strlen(void)
{
	sink += strlen(list);
}

static const struct
{
	const char *name;
	void		(*read) (void);
}			contenders[] = {
	{"reader, 4 attributes", four_values},
	{"reader, nothing but the number", count_only},
	{"reader, 12 attributes", twelve_values},
	{"reader, each user whole", whole_users},
	{"json-c, user by user, 4 attributes", by_json_c},
	{"json-c, the whole tree", by_json_c_tree},
	{"memchr() for each brace", by_memchr},
	{"strlen()", by_strlen},
};

#define CONTENDERS (sizeof(contenders) / sizeof(contenders[0]))

/* Of the processor: it does not wait for anything but its turn. */
static double
used_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return now.tv_sec * 1e9 + now.tv_nsec;
}

static int
compare_times(const void *a, const void *b)
{
	double		x = *(const double *) a;
	double		y = *(const double *) b;

	return x < y ? -1 : x > y;
}

int
main(int argc, char **argv)
{
	static double times[CONTENDERS][MAX_ROUNDS];
	int			rounds = argc > 2 ? (int) strtol(argv[2], NULL, 10) : 15;
	int			round;
	size_t		i;

	users = argc > 1 ? (int) strtol(argv[1], NULL, 10) : 10000;
	if (users < 1 || rounds < 1 || rounds > MAX_ROUNDS)
	{
		fprintf(stderr, "usage: limit_reader [USERS [ROUNDS]]\n");
		return 2;
	}
	make_list();
	for (round = 0; round < rounds; round++)
		for (i = 0; i < CONTENDERS; i++)
		{
			double		start = used_ns();

			contenders[i].read();
			times[i][round] = used_ns() - start;
		}
	printf("%zu bytes a user%24s %10s %8s\n", list_length / users, "", "ns", "ratio");
	for (i = 0; i < CONTENDERS; i++)
		qsort(times[i], rounds, sizeof(double), compare_times);
	for (i = 0; i < CONTENDERS; i++)
		printf("%-40s %10.0f %8.2f\n", contenders[i].name, times[i][rounds / 2] / users,
			   times[i][rounds / 2] / times[0][rounds / 2]);
	return 0;
}

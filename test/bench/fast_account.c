/*
 * fast_account.c: an account that costs next to nothing, so that a benchmark measures its clients.
 *
 *	fast_account URL_FILE
 *
 * Serves HTTP/1.1 on a free port of the loopback interface, and writes its URL to the file. It knows no users and checks
 * nothing: objects that are sent come back, each with an id, and a new revision; whatever else is asked for is an
 * empty list. test/lpsim/ is the stand-in that behaves as the account does.
 *
 *	POST /_sim/config with {"delay_ms": N}		from now on every answer takes so long
 *	GET /_sim/span								milliseconds from the first request since the last such question to the
 *												end of the last one
 *	GET /_sim/cpu								microseconds that its processors have worked so far
 *
 * A thread for each connection; what they share is atomic.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "limits.h"

/* Heads are small; a body has at most 10,000 users of some hundred bytes. */
#define MAX_HEAD 65536
#define MAX_BODY (16 * 1024 * 1024)

/* That of an answer. */
#define HEAD_ROOM 200

static atomic_long delay_ms;
static atomic_llong next_id = 4000000000;
static atomic_llong revision = 1;
static _Atomic double first_us;
static _Atomic double last_us;

typedef struct connection
{
	int			fd;
	char	   *in;				/* head and body */
	size_t		used;
	char	   *out;				/* the answer's body, behind room for its head */
} connection;

typedef struct request
{
	const char *body;			/* NUL-terminated */
	size_t		body_length;
	size_t		length;			/* with its head */
} request;

/* Read one request. False: the connection has ended. */
static bool
receive(connection *c, request *r)
{
	char	   *end = NULL;

	for (;;)
	{
		ssize_t		n;

		c->in[c->used] = '\0';
		if (end == NULL && (end = strstr(c->in, "\r\n\r\n")) != NULL)
		{
			char	   *length = strcasestr(c->in, "\r\ncontent-length:");

			r->body = end + 4;
			r->body_length = length != NULL && length < end ? strtoul(length + 17, NULL, 10) : 0;
			r->length = r->body - c->in + r->body_length;
			if (r->length > MAX_BODY)
				return false;
		}
		if (end != NULL && c->used >= r->length)
			return true;
		if (end == NULL && c->used >= MAX_HEAD)
			return false;
		n = recv(c->fd, c->in + c->used, MAX_HEAD + MAX_BODY - c->used, 0);
		if (n <= 0)
			return false;
		c->used += n;
	}
}

static bool
transmit(int fd, const char *data, size_t length)
{
	while (length > 0)
	{
		ssize_t		n = send(fd, data, length, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		data += n;
		length -= n;
	}
	return true;
}

/* Copy a string from its opening quote to the one that closes it. Returns what comes next of both. */
static char *
copy_string(char *out, const char **p, const char *end)
{
	const char *quote = *p + 1;

	while (quote < end && *quote != '"')
	{
		const char *next = memchr(quote, '"', end - quote);
		const char *escape = memchr(quote, '\\', (next ? next : end) - quote);

		quote = escape != NULL ? escape + 2 : next != NULL ? next : end;
	}
	quote = quote < end ? quote + 1 : end;
	memcpy(out, *p, quote - *p);
	out += quote - *p;
	*p = quote;
	return out;
}

/* The body, with an id at the beginning of each object of the array, or of the one object. Its length. */
static size_t
with_ids(char *out, const char *p, const char *end)
{
	char	   *start = out;
	int			depth = 0;
	int			level = *p == '[' ? 1 : 0;

	while (p < end)
	{
		if (*p == '"')
		{
			out = copy_string(out, &p, end);
			continue;
		}
		*out++ = *p;
		if (*p == '{' || *p == '[')
		{
			if (depth++ == level && *p == '{')
				out += sprintf(out, "\"id\":%lld,", (long long) atomic_fetch_add(&next_id, 1));
		}
		else if (*p == '}' || *p == ']')
			depth--;
		p++;
	}
	return out - start;
}

static void
nap(long ms)
{
	struct timespec time = {ms / 1000, ms % 1000 * 1000000};

	if (ms > 0)
		nanosleep(&time, NULL);
}

/* What is asked of the stand-in itself; false if it is none of it. */
static bool
control(const connection *c, const request *r, size_t *length)
{
	if (strstr(c->in, " /_sim/config ") != NULL)
	{
		const char *value = strstr(r->body, "\"delay_ms\":");

		atomic_store(&delay_ms, value != NULL ? strtol(value + 11, NULL, 10) : 0);
		*length = 0;
		return true;
	}
	if (strstr(c->in, " /_sim/span ") != NULL)
	{
		*length = sprintf(c->out, "%.2f\n", (atomic_load(&last_us) - atomic_load(&first_us)) / 1e3);
		atomic_store(&first_us, 0);
		return true;
	}
	if (strstr(c->in, " /_sim/cpu ") != NULL)
	{
		*length = sprintf(c->out, "%.0f\n", worked_us());
		return true;
	}
	return false;
}

static void
note_first(void)
{
	double		none = 0;

	atomic_compare_exchange_strong(&first_us, &none, now_us());
}

static bool
answer(connection *c, const request *r)
{
	bool		creates = strncmp(c->in, "POST ", 5) == 0;
	char		head[HEAD_ROOM];
	size_t		length;
	int			head_length;

	if (!control(c, r, &length))
	{
		note_first();
		nap(atomic_load(&delay_ms));
		if (creates || strncmp(c->in, "PUT ", 4) == 0)
			length = with_ids(c->out, r->body, r->body + r->body_length);
		else
			length = sprintf(c->out, "[]");
		atomic_store(&last_us, now_us());
	}
	head_length = sprintf(head, "HTTP/1.1 %d OK\r\nContent-Type: application/json\r\nac-revision: %lld\r\n"
						  "Content-Length: %zu\r\n\r\n", creates ? 201 : 200,
						  (long long) atomic_fetch_add(&revision, 1), length);
	/* in one piece: the client is to be woken once */
	memcpy(c->out - head_length, head, head_length);
	return transmit(c->fd, c->out - head_length, head_length + length);
}

static void *
serve(void *arg)
{
	connection	c = {.fd = (int) (intptr_t) arg};
	request		r;
	char	   *room = malloc(HEAD_ROOM + (size_t) MAX_BODY * 2);

	c.in = malloc(MAX_HEAD + MAX_BODY + 1);
	c.out = room + HEAD_ROOM;
	while (receive(&c, &r) && answer(&c, &r))
	{
		memmove(c.in, c.in + r.length, c.used - r.length);
		c.used -= r.length;
	}
	free(c.in);
	free(room);
	close(c.fd);
	return NULL;
}

static void
accept_all(int listener)
{
	for (;;)
	{
		int			fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		int			on = 1;
		pthread_t	thread;

		if (fd < 0)
			continue;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		if (pthread_create(&thread, NULL, serve, (void *) (intptr_t) fd) == 0)
			pthread_detach(thread);
		else
			close(fd);
	}
}

int
main(int argc, char **argv)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t	length = sizeof(address);
	int			listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	FILE	   *file;

	if (argc != 2)
	{
		fprintf(stderr, "usage: fast_account URL_FILE\n");
		return 2;
	}
	if (bind(listener, (struct sockaddr *) &address, length) != 0 || listen(listener, 128) != 0 ||
		getsockname(listener, (struct sockaddr *) &address, &length) != 0 || (file = fopen(argv[1], "w")) == NULL)
	{
		perror("fast_account");
		return 1;
	}
	fprintf(file, "http://127.0.0.1:%d\n", ntohs(address.sin_port));
	fclose(file);
	accept_all(listener);
}

/*-------------------------------------------------------------------------
 *
 * send.c
 *	  Answers on their way, also those which are sent slowly, in part or not at all.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <linux/sockios.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "clock.h"
#include "http.h"
#include "log.h"
#include "send.h"

/*
 * A client takes what is sent when no more than this waits for it: the socket buffers always have
 * room for it.
 */
#define MAX_UNTAKEN		65536

/*
 * Ends a connection with an RST.  The zero linger time alone would not do:
 * the library shuts the socket down, which sends a FIN, before it closes it.
 * Dissolving the association (connect(2), AF_UNSPEC) resets at once.
 */
static void
reset_connection(int fd)
{
	struct linger linger = {1, 0};
	struct sockaddr none = {.sa_family = AF_UNSPEC};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	connect(fd, &none, sizeof(none));
}

/* A body on its way which is not sent plainly. */
typedef struct Delivery
{
	Pace		pace;
	Body	   *body;
	Entry	   *entry;
	int			fd;
} Delivery;

/* "[" unit unit ... "]": the last comma of the last unit becomes the bracket. */
static void
fill_with_units(const Pace *pace, uint64_t pos, char *buf, size_t n)
{
	size_t		unit = strlen(pace->unit);

	for (size_t i = 0; i < n; i++, pos++)
		buf[i] = pos == 0 ? '[' : pos == pace->size - 1 ? ']' : pace->unit[(pos - 1) % unit];
}

/*
 * Waits until the client has taken what was sent, but for so much.  False: nothing of it for so
 * long.
 */
static bool
client_takes(int fd, int most, int64_t patience_ms)
{
	double		since = now_monotonic();
	int			before = INT_MAX;
	int			untaken;

	while (ioctl(fd, SIOCOUTQ, &untaken) == 0 && untaken > most)
	{
		if (untaken < before)
			since = now_monotonic();
		before = untaken;
		if (now_monotonic() - since >= patience_ms / 1e3)
			return false;
		nap(-1, 0.002);
	}
	return true;
}

static ssize_t
delivery_read(void *cls, uint64_t pos, char *buf, size_t max)
{
	Delivery   *d = cls;
	uint64_t	n = d->pace.stop - pos;

	if (d->pace.patience_ms && !client_takes(d->fd, MAX_UNTAKEN, d->pace.patience_ms))
	{
		pthread_mutex_lock(&lock);
		d->entry->fault = "impatient: hung up";
		pthread_mutex_unlock(&lock);
		reset_connection(d->fd);
		return MHD_CONTENT_READER_END_WITH_ERROR;
	}
	if (pos >= d->pace.stop)
	{
		nap(d->fd, d->pace.seconds);
		/* an RST would overtake what was sent */
		if (d->pace.reset)
		{
			(void) client_takes(d->fd, 0, 1000);
			reset_connection(d->fd);
		}
		return pos >= d->pace.size ? MHD_CONTENT_READER_END_OF_STREAM :
			MHD_CONTENT_READER_END_WITH_ERROR;
	}
	n = n > max ? max : n;
	if (d->pace.piece && n > d->pace.piece)
		n = d->pace.piece;
	if (pos < d->pace.stall_at && n > d->pace.stall_at - pos)
		n = d->pace.stall_at - pos;
	if (d->pace.stall && pos == d->pace.stall_at)
		nap(d->fd, d->pace.stall);
	if (pos > 0 && d->pace.ms)
		nap(d->fd, d->pace.ms / 1e3);
	if (d->pace.unit)
		fill_with_units(&d->pace, pos, buf, n);
	else
		memcpy(buf, d->body->data + pos, n);
	pthread_mutex_lock(&lock);
	d->entry->bytes_out += n;
	pthread_mutex_unlock(&lock);
	return n;
}

static void
delivery_free(void *cls)
{
	Delivery   *d = cls;

	pthread_mutex_lock(&lock);
	entry_release(d->entry);
	pthread_mutex_unlock(&lock);
	body_release(d->body);
	free(d);
}

static struct MHD_Response *
response_paced(Request *req, Answer *ans)
{
	Delivery   *d = need(calloc(1, sizeof(Delivery)));

	d->pace = ans->pace;
	d->body = body_share(ans->body);
	d->entry = req->entry;
	d->fd = req->fd;
	pthread_mutex_lock(&lock);
	d->entry->refs++;
	pthread_mutex_unlock(&lock);
	return MHD_create_response_from_callback(ans->pace.chunked ? MHD_SIZE_UNKNOWN : ans->pace.size,
											 32768, delivery_read, d, delivery_free);
}

static struct MHD_Response *
response_plain(Answer *ans)
{
	Body	   *body = body_share(ans->body);

	return MHD_create_response_from_buffer_with_free_callback_cls(body->len, body->data,
																   body_release, body);
}

/* Writes the body past the library, a byte at a time if it is paced. */
static void
send_raw(const Request *req, const Answer *ans)
{
	size_t		piece = ans->pace.ms ? 1 : ans->body->len;
	struct pollfd p = {req->fd, POLLOUT, 0};
	ssize_t		n;

	for (size_t at = 0; at < ans->body->len; at += n > 0 ? n : 0)
	{
		n = send(req->fd, ans->body->data + at, piece < ans->body->len - at ? piece :
				 ans->body->len - at, MSG_NOSIGNAL);
		if (n < 0 && errno == EAGAIN)
			poll(&p, 1, 1000);
		else if (n < 0)
			return;
		if (ans->pace.ms)
			nap(req->fd, ans->pace.ms / 1e3);
	}
}

/* Sends the answer, or does not.  MHD_NO closes the connection. */
enum MHD_Result
answer_send(Request *req, Answer *ans)
{
	struct MHD_Response *r;
	enum MHD_Result result;

	if (ans->sending == SEND_RAW && !req->door->tls)
		send_raw(req, ans);
	if (ans->sending == SEND_NOTHING || ans->sending == SEND_RAW)
	{
		nap(req->fd, ans->pace.seconds);
		if (ans->pace.reset)
			reset_connection(req->fd);
		return MHD_NO;
	}
	if (ans->sending == SEND_PACED)
		r = need(response_paced(req, ans));
	else
		r = need(response_plain(ans));
	if (ans->type)
		MHD_add_response_header(r, "Content-Type", ans->type);
	for (int i = 0; i < ans->nheaders; i++)
		MHD_add_response_header(r, ans->header[i][0], ans->header[i][1]);
	result = MHD_queue_response(req->mhd, ans->status, r);
	MHD_destroy_response(r);
	return result;
}

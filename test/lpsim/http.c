/*-------------------------------------------------------------------------
 *
 * http.c
 *	  The server: doors, connections, and requests while they arrive.
 *
 * libmicrohttpd gives every connection a thread.  One mutex, "lock", guards all state; it is
 * held while a request is carried out, never while a thread sleeps or sends.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "clock.h"
#include "config.h"
#include "control.h"
#include "fault.h"
#include "http.h"
#include "json.h"
#include "log.h"
#include "options.h"
#include "send.h"

/* 100,000 users with every attribute are about 60 MB: room for four times that. */
#define MAX_BODY		((size_t) 256 * 1024 * 1024)

pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
Door		doors[2];
int64_t		connections_seen;
int64_t		connections_open;

/* So often a held request looks whether its rule is removed. */
#define HOLD_STEP		0.005

/* Sleep until the rule of a request is removed, or the program ends. */
static void
wait_for_removal(const Rule *rule)
{
	bool		removed = false;

	while (!removed && nap(-1, HOLD_STEP))
	{
		pthread_mutex_lock(&lock);
		removed = rule->removed;
		pthread_mutex_unlock(&lock);
	}
}

/*
 * A request to the account, whole: find its fault, take its time, carry it out, note what comes
 * of it.
 */
static void
serve_account(Request *req, Answer *ans)
{
	int64_t		ms;
	bool		hold;

	pthread_mutex_lock(&lock);
	log_users(req->entry, req);
	req->rule = rule_for(req);
	req->entry->fault = req->rule ? req->rule->action->name : NULL;
	ms = config_int("delay_ms");
	if (req->rule && req->rule->action->act == act_delay)
		ms += rule_int(req, "ms", 0);
	hold = req->rule && req->rule->action->act == act_hold;
	pthread_mutex_unlock(&lock);

	nap(-1, ms / 1e3);
	if (hold)
		wait_for_removal(req->rule);

	pthread_mutex_lock(&lock);
	if (req->too_large)
		answer_error(ans, 413, "the body is larger than %zu bytes", MAX_BODY);
	else if (log_full())
		answer_error(ans, 500, "the log is full: DELETE /_sim/log");
	else
		answer_account(req, ans);
	if (ans->sending == SEND_PLAIN || ans->sending == SEND_PACED)
		req->entry->status = ans->status;
	if (ans->sending == SEND_PLAIN)
		req->entry->bytes_out = ans->body->len;
	pthread_mutex_unlock(&lock);
}

static enum MHD_Result
request_serve(Request *req)
{
	Answer		ans = {0};
	enum MHD_Result result;

	buf_room(&req->body, 0);
	req->body.data[req->body.len] = '\0';
	req->json = json_parse(req->body.data, req->body.len, &req->json_error);
	if (req->control)
	{
		pthread_mutex_lock(&lock);
		control(req, &ans);
		pthread_mutex_unlock(&lock);
	}
	else
		serve_account(req, &ans);
	result = answer_send(req, &ans);
	answer_free(&ans);
	return result;
}

/* The head is there. */
static void
request_begin(Request *req, const Door *door, struct MHD_Connection *mhd, const char *path,
			  const char *method)
{
	Connection *c;

	c = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
	req->begun = true;
	req->door = door;
	req->mhd = mhd;
	req->fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
	req->path = copy_text(path);
	req->method = copy_text(method);
	req->control = strncmp(path, "/_sim/", 6) == 0;
	if (req->control)
		return;
	pthread_mutex_lock(&lock);
	if (c->number == 0)
	{
		c->number = ++connections_seen;
		connections_open++;
	}
	req->entry = log_request(req, c);
	req->nth = req->entry->nth;
	pthread_mutex_unlock(&lock);
}

static enum MHD_Result
on_request(void *cls, struct MHD_Connection *mhd, const char *path, const char *method,
		   const char *version, const char *data, size_t *size, void **context)
{
	Request    *req = *context;

	(void) version;
	if (!req->begun)
	{
		request_begin(req, cls, mhd, path, method);
		return MHD_YES;
	}
	if (*size == 0)
		return request_serve(req);
	if (req->body.len + *size > MAX_BODY)
		req->too_large = true;
	else
		buf_put(&req->body, data, *size);
	*size = 0;
	return MHD_YES;
}

/* Called first of all, with the only view of the query as it came. */
static void *
on_uri(void *cls, const char *uri, struct MHD_Connection *mhd)
{
	Request    *req = need(calloc(1, sizeof(Request)));

	(void) cls;
	(void) mhd;
	req->uri = copy_text(uri);
	return req;
}

static void
on_completed(void *cls, struct MHD_Connection *mhd, void **context,
			 enum MHD_RequestTerminationCode code)
{
	Request    *req = *context;

	(void) cls;
	(void) mhd;
	(void) code;
	if (req == NULL)
		return;
	json_object_put(req->json);
	free(req->body.data);
	free(req->uri);
	free(req->path);
	free(req->method);
	pthread_mutex_lock(&lock);
	entry_release(req->entry);
	rule_release(req->rule);
	pthread_mutex_unlock(&lock);
	free(req);
	*context = NULL;
}

static void
on_connection(void *cls, struct MHD_Connection *mhd, void **context,
			  enum MHD_ConnectionNotificationCode code)
{
	Connection *c = *context;

	(void) cls;
	(void) mhd;
	if (code == MHD_CONNECTION_NOTIFY_STARTED)
	{
		*context = need(calloc(1, sizeof(Connection)));
		return;
	}
	pthread_mutex_lock(&lock);
	connections_open -= c && c->number > 0;
	pthread_mutex_unlock(&lock);
	free(c);
	*context = NULL;
}

/* Only loopback: this server knows no rights, and its control interface no password. */
static socklen_t
loopback_address(struct sockaddr_storage *addr, int port)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *) addr;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *) addr;

	memset(addr, 0, sizeof(*addr));
	if (inet_pton(AF_INET, opt.listen, &v4->sin_addr) == 1 &&
		ntohl(v4->sin_addr.s_addr) >> 24 == 127)
	{
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		return sizeof(*v4);
	}
	if (inet_pton(AF_INET6, opt.listen, &v6->sin6_addr) == 1 &&
		IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr))
	{
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(port);
		return sizeof(*v6);
	}
	die("not a loopback address: %s", opt.listen);
	return 0;
}

/* Accepted sockets inherit TCP_NODELAY; no answer waits for an acknowledgement. */
static void
door_listen(Door *door, int port)
{
	struct sockaddr_storage addr;
	socklen_t	len = loopback_address(&addr, port);
	int			on = 1;

	door->fd = socket(addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (door->fd < 0)
		die("socket: %s", strerror(errno));
	setsockopt(door->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	setsockopt(door->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (bind(door->fd, (struct sockaddr *) &addr, len) != 0 || listen(door->fd, SOMAXCONN) != 0)
		die("cannot listen at %s, port %d: %s", opt.listen, port, strerror(errno));
	getsockname(door->fd, (struct sockaddr *) &addr, &len);
	door->port = ntohs(addr.ss_family == AF_INET ? ((struct sockaddr_in *) &addr)->sin_port :
					   ((struct sockaddr_in6 *) &addr)->sin6_port);
}

static char *
file_read(const char *path)
{
	FILE	   *f = fopen(path, "re");
	Buf			b = {0};
	char		part[4096];
	size_t		n;

	if (f == NULL)
		die("%s: %s", path, strerror(errno));
	while ((n = fread(part, 1, sizeof(part), f)) > 0)
		buf_put(&b, part, n);
	fclose(f);
	return b.data ? b.data : copy_text("");
}

/* Open a door at this port (0: a free one), or end the program. */
void
door_open(Door *door, int port)
{
	unsigned	flags = MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD |
		MHD_USE_POLL | (door->tls ? MHD_USE_TLS : 0);
	struct MHD_OptionItem tls[] = {
		{MHD_OPTION_HTTPS_MEM_CERT, 0, door->tls ? file_read(opt.tls_cert) : NULL},
		{MHD_OPTION_HTTPS_MEM_KEY, 0, door->tls ? file_read(opt.tls_key) : NULL},
		{MHD_OPTION_END, 0, NULL}
	};

	door_listen(door, port);
	door->daemon = MHD_start_daemon(flags, 0, NULL, NULL, on_request, door,
									MHD_OPTION_LISTEN_SOCKET, door->fd,
									MHD_OPTION_URI_LOG_CALLBACK, on_uri, NULL,
									MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL,
									MHD_OPTION_NOTIFY_CONNECTION, on_connection, NULL,
									MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t) 256 * 1024,
									MHD_OPTION_ARRAY, door->tls ? tls : &tls[2],
									MHD_OPTION_END);
	if (door->daemon == NULL)
		die("cannot start the %s server", door->tls ? "TLS" : "HTTP");
	free(tls[0].ptr_value);
	free(tls[1].ptr_value);
}

/* Write the URL of a door. */
void
put_url(Buf *b, const Door *door)
{
	bool		v6 = strchr(opt.listen, ':') != NULL;

	buf_printf(b, "%s://%s%s%s:%d", door->tls ? "https" : "http", v6 ? "[" : "", opt.listen,
			   v6 ? "]" : "", door->port);
}

/*-------------------------------------------------------------------------
 *
 * log.c
 *	  The log of requests to the account.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attribute.h"
#include "json.h"
#include "log.h"

/* Half a kilobyte each or more; a test which sends so many has gone astray. */
#define MAX_LOG			1000000

RequestLog	request_log;
static size_t log_room;
static int64_t log_seq;

/* Give up one reference to an entry. */
void
entry_release(Entry *e)
{
	if (e == NULL || --e->refs > 0)
		return;
	free(e->path);
	free(e->query);
	free(e->if_match);
	free(e->content_type);
	free(e->logins.data);
	free(e->ids.data);
	free(e->made.data);
	free(e->changed.data);
	free(e);
}

/* Remove all entries; requests in hand keep theirs. */
void
log_clear(void)
{
	for (size_t i = 0; i < request_log.n; i++)
		entry_release(request_log.entries[i]);
	request_log.n = 0;
}

/* Return true if the log holds as much as it may. */
bool
log_full(void)
{
	return request_log.n > MAX_LOG;
}

/* Starts a request's entry when its head has arrived. */
Entry *
log_request(const Request *req, Connection *c)
{
	Entry	   *e = need(calloc(1, sizeof(Entry)));
	const char *bearer = bearer_of(req);
	size_t		n = bearer ? strlen(bearer) : 0;

	e->refs = 2;
	e->seq = ++log_seq;
	clock_gettime(CLOCK_REALTIME, &e->at);
	snprintf(e->method, sizeof(e->method), "%s", req->method);
	e->path = copy_text(req->path);
	e->query = copy_text(strchr(req->uri, '?') ? strchr(req->uri, '?') + 1 : "");
	e->connection = c->number;
	e->nth = ++c->requests;
	e->tls = req->door->tls;
	snprintf(e->bearer, sizeof(e->bearer), "%s", bearer ? bearer + (n > 6 ? n - 6 : 0) : "");
	e->if_match = copy_text(request_header(req, "If-Match"));
	e->content_type = copy_text(request_header(req, "Content-Type"));
	if (request_log.n == log_room)
	{
		log_room = log_room ? log_room * 2 : 1024;
		request_log.entries = need(realloc(request_log.entries, log_room * sizeof(Entry *)));
	}
	request_log.entries[request_log.n++] = e;
	return e;
}

static void
log_id(Entry *e, json_object *v)
{
	json_object *n = convert_scalar(T_LONG, v);
	int64_t		id = n ? json_object_get_int64(n) : 0;

	if (n)
		buf_put(&e->ids, &id, sizeof(id));
	json_object_put(n);
}

/* Notes the users named in the body, and in the path. */
void
log_users(Entry *e, const Request *req)
{
	const char *tail = strstr(req->path, "/users/");
	json_object *id = tail ? json_object_new_string_len(tail + 7, strcspn(tail + 7, "/")) : NULL;

	e->bytes_in = req->body.len;
	for (size_t i = 0; req->json && i < body_count(req); i++)
	{
		json_object *item = body_item(req, i);
		json_object *login = json_member(item, "loginName");

		if (json_object_is_type(login, json_type_string))
			buf_put(&e->logins, json_object_get_string(login),
					strlen(json_object_get_string(login)) + 1);
		log_id(e, json_object_is_type(item, json_type_object) ? json_member(item, "id") : item);
	}
	if (e->ids.len == 0)
		log_id(e, id);
	json_object_put(id);
}

/* Return true if the request's body named this login. */
bool
entry_has_login(const Entry *e, const char *login)
{
	const char *end = e->logins.data + e->logins.len;

	for (const char *s = e->logins.data; s < end; s += strlen(s) + 1)
		if (strcmp(s, login) == 0)
			return true;
	return false;
}

/* Write an entry as a JSON object. */
void
put_entry(Buf *b, const Entry *e)
{
	const char *comma = "";
	const char *end = e->logins.data + e->logins.len;

	buf_printf(b, "{\"seq\":%" PRId64 ",\"at\":%lld.%06ld,\"method\":", e->seq,
			   (long long) e->at.tv_sec, e->at.tv_nsec / 1000);
	put_text(b, e->method);
	buf_puts(b, ",\"path\":");
	put_text(b, e->path);
	buf_puts(b, ",\"query\":");
	put_text(b, e->query);
	buf_printf(b, ",\"status\":%u,\"connection\":%" PRId64 ",\"nth\":%" PRId64
			   ",\"tls\":%s,\"bearer\":",
			   e->status, e->connection, e->nth, e->tls ? "true" : "false");
	put_text(b, e->bearer);
	buf_puts(b, ",\"if_match\":");
	put_text(b, e->if_match);
	buf_puts(b, ",\"content_type\":");
	put_text(b, e->content_type);
	buf_puts(b, ",\"logins\":[");
	for (const char *s = e->logins.data; s < end; s += strlen(s) + 1, comma = ",")
	{
		buf_puts(b, comma);
		put_text(b, s);
	}
	buf_puts(b, "],\"ids\":[");
	for (size_t i = 0; i < e->ids.len / sizeof(int64_t); i++)
	{
		int64_t		id;

		memcpy(&id, e->ids.data + i * sizeof(id), sizeof(id));
		buf_printf(b, "%s%" PRId64, i ? "," : "", id);
	}
	buf_printf(b, "],\"bytes_in\":%zu,\"bytes_out\":%zu,\"applied\":%s,\"fault\":", e->bytes_in,
			   e->bytes_out,
			   e->applied ? "true" : "false");
	put_text(b, e->fault);
	buf_put(b, "}", 1);
}

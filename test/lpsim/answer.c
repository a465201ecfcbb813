/*-------------------------------------------------------------------------
 *
 * answer.c
 *	  An answer: status, headers, body, and how it is to be sent.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "answer.h"
#include "clock.h"
#include "config.h"
#include "json.h"

/* The first problem counts.  Returns false, so that callers can return it. */
bool
problem(Problem *p, unsigned status, const char *fields, const char *fmt,...)
{
	va_list		args;

	if (p->status != 0)
		return false;
	p->status = status;
	snprintf(p->fields, sizeof(p->fields), "%s", fields);
	va_start(args, fmt);
	vsnprintf(p->message, sizeof(p->message), fmt, args);
	va_end(args);
	return false;
}

void
answer_header(Answer *ans, const char *name, const char *value)
{
	if (ans->nheaders == (int) lengthof(ans->header))
		return;
	ans->header[ans->nheaders][0] = copy_text(name);
	ans->header[ans->nheaders++][1] = copy_text(value);
}

void
answer_drop_headers(Answer *ans)
{
	while (ans->nheaders > 0)
	{
		free(ans->header[--ans->nheaders][0]);
		free(ans->header[ans->nheaders][1]);
	}
}

/* Takes the buffer's content. */
void
answer_json(Answer *ans, unsigned status, Buf *b)
{
	body_release(ans->body);
	ans->status = status;
	ans->type = "application/json";
	ans->body = body_from(b);
}

void
answer_text(Answer *ans, unsigned status, const char *fmt,...)
{
	va_list		args;
	char		text[1024];

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	body_release(ans->body);
	ans->status = status;
	ans->type = "text/plain; charset=utf-8";
	ans->body = body_from_text(text);
}

void
answer_empty(Answer *ans, unsigned status)
{
	body_release(ans->body);
	ans->status = status;
	ans->type = NULL;
	ans->body = body_from_text("");
}

/* The service's internal codes are not published: these are made up. */
static const struct
{
	unsigned	status;
	int			code;
	const char *name;
}			error_names[] = {
	{400, 23, "BAD_REQUEST"},
	{401, 16, "UNAUTHORIZED"},
	{403, 17, "FORBIDDEN"},
	{404, 30, "NOT_FOUND"},
	{405, 31, "METHOD_NOT_ALLOWED"},
	{409, 44, "CONFLICT"},
	{412, 45, "PRECONDITION_FAILED"},
	{413, 46, "REQUEST_ENTITY_TOO_LARGE"},
	{415, 47, "UNSUPPORTED_MEDIA_TYPE"},
	{429, 50, "TOO_MANY_REQUESTS"},
	{500, 1, "INTERNAL_SERVER_ERROR"},
	{503, 2, "SERVICE_UNAVAILABLE"},
};

void
answer_problem(Answer *ans, const Problem *p)
{
	Buf			b = {0};
	char		date[32];
	bool		nested = config_is("error_shape", "nested");
	size_t		i = 0;
	const char *comma = "";

	while (i < lengthof(error_names) && error_names[i].status != p->status)
		i++;
	buf_puts(&b, nested ? "{\"error\":{\"fields\":[" : "{\"fields\":[");
	for (const char *f = p->fields; *f; comma = ",")
	{
		size_t		n = strcspn(f, ",");

		buf_puts(&b, comma);
		put_string(&b, f, n);
		f += n + (f[n] == ',');
	}
	buf_printf(&b, "],\"time\":\"%s\",\"message\":", date_text(date));
	put_text(&b, p->message);
	buf_printf(&b, ",\"internalCode\":%d,\"responseStatus\":\"%s\"}%s",
			   i < lengthof(error_names) ? error_names[i].code : 0,
			   i < lengthof(error_names) ? error_names[i].name : "UNKNOWN", nested ? "}" : "");
	answer_json(ans, p->status, &b);
}

void
answer_error(Answer *ans, unsigned status, const char *fmt,...)
{
	Problem		p = {.status = status};
	va_list		args;

	va_start(args, fmt);
	vsnprintf(p.message, sizeof(p.message), fmt, args);
	va_end(args);
	answer_problem(ans, &p);
}

void
answer_free(Answer *ans)
{
	body_release(ans->body);
	answer_drop_headers(ans);
}

/* Replaces the body; status 0 leaves the status. */
void
substitute(Answer *ans, unsigned status, const char *type, Body *body)
{
	body_release(ans->body);
	ans->status = status ? status : ans->status;
	ans->type = type;
	ans->body = body;
}

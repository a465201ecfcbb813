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
#include "config.h"
#include "shape.h"

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

/* Add a header; those beyond the eighth are dropped. */
void
answer_header(Answer *ans, const char *name, const char *value)
{
	if (ans->nheaders == (int) lengthof(ans->header))
		return;
	ans->header[ans->nheaders][0] = copy_text(name);
	ans->header[ans->nheaders++][1] = copy_text(value);
}

/* Remove the headers added so far. */
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

/* Answer plain text of up to 1023 bytes. */
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

/* Answer without a body. */
void
answer_empty(Answer *ans, unsigned status)
{
	body_release(ans->body);
	ans->status = status;
	ans->type = NULL;
	ans->body = body_from_text("");
}

/* Answer an error, in the shape which the fault or the configuration asks for. */
void
answer_problem(Answer *ans, const Problem *p)
{
	Buf			b = {0};
	const char *type = put_shape(&b, p, ans->shape ? ans->shape : config_text("error_shape"));

	answer_json(ans, p->status, &b);
	ans->type = type;
}

/* Answer an error which concerns no field. */
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

/* Free what an answer owns. */
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

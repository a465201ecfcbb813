/*-------------------------------------------------------------------------
 *
 * bodies.c
 *	  Faults of the answer itself: another status, another body.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "action.h"
#include "fault.h"
#include "json.h"

/* The action's own text. */
void
act_fixed(Request *req, Answer *ans, const Action *action)
{
	substitute(ans, rule_int(req, "status", action->status), action->type,
			   body_from_text(action->text));
}

/* Any status, with the body and the headers that the rule gives. */
void
act_status(Request *req, Answer *ans, const Action *action)
{
	const char *body = rule_text(req, "body", NULL);
	json_object *headers = json_member(req->rule->spec, "headers");

	(void) action;
	answer_error(ans, rule_int(req, "status", 500), "as the test asked for");
	if (body)
		substitute(ans, 0, "application/json", body_from_text(body));
	if (headers)
	{
		json_object_object_foreach(headers, name, value)
			answer_header(ans, name, json_object_get_string(value));
	}
}

/* A status that asks to come again later. */
void
act_retry_after(Request *req, Answer *ans, const Action *action)
{
	(void) action;
	answer_error(ans, rule_int(req, "status", 429), "as the test asked for");
	answer_header(ans, "Retry-After", rule_text(req, "value", "1"));
}

/* Any body. */
void
act_body(Request *req, Answer *ans, const Action *action)
{
	(void) action;
	substitute(ans, rule_int(req, "status", 0), rule_text(req, "content_type", "application/json"),
			   body_from_text(rule_text(req, "body", "")));
}

/* The request's own body. */
void
act_echo(Request *req, Answer *ans, const Action *action)
{
	Buf			b = {0};

	buf_put(&b, req->body.data, req->body.len);
	substitute(ans, action->status, action->type, body_from(&b));
}

/* A redirect. */
void
act_redirect(Request *req, Answer *ans, const Action *action)
{
	answer_empty(ans, rule_int(req, "status", action->status));
	answer_header(ans, "Location", rule_text(req, "location", ""));
}

static bool
is_array_level(const char *of, int64_t level)
{
	return strcmp(of, "array") == 0 || (strcmp(of, "both") == 0 && level % 2);
}

/* Nesting: arrays, objects, or both in turn. */
void
act_deep(Request *req, Answer *ans, const Action *action)
{
	const char *of = rule_text(req, "of", "array");
	int64_t		depth = rule_int(req, "depth", 10000);
	Buf			b = {0};

	for (int64_t i = 0; i < depth; i++)
		buf_puts(&b, is_array_level(of, i) ? "[" : "{\"a\":");
	buf_puts(&b, strcmp(of, "array") == 0 ? "" : "1");
	while (depth-- > 0)
		buf_puts(&b, is_array_level(of, depth) ? "]" : "}");
	substitute(ans, 0, action->type, body_from(&b));
}

/* A list of one user who has very many attributes. */
void
act_wide(Request *req, Answer *ans, const Action *action)
{
	int64_t		members = rule_int(req, "members", 100000);
	Buf			b = {0};

	buf_puts(&b, "[{\"id\":4999999999,\"loginName\":\"wide\",\"deleted\":false");
	for (int64_t i = 0; i < members; i++)
		buf_printf(&b, ",\"attribute%" PRId64 "\":%" PRId64, i, i);
	buf_puts(&b, "}]");
	substitute(ans, rule_int(req, "status", 0), action->type, body_from(&b));
}

/* The answer is the usual one; an error in it has the shape which the rule asks for. */
void
act_usual(Request *req, Answer *ans, const Action *action)
{
	(void) req;
	(void) ans;
	(void) action;
}

/* An API error. */
void
act_error(Request *req, Answer *ans, const Action *action)
{
	Problem		p = {0};

	problem(&p, rule_int(req, "status", action->status), rule_text(req, "fields", ""), "%s",
			rule_text(req, "message", action->text));
	answer_problem(ans, &p);
}

/* A gateway's page, with the header that HTTP asks for with this status. */
void
act_page(Request *req, Answer *ans, const Action *action)
{
	static const struct
	{
		unsigned	status;
		const char *name;
		const char *header;
		const char *value;
	}			pages[] = {
		{502, "Bad Gateway", NULL, NULL},
		{302, "Found", "Location", "/maintenance.html"},
		{404, "Not Found", NULL, NULL},
		{405, "Method Not Allowed", "Allow", "GET"},
		{407, "Proxy Authentication Required", "Proxy-Authenticate", "Basic realm=\"proxy\""},
		{421, "Misdirected Request", NULL, NULL},
		{503, "Service Unavailable", NULL, NULL},
	};
	unsigned	status = rule_int(req, "status", 0);
	size_t		i = lengthof(pages);
	Buf			b = {0};

	while (i-- > 0 && pages[i].status != status)
		continue;
	for (int part = 0; part < 2; part++)
	{
		buf_puts(&b, part == 0 ? "<html>\r\n<head><title>" : "<center><h1>");
		buf_printf(&b, "%u %s", status, i < lengthof(pages) ? pages[i].name : "Error");
		buf_puts(&b, part == 0 ? "</title></head>\r\n<body>\r\n" : "</h1></center>\r\n");
	}
	buf_puts(&b, "<hr><center>gateway</center>\r\n</body>\r\n</html>\r\n");
	substitute(ans, status, action->type, body_from(&b));
	if (i < lengthof(pages) && pages[i].header)
		answer_header(ans, pages[i].header, pages[i].value);
}

/* A list of very many units, made while it is sent. */
void
act_huge(Request *req, Answer *ans, const Action *action)
{
	const char *text = rule_text(req, "unit", action->text);
	size_t		unit = strlen(text) ? strlen(text) : 1;

	substitute(ans, rule_int(req, "status", 0), action->type, body_from_text(""));
	ans->sending = SEND_PACED;
	ans->pace.unit = *text ? text : " ";
	ans->pace.size = (rule_int(req, "bytes", 1 << 20) + unit - 1) / unit * unit + 1;
	ans->pace.stop = ans->pace.size;
}

/* Between two users in the middle of a list; at the end of what is no list, or has none. */
void
act_spoil(Request *req, Answer *ans, const Action *action)
{
	const char *between = strstr(ans->body->data + ans->body->len / 2, "},{");
	size_t		n = between ? (size_t) (between + 2 - ans->body->data) : ans->body->len;
	Buf			b = {0};

	buf_put(&b, ans->body->data, n);
	put_hex(&b, rule_text(req, "hex", ""));
	buf_put(&b, ans->body->data + n, ans->body->len - n);
	substitute(ans, 0, action->type, body_from(&b));
}

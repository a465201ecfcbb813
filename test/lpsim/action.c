/*-------------------------------------------------------------------------
 *
 * action.c
 *	  What can go wrong with an answer.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>

#include "action.h"
#include "fault.h"
#include "json.h"

int64_t
rule_int(const Request *req, const char *name, int64_t otherwise)
{
	json_object *v = json_member(req->rule->spec, name);

	return v ? json_object_get_int64(v) : otherwise;
}

static double
rule_seconds(const Request *req, double otherwise)
{
	json_object *v = json_member(req->rule->spec, "seconds");

	return v ? json_object_get_double(v) : otherwise;
}

static const char *
rule_text(const Request *req, const char *name, const char *otherwise)
{
	json_object *v = json_member(req->rule->spec, name);

	return v ? json_object_get_string(v) : otherwise;
}

static bool
rule_bool(const Request *req, const char *name)
{
	return json_object_get_boolean(json_member(req->rule->spec, name));
}

static void
act_fixed(Request *req, Answer *ans, const Action *action)
{
	substitute(ans, rule_int(req, "status", action->status), action->type,
			   body_from_text(action->text));
}

static void
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

static void
act_retry_after(Request *req, Answer *ans, const Action *action)
{
	(void) action;
	answer_error(ans, rule_int(req, "status", 429), "as the test asked for");
	answer_header(ans, "Retry-After", rule_text(req, "value", "1"));
}

static void
act_body(Request *req, Answer *ans, const Action *action)
{
	(void) action;
	substitute(ans, rule_int(req, "status", 0), rule_text(req, "content_type", "application/json"),
			   body_from_text(rule_text(req, "body", "")));
}

static void
act_echo(Request *req, Answer *ans, const Action *action)
{
	Buf			b = {0};

	buf_put(&b, req->body.data, req->body.len);
	substitute(ans, action->status, action->type, body_from(&b));
}

static void
act_redirect(Request *req, Answer *ans, const Action *action)
{
	answer_empty(ans, rule_int(req, "status", action->status));
	answer_header(ans, "Location", rule_text(req, "location", ""));
}

static void
act_deep(Request *req, Answer *ans, const Action *action)
{
	int64_t		depth = rule_int(req, "depth", 10000);
	Buf			b = {0};

	buf_room(&b, depth * 2);
	memset(b.data, '[', depth);
	memset(b.data + depth, ']', depth);
	b.len = depth * 2;
	substitute(ans, 0, action->type, body_from(&b));
}

static void
act_huge(Request *req, Answer *ans, const Action *action)
{
	size_t		unit = strlen(action->text);

	substitute(ans, rule_int(req, "status", 0), action->type, body_from_text(""));
	ans->sending = SEND_PACED;
	ans->pace.unit = action->text;
	ans->pace.size = (rule_int(req, "bytes", 1 << 20) + unit - 1) / unit * unit + 1;
	ans->pace.stop = ans->pace.size;
}

static void
act_drip(Request *req, Answer *ans, const Action *action)
{
	(void) action;
	ans->sending = SEND_PACED;
	ans->pace.size = ans->pace.stop = ans->body->len;
	ans->pace.piece = rule_int(req, "bytes", 1);
	ans->pace.ms = rule_int(req, "ms", 100);
	ans->pace.chunked = rule_bool(req, "chunked");
}

static void
act_stall(Request *req, Answer *ans, const Action *action)
{
	(void) action;
	ans->sending = SEND_PACED;
	ans->pace.size = ans->pace.stop = ans->body->len;
	ans->pace.stall_at = ans->body->len / 2;
	ans->pace.stall = rule_seconds(req, 60);
	ans->pace.chunked = rule_bool(req, "chunked");
}

static void
act_impatient(Request *req, Answer *ans, const Action *action)
{
	(void) action;
	ans->sending = SEND_PACED;
	ans->pace.size = ans->pace.stop = ans->body->len;
	ans->pace.patience_ms = rule_int(req, "ms", 1000);
}

/* Between two users in the middle of a list; at the end of what is no list, or has none. */
static void
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

/*
 * An empty body has no half: two bytes are announced then, so that the answer is cut all the
 * same.
 */
static void
act_half(Request *req, Answer *ans, const Action *action)
{
	(void) action;
	ans->sending = SEND_PACED;
	ans->pace.size = ans->body->len < 2 ? 2 : ans->body->len;
	ans->pace.stop = ans->body->len / 2;
	ans->pace.reset = rule_bool(req, "reset");
	ans->pace.chunked = rule_bool(req, "chunked");
}

static void
act_headers_only(Request *req, Answer *ans, const Action *action)
{
	(void) action;
	ans->sending = SEND_PACED;
	ans->pace.size = ans->body->len < 2 ? 2 : ans->body->len;
	ans->pace.seconds = rule_seconds(req, 60);
}

static void
act_wrong_length(Request *req, Answer *ans, const Action *action)
{
	(void) req;
	(void) action;
	ans->sending = SEND_PACED;
	ans->pace.size = ans->body->len + 1000;
	ans->pace.stop = ans->body->len;
}

static void
act_nothing(Request *req, Answer *ans, const Action *action)
{
	ans->sending = SEND_NOTHING;
	ans->pace.seconds = strcmp(action->name, "silence") == 0 ? rule_seconds(req, 60) : 0;
	ans->pace.reset = strcmp(action->name, "reset") == 0;
}

/* The delay itself is over when this is called. */
void
act_delay(Request *req, Answer *ans, const Action *action)
{
	(void) req;
	(void) ans;
	(void) action;
}

#define JSON "application/json"

static const Action actions[] = {
	{"status", "this status; the body is an API error unless given", act_status, "status",
		"headers body", 0, 0, NULL, NULL},
	{"retry_after", "429 with this Retry-After (default \"1\")", act_retry_after, "",
		"value status", 0, 0, NULL, NULL},
	{"reset", "RST, no answer", act_nothing, "", "", 0, 0, NULL, NULL},
	{"close", "FIN, no answer", act_nothing, "", "", 0, 0, NULL, NULL},
	{"silence", "no answer, then FIN after 60 seconds", act_nothing, "", "seconds", 0, 0, NULL,
		NULL},
	{"delay", "later, then as usual", act_delay, "ms", "", F_USUAL | F_CARRY, 0, NULL, NULL},
	{"drip", "the usual answer, 1 byte every 100 ms", act_drip, "", "bytes ms chunked",
		F_USUAL | F_CARRY, 0, NULL, NULL},
	{"stall", "the usual answer, its second half after 60 seconds", act_stall, "",
		"seconds chunked", F_USUAL | F_CARRY, 0, NULL, NULL},
	{"impatient", "the usual answer; RST when the client takes nothing for 1000 ms", act_impatient,
		"", "ms", F_USUAL, 0, NULL, NULL},
	{"spoil", "the usual list with these bytes after a user in its middle", act_spoil, "hex", "",
		F_USUAL, 0, JSON, NULL},
	{"half", "half of the body, then FIN or RST", act_half, "", "reset chunked", F_USUAL, 0, NULL,
		NULL},
	{"headers_only", "the body never comes; FIN after 60 seconds", act_headers_only, "", "seconds",
		F_USUAL, 0, NULL, NULL},
	{"wrong_length", "Content-Length is too large by 1000", act_wrong_length, "", "", F_USUAL, 0,
		NULL, NULL},
	{"empty", "no body", act_fixed, "", "status", F_USUAL, 0, NULL, ""},
	{"not_json", "plain text that claims to be JSON", act_fixed, "", "status", 0, 0, JSON,
		"This is not JSON, whatever the header says."},
	{"html", "a gateway's 502 page", act_fixed, "", "status", 0, 502, "text/html",
		"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n"
		"<center><h1>502 Bad Gateway</h1></center>\r\n"
		"<hr><center>gateway</center>\r\n</body>\r\n</html>\r\n"},
	{"huge", "a long array of users, 1 MB", act_huge, "", "bytes status", 0, 0, JSON,
		"{\"id\":4999999999,\"loginName\":\"huge\",\"deleted\":false,\"pid\":\"huge\"},"},
	{"deep", "10000 nested arrays", act_deep, "", "depth", 0, 0, JSON, NULL},
	{"bad_utf8", "a user with invalid UTF-8", act_fixed, "", "status", 0, 0, JSON,
		"[{\"id\":4999999999,\"deleted\":false,\"loginName\":\"bad\xff\xc3(\xed\xa0\x80\","
		"\"pid\":\"\xc0\x80\"}]"},
	{"nul", "a user with \\u0000", act_fixed, "", "status", 0, 0, JSON,
		"[{\"id\":4999999999,\"deleted\":false,\"loginName\":\"nul\\u0000byte\","
		"\"pid\":\"\\u0000\"}]"},
	{"wrong_types", "users with attributes of wrong types", act_fixed, "", "status", 0, 0, JSON,
		"[{\"id\":{\"a\":1},\"deleted\":\"perhaps\",\"loginName\":[1,2],\"isEnabled\":{},"
		"\"maxChats\":\"many\",\"profileIds\":\"none\",\"memberOf\":[3]},4,null,[]]"},
	{"redirect", "302 to somewhere", act_redirect, "location", "status", 0, 302, NULL, NULL},
	{"body", "any answer", act_body, "body", "status content_type", 0, 0, NULL, NULL},
	{"echo", "400 and the request's own body", act_echo, "", "", 0, 400, JSON, NULL},
};

#undef JSON

const Action *
action_find(const char *name)
{
	for (size_t i = 0; name && i < lengthof(actions); i++)
		if (strcmp(actions[i].name, name) == 0)
			return &actions[i];
	return NULL;
}

/* The part of --help about actions. */
void
action_help(void)
{
	for (size_t i = 0; i < lengthof(actions); i++)
		printf("  %-13s %s%s%s%s%s%s\n", actions[i].name, actions[i].help,
			   *actions[i].needs || *actions[i].takes ? " (" : "", actions[i].needs,
			   *actions[i].needs && *actions[i].takes ? " " : "", actions[i].takes,
			   *actions[i].needs || *actions[i].takes ? ")" : "");
}

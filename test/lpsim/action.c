/*-------------------------------------------------------------------------
 *
 * action.c
 *	  What can go wrong with an answer.
 *
 * The faults themselves are in paces.c, bodies.c, misname.c, leak.c and change.c.
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

/* Return a parameter of the request's rule, or "otherwise" if it is not given. */
int64_t
rule_int(const Request *req, const char *name, int64_t otherwise)
{
	json_object *v = json_member(req->rule->spec, name);

	return v ? json_object_get_int64(v) : otherwise;
}

/* The same for "seconds". */
double
rule_seconds(const Request *req, double otherwise)
{
	json_object *v = json_member(req->rule->spec, "seconds");

	return v ? json_object_get_double(v) : otherwise;
}

/* The same for a text, which lives as long as the rule. */
const char *
rule_text(const Request *req, const char *name, const char *otherwise)
{
	json_object *v = json_member(req->rule->spec, name);

	return v ? json_object_get_string(v) : otherwise;
}

/* Return true if a parameter is given and true. */
bool
rule_bool(const Request *req, const char *name)
{
	return json_object_get_boolean(json_member(req->rule->spec, name));
}

#define JSON "application/json"

static const Action actions[] = {
	{.name = "status", .help = "this status; the body is an API error unless given",
		.act = act_status, .needs = "status", .takes = "headers body shape"},
	{.name = "error", .help = "400 and an API error", .act = act_error,
		.takes = "status shape message fields", .status = 400, .text = "as the test asked for"},
	{.name = "shape", .help = "as usual; an error has this shape of body", .act = act_usual,
		.needs = "shape", .flags = F_USUAL | F_CARRY},
	{.name = "controls", .help = "400, control and bidirectional characters in the message",
		.act = act_error, .takes = "status shape", .status = 400,
		.text = "a\rb\nc\td\x1b[31me\ax\x7f\xc2\x85\u200b\u202e\u2066\u2028\ufeff\u061cz"},
	{.name = "retry_after", .help = "429 with this Retry-After (default \"1\")",
		.act = act_retry_after, .takes = "value status shape"},
	{.name = "reset", .help = "RST, no answer", .act = act_nothing},
	{.name = "close", .help = "FIN, no answer", .act = act_nothing},
	{.name = "silence", .help = "no answer, then FIN after 60 seconds", .act = act_nothing,
		.takes = "seconds"},
	{.name = "raw", .help = "these bytes, every ms one (0: all), then FIN; plain HTTP only",
		.act = act_raw, .takes = "text hex ms seconds"},
	{.name = "in_headers", .help = "the headers break off, FIN after 60 seconds; plain HTTP only",
		.act = act_raw, .takes = "ms seconds",
		.text = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Le"},
	{.name = "delay", .help = "later, then as usual", .act = act_delay, .needs = "ms",
		.flags = F_USUAL | F_CARRY},
	{.name = "hold", .help = "when the faults are removed, then as usual", .act = act_hold,
		.flags = F_USUAL | F_CARRY},
	{.name = "drip", .help = "the usual answer, 1 byte every 100 ms", .act = act_drip,
		.takes = "bytes ms chunked", .flags = F_USUAL | F_CARRY},
	{.name = "stall", .help = "the usual answer, its second half after 60 seconds",
		.act = act_stall, .takes = "seconds chunked", .flags = F_USUAL | F_CARRY},
	{.name = "impatient", .help = "the usual answer; RST when the client takes nothing for 1000 ms",
		.act = act_impatient, .takes = "ms", .flags = F_USUAL},
	{.name = "spoil", .help = "the usual list with these bytes after a user in its middle",
		.act = act_spoil, .needs = "hex", .flags = F_USUAL, .type = JSON},
	{.name = "half", .help = "half of the body, then FIN or RST", .act = act_half,
		.takes = "reset chunked", .flags = F_USUAL},
	{.name = "headers_only", .help = "the body never comes; FIN after 60 seconds",
		.act = act_headers_only, .takes = "seconds", .flags = F_USUAL},
	{.name = "wrong_length", .help = "Content-Length is too large by 1000",
		.act = act_wrong_length, .flags = F_USUAL},
	{.name = "empty", .help = "no body", .act = act_fixed, .takes = "status", .flags = F_USUAL,
		.text = ""},
	{.name = "not_json", .help = "plain text that claims to be JSON", .act = act_fixed,
		.takes = "status", .type = JSON, .text = "This is not JSON, whatever the header says."},
	{.name = "html", .help = "a gateway's 502 page, whatever the status", .act = act_fixed,
		.takes = "status", .status = 502, .type = "text/html",
		.text = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n"
		"<center><h1>502 Bad Gateway</h1></center>\r\n"
		"<hr><center>gateway</center>\r\n</body>\r\n</html>\r\n"},
	{.name = "page", .help = "a gateway's page for this status (302, 404, 405, 407, 421 ...)",
		.act = act_page, .needs = "status", .type = "text/html"},
	{.name = "huge", .help = "a long array of users, or of this unit, 1 MB", .act = act_huge,
		.takes = "bytes status unit", .type = JSON,
		.text = "{\"id\":4999999999,\"loginName\":\"huge\",\"deleted\":false,\"pid\":\"huge\"},"},
	{.name = "bomb", .help = "an array of empty objects, 1 MB", .act = act_huge,
		.takes = "bytes status", .type = JSON, .text = "{},"},
	{.name = "endless", .help = "an array of users, or of this unit, without end",
		.act = act_endless, .takes = "status unit", .type = JSON,
		.text = "{\"id\":4999999999,\"loginName\":\"endless\",\"deleted\":false,\"pid\":\"e\"},"},
	{.name = "deep", .help = "10000 nested arrays, or of object, both", .act = act_deep,
		.takes = "depth of", .type = JSON},
	{.name = "wide", .help = "a user with 100000 attributes", .act = act_wide,
		.takes = "members status", .type = JSON},
	{.name = "bad_utf8", .help = "a user with invalid UTF-8", .act = act_fixed, .takes = "status",
		.type = JSON,
		.text = "[{\"id\":4999999999,\"deleted\":false,"
		"\"loginName\":\"bad\xff\xc3(\xed\xa0\x80\",\"pid\":\"\xc0\x80\"}]"},
	{.name = "nul", .help = "a user with \\u0000", .act = act_fixed, .takes = "status",
		.type = JSON,
		.text = "[{\"id\":4999999999,\"deleted\":false,\"loginName\":\"nul\\u0000byte\","
		"\"pid\":\"\\u0000\"}]"},
	{.name = "wrong_types", .help = "users with attributes of wrong types", .act = act_fixed,
		.takes = "status", .type = JSON,
		.text = "[{\"id\":{\"a\":1},\"deleted\":\"perhaps\",\"loginName\":[1,2],\"isEnabled\":{},"
		"\"maxChats\":\"many\",\"profileIds\":\"none\",\"memberOf\":[3]},4,null,[]]"},
	{.name = "redirect", .help = "302 to somewhere", .act = act_redirect, .needs = "location",
		.takes = "status", .status = 302},
	{.name = "body", .help = "any answer", .act = act_body, .needs = "body",
		.takes = "status content_type"},
	{.name = "echo", .help = "400 and the request's own body", .act = act_echo, .status = 400,
		.type = JSON},
	{.name = "leak", .help = "400; the message repeats bearer token, passwords, client_secret",
		.act = act_leak, .takes = "status shape encoding", .status = 400},
	{.name = "misname", .help = "the usual success, whose body names other users or none",
		.act = act_misname, .needs = "form", .flags = F_USUAL, .type = JSON},
	{.name = "meddle", .help = "before the request is judged, another client writes; then as usual",
		.act = act_usual, .prepare = prepare_meddle, .takes = "user set delete",
		.flags = F_USUAL | F_CARRY},
};

#undef JSON

/* Return the action of this name, or NULL. */
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
	{
		const char *needs = actions[i].needs ? actions[i].needs : "";
		const char *takes = actions[i].takes ? actions[i].takes : "";
		bool		both = *needs && *takes;

		printf("  %-13s %s%s%s%s%s%s\n", actions[i].name, actions[i].help,
			   *needs || *takes ? " (" : "", needs, both ? " " : "", takes,
			   *needs || *takes ? ")" : "");
	}
}

/*-------------------------------------------------------------------------
 *
 * paces.c
 *	  Faults of sending: late, slow, in part, not at all.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <string.h>

#include "action.h"
#include "fault.h"
#include "json.h"

/* A few bytes at a time. */
void
act_drip(Request *req, Answer *ans, const Action *action)
{
	(void) action;
	ans->sending = SEND_PACED;
	ans->pace.size = ans->pace.stop = ans->body->len;
	ans->pace.piece = rule_int(req, "bytes", 1);
	ans->pace.ms = rule_int(req, "ms", 100);
	ans->pace.chunked = rule_bool(req, "chunked");
}

/* Half of the body, and the rest much later. */
void
act_stall(Request *req, Answer *ans, const Action *action)
{
	(void) action;
	ans->sending = SEND_PACED;
	ans->pace.size = ans->pace.stop = ans->body->len;
	ans->pace.stall_at = ans->body->len / 2;
	ans->pace.stall = rule_seconds(req, 60);
	ans->pace.chunked = rule_bool(req, "chunked");
}

/* Hang up on a client that takes nothing. */
void
act_impatient(Request *req, Answer *ans, const Action *action)
{
	(void) action;
	ans->sending = SEND_PACED;
	ans->pace.size = ans->pace.stop = ans->body->len;
	ans->pace.patience_ms = rule_int(req, "ms", 1000);
}

/*
 * An empty body has no half: two bytes are announced then, so that the answer is cut all the
 * same.
 */
void
act_half(Request *req, Answer *ans, const Action *action)
{
	(void) action;
	ans->sending = SEND_PACED;
	ans->pace.size = ans->body->len < 2 ? 2 : ans->body->len;
	ans->pace.stop = ans->body->len / 2;
	ans->pace.reset = rule_bool(req, "reset");
	ans->pace.chunked = rule_bool(req, "chunked");
}

/* The headers, and no body. */
void
act_headers_only(Request *req, Answer *ans, const Action *action)
{
	(void) action;
	ans->sending = SEND_PACED;
	ans->pace.size = ans->body->len < 2 ? 2 : ans->body->len;
	ans->pace.seconds = rule_seconds(req, 60);
}

/* A body shorter than Content-Length. */
void
act_wrong_length(Request *req, Answer *ans, const Action *action)
{
	(void) req;
	(void) action;
	ans->sending = SEND_PACED;
	ans->pace.size = ans->body->len + 1000;
	ans->pace.stop = ans->body->len;
}

/* No answer: close, reset, or wait and close. */
void
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

/* The same, when the rule is removed. */
void
act_hold(Request *req, Answer *ans, const Action *action)
{
	act_delay(req, ans, action);
}

/* Bytes as they are, without HTTP.  The text, then the hex digits. */
void
act_raw(Request *req, Answer *ans, const Action *action)
{
	Buf			b = {0};

	buf_puts(&b, rule_text(req, "text", action->text ? action->text : ""));
	put_hex(&b, rule_text(req, "hex", ""));
	substitute(ans, 0, NULL, body_from(&b));
	ans->sending = SEND_RAW;
	ans->pace.ms = rule_int(req, "ms", 0);
	ans->pace.seconds = rule_seconds(req, action->text ? 60 : 0);
}

/* A list that never ends. */
void
act_endless(Request *req, Answer *ans, const Action *action)
{
	substitute(ans, rule_int(req, "status", 0), action->type, body_from_text(""));
	ans->sending = SEND_PACED;
	ans->pace.unit = rule_text(req, "unit", action->text);
	ans->pace.size = ans->pace.stop = UINT64_MAX;
	ans->pace.chunked = true;
}

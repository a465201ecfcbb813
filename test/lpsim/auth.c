/*-------------------------------------------------------------------------
 *
 * auth.c
 *	  Both token services, and the tokens they issued.
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

#include "auth.h"
#include "clock.h"
#include "config.h"
#include "json.h"
#include "options.h"

/* Tokens are few; when a runaway client fetches more, the oldest goes. */
#define MAX_TOKENS		1024

typedef struct Token
{
	char	   *text;
	double		expires;
	char		csrf[32];		/* of the Login service */
} Token;

static Token tokens[MAX_TOKENS];
static size_t ntokens;			/* issued so far; the place is modulo MAX_TOKENS */

/* Return the issued token of this text which is still valid, or NULL. */
static Token *
token_find(const char *text)
{
	size_t		n = ntokens < MAX_TOKENS ? ntokens : MAX_TOKENS;

	for (size_t i = 0; i < n; i++)
		if (strcmp(tokens[i].text, text) == 0 && tokens[i].expires > now_monotonic())
			return &tokens[i];
	return NULL;
}

/* Return true if the request has a bearer token which is known and has not expired. */
bool
bearer_valid(const Request *req)
{
	const char *bearer = bearer_of(req);

	return bearer && (strcmp(bearer, opt.token) == 0 || token_find(bearer));
}

/* Tokens need only differ: on a loopback interface they need not be hard to guess. */
static const char *
token_issue(double ttl)
{
	Token	   *t = &tokens[ntokens % MAX_TOKENS];
	const char *fixed = config_text("token_token");
	char		text[64];

	ntokens++;
	snprintf(text, sizeof(text), "sim-%08lx-%06zu",
			 (unsigned long) (now_monotonic() * 1e6) & 0xffffffff, ntokens);
	free(t->text);
	t->text = copy_text(fixed ? fixed : text);
	t->expires = now_monotonic() + ttl;
	t->csrf[0] = '\0';
	return t->text;
}

/* Let all issued tokens expire. */
void
tokens_expire(void)
{
	for (size_t i = 0; i < MAX_TOKENS; i++)
		tokens[i].expires = 0;
}

static void
answer_oauth_error(Answer *ans, unsigned status, const char *name)
{
	Buf			b = {0};

	buf_printf(&b, "{\"error\":\"%s\"}", name);
	answer_json(ans, status, &b);
}

/* OAuth 2.0, client credentials. */
void
token_oauth(Request *req, Answer *ans)
{
	int64_t		ttl = config_int("token_ttl");
	Buf			b = {0};

	if (!content_is(req, "application/x-www-form-urlencoded"))
		answer_oauth_error(ans, 400, "invalid_request");
	else if (!form_is(req, "grant_type", "client_credentials"))
		answer_oauth_error(ans, 400, "unsupported_grant_type");
	else if (!form_is(req, "client_id", opt.client_id) ||
			 !form_is(req, "client_secret", opt.client_secret))
		answer_oauth_error(ans, 401, "invalid_client");
	else
	{
		buf_puts(&b, "{\"access_token\":");
		put_text(&b, token_issue(ttl));
		buf_puts(&b, ",\"token_type\":\"Bearer\"");
		if (config_bool("expires_in"))
			buf_printf(&b, ",\"expires_in\":%" PRId64, ttl);
		buf_puts(&b, "}");
		answer_json(ans, 200, &b);
	}
}

/* The Login service: eight hours, unless another life of tokens was asked for. */
static int64_t
login_ttl(void)
{
	int64_t		ttl = config_int("token_ttl");

	return ttl == 3600 ? 28800 : ttl;
}

/* The Login service nests its errors, if no other shape was asked for (an inference). */
static void
answer_login_error(Answer *ans, unsigned status, const char *message)
{
	if (ans->shape == NULL && config_is("error_shape", "flat"))
		ans->shape = "nested";
	answer_error(ans, status, "%s", message);
}

static void
put_csrf(Token *t)
{
	snprintf(t->csrf, sizeof(t->csrf), "csrf-%06zu", ntokens);
}

/* The Login service: a bearer token for a user name and password. */
void
token_login(Request *req, Answer *ans)
{
	int64_t		ttl = login_ttl();
	Buf			b = {0};

	if (!content_is(req, "application/json"))
		answer_login_error(ans, 415, "Content-Type must be application/json");
	else if (request_parameter(req, "v") == NULL)
		answer_login_error(ans, 400, "the query lacks v=1.3");
	else if (!text_is(json_member(req->json, "username"), opt.username) ||
			 !text_is(json_member(req->json, "password"), opt.password))
		answer_login_error(ans, 401, "wrong user name or password");
	else
	{
		const char *bearer = token_issue(ttl);
		Token	   *t = token_find(bearer);

		if (t)
			put_csrf(t);
		buf_printf(&b, "{\"csrf\":\"%s\",\"bearer\":", t ? t->csrf : "");
		put_text(&b, bearer);
		buf_printf(&b, ",\"sessionTTl\":\"%" PRId64 "\",\"config\":{\"loginName\":", ttl * 1000);
		put_text(&b, opt.username);
		buf_puts(&b, "}}");
		answer_json(ans, 200, &b);
	}
}

/* Prolong a session of the Login service: its bearer token, and its csrf in the body. */
void
token_refresh(Request *req, Answer *ans)
{
	const char *bearer = bearer_of(req);
	Token	   *t = bearer ? token_find(bearer) : NULL;

	if (!content_is(req, "application/json"))
		answer_login_error(ans, 415, "Content-Type must be application/json");
	else if (t == NULL || t->csrf[0] == '\0')
		answer_login_error(ans, 401, "no session of the Login service has this bearer token");
	else if (!text_is(json_member(req->json, "csrf"), t->csrf))
		answer_login_error(ans, 401, "csrf is not that of the session");
	else
	{
		t->expires = now_monotonic() + login_ttl();
		answer_empty(ans, 204);
	}
}

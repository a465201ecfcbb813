/*-------------------------------------------------------------------------
 *
 * route.c
 *	  Routes of the account, and what each request must pass.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "account.h"
#include "auth.h"
#include "clock.h"
#include "config.h"
#include "domain.h"
#include "log.h"
#include "neighbour.h"
#include "options.h"
#include "route.h"
#include "users_api.h"
#include "version.h"

static struct
{
	double		since;
	int64_t		count;
}			rate;

static bool
rate_exceeded(void)
{
	int64_t		limit = config_int("rate_limit");
	double		now = now_monotonic();

	if (limit == 0)
		return false;
	if (now - rate.since >= 1)
	{
		rate.since = now;
		rate.count = 0;
	}
	return ++rate.count > limit;
}

/* Begin to count for "rate_limit" anew. */
void
rate_reset(void)
{
	rate.since = 0;
}

/* Return true if issued tokens have the scope which the request needs. */
static bool
scope_suffices(const Request *req)
{
	const char *scope = config_text("scope");
	const char *needed = strcmp(req->method, "GET") == 0 ? "users.read" : "users.write";

	if (strcmp(bearer_of(req), opt.token) == 0)
		return true;
	return list_has(scope, needed, strlen(needed)) &&
		(version_of(req) < 6 || list_has(scope, "users.external", 14));
}

/* What every request to the account configuration must pass.  Return false with an answer. */
static bool
gate(Request *req, Answer *ans)
{
	bool		get = strcmp(req->method, "GET") == 0;
	bool		body = !get && (req->body.len > 0 || strcmp(req->method, "DELETE") != 0);

	if (!bearer_valid(req))
		answer_error(ans, 401, "the bearer token is missing, unknown or expired");
	else if (config_bool("forbid") || !scope_suffices(req))
		answer_error(ans, 403, "the key lacks the right");
	else if (rate_exceeded())
	{
		answer_error(ans, 429, "too many requests");
		answer_header(ans, "Retry-After", "1");
	}
	else if (request_parameter(req, "v") == NULL && !(get && config_is("without_v", "2.0")))
		answer_error(ans, 400,
					 "the query lacks v: the real service would answer as version 2.0, "
					 "with another entity");
	else if (body && !content_is(req, "application/json"))
		answer_error(ans, 415, "Content-Type must be application/json");
	else if (body && req->json == NULL)
		answer_error(ans, 400, "the body is not JSON: %s",
					 req->json_error ? req->json_error : "null");
	else
		return true;
	return false;
}

typedef struct Route
{
	const char *method;
	const char *path;			/* a star matches one segment */
	void		(*handler) (Request *req, Answer *ans);
	bool		gated;
} Route;

#define CONFIG "/api/account/*/configuration/le-users/"

/* The first which matches; the first star is always the account. */
static const Route routes[] = {
	{"GET", "/api/account/*/service/baseURI.json", domains_get, false},
	{"GET", "/api/account/*/service/*/baseURI.json", domains_get, false},
	{"POST", "/sentinel/api/v2/account/*/app/token", token_oauth, false},
	{"POST", "/api/account/*/login", token_login, false},
	{"POST", "/api/account/*/refresh", token_refresh, false},
	{"GET", CONFIG "users", users_get_all, true},
	{"POST", CONFIG "users", users_post, true},
	{"PUT", CONFIG "users", users_put, true},
	{"DELETE", CONFIG "users", users_delete, true},
	{"GET", CONFIG "users/*", users_get_one, true},
	{"PUT", CONFIG "users/*", users_put_one, true},
	{"DELETE", CONFIG "users/*", users_delete_one, true},
	{"PUT", CONFIG "users/*/resetPassword", users_reset_password, true},
	{"GET", CONFIG "*", neighbours_get, true},
	{"GET", CONFIG "*/*", neighbours_get, true},
};

#undef CONFIG

static bool
route_matches(const char *pattern, Request *req)
{
	const char *s = req->path;
	int			stars = 0;

	memset(req->arg, 0, sizeof(req->arg));
	while (*pattern)
	{
		size_t		n = strcspn(s, "/");

		if (*pattern != '*')
		{
			if (*s++ != *pattern++)
				return false;
			continue;
		}
		if (n == 0 || n >= sizeof(req->arg[0]) || stars == (int) lengthof(req->arg))
			return false;
		memcpy(req->arg[stars++], s, n);
		s += n;
		pattern++;
	}
	return *s == '\0';
}

/* NULL with *known false: no such path; true: the path has other methods. */
static const Route *
route_find(const Route *list, size_t n, Request *req, bool *known)
{
	*known = false;
	for (size_t i = 0; i < n; i++)
	{
		if (!route_matches(list[i].path, req))
			continue;
		*known = true;
		if (strcmp(list[i].method, req->method) == 0)
			return &list[i];
	}
	return NULL;
}

static void
add_revision(Request *req, Answer *ans)
{
	Neighbour  *nb = neighbour_find(req->arg[1]);
	int64_t		revision = nb ? nb->revision : account.revision;
	bool		opaque = config_is("revision_header", "opaque");
	bool		both = config_is("revision_header", "both") || version_of(req) >= 5;
	char		text[32];

	if (config_is("revision_header", "none"))
		return;
	if (both || config_is("revision_header", "ac-revision"))
	{
		snprintf(text, sizeof(text), "%" PRId64, revision);
		answer_header(ans, "ac-revision", text);
	}
	if (both || opaque || config_is("revision_header", "ETag"))
	{
		snprintf(text, sizeof(text), "\"%s%" PRId64 "\"", opaque ? "rev-" : "", revision);
		answer_header(ans, "ETag", text);
	}
}

/* Does what the request asks for, as the service does. */
void
carry_out(Request *req, Answer *ans)
{
	bool		known;
	const Route *route = route_find(routes, lengthof(routes), req, &known);
	int64_t		before = account.revision;

	if (!known)
		answer_error(ans, 404, "no such path: %s", req->path);
	else if (route == NULL)
		answer_error(ans, 405, "%s is not a method of %s", req->method, req->path);
	else if (strcmp(opt.account, "*") != 0 && strcmp(req->arg[0], opt.account) != 0)
		answer_error(ans, 404, "no such account: %s", req->arg[0]);
	else if (!route->gated)
		route->handler(req, ans);
	else
	{
		if (gate(req, ans))
			route->handler(req, ans);
		add_revision(req, ans);
	}
	req->entry->applied = ans->status < 400 || account.revision != before;
}

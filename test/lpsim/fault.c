/*-------------------------------------------------------------------------
 *
 * fault.c
 *	  Rules: which request is struck by which action.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <limits.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "config.h"
#include "fault.h"
#include "json.h"
#include "leak.h"
#include "log.h"
#include "misname.h"
#include "route.h"
#include "shape.h"

/* Bounds of the answers which are made up, so that a typo does not fill memory. */
#define MAX_HUGE		(INT64_C(64) * 1024 * 1024 * 1024)
#define MAX_NESTING		50000000

#define RULE_COMMON "method path login skip times kept_only applied action"

/* The parameters of rules.  A double may also be written as a whole number. */
static const struct
{
	const char *name;
	json_type	type;
	int64_t		min;
	int64_t		max;
	const char *allowed;
}			rule_keys[] = {
	{"method", json_type_string, 0, 0, NULL},
	{"path", json_type_string, 0, 0, NULL},
	{"login", json_type_string, 0, 0, NULL},
	{"skip", json_type_int, 0, INT64_MAX, NULL},
	{"times", json_type_int, 0, INT64_MAX, NULL},
	{"kept_only", json_type_boolean, 0, 0, NULL},
	{"applied", json_type_boolean, 0, 0, NULL},
	{"action", json_type_string, 0, 0, NULL},
	{"status", json_type_int, 200, 599, NULL},
	{"headers", json_type_object, 0, 0, NULL},
	{"body", json_type_string, 0, 0, NULL},
	{"value", json_type_string, 0, 0, NULL},
	{"seconds", json_type_double, 0, INT_MAX / 1000, NULL},
	{"ms", json_type_int, 0, INT_MAX, NULL},
	{"bytes", json_type_int, 1, MAX_HUGE, NULL},
	{"depth", json_type_int, 1, MAX_NESTING, NULL},
	{"location", json_type_string, 0, 0, NULL},
	{"content_type", json_type_string, 0, 0, NULL},
	{"reset", json_type_boolean, 0, 0, NULL},
	{"chunked", json_type_boolean, 0, 0, NULL},
	{"hex", json_type_string, 0, 0, NULL},
	{"text", json_type_string, 0, 0, NULL},
	{"unit", json_type_string, 0, 0, NULL},
	{"message", json_type_string, 0, 0, NULL},
	{"fields", json_type_string, 0, 0, NULL},
	{"members", json_type_int, 0, MAX_NESTING, NULL},
	{"of", json_type_string, 0, 0, "array|object|both"},
	{"shape", json_type_string, 0, 0, SHAPES},
	{"form", json_type_string, 0, 0, MISNAMES},
	{"encoding", json_type_string, 0, 0, ENCODINGS},
	{"user", json_type_string, 0, 0, NULL},
	{"set", json_type_object, 0, 0, NULL},
	{"delete", json_type_boolean, 0, 0, NULL},
};

static Rule *rules;

static bool
check_rule_value(const char *name, json_object *v, Problem *p)
{
	size_t		i = 0;
	double		d = json_object_get_double(v);

	while (i < lengthof(rule_keys) && strcmp(rule_keys[i].name, name) != 0)
		i++;
	if (i == lengthof(rule_keys))
		return problem(p, 400, "", "unknown key of a fault: %s", name);
	if (!json_object_is_type(v, rule_keys[i].type) &&
		!(rule_keys[i].type == json_type_double && json_object_is_type(v, json_type_int)))
		return problem(p, 400, "", "%s must be of type %s", name,
					   json_type_to_name(rule_keys[i].type));
	if (rule_keys[i].max && (d < rule_keys[i].min || d > rule_keys[i].max))
		return problem(p, 400, "", "%s is out of range", name);
	if (rule_keys[i].allowed &&
		!list_has(rule_keys[i].allowed, json_object_get_string(v), json_object_get_string_len(v)))
		return problem(p, 400, "", "%s must be one of %s", name, rule_keys[i].allowed);
	return true;
}

static bool
check_headers(json_object *headers, Problem *p)
{
	if (!json_object_is_type(headers, json_type_object))
		return headers == NULL;
	if (json_object_object_length(headers) > 4)
		return problem(p, 400, "", "more than 4 headers");
	{
		json_object_object_foreach(headers, name, value)
			if (*name == '\0' || strpbrk(name, " :\r\n") ||
				!json_object_is_type(value, json_type_string))
			return problem(p, 400, "", "not a header: %s", name);
	}
	return true;
}

/* The action of a rule which is in order, or NULL with a problem. */
const Action *
check_rule(json_object *spec, Problem *p)
{
	const Action *action;
	const char *name = json_object_get_string(json_member(spec, "action"));

	if (!json_object_is_type(spec, json_type_object))
		problem(p, 400, "", "a fault must be an object");
	else if ((action = action_find(name)) == NULL)
		problem(p, 400, "", "unknown action: %s", name ? name : "none given");
	else
	{
		json_object_object_foreach(spec, key, value)
		{
			size_t		n = strlen(key);

			if (check_rule_value(key, value, p) && !list_has(RULE_COMMON, key, n) &&
				!list_has(action->needs, key, n) && !list_has(action->takes, key, n))
				problem(p, 400, "", "%s is no parameter of the action %s", key, name);
		}
		check_headers(json_member(spec, "headers"), p);
		if (action->needs && json_member(spec, action->needs) == NULL)
			problem(p, 400, "", "the action %s needs %s", name, action->needs);
		if (p->status == 0)
			return action;
	}
	return NULL;
}

/* Give up one reference to a rule. */
void
rule_release(Rule *r)
{
	if (r == NULL || --r->refs > 0)
		return;
	json_object_put(r->spec);
	free(r);
}

/* Add a rule which check_rule() has accepted, as the last. */
void
rule_add(json_object *spec, const Action *action)
{
	Rule	   *r = need(calloc(1, sizeof(Rule)));
	Rule	  **end = &rules;

	r->refs = 1;
	r->spec = json_object_get(spec);
	r->action = action;
	while (*end)
		end = &(*end)->next;
	*end = r;
}

/* Remove all rules; requests in hand keep theirs. */
void
rules_clear(void)
{
	while (rules)
	{
		Rule	   *next = rules->next;

		rules->removed = true;
		rule_release(rules);
		rules = next;
	}
}

/* Every rule, and how often it struck. */
void
put_rules(Buf *b)
{
	buf_put(b, "[", 1);
	for (Rule *r = rules; r; r = r->next)
	{
		buf_printf(b, "%s{\"struck\":%" PRId64 ",\"seen\":%" PRId64 ",\"fault\":",
				   r == rules ? "" : ",\n", r->struck, r->seen);
		put_json(b, r->spec, false, NULL);
		buf_put(b, "}", 1);
	}
	buf_put(b, "]", 1);
}

static bool
rule_matches(const Rule *r, const Request *req)
{
	const char *method = json_object_get_string(json_member(r->spec, "method"));
	const char *path = json_object_get_string(json_member(r->spec, "path"));
	const char *login = json_object_get_string(json_member(r->spec, "login"));

	if (json_object_get_boolean(json_member(r->spec, "kept_only")) && req->nth < 2)
		return false;
	return (method == NULL || strcasecmp(method, req->method) == 0) &&
		(path == NULL || strstr(req->path, path)) &&
		(login == NULL || entry_has_login(req->entry, login));
}

/*
 * The first rule which matches, has skipped enough, and is not used up,
 * strikes; those after it do not see the request.
 */
Rule *
rule_for(const Request *req)
{
	for (Rule *r = rules; r; r = r->next)
	{
		json_object *times = json_member(r->spec, "times");
		int64_t		most = times ? json_object_get_int64(times) : 1;

		if ((most > 0 && r->struck >= most) || !rule_matches(r, req))
			continue;
		if (++r->seen <= json_object_get_int64(json_member(r->spec, "skip")))
			continue;
		r->struck++;
		r->refs++;
		return r;
	}
	return NULL;
}

/*
 * The usual answer to a request which is not carried out: what the client sent
 * comes back as if it had been.  It is only the raw material of a fault.
 */
static void
pretend(Request *req, Answer *ans)
{
	bool		created = strcmp(req->method, "POST") == 0 && strstr(req->path, "/le-users/");
	Buf			b = {0};

	if (req->rule->action->flags & F_CARRY)
	{
		answer_error(ans, 503, "not carried out, as the test asked for");
		return;
	}
	buf_put(&b, req->body.data, req->body.len);
	answer_json(ans, created ? 201 : 200, &b);
}

/* The answer to a request which a fault may have struck. */
void
answer_account(Request *req, Answer *ans)
{
	const Action *action = req->rule ? req->rule->action : NULL;
	json_object *applied = action ? json_member(req->rule->spec, "applied") : NULL;
	bool		changes = strcmp(req->method, "GET") != 0 && strstr(req->path, "/le-users/");
	bool		carry = action == NULL || (action->flags & F_CARRY);

	if (action)
		ans->shape = rule_text(req, "shape", NULL);
	if (action && action->prepare)
		action->prepare(req);
	if (applied)
		carry = json_object_get_boolean(applied);
	if (carry || (!changes && (action->flags & F_USUAL) && !(action->flags & F_CARRY)))
		carry_out(req, ans);
	else
		pretend(req, ans);
	if (action && !(action->flags & F_USUAL))
		answer_drop_headers(ans);
	if (action)
		action->act(req, ans, action);
}

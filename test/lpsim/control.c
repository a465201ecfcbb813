/*-------------------------------------------------------------------------
 *
 * control.c
 *	  The control interface below /_sim/.
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
#include <strings.h>

#include "account.h"
#include "attribute.h"
#include "auth.h"
#include "change.h"
#include "config.h"
#include "control.h"
#include "fault.h"
#include "http.h"
#include "json.h"
#include "listing.h"
#include "log.h"
#include "neighbour.h"
#include "options.h"
#include "route.h"
#include "tally.h"
#include "view.h"

typedef struct ControlRoute
{
	const char *method;
	const char *path;
	void		(*handler) (Request *req, Answer *ans);
	const char *query;			/* parameters it takes */
	const char *help;
} ControlRoute;

static void
control_log(Request *req, Answer *ans)
{
	Buf			b = {0};

	(void) req;
	buf_put(&b, "[", 1);
	for (size_t i = 0; i < request_log.n; i++)
	{
		buf_puts(&b, i ? ",\n" : "");
		put_entry(&b, request_log.entries[i]);
	}
	buf_put(&b, "]", 1);
	answer_json(ans, 200, &b);
}

static void
control_log_clear(Request *req, Answer *ans)
{
	(void) req;
	log_clear();
	answer_text(ans, 200, "ok\n");
}

static void
control_count(Request *req, Answer *ans)
{
	const char *method = request_parameter(req, "method");
	const char *path = request_parameter(req, "path");
	const char *login = request_parameter(req, "login");
	const char *text = request_parameter(req, "status");
	int64_t		status = -1;
	size_t		n = 0;

	if (text && !parse_int64(text, &status))
	{
		answer_text(ans, 400, "status is not a number: %s\n", text);
		return;
	}
	for (size_t i = 0; i < request_log.n; i++)
	{
		const Entry *e = request_log.entries[i];

		n += (method == NULL || strcasecmp(method, e->method) == 0) &&
			(path == NULL || strstr(e->path, path)) &&
			(login == NULL || entry_has_login(e, login)) &&
			(status == -1 || status == e->status);
	}
	answer_text(ans, 200, "%zu\n", n);
}

static void
control_connections(Request *req, Answer *ans)
{
	(void) req;
	answer_text(ans, 200, "%" PRId64 "\n", connections_seen);
}

static void
control_open(Request *req, Answer *ans)
{
	(void) req;
	answer_text(ans, 200, "%" PRId64 "\n", connections_open);
}

static void
control_created(Request *req, Answer *ans)
{
	(void) req;
	answer_text(ans, 200, "%" PRId64 "\n", account.created);
}

static void
control_revision(Request *req, Answer *ans)
{
	(void) req;
	answer_text(ans, 200, "%" PRId64 "\n", account.revision);
}

static void
control_users(Request *req, Answer *ans)
{
	View	   *view = view_everything(req, true);
	Buf			b = {0};

	buf_put(&b, "[", 1);
	for (size_t i = 0; i < account.nusers; i++)
	{
		buf_puts(&b, i ? ",\n" : "");
		put_entity(&b, account.users[i]->entity, view);
	}
	buf_put(&b, "]", 1);
	answer_json(ans, 200, &b);
	view_free(view);
}

static void
control_user(Request *req, Answer *ans)
{
	const char *login = request_parameter(req, "login");
	char	   *key = login_key(login);
	User	   *u = user_by_key(key, NULL);
	View	   *view;
	Buf			b = {0};

	free(key);
	if (login == NULL)
		answer_text(ans, 400, "the query lacks login=\n");
	else if (u == NULL)
		answer_text(ans, 404, "no user %s\n", login);
	else
	{
		view = view_everything(req, true);
		put_entity(&b, u->entity, view);
		answer_json(ans, 200, &b);
		view_free(view);
	}
}

static void
control_duplicates(Request *req, Answer *ans)
{
	Buf			b = {0};

	(void) req;
	buf_put(&b, "[", 1);
	for (size_t i = 0; i < account.nusers; i++)
	{
		User	   *u = account.users[i];

		/* Once per login: only the last in its chain which has others before it. */
		if (u->deleted || user_by_key(u->key, u) || user_by_key(u->key, NULL) == u)
			continue;
		buf_puts(&b, b.len > 1 ? "," : "");
		put_text(&b, u->key);
	}
	buf_put(&b, "]", 1);
	answer_json(ans, 200, &b);
}

/* The id an entity shall have: its own, quoted or not, or the next one. */
static bool
direct_id(json_object *item, int64_t *id, Problem *p)
{
	json_object *v = convert_scalar(T_LONG, json_member(item, "id"));

	*id = v ? json_object_get_int64(v) : account.next_id;
	json_object_put(v);
	if (!json_object_is_type(item, json_type_object))
		return problem(p, 400, "", "a user must be an object");
	if (user_by_id(*id))
		return problem(p, 400, "", "a user with id %" PRId64 " is there already", *id);
	return true;
}

static void
control_users_add(Request *req, Answer *ans)
{
	Problem		p = {0};
	int64_t		id;
	size_t		n = 0;

	if (!json_object_is_type(req->json, json_type_array))
		problem(&p, 400, "", "the body must be an array of users");
	for (size_t i = 0; p.status == 0 && i < json_object_array_length(req->json); i++)
	{
		json_object *item = json_object_array_get_idx(req->json, i);

		if (!direct_id(item, &id, &p))
			break;
		json_object_object_add(item, "id", json_object_new_int64(id));
		set_bool_if_absent(item, "deleted", false);
		user_add(id, item);
		n++;
	}
	account.revision += n > 0;
	if (p.status)
		answer_text(ans, 400, "%s (%zu were put in)\n", p.message, n);
	else
		answer_text(ans, 200, "%zu\n", n);
}

/* Make everything as it was at the start. */
void
sim_reset(void)
{
	config_reset();
	neighbours_reset();
	users_clear();
	users_generate(opt.users);
	log_clear();
	rules_clear();
	tokens_expire();
	rate_reset();
	listing_forget();
}

static void
control_reset(Request *req, Answer *ans)
{
	(void) req;
	sim_reset();
	answer_text(ans, 200, "ok\n");
}

static void
control_tokens_expire(Request *req, Answer *ans)
{
	(void) req;
	tokens_expire();
	answer_text(ans, 200, "ok\n");
}

static void
control_config(Request *req, Answer *ans)
{
	Buf			b = {0};

	(void) req;
	put_config(&b);
	answer_json(ans, 200, &b);
}

static void
control_config_set(Request *req, Answer *ans)
{
	Problem		p = {0};

	if (!json_object_is_type(req->json, json_type_object))
		problem(&p, 400, "", "the body must be an object");
	else
	{
		json_object_object_foreach(req->json, name, value)
			check_knob(name, value, &p);
	}
	if (p.status)
		answer_text(ans, 400, "%s\n", p.message);
	else
	{
		json_object_object_foreach(req->json, name, value)
			config_set(name, value);
		control_config(req, ans);
	}
}

static void
control_faults(Request *req, Answer *ans)
{
	Buf			b = {0};

	(void) req;
	put_rules(&b);
	answer_json(ans, 200, &b);
}

/* All of them or, when one is not in order, none. */
static void
control_faults_add(Request *req, Answer *ans)
{
	Problem		p = {0};

	for (size_t i = 0; i < body_count(req); i++)
		check_rule(body_item(req, i), &p);
	for (size_t i = 0; p.status == 0 && i < body_count(req); i++)
		rule_add(body_item(req, i), check_rule(body_item(req, i), &p));
	if (p.status)
		answer_text(ans, 400, "%s\n", p.message);
	else
		control_faults(req, ans);
}

static void
control_faults_clear(Request *req, Answer *ans)
{
	(void) req;
	rules_clear();
	answer_text(ans, 200, "ok\n");
}

static void
control_change(Request *req, Answer *ans)
{
	Problem		p = {0};

	if (!json_object_is_type(req->json, json_type_object))
		problem(&p, 400, "", "the body must be an object");
	else
	{
		json_object_object_foreach(req->json, name, value)
			if (value == NULL || !list_has("user set delete", name, strlen(name)))
				problem(&p, 400, "", "not a key of a change, or null: %s", name);
	}
	if (p.status == 0 && change_carry_out(req->json, &p))
		answer_text(ans, 200, "%" PRId64 "\n", account.revision);
	else
		answer_text(ans, 400, "%s\n", p.message);
}

static void
control_neighbours(Request *req, Answer *ans)
{
	Buf			b = {0};

	(void) req;
	put_neighbours(&b);
	answer_json(ans, 200, &b);
}

static void
control_neighbours_add(Request *req, Answer *ans)
{
	Problem		p = {0};

	if (neighbours_add(req->json, &p))
		control_neighbours(req, ans);
	else
		answer_text(ans, 400, "%s\n", p.message);
}

static const ControlRoute control_routes[] = {
	{"GET", "/_sim/log", control_log, "", "every request so far, as a JSON array"},
	{"DELETE", "/_sim/log", control_log_clear, "", "empty the log"},
	{"GET", "/_sim/count", control_count, "method path login status",
	"number of logged requests which match all that is given"},
	{"GET", "/_sim/connections", control_connections, "",
		"TCP connections which brought a request to the account"},
	{"GET", "/_sim/open", control_open, "", "how many of them are open now"},
	{"GET", "/_sim/users", control_users, "", "all users with everything, deleted and hidden too"},
	{"POST", "/_sim/users", control_users_add, "",
		"put an array of users in as they are, unchecked"},
	{"GET", "/_sim/user", control_user, "login", "the one with this login, or 404"},
	{"GET", "/_sim/duplicates", control_duplicates, "", "logins which exist more than once"},
	{"GET", "/_sim/created", control_created, "", "number of users created by POST"},
	{"GET", "/_sim/revision", control_revision, "", "revision of the users"},
	{"GET", "/_sim/posts", control_posts, "login not",
		"how many POSTs created each login, as an object; not=1: only where it is not 1"},
	{"GET", "/_sim/changes", control_changes, "id",
		"how many PUTs, DELETEs, resetPasswords changed each id, as an object"},
	{"POST", "/_sim/change", control_change, "",
		"write as another client: {\"user\", \"set\", \"delete\"}, or {}; answers the revision"},
	{"GET", "/_sim/neighbours", control_neighbours, "", "profiles, skills, agentGroups, lobs"},
	{"POST", "/_sim/neighbours", control_neighbours_add, "",
		"add to them: {\"skills\": [{\"id\": 3009, \"name\": \"Fax\"}]}; the same id: replace"},
	{"POST", "/_sim/reset", control_reset, "",
		"users, revision, log, faults, tokens, configuration as at the start"},
	{"POST", "/_sim/tokens/expire", control_tokens_expire, "", "issued tokens are valid no longer"},
	{"GET", "/_sim/config", control_config, "", "the configuration"},
	{"POST", "/_sim/config", control_config_set, "", "change some of it"},
	{"GET", "/_sim/faults", control_faults, "", "the rules, and how often each struck"},
	{"POST", "/_sim/faults", control_faults_add, "", "add a rule, or an array of them"},
	{"DELETE", "/_sim/faults", control_faults_clear, "", "no more faults"},
};

typedef struct QueryCheck
{
	const char *allowed;
	char		bad[64];
} QueryCheck;

static enum MHD_Result
check_parameter(void *cls, enum MHD_ValueKind kind, const char *name, const char *value)
{
	QueryCheck *check = cls;

	(void) kind;
	(void) value;
	if (!list_has(check->allowed, name, strlen(name)))
		snprintf(check->bad, sizeof(check->bad), "%s", *name ? name : "(empty)");
	return MHD_YES;
}

/* Answer a control request. */
void
control(Request *req, Answer *ans)
{
	const ControlRoute *route = control_routes;
	const ControlRoute *end = control_routes + lengthof(control_routes);
	QueryCheck	check = {0};

	while (route < end &&
		   (strcmp(route->method, req->method) != 0 || strcmp(route->path, req->path) != 0))
		route++;
	if (route == end)
	{
		answer_text(ans, 400, "no such control request: %s %s\n", req->method, req->path);
		return;
	}
	check.allowed = route->query;
	MHD_get_connection_values(req->mhd, MHD_GET_ARGUMENT_KIND, check_parameter, &check);
	if (check.bad[0])
		answer_text(ans, 400, "unknown parameter of %s: %s\n", req->path, check.bad);
	else if (req->body.len > 0 && req->json == NULL)
		answer_text(ans, 400, "the body is not JSON: %s\n",
					req->json_error ? req->json_error : "null");
	else
		route->handler(req, ans);
}

/* The part of --help about the control interface. */
void
control_help(void)
{
	for (size_t i = 0; i < lengthof(control_routes); i++)
	{
		const ControlRoute *r = &control_routes[i];

		printf("  %-6s %-20s %s%s%s%s\n", r->method, r->path, r->help,
			   *r->query ? "\n                              (" : "", r->query,
			   *r->query ? ")" : "");
	}
}

/*
 * users_api.c: the methods of the users API, one request each.
 *
 * It builds URL and headers, gets the bearer from bearer_token.c, sends the request, and
 * interprets the response. One table has the methods, another the statuses. It knows neither
 * entities nor the caller, and raises nothing that a network or a service can cause.
 */
#include "postgres.h"

#include "api/bearer_token.h"
#include "api/service_discovery.h"
#include "api/transport.h"
#include "api/users_api.h"
#include "base/encoding.h"
#include "http/url.h"
#include "json/array_reader.h"
#include "json/document.h"
#include "json/tree_size.h"

/* The most that is read of an error body and searched for secrets. */
#define MAX_ERROR_BYTES (1024 * 1024)

/* A user as the API writes it takes four to five times its text. */
#define TREE_FACTOR 4

typedef struct MethodDef
{
	const char *verb;
	const char *path;			/* below .../le-users/; %s becomes the user's
								 * id */
	bool		if_match;
} MethodDef;

static const MethodDef methods[] = {
	[LPU_CREATE_USERS] = {"POST", "users", false},
	[LPU_UPDATE_USERS] = {"PUT", "users", true},
	[LPU_DELETE_USERS] = {"DELETE", "users", true},
	[LPU_RESET_PASSWORD] = {"PUT", "users/%s/resetPassword", false},
	[LPU_LIST_USERS] = {"GET", "users", false},
	[LPU_GET_USER] = {"GET", "users/%s", false},
	[LPU_LIST_SKILLS] = {"GET", "skills", false},
	[LPU_LIST_PROFILES] = {"GET", "profiles", false},
	[LPU_LIST_AGENT_GROUPS] = {"GET", "agentGroups", false},
	[LPU_LIST_LOBS] = {"GET", "lobs", false},
};

/* What the body has to look like for a row of the table to apply. */
typedef enum BodyKind
{
	BODY_ANY,
	BODY_NOT_HTML,				/* JSON, plain text or nothing */
	BODY_JSON
} BodyKind;

typedef struct StatusDef
{
	int			from;
	int			to;
	BodyKind	body;
	LpuVerdict	verdict;
	int			sqlstate;
} StatusDef;

/*
 * What a response means.  The first row that has the status and the kind of
 * body decides.  Only REJECTED says something about the data of the users in
 * the request.  An HTML page is written by a gateway, not by the API, and an
 * empty 404 may be, too.  A gateway's 413 is REJECTED: its limit is on the
 * size of the body, so fewer users may pass.
 */
static const StatusDef statuses[] = {
	{200, 299, BODY_NOT_HTML, LPU_OK, 0},
	{200, 299, BODY_ANY, LPU_UNCERTAIN, ERRCODE_CONNECTION_FAILURE},
	{400, 400, BODY_NOT_HTML, LPU_REJECTED, ERRCODE_FDW_ERROR},
	{401, 401, BODY_ANY, LPU_UNAUTHORIZED, ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION},
	{403, 403, BODY_ANY, LPU_FORBIDDEN, ERRCODE_INSUFFICIENT_PRIVILEGE},
	{404, 404, BODY_JSON, LPU_REJECTED, ERRCODE_FDW_ERROR},
	{407, 407, BODY_ANY, LPU_MISDIRECTED, ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION},

	/*
	 * the service has not seen all of the request, or not wanted it: a
	 * gateway may err
	 */
	{408, 408, BODY_ANY, LPU_UNCERTAIN, ERRCODE_CONNECTION_FAILURE},
	{409, 409, BODY_NOT_HTML, LPU_REJECTED, ERRCODE_FDW_ERROR},
	/* another revision */
	{412, 412, BODY_ANY, LPU_MISDIRECTED, ERRCODE_T_R_SERIALIZATION_FAILURE},
	{413, 413, BODY_ANY, LPU_REJECTED, ERRCODE_FDW_ERROR},
	{422, 422, BODY_NOT_HTML, LPU_REJECTED, ERRCODE_FDW_ERROR},
	{425, 425, BODY_ANY, LPU_UNCERTAIN, ERRCODE_CONNECTION_FAILURE},
	{429, 429, BODY_ANY, LPU_LATER, ERRCODE_CONFIGURATION_LIMIT_EXCEEDED},
	{300, 499, BODY_ANY, LPU_MISDIRECTED, ERRCODE_FDW_ERROR},
	{0, PG_INT32_MAX, BODY_ANY, LPU_UNCERTAIN, ERRCODE_CONNECTION_FAILURE},
};

static bool
body_is(const LpuHttpAnswer *answer, BodyKind kind)
{
	char		first = answer->body[strspn(answer->body, " \t\r\n\xef\xbb\xbf")];

	switch (kind)
	{
		case BODY_ANY:
			return true;
		case BODY_NOT_HTML:
			return first != '<';
		case BODY_JSON:
			return first == '{' || first == '[' || first == '"';
	}
	return false;
}

static const StatusDef *
find_status(const LpuHttpAnswer *answer)
{
	const StatusDef *def = statuses;

	while (answer->status < def->from || answer->status > def->to || !body_is(answer, def->body))
		def++;
	return def;
}

/* A revision is a whole number; an ETag may dress it as "42" or W/"42". */
static bool
parse_revision(const char *value, int64 *revision)
{
	char	   *end;

	if (value == NULL)
		return false;
	if (strncmp(value, "W/", 2) == 0)
		value += 2;
	if (*value == '"')
		value++;
	if (*value < '0' || *value > '9')
		return false;
	errno = 0;
	*revision = strtoll(value, &end, 10);
	if (*end == '"')
		end++;
	return errno == 0 && *end == '\0';
}

/* Return the HTTP verb of a method; a constant. */
const char *
lpu_api_verb(LpuMethod method)
{
	return methods[method].verb;
}

/*
 * Return the URL of a request below the origin, with {id} for a user id of 0. For messages and
 * EXPLAIN; sends nothing. Allocated in the current memory context.
 */
char *
lpu_api_path(const LpuOptions *options, const LpuApiRequest *request)
{
	char	   *id = request->user_id != 0 ? psprintf(INT64_FORMAT, request->user_id) : "{id}";

	return psprintf("/api/account/%s/configuration/le-users/%s?v=%s%s", options->account,
					psprintf(methods[request->method].path, id),
					options->api_version,
					request->query ? request->query : "");
}

static char *
build_url(const LpuOptions *options, const LpuApiRequest *request, LpuProblem **problem)
{
	char	   *origin = lpu_domain_origin(options, LPU_SERVICE_CONFIG, problem);

	return origin ? psprintf("%s%s", origin, lpu_api_path(options, request)) : NULL;
}

/* No whole response came. */
static void
explain_silence(LpuApiAnswer *result, const LpuHttpAnswer *answer)
{
	if (answer->end == LPU_HTTP_NOT_SENT)
	{
		result->verdict = LPU_NOT_SENT;
		result->problem =
			lpu_problem_detail(lpu_problem_new(answer->no_descriptor ?
											   ERRCODE_INSUFFICIENT_RESOURCES :
											   ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
											   "could not connect to the account: %s",
											   answer->problem),
							   "Nothing was sent.");
		return;
	}
	result->verdict = LPU_UNCERTAIN;
	result->problem = lpu_problem_new(ERRCODE_CONNECTION_FAILURE, "no response from the account: %s",
									  answer->problem);
	if (answer->status > 0)
		lpu_problem_detail(result->problem,
						   "Outcome unknown: the request was sent, and the response with status %d broke off.",
						   answer->status);
	else
		lpu_problem_detail(result->problem, "Outcome unknown: the request was sent.");
	lpu_problem_hint(result->problem, "Look in the account before you send it again.");
}

/*
 * Replace the error of a response that shows one of these secrets (C strings in
 * UTF-8); its codes stay.  A body that shows one is marked as not to be shown.
 */
void
lpu_api_hide(LpuApiAnswer *answer, List *secrets)
{
	char	   *codes;

	if (answer->hidden || !lpu_text_shows(answer->body, answer->body_length, secrets))
		return;
	answer->hidden = true;
	if (answer->error == NULL)
		return;
	codes = lpu_json_error_codes(answer->body, Min(answer->body_length, MAX_ERROR_BYTES));
	if (codes != NULL && lpu_text_shows(codes, strlen(codes), secrets))
		codes = NULL;
	answer->error = psprintf("status %d; the response repeats a secret and is not shown%s%s",
							 answer->status,
							 codes ? " " : "", codes ? codes : "");
}

/*
 * Drop a body of so many values that it would take more than TREE_FACTOR times
 * "max_response_size" in memory.  That of an error stays, as secrets are still
 * looked for in it, but it is not to be shown.
 */
static void
drop_large_tree(LpuApiAnswer *answer, int max_response_size)
{
	answer->bulky = lpu_json_tree_size(answer->body, answer->body_length) >
		(uint64) max_response_size * TREE_FACTOR;
	if (!answer->bulky || answer->error != NULL)
		return;
	answer->body = "";
	answer->body_length = 0;
	answer->error =
		psprintf("the response has too many values for max_response_size (%d bytes) and was dropped",
				 max_response_size);
}

/* Return true if an element of a response with a status of success reports an error. */
static bool
reports_error(const LpuHttpAnswer *answer)
{
	static const char *const names[] = {"error"};
	LpuReader  *reader = lpu_reader_new(names, lengthof(names), false);
	bool		found = false;

	lpu_reader_feed(reader, answer->body, answer->body_length);
	lpu_reader_end(reader);
	while (!found && lpu_reader_next(reader) == LPU_READER_ELEMENT)
		found = lpu_reader_values(reader)[0].type > LPU_VALUE_NULL;
	return found;
}

static LpuApiAnswer *
interpret(const LpuOptions *options, LpuMethod method, const LpuHttpAnswer *answer,
		  const char *bearer)
{
	LpuApiAnswer *result = palloc0(sizeof(LpuApiAnswer));
	const StatusDef *def;

	result->status = answer->status;
	result->body = answer->body;
	result->body_length = answer->body_length;
	result->has_revision = parse_revision(answer->revision, &result->revision) ||
		parse_revision(answer->etag, &result->revision);
	if (answer->end == LPU_HTTP_NOT_SENT || answer->end == LPU_HTTP_BROKEN)
	{
		explain_silence(result, answer);
		return result;
	}
	if (answer->status != 401)
		lpu_auth_accepted(options, bearer);
	def = find_status(answer);
	result->verdict = def->verdict;
	result->sqlstate = def->sqlstate;
	if (result->verdict == LPU_LATER)
		result->retry_after_ms = lpu_request_wait_ms(answer);
	if (answer->end == LPU_HTTP_TOO_LARGE)
		result->error =
			psprintf("the response is larger than max_response_size (%d bytes) and was dropped",
					 options->max_response_size);
	else if (answer->status < 200 || answer->status > 299)
	{
		result->error = lpu_json_error_text(answer->body,
											Min(answer->body_length, MAX_ERROR_BYTES));
		if (result->error == NULL)
			result->error = psprintf("status %d without a message", answer->status);
	}
	else if (strcmp(methods[method].verb, "GET") == 0 && !lpu_http_is_whole(answer->status))
	{
		result->verdict = LPU_UNCERTAIN;
		result->sqlstate = ERRCODE_CONNECTION_FAILURE;
		result->error = psprintf("status %d is no whole response to a GET", answer->status);
	}
	else if (result->verdict != LPU_OK)
		result->error = psprintf("status %d, but the response is not the account's",
								 answer->status);
	/* user/identity.c reads the response to a create, a result for each user */
	else if (method != LPU_CREATE_USERS && reports_error(answer))
	{
		result->verdict = LPU_UNCERTAIN;
		result->sqlstate = ERRCODE_CONNECTION_FAILURE;
		result->error = psprintf("status %d, but the response is an error", answer->status);
	}
	lpu_api_hide(result, list_make1(unconstify(char *, bearer)));
	drop_large_tree(result, options->max_response_size);
	return result;
}

static LpuApiAnswer *
not_sent(LpuProblem *problem)
{
	LpuApiAnswer *result = palloc0(sizeof(LpuApiAnswer));

	result->verdict = LPU_NOT_SENT;
	result->body = "";
	result->problem = problem;
	return result;
}

/* Set everything of the HTTP request except the bearer. */
static bool
prepare_request(const LpuOptions *options, const LpuApiRequest *request, LpuHttpRequest *http,
				LpuProblem **problem)
{
	const MethodDef *method = &methods[request->method];
	char	   *url = build_url(options, request, problem);

	if (url == NULL || !lpu_request_init(http, options, method->verb, url, problem))
		return false;
	http->plain_http = options->base_url != NULL;
	http->content_type = "application/json";
	http->body = request->body;
	http->body_length = request->body_length;
	http->sent = request->sent;
	http->sink = request->sink;
	if (request->untimed)
		http->timeout_ms = 0;
	if (method->if_match || request->if_match > 0)
		http->if_match = psprintf(INT64_FORMAT, request->if_match);
	return true;
}

/*
 * Send one request and return its response, allocated in the current memory context. The request
 * is repeated only if it certainly was not carried out: once after a 401 with a renewed bearer,
 * and after a 429 as long as the wait fits into the option "timeout". Can be cancelled.
 */
LpuApiAnswer *
lpu_api_send(const LpuOptions *options, const LpuApiRequest *request)
{
	LpuProblem *problem = NULL;
	LpuHttpRequest http;
	bool		renewed = false;

	if (!prepare_request(options, request, &http, &problem))
		return not_sent(problem);
	for (;;)
	{
		char	   *bearer = lpu_auth_bearer(options, &problem);
		const LpuHttpAnswer *answer;

		if (bearer == NULL)
			return not_sent(problem);
		http.bearer = bearer;
		answer = lpu_request_send(options, &http);
		if (answer->status != 401 || renewed || !lpu_auth_renew(options, bearer))
			return interpret(options, request->method, answer, bearer);
		renewed = true;
		if (request->sent != NULL)
			*request->sent = false;
	}
}

struct LpuApiCall
{
	const LpuOptions *options;
	LpuMethod	method;
	char	   *bearer;
	LpuHttpCall *http;			/* NULL: it could not be sent */
	LpuProblem *problem;
};

/*
 * Start one request and return without waiting for its response; several can run at a time, and
 * lpu_http_turn() drives them. May wait for a bearer first. A request that cannot be sent is
 * done at once. Nothing is repeated.
 */
LpuApiCall *
lpu_api_start(const LpuOptions *options, const LpuApiRequest *request)
{
	LpuApiCall *call = palloc0(sizeof(LpuApiCall));
	LpuHttpRequest http;

	call->options = options;
	call->method = request->method;
	if (!prepare_request(options, request, &http, &call->problem))
		return call;
	http.bearer = call->bearer = lpu_auth_bearer(options, &call->problem);
	if (call->bearer != NULL)
		call->http = lpu_http_start(lpu_request_pool(options), &http);
	return call;
}

/* Return true if the request has its response, or has failed. */
bool
lpu_api_done(const LpuApiCall *call)
{
	return call->http == NULL || lpu_http_done(call->http);
}

/* End a request that has no response yet: the option "timeout" has passed. */
void
lpu_api_expire(LpuApiCall *call)
{
	if (call->http != NULL)
		lpu_http_expire(call->http);
}

/* Return the HTTP status that has arrived so far, 0 if none. */
int
lpu_api_status(const LpuApiCall *call)
{
	return call->http == NULL ? 0 : lpu_http_result(call->http)->status;
}

/* Return the response of a request that is done, allocated in the current memory context. */
LpuApiAnswer *
lpu_api_finish(LpuApiCall *call)
{
	if (call->http == NULL)
		return not_sent(call->problem);
	return interpret(call->options, call->method, lpu_http_result(call->http), call->bearer);
}

/* Return true if, after a 401, there is a new bearer and the request can be started once more. */
bool
lpu_api_renewed(const LpuApiCall *call)
{
	return lpu_auth_renew(call->options, call->bearer);
}

/* Continue a transfer whose sink was full. */
void
lpu_api_resume(LpuApiCall *call)
{
	if (call->http != NULL)
		lpu_http_resume(call->http);
}

/* ----- refusals ----- */

/* Return the SQLSTATE of a response that is no success, or of its absence. */
int
lpu_api_sqlstate(const LpuApiAnswer *answer)
{
	return answer->problem ? answer->problem->sqlstate : answer->sqlstate;
}

/*
 * Return the problem that an entry point raises for a response that is no success, or for none.
 * what is what could not be done, such as "list users".
 */
LpuProblem *
lpu_api_refusal(const LpuOptions *options, const LpuApiAnswer *answer, const char *what)
{
	LpuProblem *problem;

	if (answer->problem != NULL)
	{
		problem = lpu_problem_new(answer->problem->sqlstate, "could not %s: %s", what,
								  answer->problem->message);
		problem->detail = answer->problem->detail;
		problem->hint = answer->problem->hint;
		return problem;
	}
	problem = lpu_problem_new(lpu_api_sqlstate(answer), "could not %s of account \"%s\": status %d",
							  what,
							  options->account, answer->status);
	if (answer->error != NULL)
		lpu_problem_detail(problem, "%s", answer->error);
	return problem;
}

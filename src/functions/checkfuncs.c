/*
 * checkfuncs.c: lp_check(), the first thing a new user runs.
 *
 * It tests the connection to an account step by step, in the order of any request, and returns a
 * row for each step. It sends no write. A step that fails is a row, not an error; only an
 * account that cannot be resolved is one.
 */
#include "postgres.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "api/bearer_token.h"
#include "api/service_discovery.h"
#include "api/users_api.h"
#include "base/compat.h"
#include "base/error.h"
#include "json/document.h"
#include "options/server.h"

PG_FUNCTION_INFO_V1(lp_check);

static void
put_step(ReturnSetInfo *result, const char *step, bool ok, const char *detail)
{
	Datum		values[3] = {CStringGetTextDatum(step), BoolGetDatum(ok),
	CStringGetTextDatum(detail)};
	bool		nulls[3] = {false, false, false};

	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static char *
problem_text(const LpuProblem *problem)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfoString(&text, problem->message);
	if (problem->detail != NULL)
		appendStringInfo(&text, ". %s", problem->detail);
	if (problem->hint != NULL)
		appendStringInfo(&text, "%s %s", problem->detail ? "" : ".", problem->hint);
	return text.data;
}

static bool
check_domain(ReturnSetInfo *result, const LpuOptions *options)
{
	LpuProblem *problem = NULL;
	char	   *origin;

	lpu_domain_forget();		/* a kept response would prove nothing */
	origin = lpu_domain_origin(options, LPU_SERVICE_CONFIG, &problem);
	put_step(result, "domain", origin != NULL, origin ? origin : problem_text(problem));
	return origin != NULL;
}

static bool
check_token(ReturnSetInfo *result, const LpuOptions *options)
{
	LpuProblem *problem = NULL;
	char	   *bearer;
	const char *way = options->client_id ? "obtained with client_id and client_secret" :
	options->username ? "obtained with username and password" : "ready token, not tried yet";

	lpu_auth_forget(options);	/* likewise */
	bearer = lpu_auth_bearer(options, &problem);
	put_step(result, "token", bearer != NULL, bearer ? way : problem_text(problem));
	return bearer != NULL;
}

static void
check_reading(ReturnSetInfo *result, const LpuOptions *options)
{
	LpuApiRequest request = {.method = LPU_LIST_USERS,.query = "&select=id"};
	TimestampTz start = GetCurrentTimestamp();
	LpuApiAnswer *answer = lpu_api_send(options, &request);
	int			n = -1;
	char	   *detail;

	if (answer->verdict == LPU_OK && answer->error == NULL)
		n = lpu_json_length(lpu_json_parse(answer->body, answer->body_length));
	if (answer->problem != NULL)
		detail = problem_text(answer->problem);
	else if (answer->error != NULL)
		detail = strncmp(answer->error, "status ", 7) == 0 ? answer->error :
			psprintf("status %d: %s", answer->status, answer->error);
	else if (n < 0)
		detail = psprintf("status %d, but the response is not a list of users", answer->status);
	else
		detail = psprintf("status %d, %d user%s, %ld ms", answer->status, n, n == 1 ? "" : "s",
						  TimestampDifferenceMilliseconds(start, GetCurrentTimestamp()));
	put_step(result, "read", n >= 0, detail);
	if (n < 0)
		put_step(result, "revision", false, "not tried");
	else if (answer->has_revision)
		put_step(result, "revision", true, psprintf(INT64_FORMAT, answer->revision));
	else
		put_step(result, "revision", false,
				 "the response has no ac-revision header: lp_response.ac_revision will be null");
}

/*
 * lp_check(account text) RETURNS TABLE (step text, ok boolean, detail text)
 */
Datum
lp_check(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	LpuProblem *problem = NULL;
	const LpuOptions *options;
	bool		domain;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("account must not be null")));
	options = lpu_server_for_account(text_to_cstring(PG_GETARG_TEXT_PP(0)), GetUserId(), &problem);
	if (options == NULL)
		lpu_problem_raise(problem);
	InitMaterializedSRF(fcinfo, 0);
	domain = check_domain(result, options);
	if (check_token(result, options) && domain)
		check_reading(result, options);
	else
	{
		put_step(result, "read", false, "not tried");
		put_step(result, "revision", false, "not tried");
	}
	return (Datum) 0;
}

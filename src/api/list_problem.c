/*
 * list_problem.c: why a list could not be read.
 *
 * These are the failures of a response that the account has begun to send. Those of the request are
 * users_api.c's. "what" is for the message, such as "list users". Each problem is allocated in the
 * current memory context; nothing is raised.
 */
#include "postgres.h"

#include "api/list_problem.h"

/* Return the problem of a response of which nothing came for the option "timeout". */
LpuProblem *
lpu_list_too_slow(const LpuOptions *options, const char *what)
{
	return lpu_problem_new(ERRCODE_CONNECTION_FAILURE,
						   "could not %s of account \"%s\": nothing came for %d ms",
						   what, options->account, options->timeout);
}

/* Return the problem of a response that is no list; detail says why, without a period. */
LpuProblem *
lpu_list_unreadable(const LpuOptions *options, const char *what, const char *detail)
{
	LpuProblem *problem = lpu_problem_new(ERRCODE_CONNECTION_FAILURE,
										  "could not %s of account \"%s\": the response cannot be read",
										  what, options->account);

	return lpu_problem_detail(problem, "%s.", detail);
}

/* Return the problem of a response that is larger than the option "max_list_size". */
LpuProblem *
lpu_list_too_long(const LpuOptions *options, const char *what)
{
	LpuProblem *problem = lpu_problem_new(ERRCODE_PROGRAM_LIMIT_EXCEEDED,
										  "could not %s of account \"%s\": the response is larger than max_list_size",
										  what, options->account);

	lpu_problem_detail(problem, "The limit is %d kB.", options->max_list_size);
	lpu_problem_hint(problem,
					 "If the account is that large, use ALTER SERVER to increase the option "
					 "\"max_list_size\" of server \"%s\".", options->server_name);
	return problem;
}

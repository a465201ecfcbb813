/*
 * writing.c: what the functions that write to an account have in common.
 */
#include "postgres.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#include "base/error.h"
#include "functions/writing.h"
#include "options/server.h"

/*
 * Return the options for the account in the first argument and the current
 * role, which needs USAGE on the server and a user mapping.  Raises if there are
 * none, and 25006 in a READ ONLY transaction or on a standby.
 */
const LpuOptions *
lpu_options_for_writing(FunctionCallInfo fcinfo, const char *function)
{
	LpuProblem *problem = NULL;
	const LpuOptions *options;

	PreventCommandIfReadOnly(function);
	options = lpu_server_for_account(text_to_cstring(PG_GETARG_TEXT_PP(0)), GetUserId(), &problem);
	if (options == NULL)
		lpu_problem_raise(problem);
	return options;
}

/* Put ids into the result of a function that returns SETOF bigint. */
void
lpu_return_ids(FunctionCallInfo fcinfo, const int64 *ids, int n)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	int			i;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	for (i = 0; i < n; i++)
	{
		Datum		values[1] = {Int64GetDatum(ids[i])};
		bool		nulls[1] = {false};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
}

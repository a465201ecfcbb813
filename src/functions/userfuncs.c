/*
 * userfuncs.c: the SQL functions that call the API: one call is one request.
 *
 * Each writing function checks its arguments, builds one request and hands it to
 * lpu_call_send(). Anything wrong before the request is sent is an ERROR, and nothing is sent;
 * an HTTP response of any status is a row; no response is an ERROR of class 08. They return a
 * set of one row, so that (f(...)).* is evaluated once.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "nodes/value.h"
#include "tcop/utility.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"
#include "utils/typcache.h"

#include "api/users_api.h"
#include "base/account_lock.h"
#include "base/compat.h"
#include "base/encoding.h"
#include "base/error.h"
#include "base/guc.h"
#include "functions/writing.h"
#include "json/document.h"
#include "json/to_jsonb.h"
#include "options/server.h"
#include "transaction/logged_request.h"
#include "user/attribute.h"
#include "user/serialize.h"
#include "user/validate.h"

/*
 * What a call allocates begins in one block of this size; of a small call most
 * is never touched, and so is not there. What takes many smaller ones glibc
 * gives back to the system at the end of each call, and asks for again, until
 * something as large as this was freed: that costs a call of 100 users a
 * quarter of its time.
 */
#define CALL_BLOCK (1024 * 1024)

PG_FUNCTION_INFO_V1(lp_create_users);
PG_FUNCTION_INFO_V1(lp_update_users);
PG_FUNCTION_INFO_V1(lp_delete_users);
PG_FUNCTION_INFO_V1(lp_reset_password);
PG_FUNCTION_INFO_V1(lp_validate_users);

/* Problems listed in the DETAIL of an error; lp_validate_users() lists all. */
#define MAX_PROBLEMS_IN_DETAIL 10

/* ----- arguments ----- */

static void
raise_null(const char *argument)
{
	ereport(ERROR,
			(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
			 errmsg("%s must not be null", argument),
			 errhidestmt(true)));
}

static void
require_call_arguments(FunctionCallInfo fcinfo, const char *const *names, int n)
{
	int			i;

	for (i = 0; i < n; i++)
		if (PG_ARGISNULL(i))
			raise_null(names[i]);
}

static char *
describe_problem(const LpuUserProblem *problem)
{
	StringInfoData text;

	initStringInfo(&text);
	if (problem->ordinal > 0)
		appendStringInfo(&text, "user %d: ", problem->ordinal);
	if (problem->attribute != NULL)
		appendStringInfo(&text, "\"%s\" ", problem->attribute);
	appendStringInfoString(&text, problem->text);
	return text.data;
}

static void
raise_user_problems(List *problems, LpuUserUse use)
{
	StringInfoData detail;
	ListCell   *cell;
	int			shown = 0;

	initStringInfo(&detail);
	foreach(cell, problems)
	{
		if (shown == MAX_PROBLEMS_IN_DETAIL)
		{
			appendStringInfo(&detail, " (and %d more)", list_length(problems) - shown);
			break;
		}
		appendStringInfo(&detail, "%s%s", shown++ > 0 ? "; " : "", describe_problem(lfirst(cell)));
	}
	detail.data[0] = pg_toupper((unsigned char) detail.data[0]);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid users"),
			 errdetail("%s. Nothing was sent.", detail.data),
			 use == LPU_USER_CREATE ?
			 errhint("SELECT * FROM lp_validate_users(...) lists every problem.") :
			 errhint("An update replaces the whole user. To change some attributes, use lp_enqueue_changes(), or UPDATE of a foreign table."),
			 errhidestmt(true)));
}

static void
set_body(LpuApiRequest *request, char *text, size_t length)
{
	request->body = lpu_text_to_utf8(text, &length);
	request->body_length = length;
	if (request->body == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE),
				 errmsg("the users cannot be sent as UTF-8"),
				 errdetail("Nothing was sent."),
				 errhidestmt(true)));
}

/* Users as the body of a request. */
static void
set_users(LpuLoggedCall *call, Jsonb *users, LpuUserUse use)
{
	List	   *problems = lpu_users_check(users, use, call->options->require_password);
	StringInfoData text;
	int			large;

	if (problems != NIL)
		raise_user_problems(problems, use);
	initStringInfo(&text);
	large = lpu_users_write(&text, users);
	if (large > 0)
		raise_user_problems(list_make1(lpu_user_too_large(large)), use);
	set_body(&call->request, text.data, text.len);
	call->users = lpu_users_identify(users, &call->nusers);
	call->secrets = lpu_users_secrets(users);
}

/* Raise an error if the call concerns more users than lpusers.max_changes allows. */
static void
check_call_size(const LpuLoggedCall *call, const char *function)
{
	if (lpu_max_changes == 0 || call->nusers <= lpu_max_changes)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("%s would change more users than lpusers.max_changes allows", function),
			 errdetail("The call has %d users, the limit is %d. Nothing was sent.",
					   call->nusers, lpu_max_changes),
			 errhint(LPU_MAX_CHANGES_HINT),
			 errhidestmt(true)));
}

static int64
get_if_match(FunctionCallInfo fcinfo, int arg)
{
	int64		if_match = PG_GETARG_INT64(arg);

	if (if_match < -1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid if_match: " INT64_FORMAT, if_match),
				 errdetail("It must be a revision, or -1 for any. Nothing was sent."),
				 errhidestmt(true)));
	return if_match;
}

/* ----- the one request ----- */

static HeapTuple
form_row(TupleDesc desc, const LpuApiAnswer *answer, Jsonb *body, const char *error)
{
	Datum		values[4];
	bool		nulls[4];

	values[0] = Int32GetDatum(answer->status);
	nulls[0] = false;
	values[1] = Int64GetDatum(answer->revision);
	nulls[1] = !answer->has_revision;
	values[2] = body ? JsonbPGetDatum(body) : (Datum) 0;
	nulls[2] = body == NULL;
	values[3] = error ? CStringGetTextDatum(error) : (Datum) 0;
	nulls[3] = error == NULL;
	return heap_form_tuple(desc, values, nulls);
}

/*
 * Send the call. A call that names a revision takes the lock of the account's revision
 * exclusively, so that creates of this database do not change the revision meanwhile. Raises
 * 55P03 and sends nothing if the lock cannot be taken within the timeout.
 */
static LpuApiAnswer *
send_call(LpuLoggedCall *call, const char **error)
{
	bool		conditional = call->request.if_match != -1 &&
	(call->request.method == LPU_UPDATE_USERS || call->request.method == LPU_DELETE_USERS);
	const LpuOptions *options = call->options;
	LpuApiAnswer *answer;

	if (conditional)
		lpu_lock_revision(options->account, options->party, LPU_REVISION_EXCLUSIVE,
						  options->timeout);
	answer = lpu_call_send(call, error);
	if (conditional)
		lpu_unlock_revision(options->account, options->party, LPU_REVISION_EXCLUSIVE);
	return answer;
}

/* ----- SQL functions ----- */

typedef void (*PrepareCall) (FunctionCallInfo fcinfo, const char *function, LpuLoggedCall *call);

/*
 * Return the one row of a writing function. Everything between the arguments
 * and the row is in a memory context of its own, whose end also gives the
 * connection back.
 */
static Datum
return_one_row(FunctionCallInfo fcinfo, const char *function, PrepareCall prepare)
{
	FuncCallContext *srf;
	MemoryContext context;
	MemoryContext caller;
	TupleDesc	desc;
	HeapTuple	row;
	Datum		result;
	LpuLoggedCall call;
	LpuApiAnswer *answer;
	const char *error;
	const char *complaint = NULL;
	Jsonb	   *body;

	if (!SRF_IS_FIRSTCALL())
	{
		srf = SRF_PERCALL_SETUP();
		SRF_RETURN_DONE(srf);
	}
	srf = SRF_FIRSTCALL_INIT();
	context = AllocSetContextCreate(CurrentMemoryContext, "lpusers call", 0, CALL_BLOCK,
									ALLOCSET_DEFAULT_MAXSIZE);
	caller = MemoryContextSwitchTo(context);
	desc = lookup_rowtype_tupdesc(get_func_rettype(fcinfo->flinfo->fn_oid), -1);

	memset(&call, 0, sizeof(call));
	call.schema = get_func_namespace(fcinfo->flinfo->fn_oid);
	call.path = "direct";
	prepare(fcinfo, function, &call);
	answer = send_call(&call, &error);
	body = answer->hidden || answer->bulky ? NULL :
		lpu_body_as_jsonb(answer->body, answer->body_length, &complaint);
	if (error == NULL)
		error = answer->hidden ? "the response repeats a secret and is not shown" : complaint;
	row = form_row(desc, answer, body, error);

	MemoryContextSwitchTo(caller);
	result = heap_copy_tuple_as_datum(row, desc);
	ReleaseTupleDesc(desc);
	MemoryContextDelete(context);
	SRF_RETURN_NEXT(srf, result);
}

static void
prepare_create(FunctionCallInfo fcinfo, const char *function, LpuLoggedCall *call)
{
	static const char *const names[] = {"account", "users"};

	require_call_arguments(fcinfo, names, lengthof(names));
	call->options = lpu_options_for_writing(fcinfo, function);
	call->operation = "create";
	call->success = "created";
	call->request.method = LPU_CREATE_USERS;
	set_users(call, PG_GETARG_JSONB_P(1), LPU_USER_CREATE);
}

/*
 * lp_create_users(account text, users jsonb) RETURNS SETOF lp_response
 */
Datum
lp_create_users(PG_FUNCTION_ARGS)
{
	return return_one_row(fcinfo, "lp_create_users()", prepare_create);
}

static void
prepare_update(FunctionCallInfo fcinfo, const char *function, LpuLoggedCall *call)
{
	static const char *const names[] = {"account", "users", "if_match"};

	require_call_arguments(fcinfo, names, lengthof(names));
	call->options = lpu_options_for_writing(fcinfo, function);
	call->operation = "update";
	call->success = "done";
	call->request.method = LPU_UPDATE_USERS;
	call->request.if_match = get_if_match(fcinfo, 2);
	set_users(call, PG_GETARG_JSONB_P(1), LPU_USER_UPDATE);
	check_call_size(call, function);
}

/*
 * lp_update_users(account text, users jsonb, if_match bigint DEFAULT -1) RETURNS SETOF lp_response
 */
Datum
lp_update_users(PG_FUNCTION_ARGS)
{
	return return_one_row(fcinfo, "lp_update_users()", prepare_update);
}

static int64
check_id(Datum id, bool isnull, int ordinal)
{
	if (isnull || DatumGetInt64(id) <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid user ID"),
				 isnull ? errdetail("ID %d is null. Nothing was sent.", ordinal) :
				 errdetail("ID %d is " INT64_FORMAT "; IDs are positive. Nothing was sent.",
						   ordinal, DatumGetInt64(id)),
				 errhidestmt(true)));
	return DatumGetInt64(id);
}

static void
prepare_delete(FunctionCallInfo fcinfo, const char *function, LpuLoggedCall *call)
{
	static const char *const names[] = {"account", "ids", "if_match"};
	StringInfoData text;
	Datum	   *ids;
	bool	   *nulls;
	int			i;

	require_call_arguments(fcinfo, names, lengthof(names));
	call->options = lpu_options_for_writing(fcinfo, function);
	call->operation = "delete";
	call->success = "done";
	call->request.method = LPU_DELETE_USERS;
	call->request.if_match = get_if_match(fcinfo, 2);
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &ids,
					  &nulls,
					  &call->nusers);
	if (call->nusers == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("no user IDs"),
				 errdetail("Nothing was sent.")));
	check_call_size(call, function);
	call->users = palloc0(call->nusers * sizeof(LpuUserIdentity));
	initStringInfo(&text);
	for (i = 0; i < call->nusers; i++)
	{
		call->users[i].id = check_id(ids[i], nulls[i], i + 1);
		appendStringInfo(&text, "%s\"" INT64_FORMAT "\"", i > 0 ? "," : "[", call->users[i].id);
	}
	appendStringInfoChar(&text, ']');
	set_body(&call->request, text.data, text.len);
}

/*
 * lp_delete_users(account text, ids bigint[], if_match bigint DEFAULT -1) RETURNS SETOF lp_response
 */
Datum
lp_delete_users(PG_FUNCTION_ARGS)
{
	return return_one_row(fcinfo, "lp_delete_users()", prepare_delete);
}

static void
prepare_reset(FunctionCallInfo fcinfo, const char *function, LpuLoggedCall *call)
{
	static const char *const names[] = {"account", "user_id", "new_password"};
	const char *members[2] = {"newPassword", NULL};
	char	   *password;
	size_t		length;

	require_call_arguments(fcinfo, names, lengthof(names));
	call->options = lpu_options_for_writing(fcinfo, function);
	call->operation = "reset";
	call->success = "done";
	call->request.method = LPU_RESET_PASSWORD;
	call->request.user_id = check_id(PG_GETARG_DATUM(1), false, 1);
	call->users = palloc0(sizeof(LpuUserIdentity));
	call->users[0].id = call->request.user_id;
	call->nusers = 1;
	password = text_to_cstring(PG_GETARG_TEXT_PP(2));
	length = strlen(password);
	if (length == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("new_password must not be empty"),
				 errdetail("Nothing was sent."),
				 errhidestmt(true)));
	call->secrets = list_make1(password);
	set_body(&call->request, password, length);
	members[1] = pnstrdup(call->request.body, call->request.body_length);
	call->request.body = lpu_json_build_object(members, 1);
	call->request.body_length = strlen(call->request.body);
}

/*
 * lp_reset_password(account text, user_id bigint, new_password text) RETURNS SETOF lp_response
 */
Datum
lp_reset_password(PG_FUNCTION_ARGS)
{
	return return_one_row(fcinfo, "lp_reset_password()", prepare_reset);
}

/* ----- checking users offline ----- */

/* One WARNING for each unknown attribute of the users that is near a known one. */
static void
warn_of_misspelt_attributes(Jsonb *users)
{
	JsonbIterator *of_users = NULL;
	List	   *warned = NIL;
	JsonbValue	user;

	while (!JB_ROOT_IS_SCALAR(users) && lpu_next_user(&of_users, &users->root, &user))
	{
		JsonbIterator *it;
		JsonbValue	key;

		CHECK_FOR_INTERRUPTS();
		if (!lpu_jsonb_is_object(&user))
			continue;
		it = JsonbIteratorInit(user.val.binary.data);
		(void) JsonbIteratorNext(&it, &key, true);
		while (JsonbIteratorNext(&it, &key, true) == WJB_KEY)
		{
			char	   *name = pnstrdup(key.val.string.val, key.val.string.len);
			const char *meant = lpu_attribute_meant(lpu_attributes, lpu_nattributes, name);

			(void) JsonbIteratorNext(&it, &key, true);
			if (meant == NULL || list_member(warned, makeString(name)))
				continue;
			warned = lappend(warned, makeString(name));
			ereport(WARNING,
					(errmsg("unknown attribute \"%s\"", name),
					 errdetail("It would be sent unchanged."),
					 errhint("Perhaps you meant the attribute \"%s\".", meant)));
		}
	}
}

/*
 * lp_validate_users(users jsonb) RETURNS TABLE (ordinal int, attribute text, problem text)
 */
Datum
lp_validate_users(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	StringInfoData text;
	List	   *problems;
	ListCell   *cell;
	int			large;

	if (PG_ARGISNULL(0))
		raise_null("users");
	problems = lpu_users_check(PG_GETARG_JSONB_P(0), LPU_USER_CREATE, true);
	initStringInfo(&text);
	if (problems == NIL && (large = lpu_users_write(&text, PG_GETARG_JSONB_P(0))) > 0)
		problems = list_make1(lpu_user_too_large(large));
	warn_of_misspelt_attributes(PG_GETARG_JSONB_P(0));
	InitMaterializedSRF(fcinfo, 0);
	foreach(cell, problems)
	{
		LpuUserProblem *problem = lfirst(cell);
		Datum		values[3];
		bool		nulls[3];

		values[0] = Int32GetDatum(problem->ordinal);
		nulls[0] = problem->ordinal == 0;
		nulls[1] = problem->attribute == NULL;
		values[1] = nulls[1] ? (Datum) 0 : CStringGetTextDatum(problem->attribute);
		values[2] = CStringGetTextDatum(problem->text);
		nulls[2] = false;
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

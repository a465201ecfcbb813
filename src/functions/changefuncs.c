/*
 * changefuncs.c: updates and deletes for the queue: lp_enqueue_changes() and
 * lp_enqueue_deletes().
 *
 * What is wrong with one user becomes a failed row, as with lp_enqueue_users(); what is wrong
 * with the call raises.  The account's present attributes are not read here, but by the
 * delivery.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"

#include "base/compat.h"
#include "base/error.h"
#include "functions/writing.h"
#include "options/server.h"
#include "queue/enqueue_change.h"
#include "user/merge.h"
#include "user/serialize.h"
#include "user/validate.h"

PG_FUNCTION_INFO_V1(lp_enqueue_changes);
PG_FUNCTION_INFO_V1(lp_enqueue_deletes);

/* ----- what is wrong with a change ----- */

static void
complain(StringInfo text, const char *attribute, const char *problem)
{
	appendStringInfo(text, "%s\"%s\" %s", text->len > 0 ? "; " : "", attribute, problem);
}

/* What is wrong with the value of an attribute that is to be set; NULL: nothing. */
static const char *
check_value(const LpuAttribute *attribute, JsonbValue *value)
{
	if (attribute->rules & LPU_READ_ONLY)
		return "is read-only";
	if (value->type == jbvNull)
		return attribute->rules & LPU_REQUIRED ? "is required and must not be null" : NULL;
	if ((attribute->rules & LPU_REQUIRED) && lpu_string_equals(value, ""))
		return "is required and must not be empty";
	return lpu_value_check(attribute, JsonbValueToJsonb(value), LPU_USER_UPDATE);
}

/* What is wrong with attributes that are to be set, as a text; NULL: nothing. */
static char *
check_set(Jsonb *set)
{
	JsonbIterator *it = JsonbIteratorInit(&set->root);
	StringInfoData text;
	JsonbValue	key;
	JsonbValue	value;

	initStringInfo(&text);
	if (JB_ROOT_COUNT(set) == 0)
		return "there is nothing to change";
	(void) JsonbIteratorNext(&it, &key, true);
	while (JsonbIteratorNext(&it, &key, true) == WJB_KEY)
	{
		const LpuAttribute *attribute = lpu_find_attribute(lpu_attributes, lpu_nattributes, &key);
		const char *problem;

		(void) JsonbIteratorNext(&it, &value, true);
		problem = attribute ? check_value(attribute, &value) : NULL;
		if (problem != NULL)
			complain(&text, attribute->name, problem);
	}
	return text.len > 0 ? text.data : NULL;
}

/*
 * Read which user is meant: by the id, or else by the login. Return what is wrong with it, or
 * NULL.
 */
static char *
identify(Jsonb *user, const LpuUserIdentity *who, LpuQueuedChange *change)
{
	JsonbValue	value;
	const char *problem;

	if (lpu_jsonb_get_member(&user->root, "id", &value) != NULL)
	{
		change->user_id = Max(who->id, 0);
		return who->id > 0 ? NULL : "\"id\" must be a positive whole number";
	}
	if (lpu_jsonb_get_member(&user->root, "loginName", &value) == NULL)
		return "\"id\" or \"loginName\" is required";
	problem = lpu_value_check(lpu_attribute_named(lpu_attributes, lpu_nattributes, "loginName"),
							  JsonbValueToJsonb(&value), LPU_USER_UPDATE);
	if (problem != NULL)
		return psprintf("\"loginName\" %s", problem);
	if (who->login_name == NULL || *who->login_name == '\0')
		return "\"loginName\" must not be empty";
	change->login_name = who->login_name;
	return NULL;
}

/* Read one user of the document. */
static void
read_change(const JsonbValue *element, Jsonb *user, const LpuUserIdentity *who,
			LpuQueuedChange *change)
{
	StringInfoData body;
	Jsonb	   *set;

	if (element != NULL && !lpu_jsonb_is_object(element))
	{
		change->problem = "must be an object";
		return;
	}
	change->problem = identify(user, who, change);
	if (change->problem != NULL)
		return;
	/* what tells who is meant is not to be set */
	set = lpu_jsonb_without(user, change->user_id != 0 ? "id" : "loginName");
	change->problem = check_set(set);
	if (change->problem != NULL)
		return;
	initStringInfo(&body);
	appendStringInfoString(&body, "{\"set\": ");
	lpu_users_write(&body, set);
	appendStringInfoChar(&body, '}');
	change->body = body.data;
}

static LpuQueuedChange *
read_changes(Jsonb *users, int *n)
{
	LpuUserIdentity *who = lpu_users_identify(users, n);
	LpuQueuedChange *changes = palloc0(Max(*n, 1) * sizeof(LpuQueuedChange));
	JsonbIterator *it = NULL;
	JsonbValue	user;
	int			i;

	if (JB_ROOT_IS_SCALAR(users) || *n == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid users"),
				 errdetail("users: must be an object or an array of objects, and not empty. Nothing was queued."),
				 errhidestmt(true)));
	if (JB_ROOT_IS_OBJECT(users))
		read_change(NULL, users, who, changes);
	for (i = 0; JB_ROOT_IS_ARRAY(users) && lpu_next_user(&it, &users->root, &user); i++)
		read_change(&user, lpu_jsonb_is_object(&user) ? JsonbValueToJsonb(&user) : NULL, &who[i],
					&changes[i]);
	return changes;
}

/* ----- the functions ----- */

static void
require_arguments(FunctionCallInfo fcinfo, const char *second)
{
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("account and %s must not be null", second),
				 errhidestmt(true)));
}

/* Queue the changes, and return the ids of the requests. */
static Datum
enqueue(FunctionCallInfo fcinfo, const LpuOptions *options, const LpuQueuedChange *changes, int n)
{
	LpuQueueOrigin origin = {0};
	int64	   *ids = palloc(Max(n, 1) * sizeof(int64));

	origin.schema = get_func_namespace(fcinfo->flinfo->fn_oid);
	origin.account = options->account;
	origin.server = options->server_name;
	origin.server_oid = options->server;
	origin.requested_by = GetOuterUserId();
	origin.send_as = GetUserId();
	lpu_enqueue_changes(&origin, changes, n, ids);

	lpu_return_ids(fcinfo, ids, n);
	return (Datum) 0;
}

/*
 * lp_enqueue_changes(account text, users jsonb) RETURNS SETOF bigint
 */
Datum
lp_enqueue_changes(PG_FUNCTION_ARGS)
{
	const LpuOptions *options;
	LpuQueuedChange *changes;
	int			n;

	require_arguments(fcinfo, "users");
	options = lpu_options_for_writing(fcinfo, "lp_enqueue_changes()");
	changes = read_changes(PG_GETARG_JSONB_P(1), &n);
	return enqueue(fcinfo, options, changes, n);
}

/*
 * lp_enqueue_deletes(account text, ids bigint[]) RETURNS SETOF bigint
 */
Datum
lp_enqueue_deletes(PG_FUNCTION_ARGS)
{
	const LpuOptions *options;
	LpuQueuedChange *changes;
	Datum	   *ids;
	bool	   *nulls;
	int			n;
	int			i;

	require_arguments(fcinfo, "ids");
	options = lpu_options_for_writing(fcinfo, "lp_enqueue_deletes()");
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &ids,
					  &nulls, &n);
	changes = palloc0(Max(n, 1) * sizeof(LpuQueuedChange));
	for (i = 0; i < n; i++)
	{
		changes[i].deletes = true;
		if (nulls[i] || DatumGetInt64(ids[i]) <= 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid user ID"),
					 nulls[i] ? errdetail("ID %d is null. Nothing was queued.", i + 1) :
					 errdetail("ID %d is " INT64_FORMAT "; user IDs are positive. Nothing was queued.",
							   i + 1, DatumGetInt64(ids[i])),
					 errhidestmt(true)));
		changes[i].user_id = DatumGetInt64(ids[i]);
		changes[i].body = "{}";
	}
	return enqueue(fcinfo, options, changes, n);
}

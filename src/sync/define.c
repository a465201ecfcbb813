/*
 * define.c: declaring a sync.
 *
 * Errors of a definition are reported when it is declared, not by a nightly run: columns, types,
 * keywords, limits, and the rights of the owner on source and server. The role that declares a sync
 * is its owner; a role that replaces the definition must be a member of it, and does not become the
 * owner.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "base/encoding.h"
#include "base/error.h"
#include "base/extension.h"
#include "base/origin.h"
#include "base/spi_plan.h"
#include "options/server.h"
#include "remote/foreign_table.h"
#include "sync/define.h"

/* Longest name, as in the CHECK of the table. */
#define MAX_NAME 63

/* Longest time after which users are deleted, in years. */
#define MAX_YEARS 1000

static void
raise_parameter(const char *parameter, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for parameter \"%s\"", parameter),
			 errdetail("%s", detail)));
}

/* ----- words and limits ----- */

static void
check_word(const char *parameter, const char *value, const char *const *words, int n)
{
	StringInfoData detail;
	int			i;

	initStringInfo(&detail);
	for (i = 0; i < n; i++)
	{
		if (value != NULL && strcmp(value, words[i]) == 0)
			return;
		appendStringInfo(&detail, "%s%s", i == 0 ? "" : i == n - 1 ? " or " : ", ", words[i]);
	}
	raise_parameter(parameter, psprintf("It must be %s.", detail.data));
}

static void
check_limited(const char *action)
{
	const char *nearest;

	if (lpu_sync_is_action(action, true, &nearest))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for parameter \"limits\""),
			 errdetail("There is no action \"%s\".", action),
			 nearest != NULL ? errhint("Perhaps you meant \"%s\".", nearest) : 0));
}

/* A number of users, a percentage, or null. */
static bool
is_limit(const JsonbValue *value)
{
	char	   *text;
	size_t		digits;
	int64		number;

	if (value->type == jbvNull)
		return true;
	if (value->type == jbvNumeric)
		return lpu_value_as_int64(value, &number) && number >= 0 && number <= PG_INT32_MAX;
	if (value->type != jbvString)
		return false;
	text = pnstrdup(value->val.string.val, value->val.string.len);

	digits = strspn(text, "0123456789");
	if (digits == 0 || digits > 3)
		return false;
	text	  +=digits;

	if (*text == '.')
	{
		digits = strspn(text +1, "0123456789");
		if (digits == 0 || digits > 3)
			return false;
		text	  +=digits + 1;
	}
	return strcmp(text, "%") == 0;
}

static void
check_limits(Jsonb *limits)
{
	JsonbIterator *it;
	JsonbValue	value;

	if (limits == NULL)
		return;
	if (!JB_ROOT_IS_OBJECT(limits))
		raise_parameter("limits", "It must be an object of actions and limits.");
	it = JsonbIteratorInit(&limits->root);
	(void) JsonbIteratorNext(&it, &value, true);
	while (JsonbIteratorNext(&it, &value, true) == WJB_KEY)
	{
		char	   *action = pnstrdup(value.val.string.val, value.val.string.len);

		check_limited(action);
		(void) JsonbIteratorNext(&it, &value, true);
		if (!is_limit(&value))
			raise_parameter("limits", psprintf("The limit of \"%s\" must be a whole number, "
											   "a percentage such as \"10%%\", or null.", action));
	}
}

/*
 * A positive interval may have negative fields. Each of them is limited: what is added to the time
 * of a link must not exceed the range of timestamps.
 */
static void
check_delete_after(const Interval *delete_after)
{
	const Interval zero = {0};
	const Interval most = {.month = MAX_YEARS * MONTHS_PER_YEAR};
	int			months = MAX_YEARS * MONTHS_PER_YEAR;
	int			days = MAX_YEARS * 366;
	int64		time = days * USECS_PER_DAY;

	if (DatumGetBool(DirectFunctionCall2(interval_lt, IntervalPGetDatum(delete_after),
										 IntervalPGetDatum(&zero))))
		raise_parameter("delete_after", "It must not be negative.");
	if (delete_after->month < -months || delete_after->month > months ||
		delete_after->day < -days || delete_after->day > days ||
		delete_after->time < -time || delete_after->time > time ||
		DatumGetBool(DirectFunctionCall2(interval_gt, IntervalPGetDatum(delete_after),
										 IntervalPGetDatum(&most))))
		raise_parameter("delete_after", "It must not exceed " CppAsString2(MAX_YEARS) " years.");
}

/* ----- rights ----- */

static void
check_source(const LpuSync *sync)
{
	AclResult	right = pg_class_aclcheck(sync->source, sync->owner, ACL_SELECT);

	if (right != ACLCHECK_OK)
		aclcheck_error(right, get_relkind_objtype(get_rel_relkind(sync->source)),
					   get_rel_name(sync->source));
}

/* Reject changes that would give the links another meaning. */
static void
check_same(const LpuSync *sync, const LpuSync *stored)
{
	if (strcmp(sync->account, stored->account) != 0 || strcmp(sync->key, stored->key) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("sync \"%s\" has another account or key", sync->name),
				 errdetail("It is defined for account \"%s\" with the key \"%s\".", stored->account,
						   stored->key),
				 errhint("Call lp_sync_drop() first, or define a sync of another name.")));
}

/* ----- storing ----- */

/* A name that another transaction has defined meanwhile is not taken over. */
static const char insert_sql[] =
"INSERT INTO @extschema@._lp_sync (name, account, server, server_oid, owner, owner_oid, source, "
" source_oid, key, create_only, add_only, leavers, delete_after, drift, limits, origin) "
"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) "
"ON CONFLICT (name) DO NOTHING RETURNING id";

/*
 * The drafts of an earlier definition would apply what is not defined any more. One that is made
 * at the same time has the earlier version. Keys that wait in a plan of a run of marked keys are
 * marked again, if a table is watched: their marks are gone. Those of a plan of all keys are not,
 * since a plan of marked keys is not held by the guards.
 */
static const char update_sql[] =
"WITH stored AS (UPDATE @extschema@._lp_sync s SET server = $3, server_oid = $4, owner = $5, "
"  owner_oid = $6, "
"  source = $7, source_oid = $8, create_only = $10, add_only = $11, leavers = $12, "
"  delete_after = $13, drift = $14, limits = $15, version = s.version + 1, last_plan = NULL "
" WHERE s.id = $17 RETURNING s.id), "
"expired AS (UPDATE @extschema@._lp_sync_plan p SET state = 'expired' FROM stored s "
" WHERE p.sync = s.id AND (p.state = 'draft' OR (p.state = 'applied' AND EXISTS "
"  (SELECT FROM @extschema@._lp_sync_item i WHERE i.plan = p.id AND i.state IN ('planned', 'held')))) "
" RETURNING p.id, p.sync, p.whole), "
"marked AS (INSERT INTO @extschema@._lp_sync_mark (sync, source_key) "
" SELECT DISTINCT e.sync, i.source_key FROM expired e JOIN @extschema@._lp_sync_item i ON i.plan = e.id "
" WHERE NOT e.whole AND i.state = 'held' AND i.source_key IS NOT NULL "
"  AND EXISTS (SELECT FROM @extschema@._lp_sync_watch w WHERE w.sync = e.sync)) "
"SELECT s.id FROM stored s";

/* Return false if the sync is not as it was found any more: another transaction has defined it. */
static bool
store(LpuSync *sync, const LpuSync *stored, const LpuSyncPolicy *policy, const LpuOptions *options)
{
	Oid			types[17] = {TEXTOID, TEXTOID, TEXTOID, OIDOID, TEXTOID, OIDOID, TEXTOID, OIDOID,
	TEXTOID, TEXTARRAYOID, TEXTARRAYOID, TEXTOID, INTERVALOID, TEXTOID, JSONBOID, TEXTOID, INT8OID};
	Datum		values[17] = {
		CStringGetTextDatum(sync->name), CStringGetTextDatum(sync->account),
		CStringGetTextDatum(options->server_name), ObjectIdGetDatum(options->server),
		CStringGetTextDatum(sync->owner_name), ObjectIdGetDatum(sync->owner),
		CStringGetTextDatum(sync->source_name), ObjectIdGetDatum(sync->source),
		CStringGetTextDatum(sync->key), lpu_sync_text_array(sync->create_only),
		lpu_sync_text_array(sync->add_only),
		CStringGetTextDatum(policy->leavers), IntervalPGetDatum(policy->delete_after),
		CStringGetTextDatum(sync->drift),
		policy->limits != NULL ? JsonbPGetDatum(policy->limits) :
		DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")),
		CStringGetTextDatum(lpu_origin_text()), Int64GetDatum(stored != NULL ? stored->id : 0)
	};
	LpuParameters parameters = {17, types, values,
	policy->delete_after != NULL ? NULL : "            n    "};

	return lpu_run_once(stored != NULL ? update_sql : insert_sql, &parameters, NULL) > 0;
}

/* ----- the whole ----- */

/* Report what the source lacks for creates. It is right if all its people have a user. */
static void
tell_lacking(const LpuSync *sync, bool require_password)
{
	StringInfoData columns;
	ListCell   *cell;

	initStringInfo(&columns);
	foreach(cell, lpu_sync_lacking(sync, require_password))
		appendStringInfo(&columns, "%s%s", columns.len > 0 ? ", " : "",
						 lpu_column_of_attribute(((const LpuAttribute *) lfirst(cell))->name));
	if (columns.len == 0)
		return;
	ereport(NOTICE,
			(errmsg("sync \"%s\" cannot create users", sync->name),
			 errdetail("A create requires columns that %s does not have: %s.", sync->source_name,
					   columns.data),
			 errhint("Add them to the source, unless all its people have a user.")));
}

/* The stored definition of this name, locked, if the current user may replace it; or NULL. */
static LpuSync *
find_stored(const LpuSync *sync)
{
	LpuSync    *stored = lpu_sync_find(sync->name, true);

	if (stored != NULL)
	{
		lpu_sync_check_rights(stored);
		check_same(sync, stored);
	}
	return stored;
}

/* Check and store; return false if another transaction has defined the sync meanwhile. */
static bool
define(LpuSync *sync, const LpuSyncPolicy *policy)
{
	LpuSync    *stored = find_stored(sync);
	LpuProblem *problem = NULL;
	const LpuOptions *options;
	bool		require_password;

	sync->owner = stored != NULL && OidIsValid(stored->owner) ? stored->owner : GetUserId();
	sync->owner_name = GetUserNameFromId(sync->owner, false);
	sync->source_name = lpu_relation_name(sync->source);
	options = lpu_server_for_account(sync->account, sync->owner, &problem);
	if (options == NULL)
		lpu_problem_raise(problem);
	require_password = options->require_password;
	check_source(sync);
	lpu_sync_read_columns(sync);
	if (!store(sync, stored, policy, options))
		return false;
	tell_lacking(sync, require_password);
	return true;
}

/*
 * Raises 22023 for an invalid definition, 42501 for a missing right, 28000 if there is no server
 * for the account.
 */
void
lpu_sync_define(LpuSync *sync, const LpuSyncPolicy *policy)
{
	static const char *const leavers[] = {"disable", "delete", "report"};
	static const char *const drifts[] = {"overwrite", "report", "accept"};

	if (*sync->name == '\0' || pg_mbstrlen(sync->name) > MAX_NAME)
		raise_parameter("sync", "It must have 1 to 63 characters.");
	if (strcmp(lpu_text_of_stranger(sync->name), sync->name) != 0)
		raise_parameter("sync", "It must have visible characters, and single blanks between them.");
	check_word("leavers", policy->leavers, leavers, lengthof(leavers));
	check_word("drift", sync->drift, drifts, lengthof(drifts));
	check_limits(policy->limits);
	if (policy->delete_after != NULL)
		check_delete_after(policy->delete_after);

	/*
	 * what another transaction has stored under this name is found by the
	 * next attempt
	 */
	while (!define(sync, policy))
		CHECK_FOR_INTERRUPTS();
}

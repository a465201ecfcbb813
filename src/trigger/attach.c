/*
 * attach.c: lp_attach_trigger() and lp_detach_trigger(): the trigger without
 * writing it by hand.
 *
 * The mapping is checked against the table and the rights of its owner before
 * anything is created; then the CREATE TRIGGER is written and run with the
 * rights of the caller. INSERT gets a trigger FOR EACH STATEMENT with a
 * transition table, on a partitioned table, too: it sees the rows of all
 * partitions, and is not fired by an UPDATE that moves rows. UPDATE gets one
 * FOR EACH ROW, which sees the row before and now.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_class.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "base/error.h"
#include "options/server.h"
#include "trigger/attached_trigger.h"
#include "trigger/mapped_table.h"
#include "trigger/mapping.h"
#include "trigger/mapping_check.h"
#include "trigger/trigger_privilege.h"

PG_FUNCTION_INFO_V1(lp_attach_trigger);
PG_FUNCTION_INFO_V1(lp_detach_trigger);

/* Rows that are counted; of more an estimate will do. */
#define MAX_COUNTED 100000

/* Name of the transition table in them. */
#define TRANSITION_TABLE "lpusers_new"

/* ----- arguments ----- */

/*
 * The expression of an attribute: SQL as a string, or a number or boolean that
 * stands for itself.
 */
static char *
expression_of(const char *name, const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvString:
			return pnstrdup(value->val.string.val, value->val.string.len);
		case jbvNumeric:
			return DatumGetCString(DirectFunctionCall1(numeric_out,
													   NumericGetDatum(value->val.numeric)));
		case jbvBool:
			return pstrdup(value->val.boolean ? "true" : "false");
		default:
			lpu_mapping_raise(psprintf("The expression of \"%s\" must be a string of SQL, a number, true or false.", name));
	}
}

/* The trigger's arguments: the account, attribute=expression of each member, when=, mode=. */
static char **
build_arguments(FunctionCallInfo fcinfo, int *n)
{
	Jsonb	   *attributes = PG_GETARG_JSONB_P(2);
	JsonbIterator *it;
	JsonbValue	value;
	char	  **args;

	if (!JB_ROOT_IS_OBJECT(attributes))
		lpu_mapping_raise("\"attributes\" must be an object of attribute names and SQL expressions.");
	args = palloc((JB_ROOT_COUNT(attributes) + 4) * sizeof(char *));
	*n = 0;
	args[(*n)++] = text_to_cstring(PG_GETARG_TEXT_PP(1));
	it = JsonbIteratorInit(&attributes->root);
	(void) JsonbIteratorNext(&it, &value, true);
	while (JsonbIteratorNext(&it, &value, true) == WJB_KEY)
	{
		char	   *name = pnstrdup(value.val.string.val, value.val.string.len);

		(void) JsonbIteratorNext(&it, &value, true);
		args[(*n)++] = psprintf("%s=%s", name, expression_of(name, &value));
	}
	if (!PG_ARGISNULL(3))
		args[(*n)++] = psprintf("when=%s", text_to_cstring(PG_GETARG_TEXT_PP(3)));
	args[(*n)++] = psprintf("mode=%s", text_to_cstring(PG_GETARG_TEXT_PP(5)));
	return args;
}

/* ----- checks ----- */

static const LpuOptions *
check_owner(const char *account, Relation table)
{
	LpuProblem *problem = NULL;
	const LpuOptions *options = lpu_server_for_account(account, table->rd_rel->relowner, &problem);

	if (options == NULL)
		lpu_problem_raise(problem);
	return options;
}

static void
check_trigger_table(Relation table)
{
	if (table->rd_rel->relkind != RELKIND_RELATION &&
		table->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a table", RelationGetRelationName(table))));
	if (table->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is a temporary table", RelationGetRelationName(table))));
}

static void
check_name_is_free(Relation table, const char *name, const char *trigger)
{
	if (!OidIsValid(get_trigger_oid(RelationGetRelid(table), trigger, true)))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_DUPLICATE_OBJECT),
			 errmsg("table \"%s\" already has a trigger for \"%s\"", RelationGetRelationName(table),
					name),
			 errdetail("It is called \"%s\".", trigger),
			 errhint("Drop it with lp_detach_trigger(), or give the new one a name of its own: name => '...'.")));
}

/* ----- creating ----- */

static char *
create_statement(Relation table, const char *name, bool update, const char *function, char **args,
				 int nargs)
{
	StringInfoData sql;
	int			i;

	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE TRIGGER %s AFTER %s ON %s %sFOR EACH %s EXECUTE FUNCTION %s(",
					 quote_identifier(name), update ? "UPDATE" : "INSERT",
					 lpu_mapping_table_name(RelationGetRelid(table)),
					 update ? "" : "REFERENCING NEW TABLE AS " TRANSITION_TABLE " ",
					 update ? "ROW" : "STATEMENT", function);
	for (i = 0; i < nargs; i++)
		appendStringInfo(&sql, "%s%s", i > 0 ? ", " : "", quote_literal_cstr(args[i]));
	appendStringInfoChar(&sql, ')');
	return sql.data;
}

static char *
trigger_function(FunctionCallInfo fcinfo)
{
	Oid			schema = get_func_namespace(fcinfo->flinfo->fn_oid);

	return psprintf("%s.lp_create_users_trigger", quote_identifier(get_namespace_name(schema)));
}

static void
run_utility(const char *sql)
{
	int			result = SPI_execute(sql, false, 0);

	if (result < 0)
		elog(ERROR, "could not run \"%s\": %s", sql, SPI_result_code_string(result));
}

static void
return_text(ReturnSetInfo *result, const char *text)
{
	Datum		values[1] = {CStringGetTextDatum(text)};
	bool		nulls[1] = {false};

	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static void
require_attach_arguments(FunctionCallInfo fcinfo)
{
	static const char *const names[] = {"target", "account", "attributes", NULL, "on_update",
	"mode"};
	int			i;

	for (i = 0; i < lengthof(names); i++)
		if (names[i] != NULL && PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("%s must not be null", names[i])));
}

/* ----- what to know ----- */

/* Return how many rows the table has, in words; NULL if none is known of. */
static char *
rows_there(Relation table)
{
	Oid			types[1] = {REGCLASSOID};
	Datum		values[1] = {ObjectIdGetDatum(RelationGetRelid(table))};
	bool		partitioned = table->rd_rel->relkind == RELKIND_PARTITIONED_TABLE;
	int			nest = NewGUCNestLevel();
	bool		countable;
	bool		isnull;
	int64		n;

	/* the caller's search_path is no business of these statements */
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	if (SPI_execute_with_args("SELECT bool_and(c.relkind = 'r'), sum(greatest(c.reltuples, 0))::bigint"
							  " FROM pg_class c WHERE c.oid = $1 AND c.relkind = 'r' OR c.oid IN"
							  " (SELECT t.relid FROM pg_partition_tree($1) t WHERE t.isleaf)",
							  1, types, values, NULL, true, 1) < 0 || SPI_processed != 1)
		elog(ERROR, "could not look for rows of \"%s\"", RelationGetRelationName(table));
	n = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	if (isnull)
		n = 0;
	/* what is stored elsewhere, or may not be read, is not counted */
	countable = n <= MAX_COUNTED &&
		DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull)) &&
		pg_class_aclcheck(RelationGetRelid(table), table->rd_rel->relowner,
						  ACL_SELECT) == ACLCHECK_OK;
	if (countable)
	{
		char	   *sql = psprintf("SELECT count(*) FROM (SELECT FROM %s%s LIMIT %d) s",
								   partitioned ? "" : "ONLY ",
								   lpu_mapping_table_name(RelationGetRelid(table)),
								   MAX_COUNTED + 1);
		LpuSavedIdentity caller;

		/* policies of the table are its owner's code */
		lpu_mapping_become_owner(RelationGetRelid(table), &caller);
		if (SPI_execute(sql, true, 1) < 0)
			elog(ERROR, "could not run \"%s\"", sql);
		lpu_become_again(&caller);
		n = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	}
	AtEOXact_GUC(true, nest);
	if (n == 0)
		return NULL;
	if (countable && n > MAX_COUNTED)
		return psprintf("more than %d", MAX_COUNTED);
	return psprintf(countable ? INT64_FORMAT : "about " INT64_FORMAT, n);
}

/* The WARNING and NOTICEs with which lp_attach_trigger() ends. */
static void
tell_what_to_know(Relation table, Oid function, bool on_update)
{
	const char *name = lpu_mapping_table_name(RelationGetRelid(table));
	bool		partitioned = table->rd_rel->relkind == RELKIND_PARTITIONED_TABLE;
	char	   *rows = rows_there(table);
	LpuForeignRole outsider;

	if (lpu_outsider_find(RelationGetRelid(table), function, &outsider))
	{
		LpuProblem *problem = lpu_outsider_problem(RelationGetRelid(table), &outsider);

		ereport(WARNING,
				(errcode(problem->sqlstate),
				 errmsg("users will be held: %s", problem->message),
				 errdetail("%s", problem->detail),
				 errhint("%s", problem->hint)));
	}
	if (rows != NULL)
		ereport(NOTICE,
				(errmsg("rows already in table %s are not queued: %s", name, rows),
				 errhint("Use lp_enqueue_rows() to queue them.")));
	if (lpu_mapping_key(table) == NIL)
		ereport(NOTICE,
				(errmsg("table %s has no primary key", name),
				 errdetail("Requests will not say which row they come from.")));
	if (table->rd_rel->relispartition)
		ereport(NOTICE,
				(errmsg("rows that come to partition %s through its parent do not fire this trigger", name),
				 errhint("Attach a trigger to the partitioned table for them.")));
	if (partitioned)
		ereport(NOTICE,
				(errmsg("rows that are inserted into a partition of %s by its name do not fire this trigger", name),
				 errhint("Attach a trigger to such a partition, too.")));
	if (on_update && (partitioned || table->rd_rel->relispartition))
		ereport(NOTICE,
				(errmsg("an UPDATE that moves a row to another partition creates no user, whatever the condition"),
				 errhint("Use lp_enqueue_rows() for such rows.")));
}

/*
 * lp_attach_trigger(target regclass, account text, attributes jsonb,
 *					 condition text DEFAULT NULL, on_update boolean DEFAULT false,
 *					 mode text DEFAULT 'queue', name text DEFAULT NULL)
 * RETURNS SETOF text
 *
 * Returns the CREATE TRIGGER statements that were run, with the rights of the
 * caller, who must own the table.
 */
Datum
lp_attach_trigger(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	bool		on_update;
	Relation	table;
	LpuMapping *mapping;
	const LpuOptions *options;
	char	  **args;
	char	   *name;
	char	   *statements[2] = {NULL, NULL};
	int			nargs;
	int			i;

	require_attach_arguments(fcinfo);
	on_update = PG_GETARG_BOOL(4);
	args = build_arguments(fcinfo, &nargs);
	mapping = lpu_mapping_read(nargs, args);
	if (on_update && mapping->condition == NULL)
		lpu_mapping_raise("on_update needs a condition: a user is created when it has become true.");
	name = PG_ARGISNULL(6) ? mapping->account : text_to_cstring(PG_GETARG_TEXT_PP(6));

	lpu_trigger_require_owner(PG_GETARG_OID(0));
	table = table_open(PG_GETARG_OID(0), ShareRowExclusiveLock);
	check_trigger_table(table);
	options = check_owner(mapping->account, table);
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	SPI_connect();
	lpu_mapping_check(mapping, table, TRANSITION_TABLE, options->require_password);
	for (i = 0; i <= on_update; i++)
	{
		char	   *trigger = lpu_attached_trigger(name, i == 1);

		check_name_is_free(table, name, trigger);
		statements[i] = create_statement(table, trigger, i == 1, trigger_function(fcinfo), args,
										 nargs);
	}
	for (i = 0; i <= on_update; i++)
	{
		run_utility(statements[i]);
		return_text(result, statements[i]);
	}
	tell_what_to_know(table, lpu_attached_function(fcinfo), on_update);
	table_close(table, NoLock);
	SPI_finish();
	return (Datum) 0;
}

/* ----- detaching ----- */

/* No trigger of lp_attach_trigger() fits: say what else is there. */
static void
tell_of_none(Relation table, Oid function)
{
	const char *by_hand = lpu_attached_list(lpu_attached_find(table, function, NULL, NULL, false));

	ereport(NOTICE,
			(errmsg("table \"%s\" has no such trigger of lp_attach_trigger()",
					RelationGetRelationName(table)),
			 *by_hand ? errdetail("It has these triggers with lp_create_users_trigger(): %s.", by_hand) : 0,
			 *by_hand ? errhint("Use DROP TRIGGER for a trigger that was written by hand.") : 0));
}

/*
 * lp_detach_trigger(target regclass, account text DEFAULT NULL, name text
 * DEFAULT NULL) RETURNS SETOF text
 *
 * Returns the DROP TRIGGER statements that were run, with the rights of the
 * caller.
 */
Datum
lp_detach_trigger(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	char	   *account = PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1));
	char	   *name = PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2));
	List	   *statements = NIL;
	List	   *found;
	Relation	table;
	ListCell   *cell;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("target must not be null")));
	lpu_trigger_require_owner(PG_GETARG_OID(0));
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	table = table_open(PG_GETARG_OID(0), AccessShareLock);
	found = lpu_attached_find(table, lpu_attached_function(fcinfo), account, name, true);
	if (found == NIL)
		tell_of_none(table, lpu_attached_function(fcinfo));
	lpu_attached_require_one(table, found, "lp_detach_trigger");
	foreach(cell, found)
	{
		LpuAttached *attached = lfirst(cell);

		statements = lappend(statements,
							 psprintf("DROP TRIGGER %s ON %s", quote_identifier(attached->trigger),
									  lpu_mapping_table_name(RelationGetRelid(table))));
	}
	table_close(table, AccessShareLock);
	SPI_connect();
	foreach(cell, statements)
	{
		run_utility(lfirst(cell));
		return_text(result, lfirst(cell));
	}
	SPI_finish();
	return (Datum) 0;
}

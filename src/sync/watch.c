/*
 * watch.c: defining the tables whose changes a sync watches.
 *
 * lp_sync_watch() makes statement triggers with transition tables, whose function copies columns
 * (mark.c), and stores the names of these columns and the key expression. The expression is stored
 * with all names qualified, like that of a view, and evaluated in runs, with the rights of the
 * sync's owner.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/value.h"
#include "optimizer/optimizer.h"
#include "parser/parse_func.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/plancache.h"
#include "utils/rel.h"
#include "utils/reltrigger.h"
#include "utils/ruleutils.h"

#include "base/compat.h"
#include "base/extension.h"
#include "base/origin.h"
#include "base/spi_plan.h"
#include "sync/mark.h"

PG_FUNCTION_INFO_V1(lp_sync_watch);
PG_FUNCTION_INFO_V1(lp_sync_unwatch);

#define FUNCTION_NAME "_lp_sync_mark_trigger"

/* The statements that are watched, and the transition tables that each has. */
static const struct
{
	const char *event;
	const char *suffix;
	const char *referencing;
}			events[] = {
	{"INSERT", "insert", "NEW TABLE AS lpusers_new"},
	{"UPDATE", "update", "OLD TABLE AS lpusers_old NEW TABLE AS lpusers_new"},
	{"DELETE", "delete", "OLD TABLE AS lpusers_old"},
};

/* ----- the expression ----- */

static void
raise_expression(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for parameter \"key_expression\""),
			 errdetail("%s", detail)));
}

/* The expression as parsed for the current user. */
static Node *
parse_expression(Oid table, const char *table_name, const char *expression)
{
	SPIPlanPtr	plan = SPI_prepare(psprintf("SELECT (%s\n) FROM %s", expression, table_name), 0,
								   NULL);
	List	   *sources = plan != NULL ? SPI_plan_get_plan_sources(plan) : NIL;
	Query	   *query;
	Node	   *parsed;

	if (list_length(sources) != 1 ||
		list_length(((CachedPlanSource *) linitial(sources))->query_list) != 1)
		raise_expression("It must be one expression.");
	query = linitial(((CachedPlanSource *) linitial(sources))->query_list);
	if (query->commandType != CMD_SELECT || list_length(query->targetList) != 1 ||
		list_length(query->rtable) != 1 || query->hasAggs || query->hasWindowFuncs ||
		((RangeTblEntry *) linitial(query->rtable))->relid != table)
		raise_expression("It must be one expression over a row of the table.");
	parsed = (Node *) ((TargetEntry *) linitial(query->targetList))->expr;
	/* "a, b" is a row */
	if (type_is_rowtype(exprType(parsed)))
		raise_expression("It must be one expression that can be a key.");
	return parsed;
}

/* Note a column of the table that the expression uses. */
static void
add_watched_column(LpuSyncWatch *watch, Oid table, const Var *var)
{
	Relation	relation;
	Form_pg_attribute column;
	char	   *name;
	ListCell   *cell;

	if (var->varattno <= 0)
		raise_expression("It must use columns of the table, not its rows or system columns.");
	relation = table_open(table, AccessShareLock);
	column = TupleDescAttr(RelationGetDescr(relation), var->varattno - 1);
	if (LPU_IS_VIRTUAL(column))
		raise_expression("Triggers do not see virtual generated columns.");
	name = pstrdup(NameStr(column->attname));
	foreach(cell, watch->columns)
		if (strcmp(lfirst(cell), name) == 0)
		break;
	if (cell == NULL)
	{
		watch->columns = lappend(watch->columns, name);
		watch->types = lappend(watch->types, format_type_be_qualified(column->atttypid));
	}
	table_close(relation, AccessShareLock);
}

/* Read an expression of the current user, and try it as the sync's owner. */
static void
read_expression(const LpuSync *sync, Oid table, const char *expression, LpuSyncWatch *watch)
{
	Node	   *parsed = parse_expression(table, watch->relation, expression);
	int			level = NewGUCNestLevel();
	ListCell   *cell;

	foreach(cell, pull_vars_of_level(parsed, 0))
		add_watched_column(watch, table, lfirst(cell));
	watch->alias = get_rel_name(table);
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	watch->expression = deparse_expression(parsed, deparse_context_for(watch->alias, table), false,
										   false);
	AtEOXact_GUC(false, level);
	lpu_sync_evaluate(sync, watch, PointerGetDatum(construct_empty_array(TEXTOID)));
}

/* ----- watching ----- */

/* Return its name with its schema, quoted. Raises unless it exists and the current user owns it. */
static char *
owned_table_name(Oid table)
{
	char	   *name = lpu_relation_name(table);

	if (!LPU_OWNS_TABLE(table, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, get_relkind_objtype(get_rel_relkind(table)),
					   get_rel_name(table));
	return name;
}

/* A statement trigger fires for statements that name its table. */
static void
tell_partitions(Oid table, const char *name)
{
	if (get_rel_relkind(table) == RELKIND_PARTITIONED_TABLE)
		ereport(NOTICE,
				(errmsg("statements that name a partition of %s are not marked", name),
				 errhint("Call lp_sync_watch() for these partitions, too.")));
	else if (get_rel_relispartition(table))
		ereport(NOTICE,
				(errmsg("statements that name the partitioned table of %s are not marked", name),
				 errhint("Call lp_sync_watch() for that table, too.")));
}

static void
execute(FunctionCallInfo fcinfo, const char *sql)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Datum		values[1] = {CStringGetTextDatum(sql)};
	bool		nulls[1] = {false};

	if (SPI_execute(sql, false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "could not run: %s", sql);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static void
store_watch(const LpuSync *sync, Oid table, LpuSyncWatch *watch)
{
	Oid			types[7] = {INT8OID, TEXTOID, OIDOID, TEXTOID, TEXTARRAYOID, TEXTARRAYOID, TEXTOID};
	Datum		values[7] = {
		Int64GetDatum(sync->id), CStringGetTextDatum(watch->relation), ObjectIdGetDatum(table),
		CStringGetTextDatum(watch->alias), lpu_sync_text_array(watch->columns),
		lpu_sync_text_array(watch->types),
		CStringGetTextDatum(watch->expression)
	};

	lpu_run("INSERT INTO @extschema@._lp_sync_watch (sync, relation, relation_oid, alias, columns, "
			" types, expression) VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id", 7, types, values);
	watch->id = lpu_int64_column(0, 1);
}

/*
 * lp_sync_watch(target regclass, sync text, key_expression text) RETURNS SETOF text
 */
Datum
lp_sync_watch(PG_FUNCTION_ARGS)
{
	Oid			table = PG_ARGISNULL(0) ? InvalidOid : PG_GETARG_OID(0);
	char	   *schema = get_namespace_name(get_func_namespace(fcinfo->flinfo->fn_oid));
	LpuSyncWatch watch = {0};
	LpuSync    *sync;
	int			i;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("target, sync and key_expression must not be null")));
	PreventCommandIfReadOnly("lp_sync_watch()");
	SPI_connect();
	/* locked, so that it is not dropped meanwhile */
	sync = lpu_sync_named(text_to_cstring(PG_GETARG_TEXT_PP(1)), true);
	watch.relation = owned_table_name(table);
	tell_partitions(table, watch.relation);
	read_expression(sync, table, text_to_cstring(PG_GETARG_TEXT_PP(2)), &watch);
	store_watch(sync, table, &watch);
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	for (i = 0; i < lengthof(events); i++)
		execute(fcinfo, psprintf("CREATE TRIGGER lpusers_watch_%lld_%s AFTER %s ON %s "
								 "REFERENCING %s FOR EACH STATEMENT "
								 "EXECUTE FUNCTION %s('%lld')", (long long) sync->id,
								 events[i].suffix, events[i].event, watch.relation,
								 events[i].referencing,
								 quote_qualified_identifier(schema, FUNCTION_NAME),
								 (long long) watch.id));
	SPI_finish();
	return (Datum) 0;
}

/* The names of the triggers of a table that mark keys. */
static List *
watching_triggers(Oid table, Oid function)
{
	Relation	relation = table_open(table, AccessShareLock);
	List	   *names = NIL;
	int			i;

	for (i = 0; relation->trigdesc != NULL && i < relation->trigdesc->numtriggers; i++)
		if (relation->trigdesc->triggers[i].tgfoid == function)
			names = lappend(names, pstrdup(relation->trigdesc->triggers[i].tgname));
	table_close(relation, NoLock);
	return names;
}

/*
 * Forget the watches of a table. By its name they are found in a copy of the database and, of a
 * sync that the caller may use, after the table was dropped: another role may own a table of that
 * name now. $1 table, $2 its name, $3 the caller, $4 origin here.
 */
static const char forget_sql[] =
"DELETE FROM @extschema@._lp_sync_watch w USING @extschema@._lp_sync s WHERE s.id = w.sync AND "
"CASE WHEN NOT @extschema@._lp_is_here(s.origin, $4) THEN w.relation = $2 "
" WHEN w.relation_oid = $1 THEN true "
" ELSE w.relation = $2 AND pg_catalog.pg_has_role($3, s.owner_oid, 'USAGE') "
"  AND NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = w.relation_oid) END";

/*
 * lp_sync_unwatch(target regclass) RETURNS SETOF text
 */
Datum
lp_sync_unwatch(PG_FUNCTION_ARGS)
{
	Oid			table = PG_ARGISNULL(0) ? InvalidOid : PG_GETARG_OID(0);
	Oid			schema = get_func_namespace(fcinfo->flinfo->fn_oid);
	Oid			types[4] = {OIDOID, TEXTOID, OIDOID, TEXTOID};
	Datum		values[4];
	Oid			function;
	char	   *name;
	ListCell   *cell;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("target must not be null")));
	PreventCommandIfReadOnly("lp_sync_unwatch()");
	name = owned_table_name(table);
	values[0] = ObjectIdGetDatum(table);
	values[1] = CStringGetTextDatum(name);
	values[2] = ObjectIdGetDatum(GetUserId());
	values[3] = CStringGetTextDatum(lpu_origin_text());
	function = LookupFuncName(list_make2(makeString(get_namespace_name(schema)),
										 makeString(pstrdup(FUNCTION_NAME))), 0, NULL, false);
	SPI_connect();
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	foreach(cell, watching_triggers(table, function))
		execute(fcinfo, psprintf("DROP TRIGGER %s ON %s", quote_identifier(lfirst(cell)),
								 name));
	lpu_run(forget_sql, 4, types, values);
	SPI_finish();
	return (Datum) 0;
}

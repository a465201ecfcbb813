/*
 * watch.c: which keys a table's statements have changed.
 *
 * Statement triggers with transition tables append a mark for each key, before
 * and after the change: no row of another transaction is waited for or looked
 * at. The key is an expression over the table's row, run with the rights of the
 * role that changes the table; nothing of the source is evaluated there. A mark
 * is written as the extension's owner.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/value.h"
#include "parser/parse_func.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/reltrigger.h"

#include "base/compat.h"
#include "base/spi_plan.h"
#include "sync/definition.h"

PG_FUNCTION_INFO_V1(lp_sync_watch);
PG_FUNCTION_INFO_V1(lp_sync_unwatch);
PG_FUNCTION_INFO_V1(_lp_sync_mark_trigger);

#define FUNCTION_NAME "_lp_sync_mark_trigger"

/* Names of the transition tables. */
#define OLD_ROWS "lpusers_old"
#define NEW_ROWS "lpusers_new"

/* The statements that are watched, and the transition tables that each has. */
static const struct
{
	const char *event;
	const char *suffix;
	const char *referencing;
}			events[] = {
	{"INSERT", "insert", "NEW TABLE AS " NEW_ROWS},
	{"UPDATE", "update", "OLD TABLE AS " OLD_ROWS " NEW TABLE AS " NEW_ROWS},
	{"DELETE", "delete", "OLD TABLE AS " OLD_ROWS},
};

/* ----- the trigger ----- */

/* The rows that a statement changed, as they were and are. */
static const char *
rows_of(const TriggerData *data)
{
	if (TRIGGER_FIRED_BY_INSERT(data->tg_event))
		return "SELECT * FROM " NEW_ROWS;
	if (TRIGGER_FIRED_BY_DELETE(data->tg_event))
		return "SELECT * FROM " OLD_ROWS;
	return "SELECT * FROM " OLD_ROWS " UNION ALL SELECT * FROM " NEW_ROWS;
}

/* The keys that changed, a text[]; 0: there is none. Run as the role that changes the table. */
static Datum
changed_keys(TriggerData *data, const char *expression)
{
	Relation	table = data->tg_relation;
	const char *schema = get_namespace_name(RelationGetNamespace(table));
	int			level = NewGUCNestLevel();
	bool		isnull;
	Datum		keys;
	int			result;

	(void) set_config_option("search_path",
							 psprintf("pg_catalog, %s, pg_temp", quote_identifier(schema)),
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	result = SPI_execute(psprintf("SELECT pg_catalog.array_agg(DISTINCT k) FROM (SELECT "
								  "(%s)::pg_catalog.text FROM (%s) AS %s) AS keys (k) "
								  "WHERE k IS NOT NULL", expression, rows_of(data),
								  quote_identifier(RelationGetRelationName(table))), true, 0);
	AtEOXact_GUC(false, level);
	if (result != SPI_OK_SELECT)
		elog(ERROR, "could not read the keys: %s", SPI_result_code_string(result));
	keys = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	return isnull ? (Datum) 0 : keys;
}

/*
 * _lp_sync_mark_trigger() RETURNS trigger: its arguments are the number of a
 * sync and an expression. A sync that is gone gets no marks.
 */
Datum
_lp_sync_mark_trigger(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	Oid			types[2] = {INT8OID, TEXTARRAYOID};
	Datum		values[2];

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_STATEMENT(data->tg_event) ||
		!TRIGGER_FIRED_AFTER(data->tg_event) || data->tg_trigger->tgnargs != 2)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("%s() must be fired by a trigger of lp_sync_watch()", FUNCTION_NAME)));
	SPI_connect();
	if (SPI_register_trigger_data(data) != SPI_OK_TD_REGISTER)
		elog(ERROR, "could not register the transition tables");
	values[0] = Int64GetDatum(pg_strtoint64(data->tg_trigger->tgargs[0]));
	values[1] = changed_keys(data, data->tg_trigger->tgargs[1]);
	if (values[1] != (Datum) 0)
		lpu_run("INSERT INTO @extschema@._lp_sync_mark (sync, source_key) "
				"SELECT s.id, k.key FROM @extschema@._lp_sync s, unnest($2) k (key) "
				"WHERE s.id = $1", 2, types, values);
	SPI_finish();
	return PointerGetDatum(NULL);
}

/* ----- watching ----- */

static void
check_table(Oid table)
{
	if (!LPU_OWNS_TABLE(table, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, get_relkind_objtype(get_rel_relkind(table)),
					   get_rel_name(table));
}

static char *
table_name(Oid table)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(table)),
									  get_rel_name(table));
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

/*
 * lp_sync_watch(target regclass, sync text, key_expression text) RETURNS SETOF text
 */
Datum
lp_sync_watch(PG_FUNCTION_ARGS)
{
	Oid			table = PG_ARGISNULL(0) ? InvalidOid : PG_GETARG_OID(0);
	char	   *schema = get_namespace_name(get_func_namespace(fcinfo->flinfo->fn_oid));
	char	   *expression;
	LpuSync    *sync;
	int			i;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("target, sync and key_expression must not be null")));
	PreventCommandIfReadOnly("lp_sync_watch()");
	SPI_connect();
	sync = lpu_sync_named(text_to_cstring(PG_GETARG_TEXT_PP(1)), false);
	check_table(table);
	expression = text_to_cstring(PG_GETARG_TEXT_PP(2));

	/*
	 * an expression that cannot be run must fail here, not in the statements
	 * of others
	 */
	if (SPI_execute(psprintf("SELECT (%s)::pg_catalog.text FROM %s LIMIT 0", expression,
							 table_name(table)), true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not try the expression");
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	for (i = 0; i < lengthof(events); i++)
		execute(fcinfo, psprintf("CREATE TRIGGER lpusers_watch_%lld_%s AFTER %s ON %s "
								 "REFERENCING %s FOR EACH STATEMENT "
								 "EXECUTE FUNCTION %s(%s, %s)", (long long) sync->id,
								 events[i].suffix, events[i].event, table_name(table),
								 events[i].referencing,
								 quote_qualified_identifier(schema, FUNCTION_NAME),
								 quote_literal_cstr(psprintf("%lld", (long long) sync->id)),
								 quote_literal_cstr(expression)));
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
 * lp_sync_unwatch(target regclass) RETURNS SETOF text
 */
Datum
lp_sync_unwatch(PG_FUNCTION_ARGS)
{
	Oid			table = PG_ARGISNULL(0) ? InvalidOid : PG_GETARG_OID(0);
	Oid			schema = get_func_namespace(fcinfo->flinfo->fn_oid);
	Oid			function;
	ListCell   *cell;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("target must not be null")));
	PreventCommandIfReadOnly("lp_sync_unwatch()");
	check_table(table);
	function = LookupFuncName(list_make2(makeString(get_namespace_name(schema)),
										 makeString(pstrdup(FUNCTION_NAME))), 0, NULL, false);
	SPI_connect();
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	foreach(cell, watching_triggers(table, function))
		execute(fcinfo, psprintf("DROP TRIGGER %s ON %s", quote_identifier(lfirst(cell)),
								 table_name(table)));
	SPI_finish();
	return (Datum) 0;
}

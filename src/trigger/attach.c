/*
 * attach.c: lp_attach_trigger() and lp_detach_trigger(): the trigger without writing it by hand.
 *
 * The mapping is checked against the table and the rights of its owner before anything is created; then the CREATE
 * TRIGGER is written and run with the rights of the caller. On a plain table INSERT gets one trigger per statement, with
 * a transition table; what has no transition table there (partitioned tables, partitions) and UPDATE get one per row.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/plancache.h"
#include "utils/rel.h"

#include "base/error.h"
#include "options/server.h"
#include "trigger/mapping.h"
#include "user/validate.h"

PG_FUNCTION_INFO_V1(lp_attach_trigger);
PG_FUNCTION_INFO_V1(lp_detach_trigger);

/* Names of the triggers that are made here. */
#define INSERT_TRIGGER "lpusers_insert"
#define UPDATE_TRIGGER "lpusers_update"

/* Name of the transition table in them. */
#define TRANSITION_TABLE "lpusers_new"

static void
raise_mapping(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid mapping: no trigger was created"),
			 errdetail("%s", detail)));
}

/* ---------------------------------------------------------------------------------------------------- arguments */

/* The trigger's arguments: the account, attribute=expression of each member, when=, mode=. */
static char **
build_arguments(FunctionCallInfo fcinfo, int *n)
{
	Jsonb	   *attributes = PG_GETARG_JSONB_P(2);
	JsonbIterator *it;
	JsonbValue	value;
	char	  **args;

	if (!JB_ROOT_IS_OBJECT(attributes))
		raise_mapping("\"attributes\" must be an object of attribute names and SQL expressions.");
	args = palloc((JB_ROOT_COUNT(attributes) + 4) * sizeof(char *));
	*n = 0;
	args[(*n)++] = text_to_cstring(PG_GETARG_TEXT_PP(1));
	it = JsonbIteratorInit(&attributes->root);
	(void) JsonbIteratorNext(&it, &value, true);
	while (JsonbIteratorNext(&it, &value, true) == WJB_KEY)
	{
		char	   *name = pnstrdup(value.val.string.val, value.val.string.len);

		(void) JsonbIteratorNext(&it, &value, true);
		if (value.type != jbvString)
			raise_mapping(psprintf("The expression of \"%s\" must be a string of SQL.", name));
		args[(*n)++] = psprintf("%s=%.*s", name, value.val.string.len, value.val.string.val);
	}
	if (!PG_ARGISNULL(3))
		args[(*n)++] = psprintf("when=%s", text_to_cstring(PG_GETARG_TEXT_PP(3)));
	args[(*n)++] = psprintf("mode=%s", text_to_cstring(PG_GETARG_TEXT_PP(5)));
	return args;
}

/* ------------------------------------------------------------------------------------------------------- checks */

static const lpu_options *
check_owner(const char *account, Relation table)
{
	lpu_problem *problem = NULL;
	const lpu_options *options = lpu_server_for_account(account, table->rd_rel->relowner, &problem);

	if (options == NULL)
		lpu_problem_raise(problem);
	return options;
}

static void
check_required(const lpu_mapping *mapping, bool require_password)
{
	bool		api_user = false;
	StringInfoData missing;
	int			a;
	int			i;

	initStringInfo(&missing);
	for (i = 0; i < mapping->nattributes; i++)
		api_user |= strcmp(mapping->attributes[i].attribute->name, "isApiUser") == 0;
	for (a = 0; a < lpu_nattributes; a++)
	{
		/* whether a row is an API user shows only then */
		if (!lpu_is_required(&lpu_attributes[a], require_password && !api_user, false))
			continue;
		for (i = 0; i < mapping->nattributes; i++)
			if (mapping->attributes[i].attribute == &lpu_attributes[a])
				break;
		if (i == mapping->nattributes)
			appendStringInfo(&missing, "%s\"%s\"", missing.len > 0 ? ", " : "", lpu_attributes[a].name);
	}
	if (missing.len > 0)
		raise_mapping(psprintf("Required attributes are missing: %s.", missing.data));
}

static bool
is_number_type(Oid type)
{
	return type == INT2OID || type == INT4OID || type == INT8OID || type == NUMERICOID;
}

static bool
is_json_type(Oid type)
{
	return type == JSONBOID || type == JSONOID;
}

/* What an expression for this kind must be, or NULL if the type will do. */
static const char *
type_complaint(lpu_value_kind kind, Oid type)
{
	Oid			element = get_element_type(type);

	switch (kind)
	{
		case LPU_BOOLEAN:
			return type == BOOLOID || is_json_type(type) ? NULL : "boolean";
		case LPU_LONG:
		case LPU_ID:
		case LPU_NUMBER:
			return is_number_type(type) || is_json_type(type) ? NULL : "a number";
		case LPU_IDS:
		case LPU_LONGS:
			return is_number_type(element) || is_json_type(type) ? NULL : "an array of numbers";
		case LPU_GROUP:
			return is_number_type(type) || is_json_type(type) ? NULL :
				"a group id, or jsonb such as jsonb_build_object('agentGroupId', 1)";
		case LPU_GROUPS:
			return is_number_type(element) || is_json_type(type) ? NULL : "an array of group ids, or jsonb";
		case LPU_TEXT:
		case LPU_DATE:
		case LPU_ANY:
			return OidIsValid(element) || type == BOOLOID || type_is_rowtype(type) ? "text" : NULL;
	}
	return NULL;
}

/* Plan the mapping's query over the table, which finds expressions that do not compile, and look at its types. */
static void
check_types(const lpu_mapping *mapping, Relation table)
{
	char	   *source = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(table)),
													RelationGetRelationName(table));
	const char *alias = quote_identifier(RelationGetRelationName(table));
	int			nest = NewGUCNestLevel();
	CachedPlanSource *planned;
	SPIPlanPtr	plan;
	int			i;

	/* what is not found when the trigger fires must not be found now */
	lpu_mapping_pin_path(table);
	lpu_mapping_try(mapping, alias, source, 0, NULL, false);
	plan = SPI_prepare(lpu_mapping_query(mapping, table, alias, source, NULL, 0), 0, NULL);
	AtEOXact_GUC(true, nest);
	if (plan == NULL)
		elog(ERROR, "could not prepare the query of a mapping");
	planned = linitial(SPI_plan_get_plan_sources(plan));
	for (i = 0; i < mapping->nattributes; i++)
	{
		Oid			type = getBaseType(TupleDescAttr(planned->resultDesc, i)->atttypid);
		const char *expected = type_complaint(mapping->attributes[i].attribute->kind, type);

		if (expected != NULL)
			raise_mapping(psprintf("The expression of \"%s\" must be %s, it is %s.",
								   mapping->attributes[i].attribute->name, expected, format_type_be(type)));
	}
}

static void
check_table(Relation table)
{
	if (table->rd_rel->relkind != RELKIND_RELATION && table->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a table", RelationGetRelationName(table))));
	if (table->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is a temporary table", RelationGetRelationName(table))));
}

/* Whoever may not create a trigger on the table does not get to lock it either. */
static void
check_right(Oid table)
{
	AclResult	result = pg_class_aclcheck(table, GetUserId(), ACL_TRIGGER);

	if (result != ACLCHECK_OK)
		aclcheck_error(result, OBJECT_TABLE, get_rel_name(table));
}

/* ---------------------------------------------------------------------------------------------------- creating */

static char *
create_statement(Relation table, const char *name, const char *event, bool by_row, const char *function, char **args,
				 int nargs)
{
	StringInfoData sql;
	int			i;

	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE TRIGGER %s AFTER %s ON %s %sFOR EACH %s EXECUTE FUNCTION %s(", name, event,
					 quote_qualified_identifier(get_namespace_name(RelationGetNamespace(table)),
												RelationGetRelationName(table)),
					 by_row ? "" : "REFERENCING NEW TABLE AS " TRANSITION_TABLE " ",
					 by_row ? "ROW" : "STATEMENT", function);
	for (i = 0; i < nargs; i++)
		appendStringInfo(&sql, "%s%s", i > 0 ? ", " : "", quote_literal_cstr(args[i]));
	appendStringInfoChar(&sql, ')');
	return sql.data;
}

static char *
trigger_function(FunctionCallInfo fcinfo)
{
	return psprintf("%s.lp_create_users_trigger",
					quote_identifier(get_namespace_name(get_func_namespace(fcinfo->flinfo->fn_oid))));
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
require_arguments(FunctionCallInfo fcinfo)
{
	static const char *const names[] = {"target", "account", "attributes", NULL, "on_update", "mode"};
	int			i;

	for (i = 0; i < lengthof(names); i++)
		if (names[i] != NULL && PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("%s must not be null", names[i])));
}

/*
 * lp_attach_trigger(target regclass, account text, attributes jsonb, condition text DEFAULT NULL,
 *					 on_update boolean DEFAULT false, mode text DEFAULT 'queue') RETURNS SETOF text
 */
Datum
lp_attach_trigger(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Relation	table;
	lpu_mapping *mapping;
	char	  **args;
	char	   *statements[2] = {NULL, NULL};
	int			nargs;
	int			i;

	require_arguments(fcinfo);
	args = build_arguments(fcinfo, &nargs);
	mapping = lpu_mapping_read(nargs, args);
	if (PG_GETARG_BOOL(4) && mapping->condition == NULL)
		raise_mapping("on_update needs a condition: a user is created when it has become true.");

	check_right(PG_GETARG_OID(0));
	table = table_open(PG_GETARG_OID(0), ShareRowExclusiveLock);
	check_table(table);
	check_required(mapping, check_owner(mapping->account, table)->require_password);
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	SPI_connect();
	check_types(mapping, table);
	statements[0] = create_statement(table, INSERT_TRIGGER, "INSERT",
									 table->rd_rel->relkind == RELKIND_PARTITIONED_TABLE || table->rd_rel->relispartition,
									 trigger_function(fcinfo), args, nargs);
	if (PG_GETARG_BOOL(4))
		statements[1] = create_statement(table, UPDATE_TRIGGER, "UPDATE", true, trigger_function(fcinfo), args, nargs);
	table_close(table, NoLock);
	for (i = 0; i < lengthof(statements) && statements[i] != NULL; i++)
	{
		run_utility(statements[i]);
		return_text(result, statements[i]);
	}
	SPI_finish();
	return (Datum) 0;
}

/*
 * lp_detach_trigger(target regclass) RETURNS SETOF text
 */
Datum
lp_detach_trigger(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Oid			types[2] = {REGCLASSOID, TEXTOID};
	Datum		values[2];
	List	   *statements = NIL;
	ListCell   *cell;
	uint64		i;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("target must not be null")));
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	SPI_connect();
	values[0] = PG_GETARG_DATUM(0);
	values[1] = CStringGetTextDatum(psprintf("%s()", trigger_function(fcinfo)));
	if (SPI_execute_with_args("SELECT pg_catalog.format('DROP TRIGGER %I ON %s', t.tgname,"
							  " t.tgrelid::pg_catalog.regclass)"
							  " FROM pg_catalog.pg_trigger t"
							  " WHERE t.tgrelid OPERATOR(pg_catalog.=) $1 AND NOT t.tgisinternal"
							  " AND t.tgparentid OPERATOR(pg_catalog.=) 0"
							  " AND t.tgfoid OPERATOR(pg_catalog.=) $2::pg_catalog.regprocedure::pg_catalog.oid"
							  " ORDER BY 1",
							  2, types, values, NULL, true, 0) < 0)
		elog(ERROR, "could not look for triggers");
	for (i = 0; i < SPI_processed; i++)
		statements = lappend(statements, SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1));
	foreach(cell, statements)
	{
		run_utility(lfirst(cell));
		return_text(result, lfirst(cell));
	}
	SPI_finish();
	return (Datum) 0;
}

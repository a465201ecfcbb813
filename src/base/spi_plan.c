/*
 * spi_plan.c: statements on the extension's tables, run as their owner through
 * kept plans.
 *
 * The statements are few and run often, so the plan of each is kept for the
 * life of the session. "@extschema@" in a statement stands for the extension's
 * schema, whose name is read each time: a schema may be renamed, and another
 * may get its name. A plan is therefore known by its statement together with
 * OID and name of the schema. All plans are made and run with the same role
 * and search_path, independent of the caller.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "nodes/params.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/extension.h"
#include "base/spi_plan.h"

#define SCHEMA_PLACEHOLDER "@extschema@"

/*
 * A statement and its plan, for a schema of this OID when it had this name.
 * Never freed: a plan may be running.
 */
typedef struct KeptPlan
{
	struct KeptPlan *next;
	char	   *sql;
	Oid			schema;
	NameData	schema_name;
	SPIPlanPtr	plan;
} KeptPlan;

static KeptPlan *plans = NULL;

/*
 * The statement with the name of the schema in place of each placeholder, in
 * the current memory context.
 */
static char *
insert_schema(const char *sql, const char *schema)
{
	StringInfoData text;
	const char *found;

	initStringInfo(&text);
	while ((found = strstr(sql, SCHEMA_PLACEHOLDER)) != NULL)
	{
		appendBinaryStringInfo(&text, sql, (int) (found - sql));
		appendStringInfoString(&text, quote_identifier(schema));
		sql = found + strlen(SCHEMA_PLACEHOLDER);
	}
	appendStringInfoString(&text, sql);
	return text.data;
}

/*
 * The plan does not depend on the values of parameters: to plan each execution
 * anew would cost more than the statement.
 */
static SPIPlanPtr
make_plan(const char *sql, const char *schema, int nargs, Oid *types)
{
	SPIPlanPtr	plan = SPI_prepare_cursor(insert_schema(sql, schema), nargs, types,
										  CURSOR_OPT_GENERIC_PLAN);

	if (plan == NULL)
		elog(ERROR, "could not prepare a statement of the queue: %s",
			 SPI_result_code_string(SPI_result));
	SPI_keepplan(plan);
	return plan;
}

static SPIPlanPtr
plan_for(Oid schema, const char *sql, int nargs, Oid *types)
{
	char	   *name = get_namespace_name(schema);
	KeptPlan   *kept;
	SPIPlanPtr	plan;

	if (name == NULL)
		elog(ERROR, "cache lookup failed for schema %u", schema);
	for (kept = plans; kept != NULL; kept = kept->next)
		if (kept->schema == schema && strcmp(NameStr(kept->schema_name), name) == 0 &&
			strcmp(kept->sql, sql) == 0)
			return kept->plan;
	plan = make_plan(sql, name, nargs, types);
	kept = MemoryContextAlloc(TopMemoryContext, sizeof(KeptPlan));
	kept->sql = MemoryContextStrdup(TopMemoryContext, sql);
	kept->schema = schema;
	namestrcpy(&kept->schema_name, name);
	kept->plan = plan;
	kept->next = plans;
	plans = kept;
	return plan;
}

/*
 * Run a statement on the extension's tables, with SPI connected, as their
 * owner (lpu_become_owner()); the caller is itself again when this returns.
 * Parameters must not be null. The result is SPI's; the current memory context
 * stays what it is. Raises what the statement raises, and 42704 if the
 * extension is not installed.
 */
void
lpu_run(const char *sql, int nargs, Oid *types, Datum *values)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid			schema = lpu_extension_schema();
	LpuSavedIdentity before;
	int			result;

	if (!OidIsValid(schema))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"lpusers\" is not installed in this database")));
	lpu_become_owner(schema, &before);
	result = SPI_execute_plan(plan_for(schema, sql, nargs, types), values, NULL, false, 0);
	lpu_become_again(&before);

	/* SPI leaves its own context current */
	MemoryContextSwitchTo(caller);
	if (result < 0)
		elog(ERROR, "could not run a statement of the queue: %s", SPI_result_code_string(result));
}

/* Take the line that shows a statement out of the context of an error. */
static void
hide_statement(ErrorData *error, const char *sql)
{
	char	   *line = psprintf("SQL statement \"%s\"", sql);
	char	   *found = error->context != NULL ? strstr(error->context, line) : NULL;
	char	   *rest;

	if (error->internalquery != NULL && strcmp(error->internalquery, sql) == 0)
	{
		error->internalquery = NULL;
		error->internalpos = 0;
	}
	if (found == NULL)
		return;
	rest = found + strlen(line);
	memmove(found, *rest == '\n' ? rest + 1 : rest, strlen(*rest == '\n' ? rest + 1 : rest) + 1);
	if (error->context[0] == '\0')
		error->context = NULL;
}

/*
 * Run a statement with SPI. Its text is written by the extension and may have several pages: it
 * is left out of the context of an error.
 */
static int
execute_unseen(const char *sql, SPIExecuteOptions *options)
{
	MemoryContext caller = CurrentMemoryContext;
	ErrorData  *error;
	volatile int result = 0;

	PG_TRY();
	{
		result = SPI_execute_extended(sql, options);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		hide_statement(error, sql);
		ReThrowError(error);
	}
	PG_END_TRY();
	return result;
}

/*
 * Run a statement as lpu_run() does, but once: its plan is not kept, so that it
 * may read relations that the caller has registered with SPI. nulls is 'n' for
 * each parameter that is null, or NULL if none is. Its rows go to dest unless
 * that is NULL. Return how many there were.
 */
uint64
lpu_run_once(const char *sql, const LpuParameters *parameters, DestReceiver *dest)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid			schema = lpu_extension_schema();
	SPIExecuteOptions options = {.dest = dest};
	LpuSavedIdentity before;
	int			result;
	int			i;

	options.params = makeParamList(parameters->n);
	for (i = 0; i < parameters->n; i++)
	{
		ParamExternData *p = &options.params->params[i];

		p->value = parameters->values[i];
		p->isnull = parameters->nulls != NULL && parameters->nulls[i] == 'n';
		p->pflags = PARAM_FLAG_CONST;
		p->ptype = parameters->types[i];
	}
	lpu_become_owner(schema, &before);
	result = execute_unseen(insert_schema(sql, get_namespace_name(schema)), &options);
	lpu_become_again(&before);
	MemoryContextSwitchTo(caller);
	if (result < 0)
		elog(ERROR, "could not run a statement: %s", SPI_result_code_string(result));
	return SPI_processed;
}

/* A statement that was expected to return a row may find none. */
static HeapTuple
result_row(int row)
{
	if (SPI_tuptable == NULL || (uint64) row >= SPI_tuptable->numvals)
		elog(ERROR, "a statement of the queue returned no row %d", row);
	return SPI_tuptable->vals[row];
}

/*
 * Return a column (from 1) of a row (from 0) of the last result as text in the current memory
 * context, NULL for null.
 */
char *
lpu_text_column(int row, int column)
{
	HeapTuple	tuple = result_row(row);
	Oid			type = SPI_gettypeid(SPI_tuptable->tupdesc, column);
	Datum		value;
	bool		isnull;

	/* the output functions of these copy the same bytes, once they are found */
	if (type != TEXTOID && type != JSONOID)
		return SPI_getvalue(tuple, SPI_tuptable->tupdesc, column);
	value = SPI_getbinval(tuple, SPI_tuptable->tupdesc, column, &isnull);
	return isnull ? NULL : TextDatumGetCString(value);
}

/* Return a column (from 1) of a row (from 0) of the last result as bigint, 0 for null. */
int64
lpu_int64_column(int row, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(result_row(row), SPI_tuptable->tupdesc, column,
									  &isnull);

	return isnull ? 0 : DatumGetInt64(value);
}

/* Return a column (from 1) of a row (from 0) of the last result as integer, 0 for null. */
int
lpu_int_column(int row, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(result_row(row), SPI_tuptable->tupdesc, column,
									  &isnull);

	return isnull ? 0 : DatumGetInt32(value);
}

/* Return a column (from 1) of a row (from 0) of the last result as boolean, false for null. */
bool
lpu_bool_column(int row, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(result_row(row), SPI_tuptable->tupdesc, column,
									  &isnull);

	return !isnull && DatumGetBool(value);
}

/* Return a timestamp with time zone; 0 for null. */
TimestampTz
lpu_timestamp_column(int row, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(result_row(row), SPI_tuptable->tupdesc, column,
									  &isnull);

	return isnull ? 0 : DatumGetTimestampTz(value);
}

/* Return an OID; InvalidOid for null. */
Oid
lpu_oid_column(int row, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(result_row(row), SPI_tuptable->tupdesc, column,
									  &isnull);

	return isnull ? InvalidOid : DatumGetObjectId(value);
}

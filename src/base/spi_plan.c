/*
 * spi_plan.c: statements on the extension's tables, run through kept plans.
 *
 * The statements are few and run often, so the plan of each is kept for the life of the session. A statement is known by
 * its text, which contains the name of the extension's schema.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "utils/memutils.h"

#include "base/spi_plan.h"

/* A statement of the queue and its plan. Each place that runs one has the same text each time, but for the schema. */
typedef struct kept_plan
{
	struct kept_plan *next;
	char	   *sql;
	SPIPlanPtr	plan;
} kept_plan;

static kept_plan *plans = NULL;

static SPIPlanPtr
plan_for(const char *sql, int nargs, Oid *types)
{
	kept_plan  *kept;
	SPIPlanPtr	plan;

	for (kept = plans; kept != NULL; kept = kept->next)
		if (strcmp(kept->sql, sql) == 0)
			return kept->plan;
	plan = SPI_prepare(sql, nargs, types);
	if (plan == NULL)
		elog(ERROR, "could not prepare a statement of the queue: %s", SPI_result_code_string(SPI_result));
	kept = MemoryContextAlloc(TopMemoryContext, sizeof(kept_plan));
	kept->sql = MemoryContextStrdup(TopMemoryContext, sql);
	kept->plan = plan;
	SPI_keepplan(plan);
	kept->next = plans;
	plans = kept;
	return plan;
}

void
lpu_run(const char *sql, int nargs, Oid *types, Datum *values)
{
	MemoryContext caller = CurrentMemoryContext;
	int			result = SPI_execute_plan(plan_for(sql, nargs, types), values, NULL, false, 0);

	/* SPI leaves its own context current */
	MemoryContextSwitchTo(caller);
	if (result < 0)
		elog(ERROR, "could not run a statement of the queue: %s", SPI_result_code_string(result));
}

char *
lpu_text_column(int row, int column)
{
	return SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);
}

int64
lpu_int64_column(int row, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull);

	return isnull ? 0 : DatumGetInt64(value);
}

int
lpu_int_column(int row, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull);

	return isnull ? 0 : DatumGetInt32(value);
}

bool
lpu_bool_column(int row, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull);

	return !isnull && DatumGetBool(value);
}

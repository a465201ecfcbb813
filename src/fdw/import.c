/*
 * import.c: making foreign tables, and their statistics.
 *
 * IMPORT FOREIGN SCHEMA liveperson declares one table for each kind of entity
 * that an account has, with every column that this version knows. ANALYZE
 * reads the whole list, as a scan does, and keeps a sample.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/tupdesc.h"
#include "commands/vacuum.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/sampling.h"

#include "base/compat.h"
#include "base/error.h"
#include "fdw/handler.h"
#include "options/server.h"
#include "remote/fetch.h"

/* The one schema there is. */
#define REMOTE_SCHEMA "liveperson"

/* What a row takes, as statistics see it: a user has 600 bytes or so, and some arrays. */
#define ENTITY_SIZE 800.0

/* ----- import ----- */

static bool
is_wanted(const ImportForeignSchemaStmt *stmt, const char *name)
{
	ListCell   *cell;

	if (stmt->list_type == FDW_IMPORT_SCHEMA_ALL)
		return true;
	foreach(cell, stmt->table_list)
		if (strcmp(((RangeVar *) lfirst(cell))->relname, name) == 0)
		return stmt->list_type == FDW_IMPORT_SCHEMA_LIMIT_TO;
	return stmt->list_type == FDW_IMPORT_SCHEMA_EXCEPT;
}

static void
check_import(const ImportForeignSchemaStmt *stmt)
{
	if (strcmp(stmt->remote_schema, REMOTE_SCHEMA) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_SCHEMA_NOT_FOUND),
				 errmsg("schema \"%s\" is not present on foreign server \"%s\"",
						stmt->remote_schema, stmt->server_name),
				 errhint("The one schema of an account is \"" REMOTE_SCHEMA "\".")));
	if (stmt->options != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				 errmsg("invalid option \"%s\"", linitial_node(DefElem, stmt->options)->defname),
				 errhint("IMPORT FOREIGN SCHEMA has no options here.")));
}

/* Raise an error for a name in LIMIT TO or EXCEPT that is no table of the account. */
static void
check_names(const ImportForeignSchemaStmt *stmt)
{
	ListCell   *cell;
	int			i;

	foreach(cell, stmt->table_list)
	{
		const char *name = ((RangeVar *) lfirst(cell))->relname;

		for (i = 0; lpu_resource_names[i] != NULL && strcmp(lpu_resource_names[i], name) != 0; i++)
			;
		if (lpu_resource_names[i] == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_FDW_TABLE_NOT_FOUND),
					 errmsg("table \"%s\" is not present on foreign server \"%s\"", name,
							stmt->server_name),
					 errhint("An account has the tables users, skills, profiles, agent_groups and lobs.")));
	}
}

static List *
lpuImportForeignSchema(ImportForeignSchemaStmt *stmt, Oid server)
{
	const char *server_name = quote_identifier(GetForeignServer(server)->servername);
	List	   *commands = NIL;
	int			i;

	check_import(stmt);
	check_names(stmt);
	for (i = 0; lpu_resource_names[i] != NULL; i++)
		if (is_wanted(stmt, lpu_resource_names[i]))
			commands = lappend(commands,
							   psprintf("CREATE FOREIGN TABLE %s (%s) SERVER %s OPTIONS (resource '%s')",
										lpu_resource_names[i],
										lpu_resource_columns(lpu_resource_of(i)),
										server_name, lpu_resource_names[i]));
	return commands;
}

/* ----- ANALYZE ----- */

/*
 * Sample the rows of a list whose length is known only at its end: every row has the same
 * chance.
 */
typedef struct SampleColumn
{
	HeapTuple  *rows;
	int			n;
	int			room;
	double		seen;
	double		to_skip;		/* until the next row that replaces one; -1:
								 * not chosen yet */
	ReservoirStateData reservoir;
} SampleColumn;

static void
consider_row(SampleColumn *s, TupleDesc desc, Datum *values, bool *nulls, MemoryContext context)
{
	MemoryContext caller;
	int			place = s->n;

	s->seen++;
	if (s->n == s->room)
	{
		if (s->to_skip < 0)
			s->to_skip = reservoir_get_next_S(&s->reservoir, s->seen - 1, s->room);
		if (s->to_skip > 0)
		{
			s->to_skip--;
			return;
		}
		place = (int) (s->room * sampler_random_fract(&s->reservoir.randstate));
		s->to_skip = -1;
		heap_freetuple(s->rows[place]);
	}
	else
		s->n++;
	caller = MemoryContextSwitchTo(context);
	s->rows[place] = heap_form_tuple(desc, values, nulls);
	MemoryContextSwitchTo(caller);
}

static void
read_all(LpuFetch *fetch, TupleDesc desc, SampleColumn *s)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext row = AllocSetContextCreate(CurrentMemoryContext, "lpusers row",
											  ALLOCSET_DEFAULT_SIZES);
	Datum	   *values = palloc(desc->natts * sizeof(Datum));
	bool	   *nulls = palloc(desc->natts * sizeof(bool));

	lpu_fetch_list(fetch);
	MemoryContextSwitchTo(row);
	while (lpu_fetch_next(fetch, values, nulls))
	{
		consider_row(s, desc, values, nulls, caller);
		MemoryContextReset(row);
		LPU_VACUUM_DELAY_POINT();
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(row);
	lpu_fetch_stop(fetch);
}

static int
acquire_sample_rows(Relation relation, int elevel, HeapTuple *rows, int targrows, double *totalrows,
					double *totaldeadrows)
{
	LpuForeignTable *table = lpu_table_read(relation);
	LpuFetchPlan plan = {0};
	SampleColumn s = {.rows = rows,.room = targrows,.to_skip = -1};
	LpuProblem *problem = NULL;
	const LpuOptions *options = lpu_server_for_role(table->server, relation->rd_rel->relowner,
													&problem);

	if (options == NULL)
		lpu_problem_raise(problem);
	plan.columns = bms_add_range(NULL, 0, table->ncolumns - 1);
	reservoir_init_selection_state(&s.reservoir, targrows);
	read_all(lpu_fetch_new(table, options, &plan), RelationGetDescr(relation), &s);
	*totalrows = s.seen;
	*totaldeadrows = 0;
	ereport(elevel,
			(errmsg("\"%s\": read %.0f entities; %d rows in sample",
					RelationGetRelationName(relation), s.seen, s.n)));
	return s.n;
}

/*
 * The size matters where tables are sampled together, as partitions are: each
 * gets its share of the sample.
 */
static bool
lpuAnalyzeForeignTable(Relation relation, AcquireSampleRowsFunc *func, BlockNumber *totalpages)
{
	double		rows = relation->rd_rel->reltuples;

	if (rows < 0)
		rows = lpu_table_read(relation)->resource->rows;
	*func = acquire_sample_rows;
	*totalpages = (BlockNumber) Max(rows * ENTITY_SIZE / BLCKSZ, 1);
	return true;
}

/* Set the callbacks of IMPORT FOREIGN SCHEMA and ANALYZE. */
void
lpu_fdw_import(FdwRoutine *routine)
{
	routine->ImportForeignSchema = lpuImportForeignSchema;
	routine->AnalyzeForeignTable = lpuAnalyzeForeignTable;
}

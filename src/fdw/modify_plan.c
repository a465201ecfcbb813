/*
 * modify_plan.c: a foreign table as the target of a statement.
 *
 * Planning of INSERT, UPDATE and DELETE: which commands the table allows, which columns of the
 * plan identify a row, which columns are set. Only the table of users can be written, and UPDATE
 * and DELETE need its column for the id.
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/pathnodes.h"
#include "optimizer/appendinfo.h"
#include "optimizer/inherit.h"
#include "optimizer/pathnode.h"
#include "optimizer/plancat.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "base/error.h"
#include "fdw/handler.h"
#include "options/server.h"
#include "remote/update_row.h"

/* The option of the table, else that of its server. */
static bool
may_be_written(const LpuForeignTable *table)
{
	LpuProblem *problem = NULL;
	const LpuOptions *options;

	if (table->updatable >= 0)
		return table->updatable;
	options = lpu_server_alone(table->server, &problem);
	if (options == NULL)
		lpu_problem_raise(problem);
	return options->updatable;
}

/*
 * Return which of INSERT, UPDATE and DELETE the table allows. The executor calls this when it
 * starts a statement that writes the table by name; for COPY and for rows that are routed,
 * BeginForeignInsert() does.
 */
static int
lpuIsForeignRelUpdatable(Relation relation)
{
	LpuForeignTable *table = lpu_table_read(relation);

	if (table->resource->id != LPU_USERS || !may_be_written(table))
		return 0;
	if (table->id_column == 0 || table->columns[table->id_column - 1].type != INT8OID)
		return 1 << CMD_INSERT;
	return (1 << CMD_INSERT) | (1 << CMD_UPDATE) | (1 << CMD_DELETE);
}

/*
 * Return the name of a junk column in the plan of an UPDATE or DELETE. The id is named after the
 * number of the table's column, since other foreign tables of one statement may have it
 * elsewhere. Allocated in the current memory context.
 */
char *
lpu_fdw_junk_name(const char *what, int column)
{
	return psprintf("lpusers_%s_%d", what, column);
}

/* A column that goes through the plan. */
static void
add_junk(PlannerInfo *root, Index rtindex, Relation relation, int column, const char *what)
{
	Form_pg_attribute attribute = TupleDescAttr(RelationGetDescr(relation), column - 1);

	add_row_identity_var(root, makeVar(rtindex, column, attribute->atttypid, attribute->atttypmod,
									   attribute->attcollation, 0),
						 rtindex, lpu_fdw_junk_name(what, column));
}

static void
lpuAddForeignUpdateTargets(PlannerInfo *root, Index rtindex, RangeTblEntry *target_rte,
						   Relation relation)
{
	LpuForeignTable *table = lpu_table_read(relation);

	/* if it cannot be updated, the executor says so */
	if ((lpuIsForeignRelUpdatable(relation) & (1 << CMD_UPDATE)) == 0)
		return;
	add_junk(root, rtindex, relation, table->id_column, LPU_ID_JUNK);
	/* the row as it was read: of UPDATE PostgreSQL adds it */
	if (root->parse->commandType == CMD_DELETE)
		add_row_identity_var(root,
							 makeVar(rtindex, InvalidAttrNumber, RECORDOID, -1, InvalidOid, 0),
							 rtindex,
							 LPU_ROW_JUNK);
}

static List *
updated_columns(PlannerInfo *root, Index index, const LpuForeignTable *table)
{
	Bitmapset  *updated = LPU_UPDATED_COLUMNS(root, index);
	List	   *columns = NIL;
	int			i = -1;

	while ((i = bms_next_member(updated, i)) >= 0)
	{
		int			column = i + FirstLowInvalidHeapAttributeNumber - 1;

		if (column < 0 || table->columns[column].name == NULL)
			continue;
		lpu_delta_check_column(table, &table->columns[column]);
		columns = lappend_int(columns, column);
	}
	return columns;
}

/* Return a constant as SQL; "" for anything else, and for a secret. */
static char *
constant_text(const LpuColumn *column, Node *expr)
{
	Const	   *value = (Const *) expr;
	Oid			function;
	bool		varlena;
	char	   *text;

	if (expr == NULL || !IsA(expr, Const) || column->secret)
		return "";
	if (value->constisnull)
		return "NULL";
	if (value->consttype == BOOLOID)
		return DatumGetBool(value->constvalue) ? "true" : "false";
	getTypeOutputInfo(value->consttype, &function, &varlena);
	text = OidOutputFunctionCall(function, value->constvalue);

	return value->consttype == INT4OID ||
		value->consttype == INT8OID ? text : quote_literal_cstr(text);
}

/* What the columns are set to, as far as the statement says it in a word; for a message only. */
static List *
updated_values(PlannerInfo *root, Index index, const LpuForeignTable *table, List *columns)
{
	List	   *values = NIL;
	ListCell   *cell;

	foreach(cell, columns)
	{
		Node	   *expr = NULL;
		ListCell   *entry;
		ListCell   *number;

		/*
		 * the columns of a partition have other numbers than those of its
		 * parent
		 */
		if (index == root->parse->resultRelation)
			forboth(entry, root->processed_tlist, number, root->update_colnos)
				if (lfirst_int(number) == lfirst_int(cell) + 1)
				expr = (Node *) lfirst_node(TargetEntry, entry)->expr;
		values = lappend(values,
						 makeString(constant_text(&table->columns[lfirst_int(cell)], expr)));
	}
	return values;
}

static bool
is_conditional(PlannerInfo *root)
{
	return root->parse->jointree->quals != NULL || list_length(root->parse->jointree->fromlist) > 1;
}

static List *
lpuPlanForeignModify(PlannerInfo *root, ModifyTable *plan, Index index, int subplan_index)
{
	Relation	relation = table_open(planner_rt_fetch(index, root)->relid, NoLock);
	LpuForeignTable *table = lpu_table_read(relation);
	List	   *columns = NIL;

	table_close(relation, NoLock);
	/* the others are scanned, too */
	if (plan->operation == CMD_INSERT)
		lpu_fdw_refuse_system_columns(root, index, table);
	/* of the others the executor says that they cannot be written */
	if (plan->operation == CMD_UPDATE && table->resource->id == LPU_USERS)
		columns = updated_columns(root, index, table);
	return list_make4(columns, updated_values(root, index, table, columns),
					  makeBoolean(is_conditional(root)),
					  makeBoolean(plan->onConflictAction == ONCONFLICT_NOTHING));
}

/* Set the callbacks that plan writing. */
void
lpu_fdw_target(FdwRoutine *routine)
{
	routine->IsForeignRelUpdatable = lpuIsForeignRelUpdatable;
	routine->AddForeignUpdateTargets = lpuAddForeignUpdateTargets;
	routine->PlanForeignModify = lpuPlanForeignModify;
}

/*
 * modify_begin.c: the beginning of a statement that writes a foreign table.
 *
 * It checks that the role may write, reads the options that the whole statement uses, and finds the
 * columns of the plan that say which user a row is. Nothing is sent. What depends on triggers and
 * RETURNING is known only when the first row comes (modify.c).
 */
#include "postgres.h"

#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/hsearch.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "base/error.h"
#include "base/guc.h"
#include "fdw/modify_state.h"
#include "options/server.h"

static LpuModifyState *
begin(ModifyTableState *mtstate, ResultRelInfo *info, CmdType operation, LpuMethod method,
	  const char *what,
	  const char *hint)
{
	LpuModifyState *state = palloc0(sizeof(LpuModifyState));
	LpuProblem *problem = NULL;

	/* the executor has checked, but allows tables in a temporary schema */
	PreventCommandIfReadOnly(operation == CMD_INSERT ? "INSERT" : operation == CMD_UPDATE ?
							 "UPDATE" : "DELETE");
	state->context = CurrentMemoryContext;
	state->mtstate = mtstate;
	state->operation = operation;
	state->relation = RelationGetRelid(info->ri_RelationDesc);
	state->table = lpu_table_read(info->ri_RelationDesc);
	state->writer.table = state->table;
	state->writer.role = LPU_WRITE_ROLE(info, mtstate->ps.state);
	lpu_fdw_require_rights(state->table->server, state->writer.role, operation);
	if ((state->writer.options = lpu_server_for_role(state->table->server, state->writer.role,
													 &problem)) == NULL)
		lpu_problem_raise(problem);
	state->writer.method = method;
	state->writer.what = what;
	state->writer.hint = hint;
	info->ri_FdwState = state;
	return state;
}

static void
begin_insert(ModifyTableState *mtstate, ResultRelInfo *info, bool skip)
{
	LpuModifyState *state = begin(mtstate, info, CMD_INSERT, LPU_CREATE_USERS, "create users",
								  skip ?
								  "The statement can be repeated: it leaves out users whose login exists." :
								  "INSERT ... ON CONFLICT DO NOTHING leaves out users whose login exists, so that a "
								  "statement can be repeated.");

	state->creation = lpu_creation_new(&state->writer, skip);
	state->created = palloc(lpu_creation_room(state->writer.options) * sizeof(TupleTableSlot *));
}

static HTAB *
make_id_set(void)
{
	HASHCTL		ctl = {.keysize = sizeof(int64),.entrysize = sizeof(int64),
	.hcxt = CurrentMemoryContext};

	return hash_create("lpusers ids", 256, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static void
find_rows(LpuModifyState *state, const ResultRelInfo *info)
{
	List	   *list = outerPlanState(state->mtstate)->plan->targetlist;

	state->id = ExecFindJunkAttributeInTlist(list,
											 lpu_fdw_junk_name(LPU_ID_JUNK,
															   state->table->id_column));
	state->row = ExecFindJunkAttributeInTlist(list, LPU_ROW_JUNK);
	state->update.writer = &state->writer;
	state->update.desc = RelationGetDescr(info->ri_RelationDesc);
	state->seen = make_id_set();
	state->limit = lpu_max_changes;
}

static void
read_set_list(LpuSetList *list, const LpuForeignTable *table, List *fdw_private)
{
	List	   *columns = list_nth(fdw_private, LPU_MODIFY_COLUMNS);
	List	   *values = list_nth(fdw_private, LPU_MODIFY_VALUES);
	ListCell   *column;
	ListCell   *value;

	list->conditional = boolVal(list_nth(fdw_private, LPU_MODIFY_CONDITIONAL));
	list->values = palloc0(Max(table->ncolumns, 1) * sizeof(char *));
	forboth(column, columns, value, values)
	{
		list->columns = bms_add_member(list->columns, lfirst_int(column));
		if (*strVal(lfirst(value)) != '\0')
			list->values[lfirst_int(column)] = strVal(lfirst(value));
	}
}

static void
begin_update(ModifyTableState *mtstate, ResultRelInfo *info, List *fdw_private)
{
	LpuModifyState *state = begin(mtstate, info, CMD_UPDATE, LPU_UPDATE_USERS, "update users",
								  "Look at the users before you repeat the statement.");

	find_rows(state, info);
	read_set_list(&state->set_list, state->table, fdw_private);
	state->update.list = &state->set_list;
	state->update.by_trigger = info->ri_TrigDesc && info->ri_TrigDesc->trig_update_before_row;
	state->change = lpu_change_new(&state->update);
}

static void
begin_delete(ModifyTableState *mtstate, ResultRelInfo *info)
{
	LpuModifyState *state = begin(mtstate, info, CMD_DELETE, LPU_DELETE_USERS, "delete users",
								  "The statement can be repeated.");

	find_rows(state, info);
	state->removal = lpu_removal_new(&state->update);
}

/* FDW callback: begin an INSERT, UPDATE or DELETE, unless it is only explained. */
void
lpuBeginForeignModify(ModifyTableState *mtstate, ResultRelInfo *info, List *fdw_private,
					  int subplan_index, int eflags)
{
	if (eflags & EXEC_FLAG_EXPLAIN_ONLY)
		return;
	if (mtstate->operation == CMD_INSERT)
		begin_insert(mtstate, info, boolVal(list_nth(fdw_private, LPU_MODIFY_SKIP)));
	else if (mtstate->operation == CMD_UPDATE)
		begin_update(mtstate, info, fdw_private);
	else
		begin_delete(mtstate, info);
}

/* FDW callback: begin to write rows of COPY, or rows that a partitioned table routes here. */
void
lpuBeginForeignInsert(ModifyTableState *mtstate, ResultRelInfo *info)
{
	ModifyTable *plan = castNode(ModifyTable, mtstate->ps.plan);

	if (info->ri_FdwState != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot move rows into foreign table \"%s\" while it is updated",
						RelationGetRelationName(info->ri_RelationDesc)),
				 errhint("Leave it out of the UPDATE by a condition on the partition key.")));
	if ((info->ri_FdwRoutine->IsForeignRelUpdatable(info->ri_RelationDesc) &
		 (1 << CMD_INSERT)) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("foreign table \"%s\" does not allow inserts",
						RelationGetRelationName(info->ri_RelationDesc))));
	begin_insert(mtstate, info, plan != NULL && plan->onConflictAction == ONCONFLICT_NOTHING);
	if (plan != NULL)
		lpu_fdw_refuse_system_columns_of_routed(plan,
												((LpuModifyState *) info->ri_FdwState)->table);
}

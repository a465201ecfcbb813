/*
 * fdw_modify.c: writing a foreign table.
 *
 * INSERT and COPY create users, UPDATE reads, merges and puts them back, DELETE deletes them; only the table of users can
 * be written. Rows are collected and go in batches of batch_size, unless somebody wants to see each row as it is written:
 * RETURNING, row triggers, WITH CHECK OPTION. The executor batches INSERT by itself; of UPDATE and DELETE (and of COPY, in
 * PostgreSQL 15) the last batch goes when it ends the table, which is still inside of the statement.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/pathnodes.h"
#include "optimizer/appendinfo.h"
#include "optimizer/inherit.h"
#include "optimizer/pathnode.h"
#include "parser/parsetree.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "change.h"
#include "compat.h"
#include "compat_explain.h"
#include "creation.h"
#include "fdw.h"
#include "problem.h"
#include "server.h"

/* Columns of the plan that carry who a row is. */
#define ID_JUNK "lpusers_id"
#define LOGIN_JUNK "lpusers_login"
#define ROW_JUNK "wholerow"

/* What PlanForeignModify() says, an item for each. */
enum
{
	LPU_MODIFY_COLUMNS,			/* IntList: columns that UPDATE sets, numbers less one */
	LPU_MODIFY_SKIP				/* Boolean: ON CONFLICT DO NOTHING */
};

typedef struct modify_state
{
	lpu_table  *table;
	lpu_writer	writer;
	MemoryContext context;		/* of the statement */
	CmdType		operation;
	bool		buffered;		/* rows wait for their batch here */
	lpu_creation *creation;		/* of INSERT */
	lpu_change *change;			/* of UPDATE */
	lpu_user_identity *gone;	/* of DELETE: the batch */
	int			ngone;
	AttrNumber	id;				/* places in the plan's rows */
	AttrNumber	login;
	AttrNumber	row;
	HTAB	   *seen;			/* ids of UPDATE and DELETE: a join may bring a row twice */
} modify_state;

/* ------------------------------------------------------------------------------------------------------- planning */

/* Which of INSERT, UPDATE, DELETE can the table take? */
static int
lpuIsForeignRelUpdatable(Relation relation)
{
	lpu_table  *table = lpu_table_read(relation);

	if (table->resource->id != LPU_USERS)
		return 0;
	if (table->id_column == 0 || table->columns[table->id_column - 1].type != INT8OID)
		return 1 << CMD_INSERT;
	return (1 << CMD_INSERT) | (1 << CMD_UPDATE) | (1 << CMD_DELETE);
}

static int
login_column(const lpu_table *table)
{
	int			i;

	for (i = 0; i < table->ncolumns; i++)
		if (table->columns[i].name != NULL && strcmp(table->columns[i].attribute, "loginName") == 0 &&
			table->columns[i].type == TEXTOID)
			return i + 1;
	return 0;
}

static void
lpuAddForeignUpdateTargets(PlannerInfo *root, Index rtindex, RangeTblEntry *target_rte, Relation relation)
{
	lpu_table  *table = lpu_table_read(relation);
	int			login = login_column(table);

	add_row_identity_var(root, makeVar(rtindex, table->id_column, INT8OID, -1, InvalidOid, 0), rtindex, ID_JUNK);
	/* who it is, for the record and for messages */
	if (login > 0)
		add_row_identity_var(root, makeVar(rtindex, login, TEXTOID, -1,
										   TupleDescAttr(RelationGetDescr(relation), login - 1)->attcollation, 0),
							 rtindex, LOGIN_JUNK);
	/* UPDATE has the row anyway; of DELETE somebody may want to see it */
	if (root->parse->commandType == CMD_DELETE && root->parse->returningList != NIL)
		add_row_identity_var(root, makeVar(rtindex, InvalidAttrNumber, RECORDOID, -1, InvalidOid, 0), rtindex, ROW_JUNK);
}

/* Read-only attributes, and the whole entity, cannot be set. */
static void
check_settable(const lpu_table *table, const lpu_column *column)
{
	if (column->whole)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("column \"%s\" of foreign table \"%s\" cannot be updated", column->name, table->name),
				 errdetail("It shows the whole entity."),
				 errhint("Set the columns of single attributes, or call lp_update_users().")));
	if (column->def != NULL && (column->def->rules & LPU_READ_ONLY))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("column \"%s\" of foreign table \"%s\" cannot be updated", column->name, table->name),
				 errdetail("Attribute \"%s\" is read-only.", column->attribute)));
}

static List *
updated_columns(PlannerInfo *root, Index index, const lpu_table *table)
{
	Bitmapset  *updated = LPU_UPDATED_COLUMNS(root, index);
	List	   *columns = NIL;
	int			i = -1;

	while ((i = bms_next_member(updated, i)) >= 0)
	{
		int			column = i + FirstLowInvalidHeapAttributeNumber - 1;

		if (column < 0 || table->columns[column].name == NULL)
			continue;
		check_settable(table, &table->columns[column]);
		columns = lappend_int(columns, column);
	}
	return columns;
}

static List *
lpuPlanForeignModify(PlannerInfo *root, ModifyTable *plan, Index index, int subplan_index)
{
	Relation	relation = table_open(planner_rt_fetch(index, root)->relid, NoLock);
	lpu_table  *table = lpu_table_read(relation);
	List	   *columns = NIL;

	table_close(relation, NoLock);
	if (plan->operation == CMD_MERGE)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("MERGE cannot write foreign table \"%s\"", table->name)));
	if (plan->onConflictAction == ONCONFLICT_UPDATE)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("ON CONFLICT DO UPDATE cannot be used with foreign table \"%s\"", table->name),
				 errhint("ON CONFLICT DO NOTHING leaves out users whose login exists.")));
	/* of the others the executor says that they cannot be written */
	if (plan->operation == CMD_UPDATE && table->resource->id == LPU_USERS)
		columns = updated_columns(root, index, table);
	return list_make2(columns, makeBoolean(plan->onConflictAction == ONCONFLICT_NOTHING));
}

/* ------------------------------------------------------------------------------------------------------- beginning */

static bool
has_row_triggers(const ResultRelInfo *info, CmdType operation)
{
	const TriggerDesc *triggers = info->ri_TrigDesc;

	if (triggers == NULL)
		return false;
	return operation == CMD_INSERT ? triggers->trig_insert_before_row || triggers->trig_insert_after_row :
		operation == CMD_UPDATE ? triggers->trig_update_before_row || triggers->trig_update_after_row :
		triggers->trig_delete_before_row || triggers->trig_delete_after_row;
}

/* Does somebody want to see each row as it is written? */
static bool
goes_alone(const ResultRelInfo *info, CmdType operation)
{
	return info->ri_projectReturning != NULL || info->ri_WithCheckOptions != NIL || has_row_triggers(info, operation);
}

static modify_state *
begin(ResultRelInfo *info, EState *estate, CmdType operation, lpu_method method, const char *what, const char *hint)
{
	modify_state *state = palloc0(sizeof(modify_state));
	lpu_problem *problem = NULL;

	state->context = CurrentMemoryContext;
	state->operation = operation;
	state->table = lpu_table_read(info->ri_RelationDesc);
	state->writer.table = state->table;
	state->writer.role = LPU_WRITE_ROLE(info, estate);
	state->writer.options = lpu_server_for_role(state->table->server, state->writer.role, &problem);
	if (state->writer.options == NULL)
		lpu_problem_raise(problem);
	state->writer.method = method;
	state->writer.what = what;
	state->writer.hint = hint;
	info->ri_FdwState = state;
	return state;
}

static void
begin_insert(ResultRelInfo *info, EState *estate, bool skip)
{
	modify_state *state = begin(info, estate, CMD_INSERT, LPU_CREATE_USERS, "create users",
								"INSERT ... ON CONFLICT DO NOTHING leaves out users whose login exists, so that a "
								"statement can be repeated.");

	state->creation = lpu_creation_new(&state->writer, state->table, skip);
}

static HTAB *
make_id_set(void)
{
	HASHCTL		ctl = {.keysize = sizeof(int64), .entrysize = sizeof(int64), .hcxt = CurrentMemoryContext};

	return hash_create("lpusers ids", 256, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static void
find_junk(modify_state *state, ModifyTableState *mtstate)
{
	List	   *list = outerPlanState(mtstate)->plan->targetlist;

	state->id = ExecFindJunkAttributeInTlist(list, ID_JUNK);
	state->login = ExecFindJunkAttributeInTlist(list, LOGIN_JUNK);
	state->row = ExecFindJunkAttributeInTlist(list, ROW_JUNK);
	state->seen = make_id_set();
}

static void
begin_update(ModifyTableState *mtstate, ResultRelInfo *info, List *columns)
{
	modify_state *state = begin(info, mtstate->ps.state, CMD_UPDATE, LPU_UPDATE_USERS, "update users", NULL);
	Bitmapset  *set = NULL;
	ListCell   *cell;

	find_junk(state, mtstate);
	foreach(cell, columns)
		set = bms_add_member(set, lfirst_int(cell));
	state->buffered = !goes_alone(info, CMD_UPDATE);
	state->change = lpu_change_new(&state->writer, state->table, RelationGetDescr(info->ri_RelationDesc), set,
								   info->ri_TrigDesc && info->ri_TrigDesc->trig_update_before_row);
}

static void
begin_delete(ModifyTableState *mtstate, ResultRelInfo *info)
{
	modify_state *state = begin(info, mtstate->ps.state, CMD_DELETE, LPU_DELETE_USERS, "delete users", NULL);

	find_junk(state, mtstate);
	state->buffered = !goes_alone(info, CMD_DELETE);
	state->gone = palloc(state->writer.options->batch_size * sizeof(lpu_user_identity));
}

static void
lpuBeginForeignModify(ModifyTableState *mtstate, ResultRelInfo *info, List *fdw_private, int subplan_index, int eflags)
{
	if (eflags & EXEC_FLAG_EXPLAIN_ONLY)
		return;
	if (mtstate->operation == CMD_INSERT)
		begin_insert(info, mtstate->ps.state, boolVal(list_nth(fdw_private, LPU_MODIFY_SKIP)));
	else if (mtstate->operation == CMD_UPDATE)
		begin_update(mtstate, info, list_nth(fdw_private, LPU_MODIFY_COLUMNS));
	else
		begin_delete(mtstate, info);
}

/* COPY, or rows that a partitioned table routes here. */
static void
lpuBeginForeignInsert(ModifyTableState *mtstate, ResultRelInfo *info)
{
	ModifyTable *plan = castNode(ModifyTable, mtstate->ps.plan);

	if (info->ri_FdwState != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot move rows into foreign table \"%s\" while it is updated",
						RelationGetRelationName(info->ri_RelationDesc))));
	if ((lpuIsForeignRelUpdatable(info->ri_RelationDesc) & (1 << CMD_INSERT)) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("foreign table \"%s\" does not allow inserts", RelationGetRelationName(info->ri_RelationDesc))));
	begin_insert(info, mtstate->ps.state, plan != NULL && plan->onConflictAction == ONCONFLICT_NOTHING);
	/* COPY has no plan */
	((modify_state *) info->ri_FdwState)->buffered = plan == NULL && !LPU_COPY_IS_BATCHED &&
		!goes_alone(info, CMD_INSERT);
}

/* ------------------------------------------------------------------------------------------------------- DELETE */

static lpu_api_answer *
send_delete(void *batch, int from, int n, lpu_write *write)
{
	modify_state *state = batch;
	StringInfoData text;
	int			i;

	initStringInfo(&text);
	for (i = from; i < from + n; i++)
		appendStringInfo(&text, "%s\"" INT64_FORMAT "\"", i > from ? "," : "[", state->gone[i].id);
	appendStringInfoChar(&text, ']');
	write->body = text.data;
	write->body_length = text.len;
	write->if_match = -1;
	write->users = state->gone + from;
	write->nusers = n;
	return lpu_writer_send(&state->writer, write);
}

static void
flush_delete(modify_state *state)
{
	MemoryContext batch = AllocSetContextCreate(CurrentMemoryContext, "lpusers batch", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(batch);
	int			n = state->ngone;

	state->ngone = 0;
	lpu_writer_carry_out(&state->writer, send_delete, state, n);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(batch);
}

/* ------------------------------------------------------------------------------------------------------- rows */

/* Send what waits. */
static void
flush(modify_state *state)
{
	MemoryContext caller = MemoryContextSwitchTo(state->context);

	if (state->creation != NULL)
		lpu_creation_flush(state->creation);
	if (state->change != NULL)
		lpu_change_flush(state->change);
	if (state->gone != NULL)
		flush_delete(state);
	MemoryContextSwitchTo(caller);
}

/* The executor says how many rows it hands over at a time. */
static int
lpuGetForeignModifyBatchSize(ResultRelInfo *info)
{
	lpu_problem *problem = NULL;
	lpu_table  *table;
	const lpu_options *options;

	if (goes_alone(info, CMD_INSERT))
		return 1;
	table = lpu_table_read(info->ri_RelationDesc);
	options = lpu_server_alone(table->server, &problem);
	if (options == NULL)
		lpu_problem_raise(problem);
	return options->batch_size;
}

static TupleTableSlot **
lpuExecForeignBatchInsert(EState *estate, ResultRelInfo *info, TupleTableSlot **slots, TupleTableSlot **plan_slots,
						  int *n)
{
	modify_state *state = info->ri_FdwState;
	TupleTableSlot **created = palloc(*n * sizeof(TupleTableSlot *));	/* the executor's array is not ours to change */
	int			ncreated = 0;
	int			i;

	for (i = 0; i < *n; i++)
		if (lpu_creation_add(state->creation, slots[i]))
			created[ncreated++] = slots[i];
	flush(state);
	*n = ncreated;
	return created;
}

static TupleTableSlot *
lpuExecForeignInsert(EState *estate, ResultRelInfo *info, TupleTableSlot *slot, TupleTableSlot *plan_slot)
{
	modify_state *state = info->ri_FdwState;

	if (!lpu_creation_add(state->creation, slot))
		return NULL;
	if (state->buffered && lpu_creation_pending(state->creation) < state->writer.options->batch_size)
		return slot;
	flush(state);
	if (!state->buffered)
		lpu_creation_return(state->creation, slot);
	return slot;
}

/* The id of a row of the plan. False: the statement has seen it before. */
static bool
first_seen(modify_state *state, TupleTableSlot *plan_slot, int64 *id)
{
	bool		isnull;
	bool		found;

	*id = DatumGetInt64(ExecGetJunkAttribute(plan_slot, state->id, &isnull));
	if (isnull)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("a user of foreign table \"%s\" has no id", state->table->name)));
	(void) hash_search(state->seen, id, HASH_ENTER, &found);
	return !found;
}

static TupleTableSlot *
lpuExecForeignUpdate(EState *estate, ResultRelInfo *info, TupleTableSlot *slot, TupleTableSlot *plan_slot)
{
	modify_state *state = info->ri_FdwState;
	int64		id;
	bool		isnull;
	Datum		before;

	if (!first_seen(state, plan_slot, &id))
		return NULL;
	before = ExecGetJunkAttribute(plan_slot, state->row, &isnull);
	if (isnull)
		elog(ERROR, "the row as it was is missing");
	lpu_change_add(state->change, id, before, slot);
	if (state->buffered && lpu_change_pending(state->change) < state->writer.options->batch_size)
		return slot;
	flush(state);
	return slot;
}

/* For RETURNING: the row as it was. */
static void
show_row(modify_state *state, TupleTableSlot *plan_slot, TupleTableSlot *slot)
{
	bool		isnull;
	Datum		row = ExecGetJunkAttribute(plan_slot, state->row, &isnull);
	HeapTupleData tuple;

	if (isnull)
		return;
	tuple.t_data = DatumGetHeapTupleHeader(row);
	tuple.t_len = HeapTupleHeaderGetDatumLength(tuple.t_data);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	ExecForceStoreHeapTuple(heap_copytuple(&tuple), slot, true);
}

static TupleTableSlot *
lpuExecForeignDelete(EState *estate, ResultRelInfo *info, TupleTableSlot *slot, TupleTableSlot *plan_slot)
{
	modify_state *state = info->ri_FdwState;
	lpu_user_identity *user = &state->gone[state->ngone];
	MemoryContext caller;
	bool		isnull = true;
	Datum		login = (Datum) 0;
	int64		id;

	if (!first_seen(state, plan_slot, &id))
		return NULL;
	if (AttributeNumberIsValid(state->login))
		login = ExecGetJunkAttribute(plan_slot, state->login, &isnull);
	caller = MemoryContextSwitchTo(state->context);
	user->id = id;
	user->login_name = isnull ? NULL : TextDatumGetCString(login);
	MemoryContextSwitchTo(caller);
	state->ngone++;
	if (!state->buffered || state->ngone == state->writer.options->batch_size)
		flush(state);
	if (info->ri_projectReturning != NULL && AttributeNumberIsValid(state->row))
		show_row(state, plan_slot, slot);
	return slot;
}

/* ------------------------------------------------------------------------------------------------------- the end */

static void
lpuEndForeignModify(EState *estate, ResultRelInfo *info)
{
	if (info->ri_FdwState != NULL)
		flush(info->ri_FdwState);
}

/* What waits goes now, so that the figures are those of the whole statement. */
static void
lpuExplainForeignModify(ModifyTableState *mtstate, ResultRelInfo *info, List *fdw_private, int subplan_index,
						ExplainState *es)
{
	static const lpu_method methods[] = {[CMD_INSERT] = LPU_CREATE_USERS, [CMD_UPDATE] = LPU_UPDATE_USERS,
	[CMD_DELETE] = LPU_DELETE_USERS};
	modify_state *state = info->ri_FdwState;
	lpu_table  *table = lpu_table_read(info->ri_RelationDesc);
	lpu_api_request request = {.method = methods[mtstate->operation]};
	lpu_problem *problem = NULL;
	const lpu_options *options = lpu_server_alone(table->server, &problem);

	if (options == NULL)
		lpu_problem_raise(problem);
	ExplainPropertyText("Request", psprintf("%s %s", lpu_api_verb(request.method), lpu_api_path(options, &request)), es);
	ExplainPropertyInteger("Batch Size", NULL, goes_alone(info, mtstate->operation) ? 1 : options->batch_size, es);
	if (!es->analyze || state == NULL)
		return;
	flush(state);
	ExplainPropertyInteger("Requests", NULL, state->writer.requests, es);
	ExplainPropertyInteger("Bytes", NULL, state->writer.bytes, es);
}

void
lpu_fdw_modify(FdwRoutine *routine)
{
	routine->IsForeignRelUpdatable = lpuIsForeignRelUpdatable;
	routine->AddForeignUpdateTargets = lpuAddForeignUpdateTargets;
	routine->PlanForeignModify = lpuPlanForeignModify;
	routine->BeginForeignModify = lpuBeginForeignModify;
	routine->BeginForeignInsert = lpuBeginForeignInsert;
	routine->GetForeignModifyBatchSize = lpuGetForeignModifyBatchSize;
	routine->ExecForeignBatchInsert = lpuExecForeignBatchInsert;
	routine->ExecForeignInsert = lpuExecForeignInsert;
	routine->ExecForeignUpdate = lpuExecForeignUpdate;
	routine->ExecForeignDelete = lpuExecForeignDelete;
	routine->EndForeignModify = lpuEndForeignModify;
	routine->EndForeignInsert = lpuEndForeignModify;
	routine->ExplainForeignModify = lpuExplainForeignModify;
}

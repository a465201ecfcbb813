/*
 * modify.c: writing a foreign table.
 *
 * INSERT and COPY create users, UPDATE reads, merges and writes them, DELETE deletes them. Rows
 * are collected and sent in batches of batch_size, unless each row is read back as it is
 * written: RETURNING, row triggers, WITH CHECK OPTION. The last batch is sent, and requests in
 * flight are waited for, when the executor ends the table, which is still inside of the statement,
 * but after its AFTER STATEMENT triggers. If there are any, the executor collects the rows of
 * INSERT, and all that it hands over at a time are sent before it goes on; rows of UPDATE and
 * DELETE are sent at once.
 *
 * UPDATE and DELETE change at most lpusers.max_changes users. All rows are collected before the
 * first batch is sent, so that a statement which exceeds the limit changes nothing. Rows that
 * must be sent at once are sent up to the limit.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "executor/executor.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "base/compat_explain.h"
#include "base/error.h"
#include "base/guc.h"
#include "fdw/modify_state.h"
#include "options/server.h"
#include "remote/conditional.h"

/* The executor has set up everything by the first row only. */
static void
begin_rows(LpuModifyState *state, ResultRelInfo *info)
{
	MemoryContext caller = MemoryContextSwitchTo(state->context);
	ListCell   *cell;

	if (!state->begun)
	{
		state->alone = !lpu_fdw_is_buffered(info, state->operation, state->mtstate);
		foreach(cell, info->ri_WithCheckOptions)
		{
			List	   *quals = castNode(List, lfirst_node(WithCheckOption, cell)->qual);

			state->checks = lappend(state->checks, ExecInitCheck(quals, &state->mtstate->ps));
		}
		state->begun = true;
	}
	MemoryContextSwitchTo(caller);
}

/* ----- rows ----- */

/*
 * The executor checks WITH CHECK OPTION after the row was written, which cannot be undone. So a
 * row for which the condition is false already is not sent. A condition on values that the
 * account sets is null now and may still become true.
 */
static void
check_options(LpuModifyState *state, ResultRelInfo *info, TupleTableSlot *slot, EState *estate)
{
	ExprContext *context = GetPerTupleExprContext(estate);
	ListCell   *check;
	ListCell   *option;

	context->ecxt_scantuple = slot;
	forboth(check, state->checks, option, info->ri_WithCheckOptions)
		if (!ExecCheck(lfirst(check), context))
		ereport(ERROR,
				(errcode(ERRCODE_WITH_CHECK_OPTION_VIOLATION),
				 errmsg("new row violates check option for view \"%s\"",
						lfirst_node(WithCheckOption, option)->relname),
				 errdetail_internal("Nothing was sent for it.%s",
									lpu_writer_progress(&state->writer))));
}

/*
 * Return the revision at which the statement has listed the users that it changes; -1: not known,
 * or the statement itself has changed the account since.
 */
static int64
revision_of_rows(const LpuModifyState *state)
{
	if (state->writer.requests > 0)
		return -1;
	return lpu_fdw_scanned_revision(state->mtstate->ps.state, state->relation);
}

/* Send what waits. */
static void
flush(LpuModifyState *state)
{
	MemoryContext caller = MemoryContextSwitchTo(state->context);

	if (state->creation != NULL)
		lpu_creation_flush(state->creation);
	if (state->change != NULL)
		lpu_change_flush(state->change, revision_of_rows(state));
	if (state->removal != NULL)
		lpu_removal_flush(state->removal, revision_of_rows(state));
	MemoryContextSwitchTo(caller);
}

/* Return true if so many rows of UPDATE and DELETE wait as are sent together. */
static bool
are_changes_due(const LpuModifyState *state)
{
	int			waiting = state->change != NULL ? lpu_change_pending(state->change) :
	lpu_removal_pending(state->removal);

	return state->limit == 0 && waiting >= lpu_conditional_room(state->writer.options);
}

/* Send the rows that wait, if they are to be. Those of INSERT may still be in flight then. */
static void
send_rows(LpuModifyState *state)
{
	if (state->alone)
		flush(state);
	else if (state->creation == NULL)
	{
		if (are_changes_due(state))
			flush(state);
	}
	else if (lpu_creation_is_full(state->creation))
		lpu_creation_send(state->creation);
}

/*
 * Send the batch if it is full. Return false if the row was sent at once and left out by the
 * account. COPY adds its current line to messages, perhaps with a password; that context is
 * removed while a batch is sent.
 */
static bool
flush_if_due(LpuModifyState *state)
{
	ErrorContextCallback *context = error_context_stack;
	int64		done = state->writer.done;

	if (state->mtstate->ps.plan == NULL && context != NULL)
		error_context_stack = context->previous;
	send_rows(state);
	error_context_stack = context;
	return !state->alone || state->writer.done > done;
}

/*
 * Return the options that the statement runs with, or those of the server if EXPLAIN without
 * ANALYZE has begun nothing. A size must always be taken from the same reading of the options,
 * since they can be altered at any time.
 */
static const LpuOptions *
modify_options(const ResultRelInfo *info, const LpuForeignTable *table)
{
	const LpuModifyState *state = info->ri_FdwState;
	LpuProblem *problem = NULL;
	const LpuOptions *options;

	if (state != NULL)
		return state->writer.options;
	options = lpu_server_alone(table->server, &problem);
	if (options == NULL)
		lpu_problem_raise(problem);
	return options;
}

/*
 * How many rows the executor hands over at a time: those of several requests if it collects them.
 */
static int
lpuGetForeignModifyBatchSize(ResultRelInfo *info)
{
	const LpuModifyState *state = info->ri_FdwState;

	if (lpu_fdw_goes_alone(info, CMD_INSERT) ||
		(state != NULL && lpu_fdw_is_buffered(info, CMD_INSERT, state->mtstate)))
		return 1;
	return lpu_creation_room(modify_options(info, lpu_table_read(info->ri_RelationDesc)));
}

/* Count rows that ON CONFLICT DO NOTHING has left out, for EXPLAIN. */
static void
count_left_out(LpuModifyState *state, int n)
{
	InstrCountTuples2(&state->mtstate->ps, n);
}

static TupleTableSlot **
lpuExecForeignBatchInsert(EState *estate, ResultRelInfo *info, TupleTableSlot **slots,
						  TupleTableSlot **plan_slots,
						  int *n)
{
	LpuModifyState *state = info->ri_FdwState;
	int			ncreated = 0;
	int			i;

	/* the executor's array is not ours to change */
	for (i = 0; i < *n; i++)
		if (lpu_creation_add(state->creation, slots[i]))
		{
			state->created[ncreated++] = slots[i];
			send_rows(state);
		}
	flush(state);
	count_left_out(state, *n - ncreated);
	*n = ncreated;
	return state->created;
}

static TupleTableSlot *
lpuExecForeignInsert(EState *estate, ResultRelInfo *info, TupleTableSlot *slot,
					 TupleTableSlot *plan_slot)
{
	LpuModifyState *state = info->ri_FdwState;

	begin_rows(state, info);
	check_options(state, info, slot, estate);
	if (!lpu_creation_add(state->creation, slot) ||
		!flush_if_due(state))
	{
		count_left_out(state, 1);
		return NULL;
	}
	if (lpu_fdw_goes_alone(info, CMD_INSERT))
		lpu_creation_return(state->creation, slot);
	return slot;
}

/* Set *id to the id of a row of the plan. Return false if the statement has seen it before. */
static bool
first_seen(LpuModifyState *state, TupleTableSlot *plan_slot, int64 *id)
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

static void
raise_limit(const LpuModifyState *state, int64 done)
{
	ereport(ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("%s of foreign table \"%s\" would change more users than "
					"lpusers.max_changes allows",
					state->operation == CMD_UPDATE ? "UPDATE" : "DELETE", state->table->name),
			 done == 0 ? errdetail("The limit is %d. Nothing was sent.", state->limit) :
			 errdetail_plural("The limit is %d. " INT64_FORMAT " user has been changed.",
							  "The limit is %d. " INT64_FORMAT " users have been changed.",
							  (unsigned long) done, state->limit, done),
			 errhint(LPU_MAX_CHANGES_HINT)));
}

/*
 * Count a row.  Raise an error if the statement concerns more users than it may
 * change, in all its foreign tables and all parts of WITH together.
 */
static void
count_user(LpuModifyState *state)
{
	int64		touched = 0;
	int64		done = 0;
	ListCell   *cell;

	if (state->limit == 0)
		return;
	state->touched++;
	foreach(cell, state->mtstate->ps.state->es_opened_result_relations)
	{
		const ResultRelInfo *info = lfirst(cell);
		const LpuModifyState *target = info->ri_FdwState;

		if (target == NULL || info->ri_FdwRoutine->BeginForeignModify != lpuBeginForeignModify)
			continue;
		touched += target->touched;
		done += target->writer.done;
	}
	if (touched > state->limit)
		raise_limit(state, done);
}

/* The row as the statement read it, a composite value. */
static Datum
row_before(LpuModifyState *state, TupleTableSlot *plan_slot)
{
	bool		isnull;
	Datum		row = ExecGetJunkAttribute(plan_slot, state->row, &isnull);

	if (isnull)
		elog(ERROR, "the row as it was is missing");
	return row;
}

static TupleTableSlot *
lpuExecForeignUpdate(EState *estate, ResultRelInfo *info, TupleTableSlot *slot,
					 TupleTableSlot *plan_slot)
{
	LpuModifyState *state = info->ri_FdwState;
	int64		id;

	begin_rows(state, info);
	if (!first_seen(state, plan_slot, &id))
		return NULL;
	count_user(state);
	check_options(state, info, slot, estate);
	lpu_change_add(state->change, id, row_before(state, plan_slot), slot);
	(void) flush_if_due(state);
	if (lpu_fdw_goes_alone(info, CMD_UPDATE))
		lpu_change_return(state->change, slot);
	return slot;
}

/* For RETURNING: the row as it was. */
static void
show_row(LpuModifyState *state, TupleTableSlot *plan_slot, TupleTableSlot *slot)
{
	Datum		row = row_before(state, plan_slot);
	HeapTupleData tuple;
	MemoryContext caller;

	tuple.t_data = DatumGetHeapTupleHeader(row);
	tuple.t_len = HeapTupleHeaderGetDatumLength(tuple.t_data);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	caller = MemoryContextSwitchTo(slot->tts_mcxt);
	ExecForceStoreHeapTuple(heap_copytuple(&tuple), slot, true);
	MemoryContextSwitchTo(caller);
}

static TupleTableSlot *
lpuExecForeignDelete(EState *estate, ResultRelInfo *info, TupleTableSlot *slot,
					 TupleTableSlot *plan_slot)
{
	LpuModifyState *state = info->ri_FdwState;
	int64		id;

	begin_rows(state, info);
	if (!first_seen(state, plan_slot, &id))
		return NULL;
	count_user(state);
	lpu_removal_add(state->removal, id, row_before(state, plan_slot));
	if (!flush_if_due(state))
		return NULL;
	if (info->ri_projectReturning != NULL)
		show_row(state, plan_slot, slot);
	return slot;
}

/* ----- the end ----- */

static void
lpuEndForeignModify(EState *estate, ResultRelInfo *info)
{
	if (info->ri_FdwState != NULL)
		flush(info->ri_FdwState);
}

/* Send the last batch first, so that the figures are those of the whole statement. */
static void
explain_write_costs(LpuModifyState *state, ExplainState *es)
{
	flush(state);
	ExplainPropertyInteger("Users", NULL, state->writer.done, es);
	ExplainPropertyInteger("Requests", NULL, state->writer.requests, es);
	ExplainPropertyInteger("Bytes", NULL, state->writer.bytes, es);
	if (es->timing)
		ExplainPropertyFloat("Remote Time", "ms", state->writer.ms, 3, es);
}

static void
lpuExplainForeignModify(ModifyTableState *mtstate, ResultRelInfo *info, List *fdw_private,
						int subplan_index,
						ExplainState *es)
{
	static const LpuMethod methods[] = {[CMD_INSERT] = LPU_CREATE_USERS,
	[CMD_UPDATE] = LPU_UPDATE_USERS,[CMD_DELETE] = LPU_DELETE_USERS};
	CmdType		operation = mtstate->operation;
	LpuForeignTable *table = lpu_table_read(info->ri_RelationDesc);
	LpuApiRequest request = {.method = methods[operation]};
	const LpuOptions *options = modify_options(info, table);
	bool		batched = operation == CMD_INSERT ? !lpu_fdw_goes_alone(info, operation) :
	lpu_fdw_is_buffered(info, operation, mtstate);

	ExplainPropertyText("Request",
						psprintf("%s %s", lpu_api_verb(request.method),
								 lpu_api_path(options, &request)), es);
	ExplainPropertyInteger("Batch Size", NULL, batched ? options->batch_size : 1, es);
	if (es->analyze && info->ri_FdwState != NULL)
		explain_write_costs(info->ri_FdwState, es);
}

/* Set the callbacks that write. */
void
lpu_fdw_modify(FdwRoutine *routine)
{
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

/*
 * scan.c: scanning a foreign table.
 *
 * The executor's side of scan_plan.c: a plan becomes a fetch. Nothing is sent before the first
 * row is wanted. Rows that may be wanted again are kept in a tuplestore, so that a rescan sends
 * nothing unless other ids are wanted; changed parameters of conditions that are evaluated
 * locally make no difference. If rescans want other ids more often than the plan expected, one
 * listing of all replaces the GETs. A cursor that pauses would keep the service waiting, so
 * whenever the executor stops early, the rest of a listing is received.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/sysattr.h"
#include "executor/executor.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "tcop/pquery.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/tuplestore.h"

#include "base/compat.h"
#include "base/compat_explain.h"
#include "base/error.h"
#include "fdw/handler.h"
#include "options/server.h"
#include "remote/fetch.h"

typedef struct UsersScanState
{
	dlist_node	node;			/* in active */
	EState	   *estate;
	Oid			relation;
	LpuForeignTable *table;
	const LpuOptions *options;
	LpuFetchPlan plan;
	LpuFetch   *fetch;
	ExprState  *ids;			/* of plan.by_id */
	Oid			ids_type;
	int64	   *last_ids;		/* that were asked for */
	int			nlast_ids;
	int			enough_gets;	/* when so many have been sent, a listing
								 * takes their place */
	int			gets;			/* sent so far, those at the same time counted
								 * as one */
	bool		listed;			/* all are on their way, or kept */
	bool		begun;			/* something was asked for, by these ids */
	bool		check_ids;		/* a rescan: they may have changed */
	Tuplestorestate *kept;		/* rows that may be wanted again, or NULL */
	TupleTableSlot *kept_slot;
	bool		complete;		/* all rows have come */
	int			runs;			/* how often rows were asked for */
	MemoryContextCallback on_reset;
} UsersScanState;

/* The scans of this backend that may have a listing under way. */
static dlist_head active = DLIST_STATIC_INIT(active);

static ExecutorRun_hook_type next_run = NULL;

/* ----- pauses ----- */

/* A portal that pauses stops in the middle of a plan: receive the rest of its listings. */
static void
drain_scans(const EState *estate)
{
	dlist_iter	iter;

	dlist_foreach(iter, &active)
	{
		UsersScanState *state = dlist_container(UsersScanState, node, iter.cur);

		if (state->estate == estate && state->begun && !state->complete)
			lpu_fetch_drain(state->fetch);
	}
}

static void
run_and_drain(QueryDesc *desc, ScanDirection direction, uint64 count LPU_EXECUTE_ONCE_PARAM)
{
	if (next_run != NULL)
		next_run(desc, direction, count LPU_EXECUTE_ONCE);
	else
		standard_ExecutorRun(desc, direction, count LPU_EXECUTE_ONCE);
	/* a limit that is no portal's, as of SELECT INTO in PL/pgSQL, is the end */
	if (count > 0 && desc->estate->es_processed >= count && ActivePortal != NULL &&
		ActivePortal->queryDesc == desc)
		drain_scans(desc->estate);
}

/*
 * Return the revision at which the statement has listed the users of the table, -1 if it is not
 * known or there was more than one listing.
 */
int64
lpu_fdw_scanned_revision(const EState *estate, Oid relation)
{
	UsersScanState *scan = NULL;
	dlist_iter	iter;

	dlist_foreach(iter, &active)
	{
		UsersScanState *state = dlist_container(UsersScanState, node, iter.cur);

		if (state->estate != estate || state->relation != relation || state->runs == 0)
			continue;
		if (scan != NULL || state->runs > 1)
			return -1;
		scan = state;
	}
	if (scan == NULL || !scan->complete || (scan->plan.by_id && !scan->listed))
		return -1;
	return lpu_fetch_revision(scan->fetch);
}

static void
forget_scan(void *arg)
{
	dlist_delete(&((UsersScanState *) arg)->node);
}

/* In the list as long as the executor's memory lives. */
static void
remember_scan(UsersScanState *state)
{
	static bool hooked = false;

	if (!hooked)
	{
		next_run = ExecutorRun_hook;
		ExecutorRun_hook = run_and_drain;
		hooked = true;
	}
	state->on_reset.func = forget_scan;
	state->on_reset.arg = state;
	dlist_push_tail(&active, &state->node);
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &state->on_reset);
}

/* ----- the scan ----- */

static void
read_scan_plan(LpuFetchPlan *plan, const ForeignScan *scan)
{
	ListCell   *cell;

	foreach(cell, (List *) list_nth(scan->fdw_private, LPU_SCAN_COLUMNS))
		plan->columns = bms_add_member(plan->columns, lfirst_int(cell));
	plan->by_id = boolVal(list_nth(scan->fdw_private, LPU_SCAN_BY_ID));
	plan->include_deleted = boolVal(list_nth(scan->fdw_private, LPU_SCAN_INCLUDE_DELETED));
}

/* Return the parameters that can cause a rescan, without that of EvalPlanQual. */
static Bitmapset *
rescan_params(const ForeignScanState *node)
{
	const PlannedStmt *statement = node->ss.ps.state->es_plannedstmt;
	Bitmapset  *params = bms_copy(node->ss.ps.plan->allParam);
	ListCell   *cell;

	foreach(cell, lcons(statement->planTree, list_copy(statement->subplans)))
	{
		Plan	   *plan = lfirst(cell);

		if (plan != NULL && IsA(plan, ModifyTable))
			params = bms_del_member(params, ((const ModifyTable *) plan)->epqParam);
	}
	return params;
}

/* Return true if the same rows may be wanted again. */
static bool
may_rescan(const ForeignScanState *node, int eflags)
{
	const ForeignScan *scan = castNode(ForeignScan, node->ss.ps.plan);

	return (eflags & EXEC_FLAG_REWIND) || !bms_is_empty(rescan_params(node)) ||
		boolVal(list_nth(scan->fdw_private, LPU_SCAN_REPEATED));
}

static void
keep_rows(const ForeignScanState *node, UsersScanState *state)
{
	MemoryContext caller = MemoryContextSwitchTo(state->estate->es_query_cxt);

	state->kept = tuplestore_begin_heap(false, false, work_mem);
	tuplestore_set_eflags(state->kept, EXEC_FLAG_REWIND);
	state->kept_slot = ExecInitExtraTupleSlot(state->estate,
											  RelationGetDescr(node->ss.ss_currentRelation),
											  &TTSOpsMinimalTuple);
	MemoryContextSwitchTo(caller);
}

static void
lpuBeginForeignScan(ForeignScanState *node, int eflags)
{
	ForeignScan *scan = castNode(ForeignScan, node->ss.ps.plan);
	UsersScanState *state;
	LpuProblem *problem = NULL;

	if (eflags & EXEC_FLAG_EXPLAIN_ONLY)
		return;
	state = palloc0(sizeof(UsersScanState));
	state->estate = node->ss.ps.state;
	state->relation = RelationGetRelid(node->ss.ss_currentRelation);
	state->table = lpu_table_read(node->ss.ss_currentRelation);
	read_scan_plan(&state->plan, scan);
	state->options = lpu_server_for_role(state->table->server, LPU_SCAN_ROLE(node), &problem);
	if (state->options == NULL)
		lpu_problem_raise(problem);
	state->fetch = lpu_fetch_new(state->table, state->options, &state->plan);
	if (state->plan.by_id)
	{
		state->ids = ExecInitExpr(linitial(scan->fdw_exprs), &node->ss.ps);
		state->ids_type = exprType(linitial(scan->fdw_exprs));
	}
	state->enough_gets = intVal(list_nth(scan->fdw_private, LPU_SCAN_ENOUGH_GETS));
	if (may_rescan(node, eflags))
		keep_rows(node, state);
	remember_scan(state);
	node->fdw_state = state;
}

static int64
integer_of(Oid type, Datum value)
{
	return type == INT2OID ? DatumGetInt16(value) : type == INT4OID ? DatumGetInt32(value) :
		DatumGetInt64(value);
}

/*
 * Return the ids to request, allocated in the current memory context.  NULL
 * elements are ignored.
 */
static int64 *
evaluate_ids(ForeignScanState *node, UsersScanState *state, int *n)
{
	Oid			element = get_element_type(state->ids_type);
	bool		isnull;
	Datum		value = ExecEvalExpr(state->ids, node->ss.ps.ps_ExprContext, &isnull);
	int64	   *ids;
	Datum	   *values;
	bool	   *nulls;
	int16		length;
	bool		byval;
	char		align;
	int			count;
	int			i;

	*n = 0;
	if (isnull)
		return palloc(sizeof(int64));
	if (!OidIsValid(element))
	{
		ids = palloc(sizeof(int64));
		ids[(*n)++] = integer_of(state->ids_type, value);
		return ids;
	}
	get_typlenbyvalalign(element, &length, &byval, &align);
	deconstruct_array(DatumGetArrayTypeP(value), element, length, byval, align, &values, &nulls,
					  &count);
	ids = palloc(Max(count, 1) * sizeof(int64));
	for (i = 0; i < count; i++)
		if (!nulls[i])
			ids[(*n)++] = integer_of(element, values[i]);
	return ids;
}

/*
 * Request these ids. If GETs have cost as much as a listing by now, list all entities instead,
 * and let the conditions select the rows: so the cost is at most twice the minimum.
 */
static void
fetch_ids(UsersScanState *state, const int64 *ids, int n)
{
	int			at_once = state->options->max_connections;

	state->listed = state->gets >= state->enough_gets;
	if (state->listed)
		lpu_fetch_list(state->fetch);
	else
		state->listed = !lpu_fetch_ids(state->fetch, ids, n);
	state->gets += (n + at_once - 1) / at_once;
	state->begun = true;
	state->complete = false;
	state->runs++;
}

/* Request the ids if they are not those of the last time. */
static void
ask_for_ids(ForeignScanState *node, UsersScanState *state)
{
	int			n;
	int64	   *ids = evaluate_ids(node, state, &n);

	state->check_ids = false;
	if (state->begun && n == state->nlast_ids &&
		memcmp(ids, state->last_ids, n * sizeof(int64)) == 0)
		return;
	if (state->kept != NULL)
		tuplestore_clear(state->kept);
	if (state->last_ids != NULL)
		pfree(state->last_ids);
	state->last_ids = MemoryContextAlloc(state->estate->es_query_cxt, Max(n, 1) * sizeof(int64));
	memcpy(state->last_ids, ids, n * sizeof(int64));
	state->nlast_ids = n;
	fetch_ids(state, ids, n);
}

static void
begin_if_needed(ForeignScanState *node, UsersScanState *state)
{
	if (state->plan.by_id && (!state->begun || (state->check_ids && !state->listed)))
		ask_for_ids(node, state);
	else if (!state->begun)
	{
		lpu_fetch_list(state->fetch);
		state->begun = true;
		state->complete = false;
		state->runs++;
	}
}

/* Fetch the next row, and keep it if it may be wanted again. */
static TupleTableSlot *
fetch_row(UsersScanState *state, TupleTableSlot *slot)
{
	if (state->complete || !lpu_fetch_next(state->fetch, slot->tts_values, slot->tts_isnull))
	{
		state->complete = true;
		return slot;
	}
	ExecStoreVirtualTuple(slot);
	if (state->kept != NULL)
		tuplestore_puttupleslot(state->kept, slot);
	return slot;
}

/*
 * Return true if the next kept row is in kept_slot, false after the last one.
 *
 * A row that is read from the tuplestore's file is palloc'd in the current context, and kept_slot
 * frees it when it gets the next one. The executor calls us in the per-tuple context, which has
 * been reset by then.
 */
static bool
next_kept_row(UsersScanState *state)
{
	MemoryContext caller;
	bool		found;

	if (state->kept == NULL || tuplestore_ateof(state->kept))
		return false;
	caller = MemoryContextSwitchTo(state->estate->es_query_cxt);
	found = tuplestore_gettupleslot(state->kept, true, false, state->kept_slot);
	MemoryContextSwitchTo(caller);
	return found;
}

static TupleTableSlot *
lpuIterateForeignScan(ForeignScanState *node)
{
	UsersScanState *state = node->fdw_state;
	TupleTableSlot *slot = node->ss.ss_ScanTupleSlot;

	begin_if_needed(node, state);
	ExecClearTuple(slot);
	return next_kept_row(state) ? state->kept_slot : fetch_row(state, slot);
}

static void
lpuReScanForeignScan(ForeignScanState *node)
{
	UsersScanState *state = node->fdw_state;

	if (!state->begun)
		return;
	state->check_ids = true;
	if (state->kept != NULL)
	{
		tuplestore_rescan(state->kept);
		return;
	}

	/*
	 * the plan did not announce a rescan, so the rows were not kept: read
	 * them again, and keep them from now on
	 */
	state->begun = state->listed = false;
	keep_rows(node, state);
}

static void
lpuEndForeignScan(ForeignScanState *node)
{
	UsersScanState *state = node->fdw_state;

	if (state == NULL)
		return;
	lpu_fetch_stop(state->fetch);
	if (state->kept != NULL)
		tuplestore_end(state->kept);
	state->kept = NULL;
	state->complete = true;
}

/* ----- EXPLAIN ----- */

/* "id = ANY (...)", as the plan's own conditions are shown. */
static void
explain_ids(ForeignScanState *node, const LpuForeignTable *table, ExplainState *es)
{
	ForeignScan *scan = castNode(ForeignScan, node->ss.ps.plan);
	Node	   *ids = linitial(scan->fdw_exprs);
	const char *text = strVal(list_nth(scan->fdw_private, LPU_SCAN_OUTER));
	const char *column = quote_identifier(table->columns[table->id_column - 1].name);

	if (*text == '\0')
		text = deparse_expression(ids,
								  set_deparse_context_plan(es->deparse_cxt, node->ss.ps.plan, NIL),
								  list_length(es->rtable) > 1, false);

	ExplainPropertyText("Remote Filter", OidIsValid(get_element_type(exprType(ids))) ?
						psprintf("%s = ANY (%s)", column, text) : psprintf("%s = %s", column, text),
						es);
}

/* There are conditions, and the account knows none of them: "none, lists all users". */
static void
explain_list(const LpuForeignTable *table, ExplainState *es)
{
	ExplainPropertyText("Remote Filter", psprintf("none, lists all %s", table->resource->what + strlen("list ")), es);
}

static void
explain_read_costs(const UsersScanState *state, ExplainState *es)
{
	LpuFetchCost cost = lpu_fetch_costs(state->fetch);

	ExplainPropertyInteger("Requests", NULL, cost.requests, es);
	/* where single users were planned */
	if (state->plan.by_id && cost.listings > 0)
		ExplainPropertyInteger("Listings", NULL, cost.listings, es);
	ExplainPropertyInteger("Bytes", NULL, cost.bytes, es);
	if (es->timing)
		ExplainPropertyFloat("Remote Time", "ms", cost.ms, 3, es);
}

/* Sends nothing: server and table tell which request would be sent. */
static void
lpuExplainForeignScan(ForeignScanState *node, ExplainState *es)
{
	const UsersScanState *state = node->fdw_state;
	LpuForeignTable *table = lpu_table_read(node->ss.ss_currentRelation);
	LpuProblem *problem = NULL;
	const LpuOptions *options = state ? state->options : lpu_server_alone(table->server, &problem);
	LpuFetchPlan plan = {0};

	if (options == NULL)
		lpu_problem_raise(problem);
	read_scan_plan(&plan, castNode(ForeignScan, node->ss.ps.plan));
	ExplainPropertyText("Request", psprintf("GET %s", lpu_fetch_path(table, options, &plan)), es);
	if (plan.by_id)
		explain_ids(node, table, es);
	else if (node->ss.ps.plan->qual != NIL)
		explain_list(table, es);
	if (es->analyze && state != NULL)
		explain_read_costs(state, es);
}

/* Set the callbacks that read. */
void
lpu_fdw_scan(FdwRoutine *routine)
{
	routine->BeginForeignScan = lpuBeginForeignScan;
	routine->IterateForeignScan = lpuIterateForeignScan;
	routine->ReScanForeignScan = lpuReScanForeignScan;
	routine->EndForeignScan = lpuEndForeignScan;
	routine->ExplainForeignScan = lpuExplainForeignScan;
}

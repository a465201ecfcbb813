/*
 * syncfuncs.c: the SQL functions of the desired state.
 *
 * They read their arguments, check that the caller may act as the owner of the
 * sync, and hand over to src/sync/. EXECUTE alone is not enough for any of
 * them.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "executor/tstoreReceiver.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "tcop/utility.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/extension.h"
#include "queue/enqueue.h"
#include "queue/take_over.h"
#include "sync/define.h"
#include "sync/difference.h"
#include "sync/operate.h"
#include "sync/plan.h"
#include "sync/run.h"

PG_FUNCTION_INFO_V1(lp_sync_define);
PG_FUNCTION_INFO_V1(lp_sync_diff);
PG_FUNCTION_INFO_V1(lp_sync_plan);
PG_FUNCTION_INFO_V1(lp_sync_apply);
PG_FUNCTION_INFO_V1(lp_sync);
PG_FUNCTION_INFO_V1(lp_sync_unlink);
PG_FUNCTION_INFO_V1(lp_sync_pause);
PG_FUNCTION_INFO_V1(lp_sync_resume);
PG_FUNCTION_INFO_V1(lp_sync_drop);

/*
 * How long CALL lp_sync() waits for a lock: a transaction of another role may have it for as long
 * as it likes. The first wait is all that it costs the syncs behind; the last is that of other
 * locks of an account.
 */
#define FIRST_WAIT_MS 2000
#define LAST_WAIT_MS (60 * 1000)

/* ----- arguments ----- */

static void
require_sync_arguments(FunctionCallInfo fcinfo, const char *const *names, int n)
{
	int			i;

	for (i = 0; i < n; i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("%s must not be null", names[i])));
}

static char *
text_argument(FunctionCallInfo fcinfo, int i)
{
	return PG_ARGISNULL(i) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(i));
}

/* A name[] as a list of strings. */
static List *
names_argument(FunctionCallInfo fcinfo, int i)
{
	Datum	   *elements;
	bool	   *nulls;
	List	   *list = NIL;
	int			n;
	int			j;

	if (PG_ARGISNULL(i))
		return NIL;
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(i), NAMEOID, NAMEDATALEN, false, TYPALIGN_CHAR,
					  &elements, &nulls, &n);
	for (j = 0; j < n; j++)
		if (!nulls[j])
			list = lappend(list, pstrdup(NameStr(*DatumGetName(elements[j]))));
	return list;
}

/* Keys, a text[]; 0: none were given. */
static Datum
keys_argument(FunctionCallInfo fcinfo, int i)
{
	return PG_ARGISNULL(i) ? (Datum) 0 : PG_GETARG_DATUM(i);
}

/* What puts rows into the result of a function. */
static DestReceiver *
result_receiver(FunctionCallInfo fcinfo)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	DestReceiver *dest;

	InitMaterializedSRF(fcinfo, 0);
	dest = CreateTuplestoreDestReceiver();
	SetTuplestoreDestReceiverParams(dest, result->setResult,
									result->econtext->ecxt_per_query_memory, true, NULL, NULL);
	return dest;
}

/* ----- functions ----- */

static void
put_columns(FunctionCallInfo fcinfo, const LpuSync *sync)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	int			i;

	InitMaterializedSRF(fcinfo, 0);
	for (i = 0; i < sync->ncolumns; i++)
	{
		const LpuSyncColumn *column = &sync->columns[i];
		NameData	name;
		Datum		values[3];
		bool		nulls[3] = {false, column->attribute == NULL, false};

		namestrcpy(&name, column->name);
		values[0] = NameGetDatum(&name);
		values[1] = nulls[1] ? (Datum) 0 : CStringGetTextDatum(column->attribute->name);
		values[2] = CStringGetTextDatum(lpu_sync_understood_as(column));
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
}

/*
 * lp_sync_define(sync text, account text, source regclass, key name, create_only name[],
 * add_only name[], leavers text, delete_after interval, drift text, limits jsonb)
 * RETURNS TABLE(column_name name, attribute text, understood_as text)
 */
Datum
lp_sync_define(PG_FUNCTION_ARGS)
{
	static const char *const names[] = {"sync", "account", "source", "key"};
	LpuSync    *sync = palloc0(sizeof(LpuSync));
	LpuSyncPolicy policy;

	require_sync_arguments(fcinfo, names, lengthof(names));
	PreventCommandIfReadOnly("lp_sync_define()");
	sync->name = text_argument(fcinfo, 0);
	sync->account = text_argument(fcinfo, 1);
	sync->source = PG_GETARG_OID(2);
	sync->key = NameStr(*PG_GETARG_NAME(3));
	sync->create_only = names_argument(fcinfo, 4);
	sync->add_only = names_argument(fcinfo, 5);
	policy.leavers = text_argument(fcinfo, 6);
	policy.delete_after = PG_ARGISNULL(7) ? NULL : PG_GETARG_INTERVAL_P(7);
	sync->drift = text_argument(fcinfo, 8);
	policy.limits = PG_ARGISNULL(9) ? NULL : PG_GETARG_JSONB_P(9);
	SPI_connect();
	lpu_sync_define(sync, &policy);
	put_columns(fcinfo, sync);
	SPI_finish();
	return (Datum) 0;
}

/*
 * lp_sync_diff(sync text, keys text[], against regclass) RETURNS TABLE(action text,
 * source_key text, user_id bigint, login_name text, attribute text, old jsonb, new jsonb,
 * reason text)
 */
Datum
lp_sync_diff(PG_FUNCTION_ARGS)
{
	static const char *const names[] = {"sync"};
	LpuSyncSides sides;
	Oid			against = PG_ARGISNULL(2) ? InvalidOid : PG_GETARG_OID(2);

	require_sync_arguments(fcinfo, names, lengthof(names));
	if (!PG_ARGISNULL(2))
		(void) lpu_relation_name(against);
	SPI_connect();
	lpu_sync_read_sides(&sides, lpu_sync_named(text_argument(fcinfo, 0), false), against);
	lpu_sync_diff(&sides, keys_argument(fcinfo, 1), result_receiver(fcinfo));
	lpu_sync_forget_sides(&sides);
	SPI_finish();
	return (Datum) 0;
}

/*
 * lp_sync_plan(sync text, keys text[]) RETURNS bigint
 */
Datum
lp_sync_plan(PG_FUNCTION_ARGS)
{
	static const char *const names[] = {"sync"};
	LpuSyncPlanned planned;

	require_sync_arguments(fcinfo, names, lengthof(names));
	PreventCommandIfReadOnly("lp_sync_plan()");
	SPI_connect();
	lpu_sync_plan(lpu_sync_named(text_argument(fcinfo, 0), false), keys_argument(fcinfo, 1),
				  &planned);
	if (planned.guard != NULL)
		ereport(WARNING,
				(errmsg("plan %lld is held: %s", (long long) planned.id, planned.reason)));
	SPI_finish();
	PG_RETURN_INT64(planned.id);
}

/*
 * lp_sync_apply(plan bigint, confirm jsonb) RETURNS TABLE(action text, queued bigint, held bigint,
 * stale bigint, blocked bigint, waiting bigint)
 */
Datum
lp_sync_apply(PG_FUNCTION_ARGS)
{
	static const char *const names[] = {"plan"};

	require_sync_arguments(fcinfo, names, lengthof(names));
	PreventCommandIfReadOnly("lp_sync_apply()");
	SPI_connect();
	lpu_sync_apply(PG_GETARG_INT64(0), PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1),
				   result_receiver(fcinfo));
	SPI_finish();
	return (Datum) 0;
}

/* ----- the procedure ----- */

/* The names in a copy of their own: SPI's memory ends with the transaction. */
static List *
names_to_run(FunctionCallInfo fcinfo, MemoryContext context)
{
	MemoryContext caller = MemoryContextSwitchTo(context);
	List	   *names = NIL;
	ListCell   *cell;

	if (!PG_ARGISNULL(0))
		names = list_make1(text_argument(fcinfo, 0));
	else
		foreach(cell, lpu_sync_names())
			names = lappend(names, pstrdup(lfirst(cell)));
	MemoryContextSwitchTo(caller);
	return names;
}

/* The runs of one CALL. */
typedef struct SyncRuns
{
	bool		watched;
	bool		alone;			/* the sync was named */
	bool		several;		/* errors of each are reported */
	MemoryContext context;		/* of names and errors */
	ErrorData  *failed;			/* the first error */
} SyncRuns;

/* Run a sync and commit; return the error by which it failed, or NULL. */
static ErrorData *
run_and_commit(const char *name, const SyncRuns *runs, int timeout_ms)
{
	ErrorData  *error;

	XactIsoLevel = XACT_READ_COMMITTED;
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(runs->context);
	error = lpu_sync_run(name, runs->watched, runs->alone, timeout_ms);
	PopActiveSnapshot();
	SPI_commit();
	MemoryContextSwitchTo(runs->context);
	return error;
}

/*
 * Run these syncs. With *busy, the names of those that did not get a lock in time are returned
 * there and their errors are not reported.
 */
static void
run_syncs(SyncRuns *runs, const List *names, int timeout_ms, List **busy)
{
	ListCell   *cell;

	foreach(cell, names)
	{
		ErrorData  *error = run_and_commit(lfirst(cell), runs, timeout_ms);

		if (error == NULL)
			continue;
		if (busy != NULL && error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
		{
			*busy = lappend(*busy, lfirst(cell));
			continue;
		}
		if (runs->several)
			ereport(WARNING,
					(errmsg("sync \"%s\" failed: %s", (char *) lfirst(cell), error->message)));
		runs->failed = runs->failed == NULL ? error : runs->failed;
	}
}

/*
 * The worker delivers what earlier runs have left, too: after a restart of the server, or after
 * lp_worker_stop(), there is none until it is woken.
 */
static void
wake_for_rest(void)
{
	int			n;

	(void) lpu_due_accounts(&n);
	if (n > 0)
		lpu_enqueue_wake();
}

/*
 * lp_sync(sync text, watched boolean)
 *
 * One sync that fails does not keep the others from running; its error is
 * raised when all have run, so that what schedules the call sees it. One that
 * is locked by another transaction runs after the others, if it can.
 */
Datum
lp_sync(PG_FUNCTION_ARGS)
{
	CallContext *call = fcinfo->context && IsA(fcinfo->context, CallContext) ?
	(CallContext *) fcinfo->context : NULL;
	SyncRuns	runs = {.watched = !PG_ARGISNULL(1) && PG_GETARG_BOOL(1),.alone = !PG_ARGISNULL(0)};
	List	   *busy = NIL;
	List	   *names;

	if (call == NULL || call->atomic || IsSubTransaction())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("lp_sync() cannot run inside a transaction block or a function"),
				 errdetail("It commits after each sync. Nothing was queued.")));
	PreventCommandIfReadOnly("lp_sync()");
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	runs.context = AllocSetContextCreate(CurrentMemoryContext, "lpusers sync",
										 ALLOCSET_DEFAULT_SIZES);
	PushActiveSnapshot(GetTransactionSnapshot());
	names = names_to_run(fcinfo, runs.context);
	wake_for_rest();
	PopActiveSnapshot();
	runs.several = list_length(names) > 1;
	if (runs.several)
		run_syncs(&runs, names, FIRST_WAIT_MS, &busy);
	run_syncs(&runs, runs.several ? busy : names, LAST_WAIT_MS, NULL);
	/* the error lives in SPI's memory */
	if (runs.failed != NULL)
		ReThrowError(runs.failed);
	SPI_finish();
	PG_RETURN_VOID();
}

/* ----- what people do with syncs ----- */

/* The sync in the first argument, locked; SPI is connected then. */
static LpuSync *
begin_change(FunctionCallInfo fcinfo, const char *function)
{
	static const char *const names[] = {"sync"};

	require_sync_arguments(fcinfo, names, lengthof(names));
	PreventCommandIfReadOnly(function);
	SPI_connect();
	return lpu_sync_named(text_argument(fcinfo, 0), true);
}

/*
 * lp_sync_unlink(sync text, keys text[]) RETURNS bigint
 */
Datum
lp_sync_unlink(PG_FUNCTION_ARGS)
{
	LpuSync    *sync = begin_change(fcinfo, "lp_sync_unlink()");
	int64		n = PG_ARGISNULL(1) ? 0 : lpu_sync_unlink(sync, PG_GETARG_DATUM(1));

	SPI_finish();
	PG_RETURN_INT64(n);
}

/*
 * lp_sync_pause(sync text) RETURNS void
 */
Datum
lp_sync_pause(PG_FUNCTION_ARGS)
{
	lpu_sync_pause(begin_change(fcinfo, "lp_sync_pause()"));
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * lp_sync_resume(sync text) RETURNS void
 */
Datum
lp_sync_resume(PG_FUNCTION_ARGS)
{
	LpuSync    *sync = begin_change(fcinfo, "lp_sync_resume()");

	lpu_sync_resume(sync);
	lpu_sync_refresh_names(sync);
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * lp_sync_drop(sync text) RETURNS void
 */
Datum
lp_sync_drop(PG_FUNCTION_ARGS)
{
	lpu_sync_drop(begin_change(fcinfo, "lp_sync_drop()"));
	SPI_finish();
	PG_RETURN_VOID();
}

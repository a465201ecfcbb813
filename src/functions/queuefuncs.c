/*
 * queuefuncs.c: the SQL functions of the queue: CALL lp_deliver(), lp_enqueue_users() and the
 * functions that operate on requests.
 *
 * The procedure commits between its steps, so it refuses to run inside of a transaction block
 * before anything is claimed. While requests are under way it is in a transaction without
 * snapshot, xid or lock.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/error.h"
#include "base/extension.h"
#include "base/guc.h"
#include "delivery/delivery.h"
#include "delivery/turns.h"
#include "functions/period.h"
#include "functions/writing.h"
#include "http/request.h"
#include "options/server.h"
#include "queue/backlog.h"
#include "queue/enqueue.h"
#include "queue/housekeeping.h"
#include "queue/operate.h"
#include "queue/release.h"
#include "queue/worker_slots.h"
#include "user/serialize.h"
#include "user/validate.h"

PG_FUNCTION_INFO_V1(lp_deliver);
PG_FUNCTION_INFO_V1(lp_enqueue_users);
PG_FUNCTION_INFO_V1(lp_retry);
PG_FUNCTION_INFO_V1(lp_discard);
PG_FUNCTION_INFO_V1(lp_release);
PG_FUNCTION_INFO_V1(lp_release_ids);
PG_FUNCTION_INFO_V1(lp_adopt);
PG_FUNCTION_INFO_V1(lp_purge);
PG_FUNCTION_INFO_V1(_lp_wake);
PG_FUNCTION_INFO_V1(lp_worker_stop);
PG_FUNCTION_INFO_V1(lp_worker_pid);
PG_FUNCTION_INFO_V1(_lp_worker_missing);

/* A NOTICE at most so often. */
#define PROGRESS_MS 1000

static TimestampTz next_notice;

/* The call has said what it did to an account. */
static bool reported;

static void
begin_call_step(void)
{
	XactIsoLevel = XACT_READ_COMMITTED;
	/* values may have to be fetched from the toast table after the statement */
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
commit_call_step(void)
{
	PopActiveSnapshot();
	SPI_commit();
}

static void
notice(const char *account, const LpuTotals *totals)
{
	const char *done = totals->done == 0 ? "" :
	psprintf(INT64_FORMAT " updated or deleted, ", totals->done);

	ereport(NOTICE,
			(errmsg("account \"%s\": " INT64_FORMAT " created, %s" INT64_FORMAT " failed, "
					INT64_FORMAT " held, " INT64_FORMAT " to be tried again, " INT64_FORMAT
					" requests",
					account, totals->created, done, totals->failed, totals->held, totals->again,
					totals->requests)));
	next_notice = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), PROGRESS_MS);
}

static void
progress(const char *account, const LpuTotals *totals)
{
	if (GetCurrentTimestamp() >= next_notice)
		notice(account, totals);
}

static void
over(const char *account, const LpuTotals *totals)
{
	reported = true;
	if (totals != NULL)
		notice(account, totals);
	else
		ereport(NOTICE,
				(errmsg("queue of account \"%s\" is already being delivered by another process", account)));
}

/* The worker delivers what is unfinished. Raises nothing. */
static void
wake_worker(void)
{
	(void) lpu_wake_worker(MyDatabaseId);
}

/* Deliver all that is due for the account, or for all of them side by side. */
static void
deliver_accounts(const char *account, LpuTurns *turns)
{
	long		wait_ms;

	(void) lpu_turns_list(turns, account, true);
	for (;;)
	{
		wait_ms = lpu_turns_step(turns, false);
		if (wait_ms < 0 && !lpu_turns_busy(turns))
			return;
		if (wait_ms != 0)
			lpu_http_turn(wait_ms);
	}
}

/* Why requests wait, a DETAIL; NULL: they are due, and the worker takes them next. */
static char *
why_waiting(const LpuBacklog *left)
{
	StringInfoData text;

	initStringInfo(&text);
	if (left->paused != NULL)
		appendStringInfo(&text, "Delivery is paused by an option of the server: account %s.", left->paused);
	if (left->next != 0)
		appendStringInfo(&text, "%sThe next one is due at %s.", text.len > 0 ? " " : "",
						 timestamptz_to_str(left->next));
	if (left->trouble != NULL)
		appendStringInfo(&text, "%sThe latest problem: %s.", text.len > 0 ? " " : "", left->trouble);
	return text.len > 0 ? text.data : NULL;
}

/* The last NOTICE of a call: what is left in the queue, and why. */
static void
report_rest(const char *account)
{
	LpuBacklog	left = lpu_backlog(account);
	char	   *of = account ? psprintf(" of account \"%s\"", account) : "";
	char	   *why = why_waiting(&left);

	if (left.waiting == 0 && left.held == 0)
	{
		if (!reported)
			ereport(NOTICE, (errmsg("nothing is waiting in the queue%s", of)));
		return;
	}
	ereport(NOTICE,
			(errmsg("left in the queue%s: " INT64_FORMAT " waiting, " INT64_FORMAT " held",
					of, left.waiting, left.held),
			 why ? errdetail_internal("%s", why) : 0,
			 left.held > 0 ? errhint("See the columns hold and reason of lp_results, then use lp_release(), lp_adopt() or lp_discard().") : 0));
}

/*
 * Raise 28000 if there is neither a server of the account nor an unfinished request for it: its
 * name may be misspelt.
 */
static void
check_known_account(const char *account)
{
	lpu_account_check(account);
	if (!lpu_account_has_server(account, InvalidOid) && !lpu_backlog_knows(account))
		lpu_problem_raise(lpu_account_unknown(account));
}

/* The worker continues with what is left. If none may run, its housekeeping is done here. */
static void
leave_rest(const char *account, MemoryContext context)
{
	int			n;

	begin_call_step();
	MemoryContextSwitchTo(context);
	report_rest(account);
	(void) lpu_queue_due(&n);
	if (!lpu_worker_on)
		lpu_queue_housekeep();
	commit_call_step();
	if (n > 0)
		wake_worker();
}

/*
 * lp_deliver(account text DEFAULT NULL)
 */
Datum
lp_deliver(PG_FUNCTION_ARGS)
{
	CallContext *call = fcinfo->context &&
	IsA(fcinfo->context, CallContext) ? (CallContext *) fcinfo->context : NULL;
	char	   *account = PG_ARGISNULL(0) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(0));
	static const LpuDeliverer deliverer = {begin_call_step, commit_call_step, progress, over, NULL,
	NULL};
	MemoryContext context;
	LpuTurns   *turns;

	/*
	 * in a block with an exception handler, older releases do not say
	 * "atomic"
	 */
	if (call == NULL || call->atomic || IsSubTransaction())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("lp_deliver() cannot run inside a transaction block or a function"),
				 errdetail("It commits between batches. Nothing was claimed.")));
	PreventCommandIfReadOnly("lp_deliver()");

	/* SPI's own context lives until SPI_finish(), through the commits */
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	context = AllocSetContextCreate(CurrentMemoryContext, "lpusers deliver",
									ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);
	if (account != NULL)
	{
		PushActiveSnapshot(GetTransactionSnapshot());
		check_known_account(account);
		PopActiveSnapshot();
	}
	reported = false;
	next_notice = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), PROGRESS_MS);
	turns = lpu_turns_new(&deliverer, true);
	lpu_shmem_attach();
	SPI_commit();
	PG_TRY();
	{
		MemoryContextSwitchTo(context);
		deliver_accounts(account, turns);
		leave_rest(account, context);
	}
	PG_CATCH();
	{
		lpu_turns_close(turns);
		/* what was under way must not wait for the next commit */
		wake_worker();
		PG_RE_THROW();
	}
	PG_END_TRY();
	SPI_finish();
	PG_RETURN_VOID();
}

/* ----- enqueueing by hand ----- */

/*
 * The problems of one user as a text, NULL: none. *next is the first problem
 * in the list that is not of an earlier user.
 */
static char *
describe_problems(List *problems, int *next, int ordinal)
{
	StringInfoData text;

	initStringInfo(&text);
	for (; *next < list_length(problems); (*next)++)
	{
		LpuUserProblem *problem = list_nth(problems, *next);

		if (problem->ordinal > ordinal)
			break;
		/* the queue itself finds logins that are given twice */
		if (problem->ordinal < ordinal || strncmp(problem->text, "is the same", 11) == 0)
			continue;
		appendStringInfo(&text, "%s", text.len > 0 ? "; " : "");
		if (problem->attribute != NULL)
			appendStringInfo(&text, "\"%s\" ", problem->attribute);
		appendStringInfoString(&text, problem->text);
	}
	return text.len > 0 ? text.data : NULL;
}

/* The users of a document for the queue. */
static LpuQueuedUser *
queued_users(Jsonb *users, bool require_password, int *n)
{
	List	   *problems = lpu_users_check(users, LPU_USER_CREATE, require_password);
	LpuUserIdentity *who = lpu_users_identify(users, n);
	LpuQueuedUser *queued = palloc0(Max(*n, 1) * sizeof(LpuQueuedUser));
	char	  **bodies = lpu_users_write_each(users, *n);
	int			next = 0;
	int			i;

	if (problems != NIL && ((LpuUserProblem *) linitial(problems))->ordinal == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid users"),
				 errdetail("users: %s. Nothing was queued.", ((LpuUserProblem *) linitial(problems))->text),
				 errhidestmt(true)));
	for (i = 0; i < *n; i++)
	{
		queued[i].login_name = who[i].login_name;
		queued[i].problem = describe_problems(problems, &next, i + 1);
		if (queued[i].problem == NULL)
			queued[i].body = bodies[i];
	}
	return queued;
}

/*
 * lp_enqueue_users(account text, users jsonb) RETURNS SETOF bigint
 */
Datum
lp_enqueue_users(PG_FUNCTION_ARGS)
{
	LpuQueueOrigin origin = {0};
	const LpuOptions *options;
	LpuQueuedUser *users;
	int64	   *ids;
	int			n;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("account and users must not be null"),
				 errhidestmt(true)));
	options = lpu_options_for_writing(fcinfo, "lp_enqueue_users()");
	users = queued_users(PG_GETARG_JSONB_P(1), options->require_password, &n);
	ids = palloc(Max(n, 1) * sizeof(int64));
	origin.schema = get_func_namespace(fcinfo->flinfo->fn_oid);
	origin.account = options->account;
	origin.server = options->server_name;
	origin.server_oid = options->server;
	origin.requested_by = GetOuterUserId();
	origin.send_as = GetUserId();
	lpu_enqueue(&origin, users, n, ids);

	lpu_return_ids(fcinfo, ids, n);
	return (Datum) 0;
}

/* ----- what people do with rows ----- */

/* The checks that all have in common.  SPI is connected then. */
static void
begin_operation(FunctionCallInfo fcinfo, const char *name, const char *argument)
{
	if (PG_NARGS() > 0 && PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", argument)));
	PreventCommandIfReadOnly(name);
	SPI_connect();
}

static Datum
end_change(int64 n)
{
	SPI_finish();
	PG_RETURN_INT64(n);
}

/*
 * lp_retry(ids bigint[]) RETURNS bigint
 */
Datum
lp_retry(PG_FUNCTION_ARGS)
{
	begin_operation(fcinfo, "lp_retry()", "ids");
	return end_change(lpu_retry(PG_GETARG_DATUM(0), GetUserId()));
}

/*
 * lp_discard(ids bigint[]) RETURNS bigint
 */
Datum
lp_discard(PG_FUNCTION_ARGS)
{
	begin_operation(fcinfo, "lp_discard()", "ids");
	return end_change(lpu_discard(PG_GETARG_DATUM(0), GetUserId()));
}

/*
 * lp_release(account text) RETURNS bigint
 */
Datum
lp_release(PG_FUNCTION_ARGS)
{
	char	   *account;

	begin_operation(fcinfo, "lp_release()", "account");
	account = text_to_cstring(PG_GETARG_TEXT_PP(0));
	check_known_account(account);
	return end_change(lpu_release_account(account));
}

/*
 * lp_release(ids bigint[]) RETURNS bigint
 */
Datum
lp_release_ids(PG_FUNCTION_ARGS)
{
	begin_operation(fcinfo, "lp_release()", "ids");
	return end_change(lpu_release_ids(PG_GETARG_DATUM(0)));
}

/*
 * lp_adopt() RETURNS bigint
 */
Datum
lp_adopt(PG_FUNCTION_ARGS)
{
	begin_operation(fcinfo, "lp_adopt()", "");
	return end_change(lpu_adopt());
}

/*
 * lp_purge(older_than interval) RETURNS bigint
 */
Datum
lp_purge(PG_FUNCTION_ARGS)
{
	begin_operation(fcinfo, "lp_purge()", "older_than");
	lpu_period_check(PG_GETARG_INTERVAL_P(0));
	return end_change(lpu_purge(PG_GETARG_INTERVAL_P(0)));
}

/* ----- worker ----- */

/*
 * _lp_wake() RETURNS void
 */
Datum
_lp_wake(PG_FUNCTION_ARGS)
{
	lpu_enqueue_wake();
	PG_RETURN_VOID();
}

/*
 * lp_worker_stop() RETURNS boolean
 */
Datum
lp_worker_stop(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(lpu_stop_worker(MyDatabaseId));
}

/*
 * lp_worker_pid() RETURNS integer
 */
Datum
lp_worker_pid(PG_FUNCTION_ARGS)
{
	int			pid = lpu_worker_pid(MyDatabaseId);

	if (pid == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT32(pid);
}

/*
 * _lp_worker_missing() RETURNS text
 */
Datum
_lp_worker_missing(PG_FUNCTION_ARGS)
{
	const char *why = lpu_worker_missing(MyDatabaseId);

	if (why == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(why));
}

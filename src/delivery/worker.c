/*
 * worker.c: the background worker that delivers the queue of one database.
 *
 * The worker is started by a transaction that enqueued rows (worker_slots.c) or by the launcher. It
 * delivers the due requests of each account, sleeps until the next request is due or a commit wakes
 * it, and exits when no request has been unfinished for lpusers.idle_timeout, so that the database
 * can be dropped. It connects as the bootstrap superuser; statements on the tables run as their
 * owner, one by one (lpu_run()).  The worker never waits for the network inside a transaction.  An
 * error ends the round, not the worker, which tries again after a delay.
 *
 * Its exit code tells the postmaster whether to restart the worker: 0 after a normal exit, if the
 * launcher restarts it, or if the database does not exist; else 1, which is the code of an error or
 * of pg_terminate_backend().
 */
#include "postgres.h"

#include "access/twophase.h"
#include "access/xact.h"
#include "executor/spi.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/account_lock.h"
#include "base/compat.h"
#include "base/extension.h"
#include "base/guc.h"
#include "delivery/delivery.h"
#include "delivery/turns.h"
#include "http/request.h"
#include "http/socket_wait.h"
#include "queue/worker_slots.h"

PGDLLEXPORT void lpu_worker_main(Datum arg);
PGDLLEXPORT void lpu_worker_main_by_name(Datum arg);

/* Delay after an error: long enough not to fill the log, short enough to recover soon. */
#define ERROR_WAIT_MS 5000

/*
 * Interval of checks for the end of prepared transactions of the database, and for housekeeping.
 */
#define LOOK_AROUND_MS 10000
#define HOUSEKEEPING_MS (3600 * 1000)
#define HOUSEKEEPING_RETRY_MS (60 * 1000)

/*
 * While accounts are being delivered, the interval of their listing is at least this multiple of
 * its duration, since a listing reads all unfinished rows.
 */
#define LISTING_SHARE 10

/*
 * Time that requests in flight have to end after a stop request.  Then they are given up, and the
 * next deliverer looks their outcome up, so that no service keeps the worker.
 */
#define STOP_GRACE_MS 10000

/* Maximum time, and interval, of waiting for an exiting predecessor. */
#define PREDECESSOR_MS 10000
#define PREDECESSOR_STEP_MS 10

/*
 * State of the worker: a round begins with a listing of the accounts that have requests to deliver.
 */
typedef struct WorkerLoop
{
	MemoryContext context;		/* reset after each listing */
	LpuTurns   *turns;
	TimestampTz next_listing;	/* unless one of these requires it sooner: */
	TimestampTz earliest_listing;
	TimestampTz idle_since;
	long		wait_ms;		/* before the next step, -1: no limit */
	bool		stop;			/* only requests in flight continue, until: */
	TimestampTz stop_end;
	bool		over;			/* the worker has to exit */
} WorkerLoop;

static void
begin_step(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	XactIsoLevel = XACT_READ_COMMITTED;
	XactReadOnly = false;
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	pgstat_report_activity(STATE_RUNNING, "delivering");
}

static void
commit_step(void)
{
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
}

static bool
must_stop(void)
{
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
	return !lpu_worker_on || lpu_worker_asked_to_stop();
}

/* Return true if the extension is installed. */
static bool
is_installed(void)
{
	bool		installed;

	StartTransactionCommand();
	installed = OidIsValid(lpu_extension_schema());
	CommitTransactionCommand();
	return installed;
}

/*
 * Run a part of a round; its error is logged, and the other parts continue. Return false after an
 * error.
 */
static bool
run_safely(void (*part) (void *arg), void *arg)
{
	MemoryContext caller = CurrentMemoryContext;
	volatile bool ok = false;

	PG_TRY();
	{
		part(arg);
		ok = true;
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		EmitErrorReport();
		AbortCurrentTransaction();
		MemoryContextSwitchTo(caller);
		lpu_worker_note_error(CopyErrorData());
		FlushErrorState();
		pgstat_report_activity(STATE_IDLE, NULL);
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	return ok;
}

/*
 * Run housekeeping once an hour, or a minute after a failure.  All accounts wait for it, so its
 * statements skip rows locked by sessions.
 */
static void
housekeep(void *arg)
{
	static TimestampTz next = 0;

	if (GetCurrentTimestamp() < next)
		return;
	next = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), HOUSEKEEPING_RETRY_MS);
	begin_step();
	lpu_queue_housekeep();
	commit_step();
	next = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), HOUSEKEEPING_MS);
}

/*
 * A prepared transaction may have enqueued rows, and COMMIT PREPARED does not wake the worker.
 */
static bool
prepared_transactions_here(void)
{
	bool		any = false;

	if (max_prepared_xacts == 0)
		return false;
	begin_step();
	SPI_execute("SELECT FROM pg_catalog.pg_prepared_xacts WHERE database OPERATOR(pg_catalog.=)"
				" pg_catalog.current_database() LIMIT 1", true, 1);
	any = SPI_processed > 0;
	commit_step();
	return any;
}

static void
wait_for_work(int64 ms)
{
	static uint32 event_worker = 0;

	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (ms < 0 ? 0 : WL_TIMEOUT),
					 (long) ms,
					 lpu_wait_event(&event_worker, "LpusersWorker"));
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* Begin a round: list the accounts with requests, and their due times. */
static void
list_accounts(void *arg)
{
	WorkerLoop *s = arg;
	TimestampTz start = GetCurrentTimestamp();
	TimestampTz now;
	bool		installed;
	bool		prepared;
	bool		woken = lpu_worker_is_wanted();
	bool		unfinished;
	long		wait_ms = LOOK_AROUND_MS;

	s->next_listing = s->earliest_listing = TimestampTzPlusMilliseconds(start, ERROR_WAIT_MS);
	installed = is_installed();
	/* without the extension, requests in flight end first */
	s->over = !installed && !lpu_turns_busy(s->turns);
	if (!installed)
		return;
	lpu_worker_begin_round();
	/* in this order: the second finds commits between the two */
	prepared = prepared_transactions_here();
	unfinished = lpu_turns_list(s->turns, NULL, woken) > 0 || lpu_turns_busy(s->turns);
	(void) run_safely(housekeep, NULL);

	now = GetCurrentTimestamp();
	if (unfinished)
		s->idle_since = now;
	else if (lpu_idle_timeout > 0)
		wait_ms = Min(lpu_idle_timeout, LOOK_AROUND_MS);
	else
		wait_ms = LOOK_AROUND_MS / 10;
	s->next_listing = TimestampTzPlusMilliseconds(now, wait_ms);
	s->earliest_listing = now + (now - start) * LISTING_SHARE;
	s->over = !unfinished && !prepared &&
		TimestampDifferenceExceeds(s->idle_since, now, lpu_idle_timeout) && lpu_worker_leave();
}

/* Return true if the accounts are to be listed now. */
static bool
listing_is_due(const WorkerLoop *s)
{
	TimestampTz now = GetCurrentTimestamp();

	if (now >= s->next_listing)
		return true;
	if (!lpu_worker_is_wanted() && !lpu_turns_changed(s->turns))
		return false;
	return now >= s->earliest_listing || !lpu_turns_busy(s->turns);
}

/* Wait for the network, the latch, or the next due time. */
static void
wait_for_next(void *arg)
{
	WorkerLoop *s = arg;
	TimestampTz now = GetCurrentTimestamp();
	long		wait_ms = TimestampDifferenceMilliseconds(now, s->next_listing);

	if (lpu_worker_is_wanted() || lpu_turns_changed(s->turns))
		wait_ms = Min(wait_ms, TimestampDifferenceMilliseconds(now, s->earliest_listing));
	/* after a stop nothing is listed */
	if (s->stop)
	{
		wait_ms = TimestampDifferenceMilliseconds(now, s->stop_end);
		if (s->wait_ms >= 0)
			wait_ms = Min(wait_ms, s->wait_ms);
	}
	else if (s->wait_ms >= 0)
		wait_ms = Min(wait_ms, s->wait_ms);
	if (lpu_turns_busy(s->turns))
		lpu_http_turn(wait_ms);
	else
		wait_for_work(wait_ms);
}

/* Note whether the worker has to stop; give up requests in flight after a while. */
static bool
is_stopped(WorkerLoop *s)
{
	TimestampTz now = GetCurrentTimestamp();

	if (!must_stop())
		return s->stop = false;
	if (!s->stop)
		s->stop_end = TimestampTzPlusMilliseconds(now, STOP_GRACE_MS);
	else if (now >= s->stop_end)
		lpu_turns_close(s->turns);
	return s->stop = true;
}

/* List, deliver and wait, once each. */
static void
take_step(WorkerLoop *s)
{
	if (!s->stop && listing_is_due(s))
	{
		(void) run_safely(list_accounts, s);
		MemoryContextSwitchTo(TopMemoryContext);
		MemoryContextReset(s->context);
	}
	if (s->over)
		return;
	s->wait_ms = lpu_turns_step(s->turns, s->stop);
	/* a cancel, too, ends only the current part */
	if (s->wait_ms != 0 && !run_safely(wait_for_next, s))
		lpu_turns_close(s->turns);
}

static void
serve(void)
{
	static const LpuDeliverer deliverer = {begin_step, commit_step, NULL, NULL, run_safely,
	must_stop};
	WorkerLoop	s = {0};

	MemoryContextSwitchTo(TopMemoryContext);
	s.context = AllocSetContextCreate(TopMemoryContext, "lpusers worker", ALLOCSET_DEFAULT_SIZES);
	s.turns = lpu_turns_new(&deliverer, false);
	s.idle_since = GetCurrentTimestamp();

	/*
	 * commits after the stop request would not start another worker, so this
	 * one stays
	 */
	do
		while (!is_stopped(&s) || lpu_turns_busy(s.turns))
		{
			take_step(&s);
			if (s.over)
				return;
			/* after pg_advisory_unlock_all() another worker may exist */
			if (!lpu_lock_worker())
				return;
		}
	while (lpu_worker_on && !lpu_worker_leave());
}

/* Be the one worker of the database. Return false if there is another. */
static bool
lock_database(Oid database)
{
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), PREDECESSOR_MS);
	bool		locked;

	for (;;)
	{
		StartTransactionCommand();
		locked = lpu_lock_worker();
		CommitTransactionCommand();
		if (locked || lpu_worker_pid(database) != 0 || GetCurrentTimestamp() > end)
			return locked;

		/*
		 * the predecessor has freed its slot, and not yet its lock
		 */
		lpu_pause(PREDECESSOR_STEP_MS);
	}
}

/*
 * Settings of the database or its owner must not reach a superuser's session: above all
 * search_path, and settings that end or change transactions.
 */
static void
fix_settings(void)
{
	static const char *const fixed[][2] = {
		{"search_path", "pg_catalog, pg_temp"},
		{"statement_timeout", "0"},
		{"lock_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
#if PG_VERSION_NUM >= 170000
		{"transaction_timeout", "0"},
#endif
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"session_replication_role", "origin"},
	};
	int			i;

	for (i = 0; i < lengthof(fixed); i++)
		SetConfigOption(fixed[i][0], fixed[i][1], PGC_SUSET, PGC_S_OVERRIDE);
}

/* ----- start and end ----- */

/*
 * The database of this process, InvalidOid while only its name is known; and the state of the
 * connection.
 */
static Oid	database_oid = InvalidOid;
static bool connected = false;
static bool terminated = false;
static bool may_forget = false;

static emit_log_hook_type next_log_hook = NULL;

/*
 * A dropped database is not a failure: it was dropped with its queue while this worker was
 * starting. A database name that never existed is a failure, most often caused by upper case.
 */
static void
watch_connection_error(ErrorData *error)
{
	terminated = error->elevel == FATAL && error->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN;
	if (error->sqlerrcode == ERRCODE_UNDEFINED_DATABASE)
	{
		if (OidIsValid(database_oid))
			error->output_to_server = false;
		else
			error->hint =
				pstrdup("Names in lpusers.databases are folded to lower case unless they are double-quoted.");
	}
	if (next_log_hook != NULL)
		next_log_hook(error);
}

/* Before shared memory is detached: set the slot for the processes that start workers. */
static void
on_exit_leave(int code, Datum arg)
{
	if (!connected && !terminated)
	{
		lpu_worker_give_up(database_oid);
		may_forget = true;
	}
	else if (lpu_worker_end())
		may_forget = true;
}

/* The postmaster restarts a worker that exits with 1. */
static void
on_exit_set_code(int code, Datum arg)
{
	if (code == 1 && may_forget)
		proc_exit(0);
}

/* To be called before the connection is made, which may fail. */
static void
prepare(Oid database)
{
	database_oid = database;
	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	lpu_shmem_attach();
	on_proc_exit(on_exit_set_code, (Datum) 0);
	before_shmem_exit(on_exit_leave, (Datum) 0);
	next_log_hook = emit_log_hook;
	emit_log_hook = watch_connection_error;
	BackgroundWorkerUnblockSignals();
}

static void
work(void)
{
	connected = true;
	emit_log_hook = next_log_hook;
	database_oid = MyDatabaseId;
	fix_settings();
	SetConfigOption("application_name", MyBgworkerEntry->bgw_type, PGC_USERSET, PGC_S_SESSION);
	if (lock_database(database_oid) && lpu_worker_arrive(database_oid))
		serve();
}

/* Entry point of a worker by the database's OID. */
void
lpu_worker_main(Datum arg)
{
	prepare(DatumGetObjectId(arg));
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(arg), InvalidOid, 0);
	work();
}

/* Entry point of a worker by the database's name, which is in bgw_extra. */
void
lpu_worker_main_by_name(Datum arg)
{
	prepare(InvalidOid);
	BackgroundWorkerInitializeConnection(MyBgworkerEntry->bgw_extra, NULL, 0);
	work();
}

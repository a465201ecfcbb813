/*
 * worker_slots.c: which worker serves which database.
 *
 * A small fixed table in shared memory, made on first use. The table serves to wake a running
 * worker instead of starting another; a lock ensures that a database has only one
 * (account_lock.c). A slot is "starting" from the registration of a worker until the worker runs.
 * A worker that exits normally frees its slot. If the worker ended in another way, was switched
 * off, or found no background worker slot, the slot stays as "waiting" for the launcher. Without
 * a launcher, the postmaster restarts a worker that ended by an error or a signal. What the
 * launcher does is in worker_launch.c.  Functions called at the end of a transaction raise no
 * error.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/timestamp.h"

#include "base/encoding.h"
#include "base/guc.h"
#include "queue/worker_slots.h"
#include "queue/worker_table.h"

/* An error is shown for this time: while it lasts, the worker meets it again every few seconds. */
#define TROUBLE_MS 30000

/* Seconds after which the postmaster restarts a worker that ended by an error or a signal. */
#define RESTART_S 60

LpuWorkerTable *lpu_worker_table = NULL;

/* The slot of this process, if it is a worker. */
static LpuWorkerSlot *mine = NULL;

/* Request shared memory; only while the library is preloaded. */
void
lpu_shmem_request(void)
{
	RequestAddinShmemSpace(MAXALIGN(sizeof(LpuWorkerTable)));
}

/* Attach to shared memory, which lpu_wake_worker() needs. Raises if it is exhausted. */
void
lpu_shmem_attach(void)
{
	bool		found;

	if (lpu_worker_table != NULL)
		return;
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	lpu_worker_table = ShmemInitStruct("lpusers", sizeof(LpuWorkerTable), &found);
	if (!found)
	{
		memset(lpu_worker_table, 0, sizeof(LpuWorkerTable));
		SpinLockInit(&lpu_worker_table->mutex);
	}
	LWLockRelease(AddinShmemInitLock);
}

/* Return true if the worker registered for this slot has not started and will not start. */
static bool
never_arrived(const LpuWorkerSlot *slot, TimestampTz now)
{
	return slot->pid == 0 && !slot->waiting &&
		now > TimestampTzPlusMilliseconds(slot->since, LPU_START_PATIENCE_MS);
}

/*
 * Under the mutex: return the slot of a database. If it has none, return NULL, or a free one if
 * "make" is set and there is one.
 */
static LpuWorkerSlot *
find_slot(Oid database, TimestampTz now, bool make)
{
	LpuWorkerSlot *free_slot = NULL;
	int			i;

	for (i = 0; i < LPU_MAX_WORKER_SLOTS; i++)
	{
		LpuWorkerSlot *slot = &lpu_worker_table->slots[i];

		if (slot->database == database)
			return slot;
		if (free_slot == NULL && (!OidIsValid(slot->database) || never_arrived(slot, now)))
			free_slot = slot;
	}
	return make ? free_slot : NULL;
}

/*
 * Register a worker with this entry point, for a database by OID or, in bgw_extra, by name; the
 * name is also shown. Return false if no background worker slot is free. Raises nothing; needs
 * lpu_shmem_attach().
 */
bool
lpu_start_worker(const char *function, Oid database, const char *name)
{
	BackgroundWorker worker = {0};
	int			launcher;
	bool		registered;

	SpinLockAcquire(&lpu_worker_table->mutex);
	launcher = lpu_worker_table->launcher_pid;
	SpinLockRelease(&lpu_worker_table->mutex);
	/* when it ends, its slot is free for another database */
	worker.bgw_notify_pid = launcher;
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = RESTART_S;
	strlcpy(worker.bgw_library_name, "lpusers", lengthof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, function, lengthof(worker.bgw_function_name));
	snprintf(worker.bgw_name, BGW_MAXLEN, "lpusers worker for database %s", name);
	strlcpy(worker.bgw_type, "lpusers worker", BGW_MAXLEN);
	strlcpy(worker.bgw_extra, name, BGW_EXTRALEN);
	worker.bgw_main_arg = ObjectIdGetDatum(database);
	registered = RegisterDynamicBackgroundWorker(&worker, NULL);

	SpinLockAcquire(&lpu_worker_table->mutex);
	lpu_worker_table->no_slot = !registered;
	SpinLockRelease(&lpu_worker_table->mutex);
	return registered;
}

/*
 * Start a worker by the database's OID: its name cannot be looked up at the end of a
 * transaction.
 */
bool
lpu_start_worker_of(Oid database)
{
	char		number[16];

	snprintf(number, sizeof(number), "%u", database);
	return lpu_start_worker("lpu_worker_main", database, number);
}

/*
 * Under the mutex: leave the slot, which has no worker, to the launcher and return its latch;
 * NULL if there is none.
 */
static Latch *
leave_to_launcher(LpuWorkerSlot *slot)
{
	Oid			database = slot->database;
	TimestampTz launched = slot->launched;

	memset(slot, 0, sizeof(LpuWorkerSlot));
	if (lpu_worker_table->launcher == NULL)
		return NULL;
	slot->database = database;
	slot->launched = launched;
	slot->waiting = true;
	return lpu_worker_table->launcher;
}

/* No worker could be registered: leave it to the launcher, if there is one, to try again. */
static void
wait_for_slot(Oid database, TimestampTz now)
{
	Latch	   *launcher = NULL;
	LpuWorkerSlot *slot;

	SpinLockAcquire(&lpu_worker_table->mutex);
	slot = find_slot(database, now, false);
	if (slot != NULL && slot->pid == 0)
		launcher = leave_to_launcher(slot);
	SpinLockRelease(&lpu_worker_table->mutex);
	if (launcher != NULL)
		SetLatch(launcher);
	ereport(LOG,
			(errmsg("no background worker slot is free for lpusers: what was queued in database %u waits", database),
			 errhint("Increase max_worker_processes, or CALL lp_deliver()."),
			 errhidestmt(true)));
}

/*
 * Wake the worker of a database that has work, or start one; with lpusers.worker off, have the
 * launcher start it when the setting is on again. Return false if no worker could be started,
 * because no slot is free here or among the background workers: then the rows wait for the
 * launcher or, without one, for the next call. Raises no error.
 */
bool
lpu_wake_worker(Oid database)
{
	TimestampTz now = GetCurrentTimestamp();
	Latch	   *latch = NULL;
	LpuWorkerSlot *slot;
	bool		start = false;

	if (lpu_worker_table == NULL)
		return false;
	SpinLockAcquire(&lpu_worker_table->mutex);
	slot = find_slot(database, now, true);
	if (slot != NULL)
	{
		start = slot->database != database || slot->waiting || never_arrived(slot, now);
		if (start)
		{
			memset(slot, 0, sizeof(LpuWorkerSlot));
			slot->database = database;
			slot->since = now;
		}
		slot->wanted = true;
		latch = slot->latch;
		if (start && !lpu_worker_on)
		{
			latch = leave_to_launcher(slot);
			start = false;
		}
	}
	SpinLockRelease(&lpu_worker_table->mutex);
	if (latch != NULL)
		SetLatch(latch);
	if (slot != NULL && (!start || lpu_start_worker_of(database)))
		return true;
	wait_for_slot(database, now);
	return false;
}

/* ----- the worker ----- */

/*
 * The worker ends. Unless it has exited normally, the launcher is to start another; return true
 * if there is a launcher.
 */
bool
lpu_worker_end(void)
{
	Latch	   *launcher;

	if (mine == NULL)
		return false;
	SpinLockAcquire(&lpu_worker_table->mutex);
	launcher = leave_to_launcher(mine);
	SpinLockRelease(&lpu_worker_table->mutex);
	mine = NULL;
	if (launcher != NULL)
		SetLatch(launcher);
	return launcher != NULL;
}

/* The worker that was registered for this database cannot serve it: free the slot. */
void
lpu_worker_give_up(Oid database)
{
	TimestampTz now = GetCurrentTimestamp();
	LpuWorkerSlot *slot;

	SpinLockAcquire(&lpu_worker_table->mutex);
	slot = find_slot(database, now, false);
	if (OidIsValid(database) && slot != NULL && slot->pid == 0)
		memset(slot, 0, sizeof(LpuWorkerSlot));
	SpinLockRelease(&lpu_worker_table->mutex);
}

/*
 * Register this process as the worker that other processes wake. Return false if all slots are
 * taken.
 */
bool
lpu_worker_arrive(Oid database)
{
	TimestampTz now = GetCurrentTimestamp();
	LpuWorkerSlot *slot;

	SpinLockAcquire(&lpu_worker_table->mutex);
	slot = find_slot(database, now, true);
	if (slot != NULL)
	{
		if (slot->database != database)
			slot->launched = 0;
		slot->database = database;
		slot->pid = MyProcPid;
		slot->latch = MyLatch;
		slot->since = now;
		slot->stop = false;
		slot->waiting = false;
	}
	SpinLockRelease(&lpu_worker_table->mutex);
	mine = slot;
	return slot != NULL;
}

/* A round begins: it sees all earlier commits. */
void
lpu_worker_begin_round(void)
{
	if (mine == NULL)
		return;
	SpinLockAcquire(&lpu_worker_table->mutex);
	/* commits after a stop are not served by this round */
	if (!mine->stop)
		mine->wanted = false;
	SpinLockRelease(&lpu_worker_table->mutex);
}

static bool
read_flag(const bool *flag)
{
	bool		set;

	SpinLockAcquire(&lpu_worker_table->mutex);
	set = *flag;
	SpinLockRelease(&lpu_worker_table->mutex);
	return set;
}

/* Return true if the worker was woken since its round began. */
bool
lpu_worker_is_wanted(void)
{
	return mine != NULL && read_flag(&mine->wanted);
}

/* Return true if lp_worker_stop() has asked the worker to leave. */
bool
lpu_worker_asked_to_stop(void)
{
	return mine != NULL && read_flag(&mine->stop);
}

/* Free the slot, unless the worker was woken since its round began. Return true if it may end. */
bool
lpu_worker_leave(void)
{
	LpuWorkerSlot *slot = mine;

	if (slot == NULL)
		return true;
	SpinLockAcquire(&lpu_worker_table->mutex);
	slot->stop = false;
	if (!slot->wanted)
	{
		memset(slot, 0, sizeof(LpuWorkerSlot));
		mine = NULL;
	}
	SpinLockRelease(&lpu_worker_table->mutex);
	return mine == NULL;
}

/*
 * Note an error that has ended a part of the worker's round, if it concerns all rows, and free it:
 * a right that the owner of the tables lacks, or a trigger that is not allowed.  Others may concern
 * one account, which not every role may know of.
 */
void
lpu_worker_note_error(ErrorData *error)
{
	TimestampTz now = GetCurrentTimestamp();

	if (mine != NULL && error->message != NULL &&
		error->sqlerrcode == ERRCODE_INSUFFICIENT_PRIVILEGE)
	{
		char	   *why = lpu_text_of_stranger(error->message);
		int			length = pg_mbcliplen(why, (int) strlen(why), LPU_MAX_TROUBLE - 1);

		SpinLockAcquire(&lpu_worker_table->mutex);
		mine->failed = now;
		memcpy(mine->why, why, length);
		mine->why[length] = '\0';
		SpinLockRelease(&lpu_worker_table->mutex);
	}
	FreeErrorData(error);
}

/* ----- others ----- */

/* Ask the worker of a database to leave. Return false if there is none. */
bool
lpu_stop_worker(Oid database)
{
	TimestampTz now = GetCurrentTimestamp();
	Latch	   *latch = NULL;
	LpuWorkerSlot *slot;

	lpu_shmem_attach();
	SpinLockAcquire(&lpu_worker_table->mutex);
	slot = find_slot(database, now, false);
	if (slot != NULL && slot->pid != 0)
	{
		slot->stop = true;
		slot->wanted = false;
		latch = slot->latch;
	}
	SpinLockRelease(&lpu_worker_table->mutex);
	if (latch != NULL)
		SetLatch(latch);
	return latch != NULL;
}

/* Return the process id of the worker of a database, 0 if there is none. */
int
lpu_worker_pid(Oid database)
{
	TimestampTz now = GetCurrentTimestamp();
	LpuWorkerSlot *slot;
	int			pid;

	lpu_shmem_attach();
	SpinLockAcquire(&lpu_worker_table->mutex);
	slot = find_slot(database, now, false);
	pid = slot ? slot->pid : 0;
	SpinLockRelease(&lpu_worker_table->mutex);
	return pid;
}

/*
 * Return why a database has no worker, or why its worker delivers nothing; NULL if neither is the
 * case, or a worker is about to start.  A constant, or in the current memory context.
 */
const char *
lpu_worker_missing(Oid database)
{
	TimestampTz now = GetCurrentTimestamp();
	LpuWorkerSlot *slot;
	char		why[LPU_MAX_TROUBLE] = "";
	bool		starting;
	bool		no_slot;

	lpu_shmem_attach();
	SpinLockAcquire(&lpu_worker_table->mutex);
	slot = find_slot(database, now, false);
	starting = slot != NULL && !slot->waiting && !never_arrived(slot, now);
	if (slot != NULL && now < TimestampTzPlusMilliseconds(slot->failed, TROUBLE_MS))
		strlcpy(why, slot->why, sizeof(why));
	no_slot = lpu_worker_table->no_slot || find_slot(database, now, true) == NULL;
	SpinLockRelease(&lpu_worker_table->mutex);
	if (starting)
		return why[0] != '\0' ? pstrdup(why) : NULL;
	if (!lpu_worker_on)
		return "lpusers.worker is off";
	return no_slot ? "no background worker slot is free" : "no worker runs";
}

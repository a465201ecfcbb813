/*
 * worker_slots.c: which worker serves which database.
 *
 * A small fixed table in shared memory, made on first use. It serves to wake a
 * worker that is there instead of starting another; that a database has one
 * only is ensured by a lock (account_lock.c). A slot is "starting" from the
 * registration of a worker until it arrives. One that left frees it. If it
 * ended in another way, was switched off, or found no background worker slot,
 * its own stays as "waiting" for the launcher. Where there is none, the
 * postmaster restarts a worker that ended by an error or a signal. What is
 * called at the end of a transaction raises nothing.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/timestamp.h"

#include "base/guc.h"
#include "queue/worker_slots.h"

/* Databases with a worker at the same time; max_worker_processes is usually far less. */
#define MAX_SLOTS 64

/*
 * A worker that has not arrived by then was never started, or died before it could. A worker
 * that keeps ending is not started more often than that either.
 */
#define START_PATIENCE_MS 10000

/* When the launcher tries again after it found no background worker slot free. */
#define NO_SLOT_MS 10000

/* The postmaster restarts a worker that ended by an error or a signal after so many seconds. */
#define RESTART_S 60

typedef struct WorkerSlot
{
	Oid			database;		/* InvalidOid: the slot is free */
	int			pid;			/* 0: it was registered and has not arrived
								 * yet */
	Latch	   *latch;
	TimestampTz since;
	bool		wanted;			/* something is to be done that the current
								 * round may not have seen */
	bool		stop;			/* it was asked to leave */
	bool		waiting;		/* the launcher is to start it */
	TimestampTz launched;		/* when the launcher started one last, 0:
								 * never */
} WorkerSlot;

typedef struct WorkerSharedState
{
	slock_t		mutex;
	bool		no_slot;		/* the last worker that was wanted could not
								 * be registered */
	Latch	   *launcher;		/* NULL: there is none */
	int			launcher_pid;
	WorkerSlot	slots[MAX_SLOTS];
} WorkerSharedState;

static WorkerSharedState *state = NULL;

/* The slot of this process, if it is a worker. */
static WorkerSlot *mine = NULL;

/* Request shared memory; only while the library is preloaded. */
void
lpu_shmem_request(void)
{
	RequestAddinShmemSpace(MAXALIGN(sizeof(WorkerSharedState)));
}

/* Attach to shared memory, which lpu_wake_worker() needs. Raises if it is exhausted. */
void
lpu_shmem_attach(void)
{
	bool		found;

	if (state != NULL)
		return;
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	state = ShmemInitStruct("lpusers", sizeof(WorkerSharedState), &found);
	if (!found)
	{
		memset(state, 0, sizeof(WorkerSharedState));
		SpinLockInit(&state->mutex);
	}
	LWLockRelease(AddinShmemInitLock);
}

/* Return true if a worker was registered for this slot that has not come, and will not. */
static bool
never_arrived(const WorkerSlot *slot, TimestampTz now)
{
	return slot->pid == 0 && !slot->waiting &&
		now > TimestampTzPlusMilliseconds(slot->since, START_PATIENCE_MS);
}

/*
 * Under the mutex: return the slot of a database. If it has none, return NULL, or a free one if
 * "make" is set and there is one.
 */
static WorkerSlot *
find_slot(Oid database, TimestampTz now, bool make)
{
	WorkerSlot *free_slot = NULL;
	int			i;

	for (i = 0; i < MAX_SLOTS; i++)
	{
		if (state->slots[i].database == database)
			return &state->slots[i];
		if (free_slot == NULL &&
			(!OidIsValid(state->slots[i].database) || never_arrived(&state->slots[i], now)))
			free_slot = &state->slots[i];
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

	SpinLockAcquire(&state->mutex);
	launcher = state->launcher_pid;
	SpinLockRelease(&state->mutex);
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

	SpinLockAcquire(&state->mutex);
	state->no_slot = !registered;
	SpinLockRelease(&state->mutex);
	return registered;
}

/*
 * Start a worker by the database's OID: its name cannot be looked up at the end of a
 * transaction.
 */
static bool
start_worker(Oid database)
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
leave_to_launcher(WorkerSlot *slot)
{
	Oid			database = slot->database;
	TimestampTz launched = slot->launched;

	memset(slot, 0, sizeof(WorkerSlot));
	if (state->launcher == NULL)
		return NULL;
	slot->database = database;
	slot->launched = launched;
	slot->waiting = true;
	return state->launcher;
}

/* No worker could be registered: it is for the launcher to try again, if there is one. */
static void
wait_for_slot(Oid database, TimestampTz now)
{
	Latch	   *launcher = NULL;
	WorkerSlot *slot;

	SpinLockAcquire(&state->mutex);
	slot = find_slot(database, now, false);
	if (slot != NULL && slot->pid == 0)
		launcher = leave_to_launcher(slot);
	SpinLockRelease(&state->mutex);
	if (launcher != NULL)
		SetLatch(launcher);
	ereport(LOG,
			(errmsg("no background worker slot is free for lpusers: what was queued in database %u waits", database),
			 errhint("Increase max_worker_processes, or CALL lp_deliver()."),
			 errhidestmt(true)));
}

/*
 * Something is to be done in a database: wake its worker, or start one; with lpusers.worker
 * off, have the launcher start it when it is on again. Return false if none could be started,
 * because no slot is free here or among the background workers: then the rows wait for the
 * launcher, or if there is none for the next wake-up. Raises nothing.
 */
bool
lpu_wake_worker(Oid database)
{
	TimestampTz now = GetCurrentTimestamp();
	Latch	   *latch = NULL;
	WorkerSlot *slot;
	bool		start = false;

	if (state == NULL)
		return false;
	SpinLockAcquire(&state->mutex);
	slot = find_slot(database, now, true);
	if (slot != NULL)
	{
		start = slot->database != database || slot->waiting || never_arrived(slot, now);
		if (start)
		{
			memset(slot, 0, sizeof(WorkerSlot));
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
	SpinLockRelease(&state->mutex);
	if (latch != NULL)
		SetLatch(latch);
	if (slot != NULL && (!start || start_worker(database)))
		return true;
	wait_for_slot(database, now);
	return false;
}

/* ----- the launcher ----- */

static void
on_exit_forget_launcher(int code, Datum arg)
{
	SpinLockAcquire(&state->mutex);
	state->launcher = NULL;
	state->launcher_pid = 0;
	SpinLockRelease(&state->mutex);
}

/* Be the launcher, until the process ends: its latch is set when a database waits for a worker. */
void
lpu_launcher_arrive(void)
{
	lpu_shmem_attach();
	SpinLockAcquire(&state->mutex);
	state->launcher = MyLatch;
	state->launcher_pid = MyProcPid;
	SpinLockRelease(&state->mutex);
	before_shmem_exit(on_exit_forget_launcher, (Datum) 0);
}

/*
 * Return the database of this slot if a worker is to be started for it now: then it is "starting".
 * Else return InvalidOid, and lower *wait_ms to the time after which to ask again.
 */
static Oid
take_waiting(WorkerSlot *slot, TimestampTz now, long *wait_ms)
{
	Oid			database = InvalidOid;
	long		ms = -1;

	SpinLockAcquire(&state->mutex);
	if (OidIsValid(slot->database) && slot->pid == 0)
	{
		TimestampTz from = slot->waiting ? slot->launched : slot->since;

		ms = 0;
		if (from != 0)
		{
			TimestampTz until = TimestampTzPlusMilliseconds(from, START_PATIENCE_MS);

			ms = TimestampDifferenceMilliseconds(now, until);
		}
		if (ms == 0)
		{
			database = slot->database;
			slot->waiting = false;
			slot->since = slot->launched = now;
		}
	}
	SpinLockRelease(&state->mutex);
	if (ms > 0 && (*wait_ms < 0 || ms < *wait_ms))
		*wait_ms = ms;
	return database;
}

/*
 * Start a worker for each database that waits for one, or whose worker did not arrive. Return
 * the milliseconds after which to try again, -1 if there is no need to.
 */
long
lpu_launcher_turn(void)
{
	TimestampTz now = GetCurrentTimestamp();
	long		wait_ms = -1;
	int			i;

	for (i = 0; i < MAX_SLOTS; i++)
	{
		WorkerSlot *slot = &state->slots[i];
		Oid			database = take_waiting(slot, now, &wait_ms);

		if (!OidIsValid(database))
			continue;
		/* time to see whether it arrives */
		wait_ms = wait_ms < 0 ? START_PATIENCE_MS : Min(wait_ms, START_PATIENCE_MS);
		if (start_worker(database))
			continue;
		SpinLockAcquire(&state->mutex);
		if (slot->database == database && slot->pid == 0)
		{
			slot->waiting = true;
			slot->launched = 0;
		}
		SpinLockRelease(&state->mutex);
		return NO_SLOT_MS;		/* nor is there one for the others */
	}
	return wait_ms;
}

/* ----- the worker ----- */

/*
 * The worker ends. Unless it has left, the launcher is to start another; return true if there
 * is a launcher.
 */
bool
lpu_worker_end(void)
{
	Latch	   *launcher;

	if (mine == NULL)
		return false;
	SpinLockAcquire(&state->mutex);
	launcher = leave_to_launcher(mine);
	SpinLockRelease(&state->mutex);
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
	WorkerSlot *slot;

	SpinLockAcquire(&state->mutex);
	slot = find_slot(database, now, false);
	if (OidIsValid(database) && slot != NULL && slot->pid == 0)
		memset(slot, 0, sizeof(WorkerSlot));
	SpinLockRelease(&state->mutex);
}

/* Be the worker of the database that others wake. Return false if all slots are taken. */
bool
lpu_worker_arrive(Oid database)
{
	TimestampTz now = GetCurrentTimestamp();
	WorkerSlot *slot;

	SpinLockAcquire(&state->mutex);
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
	SpinLockRelease(&state->mutex);
	mine = slot;
	return slot != NULL;
}

/* A round begins: it sees what was committed before. */
void
lpu_worker_begin_round(void)
{
	if (mine == NULL)
		return;
	SpinLockAcquire(&state->mutex);
	/* what is committed after a stop is not served by this round */
	if (!mine->stop)
		mine->wanted = false;
	SpinLockRelease(&state->mutex);
}

static bool
read_flag(const bool *flag)
{
	bool		set;

	SpinLockAcquire(&state->mutex);
	set = *flag;
	SpinLockRelease(&state->mutex);
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
	WorkerSlot *slot = mine;

	if (slot == NULL)
		return true;
	SpinLockAcquire(&state->mutex);
	slot->stop = false;
	if (!slot->wanted)
	{
		memset(slot, 0, sizeof(WorkerSlot));
		mine = NULL;
	}
	SpinLockRelease(&state->mutex);
	return mine == NULL;
}

/* ----- others ----- */

/* Ask the worker of a database to leave. Return false if there is none. */
bool
lpu_stop_worker(Oid database)
{
	TimestampTz now = GetCurrentTimestamp();
	Latch	   *latch = NULL;
	WorkerSlot *slot;

	lpu_shmem_attach();
	SpinLockAcquire(&state->mutex);
	slot = find_slot(database, now, false);
	if (slot != NULL && slot->pid != 0)
	{
		slot->stop = true;
		slot->wanted = false;
		latch = slot->latch;
	}
	SpinLockRelease(&state->mutex);
	if (latch != NULL)
		SetLatch(latch);
	return latch != NULL;
}

/* Return the process id of the worker of a database, 0 if there is none. */
int
lpu_worker_pid(Oid database)
{
	TimestampTz now = GetCurrentTimestamp();
	WorkerSlot *slot;
	int			pid;

	lpu_shmem_attach();
	SpinLockAcquire(&state->mutex);
	slot = find_slot(database, now, false);
	pid = slot ? slot->pid : 0;
	SpinLockRelease(&state->mutex);
	return pid;
}

/*
 * Return why a database has no worker, in words that are constants; NULL if it has one, or one
 * is about to come.
 */
const char *
lpu_worker_missing(Oid database)
{
	TimestampTz now = GetCurrentTimestamp();
	WorkerSlot *slot;
	bool		starting;
	bool		no_slot;

	lpu_shmem_attach();
	SpinLockAcquire(&state->mutex);
	slot = find_slot(database, now, false);
	starting = slot != NULL && !slot->waiting && !never_arrived(slot, now);
	no_slot = state->no_slot || find_slot(database, now, true) == NULL;
	SpinLockRelease(&state->mutex);
	if (starting)
		return NULL;
	if (!lpu_worker_on)
		return "lpusers.worker is off";
	return no_slot ? "no background worker slot is free" : "no worker runs";
}

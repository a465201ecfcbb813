/*
 * worker_slots.c: which worker serves which database.
 *
 * A small fixed table in shared memory, made on first use, with or without preloading the library. It only serves to
 * wake a worker that is there instead of starting another; that there is only one of a database is ensured by a lock
 * (delivery.c). A slot is "starting" from the moment a worker is registered until it arrives; if it does not arrive, the
 * slot is given up after a while. Where no worker could be registered, the launcher, if there is one, tries again. All
 * functions that are called at the end of a transaction raise nothing.
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

#include "queue/worker_slots.h"

/* Databases with a worker at the same time; max_worker_processes is usually far less. */
#define MAX_SLOTS 64

/* A worker that has not arrived by then was never started, or died before it could. */
#define START_PATIENCE_MS 10000

typedef struct worker_slot
{
	Oid			database;		/* InvalidOid: the slot is free */
	int			pid;			/* 0: it was registered and has not arrived yet */
	Latch	   *latch;
	TimestampTz since;
	bool		wanted;			/* something is to be done that the current round may not have seen */
	bool		stop;			/* somebody asked it to leave */
	bool		waiting;		/* it could not be registered, and the launcher tries again */
} worker_slot;

typedef struct shared_state
{
	slock_t		mutex;
	Latch	   *launcher;		/* NULL: there is none */
	int			launcher_pid;
	worker_slot slots[MAX_SLOTS];
} shared_state;

static shared_state *state = NULL;

/* The slot of this process, if it is a worker. */
static worker_slot *mine = NULL;

void
lpu_shmem_request(void)
{
	RequestAddinShmemSpace(MAXALIGN(sizeof(shared_state)));
}

void
lpu_shmem_attach(void)
{
	bool		found;

	if (state != NULL)
		return;
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	state = ShmemInitStruct("lpusers", sizeof(shared_state), &found);
	if (!found)
	{
		memset(state, 0, sizeof(shared_state));
		SpinLockInit(&state->mutex);
	}
	LWLockRelease(AddinShmemInitLock);
}

/* Was a worker registered for this slot that has not come, and will not? */
static bool
never_arrived(const worker_slot *slot)
{
	return slot->pid == 0 && !slot->waiting &&
		GetCurrentTimestamp() > TimestampTzPlusMilliseconds(slot->since, START_PATIENCE_MS);
}

/* Under the mutex: the slot of a database, or a free one if there is none and "make" is set. */
static worker_slot *
find_slot(Oid database, bool make)
{
	worker_slot *free_slot = NULL;
	int			i;

	for (i = 0; i < MAX_SLOTS; i++)
	{
		if (state->slots[i].database == database)
			return &state->slots[i];
		if (free_slot == NULL && (!OidIsValid(state->slots[i].database) || never_arrived(&state->slots[i])))
			free_slot = &state->slots[i];
	}
	return make ? free_slot : NULL;
}

bool
lpu_start_worker(const char *function, Oid database, const char *name)
{
	BackgroundWorker worker = {0};
	int			launcher;

	SpinLockAcquire(&state->mutex);
	launcher = state->launcher_pid;
	SpinLockRelease(&state->mutex);
	/* when it ends, its slot is free for another database */
	worker.bgw_notify_pid = launcher;
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "lpusers", lengthof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, function, lengthof(worker.bgw_function_name));
	snprintf(worker.bgw_name, BGW_MAXLEN, "lpusers worker for database %s", name);
	strlcpy(worker.bgw_type, "lpusers worker", BGW_MAXLEN);
	strlcpy(worker.bgw_extra, name, BGW_EXTRALEN);
	worker.bgw_main_arg = ObjectIdGetDatum(database);
	return RegisterDynamicBackgroundWorker(&worker, NULL);
}

/* A worker by the database's OID: its name cannot be looked up at the end of a transaction. */
static bool
start_worker(Oid database)
{
	char		number[16];

	snprintf(number, sizeof(number), "%u", database);
	return lpu_start_worker("lpu_worker_main", database, number);
}

/* No worker could be registered: it is the launcher's turn, if there is one. */
static void
wait_for_slot(Oid database)
{
	Latch	   *launcher;
	worker_slot *slot;

	SpinLockAcquire(&state->mutex);
	launcher = state->launcher;
	slot = find_slot(database, false);
	if (slot != NULL && slot->pid == 0)
	{
		slot->waiting = launcher != NULL;
		if (!slot->waiting)
			slot->database = InvalidOid;
	}
	SpinLockRelease(&state->mutex);
	if (launcher != NULL)
		SetLatch(launcher);
}

bool
lpu_wake_worker(Oid database)
{
	TimestampTz now = GetCurrentTimestamp();
	Latch	   *latch = NULL;
	worker_slot *slot;
	bool		start = false;

	if (state == NULL)
		return false;
	SpinLockAcquire(&state->mutex);
	slot = find_slot(database, true);
	if (slot != NULL)
	{
		start = slot->database != database || slot->waiting || never_arrived(slot);
		if (start)
		{
			memset(slot, 0, sizeof(worker_slot));
			slot->database = database;
			slot->since = now;
		}
		slot->wanted = true;
		latch = slot->latch;
	}
	SpinLockRelease(&state->mutex);

	if (latch != NULL)
		SetLatch(latch);
	if (!start || start_worker(database))
		return true;

	wait_for_slot(database);
	ereport(LOG,
			(errmsg("no background worker slot is free for lpusers: what was queued in database %u waits", database),
			 errhint("Increase max_worker_processes, or CALL lp_deliver()."),
			 errhidestmt(true)));
	return false;
}

static void
on_exit_forget_launcher(int code, Datum arg)
{
	SpinLockAcquire(&state->mutex);
	state->launcher = NULL;
	state->launcher_pid = 0;
	SpinLockRelease(&state->mutex);
}

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

bool
lpu_launcher_turn(void)
{
	TimestampTz now = GetCurrentTimestamp();
	int			i;

	for (i = 0; i < MAX_SLOTS; i++)
	{
		worker_slot *slot = &state->slots[i];
		Oid			database = InvalidOid;

		SpinLockAcquire(&state->mutex);
		if (slot->waiting)
		{
			database = slot->database;
			slot->waiting = false;
			slot->since = now;
		}
		SpinLockRelease(&state->mutex);
		if (!OidIsValid(database) || start_worker(database))
			continue;
		SpinLockAcquire(&state->mutex);
		if (slot->database == database && slot->pid == 0)
			slot->waiting = true;
		SpinLockRelease(&state->mutex);
		return true;			/* nor is there one for the others */
	}
	return false;
}

static void
on_exit_leave(int code, Datum arg)
{
	(void) lpu_worker_leave(true);
}

bool
lpu_worker_arrive(Oid database)
{
	worker_slot *slot;

	lpu_shmem_attach();
	SpinLockAcquire(&state->mutex);
	slot = find_slot(database, true);
	if (slot != NULL)
	{
		slot->database = database;
		slot->pid = MyProcPid;
		slot->latch = MyLatch;
		slot->since = GetCurrentTimestamp();
		slot->stop = false;
		slot->waiting = false;
	}
	SpinLockRelease(&state->mutex);
	mine = slot;
	before_shmem_exit(on_exit_leave, (Datum) 0);
	return slot != NULL;
}

void
lpu_worker_begin_round(void)
{
	if (mine == NULL)
		return;
	SpinLockAcquire(&state->mutex);
	/* whoever commits after a stop is not served by this round */
	if (!mine->stop)
		mine->wanted = false;
	SpinLockRelease(&state->mutex);
}

bool
lpu_worker_leave(bool even_if_wanted)
{
	bool		leave;

	if (mine == NULL)
		return true;
	SpinLockAcquire(&state->mutex);
	leave = even_if_wanted || !mine->wanted;
	if (leave)
		memset(mine, 0, sizeof(worker_slot));
	else
		mine->stop = false;
	SpinLockRelease(&state->mutex);
	if (leave)
		mine = NULL;
	return leave;
}

bool
lpu_worker_asked_to_stop(void)
{
	bool		stop;

	if (mine == NULL)
		return false;
	SpinLockAcquire(&state->mutex);
	stop = mine->stop;
	SpinLockRelease(&state->mutex);
	return stop;
}

bool
lpu_stop_worker(Oid database)
{
	Latch	   *latch = NULL;
	worker_slot *slot;

	lpu_shmem_attach();
	SpinLockAcquire(&state->mutex);
	slot = find_slot(database, false);
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

int
lpu_worker_pid(Oid database)
{
	worker_slot *slot;
	int			pid;

	lpu_shmem_attach();
	SpinLockAcquire(&state->mutex);
	slot = find_slot(database, false);
	pid = slot ? slot->pid : 0;
	SpinLockRelease(&state->mutex);
	return pid;
}

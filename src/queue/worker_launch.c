/*
 * worker_launch.c: the launcher's part of the table of workers.
 *
 * The launcher is a process of a preloaded library.  It starts workers for databases whose worker
 * ended by an error or a signal, was switched off, found no background worker slot, or was
 * registered and never started.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/timestamp.h"

#include "queue/worker_slots.h"
#include "queue/worker_table.h"

/* Retry interval of the launcher while no background worker slot is free. */
#define NO_SLOT_MS 10000

static void
on_exit_forget_launcher(int code, Datum arg)
{
	SpinLockAcquire(&lpu_worker_table->mutex);
	lpu_worker_table->launcher = NULL;
	lpu_worker_table->launcher_pid = 0;
	SpinLockRelease(&lpu_worker_table->mutex);
}

/* Be the launcher, until the process ends: its latch is set when a database waits for a worker. */
void
lpu_launcher_arrive(void)
{
	lpu_shmem_attach();
	SpinLockAcquire(&lpu_worker_table->mutex);
	lpu_worker_table->launcher = MyLatch;
	lpu_worker_table->launcher_pid = MyProcPid;
	SpinLockRelease(&lpu_worker_table->mutex);
	before_shmem_exit(on_exit_forget_launcher, (Datum) 0);
}

/*
 * Return the database of this slot, now "starting", if a worker is to be started for it. Else
 * return InvalidOid, and lower *wait_ms to the time after which to check again.
 */
static Oid
take_waiting(LpuWorkerSlot *slot, TimestampTz now, long *wait_ms)
{
	Oid			database = InvalidOid;
	long		ms = -1;

	SpinLockAcquire(&lpu_worker_table->mutex);
	if (OidIsValid(slot->database) && slot->pid == 0)
	{
		TimestampTz from = slot->waiting ? slot->launched : slot->since;

		ms = 0;
		if (from != 0)
		{
			TimestampTz until = TimestampTzPlusMilliseconds(from, LPU_START_PATIENCE_MS);

			ms = TimestampDifferenceMilliseconds(now, until);
		}
		if (ms == 0)
		{
			database = slot->database;
			slot->waiting = false;
			slot->since = slot->launched = now;
		}
	}
	SpinLockRelease(&lpu_worker_table->mutex);
	if (ms > 0 && (*wait_ms < 0 || ms < *wait_ms))
		*wait_ms = ms;
	return database;
}

/*
 * Start a worker for each database that waits for one, or whose worker did not arrive. Return the
 * milliseconds after which to try again, -1 for never.
 */
long
lpu_launcher_turn(void)
{
	TimestampTz now = GetCurrentTimestamp();
	long		wait_ms = -1;
	int			i;

	for (i = 0; i < LPU_MAX_WORKER_SLOTS; i++)
	{
		LpuWorkerSlot *slot = &lpu_worker_table->slots[i];
		Oid			database = take_waiting(slot, now, &wait_ms);

		if (!OidIsValid(database))
			continue;
		/* time to check that it has started */
		wait_ms = wait_ms < 0 ? LPU_START_PATIENCE_MS : Min(wait_ms, LPU_START_PATIENCE_MS);
		if (lpu_start_worker_of(database))
			continue;
		SpinLockAcquire(&lpu_worker_table->mutex);
		if (slot->database == database && slot->pid == 0)
		{
			slot->waiting = true;
			slot->launched = 0;
		}
		SpinLockRelease(&lpu_worker_table->mutex);
		return NO_SLOT_MS;		/* no slot for the others either */
	}
	return wait_ms;
}

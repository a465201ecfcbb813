/*
 * worker_table.h: the table in shared memory of worker_slots.c and worker_launch.c.
 */
#ifndef LPU_QUEUE_WORKER_TABLE_H
#define LPU_QUEUE_WORKER_TABLE_H

#include "datatype/timestamp.h"
#include "storage/latch.h"
#include "storage/spin.h"

/* Databases with a worker at the same time; max_worker_processes is usually far less. */
#define LPU_MAX_WORKER_SLOTS 64

/*
 * A worker that has not registered within this time was never started, or died before. A worker
 * that keeps ending is not restarted more often than this either.
 */
#define LPU_START_PATIENCE_MS 10000

/* Length of an error that is shown in lp_progress. */
#define LPU_MAX_TROUBLE 256

typedef struct LpuWorkerSlot
{
	Oid			database;		/* InvalidOid: the slot is free */
	int			pid;			/* 0: the worker was registered and has not
								 * started yet */
	Latch	   *latch;
	TimestampTz since;
	bool		wanted;			/* there is work that the current round may
								 * not have seen */
	bool		stop;			/* it was asked to leave */
	bool		waiting;		/* the launcher is to start it */
	TimestampTz launched;		/* when the launcher started one last, 0:
								 * never */
	TimestampTz failed;			/* when nothing could be delivered, 0: never */
	char		why[LPU_MAX_TROUBLE];	/* ... and why */
} LpuWorkerSlot;

typedef struct LpuWorkerTable
{
	slock_t		mutex;
	bool		no_slot;		/* the last registration of a worker failed */
	Latch	   *launcher;		/* NULL: there is none */
	int			launcher_pid;
	LpuWorkerSlot slots[LPU_MAX_WORKER_SLOTS];
} LpuWorkerTable;

/* NULL: this process has not attached to it (lpu_shmem_attach). */
extern LpuWorkerTable *lpu_worker_table;

/* Start a worker by the database's OID; false if no background worker slot is free. */
extern bool lpu_start_worker_of(Oid database);

#endif

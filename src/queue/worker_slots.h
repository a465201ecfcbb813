/*
 * worker_slots.h: which worker serves which database.
 */
#ifndef LPU_QUEUE_WORKER_SLOTS_H
#define LPU_QUEUE_WORKER_SLOTS_H

/* Ask for room in shared memory; only while the library is preloaded. */
extern void lpu_shmem_request(void);

/* Be ready for lpu_wake_worker(): attach to shared memory. Raises if there is no room. */
extern void lpu_shmem_attach(void);

/*
 * Register a worker with this entry point, for a database by OID or, in bgw_extra, by name; the name is also shown.
 * Raises nothing; false if no slot is free. Needs lpu_shmem_attach().
 */
extern bool lpu_start_worker(const char *function, Oid database, const char *name);

/*
 * Something is to be done in a database: wake its worker, or start one. Raises nothing; false if no worker could be
 * started (no slot free), then the rows wait for the launcher, or where there is none for the next one.
 */
extern bool lpu_wake_worker(Oid database);

/* What the worker does: it is there; was it wanted since the last time; it leaves, unless it was wanted meanwhile. */
extern bool lpu_worker_arrive(Oid database);
extern void lpu_worker_begin_round(void);
extern bool lpu_worker_leave(bool even_if_wanted);
extern bool lpu_worker_asked_to_stop(void);

/*
 * What the launcher does: it is there, and its latch is set when a database waits for a worker; it tries to start one for
 * each that waits. True if some still do.
 */
extern void lpu_launcher_arrive(void);
extern bool lpu_launcher_turn(void);

/* Ask the worker of a database to leave. False if there is none. */
extern bool lpu_stop_worker(Oid database);

/* Pid of the worker of a database, 0 if there is none. */
extern int	lpu_worker_pid(Oid database);

#endif

/*
 * worker_slots.h: which worker serves which database.
 */
#ifndef LPU_QUEUE_WORKER_SLOTS_H
#define LPU_QUEUE_WORKER_SLOTS_H

/* Request shared memory; only while the library is preloaded. */
extern void lpu_shmem_request(void);

/* Attach to shared memory, which lpu_wake_worker() needs. */
extern void lpu_shmem_attach(void);

/* Start the worker of a database; at the end of a transaction, too. */
extern bool lpu_start_worker(const char *function, Oid database, const char *name);
extern bool lpu_wake_worker(Oid database);

/*
 * For the worker: register, begin a round, and exit unless woken; or end in another way.
 */
extern bool lpu_worker_arrive(Oid database);
extern void lpu_worker_begin_round(void);
extern bool lpu_worker_is_wanted(void);
extern bool lpu_worker_asked_to_stop(void);
extern bool lpu_worker_leave(void);
extern bool lpu_worker_end(void);
extern void lpu_worker_give_up(Oid database);

/* For the worker: note an error that keeps it from delivering anything, for sessions to show. */
extern void lpu_worker_note_error(ErrorData *error);

/* For the launcher: register, and start workers for the databases that wait for one. */
extern void lpu_launcher_arrive(void);
extern long lpu_launcher_turn(void);

/*
 * For sessions: ask the worker of a database to leave; its process id; why there is none, or why it
 * delivers nothing.
 */
extern bool lpu_stop_worker(Oid database);
extern int	lpu_worker_pid(Oid database);
extern const char *lpu_worker_missing(Oid database);

#endif

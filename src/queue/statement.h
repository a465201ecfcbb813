/*
 * statement.h: SQL on the queue's tables.
 */
#ifndef LPU_QUEUE_STATEMENT_H
#define LPU_QUEUE_STATEMENT_H

/*
 * Run a statement with "@extschema@" as the owner of the extension's tables, with SPI connected.
 * search_path is pg_catalog; only plans that use indexes are considered.
 */
extern void lpu_queue_run(const char *sql, int nargs, Oid *types, Datum *values);

/* Do something in a subtransaction.  Return NULL, or the message of the error that was raised. */
extern char *lpu_queue_try(void (*work) (void *arg), void *arg);

/*
 * Run a statement that changes rows, whose first parameter is a bigint[] of their ids (nargs
 * counts it, values[0] is set here).  If it raises an error, it is run for each row alone; a row
 * for which it raises again is skipped. Return the number of rows that it returned.
 */
extern int64 lpu_queue_change(const char *sql, const int64 *ids, int n, int nargs, Oid *types,
							  Datum *values);

/* The ids of a result's first column, in the current memory context. */
extern int64 *lpu_queue_ids(int *n);

/* Sort ids, and search one among sorted ones. */
extern void lpu_queue_sort_ids(int64 *ids, int n);
extern bool lpu_queue_has_id(const int64 *sorted, int n, int64 id);

/* A bigint[]. */
extern Datum lpu_queue_id_array(const int64 *ids, int n);

/* Report once that a row cannot be changed; "skip": do not try to claim it again. */
extern void lpu_queue_pass_over(int64 id, const char *message, bool skip);
extern Datum lpu_queue_passed_over(void);

#endif

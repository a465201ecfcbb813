/*
 * statement.c: SQL on the queue's tables.
 *
 * Statements are constants of the files that run them, with "@extschema@" for the extension's
 * schema (base/spi_plan.c).  They run as the owner of the tables, under a fixed search_path, and
 * with plan types disabled that do not suit a queue: its tables may have no statistics yet, and
 * rows must always be found by an index.
 *
 * A statement may raise because of one row: tables may have triggers and constraints of an
 * administrator.  Such a row must not block the delivery of other rows of its account, so changes
 * are tried in a subtransaction, and then row by row.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "base/encoding.h"
#include "base/extension.h"
#include "base/spi_plan.h"
#include "queue/statement.h"

/*
 * Rows that could not be changed, and those of them that are skipped until the process ends; in
 * TopMemoryContext.
 */
typedef struct RequestIdList
{
	int64	   *ids;
	int			n;
} RequestIdList;

static RequestIdList told = {NULL, 0};
static RequestIdList passed_over = {NULL, 0};

static void
pin_settings(void)
{
	static const char *const fixed[][2] = {
		{"enable_seqscan", "off"},
		{"enable_bitmapscan", "off"},
		{"enable_hashjoin", "off"},
		{"enable_mergejoin", "off"},
		{"enable_sort", "off"},
		{"jit", "off"},
	};
	int			i;

	for (i = 0; i < lengthof(fixed); i++)
		(void) set_config_option(fixed[i][0], fixed[i][1], PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
}

/*
 * Run a statement as lpu_run() does, with plans that suit the queue; its
 * result is in SPI_tuptable and SPI_processed.  Raises what the statement
 * raises.  The current memory context, role and settings are as before.
 */
void
lpu_queue_run(const char *sql, int nargs, Oid *types, Datum *values)
{
	int			nest = NewGUCNestLevel();

	pin_settings();
	lpu_run(sql, nargs, types, values);
	AtEOXact_GUC(false, nest);
}

/*
 * Return true if an error was not caused by the row being processed: a cancel, a lock, a full
 * disk.  Such an error is rethrown.
 */
static bool
is_passing(int sqlstate)
{
	int			class = ERRCODE_TO_CATEGORY(sqlstate);

	return class == ERRCODE_TRANSACTION_ROLLBACK || class == ERRCODE_INSUFFICIENT_RESOURCES ||
		class == ERRCODE_OPERATOR_INTERVENTION || class == ERRCODE_SYSTEM_ERROR ||
		sqlstate == ERRCODE_LOCK_NOT_AVAILABLE || sqlstate == ERRCODE_DATA_CORRUPTED ||
		sqlstate == ERRCODE_INDEX_CORRUPTED;
}

/*
 * Return true if an error was not caused by a row.  A missing right has the SQLSTATE that a trigger
 * may raise for one row; what the owner of the tables may do tells the two apart.
 */
static bool
concerns_all_rows(int sqlstate)
{
	return is_passing(sqlstate) ||
		(sqlstate == ERRCODE_INSUFFICIENT_PRIVILEGE && !lpu_owner_may_write());
}

/*
 * Call work(arg) in a subtransaction.  Return NULL if it was committed; else return the message
 * of the error, in the current memory context.  Errors that no row caused are rethrown.
 */
char *
lpu_queue_try(void (*work) (void *arg), void *arg)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	char	   *volatile message = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		work(arg);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(caller);
		CurrentResourceOwner = owner;
		if (concerns_all_rows(error->sqlerrcode))
			ReThrowError(error);
		message = error->message ? lpu_text_of_stranger(error->message) : "unknown error";
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	return message;
}

/* ----- ids ----- */

/* Return the ids of the first column of the last result; *n is their number. */
int64 *
lpu_queue_ids(int *n)
{
	int64	   *ids = palloc_extended(Max(SPI_processed, 1) * sizeof(int64), MCXT_ALLOC_HUGE);

	for (*n = 0; *n < (int) SPI_processed; (*n)++)
		ids[*n] = lpu_int64_column(*n, 1);
	return ids;
}

static int
compare_request_ids(const void *a, const void *b)
{
	int64		left = *(const int64 *) a;
	int64		right = *(const int64 *) b;

	return left < right ? -1 : left > right;
}

/* Sort ids for lpu_queue_has_id(). */
void
lpu_queue_sort_ids(int64 *ids, int n)
{
	qsort(ids, n, sizeof(int64), compare_request_ids);
}

/* Return true if an id is one of these, which are sorted. */
bool
lpu_queue_has_id(const int64 *sorted, int n, int64 id)
{
	return n > 0 && bsearch(&id, sorted, n, sizeof(int64), compare_request_ids) != NULL;
}

/* Return a bigint[] in the current memory context. */
Datum
lpu_queue_id_array(const int64 *ids, int n)
{
	Datum	   *values = palloc_extended(Max(n, 1) * sizeof(Datum), MCXT_ALLOC_HUGE);
	Datum		array;
	int			i;

	for (i = 0; i < n; i++)
		values[i] = Int64GetDatum(ids[i]);
	array = PointerGetDatum(construct_array(values, n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
											TYPALIGN_DOUBLE));
	pfree(values);
	return array;
}

/* ----- rows that raise ----- */

/* Return false if the id was in the list already. */
static bool
add_id(RequestIdList *list, int64 id)
{
	int			i;

	for (i = 0; i < list->n; i++)
		if (list->ids[i] == id)
			return false;
	list->ids = list->ids ? repalloc(list->ids, (list->n + 1) * sizeof(int64)) :
		MemoryContextAlloc(TopMemoryContext, sizeof(int64));
	list->ids[list->n++] = id;
	return true;
}

/* Report a row with one WARNING.  With "skip" the row is skipped until this process ends. */
void
lpu_queue_pass_over(int64 id, const char *message, bool skip)
{
	if (skip)
		(void) add_id(&passed_over, id);
	if (!add_id(&told, id))
		return;
	ereport(WARNING,
			(errmsg("request " INT64_FORMAT " is passed over: %s", id, message),
			 errdetail("Its row in lp_requests cannot be changed."),
			 errhint("Check the triggers and constraints of lp_requests and lp_payloads.")));
}

/* Return the ids of the rows that are skipped, a bigint[]. */
Datum
lpu_queue_passed_over(void)
{
	return lpu_queue_id_array(passed_over.ids, passed_over.n);
}

typedef struct QueueChange
{
	const char *sql;
	int			nargs;
	Oid		   *types;
	Datum	   *values;
	int64		changed;
} QueueChange;

static void
run_change(void *arg)
{
	QueueChange *c = arg;

	lpu_queue_run(c->sql, c->nargs, c->types, c->values);
	c->changed = SPI_processed;
}

/*
 * Change the rows together or, if this raises an error, one by one. Return the number of rows
 * that the statement returned.
 */
int64
lpu_queue_change(const char *sql, const int64 *ids, int n, int nargs, Oid *types, Datum *values)
{
	QueueChange c = {sql, nargs, types, values, 0};
	int64		changed = 0;
	int			i;

	if (n == 0)
		return 0;
	types[0] = INT8ARRAYOID;
	values[0] = lpu_queue_id_array(ids, n);
	if (lpu_queue_try(run_change, &c) == NULL)
		return c.changed;
	for (i = 0; i < n; i++)
	{
		char	   *message;

		values[0] = lpu_queue_id_array(&ids[i], 1);
		message = lpu_queue_try(run_change, &c);
		if (message == NULL)
			changed += c.changed;
		else
			lpu_queue_pass_over(ids[i], message, true);
	}
	return changed;
}

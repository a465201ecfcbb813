/*
 * settle.c: recording the results of queued requests.
 *
 * Results are collected column by column, and one statement writes all of them.  The statement
 * never waits: the result of a row locked by another transaction is kept in memory and written
 * with the next settlement of this process.  A kept result names its attempt, so that it cannot
 * be mistaken for the result of a later attempt.  If the process ends before, the row stays
 * "sending", and the next deliverer looks it up.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/spi_plan.h"
#include "queue/columns.h"
#include "queue/mend.h"
#include "queue/settle.h"
#include "queue/statement.h"

/* Maximum number of results kept for locked rows; the next deliverer looks up further rows. */
#define MAX_KEPT 10000

#define EVIDENCE_ANSWER "answer"

/*
 * The columns of a result, in the order of settle_sql's parameters; the first ones are those of
 * created_sql.
 */
enum
{
	ID, ATTEMPTS, STATUS, REVISION, USER_ID, BATCH, NCREATED,
	STATE = NCREATED, UNSENT, ERROR_TEXT, REASON, WAIT_MS, HOLD, CAUSE, LAST_SENT, EVIDENCE,
	OUTCOME, NCOLUMNS
};

static const Oid types[NCOLUMNS] = {
	[ID] = INT8OID,
	[ATTEMPTS] = INT4OID,
	[STATUS] = INT4OID,
	[REVISION] = INT8OID,
	[USER_ID] = INT8OID,
	[BATCH] = INT8OID,
	[STATE] = TEXTOID,
	[UNSENT] = BOOLOID,
	[ERROR_TEXT] = TEXTOID,
	[REASON] = TEXTOID,
	[WAIT_MS] = INT8OID,
	[HOLD] = TEXTOID,
	[CAUSE] = TEXTOID,
	[LAST_SENT] = TIMESTAMPTZOID,
	[EVIDENCE] = TEXTOID,
	[OUTCOME] = TEXTOID,
};

/*
 * Results, one element of the arrays each, whose rows could be locked.  A row is locked without a
 * condition on its state, with which the planner could scan a partial index for each id.  An update
 * returns the ids of the rows, true if they are created or done now, and true if they belong to
 * plans and are finished.
 */
#define RESULT_SQL \
"WITH locked AS MATERIALIZED (SELECT u.* FROM (" \
"    SELECT unnest($1::bigint[]) AS id, unnest($2::integer[]) AS attempts," \
"      unnest($3::integer[]) AS status, unnest($4::bigint[]) AS revision," \
"      unnest($5::bigint[]) AS user_id, unnest($6::bigint[]) AS batch"

#define LOCKED_SQL \
" OFFSET 0) u" \
"  CROSS JOIN LATERAL (SELECT q.state, q.attempts FROM @extschema@.lp_requests q" \
"    WHERE q.id = u.id LIMIT 1 FOR UPDATE SKIP LOCKED) l" \
"  WHERE l.state IN ('sending', 'uncertain') AND l.attempts = u.attempts) " \
"UPDATE @extschema@.lp_requests r " \
"SET status = coalesce(u.status, r.status), ac_revision = coalesce(u.revision, r.ac_revision)," \
"  user_id = coalesce(u.user_id, r.user_id), batch = coalesce(u.batch, r.batch),"

#define WRITTEN_SQL \
"FROM locked u WHERE r.id = u.id " \
"RETURNING r.id, r.state IN ('created', 'done')," \
"  r.plan IS NOT NULL AND r.state IN ('created', 'done', 'failed')"

/*
 * Write results.  For a row that was not sent, the attempt is not counted and, without a response,
 * sent_at gets back its earlier value.  A lookup that fails again and again waits a quarter of the
 * time since the row was sent, at most 8 minutes.  Writes lp_requests.
 */
static const char settle_sql[] =
RESULT_SQL ", unnest($7::text[]) AS state, unnest($8::boolean[]) AS unsent,"
"      unnest($9::text[]) AS error, unnest($10::text[]) AS reason, unnest($11::bigint[]) AS wait,"
"      unnest($12::text[]) AS hold, unnest($13::text[]) AS cause,"
"      unnest($14::timestamptz[]) AS last_sent, unnest($15::text[]) AS evidence,"
"      unnest($16::text[]) AS outcome" LOCKED_SQL
"  state = u.state, hold = u.hold, cause = u.cause, attempts = r.attempts - u.unsent::integer,"
"  sent_at = CASE WHEN u.unsent AND u.status IS NULL THEN u.last_sent ELSE r.sent_at END,"
"  error = u.error, reason = u.reason,"
"  outcome = u.outcome::jsonb, look_first = r.look_first AND u.state IN ('uncertain', 'held'),"
"  evidence = CASE WHEN u.state IN ('created', 'done', 'failed') THEN u.evidence END,"
"  finished_at = CASE WHEN u.state IN ('created', 'done', 'failed') THEN clock_timestamp() END,"
"  held_at = CASE WHEN u.state = 'held' THEN clock_timestamp() END,"
"  next_attempt_at = CASE"
"    WHEN u.state NOT IN ('pending', 'uncertain') THEN NULL"
"    WHEN u.wait < 0 AND u.state = 'uncertain' AND u.evidence = 'lookup' THEN clock_timestamp()"
"      + greatest(@extschema@._lp_backoff(r.attempts),"
"        least((clock_timestamp() - coalesce(r.sent_at, clock_timestamp())) / 4, interval '8"
"          minutes'))"
"    WHEN u.wait < 0 THEN clock_timestamp() + @extschema@._lp_backoff(r.attempts)"
"    ELSE clock_timestamp() + u.wait * interval '1 millisecond' END "
WRITTEN_SQL;

/*
 * The same for users that were created, as responses say; most results are such, and this takes
 * three quarters of the time.  Writes lp_requests.
 */
static const char created_sql[] =
RESULT_SQL LOCKED_SQL
"  state = 'created', hold = NULL, cause = NULL, error = NULL, reason = NULL, outcome = NULL,"
"  look_first = false, evidence = 'answer', finished_at = clock_timestamp(), held_at = NULL,"
"  next_attempt_at = NULL "
WRITTEN_SQL;

/* Delete the payloads of successful requests, except locked ones.  $1 ids.  Writes lp_payloads. */
static const char empty_sql[] =
"DELETE FROM @extschema@.lp_payloads p "
"WHERE p.ctid = ANY (ARRAY(SELECT q.ctid FROM @extschema@.lp_payloads q"
"  WHERE q.request_id = ANY ($1) FOR UPDATE SKIP LOCKED))";

/*
 * Those of the rows that are still in flight with the same attempt and locked by another
 * transaction.  $1 ids, $2 attempts.  Reads lp_requests.
 */
static const char locked_sql[] =
"WITH free AS MATERIALIZED ("
"  SELECT q.id FROM @extschema@.lp_requests q WHERE q.id = ANY ($1) FOR UPDATE SKIP LOCKED) "
"SELECT r.id FROM unnest($1::bigint[], $2::integer[]) AS u (id, attempts)"
"  JOIN @extschema@.lp_requests r ON r.id = u.id "
"WHERE r.state IN ('sending', 'uncertain') AND r.attempts = u.attempts"
"  AND r.id NOT IN (SELECT f.id FROM free f)";

/*
 * Users found by a lookup that were created by another request, and not by the row being looked
 * up.  $1 ids of the rows looked up, $2 user ids, all of one account.  One pass over the finished
 * rows.  Reads lp_requests.
 */
static const char others_sql[] =
"SELECT DISTINCT o.user_id FROM @extschema@.lp_requests o "
"WHERE o.account = (SELECT r.account FROM @extschema@.lp_requests r WHERE r.id = ($1::bigint[])[1])"
"  AND o.operation = 'create' AND o.state = 'created' AND o.user_id = ANY ($2::bigint[]) AND o.id"
"    <> ALL ($1)";

struct LpuSettlement
{
	MemoryContext context;
	bool		answered;		/* known from a response, not from a lookup */
	int64		batch;			/* number of the current batch; 0: the rows
								 * keep theirs */
	LpuColumns *rows;
};

/* See settle.h. */
LpuSettledHook lpu_settled_hook = NULL;

/* Results that could not be written yet, in a memory context of their own; NULL: none. */
static LpuColumns *kept = NULL;
static MemoryContext kept_context = NULL;

/* Return an empty settlement in the current memory context. */
LpuSettlement *
lpu_settlement_new(bool answered)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "lpusers settlement",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	LpuSettlement *s = palloc0(sizeof(LpuSettlement));

	s->context = context;
	s->answered = answered;
	s->rows = lpu_columns_new(types, NCOLUMNS);
	MemoryContextSwitchTo(caller);
	return s;
}

/* Begin another batch. */
void
lpu_settlement_next_batch(LpuSettlement *s, Oid schema)
{
	s->batch = nextval_internal(get_relname_relid("lp_batch_seq", schema), false);
}

/* Add a row with its result. */
void
lpu_settlement_add(LpuSettlement *s, const LpuQueueRow *row)
{
	LpuColumns *c = s->rows;

	lpu_columns_next(c);
	lpu_columns_set(c, ID, Int64GetDatum(row->id));
	/* UNSENT: the attempt does not count */
	lpu_columns_set(c, ATTEMPTS, Int32GetDatum(row->attempts));
	lpu_columns_set_text(c, STATE, lpu_state_name(row->state));
	lpu_columns_set(c, UNSENT, BoolGetDatum(row->state == LPU_STATE_UNSENT || row->unsent));
	if (row->status != 0)
		lpu_columns_set(c, STATUS, Int32GetDatum(row->status));
	if (row->has_revision)
		lpu_columns_set(c, REVISION, Int64GetDatum(row->revision));
	if (row->user_id != 0)
		lpu_columns_set(c, USER_ID, Int64GetDatum(row->user_id));
	lpu_columns_set_text(c, ERROR_TEXT, row->error);
	lpu_columns_set_text(c, REASON, row->reason);
	lpu_columns_set(c, WAIT_MS, Int64GetDatum(row->wait_ms));
	if (s->batch != 0)
		lpu_columns_set(c, BATCH, Int64GetDatum(s->batch));
	if (row->state == LPU_STATE_HELD)
		lpu_columns_set_text(c, HOLD, lpu_hold_kind_name(row->hold ? row->hold : LPU_HOLD_SETUP));
	if (row->state == LPU_STATE_FAILED)
		lpu_columns_set_text(c, CAUSE, lpu_cause_name(row->cause ? row->cause : LPU_CAUSE_REFUSED));
	if (row->last_sent_at != 0)
		lpu_columns_set(c, LAST_SENT, TimestampTzGetDatum(row->last_sent_at));
	lpu_columns_set_text(c, EVIDENCE, s->answered ? EVIDENCE_ANSWER : "lookup");
	lpu_columns_set_text(c, OUTCOME, row->outcome);
}

/* ----- writing ----- */

/* State of a write. */
typedef struct SettlementWrite
{
	const LpuColumns *rows;
	int64	   *settled;		/* ids of the rows that were not locked */
	int			nsettled;
	int64	   *successes;
	int			nsuccesses;
	int64	   *planned;		/* ids of rows of plans that are finished */
	int			nplanned;
} SettlementWrite;

static int64
id_of(const LpuColumns *rows, int i)
{
	return DatumGetInt64(lpu_columns_get(rows, ID, i));
}

static bool
is_value(const LpuColumns *rows, int column, int i, const char *value)
{
	return strcmp(TextDatumGetCString(lpu_columns_get(rows, column, i)), value) == 0;
}

static bool
is_created(const LpuColumns *rows, int i)
{
	return is_value(rows, STATE, i, lpu_state_name(LPU_STATE_CREATED));
}

/* Return true if each result is a user that was created, as a response says, and nothing else. */
static bool
all_created(const LpuColumns *rows)
{
	int			i;

	for (i = 0; i < lpu_columns_count(rows); i++)
		if (!is_created(rows, i) || !is_value(rows, EVIDENCE, i, EVIDENCE_ANSWER) ||
			DatumGetBool(lpu_columns_get(rows, UNSENT, i)) ||
			!lpu_columns_is_null(rows, ERROR_TEXT, i) || !lpu_columns_is_null(rows, REASON, i) ||
			!lpu_columns_is_null(rows, OUTCOME, i))
			return false;
	return true;
}

static void
run_settle(void *arg)
{
	SettlementWrite *w = arg;
	bool		created = all_created(w->rows);
	int			nparams = created ? NCREATED : NCOLUMNS;
	Oid			array_types[NCOLUMNS];
	Datum		values[NCOLUMNS];
	int			before = w->nsuccesses;
	int			i;

	for (i = 0; i < nparams; i++)
	{
		array_types[i] = lpu_columns_type(w->rows, i);
		values[i] = lpu_columns_array(w->rows, i);
	}
	lpu_queue_run(created ? created_sql : settle_sql, nparams, array_types, values);
	for (i = 0; i < (int) SPI_processed; i++)
	{
		int64		id = lpu_int64_column(i, 1);

		w->settled[w->nsettled++] = id;
		if (lpu_bool_column(i, 2))
			w->successes[w->nsuccesses++] = id;
		if (lpu_bool_column(i, 3))
			w->planned[w->nplanned++] = id;
	}
	SPI_freetuptable(SPI_tuptable);
	if (w->nsuccesses == before)
		return;
	array_types[0] = INT8ARRAYOID;
	values[0] = lpu_queue_id_array(w->successes + before, w->nsuccesses - before);
	lpu_queue_run(empty_sql, 1, array_types, values);
}

/*
 * The settlement of all rows raised an error: settle them one by one, and skip those that raise
 * again.
 */
static void
settle_each(SettlementWrite *w)
{
	const LpuColumns *all = w->rows;
	int			i;

	for (i = 0; i < lpu_columns_count(all); i++)
	{
		LpuColumns *one = lpu_columns_new(types, NCOLUMNS);
		SettlementWrite before = *w;
		char	   *message;

		lpu_columns_copy_row(one, all, i);
		w->rows = one;
		message = lpu_queue_try(run_settle, w);
		if (message == NULL)
			continue;
		*w = before;
		/* the next deliverer looks it up */
		lpu_queue_pass_over(id_of(all, i), message, false);
		w->settled[w->nsettled++] = id_of(all, i);
	}
	w->rows = all;
}

/* Keep the results of rows that were not settled because they are locked. */
static void
keep_locked(SettlementWrite *w)
{
	int			n = lpu_columns_count(w->rows);
	Oid			array_types[2] = {INT8ARRAYOID, INT4ARRAYOID};
	Datum		values[2] = {lpu_columns_array(w->rows, ID), lpu_columns_array(w->rows, ATTEMPTS)};
	MemoryContext caller = CurrentMemoryContext;
	int64	   *locked;
	int			nlocked;
	int			i;

	lpu_queue_run(locked_sql, 2, array_types, values);
	locked = lpu_queue_ids(&nlocked);
	SPI_freetuptable(SPI_tuptable);
	lpu_queue_sort_ids(locked, nlocked);
	for (i = 0; i < n; i++)
	{
		int64		id = id_of(w->rows, i);

		if (lpu_queue_has_id(w->settled, w->nsettled, id) || !lpu_queue_has_id(locked, nlocked, id))
			continue;
		if (kept_context == NULL)
			kept_context = AllocSetContextCreate(TopMemoryContext, "lpusers kept",
												 ALLOCSET_SMALL_SIZES);
		MemoryContextSwitchTo(kept_context);
		if (kept == NULL)
			kept = lpu_columns_new(types, NCOLUMNS);
		if (lpu_columns_count(kept) < MAX_KEPT)
			lpu_columns_copy_row(kept, w->rows, i);
		MemoryContextSwitchTo(caller);
	}
}

/* Write results.  All memory except that of kept results is allocated in the current context. */
static void
write_rows(const LpuColumns *rows)
{
	int			n = lpu_columns_count(rows);
	SettlementWrite w = {.rows = rows};

	if (n == 0)
		return;
	w.settled = palloc_extended(n * sizeof(int64), MCXT_ALLOC_HUGE);
	w.successes = palloc_extended(n * sizeof(int64), MCXT_ALLOC_HUGE);
	w.planned = palloc_extended(n * sizeof(int64), MCXT_ALLOC_HUGE);
	if (lpu_queue_try(run_settle, &w) != NULL)
	{
		w.nsettled = w.nsuccesses = w.nplanned = 0;
		settle_each(&w);
	}
	lpu_queue_sort_ids(w.settled, w.nsettled);
	lpu_settle_mend(w.successes, w.nsuccesses);
	if (lpu_settled_hook != NULL && w.nplanned > 0)
		lpu_settled_hook(w.planned, w.nplanned);
	if (w.nsettled < n)
		keep_locked(&w);
}

/*
 * A lookup found the data that were sent; they do not belong to these rows if another request has
 * created the user.
 */
static void
refuse_users_of_others(LpuSettlement *s)
{
	Oid			array_types[2] = {INT8ARRAYOID, INT8ARRAYOID};
	Datum		values[2];
	int			n = lpu_columns_count(s->rows);
	int64	   *ids = palloc_extended(Max(n, 1) * sizeof(int64), MCXT_ALLOC_HUGE);
	int64	   *users = palloc_extended(Max(n, 1) * sizeof(int64), MCXT_ALLOC_HUGE);
	int64	   *others;
	int			nusers = 0;
	int			nothers;
	int			i;

	for (i = 0; i < n; i++)
	{
		int64		user = DatumGetInt64(lpu_columns_get(s->rows, USER_ID, i));

		ids[i] = id_of(s->rows, i);
		if (user != 0 && is_created(s->rows, i))
			users[nusers++] = user;
	}
	if (nusers == 0)
		return;
	values[0] = lpu_queue_id_array(ids, n);
	values[1] = lpu_queue_id_array(users, nusers);
	lpu_queue_run(others_sql, 2, array_types, values);
	others = lpu_queue_ids(&nothers);
	SPI_freetuptable(SPI_tuptable);
	if (nothers == 0)
		return;
	lpu_queue_sort_ids(others, nothers);
	for (i = 0; i < n; i++)
	{
		int64		user = DatumGetInt64(lpu_columns_get(s->rows, USER_ID, i));

		if (lpu_queue_has_id(others, nothers, user) && is_created(s->rows, i))
		{
			lpu_columns_replace_text(s->rows, STATE, i, lpu_state_name(LPU_STATE_FAILED));
			lpu_columns_replace_text(s->rows, CAUSE, i, lpu_cause_name(LPU_CAUSE_REFUSED));
			lpu_columns_replace_text(s->rows, ERROR_TEXT, i,
									 "login exists: another request has created it");
		}
	}
}

/* Write a settlement together with the results kept earlier, and free it. */
void
lpu_settlement_write(LpuSettlement *s)
{
	MemoryContext caller = MemoryContextSwitchTo(s->context);

	lpu_settlement_write_kept();
	if (!s->answered)
		refuse_users_of_others(s);
	write_rows(s->rows);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(s->context);
}

/*
 * Write the results that earlier settlements kept; those of rows that are still locked are kept
 * again.
 */
void
lpu_settlement_write_kept(void)
{
	LpuColumns *rows = kept;
	MemoryContext context = kept_context;

	if (rows == NULL)
		return;
	kept = NULL;
	kept_context = NULL;
	/* after an error the state of these rows is unknown */
	MemoryContextSetParent(context, CurrentMemoryContext);
	write_rows(rows);
	MemoryContextDelete(context);
}

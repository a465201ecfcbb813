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
#include "queue/settle.h"
#include "queue/statement.h"

/* Maximum number of results kept for locked rows; the next deliverer looks up further rows. */
#define MAX_KEPT 10000

/* The columns of a result, in the order of settle_sql's parameters. */
enum
{
	ID, ATTEMPTS, STATE, UNSENT, STATUS, REVISION, USER_ID, ERROR_TEXT, REASON, WAIT_MS, BATCH,
	HOLD,
	CAUSE, LAST_SENT, EVIDENCE, OUTCOME, NCOLUMNS
};

static const Oid types[NCOLUMNS] = {
	[ID] = INT8OID,
	[ATTEMPTS] = INT4OID,
	[STATE] = TEXTOID,
	[UNSENT] = BOOLOID,
	[STATUS] = INT4OID,
	[REVISION] = INT8OID,
	[USER_ID] = INT8OID,
	[ERROR_TEXT] = TEXTOID,
	[REASON] = TEXTOID,
	[WAIT_MS] = INT8OID,
	[BATCH] = INT8OID,
	[HOLD] = TEXTOID,
	[CAUSE] = TEXTOID,
	[LAST_SENT] = TIMESTAMPTZOID,
	[EVIDENCE] = TEXTOID,
	[OUTCOME] = TEXTOID,
};

/*
 * Write results, one element of the arrays each.  For a row that was not sent, the attempt is not
 * counted and, without a response, sent_at gets back its earlier value.  Success deletes the
 * payload.  A lookup that fails again and again waits a quarter of the time since the row was
 * sent, at most 8 minutes.  Returns the ids of the rows that were not locked by others (0), and
 * once more those that are created or done now (1), and those of plans that are finished (2).
 * Writes lp_requests, lp_payloads.
 */
static const char settle_sql[] =
"WITH locked AS MATERIALIZED ("
"  SELECT u.* FROM unnest($1::bigint[], $2::integer[], $3::text[], $4::boolean[], $5::integer[],"
"    $6::bigint[],"
"    $7::bigint[], $8::text[], $9::text[], $10::bigint[], $11::bigint[], $12::text[], $13::text[],"
"    $14::timestamptz[], $15::text[], $16::text[])"
"    AS u (id, attempts, state, unsent, status, revision, user_id, error, reason, wait, batch,"
"      hold, cause, last_sent,"
"      evidence, outcome)"
"  CROSS JOIN LATERAL (SELECT q.state, q.attempts FROM @extschema@.lp_requests q WHERE q.id = u.id LIMIT 1"
"    FOR UPDATE SKIP LOCKED) r"
"  WHERE r.state IN ('sending', 'uncertain') AND r.attempts = u.attempts"
"), written AS ("
"  UPDATE @extschema@.lp_requests r"
"  SET state = u.state, hold = u.hold, cause = u.cause, attempts = r.attempts - u.unsent::integer,"
"    sent_at = CASE WHEN u.unsent AND u.status IS NULL THEN u.last_sent ELSE r.sent_at END,"
"    status = coalesce(u.status, r.status), ac_revision = coalesce(u.revision, r.ac_revision),"
"    user_id = coalesce(u.user_id, r.user_id), error = u.error, reason = u.reason, batch ="
"      coalesce(u.batch, r.batch),"
"    outcome = u.outcome::jsonb, look_first = r.look_first AND u.state IN ('uncertain', 'held'),"
"    evidence = CASE WHEN u.state IN ('created', 'done', 'failed') THEN u.evidence END,"
"    finished_at = CASE WHEN u.state IN ('created', 'done', 'failed') THEN clock_timestamp() END,"
"    held_at = CASE WHEN u.state = 'held' THEN clock_timestamp() END,"
"    next_attempt_at = CASE"
"      WHEN u.state NOT IN ('pending', 'uncertain') THEN NULL"
"      WHEN u.wait < 0 AND u.state = 'uncertain' AND u.evidence = 'lookup' THEN clock_timestamp()"
"        + greatest(@extschema@._lp_backoff(r.attempts),"
"          least((clock_timestamp() - coalesce(r.sent_at, clock_timestamp())) / 4, interval '8"
"            minutes'))"
"      WHEN u.wait < 0 THEN clock_timestamp() + @extschema@._lp_backoff(r.attempts)"
"      ELSE clock_timestamp() + u.wait * interval '1 millisecond' END"
"  FROM locked u"
"  WHERE r.id = u.id"
"  RETURNING r.id, r.state, r.plan"
"), payloads AS MATERIALIZED ("
"  SELECT p.request_id FROM written w CROSS JOIN LATERAL ("
"    SELECT q.request_id FROM @extschema@.lp_payloads q WHERE q.request_id = w.id LIMIT 1 FOR UPDATE"
"      SKIP LOCKED) p"
"  WHERE w.state IN ('created', 'done')"
"), emptied AS ("
"  DELETE FROM @extschema@.lp_payloads p USING payloads x WHERE p.request_id = x.request_id"
")"
"SELECT l.id, 0 FROM locked l "
"UNION ALL SELECT w.id, 1 FROM written w WHERE w.state IN ('created', 'done') "
"UNION ALL SELECT w.id, 2 FROM written w"
"  WHERE w.state IN ('created', 'done', 'failed') AND w.plan IS NOT NULL";

/*
 * Those of the rows that are still in flight with the same attempt. $1 ids, $2 attempts. Reads
 * lp_requests.
 */
static const char in_flight_sql[] =
"SELECT r.id FROM unnest($1::bigint[], $2::integer[]) AS u (id, attempts) JOIN @extschema@.lp_requests r"
"  ON r.id = u.id "
"WHERE r.state IN ('sending', 'uncertain') AND r.attempts = u.attempts";

/*
 * Mark failures as resolved by a later success of the same login or user (of the same server) or
 * of the same source row, except rows locked by others.  A queued update is resolved by one that
 * does the same, or by one of a later plan, which has all remaining differences.  $1 ids of the
 * successful rows.  Writes lp_requests.
 */
#define MADE_GOOD_SQL \
"      AND r.operation = w.operation AND r.state = 'failed' AND NOT r.mended" \
"      AND (r.operation <> 'update' OR r.path <> 'queue' OR r.plan < w.plan" \
"        OR r.action = w.action AND r.action <> 'update')"

static const char mend_sql[] =
"WITH good AS MATERIALIZED ("
"  SELECT w.* FROM unnest($1::bigint[]) AS u (id) CROSS JOIN LATERAL ("
"    SELECT r.account, r.server_oid, r.operation, r.source_table_oid, r.source_key, r.user_id,"
"      r.plan, r.action, lower(r.login_name COLLATE \"C\") AS login"
"    FROM @extschema@.lp_requests r WHERE r.id = u.id LIMIT 1) w"
"), found AS MATERIALIZED ("
"  SELECT f.id FROM good w CROSS JOIN LATERAL ("
"    SELECT r.id FROM @extschema@.lp_requests r"
"    WHERE r.account = w.account AND lower(r.login_name COLLATE \"C\") = w.login AND r.server_oid"
"      = w.server_oid"
"      AND char_length(r.login_name) <= 254" MADE_GOOD_SQL
"    OFFSET 0) f"
"  UNION "
"  SELECT f.id FROM good w CROSS JOIN LATERAL ("
"    SELECT r.id FROM @extschema@.lp_requests r"
"    WHERE r.account = w.account AND r.user_id = w.user_id AND r.server_oid = w.server_oid"
"      AND r.operation IN ('update', 'delete')" MADE_GOOD_SQL
"    OFFSET 0) f"
"  UNION "
"  SELECT f.id FROM good w CROSS JOIN LATERAL ("
"    SELECT r.id FROM @extschema@.lp_requests r"
"    WHERE r.source_table_oid = w.source_table_oid AND jsonb_hash(r.source_key) ="
"      jsonb_hash(w.source_key)"
"      AND r.source_key = w.source_key AND r.source_table_oid <> 0 AND r.source_key IS NOT NULL"
"      AND r.account = w.account AND r.server_oid = w.server_oid" MADE_GOOD_SQL
"    OFFSET 0) f"
"), locked AS MATERIALIZED ("
"  SELECT r.id FROM found f CROSS JOIN LATERAL ("
"    SELECT q.id, q.state FROM @extschema@.lp_requests q WHERE q.id = f.id LIMIT 1 FOR UPDATE SKIP"
"      LOCKED) r"
"  WHERE r.state = 'failed'"
")"
"UPDATE @extschema@.lp_requests r SET mended = true FROM locked l WHERE r.id = l.id RETURNING r.id";

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
	lpu_columns_set_text(c, EVIDENCE, s->answered ? "answer" : "lookup");
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

static void
run_settle(void *arg)
{
	SettlementWrite *w = arg;
	Oid			array_types[NCOLUMNS];
	Datum		values[NCOLUMNS];
	int			i;

	for (i = 0; i < NCOLUMNS; i++)
	{
		array_types[i] = lpu_columns_type(w->rows, i);
		values[i] = lpu_columns_array(w->rows, i);
	}
	lpu_queue_run(settle_sql, NCOLUMNS, array_types, values);
	for (i = 0; i < (int) SPI_processed; i++)
	{
		int64		id = lpu_int64_column(i, 1);

		switch (lpu_int_column(i, 2))
		{
			case 0:
				w->settled[w->nsettled++] = id;
				break;
			case 1:
				w->successes[w->nsuccesses++] = id;
				break;
			default:
				w->planned[w->nplanned++] = id;
				break;
		}
	}
	SPI_freetuptable(SPI_tuptable);
}

static int64
id_of(const LpuColumns *rows, int i)
{
	return DatumGetInt64(lpu_columns_get(rows, ID, i));
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
		char	   *message;

		lpu_columns_copy_row(one, all, i);
		w->rows = one;
		message = lpu_queue_try(run_settle, w);
		if (message == NULL)
			continue;
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

	lpu_queue_run(in_flight_sql, 2, array_types, values);
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

/* Mark failures that these rows resolved; a failure that cannot be marked is skipped. */
void
lpu_settle_mend(const int64 *ids, int n)
{
	Oid			mend_types[1] = {INT8ARRAYOID};
	Datum		values[1];

	(void) lpu_queue_change(mend_sql, ids, n, 1, mend_types, values);
}

static bool
is_created(const LpuColumns *rows, int i)
{
	return strcmp(TextDatumGetCString(lpu_columns_get(rows, STATE, i)),
				  lpu_state_name(LPU_STATE_CREATED)) == 0;
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

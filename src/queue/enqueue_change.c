/*
 * enqueue_change.c: putting updates and deletes of users into the queue.
 *
 * The rows are part of the caller's transaction, as those of enqueue.c.  A pending or held request
 * of the same user, operation, server and sender is superseded: the new payload is merged over the
 * old one, and the new request keeps the old one's base values, expected login, and hold.  If the
 * newest unfinished request of the user is another one, is locked because a deliverer claims it, or
 * would be too large, the new request waits for that one (claim_change.c).  So it does if between
 * the two there is an unfinished change by the other key (id or login): only the account shows
 * whether that one is of the same user.
 *
 * A user may occur only once in a call, since an array does not say which of two changes is newer.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "base/spi_plan.h"
#include "queue/columns.h"
#include "queue/enqueue_change.h"
#include "queue/statement.h"

/* The columns that differ from row to row, in the order of enqueue_sql's first parameters. */
enum
{
	ID, OPERATION, USER_ID, LOGIN_NAME, ACTION, PROBLEM, SOURCE_KEY, BODY, NCOLUMNS
};

static const Oid types[NCOLUMNS] = {
	[ID] = INT8OID,
	[OPERATION] = TEXTOID,
	[USER_ID] = INT8OID,
	[LOGIN_NAME] = TEXTOID,
	[ACTION] = TEXTOID,
	[PROBLEM] = TEXTOID,
	[SOURCE_KEY] = JSONBOID,
	[BODY] = TEXTOID,
};

/*
 * Append changes: one element of each array $1 to $8 (ids, operations, user ids, logins, actions,
 * problems, keys, payloads); $9 to $22 as lpu_origin_params() sets them, $23 the first id of this
 * call.  n is the newest unfinished request of the user, o the same if it is replaced, which it is
 * not if both are too large together, if its user is known by now and has a newer one by id, or if
 * a change by the other key was queued since.  (max(r.id + 0) keeps the planner from the primary
 * key, and IS TRUE makes it hash the ids.)  Writes lp_requests and lp_payloads, and in
 * _lp_sync_item which request an item of a plan has.
 */
static const char enqueue_sql[] =
"WITH given AS MATERIALIZED ("
"  SELECT u.*, lower(u.login_name COLLATE \"C\") AS folded,"
"    min(u.id) FILTER (WHERE u.user_id IS NULL) OVER () AS first_by_login,"
"    min(u.id) FILTER (WHERE u.user_id IS NOT NULL) OVER () AS first_by_id"
"  FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[],"
"      $7::jsonb[], $8::text[])"
"    AS u (id, operation, user_id, login_name, action, problem, source_key, body)"
"), judged AS MATERIALIZED ("
"  SELECT g.id, g.operation, coalesce(g.user_id, o.user_id) AS user_id,"
"    coalesce(o.login_name, g.login_name) AS login_name, g.action, g.source_key,"
"    CASE WHEN g.problem IS NOT NULL THEN g.problem"
"      WHEN n.id >= $23 OR row_number() OVER (PARTITION BY g.problem IS NULL, g.user_id,"
"        CASE WHEN g.user_id IS NULL THEN g.folded END ORDER BY g.id) > 1"
"      THEN 'the user is given twice in this statement' END AS problem,"
"    CASE WHEN o.id IS NULL THEN g.body::jsonb"
"      ELSE @extschema@._lp_lay_change(o.body, g.body::jsonb) END AS body,"
"    o.id AS older, coalesce(nullif($16, ''), o.hold) AS hold,"
"    CASE WHEN $16 <> '' THEN $17 WHEN o.hold IS NOT NULL THEN o.reason END AS reason,"
"    o.held_at, o.status, coalesce(o.look_first, false) AS look_first, o.next_attempt_at,"
"    o.outcome"
"  FROM given g"
"  CROSS JOIN LATERAL (SELECT CASE WHEN g.problem IS NOT NULL THEN NULL"
"      WHEN g.user_id IS NOT NULL THEN (SELECT max(r.id + 0) FROM @extschema@.lp_requests r"
"        WHERE r.account = $9 AND r.user_id = g.user_id AND r.server_oid = $11"
"          AND r.state IN ('pending', 'held'))"
"      ELSE (SELECT max(r.id + 0) FROM @extschema@.lp_requests r"
"        WHERE r.account = $9 AND lower(r.login_name COLLATE \"C\") = g.folded"
"          AND r.login_name IS NOT NULL AND r.server_oid = $11"
"          AND r.state IN ('pending', 'held')) END AS id OFFSET 0) n"
"  LEFT JOIN LATERAL ("
"    SELECT w.*, p.body FROM ("
"      SELECT r.id, r.user_id, r.login_name, r.hold, r.held_at, r.reason, r.status, r.look_first,"
"        r.next_attempt_at, r.outcome"
"      FROM @extschema@.lp_requests r"
"      WHERE r.id = n.id AND r.id < $23 AND r.state IN ('pending', 'held')"
"        AND r.operation = g.operation AND r.send_as_oid = $15 AND r.origin = $20"
"        AND r.hold IS DISTINCT FROM 'elsewhere'"
"        AND (r.user_id IS NULL OR (SELECT max(f.id + 0) FROM @extschema@.lp_requests f"
"          WHERE f.account = $9 AND f.user_id = r.user_id AND f.server_oid = $11"
"            AND f.state IN ('pending', 'held')) <= r.id)"
"        AND CASE WHEN r.user_id IS NULL THEN g.first_by_id ELSE g.first_by_login END"
"          < g.id IS NOT TRUE"
"        AND (SELECT f.id FROM @extschema@.lp_requests f"
"          WHERE f.account = $9 AND f.server_oid = $11"
"            AND (f.user_id IS NULL) = (r.user_id IS NOT NULL) AND f.id > r.id"
"            AND f.state IN ('pending', 'held', 'sending', 'uncertain')"
"            AND f.operation IN ('update', 'delete') LIMIT 1) IS NULL"
"      LIMIT 1 FOR UPDATE SKIP LOCKED) w"
"    CROSS JOIN LATERAL (SELECT q.body::jsonb FROM @extschema@.lp_payloads q"
"      WHERE q.request_id = w.id AND octet_length(q.body::text) + octet_length(g.body) <= "
CppAsString2(LPU_MAX_PAYLOAD) " LIMIT 1) p) o ON true"
"), phased AS ("
"  SELECT j.*, CASE WHEN j.operation = 'delete' THEN 2"
"    WHEN j.body->'set'->'isEnabled' = 'false' THEN 1"
"    WHEN jsonb_exists(j.body->'set', 'loginName') THEN 3 ELSE 4 END AS phase"
"  FROM judged j"
"), made AS ("
"  INSERT INTO @extschema@.lp_requests (id, account, operation, path, plan, action, phase, server,"
"    server_oid, requested_by, requested_by_oid, send_as, send_as_oid, login_name, user_id, state,"
"    hold, cause, status, look_first, next_attempt_at, error, reason, outcome, origin, source_table,"
"    source_table_oid, source_key, finished_at, held_at)"
"  OVERRIDING SYSTEM VALUE"
"  SELECT f.id, $9, f.operation, 'queue', nullif($21, 0),"
"    coalesce(f.action, CASE f.phase WHEN 1 THEN 'disable' WHEN 2 THEN 'delete'"
"      WHEN 3 THEN 'rename' ELSE CASE WHEN f.body->'set'->'isEnabled' = 'true' THEN 'enable' ELSE 'update' END END),"
"    f.phase, nullif($10, ''), $11, $12, $13, $14, $15, f.login_name, f.user_id,"
"    CASE WHEN f.problem IS NOT NULL THEN 'failed' WHEN f.hold IS NOT NULL THEN 'held'"
"      ELSE 'pending' END,"
"    CASE WHEN f.problem IS NULL THEN f.hold END,"
"    CASE WHEN f.problem IS NOT NULL THEN 'refused' END, f.status, f.look_first,"
"    CASE WHEN f.problem IS NULL AND f.hold IS NULL"
"      THEN greatest(f.next_attempt_at, clock.now) END,"
"    f.problem, CASE WHEN f.problem IS NULL THEN f.reason END, f.outcome, $20, nullif($18, ''), $19,"
"    f.source_key, CASE WHEN f.problem IS NOT NULL THEN clock.now END,"
"    CASE WHEN f.problem IS NULL AND f.hold IS NOT NULL THEN coalesce(f.held_at, clock.now) END"
"  FROM phased f, (SELECT clock_timestamp() AS now) clock"
"  ORDER BY f.id"
"  RETURNING id, user_id, login_name, error"
"), payloads AS ("
"  INSERT INTO @extschema@.lp_payloads (request_id, body)"
"  SELECT j.id, j.body::text::json FROM judged j"
"  WHERE j.body IS NOT NULL AND (j.id IN (SELECT m.id FROM made m)) IS TRUE"
"), superseded AS ("
"  UPDATE @extschema@.lp_requests r"
"  SET state = 'superseded', hold = NULL, held_at = NULL, next_attempt_at = NULL,"
"    look_first = false, finished_at = clock_timestamp(),"
"    reason = 'replaced by request ' || j.id"
"  FROM judged j"
"  WHERE r.id = j.older AND j.problem IS NULL AND (j.id IN (SELECT m.id FROM made m)) IS TRUE"
"  RETURNING r.id, j.id AS newer"
"), emptied AS ("
"  DELETE FROM @extschema@.lp_payloads p USING superseded s WHERE p.request_id = s.id"
"), followed AS ("
"  UPDATE @extschema@._lp_sync_item i SET request = s.newer FROM superseded s"
"  WHERE i.request = s.id AND i.state = 'queued'"
")"
"SELECT m.user_id, m.login_name, m.error FROM made m WHERE m.error IS NOT NULL "
"ORDER BY m.id LIMIT 1";

/* Return what is wrong with a change considered alone, or NULL. */
static const char *
problem_of_change(const LpuQueuedChange *change)
{
	if (change->problem != NULL)
		return change->problem;
	if (change->user_id == 0 && change->login_name == NULL)
		return "\"id\" or \"loginName\" is required";
	if (change->body == NULL)
		return "there is nothing to change";
	if (change->login_name != NULL && pg_mbstrlen(change->login_name) > LPU_MAX_LOGIN)
		return "\"loginName\" is longer than 254 characters";
	if (strlen(change->body) > LPU_MAX_PAYLOAD)
		return "the change is larger than 1 MB";
	return NULL;
}

/* Add change i to those of the next INSERT. */
static Size
add_change(LpuColumns *changes, const void *rows, int i, int64 id)
{
	const LpuQueuedChange *change = (const LpuQueuedChange *) rows + i;
	const char *problem = problem_of_change(change);

	lpu_columns_next(changes);
	lpu_columns_set(changes, ID, Int64GetDatum(id));
	lpu_columns_set_text(changes, OPERATION, change->deletes ? "delete" : "update");
	if (change->user_id != 0)
		lpu_columns_set(changes, USER_ID, Int64GetDatum(change->user_id));
	lpu_columns_set_text(changes, LOGIN_NAME, change->login_name);
	lpu_columns_set_text(changes, ACTION, change->action);
	lpu_columns_set_text(changes, PROBLEM, problem);
	if (change->key != NULL)
		lpu_columns_set(changes, SOURCE_KEY, JsonbPGetDatum(change->key));
	if (problem != NULL)
		return 0;
	lpu_columns_set_text(changes, BODY, change->body);
	return strlen(change->body);
}

/* Write the rows of one INSERT. */
static void
write_changes_chunk(const LpuQueueOrigin *origin, LpuColumns *changes, int64 first)
{
	Oid			all_types[NCOLUMNS + LPU_ORIGIN_PARAMS + 1];
	Datum		values[NCOLUMNS + LPU_ORIGIN_PARAMS + 1];
	int			i;

	for (i = 0; i < NCOLUMNS; i++)
	{
		all_types[i] = lpu_columns_type(changes, i);
		values[i] = lpu_columns_array(changes, i);
	}
	lpu_origin_params(origin, &all_types[NCOLUMNS], &values[NCOLUMNS]);
	all_types[NCOLUMNS + LPU_ORIGIN_PARAMS] = INT8OID;
	values[NCOLUMNS + LPU_ORIGIN_PARAMS] = Int64GetDatum(first);
	lpu_queue_run(enqueue_sql, lengthof(values), all_types, values);
	if (SPI_processed > 0 && origin->raise)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid change of user \"%s\"",
						lpu_text_column(0, 2) ? lpu_text_column(0, 2) :
						psprintf(INT64_FORMAT, lpu_int64_column(0, 1))),
				 errdetail("%s.", lpu_text_column(0, 3)),
				 errhidestmt(true)));
	SPI_freetuptable(SPI_tuptable);
}

/*
 * Append n changes to the queue, as part of the current transaction and with the rights of the
 * tables' owner; delivery begins after COMMIT.  *ids gets their request ids, in order, unless it
 * is NULL.  Raises what the statement raises, and, if origin->raise, for an invalid change. Does
 * not wait for row locks.
 */
void
lpu_enqueue_changes(const LpuQueueOrigin *origin, const LpuQueuedChange *changes, int n,
					int64 *ids)
{
	static const LpuEnqueueKind kind = {types, NCOLUMNS, add_change, write_changes_chunk};

	lpu_enqueue_many(&kind, origin, changes, n, ids);
}

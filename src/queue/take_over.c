/*
 * take_over.c: taking over requests that earlier deliverers left.
 *
 * The process that holds the lock on an account knows that no other process sends for it: a row
 * "sending" that it has not claimed itself has an unknown outcome.  Rows that were written on
 * another timeline or in another system are held, or looked up before they are sent.  Rows locked
 * by another transaction are skipped; the next take-over finds them.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/origin.h"
#include "base/spi_plan.h"
#include "options/known_server.h"
#include "queue/claim.h"
#include "queue/settle.h"
#include "queue/statement.h"
#include "queue/take_over.h"

/*
 * Unfinished rows of an account that were written elsewhere. $1 account, $2 origin here. Reads
 * lp_requests.
 */
static const char elsewhere_sql[] =
"SELECT r.id FROM @extschema@.lp_requests r"
" WHERE r.account = $1 AND r.state = 'pending' AND NOT r.look_first AND r.origin IS DISTINCT FROM"
"   $2 "
"UNION ALL "
"SELECT r.id FROM @extschema@.lp_requests r"
" WHERE r.account = $1 AND r.state = 'pending' AND r.look_first AND r.origin IS DISTINCT FROM $2 "
"UNION ALL "
"SELECT r.id FROM @extschema@.lp_requests r"
" WHERE r.account = $1 AND r.state IN ('sending', 'uncertain') AND r.origin IS DISTINCT FROM $2";

/*
 * Take on rows of another timeline of this database if $3 (lpusers.after_promotion = resume):
 * they are looked up before they are sent. The lookup waits for the first retry delay, since the
 * service may still be processing the request, and for the old due time, since the service may
 * have requested a delay.  All others are held.  $1 ids, $2 origin here.  Writes lp_requests.
 */
static const char take_on_sql[] =
"WITH locked AS MATERIALIZED ("
"  SELECT r.id, $3 AND @extschema@._lp_is_here(r.origin, $2) AS keep FROM @extschema@.lp_requests r"
"  WHERE r.id = ANY ($1) AND r.state IN ('pending', 'sending', 'uncertain') AND r.origin IS"
"    DISTINCT FROM $2"
"  FOR UPDATE SKIP LOCKED)"
"UPDATE @extschema@.lp_requests r"
" SET state = CASE WHEN NOT l.keep THEN 'held' WHEN r.state = 'pending' THEN 'pending' ELSE"
"   'uncertain' END,"
"   hold = CASE WHEN NOT l.keep THEN 'elsewhere' END,"
"   look_first = r.look_first OR (l.keep AND r.state = 'pending'),"
"   next_attempt_at = CASE WHEN l.keep THEN greatest(r.next_attempt_at, clock_timestamp() +"
"     @extschema@._lp_backoff(1)) END,"
"   held_at = CASE WHEN NOT l.keep THEN clock_timestamp() END,"
"   reason = CASE WHEN NOT l.keep THEN 'written elsewhere (' || r.origin || ', here is ' || $2"
"     || '): a failover, a restore or a copy; see lp_adopt()' END,"
"   origin = CASE WHEN l.keep THEN $2 ELSE r.origin END "
"FROM locked l WHERE r.id = l.id RETURNING r.id";

/*
 * Rows of an account that are "sending", except those that this process sends.  $1 account, $2
 * their ids.  Reads lp_requests.
 */
static const char sending_sql[] =
"SELECT r.id FROM @extschema@.lp_requests r"
" WHERE r.account = $1 AND r.state = 'sending' AND r.id <> ALL ($2)";

/*
 * Mark the rows as uncertain.  As in the following statement, the rows are found by their ids: with
 * a condition on the state the planner could scan a partial index for each id.  $1 ids.  Writes
 * lp_requests.
 */
static const char orphans_sql[] =
"WITH locked AS MATERIALIZED ("
"  SELECT r.id FROM unnest($1::bigint[]) AS u (id) CROSS JOIN LATERAL ("
"    SELECT q.id, q.state FROM @extschema@.lp_requests q WHERE q.id = u.id LIMIT 1"
"    FOR UPDATE SKIP LOCKED) r"
"  WHERE r.state = 'sending')"
"UPDATE @extschema@.lp_requests r"
" SET state = 'uncertain', next_attempt_at = clock_timestamp() + @extschema@._lp_backoff(1) "
"FROM locked l WHERE r.id = l.id RETURNING r.id";

/*
 * Rows to be looked up: of several with the same login or user only the first, and none whose
 * login or user is in flight.  $1 account, $2 origin, $3 ids to skip.  Reads lp_requests.
 */
static const char look_first_sql[] =
"SELECT w.id FROM ("
"  SELECT r.id, r.login_name, r.user_id,"
"    row_number() OVER (PARTITION BY r.server_oid, lower(r.login_name COLLATE \"C\") ORDER BY"
"      r.id) AS of_login,"
"    row_number() OVER (PARTITION BY r.server_oid, r.user_id ORDER BY r.id) AS of_user"
"  FROM @extschema@.lp_requests r"
"  WHERE r.account = $1 AND r.state = 'pending' AND r.look_first AND r.origin = $2 AND r.id <>"
"    ALL ($3)"
"    AND (SELECT f.id FROM @extschema@.lp_requests f"
"      WHERE f.account = $1 AND lower(f.login_name COLLATE \"C\") = lower(r.login_name COLLATE"
"        \"C\")"
"        AND f.server_oid = r.server_oid AND f.state IN ('sending', 'uncertain') LIMIT 1) IS NULL"
"    AND (r.user_id IS NULL OR (SELECT f.id FROM @extschema@.lp_requests f"
"      WHERE f.account = $1 AND f.user_id = r.user_id AND f.server_oid = r.server_oid"
"        AND f.state IN ('sending', 'uncertain') LIMIT 1) IS NULL)"
"  ) w "
"WHERE (w.login_name IS NULL OR w.of_login = 1) AND (w.user_id IS NULL OR w.of_user = 1)";

/*
 * Mark the rows as uncertain and sent at least once. $1 ids. Writes lp_requests.
 */
static const char look_sql[] =
"WITH locked AS MATERIALIZED ("
"  SELECT r.id FROM unnest($1::bigint[]) AS u (id) CROSS JOIN LATERAL ("
"    SELECT q.id, q.state, q.look_first FROM @extschema@.lp_requests q WHERE q.id = u.id LIMIT 1"
"    FOR UPDATE SKIP LOCKED) r"
"  WHERE r.state = 'pending' AND r.look_first)"
"UPDATE @extschema@.lp_requests r SET state = 'uncertain', attempts = greatest(r.attempts, 1) "
"FROM locked l WHERE r.id = l.id RETURNING r.id";

/*
 * Accounts and servers with unfinished rows, and when the first of each is due; the one that has
 * waited longest comes first.  Pending rows are found with one index descent for each account and
 * server; while a server's service requests a delay (429), none of its rows is due.  $1 now.
 * Reads lp_requests.
 */
static const char due_sql[] =
"WITH RECURSIVE waiting (account, server_oid) AS ("
"  (SELECT r.account, r.server_oid FROM @extschema@.lp_requests r WHERE r.state = 'pending' AND NOT"
"    r.look_first"
"   ORDER BY r.account, r.server_oid LIMIT 1)"
"  UNION ALL"
"  SELECT next.account, next.server_oid FROM waiting w, LATERAL ("
"   SELECT r.account, r.server_oid FROM @extschema@.lp_requests r"
"   WHERE r.state = 'pending' AND NOT r.look_first AND (r.account, r.server_oid) > (w.account,"
"     w.server_oid)"
"   ORDER BY r.account, r.server_oid LIMIT 1) next"
"), due (account, server_oid, first, at) AS ("
"  SELECT w.account, w.server_oid, first.at, greatest(first.at, asked.at) FROM waiting w, LATERAL ("
"   SELECT r.next_attempt_at AS at FROM @extschema@.lp_requests r"
"   WHERE r.account = w.account AND r.server_oid = w.server_oid AND r.state = 'pending' AND NOT"
"     r.look_first"
"   ORDER BY r.next_attempt_at, r.id LIMIT 1) first, LATERAL ("
"   SELECT max(r.next_attempt_at) AS at FROM @extschema@.lp_requests r"
"   WHERE r.account = w.account AND r.server_oid = w.server_oid AND r.state = 'pending' AND NOT"
"     r.look_first"
"     AND r.status = 429 AND r.next_attempt_at > $1) asked"
"  UNION ALL"
"  SELECT r.account, r.server_oid, r.next_attempt_at, r.next_attempt_at"
"  FROM @extschema@.lp_requests r WHERE r.state = 'pending' AND r.look_first"
"  UNION ALL"
"  SELECT r.account, r.server_oid, coalesce(r.next_attempt_at, r.sent_at),"
"   CASE r.state WHEN 'uncertain' THEN r.next_attempt_at ELSE $1 END"
"  FROM @extschema@.lp_requests r WHERE r.state IN ('sending', 'uncertain')"
")"
"SELECT d.account, greatest(0, ceil(extract(epoch FROM min(d.at) - $1) * 1000))::bigint, d.server_oid "
"FROM due d GROUP BY d.account, d.server_oid ORDER BY min(d.first)";

/* Return the ids that a statement with these parameters finds, in the current memory context. */
static int64 *
find_left_rows(const char *sql, int nargs, Oid *types, Datum *values, int *n)
{
	int64	   *ids;

	lpu_queue_run(sql, nargs, types, values);
	ids = lpu_queue_ids(n);
	SPI_freetuptable(SPI_tuptable);
	return ids;
}

/* Take over unfinished rows; see above.  Waits for no lock. */
void
lpu_take_over(const char *account, bool resume)
{
	Datum		here = CStringGetTextDatum(lpu_origin_text());
	Oid			types[3] = {TEXTOID, TEXTOID, BOOLOID};
	Datum		values[3] = {CStringGetTextDatum(account), here, BoolGetDatum(resume)};
	Datum		change[3] = {(Datum) 0, here, BoolGetDatum(resume)};
	Oid			change_types[3] = {INT8ARRAYOID, TEXTOID, BOOLOID};
	Oid			sending_types[2] = {TEXTOID, INT8ARRAYOID};
	Datum		sending[2] = {values[0], lpu_claimed_ids()};
	int64	   *ids;
	int			n;

	lpu_settlement_write_kept();
	ids = find_left_rows(elsewhere_sql, 2, types, values, &n);
	(void) lpu_queue_change(take_on_sql, ids, n, 3, change_types, change);
	ids = find_left_rows(sending_sql, 2, sending_types, sending, &n);
	(void) lpu_queue_change(orphans_sql, ids, n, 1, change_types, change);
	(void) lpu_take_over_look_first(account);
}

/* Returns how many rows became uncertain. */
int64
lpu_take_over_look_first(const char *account)
{
	Oid			types[3] = {TEXTOID, TEXTOID, INT8ARRAYOID};
	Datum		values[3] = {CStringGetTextDatum(account), CStringGetTextDatum(lpu_origin_text()),
	lpu_queue_passed_over()};
	Oid			change_types[1] = {INT8ARRAYOID};
	Datum		change[1];
	int64	   *ids;
	int			n;

	ids = find_left_rows(look_first_sql, 3, types, values, &n);
	return lpu_queue_change(look_sql, ids, n, 1, change_types, change);
}

/* Return the accounts with unfinished rows, and the parties of their servers, in order. */
LpuDueAccount *
lpu_due_accounts(int *n)
{
	Oid			types[1] = {TIMESTAMPTZOID};
	Datum		values[1] = {TimestampTzGetDatum(GetCurrentTimestamp())};
	LpuDueAccount *due;
	int			i;

	lpu_queue_run(due_sql, 1, types, values);
	*n = (int) SPI_processed;
	due = palloc(Max(*n, 1) * sizeof(LpuDueAccount));
	for (i = 0; i < *n; i++)
	{
		char	   *account = lpu_text_column(i, 1);

		due[i].account = pstrdup(account);
		due[i].wait_ms = lpu_int64_column(i, 2);
		due[i].party = lpu_server_party(lpu_oid_column(i, 3));
	}
	SPI_freetuptable(SPI_tuptable);
	return due;
}

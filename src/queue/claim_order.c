/*
 * claim_order.c: the order of requests that name one user by id and by login.
 *
 * A claim orders requests with the same id, and requests with the same login.  Only the account
 * shows which id belongs to a login.  After such a listing the request by login gets the id of
 * its user: the request then waits for older requests of that id, newer ones wait for it, and a
 * rename does not hide its user.  While the request is unfinished, "by_login" in
 * lp_requests.outcome records this.  Everything here needs a transaction with SPI connected,
 * under the lock on the account.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "base/spi_plan.h"
#include "queue/claim_order.h"
#include "queue/silence.h"
#include "queue/statement.h"

/*
 * Changes by login that wait or are uncertain, without the id of their user, that are older than
 * request $3, except those that refer to the user to whom an older unfinished rename gives the
 * login, and those of other roles that do not move.  $1 account, $2 server, $4 role, $5 senders
 * that failed.  The states are those of the index.  Reads lp_requests.
 */
static const char older_sql[] =
"SELECT r.id, r.login_name FROM @extschema@.lp_requests r "
"WHERE r.account = $1 AND r.server_oid = $2 AND (r.user_id IS NULL) = true AND r.id < $3"
"  AND r.state IN ('pending', 'held', 'sending', 'uncertain')"
"  AND r.operation IN ('update', 'delete') AND r.state <> 'sending'"
"  AND r.hold IS DISTINCT FROM 'elsewhere'"
"  AND (r.send_as_oid = $4 OR r.state <> 'held' AND " LPU_NOT_SILENT_SQL("r", "$5") ")"
"  AND " LPU_OLDER_RENAME_SQL("r") " IS NULL "
"ORDER BY r.id";

/*
 * Requests, $3, of users, $4, that wait for others of the same user: for older ones, and for
 * those in flight except $5, which the claimer orders itself.  $1 account, $2 server, $6 role,
 * $7 senders that failed.  Reads lp_requests.
 */
static const char blocked_sql[] =
"SELECT u.id FROM unnest($3::bigint[], $4::bigint[]) AS u (id, user_id) "
"WHERE (SELECT f.id FROM @extschema@.lp_requests f"
"    WHERE f.account = $1 AND f.user_id = u.user_id AND f.server_oid = $2"
"      AND f.state IN ('sending', 'uncertain') AND f.id <> ALL ($5) LIMIT 1) IS NOT NULL"
"  OR (SELECT f.id FROM @extschema@.lp_requests f"
"    WHERE f.account = $1 AND f.user_id = u.user_id AND f.server_oid = $2"
"      AND f.state IN ('pending', 'held') AND f.hold IS DISTINCT FROM 'elsewhere' AND f.id < u.id"
"      AND (f.send_as_oid = $6 OR f.state <> 'held' AND " LPU_NOT_SILENT_SQL("f", "$7") ")"
"    LIMIT 1) IS NOT NULL";

/*
 * Changes that wait for users, $3, by their logins, $4, except those that refer to the user to
 * whom an older unfinished create or rename gives the login.  $1 account, $2 server.  Reads
 * lp_requests and lp_payloads.
 */
static const char waiting_sql[] =
"SELECT r.id FROM unnest($3::bigint[], $4::text[]) AS u (user_id, login) CROSS JOIN LATERAL ("
"  SELECT q.id FROM @extschema@.lp_requests q"
"  WHERE q.account = $1 AND lower(q.login_name COLLATE \"C\") = lower(u.login COLLATE \"C\")"
"    AND q.login_name IS NOT NULL AND q.server_oid = $2 AND q.state IN ('pending', 'held')"
"    AND q.operation IN ('update', 'delete') AND q.user_id IS NULL"
"    AND q.hold IS DISTINCT FROM 'elsewhere'"
"    AND (SELECT f.id FROM @extschema@.lp_requests f"
"      WHERE f.account = $1 AND lower(f.login_name COLLATE \"C\") = lower(u.login COLLATE \"C\")"
"        AND f.login_name IS NOT NULL AND f.server_oid = $2 AND f.state IN ('pending', 'held')"
"        AND f.operation = 'create' AND f.id < q.id AND " LPU_ORDERS_SQL("f", "q", "true")
"      LIMIT 1) IS NULL"
"    AND (SELECT f.id FROM @extschema@.lp_requests f"
"      WHERE f.account = $1 AND lower(f.login_name COLLATE \"C\") = lower(u.login COLLATE \"C\")"
"        AND f.server_oid = $2 AND f.state IN ('sending', 'uncertain')"
"        AND f.operation = 'create' AND f.id < q.id LIMIT 1) IS NULL"
"    AND " LPU_OLDER_RENAME_SQL("q") " IS NULL"
"  OFFSET 0) r";

/*
 * Store the ids of the users in their requests.  Two requests in flight must not have the same
 * user.  $1 ids, $2 users, $3 logins, $4 account, $5 server.  Writes lp_requests.
 */
static const char follow_sql[] =
"WITH locked AS MATERIALIZED ("
"  SELECT r.id, r.state, r.login_name FROM @extschema@.lp_requests r"
"  WHERE r.id = ANY ($1) AND r.state IN ('pending', 'held', 'uncertain') AND r.user_id IS NULL"
"  FOR UPDATE SKIP LOCKED)"
"UPDATE @extschema@.lp_requests r SET user_id = u.user_id,"
"  outcome = coalesce(r.outcome, '{}'::jsonb) || '{\"by_login\": true}'::jsonb "
"FROM locked l, unnest($2::bigint[], $3::text[]) AS u (user_id, login) "
"WHERE r.id = l.id AND lower(l.login_name COLLATE \"C\") = lower(u.login COLLATE \"C\")"
"  AND (l.state <> 'uncertain' OR (SELECT f.id FROM @extschema@.lp_requests f"
"    WHERE f.account = $4 AND f.user_id = u.user_id AND f.server_oid = $5"
"      AND f.state IN ('sending', 'uncertain') LIMIT 1) IS NULL) "
"RETURNING r.id";

/*
 * Return the changes by login that wait or are uncertain and are older than a request, in their
 * order and in the current memory context.
 */
LpuWaitingChange *
lpu_claim_find_older_by_login(const LpuOrderedRows *rows, int64 newest, int *n)
{
	Oid			types[5] = {TEXTOID, OIDOID, INT8OID, OIDOID, INT8ARRAYOID};
	Datum		values[5] = {CStringGetTextDatum(rows->account), ObjectIdGetDatum(rows->server),
		Int64GetDatum(newest), ObjectIdGetDatum(rows->role),
	lpu_silence_senders(true)};
	LpuWaitingChange *changes;
	int			i;

	lpu_queue_run(older_sql, 5, types, values);
	*n = (int) SPI_processed;
	changes = palloc(Max(*n, 1) * sizeof(LpuWaitingChange));
	for (i = 0; i < *n; i++)
	{
		changes[i].id = lpu_int64_column(i, 1);
		changes[i].login_name = lpu_text_column(i, 2);
	}
	SPI_freetuptable(SPI_tuptable);
	return changes;
}

static Datum
login_array(char *const *logins, int n)
{
	Datum	   *texts = palloc(Max(n, 1) * sizeof(Datum));
	int			i;

	for (i = 0; i < n; i++)
		texts[i] = CStringGetTextDatum(logins[i]);
	return PointerGetDatum(construct_array(texts, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/*
 * The newest older change that takes the login from its user: a delete, or a rename to another
 * login; and the milliseconds until it is due.  Held ones may never be carried out, so they are not
 * waited for.  $1 account, $2 server, $3 user, $4 request, $5 its login.  The states are in two
 * parts as those of the indexes.  Reads lp_requests and lp_payloads.
 */
#define FREES_SQL(states) \
"(SELECT f.id, f.next_attempt_at FROM @extschema@.lp_requests f" \
" WHERE f.account = $1 AND f.user_id = $3 AND f.server_oid = $2 AND f.state IN " states \
"   AND f.state <> 'held' AND f.operation IN ('update', 'delete') AND f.id < $4" \
"   AND (f.operation = 'delete' OR (SELECT lower(p.body #>> '{set,loginName}') <> lower($5)" \
"     FROM @extschema@.lp_payloads p WHERE p.request_id = f.id LIMIT 1))" \
" OFFSET 0)"

static const char frees_sql[] =
"SELECT f.id, greatest(extract(epoch FROM f.next_attempt_at - clock_timestamp()) * 1000, 0)::bigint "
"FROM (" FREES_SQL("('pending', 'held')") " UNION ALL " FREES_SQL("('sending', 'uncertain')") ") f "
"ORDER BY f.id DESC LIMIT 1";

/*
 * Renames, $3, each with the newest older change of another user that takes the new login from this
 * user, as in frees_sql, except those that are claimed, $4: the claimer orders these itself.  $1
 * account, $2 server.  The older change is found by the login that its user has.  Reads lp_requests
 * and lp_payloads.
 */
#define TAKES_SQL(states) \
"(SELECT f.id, f.next_attempt_at FROM @extschema@.lp_requests f" \
" WHERE f.account = $1 AND f.server_oid = $2 AND f.state IN " states \
"   AND lower(f.login_name COLLATE \"C\") = lower(w.login COLLATE \"C\") AND f.login_name IS NOT NULL" \
"   AND f.state <> 'held' AND f.operation IN ('update', 'delete') AND f.id < w.id" \
"   AND f.id <> ALL ($4) AND f.user_id IS DISTINCT FROM w.user_id" \
"   AND (f.operation = 'delete' OR (SELECT lower(p.body #>> '{set,loginName}') <> lower(w.login)" \
"     FROM @extschema@.lp_payloads p WHERE p.request_id = f.id LIMIT 1))" \
" OFFSET 0)"

static const char renames_sql[] =
"SELECT w.id, t.id, t.wait_ms FROM ("
"  SELECT r.id, r.user_id, p.body #>> '{set,loginName}' AS login"
"  FROM unnest($3::bigint[]) AS u (id) JOIN @extschema@.lp_requests r ON r.id = u.id"
"    JOIN @extschema@.lp_payloads p ON p.request_id = u.id) w "
"CROSS JOIN LATERAL ("
"  SELECT f.id, greatest(extract(epoch FROM f.next_attempt_at - clock_timestamp()) * 1000, 0)::bigint"
"    AS wait_ms"
"  FROM (" TAKES_SQL("('pending', 'held')") " UNION ALL " TAKES_SQL("('sending', 'uncertain')") ") f"
"  ORDER BY f.id DESC LIMIT 1) t "
"WHERE w.login IS NOT NULL";

/*
 * A change by id that waits, and may take a login from its user.  $1 account, $2 server.  Reads
 * lp_requests.
 */
static const char freeing_sql[] =
"SELECT r.id FROM @extschema@.lp_requests r "
"WHERE r.account = $1 AND r.server_oid = $2 AND (r.user_id IS NULL) = false AND r.phase <= 3"
"  AND r.state IN ('pending', 'held', 'sending', 'uncertain') AND r.state <> 'held'"
"  AND r.operation IN ('update', 'delete') LIMIT 1";

/*
 * Return the older change that is to take the login of a create from the user who has it, or 0;
 * *wait_ms gets the time until it is due.
 */
int64
lpu_claim_find_freeing(const char *account, const LpuQueueRow *row, int64 user, int64 *wait_ms)
{
	Oid			types[5] = {TEXTOID, OIDOID, INT8OID, INT8OID, TEXTOID};
	Datum		values[5] = {CStringGetTextDatum(account), ObjectIdGetDatum(row->server),
		Int64GetDatum(user), Int64GetDatum(row->id),
	CStringGetTextDatum(row->login_name)};
	int64		id = 0;

	lpu_queue_run(frees_sql, 5, types, values);
	if (SPI_processed > 0)
	{
		id = lpu_int64_column(0, 1);
		*wait_ms = lpu_int64_column(0, 2);
	}
	SPI_freetuptable(SPI_tuptable);
	return id;
}

/* Return true if a change by id of the server waits that may take a login from its user. */
bool
lpu_claim_may_free(const char *account, Oid server)
{
	Oid			types[2] = {TEXTOID, OIDOID};
	Datum		values[2] = {CStringGetTextDatum(account), ObjectIdGetDatum(server)};
	bool		found;

	lpu_queue_run(freeing_sql, 2, types, values);
	found = SPI_processed > 0;
	SPI_freetuptable(SPI_tuptable);
	return found;
}

/* Return which of n renames have to wait for a login, in the current memory context. */
LpuWaitingRename *
lpu_claim_find_waiting_renames(const LpuOrderedRows *rows, const int64 *ids, int n, int *nwaiting)
{
	Oid			types[4] = {TEXTOID, OIDOID, INT8ARRAYOID, INT8ARRAYOID};
	Datum		values[4] = {CStringGetTextDatum(rows->account), ObjectIdGetDatum(rows->server),
		lpu_queue_id_array(ids, n), lpu_queue_id_array(rows->claimed, rows->nclaimed)
	};
	LpuWaitingRename *waiting;
	int			i;

	lpu_queue_run(renames_sql, 4, types, values);
	*nwaiting = (int) SPI_processed;
	waiting = palloc(Max(*nwaiting, 1) * sizeof(LpuWaitingRename));
	for (i = 0; i < *nwaiting; i++)
	{
		waiting[i].id = lpu_int64_column(i, 1);
		waiting[i].older = lpu_int64_column(i, 2);
		waiting[i].wait_ms = lpu_int64_column(i, 3);
	}
	SPI_freetuptable(SPI_tuptable);
	return waiting;
}

/* Run follow_sql; return the number of requests that got their users. */
static int64
follow_users(const LpuOrderedRows *rows, const int64 *ids, int nids, Datum users, Datum logins)
{
	Oid			types[5] = {INT8ARRAYOID, INT8ARRAYOID, TEXTARRAYOID, TEXTOID, OIDOID};
	Datum		values[5] = {(Datum) 0, users, logins, CStringGetTextDatum(rows->account),
	ObjectIdGetDatum(rows->server)};

	return lpu_queue_change(follow_sql, ids, nids, 5, types, values);
}

/*
 * Store the ids of n users, found by their logins, in requests that wait or are uncertain.  Rows
 * locked by other transactions are skipped, and uncertain ones whose user has a request in flight.
 * Return the number of requests that got their users.
 */
int64
lpu_claim_keep_users(const LpuOrderedRows *rows, const int64 *ids, const int64 *users,
					 char *const *logins, int n)
{
	return follow_users(rows, ids, n, lpu_queue_id_array(users, n), login_array(logins, n));
}

/*
 * Return which of n requests have to wait, now that the ids of their users are known; in
 * the current memory context.
 */
int64 *
lpu_claim_find_blocked(const LpuOrderedRows *rows, const int64 *ids, const int64 *users, int n,
					   int *nblocked)
{
	Oid			types[7] = {TEXTOID, OIDOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, OIDOID,
	INT8ARRAYOID};
	Datum		values[7] = {CStringGetTextDatum(rows->account), ObjectIdGetDatum(rows->server),
		lpu_queue_id_array(ids, n), lpu_queue_id_array(users, n),
		lpu_queue_id_array(rows->claimed, rows->nclaimed), ObjectIdGetDatum(rows->role),
	lpu_silence_senders(true)};
	int64	   *blocked;

	lpu_queue_run(blocked_sql, 7, types, values);
	blocked = lpu_queue_ids(nblocked);
	SPI_freetuptable(SPI_tuptable);
	return blocked;
}

/*
 * Before n users are renamed: store their ids in the requests that name these users by their
 * present logins.  Rows locked by other transactions are skipped.
 */
void
lpu_claim_follow_renames(const LpuOrderedRows *rows, const int64 *users, char *const *logins,
						 int n)
{
	Oid			types[4] = {TEXTOID, OIDOID, INT8ARRAYOID, TEXTARRAYOID};
	Datum		values[4] = {CStringGetTextDatum(rows->account), ObjectIdGetDatum(rows->server),
	lpu_queue_id_array(users, n), login_array(logins, n)};
	int64	   *ids;
	int			nids;

	lpu_queue_run(waiting_sql, 4, types, values);
	ids = lpu_queue_ids(&nids);
	SPI_freetuptable(SPI_tuptable);
	(void) follow_users(rows, ids, nids, values[2], values[3]);
}

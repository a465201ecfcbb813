/*
 * housekeeping.c: old requests and old secrets.
 *
 * A deliverer removes old rows periodically and must not wait for locks: rows locked by other
 * transactions are skipped until the next time.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/fmgrprotos.h"

#include "base/guc.h"
#include "queue/housekeeping.h"
#include "queue/statement.h"

/*
 * Delete finished requests older than $1, with their payloads. Writes lp_requests, lp_payloads.
 */
static const char purge_sql[] =
"WITH old AS MATERIALIZED ("
"  SELECT r.id FROM @extschema@.lp_requests r"
"  WHERE r.state IN ('created', 'done', 'failed', 'superseded') AND r.finished_at <"
"    (SELECT clock_timestamp() - $1)"
"  FOR UPDATE SKIP LOCKED"
"), gone AS ("
"  DELETE FROM @extschema@.lp_requests r USING old o WHERE r.id = o.id RETURNING r.id"
"), payloads AS MATERIALIZED ("
"  SELECT p.request_id FROM old o JOIN @extschema@.lp_payloads p ON p.request_id = o.id FOR UPDATE OF p"
"    SKIP LOCKED"
"), emptied AS ("
"  DELETE FROM @extschema@.lp_payloads p USING payloads x WHERE p.request_id = x.request_id"
")"
"SELECT g.id FROM gone g";

/*
 * Delete payloads with secrets of requests that failed longer ago than $1 seconds or are held for
 * longer than $2, and those of requests that are finished.  The request is locked, too, so that it
 * cannot be retried meanwhile.  The payloads are read first, since most requests are finished and
 * have none.  Writes lp_payloads.
 */
#define OLD_SECRET_SQL(r) \
"(" r ".state IN ('created', 'done', 'superseded')" \
"  OR (" r ".state = 'failed' AND " r ".finished_at < clock_timestamp() - make_interval(secs => $1)" \
"    OR " r ".state = 'held' AND coalesce(" r ".held_at, " r ".enqueued_at) < clock_timestamp() -" \
"      make_interval(secs => $2))" \
"  AND p.body::text ~ '\"(passwordSh|oldPassword|confirmPassword)\"')"

static const char secrets_sql[] =
"WITH found AS MATERIALIZED ("
"  SELECT p.request_id FROM @extschema@.lp_payloads p CROSS JOIN LATERAL ("
"    SELECT q.state, q.finished_at, q.held_at, q.enqueued_at FROM @extschema@.lp_requests q"
"    WHERE q.id = p.request_id LIMIT 1) r"
"  WHERE " OLD_SECRET_SQL("r")
"), old AS MATERIALIZED ("
"  SELECT l.request_id FROM found f CROSS JOIN LATERAL ("
"    SELECT p.request_id FROM @extschema@.lp_requests r, @extschema@.lp_payloads p"
"    WHERE r.id = f.request_id AND p.request_id = f.request_id AND " OLD_SECRET_SQL("r")
"    LIMIT 1 FOR UPDATE OF r, p SKIP LOCKED) l"
")"
"DELETE FROM @extschema@.lp_payloads p USING old o WHERE p.request_id = o.request_id";

/* Payloads without a request, which a purge leaves if they were locked.  Writes lp_payloads. */
static const char orphans_sql[] =
"WITH orphans AS MATERIALIZED ("
"  SELECT p.request_id FROM @extschema@.lp_payloads p"
"  WHERE NOT EXISTS (SELECT FROM @extschema@.lp_requests r WHERE r.id = p.request_id)"
"  FOR UPDATE OF p SKIP LOCKED"
")"
"DELETE FROM @extschema@.lp_payloads p USING orphans o WHERE p.request_id = o.request_id";

/*
 * Delete requests that were finished longer ago than this, except those locked by other
 * transactions, and return their number. Needs SPI connected; waits for no lock.
 */
int64
lpu_purge(Interval *older_than)
{
	Oid			types[1] = {INTERVALOID};
	Datum		values[1] = {IntervalPGetDatum(older_than)};

	lpu_queue_run(purge_sql, 1, types, values);
	return SPI_processed;
}

/*
 * Remove old secrets and old requests, as lpusers.keep_secrets, keep_held_secrets and retention
 * say. Needs SPI connected; waits for no lock.
 */
void
lpu_housekeep(void)
{
	Oid			types[2] = {FLOAT8OID, FLOAT8OID};
	Datum		values[2] = {Float8GetDatum(lpu_keep_secrets),
	Float8GetDatum(lpu_keep_held_secrets)};
	Interval	retention = {.time = lpu_retention * USECS_PER_SEC};

	lpu_queue_run(secrets_sql, 2, types, values);
	(void) lpu_purge(&retention);
	lpu_queue_run(orphans_sql, 0, NULL, NULL);
}

/*
 * mend.c: failures that a later success made good.
 *
 * A success searches for failures of its login, its user and its source row.  Most tables have
 * none, so each index of failures is asked once for a statement if it has any row at all, before
 * it is searched for each success.
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "queue/mend.h"
#include "queue/statement.h"

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
"WITH any_failed AS MATERIALIZED ("
"  SELECT"
"    EXISTS (SELECT FROM @extschema@.lp_requests r WHERE r.state = 'failed' AND NOT r.mended"
"      AND char_length(r.login_name) <= 254) AS login,"
"    EXISTS (SELECT FROM @extschema@.lp_requests r WHERE r.state = 'failed' AND NOT r.mended"
"      AND r.user_id IS NOT NULL AND r.operation IN ('update', 'delete')) AS of_user,"
"    EXISTS (SELECT FROM @extschema@.lp_requests r WHERE r.state = 'failed' AND NOT r.mended"
"      AND r.source_key IS NOT NULL AND r.source_table_oid <> 0) AS source"
"), good AS MATERIALIZED ("
"  SELECT w.* FROM any_failed a CROSS JOIN LATERAL unnest($1::bigint[]) AS u (id) CROSS JOIN LATERAL ("
"    SELECT r.account, r.server_oid, r.operation, r.source_table_oid, r.source_key, r.user_id,"
"      r.plan, r.action, lower(r.login_name COLLATE \"C\") AS login"
"    FROM @extschema@.lp_requests r WHERE r.id = u.id LIMIT 1) w"
"  WHERE a.login OR a.of_user OR a.source"
"), found AS MATERIALIZED ("
"  SELECT f.id FROM good w CROSS JOIN LATERAL ("
"    SELECT r.id FROM @extschema@.lp_requests r"
"    WHERE (SELECT a.login FROM any_failed a) AND r.account = w.account"
"      AND lower(r.login_name COLLATE \"C\") = w.login AND r.server_oid = w.server_oid"
"      AND char_length(r.login_name) <= 254" MADE_GOOD_SQL
"    OFFSET 0) f"
"  UNION "
"  SELECT f.id FROM good w CROSS JOIN LATERAL ("
"    SELECT r.id FROM @extschema@.lp_requests r"
"    WHERE (SELECT a.of_user FROM any_failed a) AND w.operation IN ('update', 'delete')"
"      AND r.account = w.account AND r.user_id = w.user_id AND r.server_oid = w.server_oid"
"      AND r.operation IN ('update', 'delete')" MADE_GOOD_SQL
"    OFFSET 0) f"
"  UNION "
"  SELECT f.id FROM good w CROSS JOIN LATERAL ("
"    SELECT r.id FROM @extschema@.lp_requests r"
"    WHERE (SELECT a.source FROM any_failed a) AND r.source_table_oid = w.source_table_oid"
"      AND jsonb_hash(r.source_key) = jsonb_hash(w.source_key)"
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

/* Mark failures that these rows resolved; a failure that cannot be marked is skipped. */
void
lpu_settle_mend(const int64 *ids, int n)
{
	Oid			mend_types[1] = {INT8ARRAYOID};
	Datum		values[1];

	(void) lpu_queue_change(mend_sql, ids, n, 1, mend_types, values);
}

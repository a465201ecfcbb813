/*
 * link.c: links between keys and users, written when requests of plans are settled.
 *
 * A link is written in the transaction in which its request becomes final, and found by the id of
 * the request, since a login may pass to another user. A user that was created by a lost request
 * has no link, and the next plan adopts it by login.
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "base/spi_plan.h"
#include "queue/statement.h"
#include "sync/plan.h"

/*
 * $1: ids of requests. An attribute left as the account has it keeps its earlier source value. A
 * disable and a delete do not change the attributes of the link. A state found by a request that
 * was never sent was caused by another client. An item whose link was removed while its request
 * was in flight writes none. The statement does not wait for rows locked by others, since a
 * session that unlinks a user must not block a deliverer; the next plan settles the skipped rows.
 * Writes items and links.
 */
static const char settle_sql[] =
"WITH locked AS MATERIALIZED ( "
" SELECT i.id, i.sync, i.source_key FROM @extschema@.lp_requests r "
" JOIN @extschema@._lp_sync_item i ON i.request = r.id "
" WHERE r.id = ANY ($1) AND r.state IN ('created', 'done', 'failed') AND i.state <> 'superseded' "
" FOR UPDATE OF i SKIP LOCKED), "
"free AS MATERIALIZED ( "
" SELECT o.id FROM locked o "
" LEFT JOIN LATERAL (SELECT true AS there FROM @extschema@._lp_sync_link k "
"  WHERE k.sync = o.sync AND k.source_key = o.source_key LIMIT 1) a ON true "
" LEFT JOIN LATERAL (SELECT true AS locked FROM @extschema@._lp_sync_link k "
"  WHERE k.sync = o.sync AND k.source_key = o.source_key LIMIT 1 FOR UPDATE SKIP LOCKED) b ON true "
" WHERE a.there IS NULL OR b.locked), "
"settled AS ( "
" SELECT i.id, i.sync, i.action, i.source_key, i.base, i.hidden, i.unlinked, r.state, r.user_id, "
"  i.action <> 'adopt' AND (r.evidence = 'answer' OR r.attempts > 0) AS by_us, "
"  coalesce(r.outcome ->> 'dateUpdated', CASE WHEN i.action = 'adopt' AND r.evidence = 'lookup' "
"   THEN i.date_updated END) AS date_updated, "
"  coalesce((SELECT c.change ->> 'new' FROM jsonb_array_elements(i.changes) c (change) "
"   WHERE c.change ->> 'attribute' = 'loginName' AND NOT jsonb_exists(c.change, 'reported')), "
"   i.login_name) AS login_name, "
"  coalesce((SELECT jsonb_object_agg(c.change ->> 'attribute', c.change -> 'old') "
"   FROM jsonb_array_elements(i.changes) c (change) WHERE jsonb_exists(c.change, 'again')), '{}') AS unkept, "
"  ARRAY(SELECT CASE d.name WHEN 'memberOf' THEN 'agentGroupId' ELSE d.name END "
"   FROM jsonb_object_keys(coalesce(r.outcome -> 'drifted', '{}')) d (name)) AS drifted, "
"  CASE WHEN i.action = 'disable' THEN 'disabled' WHEN i.action = 'delete' THEN 'gone' "
"   WHEN i.action IN ('create', 'recreate') AND i.base -> 'isEnabled' = 'false' THEN 'disabled' "
"   WHEN i.action IN ('update', 'rename') THEN NULL ELSE 'active' END AS link_state "
" FROM free f JOIN @extschema@._lp_sync_item i ON i.id = f.id "
" JOIN @extschema@.lp_requests r ON r.id = i.request), "
"item AS (UPDATE @extschema@._lp_sync_item i "
" SET state = CASE WHEN s.state = 'failed' THEN 'failed' ELSE 'done' END, "
"  user_id = coalesce(s.user_id, i.user_id) FROM settled s WHERE i.id = s.id) "
"INSERT INTO @extschema@._lp_sync_link (sync, source_key, user_id, login_name, state, since, by_us, "
" base, hidden, unkept, date_updated) "
"SELECT s.sync, s.source_key, s.user_id, s.login_name, coalesce(s.link_state, k.state, 'active'), "
" CASE WHEN coalesce(s.link_state, k.state) = k.state THEN k.since ELSE clock_timestamp() END, "
" CASE WHEN s.link_state IS NULL THEN coalesce(k.by_us, true) ELSE s.by_us END, "
" CASE WHEN k.user_id = s.user_id THEN k.base ELSE '{}' END || (coalesce(s.base, '{}') - s.drifted), "
" coalesce(k.hidden, '{}') || coalesce(s.hidden, '{}'), s.unkept, s.date_updated "
"FROM settled s JOIN @extschema@._lp_sync y ON y.id = s.sync "
"LEFT JOIN @extschema@._lp_sync_link k ON k.sync = s.sync AND k.source_key = s.source_key "
"WHERE s.state <> 'failed' AND s.user_id IS NOT NULL AND s.source_key IS NOT NULL "
" AND NOT s.unlinked "
"ON CONFLICT (sync, source_key) DO UPDATE SET user_id = excluded.user_id, "
" login_name = excluded.login_name, state = excluded.state, since = excluded.since, "
" by_us = excluded.by_us, base = excluded.base, hidden = excluded.hidden, "
" unkept = excluded.unkept, date_updated = excluded.date_updated";

/* In the transaction of the settlement, with SPI connected. */
void
lpu_sync_settled(const int64 *ids, int n)
{
	Oid			types[1] = {INT8ARRAYOID};
	Datum		values[1] = {lpu_queue_id_array(ids, n)};

	lpu_run(settle_sql, 1, types, values);
}

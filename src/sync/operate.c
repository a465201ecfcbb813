/*
 * operate.c: operator functions on syncs.
 *
 * No function here changes a user of the account. When a link is removed, the unsent requests of
 * its user are withdrawn. The caller must be able to act as the owner of the sync, which is locked.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"

#include "base/origin.h"
#include "base/spi_plan.h"
#include "options/server.h"
#include "queue/operate.h"
#include "queue/statement.h"
#include "sync/operate.h"

static void
run(const LpuSync *sync, const char *sql)
{
	Oid			types[1] = {INT8OID};
	Datum		values[1] = {Int64GetDatum(sync->id)};

	lpu_run(sql, 1, types, values);
}

/*
 * The items write no link any more. Those whose requests were withdrawn are superseded; those in
 * flight or in doubt are carried out, and count for the limits.
 */
static void
mark_unlinked(const LpuParameters *parameters)
{
	(void) lpu_run_once("UPDATE @extschema@._lp_sync_item i SET unlinked = true, "
						" state = CASE r.state WHEN 'superseded' THEN r.state ELSE i.state END "
						"FROM @extschema@.lp_requests r WHERE r.id = i.request AND i.sync = $1 "
						" AND ($2::text[] IS NULL OR i.source_key = ANY ($2)) "
						" AND i.state IN ('queued', 'failed')", parameters, NULL);
}

/*
 * Withdraw the requests of a sync for some keys, a text[], or all (0). One that replaced a request
 * of the sync, but is not of a plan, stays. Requests are locked before items, as by what replaces
 * them.
 */
static void
withdraw(const LpuSync *sync, Datum keys, const char *why)
{
	Oid			types[2] = {INT8OID, TEXTARRAYOID};
	Datum		values[2] = {Int64GetDatum(sync->id), keys};
	LpuParameters parameters = {2, types, values, keys == (Datum) 0 ? " n" : NULL};
	int64	   *ids;
	int			n;
	int			withdrawn = 0;

	(void) lpu_run_once("SELECT r.id FROM @extschema@._lp_sync_item i "
						"JOIN @extschema@.lp_requests r ON r.id = i.request WHERE i.sync = $1 "
						" AND ($2::text[] IS NULL OR i.source_key = ANY ($2)) AND r.plan IS NOT NULL "
						" AND r.state IN ('pending', 'held', 'sending', 'uncertain')",
						&parameters, NULL);
	ids = lpu_queue_ids(&n);
	if (n > 0)
		withdrawn = (int) lpu_withdraw(lpu_queue_id_array(ids, n), why);
	mark_unlinked(&parameters);
	if (n == 0)
		return;
	ereport(NOTICE,
			(errmsg_plural("%d queued request was withdrawn", "%d queued requests were withdrawn",
						   withdrawn, withdrawn),
			 withdrawn < n ? errdetail_plural("%d more may have been sent, and is carried out.",
											  "%d more may have been sent, and are carried out.",
											  n - withdrawn, n - withdrawn) : 0));
}

/* Remove the links of users; the users are not managed until a plan adopts them by login. */
int64
lpu_sync_unlink(const LpuSync *sync, Datum keys)
{
	Oid			types[2] = {INT8OID, TEXTARRAYOID};
	Datum		values[2] = {Int64GetDatum(sync->id), keys};

	withdraw(sync, keys, "withdrawn: the link was given up");

	lpu_run("DELETE FROM @extschema@._lp_sync_link l WHERE l.sync = $1 AND l.source_key = ANY ($2)",
			2, types, values);
	return (int64) SPI_processed;
}

/* Pause a sync. */
void
lpu_sync_pause(const LpuSync *sync)
{
	run(sync, "UPDATE @extschema@._lp_sync SET state = 'paused' WHERE id = $1");
}

/*
 * Find the watched tables of a sync by their names, in a database where it is not defined. $1 sync,
 * $2 origin here.
 */
static const char find_watched_sql[] =
"UPDATE @extschema@._lp_sync_watch w SET relation_oid = c.oid "
"FROM @extschema@._lp_sync s, pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n "
" ON n.oid = c.relnamespace "
"WHERE s.id = $1 AND w.sync = s.id AND NOT @extschema@._lp_is_here(s.origin, $2) "
" AND pg_catalog.parse_ident(w.relation) = ARRAY[n.nspname::text, c.relname::text]";

/*
 * Resume a sync, also after a quarantine and in a copy of the database. Unless the sync was only
 * paused, the list of the last plan is accepted as complete: a list that stays shorter could not be
 * applied otherwise. A shorter source is accepted by confirming a plan, not here. From now on this
 * database may change the account.
 */
void
lpu_sync_resume(const LpuSync *sync)
{
	const LpuOptions *options = lpu_sync_options(sync);
	Oid			types[5] = {INT8OID, TEXTOID, OIDOID, OIDOID, OIDOID};
	Datum		values[5] = {
		Int64GetDatum(sync->id), CStringGetTextDatum(lpu_origin_text()),
		ObjectIdGetDatum(options->server), ObjectIdGetDatum(sync->owner),
		ObjectIdGetDatum(sync->source)
	};

	lpu_run(find_watched_sql, 2, types, values);
	lpu_run("UPDATE @extschema@._lp_sync SET state = 'active', why = NULL, failures = 0, failed = false, "
			" base_listed = CASE WHEN state = 'paused' AND origin = $2 THEN base_listed ELSE listed END, "
			" origin = $2, server_oid = $3, owner_oid = $4, source_oid = $5 WHERE id = $1", 5, types, values);
}

/* Delete a sync with its plans and links. */
void
lpu_sync_drop(const LpuSync *sync)
{
	withdraw(sync, (Datum) 0, "withdrawn: the sync was dropped");
	run(sync, "DELETE FROM @extschema@._lp_sync_watch WHERE sync = $1");
	run(sync, "DELETE FROM @extschema@._lp_sync_mark WHERE sync = $1");
	run(sync, "DELETE FROM @extschema@._lp_sync_item WHERE sync = $1");
	run(sync, "DELETE FROM @extschema@._lp_sync_plan WHERE sync = $1");
	run(sync, "DELETE FROM @extschema@._lp_sync_link WHERE sync = $1");
	run(sync, "DELETE FROM @extschema@._lp_sync WHERE id = $1");
}

/*
 * operate.c: what people do with syncs.
 *
 * None of it touches a user of the account. The sync is locked, and the caller
 * may act as its owner.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"

#include "base/origin.h"
#include "base/spi_plan.h"
#include "options/server.h"
#include "sync/operate.h"

static void
run(const LpuSync *sync, const char *sql)
{
	Oid			types[1] = {INT8OID};
	Datum		values[1] = {Int64GetDatum(sync->id)};

	lpu_run(sql, 1, types, values);
}

/* The users are strangers from now on, until they are adopted by their login. */
int64
lpu_sync_unlink(const LpuSync *sync, Datum keys)
{
	Oid			types[2] = {INT8OID, TEXTARRAYOID};
	Datum		values[2] = {Int64GetDatum(sync->id), keys};

	lpu_run("DELETE FROM @extschema@._lp_sync_link l WHERE l.sync = $1 AND l.source_key = ANY ($2)",
			2, types, values);
	return (int64) SPI_processed;
}

void
lpu_sync_pause(const LpuSync *sync)
{
	run(sync, "UPDATE @extschema@._lp_sync SET state = 'paused' WHERE id = $1");
}

/*
 * Whoever resumes a sync has looked: what its guards compared with is
 * forgotten, and this database is the one that may change the account.
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

	lpu_run("UPDATE @extschema@._lp_sync SET state = 'active', why = NULL, failures = 0, "
			" base_rows = NULL, base_listed = NULL, origin = $2, server_oid = $3, owner_oid = $4, "
			" source_oid = $5 WHERE id = $1", 5, types, values);
}

void
lpu_sync_drop(const LpuSync *sync)
{
	run(sync, "DELETE FROM @extschema@._lp_sync_mark WHERE sync = $1");
	run(sync, "DELETE FROM @extschema@._lp_sync_item WHERE sync = $1");
	run(sync, "DELETE FROM @extschema@._lp_sync_plan WHERE sync = $1");
	run(sync, "DELETE FROM @extschema@._lp_sync_link WHERE sync = $1");
	run(sync, "DELETE FROM @extschema@._lp_sync WHERE id = $1");
}

/*
 * run.c: a run of a sync: plan, and apply what is within the limits.
 *
 * The sync is locked from the beginning, so that two runs of a sync are serialized. A failed run is
 * rolled back and recorded, as is a run whose plan is held; after three in a row the sync is
 * quarantined. Marks (mark.c) are read before the source, and exactly these are deleted, by id,
 * after a successful run: a change committed later has a mark of its own.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "base/origin.h"
#include "base/spi_plan.h"
#include "sync/definition.h"
#include "sync/mark.h"
#include "sync/plan.h"
#include "sync/run.h"

/* Number of consecutive held or failed runs after which a sync is quarantined. */
#define MAX_FAILURES 3

/* Syncs that may not be run are left out. */
List *
lpu_sync_names(void)
{
	List	   *names = NIL;
	Oid			types[2] = {OIDOID, TEXTOID};
	Datum		values[2] = {ObjectIdGetDatum(GetUserId()), CStringGetTextDatum(lpu_origin_text())};
	int			i;

	lpu_run("SELECT s.name FROM @extschema@._lp_sync s WHERE pg_catalog.pg_has_role($1, "
			" @extschema@._lp_role_here(s.origin, $2, s.owner_oid, s.owner), 'USAGE') "
			"ORDER BY s.name", 2, types, values);
	for (i = 0; i < (int) SPI_processed; i++)
		names = lappend(names, lpu_text_column(i, 1));
	return names;
}

/* ----- one run ----- */

/* Report the result of a plan as a NOTICE. */
static void
tell(const LpuSync *sync, int64 plan)
{
	Oid			types[1] = {INT8OID};
	Datum		values[1] = {Int64GetDatum(plan)};

	lpu_run("SELECT count(*) FILTER (WHERE i.state IN ('queued', 'done')), "
			" count(*) FILTER (WHERE i.state = 'held'), count(*) FILTER (WHERE i.state = 'stale'), "
			" count(*) FILTER (WHERE i.state = 'blocked'), count(*) FILTER (WHERE i.state = 'wait') "
			"FROM @extschema@._lp_sync_item i WHERE i.plan = $1 AND i.action <> 'follow'",
			1, types, values);
	ereport(NOTICE,
			(errmsg("sync \"%s\", plan %lld: %lld queued, %lld held, %lld stale, %lld blocked, "
					"%lld waiting", sync->name, (long long) plan,
					(long long) lpu_int64_column(0, 1), (long long) lpu_int64_column(0, 2),
					(long long) lpu_int64_column(0, 3), (long long) lpu_int64_column(0, 4),
					(long long) lpu_int64_column(0, 5))));
}

/*
 * Count a held or failed run; the third one quarantines the sync. A run of some keys is not
 * counted, and its reason is stored only if no run of all keys has failed.
 */
static void
count_failure(const char *name, const char *why, bool whole)
{
	Oid			types[3] = {TEXTOID, TEXTOID, INT4OID};
	Datum		values[3] = {CStringGetTextDatum(name), CStringGetTextDatum(why),
	Int32GetDatum(MAX_FAILURES)};

	if (!whole)
	{
		lpu_run("UPDATE @extschema@._lp_sync SET why = $2 WHERE name = $1 AND failures = 0 "
				" AND state = 'active'", 2, types, values);
		return;
	}

	lpu_run("UPDATE @extschema@._lp_sync SET failures = failures + 1, why = $2, "
			" state = CASE WHEN state = 'active' AND failures + 1 >= $3 THEN 'quarantined' "
			"  ELSE state END WHERE name = $1 RETURNING state = 'quarantined'", 3, types, values);
	if (SPI_processed > 0 && lpu_bool_column(0, 1))
		ereport(NOTICE,
				(errmsg("sync \"%s\" is quarantined", name),
				 errdetail("%d runs in a row were held or failed.", MAX_FAILURES),
				 errhint("Call lp_sync_resume() when the cause is mended.")));
}

/*
 * Record a successful run; "note" is a remark to be stored, or NULL. A run of some keys does not
 * reset the failures of runs of all keys.
 */
static void
count_success(const LpuSync *sync, const char *note, bool whole)
{
	Oid			types[3] = {INT8OID, TEXTOID, BOOLOID};
	Datum		values[3] = {
		Int64GetDatum(sync->id), CStringGetTextDatum(note ? note : ""), BoolGetDatum(whole)
	};

	lpu_run("UPDATE @extschema@._lp_sync SET failures = 0, why = nullif($2, '') WHERE id = $1 "
			" AND ((failures > 0 AND $3) OR (why IS DISTINCT FROM nullif($2, '') AND (failures = 0 OR $3)))",
			3, types, values);
}

/* The keys changed in a watched table are unknown: the run checks all keys. */
static const char *
note_everything(const LpuSync *sync, const LpuSyncMarks *marks)
{
	ereport(WARNING,
			(errmsg("sync \"%s\" looks at all keys: %s", sync->name, marks->everything),
			 errhint("If the table has changed, call lp_sync_unwatch() and lp_sync_watch() again.")));
	return psprintf("looked at all keys: %s", marks->everything);
}

/* Report that a sync is quarantined, which is why it does not run. */
static void
tell_quarantined(const LpuSync *sync, int level)
{
	ereport(level,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("sync \"%s\" is quarantined", sync->name),
			 sync->why != NULL ? errdetail("The last run: %s", sync->why) : 0,
			 errhint("Call lp_sync_resume() when the cause is mended.")));
}

static void
run_statement(const char *name, bool watched)
{
	LpuSync    *sync = lpu_sync_named(name, true);
	LpuSyncPlanned planned;
	LpuSyncMarks marks;
	const char *note = NULL;
	bool		whole;

	if (strcmp(sync->state, "quarantined") == 0)
	{
		tell_quarantined(sync, WARNING);
		return;
	}
	if (strcmp(sync->state, "active") != 0 || !sync->here)
	{
		ereport(NOTICE,
				(errmsg("sync \"%s\" is %s", name,
						sync->here ? sync->state : "of another database"),
				 errhint("Call lp_sync_resume() to go on.")));
		return;
	}
	lpu_sync_refresh_names(sync);
	lpu_sync_read_marks(sync, !watched, &marks);
	if (watched && marks.nkeys == 0 && marks.everything == NULL)
	{
		lpu_sync_remove_marks(sync, &marks, 0);
		return;
	}
	if (marks.everything != NULL)
		note = note_everything(sync, &marks);
	whole = !watched || note != NULL;
	lpu_sync_plan(sync, whole ? (Datum) 0 : marks.keys, &planned);
	if (planned.guard != NULL)
	{
		ereport(WARNING,
				(errmsg("sync \"%s\", plan %lld is held: %s", name, (long long) planned.id,
						planned.reason)));
		count_failure(name, planned.reason, whole);
		return;
	}
	lpu_sync_apply(planned.id, NULL, NULL);
	lpu_sync_remove_marks(sync, &marks, planned.id);
	count_success(sync, note, whole);
	tell(sync, planned.id);
}

/* An error in one line, with its hint. */
static const char *
describe_error(const ErrorData *error)
{
	const char *message = error->message ? error->message : "unknown error";

	return error->hint ? psprintf("%s (%s)", message, error->hint) : message;
}

/* Return true for errors that the sync did not cause. */
static bool
is_interruption(const ErrorData *error)
{
	return ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION;
}

/*
 * Run a sync in a subtransaction, with SPI connected; with watched, only the keys that are
 * marked. Return NULL, or the error by which it failed, allocated in the current memory context.
 * A run that was held or failed is recorded in the row of the sync. Raises if there is no such
 * sync, or the current user may not act as its owner; 55000 if it is quarantined and alone.
 */
ErrorData *
lpu_sync_run(const char *name, bool watched, bool alone)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;
	LpuSync    *sync;

	/* missing rights of the caller are not a failure of the sync */
	sync = lpu_sync_named(name, false);
	if (alone && strcmp(sync->state, "quarantined") == 0)
		tell_quarantined(sync, ERROR);
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		/* a separate SPI connection, to free the memory at the end of the run */
		SPI_connect();
		run_statement(name, watched);
		SPI_finish();
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(caller);
		CurrentResourceOwner = owner;
		if (is_interruption(error))
			ReThrowError(error);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	if (error != NULL)
		count_failure(name, describe_error(error), !watched);
	return error;
}

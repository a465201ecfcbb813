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
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "base/encoding.h"
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
 * Count a held or failed run; the third one quarantines the sync. A run of some keys, or one that
 * waited for a lock, is not counted ("whole" is false), and its reason is stored only if no counted
 * run has failed. Nothing is stored while another transaction has locked the sync.
 */
static void
count_failure(const LpuSync *sync, const char *why, bool whole)
{
	Oid			types[3] = {INT8OID, TEXTOID, INT4OID};
	Datum		values[3] = {Int64GetDatum(sync->id), CStringGetTextDatum(why),
	Int32GetDatum(MAX_FAILURES)};

	if (!whole)
	{
		lpu_run("WITH free AS MATERIALIZED (SELECT s.id FROM @extschema@._lp_sync s WHERE s.id = $1 "
				" FOR UPDATE SKIP LOCKED) "
				"UPDATE @extschema@._lp_sync s SET failed = true, why = $2 FROM free f WHERE s.id = f.id "
				" AND s.failures = 0 AND s.state = 'active'", 2, types, values);
		return;
	}

	lpu_run("WITH free AS MATERIALIZED (SELECT s.id FROM @extschema@._lp_sync s WHERE s.id = $1 "
			" FOR UPDATE SKIP LOCKED) "
			"UPDATE @extschema@._lp_sync s SET failures = s.failures + 1, why = $2, "
			" state = CASE WHEN s.state = 'active' AND s.failures + 1 >= $3 THEN 'quarantined' "
			"  ELSE s.state END FROM free f WHERE s.id = f.id RETURNING s.state = 'quarantined'",
			3, types, values);
	if (SPI_processed > 0 && lpu_bool_column(0, 1))
		ereport(NOTICE,
				(errmsg("sync \"%s\" is quarantined", sync->name),
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

	lpu_run("UPDATE @extschema@._lp_sync SET failures = 0, failed = false, why = nullif($2, '') "
			"WHERE id = $1 AND (failures = 0 OR $3) "
			" AND (failures > 0 OR failed OR why IS DISTINCT FROM nullif($2, ''))",
			3, types, values);
}

/* Nothing is marked: a run that failed, and was not counted, has left nothing. */
static void
forget_failure(const LpuSync *sync)
{
	Oid			types[1] = {INT8OID};
	Datum		values[1] = {Int64GetDatum(sync->id)};

	lpu_run("UPDATE @extschema@._lp_sync SET failed = false, why = NULL WHERE id = $1 AND failed",
			1, types, values);
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
		forget_failure(sync);
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
		count_failure(sync, planned.reason, whole);
		return;
	}
	lpu_sync_apply(planned.id, NULL, NULL);
	lpu_sync_remove_marks(sync, &marks, planned.id);
	count_success(sync, note, whole);
	tell(sync, planned.id);
}

/* Clean the texts of an error: functions of the source may have written them. */
static void
clean_error(ErrorData *error)
{
	char	  **texts[] = {&error->message, &error->detail, &error->hint, &error->context};
	int			i;

	for (i = 0; i < lengthof(texts); i++)
		if (*texts[i] != NULL)
			*texts[i] = lpu_text_of_stranger(*texts[i]);
}

/* An error in one line, with its hint. */
static const char *
describe_error(const ErrorData *error)
{
	const char *message = error->message ? error->message : "unknown error";

	return error->hint ? psprintf("%s (%s)", message, error->hint) : message;
}

/*
 * Return true if the backend was interrupted. The SQLSTATE alone does not show it: a function of
 * the source can raise any. A terminated backend does not come here.
 */
static bool
is_interruption(const ErrorData *error)
{
	return ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION &&
		error->funcname != NULL && strcmp(error->funcname, "ProcessInterrupts") == 0;
}

/*
 * Return the sync to run, or NULL if it is gone since its name was read. If it is to be run alone,
 * missing rights of the caller are raised, and 55000 if it is quarantined.
 */
static LpuSync *
find_to_run(const char *name, bool alone)
{
	LpuSync    *sync = alone ? lpu_sync_named(name, false) : lpu_sync_find(name, false);

	if (alone && strcmp(sync->state, "quarantined") == 0)
		tell_quarantined(sync, ERROR);
	return sync != NULL && lpu_sync_may_use(sync) ? sync : NULL;
}

/* Wait for locks at most this long from now on, unless lock_timeout is shorter. */
static int
limit_waiting(int timeout_ms)
{
	int			level = NewGUCNestLevel();

	if (LockTimeout == 0 || LockTimeout > timeout_ms)
		(void) set_config_option("lock_timeout", psprintf("%d", timeout_ms), PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	return level;
}

/*
 * Run a sync in a subtransaction, which is rolled back on an error. Return that error, allocated in
 * the current memory context, or NULL. An interruption is raised.
 */
static ErrorData *
run_in_subtransaction(const char *name, bool watched)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

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
	return error;
}

/*
 * Run a sync in a subtransaction, with SPI connected; with watched, only the keys that are marked.
 * Return NULL, or the error by which it failed, allocated in the current memory context. A run that
 * was held or failed is recorded in the row of the sync. Waits at most timeout_ms for each lock:
 * 55P03 is such an error. Raises if the sync is to be run alone and there is none, or the current
 * user may not act as its owner, or (55000) it is quarantined.
 */
ErrorData *
lpu_sync_run(const char *name, bool watched, bool alone, int timeout_ms)
{
	LpuSync    *sync = find_to_run(name, alone);
	ErrorData  *error;
	int			level;

	if (sync == NULL)
		return NULL;
	level = limit_waiting(timeout_ms);
	error = run_in_subtransaction(name, watched);
	AtEOXact_GUC(false, level);
	if (error != NULL)
	{
		clean_error(error);
		count_failure(sync, describe_error(error),
					  !watched && error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE);
	}
	return error;
}

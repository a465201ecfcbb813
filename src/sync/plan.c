/*
 * plan.c: differences that are kept, to be applied later.
 *
 * A plan is a row of _lp_sync_plan, and one of _lp_sync_item for each user that
 * differs: an account in sync has none. What was found is also written into
 * the row of the sync, for lp_syncs. A plan whose sides cannot be trusted (a
 * source or a listing that came back short, many duplicates) is made, so that
 * it can be looked at, and marked so that it is not applied.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/guc.h"
#include "base/spi_plan.h"
#include "queue/statement.h"
#include "sync/difference.h"
#include "sync/plan.h"

/* Guards ask from so many rows on: of few people, one is a large part. */
#define MIN_GUARDED 5

/* What was there last time, and how many users are linked. */
typedef struct SyncBase
{
	int64		rows;
	int64		listed;			/* 0: unknown */
	int64		linked;
} SyncBase;

/* ----- what was before ----- */

/*
 * Write down what lp_sync_changes shows: requests that are discarded, replaced
 * by others or tried again settle no item by themselves, nor do those whose
 * item or link was locked when they were settled.
 */
void
lpu_sync_settle_items(const LpuSync *sync)
{
	Oid			types[1] = {INT8OID};
	Datum		values[1] = {Int64GetDatum(sync->id)};

	int64	   *passed_over;
	int			n;

	lpu_run("SELECT i.request FROM @extschema@._lp_sync_item i "
			"JOIN @extschema@.lp_requests r ON r.id = i.request "
			"WHERE i.sync = $1 AND i.state = 'queued' AND r.state IN ('created', 'done', 'failed')",
			1, types, values);
	passed_over = lpu_queue_ids(&n);
	if (n > 0)
		lpu_sync_settled(passed_over, n);
	lpu_run("UPDATE @extschema@._lp_sync_item i "
			"SET state = @extschema@._lp_sync_item_state(j.state, r.state) "
			"FROM @extschema@._lp_sync_item j "
			"LEFT JOIN @extschema@.lp_requests r ON r.id = j.request "
			"WHERE i.id = j.id AND j.sync = $1 AND j.request IS NOT NULL "
			" AND coalesce(r.state, '') NOT IN ('created', 'done') "
			" AND j.state <> @extschema@._lp_sync_item_state(j.state, r.state)", 1, types, values);
}

/*
 * Plans that are as old as the requests that are purged. Those that are younger than a day, or have
 * items that were applied in the last one or have not ended, are kept: they count for the limits.
 */
static void
forget_old_plans(const LpuSync *sync)
{
	Oid			types[2] = {INT8OID, INT4OID};
	Datum		values[2] = {
		Int64GetDatum(sync->id), Int32GetDatum(Max(lpu_retention, SECS_PER_DAY))
	};

	lpu_run("WITH old AS (DELETE FROM @extschema@._lp_sync_plan p WHERE p.sync = $1 "
			"  AND p.made_at < clock_timestamp() - $2 * interval '1 second' "
			"  AND NOT EXISTS (SELECT FROM @extschema@._lp_sync_item i "
			"   LEFT JOIN @extschema@.lp_requests r ON r.id = i.request WHERE i.plan = p.id "
			"    AND (i.queued_at > clock_timestamp() - interval '24 hours' "
			"     OR r.state IN ('pending', 'held', 'sending', 'uncertain'))) RETURNING p.id) "
			"DELETE FROM @extschema@._lp_sync_item i USING old WHERE i.plan = old.id",
			2, types, values);
}

/*
 * The list of a first run is that of before its creates: what was created and deleted since the
 * list is counted, too. From here the sync is locked: while the sides were read it may have been
 * dropped, which raises 42704, or defined anew.
 */
static void
read_base(const LpuSync *sync, SyncBase *base)
{
	Oid			types[1] = {INT8OID};
	Datum		values[1] = {Int64GetDatum(sync->id)};

	lpu_run("SELECT coalesce(s.base_rows, 0), coalesce(greatest(s.base_listed + "
			"  (SELECT count(*) FILTER (WHERE i.action <> 'delete') "
			"    - count(*) FILTER (WHERE i.action = 'delete') "
			"   FROM @extschema@._lp_sync_item i JOIN @extschema@.lp_requests r ON r.id = i.request "
			"   WHERE i.sync = s.id AND i.action IN ('create', 'recreate', 'delete') "
			"    AND i.state = 'done' AND r.finished_at > s.last_run), 0), 0), "
			" (SELECT count(*) FROM @extschema@._lp_sync_link l "
			"  WHERE l.sync = s.id AND l.state <> 'gone') "
			"FROM @extschema@._lp_sync s WHERE s.id = $1 FOR UPDATE OF s", 1, types, values);
	if (SPI_processed == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("sync \"%s\" does not exist", sync->name),
				 errdetail("It was dropped while the plan was made.")));
	base->rows = lpu_int64_column(0, 1);
	base->listed = lpu_int64_column(0, 2);
	base->linked = lpu_int64_column(0, 3);
}

/* ----- guards ----- */

/* An empty source means a mistake, if it was not empty before. */
static void
check_not_empty(const LpuSync *sync, const LpuSyncRows *source, const SyncBase *base)
{
	if (source->count > 0 || Max(base->rows, base->linked) < MIN_GUARDED)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("source %s of sync \"%s\" is empty", sync->source_name, sync->name),
			 errdetail_plural("The sync has %lld user, and would disable it.",
							  "The sync has %lld users, and would disable all of them.",
							  (unsigned long) base->linked, (long long) base->linked),
			 errhint("Check that role \"%s\" sees the rows of the source.", sync->owner_name)));
}

static bool
is_short(int64 count, int64 base)
{
	return base >= MIN_GUARDED && count * 10 < base * 8;
}

static void
choose_guard(LpuSyncPlanned *planned, const LpuSyncSides *sides, const SyncBase *base,
			 int64 duplicates, bool whole)
{
	int64		rows = sides->source->count;
	int64		listed = sides->account->count;

	/*
	 * this cannot be right, also if only some keys are planned, or nothing is
	 * known of before
	 */
	if (listed == 0 && base->linked > 0)
	{
		planned->guard = "listing";
		planned->reason = psprintf("the account's list is empty: no user, and %lld linked",
								   (long long) base->linked);
	}
	else if (!whole)
		return;
	else if (is_short(listed, base->listed))
	{
		planned->guard = "listing";
		planned->reason = psprintf("the account's list is short: %lld users after %lld",
								   (long long) listed, (long long) base->listed);
	}
	else if (rows >= MIN_GUARDED && duplicates * 100 > rows)
	{
		planned->guard = "duplicates";
		planned->reason = psprintf("%lld of %lld rows of the source are duplicates",
								   (long long) duplicates, (long long) rows);
	}
	else if (is_short(rows, base->rows))
	{
		planned->guard = "source";
		planned->reason = psprintf("the source is short: %lld rows after %lld", (long long) rows,
								   (long long) base->rows);
	}
}

/* ----- writing ----- */

static int64
insert_plan(const LpuSync *sync, const LpuSyncSides *sides, Datum keys)
{
	Oid			types[6] = {INT8OID, TEXTOID, TEXTARRAYOID, INT8OID, INT8OID, INT8OID};
	Datum		values[6] = {
		Int64GetDatum(sync->id), CStringGetTextDatum(GetUserNameFromId(GetUserId(), false)),
		keys, Int64GetDatum(sides->source->count),
		Int64GetDatum(sides->account->count), Int64GetDatum(sync->version)
	};
	LpuParameters parameters = {6, types, values, keys == (Datum) 0 ? "  n   " : NULL};

	(void) lpu_run_once("INSERT INTO @extschema@._lp_sync_plan (sync, made_by, whole, keys, source_rows, listed, "
						" version) VALUES ($1, $2, $3 IS NULL, $3, $4, $5, $6) RETURNING id", &parameters, NULL);
	return lpu_int64_column(0, 1);
}

/*
 * The items, who needs the login of another user after that one: they are
 * queued in this order. The result has one row, of numbers.
 */
static const char items_sql[] =
", item AS (INSERT INTO @extschema@._lp_sync_item (plan, sync, action, source_key, user_id, "
"  login_name, changes, source, base, hidden, date_updated, reason, state) "
" SELECT $4, $1, d.action, d.source_key, d.user_id, d.login_name, d.changes, d.source, d.base, "
"  d.hidden, d.date_updated, d.reason, CASE d.action WHEN 'wait' THEN 'wait' "
"   WHEN 'blocked' THEN 'blocked' WHEN 'report' THEN 'reported' ELSE 'planned' END "
" FROM decided d WHERE d.action <> 'unverifiable' ORDER BY d.depth, d.action, d.source_key) "
"SELECT count(*) FILTER (WHERE d.action NOT IN ('wait', 'blocked', 'follow', 'unverifiable')), "
" count(*) FILTER (WHERE d.action = 'wait'), count(*) FILTER (WHERE d.action = 'blocked'), "
" count(*) FILTER (WHERE d.action = 'unverifiable'), "
" count(*) FILTER (WHERE d.action = 'blocked' AND d.duplicate) FROM decided d";

/*
 * What a plan of all keys found, in the row of the sync. If the sync was defined anew while the
 * plan was made, there is no plan of this definition yet.
 */
static void
update_sync(const LpuSync *sync, const LpuSyncSides *sides, const int64 *counts,
			const LpuSyncPlanned *planned, const SyncBase *base)
{
	bool		is_listing = planned->guard != NULL && strcmp(planned->guard, "listing") == 0;
	Oid			types[10] = {INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID,
	INT8OID, INT8OID};
	Datum		values[10] = {
		Int64GetDatum(sync->id), Int64GetDatum(sides->source->count),
		Int64GetDatum(sides->account->count), Int64GetDatum(counts[0]), Int64GetDatum(counts[1]),
		Int64GetDatum(counts[2]), Int64GetDatum(counts[3]),
		Int64GetDatum(is_listing ? base->listed : sides->account->count),
		Int64GetDatum(planned->id), Int64GetDatum(sync->version)
	};

	lpu_run("UPDATE @extschema@._lp_sync SET last_run = clock_timestamp(), source_rows = $2, "
			" listed = $3, differing = $4, waiting = $5, blocked = $6, unverifiable = $7, "
			" base_listed = $8, last_plan = CASE WHEN version = $10 THEN $9 END WHERE id = $1",
			10, types, values);
}

static void
mark_guarded(const LpuSyncPlanned *planned)
{
	Oid			types[3] = {INT8OID, TEXTOID, TEXTOID};
	Datum		values[3] = {Int64GetDatum(planned->id), CStringGetTextDatum(planned->guard),
	CStringGetTextDatum(planned->reason)};

	lpu_run("UPDATE @extschema@._lp_sync_plan SET guard = $2, reason = $3 WHERE id = $1",
			3, types, values);
}

/*
 * Raises what reading source and account raises, and 22023 if the source is
 * empty though it was not. The plan is part of the caller's transaction.
 */
void
lpu_sync_plan(LpuSync *sync, Datum keys, LpuSyncPlanned *planned)
{
	LpuSyncSides sides;
	SyncBase	base;
	bool		whole = keys == (Datum) 0;
	int64		counts[5];
	int			i;

	memset(planned, 0, sizeof(LpuSyncPlanned));
	lpu_sync_settle_items(sync);
	forget_old_plans(sync);
	lpu_sync_read_sides(&sides, sync, InvalidOid);
	read_base(sync, &base);
	check_not_empty(sync, sides.source, &base);
	planned->id = insert_plan(sync, &sides, keys);
	(void) lpu_sync_run_decided(&sides, items_sql, keys, planned->id, NULL);
	for (i = 0; i < lengthof(counts); i++)
		counts[i] = lpu_int64_column(0, i + 1);
	lpu_sync_forget_sides(&sides);
	choose_guard(planned, &sides, &base, counts[4], whole);
	if (planned->guard != NULL)
		mark_guarded(planned);
	if (whole)
		update_sync(sync, &sides, counts, planned, &base);
}

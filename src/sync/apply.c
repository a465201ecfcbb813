/*
 * apply.c: putting a plan into the queue.
 *
 * All of it is one transaction, the caller's, under a lock on the row of the
 * sync. The source is read again, as its owner, for the users of the plan: an
 * item whose row is not as it was planned is left as stale, so that nothing is
 * applied with other values than were shown. What is only sent with a create is
 * read now, and kept nowhere but in the payload of the request. The account's
 * side is checked by the deliverer, user by user, at the moment it acts.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/account_lock.h"
#include "base/spi_plan.h"
#include "sync/applied_plan.h"
#include "sync/comparison.h"
#include "sync/plan.h"

/* ----- whether it may be applied ----- */

static void
raise_state(const char *message, const char *detail, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("%s", message),
			 detail != NULL ? errdetail("%s", detail) : 0,
			 hint != NULL ? errhint("%s", hint) : 0));
}

/*
 * What is checked after the lock of the sync must see what was committed before
 * it was granted. A transaction with one snapshot for all of its statements
 * does not.
 */
static void
check_isolation(void)
{
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot apply a plan in a transaction whose isolation level is %s",
						IsolationIsSerializable() ? "SERIALIZABLE" : "REPEATABLE READ"),
				 errdetail("Its snapshot may be older than what has been queued since. Nothing was queued."),
				 errhint("Use isolation level READ COMMITTED.")));
}

static void
raise_no_plan(const LpuAppliedPlan *plan)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("plan %lld does not exist", (long long) plan->id)));
}

/*
 * The sync, and other plans for its account, are locked before the state of the plan is read: a run
 * that held the lock may have deleted an old plan.
 */
static void
read_plan(LpuAppliedPlan *plan)
{
	Oid			types[1] = {INT8OID};
	Datum		values[1] = {Int64GetDatum(plan->id)};
	int64		sync = 0;

	lpu_run("SELECT p.sync FROM @extschema@._lp_sync_plan p WHERE p.id = $1", 1, types, values);
	if (SPI_processed > 0)
		sync = lpu_int64_column(0, 1);
	plan->sync = sync != 0 ? lpu_sync_by_id(sync, true) : NULL;
	if (plan->sync == NULL)
		raise_no_plan(plan);
	lpu_sync_check_rights(plan->sync);
	lpu_lock_plans(plan->sync->server, plan->sync->account);
	lpu_run("SELECT CASE WHEN (p.version <> s.version "
			"   OR p.made_at < clock_timestamp() - interval '24 hours') AND (p.state = 'draft' "
			"   OR p.state = 'applied' AND EXISTS (SELECT FROM @extschema@._lp_sync_item i "
			"    WHERE i.plan = p.id AND i.state IN ('planned', 'held'))) THEN 'expired' ELSE p.state END, "
			"  p.guard, p.reason, p.whole, p.source_rows "
			"FROM @extschema@._lp_sync_plan p JOIN @extschema@._lp_sync s ON s.id = p.sync "
			"WHERE p.id = $1", 1, types, values);
	if (SPI_processed == 0)
		raise_no_plan(plan);
	plan->state = lpu_text_column(0, 1);
	plan->guard = lpu_text_column(0, 2);
	plan->reason = lpu_text_column(0, 3);
	plan->whole = lpu_bool_column(0, 4);
	plan->source_rows = lpu_int64_column(0, 5);
}

static bool
has_items_left(const LpuAppliedPlan *plan)
{
	lpu_applied_run(plan, "SELECT FROM @extschema@._lp_sync_item i "
					"WHERE i.plan = $1 AND i.sync = $2 AND i.state IN ('planned', 'held') LIMIT 1");
	return SPI_processed > 0;
}

static void
check_state(const LpuAppliedPlan *plan)
{
	const LpuSync *sync = plan->sync;

	if (strcmp(sync->state, "active") != 0)
		raise_state(psprintf("sync \"%s\" is %s", sync->name, sync->state), sync->why,
					"Call lp_sync_resume() to go on.");
	if (!sync->here)
		raise_state(psprintf("sync \"%s\" was defined in another database", sync->name),
					"This database is a copy, or was promoted.",
					"If this is the one that may change the account, call lp_sync_resume().");
	if (strcmp(plan->state, "superseded") == 0)
		raise_state(psprintf("plan %lld is superseded", (long long) plan->id),
					"A newer plan of the sync was applied.", "Make a new plan.");
	if (strcmp(plan->state, "expired") == 0)
		raise_state(psprintf("plan %lld has expired", (long long) plan->id),
					"A plan can be applied for 24 hours, and while the sync is defined as it was.",
					"Make a new plan.");
	if (strcmp(plan->state, "applied") == 0 && !has_items_left(plan))
		raise_state(psprintf("plan %lld was applied already", (long long) plan->id), NULL, NULL);
}

/* ----- what is confirmed ----- */

/* The plan's numbers by action, as JSON: what confirms all of it. */
static char *
numbers_of(const LpuAppliedPlan *plan, bool left_only)
{
	lpu_applied_run(plan, left_only ?
					"SELECT coalesce(jsonb_object_agg(n.action, n.users), '{}')::text FROM (SELECT i.action, "
					"  count(*) AS users FROM @extschema@._lp_sync_item i WHERE i.plan = $1 AND i.sync = $2 "
					"  AND i.action <> 'follow' GROUP BY i.action "
					"  HAVING bool_or(i.state IN ('planned', 'held'))) n" :
					"SELECT coalesce(jsonb_object_agg(n.action, n.users), '{}')::text FROM (SELECT i.action, "
					"  count(*) AS users FROM @extschema@._lp_sync_item i WHERE i.plan = $1 AND i.sync = $2 "
					"  AND i.action <> 'follow' GROUP BY i.action) n");
	return lpu_text_column(0, 1);
}

static int64
number_in(const char *numbers, const char *action)
{
	Jsonb	   *object = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(numbers)));
	JsonbValue	value;
	int64		number = 0;

	if (lpu_jsonb_get_member(&object->root, action, &value) != NULL)
		(void) lpu_value_as_int64(&value, &number);
	return number;
}

static void
raise_confirm(const char *detail, const char *nearest)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for parameter \"confirm\""),
			 errdetail("%s Nothing was queued.", detail),
			 nearest != NULL ? errhint("Perhaps you meant \"%s\".", nearest) : 0));
}

/* Each number must be that of the plan, so that what is confirmed is what was seen. */
static void
check_confirm(const LpuAppliedPlan *plan, Jsonb *confirm)
{
	char	   *numbers;
	JsonbIterator *it;
	JsonbValue	value;

	if (confirm == NULL)
		return;
	if (!JB_ROOT_IS_OBJECT(confirm))
		raise_confirm("It must be an object of actions and numbers of users.", NULL);
	numbers = numbers_of(plan, false);
	it = JsonbIteratorInit(&confirm->root);
	(void) JsonbIteratorNext(&it, &value, true);
	while (JsonbIteratorNext(&it, &value, true) == WJB_KEY)
	{
		char	   *action = pnstrdup(value.val.string.val, value.val.string.len);
		const char *nearest;
		int64		number;

		if (!lpu_sync_is_action(action, false, &nearest))
			raise_confirm(psprintf("There is no action \"%s\".", action), nearest);
		(void) JsonbIteratorNext(&it, &value, true);
		if (value.type != jbvNumeric || !lpu_value_as_int64(&value, &number) || number < 0)
			raise_confirm(psprintf("\"%s\" must be a non-negative whole number.", action), NULL);
		if (number != number_in(numbers, action))
			raise_confirm(psprintf("The plan has \"%s\" for %lld users, not %lld.", action,
								   (long long) number_in(numbers, action), (long long) number),
						  NULL);
	}
}

/* A source that came back short may be right; a listing or duplicates need another plan. */
static void
check_guard(const LpuAppliedPlan *plan, Jsonb *confirm)
{
	char	   *numbers;
	Jsonb	   *object;
	JsonbIterator *it;
	JsonbValue	value;
	JsonbValue	stated;
	bool		all = confirm != NULL;

	if (plan->guard == NULL)
		return;
	if (strcmp(plan->guard, "source") != 0)
		raise_state(psprintf("plan %lld is held", (long long) plan->id), plan->reason,
					"Make a new plan when that is mended.");
	numbers = numbers_of(plan, true);
	object = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(numbers)));
	it = JsonbIteratorInit(&object->root);
	(void) JsonbIteratorNext(&it, &value, true);
	while (all && JsonbIteratorNext(&it, &value, true) == WJB_KEY)
	{
		char	   *action = pnstrdup(value.val.string.val, value.val.string.len);

		all = lpu_jsonb_get_member(&confirm->root, action, &stated) != NULL;
		(void) JsonbIteratorNext(&it, &value, true);
	}
	if (!all)
		raise_state(psprintf("plan %lld is held", (long long) plan->id), plan->reason,
					psprintf("If that is right, confirm all numbers: confirm => '%s'.", numbers));
}

/* ----- the source, once more ----- */

/*
 * The keys of what is left, and of leavers who wait; 0 if all rows are needed, to see that leavers
 * have not come back.
 */
static Datum
keys_left(LpuAppliedPlan *plan)
{
	bool		isnull;
	Datum		keys;

	lpu_applied_run(plan, "SELECT CASE WHEN bool_and(i.source IS NOT NULL OR i.state = 'wait') "
					"  THEN array_agg(DISTINCT k.key) END, coalesce(bool_or(i.state = 'wait'), false) "
					"FROM @extschema@._lp_sync_item i, unnest(ARRAY[i.source_key::text, "
					"  CASE i.action WHEN 'relink' THEN i.changes -> 0 ->> 'from' END]) k (key) "
					"WHERE i.plan = $1 AND i.sync = $2 AND (i.state IN ('planned', 'held') "
					" OR (i.state = 'wait' AND i.source IS NULL))");
	plan->withdraws = lpu_bool_column(0, 2);
	keys = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	return isnull ? (Datum) 0 : PointerGetDatum(DatumGetArrayTypePCopy(keys));
}

static void
read_source(LpuAppliedPlan *plan)
{
	lpu_sync_read_columns(plan->sync);
	plan->source = lpu_sync_read_source(plan->sync, true, keys_left(plan), NULL);
	lpu_sync_register(plan->source, "_source");
}

/*
 * An item is stale if the source is not as it was planned, if its key was
 * queued meanwhile, or if its key or user is not linked as it was. A new key of
 * a person is that only while the old one is not in the source.
 */
static void
mark_stale_links(const LpuAppliedPlan *plan)
{
	static const char sql[] =
	"WITH queued AS MATERIALIZED (SELECT o.source_key FROM @extschema@._lp_sync_item o "
	"  JOIN @extschema@._lp_sync_plan p ON p.id = $1 "
	"  WHERE o.sync = $2 AND o.plan <> $1 AND o.source_key IS NOT NULL AND o.queued_at IS NOT NULL "
	"   AND (o.plan > $1 OR o.state = 'queued' OR o.queued_at > p.made_at)) "
	"UPDATE @extschema@._lp_sync_item i SET state = 'stale' "
	"FROM @extschema@._lp_sync_item j "
	"LEFT JOIN (SELECT s.key, count(*) AS n, (array_agg(%s))[1] AS source "
	"  FROM _source s GROUP BY s.key) c ON c.key = j.source_key "
	"WHERE i.id = j.id AND j.plan = $1 AND j.sync = $2 AND j.state IN ('planned', 'held') "
	" AND (j.source IS DISTINCT FROM c.source OR c.n > 1 "
	"  OR (j.source IS NULL AND @extschema@._lp_sync_fold(j.login_name COLLATE \"C\") IN "
	"   (SELECT s.login FROM _source s LEFT JOIN @extschema@._lp_sync_link l ON l.sync = $2 "
	"      AND l.source_key = s.key AND l.state <> 'gone' "
	"     WHERE s.login IS NOT NULL AND l.source_key IS NULL)) "
	"  OR j.source_key IN (SELECT q.source_key FROM queued q) "
	"  OR CASE WHEN j.user_id IS NULL OR j.action IN ('adopt', 'relink') "
	"   THEN j.source_key IN (SELECT l.source_key FROM @extschema@._lp_sync_link l "
	"    WHERE l.sync = $2 AND l.state <> 'gone') "
	"   ELSE NOT EXISTS (SELECT FROM @extschema@._lp_sync_link l WHERE l.sync = $2 "
	"    AND l.source_key = j.source_key AND l.user_id = j.user_id) END "
	"  OR (j.action = 'relink' AND (j.changes -> 0 ->> 'from' IN (SELECT s.key FROM _source s WHERE s.key IS NOT NULL) "
	"    OR NOT EXISTS (SELECT FROM @extschema@._lp_sync_link l WHERE l.sync = $2 "
	"     AND l.source_key = j.changes -> 0 ->> 'from' AND l.user_id = j.user_id AND l.state <> 'gone') "
	"    OR j.changes -> 0 ->> 'from' IN (SELECT q.source_key FROM @extschema@._lp_sync_item q "
	"     WHERE q.sync = $2 AND q.state = 'queued' AND q.source_key IS NOT NULL))) "
	"  OR (j.action = 'adopt' AND j.user_id IN (SELECT l.user_id FROM @extschema@._lp_sync_link l "
	"    WHERE l.sync = $2 AND l.state <> 'gone')))";

	lpu_applied_run_with_source(plan, psprintf(sql, lpu_sync_write_source(plan->source, "s.",
																		  "s.login_name")));
}

/*
 * An item is stale, too, if another sync of the account has its user, or has
 * queued its login since it was planned, or if a request of others for its user
 * or login is unfinished: that may change what was not shown.
 */
static void
mark_stale_others(const LpuAppliedPlan *plan)
{
	Oid			types[3] = {INT8OID, INT8OID, OIDOID};
	Datum		values[3] = {Int64GetDatum(plan->id), Int64GetDatum(plan->sync->id),
	ObjectIdGetDatum(lpu_sync_options(plan->sync)->server)};

	lpu_run("WITH other AS MATERIALIZED (SELECT o.id FROM @extschema@._lp_sync o JOIN @extschema@._lp_sync y "
			"  ON y.id = $2 WHERE o.account = y.account AND o.id <> y.id), "
			"unfinished AS MATERIALIZED (SELECT r.user_id, @extschema@._lp_sync_fold(r.login_name COLLATE \"C\") AS login "
			" FROM @extschema@.lp_requests r JOIN @extschema@._lp_sync y ON y.id = $2 "
			" WHERE r.account = y.account AND r.server_oid = $3 AND r.operation <> 'reset' "
			"  AND r.plan IS DISTINCT FROM $1 AND r.state IN ('pending', 'sending', 'uncertain', 'held')), "
			"theirs AS MATERIALIZED ( "
			" SELECT l.user_id, NULL::text AS login FROM other o JOIN @extschema@._lp_sync_link l ON l.sync = o.id "
			"  WHERE l.state <> 'gone' "
			" UNION ALL SELECT q.user_id, @extschema@._lp_sync_fold(coalesce(q.source ->> 'loginName', q.login_name) COLLATE \"C\") "
			"  FROM other o JOIN @extschema@._lp_sync_item q ON q.sync = o.id "
			"  JOIN @extschema@._lp_sync_plan p ON p.id = $1 "
			"  WHERE q.state = 'queued' OR (q.state = 'done' AND q.queued_at > p.made_at) "
			" UNION ALL SELECT u.user_id, u.login FROM unfinished u) "
			"UPDATE @extschema@._lp_sync_item i SET state = 'stale' "
			"WHERE i.plan = $1 AND i.sync = $2 AND i.state IN ('planned', 'held') "
			" AND (i.user_id IN (SELECT t.user_id FROM theirs t WHERE t.user_id IS NOT NULL) "
			"  OR @extschema@._lp_sync_fold(i.login_name COLLATE \"C\") IN (SELECT t.login FROM theirs t WHERE t.login IS NOT NULL) "
			"  OR @extschema@._lp_sync_fold((i.source ->> 'loginName') COLLATE \"C\") "
			"   IN (SELECT t.login FROM theirs t WHERE t.login IS NOT NULL))",
			3, types, values);
}

/* ----- limits ----- */

/* Classes over their limit are held, unless they are confirmed. $3: actions that are confirmed. */
static void
hold_classes(const LpuAppliedPlan *plan, Jsonb *confirm)
{
	Oid			types[3] = {INT8OID, INT8OID, JSONBOID};
	Datum		values[3] = {
		Int64GetDatum(plan->id), Int64GetDatum(plan->sync->id),
		confirm != NULL ? JsonbPGetDatum(confirm) :
		DirectFunctionCall1(jsonb_in, CStringGetDatum("{}"))
	};

	lpu_run("WITH linked AS (SELECT count(*) AS n FROM @extschema@._lp_sync_link l "
			"  WHERE l.sync = $2 AND l.state <> 'gone'), "
			"used AS (SELECT i.action, count(*) AS n FROM @extschema@._lp_sync_item i "
			"  WHERE i.sync = $2 AND i.queued_at > clock_timestamp() - interval '24 hours' "
			"   AND i.state IN ('queued', 'done') GROUP BY i.action), "
			"class AS (SELECT i.action, count(*) AS n FROM @extschema@._lp_sync_item i "
			"  WHERE i.plan = $1 AND i.state IN ('planned', 'held') AND i.action <> 'follow' "
			"  GROUP BY i.action), "
			"judged AS (SELECT c.action, NOT jsonb_exists($3, c.action) AND coalesce(c.n + coalesce(u.n, 0) > "
			"   @extschema@._lp_sync_limit(s.limits, c.action, k.n), false) AS over "
			"  FROM class c LEFT JOIN used u ON u.action = c.action, linked k, @extschema@._lp_sync s "
			"  WHERE s.id = $2) "
			"UPDATE @extschema@._lp_sync_item i SET state = CASE WHEN j.over THEN 'held' ELSE 'planned' END "
			"FROM judged j WHERE i.plan = $1 AND i.action = j.action "
			" AND i.state = CASE WHEN j.over THEN 'planned' ELSE 'held' END",
			3, types, values);
}

/*
 * Who needs the login of a user who does not give it up now, because it is held
 * or stale, is held, too, until the plan is applied further. The renames are
 * read once: a chain has as many steps.
 */
static void
hold_dependent(const LpuAppliedPlan *plan)
{
	lpu_applied_run(plan, "WITH RECURSIVE renamed AS MATERIALIZED ( "
					"SELECT i.id, i.state, i.user_id, @extschema@._lp_sync_fold(i.login_name COLLATE \"C\") AS login, "
					"  @extschema@._lp_sync_fold((i.source ->> 'loginName') COLLATE \"C\") AS wanted "
					" FROM @extschema@._lp_sync_item i WHERE i.plan = $1 AND i.sync = $2 "
					"  AND i.state IN ('planned', 'held', 'stale') "
					"  AND i.changes @> '[{\"attribute\": \"loginName\"}]'), "
					"waiting AS ( "
					"SELECT r.id, r.login FROM renamed r WHERE r.state <> 'planned' AND r.user_id IS NOT NULL "
					"UNION SELECT r.id, r.login FROM waiting w "
					" JOIN renamed r ON r.state = 'planned' AND r.wanted = w.login) "
					"UPDATE @extschema@._lp_sync_item i SET state = 'held' FROM waiting w "
					"WHERE i.id = w.id AND i.state = 'planned'");
}

/* ----- the plan as a whole ----- */

/*
 * Older plans are superseded. A plan of some keys leaves those that have other
 * keys left, which may wait to be confirmed: what it has queued is stale in
 * them.
 */
static void
finish(const LpuAppliedPlan *plan)
{
	lpu_applied_run(plan, "UPDATE @extschema@._lp_sync_plan p "
					"SET state = CASE p.id WHEN $1 THEN 'applied' ELSE 'superseded' END "
					"FROM @extschema@._lp_sync_plan a "
					"WHERE a.id = $1 AND (p.id = $1 OR (p.sync = $2 AND p.id < $1 "
					" AND (a.whole OR (NOT p.whole AND NOT EXISTS (SELECT FROM @extschema@._lp_sync_item i "
					"   WHERE i.plan = p.id AND i.state IN ('planned', 'held') AND i.source_key NOT IN "
					"    (SELECT n.source_key FROM @extschema@._lp_sync_item n WHERE n.plan = $1 AND n.source_key IS NOT NULL)))) "
					" AND (p.state = 'draft' OR (p.state = 'applied' "
					"  AND EXISTS (SELECT FROM @extschema@._lp_sync_item i WHERE i.plan = p.id "
					"   AND i.state IN ('planned', 'held'))))))");
	if (plan->whole)
		lpu_applied_run(plan, "UPDATE @extschema@._lp_sync s SET base_rows = p.source_rows "
						"FROM @extschema@._lp_sync_plan p WHERE p.id = $1 AND s.id = $2");
}

static const char result_sql[] =
"SELECT i.action, count(*) FILTER (WHERE i.queued_at >= $2 AND i.state IN ('queued', 'done')), "
" count(*) FILTER (WHERE i.state = 'held'), count(*) FILTER (WHERE i.state = 'stale'), "
" count(*) FILTER (WHERE i.state = 'blocked'), count(*) FILTER (WHERE i.state = 'wait') "
"FROM @extschema@._lp_sync_item i WHERE i.plan = $1 AND i.action <> 'follow' "
"GROUP BY i.action ORDER BY i.action";

/*
 * Apply a plan in the caller's transaction, with SPI connected; a row for each
 * action goes to dest, unless that is NULL. Raises 42704 for a plan that does
 * not exist, 55000 for one that may not be applied, 22023 for a number that is
 * not the plan's, and 0A000 above READ COMMITTED: then nothing is queued.
 */
void
lpu_sync_apply(int64 id, Jsonb *confirm, DestReceiver *dest)
{
	LpuAppliedPlan plan = {.id = id};
	Oid			types[2] = {INT8OID, TIMESTAMPTZOID};
	Datum		values[2] = {Int64GetDatum(id), TimestampTzGetDatum(GetCurrentTimestamp())};
	LpuParameters parameters = {2, types, values, NULL};

	check_isolation();
	read_plan(&plan);
	check_state(&plan);
	lpu_sync_settle_items(plan.sync);
	check_confirm(&plan, confirm);
	check_guard(&plan, confirm);
	read_source(&plan);
	mark_stale_links(&plan);
	mark_stale_others(&plan);
	hold_classes(&plan, confirm);
	hold_dependent(&plan);
	if (plan.withdraws)
		lpu_applied_withdraw(&plan);
	lpu_applied_change_links(&plan);
	lpu_applied_queue(&plan);
	lpu_sync_forget(plan.source, "_source");
	finish(&plan);
	if (dest != NULL)
		(void) lpu_run_once(result_sql, &parameters, dest);
}

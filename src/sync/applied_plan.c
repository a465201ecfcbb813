/*
 * applied_plan.c: queuing the items of a plan as requests.
 *
 * Items that are planned, neither stale nor held, are queued in chunks, so that memory is bounded;
 * items that change only the link are executed at once. A link that depends on a request is written
 * when the request is settled (link.c).
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "base/extension.h"
#include "base/spi_plan.h"
#include "options/server.h"
#include "queue/enqueue_change.h"
#include "queue/operate.h"
#include "queue/statement.h"
#include "sync/applied_plan.h"
#include "sync/comparison.h"
#include "user/validate.h"

/* Number of items queued by one statement. */
#define CHUNK 2000

/* A statement on the plan: its number is $1, that of the sync $2. */
void
lpu_applied_run(const LpuAppliedPlan *plan, const char *sql)
{
	Oid			types[2] = {INT8OID, INT8OID};
	Datum		values[2] = {Int64GetDatum(plan->id), Int64GetDatum(plan->sync->id)};

	lpu_run(sql, 2, types, values);
}

/* Likewise one that reads the source. */
void
lpu_applied_run_with_source(const LpuAppliedPlan *plan, const char *sql)
{
	Oid			types[2] = {INT8OID, INT8OID};
	Datum		values[2] = {Int64GetDatum(plan->id), Int64GetDatum(plan->sync->id)};
	LpuParameters parameters = {2, types, values, NULL};

	(void) lpu_run_once(sql, &parameters, NULL);
}

/* ----- leavers whose users are about to be opened ----- */

/*
 * Requests of the sync, not sent yet, that create or enable the user of a person who is still not
 * in the source. An adoption is waited for: the next plan closes its user.
 */
static const char unwanted_sql[] =
"SELECT DISTINCT r.id FROM @extschema@._lp_sync_item w "
"JOIN @extschema@._lp_sync_item q ON q.sync = w.sync AND q.source_key = w.source_key "
" AND q.queued_at IS NOT NULL AND q.state = 'queued' "
"JOIN @extschema@.lp_requests r ON r.id = q.request AND r.state IN ('pending', 'held') "
"WHERE w.plan = $1 AND w.sync = $2 AND w.state = 'wait' AND w.source IS NULL "
" AND q.action IN ('create', 'recreate', 'enable', 'reopen') AND r.plan IS NOT NULL "
" AND w.source_key NOT IN (SELECT s.key FROM _source s WHERE s.key IS NOT NULL)";

/* Items of requests, $3, that are withdrawn, and those of plan $1 that waited for them. */
static const char withdrawn_sql[] =
"WITH withdrawn AS (UPDATE @extschema@._lp_sync_item q SET state = r.state "
" FROM @extschema@.lp_requests r WHERE q.request = ANY ($3) AND q.sync = $2 AND q.state = 'queued' "
"  AND r.id = q.request AND r.state = 'superseded' RETURNING q.source_key) "
"UPDATE @extschema@._lp_sync_item w SET state = 'superseded', reason = $4 FROM withdrawn q "
"WHERE w.plan = $1 AND w.state = 'wait' AND w.source_key = q.source_key";

/*
 * Withdraw requests, not sent yet, that would open users of leavers. What may have been sent is
 * waited for. Requests are locked before items, as by what replaces them.
 */
void
lpu_applied_withdraw(const LpuAppliedPlan *plan)
{
	static const char why[] = "withdrawn: not in the source";
	Oid			types[4] = {INT8OID, INT8OID, INT8ARRAYOID, TEXTOID};
	Datum		values[4] = {Int64GetDatum(plan->id), Int64GetDatum(plan->sync->id), (Datum) 0,
	CStringGetTextDatum(why)};
	int64	   *ids;
	int64		withdrawn;
	int			n;

	lpu_applied_run_with_source(plan, unwanted_sql);
	ids = lpu_queue_ids(&n);
	if (n == 0)
		return;
	values[2] = lpu_queue_id_array(ids, n);
	withdrawn = lpu_withdraw(values[2], why);
	lpu_run(withdrawn_sql, 4, types, values);
	if (withdrawn > 0)
		ereport(NOTICE,
				(errmsg_plural("%lld queued request was withdrawn",
							   "%lld queued requests were withdrawn", (unsigned long) withdrawn,
							   (long long) withdrawn)));
}

/* ----- items that change only links ----- */

/*
 * Follow and relink. Their items become "done". A user adopted without a difference gets a request,
 * too, with which the deliverer verifies that it is still the planned user.
 */
void
lpu_applied_change_links(const LpuAppliedPlan *plan)
{
	/*
	 * the user's state was changed by others; or by the sync, before it was
	 * linked again
	 */
	lpu_applied_run(plan, "WITH item AS (UPDATE @extschema@._lp_sync_item i SET state = 'done', "
					"  queued_at = clock_timestamp() WHERE i.plan = $1 AND i.sync = $2 "
					"  AND i.state = 'planned' AND i.action = 'follow' RETURNING i.source_key, i.changes) "
					"UPDATE @extschema@._lp_sync_link l SET state = i.changes -> 0 ->> 'link', by_us = false, "
					" since = clock_timestamp() FROM item i WHERE l.sync = $2 AND l.source_key = i.source_key");
	/* a key may have had another user before */
	lpu_applied_run(plan, "DELETE FROM @extschema@._lp_sync_link l USING @extschema@._lp_sync_item i "
					"WHERE i.plan = $1 AND i.sync = $2 AND i.state = 'planned' AND i.action = 'relink' "
					" AND l.sync = $2 AND l.source_key = i.source_key AND l.state = 'gone'");
	lpu_applied_run(plan, "WITH item AS (UPDATE @extschema@._lp_sync_item i SET state = 'done', "
					"  queued_at = clock_timestamp() WHERE i.plan = $1 AND i.sync = $2 AND i.state = 'planned' "
					"  AND i.action = 'relink' RETURNING i.source_key, i.user_id, i.changes) "
					"UPDATE @extschema@._lp_sync_link l SET source_key = i.source_key FROM item i "
					"WHERE l.sync = $2 AND l.source_key = i.changes -> 0 ->> 'from'");
}

/* ----- requests ----- */

static LpuQueueOrigin
origin_of(const LpuAppliedPlan *plan, const LpuOptions *options)
{
	LpuQueueOrigin origin = {0};

	origin.schema = lpu_extension_schema();
	origin.account = options->account;
	origin.server = options->server_name;
	origin.server_oid = options->server;
	origin.requested_by = GetOuterUserId();
	origin.send_as = plan->sync->owner;
	origin.source_table = plan->sync->source_name;
	origin.source_table_oid = plan->sync->source;
	origin.plan = plan->id;
	return origin;
}

/* Store the requests of the items; an item whose request failed at once has failed. */
static void
mark_queued(const int64 *items, const int64 *requests, int n)
{
	Oid			types[2] = {INT8ARRAYOID, INT8ARRAYOID};
	Datum		values[2] = {lpu_queue_id_array(items, n), lpu_queue_id_array(requests, n)};

	lpu_run("UPDATE @extschema@._lp_sync_item i SET request = q.request, "
			" queued_at = clock_timestamp(), "
			" state = CASE r.state WHEN 'failed' THEN 'failed' ELSE 'queued' END "
			"FROM unnest($1, $2) q (item, request) JOIN @extschema@.lp_requests r ON r.id = q.request "
			"WHERE i.id = q.item", 2, types, values);
}

/* Attributes that are sent only with a create, as changes; from the source "c". */
static char *
write_create_only(const LpuSyncRows *source)
{
	StringInfoData out;
	int			i;

	initStringInfo(&out);
	appendStringInfoString(&out, "'[]'::jsonb");
	for (i = 0; i < source->nvalues; i++)
		if (source->values[i].column->create_only)
			appendStringInfo(&out, " || CASE WHEN c.v%d IS NULL THEN '[]' ELSE jsonb_build_array("
							 "jsonb_build_object('attribute', '%s', 'new', %s)) END", i,
							 lpu_sync_shown_name(source->values[i].column),
							 lpu_sync_write_shown(&source->values[i], i, ""));
	return out.data;
}

/* Return what is wrong with a user to be created, or NULL. */
static char *
problem_of(Jsonb *user, bool require_password)
{
	List	   *problems = lpu_users_check(user, LPU_USER_CREATE, require_password);
	StringInfoData text;
	ListCell   *cell;

	if (problems == NIL)
		return NULL;
	initStringInfo(&text);
	foreach(cell, problems)
	{
		const LpuUserProblem *problem = lfirst(cell);

		appendStringInfo(&text, "%s\"%s\" %s", text.len > 0 ? "; " : "",
						 problem->attribute ? problem->attribute : "user", problem->text);
	}
	return text.data;
}

static Jsonb *
jsonb_column(int row, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column,
									  &isnull);

	return isnull ? NULL : DatumGetJsonbP(value);
}

/* Queue up to CHUNK creates; return their number. */
static int
queue_creates(const LpuAppliedPlan *plan, const LpuOptions *options, const char *sql,
			  const char *action)
{
	LpuQueueOrigin origin = origin_of(plan, options);
	LpuQueuedUser *users;
	int64	   *items;
	int64	   *requests;
	int			n;
	int			i;

	lpu_applied_run_with_source(plan, sql);
	n = (int) SPI_processed;
	users = palloc0(Max(n, 1) * sizeof(LpuQueuedUser));
	items = palloc(Max(n, 1) * sizeof(int64));
	requests = palloc(Max(n, 1) * sizeof(int64));
	for (i = 0; i < n; i++)
	{
		items[i] = lpu_int64_column(i, 1);
		users[i].login_name = lpu_text_column(i, 2);
		users[i].key = jsonb_column(i, 3);
		users[i].problem = lpu_text_column(i, 5);
		if (users[i].problem == NULL)
			users[i].problem = problem_of(jsonb_column(i, 4), options->require_password);
		users[i].body = users[i].problem == NULL ? lpu_text_column(i, 4) : NULL;
	}
	origin.action = action;
	if (n > 0)
	{
		lpu_enqueue(&origin, users, n, requests);
		mark_queued(items, requests, n);
	}
	return n;
}

static int
queue_changes(const LpuAppliedPlan *plan, const LpuOptions *options, const char *sql)
{
	LpuQueueOrigin origin = origin_of(plan, options);
	LpuQueuedChange *changes;
	int64	   *items;
	int64	   *requests;
	int			n;
	int			i;

	lpu_applied_run(plan, sql);
	n = (int) SPI_processed;
	changes = palloc0(Max(n, 1) * sizeof(LpuQueuedChange));
	items = palloc(Max(n, 1) * sizeof(int64));
	requests = palloc(Max(n, 1) * sizeof(int64));
	for (i = 0; i < n; i++)
	{
		items[i] = lpu_int64_column(i, 1);
		changes[i].login_name = lpu_text_column(i, 2);
		changes[i].key = jsonb_column(i, 3);
		changes[i].body = lpu_text_column(i, 4);
		changes[i].action = lpu_text_column(i, 5);
		changes[i].user_id = lpu_int64_column(i, 6);
		changes[i].deletes = strcmp(changes[i].action, "delete") == 0;
	}
	if (n > 0)
	{
		lpu_enqueue_changes(&origin, changes, n, requests);
		mark_queued(items, requests, n);
	}
	return n;
}

/* The changes of a plan; $1 its number, $2 that of the sync. */
static const char changes_sql[] =
"SELECT i.id, i.login_name, jsonb_build_object(y.key, i.source_key), CASE "
"  WHEN i.action <> 'delete' THEN jsonb_strip_nulls(jsonb_build_object( "
"   'add', nullif(@extschema@._lp_sync_parts(i.changes, 'add'), '{}'), "
"   'take', nullif(@extschema@._lp_sync_parts(i.changes, 'take'), '{}'), "
"   'hidden', nullif(coalesce(i.hidden, k.hidden), '{}'), 'drift', y.drift)) "
"   || jsonb_build_object('set', @extschema@._lp_sync_entity(i.changes, 'new'), "
"    'base', @extschema@._lp_sync_entity(i.changes, 'old')) "
"  WHEN i.changes @> '[{\"disabled\": true}]' THEN jsonb_build_object('base', jsonb_build_object('isEnabled', false)) "
"  ELSE '{}' END, i.action, i.user_id "
"FROM @extschema@._lp_sync_item i JOIN @extschema@._lp_sync y ON y.id = i.sync "
"LEFT JOIN @extschema@._lp_sync_link k ON k.sync = i.sync AND k.source_key = i.source_key "
"WHERE i.plan = $1 AND i.sync = $2 AND i.state = 'planned' "
" AND i.action IN ('disable', 'delete', 'rename', 'update', 'enable', 'reopen', 'adopt') "
"ORDER BY i.id LIMIT " CppAsString2(CHUNK);

static char *
creates_sql(const LpuAppliedPlan *plan, const char *action)
{
	return psprintf("SELECT i.id, i.login_name, jsonb_build_object(y.key, i.source_key), "
					" jsonb_strip_nulls(@extschema@._lp_sync_entity(i.changes || %s, 'new')), c.problem "
					"FROM @extschema@._lp_sync_item i JOIN @extschema@._lp_sync y ON y.id = i.sync "
					"JOIN _source c ON c.key = i.source_key "
					"WHERE i.plan = $1 AND i.sync = $2 AND i.state = 'planned' AND i.action = '%s' "
					"ORDER BY i.id LIMIT " CppAsString2(CHUNK),
					write_create_only(plan->source), action);
}

/* Repeat until the plan has no planned item. */
void
lpu_applied_queue(const LpuAppliedPlan *plan)
{
	static const char *const creates[] = {"create", "recreate"};
	const LpuOptions *options = lpu_sync_options(plan->sync);
	MemoryContext chunk = AllocSetContextCreate(CurrentMemoryContext, "lpusers sync chunk",
												ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(chunk);
	int			i;

	while (queue_changes(plan, options, changes_sql) > 0)
		MemoryContextReset(chunk);
	for (i = 0; i < lengthof(creates); i++)
		while (queue_creates(plan, options, creates_sql(plan, creates[i]), creates[i]) > 0)
			MemoryContextReset(chunk);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(chunk);
}

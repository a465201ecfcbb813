/*
 * operate.c: operator functions on requests.
 *
 * The functions of users (retry and discard here, release and adopt in release.c) lock their rows
 * in the order of the ids and may wait for each other; they take no lock of an account, and write
 * no entry of the in-flight indexes: a request that may have been sent becomes pending with
 * look_first, and a deliverer looks it up.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "base/origin.h"
#include "base/spi_plan.h"
#include "queue/enqueue.h"
#include "queue/operate.h"
#include "queue/statement.h"

/*
 * The first of the ids that does not belong to the caller.  $1 ids, $2 OID of the caller, $3
 * origin here.  A request belongs to the role it is sent as, to the owner of the tables, and to
 * the role that requested it as long as this role could still do so: it may insert into the
 * source table, or, if there is none, has EXECUTE on the function that queues such a request and
 * USAGE on the server.  In a row that was written elsewhere only the name of the role it is sent
 * as is compared.  Reads lp_requests.
 */
static const char stranger_sql[] =
"SELECT u.id FROM unnest($1::bigint[]) AS u (id) "
"LEFT JOIN @extschema@.lp_requests r ON r.id = u.id "
"WHERE u.id IS NOT NULL AND (r.id IS NULL OR NOT ("
"  pg_has_role($2, (SELECT c.relowner FROM pg_class c WHERE c.oid = r.tableoid), 'USAGE')"
"  OR coalesce(pg_has_role($2, @extschema@._lp_role_here(r.origin, $3, r.send_as_oid, r.send_as),"
"    'USAGE'), false)"
"  OR @extschema@._lp_is_here(r.origin, $3) AND pg_has_role($2, r.requested_by_oid, 'USAGE')"
"     AND CASE WHEN r.source_table_oid <> 0"
"       THEN coalesce(has_any_column_privilege(r.requested_by_oid, r.source_table_oid, 'INSERT'),"
"         false)"
"       ELSE coalesce(has_function_privilege(r.requested_by_oid, (SELECT p.oid FROM pg_proc p"
"           JOIN pg_class c ON c.relnamespace = p.pronamespace"
"           WHERE c.oid = r.tableoid AND p.proname = CASE r.operation WHEN 'update' THEN"
"             'lp_enqueue_changes' WHEN 'delete' THEN 'lp_enqueue_deletes' ELSE 'lp_enqueue_users' END"
"           ), 'EXECUTE'), false)"
"         AND coalesce(has_server_privilege(r.requested_by_oid, r.server_oid, 'USAGE'), false)"
"           END)) "
"ORDER BY u.id LIMIT 1";

/*
 * Lock requests. $1 ids. Returns id, state, path, and true if it is an update or delete. Reads
 * lp_requests.
 */
static const char lock_sql[] =
"SELECT r.id, r.state, r.path, r.operation IN ('update', 'delete') "
"FROM @extschema@.lp_requests r WHERE r.id = ANY ($1) ORDER BY r.id FOR UPDATE OF r";

/*
 * The first id without a payload, read after the rows are locked. $1 ids. Reads lp_payloads.
 */
static const char empty_sql[] =
"SELECT u.id FROM unnest($1::bigint[]) AS u (id) "
"WHERE u.id IS NOT NULL AND NOT EXISTS (SELECT FROM @extschema@.lp_payloads p WHERE p.request_id = u.id)"
"  ORDER BY u.id LIMIT 1";

/*
 * The first request of a plan after which another plan of the sync was applied, of all keys or of
 * the same one: its values may be obsolete.  $1 ids.  Reads lp_requests, _lp_sync_plan,
 * _lp_sync_item.
 */
static const char outdated_sql[] =
"SELECT r.id, r.plan, n.id FROM @extschema@.lp_requests r"
"  JOIN @extschema@._lp_sync_plan p ON p.id = r.plan"
"  JOIN @extschema@._lp_sync_plan n ON n.sync = p.sync AND n.id > p.id AND n.state = 'applied' "
"WHERE r.id = ANY ($1) AND (n.whole OR EXISTS (SELECT FROM @extschema@._lp_sync_item i"
"    JOIN @extschema@._lp_sync_item j ON j.plan = n.id AND j.source_key = i.source_key"
"    WHERE i.request = r.id)) "
"ORDER BY r.id, n.id DESC LIMIT 1";

/*
 * The first request of a plan whose sync was dropped, or whose user is not linked any more. $1 ids.
 * Reads lp_requests, _lp_sync_item, _lp_sync_link.
 */
static const char unlinked_sql[] =
"SELECT r.id, r.plan FROM @extschema@.lp_requests r"
"  LEFT JOIN @extschema@._lp_sync_item i ON i.request = r.id "
"WHERE r.id = ANY ($1) AND r.plan IS NOT NULL AND (i.id IS NULL OR i.unlinked"
"  OR i.state = 'superseded' OR i.action NOT IN ('create', 'recreate', 'adopt') AND NOT EXISTS ("
"    SELECT FROM @extschema@._lp_sync_link l WHERE l.sync = i.sync AND l.source_key = i.source_key"
"      AND l.user_id = i.user_id)) "
"ORDER BY r.id LIMIT 1";

/*
 * Updates and deletes, each with the last newer one of the same user that is done: sent now, they
 * would undo it.  The user is compared by id, or by login if the id is not known.  $1 ids.  One
 * pass over the updates and deletes, since no index finds those that are done by their user.
 * Reads lp_requests.
 */
static const char overtaken_sql[] =
"SELECT w.id, w.newer FROM ("
"  SELECT r.id, r.state, CASE WHEN r.user_id IS NOT NULL"
"    THEN max(r.id) FILTER (WHERE r.state = 'done') OVER (PARTITION BY r.account, r.user_id)"
"    ELSE max(r.id) FILTER (WHERE r.state = 'done') OVER (PARTITION BY r.account,"
"      lower(r.login_name COLLATE \"C\")) END AS newer"
"  FROM @extschema@.lp_requests r"
"  WHERE r.operation IN ('update', 'delete')"
"    AND (r.state = 'done' OR r.id IN (SELECT u.id FROM unnest($1::bigint[]) AS u (id)))"
"    AND (r.user_id IS NOT NULL OR r.login_name IS NOT NULL)) w "
"WHERE w.newer > w.id AND w.state <> 'done' "
"ORDER BY w.id";

/*
 * Make failed requests pending again, with this database as origin.  The user of one that was
 * given up may exist, so it is looked up first.  $1 ids, $2 origin here.  Writes lp_requests.
 */
static const char retry_sql[] =
"UPDATE @extschema@.lp_requests r"
" SET state = 'pending', next_attempt_at = clock_timestamp(), look_first = r.look_first OR"
"   r.cause <> 'refused',"
"   cause = NULL, error = NULL, reason = NULL, finished_at = NULL, evidence = NULL, mended ="
"     false, attempts = 0,"
"   send_as_oid = coalesce(@extschema@._lp_role_here(r.origin, $2, r.send_as_oid, r.send_as), 0),"
"   server_oid = coalesce(@extschema@._lp_server_here(r.origin, $2, r.server_oid, r.server), 0),"
"   requested_by_oid = coalesce(@extschema@._lp_role_here(r.origin, $2, r.requested_by_oid,"
"     r.requested_by), 0),"
"   source_table_oid = CASE WHEN @extschema@._lp_is_here(r.origin, $2) THEN r.source_table_oid ELSE 0"
"     END, origin = $2 "
"WHERE r.id = ANY ($1) RETURNING r.id";

/*
 * How many of the requests have replaced older ones, whose changes are part of them.  One pass over
 * lp_requests.  $1 ids.  Reads lp_requests.
 */
static const char including_sql[] =
"SELECT count(DISTINCT r.reason) FROM @extschema@.lp_requests r "
"WHERE r.state = 'superseded' AND (r.reason IN (SELECT 'replaced by request ' || u.id"
"  FROM unnest($1::bigint[]) AS u (id))) IS TRUE";

/* Drop requests with their payloads.  $1 ids.  Writes lp_requests, lp_payloads. */
static const char discard_sql[] =
"WITH gone AS (DELETE FROM @extschema@.lp_requests r WHERE r.id = ANY ($1) RETURNING r.id),"
" emptied AS (DELETE FROM @extschema@.lp_payloads p WHERE p.request_id = ANY ($1)) "
"SELECT g.id FROM gone g";

/*
 * Mark requests that were never sent as superseded. $1 ids, $2 reason. Returns their ids.  Writes
 * lp_requests, lp_payloads.
 */
static const char withdraw_sql[] =
"WITH locked AS MATERIALIZED ("
"  SELECT r.id FROM @extschema@.lp_requests r"
"  WHERE r.id = ANY ($1) AND r.state IN ('pending', 'held') AND NOT r.look_first"
"    AND NOT (r.hold IS NOT DISTINCT FROM 'elsewhere' AND r.sent_at IS NOT NULL)"
"  ORDER BY r.id FOR UPDATE"
"), withdrawn AS ("
"  UPDATE @extschema@.lp_requests r SET state = 'superseded', hold = NULL, held_at = NULL,"
"    next_attempt_at = NULL, finished_at = clock_timestamp(), reason = $2"
"  FROM locked l WHERE r.id = l.id RETURNING r.id"
"), emptied AS ("
"  DELETE FROM @extschema@.lp_payloads p USING withdrawn w WHERE p.request_id = w.id"
")"
"SELECT w.id FROM withdrawn w";

/* ----- one's own rows ----- */

/*
 * Raise an error unless all ids are requests of the caller, and lock the requests. The result of
 * lock_sql is in SPI_tuptable.
 */
static void
lock_own(Datum ids, Oid caller)
{
	Oid			types[3] = {INT8ARRAYOID, OIDOID, TEXTOID};
	Datum		values[3] = {ids, ObjectIdGetDatum(caller), CStringGetTextDatum(lpu_origin_text())};

	lpu_queue_run(stranger_sql, 3, types, values);
	if (SPI_processed > 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("request " INT64_FORMAT " does not exist, or is not yours",
						lpu_int64_column(0, 1))));
	lpu_queue_run(lock_sql, 1, types, values);
}

/*
 * Raise unless a locked row (of lock_sql) is of the queue and in one of the states, which "what"
 * names.
 */
static void
check_states(const char *const *states, int nstates, const char *what)
{
	int			row;

	for (row = 0; row < (int) SPI_processed; row++)
	{
		const char *state = lpu_text_column(row, 2);
		bool		good = false;
		int			i;

		for (i = 0; i < nstates; i++)
			good |= strcmp(state, states[i]) == 0;
		if (!good || strcmp(lpu_text_column(row, 3), "queue") != 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("request " INT64_FORMAT " is not %s", lpu_int64_column(row, 1), what)));
	}
}

/* Return true if a locked row (of lock_sql) is an update or delete. */
static bool
have_changes(void)
{
	int			row;

	for (row = 0; row < (int) SPI_processed; row++)
		if (lpu_bool_column(row, 4))
			return true;
	return false;
}

/*
 * Find those of the requests that a newer update or delete of the same user has overtaken; the
 * result of overtaken_sql is in SPI_tuptable.
 */
void
lpu_find_overtaken(Datum ids)
{
	Oid			types[1] = {INT8ARRAYOID};

	lpu_queue_run(overtaken_sql, 1, types, &ids);
}

/* Raise if a newer update or delete of the same user is done. */
static void
check_overtaken(Datum ids)
{
	lpu_find_overtaken(ids);
	if (SPI_processed > 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("request " INT64_FORMAT " cannot be sent again", lpu_int64_column(0, 1)),
				 errdetail("The newer request " INT64_FORMAT " of the same user is done.",
						   lpu_int64_column(0, 2)),
				 errhint("If the change is still wanted, queue it again.")));
}

/* lp_retry() for a role. */
int64
lpu_retry(Datum ids, Oid caller)
{
	static const char *const states[] = {"failed"};
	Oid			types[2] = {INT8ARRAYOID, TEXTOID};
	Datum		values[2] = {ids, CStringGetTextDatum(lpu_origin_text())};
	bool		changes;

	lock_own(ids, caller);
	check_states(states, lengthof(states), "a failed request of the queue");
	changes = have_changes();
	lpu_queue_run(empty_sql, 1, types, values);
	if (SPI_processed > 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("request " INT64_FORMAT " cannot be sent again", lpu_int64_column(0, 1)),
				 errdetail("Its data were wrong, or its secrets are gone (see lpusers.keep_secrets)."),
				 errhint("Correct the row and queue it again, with lp_enqueue_rows() or lp_enqueue_users().")));
	lpu_queue_run(outdated_sql, 1, types, values);
	if (SPI_processed > 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("request " INT64_FORMAT " of plan " INT64_FORMAT " cannot be sent again",
						lpu_int64_column(0, 1), lpu_int64_column(0, 2)),
				 errdetail("Plan " INT64_FORMAT " of the same sync was applied since.",
						   lpu_int64_column(0, 3)),
				 errhint("Make a new plan.")));
	lpu_queue_run(unlinked_sql, 1, types, values);
	if (SPI_processed > 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("request " INT64_FORMAT " of plan " INT64_FORMAT " cannot be sent again",
						lpu_int64_column(0, 1), lpu_int64_column(0, 2)),
				 errdetail("Its user is not linked any more, or its sync was dropped.")));
	if (changes)
		check_overtaken(ids);
	lpu_queue_run(retry_sql, 2, types, values);
	lpu_enqueue_wake();
	return SPI_processed;
}

/* Report that changes of older requests are dropped, too. */
static void
report_included(Datum ids)
{
	Oid			types[1] = {INT8ARRAYOID};
	int			n;

	lpu_queue_run(including_sql, 1, types, &ids);
	n = (int) lpu_int64_column(0, 1);
	if (n > 0)
		ereport(NOTICE,
				(errmsg_plural("%d discarded request had replaced older ones, whose changes are dropped, too",
							   "%d discarded requests had replaced older ones, whose changes are dropped, too",
							   n, n)));
}

/* lp_discard() for a role. */
int64
lpu_discard(Datum ids, Oid caller)
{
	static const char *const states[] = {"pending", "failed", "held"};
	Oid			types[1] = {INT8ARRAYOID};
	Datum		values[1] = {ids};

	lock_own(ids, caller);
	check_states(states, lengthof(states), "pending, failed or held in the queue");
	if (have_changes())
		report_included(ids);
	lpu_queue_run(discard_sql, 1, types, values);
	return SPI_processed;
}

/*
 * Finish requests that were never sent, for a reason that their rows show; leave those that are in
 * flight, in doubt or finished.
 */
int64
lpu_withdraw(Datum ids, const char *why)
{
	Oid			types[2] = {INT8ARRAYOID, TEXTOID};
	Datum		values[2] = {ids, CStringGetTextDatum(why)};

	lpu_queue_run(withdraw_sql, 2, types, values);
	return SPI_processed;
}

/*
 * operate.c: operator functions on requests.
 *
 * The functions of users (retry, discard, release, adopt) lock their rows in the order of the ids
 * and may wait for each other; they take no lock of an account, and write no entry of the
 * in-flight indexes: a request that may have been sent becomes pending with look_first, and a
 * deliverer looks it up.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "base/guc.h"
#include "base/origin.h"
#include "base/spi_plan.h"
#include "options/server.h"
#include "queue/columns.h"
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
"WHERE r.id = ANY ($1) AND r.plan IS NOT NULL AND (i.id IS NULL OR i.state = 'superseded'"
"  OR i.action NOT IN ('create', 'recreate', 'adopt') AND NOT EXISTS ("
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

/*
 * Requests that may be released: held for set-up, threshold or credentials, and written here, or
 * on another timeline of this database if lpusers.after_promotion = resume.  $1 account or ids, $2
 * origin here, $3 resume.  Returns id, role, its name, server, account and whether there is a
 * payload, in the order of the ids.  Those of an account are sorted by an expression, since no
 * index has its order: for an ordered column the planner would walk the primary key.  Locks
 * lp_requests, reads lp_payloads.
 */
#define HELD_SQL(which, order) \
"SELECT r.id, r.send_as_oid, r.send_as, r.server_oid, r.account," \
"  EXISTS (SELECT FROM @extschema@.lp_payloads p WHERE p.request_id = r.id) " \
"FROM @extschema@.lp_requests r " \
"WHERE " which " AND r.state = 'held' AND r.hold <> 'elsewhere'" \
"  AND (r.origin = $2 OR $3 AND @extschema@._lp_is_here(r.origin, $2)) " \
"ORDER BY " order " FOR UPDATE OF r"

static const char held_of_account_sql[] = HELD_SQL("r.account = $1", "r.id + 0");
static const char held_of_ids_sql[] = HELD_SQL("r.id = ANY ($1)", "r.id");

/*
 * Make the requests pending; those that may have been sent are looked up first.  A server that was
 * dropped, or that is of another account now, is searched for again.  The rows are locked, and
 * found by their ids: with a condition on the state the planner could scan the index of held rows
 * for each id.  $1 ids, $2 origin here.  Writes lp_requests.
 */
static const char release_sql[] =
"WITH released AS MATERIALIZED (SELECT u.id FROM unnest($1::bigint[]) AS u (id))"
"UPDATE @extschema@.lp_requests r"
" SET state = 'pending', hold = NULL, held_at = NULL, reason = NULL, origin = $2,"
"   look_first = r.look_first OR r.sent_at IS NOT NULL OR r.origin <> $2,"
"   next_attempt_at = clock_timestamp() + CASE WHEN r.origin <> $2 THEN @extschema@._lp_backoff(1) ELSE"
"     interval '0' END,"
"   server_oid = CASE WHEN EXISTS (SELECT FROM pg_foreign_server s"
"     WHERE s.oid = r.server_oid AND 'account=' || r.account = ANY (s.srvoptions))"
"     THEN r.server_oid ELSE 0 END "
"FROM released u WHERE r.id = u.id RETURNING r.id";

/*
 * Lock the updates and deletes that were written elsewhere.  $1 origin here.  Returns their ids.
 * Reads lp_requests.
 */
static const char foreign_sql[] =
"SELECT r.id FROM @extschema@.lp_requests r "
"WHERE r.state IN ('pending', 'sending', 'uncertain', 'held') AND r.origin IS DISTINCT FROM $1"
"  AND r.operation IN ('update', 'delete') "
"ORDER BY r.id FOR UPDATE";

/*
 * Mark locked requests as superseded.  $1 ids, $2 newer requests of their users,
 * Writes lp_requests, lp_payloads.
 */
static const char supersede_sql[] =
"WITH overtaken AS MATERIALIZED ("
"  SELECT u.* FROM unnest($1::bigint[], $2::bigint[]) AS u (id, newer)"
"), superseded AS ("
"  UPDATE @extschema@.lp_requests r SET state = 'superseded', hold = NULL, held_at = NULL,"
"    next_attempt_at = NULL, look_first = false, finished_at = clock_timestamp(),"
"    reason = 'not adopted: the newer request ' || o.newer || ' of the same user is done'"
"  FROM overtaken o WHERE r.id = o.id RETURNING r.id"
"), emptied AS ("
"  DELETE FROM @extschema@.lp_payloads p USING superseded s WHERE p.request_id = s.id"
") "
"SELECT s.id FROM superseded s";

/*
 * Adopt requests that were written elsewhere: those that are unfinished, or held because of their
 * origin, become pending and are looked up before they are sent, after the first retry delay.
 * Those held for another reason stay held.  OIDs of roles and servers are found by their names,
 * unless the row is of another timeline of this database.  $1 origin here.  Returns whether the
 * row is pending.  Writes lp_requests.
 */
static const char adopt_sql[] =
"WITH locked AS MATERIALIZED ("
"  SELECT r.id, r.state <> 'held' OR r.hold = 'elsewhere' AS due FROM @extschema@.lp_requests r"
"  WHERE r.state IN ('pending', 'sending', 'uncertain', 'held') AND r.origin IS DISTINCT FROM $1"
"  ORDER BY r.id FOR UPDATE)"
"UPDATE @extschema@.lp_requests r"
" SET state = CASE WHEN l.due THEN 'pending' ELSE 'held' END, hold = CASE WHEN l.due THEN NULL"
"   ELSE r.hold END,"
"   held_at = CASE WHEN l.due THEN NULL ELSE r.held_at END, reason = CASE WHEN l.due THEN NULL"
"     ELSE r.reason END,"
"   look_first = true, next_attempt_at = CASE WHEN l.due THEN clock_timestamp() +"
"     @extschema@._lp_backoff(1) END,"
"   send_as_oid = coalesce(@extschema@._lp_role_here(r.origin, $1, r.send_as_oid, r.send_as), 0),"
"   server_oid = coalesce(@extschema@._lp_server_here(r.origin, $1, r.server_oid, r.server), 0),"
"   requested_by_oid = coalesce(@extschema@._lp_role_here(r.origin, $1, r.requested_by_oid,"
"     r.requested_by), 0),"
"   source_table_oid = CASE WHEN @extschema@._lp_is_here(r.origin, $1) THEN r.source_table_oid ELSE 0"
"     END, origin = $1 "
"FROM locked l WHERE r.id = l.id RETURNING r.id, l.due";

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

/* Raise if a newer update or delete of the same user is done. */
static void
check_overtaken(Datum ids)
{
	Oid			types[1] = {INT8ARRAYOID};

	lpu_queue_run(overtaken_sql, 1, types, &ids);
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

/* ----- held rows ----- */

/* Cache of the last role and server that were checked, since rows of one load have the same. */
typedef struct RequestSender
{
	Oid			role;
	Oid			server;
	char	   *account;
	const char *problem;		/* why it cannot send, or NULL */
} RequestSender;

static Oid
oid_at(SPITupleTable *table, uint64 row, int column)
{
	bool		isnull;

	return DatumGetObjectId(SPI_getbinval(table->vals[row], table->tupdesc, column, &isnull));
}

/* Return why row i of the held rows can no longer be sent, or NULL. */
static const char *
why_not_sent(SPITupleTable *table, uint64 i, RequestSender *last)
{
	bool		isnull;
	Oid			role = oid_at(table, i, 2);
	Oid			server = oid_at(table, i, 4);
	char	   *account = SPI_getvalue(table->vals[i], table->tupdesc, 5);

	if (!DatumGetBool(SPI_getbinval(table->vals[i], table->tupdesc, 6, &isnull)))
		return "its data were removed, see lpusers.keep_held_secrets";
	if (last->account == NULL || last->role != role || last->server != server ||
		strcmp(last->account, account) != 0)
	{
		LpuProblem *problem = NULL;
		char	   *name = SPI_getvalue(table->vals[i], table->tupdesc, 3);

		last->role = role;
		last->server = server;
		last->account = account;

		/*
		 * rows of a dropped server may be sent to another server of the same
		 * account
		 */
		if (OidIsValid(server) && !lpu_server_serves(server, account))
			server = InvalidOid;
		last->problem = lpu_server_for_request(server, account, role, name, &problem) ? NULL :
			problem->message;
	}
	return last->problem;
}

/* Keep rows held: $1 ids and $2 reasons.  Writes lp_requests. */
static const char keep_sql[] =
"UPDATE @extschema@.lp_requests r SET hold = 'setup', reason = u.reason "
"FROM unnest($1::bigint[], $2::text[]) AS u (id, reason) WHERE r.id = u.id";

static void
keep_held(const LpuColumns *kept)
{
	int			n = lpu_columns_count(kept);
	Oid			types[2] = {INT8ARRAYOID, TEXTARRAYOID};
	Datum		values[2] = {lpu_columns_array(kept, 0), lpu_columns_array(kept, 1)};

	lpu_queue_run(keep_sql, 2, types, values);
	ereport(NOTICE,
			(errmsg_plural("%d request stays held: it can no longer be sent",
						   "%d requests stay held: they can no longer be sent", n, n),
			 errdetail("Their role, server or user mapping is gone, or their data are"
					   " (lpusers.keep_held_secrets)."),
			 errhint("Mend the set-up and release them again, or drop them with lp_discard().")));
}

/*
 * Release the rows that a statement made with HELD_SQL finds; those that can no longer be sent
 * stay held, with the reason.
 */
static int64
release(const char *held_sql, Oid type, Datum which)
{
	static const Oid kept_types[2] = {INT8OID, TEXTOID};
	Datum		here = CStringGetTextDatum(lpu_origin_text());
	Oid			types[3] = {type, TEXTOID, BOOLOID};
	Datum		values[3] = {which, here, BoolGetDatum(lpu_after_promotion == LPU_RESUME)};
	Oid			release_types[2] = {INT8ARRAYOID, TEXTOID};
	Datum		release_values[2];
	LpuColumns *kept = lpu_columns_new(kept_types, 2);
	SPITupleTable *table;
	RequestSender last = {0};
	int64	   *good;
	uint64		n;
	int			ngood = 0;
	uint64		i;

	lpu_queue_run(held_sql, 3, types, values);
	table = SPI_tuptable;
	n = SPI_processed;
	good = palloc_extended(Max(n, 1) * sizeof(int64), MCXT_ALLOC_HUGE);
	for (i = 0; i < n; i++)
	{
		bool		isnull;
		Datum		id = SPI_getbinval(table->vals[i], table->tupdesc, 1, &isnull);
		const char *why = why_not_sent(table, i, &last);

		if (why == NULL)
		{
			good[ngood++] = DatumGetInt64(id);
			continue;
		}
		lpu_columns_next(kept);
		lpu_columns_set(kept, 0, id);
		lpu_columns_set_text(kept, 1, why);
	}
	SPI_freetuptable(table);
	release_values[0] = lpu_queue_id_array(good, ngood);
	release_values[1] = here;
	lpu_queue_run(release_sql, 2, release_types, release_values);
	if (lpu_columns_count(kept) > 0)
		keep_held(kept);
	lpu_enqueue_wake();
	return ngood;
}

/* lp_release() of an account. */
int64
lpu_release_account(const char *account)
{
	return release(held_of_account_sql, TEXTOID, CStringGetTextDatum(account));
}

/* lp_release() of some requests. */
int64
lpu_release_ids(Datum ids)
{
	return release(held_of_ids_sql, INT8ARRAYOID, ids);
}

/* Mark the updates and deletes that were written elsewhere and would undo newer ones. */
static void
supersede_overtaken(void)
{
	Oid			types[2] = {TEXTOID, INT8ARRAYOID};
	Datum		values[2] = {CStringGetTextDatum(lpu_origin_text())};
	int64	   *ids;
	int64	   *newer;
	int			n;
	int			i;

	lpu_queue_run(foreign_sql, 1, types, values);
	ids = lpu_queue_ids(&n);
	if (n == 0)
		return;
	types[0] = INT8ARRAYOID;
	values[0] = lpu_queue_id_array(ids, n);
	lpu_queue_run(overtaken_sql, 1, types, values);
	ids = lpu_queue_ids(&n);
	if (n == 0)
		return;
	newer = palloc_extended(n * sizeof(int64), MCXT_ALLOC_HUGE);
	for (i = 0; i < n; i++)
		newer[i] = lpu_int64_column(i, 2);
	values[0] = lpu_queue_id_array(ids, n);
	values[1] = lpu_queue_id_array(newer, n);
	lpu_queue_run(supersede_sql, 2, types, values);
	ereport(NOTICE,
			(errmsg_plural("%d request is superseded: a newer one of the same user is done",
						   "%d requests are superseded: newer ones of the same users are done", n, n),
			 errhint("If such a change is still wanted, queue it again.")));
}

/* lp_adopt(). */
int64
lpu_adopt(void)
{
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {CStringGetTextDatum(lpu_origin_text())};
	int64		n = 0;
	int			i;

	supersede_overtaken();
	lpu_queue_run(adopt_sql, 1, types, values);
	for (i = 0; i < (int) SPI_processed; i++)
		n += lpu_bool_column(i, 2);
	lpu_enqueue_wake();
	return n;
}

/*
 * release.c: requests that are held become pending: release, and adopt after a copy or a restore.
 *
 * The rows are locked as in operate.c.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"

#include "base/guc.h"
#include "base/origin.h"
#include "base/spi_plan.h"
#include "options/server.h"
#include "queue/columns.h"
#include "queue/enqueue.h"
#include "queue/operate.h"
#include "queue/release.h"
#include "queue/statement.h"

/*
 * Requests that may be released: held for set-up, threshold or credentials, and written here, or
 * on another timeline of this database if lpusers.after_promotion = resume; by their ids also
 * pending ones that wait longer than any delay, since the clock was set back.  $1 account or ids,
 * $2 origin here, $3 resume.  Returns id, role, its name, server, account and whether there is a
 * payload, in the order of the ids.  Those of an account are sorted by an expression, since no
 * index has its order: for an ordered column the planner would walk the primary key.  Locks
 * lp_requests, reads lp_payloads.
 */
#define HELD_SQL(which, order) \
"SELECT r.id, r.send_as_oid, r.send_as, r.server_oid, r.account," \
"  EXISTS (SELECT FROM @extschema@.lp_payloads p WHERE p.request_id = r.id) " \
"FROM @extschema@.lp_requests r " \
"WHERE " which \
"  AND (r.origin = $2 OR $3 AND @extschema@._lp_is_here(r.origin, $2)) " \
"ORDER BY " order " FOR UPDATE OF r"

static const char held_of_account_sql[] = HELD_SQL("r.account = $1 AND r.state = 'held'"
												   " AND r.hold <> 'elsewhere'", "r.id + 0");
static const char held_of_ids_sql[] = HELD_SQL("r.id = ANY ($1) AND (r.state = 'held' AND"
											   " r.hold <> 'elsewhere' OR r.state = 'pending' AND"
											   " r.next_attempt_at > clock_timestamp() + interval '1 day')",
											   "r.id");

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
	lpu_find_overtaken(lpu_queue_id_array(ids, n));
	ids = lpu_queue_ids(&n);
	if (n == 0)
		return;
	newer = palloc_extended(n * sizeof(int64), MCXT_ALLOC_HUGE);
	for (i = 0; i < n; i++)
		newer[i] = lpu_int64_column(i, 2);
	types[0] = INT8ARRAYOID;
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

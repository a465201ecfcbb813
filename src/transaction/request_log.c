/*
 * request_log.c: the rows of lp_requests that a direct call leaves.
 *
 * These rows are part of the caller's transaction. They are written before the request is sent, so
 * that local failures occur first, and completed with the response. Only the owner has rights on
 * the table, so the rows are written as its owner.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "base/extension.h"
#include "base/origin.h"
#include "base/spi_plan.h"
#include "queue/columns.h"
#include "queue/mend.h"
#include "queue/statement.h"
#include "transaction/request_log.h"

struct LpuRecord
{
	int			n;
	int64	   *ids;
};

/*
 * Record a request of several users: one element of $1 to $3 each (ids, logins, user ids).  $4
 * account, $5 operation, $6 path, $7 and $8 name and OID of the server, $9 and $10, $11 and $12
 * those of the requesting and the sending role, $13 batch, $14 origin.  Writes lp_requests.
 */
static const char begin_sql[] =
"INSERT INTO @extschema@.lp_requests (id, account, operation, path, server, server_oid, requested_by,"
"  requested_by_oid, send_as,"
"  send_as_oid, login_name, user_id, state, cause, attempts, batch, reason, origin, enqueued_at,"
"    sent_at) "
"OVERRIDING SYSTEM VALUE "
"SELECT u.id, $4, $5, $6, $7, $8, $9, $10, $11, $12, u.login_name, u.user_id, 'failed',"
"  'unknown', 1, $13,"
"  'outcome unknown', $14, clock.now, clock.now "
"FROM unnest($1::bigint[], $2::text[], $3::bigint[]) AS u (id, login_name, user_id),"
"  (SELECT clock_timestamp() AS now) clock "
"ORDER BY u.id";

/*
 * Complete them: $1 and $2 ids and user ids.  $3 state, $4 cause, $5 status, $6 whether the
 * revision is known, $7 revision, $8 error, $9 reason; empty texts are null.  Writes lp_requests.
 */
static const char settle_sql[] =
"UPDATE @extschema@.lp_requests r"
" SET state = $3, cause = nullif($4, ''), status = $5, ac_revision = CASE WHEN $6 THEN $7 ELSE"
"   r.ac_revision END,"
"   error = nullif($8, ''), reason = nullif($9, ''), user_id = coalesce(u.user_id, r.user_id),"
"     evidence = 'answer',"
"   finished_at = clock_timestamp() "
"FROM unnest($1::bigint[], $2::bigint[]) AS u (id, user_id) WHERE r.id = u.id";

/* Their outcome is unknown after all.  $1 ids.  Writes lp_requests. */
static const char doubt_sql[] =
"UPDATE @extschema@.lp_requests r SET cause = 'unknown', reason = 'outcome unknown' WHERE r.id = ANY"
"  ($1) AND r.state = 'failed'";

/* Take rows back.  $1 ids.  Writes lp_requests. */
static const char forget_sql[] =
"DELETE FROM @extschema@.lp_requests r WHERE r.id = ANY ($1)";

static const Oid id_types[] = {INT8OID, TEXTOID, INT8OID};

static Oid
find_sequence(Oid schema, const char *name)
{
	Oid			sequence = get_relname_relid(name, schema);

	if (!OidIsValid(sequence))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("sequence \"%s.%s\" does not exist", get_namespace_name(schema), name),
				 errhint("DROP EXTENSION lpusers and create it again.")));
	return sequence;
}

/* Ids, logins and user ids of the users, as columns. */
static LpuColumns *
user_columns(const LpuRecord *record, const LpuUserIdentity *users)
{
	LpuColumns *columns = lpu_columns_new(id_types, lengthof(id_types));
	int			i;

	for (i = 0; i < record->n; i++)
	{
		lpu_columns_next(columns);
		lpu_columns_set(columns, 0, Int64GetDatum(record->ids[i]));
		lpu_columns_set_text(columns, 1, users[i].login_name);
		if (users[i].id != 0)
			lpu_columns_set(columns, 2, Int64GetDatum(users[i].id));
	}
	return columns;
}

/*
 * Write the rows, in the state "failed" with the cause "unknown". Returns the record, in the
 * current memory context.
 */
LpuRecord *
lpu_record_begin(Oid schema, const LpuOptions *options, const char *operation, const char *path,
				 const LpuUserIdentity *users, int n)
{
	LpuRecord  *record = palloc(sizeof(LpuRecord));
	Oid			sequence = find_sequence(schema, "lp_requests_id_seq");
	Oid			requested_by = GetOuterUserId();
	Oid			send_as = GetUserId();
	Oid			types[14] = {INT8ARRAYOID, TEXTARRAYOID, INT8ARRAYOID, TEXTOID, TEXTOID, TEXTOID,
		TEXTOID,
	OIDOID, TEXTOID, OIDOID, TEXTOID, OIDOID, INT8OID, TEXTOID};
	Datum		values[14];
	LpuColumns *columns;
	int			i;

	record->n = n;
	record->ids = palloc(Max(n, 1) * sizeof(int64));
	for (i = 0; i < n; i++)
		record->ids[i] = nextval_internal(sequence, false);
	SPI_connect();
	columns = user_columns(record, users);
	for (i = 0; i < 3; i++)
		values[i] = lpu_columns_array(columns, i);
	values[3] = CStringGetTextDatum(options->account);
	values[4] = CStringGetTextDatum(operation);
	values[5] = CStringGetTextDatum(path);
	values[6] = CStringGetTextDatum(options->server_name);
	values[7] = ObjectIdGetDatum(options->server);
	values[8] = CStringGetTextDatum(GetUserNameFromId(requested_by, false));
	values[9] = ObjectIdGetDatum(requested_by);
	values[10] = CStringGetTextDatum(GetUserNameFromId(send_as, false));
	values[11] = ObjectIdGetDatum(send_as);
	values[12] = Int64GetDatum(nextval_internal(find_sequence(schema, "lp_batch_seq"), false));
	values[13] = CStringGetTextDatum(lpu_origin_text());
	lpu_queue_run(begin_sql, 14, types, values);
	if (SPI_processed != n)
		elog(ERROR, "wrote %d instead of %d rows to lp_requests", (int) SPI_processed, n);
	SPI_finish();
	return record;
}

/* Complete the rows; those of a success mark earlier failures as mended. */
static void
settle_alike(const LpuRecord *record, const LpuRecordResult *result, const LpuUserIdentity *users)
{
	bool		failed = strcmp(result->state, lpu_state_name(LPU_STATE_FAILED)) == 0;
	LpuCause	cause = result->cause != LPU_CAUSE_NONE ? result->cause : LPU_CAUSE_REFUSED;
	Oid			types[9] = {INT8ARRAYOID, INT8ARRAYOID, TEXTOID, TEXTOID, INT4OID, BOOLOID, INT8OID,
	TEXTOID, TEXTOID};
	Datum		values[9];
	LpuColumns *columns;

	SPI_connect();
	columns = user_columns(record, users);
	values[0] = lpu_columns_array(columns, 0);
	values[1] = lpu_columns_array(columns, 2);
	values[2] = CStringGetTextDatum(result->state);
	values[3] = CStringGetTextDatum(failed ? lpu_cause_name(cause) : "");
	values[4] = Int32GetDatum(result->status);
	values[5] = BoolGetDatum(result->has_revision);
	values[6] = Int64GetDatum(result->revision);
	values[7] = CStringGetTextDatum(result->error ? result->error : "");
	values[8] = CStringGetTextDatum(result->reason ? result->reason : "");
	lpu_queue_run(settle_sql, 9, types, values);
	if (!failed)
		lpu_settle_mend(record->ids, record->n);
	SPI_finish();
}

/*
 * Complete the rows, after a success.  Those of users that are doubtful (or
 * NULL) are failed with "outcome unknown".
 */
void
lpu_record_settle(LpuRecord *record, const LpuRecordResult *result, const LpuUserIdentity *users,
				  const bool *doubtful)
{
	LpuRecord	parts[2] = {*record, *record};
	LpuUserIdentity *of_part[2];
	LpuRecordResult unknown = *result;
	int			i;

	if (doubtful == NULL)
	{
		settle_alike(record, result, users);
		return;
	}
	for (i = 0; i < 2; i++)
	{
		parts[i].n = 0;
		parts[i].ids = palloc(record->n * sizeof(int64));
		of_part[i] = palloc(record->n * sizeof(LpuUserIdentity));
	}
	for (i = 0; i < record->n; i++)
	{
		LpuRecord  *part = &parts[doubtful[i]];

		of_part[doubtful[i]][part->n] = users[i];
		part->ids[part->n++] = record->ids[i];
	}
	unknown.state = lpu_state_name(LPU_STATE_FAILED);
	unknown.cause = LPU_CAUSE_UNKNOWN;
	unknown.reason = "outcome unknown";
	if (parts[0].n > 0)
		settle_alike(&parts[0], result, of_part[0]);
	if (parts[1].n > 0)
		settle_alike(&parts[1], &unknown, of_part[1]);
}

/* Run a statement for the rows that are doubtful, or for those that are not. */
static void
run_for(const LpuRecord *record, const char *sql, const bool *doubtful, bool which)
{
	int64	   *ids = palloc(Max(record->n, 1) * sizeof(int64));
	Oid			types[1] = {INT8ARRAYOID};
	Datum		values[1];
	int			n = 0;
	int			i;

	for (i = 0; i < record->n; i++)
		if ((doubtful != NULL && doubtful[i]) == which)
			ids[n++] = record->ids[i];
	if (n == 0)
		return;
	values[0] = lpu_queue_id_array(ids, n);
	lpu_queue_run(sql, 1, types, values);
}

/*
 * Delete the rows of users that are not doubtful; those of the others stay, their outcome is
 * unknown.
 */
void
lpu_record_forget(LpuRecord *record, const bool *doubtful)
{
	SPI_connect();
	run_for(record, doubt_sql, doubtful, true);
	run_for(record, forget_sql, doubtful, false);
	SPI_finish();
}

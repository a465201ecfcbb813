/*
 * request_log.c: the rows of lp_requests that a direct call leaves.
 *
 * They are part of the caller's transaction: written before the request is sent, so that what can fail locally fails
 * first, and completed with the answer. No role but the owner has rights on the table, so they are written as its owner;
 * and without SQL, because the start of two small statements would cost more than the call itself.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "base/extension.h"
#include "base/origin.h"
#include "base/spi_plan.h"
#include "queue/bulk_insert.h"
#include "queue/row_update.h"
#include "transaction/request_log.h"

static const char *const columns[] = {"id", "account", "operation", "path", "server", "requested_by", "send_as",
	"login_name", "user_id", "state", "attempts", "batch", "reason", "origin", "enqueued_at", "sent_at", NULL};

/* In their order. */
enum
{
	ID, ACCOUNT, OPERATION, PATH, SERVER, REQUESTED_BY, SEND_AS, LOGIN_NAME, USER_ID, STATE, ATTEMPTS, BATCH, REASON,
	ORIGIN, ENQUEUED_AT, SENT_AT, NCOLUMNS
};

/* A row that is final from the beginning is in none of them. */
static const char *const indexes[] = {"lp_requests_waiting", "lp_requests_in_flight", NULL};

struct lpu_record
{
	Oid			schema;
	int			n;
	int64	   *ids;
};

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

/* What all rows have in common. */
static void
set_common(Datum *values, bool *nulls, Oid schema, const lpu_options *options, const char *operation, const char *path)
{
	TimestampTz now = GetCurrentTimestamp();

	memset(nulls, false, NCOLUMNS * sizeof(bool));
	values[ACCOUNT] = CStringGetTextDatum(options->account);
	values[OPERATION] = CStringGetTextDatum(operation);
	values[PATH] = CStringGetTextDatum(path);
	values[SERVER] = CStringGetTextDatum(options->server_name);
	values[STATE] = CStringGetTextDatum("failed");
	values[ATTEMPTS] = Int32GetDatum(1);
	values[BATCH] = Int64GetDatum(nextval_internal(find_sequence(schema, "lp_batch_seq"), true));
	values[REASON] = CStringGetTextDatum("outcome unknown");
	values[ORIGIN] = CStringGetTextDatum(lpu_origin_text());
	values[ENQUEUED_AT] = values[SENT_AT] = TimestampTzGetDatum(now);
}

static void
write_rows(lpu_record *record, Datum *values, bool *nulls, const lpu_user_identity *users)
{
	static const lpu_entry keys[lengthof(indexes)];
	Oid			sequence = find_sequence(record->schema, "lp_requests_id_seq");
	lpu_bulk   *bulk = lpu_bulk_begin(record->schema, "lp_requests", columns, indexes);
	int			written = 0;
	int			i;

	for (i = 0; i < record->n; i++)
	{
		record->ids[i] = nextval_internal(sequence, true);
		values[ID] = Int64GetDatum(record->ids[i]);
		nulls[LOGIN_NAME] = users[i].login_name == NULL;
		values[LOGIN_NAME] = nulls[LOGIN_NAME] ? (Datum) 0 : CStringGetTextDatum(users[i].login_name);
		nulls[USER_ID] = users[i].id == 0;
		values[USER_ID] = Int64GetDatum(users[i].id);
		written += lpu_bulk_add(bulk, values, nulls, keys);
	}
	lpu_bulk_end(bulk);
	if (written != record->n)
		elog(ERROR, "wrote %d instead of %d rows to lp_requests", written, record->n);
}

lpu_record *
lpu_record_begin(Oid schema, const lpu_options *options, const char *operation, const char *path,
				 const lpu_user_identity *users, int n)
{
	lpu_record *record = palloc(sizeof(lpu_record));
	char	   *requested_by = GetUserNameFromId(GetOuterUserId(), false);
	char	   *send_as = GetUserNameFromId(GetUserId(), false);
	Datum		values[NCOLUMNS];
	bool		nulls[NCOLUMNS];
	lpu_identity before;

	record->schema = schema;
	record->n = n;
	record->ids = palloc(Max(n, 1) * sizeof(int64));
	lpu_become_owner(schema, &before);
	set_common(values, nulls, schema, options, operation, path);
	values[REQUESTED_BY] = CStringGetTextDatum(requested_by);
	values[SEND_AS] = CStringGetTextDatum(send_as);
	write_rows(record, values, nulls, users);
	lpu_become_again(&before);
	return record;
}

static void
set_text_or_null(lpu_stored *stored, lpu_column column, const char *text)
{
	if (text != NULL)
		lpu_stored_set_text(stored, column, text);
	else
		lpu_stored_set_null(stored, column);
}

static void
settle_row(lpu_stored *stored, const lpu_record_result *result, int64 user_id, TimestampTz now)
{
	lpu_stored_set_text(stored, LPU_COL_STATE, result->state);
	lpu_stored_set(stored, LPU_COL_STATUS, Int32GetDatum(result->status));
	if (result->has_revision)
		lpu_stored_set(stored, LPU_COL_AC_REVISION, Int64GetDatum(result->revision));
	set_text_or_null(stored, LPU_COL_ERROR, result->error);
	set_text_or_null(stored, LPU_COL_REASON, result->reason);
	if (user_id != 0)
		lpu_stored_set(stored, LPU_COL_USER_ID, Int64GetDatum(user_id));
	lpu_stored_set_text(stored, LPU_COL_EVIDENCE, "answer");
	lpu_stored_set(stored, LPU_COL_FINISHED_AT, TimestampTzGetDatum(now));
	(void) lpu_stored_update(stored, true);
}

void
lpu_record_settle(lpu_record *record, const lpu_record_result *result, const lpu_user_identity *users,
				  const bool *doubtful)
{
	lpu_record_result unknown = *result;
	TimestampTz now = GetCurrentTimestamp();
	lpu_identity before;
	lpu_stored *stored;
	int			i;

	unknown.state = "failed";
	unknown.reason = "outcome unknown";
	lpu_become_owner(record->schema, &before);
	stored = lpu_stored_open(record->schema);
	for (i = 0; i < record->n; i++)
		if (lpu_stored_find(stored, record->ids[i], NULL))
			settle_row(stored, doubtful && doubtful[i] ? &unknown : result, users[i].id, now);
	lpu_stored_close(stored);
	lpu_become_again(&before);
}

/* Nobody knows whether these were carried out. */
static void
mark_doubtful(const lpu_record *record, const bool *doubtful)
{
	lpu_identity before;
	lpu_stored *stored;
	int			i;

	lpu_become_owner(record->schema, &before);
	stored = lpu_stored_open(record->schema);
	for (i = 0; i < record->n; i++)
		if (doubtful[i] && lpu_stored_find(stored, record->ids[i], NULL))
		{
			lpu_stored_set_text(stored, LPU_COL_REASON, "outcome unknown");
			(void) lpu_stored_update(stored, true);
		}
	lpu_stored_close(stored);
	lpu_become_again(&before);
}

void
lpu_record_forget(lpu_record *record, const bool *doubtful)
{
	Datum	   *ids = palloc(Max(record->n, 1) * sizeof(Datum));
	Oid			type = INT8ARRAYOID;
	Datum		value;
	int			n = 0;
	int			i;

	for (i = 0; i < record->n; i++)
		if (doubtful == NULL || !doubtful[i])
			ids[n++] = Int64GetDatum(record->ids[i]);
	if (n < record->n)
		mark_doubtful(record, doubtful);
	value = PointerGetDatum(construct_array(ids, n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	SPI_connect();
	lpu_run("DELETE FROM @extschema@.lp_requests WHERE id = ANY ($1)", 1, &type, &value);
	SPI_finish();
}

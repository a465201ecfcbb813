/*
 * record.c: the rows of lp_requests that a direct call leaves.
 *
 * They are part of the caller's transaction: written before the request is sent, so that what can fail locally fails
 * first, and completed with the answer. No role but the owner has rights on the table, so the statements run as its
 * owner; every name and operator in them is qualified, because the caller's search_path is in force. They are prepared
 * once per backend.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "origin.h"
#include "owner.h"
#include "record.h"

#define BEGIN_ARGS 9
#define SETTLE_ARGS 7
#define FORGET_ARGS 1

/* %s is the extension's schema. */
static const char *const begin_sql =
	"INSERT INTO %s.lp_requests (account, operation, path, server, requested_by, send_as, login_name, user_id, state,"
	" attempts, batch, reason, origin, enqueued_at, sent_at)"
	" SELECT $1, $2, $3, $4, $5, $6, u.login_name, u.user_id, 'failed', 1,"
	" t.batch, 'outcome unknown', $7, t.now, t.now"
	" FROM (SELECT pg_catalog.nextval('%s.lp_batch_seq'::pg_catalog.regclass) AS batch,"
	" pg_catalog.clock_timestamp() AS now OFFSET 0) t,"
	" ROWS FROM (pg_catalog.unnest($8), pg_catalog.unnest($9)) AS u(login_name, user_id)"
	" RETURNING id";

static const char *const settle_sql =
	"UPDATE %s.lp_requests r SET state = $2, status = $3, ac_revision = $4, error = $5, reason = $6,"
	" user_id = u.user_id, evidence = 'answer', finished_at = pg_catalog.clock_timestamp()"
	" FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($7)) AS u(id, user_id)"
	" WHERE r.id OPERATOR(pg_catalog.=) u.id";

static const char *const forget_sql =
	"DELETE FROM %s.lp_requests WHERE id OPERATOR(pg_catalog.=) ANY ($1)";

struct lpu_record
{
	Oid			schema;
	int			n;
	int64	   *ids;
};

/* The prepared statements of this backend, and the schema they name. */
static SPIPlanPtr begin_plan = NULL;
static SPIPlanPtr settle_plan = NULL;
static SPIPlanPtr forget_plan = NULL;
static char plans_schema[NAMEDATALEN] = "";

static SPIPlanPtr
prepare(const char *sql, const char *schema, int nargs, Oid *types)
{
	const char *quoted = quote_identifier(schema);
	SPIPlanPtr	plan = SPI_prepare(psprintf(sql, quoted, quoted), nargs, types);

	if (plan == NULL)
		elog(ERROR, "could not prepare a statement on lp_requests: %s", SPI_result_code_string(SPI_result));
	SPI_keepplan(plan);
	return plan;
}

static void
drop_plan(SPIPlanPtr *plan)
{
	if (*plan != NULL)
		SPI_freeplan(*plan);
	*plan = NULL;
}

static void
prepare_all(const char *schema)
{
	Oid			begin_types[BEGIN_ARGS] = {TEXTOID, TEXTOID, TEXTOID, NAMEOID, NAMEOID, NAMEOID, TEXTOID, TEXTARRAYOID,
	INT8ARRAYOID};
	Oid			settle_types[SETTLE_ARGS] = {INT8ARRAYOID, TEXTOID, INT4OID, INT8OID, TEXTOID, TEXTOID, INT8ARRAYOID};
	Oid			forget_types[FORGET_ARGS] = {INT8ARRAYOID};

	if (forget_plan != NULL && strcmp(plans_schema, schema) == 0)
		return;
	drop_plan(&begin_plan);
	drop_plan(&settle_plan);
	drop_plan(&forget_plan);
	begin_plan = prepare(begin_sql, schema, BEGIN_ARGS, begin_types);
	settle_plan = prepare(settle_sql, schema, SETTLE_ARGS, settle_types);
	forget_plan = prepare(forget_sql, schema, FORGET_ARGS, forget_types);
	strlcpy(plans_schema, schema, NAMEDATALEN);
}

/* Run a statement as the owner of the table. On error the transaction's abort restores the role. */
static void
execute_as_owner(Oid schema, SPIPlanPtr *plan, Datum *values, const char *nulls)
{
	lpu_identity before;

	lpu_become_owner(schema, &before);
	prepare_all(get_namespace_name(schema));
	if (SPI_execute_plan(*plan, values, nulls, false, 0) < 0)
		elog(ERROR, "could not write to lp_requests: %s", SPI_result_code_string(SPI_result));
	lpu_become_again(&before);
}

static Datum
int64_array(const int64 *values, const bool *nulls, int n)
{
	Datum	   *datums = palloc(Max(n, 1) * sizeof(Datum));
	bool	   *isnull = palloc0(Max(n, 1) * sizeof(bool));
	int			lower = 1;
	int			i;

	for (i = 0; i < n; i++)
	{
		datums[i] = Int64GetDatum(values[i]);
		isnull[i] = nulls != NULL && nulls[i];
	}
	return PointerGetDatum(construct_md_array(datums, isnull, 1, &n, &lower, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

static Datum
user_ids(const lpu_user_identity *users, int n)
{
	int64	   *ids = palloc(Max(n, 1) * sizeof(int64));
	bool	   *nulls = palloc(Max(n, 1) * sizeof(bool));
	int			i;

	for (i = 0; i < n; i++)
	{
		ids[i] = users[i].id;
		nulls[i] = users[i].id == 0;
	}
	return int64_array(ids, nulls, n);
}

static Datum
login_names(const lpu_user_identity *users, int n)
{
	Datum	   *datums = palloc(Max(n, 1) * sizeof(Datum));
	bool	   *nulls = palloc(Max(n, 1) * sizeof(bool));
	int			lower = 1;
	int			i;

	for (i = 0; i < n; i++)
	{
		nulls[i] = users[i].login_name == NULL;
		datums[i] = nulls[i] ? (Datum) 0 : CStringGetTextDatum(users[i].login_name);
	}
	return PointerGetDatum(construct_md_array(datums, nulls, 1, &n, &lower, TEXTOID, -1, false, TYPALIGN_INT));
}

lpu_record *
lpu_record_begin(Oid schema, const lpu_options *options, const char *operation, const char *path,
				 const lpu_user_identity *users, int n)
{
	lpu_record *record = palloc(sizeof(lpu_record));
	Datum		values[BEGIN_ARGS];
	int			i;

	record->schema = schema;
	record->n = n;
	record->ids = palloc(Max(n, 1) * sizeof(int64));
	values[0] = CStringGetTextDatum(options->account);
	values[1] = CStringGetTextDatum(operation);
	values[2] = CStringGetTextDatum(path);
	values[3] = lpu_name_datum(options->server_name);
	values[4] = lpu_name_datum(GetUserNameFromId(GetOuterUserId(), false));
	values[5] = lpu_name_datum(GetUserNameFromId(GetUserId(), false));
	values[6] = CStringGetTextDatum(lpu_origin_text());
	values[7] = login_names(users, n);
	values[8] = user_ids(users, n);

	SPI_connect();
	execute_as_owner(schema, &begin_plan, values, NULL);
	if (SPI_processed != (uint64) n)
		elog(ERROR, "wrote %llu instead of %d rows to lp_requests", (unsigned long long) SPI_processed, n);
	for (i = 0; i < n; i++)
	{
		bool		isnull;

		record->ids[i] = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
	}
	SPI_finish();
	return record;
}

void
lpu_record_settle(lpu_record *record, const lpu_record_result *result, const lpu_user_identity *users)
{
	Datum		values[SETTLE_ARGS];
	char		nulls[SETTLE_ARGS + 1] = "       ";

	values[0] = int64_array(record->ids, NULL, record->n);
	values[1] = CStringGetTextDatum(result->state);
	values[2] = Int32GetDatum(result->status);
	values[3] = Int64GetDatum(result->revision);
	nulls[3] = result->has_revision ? ' ' : 'n';
	values[4] = result->error ? CStringGetTextDatum(result->error) : (Datum) 0;
	nulls[4] = result->error ? ' ' : 'n';
	values[5] = result->reason ? CStringGetTextDatum(result->reason) : (Datum) 0;
	nulls[5] = result->reason ? ' ' : 'n';
	values[6] = user_ids(users, record->n);

	SPI_connect();
	execute_as_owner(record->schema, &settle_plan, values, nulls);
	SPI_finish();
}

void
lpu_record_forget(lpu_record *record)
{
	Datum		values[FORGET_ARGS] = {int64_array(record->ids, NULL, record->n)};

	SPI_connect();
	execute_as_owner(record->schema, &forget_plan, values, NULL);
	SPI_finish();
}

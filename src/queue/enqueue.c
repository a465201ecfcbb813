/*
 * enqueue.c: putting users into the queue.
 *
 * The queue is two ordinary tables: enqueued rows are part of the caller's transaction, and a
 * rollback, also to a savepoint, removes them. The rows are written by multi-row INSERTs as the
 * tables' owner, so columns, defaults, triggers and indexes that an administrator added work as
 * on any table. A login that is given twice, or is unfinished in the queue of the same server,
 * becomes a failed row. A SERIALIZABLE transaction does not read the queue to find such logins,
 * since concurrent hires would then fail with serialization errors. There the deliverer finds a
 * duplicate, because the account already has the user when the second request is delivered. After
 * COMMIT the worker of the database is woken. This raises no error: if the worker cannot be
 * started, the rows wait.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/formatting.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/extension.h"
#include "base/origin.h"
#include "base/spi_plan.h"
#include "base/text_table.h"
#include "queue/columns.h"
#include "queue/enqueue.h"
#include "queue/statement.h"
#include "queue/worker_slots.h"

/*
 * Rows of one INSERT: enough to make the statement's fixed cost negligible, few enough to need
 * little memory.
 */
#define CHUNK_ROWS 2000
#define CHUNK_BYTES (4 * 1024 * 1024)

/* Number of users that triggers have enqueued in this transaction for an account. */
typedef struct AccountCount
{
	struct AccountCount *next;
	char	   *account;
	int64		n;
} AccountCount;

static AccountCount *counts = NULL;

/*
 * The outermost transaction level at which something was enqueued that has not been rolled back; 0:
 * none.
 */
static int	wake_level = 0;

/* ----- end of the transaction ----- */

static void
at_transaction_end(XactEvent event, void *arg)
{
	switch (event)
	{
			/* COMMIT PREPARED wakes no worker: the worker polls for it */
		case XACT_EVENT_PREPARE:
		case XACT_EVENT_COMMIT:
			if (wake_level > 0)
				(void) lpu_wake_worker(MyDatabaseId);
			/* FALLTHROUGH */
		case XACT_EVENT_ABORT:
			wake_level = 0;
			counts = NULL;
			break;
		default:
			break;
	}
}

static void
at_subtransaction_end(SubXactEvent event, SubTransactionId id, SubTransactionId parent, void *arg)
{
	int			level = GetCurrentTransactionNestLevel();

	if (wake_level < level)
		return;
	if (event == SUBXACT_EVENT_COMMIT_SUB)
		wake_level = level - 1;
	else if (event == SUBXACT_EVENT_ABORT_SUB)
		wake_level = 0;
}

static void
register_callback(void)
{
	static bool registered = false;

	if (registered)
		return;
	/* at commit it would be too late to report exhausted shared memory */
	lpu_shmem_attach();
	RegisterXactCallback(at_transaction_end, NULL);
	RegisterSubXactCallback(at_subtransaction_end, NULL);
	registered = true;
}

/* Wake the worker of this database when this transaction commits. */
void
lpu_enqueue_wake(void)
{
	int			level = GetCurrentTransactionNestLevel();

	register_callback();
	if (wake_level == 0 || level < wake_level)
		wake_level = level;
}

/*
 * Add n to the number of users that triggers enqueue for an account, and return the total of this
 * transaction.
 */
int64
lpu_enqueue_count(const char *account, int n)
{
	AccountCount *entry;

	register_callback();
	for (entry = counts; entry != NULL; entry = entry->next)
		if (strcmp(entry->account, account) == 0)
			return entry->n += n;
	entry = MemoryContextAlloc(TopTransactionContext, sizeof(AccountCount));
	entry->account = MemoryContextStrdup(TopTransactionContext, account);
	entry->n = n;
	entry->next = counts;
	counts = entry;
	return n;
}

/* ----- writing ----- */

/* The columns that differ from user to user; up to BODY parameters of insert_sql. */
enum
{
	ID, LOGIN_NAME, PROBLEM, SOURCE_KEY, BODY, NCOLUMNS
};

static const Oid types[NCOLUMNS] = {
	[ID] = INT8OID,
	[LOGIN_NAME] = TEXTOID,
	[PROBLEM] = TEXTOID,
	[SOURCE_KEY] = JSONBOID,
	[BODY] = JSONOID,
};

#define INSERT_ARGS (BODY + LPU_ORIGIN_PARAMS + 4)

/*
 * Append users: one element of each array $1 to $4 (ids, logins, problems, keys) and $22 (true: an
 * earlier user of the arrays has the login). $5 to $18 are what lpu_origin_params() sets, $19 the
 * first id of this call, $21 the current time.  A login is taken if a row of this call or an
 * unfinished create of the server has it, unless that create is held for its set-up, or for
 * another role; $20: search the queue.  Returns the ids of the rows in order, without those that a
 * trigger suppressed, and login and error of those that failed.  Writes lp_requests.
 *
 * Each row passes through this statement without being stored in between: a tuplestore or a sort
 * would cost as much as the INSERT.
 */
static const char insert_sql[] =
"INSERT INTO @extschema@.lp_requests (id, account, operation, path, plan, action, server, server_oid, requested_by,"
"  requested_by_oid, send_as, send_as_oid, login_name, state, hold, cause, next_attempt_at, error,"
"  reason, origin, source_table, source_table_oid, source_key, finished_at, held_at)"
" OVERRIDING SYSTEM VALUE "
"SELECT j.id, $5, 'create', 'queue', nullif($17, 0), nullif($18, ''), nullif($6, ''), $7, $8, $9,"
"  $10, $11, j.login_name,"
"  CASE WHEN j.problem IS NOT NULL THEN 'failed' WHEN $12 <> '' THEN 'held' ELSE 'pending' END,"
"  CASE WHEN j.problem IS NULL THEN nullif($12, '') END,"
"  CASE WHEN j.problem IS NOT NULL THEN 'refused' END,"
"  CASE WHEN j.problem IS NULL AND $12 = '' THEN $21 END, j.problem,"
"  CASE WHEN j.problem IS NULL THEN nullif($13, '') END, $16, nullif($14, ''), $15, j.source_key,"
"  CASE WHEN j.problem IS NOT NULL THEN $21 END,"
"  CASE WHEN j.problem IS NULL AND $12 <> '' THEN $21 END "
"FROM ("
"  SELECT u.id, u.login_name, u.source_key,"
"    CASE WHEN u.problem IS NOT NULL THEN u.problem"
"      WHEN waiting.id < $19 OR flying.id IS NOT NULL THEN '\"loginName\" is already in the queue'"
"      WHEN waiting.id IS NOT NULL OR u.again"
"      THEN '\"loginName\" is given twice in this statement' END AS problem"
"  FROM (SELECT unnest($1::bigint[]) AS id, unnest($2::text[]) AS login_name,"
"      unnest($3::text[]) AS problem, unnest($4::jsonb[]) AS source_key,"
"      unnest($22::boolean[]) AS again OFFSET 0) u"
"  LEFT JOIN LATERAL (SELECT r.id FROM @extschema@.lp_requests r"
"    WHERE $20 AND u.problem IS NULL AND r.account = $5"
"      AND lower(r.login_name COLLATE \"C\") = lower(u.login_name COLLATE \"C\")"
"      AND r.login_name IS NOT NULL AND r.state IN ('pending', 'held') AND r.operation = 'create'"
"      AND (r.id >= $19 OR r.server_oid = $7 AND r.hold IS DISTINCT FROM 'setup'"
"        AND (r.state = 'pending' OR r.send_as_oid = $11))"
"    LIMIT 1) waiting ON true"
"  LEFT JOIN LATERAL (SELECT r.id FROM @extschema@.lp_requests r"
"    WHERE $20 AND u.problem IS NULL AND r.account = $5"
"      AND lower(r.login_name COLLATE \"C\") = lower(u.login_name COLLATE \"C\")"
"      AND r.server_oid = $7 AND r.state IN ('sending', 'uncertain') AND r.operation = 'create'"
"      AND (SELECT true FROM @extschema@.lp_requests f"
"        WHERE f.account = $5 AND f.state IN ('sending', 'uncertain') LIMIT 1)"
"    LIMIT 1) flying ON true"
"  OFFSET 0) j "
"RETURNING id, CASE WHEN error IS NOT NULL THEN login_name END, error";

/* Append payloads.  $1 ids of requests, $2 payloads, null for none.  Writes lp_payloads. */
static const char payloads_sql[] =
"INSERT INTO @extschema@.lp_payloads (request_id, body) "
"SELECT u.id, u.body FROM (SELECT unnest($1::bigint[]) AS id, unnest($2::json[]) AS body OFFSET 0) u "
"WHERE u.body IS NOT NULL";

/* Return what is wrong with a user considered alone, or NULL. */
static const char *
problem_of_user(const LpuQueuedUser *user)
{
	if (user->problem != NULL)
		return user->problem;

	/*
	 * the caller should have reported this: a row without login and body must
	 * not be claimed
	 */
	if (user->login_name == NULL || user->body == NULL)
		return "\"loginName\" is required";
	if (pg_mbstrlen(user->login_name) > LPU_MAX_LOGIN)
		return "\"loginName\" is longer than 254 characters";
	if (strlen(user->body) > LPU_MAX_PAYLOAD)
		return "the user is larger than 1 MB";
	return NULL;
}

/* Set the LPU_ORIGIN_PARAMS parameters of a statement that appends rows; none of them is null. */
void
lpu_origin_params(const LpuQueueOrigin *origin, Oid *param_types, Datum *values)
{
	static const Oid origin_types[LPU_ORIGIN_PARAMS] = {TEXTOID, TEXTOID, OIDOID, TEXTOID, OIDOID,
	TEXTOID, OIDOID, TEXTOID, TEXTOID, TEXTOID, OIDOID, TEXTOID, INT8OID, TEXTOID};
	LpuHoldKind hold = origin->held != NULL ? origin->hold : LPU_HOLD_NONE;

	memcpy(param_types, origin_types, sizeof(origin_types));
	values[0] = CStringGetTextDatum(origin->account);
	values[1] = CStringGetTextDatum(origin->server ? origin->server : "");
	values[2] = ObjectIdGetDatum(origin->server_oid);
	values[3] = CStringGetTextDatum(GetUserNameFromId(origin->requested_by, false));
	values[4] = ObjectIdGetDatum(origin->requested_by);
	values[5] = CStringGetTextDatum(GetUserNameFromId(origin->send_as, false));
	values[6] = ObjectIdGetDatum(origin->send_as);
	values[7] = CStringGetTextDatum(hold != LPU_HOLD_NONE ? lpu_hold_kind_name(hold) : "");
	values[8] = CStringGetTextDatum(origin->held ? origin->held : "");
	values[9] = CStringGetTextDatum(origin->source_table ? origin->source_table : "");
	values[10] = ObjectIdGetDatum(origin->source_table_oid);
	values[11] = CStringGetTextDatum(lpu_origin_text());
	values[12] = Int64GetDatum(origin->plan);
	values[13] = CStringGetTextDatum(origin->action ? origin->action : "");
}

/* A login of this statement, folded as lower() folds it in the indexes. */
typedef struct GivenLogin
{
	char	   *folded;
} GivenLogin;

/* Return a boolean[]: true for each valid user with the login of an earlier valid one. */
static Datum
find_given_twice(const LpuColumns *users)
{
	int			n = lpu_columns_count(users);
	HTAB	   *logins = lpu_text_table("lpusers given logins", sizeof(GivenLogin), n);
	Datum	   *again = palloc(n * sizeof(Datum));
	int			i;

	for (i = 0; i < n; i++)
	{
		bool		found = false;

		if (lpu_columns_is_null(users, PROBLEM, i))
		{
			text	   *login = DatumGetTextPP(lpu_columns_get(users, LOGIN_NAME, i));
			char	   *folded = asc_tolower(VARDATA_ANY(login), VARSIZE_ANY_EXHDR(login));

			(void) hash_search(logins, &folded, HASH_ENTER, &found);
		}
		again[i] = BoolGetDatum(found);
	}
	return PointerGetDatum(construct_array(again, n, BOOLOID, 1, true, TYPALIGN_CHAR));
}

/* Return the payloads, a json[], of the rows that the last statement returned. */
static Datum
payloads_of_made(LpuColumns *users)
{
	int			n;
	int64	   *made = lpu_queue_ids(&n);
	int			i;

	lpu_queue_sort_ids(made, n);
	for (i = 0; i < lpu_columns_count(users); i++)
		if (!lpu_queue_has_id(made, n, DatumGetInt64(lpu_columns_get(users, ID, i))))
			lpu_columns_clear(users, BODY, i);
	return lpu_columns_array(users, BODY);
}

/* Raise the first error of the rows that the last statement returned. */
static void
raise_invalid(void)
{
	int			i;

	for (i = 0; i < (int) SPI_processed; i++)
		if (lpu_text_column(i, 3) != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid user \"%s\"",
							lpu_text_column(i, 2) ? lpu_text_column(i, 2) : ""),
					 errdetail("%s.", lpu_text_column(i, 3)),
					 errhidestmt(true)));
}

/* Write the users of one INSERT. */
static void
write_users_chunk(const LpuQueueOrigin *origin, LpuColumns *users, int64 first)
{
	Oid			all_types[INSERT_ARGS];
	Datum		values[INSERT_ARGS];
	Oid			payload_types[2] = {INT8ARRAYOID, JSONARRAYOID};
	Datum		payloads[2];
	int			i;

	for (i = 0; i < BODY; i++)
	{
		all_types[i] = lpu_columns_type(users, i);
		values[i] = lpu_columns_array(users, i);
	}
	lpu_origin_params(origin, &all_types[i], &values[i]);
	i += LPU_ORIGIN_PARAMS;
	all_types[i] = INT8OID;
	values[i++] = Int64GetDatum(first);
	all_types[i] = BOOLOID;

	/*
	 * concurrent transactions that read the queue and append to it would fail
	 * to serialize
	 */
	values[i++] = BoolGetDatum(!IsolationIsSerializable());
	all_types[i] = TIMESTAMPTZOID;
	values[i++] = TimestampTzGetDatum(GetCurrentTimestamp());
	all_types[i] = BOOLARRAYOID;
	values[i] = find_given_twice(users);
	lpu_queue_run(insert_sql, INSERT_ARGS, all_types, values);
	if (origin->raise)
		raise_invalid();

	payloads[0] = values[ID];
	payloads[1] = payloads_of_made(users);
	SPI_freetuptable(SPI_tuptable);
	lpu_queue_run(payloads_sql, 2, payload_types, payloads);
}

/* Source of users. */
typedef struct UserSource
{
	LpuNextUser next;
	void	   *arg;
} UserSource;

/* Add user i to those of the next INSERT. */
static Size
add_user(LpuColumns *users, const void *rows, int i, int64 id)
{
	const UserSource *source = rows;
	const LpuQueuedUser *user = source->next(source->arg, i);
	Size		length = user->body ? strlen(user->body) : 0;

	lpu_columns_next(users);
	lpu_columns_set(users, ID, Int64GetDatum(id));
	lpu_columns_set_text(users, LOGIN_NAME, user->login_name);
	lpu_columns_set_text(users, PROBLEM, problem_of_user(user));
	if (user->key != NULL)
		lpu_columns_set(users, SOURCE_KEY, JsonbPGetDatum(user->key));

	/*
	 * without a payload lp_retry() cannot send a user that is too large
	 */
	if (length <= LPU_MAX_PAYLOAD)
		lpu_columns_set_text(users, BODY, user->body);
	return length;
}

/*
 * Append n rows with multi-row INSERTs, each row with the next id; *ids gets the ids, unless it
 * is NULL.  Raises what the INSERTs raise.  Needs the memory of one INSERT.
 */
void
lpu_enqueue_many(const LpuEnqueueKind *kind, const LpuQueueOrigin *origin, const void *rows, int n,
				 int64 *ids)
{
	Oid			sequence = get_relname_relid("lp_requests_id_seq", origin->schema);
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "lpusers enqueue",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	int64		first = 0;
	int			i = 0;

	SPI_connect();
	while (i < n)
	{
		LpuColumns *chunk;
		Size		bytes = 0;
		int			end = i + Min(CHUNK_ROWS, n - i);

		MemoryContextReset(context);
		MemoryContextSwitchTo(context);
		chunk = lpu_columns_new(kind->types, kind->ncolumns);
		for (; i < end && bytes < CHUNK_BYTES; i++)
		{
			int64		id = nextval_internal(sequence, false);

			first = first != 0 ? first : id;
			bytes += kind->add(chunk, rows, i, id);
			if (ids != NULL)
				ids[i] = id;
		}
		kind->write(origin, chunk, first);
		CHECK_FOR_INTERRUPTS();
	}
	SPI_finish();
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
	if (n > 0)
		lpu_enqueue_wake();
}

/* Append n users.  Raises what the INSERTs raise, and, if origin->raise, for an invalid user. */
void
lpu_enqueue_from(const LpuQueueOrigin *origin, LpuNextUser next, void *arg, int n, int64 *ids)
{
	static const LpuEnqueueKind kind = {types, NCOLUMNS, add_user, write_users_chunk};
	UserSource	source = {next, arg};

	lpu_enqueue_many(&kind, origin, &source, n, ids);
}

static const LpuQueuedUser *
next_of_array(void *arg, int i)
{
	return (const LpuQueuedUser *) arg + i;
}

/* Append an array of users. */
void
lpu_enqueue(const LpuQueueOrigin *origin, const LpuQueuedUser *users, int n, int64 *ids)
{
	lpu_enqueue_from(origin, next_of_array, unconstify(LpuQueuedUser *, users), n, ids);
}

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
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "base/extension.h"
#include "base/origin.h"
#include "base/spi_plan.h"
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

/* The columns that differ from user to user, in the order of enqueue_sql's parameters. */
enum
{
	ID, LOGIN_NAME, PROBLEM, SOURCE_KEY, BODY, NCOLUMNS
};

static const Oid types[NCOLUMNS] = {
	[ID] = INT8OID,
	[LOGIN_NAME] = TEXTOID,
	[PROBLEM] = TEXTOID,
	[SOURCE_KEY] = JSONBOID,
	[BODY] = TEXTOID,
};

#define ENQUEUE_ARGS (NCOLUMNS + LPU_ORIGIN_PARAMS + 2)

/*
 * Append users: one element of each array $1 to $4 (ids, logins, problems, keys) and $20
 * (bodies). $5 to $18 are what lpu_origin_params() sets, $19 the first id of this statement.  A
 * login is taken if a row of this statement or an unfinished create of the server has it, unless
 * that create is held for its set-up; $21: search the queue.  Rows that a trigger suppresses get
 * no payload.  Returns the first invalid user.  Writes lp_requests and lp_payloads.
 */
static const char enqueue_sql[] =
"WITH given AS MATERIALIZED ("
"  SELECT u.*, lower(u.login_name COLLATE \"C\") AS folded"
"  FROM unnest($1::bigint[], $2::text[], $3::text[], $4::jsonb[], $20::text[])"
"    AS u (id, login_name, problem, source_key, body)"
"), judged AS MATERIALIZED ("
"  SELECT g.id, g.login_name, g.source_key, g.body,"
"    CASE WHEN g.problem IS NOT NULL THEN g.problem"
"      WHEN waiting.id < $19 OR flying.id IS NOT NULL THEN '\"loginName\" is already in the queue'"
"      WHEN waiting.id IS NOT NULL"
"        OR row_number() OVER (PARTITION BY g.problem IS NULL, g.folded ORDER BY g.id) > 1"
"      THEN '\"loginName\" is given twice in this statement' END AS problem"
"  FROM given g"
"  LEFT JOIN LATERAL (SELECT r.id FROM @extschema@.lp_requests r"
"    WHERE $21 AND g.problem IS NULL AND r.account = $5"
"      AND lower(r.login_name COLLATE \"C\") = g.folded"
"      AND r.login_name IS NOT NULL AND r.state IN ('pending', 'held') AND r.operation = 'create'"
"      AND (r.id >= $19 OR r.server_oid = $7 AND r.hold IS DISTINCT FROM 'setup')"
"    LIMIT 1) waiting ON true"
"  LEFT JOIN LATERAL (SELECT r.id FROM @extschema@.lp_requests r"
"    WHERE $21 AND g.problem IS NULL AND r.account = $5"
"      AND lower(r.login_name COLLATE \"C\") = g.folded"
"      AND r.server_oid = $7 AND r.state IN ('sending', 'uncertain') AND r.operation = 'create'"
"    LIMIT 1) flying ON true"
"), made AS ("
"  INSERT INTO @extschema@.lp_requests (id, account, operation, path, plan, action, server, server_oid, requested_by,"
"    requested_by_oid, send_as,"
"    send_as_oid, login_name, state, hold, cause, next_attempt_at, error, reason, origin,"
"      source_table, source_table_oid,"
"    source_key, finished_at, held_at)"
"  OVERRIDING SYSTEM VALUE"
"  SELECT j.id, $5, 'create', 'queue', nullif($17, 0), nullif($18, ''), nullif($6, ''), $7, $8, $9, $10, $11, j.login_name,"
"    CASE WHEN j.problem IS NOT NULL THEN 'failed' WHEN $12 <> '' THEN 'held' ELSE 'pending' END,"
"    CASE WHEN j.problem IS NULL THEN nullif($12, '') END, CASE WHEN j.problem IS NOT NULL THEN"
"      'refused' END,"
"    CASE WHEN j.problem IS NULL AND $12 = '' THEN clock.now END, j.problem,"
"    CASE WHEN j.problem IS NULL THEN nullif($13, '') END, $16, nullif($14, ''), $15, j.source_key,"
"    CASE WHEN j.problem IS NOT NULL THEN clock.now END,"
"    CASE WHEN j.problem IS NULL AND $12 <> '' THEN clock.now END"
"  FROM judged j, (SELECT clock_timestamp() AS now) clock"
"  ORDER BY j.id"
"  RETURNING id, login_name, error"
"), payloads AS ("
"  INSERT INTO @extschema@.lp_payloads (request_id, body)"
"  SELECT j.id, j.body::json FROM judged j"
"  WHERE j.body IS NOT NULL AND (j.id IN (SELECT m.id FROM made m)) IS TRUE"
")"
"SELECT m.login_name, m.error FROM made m WHERE m.error IS NOT NULL ORDER BY m.id LIMIT 1";

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

/* Write the users of one INSERT. */
static void
write_users_chunk(const LpuQueueOrigin *origin, const LpuColumns *users, int64 first)
{
	Oid			all_types[ENQUEUE_ARGS];
	Datum		values[ENQUEUE_ARGS];
	int			i;

	for (i = 0; i < BODY; i++)
	{
		all_types[i] = lpu_columns_type(users, i);
		values[i] = lpu_columns_array(users, i);
	}
	lpu_origin_params(origin, &all_types[BODY], &values[BODY]);
	all_types[ENQUEUE_ARGS - 3] = INT8OID;
	values[ENQUEUE_ARGS - 3] = Int64GetDatum(first);
	all_types[ENQUEUE_ARGS - 2] = lpu_columns_type(users, BODY);
	values[ENQUEUE_ARGS - 2] = lpu_columns_array(users, BODY);
	all_types[ENQUEUE_ARGS - 1] = BOOLOID;

	/*
	 * concurrent transactions that read the queue and append to it would fail
	 * to serialize
	 */
	values[ENQUEUE_ARGS - 1] = BoolGetDatum(!IsolationIsSerializable());
	lpu_queue_run(enqueue_sql, ENQUEUE_ARGS, all_types, values);
	if (SPI_processed > 0 && origin->raise)
	{
		char	   *login = lpu_text_column(0, 1);

		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid user \"%s\"", login ? login : ""),
				 errdetail("%s.", lpu_text_column(0, 2)),
				 errhidestmt(true)));
	}
	SPI_freetuptable(SPI_tuptable);
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

/*
 * enqueue.c: putting users into the queue.
 *
 * The queue is two ordinary tables: what is enqueued is part of the caller's transaction and leaves with a rollback, also
 * to a savepoint. The rows are written with the rights of the tables' owner, many at a time. A login that is there twice,
 * or already waiting in the queue, becomes a failed row. When the transaction has committed, the worker of the
 * database is woken; that cannot fail, at worst the rows wait.
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/extension.h"
#include "base/origin.h"
#include "queue/bulk_insert.h"
#include "queue/duplicate_logins.h"
#include "queue/enqueue.h"
#include "queue/worker_slots.h"

/* A user is a few kB; batches of larger ones could pass what memory and the service can hold. */
#define MAX_BODY (1024 * 1024)

/* How many users triggers have enqueued in this transaction for an account. */
typedef struct account_count
{
	struct account_count *next;
	char	   *account;
	int64		n;
} account_count;

static account_count *counts = NULL;

/* The outermost transaction level at which something was enqueued that has not been rolled back; 0: none. */
static int	wake_level = 0;

/* ------------------------------------------------------------------------------------------- end of the transaction */

static void
at_transaction_end(XactEvent event, void *arg)
{
	switch (event)
	{
			/* COMMIT PREPARED wakes nobody: the worker waits for it */
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
	/* at commit it would be too late to find that there is no room */
	lpu_shmem_attach();
	RegisterXactCallback(at_transaction_end, NULL);
	RegisterSubXactCallback(at_subtransaction_end, NULL);
	registered = true;
}

void
lpu_enqueue_wake(void)
{
	int			level = GetCurrentTransactionNestLevel();

	register_callback();
	if (wake_level == 0 || level < wake_level)
		wake_level = level;
}

int64
lpu_enqueue_count(const char *account, int n)
{
	account_count *entry;

	register_callback();
	for (entry = counts; entry != NULL; entry = entry->next)
		if (strcmp(entry->account, account) == 0)
			return entry->n += n;
	entry = MemoryContextAlloc(TopTransactionContext, sizeof(account_count));
	entry->account = MemoryContextStrdup(TopTransactionContext, account);
	entry->n = n;
	entry->next = counts;
	counts = entry;
	return n;
}

/* ---------------------------------------------------------------------------------------------------- writing */

/* What is wrong with a user, data and queue taken together; NULL: nothing. */
static const char *
problem_of(const lpu_queue_origin *origin, const lpu_queued_user *user, lpu_login *login)
{
	const char *problem = user->problem;

	/* whoever wrote the user should have said so: nothing without a login and a body may be claimed */
	if (problem == NULL && (login == NULL || user->body == NULL))
		problem = "\"loginName\" is required";
	if (problem == NULL && strlen(user->body) > MAX_BODY)
		problem = "the user is larger than 1 MB";

	if (problem == NULL && login != NULL && login->queued)
		problem = "\"loginName\" is already in the queue";
	if (problem == NULL && login != NULL && login->seen)
		problem = "\"loginName\" is there twice in this statement";
	if (problem == NULL && login != NULL)
		login->seen = true;
	if (problem != NULL && origin->raise)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid user \"%s\"", user->login_name ? user->login_name : ""),
				 errdetail("%s.", problem),
				 errhidestmt(true)));
	return problem;
}

static const char *const request_columns[] = {"id", "account", "operation", "path", "server", "requested_by", "send_as",
	"login_name", "state", "attempts", "next_attempt_at", "error", "reason", "origin", "source_table", "source_key",
	"enqueued_at", "finished_at", NULL};
static const char *const payload_columns[] = {"request_id", "body", NULL};

/* Nothing that is enqueued is in flight. */
static const char *const request_indexes[] = {"lp_requests_waiting", "lp_requests_in_flight", NULL};
static const char *const payload_indexes[] = {NULL};

/* Columns of a request, in the order of request_columns. */
enum
{
	ID, ACCOUNT, OPERATION, PATH, SERVER, REQUESTED_BY, SEND_AS, LOGIN_NAME, STATE, ATTEMPTS, NEXT_ATTEMPT_AT, ERROR_TEXT,
	REASON, ORIGIN, SOURCE_TABLE, SOURCE_KEY, ENQUEUED_AT, FINISHED_AT, NCOLUMNS
};

static void
set_text(Datum *values, bool *nulls, int column, const char *text)
{
	nulls[column] = text == NULL;
	values[column] = text ? CStringGetTextDatum(text) : (Datum) 0;
}

static void
set_timestamp(Datum *values, bool *nulls, int column, TimestampTz at, bool isnull)
{
	nulls[column] = isnull;
	values[column] = TimestampTzGetDatum(at);
}

/* What all rows have in common. */
static void
set_common(Datum *values, bool *nulls, const lpu_queue_origin *origin)
{
	memset(nulls, false, NCOLUMNS * sizeof(bool));
	set_text(values, nulls, ACCOUNT, origin->account);
	set_text(values, nulls, OPERATION, "create");
	set_text(values, nulls, PATH, "queue");
	set_text(values, nulls, SERVER, origin->server);
	set_text(values, nulls, REQUESTED_BY, GetUserNameFromId(origin->requested_by, false));
	set_text(values, nulls, SEND_AS, GetUserNameFromId(origin->send_as, false));
	values[ATTEMPTS] = Int32GetDatum(0);
	set_text(values, nulls, ORIGIN, lpu_origin_text());
	set_text(values, nulls, SOURCE_TABLE, origin->source_table);
	set_timestamp(values, nulls, ENQUEUED_AT, GetCurrentTimestamp(), false);
}

/* What differs from user to user. */
static void
set_user(Datum *values, bool *nulls, const lpu_queue_origin *origin, const lpu_queued_user *user, const char *problem)
{
	bool		pending = problem == NULL && origin->held == NULL;

	set_text(values, nulls, LOGIN_NAME, user->login_name);
	set_text(values, nulls, STATE, problem ? "failed" : pending ? "pending" : "held");
	set_timestamp(values, nulls, NEXT_ATTEMPT_AT, DatumGetTimestampTz(values[ENQUEUED_AT]), !pending);
	set_text(values, nulls, ERROR_TEXT, problem);
	set_text(values, nulls, REASON, problem ? NULL : origin->held);
	nulls[SOURCE_KEY] = user->key == NULL;
	values[SOURCE_KEY] = JsonbPGetDatum(user->key);
	set_timestamp(values, nulls, FINISHED_AT, DatumGetTimestampTz(values[ENQUEUED_AT]), problem == NULL);
}

/* The entries of a row in the indexes of request_indexes. */
static void
set_keys(lpu_entry *keys, const lpu_queue_origin *origin, const lpu_login *login, const char *problem)
{
	lpu_entry  *waiting = &keys[0];

	memset(keys, 0, 2 * sizeof(lpu_entry));
	waiting->in = problem == NULL;
	waiting->values[0] = UInt32GetDatum(lpu_text_hash(origin->account));
	waiting->values[1] = UInt32GetDatum(login ? login->hash : 0);
}

static void
write_users(const lpu_queue_origin *origin, const lpu_queued_user *users, int n, const lpu_doubles *logins, int64 *ids)
{
	lpu_bulk   *requests = lpu_bulk_begin(origin->schema, "lp_requests", request_columns, request_indexes);
	lpu_bulk   *payloads = lpu_bulk_begin(origin->schema, "lp_payloads", payload_columns, payload_indexes);
	Oid			sequence = get_relname_relid("lp_requests_id_seq", origin->schema);
	MemoryContext row_context = AllocSetContextCreate(CurrentMemoryContext, "lpusers row", ALLOCSET_SMALL_SIZES);
	Datum		values[NCOLUMNS];
	bool		nulls[NCOLUMNS];
	int			i;

	set_common(values, nulls, origin);
	for (i = 0; i < n; i++)
	{
		MemoryContext caller = MemoryContextSwitchTo(row_context);
		lpu_login  *login = lpu_doubles_of(logins, i);
		const char *problem = problem_of(origin, &users[i], login);
		int64		id = nextval_internal(sequence, false);
		Datum		payload[2] = {Int64GetDatum(id), (Datum) 0};
		bool		no_nulls[2] = {false, false};
		lpu_entry	keys[2];

		values[ID] = Int64GetDatum(id);
		set_user(values, nulls, origin, &users[i], problem);
		set_keys(keys, origin, login, problem);
		payload[1] = users[i].body ? CStringGetTextDatum(users[i].body) : (Datum) 0;
		MemoryContextSwitchTo(caller);
		/* without the payload, a user too large cannot be sent by lp_retry() after all */
		if (lpu_bulk_add(requests, values, nulls, keys) && users[i].body != NULL && strlen(users[i].body) <= MAX_BODY)
			(void) lpu_bulk_add(payloads, payload, no_nulls, NULL);
		if (ids != NULL)
			ids[i] = id;
		MemoryContextReset(row_context);
	}
	lpu_bulk_end(payloads);
	lpu_bulk_end(requests);
	MemoryContextDelete(row_context);
}

void
lpu_enqueue(const lpu_queue_origin *origin, const lpu_queued_user *users, int n, int64 *ids)
{
	const char **names;
	lpu_identity before;
	lpu_doubles *logins;
	int			i;

	if (n == 0)
		return;
	names = palloc_extended(n * sizeof(char *), MCXT_ALLOC_HUGE);
	for (i = 0; i < n; i++)
		names[i] = users[i].login_name;
	logins = lpu_doubles_collect(names, n);
	lpu_doubles_mark_queued(logins, origin->schema, origin->account);
	lpu_become_owner(origin->schema, &before);
	write_users(origin, users, n, logins, ids);
	lpu_become_again(&before);
	lpu_enqueue_wake();
}

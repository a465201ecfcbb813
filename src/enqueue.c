/*
 * enqueue.c: putting users into the queue.
 *
 * The queue is two ordinary tables: what is enqueued is part of the caller's transaction and leaves with a rollback, also
 * to a savepoint. The rows are written with the rights of the tables' owner, many at a time. A login that is there twice,
 * or already unfinished in the queue, becomes a failed row. When the transaction has committed, the worker of the
 * database is woken; that cannot fail, at worst the rows wait.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "commands/sequence.h"
#include "common/hashfn.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/formatting.h"
#include "utils/hsearch.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "bulk.h"
#include "compat.h"
#include "enqueue.h"
#include "lpusers.h"
#include "origin.h"
#include "owner.h"
#include "shmem.h"

/* A user is a few kB; batches of larger ones could pass what memory and the service can hold. */
#define MAX_BODY (1024 * 1024)

/* How many users triggers have enqueued in this transaction for an account. */
typedef struct account_count
{
	struct account_count *next;
	char	   *account;
	int64		n;
} account_count;

/* A login of this statement. */
typedef struct login_entry
{
	char	   *login;			/* key, lower case */
	bool		queued;			/* it is unfinished in the queue */
	bool		seen;			/* an earlier user of this statement has it */
} login_entry;

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
	/* forbidden: nobody is there, and nobody is to be started */
	if (lpu_worker_on && (wake_level == 0 || level < wake_level))
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

/* ---------------------------------------------------------------------------------------------------- logins */

static uint32
hash_login(const void *key, Size size)
{
	const char *login = *(char *const *) key;

	return DatumGetUInt32(hash_any((const unsigned char *) login, (int) strlen(login)));
}

static int
compare_logins(const void *a, const void *b, Size size)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

static char *
lower_case(const char *login)
{
	return str_tolower(login, strlen(login), DEFAULT_COLLATION_OID);
}

/*
 * Mark the logins that are unfinished in the queue: one probe each of the index that holds just those. SQL would leave it
 * to the statistics of a table that is mostly empty, or mostly finished, whether that index is used.
 */
static void
mark_queued(HTAB *logins, Oid schema, const char *account)
{
	Relation	table = table_open(get_relname_relid("lp_requests", schema), AccessShareLock);
	Relation	index = index_open(get_relname_relid("lp_requests_unfinished", schema), AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TupleTableSlot *slot = table_slot_create(table, NULL);
	IndexScanDesc scan = LPU_INDEX_BEGINSCAN(table, index, snapshot, 2);
	Datum		account_datum = CStringGetTextDatum(account);
	HASH_SEQ_STATUS status;
	login_entry *entry;

	hash_seq_init(&status, logins);
	while ((entry = hash_seq_search(&status)) != NULL)
	{
		Datum		login = CStringGetTextDatum(entry->login);
		ScanKeyData keys[2];

		ScanKeyEntryInitialize(&keys[0], 0, 1, BTEqualStrategyNumber, InvalidOid, index->rd_indcollation[0], F_TEXTEQ,
							   account_datum);
		ScanKeyEntryInitialize(&keys[1], 0, 2, BTEqualStrategyNumber, InvalidOid, index->rd_indcollation[1], F_TEXTEQ,
							   login);
		index_rescan(scan, keys, 2, NULL, 0);
		entry->queued = index_getnext_slot(scan, ForwardScanDirection, slot);
		pfree(DatumGetPointer(login));
		CHECK_FOR_INTERRUPTS();
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
	index_close(index, AccessShareLock);
	table_close(table, AccessShareLock);
}

/* Of which logins are these users, and which of those are in the queue? lowered[i] gets the key of user i, or NULL. */
static HTAB *
collect_logins(const lpu_queue_origin *origin, const lpu_queued_user *users, int n, char **lowered)
{
	HASHCTL		ctl = {.keysize = sizeof(char *), .entrysize = sizeof(login_entry), .hash = hash_login,
	.match = compare_logins, .hcxt = CurrentMemoryContext};
	HTAB	   *logins = hash_create("lpusers logins", Max(n, 16), &ctl,
									 HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
	int			i;

	for (i = 0; i < n; i++)
	{
		login_entry *entry;
		bool		found;

		lowered[i] = users[i].login_name ? lower_case(users[i].login_name) : NULL;
		if (lowered[i] == NULL)
			continue;
		entry = hash_search(logins, &lowered[i], HASH_ENTER, &found);
		if (!found)
			entry->queued = entry->seen = false;
	}
	mark_queued(logins, origin->schema, origin->account);
	return logins;
}

/* What is wrong with a user, data and queue taken together; NULL: nothing. */
static const char *
problem_of(const lpu_queue_origin *origin, HTAB *logins, const lpu_queued_user *user, char *lowered)
{
	login_entry *entry = lowered ? hash_search(logins, &lowered, HASH_FIND, NULL) : NULL;
	const char *problem = user->problem;

	/* whoever wrote the user should have said so: nothing without a login and a body may be claimed */
	if (problem == NULL && (entry == NULL || user->body == NULL))
		problem = "\"loginName\" is required";
	if (problem == NULL && strlen(user->body) > MAX_BODY)
		problem = "the user is larger than 1 MB";

	if (problem == NULL && entry != NULL && entry->queued)
		problem = "\"loginName\" is already in the queue";
	if (problem == NULL && entry != NULL && entry->seen)
		problem = "\"loginName\" is there twice in this statement";
	if (problem == NULL && entry != NULL)
		entry->seen = true;
	if (problem != NULL && origin->raise)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid user \"%s\"", user->login_name ? user->login_name : ""),
				 errdetail("%s.", problem),
				 errhidestmt(true)));
	return problem;
}

/* ---------------------------------------------------------------------------------------------------- writing */

static const char *const request_columns[] = {"id", "account", "operation", "path", "server", "requested_by", "send_as",
	"login_name", "state", "attempts", "next_attempt_at", "error", "reason", "origin", "source_table", "source_key",
	"enqueued_at", "finished_at", NULL};
static const char *const payload_columns[] = {"request_id", "body", NULL};

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
	nulls[SERVER] = origin->server == NULL;
	values[SERVER] = origin->server ? lpu_name_datum(origin->server) : (Datum) 0;
	values[REQUESTED_BY] = lpu_name_datum(GetUserNameFromId(origin->requested_by, false));
	values[SEND_AS] = lpu_name_datum(GetUserNameFromId(origin->send_as, false));
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
	values[SOURCE_KEY] = user->key ? DirectFunctionCall1(jsonb_in, CStringGetDatum(user->key)) : (Datum) 0;
	set_timestamp(values, nulls, FINISHED_AT, DatumGetTimestampTz(values[ENQUEUED_AT]), problem == NULL);
}

static void
write_users(const lpu_queue_origin *origin, const lpu_queued_user *users, int n, HTAB *logins, char **lowered, int64 *ids)
{
	lpu_bulk   *requests = lpu_bulk_begin(origin->schema, "lp_requests", request_columns);
	lpu_bulk   *payloads = lpu_bulk_begin(origin->schema, "lp_payloads", payload_columns);
	Oid			sequence = get_relname_relid("lp_requests_id_seq", origin->schema);
	MemoryContext row_context = AllocSetContextCreate(CurrentMemoryContext, "lpusers row", ALLOCSET_SMALL_SIZES);
	Datum		values[NCOLUMNS];
	bool		nulls[NCOLUMNS];
	int			i;

	set_common(values, nulls, origin);
	for (i = 0; i < n; i++)
	{
		MemoryContext caller = MemoryContextSwitchTo(row_context);
		int64		id = nextval_internal(sequence, false);
		Datum		payload[2] = {Int64GetDatum(id), (Datum) 0};
		bool		no_nulls[2] = {false, false};

		values[ID] = Int64GetDatum(id);
		set_user(values, nulls, origin, &users[i], problem_of(origin, logins, &users[i], lowered[i]));
		payload[1] = users[i].body ? CStringGetTextDatum(users[i].body) : (Datum) 0;
		MemoryContextSwitchTo(caller);
		lpu_bulk_add(requests, values, nulls);
		/* without it, a user too large cannot be sent by lp_retry() after all */
		if (users[i].body != NULL && strlen(users[i].body) <= MAX_BODY)
			lpu_bulk_add(payloads, payload, no_nulls);
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
	char	  **lowered = palloc(Max(n, 1) * sizeof(char *));
	lpu_identity before;
	HTAB	   *logins;

	if (n == 0)
		return;
	logins = collect_logins(origin, users, n, lowered);
	lpu_become_owner(origin->schema, &before);
	write_users(origin, users, n, logins, lowered, ids);
	lpu_become_again(&before);
	hash_destroy(logins);
	lpu_enqueue_wake();
}

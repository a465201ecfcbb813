/*
 * conditional.c: users that are read again, and written if the account is still at that
 * revision.
 *
 * The revision of an account is one number for all its users, so a change of any user by another
 * client makes a write stale (If-Match). Then the users are read again, and unless one of these
 * was changed the write is retried, with growing pauses, until the option "timeout" has passed.
 * Writers of this database do not conflict in that way: each reads and writes under the
 * revision's lock of the account, which is released during a pause, and after a batch if another
 * session has waited for long enough. While it is kept, what was read for several batches is still
 * as it was read.
 *
 * If the statement has listed the users itself, and the revision at which it did so is known, they
 * are not read again before the first write: the account accepts it only if nothing has changed
 * since. That is tried for so many users as are read by a listing, and if the lock is free.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "api/conditional_write.h"
#include "api/list_stream.h"
#include "base/account_lock.h"
#include "base/error.h"
#include "http/socket_wait.h"
#include "remote/conditional.h"

/* Users are read again for several requests at a time, but at most so many. */
#define READ_AHEAD 1000

/*
 * So long a statement keeps the revision's lock although another session waits. If both went on
 * batch by batch in turn, each of them would have to read its users again for each batch.
 */
#define TURN_MS 500

struct LpuReread
{
	LpuWriterState *writer;
	LpuFetchPlan plan;
	LpuFetch   *fetch;
	LpuFetchCost cost;			/* of the fetch, as far as the writer knows */
	MemoryContext row;			/* of one row that is read */

	/* between lpu_conditional_begin() and lpu_conditional_end() */
	int			nusers;
	bool	   *was_read;		/* ... when users were read last */
	int64		revision;		/* of the account: they were read at it, or
								 * only our writes have raised it since; -1:
								 * they must be read again */
	int			ahead;			/* how many are read at a time; 0: none were
								 * read yet */
	int64		scanned;		/* the revision at which the statement has
								 * read them; -1: not known, or of no use */
	bool		as_scanned;		/* they were not read again since */
	TimestampTz locked_since;	/* since when we have the revision's lock; 0:
								 * we do not */
};

/* One user that is read again. */
typedef struct WantedUser
{
	int64		id;
	int			user;
} WantedUser;

/* ----- reading ----- */

/*
 * Prepare to read users of the statement again: the columns that tell whether
 * they were changed, and with "entity" all attributes. In the current memory
 * context; the argument must live as long.
 */
LpuReread *
lpu_reread_new(const LpuUpdate *update, bool entity)
{
	LpuReread  *r = palloc0(sizeof(LpuReread));
	const LpuForeignTable *table = update->writer->table;
	int			i;

	r->writer = update->writer;
	for (i = 0; i < table->ncolumns; i++)
		if (lpu_delta_tells_change(&table->columns[i]))
			r->plan.columns = bms_add_member(r->plan.columns, i);
	r->plan.columns = bms_add_member(r->plan.columns, table->id_column - 1);
	r->plan.by_id = true;
	r->plan.entity = entity;
	r->plan.max_gets = LPU_MAX_REREADS;
	r->fetch = lpu_fetch_new(table, r->writer->options, &r->plan);
	r->row = AllocSetContextCreate(CurrentMemoryContext, "lpusers row", ALLOCSET_DEFAULT_SIZES);
	return r;
}

static int
compare_wanted(const void *a, const void *b)
{
	int64		left = ((const WantedUser *) a)->id;
	int64		right = ((const WantedUser *) b)->id;

	return left < right ? -1 : left > right;
}

/* Users sorted by their ids: most of a listing are not among them. */
static WantedUser *
sort_wanted(const int64 *ids, const int *users, int n)
{
	WantedUser *wanted = palloc(n * sizeof(WantedUser));
	int			i;

	for (i = 0; i < n; i++)
	{
		wanted[i].id = ids[i];
		wanted[i].user = users[i];
	}
	qsort(wanted, n, sizeof(WantedUser), compare_wanted);
	return wanted;
}

static void
add_read_costs(LpuReread *r)
{
	LpuFetchCost now = lpu_fetch_costs(r->fetch);

	r->writer->requests += now.requests - r->cost.requests;
	r->writer->bytes += now.bytes - r->cost.bytes;
	r->writer->ms += now.ms - r->cost.ms;
	r->cost = now;
}

/*
 * Read n users again, with these ids and numbers, and call with_user for each that is there. Return
 * the revision at which they were read, -1 if it is not known. Of the account no more than one row
 * is in memory. Raises for whatever goes wrong.
 */
int64
lpu_reread_users(LpuReread *r, const int64 *ids, const int *users, int n, LpuWithUser with_user,
				 void *batch)
{
	const LpuForeignTable *table = r->writer->table;
	WantedUser *wanted = sort_wanted(ids, users, n);
	Datum	   *values = palloc(table->ncolumns * sizeof(Datum));
	bool	   *nulls = palloc(table->ncolumns * sizeof(bool));
	int			id = table->id_column - 1;
	MemoryContext caller;
	int64		revision;

	lpu_fetch_ids(r->fetch, ids, n);
	caller = MemoryContextSwitchTo(r->row);
	while (lpu_fetch_next(r->fetch, values, nulls))
	{
		WantedUser	key = {.id = nulls[id] ? 0 : DatumGetInt64(values[id])};
		WantedUser *found = bsearch(&key, wanted, n, sizeof(WantedUser), compare_wanted);

		if (found != NULL)
			with_user(batch, found->user, values, nulls);
		MemoryContextReset(r->row);
	}
	MemoryContextSwitchTo(caller);
	revision = lpu_fetch_revision(r->fetch);
	lpu_fetch_stop(r->fetch);
	add_read_costs(r);
	return revision;
}

/* Return the entity of the user that is being handed over, in UTF-8; until the next one. */
const char *
lpu_reread_entity(const LpuReread *r, size_t *length)
{
	return lpu_fetch_entity(r->fetch, length);
}

/* ----- errors ----- */

static const char *
verb_of(const LpuWriterState *writer)
{
	return writer->method == LPU_DELETE_USERS ? "delete" : "update";
}

/*
 * Raise 40001 for a user who was changed since the statement read it.
 */
void
lpu_conditional_conflict(const LpuRowChange *delta, const char *detail)
{
	const LpuWriterState *writer = delta->update->writer;

	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not %s user %s of account \"%s\": it was changed meanwhile",
					verb_of(writer),
					lpu_delta_name(delta), writer->options->account),
			 errdetail_internal("%s%s", detail, lpu_writer_progress(writer)),
			 errhint("Repeat the statement."),
			 errhidestmt(true), errhidecontext(true)));
}

static void
raise_unrest(const LpuWriterState *writer)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not %s users of account \"%s\" due to concurrent changes",
					verb_of(writer),
					writer->options->account),
			 errdetail_internal("Other clients have kept changing the account for %d ms.%s",
								writer->options->timeout, lpu_writer_progress(writer)),
			 errhint("Retry the statement."),
			 errhidestmt(true), errhidecontext(true)));
}

/* Without a revision no condition can be sent. */
static void
check_write_revision(const LpuWriterState *writer, int64 revision)
{
	if (revision < 0 && writer->options->if_match_required)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot %s users of account \"%s\": its responses carry no revision",
						verb_of(writer),
						writer->options->account),
				 errdetail_internal("Concurrent changes by other clients could not be noticed.%s",
									lpu_writer_progress(writer)),
				 errhint("Use ALTER SERVER to set option \"if_match\" of server \"%s\" to \"off\".",
						 writer->options->server_name),
				 errhidestmt(true), errhidecontext(true)));
}

/* ----- reading ahead ----- */

/* Return how many rows may wait: those of several requests, and at least those of one. */
int
lpu_conditional_room(const LpuOptions *options)
{
	return Max(READ_AHEAD / options->batch_size, 1) * options->batch_size;
}

/*
 * Begin to send requests about n users, numbered from 0. What was read before is not used for them,
 * unless the statement has listed them at the revision "scanned" (-1: not known). In a memory context
 * that lives until lpu_conditional_end().
 */
void
lpu_conditional_begin(LpuReread *r, int n, int64 scanned)
{
	r->nusers = n;
	r->was_read = palloc0(Max(n, 1) * sizeof(bool));
	r->revision = -1;
	r->ahead = 0;
	r->scanned = n > LPU_MAX_REREADS ? scanned : -1;
	r->as_scanned = false;
	r->locked_since = 0;
}

/*
 * Return true if the users are still as the statement has read them: they were not read again, and
 * nothing but our own writes has changed the account since.
 */
bool
lpu_conditional_as_scanned(const LpuReread *r)
{
	return r->as_scanned;
}

/*
 * Return true if the users were read, and nothing but our own writes has changed the account since.
 */
static bool
were_read(const LpuReread *r, const int *users, int n)
{
	int			i;

	for (i = 0; i < n && r->revision >= 0; i++)
		if (!r->was_read[users[i]])
			return false;
	return r->revision >= 0;
}

static int64
read_now(LpuReread *r, const LpuConditional *methods, void *batch, const int *users, int n)
{
	int			i;

	memset(r->was_read, 0, r->nusers * sizeof(bool));
	r->as_scanned = false;
	r->revision = methods->read(batch, users, n);
	for (i = 0; i < n; i++)
		r->was_read[users[i]] = true;
	return r->revision;
}

/*
 * Have n users read. If they are a whole batch, the users of the next batches are read with them.
 * If what was read could not be used up, because other clients write, too, the next reading is of
 * half as many.
 */
static int64
read_ahead(LpuReread *r, const LpuConditional *methods, void *batch, const int *users, int n)
{
	int			next = users[n - 1] + 1;
	int			more = 0;
	int		   *read;
	int			i;

	if (were_read(r, users, n))
		return r->revision;
	if (r->ahead == 0)
		r->ahead = READ_AHEAD;
	else if (r->revision < 0)
		r->ahead = Max(r->ahead / 2, 1);
	if (n == r->writer->options->batch_size)
		more = Min(r->nusers - next, Max(r->ahead - n, 0));
	read = palloc((n + more) * sizeof(int));
	memcpy(read, users, n * sizeof(int));
	for (i = 0; i < more; i++)
		read[n + i] = next + i;
	return read_now(r, methods, batch, read, n + more);
}

/* ----- sending ----- */

/* Return true if the request was refused because the account is at another revision. */
static bool
is_stale(LpuReread *r, const LpuConditional *methods, void *batch, const int *users, int n,
		 const LpuWriteRequest *write,
		 const LpuApiAnswer *answer)
{
	LpuStaleness staleness = lpu_write_staleness(write->if_match, answer);

	if (staleness == LPU_STALE_IF_MOVED)
		return read_now(r, methods, batch, users, n) != write->if_match;
	return staleness == LPU_STALE;
}

/*
 * Return true if the account has refused attributes that it shows itself: they are left out from
 * now on.
 */
static bool
is_learned(const LpuWriterState *writer, const LpuConditional *methods, void *batch,
		   const LpuWriteRequest *write, const LpuApiAnswer *answer)
{
	LpuApiRequest request = {.method = writer->method,.body = write->body,
	.body_length = write->body_length};

	return methods->sets != NULL &&
		lpu_refused_learn(writer->options, &request, answer, methods->sets, batch);
}

static LpuApiAnswer *
nothing_to_send(void)
{
	LpuApiAnswer *answer = palloc0(sizeof(LpuApiAnswer));

	answer->verdict = LPU_OK;
	answer->body = "";
	return answer;
}

/* Send the request. The revision after it is known if no other client has raised it, too. */
static LpuApiAnswer *
send_now(LpuReread *r, LpuWriteRequest *write)
{
	LpuApiAnswer *answer;

	r->revision = -1;
	answer = lpu_writer_send(r->writer, write);
	if (answer->verdict == LPU_OK && answer->has_revision && write->if_match >= 0 &&
		answer->revision == write->if_match + 1)
		r->revision = answer->revision;
	return answer;
}

/*
 * Read and write under the lock. Return NULL if that has to be done once more: the account had
 * changed in between, or refuses what it shows.
 */
static LpuApiAnswer *
try_once(LpuReread *r, const LpuConditional *methods, void *batch, const int *users, int n,
		 LpuWriteRequest *write, bool *learned)
{
	LpuApiAnswer *answer;

	write->if_match = read_ahead(r, methods, batch, users, n);
	methods->write(batch, users, n, write);
	if (write->nusers == 0)
		return nothing_to_send();
	check_write_revision(r->writer, write->if_match);
	answer = send_now(r, write);
	*learned = is_learned(r->writer, methods, batch, write, answer);
	if (!*learned && !is_stale(r, methods, batch, users, n, write, answer))
		return answer;
	lpu_writer_forget(write, NULL);
	return NULL;
}

/* Return true if the lock was free, and the users may be as the statement has read them. */
static bool
take_revision_as_scanned(LpuReread *r)
{
	int64		scanned = r->scanned;

	r->scanned = -1;
	if (scanned < 0 ||
		!lpu_try_revision(r->writer->options->account, r->writer->options->party,
						  LPU_REVISION_EXCLUSIVE))
		return false;
	memset(r->was_read, true, r->nusers * sizeof(bool));
	r->revision = scanned;
	r->as_scanned = true;
	return true;
}

/* Take the revision's lock. Other sessions may have written before: what was read is not used. */
static void
take_revision(LpuReread *r, int timeout_ms)
{
	r->revision = -1;
	if (!take_revision_as_scanned(r))
		lpu_writer_lock(r->writer, LPU_REVISION_EXCLUSIVE, timeout_ms);
	r->locked_since = GetCurrentTimestamp();
}

/*
 * Release the revision's lock that lpu_conditional_send() may have kept. To be called after the
 * last batch, in the same subtransaction; an error releases it by itself.
 */
void
lpu_conditional_end(LpuReread *r)
{
	if (r->locked_since != 0)
		lpu_unlock_revision(r->writer->options->account, r->writer->options->party,
							LPU_REVISION_EXCLUSIVE);
	r->locked_since = 0;
}

/* Return true if another session is to have the revision's lock now. */
static bool
turn_is_over(const LpuReread *r)
{
	return GetCurrentTimestamp() >= TimestampTzPlusMilliseconds(r->locked_since, TURN_MS) &&
		lpu_revision_is_wanted(r->writer->options->account, r->writer->options->party);
}

/*
 * Send a conditional write of n users, again as long as only other users of the account change.
 * The context "try" is reset before each try; the response and what belongs to *write are in it.
 * The revision's lock is kept for the next batch, until lpu_conditional_end(), unless another
 * session has waited for it for long enough. Raises 40001 if one of these users was changed or
 * other clients kept changing the account until the option "timeout" had passed, 55P03 if the
 * lock could not be taken by then, 55000 if responses carry no revision and the option "if_match"
 * requires it, and what the methods raise. Can be cancelled.
 */
LpuApiAnswer *
lpu_conditional_send(LpuReread *r, const LpuConditional *methods, void *batch, const int *users,
					 int n,
					 LpuWriteRequest *write, MemoryContext try)
{
	int			timeout = r->writer->options->timeout;
	MemoryContext caller = MemoryContextSwitchTo(try);
	int			round = 0;
	TimestampTz start;
	LpuApiAnswer *answer;

	/* while this waits and reads, the statement's own listing is not read */
	lpu_listings_drain();
	if (r->locked_since == 0)
		take_revision(r, timeout);
	start = GetCurrentTimestamp();
	for (;;)
	{
		long		wait = lpu_write_pause(++round);
		long		passed;
		bool		learned = false;
		bool		as_scanned;

		do
		{
			MemoryContextReset(try);
			answer = try_once(r, methods, batch, users, n, write, &learned);
			/* what the statement has read was no longer so: read now */
			as_scanned = r->as_scanned && answer == NULL;
			r->as_scanned &= answer != NULL || learned;
		} while (learned || as_scanned);
		if (answer != NULL)
			break;
		lpu_conditional_end(r);
		passed = TimestampDifferenceMilliseconds(start, GetCurrentTimestamp());
		if (passed + wait >= timeout)
			raise_unrest(r->writer);
		lpu_pause(wait);
		take_revision(r, (int) (timeout - passed - wait));
	}
	if (turn_is_over(r))
		lpu_conditional_end(r);
	MemoryContextSwitchTo(caller);
	return answer;
}

/*
 * delete.c: rows of a foreign table that are deleted.
 *
 * A request has a list of ids. The users are read again first, and deleted on condition that the
 * account has not changed meanwhile, so that no user is deleted that the statement has not seen
 * in its present state: one that was enabled in between, for example. Users of several requests are
 * read together (conditional.c). A user already deleted by another client is not an error, as with
 * any table. The API does not say which id of a list is missing, so the list is sent in parts.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/memutils.h"

#include "remote/conditional.h"
#include "remote/delete.h"

/* One user. */
typedef struct RemovedUser
{
	LpuRowChange delta;
	bool		there;			/* when it was read again */
} RemovedUser;

struct LpuDeleteState
{
	const LpuUpdate *statement;
	LpuWriterState *writer;
	LpuReread  *reread;
	MemoryContext batch;		/* of the rows since the last flush */
	MemoryContext try;			/* of one try to send some of them, and of its
								 * response */
	RemovedUser *users;
	int			n;
	int			capacity;
};

/*
 * Prepare to delete rows of a statement, which must live as long. In the current memory context.
 */
LpuDeleteState *
lpu_removal_new(const LpuUpdate *statement)
{
	LpuDeleteState *r = palloc0(sizeof(LpuDeleteState));

	r->statement = statement;
	r->writer = statement->writer;
	r->reread = lpu_reread_new(statement, false);
	r->batch = AllocSetContextCreate(CurrentMemoryContext, "lpusers batch", ALLOCSET_DEFAULT_SIZES);
	r->try = AllocSetContextCreate(CurrentMemoryContext, "lpusers try", ALLOCSET_DEFAULT_SIZES);
	r->capacity = r->writer->options->batch_size;
	r->users = palloc(r->capacity * sizeof(RemovedUser));
	return r;
}

/*
 * Add a row to the batch: the user's id, and the row as the statement read it (a composite value).
 */
void
lpu_removal_add(LpuDeleteState *r, int64 id, Datum before)
{
	MemoryContext caller = MemoryContextSwitchTo(r->batch);

	if (r->n == r->capacity)
	{
		r->capacity *= 2;
		r->users = repalloc_huge(r->users, r->capacity * sizeof(RemovedUser));
	}
	lpu_delta_init(&r->users[r->n++].delta, r->statement, id, before, NULL);
	MemoryContextSwitchTo(caller);
}

/* Return how many users are in the batch. */
int
lpu_removal_pending(const LpuDeleteState *r)
{
	return r->n;
}

static void
check_deleted_user(void *batch, int number, const Datum *values, const bool *nulls)
{
	LpuDeleteState *r = batch;
	RemovedUser *user = &r->users[number];
	const char *changed = lpu_delta_conflict(&user->delta, values, nulls);

	user->there = true;
	if (changed != NULL)
		lpu_conditional_conflict(&user->delta,
								 psprintf("Attribute \"%s\" is not what the statement has read.",
										  changed));
}

static LpuUserIdentity
identify_users(const LpuRowChange *delta)
{
	LpuUserIdentity user = {.login_name = lpu_delta_login(delta),.id = delta->id};

	return user;
}

/*
 * Note a user of a refused request that is gone now: that request may have deleted it, so a
 * rollback must name it.
 */
static void
doubt_if_gone(const LpuDeleteState *r, RemovedUser *user)
{
	LpuUserIdentity identity = identify_users(&user->delta);

	if (!user->there && user->delta.refused)
		lpu_writer_doubt(r->writer, &identity, 1);
	user->delta.refused &= user->there;
}

static int64
read_users(void *batch, const int *users, int n)
{
	LpuDeleteState *r = batch;
	int64	   *ids = palloc(n * sizeof(int64));
	int64		revision;
	int			i;

	for (i = 0; i < n; i++)
	{
		ids[i] = r->users[users[i]].delta.id;
		r->users[users[i]].there = false;
	}
	revision = lpu_reread_users(r->reread, ids, users, n, check_deleted_user, r);
	for (i = 0; i < n; i++)
		doubt_if_gone(r, &r->users[users[i]]);
	return revision;
}

/* Return true if a user is there, as far as was read last. */
static bool
is_there(const LpuDeleteState *r, const RemovedUser *user)
{
	return lpu_conditional_as_scanned(r->reread) ? !lpu_delta_was_deleted(&user->delta) :
		user->there;
}

/* The ids of those who are there. */
static void
write_ids(void *batch, const int *users, int n, LpuWriteRequest *write)
{
	LpuDeleteState *r = batch;
	StringInfoData text;
	int			i;

	initStringInfo(&text);
	write->users = palloc(n * sizeof(LpuUserIdentity));
	write->nusers = 0;
	for (i = 0; i < n; i++)
	{
		const RemovedUser *user = &r->users[users[i]];

		if (!is_there(r, user))
			continue;
		appendStringInfo(&text, "%s\"" INT64_FORMAT "\"", write->nusers > 0 ? "," : "[",
						 user->delta.id);
		write->users[write->nusers++] = identify_users(&user->delta);
	}
	appendStringInfoChar(&text, ']');
	write->body = text.data;
	write->body_length = text.len;

	write->ngone = n - write->nusers;
}

static LpuApiAnswer *
send_ids(void *batch, const int *users, int n, LpuWriteRequest *write)
{
	static const LpuConditional methods = {.read = read_users,.write = write_ids};
	LpuDeleteState *r = batch;
	LpuApiAnswer *answer = lpu_conditional_send(r->reread, &methods, r, users, n, write, r->try);
	int			i;

	for (i = 0; i < n && n > 1; i++)
		r->users[users[i]].delta.refused = answer->verdict != LPU_OK;
	return answer;
}

/*
 * Return true if a user who was refused alone is gone. A 404 can also come from a gateway, so
 * the account is read.
 */
static bool
is_gone(void *batch, int user, const LpuApiAnswer *answer, const LpuWriteRequest *write)
{
	LpuDeleteState *r = batch;

	if (answer->status != 404 && answer->status != 410)
		return false;
	(void) read_users(r, &user, 1);
	return !r->users[user].there;
}

/*
 * Delete the users of the batch, which is then empty. The statement has listed them at the revision
 * "scanned"; -1: it is not known. One that is gone already is no error. Raises 40001 if one was
 * changed since then, and for any refusal.
 */
void
lpu_removal_flush(LpuDeleteState *r, int64 scanned)
{
	static const LpuWriteBatch methods = {.send = send_ids,.excuse = is_gone};
	MemoryContext caller = MemoryContextSwitchTo(r->batch);
	int			n = r->n;

	r->n = 0;
	lpu_conditional_begin(r->reread, n, scanned);
	lpu_writer_carry_out(r->writer, &methods, r, n);
	lpu_conditional_end(r->reread);
	MemoryContextSwitchTo(caller);
	MemoryContextReset(r->batch);
}

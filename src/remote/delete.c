/*
 * delete.c: rows of a foreign table that are deleted.
 *
 * A request has a list of ids. A user already deleted by another client is not an error, as with
 * any table. The API does not say which id of a list is missing, so the list is sent in parts.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "remote/delete.h"
#include "remote/fetch.h"

struct lpu_removal
{
	lpu_writer *writer;
	lpu_fetch_plan plan;
	lpu_fetch  *fetch;			/* looks whether a user is there */
	MemoryContext batch;		/* of the rows since the last flush */
	MemoryContext request;		/* of one request, and of its answer */
	lpu_user_identity *users;
	bool	   *refused;		/* was in a request that was refused */
	int			n;
	int			capacity;
};

lpu_removal *
lpu_removal_new(lpu_writer *writer)
{
	lpu_removal *r = palloc0(sizeof(lpu_removal));

	r->writer = writer;
	r->plan.columns = bms_make_singleton(writer->table->id_column - 1);
	r->plan.by_id = true;
	r->fetch = lpu_fetch_new(writer->table, writer->options, &r->plan);
	r->batch = AllocSetContextCreate(CurrentMemoryContext, "lpusers batch", ALLOCSET_DEFAULT_SIZES);
	r->request = AllocSetContextCreate(CurrentMemoryContext, "lpusers request",
									   ALLOCSET_DEFAULT_SIZES);
	r->capacity = writer->options->batch_size;
	r->users = palloc(r->capacity * sizeof(lpu_user_identity));
	r->refused = palloc(r->capacity * sizeof(bool));
	return r;
}

void
lpu_removal_add(lpu_removal *r, int64 id, Datum login)
{
	lpu_user_identity *user;
	MemoryContext caller = MemoryContextSwitchTo(r->batch);

	if (r->n == r->capacity)
	{
		r->capacity *= 2;
		r->users = repalloc_huge(r->users, r->capacity * sizeof(lpu_user_identity));
		r->refused = repalloc(r->refused, r->capacity * sizeof(bool));
	}
	user = &r->users[r->n];
	user->id = id;
	user->login_name = login != (Datum) 0 ? TextDatumGetCString(login) : NULL;
	r->refused[r->n++] = false;
	MemoryContextSwitchTo(caller);
}

int
lpu_removal_pending(const lpu_removal *r)
{
	return r->n;
}

static lpu_api_answer *
send_ids(void *batch, const int *users, int n, lpu_write *write)
{
	lpu_removal *r = batch;
	MemoryContext caller = MemoryContextSwitchTo(r->request);
	lpu_api_answer *answer;
	StringInfoData text;
	int			i;

	MemoryContextReset(r->request);
	initStringInfo(&text);
	write->users = palloc(n * sizeof(lpu_user_identity));
	for (i = 0; i < n; i++)
	{
		write->users[i] = r->users[users[i]];
		appendStringInfo(&text, "%s\"" INT64_FORMAT "\"", i > 0 ? "," : "[", write->users[i].id);
	}
	appendStringInfoChar(&text, ']');
	write->body = text.data;
	write->body_length = text.len;
	write->if_match = -1;
	write->nusers = n;
	answer = lpu_writer_send(r->writer, write);
	for (i = 0; i < n && n > 1; i++)
		r->refused[users[i]] = answer->verdict != LPU_OK;
	MemoryContextSwitchTo(caller);
	return answer;
}

/*
 * Has it gone: by somebody else, or by a request that was refused and yet carried out in part? A 404 can also come from
 * something on the way to the account, so it is asked.
 */
static bool
is_gone(void *batch, int user, const lpu_api_answer *answer, const lpu_write *write)
{
	lpu_removal *r = batch;
	Datum	   *values = palloc(r->writer->table->ncolumns * sizeof(Datum));
	bool	   *nulls = palloc(r->writer->table->ncolumns * sizeof(bool));
	bool		there;

	if (answer->status != 404 && answer->status != 410)
		return false;
	lpu_fetch_ids(r->fetch, &r->users[user].id, 1);
	there = lpu_fetch_next(r->fetch, values, nulls);
	lpu_fetch_stop(r->fetch);
	if (there)
		return false;
	if (r->refused[user])
		lpu_writer_doubt(r->writer, write->users, 1);
	return true;
}

void
lpu_removal_flush(lpu_removal *r)
{
	static const lpu_batch methods = {.send = send_ids, .excuse = is_gone};
	MemoryContext caller = MemoryContextSwitchTo(r->batch);
	int			n = r->n;

	r->n = 0;
	lpu_writer_carry_out(r->writer, &methods, r, n);
	MemoryContextSwitchTo(caller);
	MemoryContextReset(r->batch);
}

/*
 * new_users.c: the users of one request, while their rows are collected and sent.
 *
 * Their text is one JSON array, to which each row is appended. Rows that were written column by
 * column are as the wire needs them already. Those that were laid over an entity are written anew
 * after the check, as an entity may have its numbers and booleans as strings. The buffers are used
 * again for the users of another request.
 */
#include "postgres.h"

#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

#include "remote/new_users.h"
#include "user/validate.h"

/*
 * Begin with at most "room" users, always the same number. The buffers are made in the current
 * memory context at the first time.
 */
void
lpu_new_users_begin(LpuNewUsers *batch, int room)
{
	if (batch->starts == NULL)
	{
		initStringInfo(&batch->text);
		batch->starts = palloc((room + 1) * sizeof(int));
		batch->rows = palloc(room * sizeof(int64));
	}
	resetStringInfo(&batch->text);
	batch->n = 0;
	batch->rewrite = batch->checked = false;
}

/*
 * Prepare for the next user, which is this row of the statement: the caller appends it to the text
 * and then counts it.
 */
void
lpu_new_users_next(LpuNewUsers *batch, int64 row)
{
	appendStringInfoChar(&batch->text, batch->n > 0 ? ',' : '[');
	batch->starts[batch->n] = batch->text.len;
	batch->rows[batch->n] = row;
}

/* End the array.  Each user is followed by one character. */
static void
close_array(LpuNewUsers *batch)
{
	appendStringInfoChar(&batch->text, ']');
	batch->starts[batch->n] = batch->text.len;
}

/* Write the users anew, as the wire needs them. */
static void
rewrite_array(LpuNewUsers *batch, Jsonb *users)
{
	char	  **texts = lpu_users_write_each(users, batch->n);
	int			i;

	resetStringInfo(&batch->text);
	for (i = 0; i < batch->n; i++)
	{
		appendStringInfoChar(&batch->text, i > 0 ? ',' : '[');
		batch->starts[i] = batch->text.len;
		appendStringInfoString(&batch->text, texts[i]);
	}
	close_array(batch);
}

/*
 * Find who the users are, and return what is wrong with them, a list of LpuUserProblem. What is
 * kept of the users is in the current memory context, the list in scratch, which the caller resets.
 */
List *
lpu_new_users_check(LpuNewUsers *batch, MemoryContext scratch, bool require_password)
{
	MemoryContext caller = MemoryContextSwitchTo(scratch);
	Jsonb	   *users;
	List	   *problems;
	int			i;

	close_array(batch);
	users = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(batch->text.data)));
	problems = lpu_users_check(users, LPU_USER_CREATE, require_password);
	if (problems == NIL && batch->rewrite)
		rewrite_array(batch, users);
	for (i = 0; problems == NIL && i < batch->n; i++)
		if (batch->starts[i + 1] - 1 - batch->starts[i] > LPU_MAX_USER)
			problems = list_make1(lpu_user_too_large(i + 1));
	MemoryContextSwitchTo(caller);
	batch->users = lpu_users_identify(users, &batch->n);
	batch->secrets = lpu_users_secrets(users);
	batch->checked = true;
	return problems;
}

/*
 * Return n of the users that were checked, in order, as one array: the text itself if they are all,
 * or else allocated in the current memory context.
 */
char *
lpu_new_users_array(LpuNewUsers *batch, const int *users, int n)
{
	StringInfoData text;
	int			i;

	if (n == batch->n)
		return batch->text.data;
	initStringInfo(&text);
	for (i = 0; i < n; i++)
	{
		int			start = batch->starts[users[i]];

		appendStringInfoChar(&text, i > 0 ? ',' : '[');
		appendBinaryStringInfo(&text, batch->text.data + start,
							   batch->starts[users[i] + 1] - 1 - start);
	}
	appendStringInfoChar(&text, ']');
	return text.data;
}

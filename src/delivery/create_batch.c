/*
 * create_batch.c: users of the queue that go in one request.
 *
 * Builds the body from the rows' payloads, and reads from the answer what became of each row. A batch that was rejected
 * is split until the guilty users stand alone. Whether the service creates all or nothing, or some of a rejected batch,
 * is not known: a user who is rejected alone after an earlier attempt becomes "uncertain" and is looked up. Rows are
 * matched with answers by login, never by position. It knows nothing of the database.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/memutils.h"

#include "base/encoding.h"
#include "delivery/create_batch.h"
#include "json/document.h"
#include "user/identity.h"

void
lpu_batch_set_all(lpu_batch *batch, LpuState state, const char *error, const char *reason, int64 wait_ms)
{
	int			i;

	for (i = 0; i < batch->n; i++)
	{
		batch->rows[i]->state = state;
		batch->rows[i]->error = error;
		batch->rows[i]->reason = reason;
		batch->rows[i]->wait_ms = wait_ms;
	}
}

void
lpu_batch_set_later(lpu_batch *batch, const char *error, int64 wait_ms)
{
	int			i;

	lpu_batch_set_all(batch, LPU_STATE_UNSENT, error, NULL, wait_ms);
	for (i = 0; i < batch->n; i++)
		if (batch->rows[i]->split)
			batch->rows[i]->state = LPU_STATE_PENDING;
}

void
lpu_batch_free(lpu_batch *batch)
{
	MemoryContextDelete(batch->context);	/* the batch itself */
}

static void
build_body(lpu_batch *batch)
{
	StringInfoData text;
	size_t		length;
	int			i;

	initStringInfo(&text);
	for (i = 0; i < batch->n; i++)
	{
		appendStringInfoChar(&text, i > 0 ? ',' : '[');
		appendStringInfoString(&text, batch->rows[i]->body);
	}
	appendStringInfoChar(&text, ']');
	length = text.len;
	batch->request.body = lpu_text_to_utf8(text.data, &length);
	batch->request.body_length = length;
}

lpu_batch *
lpu_batch_new(const lpu_options *options, lpu_row **rows, int n)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "lpusers batch", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	lpu_batch  *batch = palloc0(sizeof(lpu_batch));

	batch->context = context;
	batch->options = options;
	batch->rows = rows;
	batch->n = n;
	batch->request.method = LPU_CREATE_USERS;
	build_body(batch);
	MemoryContextSwitchTo(caller);
	return batch;
}

void
lpu_batch_start(lpu_batch *batch)
{
	MemoryContext caller = MemoryContextSwitchTo(batch->context);

	if (batch->request.body != NULL)
		batch->call = lpu_api_start(batch->options, &batch->request);
	MemoryContextSwitchTo(caller);
}

bool
lpu_batch_done(const lpu_batch *batch)
{
	return batch->call == NULL || lpu_api_done(batch->call);
}

bool
lpu_batch_accepted(const lpu_batch *batch)
{
	int			status = batch->call ? lpu_api_status(batch->call) : 0;

	return status >= 200 && status < 300;
}

/* ------------------------------------------------------------------------------------------------------- answers */

static void
set_created(lpu_batch *batch, const lpu_api_answer *answer)
{
	lpu_created *users = palloc0(batch->n * sizeof(lpu_created));
	int			i;

	for (i = 0; i < batch->n; i++)
		users[i].login_name = batch->rows[i]->login_name;
	lpu_created_match(answer->body, answer->body_length, users, batch->n);

	for (i = 0; i < batch->n; i++)
	{
		lpu_row    *row = batch->rows[i];

		if (users[i].named)
		{
			row->state = LPU_STATE_CREATED;
			row->user_id = users[i].id;
			continue;
		}
		row->state = LPU_STATE_UNCERTAIN;
		row->reason = psprintf("status %d, but the answer does not name the user", answer->status);
		row->wait_ms = -1;
	}
}

/* Rejected alone: for good, unless an earlier attempt may have created it. */
static void
set_rejected(lpu_batch *batch, const lpu_api_answer *answer)
{
	bool		look_up = batch->n == 1 && batch->rows[0]->sent_before;

	lpu_batch_set_all(batch, look_up ? LPU_STATE_UNCERTAIN : LPU_STATE_FAILED, answer->error, NULL, 0);
}

static void
set_held(lpu_batch *batch, LpuHoldKind hold, const char *why)
{
	int			i;

	lpu_batch_set_all(batch, LPU_STATE_HELD, NULL, why, 0);
	for (i = 0; i < batch->n; i++)
		batch->rows[i]->hold = hold;
}

static void
set_by_verdict(lpu_batch *batch, const lpu_api_answer *answer)
{
	const char *why = answer->problem ? answer->problem->message : answer->error;

	switch (answer->verdict)
	{
		case LPU_OK:
			set_created(batch, answer);
			break;
		case LPU_LATER:
			lpu_batch_set_later(batch, why, answer->retry_after_ms);
			break;
		case LPU_REJECTED:
			set_rejected(batch, answer);
			break;
		case LPU_UNAUTHORIZED:
		case LPU_FORBIDDEN:
			set_held(batch, LPU_HOLD_CREDENTIALS, why);
			break;
		case LPU_MISDIRECTED:
			set_held(batch, LPU_HOLD_SETUP, why);
			break;
		case LPU_NOT_SENT:
			/* wrong credentials are a matter of set-up: somebody has to mend it and release the rows */
			if (answer->problem->sqlstate == ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION)
				set_held(batch, LPU_HOLD_CREDENTIALS, why);
			else
				lpu_batch_set_all(batch, LPU_STATE_PENDING, why, NULL, -1);
			break;
		case LPU_UNCERTAIN:
			lpu_batch_set_all(batch, LPU_STATE_UNCERTAIN, why, NULL, -1);
			break;
	}
}

/* Texts of the results must outlive the answer. */
static void
copy_texts(lpu_batch *batch)
{
	int			i;

	for (i = 0; i < batch->n; i++)
	{
		lpu_row    *row = batch->rows[i];

		row->error = row->error ? pstrdup(row->error) : NULL;
		row->reason = row->reason ? pstrdup(row->reason) : NULL;
	}
}

/*
 * Some of a batch that was rejected may have been created all the same. What is then refused in another way, or cannot be
 * sent, is looked up before it is called failed or held.
 */
static void
doubt_split_rows(lpu_batch *batch)
{
	int			i;

	for (i = 0; i < batch->n; i++)
	{
		lpu_row    *row = batch->rows[i];

		if (!row->split || (row->state != LPU_STATE_FAILED && row->state != LPU_STATE_HELD))
			continue;
		row->error = row->error ? row->error : row->reason;
		row->reason = NULL;
		row->state = LPU_STATE_UNCERTAIN;
		row->wait_ms = 0;
	}
}

void
lpu_batch_set_held(lpu_batch *batch, const char *why)
{
	lpu_batch_set_all(batch, LPU_STATE_HELD, NULL, why, 0);
	doubt_split_rows(batch);
}

/* In the answer as it came, or in what was read from it, where escapes of JSON are gone. */
static bool
shows(const lpu_api_answer *answer, const char *secret)
{
	size_t		length = strlen(answer->error);

	return lpu_text_contains(answer->body, answer->body_length, secret) ||
		lpu_text_contains(answer->error, length, secret) ||
		lpu_text_contains(answer->error, length, lpu_text_from_utf8(secret));
}

/* Does the answer, which has an error, repeat a secret of the users that were sent? */
static bool
repeats_secret(lpu_batch *batch, const lpu_api_answer *answer)
{
	static const char *const names[] = {"passwordSh", "oldPassword", "confirmPassword"};
	lpu_json   *users = lpu_json_parse(batch->request.body, batch->request.body_length);
	int			i;
	int			j;

	for (i = 0; i < lpu_json_length(users); i++)
		for (j = 0; j < lengthof(names); j++)
		{
			const char *secret = lpu_json_text(lpu_json_member(lpu_json_element(users, i), names[j]));

			if (secret != NULL && shows(answer, secret))
				return true;
		}
	return false;
}

/* In two halves; "sent": it was, and rejected. */
static List *
split(lpu_batch *batch, bool sent)
{
	int			half = batch->n / 2;
	int			i;

	for (i = 0; sent && i < batch->n; i++)
		batch->rows[i]->sent_before = batch->rows[i]->split = true;
	return list_make2(lpu_batch_new(batch->options, batch->rows, half),
					  lpu_batch_new(batch->options, batch->rows + half, batch->n - half));
}

static List *
send_again(lpu_batch *batch)
{
	lpu_batch  *again = lpu_batch_new(batch->options, batch->rows, batch->n);

	again->renewed = true;
	return list_make1(again);
}

List *
lpu_batch_finish(lpu_batch *batch)
{
	MemoryContext caller = MemoryContextSwitchTo(batch->context);
	lpu_api_answer *answer = NULL;
	List	   *more = NIL;
	int			i;

	if (batch->call != NULL)
		answer = lpu_api_finish(batch->call);
	MemoryContextSwitchTo(caller);

	if (answer == NULL && batch->n > 1)
		more = split(batch, false);
	else if (answer == NULL)
		lpu_batch_set_all(batch, LPU_STATE_FAILED, "the user cannot be sent as UTF-8", NULL, 0);
	else if (answer->verdict == LPU_UNAUTHORIZED && !batch->renewed && lpu_api_renewed(batch->call))
		more = send_again(batch);
	else if (answer->verdict == LPU_REJECTED && batch->n > 1)
		more = split(batch, true);
	else
	{
		MemoryContextSwitchTo(batch->context);
		if (answer->error != NULL && repeats_secret(batch, answer))
			answer->error = psprintf("status %d; the answer repeats a secret and is not shown", answer->status);
		set_by_verdict(batch, answer);
		doubt_split_rows(batch);
		MemoryContextSwitchTo(caller);
		copy_texts(batch);
		for (i = 0; i < batch->n; i++)
		{
			/* that of an answer which broke off could be taken for a refusal */
			batch->rows[i]->status = answer->problem ? 0 : answer->status;
			batch->rows[i]->has_revision = answer->has_revision;
			batch->rows[i]->revision = answer->revision;
		}
	}
	lpu_batch_free(batch);
	return more;
}

/*
 * create_batch.c: queued users that are created by one request.
 *
 * This file builds the body from the payloads of the rows, and reads the result of each row from
 * the response.  A refusal of several users says neither which of them is invalid nor if the others
 * were created: the caller looks this up.  A refused request for one user created no user, unless
 * the user was sent before; a 404 may be that of a wrong account, so it is looked up, too.  Nothing
 * here accesses tables.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/encoding.h"
#include "delivery/create_batch.h"
#include "json/document.h"
#include "user/attribute.h"
#include "user/identity.h"

/* ----- results of rows ----- */

/*
 * Set the state of rows with error and reason (NULL: none) and the time until the next attempt.
 */
void
lpu_rows_set(LpuQueueRow **rows, int n, LpuState state, const char *error, const char *reason,
			 int64 wait_ms)
{
	int			i;

	for (i = 0; i < n; i++)
	{
		rows[i]->state = state;
		rows[i]->hold = LPU_HOLD_NONE;
		rows[i]->cause = LPU_CAUSE_NONE;
		rows[i]->error = error;
		rows[i]->reason = reason;
		rows[i]->wait_ms = wait_ms;
	}
}

/* Hold the rows until an operator has corrected the cause. */
void
lpu_rows_set_held(LpuQueueRow **rows, int n, LpuHoldKind hold, const char *why)
{
	int			i;

	lpu_rows_set(rows, n, LPU_STATE_HELD, NULL, why, 0);
	for (i = 0; i < n; i++)
		rows[i]->hold = hold;
}

/*
 * Nothing was sent: return the rows to their earlier state, due after this delay, unless they had
 * been in a refused batch.
 */
void
lpu_rows_set_later(LpuQueueRow **rows, int n, const char *error, int64 wait_ms)
{
	int			i;

	lpu_rows_set(rows, n, LPU_STATE_UNSENT, error, NULL, wait_ms);
	for (i = 0; i < n; i++)
		if (rows[i]->split)
			rows[i]->state = LPU_STATE_PENDING;
}

/* Set a row to failed with this cause and error. */
void
lpu_row_set_failed(LpuQueueRow *row, LpuCause cause, const char *error)
{
	lpu_rows_set(&row, 1, LPU_STATE_FAILED, error, NULL, 0);
	row->cause = cause;
}

/* ----- requests ----- */

/* Free a batch, but not its rows. */
void
lpu_batch_free(LpuCreateBatch *batch)
{
	MemoryContextDelete(batch->context);	/* the batch itself */
}

static void
build_body(LpuCreateBatch *batch)
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

/* Return a batch of n rows, in the current memory context.  Needs a transaction. */
LpuCreateBatch *
lpu_batch_new(const LpuOptions *options, LpuQueueRow **rows, int n)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "lpusers batch",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	LpuCreateBatch *batch = palloc0(sizeof(LpuCreateBatch));

	batch->context = context;
	batch->options = options;
	batch->rows = rows;
	batch->n = n;
	batch->request.method = LPU_CREATE_USERS;
	build_body(batch);
	MemoryContextSwitchTo(caller);
	return batch;
}

/* Start its request. */
void
lpu_batch_start(LpuCreateBatch *batch)
{
	MemoryContext caller = MemoryContextSwitchTo(batch->context);

	if (batch->request.body != NULL)
		batch->call = lpu_api_start(batch->options, &batch->request);
	batch->started = GetCurrentTimestamp();
	MemoryContextSwitchTo(caller);
}

/* Return true if the response has arrived, or none will. */
bool
lpu_batch_done(const LpuCreateBatch *batch)
{
	return batch->call == NULL || lpu_api_done(batch->call);
}

/* Return true if a finished batch got a 2xx response. */
bool
lpu_batch_accepted(const LpuCreateBatch *batch)
{
	int			status = batch->call ? lpu_api_status(batch->call) : 0;

	return status >= 200 && status < 300;
}

/* ----- responses ----- */

/*
 * Find the users in the response.  Their e-mails are needed only if the account has stored other
 * logins than were sent.
 */
static void
match_users(LpuCreateBatch *batch, const LpuApiAnswer *answer, LpuAnsweredUser *users)
{
	LpuJson    *sent;
	int			i;

	lpu_created_match(answer->body, answer->body_length, users, batch->n);
	for (i = 0; i < batch->n && users[i].named; i++)
		;
	if (i == batch->n)
		return;
	sent = lpu_json_parse(batch->request.body, batch->request.body_length);
	for (i = 0; i < batch->n; i++)
	{
		const char *email = lpu_json_text(lpu_json_member(lpu_json_element(sent, i), "email"));

		users[i].email = email ? lpu_text_from_utf8(email) : NULL;
	}
	lpu_created_match(answer->body, answer->body_length, users, batch->n);
}

static void
set_created(LpuCreateBatch *batch, const LpuApiAnswer *answer)
{
	LpuAnsweredUser *users = palloc0(batch->n * sizeof(LpuAnsweredUser));
	int			i;

	for (i = 0; i < batch->n; i++)
		users[i].login_name = batch->rows[i]->login_name;
	match_users(batch, answer, users);
	for (i = 0; i < batch->n; i++)
	{
		LpuQueueRow *row = batch->rows[i];

		lpu_rows_set(&row, 1, LPU_STATE_CREATED, NULL, NULL, 0);
		row->user_id = users[i].id;
		/* the status tells the lookup not to send the user again */
		if (!users[i].named)
			lpu_rows_set(&row, 1, LPU_STATE_UNCERTAIN, NULL,
						 psprintf("status %d, but the response does not name the user",
								  answer->status), -1);
	}
}

/* A user that was sent before may have been created then, which causes the refusal. */
static void
set_rejected(LpuQueueRow *row, const LpuApiAnswer *answer)
{
	if (row->sent_before)
		lpu_rows_set(&row, 1, LPU_STATE_UNCERTAIN, answer->error, NULL, 0);
	else
		lpu_row_set_failed(row, LPU_CAUSE_REFUSED, answer->error);
}

static void
set_by_verdict(LpuCreateBatch *batch, const LpuApiAnswer *answer)
{
	const char *why = answer->problem ? answer->problem->message : answer->error;

	switch (answer->verdict)
	{
		case LPU_OK:
			set_created(batch, answer);
			break;
		case LPU_LATER:
			lpu_rows_set_later(batch->rows, batch->n, why, answer->retry_after_ms);
			break;
		case LPU_REJECTED:
			set_rejected(batch->rows[0], answer);
			break;
		case LPU_UNAUTHORIZED:
		case LPU_FORBIDDEN:
			lpu_rows_set_held(batch->rows, batch->n, LPU_HOLD_CREDENTIALS, why);
			break;
		case LPU_MISDIRECTED:
			lpu_rows_set_held(batch->rows, batch->n, LPU_HOLD_SETUP, why);
			break;
		case LPU_NOT_SENT:
			if (answer->problem->sqlstate == ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION)
				lpu_rows_set_held(batch->rows, batch->n, LPU_HOLD_CREDENTIALS, why);
			else
				lpu_rows_set_later(batch->rows, batch->n, why, -1);
			break;
		case LPU_UNCERTAIN:
			lpu_rows_set(batch->rows, batch->n, LPU_STATE_UNCERTAIN, why ? why :
						 psprintf("status %d, but the response is not the account's", answer->status),
						 NULL, -1);
			break;
	}
}

/* Complete the results of the rows; their texts must outlive the response. */
static void
complete_rows(LpuCreateBatch *batch, const LpuApiAnswer *answer)
{
	/*
	 * the status of an incomplete response could be mistaken for a refusal; a
	 * success is kept
	 */
	int			status = answer->problem != NULL && answer->status / 100 != 2 ? 0 : answer->status;
	int			i;

	for (i = 0; i < batch->n; i++)
	{
		LpuQueueRow *row = batch->rows[i];

		row->error = row->error ? MemoryContextStrdup(lpu_claim_context(row), row->error) : NULL;
		row->reason = row->reason ? MemoryContextStrdup(lpu_claim_context(row), row->reason) : NULL;
		row->status = status;
		row->has_revision = answer->has_revision;
		row->revision = answer->revision;
	}
}

/* The secrets of the users that were sent, in UTF-8. */
static List *
secrets_of_batch(LpuCreateBatch *batch)
{
	LpuJson    *users = lpu_json_parse(batch->request.body, batch->request.body_length);
	List	   *secrets = NIL;
	int			i;
	int			j;

	for (i = 0; i < lpu_json_length(users); i++)
		for (j = 0; j < lpu_nattributes; j++)
		{
			const char *secret = NULL;

			if (lpu_attributes[j].rules & LPU_SECRET)
				secret = lpu_json_text(lpu_json_member(lpu_json_element(users, i),
													   lpu_attributes[j].name));
			if (secret != NULL)
				secrets = lappend(secrets, unconstify(char *, secret));
		}
	return secrets;
}

/*
 * Return batches of the two halves of rows; one batch of a single row. looked: the users were
 * refused in a larger batch, and the account does not have them.  In the current memory context.
 * Needs a transaction.
 */
List *
lpu_batch_halves(const LpuOptions *options, LpuQueueRow **rows, int n, bool looked)
{
	int			half = (n + 1) / 2;
	LpuCreateBatch *first = lpu_batch_new(options, rows, half);
	LpuCreateBatch *second = n > half ? lpu_batch_new(options, rows + half, n - half) : NULL;

	first->looked = looked;
	if (second == NULL)
		return list_make1(first);
	second->looked = looked;
	return list_make2(first, second);
}

static List *
send_again(LpuCreateBatch *batch)
{
	LpuCreateBatch *again = lpu_batch_new(batch->options, batch->rows, batch->n);

	again->renewed = true;
	again->looked = batch->looked;
	return list_make1(again);
}

/*
 * Return true if a response that rejects a batch leaves open which of its users are meant: if there
 * are several, or if a 404, which may be that of a wrong account, was not looked up.
 */
static bool
is_unclear(const LpuCreateBatch *batch, const LpuApiAnswer *answer)
{
	return answer->verdict == LPU_REJECTED &&
		(batch->n > 1 || (answer->status == 404 && !batch->looked));
}

/* A batch was refused, and the response does not say whom it means. */
static void
refuse(LpuCreateBatch *batch, const LpuApiAnswer *answer, LpuBatchResult *result)
{
	int			i;

	lpu_rows_set(batch->rows, batch->n, LPU_STATE_UNCERTAIN, answer->error, NULL, 0);
	complete_rows(batch, answer);
	for (i = 0; i < batch->n; i++)
		batch->rows[i]->sent_before = batch->rows[i]->split = true;
	result->end = LPU_BATCH_REFUSED;
	if (!batch->looked)
		return;
	result->end = LPU_BATCH_AGAIN;
	result->again = lpu_batch_halves(batch->options, batch->rows, batch->n, true);
}

/* The payload has a character that UTF-8 lacks, or invalid bytes. */
static void
set_unsendable(LpuCreateBatch *batch, LpuBatchResult *result)
{
	result->end = batch->n > 1 ? LPU_BATCH_AGAIN : LPU_BATCH_SETTLED;
	result->verdict = LPU_REJECTED;
	if (batch->n > 1)
		result->again = lpu_batch_halves(batch->options, batch->rows, batch->n, batch->looked);
	else
		lpu_row_set_failed(batch->rows[0], LPU_CAUSE_REFUSED, "the user cannot be sent as UTF-8");
}

/*
 * Read the response to a batch that is done, and free the batch.  New batches are allocated in the
 * current memory context, texts of results with the rows. Needs a transaction.
 */
void
lpu_batch_finish(LpuCreateBatch *batch, LpuBatchResult *result)
{
	MemoryContext caller = MemoryContextSwitchTo(batch->context);
	LpuApiAnswer *answer = batch->call ? lpu_api_finish(batch->call) : NULL;

	MemoryContextSwitchTo(caller);
	memset(result, 0, sizeof(LpuBatchResult));
	if (answer == NULL)
		set_unsendable(batch, result);
	else if (answer->verdict == LPU_UNAUTHORIZED && !batch->renewed && lpu_api_renewed(batch->call))
	{
		result->end = LPU_BATCH_AGAIN;
		result->again = send_again(batch);
	}
	else
	{
		result->verdict = answer->verdict;
		MemoryContextSwitchTo(batch->context);
		if (answer->error != NULL)
			lpu_api_hide(answer, secrets_of_batch(batch));
		if (!is_unclear(batch, answer))
		{
			set_by_verdict(batch, answer);
			complete_rows(batch, answer);
		}
		MemoryContextSwitchTo(caller);
		if (is_unclear(batch, answer))
			refuse(batch, answer, result);
	}
	lpu_batch_free(batch);
}

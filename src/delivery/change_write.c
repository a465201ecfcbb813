/*
 * change_write.c: the responses to the requests of a chain of updates and deletes.
 *
 * If the account refuses a request for several users, the users are sent in smaller requests until
 * the invalid one is alone.  A success is trusted for the users that the response shows as they
 * were sent.  The response to a delete shows no users.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "api/conditional_write.h"
#include "api/refused_attributes.h"
#include "base/encoding.h"
#include "delivery/change_chain.h"
#include "queue/silence.h"
#include "user/serialize.h"

/* Attributes that are read of each user of a response, besides its JSON. */
static const char *const attributes[] = {"id", "dateUpdated"};

enum
{
	ID,
	DATE_UPDATED
};

/* ----- results ----- */

static const char *
keep_request_text(const LpuQueueRow *row, const char *text)
{
	return text ? MemoryContextStrdup(lpu_claim_context(row), text) : NULL;
}

/* The status of an incomplete response could be mistaken for a refusal; a success is kept. */
static int
status_of(const LpuApiAnswer *answer)
{
	return answer->problem != NULL && answer->status / 100 != 2 ? 0 : answer->status;
}

/* The users that were sent have this result. */
static void
set_sent(LpuChangeChain *chain, const LpuApiAnswer *answer)
{
	int			i;

	for (i = 0; i < chain->write->n; i++)
	{
		LpuQueueRow *row = chain->write->users[i]->row;

		row->status = status_of(answer);
		row->has_revision = answer->has_revision;
		row->revision = answer->revision;
	}
}

/* Settle the users that were sent, whose states are set. */
static void
settle_sent(LpuChangeChain *chain)
{
	lpu_chain_settle(chain, chain->write->users, chain->write->n, false);
	chain->write->n = 0;
}

/* The secrets that were sent, in UTF-8. */
static List *
secrets_of_request(const LpuChangeChain *chain)
{
	List	   *secrets = NIL;
	ListCell   *cell;
	int			i;

	for (i = 0; i < chain->write->n; i++)
		if (chain->write->users[i]->set != NULL)
			secrets = list_concat(secrets, lpu_users_secrets(chain->write->users[i]->set));
	foreach(cell, secrets)
	{
		size_t		length = strlen(lfirst(cell));
		char	   *utf8 = lpu_text_to_utf8(lfirst(cell), &length);

		if (utf8 != NULL)
			lfirst(cell) = utf8;
	}
	return secrets;
}

/* ----- success ----- */

static LpuChangedUser *
find_sent(const LpuChangeChain *chain, int64 id)
{
	int			i;

	for (i = 0; i < chain->write->n; i++)
		if (chain->write->users[i]->id == id)
			return chain->write->users[i];
	return NULL;
}

/* Store dateUpdated of the user, which a plan compares. */
static void
note_date(LpuQueueRow *row, const char *date)
{
	const char *before = row->outcome;
	char	   *text;

	if (!row->planned || date == NULL || strspn(date, "0123456789-: .TZ+") != strlen(date))
		return;
	text = before ? psprintf("%.*s, \"dateUpdated\": \"%s\"}", (int) strlen(before) - 1, before, date) :
	psprintf("{\"dateUpdated\": \"%s\"}", date);

	row->outcome = keep_request_text(row, text);
}

/* A response shows a user that was sent. */
static void
take_answered(LpuChangeChain *chain, const LpuValue *values, const LpuValue *whole)
{
	const char *id_text = lpu_value_text(&values[ID]);
	LpuChangedUser *user;
	const char *why = NULL;
	int64		id;

	if (id_text == NULL || !lpu_text_as_int64(id_text, &id))
		return;
	user = find_sent(chain, id);
	if (user == NULL)
		return;
	if (!lpu_change_is_as_sent(user, whole->text, whole->length, &why))
	{
		/* even if the response also shows it as it was sent */
		user->row->state = LPU_STATE_UNCERTAIN;
		user->row->error = keep_request_text(user->row, why);
	}
	else if (user->row->error == NULL)
	{
		lpu_rows_set(&user->row, 1, LPU_STATE_DONE, NULL, user->row->reason, 0);
		note_date(user->row, lpu_value_text(&values[DATE_UPDATED]));
	}
}

/* Note which users the response shows as they were sent. */
static void
match_answer(LpuChangeChain *chain, const LpuApiAnswer *answer)
{
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "lpusers answered user",
												  ALLOCSET_DEFAULT_SIZES);
	LpuReader  *reader = lpu_reader_new(attributes, lengthof(attributes), true);

	lpu_reader_feed(reader, answer->body, answer->body_length);
	lpu_reader_end(reader);
	while (lpu_reader_next(reader) == LPU_READER_ELEMENT)
	{
		MemoryContext caller = MemoryContextSwitchTo(scratch);

		take_answered(chain, lpu_reader_values(reader), lpu_reader_whole(reader));
		MemoryContextSwitchTo(caller);
		MemoryContextReset(scratch);
	}
	MemoryContextDelete(scratch);
}

/* The request succeeded. */
static void
set_written(LpuChangeChain *chain, const LpuApiAnswer *answer)
{
	bool		deletes = chain->write->request.method == LPU_DELETE_USERS;
	bool		kept = lpu_chain_keeps_entities(chain, answer);
	int			i;

	if (!deletes)
		match_answer(chain, answer);
	for (i = 0; i < chain->write->n; i++)
	{
		LpuQueueRow *row = chain->write->users[i]->row;
		const char *why = row->error ? row->error : "the response does not name the user";

		if (deletes)
			lpu_rows_set(&row, 1, LPU_STATE_DONE, NULL, NULL, 0);
		else if (row->state != LPU_STATE_DONE)
			/* look it up at once, but not repeatedly */
			lpu_rows_set(&row, 1, LPU_STATE_UNCERTAIN, NULL,
						 keep_request_text(row, psprintf("status %d, but %s", answer->status, why)),
						 row->doubtful ? -1 : 0);
	}
	set_sent(chain, answer);
	settle_sent(chain);
	lpu_chain_note_written(chain);

	chain->step = chain->ahead->call != NULL ? LPU_CHAIN_SENT : LPU_CHAIN_WRITE;
	if (kept && chain->revision >= 0)
		chain->revision = answer->revision;
	else if (!kept)
		lpu_chain_forget(chain);
}

/* ----- refusals ----- */

/*
 * The account has refused the data of the users that were sent.  If there are several, send them in
 * smaller requests.
 */
void
lpu_chain_judge_refused(LpuChangeChain *chain, const char *words, int status)
{
	LpuChangedUser *user = chain->write->users[0];
	int			i;

	chain->step = LPU_CHAIN_WRITE;
	for (i = 0; i < chain->write->n; i++)
	{
		chain->write->users[i]->part = (chain->write->n + 1) / 2;
		chain->write->users[i]->sent = true;
	}
	if (chain->write->n > 1)
		return;
	/* the next read shows if it is missing */
	if ((status == 404 || status == 410) && user->refusal == NULL)
	{
		user->refusal = MemoryContextStrdup(chain->context, words);
		lpu_chain_forget(chain);
		return;
	}
	if (status != 409 || !lpu_chain_awaits_login(chain, user, status))
	{
		lpu_row_set_failed(user->row, LPU_CAUSE_REFUSED, keep_request_text(user->row, words));
		user->row->status = status;
	}
	settle_sent(chain);
}

/* The outcome is unknown: look up the users later, and read the others again. */
static void
set_unknown(LpuChangeChain *chain, const LpuApiAnswer *answer, const char *why)
{
	int			i;

	if (why == NULL)
		why = psprintf("status %d, but the response is not the account's", answer->status);
	for (i = 0; i < chain->write->n; i++)
	{
		LpuQueueRow *row = chain->write->users[i]->row;

		lpu_rows_set(&row, 1, LPU_STATE_UNCERTAIN, keep_request_text(row, why), row->reason, -1);
	}
	set_sent(chain, answer);
	settle_sent(chain);
	lpu_chain_forget(chain);
}

/* Nothing was sent. */
static void
set_unsent(LpuChangeChain *chain, const LpuApiAnswer *answer, const char *why)
{
	int64		wait_ms;

	if (answer->problem->sqlstate == ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION)
	{
		lpu_chain_hold_role(chain, LPU_HOLD_CREDENTIALS, why);
		return;
	}
	wait_ms = lpu_silence_backoff(chain->options->mapping);
	lpu_chain_give_back(chain, why, wait_ms, 0);
	lpu_delivery_note_unreachable(chain->delivery, chain->options, &chain->sender, chain->since,
								  why, wait_ms);
}

static void
finish_by_verdict(LpuChangeChain *chain, const LpuApiAnswer *answer)
{
	LpuDelivery *d = chain->delivery;
	const char *why = answer->problem ? answer->problem->message : answer->error;

	switch (answer->verdict)
	{
		case LPU_OK:
			set_written(chain, answer);
			break;
		case LPU_REJECTED:
			lpu_chain_judge_refused(chain, why, answer->status);
			/* a part may have been carried out */
			if (!answer->has_revision || answer->revision != chain->revision)
				lpu_chain_forget(chain);
			break;
		case LPU_LATER:
			lpu_chain_give_back(chain, why, answer->retry_after_ms, answer->status);
			lpu_delivery_wait_as_asked(d, answer->retry_after_ms, chain->options->timeout);
			break;
		case LPU_UNAUTHORIZED:
		case LPU_FORBIDDEN:
			set_sent(chain, answer);
			lpu_chain_hold_role(chain, LPU_HOLD_CREDENTIALS, why);
			break;
		case LPU_MISDIRECTED:
			set_sent(chain, answer);
			lpu_chain_hold_role(chain, LPU_HOLD_SETUP, why);
			break;
		case LPU_NOT_SENT:
			set_unsent(chain, answer, why);
			break;
		case LPU_UNCERTAIN:
			set_unknown(chain, answer, why);
			break;
	}
}

/* Return true if one of the users that were sent sets the attribute. */
static bool
chain_sets_attribute(void *arg, const char *attribute)
{
	const LpuChangeChain *chain = arg;
	JsonbValue	value;
	int			i;

	for (i = 0; i < chain->write->n; i++)
		if (chain->write->users[i]->set != NULL &&
			lpu_jsonb_get_member(&chain->write->users[i]->set->root, attribute, &value) != NULL)
			return true;
	return false;
}

/* The response has arrived, or none will. */
static void
judge_answer(LpuChangeChain *chain, LpuApiAnswer *answer)
{
	LpuDelivery *d = chain->delivery;
	LpuChainWrite *write = chain->write;

	if (answer->error != NULL)
		lpu_api_hide(answer, secrets_of_request(chain));
	switch (lpu_write_staleness(write->request.if_match, answer))
	{
		case LPU_STALE:
			lpu_chain_note_stale(chain);
			lpu_chain_pause(chain);
			return;
		case LPU_STALE_IF_MOVED:
			chain->refused_at = chain->revision;
			chain->refusal = MemoryContextStrdup(chain->context,
												 answer->error ? answer->error : "");
			lpu_chain_forget(chain);
			return;
		case LPU_NOT_STALE:
			break;
	}

	/*
	 * omit the attribute that the account rejects from now on: read and write
	 * again
	 */
	if (lpu_refused_learn(chain->options, &write->request, answer, chain_sets_attribute, chain))
	{
		lpu_chain_forget(chain);
		return;
	}
	if (answer->verdict == LPU_OK || answer->verdict == LPU_REJECTED ||
		answer->verdict == LPU_LATER)
		lpu_delivery_note_reached(d, chain->options);
	finish_by_verdict(chain, answer);
}

/* In a step: settle the users that were sent. */
void
lpu_chain_finish_write(LpuChangeChain *chain, LpuApiAnswer *answer)
{
	LpuChainWrite *write = chain->write;

	write->call = NULL;
	judge_answer(chain, answer);
	if (chain->ahead->call == NULL)
		return;
	chain->write = chain->ahead;
	chain->ahead = write;
}

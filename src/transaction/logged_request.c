/*
 * logged_request.c: one writing request inside of the caller's transaction, with its record.
 *
 * In this order: record the call, note the effect, send, read the answer, complete both. What can fail locally fails
 * before anything is sent; an answer that cannot be read never fails the transaction that has just created a user.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/memutils.h"

#include "base/encoding.h"
#include "base/error.h"
#include "base/guc.h"
#include "transaction/logged_request.h"
#include "transaction/request_log.h"
#include "transaction/rollback_warning.h"
#include "user/identity.h"

/* Give the users of a create the ids that the answer has for their logins. */
static void
match_ids(lpu_call *call, const lpu_api_answer *answer)
{
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "lpusers answer", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(scratch);
	int			n;
	int			next = 0;
	lpu_user_identity *created = lpu_created_read(answer->body, answer->body_length, call->nusers, &n);
	int			i;

	for (i = 0; i < call->nusers; i++)
	{
		const char *login = call->users[i].login_name;
		const lpu_user_identity *user = login ? lpu_created_find(created, n, &next, login) : NULL;

		if (user != NULL)
			call->users[i].id = user->id;
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(scratch);
}

static void
settle_record(const lpu_call *call, const lpu_api_answer *answer, const char *error)
{
	lpu_record_result result = {0};

	if (call->record == NULL)
		return;
	result.state = answer->verdict == LPU_OK ? call->success : "failed";
	result.status = answer->status;
	result.has_revision = answer->has_revision;
	result.revision = answer->revision;
	result.error = answer->verdict == LPU_OK ? NULL : error;
	result.reason = answer->verdict == LPU_UNCERTAIN ? "outcome unknown" : NULL;
	lpu_record_settle(call->record, &result, call->users);
}

/* What the row says in "error": the service's words, unless they repeat a secret of the request. */
static const char *
error_to_show(const lpu_call *call, const lpu_api_answer *answer)
{
	ListCell   *cell;

	if (answer->error == NULL)
		return NULL;
	foreach(cell, call->secrets)
		/* in "error" escapes of JSON are gone */
		if (lpu_text_contains(answer->body, answer->body_length, lfirst(cell)) ||
			lpu_text_contains(answer->error, strlen(answer->error), lfirst(cell)))
			return psprintf("status %d; the answer repeats a secret and is not shown", answer->status);
	return answer->error;
}

/* No answer came. */
static void
raise_silence(const lpu_call *call, const lpu_api_answer *answer)
{
	lpu_problem *problem = call->what ? lpu_api_refusal(call->options, answer, call->what) : answer->problem;

	if (call->note != NULL && problem->detail != NULL)
		lpu_problem_detail(problem, "%s%s", problem->detail, call->note);
	if (call->hint != NULL && answer->verdict == LPU_UNCERTAIN)
		lpu_problem_hint(problem, "%s", call->hint);
	lpu_problem_raise(problem);
}

lpu_api_answer *
lpu_call_send(lpu_call *call, const char **error)
{
	lpu_effect *effect;
	lpu_api_answer *answer;
	bool		done;

	if (lpu_log_calls)
		call->record = lpu_record_begin(call->schema, call->options, call->operation, call->path, call->users, call->nusers);
	effect = lpu_effects_begin(call->options->account, call->operation, call->users, call->nusers);
	call->request.sent = lpu_effect_sent_flag(effect);
	answer = lpu_api_send(call->options, &call->request);
	if (answer->problem != NULL)
		raise_silence(call, answer);

	done = answer->verdict == LPU_OK;
	if (done && call->request.method == LPU_CREATE_USERS)
		match_ids(call, answer);
	if (answer->verdict != LPU_UNCERTAIN)
		lpu_effects_settle(effect, done, call->users, call->nusers);
	*error = error_to_show(call, answer);
	settle_record(call, answer, *error);
	return answer;
}

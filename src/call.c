/*
 * call.c: one writing request inside of the caller's transaction, with its record.
 *
 * In this order: record the call, note the effect, send, read the answer, complete both. What can fail locally fails
 * before anything is sent; an answer that cannot be read never fails the transaction that has just created a user.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "body.h"
#include "call.h"
#include "effects.h"
#include "lpusers.h"
#include "problem.h"
#include "record.h"
#include "text.h"

/* Give the users of a create the ids that the answer has for their logins. */
static void
match_ids(lpu_call *call)
{
	int			nanswered;
	lpu_user_identity *answered;
	int			i;
	int			j;
	int			hint = 0;

	if (call->body == NULL || JB_ROOT_IS_SCALAR(call->body))
		return;
	answered = lpu_users_identify(call->body, &nanswered);
	for (i = 0; i < call->nusers; i++)
		for (j = 0; j < nanswered; j++)
		{
			/* answers usually come in the order of the request: begin where the last one was found */
			lpu_user_identity *candidate = &answered[(hint + j) % nanswered];

			if (candidate->login_name == NULL || call->users[i].login_name == NULL ||
				pg_strcasecmp(candidate->login_name, call->users[i].login_name) != 0)
				continue;
			call->users[i].id = candidate->id;
			hint += j + 1;
			break;
		}
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
	const char *complaint = NULL;
	bool		done;

	if (lpu_log_calls)
		call->record = lpu_record_begin(call->schema, call->options, call->operation, call->path, call->users, call->nusers);
	effect = lpu_effects_begin(call->options->account, call->operation, call->users, call->nusers);
	call->request.sent = lpu_effect_sent_flag(effect);
	answer = lpu_api_send(call->options, &call->request);
	if (answer->problem != NULL)
		raise_silence(call, answer);

	done = answer->verdict == LPU_OK;
	call->body = lpu_body_as_jsonb(answer->body, answer->body_length, &complaint);
	if (done && call->request.method == LPU_CREATE_USERS)
		match_ids(call);
	if (answer->verdict != LPU_UNCERTAIN)
		lpu_effects_settle(effect, done, call->users, call->nusers);
	*error = error_to_show(call, answer);
	settle_record(call, answer, *error);
	if (*error == NULL && done)
		*error = complaint;
	return answer;
}

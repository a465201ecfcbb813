/*
 * logged_request.c: one writing request inside the caller's transaction, with its record.
 *
 * The order is: record the call, note the effect, send, read the response, complete both. Local
 * failures occur before anything is sent; an unreadable response never fails the transaction that
 * has just created a user.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "api/list_stream.h"
#include "base/encoding.h"
#include "base/error.h"
#include "base/guc.h"
#include "transaction/logged_request.h"
#include "transaction/request_log.h"
#include "transaction/rollback_warning.h"
#include "user/identity.h"

/*
 * Assign to the users of a create their ids in the response.  Return flags for the users that the
 * response does not name, or NULL if it names all.
 */
static bool *
match_ids(LpuLoggedCall *call, const LpuApiAnswer *answer)
{
	LpuAnsweredUser *created = palloc0(Max(call->nusers, 1) * sizeof(LpuAnsweredUser));
	bool	   *unnamed = palloc0(Max(call->nusers, 1) * sizeof(bool));
	bool		any = false;
	int			i;

	for (i = 0; i < call->nusers; i++)
		created[i].login_name = call->users[i].login_name;
	lpu_created_match(answer->body, answer->body_length, created, call->nusers);
	for (i = 0; i < call->nusers; i++)
	{
		call->users[i].id = created[i].id;
		unnamed[i] = !created[i].named;
		any |= unnamed[i];
	}
	return any ? unnamed : NULL;
}

/*
 * Return true if the account may have executed a request, or a part of it. Several users may have
 * been refused because of one of them, and the documentation does not say that such a request is
 * atomic.
 */
static bool
is_unknown(const LpuLoggedCall *call, const LpuApiAnswer *answer)
{
	return answer->verdict == LPU_UNCERTAIN ||
		(answer->verdict == LPU_REJECTED && call->nusers > 1 && !call->looks);
}

static void
settle_record(const LpuLoggedCall *call, const LpuApiAnswer *answer, const char *error,
			  const bool *unnamed)
{
	LpuRecordResult result = {0};

	if (call->record == NULL)
		return;
	result.state = answer->verdict == LPU_OK ? call->success : "failed";
	result.status = answer->status;
	result.has_revision = answer->has_revision;
	result.revision = answer->revision;
	result.error = answer->verdict == LPU_OK ? NULL : error;
	result.cause = is_unknown(call, answer) ? LPU_CAUSE_UNKNOWN : LPU_CAUSE_REFUSED;
	result.reason = is_unknown(call, answer) ? "outcome unknown" : NULL;
	lpu_record_settle(call->record, &result, call->users, unnamed);
}

/*
 * Note the effects that a rollback would not undo; those on users that the response does not name
 * are uncertain.
 */
static void
settle_effect(const LpuLoggedCall *call, const LpuApiAnswer *answer, LpuRemoteEffect *effect,
			  const bool *unnamed)
{
	LpuUserIdentity *users[2];	/* named, and not */
	int			n[2] = {0, 0};
	int			i;

	if (is_unknown(call, answer))
	{
		lpu_effects_leave(effect);
		return;
	}
	if (unnamed == NULL)
	{
		lpu_effects_settle(effect, answer->verdict == LPU_OK, call->users, call->nusers);
		return;
	}
	users[0] = palloc(call->nusers * sizeof(LpuUserIdentity));
	users[1] = palloc(call->nusers * sizeof(LpuUserIdentity));
	for (i = 0; i < call->nusers; i++)
		users[unnamed[i]][n[unnamed[i]]++] = call->users[i];
	if (n[0] > 0)
	{
		lpu_effects_settle(effect, true, users[0], n[0]);
		effect = lpu_effects_begin(call->options->account, call->operation, users[1], n[1]);
	}
	lpu_effects_leave(effect);
}

/* The secrets in UTF-8.  Secrets that cannot be converted were not sent. */
static List *
secrets_as_sent(const LpuLoggedCall *call)
{
	List	   *secrets = NIL;
	ListCell   *cell;

	foreach(cell, call->secrets)
	{
		size_t		length = strlen(lfirst(cell));
		char	   *utf8 = lpu_text_to_utf8(lfirst(cell), &length);

		if (utf8 != NULL)
			secrets = lappend(secrets, utf8);
	}
	return secrets;
}

/*
 * Raise that no response came to a call. Its DETAIL ends with the note of the call.
 */
void
lpu_call_raise_silence(const LpuLoggedCall *call, const LpuApiAnswer *answer)
{
	LpuProblem *problem = call->what ? lpu_api_refusal(call->options, answer, call->what) :
	answer->problem;

	if (call->note != NULL && problem->detail != NULL)
		lpu_problem_detail(problem, "%s%s", problem->detail, call->note);
	if (call->hint != NULL && answer->verdict == LPU_UNCERTAIN)
		lpu_problem_hint(problem, "%s", call->hint);
	lpu_problem_raise(problem);
}

/* A success that does not name all users: the state of the others is unknown. */
static void
warn_unnamed(const LpuLoggedCall *call, const LpuApiAnswer *answer, const bool *unnamed)
{
	const char *first = NULL;
	int			n = 0;
	int			i;

	for (i = 0; i < call->nusers; i++)
		if (unnamed[i] && n++ == 0)
			first = call->users[i].login_name;
	ereport(WARNING,
			(errcode(ERRCODE_WARNING),
			 errmsg_plural("account \"%s\" did not name %d user in its response: outcome unknown",
						   "account \"%s\" did not name %d users in its response: outcome unknown",
						   n, call->options->account, n),
			 errdetail("The status is %d. The first login is \"%s\".", answer->status,
					   first ? first : ""),
			 errhint("Look for the users in the account before creating them again.")));
}

/* Record the call and note its effect, before anything is sent. */
static void
begin_call(LpuLoggedCall *call)
{
	/* listings are not read during the wait for the response: read them now */
	lpu_listings_drain();
	if (lpu_log_calls)
		call->record = lpu_record_begin(call->schema, call->options, call->operation, call->path,
										call->users, call->nusers);
	call->effect = lpu_effects_begin(call->options->account, call->operation, call->users,
									 call->nusers);
	call->request.sent = lpu_effect_sent_flag(call->effect);
}

/* A response came: complete record and effect. */
static void
complete_call(LpuLoggedCall *call, LpuApiAnswer *answer, const char **error)
{
	bool	   *unnamed = NULL;

	if (answer->verdict == LPU_OK && call->request.method == LPU_CREATE_USERS)
		unnamed = match_ids(call, answer);
	settle_effect(call, answer, call->effect, unnamed);
	lpu_api_hide(answer, secrets_as_sent(call));
	*error = answer->error;
	settle_record(call, answer, *error, unnamed);
	if (unnamed != NULL)
		warn_unnamed(call, answer, unnamed);
}

/*
 * Record the call (unless lpusers.log_calls is off), send it, read the response, complete the
 * record, and note what a rollback would not undo. Returns the response in the current memory
 * context; *error is the service's message, or NULL. Raises if no response came; can be
 * cancelled.
 */
LpuApiAnswer *
lpu_call_send(LpuLoggedCall *call, const char **error)
{
	LpuApiAnswer *answer;

	begin_call(call);
	answer = lpu_api_send(call->options, &call->request);
	if (answer->problem != NULL)
		lpu_call_raise_silence(call, answer);
	complete_call(call, answer, error);
	return answer;
}

/* ----- concurrent calls ----- */

/*
 * Start one of several concurrent calls, recorded as by lpu_call_send(), without waiting:
 * lpu_http_turn() drives all of them. No time limit applies until lpu_call_expire(), because the
 * caller may do something else meanwhile. The call must not be moved, and is allocated in the
 * current memory context.
 */
void
lpu_call_start(LpuLoggedCall *call)
{
	begin_call(call);
	call->request.untimed = true;
	call->under_way = lpu_api_start(call->options, &call->request);
}

/* End a call that has no response yet: the option "timeout" has passed. */
void
lpu_call_expire(LpuLoggedCall *call)
{
	lpu_api_expire(call->under_way);
}

/* Return true if a call that was started has ended. */
bool
lpu_call_done(const LpuLoggedCall *call)
{
	return lpu_api_done(call->under_way);
}

/*
 * Return the response of a call that has ended, and complete its record and effect. Its "problem"
 * is set if no response arrived; a failure of the call is not raised, and nothing is repeated.
 * *error is the service's message, or NULL.
 */
LpuApiAnswer *
lpu_call_finish(LpuLoggedCall *call, const char **error)
{
	LpuApiAnswer *answer = lpu_api_finish(call->under_way);

	*error = NULL;
	if (answer->problem == NULL)
		complete_call(call, answer, error);
	else if (answer->verdict == LPU_NOT_SENT)
		lpu_effects_settle(call->effect, false, NULL, 0);
	else
		lpu_effects_leave(call->effect);
	return answer;
}

/* Return true if another bearer token is available after the 401 of a finished call. */
bool
lpu_call_renewed(const LpuLoggedCall *call)
{
	return lpu_api_renewed(call->under_way);
}

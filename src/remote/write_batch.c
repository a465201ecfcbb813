/*
 * write_batch.c: the writing requests of a statement on a foreign table.
 *
 * A statement writes users in batches, and the account keeps the effects of earlier batches when
 * a later one fails. So every error says how many users of the statement are done, and which
 * user stopped it. logged_request.c sends a single request; this file adds which mapping is used
 * and what has been done so far. carry_out.c carries out the users of a batch, and finds the one
 * that the account refuses.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "portability/instr_time.h"
#include "utils/builtins.h"

#include "base/account_lock.h"
#include "base/encoding.h"
#include "base/error.h"
#include "base/extension.h"
#include "remote/write_batch.h"
#include "transaction/logged_request.h"
#include "transaction/request_log.h"
#include "transaction/rollback_warning.h"

/* Names of the record for each method. */
static const struct
{
	LpuMethod	method;
	const char *operation;
	const char *success;
	const char *carried_out;	/* "Of this statement 3 users ..." */
}			methods[] = {
	{LPU_CREATE_USERS, "create", "created", "exist in the account by now"},
	{LPU_UPDATE_USERS, "update", "done", "have been updated"},
	{LPU_DELETE_USERS, "delete", "done", "have been deleted"},
};

static int
method_row(const LpuWriterState *writer)
{
	int			i = 0;

	while (methods[i].method != writer->method)
		i++;
	return i;
}

/*
 * Return " Of this statement 3 user(s) ..." for the DETAIL of an error, allocated in the current
 * memory context; "" if there are none.
 */
char *
lpu_writer_progress(const LpuWriterState *writer)
{
	if (writer->done == 0)
		return "";
	return psprintf(" Of this statement " INT64_FORMAT " %s %s.", writer->done,
					writer->done == 1 ? "user" : "users", methods[method_row(writer)].carried_out);
}

/* ----- sending ----- */

/* Whom an error of the request is about. */
static char *
describe_users(const LpuWriteRequest *write)
{
	const char *first = lpu_writer_name(&write->users[0]);

	return write->nusers > 1 ? psprintf("%d users, the first is %s", write->nusers, first) :
		psprintf("User %s", first);
}

/* The users of the request, and how far the statement has come. */
static char *
describe_request(const LpuWriterState *writer, const LpuWriteRequest *write)
{
	return psprintf(" %s.%s", describe_users(write), lpu_writer_progress(writer));
}

/* The request as one that is recorded, in the current memory context. */
static LpuLoggedCall *
make_call(const LpuWriterState *writer, const LpuWriteRequest *write)
{
	int			row = method_row(writer);
	LpuLoggedCall *call = palloc0(sizeof(LpuLoggedCall));

	call->schema = lpu_extension_schema();
	call->path = "table";
	call->operation = methods[row].operation;
	call->success = methods[row].success;
	call->options = writer->options;
	call->request.method = writer->method;
	call->request.body = write->body;
	call->request.body_length = write->body_length;
	call->request.if_match = write->if_match;
	call->users = write->users;
	call->nusers = write->nusers;
	call->secrets = write->secrets;
	call->looks = true;
	call->what = writer->what;
	call->hint = writer->hint;
	return call;
}

/* A change to the role whose mapping is used, and the time before it. */
typedef struct ActingRole
{
	Oid			role;
	int			context;
	instr_time	since;
} ActingRole;

static void
act_as(const LpuWriterState *writer, ActingRole *acting)
{
	INSTR_TIME_SET_CURRENT(acting->since);
	GetUserIdAndSecContext(&acting->role, &acting->context);
	SetUserIdAndSecContext(writer->role, acting->context | SECURITY_LOCAL_USERID_CHANGE);
}

static void
act_no_more(LpuWriterState *writer, const ActingRole *acting)
{
	instr_time	now;

	SetUserIdAndSecContext(acting->role, acting->context);
	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, acting->since);
	writer->ms += INSTR_TIME_GET_MILLISEC(now);
}

static void
count_request(LpuWriterState *writer, const LpuWriteRequest *write, const LpuApiAnswer *answer)
{
	writer->requests++;
	writer->bytes += write->body_length + answer->body_length;
}

/*
 * Send a writing request as any direct call: recorded, and with a WARNING if the transaction
 * aborts. Returns a response that says what happened; raises if none came or the outcome is
 * unknown. Can be cancelled.
 */
LpuApiAnswer *
lpu_writer_send(LpuWriterState *writer, LpuWriteRequest *write)
{
	LpuLoggedCall *call = make_call(writer, write);
	LpuApiAnswer *answer;
	ActingRole	acting;

	call->note = describe_request(writer, write);
	act_as(writer, &acting);
	answer = lpu_call_send(call, &write->error);
	act_no_more(writer, &acting);
	count_request(writer, write, answer);
	if (answer->verdict == LPU_UNCERTAIN)
		lpu_writer_raise_refusal(writer, answer, write);
	write->record = call->record;
	return answer;
}

/*
 * Start one of several requests that are in flight at a time, and do not wait for it; its record
 * is written, and lpu_http_turn() drives it. It lives in the current memory context.
 */
void
lpu_writer_start(LpuWriterState *writer, LpuWriteRequest *write)
{
	ActingRole	acting;

	write->call = make_call(writer, write);
	act_as(writer, &acting);
	lpu_call_start(write->call);
	act_no_more(writer, &acting);
}

/* End a request that has no response yet: it was waited for as long as the option "timeout" says. */
void
lpu_writer_expire(LpuWriteRequest *write)
{
	lpu_call_expire(write->call);
}

/* Return true if a request that was started has ended. */
bool
lpu_writer_done(const LpuWriteRequest *write)
{
	return lpu_call_done(write->call);
}

/*
 * Return the response of a request that has ended, in the current memory context, and complete
 * its record. If no response came, its "problem" says why. Raises no failure of the request.
 */
LpuApiAnswer *
lpu_writer_finish(LpuWriterState *writer, LpuWriteRequest *write)
{
	LpuApiAnswer *answer;
	ActingRole	acting;

	act_as(writer, &acting);
	answer = lpu_call_finish(write->call, &write->error);
	act_no_more(writer, &acting);
	count_request(writer, write, answer);
	write->record = write->call->record;
	return answer;
}

/* Return true if another bearer token is there after the 401 of a finished request. */
bool
lpu_writer_renewed(const LpuWriteRequest *write)
{
	return lpu_call_renewed(write->call);
}

/*
 * Remove the record of a refused request whose users are sent again, except for those that are
 * doubtful (or NULL).
 */
void
lpu_writer_forget(const LpuWriteRequest *write, const bool *doubtful)
{
	if (write->record != NULL)
		lpu_record_forget(write->record, doubtful);
}

/*
 * Have an abort name these users: a request that was refused may have been carried out for them.
 */
void
lpu_writer_doubt(const LpuWriterState *writer, const LpuUserIdentity *users, int n)
{
	lpu_effects_leave(lpu_effects_begin(writer->options->account,
										methods[method_row(writer)].operation, users, n));
}

/* ----- refusals ----- */

/*
 * Return a user for a message, with what is known: "ann@example.com" (id 1). Allocated in the
 * current memory context.
 */
char *
lpu_writer_name(const LpuUserIdentity *user)
{
	char	   *login = user->login_name ?
	lpu_text_excerpt(user->login_name, strlen(user->login_name), 254) : NULL;

	if (login == NULL)
		return psprintf("with id " INT64_FORMAT, user->id);
	if (user->id == 0)
		return psprintf("\"%s\"", login);
	return psprintf("\"%s\" (id " INT64_FORMAT ")", login, user->id);
}

/*
 * Raise that a request was not carried out, or that its outcome is unknown. The DETAIL names its
 * users and says how far the statement has come.
 */
void
lpu_writer_raise_refusal(const LpuWriterState *writer, const LpuApiAnswer *answer,
						 const LpuWriteRequest *write)
{
	LpuProblem *problem;
	StringInfoData detail;

	if (answer->problem != NULL)
	{
		write->call->note = describe_request(writer, write);
		lpu_call_raise_silence(write->call, answer);
	}
	problem = lpu_api_refusal(writer->options, answer, writer->what);
	initStringInfo(&detail);
	if (answer->verdict == LPU_UNCERTAIN)
		appendStringInfoString(&detail, "Outcome unknown. ");
	appendStringInfo(&detail, "%s%s%s.%s", describe_users(write), write->error ? ": " : "",
					 write->error ? write->error : "", lpu_writer_progress(writer));
	if (answer->verdict == LPU_LATER)
		appendStringInfo(&detail, " The account asks to wait %ld s.",
						 (answer->retry_after_ms + 999) / 1000);
	problem->detail = detail.data;
	if (writer->done > 0 || answer->verdict == LPU_UNCERTAIN ||
		(answer->status == 409 && writer->method == LPU_CREATE_USERS))
		lpu_problem_hint(problem, "%s", writer->hint);
	lpu_problem_raise(problem);
}

/* ----- the revision's lock ----- */

/* Add what the statement has done before to the error of the lock. */
static void
lock_context(void *arg)
{
	const LpuWriterState *writer = arg;

	if (geterrcode() == ERRCODE_LOCK_NOT_AVAILABLE && writer->done > 0)
		errdetail_internal("Other writes to the account are under way. Nothing more was sent.%s",
						   lpu_writer_progress(writer));
}

/*
 * Take the revision's lock of the account until lpu_unlock_revision(), as lpu_lock_revision().
 * Waits; can be cancelled. Raises 55P03 if it cannot be taken in time, and says then what the
 * statement has done.
 */
void
lpu_writer_lock(LpuWriterState *writer, LpuRevisionUse use, int timeout_ms)
{
	ErrorContextCallback context = {error_context_stack, lock_context, writer};

	error_context_stack = &context;
	lpu_lock_revision(writer->options->account, writer->options->party, use, timeout_ms);
	error_context_stack = context.previous;
}

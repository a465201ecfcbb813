/*
 * write_batch.c: the writing requests of a statement on a foreign table.
 *
 * A statement writes users in batches, and the account keeps the effects of earlier batches when
 * a later one fails. So every error says how many users of the statement are done, and which
 * user stopped it. logged_request.c sends a single request; this file adds which mapping is
 * used, what has been done so far, and how the refused user of a batch is found.
 */
#include "postgres.h"

#include <ctype.h>

#include "miscadmin.h"
#include "portability/instr_time.h"
#include "utils/builtins.h"

#include "base/encoding.h"
#include "base/error.h"
#include "base/extension.h"
#include "remote/write_batch.h"
#include "transaction/logged_request.h"
#include "transaction/request_log.h"
#include "transaction/rollback_warning.h"

/* The request was too large: its users were certainly not processed. */
#define TOO_LARGE 413

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

/* A batch while it is carried out. */
typedef struct BatchState
{
	LpuWriterState *writer;
	const LpuWriteBatch *methods;
	void	   *batch;
	bool		looked;			/* once is enough */
} BatchState;

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

/* Send it as the role whose mapping is used. */
static LpuApiAnswer *
call_as(LpuWriterState *writer, LpuLoggedCall *call, const char **error)
{
	LpuApiAnswer *answer;
	Oid			role;
	int			context;
	instr_time	start;
	instr_time	end;

	INSTR_TIME_SET_CURRENT(start);
	GetUserIdAndSecContext(&role, &context);
	SetUserIdAndSecContext(writer->role, context | SECURITY_LOCAL_USERID_CHANGE);
	answer = lpu_call_send(call, error);
	SetUserIdAndSecContext(role, context);
	INSTR_TIME_SET_CURRENT(end);
	INSTR_TIME_SUBTRACT(end, start);
	writer->requests++;
	writer->bytes += call->request.body_length + answer->body_length;
	writer->ms += INSTR_TIME_GET_MILLISEC(end);
	return answer;
}

/* Whom an error of the request is about. */
static char *
describe_users(const LpuWriteRequest *write)
{
	const char *first = lpu_writer_name(&write->users[0]);

	return write->nusers > 1 ? psprintf("%d users, the first is %s", write->nusers, first) :
		psprintf("User %s", first);
}

pg_noreturn static void raise_refused(const LpuWriterState *writer, const LpuApiAnswer *answer,
									  const LpuWriteRequest *write);

/*
 * Send a writing request as any direct call: recorded, and with a WARNING if the transaction
 * aborts. Returns a response that says what happened; raises if none came or the outcome is
 * unknown. Can be cancelled.
 */
LpuApiAnswer *
lpu_writer_send(LpuWriterState *writer, LpuWriteRequest *write)
{
	int			row = method_row(writer);
	LpuLoggedCall call = {0};
	LpuApiAnswer *answer;

	call.schema = lpu_extension_schema();
	call.path = "table";
	call.operation = methods[row].operation;
	call.success = methods[row].success;
	call.options = writer->options;
	call.request.method = writer->method;
	call.request.body = write->body;
	call.request.body_length = write->body_length;
	call.request.if_match = write->if_match;
	call.users = write->users;
	call.nusers = write->nusers;
	call.secrets = write->secrets;
	call.looks = true;
	call.what = writer->what;
	call.note = psprintf(" %s.%s", describe_users(write), lpu_writer_progress(writer));
	call.hint = writer->hint;

	answer = call_as(writer, &call, &write->error);
	if (answer->verdict == LPU_UNCERTAIN)
		raise_refused(writer, answer, write);
	write->record = call.record;
	return answer;
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
	LpuRemoteEffect *effect = lpu_effects_begin(writer->options->account,
												methods[method_row(writer)].operation, users, n);

	*lpu_effect_sent_flag(effect) = true;
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

static void
raise_refused(const LpuWriterState *writer, const LpuApiAnswer *answer,
			  const LpuWriteRequest *write)
{
	LpuProblem *problem = lpu_api_refusal(writer->options, answer, writer->what);
	StringInfoData detail;

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

static void carry_out(BatchState *state, const int *users, int n);

static void
carry_out_halves(BatchState *state, const int *users, int n)
{
	if (n > 1)
	{
		carry_out(state, users, n / 2);
		users += n / 2;
		n -= n / 2;
	}
	if (n > 0)
		carry_out(state, users, n);
}

/* These of them. */
static int *
choose(const int *users, int n, const bool *there, bool wanted, int *nchosen)
{
	int		   *chosen = palloc(n * sizeof(int));
	int			i;

	*nchosen = 0;
	for (i = 0; i < n; i++)
		if (there[i] == wanted)
			chosen[(*nchosen)++] = users[i];
	return chosen;
}

/* Those of what was sent that are there. */
static LpuUserIdentity *
identities_of(const LpuWriteRequest *write, const bool *there)
{
	LpuUserIdentity *users = palloc(write->nusers * sizeof(LpuUserIdentity));
	int			n = 0;
	int			i;

	for (i = 0; i < write->nusers; i++)
		if (there[i])
			users[n++] = write->users[i];
	return users;
}

/*
 * Carry out these users. If that fails, the abort also names others that may have been carried
 * out.
 */
static void
carry_out_or_doubt(BatchState *state, const int *users, int n, const LpuUserIdentity *others,
				   int nothers)
{
	state->writer->done += nothers;
	PG_TRY();
	{
		carry_out(state, users, n);
	}
	PG_CATCH();
	{
		lpu_writer_doubt(state->writer, others, nothers);
		PG_RE_THROW();
	}
	PG_END_TRY();
	state->writer->done -= nothers;
}

/* Return true if the account's message names this login, and not one that merely contains it. */
static bool
is_named(const char *message, const char *login)
{
	const char *found = message;
	size_t		length = login ? strlen(login) : 0;

	while (length > 0 && found != NULL && (found = strstr(found, login)) != NULL)
	{
		unsigned char before = found > message ? found[-1] : ' ';
		unsigned char after = found[length];

		if (!isalnum(before) && strchr("._%+-@", before) == NULL && !isalnum(after) &&
			(after == '\0' || strchr("_%+-@", after) == NULL))
			return true;
		found += length;
	}
	return false;
}

/*
 * All users of a refused batch exist: only the account's message can tell which existed before.
 */
static void
raise_doubtful(LpuWriterState *writer, LpuUserIdentity *users, int n, const LpuApiAnswer *answer,
			   const LpuWriteRequest *write)
{
	LpuWriteRequest about = *write;
	int			i;

	writer->done += n;
	for (i = 0; i < n && !is_named(answer->error, users[i].login_name); i++)
		;
	if (i < n)
	{
		LpuUserIdentity named = users[i];

		memmove(users + i, users + i + 1, (n - i - 1) * sizeof(LpuUserIdentity));
		users[--n] = named;
		about.users = &users[n];
		about.nusers = 1;
	}
	lpu_writer_doubt(writer, users, n);
	raise_refused(writer, answer, &about);
}

/*
 * Some users of a refused batch exist. Either they existed before and caused the refusal, or the
 * account has carried out a part of the request and another user caused it. The users that do
 * not exist tell which: if the account accepts them now, nothing had been carried out. All
 * before the first existing user are tried, which keeps the order, or else one after it.
 */
static void
carry_out_doubtful(BatchState *state, const int *users, int n, const bool *there,
				   const LpuApiAnswer *answer,
				   const LpuWriteRequest *write)
{
	LpuUserIdentity *others = identities_of(write, there);
	int			nothers;
	int			from = 0;		/* those that tell */
	int			upto;
	int			first = 0;		/* that is there */

	(void) choose(users, n, there, true, &nothers);
	while (!there[first])
		first++;
	upto = first;
	if (first == 0 && (nothers > 1 || !is_named(answer->error, others[0].login_name)))
	{
		while (from < n && there[from])
			from++;
		upto = Min(from + 1, n);
		if (from == n)
			raise_doubtful(state->writer, others, nothers, answer, write);
	}
	carry_out_or_doubt(state, users + from, upto - from, others, nothers);

	/* it is the guilty one, unless it has gone meanwhile */
	carry_out(state, users + first, 1);
	if (from > 0)
		carry_out_halves(state, users + 1, from - 1);
	carry_out_halves(state, users + Max(upto, first + 1), n - Max(upto, first + 1));
}

/* Add the refused request to the context of an error of the lookup. */
static void
look_context(void *arg)
{
	const LpuWriteRequest *write = arg;

	errcontext("looking which of %d users are there whom the account has refused: %s",
			   write->nusers, write->error);
}

/*
 * Return which of the users that were refused together are in the account
 * nevertheless.  If that cannot be found out, all may be.
 */
static bool *
look(BatchState *state, const int *users, int n, LpuWriteRequest *write)
{
	ErrorContextCallback context = {error_context_stack, look_context, write};
	bool	   *there = palloc0(n * sizeof(bool));

	state->looked = true;
	error_context_stack = &context;
	PG_TRY();
	{
		state->methods->look(state->batch, users, n, there);
	}
	PG_CATCH();
	{
		lpu_writer_doubt(state->writer, write->users, write->nusers);
		PG_RE_THROW();
	}
	PG_END_TRY();
	error_context_stack = context.previous;
	return there;
}

/* Look for them, and go on with those who are not there. */
static void
look_and_carry_out(BatchState *state, const int *users, int n, const LpuApiAnswer *answer,
				   LpuWriteRequest *write)
{
	bool	   *there = look(state, users, n, write);
	int			nthere;
	int			nleft;
	int		   *left;

	left = choose(users, n, there, false, &nleft);
	nthere = n - nleft;
	lpu_writer_forget(write, there);
	if (nthere == 0)
		carry_out_halves(state, users, n);
	else if (!state->methods->there_is_done)
		carry_out_doubtful(state, users, n, there, answer, write);
	else
	{
		lpu_writer_doubt(state->writer, identities_of(write, there), nthere);
		state->writer->done += nthere;
		carry_out(state, left, nleft);
	}
}

static void
carry_out(BatchState *state, const int *users, int n)
{
	const LpuWriteBatch *methods_of = state->methods;
	LpuWriteRequest write = {0};
	LpuApiAnswer *answer;

	if (n == 0)
		return;
	answer = methods_of->send(state->batch, users, n, &write);
	if (answer->verdict == LPU_OK)
		state->writer->done += n - write.ngone;
	else if (n == 1 && methods_of->excuse != NULL &&
			 methods_of->excuse(state->batch, users[0], answer, &write))
		return;
	else if (n == 1 || answer->verdict != LPU_REJECTED)
		raise_refused(state->writer, answer, &write);
	else if (answer->status != TOO_LARGE && methods_of->look != NULL && !state->looked)
		look_and_carry_out(state, users, n, answer, &write);
	else
	{
		lpu_writer_forget(&write, NULL);
		carry_out_halves(state, users, n);
	}
}

/*
 * Send n users, batch_size of them in a request. A batch that the account refuses because of
 * some users is sent in halves: all before the first refused one are carried out, as by a
 * statement that goes row by row, and the ERROR names that one. Raises any failure; can be
 * cancelled.
 */
void
lpu_writer_carry_out(LpuWriterState *writer, const LpuWriteBatch *methods_of, void *batch, int n)
{
	int		   *users = palloc(Max(n, 1) * sizeof(int));
	int			size = writer->options->batch_size;
	int			i;

	for (i = 0; i < n; i++)
		users[i] = i;
	for (i = 0; i < n; i += size)
	{
		BatchState	state = {writer, methods_of, batch, false};

		carry_out(&state, users + i, Min(size, n - i));
	}
}

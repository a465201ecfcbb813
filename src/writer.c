/*
 * writer.c: the writing requests of a statement on a foreign table.
 *
 * A statement writes users in batches, and the account keeps what it has carried out when a later batch fails. So every
 * error says how many of the statement are done, and which user stopped it. What sends the single request is call.c; here
 * is what a table adds: whose mapping it uses, what has been done so far, and how the guilty user of a batch is found.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"

#include "call.h"
#include "owner.h"
#include "problem.h"
#include "text.h"
#include "value.h"
#include "writer.h"

/* Names of the record for each method. */
static const struct
{
	lpu_method	method;
	const char *operation;
	const char *success;
	const char *carried_out;	/* "Of this statement 3 user(s) ..." */
}			methods[] = {
	{LPU_CREATE_USERS, "create", "created", "exist in the account by now"},
	{LPU_UPDATE_USERS, "update", "done", "have been updated"},
	{LPU_DELETE_USERS, "delete", "done", "have been deleted"},
};

/* Statuses that are about the users in the request. */
static const int guilty_statuses[] = {400, 404, 409, 413, 422};

static int
method_row(const lpu_writer *writer)
{
	int			i = 0;

	while (methods[i].method != writer->method)
		i++;
	return i;
}

char *
lpu_writer_progress(const lpu_writer *writer)
{
	if (writer->done == 0)
		return "";
	return psprintf(" Of this statement " INT64_FORMAT " user(s) %s.", writer->done,
					methods[method_row(writer)].carried_out);
}

char *
lpu_writer_utf8(char *text, size_t *length)
{
	char	   *utf8;

	*length = strlen(text);
	utf8 = lpu_text_to_utf8(text, length);
	if (utf8 == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE),
				 errmsg("the users cannot be sent as UTF-8"),
				 errhidestmt(true)));
	return utf8;
}

/* ------------------------------------------------------------------------------------------------------- values */

static void
raise_bad_value(const lpu_writer *writer, const lpu_column *column, const char *problem)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for column \"%s\" of foreign table \"%s\"", column->name, writer->table->name),
			 errdetail_internal("\"%s\" %s.%s", column->attribute, problem, lpu_writer_progress(writer)),
			 errhidestmt(true)));
}

void
lpu_writer_put(const lpu_writer *writer, StringInfo object, const lpu_column *column, Datum value, bool isnull)
{
	lpu_attribute unknown = {column->attribute, strlen(column->attribute), LPU_ANY, 0};
	Oid			type = getBaseType(column->type);
	const char *problem;

	lpu_datum_unify_json(&type, &value, &isnull);
	appendStringInfoChar(object, object->len > 0 ? ',' : '{');
	escape_json(object, column->attribute);
	appendStringInfoChar(object, ':');
	if (isnull)
	{
		appendStringInfoString(object, "null");
		return;
	}
	problem = lpu_datum_write(object, column->def ? column->def : &unknown, type, value);
	if (problem != NULL)
		raise_bad_value(writer, column, problem);
}

char *
lpu_writer_lay(Jsonb *lower, const char *upper)
{
	Datum		both = DirectFunctionCall2(jsonb_concat, JsonbPGetDatum(lower),
										   DirectFunctionCall1(jsonb_in, CStringGetDatum(upper)));

	return JsonbToCString(NULL, &DatumGetJsonbP(both)->root, VARSIZE(DatumGetJsonbP(both)));
}

/* ------------------------------------------------------------------------------------------------------- sending */

lpu_api_answer *
lpu_writer_send(lpu_writer *writer, lpu_write *write)
{
	int			row = method_row(writer);
	lpu_call	call = {0};
	lpu_identity before;
	lpu_api_answer *answer;

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
	call.note = lpu_writer_progress(writer);

	writer->requests++;
	writer->bytes += write->body_length;
	GetUserIdAndSecContext(&before.role, &before.context);
	SetUserIdAndSecContext(writer->role, before.context | SECURITY_LOCAL_USERID_CHANGE);
	answer = lpu_call_send(&call, &write->error);
	lpu_become_again(&before);
	if (answer->verdict == LPU_UNCERTAIN)
		lpu_writer_raise(writer, answer, write);
	return answer;
}

bool
lpu_writer_is_guilty(const lpu_api_answer *answer)
{
	int			i;

	if (answer->verdict != LPU_REJECTED)
		return false;
	for (i = 0; i < lengthof(guilty_statuses); i++)
		if (guilty_statuses[i] == answer->status)
			return true;
	return false;
}

/* The user that a message is about, or the first of several. */
static void
append_user(StringInfo out, const lpu_write *write)
{
	const lpu_user_identity *user = &write->users[0];

	appendStringInfoString(out, out->len > 0 ? " " : "");
	appendStringInfoString(out, write->nusers > 1 ? psprintf("%d users from ", write->nusers) : "User ");
	if (user->login_name != NULL)
		appendStringInfo(out, "\"%s\"", lpu_text_excerpt(user->login_name, strlen(user->login_name), 254));
	if (user->id != 0)
		appendStringInfo(out, user->login_name ? " (id " INT64_FORMAT ")" : "with id " INT64_FORMAT, user->id);
	appendStringInfoChar(out, '.');
}

void
lpu_writer_raise(const lpu_writer *writer, const lpu_api_answer *answer, const lpu_write *write)
{
	lpu_problem *problem = lpu_api_refusal(writer->options, answer, writer->what);
	StringInfoData detail;

	initStringInfo(&detail);
	if (answer->verdict == LPU_UNCERTAIN)
		appendStringInfoString(&detail, "Outcome unknown. ");
	if (write->error != NULL)
		appendStringInfo(&detail, "%s.", write->error);
	append_user(&detail, write);
	appendStringInfoString(&detail, lpu_writer_progress(writer));
	problem->detail = detail.data;
	if (lpu_writer_is_guilty(answer) && writer->hint != NULL)
		lpu_problem_hint(problem, "%s", writer->hint);
	lpu_problem_raise(problem);
}

static void
carry_out(lpu_writer *writer, lpu_write_range send, void *batch, int from, int n)
{
	lpu_write	write = {0};
	lpu_api_answer *answer = send(batch, from, n, &write);

	if (answer->verdict == LPU_OK)
	{
		writer->done += n;
		return;
	}
	if (n == 1 || !lpu_writer_is_guilty(answer))
		lpu_writer_raise(writer, answer, &write);
	carry_out(writer, send, batch, from, n / 2);
	carry_out(writer, send, batch, from + n / 2, n - n / 2);
}

void
lpu_writer_carry_out(lpu_writer *writer, lpu_write_range send, void *batch, int n)
{
	if (n > 0)
		carry_out(writer, send, batch, 0, n);
}

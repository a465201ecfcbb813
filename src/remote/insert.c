/*
 * insert.c: rows that are inserted into a foreign table, as users to be created.
 *
 * A row is converted to JSON at once; a batch is checked and sent as one array. Null columns are
 * omitted, which means the same to the API. If a column shows the whole entity, the other
 * columns are laid over its value. Values that violate the API's documentation are refused
 * before anything of the batch is sent. Existing logins are listed when they are needed: before
 * the first row that may be left out, and after the account has refused some.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "api/list_stream.h"
#include "base/encoding.h"
#include "base/error.h"
#include "remote/column_value.h"
#include "remote/insert.h"
#include "remote/returning.h"
#include "user/datum_to_json.h"
#include "user/login.h"
#include "user/validate.h"

struct LpuInsertState
{
	LpuWriterState *writer;
	const LpuForeignTable *table;
	MemoryContext context;		/* of the statement */
	MemoryContext batch;		/* of the rows since the last flush, and of
								 * their response until the next row */
	bool		skip_existing;
	LpuLogins  *existing;		/* of skip_existing, with those of this
								 * statement; NULL: not asked yet */
	LpuReturnedUsers *answered; /* NULL: not needed yet */
	int64		taken;			/* rows of the statement so far */
	StringInfoData array;		/* the batch, "[{...},{...}" */
	int64	   *rows;			/* its rows' numbers in the statement, from 1 */
	int			n;
	char	  **bodies;			/* while it is sent: each user for the wire */
	LpuUserIdentity *users;
	List	   *secrets;
	LpuApiAnswer *answer;		/* the last one */
};

/* ----- existing ----- */

static void
add_insert_costs(LpuWriterState *writer, const LpuListing *listing)
{
	writer->requests += lpu_listing_requests(listing);
	writer->bytes += lpu_listing_bytes(listing);
	writer->ms += lpu_listing_ms(listing);
}

/* The logins of all users who are not deleted, in the current memory context. */
static LpuLogins *
list_batch_logins(LpuWriterState *writer)
{
	static const char *const names[] = {"loginName"};
	LpuLogins  *logins = lpu_logins_new();
	MemoryContext row = AllocSetContextCreate(CurrentMemoryContext, "lpusers row",
											  ALLOCSET_SMALL_SIZES);
	MemoryContext caller = CurrentMemoryContext;
	LpuApiRequest request = {.method = LPU_LIST_USERS,.query = "&select=id,loginName"};
	LpuListing *listing = lpu_listing_open(writer->options, &request, "list users", names, 1,
										   false);
	LpuListingState state;

	MemoryContextSwitchTo(row);
	while ((state = lpu_listing_next(listing)) == LPU_LISTING_ELEMENT)
	{
		const LpuValue *login = &lpu_listing_values(listing)[0];

		if (login->type == LPU_VALUE_STRING)
			lpu_logins_add(logins, lpu_text_from_utf8(login->text));
		MemoryContextReset(row);
	}
	MemoryContextSwitchTo(caller);
	if (state != LPU_LISTING_END)
		lpu_problem_raise(lpu_listing_problem(listing));
	add_insert_costs(writer, listing);
	lpu_listing_close(listing);
	MemoryContextDelete(row);
	return logins;
}

/*
 * Return the state of an INSERT, in the current memory context; the writer must live as long.
 * With skip_existing, rows whose login exists in the account are left out (ON CONFLICT DO
 * NOTHING).
 */
LpuInsertState *
lpu_creation_new(LpuWriterState *writer, bool skip_existing)
{
	LpuInsertState *c = palloc0(sizeof(LpuInsertState));

	c->writer = writer;
	c->table = writer->table;
	c->context = CurrentMemoryContext;
	c->batch = AllocSetContextCreate(CurrentMemoryContext, "lpusers batch", ALLOCSET_DEFAULT_SIZES);
	c->skip_existing = skip_existing;
	c->rows = palloc(writer->options->batch_size * sizeof(int64));
	return c;
}

/* ----- rows ----- */

static char *
name_row(const LpuInsertState *c, int64 row, const char *login)
{
	LpuUserIdentity user = {.login_name = unconstify(char *, login)};

	if (login == NULL)
		return psprintf("Row " INT64_FORMAT, row);
	return psprintf("Row " INT64_FORMAT ", user %s", row, lpu_writer_name(&user));
}

static Jsonb *
as_jsonb(const LpuColumn *column, Datum value)
{
	Oid			type = getBaseType(column->type);

	if (type == JSONBOID)
		return DatumGetJsonbP(value);
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
											  CStringGetDatum(lpu_datum_text(type, value))));
}

/* Return the value of the column that shows the whole entity, or NULL if the row has none. */
static Jsonb *
ground_of(const LpuInsertState *c, TupleTableSlot *slot)
{
	int			i;

	for (i = 0; i < c->table->ncolumns; i++)
		if (c->table->columns[i].name != NULL && c->table->columns[i].whole && !slot->tts_isnull[i])
			return as_jsonb(&c->table->columns[i], slot->tts_values[i]);
	return NULL;
}

/* NULL: it has none, or none that is a string. */
static char *
login_of(const LpuInsertState *c, TupleTableSlot *slot)
{
	int			column = c->table->login_column - 1;
	Jsonb	   *ground;
	JsonbValue	value;

	slot_getallattrs(slot);
	if (column >= 0 && !slot->tts_isnull[column])
		return lpu_datum_text(getBaseType(c->table->columns[column].type),
							  slot->tts_values[column]);
	ground = ground_of(c, slot);
	if (ground == NULL || !JB_ROOT_IS_OBJECT(ground) ||
		lpu_jsonb_get_member(&ground->root, "loginName", &value) == NULL || value.type != jbvString)
		return NULL;
	return pnstrdup(value.val.string.val, value.val.string.len);
}

/* The row as one JSON object. */
static char *
write_row(const LpuInsertState *c, TupleTableSlot *slot)
{
	StringInfoData out;
	Jsonb	   *ground;
	int			i;

	initStringInfo(&out);
	slot_getallattrs(slot);
	for (i = 0; i < c->table->ncolumns; i++)
	{
		const LpuColumn *column = &c->table->columns[i];
		const char *problem;

		if (column->name == NULL || column->whole || slot->tts_isnull[i])
			continue;
		problem = lpu_writer_put(c->writer, &out, column, slot->tts_values[i], false);
		if (problem != NULL)
			lpu_writer_raise_value(c->writer, column, problem,
								   name_row(c, c->taken, login_of(c, slot)));
	}
	appendStringInfoString(&out, out.len > 0 ? "}" : "{}");
	ground = ground_of(c, slot);
	return ground ? lpu_writer_lay(ground, out.data) : out.data;
}

/* Return true if the row's login is to be left out. If not, it exists from now on. */
static bool
exists_already(LpuInsertState *c, TupleTableSlot *slot)
{
	char	   *login;

	if (!c->skip_existing)
		return false;
	if (c->existing == NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(c->context);

		c->existing = list_batch_logins(c->writer);
		MemoryContextSwitchTo(caller);
	}
	login = login_of(c, slot);
	return login != NULL && !lpu_logins_add(c->existing, login);
}

/*
 * Add a row to the batch. Return false if it is left out. Raises for a value that its attribute
 * does not take.
 */
bool
lpu_creation_add(LpuInsertState *c, TupleTableSlot *slot)
{
	MemoryContext caller = MemoryContextSwitchTo(c->batch);
	bool		wanted;

	if (c->n == 0)
	{
		MemoryContextReset(c->batch);
		initStringInfo(&c->array);
	}
	c->taken++;
	Assert(c->n < c->writer->options->batch_size);
	wanted = !exists_already(c, slot);
	if (wanted)
	{
		appendStringInfoChar(&c->array, c->n > 0 ? ',' : '[');
		appendStringInfoString(&c->array, write_row(c, slot));
		c->rows[c->n++] = c->taken;
	}
	MemoryContextSwitchTo(caller);
	return wanted;
}

/* Return how many rows are in the batch. */
int
lpu_creation_pending(const LpuInsertState *c)
{
	return c->n;
}

/* ----- sending ----- */

static void
raise_invalid(const LpuInsertState *c, List *problems)
{
	const LpuUserProblem *first = linitial(problems);
	int			ordinal = Max(first->ordinal, 1);
	const char *problem = first->twin == 0 ? first->text :
	psprintf("is the same as that of row " INT64_FORMAT, c->rows[first->twin - 1]);
	StringInfoData detail;

	initStringInfo(&detail);
	appendStringInfo(&detail, "%s: %s.",
					 name_row(c, c->rows[ordinal - 1], c->users[ordinal - 1].login_name),
					 lpu_writer_complaint(c->writer, first->attribute, problem));
	if (list_length(problems) > 1)
		appendStringInfo(&detail, ngettext(" %d more problem in this batch.",
										   " %d more problems in this batch.",
										   list_length(problems) - 1),
						 list_length(problems) - 1);
	appendStringInfoString(&detail, lpu_writer_progress(c->writer));
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid row for foreign table \"%s\"", c->table->name),
			 errdetail_internal("%s", detail.data),
			 errhidestmt(true), errhidecontext(true)));
}

static LpuApiAnswer *
send_new_users(void *batch, const int *users, int n, LpuWriteRequest *write)
{
	LpuInsertState *c = batch;
	StringInfoData text;
	int			i;

	initStringInfo(&text);
	write->users = palloc(n * sizeof(LpuUserIdentity));
	for (i = 0; i < n; i++)
	{
		write->users[i] = c->users[users[i]];
		appendStringInfoChar(&text, i > 0 ? ',' : '[');
		appendStringInfoString(&text, c->bodies[users[i]]);
	}
	appendStringInfoChar(&text, ']');
	write->body = lpu_writer_utf8(text.data, &write->body_length);
	write->nusers = n;
	write->secrets = c->secrets;
	return c->answer = lpu_writer_send(c->writer, write);
}

static void
look_for_new_users(void *batch, const int *users, int n, bool *there)
{
	LpuInsertState *c = batch;
	LpuLogins  *existing = list_batch_logins(c->writer);
	int			i;

	for (i = 0; i < n; i++)
		there[i] = c->users[users[i]].login_name != NULL &&
			lpu_logins_has(existing, c->users[users[i]].login_name);
}

/*
 * Return true if the user may be left out and another client has created it
 * since.  The API does not document which status says so.
 */
static bool
may_be_left_out(void *batch, int user, const LpuApiAnswer *answer, const LpuWriteRequest *write)
{
	LpuInsertState *c = batch;
	bool		there;

	if (!c->skip_existing || (answer->status != 409 && answer->status != 400))
		return false;
	look_for_new_users(c, &user, 1, &there);
	return there;
}

/*
 * Create the users of the batch, which is empty afterwards. Raises if one was not created,
 * unless another client has just created it and it may be left out. Can be cancelled.
 */
void
lpu_creation_flush(LpuInsertState *c)
{
	LpuWriteBatch methods = {.send = send_new_users,.look = look_for_new_users,
	.there_is_done = c->skip_existing,.excuse = may_be_left_out};
	MemoryContext caller = MemoryContextSwitchTo(c->batch);
	Jsonb	   *users;
	List	   *problems;
	int			n = c->n;

	c->n = 0;
	if (n > 0)
	{
		appendStringInfoChar(&c->array, ']');
		users = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(c->array.data)));
		c->users = lpu_users_identify(users, &n);
		problems = lpu_users_check(users, LPU_USER_CREATE, c->writer->options->require_password);
		if (problems != NIL)
			raise_invalid(c, problems);
		c->secrets = lpu_users_secrets(users);
		c->bodies = lpu_users_write_each(users, n);
		lpu_writer_carry_out(c->writer, &methods, c, n);
	}
	MemoryContextSwitchTo(caller);
}

/* After a batch of one: complete its row from the response, with the id for example. */
void
lpu_creation_return(LpuInsertState *c, TupleTableSlot *slot)
{
	MemoryContext caller = MemoryContextSwitchTo(c->context);

	if (c->answered == NULL)
		c->answered = lpu_answered_new(c->table);
	MemoryContextSwitchTo(c->batch);
	lpu_answered_complete(c->answered, c->answer, slot);
	MemoryContextSwitchTo(caller);
}

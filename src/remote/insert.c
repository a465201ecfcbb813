/*
 * insert.c: rows that are inserted into a foreign table, as users to be created.
 *
 * A row is converted to JSON at once. The executor hands over as many rows as several requests
 * take; each batch_size of them are checked and sent as one array, up to max_connections arrays
 * at a time. Null columns are omitted, which means the same to the API. If a column shows the
 * whole entity, the other columns are laid over its value. Values that violate the API's
 * documentation are refused before anything of their array is sent. Existing logins are listed
 * when they are needed: before the first row that may be left out, and after the account has
 * refused some.
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
	char	  **texts;			/* the rows since the last flush, as JSON
								 * objects */
	int64	   *rows;			/* their numbers in the statement, from 1 */
	int			n;
	char	  **bodies;			/* while they are sent: each user for the
								 * wire, NULL before it was checked */
	LpuUserIdentity *users;
	List	  **secrets;		/* of each request */
	LpuApiAnswer *answer;		/* the last one, of a row alone */
};

/*
 * Rows that are handed over at a time: so many that the connections are busy nearly all of the
 * time, and so few that they do not take much memory.
 */
#define ROUNDS 4
#define MAX_ROWS 10000

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
 * Return how many rows may wait: those of several requests, so that the connections are busy nearly
 * all of the time.
 */
int
lpu_creation_room(const LpuOptions *options)
{
	return Max(options->batch_size,
			   Min(options->batch_size * options->max_connections * ROUNDS, MAX_ROWS));
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
	int			room = lpu_creation_room(writer->options);

	c->writer = writer;
	c->table = writer->table;
	c->context = CurrentMemoryContext;
	c->batch = AllocSetContextCreate(CurrentMemoryContext, "lpusers batch", ALLOCSET_DEFAULT_SIZES);
	c->skip_existing = skip_existing;
	c->texts = palloc(room * sizeof(char *));
	c->rows = palloc(room * sizeof(int64));
	c->bodies = palloc(room * sizeof(char *));
	c->users = palloc(room * sizeof(LpuUserIdentity));
	c->secrets = palloc(room * sizeof(List *));
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
 * Add a row to those that wait. Return false if it is left out. Raises for a value that its
 * attribute does not take.
 */
bool
lpu_creation_add(LpuInsertState *c, TupleTableSlot *slot)
{
	MemoryContext caller = MemoryContextSwitchTo(c->batch);
	bool		wanted;

	if (c->n == 0)
		MemoryContextReset(c->batch);
	c->taken++;
	Assert(c->n < lpu_creation_room(c->writer->options));
	wanted = !exists_already(c, slot);
	if (wanted)
	{
		c->texts[c->n] = write_row(c, slot);
		c->rows[c->n++] = c->taken;
	}
	MemoryContextSwitchTo(caller);
	return wanted;
}

/* Return how many rows wait. */
int
lpu_creation_pending(const LpuInsertState *c)
{
	return c->n;
}

/* ----- sending ----- */

/* Return what is wrong with the users of a request, the first of which has this number. */
static LpuProblem *
describe_row_problems(const LpuInsertState *c, int first, List *problems)
{
	const LpuUserProblem *worst = linitial(problems);
	int			user = first + Max(worst->ordinal, 1) - 1;
	const char *text = worst->twin == 0 ? worst->text :
	psprintf("is the same as that of row " INT64_FORMAT, c->rows[first + worst->twin - 1]);
	LpuProblem *problem = lpu_problem_new(ERRCODE_INVALID_PARAMETER_VALUE,
										  "invalid row for foreign table \"%s\"", c->table->name);

	lpu_problem_detail(problem, "%s: %s.", name_row(c, c->rows[user], c->users[user].login_name),
					   lpu_writer_complaint(c->writer, worst->attribute, text));
	if (list_length(problems) > 1)
		lpu_problem_detail(problem, ngettext("%s %d more problem in this batch.",
											 "%s %d more problems in this batch.",
											 list_length(problems) - 1),
						   problem->detail, list_length(problems) - 1);
	return problem;
}

/* Check n rows of a request, and make users of them. Return what is wrong, or NULL. */
static LpuProblem *
check_rows(LpuInsertState *c, int first, int n)
{
	MemoryContext caller = MemoryContextSwitchTo(c->batch);
	const LpuOptions *options = c->writer->options;
	StringInfoData array;
	Jsonb	   *users;
	List	   *problems;
	int			i;

	initStringInfo(&array);
	for (i = 0; i < n; i++)
	{
		appendStringInfoChar(&array, i > 0 ? ',' : '[');
		appendStringInfoString(&array, c->texts[first + i]);
		pfree(c->texts[first + i]);
	}
	appendStringInfoChar(&array, ']');
	users = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(array.data)));
	memcpy(&c->users[first], lpu_users_identify(users, &n), n * sizeof(LpuUserIdentity));
	problems = lpu_users_check(users, LPU_USER_CREATE, options->require_password);
	c->secrets[first / options->batch_size] = lpu_users_secrets(users);
	memcpy(&c->bodies[first], lpu_users_write_each(users, n), n * sizeof(char *));
	pfree(array.data);
	MemoryContextSwitchTo(caller);
	return problems == NIL ? NULL : describe_row_problems(c, first, problems);
}

/* Write the request about some users, which are in order, and of one batch. */
static LpuProblem *
write_new_users(void *batch, const int *users, int n, LpuWriteRequest *write)
{
	LpuInsertState *c = batch;
	int			size = c->writer->options->batch_size;
	StringInfoData text;
	int			i;

	if (c->bodies[users[0]] == NULL)
	{
		LpuProblem *problem = check_rows(c, users[0] / size * size, n);

		if (problem != NULL)
			return problem;
	}
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
	write->secrets = c->secrets[users[0] / size];
	return NULL;
}

static LpuApiAnswer *
send_new_users(void *batch, const int *users, int n, LpuWriteRequest *write)
{
	LpuInsertState *c = batch;
	const LpuOptions *options = c->writer->options;
	LpuProblem *problem = write_new_users(batch, users, n, write);

	if (problem != NULL)
	{
		lpu_problem_detail(problem, "%s%s", problem->detail, lpu_writer_progress(c->writer));
		lpu_problem_raise(problem);
	}
	lpu_writer_lock(c->writer, LPU_REVISION_SHARED, options->timeout);
	c->answer = lpu_writer_send(c->writer, write);
	lpu_unlock_revision(options->account, LPU_REVISION_SHARED);
	return c->answer;
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
 * Create the users of all rows that wait, up to max_connections requests at a time. Raises if one
 * was not created, unless another client has just created it and it may be left out. Can be
 * cancelled.
 */
void
lpu_creation_flush(LpuInsertState *c)
{
	LpuWriteBatch methods = {.write = write_new_users,.send = send_new_users,
		.look = look_for_new_users,
	.there_is_done = c->skip_existing,.excuse = may_be_left_out};
	MemoryContext caller = MemoryContextSwitchTo(c->batch);
	int			n = c->n;

	c->n = 0;
	memset(c->bodies, 0, n * sizeof(char *));
	lpu_writer_carry_out(c->writer, &methods, c, n);
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

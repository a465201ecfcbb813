/*
 * insert.c: rows that are inserted into a foreign table, as users to be created.
 *
 * A row is converted to JSON at once. Each batch_size of them are checked (new_users.c) and sent as
 * one array, up to max_connections arrays at a time, while the next rows come. Null columns are
 * omitted, which means the same to the API. If a column shows the whole entity, the other columns
 * are laid over its value. Values that violate the API's documentation are refused before anything
 * of their array is sent. Existing logins are listed when they are needed: before the first row
 * that may be left out, and after the account has refused some.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "api/list_stream.h"
#include "base/encoding.h"
#include "base/error.h"
#include "remote/column_value.h"
#include "remote/insert.h"
#include "remote/new_users.h"
#include "remote/parallel_batch.h"
#include "remote/returning.h"
#include "user/datum_to_json.h"
#include "user/login.h"
#include "user/validate.h"

struct LpuInsertState
{
	LpuWriterState *writer;
	const LpuForeignTable *table;
	MemoryContext context;		/* of the statement */
	MemoryContext scratch;		/* of one row, or the check of one batch */
	bool		skip_existing;
	bool		distinct;		/* no two columns show one attribute */
	LpuLogins  *existing;		/* and of this statement; NULL: not asked yet */
	LpuReturnedUsers *answered; /* NULL: not needed yet */
	int64		taken;			/* rows of the statement so far */
	LpuParallel *parallel;
	LpuNewUsers *batches;		/* by their places */
	int			place;			/* of the rows that are collected, or -1 */
	TimestampTz since;			/* when the first of them came */
	LpuApiAnswer *answer;		/* the last one, of a row alone */
	int64		answered_id;	/* the id of its user, or 0 */
};

/*
 * Batches for each connection that the executor hands over at a time, if all must be sent before
 * AFTER STATEMENT triggers fire: the connections are busy nearly all of the time, and the rows do
 * not take much memory.
 */
#define ROUNDS 4
#define MAX_ROWS 10000

/*
 * If the rows of a batch take longer to come than a request, no request is left in flight
 * meanwhile: nothing would be gained, and its result would come later.
 */
#define SLOW_MS 1000

/* After so many rows the requests in flight are looked after. */
#define ROWS_PER_TURN 64
/* Each batch of 100 users is checked in less than this. */
#define SCRATCH_BLOCK (256 * 1024)

static const LpuWriteBatch *creation_methods(bool skip_existing);

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
 * Return how many rows the executor may hand over at a time, if all are sent at once: those of
 * several requests.
 */
int
lpu_creation_room(const LpuOptions *options)
{
	return Max(options->batch_size,
			   Min(options->batch_size * options->max_connections * ROUNDS, MAX_ROWS));
}

/* Return true if no two columns show the same attribute: the last one of them counts. */
static bool
are_attributes_distinct(const LpuForeignTable *table)
{
	int			i;

	for (i = 0; i < table->ncolumns; i++)
		if (table->columns[i].name != NULL &&
			lpu_table_column(table, table->columns[i].attribute) != i + 1)
			return false;
	return true;
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
	c->scratch = AllocSetContextCreate(CurrentMemoryContext, "lpusers row", SCRATCH_BLOCK,
									   SCRATCH_BLOCK, ALLOCSET_DEFAULT_MAXSIZE);
	c->skip_existing = skip_existing;
	c->distinct = are_attributes_distinct(c->table);
	c->parallel = lpu_parallel_new(writer, creation_methods(skip_existing), c);
	c->batches = palloc0((writer->options->max_connections + 1) * sizeof(LpuNewUsers));
	c->place = -1;
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

/* Raise that the value of a column cannot be sent, when no request is in flight any more. */
static void
refuse_value(LpuInsertState *c, const LpuColumn *column, const char *problem, TupleTableSlot *slot)
{
	lpu_parallel_finish(c->parallel);
	lpu_writer_raise_value(c->writer, column, problem, name_row(c, c->taken, login_of(c, slot)));
}

/* Append the row as one JSON object. */
static void
write_row(LpuInsertState *c, LpuNewUsers *batch, TupleTableSlot *slot)
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
			refuse_value(c, column, problem, slot);
	}
	appendStringInfoString(&out, out.len > 0 ? "}" : "{}");
	ground = ground_of(c, slot);
	batch->rewrite |= ground != NULL || !c->distinct;
	if (ground != NULL)
		appendStringInfoString(&batch->text, lpu_writer_lay(ground, out.data));
	else
		appendBinaryStringInfo(&batch->text, out.data, out.len);
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

/* Begin to collect the rows of another request. */
static void
begin_batch(LpuInsertState *c)
{
	MemoryContext caller = MemoryContextSwitchTo(c->context);

	c->place = lpu_parallel_place(c->parallel);
	c->since = GetCurrentTimestamp();
	lpu_new_users_begin(&c->batches[c->place], c->writer->options->batch_size);
	MemoryContextSwitchTo(caller);
}

/* Take a row into the request. */
static void
collect_row(LpuInsertState *c, TupleTableSlot *slot)
{
	LpuNewUsers *batch = &c->batches[c->place];

	Assert(batch->n < c->writer->options->batch_size);
	lpu_new_users_next(batch, c->taken);
	write_row(c, batch, slot);
	batch->n++;
}

/*
 * Add a row to those that wait. Return false if it is left out. Raises for a value that its
 * attribute does not take.
 */
bool
lpu_creation_add(LpuInsertState *c, TupleTableSlot *slot)
{
	MemoryContext caller = MemoryContextSwitchTo(c->scratch);
	bool		wanted;

	if (++c->taken % ROWS_PER_TURN == 0)
		lpu_parallel_turn(c->parallel);
	wanted = !exists_already(c, slot);
	if (wanted && c->place < 0)
		begin_batch(c);
	if (wanted)
		collect_row(c, slot);
	MemoryContextReset(c->scratch);
	MemoryContextSwitchTo(caller);
	return wanted;
}

/* Return true if as many rows wait as a request takes. */
bool
lpu_creation_is_full(const LpuInsertState *c)
{
	return c->place >= 0 && c->batches[c->place].n == c->writer->options->batch_size;
}

/* ----- sending ----- */

/* Return what is wrong with the users of a request. */
static LpuProblem *
describe_row_problems(const LpuInsertState *c, const LpuNewUsers *batch, List *problems)
{
	const LpuUserProblem *worst = linitial(problems);
	int			user = Max(worst->ordinal, 1) - 1;
	const char *text = worst->twin == 0 ? worst->text :
	psprintf("is the same as that of row " INT64_FORMAT, batch->rows[worst->twin - 1]);
	LpuProblem *problem = lpu_problem_new(ERRCODE_INVALID_PARAMETER_VALUE,
										  "invalid row for foreign table \"%s\"", c->table->name);

	lpu_problem_detail(problem, "%s: %s.",
					   name_row(c, batch->rows[user], batch->users[user].login_name),
					   lpu_writer_complaint(c->writer, worst->attribute, text));
	if (list_length(problems) > 1)
		lpu_problem_detail(problem, ngettext("%s %d more problem in this batch.",
											 "%s %d more problems in this batch.",
											 list_length(problems) - 1),
						   problem->detail, list_length(problems) - 1);
	return problem;
}

/* Check the rows of a request. Return what is wrong, or NULL. */
static LpuProblem *
check_batch(LpuInsertState *c, LpuNewUsers *batch)
{
	List	   *problems = lpu_new_users_check(batch, c->scratch,
											   c->writer->options->require_password);
	LpuProblem *problem = problems == NIL ? NULL : describe_row_problems(c, batch, problems);

	MemoryContextReset(c->scratch);
	return problem;
}

/* Write the request about some users, which are in order, and of one batch. */
static LpuProblem *
write_new_users(void *state, const int *users, int n, LpuWriteRequest *write)
{
	LpuInsertState *c = state;
	int			size = c->writer->options->batch_size;
	LpuNewUsers *batch = &c->batches[users[0] / size];
	LpuProblem *problem = batch->checked ? NULL : check_batch(c, batch);
	int		   *numbers = palloc(n * sizeof(int));
	int			i;

	if (problem != NULL)
		return problem;
	write->users = palloc(n * sizeof(LpuUserIdentity));
	for (i = 0; i < n; i++)
	{
		numbers[i] = users[i] % size;
		write->users[i] = batch->users[numbers[i]];
	}
	write->body = lpu_writer_utf8(lpu_new_users_array(batch, numbers, n), &write->body_length);
	write->nusers = n;
	write->secrets = batch->secrets;
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
	c->answered_id = write->users[0].id;
	lpu_unlock_revision(options->account, options->party, LPU_REVISION_SHARED);
	return c->answer;
}

static const char *
login_of_new_user(const LpuInsertState *c, int user)
{
	int			size = c->writer->options->batch_size;

	return c->batches[user / size].users[user % size].login_name;
}

static void
look_for_new_users(void *batch, const int *users, int n, bool *there)
{
	LpuInsertState *c = batch;
	LpuLogins  *existing = list_batch_logins(c->writer);
	int			i;

	for (i = 0; i < n; i++)
		there[i] = login_of_new_user(c, users[i]) != NULL &&
			lpu_logins_has(existing, login_of_new_user(c, users[i]));
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

static const LpuWriteBatch *
creation_methods(bool skip_existing)
{
	static const LpuWriteBatch methods[2] = {
		{.write = write_new_users,.send = send_new_users,.look = look_for_new_users,
		.excuse = may_be_left_out},
		{.write = write_new_users,.send = send_new_users,.look = look_for_new_users,
		.excuse = may_be_left_out,.there_is_done = true},
	};

	return &methods[skip_existing];
}

/*
 * Create the users of the rows that wait, not more than a request takes. Up to max_connections
 * requests remain in flight, unless the rows come slowly. Raises if a user of the statement was not
 * created, unless another client has just created it and it may be left out. Can be cancelled.
 */
void
lpu_creation_send(LpuInsertState *c)
{
	int			place = c->place;

	c->place = -1;
	lpu_parallel_send(c->parallel, place, c->batches[place].n);
	if (TimestampDifferenceExceeds(c->since, GetCurrentTimestamp(), SLOW_MS))
		lpu_parallel_finish(c->parallel);
}

/*
 * Create the users of the rows that wait, and wait until all of the statement are created. Raises
 * and waits as lpu_creation_send().
 */
void
lpu_creation_flush(LpuInsertState *c)
{
	int			place = c->place;

	c->place = -1;
	if (place >= 0 && lpu_parallel_is_busy(c->parallel))
		lpu_parallel_send(c->parallel, place, c->batches[place].n);
	else if (place >= 0)
		lpu_parallel_send_alone(c->parallel, place, c->batches[place].n);
	lpu_parallel_finish(c->parallel);
}

/* After a batch of one: complete its row from the response, with the id for example. */
void
lpu_creation_return(LpuInsertState *c, TupleTableSlot *slot)
{
	MemoryContext caller = MemoryContextSwitchTo(c->context);

	if (c->answered == NULL)
		c->answered = lpu_answered_new(c->table);
	MemoryContextSwitchTo(c->scratch);
	lpu_answered_complete(c->answered, c->answer, c->answered_id, slot);
	MemoryContextSwitchTo(caller);
	MemoryContextReset(c->scratch);
}

/*
 * creation.c: rows that are inserted into a foreign table, as users to be created.
 *
 * A row becomes JSON as soon as it is there, the batch is checked and sent as one array. Columns that are null are left
 * out: for the API that is the same. A column that shows the whole entity is the ground that the others are laid upon.
 * What the API documents as wrong is refused before anything of the batch is sent.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "convert.h"
#include "creation.h"
#include "listing.h"
#include "logins.h"
#include "problem.h"
#include "text.h"
#include "validate.h"
#include "value.h"

struct lpu_creation
{
	lpu_writer *writer;
	const lpu_table *table;
	MemoryContext context;		/* of the statement */
	MemoryContext batch;		/* of the rows since the last flush, and of their answer until the next row */
	lpu_logins *existing;		/* of ON CONFLICT DO NOTHING, or NULL */
	StringInfoData array;		/* the rows, "[{...},{...}" */
	int			n;
	char	  **bodies;			/* while it is sent: each user for the wire */
	lpu_user_identity *users;
	List	   *secrets;
	lpu_api_answer *answer;		/* the last one */
};

/* ------------------------------------------------------------------------------------------------------- existing */

static lpu_logins *
list_logins(const lpu_options *options)
{
	static const char *const names[] = {"loginName"};
	lpu_logins *logins = lpu_logins_new();
	MemoryContext row = AllocSetContextCreate(CurrentMemoryContext, "lpusers row", ALLOCSET_SMALL_SIZES);
	MemoryContext caller = CurrentMemoryContext;
	lpu_api_request request = {.method = LPU_LIST_USERS, .query = "&select=id,loginName"};
	lpu_listing *listing = lpu_listing_open(options, &request, "list users", names, 1, false);
	lpu_listing_state state;

	MemoryContextSwitchTo(row);
	while ((state = lpu_listing_next(listing)) == LPU_LISTING_ELEMENT)
	{
		const lpu_value *login = &lpu_listing_values(listing)[0];

		if (login->type == LPU_VALUE_STRING)
			lpu_logins_add(logins, lpu_text_from_utf8(login->text));
		MemoryContextReset(row);
	}
	MemoryContextSwitchTo(caller);
	if (state != LPU_LISTING_END)
		lpu_problem_raise(lpu_listing_problem(listing));
	lpu_listing_close(listing);
	MemoryContextDelete(row);
	return logins;
}

lpu_creation *
lpu_creation_new(lpu_writer *writer, const lpu_table *table, bool skip_existing)
{
	lpu_creation *c = palloc0(sizeof(lpu_creation));

	c->writer = writer;
	c->table = table;
	c->context = CurrentMemoryContext;
	c->batch = AllocSetContextCreate(CurrentMemoryContext, "lpusers batch", ALLOCSET_DEFAULT_SIZES);
	if (skip_existing)
		c->existing = list_logins(writer->options);
	return c;
}

/* ------------------------------------------------------------------------------------------------------- rows */

static Jsonb *
as_jsonb(const lpu_column *column, Datum value)
{
	Oid			type = getBaseType(column->type);

	if (type == JSONBOID)
		return DatumGetJsonbP(value);
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(lpu_datum_text(type, value))));
}

/* The row as one JSON object. */
static char *
write_row(const lpu_creation *c, TupleTableSlot *slot)
{
	StringInfoData out;
	Jsonb	   *ground = NULL;
	int			i;

	initStringInfo(&out);
	slot_getallattrs(slot);
	for (i = 0; i < c->table->ncolumns; i++)
	{
		const lpu_column *column = &c->table->columns[i];

		if (column->name == NULL || slot->tts_isnull[i])
			continue;
		if (column->whole)
		{
			ground = as_jsonb(column, slot->tts_values[i]);
			continue;
		}
		lpu_writer_put(c->writer, &out, column, slot->tts_values[i], false);
	}
	appendStringInfoString(&out, out.len > 0 ? "}" : "{}");
	return ground ? lpu_writer_lay(ground, out.data) : out.data;
}

/* Is the row's login to be left out? If not, it exists from now on. */
static bool
exists_already(lpu_creation *c, TupleTableSlot *slot)
{
	int			i;

	for (i = 0; c->existing != NULL && i < c->table->ncolumns; i++)
	{
		const lpu_column *column = &c->table->columns[i];
		bool		isnull;
		Datum		value;

		if (column->name == NULL || strcmp(column->attribute, "loginName") != 0)
			continue;
		value = slot_getattr(slot, i + 1, &isnull);
		return !isnull && !lpu_logins_add(c->existing, lpu_datum_text(getBaseType(column->type), value));
	}
	return false;
}

bool
lpu_creation_add(lpu_creation *c, TupleTableSlot *slot)
{
	MemoryContext caller;

	if (exists_already(c, slot))
		return false;
	caller = MemoryContextSwitchTo(c->batch);
	if (c->n == 0)
	{
		MemoryContextReset(c->batch);
		initStringInfo(&c->array);
	}
	appendStringInfoChar(&c->array, c->n > 0 ? ',' : '[');
	appendStringInfoString(&c->array, write_row(c, slot));
	c->n++;
	MemoryContextSwitchTo(caller);
	return true;
}

int
lpu_creation_pending(const lpu_creation *c)
{
	return c->n;
}

/* ------------------------------------------------------------------------------------------------------- sending */

static void
raise_invalid(const lpu_creation *c, List *problems)
{
	const lpu_user_problem *first = linitial(problems);
	const char *login = first->ordinal > 0 ? c->users[first->ordinal - 1].login_name : NULL;
	StringInfoData detail;

	initStringInfo(&detail);
	if (first->attribute != NULL)
		appendStringInfo(&detail, "\"%s\" ", first->attribute);
	appendStringInfo(&detail, "%s.", first->text);
	if (list_length(problems) > 1)
		appendStringInfo(&detail, " %d more problem(s) in this batch.", list_length(problems) - 1);
	appendStringInfoString(&detail, lpu_writer_progress(c->writer));
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 login ? errmsg("invalid user \"%s\"", lpu_text_excerpt(login, strlen(login), 254)) :
			 errmsg("invalid user"),
			 errdetail_internal("%s", detail.data),
			 errhidestmt(true)));
}

static lpu_api_answer *
send_range(void *batch, int from, int n, lpu_write *write)
{
	lpu_creation *c = batch;
	StringInfoData text;
	int			i;

	initStringInfo(&text);
	for (i = from; i < from + n; i++)
	{
		appendStringInfoChar(&text, i > from ? ',' : '[');
		appendStringInfoString(&text, c->bodies[i]);
	}
	appendStringInfoChar(&text, ']');
	write->body = lpu_writer_utf8(text.data, &write->body_length);
	write->users = c->users + from;
	write->nusers = n;
	write->secrets = c->secrets;
	return c->answer = lpu_writer_send(c->writer, write);
}

void
lpu_creation_flush(lpu_creation *c)
{
	MemoryContext caller = MemoryContextSwitchTo(c->batch);
	Jsonb	   *users;
	List	   *problems;
	int			n = c->n;

	if (n == 0)
	{
		MemoryContextSwitchTo(caller);
		return;
	}
	c->n = 0;
	appendStringInfoChar(&c->array, ']');
	users = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(c->array.data)));
	c->users = lpu_users_identify(users, &n);
	problems = lpu_users_check(users, LPU_USER_CREATE, c->writer->options->require_password);
	if (problems != NIL)
		raise_invalid(c, problems);
	c->secrets = lpu_users_secrets(users);
	c->bodies = lpu_users_write_each(users, n);
	lpu_writer_carry_out(c->writer, send_range, c, n);
	MemoryContextSwitchTo(caller);
}

/* ------------------------------------------------------------------------------------------------------- RETURNING */

/* What the answer says of the one user; false if it names none. */
static bool
read_answer(lpu_creation *c, Datum *values, bool *nulls)
{
	const char **names = palloc(Max(c->table->ncolumns, 1) * sizeof(char *));
	lpu_reader *reader;
	const lpu_value *found;
	int			i;

	for (i = 0; i < c->table->ncolumns; i++)
		names[i] = c->table->columns[i].name ? c->table->columns[i].attribute : "";
	reader = lpu_reader_new(names, c->table->ncolumns, true);
	lpu_reader_feed(reader, c->answer->body, c->answer->body_length);
	lpu_reader_end(reader);
	if (lpu_reader_next(reader) != LPU_READER_ELEMENT)
		return false;
	found = lpu_reader_values(reader);
	for (i = 0; i < c->table->ncolumns; i++)
	{
		const lpu_column *column = &c->table->columns[i];

		if (column->name == NULL || column->secret || !nulls[i])
			continue;
		nulls[i] = lpu_convert(lpu_converter_new(column->kind, column->type, column->typmod),
							   column->whole ? lpu_reader_whole(reader) : &found[i], &values[i]);
	}
	return true;
}

void
lpu_creation_return(lpu_creation *c, TupleTableSlot *slot)
{
	TupleDesc	desc = slot->tts_tupleDescriptor;
	Datum	   *values = palloc(desc->natts * sizeof(Datum));
	bool	   *nulls = palloc(desc->natts * sizeof(bool));
	int			id = c->table->id_column - 1;

	slot_getallattrs(slot);
	memcpy(values, slot->tts_values, desc->natts * sizeof(Datum));
	memcpy(nulls, slot->tts_isnull, desc->natts * sizeof(bool));
	if (!read_answer(c, values, nulls) && id >= 0 && c->users[0].id != 0 && c->table->columns[id].type == INT8OID)
	{
		values[id] = Int64GetDatum(c->users[0].id);
		nulls[id] = false;
	}
	ExecForceStoreHeapTuple(heap_form_tuple(desc, values, nulls), slot, true);
}

/*
 * change.c: rows of a foreign table that are updated: read, merged, put back.
 *
 * An update of the API replaces the whole user, so each is read again, the changed attributes are laid over it, and the
 * whole is put back on condition (If-Match) that the account has not changed meanwhile. Its revision is one number for all
 * users: when somebody else's change got in between, the users are read once more, and unless one of these was changed the
 * update is tried again. What counts as changed is what the statement has seen: the columns of the table as it read them.
 * Attributes that the API answers blank must be set, or they would be wiped out.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "common/pg_prng.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/typcache.h"

#include "change.h"
#include "fetch.h"
#include "problem.h"
#include "sockets.h"
#include "text.h"
#include "user.h"
#include "validate.h"

/* How often a batch is tried while others keep changing the account. */
#define MAX_TRIES 5

/* Between two tries, on average: others are not to meet us again. */
#define PAUSE_MS 50

/* One user. */
typedef struct changed_row
{
	int64		id;
	HeapTuple	before;			/* the row as the statement read it */
	Bitmapset  *columns;		/* that are set, by the statement or by a trigger; numbers less one */
	char	   *members;		/* attributes that are set, as a JSON object */
	bool		found;			/* read in this try */
	char	   *merged;			/* ... and with the members, for the wire */
} changed_row;

struct lpu_change
{
	lpu_writer *writer;
	const lpu_table *table;
	TupleDesc	desc;
	const Bitmapset *columns;	/* that the statement sets */
	bool		by_trigger;		/* triggers may set others */
	lpu_fetch_plan plan;
	lpu_fetch  *fetch;
	MemoryContext batch;		/* of the rows since the last flush */
	MemoryContext try;			/* of one try to send some of them */
	changed_row *rows;
	int			n;
	int			room;
};

/* ------------------------------------------------------------------------------------------------------- rows */

/* Columns whose values tell whether somebody has changed the user: not those that change by themselves. */
static bool
tells_change(const lpu_column *column)
{
	return column->name != NULL && !column->whole && !column->secret &&
		strcmp(column->attribute, "dateUpdated") != 0;
}

lpu_change *
lpu_change_new(lpu_writer *writer, const lpu_table *table, TupleDesc desc, const Bitmapset *columns, bool by_trigger)
{
	lpu_change *c = palloc0(sizeof(lpu_change));
	int			i;

	c->writer = writer;
	c->table = table;
	c->desc = desc;
	c->columns = columns;
	c->by_trigger = by_trigger;
	for (i = 0; i < table->ncolumns; i++)
		if (tells_change(&table->columns[i]))
			c->plan.columns = bms_add_member(c->plan.columns, i);
	c->plan.columns = bms_add_member(c->plan.columns, table->id_column - 1);
	c->plan.by_id = true;
	c->plan.entity = true;
	c->fetch = lpu_fetch_new(table, writer->options, &c->plan);
	c->room = writer->options->batch_size;
	c->rows = palloc(c->room * sizeof(changed_row));
	c->batch = AllocSetContextCreate(CurrentMemoryContext, "lpusers batch", ALLOCSET_DEFAULT_SIZES);
	c->try = AllocSetContextCreate(CurrentMemoryContext, "lpusers try", ALLOCSET_DEFAULT_SIZES);
	return c;
}

static bool
differs(const lpu_change *c, HeapTuple before, int i, Datum value, bool isnull)
{
	Form_pg_attribute attribute = TupleDescAttr(c->desc, i);
	bool		was_null;
	Datum		was = heap_getattr(before, i + 1, c->desc, &was_null);

	return isnull != was_null ||
		(!isnull && !datum_image_eq(was, value, attribute->attbyval, attribute->attlen));
}

/* Which columns are set for this row? */
static Bitmapset *
set_columns(const lpu_change *c, HeapTuple before, TupleTableSlot *after)
{
	Bitmapset  *columns = bms_copy(c->columns);
	int			i;

	slot_getallattrs(after);
	for (i = 0; c->by_trigger && i < c->table->ncolumns; i++)
		if (tells_change(&c->table->columns[i]) && differs(c, before, i, after->tts_values[i], after->tts_isnull[i]))
			columns = bms_add_member(columns, i);
	return columns;
}

/* What is set, as a JSON object; null takes an attribute away. */
static char *
write_members(const lpu_change *c, const Bitmapset *columns, TupleTableSlot *after)
{
	StringInfoData out;
	int			i = -1;

	initStringInfo(&out);
	while ((i = bms_next_member(columns, i)) >= 0)
	{
		bool		isnull;
		Datum		value = slot_getattr(after, i + 1, &isnull);

		lpu_writer_put(c->writer, &out, &c->table->columns[i], value, isnull);
	}
	appendStringInfoString(&out, out.len > 0 ? "}" : "{}");
	return out.data;
}

void
lpu_change_add(lpu_change *c, int64 id, Datum before, TupleTableSlot *after)
{
	MemoryContext caller = MemoryContextSwitchTo(c->batch);
	changed_row *row = &c->rows[c->n];
	HeapTupleHeader header = DatumGetHeapTupleHeader(before);
	HeapTupleData tuple;

	Assert(c->n < c->room);
	memset(row, 0, sizeof(changed_row));
	tuple.t_len = HeapTupleHeaderGetDatumLength(header);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuple.t_data = header;
	row->id = id;
	row->before = heap_copytuple(&tuple);
	row->columns = set_columns(c, row->before, after);
	row->members = write_members(c, row->columns, after);
	c->n++;
	MemoryContextSwitchTo(caller);
}

int
lpu_change_pending(const lpu_change *c)
{
	return c->n;
}

/* ------------------------------------------------------------------------------------------------------- conflicts */

static void
raise_conflict(const lpu_change *c, int64 id, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not update user " INT64_FORMAT " of account \"%s\": it was changed meanwhile", id,
					c->writer->options->account),
			 errdetail_internal("%s%s", detail, lpu_writer_progress(c->writer)),
			 errhint("Repeat the statement.")));
}

/* Is the user as the statement has seen it? */
static void
check_unchanged(const lpu_change *c, const changed_row *row, const Datum *values, const bool *nulls)
{
	int			i;

	for (i = 0; i < c->table->ncolumns; i++)
		if (tells_change(&c->table->columns[i]) && differs(c, row->before, i, values[i], nulls[i]))
			raise_conflict(c, row->id, psprintf("Attribute \"%s\" is not what the statement has read.",
												c->table->columns[i].attribute));
}

/* ------------------------------------------------------------------------------------------------------- merging */

/* The statement that sets what must be set too, for the HINT. */
static char *
hint_statement(const lpu_change *c, const char *hidden)
{
	StringInfoData text;
	int			i = -1;

	initStringInfo(&text);
	appendStringInfo(&text, "UPDATE %s u SET ", c->table->qualified_name);
	while ((i = bms_next_member(c->columns, i)) >= 0)
		appendStringInfo(&text, "%s = ..., ", quote_identifier(c->table->columns[i].name));
	appendStringInfo(&text, "%s FROM your_table e WHERE u.login_name = e.email", hidden);
	return text.data;
}

static bool
is_set(const lpu_change *c, const changed_row *row, const char *attribute)
{
	int			i = -1;

	while ((i = bms_next_member(row->columns, i)) >= 0)
		if (strcmp(c->table->columns[i].attribute, attribute) == 0)
			return true;
	return false;
}

/* The column that shows an attribute, or what its name would be. */
static const char *
column_of(const lpu_table *table, const char *attribute)
{
	int			i;

	for (i = 0; i < table->ncolumns; i++)
		if (table->columns[i].name != NULL && strcmp(table->columns[i].attribute, attribute) == 0)
			return quote_identifier(table->columns[i].name);
	return attribute;
}

/* An attribute that is answered blank would be put back blank. */
static void
check_hidden(const lpu_change *c, const changed_row *row, Jsonb *entity)
{
	StringInfoData names;
	StringInfoData sets;
	int			i;

	initStringInfo(&names);
	initStringInfo(&sets);
	for (i = 0; i < lpu_nattributes; i++)
	{
		const lpu_attribute *attribute = &lpu_attributes[i];
		JsonbValue	value;

		if ((attribute->rules & LPU_HIDDEN) == 0 || is_set(c, row, attribute->name) ||
			lpu_jsonb_get_member(&entity->root, attribute->name, &value) == NULL || !lpu_string_equals(&value, ""))
			continue;
		appendStringInfo(&names, "%s\"%s\"", names.len > 0 ? " and " : "", attribute->name);
		appendStringInfo(&sets, "%s%s = e.%s", sets.len > 0 ? ", " : "", column_of(c->table, attribute->name),
						 column_of(c->table, attribute->name));
	}
	if (names.len > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot update user " INT64_FORMAT ": it would lose %s", row->id, names.data),
				 errdetail_internal("The API replaces the whole user, and does not show what it has there.%s",
									lpu_writer_progress(c->writer)),
				 errhint("Set it from your own data: %s", hint_statement(c, sets.data))));
}

static Jsonb *
take_away(Jsonb *entity, const char *name)
{
	return DatumGetJsonbP(DirectFunctionCall2(jsonb_delete, JsonbPGetDatum(entity), CStringGetTextDatum(name)));
}

/*
 * Members that are null leave the entity, and so does what the service itself makes of isEnabled, but only if it is not
 * told.
 */
static Jsonb *
take_away_nulls(const lpu_change *c, const changed_row *row, Jsonb *merged)
{
	int			i = -1;

	if (is_set(c, row, "isEnabled") && !is_set(c, row, "disabledManually"))
		merged = take_away(merged, "disabledManually");

	while ((i = bms_next_member(row->columns, i)) >= 0)
	{
		const char *name = c->table->columns[i].attribute;
		JsonbValue	value;

		if (lpu_jsonb_get_member(&merged->root, name, &value) != NULL && value.type == jbvNull)
			merged = take_away(merged, name);
	}
	return merged;
}

static char *
merge(const lpu_change *c, const changed_row *row)
{
	size_t		length;
	const char *utf8 = lpu_fetch_entity(c->fetch, &length);
	char	   *text = pg_any_to_server(utf8, (int) length, PG_UTF8);
	Jsonb	   *entity = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
	Jsonb	   *merged;
	char	   *laid;

	check_hidden(c, row, entity);
	laid = lpu_writer_lay(entity, row->members);
	merged = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(laid)));
	merged = take_away_nulls(c, row, merged);
	return JsonbToCString(NULL, &merged->root, VARSIZE(merged));
}

static changed_row *
find_row(lpu_change *c, int from, int n, int64 id)
{
	int			i;

	for (i = from; i < from + n; i++)
		if (c->rows[i].id == id)
			return &c->rows[i];
	return NULL;
}

/* Read the users of a range and merge what is set into each. Returns the revision at which they were read. */
static int64
read_and_merge(lpu_change *c, int from, int n)
{
	int64	   *ids = palloc(n * sizeof(int64));
	Datum	   *values = palloc(c->table->ncolumns * sizeof(Datum));
	bool	   *nulls = palloc(c->table->ncolumns * sizeof(bool));
	int64		revision;
	int			i;

	for (i = 0; i < n; i++)
	{
		ids[i] = c->rows[from + i].id;
		c->rows[from + i].found = false;
	}
	lpu_fetch_ids(c->fetch, ids, n);
	while (lpu_fetch_next(c->fetch, values, nulls))
	{
		changed_row *row = nulls[c->table->id_column - 1] ? NULL :
			find_row(c, from, n, DatumGetInt64(values[c->table->id_column - 1]));

		if (row == NULL)
			continue;
		check_unchanged(c, row, values, nulls);
		row->merged = merge(c, row);
		row->found = true;
	}
	revision = lpu_fetch_revision(c->fetch);
	lpu_fetch_stop(c->fetch);
	for (i = 0; i < n; i++)
		if (!c->rows[from + i].found)
			raise_conflict(c, c->rows[from + i].id, "It was deleted.");
	return revision;
}

/* ------------------------------------------------------------------------------------------------------- sending */

static void
raise_invalid(const lpu_change *c, int from, List *problems)
{
	const lpu_user_problem *first = linitial(problems);

	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid update of user " INT64_FORMAT, c->rows[from + Max(first->ordinal, 1) - 1].id),
			 errdetail_internal("\"%s\" %s.%s", first->attribute ? first->attribute : "", first->text,
								lpu_writer_progress(c->writer)),
			 errhidestmt(true)));
}

/* The merged users as one array. */
static void
write_body(lpu_change *c, int from, int n, lpu_write *write)
{
	StringInfoData text;
	Jsonb	   *users;
	List	   *problems;
	int			i;

	initStringInfo(&text);
	for (i = from; i < from + n; i++)
	{
		appendStringInfoChar(&text, i > from ? ',' : '[');
		appendStringInfoString(&text, c->rows[i].merged);
	}
	appendStringInfoChar(&text, ']');
	users = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text.data)));
	problems = lpu_users_check(users, LPU_USER_UPDATE, c->writer->options->require_password);
	if (problems != NIL)
		raise_invalid(c, from, problems);
	write->users = lpu_users_identify(users, &write->nusers);
	write->secrets = lpu_users_secrets(users);
	resetStringInfo(&text);
	lpu_users_write(&text, users);
	write->body = lpu_writer_utf8(text.data, &write->body_length);
}

/* Was it refused because the account is at another revision? 409 can also mean something about a user. */
static bool
is_stale(lpu_change *c, const lpu_api_answer *answer, int from, int n, int64 sent_at)
{
	if (answer->verdict != LPU_REJECTED || sent_at < 0)
		return false;
	return answer->status == 412 || (answer->status == 409 && read_and_merge(c, from, n) != sent_at);
}

static lpu_api_answer *
send_range(void *batch, int from, int n, lpu_write *write)
{
	lpu_change *c = batch;
	int			tries;

	for (tries = 1;; tries++)
	{
		lpu_api_answer *answer;

		MemoryContextReset(c->try);
		MemoryContextSwitchTo(c->try);
		write->if_match = read_and_merge(c, from, n);
		write_body(c, from, n, write);
		answer = lpu_writer_send(c->writer, write);
		if (!is_stale(c, answer, from, n, write->if_match))
			return answer;
		if (tries == MAX_TRIES)
			raise_conflict(c, c->rows[from].id,
						   psprintf("Others have changed the account at each of %d tries.", MAX_TRIES));
		lpu_pause((long) (2 * PAUSE_MS * pg_prng_double(&pg_global_prng_state)) + 1);
	}
}

void
lpu_change_flush(lpu_change *c)
{
	MemoryContext caller = CurrentMemoryContext;
	int			n = c->n;

	c->n = 0;
	lpu_writer_carry_out(c->writer, send_range, c, n);
	MemoryContextSwitchTo(caller);
	MemoryContextReset(c->batch);
}

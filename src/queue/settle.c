/*
 * settle.c: writing down what became of rows of the queue.
 *
 * The many that the service says it has created are written down one by one, without a plan (row_update.c). What became of
 * all others is a matter of rules: it is collected column by column, as the arrays that lp_settle() takes, and one
 * statement settles it.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/extension.h"
#include "base/spi_plan.h"
#include "queue/row_update.h"
#include "queue/settle.h"

/* The columns of lp_settle()'s arrays. */
#define NCOLUMNS 9

static const Oid column_types[NCOLUMNS] = {INT8OID, TEXTOID, INT4OID, INT8OID, INT8OID, TEXTOID, TEXTOID, INT8OID, INT8OID};

struct lpu_settlement
{
	MemoryContext context;
	int			n;
	int			room;
	bool		answered;		/* known from an answer, not from a look-up */
	int64		batch;			/* number of the batch that is added to; 0: the rows keep theirs */
	List	   *created;		/* created_row */
	Datum	   *values[NCOLUMNS];
	bool	   *nulls[NCOLUMNS];
};

/* A row that the service has created, as its answer says. */
typedef struct created_row
{
	const lpu_row *row;
	int64		batch;
} created_row;

lpu_settlement *
lpu_settlement_new(bool answered)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "lpusers settlement", ALLOCSET_DEFAULT_SIZES);
	lpu_settlement *s = MemoryContextAllocZero(context, sizeof(lpu_settlement));

	s->context = context;
	s->answered = answered;
	return s;
}

void
lpu_settlement_next_batch(lpu_settlement *s, Oid schema)
{
	s->batch = nextval_internal(get_relname_relid("lp_batch_seq", schema), false);
}

static void
make_room(lpu_settlement *s)
{
	int			i;

	s->room = Max(s->room * 2, 128);
	for (i = 0; i < NCOLUMNS; i++)
	{
		s->values[i] = s->values[i] ? repalloc_huge(s->values[i], s->room * sizeof(Datum)) :
			palloc(s->room * sizeof(Datum));
		s->nulls[i] = s->nulls[i] ? repalloc_huge(s->nulls[i], s->room * sizeof(bool)) :
			palloc(s->room * sizeof(bool));
	}
}

static void
put(lpu_settlement *s, int column, Datum value, bool isnull)
{
	s->values[column][s->n] = value;
	s->nulls[column][s->n] = isnull;
}

static void
put_text(lpu_settlement *s, int column, const char *text)
{
	put(s, column, text ? CStringGetTextDatum(text) : (Datum) 0, text == NULL);
}

void
lpu_settlement_add(lpu_settlement *s, const lpu_row *row)
{
	MemoryContext caller = MemoryContextSwitchTo(s->context);

	if (s->answered && row->state == LPU_STATE_CREATED)
	{
		created_row *created = palloc(sizeof(created_row));

		created->row = row;
		created->batch = s->batch;
		s->created = lappend(s->created, created);
		MemoryContextSwitchTo(caller);
		return;
	}
	if (s->n == s->room)
		make_room(s);
	put(s, 0, Int64GetDatum(row->id), false);
	put_text(s, 1, row->state == LPU_STATE_UNSENT ? "unsent" : lpu_state_name(row->state));
	put(s, 2, Int32GetDatum(row->status), row->status == 0);
	put(s, 3, Int64GetDatum(row->revision), !row->has_revision);
	put(s, 4, Int64GetDatum(row->user_id), row->user_id == 0);
	put_text(s, 5, row->error);
	put_text(s, 6, row->reason);
	put(s, 7, Int64GetDatum(row->wait_ms), false);
	put(s, 8, Int64GetDatum(s->batch), s->batch == 0);
	s->n++;
	MemoryContextSwitchTo(caller);
}

static Datum
array_of(const lpu_settlement *s, int column)
{
	int16		length;
	bool		byval;
	char		align;
	int			dims[1] = {s->n};
	int			lower[1] = {1};

	get_typlenbyvalalign(column_types[column], &length, &byval, &align);
	return PointerGetDatum(construct_md_array(s->values[column], s->nulls[column], 1, dims, lower,
											  column_types[column], length, byval, align));
}

static void
set_created(lpu_stored *stored, const created_row *created, TimestampTz now)
{
	const lpu_row *row = created->row;

	lpu_stored_set_text(stored, LPU_COL_STATE, "created");
	lpu_stored_set(stored, LPU_COL_STATUS, Int32GetDatum(row->status));
	if (row->has_revision)
		lpu_stored_set(stored, LPU_COL_AC_REVISION, Int64GetDatum(row->revision));
	if (row->user_id != 0)
		lpu_stored_set(stored, LPU_COL_USER_ID, Int64GetDatum(row->user_id));
	lpu_stored_set(stored, LPU_COL_BATCH, Int64GetDatum(created->batch));
	lpu_stored_set_text(stored, LPU_COL_EVIDENCE, "answer");
	lpu_stored_set(stored, LPU_COL_FINISHED_AT, TimestampTzGetDatum(now));
	lpu_stored_set_null(stored, LPU_COL_ERROR);
	lpu_stored_set_null(stored, LPU_COL_REASON);
	lpu_stored_set_null(stored, LPU_COL_HELD_AT);
	lpu_stored_set_null(stored, LPU_COL_NEXT_ATTEMPT_AT);
}

/* Is the row at work one that may have been sent? */
static bool
is_in_flight(const lpu_stored *stored)
{
	const char *state = lpu_stored_text(stored, LPU_COL_STATE);

	return strcmp(state, "sending") == 0 || strcmp(state, "uncertain") == 0;
}

/* The payload leaves with it, or stays for the look-up of a row that a trigger did not let be written. */
static void
write_created_row(lpu_stored *stored, const created_row *created, TimestampTz now)
{
	lpu_stored_result result = LPU_STORED_CHANGED;
	const ItemPointerData *place = &created->row->place;

	/* again, if somebody has changed it while we waited */
	while (result == LPU_STORED_CHANGED)
	{
		CHECK_FOR_INTERRUPTS();
		if (!lpu_stored_find(stored, created->row->id, place) || !is_in_flight(stored))
			break;
		set_created(stored, created, now);
		result = lpu_stored_update(stored, true);
		place = NULL;
	}
	if (result != LPU_STORED_REFUSED)
		lpu_stored_drop_payload(stored, created->row->id, &created->row->payload_place);
}

static void
write_created(const lpu_settlement *s, Oid schema)
{
	MemoryContext scratch = AllocSetContextCreate(s->context, "lpusers created", ALLOCSET_DEFAULT_SIZES);
	lpu_identity before;
	lpu_stored *stored;
	TimestampTz now = GetCurrentTimestamp();
	ListCell   *cell;

	if (s->created == NIL)
		return;
	lpu_become_owner(schema, &before);
	stored = lpu_stored_open(schema);
	MemoryContextSwitchTo(scratch);
	foreach(cell, s->created)
	{
		write_created_row(stored, lfirst(cell), now);
		MemoryContextReset(scratch);
	}
	MemoryContextSwitchTo(s->context);
	lpu_stored_close(stored);
	lpu_become_again(&before);
}

void
lpu_settlement_write(lpu_settlement *s, Oid schema)
{
	Oid			types[NCOLUMNS + 1] = {INT8ARRAYOID, TEXTARRAYOID, INT4ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, TEXTARRAYOID,
	TEXTARRAYOID, INT8ARRAYOID, INT8ARRAYOID, TEXTOID};
	Datum		values[NCOLUMNS + 1];
	MemoryContext caller = MemoryContextSwitchTo(s->context);
	int			i;

	write_created(s, schema);
	if (s->n > 0)
	{
		for (i = 0; i < NCOLUMNS; i++)
			values[i] = array_of(s, i);
		values[NCOLUMNS] = CStringGetTextDatum(s->answered ? "answer" : "lookup");
		lpu_run("SELECT @extschema@.lp_settle($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)", NCOLUMNS + 1, types, values);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(s->context);
}

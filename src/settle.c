/*
 * settle.c: writing down what became of rows of the queue.
 *
 * Results are collected column by column, as the arrays that lp_settle() takes: one statement settles a batch.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "settle.h"

void
lpu_run(const char *sql, int nargs, Oid *types, Datum *values)
{
	MemoryContext caller = CurrentMemoryContext;
	int			result = SPI_execute_with_args(sql, nargs, types, values, NULL, false, 0);

	/* SPI leaves its own context current */
	MemoryContextSwitchTo(caller);
	if (result < 0)
		elog(ERROR, "could not run a statement of the queue: %s", SPI_result_code_string(result));
}

char *
lpu_text_column(int row, int column)
{
	return SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);
}

int64
lpu_int64_column(int row, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull);

	return isnull ? 0 : DatumGetInt64(value);
}

int
lpu_int_column(int row, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull);

	return isnull ? 0 : DatumGetInt32(value);
}

bool
lpu_bool_column(int row, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull);

	return !isnull && DatumGetBool(value);
}

/* The columns of lp_settle()'s arrays. */
struct lpu_settlement
{
	int			n;
	Datum	   *values[8];
	bool	   *nulls[8];
};

static const Oid settle_types[8] = {INT8OID, TEXTOID, INT4OID, INT8OID, INT8OID, TEXTOID, TEXTOID, INT8OID};

lpu_settlement *
lpu_settlement_new(int room)
{
	lpu_settlement *s = palloc0(sizeof(lpu_settlement));
	int			i;

	for (i = 0; i < lengthof(s->values); i++)
	{
		s->values[i] = palloc0(Max(room, 1) * sizeof(Datum));
		s->nulls[i] = palloc0(Max(room, 1) * sizeof(bool));
	}
	return s;
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
	put(s, 0, Int64GetDatum(row->id), false);
	put_text(s, 1, row->state);
	put(s, 2, Int32GetDatum(row->status), row->status == 0);
	put(s, 3, Int64GetDatum(row->revision), !row->has_revision);
	put(s, 4, Int64GetDatum(row->user_id), row->user_id == 0);
	put_text(s, 5, row->error);
	put_text(s, 6, row->reason);
	put(s, 7, Int64GetDatum(row->wait_ms), false);
	s->n++;
}

static Datum
array_of(const lpu_settlement *s, int column)
{
	int16		length;
	bool		byval;
	char		align;
	int			dims[1] = {s->n};
	int			lower[1] = {1};

	get_typlenbyvalalign(settle_types[column], &length, &byval, &align);
	return PointerGetDatum(construct_md_array(s->values[column], s->nulls[column], 1, dims, lower,
											  settle_types[column], length, byval, align));
}

/* In a transaction: write down the results. */
void
lpu_settlement_write(const lpu_settlement *s, const char *schema, bool answered)
{
	Oid			types[9] = {INT8ARRAYOID, TEXTARRAYOID, INT4ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, TEXTARRAYOID,
	TEXTARRAYOID, INT8ARRAYOID, TEXTOID};
	Datum		values[9];
	int			i;

	if (s->n == 0)
		return;
	for (i = 0; i < 8; i++)
		values[i] = array_of(s, i);
	values[8] = CStringGetTextDatum(answered ? "answer" : "lookup");
	/* a look-up leaves the number of the request that the rows went in */
	lpu_run(answered ?
			psprintf("SELECT %s.lp_settle($1, $2, $3, $4, $5, $6, $7, $8, pg_catalog.nextval(%s), $9)", schema,
					 quote_literal_cstr(psprintf("%s.lp_batch_seq", schema))) :
			psprintf("SELECT %s.lp_settle($1, $2, $3, $4, $5, $6, $7, $8, NULL, $9)", schema),
			9, types, values);
}

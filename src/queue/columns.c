/*
 * columns.c: rows collected column by column, as array parameters of a statement.
 *
 * One statement writes many rows: it takes an array for each column and joins them with unnest().
 */
#include "postgres.h"

#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "queue/columns.h"

struct LpuColumns
{
	MemoryContext context;
	const Oid  *types;
	int			ncolumns;
	int			n;
	int			capacity;
	Datum	  **values;
	bool	  **nulls;
};

/* Return an empty set; the set and its values are allocated in the current memory context. */
LpuColumns *
lpu_columns_new(const Oid *types, int ncolumns)
{
	LpuColumns *columns = palloc0(sizeof(LpuColumns));

	columns->context = CurrentMemoryContext;
	columns->types = types;
	columns->ncolumns = ncolumns;
	columns->values = palloc0(ncolumns * sizeof(Datum *));
	columns->nulls = palloc0(ncolumns * sizeof(bool *));
	return columns;
}

static void *
enlarge(MemoryContext context, void *old, Size size)
{
	return old ? repalloc_huge(old, size) : MemoryContextAllocHuge(context, size);
}

/* Begin a row of nulls. */
void
lpu_columns_next(LpuColumns *c)
{
	int			i;

	if (c->n == c->capacity)
	{
		c->capacity = Max(c->capacity * 2, 16);
		for (i = 0; i < c->ncolumns; i++)
		{
			c->values[i] = enlarge(c->context, c->values[i], c->capacity * sizeof(Datum));
			c->nulls[i] = enlarge(c->context, c->nulls[i], c->capacity * sizeof(bool));
		}
	}
	for (i = 0; i < c->ncolumns; i++)
	{
		c->values[i][c->n] = (Datum) 0;
		c->nulls[i][c->n] = true;
	}
	c->n++;
}

/* Set a value, which is not copied. */
void
lpu_columns_set(LpuColumns *c, int column, Datum value)
{
	c->values[column][c->n - 1] = value;
	c->nulls[column][c->n - 1] = false;
}

/* Set a text, copied into the set's memory context; NULL leaves the value null. */
void
lpu_columns_set_text(LpuColumns *c, int column, const char *text)
{
	MemoryContext caller;

	if (text == NULL)
		return;
	caller = MemoryContextSwitchTo(c->context);
	lpu_columns_set(c, column, CStringGetTextDatum(text));
	MemoryContextSwitchTo(caller);
}

/* Replace a value of row i by a text, copied into the set's memory context. */
void
lpu_columns_replace_text(LpuColumns *c, int column, int row, const char *text)
{
	MemoryContext caller = MemoryContextSwitchTo(c->context);

	c->values[column][row] = CStringGetTextDatum(text);
	c->nulls[column][row] = false;
	MemoryContextSwitchTo(caller);
}

/* Return the number of rows. */
int
lpu_columns_count(const LpuColumns *c)
{
	return c->n;
}

/* Return a value without checking its null flag. */
Datum
lpu_columns_get(const LpuColumns *c, int column, int row)
{
	return c->values[column][row];
}

/* Return true if a value is null. */
bool
lpu_columns_is_null(const LpuColumns *c, int column, int row)
{
	return c->nulls[column][row];
}

/* Make a value null. */
void
lpu_columns_clear(LpuColumns *c, int column, int row)
{
	c->values[column][row] = (Datum) 0;
	c->nulls[column][row] = true;
}

/* Return the OID of the array type of a column. */
Oid
lpu_columns_type(const LpuColumns *c, int column)
{
	return get_array_type(c->types[column]);
}

/* Return a column as an array in the current memory context. */
Datum
lpu_columns_array(const LpuColumns *c, int column)
{
	int16		length;
	bool		byval;
	char		align;
	int			dims[1] = {c->n};
	int			lower[1] = {1};

	get_typlenbyvalalign(c->types[column], &length, &byval, &align);
	return PointerGetDatum(construct_md_array(c->values[column], c->nulls[column], 1, dims, lower,
											  c->types[column], length, byval, align));
}

/* Append a row of "from", which may be freed afterwards. */
void
lpu_columns_copy_row(LpuColumns *c, const LpuColumns *from, int row)
{
	MemoryContext caller = MemoryContextSwitchTo(c->context);
	int			i;

	lpu_columns_next(c);
	for (i = 0; i < c->ncolumns; i++)
		if (!from->nulls[i][row])
			lpu_columns_set(c, i, datumCopy(from->values[i][row], get_typbyval(c->types[i]),
											get_typlen(c->types[i])));
	MemoryContextSwitchTo(caller);
}

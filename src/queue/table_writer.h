/*
 * table_writer.h: one of the extension's tables, open for writing.
 */
#ifndef LPU_QUEUE_TABLE_WRITER_H
#define LPU_QUEUE_TABLE_WRITER_H

#include "access/attnum.h"
#include "nodes/execnodes.h"

/* The most columns of an index that is not left to the executor. */
#define LPU_INDEX_COLUMNS 2

/* A row's entry in an index. */
typedef struct lpu_entry
{
	bool		in;				/* does the index hold the row? */
	bool		nulls[LPU_INDEX_COLUMNS];
	Datum		values[LPU_INDEX_COLUMNS];
} lpu_entry;

typedef struct lpu_table
{
	Relation	relation;
	EState	   *estate;
	ResultRelInfo *target;
	int			natts;
	AttrNumber *numbers;		/* of the columns that the caller named */
	int			ncolumns;
	struct lpu_index *indexes;
	int			nindexes;
	bool		by_executor;	/* an index asks for more than we know */
	bool		own_checks;		/* nobody has added a CHECK constraint */
} lpu_table;

/*
 * Open a table; "columns" are those the caller will speak of, "known" the indexes whose entries it makes itself: both
 * NULL-terminated. Close it in the same transaction. In the current memory context.
 */
extern lpu_table *lpu_table_open(Oid schema, const char *name, const char *const *columns, const char *const *known);
extern void lpu_table_close(lpu_table *table);

/* Check a row, which has nulls where "nulls" says (in the table's order), against the table's constraints. */
extern void lpu_table_check(lpu_table *table, TupleTableSlot *slot, const bool *nulls);

/*
 * Work out the entries of a row with these values (in the table's order): one for each index, into entries[]. keys[] are
 * those of the known indexes, in their order. What is not passed by value is not copied.
 */
extern void lpu_table_entries(const lpu_table *table, const Datum *values, const bool *nulls, const lpu_entry *keys,
							  lpu_entry *entries);

/* Put them into the indexes for the row in the slot, which is in the table. Returns the constraints to check again. */
extern List *lpu_table_index(lpu_table *table, TupleTableSlot *slot, const lpu_entry *entries, bool update);

#endif

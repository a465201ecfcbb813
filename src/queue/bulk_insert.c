/*
 * bulk_insert.c: appending many rows to one of the extension's tables.
 *
 * The way COPY does it: pages are filled by the table access method a batch at a time, then the index entries are made.
 * An INSERT through SPI costs several times as much, and the HR department's load waits for it. Constraints are not
 * checked again: only this extension writes here. Runs with the rights of whoever it is called as.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "queue/bulk_insert.h"

/* Rows written at once: a few pages' worth, as in COPY. */
#define BATCH_ROWS 500

struct lpu_bulk
{
	MemoryContext batch_context;	/* of the tuples of a batch */
	lpu_table  *table;
	BulkInsertState state;
	Datum	   *values;			/* a row in the table's order */
	bool	   *nulls;
	TupleTableSlot *slots[BATCH_ROWS];
	lpu_entry  *entries;		/* of each row, in the table's indexes */
	int			nslots;			/* in use */
	int			made;			/* slots that exist */
};

lpu_bulk *
lpu_bulk_begin(Oid schema, const char *table, const char *const *columns, const char *const *known)
{
	lpu_bulk   *bulk = palloc0(sizeof(lpu_bulk));
	int			natts;

	bulk->batch_context = AllocSetContextCreate(CurrentMemoryContext, "lpusers rows", ALLOCSET_DEFAULT_SIZES);
	bulk->table = lpu_table_open(schema, table, columns, known);
	natts = bulk->table->natts;
	bulk->values = palloc0(natts * sizeof(Datum));
	bulk->nulls = palloc(natts * sizeof(bool));
	memset(bulk->nulls, true, natts * sizeof(bool));
	bulk->entries = palloc(BATCH_ROWS * Max(bulk->table->nindexes, 1) * sizeof(lpu_entry));
	bulk->state = GetBulkInsertState();
	AfterTriggerBeginQuery();
	return bulk;
}

static void
flush(lpu_bulk *bulk)
{
	lpu_table  *table = bulk->table;
	MemoryContext caller = MemoryContextSwitchTo(bulk->batch_context);
	int			i;

	table_multi_insert(table->relation, bulk->slots, bulk->nslots, GetCurrentCommandId(true), 0, bulk->state);
	for (i = 0; i < bulk->nslots; i++)
	{
		List	   *recheck = lpu_table_index(table, bulk->slots[i], bulk->entries + i * table->nindexes, false);

		if (table->target->ri_TrigDesc != NULL)
			ExecARInsertTriggers(table->estate, table->target, bulk->slots[i], recheck, NULL);
		ResetPerTupleExprContext(table->estate);
		ExecClearTuple(bulk->slots[i]);
	}
	MemoryContextSwitchTo(caller);
	bulk->nslots = 0;
	MemoryContextReset(bulk->batch_context);
}

/* Has somebody made more of the table than we know? */
static bool
needs_executor(const lpu_table *table)
{
	TriggerDesc *triggers = table->target->ri_TrigDesc;
	TupleConstr *constraints = RelationGetDescr(table->relation)->constr;

	return (triggers != NULL && triggers->trig_insert_before_row) ||
		(constraints != NULL && constraints->has_generated_stored);
}

/* Write the row in the slot at once. False: a trigger did not let it. */
static bool
add_by_executor(lpu_bulk *bulk, TupleTableSlot *slot)
{
	bool		written;

	ItemPointerSetInvalid(&slot->tts_tid);
	ExecSimpleRelationInsert(bulk->table->target, bulk->table->estate, slot);
	written = ItemPointerIsValid(&slot->tts_tid);
	ResetPerTupleExprContext(bulk->table->estate);
	ExecClearTuple(slot);
	return written;
}

bool
lpu_bulk_add(lpu_bulk *bulk, const Datum *values, const bool *nulls, const lpu_entry *keys)
{
	lpu_table  *table = bulk->table;
	TupleDesc	desc = RelationGetDescr(table->relation);
	MemoryContext caller;
	TupleTableSlot *slot;
	int			i;

	for (i = 0; i < table->ncolumns; i++)
	{
		bulk->values[table->numbers[i] - 1] = values[i];
		bulk->nulls[table->numbers[i] - 1] = nulls[i];
	}
	if (bulk->nslots == bulk->made)
		bulk->slots[bulk->made++] = MakeSingleTupleTableSlot(desc, &TTSOpsHeapTuple);
	slot = bulk->slots[bulk->nslots];
	caller = MemoryContextSwitchTo(bulk->batch_context);
	ExecStoreHeapTuple(heap_form_tuple(desc, bulk->values, bulk->nulls), slot, false);
	MemoryContextSwitchTo(caller);
	slot->tts_tableOid = RelationGetRelid(table->relation);
	if (needs_executor(table))
		return add_by_executor(bulk, slot);
	lpu_table_entries(table, bulk->values, bulk->nulls, keys, bulk->entries + bulk->nslots * table->nindexes);
	/* what the table does not allow fails here, not when the row is claimed */
	lpu_table_check(table, slot, bulk->nulls);
	if (++bulk->nslots == BATCH_ROWS)
		flush(bulk);
	return true;
}

void
lpu_bulk_end(lpu_bulk *bulk)
{
	int			i;

	if (bulk->nslots > 0)
		flush(bulk);
	table_finish_bulk_insert(bulk->table->relation, 0);
	FreeBulkInsertState(bulk->state);
	AfterTriggerEndQuery(bulk->table->estate);
	for (i = 0; i < bulk->made; i++)
		ExecDropSingleTupleTableSlot(bulk->slots[i]);
	lpu_table_close(bulk->table);
	MemoryContextDelete(bulk->batch_context);
	/* what follows in this transaction sees the rows */
	CommandCounterIncrement();
}

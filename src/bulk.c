/*
 * bulk.c: appending many rows to one of the extension's tables.
 *
 * The way COPY does it: pages are filled by the table access method a batch at a time, then the index entries are made.
 * An INSERT through SPI costs several times as much, and the HR department's load waits for it. Constraints are not
 * checked again: only enqueue.c writes here. Runs with the rights of whoever it is called as.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "bulk.h"
#include "compat.h"

/* Rows written at once: a few pages' worth, as in COPY. */
#define BATCH_ROWS 500

struct lpu_bulk
{
	MemoryContext batch_context;	/* of the tuples of a batch */
	Relation	table;
	EState	   *estate;
	ResultRelInfo *target;
	BulkInsertState state;
	AttrNumber *numbers;		/* of the columns */
	int			ncolumns;
	Datum	   *values;			/* a row in the table's order */
	bool	   *nulls;
	TupleTableSlot *slots[BATCH_ROWS];
	int			nslots;			/* in use */
	int			made;			/* slots that exist */
};

static Oid
find_table(Oid schema, const char *name)
{
	Oid			table = get_relname_relid(name, schema);

	if (!OidIsValid(table))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table \"%s.%s\" does not exist", get_namespace_name(schema), name),
				 errhint("DROP EXTENSION lpusers and create it again.")));
	return table;
}

static void
find_columns(lpu_bulk *bulk, const char *const *columns)
{
	int			i;

	while (columns[bulk->ncolumns] != NULL)
		bulk->ncolumns++;
	bulk->numbers = palloc(bulk->ncolumns * sizeof(AttrNumber));
	for (i = 0; i < bulk->ncolumns; i++)
	{
		bulk->numbers[i] = get_attnum(RelationGetRelid(bulk->table), columns[i]);
		if (bulk->numbers[i] <= 0)
			elog(ERROR, "table \"%s\" has no column \"%s\"", RelationGetRelationName(bulk->table), columns[i]);
	}
}

lpu_bulk *
lpu_bulk_begin(Oid schema, const char *table, const char *const *columns)
{
	lpu_bulk   *bulk = palloc0(sizeof(lpu_bulk));
	int			natts;

	bulk->batch_context = AllocSetContextCreate(CurrentMemoryContext, "lpusers rows", ALLOCSET_DEFAULT_SIZES);
	bulk->table = table_open(find_table(schema, table), RowExclusiveLock);
	find_columns(bulk, columns);
	natts = RelationGetDescr(bulk->table)->natts;
	bulk->values = palloc0(natts * sizeof(Datum));
	bulk->nulls = palloc(natts * sizeof(bool));
	memset(bulk->nulls, true, natts * sizeof(bool));
	bulk->estate = CreateExecutorState();
	bulk->target = makeNode(ResultRelInfo);
	InitResultRelInfo(bulk->target, bulk->table, 0, NULL, 0);
	ExecOpenIndices(bulk->target, false);
	bulk->state = GetBulkInsertState();
	AfterTriggerBeginQuery();
	return bulk;
}

static void
flush(lpu_bulk *bulk)
{
	MemoryContext caller = MemoryContextSwitchTo(bulk->batch_context);
	int			i;

	table_multi_insert(bulk->table, bulk->slots, bulk->nslots, GetCurrentCommandId(true), 0, bulk->state);
	MemoryContextSwitchTo(caller);
	for (i = 0; i < bulk->nslots; i++)
	{
		List	   *recheck = NIL;

		if (bulk->target->ri_NumIndices > 0)
			recheck = LPU_EXEC_INSERT_INDEX_TUPLES(bulk->target, bulk->slots[i], bulk->estate);
		if (bulk->target->ri_TrigDesc != NULL)
			ExecARInsertTriggers(bulk->estate, bulk->target, bulk->slots[i], recheck, NULL);
		list_free(recheck);
		ResetPerTupleExprContext(bulk->estate);
		ExecClearTuple(bulk->slots[i]);
	}
	bulk->nslots = 0;
	MemoryContextReset(bulk->batch_context);
}

void
lpu_bulk_add(lpu_bulk *bulk, const Datum *values, const bool *nulls)
{
	TupleDesc	desc = RelationGetDescr(bulk->table);
	MemoryContext caller;
	int			i;

	for (i = 0; i < bulk->ncolumns; i++)
	{
		bulk->values[bulk->numbers[i] - 1] = values[i];
		bulk->nulls[bulk->numbers[i] - 1] = nulls[i];
	}
	if (bulk->nslots == bulk->made)
		bulk->slots[bulk->made++] = MakeSingleTupleTableSlot(desc, &TTSOpsHeapTuple);
	caller = MemoryContextSwitchTo(bulk->batch_context);
	ExecStoreHeapTuple(heap_form_tuple(desc, bulk->values, bulk->nulls), bulk->slots[bulk->nslots], false);
	MemoryContextSwitchTo(caller);
	bulk->slots[bulk->nslots]->tts_tableOid = RelationGetRelid(bulk->table);
	/* what the table does not allow fails here, not when the row is claimed */
	if (desc->constr != NULL)
		ExecConstraints(bulk->target, bulk->slots[bulk->nslots], bulk->estate);
	if (++bulk->nslots == BATCH_ROWS)
		flush(bulk);
}

void
lpu_bulk_end(lpu_bulk *bulk)
{
	int			i;

	if (bulk->nslots > 0)
		flush(bulk);
	table_finish_bulk_insert(bulk->table, 0);
	FreeBulkInsertState(bulk->state);
	AfterTriggerEndQuery(bulk->estate);
	for (i = 0; i < bulk->made; i++)
		ExecDropSingleTupleTableSlot(bulk->slots[i]);
	ExecCloseIndices(bulk->target);
	ExecCloseResultRelations(bulk->estate);
	FreeExecutorState(bulk->estate);
	table_close(bulk->table, NoLock);
	MemoryContextDelete(bulk->batch_context);
	/* what follows in this transaction sees the rows */
	CommandCounterIncrement();
}

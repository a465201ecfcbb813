/*
 * moved_rows.c: rows that the running statement moved to another partition.
 *
 * In a MERGE with an UPDATE and an INSERT action, PostgreSQL puts a row that the UPDATE moves to
 * another partition into the NEW TABLE of INSERT triggers. Nothing in a trigger's data tells such a
 * row from a new one, but the old version of the row does: its header says that it was moved. The
 * statement's own snapshot still sees it. The partitions are read only if this transaction has
 * deleted rows from them since the last call: PostgreSQL counts that.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "partitioning/partdesc.h"
#include "pgstat.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "trigger/moved_rows.h"

/* The partitions of a table that hold rows, at all levels. */
static List *
leaves_of(Relation table, List *leaves)
{
	PartitionDesc partitions = RelationGetPartitionDesc(table, true);
	int			i;

	for (i = 0; i < partitions->nparts; i++)
	{
		Relation	child;

		if (partitions->is_leaf[i])
		{
			leaves = lappend_oid(leaves, partitions->oids[i]);
			continue;
		}
		child = table_open(partitions->oids[i], AccessShareLock);
		leaves = leaves_of(child, leaves);
		table_close(child, NoLock);
	}
	return leaves;
}

static int64
deleted_from(Oid leaf)
{
	return DatumGetInt64(DirectFunctionCall1(pg_stat_get_xact_tuples_deleted,
											 ObjectIdGetDatum(leaf)));
}

/*
 * Return true if the statement moved the row version to another partition. What a statement within
 * it moves, of a trigger for example, has a later command id.
 */
static bool
is_moved(TupleTableSlot *slot, CommandId command)
{
	HeapTupleHeader header;

	if (!TTS_IS_BUFFERTUPLE(slot))
		return false;
	header = ((BufferHeapTupleTableSlot *) slot)->base.tuple->t_data;
	return HeapTupleHeaderIndicatesMovedPartitions(header) &&
		TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetUpdateXid(header)) &&
		HeapTupleHeaderGetCmax(header) == command;
}

static int64
count_in_leaf(Oid leaf)
{
	Relation	table = table_open(leaf, AccessShareLock);
	int64		n = 0;

	if (table->rd_rel->relkind == RELKIND_RELATION)
	{
		TupleTableSlot *slot = table_slot_create(table, NULL);
		TableScanDesc scan = table_beginscan(table, GetActiveSnapshot(), 0, NULL);

		while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
		{
			CHECK_FOR_INTERRUPTS();
			n += is_moved(slot, GetActiveSnapshot()->curcid);
		}
		table_endscan(scan);
		ExecDropSingleTupleTableSlot(slot);
	}
	table_close(table, NoLock);
	return n;
}

/* Count the rows that the statement whose AFTER trigger is running moved between partitions. */
int64
lpu_moved_count(Relation table, LpuMovedSeen *seen)
{
	int64		transaction = GetCurrentTransactionStartTimestamp();
	int64		deleted = 0;
	int64		moved = 0;
	List	   *leaves;
	ListCell   *cell;

	if (table->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		return 0;
	leaves = leaves_of(table, NIL);
	foreach(cell, leaves)
		deleted += deleted_from(lfirst_oid(cell));

	/*
	 * the counters are of this transaction and, for up to a second, of those
	 * before
	 */
	if (pgstat_track_counts &&
		(deleted == 0 || (seen->transaction == transaction && seen->deleted == deleted)))
		return 0;
	foreach(cell, leaves)
		if (!pgstat_track_counts || deleted_from(lfirst_oid(cell)) > 0)
		moved += count_in_leaf(lfirst_oid(cell));
	seen->transaction = transaction;
	seen->deleted = deleted;
	return moved;
}

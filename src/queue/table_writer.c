/*
 * table_writer.c: one of the extension's tables, open for writing.
 *
 * Who writes many rows pays most for their index entries: the executor works out predicate and expressions of each index
 * for each row. The extension's own indexes are known, so the writer gives their entries, or they are plain columns. That
 * the index means what the writer thinks is checked with the executor for the first row that is in it and the first that
 * is not; an index that differs, or that somebody has added, is left to the executor. Uniqueness is always checked.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "executor/executor.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "queue/table_writer.h"

/* How the entries of an index are made. */
typedef enum entry_source
{
	BY_EXECUTOR,
	BY_COLUMNS,					/* they are columns, passed by value */
	BY_WRITER					/* it is known to the writer */
} entry_source;

typedef struct lpu_index
{
	Relation	relation;
	IndexInfo  *info;
	entry_source source;
	int			known;			/* BY_WRITER: which */
	bool		checked[2];		/* ... against the executor, for a row that is not in it, and for one that is */
	bool		by_block;		/* it sums up blocks: what it has for a block need not be said again */
	BlockNumber block;			/* the last one, and its value */
	Datum		value;
} lpu_index;

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
find_columns(lpu_table *table, const char *const *columns)
{
	int			i;

	while (columns[table->ncolumns] != NULL)
		table->ncolumns++;
	table->numbers = palloc(table->ncolumns * sizeof(AttrNumber));
	for (i = 0; i < table->ncolumns; i++)
	{
		table->numbers[i] = get_attnum(RelationGetRelid(table->relation), columns[i]);
		if (table->numbers[i] <= 0)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("table \"%s\" has no column \"%s\"", RelationGetRelationName(table->relation), columns[i])));
	}
}

/* Can its entries be taken from the row as it is? */
static bool
is_plain(const lpu_table *table, const IndexInfo *info)
{
	int			i;

	if (info->ii_Expressions != NIL || info->ii_Predicate != NIL || info->ii_NumIndexAttrs > LPU_INDEX_COLUMNS)
		return false;
	for (i = 0; i < info->ii_NumIndexAttrs; i++)
		if (info->ii_IndexAttrNumbers[i] <= 0 ||
			!TupleDescAttr(RelationGetDescr(table->relation), info->ii_IndexAttrNumbers[i] - 1)->attbyval)
			return false;
	return true;
}

static void
learn_index(lpu_table *table, lpu_index *index, const char *const *known)
{
	const IndexInfo *info = index->info;
	int			i;

	index->block = InvalidBlockNumber;
	/* exclusion and deferred constraints, indexes that are just being built */
	if (info->ii_ExclusionOps != NULL || !info->ii_ReadyForInserts || !index->relation->rd_index->indimmediate)
		table->by_executor = true;
	for (i = 0; known[i] != NULL; i++)
		if (strcmp(RelationGetRelationName(index->relation), known[i]) == 0 &&
			info->ii_NumIndexAttrs <= LPU_INDEX_COLUMNS)
		{
			index->source = BY_WRITER;
			index->known = i;
			return;
		}
	if (!is_plain(table, info))
		return;
	index->source = BY_COLUMNS;
	index->by_block = index->relation->rd_rel->relam == BRIN_AM_OID && info->ii_NumIndexAttrs == 1;
}

/* Are its CHECK constraints but those of the install script? What we write is within them. */
static bool
has_own_checks(const lpu_table *table)
{
	static const char *const own[] = {"lp_requests_operation_check", "lp_requests_path_check", "lp_requests_state_check",
	"lp_requests_evidence_check"};
	const TupleConstr *constraints = RelationGetDescr(table->relation)->constr;
	int			i;
	int			j;

	for (i = 0; constraints != NULL && i < constraints->num_check; i++)
	{
		for (j = 0; j < lengthof(own); j++)
			if (strcmp(constraints->check[i].ccname, own[j]) == 0)
				break;
		if (j == lengthof(own))
			return false;
	}
	return true;
}

void
lpu_table_check(lpu_table *table, TupleTableSlot *slot, const bool *nulls)
{
	TupleDesc	desc = RelationGetDescr(table->relation);
	int			i;

	if (desc->constr == NULL)
		return;
	for (i = 0; table->own_checks && i < table->natts; i++)
		if (nulls[i] && TupleDescAttr(desc, i)->attnotnull)
			break;
	if (!table->own_checks || i < table->natts)
		ExecConstraints(table->target, slot, table->estate);
}

lpu_table *
lpu_table_open(Oid schema, const char *name, const char *const *columns, const char *const *known)
{
	lpu_table  *table = palloc0(sizeof(lpu_table));
	int			i;

	table->relation = table_open(find_table(schema, name), RowExclusiveLock);
	table->natts = RelationGetDescr(table->relation)->natts;
	find_columns(table, columns);
	table->estate = CreateExecutorState();
	table->target = makeNode(ResultRelInfo);
	InitResultRelInfo(table->target, table->relation, 0, NULL, 0);
	ExecOpenIndices(table->target, false);
	table->nindexes = table->target->ri_NumIndices;
	table->own_checks = has_own_checks(table);
	table->indexes = palloc0(Max(table->nindexes, 1) * sizeof(lpu_index));
	for (i = 0; i < table->nindexes; i++)
	{
		table->indexes[i].relation = table->target->ri_IndexRelationDescs[i];
		table->indexes[i].info = table->target->ri_IndexRelationInfo[i];
		learn_index(table, &table->indexes[i], known);
	}
	return table;
}

void
lpu_table_close(lpu_table *table)
{
	/* slots of triggers */
	ExecResetTupleTable(table->estate->es_tupleTable, false);
	ExecCloseIndices(table->target);
	ExecCloseResultRelations(table->estate);
	FreeExecutorState(table->estate);
	table_close(table->relation, NoLock);
}

void
lpu_table_entries(const lpu_table *table, const Datum *values, const bool *nulls, const lpu_entry *keys,
				  lpu_entry *entries)
{
	int			i;
	int			j;

	for (i = 0; i < table->nindexes; i++)
	{
		const lpu_index *index = &table->indexes[i];

		if (index->source == BY_WRITER)
			entries[i] = keys[index->known];
		if (index->source != BY_COLUMNS)
			continue;
		entries[i].in = true;
		for (j = 0; j < index->info->ii_NumIndexAttrs; j++)
		{
			AttrNumber	number = index->info->ii_IndexAttrNumbers[j];

			entries[i].values[j] = values[number - 1];
			entries[i].nulls[j] = nulls[number - 1];
		}
	}
}

/* What the executor puts into the index for the row; false if the row is not in it. */
static bool
ask_executor(lpu_table *table, const lpu_index *index, TupleTableSlot *slot, Datum *values, bool *nulls)
{
	IndexInfo  *info = index->info;
	ExprContext *context = GetPerTupleExprContext(table->estate);

	context->ecxt_scantuple = slot;
	if (info->ii_Predicate != NIL)
	{
		if (info->ii_PredicateState == NULL)
			info->ii_PredicateState = ExecPrepareQual(info->ii_Predicate, table->estate);
		if (!ExecQual(info->ii_PredicateState, context))
			return false;
	}
	FormIndexDatum(info, slot, table->estate, values, nulls);
	return true;
}

/* Does the executor make the same of it? */
static bool
is_right(lpu_table *table, const lpu_index *index, TupleTableSlot *slot, const lpu_entry *entry)
{
	Datum		values[INDEX_MAX_KEYS];
	bool		nulls[INDEX_MAX_KEYS];
	int			i;

	if (ask_executor(table, index, slot, values, nulls) != entry->in)
		return false;
	for (i = 0; entry->in && i < index->info->ii_NumIndexAttrs; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(RelationGetDescr(index->relation), i);

		if (nulls[i] != entry->nulls[i] ||
			(!nulls[i] && !datum_image_eq(values[i], entry->values[i], attribute->attbyval, attribute->attlen)))
			return false;
	}
	return true;
}

static void
insert(lpu_table *table, lpu_index *index, TupleTableSlot *slot, Datum *values, bool *nulls, bool update)
{
	bool		unique = index->relation->rd_index->indisunique;

	(void) index_insert(index->relation, values, nulls, &slot->tts_tid, table->relation,
						unique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO, update, index->info);
}

/* Was the same said of this block just before? */
static bool
is_repetition(lpu_index *index, TupleTableSlot *slot, const lpu_entry *entry)
{
	BlockNumber block = ItemPointerGetBlockNumber(&slot->tts_tid);

	if (index->block == block && index->value == entry->values[0] && !entry->nulls[0])
		return true;
	index->block = entry->nulls[0] ? InvalidBlockNumber : block;
	index->value = entry->values[0];
	return false;
}

static void
insert_entry(lpu_table *table, lpu_index *index, TupleTableSlot *slot, const lpu_entry *entry, bool update)
{
	Datum		values[INDEX_MAX_KEYS];
	bool		nulls[INDEX_MAX_KEYS];

	if (index->source == BY_WRITER && !index->checked[entry->in])
	{
		if (!is_right(table, index, slot, entry))
			index->source = BY_EXECUTOR;
		index->checked[entry->in] = true;
	}
	if (index->source == BY_EXECUTOR)
	{
		if (ask_executor(table, index, slot, values, nulls))
			insert(table, index, slot, values, nulls, update);
		return;
	}
	if (!entry->in || (index->by_block && is_repetition(index, slot, entry)))
		return;
	memcpy(values, entry->values, sizeof(entry->values));
	memcpy(nulls, entry->nulls, sizeof(entry->nulls));
	/* where rows are for a short time, a full page need not be searched for versions of one row: all of it goes */
	insert(table, index, slot, values, nulls, update && index->source == BY_COLUMNS);
}

List *
lpu_table_index(lpu_table *table, TupleTableSlot *slot, const lpu_entry *entries, bool update)
{
	int			i;

	if (table->by_executor)
		return LPU_EXEC_INSERT_INDEX_TUPLES(table->target, slot, table->estate, update);
	for (i = 0; i < table->nindexes; i++)
		insert_entry(table, &table->indexes[i], slot, &entries[i], update);
	return NIL;
}

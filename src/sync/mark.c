/*
 * mark.c: marks of rows that changed in watched tables since the last run.
 *
 * A trigger copies, from the old and new versions of changed rows, only the columns that the key
 * expression of its watch uses. The transaction that changes the table evaluates no expression and
 * waits for no row of another transaction; rows that cannot be copied become a mark to check all
 * keys. The marks are inserted as the extension's owner. A run evaluates the expression over the
 * copied rows, with the rights of the sync's owner; if the evaluation fails, the run checks all
 * keys.
 *
 * The only effect of a mark is that a key is checked. The copied columns and the expression are
 * stored in _lp_sync_watch, which only lp_sync_watch() writes, for one table: in a trigger of
 * another table the function does nothing.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"

#include "base/encoding.h"
#include "base/extension.h"
#include "base/origin.h"
#include "base/spi_plan.h"
#include "queue/statement.h"
#include "sync/mark.h"
#include "sync/rows.h"

PG_FUNCTION_INFO_V1(_lp_sync_mark_trigger);

/* Maximum number of rows of a statement that are copied, since they are in memory. */
#define MAX_ROWS 100000

/* Rows of a mark: a jsonb is limited in size. */
#define CHUNK 1000

/* Bytes of a value: a key has at most 254 characters. */
#define MAX_VALUE 2000

/* ----- the trigger ----- */

/* The rows of a statement while they are copied. */
typedef struct CopiedRows
{
	Relation	table;
	AttrNumber *columns;
	FmgrInfo   *output;
	int			ncolumns;
	StringInfoData chunk;		/* the last ones of them, as a JSON array */
	List	   *chunks;			/* ... the others, as texts */
	int			n;
	bool		any;			/* there are rows, copied or not */
	const char *everything;		/* why rows are not copied, or NULL */
} CopiedRows;

/* Find the columns to copy, from a text[] of names. */
static void
find_columns(CopiedRows *copied, Datum names)
{
	TupleDesc	desc = RelationGetDescr(copied->table);
	Datum	   *elements;
	int			i;

	deconstruct_array(DatumGetArrayTypeP(names), TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL,
					  &copied->ncolumns);
	copied->columns = palloc(Max(copied->ncolumns, 1) * sizeof(AttrNumber));
	copied->output = palloc(Max(copied->ncolumns, 1) * sizeof(FmgrInfo));
	for (i = 0; i < copied->ncolumns; i++)
	{
		char	   *name = TextDatumGetCString(elements[i]);
		AttrNumber	number = get_attnum(RelationGetRelid(copied->table), name);
		Oid			function;
		bool		varlena;

		if (number <= 0)
		{
			copied->everything = psprintf("column \"%s\" of %s does not exist", name,
										  RelationGetRelationName(copied->table));
			return;
		}
		copied->columns[i] = number;
		getTypeOutputInfo(TupleDescAttr(desc, number - 1)->atttypid, &function, &varlena);
		fmgr_info(function, &copied->output[i]);
	}
}

/* A row as a JSON array of texts; NULL if a value is too large for a key. */
static char *
row_as_json(const CopiedRows *copied, TupleTableSlot *slot)
{
	StringInfoData out;
	int			i;

	initStringInfo(&out);
	for (i = 0; i < copied->ncolumns; i++)
	{
		bool		isnull;
		Datum		value = slot_getattr(slot, copied->columns[i], &isnull);
		char	   *text = isnull ? NULL : OutputFunctionCall(&copied->output[i], value);

		if (text !=NULL && strlen(text) > MAX_VALUE)
			return NULL;
		appendStringInfoChar(&out, i == 0 ? '[' : ',');
		if (text == NULL)
			appendStringInfoString(&out, "null");
		else
			escape_json(&out, text);
	}
	appendStringInfoString(&out, copied->ncolumns == 0 ? "[]" : "]");
	return out.data;
}

/* The rows as JSON arrays of at most CHUNK of them. */
static void
end_chunk(CopiedRows *copied)
{
	if (copied->n == 0)
		return;
	appendStringInfoChar(&copied->chunk, ']');
	copied->chunks = lappend(copied->chunks, cstring_to_text_with_len(copied->chunk.data,
																	  copied->chunk.len));
	resetStringInfo(&copied->chunk);
}

static void
add_row(CopiedRows *copied, const char *json)
{
	if (copied->n == MAX_ROWS)
	{
		copied->everything = "more than " CppAsString2(MAX_ROWS) " rows were changed at once";
		return;
	}
	if (copied->n % CHUNK == 0)
		end_chunk(copied);
	appendStringInfoChar(&copied->chunk, copied->n % CHUNK == 0 ? '[' : ',');
	appendStringInfoString(&copied->chunk, json);
	copied->n++;
}

static void
copy_row(CopiedRows *copied, TupleTableSlot *slot, MemoryContext row_context)
{
	MemoryContext caller;
	char	   *json;

	copied->any = true;
	if (copied->everything != NULL)
		return;
	caller = MemoryContextSwitchTo(row_context);
	json = row_as_json(copied, slot);
	MemoryContextSwitchTo(caller);
	if (json == NULL)
		copied->everything = "a value is larger than a key can be";
	else
		add_row(copied, json);
	MemoryContextReset(row_context);
}

/* Return true if two rows have the same values in the columns to copy. */
static bool
is_same_key(const CopiedRows *copied, TupleTableSlot *a, TupleTableSlot *b)
{
	TupleDesc	desc = RelationGetDescr(copied->table);
	int			i;

	for (i = 0; i < copied->ncolumns; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, copied->columns[i] - 1);
		bool		null[2];
		Datum		left = slot_getattr(a, copied->columns[i], &null[0]);
		Datum		right = slot_getattr(b, copied->columns[i], &null[1]);

		if (null[0] != null[1] ||
			(!null[0] && !datum_image_eq(left, right, column->attbyval, column->attlen)))
			return false;
	}
	return true;
}

/* Read a transition table from its beginning, or none if it is NULL. */
static TupleTableSlot *
read_rows(const CopiedRows *copied, Tuplestorestate *store)
{
	if (store == NULL)
		return NULL;
	/* a read pointer of its own: other triggers read the table, too */
	tuplestore_select_read_pointer(store, tuplestore_alloc_read_pointer(store, EXEC_FLAG_REWIND));
	tuplestore_rescan(store);
	return MakeSingleTupleTableSlot(RelationGetDescr(copied->table), &TTSOpsMinimalTuple);
}

/*
 * Copy the rows of a transition table, or none if it is NULL. "before": the old rows of an UPDATE,
 * which are copied already. They are in the same order as the new ones, and seldom have other keys.
 */
static void
copy_rows(CopiedRows *copied, Tuplestorestate *store, Tuplestorestate *before)
{
	TupleTableSlot *slot = read_rows(copied, store);
	TupleTableSlot *old = store != NULL ? read_rows(copied, before) : NULL;
	MemoryContext row_context = AllocSetContextCreate(CurrentMemoryContext, "lpusers marked row",
													  ALLOCSET_DEFAULT_SIZES);

	while (slot != NULL && (copied->everything == NULL || !copied->any) &&
		   tuplestore_gettupleslot(store, true, false, slot))
		if (old == NULL || copied->everything != NULL ||
			!tuplestore_gettupleslot(before, true, false, old) || !is_same_key(copied, slot, old))
			copy_row(copied, slot, row_context);
	if (slot != NULL)
		ExecDropSingleTupleTableSlot(slot);
	if (old != NULL)
		ExecDropSingleTupleTableSlot(old);
	MemoryContextDelete(row_context);
}

static Datum
chunks_of(CopiedRows *copied)
{
	Datum	   *chunks;
	ListCell   *cell;

	end_chunk(copied);
	chunks = palloc(Max(list_length(copied->chunks), 1) * sizeof(Datum));
	foreach(cell, copied->chunks)
		chunks[foreach_current_index(cell)] = PointerGetDatum(lfirst(cell));
	return PointerGetDatum(construct_array(chunks, list_length(copied->chunks), TEXTOID, -1, false,
										   TYPALIGN_INT));
}

static Datum
reason_of(const CopiedRows *copied)
{
	StringInfoData why;
	Datum text;

	initStringInfo(&why);
	escape_json(&why, copied->everything);
	text = CStringGetTextDatum(why.data);

	return PointerGetDatum(construct_array(&text, 1, TEXTOID, -1, false, TYPALIGN_INT));
}

/* A mark has many rows, since one mark for each row would cost as much as the statement. */
static void
append_marks(CopiedRows *copied, int64 watch, int64 sync)
{
	Oid			types[3] = {INT8OID, INT8OID, TEXTARRAYOID};
	Datum		values[3] = {
		Int64GetDatum(watch), Int64GetDatum(sync),
		copied->everything == NULL ? chunks_of(copied) : reason_of(copied)
	};

	lpu_run("INSERT INTO @extschema@._lp_sync_mark (watch, sync, changed) "
			"SELECT $1, $2, c.changed::jsonb FROM unnest($3) c (changed)", 3, types, values);
}

/* Execute the watch with this id, if it belongs to the table. */
static void
mark_rows(const TriggerData *data, int64 watch)
{
	Relation	table = data->tg_relation;
	CopiedRows	copied = {.table = table};
	Oid			types[4] = {INT8OID, OIDOID, TEXTOID, TEXTOID};
	Datum		values[4] = {
		Int64GetDatum(watch), ObjectIdGetDatum(RelationGetRelid(table)),
		CStringGetTextDatum(lpu_relation_name(RelationGetRelid(table))),
		CStringGetTextDatum(lpu_origin_text())
	};
	bool		isnull;
	int64		sync;
	int			level;

	lpu_run("SELECT w.sync, w.columns FROM @extschema@._lp_sync_watch w "
			"JOIN @extschema@._lp_sync s ON s.id = w.sync "
			"WHERE w.id = $1 AND CASE WHEN @extschema@._lp_is_here(s.origin, $4) "
			"  THEN w.relation_oid = $2 ELSE w.relation = $3 END", 4, types, values);
	if (SPI_processed == 0)
		return;
	sync = lpu_int64_column(0, 1);
	find_columns(&copied, SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	/* the run that reads the texts has the same settings */
	level = lpu_sync_fix_settings();
	initStringInfo(&copied.chunk);
	copy_rows(&copied, data->tg_oldtable, NULL);
	copy_rows(&copied, data->tg_newtable, data->tg_oldtable);
	AtEOXact_GUC(false, level);
	if (copied.any)
		append_marks(&copied, watch, sync);
}

/*
 * _lp_sync_mark_trigger() RETURNS trigger: its argument is the id of a watch. A dropped watch, a
 * watch of a dropped sync, or one of another table, marks nothing.
 */
Datum
_lp_sync_mark_trigger(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	int64		watch;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_STATEMENT(data->tg_event) ||
		!TRIGGER_FIRED_AFTER(data->tg_event) || data->tg_trigger->tgnargs != 1 ||
		!lpu_text_as_int64(data->tg_trigger->tgargs[0], &watch))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("_lp_sync_mark_trigger() must be fired by a trigger of lp_sync_watch()")));
	SPI_connect();
	mark_rows(data, watch);
	SPI_finish();
	return PointerGetDatum(NULL);
}

/* ----- the keys of marks ----- */

/* The expression over rows that have the columns of the table, as they were copied. */
void
lpu_sync_evaluate(const LpuSync *sync, const LpuSyncWatch *watch, Datum rows)
{
	StringInfoData query;
	ListCell   *column;
	ListCell   *type;
	int			i = 0;
	int			level = NewGUCNestLevel();

	initStringInfo(&query);
	appendStringInfo(&query, "SELECT (%s)::pg_catalog.text FROM (SELECT", watch->expression);
	forboth(column, watch->columns, type, watch->types)
	{
		appendStringInfo(&query, "%s (r.e::pg_catalog.json ->> %d)::%s AS %s", i > 0 ? "," : "", i,
						 (char *) lfirst(type), quote_identifier(lfirst(column)));
		i++;
	}
	appendStringInfo(&query, " FROM pg_catalog.unnest($1) r (e)) AS %s",
					 quote_identifier(watch->alias));
	/* as the key of a source row is written, if it is a time */
	(void) set_config_option("TimeZone", "UTC", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
							 false);
	lpu_sync_read_as(sync->owner, query.data, rows, NULL);
	AtEOXact_GUC(false, level);
}

/* The rows of one watch while they are evaluated. */
typedef struct Evaluation
{
	const LpuSync *sync;
	LpuSyncWatch watch;
	Datum		rows;
	MemoryContext context;
	List	  **keys;
} Evaluation;

static void
run_evaluation(void *arg)
{
	Evaluation *e = arg;
	MemoryContext caller;
	List	   *keys = NIL;
	int			i;

	SPI_connect();
	lpu_sync_evaluate(e->sync, &e->watch, e->rows);
	caller = MemoryContextSwitchTo(e->context);
	for (i = 0; i < (int) SPI_processed; i++)
	{
		char	   *key = lpu_text_column(i, 1);

		if (key != NULL)
			keys = lappend(keys, pstrdup(key));
	}
	*e->keys = list_concat(*e->keys, keys);
	MemoryContextSwitchTo(caller);
	SPI_finish();
}

/*
 * Marks of rows, by watch. $1 sync. Returns relation, alias, columns, types and expression of the
 * watch, which are null if it is gone; why all keys are to be checked; rows.
 */
static const char rows_sql[] =
"SELECT w.relation, w.alias, w.columns, w.types, w.expression, "
" max(m.changed #>> '{}') FILTER (WHERE jsonb_typeof(m.changed) = 'string'), "
" array_agg(DISTINCT c.row::text) FILTER (WHERE c.row IS NOT NULL) "
"FROM @extschema@._lp_sync_mark m LEFT JOIN @extschema@._lp_sync_watch w ON w.id = m.watch "
"LEFT JOIN LATERAL jsonb_array_elements(CASE jsonb_typeof(m.changed) WHEN 'array' THEN m.changed END) "
" c (row) ON true "
"WHERE m.sync = $1 AND m.source_key IS NULL GROUP BY w.id, m.watch ORDER BY m.watch";

/* Add the keys of a row of rows_sql; return why this is impossible, or NULL. */
static const char *
evaluate(Evaluation *e, SPITupleTable *table, int row)
{
	char	   *why = SPI_getvalue(table->vals[row], table->tupdesc, 6);
	char	   *message;
	bool		isnull;

	e->watch.relation = SPI_getvalue(table->vals[row], table->tupdesc, 1);
	if (e->watch.relation == NULL)
		return "a table is not watched any more";
	if (why != NULL)
		return why;
	e->watch.alias = SPI_getvalue(table->vals[row], table->tupdesc, 2);
	e->watch.columns = lpu_sync_text_list(table, row, 3);
	e->watch.types = lpu_sync_text_list(table, row, 4);
	e->watch.expression = SPI_getvalue(table->vals[row], table->tupdesc, 5);
	e->rows = SPI_getbinval(table->vals[row], table->tupdesc, 7, &isnull);
	message = lpu_queue_try(run_evaluation, e);
	return message == NULL ? NULL :
		psprintf("the keys of %s cannot be found: %s", e->watch.relation, message);
}

/* ----- the marks of a run ----- */

/*
 * Keys that wait for a request are left to a run after the request. $1 sync, $2 origin here.
 * Returns the ids and keys of the other marks.
 */
static const char marks_sql[] =
"SELECT m.id, m.source_key FROM @extschema@._lp_sync_mark m "
"WHERE m.sync = $1 AND (m.source_key IS NULL OR NOT EXISTS ( "
"  SELECT FROM @extschema@.lp_requests r JOIN @extschema@._lp_sync_item i ON i.request = r.id "
"  WHERE i.sync = $1 AND i.source_key = m.source_key AND r.state IN ('pending', 'sending', 'uncertain', 'held')) "
" AND NOT EXISTS (SELECT FROM @extschema@._lp_sync_link l JOIN @extschema@._lp_sync s ON s.id = l.sync "
"  JOIN @extschema@.lp_requests r ON r.account = s.account AND r.user_id = l.user_id "
"   AND r.server_oid = @extschema@._lp_server_here(s.origin, $2, s.server_oid, s.server) "
"  WHERE l.sync = $1 AND l.source_key = m.source_key AND l.state <> 'gone' AND r.operation <> 'reset' "
"   AND r.state IN ('pending', 'sending', 'uncertain', 'held')))";

/*
 * A run that checks all keys reads only the ids. The result is allocated in the caller's memory
 * context.
 */
void
lpu_sync_read_marks(const LpuSync *sync, bool ids_only, LpuSyncMarks *marks)
{
	Oid			types[2] = {INT8OID, TEXTOID};
	Datum		values[2] = {Int64GetDatum(sync->id), CStringGetTextDatum(lpu_origin_text())};
	Evaluation	evaluation = {.sync = sync,.context = CurrentMemoryContext};
	List	   *keys = NIL;
	SPITupleTable *table;
	int			n;
	int			i;

	memset(marks, 0, sizeof(LpuSyncMarks));
	lpu_run(marks_sql, 2, types, values);
	marks->ids = lpu_queue_ids(&marks->n);
	if (ids_only || marks->n == 0)
		return;
	for (i = 0; i < marks->n; i++)
		if (lpu_text_column(i, 2) != NULL)
			keys = lappend(keys, lpu_text_column(i, 2));
	evaluation.keys = &keys;
	lpu_run(rows_sql, 1, types, values);
	table = SPI_tuptable;
	n = (int) SPI_processed;
	for (i = 0; i < n && marks->everything == NULL; i++)
		marks->everything = evaluate(&evaluation, table, i);
	marks->nkeys = list_length(keys);
	marks->keys = lpu_sync_text_array(keys);
}

/* Delete the marks of a run.  Keys that wait in its plan are marked again if a table is watched. */
void
lpu_sync_remove_marks(const LpuSync *sync, const LpuSyncMarks *marks, int64 plan)
{
	Oid			types[2] = {INT8OID, INT8OID};
	Datum		values[2] = {Int64GetDatum(sync->id), Int64GetDatum(plan)};

	if (marks->n > 0)
	{
		Oid			id_types[1] = {INT8ARRAYOID};
		Datum		ids[1] = {lpu_queue_id_array(marks->ids, marks->n)};

		lpu_run("DELETE FROM @extschema@._lp_sync_mark m WHERE m.id = ANY ($1)", 1, id_types, ids);
	}
	lpu_run("INSERT INTO @extschema@._lp_sync_mark (sync, source_key) "
			"SELECT i.sync, i.source_key FROM @extschema@._lp_sync_item i "
			"WHERE i.plan = $2 AND i.sync = $1 AND i.state IN ('wait', 'stale') AND i.source_key IS NOT NULL "
			" AND EXISTS (SELECT FROM @extschema@._lp_sync_watch w WHERE w.sync = $1) "
			" AND NOT EXISTS (SELECT FROM @extschema@._lp_sync_mark m "
			"  WHERE m.sync = $1 AND m.source_key = i.source_key)", 2, types, values);
}

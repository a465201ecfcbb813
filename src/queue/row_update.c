/*
 * row_update.c: a row of lp_requests with its payload, found by id and changed in place.
 *
 * What every request goes through, claim and success, is done here with the tables' indexes and no plan: a plan for a few
 * rows among many, or for most rows of a young table, depends on statistics that a queue does not have, and costs several
 * times as much. Everything else about the queue is SQL of the install script. Rows are seen as they are, not as they were
 * when the transaction began; whoever finds one looks at its state, and an update of what has changed since is refused.
 * ROW triggers that somebody put on the tables are fired, as if it were SQL.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "queue/duplicate_logins.h"
#include "queue/row_update.h"

/* In the order of lpu_column. */
static const char *const request_columns[] = {"id", "account", "send_as", "login_name", "state", "attempts",
	"next_attempt_at", "batch", "status", "ac_revision", "user_id", "error", "evidence", "reason", "origin", "sent_at",
	"finished_at", "held_at", NULL};
static const char *const request_indexes[] = {"lp_requests_waiting", "lp_requests_in_flight", NULL};
static const char *const payload_columns[] = {"request_id", "body", NULL};
static const char *const payload_indexes[] = {NULL};

/* States that the indexes hold. */
static const char *const waiting_states[] = {"pending", "held"};
static const char *const in_flight_states[] = {"sending", "uncertain"};

/* A table that is searched by an index. */
typedef struct index_search
{
	MemoryContext context;		/* a scan allocates as it goes */
	Relation	table;
	BlockNumber nblocks;		/* of the table; as long as it is locked it does not get shorter */
	Relation	index;
	IndexScanDesc scan;
	TupleTableSlot *slot;
} index_search;

struct lpu_stored
{
	MemoryContext context;
	MemoryContext row_context;	/* of the row at work */
	lpu_table  *requests;
	lpu_table  *payloads;
	index_search by_id;
	index_search in_flight;
	index_search payload;
	TupleTableSlot *slot;		/* of the row to be written */
	Datum	   *values;			/* of the row at work, in the table's order */
	bool	   *nulls;
	lpu_entry  *entries;
	ItemPointerData place;		/* where the row at work is, after it was written */
};

static void
begin_search(index_search *search, const lpu_table *table, Oid index, int nkeys)
{
	search->context = CurrentMemoryContext;
	search->table = table->relation;
	search->nblocks = RelationGetNumberOfBlocks(table->relation);
	search->index = index_open(index, AccessShareLock);
	search->scan = LPU_INDEX_BEGINSCAN(table->relation, search->index, SnapshotSelf, nkeys);
	search->slot = table_slot_create(table->relation, NULL);
}

static void
end_search(index_search *search)
{
	index_endscan(search->scan);
	ExecDropSingleTupleTableSlot(search->slot);
	index_close(search->index, AccessShareLock);
}

static bool
find_first(index_search *search, ScanKeyData *keys, int nkeys)
{
	MemoryContext caller = MemoryContextSwitchTo(search->context);
	bool		found;

	index_rescan(search->scan, keys, nkeys, NULL, 0);
	found = index_getnext_slot(search->scan, ForwardScanDirection, search->slot);
	MemoryContextSwitchTo(caller);
	return found;
}

/* Is the row with this id, which is the column of that number, still in its place? */
static bool
is_at(index_search *search, int64 id, AttrNumber number, const ItemPointerData *place)
{
	ItemPointerData copy = *place;
	bool		isnull;

	return ItemPointerIsValid(place) && ItemPointerGetBlockNumber(place) < search->nblocks &&
		table_tuple_fetch_row_version(search->table, &copy, SnapshotSelf, search->slot) &&
		DatumGetInt64(slot_getattr(search->slot, number, &isnull)) == id;
}

static bool
find_id(index_search *search, int64 id, AttrNumber number, const ItemPointerData *place)
{
	ScanKeyData key;

	if (place != NULL && is_at(search, id, number, place))
		return true;
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
	return find_first(search, &key, 1);
}

lpu_stored *
lpu_stored_open(Oid schema)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "lpusers stored", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	lpu_stored *stored = palloc0(sizeof(lpu_stored));

	stored->context = context;
	stored->row_context = AllocSetContextCreate(context, "lpusers row", ALLOCSET_DEFAULT_SIZES);
	stored->requests = lpu_table_open(schema, "lp_requests", request_columns, request_indexes);
	stored->payloads = lpu_table_open(schema, "lp_payloads", payload_columns, payload_indexes);
	begin_search(&stored->by_id, stored->requests, get_relname_relid("lp_requests_pkey", schema), 1);
	begin_search(&stored->in_flight, stored->requests, get_relname_relid("lp_requests_in_flight", schema), 2);
	begin_search(&stored->payload, stored->payloads, get_relname_relid("lp_payloads_pkey", schema), 1);
	stored->slot = MakeSingleTupleTableSlot(RelationGetDescr(stored->requests->relation), &TTSOpsHeapTuple);
	stored->values = palloc(stored->requests->natts * sizeof(Datum));
	stored->nulls = palloc(stored->requests->natts * sizeof(bool));
	stored->entries = palloc(Max(stored->requests->nindexes, 1) * sizeof(lpu_entry));
	AfterTriggerBeginQuery();
	MemoryContextSwitchTo(caller);
	return stored;
}

void
lpu_stored_close(lpu_stored *stored)
{
	AfterTriggerEndQuery(stored->requests->estate);
	end_search(&stored->by_id);
	end_search(&stored->in_flight);
	end_search(&stored->payload);
	ExecDropSingleTupleTableSlot(stored->slot);
	lpu_table_close(stored->payloads);
	lpu_table_close(stored->requests);
	MemoryContextDelete(stored->context);
	/* what follows in this transaction sees the rows */
	CommandCounterIncrement();
}

/* ---------------------------------------------------------------------------------------------------- reading */

bool
lpu_stored_find(lpu_stored *stored, int64 id, const ItemPointerData *place)
{
	int			natts = stored->requests->natts;

	ExecClearTuple(stored->slot);
	ResetPerTupleExprContext(stored->requests->estate);
	MemoryContextReset(stored->row_context);
	if (!find_id(&stored->by_id, id, stored->requests->numbers[LPU_COL_ID], place))
		return false;
	slot_getallattrs(stored->by_id.slot);
	memcpy(stored->values, stored->by_id.slot->tts_values, natts * sizeof(Datum));
	memcpy(stored->nulls, stored->by_id.slot->tts_isnull, natts * sizeof(bool));
	return true;
}

ItemPointerData
lpu_stored_place(const lpu_stored *stored)
{
	return stored->place;
}

static int
number_of(const lpu_stored *stored, lpu_column column)
{
	return stored->requests->numbers[column] - 1;
}

Datum
lpu_stored_value(const lpu_stored *stored, lpu_column column, bool *isnull)
{
	*isnull = stored->nulls[number_of(stored, column)];
	return stored->values[number_of(stored, column)];
}

char *
lpu_stored_text(const lpu_stored *stored, lpu_column column)
{
	bool		isnull;
	Datum		value = lpu_stored_value(stored, column, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

bool
lpu_stored_is_in_flight(lpu_stored *stored, const char *account, const char *lowered)
{
	MemoryContext caller = MemoryContextSwitchTo(stored->row_context);
	index_search *search = &stored->in_flight;
	Datum		values[2] = {CStringGetTextDatum(account), CStringGetTextDatum(lowered)};
	ScanKeyData keys[2];
	bool		found;
	int			i;

	for (i = 0; i < 2; i++)
		ScanKeyEntryInitialize(&keys[i], 0, i + 1, BTEqualStrategyNumber, InvalidOid, search->index->rd_indcollation[i],
							   F_TEXTEQ, values[i]);
	found = find_first(search, keys, 2);
	MemoryContextSwitchTo(caller);
	return found;
}

/* ---------------------------------------------------------------------------------------------------- writing */

void
lpu_stored_set(lpu_stored *stored, lpu_column column, Datum value)
{
	stored->values[number_of(stored, column)] = value;
	stored->nulls[number_of(stored, column)] = false;
}

void
lpu_stored_set_text(lpu_stored *stored, lpu_column column, const char *text)
{
	MemoryContext caller = MemoryContextSwitchTo(stored->row_context);

	lpu_stored_set(stored, column, CStringGetTextDatum(text));
	MemoryContextSwitchTo(caller);
}

void
lpu_stored_set_null(lpu_stored *stored, lpu_column column)
{
	stored->nulls[number_of(stored, column)] = true;
}

static bool
is_one_of(const char *text, const char *const *words, int n)
{
	int			i;

	for (i = 0; i < n; i++)
		if (strcmp(words[i], text) == 0)
			return true;
	return false;
}

/* The entries of the row at work in the indexes of request_indexes. */
static void
make_keys(const lpu_stored *stored, lpu_entry *keys)
{
	const char *state = lpu_stored_text(stored, LPU_COL_STATE);
	const char *account = lpu_stored_text(stored, LPU_COL_ACCOUNT);
	const char *login = lpu_stored_text(stored, LPU_COL_LOGIN_NAME);

	memset(keys, 0, 2 * sizeof(lpu_entry));
	keys[0].in = is_one_of(state, waiting_states, lengthof(waiting_states));
	keys[1].in = is_one_of(state, in_flight_states, lengthof(in_flight_states));
	keys[0].nulls[1] = keys[1].nulls[1] = login == NULL;
	if (!keys[0].in && !keys[1].in)
		return;
	keys[0].values[0] = UInt32GetDatum(lpu_text_hash(account));
	keys[1].values[0] = CStringGetTextDatum(account);
	if (login == NULL)
		return;
	login = lpu_login_lower(login);
	keys[0].values[1] = UInt32GetDatum(lpu_text_hash(login));
	keys[1].values[1] = CStringGetTextDatum(login);
}

/* Lock a row that was found, as it was found. */
static bool
lock_row(const lpu_table *table, TupleTableSlot *slot, bool wait)
{
	ItemPointerData place = slot->tts_tid;
	TM_FailureData failure;

	return table_tuple_lock(table->relation, &place, GetActiveSnapshot(), slot, GetCurrentCommandId(false),
							LockTupleNoKeyExclusive, wait ? LockWaitBlock : LockWaitSkip, 0, &failure) == TM_Ok;
}

static List *
index_row(lpu_stored *stored)
{
	lpu_table  *table = stored->requests;
	lpu_entry	keys[2];

	make_keys(stored, keys);
	lpu_table_entries(table, stored->values, stored->nulls, keys, stored->entries);
	return lpu_table_index(table, stored->slot, stored->entries, true);
}

/*
 * As lpu_stored_update(), for a table with BEFORE triggers or generated columns: the executor knows what these do. A row
 * that was kept from being "sending" must not be sent: it is looked at again.
 */
static lpu_stored_result
update_by_executor(lpu_stored *stored, bool wait)
{
	lpu_table  *table = stored->requests;
	bool		isnull;
	int64		id = DatumGetInt64(lpu_stored_value(stored, LPU_COL_ID, &isnull));
	char	   *state;
	EPQState	epq;
	bool		written;

	MemoryContextSwitchTo(stored->context);
	state = lpu_stored_text(stored, LPU_COL_STATE);
	if (!lock_row(table, stored->by_id.slot, wait))
		return LPU_STORED_CHANGED;
	LPU_EVAL_PLAN_QUAL_INIT(&epq, table->estate);
	ExecSimpleRelationUpdate(table->target, table->estate, &epq, stored->by_id.slot, stored->slot);
	EvalPlanQualEnd(&epq);
	CommandCounterIncrement();
	written = lpu_stored_find(stored, id, NULL) && strcmp(lpu_stored_text(stored, LPU_COL_STATE), state) == 0;
	stored->place = stored->by_id.slot->tts_tid;
	return written ? LPU_STORED_WRITTEN : LPU_STORED_REFUSED;
}

static lpu_stored_result
update_directly(lpu_stored *stored, bool wait)
{
	lpu_table  *table = stored->requests;
	ItemPointerData place = stored->by_id.slot->tts_tid;
	TM_FailureData failure;
	LockTupleMode mode;
	LPU_UPDATED_INDEXES updated;
	List	   *recheck = NIL;

	if (table_tuple_update(table->relation, &place, stored->slot, GetCurrentCommandId(true), GetActiveSnapshot(),
						   InvalidSnapshot, wait, &failure, &mode, &updated) != TM_Ok)
		return LPU_STORED_CHANGED;
	stored->place = stored->slot->tts_tid;
	if (LPU_ALL_INDEXES_UPDATED(updated))
		recheck = index_row(stored);
	if (table->target->ri_TrigDesc != NULL)
		ExecARUpdateTriggers(table->estate, table->target, NULL, NULL, &place, NULL, stored->slot, recheck, NULL, false);
	return LPU_STORED_WRITTEN;
}

/* Has somebody made more of the table than we know? */
static bool
needs_executor(const lpu_table *table)
{
	TriggerDesc *triggers = table->target->ri_TrigDesc;
	TupleConstr *constraints = RelationGetDescr(table->relation)->constr;

	return (triggers != NULL && triggers->trig_update_before_row) ||
		(constraints != NULL && constraints->has_generated_stored);
}

lpu_stored_result
lpu_stored_update(lpu_stored *stored, bool wait)
{
	lpu_table  *table = stored->requests;
	MemoryContext caller = MemoryContextSwitchTo(stored->row_context);
	lpu_stored_result result;

	ExecStoreHeapTuple(heap_form_tuple(RelationGetDescr(table->relation), stored->values, stored->nulls), stored->slot,
					   false);
	stored->slot->tts_tableOid = RelationGetRelid(table->relation);
	lpu_table_check(table, stored->slot, stored->nulls);
	if (needs_executor(table))
		result = update_by_executor(stored, wait);
	else
		result = update_directly(stored, wait);
	MemoryContextSwitchTo(caller);
	return result;
}

/* ---------------------------------------------------------------------------------------------------- payloads */

char *
lpu_stored_payload(lpu_stored *stored, int64 id, ItemPointerData *place)
{
	bool		isnull;
	Datum		body;

	ItemPointerSetInvalid(place);
	if (!find_id(&stored->payload, id, stored->payloads->numbers[0], NULL))
		return NULL;
	*place = stored->payload.slot->tts_tid;
	body = slot_getattr(stored->payload.slot, stored->payloads->numbers[1], &isnull);
	return isnull ? NULL : TextDatumGetCString(body);
}

/* False if somebody else has changed it. */
static bool
delete_payload(lpu_stored *stored)
{
	lpu_table  *table = stored->payloads;
	TriggerDesc *triggers = table->target->ri_TrigDesc;
	ItemPointerData place = stored->payload.slot->tts_tid;
	TM_FailureData failure;
	EPQState	epq;

	if (triggers != NULL && triggers->trig_delete_before_row)
	{
		if (!lock_row(table, stored->payload.slot, true))
			return false;
		LPU_EVAL_PLAN_QUAL_INIT(&epq, table->estate);
		ExecSimpleRelationDelete(table->target, table->estate, &epq, stored->payload.slot);
		EvalPlanQualEnd(&epq);
		return true;
	}
	if (table_tuple_delete(table->relation, &place, GetCurrentCommandId(true), GetActiveSnapshot(), InvalidSnapshot,
						   true, &failure, false) != TM_Ok)
		return false;
	if (triggers != NULL)
		ExecARDeleteTriggers(table->estate, table->target, &place, NULL, NULL, false);
	return true;
}

void
lpu_stored_drop_payload(lpu_stored *stored, int64 id, const ItemPointerData *place)
{
	/* again, if somebody has changed it while we waited */
	while (find_id(&stored->payload, id, stored->payloads->numbers[0], place) && !delete_payload(stored))
	{
		CHECK_FOR_INTERRUPTS();
		place = NULL;
	}
}

/*
 * account.c: the users of an account, in the form in which they are compared.
 *
 * The users come from one listing, with the attributes that the source has, or from any relation
 * with the columns of lp.users, read with the rights of the caller, so that a mapping can be tried
 * without a network. An attribute that the API omits, or returns as null or as "", is empty.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "base/extension.h"
#include "remote/fetch.h"
#include "sync/rows.h"
#include "user/login.h"

/* The fixed columns of the account; the last may be missing in a relation. */
enum
{
	ID, LOGIN, LOGIN_NAME, ENABLED, UPDATED
};

/* Attributes to read: these, followed by the values. */
enum
{
	READ_ID, READ_LOGIN_NAME, READ_ENABLED, READ_UPDATED, READ_FIXED
};

/* Receiver of users. */
typedef struct UserReceiver
{
	DestReceiver receiver;
	const LpuSyncRows *source;
	LpuSyncRows *rows;
	MemoryContext row_context;
	Datum	   *values;
	bool	   *nulls;
	HTAB	   *seen;			/* ids of the users that were put */
	bool		listed;			/* a group comes as its id, not as a set */
} UserReceiver;

/* ----- the shape of the rows ----- */

static LpuSyncRows *
new_rows(const LpuSyncRows *source)
{
	LpuSyncRows *rows = palloc0(sizeof(LpuSyncRows));
	int			number = LPU_ACCOUNT_COLUMNS;
	int			i;

	rows->nvalues = source->nvalues;
	rows->values = palloc0(Max(source->nvalues, 1) * sizeof(LpuSyncValue));
	for (i = 0; i < source->nvalues; i++)
	{
		LpuSyncValue *value = &rows->values[i];

		value->column = source->values[i].column;
		value->form = source->values[i].form;
		if (!lpu_sync_is_compared(value->column))
			continue;
		value->value = ++number;
		value->folded = lpu_sync_form_folds(value->form) ? ++number : 0;
	}
	rows->desc = CreateTemplateTupleDesc(number);
	TupleDescInitEntry(rows->desc, ID + 1, "id", INT8OID, -1, 0);
	TupleDescInitEntry(rows->desc, LOGIN + 1, "login", TEXTOID, -1, 0);
	TupleDescInitEntry(rows->desc, LOGIN_NAME + 1, "login_name", TEXTOID, -1, 0);
	TupleDescInitEntry(rows->desc, ENABLED + 1, "enabled", BOOLOID, -1, 0);
	TupleDescInitEntry(rows->desc, UPDATED + 1, "updated", TEXTOID, -1, 0);
	for (i = 0; i < rows->nvalues; i++)
	{
		const LpuSyncValue *value = &rows->values[i];
		Oid			type = lpu_sync_form_type(value->form);

		if (value->value)
			TupleDescInitEntry(rows->desc, value->value, psprintf("v%d", i), type, -1, 0);
		if (value->folded)
			TupleDescInitEntry(rows->desc, value->folded, psprintf("c%d", i), type, -1, 0);
	}
	for (i = 0; i < number; i++)
		if (OidIsValid(TupleDescAttr(rows->desc, i)->attcollation))
			TupleDescInitEntryCollation(rows->desc, i + 1, C_COLLATION_OID);
	rows->store = tuplestore_begin_heap(false, false, work_mem);
	return rows;
}

static void
start_receiver(UserReceiver *r, const LpuSyncRows *source)
{
	HASHCTL		control = {.keysize = sizeof(int64),.entrysize = sizeof(int64),
	.hcxt = CurrentMemoryContext};

	r->source = source;
	r->rows = new_rows(source);
	r->values = palloc(r->rows->desc->natts * sizeof(Datum));
	r->nulls = palloc(r->rows->desc->natts * sizeof(bool));
	r->row_context = AllocSetContextCreate(CurrentMemoryContext, "lpusers account row",
										   ALLOCSET_DEFAULT_SIZES);
	r->seen = hash_create("lpusers account ids", 1024, &control,
						  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static LpuSyncRows *
end_receiver(UserReceiver *r)
{
	hash_destroy(r->seen);
	MemoryContextDelete(r->row_context);
	return r->rows;
}

/* ----- one user ----- */

/* Substitute for a missing attribute; false: null. */
static bool
empty_value(LpuSyncForm form, Datum *value)
{
	switch (form)
	{
		case LPU_FORM_TEXT:
		case LPU_FORM_FOLDED:
			*value = CStringGetTextDatum("");
			return true;
		case LPU_FORM_BOOLEAN:
			*value = BoolGetDatum(false);
			return true;
		case LPU_FORM_SET:
			*value = PointerGetDatum(construct_empty_array(INT8OID));
			return true;
		case LPU_FORM_NAMES:
			*value = PointerGetDatum(construct_empty_array(TEXTOID));
			return true;
		case LPU_FORM_NUMBER:
			break;
	}
	return false;
}

static void
put_field(UserReceiver *r, int number, Datum value)
{
	r->values[number - 1] = value;
	r->nulls[number - 1] = false;
}

static void
put_value(UserReceiver *r, const LpuSyncValue *value, bool isnull, Datum given)
{
	if (isnull)
	{
		if (!empty_value(value->form, &given))
			return;
	}
	else
	{
		if (r->listed && value->column->attribute->kind == LPU_GROUP)
			given = PointerGetDatum(construct_array(&given, 1, INT8OID, sizeof(int64),
													FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
		given = lpu_sync_normalize(value->form, given);
	}
	put_field(r, value->value, given);
	if (value->folded)
		put_field(r, value->folded, lpu_sync_fold(value->form, given));
}

/* Return true if this id has not been seen before. */
static bool
is_new(UserReceiver *r, Datum id)
{
	int64		key = DatumGetInt64(id);
	bool		found;

	(void) hash_search(r->seen, &key, HASH_ENTER, &found);
	return !found;
}

/*
 * A user without an id cannot be linked, and a user without a login cannot be found. A list that
 * changes while it is read may have a user twice: the second is skipped.
 */
static void
put_user(UserReceiver *r, const Datum *values, const bool *nulls)
{
	LpuSyncRows *rows = r->rows;
	MemoryContext caller = MemoryContextSwitchTo(r->row_context);
	int			n = READ_FIXED;
	int			i;

	if (!nulls[READ_ID] && is_new(r, values[READ_ID]))
	{
		memset(r->nulls, true, rows->desc->natts * sizeof(bool));
		put_field(r, ID + 1, values[READ_ID]);
		if (!nulls[READ_LOGIN_NAME])
		{
			put_field(r, LOGIN_NAME + 1, values[READ_LOGIN_NAME]);
			put_field(r, LOGIN + 1, lpu_sync_fold(LPU_FORM_FOLDED, values[READ_LOGIN_NAME]));
		}
		put_field(r, ENABLED + 1, BoolGetDatum(!nulls[READ_ENABLED] &&
											   DatumGetBool(values[READ_ENABLED])));
		if (!nulls[READ_UPDATED])
			put_field(r, UPDATED + 1, values[READ_UPDATED]);
		for (i = 0; i < rows->nvalues; i++)
			if (rows->values[i].value)
			{
				put_value(r, &rows->values[i], nulls[n], values[n]);
				n++;
			}
		tuplestore_putvalues(rows->store, rows->desc, r->values, r->nulls);
		rows->count++;
	}
	MemoryContextSwitchTo(caller);
	MemoryContextReset(r->row_context);
}

/* ----- the listing ----- */

static LpuColumn
column_of(const char *attribute, LpuValueKind kind, Oid type)
{
	LpuColumn	column = {attribute, attribute, NULL, kind, false, false, type, -1};

	return column;
}

/* The account as a foreign table with only the required columns. */
static LpuForeignTable *
account_table(const LpuSyncRows *rows)
{
	LpuForeignTable *table = palloc0(sizeof(LpuForeignTable));
	int			i;

	table->resource = lpu_resource_of(LPU_USERS);
	table->name = table->qualified_name = lpu_resource_names[LPU_USERS];
	table->columns = palloc0((READ_FIXED + rows->nvalues) * sizeof(LpuColumn));
	table->columns[READ_ID] = column_of("id", LPU_ID, INT8OID);
	table->columns[READ_LOGIN_NAME] = column_of("loginName", LPU_LOGIN, TEXTOID);
	table->columns[READ_ENABLED] = column_of("isEnabled", LPU_BOOLEAN, BOOLOID);
	table->columns[READ_UPDATED] = column_of("dateUpdated", LPU_TEXT, TEXTOID);
	table->ncolumns = READ_FIXED;
	for (i = 0; i < rows->nvalues; i++)
	{
		const LpuSyncValue *value = &rows->values[i];
		const LpuAttribute *attribute = value->column->attribute;

		if (value->value)
			table->columns[table->ncolumns++] =
				column_of(attribute->name, attribute->kind,
						  attribute->kind == LPU_GROUP ? INT8OID : lpu_sync_form_type(value->form));
	}
	return table;
}

/*
 * Read the users of an account in the form of a source, in the current memory context. Sends one
 * request. Raises if the list is refused or incomplete, since users missing from it would count as
 * absent.
 */
LpuSyncRows *
lpu_sync_read_account(const LpuSync *sync, const LpuSyncRows *source, const LpuOptions *options)
{
	UserReceiver receiver = {.listed = true};
	LpuFetchPlan plan = {0};
	LpuForeignTable *table;
	LpuFetch   *fetch;
	MemoryContext caller;
	Datum	   *values;
	bool	   *nulls;
	bool		more = true;

	start_receiver(&receiver, source);
	table = account_table(receiver.rows);
	plan.columns = bms_add_range(NULL, 0, table->ncolumns - 1);
	fetch = lpu_fetch_new(table, options, &plan);
	values = palloc(table->ncolumns * sizeof(Datum));
	nulls = palloc(table->ncolumns * sizeof(bool));
	lpu_fetch_list(fetch);
	while (more)
	{
		CHECK_FOR_INTERRUPTS();
		caller = MemoryContextSwitchTo(receiver.row_context);
		more = lpu_fetch_next(fetch, values, nulls);
		MemoryContextSwitchTo(caller);
		if (more)
			put_user(&receiver, values, nulls);
	}
	return end_receiver(&receiver);
}

/* ----- a relation in place of the account ----- */

/* Return true if a relation has a column. */
bool
lpu_sync_relation_has(Oid relation, const char *column)
{
	return get_attnum(relation, column) > 0;
}

/* Append the expression for a required column. */
static void
append_column(StringInfo query, Oid relation, const char *column, LpuValueKind kind, bool names)
{
	AttrNumber	number = get_attnum(relation, column);

	if (number <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("relation \"%s\" has no column \"%s\"", get_rel_name(relation), column),
				 errdetail("Every attribute of the source is compared with the relation.")));
	if (!lpu_sync_type_fits(kind, names, get_atttype(relation, number)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("column \"%s\" of relation \"%s\" has the wrong type", column,
						get_rel_name(relation))));
	appendStringInfo(query, ", %s", lpu_sync_expression(kind, names, get_atttype(relation, number),
														false, quote_identifier(column)));
}

static char *
write_account_query(const LpuSyncRows *rows, Oid relation)
{
	char	   *name = lpu_relation_name(relation);
	StringInfoData query;
	int			i;

	initStringInfo(&query);
	append_column(&query, relation, "id", LPU_ID, false);
	appendStringInfoString(&query, "::pg_catalog.int8");
	append_column(&query, relation, "login_name", LPU_LOGIN, false);
	append_column(&query, relation, "is_enabled", LPU_BOOLEAN, false);
	appendStringInfoString(&query, ", NULL::pg_catalog.text");
	for (i = 0; i < rows->nvalues; i++)
	{
		const LpuSyncValue *value = &rows->values[i];
		const LpuAttribute *attribute = value->column->attribute;
		bool		names = value->form == LPU_FORM_NAMES;

		if (value->value)
			append_column(&query, relation,
						  names ? value->column->name : lpu_column_of_attribute(attribute->name),
						  attribute->kind, names);
	}
	appendStringInfo(&query, " FROM %s", name);
	if (lpu_sync_relation_has(relation, "deleted"))
		appendStringInfoString(&query, " WHERE deleted IS NOT TRUE");
	/* without the first comma */
	return psprintf("SELECT %s", query.data + 1);
}

static bool
receive_account(TupleTableSlot *slot, DestReceiver *self)
{
	slot_getallattrs(slot);
	put_user((UserReceiver *) self, slot->tts_values, slot->tts_isnull);
	return true;
}

static void
start_account(DestReceiver *self, int operation, TupleDesc desc)
{
}

static void
end_account(DestReceiver *self)
{
}

/* Likewise, for a relation that the current user may read. */
LpuSyncRows *
lpu_sync_read_against(const LpuSync *sync, const LpuSyncRows *source, Oid relation)
{
	UserReceiver receiver = {
		.receiver = {receive_account, start_account, end_account, end_account, DestNone}
	};

	start_receiver(&receiver, source);
	lpu_sync_read_as(GetUserId(), write_account_query(receiver.rows, relation), (Datum) 0,
					 &receiver.receiver);
	return end_receiver(&receiver);
}

/* ----- for SQL ----- */

/* Receiver of rows that are kept as they are. */
typedef struct RowReceiver
{
	DestReceiver receiver;
	MemoryContext context;
	LpuSyncRows *rows;
} RowReceiver;

static void
start_keeping(DestReceiver *self, int operation, TupleDesc desc)
{
	RowReceiver *receiver = (RowReceiver *) self;
	MemoryContext caller = MemoryContextSwitchTo(receiver->context);

	receiver->rows->desc = CreateTupleDescCopy(desc);
	MemoryContextSwitchTo(caller);
}

static bool
keep_row(TupleTableSlot *slot, DestReceiver *self)
{
	LpuSyncRows *rows = ((RowReceiver *) self)->rows;

	tuplestore_puttupleslot(rows->store, slot);
	rows->count++;
	return true;
}

/* Return the rows of a statement, which are to be registered for another one. */
LpuSyncRows *
lpu_sync_keep_rows(const char *sql, const LpuParameters *parameters)
{
	RowReceiver receiver = {
		.receiver = {keep_row, start_keeping, end_account, end_account, DestNone},
		.context = CurrentMemoryContext,
		.rows = palloc0(sizeof(LpuSyncRows))
	};

	receiver.rows->store = tuplestore_begin_heap(false, false, work_mem);
	(void) lpu_run_once(sql, parameters, &receiver.receiver);
	return receiver.rows;
}

/* A tuplestore may have a file, which belongs to the statement and not to a memory context. */
void
lpu_sync_forget(LpuSyncRows *rows, const char *name)
{
	(void) SPI_unregister_relation(name);
	tuplestore_end(rows->store);
	rows->store = NULL;
}

/* Make rows known to SPI, which is connected, under a name. */
void
lpu_sync_register(const LpuSyncRows *rows, const char *name)
{
	EphemeralNamedRelation relation = palloc0(sizeof(EphemeralNamedRelationData));
	int			result;

	relation->md.name = pstrdup(name);
	relation->md.reliddesc = InvalidOid;
	relation->md.tupdesc = rows->desc;
	relation->md.enrtype = ENR_NAMED_TUPLESTORE;
	relation->md.enrtuples = rows->count;
	relation->reldata = rows->store;
	(void) SPI_unregister_relation(name);
	result = SPI_register_relation(relation);
	if (result != SPI_OK_REL_REGISTER)
		elog(ERROR, "could not register a relation: %s", SPI_result_code_string(result));
}

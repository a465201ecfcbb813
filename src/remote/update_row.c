/*
 * update_row.c: what an UPDATE or DELETE of a foreign table does to one user.
 *
 * Knows the row as the statement read it and as it is to be, and compares both
 * with what the account has now. What the statement or a trigger sets is laid
 * over the entity; null takes an attribute away, everything else stays, also
 * what no column shows.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"

#include "remote/column_value.h"
#include "remote/update_row.h"
#include "user/compare.h"
#include "user/datum_to_json.h"
#include "user/merge.h"

static bool
has_rule(const LpuColumn *column, int rules)
{
	return column->def != NULL && (column->def->rules & rules);
}

/*
 * Raise an error if the column cannot be set: it shows a read-only attribute or the whole
 * entity.
 */
void
lpu_delta_check_column(const LpuForeignTable *table, const LpuColumn *column)
{
	if (column->whole)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("column \"%s\" of foreign table \"%s\" cannot be updated", column->name,
						table->name),
				 errdetail("It shows the whole entity."),
				 errhint("Set the columns of single attributes, or call lp_update_users().")));
	if (has_rule(column, LPU_READ_ONLY))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("column \"%s\" of foreign table \"%s\" cannot be updated", column->name,
						table->name),
				 errdetail("Attribute \"%s\" is read-only.", column->attribute)));
}

/*
 * Return true for columns whose values show that another client has changed the user: not those
 * that change by themselves.
 */
bool
lpu_delta_tells_change(const LpuColumn *column)
{
	return column->name != NULL && !column->whole && !column->secret &&
		strcmp(column->attribute, "dateUpdated") != 0;
}

/* ----- the row ----- */

/* The value of a column as jsonb, as its type suggests; NULL for null. */
static JsonbValue *
as_json(const LpuColumn *column, Datum value, bool isnull)
{
	LpuAttribute any = {column->attribute, strlen(column->attribute), LPU_ANY, 0};
	Oid			type = getBaseType(column->type);
	JsonbValue *json = palloc(sizeof(JsonbValue));
	StringInfoData text;
	Jsonb	   *jsonb;

	lpu_datum_unify_json(&type, &value, &isnull);
	if (isnull)
		return NULL;
	initStringInfo(&text);
	if (type != JSONBOID && lpu_datum_write(&text, &any, type, value, LPU_USER_UPDATE) != NULL)
		elog(ERROR, "a value of column \"%s\" has no text", column->name);
	jsonb = type == JSONBOID ? DatumGetJsonbP(value) :
		DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text.data)));
	if (!JsonbExtractScalar(&jsonb->root, json))
	{
		json->type = jbvBinary;
		json->val.binary.data = &jsonb->root;
		json->val.binary.len = VARSIZE(jsonb) - VARHDRSZ;
	}
	return json;
}

/* Return true if a value is written as that of the row. */
static bool
is_same_value(const LpuRowChange *d, HeapTuple row, int i, Datum value, bool isnull)
{
	Form_pg_attribute attribute = TupleDescAttr(d->update->desc, i);
	bool		was_null;
	Datum		was = heap_getattr(row, i + 1, d->update->desc, &was_null);

	return isnull == was_null &&
		(isnull || datum_image_eq(was, value, attribute->attbyval, attribute->attlen));
}

/* Return true if the row has a value with another meaning than this one. */
static bool
differs(const LpuRowChange *d, HeapTuple row, int i, Datum value, bool isnull)
{
	const LpuColumn *column = &d->update->writer->table->columns[i];
	bool		was_null;
	Datum		was;

	if (is_same_value(d, row, i, value, isnull))
		return false;
	was = heap_getattr(row, i + 1, d->update->desc, &was_null);
	return !lpu_value_means_same(column->kind, as_json(column, was, was_null),
								 as_json(column, value, isnull));
}

/* Find the columns that are set. A trigger may have set any. */
static Bitmapset *
set_columns(const LpuRowChange *d, TupleTableSlot *after)
{
	const LpuForeignTable *table = d->update->writer->table;
	Bitmapset  *columns = bms_copy(d->update->list->columns);
	int			i;

	slot_getallattrs(after);
	for (i = 0; d->update->by_trigger && i < table->ncolumns; i++)
		if (table->columns[i].name != NULL && !bms_is_member(i, columns) &&
			!is_same_value(d, d->before, i, after->tts_values[i], after->tts_isnull[i]))
		{
			lpu_delta_check_column(table, &table->columns[i]);
			columns = bms_add_member(columns, i);
		}
	return columns;
}

/* What is set, as a JSON object. */
static char *
write_members(const LpuRowChange *d, TupleTableSlot *after)
{
	const LpuWriterState *writer = d->update->writer;
	StringInfoData out;
	int			i = -1;

	initStringInfo(&out);
	while ((i = bms_next_member(d->columns, i)) >= 0)
	{
		const LpuColumn *column = &writer->table->columns[i];
		bool		isnull;
		Datum		value = slot_getattr(after, i + 1, &isnull);
		const char *problem = lpu_writer_put(writer, &out, column, value, isnull);

		if (problem != NULL)
			lpu_writer_raise_value(writer, column, problem, psprintf("User %s", lpu_delta_name(d)));
	}
	appendStringInfoString(&out, out.len > 0 ? "}" : "{}");
	return out.data;
}

/*
 * Set up the change of one row: the user's id, the row as it was read (a composite value), and
 * the new row (NULL: deleted). Allocated in the current memory context. Raises for a value that
 * its attribute does not take.
 */
void
lpu_delta_init(LpuRowChange *d, const LpuUpdate *update, int64 id, Datum before,
			   TupleTableSlot *after)
{
	HeapTupleHeader header = DatumGetHeapTupleHeader(before);
	HeapTupleData tuple;

	tuple.t_len = HeapTupleHeaderGetDatumLength(header);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuple.t_data = header;
	d->update = update;
	d->id = id;
	d->refused = d->sent = false;
	d->before = heap_copytuple(&tuple);
	d->after = NULL;
	d->columns = NULL;
	d->members = NULL;
	if (after == NULL)
		return;
	d->after = ExecCopySlotHeapTuple(after);
	d->columns = set_columns(d, after);
	d->members = write_members(d, after);
}

/* Return the login that was read, or NULL if the table has none. */
char *
lpu_delta_login(const LpuRowChange *d)
{
	const LpuForeignTable *table = d->update->writer->table;
	bool		isnull = true;
	Datum		login = (Datum) 0;

	if (table->login_column > 0)
		login = heap_getattr(d->before, table->login_column, d->update->desc, &isnull);
	return isnull ? NULL :
		lpu_datum_text(getBaseType(table->columns[table->login_column - 1].type), login);
}

/* Return the user for messages, allocated in the current memory context. */
char *
lpu_delta_name(const LpuRowChange *d)
{
	LpuUserIdentity user = {.login_name = lpu_delta_login(d),.id = d->id};

	return lpu_writer_name(&user);
}

/* Return true if the user was deleted when the statement read it. */
bool
lpu_delta_was_deleted(const LpuRowChange *d)
{
	const LpuForeignTable *table = d->update->writer->table;
	bool		isnull = true;
	Datum		deleted = (Datum) 0;

	if (table->deleted_column > 0 && table->columns[table->deleted_column - 1].type == BOOLOID)
		deleted = heap_getattr(d->before, table->deleted_column, d->update->desc, &isnull);
	return !isnull && DatumGetBool(deleted);
}

/* Return true if the statement sets the attribute. */
bool
lpu_delta_sets(const LpuRowChange *d, const char *attribute)
{
	int			column = lpu_table_column(d->update->writer->table, attribute);

	return column > 0 && bms_is_member(column - 1, d->columns);
}

/* ----- comparing ----- */

/*
 * Compare the user as it is now, as values of columns, with what the statement has read. Return
 * an attribute that another client has changed, or NULL. A user who is as wanted since a request
 * that was refused has been changed by this request.
 */
const char *
lpu_delta_conflict(const LpuRowChange *d, const Datum *values, const bool *nulls)
{
	const LpuForeignTable *table = d->update->writer->table;
	int			i;

	if (d->sent && lpu_delta_is_there(d, values, nulls))
		return NULL;
	for (i = 0; i < table->ncolumns; i++)
	{
		const LpuColumn *column = &table->columns[i];

		if (!lpu_delta_tells_change(column) || has_rule(column, LPU_HIDDEN) ||
			!differs(d, d->before, i, values[i], nulls[i]))
			continue;
		/* the date of a password, say, may be our own doing */
		if (!d->refused || !has_rule(column, LPU_READ_ONLY))
			return column->attribute;
	}
	return NULL;
}

/* Return true if the user is now as it is to be, and was not when the statement read it. */
bool
lpu_delta_is_there(const LpuRowChange *d, const Datum *values, const bool *nulls)
{
	const LpuForeignTable *table = d->update->writer->table;
	bool		changed = false;
	int			i = -1;

	while ((i = bms_next_member(d->columns, i)) >= 0)
	{
		if (!lpu_delta_tells_change(&table->columns[i]) || has_rule(&table->columns[i], LPU_HIDDEN))
			continue;
		if (differs(d, d->after, i, values[i], nulls[i]))
			return false;
		changed |= differs(d, d->before, i, values[i], nulls[i]);
	}
	return changed;
}

/* ----- merging ----- */

/* Return the entity with what is set laid over it, as text in the current memory context. */
char *
lpu_delta_merge(const LpuRowChange *d, Jsonb *entity)
{
	Datum		members = DirectFunctionCall1(jsonb_in, CStringGetDatum(d->members));
	Jsonb	   *merged = lpu_user_lay(entity, DatumGetJsonbP(members));

	return JsonbToCString(NULL, &merged->root, VARSIZE(merged));
}

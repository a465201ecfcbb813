/*
 * returning.c: a written row, completed from the response.
 *
 * What RETURNING and row triggers see of a user who was created or updated. The response to such
 * a request is the user, or an array of that one; a response that is neither, or shows another
 * user, leaves the row as it was sent.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "executor/tuptable.h"
#include "utils/lsyscache.h"

#include "base/encoding.h"
#include "json/array_reader.h"
#include "remote/column_value.h"
#include "remote/returning.h"
#include "user/datum_to_json.h"
#include "user/json_to_datum.h"

struct LpuReturnedUsers
{
	const LpuForeignTable *table;
	const char **names;			/* of the attribute behind each column; then
								 * the id, and all secrets */
	int			nnames;
	LpuConverter **converters;
	const LpuColumn *converting;	/* for messages */
};

/* Return what completes rows of this table, in the current memory context. */
LpuReturnedUsers *
lpu_answered_new(const LpuForeignTable *table)
{
	LpuReturnedUsers *a = palloc0(sizeof(LpuReturnedUsers));
	int			i;

	a->table = table;
	a->names = palloc((table->ncolumns + 1 + lpu_nattributes) * sizeof(char *));
	a->converters = palloc0(Max(table->ncolumns, 1) * sizeof(LpuConverter *));
	for (i = 0; i < table->ncolumns; i++)
	{
		const LpuColumn *column = &table->columns[i];

		a->names[i] = column->name ? column->attribute : "";
		if (column->name != NULL)
			a->converters[i] = lpu_converter_new(column->kind, column->type, column->typmod);
	}
	a->names[table->ncolumns] = "id";
	a->nnames = lpu_attribute_secrets(a->names, table->ncolumns + 1);
	return a;
}

static void
returned_value_context(void *arg)
{
	const LpuReturnedUsers *a = arg;

	errcontext("column \"%s\" (attribute \"%s\") of foreign table \"%s\", in the response to a request that was carried out",
			   a->converting->name, a->converting->attribute, a->table->name);
}

static bool
is_hidden(const LpuColumn *column)
{
	return column->def != NULL && (column->def->rules & LPU_HIDDEN);
}

/* Return true if the element is the user with this id. */
static bool
is_written_user(const LpuReturnedUsers *a, const LpuReader *reader, int64 id)
{
	const char *text = lpu_value_text(&lpu_reader_values(reader)[a->table->ncolumns]);
	int64		answered;

	return text !=NULL && lpu_text_as_int64(text, &answered) && answered == id;
}

/* Take the secrets out of entities in a row as it was sent. */
static void
hide_secrets(LpuReturnedUsers *a, Datum *values, bool *nulls)
{
	int			i;

	for (i = 0; i < a->table->ncolumns; i++)
	{
		const LpuColumn *column = &a->table->columns[i];
		LpuValue	value = {LPU_VALUE_NESTED};
		size_t		length;

		nulls[i] |= column->secret;
		if (column->name == NULL || !column->whole || nulls[i])
			continue;
		value.text = lpu_writer_utf8(lpu_datum_text(getBaseType(column->type), values[i]), &length);
		value.length = length;
		value = lpu_value_without_secrets(&value, NULL, 0);
		nulls[i] = lpu_convert(a->converters[i], &value, &values[i]);
	}
}

static void
read_values(LpuReturnedUsers *a, LpuReader *reader, Datum *values, bool *nulls)
{
	ErrorContextCallback context = {error_context_stack, returned_value_context, a};
	const LpuValue *found = lpu_reader_values(reader);
	int			i;

	error_context_stack = &context;
	for (i = 0; i < a->table->ncolumns; i++)
	{
		a->converting = &a->table->columns[i];
		if (a->converting->name == NULL || a->converting->secret || is_hidden(a->converting))
			continue;
		if (a->converting->whole)
		{
			LpuValue	entity = lpu_value_without_secrets(lpu_reader_whole(reader),
														   found + a->table->ncolumns + 1,
														   a->nnames - a->table->ncolumns - 1);

			nulls[i] = lpu_convert(a->converters[i], &entity, &values[i]);
		}
		else if (found[i].type != LPU_VALUE_ABSENT)
			nulls[i] = lpu_convert(a->converters[i], &found[i], &values[i]);
	}
	error_context_stack = context.previous;
}

/*
 * Complete the row of a user that was just written from the response: values that the account has
 * set or changed, such as the id. A response that is another user than the one with this id is not
 * taken. Values that the response lacks or hides stay as they are; secrets become null. Raises for
 * a value that its column does not take. May use the current memory context.
 */
void
lpu_answered_complete(LpuReturnedUsers *a, const LpuApiAnswer *answer, int64 id,
					  TupleTableSlot *slot)
{
	TupleDesc	desc = slot->tts_tupleDescriptor;
	LpuReader  *reader = lpu_reader_new(a->names, a->nnames, true);
	Datum	   *values = palloc(desc->natts * sizeof(Datum));
	bool	   *nulls = palloc(desc->natts * sizeof(bool));
	MemoryContext caller;
	HeapTuple	tuple;

	slot_getallattrs(slot);
	memcpy(values, slot->tts_values, desc->natts * sizeof(Datum));
	memcpy(nulls, slot->tts_isnull, desc->natts * sizeof(bool));
	lpu_reader_feed(reader, answer->body, answer->body_length);
	lpu_reader_end(reader);
	hide_secrets(a, values, nulls);
	if (lpu_reader_next(reader) == LPU_READER_ELEMENT && is_written_user(a, reader, id))
		read_values(a, reader, values, nulls);

	/* the slot frees its tuple itself: it must not be freed before */
	caller = MemoryContextSwitchTo(slot->tts_mcxt);
	tuple = heap_form_tuple(desc, values, nulls);
	MemoryContextSwitchTo(caller);
	ExecForceStoreHeapTuple(tuple, slot, true);
}

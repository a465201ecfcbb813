/*
 * column_value.c: the values of a row as JSON of a writing request.
 *
 * A column's value is written as its attribute needs it. Errors name the column and say how many
 * users of the statement are done. It sends nothing.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"

#include "base/encoding.h"
#include "remote/column_value.h"
#include "user/datum_to_json.h"

/*
 * Return text in the database's encoding as UTF-8, in the current memory context, and set its
 * length. Raises 22021 if that is not possible.
 */
char *
lpu_writer_utf8(char *text, size_t *length)
{
	char	   *utf8;

	*length = strlen(text);
	utf8 = lpu_text_to_utf8(text, length);
	if (utf8 == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE),
				 errmsg("the users cannot be sent as UTF-8"),
				 errhidestmt(true), errhidecontext(true)));
	return utf8;
}

/* Raise 22023 for a column's value; "whose" says of which row or user it is. */
void
lpu_writer_raise_value(const LpuWriterState *writer, const LpuColumn *column, const char *problem,
					   const char *whose)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for column \"%s\" of foreign table \"%s\"", column->name,
					writer->table->name),
			 errdetail_internal("%s: \"%s\" %s.%s", whose, column->attribute, problem,
								lpu_writer_progress(writer)),
			 errhidestmt(true), errhidecontext(true)));
}

/*
 * Append a column's value to a JSON object as its attribute needs it, null as null; an empty
 * object is begun. Returns what is wrong if the attribute does not take the value, or NULL.
 */
const char *
lpu_writer_put(const LpuWriterState *writer, StringInfo object, const LpuColumn *column,
			   Datum value, bool isnull)
{
	LpuAttribute unknown = {column->attribute, strlen(column->attribute), LPU_ANY, 0};
	Oid			type = getBaseType(column->type);

	lpu_datum_unify_json(&type, &value, &isnull);
	appendStringInfoChar(object, object->len > 0 ? ',' : '{');
	escape_json(object, column->attribute);
	appendStringInfoChar(object, ':');
	if (isnull)
	{
		appendStringInfoString(object, "null");
		return NULL;
	}
	return lpu_datum_write(object, column->def ? column->def : &unknown, type, value,
						   writer->method == LPU_CREATE_USERS ? LPU_USER_CREATE : LPU_USER_UPDATE);
}

/*
 * Return what is wrong with an attribute, for a message; it is named by its column if it has
 * one. NULL for the attribute means the entity.
 */
char *
lpu_writer_complaint(const LpuWriterState *writer, const char *attribute, const char *problem)
{
	int			column = attribute ? lpu_table_column(writer->table, attribute) : 0;

	if (attribute == NULL)
		return psprintf("the entity %s", problem);
	if (column == 0)
		return psprintf("\"%s\" %s, and no column of foreign table \"%s\" has it", attribute,
						problem,
						writer->table->name);
	return psprintf("\"%s\" %s", writer->table->columns[column - 1].name, problem);
}

/* Return one JSON object laid over another, as text: members of the upper one win. */
char *
lpu_writer_lay(Jsonb *lower, const char *upper)
{
	Datum		both = DirectFunctionCall2(jsonb_concat, JsonbPGetDatum(lower),
										   DirectFunctionCall1(jsonb_in, CStringGetDatum(upper)));

	return JsonbToCString(NULL, &DatumGetJsonbP(both)->root, VARSIZE(DatumGetJsonbP(both)));
}

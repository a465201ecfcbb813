/*
 * hidden_attributes.c: attributes that the API does not show, and that an update could wipe out.
 *
 * An update of the API replaces the whole user, and for privacy the API returns some attributes
 * blank. Writing back what was read would erase them. An attribute that is absent, rather than
 * blank, was never set and cannot be lost.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/builtins.h"

#include "remote/hidden_attributes.h"
#include "user/merge.h"

static bool
is_set(const LpuForeignTable *table, const Bitmapset *columns, const char *attribute)
{
	int			i = -1;

	while ((i = bms_next_member(columns, i)) >= 0)
		if (strcmp(table->columns[i].attribute, attribute) == 0)
			return true;
	return false;
}

/* The column that shows an attribute, or the one that would; quoted. */
static const char *
column_of_attribute(const LpuForeignTable *table, const char *attribute)
{
	int			column = lpu_table_column(table, attribute);

	return quote_identifier(column > 0 ? table->columns[column - 1].name :
							lpu_column_of_attribute(attribute));
}

/* What the statement sets already. */
static void
append_set_list(StringInfo out, const LpuForeignTable *table, const LpuSetList *list)
{
	int			i = -1;

	while ((i = bms_next_member(list->columns, i)) >= 0)
		appendStringInfo(out, "%s = %s, ", quote_identifier(table->columns[i].name),
						 list->values[i] ? list->values[i] : "...");
}

/*
 * Append how to identify the users: by a column that an HR table also has; and a placeholder for
 * the condition if not all users were meant.
 */
static void
append_condition(StringInfo out, const LpuForeignTable *table, const LpuSetList *list)
{
	appendStringInfo(out, " FROM your_table e WHERE u.%s = e.%s%s",
					 column_of_attribute(table, table->login_column > 0 ? "loginName" : "id"),
					 table->login_column > 0 ? "email" : "user_id",
					 list->conditional ? " AND ..." : "");
}

/* Return true if the attribute is blank in the response and is not set. */
static bool
would_be_lost(const LpuForeignTable *table, const LpuAttribute *attribute, const Bitmapset *columns,
			  Jsonb *entity)
{
	return lpu_user_hides(entity, attribute) && !is_set(table, columns, attribute->name);
}

/* The statement to write; first, where the table lacks columns for it, how to add them. */
static char *
write_hint(const LpuForeignTable *table, const LpuSetList *list, const char **lost, int nlost)
{
	StringInfoData out;
	int			i;

	initStringInfo(&out);
	for (i = 0; i < nlost; i++)
		if (lpu_table_column(table, lost[i]) == 0)
		{
			appendStringInfo(&out,
							 out.len > 0 ? "," : "Add what is missing (ALTER FOREIGN TABLE %s",
							 table->qualified_name);
			appendStringInfo(&out, " ADD %s text", column_of_attribute(table, lost[i]));
		}
	appendStringInfo(&out, "%sSet it from your own data: UPDATE %s u SET ",
					 out.len > 0 ? "). " : "",
					 table->qualified_name);
	append_set_list(&out, table, list);
	for (i = 0; i < nlost; i++)
		appendStringInfo(&out, "%s%s = e.%s", i > 0 ? ", " : "", column_of_attribute(table, lost[i]),
						 column_of_attribute(table, lost[i]));
	append_condition(&out, table, list);
	return out.data;
}

/*
 * Return the attributes of an entity that are blank in the response and are not among the
 * columns set (numbers less one), as names for a message, and set *hint to the statement to
 * write instead. NULL if there are none.
 */
char *
lpu_hidden_lost(const LpuForeignTable *table, const LpuSetList *list, const Bitmapset *columns,
				Jsonb *entity, char **hint)
{
	const char **lost = palloc(lpu_nattributes * sizeof(char *));
	StringInfoData names;
	int			nlost = 0;
	int			i;

	initStringInfo(&names);
	for (i = 0; i < lpu_nattributes; i++)
		if (would_be_lost(table, &lpu_attributes[i], columns, entity))
		{
			appendStringInfo(&names, "%s\"%s\"", nlost > 0 ? " and " : "", lpu_attributes[i].name);
			lost[nlost++] = lpu_attributes[i].name;
		}
	if (nlost == 0)
		return NULL;
	*hint = write_hint(table, list, lost, nlost);
	return names.data;
}

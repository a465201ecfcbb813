/*
 * foreign_table.c: what an account offers as tables, and how a foreign table shows it.
 *
 * A table has the entities of one kind: users, or what users refer to. Each kind has its
 * attributes (those of users are in attribute.c), and each kind of value has a default type. A
 * foreign table may declare any of them, in any order and with other types, and also attributes
 * that are not listed here.
 */
#include "postgres.h"

#include "catalog/pg_attribute.h"
#include "catalog/pg_foreign_table.h"
#include "foreign/foreign.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "base/error.h"
#include "remote/foreign_table.h"

static const LpuAttribute skill_attributes[] = {
	LPU_ATTRIBUTE("id", LPU_ID, LPU_READ_ONLY),
	LPU_ATTRIBUTE("name", LPU_TEXT, LPU_READ_ONLY),
	LPU_ATTRIBUTE("description", LPU_TEXT, LPU_READ_ONLY),
	LPU_ATTRIBUTE("maxWaitTime", LPU_NUMBER, LPU_READ_ONLY),
	LPU_ATTRIBUTE("skillOrder", LPU_NUMBER, LPU_READ_ONLY),
	LPU_ATTRIBUTE("canTransfer", LPU_BOOLEAN, LPU_READ_ONLY),
	LPU_ATTRIBUTE("lobIds", LPU_IDS, LPU_READ_ONLY),
	LPU_ATTRIBUTE("dateUpdated", LPU_DATE, LPU_READ_ONLY),
	LPU_ATTRIBUTE("deleted", LPU_BOOLEAN, LPU_READ_ONLY),
};
static const int nskill_attributes = lengthof(skill_attributes);

static const LpuAttribute profile_attributes[] = {
	LPU_ATTRIBUTE("id", LPU_ID, LPU_READ_ONLY),
	LPU_ATTRIBUTE("name", LPU_TEXT, LPU_READ_ONLY),
	LPU_ATTRIBUTE("description", LPU_TEXT, LPU_READ_ONLY),
	LPU_ATTRIBUTE("roleTypeId", LPU_NUMBER, LPU_READ_ONLY),
	LPU_ATTRIBUTE("numOfAssignedUsers", LPU_NUMBER, LPU_READ_ONLY),
	LPU_ATTRIBUTE("dateUpdated", LPU_DATE, LPU_READ_ONLY),
};
static const int nprofile_attributes = lengthof(profile_attributes);

static const LpuAttribute agent_group_attributes[] = {
	LPU_ATTRIBUTE("id", LPU_LONG, LPU_READ_ONLY),	/* the root group is -1 */
	LPU_ATTRIBUTE("name", LPU_TEXT, LPU_READ_ONLY),
	LPU_ATTRIBUTE("description", LPU_TEXT, LPU_READ_ONLY),
	LPU_ATTRIBUTE("parentGroupId", LPU_LONG, LPU_READ_ONLY),
	LPU_ATTRIBUTE("isEnabled", LPU_BOOLEAN, LPU_READ_ONLY),
	LPU_ATTRIBUTE("dateUpdated", LPU_DATE, LPU_READ_ONLY),
	LPU_ATTRIBUTE("deleted", LPU_BOOLEAN, LPU_READ_ONLY),
};
static const int nagent_group_attributes = lengthof(agent_group_attributes);

static const LpuAttribute lob_attributes[] = {
	LPU_ATTRIBUTE("id", LPU_ID, LPU_READ_ONLY),
	LPU_ATTRIBUTE("name", LPU_TEXT, LPU_READ_ONLY),
	LPU_ATTRIBUTE("description", LPU_TEXT, LPU_READ_ONLY),
	LPU_ATTRIBUTE("dateUpdated", LPU_DATE, LPU_READ_ONLY),
	LPU_ATTRIBUTE("deleted", LPU_BOOLEAN, LPU_READ_ONLY),
};
static const int nlob_attributes = lengthof(lob_attributes);

/* A contact centre has some thousand users, and some dozen of everything else. */
static const LpuResource resources[] = {
	{LPU_USERS, LPU_LIST_USERS, "list users", lpu_attributes, &lpu_nattributes, 1000},
	{LPU_SKILLS, LPU_LIST_SKILLS, "list skills", skill_attributes, &nskill_attributes, 50},
	{LPU_PROFILES, LPU_LIST_PROFILES, "list profiles", profile_attributes, &nprofile_attributes,
	20},
	{LPU_AGENT_GROUPS, LPU_LIST_AGENT_GROUPS, "list agent groups", agent_group_attributes,
	&nagent_group_attributes, 50},
	{LPU_LOBS, LPU_LIST_LOBS, "list lines of business", lob_attributes, &nlob_attributes, 20},
};

/*
 * What a column of each kind is declared as.  A type whose name is no key word
 * is qualified: the search_path of IMPORT FOREIGN SCHEMA is the caller's.
 */
static const char *const column_types[] = {
	[LPU_ANY] = "pg_catalog.jsonb",
	[LPU_TEXT] = "pg_catalog.text",
	[LPU_LOGIN] = "pg_catalog.text",
	[LPU_EMAIL] = "pg_catalog.text",
	[LPU_DATE] = "timestamp",
	[LPU_LONG] = "bigint",
	[LPU_ID] = "bigint",
	[LPU_NUMBER] = "integer",
	[LPU_BOOLEAN] = "boolean",
	[LPU_IDS] = "bigint[]",
	[LPU_LONGS] = "bigint[]",
	[LPU_GROUP] = "bigint",
	[LPU_GROUPS] = "bigint[]",
};

/* Return the resource of a table's option. */
const LpuResource *
lpu_resource_of(LpuResourceId id)
{
	Assert(resources[id].id == id);
	return &resources[id];
}

/* ----- names ----- */

/*
 * Return the name of the attribute that a column shows unless an option says otherwise:
 * loginName for login_name. Allocated in the current memory context.
 */
char *
lpu_attribute_of_column(const char *column)
{
	char	   *name = palloc(strlen(column) + 1);
	char	   *to = name;

	for (; *column != '\0'; column++)
		if (*column == '_' && column[1] != '\0')
			*to++ = pg_ascii_toupper((unsigned char) *++column);
		else
			*to++ = *column;
	*to = '\0';
	return name;
}

/*
 * Return the name of the column for an attribute: login_name for loginName. Allocated in the
 * current memory context.
 */
char *
lpu_column_of_attribute(const char *attribute)
{
	StringInfoData name;

	initStringInfo(&name);
	for (; *attribute != '\0'; attribute++)
	{
		if (*attribute >= 'A' && *attribute <= 'Z')
			appendStringInfoChar(&name, '_');
		appendStringInfoChar(&name, (char) pg_ascii_tolower((unsigned char) *attribute));
	}
	return name.data;
}

/* Only a user may change these, and only their own. */
static bool
is_of_no_use(const LpuAttribute *attribute)
{
	return (attribute->rules & LPU_SECRET) && (attribute->rules & LPU_PASSWORD) == 0;
}

/*
 * Return the columns that IMPORT FOREIGN SCHEMA declares for a resource, "name type, name type,
 * ...". Allocated in the current memory context.
 */
char *
lpu_resource_columns(const LpuResource *resource)
{
	StringInfoData columns;
	int			i;

	initStringInfo(&columns);
	for (i = 0; i < *resource->nattributes; i++)
	{
		const LpuAttribute *attribute = &resource->attributes[i];

		if (!is_of_no_use(attribute))
			appendStringInfo(&columns, "%s %s, ",
							 quote_identifier(lpu_column_of_attribute(attribute->name)),
							 column_types[attribute->kind]);
	}
	appendStringInfoString(&columns, "entity pg_catalog.jsonb OPTIONS (attribute '*')");
	return columns.data;
}

/* ----- tables ----- */

static void
read_table_options(LpuOptions *options, List *list, Oid catalog, const char *table)
{
	LpuProblem *problem;

	memset(options, 0, sizeof(LpuOptions));
	options->resource = options->updatable = -1;
	options->server_name = unconstify(char *, table);
	problem = lpu_options_read(options, list, catalog);
	if (problem != NULL)
		lpu_problem_raise(problem);
}

static void
read_table_column(LpuColumn *column, const LpuResource *resource, Relation relation,
				  Form_pg_attribute attribute)
{
	LpuOptions	options;

	if (attribute->attisdropped)
		return;
	read_table_options(&options,
					   GetForeignColumnOptions(RelationGetRelid(relation), attribute->attnum),
					   AttributeRelationId, RelationGetRelationName(relation));
	column->name = pstrdup(NameStr(attribute->attname));
	column->attribute = options.attribute ? options.attribute :
		lpu_attribute_of_column(column->name);
	column->whole = strcmp(column->attribute, "*") == 0;
	column->def = lpu_attribute_named(resource->attributes, *resource->nattributes,
									  column->attribute);
	column->kind = column->def ? column->def->kind : LPU_ANY;
	column->secret = column->def && (column->def->rules & LPU_SECRET);
	column->type = attribute->atttypid;
	column->typmod = attribute->atttypmod;
}

/* Return the number of the column that shows an attribute, or 0. */
int
lpu_table_column(const LpuForeignTable *table, const char *attribute)
{
	int			i;

	for (i = 0; i < table->ncolumns; i++)
		if (table->columns[i].name != NULL && strcmp(table->columns[i].attribute, attribute) == 0)
			return i + 1;
	return 0;
}

/*
 * Warn of columns whose attribute is probably misspelt, once in a session for each table: CREATE
 * FOREIGN TABLE does not show its columns to the wrapper.
 */
static void
warn_of_near_misses(const LpuForeignTable *table, Oid relation)
{
	static List *warned = NIL;	/* OIDs of tables */
	bool		first = !list_member_oid(warned, relation);
	MemoryContext caller;
	int			i;

	for (i = 0; first && i < table->ncolumns; i++)
	{
		const LpuColumn *column = &table->columns[i];
		const char *meant = NULL;

		if (column->name != NULL && !column->whole)
			meant = lpu_attribute_meant(table->resource->attributes, *table->resource->nattributes,
										column->attribute);
		if (meant == NULL)
			continue;
		if (!list_member_oid(warned, relation))
		{
			caller = MemoryContextSwitchTo(TopMemoryContext);
			warned = lappend_oid(warned, relation);
			MemoryContextSwitchTo(caller);
		}
		ereport(WARNING,
				(errmsg("column \"%s\" of foreign table \"%s\" shows an unknown attribute, \"%s\"",
						column->name, table->name, column->attribute),
				 errdetail("It is null unless the account has such an attribute."),
				 errhint("Perhaps you meant the attribute \"%s\", which a column %s shows.", meant,
						 quote_identifier(lpu_column_of_attribute(meant)))));
	}
}

/*
 * Read a foreign table from the catalogs, in the current memory context. Raises if its options
 * are invalid.
 */
LpuForeignTable *
lpu_table_read(Relation relation)
{
	TupleDesc	desc = RelationGetDescr(relation);
	ForeignTable *foreign = GetForeignTable(RelationGetRelid(relation));
	LpuForeignTable *table = palloc0(sizeof(LpuForeignTable));
	LpuOptions	options;
	int			i;

	read_table_options(&options, foreign->options, ForeignTableRelationId,
					   RelationGetRelationName(relation));
	if (options.resource < 0)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
				 errmsg("foreign table \"%s\" has no option \"resource\"",
						RelationGetRelationName(relation)),
				 errhint("ALTER FOREIGN TABLE ... OPTIONS (ADD resource 'users').")));
	table->resource = lpu_resource_of(options.resource);
	table->server = foreign->serverid;
	table->updatable = options.updatable;
	table->name = pstrdup(RelationGetRelationName(relation));
	table->qualified_name =
		quote_qualified_identifier(get_namespace_name(RelationGetNamespace(relation)), table->name);
	table->ncolumns = desc->natts;
	table->columns = palloc0(Max(desc->natts, 1) * sizeof(LpuColumn));
	for (i = 0; i < desc->natts; i++)
		read_table_column(&table->columns[i], table->resource, relation, TupleDescAttr(desc, i));
	table->id_column = lpu_table_column(table, "id");
	table->deleted_column = lpu_table_column(table, "deleted");
	table->login_column = lpu_table_column(table, "loginName");
	warn_of_near_misses(table, RelationGetRelid(relation));
	return table;
}

/*
 * column.c: what the columns of a source mean.
 *
 * A column is an attribute, named as in lp.users, or holds the names of entities that the attribute
 * refers to by id. A column without a meaning is an error when the sync is defined, and whenever
 * the source is read, since a view may have been changed.
 */
#include "postgres.h"

#include "access/table.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "base/encoding.h"
#include "remote/foreign_table.h"
#include "sync/definition.h"
#include "user/validate.h"

/* Columns that hold names. */
static const struct
{
	const char *column;
	const char *attribute;
	LpuResourceId resource;
	const char *words;
}			name_columns[] = {
	{"profiles", "profileIds", LPU_PROFILES, "names of profiles"},
	{"skills", "skillIds", LPU_SKILLS, "names of skills"},
	{"lobs", "lobIds", LPU_LOBS, "names of lines of business"},
	{"agent_group", "memberOf", LPU_AGENT_GROUPS, "name of an agent group"},
	{"manager_of_groups", "managerOf", LPU_AGENT_GROUPS, "names of agent groups"},
};

/* ----- what a name means ----- */

static const LpuAttribute *
attribute_of(const char *column, int *names)
{
	char	   *attribute = lpu_attribute_of_column(column);
	int			i;

	*names = -1;
	for (i = 0; i < lengthof(name_columns); i++)
		if (strcmp(column, name_columns[i].column) == 0)
		{
			*names = name_columns[i].resource;
			return lpu_attribute_named(lpu_attributes, lpu_nattributes, name_columns[i].attribute);
		}

	/*
	 * compare the reverse, too: "isEnabled", which an unquoted name cannot
	 * be, has no meaning
	 */
	if (strcmp(column, lpu_column_of_attribute(attribute)) != 0)
		return NULL;
	return lpu_attribute_named(lpu_attributes, lpu_nattributes, attribute);
}

/* Return the most similar column name that a source can have, or NULL. */
static const char *
nearest_column(const char *name)
{
	LpuNearestName nearest;
	int			i;

	lpu_nearest_start(&nearest, name);
	for (i = 0; i < lpu_nattributes; i++)
		if ((lpu_attributes[i].rules & LPU_READ_ONLY) == 0)
			lpu_nearest_consider(&nearest, lpu_column_of_attribute(lpu_attributes[i].name));
	for (i = 0; i < lengthof(name_columns); i++)
		lpu_nearest_consider(&nearest, name_columns[i].column);
	return nearest.name;
}

static void
raise_unknown(const LpuSync *sync, const char *name)
{
	const char *nearest = nearest_column(name);

	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("column \"%s\" of %s is not an attribute of users", name, sync->source_name),
			 nearest != NULL ? errhint("Perhaps you meant the column \"%s\".", nearest) :
			 errhint("Leave it out of the source, or define it as the key.")));
}

static void
raise_column(const LpuSync *sync, const char *name, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid column \"%s\" of %s", name, sync->source_name),
			 errdetail("%s", detail)));
}

/* ----- one column ----- */

static bool
is_in(const List *list, const char *name)
{
	ListCell   *cell;

	foreach(cell, list)
		if (strcmp(lfirst(cell), name) == 0)
		return true;
	return false;
}

static void
check_column(const LpuSync *sync, const LpuSyncColumn *column, Oid type)
{
	const LpuAttribute *attribute = column->attribute;

	if (attribute->rules & LPU_READ_ONLY)
		raise_column(sync, column->name, psprintf("\"%s\" is read-only.", attribute->name));
	if (!lpu_sync_type_fits(attribute->kind, column->names >= 0, type))
		raise_column(sync, column->name, psprintf("Type %s cannot hold \"%s\".",
												  format_type_be(type), attribute->name));
	if (column->add_only && (lpu_sync_form(attribute->kind) != LPU_FORM_SET ||
							 attribute->kind == LPU_GROUP))
		raise_column(sync, column->name, psprintf("\"%s\" is not a set, and cannot be in add_only.",
												  attribute->name));
	if (column->create_only && column->names >= 0)
		raise_column(sync, column->name, "What is only sent with a create must be given by ids.");
	if (column->add_only && column->create_only)
		raise_column(sync, column->name, "It is in both create_only and add_only.");
}

/* Return false for a column that is dropped. */
static bool
read_column(const LpuSync *sync, Form_pg_attribute attribute, LpuSyncColumn *column)
{
	const char *name = NameStr(attribute->attname);

	if (attribute->attisdropped)
		return false;
	column->name = pstrdup(name);
	column->type = getBaseType(attribute->atttypid);
	column->is_key = strcmp(name, sync->key) == 0;
	column->attribute = attribute_of(name, &column->names);
	if (column->attribute == NULL && !column->is_key)
		raise_unknown(sync, name);
	if (column->attribute == NULL)
		return true;
	column->add_only = is_in(sync->add_only, name);
	column->create_only = is_in(sync->create_only, name) ||
		(column->attribute->rules & LPU_SECRET) != 0;

	/*
	 * the key may happen to have the name of an attribute that no source can
	 * have
	 */
	if (column->is_key && (column->attribute->rules & LPU_READ_ONLY))
		column->attribute = NULL;
	else
		check_column(sync, column, attribute->atttypid);
	return true;
}

/* ----- all columns ----- */

/*
 * Check that each of these names means an attribute; its column may be missing, since there are
 * defaults.
 */
static void
check_list(const LpuSync *sync, const List *list, const char *parameter)
{
	ListCell   *cell;

	foreach(cell, list)
	{
		int			names;
		const char *nearest;

		if (attribute_of(lfirst(cell), &names) != NULL)
			continue;
		nearest = nearest_column(lfirst(cell));
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for parameter \"%s\"", parameter),
				 errdetail("\"%s\" is not an attribute of users.", (char *) lfirst(cell)),
				 nearest != NULL ? errhint("Perhaps you meant \"%s\".", nearest) : 0));
	}
}

/* Check the columns that a sync requires: the identity, and attributes that a PUT would erase. */
static void
check_required(const LpuSync *sync)
{
	static const char *const required[] = {"loginName", "fullName", "employeeId"};
	int			i;

	for (i = 0; i < lengthof(required); i++)
		if (lpu_sync_column(sync, required[i]) == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("%s has no column \"%s\"", sync->source_name,
							lpu_column_of_attribute(required[i])),
					 i == 0 ? errdetail("Users are found by it.") :
					 errdetail("The API returns \"%s\" blank, and an update without it would "
							   "delete it.", required[i])));
		else if (i > 0 && lpu_sync_column(sync, required[i])->create_only)
			raise_column(sync, lpu_sync_column(sync, required[i])->name,
						 psprintf("It cannot be only sent with a create: the API returns \"%s\" "
								  "blank, and an update without it would delete it.", required[i]));
}

static void
check_twice(const LpuSync *sync)
{
	int			i;

	for (i = 0; i < sync->ncolumns; i++)
	{
		const LpuAttribute *attribute = sync->columns[i].attribute;

		if (attribute != NULL && lpu_sync_column(sync, attribute->name) != &sync->columns[i])
			raise_column(sync, sync->columns[i].name,
						 psprintf("The column \"%s\" is \"%s\", too.",
								  lpu_sync_column(sync, attribute->name)->name, attribute->name));
	}
}

static void
check_key(const LpuSync *sync)
{
	if (get_attnum(sync->source, sync->key) <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("%s has no column \"%s\"", sync->source_name, sync->key),
				 errdetail("It is the key of sync \"%s\".", sync->name),
				 errhint("If the column was renamed, give it its name back in a view.")));
}

/* The source is identified by its OID; its name may belong to another relation now. */
static void
raise_gone(const LpuSync *sync)
{
	if (OidIsValid(lpu_sync_source_named(sync->source_name)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("source %s of sync \"%s\" was dropped, and another relation has its name",
						sync->source_name, sync->name),
				 errhint("Call lp_sync_define() again to use that one.")));
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_TABLE),
			 errmsg("source %s of sync \"%s\" does not exist", sync->source_name, sync->name),
			 errhint("Call lp_sync_define() with another source, or lp_sync_drop().")));
}

/*
 * Fill in sync->columns, in the current memory context. Raises 42P01 if the
 * source is gone, and 22023 for a column that has no meaning. Takes a lock on
 * the source until the end of the transaction.
 */
void
lpu_sync_read_columns(LpuSync *sync)
{
	Relation	source = OidIsValid(sync->source) ?
	try_table_open(sync->source, AccessShareLock) : NULL;
	TupleDesc	desc;
	int			i;

	if (source == NULL)
		raise_gone(sync);
	desc = RelationGetDescr(source);
	sync->columns = palloc0(Max(desc->natts, 1) * sizeof(LpuSyncColumn));
	sync->ncolumns = 0;
	check_key(sync);
	check_list(sync, sync->create_only, "create_only");
	check_list(sync, sync->add_only, "add_only");
	for (i = 0; i < desc->natts; i++)
		if (read_column(sync, TupleDescAttr(desc, i), &sync->columns[sync->ncolumns]))
			sync->ncolumns++;
	table_close(source, NoLock);
	check_twice(sync);
	check_required(sync);
}

/* Return the column that shows an attribute, or NULL. */
const LpuSyncColumn *
lpu_sync_column(const LpuSync *sync, const char *attribute)
{
	int			i;

	for (i = 0; i < sync->ncolumns; i++)
		if (sync->columns[i].attribute != NULL &&
			strcmp(sync->columns[i].attribute->name, attribute) == 0)
			return &sync->columns[i];
	return NULL;
}

/*
 * Return the attributes that every user to be created must have and that are no column of the
 * source, a list of const LpuAttribute *. With isApiUser only the row tells if a password is
 * required.
 */
List *
lpu_sync_lacking(const LpuSync *sync, bool require_password)
{
	bool		password = require_password && lpu_sync_column(sync, "isApiUser") == NULL;
	List	   *lacking = NIL;
	int			i;

	for (i = 0; i < lpu_nattributes; i++)
		if (lpu_is_required(&lpu_attributes[i], password, false) &&
			lpu_sync_column(sync, lpu_attributes[i].name) == NULL)
			lacking = lappend(lacking, (void *) &lpu_attributes[i]);
	return lacking;
}

static const char *
words_of(const LpuSyncColumn *column)
{
	static const char *const words[] = {
		[LPU_ANY] = "text",
		[LPU_TEXT] = "text",
		[LPU_LOGIN] = "text, compared without regard to case",
		[LPU_EMAIL] = "text, compared without regard to case",
		[LPU_DATE] = "text",
		[LPU_LONG] = "number",
		[LPU_ID] = "number",
		[LPU_NUMBER] = "number",
		[LPU_BOOLEAN] = "true or false",
		[LPU_IDS] = "set of ids",
		[LPU_LONGS] = "set of numbers",
		[LPU_GROUP] = "id of an agent group",
		[LPU_GROUPS] = "set of ids of agent groups",
	};
	int			i;

	for (i = 0; i < lengthof(name_columns); i++)
		if (strcmp(column->name, name_columns[i].column) == 0)
			return name_columns[i].words;
	return words[column->attribute->kind];
}

/* Return in words how a column is interpreted, allocated in the current memory context. */
char *
lpu_sync_understood_as(const LpuSyncColumn *column)
{
	StringInfoData text;

	initStringInfo(&text);
	if (column->is_key)
		appendStringInfoString(&text, "key");
	if (column->attribute == NULL)
		return text.data;

	appendStringInfo(&text, "%s%s", column->is_key ? "; " : "", words_of(column));
	if (column->create_only)
		appendStringInfoString(&text, "; only sent with a create");
	else if (column->add_only)
		appendStringInfoString(&text, "; only what the sync added is removed");
	else if (column->attribute->rules & LPU_HIDDEN)
		appendStringInfoString(&text, "; compared with what was last sent");
	return text.data;
}

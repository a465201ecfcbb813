/*
 * mapping.c: from rows of a table to users: the arguments of a trigger.
 *
 * A mapping is a list of "attribute=SQL expression over the row". It is read once, and becomes one query over the rows,
 * so that expressions may be anything that PostgreSQL can evaluate. The expressions are the table owner's, who wrote the
 * trigger; they are put into the query as they are.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_trigger.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "nodes/bitmapset.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/plancache.h"
#include "utils/rel.h"
#include "utils/relcache.h"

#include "base/encoding.h"
#include "options/option.h"
#include "trigger/mapping.h"

static void
raise_argument(int n, const char *argument, const char *detail, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid argument %d of lp_create_users_trigger(): \"%s\"", n, argument),
			 errdetail("%s", detail),
			 hint ? errhint("%s", hint) : 0));
}

static void
raise_bad_argument(int n, const char *argument, const char *detail)
{
	raise_argument(n, argument, detail, NULL);
}

static void
raise_unknown_attribute(int n, const char *argument, const char *name)
{
	lpu_nearest nearest;
	int			i;

	lpu_nearest_start(&nearest, name);
	for (i = 0; i < lpu_nattributes; i++)
		if (!(lpu_attributes[i].rules & LPU_READ_ONLY))
			lpu_nearest_consider(&nearest, lpu_attributes[i].name);
	raise_argument(n, argument, "There is no such attribute of a user.",
				   nearest.name ? psprintf("Perhaps you meant the attribute \"%s\".", nearest.name) : NULL);
}

/* A choice between two words. */
static bool
read_choice(int n, const char *argument, const char *value, const char *yes, const char *no)
{
	if (strcmp(value, yes) != 0 && strcmp(value, no) != 0)
		raise_bad_argument(n, argument, psprintf("It must be %s or %s.", no, yes));
	return strcmp(value, yes) == 0;
}

static void
read_attribute(lpu_mapping *mapping, int n, const char *argument, const char *name, char *expression)
{
	const lpu_attribute *attribute = lpu_attribute_named(lpu_attributes, lpu_nattributes, name);
	int			i;

	if (attribute == NULL)
		raise_unknown_attribute(n, argument, name);
	if (attribute->rules & LPU_READ_ONLY)
		raise_bad_argument(n, argument, "The attribute is read-only.");
	for (i = 0; i < mapping->nattributes; i++)
		if (mapping->attributes[i].attribute == attribute)
			raise_bad_argument(n, argument, "The attribute is there twice.");
	mapping->attributes[mapping->nattributes].attribute = attribute;
	mapping->attributes[mapping->nattributes++].expression = expression;
}

static void
read_argument(lpu_mapping *mapping, int n, const char *argument)
{
	const char *equals = strchr(argument, '=');
	char	   *name;
	char	   *value;

	if (equals == NULL || equals == argument)
		raise_bad_argument(n, argument, "It must be attribute=expression, or when=, mode=, on_error=.");
	name = pnstrdup(argument, equals - argument);
	value = pstrdup(equals + 1);
	if (strspn(value, " \t\n") == strlen(value))
		raise_bad_argument(n, argument, "There is nothing after \"=\".");
	if (strcmp(name, "when") == 0)
		mapping->condition = value;
	else if (strcmp(name, "mode") == 0)
		mapping->sync = read_choice(n, argument, value, "sync", "queue");
	else if (strcmp(name, "on_error") == 0)
		mapping->raise = read_choice(n, argument, value, "raise", "record");
	else
		read_attribute(mapping, n, argument, name, value);
}

lpu_mapping *
lpu_mapping_read(int nargs, char *const *args)
{
	lpu_mapping *mapping = palloc0(sizeof(lpu_mapping));
	int			i;

	if (nargs < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("lp_create_users_trigger() needs arguments"),
				 errdetail("The account, then attribute=expression for each attribute.")));
	if (!lpu_account_is_valid(args[0]))
		raise_bad_argument(1, args[0], "It must be the account id: 1 to 64 characters of 0-9, A-Z, a-z, _ and -.");
	mapping->account = pstrdup(args[0]);
	mapping->attributes = palloc0(nargs * sizeof(lpu_mapped_attribute));
	for (i = 1; i < nargs; i++)
		read_argument(mapping, i + 1, args[i]);
	for (i = 0; i < mapping->nattributes; i++)
		if (strcmp(mapping->attributes[i].attribute->name, "loginName") == 0)
			return mapping;
	raise_bad_argument(1, args[0], "\"loginName\" is not among the attributes that follow it.");
	return NULL;				/* keep the compiler quiet */
}

List *
lpu_mapping_key(Relation table)
{
	Bitmapset  *key = RelationGetIndexAttrBitmap(table, INDEX_ATTR_BITMAP_PRIMARY_KEY);
	List	   *names = NIL;
	int			i = -1;

	while ((i = bms_next_member(key, i)) >= 0)
	{
		AttrNumber	number = i + FirstLowInvalidHeapAttributeNumber;

		if (number > 0)
			names = lappend(names, pstrdup(NameStr(TupleDescAttr(RelationGetDescr(table), number - 1)->attname)));
	}
	return names;
}

/* A line end, so that a comment at the end of an expression ends there. The marker is read just before it. */
static void
append_expression(StringInfo sql, const char *expression, int marker)
{
	if (marker > 0)
		appendStringInfo(sql, "CASE WHEN $%d THEN (%s\n) END", marker, expression);
	else
		appendStringInfo(sql, "(%s\n)", expression);
}

char *
lpu_mapping_query(const lpu_mapping *mapping, Relation table, const char *alias, const char *source, const char *before,
				  int marker)
{
	int			condition_marker = marker > 0 ? marker + mapping->nattributes : 0;
	StringInfoData sql;
	ListCell   *cell;
	int			i;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT ");
	for (i = 0; i < mapping->nattributes; i++)
	{
		appendStringInfoString(&sql, i > 0 ? ", " : "");
		append_expression(&sql, mapping->attributes[i].expression, marker > 0 ? marker + i : 0);
	}
	foreach(cell, lpu_mapping_key(table))
		appendStringInfo(&sql, ", %s.%s", alias, quote_identifier(lfirst(cell)));
	appendStringInfo(&sql, " FROM %s", source);
	if (mapping->condition == NULL)
		return sql.data;
	appendStringInfoString(&sql, " WHERE ");
	append_expression(&sql, mapping->condition, condition_marker);
	if (before == NULL)
		return sql.data;
	appendStringInfo(&sql, " AND NOT EXISTS (SELECT FROM %s WHERE ", before);
	append_expression(&sql, mapping->condition, condition_marker);
	appendStringInfoChar(&sql, ')');
	return sql.data;
}

void
lpu_mapping_context(void *arg)
{
	const lpu_mapping_place *place = arg;
	const lpu_mapping *mapping = place->mapping;

	if (place->at >= 0 && place->at < mapping->nattributes)
		errcontext("argument \"%s=%s\" of lp_create_users_trigger()", mapping->attributes[place->at].attribute->name,
				   mapping->attributes[place->at].expression);
	else if (place->at == mapping->nattributes && mapping->condition != NULL)
		errcontext("argument \"when=%s\" of lp_create_users_trigger()", mapping->condition);
}

/* Constants are computed when a query is planned, rights are checked when it starts; it finds no row. */
static void
try_query(const char *sql, int nparams, Oid *types, bool start)
{
	SPIPlanPtr	plan = SPI_prepare_cursor(sql, nparams, types, CURSOR_OPT_GENERIC_PLAN);
	Datum		values[2] = {(Datum) 0, (Datum) 0};
	CachedPlan *planned;

	if (plan == NULL)
		elog(ERROR, "could not prepare \"%s\"", sql);
	planned = SPI_plan_get_cached_plan(plan);
	if (planned != NULL)
		ReleaseCachedPlan(planned, NULL);
	if (start && SPI_execute_plan(plan, values, "nn", true, 0) < 0)
		elog(ERROR, "could not run \"%s\"", sql);
	SPI_freeplan(plan);
}

void
lpu_mapping_try(const lpu_mapping *mapping, const char *alias, const char *source, int nparams, Oid *types, bool start)
{
	lpu_mapping_place place = {mapping, 0};
	ErrorContextCallback context = {error_context_stack, lpu_mapping_context, &place};

	error_context_stack = &context;
	/* no set, which CASE refuses, and no aggregate, which does not go with a row: one user for each row */
	for (place.at = 0; place.at < mapping->nattributes; place.at++)
		try_query(psprintf("SELECT CASE WHEN true THEN (%s\n) END, %s FROM %s WHERE false",
						   mapping->attributes[place.at].expression, alias, source), nparams, types, start);
	if (mapping->condition != NULL)
		try_query(psprintf("SELECT CASE WHEN (%s\n) THEN 1 END, %s FROM %s WHERE false", mapping->condition, alias, source),
				  nparams, types, start);
	error_context_stack = context.previous;
}

/* The table on which a trigger was created: partitions have copies of it. */
static Oid
table_of_trigger(Oid trigger)
{
	Relation	catalog = table_open(TriggerRelationId, AccessShareLock);
	Oid			table = InvalidOid;

	while (OidIsValid(trigger))
	{
		ScanKeyData key;
		SysScanDesc scan;
		HeapTuple	tuple;

		ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(trigger));
		scan = systable_beginscan(catalog, TriggerOidIndexId, true, NULL, 1, &key);
		tuple = systable_getnext(scan);
		trigger = InvalidOid;
		if (HeapTupleIsValid(tuple))
		{
			table = ((Form_pg_trigger) GETSTRUCT(tuple))->tgrelid;
			trigger = ((Form_pg_trigger) GETSTRUCT(tuple))->tgparentid;
		}
		systable_endscan(scan);
	}
	table_close(catalog, AccessShareLock);
	return table;
}

const char *
lpu_mapping_alias(Relation table, Oid trigger)
{
	char	   *name = table->rd_rel->relispartition ? get_rel_name(table_of_trigger(trigger)) : NULL;

	return quote_identifier(name ? name : RelationGetRelationName(table));
}

void
lpu_mapping_pin_path(Relation table)
{
	char	   *path = psprintf("pg_catalog, %s, pg_temp",
								quote_identifier(get_namespace_name(RelationGetNamespace(table))));

	(void) set_config_option("search_path", path, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

/*
 * mapped_table.c: the table whose rows become users.
 *
 * It writes what a query over the rows has after FROM, and finds which table a trigger of a
 * partition was created on, and under which role and search_path expressions over the table are
 * evaluated. It knows nothing of attributes and expressions.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_class.h"
#include "catalog/pg_trigger.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/bitmapset.h"
#include "optimizer/optimizer.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "base/extension.h"
#include "trigger/mapped_table.h"

/*
 * Return the table on which a trigger was created: the triggers of partitions can be copies of its
 * trigger.
 */
Oid
lpu_mapping_root(Relation table, const Trigger *trigger)
{
	Oid			root = RelationGetRelid(table);
	Oid			oid = trigger->tgoid;
	Relation	catalog;

	if (!trigger->tgisclone)
		return root;
	catalog = table_open(TriggerRelationId, AccessShareLock);
	while (OidIsValid(oid))
	{
		ScanKeyData key;
		SysScanDesc scan;
		HeapTuple	tuple;

		ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ,
					ObjectIdGetDatum(oid));
		scan = systable_beginscan(catalog, TriggerOidIndexId, true, NULL, 1, &key);
		tuple = systable_getnext(scan);
		oid = InvalidOid;
		if (HeapTupleIsValid(tuple))
		{
			root = ((Form_pg_trigger) GETSTRUCT(tuple))->tgrelid;
			oid = ((Form_pg_trigger) GETSTRUCT(tuple))->tgparentid;
		}
		systable_endscan(scan);
	}
	table_close(catalog, AccessShareLock);
	return root;
}

/* The expression of a generated column as SQL over the columns' names. */
static char *
generated_expression(Relation table, Form_pg_attribute column)
{
	TupleConstr *constraints = RelationGetDescr(table)->constr;
	Bitmapset  *used = NULL;
	Node	   *expression = NULL;
	int			i;

	for (i = 0; i < constraints->num_defval; i++)
		if (constraints->defval[i].adnum == column->attnum)
			expression = stringToNode(constraints->defval[i].adbin);
	pull_varattnos(expression, 1, &used);
	if (bms_next_member(used, -1) >= 0 &&
		bms_next_member(used, -1) + FirstLowInvalidHeapAttributeNumber < 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("virtual generated column \"%s\" of table \"%s\" cannot be computed in a trigger",
						NameStr(column->attname), RelationGetRelationName(table)),
				 errdetail("Its expression uses a system column.")));
	return deparse_expression(expression,
							  deparse_context_for(RelationGetRelationName(table),
												  RelationGetRelid(table)),
							  false, false);
}

/* The SELECT list that computes virtual generated columns; NULL if the table has none. */
static char *
computed_columns(Relation table)
{
	TupleDesc	desc = RelationGetDescr(table);
	bool		computed = false;
	StringInfoData list;
	int			i;

	initStringInfo(&list);
	for (i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, i);
		const char *name = quote_identifier(NameStr(column->attname));

		if (column->attisdropped)
			continue;
		appendStringInfoString(&list, list.len > 0 ? ", " : "");
		if (LPU_IS_VIRTUAL(column))
			appendStringInfo(&list, "CAST((%s) AS %s) AS %s", generated_expression(table, column),
							 format_type_with_typemod(column->atttypid, column->atttypmod), name);
		else
			appendStringInfoString(&list, name);
		computed |= LPU_IS_VIRTUAL(column);
	}
	return computed ? list.data : NULL;
}

/*
 * Return what stands after FROM in a query over rows of the table: the transition table or, if
 * it is NULL, the row that a parameter holds. Virtual generated columns are replaced by their
 * expressions. Raises 0A000 if that is not possible. Allocated in the current memory context.
 */
char *
lpu_mapping_source(Relation table, const char *transition, int parameter)
{
	const char *columns = computed_columns(table);
	const char *rows = transition ? quote_identifier(transition) :
	psprintf("(SELECT ($%d).*)", parameter);

	if (columns != NULL)
		return psprintf("(SELECT %s FROM %s AS %s) AS " LPU_ROW_ALIAS, columns, rows,
						quote_identifier(RelationGetRelationName(table)));
	return psprintf("%s AS " LPU_ROW_ALIAS, rows);
}

/*
 * Return the rows of the table itself as what stands after FROM, without the system columns, which
 * rows of a trigger do not have.
 */
char *
lpu_mapping_columns_source(Relation table)
{
	TupleDesc	desc = RelationGetDescr(table);
	StringInfoData sql;
	int			i;

	initStringInfo(&sql);
	for (i = 0; i < desc->natts; i++)
		if (!TupleDescAttr(desc, i)->attisdropped)
			appendStringInfo(&sql, "%s%s", sql.len > 0 ? ", " : "",
							 quote_identifier(NameStr(TupleDescAttr(desc, i)->attname)));
	return psprintf("(SELECT %s FROM %s) AS " LPU_ROW_ALIAS, sql.data,
					lpu_mapping_table_name(RelationGetRelid(table)));
}

/* Return the table's name with its schema, quoted. */
char *
lpu_mapping_table_name(Oid table)
{
	return lpu_relation_name(table);
}

/* Return the table's owner: the role whose credentials send its users. */
Oid
lpu_mapping_owner(Oid table)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", table);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/* Set the search_path for expressions over the table; the caller has opened a GUC nest level. */
void
lpu_mapping_pin_path(Oid table)
{
	char	   *path = psprintf("pg_catalog, %s, pg_temp",
								quote_identifier(get_namespace_name(get_rel_namespace(table))));

	(void) set_config_option("search_path", path, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true,
							 0, false);
}

/*
 * Act as the table's owner until lpu_become_again(), as REFRESH MATERIALIZED VIEW does: in a
 * security-restricted operation, with the search_path for expressions over the table.
 */
void
lpu_mapping_become_owner(Oid table, LpuSavedIdentity *before)
{
	GetUserIdAndSecContext(&before->role, &before->context);
	SetUserIdAndSecContext(lpu_mapping_owner(table),
						   before->context | SECURITY_RESTRICTED_OPERATION);
	before->guc_level = NewGUCNestLevel();
	lpu_mapping_pin_path(table);
}

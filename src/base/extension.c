/*
 * extension.c: acting as the owner of the extension's tables.
 *
 * No role but the owner has rights on the tables; what users may do goes through functions that check it first and then
 * act as the owner, the way referential-integrity triggers do.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "base/extension.h"

static Oid
owner_of_tables(Oid schema)
{
	Oid			table = get_relname_relid("lp_requests", schema);
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table \"%s.lp_requests\" does not exist", get_namespace_name(schema)),
				 errhint("DROP EXTENSION lpusers and create it again.")));
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

void
lpu_become_owner(Oid schema, lpu_identity *before)
{
	GetUserIdAndSecContext(&before->role, &before->context);
	SetUserIdAndSecContext(owner_of_tables(schema),
						   before->context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_NOFORCE_RLS);
}

void
lpu_become_again(const lpu_identity *before)
{
	SetUserIdAndSecContext(before->role, before->context);
}

Oid
lpu_extension_schema(void)
{
	Relation	catalog = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			schema = InvalidOid;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ, CStringGetDatum("lpusers"));
	scan = systable_beginscan(catalog, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		schema = ((Form_pg_extension) GETSTRUCT(tuple))->extnamespace;
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return schema;
}

void
lpu_execute_as_owner(Oid schema, const char *sql, int nargs, Oid *types, Datum *values, const char *nulls)
{
	lpu_identity before;
	int			result;

	lpu_become_owner(schema, &before);
	result = SPI_execute_with_args(sql, nargs, types, values, nulls, false, 0);
	if (result < 0)
		elog(ERROR, "could not run a statement on lp_requests: %s", SPI_result_code_string(result));
	lpu_become_again(&before);
}

Datum
lpu_name_datum(const char *name)
{
	NameData   *value = palloc0(sizeof(NameData));

	namestrcpy(value, name);
	return NameGetDatum(value);
}

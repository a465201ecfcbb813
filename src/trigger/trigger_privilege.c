/*
 * trigger_privilege.c: roles that could make a trigger which acts as the owner of a table.
 *
 * A trigger has no owner: every role with TRIGGER on a table and EXECUTE on the trigger function
 * can make one, and its users are sent with the credentials of the table's owner. So no other
 * role may have both rights. Both ACLs are read from the syscache; if no other role has TRIGGER,
 * as usual, nothing else is read.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "trigger/mapped_table.h"
#include "trigger/mapping.h"
#include "trigger/trigger_privilege.h"

/* Return true if the role could not act as the owner anyway. */
static bool
is_outsider(Oid role, Oid owner)
{
	return !superuser_arg(role) && !has_privs_of_role(role, owner) && !LPU_MAY_BECOME(role, owner);
}

/*
 * Return the grantees of a right, as OIDs (InvalidOid: PUBLIC), except those that can act as the
 * table's owner.
 */
static List *
grantees_of(int cache, Oid object, AttrNumber column, ObjectType type, AclMode right, Oid owner)
{
	HeapTuple	tuple = SearchSysCache1(cache, ObjectIdGetDatum(object));
	List	   *grantees = NIL;
	Datum		value;
	bool		isnull;
	Acl		   *acl;
	int			i;

	if (!HeapTupleIsValid(tuple))
		return NIL;
	value = SysCacheGetAttr(cache, tuple, column, &isnull);
	/* the default of a function has EXECUTE for PUBLIC */
	acl = isnull ? acldefault(type, owner) : DatumGetAclP(value);
	for (i = 0; i < ACL_NUM(acl); i++)
	{
		const AclItem *item = &ACL_DAT(acl)[i];

		if ((ACLITEM_GET_PRIVS(*item) & right) &&
			(item->ai_grantee == ACL_ID_PUBLIC || is_outsider(item->ai_grantee, owner)))
			grantees = list_append_unique_oid(grantees, item->ai_grantee);
	}
	ReleaseSysCache(tuple);
	return grantees;
}

/* Find the first of the grantees whose rights the role has. Return false if there is none. */
static bool
has_rights_of_one(Oid role, const List *grantees, Oid *one)
{
	ListCell   *cell;

	foreach(cell, grantees)
	{
		*one = lfirst_oid(cell);
		if (*one == ACL_ID_PUBLIC || (OidIsValid(role) && has_privs_of_role(role, *one)))
			return true;
	}
	return false;
}

/* A role that is a member of grantees of both. */
static bool
find_role_member(Oid owner, const List *creators, const List *executors, LpuForeignRole *outsider)
{
	Relation	catalog = table_open(AuthIdRelationId, AccessShareLock);
	TableScanDesc scan = table_beginscan_catalog(catalog, 0, NULL);
	bool		found = false;
	HeapTuple	tuple;
	Oid			executor;

	while (!found && (tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		outsider->role = ((Form_pg_authid) GETSTRUCT(tuple))->oid;
		found = is_outsider(outsider->role, owner) &&
			has_rights_of_one(outsider->role, creators, &outsider->grantee) &&
			has_rights_of_one(outsider->role, executors, &executor);
	}
	table_endscan(scan);
	table_close(catalog, AccessShareLock);
	return found;
}

/* Allocates in the current memory context; raises nothing but what the catalogs raise. */
bool
lpu_outsider_find(Oid table, Oid function, LpuForeignRole *outsider)
{
	Oid			owner = lpu_mapping_owner(table);
	List	   *creators = grantees_of(RELOID, table, Anum_pg_class_relacl, OBJECT_TABLE,
									   ACL_TRIGGER, owner);
	List	   *executors;
	ListCell   *cell;

	if (creators == NIL)
		return false;
	executors = grantees_of(PROCOID, function, Anum_pg_proc_proacl, OBJECT_FUNCTION,
							ACL_EXECUTE, owner);
	if (executors == NIL)
		return false;
	/* PUBLIC, if it has both */
	outsider->role = outsider->grantee = ACL_ID_PUBLIC;
	if (list_member_oid(creators, ACL_ID_PUBLIC) && list_member_oid(executors, ACL_ID_PUBLIC))
		return true;
	/* a grantee is easier to name than one of its members */
	foreach(cell, list_concat_copy(creators, executors))
	{
		Oid			executor;

		outsider->role = lfirst_oid(cell);
		if (OidIsValid(outsider->role) &&
			has_rights_of_one(outsider->role, creators, &outsider->grantee) &&
			has_rights_of_one(outsider->role, executors, &executor))
			return true;
	}
	return find_role_member(owner, creators, executors, outsider);
}

static const char *
name_of_role(Oid role)
{
	const char *name = OidIsValid(role) ? GetUserNameFromId(role, true) : NULL;

	return name ? quote_identifier(name) : "PUBLIC";
}

/* Return the problem of a role outside the table's owner, with the REVOKE that solves it. */
LpuProblem *
lpu_outsider_problem(Oid table, const LpuForeignRole *outsider)
{
	const char *name = lpu_mapping_table_name(table);
	LpuProblem *problem;

	problem = lpu_problem_new(ERRCODE_INSUFFICIENT_PRIVILEGE,
							  "%s may create triggers on table %s that act as its owner",
							  name_of_role(outsider->role), name);
	lpu_problem_detail(problem,
					   "It has TRIGGER on the table and EXECUTE on lp_create_users_trigger().");
	return lpu_problem_hint(problem,
							"REVOKE TRIGGER ON %s FROM %s. Check which triggers the table has.",
							name, name_of_role(outsider->grantee));
}

/* ----- generations ----- */

static uint64 generation = 1;

static void
on_change(Datum arg, int cache, uint32 hash)
{
	generation++;
}

/*
 * Return a number that changes when a result of lpu_outsider_find() may have changed for another
 * reason than its table.
 */
uint64
lpu_outsider_generation(void)
{
	static bool registered = false;

	if (!registered)
	{
		CacheRegisterSyscacheCallback(PROCOID, on_change, (Datum) 0);
		CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, on_change, (Datum) 0);
		CacheRegisterSyscacheCallback(AUTHOID, on_change, (Datum) 0);
		registered = true;
	}
	return generation;
}

/*
 * Raise an error unless the table exists and belongs to the current role.  To be
 * called before the table is locked: a role without the right does not wait for
 * the lock either.
 */
void
lpu_trigger_require_owner(Oid table)
{
	char	   *name = get_rel_name(table);

	if (name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table with OID %u does not exist", table)));
	if (!LPU_OWNS_TABLE(table, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE, name);
}

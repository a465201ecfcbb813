/*
 * extension.c: acting as the owner of the extension's tables.
 *
 * No role but the owner has rights on the tables; what users may do goes
 * through functions that check it first and then act as the owner, the way
 * referential-integrity triggers do. Code that other roles attached to the
 * tables would run with the owner's rights, or, if it is deferred to COMMIT,
 * with the caller's. Therefore the owner's rights hold for one statement, in a
 * security-restricted operation: deferred triggers and WITH HOLD cursors are
 * refused where they would be queued, and settings that are changed meanwhile
 * are restored. Triggers whose code belongs to other roles are refused.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xlog.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_proc.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/rel.h"
#include "utils/reltrigger.h"
#include "utils/syscache.h"

#include "base/extension.h"

/*
 * The trigger function whose arguments are expressions; on the queue's own
 * tables they would run as their owner.
 */
#define TRIGGER_FUNCTION "lp_create_users_trigger"

/* A trigger that is being checked. */
typedef struct CheckedTrigger
{
	Relation	table;
	const Trigger *trigger;
	Oid			owner;			/* of lp_requests */
} CheckedTrigger;

/* ----- code attached to the tables ----- */

static void
refuse_trigger(const CheckedTrigger *checked, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("trigger \"%s\" on table \"%s\" is not allowed", checked->trigger->tgname,
					RelationGetRelationName(checked->table)),
			 errdetail_internal("%s", detail),
			 errhint("Drop the trigger, and revoke TRIGGER on the table.")));
}

static Oid
function_owner(Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", function);
	owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
	ReleaseSysCache(tuple);
	return owner;
}

/*
 * Raises if the function would run another role's code with the rights of the
 * tables' owner. Returns false otherwise.
 */
static bool
check_function(Oid function, void *arg)
{
	const CheckedTrigger *checked = arg;
	Oid			owner = function_owner(function);

	if (owner != checked->owner && !superuser_arg(owner))
		refuse_trigger(checked,
					   psprintf(_("Function %s belongs to role \"%s\", which neither owns the table nor is a superuser."),
								format_procedure(function), GetUserNameFromId(owner, true)));
	return false;
}

/*
 * Check the functions of a trigger's WHEN condition, and refuse domains, whose
 * constraints may call others.
 */
static bool
check_extension_condition(Node *node, void *arg)
{
	if (node == NULL)
		return false;
	if (IsA(node, CoerceToDomain))
		refuse_trigger(arg, _("Its WHEN condition uses a domain."));
	(void) check_functions_in_node(node, check_function, arg);
	return expression_tree_walker(node, check_extension_condition, arg);
}

/*
 * Raises 42501 if a trigger of the table runs code of a role that is neither
 * its owner nor a superuser.
 */
static void
check_triggers(Relation table, Oid owner)
{
	int			i;

	for (i = 0; table->trigdesc != NULL && i < table->trigdesc->numtriggers; i++)
	{
		const Trigger *trigger = &table->trigdesc->triggers[i];
		CheckedTrigger checked = {table, trigger, owner};

		if (trigger->tgenabled == TRIGGER_DISABLED)
			continue;
		(void) check_function(trigger->tgfoid, &checked);
		if (get_func_namespace(trigger->tgfoid) == RelationGetNamespace(table) &&
			strcmp(get_func_name(trigger->tgfoid), TRIGGER_FUNCTION) == 0)
			refuse_trigger(&checked, _("The queue's own tables cannot feed the queue."));
		if (trigger->tgqual != NULL)
			(void) check_extension_condition(stringToNode(trigger->tgqual), &checked);
	}
}

/* ----- acting as the owner ----- */

/* The tables on which statements run as their owner, which is the owner of the first one. */
static const char *const tables[] = {
	"lp_requests", "lp_payloads", "_lp_sync", "_lp_sync_link", "_lp_sync_plan", "_lp_sync_item",
	"_lp_sync_watch", "_lp_sync_mark"
};

/*
 * One of the extension's tables, locked so that it gets no trigger until the
 * end of the transaction. A standby can only be read, and takes no such lock.
 */
static Relation
open_table(Oid schema, const char *name)
{
	Oid			table = get_relname_relid(name, schema);

	if (!OidIsValid(table))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table \"%s.%s\" does not exist", get_namespace_name(schema), name),
				 errhint("DROP EXTENSION lpusers and create it again.")));
	return table_open(table, RecoveryInProgress() ? AccessShareLock : RowExclusiveLock);
}

/*
 * Raises 42501 if the owner of lp_requests may not use another table: its owner was changed, and
 * that of the others was not.
 */
static void
check_table_owner(Relation table, Oid owner)
{
	Oid			other = table->rd_rel->relowner;

	if (has_privs_of_role(owner, other))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("the tables of extension \"lpusers\" have different owners"),
			 errdetail("Table \"%s\" belongs to role \"%s\", table \"%s\" to role \"%s\".",
					   tables[0], GetUserNameFromId(owner, true), RelationGetRelationName(table),
					   GetUserNameFromId(other, true)),
			 errhint("Use ALTER TABLE ... OWNER TO to give all of them one owner.")));
}

/*
 * Become the owner of the tables in the extension's schema, with search_path =
 * pg_catalog, pg_temp, in a security-restricted operation, until
 * lpu_become_again(), which must follow before the transaction is committed.
 * An abort of the (sub)transaction does the same. Raises 42501 if a trigger of
 * the tables runs code of a role that is neither their owner nor a superuser,
 * or if the tables have different owners.
 */
void
lpu_become_owner(Oid schema, LpuSavedIdentity *before)
{
	Oid			owner = InvalidOid;
	int			i;

	for (i = 0; i < lengthof(tables); i++)
	{
		Relation	table = open_table(schema, tables[i]);

		if (!OidIsValid(owner))
			owner = table->rd_rel->relowner;
		check_table_owner(table, owner);
		check_triggers(table, owner);
		table_close(table, NoLock);
	}
	GetUserIdAndSecContext(&before->role, &before->context);
	SetUserIdAndSecContext(owner,
						   before->context | SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION |
						   SECURITY_NOFORCE_RLS);
	before->guc_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0,
							 false);
}

/* Return to the caller's identity and settings, also those that triggers changed. */
void
lpu_become_again(const LpuSavedIdentity *before)
{
	AtEOXact_GUC(false, before->guc_level);
	SetUserIdAndSecContext(before->role, before->context);
}

/* Return true if a trigger of the table is deferred to COMMIT, which is refused when it fires. */
static bool
has_deferred_trigger(Relation table)
{
	int			i;

	for (i = 0; table->trigdesc != NULL && i < table->trigdesc->numtriggers; i++)
		if (table->trigdesc->triggers[i].tginitdeferred &&
			table->trigdesc->triggers[i].tgenabled != TRIGGER_DISABLED)
			return true;
	return false;
}

/*
 * Return true if statements that lpu_become_owner() allows can be executed.  If not, they raise
 * 42501 for all rows: the owner of the tables lacks a right on one of them, or a trigger of it is
 * deferred.  Raises what lpu_become_owner() raises.
 */
bool
lpu_owner_may_write(void)
{
	Oid			schema = lpu_extension_schema();
	LpuSavedIdentity before;
	bool		may = true;
	int			i;

	lpu_become_owner(schema, &before);
	for (i = 0; i < lengthof(tables) && may; i++)
	{
		Relation	table = open_table(schema, tables[i]);
		AclMode		needed = ACL_SELECT | ACL_INSERT | ACL_UPDATE | ACL_DELETE;

		may = !has_deferred_trigger(table) &&
			pg_class_aclmask(RelationGetRelid(table), GetUserId(), needed, ACLMASK_ALL) == needed;
		table_close(table, NoLock);
	}
	lpu_become_again(&before);
	return may;
}

/* Return schema and owner of the extension, InvalidOid if it is not installed. */
static Oid
find_extension(Oid *owner)
{
	Relation	catalog = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			schema = InvalidOid;

	*owner = InvalidOid;
	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum("lpusers"));
	scan = systable_beginscan(catalog, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		schema = ((Form_pg_extension) GETSTRUCT(tuple))->extnamespace;
		*owner = ((Form_pg_extension) GETSTRUCT(tuple))->extowner;
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return schema;
}

/* Return the schema of the extension, InvalidOid if it is not installed. */
Oid
lpu_extension_schema(void)
{
	Oid			owner;

	return find_extension(&owner);
}

/*
 * Raise 42501 if the owner of the tables may not use the functions of the extension, which belong
 * to the role that created it.
 */
void
lpu_check_tables_owner(void)
{
	Oid			creator;
	Oid			schema = find_extension(&creator);
	Relation	table = open_table(schema, tables[0]);
	Oid			owner = table->rd_rel->relowner;

	table_close(table, NoLock);
	if (has_privs_of_role(owner, creator))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("the tables of extension \"lpusers\" belong to role \"%s\", the extension to role \"%s\"",
					GetUserNameFromId(owner, true), GetUserNameFromId(creator, true)),
			 errhint("Use ALTER TABLE ... OWNER TO to give the tables back.")));
}

/*
 * Return a relation's name with its schema, quoted, allocated in the current memory context. Raises
 * 42P01 if there is none with this OID: a regclass may be any number.
 */
char *
lpu_relation_name(Oid relation)
{
	char	   *name = get_rel_name(relation);
	char	   *schema = get_namespace_name(get_rel_namespace(relation));

	if (name == NULL || schema == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relation)));
	return lpu_qualified_name(schema, name);
}

/*
 * Return a name with its schema, quoted where necessary, in the current memory context: it is
 * stored and compared, so it does not depend on the session's quote_all_identifiers.
 */
char *
lpu_qualified_name(const char *schema, const char *name)
{
	bool		before = quote_all_identifiers;
	char	   *qualified;

	quote_all_identifiers = false;
	qualified = quote_qualified_identifier(schema, name);
	quote_all_identifiers = before;
	return qualified;
}

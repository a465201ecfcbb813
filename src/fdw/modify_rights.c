/*
 * modify_rights.c: the rights that a write through a foreign table needs.
 *
 * A privilege on the table is not enough: pg_write_all_data has it on every table, and PUBLIC's
 * mapping belongs to every role. The role whose mapping is used needs what the function that does
 * the same needs: EXECUTE on it, and USAGE on the server.
 */
#include "postgres.h"

#include "catalog/pg_foreign_server.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "base/extension.h"
#include "fdw/handler.h"

/* The function that does what a command does. */
typedef struct TwinFunction
{
	CmdType		operation;
	const char *command;
	const char *name;
	int			nargs;
	Oid			args[3];
} TwinFunction;

static const TwinFunction twins[] = {
	{CMD_INSERT, "INSERT", "lp_create_users", 2, {TEXTOID, JSONBOID}},
	{CMD_UPDATE, "UPDATE", "lp_update_users", 3, {TEXTOID, JSONBOID, INT8OID}},
	{CMD_DELETE, "DELETE", "lp_delete_users", 3, {TEXTOID, INT8ARRAYOID, INT8OID}},
};

/* Return the function of the extension, wherever its schema is. Raise 42883 if it was dropped. */
static Oid
find_function(const TwinFunction *twin)
{
	Oid			function;

	function = GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid, CStringGetDatum(twin->name),
							   PointerGetDatum(buildoidvector(twin->args, twin->nargs)),
							   ObjectIdGetDatum(lpu_extension_schema()));
	if (!OidIsValid(function))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function %s() of extension lpusers does not exist", twin->name),
				 errhint("DROP EXTENSION lpusers and create it again.")));
	return function;
}

static const char *
quoted_role(Oid role)
{
	const char *name = GetUserNameFromId(role, true);

	return name ? quote_identifier(name) : psprintf("%u", role);
}

/*
 * Raise 42501 unless the role may write users through a foreign table of the server: it needs
 * EXECUTE on lp_create_users, lp_update_users or lp_delete_users, and USAGE on the server.
 */
void
lpu_fdw_require_rights(Oid server, Oid role, CmdType operation)
{
	const TwinFunction *twin = twins;
	Oid			function;

	while (twin->operation != operation)
		twin++;
	function = find_function(twin);
	if (LPU_SERVER_USAGE(server, role) != ACLCHECK_OK)
	{
		char	   *name = GetForeignServer(server)->servername;

		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for foreign server %s", name),
				 errdetail("Role \"%s\" writes a foreign table of it without USAGE.",
						   GetUserNameFromId(role, false)),
				 errhint("GRANT USAGE ON FOREIGN SERVER %s TO %s.", quote_identifier(name),
						 quoted_role(role)),
				 errhidestmt(true)));
	}
	if (LPU_FUNCTION_EXECUTE(function, role) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for function %s", twin->name),
				 errdetail("%s of a foreign table needs EXECUTE on it of role \"%s\".",
						   twin->command, GetUserNameFromId(role, false)),
				 errhint("GRANT EXECUTE ON FUNCTION %s TO %s.",
						 quote_qualified_identifier(get_namespace_name(lpu_extension_schema()),
													twin->name), quoted_role(role)),
				 errhidestmt(true)));
}

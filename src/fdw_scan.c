/*
 * fdw_scan.c: foreign tables.
 *
 * For now the wrapper only carries servers and user mappings: a foreign table can be created, not used.
 */
#include "postgres.h"

#include "fmgr.h"
#include "foreign/fdwapi.h"
#include "nodes/pathnodes.h"

PG_FUNCTION_INFO_V1(lpusers_handler);

static void
lpuGetForeignRelSize(PlannerInfo *root, RelOptInfo *baserel, Oid foreigntableid)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("foreign tables of lpusers cannot be read yet"),
			 errhint("Use lp_create_users() and the other functions.")));
}

/*
 * lpusers_handler() RETURNS fdw_handler
 */
Datum
lpusers_handler(PG_FUNCTION_ARGS)
{
	FdwRoutine *routine = makeNode(FdwRoutine);

	routine->GetForeignRelSize = lpuGetForeignRelSize;
	PG_RETURN_POINTER(routine);
}

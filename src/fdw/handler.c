/*
 * handler.c: the handler of the foreign-data wrapper.
 *
 * The parts put their callbacks into one FdwRoutine:  planning and scanning, planning and
 * carrying out of writes, importing.
 */
#include "postgres.h"

#include "fmgr.h"
#include "foreign/fdwapi.h"

#include "base/compat.h"
#include "fdw/handler.h"

PG_FUNCTION_INFO_V1(lpusers_handler);

/*
 * lpusers_handler() RETURNS fdw_handler
 */
Datum
lpusers_handler(PG_FUNCTION_ARGS)
{
	FdwRoutine *routine = makeNode(FdwRoutine);

	lpu_fdw_plan(routine);
	lpu_fdw_scan(routine);
	lpu_fdw_target(routine);
	lpu_fdw_modify(routine);
	lpu_fdw_import(routine);
	PG_RETURN_POINTER(routine);
}

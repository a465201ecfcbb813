/*
 * fdw.h: what the parts of the foreign-data wrapper agree on.
 */
#ifndef LPU_FDW_H
#define LPU_FDW_H

#include "foreign/fdwapi.h"

/*
 * Items of ForeignScan.fdw_private, all of them nodes that can be copied. The expressions for the ids are in fdw_exprs, at
 * most one.
 */
enum
{
	LPU_SCAN_COLUMNS,			/* IntList: numbers of the needed columns, less one */
	LPU_SCAN_BY_ID,				/* Boolean: one GET for each id */
	LPU_SCAN_INCLUDE_DELETED,	/* Boolean */
	LPU_SCAN_OUTER,				/* String: the ids are this column of another table, as EXPLAIN shows it; "": they are not */
	LPU_SCAN_REPEATED,			/* Boolean: the same rows may be wanted more than once */
	LPU_SCAN_ENOUGH_GETS		/* Integer: so many GETs, one after the other, cost as much as the list */
};

/* Each part of the wrapper puts its callbacks into the handler's answer. */
extern void lpu_fdw_plan(FdwRoutine *routine);
extern void lpu_fdw_scan(FdwRoutine *routine);
extern void lpu_fdw_modify(FdwRoutine *routine);
extern void lpu_fdw_import(FdwRoutine *routine);

#endif

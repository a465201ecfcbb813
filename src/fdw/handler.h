/*
 * handler.h: what the parts of the foreign-data wrapper agree on.
 */
#ifndef LPU_FDW_HANDLER_H
#define LPU_FDW_HANDLER_H

#include "foreign/fdwapi.h"
#include "nodes/plannodes.h"

#include "remote/foreign_table.h"

/*
 * Items of ForeignScan.fdw_private, all of them nodes that can be copied. The
 * expressions for the ids are in fdw_exprs, at most one.
 */
enum
{
	LPU_SCAN_COLUMNS,			/* IntList: numbers of the needed columns,
								 * less one */
	LPU_SCAN_BY_ID,				/* Boolean: one GET for each id */
	LPU_SCAN_INCLUDE_DELETED,	/* Boolean */
	LPU_SCAN_OUTER,				/* String: the ids are this column of another
								 * table, as EXPLAIN shows it; "": they are
								 * not */
	LPU_SCAN_REPEATED,			/* Boolean: the same rows may be wanted more
								 * than once */
	LPU_SCAN_ENOUGH_GETS		/* Integer: so many GETs, one after the other,
								 * cost as much as the list */
};

/* Items of what PlanForeignModify() says. */
enum
{
	LPU_MODIFY_COLUMNS,			/* IntList: columns that UPDATE sets, numbers
								 * less one */
	LPU_MODIFY_VALUES,			/* Strings: to what, in SQL; "": not known */
	LPU_MODIFY_CONDITIONAL,		/* Boolean: not of all rows */
	LPU_MODIFY_SKIP				/* Boolean: ON CONFLICT DO NOTHING */
};

/*
 * Columns of the plan of an UPDATE or DELETE that carry who a row is. The id
 * is named after the number of the table's column, since other foreign tables
 * of one statement may have it elsewhere.
 */
#define LPU_ID_JUNK "id"
#define LPU_ROW_JUNK "wholerow"
extern char *lpu_fdw_junk_name(const char *what, int column);

/*
 * Raise an error if a query refers to a system column of a foreign table, or what a statement
 * returns of rows routed to it.
 */
extern void lpu_fdw_refuse_system_columns(const PlannerInfo *root, Index rti,
										  const LpuForeignTable *table);
extern void lpu_fdw_refuse_system_columns_of_routed(const ModifyTable *plan,
													const LpuForeignTable *table);

/* Return true if the conditions of the query refer to deleted entities. */
extern bool lpu_fdw_wants_deleted(PlannerInfo *root, const LpuForeignTable *table,
								  RelOptInfo *baserel);

/* Raise 42501 unless the role may write users through a foreign table of the server. */
extern void lpu_fdw_require_rights(Oid server, Oid role, CmdType operation);

/* Return the revision at which the statement has listed the users of the table, or -1. */
extern int64 lpu_fdw_scanned_revision(const EState *estate, Oid relation);

/* Return true if each row must be sent alone; if lpusers collects rows, not the executor. */
extern bool lpu_fdw_goes_alone(const ResultRelInfo *info, CmdType operation);
extern bool lpu_fdw_is_buffered(const ResultRelInfo *info, CmdType operation,
								const ModifyTableState *mtstate);

/* Each part of the wrapper sets its callbacks in the FdwRoutine. */
extern void lpu_fdw_plan(FdwRoutine *routine);
extern void lpu_fdw_scan(FdwRoutine *routine);
extern void lpu_fdw_target(FdwRoutine *routine);
extern void lpu_fdw_modify(FdwRoutine *routine);
extern void lpu_fdw_import(FdwRoutine *routine);

#endif

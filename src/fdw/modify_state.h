/*
 * modify_state.h: the state of a statement that writes a foreign table.
 */
#ifndef LPU_FDW_MODIFY_STATE_H
#define LPU_FDW_MODIFY_STATE_H

#include "nodes/execnodes.h"
#include "utils/hsearch.h"

#include "fdw/handler.h"
#include "remote/delete.h"
#include "remote/insert.h"
#include "remote/update.h"

/* Of one foreign table, in ResultRelInfo.ri_FdwState. */
typedef struct LpuModifyState
{
	Oid			relation;
	LpuForeignTable *table;
	LpuWriterState writer;
	MemoryContext context;		/* of the statement */
	ModifyTableState *mtstate;
	CmdType		operation;
	bool		begun;			/* the first row has come, and what follows is
								 * known: */
	bool		alone;			/* each row goes at once */
	List	   *checks;			/* WITH CHECK OPTION, ExprStates that are not
								 * false for a row that may be written */
	LpuInsertState *creation;	/* of INSERT */
	LpuUpdateState *change;		/* of UPDATE */
	LpuUpdate	update;			/* likewise, and of DELETE */
	LpuSetList	set_list;
	LpuDeleteState *removal;	/* of DELETE */
	TupleTableSlot **created;	/* what INSERT hands back of a batch */
	AttrNumber	id;				/* places in the plan's rows */
	AttrNumber	row;
	HTAB	   *seen;			/* ids of UPDATE and DELETE: a join may bring
								 * a row twice */
	int			limit;			/* users that UPDATE or DELETE may change; 0:
								 * any number */
	int64		touched;		/* users so far, if there is a limit */
} LpuModifyState;

/* The FDW callbacks that make it. */
extern void lpuBeginForeignModify(ModifyTableState *mtstate, ResultRelInfo *info, List *fdw_private,
								  int subplan_index, int eflags);
extern void lpuBeginForeignInsert(ModifyTableState *mtstate, ResultRelInfo *info);

#endif

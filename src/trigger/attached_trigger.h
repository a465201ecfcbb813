/*
 * attached_trigger.h: the triggers of a table that create users.
 */
#ifndef LPU_TRIGGER_ATTACHED_TRIGGER_H
#define LPU_TRIGGER_ATTACHED_TRIGGER_H

#include "fmgr.h"
#include "nodes/pg_list.h"
#include "utils/relcache.h"
#include "utils/reltrigger.h"

/* One of them. */
typedef struct LpuAttached
{
	char	   *trigger;		/* its name in pg_trigger */
	char	   *name;			/* given by lp_attach_trigger(); NULL: written
								 * by hand */
	int			nargs;
	char	  **args;
} LpuAttached;

/* Return the name in pg_trigger of the trigger that lp_attach_trigger() creates under a name. */
extern char *lpu_attached_trigger(const char *name, bool update);

/* Return the trigger function of this extension; the caller is another function of it. */
extern Oid	lpu_attached_function(FunctionCallInfo fcinfo);

/*
 * The triggers on the table itself that call the function, as a list of LpuAttached. "account",
 * "name": only those, unless NULL. "made_here": only those of lp_attach_trigger(); otherwise the
 * name of a trigger that was written by hand is its own.
 */
extern List *lpu_attached_find(Relation table, Oid function, const char *account, const char *name,
							   bool made_here);

/*
 * Raise an error that lists the triggers unless all belong together: the same arguments, or one
 * name.
 */
extern void lpu_attached_require_one(Relation table, const List *found, const char *function);

/* The triggers in words: names and accounts. */
extern char *lpu_attached_list(const List *found);

#endif

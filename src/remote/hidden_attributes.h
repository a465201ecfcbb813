/*
 * hidden_attributes.h: attributes that the API does not show, and that an update could wipe out.
 */
#ifndef LPU_REMOTE_HIDDEN_ATTRIBUTES_H
#define LPU_REMOTE_HIDDEN_ATTRIBUTES_H

#include "nodes/bitmapset.h"
#include "utils/jsonb.h"

#include "remote/foreign_table.h"

/* The SET list of an UPDATE. */
typedef struct LpuSetList
{
	Bitmapset  *columns;		/* numbers less one */
	const char **values;		/* by these numbers: what the statement says,
								 * as SQL; NULL where that is not known */
	bool		conditional;	/* it has a condition, or a FROM list */
} LpuSetList;

/*
 * Return the attributes of an entity that are blank in the response and are not among the
 * columns set (numbers less one), as names for a message, and set *hint to the statement to
 * write instead.
 */
extern char *lpu_hidden_lost(const LpuForeignTable *table, const LpuSetList *list,
							 const Bitmapset *columns, Jsonb *entity,
							 char **hint);

#endif

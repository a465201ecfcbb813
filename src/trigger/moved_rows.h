/*
 * moved_rows.h: rows that the running statement moved to another partition.
 */
#ifndef LPU_TRIGGER_MOVED_ROWS_H
#define LPU_TRIGGER_MOVED_ROWS_H

#include "utils/relcache.h"

/* What lpu_moved_count() keeps of a table between calls; zeroed at first. */
typedef struct LpuMovedSeen
{
	int64		transaction;	/* its start */
	int64		deleted;		/* rows that it had deleted at the last call */
} LpuMovedSeen;

/* Count the rows that the statement whose AFTER trigger is running moved between partitions. */
extern int64 lpu_moved_count(Relation table, LpuMovedSeen *seen);

#endif

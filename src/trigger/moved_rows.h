/*
 * moved_rows.h: rows that the running statement moved to another partition.
 */
#ifndef LPU_TRIGGER_MOVED_ROWS_H
#define LPU_TRIGGER_MOVED_ROWS_H

#include "utils/relcache.h"

/*
 * How many rows of a partitioned table the statement moved whose AFTER trigger is running. "seen" is what the caller
 * keeps between calls, for this table, zeroed at first.
 */
typedef struct lpu_moved_seen
{
	int64		transaction;	/* its start */
	int64		deleted;		/* rows that it had deleted at the last call */
} lpu_moved_seen;

extern int64 lpu_moved_count(Relation table, lpu_moved_seen *seen);

#endif

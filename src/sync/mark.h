/*
 * mark.h: marks of rows that changed in watched tables since the last run.
 */
#ifndef LPU_SYNC_MARK_H
#define LPU_SYNC_MARK_H

#include "sync/definition.h"

/* The marks that a run has read. */
typedef struct LpuSyncMarks
{
	int64	   *ids;			/* of all of them */
	int			n;
	Datum		keys;			/* a text[]: keys to be checked */
	int			nkeys;
	const char *everything;		/* why all keys are to be checked, or NULL */
} LpuSyncMarks;

/* An expression over a watched table, as lp_sync_watch() stores it. */
typedef struct LpuSyncWatch
{
	int64		id;
	const char *relation;		/* with its schema, quoted */
	const char *alias;			/* its name in the expression */
	List	   *columns;		/* names of the columns that the expression
								 * uses */
	List	   *types;			/* SQL, of each of them */
	const char *expression;		/* SQL, independent of search_path */
} LpuSyncWatch;

/* Read the marks of a sync, with SPI connected, and find their keys as its owner unless "ids_only". */
extern void lpu_sync_read_marks(const LpuSync *sync, bool ids_only, LpuSyncMarks *marks);

/* Delete the marks that the run has processed; keys that wait in its plan are marked again. */
extern void lpu_sync_remove_marks(const LpuSync *sync, const LpuSyncMarks *marks, int64 plan);

/*
 * The keys of rows of a watched table, each a JSON array of the values of the columns: run as the
 * sync's owner; the result is SPI's. Raises what the expression raises.
 */
extern void lpu_sync_evaluate(const LpuSync *sync, const LpuSyncWatch *watch, Datum rows);

#endif

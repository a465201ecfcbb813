/*
 * fetch.h: rows of a foreign table.
 */
#ifndef LPU_REMOTE_FETCH_H
#define LPU_REMOTE_FETCH_H

#include "nodes/bitmapset.h"

#include "options/option.h"
#include "remote/foreign_table.h"

typedef struct LpuFetch LpuFetch;

/*
 * With more ids than this one listing is cheaper: at 50 ms a GET, and a few at a time, the GETs
 * take several seconds, in which an account of the usual size is listed.
 */
#define LPU_MAX_GETS 200

/* What is asked for. */
typedef struct LpuFetchPlan
{
	Bitmapset  *columns;		/* numbers of the columns that are needed,
								 * less one */
	bool		by_id;			/* one GET for each id, not a list */
	bool		include_deleted;
	bool		entity;			/* lpu_fetch_entity() is wanted: every
								 * attribute is asked for */
	int			max_gets;		/* of by_id: more ids are read by a listing;
								 * 0: LPU_MAX_GETS */
} LpuFetchPlan;

/* What it cost. */
typedef struct LpuFetchCost
{
	int64		requests;
	int64		listings;		/* of them */
	int64		bytes;
	double		ms;				/* waiting for the network, and receiving */
} LpuFetchCost;

/* Prepare to read a table, in the current memory context; sends nothing. */
extern LpuFetch *lpu_fetch_new(const LpuForeignTable *table, const LpuOptions *options,
							   const LpuFetchPlan *plan);

/* Return the URL below the origin of a fetch, with {id} for ids. */
extern char *lpu_fetch_path(const LpuForeignTable *table, const LpuOptions *options,
							const LpuFetchPlan *plan);

/*
 * Begin anew: with the whole list, or with the entities that have these ids
 * (in any order, some perhaps twice). Very many ids are read by a list too:
 * then it is false, and all entities come.
 */
extern void lpu_fetch_list(LpuFetch *fetch);
extern bool lpu_fetch_ids(LpuFetch *fetch, const int64 *ids, int n);

/*
 * Read the next row into arrays with an element for each column; columns that are not needed are
 * null.
 */
extern bool lpu_fetch_next(LpuFetch *fetch, Datum *values, bool *nulls);

/* Return the entity of the last row as the API wrote it, in UTF-8, until the next row. */
extern const char *lpu_fetch_entity(const LpuFetch *fetch, size_t *length);

/*
 * Return the oldest revision among the responses since the fetch began anew, after the last row;
 * -1 if one has none.
 */
extern int64 lpu_fetch_revision(const LpuFetch *fetch);

/* Take the rest from the network now, since the caller will not read for a long time. */
extern void lpu_fetch_drain(LpuFetch *fetch);

/* End the requests of a fetch that is not read to its end. */
extern void lpu_fetch_stop(LpuFetch *fetch);

extern LpuFetchCost lpu_fetch_costs(const LpuFetch *fetch);

#endif

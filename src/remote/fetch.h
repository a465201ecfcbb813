/*
 * fetch.h: rows of a foreign table.
 */
#ifndef LPU_REMOTE_FETCH_H
#define LPU_REMOTE_FETCH_H

#include "nodes/bitmapset.h"

#include "options/option.h"
#include "remote/foreign_table.h"

typedef struct lpu_fetch lpu_fetch;

/*
 * With more ids than this one listing is cheaper for everybody: at 50 ms a GET, and a few at a time, the GETs take
 * several seconds, in which an account of the usual size is listed.
 */
#define LPU_MAX_GETS 200

/* What is asked for. */
typedef struct lpu_fetch_plan
{
	Bitmapset  *columns;		/* numbers of the columns that are needed, less one */
	bool		by_id;			/* one GET for each id, not a list */
	bool		include_deleted;
	bool		entity;			/* lpu_fetch_entity() is wanted: every attribute is asked for */
	int			max_gets;		/* of by_id: more ids are read by a listing; 0: LPU_MAX_GETS */
} lpu_fetch_plan;

/* What it cost. */
typedef struct lpu_fetch_cost
{
	int64		requests;
	int64		listings;		/* of them */
	int64		bytes;
	double		ms;				/* waiting for the network, and receiving */
} lpu_fetch_cost;

/* Prepare to read a table; sends nothing. All arguments must live as long. In the current memory context. */
extern lpu_fetch *lpu_fetch_new(const lpu_table *table, const lpu_options *options, const lpu_fetch_plan *plan);

/* The URL below the origin that will be asked, with {id} where ids go. */
extern char *lpu_fetch_path(const lpu_table *table, const lpu_options *options, const lpu_fetch_plan *plan);

/*
 * Begin anew: with the whole list, or with the entities that have these ids (in any order, some perhaps twice). Very many
 * ids are read by a list too: then it is false, and all entities come.
 */
extern void lpu_fetch_list(lpu_fetch *fetch);
extern bool lpu_fetch_ids(lpu_fetch *fetch, const int64 *ids, int n);

/*
 * The next row, into arrays with a place for each column; columns that are not needed are null. Values are in the current
 * memory context. False: that was all. Raises for whatever goes wrong, naming column, attribute and entity if it is a value.
 */
extern bool lpu_fetch_next(lpu_fetch *fetch, Datum *values, bool *nulls);

/* The whole entity behind the last row, as the API wrote it, in UTF-8; until the next row. Of plan.entity. */
extern const char *lpu_fetch_entity(const lpu_fetch *fetch, size_t *length);

/* The oldest revision among the answers since the fetch began anew, when all rows have come; -1: none carried one. */
extern int64 lpu_fetch_revision(const lpu_fetch *fetch);

/* Nobody may ask for more for a long time: take what the network has of it now. */
extern void lpu_fetch_drain(lpu_fetch *fetch);

/* Nobody will ask for more: end what is under way. Not needed after an error. */
extern void lpu_fetch_stop(lpu_fetch *fetch);

extern lpu_fetch_cost lpu_fetch_costs(const lpu_fetch *fetch);

#endif

/*
 * list_stream.h: the entities of a GET, one after the other while they arrive.
 */
#ifndef LPU_API_LIST_STREAM_H
#define LPU_API_LIST_STREAM_H

#include "api/users_api.h"
#include "json/array_reader.h"

typedef struct LpuListing LpuListing;

typedef enum LpuListingState
{
	LPU_LISTING_ELEMENT,		/* an entity: lpu_listing_values() */
	LPU_LISTING_END,			/* that was all, and the response came whole */
	LPU_LISTING_ABSENT,			/* 404 or 410: what was asked for is not there */
	LPU_LISTING_FAILED			/* lpu_listing_problem() says why; what came
								 * before is not to be trusted as all there is */
} LpuListingState;

/*
 * Send a GET, and do not wait; several may be under way. request: method,
 * user_id and query. names, n, whole: as for lpu_reader_new(). what: for
 * messages, such as "list users"; it is copied. The options and all other
 * strings must live as long. In the current memory context, until
 * lpu_listing_close(), or until the context ends by an error.
 */
extern LpuListing *lpu_listing_open(const LpuOptions *options, const LpuApiRequest *request,
									const char *what,
									const char *const *names, int n, bool whole);
extern void lpu_listing_close(LpuListing *listing);

/* Read the next entity. */
extern LpuListingState lpu_listing_next(LpuListing *listing);

/*
 * Of ELEMENT, until the next lpu_listing_next(): the values in the order of
 * the names; the entity as it is written.
 */
extern const LpuValue *lpu_listing_values(const LpuListing *listing);
extern const LpuValue *lpu_listing_whole(const LpuListing *listing);

/* Return why the listing failed, after FAILED. */
extern LpuProblem *lpu_listing_problem(const LpuListing *listing);

/* Take the rest of the response now, since the caller will not read for a long time. */
extern bool lpu_listing_drain(LpuListing *listing);

/* Likewise of all listings of this process, before a wait that does not read them. */
extern void lpu_listings_drain(void);

/* What it cost so far. */
extern int	lpu_listing_requests(const LpuListing *listing);
extern int64 lpu_listing_bytes(const LpuListing *listing);
extern double lpu_listing_ms(const LpuListing *listing);	/* waiting and receiving */

/* Return the revision of a response that has ended, or -1 if it has none. */
extern int64 lpu_listing_revision(const LpuListing *listing);

#endif

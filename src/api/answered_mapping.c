/*
 * answered_mapping.c: the user mappings with which an account has answered.
 *
 * A 404 to a GET by id can mean that there is no such user, or no such account, or a wrong path. It
 * is believed where the account has listed something for the same options before. This remembers,
 * for the session, with which options that was.
 */
#include "postgres.h"

#include "utils/hsearch.h"

#include "api/answered_mapping.h"
#include "api/list_stream.h"

/* The query of a listing that only verifies that the account exists. */
#define PROBE_QUERY "&select=id"

typedef struct AnsweredMapping
{
	Oid			mapping;		/* key */
	uint64		generation;		/* of the options that it answered to */
} AnsweredMapping;

static HTAB *answered = NULL;

/* Note that the account has answered a GET with these options, in this session. */
void
lpu_answered_remember(const LpuOptions *options)
{
	AnsweredMapping *entry;

	if (answered == NULL)
	{
		HASHCTL		ctl = {.keysize = sizeof(Oid),.entrysize = sizeof(AnsweredMapping)};

		answered = hash_create("lpusers answered mappings", 16, &ctl, HASH_ELEM | HASH_BLOBS);
	}
	entry = hash_search(answered, &options->mapping, HASH_ENTER, NULL);
	entry->generation = options->generation;
}

/* Return true if the account has answered a GET with these options, of this generation. */
bool
lpu_answered_has(const LpuOptions *options)
{
	AnsweredMapping *entry = answered == NULL ? NULL :
	hash_search(answered, &options->mapping, HASH_FIND, NULL);

	return entry != NULL && entry->generation == options->generation;
}

/*
 * Return true if the account has answered a GET with these options, or lists users now; else set
 * *problem. A listing that it sends ends with its first entity and is added to the costs. Can be
 * cancelled.
 */
bool
lpu_answered_verify(const LpuOptions *options, LpuProblem **problem, int *requests, double *ms)
{
	static const char *const names[] = {"id"};
	LpuApiRequest request = {.method = LPU_LIST_USERS,.query = PROBE_QUERY};
	LpuListing *probe;
	bool		there;

	if (lpu_answered_has(options))
		return true;
	probe = lpu_listing_open(options, &request, "list users", names, 1, false);
	there = lpu_listing_next(probe) != LPU_LISTING_FAILED;
	*requests += lpu_listing_requests(probe);
	*ms += lpu_listing_ms(probe);
	if (there)
		lpu_listing_close(probe);
	else
		*problem = lpu_listing_problem(probe);
	return there;
}

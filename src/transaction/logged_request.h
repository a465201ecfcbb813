/*
 * logged_request.h: one writing request inside the caller's transaction, with its record.
 */
#ifndef LPU_TRANSACTION_LOGGED_REQUEST_H
#define LPU_TRANSACTION_LOGGED_REQUEST_H

#include "nodes/pg_list.h"

#include "api/users_api.h"
#include "user/serialize.h"

typedef struct LpuLoggedCall
{
	Oid			schema;			/* of the extension */
	const char *path;			/* of the record: direct, sync or table */
	const char *operation;		/* of the record: create, update, delete or
								 * reset */
	const char *success;		/* state of the record after 2xx: created or
								 * done */
	const LpuOptions *options;
	LpuApiRequest request;
	LpuUserIdentity *users;		/* its users; after a create with their ids */
	int			nusers;
	bool		looks;			/* the caller looks up the result of a refused
								 * request */
	List	   *secrets;		/* C strings that must not appear in an error */
	const char *what;			/* for the ERROR without a response: "create
								 * users", or NULL */
	const char *note;			/* ... is appended to its DETAIL, or NULL */
	const char *hint;			/* ... is its HINT if the outcome is unknown,
								 * or NULL */
	struct LpuRecord *record;	/* that was made of it, or NULL */
	struct LpuRemoteEffect *effect; /* private, as what follows */
	struct LpuApiCall *under_way;
} LpuLoggedCall;

/*
 * Record the call (unless lpusers.log_calls is off), send it, read the response, complete the
 * record, and note what a rollback would not undo.
 */
extern LpuApiAnswer *lpu_call_send(LpuLoggedCall *call, const char **error);

/* One of several concurrent calls: start, wait, finish. */
extern void lpu_call_start(LpuLoggedCall *call);
extern bool lpu_call_done(const LpuLoggedCall *call);
extern LpuApiAnswer *lpu_call_finish(LpuLoggedCall *call, const char **error);
extern void lpu_call_expire(LpuLoggedCall *call);
extern bool lpu_call_renewed(const LpuLoggedCall *call);

/* Raise the error for a missing response. */
pg_noreturn extern void lpu_call_raise_silence(const LpuLoggedCall *call,
											   const LpuApiAnswer *answer);

#endif

/*
 * users_api.h: the methods of the users API, one request each.
 */
#ifndef LPU_API_USERS_API_H
#define LPU_API_USERS_API_H

#include "nodes/pg_list.h"

#include "options/option.h"

typedef enum LpuMethod
{
	LPU_CREATE_USERS,
	LPU_UPDATE_USERS,
	LPU_DELETE_USERS,
	LPU_RESET_PASSWORD,
	LPU_LIST_USERS,
	LPU_GET_USER,
	LPU_LIST_SKILLS,
	LPU_LIST_PROFILES,
	LPU_LIST_AGENT_GROUPS,
	LPU_LIST_LOBS
} LpuMethod;

/*
 * What a response, or its absence, means for the request.  users_api.c has the table of
 * statuses.
 */
typedef enum LpuVerdict
{
	LPU_OK,						/* 2xx: carried out */
	LPU_LATER,					/* 429 and kin: not carried out, may be sent
								 * again after retry_after_ms */
	LPU_REJECTED,				/* the account judged the data of the users:
								 * not carried out, or only in part */
	LPU_UNAUTHORIZED,			/* 401, also with a fresh bearer: not carried
								 * out */
	LPU_FORBIDDEN,				/* 403: not carried out */
	LPU_MISDIRECTED,			/* not a response of the account about users:
								 * not carried out */
	LPU_NOT_SENT,				/* no response, and certainly not carried out */
	LPU_UNCERTAIN				/* 5xx, or no whole response: may have been
								 * carried out */
} LpuVerdict;

typedef struct LpuApiRequest
{
	LpuMethod	method;
	int64		user_id;		/* of RESET_PASSWORD and GET_USER */
	const char *query;			/* more query parameters, "&name=value", or "" */
	const char *body;			/* JSON in UTF-8, or NULL */
	size_t		body_length;
	int64		if_match;		/* of UPDATE and DELETE: -1: whatever the
								 * revision; of a list: above 0: 304 if
								 * unchanged */
	bool	   *sent;			/* or NULL; set when the account may have got
								 * the request, cleared when it refused it */
	bool		untimed;		/* the option "timeout" does not end it, but
								 * lpu_api_expire() does */
	struct LpuHttpSink *sink;	/* or NULL; what takes the body of a 2xx
								 * response while it arrives, see request.h */
} LpuApiRequest;

typedef struct LpuApiAnswer
{
	LpuVerdict	verdict;
	int			status;			/* HTTP status; 0: none came */
	int			sqlstate;		/* that goes with it, of no success */
	bool		has_revision;
	int64		revision;		/* ac-revision */
	const char *body;			/* as it came: UTF-8 if the service is
								 * well-behaved; "" if none */
	size_t		body_length;
	char	   *error;			/* on any response but 2xx, or if the body had
								 * to be dropped: what the service said */
	bool		hidden;			/* it repeats a secret: body is not to be
								 * shown, error is without it */
	bool		bulky;			/* body has too many values to be shown */
	long		retry_after_ms; /* of LATER */
	LpuProblem *problem;		/* of NOT_SENT, and of UNCERTAIN without a
								 * whole response: what an entry point raises */
} LpuApiAnswer;

/*
 * The verb of a request, and its URL below the origin; with {id} instead of
 * the user's id if that is 0. For people to read, nothing is looked up.
 */
extern const char *lpu_api_verb(LpuMethod method);
extern char *lpu_api_path(const LpuOptions *options, const LpuApiRequest *request);

/* Send one request and return its response, allocated in the current memory context. */
extern LpuApiAnswer *lpu_api_send(const LpuOptions *options, const LpuApiRequest *request);

/* A request on its way. It lives in the memory context that it was started in. */
typedef struct LpuApiCall LpuApiCall;

/*
 * Start one request and do not wait for its response, for several at a time;
 * lpu_http_turn() lets them go on. It may wait for a bearer first. A request
 * that cannot be sent is done at once. Nothing is sent again by itself, but
 * for lpu_api_renewed(): after a 401, whether there is a new bearer, so that
 * the request may be started once more.
 */
extern LpuApiCall *lpu_api_start(const LpuOptions *options, const LpuApiRequest *request);
extern bool lpu_api_done(const LpuApiCall *call);
extern int	lpu_api_status(const LpuApiCall *call); /* of a call that is done;
													 * 0: no response came */
extern LpuApiAnswer *lpu_api_finish(LpuApiCall *call);
extern void lpu_api_expire(LpuApiCall *call);
extern bool lpu_api_renewed(const LpuApiCall *call);

/* Continue a transfer whose sink was full. */
extern void lpu_api_resume(LpuApiCall *call);

/* Keep secrets (C strings in UTF-8) of the request out of what is shown of a response. */
extern void lpu_api_hide(LpuApiAnswer *answer, List *secrets);

/* Return the SQLSTATE of a response that is no success, or of its absence. */
extern int	lpu_api_sqlstate(const LpuApiAnswer *answer);

/*
 * Return the problem that an entry point raises for a response that is no success, or for none.
 * what is what could not be done, such as "list users".
 */
extern LpuProblem *lpu_api_refusal(const LpuOptions *options, const LpuApiAnswer *answer,
								   const char *what);

#endif

/*
 * request_state.h: states, hold kinds and causes of requests, and their names in lp_requests.
 */
#ifndef LPU_QUEUE_REQUEST_STATE_H
#define LPU_QUEUE_REQUEST_STATE_H

/* State of a request.  Values from LPU_STATE_UNSENT on are not stored. */
typedef enum LpuState
{
	LPU_STATE_NONE,				/* not known yet */
	LPU_STATE_PENDING,
	LPU_STATE_SENDING,
	LPU_STATE_UNCERTAIN,
	LPU_STATE_HELD,
	LPU_STATE_CREATED,
	LPU_STATE_DONE,
	LPU_STATE_FAILED,
	LPU_STATE_UNSENT			/* pending again, and the attempt does not
								 * count */
} LpuState;

/* Why a request is held. */
typedef enum LpuHoldKind
{
	LPU_HOLD_NONE,
	LPU_HOLD_SETUP,				/* server, rights, trigger, response not from
								 * the API */
	LPU_HOLD_THRESHOLD,			/* hold_above */
	LPU_HOLD_CREDENTIALS,		/* refused */
	LPU_HOLD_ELSEWHERE			/* written in another system, database or
								 * timeline */
} LpuHoldKind;

/* Why a request has failed. */
typedef enum LpuCause
{
	LPU_CAUSE_NONE,
	LPU_CAUSE_REFUSED,			/* the account or our checks rejected the data
								 * of this user */
	LPU_CAUSE_GAVE_UP,			/* sent, and no outcome after max_retries */
	LPU_CAUSE_UNKNOWN			/* a direct call or table write without
								 * outcome */
} LpuCause;

/* Names as stored in lp_requests; NULL for NONE, "pending" for UNSENT.  Constants. */
extern const char *lpu_state_name(LpuState state);
extern const char *lpu_hold_kind_name(LpuHoldKind kind);
extern const char *lpu_cause_name(LpuCause cause);

#endif

/*
 * request_state.c: states, hold kinds and causes of requests, and their names in lp_requests.
 *
 * The CHECK constraints of lp_requests have the same names.  No behaviour depends on the wording of
 * a message.
 */
#include "postgres.h"

#include "queue/request_state.h"

static const char *const state_names[] = {
	[LPU_STATE_NONE] = NULL,
	[LPU_STATE_PENDING] = "pending",
	[LPU_STATE_SENDING] = "sending",
	[LPU_STATE_UNCERTAIN] = "uncertain",
	[LPU_STATE_HELD] = "held",
	[LPU_STATE_CREATED] = "created",
	[LPU_STATE_DONE] = "done",
	[LPU_STATE_FAILED] = "failed",
	[LPU_STATE_UNSENT] = "pending",
};

static const char *const hold_kind_names[] = {
	[LPU_HOLD_NONE] = NULL,
	[LPU_HOLD_SETUP] = "setup",
	[LPU_HOLD_THRESHOLD] = "threshold",
	[LPU_HOLD_CREDENTIALS] = "credentials",
	[LPU_HOLD_ELSEWHERE] = "elsewhere",
};

static const char *const cause_names[] = {
	[LPU_CAUSE_NONE] = NULL,
	[LPU_CAUSE_REFUSED] = "refused",
	[LPU_CAUSE_GAVE_UP] = "gave_up",
	[LPU_CAUSE_UNKNOWN] = "unknown",
};

/*
 * Return the name of a state as stored in lp_requests, a constant; NULL for NONE, "pending" for
 * UNSENT.
 */
const char *
lpu_state_name(LpuState state)
{
	return state_names[state];
}

/* Return the name of a reason to hold as stored in lp_requests, a constant; NULL for NONE. */
const char *
lpu_hold_kind_name(LpuHoldKind kind)
{
	return hold_kind_names[kind];
}

/* Return the name of a cause as stored in lp_requests, a constant; NULL for NONE. */
const char *
lpu_cause_name(LpuCause cause)
{
	return cause_names[cause];
}

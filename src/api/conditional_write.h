/*
 * conditional_write.h: writes on condition that the account is still at a revision.
 */
#ifndef LPU_API_CONDITIONAL_WRITE_H
#define LPU_API_CONDITIONAL_WRITE_H

#include "api/users_api.h"

/*
 * More users than this are read by one listing: other clients have less time to change the account
 * than while the users are read one by one.
 */
#define LPU_MAX_REREADS 24

/* Return true if a write was refused because the account had another revision. */
typedef enum LpuStaleness
{
	LPU_NOT_STALE,
	LPU_STALE,
	LPU_STALE_IF_MOVED			/* if the account is at another revision now */
} LpuStaleness;

extern LpuStaleness lpu_write_staleness(int64 if_match, const LpuApiAnswer *answer);
extern long lpu_write_pause(int round);

#endif

/*
 * conditional_write.c: writes on condition that the account is still at a revision.
 *
 * The revision of an account is one number for all its users: a change of any user by another
 * client makes a write stale (If-Match).  Then the users are read again, and the write is repeated
 * after a pause.  This is what foreign tables (remote/conditional.c) and the queue
 * (delivery/change_chain.c) have in common; they read and send in their own ways.
 */
#include "postgres.h"

#include "common/pg_prng.h"

#include "api/conditional_write.h"

/* The first pause on average, about the time of a few requests; each is twice the one before. */
#define FIRST_PAUSE_MS 50

/* Longer pauses would leave an account unused that has come to rest. */
#define MAX_PAUSE_MS 2000

/*
 * Return whether a response says that the account was not at the revision if_match (-1: the write
 * was unconditional).  409 can also be about a user: then the revision tells, which the response
 * itself may show.
 */
LpuStaleness
lpu_write_staleness(int64 if_match, const LpuApiAnswer *answer)
{
	if (if_match < 0)
		return LPU_NOT_STALE;
	if (answer->status == 412)
		return LPU_STALE;
	if (answer->status != 409)
		return LPU_NOT_STALE;
	return answer->has_revision && answer->revision != if_match ? LPU_STALE : LPU_STALE_IF_MOVED;
}

/* Return the milliseconds to wait after so many stale writes in a row, from 1. */
long
lpu_write_pause(int round)
{
	double		pause = FIRST_PAUSE_MS;

	while (--round > 0 && pause < MAX_PAUSE_MS)
		pause *= 2;
	pause = Min(pause, MAX_PAUSE_MS);
	return (long) (pause * (0.5 + pg_prng_double(&pg_global_prng_state))) + 1;
}

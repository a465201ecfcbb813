/*
 * rollback_warning.h: effects of this transaction on accounts, which a rollback cannot undo.
 */
#ifndef LPU_TRANSACTION_ROLLBACK_WARNING_H
#define LPU_TRANSACTION_ROLLBACK_WARNING_H

#include "user/serialize.h"

typedef struct LpuRemoteEffect LpuRemoteEffect;

/*
 * Note that a writing request is about to be sent: account, operation ("create", "update", ...)
 * and its users.
 */
extern LpuRemoteEffect *lpu_effects_begin(const char *account, const char *operation,
										  const LpuUserIdentity *users, int n);

/* Return the flag to be set as soon as the request may have reached the account. */
extern bool *lpu_effect_sent_flag(LpuRemoteEffect *effect);

/* Note that the request was executed or not, and the ids of its users. */
extern void lpu_effects_settle(LpuRemoteEffect *effect, bool carried_out,
							   const LpuUserIdentity *users, int n);

/* Note that the outcome of the request remains unknown. */
extern void lpu_effects_leave(LpuRemoteEffect *effect);

#endif

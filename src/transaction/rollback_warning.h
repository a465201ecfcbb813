/*
 * rollback_warning.h: what this transaction did to an account and a rollback cannot undo.
 */
#ifndef LPU_TRANSACTION_ROLLBACK_WARNING_H
#define LPU_TRANSACTION_ROLLBACK_WARNING_H

#include "user/serialize.h"

typedef struct LpuRemoteEffect LpuRemoteEffect;

/*
 * About to send a writing request: account, operation ("create", "update", …)
 * and the users it is about. If the transaction or subtransaction aborts after
 * the request may have gone out, a WARNING names them.
 */
extern LpuRemoteEffect *lpu_effects_begin(const char *account, const char *operation,
										  const LpuUserIdentity *users, int n);

/* To be set as soon as the request may have reached the account. */
extern bool *lpu_effect_sent_flag(LpuRemoteEffect *effect);

/*
 * An answer came: was the request carried out? Users may now have ids. The
 * effect must not be used after this.
 */
extern void lpu_effects_settle(LpuRemoteEffect *effect, bool carried_out,
							   const LpuUserIdentity *users, int n);

#endif

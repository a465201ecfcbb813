/*
 * bearer_token.h: the bearer that a request must carry.
 */
#ifndef LPU_API_BEARER_TOKEN_H
#define LPU_API_BEARER_TOKEN_H

#include "options/option.h"

/*
 * The bearer for the mapping of these options: a ready one, or one obtained
 * from the token service or the Login service and kept until shortly before it
 * expires. May send requests; interruptible. NULL and *problem if there is
 * none. Allocated in the current memory context.
 */
extern char *lpu_auth_bearer(const LpuOptions *options, LpuProblem **problem);

/*
 * A request with this bearer was answered 401. Is there hope for another one?
 * A kept one is forgotten.
 */
extern bool lpu_auth_renew(const LpuOptions *options, const char *refused);

#endif

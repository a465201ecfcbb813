/*
 * bearer_token.h: the bearer that a request must carry.
 */
#ifndef LPU_API_BEARER_TOKEN_H
#define LPU_API_BEARER_TOKEN_H

#include "options/option.h"

/*
 * Return the bearer for the mapping of these options: the one that the mapping has, or one that
 * was obtained from the token service or the Login service and is kept until shortly before it
 * expires.
 */
extern char *lpu_auth_bearer(const LpuOptions *options, LpuProblem **problem);

/* Return true if a request that was answered 401 can be sent again with another bearer. */
extern bool lpu_auth_renew(const LpuOptions *options, const char *refused);

/* Note that a request with this bearer was not answered with 401. */
extern void lpu_auth_accepted(const LpuOptions *options, const char *bearer);

/* Forget a kept bearer, so that the next request asks for another one. */
extern void lpu_auth_forget(const LpuOptions *options);

#endif

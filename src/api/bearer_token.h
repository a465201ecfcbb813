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

/* Forget a bearer that was answered with 401. */
extern bool lpu_auth_renew(const LpuOptions *options, const char *refused);

#endif

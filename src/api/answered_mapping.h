/*
 * answered_mapping.h: the user mappings with which an account has answered.
 */
#ifndef LPU_API_ANSWERED_MAPPING_H
#define LPU_API_ANSWERED_MAPPING_H

#include "base/error.h"
#include "options/option.h"

/* Note that the account has answered a GET with these options; return true if it has. */
extern void lpu_answered_remember(const LpuOptions *options);
extern bool lpu_answered_has(const LpuOptions *options);

/* Return true if the account has answered a GET with these options, or lists users now. */
extern bool lpu_answered_verify(const LpuOptions *options, LpuProblem **problem, int *requests,
								double *ms);

#endif

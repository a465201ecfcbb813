/*
 * list_problem.h: why a list could not be read.
 */
#ifndef LPU_API_LIST_PROBLEM_H
#define LPU_API_LIST_PROBLEM_H

#include "base/error.h"
#include "options/option.h"

/* Nothing came in time; the response is no list; it is larger than max_list_size. */
extern LpuProblem *lpu_list_too_slow(const LpuOptions *options, const char *what);
extern LpuProblem *lpu_list_unreadable(const LpuOptions *options, const char *what,
									   const char *detail);
extern LpuProblem *lpu_list_too_long(const LpuOptions *options, const char *what);

#endif

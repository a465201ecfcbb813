/*
 * writing.h: what the functions that write to an account have in common.
 */
#ifndef LPU_FUNCTIONS_WRITING_H
#define LPU_FUNCTIONS_WRITING_H

#include "fmgr.h"

#include "options/option.h"

/* The options for the account in the first argument; raises if the caller may not write there. */
extern const LpuOptions *lpu_options_for_writing(FunctionCallInfo fcinfo, const char *function);

/* The result of a function that returns SETOF bigint. */
extern void lpu_return_ids(FunctionCallInfo fcinfo, const int64 *ids, int n);

#endif

/*
 * compat_explain.h: what EXPLAIN callbacks call; 18 has it in headers of its
 * own. Apart from compat.h, which all include.
 */
#ifndef LPU_BASE_COMPAT_EXPLAIN_H
#define LPU_BASE_COMPAT_EXPLAIN_H

#if PG_VERSION_NUM >= 180000
#include "commands/explain_format.h"
#include "commands/explain_state.h"
#else
#include "commands/explain.h"
#endif

#endif

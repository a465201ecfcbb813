/*
 * compare.h: when two values of an attribute, or two users, mean the same.
 */
#ifndef LPU_USER_COMPARE_H
#define LPU_USER_COMPARE_H

#include "user/attribute.h"

extern bool lpu_value_means_same(LpuValueKind kind, const JsonbValue *a, const JsonbValue *b);
extern char *lpu_user_differences(Jsonb *wanted, Jsonb *listed);

#endif

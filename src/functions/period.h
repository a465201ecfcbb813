/*
 * period.h: periods that functions are given.
 */
#ifndef LPU_FUNCTIONS_PERIOD_H
#define LPU_FUNCTIONS_PERIOD_H

#include "datatype/timestamp.h"

/* Raise 22023 if it is negative, or a bare number that became seconds. */
extern void lpu_period_check(const Interval *period);

#endif

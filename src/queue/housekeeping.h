/*
 * housekeeping.h: old requests and old secrets.
 */
#ifndef LPU_QUEUE_HOUSEKEEPING_H
#define LPU_QUEUE_HOUSEKEEPING_H

#include "utils/timestamp.h"

/* Delete requests that were finished longer ago than this, and return their number. */
extern int64 lpu_purge(Interval *older_than);

/* Remove old secrets and old requests, as the settings say. */
extern void lpu_housekeep(void);

#endif

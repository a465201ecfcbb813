/*
 * change_read.h: reading the current state of the users that are to be changed.
 */
#ifndef LPU_DELIVERY_CHANGE_READ_H
#define LPU_DELIVERY_CHANGE_READ_H

#include "delivery/change_judge.h"
#include "delivery/delivery_state.h"

typedef struct LpuChangeRead LpuChangeRead;

extern LpuChangeRead *lpu_change_read_start(LpuDelivery *d, const LpuOptions *options,
											LpuChangedUser **users, int n);
extern bool lpu_change_read_done(LpuChangeRead *read, long *wait_ms);
extern const LpuListingResult *lpu_change_read_result(const LpuChangeRead *read);

#endif

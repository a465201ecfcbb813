/*
 * lookup.h: what became of users whose outcome is unknown.
 */
#ifndef LPU_DELIVERY_LOOKUP_H
#define LPU_DELIVERY_LOOKUP_H

#include "delivery/create_batch.h"

/* The listing that answers for all rows: start it, and read it when it is done (needs a transaction). */
extern lpu_api_call *lpu_lookup_start(const lpu_options *options);

/*
 * Set what became of each row. When the listing failed, all stay uncertain, and *problem says why; else it is NULL.
 * Returns what the answer means.
 */
extern lpu_verdict lpu_lookup_finish(lpu_api_call *call, lpu_doubt *doubts, int n, const char **problem);

#endif

/*
 * mend.h: failures that a later success made good.
 */
#ifndef LPU_QUEUE_MEND_H
#define LPU_QUEUE_MEND_H

/*
 * Mark as mended the failed requests that these successful ones resolved. Needs a transaction
 * with SPI connected.
 */
extern void lpu_settle_mend(const int64 *ids, int n);

#endif

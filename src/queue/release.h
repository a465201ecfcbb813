/*
 * release.h: requests that are held become pending.
 */
#ifndef LPU_QUEUE_RELEASE_H
#define LPU_QUEUE_RELEASE_H

/*
 * All need SPI connected, and return the number of requests that are pending now. The ids are a
 * bigint[].
 */
extern int64 lpu_release_account(const char *account);
extern int64 lpu_release_ids(Datum ids);
extern int64 lpu_adopt(void);

#endif

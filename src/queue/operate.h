/*
 * operate.h: what operators do with requests.
 */
#ifndef LPU_QUEUE_OPERATE_H
#define LPU_QUEUE_OPERATE_H

#include "utils/timestamp.h"

/*
 * All need SPI connected, raise what is wrong with a request, and return how many were changed.
 * The ids are a bigint[].
 */
extern int64 lpu_retry(Datum ids, Oid caller);
extern int64 lpu_discard(Datum ids, Oid caller);
extern int64 lpu_withdraw(Datum ids, const char *why);
extern int64 lpu_release_account(const char *account);
extern int64 lpu_release_ids(Datum ids);
extern int64 lpu_adopt(void);

#endif

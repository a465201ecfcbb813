/*
 * operate.h: operator functions on requests.
 */
#ifndef LPU_QUEUE_OPERATE_H
#define LPU_QUEUE_OPERATE_H

#include "utils/timestamp.h"

/*
 * All need SPI connected, raise an error if a request does not qualify, and return the number of
 * changed requests. The ids are a bigint[].
 */
extern int64 lpu_retry(Datum ids, Oid caller);
extern int64 lpu_discard(Datum ids, Oid caller);
extern int64 lpu_withdraw(Datum ids, const char *why);
extern int64 lpu_release_account(const char *account);
extern int64 lpu_release_ids(Datum ids);
extern int64 lpu_adopt(void);

#endif

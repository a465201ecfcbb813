/*
 * operate.h: operator functions on requests.
 */
#ifndef LPU_QUEUE_OPERATE_H
#define LPU_QUEUE_OPERATE_H

/*
 * All need SPI connected, raise an error if a request does not qualify, and return the number of
 * changed requests. The ids are a bigint[].
 */
extern int64 lpu_retry(Datum ids, Oid caller);
extern int64 lpu_discard(Datum ids, Oid caller);
extern int64 lpu_withdraw(Datum ids, const char *why);

/*
 * Find those of the requests whose user has a newer update or delete that is done: rows of both
 * ids in SPI_tuptable. Needs SPI connected.
 */
extern void lpu_find_overtaken(Datum ids);

#endif

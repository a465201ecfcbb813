/*
 * response_spool.h: the bytes of a long response between the network and their reader.
 */
#ifndef LPU_HTTP_RESPONSE_SPOOL_H
#define LPU_HTTP_RESPONSE_SPOOL_H

#include "http/request.h"

typedef struct LpuSpool LpuSpool;

/*
 * An empty spool in the current memory context, which also frees it. Its file
 * belongs to the resource owner that is current now; unless that ends by an
 * abort, lpu_spool_close() has to close it.
 */
extern LpuSpool *lpu_spool_new(void);
extern void lpu_spool_close(LpuSpool *spool);

/* Return the sink to which a request writes its response. */
extern LpuHttpSink *lpu_spool_sink(LpuSpool *spool);

/*
 * Let the sink accept another 256 kB, so that one turn of the network does not take everything.
 */
extern void lpu_spool_begin_turn(LpuSpool *spool);

/* Take the next bytes, in order; they stay valid until the next call. */
extern bool lpu_spool_read(LpuSpool *spool, const char **data, size_t *length);

/* Return true if bytes were refused because memory is full. */
extern bool lpu_spool_is_full(const LpuSpool *spool);

/* Return how many bytes were written to the spool so far. */
extern int64 lpu_spool_written(const LpuSpool *spool);

#endif

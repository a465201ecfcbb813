/*
 * response_spool.h: the bytes of a long answer between the network and their reader.
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

/* What a request writes its answer to. */
extern LpuHttpSink *lpu_spool_sink(LpuSpool *spool);

/*
 * From now on the sink takes another 256 kB, then it refuses for now: one turn
 * of the network is not to take everything. If memory is full, what is in it
 * goes into a temporary file first; raises if the disk is full.
 */
extern void lpu_spool_begin_turn(LpuSpool *spool);

/* Take the next bytes, in order; they stay valid until the next call. False: there are none now. */
extern bool lpu_spool_read(LpuSpool *spool, const char **data, size_t *length);

/* Was a piece refused because memory is full? Then nothing comes before the next turn. */
extern bool lpu_spool_is_full(const LpuSpool *spool);

/* Bytes written to it so far. */
extern int64 lpu_spool_written(const LpuSpool *spool);

#endif

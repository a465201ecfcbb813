/*
 * connection_pool.h: what request.c needs of the connections of a user mapping. Shows libcurl: for
 * request.c and connection_pool.c only.
 */
#ifndef LPU_HTTP_CONNECTION_POOL_H
#define LPU_HTTP_CONNECTION_POOL_H

#include <curl/curl.h>

#include "http/request.h"

/* libcurl.c: check and initialise libcurl, once. */
extern void lpu_libcurl_initialise(void);

/*
 * A handle for one request, with all options reset; raises only for lack of
 * memory. Its CURLINFO_PRIVATE is the call.
 */
extern CURL *lpu_pool_take(LpuHttpPool *pool);
extern void lpu_pool_give_back(LpuHttpPool *pool, CURL *easy, bool keep);

/* Begin the request that the handle is set up for, or end it early, which closes its connection. */
extern bool lpu_pool_begin(LpuHttpPool *pool, CURL *easy);
extern void lpu_pool_end(LpuHttpPool *pool, CURL *easy);

/* Continue a paused transfer; what libcurl holds of it is written at once. */
extern void lpu_pool_resume(LpuHttpPool *pool, CURL *easy);

/*
 * Provided by request.c: the handle's request is over, and is no longer in the
 * pool. Must not raise.
 */
extern void lpu_http_finished(void *call, CURLcode code);

#endif

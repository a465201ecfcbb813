/*
 * transport.h: what every HTTP request of an account has in common.
 */
#ifndef LPU_API_TRANSPORT_H
#define LPU_API_TRANSPORT_H

#include "http/request.h"
#include "options/option.h"

/* Set method, URL and what the options say of TLS, proxy, times and sizes. */
extern bool lpu_request_init(LpuHttpRequest *request, const LpuOptions *options, const char *method,
							 const char *url,
							 LpuProblem **problem);

/*
 * The longest that a service on the way (token, domain, login) may take. A delivery waits for
 * it, and with it the other accounts of the worker.
 */
#define LPU_MAX_ASIDE_MS 10000

/* The limit of such a response: it has a few kB, and a bearer token must fit into a header. */
#define LPU_MAX_ASIDE_BYTES (64 * 1024)

/* Return the connections for these options. */
extern LpuHttpPool *lpu_request_pool(const LpuOptions *options);

/* Send a request and return its response. */
extern const LpuHttpAnswer *lpu_request_send(const LpuOptions *options,
											 const LpuHttpRequest *request);

/* Return how long a 429 or 503 asks to wait, in milliseconds, at least a second. */
extern long lpu_request_wait_ms(const LpuHttpAnswer *answer);

/*
 * Return the problem of a request that was not sent because a service on the way (token, domain)
 * did not respond. service is a noun for the message.
 */
extern LpuProblem *lpu_request_failed(const char *service, const LpuHttpAnswer *answer);

#endif

/*
 * transport.h: what every HTTP request of an account has in common.
 */
#ifndef LPU_API_TRANSPORT_H
#define LPU_API_TRANSPORT_H

#include "http/request.h"
#include "options/option.h"

/*
 * Fill in method, URL and what the options say of TLS, proxy, times and sizes.
 * False and *problem if a secret of the proxy cannot be read.
 */
extern bool lpu_request_init(LpuHttpRequest *request, const LpuOptions *options, const char *method,
							 const char *url,
							 LpuProblem **problem);

/*
 * The longest that a service on the way (token, domain, login) may take. A delivery waits for
 * it, and with it the other accounts of the worker.
 */
#define LPU_MAX_ASIDE_MS 10000

/* The connections for these options. */
extern LpuHttpPool *lpu_request_pool(const LpuOptions *options);

/*
 * Send and wait for the answer. While the answer is 429, wait as it says and
 * send again, as long as that fits into the request's timeout_ms; the service
 * did not carry out what it answered so. Interruptible.
 */
extern const LpuHttpAnswer *lpu_request_send(const LpuOptions *options,
											 const LpuHttpRequest *request);

/* How long a 429 or 503 asks to wait: at least a second. */
extern long lpu_request_wait_ms(const LpuHttpAnswer *answer);

/*
 * What an answer that never came means for a service on the way (token,
 * domain) to the request that was asked for: nothing of that was sent.
 * "service" is a noun for the message.
 */
extern LpuProblem *lpu_request_failed(const char *service, const LpuHttpAnswer *answer);

#endif

/*
 * transport.c: what every HTTP request of an account has in common.
 *
 * Between the options and request.c: certificate bundle, proxy, time and size limits, and the
 * wait after a 429. It knows neither methods of the API nor how to authenticate.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "api/transport.h"
#include "http/socket_wait.h"
#include "http/url.h"
#include "json/document.h"
#include "options/secret.h"

/* The API's policy: never sooner than this after a 429, also where it names no time. */
#define MIN_WAIT_MS 1000

/*
 * Set method, URL and what the options say of TLS, proxy, times and sizes. Return false and set
 * *problem if a secret of the proxy cannot be read.
 */
bool
lpu_request_init(LpuHttpRequest *request, const LpuOptions *options, const char *method,
				 const char *url,
				 LpuProblem **problem)
{
	memset(request, 0, sizeof(LpuHttpRequest));
	request->method = method;
	request->url = url;
	request->ca_file = options->ca_file;
	request->proxy = options->proxy;
	request->connect_timeout_ms = options->connect_timeout;
	request->timeout_ms = options->timeout;
	request->max_answer = options->max_response_size;
	if (options->proxy == NULL || options->proxy_user == NULL)
		return true;
	request->proxy_user = options->proxy_user;
	request->proxy_password = lpu_secret_read("proxy_password", options->proxy_password,
											  options->proxy_password_file,
											  problem);
	return request->proxy_password != NULL;
}

/* Return the connections for these options. */
LpuHttpPool *
lpu_request_pool(const LpuOptions *options)
{
	return lpu_http_pool_for(options->mapping, options->generation, options->payer);
}

/* Return how long a 429 or 503 asks to wait, in milliseconds, at least a second. */
long
lpu_request_wait_ms(const LpuHttpAnswer *answer)
{
	return Max(lpu_retry_after_ms(answer->retry_after, answer->date), MIN_WAIT_MS);
}

/*
 * Send a request and return its response. After a 429 it waits and sends again as long as that
 * fits into the request's timeout_ms: the service has not carried out what it answered with 429.
 * Can be cancelled.
 */
const LpuHttpAnswer *
lpu_request_send(const LpuOptions *options, const LpuHttpRequest *request)
{
	TimestampTz start = GetCurrentTimestamp();

	for (;;)
	{
		const LpuHttpAnswer *answer = lpu_http_perform(lpu_request_pool(options), request);
		long		passed = TimestampDifferenceMilliseconds(start, GetCurrentTimestamp());

		if (answer->status != 429 || passed + lpu_request_wait_ms(answer) > request->timeout_ms)
			return answer;
		if (request->sent != NULL)
			*request->sent = false; /* it was refused */
		lpu_pause(lpu_request_wait_ms(answer));
	}
}

/*
 * Return the problem of a request that was not sent because a service on the way (token, domain)
 * did not respond. service is a noun for the message.
 */
LpuProblem *
lpu_request_failed(const char *service, const LpuHttpAnswer *answer)
{
	if (answer->status == 0 || answer->end == LPU_HTTP_BROKEN)
	{
		LpuProblem *problem =
		lpu_problem_new(ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
						"could not reach the %s: %s", service, answer->problem);

		return lpu_problem_detail(problem, "Nothing was sent to the account.");
	}
	if (answer->status == 429)
		return lpu_problem_detail(lpu_problem_new(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
												  "the %s asks to wait %ld s", service,
												  lpu_request_wait_ms(answer) / 1000),
								  "Nothing was sent to the account.");
	return lpu_problem_detail(lpu_problem_new(ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
											  "the %s responded with status %d and nothing usable",
											  service,
											  answer->status),
							  "Nothing was sent to the account.");
}

/*
 * service_discovery.c: where the services of an account live.
 *
 * Requests to the Domain API are not authenticated, and its response decides where credentials
 * are sent. So only hosts under liveperson.net are trusted, or the host that a superuser named
 * as domain_api_url. Responses are kept per backend for an hour; failures are not kept.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "api/service_discovery.h"
#include "api/transport.h"
#include "http/url.h"
#include "json/document.h"

/* The vendor's advice. */
#define KEEP_MS (3600 * 1000)

/*
 * Accounts move rarely and a backend uses few; beyond this number of responses all are
 * forgotten.
 */
#define MAX_KEPT 256

typedef struct KeptOrigin
{
	struct KeptOrigin *next;
	char	   *url;			/* that was asked */
	char	   *origin;
	TimestampTz until;
} KeptOrigin;

static MemoryContext kept_context = NULL;
static KeptOrigin *kept = NULL;
static int	nkept = 0;

static const char *
find_origin(const char *url)
{
	KeptOrigin *entry;
	TimestampTz now = GetCurrentTimestamp();

	for (entry = kept; entry != NULL; entry = entry->next)
		if (strcmp(entry->url, url) == 0 && entry->until > now)
			return entry->origin;
	return NULL;
}

/* Forget all responses of the Domain API. */
void
lpu_domain_forget(void)
{
	kept = NULL;
	nkept = 0;
	if (kept_context != NULL)
		MemoryContextReset(kept_context);
}

static void
keep_origin(const char *url, const char *origin)
{
	MemoryContext caller;
	KeptOrigin *entry;

	if (kept_context == NULL)
		kept_context = AllocSetContextCreate(TopMemoryContext, "lpusers domains",
											 ALLOCSET_SMALL_SIZES);
	if (nkept >= MAX_KEPT)
		lpu_domain_forget();
	caller = MemoryContextSwitchTo(kept_context);
	entry = palloc(sizeof(KeptOrigin));
	entry->url = pstrdup(url);
	entry->origin = pstrdup(origin);
	entry->until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), KEEP_MS);
	entry->next = kept;
	kept = entry;
	nkept++;
	MemoryContextSwitchTo(caller);
}

static bool
ends_with(const char *text, const char *end)
{
	size_t		length = strlen(text);
	size_t		end_length = strlen(end);

	return length > end_length && pg_strcasecmp(text +length - end_length, end) == 0;
}

/* Return the origin for a baseURI if it is trusted, else NULL. */
static char *
believed_origin(const LpuOptions *options, const char *base_uri)
{
	const char *scheme = strstr(base_uri, "://");
	char	   *origin;
	LpuUrl		url;
	LpuUrl		directory;

	origin = psprintf("https://%s", scheme ? scheme + 3 : base_uri);
	if (!lpu_url_split(origin, &url) || url.has_more || strcmp(url.path, "/") != 0)
		return NULL;
	if (ends_with(url.host, ".liveperson.net") && url.port == NULL)
		return psprintf("https://%s", url.host);
	if (lpu_url_split(options->domain_api_url, &directory) &&
		strcmp(url.host, directory.host) == 0 &&
		!ends_with(directory.host, ".liveperson.net"))
		return url.port ? psprintf("https://%s:%s", url.host, url.port) :
			psprintf("https://%s", url.host);
	return NULL;
}

/* baseURI of a response in either of its two forms. */
static const char *
find_base_uri(LpuJson *json, const char *service)
{
	LpuJson    *list = lpu_json_member(json, "baseURIs");
	int			i;

	if (list == NULL)
		return lpu_json_text(lpu_json_member(json, "baseURI"));
	for (i = 0; i < lpu_json_length(list); i++)
	{
		LpuJson    *entry = lpu_json_element(list, i);
		const char *name = lpu_json_text(lpu_json_member(entry, "service"));

		if (name != NULL && strcmp(name, service) == 0)
			return lpu_json_text(lpu_json_member(entry, "baseURI"));
	}
	return NULL;
}

static char *
look_up(const LpuOptions *options, const char *service, const char *url, LpuProblem **problem)
{
	LpuHttpRequest request;
	const LpuHttpAnswer *answer;
	const char *base_uri = NULL;
	char	   *origin = NULL;

	if (!lpu_request_init(&request, options, "GET", url, problem))
		return NULL;
	request.timeout_ms = Min(request.timeout_ms, LPU_MAX_ASIDE_MS);
	request.max_answer = Min(request.max_answer, LPU_MAX_ASIDE_BYTES);
	answer = lpu_request_send(options, &request);
	if (answer->end == LPU_HTTP_ANSWERED && answer->status / 100 == 2)
		base_uri = find_base_uri(lpu_json_parse(answer->body, answer->body_length), service);
	if (base_uri != NULL)
		origin = believed_origin(options, base_uri);
	if (origin != NULL)
		return origin;

	if (base_uri != NULL)
	{
		*problem = lpu_problem_new(ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
								   "the Domain API named a host that is not believed");
		lpu_problem_detail(*problem,
						   "Service \"%s\" is not under liveperson.net. Nothing was sent to the account.",
						   service);
		lpu_problem_hint(*problem,
						 "If it is right, set the server options domain or base_url, login_url and token_url.");
	}
	else
	{
		*problem = lpu_request_failed("Domain API", answer);
		if (answer->end == LPU_HTTP_ANSWERED && answer->status / 100 == 4 && answer->status != 429)
			lpu_problem_hint(*problem, "Check the account id: the Domain API does not know \"%s\".",
							 options->account);
	}
	return NULL;
}

/*
 * Return the origin (https://host) of a service: from an option, else from the Domain API, whose
 * response is kept for an hour. Allocated in the current memory context. NULL and *problem if it
 * cannot be found. May send a request; can be cancelled.
 */
char *
lpu_domain_origin(const LpuOptions *options, const char *service, LpuProblem **problem)
{
	bool		config = strcmp(service, LPU_SERVICE_CONFIG) == 0;
	char	   *url;
	const char *found;
	char	   *origin;

	if (config && options->base_url != NULL)
		return pstrdup(options->base_url);
	if (config && options->domain != NULL)
		return psprintf("https://%s", options->domain);
	if (strcmp(service, LPU_SERVICE_LOGIN) == 0 && options->login_url != NULL)
		return pstrdup(options->login_url);

	url = psprintf("%s/api/account/%s/service/%s/baseURI.json?version=1.0", options->domain_api_url,
				   options->account,
				   service);
	found = find_origin(url);
	if (found != NULL)
		return pstrdup(found);
	origin = look_up(options, service, url, problem);
	if (origin != NULL)
		keep_origin(url, origin);
	return origin;
}

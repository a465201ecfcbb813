/*
 * bearer_token.c: the bearer that a request must carry.
 *
 * Three ways, one per user mapping: OAuth 2.0 client credentials, a ready bearer, the Login
 * service. Bearers obtained are kept per backend and mapping, in a memory context of their own, and
 * overwritten when they are dropped: on expiry, after a 401, and when mapping or server change. A
 * statement that began before such a change goes on with the options it has: what it obtains is
 * kept for their generation only. None ever appears in a message.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "api/bearer_token.h"
#include "api/service_discovery.h"
#include "api/transport.h"
#include "base/encoding.h"
#include "http/url.h"
#include "json/document.h"
#include "options/secret.h"
#include "options/server.h"

/*
 * RFC 6749 leaves expires_in out where the lifetime is known otherwise; the
 * vendor's tokens live an hour.
 */
#define DEFAULT_LIFETIME_S 3600

/* Longer promises are not relied on. */
#define MAX_LIFETIME_S (30 * 86400)

/* Renewed so long before they expire, but never in the first three quarters of their life. */
#define MAX_MARGIN_S 60

/*
 * A bearer that was obtained because of a 401 and is answered 401 itself says that another one
 * would be refused, too: for so long none is asked for.
 */
#define KEEP_REFUSED_MS 10000

/* A bearer longer than this would not fit into any server's header limit. */
#define MAX_BEARER_LENGTH 65536

typedef struct KeptBearer
{
	struct KeptBearer *next;
	Oid			mapping;
	uint64		generation;		/* of the options it was obtained with */
	TimestampTz renew_at;		/* 0: it was refused */
	TimestampTz refused_until;	/* of one that was obtained because of a 401
								 * and has not been accepted yet: it stays
								 * until then, whatever is answered; else 0 */
	char		bearer[FLEXIBLE_ARRAY_MEMBER];
} KeptBearer;

static MemoryContext kept_context = NULL;
static KeptBearer *kept = NULL;

/* Forget the mapping's bearers up to this generation. */
static void
forget_bearers(Oid mapping, uint64 generation)
{
	KeptBearer **link = &kept;

	while (*link != NULL)
	{
		KeptBearer *entry = *link;

		if (entry->mapping != mapping || entry->generation > generation)
		{
			link = &entry->next;
			continue;
		}
		*link = entry->next;
		explicit_bzero(entry->bearer, strlen(entry->bearer));
		pfree(entry);
	}
}

/* The mapping or its server changed. */
static void
forget_bearer(Oid mapping)
{
	lpu_http_pool_drop(mapping);
	forget_bearers(mapping, PG_UINT64_MAX);
}

static KeptBearer *
find_bearer(const LpuOptions *options)
{
	KeptBearer *entry;

	for (entry = kept; entry != NULL; entry = entry->next)
		if (entry->mapping == options->mapping && entry->generation == options->generation)
			return entry;
	return NULL;
}

/* Keep a bearer in place of those that were obtained with these options or with older ones. */
static void
keep_bearer(const LpuOptions *options, const char *bearer, double lifetime_s)
{
	double		margin_s = Min(lifetime_s / 4, MAX_MARGIN_S);
	KeptBearer *entry = find_bearer(options);
	bool		again = entry != NULL && entry->renew_at == 0;

	forget_bearers(options->mapping, options->generation);
	entry = MemoryContextAlloc(kept_context, offsetof(KeptBearer, bearer) + strlen(bearer) + 1);
	entry->mapping = options->mapping;
	entry->generation = options->generation;
	entry->renew_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												  (int64) ((lifetime_s - margin_s) * 1000));
	entry->refused_until = again ?
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(), KEEP_REFUSED_MS) : 0;
	memcpy(entry->bearer, bearer, strlen(bearer) + 1);
	entry->next = kept;
	kept = entry;
}

/* RFC 6750 allows less; what matters is that nothing can break out of the header. */
static bool
bearer_is_valid(const char *bearer)
{
	size_t		length = bearer ? strlen(bearer) : 0;
	size_t		i;

	for (i = 0; i < length; i++)
		if (bearer[i] <= ' ' || bearer[i] > '~')
			return false;
	return length > 0 && length <= MAX_BEARER_LENGTH;
}

/* ----- asking a service for a bearer ----- */

/* Seconds from a text of units (1 or 1000 a second); the default if it is no positive number. */
static double
lifetime(const char *text, double units)
{
	char	   *end;
	double		seconds = text ? strtod(text, &end) / units : 0;

	if (text == NULL || end == text ||!(seconds > 0))
		return DEFAULT_LIFETIME_S;
	return Min(seconds, MAX_LIFETIME_S);
}

static LpuProblem *
refused(const char *service, const LpuHttpAnswer *answer, const char *secret)
{
	char	   *text = NULL;
	LpuProblem *problem;

	/*
	 * only JSON is quoted, and only if it does not repeat the secret that was
	 * sent
	 */
	if (lpu_json_parse(answer->body, answer->body_length) != NULL &&
		!lpu_text_shows(answer->body, answer->body_length, list_make1(unconstify(char *, secret))))
		text = lpu_json_error_text(answer->body, answer->body_length);

	problem = lpu_problem_new(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION,
							  "the %s refused the credentials of the user mapping", service);
	lpu_problem_detail(problem, "It responded with status %d%s%s. Nothing was sent to the account.",
					   answer->status, text ? ": " : "", text ? text : "");
	return lpu_problem_hint(problem,
							"Check the options of the user mapping, and that the key or user is not blocked.");
}

/* Where to ask, what to send, and where in the response the bearer stands. */
typedef struct BearerSource
{
	const char *service;		/* for messages */
	char	   *url;
	const char *content_type;
	char	   *body;
	const char *secret;			/* in the body */
	const char *bearer_member;
	const char *lifetime_member;
	double		lifetime_units; /* a second */
} BearerSource;

static char *
ask_for_bearer(const LpuOptions *options, const BearerSource *source, LpuProblem **problem)
{
	LpuHttpRequest request;
	const LpuHttpAnswer *answer;
	LpuJson    *json;
	const char *bearer;

	if (!lpu_request_init(&request, options, "POST", source->url, problem))
		return NULL;
	request.timeout_ms = Min(request.timeout_ms, LPU_MAX_ASIDE_MS);
	request.max_answer = Min(request.max_answer, LPU_MAX_ASIDE_BYTES);
	request.content_type = source->content_type;
	request.body = source->body;
	request.body_length = strlen(source->body);
	answer = lpu_request_send(options, &request);
	explicit_bzero(source->body, strlen(source->body));
	if (answer->end == LPU_HTTP_ANSWERED && answer->status / 100 == 4 && answer->status != 429)
	{
		*problem = refused(source->service, answer, source->secret);
		return NULL;
	}
	if (answer->end != LPU_HTTP_ANSWERED || answer->status / 100 != 2)
	{
		*problem = lpu_request_failed(source->service, answer);
		return NULL;
	}
	json = lpu_json_parse(answer->body, answer->body_length);
	bearer = lpu_json_text(lpu_json_member(json, source->bearer_member));
	if (!bearer_is_valid(bearer))
	{
		*problem = lpu_request_failed(source->service, answer);
		return NULL;
	}
	keep_bearer(options, bearer,
				lifetime(lpu_json_text(lpu_json_member(json, source->lifetime_member)),
						 source->lifetime_units));
	return pstrdup(bearer);
}

/* OAuth 2.0 client credentials. */
static char *
bearer_from_token_service(const LpuOptions *options, LpuProblem **problem)
{
	BearerSource source = {"token service", NULL, "application/x-www-form-urlencoded", NULL, NULL,
	"access_token", "expires_in", 1};
	char	   *secret = lpu_secret_read("client_secret", options->client_secret,
										 options->client_secret_file, problem);
	char	   *origin;

	if (secret == NULL)
		return NULL;
	source.url = options->token_url;
	if (source.url == NULL)
	{
		origin = lpu_domain_origin(options, LPU_SERVICE_TOKEN, problem);
		if (origin == NULL)
			return NULL;
		source.url = psprintf("%s/sentinel/api/v2/account/%s/app/token", origin, options->account);
	}
	source.secret = secret;
	source.body = psprintf("grant_type=client_credentials&client_id=%s&client_secret=%s",
						   lpu_url_escape(options->client_id), lpu_url_escape(secret));
	return ask_for_bearer(options, &source, problem);
}

/* The Login service; its lifetime is in milliseconds. */
static char *
bearer_from_login(const LpuOptions *options, LpuProblem **problem)
{
	BearerSource source = {"Login service", NULL, "application/json", NULL, NULL, "bearer",
	"sessionTTl", 1000};
	char	   *password = lpu_secret_read("password", options->password, options->password_file,
										   problem);
	const char *members[4];
	char	   *origin;

	if (password == NULL)
		return NULL;
	origin = lpu_domain_origin(options, LPU_SERVICE_LOGIN, problem);
	if (origin == NULL)
		return NULL;
	source.url = psprintf("%s/api/account/%s/login?v=1.3", origin, options->account);
	members[0] = "username";
	members[1] = options->username;
	members[2] = "password";
	members[3] = password;
	source.secret = password;
	source.body = lpu_json_build_object(members, 2);
	return ask_for_bearer(options, &source, problem);
}

/* ----- bearers ----- */

static void
initialise(void)
{
	if (kept_context != NULL)
		return;
	kept_context = AllocSetContextCreate(TopMemoryContext, "lpusers bearers", ALLOCSET_SMALL_SIZES);
	lpu_server_on_change(forget_bearer);
}

static char *
ready_bearer(const LpuOptions *options, LpuProblem **problem)
{
	char	   *bearer = lpu_secret_read("token", options->token, options->token_file, problem);

	if (bearer != NULL && !bearer_is_valid(bearer))
	{
		*problem = lpu_problem_detail(lpu_problem_new(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION,
													  "the token of the user mapping is not a bearer"),
									  "It has blanks or characters outside of ASCII.");
		return NULL;
	}
	return bearer;
}

/*
 * Return the bearer for the mapping of these options: the one that the mapping has, or one that
 * was obtained from the token service or the Login service and is kept until shortly before it
 * expires. Allocated in the current memory context. NULL and *problem if there is none. May send
 * requests; can be cancelled.
 */
char *
lpu_auth_bearer(const LpuOptions *options, LpuProblem **problem)
{
	KeptBearer *entry;

	initialise();
	if (options->token != NULL || options->token_file != NULL)
		return ready_bearer(options, problem);
	entry = find_bearer(options);
	if (entry != NULL && GetCurrentTimestamp() < entry->renew_at)
		return pstrdup(entry->bearer);
	if (options->client_id != NULL)
		return bearer_from_token_service(options, problem);
	if (options->username != NULL)
		return bearer_from_login(options, problem);
	*problem = lpu_problem_hint(lpu_problem_new(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION,
												"the user mapping for server \"%s\" has no credentials",
												options->server_name),
								"Set client_id and client_secret, or token, or username and password.");
	return NULL;
}

/*
 * Return true if a request that was answered 401 can be sent again with another bearer. A kept
 * bearer is not used again, unless it was itself obtained after a 401 and no request with it was
 * accepted since: then it stays in use for ten seconds, so that the token service is not asked for
 * each row, and the result is false.
 */
bool
lpu_auth_renew(const LpuOptions *options, const char *refused_bearer)
{
	KeptBearer *entry;
	LpuProblem *ignored = NULL;
	char	   *again;

	if (options->token != NULL)
		return false;
	if (options->token_file != NULL)
	{
		again = ready_bearer(options, &ignored);
		return again != NULL && strcmp(again, refused_bearer) != 0;
	}
	/* another request may have renewed it meanwhile */
	entry = find_bearer(options);
	if (entry == NULL || strcmp(entry->bearer, refused_bearer) != 0)
		return true;
	if (entry->refused_until > GetCurrentTimestamp())
		return false;
	entry->renew_at = 0;
	return true;
}

/* Note that a request with this bearer was not answered with 401. */
void
lpu_auth_accepted(const LpuOptions *options, const char *bearer)
{
	KeptBearer *entry = find_bearer(options);

	if (entry != NULL && entry->refused_until != 0 && strcmp(entry->bearer, bearer) == 0)
		entry->refused_until = 0;
}

/* Forget a kept bearer, so that the next request asks for another one. */
void
lpu_auth_forget(const LpuOptions *options)
{
	forget_bearers(options->mapping, options->generation);
}

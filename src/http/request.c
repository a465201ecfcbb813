/*
 * request.c: requests over libcurl, waited for together with the process latch.
 *
 * One request is one call: it sets up a handle of its pool, collects the response, and reports
 * how it ended. Nothing that libcurl calls raises, allocates with palloc or checks for
 * interrupts: callbacks record and return. A call belongs to the memory context in which it was
 * made. When that context ends, also by an error, the call is removed from its pool, and a
 * connection with an unfinished request is closed.
 *
 * libcurl repeats a request by itself when a reused connection breaks early, and no option
 * forbids it. But it calls a callback before each attempt, which allows a request with a body
 * only once. If that attempt fails, the result is BROKEN: the outcome is unknown.
 */
#include "postgres.h"

#include <curl/curl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "storage/fd.h"
#include "utils/memutils.h"

#include "http/connection_pool.h"
#include "http/request.h"
#include "http/socket_wait.h"

/*
 * The receive buffer of a list. A TLS record has at most half of it. gzip unpacks it to at most
 * 1032 times its size, which libcurl keeps when the sink is full.
 */
#define STREAM_BUFFER 32768L

/*
 * The initial buffer of a response: it holds a single user, and doubling reaches 64 MB in 12
 * steps.
 */
#define FIRST_ROOM 16384

/* As curl_version_info() tells it. */
#define LIBCURL_8_17 0x081100

struct LpuHttpCall
{
	LpuHttpPool *pool;
	CURL	   *easy;			/* NULL when it was released */
	bool		begun;
	bool		done;
	CURLcode	code;
	struct curl_slist *headers;
	bool		writing;		/* it has a body, and must not be sent twice */
	bool		may_repeat;		/* a GET that was sent once */
	bool		sent;			/* it began to go out */
	bool		repeated;		/* libcurl wanted to send it again, and was
								 * kept from it */
	bool	   *sent_flag;		/* the caller's, or NULL */
	LpuHttpSink *sink;			/* or NULL */
	bool		paused;			/* the sink had no room */
	char	   *buffer;			/* malloc'ed: written inside libcurl's
								 * callback */
	size_t		used;
	size_t		room;
	size_t		limit;
	bool		too_large;
	bool		no_memory;
	bool		no_descriptor;
	char		trouble[CURL_ERROR_SIZE];
	LpuHttpAnswer answer;
	MemoryContextCallback on_reset;
};

/* ----- what libcurl calls: nothing here may raise ----- */

/*
 * Return true if a response with this status has all that a GET has asked for; other successes are
 * a part of it (206), or will have it later (202).
 */
bool
lpu_http_is_whole(int status)
{
	return status == 200 || status == 203 || status == 204;
}

/* Hand a piece to the sink, unless it belongs to a response that is not whole. */
static bool
goes_to_sink(LpuHttpCall *call)
{
	long		status = 0;

	return call->sink != NULL &&
		curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status) == CURLE_OK &&
		lpu_http_is_whole((int) status);
}

static size_t
write_body(char *data, size_t size, size_t count, void *arg)
{
	LpuHttpCall *call = arg;
	size_t		length = size * count;

	if (goes_to_sink(call))
	{
		call->paused = !call->sink->write(call->sink, data, length);
		return call->paused ? CURL_WRITEFUNC_PAUSE : length;
	}
	if (length > call->limit - call->used)
	{
		call->too_large = true;
		return CURL_WRITEFUNC_ERROR;
	}
	if (call->used + length >= call->room)
	{
		size_t		room = Max(Max(call->room * 2, FIRST_ROOM), call->used + length + 1);
		char	   *larger = realloc(call->buffer, room);

		if (larger == NULL)
		{
			call->no_memory = true;
			return CURL_WRITEFUNC_ERROR;
		}
		call->buffer = larger;
		call->room = room;
	}
	memcpy(call->buffer + call->used, data, length);
	call->used += length;
	call->buffer[call->used] = '\0';
	return length;
}

/*
 * Called whenever the request is about to go out, also when libcurl has lost
 * the connection and tries again by itself: then a request with a body may
 * have been carried out already, and must not go out a second time.
 */
static int
before_sending(void *arg, char *remote_ip, char *local_ip, int remote_port, int local_port)
{
	LpuHttpCall *call = arg;

	if (call->sent && call->writing)
	{
		call->repeated = true;
		return CURL_PREREQFUNC_ABORT;
	}
	call->sent = true;
	if (call->sent_flag != NULL)
		*call->sent_flag = true;
	return CURL_PREREQFUNC_OK;
}

static curl_socket_t
open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	LpuHttpCall *call = arg;
	curl_socket_t fd;

	if (!AcquireExternalFD())
	{
		call->no_descriptor = true;
		return CURL_SOCKET_BAD;
	}
	fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
	if (fd != CURL_SOCKET_BAD && lpu_sockets_opened(fd, call->pool))
		return fd;
	if (fd != CURL_SOCKET_BAD)
		close(fd);
	ReleaseExternalFD();
	return CURL_SOCKET_BAD;
}

static int
close_socket(void *arg, curl_socket_t fd)
{
	lpu_sockets_closed(fd);
	ReleaseExternalFD();
	return close(fd);
}

/* ----- calls ----- */

static bool
add_header(LpuHttpCall *call, const char *name, const char *prefix, const char *value)
{
	struct curl_slist *longer = NULL;
	char	   *line;

	if (value == NULL)
		return true;
	if (strpbrk(value, "\r\n") != NULL)
		return false;
	line = psprintf("%s: %s%s", name, prefix, value);
	longer = curl_slist_append(call->headers, line);
	memset(line, 0, strlen(line));	/* it may be the bearer */
	pfree(line);
	if (longer == NULL)
		return false;
	call->headers = longer;
	return true;
}

/*
 * Trust the bundle only.  Setting CAPATH as well would add the CAs of that directory, and would
 * disable libcurl's cache of the parsed bundle.  From 8.17 on NULL stands for the directory that
 * libcurl was built with, if any: then one without certificates is named, and the bundle is read
 * for each new connection.
 */
static CURLcode
configure_tls(CURL *easy, const LpuHttpRequest *request)
{
	/* asking for it takes as long as setting all options */
	static const curl_version_info_data *libcurl = NULL;
	CURLcode	code = CURLE_OK;
	const char *bundle;

#define SET(option, value) \
	do { if (code == CURLE_OK) code = curl_easy_setopt(easy, option, value); } while (0)
	if (pg_strncasecmp(request->url, "https:", 6) != 0)
		return CURLE_OK;
	if (libcurl == NULL)
		libcurl = curl_version_info(CURLVERSION_NOW);
	SET(CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	bundle = request->ca_file != NULL ? request->ca_file : libcurl->cainfo;
	if (bundle == NULL)
		return code;
	SET(CURLOPT_CAINFO, bundle);
	SET(CURLOPT_CAPATH, libcurl->version_num < LIBCURL_8_17 ||
		libcurl->capath == NULL ? NULL : "/dev/null");
	return code;
}

static CURLcode
configure_body(CURL *easy, const LpuHttpRequest *request)
{
	CURLcode	code = CURLE_OK;

	if (request->body == NULL)
	{
		if (strcmp(request->method, "GET") != 0)
			SET(CURLOPT_CUSTOMREQUEST, request->method);
		return code;
	}
	SET(CURLOPT_POST, 1L);
	if (strcmp(request->method, "POST") != 0)
		SET(CURLOPT_CUSTOMREQUEST, request->method);
	SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) request->body_length);
	SET(CURLOPT_POSTFIELDS, request->body);
	return code;
}

static CURLcode
configure(LpuHttpCall *call, const LpuHttpRequest *request)
{
	CURL	   *easy = call->easy;
	CURLcode	code = CURLE_OK;

	SET(CURLOPT_PRIVATE, call);
	SET(CURLOPT_ERRORBUFFER, call->trouble);
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_QUICK_EXIT, 1L);
	SET(CURLOPT_OPENSOCKETFUNCTION, open_socket);
	SET(CURLOPT_OPENSOCKETDATA, call);
	SET(CURLOPT_CLOSESOCKETFUNCTION, close_socket);
	SET(CURLOPT_PREREQFUNCTION, before_sending);
	SET(CURLOPT_PREREQDATA, call);

	/*
	 * Over HTTP/2 libcurl cannot tell a stream that a GOAWAY has certainly
	 * refused from one whose outcome is unknown.
	 */
	SET(CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_PROTOCOLS_STR, request->plain_http ? "http,https" : "https");
	SET(CURLOPT_URL, request->url);

	/*
	 * Empty strings keep libcurl from reading the environment, where *_proxy
	 * could name a proxy and no_proxy could bypass the configured one.
	 */
	SET(CURLOPT_PROXY, request->proxy ? request->proxy : "");
	SET(CURLOPT_NOPROXY, "");
	if (request->proxy != NULL && request->proxy_user != NULL)
	{
		SET(CURLOPT_PROXYUSERNAME, request->proxy_user);
		SET(CURLOPT_PROXYPASSWORD, request->proxy_password);
	}
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long) request->connect_timeout_ms);
	if (request->sink == NULL)
		SET(CURLOPT_TIMEOUT_MS, (long) request->timeout_ms);
	else
		SET(CURLOPT_BUFFERSIZE, STREAM_BUFFER);
	SET(CURLOPT_ACCEPT_ENCODING, "gzip");
	SET(CURLOPT_WRITEFUNCTION, write_body);
	SET(CURLOPT_WRITEDATA, call);
	SET(CURLOPT_HTTPHEADER, call->headers);
	if (code == CURLE_OK)
		code = configure_body(easy, request);
	if (code == CURLE_OK)
		code = configure_tls(easy, request);
	return code;
}
#undef SET

/*
 * Return the handle to its pool, and end its request. Also called while a transaction aborts:
 * must not raise.
 */
static void
release_call(void *arg)
{
	LpuHttpCall *call = arg;
	LpuHttpPool *pool = call->pool;

	if (call->easy == NULL)
		return;
	if (call->begun && !call->done)
		lpu_pool_end(pool, call->easy);
	lpu_pool_give_back(pool, call->easy, call->done && call->code == CURLE_OK);
	call->easy = NULL;
	curl_slist_free_all(call->headers);
	call->headers = NULL;
	free(call->buffer);
	call->buffer = NULL;
}

/* Done without a response before anything was sent. */
static void
give_up(LpuHttpCall *call, CURLcode code)
{
	call->done = true;
	call->code = code;
}

/* Start a request. One that cannot be set up is done at once, as NOT_SENT. */
LpuHttpCall *
lpu_http_start(LpuHttpPool *pool, const LpuHttpRequest *request)
{
	LpuHttpCall *call = palloc0(sizeof(LpuHttpCall));
	CURLcode	code;

	call->pool = pool;
	call->writing = request->body != NULL;
	call->may_repeat = request->body == NULL && request->sink == NULL &&
		strcmp(request->method, "GET") == 0;
	call->sent_flag = request->sent;
	call->sink = request->sink;
	call->limit = request->max_answer;
	call->on_reset.func = release_call;
	call->on_reset.arg = call;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &call->on_reset);

	call->easy = lpu_pool_take(pool);

	if (!add_header(call, "Authorization", "Bearer ", request->bearer) ||
		!add_header(call, "Content-Type", "", request->body ? request->content_type : NULL) ||
		!add_header(call, "If-Match", "", request->if_match) ||
		!add_header(call, "Accept", "", "application/json") ||
		!add_header(call, "Expect", "", request->body ? "" : NULL))
	{
		give_up(call, CURLE_OUT_OF_MEMORY);
		return call;
	}
	code = configure(call, request);
	if (code != CURLE_OK)
	{
		give_up(call, code);
		return call;
	}
	if (lpu_pool_begin(pool, call->easy))
		call->begun = true;
	else
		give_up(call, CURLE_FAILED_INIT);
	return call;
}

/* Return true if a connection has broken off. */
static bool
is_broken(CURLcode code)
{
	return code == CURLE_GOT_NOTHING || code == CURLE_RECV_ERROR || code == CURLE_SEND_ERROR ||
		code == CURLE_PARTIAL_FILE;
}

/*
 * libcurl has finished a call.  A GET whose connection broke off is sent once more, which is always
 * safe (RFC 9110, section 9.2.2).  Must not raise.
 */
void
lpu_http_finished(void *arg, CURLcode code)
{
	LpuHttpCall *call = arg;

	if (call->may_repeat && is_broken(code))
	{
		call->may_repeat = false;
		call->used = 0;
		call->trouble[0] = '\0';
		if (lpu_pool_begin(call->pool, call->easy))
			return;
	}
	call->done = true;
	call->code = code;
}

/* Continue a transfer whose sink was full. */
void
lpu_http_resume(LpuHttpCall *call)
{
	if (!call->paused || call->done)
		return;
	call->paused = false;
	lpu_pool_resume(call->pool, call->easy);
}

/* Return true if the call has ended. */
bool
lpu_http_done(const LpuHttpCall *call)
{
	return call->done;
}

/*
 * End a call whose caller does not wait any longer, as libcurl does when timeout_ms have passed.
 * Closes its connection.
 */
void
lpu_http_expire(LpuHttpCall *call)
{
	if (call->done)
		return;
	lpu_pool_end(call->pool, call->easy);
	give_up(call, CURLE_OPERATION_TIMEDOUT);
}

/* ----- answers ----- */

static const char *
header(LpuHttpCall *call, const char *name)
{
	struct curl_header *found;

	if (curl_easy_header(call->easy, name, 0, CURLH_HEADER, -1, &found) != CURLHE_OK)
		return NULL;
	return found->value;
}

static LpuHttpEnd
how_it_ended(LpuHttpCall *call)
{
	if (call->code == CURLE_OK && call->answer.status > 0)
		return LPU_HTTP_ANSWERED;
	if (call->too_large && call->answer.status > 0)
		return LPU_HTTP_TOO_LARGE;
	return call->sent ? LPU_HTTP_BROKEN : LPU_HTTP_NOT_SENT;
}

/* Return the response of a call that is done; it lives as long as the call. */
const LpuHttpAnswer *
lpu_http_result(LpuHttpCall *call)
{
	LpuHttpAnswer *answer = &call->answer;
	long		status = 0;

	Assert(call->done);
	curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
	answer->status = (int) status;
	answer->end = how_it_ended(call);
	answer->body = call->buffer && answer->end != LPU_HTTP_TOO_LARGE ? call->buffer : "";
	answer->body_length = answer->end != LPU_HTTP_TOO_LARGE ? call->used : 0;
	answer->revision = header(call, "ac-revision");
	answer->etag = header(call, "ETag");
	answer->retry_after = header(call, "Retry-After");
	answer->date = header(call, "Date");
	answer->no_descriptor = call->no_descriptor && answer->end == LPU_HTTP_NOT_SENT;
	answer->timed_out = call->code == CURLE_OPERATION_TIMEDOUT;
	if (call->repeated)
		answer->problem = "the connection was closed before a response came";
	else if (call->no_descriptor && answer->end == LPU_HTTP_NOT_SENT)
		answer->problem = "no file descriptor is left for a connection";
	else if (call->no_memory)
		answer->problem = "out of memory";
	else
		answer->problem = call->trouble[0] ? call->trouble : curl_easy_strerror(call->code);
	return answer;
}

/* Start a request, wait for its end and return its response. Can be cancelled. */
const LpuHttpAnswer *
lpu_http_perform(LpuHttpPool *pool, const LpuHttpRequest *request)
{
	LpuHttpCall *call = lpu_http_start(pool, request);

	while (!call->done)
		lpu_http_turn(-1);
	return lpu_http_result(call);
}

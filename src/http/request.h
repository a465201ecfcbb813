/*
 * request.h: requests over libcurl, waited for together with the process latch.
 */
#ifndef LPU_HTTP_REQUEST_H
#define LPU_HTTP_REQUEST_H

/* The connections of one user mapping. They are never shared with another mapping. */
typedef struct LpuHttpPool LpuHttpPool;

/*
 * One request in flight, and its response when it is done. Freed with the memory
 * context it was made in.
 */
typedef struct LpuHttpCall LpuHttpCall;

/*
 * Where the body of a 2xx response goes piece by piece, instead of being kept
 * whole. "write" is called by libcurl: it must not raise. False: no room now,
 * keep the piece and offer it again after lpu_http_resume().
 */
typedef struct LpuHttpSink
{
	bool		(*write) (struct LpuHttpSink *sink, const char *data, size_t length);
} LpuHttpSink;

/* What to send. All pointers must stay valid until the call is done. */
typedef struct LpuHttpRequest
{
	const char *method;
	const char *url;
	const char *bearer;			/* for Authorization, or NULL */
	const char *content_type;	/* of the body */
	const char *if_match;		/* header value, or NULL */
	const char *body;			/* or NULL */
	size_t		body_length;
	bool		plain_http;		/* the URL may be http:// */
	const char *ca_file;		/* PEM bundle instead of the system's, or NULL */
	const char *proxy;			/* or NULL: none, whatever the environment
								 * says */
	const char *proxy_user;
	const char *proxy_password;
	int			connect_timeout_ms;
	int			timeout_ms;		/* the whole request; not with a sink, or if
								 * it is 0: the caller sees how long it waits */
	size_t		max_answer;		/* bytes of body, decompressed; not of what
								 * goes to the sink */
	LpuHttpSink *sink;			/* or NULL */
	bool	   *sent;			/* or NULL; set when the request begins to go
								 * out */
} LpuHttpRequest;

/* How a request ended. */
typedef enum LpuHttpEnd
{
	LPU_HTTP_ANSWERED,			/* status, headers and whole body are here */
	LPU_HTTP_TOO_LARGE,			/* status and headers are here, the body
								 * passed max_answer and was dropped */
	LPU_HTTP_NOT_SENT,			/* the server certainly got nothing of the
								 * request */
	LPU_HTTP_BROKEN				/* the request began to go out, no whole
								 * response came: it may have been carried out */
} LpuHttpEnd;

typedef struct LpuHttpAnswer
{
	LpuHttpEnd	end;
	int			status;			/* 0 if no status line came */
	const char *body;			/* NUL-terminated; "" if there is none */
	size_t		body_length;
	const char *revision;		/* header ac-revision, or NULL */
	const char *etag;			/* header ETag, or NULL */
	const char *retry_after;	/* header Retry-After, or NULL */
	const char *date;			/* header Date, or NULL */
	const char *problem;		/* not ANSWERED: what went wrong, in libcurl's
								 * words; never a secret */
	bool		timed_out;
	bool		no_descriptor;	/* NOT_SENT, for lack of a file descriptor */
} LpuHttpAnswer;

/*
 * Return the connections of a key and a generation, which are created at first use; those of
 * older generations are dropped.
 */
extern LpuHttpPool *lpu_http_pool_for(Oid key, uint64 generation, Oid payer);

/* Return true if a payer may start another request: it leaves as many descriptors to others. */
extern bool lpu_http_has_room(Oid payer);

/* Count a task as a request under way until the current memory context is reset. */
extern void lpu_http_hold(LpuHttpPool *pool);

/*
 * Use the connections of this key (InvalidOid: of all keys) for no new call, and close them when
 * that is safe.
 */
extern void lpu_http_pool_drop(Oid key);

/* Start a request. */
extern LpuHttpCall *lpu_http_start(LpuHttpPool *pool, const LpuHttpRequest *request);

/*
 * Let all calls of this process go on until something has happened or max_ms
 * passed (-1: no limit): to be called in a loop. Every interrupt is served at
 * once: this function raises it, and may then be left by longjmp.
 */
extern void lpu_http_turn(long max_ms);
extern bool lpu_http_done(const LpuHttpCall *call);

/* End a call that has no response yet, as one whose time is up. */
extern void lpu_http_expire(LpuHttpCall *call);

/* Continue a transfer whose sink was full. */
extern void lpu_http_resume(LpuHttpCall *call);

/* Return true if a response with this status has all that a GET has asked for. */
extern bool lpu_http_is_whole(int status);

/* Return the response of a call that is done; it lives as long as the call. */
extern const LpuHttpAnswer *lpu_http_result(LpuHttpCall *call);

/* Start a request, wait for its end and return its response. */
extern const LpuHttpAnswer *lpu_http_perform(LpuHttpPool *pool, const LpuHttpRequest *request);

#endif

/*-------------------------------------------------------------------------
 *
 * lpsim.c
 *	  A LivePerson account to try lpusers against, without an account.
 *
 * A small HTTP/1.1 server on the loopback interface which answers as the
 * LivePerson Users API does: users, their neighbours (skills, profiles, agent
 * groups, lines of business), the Domain API and both token services.  It
 * misbehaves on request, and it writes down every request, so that a test can
 * ask "how many POSTs carried this login?".  "lpsim --help" lists the options
 * and the control interface below /_sim/.
 *
 * What it does not know: permissions of single users, password policy beyond
 * the length, limits of a licence, gzip.  It keeps everything in memory.
 *
 * Threads: libmicrohttpd gives every connection a thread.  One mutex, "lock",
 * guards all state; it is held while a request is carried out, never while a
 * thread sleeps or sends.  What is being sent is therefore a Body, which is
 * counted by reference and does not change once it is built.
 *
 * Memory: a user is one block of text (see Entity): 100,000 of them as trees
 * of json-c objects would take several times as much.  Trees live as long as
 * the request which brought them.  The state itself is left to exit().
 *
 * Order of the file: tools, state, requests and answers, entity rules, users,
 * listing, methods of users, neighbours and domains, auth, routes, log, faults,
 * control, http, main.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <limits.h>
#include <linux/sockios.h>
#include <math.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LPSIM_VERSION	"1.0"

/* Real ids exceed 32 bits; a client which forgets that shall notice. */
#define FIRST_ID		INT64_C(4000000001)

/* 100,000 users with every attribute are about 60 MB: room for four times that. */
#define MAX_BODY		((size_t) 256 * 1024 * 1024)

/* A user is three levels deep; more is nonsense, and recursion must end. */
#define MAX_DEPTH		32

/* Half a kilobyte each or more; a test which sends so many has gone astray. */
#define MAX_LOG			1000000

/* Tokens are few; when a runaway client fetches more, the oldest goes. */
#define MAX_TOKENS		1024

/* Bounds of the answers which are made up, so that a typo does not fill memory. */
#define MAX_HUGE		(INT64_C(64) * 1024 * 1024 * 1024)
#define MAX_NESTING		50000000

/* A client takes what is sent when no more than this waits for it: the socket buffers always have room for it. */
#define MAX_UNTAKEN		65536

#define lengthof(a)		(sizeof(a) / sizeof((a)[0]))
#define printf_like(f, v)	__attribute__((format(printf, f, v)))

/* ---------------------------------------------------------------- tools */

/* Text that grows; always followed by a NUL byte once something was put. */
typedef struct Buf
{
	char	   *data;
	size_t		len;
	size_t		size;
} Buf;

/* Text that is finished and may be sent by several threads at once. */
typedef struct Body
{
	int			refs;
	size_t		len;
	char	   *data;
} Body;

static void *
need(void *p)
{
	if (p == NULL)
	{
		fputs("lpsim: out of memory\n", stderr);
		_exit(1);
	}
	return p;
}

static char *
copy_text(const char *s)
{
	return s ? need(strdup(s)) : NULL;
}

static void
buf_room(Buf *b, size_t more)
{
	if (b->len + more + 1 <= b->size)
		return;
	b->size = (b->len + more + 1) * 2;
	b->data = need(realloc(b->data, b->size));
}

static void
buf_put(Buf *b, const void *data, size_t len)
{
	buf_room(b, len);
	if (len > 0)
		memcpy(b->data + b->len, data, len);
	b->len += len;
	b->data[b->len] = '\0';
}

static void
buf_puts(Buf *b, const char *s)
{
	buf_put(b, s, strlen(s));
}

static void buf_printf(Buf *b, const char *fmt,...) printf_like(2, 3);

static void
buf_printf(Buf *b, const char *fmt,...)
{
	va_list		args;
	int			len;

	/* mostly a number: the first try succeeds */
	buf_room(b, 64);
	va_start(args, fmt);
	len = vsnprintf(b->data + b->len, b->size - b->len, fmt, args);
	va_end(args);
	if (len >= (int) (b->size - b->len))
	{
		buf_room(b, len);
		va_start(args, fmt);
		vsnprintf(b->data + b->len, b->size - b->len, fmt, args);
		va_end(args);
	}
	b->len += len;
}

/* Takes what the buffer holds and leaves it empty. */
static Body *
body_from(Buf *b)
{
	Body	   *body = need(malloc(sizeof(Body)));

	buf_room(b, 0);
	b->data[b->len] = '\0';
	body->refs = 1;
	body->len = b->len;
	body->data = b->data;
	memset(b, 0, sizeof(*b));
	return body;
}

static Body *
body_from_text(const char *text)
{
	Buf			b = {0};

	buf_puts(&b, text);
	return body_from(&b);
}

static Body *
body_share(Body *body)
{
	__atomic_add_fetch(&body->refs, 1, __ATOMIC_ACQ_REL);
	return body;
}

static void
body_release(void *p)
{
	Body	   *body = p;

	if (body == NULL || __atomic_sub_fetch(&body->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	free(body->data);
	free(body);
}

/* Is this word one of a list?  Lists are separated by commas, blanks or bars. */
static bool
list_has(const char *list, const char *word, size_t len)
{
	while (list && *list)
	{
		size_t		n = strcspn(list, ", |");

		if (n == len && n > 0 && strncmp(list, word, n) == 0)
			return true;
		list += n + strspn(list + n, ", |");
	}
	return false;
}

static bool
parse_int64(const char *s, int64_t *n)
{
	char	   *end;

	if (s == NULL || *s == '\0' || isspace((unsigned char) *s))
		return false;
	errno = 0;
	*n = strtoll(s, &end, 10);
	return errno == 0 && *end == '\0';
}

static double
now_monotonic(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* The form in which the API writes dates; it states no time zone, this is UTC. */
static const char *
date_text(char buf[32])
{
	time_t		t = time(NULL);
	struct tm	tm;

	strftime(buf, 32, "%Y-%m-%d %H:%M:%S", gmtime_r(&t, &tm));
	return buf;
}

/* The text must be followed by a NUL byte.  Returns NULL with a reason, or for the text "null". */
static json_object *
json_parse(const char *text, size_t len, const char **why)
{
	struct json_tokener *tok = need(json_tokener_new_ex(MAX_DEPTH));
	json_object *o;

	/* json-c 0.18, when strict, refuses what is not ASCII: its issue 875 */
	json_tokener_set_flags(tok, JSON_TOKENER_VALIDATE_UTF8 |
						   (json_c_version_num() == 18 << 8 ? 0 : JSON_TOKENER_STRICT));
	o = json_tokener_parse_ex(tok, text, (int) len + 1);
	*why = NULL;
	if (json_tokener_get_error(tok) != json_tokener_success)
		*why = json_tokener_error_desc(json_tokener_get_error(tok));
	else if (memchr(text, '\0', len))
		*why = "NUL byte in the text";
	json_tokener_free(tok);
	if (*why)
	{
		json_object_put(o);
		o = NULL;
	}
	return o;
}

/* For texts this program wrote itself. */
static json_object *
json_own(const char *text)
{
	const char *why;
	json_object *o = json_parse(text, strlen(text), &why);

	if (why)
	{
		fprintf(stderr, "lpsim: %s in: %s\n", why, text);
		abort();
	}
	return o;
}

static json_object *
json_member(json_object *o, const char *name)
{
	json_object *value = NULL;

	if (json_object_is_type(o, json_type_object))
		json_object_object_get_ex(o, name, &value);
	return value;
}

static void
put_string(Buf *b, const char *s, size_t len)
{
	size_t		from = 0;

	buf_put(b, "\"", 1);
	for (size_t i = 0; i < len; i++)
	{
		unsigned char c = s[i];

		if (c >= 0x20 && c != '"' && c != '\\')
			continue;
		buf_put(b, s + from, i - from);
		if (c < 0x20)
			buf_printf(b, "\\u%04x", c);
		else
			buf_printf(b, "\\%c", c);
		from = i + 1;
	}
	buf_put(b, s + from, len - from);
	buf_put(b, "\"", 1);
}

static void
put_text(Buf *b, const char *s)
{
	if (s)
		put_string(b, s, strlen(s));
	else
		buf_puts(b, "null");
}

static void put_json(Buf *b, json_object *v, bool quoted, const char *only);

static void
put_array(Buf *b, json_object *v, bool quoted, const char *only)
{
	for (size_t i = 0; i < json_object_array_length(v); i++)
	{
		buf_puts(b, i > 0 ? "," : "[");
		put_json(b, json_object_array_get_idx(v, i), quoted, only);
	}
	buf_puts(b, json_object_array_length(v) > 0 ? "]" : "[]");
}

static void
put_object(Buf *b, json_object *v, bool quoted, const char *only)
{
	const char *comma = "{";

	json_object_object_foreach(v, name, member)
	{
		if (only && !list_has(only, name, strlen(name)))
			continue;
		buf_puts(b, comma);
		put_text(b, name);
		buf_put(b, ":", 1);
		put_json(b, member, quoted, NULL);
		comma = ",";
	}
	buf_puts(b, *comma == '{' ? "{}" : "}");
}

/*
 * Writes a value.  json-c's own writer keeps a copy of the text inside each
 * object and knows neither of our two needs: "quoted", numbers and booleans as
 * strings, and "only", the members wanted of an object (NULL: all).
 */
static void
put_json(Buf *b, json_object *v, bool quoted, const char *only)
{
	const char *quote = quoted ? "\"" : "";

	switch (json_object_get_type(v))
	{
		case json_type_null:
			buf_puts(b, "null");
			break;
		case json_type_string:
			put_string(b, json_object_get_string(v), json_object_get_string_len(v));
			break;
		case json_type_array:
			put_array(b, v, quoted, only);
			break;
		case json_type_object:
			put_object(b, v, quoted, only);
			break;
		case json_type_boolean:
			buf_printf(b, "%s%s%s", quote, json_object_get_boolean(v) ? "true" : "false", quote);
			break;
		case json_type_int:
			buf_printf(b, "%s%" PRId64 "%s", quote, json_object_get_int64(v), quote);
			break;
		case json_type_double:
			buf_printf(b, "%s%s%s", quote, json_object_to_json_string(v), quote);
			break;
	}
}

/* ---------------------------------------------------------------- state */

/*
 * An entity: its attributes in order, each value as JSON text, all in one
 * block.  "known" is the attribute's place in user_attributes, or -1.
 */
typedef struct Attr
{
	int			known;
	const char *name;
	const char *value;
} Attr;

typedef struct Entity
{
	int			n;
	Attr		attr[];
} Entity;

typedef struct User
{
	int64_t		id;
	bool		deleted;
	char	   *key;			/* login in lower case */
	Entity	   *entity;
	char	   *text;			/* as last listed ... */
	size_t		textlen;
	unsigned	text_view;		/* ... in the view with this number */
	struct User *id_next;
	struct User *login_next;	/* only among those not deleted */
} User;

/* Which attributes an answer carries, and how it writes them. */
typedef struct Select
{
	char	   *name;
	char	   *nested;			/* the text between parentheses, or NULL */
} Select;

typedef struct View
{
	bool		all;
	bool		quoted;
	bool		hidden;			/* control interface: also what the API hides */
	int			n;
	Select	   *select;
	int		   *known;			/* place in select + 1, by place in user_attributes */
} View;

typedef struct Token
{
	char	   *text;
	double		expires;
} Token;

/* One request in the log.  Kept by the log and by the request while it runs. */
typedef struct Entry
{
	int			refs;
	int64_t		seq;
	struct timespec at;
	char		method[16];
	char	   *path;
	char	   *query;
	unsigned	status;
	int64_t		connection;
	int64_t		nth;
	bool		tls;
	char		bearer[8];
	char	   *if_match;
	char	   *content_type;
	Buf			logins;			/* each followed by a NUL byte */
	Buf			ids;			/* of int64_t */
	size_t		bytes_in;
	size_t		bytes_out;
	bool		applied;
	const char *fault;
} Entry;

typedef struct Rule
{
	int			refs;			/* the list's, and one per request in hand */
	json_object *spec;
	const struct Action *action;
	int64_t		seen;
	int64_t		struck;
	struct Rule *next;
} Rule;

typedef struct Options
{
	int			port;
	int			tls_port;		/* -1: no TLS */
	const char *tls_cert;
	const char *tls_key;
	const char *listen;
	const char *account;
	int			users;
	const char *client_id;
	const char *client_secret;
	const char *token;
	const char *username;
	const char *password;
	int			token_ttl;
	int			delay;
	const char *url_file;
	int			max_age;
} Options;

static Options opt = {
	.tls_port = -1, .listen = "127.0.0.1", .account = "12345678",
	.client_id = "lp-client", .client_secret = "lp-client-secret", .token = "lp-token",
	.username = "lp-user", .password = "lp-user-password", .token_ttl = 3600, .max_age = 3600
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Becomes readable, for good, when the program ends: every sleep looks at it. */
static int	stop_fd = -1;

static struct
{
	json_object *config;
	int64_t		revision;
	int64_t		next_id;
	int64_t		created;		/* by POST, since the last reset */
	User	  **users;			/* in order of creation */
	size_t		nusers;
	size_t		room;
	User	  **by_id;
	User	  **by_login;
	size_t		buckets;		/* of both, a power of two */

	View	   *view;			/* of the last listing */
	char	   *view_text;
	unsigned	view_number;
	Body	   *listing;		/* the last listing itself, and what it is of */
	unsigned	listing_view;
	int64_t		listing_revision;
	bool		listing_deleted;

	Token		tokens[MAX_TOKENS];
	size_t		ntokens;		/* issued so far; the place is modulo MAX_TOKENS */
	double		rate_since;
	int64_t		rate_count;

	Entry	  **log;
	size_t		nlog;
	size_t		log_room;
	int64_t		seq;
	int64_t		connections;
	int64_t		open;
	Rule	   *rules;
}			sim;

/*
 * The knobs of /_sim/config.  A value must have the default's type (null: a
 * string or null) and be one of "allowed", if there is such a list.
 */
typedef struct Knob
{
	const char *name;
	const char *initial;
	const char *allowed;
	const char *help;
} Knob;

static const Knob knobs[] = {
	{"bulk", "\"all_or_nothing\"", "all_or_nothing|partial", "the others when one user of an array is refused"},
	{"unique", "true", NULL, "false: a login may exist twice"},
	{"conflict_status", "409", "409|400", "when a login exists"},
	{"revision_header", "\"ac-revision\"", "ac-revision|ETag|none", "which header carries the revision"},
	{"stale_status", "412", "412|409", "when If-Match is not the revision"},
	{"error_shape", "\"flat\"", "flat|nested", "nested: error bodies stand below \"error\""},
	{"forbid", "false", NULL, "403 on everything below le-users"},
	{"ignore_select", "false", NULL, "as if no select were given"},
	{"select_all", "false", NULL, "every attribute, whatever select says"},
	{"delay_ms", "0", NULL, "every request to the account takes so long"},
	{"expires_in", "true", NULL, "does the token service say it"},
	{"token_ttl", "3600", NULL, "seconds an issued token is valid"},
	{"quoted", "false", NULL, "numbers and booleans are answered as strings"},
	{"token_token", "null", NULL, "what is issued instead of a random token"},
	{"domain_answer", "null", NULL, "what the Domain API answers as baseURI"},
	{"domain_shape", "\"one\"", "one|many", "many: in an array baseURIs"},
	{"rate_limit", "0", NULL, "requests a second, above: 429; 0: no limit"},
};

static bool
config_bool(const char *name)
{
	return json_object_get_boolean(json_member(sim.config, name));
}

static int64_t
config_int(const char *name)
{
	return json_object_get_int64(json_member(sim.config, name));
}

/* NULL when the knob is null. */
static const char *
config_text(const char *name)
{
	json_object *v = json_member(sim.config, name);

	return v ? json_object_get_string(v) : NULL;
}

static bool
config_is(const char *name, const char *value)
{
	return strcmp(config_text(name), value) == 0;
}

/* ---------------------------------------------------------------- requests and answers */

typedef struct Door
{
	bool		tls;
	int			port;
	int			fd;
	struct MHD_Daemon *daemon;
} Door;

static Door doors[2];

/* One TCP connection.  It gets its number with its first request to the account. */
typedef struct Connection
{
	int64_t		number;
	int64_t		requests;
} Connection;

typedef struct Request
{
	char	   *uri;
	bool		begun;
	bool		too_large;
	bool		control;
	const Door *door;
	struct MHD_Connection *mhd;
	int			fd;
	char	   *method;
	char	   *path;
	char		arg[3][128];	/* what the stars of the route matched */
	Buf			body;
	json_object *json;
	const char *json_error;
	Entry	   *entry;			/* NULL for control requests */
	int64_t		nth;
	Rule	   *rule;
} Request;

typedef enum Sending
{
	SEND_PLAIN,					/* as HTTP says */
	SEND_PACED,					/* by the rules in Pace */
	SEND_NOTHING,				/* sleep, then close or reset */
} Sending;

/* How an answer which is not sent plainly is sent. */
typedef struct Pace
{
	uint64_t	size;			/* what Content-Length says */
	uint64_t	stop;			/* where the body breaks off */
	uint64_t	piece;			/* bytes at a time, 0: as many as fit */
	int64_t		ms;				/* between two pieces */
	uint64_t	stall_at;		/* sleep "stall" seconds here, once */
	double		stall;
	int64_t		patience_ms;	/* with a client that takes nothing, 0: endless */
	double		seconds;		/* sleep before the end */
	bool		reset;
	bool		chunked;		/* no Content-Length */
	const char *unit;			/* the body is a list of this, repeated */
} Pace;

typedef struct Answer
{
	unsigned	status;
	Body	   *body;
	const char *type;
	char	   *header[8][2];
	int			nheaders;
	Sending		sending;
	Pace		pace;
} Answer;

/* What is wrong with a request: the parts of an error body. */
typedef struct Problem
{
	unsigned	status;
	char		fields[256];	/* separated by commas */
	char		message[512];
} Problem;

static bool problem(Problem *p, unsigned status, const char *fields, const char *fmt,...) printf_like(4, 5);

/* The first problem counts.  Returns false, so that callers can return it. */
static bool
problem(Problem *p, unsigned status, const char *fields, const char *fmt,...)
{
	va_list		args;

	if (p->status != 0)
		return false;
	p->status = status;
	snprintf(p->fields, sizeof(p->fields), "%s", fields);
	va_start(args, fmt);
	vsnprintf(p->message, sizeof(p->message), fmt, args);
	va_end(args);
	return false;
}

static void
answer_header(Answer *ans, const char *name, const char *value)
{
	if (ans->nheaders == (int) lengthof(ans->header))
		return;
	ans->header[ans->nheaders][0] = copy_text(name);
	ans->header[ans->nheaders++][1] = copy_text(value);
}

static void
answer_drop_headers(Answer *ans)
{
	while (ans->nheaders > 0)
	{
		free(ans->header[--ans->nheaders][0]);
		free(ans->header[ans->nheaders][1]);
	}
}

/* Takes the buffer's content. */
static void
answer_json(Answer *ans, unsigned status, Buf *b)
{
	body_release(ans->body);
	ans->status = status;
	ans->type = "application/json";
	ans->body = body_from(b);
}

static void answer_text(Answer *ans, unsigned status, const char *fmt,...) printf_like(3, 4);

static void
answer_text(Answer *ans, unsigned status, const char *fmt,...)
{
	va_list		args;
	char		text[1024];

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	body_release(ans->body);
	ans->status = status;
	ans->type = "text/plain; charset=utf-8";
	ans->body = body_from_text(text);
}

static void
answer_empty(Answer *ans, unsigned status)
{
	body_release(ans->body);
	ans->status = status;
	ans->type = NULL;
	ans->body = body_from_text("");
}

/* The service's internal codes are not published: these are made up. */
static const struct
{
	unsigned	status;
	int			code;
	const char *name;
}			error_names[] = {
	{400, 23, "BAD_REQUEST"},
	{401, 16, "UNAUTHORIZED"},
	{403, 17, "FORBIDDEN"},
	{404, 30, "NOT_FOUND"},
	{405, 31, "METHOD_NOT_ALLOWED"},
	{409, 44, "CONFLICT"},
	{412, 45, "PRECONDITION_FAILED"},
	{413, 46, "REQUEST_ENTITY_TOO_LARGE"},
	{415, 47, "UNSUPPORTED_MEDIA_TYPE"},
	{429, 50, "TOO_MANY_REQUESTS"},
	{500, 1, "INTERNAL_SERVER_ERROR"},
	{503, 2, "SERVICE_UNAVAILABLE"},
};

static void
answer_problem(Answer *ans, const Problem *p)
{
	Buf			b = {0};
	char		date[32];
	bool		nested = config_is("error_shape", "nested");
	size_t		i = 0;
	const char *comma = "";

	while (i < lengthof(error_names) && error_names[i].status != p->status)
		i++;
	buf_puts(&b, nested ? "{\"error\":{\"fields\":[" : "{\"fields\":[");
	for (const char *f = p->fields; *f; comma = ",")
	{
		size_t		n = strcspn(f, ",");

		buf_puts(&b, comma);
		put_string(&b, f, n);
		f += n + (f[n] == ',');
	}
	buf_printf(&b, "],\"time\":\"%s\",\"message\":", date_text(date));
	put_text(&b, p->message);
	buf_printf(&b, ",\"internalCode\":%d,\"responseStatus\":\"%s\"}%s",
			   i < lengthof(error_names) ? error_names[i].code : 0,
			   i < lengthof(error_names) ? error_names[i].name : "UNKNOWN", nested ? "}" : "");
	answer_json(ans, p->status, &b);
}

static void answer_error(Answer *ans, unsigned status, const char *fmt,...) printf_like(3, 4);

static void
answer_error(Answer *ans, unsigned status, const char *fmt,...)
{
	Problem		p = {.status = status};
	va_list		args;

	va_start(args, fmt);
	vsnprintf(p.message, sizeof(p.message), fmt, args);
	va_end(args);
	answer_problem(ans, &p);
}

static const char *
request_header(const Request *req, const char *name)
{
	return MHD_lookup_connection_value(req->mhd, MHD_HEADER_KIND, name);
}

static const char *
request_parameter(const Request *req, const char *name)
{
	return MHD_lookup_connection_value(req->mhd, MHD_GET_ARGUMENT_KIND, name);
}

/* ---------------------------------------------------------------- entity rules */

typedef enum AttrType
{
	T_STRING, T_BOOL, T_NUMBER, T_LONG, T_LONGS, T_GROUP, T_GROUPS
} AttrType;

#define A_REQUIRED	1			/* on create */
#define A_READ		2			/* read only */
#define A_WRITE		4			/* write only: never answered */
#define A_BLANK		8			/* always answered as an empty string */
#define A_FORGET	16			/* taken, but not stored */

typedef struct AttrRule
{
	const char *name;
	AttrType	type;
	int			flags;
} AttrRule;

static const AttrRule user_attributes[] = {
	{"id", T_LONG, A_READ},
	{"pid", T_STRING, 0},
	{"deleted", T_BOOL, A_READ},
	{"loginName", T_STRING, A_REQUIRED},
	{"fullName", T_STRING, A_REQUIRED | A_BLANK},
	{"nickname", T_STRING, A_REQUIRED},
	{"email", T_STRING, A_REQUIRED},
	{"passwordSh", T_STRING, A_REQUIRED | A_WRITE},
	{"oldPassword", T_STRING, A_WRITE | A_FORGET},
	{"confirmPassword", T_STRING, A_WRITE | A_FORGET},
	{"isEnabled", T_BOOL, A_REQUIRED},
	{"disabledManually", T_BOOL, 0},
	{"maxChats", T_NUMBER, A_REQUIRED},
	{"maxAsyncChats", T_NUMBER, 0},
	{"profileIds", T_LONGS, A_REQUIRED},
	{"skillIds", T_LONGS, 0},
	{"lobIds", T_LONGS, 0},
	{"permissionGroups", T_LONGS, 0},
	{"memberOf", T_GROUP, 0},
	{"managerOf", T_GROUPS, 0},
	{"changePwdNextLogin", T_BOOL, 0},
	{"isApiUser", T_BOOL, 0},
	{"allowedAppKeys", T_STRING, 0},
	{"userTypeId", T_LONG, 0},
	{"description", T_STRING, 0},
	{"mobileNumber", T_STRING, 0},
	{"pictureId", T_STRING, 0},
	{"pictureUrl", T_STRING, 0},
	{"backgndImgUri", T_STRING, 0},
	{"pnCertName", T_STRING, 0},
	{"employeeId", T_STRING, A_BLANK},
	{"lastPwdChangeDate", T_STRING, A_READ},
	{"dateUpdated", T_STRING, A_READ},
};

#define N_ATTRIBUTES ((int) lengthof(user_attributes))
#define MIN_PASSWORD 8

/* What each role's users lose when the role is taken from them. */
static const struct
{
	int			role;
	const char *loses[5];
}			role_losses[] = {
	{2, {"maxChats", "maxAsyncChats", "memberOf", "skillIds", NULL}},
	{3, {"managerOf", NULL}},
};

static int	roles_of(json_object *user);

static int
attribute_find(const char *name)
{
	for (int i = 0; i < N_ATTRIBUTES; i++)
		if (user_attributes[i].name[0] == name[0] && strcmp(user_attributes[i].name, name) == 0)
			return i;
	return -1;
}

/* The documentation itself quotes numbers and booleans, so both are read.  NULL: of another type. */
static json_object *
convert_scalar(AttrType type, json_object *v)
{
	const char *s = json_object_is_type(v, json_type_string) ? json_object_get_string(v) : NULL;
	int64_t		n;

	if (type == T_STRING)
		return s ? json_object_get(v) : NULL;
	if (type == T_BOOL)
	{
		if (s && (strcmp(s, "true") == 0 || strcmp(s, "false") == 0))
			return json_object_new_boolean(s[0] == 't');
		return json_object_is_type(v, json_type_boolean) ? json_object_get(v) : NULL;
	}
	if (s && parse_int64(s, &n))
		return json_object_new_int64(n);
	if (json_object_is_type(v, json_type_int) ||
		(type == T_NUMBER && json_object_is_type(v, json_type_double)))
		return json_object_get(v);
	return NULL;
}

/*
 * {agentGroupId, assignmentDate}: the date is the service's, but it comes
 * again from whoever reads an entity and writes it back.
 */
static json_object *
convert_group(json_object *v)
{
	json_object *id = convert_scalar(T_LONG, json_member(v, "agentGroupId"));
	json_object *date = json_member(v, "assignmentDate");
	json_object *out;

	if (id == NULL || (date && !json_object_is_type(date, json_type_string)))
	{
		json_object_put(id);
		return NULL;
	}
	out = json_object_new_object();
	json_object_object_add(out, "agentGroupId", id);
	if (date)
		json_object_object_add(out, "assignmentDate", json_object_get(date));
	return out;
}

static json_object *
convert(AttrType type, json_object *v)
{
	json_object *out;

	if (type == T_GROUP)
		return convert_group(v);
	if (type != T_LONGS && type != T_GROUPS)
		return convert_scalar(type, v);
	if (!json_object_is_type(v, json_type_array))
		return NULL;
	out = json_object_new_array();
	for (size_t i = 0; i < json_object_array_length(v); i++)
	{
		json_object *item = json_object_array_get_idx(v, i);

		item = type == T_LONGS ? convert_scalar(T_LONG, item) : convert_group(item);
		if (item == NULL)
		{
			json_object_put(out);
			return NULL;
		}
		json_object_array_add(out, item);
	}
	return out;
}

/* Unknown attributes pass through: the service's list is not closed. */
static bool
copy_attributes(json_object *in, json_object *out, bool create, Problem *p)
{
	json_object_object_foreach(in, name, value)
	{
		int			i = attribute_find(name);
		const AttrRule *rule = i < 0 ? NULL : &user_attributes[i];
		json_object *copy;

		if (rule && (rule->flags & A_READ) && create)
			return problem(p, 400, name, "%s is read-only", name);
		if (rule && (rule->flags & (A_READ | A_FORGET)))
			continue;
		copy = rule && value ? convert(rule->type, value) : json_object_get(value);
		if (value && copy == NULL)
			return problem(p, 400, name, "%s has the wrong type", name);
		json_object_object_add(out, name, copy);
	}
	return true;
}

static bool
check_required(json_object *user, Problem *p)
{
	bool		api = json_object_get_boolean(json_member(user, "isApiUser"));
	Buf			missing = {0};

	for (int i = 0; i < N_ATTRIBUTES; i++)
	{
		const char *name = user_attributes[i].name;
		bool		required = user_attributes[i].flags & A_REQUIRED;

		if (strcmp(name, "passwordSh") == 0)
			required = !api;
		else if (strcmp(name, "allowedAppKeys") == 0)
			required = api;
		else if (strcmp(name, "memberOf") == 0)
			required = roles_of(user) & (1 << 2);
		if (required && json_member(user, name) == NULL)
			buf_printf(&missing, "%s%s", missing.len ? "," : "", name);
	}
	if (missing.len > 0)
		problem(p, 400, missing.data, "missing: %s", missing.data);
	free(missing.data);
	return p->status == 0;
}

static bool
check_values(json_object *user, Problem *p)
{
	const char *login = json_object_get_string(json_member(user, "loginName"));
	json_object *password = json_member(user, "passwordSh");

	if (login == NULL || *login == '\0')
		return problem(p, 400, "loginName", "loginName is missing or empty");
	if (password && json_object_get_string_len(password) < MIN_PASSWORD)
		return problem(p, 400, "passwordSh", "the password has fewer than %d characters", MIN_PASSWORD);
	return true;
}

static void
set_text(json_object *o, const char *name, const char *text)
{
	json_object_object_add(o, name, json_object_new_string(text));
}

static void
set_bool_if_absent(json_object *o, const char *name, bool value)
{
	if (json_member(o, name) == NULL)
		json_object_object_add(o, name, json_object_new_boolean(value));
}

/* The service's own part of a new or changed user.  "old" is NULL on create. */
static void
fill_in(json_object *user, json_object *old)
{
	char		date[32];
	json_object *group = json_member(user, "memberOf");
	json_object *changed = json_member(old, "lastPwdChangeDate");
	bool		password = json_member(user, "passwordSh") != NULL;

	date_text(date);
	if (json_member(user, "isEnabled"))
		set_bool_if_absent(user, "disabledManually", !json_object_get_boolean(json_member(user, "isEnabled")));
	if (group && json_member(group, "assignmentDate") == NULL)
		set_text(group, "assignmentDate", date);
	if (old == NULL)
	{
		set_bool_if_absent(user, "isApiUser", false);
		if (json_member(user, "userTypeId") == NULL)
			json_object_object_add(user, "userTypeId", json_object_new_int64(1));
	}
	else if (!password && json_member(old, "passwordSh"))
		json_object_object_add(user, "passwordSh", json_object_get(json_member(old, "passwordSh")));
	if (password)
		set_text(user, "lastPwdChangeDate", date);
	else if (changed)
		json_object_object_add(user, "lastPwdChangeDate", json_object_get(changed));
	set_text(user, "dateUpdated", date);
}

static void
lose_roles(json_object *user, json_object *old)
{
	int			lost = roles_of(old) & ~roles_of(user);

	for (size_t i = 0; i < lengthof(role_losses); i++)
		for (int j = 0; (lost & (1 << role_losses[i].role)) && role_losses[i].loses[j]; j++)
			json_object_object_del(user, role_losses[i].loses[j]);
}

/*
 * From what a client sent to what the account stores.  "old" is what it
 * stores now, NULL on create.  Returns NULL with a problem.
 */
static json_object *
user_accept(json_object *in, json_object *old, int64_t id, Problem *p)
{
	json_object *user = json_object_new_object();
	char		pid[32];

	json_object_object_add(user, "id", json_object_new_int64(id));
	snprintf(pid, sizeof(pid), "p%" PRId64, id);
	if (old == NULL)
		set_text(user, "pid", pid);
	json_object_object_add(user, "deleted", json_object_new_boolean(false));
	if (!json_object_is_type(in, json_type_object))
		problem(p, 400, "", "a user must be an object");
	else if (copy_attributes(in, user, old == NULL, p) && (old || check_required(user, p)))
		check_values(user, p);
	if (p->status)
	{
		json_object_put(user);
		return NULL;
	}
	fill_in(user, old);
	lose_roles(user, old);
	return user;
}

static Entity *
entity_build(json_object *o)
{
	int			n = json_object_object_length(o);
	size_t		head = sizeof(Entity) + n * sizeof(Attr);
	Buf			b = {0};
	Entity	   *e;
	char	   *p;

	json_object_object_foreach(o, name, value)
	{
		buf_put(&b, name, strlen(name) + 1);
		put_json(&b, value, false, NULL);
		buf_put(&b, "", 1);
	}
	e = need(malloc(head + b.len + 1));
	p = memcpy((char *) e + head, b.data ? b.data : "", b.len + 1);
	free(b.data);
	e->n = n;
	for (int i = 0; i < n; i++)
	{
		e->attr[i].name = p;
		e->attr[i].known = attribute_find(p);
		p += strlen(p) + 1;
		e->attr[i].value = p;
		p += strlen(p) + 1;
	}
	return e;
}

static json_object *
entity_json(const Entity *e)
{
	json_object *o = json_object_new_object();

	for (int i = 0; i < e->n; i++)
		json_object_object_add(o, e->attr[i].name, json_own(e->attr[i].value));
	return o;
}

/* ---------------------------------------------------------------- users */

static size_t
hash_id(int64_t id)
{
	return ((uint64_t) id * UINT64_C(0x9E3779B97F4A7C15)) >> 20;
}

static size_t
hash_login(const char *key)
{
	uint64_t	h = UINT64_C(14695981039346656037);

	while (*key)
		h = (h ^ (unsigned char) *key++) * UINT64_C(1099511628211);
	return h;
}

static char *
login_key(const char *login)
{
	char	   *key = copy_text(login ? login : "");

	for (char *p = key; *p; p++)
		*p = tolower((unsigned char) *p);
	return key;
}

static void
index_login(User *u)
{
	User	  **slot = &sim.by_login[hash_login(u->key) & (sim.buckets - 1)];

	if (u->deleted)
		return;
	u->login_next = *slot;
	*slot = u;
}

static void
unindex_login(User *u)
{
	User	  **slot = &sim.by_login[hash_login(u->key) & (sim.buckets - 1)];

	while (*slot && *slot != u)
		slot = &(*slot)->login_next;
	if (*slot)
		*slot = u->login_next;
}

static void
index_id(User *u)
{
	User	  **slot = &sim.by_id[hash_id(u->id) & (sim.buckets - 1)];

	u->id_next = *slot;
	*slot = u;
}

static void
unindex_id(User *u)
{
	User	  **slot = &sim.by_id[hash_id(u->id) & (sim.buckets - 1)];

	while (*slot && *slot != u)
		slot = &(*slot)->id_next;
	if (*slot)
		*slot = u->id_next;
}

static void
index_grow(void)
{
	if (sim.nusers < sim.buckets)
		return;
	sim.buckets = sim.buckets ? sim.buckets * 4 : 1024;
	free(sim.by_id);
	free(sim.by_login);
	sim.by_id = need(calloc(sim.buckets, sizeof(User *)));
	sim.by_login = need(calloc(sim.buckets, sizeof(User *)));
	for (size_t i = 0; i < sim.nusers; i++)
	{
		index_id(sim.users[i]);
		index_login(sim.users[i]);
	}
}

/* Deleted ones too. */
static User *
user_by_id(int64_t id)
{
	User	   *u = sim.buckets ? sim.by_id[hash_id(id) & (sim.buckets - 1)] : NULL;

	while (u && u->id != id)
		u = u->id_next;
	return u;
}

/* Only those not deleted.  "after" walks on to the next one with the same login. */
static User *
user_by_key(const char *key, const User *after)
{
	User	   *u = after ? after->login_next :
		sim.buckets ? sim.by_login[hash_login(key) & (sim.buckets - 1)] : NULL;

	while (u && strcmp(u->key, key) != 0)
		u = u->login_next;
	return u;
}

static User *
user_add(int64_t id, json_object *entity)
{
	User	   *u = need(calloc(1, sizeof(User)));

	index_grow();
	if (sim.nusers == sim.room)
	{
		sim.room = sim.room ? sim.room * 2 : 1024;
		sim.users = need(realloc(sim.users, sim.room * sizeof(User *)));
	}
	u->id = id;
	u->deleted = json_object_get_boolean(json_member(entity, "deleted"));
	u->key = login_key(json_object_get_string(json_member(entity, "loginName")));
	u->entity = entity_build(entity);
	sim.users[sim.nusers++] = u;
	index_id(u);
	index_login(u);
	if (id >= sim.next_id)
		sim.next_id = id + 1;
	return u;
}

static void
user_free(User *u)
{
	free(u->key);
	free(u->entity);
	free(u->text);
	free(u);
}

/* Takes back the youngest user: half of a bulk create which failed. */
static void
user_drop_last(void)
{
	User	   *u = sim.users[--sim.nusers];

	unindex_id(u);
	unindex_login(u);
	user_free(u);
}

/* Gives the user another content; returns the former, which is the caller's to free or to put back. */
static Entity *
user_swap(User *u, Entity *entity, const char *login, bool deleted)
{
	Entity	   *old = u->entity;

	unindex_login(u);
	free(u->key);
	free(u->text);
	u->text = NULL;
	u->key = login_key(login);
	u->entity = entity;
	u->deleted = deleted;
	index_login(u);
	return old;
}

static bool
check_unique(json_object *user, const User *self, Problem *p)
{
	const char *login = json_object_get_string(json_member(user, "loginName"));
	char	   *key = login_key(login);
	User	   *other = user_by_key(key, NULL);

	if (other && other == self)
		other = user_by_key(key, other);
	free(key);
	if (other && config_bool("unique"))
		return problem(p, config_int("conflict_status"), "loginName", "loginName exists: %s", login);
	return true;
}

static User *
user_create(json_object *in, Problem *p)
{
	json_object *user = user_accept(in, NULL, sim.next_id, p);
	User	   *u = NULL;

	if (user && check_unique(user, NULL, p))
		u = user_add(sim.next_id, user);
	json_object_put(user);
	return u;
}

/* Returns the former content, or NULL with a problem. */
static Entity *
user_replace(User *u, json_object *in, Problem *p)
{
	json_object *old = entity_json(u->entity);
	json_object *user = user_accept(in, old, u->id, p);
	Entity	   *former = NULL;

	if (user && check_unique(user, u, p))
		former = user_swap(u, entity_build(user), json_object_get_string(json_member(user, "loginName")), false);
	json_object_put(user);
	json_object_put(old);
	return former;
}

/* Sets single attributes; what the service does by itself. */
static void
user_patch(User *u, const char *name, json_object *value)
{
	json_object *user = entity_json(u->entity);
	char		date[32];

	json_object_object_add(user, name, value);
	if (strcmp(name, "passwordSh") == 0)
		set_text(user, "lastPwdChangeDate", date_text(date));
	set_text(user, "dateUpdated", date_text(date));
	free(user_swap(u, entity_build(user), json_object_get_string(json_member(user, "loginName")),
				   json_object_get_boolean(json_member(user, "deleted"))));
	json_object_put(user);
}

static void
users_clear(void)
{
	for (size_t i = 0; i < sim.nusers; i++)
		user_free(sim.users[i]);
	sim.nusers = 0;
	if (sim.buckets)
	{
		memset(sim.by_id, 0, sim.buckets * sizeof(User *));
		memset(sim.by_login, 0, sim.buckets * sizeof(User *));
	}
	sim.next_id = FIRST_ID;
	sim.created = 0;
	sim.revision = 1;
	body_release(sim.listing);
	sim.listing = NULL;
}

/* The users who are there from the start: agents of one group. */
static void
users_generate(int n)
{
	Problem		p = {0};

	for (int i = 1; i <= n; i++)
	{
		char		text[600];
		json_object *in;

		snprintf(text, sizeof(text),
				 "{\"loginName\":\"agent%05d\",\"fullName\":\"Agent %05d\",\"nickname\":\"agent%05d\","
				 "\"email\":\"agent%05d@example.com\",\"passwordSh\":\"password%05d\",\"isEnabled\":true,"
				 "\"maxChats\":4,\"profileIds\":[1002],\"skillIds\":[3001,3002],\"lobIds\":[],"
				 "\"memberOf\":{\"agentGroupId\":2001},\"managerOf\":[],\"changePwdNextLogin\":false,"
				 "\"employeeId\":\"E%05d\"}", i, i, i, i, i, i);
		in = json_own(text);
		user_create(in, &p);
		json_object_put(in);
	}
}

/* ---------------------------------------------------------------- listing */

static void
view_free(View *view)
{
	if (view == NULL)
		return;
	for (int i = 0; i < view->n; i++)
	{
		free(view->select[i].name);
		free(view->select[i].nested);
	}
	free(view->select);
	free(view->known);
	free(view);
}

/* Reads "a,b(c,d),$all".  Attributes which do not exist simply match nothing later. */
static View *
view_parse(const char *select)
{
	View	   *view = need(calloc(1, sizeof(View)));

	view->known = need(calloc(N_ATTRIBUTES, sizeof(int)));
	for (const char *s = select; *s;)
	{
		size_t		n = strcspn(s, ",(");
		Select		item = {.name = need(strndup(s, n))};
		int			i = attribute_find(item.name);

		s += n;
		if (*s == '(')
		{
			n = strcspn(++s, ")");
			item.nested = need(strndup(s, n));
			s += n + (s[n] == ')');
		}
		s += *s == ',';
		if (strcmp(item.name, "$all") == 0)
			view->all = true;
		view->select = need(realloc(view->select, (view->n + 1) * sizeof(Select)));
		view->select[view->n++] = item;
		if (i >= 0)
			view->known[i] = view->n;
	}
	return view;
}

/* Is the attribute wanted?  "nested" is set to the members wanted of it. */
static bool
view_has(const View *view, const Attr *attr, const char **nested)
{
	*nested = NULL;
	if (attr->known >= 0)
	{
		int			i = view->known[attr->known];

		if (i > 0)
			*nested = view->select[i - 1].nested;
		if (!view->hidden && (user_attributes[attr->known].flags & A_WRITE))
			return false;
		return i > 0 || view->all;
	}
	for (int i = 0; i < view->n; i++)
		if (strcmp(view->select[i].name, attr->name) == 0)
		{
			*nested = view->select[i].nested;
			return true;
		}
	return view->all;
}

static void
put_value(Buf *b, const View *view, const Attr *attr, const char *nested)
{
	char		c = attr->value[0];
	bool		blank = attr->known >= 0 && (user_attributes[attr->known].flags & A_BLANK);

	if (blank && !view->hidden)
		buf_puts(b, "\"\"");
	else if ((c == '{' || c == '[') && (nested || view->quoted))
	{
		json_object *v = json_own(attr->value);

		put_json(b, v, view->quoted, nested);
		json_object_put(v);
	}
	else if (view->quoted && c != '"' && c != 'n')
		buf_printf(b, "\"%s\"", attr->value);
	else
		buf_puts(b, attr->value);
}

static void
put_entity(Buf *b, const Entity *e, const View *view)
{
	const char *nested;
	const char *comma = "{";

	for (int i = 0; i < e->n; i++)
	{
		if (!view_has(view, &e->attr[i], &nested))
			continue;
		buf_puts(b, comma);
		put_text(b, e->attr[i].name);
		buf_put(b, ":", 1);
		put_value(b, view, &e->attr[i], nested);
		comma = ",";
	}
	buf_puts(b, *comma == '{' ? "{}" : "}");
}

/* The view a GET asked for; "otherwise" is what the service answers without select. */
static View *
view_of_request(const Request *req, const char *otherwise, char **text)
{
	const char *select = request_parameter(req, "select");
	View	   *view;
	Buf			b = {0};

	if (select == NULL || config_bool("ignore_select"))
		select = otherwise;
	if (config_bool("select_all"))
		select = "$all";
	buf_printf(&b, "%s%s", config_bool("quoted") ? "quoted " : "", select);
	view = view_parse(select);
	view->quoted = config_bool("quoted");
	if (text)
		*text = b.data;
	else
		free(b.data);
	return view;
}

static View *
view_everything(bool hidden)
{
	View	   *view = view_parse("$all");

	view->quoted = !hidden && config_bool("quoted");
	view->hidden = hidden;
	return view;
}

/* As view_of_request, but the same number as last time if it is the same view. */
static const View *
listing_view(const Request *req)
{
	char	   *text;
	View	   *view = view_of_request(req, "id,deleted,loginName,pid", &text);

	if (sim.view_text && strcmp(text, sim.view_text) == 0)
	{
		view_free(view);
		free(text);
		return sim.view;
	}
	view_free(sim.view);
	free(sim.view_text);
	sim.view = view;
	sim.view_text = text;
	sim.view_number++;
	return view;
}

static void
put_listed_user(Buf *b, User *u, const View *view)
{
	size_t		from = b->len;

	if (u->text && u->text_view == sim.view_number)
	{
		buf_put(b, u->text, u->textlen);
		return;
	}
	put_entity(b, u->entity, view);
	free(u->text);
	u->textlen = b->len - from;
	u->text = need(malloc(u->textlen + 1));
	memcpy(u->text, b->data + from, u->textlen + 1);
	u->text_view = sim.view_number;
}

/*
 * The whole list.  Kept until something changes; even then only what changed
 * is written anew, so that a client which creates and lists in turn measures
 * itself and not this program.
 */
static Body *
listing_build(const Request *req, bool deleted)
{
	const View *view = listing_view(req);
	Buf			b = {0};
	const char *comma = "";

	if (sim.listing && sim.listing_view == sim.view_number &&
		sim.listing_revision == sim.revision && sim.listing_deleted == deleted)
		return body_share(sim.listing);
	buf_room(&b, sim.listing ? sim.listing->len : 1024);
	buf_put(&b, "[", 1);
	for (size_t i = 0; i < sim.nusers; i++)
	{
		if (sim.users[i]->deleted && !deleted)
			continue;
		buf_puts(&b, comma);
		put_listed_user(&b, sim.users[i], view);
		comma = ",";
	}
	buf_put(&b, "]", 1);
	body_release(sim.listing);
	sim.listing = body_from(&b);
	sim.listing_view = sim.view_number;
	sim.listing_revision = sim.revision;
	sim.listing_deleted = deleted;
	return body_share(sim.listing);
}

/* ---------------------------------------------------------------- users: the methods */

/* Is there an If-Match which asks for a check?  -1 and * do not. */
static bool
if_match(const Request *req, int64_t *revision)
{
	const char *text = request_header(req, "If-Match");
	char		plain[32];

	if (text == NULL || strcmp(text, "*") == 0)
		return false;
	text += *text == '"';
	snprintf(plain, sizeof(plain), "%.*s", (int) strcspn(text, "\""), text);
	if (!parse_int64(plain, revision))
		*revision = -2;
	return *revision != -1;
}

static bool
not_modified(const Request *req, Answer *ans, int64_t revision)
{
	int64_t		known;

	if (!if_match(req, &known) || known != revision)
		return false;
	answer_empty(ans, 304);
	return true;
}

static bool
stale(const Request *req, Answer *ans)
{
	int64_t		known;

	if (!if_match(req, &known) || known == sim.revision)
		return false;
	answer_error(ans, config_int("stale_status"), "revision is %" PRId64 ", not that of If-Match", sim.revision);
	return true;
}

static bool
wants_deleted(const Request *req)
{
	const char *text = request_parameter(req, "include_deleted");

	return text && strcasecmp(text, "true") == 0;
}

static void
users_get_all(Request *req, Answer *ans)
{
	if (not_modified(req, ans, sim.revision))
		return;
	body_release(ans->body);
	ans->status = 200;
	ans->type = "application/json";
	ans->body = listing_build(req, wants_deleted(req));
}

/* The user named in the path, or NULL with a 404. */
static User *
user_of_path(Request *req, Answer *ans, bool deleted)
{
	int64_t		id;
	User	   *u = parse_int64(req->arg[1], &id) ? user_by_id(id) : NULL;

	if (u && (deleted || !u->deleted))
		return u;
	answer_error(ans, 404, "no user with id %s", req->arg[1]);
	return NULL;
}

static void
users_get_one(Request *req, Answer *ans)
{
	User	   *u = user_of_path(req, ans, wants_deleted(req));
	View	   *view;
	Buf			b = {0};

	if (u == NULL || not_modified(req, ans, sim.revision))
		return;
	view = view_of_request(req, "$all", NULL);
	put_entity(&b, u->entity, view);
	answer_json(ans, 200, &b);
	view_free(view);
}

/* Answers users in the form of the request: one object, or an array. */
static void
answer_users(Request *req, Answer *ans, unsigned status, User **users, size_t n)
{
	bool		array = json_object_is_type(req->json, json_type_array);
	View	   *view = view_everything(false);
	Buf			b = {0};

	buf_puts(&b, array ? "[" : "");
	for (size_t i = 0; i < n; i++)
	{
		buf_puts(&b, i > 0 ? "," : "");
		put_entity(&b, users[i]->entity, view);
	}
	buf_puts(&b, array ? "]" : "");
	answer_json(ans, status, &b);
	view_free(view);
}

/* The elements of a body which is one thing or an array of them. */
static size_t
body_count(const Request *req)
{
	return json_object_is_type(req->json, json_type_array) ? json_object_array_length(req->json) : 1;
}

static json_object *
body_item(const Request *req, size_t i)
{
	return json_object_is_type(req->json, json_type_array) ? json_object_array_get_idx(req->json, i) : req->json;
}

/*
 * One or many.  They are put in one by one, which also finds duplicates within
 * the array; when one is refused, the others leave again, unless the account
 * is configured to keep them.
 */
static void
users_post(Request *req, Answer *ans)
{
	size_t		n = body_count(req);
	size_t		from = sim.nusers;
	bool		partial = config_is("bulk", "partial");
	Problem		first = {0};

	for (size_t i = 0; i < n && (partial || first.status == 0); i++)
	{
		Problem		p = {0};

		if (user_create(body_item(req, i), &p) == NULL && first.status == 0)
			first = p;
	}
	while (first.status && !partial && sim.nusers > from)
		user_drop_last();
	if (sim.nusers > from)
	{
		sim.created += sim.nusers - from;
		sim.revision++;
	}
	if (first.status)
	{
		answer_problem(ans, &first);
		return;
	}
	answer_users(req, ans, 201, sim.users + from, n);
	if (!json_object_is_type(req->json, json_type_array))
	{
		char		where[512];

		snprintf(where, sizeof(where), "%s/%" PRId64, req->path, sim.users[from]->id);
		answer_header(ans, "Location", where);
	}
}

/* The user whom an element of an update or a list of ids means, or NULL with a problem. */
static User *
user_meant(json_object *id, Problem *p)
{
	json_object *number = convert_scalar(T_LONG, id);
	User	   *u;

	if (number == NULL)
	{
		problem(p, 400, "id", "id is missing or not a number");
		return NULL;
	}
	u = user_by_id(json_object_get_int64(number));
	if (u && u->deleted)
		u = NULL;
	if (u == NULL)
		problem(p, 404, "id", "no user with id %" PRId64, json_object_get_int64(number));
	json_object_put(number);
	return u;
}

/* PUT of one or many: each is replaced at once, and put back if a later one is refused. */
static void
users_replace(Request *req, Answer *ans)
{
	size_t		n = body_count(req);
	User	  **done = need(calloc(n + 1, sizeof(User *)));
	Entity	  **former = need(calloc(n + 1, sizeof(Entity *)));
	size_t		ndone = 0;
	bool		partial = config_is("bulk", "partial");
	Problem		first = {0};

	for (size_t i = 0; i < n && (partial || first.status == 0); i++)
	{
		Problem		p = {0};
		json_object *in = body_item(req, i);
		User	   *u = user_meant(json_member(in, "id"), &p);

		if (u && (former[ndone] = user_replace(u, in, &p)) != NULL)
			done[ndone++] = u;
		else if (first.status == 0)
			first = p;
	}
	if (first.status && !partial)
		while (ndone > 0)
		{
			json_object *old = entity_json(former[--ndone]);

			free(user_swap(done[ndone], former[ndone], json_object_get_string(json_member(old, "loginName")), false));
			json_object_put(old);
		}
	sim.revision += ndone > 0;
	if (first.status)
		answer_problem(ans, &first);
	else
		answer_users(req, ans, 200, done, ndone);
	while (ndone > 0)
		free(former[--ndone]);
	free(former);
	free(done);
}

static void
users_put(Request *req, Answer *ans)
{
	if (!stale(req, ans))
		users_replace(req, ans);
}

static void
users_put_one(Request *req, Answer *ans)
{
	json_object *id;
	User	   *u = user_of_path(req, ans, false);

	if (u == NULL || stale(req, ans))
		return;
	id = convert_scalar(T_LONG, json_member(req->json, "id"));
	if (id == NULL || json_object_get_int64(id) != u->id)
		answer_error(ans, 400, "the id in the body is missing or not that of the path");
	else
		users_replace(req, ans);
	json_object_put(id);
}

static void
users_delete(Request *req, Answer *ans)
{
	size_t		n = json_object_is_type(req->json, json_type_array) ? json_object_array_length(req->json) : 0;
	User	  **found = need(calloc(n + 1, sizeof(User *)));
	size_t		nfound = 0;
	Problem		p = {0};

	for (size_t i = 0; i < n; i++)
		if ((found[nfound] = user_meant(json_object_array_get_idx(req->json, i), &p)) != NULL)
			nfound++;
	if (n == 0)
		problem(&p, 400, "", "the body must be a list of ids");
	if (p.status && config_is("bulk", "all_or_nothing"))
		nfound = 0;
	if (!stale(req, ans))
	{
		for (size_t i = 0; i < nfound; i++)
			user_patch(found[i], "deleted", json_object_new_boolean(true));
		sim.revision += nfound > 0;
		if (p.status)
			answer_problem(ans, &p);
		else
			answer_empty(ans, 200);
	}
	free(found);
}

static void
users_delete_one(Request *req, Answer *ans)
{
	User	   *u = user_of_path(req, ans, false);

	if (u == NULL || stale(req, ans))
		return;
	user_patch(u, "deleted", json_object_new_boolean(true));
	sim.revision++;
	answer_empty(ans, 200);
}

static void
users_reset_password(Request *req, Answer *ans)
{
	json_object *password = json_member(req->json, "newPassword");
	User	   *u = user_of_path(req, ans, false);
	Problem		p = {0};

	if (u == NULL || stale(req, ans))
		return;
	if (!json_object_is_type(password, json_type_string))
		problem(&p, 400, "newPassword", "newPassword is missing or no string");
	else if (json_object_get_string_len(password) < MIN_PASSWORD)
		problem(&p, 400, "newPassword", "the password has fewer than %d characters", MIN_PASSWORD);
	if (p.status)
	{
		answer_problem(ans, &p);
		return;
	}
	user_patch(u, "passwordSh", json_object_get(password));
	sim.revision++;
	answer_empty(ans, 200);
}

/* ---------------------------------------------------------------- neighbours and domains */

#define D "\"dateUpdated\":\"2026-01-05 09:00:00\""
#define SKILL(id, name, rest) "{\"id\":" id ",\"name\":\"" name "\",\"description\":\"\",\"maxWaitTime\":120," \
	"\"skillOrder\":1,\"canTransfer\":true," rest "," D "}"
#define PROFILE(id, name, role) "{\"id\":" id ",\"name\":\"" name "\",\"description\":\"" name "\"," \
	"\"roleTypeId\":" role ",\"numOfAssignedUsers\":0," D "}"
#define GROUP(id, name, parent) "{\"id\":" id ",\"name\":\"" name "\",\"description\":\"\"," \
	"\"parentGroupId\":" parent ",\"isEnabled\":true,\"deleted\":false," D "}"
#define LOB(id, name, gone) "{\"id\":" id ",\"name\":\"" name "\",\"description\":\"\",\"deleted\":" gone "," D "}"

/* Read only; each with a revision of its own. */
static struct Neighbour
{
	const char *name;
	const char *otherwise;		/* attributes without select */
	int64_t		revision;
	const char *text;
	json_object *items;
	Entity	  **entities;
}			neighbours[] = {
	{"profiles", "id,name", 11, "["
		PROFILE("1001", "Administrator", "1") "," PROFILE("1002", "Agent", "2") ","
		PROFILE("1003", "Agent Manager", "3") "," PROFILE("1004", "Campaign Manager", "4") ","
	PROFILE("1005", "Night Agent", "2") "]", NULL, NULL},
	{"skills", "id,name,deleted", 12, "["
		SKILL("3001", "Sales", "\"lobIds\":[4001],\"deleted\":false") ","
		SKILL("3002", "Support", "\"lobIds\":[4002],\"deleted\":false") ","
		SKILL("3003", "Billing", "\"lobIds\":[4001,4002],\"deleted\":false") ","
	SKILL("3004", "Fax", "\"lobIds\":[],\"deleted\":true") "]", NULL, NULL},
	{"agentGroups", "id,name,deleted", 13, "["
		GROUP("-1", "Main Group", "null") "," GROUP("2001", "Day", "-1") "," GROUP("2002", "Night", "-1") ","
	GROUP("2003", "Weekend", "2002") "]", NULL, NULL},
	{"lobs", "id,name,deleted", 14, "["
		LOB("4001", "Retail", "false") "," LOB("4002", "Business", "false") "," LOB("4003", "Telex", "true")
	"]", NULL, NULL},
};

#undef D
#undef SKILL
#undef PROFILE
#undef GROUP
#undef LOB

static void
neighbours_build(void)
{
	for (size_t i = 0; i < lengthof(neighbours); i++)
	{
		struct Neighbour *nb = &neighbours[i];
		size_t		n;

		nb->items = json_own(nb->text);
		n = json_object_array_length(nb->items);
		nb->entities = need(calloc(n, sizeof(Entity *)));
		for (size_t j = 0; j < n; j++)
			nb->entities[j] = entity_build(json_object_array_get_idx(nb->items, j));
	}
}

/* The roles which a user's profiles give, as a set of bits.  Profiles which do not exist give none. */
static int
roles_of(json_object *user)
{
	json_object *ids = json_member(user, "profileIds");
	json_object *profiles = neighbours[0].items;
	int			roles = 0;

	if (!json_object_is_type(ids, json_type_array))
		return 0;
	for (size_t i = 0; i < json_object_array_length(ids); i++)
		for (size_t j = 0; j < json_object_array_length(profiles); j++)
		{
			json_object *profile = json_object_array_get_idx(profiles, j);

			if (json_object_get_int64(json_member(profile, "id")) ==
				json_object_get_int64(json_object_array_get_idx(ids, i)))
				roles |= 1 << json_object_get_int(json_member(profile, "roleTypeId"));
		}
	return roles;
}

static struct Neighbour *
neighbour_find(const char *name)
{
	for (size_t i = 0; i < lengthof(neighbours); i++)
		if (strcmp(neighbours[i].name, name) == 0)
			return &neighbours[i];
	return NULL;
}

/* All, or the one whose id stands in the path. */
static void
neighbours_get(Request *req, Answer *ans)
{
	struct Neighbour *nb = neighbour_find(req->arg[1]);
	bool		one = req->arg[2][0] != '\0';
	bool		found = false;
	View	   *view;
	Buf			b = {0};

	if (nb == NULL)
	{
		answer_error(ans, 404, "no such resource: %s", req->arg[1]);
		return;
	}
	if (not_modified(req, ans, nb->revision))
		return;
	view = view_of_request(req, one ? "$all" : nb->otherwise, NULL);
	buf_puts(&b, one ? "" : "[");
	for (size_t i = 0; i < json_object_array_length(nb->items); i++)
	{
		json_object *item = json_object_array_get_idx(nb->items, i);
		bool		gone = json_object_get_boolean(json_member(item, "deleted")) && !wants_deleted(req);

		if (gone || (one && strcmp(req->arg[2], json_object_get_string(json_member(item, "id"))) != 0))
			continue;
		buf_puts(&b, found ? "," : "");
		put_entity(&b, nb->entities[i], view);
		found = true;
	}
	buf_puts(&b, one ? "" : "]");
	if (one && !found)
		answer_error(ans, 404, "no %s with id %s", nb->name, req->arg[2]);
	else
		answer_json(ans, 200, &b);
	free(b.data);
	view_free(view);
}

static const char *const services[] = {"accountConfigReadWrite", "accountConfigReadOnly", "agentVep", "sentinel"};

/* Every service is this server, reached as the request reached it. */
static void
put_service(Buf *b, const Request *req, const char *service)
{
	const char *host = request_header(req, "Host");
	const char *fixed = config_text("domain_answer");
	bool		named = host && strncmp(host, "localhost", 9) == 0;
	bool		v6 = strchr(opt.listen, ':') != NULL;

	buf_printf(b, "{\"service\":\"%s\",\"account\":\"%s\",\"baseURI\":", service, opt.account);
	if (fixed)
		put_text(b, fixed);
	else
		buf_printf(b, "\"%s%s%s:%d\"", v6 && !named ? "[" : "", named ? "localhost" : opt.listen,
				   v6 && !named ? "]" : "", req->door->port);
	buf_put(b, "}", 1);
}

static void
domains_get(Request *req, Answer *ans)
{
	const char *wanted = req->arg[1];
	bool		many = wanted[0] == '\0' || config_is("domain_shape", "many");
	int			found = 0;
	Buf			b = {0};

	if (request_parameter(req, "version") == NULL)
	{
		answer_error(ans, 400, "the query lacks version=1.0");
		return;
	}
	buf_puts(&b, many ? "{\"baseURIs\":[" : "");
	for (size_t i = 0; i < lengthof(services); i++)
	{
		if (*wanted && strcmp(wanted, services[i]) != 0)
			continue;
		buf_puts(&b, found++ ? "," : "");
		put_service(&b, req, services[i]);
	}
	buf_puts(&b, many ? "]}" : "");
	if (found)
		answer_json(ans, 200, &b);
	else
		answer_error(ans, 404, "no such service: %s", wanted);
	free(b.data);
}

/* ---------------------------------------------------------------- auth */

static const char *
bearer_of(const Request *req)
{
	const char *text = request_header(req, "Authorization");

	if (text == NULL || strncasecmp(text, "Bearer ", 7) != 0)
		return NULL;
	return text + 7 + strspn(text + 7, " ");
}

static bool
bearer_valid(const Request *req)
{
	const char *bearer = bearer_of(req);
	size_t		n = sim.ntokens < MAX_TOKENS ? sim.ntokens : MAX_TOKENS;

	if (bearer == NULL)
		return false;
	if (strcmp(bearer, opt.token) == 0)
		return true;
	for (size_t i = 0; i < n; i++)
		if (strcmp(sim.tokens[i].text, bearer) == 0 && sim.tokens[i].expires > now_monotonic())
			return true;
	return false;
}

/* Tokens need only differ: on a loopback interface nobody guesses them. */
static const char *
token_issue(double ttl)
{
	Token	   *t = &sim.tokens[sim.ntokens % MAX_TOKENS];
	const char *fixed = config_text("token_token");
	char		text[64];

	sim.ntokens++;
	snprintf(text, sizeof(text), "sim-%08lx-%06zu", (unsigned long) (now_monotonic() * 1e6) & 0xffffffff, sim.ntokens);
	free(t->text);
	t->text = copy_text(fixed ? fixed : text);
	t->expires = now_monotonic() + ttl;
	return t->text;
}

static void
tokens_expire(void)
{
	for (size_t i = 0; i < MAX_TOKENS; i++)
		sim.tokens[i].expires = 0;
}

static int
hex_value(char c)
{
	const char *digits = "0123456789abcdef";
	const char *p = c ? strchr(digits, tolower((unsigned char) c)) : NULL;

	return p ? (int) (p - digits) : -1;
}

/* Does the form have this field with this value? */
static bool
form_is(const Request *req, const char *name, const char *value)
{
	const char *s = req->body.data ? req->body.data : "";
	size_t		n = strlen(name);

	while (*s && !(strncmp(s, name, n) == 0 && s[n] == '='))
		s += strcspn(s, "&") + (s[strcspn(s, "&")] == '&');
	if (*s == '\0')
		return false;
	for (s += n + 1; *s && *s != '&'; s++, value++)
	{
		char		c = *s == '+' ? ' ' : *s;

		if (c == '%' && hex_value(s[1]) >= 0 && hex_value(s[2]) >= 0)
		{
			c = hex_value(s[1]) * 16 + hex_value(s[2]);
			s += 2;
		}
		if (c != *value)
			return false;
	}
	return *value == '\0';
}

static bool
content_is(const Request *req, const char *type)
{
	const char *text = request_header(req, "Content-Type");
	size_t		n = strlen(type);

	return text && strncasecmp(text, type, n) == 0 && strchr("; ", text[n]) != NULL;
}

static void
answer_oauth_error(Answer *ans, unsigned status, const char *name)
{
	Buf			b = {0};

	buf_printf(&b, "{\"error\":\"%s\"}", name);
	answer_json(ans, status, &b);
}

/* OAuth 2.0, client credentials. */
static void
token_oauth(Request *req, Answer *ans)
{
	int64_t		ttl = config_int("token_ttl");
	Buf			b = {0};

	if (!content_is(req, "application/x-www-form-urlencoded"))
		answer_oauth_error(ans, 400, "invalid_request");
	else if (!form_is(req, "grant_type", "client_credentials"))
		answer_oauth_error(ans, 400, "unsupported_grant_type");
	else if (!form_is(req, "client_id", opt.client_id) || !form_is(req, "client_secret", opt.client_secret))
		answer_oauth_error(ans, 401, "invalid_client");
	else
	{
		buf_puts(&b, "{\"access_token\":");
		put_text(&b, token_issue(ttl));
		buf_puts(&b, ",\"token_type\":\"Bearer\"");
		if (config_bool("expires_in"))
			buf_printf(&b, ",\"expires_in\":%" PRId64, ttl);
		buf_puts(&b, "}");
		answer_json(ans, 200, &b);
	}
}

static bool
text_is(json_object *v, const char *text)
{
	return json_object_is_type(v, json_type_string) && strcmp(json_object_get_string(v), text) == 0;
}

/* The Login service: eight hours, unless another life of tokens was asked for. */
static void
token_login(Request *req, Answer *ans)
{
	int64_t		ttl = config_int("token_ttl");
	Buf			b = {0};

	if (ttl == 3600)
		ttl = 28800;
	if (!content_is(req, "application/json"))
		answer_error(ans, 415, "Content-Type must be application/json");
	else if (request_parameter(req, "v") == NULL)
		answer_error(ans, 400, "the query lacks v=1.3");
	else if (!text_is(json_member(req->json, "username"), opt.username) ||
			 !text_is(json_member(req->json, "password"), opt.password))
		answer_error(ans, 401, "wrong user name or password");
	else
	{
		buf_puts(&b, "{\"csrf\":\"\",\"bearer\":");
		put_text(&b, token_issue(ttl));
		buf_printf(&b, ",\"sessionTTl\":\"%" PRId64 "\",\"config\":{\"loginName\":", ttl * 1000);
		put_text(&b, opt.username);
		buf_puts(&b, "}}");
		answer_json(ans, 200, &b);
	}
}

static bool
rate_exceeded(void)
{
	int64_t		limit = config_int("rate_limit");
	double		now = now_monotonic();

	if (limit == 0)
		return false;
	if (now - sim.rate_since >= 1)
	{
		sim.rate_since = now;
		sim.rate_count = 0;
	}
	return ++sim.rate_count > limit;
}

/* What every request to the account configuration must pass. */
static bool
gate(Request *req, Answer *ans)
{
	bool		body = strcmp(req->method, "GET") != 0 && (req->body.len > 0 || strcmp(req->method, "DELETE") != 0);

	if (!bearer_valid(req))
		answer_error(ans, 401, "the bearer token is missing, unknown or expired");
	else if (config_bool("forbid"))
		answer_error(ans, 403, "the key lacks the right");
	else if (rate_exceeded())
	{
		answer_error(ans, 429, "too many requests");
		answer_header(ans, "Retry-After", "1");
	}
	else if (request_parameter(req, "v") == NULL)
		answer_error(ans, 400, "the query lacks v: the real service would answer as version 2.0, with another entity");
	else if (body && !content_is(req, "application/json"))
		answer_error(ans, 415, "Content-Type must be application/json");
	else if (body && req->json == NULL)
		answer_error(ans, 400, "the body is not JSON: %s", req->json_error ? req->json_error : "null");
	else
		return true;
	return false;
}

/* ---------------------------------------------------------------- routes of the account */

typedef struct Route
{
	const char *method;
	const char *path;			/* a star matches one segment */
	void		(*handler) (Request *req, Answer *ans);
	bool		gated;
} Route;

#define CONFIG "/api/account/*/configuration/le-users/"

/* The first which matches; the first star is always the account. */
static const Route routes[] = {
	{"GET", "/api/account/*/service/baseURI.json", domains_get, false},
	{"GET", "/api/account/*/service/*/baseURI.json", domains_get, false},
	{"POST", "/sentinel/api/v2/account/*/app/token", token_oauth, false},
	{"POST", "/api/account/*/login", token_login, false},
	{"GET", CONFIG "users", users_get_all, true},
	{"POST", CONFIG "users", users_post, true},
	{"PUT", CONFIG "users", users_put, true},
	{"DELETE", CONFIG "users", users_delete, true},
	{"GET", CONFIG "users/*", users_get_one, true},
	{"PUT", CONFIG "users/*", users_put_one, true},
	{"DELETE", CONFIG "users/*", users_delete_one, true},
	{"PUT", CONFIG "users/*/resetPassword", users_reset_password, true},
	{"GET", CONFIG "*", neighbours_get, true},
	{"GET", CONFIG "*/*", neighbours_get, true},
};

#undef CONFIG

static bool
route_matches(const char *pattern, Request *req)
{
	const char *s = req->path;
	int			stars = 0;

	memset(req->arg, 0, sizeof(req->arg));
	while (*pattern)
	{
		size_t		n = strcspn(s, "/");

		if (*pattern != '*')
		{
			if (*s++ != *pattern++)
				return false;
			continue;
		}
		if (n == 0 || n >= sizeof(req->arg[0]) || stars == (int) lengthof(req->arg))
			return false;
		memcpy(req->arg[stars++], s, n);
		s += n;
		pattern++;
	}
	return *s == '\0';
}

/* NULL with *known false: no such path; true: the path has other methods. */
static const Route *
route_find(const Route *list, size_t n, Request *req, bool *known)
{
	*known = false;
	for (size_t i = 0; i < n; i++)
	{
		if (!route_matches(list[i].path, req))
			continue;
		*known = true;
		if (strcmp(list[i].method, req->method) == 0)
			return &list[i];
	}
	return NULL;
}

static void
add_revision(Request *req, Answer *ans)
{
	struct Neighbour *nb = neighbour_find(req->arg[1]);
	char		text[32];
	bool		etag = config_is("revision_header", "ETag");

	if (config_is("revision_header", "none"))
		return;
	snprintf(text, sizeof(text), etag ? "\"%" PRId64 "\"" : "%" PRId64, nb ? nb->revision : sim.revision);
	answer_header(ans, etag ? "ETag" : "ac-revision", text);
}

/* Does what the request asks for, as the service does. */
static void
carry_out(Request *req, Answer *ans)
{
	bool		known;
	const Route *route = route_find(routes, lengthof(routes), req, &known);
	int64_t		before = sim.revision;

	if (!known)
		answer_error(ans, 404, "no such path: %s", req->path);
	else if (route == NULL)
		answer_error(ans, 405, "%s is not a method of %s", req->method, req->path);
	else if (strcmp(req->arg[0], opt.account) != 0)
		answer_error(ans, 404, "no such account: %s", req->arg[0]);
	else if (!route->gated)
		route->handler(req, ans);
	else
	{
		if (gate(req, ans))
			route->handler(req, ans);
		add_revision(req, ans);
	}
	req->entry->applied = ans->status < 400 || sim.revision != before;
}

/* ---------------------------------------------------------------- log */

static void
entry_release(Entry *e)
{
	if (e == NULL || --e->refs > 0)
		return;
	free(e->path);
	free(e->query);
	free(e->if_match);
	free(e->content_type);
	free(e->logins.data);
	free(e->ids.data);
	free(e);
}

static void
log_clear(void)
{
	for (size_t i = 0; i < sim.nlog; i++)
		entry_release(sim.log[i]);
	sim.nlog = 0;
}

/* Starts a request's entry when its head has arrived. */
static Entry *
log_request(const Request *req, Connection *c)
{
	Entry	   *e = need(calloc(1, sizeof(Entry)));
	const char *bearer = bearer_of(req);
	size_t		n = bearer ? strlen(bearer) : 0;

	e->refs = 2;
	e->seq = ++sim.seq;
	clock_gettime(CLOCK_REALTIME, &e->at);
	snprintf(e->method, sizeof(e->method), "%s", req->method);
	e->path = copy_text(req->path);
	e->query = copy_text(strchr(req->uri, '?') ? strchr(req->uri, '?') + 1 : "");
	e->connection = c->number;
	e->nth = ++c->requests;
	e->tls = req->door->tls;
	snprintf(e->bearer, sizeof(e->bearer), "%s", bearer ? bearer + (n > 6 ? n - 6 : 0) : "");
	e->if_match = copy_text(request_header(req, "If-Match"));
	e->content_type = copy_text(request_header(req, "Content-Type"));
	if (sim.nlog == sim.log_room)
	{
		sim.log_room = sim.log_room ? sim.log_room * 2 : 1024;
		sim.log = need(realloc(sim.log, sim.log_room * sizeof(Entry *)));
	}
	sim.log[sim.nlog++] = e;
	return e;
}

static void
log_id(Entry *e, json_object *v)
{
	json_object *n = convert_scalar(T_LONG, v);
	int64_t		id = n ? json_object_get_int64(n) : 0;

	if (n)
		buf_put(&e->ids, &id, sizeof(id));
	json_object_put(n);
}

/* Notes the users named in the body, and in the path. */
static void
log_users(Entry *e, const Request *req)
{
	const char *tail = strstr(req->path, "/users/");
	json_object *id = tail ? json_object_new_string_len(tail + 7, strcspn(tail + 7, "/")) : NULL;

	e->bytes_in = req->body.len;
	for (size_t i = 0; req->json && i < body_count(req); i++)
	{
		json_object *item = body_item(req, i);
		json_object *login = json_member(item, "loginName");

		if (json_object_is_type(login, json_type_string))
			buf_put(&e->logins, json_object_get_string(login), strlen(json_object_get_string(login)) + 1);
		log_id(e, json_object_is_type(item, json_type_object) ? json_member(item, "id") : item);
	}
	if (e->ids.len == 0)
		log_id(e, id);
	json_object_put(id);
}

static bool
entry_has_login(const Entry *e, const char *login)
{
	for (const char *s = e->logins.data; s && s < e->logins.data + e->logins.len; s += strlen(s) + 1)
		if (strcmp(s, login) == 0)
			return true;
	return false;
}

static void
put_entry(Buf *b, const Entry *e)
{
	const char *comma = "";

	buf_printf(b, "{\"seq\":%" PRId64 ",\"at\":%lld.%06ld,\"method\":", e->seq,
			   (long long) e->at.tv_sec, e->at.tv_nsec / 1000);
	put_text(b, e->method);
	buf_puts(b, ",\"path\":");
	put_text(b, e->path);
	buf_puts(b, ",\"query\":");
	put_text(b, e->query);
	buf_printf(b, ",\"status\":%u,\"connection\":%" PRId64 ",\"nth\":%" PRId64 ",\"tls\":%s,\"bearer\":",
			   e->status, e->connection, e->nth, e->tls ? "true" : "false");
	put_text(b, e->bearer);
	buf_puts(b, ",\"if_match\":");
	put_text(b, e->if_match);
	buf_puts(b, ",\"content_type\":");
	put_text(b, e->content_type);
	buf_puts(b, ",\"logins\":[");
	for (const char *s = e->logins.data; s && s < e->logins.data + e->logins.len; s += strlen(s) + 1, comma = ",")
	{
		buf_puts(b, comma);
		put_text(b, s);
	}
	buf_puts(b, "],\"ids\":[");
	for (size_t i = 0; i < e->ids.len / sizeof(int64_t); i++)
	{
		int64_t		id;

		memcpy(&id, e->ids.data + i * sizeof(id), sizeof(id));
		buf_printf(b, "%s%" PRId64, i ? "," : "", id);
	}
	buf_printf(b, "],\"bytes_in\":%zu,\"bytes_out\":%zu,\"applied\":%s,\"fault\":", e->bytes_in, e->bytes_out,
			   e->applied ? "true" : "false");
	put_text(b, e->fault);
	buf_put(b, "}", 1);
}

/* ---------------------------------------------------------------- faults */

/*
 * What can go wrong.  "act" makes the answer; "text" and "status" are for
 * those which merely answer something fixed.  "needs" and "takes" name the
 * parameters.
 */
typedef struct Action
{
	const char *name;
	const char *help;
	void		(*act) (Request *req, Answer *ans, const struct Action *action);
	const char *needs;
	const char *takes;
	int			flags;
	unsigned	status;			/* 0: the usual one */
	const char *type;
	const char *text;
} Action;

#define F_USUAL		1			/* works upon the usual answer */
#define F_CARRY		2			/* carried out unless "applied" is false */

static int64_t
rule_int(const Request *req, const char *name, int64_t otherwise)
{
	json_object *v = json_member(req->rule->spec, name);

	return v ? json_object_get_int64(v) : otherwise;
}

static double
rule_seconds(const Request *req, double otherwise)
{
	json_object *v = json_member(req->rule->spec, "seconds");

	return v ? json_object_get_double(v) : otherwise;
}

static const char *
rule_text(const Request *req, const char *name, const char *otherwise)
{
	json_object *v = json_member(req->rule->spec, name);

	return v ? json_object_get_string(v) : otherwise;
}

static bool
rule_bool(const Request *req, const char *name)
{
	return json_object_get_boolean(json_member(req->rule->spec, name));
}

/* Replaces the body; status 0 leaves the status. */
static void
substitute(Answer *ans, unsigned status, const char *type, Body *body)
{
	body_release(ans->body);
	ans->status = status ? status : ans->status;
	ans->type = type;
	ans->body = body;
}

static void
act_fixed(Request *req, Answer *ans, const Action *action)
{
	substitute(ans, rule_int(req, "status", action->status), action->type, body_from_text(action->text));
}

static void
act_status(Request *req, Answer *ans, const Action *action)
{
	const char *body = rule_text(req, "body", NULL);
	json_object *headers = json_member(req->rule->spec, "headers");

	(void) action;
	answer_error(ans, rule_int(req, "status", 500), "as the test asked for");
	if (body)
		substitute(ans, 0, "application/json", body_from_text(body));
	if (headers)
	{
		json_object_object_foreach(headers, name, value)
			answer_header(ans, name, json_object_get_string(value));
	}
}

static void
act_retry_after(Request *req, Answer *ans, const Action *action)
{
	(void) action;
	answer_error(ans, rule_int(req, "status", 429), "as the test asked for");
	answer_header(ans, "Retry-After", rule_text(req, "value", "1"));
}

static void
act_body(Request *req, Answer *ans, const Action *action)
{
	(void) action;
	substitute(ans, rule_int(req, "status", 0), rule_text(req, "content_type", "application/json"),
			   body_from_text(rule_text(req, "body", "")));
}

static void
act_echo(Request *req, Answer *ans, const Action *action)
{
	Buf			b = {0};

	buf_put(&b, req->body.data, req->body.len);
	substitute(ans, action->status, action->type, body_from(&b));
}

static void
act_redirect(Request *req, Answer *ans, const Action *action)
{
	answer_empty(ans, rule_int(req, "status", action->status));
	answer_header(ans, "Location", rule_text(req, "location", ""));
}

static void
act_deep(Request *req, Answer *ans, const Action *action)
{
	int64_t		depth = rule_int(req, "depth", 10000);
	Buf			b = {0};

	buf_room(&b, depth * 2);
	memset(b.data, '[', depth);
	memset(b.data + depth, ']', depth);
	b.len = depth * 2;
	substitute(ans, 0, action->type, body_from(&b));
}

static void
act_huge(Request *req, Answer *ans, const Action *action)
{
	size_t		unit = strlen(action->text);

	substitute(ans, rule_int(req, "status", 0), action->type, body_from_text(""));
	ans->sending = SEND_PACED;
	ans->pace.unit = action->text;
	ans->pace.size = ans->pace.stop = (rule_int(req, "bytes", 1 << 20) + unit - 1) / unit * unit + 1;
}

static void
act_drip(Request *req, Answer *ans, const Action *action)
{
	(void) action;
	ans->sending = SEND_PACED;
	ans->pace.size = ans->pace.stop = ans->body->len;
	ans->pace.piece = rule_int(req, "bytes", 1);
	ans->pace.ms = rule_int(req, "ms", 100);
	ans->pace.chunked = rule_bool(req, "chunked");
}

static void
act_stall(Request *req, Answer *ans, const Action *action)
{
	(void) action;
	ans->sending = SEND_PACED;
	ans->pace.size = ans->pace.stop = ans->body->len;
	ans->pace.stall_at = ans->body->len / 2;
	ans->pace.stall = rule_seconds(req, 60);
	ans->pace.chunked = rule_bool(req, "chunked");
}

static void
act_impatient(Request *req, Answer *ans, const Action *action)
{
	(void) action;
	ans->sending = SEND_PACED;
	ans->pace.size = ans->pace.stop = ans->body->len;
	ans->pace.patience_ms = rule_int(req, "ms", 1000);
}

/* Bytes from outside of JSON come as hex digits; what is none ends them. */
static void
put_hex(Buf *b, const char *hex)
{
	for (; hex_value(hex[0]) >= 0 && hex_value(hex[1]) >= 0; hex += 2)
	{
		char		c = hex_value(hex[0]) * 16 + hex_value(hex[1]);

		buf_put(b, &c, 1);
	}
}

/* Between two users in the middle of a list; at the end of what is no list, or has none. */
static void
act_spoil(Request *req, Answer *ans, const Action *action)
{
	const char *between = strstr(ans->body->data + ans->body->len / 2, "},{");
	size_t		n = between ? (size_t) (between + 2 - ans->body->data) : ans->body->len;
	Buf			b = {0};

	buf_put(&b, ans->body->data, n);
	put_hex(&b, rule_text(req, "hex", ""));
	buf_put(&b, ans->body->data + n, ans->body->len - n);
	substitute(ans, 0, action->type, body_from(&b));
}

/* An empty body has no half: two bytes are announced then, so that the answer is cut all the same. */
static void
act_half(Request *req, Answer *ans, const Action *action)
{
	(void) action;
	ans->sending = SEND_PACED;
	ans->pace.size = ans->body->len < 2 ? 2 : ans->body->len;
	ans->pace.stop = ans->body->len / 2;
	ans->pace.reset = rule_bool(req, "reset");
	ans->pace.chunked = rule_bool(req, "chunked");
}

static void
act_headers_only(Request *req, Answer *ans, const Action *action)
{
	(void) action;
	ans->sending = SEND_PACED;
	ans->pace.size = ans->body->len < 2 ? 2 : ans->body->len;
	ans->pace.seconds = rule_seconds(req, 60);
}

static void
act_wrong_length(Request *req, Answer *ans, const Action *action)
{
	(void) req;
	(void) action;
	ans->sending = SEND_PACED;
	ans->pace.size = ans->body->len + 1000;
	ans->pace.stop = ans->body->len;
}

static void
act_nothing(Request *req, Answer *ans, const Action *action)
{
	ans->sending = SEND_NOTHING;
	ans->pace.seconds = strcmp(action->name, "silence") == 0 ? rule_seconds(req, 60) : 0;
	ans->pace.reset = strcmp(action->name, "reset") == 0;
}

/* The delay itself is over when this is called. */
static void
act_delay(Request *req, Answer *ans, const Action *action)
{
	(void) req;
	(void) ans;
	(void) action;
}

#define JSON "application/json"

static const Action actions[] = {
	{"status", "this status; the body is an API error unless given", act_status, "status", "headers body", 0, 0, NULL, NULL},
	{"retry_after", "429 with this Retry-After (default \"1\")", act_retry_after, "", "value status", 0, 0, NULL, NULL},
	{"reset", "RST, no answer", act_nothing, "", "", 0, 0, NULL, NULL},
	{"close", "FIN, no answer", act_nothing, "", "", 0, 0, NULL, NULL},
	{"silence", "no answer, then FIN after 60 seconds", act_nothing, "", "seconds", 0, 0, NULL, NULL},
	{"delay", "later, then as usual", act_delay, "ms", "", F_USUAL | F_CARRY, 0, NULL, NULL},
	{"drip", "the usual answer, 1 byte every 100 ms", act_drip, "", "bytes ms chunked", F_USUAL | F_CARRY, 0, NULL, NULL},
	{"stall", "the usual answer, its second half after 60 seconds", act_stall, "", "seconds chunked", F_USUAL | F_CARRY, 0, NULL, NULL},
	{"impatient", "the usual answer; RST when the client takes nothing for 1000 ms", act_impatient, "", "ms", F_USUAL, 0, NULL, NULL},
	{"spoil", "the usual list with these bytes after a user in its middle", act_spoil, "hex", "", F_USUAL, 0, JSON, NULL},
	{"half", "half of the body, then FIN or RST", act_half, "", "reset chunked", F_USUAL, 0, NULL, NULL},
	{"headers_only", "the body never comes; FIN after 60 seconds", act_headers_only, "", "seconds", F_USUAL, 0, NULL, NULL},
	{"wrong_length", "Content-Length is too large by 1000", act_wrong_length, "", "", F_USUAL, 0, NULL, NULL},
	{"empty", "no body", act_fixed, "", "status", F_USUAL, 0, NULL, ""},
	{"not_json", "plain text that claims to be JSON", act_fixed, "", "status", 0, 0, JSON, "This is not JSON, whatever the header says."},
	{"html", "a gateway's 502 page", act_fixed, "", "status", 0, 502, "text/html",
		"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n"
	"<hr><center>gateway</center>\r\n</body>\r\n</html>\r\n"},
	{"huge", "a long array of users, 1 MB", act_huge, "", "bytes status", 0, 0, JSON,
	"{\"id\":4999999999,\"loginName\":\"huge\",\"deleted\":false,\"pid\":\"huge\"},"},
	{"deep", "10000 nested arrays", act_deep, "", "depth", 0, 0, JSON, NULL},
	{"bad_utf8", "a user with invalid UTF-8", act_fixed, "", "status", 0, 0, JSON,
	"[{\"id\":4999999999,\"deleted\":false,\"loginName\":\"bad\xff\xc3(\xed\xa0\x80\",\"pid\":\"\xc0\x80\"}]"},
	{"nul", "a user with \\u0000", act_fixed, "", "status", 0, 0, JSON,
	"[{\"id\":4999999999,\"deleted\":false,\"loginName\":\"nul\\u0000byte\",\"pid\":\"\\u0000\"}]"},
	{"wrong_types", "users with attributes of wrong types", act_fixed, "", "status", 0, 0, JSON,
		"[{\"id\":{\"a\":1},\"deleted\":\"perhaps\",\"loginName\":[1,2],\"isEnabled\":{},\"maxChats\":\"many\","
	"\"profileIds\":\"none\",\"memberOf\":[3]},4,null,[]]"},
	{"redirect", "302 to somewhere", act_redirect, "location", "status", 0, 302, NULL, NULL},
	{"body", "any answer", act_body, "body", "status content_type", 0, 0, NULL, NULL},
	{"echo", "400 and the request's own body", act_echo, "", "", 0, 400, JSON, NULL},
};

#undef JSON

#define RULE_COMMON "method path login skip times kept_only applied action"

/* The parameters of rules.  A double may also be written as a whole number. */
static const struct
{
	const char *name;
	json_type	type;
	int64_t		min;
	int64_t		max;
}			rule_keys[] = {
	{"method", json_type_string, 0, 0},
	{"path", json_type_string, 0, 0},
	{"login", json_type_string, 0, 0},
	{"skip", json_type_int, 0, INT64_MAX},
	{"times", json_type_int, 0, INT64_MAX},
	{"kept_only", json_type_boolean, 0, 0},
	{"applied", json_type_boolean, 0, 0},
	{"action", json_type_string, 0, 0},
	{"status", json_type_int, 200, 599},
	{"headers", json_type_object, 0, 0},
	{"body", json_type_string, 0, 0},
	{"value", json_type_string, 0, 0},
	{"seconds", json_type_double, 0, INT_MAX / 1000},
	{"ms", json_type_int, 0, INT_MAX},
	{"bytes", json_type_int, 1, MAX_HUGE},
	{"depth", json_type_int, 1, MAX_NESTING},
	{"location", json_type_string, 0, 0},
	{"content_type", json_type_string, 0, 0},
	{"reset", json_type_boolean, 0, 0},
	{"chunked", json_type_boolean, 0, 0},
	{"hex", json_type_string, 0, 0},
};

static const Action *
action_find(const char *name)
{
	for (size_t i = 0; name && i < lengthof(actions); i++)
		if (strcmp(actions[i].name, name) == 0)
			return &actions[i];
	return NULL;
}

static bool
check_rule_value(const char *name, json_object *v, Problem *p)
{
	size_t		i = 0;
	double		d = json_object_get_double(v);

	while (i < lengthof(rule_keys) && strcmp(rule_keys[i].name, name) != 0)
		i++;
	if (i == lengthof(rule_keys))
		return problem(p, 400, "", "unknown key of a fault: %s", name);
	if (!json_object_is_type(v, rule_keys[i].type) &&
		!(rule_keys[i].type == json_type_double && json_object_is_type(v, json_type_int)))
		return problem(p, 400, "", "%s must be of type %s", name, json_type_to_name(rule_keys[i].type));
	if (rule_keys[i].max && (d < rule_keys[i].min || d > rule_keys[i].max))
		return problem(p, 400, "", "%s is out of range", name);
	return true;
}

static bool
check_headers(json_object *headers, Problem *p)
{
	if (!json_object_is_type(headers, json_type_object))
		return headers == NULL;
	if (json_object_object_length(headers) > 4)
		return problem(p, 400, "", "more than 4 headers");
	{
		json_object_object_foreach(headers, name, value)
			if (*name == '\0' || strpbrk(name, " :\r\n") || !json_object_is_type(value, json_type_string))
			return problem(p, 400, "", "not a header: %s", name);
	}
	return true;
}

/* The action of a rule which is in order, or NULL with a problem. */
static const Action *
check_rule(json_object *spec, Problem *p)
{
	const Action *action;
	const char *name = json_object_get_string(json_member(spec, "action"));

	if (!json_object_is_type(spec, json_type_object))
		problem(p, 400, "", "a fault must be an object");
	else if ((action = action_find(name)) == NULL)
		problem(p, 400, "", "unknown action: %s", name ? name : "none given");
	else
	{
		json_object_object_foreach(spec, key, value)
		{
			size_t		n = strlen(key);

			if (check_rule_value(key, value, p) && !list_has(RULE_COMMON, key, n) &&
				!list_has(action->needs, key, n) && !list_has(action->takes, key, n))
				problem(p, 400, "", "%s is no parameter of the action %s", key, name);
		}
		check_headers(json_member(spec, "headers"), p);
		if (*action->needs && json_member(spec, action->needs) == NULL)
			problem(p, 400, "", "the action %s needs %s", name, action->needs);
		if (p->status == 0)
			return action;
	}
	return NULL;
}

static void
rule_release(Rule *r)
{
	if (r == NULL || --r->refs > 0)
		return;
	json_object_put(r->spec);
	free(r);
}

static void
rule_add(json_object *spec, const Action *action)
{
	Rule	   *r = need(calloc(1, sizeof(Rule)));
	Rule	  **end = &sim.rules;

	r->refs = 1;
	r->spec = json_object_get(spec);
	r->action = action;
	while (*end)
		end = &(*end)->next;
	*end = r;
}

static void
rules_clear(void)
{
	while (sim.rules)
	{
		Rule	   *next = sim.rules->next;

		rule_release(sim.rules);
		sim.rules = next;
	}
}

static bool
rule_matches(const Rule *r, const Request *req)
{
	const char *method = json_object_get_string(json_member(r->spec, "method"));
	const char *path = json_object_get_string(json_member(r->spec, "path"));
	const char *login = json_object_get_string(json_member(r->spec, "login"));

	if (json_object_get_boolean(json_member(r->spec, "kept_only")) && req->nth < 2)
		return false;
	return (method == NULL || strcasecmp(method, req->method) == 0) &&
		(path == NULL || strstr(req->path, path)) &&
		(login == NULL || entry_has_login(req->entry, login));
}

/*
 * The first rule which matches, has skipped enough, and is not used up,
 * strikes; those after it do not see the request.
 */
static Rule *
rule_for(const Request *req)
{
	for (Rule *r = sim.rules; r; r = r->next)
	{
		json_object *times = json_member(r->spec, "times");
		int64_t		most = times ? json_object_get_int64(times) : 1;

		if ((most > 0 && r->struck >= most) || !rule_matches(r, req))
			continue;
		if (++r->seen <= json_object_get_int64(json_member(r->spec, "skip")))
			continue;
		r->struck++;
		r->refs++;
		return r;
	}
	return NULL;
}

/*
 * The usual answer to a request which is not carried out: what the client sent
 * comes back as if it had been.  It is only the raw material of a fault.
 */
static void
pretend(Request *req, Answer *ans)
{
	Buf			b = {0};

	if (req->rule->action->flags & F_CARRY)
	{
		answer_error(ans, 503, "not carried out, as the test asked for");
		return;
	}
	buf_put(&b, req->body.data, req->body.len);
	answer_json(ans, strcmp(req->method, "POST") == 0 && strstr(req->path, "/le-users/") ? 201 : 200, &b);
}

/* The answer to a request which a fault may have struck. */
static void
answer_account(Request *req, Answer *ans)
{
	const Action *action = req->rule ? req->rule->action : NULL;
	json_object *applied = action ? json_member(req->rule->spec, "applied") : NULL;
	bool		changes = strcmp(req->method, "GET") != 0 && strstr(req->path, "/le-users/");
	bool		carry = action == NULL || (action->flags & F_CARRY);

	if (applied)
		carry = json_object_get_boolean(applied);
	if (carry || (!changes && (action->flags & F_USUAL) && !(action->flags & F_CARRY)))
		carry_out(req, ans);
	else
		pretend(req, ans);
	if (action && !(action->flags & F_USUAL))
		answer_drop_headers(ans);
	if (action)
		action->act(req, ans, action);
}

/* ---------------------------------------------------------------- control */

typedef struct ControlRoute
{
	const char *method;
	const char *path;
	void		(*handler) (Request *req, Answer *ans);
	const char *query;			/* parameters it takes */
	const char *help;
} ControlRoute;

static void
control_log(Request *req, Answer *ans)
{
	Buf			b = {0};

	(void) req;
	buf_put(&b, "[", 1);
	for (size_t i = 0; i < sim.nlog; i++)
	{
		buf_puts(&b, i ? ",\n" : "");
		put_entry(&b, sim.log[i]);
	}
	buf_put(&b, "]", 1);
	answer_json(ans, 200, &b);
}

static void
control_log_clear(Request *req, Answer *ans)
{
	(void) req;
	log_clear();
	answer_text(ans, 200, "ok\n");
}

static void
control_count(Request *req, Answer *ans)
{
	const char *method = request_parameter(req, "method");
	const char *path = request_parameter(req, "path");
	const char *login = request_parameter(req, "login");
	const char *text = request_parameter(req, "status");
	int64_t		status = -1;
	size_t		n = 0;

	if (text && !parse_int64(text, &status))
	{
		answer_text(ans, 400, "status is not a number: %s\n", text);
		return;
	}
	for (size_t i = 0; i < sim.nlog; i++)
	{
		const Entry *e = sim.log[i];

		n += (method == NULL || strcasecmp(method, e->method) == 0) &&
			(path == NULL || strstr(e->path, path)) &&
			(login == NULL || entry_has_login(e, login)) &&
			(status == -1 || status == e->status);
	}
	answer_text(ans, 200, "%zu\n", n);
}

static void
control_connections(Request *req, Answer *ans)
{
	(void) req;
	answer_text(ans, 200, "%" PRId64 "\n", sim.connections);
}

static void
control_open(Request *req, Answer *ans)
{
	(void) req;
	answer_text(ans, 200, "%" PRId64 "\n", sim.open);
}

static void
control_created(Request *req, Answer *ans)
{
	(void) req;
	answer_text(ans, 200, "%" PRId64 "\n", sim.created);
}

static void
control_revision(Request *req, Answer *ans)
{
	(void) req;
	answer_text(ans, 200, "%" PRId64 "\n", sim.revision);
}

static void
control_users(Request *req, Answer *ans)
{
	View	   *view = view_everything(true);
	Buf			b = {0};

	(void) req;
	buf_put(&b, "[", 1);
	for (size_t i = 0; i < sim.nusers; i++)
	{
		buf_puts(&b, i ? ",\n" : "");
		put_entity(&b, sim.users[i]->entity, view);
	}
	buf_put(&b, "]", 1);
	answer_json(ans, 200, &b);
	view_free(view);
}

static void
control_user(Request *req, Answer *ans)
{
	const char *login = request_parameter(req, "login");
	char	   *key = login_key(login);
	User	   *u = user_by_key(key, NULL);
	View	   *view;
	Buf			b = {0};

	free(key);
	if (login == NULL)
		answer_text(ans, 400, "the query lacks login=\n");
	else if (u == NULL)
		answer_text(ans, 404, "no user %s\n", login);
	else
	{
		view = view_everything(true);
		put_entity(&b, u->entity, view);
		answer_json(ans, 200, &b);
		view_free(view);
	}
}

static void
control_duplicates(Request *req, Answer *ans)
{
	Buf			b = {0};

	(void) req;
	buf_put(&b, "[", 1);
	for (size_t i = 0; i < sim.nusers; i++)
	{
		User	   *u = sim.users[i];

		/* Once per login: only the last in its chain which has others before it. */
		if (u->deleted || user_by_key(u->key, u) || user_by_key(u->key, NULL) == u)
			continue;
		buf_puts(&b, b.len > 1 ? "," : "");
		put_text(&b, u->key);
	}
	buf_put(&b, "]", 1);
	answer_json(ans, 200, &b);
}

/* The id an entity shall have: its own, quoted or not, or the next one. */
static bool
direct_id(json_object *item, int64_t *id, Problem *p)
{
	json_object *v = convert_scalar(T_LONG, json_member(item, "id"));

	*id = v ? json_object_get_int64(v) : sim.next_id;
	json_object_put(v);
	if (!json_object_is_type(item, json_type_object))
		return problem(p, 400, "", "a user must be an object");
	if (user_by_id(*id))
		return problem(p, 400, "", "a user with id %" PRId64 " is there already", *id);
	return true;
}

static void
control_users_add(Request *req, Answer *ans)
{
	Problem		p = {0};
	int64_t		id;
	size_t		n = 0;

	if (!json_object_is_type(req->json, json_type_array))
		problem(&p, 400, "", "the body must be an array of users");
	for (size_t i = 0; p.status == 0 && i < json_object_array_length(req->json); i++)
	{
		json_object *item = json_object_array_get_idx(req->json, i);

		if (!direct_id(item, &id, &p))
			break;
		json_object_object_add(item, "id", json_object_new_int64(id));
		set_bool_if_absent(item, "deleted", false);
		user_add(id, item);
		n++;
	}
	sim.revision += n > 0;
	if (p.status)
		answer_text(ans, 400, "%s (%zu were put in)\n", p.message, n);
	else
		answer_text(ans, 200, "%zu\n", n);
}

static void
config_reset(void)
{
	json_object_put(sim.config);
	sim.config = json_object_new_object();
	for (size_t i = 0; i < lengthof(knobs); i++)
		json_object_object_add(sim.config, knobs[i].name, json_own(knobs[i].initial));
	json_object_object_add(sim.config, "delay_ms", json_object_new_int64(opt.delay));
	json_object_object_add(sim.config, "token_ttl", json_object_new_int64(opt.token_ttl));
}

static void
sim_reset(void)
{
	config_reset();
	users_clear();
	users_generate(opt.users);
	log_clear();
	rules_clear();
	tokens_expire();
	sim.rate_since = 0;
}

static void
control_reset(Request *req, Answer *ans)
{
	(void) req;
	sim_reset();
	answer_text(ans, 200, "ok\n");
}

static void
control_tokens_expire(Request *req, Answer *ans)
{
	(void) req;
	tokens_expire();
	answer_text(ans, 200, "ok\n");
}

static bool
check_knob(const char *name, json_object *v, Problem *p)
{
	const char *text = v ? json_object_get_string(v) : "";
	json_type	type;
	size_t		i = 0;

	while (i < lengthof(knobs) && strcmp(knobs[i].name, name) != 0)
		i++;
	if (i == lengthof(knobs))
		return problem(p, 400, "", "unknown key of the configuration: %s", name);
	type = json_object_get_type(json_member(sim.config, name));
	if (strcmp(knobs[i].initial, "null") == 0)
		type = v ? json_type_string : json_type_null;
	if (!json_object_is_type(v, type))
		return problem(p, 400, "", "%s must be of type %s", name, json_type_to_name(type));
	if (type == json_type_int && (json_object_get_int64(v) < 0 || json_object_get_int64(v) > INT_MAX))
		return problem(p, 400, "", "%s is out of range", name);
	if (knobs[i].allowed && !list_has(knobs[i].allowed, text, strlen(text)))
		return problem(p, 400, "", "%s must be one of %s", name, knobs[i].allowed);
	return true;
}

static void
control_config(Request *req, Answer *ans)
{
	Buf			b = {0};

	(void) req;
	put_json(&b, sim.config, false, NULL);
	answer_json(ans, 200, &b);
}

static void
control_config_set(Request *req, Answer *ans)
{
	Problem		p = {0};

	if (!json_object_is_type(req->json, json_type_object))
		problem(&p, 400, "", "the body must be an object");
	else
	{
		json_object_object_foreach(req->json, name, value)
			check_knob(name, value, &p);
	}
	if (p.status)
		answer_text(ans, 400, "%s\n", p.message);
	else
	{
		json_object_object_foreach(req->json, name, value)
			json_object_object_add(sim.config, name, json_object_get(value));
		control_config(req, ans);
	}
}

static void
control_faults(Request *req, Answer *ans)
{
	Buf			b = {0};

	(void) req;
	buf_put(&b, "[", 1);
	for (Rule *r = sim.rules; r; r = r->next)
	{
		buf_printf(&b, "%s{\"struck\":%" PRId64 ",\"seen\":%" PRId64 ",\"fault\":",
				   b.len > 1 ? ",\n" : "", r->struck, r->seen);
		put_json(&b, r->spec, false, NULL);
		buf_put(&b, "}", 1);
	}
	buf_put(&b, "]", 1);
	answer_json(ans, 200, &b);
}

/* All of them or, when one is not in order, none. */
static void
control_faults_add(Request *req, Answer *ans)
{
	Problem		p = {0};

	for (size_t i = 0; i < body_count(req); i++)
		check_rule(body_item(req, i), &p);
	for (size_t i = 0; p.status == 0 && i < body_count(req); i++)
		rule_add(body_item(req, i), check_rule(body_item(req, i), &p));
	if (p.status)
		answer_text(ans, 400, "%s\n", p.message);
	else
		control_faults(req, ans);
}

static void
control_faults_clear(Request *req, Answer *ans)
{
	(void) req;
	rules_clear();
	answer_text(ans, 200, "ok\n");
}

static const ControlRoute control_routes[] = {
	{"GET", "/_sim/log", control_log, "", "every request so far, as a JSON array"},
	{"DELETE", "/_sim/log", control_log_clear, "", "empty the log"},
	{"GET", "/_sim/count", control_count, "method path login status",
	"number of logged requests which match all that is given"},
	{"GET", "/_sim/connections", control_connections, "", "TCP connections which brought a request to the account"},
	{"GET", "/_sim/open", control_open, "", "how many of them are open now"},
	{"GET", "/_sim/users", control_users, "", "all users with everything, deleted and hidden too"},
	{"POST", "/_sim/users", control_users_add, "", "put an array of users in as they are, unchecked"},
	{"GET", "/_sim/user", control_user, "login", "the one with this login, or 404"},
	{"GET", "/_sim/duplicates", control_duplicates, "", "logins which exist more than once"},
	{"GET", "/_sim/created", control_created, "", "number of users created by POST"},
	{"GET", "/_sim/revision", control_revision, "", "revision of the users"},
	{"POST", "/_sim/reset", control_reset, "", "users, revision, log, faults, tokens, configuration as at the start"},
	{"POST", "/_sim/tokens/expire", control_tokens_expire, "", "issued tokens are valid no longer"},
	{"GET", "/_sim/config", control_config, "", "the configuration"},
	{"POST", "/_sim/config", control_config_set, "", "change some of it"},
	{"GET", "/_sim/faults", control_faults, "", "the rules, and how often each struck"},
	{"POST", "/_sim/faults", control_faults_add, "", "add a rule, or an array of them"},
	{"DELETE", "/_sim/faults", control_faults_clear, "", "no more faults"},
};

typedef struct QueryCheck
{
	const char *allowed;
	char		bad[64];
} QueryCheck;

static enum MHD_Result
check_parameter(void *cls, enum MHD_ValueKind kind, const char *name, const char *value)
{
	QueryCheck *check = cls;

	(void) kind;
	(void) value;
	if (!list_has(check->allowed, name, strlen(name)))
		snprintf(check->bad, sizeof(check->bad), "%s", *name ? name : "(empty)");
	return MHD_YES;
}

static void
control(Request *req, Answer *ans)
{
	const ControlRoute *route = control_routes;
	const ControlRoute *end = control_routes + lengthof(control_routes);
	QueryCheck	check = {0};

	while (route < end && (strcmp(route->method, req->method) != 0 || strcmp(route->path, req->path) != 0))
		route++;
	if (route == end)
	{
		answer_text(ans, 400, "no such control request: %s %s\n", req->method, req->path);
		return;
	}
	check.allowed = route->query;
	MHD_get_connection_values(req->mhd, MHD_GET_ARGUMENT_KIND, check_parameter, &check);
	if (check.bad[0])
		answer_text(ans, 400, "unknown parameter of %s: %s\n", req->path, check.bad);
	else if (req->body.len > 0 && req->json == NULL)
		answer_text(ans, 400, "the body is not JSON: %s\n", req->json_error ? req->json_error : "null");
	else
		route->handler(req, ans);
}

/* ---------------------------------------------------------------- http */

/* Sleeps until the time is over, the program ends, or the peer hangs up (fd -1: whoever does). */
static void
nap(int fd, double seconds)
{
	struct pollfd p[2] = {{stop_fd, POLLIN, 0}, {fd, POLLRDHUP, 0}};
	double		end = now_monotonic() + seconds;
	double		left;

	while ((left = end - now_monotonic()) > 0)
		if (poll(p, 2, (int) ceil(left * 1000)) > 0)
			return;
}

/*
 * Ends a connection with an RST.  The zero linger time alone would not do:
 * the library shuts the socket down, which sends a FIN, before it closes it.
 * Dissolving the association (connect(2), AF_UNSPEC) resets at once.
 */
static void
reset_connection(int fd)
{
	struct linger linger = {1, 0};
	struct sockaddr nobody = {.sa_family = AF_UNSPEC};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	connect(fd, &nobody, sizeof(nobody));
}

/* A body on its way which is not sent plainly. */
typedef struct Delivery
{
	Pace		pace;
	Body	   *body;
	Entry	   *entry;
	int			fd;
} Delivery;

/* "[" unit unit ... "]": the last comma of the last unit becomes the bracket. */
static void
fill_with_units(const Pace *pace, uint64_t pos, char *buf, size_t n)
{
	size_t		unit = strlen(pace->unit);

	for (size_t i = 0; i < n; i++, pos++)
		buf[i] = pos == 0 ? '[' : pos == pace->size - 1 ? ']' : pace->unit[(pos - 1) % unit];
}

/* Waits until the client has taken what was sent, but for so much.  False: nothing of it for so long. */
static bool
client_takes(int fd, int most, int64_t patience_ms)
{
	double		since = now_monotonic();
	int			before = INT_MAX;
	int			untaken;

	while (ioctl(fd, SIOCOUTQ, &untaken) == 0 && untaken > most)
	{
		if (untaken < before)
			since = now_monotonic();
		before = untaken;
		if (now_monotonic() - since >= patience_ms / 1e3)
			return false;
		nap(-1, 0.002);
	}
	return true;
}

static ssize_t
delivery_read(void *cls, uint64_t pos, char *buf, size_t max)
{
	Delivery   *d = cls;
	uint64_t	n = d->pace.stop - pos;

	if (d->pace.patience_ms && !client_takes(d->fd, MAX_UNTAKEN, d->pace.patience_ms))
	{
		pthread_mutex_lock(&lock);
		d->entry->fault = "impatient: hung up";
		pthread_mutex_unlock(&lock);
		reset_connection(d->fd);
		return MHD_CONTENT_READER_END_WITH_ERROR;
	}
	if (pos >= d->pace.stop)
	{
		nap(d->fd, d->pace.seconds);
		/* an RST would overtake what was sent */
		if (d->pace.reset)
		{
			(void) client_takes(d->fd, 0, 1000);
			reset_connection(d->fd);
		}
		return pos >= d->pace.size ? MHD_CONTENT_READER_END_OF_STREAM : MHD_CONTENT_READER_END_WITH_ERROR;
	}
	n = n > max ? max : n;
	if (d->pace.piece && n > d->pace.piece)
		n = d->pace.piece;
	if (pos < d->pace.stall_at && n > d->pace.stall_at - pos)
		n = d->pace.stall_at - pos;
	if (d->pace.stall && pos == d->pace.stall_at)
		nap(d->fd, d->pace.stall);
	if (pos > 0 && d->pace.ms)
		nap(d->fd, d->pace.ms / 1e3);
	if (d->pace.unit)
		fill_with_units(&d->pace, pos, buf, n);
	else
		memcpy(buf, d->body->data + pos, n);
	pthread_mutex_lock(&lock);
	d->entry->bytes_out += n;
	pthread_mutex_unlock(&lock);
	return n;
}

static void
delivery_free(void *cls)
{
	Delivery   *d = cls;

	pthread_mutex_lock(&lock);
	entry_release(d->entry);
	pthread_mutex_unlock(&lock);
	body_release(d->body);
	free(d);
}

static struct MHD_Response *
response_paced(Request *req, Answer *ans)
{
	Delivery   *d = need(calloc(1, sizeof(Delivery)));

	d->pace = ans->pace;
	d->body = body_share(ans->body);
	d->entry = req->entry;
	d->fd = req->fd;
	pthread_mutex_lock(&lock);
	d->entry->refs++;
	pthread_mutex_unlock(&lock);
	return MHD_create_response_from_callback(ans->pace.chunked ? MHD_SIZE_UNKNOWN : ans->pace.size, 32768, delivery_read, d, delivery_free);
}

/* Sends the answer, or does not.  MHD_NO closes the connection. */
static enum MHD_Result
answer_send(Request *req, Answer *ans)
{
	struct MHD_Response *r;
	enum MHD_Result result;

	if (ans->sending == SEND_NOTHING)
	{
		nap(req->fd, ans->pace.seconds);
		if (ans->pace.reset)
			reset_connection(req->fd);
		return MHD_NO;
	}
	if (ans->sending == SEND_PACED)
		r = need(response_paced(req, ans));
	else
		r = need(MHD_create_response_from_buffer_with_free_callback_cls(ans->body->len, ans->body->data,
																	   body_release, body_share(ans->body)));
	if (ans->type)
		MHD_add_response_header(r, "Content-Type", ans->type);
	for (int i = 0; i < ans->nheaders; i++)
		MHD_add_response_header(r, ans->header[i][0], ans->header[i][1]);
	result = MHD_queue_response(req->mhd, ans->status, r);
	MHD_destroy_response(r);
	return result;
}

static void
answer_free(Answer *ans)
{
	body_release(ans->body);
	answer_drop_headers(ans);
}

/* A request to the account, whole: find its fault, take its time, carry it out, note what comes of it. */
static void
serve_account(Request *req, Answer *ans)
{
	int64_t		ms;

	pthread_mutex_lock(&lock);
	log_users(req->entry, req);
	req->rule = rule_for(req);
	req->entry->fault = req->rule ? req->rule->action->name : NULL;
	ms = config_int("delay_ms");
	if (req->rule && req->rule->action->act == act_delay)
		ms += rule_int(req, "ms", 0);
	pthread_mutex_unlock(&lock);

	nap(-1, ms / 1e3);

	pthread_mutex_lock(&lock);
	if (req->too_large)
		answer_error(ans, 413, "the body is larger than %zu bytes", MAX_BODY);
	else if (sim.nlog > MAX_LOG)
		answer_error(ans, 500, "the log is full: DELETE /_sim/log");
	else
		answer_account(req, ans);
	if (ans->sending != SEND_NOTHING)
		req->entry->status = ans->status;
	if (ans->sending == SEND_PLAIN)
		req->entry->bytes_out = ans->body->len;
	pthread_mutex_unlock(&lock);
}

static enum MHD_Result
request_serve(Request *req)
{
	Answer		ans = {0};
	enum MHD_Result result;

	buf_room(&req->body, 0);
	req->body.data[req->body.len] = '\0';
	req->json = json_parse(req->body.data, req->body.len, &req->json_error);
	if (req->control)
	{
		pthread_mutex_lock(&lock);
		control(req, &ans);
		pthread_mutex_unlock(&lock);
	}
	else
		serve_account(req, &ans);
	result = answer_send(req, &ans);
	answer_free(&ans);
	return result;
}

/* The head is there. */
static void
request_begin(Request *req, const Door *door, struct MHD_Connection *mhd, const char *path, const char *method)
{
	Connection *c = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;

	req->begun = true;
	req->door = door;
	req->mhd = mhd;
	req->fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
	req->path = copy_text(path);
	req->method = copy_text(method);
	req->control = strncmp(path, "/_sim/", 6) == 0;
	if (req->control)
		return;
	pthread_mutex_lock(&lock);
	if (c->number == 0)
	{
		c->number = ++sim.connections;
		sim.open++;
	}
	req->entry = log_request(req, c);
	req->nth = req->entry->nth;
	pthread_mutex_unlock(&lock);
}

static enum MHD_Result
on_request(void *cls, struct MHD_Connection *mhd, const char *path, const char *method, const char *version,
		   const char *data, size_t *size, void **context)
{
	Request    *req = *context;

	(void) version;
	if (!req->begun)
	{
		request_begin(req, cls, mhd, path, method);
		return MHD_YES;
	}
	if (*size == 0)
		return request_serve(req);
	if (req->body.len + *size > MAX_BODY)
		req->too_large = true;
	else
		buf_put(&req->body, data, *size);
	*size = 0;
	return MHD_YES;
}

/* Called first of all, with the only view of the query as it came. */
static void *
on_uri(void *cls, const char *uri, struct MHD_Connection *mhd)
{
	Request    *req = need(calloc(1, sizeof(Request)));

	(void) cls;
	(void) mhd;
	req->uri = copy_text(uri);
	return req;
}

static void
on_completed(void *cls, struct MHD_Connection *mhd, void **context, enum MHD_RequestTerminationCode code)
{
	Request    *req = *context;

	(void) cls;
	(void) mhd;
	(void) code;
	if (req == NULL)
		return;
	json_object_put(req->json);
	free(req->body.data);
	free(req->uri);
	free(req->path);
	free(req->method);
	pthread_mutex_lock(&lock);
	entry_release(req->entry);
	rule_release(req->rule);
	pthread_mutex_unlock(&lock);
	free(req);
	*context = NULL;
}

static void
on_connection(void *cls, struct MHD_Connection *mhd, void **context, enum MHD_ConnectionNotificationCode code)
{
	Connection *c = *context;

	(void) cls;
	(void) mhd;
	if (code == MHD_CONNECTION_NOTIFY_STARTED)
	{
		*context = need(calloc(1, sizeof(Connection)));
		return;
	}
	pthread_mutex_lock(&lock);
	sim.open -= c && c->number > 0;
	pthread_mutex_unlock(&lock);
	free(c);
	*context = NULL;
}

/* ---------------------------------------------------------------- main */

static void die(const char *fmt,...) printf_like(1, 2);

static void
die(const char *fmt,...)
{
	va_list		args;

	fputs("lpsim: ", stderr);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	exit(2);
}

static const struct option long_options[] = {
	{"port", required_argument, NULL, 'p'},
	{"tls-port", required_argument, NULL, 's'},
	{"tls-cert", required_argument, NULL, 'c'},
	{"tls-key", required_argument, NULL, 'k'},
	{"listen", required_argument, NULL, 'l'},
	{"account", required_argument, NULL, 'a'},
	{"users", required_argument, NULL, 'n'},
	{"client-id", required_argument, NULL, 'i'},
	{"client-secret", required_argument, NULL, 'S'},
	{"token", required_argument, NULL, 't'},
	{"username", required_argument, NULL, 'u'},
	{"password", required_argument, NULL, 'w'},
	{"token-ttl", required_argument, NULL, 'T'},
	{"delay", required_argument, NULL, 'd'},
	{"url-file", required_argument, NULL, 'f'},
	{"max-age", required_argument, NULL, 'm'},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{NULL, 0, NULL, 0}
};

/* Where the value of each option goes: a number up to "max", or a text. */
static const struct
{
	int			code;
	int		   *number;
	int			max;
	const char **text;
}			option_targets[] = {
	{'p', &opt.port, 65535, NULL},
	{'s', &opt.tls_port, 65535, NULL},
	{'c', NULL, 0, &opt.tls_cert},
	{'k', NULL, 0, &opt.tls_key},
	{'l', NULL, 0, &opt.listen},
	{'a', NULL, 0, &opt.account},
	{'n', &opt.users, 1000000, NULL},
	{'i', NULL, 0, &opt.client_id},
	{'S', NULL, 0, &opt.client_secret},
	{'t', NULL, 0, &opt.token},
	{'u', NULL, 0, &opt.username},
	{'w', NULL, 0, &opt.password},
	{'T', &opt.token_ttl, INT_MAX, NULL},
	{'d', &opt.delay, INT_MAX, NULL},
	{'f', NULL, 0, &opt.url_file},
	{'m', &opt.max_age, INT_MAX, NULL},
};

static const char help_head[] =
"lpsim is a LivePerson account to try lpusers against.\n"
"\n"
"Usage:\n"
"  lpsim [OPTION]...                      serve until interrupted\n"
"  lpsim [OPTION]... -- COMMAND [ARG]...  serve while the command runs\n"
"\n"
"Options:\n"
"  --port N             plain HTTP port (default 0: a free one)\n"
"  --tls-port N         HTTPS port, 0: a free one (default: no HTTPS)\n"
"  --tls-cert FILE      certificate for it, PEM\n"
"  --tls-key FILE       private key for it, PEM\n"
"  --listen ADDRESS     a loopback address (default 127.0.0.1)\n"
"  --account ID         account id (default 12345678)\n"
"  --users N            so many users agent00001... are there from the start\n"
"  --client-id ID, --client-secret SECRET\n"
"                       OAuth 2.0 client (default lp-client, lp-client-secret)\n"
"  --token TOKEN        a bearer token which is always valid (default lp-token)\n"
"  --username NAME, --password PASSWORD\n"
"                       for the Login service (default lp-user, lp-user-password)\n"
"  --token-ttl SECONDS  life of issued tokens (default 3600; Login: eight hours)\n"
"  --delay MS           every request to the account takes so long\n"
"  --url-file FILE      write the plain URL and, below it, the TLS URL here\n"
"  --max-age SECONDS    end by itself after this time (default 3600)\n"
"  --help, --version\n"
"\n"
"The command finds LPSIM_URL, LPSIM_TLS_URL, LPSIM_ACCOUNT, LPSIM_PORT and\n"
"LPSIM_TLS_PORT in its environment; lpsim exits with its status, or with 124\n"
"when the time of --max-age was over.\n"
"\n"
"Control requests (no authentication; neither logged, counted nor delayed):\n";

static const char help_rules[] =
"\n"
"A fault is an object of an action, its parameters, and what it strikes:\n"
"  method, path (a part of it), login (in the body), kept_only (not the first\n"
"  request of a connection), skip (so many first), times (default 1, 0: always).\n"
"The first rule which matches strikes.  A struck request is carried out before\n"
"the fault only with \"applied\": true, but \"delay\", \"drip\" and \"stall\" always,\n"
"unless \"applied\" is false (then: 503).  Where a fault distorts the usual answer\n"
"to a change which is not carried out, that answer is a success which is not true.\n"
"Actions (and their parameters; numbers below are defaults):\n";

static const char help_example[] =
"\n"
"Example: the next POST is carried out, but its answer never comes.\n"
"  curl -d '{\"method\":\"POST\",\"path\":\"/users\",\"action\":\"reset\",\"applied\":true}' \\\n"
"       http://127.0.0.1:PORT/_sim/faults\n";

static void
help(void)
{
	fputs(help_head, stdout);
	for (size_t i = 0; i < lengthof(control_routes); i++)
	{
		const ControlRoute *r = &control_routes[i];

		printf("  %-6s %-20s %s%s%s%s\n", r->method, r->path, r->help,
			   *r->query ? "\n                              (" : "", r->query, *r->query ? ")" : "");
	}
	fputs("\nConfiguration (POST /_sim/config takes an object of some of these):\n", stdout);
	for (size_t i = 0; i < lengthof(knobs); i++)
		printf("  %-16s %s (default %s%s%s)\n", knobs[i].name, knobs[i].help, knobs[i].initial,
			   knobs[i].allowed ? ", of " : "", knobs[i].allowed ? knobs[i].allowed : "");
	fputs(help_rules, stdout);
	for (size_t i = 0; i < lengthof(actions); i++)
		printf("  %-13s %s%s%s%s%s%s\n", actions[i].name, actions[i].help,
			   *actions[i].needs || *actions[i].takes ? " (" : "", actions[i].needs,
			   *actions[i].needs && *actions[i].takes ? " " : "", actions[i].takes,
			   *actions[i].needs || *actions[i].takes ? ")" : "");
	fputs(help_example, stdout);
}

static void
option_set(int code, const char *value)
{
	size_t		i = 0;
	int64_t		n;

	while (i < lengthof(option_targets) && option_targets[i].code != code)
		i++;
	if (i == lengthof(option_targets))
		die("try --help");
	if (option_targets[i].text)
		*option_targets[i].text = value;
	else if (!parse_int64(value, &n) || n < 0 || n > option_targets[i].max)
		die("not a number from 0 to %d: %s", option_targets[i].max, value);
	else
		*option_targets[i].number = (int) n;
}

static void
options_read(int argc, char **argv)
{
	int			code;

	/* "+": the command's own options are not ours */
	while ((code = getopt_long(argc, argv, "+", long_options, NULL)) != -1)
	{
		if (code == 'h')
			help();
		else if (code == 'V')
			printf("lpsim %s\n", LPSIM_VERSION);
		else
			option_set(code, optarg);
		if (code == 'h' || code == 'V')
			exit(0);
	}
	if (opt.tls_port >= 0 && (opt.tls_cert == NULL || opt.tls_key == NULL))
		die("--tls-port needs --tls-cert and --tls-key");
	if (strcmp(opt.listen, "localhost") == 0)
		opt.listen = "127.0.0.1";
}

/* Only loopback: this server knows no rights, and its control interface no password. */
static socklen_t
loopback_address(struct sockaddr_storage *addr, int port)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *) addr;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *) addr;

	memset(addr, 0, sizeof(*addr));
	if (inet_pton(AF_INET, opt.listen, &v4->sin_addr) == 1 && ntohl(v4->sin_addr.s_addr) >> 24 == 127)
	{
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		return sizeof(*v4);
	}
	if (inet_pton(AF_INET6, opt.listen, &v6->sin6_addr) == 1 && IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr))
	{
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(port);
		return sizeof(*v6);
	}
	die("not a loopback address: %s", opt.listen);
	return 0;
}

/* Accepted sockets inherit TCP_NODELAY; no answer waits for an acknowledgement. */
static void
door_listen(Door *door, int port)
{
	struct sockaddr_storage addr;
	socklen_t	len = loopback_address(&addr, port);
	int			on = 1;

	door->fd = socket(addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (door->fd < 0)
		die("socket: %s", strerror(errno));
	setsockopt(door->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	setsockopt(door->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (bind(door->fd, (struct sockaddr *) &addr, len) != 0 || listen(door->fd, SOMAXCONN) != 0)
		die("cannot listen at %s, port %d: %s", opt.listen, port, strerror(errno));
	getsockname(door->fd, (struct sockaddr *) &addr, &len);
	door->port = ntohs(addr.ss_family == AF_INET ? ((struct sockaddr_in *) &addr)->sin_port :
					   ((struct sockaddr_in6 *) &addr)->sin6_port);
}

static char *
file_read(const char *path)
{
	FILE	   *f = fopen(path, "re");
	Buf			b = {0};
	char		part[4096];
	size_t		n;

	if (f == NULL)
		die("%s: %s", path, strerror(errno));
	while ((n = fread(part, 1, sizeof(part), f)) > 0)
		buf_put(&b, part, n);
	fclose(f);
	return b.data ? b.data : copy_text("");
}

static void
door_open(Door *door, int port)
{
	unsigned	flags = MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL |
		(door->tls ? MHD_USE_TLS : 0);
	struct MHD_OptionItem tls[] = {
		{MHD_OPTION_HTTPS_MEM_CERT, 0, door->tls ? file_read(opt.tls_cert) : NULL},
		{MHD_OPTION_HTTPS_MEM_KEY, 0, door->tls ? file_read(opt.tls_key) : NULL},
		{MHD_OPTION_END, 0, NULL}
	};

	door_listen(door, port);
	door->daemon = MHD_start_daemon(flags, 0, NULL, NULL, on_request, door,
									MHD_OPTION_LISTEN_SOCKET, door->fd,
									MHD_OPTION_URI_LOG_CALLBACK, on_uri, NULL,
									MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL,
									MHD_OPTION_NOTIFY_CONNECTION, on_connection, NULL,
									MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t) 256 * 1024,
									MHD_OPTION_ARRAY, door->tls ? tls : &tls[2],
									MHD_OPTION_END);
	if (door->daemon == NULL)
		die("cannot start the %s server", door->tls ? "TLS" : "HTTP");
	free(tls[0].ptr_value);
	free(tls[1].ptr_value);
}

static void
put_url(Buf *b, const Door *door)
{
	bool		v6 = strchr(opt.listen, ':') != NULL;

	buf_printf(b, "%s://%s%s%s:%d", door->tls ? "https" : "http", v6 ? "[" : "", opt.listen, v6 ? "]" : "", door->port);
}

/* Tells the command, the file and, without a command, the terminal where the account is. */
static void
announce(bool command)
{
	Buf			urls = {0};

	for (size_t i = 0; i < lengthof(doors) && doors[i].daemon; i++)
	{
		char		port[16];
		Buf			url = {0};

		put_url(&url, &doors[i]);
		snprintf(port, sizeof(port), "%d", doors[i].port);
		setenv(doors[i].tls ? "LPSIM_TLS_URL" : "LPSIM_URL", url.data, 1);
		setenv(doors[i].tls ? "LPSIM_TLS_PORT" : "LPSIM_PORT", port, 1);
		buf_printf(&urls, "%s\n", url.data);
		free(url.data);
	}
	setenv("LPSIM_ACCOUNT", opt.account, 1);
	if (opt.url_file)
	{
		Buf			temporary = {0};
		FILE	   *f;

		buf_printf(&temporary, "%s.%d", opt.url_file, (int) getpid());
		f = fopen(temporary.data, "we");
		if (f == NULL || fputs(urls.data, f) < 0 || fclose(f) != 0 || rename(temporary.data, opt.url_file) != 0)
			die("cannot write %s: %s", opt.url_file, strerror(errno));
		free(temporary.data);
	}
	if (!command)
	{
		printf("account %s\n%s", opt.account, urls.data);
		fflush(stdout);
	}
	free(urls.data);
}

/* The command gets the signal mask we were started with; our sockets close on exec. */
static pid_t
command_start(char **argv, const sigset_t *mask)
{
	posix_spawnattr_t attr;
	sigset_t	pipe_only;
	pid_t		pid;
	int			err;

	sigemptyset(&pipe_only);
	sigaddset(&pipe_only, SIGPIPE);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, mask);
	posix_spawnattr_setsigdefault(&attr, &pipe_only);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	err = posix_spawnp(&pid, argv[0], NULL, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	if (err)
	{
		fprintf(stderr, "lpsim: cannot run %s: %s\n", argv[0], strerror(err));
		exit(127);
	}
	return pid;
}

/* Waits for a signal, the end of the command, or of the time.  Returns the exit status. */
static int
wait_for_end(pid_t command, const sigset_t *signals)
{
	double		end = now_monotonic() + opt.max_age;
	int			status;

	for (;;)
	{
		double		left = fmax(end - now_monotonic(), 0);
		struct timespec ts = {(time_t) left, (long) ((left - floor(left)) * 1e9)};
		int			sig = sigtimedwait(signals, NULL, &ts);

		if (command && waitpid(command, &status, WNOHANG) == command)
			return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
		if (sig > 0 && sig != SIGCHLD)
		{
			if (!command)
				return 0;
			kill(command, sig);
		}
		else if (sig < 0 && errno == EAGAIN && end <= now_monotonic())
		{
			if (!command)
				return 0;
			kill(command, SIGTERM);
			return 124;
		}
	}
}

int
main(int argc, char **argv)
{
	sigset_t	signals;
	sigset_t	before;
	pid_t		command = 0;
	int			status;

	options_read(argc, argv);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_DFL);
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGCHLD);
	pthread_sigmask(SIG_BLOCK, &signals, &before);

	stop_fd = eventfd(0, EFD_CLOEXEC);
	neighbours_build();
	sim_reset();
	door_open(&doors[0], opt.port);
	doors[1].tls = opt.tls_port >= 0;
	if (doors[1].tls)
		door_open(&doors[1], opt.tls_port);
	announce(optind < argc);
	if (optind < argc)
		command = command_start(argv + optind, &before);

	status = wait_for_end(command, &signals);

	/* Wake the sleepers; the library then ends every connection. */
	eventfd_write(stop_fd, 1);
	for (size_t i = 0; i < lengthof(doors) && doors[i].daemon; i++)
		MHD_stop_daemon(doors[i].daemon);
	return status;
}

/*
 * url.h: URLs and HTTP dates.
 */
#ifndef LPU_HTTP_URL_H
#define LPU_HTTP_URL_H

typedef struct LpuUrl
{
	char	   *scheme;
	char	   *host;
	char	   *port;			/* or NULL */
	char	   *path;
	bool		has_more;		/* user, password, query or fragment */
} LpuUrl;

/* Take a URL apart; false if it is none. Strings are allocated in the current memory context. */
extern bool lpu_url_split(const char *url, LpuUrl *parts);

/* Percent-encode, for a form or a path piece; allocated in the current memory context. */
extern char *lpu_url_escape(const char *text);

/*
 * Milliseconds until the moment that Retry-After names (seconds or an HTTP
 * date), at most a day; -1 if it names none. A date is measured with the Date
 * header of the same answer, if that is not NULL: the clocks of two machines
 * differ.
 */
extern long lpu_retry_after_ms(const char *value, const char *date_header);

#endif

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

/* Parse a URL. Return false if the text is none. */
extern bool lpu_url_split(const char *url, LpuUrl *parts);

/*
 * Return text percent-encoded for a form or a path segment, allocated in the current memory
 * context.
 */
extern char *lpu_url_escape(const char *text);

/*
 * Return the milliseconds until the time that Retry-After names (seconds or an HTTP date), at
 * most a day; -1 if it names none.
 */
extern long lpu_retry_after_ms(const char *value, const char *date_header);

#endif

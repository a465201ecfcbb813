/*
 * url.c: URLs and HTTP dates, by libcurl's own functions.
 *
 * Pure text work: nothing here opens anything or keeps anything. Results are
 * allocated in the current memory context.
 */
#include "postgres.h"

#include <curl/curl.h>
#include <time.h>

#include "utils/memutils.h"

#include "http/url.h"

/* No caller waits longer than a day. */
#define MAX_RETRY_AFTER_S 86400

static char *
url_part(CURLU *url, CURLUPart part)
{
	char	   *text = NULL;
	char	   *copy = NULL;

	if (curl_url_get(url, part, &text, 0) == CURLUE_OK && text !=NULL)
		copy = MemoryContextAllocExtended(CurrentMemoryContext, strlen(text) + 1,
										  MCXT_ALLOC_NO_OOM);
	if (copy != NULL)
		memcpy(copy, text, strlen(text) + 1);
	curl_free(text);
	return copy;
}

/*
 * Parse a URL. Return false if the text is none. Strings are allocated in the current memory
 * context.
 */
bool
lpu_url_split(const char *text, LpuUrl *parts)
{
	CURLU	   *url = curl_url();
	bool		ok = url != NULL &&
	curl_url_set(url, CURLUPART_URL, text, CURLU_NON_SUPPORT_SCHEME) == CURLUE_OK;

	memset(parts, 0, sizeof(LpuUrl));
	if (ok)
	{
		parts->scheme = url_part(url, CURLUPART_SCHEME);
		parts->host = url_part(url, CURLUPART_HOST);
		parts->port = url_part(url, CURLUPART_PORT);
		parts->path = url_part(url, CURLUPART_PATH);
		parts->has_more = url_part(url, CURLUPART_USER) != NULL ||
			url_part(url, CURLUPART_PASSWORD) != NULL ||
			strpbrk(text, "?#") != NULL;	/* libcurl does not tell an empty
											 * query */
		ok = parts->scheme != NULL && parts->host != NULL && parts->path != NULL &&
			(parts->port == NULL || strtol(parts->port, NULL, 10) > 0);
	}
	curl_url_cleanup(url);
	return ok;
}

/*
 * Return text percent-encoded for a form or a path segment, allocated in the current memory
 * context.
 */
char *
lpu_url_escape(const char *text)
{
	char	   *escaped;
	char	   *copy;

	escaped = curl_easy_escape(NULL, text, (int) strlen(text));
	if (escaped == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	copy = pstrdup(escaped);
	curl_free(escaped);
	return copy;
}

/*
 * Return the milliseconds until the time that Retry-After names (seconds or an HTTP date), at
 * most a day; -1 if it names none. A date is compared with the Date header of the same response
 * if that is not NULL, since the clocks of two machines differ.
 */
long
lpu_retry_after_ms(const char *value, const char *date_header)
{
	char	   *end;
	long		seconds;
	time_t		date;
	time_t		now;

	if (value == NULL)
		return -1;
	seconds = strtol(value, &end, 10);
	if (end != value && *end == '\0')
		return seconds < 0 ? -1 : Min(seconds, MAX_RETRY_AFTER_S) * 1000;
	date = curl_getdate(value, NULL);
	if (date == (time_t) -1)
		return -1;
	/* by the clock that wrote it */
	now = date_header ? curl_getdate(date_header, NULL) : (time_t) -1;
	if (now == (time_t) -1)
		now = time(NULL);
	return Min(Max((long) (date - now), 0), MAX_RETRY_AFTER_S) * 1000;
}

/*
 * libcurl.c: the library itself, which is initialised at the first use of a connection.
 */
#include "postgres.h"

#include <curl/curl.h>

#include "http/connection_pool.h"

#if LIBCURL_VERSION_NUM < 0x075700
#error "lpusers needs libcurl 7.87 or later"
#endif

/*
 * Variables of the environment for which libcurl has no option: they would write the keys of TLS
 * sessions to a file, and choose the TLS library where there are several.
 */
static const char *const unwanted_variables[] = {"SSLKEYLOGFILE", "CURL_SSL_BACKEND"};

/* Check and initialise libcurl, once.  Raises if it is not fit. */
void
lpu_libcurl_initialise(void)
{
	static bool initialised = false;
	curl_version_info_data *info;

	if (initialised)
		return;
	for (int i = 0; i < lengthof(unwanted_variables); i++)
		unsetenv(unwanted_variables[i]);
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		elog(ERROR, "could not initialise libcurl");
	info = curl_version_info(CURLVERSION_NOW);
	if (info->version_num < 0x075700 || (info->features & CURL_VERSION_ASYNCHDNS) == 0 ||
		(info->features & CURL_VERSION_SSL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("libcurl %s is not fit for lpusers", info->version),
				 errdetail("Version 7.87 or later with TLS and asynchronous name resolution is needed.")));
	initialised = true;
}

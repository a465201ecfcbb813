/*
 * ca_bundle.h: certificate authorities that are read once. Shows libcurl: for connection_pool.c only.
 */
#ifndef LPU_HTTP_CA_BUNDLE_H
#define LPU_HTTP_CA_BUNDLE_H

#include <curl/curl.h>

typedef struct lpu_trust lpu_trust;

/*
 * Let a handle that is set up for the authorities of this file have them from memory. They are read at first use and kept in
 * *trust; other ones, or those of yesterday, take their place only if "replace" says that no other handle uses them. Where
 * that is not needed or cannot be done nothing is changed, and libcurl reads the file. Raises nothing.
 */
extern void lpu_trust_use(lpu_trust **trust, CURL *easy, const char *file, bool replace);
extern void lpu_trust_free(lpu_trust *trust);

#endif

/*
 * ca_bundle.c: certificate authorities, read once for all connections of a pool.
 *
 * libcurl keeps what it has read of a file of authorities, but not while a directory of them is set; and from 8.17 on one
 * that was built with such a directory, as Debian's is, cannot be told to have none. The some 150 authorities of a system
 * would then be read for each connection, which takes ten times as long as all the rest. So they are read here, as libcurl
 * does it, and libcurl's callback puts them into the TLS context of each connection, as libcurl does that.
 *
 * Before it asks the callback libcurl reads authorities in any case, and wants to find one: it gets a single one of the same
 * file. So nobody is trusted by mistake, whatever becomes of the callback.
 *
 * This needs the OpenSSL that libcurl itself uses; the Makefile knows whether it is there. All memory is that of libraries
 * or malloc'ed: it belongs to the pool.
 */
#include "postgres.h"

#include <time.h>

#include "http/ca_bundle.h"

#ifdef LPU_OPENSSL

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

struct lpu_trust
{
	char	   *file;
	time_t		read;
	X509_STORE *store;
	BIO		   *one;			/* one of them, as PEM */
};

/* As long as libcurl keeps them. */
#define KEEP_S 86400

/* As libcurl names the library that it uses. */
#define OUR_LIBRARY "OpenSSL/" CppAsString2(OPENSSL_VERSION_MAJOR) "."

/* Does libcurl use the library that we do? */
static bool
is_ours(void)
{
	const char *library = curl_version_info(CURLVERSION_NOW)->ssl_version;

	return library != NULL && strncmp(library, OUR_LIBRARY, strlen(OUR_LIBRARY)) == 0;
}

/* Put one of the authorities into "one". False if there is none. */
static bool
write_one(lpu_trust *trust)
{
	STACK_OF(X509) * all = X509_STORE_get1_all_certs(trust->store);
	bool		ok = sk_X509_num(all) > 0 && PEM_write_bio_X509(trust->one, sk_X509_value(all, 0));

	sk_X509_pop_free(all, X509_free);
	return ok;
}

/* NULL if the file cannot be read; then libcurl will find that, too, and say why. */
static lpu_trust *
read_authorities(const char *file)
{
	lpu_trust  *trust = calloc(1, sizeof(lpu_trust));
	bool		ok;

	if (trust == NULL)
		return NULL;
	trust->file = strdup(file);
	trust->read = time(NULL);
	trust->store = X509_STORE_new();
	trust->one = BIO_new(BIO_s_mem());
	ERR_set_mark();
	ok = trust->file != NULL && trust->store != NULL && trust->one != NULL &&
		X509_STORE_load_file(trust->store, file) && write_one(trust) &&
		X509_STORE_set_flags(trust->store, X509_V_FLAG_TRUSTED_FIRST | X509_V_FLAG_PARTIAL_CHAIN);
	ERR_pop_to_mark();
	if (ok)
		return trust;
	lpu_trust_free(trust);
	return NULL;
}

/* libcurl is about to make a connection. */
static CURLcode
put_authorities(CURL *easy, void *context, void *arg)
{
	lpu_trust  *trust = arg;

	SSL_CTX_set1_cert_store(context, trust->store);
	return CURLE_OK;
}

void
lpu_trust_use(lpu_trust **trust, CURL *easy, const char *file, bool replace)
{
	lpu_trust  *kept = *trust;
	struct curl_blob one;
	char	   *data;

	if (kept == NULL && !is_ours())
		return;
	if (kept == NULL || strcmp(kept->file, file) != 0 || time(NULL) - kept->read > KEEP_S)
	{
		if (!replace)
			return;
		lpu_trust_free(kept);
		kept = *trust = read_authorities(file);
		if (kept == NULL)
			return;
	}
	one.len = BIO_get_mem_data(kept->one, &data);
	one.data = data;
	one.flags = CURL_BLOB_COPY;
	/* without the callback the one alone would not do */
	if (curl_easy_setopt(easy, CURLOPT_SSL_CTX_FUNCTION, put_authorities) == CURLE_OK &&
		curl_easy_setopt(easy, CURLOPT_SSL_CTX_DATA, kept) == CURLE_OK)
		(void) curl_easy_setopt(easy, CURLOPT_CAINFO_BLOB, &one);
}

void
lpu_trust_free(lpu_trust *trust)
{
	if (trust == NULL)
		return;
	X509_STORE_free(trust->store);
	BIO_free(trust->one);
	free(trust->file);
	free(trust);
}

#else

void
lpu_trust_use(lpu_trust **trust, CURL *easy, const char *file, bool replace)
{
}

void
lpu_trust_free(lpu_trust *trust)
{
}

#endif

/*
 * slowdns.c: a resolver that hangs, to be loaded with LD_PRELOAD.
 *
 * getaddrinfo() of a name that ends in ".slow.test" appends a line to $SLOWDNS_DIR/asked, does not return before there is a
 * file $SLOWDNS_DIR/go (or 100 seconds have passed), and then says that it failed. All other names are resolved as ever.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SUFFIX ".slow.test"
#define PATIENCE_MS 100000
#define STEP_MS 20

typedef int (*resolver) (const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result);

static int
is_slow(const char *node)
{
	size_t		length = node ? strlen(node) : 0;
	size_t		suffix = strlen(SUFFIX);

	return length > suffix && strcmp(node + length - suffix, SUFFIX) == 0;
}

static void
say_asked(const char *dir)
{
	char		path[4096];
	int			fd;

	snprintf(path, sizeof(path), "%s/asked", dir);
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (fd < 0)
		return;
	if (write(fd, "asked\n", 6) != 6)
		abort();
	close(fd);
}

static void
hang(const char *dir)
{
	struct timespec step = {0, STEP_MS * 1000000L};
	char		path[4096];
	int			waited;

	snprintf(path, sizeof(path), "%s/go", dir);
	for (waited = 0; waited < PATIENCE_MS && access(path, F_OK) != 0; waited += STEP_MS)
		nanosleep(&step, NULL);
}

int
getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result)
{
	const char *dir = getenv("SLOWDNS_DIR");
	resolver	real;

	if (is_slow(node) && dir != NULL)
	{
		say_asked(dir);
		hang(dir);
		return EAI_AGAIN;
	}
	real = (resolver) dlsym(RTLD_NEXT, "getaddrinfo");
	return real ? real(node, service, hints, result) : EAI_SYSTEM;
}

/*
 * secret.c: the value of a secret, from an option or from a file.
 *
 * A file is read anew each time, so that a mounted secret can be rotated
 * without DDL. Only a superuser can name one. Messages name the option, never
 * the path or the value.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/fd.h"

#include "base/error.h"
#include "options/secret.h"

/* A token is a few kB; a secret file larger than this is not one. */
#define MAX_SECRET_LENGTH 65536

static bool
has_control_byte(const char *text)
{
	for (; *text; text ++)
		if ((unsigned char) *text <' ' || *text == 0x7f)
			return true;
	return false;
}

static LpuProblem *
file_problem(const char *name, const char *detail)
{
	return lpu_problem_detail(lpu_problem_new(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION,
											  "could not read the file of option \"%s_file\"",
											  name),
							  "%s", detail);
}

/*
 * Return the value of the secret option name, allocated in the current memory context: the
 * option's own, or the one line of the file that "<name>_file" names, which is read each time.
 * NULL and *problem if the file cannot be read; NULL without a problem if neither is set.
 */
char *
lpu_secret_read(const char *name, const char *value, const char *file, LpuProblem **problem)
{
	char	   *secret;
	struct stat status;
	ssize_t		length;
	int			fd;

	if (value != NULL || file == NULL)
		return value ? pstrdup(value) : NULL;

	/* a pipe would block in open() */
	fd = OpenTransientFile(file, O_RDONLY | O_NONBLOCK);
	if (fd < 0)
	{
		*problem = file_problem(name, strerror(errno));
		return NULL;
	}
	secret = palloc(MAX_SECRET_LENGTH + 1);
	if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode))
		length = -1;
	else
		length = read(fd, secret, MAX_SECRET_LENGTH + 1);
	CloseTransientFile(fd);
	if (length < 0 || length > MAX_SECRET_LENGTH)
	{
		*problem = file_problem(name, length < 0 ? "It is not a regular file." : "It is larger than 64 kB.");
		return NULL;
	}
	while (length > 0 && (secret[length - 1] == '\n' || secret[length - 1] == '\r'))
		length--;
	secret[length] = '\0';
	if (length == 0 || strlen(secret) != (size_t) length || has_control_byte(secret))
	{
		*problem = file_problem(name, length == 0 ? "It is empty." : "It must hold one line of text.");
		return NULL;
	}
	return secret;
}

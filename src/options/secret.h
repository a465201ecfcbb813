/*
 * secret.h: the value of a secret, from an option or from a file.
 */
#ifndef LPU_OPTIONS_SECRET_H
#define LPU_OPTIONS_SECRET_H

#include "base/error.h"

/*
 * The value of the secret option "name": the option's own, or the one line of
 * text in the file that "<name>_file" names, which is read anew each time.
 * NULL and *problem if the file cannot be read; NULL without a problem if
 * neither is set. Allocated in the current memory context.
 */
extern char *lpu_secret_read(const char *name, const char *value, const char *file,
							 LpuProblem **problem);

#endif

/*
 * secret.h: the value of a secret, from an option or from a file.
 */
#ifndef LPU_OPTIONS_SECRET_H
#define LPU_OPTIONS_SECRET_H

#include "base/error.h"

/*
 * Return the value of the secret option name, allocated in the current memory context: the
 * option's own, or the one line of the file that "<name>_file" names, which is read each time.
 */
extern char *lpu_secret_read(const char *name, const char *value, const char *file,
							 LpuProblem **problem);

#endif

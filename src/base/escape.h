/*
 * escape.h: what a text has in letters and digits, without its escapes.
 */
#ifndef LPU_BASE_ESCAPE_H
#define LPU_BASE_ESCAPE_H

#include "lib/stringinfo.h"

/* Return the value of hexadecimal digits; -1 if they are none. */
extern int	lpu_hex_value(const char *digits, int n);

/* Return the ASCII letters and digits of a text without its escapes, in the current context. */
extern StringInfoData lpu_letters_of(const char *text, size_t length);

#endif

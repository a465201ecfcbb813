/*
 * text_table.h: hash tables whose keys are C strings of any length.
 */
#ifndef LPU_BASE_TEXT_TABLE_H
#define LPU_BASE_TEXT_TABLE_H

#include "utils/hsearch.h"

/* In the current memory context; an entry begins with a char *, which the caller keeps. */
extern HTAB *lpu_text_table(const char *name, Size entry_size, long n);

#endif

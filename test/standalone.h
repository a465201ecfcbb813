/*
 * standalone.h: the memory of a program that uses files of src/ without a server.
 *
 * standalone.c has palloc(), palloc0(), repalloc() and pfree() over malloc(), so that memory checkers see every one; what
 * else is needed of PostgreSQL comes from its libpgcommon.
 */
#ifndef STANDALONE_H
#define STANDALONE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

extern void *palloc(size_t size);
extern void *palloc0(size_t size);
extern void *repalloc(void *pointer, size_t size);
extern void pfree(void *pointer);

/* Free everything. */
extern void standalone_reset(void);

#endif

/*
 * standalone.c: the memory of a program that uses files of src/ without a server.
 *
 * There is one memory context, and all chunks are in one list. Behind each are some bytes that must not be written: that
 * is looked at when the chunk goes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "standalone.h"

static const char guard[] = "do not write here";

typedef struct chunk
{
	struct chunk *before;
	struct chunk *after;
	size_t		size;
	size_t		padding;		/* so that data is aligned as malloc() does it */
	char		data[];
} chunk;

static chunk *newest;

static void
fail(const char *what)
{
	fprintf(stderr, "%s\n", what);
	abort();
}

/* Make a chunk of what malloc() or realloc() gave. */
static void *
adopt(chunk *c, size_t size)
{
	if (c == NULL)
		fail("out of memory");
	memcpy(c->data + size, guard, sizeof(guard));
	c->size = size;
	c->before = newest;
	c->after = NULL;
	if (newest != NULL)
		newest->after = c;
	newest = c;
	return c->data;
}

static chunk *
release(void *pointer)
{
	chunk	   *c = (chunk *) ((char *) pointer - offsetof(chunk, data));

	if (memcmp(c->data + c->size, guard, sizeof(guard)) != 0)
		fail("something was written behind its memory");
	if (c->before != NULL)
		c->before->after = c->after;
	if (c->after != NULL)
		c->after->before = c->before;
	else
		newest = c->before;
	return c;
}

void *
palloc(size_t size)
{
	return adopt(malloc(sizeof(chunk) + size + sizeof(guard)), size);
}

void *
palloc0(size_t size)
{
	return memset(palloc(size), 0, size);
}

void *
repalloc(void *pointer, size_t size)
{
	return adopt(realloc(release(pointer), sizeof(chunk) + size + sizeof(guard)), size);
}

void
pfree(void *pointer)
{
	free(release(pointer));
}

void
standalone_reset(void)
{
	while (newest != NULL)
		pfree(newest->data);
}

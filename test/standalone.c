/*
 * standalone.c: the memory of a program that uses files of src/ without a server.
 *
 * There is one memory context, and all chunks are in one list.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "standalone.h"

typedef struct chunk
{
	struct chunk *before;
	struct chunk *after;
	char		data[];			/* two pointers are as much as anything has to be aligned to */
} chunk;

static chunk *newest;

static void *
own(chunk *c)
{
	if (c == NULL)
	{
		fprintf(stderr, "out of memory\n");
		exit(1);
	}
	c->before = newest;
	c->after = NULL;
	if (newest != NULL)
		newest->after = c;
	newest = c;
	return c->data;
}

static chunk *
disown(void *pointer)
{
	chunk	   *c = (chunk *) ((char *) pointer - offsetof(chunk, data));

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
	return own(malloc(sizeof(chunk) + size));
}

void *
palloc0(size_t size)
{
	return memset(palloc(size), 0, size);
}

void *
repalloc(void *pointer, size_t size)
{
	return own(realloc(disown(pointer), sizeof(chunk) + size));
}

void
pfree(void *pointer)
{
	free(disown(pointer));
}

void
standalone_reset(void)
{
	while (newest != NULL)
		pfree(newest->data);
}

/*
 * reader_compare.h: the reader of lists against json-c.
 */
#ifndef READER_COMPARE_H
#define READER_COMPARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A sequence of numbers that look random, from a seed that it changes. */
extern uint64_t next_random(uint64_t *seed);

/* The names that are looked for in documents; a generator of documents should use them. */
extern const char *const compared_names[];
extern const int ncompared_names;

/*
 * Read a document by json-c and by the reader, cut in several ways that depend on the seed. False if they do not agree, or
 * if the cuts made a difference; then stderr says how.
 */
extern bool compare_document(const char *text, size_t length, uint64_t seed);

/* How many documents were compared so far, and in how many of them both found a list of objects. */
extern long compared_documents;
extern long accepted_documents;

#endif

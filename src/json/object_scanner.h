/*
 * object_scanner.h: one object of a list, read while its bytes arrive.
 */
#ifndef LPU_JSON_OBJECT_SCANNER_H
#define LPU_JSON_OBJECT_SCANNER_H

#include "json/array_reader.h"

typedef struct lpu_element lpu_element;

/* Where the value of a wanted name stands, counted from the element's first byte. */
typedef struct lpu_found
{
	lpu_value_type type;
	bool		escaped;		/* a string with escapes */
	uint32		start;			/* a string with its quotes */
	uint32		length;
	uint32		nul_at;			/* where in it there is \u0000, or 0 */
} lpu_found;

typedef enum lpu_element_state
{
	LPU_ELEMENT_COMPLETE,
	LPU_ELEMENT_CUT,			/* the bytes end before it does */
	LPU_ELEMENT_WRONG			/* it is not JSON in UTF-8, or too deep */
} lpu_element_state;

/* What is to be found in each element. The names must live as long. */
extern lpu_element *lpu_element_new(const char *const *names, int n);

/* Begin with the object whose brace these bytes begin with. Its values are on the second of so many levels, 32 at most. */
extern void lpu_element_begin(lpu_element *element, const char *bytes, size_t length, int levels);

/* The same bytes with others behind, and perhaps elsewhere. */
extern void lpu_element_extend(lpu_element *element, const char *bytes, size_t length);

/* Read on. *problem: what is wrong. */
extern lpu_element_state lpu_element_read(lpu_element *element, const char **problem);

/* How many bytes were read: all of the element when it is COMPLETE, those before the wrong one when it is WRONG. */
extern size_t lpu_element_offset(const lpu_element *element);

/* Of a complete element: n values; of a name that is there twice in names, the first has it. */
extern const lpu_found *lpu_element_found(const lpu_element *element);

/* Where in it there is \u0000, in whatever string, or 0. */
extern uint32 lpu_element_nul_at(const lpu_element *element);

#endif

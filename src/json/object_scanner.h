/*
 * object_scanner.h: one object of a list, read while its bytes arrive.
 */
#ifndef LPU_JSON_OBJECT_SCANNER_H
#define LPU_JSON_OBJECT_SCANNER_H

#include "json/array_reader.h"

typedef struct LpuElement LpuElement;

/* Where the value of a wanted name stands, counted from the element's first byte. */
typedef struct LpuFoundValue
{
	LpuValueType type;
	bool		escaped;		/* a string with escapes */
	uint32		start;			/* a string with its quotes */
	uint32		length;
	uint32		nul_at;			/* where in it there is \u0000, or 0 */
} LpuFoundValue;

typedef enum LpuElementState
{
	LPU_ELEMENT_COMPLETE,
	LPU_ELEMENT_CUT,			/* the bytes end before it does */
	LPU_ELEMENT_WRONG			/* it is not JSON in UTF-8, or too deep */
} LpuElementState;

/* What is to be found in each element. The names must live as long. */
extern LpuElement *lpu_element_new(const char *const *names, int n);

/*
 * Begin with the object whose brace these bytes begin with. Its values are on
 * the second of so many levels, 32 at most.
 */
extern void lpu_element_begin(LpuElement *element, const char *bytes, size_t length, int levels);

/* The same bytes with others behind, and perhaps elsewhere. */
extern void lpu_element_extend(LpuElement *element, const char *bytes, size_t length);

/* Read on. *problem: what is wrong. */
extern LpuElementState lpu_element_read(LpuElement *element, const char **problem);

/*
 * How many bytes were read: all of the element when it is COMPLETE, those
 * before the wrong one when it is WRONG.
 */
extern size_t lpu_element_offset(const LpuElement *element);

/* Of a complete element: n values; of a name that is there twice in names, the first has it. */
extern const LpuFoundValue *lpu_element_found(const LpuElement *element);

/* Where in it there is \u0000, in whatever string, or 0. */
extern uint32 lpu_element_nul_at(const LpuElement *element);

#endif

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

/* Return a scanner for elements, which looks for these names in each; they must live as long. */
extern LpuElement *lpu_element_new(const char *const *names, int n);

/* Begin with the object whose brace these bytes begin with. */
extern void lpu_element_begin(LpuElement *element, const char *bytes, size_t length, int levels);

/* Replace the bytes by the same with more behind them, perhaps at another address. */
extern void lpu_element_extend(LpuElement *element, const char *bytes, size_t length);

/* Read on. */
extern LpuElementState lpu_element_read(LpuElement *element, const char **problem);

/*
 * Return how many bytes were read: all of the element if it is COMPLETE, those before the error
 * if it is WRONG.
 */
extern size_t lpu_element_offset(const LpuElement *element);

/* Return the n values of a complete element. */
extern const LpuFoundValue *lpu_element_found(const LpuElement *element);

/* Return the offset of \u0000 in any string of the element, or 0. */
extern uint32 lpu_element_nul_at(const LpuElement *element);

#endif

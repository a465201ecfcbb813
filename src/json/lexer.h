/*
 * lexer.h: escapes, numbers and literals of JSON.
 */
#ifndef LPU_JSON_LEXER_H
#define LPU_JSON_LEXER_H

#include "mb/pg_wchar.h"

#include "json/array_reader.h"

/* Read the escape at p, of which a surrogate pair is one, and set *code. */
extern int	lpu_token_escape(const char *p, const char *end, pg_wchar *code, const char **problem);

/* Decode a string whose escapes have been read before; the result is never longer. */
extern char *lpu_token_decode(char *out, const char *p, const char *end);

/* Read the literal at p and set *type. */
extern int	lpu_token_literal(const char *p, const char *end, LpuValueType *type,
							  const char **problem);

/* What has been seen of a number. */
typedef enum LpuNumberState
{
	LPU_NUMBER_WRONG,			/* it is none */
	LPU_NUMBER_START,			/* nothing */
	LPU_NUMBER_MINUS,
	LPU_NUMBER_ZERO,
	LPU_NUMBER_INTEGER,
	LPU_NUMBER_POINT,
	LPU_NUMBER_FRACTION,
	LPU_NUMBER_E,
	LPU_NUMBER_SIGN,
	LPU_NUMBER_EXPONENT,
	LPU_NUMBER_END				/* the character behind it */
} LpuNumberState;

/* Continue a number of which *seen has been read. */
extern const char *lpu_token_number(const char *p, const char *end, LpuNumberState *seen);

#endif

/*
 * json_to_datum.h: values of the API as values of columns.
 */
#ifndef LPU_USER_JSON_TO_DATUM_H
#define LPU_USER_JSON_TO_DATUM_H

#include "json/array_reader.h"
#include "user/attribute.h"

typedef struct LpuConverter LpuConverter;

/*
 * What turns values of an attribute into this type; in the current memory
 * context, where it lives.
 */
extern LpuConverter *lpu_converter_new(LpuValueKind kind, Oid type, int32 typmod);

/*
 * The value in the current memory context; true if it is null: null, absent,
 * or, unless the column holds text, the empty string that the API writes for
 * what it does not show. Raises for a value that the type does not take.
 */
extern bool lpu_convert(LpuConverter *converter, const LpuValue *value, Datum *result);

#endif

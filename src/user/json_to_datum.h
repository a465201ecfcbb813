/*
 * json_to_datum.h: values of the API as values of columns.
 */
#ifndef LPU_USER_JSON_TO_DATUM_H
#define LPU_USER_JSON_TO_DATUM_H

#include "json/array_reader.h"
#include "user/attribute.h"

typedef struct LpuConverter LpuConverter;

/* Return what converts values of an attribute to this type, in the current memory context. */
extern LpuConverter *lpu_converter_new(LpuValueKind kind, Oid type, int32 typmod);

/* Convert a value, in the current memory context. */
extern bool lpu_convert(LpuConverter *converter, const LpuValue *value, Datum *result);

/* Return an entity without its secrets. */
extern LpuValue lpu_value_without_secrets(const LpuValue *whole, const LpuValue *secrets, int n);

/* Return true for what a column of type boolean shows as true. */
extern bool lpu_value_is_true(const LpuValue *value);

#endif

/*
 * datum_to_json.h: values of SQL types as JSON values of attributes.
 */
#ifndef LPU_USER_DATUM_TO_JSON_H
#define LPU_USER_DATUM_TO_JSON_H

#include "lib/stringinfo.h"

#include "user/validate.h"

/*
 * Convert json to jsonb, and its null to NULL: for the API an attribute that is null is absent,
 * too.
 */
extern void lpu_datum_unify_json(Oid *type, Datum *value, bool *isnull);

/* Return true for the types that hold nothing but numbers. */
extern bool lpu_type_is_number(Oid type);

/* Return the value as text, a JSON string without its quotes. */
extern char *lpu_datum_text(Oid type, Datum value);

/*
 * Append a value that is not null in the form that the attribute needs; json must be unified
 * before.
 */
extern const char *lpu_datum_write(StringInfo out, const LpuAttribute *attribute, Oid type,
								   Datum value, LpuUserUse use);

/* Append a value that is not null: as number or boolean if it is one, else as string. */
extern void lpu_datum_write_scalar(StringInfo out, Oid type, Datum value);

/* Set *json to a value that is not null: a number or boolean if it is one, else a string. */
extern void lpu_datum_scalar(JsonbValue *json, Oid type, Datum value);

#endif

/*
 * column_value.h: the values of a row as JSON of a writing request.
 */
#ifndef LPU_REMOTE_COLUMN_VALUE_H
#define LPU_REMOTE_COLUMN_VALUE_H

#include "lib/stringinfo.h"
#include "utils/jsonb.h"

#include "base/compat.h"
#include "remote/write_batch.h"

/* Append a column's value to a JSON object. Returns what is wrong with it, or NULL. */
extern const char *lpu_writer_put(const LpuWriterState *writer, StringInfo object,
								  const LpuColumn *column, Datum value, bool isnull);

/* Raise that; "whose" says of which row or user it is. */
pg_noreturn extern void lpu_writer_raise_value(const LpuWriterState *writer,
											   const LpuColumn *column, const char *problem,
											   const char *whose);

/* What is wrong with an attribute, for a message. */
extern char *lpu_writer_complaint(const LpuWriterState *writer, const char *attribute,
								  const char *problem);

/* One JSON object laid over another, as text. */
extern char *lpu_writer_lay(Jsonb *lower, const char *upper);

/* Text in the database's encoding as UTF-8; raises if that is not possible. */
extern char *lpu_writer_utf8(char *text, size_t *length);

#endif

/*
 * columns.h: rows collected column by column, as array parameters of a statement.
 */
#ifndef LPU_QUEUE_COLUMNS_H
#define LPU_QUEUE_COLUMNS_H

#include "datatype/timestamp.h"

typedef struct LpuColumns LpuColumns;

/*
 * An empty set of columns of these types, in the current memory context; "types" must outlive it.
 */
extern LpuColumns *lpu_columns_new(const Oid *types, int ncolumns);

/* Begin the next row: all its values are null. */
extern void lpu_columns_next(LpuColumns *columns);

/* Set a value of the row begun last.  Values by reference are not copied. */
extern void lpu_columns_set(LpuColumns *columns, int column, Datum value);
extern void lpu_columns_set_text(LpuColumns *columns, int column, const char *text);

/* Replace a text of an existing row. */
extern void lpu_columns_replace_text(LpuColumns *columns, int column, int row, const char *text);

/* The number of rows; one column as an array; the array types, for SPI. */
extern int	lpu_columns_count(const LpuColumns *columns);
extern Datum lpu_columns_array(const LpuColumns *columns, int column);
extern Oid	lpu_columns_type(const LpuColumns *columns, int column);

/*
 * Append row i of another set of the same columns, with copies in the memory context of this one.
 */
extern void lpu_columns_copy_row(LpuColumns *columns, const LpuColumns *from, int i);

/* A value of a row; is it null; make it null. */
extern Datum lpu_columns_get(const LpuColumns *columns, int column, int row);
extern bool lpu_columns_is_null(const LpuColumns *columns, int column, int row);
extern void lpu_columns_clear(LpuColumns *columns, int column, int row);

#endif

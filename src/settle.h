/*
 * settle.h: writing down what became of rows of the queue.
 */
#ifndef LPU_SETTLE_H
#define LPU_SETTLE_H

#include "batch.h"

typedef struct lpu_settlement lpu_settlement;

/* Room for so many rows, in the current memory context; add each row whose state is set. */
extern lpu_settlement *lpu_settlement_new(int room);
extern void lpu_settlement_add(lpu_settlement *settlement, const lpu_row *row);

/*
 * Write them down, as one batch; "answered": known from an answer, not from a look-up. Needs a transaction with SPI
 * connected, as the owner of the tables. The schema is quoted.
 */
extern void lpu_settlement_write(const lpu_settlement *settlement, const char *schema, bool answered);

/* Run a statement with SPI connected; raises if it fails. The current memory context stays what it is. */
extern void lpu_run(const char *sql, int nargs, Oid *types, Datum *values);

/* A column (from 1) of a row (from 0) of its result: text in SPI's context, NULL for null; 0 for null. */
extern char *lpu_text_column(int row, int column);
extern int64 lpu_int64_column(int row, int column);
extern int	lpu_int_column(int row, int column);
extern bool lpu_bool_column(int row, int column);

#endif

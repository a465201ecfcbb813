/*
 * spi_plan.h: statements on the extension's tables, run as their owner through kept plans.
 */
#ifndef LPU_BASE_SPI_PLAN_H
#define LPU_BASE_SPI_PLAN_H

#include "datatype/timestamp.h"
#include "tcop/dest.h"

/* Run a statement with SPI connected. "@extschema@" in it stands for the extension's schema. */
extern void lpu_run(const char *sql, int nargs, Oid *types, Datum *values);

/* Parameters of a statement. */
typedef struct LpuParameters
{
	int			n;
	const Oid  *types;
	const Datum *values;
	const char *nulls;			/* 'n' for each that is null; or NULL */
} LpuParameters;

/* Run a statement once, without keeping its plan; its rows go to dest, if that is not NULL. */
extern uint64 lpu_run_once(const char *sql, const LpuParameters *parameters, DestReceiver *dest);

/*
 * A column (from 1) of a row (from 0) of its result: text in the current memory context, NULL for
 * null; 0 for null.
 */
extern char *lpu_text_column(int row, int column);
extern int64 lpu_int64_column(int row, int column);
extern int	lpu_int_column(int row, int column);
extern bool lpu_bool_column(int row, int column);
extern TimestampTz lpu_timestamp_column(int row, int column);
extern Oid	lpu_oid_column(int row, int column);

#endif

/*
 * reportfuncs.c: lp_report(), and periods that functions are given.
 *
 * The page is made by a function of the install script, as the caller: it shows what lp_results
 * shows to it.  Arguments are checked here, so that an error has no context of that function's.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "base/extension.h"
#include "functions/period.h"
#include "options/server.h"

PG_FUNCTION_INFO_V1(lp_report);

/* A report of more days is no picture. */
#define MAX_REPORT_DAYS 400

/*
 * An interval that is shorter than this, but not 0, was meant to have a unit: of a bare number
 * PostgreSQL makes seconds.
 */
#define SHORTEST_PERIOD USECS_PER_HOUR

/* Not in an int64: a month of an interval may be any integer. */
static double
microseconds(const Interval *period)
{
	return period->time +
		(period->day + (double) period->month * DAYS_PER_MONTH) * USECS_PER_DAY;
}

/*
 * Raise 22023 if a period is negative, or is so short that it was written as a number without a
 * unit.
 */
void
lpu_period_check(const Interval *period)
{
	double		length = microseconds(period);
	char	   *text = DatumGetCString(DirectFunctionCall1(interval_out, PointerGetDatum(period)));

	if (length < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("interval must not be negative")));
	if (length > 0 && length < SHORTEST_PERIOD)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("interval is shorter than an hour: %s", text),
				 errdetail("A number without a unit is a number of seconds."),
				 errhint("Write the unit, such as '7 days'.")));
}

/* The first and the last day of a report.  Raises 22023 if these are too many. */
static void
report_days(const Interval *since, DateADT *start, DateADT *stop)
{
	Datum		now = TimestampTzGetDatum(GetCurrentTimestamp());
	Datum		then;

	lpu_period_check(since);
	if (microseconds(since) > (double) MAX_REPORT_DAYS * USECS_PER_DAY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid period of a report"),
				 errdetail("It must be an interval of 0 to %d days.", MAX_REPORT_DAYS)));
	then = DirectFunctionCall2(timestamptz_mi_interval, now, IntervalPGetDatum(since));
	*start = DatumGetDateADT(DirectFunctionCall1(timestamptz_date, then));
	*stop = DatumGetDateADT(DirectFunctionCall1(timestamptz_date, now));
}

/* Run a query of one value as the caller, with SPI connected.  %s is the extension's schema. */
static Datum
query_value(const char *format, int nargs, Oid *types, Datum *values, const char *nulls)
{
	char	   *schema = get_namespace_name(lpu_extension_schema());
	bool		isnull;

	if (SPI_execute_with_args(psprintf(format, quote_identifier(schema)), nargs, types, values,
							  nulls, true, 1) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "could not run a query of the report");
	return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
}

/* Raise 28000 unless the caller may use a server of the account, or sees a request for it. */
static void
check_account(char *account)
{
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {CStringGetTextDatum(account)};

	lpu_account_check(account);
	if (lpu_account_has_server(account, GetUserId()))
		return;
	if (!DatumGetBool(query_value("SELECT EXISTS (SELECT FROM %s.lp_results r WHERE r.account OPERATOR(pg_catalog.=) $1)",
								  1, types, values, NULL)))
		lpu_problem_raise(lpu_account_unknown(account));
}

/*
 * lp_report(account text DEFAULT NULL, since interval DEFAULT '30 days') RETURNS text
 */
Datum
lp_report(PG_FUNCTION_ARGS)
{
	Oid			types[3] = {TEXTOID, DATEOID, DATEOID};
	Datum		values[3] = {PG_GETARG_DATUM(0)};
	const char *nulls = PG_ARGISNULL(0) ? "n  " : NULL;
	DateADT		start;
	DateADT		stop;
	text	   *page;

	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("since must not be null")));
	report_days(PG_GETARG_INTERVAL_P(1), &start, &stop);
	values[1] = DateADTGetDatum(start);
	values[2] = DateADTGetDatum(stop);
	SPI_connect();
	if (!PG_ARGISNULL(0))
		check_account(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	page = DatumGetTextPP(query_value("SELECT %s._lp_report_page($1, $2, $3)", 3, types, values, nulls));
	values[0] = SPI_datumTransfer(PointerGetDatum(page), false, -1);
	SPI_finish();
	PG_RETURN_DATUM(values[0]);
}

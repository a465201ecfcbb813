/*
 * lpusers.c: loading the module, and its settings.
 *
 * _PG_init() may run in the postmaster: it only defines settings. Everything else is set up at first use.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/guc.h"

#include "lpusers.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

bool		lpu_log_calls = true;

void
_PG_init(void)
{
	DefineCustomBoolVariable("lpusers.log_calls",
							 "Records direct calls and writes to foreign tables in lp_requests.",
							 NULL,
							 &lpu_log_calls,
							 true,
							 PGC_SUSET,
							 0,
							 NULL, NULL, NULL);
	MarkGUCPrefixReserved("lpusers");
}

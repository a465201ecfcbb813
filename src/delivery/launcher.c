/*
 * launcher.c: the process that starts workers where the library is preloaded.
 *
 * The launcher starts with the server, after recovery or a promotion, and is restarted after a
 * crash. It registers a worker for each database of lpusers.databases, then one for each database
 * whose worker has ended abnormally, or found no free background worker slot, or was needed by a
 * commit while lpusers.worker was off. The launcher reads these from the table of worker_slots.c
 * and connects to no database.
 */
#include "postgres.h"

#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/procsignal.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/varlena.h"

#include "base/compat.h"
#include "base/guc.h"
#include "queue/worker_slots.h"

PGDLLEXPORT void lpu_launcher_main(Datum arg);

/*
 * Retry interval for the workers of lpusers.databases while no background worker slot is free.
 */
#define NO_SLOT_MS 10000

/* Register workers for the databases of the list; return those without a free slot. */
static List *
start_named(List *names)
{
	while (names != NIL && lpu_start_worker("lpu_worker_main_by_name", InvalidOid, linitial(names)))
		names = list_delete_first(names);
	return names;
}

static void
wait_for_events(long ms)
{
	static uint32 event_launcher = 0;

	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (ms < 0 ? 0 : WL_TIMEOUT), ms,
					 lpu_wait_event(&event_launcher, "LpusersLauncher"));
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	if (!ConfigReloadPending)
		return;
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
}

/* Entry point of the launcher. */
void
lpu_launcher_main(Datum arg)
{
	List	   *names;

	/* the postmaster reports the end of a worker */
	pqsignal(SIGUSR1, procsignal_sigusr1_handler);
	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	if (!SplitIdentifierString(pstrdup(lpu_databases), ',', &names))
		elog(ERROR, "invalid list in lpusers.databases");	/* the setting was
															 * checked */
	lpu_launcher_arrive();
	for (;;)
	{
		long		wait_ms = -1;

		if (lpu_worker_on)
		{
			names = start_named(names);
			wait_ms = names != NIL ? NO_SLOT_MS : lpu_launcher_turn();
		}
		wait_for_events(wait_ms);
	}
}

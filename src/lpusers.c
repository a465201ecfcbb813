/*
 * lpusers.c: loading the module.
 *
 * _PG_init() may run in the postmaster: it only defines settings and, when
 * preloaded, registers the process that starts workers with the server.
 * Everything else is set up at first use.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"

#include "base/compat.h"
#include "base/guc.h"
#include "queue/settle.h"
#include "queue/worker_slots.h"
#include "sync/plan.h"

LPU_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

/* A launcher that was killed is started again after so many seconds. */
#define RESTART_S 10

static shmem_request_hook_type next_shmem_request = NULL;

static void
request_shmem(void)
{
	if (next_shmem_request != NULL)
		next_shmem_request();
	lpu_shmem_request();
}

/* The process that starts the workers; see launcher.c. */
static void
register_launcher(void)
{
	BackgroundWorker worker = {0};

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = RESTART_S;
	strlcpy(worker.bgw_library_name, "lpusers", lengthof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "lpu_launcher_main", lengthof(worker.bgw_function_name));
	strlcpy(worker.bgw_name, "lpusers launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "lpusers launcher", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}

/*
 * Define the settings, request shared memory, and register the workers if the library is
 * preloaded.
 */
void
_PG_init(void)
{
	lpu_define_settings();
	lpu_settled_hook = lpu_sync_settled;
	if (!process_shared_preload_libraries_in_progress)
		return;
	next_shmem_request = shmem_request_hook;
	shmem_request_hook = request_shmem;
	/* while pg_upgrade has the server started, only pg_upgrade may work in it */
	if (lpu_databases[0] != '\0' && !IsBinaryUpgrade)
		register_launcher();
}

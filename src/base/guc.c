/*
 * guc.c: settings of the module.
 */
#include "postgres.h"

#include <limits.h>

#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/varlena.h"

#include "base/guc.h"

/* A month for secrets, which is far from overflow; ten years for finished rows. */
#define MAX_KEEP_SECRETS_S (31 * 86400)
#define MAX_RETENTION_S (3650 * 86400)

/* More users than any account has, and few enough that they can be counted and kept in arrays. */
#define MOST_MAX_CHANGES 10000000

bool		lpu_log_calls = true;
bool		lpu_worker_on = true;
int			lpu_idle_timeout = 3000;
int			lpu_keep_secrets = 86400;
int			lpu_keep_held_secrets = 30 * 86400;
int			lpu_retention = 90 * 86400;
int			lpu_after_promotion = LPU_HOLD;
int			lpu_max_changes = 100;
char	   *lpu_databases = "";

static const struct config_enum_entry after_promotion_choices[] = {
	{"hold", LPU_HOLD, false},
	{"resume", LPU_RESUME, false},
	{NULL, 0, false}
};

/*
 * Refuse a list that SplitIdentifierString() cannot read: the launcher would fail each time it
 * starts.
 */
static bool
check_databases(char **value, void **extra, GucSource source)
{
	char	   *copy = pstrdup(*value);
	List	   *names;
	bool		valid = SplitIdentifierString(copy, ',', &names);

	if (!valid)
		GUC_check_errdetail("List syntax is invalid.");
	list_free(names);
	pfree(copy);
	return valid;
}

/* Define all settings; called once, when the module is loaded. */
void
lpu_define_settings(void)
{
	DefineCustomBoolVariable("lpusers.log_calls",
							 "Records direct calls and writes to foreign tables in lp_requests.",
							 NULL, &lpu_log_calls, true, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("lpusers.worker",
							 "Lets background workers deliver the queue.",
							 "Off: the queue keeps what it has; CALL lp_deliver() still delivers.",
							 &lpu_worker_on, true, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("lpusers.idle_timeout",
							"Time after which a worker with nothing to do leaves.",
							NULL, &lpu_idle_timeout, 3000, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("lpusers.keep_secrets",
							"Time that secrets of failed requests are kept, for lp_retry().",
							NULL, &lpu_keep_secrets, 86400, 0, MAX_KEEP_SECRETS_S, PGC_SIGHUP,
							GUC_UNIT_S,
							NULL, NULL, NULL);
	DefineCustomIntVariable("lpusers.keep_held_secrets",
							"Time that secrets of held requests are kept, for lp_release() and lp_adopt().",
							NULL, &lpu_keep_held_secrets, 30 * 86400, 0, MAX_RETENTION_S,
							PGC_SIGHUP, GUC_UNIT_S,
							NULL, NULL, NULL);
	DefineCustomIntVariable("lpusers.retention",
							"Time that finished requests are kept.",
							NULL, &lpu_retention, 90 * 86400, 0, MAX_RETENTION_S, PGC_SIGHUP,
							GUC_UNIT_S,
							NULL, NULL, NULL);
	DefineCustomEnumVariable("lpusers.after_promotion",
							 "What happens to requests that were queued before a failover or a restore.",
							 NULL, &lpu_after_promotion, LPU_HOLD, after_promotion_choices,
							 PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("lpusers.max_changes",
							"Number of users that one command may update or delete.",
							"0: any number.",
							&lpu_max_changes, 100, 0, MOST_MAX_CHANGES, PGC_USERSET, 0,
							NULL, NULL, NULL);
	if (process_shared_preload_libraries_in_progress)
		DefineCustomStringVariable("lpusers.databases",
								   "Databases whose workers start with the server.",
								   "Names are folded to lower case unless they are double-quoted.",
								   &lpu_databases, "", PGC_POSTMASTER, GUC_LIST_INPUT,
								   check_databases, NULL, NULL);
	MarkGUCPrefixReserved("lpusers");
}

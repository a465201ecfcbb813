/*
 * effects.c: what this transaction did to an account and a rollback cannot undo.
 *
 * A direct call acts at once, its transaction may still abort. What was sent is noted here before it is sent, with the
 * subtransaction it belongs to; at abort one WARNING for each account and operation names the users, and the same line
 * is in the server log. The notes live in TopTransactionContext. The callbacks are registered once per backend; at abort
 * they allocate nothing and look nothing up. A transaction with notes cannot be prepared: nobody would be there to warn.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/elog.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "effects.h"

/* More names than this are not read in a message; the rest is a count. */
#define MAX_NAMES 50

/* Room for the names in a message; a login is 254 characters at most where it is an e-mail address. */
#define MAX_LINE 16384

struct lpu_effect
{
	lpu_effect *next;			/* newer */
	SubTransactionId subtransaction;
	bool		sent;
	bool		certain;		/* the account said that it was carried out */
	bool		reported;
	int			n;
	int			nnames;
	char	   *account;
	const char *operation;
	char	   *names[MAX_NAMES];
};

static lpu_effect *effects = NULL;	/* oldest */
static lpu_effect *newest = NULL;

/* ---------------------------------------------------------------------------------------------------- at abort */

static void
append_names(char *line, size_t *length, const lpu_effect *effect, int *shown)
{
	int			i;

	for (i = 0; i < effect->nnames && *shown < MAX_NAMES && *length < MAX_LINE - 1; i++, (*shown)++)
		*length += snprintf(line + *length, MAX_LINE - *length, "%s%s", *shown > 0 ? ", " : "", effect->names[i]);
	*length = Min(*length, MAX_LINE - 1);
}

static bool
same_kind(const lpu_effect *a, const lpu_effect *b)
{
	return a->certain == b->certain && a->operation == b->operation && strcmp(a->account, b->account) == 0;
}

/* One message for all effects of the same account, operation and certainty. */
static void
report(lpu_effect *first, SubTransactionId subtransaction)
{
	static char line[MAX_LINE];
	size_t		length = 0;
	int			total = 0;
	int			shown = 0;
	lpu_effect *effect;

	line[0] = '\0';
	for (effect = first; effect != NULL; effect = effect->next)
	{
		if (!effect->sent || effect->reported || !same_kind(effect, first) ||
			(subtransaction != InvalidSubTransactionId && effect->subtransaction != subtransaction))
			continue;
		append_names(line, &length, effect, &shown);
		total += effect->n;
		effect->reported = true;
	}
	if (total > shown)
		snprintf(line + length, MAX_LINE - length, " and %d more", total - shown);

	ereport(WARNING,
			(errcode(ERRCODE_WARNING),
			 first->certain ?
			 errmsg("rolled back here, but not in account \"%s\": %s of %d user(s): %s",
					first->account, first->operation, total, line) :
			 errmsg("rolled back here, and account \"%s\" may have carried it out (outcome unknown): %s of %d user(s): %s",
					first->account, first->operation, total, line),
			 errhidestmt(true), errhidecontext(true)));
	/* the log must have it whatever the level of warnings there */
	if (log_min_messages > WARNING)
		ereport(LOG_SERVER_ONLY,
				(errmsg("rolled back here, but %s in account \"%s\": %s of %d user(s): %s",
						first->certain ? "not" : "perhaps not", first->account, first->operation, total, line),
				 errhidestmt(true), errhidecontext(true)));
}

/* Report the effects of an aborted subtransaction (InvalidSubTransactionId: of the whole transaction). */
static void
report_all(SubTransactionId subtransaction)
{
	lpu_effect *effect;

	for (effect = effects; effect != NULL; effect = effect->next)
		if (effect->sent && !effect->reported &&
			(subtransaction == InvalidSubTransactionId || effect->subtransaction == subtransaction))
			report(effect, subtransaction);
}

static void
at_transaction_end(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_PREPARE:
			if (effects != NULL)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("cannot PREPARE a transaction that has written to a LivePerson account"),
						 errhint("Queue the users with a trigger or lp_enqueue_users(): that can be prepared.")));
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PARALLEL_ABORT:
			report_all(InvalidSubTransactionId);
			effects = NULL;
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_PREPARE:
			effects = NULL;
			break;
		default:
			break;
	}
}

static void
at_subtransaction_end(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	lpu_effect *effect;

	if (event == SUBXACT_EVENT_ABORT_SUB)
		report_all(mine);
	if (event == SUBXACT_EVENT_COMMIT_SUB)
		for (effect = effects; effect != NULL; effect = effect->next)
			if (effect->subtransaction == mine)
				effect->subtransaction = parent;
}

/* ------------------------------------------------------------------------------------------------------- noting */

static void
set_names(lpu_effect *effect, const lpu_user_identity *users, int n)
{
	MemoryContext caller = MemoryContextSwitchTo(TopTransactionContext);
	int			i;

	effect->n = n;
	effect->nnames = Min(n, MAX_NAMES);
	for (i = 0; i < effect->nnames; i++)
	{
		if (users[i].login_name == NULL)
			effect->names[i] = psprintf("id " INT64_FORMAT, users[i].id);
		else if (users[i].id == 0)
			effect->names[i] = pstrdup(users[i].login_name);
		else
			effect->names[i] = psprintf("%s (id " INT64_FORMAT ")", users[i].login_name, users[i].id);
	}
	MemoryContextSwitchTo(caller);
}

lpu_effect *
lpu_effects_begin(const char *account, const char *operation, const lpu_user_identity *users, int n)
{
	static bool registered = false;
	lpu_effect *effect;

	if (!registered)
	{
		RegisterXactCallback(at_transaction_end, NULL);
		RegisterSubXactCallback(at_subtransaction_end, NULL);
		registered = true;
	}
	effect = MemoryContextAllocZero(TopTransactionContext, sizeof(lpu_effect));
	effect->subtransaction = GetCurrentSubTransactionId();
	effect->account = MemoryContextStrdup(TopTransactionContext, account);
	effect->operation = operation;
	set_names(effect, users, n);
	if (effects == NULL)
		effects = effect;
	else
		newest->next = effect;
	newest = effect;
	return effect;
}

bool *
lpu_effect_sent_flag(lpu_effect *effect)
{
	return &effect->sent;
}

void
lpu_effects_settle(lpu_effect *effect, bool carried_out, const lpu_user_identity *users, int n)
{
	effect->sent = effect->certain = carried_out;
	if (carried_out)
		set_names(effect, users, n);
}

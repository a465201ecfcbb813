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
	lpu_effect *older;
	SubTransactionId subtransaction;
	bool		sent;
	bool		certain;		/* the account said that it was carried out */
	int			n;				/* users */
	int			nnames;			/* of them named here */
	char	   *account;
	const char *operation;
	char	  **names;
};

/*
 * Newest first. Those of an inner subtransaction are newer than those of an outer one, so that the end of one touches
 * only the head. Settled effects of one kind are merged, so that the list stays short however many calls there are.
 */
static lpu_effect *effects = NULL;

/* ---------------------------------------------------------------------------------------------------- at abort */

static bool
same_kind(const lpu_effect *a, const lpu_effect *b)
{
	return a->subtransaction == b->subtransaction && a->certain == b->certain && a->operation == b->operation &&
		strcmp(a->account, b->account) == 0;
}

static void
report(const lpu_effect *effect)
{
	static char line[MAX_LINE];
	size_t		length = 0;
	int			i;

	line[0] = '\0';
	for (i = 0; i < effect->nnames && length < MAX_LINE; i++)
		length += snprintf(line + length, MAX_LINE - length, "%s%s", i > 0 ? ", " : "", effect->names[i]);
	if (effect->n > effect->nnames && length < MAX_LINE)
		snprintf(line + length, MAX_LINE - length, " and %d more", effect->n - effect->nnames);

	ereport(WARNING,
			(errcode(ERRCODE_WARNING),
			 effect->certain ?
			 errmsg("rolled back here, but not in account \"%s\": %s of %d user(s): %s",
					effect->account, effect->operation, effect->n, line) :
			 errmsg("rolled back here, and account \"%s\" may have carried it out (outcome unknown): %s of %d user(s): %s",
					effect->account, effect->operation, effect->n, line),
			 errhidestmt(true), errhidecontext(true)));
	/* the log must have it whatever the level of warnings there */
	if (log_min_messages > WARNING)
		ereport(LOG_SERVER_ONLY,
				(errmsg("rolled back here, but %s in account \"%s\": %s of %d user(s): %s",
						effect->certain ? "not" : "perhaps not", effect->account, effect->operation, effect->n, line),
				 errhidestmt(true), errhidecontext(true)));
}

/* Report the effects of an aborted subtransaction (InvalidSubTransactionId: all), oldest first, and forget them. */
static void
report_all(SubTransactionId subtransaction)
{
	lpu_effect *oldest_first = NULL;

	while (effects != NULL &&
		   (subtransaction == InvalidSubTransactionId || effects->subtransaction == subtransaction))
	{
		lpu_effect *effect = effects;

		effects = effect->older;
		effect->older = oldest_first;
		oldest_first = effect;
	}
	for (; oldest_first != NULL; oldest_first = oldest_first->older)
		if (oldest_first->sent)
			report(oldest_first);
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
		for (effect = effects; effect != NULL && effect->subtransaction == mine; effect = effect->older)
			effect->subtransaction = parent;
}

/* ------------------------------------------------------------------------------------------------------- noting */

static char *
name_of(const lpu_user_identity *user)
{
	if (user->login_name == NULL)
		return psprintf("id " INT64_FORMAT, user->id);
	if (user->id == 0)
		return pstrdup(user->login_name);
	return psprintf("%s (id " INT64_FORMAT ")", user->login_name, user->id);
}

static void
set_names(lpu_effect *effect, const lpu_user_identity *users, int n)
{
	MemoryContext caller = MemoryContextSwitchTo(TopTransactionContext);
	int			i;

	for (i = 0; i < effect->nnames; i++)
		pfree(effect->names[i]);
	if (effect->names == NULL)
		effect->names = palloc(MAX_NAMES * sizeof(char *));
	effect->n = n;
	for (i = 0; i < Min(n, MAX_NAMES); i++)
		effect->names[i] = name_of(&users[i]);
	effect->nnames = i;
	MemoryContextSwitchTo(caller);
}

/* Free an effect that is the newest. */
static void
drop_newest(void)
{
	lpu_effect *effect = effects;
	int			i;

	effects = effect->older;
	for (i = 0; i < effect->nnames; i++)
		pfree(effect->names[i]);
	pfree(effect->names);
	pfree(effect->account);
	pfree(effect);
}

/* Add the newest effect to the one before, if that is of its kind. */
static void
merge_newest(void)
{
	lpu_effect *newest = effects;
	lpu_effect *into = newest->older;

	if (into == NULL || !into->sent || !same_kind(into, newest))
		return;
	into->n += newest->n;
	while (into->nnames < MAX_NAMES && newest->nnames > 0)
	{
		into->names[into->nnames++] = newest->names[0];
		memmove(newest->names, newest->names + 1, --newest->nnames * sizeof(char *));
	}
	drop_newest();
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
	effect->older = effects;
	effects = effect;
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
	/* another call may have been made while this one's row was written (by a trigger): then both stay */
	if (effect != effects)
		return;
	if (carried_out)
		merge_newest();
	else
		drop_newest();
}

/*
 * rollback_warning.c: effects of this transaction on accounts, which a rollback cannot undo.
 *
 * A direct call acts at once, and its transaction may still abort. Each request is noted here
 * before it is sent, with its subtransaction; at abort one WARNING for each account and operation
 * names the users, and the server log gets the same line. The notes live in TopTransactionContext.
 * The callbacks are registered once per backend; at abort they allocate no memory and access no
 * catalogs. A transaction with notes cannot be prepared: its rollback could not warn.
 */
#include "postgres.h"

#include "access/xact.h"
#include "mb/pg_wchar.h"
#include "utils/elog.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "transaction/rollback_warning.h"

/* Maximum number of names in a message; the others are counted. */
#define MAX_NAMES 50

/* A login that is an e-mail address has at most 254 characters; longer logins are truncated. */
#define MAX_NAME 254

/* Buffer size for the names in a message, each with an id and a comma. */
#define MAX_LINE 16384

struct LpuRemoteEffect
{
	LpuRemoteEffect *older;
	SubTransactionId subtransaction;
	bool		under_way;		/* no response yet */
	bool		sent;
	bool		certain;		/* the response reported success */
	int			n;				/* users */
	int			nnames;			/* number of users named here */
	char	   *account;
	const char *operation;
	char	  **names;
};

/*
 * Newest first. Effects of an inner subtransaction are newer than those of an outer one, so the end
 * of a subtransaction changes only the head of the list. Effects of one kind are merged, also when
 * a subtransaction passes its effects to its parent: the list stays short for any number of calls,
 * and an abort gives one message for each kind.
 */
static LpuRemoteEffect *effects = NULL;

/* ----- at abort ----- */

static bool
same_kind(const LpuRemoteEffect *a, const LpuRemoteEffect *b)
{
	return a->subtransaction == b->subtransaction && a->certain == b->certain &&
		a->operation == b->operation &&
		strcmp(a->account, b->account) == 0;
}

/* The message, at this level. */
static void
emit(int level, const LpuRemoteEffect *effect, const char *names)
{
	ereport(level,
			(errcode(ERRCODE_WARNING),
			 effect->certain ?
			 errmsg_plural("rolled back here, but not in account \"%s\": %s of %d user: %s",
						   "rolled back here, but not in account \"%s\": %s of %d users: %s", effect->n,
						   effect->account, effect->operation, effect->n, names) :
			 errmsg_plural("rolled back here, and account \"%s\" may have carried it out (outcome unknown): %s of %d user: %s",
						   "rolled back here, and account \"%s\" may have carried it out (outcome unknown): %s of %d users: %s",
						   effect->n, effect->account, effect->operation, effect->n, names),
			 errhidestmt(true), errhidecontext(true)));
}

/*
 * Write to the server log at any log_min_messages: log, error, fatal and panic would omit warnings.
 */
static void
emit_to_log(const LpuRemoteEffect *effect, const char *names)
{
	int			level = log_min_messages;

	log_min_messages = LOG;
	emit(LOG_SERVER_ONLY, effect, names);
	log_min_messages = level;
}

/*
 * Names that the client's encoding lacks would raise a conversion error during an abort.
 */
static bool
client_can_read(const char *names)
{
	int			encoding = pg_get_client_encoding();

	if (encoding == GetDatabaseEncoding() || encoding == PG_SQL_ASCII)
		return true;
	for (; *names; names++)
		if (IS_HIGHBIT_SET(*names))
			return false;
	return true;
}

static void
report(const LpuRemoteEffect *effect)
{
	static char line[MAX_LINE];
	size_t		length = 0;
	char	   *c;
	int			i;

	line[0] = '\0';
	for (i = 0; i < effect->nnames && length < MAX_LINE; i++)
		length += snprintf(line + length, MAX_LINE - length, "%s%s", i > 0 ? ", " : "",
						   effect->names[i]);
	if (effect->n > effect->nnames && length < MAX_LINE)
		snprintf(line + length, MAX_LINE - length, " and %d more", effect->n - effect->nnames);

	if (client_can_read(line))
	{
		emit(WARNING, effect, line);
		if (log_min_messages > WARNING || log_min_messages == LOG)
			emit_to_log(effect, line);
		return;
	}
	emit_to_log(effect, line);
	for (c = line; *c; c++)
		if (IS_HIGHBIT_SET(*c))
			*c = '?';
	emit(WARNING_CLIENT_ONLY, effect, line);
}

/*
 * Take the effects of a subtransaction (InvalidSubTransactionId: of all) off
 * the list. Returns them, oldest first.
 */
static LpuRemoteEffect *
take(SubTransactionId subtransaction)
{
	LpuRemoteEffect *oldest_first = NULL;

	while (effects != NULL &&
		   (subtransaction == InvalidSubTransactionId || effects->subtransaction == subtransaction))
	{
		LpuRemoteEffect *effect = effects;

		effects = effect->older;
		effect->older = oldest_first;
		oldest_first = effect;
	}
	return oldest_first;
}

/* Free an effect that is in no list. */
static void
free_effect(LpuRemoteEffect *effect)
{
	int			i;

	for (i = 0; i < effect->nnames; i++)
		pfree(effect->names[i]);
	pfree(effect->names);
	pfree(effect->account);
	pfree(effect);
}

/* Take an effect out of the list. */
static void
unlink_effect(LpuRemoteEffect *effect)
{
	LpuRemoteEffect **link = &effects;

	while (*link != effect)
		link = &(*link)->older;
	*link = effect->older;
}

/* Add an effect to another one of its kind. Allocates nothing. */
static void
absorb(LpuRemoteEffect *into, LpuRemoteEffect *effect)
{
	into->n += effect->n;
	while (into->nnames < MAX_NAMES && effect->nnames > 0)
	{
		into->names[into->nnames++] = effect->names[0];
		memmove(effect->names, effect->names + 1, --effect->nnames * sizeof(char *));
	}
	free_effect(effect);
}

/*
 * Merge an effect whose request has ended into another one of its kind, if there is one, and free
 * it. Allocates nothing.
 */
static void
merge_effect(LpuRemoteEffect *effect)
{
	LpuRemoteEffect *into = effects;

	while (into != NULL && (into == effect || into->under_way || !into->sent ||
							!same_kind(into, effect)))
		into = into->older;
	if (into == NULL)
		return;
	unlink_effect(effect);
	absorb(into, effect);
}

/*
 * Report the effects of an aborted subtransaction (InvalidSubTransactionId:
 * all), oldest first, and forget them.
 */
static void
report_all(SubTransactionId subtransaction)
{
	LpuRemoteEffect *effect;

	for (effect = take(subtransaction); effect != NULL; effect = effect->older)
	{
		LpuRemoteEffect **link = &effect->older;

		/* several requests may have been under way */
		while (effect->sent && *link != NULL)
		{
			LpuRemoteEffect *newer = *link;

			if (!newer->sent || !same_kind(effect, newer))
			{
				link = &newer->older;
				continue;
			}
			*link = newer->older;
			absorb(effect, newer);
		}
		if (effect->sent)
			report(effect);
	}
}

/* A subtransaction is committed: pass its effects to the parent. */
static void
hand_to_parent(SubTransactionId mine, SubTransactionId parent)
{
	LpuRemoteEffect *effect = take(mine);

	while (effect != NULL)
	{
		LpuRemoteEffect *next = effect->older;

		effect->subtransaction = parent;
		effect->older = effects;
		effects = effect;
		if (effect->sent && !effect->under_way)
			merge_effect(effect);
		effect = next;
	}
}

static void
end_xact(XactEvent event, void *arg)
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
end_subxact(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		report_all(mine);
	if (event == SUBXACT_EVENT_COMMIT_SUB)
		hand_to_parent(mine, parent);
}

/* ----- noting ----- */

/* Return the login as one line of bounded length. */
static char *
name_of_user(const LpuUserIdentity *user)
{
	int			length;
	char	   *login;
	char	   *name;
	char	   *c;

	if (user->login_name == NULL)
		return psprintf("id " INT64_FORMAT, user->id);
	length = strlen(user->login_name);
	login = pnstrdup(user->login_name, pg_mbcliplen(user->login_name, length, MAX_NAME));
	for (c = login; *c; c++)
		if ((unsigned char) *c < ' ' || *c == 0x7f)
			*c = ' ';
	if (user->id == 0)
		return login;
	/* these live until the end of the transaction, which may write many */
	name = psprintf("%s (id " INT64_FORMAT ")", login, user->id);
	pfree(login);
	return name;
}

static void
set_names(LpuRemoteEffect *effect, const LpuUserIdentity *users, int n)
{
	MemoryContext caller = MemoryContextSwitchTo(TopTransactionContext);
	int			i;

	for (i = 0; i < effect->nnames; i++)
		pfree(effect->names[i]);
	if (effect->names == NULL)
		effect->names = palloc(MAX_NAMES * sizeof(char *));
	effect->n = n;
	for (i = 0; i < Min(n, MAX_NAMES); i++)
		effect->names[i] = name_of_user(&users[i]);
	effect->nnames = i;
	MemoryContextSwitchTo(caller);
}

/*
 * Note that a writing request is about to be sent: account, operation ("create", "update", ...)
 * and its users. If the transaction or subtransaction aborts after the request may have gone
 * out, a WARNING names them.
 */
LpuRemoteEffect *
lpu_effects_begin(const char *account, const char *operation, const LpuUserIdentity *users, int n)
{
	static bool registered = false;
	LpuRemoteEffect *effect;

	if (!registered)
	{
		RegisterXactCallback(end_xact, NULL);
		RegisterSubXactCallback(end_subxact, NULL);
		registered = true;
	}
	effect = MemoryContextAllocZero(TopTransactionContext, sizeof(LpuRemoteEffect));
	effect->subtransaction = GetCurrentSubTransactionId();
	effect->account = MemoryContextStrdup(TopTransactionContext, account);
	effect->operation = operation;
	effect->under_way = true;
	set_names(effect, users, n);
	effect->older = effects;
	effects = effect;
	return effect;
}

/* Return the flag to be set as soon as the request may have reached the account. */
bool *
lpu_effect_sent_flag(LpuRemoteEffect *effect)
{
	return &effect->sent;
}

/*
 * Note that the request was executed or not, and the ids of its users. The effect must not be used
 * afterwards.
 */
void
lpu_effects_settle(LpuRemoteEffect *effect, bool carried_out, const LpuUserIdentity *users, int n)
{
	effect->under_way = false;
	effect->sent = effect->certain = carried_out;
	if (carried_out)
	{
		set_names(effect, users, n);
		merge_effect(effect);
		return;
	}
	unlink_effect(effect);
	free_effect(effect);
}

/*
 * Note that the outcome of the request remains unknown: an abort names its users like those of a
 * request in flight. The effect must not be used after this.
 */
void
lpu_effects_leave(LpuRemoteEffect *effect)
{
	effect->under_way = false;
	effect->sent = true;
	merge_effect(effect);
}

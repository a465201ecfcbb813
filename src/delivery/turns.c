/*
 * turns.c: deliveries of several accounts side by side.
 *
 * Accounts take turns, and no account blocks the turn of another; nor do the servers of one party
 * block those of another that have the same account id (options/known_server.h). A few accounts
 * have their turn at a time, starting with those that have waited the longest. After a turn
 * (delivery_step.c) the requests of the account that are in flight continue during the turns of
 * others, and do not count as a turn. A mapping whose service does not respond is retried after an
 * increasing delay (queue/silence.c). Nothing here waits: the caller waits for the network when no
 * delivery can continue.
 */
#include "postgres.h"

#include "nodes/pg_list.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "delivery/turns.h"
#include "queue/silence.h"

/*
 * Number of accounts that have their turn at a time: with the default of 4 connections each, some
 * 30 requests are in flight.
 */
#define MAX_TURNS 8

/* Delay after an error: long enough not to fill the log, short enough to recover soon. */
#define ERROR_WAIT_MS 5000

/*
 * Retry interval of an account that could not be delivered (paused, or delivered by another
 * process).
 */
#define IDLE_WAIT_MS 10000

/* An account and a party with unfinished rows. */
typedef struct AccountTurn
{
	char	   *account;
	Oid			party;			/* of its servers that are served */
	TimestampTz due;			/* due time of its first row, as listed;
								 * DT_NOEND: unknown */
	TimestampTz not_before;		/* whatever is due */
	TimestampTz began;			/* its last turn, 0: never */
	bool		listed;
	bool		opened;			/* at least once */
	LpuDelivery *delivery;		/* or NULL */
	LpuTotals	totals;
} AccountTurn;

struct LpuTurns
{
	MemoryContext context;
	const LpuDeliverer *deliverer;
	bool		once;			/* each account that is listed, due or not,
								 * has one delivery */
	bool		changed;		/* a delivery has ended since the last listing */
	List	   *accounts;		/* turn */
};

/* Arguments of a guarded part. */
typedef struct TurnPart
{
	LpuTurns   *turns;
	AccountTurn *turn;
	LpuStep		result;
	long		wait_ms;
} TurnPart;

/*
 * Make an empty set of turns in the current memory context. "once": each account that is listed
 * is delivered until nothing of it is due, and then not again.
 */
LpuTurns *
lpu_turns_new(const LpuDeliverer *deliverer, bool once)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "lpusers turns",
												  ALLOCSET_DEFAULT_SIZES);
	LpuTurns   *turns = MemoryContextAllocZero(context, sizeof(LpuTurns));

	turns->context = context;
	turns->deliverer = deliverer;
	turns->once = once;
	return turns;
}

static AccountTurn *
find_turn(LpuTurns *turns, const char *account, Oid party)
{
	ListCell   *cell;
	AccountTurn *t;

	foreach(cell, turns->accounts)
	{
		t = lfirst(cell);
		if (t->party == party && strcmp(t->account, account) == 0)
			return t;
	}
	t = palloc0(sizeof(AccountTurn));
	t->account = pstrdup(account);
	t->party = party;
	turns->accounts = lappend(turns->accounts, t);
	return t;
}

/*
 * Forget the accounts without unfinished rows, unless the retry delay of their service has not
 * passed.
 */
static void
forget_finished(LpuTurns *turns, TimestampTz now)
{
	ListCell   *cell;

	foreach(cell, turns->accounts)
	{
		AccountTurn *t = lfirst(cell);

		if (t->listed || t->delivery != NULL || t->not_before > now)
			continue;
		turns->accounts = foreach_delete_current(turns->accounts, cell);
		pfree(t->account);
		pfree(t);
	}
}

/*
 * Read the accounts that have unfinished rows ("account" limits this to one), and the due time of
 * the first row of each. Return 0 if there is none. Called outside of a step. "retry": an
 * account that waits because of an error, or because it was paused, is tried again at once.
 */
int
lpu_turns_list(LpuTurns *turns, const char *account, bool retry)
{
	MemoryContext caller = CurrentMemoryContext;
	TimestampTz now = GetCurrentTimestamp();
	ListCell   *cell;
	LpuDue	   *due;
	int			n;
	int			i;
	int			listed = 0;

	turns->deliverer->begin();
	MemoryContextSwitchTo(caller);
	due = lpu_queue_due(&n);
	turns->deliverer->commit();

	MemoryContextSwitchTo(turns->context);
	foreach(cell, turns->accounts)
		((AccountTurn *) lfirst(cell))->listed = false;
	for (i = 0; i < n; i++)
	{
		TimestampTz at = TimestampTzPlusMilliseconds(now, due[i].wait_ms);
		AccountTurn *t;

		if (account != NULL && strcmp(account, due[i].account) != 0)
			continue;
		t = find_turn(turns, due[i].account, due[i].party);
		t->due = t->listed ? Min(t->due, at) : at;
		t->listed = true;
		if (retry)
			t->not_before = now;
		listed++;
	}
	forget_finished(turns, now);
	turns->changed = false;
	MemoryContextSwitchTo(caller);
	return listed;
}

/* ----- one account ----- */

/*
 * Run a part; its error does not affect the others, if the deliverer can continue after an error.
 */
static bool
run_part(LpuTurns *turns, void (*function) (void *arg), TurnPart *p)
{
	if (turns->deliverer->guard != NULL)
		return turns->deliverer->guard(function, p);
	function(p);
	return true;
}

/* The delivery is over, or could not be opened: do not try again for this time. */
static void
end_turn(LpuTurns *turns, AccountTurn *t, int64 wait_ms)
{
	if (t->delivery != NULL)
		lpu_delivery_close(t->delivery);
	t->delivery = NULL;
	t->due = DT_NOEND;
	t->not_before = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), wait_ms);
	turns->changed = true;
}

/* Return the delay until the next delivery of the account after one with this result. */
static int64
wait_after(AccountTurn *t)
{
	const LpuTotals *totals = &t->totals;
	long		silence_ms;

	if (totals->created > 0 || totals->done > 0 || totals->failed > 0 || totals->held > 0 ||
		totals->again > 0)
		return 0;

	/*
	 * paused, or the due rows are locked by others, or the account is not
	 * reached with their mappings
	 */
	silence_ms = lpu_silence_left(t->account, t->party);
	return silence_ms < 0 ? IDLE_WAIT_MS : Min(silence_ms, IDLE_WAIT_MS);
}

static void
open_part(void *arg)
{
	TurnPart   *p = arg;
	AccountTurn *t = p->turn;
	MemoryContext caller = MemoryContextSwitchTo(p->turns->context);

	memset(&t->totals, 0, sizeof(LpuTotals));
	t->delivery = lpu_delivery_open(t->account, t->party, p->turns->deliverer, &t->totals);
	MemoryContextSwitchTo(caller);
}

static void
step_part(void *arg)
{
	TurnPart   *p = arg;

	p->result = lpu_delivery_step(p->turn->delivery, &p->wait_ms);
}

/* Begin the turn of the account. */
static void
begin_turn(LpuTurns *turns, AccountTurn *t)
{
	TurnPart	p = {turns, t};

	t->began = GetCurrentTimestamp();
	t->due = DT_NOEND;
	t->opened = true;
	if (t->delivery != NULL)
		lpu_delivery_begin_turn(t->delivery);
	else if (!run_part(turns, open_part, &p))
		end_turn(turns, t, ERROR_WAIT_MS);
	else if (t->delivery == NULL)
	{
		end_turn(turns, t, IDLE_WAIT_MS);
		if (turns->deliverer->over != NULL)
			turns->deliverer->over(t->account, NULL);
	}
}

/* Continue the delivery of the account. Return the result of lpu_delivery_step(). */
static LpuStep
step_turn(LpuTurns *turns, AccountTurn *t, long *wait_ms)
{
	TurnPart	p = {turns, t};

	if (!run_part(turns, step_part, &p))
	{
		end_turn(turns, t, ERROR_WAIT_MS);
		return LPU_STEP_OVER;
	}
	if (p.result == LPU_STEP_OVER)
	{
		end_turn(turns, t, wait_after(t));
		if (turns->deliverer->over != NULL)
			turns->deliverer->over(t->account, &t->totals);
	}
	*wait_ms = p.wait_ms;
	return p.result;
}

/* ----- all accounts ----- */

/* Return the time of the account's next turn; DT_NOEND if there is no reason for one. */
static TimestampTz
next_turn(const LpuTurns *turns, const AccountTurn *t)
{
	if (t->delivery != NULL && lpu_delivery_has_turn(t->delivery))
		return DT_NOEND;
	if (!turns->once && t->delivery != NULL)
		return Max(t->due, lpu_delivery_next_turn(t->delivery));
	if (!turns->once)
		return Max(t->due, t->not_before);
	if (t->delivery != NULL)
		return lpu_delivery_wants_turn(t->delivery) ? t->began : DT_NOEND;
	return t->opened ? DT_NOEND : t->began;
}

/*
 * Of the accounts that may have their turn now, return the one that has waited the longest; NULL if
 * there is none.
 */
static AccountTurn *
choose_turn(const LpuTurns *turns, TimestampTz now)
{
	AccountTurn *chosen = NULL;
	ListCell   *cell;

	foreach(cell, turns->accounts)
	{
		AccountTurn *t = lfirst(cell);

		if (next_turn(turns, t) <= now && (chosen == NULL || t->began < chosen->began))
			chosen = t;
	}
	return chosen;
}

static int
count_turns(const LpuTurns *turns)
{
	int			n = 0;
	ListCell   *cell;

	foreach(cell, turns->accounts)
	{
		AccountTurn *t = lfirst(cell);

		n += t->delivery != NULL && lpu_delivery_has_turn(t->delivery);
	}
	return n;
}

static void
lower(long *wait_ms, long ms)
{
	if (ms >= 0 && (*wait_ms < 0 || ms < *wait_ms))
		*wait_ms = ms;
}

/*
 * Continue all deliveries as far as possible without waiting; "stop": begin no turn. Return 0 if
 * more may be done at once, else the time to wait for the network, -1 for no limit.
 */
long
lpu_turns_step(LpuTurns *turns, bool stop)
{
	TimestampTz now = GetCurrentTimestamp();
	long		wait_ms = -1;
	ListCell   *cell;
	AccountTurn *t;

	while (!stop && count_turns(turns) < MAX_TURNS && (t = choose_turn(turns, now)) != NULL)
		begin_turn(turns, t);
	foreach(cell, turns->accounts)
	{
		long		ms = -1;

		t = lfirst(cell);
		if (t->delivery == NULL)
			continue;
		if (step_turn(turns, t, &ms) == LPU_STEP_WAITS)
			lower(&wait_ms, ms);
		else
			wait_ms = 0;
	}
	if (stop || wait_ms == 0)
		return wait_ms;
	foreach(cell, turns->accounts)
	{
		TimestampTz next = next_turn(turns, lfirst(cell));

		if (next != DT_NOEND)
			lower(&wait_ms, TimestampDifferenceMilliseconds(now, next));
	}
	/* the end of a turn allows another one */
	if (wait_ms == 0 && count_turns(turns) >= MAX_TURNS)
		wait_ms = 100;
	return wait_ms;
}

/* Return true if a delivery is under way. */
bool
lpu_turns_busy(const LpuTurns *turns)
{
	ListCell   *cell;

	foreach(cell, turns->accounts)
		if (((AccountTurn *) lfirst(cell))->delivery != NULL)
		return true;
	return false;
}

/* Return true if the accounts should be listed again because a delivery has ended since. */
bool
lpu_turns_changed(LpuTurns *turns)
{
	return turns->changed;
}

/* End all deliveries and their requests in flight. To be called after an error as well. */
void
lpu_turns_close(LpuTurns *turns)
{
	ListCell   *cell;

	foreach(cell, turns->accounts)
		if (((AccountTurn *) lfirst(cell))->delivery != NULL)
		end_turn(turns, lfirst(cell), ERROR_WAIT_MS);
}

/*
 * presence.c: the part of a delivery that finds out who is in the account before anything is sent.
 *
 * A user who is found after a lost answer or a refused batch was created by this delivery only if
 * it was not there before.  So the account is listed before rows are claimed, and users that it has
 * are not sent.  A few rows are sent without that, each in a request of its own: then a refusal
 * speaks of one user, and costs less than a listing of a large account.  No rows are claimed while
 * the listing is under way, which the steps of the delivery advance.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/spi_plan.h"
#include "delivery/delivery_state.h"

/* So many due rows go one by one. */
#define FEW_ROWS 5

/* The listing before rows are claimed, in the context of the users that it finds. */
struct presence
{
	List	   *roles;			/* that send the rows that are due */
	int			next;			/* the role that is tried next */
	const char *role;
	const lpu_options *options; /* of the role as which the account is being listed, or NULL */
	bool		alone;			/* nothing was in hand or under way when it began */
	TimestampTz since;
};

/* In a transaction: a new list of due rows was made. */
void
lpu_delivery_note_list(lpu_delivery *d)
{
	if (d->present_context != NULL)
		MemoryContextDelete(d->present_context);
	d->present_context = NULL;
	d->present = NULL;
	d->revision = -1;
	d->postponed = NULL;
	d->few = d->nlisted <= FEW_ROWS;
	d->must_look = !d->few;
}

/* In a transaction: collect the logins of the listed rows.  Return the roles that send them. */
static List *
collect_logins(lpu_delivery *d)
{
	Oid			types[1] = {INT8ARRAYOID};
	Datum		values[1];
	Datum	   *ids = palloc(d->nlisted * sizeof(Datum));
	List	   *roles = NIL;
	uint64		i;

	for (i = 0; i < d->nlisted; i++)
		ids[i] = Int64GetDatum(d->list[i].id);
	values[0] = PointerGetDatum(construct_array(ids, d->nlisted, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	lpu_run("SELECT login_name, send_as FROM @extschema@.lp_requests WHERE id OPERATOR(pg_catalog.=) ANY ($1)"
			" AND login_name IS NOT NULL", 1, types, values);
	for (i = 0; i < SPI_processed; i++)
	{
		char	   *role = lpu_text_column(i, 2);
		bool		known = false;
		char	   *login = lpu_text_column(i, 1);
		ListCell   *cell;

		lpu_lookup_add(d->present, login);
		pfree(login);
		foreach(cell, roles)
			known |= strcmp(lfirst(cell), role) == 0;
		if (!known)
			roles = lappend(roles, MemoryContextStrdup(d->present_context, role));
	}
	return roles;
}

/* Begin to find out who of the listed rows is there. */
static struct presence *
begin_look_ahead(lpu_delivery *d)
{
	MemoryContext caller = lpu_delivery_begin(d);
	struct presence *p;

	d->present_context = AllocSetContextCreate(d->context, "lpusers present users", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(d->present_context);
	p = palloc0(sizeof(struct presence));
	p->alone = d->ready == NIL && d->flying == NIL && d->done == NIL && d->refused_batches == NIL;
	p->since = GetCurrentTimestamp();
	d->present = lpu_lookup_new(false);
	p->roles = collect_logins(d);
	lpu_delivery_commit(d, caller);
	return p;
}

/*
 * Any role that may read sees the whole account: list it as the next of them.  Return false if there is none.  The rows of
 * a role that cannot be used are held when they are claimed.
 */
static bool
list_as_next_role(lpu_delivery *d, struct presence *p)
{
	while (p->options == NULL && p->next < list_length(p->roles))
	{
		MemoryContext caller = lpu_delivery_begin(d);
		const char *why;

		p->role = list_nth(p->roles, p->next++);
		p->options = lpu_delivery_options(d, p->role, d->present_context, &why);
		lpu_delivery_commit(d, caller);
	}
	if (p->options == NULL)
		return false;
	lpu_lookup_start(d->present, p->options, 0);
	return true;
}

/* Nothing can be sent now: the rows that are claimed next are given back. */
static void
postpone(lpu_delivery *d, const lpu_options *options, const lpu_listing_result *result, const char *why)
{
	d->postponed = MemoryContextStrdup(d->present_context, why);
	d->postponed_status = 0;
	if (result->verdict != LPU_LATER)
	{
		d->postponed_ms = lpu_delivery_backoff(options);
		return;
	}
	d->postponed_status = 429;
	d->postponed_ms = result->wait_ms;
	d->next_start = Max(d->next_start, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), result->wait_ms));
}

/* In a step: draw the conclusions from a listing that has ended.  Return true if no other role is to be tried. */
static bool
use_listing(lpu_delivery *d, struct presence *p, const lpu_listing_result *result)
{
	const char *why = psprintf("could not list users: %s", result->why ? result->why : "");

	if (result->known)
	{
		d->few = false;
		/* what is under way will change it */
		if (p->alone)
			d->revision = result->revision;
		lpu_delivery_note_reached(d, p->options);
		return true;
	}
	switch (result->verdict)
	{
		case LPU_UNAUTHORIZED:
		case LPU_FORBIDDEN:
			lpu_delivery_hold_role(d, p->options, p->role, LPU_HOLD_CREDENTIALS, why);
			return false;
		case LPU_REJECTED:
		case LPU_MISDIRECTED:
			lpu_delivery_hold_role(d, p->options, p->role, LPU_HOLD_SETUP, why);
			return false;
		default:
			postpone(d, p->options, result, why);
			return true;
	}
}

/* Rows may be claimed now.  The time of the listing is not that of the turn. */
static LpuStep
end_look_ahead(lpu_delivery *d, const struct presence *p)
{
	TimestampTz now = GetCurrentTimestamp();

	lpu_delivery_extend_turn(d, TimestampDifferenceMilliseconds(p->since, now));
	d->must_look = false;
	d->presence = NULL;
	return LPU_STEP_MOVED;
}

/*
 * List the account before the rows of a new list are claimed, if it is to be listed: then return whether that waits, or has
 * ended; else LPU_STEP_OVER.  The credentials of one role after the other are tried.  Called outside of a transaction.
 */
LpuStep
lpu_delivery_look_ahead(lpu_delivery *d, long *wait_ms)
{
	struct presence *p = d->presence;

	if (!d->must_look)
		return LPU_STEP_OVER;
	if (p == NULL)
	{
		d->few = true;			/* unless a listing succeeds */
		p = d->presence = begin_look_ahead(d);
	}
	while (!lpu_delivery_must_stop(d) && (p->options != NULL || list_as_next_role(d, p)))
	{
		lpu_listing_result result;
		MemoryContext caller;
		bool		enough;

		if (!lpu_lookup_done(d->present, wait_ms))
			return LPU_STEP_WAITS;
		caller = lpu_delivery_begin(d);
		lpu_lookup_finish(d->present, &result);
		d->totals->requests += result.requests;
		enough = use_listing(d, p, &result);
		lpu_delivery_commit(d, caller);
		if (enough)
			break;
		p->options = NULL;
	}
	return end_look_ahead(d, p);
}

/*
 * The account has a user with the row's login.  A row that was sent before may have created it: that is looked up.
 */
static void
settle_present(lpu_delivery *d, lpu_row *row, const lpu_listed_user *user)
{
	row->unsent = true;
	if (row->sent_before)
	{
		lpu_rows_set(&row, 1, LPU_STATE_UNCERTAIN, NULL, "the account has a user with this login", 0);
		lpu_delivery_settle(d, &row, 1);
		return;
	}
	lpu_row_set_failed(row, LPU_CAUSE_REFUSED,
					   MemoryContextStrdup(lpu_claim_context(row),
										   psprintf("login exists: user " INT64_FORMAT " (%s)", user->id,
													user->enabled ? "enabled" : "disabled")));
	row->user_id = user->id;
	lpu_delivery_settle_looked(d, row);
}

/* In a step, of rows of one role that are claimed: batches of those that the account does not have. */
void
lpu_delivery_make_batches(lpu_delivery *d, const lpu_options *options, lpu_row **rows, int n)
{
	int			absent = 0;
	int			size;
	int			i;

	if (d->postponed != NULL)
	{
		lpu_rows_set_later(rows, n, d->postponed, d->postponed_ms);
		for (i = 0; i < n; i++)
			rows[i]->status = d->postponed_status;
		lpu_delivery_settle(d, rows, n);
		d->next_listed = d->nlisted;
		d->totals->unreachable |= d->postponed_status != 429;
		return;
	}
	for (i = 0; i < n; i++)
	{
		const lpu_listed_user *user = d->present ? lpu_lookup_find(d->present, rows[i]->login_name) : NULL;

		if (user != NULL)
			settle_present(d, rows[i], user);
		else
			rows[absent++] = rows[i];
	}
	size = d->few ? 1 : options->batch_size;
	for (i = 0; i < absent; i += size)
		d->ready = lappend(d->ready, lpu_batch_new(options, rows + i, Min(size, absent - i)));
}

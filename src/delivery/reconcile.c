/*
 * reconcile.c: the part of a delivery that looks up the outcome of uncertain rows.
 *
 * One listing serves all rows of a server that are due for a lookup.  Every role that may read sees
 * the whole account, so the credentials of one role after the other are tried.  While the listing
 * is under way there is no transaction, and other accounts continue: the steps of the delivery
 * advance the lookup, which never waits itself.  A user that exists with the data that were sent
 * counts as created by this delivery, since the API offers no other evidence.
 */
#include "postgres.h"

#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/encoding.h"
#include "delivery/delivery_state.h"
#include "delivery/lookup.h"
#include "http/request.h"
#include "json/to_jsonb.h"
#include "options/server.h"
#include "queue/claim_doubt.h"
#include "queue/settle.h"
#include "user/compare.h"

/* Maximum time after a 409 in which a list may lack the user that it is about. */
#define LATE_LIST_MS (5 * 60 * 1000)

/* A lookup under way. */
struct LpuReconciliation
{
	MemoryContext context;		/* the lookup itself, its rows and its
								 * listings */
	LpuLookup  *lookup;
	LpuDoubt   *doubts;
	int			n;
	List	   *servers;		/* servers not looked up yet; the first is the
								 * current one */
	bool		known;			/* ... what one of them has was found out */
	int			next;			/* the row whose role is tried next */
	const LpuOptions *options;	/* of the role as which the account is being
								 * listed, or NULL */
	const char *why;			/* no usable listing so far */
};

/*
 * Return how a user in the account differs from the data sent, as the text of an error in the
 * current memory context; NULL if it does not. Needs a transaction.
 */
char *
lpu_delivery_differences(const char *body, const LpuListedUser *user)
{
	const char *complaint = NULL;
	size_t		length = body ? strlen(body) : 0;
	char	   *utf8 = body ? lpu_text_to_utf8(body, &length) : NULL;
	Jsonb	   *sent = utf8 ? lpu_body_as_jsonb(utf8, length, &complaint) : NULL;
	Jsonb	   *listed = lpu_body_as_jsonb(user->entity, strlen(user->entity), &complaint);
	const char *names;

	if (sent == NULL || listed == NULL)
		return psprintf("login exists: user " INT64_FORMAT ", which cannot be compared with what was sent", user->id);
	names = lpu_user_differences(sent, listed);
	if (names == NULL)
		return NULL;
	return psprintf("login exists: user " INT64_FORMAT " (%s) with other data: %s", user->id,
					user->enabled ? "enabled" : "disabled", names);
}

/* ----- outcomes ----- */

/*
 * Return true if an earlier request of the row, without a response, may have created the user that
 * the last one met, although the account does not list it yet.
 */
static bool
may_be_listed_late(const LpuDoubt *doubt)
{
	return doubt->rejected && doubt->status == 409 && doubt->row.attempts > 1 &&
		!TimestampDifferenceExceeds(doubt->row.last_sent_at, GetCurrentTimestamp(), LATE_LIST_MS);
}

/* The account does not have the user. */
static void
judge_absent(LpuDoubt *doubt, int max_retries)
{
	LpuQueueRow *row = &doubt->row;

	if (may_be_listed_late(doubt))
	{
		lpu_rows_set(&row, 1, LPU_STATE_UNCERTAIN, doubt->trouble,
					 "the account says that the login exists, but does not list the user", -1);
		return;
	}
	if (doubt->accepted)
		lpu_row_set_failed(row, LPU_CAUSE_GAVE_UP,
						   psprintf("status %d, but the account does not have the user",
									doubt->status));
	else if (doubt->rejected)
		lpu_row_set_failed(row, LPU_CAUSE_REFUSED, doubt->trouble);
	else if (row->attempts > max_retries)
		lpu_row_set_failed(row, LPU_CAUSE_GAVE_UP,
						   psprintf("given up after %d attempts: %s", row->attempts,
									doubt->trouble ? doubt->trouble : "no response"));
	else
		/* the lookup has already waited for the first retry delay */
		lpu_rows_set(&row, 1, LPU_STATE_PENDING, NULL, NULL, 0);
}

static void
judge_doubt(LpuDelivery *d, LpuDoubt *doubt, const LpuLookup *lookup, int max_retries)
{
	LpuQueueRow *row = &doubt->row;
	const LpuListedUser *user = lpu_lookup_find(lookup, row->login_name);
	char	   *differences;

	if (user == NULL)
	{
		judge_absent(doubt, max_retries);
		return;
	}
	if (!doubt->accepted && lpu_delivery_login_becomes_free(d, row, user))
		return;
	differences = lpu_lookup_namesakes(user);
	if (differences != NULL)
	{
		lpu_row_set_failed(row, LPU_CAUSE_GAVE_UP, differences);
		return;
	}
	row->user_id = user->id;
	differences = doubt->accepted ? NULL : lpu_delivery_differences(row->body, user);
	if (differences == NULL)
		lpu_rows_set(&row, 1, LPU_STATE_CREATED, NULL, NULL, 0);
	else
		lpu_row_set_failed(row, LPU_CAUSE_REFUSED, differences);
}

/* The listing failed: the row stays as it is. */
static void
set_unseen(LpuDoubt *doubt, const char *why)
{
	LpuQueueRow *row = &doubt->row;

	lpu_rows_set(&row, 1, LPU_STATE_UNCERTAIN, doubt->trouble, psprintf("lookup failed: %s", why),
				 -1);
}

/*
 * The server was dropped, or is of another account now: hold the row, with what is known of its
 * outcome, to be looked up once it is released.
 */
static void
set_without_server(LpuDoubt *doubt, const char *account)
{
	LpuQueueRow *row = &doubt->row;

	lpu_rows_set(&row, 1, LPU_STATE_HELD, doubt->trouble,
				 psprintf("outcome unknown, and its server does not exist or is not of account \"%s\"",
						  account), 0);
	row->hold = LPU_HOLD_SETUP;
}

static void
settle_doubts(LpuDelivery *d, const LpuDoubt *doubts, int n, Oid server)
{
	LpuSettlement *s = lpu_settlement_new(false);
	int			i;

	for (i = 0; i < n; i++)
	{
		if (doubts[i].row.server != server)
			continue;
		lpu_settlement_add(s, &doubts[i].row);
		lpu_delivery_count(d, &doubts[i].row);
	}
	lpu_settlement_write(s);
}

/* ----- lookups ----- */

/* Return true if an earlier row has the same role and server, which have been tried already. */
static bool
doubt_role_was_tried(const LpuDoubt *doubts, int i)
{
	int			j;

	for (j = 0; j < i; j++)
		if (doubts[j].row.role == doubts[i].row.role &&
			doubts[j].row.server == doubts[i].row.server)
			return true;
	return false;
}

/*
 * In a step: begin with the next server.  A listing through another server of the account is not
 * used for its rows.
 */
static void
begin_server(struct LpuReconciliation *r)
{
	MemoryContext caller = MemoryContextSwitchTo(r->context);
	int			i;

	r->lookup = lpu_lookup_new(true);
	r->next = 0;
	r->options = NULL;
	r->why = "no role can send";
	for (i = 0; i < r->n; i++)
		if (r->doubts[i].row.server == linitial_oid(r->servers))
			lpu_lookup_add(r->lookup, r->doubts[i].row.login_name);
	MemoryContextSwitchTo(caller);
}

/* Find the rows that are due.  Return NULL if there are none. */
static struct LpuReconciliation *
begin_reconciliation(LpuDelivery *d)
{
	MemoryContext context = AllocSetContextCreate(d->context, "lpusers reconciliation",
												  ALLOCSET_DEFAULT_SIZES);
	struct LpuReconciliation *r = MemoryContextAllocZero(context, sizeof(struct LpuReconciliation));
	MemoryContext caller = lpu_delivery_begin(d);
	int			i;

	MemoryContextSwitchTo(context);
	r->context = context;
	r->doubts = lpu_claim_doubts(d->account, d->party, &r->n);
	for (i = 0; i < r->n; i++)
		r->servers = list_append_unique_oid(r->servers, r->doubts[i].row.server);
	if (r->n > 0)
		begin_server(r);
	lpu_delivery_commit(d, caller);
	if (r->n > 0)
		return r;
	MemoryContextDelete(context);
	return NULL;
}

/* List the account as the next role of the server.  Return false if all were tried. */
static bool
look_up_as_next_role(LpuDelivery *d, struct LpuReconciliation *r)
{
	for (; r->options == NULL && r->next < r->n; r->next++)
	{
		const LpuQueueRow *row = &r->doubts[r->next].row;
		MemoryContext caller;

		if (row->server != linitial_oid(r->servers) || doubt_role_was_tried(r->doubts, r->next))
			continue;
		r->why = "too many requests of the role are under way";
		if (!lpu_http_has_room(row->role))
			continue;
		caller = lpu_delivery_begin(d);
		MemoryContextSwitchTo(r->context);
		r->options = lpu_delivery_options(d, row, r->context, &r->why);
		lpu_delivery_commit(d, caller);
	}
	if (r->options == NULL)
		return false;
	lpu_lookup_start(r->lookup, r->options, 0);
	return true;
}

/*
 * A listing has ended.  Return true if no other role is to be tried; r->options are NULL if there
 * is no result.
 */
static bool
finish_lookup(LpuDelivery *d, struct LpuReconciliation *r)
{
	LpuListingResult result;
	MemoryContext caller = lpu_delivery_begin(d);

	lpu_lookup_finish(r->lookup, &result);
	d->totals->requests += result.requests;
	lpu_delivery_commit(d, caller);
	if (result.known)
		return true;
	r->why = result.why;
	r->options = NULL;
	return result.verdict == LPU_LATER || result.verdict == LPU_NOT_SENT ||
		result.verdict == LPU_UNCERTAIN;
}

/* Settle the rows of the server, and begin with the next server.  Return false if there is none. */
static bool
end_server(LpuDelivery *d, struct LpuReconciliation *r)
{
	MemoryContext caller = lpu_delivery_begin(d);
	Oid			server = linitial_oid(r->servers);
	int			i;

	MemoryContextSwitchTo(r->context);
	for (i = 0; i < r->n; i++)
		if (r->doubts[i].row.server != server)
			continue;
		else if (r->options != NULL)
			judge_doubt(d, &r->doubts[i], r->lookup, r->options->max_retries);
		else if (OidIsValid(server) && !lpu_server_serves(server, d->account))
			set_without_server(&r->doubts[i], d->account);
		else
			set_unseen(&r->doubts[i], r->why);
	settle_doubts(d, r->doubts, r->n, server);
	r->known |= r->options != NULL;
	r->servers = list_delete_first(r->servers);
	if (r->servers != NIL)
		begin_server(r);
	lpu_delivery_commit(d, caller);
	return r->servers != NIL;
}

/* Rows that are to be sent again are due now. */
static LpuStep
end_reconciliation(LpuDelivery *d, struct LpuReconciliation *r)
{
	d->reconciliation = NULL;
	d->looked = !r->known;
	d->looked_at = GetCurrentTimestamp();
	d->empty &= d->looked;
	MemoryContextDelete(r->context);
	return LPU_STEP_MOVED;
}

/*
 * Look up the rows whose outcome is unknown, if a lookup is due.  Return its progress, or
 * LPU_STEP_OVER if none is due.  Called outside of a transaction.
 */
LpuStep
lpu_delivery_look_up(LpuDelivery *d, long *wait_ms)
{
	struct LpuReconciliation *r = d->reconciliation;

	if (r == NULL)
		r = d->reconciliation = begin_reconciliation(d);
	if (r == NULL)
	{
		d->looked = true;
		d->looked_at = GetCurrentTimestamp();
		return LPU_STEP_OVER;
	}
	do
		while (r->options != NULL || look_up_as_next_role(d, r))
		{
			if (!lpu_lookup_done(r->lookup, wait_ms))
				return LPU_STEP_WAITS;
			if (finish_lookup(d, r))
				break;
		}
	while (end_server(d, r));
	return end_reconciliation(d, r);
}

/*
 * claim.c: claiming queued creates.
 *
 * One statement claims due rows of a server in the order of their time and id.  It passes over
 * logins and users of which a row is in flight, and over rows that another transaction has locked.
 * Of several due rows with one login the in-flight index refuses all but the first, which makes
 * the statement fail; then rows are claimed one by one.
 *
 * A claimer remembers the position at which its last claim ended, so that the next claim
 * does not scan the dead index entries of earlier ones.  It stops at the end of the rows that
 * were due when they were listed, because only their logins have been looked up in the account.
 *
 * Everything here needs a transaction with SPI connected, under the lock on the account.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/origin.h"
#include "base/spi_plan.h"
#include "options/server.h"
#include "queue/claim.h"
#include "queue/claim_order.h"
#include "queue/pending.h"
#include "queue/silence.h"
#include "queue/statement.h"

/*
 * Rows that may be claimed.  $1 account, $2 servers, $3 origin, $4 latest due time, $5 limit,
 * $6 silent senders.  Reads lp_requests.
 */
static const char list_sql[] =
"SELECT r.id, r.login_name, r.send_as_oid, r.send_as, r.server_oid FROM @extschema@.lp_requests r "
"WHERE r.account = $1 AND r.server_oid = ANY ($2) AND r.state = 'pending' AND NOT r.look_first"
"  AND r.operation = 'create' AND r.next_attempt_at <= $4 AND r.origin = $3"
"  AND " LPU_NOT_SILENT_SQL("r", "$6") " "
"ORDER BY r.next_attempt_at, r.id LIMIT $5";

/*
 * Due rows of a server, in order, locked.  $1 account, $2 server, $3 and $4 time and id after
 * which to begin, $5 origin, $6 ids to skip, $7 limit, $8 now, $9 silent senders, $10 senders that
 * failed.  Reads lp_requests.  Rows in flight are excluded by subqueries and not by joins, so that
 * the login is an index condition even if the table has no statistics.
 */
#define DUE_SQL \
"SELECT r.id, r.next_attempt_at, r.sent_at " \
"FROM @extschema@.lp_requests r " \
"WHERE r.account = $1 AND r.server_oid = $2 AND r.state = 'pending' AND NOT r.look_first" \
"  AND r.operation = 'create' AND r.next_attempt_at <= $8 AND (r.next_attempt_at, r.id) > ($3, $4)" \
"  AND r.origin = $5 AND r.id <> ALL ($6) AND " LPU_NOT_SILENT_SQL("r", "$9") \
"  AND (SELECT f.id FROM @extschema@.lp_requests f" \
"    WHERE f.account = $1 AND lower(f.login_name COLLATE \"C\") = lower(r.login_name COLLATE" \
"      \"C\")" \
"      AND f.server_oid = $2 AND f.state IN ('sending', 'uncertain') LIMIT 1) IS NULL" \
"  AND (r.user_id IS NULL OR (SELECT f.id FROM @extschema@.lp_requests f" \
"    WHERE f.account = $1 AND f.user_id = r.user_id AND f.server_oid = $2" \
"      AND f.state IN ('sending', 'uncertain') LIMIT 1) IS NULL)" \
"  AND (NOT EXISTS (SELECT FROM @extschema@.lp_requests c" \
"      WHERE c.account = $1 AND c.state IN ('pending', 'uncertain')" \
"        AND c.operation IN ('update', 'delete'))" \
"    OR (SELECT f.id FROM @extschema@.lp_requests f" \
"      WHERE f.account = $1 AND lower(f.login_name COLLATE \"C\") = lower(r.login_name COLLATE" \
"        \"C\")" \
"        AND f.login_name IS NOT NULL AND f.server_oid = $2 AND f.state IN ('pending', 'held')" \
"        AND f.state = 'pending' AND f.operation <> 'create' AND f.id < r.id" \
"        AND " LPU_ORDERS_SQL("f", "r", LPU_NOT_SILENT_SQL("f", "$10")) " LIMIT 1) IS NULL) " \
"ORDER BY r.next_attempt_at, r.id LIMIT $7 FOR UPDATE OF r SKIP LOCKED"

static const char due_sql[] = DUE_SQL;

/*
 * Claim them; a trigger may change a row, or keep it from being claimed.  The due rows are stored
 * before the first is written: read again, they would be other rows.  Parameters as above.  Writes
 * lp_requests, reads lp_payloads.
 */
static const char claim_sql[] =
"WITH due AS MATERIALIZED (" DUE_SQL ") "
"UPDATE @extschema@.lp_requests r "
"SET state = 'sending', attempts = r.attempts + 1, sent_at = clock_timestamp(),"
"  next_attempt_at = NULL, status = NULL, error = NULL, reason = NULL "
"FROM due d WHERE r.id = d.id "
"RETURNING d.id, d.next_attempt_at, r.state = 'sending', r.login_name, r.send_as, r.send_as_oid,"
"  r.attempts, d.sent_at,"
"  (SELECT p.body FROM @extschema@.lp_payloads p WHERE p.request_id = d.id)";

/* How far the rows of a server have been claimed. */
typedef struct ServerCursor
{
	Oid			server;
	TimestampTz at;				/* of the last row */
	int64		id;
	bool		ended;
} ServerCursor;

struct LpuClaimer
{
	const char *account;
	Oid			party;
	MemoryContext context;		/* of the cursors */
	ServerCursor *servers;
	int			nservers;
	int			next;			/* the server whose turn it is */
	TimestampTz until;			/* rows that are due later are not claimed */
};

/* ----- servers ----- */

/* Return a claimer that has not begun, in the current memory context. */
LpuClaimer *
lpu_claimer_new(const char *account, Oid party)
{
	LpuClaimer *c = palloc0(sizeof(LpuClaimer));

	c->account = account;
	c->party = party;
	c->context = CurrentMemoryContext;
	c->until = GetCurrentTimestamp();
	return c;
}

/* Claim only rows that were due at this time. */
void
lpu_claimer_set_until(LpuClaimer *c, TimestampTz until)
{
	c->until = until;
}

/* The next claim begins at the front. */
void
lpu_claimer_restart(LpuClaimer *c)
{
	int			i;

	for (i = 0; i < c->nservers; i++)
	{
		c->servers[i].at = DT_NOBEGIN;
		c->servers[i].ended = false;
	}
}

/* Claim only rows of the servers of these, which are due now. */
static void
set_servers(LpuClaimer *c, const LpuQueueRow *due, int n)
{
	List	   *servers = NIL;
	ListCell   *cell;
	int			i;

	for (i = 0; i < n; i++)
		servers = list_append_unique_oid(servers, due[i].server);
	if (c->servers != NULL)
		pfree(c->servers);
	c->servers = MemoryContextAllocZero(c->context,
										Max(list_length(servers), 1) * sizeof(ServerCursor));
	c->nservers = 0;
	foreach(cell, servers)
		c->servers[c->nservers++].server = lfirst_oid(cell);
	list_free(servers);
	lpu_claimer_restart(c);
}

/* Return the server whose turn it is, or NULL if all are at their end. */
static ServerCursor *
next_server(LpuClaimer *c)
{
	int			i;

	for (i = 0; i < c->nservers; i++)
	{
		ServerCursor *cursor = &c->servers[c->next++ % c->nservers];

		if (!cursor->ended)
			return cursor;
	}
	return NULL;
}

/* ----- claiming ----- */

/* One claim at work. */
typedef struct ClaimRun
{
	LpuClaimer *claimer;
	ServerCursor *cursor;
	int			max;
	LpuClaimGroup *from;
	LpuQueueRow **rows;
	int			n;
} ClaimRun;

static void
run_due(const ClaimRun *w, const char *sql)
{
	Oid			types[10] = {TEXTOID, OIDOID, TIMESTAMPTZOID, INT8OID, TEXTOID, INT8ARRAYOID,
	INT4OID, TIMESTAMPTZOID, INT8ARRAYOID, INT8ARRAYOID};
	Datum		values[10] = {CStringGetTextDatum(w->claimer->account),
		ObjectIdGetDatum(w->cursor->server),
		TimestampTzGetDatum(w->cursor->at), Int64GetDatum(w->cursor->id),
		CStringGetTextDatum(lpu_origin_text()),
		lpu_queue_passed_over(), Int32GetDatum(w->max), TimestampTzGetDatum(w->claimer->until),
	lpu_silence_senders(false), lpu_silence_senders(true)};

	lpu_queue_run(sql, 10, types, values);
}

/* Row i of the result, in the current memory context. */
static LpuQueueRow *
read_claimed(ClaimRun *w, int i)
{
	LpuQueueRow *row = lpu_claim_add(w->from);
	char	   *role;

	row->id = lpu_int64_column(i, 1);
	row->login_name = lpu_text_column(i, 4);
	row->role = lpu_oid_column(i, 6);

	/* current name of a renamed role; the stored name of a dropped role */
	role = GetUserNameFromId(row->role, true);
	row->send_as = role ? role : lpu_text_column(i, 5);
	row->server = w->cursor->server;
	row->attempts = lpu_int_column(i, 7);
	row->sent_before = row->attempts > 1;
	row->last_sent_at = lpu_timestamp_column(i, 8);
	/* without a login the response could not be matched to the row */
	row->body = row->login_name ? lpu_text_column(i, 9) : NULL;
	return row;
}

/* Claim at most w->max rows after the cursor, and move it behind them. */
static void
claim_after(void *arg)
{
	ClaimRun   *w = arg;
	MemoryContext caller = MemoryContextSwitchTo(lpu_claim_group_context(w->from));
	int			n;
	int			i;

	run_due(w, claim_sql);
	n = (int) SPI_processed;
	for (i = 0; i < n; i++)
		if (lpu_bool_column(i, 3))
			w->rows[w->n++] = read_claimed(w, i);
	if (n > 0)
	{
		w->cursor->at = lpu_timestamp_column(n - 1, 2);
		w->cursor->id = lpu_int64_column(n - 1, 1);
	}
	MemoryContextSwitchTo(caller);
	SPI_freetuptable(SPI_tuptable);
}

/*
 * The claim of several rows raised an error, or claimed none: claim each alone, and hold those that
 * raise again.
 */
static void
claim_each(ClaimRun *w)
{
	int			left = w->max;

	w->max = 1;
	for (w->cursor->ended = false; left > 0 && !w->cursor->ended; left--)
	{
		TimestampTz at;
		int64		id;
		char	   *message;

		CHECK_FOR_INTERRUPTS();
		run_due(w, due_sql);
		w->cursor->ended = SPI_processed == 0;
		if (w->cursor->ended)
			return;
		id = lpu_int64_column(0, 1);
		at = lpu_timestamp_column(0, 2);
		SPI_freetuptable(SPI_tuptable);
		message = lpu_queue_try(claim_after, w);
		w->cursor->at = at;
		w->cursor->id = id;
		if (message == NULL)
			continue;
		lpu_pending_hold_rows(&id, 1, LPU_HOLD_SETUP,
							  psprintf("the row cannot be claimed: %s", message));
	}
}

/*
 * Claim at most "max" rows of one of the listed servers, and return them in order, in a memory
 * context of their own below the current one; NULL at the end. Rows may have been skipped.
 */
LpuQueueRow **
lpu_claim_rows(LpuClaimer *c, int max, int *n)
{
	ClaimRun	w = {.claimer = c,.from = lpu_claim_group()};

	w.rows = MemoryContextAlloc(lpu_claim_group_context(w.from), max * sizeof(LpuQueueRow *));
	while ((w.cursor = next_server(c)) != NULL)
	{
		w.max = max;
		w.n = 0;
		/* it may have been paused since its rows were listed */
		w.cursor->ended = lpu_server_is_paused(w.cursor->server);
		if (w.cursor->ended)
			continue;
		if (lpu_queue_try(claim_after, &w) != NULL)
		{
			w.n = 0;
			lpu_claim_group_clear(w.from);
		}
		if (w.n == 0)
			claim_each(&w);
		*n = w.n;
		if (w.n > 0)
			return w.rows;
	}
	*n = 0;
	MemoryContextDelete(lpu_claim_group_context(w.from));
	return NULL;
}

/* ----- what is due ----- */

/*
 * Return the first of the rows that are due.  From now on only rows of their
 * servers are claimed.
 */
LpuQueueRow *
lpu_claim_list(LpuClaimer *c, int max, int *n)
{
	Oid			types[6] = {TEXTOID, OIDARRAYOID, TEXTOID, TIMESTAMPTZOID, INT4OID, INT8ARRAYOID};
	Datum		values[6];
	LpuQueueRow *rows;
	int			i;

	values[0] = CStringGetTextDatum(c->account);
	values[1] = lpu_pending_servers(c->account, c->party);
	values[2] = CStringGetTextDatum(lpu_origin_text());
	values[3] = TimestampTzGetDatum(c->until);
	values[4] = Int32GetDatum(max);
	values[5] = lpu_silence_senders(false);
	lpu_queue_run(list_sql, 6, types, values);
	*n = (int) SPI_processed;
	rows = palloc_extended(Max(*n, 1) * sizeof(LpuQueueRow), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (i = 0; i < *n; i++)
	{
		char	   *role;

		rows[i].id = lpu_int64_column(i, 1);
		rows[i].login_name = lpu_text_column(i, 2);
		rows[i].role = lpu_oid_column(i, 3);
		role = GetUserNameFromId(rows[i].role, true);
		rows[i].send_as = role ? role : lpu_text_column(i, 4);
		rows[i].server = lpu_oid_column(i, 5);
	}
	SPI_freetuptable(SPI_tuptable);
	set_servers(c, rows, *n);
	return rows;
}

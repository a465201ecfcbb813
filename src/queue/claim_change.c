/*
 * claim_change.c: claiming queued updates and deletes.
 *
 * Updates and deletes are claimed in the order of phase and id, for one role of one server at a
 * time, because a request has the credentials of one role.  A pending row waits until all earlier
 * requests of its user on its server, including creates, are finished, except those of another role
 * that are held or whose account is not reached; one by login also waits for
 * an earlier rename that gives the login to a user.  Uncertain rows are
 * claimed like pending ones, since the deliverer reads the users before it sends
 * (delivery/change_chain.c); an uncertain row does not wait for earlier rows, since these wait
 * for it.  Everything here needs a transaction with SPI connected, under the lock on the account.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/origin.h"
#include "base/spi_plan.h"
#include "options/server.h"
#include "queue/claim_change.h"
#include "queue/claim_order.h"
#include "queue/pending.h"
#include "queue/silence.h"
#include "queue/statement.h"

/*
 * Rows that are due.  $1 account, $2 origin, $3 ids to skip, $4 servers that may be sent to, $5
 * servers that are paused or of other parties, $6 silent senders, $7 senders that failed.  Rows in
 * flight and earlier waiting rows are found by subqueries, each of which can use one index.  Reads
 * lp_requests.
 */
#define DUE_SQL \
"  FROM @extschema@.lp_requests r" \
"  WHERE r.account = $1 AND r.state IN ('pending', 'uncertain')" \
"    AND r.operation IN ('update', 'delete') AND r.next_attempt_at <= clock_timestamp()" \
"    AND r.origin = $2 AND r.id <> ALL ($3) AND " LPU_NOT_SILENT_SQL("r", "$6") \
"    AND CASE WHEN r.state = 'uncertain' THEN r.server_oid <> ALL ($5) ELSE" \
"      NOT r.look_first AND r.server_oid = ANY ($4)" \
"      AND (r.login_name IS NULL OR (SELECT f.id FROM @extschema@.lp_requests f" \
"          WHERE f.account = $1 AND lower(f.login_name COLLATE \"C\")" \
"              = lower(r.login_name COLLATE \"C\")" \
"            AND f.server_oid = r.server_oid AND f.state IN ('sending', 'uncertain')" \
"          LIMIT 1) IS NULL" \
"        AND (SELECT f.id FROM @extschema@.lp_requests f" \
"          WHERE f.account = $1 AND lower(f.login_name COLLATE \"C\")" \
"              = lower(r.login_name COLLATE \"C\")" \
"            AND f.login_name IS NOT NULL AND f.server_oid = r.server_oid" \
"            AND f.state IN ('pending', 'held') AND f.hold IS DISTINCT FROM 'elsewhere'" \
"            AND " LPU_ORDERS_SQL("f", "r", LPU_NOT_SILENT_SQL("f", "$7")) \
"            AND f.id < r.id LIMIT 1) IS NULL)" \
"      AND (r.user_id IS NOT NULL OR " LPU_OLDER_RENAME_SQL("r") " IS NULL)" \
"      AND (r.user_id IS NULL OR (SELECT f.id FROM @extschema@.lp_requests f" \
"          WHERE f.account = $1 AND f.user_id = r.user_id AND f.server_oid = r.server_oid" \
"            AND f.state IN ('sending', 'uncertain') LIMIT 1) IS NULL" \
"        AND (SELECT f.id FROM @extschema@.lp_requests f" \
"          WHERE f.account = $1 AND f.user_id = r.user_id AND f.server_oid = r.server_oid" \
"            AND f.state IN ('pending', 'held') AND f.hold IS DISTINCT FROM 'elsewhere'" \
"            AND " LPU_ORDERS_SQL("f", "r", LPU_NOT_SILENT_SQL("f", "$7")) \
"            AND f.id < r.id LIMIT 1) IS NULL) END"

/* The first of them. */
static const char next_sql[] =
"SELECT r.server_oid, r.send_as_oid, r.id" DUE_SQL " ORDER BY r.phase, r.id LIMIT 1";

/*
 * Claim the rows of a server, $8, and a role, $9; $10 limit.  Returns the claimed rows in order,
 * with their earlier values.  Writes lp_requests, reads lp_payloads.
 */
static const char claim_sql[] =
"WITH due AS MATERIALIZED ("
"  SELECT r.id, r.state, r.sent_at, r.status, r.error, r.reason" DUE_SQL
"    AND r.server_oid = $8 AND r.send_as_oid = $9"
"  ORDER BY r.phase, r.id LIMIT $10"
"  FOR UPDATE OF r SKIP LOCKED"
"), claimed AS ("
"  UPDATE @extschema@.lp_requests r"
"  SET state = 'sending', attempts = r.attempts + 1, sent_at = clock_timestamp(),"
"    next_attempt_at = NULL, status = NULL, error = NULL, reason = NULL"
"  FROM due d WHERE r.id = d.id"
"  RETURNING r.id, r.state, r.phase, r.operation, r.login_name, r.user_id, r.send_as, r.attempts,"
"    r.plan, r.outcome, d.sent_at, d.state AS was, d.status, coalesce(d.error, d.reason) AS error"
")"
"SELECT c.id, c.phase, c.operation = 'delete', c.login_name, c.user_id, c.send_as, c.attempts,"
"  c.sent_at, c.was = 'uncertain', c.status, c.error, c.plan IS NOT NULL,"
"  coalesce(c.outcome->'by_login' = 'true', false),"
"  (SELECT p.body::text FROM @extschema@.lp_payloads p WHERE p.request_id = c.id) "
"FROM claimed c WHERE c.state = 'sending' ORDER BY c.phase, c.id";

/* The parameters of DUE_SQL. */
#define DUE_PARAMS 7

typedef struct ChangeClaim
{
	const char *account;
	Oid			party;
	const LpuNextChange *next;
	int			max;
	LpuClaimGroup *group;
	LpuQueueRow **rows;
	int			n;
} ChangeClaim;

/*
 * Set the parameters of DUE_SQL; "probing": with senders that failed and may be tried again.
 * Rows that have no server get one, or are held.
 */
static void
due_params(const char *account, Oid party, bool probing, Oid *types, Datum *values)
{
	types[0] = types[1] = TEXTOID;
	types[2] = INT8ARRAYOID;
	types[3] = types[4] = OIDARRAYOID;
	values[0] = CStringGetTextDatum(account);
	values[1] = CStringGetTextDatum(lpu_origin_text());
	values[2] = lpu_queue_passed_over();
	values[3] = lpu_pending_servers(account, party);
	values[4] = lpu_server_excluded_array(party);
	types[5] = types[6] = INT8ARRAYOID;
	values[5] = lpu_silence_senders(!probing);
	values[6] = lpu_silence_senders(true);
}

static int64
find_next_of(const char *account, Oid party, bool probing, LpuNextChange *next)
{
	Oid			types[DUE_PARAMS];
	Datum		values[DUE_PARAMS];
	int64		id = 0;

	due_params(account, party, probing, types, values);
	lpu_queue_run(next_sql, DUE_PARAMS, types, values);
	if (SPI_processed > 0)
	{
		next->server = lpu_oid_column(0, 1);
		next->role = lpu_oid_column(0, 2);
		id = lpu_int64_column(0, 3);
	}
	SPI_freetuptable(SPI_tuptable);
	return id;
}

/*
 * Return the id of the row to be claimed next, 0 if there is none.  Those of senders whose account
 * was reached come first.
 */
static int64
find_next(const char *account, Oid party, LpuNextChange *next)
{
	int64		id = find_next_of(account, party, false, next);

	if (id == 0 && lpu_silence_any())
		id = find_next_of(account, party, true, next);
	return id;
}

/*
 * Return true if an update or delete of the account can be claimed for a party now; *next gets the
 * role and the server of the first one.
 */
bool
lpu_claim_next_change(const char *account, Oid party, LpuNextChange *next)
{
	return find_next(account, party, next) != 0;
}

/* Return row i of the result, in the current memory context, which is that of the claim. */
static LpuQueueRow *
read_change_row(ChangeClaim *claim, int i)
{
	LpuQueueRow *row = lpu_claim_add(claim->group);
	char	   *role = GetUserNameFromId(claim->next->role, true);

	row->id = lpu_int64_column(i, 1);
	row->phase = lpu_int_column(i, 2);
	row->deletes = lpu_bool_column(i, 3);
	row->login_name = lpu_text_column(i, 4);
	row->target = lpu_int64_column(i, 5);
	row->role = claim->next->role;
	row->send_as = role ? role : lpu_text_column(i, 6);
	row->server = claim->next->server;
	row->attempts = lpu_int_column(i, 7);
	row->last_sent_at = lpu_timestamp_column(i, 8);
	row->doubtful = lpu_bool_column(i, 9);
	row->last_status = lpu_int_column(i, 10);
	row->last_error = lpu_text_column(i, 11);
	row->planned = lpu_bool_column(i, 12);
	row->by_login = lpu_bool_column(i, 13);
	row->body = lpu_text_column(i, 14);
	return row;
}

static void
run_claim(void *arg)
{
	ChangeClaim *claim = arg;
	Oid			types[DUE_PARAMS + 3];
	Datum		values[DUE_PARAMS + 3];
	MemoryContext caller = CurrentMemoryContext;
	int			i;

	due_params(claim->account, claim->party, true, types, values);
	types[DUE_PARAMS] = types[DUE_PARAMS + 1] = OIDOID;
	types[DUE_PARAMS + 2] = INT4OID;
	values[DUE_PARAMS] = ObjectIdGetDatum(claim->next->server);
	values[DUE_PARAMS + 1] = ObjectIdGetDatum(claim->next->role);
	values[DUE_PARAMS + 2] = Int32GetDatum(claim->max);
	lpu_queue_run(claim_sql, lengthof(types), types, values);
	MemoryContextSwitchTo(lpu_claim_group_context(claim->group));
	for (i = 0; i < (int) SPI_processed; i++)
		claim->rows[claim->n++] = read_change_row(claim, i);
	MemoryContextSwitchTo(caller);
	SPI_freetuptable(SPI_tuptable);
}

/*
 * The claim of several rows raised an error: claim the first one alone.  If this raises, too,
 * hold the row, or skip it if it cannot be held.
 */
static void
claim_first(ChangeClaim *claim)
{
	LpuNextChange next;
	int64		id;
	char	   *message;

	claim->max = 1;
	while ((id = find_next(claim->account, claim->party, &next)) != 0 &&
		   next.role == claim->next->role && next.server == claim->next->server)
	{
		CHECK_FOR_INTERRUPTS();
		message = lpu_queue_try(run_claim, claim);
		if (message == NULL)
			return;
		claim->n = 0;
		lpu_claim_group_clear(claim->group);
		if (lpu_pending_hold_rows(&id, 1, LPU_HOLD_SETUP,
								  psprintf("the row cannot be claimed: %s", message)) == 0)
			lpu_queue_pass_over(id, message, true);
	}
}

/*
 * Claim at most "max" updates and deletes of the server and role that lpu_claim_next_change()
 * found, and return them in order, allocated in a memory context of their own, a child of the
 * current one. Returns NULL if none is left.
 */
LpuQueueRow **
lpu_claim_changes(const char *account, Oid party, const LpuNextChange *next, int max, int *n)
{
	ChangeClaim claim = {.account = account,.party = party,.next = next,.max = max};

	claim.group = lpu_claim_group();
	claim.rows = MemoryContextAlloc(lpu_claim_group_context(claim.group),
									max * sizeof(LpuQueueRow *));
	if (lpu_queue_try(run_claim, &claim) != NULL)
	{
		claim.n = 0;
		lpu_claim_group_clear(claim.group);
		claim_first(&claim);
	}
	*n = claim.n;
	if (claim.n > 0)
		return claim.rows;
	MemoryContextDelete(lpu_claim_group_context(claim.group));
	return NULL;
}

/*
 * Complete the payloads of requests, $1, of users, $2, of account $3: links have the last sent
 * values of the attributes that the account does not show.  Reads lp_payloads and the links.
 */
static const char hidden_sql[] =
"SELECT u.n, (p.body::jsonb || jsonb_build_object('hidden',"
"    l.hidden || coalesce(p.body::jsonb->'hidden', '{}'::jsonb)))::text "
"FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS u (id, user_id, n)"
"  JOIN @extschema@.lp_payloads p ON p.request_id = u.id"
"  CROSS JOIN LATERAL (SELECT k.hidden FROM @extschema@._lp_sync_link k"
"    JOIN @extschema@._lp_sync s ON s.id = k.sync"
"    WHERE k.user_id = u.user_id AND s.account = $3 AND k.state <> 'gone'"
"    ORDER BY k.since DESC LIMIT 1) l "
"WHERE l.hidden <> '{}'::jsonb";

/*
 * Complete the payloads of n requests that are not of a plan, whose users are known by now, with
 * what the account does not show and a sync has sent.
 */
void
lpu_claim_add_hidden(const char *account, LpuQueueRow **rows, const int64 *users, int n)
{
	int64	   *ids = palloc(n * sizeof(int64));
	Oid			types[3] = {INT8ARRAYOID, INT8ARRAYOID, TEXTOID};
	Datum		values[3];
	int			i;

	for (i = 0; i < n; i++)
		ids[i] = rows[i]->id;
	values[0] = lpu_queue_id_array(ids, n);
	values[1] = lpu_queue_id_array(users, n);
	values[2] = CStringGetTextDatum(account);
	lpu_queue_run(hidden_sql, 3, types, values);
	for (i = 0; i < (int) SPI_processed; i++)
	{
		LpuQueueRow *row = rows[lpu_int64_column(i, 1) - 1];

		row->body = MemoryContextStrdup(GetMemoryChunkContext(row->body), lpu_text_column(i, 2));
	}
	SPI_freetuptable(SPI_tuptable);
}

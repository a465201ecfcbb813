/*
 * claim_doubt.c: creates of the queue whose outcome is to be looked up.
 *
 * The rows are only read: the deliverer holds the lock of the account, so that no other process
 * settles these rows, and a failed lookup does not change them.  Needs a transaction with SPI
 * connected.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "base/spi_plan.h"
#include "options/server.h"
#include "queue/claim_doubt.h"
#include "queue/statement.h"

/*
 * The rows of an account whose outcome has to be looked up now, with their payloads.  When one row
 * is due, all are returned, since one listing of the account settles all of them.  $1 account, $2
 * OIDs of servers that are paused, or of other parties.  Reads lp_requests and lp_payloads.
 */
static const char doubts_sql[] =
"SELECT r.id, r.send_as, r.send_as_oid, r.server_oid, r.login_name, r.attempts, r.sent_at,"
"  b.body::text, r.status, r.error,"
"  r.error IS NOT NULL AND r.status BETWEEN 300 AND 499 AND r.status NOT IN (401, 408, 425, 429), r.reason "
"FROM @extschema@.lp_requests r"
"  LEFT JOIN LATERAL (SELECT p.body FROM @extschema@.lp_payloads p WHERE p.request_id = r.id LIMIT 1) b"
"    ON true "
"WHERE r.account = $1 AND r.state = 'uncertain' AND r.operation = 'create'"
"  AND r.server_oid <> ALL ($2)"
"  AND r.next_attempt_at <= clock_timestamp() + interval '1 second'"
"  AND EXISTS (SELECT FROM @extschema@.lp_requests d"
"    WHERE d.account = $1 AND d.state = 'uncertain' AND d.operation = 'create' AND d.server_oid <> ALL ($2)"
"      AND d.next_attempt_at <= clock_timestamp()) "
"ORDER BY r.id";

/* Return the rows of a party to be looked up now; *n is 0 if none is due. */
LpuDoubt *
lpu_claim_doubts(const char *account, Oid party, int *n)
{
	Oid			types[2] = {TEXTOID, OIDARRAYOID};
	Datum		values[2] = {CStringGetTextDatum(account), lpu_server_excluded_array(party)};
	LpuDoubt   *doubts;
	int			i;

	lpu_queue_run(doubts_sql, 2, types, values);
	*n = (int) SPI_processed;
	doubts = palloc_extended(Max(*n, 1) * sizeof(LpuDoubt), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (i = 0; i < *n; i++)
	{
		LpuQueueRow *row = &doubts[i].row;
		char	   *role;

		row->id = lpu_int64_column(i, 1);
		row->role = lpu_oid_column(i, 3);
		role = GetUserNameFromId(row->role, true);
		row->send_as = role ? role : lpu_text_column(i, 2);
		row->server = lpu_oid_column(i, 4);
		row->login_name = lpu_text_column(i, 5);
		row->attempts = lpu_int_column(i, 6);
		row->last_sent_at = lpu_timestamp_column(i, 7);
		row->body = lpu_text_column(i, 8);
		doubts[i].status = lpu_int_column(i, 9);
		doubts[i].accepted = doubts[i].status / 100 == 2;
		doubts[i].trouble = lpu_text_column(i, 10);
		doubts[i].rejected = lpu_bool_column(i, 11);

		/*
		 * error: from the response; reason: possibly from a failed lookup
		 */
		if (doubts[i].trouble == NULL)
			doubts[i].trouble = lpu_text_column(i, 12);
	}
	SPI_freetuptable(SPI_tuptable);
	return doubts;
}

/*
 * Creates whose outcome is unknown, and when they are to be looked up.  $1 account, $2 server; $3:
 * only older requests than this.  Reads lp_requests.
 */
static const char uncertain_creates_sql[] =
"SELECT r.id, r.login_name,"
"  greatest(extract(epoch FROM r.next_attempt_at - clock_timestamp()) * 1000, 0)::bigint "
"FROM @extschema@.lp_requests r "
"WHERE r.account = $1 AND r.server_oid = $2 AND r.state = 'uncertain' AND r.operation = 'create'"
"  AND r.id < $3";

/*
 * Return the creates of a server whose outcome is unknown and that are older than a request, in
 * the current memory context.
 */
LpuUncertainCreate *
lpu_claim_find_uncertain_creates(const char *account, Oid server, int64 newest, int *n)
{
	Oid			types[3] = {TEXTOID, OIDOID, INT8OID};
	Datum		values[3] = {CStringGetTextDatum(account), ObjectIdGetDatum(server),
	Int64GetDatum(newest)};
	LpuUncertainCreate *creates;
	int			i;

	lpu_queue_run(uncertain_creates_sql, 3, types, values);
	*n = (int) SPI_processed;
	creates = palloc(Max(*n, 1) * sizeof(LpuUncertainCreate));
	for (i = 0; i < *n; i++)
	{
		creates[i].id = lpu_int64_column(i, 1);
		creates[i].login_name = lpu_text_column(i, 2);
		creates[i].wait_ms = lpu_int64_column(i, 3);
	}
	SPI_freetuptable(SPI_tuptable);
	return creates;
}

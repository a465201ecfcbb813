/*
 * backlog.c: summary of the unfinished requests: their number, the next due time, the latest
 * error.
 *
 * Only unfinished rows are read, by the partial indexes.  Rows of paused servers have no due
 * time.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/spi_plan.h"
#include "options/server.h"
#include "queue/backlog.h"
#include "queue/statement.h"

/*
 * $1 account, or empty for all; $2 the servers that are paused.  Returns the number of waiting
 * and of held rows, the next due time, the paused accounts, and the latest error.  Reads
 * lp_requests.
 */
static const char backlog_sql[] =
"WITH open AS ("
"  SELECT r.account, r.server_oid, r.next_attempt_at, r.sent_at, coalesce(r.error, r.reason) AS trouble"
"  FROM @extschema@.lp_requests r WHERE r.state = 'pending' AND NOT r.look_first"
"  UNION ALL"
"  SELECT r.account, r.server_oid, r.next_attempt_at, r.sent_at, coalesce(r.error, r.reason)"
"  FROM @extschema@.lp_requests r WHERE r.state = 'pending' AND r.look_first"
"  UNION ALL"
"  SELECT r.account, r.server_oid, r.next_attempt_at, r.sent_at, coalesce(r.error, r.reason)"
"  FROM @extschema@.lp_requests r WHERE r.state IN ('sending', 'uncertain')) "
"SELECT count(*),"
"  (SELECT count(*) FROM @extschema@.lp_requests h"
"    WHERE h.state = 'held' AND ($1 = '' OR h.account = $1)),"
"  min(o.next_attempt_at) FILTER (WHERE o.server_oid <> ALL ($2)),"
"  string_agg(DISTINCT o.account, ', ') FILTER (WHERE o.server_oid = ANY ($2)),"
"  (array_agg(o.trouble ORDER BY o.sent_at DESC NULLS LAST)"
"    FILTER (WHERE o.trouble IS NOT NULL))[1] "
"FROM open o WHERE $1 = '' OR o.account = $1";

/* Returns true if account $1 has an unfinished request.  Reads lp_requests. */
static const char knows_sql[] =
"SELECT EXISTS (SELECT FROM @extschema@.lp_requests r"
"    WHERE r.state = 'pending' AND NOT r.look_first AND r.account = $1)"
"  OR EXISTS (SELECT FROM @extschema@.lp_requests r"
"    WHERE r.state = 'pending' AND r.look_first AND r.account = $1)"
"  OR EXISTS (SELECT FROM @extschema@.lp_requests r WHERE r.state = 'held' AND r.account = $1)"
"  OR EXISTS (SELECT FROM @extschema@.lp_requests r"
"    WHERE r.state IN ('sending', 'uncertain') AND r.account = $1)";

/* Return the backlog of an account, or of all accounts if it is NULL. */
LpuBacklog
lpu_backlog(const char *account)
{
	LpuBacklog	left = {0};
	Oid			types[2] = {TEXTOID, OIDARRAYOID};
	Datum		values[2] = {CStringGetTextDatum(account ? account : ""),
	lpu_server_paused_array()};

	lpu_queue_run(backlog_sql, 2, types, values);
	left.waiting = lpu_int64_column(0, 1);
	left.held = lpu_int64_column(0, 2);
	left.next = lpu_timestamp_column(0, 3);
	left.paused = lpu_text_column(0, 4);
	left.trouble = lpu_text_column(0, 5);
	if (left.next <= GetCurrentTimestamp())
		left.next = 0;
	return left;
}

/* Return true if the account has unfinished requests. */
bool
lpu_backlog_knows(const char *account)
{
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {CStringGetTextDatum(account)};

	lpu_queue_run(knows_sql, 1, types, values);
	return lpu_bool_column(0, 1);
}

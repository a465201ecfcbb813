/*
 * pending.c: operations on all pending rows of an account.
 *
 * A row belongs to one server, and the options of that server alone decide whether it may be
 * sent.  A row that was held because its role could use no server of the account has no server
 * yet.  Everything here needs a transaction with SPI connected, and skips rows locked by other
 * transactions.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/error.h"
#include "base/spi_plan.h"
#include "options/server.h"
#include "queue/pending.h"
#include "queue/statement.h"

/*
 * Servers with pending rows of an account, one index descent each.  $1 account, $2 now.  Returns
 * the server's OID (0: none yet), its name in one of the rows, and true if the service requested
 * a delay (429).  Reads lp_requests.
 */
static const char servers_sql[] =
"WITH RECURSIVE found (server_oid) AS ("
"  (SELECT r.server_oid FROM @extschema@.lp_requests r"
"   WHERE r.account = $1 AND r.state = 'pending' AND NOT r.look_first ORDER BY r.account,"
"     r.server_oid LIMIT 1)"
"  UNION ALL"
"  SELECT next.server_oid FROM found f, LATERAL ("
"   SELECT r.server_oid FROM @extschema@.lp_requests r"
"   WHERE r.account = $1 AND r.state = 'pending' AND NOT r.look_first AND r.server_oid >"
"     f.server_oid"
"   ORDER BY r.account, r.server_oid LIMIT 1) next)"
"SELECT f.server_oid,"
"  (SELECT r.server FROM @extschema@.lp_requests r"
"   WHERE r.account = $1 AND r.server_oid = f.server_oid AND r.state = 'pending' AND NOT"
"     r.look_first LIMIT 1),"
"  EXISTS (SELECT FROM @extschema@.lp_requests r"
"   WHERE r.account = $1 AND r.server_oid = f.server_oid AND r.state = 'pending' AND NOT"
"     r.look_first"
"     AND r.status = 429 AND r.next_attempt_at > $2 OFFSET 0) "
"FROM found f";

/*
 * Rows that are pending for a server, and for a role unless it is 0. $1 account, $2 server, $3
 * role. Reads lp_requests.
 */
static const char pending_sql[] =
"SELECT r.id FROM @extschema@.lp_requests r"
" WHERE r.account = $1 AND r.server_oid = $2 AND r.state = 'pending' AND NOT r.look_first"
"   AND ($3 = 0 OR r.send_as_oid = $3)";

/* Hold rows.  $1 ids, $2 kind, $3 reason.  Writes lp_requests. */
static const char hold_sql[] =
"WITH locked AS MATERIALIZED ("
"  SELECT r.id FROM @extschema@.lp_requests r"
"  WHERE r.id = ANY ($1) AND r.state = 'pending' FOR UPDATE SKIP LOCKED)"
"UPDATE @extschema@.lp_requests r"
" SET state = 'held', hold = $2, reason = $3, next_attempt_at = NULL, held_at = clock_timestamp() "
"FROM locked l WHERE r.id = l.id RETURNING r.id";

/* Roles for which rows without a server are pending.  $1 account.  Reads lp_requests. */
static const char roles_sql[] =
"SELECT DISTINCT r.send_as_oid, r.send_as FROM @extschema@.lp_requests r"
" WHERE r.account = $1 AND r.server_oid = 0 AND r.state = 'pending' AND NOT r.look_first";

/* Give pending rows a server.  $1 ids, $2 and $3 its OID and name.  Writes lp_requests. */
static const char assign_sql[] =
"WITH locked AS MATERIALIZED ("
"  SELECT r.id FROM @extschema@.lp_requests r"
"  WHERE r.id = ANY ($1) AND r.state = 'pending' FOR UPDATE SKIP LOCKED)"
"UPDATE @extschema@.lp_requests r SET server_oid = $2, server = $3 "
"FROM locked l WHERE r.id = l.id RETURNING r.id";

/* The ids that are pending for a role on a server, in the current memory context. */
static int64 *
find_pending_rows(const char *account, Oid server, Oid role, int *n)
{
	Oid			types[3] = {TEXTOID, OIDOID, OIDOID};
	Datum		values[3] = {CStringGetTextDatum(account), ObjectIdGetDatum(server),
	ObjectIdGetDatum(role)};
	int64	   *ids;

	lpu_queue_run(pending_sql, 3, types, values);
	ids = lpu_queue_ids(n);
	SPI_freetuptable(SPI_tuptable);
	return ids;
}

/* Hold rows; skip one that cannot be held. */
int64
lpu_pending_hold_rows(const int64 *ids, int n, LpuHoldKind kind, const char *why)
{
	Oid			types[3] = {INT8ARRAYOID, TEXTOID, TEXTOID};
	Datum		values[3] = {(Datum) 0, CStringGetTextDatum(lpu_hold_kind_name(kind)),
	CStringGetTextDatum(why)};

	return lpu_queue_change(hold_sql, ids, n, 3, types, values);
}

/*
 * Hold the rows that are pending for a role on a server, or for all roles if it is InvalidOid.
 * Returns the number of held rows.
 */
int64
lpu_pending_hold(const char *account, Oid server, Oid role, LpuHoldKind kind, const char *why)
{
	int			n;
	int64	   *ids = find_pending_rows(account, server, role, &n);

	return lpu_pending_hold_rows(ids, n, kind, why);
}

/*
 * Assign to pending rows without a server the server that their role can use for the account, or
 * hold them.
 */
static void
assign_servers(const char *account)
{
	Oid			types[3] = {TEXTOID, OIDOID, TEXTOID};
	Datum		values[3] = {CStringGetTextDatum(account)};
	SPITupleTable *roles;
	uint64		n;
	uint64		i;

	lpu_queue_run(roles_sql, 1, types, values);
	roles = SPI_tuptable;
	n = SPI_processed;
	for (i = 0; i < n; i++)
	{
		bool		isnull;
		Oid			role = DatumGetObjectId(SPI_getbinval(roles->vals[i], roles->tupdesc, 1,
														  &isnull));
		char	   *name = SPI_getvalue(roles->vals[i], roles->tupdesc, 2);
		LpuProblem *problem = NULL;
		const LpuOptions *options = lpu_server_for_request(InvalidOid, account, role, name,
														   &problem);
		int			nids;
		int64	   *ids = find_pending_rows(account, InvalidOid, role, &nids);

		if (options == NULL)
		{
			(void) lpu_pending_hold_rows(ids, nids, LPU_HOLD_SETUP, problem->message);
			continue;
		}
		values[1] = ObjectIdGetDatum(options->server);
		values[2] = CStringGetTextDatum(options->server_name);
		(void) lpu_queue_change(assign_sql, ids, nids, 3, types, values);
	}
	SPI_freetuptable(roles);
}

/* Run servers_sql. */
static SPITupleTable *
list_servers(const char *account, uint64 *n)
{
	Oid			types[2] = {TEXTOID, TIMESTAMPTZOID};
	Datum		values[2] = {CStringGetTextDatum(account),
	TimestampTzGetDatum(GetCurrentTimestamp())};

	lpu_queue_run(servers_sql, 2, types, values);
	*n = SPI_processed;
	return SPI_tuptable;
}

/* Return the servers of a party that may be sent to now, an oid[]. */
Datum
lpu_pending_servers(const char *account, Oid party)
{
	uint64		nfound;
	SPITupleTable *table = list_servers(account, &nfound);
	Datum	   *servers;
	int			n = 0;
	bool		isnull;
	uint64		i;

	/* OID 0 comes first */
	if (nfound > 0 &&
		!OidIsValid(DatumGetObjectId(SPI_getbinval(table->vals[0], table->tupdesc, 1, &isnull))))
	{
		SPI_freetuptable(table);
		assign_servers(account);
		table = list_servers(account, &nfound);
	}
	servers = palloc(Max(nfound, 1) * sizeof(Datum));
	for (i = 0; i < nfound; i++)
	{
		Oid			server = DatumGetObjectId(SPI_getbinval(table->vals[i], table->tupdesc, 1,
															&isnull));
		char	   *name = SPI_getvalue(table->vals[i], table->tupdesc, 2);
		bool		wait = DatumGetBool(SPI_getbinval(table->vals[i], table->tupdesc, 3, &isnull));

		/* rows that were locked while the others got a server have to wait */
		if (!OidIsValid(server))
			continue;
		if (!lpu_server_serves(server, account))
			(void) lpu_pending_hold(account, server, InvalidOid, LPU_HOLD_SETUP,
									psprintf("server \"%s\" of account \"%s\" does not exist",
											 name ? name : "",
											 account));
		else if (!wait && !lpu_server_is_paused(server) && lpu_server_party(server) == party)
			servers[n++] = ObjectIdGetDatum(server);
	}
	SPI_freetuptable(table);
	return PointerGetDatum(construct_array(servers, n, OIDOID, sizeof(Oid), true, TYPALIGN_INT));
}

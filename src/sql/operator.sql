/* operator.sql: operator functions on requests. */

CREATE FUNCTION @extschema@.lp_worker_stop() RETURNS boolean
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.lp_worker_stop() IS 'stops this database''s worker; returns false if there is none';

CREATE FUNCTION @extschema@.lp_worker_pid() RETURNS integer
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.lp_worker_pid() IS 'process id of this database''s worker, null if there is none';

CREATE FUNCTION @extschema@._lp_worker_missing() RETURNS text
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@._lp_worker_missing() IS 'internal: why this database has no worker, or why that delivers nothing; null if it does';

CREATE FUNCTION @extschema@._lp_wake() RETURNS void
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@._lp_wake() IS 'internal: wakes the worker when this transaction commits';

CREATE FUNCTION @extschema@.lp_retry(ids bigint[]) RETURNS bigint
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.lp_retry(bigint[]) IS 'sends failed requests of the caller again; returns their number';

CREATE FUNCTION @extschema@.lp_discard(ids bigint[]) RETURNS bigint
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.lp_discard(bigint[]) IS 'drops pending, failed or held requests of the caller; returns their number';

CREATE FUNCTION @extschema@.lp_release(account text) RETURNS bigint
	AS 'MODULE_PATHNAME', 'lp_release' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.lp_release(text)
	IS 'releases the requests of an account that are held (by hold_above, for set-up or credentials); returns their number';

CREATE FUNCTION @extschema@.lp_release(ids bigint[]) RETURNS bigint
	AS 'MODULE_PATHNAME', 'lp_release_ids' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.lp_release(bigint[]) IS 'releases these requests that are held, or wait for more than a day; returns their number';

CREATE FUNCTION @extschema@.lp_adopt() RETURNS bigint
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.lp_adopt() IS 'adopts requests that were queued elsewhere (failover, restored copy): looked up, then sent if absent; returns their number';

CREATE FUNCTION @extschema@.lp_purge(older_than interval) RETURNS bigint
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.lp_purge(interval) IS 'drops requests that were finished longer ago than this; returns their number';

/*
 * Other roles can have a server of the same account: it counts only if the current user could use it without naming it, as
 * lpu_server_usable() says.
 */
CREATE FUNCTION @extschema@.lp_account_is_paused(account text) RETURNS boolean
	LANGUAGE sql STABLE
	BEGIN ATOMIC
		SELECT EXISTS (SELECT FROM pg_catalog.pg_foreign_server s
					   JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid = s.srvfdw
					   WHERE w.fdwname = 'lpusers' AND 'account=' || account = ANY (s.srvoptions)
						 AND 'delivery=paused' = ANY (s.srvoptions)
						 AND pg_catalog.has_server_privilege(s.oid, 'USAGE')
						 AND (pg_catalog.has_foreign_data_wrapper_privilege(s.srvowner, w.oid, 'USAGE')
							  OR pg_catalog.pg_has_role(s.srvowner, 'MEMBER')));
	END;
COMMENT ON FUNCTION @extschema@.lp_account_is_paused(text)
	IS 'returns true if a server of this account that the current user may use has the option delivery ''paused''';

/* Each condition fits an index: what was finished longer ago is not read. */
CREATE VIEW @extschema@.lp_progress WITH (security_barrier) AS
	SELECT p.account, p.pending, p.sending, p.uncertain, p.held, p.created, p.done, p.failed,
		   p.users_per_second,
		   CASE WHEN p.pending + p.sending + p.uncertain > 0 AND p.users_per_second > 0
				THEN date_trunc('second', clock_timestamp() + (p.pending + p.sending + p.uncertain) / p.users_per_second
													  * interval '1 second') END AS estimated_end,
		   p.oldest_pending, coalesce(p.paused, @extschema@.lp_account_is_paused(p.account)) AS paused,
		   @extschema@.lp_worker_pid() AS worker_pid,
		   CASE WHEN p.pending + p.sending + p.uncertain > 0 AND p.waits_since < clock_timestamp() - interval '10 seconds'
					 AND NOT coalesce(p.paused, @extschema@.lp_account_is_paused(p.account))
				THEN coalesce('not delivered since ' || date_trunc('second', p.waits_since) || ': '
							  || @extschema@._lp_worker_missing(), p.last_error)
				ELSE p.last_error END AS last_error
	FROM (SELECT r.account,
				 count(*) FILTER (WHERE r.state = 'pending') AS pending,
				 count(*) FILTER (WHERE r.state = 'sending') AS sending,
				 count(*) FILTER (WHERE r.state = 'uncertain') AS uncertain,
				 count(*) FILTER (WHERE r.state = 'held') AS held,
				 count(*) FILTER (WHERE r.state = 'created' AND r.finished_at > statement_timestamp() - interval '24 hours') AS created,
				 count(*) FILTER (WHERE r.state = 'done' AND r.finished_at > statement_timestamp() - interval '24 hours') AS done,
				 count(*) FILTER (WHERE r.state = 'failed' AND NOT r.mended AND r.finished_at > statement_timestamp() - interval '24 hours') AS failed,
				 round((count(*) FILTER (WHERE r.state IN ('created', 'done') AND r.finished_at > clock_timestamp() - interval '1 minute')
						/ greatest(extract(epoch FROM max(r.finished_at)
										   - greatest(min(r.enqueued_at), clock_timestamp() - interval '1 minute')), 1))::numeric, 1)
					 AS users_per_second,
				 date_trunc('second', min(r.enqueued_at) FILTER (WHERE r.state = 'pending')) AS oldest_pending,
				 greatest(min(coalesce(r.next_attempt_at, r.sent_at))
						  FILTER (WHERE r.state IN ('pending', 'sending', 'uncertain') AND r.server_oid <> ALL (h.servers)),
						  max(r.sent_at) FILTER (WHERE r.server_oid <> ALL (h.servers)))
					 AS waits_since,
				 /* of the servers that unfinished requests have */
				 bool_and(r.server_oid = ANY (h.servers)) FILTER (WHERE r.server_oid <> 0 AND r.state IN ('pending', 'sending', 'uncertain'))
					 AS paused,
				 (array_agg(coalesce(r.error, r.reason) ORDER BY coalesce(r.finished_at, r.sent_at, r.enqueued_at) DESC)
				  FILTER (WHERE r.error IS NOT NULL OR r.reason IS NOT NULL))[1] AS last_error
		  FROM @extschema@.lp_results r,
			   (SELECT ARRAY(SELECT s.oid FROM pg_catalog.pg_foreign_server s WHERE 'delivery=paused' = ANY (s.srvoptions)) AS servers OFFSET 0) h
		  WHERE r.path = 'queue'
			AND ((r.state = 'pending' AND NOT r.look_first) OR (r.state = 'pending' AND r.look_first) OR r.state = 'held'
				 OR r.state IN ('sending', 'uncertain') OR r.finished_at > statement_timestamp() - interval '24 hours')
		  GROUP BY r.account) p
	ORDER BY p.account;
COMMENT ON VIEW @extschema@.lp_progress IS 'the queue of each account: unfinished requests, results of the last 24 hours, speed, estimated end, and latest error';


/* lpusers--1.0.sql: everything that CREATE EXTENSION lpusers makes. */

\echo Use "CREATE EXTENSION lpusers" to load this file. \quit

/* ------------------------------------------------------------------------------------------------- the wrapper */

CREATE FUNCTION lpusers_handler() RETURNS fdw_handler
	AS 'MODULE_PATHNAME' LANGUAGE C STRICT;
COMMENT ON FUNCTION lpusers_handler() IS 'handler of the foreign-data wrapper lpusers';

CREATE FUNCTION lpusers_validator(options text[], catalog oid) RETURNS void
	AS 'MODULE_PATHNAME' LANGUAGE C STRICT;
COMMENT ON FUNCTION lpusers_validator(text[], oid) IS 'checks the options of servers, user mappings and foreign tables of lpusers';

CREATE FOREIGN DATA WRAPPER lpusers HANDLER lpusers_handler VALIDATOR lpusers_validator;
COMMENT ON FOREIGN DATA WRAPPER lpusers IS 'users of LivePerson accounts: one server is one account';

/* -------------------------------------------------------------------------------------------- what was requested */

CREATE SEQUENCE lp_batch_seq;
COMMENT ON SEQUENCE lp_batch_seq IS 'numbers of batches in lp_requests';

/*
 * One row for each user that somebody wanted created, updated, deleted, or given a new password. Roles, servers and
 * tables are kept by name: the record outlives them, and a dump of it means the same elsewhere. (As text, not name: that
 * has a fixed size of 64 bytes, and three of them would be half of the row.) No payload, no secret.
 */
CREATE TABLE lp_requests (
	id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	account         text NOT NULL,
	operation       text NOT NULL CHECK (operation IN ('create', 'update', 'delete', 'reset')),
	path            text NOT NULL CHECK (path IN ('queue', 'direct', 'sync', 'table')),
	server          text,
	requested_by    text NOT NULL,
	send_as         text NOT NULL,
	login_name      text,
	state           text NOT NULL
					CHECK (state IN ('pending', 'sending', 'uncertain', 'held', 'created', 'done', 'failed')),
	attempts        integer NOT NULL DEFAULT 0,
	next_attempt_at timestamptz,
	batch           bigint,
	status          integer,
	ac_revision     bigint,
	user_id         bigint,
	error           text,
	evidence        text CHECK (evidence IN ('answer', 'lookup')),
	reason          text,
	origin          text,
	source_table    text,
	source_key      jsonb,
	enqueued_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
	sent_at         timestamptz,
	finished_at     timestamptz,
	held_at         timestamptz
);

COMMENT ON TABLE lp_requests IS 'one row for each user that was to be created, updated, deleted or given a new password';
COMMENT ON COLUMN lp_requests.id IS 'number of the request';
COMMENT ON COLUMN lp_requests.account IS 'LivePerson account id';
COMMENT ON COLUMN lp_requests.operation IS 'create, update, delete or reset';
COMMENT ON COLUMN lp_requests.path IS 'how it is sent: queue, direct (a function call), sync (a trigger) or table (a foreign table)';
COMMENT ON COLUMN lp_requests.server IS 'foreign server whose options are used';
COMMENT ON COLUMN lp_requests.requested_by IS 'role that asked for it';
COMMENT ON COLUMN lp_requests.send_as IS 'role whose user mapping is used';
COMMENT ON COLUMN lp_requests.login_name IS 'loginName of the user, if the request names it';
COMMENT ON COLUMN lp_requests.state IS 'pending, sending, uncertain, held, created, done or failed';
COMMENT ON COLUMN lp_requests.attempts IS 'how often it was sent';
COMMENT ON COLUMN lp_requests.next_attempt_at IS 'not to be sent before';
COMMENT ON COLUMN lp_requests.batch IS 'rows of the same batch went in the same HTTP request';
COMMENT ON COLUMN lp_requests.status IS 'HTTP status of the last answer';
COMMENT ON COLUMN lp_requests.ac_revision IS 'header ac-revision of the last answer: revision of the account''s users';
COMMENT ON COLUMN lp_requests.user_id IS 'LivePerson user id, when known';
COMMENT ON COLUMN lp_requests.error IS 'why it failed: what the API said, or attribute and problem';
COMMENT ON COLUMN lp_requests.evidence IS 'how the result is known: from the answer, or from a look-up';
COMMENT ON COLUMN lp_requests.reason IS 'why it is held, or "outcome unknown" after an answer 5xx to a direct call';
COMMENT ON COLUMN lp_requests.origin IS 'system identifier/database OID/timeline where the row was last written';
COMMENT ON COLUMN lp_requests.source_table IS 'table whose trigger asked for it';
COMMENT ON COLUMN lp_requests.source_key IS 'primary key of the row in that table';
COMMENT ON COLUMN lp_requests.enqueued_at IS 'when it was asked for';
COMMENT ON COLUMN lp_requests.sent_at IS 'when it was last sent';
COMMENT ON COLUMN lp_requests.finished_at IS 'when its result was known';
COMMENT ON COLUMN lp_requests.held_at IS 'since when it is held';

/*
 * Indexes: the unfinished rows are few, the finished ones are many. They are waiting, or in flight. Whoever enqueues asks
 * both indexes for a login, a deliverer asks the first for what is due; every hire pays for an entry there, so its key has
 * a fixed size, and who uses it looks at account and login again. The second (compared byte by byte: that is fastest) is
 * the proof that never two requests for one login are in flight. When a row is due is in no index: a deliverer lists what
 * is due, and claims from its list.
 */
CREATE INDEX lp_requests_waiting ON lp_requests (hashtext(account), hashtext(lower(login_name)))
	WHERE state IN ('pending', 'held');
CREATE UNIQUE INDEX lp_requests_in_flight ON lp_requests (account, lower(login_name) COLLATE "C")
	WHERE state IN ('sending', 'uncertain');
CREATE INDEX lp_requests_enqueued_at ON lp_requests USING brin (enqueued_at);

/* A queue's rows change a few times and then stay: vacuum by number of changes, not by share of the table. */
ALTER TABLE lp_requests SET (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000,
	autovacuum_analyze_scale_factor = 0.02);

/*
 * What is to be sent for a queued request, as JSON. Written once, so that claim and settle never rewrite it; gone with
 * success. No foreign key: it would be checked for every hire, and lp_requests has no other writer than this extension.
 */
CREATE TABLE lp_payloads (
	request_id bigint PRIMARY KEY,
	body       json NOT NULL
);
COMMENT ON TABLE lp_payloads IS 'what is to be sent for a queued request; leaves with success';
COMMENT ON COLUMN lp_payloads.request_id IS 'lp_requests.id';
COMMENT ON COLUMN lp_payloads.body IS 'the user as JSON, with its secrets';
ALTER TABLE lp_payloads SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);

COMMENT ON SEQUENCE lp_requests_id_seq IS 'numbers of requests';

SELECT pg_catalog.pg_extension_config_dump('lp_requests', '');
SELECT pg_catalog.pg_extension_config_dump('lp_payloads', '');
SELECT pg_catalog.pg_extension_config_dump('lp_requests_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('lp_batch_seq', '');

/*
 * Who sees which requests: those one asked for, those sent with one's credentials, those of a server one owns; a member
 * of a role sees what the role sees. Both views filter themselves, the table is closed.
 */
CREATE VIEW lp_results WITH (security_barrier) AS
	SELECT r.*
	FROM @extschema@.lp_requests r
	WHERE r.requested_by = ANY (ARRAY(SELECT a.rolname FROM pg_catalog.pg_roles a
									  WHERE pg_catalog.pg_has_role(a.oid, 'USAGE')))
	   OR r.send_as = ANY (ARRAY(SELECT a.rolname FROM pg_catalog.pg_roles a
								 WHERE pg_catalog.pg_has_role(a.oid, 'USAGE')))
	   OR ROW (r.server, 'account=' || r.account) IN
		  (SELECT s.srvname, o FROM pg_catalog.pg_foreign_server s
		   JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid = s.srvfdw,
				pg_catalog.unnest(s.srvoptions) o
		   WHERE w.fdwname = 'lpusers' AND pg_catalog.pg_has_role(s.srvowner, 'USAGE'));
COMMENT ON VIEW lp_results IS 'the requests that the current user asked for, that are sent with its credentials, or that belong to a server it owns';

CREATE VIEW lp_summary WITH (security_barrier) AS
	SELECT account, (enqueued_at AT TIME ZONE current_setting('TimeZone'))::date AS day, state, status, evidence,
		   count(*) AS requests,
		   round(percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM finished_at - enqueued_at))::numeric, 3)
			   AS median_seconds,
		   round(percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM finished_at - enqueued_at))::numeric, 3)
			   AS p95_seconds
	FROM @extschema@.lp_results
	GROUP BY 1, 2, 3, 4, 5;
COMMENT ON VIEW lp_summary IS 'lp_results per account, day, state, status and evidence: how many, and how long from request to result';

GRANT SELECT ON lp_results, lp_summary TO PUBLIC;

/* ------------------------------------------------------------------------------------------------------- calls */

CREATE TYPE lp_response AS (
	status      integer,
	ac_revision bigint,
	body        jsonb,
	error       text
);
COMMENT ON TYPE lp_response IS 'what the API answered: HTTP status, revision of the account''s users, body, and the error in words';
COMMENT ON COLUMN lp_response.status IS 'HTTP status';
COMMENT ON COLUMN lp_response.ac_revision IS 'header ac-revision (or ETag); null if absent or not a number';
COMMENT ON COLUMN lp_response.body IS 'body of the answer; null if empty or not JSON';
COMMENT ON COLUMN lp_response.error IS 'null after 2xx with a readable answer; else what the API said, or an excerpt of the answer';

CREATE FUNCTION lp_create_users(account text, users jsonb) RETURNS SETOF lp_response
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1 COST 10000;
COMMENT ON FUNCTION lp_create_users(text, jsonb) IS 'creates one user or an array of users with one request (POST users)';

CREATE FUNCTION lp_update_users(account text, users jsonb, if_match bigint DEFAULT -1) RETURNS SETOF lp_response
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1 COST 10000;
COMMENT ON FUNCTION lp_update_users(text, jsonb, bigint) IS 'replaces users, each given whole and with its id, with one request (PUT users)';

CREATE FUNCTION lp_delete_users(account text, ids bigint[], if_match bigint DEFAULT -1) RETURNS SETOF lp_response
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1 COST 10000;
COMMENT ON FUNCTION lp_delete_users(text, bigint[], bigint) IS 'deletes users by id with one request (DELETE users)';

CREATE FUNCTION lp_reset_password(account text, user_id bigint, new_password text) RETURNS SETOF lp_response
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1 COST 10000;
COMMENT ON FUNCTION lp_reset_password(text, bigint, text) IS 'gives a user a new password (PUT users/{id}/resetPassword)';

CREATE FUNCTION lp_validate_users(users jsonb, OUT ordinal integer, OUT attribute text, OUT problem text)
	RETURNS SETOF record
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE ROWS 10 COST 100;
COMMENT ON FUNCTION lp_validate_users(jsonb) IS 'checks users to be created against what the API documents; sends nothing; no rows if all is well';

CREATE FUNCTION lp_check(account text, OUT step text, OUT ok boolean, OUT detail text)
	RETURNS SETOF record
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 4 COST 10000;
COMMENT ON FUNCTION lp_check(text) IS 'tries the connection to an account step by step: domain, token, one GET, revision; writes nothing';

/* Writing needs EXECUTE and USAGE on the server; reading needs only the latter. */
REVOKE EXECUTE ON FUNCTION
	lp_create_users(text, jsonb),
	lp_update_users(text, jsonb, bigint),
	lp_delete_users(text, bigint[], bigint),
	lp_reset_password(text, bigint, text)
	FROM PUBLIC;

/* --------------------------------------------------------------------------------- the queue, as its deliverer sees it */

/*
 * Where a row is written: system identifier/database OID/timeline. Only what was written here is sent from here.
 */
CREATE FUNCTION lp_origin() RETURNS text
	AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION lp_origin() IS 'system identifier/database OID/timeline of this database, as in lp_requests.origin';

/*
 * Time until attempt number n + 1 after a failure of the network or the service: 5, 10, 15 s, then 2, 4, 8 min, give or
 * take a tenth.
 */
CREATE FUNCTION lp_backoff(attempts integer) RETURNS interval
	LANGUAGE sql VOLATILE PARALLEL SAFE
	BEGIN ATOMIC
		SELECT (ARRAY[5, 10, 15, 120, 240, 480])[greatest(1, least(attempts, 6))]
			   * (0.9 + 0.2 * random()) * interval '1 second';
	END;
COMMENT ON FUNCTION lp_backoff(integer) IS 'time to wait after so many attempts that the network or the service failed';

/*
 * Take on rows that were written elsewhere: they are looked up before they are sent. Where they were written they may have
 * been sent a moment ago, also those that were not when this copy last heard of them, and the service may still be at it:
 * the first retry delay begins now. Of several with one login only one can be in doubt at a time; the others wait for its
 * result. Writes lp_requests. Returns how many.
 */
CREATE FUNCTION lp_doubt(ids bigint[]) RETURNS bigint
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n bigint;
BEGIN
	UPDATE @extschema@.lp_requests r
	SET state = CASE WHEN d.place = 1 THEN 'uncertain' ELSE 'pending' END,
		next_attempt_at = clock_timestamp() + @extschema@.lp_backoff(1), reason = NULL, origin = @extschema@.lp_origin()
	FROM (SELECT q.id, row_number() OVER (PARTITION BY q.account, lower(q.login_name)
										  ORDER BY q.state IN ('sending', 'uncertain') DESC, q.id) AS place
		  FROM @extschema@.lp_requests q
		  WHERE q.state IN ('sending', 'uncertain') OR q.id = ANY (ids)) d
	WHERE r.id = d.id AND r.id = ANY (ids);
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END;
$$;
COMMENT ON FUNCTION lp_doubt(bigint[]) IS 'internal: has requests of another system or timeline looked up here before they are sent';

/*
 * First thing under the lock on an account. Whoever was sending is gone, so a row "sending" has an unknown outcome. It may
 * have been claimed long before it was sent, and the service may still be at it: the first retry delay begins now. Rows
 * written on another timeline are held or looked up (resume), rows written in another system or database are held.
 * Parameters: account, lpusers.after_promotion = 'resume'. Writes lp_requests. Returns the number of rows changed.
 */
CREATE FUNCTION lp_take_over(account text, resume boolean) RETURNS bigint
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	here text := @extschema@.lp_origin();
	n bigint;
	changed bigint := 0;
BEGIN
	/* as a rule there are none */
	IF EXISTS (SELECT FROM @extschema@.lp_requests r
			   WHERE hashtext(r.account) = hashtext(lp_take_over.account) AND r.account = lp_take_over.account
				 AND r.state = 'pending' AND r.origin IS DISTINCT FROM here)
	   OR EXISTS (SELECT FROM @extschema@.lp_requests r
				  WHERE r.account = lp_take_over.account AND r.state IN ('sending', 'uncertain')
					AND r.origin IS DISTINCT FROM here) THEN
		changed := @extschema@.lp_doubt(ARRAY(
			SELECT r.id FROM @extschema@.lp_requests r
			WHERE r.account = lp_take_over.account AND r.state IN ('pending', 'sending', 'uncertain')
			  AND r.origin <> here AND resume
			  AND split_part(r.origin, '/', 1) = split_part(here, '/', 1)
			  AND split_part(r.origin, '/', 2) = split_part(here, '/', 2)));

		UPDATE @extschema@.lp_requests r
		SET state = 'held', next_attempt_at = NULL, held_at = clock_timestamp(),
			reason = 'written elsewhere (' || r.origin || ', here is ' || here || '): a failover, a restore or a copy; see lp_adopt()'
		WHERE r.account = lp_take_over.account AND r.state IN ('pending', 'sending', 'uncertain')
		  AND r.origin IS DISTINCT FROM here;
		GET DIAGNOSTICS n = ROW_COUNT;
		changed := changed + n;
	END IF;

	UPDATE @extschema@.lp_requests r
	SET state = 'uncertain', next_attempt_at = clock_timestamp() + @extschema@.lp_backoff(1)
	WHERE r.account = lp_take_over.account AND r.state = 'sending';
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN changed + n;
END;
$$;
COMMENT ON FUNCTION lp_take_over(text, boolean) IS 'internal: settles what an earlier deliverer, system or timeline left';

/*
 * The rows of an account that are due now, oldest first and at most n; none while a row of the account waits because the
 * service said so (429). A deliverer claims from this list, row by row (claim.c). With the places where they are now.
 */
CREATE FUNCTION lp_list(account text, n integer, OUT ids bigint[], OUT places tid[])
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
	/* a young queue has no statistics: no plan but that by the index of waiting rows will do */
	SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
AS $$
DECLARE
	wait boolean;
	at timestamptz := clock_timestamp();
BEGIN
	SELECT (array_agg(r.id ORDER BY r.next_attempt_at, r.id) FILTER (WHERE r.next_attempt_at <= at))[1:n],
		   (array_agg(r.ctid ORDER BY r.next_attempt_at, r.id) FILTER (WHERE r.next_attempt_at <= at))[1:n],
		   bool_or(r.status = 429 AND r.next_attempt_at > at)
	INTO ids, places, wait
	FROM @extschema@.lp_requests r
	WHERE hashtext(r.account) = hashtext(lp_list.account) AND r.account = lp_list.account AND r.state = 'pending';
	IF wait THEN
		ids := NULL;
	END IF;
END;
$$;
COMMENT ON FUNCTION lp_list(text, integer) IS 'internal: rows of the queue that are due';

/*
 * Write down what became of claimed or looked-up rows, element by element of the arrays. A row whose wait is given is
 * due again after so many milliseconds, -1: after lp_backoff() of its attempts. The state "unsent" is pending, and the
 * attempt does not count: the service refused it unread (429), or it was never sent. A row whose batch is null keeps the
 * one it had. The payload leaves with success. (What an answer says was created is written down by settle.c, in the same
 * transaction and the same way.)
 */
CREATE FUNCTION lp_settle(ids bigint[], states text[], statuses integer[], revisions bigint[], user_ids bigint[],
						  errors text[], reasons text[], waits bigint[], batches bigint[], evidence text)
	RETURNS void
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
	SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
DECLARE
	at timestamptz := clock_timestamp();
BEGIN
	/*
	 * A look-up found the login with the data that were sent: the user is of this request, unless another request has
	 * created that very user. One pass over the finished rows for all of them.
	 */
	IF lp_settle.evidence = 'lookup' THEN
		SELECT array_agg(CASE WHEN t.other IS NOT NULL AND u.state = 'created' THEN 'failed' ELSE u.state END ORDER BY u.n),
			   array_agg(CASE WHEN t.other IS NOT NULL AND u.state = 'created'
							  THEN 'login exists: another request has created it' ELSE u.error END ORDER BY u.n)
		INTO states, errors
		FROM ROWS FROM (unnest(states), unnest(user_ids), unnest(errors)) WITH ORDINALITY AS u(state, user_id, error, n)
		LEFT JOIN (SELECT o.user_id, min(o.id) AS other
				   FROM @extschema@.lp_requests o
				   WHERE o.account = (SELECT r.account FROM @extschema@.lp_requests r WHERE r.id = ids[1])
					 AND o.operation = 'create' AND o.state = 'created'
					 AND o.user_id IN (SELECT x FROM unnest(user_ids) x WHERE x IS NOT NULL)
					 AND o.id NOT IN (SELECT unnest(ids))
				   GROUP BY o.user_id) t ON t.user_id = u.user_id;
	END IF;

	UPDATE @extschema@.lp_requests r
	SET state = CASE u.state WHEN 'unsent' THEN 'pending' ELSE u.state END,
		attempts = r.attempts - (u.state = 'unsent')::integer,
		sent_at = CASE WHEN u.state <> 'unsent' OR u.status IS NOT NULL THEN r.sent_at END,
		status = coalesce(u.status, r.status), ac_revision = coalesce(u.revision, r.ac_revision),
		user_id = coalesce(u.user_id, r.user_id), error = u.error, reason = u.reason,
		batch = coalesce(u.batch, r.batch),
		evidence = CASE WHEN u.state IN ('created', 'failed') THEN lp_settle.evidence END,
		finished_at = CASE WHEN u.state IN ('created', 'failed') THEN at END,
		held_at = CASE WHEN u.state = 'held' THEN at END,
		next_attempt_at = CASE WHEN u.state NOT IN ('pending', 'unsent', 'uncertain') THEN NULL
							   /* a look-up that fails again and again: a quarter of the time since it was sent (if it was, from here) */
							   WHEN u.wait < 0 AND u.state = 'uncertain' AND lp_settle.evidence = 'lookup'
							   THEN at + greatest(@extschema@.lp_backoff(r.attempts),
																 least((at - coalesce(r.sent_at, at)) / 4, interval '8 minutes'))
							   WHEN u.wait < 0 THEN at + @extschema@.lp_backoff(r.attempts)
							   ELSE at + coalesce(u.wait, 0) * interval '1 millisecond' END
	FROM unnest(ids, states, statuses, revisions, user_ids, errors, reasons, waits, batches)
		 AS u(id, state, status, revision, user_id, error, reason, wait, batch)
	WHERE r.id = u.id AND r.state IN ('sending', 'uncertain');

	DELETE FROM @extschema@.lp_payloads p
	USING unnest(ids, states) AS u(id, state)
	WHERE p.request_id = u.id AND u.state = 'created';
END;
$$;
COMMENT ON FUNCTION lp_settle(bigint[], text[], integer[], bigint[], bigint[], text[], text[], bigint[], bigint[], text)
	IS 'internal: writes down what became of rows of the queue';

/*
 * The rows of an account whose outcome has to be looked up now, with what was sent for them. When one is due, all are
 * taken: one listing of the account answers for all.
 */
CREATE FUNCTION lp_uncertain(account text, OUT id bigint, OUT send_as text, OUT login_name text, OUT attempts integer,
							 OUT email text, OUT nickname text, OUT trouble text, OUT rejected boolean)
	RETURNS SETOF record
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off
AS $$
#variable_conflict use_column
BEGIN
	IF EXISTS (SELECT FROM @extschema@.lp_requests r
			   WHERE r.account = lp_uncertain.account AND r.state = 'uncertain'
				 AND r.next_attempt_at <= clock_timestamp()) THEN
		RETURN QUERY
		SELECT r.id, r.send_as, r.login_name, r.attempts, b.body ->> 'email', b.body ->> 'nickname',
			   coalesce(r.error, CASE WHEN r.reason NOT LIKE 'look-up failed: %' THEN r.reason END),
			   r.error IS NOT NULL AND r.status BETWEEN 300 AND 499 AND r.status NOT IN (401, 429)
		FROM @extschema@.lp_requests r LEFT JOIN @extschema@.lp_payloads b ON b.request_id = r.id
		WHERE r.account = lp_uncertain.account AND r.state = 'uncertain'
		  AND r.next_attempt_at <= clock_timestamp() + interval '1 second'
		ORDER BY r.id;
	END IF;
END;
$$;
COMMENT ON FUNCTION lp_uncertain(text) IS 'internal: rows of the queue whose outcome has to be looked up';

/* Hold what is pending for a role whose credentials were refused: the next hundred attempts would lock the key. */
CREATE FUNCTION lp_hold(account text, send_as text, why text) RETURNS bigint
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n bigint;
BEGIN
	UPDATE @extschema@.lp_requests r
	SET state = 'held', reason = why, next_attempt_at = NULL, held_at = clock_timestamp()
	WHERE hashtext(r.account) = hashtext(lp_hold.account) AND r.account = lp_hold.account
	  AND r.send_as = lp_hold.send_as AND r.state = 'pending';
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END;
$$;
COMMENT ON FUNCTION lp_hold(text, text, text) IS 'internal: holds what is pending for a role';

/* Accounts with unfinished rows, and when the first of each is due; who has waited longest comes first. */
CREATE FUNCTION lp_due(OUT account text, OUT wait_ms bigint) RETURNS SETOF record
	LANGUAGE sql STABLE
	BEGIN ATOMIC
		SELECT r.account,
			   greatest(0, ceil(extract(epoch FROM greatest(min(CASE WHEN r.state = 'sending' THEN clock_timestamp()
																	  ELSE r.next_attempt_at END),
															 max(r.next_attempt_at) FILTER (WHERE r.state = 'pending'
																							AND r.status = 429))
										 - clock_timestamp()) * 1000))::bigint
		FROM (SELECT w.account, w.state, w.status, w.next_attempt_at, w.sent_at
			  FROM @extschema@.lp_requests w WHERE w.state = 'pending'
			  UNION ALL
			  SELECT f.account, f.state, f.status, f.next_attempt_at, f.sent_at
			  FROM @extschema@.lp_requests f WHERE f.state IN ('sending', 'uncertain')) r
		GROUP BY r.account
		ORDER BY min(coalesce(r.next_attempt_at, r.sent_at));
	END;
COMMENT ON FUNCTION lp_due() IS 'internal: accounts with rows to deliver, and how long until the first is due';

CREATE FUNCTION lp_enqueue_users(account text, users jsonb) RETURNS SETOF bigint
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 100 COST 1000;
COMMENT ON FUNCTION lp_enqueue_users(text, jsonb)
	IS 'queues users to be created after commit with the caller''s credentials; returns the ids of their requests in order';

CREATE PROCEDURE lp_deliver(account text DEFAULT NULL)
	AS 'MODULE_PATHNAME' LANGUAGE C;
COMMENT ON PROCEDURE lp_deliver(text) IS 'delivers now what is due in the queue, of one account or of all; commits between batches';

CREATE FUNCTION lp_create_users_trigger() RETURNS trigger
	AS 'MODULE_PATHNAME' LANGUAGE C;
COMMENT ON FUNCTION lp_create_users_trigger() IS 'queues (or, mode=sync, creates) a user for each row that a statement inserts or updates';

CREATE FUNCTION lp_attach_trigger(target regclass, account text, attributes jsonb, condition text DEFAULT NULL,
								  on_update boolean DEFAULT false, mode text DEFAULT 'queue') RETURNS SETOF text
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 2 COST 1000;
COMMENT ON FUNCTION lp_attach_trigger(regclass, text, jsonb, text, boolean, text)
	IS 'checks a mapping against a table and its owner''s rights, and creates the trigger(s); returns what was run';

CREATE FUNCTION lp_detach_trigger(target regclass) RETURNS SETOF text
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 2 COST 1000;
COMMENT ON FUNCTION lp_detach_trigger(regclass) IS 'drops the triggers of a table that create users; returns what was run';

/* --------------------------------------------------------------------------------------- what people do with rows */

/*
 * The rows among "ids" that belong to the current user: it asked for them, or they are sent as it; a member of a role
 * may do what the role may. Whoever may do everything to the table may do this too. Called with the rights of the
 * table's owner, hence the role as a parameter.
 */
CREATE FUNCTION lp_own_rows(ids bigint[], caller name) RETURNS SETOF bigint
	LANGUAGE sql STABLE
	BEGIN ATOMIC
		SELECT r.id FROM @extschema@.lp_requests r
		WHERE r.id = ANY (ids)
		  AND (r.requested_by = ANY (ARRAY(SELECT a.rolname FROM pg_catalog.pg_roles a
										   WHERE pg_catalog.pg_has_role(caller, a.oid, 'USAGE')))
			   OR r.send_as = ANY (ARRAY(SELECT a.rolname FROM pg_catalog.pg_roles a
										 WHERE pg_catalog.pg_has_role(caller, a.oid, 'USAGE'))));
	END;
COMMENT ON FUNCTION lp_own_rows(bigint[], name) IS 'internal: those of the requests that a role may retry or discard';

CREATE FUNCTION lp_worker_stop() RETURNS boolean
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION lp_worker_stop() IS 'asks this database''s worker to leave; false if there is none';

CREATE FUNCTION lp_worker_pid() RETURNS integer
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION lp_worker_pid() IS 'process id of this database''s worker, null if there is none';

CREATE FUNCTION lp_wake() RETURNS void
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION lp_wake() IS 'internal: has the worker woken when this transaction commits';

/*
 * lp_retry(): failed requests become pending again. Parameters: ids, the role that asks. Raises 42501 for a request that
 * is not its own, 22023 for one that is not failed or whose payload is gone. Writes lp_requests. Returns how many.
 */
CREATE FUNCTION lp_retry_rows(ids bigint[], caller name) RETURNS bigint
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n bigint;
	bad bigint;
BEGIN
	ids := array_remove(ids, NULL);
	SELECT x INTO bad FROM unnest(ids) x WHERE x NOT IN (SELECT @extschema@.lp_own_rows(ids, caller)) LIMIT 1;
	IF FOUND THEN
		RAISE insufficient_privilege USING MESSAGE = format('no request %s of yours', bad);
	END IF;
	/* somebody else may do the same just now, and a deliverer have claimed the row by then */
	PERFORM FROM @extschema@.lp_requests r WHERE r.id = ANY (ids) ORDER BY r.id FOR UPDATE;
	SELECT r.id INTO bad FROM @extschema@.lp_requests r WHERE r.id = ANY (ids) AND (r.state <> 'failed' OR r.path <> 'queue')
		LIMIT 1;
	IF FOUND THEN
		RAISE invalid_parameter_value USING MESSAGE = format('request %s is not a failed request of the queue', bad);
	END IF;
	SELECT x INTO bad FROM unnest(ids) x
		WHERE NOT EXISTS (SELECT FROM @extschema@.lp_payloads p WHERE p.request_id = x) LIMIT 1;
	IF FOUND THEN
		RAISE invalid_parameter_value USING MESSAGE = format('request %s cannot be sent again', bad),
			DETAIL = 'Its data were wrong, or its secrets are gone (see lpusers.keep_secrets).',
			HINT = 'Queue the user anew.';
	END IF;
	UPDATE @extschema@.lp_requests r
	SET state = 'pending', next_attempt_at = clock_timestamp(), error = NULL, finished_at = NULL, evidence = NULL,
		attempts = 0, origin = @extschema@.lp_origin()
	WHERE r.id = ANY (ids);
	GET DIAGNOSTICS n = ROW_COUNT;
	PERFORM @extschema@.lp_wake();
	RETURN n;
END;
$$;
COMMENT ON FUNCTION lp_retry_rows(bigint[], name) IS 'internal: lp_retry() for a role';

/* lp_discard(): pending, failed and held requests are dropped, with what was to be sent. As lp_retry_rows(). */
CREATE FUNCTION lp_discard_rows(ids bigint[], caller name) RETURNS bigint
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n bigint;
	bad bigint;
BEGIN
	ids := array_remove(ids, NULL);
	SELECT x INTO bad FROM unnest(ids) x WHERE x NOT IN (SELECT @extschema@.lp_own_rows(ids, caller)) LIMIT 1;
	IF FOUND THEN
		RAISE insufficient_privilege USING MESSAGE = format('no request %s of yours', bad);
	END IF;
	PERFORM FROM @extschema@.lp_requests r WHERE r.id = ANY (ids) ORDER BY r.id FOR UPDATE;
	SELECT r.id INTO bad FROM @extschema@.lp_requests r
		WHERE r.id = ANY (ids) AND (r.state NOT IN ('pending', 'failed', 'held') OR r.path <> 'queue') LIMIT 1;
	IF FOUND THEN
		RAISE invalid_parameter_value USING MESSAGE = format('request %s is not pending, failed or held in the queue', bad);
	END IF;
	DELETE FROM @extschema@.lp_payloads p WHERE p.request_id = ANY (ids);
	DELETE FROM @extschema@.lp_requests r WHERE r.id = ANY (ids);
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END;
$$;
COMMENT ON FUNCTION lp_discard_rows(bigint[], name) IS 'internal: lp_discard() for a role';

CREATE FUNCTION lp_retry(ids bigint[]) RETURNS bigint
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION lp_retry(bigint[]) IS 'has failed requests of one''s own sent again; returns how many';

CREATE FUNCTION lp_discard(ids bigint[]) RETURNS bigint
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION lp_discard(bigint[]) IS 'drops pending, failed or held requests of one''s own; returns how many';

/*
 * What was held by hold_above or for its set-up becomes pending. After a failover (same system and database, another
 * timeline, lpusers.after_promotion = resume) it may have been released before, and the standby not know of it: then it is
 * looked up first. Writes lp_requests. Returns how many.
 */
CREATE FUNCTION lp_release(account text) RETURNS bigint
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	here text := @extschema@.lp_origin();
	n bigint;
	doubtful bigint := 0;
BEGIN
	UPDATE @extschema@.lp_requests r
	SET state = 'pending', next_attempt_at = clock_timestamp(), reason = NULL
	WHERE hashtext(r.account) = hashtext(lp_release.account) AND r.account = lp_release.account
	  AND r.state = 'held' AND r.origin = here;
	GET DIAGNOSTICS n = ROW_COUNT;
	IF current_setting('lpusers.after_promotion') = 'resume' THEN
		doubtful := @extschema@.lp_doubt(ARRAY(
			SELECT r.id FROM @extschema@.lp_requests r
			WHERE hashtext(r.account) = hashtext(lp_release.account) AND r.account = lp_release.account
			  AND r.state = 'held' AND r.reason NOT LIKE 'written elsewhere (%' AND r.origin <> here
			  AND split_part(r.origin, '/', 1) = split_part(here, '/', 1)
			  AND split_part(r.origin, '/', 2) = split_part(here, '/', 2)));
	END IF;
	PERFORM @extschema@.lp_wake();
	RETURN n + doubtful;
END;
$$;
COMMENT ON FUNCTION lp_release(text) IS 'lets what was held (by hold_above, or for its set-up) be sent; returns how many';

/* What was written in another database or on another timeline is taken on here: looked up first. Returns how many. */
CREATE FUNCTION lp_adopt() RETURNS bigint
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n bigint;
BEGIN
	n := @extschema@.lp_doubt(ARRAY(
		SELECT r.id FROM @extschema@.lp_requests r
		WHERE (r.state IN ('pending', 'sending', 'uncertain') OR r.state = 'held' AND r.reason LIKE 'written elsewhere (%')
		  AND r.origin IS DISTINCT FROM @extschema@.lp_origin()));
	/* what was held there for another reason stays held, now by this database */
	UPDATE @extschema@.lp_requests r
	SET origin = @extschema@.lp_origin()
	WHERE r.state = 'held' AND r.origin IS DISTINCT FROM @extschema@.lp_origin();
	PERFORM @extschema@.lp_wake();
	RETURN n;
END;
$$;
COMMENT ON FUNCTION lp_adopt() IS 'takes on requests that were queued elsewhere (failover, restored copy): looked up, then sent if absent; returns how many';

/* Drops finished requests. Writes lp_requests, lp_payloads. Returns how many. */
CREATE FUNCTION lp_purge(older_than interval) RETURNS bigint
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n bigint;
BEGIN
	WITH gone AS (
		DELETE FROM @extschema@.lp_requests r
		WHERE r.state IN ('created', 'done', 'failed') AND r.finished_at < clock_timestamp() - older_than
		RETURNING r.id
	), payloads AS (
		DELETE FROM @extschema@.lp_payloads p USING gone g WHERE p.request_id = g.id
	)
	SELECT count(*) INTO n FROM gone;
	RETURN n;
END;
$$;
COMMENT ON FUNCTION lp_purge(interval) IS 'drops requests that were finished longer ago than this; returns how many';

/*
 * What the worker does once an hour, and CALL if no worker may run: payloads with secrets leave failed and held requests
 * after keep_secrets, finished requests leave after retention.
 */
CREATE FUNCTION lp_housekeep(keep_secrets interval, retention interval) RETURNS void
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	DELETE FROM @extschema@.lp_payloads p
	USING @extschema@.lp_requests r
	WHERE r.id = p.request_id AND r.state IN ('failed', 'held')
	  AND coalesce(r.finished_at, r.held_at, r.enqueued_at) < clock_timestamp() - keep_secrets
	  AND p.body::text ~ '"(passwordSh|oldPassword|confirmPassword)"';
	PERFORM @extschema@.lp_purge(retention);
END;
$$;
COMMENT ON FUNCTION lp_housekeep(interval, interval) IS 'internal: removes old secrets and old requests';

CREATE FUNCTION lp_account_is_paused(account text) RETURNS boolean
	LANGUAGE sql STABLE
	BEGIN ATOMIC
		SELECT EXISTS (SELECT FROM pg_catalog.pg_foreign_server s
					   JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid = s.srvfdw
					   WHERE w.fdwname = 'lpusers' AND 'account=' || account = ANY (s.srvoptions)
						 AND 'delivery=paused' = ANY (s.srvoptions));
	END;
COMMENT ON FUNCTION lp_account_is_paused(text) IS 'does a server of this account have the option delivery ''paused''?';

CREATE VIEW lp_progress WITH (security_barrier) AS
	SELECT p.account, p.pending, p.sending, p.uncertain, p.held, p.created, p.failed,
		   p.users_per_second,
		   CASE WHEN p.pending + p.sending + p.uncertain > 0 AND p.users_per_second > 0
				THEN date_trunc('second', clock_timestamp() + (p.pending + p.sending + p.uncertain) / p.users_per_second
													  * interval '1 second') END AS estimated_end,
		   p.oldest_pending, @extschema@.lp_account_is_paused(p.account) AS paused,
		   @extschema@.lp_worker_pid() AS worker_pid, p.last_error
	FROM (SELECT r.account,
				 count(*) FILTER (WHERE r.state = 'pending') AS pending,
				 count(*) FILTER (WHERE r.state = 'sending') AS sending,
				 count(*) FILTER (WHERE r.state = 'uncertain') AS uncertain,
				 count(*) FILTER (WHERE r.state = 'held') AS held,
				 count(*) FILTER (WHERE r.state = 'created') AS created,
				 count(*) FILTER (WHERE r.state = 'failed') AS failed,
				 round((count(*) FILTER (WHERE r.state = 'created' AND r.finished_at > clock_timestamp() - interval '1 minute')
						/ greatest(extract(epoch FROM max(r.finished_at)
										   - greatest(min(r.enqueued_at), clock_timestamp() - interval '1 minute')), 1))::numeric, 1)
					 AS users_per_second,
				 date_trunc('second', min(r.enqueued_at) FILTER (WHERE r.state = 'pending')) AS oldest_pending,
				 (array_agg(coalesce(r.error, r.reason) ORDER BY coalesce(r.finished_at, r.sent_at, r.enqueued_at) DESC)
				  FILTER (WHERE r.error IS NOT NULL OR r.reason IS NOT NULL))[1] AS last_error
		  FROM @extschema@.lp_results r
		  WHERE r.path = 'queue'
		  GROUP BY r.account) p
	ORDER BY p.account;
COMMENT ON VIEW lp_progress IS 'the queue of each account: how many in each state, how fast, until when, and what is wrong';

GRANT SELECT ON lp_progress TO PUBLIC;

/* ------------------------------------------------------------------------------------------------------ the report */

/* Text for HTML, also inside of an attribute's quotes. */
CREATE FUNCTION lp_html(plain text) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	BEGIN ATOMIC
		SELECT replace(replace(replace(replace(replace(coalesce(plain, ''),
			'&', '&amp;'), '<', '&lt;'), '>', '&gt;'), '"', '&quot;'), '''', '&#39;');
	END;
COMMENT ON FUNCTION lp_html(text) IS 'internal: text escaped for HTML';

/* So many seconds as a person says it: 340 ms, 12.5 s, 4 min, 3.2 h, 2 d. */
CREATE FUNCTION lp_duration(seconds double precision) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	BEGIN ATOMIC
		SELECT CASE WHEN seconds IS NULL THEN '&#8211;'
					WHEN seconds < 1 THEN round(seconds * 1000) || ' ms'
					WHEN seconds < 120 THEN round(seconds::numeric, 1) || ' s'
					WHEN seconds < 7200 THEN round(seconds / 60) || ' min'
					WHEN seconds < 172800 THEN round((seconds / 3600)::numeric, 1) || ' h'
					ELSE round(seconds / 86400) || ' d' END;
	END;
COMMENT ON FUNCTION lp_duration(double precision) IS 'internal: seconds as a person says them';

/*
 * A bar chart of days as SVG: what was created, what failed, what is open. Three arrays of the same length, oldest first;
 * the days are for the labels.
 */
CREATE FUNCTION lp_chart(days date[], created bigint[], failed bigint[], open bigint[]) RETURNS text
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	width constant numeric := 720;
	height constant numeric := 180;
	n integer := cardinality(days);
	step numeric := width / greatest(n, 1);
	most numeric := (SELECT max(c + f + o) FROM unnest(created, failed, open) AS u(c, f, o));
	scale numeric := 10 ^ floor(log(greatest(most, 1)));
	top numeric;
	bars text;
	labels text;
BEGIN
	/* a round number, and even, so that half of it is a number of users, too */
	SELECT min(t) INTO top FROM unnest(ARRAY[1, 2, 4, 6, 8, 10]) x, LATERAL (SELECT round(x * scale) AS t) r
	WHERE t >= greatest(most, 2);
	SELECT string_agg(
		format('<g><title>%s: %s created, %s failed, %s open</title>', d, c, f, o)
		|| format('<rect class="created" x="%s" y="%s" width="%s" height="%s"/>', x, y_created, w, h_created)
		|| format('<rect class="failed" x="%s" y="%s" width="%s" height="%s"/>', x, y_created - h_failed, w, h_failed)
		|| format('<rect class="open" x="%s" y="%s" width="%s" height="%s"/></g>', x, y_created - h_failed - h_open, w, h_open),
		'' ORDER BY i)
	INTO bars
	FROM (SELECT i, d, c, f, o, round((i - 1) * step + step * 0.1, 2) AS x, round(step * 0.8, 2) AS w,
				 round(c * height / top, 2) AS h_created, round(f * height / top, 2) AS h_failed,
				 round(o * height / top, 2) AS h_open, 10 + height - round(c * height / top, 2) AS y_created
		  FROM unnest(days, created, failed, open) WITH ORDINALITY AS u(d, c, f, o, i)) b;
	SELECT string_agg(format('<text x="%s" y="%s" text-anchor="%s">%s</text>', round((i - 0.5) * step, 1), height + 28,
							 CASE WHEN i = 1 AND n > 2 THEN 'start' WHEN i = n AND n > 2 THEN 'end' ELSE 'middle' END,
							 to_char(days[i], 'DD Mon')), '')
	INTO labels
	FROM (SELECT DISTINCT i FROM unnest(ARRAY[1, (n + 1) / 2, n]) i) p;
	RETURN format('<svg role="img" aria-label="Users per day: created, failed and open; the table Day by day has the numbers" viewBox="-40 0 %s %s">', width + 50, height + 36)
		|| (SELECT string_agg(format('<line class="grid" x1="0" x2="%s" y1="%s" y2="%s"/><text x="-6" y="%s" text-anchor="end">%s</text>',
									 width, 10 + height - share * height, 10 + height - share * height,
									 14 + height - share * height, round(top * share)), '')
			FROM unnest(ARRAY[0, 0.5, 1]) share)
		|| coalesce(bars, '') || coalesce(labels, '') || '</svg>';
END;
$$;
COMMENT ON FUNCTION lp_chart(date[], bigint[], bigint[], bigint[]) IS 'internal: users per day as a bar chart in SVG';

/*
 * An HTML table with a caption, from its header cells and rows that are already HTML; a sentence instead if it has no rows.
 * A table that is wider than the screen scrolls by itself, also with the keyboard.
 */
CREATE FUNCTION lp_html_table(caption text, headers text[], rows text, nothing text) RETURNS text
	LANGUAGE sql STABLE
	BEGIN ATOMIC
		SELECT CASE WHEN rows IS NULL THEN '<p class="none">' || nothing || '</p>'
			ELSE '<div class="table" role="region" tabindex="0" aria-label="' || caption || '"><table><caption>' || caption || '</caption><thead><tr>'
				|| (SELECT string_agg('<th scope="col">' || h || '</th>', '' ORDER BY i) FROM unnest(headers) WITH ORDINALITY u(h, i))
				|| '</tr></thead><tbody>' || rows || '</tbody></table></div>' END;
	END;
COMMENT ON FUNCTION lp_html_table(text, text[], text, text) IS 'internal: a table in HTML';

/*
 * One page about the creates that were asked for since a while ago: how many per day, how long it took, what failed and
 * why, what is stuck. Shows what lp_results shows to whoever calls it. Needs nothing from elsewhere: style and pictures
 * are in the page, there is no script. Parameters: one account, or null for all; how far back. Returns HTML.
 */
CREATE FUNCTION lp_report(account text DEFAULT NULL, since interval DEFAULT '30 days') RETURNS text
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	max_days constant integer := 400;	/* more bars than that are no picture */
	max_logins constant integer := 20;	/* of one reason */
	max_rows constant integer := 200;	/* of a table: beyond that, query lp_results */
	start date := (clock_timestamp() - since)::date;
	stop date := clock_timestamp()::date;
	tiles text;
	chart text;
	times text;
	reasons text;
	stuck text;
	hours text;
BEGIN
	IF since IS NULL OR start > stop OR stop - start > max_days THEN
		RAISE invalid_parameter_value USING MESSAGE = 'invalid period of a report',
			DETAIL = format('It must be an interval of 0 to %s days.', max_days);
	END IF;

	WITH r AS MATERIALIZED (
		SELECT q.id, coalesce(q.login_name, q.source_table || ' ' || q.source_key::text, '(no login)') AS login,
			   q.state, q.enqueued_at, q.finished_at,
			   /* what differs from user to user is no reason of its own */
			   regexp_replace(replace(coalesce(q.error, q.reason, 'no trouble is on record'), coalesce(q.login_name, ''), '...'),
							  '\(id \d+\)', '(id ...)') AS kind, q.enqueued_at::date AS day,
			   extract(epoch FROM q.finished_at - q.enqueued_at)::double precision AS seconds,
			   q.state IN ('pending', 'sending', 'uncertain', 'held') AS open
		FROM @extschema@.lp_results q
		WHERE q.operation = 'create' AND q.enqueued_at >= start::timestamptz
		  AND (lp_report.account IS NULL OR q.account = lp_report.account)
	), per_day AS (
		SELECT d.day::date AS day, count(r.id) FILTER (WHERE r.state = 'created') AS created,
			   count(r.id) FILTER (WHERE r.state = 'failed') AS failed, count(r.id) FILTER (WHERE r.open) AS open,
			   percentile_cont(0.5) WITHIN GROUP (ORDER BY r.seconds) FILTER (WHERE r.state = 'created') AS median,
			   percentile_cont(0.95) WITHIN GROUP (ORDER BY r.seconds) FILTER (WHERE r.state = 'created') AS p95
		FROM generate_series(start::timestamp, stop::timestamp, interval '1 day') d(day) LEFT JOIN r ON r.day = d.day::date
		GROUP BY 1
	), per_reason AS (
		SELECT r.stuck, r.kind, CASE WHEN r.stuck THEN r.state END AS state, count(*) AS n, max(r.enqueued_at) AS latest, min(r.enqueued_at) AS since,
			   @extschema@.lp_html(array_to_string((array_agg(r.login ORDER BY r.id DESC))[1:max_logins], ', '))
			   || CASE WHEN count(*) > max_logins THEN format(' and %s more', count(*) - max_logins) ELSE '' END AS logins
		FROM (SELECT *, state <> 'failed' AS stuck FROM r
			  WHERE state IN ('failed', 'held') OR open AND enqueued_at < clock_timestamp() - interval '10 minutes') r
		GROUP BY 1, 2, 3
	)
	SELECT
		(SELECT string_agg(format('<div class="tile %s"><dt>%s</dt><dd>%s</dd></div>', class, label, value), '' ORDER BY i)
		 FROM (SELECT count(*) FILTER (WHERE state = 'created') AS created, count(*) FILTER (WHERE state = 'failed') AS failed,
					  count(*) FILTER (WHERE open AND state <> 'held') AS waiting, count(*) FILTER (WHERE state = 'held') AS held,
					  percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) FILTER (WHERE state = 'created') AS median,
					  percentile_cont(0.95) WITHIN GROUP (ORDER BY seconds) FILTER (WHERE state = 'created') AS p95
			   FROM r) t,
			  LATERAL (VALUES (1, 'created', 'created', t.created::text), (2, 'failed', 'failed', t.failed::text),
					   (3, 'open', 'waiting', t.waiting::text), (4, 'open', 'held', t.held::text),
					   (5, '', 'half within', @extschema@.lp_duration(t.median)),
					   (6, '', '95 % within', @extschema@.lp_duration(t.p95))) v(i, class, label, value)),
		(SELECT @extschema@.lp_chart(array_agg(day ORDER BY day), array_agg(created ORDER BY day), array_agg(failed ORDER BY day),
									 array_agg(open ORDER BY day)) FROM per_day),
		(SELECT string_agg(format('<tr><th scope="row" class="day">%s</th><td>%s</td><td>%s</td><td>%s</td><td>%s</td><td>%s</td></tr>',
								  day, created, failed, open, @extschema@.lp_duration(median), @extschema@.lp_duration(p95)),
						   '' ORDER BY day DESC) FROM per_day WHERE created + failed + open > 0),
		(SELECT string_agg(format('<tr><td>%s</td><th scope="row">%s <small>%s</small></th><td>%s</td></tr>', n,
								  @extschema@.lp_html(kind), logins, to_char(latest, 'YYYY-MM-DD HH24:MI')), '' ORDER BY n DESC, kind)
		 FROM (SELECT * FROM per_reason WHERE NOT stuck ORDER BY n DESC, kind LIMIT max_rows) f),
		(SELECT string_agg(format('<tr><td>%s</td><td>%s</td><th scope="row">%s <small>%s</small></th><td>%s</td></tr>', n, state,
								  @extschema@.lp_html(kind), logins, to_char(since, 'YYYY-MM-DD HH24:MI')), '' ORDER BY n DESC, state, kind)
		 FROM (SELECT * FROM per_reason WHERE stuck ORDER BY n DESC, state, kind LIMIT max_rows) w),
		(SELECT string_agg(format('<tr><th scope="row" class="day">%s</th><td>%s</td><td>%s</td></tr>', to_char(hour, 'YYYY-MM-DD HH24:00'), n,
								  round(n / 3600.0, 2)), '' ORDER BY n DESC, hour)
		 FROM (SELECT date_trunc('hour', finished_at) AS hour, count(*) AS n FROM r WHERE state = 'created' AND finished_at IS NOT NULL
			   GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 5) h)
	INTO tiles, chart, times, reasons, stuck, hours;

	RETURN '<!DOCTYPE html>' || E'\n' || '<html lang="en"><head><meta charset="utf-8"/><meta name="viewport" content="width=device-width, initial-scale=1"/>'
		|| '<title>LivePerson users: report</title><style>' || $css$
:root { color-scheme: light dark; --text: #1c2733; --soft: #5b6b7b; --ground: #ffffff; --line: #d7dee5; --tile: #f3f6f9;
	--created: #1f7a4d; --failed: #b3261e; --open: #965800; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --soft: #9aa8b5; --ground: #12181f; --line: #2c3742; --tile: #1b242d;
	--created: #4cc38a; --failed: #ff8a80; --open: #ffb74d; } }
@media print { :root { --text: #000; --soft: #444; --ground: #fff; --tile: #fff; } tr, svg, .legend { break-inside: avoid; } h2 { break-after: avoid; } }
body { margin: 2rem auto; max-width: 60rem; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--ground); }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; } .about, .none { color: var(--soft); }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); gap: .75rem; margin: 1.5rem 0; }
.tile { background: var(--tile); border: 1px solid var(--line); border-radius: .5rem; padding: .75rem 1rem; }
dt { color: var(--soft); font-size: .875rem; } dd { margin: 0; font-size: 1.5rem; font-variant-numeric: tabular-nums; }
.tile.created dd { color: var(--created); } .tile.failed dd { color: var(--failed); } .tile.open dd { color: var(--open); }
svg { width: 100%; height: auto; overflow: visible; } svg text { fill: var(--soft); font-size: 11px; } .grid { stroke: var(--line); }
rect.created { fill: var(--created); } rect.failed { fill: var(--failed); } rect.open { fill: var(--open); }
.legend span { margin-right: 1em; } .legend span::before { content: ""; display: inline-block; width: .75em; height: .75em; margin-right: .4em; background: currentColor; print-color-adjust: exact; }
.legend .created { color: var(--created); } .legend .failed { color: var(--failed); } .legend .open { color: var(--open); }
table { border-collapse: collapse; width: 100%; } caption { text-align: left; color: var(--soft); padding-bottom: .25rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .75rem .3rem 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
td { font-variant-numeric: tabular-nums; } .table { overflow-x: auto; }
tbody th { font-weight: normal; width: 100%; white-space: normal; overflow-wrap: anywhere; min-width: 8rem; } tbody th.day { width: auto; min-width: 0; white-space: nowrap; }
small { display: block; color: var(--soft); }
@media (max-width: 40rem) { svg text { font-size: 20px; } }
@media print { body { margin: 0; max-width: none; font-size: 10pt; } dl { grid-template-columns: repeat(6, auto); } .table { overflow: visible; } }
$css$ || '</style></head><body><main>'
		|| format('<h1>LivePerson users</h1><p class="about">%s, %s to %s, made %s</p>',
				  CASE WHEN account IS NULL THEN 'All accounts' ELSE 'Account ' || @extschema@.lp_html(account) END, start, stop,
				  to_char(clock_timestamp(), 'YYYY-MM-DD HH24:MI TZ'))
		|| '<dl>' || tiles || '</dl>'
		|| '<section><h2>Per day</h2>' || chart
		|| '<p class="legend"><span class="created">created</span><span class="failed">failed</span><span class="open">open</span></p>'
		|| '</section><section><h2>Not created, and why</h2>'
		|| @extschema@.lp_html_table('Most frequent first', ARRAY['Users', 'Reason, and logins', 'Latest'], reasons, 'Nothing failed.')
		|| '</section><section><h2>Stuck</h2>'
		|| @extschema@.lp_html_table('Held, or waiting for more than ten minutes', ARRAY['Users', 'State', 'Reason, and logins', 'Since'], stuck,
									 'Nothing is stuck.')
		|| '</section><section><h2>Throughput</h2>'
		|| @extschema@.lp_html_table('The busiest hours', ARRAY['Hour', 'Created', 'Per second'], hours, 'Nothing was created.')
		|| '</section><section><h2>Day by day</h2>'
		|| @extschema@.lp_html_table('Days on which something was asked for; time from request to user',
									 ARRAY['Day', 'Created', 'Failed', 'Open', 'Half within', '95 % within'], times, 'Nothing was asked for.')
		|| '</section></main></body></html>' || E'\n';
END;
$$;
COMMENT ON FUNCTION lp_report(text, interval)
	IS 'one HTML page about creates since a while ago: per day, how long, failures by reason, what is stuck, throughput';

/* Internal functions run with the rights of the tables' owner; the others are granted by whoever wants them used. */
REVOKE EXECUTE ON FUNCTION
	lp_backoff(integer), lp_doubt(bigint[]), lp_take_over(text, boolean), lp_list(text, integer),
		lp_settle(bigint[], text[], integer[], bigint[], bigint[], text[], text[], bigint[], bigint[], text),
	lp_uncertain(text), lp_hold(text, text, text), lp_due(),
	lp_own_rows(bigint[], name), lp_retry_rows(bigint[], name), lp_discard_rows(bigint[], name), lp_wake(),
	lp_housekeep(interval, interval),
	lp_release(text), lp_adopt(), lp_purge(interval), lp_worker_stop(),
	lp_enqueue_users(text, jsonb), lp_create_users_trigger()
	FROM PUBLIC;
REVOKE EXECUTE ON PROCEDURE lp_deliver(text) FROM PUBLIC;

/* The views show what the table holds: their columns mean the same. */
DO $$
DECLARE
	c record;
BEGIN
	FOR c IN
		SELECT v.oid::pg_catalog.regclass AS view, a.attname, pg_catalog.col_description(t.oid, ta.attnum) AS words
		FROM pg_catalog.pg_class t
		JOIN pg_catalog.pg_attribute ta ON ta.attrelid = t.oid
		JOIN pg_catalog.pg_class v ON v.relnamespace = t.relnamespace AND v.relname IN ('lp_results', 'lp_summary', 'lp_progress')
		JOIN pg_catalog.pg_attribute a ON a.attrelid = v.oid AND a.attname = ta.attname
		WHERE t.oid = '@extschema@.lp_requests'::pg_catalog.regclass AND ta.attnum > 0
	LOOP
		EXECUTE pg_catalog.format('COMMENT ON COLUMN %s.%I IS %L', c.view, c.attname, c.words);
	END LOOP;
END;
$$;

COMMENT ON COLUMN lp_summary.day IS 'day of the request, in the session''s time zone';
COMMENT ON COLUMN lp_summary.requests IS 'how many requests';
COMMENT ON COLUMN lp_summary.median_seconds IS 'median of the seconds from request to result';
COMMENT ON COLUMN lp_summary.p95_seconds IS '95th percentile of the seconds from request to result';
COMMENT ON COLUMN lp_progress.pending IS 'waiting to be sent';
COMMENT ON COLUMN lp_progress.sending IS 'in a request that is under way';
COMMENT ON COLUMN lp_progress.uncertain IS 'sent, outcome unknown: to be looked up';
COMMENT ON COLUMN lp_progress.held IS 'not to be sent until somebody says so: lp_release() or lp_adopt()';
COMMENT ON COLUMN lp_progress.created IS 'created in the account';
COMMENT ON COLUMN lp_progress.failed IS 'not created';
COMMENT ON COLUMN lp_progress.users_per_second IS 'created per second in the last minute';
COMMENT ON COLUMN lp_progress.estimated_end IS 'when the queue is empty at that speed';
COMMENT ON COLUMN lp_progress.oldest_pending IS 'since when the oldest user waits';
COMMENT ON COLUMN lp_progress.paused IS 'has a server of the account the option delivery ''paused''?';
COMMENT ON COLUMN lp_progress.worker_pid IS 'process id of this database''s worker, null if there is none';
COMMENT ON COLUMN lp_progress.last_error IS 'the latest error or reason among the requests';

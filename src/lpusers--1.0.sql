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
 * tables are kept by name: the record outlives them, and a dump of it means the same elsewhere. No payload, no secret.
 */
CREATE TABLE lp_requests (
	id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	account         text NOT NULL,
	operation       text NOT NULL CHECK (operation IN ('create', 'update', 'delete', 'reset')),
	path            text NOT NULL CHECK (path IN ('queue', 'direct', 'sync', 'table')),
	server          name,
	requested_by    name NOT NULL,
	send_as         name NOT NULL,
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
	finished_at     timestamptz
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

CREATE INDEX lp_requests_account_enqueued_at ON lp_requests (account, enqueued_at);

COMMENT ON SEQUENCE lp_requests_id_seq IS 'numbers of requests';

SELECT pg_catalog.pg_extension_config_dump('lp_requests', '');
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
	   OR r.server = ANY (ARRAY(SELECT s.srvname FROM pg_catalog.pg_foreign_server s
								JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid = s.srvfdw
								WHERE w.fdwname = 'lpusers' AND pg_catalog.pg_has_role(s.srvowner, 'USAGE')));
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

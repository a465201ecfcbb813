/* requests.sql: the tables and views of what was requested. */

CREATE SEQUENCE @extschema@.lp_batch_seq;
COMMENT ON SEQUENCE @extschema@.lp_batch_seq IS 'numbers of batches in lp_requests';

/*
 * One row for each user that somebody wanted created, updated, deleted, or given a new password. Roles, servers and
 * tables are kept by name: the record outlives them, and a dump of it means the same elsewhere. (As text, not name: that
 * has a fixed size of 64 bytes, and three of them would be half of the row.) No payload, no secret.
 */
CREATE TABLE @extschema@.lp_requests (
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

COMMENT ON TABLE @extschema@.lp_requests IS 'one row for each user that was to be created, updated, deleted or given a new password';
COMMENT ON COLUMN @extschema@.lp_requests.id IS 'number of the request';
COMMENT ON COLUMN @extschema@.lp_requests.account IS 'LivePerson account id';
COMMENT ON COLUMN @extschema@.lp_requests.operation IS 'create, update, delete or reset';
COMMENT ON COLUMN @extschema@.lp_requests.path IS 'how it is sent: queue, direct (a function call), sync (a trigger) or table (a foreign table)';
COMMENT ON COLUMN @extschema@.lp_requests.server IS 'foreign server whose options are used';
COMMENT ON COLUMN @extschema@.lp_requests.requested_by IS 'role that asked for it';
COMMENT ON COLUMN @extschema@.lp_requests.send_as IS 'role whose user mapping is used';
COMMENT ON COLUMN @extschema@.lp_requests.login_name IS 'loginName of the user, if the request names it';
COMMENT ON COLUMN @extschema@.lp_requests.state IS 'pending, sending, uncertain, held, created, done or failed';
COMMENT ON COLUMN @extschema@.lp_requests.attempts IS 'how often it was sent';
COMMENT ON COLUMN @extschema@.lp_requests.next_attempt_at IS 'not to be sent before';
COMMENT ON COLUMN @extschema@.lp_requests.batch IS 'rows of the same batch went in the same HTTP request';
COMMENT ON COLUMN @extschema@.lp_requests.status IS 'HTTP status of the last answer';
COMMENT ON COLUMN @extschema@.lp_requests.ac_revision IS 'header ac-revision of the last answer: revision of the account''s users';
COMMENT ON COLUMN @extschema@.lp_requests.user_id IS 'LivePerson user id, when known';
COMMENT ON COLUMN @extschema@.lp_requests.error IS 'why it failed: what the API said, or attribute and problem';
COMMENT ON COLUMN @extschema@.lp_requests.evidence IS 'how the result is known: from the answer, or from a look-up';
COMMENT ON COLUMN @extschema@.lp_requests.reason IS 'why it is held, or "outcome unknown" of a direct call that may have been carried out';
COMMENT ON COLUMN @extschema@.lp_requests.origin IS 'system identifier/database OID/timeline where the row was last written';
COMMENT ON COLUMN @extschema@.lp_requests.source_table IS 'table whose trigger asked for it';
COMMENT ON COLUMN @extschema@.lp_requests.source_key IS 'primary key of the row in that table';
COMMENT ON COLUMN @extschema@.lp_requests.enqueued_at IS 'when it was asked for';
COMMENT ON COLUMN @extschema@.lp_requests.sent_at IS 'when it was last sent';
COMMENT ON COLUMN @extschema@.lp_requests.finished_at IS 'when its result was known';
COMMENT ON COLUMN @extschema@.lp_requests.held_at IS 'since when it is held';

/*
 * Indexes: the unfinished rows are few, the finished ones are many. They are waiting, or in flight. Whoever enqueues asks
 * both indexes for a login, a deliverer asks the first for what is due; every hire pays for an entry there, so its key has
 * a fixed size, and who uses it looks at account and login again. The second (compared byte by byte: that is fastest) is
 * the proof that never two requests for one login are in flight. When a row is due is in no index: a deliverer lists what
 * is due, and claims from its list.
 */
CREATE INDEX lp_requests_waiting ON @extschema@.lp_requests (hashtext(account), hashtext(lower(login_name)))
	WHERE state IN ('pending', 'held');
CREATE UNIQUE INDEX lp_requests_in_flight ON @extschema@.lp_requests (account, lower(login_name) COLLATE "C")
	WHERE state IN ('sending', 'uncertain');
CREATE INDEX lp_requests_enqueued_at ON @extschema@.lp_requests USING brin (enqueued_at);

/* A queue's rows change a few times and then stay: vacuum by number of changes, not by share of the table. */
ALTER TABLE @extschema@.lp_requests SET (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000,
	autovacuum_analyze_scale_factor = 0.02);

/*
 * What is to be sent for a queued request, as JSON. Written once, so that claim and settle never rewrite it; gone with
 * success. No foreign key: it would be checked for every hire, and lp_requests has no other writer than this extension.
 */
CREATE TABLE @extschema@.lp_payloads (
	request_id bigint PRIMARY KEY,
	body       json NOT NULL
);
COMMENT ON TABLE @extschema@.lp_payloads IS 'what is to be sent for a queued request; leaves with success';
COMMENT ON COLUMN @extschema@.lp_payloads.request_id IS 'lp_requests.id';
COMMENT ON COLUMN @extschema@.lp_payloads.body IS 'the user as JSON, with its secrets';
ALTER TABLE @extschema@.lp_payloads SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);

COMMENT ON SEQUENCE @extschema@.lp_requests_id_seq IS 'numbers of requests';

SELECT pg_catalog.pg_extension_config_dump('@extschema@.lp_requests', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.lp_payloads', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.lp_requests_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.lp_batch_seq', '');

/*
 * Who sees which requests: those one asked for, those sent with one's credentials, those of a server one owns; a member
 * of a role sees what the role sees. Both views filter themselves, the table is closed. No view with a WITH clause is
 * automatically updatable: rights on the view, however they were granted, do not write the table.
 */
CREATE VIEW @extschema@.lp_results WITH (security_barrier) AS
	WITH own_roles AS (
		SELECT a.rolname FROM pg_catalog.pg_roles a WHERE pg_catalog.pg_has_role(a.oid, 'USAGE')
	)
	SELECT r.id, r.account, r.operation, r.path, r.server, r.requested_by, r.send_as, r.login_name, r.state, r.attempts,
		   r.next_attempt_at, r.batch, r.status, r.ac_revision, r.user_id, r.error, r.evidence, r.reason, r.origin,
		   r.source_table, r.source_key, r.enqueued_at, r.sent_at, r.finished_at, r.held_at
	FROM @extschema@.lp_requests r
	WHERE r.requested_by = ANY (ARRAY(SELECT o.rolname FROM own_roles o))
	   OR r.send_as = ANY (ARRAY(SELECT o.rolname FROM own_roles o))
	   OR ROW (r.server, 'account=' || r.account) IN
		  (SELECT s.srvname, o FROM pg_catalog.pg_foreign_server s
		   JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid = s.srvfdw,
				pg_catalog.unnest(s.srvoptions) o
		   WHERE w.fdwname = 'lpusers' AND pg_catalog.pg_has_role(s.srvowner, 'USAGE'));
COMMENT ON VIEW @extschema@.lp_results IS 'the requests that the current user asked for, that are sent with its credentials, or that belong to a server it owns';

CREATE VIEW @extschema@.lp_summary WITH (security_barrier) AS
	SELECT account, (enqueued_at AT TIME ZONE current_setting('TimeZone'))::date AS day, state, status, evidence,
		   count(*) AS requests,
		   round(percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM finished_at - enqueued_at))::numeric, 3)
			   AS median_seconds,
		   round(percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM finished_at - enqueued_at))::numeric, 3)
			   AS p95_seconds
	FROM @extschema@.lp_results
	GROUP BY 1, 2, 3, 4, 5;
COMMENT ON VIEW @extschema@.lp_summary IS 'lp_results per account, day, state, status and evidence: how many, and how long from request to result';


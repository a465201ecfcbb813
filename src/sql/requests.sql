/* requests.sql: the tables and views of requests. */

CREATE SEQUENCE @extschema@.lp_batch_seq;
COMMENT ON SEQUENCE @extschema@.lp_batch_seq IS 'numbers of batches in lp_requests';

/*
 * One row for each user that was to be created, updated, deleted, or given a new password. Roles, servers and tables are
 * stored by OID, which is authoritative in the database where the row was written (origin), and by name, for display and
 * for dumps. (The type is text, since name has a fixed size of 64 bytes, and three names would be half of the row.) A row
 * has no payload and no secret.
 *
 * Each UPDATE of a row compares all indexed columns of the old and the new row version, and finds a column the faster the
 * fewer columns without a fixed place are before it. So the order of the columns is by their width and use.
 */
CREATE TABLE @extschema@.lp_requests (
	/* fixed width, not null */
	id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	enqueued_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
	server_oid      oid NOT NULL DEFAULT 0,
	source_table_oid oid NOT NULL DEFAULT 0,
	requested_by_oid oid NOT NULL DEFAULT 0,
	send_as_oid     oid NOT NULL DEFAULT 0,
	attempts        integer NOT NULL DEFAULT 0,
	phase           smallint NOT NULL DEFAULT 5 CHECK (phase BETWEEN 1 AND 5),
	look_first      boolean NOT NULL DEFAULT false,
	mended          boolean NOT NULL DEFAULT false,
	/* the others that are indexed */
	state           text NOT NULL
					CHECK (state IN ('created', 'sending', 'pending', 'done', 'failed', 'held', 'uncertain', 'superseded')),
	operation       text NOT NULL CHECK (operation IN ('create', 'update', 'delete', 'reset')),
	account         text COLLATE "C" NOT NULL,
	next_attempt_at timestamptz CHECK (isfinite(next_attempt_at)),
	user_id         bigint,
	login_name      text,
	source_key      jsonb,
	/* the rest */
	path            text NOT NULL CHECK (path IN ('queue', 'direct', 'trigger', 'table')),
	plan            bigint,
	action          text,
	server          text,
	requested_by    text NOT NULL,
	send_as         text NOT NULL,
	hold            text CHECK (hold IN ('setup', 'threshold', 'credentials', 'elsewhere')),
	cause           text CHECK (cause IN ('refused', 'gave_up', 'unknown')),
	batch           bigint,
	status          integer,
	ac_revision     bigint,
	error           text,
	evidence        text CHECK (evidence IN ('answer', 'lookup')),
	reason          text,
	outcome         jsonb,
	origin          text,
	source_table    text,
	sent_at         timestamptz,
	finished_at     timestamptz,
	held_at         timestamptz,
	CHECK ((state = 'held') = (hold IS NOT NULL)),
	CHECK ((state = 'failed') = (cause IS NOT NULL)),
	CHECK (NOT mended OR state = 'failed'),
	CHECK (state NOT IN ('pending', 'uncertain') OR next_attempt_at IS NOT NULL),
	/* indexed values are limited */
	CHECK (state NOT IN ('pending', 'held', 'sending', 'uncertain') OR char_length(login_name) <= 254)
);

COMMENT ON TABLE @extschema@.lp_requests IS 'one row for each user to be created, updated, deleted or given a new password';
COMMENT ON COLUMN @extschema@.lp_requests.id IS 'number of the request';
COMMENT ON COLUMN @extschema@.lp_requests.account IS 'LivePerson account id';
COMMENT ON COLUMN @extschema@.lp_requests.operation IS 'create, update, delete or reset';
COMMENT ON COLUMN @extschema@.lp_requests.path IS 'how it is sent: queue, direct (a function call), trigger (mode=sync) or table (a foreign table)';
COMMENT ON COLUMN @extschema@.lp_requests.plan IS 'plan it belongs to, if any';
COMMENT ON COLUMN @extschema@.lp_requests.action IS 'action on the user: disable, delete, rename, update, enable and others; null for a create without a plan';
COMMENT ON COLUMN @extschema@.lp_requests.phase IS 'order of delivery in an account: 1 disable, 2 delete, 3 rename, 4 update and enable, 5 create';
COMMENT ON COLUMN @extschema@.lp_requests.server IS 'foreign server whose options are used';
COMMENT ON COLUMN @extschema@.lp_requests.server_oid IS 'OID of the server in the database of origin; 0: not assigned yet';
COMMENT ON COLUMN @extschema@.lp_requests.requested_by IS 'role that requested it';
COMMENT ON COLUMN @extschema@.lp_requests.requested_by_oid IS 'OID of the role that requested it, in the database of origin';
COMMENT ON COLUMN @extschema@.lp_requests.send_as IS 'role whose user mapping is used';
COMMENT ON COLUMN @extschema@.lp_requests.send_as_oid IS 'OID of the role whose user mapping is used, in the database of origin';
COMMENT ON COLUMN @extschema@.lp_requests.login_name IS 'loginName of the user, if the request has it';
COMMENT ON COLUMN @extschema@.lp_requests.state IS 'pending, sending, uncertain, held, created, done, failed or superseded';
COMMENT ON COLUMN @extschema@.lp_requests.hold IS 'why it is held: setup, threshold (hold_above), credentials, or elsewhere (see origin)';
COMMENT ON COLUMN @extschema@.lp_requests.cause IS 'why it failed: refused (the data), gave_up (sent, no outcome) or unknown (a direct call without outcome)';
COMMENT ON COLUMN @extschema@.lp_requests.look_first IS 'true if it may have been sent before, so that it is looked up first';
COMMENT ON COLUMN @extschema@.lp_requests.mended IS 'true if a later request for the same login or source row succeeded';
COMMENT ON COLUMN @extschema@.lp_requests.attempts IS 'number of times it was sent since it was queued or retried';
COMMENT ON COLUMN @extschema@.lp_requests.next_attempt_at IS 'earliest time of sending';
COMMENT ON COLUMN @extschema@.lp_requests.batch IS 'rows with the same batch were sent in the same HTTP request';
COMMENT ON COLUMN @extschema@.lp_requests.status IS 'HTTP status of the last response';
COMMENT ON COLUMN @extschema@.lp_requests.ac_revision IS 'header ac-revision of the last response: revision of the account''s users';
COMMENT ON COLUMN @extschema@.lp_requests.user_id IS 'LivePerson user id, when known';
COMMENT ON COLUMN @extschema@.lp_requests.error IS 'why it failed: message of the API, or attribute and problem';
COMMENT ON COLUMN @extschema@.lp_requests.evidence IS 'source of the result: answer (the response) or lookup';
COMMENT ON COLUMN @extschema@.lp_requests.reason IS 'why it is held, a remark on its result, or "outcome unknown" for a direct call that may have been executed';
COMMENT ON COLUMN @extschema@.lp_requests.outcome IS 'of an update: "drifted", the attributes left as the account has them; of a plan also "dateUpdated"; of an unfinished change by login: "by_login" once the user with this login is known';
COMMENT ON COLUMN @extschema@.lp_requests.origin IS 'system identifier/database OID/timeline where the row was last written';
COMMENT ON COLUMN @extschema@.lp_requests.source_table IS 'table whose trigger requested it';
COMMENT ON COLUMN @extschema@.lp_requests.source_table_oid IS 'OID of the table whose trigger requested it, in the database of origin; 0: none';
COMMENT ON COLUMN @extschema@.lp_requests.source_key IS 'primary key of the row in that table';
COMMENT ON COLUMN @extschema@.lp_requests.enqueued_at IS 'when it was requested';
COMMENT ON COLUMN @extschema@.lp_requests.sent_at IS 'when it was last sent';
COMMENT ON COLUMN @extschema@.lp_requests.finished_at IS 'when its result was known';
COMMENT ON COLUMN @extschema@.lp_requests.held_at IS 'when it was held';

/*
 * Indexes: unfinished rows are few, finished rows are many. "due" has the rows to claim in their order, "logins" the rows
 * not in flight by login, and "users" by user. "changes" has the updates and deletes of an account that may be claimed,
 * including uncertain ones, in the order of delivery. The in-flight indexes guarantee that two requests for one login or
 * user are never under way at the same time. The conditions are chosen so that each statement of the queue can use only
 * one index, since a cached plan may have been made when the table was empty. Logins are compared byte by byte, with
 * ASCII letters folded, so an upgrade of libc or ICU cannot change their order. A later success searches for failed rows.
 * The times are in the order of the pages, more or less: reports and housekeeping read a range of them.
 */
CREATE INDEX lp_requests_due ON @extschema@.lp_requests (account, server_oid, next_attempt_at, id)
	WHERE state = 'pending' AND NOT look_first;
CREATE INDEX lp_requests_look_first ON @extschema@.lp_requests (account) WHERE state = 'pending' AND look_first;
CREATE INDEX lp_requests_held ON @extschema@.lp_requests (account) WHERE state = 'held';
CREATE INDEX lp_requests_logins ON @extschema@.lp_requests (account, lower(login_name COLLATE "C"), server_oid)
	WHERE state IN ('pending', 'held') AND login_name IS NOT NULL;
CREATE UNIQUE INDEX lp_requests_in_flight ON @extschema@.lp_requests (account, lower(login_name COLLATE "C"), server_oid)
	WHERE state IN ('sending', 'uncertain');
CREATE UNIQUE INDEX lp_requests_users_in_flight ON @extschema@.lp_requests (account, user_id, server_oid)
	WHERE state IN ('sending', 'uncertain') AND user_id IS NOT NULL;
CREATE INDEX lp_requests_users ON @extschema@.lp_requests (account, user_id, server_oid)
	WHERE state IN ('pending', 'held') AND user_id IS NOT NULL;
CREATE INDEX lp_requests_changes ON @extschema@.lp_requests (account, phase, id)
	WHERE state IN ('pending', 'uncertain') AND operation IN ('update', 'delete');
CREATE INDEX lp_requests_unfinished_changes ON @extschema@.lp_requests (account, server_oid, (user_id IS NULL), id)
	WHERE state IN ('pending', 'held', 'sending', 'uncertain') AND operation IN ('update', 'delete');
CREATE INDEX lp_requests_failed_logins ON @extschema@.lp_requests (account, lower(login_name COLLATE "C"), server_oid)
	WHERE state = 'failed' AND NOT mended AND char_length(login_name) <= 254;
CREATE INDEX lp_requests_failed_users ON @extschema@.lp_requests (account, user_id, server_oid)
	WHERE state = 'failed' AND NOT mended AND user_id IS NOT NULL AND operation IN ('update', 'delete');
CREATE INDEX lp_requests_failed_sources ON @extschema@.lp_requests (source_table_oid, jsonb_hash(source_key))
	WHERE state = 'failed' AND NOT mended AND source_key IS NOT NULL AND source_table_oid <> 0;
CREATE INDEX lp_requests_enqueued_at ON @extschema@.lp_requests USING brin (enqueued_at);
CREATE INDEX lp_requests_finished_at ON @extschema@.lp_requests USING brin (finished_at);

/* Rows of a queue change a few times and then stay: vacuum by the number of changes, not by the fraction of the table. */
ALTER TABLE @extschema@.lp_requests SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000,
	autovacuum_analyze_scale_factor = 0.02);

/*
 * Payloads of queued requests, as JSON. A payload is written once, so that claim and settle never rewrite it, and deleted
 * on success. There is no foreign key: it would be checked for every hire, and only this extension writes lp_requests.
 */
CREATE TABLE @extschema@.lp_payloads (
	request_id bigint PRIMARY KEY,
	body       json NOT NULL
);
COMMENT ON TABLE @extschema@.lp_payloads IS 'payload of a queued request; deleted on success';
COMMENT ON COLUMN @extschema@.lp_payloads.request_id IS 'lp_requests.id';
COMMENT ON COLUMN @extschema@.lp_payloads.body IS 'of a create: the user, with its secrets; of an update or delete: an object, see src/queue/enqueue_change.h';
/* Renames, by their new login. */
CREATE INDEX lp_payloads_new_logins ON @extschema@.lp_payloads (lower((body #>> '{set,loginName}') COLLATE "C"), request_id)
	WHERE (body #>> '{set,loginName}') IS NOT NULL;
ALTER TABLE @extschema@.lp_payloads SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);

COMMENT ON SEQUENCE @extschema@.lp_requests_id_seq IS 'numbers of requests';

SELECT pg_catalog.pg_extension_config_dump('@extschema@.lp_requests', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.lp_payloads', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.lp_requests_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.lp_batch_seq', '');

/*
 * Where a row is written: system identifier/database OID/timeline. This database sends only rows that were written here.
 */
CREATE FUNCTION @extschema@.lp_origin() RETURNS text
	AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.lp_origin() IS 'system identifier/database OID/timeline of this database, as in lp_requests.origin';

/*
 * A role sees the requests that it made, those sent with its credentials and those of a server it owns; a member of a
 * role sees what the role sees, and the owner of the tables sees all. In rows written in this database roles and servers
 * are compared by OID, so that a new role or server with an old name sees nothing; in other rows by name. Both views
 * filter their rows, and the table is not granted. A view with a WITH clause is not automatically updatable, so rights on
 * the view never allow writing the table.
 */
CREATE VIEW @extschema@.lp_results WITH (security_barrier) AS
	WITH mine AS MATERIALIZED (
		SELECT pg_catalog.regexp_replace(@extschema@.lp_origin(), '[^/]*$', '') AS here,
			   (SELECT pg_catalog.pg_has_role(c.relowner, 'USAGE') FROM pg_catalog.pg_class c
				WHERE c.oid = '@extschema@.lp_requests'::pg_catalog.regclass::oid) AS all_rows,
			   ARRAY(SELECT a.oid FROM pg_catalog.pg_roles a WHERE pg_catalog.pg_has_role(a.oid, 'USAGE')) AS roles,
			   ARRAY(SELECT a.rolname::text FROM pg_catalog.pg_roles a WHERE pg_catalog.pg_has_role(a.oid, 'USAGE')) AS role_names,
			   ARRAY(SELECT s.oid FROM pg_catalog.pg_foreign_server s
					 JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid = s.srvfdw
					 WHERE w.fdwname = 'lpusers'::name AND pg_catalog.pg_has_role(s.srvowner, 'USAGE')) AS servers,
			   ARRAY(SELECT s.srvname::text || ' ' || o FROM pg_catalog.pg_foreign_server s
					 JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid = s.srvfdw, pg_catalog.unnest(s.srvoptions) o
					 WHERE w.fdwname = 'lpusers'::name AND pg_catalog.pg_has_role(s.srvowner, 'USAGE')) AS server_names
	)
	SELECT r.id, r.account, r.operation, r.path, r.plan, r.action, r.phase, r.server, r.server_oid, r.requested_by, r.requested_by_oid,
		   r.send_as, r.send_as_oid, r.login_name, r.state, r.hold, r.cause, r.look_first, r.mended, r.attempts,
		   r.next_attempt_at, r.batch, r.status, r.ac_revision, r.user_id, r.error, r.evidence, r.reason, r.outcome, r.origin,
		   r.source_table, r.source_table_oid, r.source_key, r.enqueued_at, r.sent_at, r.finished_at, r.held_at
	FROM @extschema@.lp_requests r, mine m
	WHERE m.all_rows
	   OR CASE WHEN pg_catalog.starts_with(r.origin, m.here)
			   THEN r.requested_by_oid = ANY (m.roles) OR r.send_as_oid = ANY (m.roles) OR r.server_oid = ANY (m.servers)
			   ELSE r.requested_by = ANY (m.role_names) OR r.send_as = ANY (m.role_names)
					OR r.server || ' account=' || r.account = ANY (m.server_names) END;
COMMENT ON VIEW @extschema@.lp_results IS 'requests that the current user made, that are sent with its credentials, or that belong to a server that it owns';

CREATE VIEW @extschema@.lp_summary WITH (security_barrier) AS
	SELECT account, (enqueued_at AT TIME ZONE current_setting('TimeZone'))::date AS day, operation, state, status, evidence,
		   count(*) AS requests,
		   round(percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM finished_at - enqueued_at))::numeric, 3)
			   AS median_seconds,
		   round(percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM finished_at - enqueued_at))::numeric, 3)
			   AS p95_seconds
	FROM @extschema@.lp_results
	GROUP BY 1, 2, 3, 4, 5, 6;
COMMENT ON VIEW @extschema@.lp_summary IS 'lp_results per account, day, operation, state, status and evidence: their number, and the time from request to result';


/* lpusers--0.9--1.0.sql: from the made-up version 0.9 (see undo-0.9.sql) to 1.0. */

\echo Use "ALTER EXTENSION lpusers UPDATE TO '1.0'" to load this file. \quit

SET LOCAL search_path = pg_catalog, pg_temp;

CREATE FUNCTION @extschema@.lp_worker_stop() RETURNS boolean
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.lp_worker_stop() IS 'stops this database''s worker; returns false if there is none';
REVOKE EXECUTE ON FUNCTION @extschema@.lp_worker_stop() FROM PUBLIC;

DROP INDEX @extschema@.lp_requests_due;
CREATE INDEX lp_requests_due ON @extschema@.lp_requests (account, server_oid, next_attempt_at, id)
	WHERE state = 'pending' AND NOT look_first;
ALTER TABLE @extschema@.lp_payloads DROP COLUMN checksum;
ALTER TABLE @extschema@.lp_requests ALTER COLUMN attempts SET DEFAULT 0;
ALTER SEQUENCE @extschema@.lp_batch_seq INCREMENT BY 1;
COMMENT ON FUNCTION @extschema@.lp_worker_pid() IS 'process id of this database''s worker, null if there is none';
COMMENT ON COLUMN @extschema@.lp_requests.id IS 'number of the request';
ALTER FUNCTION @extschema@._lp_wake() VOLATILE;
GRANT EXECUTE ON FUNCTION @extschema@.lp_worker_pid() TO PUBLIC;
REVOKE SELECT ON @extschema@.lp_payloads FROM pg_monitor;
DROP FUNCTION @extschema@.lp_old();

/*
 * undo-0.9.sql: what the made-up version 0.9 did not have yet, or had otherwise.
 *
 * Its script is that of 1.0 and then this. It never existed; it is there to prove that updates are tested.
 */
DROP FUNCTION @extschema@.lp_worker_stop();
DROP INDEX @extschema@.lp_requests_due;
CREATE INDEX lp_requests_due ON @extschema@.lp_requests (next_attempt_at);
ALTER TABLE @extschema@.lp_payloads ADD COLUMN checksum text;
ALTER TABLE @extschema@.lp_requests ALTER COLUMN attempts DROP DEFAULT;
ALTER SEQUENCE @extschema@.lp_batch_seq INCREMENT BY 10;
COMMENT ON FUNCTION @extschema@.lp_worker_pid() IS 'process id of the worker';
COMMENT ON COLUMN @extschema@.lp_requests.id IS NULL;
ALTER FUNCTION @extschema@._lp_wake() STABLE;
REVOKE EXECUTE ON FUNCTION @extschema@.lp_worker_pid() FROM PUBLIC;
GRANT SELECT ON @extschema@.lp_payloads TO pg_monitor;
CREATE FUNCTION @extschema@.lp_old() RETURNS integer LANGUAGE sql AS 'SELECT 1';

/* functions.sql: calls to the API. */

CREATE TYPE @extschema@.lp_response AS (
	status      integer,
	ac_revision bigint,
	body        jsonb,
	error       text
);
COMMENT ON TYPE @extschema@.lp_response IS 'response of the API: HTTP status, revision of the account''s users, body, and error message';
COMMENT ON COLUMN @extschema@.lp_response.status IS 'HTTP status';
COMMENT ON COLUMN @extschema@.lp_response.ac_revision IS 'header ac-revision (or ETag); null if absent or not a number';
COMMENT ON COLUMN @extschema@.lp_response.body IS 'body of the response; null if empty or not JSON';
COMMENT ON COLUMN @extschema@.lp_response.error IS 'null after 2xx with a readable response; else the message of the API, or an excerpt of the response';

CREATE FUNCTION @extschema@.lp_create_users(account text, users jsonb) RETURNS SETOF @extschema@.lp_response
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1 COST 10000;
COMMENT ON FUNCTION @extschema@.lp_create_users(text, jsonb) IS 'creates one user or an array of users with one request (POST users)';

CREATE FUNCTION @extschema@.lp_update_users(account text, users jsonb, if_match bigint DEFAULT -1) RETURNS SETOF @extschema@.lp_response
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1 COST 10000;
COMMENT ON FUNCTION @extschema@.lp_update_users(text, jsonb, bigint) IS 'replaces users, given as complete objects with their ids, with one request (PUT users)';

CREATE FUNCTION @extschema@.lp_delete_users(account text, ids bigint[], if_match bigint DEFAULT -1) RETURNS SETOF @extschema@.lp_response
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1 COST 10000;
COMMENT ON FUNCTION @extschema@.lp_delete_users(text, bigint[], bigint) IS 'deletes users by id with one request (DELETE users)';

CREATE FUNCTION @extschema@.lp_reset_password(account text, user_id bigint, new_password text) RETURNS SETOF @extschema@.lp_response
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1 COST 10000;
COMMENT ON FUNCTION @extschema@.lp_reset_password(text, bigint, text) IS 'gives a user a new password (PUT users/{id}/resetPassword)';

CREATE FUNCTION @extschema@.lp_validate_users(users jsonb, OUT ordinal integer, OUT attribute text, OUT problem text)
	RETURNS SETOF record
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE ROWS 10 COST 100;
COMMENT ON FUNCTION @extschema@.lp_validate_users(jsonb) IS 'checks users to be created against the documentation of the API; sends nothing; returns no rows if all are valid';

CREATE FUNCTION @extschema@.lp_check(account text, OUT step text, OUT ok boolean, OUT detail text)
	RETURNS SETOF record
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 4 COST 10000;
COMMENT ON FUNCTION @extschema@.lp_check(text) IS 'tries the connection to an account step by step: domain, token, one GET, revision; writes nothing';


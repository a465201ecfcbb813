-- server_lookup: which server and user mapping serve an account for a role
\i sql/include/start.sql
-- The bearer of a request says whose mapping it was: of a token the account's log has the last six characters.
CREATE FUNCTION check_token(account text) RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(substring(detail FROM '^status \d+'), 'no request') FROM lp_check(account) WHERE step = 'read' $$;
CREATE ROLE regress_clerk;
CREATE ROLE "regress ""odd""";
GRANT EXECUTE ON FUNCTION lp_delete_users(text, bigint[], bigint) TO regress_clerk;

-- no server
SELECT lp_check('87654321'); -- ERROR
\echo :LAST_ERROR_SQLSTATE
-- not an account id at all
SELECT account, state, message, detail FROM unnest(ARRAY['', '../x', 'a b', '1?v=2', repeat('1', 65)]) AS account,
LATERAL attempt(format('SELECT lp_check(%L)', account));
SELECT lp_check(NULL); -- ERROR
\echo :LAST_ERROR_SQLSTATE

-- no right on the server
SET ROLE regress_clerk;
SELECT lp_check('12345678'); -- ERROR
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM lp_delete_users('12345678', '{1}'); -- ERROR
-- no mapping
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER acme TO regress_clerk, "regress ""odd""";
SET ROLE regress_clerk;
SELECT * FROM lp_delete_users('12345678', '{1}'); -- ERROR
\echo :LAST_ERROR_SQLSTATE
SET ROLE "regress ""odd""";
SELECT lp_check('12345678'); -- ERROR
RESET ROLE;

-- PUBLIC's mapping is for roles that have none of their own
CREATE USER MAPPING FOR PUBLIC SERVER acme OPTIONS (token 'of-public');
SET ROLE regress_clerk;
SELECT check_token('12345678');
\! curl -sSf "$LPSIM_URL/_sim/log" | grep -o '"bearer":"[^"]*"'
RESET ROLE;
CREATE USER MAPPING FOR regress_clerk SERVER acme OPTIONS (token 'lp-token');
SET ROLE regress_clerk;
SELECT check_token('12345678');
\! curl -sSf "$LPSIM_URL/_sim/log" | grep -o '"bearer":"[^"]*"'
-- a role may look after its own mapping: what is in force changes at once, also back by a rollback
BEGIN;
ALTER USER MAPPING FOR regress_clerk SERVER acme OPTIONS (SET token 'expired');
SELECT check_token('12345678');
ROLLBACK;
SELECT check_token('12345678');
-- an empty one hides PUBLIC's, and is refused at use
ALTER USER MAPPING FOR regress_clerk SERVER acme OPTIONS (DROP token);
SELECT * FROM lp_delete_users('12345678', '{1}'); -- ERROR
\echo :LAST_ERROR_SQLSTATE
DROP USER MAPPING FOR regress_clerk SERVER acme;
SELECT check_token('12345678');
RESET ROLE;

-- several servers for the account
CREATE SERVER second FOREIGN DATA WRAPPER lpusers OPTIONS (account '12345678', base_url :'url');
CREATE USER MAPPING FOR PUBLIC SERVER second OPTIONS (token 'of-second');
SET ROLE regress_clerk;
SELECT check_token('12345678');		-- no right on the second
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER second TO regress_clerk;
SET ROLE regress_clerk;
SELECT lp_check('12345678'); -- ERROR
\echo :LAST_ERROR_SQLSTATE
CREATE USER MAPPING FOR regress_clerk SERVER second OPTIONS (token 'lp-token');
SELECT check_token('12345678');		-- the own mapping beats PUBLIC's on the first
CREATE USER MAPPING FOR regress_clerk SERVER acme OPTIONS (token 'lp-token');
SELECT lp_check('12345678'); -- ERROR
RESET ROLE;
REVOKE USAGE ON FOREIGN SERVER acme FROM regress_clerk;
SET ROLE regress_clerk;
SELECT check_token('12345678');
RESET ROLE;
-- servers change while they are known
ALTER SERVER second OPTIONS (SET account '87654321');
SET ROLE regress_clerk;
SELECT lp_check('12345678'); -- ERROR
SELECT check_token('87654321');		-- it has no such account: 404
RESET ROLE;
ALTER SERVER second RENAME TO renamed;
ALTER SERVER renamed OPTIONS (SET account '12345678');
SET ROLE regress_clerk;
ALTER USER MAPPING FOR regress_clerk SERVER renamed OPTIONS (DROP token);
SELECT * FROM lp_delete_users('12345678', '{1}'); -- ERROR
RESET ROLE;
DROP USER MAPPING FOR regress_clerk SERVER renamed;
DROP USER MAPPING FOR PUBLIC SERVER renamed;
DROP SERVER renamed;
SET ROLE regress_clerk;
SELECT lp_check('12345678'); -- ERROR
RESET ROLE;

-- a member of a role has the role's USAGE, but not its mapping
DROP USER MAPPING FOR PUBLIC SERVER acme;
DROP USER MAPPING FOR regress_clerk SERVER acme;
CREATE ROLE regress_hr;
GRANT USAGE ON FOREIGN SERVER acme TO regress_hr;
CREATE USER MAPPING FOR regress_hr SERVER acme OPTIONS (token 'lp-token');
GRANT regress_hr TO regress_clerk;
SET ROLE regress_clerk;
SELECT lp_check('12345678'); -- ERROR
SET ROLE regress_hr;
SELECT check_token('12345678');
RESET ROLE;

-- a server of another wrapper is none of ours
CREATE FOREIGN DATA WRAPPER other;
CREATE SERVER third FOREIGN DATA WRAPPER other OPTIONS (account '999');
CREATE USER MAPPING FOR CURRENT_USER SERVER third OPTIONS (token 'x');
SELECT lp_check('999'); -- ERROR
DROP USER MAPPING FOR CURRENT_USER SERVER third;
DROP SERVER third;
DROP FOREIGN DATA WRAPPER other;

-- a server and a mapping of the transaction that uses them
BEGIN;
CREATE SERVER fresh FOREIGN DATA WRAPPER lpusers OPTIONS (account '777', base_url :'url');
CREATE USER MAPPING FOR CURRENT_USER SERVER fresh OPTIONS (token 'lp-token');
SELECT check_token('777');
ROLLBACK;
SELECT lp_check('777'); -- ERROR

DROP USER MAPPING FOR regress_hr SERVER acme;
REVOKE ALL ON FOREIGN SERVER acme FROM regress_clerk, regress_hr, "regress ""odd""";
REVOKE ALL ON FUNCTION lp_delete_users(text, bigint[], bigint) FROM regress_clerk;
DROP ROLE regress_clerk, regress_hr, "regress ""odd""";
DROP FUNCTION check_token(text);
\i sql/include/finish.sql

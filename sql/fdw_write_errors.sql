-- fdw_write_errors: refusals and failures of a writing statement: who is named, what is there, what is on record, what a rollback says
\set with_tables on
\set with_people on
\i sql/include/start.sql
-- one connection, so that requests come in the order of the rows
ALTER SERVER acme OPTIONS (ADD max_connections '1');
-- Rows of staff, some of them with a password that the account refuses, or with the login of an existing user.
CREATE FUNCTION lp.mixed(prefix text, last integer, bad integer[], taken integer[] DEFAULT '{}') RETURNS SETOF lp.people LANGUAGE sql STABLE AS $$
	SELECT CASE WHEN i = ANY (taken) THEN prefix || '-taken' || i || '@example.com' ELSE login_name END, full_name, nickname, email,
		CASE WHEN i = ANY (bad) THEN 'short' ELSE password_sh END, is_enabled, max_chats, profile_ids, member_of
	FROM lp.staff(prefix, 1, last) WITH ORDINALITY s (login_name, full_name, nickname, email, password_sh, is_enabled, max_chats, profile_ids, member_of, i) $$;
-- How a load ends, what the account has of it, what is on record; and how it ends if it is repeated without those who are bad.
CREATE FUNCTION lp.load(prefix text, last integer, bad integer[], taken integer[] DEFAULT '{}', again boolean DEFAULT false) RETURNS TABLE (what text, line text)
LANGUAGE plpgsql AS $$
DECLARE
	command text := format('INSERT INTO lp.people SELECT * FROM lp.mixed(%L, %s, %L, %L) ON CONFLICT DO NOTHING', prefix, last, bad, taken);
	failure record;
BEGIN
	IF taken <> '{}' AND NOT again THEN
		INSERT INTO lp.people SELECT s.* FROM lp.mixed(prefix, last, '{}', taken) s WHERE s.login_name ~ 'taken';
	END IF;
	PERFORM lp.requests();
	SELECT * INTO failure FROM attempt(CASE WHEN again THEN command ELSE replace(command, ' ON CONFLICT DO NOTHING', '') END);
	RETURN QUERY SELECT unnest('{state,message,detail,hint}'::text[]), unnest(ARRAY[failure.state, failure.message, failure.detail, failure.hint]);
	RETURN QUERY SELECT 'request', r FROM lp.requests() r;
	RETURN QUERY SELECT 'account', string_agg(split_part(login, '@', 1) || CASE WHEN n > 1 THEN ' TWICE' ELSE '' END, ' ' ORDER BY id)
		FROM (SELECT login, count(*), min(id) FROM lp.account WHERE login ~ ('^' || prefix || '[\d-]') GROUP BY 1) a (login, n, id);
	RETURN QUERY SELECT 'record', concat_ws(' ', split_part(login_name, '@', 1), state, status, error, reason) FROM lp_requests
		WHERE login_name ~ ('^' || prefix || '\d') ORDER BY id;
END $$;
\pset tuples_only on

-- One guilty user: the first, one in the middle, the last; refused by the policy or because the login exists. All or nothing:
SELECT * FROM lp.load('ann', 8, '{1}');
SELECT * FROM lp.load('ann', 8, '{}', again => true);
SELECT * FROM lp.load('bob', 8, '{4}');
SELECT * FROM lp.load('cid', 8, '{8}');
SELECT * FROM lp.load('dan', 8, '{}', '{1}');
SELECT * FROM lp.load('eve', 8, '{}', '{5}');
SELECT * FROM lp.load('fay', 8, '{}', '{8}');
SELECT * FROM lp.load('gil', 8, '{}', '{2,6}');
SELECT * FROM lp.load('hal', 8, '{6}', '{1,3}');
SELECT * FROM lp.load('hal', 8, '{}', '{1,3}', again => true);
SELECT * FROM lp.load('ian', 4, '{}', '{1,2,3,4}');
-- the same from an account that carries out the others: the guilty one is named, not one whom the statement has created itself
CALL lp.config('{"bulk": "partial"}');
SELECT * FROM lp.load('ann', 8, '{1}');
SELECT * FROM lp.load('jim', 8, '{1}');
SELECT * FROM lp.load('jim', 8, '{}', again => true);
SELECT * FROM lp.load('kim', 8, '{4}');
SELECT * FROM lp.load('kim', 8, '{4}', again => true);
SELECT * FROM lp.load('leo', 8, '{8}');
SELECT * FROM lp.load('mia', 8, '{}', '{1}');
SELECT * FROM lp.load('nia', 8, '{}', '{5}');
SELECT * FROM lp.load('oda', 8, '{2,6}', '{4}');
SELECT * FROM lp.load('oda', 8, '{}', '{4}', again => true);
-- what was carried out is unknown
CALL lp.fault('{"method":"GET","action":"status","status":500}');
SELECT * FROM lp.load('paz', 4, '{3}');
\set SHOW_CONTEXT errors
CALL lp.fault('{"method":"GET","action":"status","status":500}');
SET client_min_messages = error;
INSERT INTO lp.people SELECT * FROM lp.mixed('pax', 4, '{3}'); -- ERROR
RESET client_min_messages;
\set SHOW_CONTEXT never
SELECT * FROM lp.load('paz', 4, '{}', again => true);
-- a later batch: the earlier ones are done
ALTER SERVER acme OPTIONS (ADD batch_size '3');
SELECT * FROM lp.load('pia', 8, '{5}');
CALL lp.config('{"bulk": "all_or_nothing", "conflict_status": 400}');
SELECT * FROM lp.load('pia', 8, '{}', again => true);
SELECT * FROM lp.load('pat', 8, '{5}');
SELECT * FROM lp.load('qin', 8, '{}', '{5}');
SELECT * FROM lp.load('qin', 8, '{}', '{5}', again => true);
CALL lp.config('{"conflict_status": 409}');
-- too large: halves are not; one that is too large alone
ALTER SERVER acme OPTIONS (DROP batch_size);
CALL lp.fault('[{"method":"POST","action":"status","status":413},{"method":"POST","action":"status","status":413}]');
SELECT * FROM lp.load('rob', 4, '{}');
CALL lp.fault('{"method":"POST","action":"status","status":413,"login":"sue2@example.com","times":0}');
SELECT * FROM lp.load('sue', 4, '{}');
SELECT lp.sim('faults', method => 'DELETE');
-- responses that concern no user: not halved
CALL lp.fault('[{"method":"POST","action":"status","status":401},{"method":"POST","action":"status","status":403},{"method":"POST","action":"status","status":415},
	{"method":"POST","action":"redirect","location":"/"},{"method":"POST","action":"status","status":418,"body":"{\"message\": \"no: Start-1234\"}"}]');
SELECT * FROM lp.load('tom', 4, '{}');
SELECT * FROM lp.load('tom', 4, '{}');
SELECT * FROM lp.load('tom', 4, '{}');
SELECT * FROM lp.load('tom', 4, '{}');
SELECT * FROM lp.load('tom', 4, '{}');
-- too many requests: waited for as long as timeout allows
CALL lp.fault('{"method":"POST","action":"retry_after","value":"1"}');
SELECT * FROM lp.load('ugo', 4, '{}');
ALTER SERVER acme OPTIONS (ADD timeout '5s', ADD batch_size '2');
CALL lp.fault('{"method":"POST","action":"retry_after","value":"3600","skip":1}');
SELECT * FROM lp.load('van', 4, '{}');
SELECT * FROM lp.load('van', 4, '{}', again => true);
-- outcome unknown: before or after it was carried out; what is sent again creates no user twice
CALL lp.fault('{"method":"POST","action":"status","status":500,"skip":1,"applied":true}');
SELECT * FROM lp.load('wim', 4, '{}');
SELECT * FROM lp.load('wim', 4, '{}', again => true);
CALL lp.fault('{"method":"POST","action":"status","status":503}');
SELECT * FROM lp.load('xia', 4, '{}');
SELECT * FROM lp.load('xia', 4, '{}', again => true);
CALL lp.fault('{"method":"POST","action":"reset","skip":1,"applied":true}');
SELECT * FROM lp.load('yan', 4, '{}');
SELECT * FROM lp.load('yan', 4, '{}', again => true);
CALL lp.fault('[{"method":"POST","action":"close"},{"method":"POST","action":"half","applied":true}]');
SELECT * FROM lp.load('zoe', 4, '{}');
SELECT * FROM lp.load('zoe', 4, '{}');
SELECT * FROM lp.load('zoe', 4, '{}', again => true);
-- no connection
ALTER SERVER acme OPTIONS (SET base_url 'http://127.0.0.1:1');
SELECT state, message, detail FROM attempt($$INSERT INTO lp.people SELECT * FROM lp.staff('zak', 1, 4)$$);
ALTER SERVER acme OPTIONS (SET base_url :'url', DROP timeout);

-- A rollback takes the record, not the users: whole transactions, savepoints, an error later in the statement.
SELECT lp.requests();
DELETE FROM lp_requests;
BEGIN;
INSERT INTO lp.people SELECT * FROM lp.staff('a', 1, 3);
SAVEPOINT s;
INSERT INTO lp.people SELECT * FROM lp.staff('b', 1, 3);
ROLLBACK TO s;
SAVEPOINT t;
INSERT INTO lp.people SELECT * FROM lp.staff('c', 1, 1);
RELEASE t;
COMMIT;
BEGIN;
INSERT INTO lp.people SELECT * FROM lp.staff('d', 1, 3);
UPDATE lp.users SET nickname = 'x', full_name = 'x' WHERE login_name ~ '^d';
DELETE FROM lp.users WHERE login_name ~ '^d1';
ROLLBACK;
-- users of requests in flight are named as unknown: which these are, is a matter of time
SET client_min_messages = error;
SELECT state FROM attempt($$INSERT INTO lp.people SELECT s.* FROM lp.staff('e', 1, 10) s WHERE 1 / (CASE s.login_name WHEN 'e10@example.com' THEN 0 ELSE 1 END) = 1$$);
RESET client_min_messages;
ALTER SERVER acme OPTIONS (DROP batch_size);
SELECT login_name, state, path FROM lp_results ORDER BY id;
SELECT login, deleted, u->'nickname' FROM lp.account WHERE login ~ '^[a-d]\d' ORDER BY id;
-- a transaction that wrote cannot be prepared
\setenv PGDATABASE :DBNAME
\setenv PGUSER :USER
\set psql `readlink -f /proc/$PPID/exe`
\setenv PSQL :psql
\! "$PSQL" -AXqt -c BEGIN -c "INSERT INTO lp.people SELECT * FROM lp.staff('f', 1, 1)" -c "PREPARE TRANSACTION 'lp'" 2>&1 | sort
-- without a record
DELETE FROM lp_requests;
SET lpusers.log_calls = off;
BEGIN;
INSERT INTO lp.people SELECT * FROM lp.staff('g', 1, 2);
UPDATE lp.users SET nickname = 'x', full_name = 'x' WHERE login_name ~ '^g\d';
DELETE FROM lp.users WHERE login_name ~ '^g\d';
ROLLBACK;
SELECT * FROM lp.load('h', 4, '{2}');
RESET lpusers.log_calls;
SELECT count(*) FROM lp_requests;

-- Nothing is sent in a READ ONLY transaction, not even through a table in a temporary schema.
SELECT lp.requests();
CREATE FOREIGN TABLE pg_temp.mine (id bigint, login_name text, nickname text) SERVER acme OPTIONS (resource 'users');
SET lpusers.log_calls = off;
BEGIN READ ONLY;
SAVEPOINT s;
INSERT INTO lp.people SELECT * FROM lp.staff('i', 1, 1); -- ERROR
ROLLBACK TO s;
COPY lp.people FROM PROGRAM 'true'; -- ERROR
ROLLBACK TO s;
UPDATE lp.users SET nickname = 'x'; -- ERROR
ROLLBACK TO s;
DELETE FROM lp.users; -- ERROR
ROLLBACK TO s;
INSERT INTO mine (login_name) VALUES ('i'); -- ERROR
ROLLBACK TO s;
UPDATE mine SET nickname = 'x'; -- ERROR
ROLLBACK TO s;
DELETE FROM mine; -- ERROR
\echo :LAST_ERROR_SQLSTATE
ROLLBACK TO s;
SELECT count(*) > 100 FROM lp.users;
ROLLBACK;
RESET lpusers.log_calls;
DROP FOREIGN TABLE pg_temp.mine;
SELECT lp.requests();

-- Whose mapping: the caller's; of a view its owner's; in a SECURITY DEFINER function its owner's. That role needs
-- EXECUTE on the function that does the same, and USAGE on the server; rights on the table are not enough.
CREATE ROLE regress_lp_owner;
CREATE ROLE regress_lp_clerk;
CREATE ROLE regress_lp_other;
CREATE USER MAPPING FOR regress_lp_owner SERVER acme OPTIONS (token 'lp-token');
CREATE USER MAPPING FOR regress_lp_other SERVER acme OPTIONS (token 'wrong');
GRANT USAGE ON FOREIGN SERVER acme TO regress_lp_owner, regress_lp_other;
GRANT EXECUTE ON FUNCTION lp_create_users, lp_update_users, lp_delete_users TO regress_lp_owner, regress_lp_other;
GRANT USAGE ON SCHEMA lp TO PUBLIC;
GRANT ALL ON lp.users, lp.people TO regress_lp_owner, regress_lp_other;
GRANT EXECUTE ON FUNCTION attempt(text) TO PUBLIC;
CREATE VIEW lp.ours AS SELECT id, login_name, full_name, nickname, email, password_sh, is_enabled, max_chats, profile_ids, member_of FROM lp.users;
ALTER VIEW lp.ours OWNER TO regress_lp_owner;
CREATE VIEW lp.theirs WITH (security_invoker) AS SELECT * FROM lp.ours;
CREATE FUNCTION lp.hire(name text) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ INSERT INTO lp.people SELECT * FROM lp.staff(name, 1, 1) $$;
ALTER FUNCTION lp.hire(text) OWNER TO regress_lp_owner;
GRANT ALL ON lp.ours, lp.theirs TO regress_lp_clerk;
SET ROLE regress_lp_clerk;
SELECT * FROM attempt($$INSERT INTO lp.people SELECT * FROM lp.staff('i', 1, 1)$$);
INSERT INTO lp.ours (:columns) SELECT * FROM lp.staff('j', 1, 3);
UPDATE lp.ours SET nickname = 'x', full_name = 'x' WHERE login_name ~ '^j\d';
DELETE FROM lp.ours WHERE login_name ~ '^j1';
INSERT INTO lp.theirs (:columns) SELECT * FROM lp.staff('k', 1, 1);
SELECT lp.hire('l');
RESET ROLE;
SET ROLE regress_lp_other;
SELECT * FROM attempt($$INSERT INTO lp.people SELECT * FROM lp.staff('m', 1, 1)$$);
RESET ROLE;
GRANT ALL ON lp.users, lp.people TO regress_lp_clerk;
CREATE USER MAPPING FOR PUBLIC SERVER acme OPTIONS (token 'lp-token');
SET ROLE regress_lp_clerk;
SELECT * FROM attempt($$DELETE FROM lp.users$$);
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER acme TO regress_lp_clerk;
SET ROLE regress_lp_clerk;
SELECT * FROM attempt($$INSERT INTO lp.people SELECT * FROM lp.staff('i', 1, 1)$$);
SELECT * FROM attempt($$UPDATE lp.users SET nickname = 'x'$$);
SELECT * FROM attempt($$DELETE FROM lp.users$$);
COPY lp.people FROM stdin; -- ERROR
\.
EXPLAIN (COSTS OFF) INSERT INTO lp.people SELECT * FROM lp.staff('i', 1, 1);
RESET ROLE;
DROP USER MAPPING FOR PUBLIC SERVER acme;
GRANT EXECUTE ON FUNCTION lp_create_users, lp_update_users, lp_delete_users TO regress_lp_clerk;
SET ROLE regress_lp_clerk;
SELECT * FROM attempt($$INSERT INTO lp.people SELECT * FROM lp.staff('i', 1, 1)$$);
SELECT * FROM attempt($$UPDATE lp.users SET nickname = 'x'$$);
SELECT * FROM attempt($$DELETE FROM lp.users WHERE id = 1$$);
SELECT * FROM attempt($$INSERT INTO lp.people SELECT * FROM lp.staff('i', 1, 0)$$);
EXPLAIN (COSTS OFF) INSERT INTO lp.people SELECT * FROM lp.staff('i', 1, 1);
RESET ROLE;
SELECT operation, login_name, requested_by, send_as FROM lp_results ORDER BY id;
SELECT lp.requests();
REVOKE ALL ON lp.users, lp.people FROM regress_lp_owner, regress_lp_other, regress_lp_clerk;
DROP FUNCTION lp.hire(text);
DROP VIEW lp.theirs, lp.ours;
DROP USER MAPPING FOR regress_lp_owner SERVER acme;
DROP USER MAPPING FOR regress_lp_other SERVER acme;
REVOKE ALL ON FOREIGN SERVER acme FROM regress_lp_owner, regress_lp_clerk, regress_lp_other;
REVOKE ALL ON FUNCTION lp_create_users, lp_update_users, lp_delete_users FROM regress_lp_owner, regress_lp_clerk, regress_lp_other;
DROP ROLE regress_lp_owner, regress_lp_clerk, regress_lp_other;
\pset tuples_only off
\i sql/include/finish.sql

-- request_ownership: whose a request is, whose credentials and whose server it uses, after roles and servers were renamed, dropped and made again
\set with_queue on
\i sql/include/start.sql
SET client_min_messages = warning;
CREATE VIEW requests AS SELECT login_name, state, hold, cause, send_as, error, reason FROM lp_requests ORDER BY id;
CREATE ROLE regress_hr;
CREATE ROLE regress_clerk;
GRANT USAGE ON FOREIGN SERVER acme TO regress_hr;
GRANT EXECUTE ON FUNCTION lp_enqueue_users(text, jsonb) TO regress_hr, regress_clerk;
CREATE USER MAPPING FOR regress_hr SERVER acme OPTIONS (token 'lp-token');
-- a role that was renamed keeps its requests, and they are sent with its mapping
SET ROLE regress_hr;
SELECT count(*) FROM lp_enqueue_users('12345678', people('a', 3));
RESET ROLE;
ALTER ROLE regress_hr RENAME TO regress_boss;
-- a new role of the old name has no part in them, whatever it may use
CREATE ROLE regress_hr;
GRANT USAGE ON FOREIGN SERVER acme TO regress_hr;
CREATE USER MAPPING FOR regress_hr SERVER acme OPTIONS (token 'wrong');
SELECT id AS a1 FROM lp_requests WHERE login_name ~ 'a1' \gset
SET ROLE regress_hr;
SELECT state, regexp_replace(message, '\d+', 'N') AS message FROM mistake(format('SELECT lp_discard(ARRAY[%s])', :a1));
SET ROLE regress_boss;
SELECT lp_discard(ARRAY[:a1]);
RESET ROLE;
CALL lp_deliver();
SELECT login_name, state FROM requests;
SELECT forget();
-- a server that was renamed, too; one that was dropped and made again is another, which the role has to have rights on
SET ROLE regress_boss;
SELECT count(*) FROM lp_enqueue_users('12345678', people('b', 1));
RESET ROLE;
ALTER SERVER acme RENAME TO acme2;
CALL lp_deliver();
SELECT login_name, state FROM requests;
SET ROLE regress_boss;
SELECT count(*) FROM lp_enqueue_users('12345678', people('c', 2));
RESET ROLE;
DROP SERVER acme2 CASCADE;
CALL lp_deliver();
SELECT login_name, state, hold, reason FROM requests WHERE login_name ~ '^c';
RESET client_min_messages;
SELECT lp_release('12345678');
CREATE SERVER acme FOREIGN DATA WRAPPER lpusers OPTIONS (account '12345678', base_url :'url');
CREATE USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (token 'lp-token');
CREATE USER MAPPING FOR regress_boss SERVER acme OPTIONS (token 'lp-token');
SELECT lp_release('12345678');
GRANT USAGE ON FOREIGN SERVER acme TO regress_boss;
SELECT lp_release('12345678');
SET client_min_messages = warning;
CALL lp_deliver();
SELECT login_name, state FROM requests WHERE login_name ~ '^c';
SELECT forget();
-- the requests of a role that is gone are those of the tables' owner; they wait, and cannot be released
SET ROLE regress_boss;
SELECT count(*) FROM lp_enqueue_users('12345678', people('d', 2));
RESET ROLE;
DROP OWNED BY regress_boss;
DROP USER MAPPING IF EXISTS FOR regress_boss SERVER acme;
DROP ROLE regress_boss;
CALL lp_deliver();
SELECT * FROM requests;
RESET client_min_messages;
SELECT lp_release('12345678');
SELECT lp_release(ARRAY(SELECT id FROM lp_requests));
SELECT lp_discard(ARRAY(SELECT id FROM lp_requests));
SET client_min_messages = warning;

-- two servers of one account, of two roles that know nothing of each other: pause, logins and waiting are each one's own
DROP OWNED BY regress_hr;
CREATE SERVER mine FOREIGN DATA WRAPPER lpusers OPTIONS (account '12345678', base_url :'url', delivery 'paused');
GRANT USAGE ON FOREIGN SERVER mine TO regress_hr;
CREATE USER MAPPING FOR regress_hr SERVER mine OPTIONS (token 'lp-token');
GRANT EXECUTE ON FUNCTION lp_enqueue_users(text, jsonb) TO regress_hr;
SET ROLE regress_hr;
SELECT count(*) FROM lp_enqueue_users('12345678', people('e', 2));
RESET ROLE;
SELECT count(*) FROM lp_enqueue_users('12345678', people('e', 2));
SELECT login_name, server, state, error FROM lp_requests ORDER BY id;
CALL lp_deliver();
SELECT login_name, server, state FROM lp_requests ORDER BY id;
ALTER SERVER mine OPTIONS (DROP delivery);
-- a 429 for one of them does not keep the other waiting
UPDATE lp_requests SET status = 429, next_attempt_at = now() + interval '1 hour' WHERE server = 'mine' AND login_name ~ 'e1';
SELECT count(*) FROM lp_enqueue_users('12345678', person('e3'));
CALL lp_deliver();
SELECT login_name, server, state FROM lp_requests ORDER BY id;
SELECT forget();
-- rows that are held because their role may use no server of the account reserve no login, and tell nothing of others'
CREATE TABLE pool (email text, name text);
ALTER TABLE pool OWNER TO regress_clerk;
GRANT EXECUTE ON FUNCTION lp_create_users_trigger() TO regress_clerk;
SELECT hook('pool', 'STATEMENT');
INSERT INTO pool VALUES ('f1@example.com', 'F');
SELECT count(*) FROM lp_enqueue_users('12345678', people('f', 2));
INSERT INTO pool VALUES ('f2@example.com', 'F'), ('f3@example.com', 'F'), ('F3@example.com', 'F');
SELECT login_name, server, state, hold, error FROM lp_requests ORDER BY id;
SELECT forget();
DROP TABLE pool;

-- who asked may try again and discard only while it may still ask: insert into the very table
CREATE TABLE hires (id integer PRIMARY KEY, email text, name text);
SELECT hook('hires', 'STATEMENT', '{"maxChats": "id"}');
GRANT INSERT (id, email, name) ON hires TO regress_clerk;
SET ROLE regress_clerk;
INSERT INTO hires SELECT i, 'g' || i || '@example.com', 'G' FROM generate_series(1, 3) i;
RESET ROLE;
UPDATE lp_requests SET state = 'failed', cause = 'refused', error = 'test', next_attempt_at = NULL, finished_at = now();
SELECT min(id) AS g1, max(id) AS g3 FROM lp_requests \gset
SET ROLE regress_clerk;
SELECT lp_retry(ARRAY[:g1]);
RESET ROLE;
REVOKE INSERT (id, email, name) ON hires FROM regress_clerk;
SET ROLE regress_clerk;
SELECT state, regexp_replace(message, '\d+', 'N') AS message FROM mistake(format('SELECT lp_retry(ARRAY[%s])', :g3));
SELECT state, regexp_replace(message, '\d+', 'N') AS message FROM mistake(format('SELECT lp_discard(ARRAY[%s])', :g3));
SELECT count(*) FROM lp_results;
RESET ROLE;
-- a table that is made anew under the name is another one
ALTER TABLE hires RENAME TO hires_old;
CREATE TABLE hires (id integer);
GRANT INSERT ON hires TO regress_clerk;
SET ROLE regress_clerk;
SELECT state FROM mistake(format('SELECT lp_discard(ARRAY[%s])', :g3));
RESET ROLE;
SELECT lp_discard(ARRAY[:g3]);
DROP TABLE hires, hires_old;
SELECT forget();

-- What was given up may have been carried out: lp_retry() has it looked up first, and what is there is ours.
\! curl -sSfo /dev/null -X POST $LPSIM_URL/_sim/reset
\! curl -sSfo /dev/null -d '{"method":"POST","action":"status","status":503,"applied":true,"login":"h1@example.com"}' $LPSIM_URL/_sim/faults
SELECT count(*) FROM lp_enqueue_users('12345678', person('h1'));
CALL lp_deliver();
SELECT login_name, state FROM requests;
UPDATE lp_requests SET state = 'failed', cause = 'gave_up', error = 'given up', next_attempt_at = NULL, finished_at = now();
SELECT lp_retry(ARRAY(SELECT id FROM lp_requests));
SELECT login_name, state, attempts, look_first, cause, error, mended FROM lp_requests;
CALL lp_deliver();
SELECT login_name, state, evidence, look_first, user_id IS NOT NULL AS known FROM lp_requests;
\! curl -sSf "$LPSIM_URL/_sim/count?method=POST&login=h1@example.com"
SELECT forget();
-- The server of one whose outcome is unknown is given another account: it is held, and looked up once it is released to another server.
\! curl -sSfo /dev/null -d '{"method":"POST","action":"status","status":503,"applied":true,"login":"i1@example.com"}' $LPSIM_URL/_sim/faults
SELECT count(*) FROM lp_enqueue_users('12345678', person('i1'));
CALL lp_deliver();
SELECT login_name, state FROM requests;
ALTER SERVER acme OPTIONS (SET account '87654321');
UPDATE lp_requests SET next_attempt_at = now();
CALL lp_deliver('12345678');
SELECT login_name, state, hold, reason FROM requests;
CREATE USER MAPPING IF NOT EXISTS FOR CURRENT_USER SERVER mine OPTIONS (token 'lp-token');
SELECT lp_release('12345678');
CALL lp_deliver('12345678');
SELECT login_name, state, evidence, user_id IS NOT NULL AS known FROM lp_requests;
\! curl -sSf "$LPSIM_URL/_sim/count?method=POST&login=i1@example.com"
DROP USER MAPPING FOR CURRENT_USER SERVER mine;
ALTER SERVER acme OPTIONS (SET account '12345678');
SELECT forget();
-- What is released is found by its id, also if the statistics know no held row: each entry of the index of held rows is read a few times, not once for each row.
SELECT count(*) FROM lp_enqueue_users('12345678', people('k', 2000));
UPDATE lp_requests SET state = 'created', next_attempt_at = NULL, finished_at = now();
SELECT count(*) FROM lp_enqueue_users('12345678', people('l', 2000));
VACUUM ANALYZE lp_requests;
UPDATE lp_requests SET state = 'held', hold = 'threshold', next_attempt_at = NULL, held_at = now() WHERE state = 'pending';
BEGIN;
SELECT lp_release('12345678');
SELECT pg_stat_get_xact_tuples_returned('lp_requests_held'::regclass) < 20000 AS few_held, pg_stat_get_xact_tuples_returned('lp_requests_pkey'::regclass) < 20000 AS few_ids;
ROLLBACK;
BEGIN;
SELECT lp_release(array_agg(id)) FROM lp_requests WHERE state = 'held';
SELECT pg_stat_get_xact_tuples_returned('lp_requests_held'::regclass) < 20000 AS few_held, pg_stat_get_xact_tuples_returned('lp_requests_pkey'::regclass) < 20000 AS few_ids;
COMMIT;
SELECT forget();
-- A failure is mended by a later success of the same login of the server, or of the same source row.
CREATE TABLE hires (id integer PRIMARY KEY, email text, name text);
SELECT hook('hires', 'STATEMENT');
INSERT INTO hires VALUES (1, 'j1@example.com', NULL), (2, 'j2@wrong example.com', NULL), (3, 'j3@example.com', NULL);
SELECT count(*) FROM lp_enqueue_users('12345678', person('J1'));
CREATE TRIGGER again AFTER UPDATE ON hires FOR EACH ROW EXECUTE FUNCTION lp_create_users_trigger('12345678', 'loginName=email', 'fullName=name', 'nickname=name', 'email=email',
	'passwordSh=''Start-1234''', 'isEnabled=true', 'maxChats=3', 'profileIds=ARRAY[1002]', 'memberOf=jsonb_build_object(''agentGroupId'', 2001)', 'when=name IS NOT NULL');
UPDATE hires SET email = 'j2@example.com', name = 'J' WHERE id = 2;
CALL lp_deliver();
SELECT login_name, state, source_key, mended FROM lp_requests ORDER BY id;
-- also by a direct call
SELECT status FROM lp_create_users('12345678', person('j3'));
SELECT login_name, path, state, mended FROM lp_requests WHERE login_name ~ 'j3' ORDER BY id;
DROP TABLE hires;
SELECT forget();

-- a login that is too long for an index is refused when it is queued
SELECT count(*) FROM lp_enqueue_users('12345678', jsonb_build_array(person('k1'), person('k2', jsonb_build_object('loginName', repeat('x', 243) || '@example.com')), person('k3', jsonb_build_object('loginName', repeat('é', 242) || '@example.com'))));
INSERT INTO lp_requests (account, operation, path, requested_by, send_as, login_name, state, cause) VALUES ('12345678', 'create', 'direct', 'x', 'x', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 200) i), 'failed', 'refused');
CALL lp_deliver();
SELECT left(login_name, 3) AS login, char_length(login_name) AS length, state, error FROM lp_requests ORDER BY id;
SELECT forget();

-- the schema may be renamed: what was queued is delivered, and nothing planted in a schema of the old name is run
SELECT extnamespace::regnamespace AS schema FROM pg_extension WHERE extname = 'lpusers' \gset
SELECT count(*) FROM lp_enqueue_users('12345678', person('l1'));
ALTER SCHEMA :schema RENAME TO regress_moved;
CREATE SCHEMA :schema;
CREATE FUNCTION :schema._lp_backoff(integer) RETURNS interval LANGUAGE plpgsql AS $$ BEGIN RAISE 'planted'; END $$;
CREATE FUNCTION :schema.lp_origin() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'planted'; END $$;
SET search_path = regress_moved;
SELECT count(*) FROM lp_enqueue_users('12345678', person('l2'));
CALL lp_deliver();
SELECT login_name, state FROM lp_requests ORDER BY id;
RESET search_path;
DROP SCHEMA :schema CASCADE;
ALTER SCHEMA regress_moved RENAME TO :schema;
SELECT forget();
DROP VIEW requests;
DROP SERVER mine CASCADE;
DROP OWNED BY regress_hr, regress_clerk;
DROP ROLE regress_hr, regress_clerk;
\i sql/include/finish.sql

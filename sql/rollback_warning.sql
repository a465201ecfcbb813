-- rollback_warning: what a rollback cannot undo is named in a WARNING
\i sql/include/start.sql
BEGIN;
SELECT status FROM lp_create_users('12345678', person('ann'));
ROLLBACK;
-- nothing on COMMIT, and nothing for what the account refused
BEGIN;
SELECT status FROM lp_create_users('12345678', person('bob'));
COMMIT;
BEGIN;
SELECT status FROM lp_create_users('12345678', person('bob'));
SELECT status FROM lp_delete_users('12345678', '{42}');
ROLLBACK;
BEGIN;
SELECT state FROM attempt($$SELECT lp_create_users('none', person('bob'))$$);
ROLLBACK;
-- each operation and account by itself, in the order of the calls; ids where they are known
CREATE SERVER other FOREIGN DATA WRAPPER lpusers OPTIONS (account 'other', base_url :'url');
CREATE USER MAPPING FOR CURRENT_USER SERVER other OPTIONS (token 'lp-token');
\! curl -sSfo /dev/null -d '[{"path":"/account/other/","action":"body","body":"{}","status":200},{"path":"/account/other/","action":"status","status":500}]' $LPSIM_URL/_sim/faults
BEGIN;
SELECT status FROM lp_create_users('12345678', people('c', 2));
SELECT status FROM lp_update_users('12345678', person('bob', '{"id": 4000000002}'));
SELECT status FROM lp_create_users('12345678', person('cid'));
SELECT status FROM lp_delete_users('12345678', '{4000000003,4000000004}');
SELECT status FROM lp_reset_password('12345678', 4000000002, 'Start-4321');
SELECT status FROM lp_delete_users('other', '{7}');
SELECT status FROM lp_delete_users('other', '{8}');
ROLLBACK;
DROP USER MAPPING FOR CURRENT_USER SERVER other;
DROP SERVER other;
-- Errors that end the transaction. psql shows WARNING and ERROR in the order in which they happen to arrive: sorted here.
\setenv PGDATABASE :DBNAME
\setenv PGUSER :USER
\set psql `readlink -f /proc/$PPID/exe`
\setenv PSQL :psql
CREATE TABLE late (id integer UNIQUE DEFERRABLE INITIALLY DEFERRED);
INSERT INTO late VALUES (1);
-- an error of the transaction
\! "$PSQL" -AXqt -c BEGIN -c "SELECT status FROM lp_create_users('12345678', person('dan'))" -c "SELECT 1 / 0" -c COMMIT 2>&1 | sort
-- of the statement itself, after the call
\! "$PSQL" -AXqt -c "SELECT 1 / (status - status) FROM lp_create_users('12345678', person('eve'))" 2>&1 | sort
-- at COMMIT, after all our code
\! "$PSQL" -AXqt -c BEGIN -c "SELECT status FROM lp_create_users('12345678', person('fay'))" -c "INSERT INTO late VALUES (1)" -c COMMIT 2>&1 | sort
-- a transaction that wrote cannot be prepared
\! "$PSQL" -AXqt -c BEGIN -c "SELECT status FROM lp_create_users('12345678', person('gil'))" -c "PREPARE TRANSACTION 'lp'" 2>&1 | sort
DROP TABLE late;
-- once in a transaction, not again by the next
BEGIN;
ROLLBACK;
BEGIN;
SELECT 1 / 0; -- ERROR
ROLLBACK;

-- Savepoints: at ROLLBACK TO, and not a second time; what was released belongs to the outer one.
BEGIN;
SELECT status FROM lp_create_users('12345678', person('s1'));
SAVEPOINT a;
SELECT status FROM lp_create_users('12345678', person('s2'));
ROLLBACK TO a;
SELECT count(*) FROM lp_results WHERE login_name ~ '^s';
COMMIT;
BEGIN;
SAVEPOINT a;
SELECT status FROM lp_create_users('12345678', person('s3'));
SAVEPOINT b;
SELECT status FROM lp_create_users('12345678', person('s4'));
RELEASE b;
SAVEPOINT c;
SELECT status FROM lp_create_users('12345678', person('s5'));
ROLLBACK TO c;
ROLLBACK TO a;
SELECT status FROM lp_create_users('12345678', person('s6'));
ROLLBACK;
BEGIN;
SAVEPOINT a;
SELECT status FROM lp_create_users('12345678', person('s7'));
RELEASE a;
COMMIT;
BEGIN;
SAVEPOINT a;
SAVEPOINT b;
SELECT status FROM lp_create_users('12345678', person('s8'));
RELEASE b;
RELEASE a;
ROLLBACK;
-- PL/pgSQL
DO $$
BEGIN
	BEGIN
		PERFORM status FROM lp_create_users('12345678', person('p1'));
		RAISE 'oops';
	EXCEPTION WHEN raise_exception THEN
		RAISE INFO 'caught';
	END;
	PERFORM status FROM lp_create_users('12345678', person('p2'));
END $$;
-- a procedure's own transactions
CREATE PROCEDURE in_parts() LANGUAGE plpgsql AS $$
BEGIN
	PERFORM status FROM lp_create_users('12345678', person('p3'));
	COMMIT;
	PERFORM status FROM lp_create_users('12345678', person('p4'));
	ROLLBACK;
	PERFORM status FROM lp_create_users('12345678', person('p5'));
END $$;
CALL in_parts();
DROP PROCEDURE in_parts();
SELECT login_name FROM lp_results WHERE login_name ~ '^p' ORDER BY id;

-- many: fifty names, then a count; also over several calls
BEGIN;
SELECT status FROM lp_create_users('12345678', people('many', 52));
ROLLBACK;
BEGIN;
SELECT sum(status) FROM generate_series(1, 60) n, LATERAL lp_delete_users('12345678', ARRAY[4000000000 + n]);
ROLLBACK;
-- names from outside are one line of the message like any other
BEGIN;
SELECT status FROM lp_create_users('12345678', person('x', jsonb_build_object('loginName', E'100 %s "quoted" é')));
ROLLBACK;
-- long ones are cut between characters; all fifty are named, and the others counted
CREATE FUNCTION long_names() RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_agg(person('l' || i, jsonb_build_object('loginName', repeat('x', i) || repeat('é', 200)))) FROM generate_series(1, 52) i $$;
\! "$PSQL" -AXqt -c BEGIN -c "SELECT status FROM lp_create_users('12345678', long_names())" -c ROLLBACK >results/effects.tmp 2>&1
\! grep -o '(id [0-9]*)' results/effects.tmp | sort -u | wc -l; grep -o ' and .* more$' results/effects.tmp; iconv -f UTF-8 -t UTF-8 results/effects.tmp >/dev/null && echo valid; rm -f results/effects.tmp
DROP FUNCTION long_names();

-- refused as a whole, and carried out in part by some accounts: the answer does not tell
\! curl -sSfo /dev/null -d '{"bulk": "partial"}' $LPSIM_URL/_sim/config
SELECT status FROM lp_create_users('12345678', person('part0'));
BEGIN;
SELECT status, error FROM lp_create_users('12345678', jsonb_build_array(person('part1'), person('part0'), person('part2')));
SELECT login_name, state, error, reason FROM lp_results WHERE login_name ~ '^part' ORDER BY id;
ROLLBACK;
\! for n in 0 1 2; do curl -sSf "$LPSIM_URL/_sim/user?login=part$n@example.com" | grep -o '"loginName":"[^"]*"'; done
-- one alone was not created
BEGIN;
SELECT status FROM lp_create_users('12345678', person('part1'));
SELECT login_name, state, reason FROM lp_results WHERE login_name ~ '^part1' ORDER BY id;
ROLLBACK;
\! curl -sSfo /dev/null -d '{"bulk": "all_or_nothing"}' $LPSIM_URL/_sim/config
-- a success that does not name the user
\! curl -sSfo /dev/null -d '{"method":"POST","action":"status","status":201,"body":"[{\"id\": 77, \"loginName\": \"some1@example.com\"}]"}' $LPSIM_URL/_sim/faults
BEGIN;
SELECT status, error FROM lp_create_users('12345678', people('some', 3));
SELECT login_name, state, user_id, error, reason FROM lp_results WHERE login_name ~ '^some' ORDER BY id;
ROLLBACK;
-- unknown outcomes
\! curl -sSfo /dev/null -d '[{"action":"status","status":500},{"action":"close","login":"u2@example.com"},{"action":"retry_after","value":"3600","login":"u3@example.com"}]' $LPSIM_URL/_sim/faults
BEGIN;
SELECT status FROM lp_create_users('12345678', person('u1'));
ROLLBACK;
SELECT state FROM attempt($$SELECT lp_create_users('12345678', person('u2'))$$);
BEGIN;
SELECT status FROM lp_create_users('12345678', person('u3'));
ROLLBACK;
-- cancelled while it waits because of a 429: that was not carried out
\! curl -sSfo /dev/null -d '{"action":"retry_after","value":"30"}' $LPSIM_URL/_sim/faults
SET statement_timeout = '1s';
SELECT * FROM lp_create_users('12345678', person('u4')); -- ERROR
RESET statement_timeout;
\! curl -sSf "$LPSIM_URL/_sim/count?login=u4@example.com"
\i sql/include/finish.sql

-- one_call_one_request: the calls themselves: one call is one request, and what is refused sends nothing
\i sql/include/start.sql
-- (f(...)).* is one request, not one for each column
SELECT (lp_create_users('12345678', person('ann'))).status;
SELECT status, ac_revision, body->>'id' AS id, error FROM (SELECT (lp_create_users('12345678', person('bob'))).*) r;
\! curl -sSf "$LPSIM_URL/_sim/count?method=POST&login=ann@example.com"; curl -sSf "$LPSIM_URL/_sim/count?method=POST&login=bob@example.com"
-- the same in each place that a function may stand in
SELECT r.status, r.error FROM lp_create_users('12345678', person('cid')) r;
SELECT status FROM (SELECT (r).* FROM (SELECT lp_create_users('12345678', person('dan')) AS r OFFSET 0) s) t;
SELECT n, r.status FROM (VALUES (1), (2), (3)) v (n), LATERAL lp_create_users('12345678', person('eve' || n)) r;
SELECT n, (lp_create_users('12345678', person('fay' || n))).status FROM generate_series(1, 3) n;
WITH made AS (SELECT * FROM lp_create_users('12345678', person('gil'))) SELECT a.status, b.status FROM made a, made b;
SELECT count(*) FROM lp_create_users('12345678', person('hal'));
SELECT EXISTS (SELECT FROM lp_create_users('12345678', person('ian')));
\! curl -sSf "$LPSIM_URL/_sim/log" | grep -o '"logins":\[[^]]*\]'
-- no row, no request; LIMIT stops in time; EXPLAIN sends nothing
\! curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/log
SELECT r.status FROM generate_series(1, 0) n, LATERAL lp_create_users('12345678', person('none' || n)) r;
SELECT r.status FROM generate_series(1, 10) n, LATERAL lp_create_users('12345678', person('limit' || n)) r LIMIT 2;
SELECT (lp_create_users('12345678', person('limit' || n))).status FROM generate_series(3, 10) n LIMIT 2;
EXPLAIN (COSTS OFF) SELECT * FROM lp_create_users('12345678', person('plan'));
EXPLAIN (COSTS OFF) SELECT (lp_create_users('12345678', person('plan'))).*;
\! curl -sSf "$LPSIM_URL/_sim/log" | grep -o '"logins":\[[^]]*\]'
-- where it would be evaluated now and then, PostgreSQL refuses it
SELECT CASE WHEN true THEN (lp_create_users('12345678', person('case'))).status END; -- ERROR
SELECT coalesce(NULL, (lp_create_users('12345678', person('case'))).status); -- ERROR
SELECT 1 WHERE (lp_create_users('12345678', person('case'))).status = 201; -- ERROR
CREATE TEMP TABLE one AS SELECT 1 AS x;
UPDATE one SET x = (lp_create_users('12345678', person('case'))).status; -- ERROR
DROP TABLE one;
\! curl -sSf "$LPSIM_URL/_sim/count?login=case@example.com"
-- PL/pgSQL and prepared statements
DO $$
DECLARE
	r lp_response;
BEGIN
	SELECT * INTO STRICT r FROM lp_create_users('12345678', person('plpgsql1'));
	RAISE INFO '% %', r.status, r.body->>'loginName';
	FOR r IN SELECT * FROM lp_create_users('12345678', person('plpgsql2')) LOOP
		RAISE INFO '% %', r.status, r.body->>'loginName';
	END LOOP;
	PERFORM lp_create_users('12345678', person('plpgsql3'));
	r := lp_create_users('12345678', person('plpgsql4'));
	RAISE INFO '% %', r.status, r.body->>'loginName';
END $$;
PREPARE make (text, jsonb) AS SELECT status, body->>'loginName' AS login FROM lp_create_users($1, $2);
EXECUTE make ('12345678', person('prepared1'));
EXECUTE make ('12345678', person('prepared2'));
SET plan_cache_mode = force_generic_plan;
EXECUTE make ('12345678', person('prepared3'));
RESET plan_cache_mode;
DEALLOCATE make;
CREATE FUNCTION wrapped(name text) RETURNS SETOF lp_response LANGUAGE sql AS $$
	SELECT * FROM lp_create_users('12345678', person(name)) $$;
SELECT status FROM wrapped('inlined');
SELECT (wrapped('wrapped')).status;
DROP FUNCTION wrapped(text);
-- a cursor: the request goes at the first FETCH, once
BEGIN;
DECLARE c CURSOR FOR SELECT status FROM lp_create_users('12345678', person('cursor'));
\! curl -sSf "$LPSIM_URL/_sim/count?login=cursor@example.com"
FETCH ALL FROM c;
FETCH ALL FROM c;
MOVE BACKWARD ALL FROM c;
FETCH ALL FROM c;
COMMIT;
\! curl -sSf "$LPSIM_URL/_sim/log" | grep -oE '"(plpgsql|prepared|inlined|wrapped|cursor)[^"]*"'

-- the other calls, with success and refusal
SELECT status, ac_revision IS NOT NULL AS revision, body, error FROM lp_reset_password('12345678', 4000000001, 'Start-4321');
SELECT status, error FROM lp_reset_password('12345678', 4000000001, 'short');
SELECT status, error FROM lp_reset_password('12345678', 42, 'Start-4321');
SELECT status, body->>'nickname' AS nickname, error FROM lp_update_users('12345678', person('ann', '{"id": 4000000001, "nickname": "Annie"}'));
SELECT status, error FROM lp_update_users('12345678', person('bob', '{"id": 4000000001}'));
SELECT status, error FROM lp_create_users('12345678', person('ann'));
SELECT status, error FROM lp_create_users('12345678', jsonb_build_array(person('new1'), person('ann'), person('new2')));
SELECT status, body, error FROM lp_delete_users('12345678', '{4000000001,4000000002}');
SELECT status, error FROM lp_delete_users('12345678', '{4000000003,4000000001}');
SELECT status, error FROM lp_delete_users('12345678', '[5:6]={4000000003,4000000004}');
\! curl -sSf "$LPSIM_URL/_sim/log" | grep -o '"method":"DELETE".*"ids":\[[^]]*\]' | grep -o '"ids".*'
-- if_match: a stale one is a row, and changes nothing
SELECT ac_revision AS revision FROM lp_create_users('12345678', person('kim')) \gset
SELECT status, error FROM lp_create_users('12345678', person('leo'));
SELECT status, ac_revision - :revision AS later, regexp_replace(error, '\d+', 'N') AS error FROM lp_delete_users('12345678', '{4000000005}', :revision);
SELECT status, ac_revision - :revision AS later FROM lp_delete_users('12345678', '{4000000005}', :revision + 1);
SELECT status, ac_revision - :revision AS later FROM lp_update_users('12345678', person('eve2', '{"id": 4000000006}'), if_match => :revision + 2);
SELECT status FROM lp_update_users('12345678', person('eve2', '{"id": 4000000006}'), :revision);

-- What is refused before anything is sent.
\! curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/log
SELECT n, state, message, detail FROM (VALUES
	(1, $$lp_create_users(NULL, '{}')$$), (2, $$lp_create_users('12345678', NULL)$$), (3, $$lp_update_users(NULL, '{}')$$),
	(4, $$lp_update_users('12345678', NULL)$$), (5, $$lp_update_users('12345678', '{}', NULL)$$), (6, $$lp_delete_users(NULL, '{1}')$$),
	(7, $$lp_delete_users('12345678', NULL)$$), (8, $$lp_delete_users('12345678', '{1}', NULL)$$), (9, $$lp_reset_password(NULL, 1, 'x')$$),
	(10, $$lp_reset_password('12345678', NULL, 'x')$$), (11, $$lp_reset_password('12345678', 1, NULL)$$),
	(12, $$lp_delete_users('12345678', '{}')$$), (13, $$lp_delete_users('12345678', '{1,NULL}')$$), (14, $$lp_delete_users('12345678', '{1,0}')$$),
	(15, $$lp_delete_users('12345678', '{-1}')$$), (16, $$lp_delete_users('12345678', '{1}', -2)$$), (17, $$lp_update_users('12345678', '{}', -2)$$),
	(18, $$lp_reset_password('12345678', 0, 'x')$$), (19, $$lp_reset_password('12345678', -1, 'x')$$), (20, $$lp_reset_password('12345678', 1, '')$$),
	(21, $$lp_create_users('../x', '{}')$$), (22, $$lp_delete_users('none', '{1}')$$), (23, $$lp_reset_password('', 1, 'x')$$),
	(24, $$lp_delete_users('12345678', '{{1,NULL},{3,4}}')$$)) v (n, call), LATERAL attempt('SELECT ' || call) ORDER BY n;
-- a part of a user is no update
SELECT * FROM lp_update_users('12345678', '{"id": 5, "maxChats": 7}'); -- ERROR
BEGIN READ ONLY;
SELECT * FROM lp_create_users('12345678', person('ro')); -- ERROR
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
BEGIN READ ONLY;
SELECT * FROM lp_update_users('12345678', person('ro', '{"id": 1}')); -- ERROR
ROLLBACK;
BEGIN READ ONLY;
SELECT * FROM lp_delete_users('12345678', '{1}'); -- ERROR
ROLLBACK;
SET default_transaction_read_only = on;
SELECT * FROM lp_reset_password('12345678', 1, 'Start-4321'); -- ERROR
SELECT step, ok FROM lp_check('12345678') WHERE step = 'read';
RESET default_transaction_read_only;
\! curl -sSf "$LPSIM_URL/_sim/count?method=POST"; curl -sSf "$LPSIM_URL/_sim/count?method=PUT"; curl -sSf "$LPSIM_URL/_sim/count?method=DELETE"
SELECT count(*) FROM lp_results WHERE login_name ~ '^ro@';
\i sql/include/finish.sql

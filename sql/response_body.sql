-- response_body: an answer's body as jsonb, whatever it is; a user that was created is not lost by what the answer looks like
\i sql/include/start.sql
-- as the account answers usually
SELECT status, body->>'loginName' AS login, body->'id' AS id, body->>'fullName' AS hidden, error FROM lp_create_users('12345678', person('ann'));
SELECT status, body, error FROM lp_delete_users('12345678', '{4000000001}');
-- carried out, and answered in a way that cannot be read: the row says both
\! curl -sSfo /dev/null -d '[{"action":"empty","applied":true},{"action":"not_json","applied":true},{"action":"bad_utf8","applied":true},{"action":"nul","applied":true},{"action":"wrong_types","applied":true},{"action":"body","body":"7","applied":true},{"action":"body","body":"null","applied":true},{"action":"body","body":"[1,2","applied":true},{"action":"body","body":"  ","applied":true},{"action":"body","body":"{\"a\":\"\\ud800\"}","applied":true},{"action":"body","body":"[{\"id\":1.5,\"loginName\":\"b11@example.com\"}]","applied":true}]' $LPSIM_URL/_sim/faults
BEGIN;
SELECT n, r.status, r.body, r.error FROM generate_series(1, 11) n, LATERAL lp_create_users('12345678', person('b' || n)) r;
COMMIT;
\! curl -sSf "$LPSIM_URL/_sim/created"; curl -sSf "$LPSIM_URL/_sim/count?method=POST"
SELECT login_name, state, status, user_id, error, reason FROM lp_results WHERE operation = 'create' ORDER BY id;
-- too deep for the stack; the transaction goes on
\! curl -sSfo /dev/null -d '{"action":"deep","depth":100000,"applied":true}' $LPSIM_URL/_sim/faults
SET max_stack_depth = '100kB';
BEGIN;
SELECT status, body, error FROM lp_create_users('12345678', person('deep'));
SELECT count(*) FROM lp_results WHERE login_name ~ '^deep';
COMMIT;
RESET max_stack_depth;
\! curl -sSf "$LPSIM_URL/_sim/count?login=deep@example.com"
-- too large: dropped, and the status tells what became of it
ALTER SERVER acme OPTIONS (ADD max_response_size '10kB');
\! curl -sSfo /dev/null -d '[{"action":"huge","bytes":20000,"applied":true},{"action":"huge","bytes":20000,"status":400}]' $LPSIM_URL/_sim/faults
SELECT n, r.status, r.body, r.error FROM generate_series(1, 2) n, LATERAL lp_create_users('12345678', person('huge' || n)) r;
SELECT login_name, state, status, error FROM lp_results WHERE login_name ~ '^huge' ORDER BY id;
\! curl -sSf "$LPSIM_URL/_sim/count?login=huge1@example.com"; curl -sSf "$LPSIM_URL/_sim/created"
\i sql/include/finish.sql

-- queue_source_rows: rows of a table that change or go while their users are in the queue
\set with_queue on
\i sql/include/start.sql
CREATE SCHEMA hr;
CREATE TABLE hr.e (id integer PRIMARY KEY, name text, email text, active boolean DEFAULT true);
SELECT count(*) FROM lp_attach_trigger('hr.e', '12345678', '{"loginName": "email", "email": "email", "fullName": "name", "nickname": "name",
	"passwordSh": "''Start-1234''", "isEnabled": "true", "maxChats": "3", "profileIds": "ARRAY[1002]", "memberOf": "2001"}', condition => 'active');
CREATE SCHEMA lp;
IMPORT FOREIGN SCHEMA liveperson LIMIT TO (users) FROM SERVER acme INTO lp;
CREATE VIEW there AS SELECT login_name, nickname FROM lp.users;

-- A load that is held; meanwhile one row goes, one loses the condition, one gets another address.
ALTER SERVER acme OPTIONS (ADD hold_above '2');
INSERT INTO hr.e SELECT i, 'name' || i, 'e' || i || '@example.com' FROM generate_series(1, 4) i;
DELETE FROM hr.e WHERE id = 1;
UPDATE hr.e SET active = false WHERE id = 2;
UPDATE hr.e SET email = 'right@example.com' WHERE id = 3;
SELECT * FROM queue;
-- what waits for a row that is not as it was queued is found by the row's key, and dropped; the present row is queued anew
CREATE VIEW outdated AS SELECT r.id, r.login_name FROM lp_results r LEFT JOIN hr.e ON e.id = (r.source_key ->> 'id')::integer AND e.active
	WHERE r.source_table = 'hr.e' AND r.state IN ('pending', 'held', 'failed') AND e.email IS DISTINCT FROM r.login_name;
SELECT login_name FROM outdated ORDER BY id;
SELECT lp_discard(array_agg(id)) FROM outdated;
SELECT lp_enqueue_rows('hr.e', 'id = 3');
SELECT lp_release('12345678');
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep '^NOTICE:  account' | tail -n 1
SELECT * FROM queue;
SELECT * FROM there ORDER BY 1;
SELECT forget();

-- Without that they are created as they were queued.
INSERT INTO hr.e SELECT i, 'name' || i, 'e' || i || '@example.com' FROM generate_series(5, 7) i;
DELETE FROM hr.e WHERE id = 5;
UPDATE hr.e SET active = false WHERE id = 6;
UPDATE hr.e SET name = 'other' WHERE id = 7;
SELECT lp_release('12345678');
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep '^NOTICE:  account' | tail -n 1
SELECT * FROM there WHERE login_name ~ '^e[567]' ORDER BY 1;
SELECT forget();

-- A request that the service refused: lp_retry() sends what was queued, lp_enqueue_rows() the row as it is.
\! curl -sSfo /dev/null -d '{"method": "POST", "path": "/users", "action": "status", "status": 400, "times": 2, "body": "{\"message\": \"nickname is taken\"}"}' $LPSIM_URL/_sim/faults
INSERT INTO hr.e VALUES (8, 'taken', 'e8@example.com'), (9, 'taken', 'e9@example.com');
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep '^NOTICE:  account' | tail -n 1
SELECT * FROM queue;
UPDATE hr.e SET name = 'free' WHERE id IN (8, 9);
SELECT lp_retry(array_agg(id)) FROM lp_results WHERE login_name = 'e8@example.com';
SELECT lp_enqueue_rows('hr.e', 'id = 9');
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep '^NOTICE:  account' | tail -n 1
SELECT login_name, state, mended FROM lp_results ORDER BY id;
SELECT * FROM there WHERE login_name ~ '^e[89]' ORDER BY 1;
SET client_min_messages = warning;
DROP SCHEMA hr, lp CASCADE;
RESET client_min_messages;
\i sql/include/finish.sql

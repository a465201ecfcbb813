-- deliver_users: CALL lp_deliver(): batches, answers, what it says, and that it sends each user once
\set with_queue on
\i sql/include/start.sql
CREATE VIEW requests AS SELECT login_name, state, attempts, status, evidence, error, replace(reason, '"' || current_user || '"', '"me"') AS reason, user_id IS NOT NULL AS id, dense_rank() OVER (ORDER BY batch) AS batch, p.request_id IS NOT NULL AS payload
	FROM lp_requests r LEFT JOIN lp_payloads p ON p.request_id = r.id ORDER BY r.id;
-- what is waited for is not the subject here
CREATE FUNCTION hurry() RETURNS bigint LANGUAGE sql AS $$
	WITH due AS (UPDATE lp_requests SET next_attempt_at = clock_timestamp() WHERE state IN ('pending', 'uncertain') RETURNING 1) SELECT count(*) FROM due $$;
-- nothing to do
CALL lp_deliver();
CALL lp_deliver('12345678');
-- where it cannot be, it says so before it claims anything
SELECT count(*) FROM lp_enqueue_users('12345678', people('a', 3));
BEGIN;
CALL lp_deliver(); -- ERROR
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
DO $$ BEGIN BEGIN CALL lp_deliver(); EXCEPTION WHEN division_by_zero THEN NULL; END; END $$; -- ERROR
CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS 'BEGIN CALL lp_deliver(); END';
SELECT f(); -- ERROR
DROP FUNCTION f();
SET default_transaction_read_only = on;
CALL lp_deliver(); -- ERROR
RESET default_transaction_read_only;
CALL lp_deliver('../x'); -- ERROR
CREATE ROLE regress_clerk;
SET ROLE regress_clerk;
CALL lp_deliver(); -- ERROR
RESET ROLE;
SELECT * FROM requests;
\! curl -sSf "$LPSIM_URL/_sim/count"
ALTER SERVER acme OPTIONS (ADD max_connections '1');
-- a few: each goes alone. Of what it says only the last line: how many come on the way depends on the time that it takes.
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep '^NOTICE:  account' | tail -n 1
SELECT * FROM requests;
SELECT account, pending, sending, uncertain, held, created, failed, estimated_end, oldest_pending, paused, worker_pid, last_error FROM lp_progress;
SELECT bool_and(enqueued_at <= sent_at AND sent_at <= finished_at) AS times, bool_and(ac_revision IS NOT NULL) AS revision, count(DISTINCT user_id) AS ids FROM lp_requests;
-- again: there is nothing left
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep '^NOTICE:  account' | tail -n 1
\! curl -sSf "$LPSIM_URL/_sim/log" | grep -oE '"method":"[A-Z]*"|"logins":\[[^]]*\]'
ALTER SERVER acme OPTIONS (DROP max_connections);
SELECT forget();
-- from PL/pgSQL that may commit, and by a role that was granted it; it acts as the owner of the tables, with the sender's credentials
GRANT EXECUTE ON PROCEDURE lp_deliver(text) TO regress_clerk;
SELECT count(*) FROM lp_enqueue_users('12345678', person('b1'));
SET ROLE regress_clerk;
SET client_min_messages = warning;
CALL lp_deliver();
SELECT current_user;
RESET ROLE;
SELECT count(*) FROM lp_enqueue_users('12345678', person('b2'));
DO $$ BEGIN CALL lp_deliver(); COMMIT; END $$;
SELECT count(*) FROM lp_enqueue_users('12345678', person('b3'));
SET default_transaction_isolation = 'serializable';
CALL lp_deliver();
RESET default_transaction_isolation;
RESET client_min_messages;
SELECT login_name, state, send_as = current_user AS as_me FROM lp_requests ORDER BY id;
SELECT forget();

-- Batches of batch_size, all rows of one with one number; the account argument takes no other.
CREATE SERVER other FOREIGN DATA WRAPPER lpusers OPTIONS (account 'other', base_url :'url');
CREATE USER MAPPING FOR CURRENT_USER SERVER other OPTIONS (token 'lp-token');
ALTER SERVER acme OPTIONS (ADD batch_size '4');
\! curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/log
SELECT count(*) FROM lp_enqueue_users('12345678', people('c', 10));
SELECT count(*) FROM lp_enqueue_users('other', people('o', 2));
\! "$PSQL" -AXqtc "CALL lp_deliver('12345678')" 2>&1 | tail -n 1
SELECT count(*) AS rows, count(DISTINCT batch) AS batches FROM lp_requests WHERE account = '12345678';
SELECT string_agg(login_name, ' ' ORDER BY id) AS together FROM lp_requests WHERE batch IS NOT NULL GROUP BY batch ORDER BY min(id);
SELECT account, state, count(*) FROM lp_requests GROUP BY 1, 2 ORDER BY 1, 2;
SELECT account, pending, created FROM lp_progress ORDER BY account;
\! curl -sSf "$LPSIM_URL/_sim/log" | grep -o '"logins":\[[^]]*\]' | sort
-- both: one answers, the other does not know the account: held
SELECT count(*) FROM lp_enqueue_users('12345678', person('d'));
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep -o 'account "[^"]*"' | sort -u
SELECT account, state, status, count(*) FROM lp_requests GROUP BY 1, 2, 3 ORDER BY 1, 2;
DROP USER MAPPING FOR CURRENT_USER SERVER other;
DROP SERVER other;
SELECT forget();

-- Rejected batches are split until the guilty stand alone, whether the account takes all or none, or those that are good.
CREATE FUNCTION guilty(prefix text) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_agg(person(prefix || i, CASE i WHEN 3 THEN '{"passwordSh": "short"}' WHEN 6 THEN '{"loginName": "a1@example.com", "nickname": "other"}' ELSE '{}' END::jsonb) ORDER BY i) FROM generate_series(1, 8) i $$;
ALTER SERVER acme OPTIONS (SET batch_size '8');
\! curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/log
SELECT count(*) FROM lp_enqueue_users('12345678', guilty('e'));
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep '^NOTICE:  account' | tail -n 1
SELECT login_name, state, attempts, status, evidence, error, id, payload FROM requests;
\! curl -sSf "$LPSIM_URL/_sim/log" | grep -o '"logins":\[[^]]*\]' | sort | uniq -c | sed 's/^ *//'
SELECT forget();
\! curl -sSfo /dev/null -d '{"bulk": "partial"}' $LPSIM_URL/_sim/config
SELECT count(*) FROM lp_enqueue_users('12345678', guilty('f'));
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep '^NOTICE:  account' | tail -n 1
SELECT login_name, state, status, evidence, error, id, payload FROM requests;
\! curl -sSfo /dev/null -d '{"bulk": "all_or_nothing"}' $LPSIM_URL/_sim/config
SELECT forget();
DROP FUNCTION guilty(text);
ALTER SERVER acme OPTIONS (DROP batch_size);

-- 429: not before Retry-After, and then as if nothing had been
\! curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/log; curl -sSfo /dev/null -d '{"method":"POST","action":"retry_after","value":"100"}' $LPSIM_URL/_sim/faults
SELECT count(*) FROM lp_enqueue_users('12345678', people('g', 2));
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep '^NOTICE:  account' | tail -n 1
SELECT * FROM requests;
SELECT bool_and(next_attempt_at BETWEEN clock_timestamp() + '50 s' AND clock_timestamp() + '101 s') AS later FROM lp_requests;
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep '^NOTICE:  account' | tail -n 1
\! curl -sSf "$LPSIM_URL/_sim/count?method=POST"
SELECT hurry();
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep '^NOTICE:  account' | tail -n 1
SELECT * FROM requests;
\! curl -sSf "$LPSIM_URL/_sim/count?method=POST"
SELECT forget();
-- 5xx and silence: looked up, not sent again, if the user is there; sent again if it is not
\! curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/log; curl -sSfo /dev/null -d '[{"method":"POST","action":"status","status":503,"applied":true,"login":"h1@example.com"},{"method":"POST","action":"close","applied":true,"login":"h2@example.com"},{"method":"POST","action":"status","status":500,"login":"h3@example.com"}]' $LPSIM_URL/_sim/faults
ALTER SERVER acme OPTIONS (ADD batch_size '1');
SELECT count(*) FROM lp_enqueue_users('12345678', people('h', 4));
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep '^NOTICE:  account' | tail -n 1
SELECT login_name, state, attempts, status, evidence, coalesce(error, reason) IS NOT NULL AS why, payload FROM requests;
SELECT bool_and(next_attempt_at BETWEEN clock_timestamp() AND clock_timestamp() + '6 s') AS later FROM lp_requests WHERE state = 'uncertain';
SELECT uncertain, created FROM lp_progress;
SELECT hurry();
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep '^NOTICE:  account' | tail -n 1
SELECT hurry();
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep '^NOTICE:  account' | tail -n 1
SELECT login_name, state, attempts, status, evidence, error, id, payload FROM requests;
\! for n in 1 2 3 4; do curl -sSf "$LPSIM_URL/_sim/count?method=POST&login=h$n@example.com"; done
ALTER SERVER acme OPTIONS (DROP batch_size);
SELECT forget();
-- 403 is for good; wrong credentials, no mapping, no right, no server, no role are the set-up
\! curl -sSfo /dev/null -d '{"method":"POST","action":"status","status":403}' $LPSIM_URL/_sim/faults
SELECT count(*) FROM lp_enqueue_users('12345678', person('i1'));
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep '^NOTICE:  account' | tail -n 1
SELECT count(*) FROM lp_enqueue_users('12345678', person('i2'));
ALTER USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (SET token 'wrong');
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep '^NOTICE:  account' | tail -n 1
SELECT count(*) FROM lp_enqueue_users('12345678', people('j', 2));
DROP USER MAPPING FOR CURRENT_USER SERVER acme;
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep '^NOTICE:  account' | tail -n 1
CREATE USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (token 'lp-token');
SELECT count(*) FROM lp_enqueue_users('12345678', people('k', 2));
UPDATE lp_requests SET send_as = 'regress_gone', send_as_oid = 1 WHERE login_name ~ 'k1';
UPDATE lp_requests SET send_as = 'regress_clerk', send_as_oid = 'regress_clerk'::regrole WHERE login_name ~ 'k2';
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep '^NOTICE:  account' | tail -n 1
SELECT login_name, state, status, error, reason, payload FROM requests;
SELECT forget();
-- paused: the queue keeps
SELECT count(*) FROM lp_enqueue_users('12345678', person('l'));
ALTER SERVER acme OPTIONS (ADD delivery 'paused');
\! curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/log
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep '^NOTICE:  account' | tail -n 1
SELECT login_name, state, attempts FROM requests;
\! curl -sSf "$LPSIM_URL/_sim/count"
ALTER SERVER acme OPTIONS (DROP delivery);
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep '^NOTICE:  account' | tail -n 1
SELECT login_name, state, attempts FROM requests;
SELECT forget();
-- the same login twice in the queue, as two sessions may have put it there: one after the other, and the second finds the first
SELECT count(*) FROM lp_enqueue_users('12345678', people('m', 2));
UPDATE lp_requests SET login_name = 'M1@example.com' WHERE login_name ~ 'm2';
UPDATE lp_payloads SET body = person('M1') WHERE body->>'nickname' = 'm2';
\! curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/log
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep '^NOTICE:  account' | tail -n 1
SELECT login_name, state, status, evidence, error IS NOT NULL AS error FROM requests;
\! curl -sSf "$LPSIM_URL/_sim/log" | grep -o '"logins":\[[^]]*\]'
SELECT forget();

-- 5,000 hires by COPY, with 20 that are invalid, 15 that are there twice, 12 whose login another user has in the account, and a 429 on the way
\! curl -sSfo /dev/null -X POST $LPSIM_URL/_sim/reset
CREATE TABLE hires (id integer PRIMARY KEY, email text, name text, chats integer);
SELECT hook('hires', 'STATEMENT', '{"maxChats": "chats"}');
\copy (SELECT i, CASE WHEN i > 4985 THEN 'HIRE' || i - 4965 || '@example.com' ELSE 'hire' || i || '@example.com' END, CASE WHEN i % 250 <> 7 THEN 'N' || i END, 3 FROM generate_series(1, 5000) i) TO 'results/deliver.tmp'
\! for i in 101 501 901 1301 1302 1303 2101 2501 3333 4444 4500 4985; do echo "{\"loginName\":\"hire$i@example.com\",\"nickname\":\"somebody\",\"email\":\"else@example.com\"}"; done | paste -sd, | sed 's/.*/[&]/' | curl -sSfo /dev/null -d @- "$LPSIM_URL/_sim/users"; curl -sSfo /dev/null -d '{"method":"POST","action":"retry_after","value":"1","skip":9}' $LPSIM_URL/_sim/faults
\copy hires FROM 'results/deliver.tmp'
\! rm -f results/deliver.tmp
SELECT state, left(reason, 40) AS reason, error, count(*) FROM lp_requests GROUP BY 1, 2, 3 ORDER BY 1, 3;
-- as many as that are not sent before they are released
SELECT lp_release('12345678');
\! for i in $(seq 300); do "$PSQL" -AXqtc 'CALL lp_deliver()' >results/deliver.tmp 2>&1; [ "$("$PSQL" -AXqtc "SELECT count(*) FROM lp_requests WHERE state IN ('pending', 'sending', 'uncertain')")" = 0 ] && break; sleep 0.1; done; sed -nE '$s/[0-9]+ /N /gp' results/deliver.tmp; rm -f results/deliver.tmp
\! curl -sSf "$LPSIM_URL/_sim/count?method=POST&status=429"
SELECT state, evidence, regexp_replace(error, '\d{10}', 'N') AS error, count(*) FROM lp_requests GROUP BY 1, 2, 3 ORDER BY 1, 3;
SELECT sum(requests) AS summary FROM lp_summary;
-- the 15 that were there twice are mended: their logins were created
SELECT created + failed AS progress, pending + sending + uncertain + held AS unfinished FROM lp_progress;
-- each row of the table has its request; each login that was to be created is in the account once, with the id that its request names
SELECT count(*) AS hires, count(r.id) AS requests, count(DISTINCT r.id) AS different FROM hires h LEFT JOIN lp_requests r ON r.source_key = jsonb_build_object('id', h.id);
CREATE TABLE account (users jsonb);
\copy account FROM PROGRAM 'curl -sSf "$LPSIM_URL/_sim/users" | tr -d "\\n"' WITH (FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02')
SELECT count(*) AS users, count(DISTINCT lower(u->>'loginName')) AS logins, count(*) FILTER (WHERE u->>'nickname' = 'somebody') AS others FROM account, jsonb_array_elements(users) u;
SELECT count(*) AS found FROM lp_requests r JOIN (SELECT u FROM account, jsonb_array_elements(users) u) a
	ON a.u->>'loginName' = r.login_name AND (a.u->>'id')::bigint = r.user_id AND a.u->>'nickname' = 'N' || (r.source_key->>'id') WHERE r.state = 'created';
\! curl -sSf "$LPSIM_URL/_sim/created"
SELECT count(*) AS payloads_of_created FROM lp_payloads p JOIN lp_requests r ON r.id = p.request_id WHERE r.state = 'created';
SELECT forget();
DROP TABLE hires, account;
REVOKE ALL ON PROCEDURE lp_deliver(text) FROM regress_clerk;
DROP ROLE regress_clerk;
DROP FUNCTION hurry();
DROP VIEW requests;
\i sql/include/finish.sql

-- account_wide_responses: an answer, or none, that concerns more than the batch it belongs to
\set with_queue on
\i sql/include/start.sql
CREATE VIEW requests AS SELECT login_name, state, attempts, status, next_attempt_at > clock_timestamp() AS later, sent_at IS NOT NULL AS sent,
	regexp_replace(error, '(the account): .*', '\1: ...') AS error FROM lp_requests ORDER BY id;
-- The account is unreachable: one request tries, what is in hand waits as long, and what is in the queue is not claimed. Nothing was sent: no attempt counts.
ALTER SERVER acme OPTIONS (SET base_url 'http://127.0.0.1:1', ADD batch_size '2', ADD max_connections '1');
SELECT count(*) FROM lp_enqueue_users('12345678', people('a', 4));
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep '^NOTICE:  account' | tail -n 1
SELECT * FROM requests;
-- many: the listing that comes before them tries
SELECT count(*) FROM lp_enqueue_users('12345678', people('b', 200));
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep '^NOTICE:  account' | tail -n 1
SELECT state, attempts, later, sent, error, count(*) FROM requests GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5;
-- however often: none is given up
ALTER SERVER acme OPTIONS (ADD max_retries '0');
UPDATE lp_requests SET next_attempt_at = clock_timestamp() WHERE login_name ~ '^a';
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep '^NOTICE:  account' | tail -n 1
UPDATE lp_requests SET next_attempt_at = clock_timestamp() WHERE login_name ~ '^a';
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep '^NOTICE:  account' | tail -n 1
SELECT state, attempts, later, sent, count(*) FROM requests GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4;
SELECT bool_and(next_attempt_at < clock_timestamp() + '6 s') AS soon FROM lp_requests;
ALTER SERVER acme OPTIONS (DROP max_retries);
ALTER SERVER acme OPTIONS (SET base_url :'url', SET batch_size '100');
UPDATE lp_requests SET next_attempt_at = clock_timestamp() WHERE state = 'pending';
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep '^NOTICE:  account' | tail -n 1
SELECT state, attempts, count(*) FROM requests GROUP BY 1, 2 ORDER BY 1, 2;
SELECT forget();
-- a date is measured by the clock that wrote it, here an hour ahead
\! curl -sSfo /dev/null -d "{\"method\":\"POST\",\"action\":\"status\",\"status\":429,\"headers\":{\"Date\":\"$(date -u -d '+1 hour' '+%a, %d %b %Y %T GMT')\",\"Retry-After\":\"$(date -u -d '+1 hour 30 seconds' '+%a, %d %b %Y %T GMT')\"}}" $LPSIM_URL/_sim/faults
ALTER SERVER acme OPTIONS (ADD timeout '5s');
SELECT count(*) FROM lp_enqueue_users('12345678', people('r', 1));
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep '^NOTICE:  account' | tail -n 1
SELECT status, next_attempt_at - clock_timestamp() BETWEEN '20 s' AND '31 s' AS in_half_a_minute FROM lp_requests;
ALTER SERVER acme OPTIONS (DROP timeout);
SELECT forget();
-- those of another role, whose account it is, too, are sent: its token service answers
CREATE ROLE regress_two;
GRANT USAGE ON FOREIGN SERVER acme TO regress_two;
GRANT EXECUTE ON FUNCTION lp_enqueue_users(text, jsonb) TO regress_two;
CREATE USER MAPPING FOR regress_two SERVER acme OPTIONS (token 'lp-token');
ALTER SERVER acme OPTIONS (ADD token_url 'https://127.0.0.1:1/token', SET batch_size '1');
ALTER USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (DROP token, ADD client_id 'id', ADD client_secret 'secret');
SELECT count(*) FROM lp_enqueue_users('12345678', people('c', 2));
SET ROLE regress_two;
SELECT count(*) FROM lp_enqueue_users('12345678', people('d', 2));
RESET ROLE;
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep '^NOTICE:  account' | tail -n 1
SELECT login_name, state, attempts, later FROM requests;
DROP VIEW requests;
DELETE FROM lp_payloads; DELETE FROM lp_requests;
DROP USER MAPPING FOR regress_two SERVER acme;
REVOKE EXECUTE ON FUNCTION lp_enqueue_users(text, jsonb) FROM regress_two;
REVOKE USAGE ON FOREIGN SERVER acme FROM regress_two;
DROP ROLE regress_two;
\i sql/include/finish.sql

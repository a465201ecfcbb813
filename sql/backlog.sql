-- backlog: what CALL lp_deliver() says about the rest of the queue, and accounts that nothing is known of
\set with_queue on
\i sql/include/start.sql
SET TimeZone = 'UTC';
-- nothing is there
CALL lp_deliver();
CALL lp_deliver('12345678');
-- an account that has neither a server nor a request is misspelt
SELECT * FROM attempt('SELECT lp_release(''nobody'')');
SELECT * FROM attempt('SELECT lp_release(''12345687'')');
SELECT * FROM attempt('SELECT lp_release('''')');
CALL lp_deliver('nobody'); -- ERROR
\echo :LAST_ERROR_SQLSTATE
CALL lp_deliver('1234568'); -- ERROR
-- what waits: until when, and why
SELECT count(*) FROM lp_enqueue_users('12345678', people('a', 3));
UPDATE lp_requests SET next_attempt_at = '2100-01-01', error = 'service unavailable', sent_at = now(), status = 503;
\! "$PSQL" -AXqtc "SET TimeZone = 'UTC'" -c "CALL lp_deliver('12345678')" 2>&1 | grep -v '^NOTICE:  account'
-- ... because it is paused
UPDATE lp_requests SET next_attempt_at = now(), error = NULL;
ALTER SERVER acme OPTIONS (ADD delivery 'paused');
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep -v '^NOTICE:  account'
ALTER SERVER acme OPTIONS (DROP delivery);
-- ... because it is held; another account's requests do not count
UPDATE lp_requests SET state = 'held', hold = 'threshold', reason = 'many', next_attempt_at = NULL;
CREATE SERVER other FOREIGN DATA WRAPPER lpusers OPTIONS (account '87654321', base_url 'http://127.0.0.1:9');
CALL lp_deliver();
CALL lp_deliver('87654321');
DROP SERVER other;
-- requests outlive their server: the account is known as long as one is left
UPDATE lp_requests SET account = 'gone', server_oid = 1;
SELECT lp_release('gone');
CALL lp_deliver('gone');
DELETE FROM lp_requests;
CALL lp_deliver('gone'); -- ERROR
-- delivered, and nothing is left: no more is said
SELECT count(*) FROM lp_enqueue_users('12345678', person('b'));
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | tail -n 1
-- what was finished more than 24 hours ago, lp_progress does not count; lp_summary does
SELECT created, failed FROM lp_progress;
UPDATE lp_requests SET finished_at = now() - interval '25 hours';
SELECT account, created, failed FROM lp_progress;
SELECT sum(requests) AS requests FROM lp_summary WHERE state = 'created';
\i sql/include/finish.sql

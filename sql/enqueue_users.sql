-- enqueue_users: lp_enqueue_users(), what people do with requests, who may, and what the views say
\set with_queue on
\i sql/include/start.sql
CREATE VIEW requests AS SELECT login_name, state, attempts, status, error, reason, evidence, p.request_id IS NOT NULL AS payload
	FROM lp_requests r LEFT JOIN lp_payloads p ON p.request_id = r.id ORDER BY r.id;
-- ids in the order of the users, one for each, also for those that are wrong
CREATE TEMP TABLE queued AS SELECT * FROM lp_enqueue_users('12345678', people('a', 3) || jsonb_build_array(person('a2'), person('A3'), person('a4', '{"email": null}'),
	7, '{}'::jsonb, '[]'::jsonb, NULL::jsonb, person('a5', '{"maxChats": "x", "profileIds": [null]}'), person('a6', '{"unknown": {"passes": [1]}, "maxChats": "4"}'), person('a4')))
	WITH ORDINALITY q (id, n);
SELECT q.n, r.login_name, r.state, r.error FROM queued q LEFT JOIN lp_requests r USING (id) ORDER BY q.n;
SELECT count(*) FROM queued a, queued b WHERE a.n < b.n AND a.id >= b.id;
SELECT count(DISTINCT id) AS ids, bool_and(account = '12345678' AND server = 'acme' AND operation = 'create' AND path = 'queue' AND requested_by = current_user AND send_as = current_user
	AND source_table IS NULL AND source_key IS NULL AND attempts = 0 AND origin = lp_origin() AND sent_at IS NULL) AS common, bool_and((finished_at IS NOT NULL) = (state = 'failed')) AS finished FROM lp_requests;
SELECT body FROM bodies WHERE login_name ~ 'a6';
-- one object; again, while it is queued
SELECT count(*) FROM lp_enqueue_users('12345678', person('b1'));
SELECT count(*) FROM lp_enqueue_users('12345678', jsonb_build_array(person('B1'), person('b2')));
SELECT login_name, state, error FROM lp_requests ORDER BY id DESC LIMIT 2;
-- as many as may come, all of them wrong
SELECT count(*) FROM lp_enqueue_users('12345678', (SELECT jsonb_agg('{}'::jsonb) FROM generate_series(1, 1200)));
SELECT count(*) FROM lp_enqueue_users('12345678', (SELECT jsonb_agg('[]'::jsonb) FROM generate_series(1, 1200)));
SELECT state, count(*), count(login_name) AS logins, min(error) AS error FROM lp_requests WHERE login_name IS NULL AND id > (SELECT max(id) FROM lp_requests WHERE login_name IS NOT NULL)
	GROUP BY state, left(error, 1) ORDER BY 4;
SELECT forget();
-- documents that are none, and what else is refused: nothing is queued
SELECT n, m.state, m.message, m.detail FROM (VALUES (1, $$'12345678', '[]'$$), (2, $$'12345678', '7'$$), (3, $$'12345678', 'null'$$), (4, $$'12345678', '"x"'$$), (5, $$'12345678', NULL$$), (6, $$NULL, '{}'$$),
	(7, $$'nobody', person('c')$$), (8, $$'../x', person('c')$$)) v (n, arguments), LATERAL mistake('SELECT lp_enqueue_users(' || arguments || ')') m ORDER BY n;
BEGIN READ ONLY;
SELECT lp_enqueue_users('12345678', person('c')); -- ERROR
ROLLBACK;
BEGIN READ ONLY;
SELECT lp_retry('{1}'); -- ERROR
ROLLBACK;
BEGIN READ ONLY;
SELECT lp_discard('{1}'); -- ERROR
ROLLBACK;
BEGIN READ ONLY;
SELECT lp_release('12345678'); -- ERROR
ROLLBACK;
-- rolled back: gone, also from the way of others
BEGIN;
SELECT count(*) FROM lp_enqueue_users('12345678', people('d', 3));
ROLLBACK;
BEGIN;
SAVEPOINT a;
SELECT count(*) FROM lp_enqueue_users('12345678', people('d', 3));
ROLLBACK TO a;
SELECT count(*) FROM lp_enqueue_users('12345678', person('d2'));
COMMIT;
SELECT * FROM requests;
SELECT count(*) FROM lp_payloads;
SELECT forget();

-- Who may: EXECUTE and USAGE on the server to queue; one's own requests, or those of a role that one is a member of, afterwards.
CREATE ROLE regress_hr;
CREATE ROLE regress_deputy IN ROLE regress_hr;
CREATE ROLE regress_clerk;
CREATE ROLE regress_heir NOINHERIT IN ROLE regress_hr;
SELECT f, has_function_privilege('regress_clerk', f, 'EXECUTE') FROM unnest(ARRAY['lp_enqueue_users(text,jsonb)', 'lp_deliver(text)', 'lp_retry(bigint[])', 'lp_discard(bigint[])', 'lp_release(text)', 'lp_adopt()',
	'lp_purge(interval)', 'lp_worker_stop()', 'lp_worker_pid()', 'lp_release(bigint[])', '_lp_wake()',
	'_lp_backoff(integer)', '_lp_role_here(text,text,oid,text)']) f;
SET ROLE regress_hr;
SELECT lp_enqueue_users('12345678', person('e')); -- ERROR
RESET ROLE;
GRANT EXECUTE ON FUNCTION lp_enqueue_users(text, jsonb) TO regress_hr, regress_clerk;
SET ROLE regress_hr;
SELECT lp_enqueue_users('12345678', person('e')); -- ERROR
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER acme TO regress_hr, regress_clerk;
SET ROLE regress_hr;
SELECT lp_enqueue_users('12345678', person('e')); -- ERROR
RESET ROLE;
CREATE USER MAPPING FOR PUBLIC SERVER acme OPTIONS (token 'lp-token');
-- asked for by the clerk, sent as hr
CREATE FUNCTION hire(name text) RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$ SELECT lp_enqueue_users('12345678', person(name)) $$;
ALTER FUNCTION hire(text) OWNER TO regress_hr;
SET ROLE regress_clerk;
SELECT hire('e1') AS e1 \gset
SELECT lp_enqueue_users('12345678', person('e2')) AS e2 \gset
SET ROLE regress_hr;
SELECT lp_enqueue_users('12345678', person('e3')) AS e3 \gset
SELECT login_name, requested_by, send_as FROM lp_results ORDER BY id;
SET ROLE regress_clerk;
SELECT login_name, requested_by, send_as FROM lp_results ORDER BY id;
SET ROLE regress_deputy;
SELECT login_name, requested_by, send_as FROM lp_results ORDER BY id;
SET ROLE regress_heir;
SELECT login_name, requested_by, send_as FROM lp_results ORDER BY id;
-- no trace of a request that is another's
RESET ROLE;
UPDATE lp_requests SET state = 'failed', cause = 'refused', error = 'test', finished_at = now(), attempts = 3, status = 400, next_attempt_at = NULL;
SET ROLE regress_clerk;
SELECT n, m.state, regexp_replace(m.message, '\d+', 'N') AS message FROM (VALUES (1, format('lp_retry(ARRAY[%s])', :e3)), (2, format('lp_discard(ARRAY[%s])', :e3)), (3, format('lp_retry(ARRAY[%s, %s])', :e2, :e3)),
	(4, 'lp_retry(ARRAY[-1])'), (5, 'lp_discard(ARRAY[-1])'), (6, format('lp_discard(ARRAY[%s, NULL, %s])', :e2, :e3))) v (n, call), LATERAL mistake('SELECT ' || call) m ORDER BY n;
SET ROLE regress_heir;
SELECT state, regexp_replace(message, '\d+', 'N') AS message FROM mistake(format('SELECT lp_retry(ARRAY[%s])', :e3));
-- the asker and the sender, and who is a member of the sender
SET ROLE regress_clerk;
SELECT lp_retry(ARRAY[:e1, :e2]);
SELECT login_name, state, attempts, error, finished_at, next_attempt_at <= clock_timestamp() AS due FROM lp_results ORDER BY id;
SET ROLE regress_hr;
SELECT lp_discard(ARRAY[:e1]);
SET ROLE regress_deputy;
SELECT lp_retry(ARRAY[:e3]);
SELECT lp_discard(ARRAY[:e3]);
RESET ROLE;
SELECT * FROM requests;
SELECT count(*) FROM lp_payloads;
-- the owner of the extension's tables may do it for all
SELECT lp_discard(ARRAY[:e2]);
SELECT count(*) FROM lp_requests;
-- nothing, and nothing of it
SELECT lp_retry('{}'), lp_discard('{}'), lp_retry('{NULL}'), lp_discard('{NULL}');
SELECT lp_retry(NULL); -- ERROR
SELECT lp_discard(NULL); -- ERROR

-- In which states: failed may be tried again, pending, failed and held may be dropped.
SELECT array_agg(id) AS ids FROM lp_enqueue_users('12345678', people('f', 7)) id \gset
UPDATE lp_requests r SET state = v.state, hold = CASE WHEN v.state = 'held' THEN 'setup' END, cause = CASE WHEN v.state = 'failed' THEN 'refused' END, next_attempt_at = CASE WHEN v.state IN ('pending', 'uncertain') THEN now() END, finished_at = CASE WHEN v.state IN ('created', 'done', 'failed') THEN now() END
	FROM unnest(:'ids'::bigint[], '{pending,sending,uncertain,held,created,done,failed}'::text[]) v (id, state) WHERE r.id = v.id;
SELECT r.state, t.state AS retry, regexp_replace(t.message, '\d+', 'N') AS message FROM lp_requests r, LATERAL mistake(format('SELECT lp_retry(ARRAY[%s]); SELECT 1 / 0', r.id)) t ORDER BY r.id;
SELECT r.state, t.state AS discard, regexp_replace(t.message, '\d+', 'N') AS message FROM lp_requests r, LATERAL mistake(format('SELECT lp_discard(ARRAY[%s]); SELECT 1 / 0', r.id)) t ORDER BY r.id;
-- all or none
SELECT state, regexp_replace(message, '\d+', 'N') AS message FROM mistake(format('SELECT lp_discard(%L)', :'ids'));
SELECT count(*) FROM lp_requests;
-- not those of direct calls, whatever their state
SET client_min_messages = error;
SELECT status FROM lp_create_users('12345678', person('g', '{"profileIds": [999]}'));
RESET client_min_messages;
SELECT path, r.state, t.state AS retry, d.state AS discard FROM lp_requests r, LATERAL mistake(format('SELECT lp_retry(ARRAY[%s])', r.id)) t, LATERAL mistake(format('SELECT lp_discard(ARRAY[%s])', r.id)) d WHERE path = 'direct';
-- not without what was to be sent
DELETE FROM lp_payloads p USING lp_requests r WHERE r.id = p.request_id AND r.state = 'failed';
SELECT m.state, regexp_replace(message, '\d+', 'N') AS message, detail FROM lp_requests r, LATERAL mistake(format('SELECT lp_retry(ARRAY[%s])', r.id)) m WHERE r.state = 'failed' AND path = 'queue';
SELECT lp_discard(array_agg(id)) FROM lp_requests WHERE state = 'failed' AND path = 'queue';
SELECT forget();
-- what is tried again stands in line like any other, and goes out
SELECT lp_enqueue_users('12345678', person('h')) AS h \gset
UPDATE lp_requests SET state = 'failed', cause = 'refused', error = 'test', finished_at = now();
SELECT lp_retry(ARRAY[:h]);
SELECT * FROM requests;
SET client_min_messages = warning;
CALL lp_deliver();
RESET client_min_messages;
SELECT * FROM requests;
\! curl -sSf "$LPSIM_URL/_sim/count?method=POST&login=h@example.com"
SELECT m.state, regexp_replace(message, '\d+', 'N') AS message FROM mistake(format('SELECT lp_retry(ARRAY[%s])', :h)) m;
SELECT forget();

-- lp_release: what was held for any reason here, of one account; not what comes from elsewhere, which lp_adopt takes on.
SELECT array_agg(id) AS ids FROM lp_enqueue_users('12345678', people('i', 4)) id \gset
UPDATE lp_requests SET state = 'held', hold = 'threshold', reason = 'test', next_attempt_at = NULL;
UPDATE lp_requests SET origin = '1/2/3', hold = 'elsewhere', reason = 'written elsewhere (test)' WHERE login_name ~ 'i3';
UPDATE lp_requests SET origin = '1/2/3', state = 'pending', hold = NULL, reason = NULL, next_attempt_at = enqueued_at WHERE login_name ~ 'i4';
UPDATE lp_requests SET account = 'other' WHERE login_name ~ 'i2';
SET ROLE regress_hr;
SELECT lp_release('12345678'); -- ERROR
SELECT lp_adopt(); -- ERROR
SELECT lp_purge('0'); -- ERROR
RESET ROLE;
GRANT EXECUTE ON FUNCTION lp_release(text), lp_adopt(), lp_purge(interval) TO regress_hr;
SET ROLE regress_hr;
SELECT lp_release('12345678');
SELECT lp_release('12345678');
SELECT lp_release(NULL::text); -- ERROR
RESET ROLE;
SELECT lp_release(NULL::bigint[]); -- ERROR
SELECT login_name, account, state, reason, origin = lp_origin() AS here, next_attempt_at <= clock_timestamp() AS due FROM lp_requests ORDER BY id;
-- it is looked up first, after a while, for the account may still be at it: i3 is there with these data, i4 is not
SET client_min_messages = error;
SELECT count(*) FROM lp_create_users('12345678', person('i3'));
RESET client_min_messages;
DELETE FROM lp_requests WHERE path = 'direct';
SET ROLE regress_hr;
SELECT lp_adopt();
SELECT lp_adopt();
RESET ROLE;
SELECT login_name, account, state, reason, origin = lp_origin() AS here, next_attempt_at <= clock_timestamp() AS due FROM lp_requests ORDER BY id;
UPDATE lp_requests SET next_attempt_at = now() WHERE state = 'pending';
SET client_min_messages = warning;
CALL lp_deliver('12345678');
RESET client_min_messages;
SELECT login_name, state, evidence, user_id IS NOT NULL AS known FROM lp_requests ORDER BY id;
\! for n in 1 3 4; do curl -sSf "$LPSIM_URL/_sim/count?method=POST&login=i$n@example.com"; done
SELECT forget();

-- lp_purge: finished requests older than so much, with what is left of them
SELECT array_agg(id) AS ids FROM lp_enqueue_users('12345678', people('j', 7)) id \gset
UPDATE lp_requests r SET state = v.state, hold = CASE WHEN v.state = 'held' THEN 'setup' END, cause = CASE WHEN v.state = 'failed' THEN 'refused' END, finished_at = CASE WHEN v.state IN ('created', 'done', 'failed') THEN now() - interval '10 days' END, enqueued_at = now() - interval '20 days'
	FROM unnest(:'ids'::bigint[], '{pending,sending,uncertain,held,created,done,failed}'::text[]) v (id, state) WHERE r.id = v.id;
SET ROLE regress_hr;
SELECT lp_purge('11 days');
SELECT lp_purge('9 days');
SELECT lp_purge('0');
SELECT lp_purge(NULL); -- ERROR
SELECT lp_purge('-1 day'); -- ERROR
-- a bare number was meant to have a unit
SELECT lp_purge('90'); -- ERROR
SELECT lp_purge('1 hour');
RESET ROLE;
SELECT state, payload FROM requests;
SELECT count(*) FROM lp_payloads;
SELECT forget();
-- housekeeping, here by CALL since no worker runs: secrets leave failed requests after a day and held ones after a month, and old requests leave
SELECT array_agg(id) AS ids FROM lp_enqueue_users('12345678', people('k', 6) || jsonb_build_array(person('k7', '{"passwordSh": null, "isApiUser": true, "allowedAppKeys": "k"}'), person('k8', '{"oldPassword": "x"}'))) id \gset
UPDATE lp_requests r SET state = v.state, hold = CASE WHEN v.state = 'held' THEN 'setup' END, cause = CASE WHEN v.state = 'failed' THEN 'refused' END, finished_at = CASE WHEN v.state IN ('created', 'failed') THEN now() - v.age END, enqueued_at = now() - v.age FROM unnest(:'ids'::bigint[],
	'{pending,sending,held,failed,failed,created,failed,held}'::text[], '{2 days,2 days,31 days,2 days,1 hour,100 days,2 days,2 days}'::interval[]) v (id, state, age) WHERE r.id = v.id;
ALTER SERVER acme OPTIONS (ADD delivery 'paused');
SET client_min_messages = warning;
CALL lp_deliver();
RESET client_min_messages;
ALTER SERVER acme OPTIONS (DROP delivery);
SELECT login_name, state, payload FROM requests;
-- a held one without its payload says so when it is released
SELECT lp_release('12345678');
UPDATE lp_requests SET state = 'held', hold = 'setup', held_at = now() WHERE state = 'uncertain';
SET client_min_messages = warning;
CALL lp_deliver();
RESET client_min_messages;
SELECT login_name, state, error, payload FROM requests;
SELECT forget();

-- The views, over a queue in all states
\! curl -sSfo /dev/null -X POST $LPSIM_URL/_sim/reset
SELECT * FROM lp_progress;
SELECT array_agg(id) AS ids FROM lp_enqueue_users('12345678', people('l', 12)) id \gset
UPDATE lp_requests r SET state = v.state, hold = CASE WHEN v.state = 'held' THEN 'setup' END, cause = CASE WHEN v.state = 'failed' THEN 'refused' END, enqueued_at = now() - interval '30 s' + n * interval '1 s', finished_at = CASE WHEN v.state IN ('created', 'failed') THEN now() - interval '30 s' + 2 * n * interval '1 s' END,
		status = v.status, evidence = CASE WHEN v.state = 'created' THEN 'answer' END, error = CASE WHEN v.state = 'failed' THEN 'no ' || n END, reason = CASE WHEN v.state = 'held' THEN 'set-up' END
	FROM unnest(:'ids'::bigint[], '{pending,pending,pending,sending,uncertain,held,created,created,created,created,failed,failed}'::text[], '{NULL,NULL,429,NULL,503,NULL,201,201,201,200,400,409}'::integer[])
		WITH ORDINALITY v (id, state, status, n) WHERE r.id = v.id;
SELECT account, pending, sending, uncertain, held, created, failed, users_per_second, estimated_end - now() BETWEEN '1 s' AND '1 min' AS estimated_end, oldest_pending = now() - interval '29 s' AS oldest, paused, worker_pid, last_error FROM
	(SELECT * FROM lp_progress) p;
SELECT p.oldest_pending = (SELECT date_trunc('second', min(enqueued_at)) FROM lp_requests WHERE state = 'pending') AS oldest FROM lp_progress p;
UPDATE lp_requests SET enqueued_at = enqueued_at - (now() - '2026-02-03 23:30:40+00'), finished_at = finished_at - (now() - '2026-02-03 23:30:40+00');
SET timezone = 'UTC';
SELECT account, to_char(day, 'YYYY-MM-DD') AS day, state, status, evidence, requests, median_seconds, p95_seconds FROM lp_summary ORDER BY state, status;
SET timezone = 'Europe/Berlin';
SELECT to_char(day, 'YYYY-MM-DD') AS day, sum(requests) FROM lp_summary GROUP BY 1;
RESET timezone;
ALTER SERVER acme OPTIONS (ADD delivery 'paused');
SELECT paused FROM lp_progress;
-- another sees nothing of it, not even a count
SET ROLE regress_deputy;
SELECT * FROM lp_progress;
SELECT * FROM lp_summary;
RESET ROLE;
ALTER SERVER acme OPTIONS (DROP delivery);
-- direct calls are in the results, not in the progress of the queue
SELECT forget();
SET client_min_messages = error;
SELECT status FROM lp_create_users('12345678', person('m'));
RESET client_min_messages;
SELECT count(*) FROM lp_progress;
SELECT path, state FROM lp_results;
SELECT forget();

DROP FUNCTION hire(text);
DROP VIEW requests;
DROP USER MAPPING FOR PUBLIC SERVER acme;
REVOKE ALL ON FOREIGN SERVER acme FROM regress_hr, regress_clerk;
REVOKE ALL ON FUNCTION lp_enqueue_users(text, jsonb) FROM regress_hr, regress_clerk;
REVOKE ALL ON FUNCTION lp_release(text), lp_adopt(), lp_purge(interval) FROM regress_hr;
DROP ROLE regress_hr, regress_deputy, regress_clerk, regress_heir;
\i sql/include/finish.sql

-- enqueue_changes: lp_enqueue_changes() and lp_enqueue_deletes(): what is queued, what is wrong with it, and what a newer one replaces
\set with_queue on
\i sql/include/start.sql
CREATE VIEW changes AS SELECT r.login_name, r.user_id, r.operation, r.action, r.phase, r.state, r.error, r.reason, p.body
	FROM lp_requests r LEFT JOIN lp_payloads p ON p.request_id = r.id ORDER BY r.id;
-- by id, or else by login; the phase and the action are those of what is set
SELECT count(*) AS ids, count(DISTINCT id) AS different FROM lp_enqueue_changes('12345678', '[{"id": 1, "maxChats": "4"}, {"loginName": "b@example.com", "isEnabled": "false"},
	{"id": "3", "loginName": "c@example.com"}, {"id": 4, "isEnabled": true, "loginName": "d@example.com"}, {"id": 5, "description": null, "memberOf": {"agentGroupId": 1}}, {"id": 6, "unknown": {"passes": [1]}}]') id;
SELECT count(*) FROM lp_enqueue_changes('12345678', '{"id": 7, "isEnabled": true}');
SELECT count(*) FROM lp_enqueue_deletes('12345678', '{8, 9}');
SELECT * FROM changes;
SELECT count(DISTINCT id) AS ids, bool_and(account = '12345678' AND server = 'acme' AND path = 'queue' AND requested_by = current_user AND send_as = current_user AND plan IS NULL
	AND source_key IS NULL AND attempts = 0 AND origin = lp_origin() AND sent_at IS NULL AND finished_at IS NULL AND next_attempt_at <= clock_timestamp()) AS common FROM lp_requests;
SELECT forget();
-- what is wrong with one of them is its own failure
SELECT count(*) FROM lp_enqueue_changes('12345678', '[{"maxChats": 1}, 7, null, [], {}, {"id": 1}, {"loginName": "b@example.com"}, {"id": 0, "maxChats": 1}, {"id": "x", "maxChats": 1}, {"loginName": "", "maxChats": 1},
	{"loginName": 7, "maxChats": 1}, {"loginName": " c@example.com", "maxChats": 1}, {"id": 2, "maxChats": "x", "skillIds": [null], "email": null, "nickname": ""}, {"id": 3, "deleted": true, "dateUpdated": "2026-01-01 00:00:00"},
	{"id": 4, "passwordSh": null}, {"id": 5, "maxChats": 1}, {"id": 5, "maxChats": 2}]');
SELECT login_name, user_id, state, error, body FROM changes;
SELECT bool_and((finished_at IS NOT NULL) = (state = 'failed') AND (cause = 'refused') IS NOT DISTINCT FROM nullif(state = 'failed', false)) AS finished FROM lp_requests;
SELECT forget();
SELECT count(*) FROM lp_enqueue_deletes('12345678', '{1, 1}');
SELECT user_id, state, error, body FROM changes;
SELECT forget();
-- calls that are none: nothing is queued
SELECT n, m.state, m.message, m.detail FROM (VALUES (1, $$lp_enqueue_changes('12345678', '[]')$$), (2, $$lp_enqueue_changes('12345678', '7')$$), (3, $$lp_enqueue_changes('12345678', 'null')$$), (4, $$lp_enqueue_changes('12345678', NULL)$$),
	(5, $$lp_enqueue_changes(NULL, '{}')$$), (6, $$lp_enqueue_changes('nobody', '{"id": 1}')$$), (7, $$lp_enqueue_deletes('12345678', NULL)$$), (8, $$lp_enqueue_deletes('12345678', '{1, NULL}')$$),
	(9, $$lp_enqueue_deletes('12345678', '{0}')$$), (10, $$lp_enqueue_deletes('nobody', '{1}')$$)) v (n, call), LATERAL mistake('SELECT ' || call) m ORDER BY n;
SELECT count(*) FROM lp_enqueue_deletes('12345678', '{}');
BEGIN READ ONLY;
SELECT lp_enqueue_changes('12345678', '{"id": 1, "maxChats": 1}'); -- ERROR
ROLLBACK;
BEGIN READ ONLY;
SELECT lp_enqueue_deletes('12345678', '{1}'); -- ERROR
ROLLBACK;
SELECT count(*) FROM lp_requests;

-- A newer one replaces a pending one of the same user, and has its wishes too.
SELECT count(*) FROM lp_enqueue_changes('12345678', '[{"id": 1, "maxChats": 1, "nickname": "one"}, {"id": 3, "loginName": "c@example.com"}]');
SELECT count(*) FROM lp_enqueue_changes('12345678', '[{"id": 1, "nickname": "two", "isEnabled": false}, {"id": 3, "description": null}]');
SELECT user_id, login_name, action, phase, state, regexp_replace(reason, '\d+', 'N') AS reason, body FROM changes;
SELECT count(*) FROM lp_requests WHERE state = 'superseded' AND finished_at IS NOT NULL AND next_attempt_at IS NULL;
-- a third; rolled back, the second is as before
BEGIN;
SELECT count(*) FROM lp_enqueue_changes('12345678', '{"id": 1, "isEnabled": true}');
SELECT user_id, action, phase, state, body FROM changes WHERE user_id = 1;
ROLLBACK;
SELECT user_id, action, phase, state, body FROM changes WHERE user_id = 1;
SELECT forget();
-- by login; not past an unfinished one by id, which may be of the same user, nor the other way round
SELECT count(*) FROM lp_enqueue_changes('12345678', '{"loginName": "b@example.com", "maxChats": 1}');
SELECT count(*) FROM lp_enqueue_changes('12345678', '{"loginName": "B@example.com", "nickname": "b"}');
SELECT count(*) FROM lp_enqueue_changes('12345678', '{"id": 1, "maxChats": 1}');
SELECT count(*) FROM lp_enqueue_changes('12345678', '{"loginName": "b@example.com", "maxChats": 2}');
SELECT count(*) FROM lp_enqueue_changes('12345678', '{"id": 1, "maxChats": 2}');
SELECT user_id, login_name, state, body FROM changes;
SELECT forget();
-- one in the queue for another reason waits before it: another operation, another sender, in flight
SELECT count(*) FROM lp_enqueue_changes('12345678', '[{"id": 1, "maxChats": 1}, {"id": 2, "maxChats": 1}, {"id": 3, "maxChats": 1}]');
SELECT count(*) FROM lp_enqueue_deletes('12345678', '{1}');
UPDATE lp_requests SET send_as_oid = 'pg_monitor'::regrole WHERE user_id = 2;
UPDATE lp_requests SET state = 'sending' WHERE user_id = 3;
SELECT count(*) FROM lp_enqueue_changes('12345678', '[{"id": 1, "maxChats": 2}, {"id": 2, "maxChats": 2}, {"id": 3, "maxChats": 2}]');
SELECT count(*) FROM lp_enqueue_deletes('12345678', '{1}');
SELECT user_id, operation, state, body FROM changes;
SELECT forget();
-- a held one stays held, as its replacement; its base, its expected login and its wait are kept
SELECT count(*) FROM lp_enqueue_changes('12345678', '[{"id": 1, "maxChats": 1}, {"id": 2, "maxChats": 1}, {"id": 3, "maxChats": 1}]');
UPDATE lp_requests SET state = 'held', hold = 'setup', reason = 'test', next_attempt_at = NULL, held_at = '2026-01-01' WHERE user_id = 1;
UPDATE lp_requests SET login_name = 'two@example.com', look_first = true, next_attempt_at = '2100-01-01' WHERE user_id = 2;
UPDATE lp_payloads p SET body = '{"set": {"maxChats": 1, "skillIds": [1]}, "add": {"lobIds": [1]}, "base": {"maxChats": 0}, "drift": "report", "hidden": {"fullName": "Two"}}' FROM lp_requests r WHERE r.id = p.request_id AND r.user_id = 2;
UPDATE lp_requests SET state = 'held', hold = 'elsewhere', reason = 'test', next_attempt_at = NULL WHERE user_id = 3;
SELECT count(*) FROM lp_enqueue_changes('12345678', '[{"id": 1, "maxChats": 2}, {"id": 2, "maxChats": 2, "lobIds": [2]}, {"id": 3, "maxChats": 2}]');
SELECT user_id, login_name, state, reason, body FROM changes WHERE state <> 'superseded';
SELECT user_id, hold, held_at = '2026-01-01' AS since, look_first, next_attempt_at = '2100-01-01' AS waits FROM lp_requests WHERE state <> 'superseded' ORDER BY id;
SELECT forget();
-- A newer one that is done: an older one, which would undo it, is neither adopted nor sent again; one of another user, and a newer one, are.
CREATE FUNCTION done(change jsonb) RETURNS void LANGUAGE sql AS $$
	WITH queued AS MATERIALIZED (SELECT lp_enqueue_changes('12345678', change) AS id)
	SELECT FROM queued;
	UPDATE lp_requests SET state = 'done', next_attempt_at = NULL, finished_at = now() WHERE state = 'pending';
	DELETE FROM lp_payloads p USING lp_requests r WHERE r.id = p.request_id AND r.state = 'done';
$$;
SELECT count(*) FROM lp_enqueue_changes('12345678', '[{"id": 5, "isEnabled": true}, {"loginName": "E@example.com", "maxChats": 9}, {"id": 6, "maxChats": 9}]');
UPDATE lp_requests SET state = 'held', hold = 'elsewhere', origin = 'x', reason = 'test', next_attempt_at = NULL WHERE state = 'pending';
SELECT done('[{"id": 5, "isEnabled": false}, {"loginName": "e@example.com", "maxChats": 7}]');
SELECT count(*) FROM lp_enqueue_changes('12345678', '{"id": 5, "nickname": "later"}');
UPDATE lp_requests SET state = 'held', hold = 'elsewhere', origin = 'x', reason = 'test', next_attempt_at = NULL WHERE state = 'pending';
RESET client_min_messages;
SELECT lp_adopt();
SET client_min_messages = warning;
SELECT login_name, user_id, action, state, regexp_replace(reason, '\d+', 'N') AS reason, body IS NOT NULL AS payload FROM changes;
UPDATE lp_requests SET state = 'failed', cause = 'gave_up', error = 'test', next_attempt_at = NULL, finished_at = now() WHERE state = 'pending';
SELECT done('{"id": 6, "maxChats": 7}');
SELECT r.user_id, m.state, regexp_replace(m.message, '\d+', 'N') AS message, regexp_replace(m.detail, '\d+', 'N') AS detail
	FROM lp_requests r, LATERAL mistake(format('SELECT lp_retry(ARRAY[%s])', r.id)) m WHERE r.state = 'failed' ORDER BY r.id;
DROP FUNCTION done(jsonb);
SELECT forget();
-- One that is discarded takes the changes of those that it replaced with it, and says so.
SELECT count(*) FROM lp_enqueue_changes('12345678', '[{"id": 5, "maxChats": 1}]');
SELECT count(*) FROM lp_enqueue_changes('12345678', '[{"id": 5, "nickname": "five"}, {"id": 6, "maxChats": 1}]');
RESET client_min_messages;
SELECT lp_discard(array_agg(id)) FROM lp_requests WHERE state = 'pending' AND user_id = 6;
SELECT lp_discard(array_agg(id)) FROM lp_requests WHERE state = 'pending';
SET client_min_messages = warning;
SELECT forget();
-- Laying one payload over another: the newer wish wins, the older base.
SELECT _lp_lay_change('{"set": {"a": 1, "b": null}, "base": {"a": 0}, "drift": "report"}', '{"set": {"a": 2}, "base": {"a": 1, "c": 3}, "drift": "accept"}');
SELECT _lp_lay_change('{"add": {"s": [1], "t": [1]}, "take": {"s": [2]}, "hidden": {"f": "x"}}', '{"set": {"s": [5]}, "add": {"t": [3]}}');

-- Who may: EXECUTE and USAGE on the server, a mapping; one's own afterwards.
CREATE ROLE regress_hr;
CREATE ROLE regress_clerk;
SELECT f, has_function_privilege('regress_clerk', f, 'EXECUTE') FROM unnest(ARRAY['lp_enqueue_changes(text,jsonb)', 'lp_enqueue_deletes(text,bigint[])', '_lp_lay_change(jsonb,jsonb)']) f;
SET ROLE regress_hr;
SELECT lp_enqueue_changes('12345678', '{"id": 1, "maxChats": 1}'); -- ERROR
SELECT lp_enqueue_deletes('12345678', '{1}'); -- ERROR
RESET ROLE;
GRANT EXECUTE ON FUNCTION lp_enqueue_changes(text, jsonb), lp_enqueue_deletes(text, bigint[]) TO regress_hr, regress_clerk;
SET ROLE regress_hr;
SELECT lp_enqueue_changes('12345678', '{"id": 1, "maxChats": 1}'); -- ERROR
SELECT lp_enqueue_deletes('12345678', '{1}'); -- ERROR
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER acme TO regress_hr, regress_clerk;
CREATE USER MAPPING FOR PUBLIC SERVER acme OPTIONS (token 'lp-token');
SET ROLE regress_hr;
SELECT lp_enqueue_changes('12345678', '{"id": 1, "maxChats": 1}') AS update \gset
SELECT lp_enqueue_deletes('12345678', '{2}') AS delete \gset
SELECT user_id, operation, action, phase, state, outcome FROM lp_results ORDER BY id;
SET ROLE regress_clerk;
SELECT count(*) FROM lp_results;
SELECT state, regexp_replace(message, '\d+', 'N') AS message FROM mistake(format('SELECT lp_discard(ARRAY[%s])', :update));
RESET ROLE;
-- the one who asked may try again as long as the right to ask is there
UPDATE lp_requests SET requested_by_oid = 'regress_clerk'::regrole, state = 'failed', cause = 'refused', finished_at = now(), next_attempt_at = NULL;
REVOKE EXECUTE ON FUNCTION lp_enqueue_deletes(text, bigint[]) FROM regress_clerk;
SET ROLE regress_clerk;
SELECT lp_retry(ARRAY[:update]);
SELECT state, regexp_replace(message, '\d+', 'N') AS message FROM mistake(format('SELECT lp_retry(ARRAY[%s])', :delete));
RESET ROLE;
SELECT lp_discard(ARRAY[:update, :delete]);
SELECT count(*) FROM lp_payloads;
DROP USER MAPPING FOR PUBLIC SERVER acme;
REVOKE ALL ON FOREIGN SERVER acme FROM regress_hr, regress_clerk;
REVOKE ALL ON FUNCTION lp_enqueue_changes(text, jsonb), lp_enqueue_deletes(text, bigint[]) FROM regress_hr, regress_clerk;
DROP ROLE regress_hr, regress_clerk;
DROP VIEW changes;
\i sql/include/finish.sql

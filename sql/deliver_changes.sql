-- deliver_changes: what becomes of queued updates and deletes: each case of the judgement, order, and what the account was asked
\set with_queue on
\i sql/include/start.sql
\! curl -sSfo /dev/null -X POST $LPSIM_URL/_sim/reset
CREATE VIEW changes AS SELECT r.user_id - 4000000000 AS "user", r.login_name, r.action, r.state, r.cause, r.status, r.evidence, r.attempts, r.error, r.reason, r.outcome, p.request_id IS NOT NULL AS payload
	FROM lp_requests r LEFT JOIN lp_payloads p ON p.request_id = r.id WHERE operation <> 'create' ORDER BY r.id;
-- A request with this payload, as a plan makes it: with what the account does not show.
CREATE FUNCTION wish(number integer, payload jsonb, login text DEFAULT NULL, plan bigint DEFAULT NULL) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	request bigint := (SELECT lp_enqueue_changes('12345678', jsonb_build_object('id', 4000000000 + number) || CASE WHEN payload->'set' ?| '{isEnabled,loginName}' THEN payload->'set' ELSE '{"nickname": "none"}' END));
BEGIN
	UPDATE lp_payloads SET body = ('{"hidden": {"fullName": "Hidden", "employeeId": "7"}}'::jsonb || payload)::text::json WHERE request_id = request;
	UPDATE lp_requests SET login_name = login, plan = wish.plan WHERE id = request;
	RETURN request;
END $$;
CREATE FUNCTION gone(number integer, payload jsonb, login text DEFAULT NULL) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	request bigint := (SELECT lp_enqueue_deletes('12345678', ARRAY[4000000000 + number]));
BEGIN
	UPDATE lp_payloads SET body = payload::text::json WHERE request_id = request;
	UPDATE lp_requests SET login_name = login WHERE id = request;
	RETURN request;
END $$;
-- What is in the account, and which requests it got.
\set account 'curl -sSf $LPSIM_URL/_sim/log | tr "{" "\\n" | sed -nE ''s/.*"method":"([A-Z]+)","path":"[^"]*le-users([^"]*)","query":"v=4.0([^"]*)","status":([0-9]+).*"if_match":([^,]*),.*"ids":(\\[[^]]*\\]).*/\\1 \\2 \\3 \\4 \\5 \\6/p''; echo; curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/log'
\setenv ACCOUNT :account
CREATE FOREIGN TABLE users (id bigint, "loginName" text, nickname text, "maxChats" integer, "isEnabled" boolean, "skillIds" bigint[], description text, deleted boolean) SERVER acme OPTIONS (resource 'users');
CREATE VIEW there AS SELECT id - 4000000000 AS "user", split_part("loginName", '@', 1) AS login, nickname, "maxChats", "isEnabled", "skillIds", description FROM users ORDER BY id;
SET client_min_messages = error;
SELECT status FROM lp_create_users('12345678', people('a', 30));
RESET client_min_messages;
DELETE FROM lp_requests;
\! curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/log

-- One user: the revision, the user, the write.
SELECT count(*) FROM lp_enqueue_changes('12345678', '{"id": 4000000001, "maxChats": 5, "fullName": "One", "employeeId": "1", "description": "x", "skillIds": [3001]}');
CALL lp_deliver('12345678');
SELECT * FROM changes;
\! eval "$ACCOUNT"
SELECT * FROM there WHERE "user" <= 2;
-- all of it there already: nothing is sent; null is absent
SELECT forget();
SELECT wish(1, '{"set": {"maxChats": 5, "mobileNumber": null, "email": "A1@EXAMPLE.com", "skillIds": [3001, 3001]}}') > 0;
CALL lp_deliver('12345678');
SELECT * FROM changes;
\! eval "$ACCOUNT"
-- null takes an attribute away, an unknown one passes
SELECT forget();
SELECT wish(1, '{"set": {"description": null, "skillIds": null, "nickname": "one"}}') > 0;
CALL lp_deliver('12345678');
SELECT state, evidence, error FROM changes;
SELECT * FROM there WHERE "user" = 1;
\! curl -sSf "$LPSIM_URL/_sim/user?login=a1@example.com" | grep -o '"fullName":"[^"]*"\|"employeeId":"[^"]*"'
\! eval "$ACCOUNT" | wc -l

-- Judged: gone, another login, hidden attributes that would be lost, by login, deletes
SELECT forget();
SELECT wish(99, '{"set": {"nickname": "x"}}') > 0, gone(98, '{}') > 0, wish(2, '{"set": {"nickname": "x"}}', 'b2@example.com') > 0, wish(3, '{"set": {"loginName": "a3@example.com", "nickname": "three"}}', 'old@example.com') > 0,
	wish(4, '{"set": {"nickname": "four"}, "hidden": {"fullName": "Four"}}') > 0, wish(5, '{"set": {"nickname": "five", "fullName": "Five"}, "hidden": {}}', 'A5@example.com') > 0;
SELECT count(*) FROM lp_enqueue_changes('12345678', '[{"loginName": "A6@example.com", "nickname": "six", "fullName": "Six", "employeeId": "6"}, {"loginName": "nobody@example.com", "nickname": "x"}]');
SELECT gone(7, '{"base": {"isEnabled": false}}') > 0, gone(8, '{}', 'b8@example.com') > 0, gone(9, '{}', 'a9@example.com') > 0;
CALL lp_deliver('12345678');
SELECT * FROM changes;
\! eval "$ACCOUNT"
SELECT * FROM there WHERE "user" BETWEEN 2 AND 9;
-- nothing is there: it is believed only of an account that has shown something
SELECT forget();
SELECT gone(98, '{}') > 0;
CALL lp_deliver('12345678');
SELECT * FROM changes;
\! eval "$ACCOUNT"

-- Drift: an attribute that is neither as planned nor as wanted
SELECT forget();
\! curl -sSfo /dev/null -d '{"user": "4000000010", "set": {"maxChats": 9}}' $LPSIM_URL/_sim/change
\! curl -sSfo /dev/null -d '{"user": "4000000011", "set": {"maxChats": 9}}' $LPSIM_URL/_sim/change
\! curl -sSfo /dev/null -d '{"user": "4000000012", "set": {"maxChats": 9}}' $LPSIM_URL/_sim/change
\! curl -sSfo /dev/null -d '{"user": "4000000013", "set": {"maxChats": 9}}' $LPSIM_URL/_sim/change
\! curl -sSfo /dev/null -d '{"user": "4000000014", "set": {"maxChats": 9}}' $LPSIM_URL/_sim/change
SELECT wish(10, '{"set": {"maxChats": 5}, "base": {"maxChats": 3}}') > 0, wish(11, '{"set": {"maxChats": 5, "nickname": "eleven"}, "base": {"maxChats": 3}, "drift": "report"}') > 0,
	wish(12, '{"set": {"maxChats": 5}, "base": {"maxChats": 3}, "drift": "report"}') > 0, wish(13, '{"set": {"maxChats": 5}, "base": {"maxChats": 3}, "drift": "accept"}') > 0,
	wish(14, '{"set": {"maxChats": 5, "nickname": "fourteen"}, "base": {"maxChats": 9}, "drift": "report"}') > 0;
CALL lp_deliver('12345678');
SELECT * FROM changes;
SELECT * FROM there WHERE "user" BETWEEN 10 AND 14;
-- sets that are added to: what others added stays, what we took away goes; a plan learns the date
SELECT forget();
\! curl -sSfo /dev/null -d '{"user": "4000000015", "set": {"skillIds": [3001, 3002]}}' $LPSIM_URL/_sim/change
SELECT wish(15, '{"add": {"skillIds": [3003]}, "take": {"skillIds": [3001]}, "base": {"skillIds": []}, "drift": "report"}', NULL, 4) > 0, wish(16, '{"set": {"skillIds": [3001]}, "add": {"skillIds": [3001, 3002]}}', NULL, 4) > 0,
	wish(17, '{"take": {"skillIds": [3001]}}', NULL, 4) > 0;
CALL lp_deliver('12345678');
SELECT "user", state, evidence, error, (SELECT array_agg(k || ' ' || (v ~ '^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$')) FROM jsonb_each_text(outcome) o (k, v)) AS outcome FROM changes;
SELECT "user", "skillIds" FROM there WHERE "user" BETWEEN 15 AND 17;
\! curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/log

-- Order: disable, delete, rename, update, create; a rename waits for the one that has its login; a circle is the account's to judge.
SELECT forget();
SELECT count(*) FROM lp_enqueue_users('12345678', person('new'));
SELECT wish(1, '{"set": {"nickname": "one!"}}') > 0, wish(2, '{"set": {"loginName": "a3@example.com"}}') > 0, wish(3, '{"set": {"loginName": "c@example.com"}}') > 0, gone(10, '{}') > 0, wish(4, '{"set": {"isEnabled": false}}') > 0;
CALL lp_deliver('12345678');
SELECT "user", action, state, status, error FROM changes;
\! eval "$ACCOUNT" | grep -v GET
SELECT forget();
SELECT wish(2, '{"set": {"loginName": "c@example.com"}}') > 0, wish(3, '{"set": {"loginName": "a3@example.com"}}') > 0;
CALL lp_deliver('12345678');
SELECT "user", action, state, status, error FROM changes;
-- first in, first out: an update waits for the create of its login, a create for the delete
SELECT forget();
SELECT count(*) FROM lp_enqueue_users('12345678', person('b1'));
SELECT count(*) FROM lp_enqueue_changes('12345678', '{"loginName": "b1@example.com", "nickname": "changed", "fullName": "B", "employeeId": "1"}');
SELECT gone(11, '{}', 'a11@example.com') > 0;
SELECT count(*) FROM lp_enqueue_users('12345678', person('a11'));
CALL lp_deliver('12345678');
SELECT operation, login_name, state, evidence FROM lp_requests ORDER BY id;
SELECT nickname FROM there WHERE login = 'b1';
\! curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/log

-- Up to 24 users one by one, more by one listing; batch_size in a request, each with the revision that the one before has made.
SELECT forget();
ALTER SERVER acme OPTIONS (ADD batch_size '10');
SELECT count(wish(i, jsonb_build_object('set', jsonb_build_object('nickname', 'many' || i)))) FROM generate_series(5, 30) i WHERE i NOT BETWEEN 9 AND 12;
CALL lp_deliver('12345678');
SELECT state, count(*), count(DISTINCT batch) FROM (SELECT r.* FROM lp_requests r) r GROUP BY 1;
\! eval "$ACCOUNT" | sed 's/ \[.*//; s/^\(GET .users\).40000.*select=\([^ ]*\).*/\1\/id \2/' | sort | uniq -c | sed 's/^ *//'
SELECT forget();
SELECT count(wish(i, jsonb_build_object('set', jsonb_build_object('nickname', 'more' || i)))) FROM generate_series(1, 30) i WHERE i NOT BETWEEN 9 AND 11;
CALL lp_deliver('12345678');
SELECT state, count(*) FROM lp_requests GROUP BY 1;
\! eval "$ACCOUNT" | sed 's/ \[.*//'

-- One of several is refused: the guilty one fails with the account's words, whether the account has done the others or not.
SELECT forget();
SELECT count(wish(i, jsonb_build_object('set', CASE i WHEN 15 THEN '{"maxChats": "many"}'::jsonb ELSE '{"nickname": "first"}' END))) FROM generate_series(13, 20) i;
CALL lp_deliver('12345678');
SELECT "user", state, status, evidence, error FROM changes;
\! eval "$ACCOUNT" | sed 's/ \[.*//' | grep -v GET
SELECT forget();
\! curl -sSfo /dev/null -d '{"bulk": "partial"}' $LPSIM_URL/_sim/config
SELECT count(wish(i, jsonb_build_object('set', CASE i WHEN 15 THEN '{"maxChats": "many"}'::jsonb ELSE '{"nickname": "second"}' END))) FROM generate_series(13, 20) i;
CALL lp_deliver('12345678');
SELECT "user", state, status, evidence, error FROM changes;
SELECT forget();
\! curl -sSfo /dev/null -d '{"bulk": "partial_ok"}' $LPSIM_URL/_sim/config
SELECT count(wish(i, jsonb_build_object('set', CASE i WHEN 15 THEN '{"maxChats": "many"}'::jsonb ELSE '{"nickname": "third"}' END))) FROM generate_series(13, 16) i;
\set VERBOSITY terse
CALL lp_deliver('12345678');
\set VERBOSITY default
SELECT "user", state, status, evidence, reason, error FROM changes;
UPDATE lp_requests SET next_attempt_at = now(), attempts = 9 WHERE state = 'uncertain';
CALL lp_deliver('12345678');
SELECT "user", state, cause, status, evidence, reason, error FROM changes WHERE state <> 'done';
-- retried, it is looked up, then sent, and refused again
\! curl -sSfo /dev/null -d '{"bulk": "all_or_nothing"}' $LPSIM_URL/_sim/config
SELECT lp_retry(array_agg(id)) FROM lp_requests WHERE state = 'failed';
SELECT state, look_first FROM lp_requests WHERE state <> 'done';
CALL lp_deliver('12345678');
SELECT "user", state, cause, status, evidence, reason, error FROM changes WHERE state <> 'done';
\! curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/log

-- Other clients: the write is stale (412, or 409), the users are read again, nothing fails; one that an answer does not name is looked up.
SELECT forget();
\! curl -sSfo /dev/null -d '[{"method": "PUT", "action": "meddle"}, {"method": "DELETE", "action": "meddle"}]' $LPSIM_URL/_sim/faults
SELECT wish(1, '{"set": {"nickname": "beside"}}') > 0, gone(12, '{}') > 0;
CALL lp_deliver('12345678');
SELECT "user", state, evidence, attempts, error, reason FROM changes;
\! eval "$ACCOUNT" | grep -v GET
SELECT forget();
\! curl -sSfo /dev/null -d '{"stale_status": 409}' $LPSIM_URL/_sim/config
\! curl -sSfo /dev/null -d '[{"method": "PUT", "action": "meddle", "user": "4000000001", "set": {"maxChats": 8}}]' $LPSIM_URL/_sim/faults
SELECT wish(1, '{"set": {"nickname": "again"}}') > 0;
CALL lp_deliver('12345678');
SELECT "user", state, evidence, attempts, error, reason FROM changes;
SELECT nickname, "maxChats" FROM there WHERE "user" = 1;
SELECT forget();
\! curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/faults
\! curl -sSfo /dev/null -d '{"method": "PUT", "action": "misname", "form": "empty_array", "applied": true}' $LPSIM_URL/_sim/faults
SELECT wish(1, '{"set": {"nickname": "unnamed"}}') > 0;
CALL lp_deliver('12345678');
SELECT "user", state, status, evidence, attempts, error, reason FROM changes;

-- a later change that does the same makes a failure good, one that does something else does not
SELECT forget();
SELECT wish(2, '{"set": {"isEnabled": false}}', 'b2@example.com') > 0, wish(3, '{"set": {"nickname": "x"}}', 'b3@example.com') > 0;
CALL lp_deliver('12345678');
SELECT wish(2, '{"set": {"isEnabled": false}}') > 0, wish(3, '{"set": {"nickname": "y"}}') > 0;
CALL lp_deliver('12345678');
SELECT user_id - 4000000000 AS "user", action, state, mended FROM lp_requests ORDER BY id;

-- Without a revision nothing is sent, unless the server says so.
SELECT forget();
\! curl -sSfo /dev/null -d '{"revision_header": "none"}' $LPSIM_URL/_sim/config
\! curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/log
SELECT wish(1, '{"set": {"nickname": "blind"}}') > 0, gone(13, '{}') > 0, wish(2, '{"set": {"maxChats": 3}}') > 0;
CALL lp_deliver('12345678');
SELECT "user", state, attempts, reason, evidence FROM changes;
ALTER SERVER acme OPTIONS (ADD if_match 'off');
SELECT lp_release('12345678');
CALL lp_deliver('12345678');
SELECT "user", state, attempts, reason, evidence FROM changes;
\! eval "$ACCOUNT" | grep -v GET
ALTER SERVER acme OPTIONS (DROP if_match);

-- The views
SELECT account, pending, held, created, done, failed FROM lp_progress;
SELECT operation, state, evidence, requests FROM lp_summary ORDER BY 1, 2, 3;
SELECT wish(2, '{"set": {"nickname": "x"}}', 'b2@example.com') > 0;
CALL lp_deliver('12345678');
SELECT array_to_string(m, ' | ') AS report FROM regexp_matches(lp_report(), '<tr><th scope="row" class="day">(update|delete)</th><td class="n">(\d+)</td><td class="n">(\d+)</td><td class="n">(\d+)</td>', 'g') m;
SELECT array_to_string(m, ' | ') AS report FROM regexp_matches(lp_report(), '<td class="n">([^<]*)</td><td>(update[^<]*)</td><th scope="row">([^<]*)<small>([^<]*)', 'g') m;
DROP VIEW there, changes;
DROP FOREIGN TABLE users;
DROP FUNCTION wish(integer, jsonb, text, bigint), gone(integer, jsonb, text);
\! curl -sSfo /dev/null -X POST $LPSIM_URL/_sim/reset
\i sql/include/finish.sql

-- sync_plan: plans and their life: limits, numbers to confirm, guards, what is stale, superseded or expired
\set with_sync on
\i sql/include/start.sql
CREATE FUNCTION defined(more text DEFAULT '') RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
BEGIN
	EXECUTE $q$SELECT count(*) FROM lp_sync_define('staff', '12345678', 'hr.people', 'key'$q$ || more || ')' INTO n;
	RETURN n;
END $$;
CREATE VIEW plans AS SELECT plan - (SELECT min(plan) FROM lp_sync_plans) + 1 AS plan, state, action, users, "limit", over,
	replace(reason, plan::text, 'N') AS reason FROM lp_sync_plans;
CREATE VIEW items AS SELECT action, source_key, attribute, old, new, reason, state FROM lp_sync_changes WHERE plan = (SELECT max(plan) FROM lp_sync_changes);
CREATE FUNCTION applied(confirm jsonb DEFAULT NULL) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT concat_ws(' ', a.action, 'queued', a.queued, 'held', a.held, 'stale', a.stale, 'blocked', a.blocked, 'waiting', a.waiting)
	FROM lp_sync_apply((SELECT max(id) FROM _lp_sync_plan), confirm) a $$;
CREATE FUNCTION refused(confirm jsonb DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
	SELECT regexp_replace(concat_ws(' | ', a.state, a.message, a.detail, a.hint), 'plan \d+', 'plan N')
	FROM attempt(format('SELECT applied(%L)', confirm)) a $$;
SELECT defined(', limits => ''{"create": 4}''');

-- A plan of joiners: what it shows is what is sent, and what is only sent with a create is in the payload alone.
SELECT hr.join('new' || n) FROM generate_series(1, 3) n;
SELECT lp_sync_plan('staff') > 0 AS planned;
SELECT * FROM plans;
SELECT attribute, new, state FROM items WHERE source_key = 'new1';
SELECT count(*) FROM _lp_sync_item i WHERE i::text LIKE '%Start-%';
SELECT state, source_rows, listed, linked, differing, waiting, blocked FROM lp_syncs;
SELECT applied();
SELECT operation, path, action, login_name, state, source_table, source_key, plan = (SELECT max(id) FROM _lp_sync_plan) AS plan FROM lp_results ORDER BY id;
SELECT p.body::jsonb - 'passwordSh' AS body, p.body->>'passwordSh' = 'Start-' || md5('new1') AS password FROM lp_payloads p ORDER BY request_id LIMIT 1;
SELECT action, source_key, state FROM items GROUP BY 1, 2, 3 ORDER BY 2;
SELECT refused(); -- ERROR
-- what is queued is waited for; the account is not asked twice
SELECT lp_sync_plan('staff') > 0 AS planned;
SELECT action, source_key, reason, state FROM items;
-- delivered: links, and an account in sync, whose plan has no item and nothing to write
CALL lp_deliver();
SELECT sync, source_key, user_id > 4000000000 AS user_id, login_name, state, by_us FROM lp_sync_links ORDER BY source_key;
SELECT base, hidden FROM _lp_sync_link ORDER BY source_key LIMIT 1;
SELECT state, count(*) FROM _lp_sync_item WHERE action = 'create' GROUP BY state;
SELECT count(*) FROM lp_sync_diff('staff');
SELECT lp_sync_plan('staff') AS plan \gset
SELECT action, users, over, reason FROM lp_sync_plans WHERE plan = :plan;
SELECT count(*) FROM _lp_sync_item WHERE plan = :plan;
SELECT state, linked, differing, waiting, blocked FROM lp_syncs;
SELECT count(*) FROM lp_sync_apply(:plan);

-- Limits count a day: three creates were queued, one more is within, two are over.
SELECT hr.join('more1'), hr.join('more2');
SELECT lp_sync_plan('staff') > 0 AS planned;
SELECT action, users, "limit", over, reason FROM lp_sync_plans WHERE plan = (SELECT max(plan) FROM lp_sync_plans);
-- a wrong number confirms nothing, not even what is right
SELECT refused('{"create": 3}'); -- ERROR
SELECT refused('{"create": "2"}'); -- ERROR
SELECT refused('[2]'); -- ERROR
SELECT refused('{"create": 2, "delete": 1}'); -- ERROR
SELECT refused('{"nonsense": 1}'); -- ERROR
SELECT refused('{"nonsense": 0}'); -- ERROR
SELECT refused('{"create": 2, "disabel": 0}'); -- ERROR
SELECT refused('{"follow": 0}'); -- ERROR
SELECT refused('{"create": 2, "delete": -0.5}'); -- ERROR
SELECT refused('{"create": -2}'); -- ERROR
SELECT refused('{"create": 2, "delete": null}'); -- ERROR
SELECT refused('{"create": 1e30}'); -- ERROR
SELECT refused('{"create": [2]}'); -- ERROR
SELECT refused('2'); -- ERROR
SELECT refused('null'); -- ERROR
SELECT applied();
SELECT DISTINCT action, source_key, state FROM items ORDER BY 2;
-- what was left may be applied by a further call; numbers of others may be stated, too
SELECT applied('{"create": 2, "delete": 0}');
SELECT refused('{"create": 2}'); -- ERROR
-- after a day they do not count; nor do those that failed
UPDATE _lp_sync_item SET queued_at = queued_at - interval '25 hours' WHERE source_key LIKE 'new%';
UPDATE _lp_sync_item SET state = 'failed' WHERE source_key = 'more1';
DELETE FROM lp_payloads; DELETE FROM lp_requests;
SELECT hr.join('late1'), hr.join('late2');
SELECT lp_sync_plan('staff', '{late1,late2}') > 0 AS planned;
SELECT action, users, "limit", over FROM lp_sync_plans WHERE plan = (SELECT max(plan) FROM lp_sync_plans);
-- percentages of the linked users, at least 3; 0 asks; null does not
SELECT l.limits, l.action, l.linked, _lp_sync_limit(l.limits::jsonb, l.action, l.linked) FROM (VALUES ('{}', 'update', 1000), ('{}', 'update', 5), ('{}', 'disable', 151),
	('{}', 'adopt', 9), ('{}', 'nothing', 9), ('{"update": null}', 'update', 9), ('{"update": "0.5%"}', 'update', 1001), ('{"update": 0}', 'update', 9),
	('{"update": 2.0}', 'update', 9), ('{"update": 1.50e1}', 'update', 9), ('{"update": "2.50%"}', 'update', 1000)) l (limits, action, linked);

-- An item is what its request is, at once: discarded, and it does not count for the limit; failed, and tried again.
BEGIN;
SELECT lp_sync_plan('staff', '{late1,late2}') > 0 AS planned;
SELECT applied('{"create": 2}');
SELECT DISTINCT source_key, state FROM items ORDER BY 1;
SELECT lp_discard(array_agg(id)) FROM lp_requests WHERE login_name LIKE 'late1@%';
SELECT DISTINCT source_key, state FROM items ORDER BY 1;
UPDATE lp_requests SET state = 'failed', cause = 'refused', next_attempt_at = NULL WHERE login_name LIKE 'late2@%';
UPDATE _lp_sync_item SET state = 'failed' WHERE source_key = 'late2';
SELECT DISTINCT source_key, state FROM items ORDER BY 1;
SELECT lp_retry(array_agg(id)) FROM lp_requests WHERE login_name LIKE 'late2@%';
SELECT DISTINCT source_key, state FROM items ORDER BY 1;
SELECT lp_sync_plan('staff', '{late1}') > 0 AS planned;
SELECT lp_sync_plan('staff', '{late1,late2}') > 0 AS planned;
SELECT action, users, "limit", over FROM lp_sync_plans WHERE plan = (SELECT max(plan) FROM lp_sync_plans);
SELECT lp_discard(array_agg(id)) FROM lp_requests WHERE login_name LIKE 'late2@%';
SELECT reason FROM lp_sync_plans WHERE plan = (SELECT max(plan) FROM lp_sync_plans) AND action = 'create';
SELECT state, count(*) FROM _lp_sync_item WHERE request IS NOT NULL AND source_key LIKE 'late%' GROUP BY 1 ORDER BY 1;
SELECT applied();
SELECT state, count(*) FROM _lp_sync_item WHERE request IS NOT NULL AND source_key LIKE 'late%' GROUP BY 1 ORDER BY 1;
ROLLBACK;

-- Stale: the row is not as it was planned, or gone; the others go on.
SELECT defined();
UPDATE hr.staff SET name = 'Other' WHERE key = 'late1';
SELECT refused(); -- ERROR
SELECT lp_sync_plan('staff', '{late1,late2}') > 0 AS planned;
UPDATE hr.staff SET name = 'Another' WHERE key = 'late1';
SELECT applied();
SELECT DISTINCT source_key, state FROM items ORDER BY 1;
DELETE FROM lp_payloads; DELETE FROM lp_requests;
SELECT lp_sync_plan('staff', '{late1,more1}') > 0 AS planned;
DELETE FROM hr.staff WHERE key = 'late1';
SELECT hr.join('more1', '{"login": "second@x.example"}');
SELECT applied();
DELETE FROM hr.staff WHERE key IN ('late2', 'more1', 'more2');
DELETE FROM lp_payloads; DELETE FROM lp_requests;

-- Expired and superseded.
SELECT lp_sync_plan('staff') AS plan \gset
SELECT hr.join('x1');
SELECT lp_sync_plan('staff') AS old \gset
SELECT lp_sync_plan('staff') AS plan \gset
UPDATE _lp_sync_plan SET made_at = made_at - interval '25 hours' WHERE id = :plan;
SELECT state, action, users, over, reason FROM lp_sync_plans WHERE plan = :plan;
SELECT refused(); -- ERROR
UPDATE _lp_sync_plan SET made_at = now() WHERE id = :plan;
SELECT applied();
SELECT state, action, users, over, reason FROM lp_sync_plans WHERE plan = :old;
SELECT count(*) FROM lp_sync_apply(:old); -- ERROR
SELECT count(*) FROM lp_sync_apply(-1); -- ERROR
SELECT lp_sync_apply(NULL); -- ERROR
SELECT lp_sync_plan('nothing'); -- ERROR
-- a plan of some keys leaves one of all keys; what it has queued is stale there
DELETE FROM lp_payloads; DELETE FROM lp_requests;
SELECT hr.join('x2');
SELECT lp_sync_plan('staff') AS plan \gset
SELECT lp_sync_plan('staff', '{x2}') AS part \gset
SELECT action, queued FROM lp_sync_apply(:part);
SELECT action, queued, stale FROM lp_sync_apply(:plan);
DELETE FROM hr.staff WHERE key = 'x2';
-- a rollback takes it all back
DELETE FROM lp_payloads; DELETE FROM lp_requests;
SELECT lp_sync_plan('staff') AS plan \gset
BEGIN;
SELECT applied();
ROLLBACK;
SELECT state FROM lp_sync_plans WHERE plan = :plan;
SELECT count(*) FROM lp_requests;
SELECT applied();
CALL lp_deliver();
SELECT count(*) FROM lp_sync_diff('staff');

-- Movers, leavers, a changed login, a user of the account who is to be adopted: what is queued.
SELECT status FROM lp_create_users('12345678', person('there', '{"maxChats": 7}'));
SELECT hr.join('there', '{"login": "there@example.com", "email": "there@example.com"}');
UPDATE hr.staff SET chats = 5, team = 2002, description = 'moved' WHERE key = 'new1';
UPDATE hr.staff SET login = 'married@x.example', name = 'Married' WHERE key = 'new2';
DELETE FROM hr.staff WHERE key = 'new3';
SELECT lp_sync_plan('staff') AS plan \gset
SELECT * FROM items;
SELECT applied('{"adopt": 1}');
SELECT r.operation, r.action, r.phase, r.login_name, r.user_id IS NOT NULL AS user_id, r.state, r.source_key, p.body FROM lp_results r LEFT JOIN lp_payloads p ON p.request_id = r.id
	WHERE plan = :plan ORDER BY r.id;
DELETE FROM lp_payloads; DELETE FROM lp_requests;

-- Links alone: followed, adopted without a difference, given a new key.
UPDATE hr.staff SET nick = 'there', chats = 7, name = 'Full there' WHERE key = 'there';
SELECT status FROM lp_delete_users('12345678', ARRAY(SELECT user_id FROM _lp_sync_link WHERE source_key = 'new3'));
UPDATE hr.staff SET key = 'number2' WHERE key = 'x1';
INSERT INTO _lp_sync_link (sync, source_key, user_id, state, by_us) SELECT id, 'number2', 1, 'gone', true FROM _lp_sync;
SELECT lp_sync_plan('staff', '{there,new3,number2,x1}') AS plan \gset
SELECT * FROM items;
-- a new key for the same person: not if the old one is in the source again, or its link has changed
BEGIN;
SELECT hr.join('x1', '{"login": "another@x.example"}');
SELECT applied('{"adopt": 1, "relink": 1}');
ROLLBACK;
BEGIN;
UPDATE _lp_sync_link SET user_id = 2 WHERE source_key = 'x1';
SELECT applied('{"adopt": 1, "relink": 1}');
ROLLBACK;
BEGIN;
SELECT lp_sync_unlink('staff', '{x1}');
SELECT applied('{"adopt": 1, "relink": 1}');
ROLLBACK;
-- nor is a user adopted whom another key has meanwhile
BEGIN;
UPDATE _lp_sync_link SET user_id = (SELECT user_id FROM _lp_sync_item WHERE plan = :plan AND action = 'adopt') WHERE source_key = 'new2';
SELECT applied('{"adopt": 1, "relink": 1}');
ROLLBACK;
SELECT action, source_key, changes FROM _lp_sync_item WHERE plan = :plan AND action = 'follow';
SELECT applied('{"adopt": 1, "relink": 1}');
SELECT source_key, login_name, state, by_us FROM lp_sync_links ORDER BY source_key;
SELECT count(*) FROM lp_requests WHERE plan = :plan;
SELECT action, source_key FROM lp_sync_diff('staff', '{there,new3,number2,x1}');

-- who is adopted without a difference must still be that user when it is delivered
CALL lp_deliver();
SELECT source_key, login_name, state, by_us FROM lp_sync_links WHERE source_key = 'there';
SELECT state, evidence, status FROM lp_results WHERE plan = :plan;
SELECT status FROM lp_create_users('12345678', person('moved'));
SELECT hr.join('moved', '{"login": "moved@example.com", "email": null, "nick": null, "chats": null, "profile_ids": null, "team": null, "enabled": null}');
SELECT lp_sync_plan('staff', '{moved}') AS plan \gset
SELECT user_id AS moved FROM _lp_sync_item WHERE plan = :plan \gset
\setenv MOVED :moved
\! curl -sSfo /dev/null -d '{"user": "'$MOVED'", "set": {"loginName": "another@example.com"}}' $LPSIM_URL/_sim/change
SELECT applied('{"adopt": 1}');
CALL lp_deliver();
SELECT action, state, error FROM lp_results WHERE plan = :plan;
SELECT count(*) FROM lp_sync_links WHERE source_key = 'moved';
DELETE FROM hr.staff WHERE key = 'moved';
-- a new key is not taken while the old one has a request of another plan
UPDATE hr.staff SET key = 'number3' WHERE key = 'number2';
SELECT lp_sync_plan('staff', '{number3}') AS plan \gset
BEGIN;
UPDATE _lp_sync_item SET state = 'queued', request = (SELECT min(id) FROM lp_requests), source_key = 'number2' WHERE id = (SELECT min(id) FROM _lp_sync_item);
UPDATE lp_requests SET state = 'pending', next_attempt_at = now(), cause = NULL WHERE id = (SELECT min(id) FROM lp_requests);
SELECT applied('{"relink": 1}');
ROLLBACK;
SELECT applied('{"relink": 1}');

-- A chain of renames goes in the order of its dependencies, and a cycle is blocked. A user is disabled although another one has the login
-- that it is to get; then it is renamed, and after that the login can be given to a new user.
SELECT hr.forget();
SELECT lp_sync_resume('staff');
SELECT hr.join('c' || n) FROM generate_series(1, 6) n;
SELECT lp_sync_plan('staff') AS plan \gset
SELECT applied('{"create": 6}');
CALL lp_deliver();
UPDATE hr.staff SET login = CASE key WHEN 'c1' THEN 'c2@x.example' WHEN 'c2' THEN 'c3@x.example' WHEN 'c3' THEN 'free@x.example' WHEN 'c4' THEN 'c1@x.example'
	WHEN 'c5' THEN 'c6@x.example' ELSE 'c5@x.example' END, enabled = key <> 'c4';
SELECT hr.join('c7', '{"login": "c4@x.example"}');
SELECT lp_sync_plan('staff') AS plan \gset
SELECT applied('{"rename": 3}');
SELECT login_name, action FROM lp_results WHERE plan = :plan ORDER BY id;
CALL lp_deliver();
SELECT login_name, action, state, error FROM lp_results WHERE plan = :plan ORDER BY id;
SELECT source_key, login_name, state FROM lp_sync_links ORDER BY source_key;
CREATE VIEW changed AS SELECT DISTINCT source_key, action, regexp_replace(reason, '\d{9,}', 'N') AS reason FROM lp_sync_diff('staff') ORDER BY 1, 2;
SELECT * FROM changed;
SELECT lp_sync_plan('staff') AS plan \gset
SELECT applied();
CALL lp_deliver();
SELECT login_name, action, state, error FROM lp_results WHERE plan = :plan ORDER BY id;
SELECT * FROM changed;
DROP VIEW changed;
-- who needs the login of a user whose class is over its limit is held, too
SELECT defined(', limits => ''{"create": null, "rename": 1}''');
DELETE FROM hr.staff WHERE key IN ('c5', 'c6');
UPDATE hr.staff SET login = key || 'y@x.example' WHERE key IN ('c1', 'c2');
SELECT hr.join('c8', '{"login": "c2@x.example"}'), hr.join('c9');
SELECT lp_sync_plan('staff', '{c1,c2,c8,c9}') AS plan \gset
SELECT applied();
SELECT source_key, action, state FROM items WHERE attribute = 'loginName';
SELECT action, users, "limit", over, reason FROM lp_sync_plans WHERE plan = :plan;
SELECT applied('{"rename": 2}');
CALL lp_deliver();
SELECT source_key, action, state FROM items WHERE attribute = 'loginName';
-- logins are folded beyond ASCII, too: who needs the login of a user who is held; a request of others; a leaver's login for a new key
SELECT hr.forget();
SELECT hr.join('f' || n, jsonb_build_object('login', U&'\00C9lan' || n || '@x.example')) FROM generate_series(1, 2) n;
SELECT count(*) FROM lp_sync_plan('staff', '{f1,f2}') p, lp_sync_apply(p);
CALL lp_deliver();
SELECT defined(', limits => ''{"rename": 0}''');
UPDATE hr.staff SET login = 'f1@x.example' WHERE key = 'f1';
SELECT hr.join('f3', jsonb_build_object('login', U&'\00E9lan1@x.example')), hr.join('f4', jsonb_build_object('login', U&'\00F6l@x.example'));
SELECT lp_sync_plan('staff', '{f1,f3,f4}') AS plan \gset
SELECT count(*) FROM lp_enqueue_users('12345678', person('x', jsonb_build_object('loginName', U&'\00D6L@x.example')));
SELECT applied();
SELECT source_key, action, state FROM items WHERE attribute = 'loginName';
SELECT action, source_key, reason FROM lp_sync_diff('staff', '{f4}');
DELETE FROM hr.staff WHERE key = 'f2';
SELECT lp_sync_plan('staff', '{f2}') AS plan \gset
SELECT hr.join('f5', jsonb_build_object('login', U&'\00E9lan2@x.example'));
SELECT applied();
SELECT defined();

-- Guards, from five rows on: an empty source, a short one, a short listing, duplicates.
SELECT hr.forget();
SELECT lp_sync_resume('staff');
SELECT hr.join('there', '{"login": "there@example.com", "email": "there@example.com", "chats": 7}');
SELECT hr.join('g' || n) FROM generate_series(1, 9) n;
SELECT lp_sync_plan('staff') AS plan \gset
SELECT applied('{"adopt": 1}');
CALL lp_deliver();
SELECT lp_sync_plan('staff') > 0 AS planned;
SELECT base_rows, base_listed FROM _lp_sync;
-- the list of the first run, before its creates, is no base for the second
BEGIN;
UPDATE _lp_sync SET base_listed = base_listed - 9, last_run = last_run - interval '1 day';
\! curl -sSfo /dev/null -d '{"method": "GET", "path": "/users", "action": "body", "body": "[]", "times": 2}' $LPSIM_URL/_sim/faults
SELECT lp_sync_plan('staff') > 0 AS planned;
SELECT refused(); -- ERROR
SELECT lp_sync_plan('staff') > 0 AS planned;
SELECT base_listed FROM _lp_sync;
ROLLBACK;
BEGIN;
TRUNCATE hr.staff;
SELECT state, message, detail, replace(hint, current_user, 'me') AS hint FROM attempt($$SELECT lp_sync_plan('staff')$$); -- ERROR
ROLLBACK;
BEGIN;
DELETE FROM hr.staff WHERE key IN ('g1', 'g2', 'g3');
SELECT lp_sync_plan('staff') > 0 AS planned;
SELECT action, users, reason FROM lp_sync_plans WHERE plan = (SELECT max(plan) FROM lp_sync_plans);
SELECT refused(); -- ERROR
SELECT refused('{"update": 0}'); -- ERROR
SELECT applied('{"disable": 3, "update": 0}');
ROLLBACK;
BEGIN;
SELECT hr.join('g1', '{"login": "again@x.example"}');
SELECT lp_sync_plan('staff') > 0 AS planned;
SELECT refused(); -- ERROR
SELECT refused('{"blocked": 2}'); -- ERROR
ROLLBACK;
SELECT status FROM lp_delete_users('12345678', ARRAY(SELECT user_id FROM _lp_sync_link WHERE source_key IN ('g1', 'g2', 'g3', 'g4', 'g5')));
SELECT lp_sync_plan('staff') > 0 AS planned;
SELECT refused(); -- ERROR
-- after a resume the guards compare with what the owner has seen, that of the last plan, and an empty list is never right
BEGIN;
UPDATE _lp_sync SET state = 'quarantined';
SELECT lp_sync_resume('staff');
SELECT base_rows, base_listed FROM _lp_sync;
\! curl -sSfo /dev/null -d '{"method": "GET", "path": "/users", "action": "body", "body": "[]", "times": 2}' $LPSIM_URL/_sim/faults
SELECT lp_sync_plan('staff') > 0 AS planned;
UPDATE _lp_sync SET state = 'quarantined';
SELECT lp_sync_resume('staff');
SELECT lp_sync_plan('staff') > 0 AS planned;
SELECT refused(); -- ERROR
DELETE FROM hr.staff WHERE key > 'g5';
SELECT lp_sync_plan('staff') > 0 AS planned;
ROLLBACK;
-- a plan of some keys asks no guard, and does not move what they compare with
SELECT lp_sync_plan('staff', '{g1}') > 0 AS planned;
SELECT applied('{"recreate": 1}');
SELECT base_rows, base_listed FROM _lp_sync;

-- Paused; in a copy of the database; unlinked; dropped
SELECT lp_sync_pause('staff');
SELECT sync, state FROM lp_syncs;
SELECT lp_sync_plan('staff', '{g6}') > 0 AS planned;
SELECT refused(); -- ERROR
SELECT lp_sync_resume('staff');
-- the guards compare with what was before a pause; what was held before is accepted by a resume
SELECT base_rows, base_listed FROM _lp_sync;
BEGIN;
SELECT lp_sync_resume('staff');
SELECT base_rows, base_listed FROM _lp_sync;
ROLLBACK;
SELECT count(*) FROM applied();
UPDATE _lp_sync SET origin = '1/1/1', source_oid = 1, owner_oid = 1, server_oid = 1;
SELECT sync, owner = current_user AS mine, state FROM lp_syncs;
SELECT lp_sync_plan('staff', '{g6}') > 0 AS planned;
SELECT refused(); -- ERROR
SELECT lp_sync_resume('staff');
SELECT sync, state FROM lp_syncs;
-- of another timeline, as after a promotion or a restore to a point in time
UPDATE _lp_sync SET origin = origin || '0';
SELECT sync, state FROM lp_syncs;
SELECT refused(); -- ERROR
CALL lp_sync('staff');
SELECT lp_sync_resume('staff');
SELECT sync, state FROM lp_syncs;
SELECT count(*) FROM applied();
SELECT lp_sync_unlink('staff', '{g6,g7,nothing}');
SELECT action, source_key, reason FROM lp_sync_diff('staff', '{g6,g7}');
-- what is queued for a user who is unlinked is withdrawn, but not what may have been sent: that has its end, and makes no link
SELECT hr.forget();
SELECT lp_sync_resume('staff');
SELECT count(*) FROM lp_sync_define('staff', '12345678', 'hr.people', 'key', limits => '{"create": null, "update": null, "adopt": null}');
SELECT hr.join('u' || n) FROM generate_series(1, 6) n;
SELECT lp_sync_plan('staff') AS plan \gset
SELECT applied();
CALL lp_deliver();
UPDATE hr.staff SET chats = 9;
SELECT hr.join('u7');
SELECT lp_sync_plan('staff', '{u5,u6}') AS plan \gset
SELECT applied();
\! curl -sSfo /dev/null -d '{"method": "PUT", "path": "/users", "action": "reset", "applied": true}' $LPSIM_URL/_sim/faults
SET client_min_messages = warning;
CALL lp_deliver();
RESET client_min_messages;
SELECT lp_sync_plan('staff', '{u1,u2,u3,u4,u7}') AS plan \gset
SELECT applied();
SELECT lp_sync_unlink('staff', '{u1,u5,u7}');
SELECT source_key ->> 'key' AS key, operation, state, reason FROM lp_results WHERE operation = 'update' OR state <> 'created' ORDER BY id;
SELECT count(*) FROM lp_payloads p JOIN lp_requests r ON r.id = p.request_id WHERE r.state = 'superseded';
SELECT source_key, action, state FROM lp_sync_changes WHERE source_key IN ('u1', 'u5', 'u6', 'u7') AND attribute IN ('maxChats', 'loginName') AND plan > (SELECT min(id) FROM _lp_sync_plan) ORDER BY 1;
UPDATE lp_requests SET next_attempt_at = now() WHERE state IN ('pending', 'uncertain');
CALL lp_deliver();
SELECT source_key ->> 'key' AS key, operation, state, reason FROM lp_results WHERE operation = 'update' ORDER BY id;
SELECT source_key FROM lp_sync_links ORDER BY 1;
-- a change that replaces that of a plan has its item: it counts for the limits, and the next plan writes the link
SELECT hr.join('v1');
SELECT lp_sync_plan('staff', '{v1}') AS plan \gset
SELECT applied();
CALL lp_deliver();
UPDATE hr.staff SET chats = 7 WHERE key = 'v1';
SELECT lp_sync_plan('staff', '{v1}') AS plan \gset
SELECT applied();
SELECT count(*) FROM lp_enqueue_changes('12345678', '[{"loginName": "v1@x.example", "nickname": "N"}]');
SELECT i.state, r.state, r.plan IS NULL AS by_user FROM _lp_sync_item i JOIN lp_requests r ON r.id = i.request WHERE i.plan = :plan;
CALL lp_deliver();
SELECT action, state FROM lp_sync_changes WHERE plan = :plan;
SELECT lp_sync_plan('staff', '{}') > 0 AS planned;
SELECT i.state, l.base -> 'maxChats' AS base FROM _lp_sync_item i JOIN _lp_sync_link l ON l.source_key = i.source_key WHERE i.plan = :plan;
-- a change that is not of a plan keeps what the account does not show: the link has it, by id and by login; without a link it is refused
SELECT id AS first FROM lp_requests ORDER BY id DESC LIMIT 1 \gset
SELECT status FROM lp_create_users('12345678', person('unlinked'));
SELECT count(*) FROM _lp_sync_link l, lp_enqueue_changes('12345678', jsonb_build_object('id', l.user_id, 'nickname', 'by id')) WHERE l.source_key = 'u2';
SELECT count(*) FROM lp_enqueue_changes('12345678', '[{"loginName": "U3@x.example", "nickname": "by login"}, {"loginName": "unlinked@example.com", "nickname": "x"}]');
CALL lp_deliver();
SELECT login_name, state, error FROM lp_results WHERE id > :first AND operation = 'update' ORDER BY id;
\! for u in u2@x.example u3@x.example; do curl -sSf "$LPSIM_URL/_sim/user?login=$u" | grep -o '"\(fullName\|employeeId\|nickname\)":"[^"]*"'; done
DELETE FROM lp_payloads WHERE request_id > :first;
DELETE FROM lp_requests WHERE id > :first;
-- what the account does not keep, although only the sync has changed the user since, is sent once more, then reported; the rest is sent
SET lpsim.url = :'url';
CREATE VIEW kept AS SELECT action, attribute, old, new, reason FROM lp_sync_diff('staff', '{v1}');
CREATE FUNCTION unkept(account text DEFAULT '5') RETURNS SETOF kept LANGUAGE plpgsql AS $$ DECLARE p bigint; BEGIN
	EXECUTE format('COPY (SELECT 1) TO PROGRAM %L', format($c$cat >/dev/null; curl -sSfo /dev/null -d '{"user": "v1@x.example", "set": {"maxChats": %s}}' %s/_sim/change$c$, account, current_setting('lpsim.url')));
	p := lp_sync_plan('staff', '{v1}');
	UPDATE _lp_sync_link l SET date_updated = i.date_updated FROM _lp_sync_item i WHERE i.plan = p AND l.source_key = 'v1';
	RETURN QUERY SELECT * FROM kept; END $$;
UPDATE hr.staff SET chats = 6 WHERE key = 'v1';
SELECT count(*) FROM lp_sync_plan('staff', '{v1}') p, lp_sync_apply(p); CALL lp_deliver(); SELECT * FROM unkept();
SELECT count(*) FROM lp_sync_plan('staff', '{v1}') p, lp_sync_apply(p); CALL lp_deliver(); SELECT * FROM unkept();
UPDATE hr.staff SET nick = 'vee' WHERE key = 'v1';
SELECT count(*) FROM lp_sync_plan('staff', '{v1}') p, lp_sync_apply(p); CALL lp_deliver(); SELECT * FROM unkept();
-- another value of the source or of the account is sent, and so is what another client has changed
SELECT * FROM unkept('4'); SELECT * FROM unkept();
UPDATE _lp_sync_link SET date_updated = '2026-01-01 00:00:00' WHERE source_key = 'v1';
SELECT * FROM kept;
DROP VIEW kept CASCADE;
-- it is not withdrawn, and then writes no link
UPDATE hr.staff SET chats = 8 WHERE key = 'v1';
SELECT lp_sync_plan('staff', '{v1}') AS plan \gset
SELECT applied();
SELECT count(*) FROM lp_enqueue_changes('12345678', '[{"loginName": "v1@x.example", "nickname": "M"}]');
SELECT lp_sync_unlink('staff', '{v1}');
CALL lp_deliver();
DELETE FROM hr.staff WHERE key = 'v1';
SELECT lp_sync_plan('staff', '{}') > 0 AS planned;
SELECT i.state, r.state, l.source_key AS linked FROM _lp_sync_item i JOIN lp_requests r ON r.id = i.request LEFT JOIN _lp_sync_link l ON l.source_key = i.source_key
	WHERE i.plan = :plan;
-- dropped, too; and what has failed is not sent again for a user who is no more linked
UPDATE lp_requests SET state = 'failed', cause = 'refused' WHERE state = 'done' AND source_key ->> 'key' IN ('u1', 'u2', 'u5');
INSERT INTO lp_payloads SELECT id, '{}' FROM lp_requests WHERE state = 'failed';
SELECT string_agg(regexp_replace(concat_ws(' | ', a.state, a.message, a.detail), '\d+ of plan \d+', 'N of plan N'), ';') FROM lp_requests r,
	attempt(format('SELECT lp_retry(''{%s}'')', r.id)) a WHERE r.state = 'failed';
UPDATE hr.staff SET chats = 8;
SELECT lp_sync_plan('staff', '{u2,u3,u4}') AS plan \gset
SELECT applied();
SELECT lp_sync_pause('staff');
SELECT lp_sync_drop('staff');
SELECT source_key ->> 'key' AS key, operation, state, reason FROM lp_results WHERE plan = :plan ORDER BY id;
SELECT string_agg(regexp_replace(concat_ws(' | ', a.state, a.message, a.detail), '\d+ of plan \d+', 'N of plan N'), ';') FROM lp_requests r,
	attempt(format('SELECT lp_retry(''{%s}'')', r.id)) a WHERE r.state = 'failed';
CALL lp_deliver();
SELECT count(*) FROM lp_syncs;
SELECT count(*) FROM _lp_sync_link;
DELETE FROM lp_payloads; DELETE FROM lp_requests;
SELECT lp_sync_drop('staff'); -- ERROR
-- who may
SELECT defined();
CREATE ROLE regress_clerk;
GRANT EXECUTE ON FUNCTION lp_sync_plan, lp_sync_apply, lp_sync_unlink, lp_sync_pause, lp_sync_resume, lp_sync_drop TO regress_clerk;
SELECT lp_sync_plan('staff', '{}') AS plan \gset
SET ROLE regress_clerk;
-- (the name of the superuser differs)
\set VERBOSITY terse
SELECT lp_sync_plan('staff'); -- ERROR
SELECT lp_sync_apply(:plan); -- ERROR
SELECT lp_sync_pause('staff'); -- ERROR
SELECT lp_sync_resume('staff'); -- ERROR
SELECT lp_sync_unlink('staff', '{}'); -- ERROR
SELECT lp_sync_drop('staff'); -- ERROR
\set VERBOSITY default
SELECT count(*) FROM lp_sync_plans;
SELECT count(*) FROM lp_sync_changes;
SELECT count(*) FROM lp_sync_links;
SELECT count(*) FROM _lp_sync; -- ERROR
RESET ROLE;
BEGIN READ ONLY;
SELECT lp_sync_plan('staff'); -- ERROR
ROLLBACK;
BEGIN READ ONLY;
SELECT lp_sync_apply(1); -- ERROR
ROLLBACK;

DROP OWNED BY regress_clerk;
DROP ROLE regress_clerk;
DROP VIEW plans, items;
DROP FUNCTION defined(text), applied(jsonb), refused(jsonb);
\i sql/include/finish.sql

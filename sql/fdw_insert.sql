-- fdw_insert: rows that are inserted become users
\set with_tables on
\set with_people on
\i sql/include/start.sql
-- one connection, so that requests come in the order of the rows
ALTER SERVER acme OPTIONS (ADD max_connections '1');
-- one, and all that the account has of it
INSERT INTO lp.users (:columns) SELECT * FROM lp.staff('ann', 1, 1);
SELECT u - '{dateUpdated,lastPwdChangeDate}'::text[] #- '{memberOf,assignmentDate}' FROM lp.account;
SELECT lp.requests();
-- VALUES lists and INSERT ... SELECT go in batches of batch_size
ALTER SERVER acme OPTIONS (ADD batch_size '10');
INSERT INTO lp.users (:columns) VALUES
	('bob@example.com', 'Bob', 'bob', 'bob@example.com', 'Start-1234', true, 3, '{1002}', 2001),
	('cid@example.com', 'Cid', 'cid', 'cid@example.com', 'Start-1234', false, 0, '{1001,1003}', NULL),
	('dan@example.com', 'Dan', 'dan', 'dan@example.com', 'Start-1234', true, 3, '{1002}', -1);
SELECT lp.requests();
SELECT login, u->'isEnabled', u->'maxChats', u->'profileIds', u->'memberOf'->'agentGroupId' FROM lp.account WHERE login ~ '^(bob|cid|dan)' ORDER BY id;
INSERT INTO lp.users (:columns) SELECT * FROM lp.staff('eve', 1, 25);
SELECT lp.requests();
INSERT INTO lp.users (:columns) SELECT * FROM lp.staff('eve', 26, 45);
SELECT lp.requests();
INSERT INTO lp.users (:columns) SELECT * FROM lp.staff('eve', 1, 0);
SELECT lp.requests();
ALTER SERVER acme OPTIONS (SET batch_size '1');
INSERT INTO lp.users (:columns) SELECT * FROM lp.staff('fay', 1, 3);
SELECT lp.requests();
ALTER SERVER acme OPTIONS (SET batch_size '1000');
INSERT INTO lp.users (:columns) SELECT * FROM lp.staff('gil', 1, 1001);
SELECT lp.requests();
ALTER SERVER acme OPTIONS (DROP batch_size);
SELECT count(*), count(DISTINCT login) FROM lp.account;
SELECT operation, path, state, status, count(*), count(user_id), count(DISTINCT batch), bool_and(ac_revision IS NOT NULL) AS revision
FROM lp_results GROUP BY 1, 2, 3, 4;
DELETE FROM lp_requests;

-- RETURNING: a request for each user, and what the account made of it; the password is not shown
INSERT INTO lp.users (:columns) SELECT * FROM lp.staff('hal', 1, 2) RETURNING id - 4000000000 AS id, pid, deleted, login_name, full_name, password_sh,
	disabled_manually, is_api_user, user_type_id, date_updated IS NOT NULL AS updated, member_of, manager_of, entity->>'loginName' AS entity;
SELECT lp.requests();
WITH made AS (INSERT INTO lp.users (:columns) SELECT * FROM lp.staff('ian', 1, 2) RETURNING id, login_name)
SELECT m.login_name, m.id = a.id AS same FROM made m JOIN lp.account a ON a.login = m.login_name;
-- an answer that says nothing, or not enough, leaves the row as it was sent; one that cannot be read as its type is an error
CALL lp.fault('[{"method":"POST","action":"status","status":204,"body":"","applied":true},
	{"method":"POST","action":"status","status":201,"body":"[{\"id\": \"4000009999\", \"nickname\": \"N\", \"fullName\": \"\", \"maxChats\": \"4\", \"lobIds\": null}]","applied":true},
	{"method":"POST","action":"not_json","status":201,"applied":true}, {"method":"POST","action":"status","status":201,"body":"{\"id\": 4000009998, \"maxChats\": \"x\"}","applied":true}]');
INSERT INTO lp.users (:columns) SELECT * FROM lp.staff('jim', 1, 1) RETURNING id, login_name, full_name, nickname, max_chats;
INSERT INTO lp.users (:columns) SELECT * FROM lp.staff('jim', 2, 2) RETURNING id, login_name, full_name, nickname, max_chats, lob_ids;
INSERT INTO lp.users (:columns) SELECT * FROM lp.staff('jim', 3, 3) RETURNING id, login_name;
SELECT * FROM attempt($$INSERT INTO lp.users (login_name, full_name, nickname, email, password_sh, is_enabled, max_chats, profile_ids, member_of)
	SELECT * FROM lp.staff('jim', 4, 4) RETURNING id$$);
SELECT login, count(*) FROM lp.account WHERE login ~ '^jim' GROUP BY 1 ORDER BY 1;
SELECT login_name, state, status, user_id, error FROM lp_results WHERE login_name ~ '^jim' ORDER BY id;

-- ON CONFLICT DO NOTHING: users that exist are left out: in other case, twice in the statement; a deleted user is not there
SELECT status FROM lp_delete_users('12345678', ARRAY(SELECT id FROM lp.account WHERE login = 'bob@example.com'));
SELECT lp.requests();
INSERT INTO lp.users (:columns)
SELECT login, 'x', 'x', 'x@example.com', 'Start-1234', true, 3, '{1002}', 2001 FROM (VALUES ('ANN1@example.com'), ('Bob@example.com'), ('Kim@example.com'),
	('kim@example.com'), ('eve7@EXAMPLE.com')) v (login)
ON CONFLICT DO NOTHING;
SELECT lp.requests();
SELECT login, count(*), bool_or(deleted) FROM lp.account WHERE lower(login) ~ '^(ann|bob|kim|eve7@)' GROUP BY 1 ORDER BY 1;
INSERT INTO lp.users (:columns) SELECT * FROM lp.staff('eve', 44, 47) ON CONFLICT DO NOTHING RETURNING login_name;
SELECT lp.requests();
INSERT INTO lp.users (:columns) SELECT * FROM lp.staff('eve', 1, 45) ON CONFLICT DO NOTHING;
SELECT lp.requests();
INSERT INTO lp.users (:columns) SELECT * FROM lp.staff('eve', 1, 0) ON CONFLICT DO NOTHING;
SELECT lp.requests();
-- the login may come from elsewhere
INSERT INTO lp.users (entity, password_sh) SELECT person(n) - 'passwordSh', 'Start-1234' FROM unnest('{ann1,leo,Leo}'::text[]) n ON CONFLICT DO NOTHING;
SELECT lp.requests();
-- another client creates one between the lookup and the request: it is left out; for another reason it is not
CALL lp.fault('{"method":"GET","action":"body","body":"[]"}');
INSERT INTO lp.users (:columns) SELECT * FROM lp.staff('eve', 47, 49) ON CONFLICT DO NOTHING;
SELECT lp.requests();
CALL lp.fault('{"method":"GET","action":"body","body":"[]"}');
INSERT INTO lp.users (:columns) SELECT * FROM lp.staff('eve', 49, 49) ON CONFLICT DO NOTHING RETURNING id;
SELECT lp.requests();
-- the same where the others of the request are carried out: it is on record that this may be so
CALL lp.config('{"bulk": "partial"}');
CALL lp.fault('{"method":"GET","action":"body","body":"[]"}');
INSERT INTO lp.users (:columns) SELECT * FROM lp.staff('eve', 49, 51) ON CONFLICT DO NOTHING;
SELECT lp.requests();
SELECT login_name, state, status, reason FROM lp_results WHERE login_name ~ '^eve(49|50|51)' ORDER BY id;
CALL lp.config('{"bulk": "all_or_nothing"}');
INSERT INTO lp.users (:columns) SELECT 'mia@example.com', 'x', 'x', 'x', 'short', true, 3, '{1002}', 2001 ON CONFLICT DO NOTHING; -- ERROR
SELECT lp.requests();
-- if the account cannot be listed, nothing is sent
CALL lp.fault('{"method":"GET","action":"status","status":403}');
SELECT * FROM attempt($$INSERT INTO lp.people SELECT * FROM lp.staff('mia', 1, 1) ON CONFLICT DO NOTHING$$);
CALL lp.fault('{"method":"GET","action":"half"}');
SELECT * FROM attempt($$INSERT INTO lp.people SELECT * FROM lp.staff('mia', 1, 1) ON CONFLICT DO NOTHING$$);
SELECT lp.requests();
-- refused: other forms
INSERT INTO lp.users (:columns) SELECT * FROM lp.staff('mia', 1, 1) ON CONFLICT (login_name) DO NOTHING; -- ERROR
INSERT INTO lp.users (:columns) SELECT * FROM lp.staff('mia', 1, 1) ON CONFLICT (login_name) DO UPDATE SET nickname = 'x'; -- ERROR
INSERT INTO lp.skills (name) VALUES ('x'); -- ERROR
SELECT lp.requests();

-- Defaults and generated columns; unknown attributes go along; dropped columns do not matter.
CREATE FOREIGN TABLE lp.own (gone integer, login_name text, full_name text, nickname text GENERATED ALWAYS AS (split_part(login_name, '@', 1)) STORED,
	mail text OPTIONS (attribute 'email') GENERATED ALWAYS AS (login_name) STORED, password_sh text DEFAULT 'Start-1234', is_enabled boolean DEFAULT true,
	max_chats smallint DEFAULT 3, profile_ids integer[] DEFAULT '{1002}', member_of jsonb DEFAULT '{"agentGroupId": 2001}', shoe_size numeric, tags text[], badge jsonb,
	since date, id bigint) SERVER acme OPTIONS (resource 'users');
ALTER FOREIGN TABLE lp.own DROP COLUMN gone;
INSERT INTO lp.own (login_name, full_name) VALUES ('nia@example.com', 'Nia');
INSERT INTO lp.own (login_name, full_name, shoe_size, tags, badge, since) VALUES ('oda@example.com', 'Oda', 41.5, '{a,b}', '{"no": 7}', '2026-11-01')
	RETURNING nickname, mail, max_chats, profile_ids, member_of - 'assignmentDate' AS member_of, shoe_size, tags, badge, since, id IS NOT NULL AS id;
SELECT u - '{id,pid,deleted,dateUpdated,lastPwdChangeDate,isApiUser,userTypeId,disabledManually}'::text[] #- '{memberOf,assignmentDate}' FROM lp.account WHERE login ~ '^(nia|oda)' ORDER BY id;
-- The entity is the ground that other columns are laid upon.
INSERT INTO lp.users (entity) VALUES (person('pia', '{"color": "red", "nickname": "x"}'));
INSERT INTO lp.users (entity, nickname, max_chats) VALUES (person('pat', '{"color": "red"}'), 'Patty', 9);
SELECT login, u->'nickname', u->'maxChats', u->'color' FROM lp.account WHERE login ~ '^(pia|pat)' ORDER BY id;
INSERT INTO lp.users (entity) VALUES ('[1]'); -- ERROR
INSERT INTO lp.users (entity) VALUES ('"x"'); -- ERROR
INSERT INTO lp.users (entity) VALUES ('null'); -- ERROR
INSERT INTO lp.users (entity) VALUES ('{}'); -- ERROR
INSERT INTO lp.users (entity) SELECT jsonb_agg(person('q' || i)) FROM generate_series(1, 2) i; -- ERROR
INSERT INTO lp.users (entity, login_name) SELECT entity - 'id', 'x@example.com' FROM lp.users WHERE login_name = 'pia@example.com'; -- ERROR

-- What the API documents as wrong is refused, with row, user and column, and nothing of the batch is sent.
SELECT lp.requests();
INSERT INTO lp.users (login_name) VALUES ('rob@example.com'); -- ERROR
INSERT INTO lp.users (full_name) VALUES ('Rob'); -- ERROR
INSERT INTO lp.users (:columns) SELECT * FROM lp.staff('rob', 1, 2) UNION ALL
	SELECT 'rob3@example.com', '', 'x', 'x', NULL, true, 3, '{1002}', 2001; -- ERROR
INSERT INTO lp.users (id, deleted, date_updated, :columns) SELECT 1, false, '2026-01-01', * FROM lp.staff('rob', 1, 1); -- ERROR
INSERT INTO lp.users (:columns) SELECT * FROM lp.staff('rob', 1, 2) UNION ALL SELECT * FROM lp.staff('ROB', 2, 2); -- ERROR
INSERT INTO lp.users (skill_ids, :columns) SELECT CASE WHEN s.login_name ~ '3' THEN '{1,NULL}'::bigint[] END, * FROM lp.staff('rob', 1, 4) s; -- ERROR
INSERT INTO lp.users (skill_ids, :columns) SELECT '{0}', * FROM lp.staff('rob', 1, 1); -- ERROR
INSERT INTO lp.own (login_name, full_name, member_of) VALUES ('rob@example.com', 'Rob', '{"group": 1}'); -- ERROR
INSERT INTO lp.own (login_name, full_name, id) VALUES ('rob@example.com', 'Rob', 7); -- ERROR
CREATE FOREIGN TABLE lp.narrow (login_name text, email text, is_enabled text) SERVER acme OPTIONS (resource 'users');
INSERT INTO lp.narrow VALUES ('rob@example.com', 'rob@example.com', 'true'); -- ERROR
INSERT INTO lp.narrow VALUES ('rob@example.com', 'rob@example.com', 'perhaps'); -- ERROR
ALTER SERVER acme OPTIONS (ADD batch_size '2');
SELECT * FROM attempt($$INSERT INTO lp.people SELECT * FROM lp.staff('sue', 1, 3) UNION ALL SELECT * FROM lp.staff('SUE', 3, 3)$$);
SELECT * FROM attempt($$INSERT INTO lp.people SELECT * FROM lp.staff('sam', 1, 3) UNION ALL SELECT '', 'x', 'x', 'x', 'Start-1234', true, 3, '{1002}', 2001$$);
ALTER SERVER acme OPTIONS (DROP batch_size);
SELECT lp.requests();
SELECT login FROM lp.account WHERE login ~* '^(rob|sue|sam|x@)' ORDER BY id;
-- API users have a key instead of a password; with require_password off no user needs one
INSERT INTO lp.users (login_name, full_name, nickname, email, is_enabled, max_chats, profile_ids, is_api_user, allowed_app_keys)
	VALUES ('bot@example.com', 'Bot', 'bot', 'bot@example.com', true, 0, '{1001}', true, 'key');
INSERT INTO lp.users (login_name, full_name, nickname, email, is_enabled, max_chats, profile_ids, is_api_user)
	VALUES ('bot2@example.com', 'Bot', 'bot', 'bot@example.com', true, 0, '{1001}', true); -- ERROR
ALTER SERVER acme OPTIONS (ADD require_password 'off');
CALL lp.fault('{"method":"POST","action":"status","status":201,"body":"{}"}');
INSERT INTO lp.users (login_name, full_name, nickname, email, is_enabled, max_chats, profile_ids, member_of)
	VALUES ('sso@example.com', 'Sso', 'sso', 'sso@example.com', true, 1, '{1002}', 2001);
ALTER SERVER acme OPTIONS (DROP require_password);
SELECT lp.requests();

-- COPY
ALTER SERVER acme OPTIONS (ADD batch_size '3');
COPY lp.people FROM stdin WITH (FORMAT csv);
tom1@example.com,Tom,t,t@example.com,Start-1234,t,3,{1002},2001
tom2@example.com,Tom,t,t@example.com,Start-1234,t,3,{1002},2001
tom3@example.com,Tom,t,t@example.com,Start-1234,t,3,{1002},2001
tom4@example.com,Tom,t,t@example.com,Start-1234,t,3,{1002},2001
\.
SELECT lp.requests();
-- the row is the line; 5,000 of them
SELECT * FROM attempt($$COPY lp.people FROM PROGRAM 'seq 5 | sed "s/.*/ugo&@example.com,Ugo,u,u@example.com,Start-1234,t,3,{1002},2001/; 5s/Ugo//"' (FORMAT csv)$$);
SELECT lp.requests();
ALTER SERVER acme OPTIONS (DROP batch_size);
COPY lp.people FROM PROGRAM 'seq 5000 | sed "s/.*/van&@example.com,Van,v,v@example.com,Start-1234,t,3,{1002},2001/"' (FORMAT csv);
SELECT DISTINCT regexp_replace(r, ' \d+ -> 201.*', ' N -> 201') AS requests FROM lp.requests() r;
SELECT count(*), count(DISTINCT login) FROM lp.account WHERE login ~ '^van';
SELECT count(*), count(DISTINCT user_id), count(DISTINCT batch) BETWEEN 50 AND 55 AS batches FROM lp_results WHERE login_name ~ '^van' AND state = 'created' AND path = 'table';
-- another user than the one that was sent is not shown as its row
CALL lp.fault('{"method":"POST","action":"status","status":201,"body":"[{\"id\": 77, \"loginName\": \"stranger@example.com\", \"nickname\": \"other\"}]","applied":true}');
INSERT INTO lp.users (:columns) SELECT * FROM lp.staff('kim', 1, 1) RETURNING id, login_name, nickname;
CALL lp.fault('{"method":"PUT","action":"status","status":200,"body":"[{\"id\": 77, \"loginName\": \"stranger@example.com\", \"maxChats\": 9}]","applied":true}');
UPDATE lp.users SET max_chats = 5, full_name = 'k', employee_id = NULL WHERE login_name = 'kim1@example.com' RETURNING id <> 77 AS same, login_name, max_chats;
\i sql/include/finish.sql

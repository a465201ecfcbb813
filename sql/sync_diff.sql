-- sync_diff: the actions, one by one, against a relation in place of the account; nothing is sent
\set with_sync on
\i sql/include/start.sql
CREATE FUNCTION defined(more text DEFAULT '') RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
BEGIN
	EXECUTE $q$SELECT count(*) FROM lp_sync_define('staff', '12345678', 'hr.people', 'key'$q$ || more || ')' INTO n;
	RETURN n;
END $$;
CREATE VIEW diff AS SELECT * FROM lp_sync_diff('staff', against => 'hr.acct');
SELECT defined(', delete_after => ''30 days''');

-- Every row of the table of actions.
-- in the source, an unfinished request
SELECT hr.join('wait'), hr.account(1, 'wait', '{"max_chats": 9}'), hr.link(1, 'wait');
INSERT INTO lp_requests (account, operation, path, server_oid, requested_by, send_as, user_id, state, next_attempt_at)
	SELECT '12345678', 'update', 'queue', oid, 'x', 'x', 1, 'pending', now() FROM pg_foreign_server WHERE srvname = 'acme';
-- no link: no user there; a user there, the same, different, disabled
SELECT hr.join('create');
SELECT hr.join('adopt'), hr.account(3, 'adopt');
SELECT hr.join('adopt2', '{"login": "ADOPT2@x.example"}'), hr.account(4, 'adopt2', '{"nickname": "other", "email": "Adopt2@X.example"}');
SELECT hr.join('adopt3', '{"chats": 5}'), hr.account(5, 'adopt3', '{"is_enabled": false}');
-- a link: same; login, one attribute, several
SELECT hr.join('same'), hr.account(6, 'same'), hr.link(6, 'same');
SELECT hr.join('rename', '{"login": "renamed@x.example", "chats": 4}'), hr.account(7, 'rename'), hr.link(7, 'rename');
SELECT hr.join('update', '{"chats": 4, "profile_ids": [1003, 1002], "team": 2002}'), hr.account(8, 'update'), hr.link(8, 'update');
SELECT hr.join('name', '{"name": "Married Name"}'), hr.account(9, 'name'), hr.link(9, 'name');
-- disabled in the source; by others; by the sync, and in the source again
SELECT hr.join('disable', '{"enabled": false, "chats": 1}'), hr.account(10, 'disable'), hr.link(10, 'disable');
SELECT hr.join('reopen'), hr.account(11, 'reopen', '{"is_enabled": false}'), hr.link(11, 'reopen');
SELECT hr.join('nosay', '{"enabled": null}'), hr.account(12, 'nosay', '{"is_enabled": false}'), hr.link(12, 'nosay');
SELECT hr.join('enable', '{"chats": 2}'), hr.account(13, 'enable', '{"is_enabled": false}'), hr.link(13, 'enable', 'disabled');
SELECT hr.join('enable2', '{"enabled": null}'), hr.account(14, 'enable2', '{"is_enabled": false}'), hr.link(14, 'enable2', 'disabled');
SELECT hr.join('stays', '{"enabled": false}'), hr.account(15, 'stays', '{"is_enabled": false}'), hr.link(15, 'stays', 'disabled');
SELECT hr.join('back'), hr.account(16, 'back', '{"is_enabled": false}'), hr.link(16, 'back', 'disabled', false);
SELECT hr.join('opened'), hr.account(17, 'opened'), hr.link(17, 'opened', 'disabled');
SELECT hr.join('opened2', '{"enabled": false}'), hr.account(18, 'opened2'), hr.link(18, 'opened2', 'disabled');
-- deleted or absent in the account
SELECT hr.join('recreate'), hr.link(19, 'recreate');
SELECT hr.join('recreate2'), hr.account(20, 'recreate2', '{"deleted": true}'), hr.link(20, 'recreate2', 'disabled');
SELECT hr.join('gone'), hr.link(21, 'gone', 'gone'), hr.join('gone2'), hr.link(22, 'gone2', 'gone', false);
SELECT hr.join('gone3'), hr.link(23, 'gone3', 'gone'), hr.account(99, 'gone3');
-- not in the source
SELECT hr.account(31, 'leaver'), hr.link(31, 'leaver');
SELECT hr.account(32, 'left', '{"is_enabled": false}'), hr.link(32, 'left'), hr.link(33, 'lost');
SELECT hr.account(34, 'old', '{"is_enabled": false}'), hr.link(34, 'old', 'disabled', since => now() - interval '31 days');
SELECT hr.account(35, 'recent', '{"is_enabled": false}'), hr.link(35, 'recent', 'disabled', since => now() - interval '29 days');
SELECT hr.account(36, 'theirs', '{"is_enabled": false}'), hr.link(36, 'theirs', 'disabled', false, since => now() - interval '31 days');
SELECT hr.account(37, 'reopened'), hr.link(37, 'reopened', 'disabled');
SELECT hr.link(38, 'forgotten', 'gone');
SELECT hr.account(40, 'stranger');
SELECT action, source_key, user_id, login_name, attribute, old, new, reason FROM diff
	WHERE action <> 'create' AND action <> 'recreate' OR attribute IN ('loginName', 'isEnabled');
-- a user with the e-mail of a person who is to be created may be the same one
SELECT hr.join('mail', '{"email": "Stranger@X.example"}');
SELECT action, attribute, reason FROM diff WHERE source_key = 'mail' AND attribute IN ('loginName', 'email');
DELETE FROM hr.staff WHERE key = 'mail';
-- a create shows what is sent but what is only sent with it
SELECT attribute, old, new, reason FROM diff WHERE source_key = 'create';
-- only some keys
SELECT action, source_key, attribute FROM lp_sync_diff('staff', '{leaver,update,nothing}', 'hr.acct');
SELECT count(*) FROM lp_sync_diff('staff', '{}', 'hr.acct');
-- leavers: delete, report
SELECT defined(', leavers => ''delete''');
SELECT action, source_key, attribute, reason FROM diff WHERE source_key IN ('leaver', 'reopened', 'old', 'left');
SELECT defined(', leavers => ''report''');
SELECT action, source_key, attribute, reason FROM diff WHERE source_key IN ('leaver', 'reopened', 'old', 'left');
SELECT hr.forget();

-- Blocked, and the others go on.
SELECT defined();
SELECT hr.join('fine');
SELECT hr.join('k1'), hr.join('k1', '{"login": "other@x.example"}');
SELECT hr.join('l1', '{"login": "twice@x.example"}'), hr.join('l2', '{"login": " TWICE@x.example"}');
SELECT hr.join('', '{"login": "nokey@x.example"}'), hr.join('n', '{"key": null, "login": "nullkey@x.example"}'), hr.join(repeat('k', 255), '{"login": "longkey@x.example"}');
SELECT hr.join('m', '{"login": null}'), hr.join('o', '{"login": ""}'), hr.join('p', jsonb_build_object('login', E'tab\t@x.example'));
SELECT hr.join('q', '{"profile_ids": [0]}'), hr.join('r', '{"chats": null, "name": null}');
SELECT hr.join('empty', '{"nick": ""}'), hr.join('empty2', '{"nick": " ", "email": "", "name": "", "description": ""}'), hr.account(61, 'empty2'), hr.link(61, 'empty2');
SELECT hr.join('nan', '{"chats": "NaN"}'), hr.join('inf', '{"chats": "-Infinity"}'), hr.join('1e300', '{"chats": 1e300}'), hr.join('digits', '{"chats": 0.1234567890123456}'), hr.join('digits2', '{"chats": 9007199254740993}'), hr.join('decimal', '{"chats": 2.50}');
SELECT hr.join('nan2', '{"chats": "NaN"}'), hr.account(60, 'nan2'), hr.link(60, 'nan2');
SELECT hr.account(50, 'same1', '{"login_name": "namesake@x.example"}'), hr.account(51, 'same2', '{"login_name": "NameSake@x.example"}'),
	hr.join('s', '{"login": "namesake@x.example"}');
SELECT hr.account(52, 'taken'), hr.account(53, 'takes'), hr.link(53, 'takes'), hr.join('takes', '{"login": "taken@x.example"}');
SELECT action, left(source_key, 10) AS source_key, user_id, login_name, reason FROM diff WHERE attribute IS NULL OR attribute = 'loginName' ORDER BY 1, 2, 4;
SELECT hr.forget();
-- what the source lacks for a create
CREATE VIEW hr.lacking AS SELECT key, login_name, full_name, employee_id, max_chats FROM hr.people;
SELECT count(*) FROM lp_sync_define('lacking', '12345678', 'hr.lacking', 'key');
SELECT hr.join('new'), hr.join('old', '{"chats": 9}'), hr.account(1, 'old');
SELECT action, source_key, attribute, reason FROM lp_sync_diff('lacking', against => 'hr.acct');
-- what the API's type cannot hold, in columns that can
CREATE VIEW hr.loose AS SELECT key, login_name, full_name, employee_id, nickname, email, is_enabled, max_chats, 'x' AS password_sh,
	ARRAY[split_part(description, ',', 1)::numeric] AS profile_ids, split_part(description, ',', 2)::float8 AS member_of,
	ARRAY[split_part(description, ',', 3)::float8] AS manager_of, split_part(description, ',', 4)::numeric AS user_type_id FROM hr.people;
CREATE TABLE hr.loose_acct AS SELECT *, '{}'::bigint[] AS manager_of, 1 AS user_type_id FROM hr.acct WHERE false;
SELECT count(*) FROM lp_sync_define('loose', '12345678', 'hr.loose', 'key');
SELECT hr.join('good', '{"description": "1002.0,2001,2002,1"}'), hr.join('half', '{"description": "1002.5,2001.5,2002.5,1.5"}');
SELECT hr.join('nan', '{"description": "NaN,NaN,NaN,NaN"}'), hr.join('large', '{"description": "1e30,1e30,1e300,1e300"}');
SELECT action, source_key, reason, count(*) FROM lp_sync_diff('loose', '{good,half,nan,large}', 'hr.loose_acct') GROUP BY 1, 2, 3 ORDER BY 2;
SELECT attribute, new FROM lp_sync_diff('loose', '{good}', 'hr.loose_acct') WHERE attribute IN ('profileIds', 'agentGroupId', 'managerOf', 'userTypeId');
-- a user that another sync of the account has linked
SELECT defined();
INSERT INTO _lp_sync_link (sync, source_key, user_id, state, by_us) SELECT id, 'x', 1, 'active', true FROM _lp_sync WHERE name = 'lacking';
SELECT action, source_key, reason FROM diff WHERE source_key = 'old';
UPDATE _lp_sync_link SET state = 'gone';
SELECT action, source_key, reason FROM diff WHERE source_key = 'old';
-- also if this sync has linked it, too: nothing is changed, and who left is not closed
UPDATE _lp_sync_link SET state = 'active';
SELECT hr.link(1, 'old'), hr.account(2, 'left'), hr.link(2, 'left'), hr.account(3, 'ours'), hr.link(3, 'ours');
INSERT INTO _lp_sync_link (sync, source_key, user_id, state, by_us) SELECT id, 'y', 2, 'active', true FROM _lp_sync WHERE name = 'lacking';
SELECT action, source_key, user_id, login_name, reason FROM diff WHERE source_key IN ('old', 'left', 'ours');
SELECT hr.forget();

-- Logins that change hands: renamed out of the way, swapped, a new number for the same person
SELECT hr.join('a', '{"login": "b@x.example"}'), hr.account(1, 'a'), hr.link(1, 'a');
SELECT hr.join('b', '{"login": "c@x.example"}'), hr.account(2, 'b'), hr.link(2, 'b');
SELECT hr.join('new', '{"login": "a@x.example"}');
SELECT hr.join('again', '{"login": "person@x.example", "chats": 8}'), hr.account(4, 'person'), hr.link(4, 'person');
SELECT hr.join('again2', '{"login": "rehired@x.example"}'), hr.account(5, 'rehired', '{"is_enabled": false}'), hr.link(5, 'rehired', 'disabled');
SELECT action, source_key, user_id, login_name, attribute, old, new, reason FROM diff WHERE action <> 'create' OR attribute = 'loginName';
-- who has left is closed, also if a person who has a user is to get the login; then that one waits
SELECT hr.account(6, 'left'), hr.link(6, 'left'), hr.account(7, 'stays'), hr.link(7, 'stays'), hr.join('stays', '{"login": "left@x.example"}');
SELECT action, source_key, attribute, new, regexp_replace(reason, '\d+', 'N') AS reason FROM diff WHERE source_key IN ('left', 'stays');
DELETE FROM hr.staff WHERE key = 'stays';
DELETE FROM hr.acct WHERE id IN (6, 7);
DELETE FROM _lp_sync_link WHERE user_id IN (6, 7);
-- of the one whose login is needed alone, the other stays: blocked
SELECT action, source_key, reason FROM lp_sync_diff('staff', '{a,new}', 'hr.acct') WHERE action = 'blocked';
SELECT hr.forget();

-- Exchanged logins and longer cycles, who waits for one, and who waits for a user who stays: blocked.
SELECT hr.account(n, 'e' || n), hr.link(n, 'e' || n) FROM generate_series(1, 9) n;
SELECT hr.join('e1', '{"login": "E2@x.example"}'), hr.join('e2', '{"login": "e1@x.example"}');
SELECT hr.join('e3', '{"login": "e4@x.example"}'), hr.join('e4', '{"login": "e5@x.example"}'), hr.join('e5', '{"login": "e3@x.example"}');
SELECT hr.join('e6', '{"login": "e7@x.example"}'), hr.join('e7', '{"login": "e8@x.example"}'), hr.join('e8', '{"chats": 4}'), hr.join('after e6', '{"login": "e6@x.example"}');
SELECT action, source_key, user_id, login_name, attribute, reason FROM diff;
-- a cycle ends where one of them gets a login of its own; then they follow one another, and a new user comes last
UPDATE hr.staff SET login = key || 'x@x.example' WHERE key IN ('e2', 'e5', 'e8');
SELECT hr.join('after e1', '{"login": "e1@x.example"}');
SELECT action, source_key, old, new, reason FROM diff WHERE attribute IS NULL OR attribute = 'loginName';
-- a login that the account has otherwise and that is left so needs no other one, and gives none up
SELECT defined(', drift => ''report''');
UPDATE _lp_sync_link SET base = '{"loginName": "sent@x.example"}' WHERE source_key IN ('e1', 'e7');
SELECT action, source_key, attribute, old, new, reason FROM diff WHERE source_key IN ('e1', 'after e1', 'e6', 'e7', 'e8') AND (attribute IS NULL OR attribute = 'loginName');
-- whose login is needed has an unfinished request: the others wait
SELECT defined();
INSERT INTO lp_requests (account, operation, path, server_oid, requested_by, send_as, user_id, state, next_attempt_at)
	SELECT '12345678', 'update', 'queue', oid, 'x', 'x', 8, 'pending', now() FROM pg_foreign_server WHERE srvname = 'acme';
SELECT action, source_key, reason FROM lp_sync_diff('staff', '{e7,e8}', 'hr.acct');
SELECT hr.forget();

-- Values: null has no opinion, what is empty is empty, and absent is empty, too.
SELECT hr.account(n, 'u' || n, '{"description": "text", "skill_ids": [3001]}'), hr.link(n, 'u' || n) FROM generate_series(1, 3) n;
SELECT hr.account(n, 'u' || n), hr.link(n, 'u' || n) FROM generate_series(4, 6) n;
SELECT hr.account(n, 'u' || n, '{"description": "", "skill_ids": [], "max_chats": null, "member_of": null}'), hr.link(n, 'u' || n) FROM generate_series(7, 9) n;
SELECT hr.join('u' || n) FROM generate_series(1, 7, 3) n;
SELECT hr.join('u' || n, '{"description": "", "skill_ids": []}') FROM generate_series(2, 8, 3) n;
SELECT hr.join('u' || n, '{"description": "text", "skill_ids": [3001]}') FROM generate_series(3, 9, 3) n;
SELECT source_key, attribute, old, new FROM diff;
TRUNCATE hr.staff;
SELECT hr.join('u' || n, '{"chats": null, "team": null, "email": null, "nick": null, "profile_ids": null}') FROM generate_series(1, 9) n;
SELECT count(*) FROM diff;
SELECT hr.forget();
-- however they are written
SELECT hr.account(1, 'a', '{"email": "A@X.example", "max_chats": 3.00, "profile_ids": [1003, null, 1002, 1003], "nickname": " nick "}'), hr.link(1, 'a');
SELECT hr.join('a', '{"login": "A@X.EXAMPLE", "profile_ids": [1002, 1003], "nick": "nick"}');
SELECT hr.account(2, 'b', jsonb_build_object('nickname', U&'Jose\0301')), hr.link(2, 'b'), hr.join('b', jsonb_build_object('nick', U&'Jos\00E9'));
SELECT * FROM diff;
SELECT hr.forget();

-- Three ways: what the sync sent last, what the source says, what the account has.
CREATE FUNCTION three_ways() RETURNS void LANGUAGE sql AS $$
	SELECT hr.account(1, 'source', '{"max_chats": 3}'), hr.link(1, 'source', base => '{"maxChats": 3}'), hr.join('source', '{"chats": 4}');
	SELECT hr.account(2, 'account', '{"max_chats": 9}'), hr.link(2, 'account', base => '{"maxChats": 4}'), hr.join('account', '{"chats": 4}');
	SELECT hr.account(3, 'both', '{"max_chats": 9}'), hr.link(3, 'both', base => '{"maxChats": 3}'), hr.join('both', '{"chats": 4}');
	SELECT hr.account(4, 'alike', '{"max_chats": 4}'), hr.link(4, 'alike', base => '{"maxChats": 3}'), hr.join('alike', '{"chats": 4}');
	SELECT hr.account(5, 'one', '{"max_chats": 9, "nickname": "x"}'), hr.link(5, 'one', base => '{"maxChats": 4, "nickname": "x"}'), hr.join('one', '{"chats": 4}');
	SELECT hr.account(6, 'login', '{"login_name": "moved@x.example"}'), hr.link(6, 'login', base => '{"loginName": "login@x.example"}'), hr.join('login');
	SELECT hr.account(7, 'mail', '{"email": "MAIL@x.example"}'), hr.link(7, 'mail', base => '{"email": "mail@x.example"}'), hr.join('mail', '{"email": "new@x.example"}') $$;
SELECT three_ways();
SELECT defined(', drift => ''overwrite''');
SELECT action, source_key, attribute, old, new, reason FROM diff;
SELECT defined(', drift => ''report''');
SELECT action, source_key, attribute, old, new, reason FROM diff;
SELECT defined(', drift => ''accept''');
SELECT action, source_key, attribute, old, new, reason FROM diff;
SELECT hr.forget();

-- What is hidden is compared with what was last sent; nothing sent yet is taken as equal.
SELECT defined();
SELECT hr.account(1, 'a'), hr.link(1, 'a', hidden => '{"fullName": "Old Name", "employeeId": "a"}'), hr.join('a');
SELECT hr.account(2, 'b'), hr.link(2, 'b', hidden => '{}'), hr.join('b');
SELECT hr.account(3, 'c'), hr.link(3, 'c', hidden => '{"fullName": "Full c"}'), hr.join('c', '{"name": null}');
SELECT * FROM diff;
SELECT hr.forget();

-- Sets that are only added to.
SELECT defined(', add_only => ''{skill_ids}''');
SELECT hr.account(1, 'has', '{"skill_ids": [3001, 3002]}'), hr.link(1, 'has'), hr.join('has', '{"skill_ids": [3002]}');
SELECT hr.account(2, 'adds', '{"skill_ids": [3001]}'), hr.link(2, 'adds'), hr.join('adds', '{"skill_ids": [3003]}');
SELECT hr.account(3, 'takes', '{"skill_ids": [3001, 3002]}'), hr.link(3, 'takes', base => '{"skillIds": [3002]}'), hr.join('takes', '{"skill_ids": [3003]}');
SELECT hr.account(4, 'none', '{"skill_ids": [3001, 3002]}'), hr.link(4, 'none', base => '{"skillIds": [3002]}'), hr.join('none', '{"skill_ids": []}');
SELECT hr.account(5, 'past', '{"skill_ids": [3001]}'), hr.link(5, 'past', base => '{"skillIds": [3002]}'), hr.join('past', '{"skill_ids": []}');
SELECT hr.account(6, 'quiet', '{"skill_ids": [3001, 3002]}'), hr.link(6, 'quiet', base => '{"skillIds": [3002]}'), hr.join('quiet');
SELECT source_key, attribute, old, new FROM diff;
SELECT hr.forget();

-- What is only sent with a create is not compared, and not even read (unless it is volatile: PostgreSQL evaluates that in any case).
CREATE FUNCTION hr.costly() RETURNS text STABLE LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'read'; END $$;
CREATE VIEW hr.secretive AS SELECT key, login_name, full_name, employee_id, max_chats, nickname, email, is_enabled, profile_ids, hr.costly() AS password_sh, hr.costly() AS description
	FROM hr.people;
SELECT count(*) FROM lp_sync_define('secretive', '12345678', 'hr.secretive', 'key', create_only => '{nickname,description}');
SELECT hr.join('a', '{"nick": "other", "chats": 4}'), hr.account(1, 'a', '{"nickname": "nick"}'), hr.join('b');
SELECT action, source_key, attribute, new FROM lp_sync_diff('secretive', against => 'hr.acct');
SELECT hr.forget();

-- Names are compared as names where the relation has them, without regard to case; and found by the account else.
CREATE VIEW hr.named AS SELECT key, login_name, full_name, employee_id, nullif(nickname, '') AS nickname, email, is_enabled, max_chats, password_sh,
	string_to_array(description, ',') AS profiles, nickname AS agent_group FROM hr.people;
CREATE TABLE hr.named_acct (id bigint, login_name text, is_enabled boolean, nickname text, email text, max_chats int, profiles text[], agent_group text);
SELECT count(*) FROM lp_sync_define('named', '12345678', 'hr.named', 'key');
SELECT hr.join('a', '{"description": "Agent,Admin", "nick": "sales"}'), hr.join('b', '{"description": "Agent", "nick": ""}');
INSERT INTO hr.named_acct VALUES (1, 'a@x.example', true, 'sales', 'a@x.example', 3, '{admin,AGENT}', 'Sales'), (2, 'b@x.example', true, NULL, 'b@x.example', 3, '{Admin}', 'Sales');
SELECT action, source_key, attribute, old, new, reason FROM lp_sync_diff('named', against => 'hr.named_acct');
\! curl -sSf "$LPSIM_URL/_sim/count"; echo

-- It works where nothing can be written.
BEGIN READ ONLY;
SELECT action, source_key, attribute FROM lp_sync_diff('named', against => 'hr.named_acct');
COMMIT;
-- Nothing was stored, nothing sent.
SELECT count(*) FROM lp_requests;
SELECT count(*) FROM _lp_sync_plan;

DROP VIEW diff;
DROP FUNCTION defined(text), three_ways();
\i sql/include/finish.sql

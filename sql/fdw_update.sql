-- fdw_update: users who are updated: read again, merged, put back
\set with_tables on
\set with_people on
\i sql/include/start.sql
-- Two users with everything, also what this version does not know; and a view of what is compared.
SELECT lp.sim('users', jsonb_agg(person(name, '{"pid": "p", "employeeId": "E1", "description": "d", "mobileNumber": "1", "skillIds": [3001, 3002], "lobIds": [4001],
	"managerOf": [{"agentGroupId": 2002, "assignmentDate": "2026-01-01 00:00:00"}], "memberOf": {"agentGroupId": 2001, "assignmentDate": "2026-01-01 00:00:00"}, "isApiUser": false,
	"userTypeId": 1, "maxAsyncChats": 5, "changePwdNextLogin": false, "disabledManually": false, "shoeSize": 41.5, "badge": {"no": [1, 2]}, "note": ""}'))::text) FROM unnest('{ann,bob}'::text[]) name;
CREATE VIEW lp.seen AS SELECT login, u - '{id,pid,deleted,dateUpdated,lastPwdChangeDate,loginName,email}'::text[] AS u FROM lp.account;
-- what is set changes, null takes away, everything else stays
UPDATE lp.users SET nickname = 'Annie', max_chats = 7, description = NULL, mobile_number = '', skill_ids = '{3003}', lob_ids = NULL, manager_of = '{2003,2002}', full_name = 'Ann Full', employee_id = 'E2'
	WHERE login_name = 'ann@example.com';
SELECT lp.requests();
SELECT * FROM lp.seen;
SELECT operation, path, login_name, user_id - 4000000000 AS id, state, status, ac_revision IS NOT NULL AS revision FROM lp_requests ORDER BY id;
-- the same value again is an update, too; none is none
UPDATE lp.users SET nickname = nickname, full_name = 'Ann Full', employee_id = 'E2' WHERE id = 4000000001;
UPDATE lp.users SET nickname = 'x' WHERE login_name = 'nobody';
UPDATE lp.users SET nickname = 'x' WHERE id = 1;
SELECT lp.requests();
-- as jsonb, with what the account has added
ALTER FOREIGN TABLE lp.users ADD COLUMN assignments jsonb OPTIONS (attribute 'managerOf'), ADD COLUMN shoe_size numeric, ADD COLUMN badge jsonb;
UPDATE lp.users SET assignments = assignments || '[{"agentGroupId": -1}]', shoe_size = shoe_size + 1, badge = badge || '{"no": 3}', full_name = 'Bob', employee_id = NULL WHERE login_name ~ '^bob';
SELECT u->'managerOf', u->'shoeSize', u->'badge', u ? 'employeeId' FROM lp.seen WHERE login ~ '^bob';
-- disabledManually follows isEnabled, unless it is set
UPDATE lp.users SET is_enabled = false, full_name = 'Bob' WHERE login_name ~ '^bob';
SELECT u->'isEnabled', u->'disabledManually' FROM lp.seen WHERE login ~ '^bob';
UPDATE lp.users SET is_enabled = true, disabled_manually = true, full_name = 'Bob' WHERE login_name ~ '^bob';
SELECT u->'isEnabled', u->'disabledManually' FROM lp.seen WHERE login ~ '^bob';
-- a new login, a new password
UPDATE lp.users SET login_name = 'bobby@example.com', password_sh = 'Other-5678', full_name = 'Bob' WHERE login_name ~ '^bob';
SELECT login, u->>'passwordSh' FROM lp.seen;
UPDATE lp.users SET password_sh = NULL, full_name = 'Bob' WHERE login_name ~ '^bob';
SELECT login, u->>'passwordSh' FROM lp.seen;
UPDATE lp.users SET login_name = 'bob@example.com', full_name = 'Bob' WHERE login_name ~ '^bob';
SELECT lp.requests();
-- generated columns follow
CREATE FOREIGN TABLE lp.generated (id bigint, login_name text, full_name text, employee_id text, email text GENERATED ALWAYS AS (login_name) STORED) SERVER acme OPTIONS (resource 'users');
UPDATE lp.generated SET login_name = 'bobby@example.com', full_name = 'Bob' WHERE login_name ~ '^bob';
SELECT login, u->'email' FROM lp.account WHERE login ~ '^bob';
UPDATE lp.generated SET login_name = 'bob@example.com', full_name = 'Bob' WHERE login_name ~ '^bob';
SELECT lp.sim('log', method => 'DELETE');
-- RETURNING: what the account made of it; the request goes before the row comes
UPDATE lp.users SET is_enabled = false, full_name = 'Full', employee_id = 'E3', password_sh = 'Other-5678' WHERE login_name ~ '^(ann|bob)'
	RETURNING login_name, is_enabled, disabled_manually, full_name, employee_id, password_sh, entity->'isEnabled' AS entity,
	(SELECT string_agg(r, '; ') FROM lp.requests() r) AS sent;
-- the deleted are shown, and cannot be changed
SELECT status FROM lp_delete_users('12345678', '{4000000002}');
SELECT * FROM attempt($$UPDATE lp.users SET nickname = 'x', full_name = 'x' WHERE deleted$$);
SELECT lp.requests();

-- Attributes that the API answers blank: an UPDATE that would wipe them out is refused; the HINT has the statement that does not.
SELECT lp.sim('reset', method => 'POST');
SELECT lp.sim('users', jsonb_agg(person(name, more))::text) FROM (VALUES ('ann', '{"employeeId": "E1"}'::jsonb), ('bob', '{}'), ('cid', '{"employeeId": "E3"}')) v (name, more);
CREATE TABLE your_table (email text, full_name text, employee_id text);
INSERT INTO your_table VALUES ('ann@example.com', 'Ann Full', 'E1'), ('bob@example.com', 'Bob Full', NULL);
SELECT * FROM attempt($$UPDATE lp.users SET is_enabled = false, max_chats = 0, description = 'o''clock' WHERE login_name = 'bob@example.com'$$) \gx
SELECT * FROM attempt($$UPDATE lp.users SET is_enabled = false, max_chats = max_chats + 1, description = NULL, password_sh = 'Start-1234', full_name = 'x' WHERE login_name = 'ann@example.com'$$) \gx
SELECT * FROM attempt($$UPDATE lp.users SET is_enabled = false$$) \gx
SELECT substring(hint from 'UPDATE .*') AS statement FROM attempt($$UPDATE lp.users SET is_enabled = false$$) \gset
:statement ;
SELECT login, u->'isEnabled', u->'fullName', u->'employeeId' FROM lp.seen;
-- a table of one's own
CREATE FOREIGN TABLE lp."My Agents" (id bigint, "Login" text OPTIONS (attribute 'loginName'), is_enabled boolean, "Name" text OPTIONS (attribute 'fullName')) SERVER acme OPTIONS (resource 'users');
SELECT * FROM attempt($$UPDATE lp."My Agents" SET is_enabled = true WHERE "Login" ~ '^ann'$$) \gx
CREATE FOREIGN TABLE lp.bare (id bigint, is_enabled boolean) SERVER acme OPTIONS (resource 'users');
SELECT * FROM attempt($$UPDATE lp.bare SET is_enabled = true$$) \gx
SELECT substring(hint from 'ALTER [^)]*') AS alteration, substring(hint from 'UPDATE .*') AS statement FROM attempt($$UPDATE lp.bare SET is_enabled = true$$) \gset
:alteration ;
CREATE TABLE users_by_id AS SELECT id AS user_id, 'x' AS full_name, NULL::text AS employee_id FROM lp.users;
BEGIN;
ALTER TABLE your_table RENAME TO other;
ALTER TABLE users_by_id RENAME TO your_table;
:statement ;
ROLLBACK;
SELECT login, u->'isEnabled', u->'fullName', u->'employeeId' FROM lp.seen;
DROP TABLE users_by_id;

-- "Disable leavers"
SELECT lp.sim('log', method => 'DELETE');
CREATE TABLE leavers (email text, name text, personnel_number text);
INSERT INTO leavers SELECT login_name, full_name, 'P' || nickname FROM lp.staff('leaver', 1, 25);
INSERT INTO lp.people SELECT * FROM lp.staff('leaver', 1, 30);
ALTER SERVER acme OPTIONS (ADD batch_size '10');
UPDATE lp.users u SET is_enabled = false, full_name = e.name, employee_id = e.personnel_number FROM leavers e WHERE u.login_name = e.email AND u.is_enabled;
SELECT lp.requests();
SELECT u->'isEnabled' AS enabled, count(*), count(u->'employeeId') AS numbers, min(u->>'fullName') FROM lp.seen WHERE login ~ '^leaver' GROUP BY 1;
UPDATE lp.users u SET is_enabled = false, full_name = e.name, employee_id = e.personnel_number FROM leavers e WHERE u.login_name = e.email AND u.is_enabled;
SELECT lp.requests();
SELECT operation, state, count(*), count(DISTINCT batch), count(user_id), count(login_name) FROM lp_results WHERE login_name ~ '^leaver' GROUP BY 1, 2 ORDER BY 1;
-- a join that brings a row twice
UPDATE lp.users u SET nickname = 'twice', full_name = 'x', employee_id = NULL FROM (VALUES (1), (2)) v WHERE u.login_name ~ '^leaver1@';
SELECT lp.requests();
ALTER SERVER acme OPTIONS (DROP batch_size);
DROP TABLE leavers;

-- What cannot be set.
UPDATE lp.users SET id = 1; -- ERROR
UPDATE lp.users SET deleted = true; -- ERROR
UPDATE lp.users SET nickname = 'x', date_updated = now(); -- ERROR
UPDATE lp.users SET entity = '{}'; -- ERROR
UPDATE lp.skills SET name = 'x'; -- ERROR
UPDATE lp.people SET nickname = 'x'; -- ERROR
CREATE FOREIGN TABLE lp.small (id integer, nickname text) SERVER acme OPTIONS (resource 'users');
UPDATE lp.small SET nickname = 'x'; -- ERROR
DELETE FROM lp.small; -- ERROR
UPDATE lp.users SET profile_ids = '{}', skill_ids = '{1,NULL}', full_name = 'x' WHERE login_name ~ '^ann'; -- ERROR
UPDATE lp.users SET nickname = NULL, full_name = 'x', employee_id = 'x' WHERE login_name ~ '^(ann|bob)'; -- ERROR
UPDATE lp.users SET full_name = '', employee_id = 'x' WHERE login_name ~ '^ann'; -- ERROR
UPDATE lp.users SET login_name = 'same@example.com', full_name = 'x', employee_id = 'x' WHERE login_name ~ '^(ann|bob)'; -- ERROR
SELECT lp.sim('log', method => 'DELETE');
-- what an account has of its own is no reason to refuse
SELECT lp.sim('users', '[{"loginName": "odd@example.com", "email": "", "nickname": "", "isEnabled": "true", "maxChats": null, "profileIds": []}]');
UPDATE lp.users SET description = 'odd' WHERE login_name ~ '^odd';
SELECT u FROM lp.seen WHERE login ~ '^odd';

-- Another client changes another user, or adds one, between the reading of the statement and its writing; or the same user.
SELECT lp.requests();
UPDATE lp.users SET nickname = lp.poke('bob@example.com', '{"nickname": "other"}'), full_name = 'x', employee_id = 'x' WHERE login_name ~ '^ann';
SELECT lp.requests();
SELECT login, u->'nickname' FROM lp.seen WHERE login ~ '^(ann|bob)';
SELECT * FROM attempt($$UPDATE lp.users SET nickname = lp.poke('ann@example.com', '{"nickname": "other"}'), full_name = 'x', employee_id = 'x' WHERE login_name ~ '^ann'$$);
SELECT * FROM attempt($$UPDATE lp.users SET nickname = lp.poke('ann@example.com', '{"description": "new"}'), full_name = 'x', employee_id = 'x' WHERE login_name ~ '^ann'$$);
SELECT * FROM attempt($$UPDATE lp.users SET nickname = lp.poke('ann@example.com', '{"badge": "not in the table"}'), full_name = 'x', employee_id = 'x' WHERE login_name ~ '^ann'$$);
-- what no column shows is kept, whichever client changed it
UPDATE lp."My Agents" SET is_enabled = lp.poke('ann@example.com', '{"badge": "a badge"}') IS NULL, "Name" = 'x' WHERE "Login" ~ '^ann'; -- ERROR
ALTER FOREIGN TABLE lp."My Agents" ADD COLUMN employee_id text;
UPDATE lp."My Agents" SET is_enabled = lp.poke('ann@example.com', '{"badge": "a badge"}') IS NULL, "Name" = 'x', employee_id = NULL WHERE "Login" ~ '^ann';
SELECT u #- '{memberOf,assignmentDate}' FROM lp.seen WHERE login ~ '^ann';
-- one of several, after others were done
ALTER SERVER acme OPTIONS (ADD batch_size '2');
SELECT * FROM attempt($$UPDATE lp.users SET nickname = CASE login_name WHEN 'leaver3@example.com' THEN lp.poke(login_name, '{"maxChats": 9}') ELSE 'x' END, full_name = 'x', employee_id = 'x' WHERE login_name ~ '^leaver[1-4]@'$$);
ALTER SERVER acme OPTIONS (DROP batch_size);
SELECT lp.sim('log', method => 'DELETE');
-- refused because of the revision, with 412 or 409, again and again; or with 409 for another reason
CALL lp.fault('[{"method":"PUT","action":"status","status":412,"times":4}]');
DELETE FROM lp_requests;
UPDATE lp.users SET nickname = 'x', full_name = 'x', employee_id = 'x' WHERE login_name ~ '^bob';
SELECT lp.requests();
SELECT operation, login_name, state, status FROM lp_requests;
ALTER SERVER acme OPTIONS (ADD timeout '300ms');
CALL lp.fault('[{"method":"PUT","action":"status","status":412,"times":0}]');
SELECT * FROM attempt($$UPDATE lp.users SET nickname = 'x', full_name = 'x', employee_id = 'x' WHERE login_name ~ '^bob'$$);
ALTER SERVER acme OPTIONS (DROP timeout);
SELECT lp.sim('faults', method => 'DELETE');
SELECT count(*) FILTER (WHERE requests ~ '^PUT.*412') > 1 AS tried_again FROM lp.requests() requests;
SELECT * FROM attempt($$UPDATE lp.users SET login_name = 'ann@example.com', full_name = 'x', employee_id = 'x' WHERE login_name ~ '^bob'$$);
SELECT lp.requests();
-- If-Match is the revision of the reading, from whichever header; without one it is refused unless an option says otherwise
UPDATE lp.users SET nickname = 'x', full_name = 'x', employee_id = 'x' WHERE login_name ~ '^bob';
SELECT e->>'if_match' = (lp.sim('revision')::int - 1)::text AS current FROM jsonb_array_elements(lp.sim('log')::jsonb) e WHERE e->>'method' = 'PUT';
CALL lp.config('{"revision_header": "ETag"}');
SELECT lp.sim('log', method => 'DELETE');
UPDATE lp.users SET nickname = 'x', full_name = 'x', employee_id = 'x' WHERE login_name ~ '^bob';
SELECT e->>'if_match' = (lp.sim('revision')::int - 1)::text AS current FROM jsonb_array_elements(lp.sim('log')::jsonb) e WHERE e->>'method' = 'PUT';
CALL lp.config('{"revision_header": "none"}');
SELECT * FROM attempt($$UPDATE lp.users SET nickname = 'x', full_name = 'x', employee_id = 'x' WHERE login_name ~ '^bob'$$);
SELECT * FROM attempt($$DELETE FROM lp.users WHERE login_name ~ '^bob'$$);
ALTER SERVER acme OPTIONS (ADD if_match 'off');
SELECT lp.sim('log', method => 'DELETE');
UPDATE lp.users SET nickname = 'x', full_name = 'x', employee_id = 'x' WHERE login_name ~ '^bob';
SELECT e->>'if_match' FROM jsonb_array_elements(lp.sim('log')::jsonb) e WHERE e->>'method' = 'PUT';
CALL lp.config('{"revision_header": "ac-revision"}');
-- what is compared is meaning: the list has spelled differently what a GET by id shows now
SELECT lp.poke('bob@example.com', '{"skillIds": [3001, 3002]}');
CREATE FUNCTION lp.spelled(who text, more jsonb) RETURNS text LANGUAGE sql AS $$
	SELECT lp.sim('faults', method => 'DELETE');
	SELECT 'x'::text FROM (SELECT lp.sim('faults', jsonb_build_object('method', 'GET', 'path', '/users/', 'action', 'body', 'times', 0,
		'body', ((lp.sim('user?login=' || who)::jsonb - '{passwordSh,allowedAppKeys}'::text[]) || more)::text)::text)) f $$;
SELECT more, attempt(format($$UPDATE lp.users SET nickname = lp.spelled(login_name, %L), full_name = 'x', employee_id = 'x' WHERE login_name ~ '^bob'$$, more))
	FROM unnest('{"{\"skillIds\": [3002, 3001]}","{\"description\": \"\"}","{\"description\": \"new\"}","{\"managerOf\": null}","{\"fullName\": \"shown\"}","{\"maxChats\": \"3\"}","{\"lobIds\": []}"}'::jsonb[]) more;
SELECT lp.sim('faults', method => 'DELETE');
ALTER SERVER acme OPTIONS (DROP if_match);
-- quoted numbers and booleans are no change
CALL lp.config('{"quoted": true}');
UPDATE lp.users SET nickname = 'quoted', full_name = 'x', employee_id = 'x' WHERE login_name ~ '^bob';
CALL lp.config('{"quoted": false}');
SELECT u #- '{memberOf,assignmentDate}' FROM lp.seen WHERE login ~ '^bob';
-- more than 24 of a batch are read by one listing
ALTER SERVER acme OPTIONS (ADD batch_size '1000');
INSERT INTO lp.people SELECT * FROM lp.staff('crowd', 1, 300);
SELECT lp.sim('log', method => 'DELETE');
SET lpusers.max_changes = 0;
UPDATE lp.users SET nickname = 'crowd', full_name = 'x' WHERE login_name ~ '^crowd';
SELECT lp.requests();
SELECT count(*) FROM lp.account WHERE u->>'nickname' = 'crowd';
DELETE FROM lp.users WHERE login_name ~ '^crowd';
RESET lpusers.max_changes;
ALTER SERVER acme OPTIONS (DROP batch_size);
-- gone meanwhile
SELECT lp.sim('log', method => 'DELETE');
CREATE FUNCTION lp.remove(id bigint) RETURNS text LANGUAGE sql AS $$ SELECT status::text FROM lp_delete_users('12345678', ARRAY[id]) $$;
SELECT * FROM attempt($$UPDATE lp.users SET nickname = lp.remove(id), full_name = 'x', employee_id = 'x' WHERE login_name ~ '^leaver5@'$$);
SELECT lp.requests();

-- Refused: which one, how many are done. All or nothing, and an account that carries out the others.
CREATE FUNCTION lp.change(pattern text, guilty text, what text) RETURNS TABLE (what_ text, line text) LANGUAGE plpgsql AS $$
DECLARE
	failure record;
BEGIN
	UPDATE lp.users SET nickname = 'before', full_name = 'before', employee_id = NULL WHERE login_name ~ pattern;
	PERFORM lp.requests();
	SELECT * INTO failure FROM attempt(format('UPDATE lp.users SET full_name = ''after'', employee_id = NULL, password_sh = CASE login_name WHEN %L THEN ''short'' END, %s WHERE login_name ~ %L', guilty, what, pattern));
	RETURN QUERY SELECT unnest('{state,message,detail,hint}'::text[]), unnest(ARRAY[failure.state, failure.message, failure.detail, failure.hint]);
	RETURN QUERY SELECT 'request', r FROM lp.requests() r;
	RETURN QUERY SELECT 'account', string_agg(substring(login from '\d+') || ' ' || (u->>'nickname') || '/' || (u->>'fullName'), ', ' ORDER BY login) FROM lp.seen WHERE login ~ pattern;
END $$;
\pset tuples_only on
SELECT * FROM lp.change('^leaver1\d@', 'leaver13@example.com', 'nickname = ''after''');
SELECT * FROM lp.change('^leaver1\d@', 'leaver10@example.com', 'nickname = ''after''');
SELECT * FROM lp.change('^leaver1[0-3]@', 'leaver13@example.com', 'nickname = nickname');
CALL lp.config('{"bulk": "partial"}');
SELECT * FROM lp.change('^leaver1\d@', 'leaver13@example.com', 'nickname = ''after''');
SELECT * FROM lp.change('^leaver1\d@', 'leaver10@example.com', 'nickname = ''after''');
SELECT * FROM lp.change('^leaver1[0-3]@', 'leaver13@example.com', 'nickname = nickname');
CALL lp.config('{"bulk": "all_or_nothing"}');
\pset tuples_only off
-- what a service answers and does not take back: nulls in arrays of ids, 3.0 for a whole number
SELECT lp.sim('users', jsonb_build_array(person('spelt', '{"employeeId": "1", "skillIds": [3001, null], "maxChats": 3.0, "isEnabled": "True"}'))::text);
UPDATE lp.users SET nickname = 'oddly', full_name = 'O', employee_id = '1' WHERE login_name ~ '^spelt';
SELECT u->'nickname', u->'skillIds', u->'maxChats', u->'isEnabled' FROM lp.account WHERE login ~ '^spelt';
-- 0 is a permission group
SELECT lp.sim('users', jsonb_build_array(person('admin', '{"employeeId": "1", "permissionGroups": [0]}'))::text);
UPDATE lp.users SET is_enabled = false, full_name = 'A', employee_id = '1' WHERE login_name ~ '^admin';
SELECT r.status, r.error FROM lp.users u, LATERAL lp_update_users('12345678', u.entity || '{"fullName": "A", "employeeId": "1", "nickname": "zero"}') r WHERE u.login_name ~ '^admin';
SELECT u->'isEnabled', u->'nickname', u->'permissionGroups' FROM lp.account WHERE login ~ '^admin';
-- no answer, or one that says nothing
CALL lp.fault('[{"method":"PUT","action":"status","status":500,"applied":true},{"method":"PUT","action":"reset","applied":true},{"method":"PUT","action":"retry_after","value":"3600"},{"method":"GET","path":"/users/","action":"status","status":500}]');
SELECT * FROM attempt($$UPDATE lp.users SET nickname = 'a', full_name = 'x', employee_id = 'x' WHERE login_name ~ '^bob'$$);
SELECT * FROM attempt($$UPDATE lp.users SET nickname = 'b', full_name = 'x', employee_id = 'x' WHERE login_name ~ '^bob'$$);
SELECT * FROM attempt($$UPDATE lp.users SET nickname = 'c', full_name = 'x', employee_id = 'x' WHERE login_name ~ '^bob'$$);
SELECT * FROM attempt($$UPDATE lp.users SET nickname = 'd', full_name = 'x', employee_id = 'x' WHERE login_name ~ '^bob'$$);
SELECT u->'nickname' FROM lp.seen WHERE login ~ '^bob';
DROP TABLE your_table;
\i sql/include/finish.sql

-- sync_define: what a sync may be, and what each column means
\set with_sync on
\i sql/include/start.sql
SELECT * FROM lp_sync_define('staff', '12345678', 'hr.people', 'key');
SELECT sync, account, server, owner = current_user AS owner, source, key, state, linked FROM lp_syncs;

-- names, and columns that are only sent with a create or only added to
CREATE VIEW hr.names AS SELECT key AS emp_no, login AS login_name, name AS full_name, key AS employee_id, ARRAY[nick] AS profiles, nick AS agent_group,
	ARRAY[nick] AS skills, ARRAY[nick] AS lobs, ARRAY[nick] AS manager_of_groups, nick AS nickname, true AS change_pwd_next_login, 1 AS user_type_id
	FROM hr.staff;
SELECT * FROM lp_sync_define('names', '12345678', 'hr.names', 'emp_no', create_only => '{nickname}', add_only => '{skills,lobs}');

-- any type of numbers
CREATE VIEW hr.numbers AS SELECT key, login AS login_name, name AS full_name, key AS employee_id, 3::oid AS max_chats, '{1,2}'::oid[] AS profile_ids FROM hr.staff;
CREATE DOMAIN hr.number AS oid;
CREATE TABLE hr.numbered (id bigint, login_name text, is_enabled boolean, max_chats hr.number, profile_ids oid[]);
SELECT count(*) FROM lp_sync_define('numbers', '12345678', 'hr.numbers', 'key');
SELECT count(*) FROM lp_sync_diff('numbers', against => 'hr.numbered');
SELECT lp_sync_drop('numbers');

-- the key may be an attribute as well
CREATE VIEW hr.short AS SELECT key AS employee_id, login AS login_name, name AS full_name FROM hr.staff;
SELECT * FROM lp_sync_define('short', '12345678', 'hr.short', 'employee_id');

-- a definition is replaced as a whole; account and key stay
SELECT count(*) FROM lp_sync_define('staff', '12345678', 'hr.people', 'key', leavers => 'report', delete_after => '90 days', drift => 'accept',
	limits => '{"update": "2.5%", "create": null, "delete": 3}');
SELECT leavers, delete_after, drift, limits FROM _lp_sync WHERE name = 'staff';
SELECT * FROM attempt($$SELECT lp_sync_define('staff', '12345678', 'hr.people', 'login_name')$$); -- ERROR

-- what is no definition
CREATE FUNCTION wrong(columns text, more text DEFAULT '') RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	r record;
BEGIN
	EXECUTE 'CREATE VIEW hr.wrong AS SELECT ' || columns || ' FROM hr.staff';
	SELECT * INTO r FROM attempt($q$SELECT lp_sync_define('wrong', '12345678', 'hr.wrong', 'key'$q$ || more || ')');
	DROP VIEW hr.wrong;
	RETURN NEXT concat_ws(' | ', r.state, r.message, r.detail, r.hint);
END $$;
\set good 'key, login AS login_name, name AS full_name, key AS employee_id'
SELECT wrong(:'good' || ', 1 AS max_chat'); -- ERROR
SELECT wrong(:'good' || ', 1 AS something'); -- ERROR
SELECT wrong(:'good' || ', true AS "isEnabled"'); -- ERROR
SELECT wrong(:'good' || ', now() AS date_updated'); -- ERROR
SELECT wrong(:'good' || ', 1 AS is_enabled'); -- ERROR
SELECT wrong(:'good' || ', ''3''::text AS max_chats'); -- ERROR
SELECT wrong(:'good' || ', 1 AS profile_ids'); -- ERROR
SELECT wrong(:'good' || ', 1 AS profiles'); -- ERROR
SELECT wrong(:'good' || ', ARRAY[1] AS member_of'); -- ERROR
SELECT wrong(:'good' || ', true AS nickname'); -- ERROR
SELECT wrong(:'good' || ', ''{a}''::text[] AS profiles, ''{1}''::bigint[] AS profile_ids'); -- ERROR
SELECT wrong('key, name AS full_name, key AS employee_id'); -- ERROR
SELECT wrong('key, login AS login_name, name AS full_name'); -- ERROR
SELECT wrong('key, login AS login_name, key AS employee_id'); -- ERROR
SELECT wrong('login AS login_name, name AS full_name, key AS employee_id'); -- ERROR
SELECT wrong(:'good', $$, create_only => '{nicknam}'$$); -- ERROR
SELECT wrong(:'good', $$, create_only => '{full_name}'$$); -- ERROR
SELECT wrong(:'good', $$, create_only => '{employee_id}'$$); -- ERROR
SELECT wrong(:'good', $$, add_only => '{max_chats}'$$);
SELECT wrong(:'good' || ', 1 AS max_chats', $$, add_only => '{max_chats}'$$); -- ERROR
SELECT wrong(:'good' || ', ''{1}''::int[] AS skill_ids', $$, add_only => '{skill_ids}', create_only => '{skill_ids}'$$); -- ERROR
SELECT wrong(:'good', $$, leavers => 'dissable'$$); -- ERROR
SELECT wrong(:'good', $$, drift => NULL$$); -- ERROR
SELECT wrong(:'good', $$, delete_after => '-1 day'$$); -- ERROR
SELECT wrong(:'good', $$, delete_after => '-1 day 23:59'$$); -- ERROR
SELECT wrong(:'good', $$, delete_after => '1 mon -29 days'$$);
SELECT wrong(:'good', $$, delete_after => '1000 years'$$);
SELECT wrong(:'good', $$, delete_after => '1000 years 1 second'$$); -- ERROR
SELECT wrong(:'good', $$, delete_after => '178000000 years'$$); -- ERROR
SELECT wrong(:'good', $$, delete_after => '178000000 years -2000000000 days'$$); -- ERROR
SELECT wrong(:'good', $$, limits => '{"disable": 2.0, "update": 1.50e1, "rename": "2.50%"}'$$);
SELECT wrong(:'good', $$, limits => '[]'$$); -- ERROR
SELECT wrong(:'good', $$, limits => '{"updat": 1}'$$); -- ERROR
SELECT wrong(:'good', $$, limits => '{"update": "10"}'$$); -- ERROR
SELECT wrong(:'good', $$, limits => '{"update": -1}'$$); -- ERROR
SELECT wrong(:'good', $$, limits => '{"update": 1.5}'$$); -- ERROR
SELECT * FROM attempt($$SELECT lp_sync_define('', '12345678', 'hr.people', 'key')$$); -- ERROR
SELECT * FROM attempt($$SELECT lp_sync_define(NULL, '12345678', 'hr.people', 'key')$$); -- ERROR
SELECT * FROM attempt($$SELECT lp_sync_define('x', '99', 'hr.people', 'key')$$); -- ERROR
SELECT * FROM attempt($$SELECT lp_sync_define('x', '12345678', 'hr.nothing', 'key')$$); -- ERROR
-- a regclass may be any number
SELECT attempt($$SELECT lp_sync_define('x', '12345678', 999999::regclass, 'key')$$); -- ERROR
SELECT attempt($$SELECT lp_sync_define('x', '12345678', 0::regclass, 'key')$$); -- ERROR
SELECT attempt($$SELECT lp_sync_diff('staff', against => 999999::regclass)$$); -- ERROR
SELECT attempt($$SELECT lp_sync_diff('staff', against => 0::regclass)$$); -- ERROR
SELECT attempt($$SELECT lp_sync_watch(999999::regclass, 'staff', 'key')$$); -- ERROR
SELECT attempt($$SELECT lp_sync_unwatch(999999::regclass)$$); -- ERROR
SELECT attempt($$SELECT lp_sync_unwatch(0::regclass)$$); -- ERROR
SELECT attempt($$SELECT lp_attach_trigger(999999::regclass, '12345678', '{"loginName": "login"}')$$); -- ERROR
SELECT attempt($$SELECT lp_detach_trigger(999999::regclass)$$); -- ERROR
SELECT attempt($$SELECT lp_enqueue_rows(999999::regclass)$$); -- ERROR
BEGIN READ ONLY;
SELECT lp_sync_define('x', '12345678', 'hr.people', 'key'); -- ERROR
ROLLBACK;

-- rights: EXECUTE, SELECT on the source, USAGE and a mapping; and membership of the owner's role to replace it
CREATE ROLE regress_hr;
CREATE ROLE regress_clerk;
GRANT USAGE ON SCHEMA hr TO regress_hr, regress_clerk;
SET ROLE regress_hr;
SELECT lp_sync_define('theirs', '12345678', 'hr.people', 'key'); -- ERROR
RESET ROLE;
GRANT EXECUTE ON FUNCTION lp_sync_define, lp_sync_diff TO regress_hr, regress_clerk;
SET ROLE regress_hr;
SELECT lp_sync_define('theirs', '12345678', 'hr.people', 'key'); -- ERROR
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER acme TO regress_hr, regress_clerk;
CREATE USER MAPPING FOR regress_hr SERVER acme OPTIONS (token 'lp-token');
CREATE USER MAPPING FOR regress_clerk SERVER acme OPTIONS (token 'lp-token');
SET ROLE regress_hr;
SELECT lp_sync_define('theirs', '12345678', 'hr.people', 'key'); -- ERROR
RESET ROLE;
GRANT SELECT ON hr.people, hr.acct TO regress_hr, regress_clerk;
SET ROLE regress_hr;
SELECT count(*) FROM lp_sync_define('theirs', '12345678', 'hr.people', 'key');
SELECT sync, owner FROM lp_syncs;
SET ROLE regress_clerk;
SELECT sync, owner FROM lp_syncs;
SELECT lp_sync_define('theirs', '12345678', 'hr.people', 'key'); -- ERROR
-- (the name of the superuser differs)
\set VERBOSITY terse
SELECT lp_sync_define('staff', '12345678', 'hr.people', 'key'); -- ERROR
\set VERBOSITY default
SELECT lp_sync_diff('theirs', against => 'hr.acct'); -- ERROR
SELECT lp_sync_diff('nothing', against => 'hr.acct'); -- ERROR
RESET ROLE;
-- a superuser may, and does not become the owner
SELECT count(*) FROM lp_sync_define('theirs', '12345678', 'hr.people', 'key', leavers => 'report');
SELECT owner FROM lp_syncs WHERE sync = 'theirs';
GRANT regress_hr TO regress_clerk;
SET ROLE regress_clerk;
SELECT sync, owner FROM lp_syncs;
SELECT count(*) FROM lp_sync_diff('theirs', against => 'hr.acct');
-- what stands for the account is read as the caller, who must have the right to; the sync's owner needs none
CREATE TEMP TABLE mine AS SELECT * FROM hr.acct;
SELECT count(*) FROM lp_sync_diff('theirs', against => 'mine');
SELECT has_table_privilege('regress_hr', 'mine', 'SELECT') AS owner_reads;
RESET ROLE;
CREATE TABLE hr.closed AS SELECT * FROM hr.acct;
GRANT SELECT (id, login_name, is_enabled) ON hr.closed TO regress_clerk;
SET ROLE regress_clerk;
SELECT lp_sync_diff('theirs', against => 'hr.closed'); -- ERROR
RESET ROLE;
-- the owner of the server sees it, too
CREATE ROLE regress_server;
ALTER SERVER acme OWNER TO regress_server;
SET ROLE regress_server;
SELECT sync, owner = 'regress_hr' AS theirs FROM lp_syncs ORDER BY sync;
RESET ROLE;
ALTER SERVER acme OWNER TO CURRENT_USER;
-- the source is read as the sync's owner, even if a superuser asks
CREATE FUNCTION hr.spy() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'read as %', current_user; RETURN 'x@x.example'; END $$;
CREATE VIEW hr.spies AS SELECT 'k'::text AS key, hr.spy() AS login_name, 'n'::text AS full_name, 'e'::text AS employee_id;
GRANT SELECT ON hr.spies TO regress_hr;
SELECT count(*) FROM lp_sync_define('theirs', '12345678', 'hr.spies', 'key');
SELECT action, login_name FROM lp_sync_diff('theirs', against => 'hr.acct') LIMIT 1;

-- a source that changed, or is gone
SELECT count(*) FROM lp_sync_define('staff', '12345678', 'hr.people', 'key');
ALTER VIEW hr.people RENAME COLUMN key TO emp_no;
SELECT lp_sync_diff('staff', against => 'hr.acct'); -- ERROR
ALTER VIEW hr.people RENAME COLUMN emp_no TO key;
ALTER VIEW hr.people RENAME COLUMN max_chats TO max_chat;
SELECT lp_sync_diff('staff', against => 'hr.acct'); -- ERROR
ALTER VIEW hr.people RENAME COLUMN max_chat TO max_chats;
ALTER VIEW hr.people RENAME TO folk;
SELECT count(*) FROM lp_sync_diff('staff', against => 'hr.acct');
DROP VIEW hr.folk;
SELECT lp_sync_diff('staff', against => 'hr.acct'); -- ERROR
SELECT source, state FROM lp_syncs WHERE sync = 'staff';
-- a relation in place of the account must have the attributes
SELECT count(*) FROM lp_sync_define('short', '12345678', 'hr.short', 'employee_id');
SELECT lp_sync_diff('short', against => 'hr.staff'); -- ERROR
CREATE TABLE hr.odd (id bigint, login_name text, is_enabled text);
SELECT lp_sync_diff('short', against => 'hr.odd'); -- ERROR

DROP FUNCTION wrong(text, text);
DROP OWNED BY regress_hr, regress_clerk, regress_server;
\i sql/include/finish.sql
DROP ROLE regress_hr, regress_clerk, regress_server;

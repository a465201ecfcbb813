-- trigger_rights: users are held while a role outside the table's owner could make a trigger that uses its credentials
\set with_queue on
\i sql/include/start.sql
CREATE ROLE regress_hr;
CREATE ROLE regress_member IN ROLE regress_hr;
CREATE ROLE regress_set NOINHERIT IN ROLE regress_hr;
CREATE ROLE regress_clerk;
CREATE ROLE regress_creators;
CREATE ROLE regress_executors;
CREATE ROLE regress_super SUPERUSER;
CREATE SCHEMA hr AUTHORIZATION regress_hr;
GRANT USAGE ON SCHEMA hr TO PUBLIC;
GRANT USAGE ON FOREIGN SERVER acme TO regress_hr;
CREATE USER MAPPING FOR regress_hr SERVER acme OPTIONS (token 'lp-token');
GRANT EXECUTE ON FUNCTION lp_create_users_trigger() TO regress_hr;
CREATE FUNCTION base() RETURNS jsonb LANGUAGE sql AS $$
	SELECT '{"loginName": "id || ''@example.com''", "fullName": "''F''", "nickname": "''N''", "email": "id || ''@example.com''", "passwordSh": "''Start-1234''", "isEnabled": true,
		"maxChats": 3, "profileIds": "ARRAY[1002]", "memberOf": 2001}'::jsonb $$;
SET ROLE regress_hr;
CREATE TABLE hr.notes (id serial PRIMARY KEY);
GRANT INSERT, SELECT ON hr.notes TO regress_clerk;
GRANT USAGE ON SEQUENCE hr.notes_id_seq TO regress_clerk;

-- The owner attaches, or a member of it; TRIGGER alone is not enough.
GRANT TRIGGER ON hr.notes TO regress_clerk;
SET ROLE regress_clerk;
SELECT lp_attach_trigger('hr.notes', '12345678', base()); -- ERROR
RESET ROLE;
GRANT EXECUTE ON FUNCTION lp_create_users_trigger() TO regress_clerk;
SET ROLE regress_clerk;
SELECT lp_attach_trigger('hr.notes', '12345678', base()); -- ERROR
SET ROLE regress_member;
SELECT count(*) FROM lp_attach_trigger('hr.notes', '12345678', base());
SELECT count(*) FROM lp_detach_trigger('hr.notes');

-- By hand the clerk can make one: what it does is held, and so is what the owner's does.
SET ROLE regress_clerk;
SELECT hook('hr.notes', 'STATEMENT', '{"loginName": "''evil''", "email": "''evil''", "fullName": "''E''", "nickname": "''E''"}');
INSERT INTO hr.notes DEFAULT VALUES;
SELECT login_name, state, reason, send_as, requested_by FROM lp_results;
RESET ROLE;
DROP TRIGGER hook ON hr.notes;
SELECT forget();
SET ROLE regress_hr;
SELECT count(*) FROM lp_attach_trigger('hr.notes', '12345678', base());
INSERT INTO hr.notes DEFAULT VALUES;
-- until one of the two rights is gone
REVOKE TRIGGER ON hr.notes FROM regress_clerk;
INSERT INTO hr.notes DEFAULT VALUES;
GRANT ALL ON hr.notes TO regress_clerk;
INSERT INTO hr.notes DEFAULT VALUES;
RESET ROLE;
REVOKE EXECUTE ON FUNCTION lp_create_users_trigger() FROM regress_clerk;
INSERT INTO hr.notes DEFAULT VALUES;
SELECT login_name, state, reason FROM lp_requests ORDER BY id;
SELECT forget();

-- Each way to have the two rights; "held" is the reason, NULL: nothing is held.
CREATE FUNCTION held(command text, OUT held text, OUT again text) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE command;
	INSERT INTO hr.notes DEFAULT VALUES;
	SELECT reason INTO held FROM lp_requests ORDER BY id DESC LIMIT 1;
	PERFORM forget();
	RAISE EXCEPTION USING ERRCODE = 'P0099';
EXCEPTION WHEN SQLSTATE 'P0099' THEN
	-- taken back, the answer is taken back too
	INSERT INTO hr.notes DEFAULT VALUES;
	SELECT reason INTO again FROM lp_requests ORDER BY id DESC LIMIT 1;
	PERFORM forget();
END $$;
REVOKE ALL ON hr.notes FROM regress_clerk;
SET client_min_messages = error;
SELECT n, h.* FROM (VALUES
	(1, 'SELECT'),
	(2, 'GRANT TRIGGER ON hr.notes TO regress_clerk'),
	(3, 'GRANT EXECUTE ON FUNCTION lp_create_users_trigger() TO regress_clerk'),
	(4, 'GRANT TRIGGER ON hr.notes TO regress_clerk; GRANT EXECUTE ON FUNCTION lp_create_users_trigger() TO regress_clerk'),
	(5, 'GRANT TRIGGER ON hr.notes TO PUBLIC'),
	(6, 'GRANT TRIGGER ON hr.notes TO PUBLIC; GRANT EXECUTE ON FUNCTION lp_create_users_trigger() TO regress_clerk'),
	(7, 'GRANT TRIGGER ON hr.notes TO regress_clerk; GRANT EXECUTE ON FUNCTION lp_create_users_trigger() TO PUBLIC'),
	(8, 'GRANT TRIGGER ON hr.notes TO PUBLIC; GRANT EXECUTE ON FUNCTION lp_create_users_trigger() TO PUBLIC'),
	(9, 'GRANT EXECUTE ON FUNCTION lp_create_users_trigger() TO PUBLIC'),
	(10, 'GRANT TRIGGER ON hr.notes TO regress_creators; GRANT EXECUTE ON FUNCTION lp_create_users_trigger() TO regress_executors'),
	(11, 'GRANT TRIGGER ON hr.notes TO regress_creators; GRANT EXECUTE ON FUNCTION lp_create_users_trigger() TO regress_executors; GRANT regress_creators TO regress_executors'),
	(12, 'GRANT TRIGGER ON hr.notes TO regress_creators; GRANT EXECUTE ON FUNCTION lp_create_users_trigger() TO regress_executors; GRANT regress_executors TO regress_creators'),
	(13, 'GRANT TRIGGER ON hr.notes TO regress_creators; GRANT EXECUTE ON FUNCTION lp_create_users_trigger() TO regress_executors; GRANT regress_executors, regress_creators TO regress_clerk'),
	(14, 'GRANT TRIGGER ON hr.notes TO regress_member, regress_set, regress_super, regress_hr; GRANT EXECUTE ON FUNCTION lp_create_users_trigger() TO PUBLIC'),
	(15, 'GRANT TRIGGER ON hr.notes TO regress_clerk; GRANT EXECUTE ON FUNCTION lp_create_users_trigger() TO regress_clerk; GRANT regress_hr TO regress_clerk'),
	(16, 'GRANT TRIGGER ON hr.notes TO regress_clerk; GRANT EXECUTE ON FUNCTION lp_create_users_trigger() TO regress_clerk; ALTER ROLE regress_clerk SUPERUSER'),
	(17, 'GRANT TRIGGER ON hr.notes TO regress_clerk; GRANT EXECUTE ON FUNCTION lp_create_users_trigger() TO regress_clerk; ALTER TABLE hr.notes OWNER TO regress_clerk'),
	(18, 'ALTER TABLE hr.notes OWNER TO regress_super; GRANT TRIGGER ON hr.notes TO regress_hr')) v (n, command), LATERAL held(command) h ORDER BY n;
RESET client_min_messages;
-- mode=sync has nothing to hold; it refuses
GRANT TRIGGER ON hr.notes TO "regress_creators";
GRANT EXECUTE ON FUNCTION lp_create_users_trigger() TO regress_executors;
GRANT regress_executors TO regress_creators;
SELECT count(*) FROM lp_detach_trigger('hr.notes');
SELECT count(*) FROM lp_attach_trigger('hr.notes', '12345678', base(), mode => 'sync');
INSERT INTO hr.notes DEFAULT VALUES; -- ERROR
SELECT count(*) FROM lp_requests;
-- the copy of a trigger in a partition: the rights on the table that it was made on count
CREATE TABLE hr.parted (id integer) PARTITION BY LIST (id);
CREATE TABLE hr.part PARTITION OF hr.parted DEFAULT;
GRANT TRIGGER ON hr.part TO regress_creators;
SELECT hook('hr.parted', 'ROW', '{"loginName": "id", "email": "''e''", "fullName": "''F''", "nickname": "''N''"}');
INSERT INTO hr.part VALUES (1), (2);
GRANT TRIGGER ON hr.parted TO regress_creators;
INSERT INTO hr.part VALUES (3), (4);
SELECT login_name, state, reason FROM lp_requests ORDER BY id;

SET client_min_messages = warning;
DROP SCHEMA hr CASCADE;
RESET client_min_messages;
DROP USER MAPPING FOR regress_hr SERVER acme;
REVOKE ALL ON FOREIGN SERVER acme FROM regress_hr;
REVOKE ALL ON FUNCTION lp_create_users_trigger() FROM regress_hr, regress_clerk, regress_executors;
DROP FUNCTION base(), held(text);
DROP ROLE regress_hr, regress_member, regress_set, regress_clerk, regress_creators, regress_executors, regress_super;
\i sql/include/finish.sql

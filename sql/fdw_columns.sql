-- fdw_columns: which attribute a column shows: any of them, in any order, with any type; also unknown ones
\set with_tables on
\i sql/include/start.sql
CALL lp.tell('users', jsonb_build_array(person('ann', '{"id": 4000000001, "deleted": false, "employeeId": "4711", "dateCreated": "2026-01-05 09:00:00", "seats": 2, "resetMfaSecret": null,
	"skills": [{"id": 3001, "level": "high"}], "Größe": "klein"}'), person('bob', '{"id": 4000000002, "deleted": true}'))::text);
SELECT lp.asked() \g /dev/null

-- each column that is imported, of each table
DO $$
DECLARE
	r record;
	shown text;
BEGIN
	FOR r IN SELECT attrelid::regclass AS "table", string_agg(attname, ', ' ORDER BY attname) AS columns, count(*) FROM pg_attribute
		WHERE attrelid IN (SELECT ftrelid FROM pg_foreign_table) AND attnum > 0 GROUP BY 1 ORDER BY 1 LOOP
		EXECUTE format('SELECT x::text FROM (SELECT %s FROM %s ORDER BY id LIMIT 1) x', r.columns, r."table") INTO shown;
		RAISE INFO '% has % columns, by name: %', r."table", r.count, shown;
	END LOOP;
END $$;
SELECT lp.asked();

-- a subset, in another order, with other types and names; the name of a column says what it shows, unless the option does
CREATE FOREIGN TABLE agents (
	nickname varchar(20), login text OPTIONS (attribute 'loginName'), "isEnabled" boolean, max_chats smallint, email_again text OPTIONS (attribute 'email'),
	email text, id numeric, gone text, full_name text DEFAULT 'nobody', profile_ids integer[]) SERVER acme OPTIONS (resource 'users');
SELECT * FROM agents;
SELECT max_chats, login FROM agents;
ALTER FOREIGN TABLE agents DROP COLUMN gone, DROP COLUMN nickname, ADD COLUMN user_type_id text, ALTER COLUMN max_chats TYPE text;
ALTER FOREIGN TABLE agents RENAME COLUMN email TO description;
SELECT * FROM agents;
ALTER FOREIGN TABLE agents ALTER COLUMN description OPTIONS (ADD attribute 'pid'), ALTER COLUMN login OPTIONS (SET attribute 'nickname');
SELECT * FROM agents;
ALTER FOREIGN TABLE agents ALTER COLUMN login OPTIONS (DROP attribute);
SELECT login FROM agents;
SELECT lp.asked();
DROP FOREIGN TABLE agents;

-- the whole entity, as it was sent
CREATE FOREIGN TABLE whole (j json OPTIONS (attribute '*'), b jsonb OPTIONS (attribute '*'), t text OPTIONS (attribute '*'), nickname text) SERVER acme OPTIONS (resource 'users');
SELECT j->>'employeeId' AS hidden, b->'skills'->0->>'level' AS level, t::jsonb = b AS same, j::text = t AS same_text, b ? 'passwordSh' AS password, nickname FROM whole;
SELECT nickname FROM whole;
ALTER FOREIGN TABLE whole ALTER COLUMN b TYPE integer;
\set SHOW_CONTEXT errors
SELECT length(b::text) > 0 FROM whole; -- ERROR
\set SHOW_CONTEXT never
SELECT lp.asked();
DROP FOREIGN TABLE whole;

-- attributes that this version does not know
CREATE FOREIGN TABLE newer (date_created timestamp, seats integer, skills jsonb, "Größe" text, no_such_attribute text, no_such_number bigint, reset_mfa_secret boolean,
	"a b&c=d" text, a__b text, z_ text, _y text, level text OPTIONS (attribute 'skills')) SERVER acme OPTIONS (resource 'users');
\x on
SELECT * FROM newer;
\x off
SELECT lp.asked();
DROP FOREIGN TABLE newer;

-- columns that show nothing, or none at all
CREATE FOREIGN TABLE secret (password_sh text, old_password text, "confirmPassword" text) SERVER acme OPTIONS (resource 'users');
SELECT * FROM secret;
CREATE FOREIGN TABLE empty () SERVER acme OPTIONS (resource 'users');
SELECT * FROM empty;
SELECT count(*) FROM empty;
SELECT lp.asked();
DROP FOREIGN TABLE secret, empty;

-- another resource: what was planned is planned anew
CREATE FOREIGN TABLE things (id bigint, name text) SERVER acme OPTIONS (resource 'skills');
PREPARE things AS SELECT * FROM things ORDER BY id LIMIT 1;
EXECUTE things;
ALTER FOREIGN TABLE things OPTIONS (SET resource 'profiles');
EXECUTE things;
ALTER SERVER acme OPTIONS (ADD api_version '6.0');
EXECUTE things;
ALTER SERVER acme OPTIONS (DROP api_version);
DEALLOCATE things;
SELECT lp.asked();
DROP FOREIGN TABLE things;
\i sql/include/finish.sql

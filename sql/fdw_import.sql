-- fdw_import: IMPORT FOREIGN SCHEMA, and ANALYZE
\set with_tables on
\i sql/include/start.sql
SELECT lp.asked() \g /dev/null
CREATE VIEW imported AS
	SELECT ftrelid::regclass AS "table", ftoptions AS options, (SELECT count(*) FROM pg_attribute WHERE attrelid = ftrelid AND attnum > 0) AS columns
	FROM pg_foreign_table WHERE ftrelid > 'lp.lobs'::regclass ORDER BY ftrelid;

-- every column that this version knows, and the whole entity
SELECT attrelid::regclass AS "table", attname AS "column", format_type(atttypid, atttypmod) AS type, attfdwoptions AS options
FROM pg_attribute WHERE attrelid IN (SELECT ftrelid FROM pg_foreign_table) AND attnum > 0 ORDER BY attrelid, attnum;

-- some of the tables, or all but some; quoted names; into any schema
CREATE SCHEMA "odd ""schema";
IMPORT FOREIGN SCHEMA liveperson LIMIT TO (lobs, users) FROM SERVER acme INTO "odd ""schema";
IMPORT FOREIGN SCHEMA liveperson EXCEPT (users, skills, agent_groups) FROM SERVER acme INTO public;
SELECT * FROM imported;
SELECT count(*) FROM "odd ""schema".lobs;
SELECT lp.asked();
IMPORT FOREIGN SCHEMA liveperson EXCEPT (lobs) FROM SERVER acme INTO "odd ""schema"; -- ERROR
SELECT count(*) FROM imported;
IMPORT FOREIGN SCHEMA liveperson EXCEPT (users, skills, profiles, agent_groups, lobs) FROM SERVER acme INTO public;
DROP FOREIGN TABLE profiles, lobs;
\set VERBOSITY terse
DROP SCHEMA "odd ""schema" CASCADE;
\set VERBOSITY default
-- a server whose name needs quotes
CREATE SERVER "my ""server'" FOREIGN DATA WRAPPER lpusers OPTIONS (account '12345678', base_url :'url');
IMPORT FOREIGN SCHEMA liveperson LIMIT TO (skills) FROM SERVER "my ""server'" INTO public;
SELECT replace(message, current_user, 'me') AS message, replace(hint, current_user, 'me') AS hint FROM attempt('SELECT * FROM skills');
DROP FOREIGN TABLE skills;
DROP SERVER "my ""server'";

-- what is not there
CREATE FUNCTION try(command text, OUT state text, OUT complaint text) LANGUAGE sql AS $$
	SELECT state, concat_ws(' | ', message, detail, hint) FROM lp.mistake(command) $$;
SELECT command, t.* FROM unnest(ARRAY['liveperson FROM SERVER acme INTO nowhere', 'lp FROM SERVER acme INTO public', '"LivePerson" FROM SERVER acme INTO public', 'public FROM SERVER acme INTO public',
	'liveperson LIMIT TO (user) FROM SERVER acme INTO public', 'liveperson LIMIT TO ("Users", agents) FROM SERVER acme INTO public', 'liveperson EXCEPT (agentgroups) FROM SERVER acme INTO public',
	'liveperson FROM SERVER acme INTO public OPTIONS (import_default ''true'')', 'liveperson FROM SERVER other INTO public']) command, try('IMPORT FOREIGN SCHEMA ' || command) t;
SELECT count(*) FROM imported;
-- none of this asks the account
SELECT lp.asked();

-- Before ANALYZE, a size is assumed; after it, statistics are as of any table.
CREATE FUNCTION estimate(query text) RETURNS bigint LANGUAGE sql AS $$ SELECT (lp.json_plan(query, 'COSTS ON')->'Plan Rows')::bigint $$;
SELECT name, estimate('SELECT * FROM lp.' || name) FROM unnest('{users,skills,profiles,agent_groups,lobs}'::text[]) name;
SELECT (lp_create_users('12345678', (SELECT jsonb_agg(person('u' || i, CASE WHEN i % 4 = 0 THEN '{"isEnabled": false, "skillIds": [3001, 3002]}' ELSE '{"skillIds": [3001]}' END::jsonb)) FROM generate_series(1, 400) i))).status;
SELECT (lp_delete_users('12345678', '{4000000001,4000000002,4000000003}')).status;
SELECT condition, estimate('SELECT * FROM lp.users ' || condition) FROM unnest(ARRAY['', 'WHERE is_enabled', 'WHERE id = 4000000100', 'WHERE login_name = ''u9@example.com''', 'WHERE skill_ids @> ''{3002}''']) condition;
\setenv PGDATABASE :DBNAME
\! psql -X -c 'ANALYZE VERBOSE lp.users' 2>&1 | grep -o '"users":.*'
SELECT condition, estimate('SELECT * FROM lp.users ' || condition) FROM unnest(ARRAY['', 'WHERE is_enabled', 'WHERE NOT is_enabled', 'WHERE id = 4000000100', 'WHERE id < 4000000100', 'WHERE login_name = ''u9@example.com''', 'WHERE skill_ids @> ''{3002}''', 'WHERE max_async_chats > 1',
	'a JOIN lp.users b USING (login_name)']) condition;
SELECT reltuples, relpages > 0 AS pages FROM pg_class WHERE oid = 'lp.users'::regclass;
SELECT attname, null_frac, n_distinct, most_common_vals FROM pg_stats WHERE schemaname = 'lp' AND attname IN ('id', 'is_enabled', 'full_name', 'password_sh', 'skill_ids', 'max_chats', 'entity') ORDER BY 1;
-- every column is asked for, whichever are analyzed
SELECT lp.asked();
ANALYZE lp.users (login_name);
SELECT lp.asked();
-- more rows than are sampled; a sample is a sample of all of them
\! PGOPTIONS='-c default_statistics_target=1' psql -X -c 'ANALYZE VERBOSE lp.users (id, login_name)' 2>&1 | grep -o '"users":.*'
SELECT n_distinct, bounds[1] < 4000000100 AS some_of_the_first, bounds[2] > 4000000300 AS some_of_the_last
FROM (SELECT n_distinct, histogram_bounds::text::bigint[] AS bounds FROM pg_stats WHERE schemaname = 'lp' AND tablename = 'users' AND attname = 'id') s;
SELECT estimate('SELECT * FROM lp.users');
-- all tables; by the owner's credentials; failing as a query does
ANALYZE lp.skills, lp.profiles, lp.agent_groups, lp.lobs;
SELECT relname, reltuples FROM pg_class WHERE relnamespace = 'lp'::regnamespace AND relkind = 'f' ORDER BY 1;
CALL lp.fault('{"method": "GET", "action": "status", "status": 403}');
ANALYZE lp.users; -- ERROR
CALL lp.fault('{"method": "GET", "action": "half"}');
SELECT state FROM lp.mistake('ANALYZE lp.users');
SELECT reltuples FROM pg_class WHERE oid = 'lp.users'::regclass;
CREATE ROLE regress_owner;
GRANT ALL ON SCHEMA lp TO regress_owner;
GRANT USAGE ON FOREIGN SERVER acme TO regress_owner;
ALTER FOREIGN TABLE lp.users OWNER TO regress_owner;
ANALYZE lp.users; -- ERROR
CREATE USER MAPPING FOR regress_owner SERVER acme OPTIONS (token 'lp-token');
ANALYZE lp.users;
-- an empty account; then the estimate is no less than a row
SELECT lp.sim('reset', method => 'POST') \g /dev/null
ANALYZE lp.users;
SELECT estimate('SELECT * FROM lp.users'), reltuples FROM pg_class WHERE oid = 'lp.users'::regclass;
DROP USER MAPPING FOR regress_owner SERVER acme;
REVOKE ALL ON FOREIGN SERVER acme FROM regress_owner;
DROP OWNED BY regress_owner;
DROP ROLE regress_owner;
DROP FUNCTION try(text), estimate(text);
DROP VIEW imported;
\i sql/include/finish.sql

-- fdw_objects: the wrapper and its tables as objects of the database: options, what is shown of them, dump, and what cannot be done
\set with_tables on
\i sql/include/start.sql
\pset format aligned
SELECT fdwname AS wrapper, fdwhandler::regproc AS handler, fdwvalidator::regproc AS validator FROM pg_foreign_data_wrapper;
\d lp.profiles
\pset format unaligned

-- Options of a table: the resource is required, and one of those that there are
CREATE FUNCTION try(command text, OUT state text, OUT complaint text) LANGUAGE sql AS $$
	SELECT state, concat_ws(' | ', message, detail, hint) FROM lp.mistake(command) $$;
SELECT options, t.* FROM unnest(ARRAY['', 'resource ''users''', 'resource ''Users''', 'resource ''user''', 'resource ''''', 'resource ''agentGroups''', 'resource ''agent_groups''',
	'resurce ''users''', 'table_name ''users''', 'attribute ''id''', 'account ''1''', 'resource ''users'', resource ''skills''']) options,
	try(format('CREATE FOREIGN TABLE t (id bigint) SERVER acme %s; DROP FOREIGN TABLE t', CASE WHEN options <> '' THEN 'OPTIONS (' || options || ')' END)) t;
-- of a column: the name of an attribute, or all of them
SELECT options, t.* FROM unnest(ARRAY['attribute ''loginName''', 'attribute ''*''', 'attribute ''login_name''', 'attribute ''no such''', 'attribute ''a.b''', 'attribute ''a,b''', 'attribute ''a(b)''', 'attribute ''$all''', 'attribute ''''',
	'attribute ''Größe''', format('attribute %L', repeat('x', 63)), format('attribute %L', repeat('x', 64)), E'attribute E''a\\nb''', 'atribute ''id''', 'column_name ''id''', 'resource ''users''']) options,
	try(format('CREATE FOREIGN TABLE t (id bigint OPTIONS (%s)) SERVER acme OPTIONS (resource ''users''); DROP FOREIGN TABLE t', options)) t;
CREATE FOREIGN TABLE t (id bigint, login text OPTIONS (attribute 'loginName')) SERVER acme OPTIONS (resource 'users');
SELECT command, t.* FROM unnest(ARRAY['OPTIONS (DROP resource)', 'OPTIONS (SET resource ''people'')', 'OPTIONS (ADD resource ''users'')', 'ALTER COLUMN login OPTIONS (SET attribute ''login-name'')',
	'ALTER COLUMN login OPTIONS (DROP atribute)', 'ALTER COLUMN id OPTIONS (ADD attribute ''pid'')', 'OPTIONS (SET resource ''lobs'')']) command, try('ALTER FOREIGN TABLE t ' || command) t;
SELECT ftoptions FROM pg_foreign_table WHERE ftrelid = 't'::regclass;
SELECT attname, attfdwoptions FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0;
SELECT option_name, option_value FROM information_schema.foreign_table_options WHERE foreign_table_name = 't';
SELECT column_name, option_name, option_value FROM information_schema.column_options WHERE table_name = 't' ORDER BY 1;
-- the catalogs can be written by hand, and then say what is wrong
UPDATE pg_foreign_table SET ftoptions = NULL WHERE ftrelid = 't'::regclass;
SELECT * FROM try('SELECT * FROM t');
SELECT * FROM try('EXPLAIN SELECT * FROM t');
UPDATE pg_foreign_table SET ftoptions = '{resource=people}' WHERE ftrelid = 't'::regclass;
SELECT * FROM try('SELECT * FROM t');
DROP FOREIGN TABLE t;

-- A role that may use the server may create tables
CREATE ROLE regress_clerk;
GRANT ALL ON SCHEMA lp TO regress_clerk;
SET ROLE regress_clerk;
SELECT * FROM try('CREATE FOREIGN TABLE lp.t (id bigint) SERVER acme OPTIONS (resource ''users'')');
SELECT * FROM try('IMPORT FOREIGN SCHEMA liveperson FROM SERVER acme INTO lp');
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER acme TO regress_clerk;
SET ROLE regress_clerk;
SELECT * FROM try('CREATE FOREIGN TABLE lp.t (id bigint) SERVER acme OPTIONS (resource ''users'')');
RESET ROLE;
DROP FOREIGN TABLE lp.t;
REVOKE ALL ON FOREIGN SERVER acme FROM regress_clerk;
REVOKE ALL ON SCHEMA lp FROM regress_clerk;
DROP ROLE regress_clerk;

-- A dump has them all; restored elsewhere, they are the same
CREATE FOREIGN TABLE lp."odd ""name" (id bigint NOT NULL, "Login ""x" text OPTIONS (attribute 'loginName') COLLATE "C" DEFAULT 'y', gone text,
	CHECK (id > 0)) SERVER acme OPTIONS (resource 'users');
ALTER FOREIGN TABLE lp."odd ""name" DROP COLUMN gone;
COMMENT ON FOREIGN TABLE lp."odd ""name" IS 'mine';
\setenv PGDATABASE :DBNAME
\! pg_dump --schema-only --table='lp.odd*' | sed 's/TABLE ONLY/TABLE/' | grep -vE '^(--|SET|SELECT|\\|$)|OWNER TO'
\! pg_dump --schema-only --schema=lp | sed 's/lp\./lp2./g; s/SCHEMA lp/SCHEMA lp2/' | psql -X -q -v ON_ERROR_STOP=1 >/dev/null
SELECT count(*), count(*) FILTER (WHERE a.definition IS DISTINCT FROM b.definition) AS other FROM
	(SELECT relname, attname, format_type(atttypid, atttypmod) || attfdwoptions::text || ftoptions::text AS definition
		FROM pg_attribute JOIN pg_foreign_table ON ftrelid = attrelid JOIN pg_class c ON c.oid = attrelid WHERE attnum > 0 AND NOT attisdropped AND relnamespace = 'lp'::regnamespace) a
	FULL JOIN (SELECT relname, attname, format_type(atttypid, atttypmod) || attfdwoptions::text || ftoptions::text AS definition
		FROM pg_attribute JOIN pg_foreign_table ON ftrelid = attrelid JOIN pg_class c ON c.oid = attrelid WHERE attnum > 0 AND NOT attisdropped AND relnamespace = 'lp2'::regnamespace) b
	USING (relname, attname);
SELECT count(*) FROM lp2.profiles;
SET client_min_messages = warning;
DROP SCHEMA lp2 CASCADE;
RESET client_min_messages;

-- a column whose attribute is like a known one is probably misspelt: it is null for ever; a word of the account's own is not warned of
CREATE FOREIGN TABLE lp.typos (id bigint, max_chat int, loginname text, skills jsonb, profiles jsonb, gone text, "desc" text OPTIONS (attribute 'descripton'), entity jsonb OPTIONS (attribute '*')) SERVER acme OPTIONS (resource 'users');
ALTER FOREIGN TABLE lp.typos DROP COLUMN gone;
EXPLAIN (COSTS off) SELECT id FROM lp.typos;
-- ... once in a session
EXPLAIN (COSTS off) SELECT id FROM lp.typos;
DROP FOREIGN TABLE lp.typos;
CREATE FOREIGN TABLE lp.typos (id bigint, nam text) SERVER acme OPTIONS (resource 'skills');
ANALYZE lp.typos;
DROP FOREIGN TABLE lp.typos;

-- What foreign tables are not
SELECT command, t.* FROM unnest(ARRAY['TRUNCATE lp.users', 'INSERT INTO lp.skills (name) VALUES (''x'')', 'UPDATE lp.skills SET name = ''x''', 'DELETE FROM lp.lobs']) command, try(command) t;
SELECT table_name, is_insertable_into FROM information_schema.tables WHERE table_schema = 'lp' ORDER BY 1;
SELECT lp.asked();
DROP FUNCTION try(text);
\i sql/include/finish.sql

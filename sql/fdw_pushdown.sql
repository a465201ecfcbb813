-- fdw_pushdown: which requests are planned: for which conditions single users, what is joined how, which attributes, deleted ones or not
\set with_tables on
\i sql/include/start.sql
SELECT lp.asked() \g /dev/null
DROP USER MAPPING FOR CURRENT_USER SERVER acme;
-- as it is shown
EXPLAIN SELECT login_name FROM lp.users;
EXPLAIN (VERBOSE, COSTS OFF) SELECT login_name FROM lp.users u WHERE id = ANY ('{4000000001,4000000002}') AND is_enabled;
SELECT jsonb_pretty(lp.json_plan('SELECT login_name FROM lp.users WHERE id = 4000000001'));
EXPLAIN (COSTS OFF) SELECT * FROM lp.users;
EXPLAIN (COSTS OFF) SELECT count(*) FROM lp.skills;

-- Conditions on the id become GETs by id ...
CREATE FUNCTION request(condition text, target text DEFAULT 'lp.users') RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(regexp_replace(plan, '.*(Request: GET|Remote Filter:) *', ''), ' | ') FROM lp.plan(format('SELECT login_name FROM %s WHERE %s', target, condition)) plan
	WHERE plan ~ 'Request|Remote Filter|One-Time' $$;
CREATE FUNCTION someone() RETURNS bigint LANGUAGE sql STABLE AS $$ SELECT 4000000001 $$;
SELECT condition, request(condition) FROM unnest(ARRAY['id = 4000000001', '4000000001 = id', 'id = 1', 'id = 1::smallint', 'id IN (1, 2)', 'id = ANY (''{1,2}'')', 'id = ANY (ARRAY[1, 2]::smallint[])', 'id = ANY (ARRAY[1, NULL])',
	'id = someone()', 'id = (SELECT max(reltuples)::bigint FROM pg_class)', 'id = ANY (ARRAY[someone(), 2])', 'id = abs(-5)', 'id IN (1, 2, 3) AND id = someone()',
	'id = ANY (''{1}'') AND login_name = ''x''', 'id = 1 AND deleted', 'id IS NOT DISTINCT FROM 1']) condition;
-- ... and no others
SELECT condition, request(condition) FROM unnest(ARRAY['id <> 1', 'id > 1', 'id BETWEEN 1 AND 2', 'id = 1 OR login_name = ''x''', 'id IS NOT NULL', 'id + 0 = 1', 'id = 1.0', 'id::text = ''1''', 'id = id', 'id = max_chats', 'id = (random() * 100)::int', 'id = ANY (profile_ids)',
	'id <> ALL (''{1,2}'')', 'id NOT IN (1, 2)', 'id > ANY (''{1,2}'')', 'NOT id = 1', 'id = 1 OR id = 2 OR max_chats = 1', '(id = 1) IS TRUE', 'id = 1 AND false', 'id = NULL']) condition;
-- an array of unknown length is taken for ten ids
SELECT request('id = ANY (ARRAY(SELECT oid::bigint FROM pg_class))');
-- a few users are asked for one by one; if there are more, one list costs less; it depends on the size of the account
SELECT n, request(format('id = ANY (''%s'')', ARRAY(SELECT generate_series(1, n)))) ~ '{id}' AS by_id FROM unnest('{1,4,5,8,9,100}'::int[]) n;
UPDATE pg_class SET reltuples = 100000 WHERE oid = 'lp.users'::regclass;
SELECT n, request(format('id = ANY (''%s'')', ARRAY(SELECT generate_series(1, n)))) ~ '{id}' AS by_id FROM unnest('{1,8,9,100,200,201}'::int[]) n;
UPDATE pg_class SET reltuples = -1 WHERE oid = 'lp.users'::regclass;
ALTER SERVER acme OPTIONS (ADD max_connections '1');
SELECT n, request(format('id = ANY (''%s'')', ARRAY(SELECT generate_series(1, n)))) ~ '{id}' AS by_id FROM unnest('{1,2,3,8}'::int[]) n;
ALTER SERVER acme OPTIONS (DROP max_connections);
-- the column of the id may have another name and type; a text or a number with a fraction is no integer for PostgreSQL
CREATE DOMAIN user_id AS bigint;
CREATE FOREIGN TABLE by_domain ("Nr" user_id OPTIONS (attribute 'id'), login_name text) SERVER acme OPTIONS (resource 'users');
CREATE FOREIGN TABLE by_integer (id integer, login_name text) SERVER acme OPTIONS (resource 'users');
CREATE FOREIGN TABLE by_text (id text, login_name text) SERVER acme OPTIONS (resource 'users');
CREATE FOREIGN TABLE by_numeric (id numeric, login_name text) SERVER acme OPTIONS (resource 'users');
CREATE FOREIGN TABLE by_nothing (login_name text) SERVER acme OPTIONS (resource 'users');
SELECT request('"Nr" = 5', 'by_domain'), request('"Nr" = ANY (''{5,6}'')', 'by_domain'), request('"Nr" = 5::user_id', 'by_domain');
SELECT request('id = 5', 'by_integer'), request('id = 4000000001', 'by_integer'), request('id = ''5''', 'by_text'), request('id = 5', 'by_numeric'), request('login_name = ''5''', 'by_nothing');
DROP FOREIGN TABLE by_domain, by_integer, by_text, by_numeric, by_nothing;
DROP DOMAIN user_id;
-- neighbours are few: they have lists only
SELECT lp.plan('SELECT name FROM lp.skills WHERE id = 3001');

-- Just the attributes that the query needs, wherever it needs them
CREATE FUNCTION attributes(query text) RETURNS text LANGUAGE sql AS $$ SELECT string_agg(substring(plan from 'select=(.*)'), ' | ') FROM lp.plan(query) plan WHERE plan ~ 'select=' $$;
SELECT query, attributes(query) FROM unnest(ARRAY['SELECT count(*) FROM lp.users', 'SELECT 1 FROM lp.users WHERE is_enabled AND max_chats > 2', 'SELECT login_name || email FROM lp.users ORDER BY nickname', 'SELECT max(date_updated) FROM lp.users GROUP BY member_of HAVING min(max_chats) > 1',
	'SELECT id, password_sh FROM lp.users', 'SELECT tableoid FROM lp.users', 'SELECT entity FROM lp.users', 'SELECT u FROM lp.users u', 'SELECT (u).email FROM lp.users u', 'SELECT row_to_json(u) FROM (SELECT id, email FROM lp.users) u', 'SELECT count(u) FROM lp.users u',
	'SELECT u.pid FROM lp.users u JOIN lp.profiles p ON p.id = ANY (u.profile_ids) WHERE p.name = ''Agent''', 'SELECT (SELECT s.name FROM lp.skills s WHERE s.id = u.skill_ids[1]) FROM lp.users u', 'SELECT u.pid FROM lp.users u, LATERAL (SELECT u.email) e',
	'SELECT u.pid, sum(max_chats) OVER (PARTITION BY lob_ids) FROM lp.users u', 'TABLE lp.lobs', 'SELECT id FROM lp.users WHERE id = 5', 'SELECT id FROM lp.users WHERE id = 5 AND NOT deleted']) query;
-- A row that is only carried along, in case a row that is changed or locked must be looked at again, is no reason to ask for all of it.
CREATE TABLE staff (id bigint, email text, enabled boolean, ids bigint[]);
SELECT query, attributes(query) FROM unnest(ARRAY['UPDATE staff SET id = u.id FROM lp.users u WHERE u.login_name = staff.email', 'DELETE FROM staff USING lp.users u WHERE u.id = staff.id AND NOT u.is_enabled', 'SELECT s.* FROM staff s JOIN lp.users u USING (email) FOR UPDATE OF s',
	'SELECT u.nickname FROM lp.users u FOR UPDATE', 'UPDATE staff SET id = u.id FROM lp.users u WHERE u.login_name = staff.email RETURNING u.max_chats', 'UPDATE staff SET email = u.nickname FROM lp.users u JOIN lp.profiles p ON p.id = ANY (u.profile_ids) WHERE u.id = staff.id',
	'UPDATE staff SET email = u::text FROM lp.users u WHERE u.id = staff.id', 'UPDATE staff SET id = 1 FROM lp.users u WHERE u.id = staff.id AND u IS NOT NULL', 'UPDATE staff SET id = u.id FROM lp.users u WHERE u.login_name = staff.email RETURNING u',
	'SELECT s.*, x FROM staff s JOIN lp.users u USING (email), LATERAL (SELECT u AS x OFFSET 0) y FOR UPDATE OF s', 'SELECT s.id FROM staff s JOIN lp.users u USING (email) ORDER BY u FOR UPDATE OF s', 'SELECT s.id, u AS wholerow2 FROM staff s JOIN lp.users u USING (email) FOR UPDATE OF s']) query;

-- Deleted users are asked for when a condition speaks of them, unless it only wants them away.
SELECT condition, request(condition) ~ 'include_deleted' AS deleted FROM unnest(ARRAY['true', 'deleted', 'deleted = true', 'deleted IS TRUE', 'deleted IS NOT FALSE', 'deleted IS NOT NULL', 'deleted = ANY (''{t,f}'')', 'deleted IN (true, false)', 'deleted OR is_enabled', 'NOT deleted OR max_chats > 3', 'coalesce(deleted, false)',
	'deleted IS DISTINCT FROM is_enabled', 'NOT deleted', 'deleted = false', 'false = deleted', 'deleted <> true', 'deleted IS NOT TRUE', 'deleted IS FALSE', 'NOT deleted AND deleted IS NOT TRUE', 'NOT deleted AND login_name LIKE ''a%''', 'is_enabled', 'entity->>''deleted'' = ''true''', 'EXISTS (SELECT FROM staff WHERE enabled = deleted)',
	'id IN (SELECT id FROM staff WHERE deleted)']) condition;
SELECT query, string_agg(plan ~ 'include_deleted' || '', ', ') AS deleted FROM unnest(ARRAY['SELECT deleted FROM lp.users', 'SELECT id FROM lp.users ORDER BY deleted', 'SELECT deleted, count(*) FROM lp.users GROUP BY deleted', 'SELECT deleted, count(*) FROM lp.users GROUP BY deleted HAVING deleted', 'SELECT count(*) FILTER (WHERE deleted) FROM lp.users', 'SELECT * FROM (SELECT * FROM lp.users) u WHERE deleted',
	'SELECT * FROM (SELECT * FROM lp.users OFFSET 0) u WHERE deleted', 'WITH u AS (SELECT * FROM lp.users) SELECT * FROM u WHERE deleted', 'SELECT * FROM lp.skills WHERE deleted', 'SELECT * FROM lp.profiles WHERE entity ? ''deleted''', 'SELECT * FROM lp.lobs a JOIN lp.skills b ON a.id = ANY (b.lob_ids) WHERE b.deleted AND NOT a.deleted']) query, lp.plan(query) plan
	WHERE plan ~ 'Request' GROUP BY query ORDER BY min(query);
-- whichever plan is made of a join, it shows the same
SELECT query, string_agg(DISTINCT plan ~ 'include_deleted' || '', ', ') AS deleted FROM unnest(ARRAY['SELECT s.id, u.login_name FROM staff s JOIN lp.users u ON u.id = s.id AND u.deleted = s.enabled', 'SELECT s.id, u.login_name FROM staff s LEFT JOIN lp.users u ON u.id = s.id AND u.deleted', 'SELECT s.id, u.login_name FROM staff s LEFT JOIN lp.users u ON u.id = s.id AND u.deleted < s.enabled',
	'SELECT s.id, u.login_name FROM staff s LEFT JOIN lp.users u ON u.id = s.id WHERE u.deleted IS DISTINCT FROM s.enabled', 'SELECT s.id, u.login_name FROM staff s LEFT JOIN lp.users u ON u.id = s.id WHERE NOT s.enabled', 'SELECT s.id FROM staff s WHERE EXISTS (SELECT FROM lp.users u WHERE u.id = s.id AND u.deleted)',
	'SELECT s.id FROM staff s WHERE NOT EXISTS (SELECT FROM lp.users u WHERE u.id = s.id AND NOT u.deleted)']) query, unnest('{nestloop,hashjoin}'::text[]) kind,
	LATERAL (SELECT set_config('enable_' || k, CASE WHEN k = kind THEN 'on' ELSE 'off' END, false) FROM unnest('{nestloop,hashjoin,mergejoin}'::text[]) k OFFSET 0) set, lp.plan(query) plan WHERE plan ~ 'Request' GROUP BY query ORDER BY min(query);
RESET enable_nestloop;
RESET enable_hashjoin;
RESET enable_mergejoin;
-- parts of a whole: the conditions are the parent's, and its columns may stand in another order
CREATE TABLE people (gone boolean, login_name text, max_chats integer, id bigint) PARTITION BY LIST (max_chats);
CREATE FOREIGN TABLE people_lp (max_chats integer, id bigint, login_name text, gone boolean OPTIONS (attribute 'deleted')) SERVER acme OPTIONS (resource 'users');
ALTER TABLE people ATTACH PARTITION people_lp FOR VALUES IN (3);
CREATE TABLE people_here PARTITION OF people DEFAULT;
SELECT lp.plan('SELECT login_name FROM people WHERE NOT gone');
SELECT lp.plan('SELECT login_name FROM people WHERE gone AND max_chats = 3');
SELECT lp.plan('SELECT count(*) FROM people WHERE id = 4000000001 AND max_chats = 3');
SELECT lp.plan('SELECT login_name FROM people WHERE max_chats = 4');
DROP TABLE people;
CREATE TABLE parent (id bigint, deleted boolean);
CREATE FOREIGN TABLE child (login_name text) INHERITS (parent) SERVER acme OPTIONS (resource 'users');
SELECT lp.plan('SELECT id FROM parent WHERE deleted');
SELECT lp.plan('SELECT id FROM ONLY child WHERE deleted');
DROP TABLE parent CASCADE;
SELECT lp.plan('SELECT * FROM (SELECT id, NOT deleted AS here FROM lp.users UNION ALL SELECT id, deleted FROM lp.lobs) x WHERE here');
CREATE VIEW gone WITH (security_barrier) AS SELECT id, deleted, login_name FROM lp.users WHERE deleted OR max_chats > 1;
SELECT lp.plan('SELECT login_name FROM gone WHERE id = 5');
CREATE OR REPLACE VIEW gone WITH (security_barrier) AS SELECT id, deleted, login_name FROM lp.users;
SELECT lp.plan('SELECT login_name FROM gone WHERE deleted AND login_name LIKE ''x''');
DROP VIEW gone;

-- Joins on the id: for a few rows of the other table their users are asked for, for many there is one list.
INSERT INTO staff SELECT 4000000000 + i, 'u' || i || '@example.com', true, ARRAY[4000000000 + i, 4000000001 + i] FROM generate_series(1, 500) i;
ALTER TABLE staff ADD PRIMARY KEY (id);
ANALYZE staff;
SELECT lp.plan('SELECT s.email, u.login_name FROM staff s JOIN lp.users u ON u.id = s.id');
SELECT lp.plan('SELECT s.email, u.login_name FROM staff s JOIN lp.users u ON u.id = s.id WHERE s.id = 4000000007');
SELECT lp.plan('SELECT s.email, u.login_name FROM staff s JOIN lp.users u ON s.id = u.id WHERE s.email = ''u7@example.com''');
SELECT query, string_agg(regexp_replace(plan, '.*(Request: GET|Remote Filter:) *', ''), ' | ') AS requests FROM unnest(ARRAY[
	'SELECT s.email, u.login_name FROM staff s LEFT JOIN lp.users u ON u.id = s.id',
	'SELECT s.email, u.login_name FROM staff s LEFT JOIN lp.users u ON u.id = s.id WHERE s.email = ''u7@example.com''',
	'SELECT s.email, u.login_name FROM lp.users u LEFT JOIN staff s ON u.id = s.id WHERE s.email = ''u7@example.com''',
	'SELECT s.email, u.login_name FROM lp.users u LEFT JOIN staff s ON u.id = s.id AND s.email = ''u7@example.com''',
	'SELECT s.email, u.login_name FROM staff s FULL JOIN lp.users u ON u.id = s.id',
	'SELECT s.email FROM staff s WHERE EXISTS (SELECT FROM lp.users u WHERE u.id = s.id AND u.is_enabled)',
	'SELECT s.email FROM staff s WHERE s.id = 4000000007 AND EXISTS (SELECT FROM lp.users u WHERE u.id = s.id AND u.is_enabled)',
	'SELECT u.email FROM lp.users u WHERE u.id IN (SELECT s.id FROM staff s)',
	'SELECT u.email FROM lp.users u WHERE u.id IN (SELECT s.id FROM staff s WHERE s.email = ''u7@example.com'')',
	'SELECT s.email FROM staff s WHERE NOT EXISTS (SELECT FROM lp.users u WHERE u.login_name = s.email)',
	'SELECT s.email FROM staff s WHERE s.email = ''u7@example.com'' AND NOT EXISTS (SELECT FROM lp.users u WHERE u.id = s.id)',
	'SELECT u.email FROM lp.users u WHERE NOT EXISTS (SELECT FROM staff s WHERE s.email = u.login_name)',
	'SELECT s.email, x.login_name FROM staff s, LATERAL (SELECT login_name FROM lp.users u WHERE u.id = s.id LIMIT 1) x WHERE s.email = ''u7@example.com''',
	'SELECT s.email, (SELECT login_name FROM lp.users u WHERE u.id = s.id) FROM staff s WHERE s.id < 4000000010',
	'SELECT a.email, u.login_name FROM staff a, staff b, lp.users u WHERE a.id = 4000000003 AND b.id = 4000000004 AND u.id = a.id + b.id - 4000000003',
	'SELECT v.login_name FROM staff s JOIN lp.users u ON u.id = s.id JOIN lp.users v ON v.id = u.member_of WHERE s.email = ''u7@example.com''',
	'SELECT s.email, u.login_name FROM staff s JOIN lp.users u ON u.id = s.ids[1] WHERE s.email = ''u7@example.com''',
	'SELECT s.email, u.login_name FROM staff s JOIN lp.users u ON u.id = ANY (s.ids) WHERE s.email = ''u7@example.com''',
	'SELECT s.email, u.login_name FROM staff s JOIN lp.users u ON u.id > s.id WHERE s.email = ''u7@example.com'''])
	WITH ORDINALITY q (query, n), lp.plan(query) plan WHERE plan ~ 'Request|Remote Filter' GROUP BY n, query ORDER BY n;
-- with ten ids of an array, ten users of a large account are asked for
UPDATE pg_class SET reltuples = 100000 WHERE oid = 'lp.users'::regclass;
SELECT lp.plan('SELECT s.email, u.login_name FROM staff s LEFT JOIN lp.users u ON u.id = ANY (s.ids) WHERE s.email = ''u7@example.com''');
UPDATE pg_class SET reltuples = -1 WHERE oid = 'lp.users'::regclass;
-- an id has one user, whatever the statistics
EXPLAIN SELECT s.email, u.login_name FROM staff s JOIN lp.users u ON u.id = s.id AND u.is_enabled WHERE s.email = 'u7@example.com';

-- nothing of all this was sent
SELECT lp.asked();
CREATE USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (token 'lp-token');
DROP FUNCTION request(text, text), attributes(text), someone();
DROP TABLE staff;
\i sql/include/finish.sql

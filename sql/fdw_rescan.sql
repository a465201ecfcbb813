-- fdw_rescan: foreign tables that are read more than once, when their rows do not fit into work_mem
\set with_tables on
\i sql/include/start.sql
-- so that rows are kept in a file: 64kB hold less than a tenth of these
SET work_mem = '64kB';
SELECT (lp_create_users('12345678', (SELECT jsonb_agg(person('u' || i, jsonb_build_object('isEnabled', i % 2 = 0, 'maxChats', i % 5,
	'description', repeat('d', 400) || i))) FROM generate_series(1, 600) i))).status;
CREATE TABLE staff (n integer PRIMARY KEY, id bigint, email text, ids bigint[]);
INSERT INTO staff SELECT i, 4000000000 + i * 50, 'u' || i * 50 || '@example.com', ARRAY[4000000000 + i * 50, 4000000001 + i] FROM generate_series(1, 14) i;
CREATE TABLE here AS SELECT id, login_name, nickname, email, description, is_enabled, max_chats, profile_ids, deleted, entity FROM lp.users;
ANALYZE staff, here;

-- Whichever plan, the rows are those of the copy. USERS is the table, each row is shown as text.
CREATE FUNCTION lp.rows_of(query text, users text) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
	found text[];
BEGIN
	EXECUTE format('SELECT array_agg(x::text ORDER BY x::text) FROM (%s) x', replace(query, 'USERS', users)) INTO found;
	RETURN found;
END $$;
CREATE FUNCTION lp.same(query text) RETURNS TABLE (rows integer, different_plans text) LANGUAGE plpgsql AS $$
DECLARE
	expected text[] := lp.rows_of(query, 'here');
	method text;
BEGIN
	rows := coalesce(cardinality(expected), 0);
	FOREACH method IN ARRAY '{any,hashjoin,mergejoin,nestloop}'::text[] LOOP
		SET LOCAL enable_hashjoin = on;
		SET LOCAL enable_mergejoin = on;
		SET LOCAL enable_nestloop = on;
		SET LOCAL enable_material = on;
		IF method <> 'any' THEN
			SET LOCAL enable_hashjoin = off;
			SET LOCAL enable_mergejoin = off;
			SET LOCAL enable_nestloop = off;
			SET LOCAL enable_material = off;
			EXECUTE format('SET LOCAL enable_%s = on', method);
		END IF;
		IF lp.rows_of(query, 'lp.users') IS DISTINCT FROM expected THEN
			different_plans := concat_ws(', ', different_plans, method);
		END IF;
	END LOOP;
	RETURN NEXT;
END $$;

-- the rows are kept in a file indeed
SELECT lp.rows_of('SELECT (SELECT max(u.description) FROM USERS u WHERE u.max_chats = s.n) FROM staff s', 'lp.users') =
	lp.rows_of('SELECT (SELECT max(u.description) FROM USERS u WHERE u.max_chats = s.n) FROM staff s', 'here') AS same;
SELECT lp.json_plan('SELECT s.n, (SELECT count(u.entity) FROM lp.users u WHERE u.max_chats = s.n) FROM staff s', 'ANALYZE, BUFFERS')->>'Temp Written Blocks' <> '0' AS spilled;

-- Correlated subqueries: a row, a column, a whole row, an aggregate, EXISTS, IN, NOT IN, ALL; nested ones
SELECT query, same.* FROM unnest(ARRAY[
	'SELECT s.n, (SELECT u.description FROM USERS u WHERE lower(u.email) = lower(s.email)) FROM staff s',
	'SELECT s.n, (SELECT u.entity->>''nickname'' FROM USERS u WHERE u.login_name = s.email) FROM staff s',
	'SELECT s.n, (SELECT u.id FROM USERS u WHERE u.email = s.email) FROM staff s',
	'SELECT s.n, (SELECT row(u.login_name, u.description, u.profile_ids) FROM USERS u WHERE u.email = s.email) FROM staff s',
	'SELECT s.n, (SELECT count(u.description) FROM USERS u WHERE u.max_chats = s.n) FROM staff s',
	'SELECT s.n, ARRAY(SELECT u.login_name FROM USERS u WHERE u.max_chats < s.n ORDER BY u.description LIMIT 3) FROM staff s',
	'SELECT s.n FROM staff s WHERE EXISTS (SELECT FROM USERS u WHERE u.max_chats = s.n AND u.description <> '''' OFFSET 0)',
	'SELECT s.n FROM staff s WHERE (s.n, s.email) IN (SELECT u.max_chats + s.n, u.login_name FROM USERS u WHERE u.is_enabled)',
	'SELECT s.n FROM staff s WHERE s.email NOT IN (SELECT u.login_name FROM USERS u WHERE u.max_chats = s.n % 5)',
	'SELECT s.n FROM staff s WHERE s.id <= ALL (SELECT u.id + s.n * 50 FROM USERS u WHERE u.is_enabled)',
	'SELECT s.n, (SELECT count(*) FROM USERS u WHERE u.max_chats = s.n AND EXISTS (SELECT FROM USERS v WHERE v.id = u.id + s.n OFFSET 0)) FROM staff s WHERE s.n BETWEEN 3 AND 5',
	'SELECT s.n, x.login_name, x.description FROM staff s, LATERAL (SELECT * FROM USERS u WHERE u.login_name > s.email ORDER BY u.login_name LIMIT 2) x',
	'SELECT s.n, x.d FROM staff s LEFT JOIN LATERAL (SELECT u.description AS d FROM USERS u WHERE u.max_chats = s.n AND u.login_name >= s.email LIMIT 1) x ON true'
	]) query, lp.same(query);

-- Joins, with the table on the inner side, twice, and below others; unions; a recursion
SELECT query, same.* FROM unnest(ARRAY[
	'SELECT s.n, u.description FROM staff s JOIN USERS u ON u.login_name = s.email',
	'SELECT s.n, u.description FROM staff s LEFT JOIN USERS u ON lower(u.login_name) = lower(s.email) AND u.max_chats < s.n',
	'SELECT s.n, u.login_name FROM staff s LEFT JOIN (USERS u JOIN staff t ON t.email = u.login_name) ON u.max_chats + t.n = s.n',
	'SELECT a.login_name, b.description FROM USERS a JOIN USERS b ON a.login_name = b.login_name WHERE b.max_chats = 3',
	'SELECT s.n FROM staff s WHERE NOT EXISTS (SELECT FROM USERS u WHERE u.login_name = s.email AND u.is_enabled)',
	'SELECT s.n, u.id FROM staff s JOIN USERS u ON u.max_chats = s.n AND u.id % 20 = s.n',
	'SELECT s.n, u.login_name FROM staff s CROSS JOIN USERS u WHERE u.id % 97 = s.n',
	'SELECT login_name FROM USERS WHERE max_chats = 1 UNION SELECT email FROM staff EXCEPT SELECT login_name FROM USERS WHERE is_enabled',
	'WITH RECURSIVE chain (id, d) AS (SELECT 4000000600, ''''::text UNION ALL SELECT u.id, u.description FROM chain c JOIN USERS u ON u.id + 100 = c.id) SELECT * FROM chain',
	'WITH u AS MATERIALIZED (SELECT * FROM USERS) SELECT a.login_name, b.description FROM u a JOIN u b USING (id) WHERE a.max_chats = 2'
	]) query, lp.same(query);

-- By ids: one, several, none, those of another table; so many that a listing takes their place
SELECT query, same.* FROM unnest(ARRAY[
	'SELECT s.n, (SELECT u.description FROM USERS u WHERE u.id = s.id) FROM staff s',
	'SELECT s.n, (SELECT u.description FROM USERS u WHERE u.id = 4000000001 + s.n * 0) FROM staff s',
	'SELECT s.n, (SELECT max(u.description) FROM USERS u WHERE u.id = ANY (s.ids)) FROM staff s',
	'SELECT s.n, (SELECT max(u.description) FROM USERS u WHERE u.id = ANY (ARRAY(SELECT t.id + s.n FROM staff t))) FROM staff s',
	'SELECT s.n, (SELECT count(u.description) FROM USERS u WHERE u.id = ANY (ARRAY(SELECT s.id + i FROM generate_series(-250, 0) i))) FROM staff s WHERE s.n < 4',
	'SELECT s.n, u.description FROM staff s JOIN USERS u ON u.id = s.id',
	'SELECT s.n, u.description FROM staff s LEFT JOIN USERS u ON u.id = ANY (s.ids) AND u.max_chats < s.n',
	'SELECT s.n, x.description FROM staff s, LATERAL (SELECT u.description FROM USERS u WHERE u.id = s.id OFFSET 0) x'
	]) query, lp.same(query);
-- as the planner is told that there are few rows: by ids at first
CREATE FUNCTION lp.few() RETURNS SETOF staff LANGUAGE sql VOLATILE ROWS 1 AS 'TABLE staff';
SELECT query, same.* FROM unnest(ARRAY[
	'SELECT f.n, u.description FROM lp.few() f LEFT JOIN USERS u ON u.id = f.id',
	'SELECT f.n, u.description FROM lp.few() f LEFT JOIN USERS u ON u.id = ANY (f.ids)',
	'SELECT f.n, u.description FROM lp.few() f, LATERAL (SELECT array_agg(f.id - i) AS ids FROM generate_series(0, 210) i) a LEFT JOIN USERS u ON u.id = ANY (a.ids) WHERE f.n < 4'
	]) query, lp.same(query);
-- twelve ids, one after the other, then the list, in the memory of one subquery
SELECT lp.asked() \g /dev/null
SELECT count(x), count(*) FILTER (WHERE x = email) FROM (SELECT s.email, (SELECT u.login_name FROM lp.users u WHERE u.id = s.id) AS x FROM staff s OFFSET 0) y;
SELECT lp.asked();

-- Prepared, with a plan for any parameters
PREPARE described (integer) AS SELECT s.n, (SELECT md5(string_agg(u.description, ',' ORDER BY u.id)) FROM lp.users u WHERE u.max_chats = s.n % $1) FROM staff s ORDER BY 1 LIMIT 3;
PREPARE described_here (integer) AS SELECT s.n, (SELECT md5(string_agg(u.description, ',' ORDER BY u.id)) FROM here u WHERE u.max_chats = s.n % $1) FROM staff s ORDER BY 1 LIMIT 3;
SET plan_cache_mode = force_generic_plan;
CREATE TABLE first AS EXECUTE described (5);
CREATE TABLE second AS EXECUTE described_here (5);
SELECT count(*), count(*) FILTER (WHERE first = second) FROM first JOIN second USING (n);
RESET plan_cache_mode;
DEALLOCATE ALL;
DROP TABLE first, second;

-- Cursors: forth and back, to a row and past the end; held after the transaction; one whose subquery scans again
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT id, right(description, 5) AS d FROM lp.users;
MOVE 599 FROM c;
FETCH 2 FROM c;
FETCH BACKWARD 1 FROM c;
FETCH FIRST FROM c;
FETCH ABSOLUTE 300 FROM c;
FETCH RELATIVE -100 FROM c;
MOVE ALL FROM c;
FETCH PRIOR FROM c;
MOVE BACKWARD ALL FROM c;
FETCH 1 FROM c;
DECLARE h CURSOR WITH HOLD FOR SELECT id, right(description, 5) AS d FROM lp.users ORDER BY id DESC;
DECLARE s CURSOR FOR SELECT s.n, (SELECT right(u.description, 5) FROM lp.users u WHERE u.login_name = s.email) AS d FROM staff s ORDER BY s.n;
FETCH 2 FROM s;
SAVEPOINT a;
FETCH 1 FROM s;
ROLLBACK TO a;
FETCH 2 FROM s;
COMMIT;
FETCH 2 FROM h;
CLOSE h;
-- in PL/pgSQL: a loop in a loop, the inner one left early
DO $$
DECLARE
	r record;
	u record;
	n integer := 0;
BEGIN
	FOR r IN SELECT s.n, (SELECT w.description FROM lp.users w WHERE w.login_name = s.email) AS d FROM staff s LOOP
		FOR u IN SELECT v.id, v.description FROM lp.users v WHERE v.description = r.d LOOP
			n := n + 1;
			EXIT;
		END LOOP;
	END LOOP;
	RAISE INFO '% rows', n;
END $$;

-- Written by a statement that scans again: the rows that are meant, and no others
UPDATE staff SET ids = ARRAY[(SELECT u.id FROM lp.users u WHERE u.login_name = staff.email)];
SELECT count(*) FILTER (WHERE ids = ARRAY[id]), count(*) FILTER (WHERE ids = '{NULL}') FROM staff;
UPDATE lp.users u SET nickname = 'again', full_name = 'x' WHERE EXISTS (SELECT FROM lp.users v WHERE v.login_name = u.email AND v.max_chats + u.max_chats = 8 AND v.id % 50 = 4 OFFSET 0);
SELECT count(*), count(*) FILTER (WHERE id % 50 = 4 AND max_chats = 4) FROM lp.users WHERE nickname = 'again';

RESET work_mem;
DROP FUNCTION lp.few();
DROP TABLE staff, here;
\i sql/include/finish.sql

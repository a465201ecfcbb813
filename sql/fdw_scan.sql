-- fdw_scan: reading foreign tables: whatever a query does with their rows, nothing is asked twice, and by whose rights
\set with_tables on
\i sql/include/start.sql
SELECT (lp_create_users('12345678', (SELECT jsonb_agg(person('u' || i, jsonb_build_object('isEnabled', i % 2 = 0, 'maxChats', i % 5))) FROM generate_series(1, 40) i))).status;
SELECT (lp_delete_users('12345678', '{4000000007}')).status;
CREATE FOREIGN TABLE narrow (login_name text, id bigint) SERVER acme OPTIONS (resource 'users');
CREATE TABLE staff (n integer PRIMARY KEY, id bigint, email text, ids bigint[]);
INSERT INTO staff SELECT i, 4000000000 + i, 'u' || i || '@example.com', ARRAY[4000000000 + i, 4000000001 + i] FROM generate_series(1, 60) i;
ANALYZE staff;
SELECT lp.asked() \g /dev/null

-- the demonstration of EXPLAIN ANALYZE
SELECT key, CASE WHEN key IN ('Bytes', 'Remote Time') THEN (value::numeric > 0)::text ELSE value::text END FROM jsonb_each(lp.json_plan('SELECT login_name FROM lp.users WHERE id = ANY (''{4000000001,4000000002,4000000007}'')', 'ANALYZE, COSTS OFF'))
	WHERE key IN ('Requests', 'Listings', 'Bytes', 'Remote Time', 'Remote Filter');
SELECT lp.json_plan('SELECT login_name FROM lp.users', 'ANALYZE, TIMING OFF')->'Remote Time' AS remote_time, lp.json_plan('SELECT login_name FROM lp.users', 'ANALYZE, TIMING OFF')->'Requests' AS requests;
SELECT lp.json_plan('SELECT login_name FROM lp.users LIMIT 0', 'ANALYZE')->'Plans'->0->'Requests' AS requests;
SELECT lp.asked();

-- one scan, one request
SELECT count(*), count(DISTINCT max_chats), min(login_name), bool_or(deleted) FROM lp.users;
SELECT max_chats, count(*) FROM lp.users GROUP BY ROLLUP (max_chats) ORDER BY 1;
SELECT login_name, rank() OVER (ORDER BY max_chats DESC, id) FROM lp.users ORDER BY 2 LIMIT 3;
SELECT login_name FROM lp.users WHERE max_chats = 4 UNION SELECT email FROM staff WHERE n < 3 ORDER BY 1 LIMIT 3;
SELECT login_name FROM lp.users LIMIT 2 OFFSET 3;
SELECT count(*) FROM lp.users WHERE deleted;
SELECT count(*) FROM lp.users WHERE deleted OR NOT deleted;
SELECT count(*) FROM lp.users WHERE NOT is_enabled AND NOT deleted;
WITH u AS MATERIALIZED (SELECT id, login_name FROM lp.users) SELECT count(*) FROM u a JOIN u b USING (id);
SELECT u.tableoid::regclass, (u).id, pg_typeof(u) FROM lp.users u ORDER BY id LIMIT 1;
SELECT n, n IS NOT NULL AS whole, row_to_json(n) FROM narrow n ORDER BY id LIMIT 1;
SELECT array_agg(n ORDER BY n DESC) FILTER (WHERE id < 4000000003) FROM narrow n;
CREATE TABLE copied AS TABLE narrow;
SELECT count(*) FROM copied;
SELECT lp.asked();
DROP TABLE copied;

-- Scanned again: in a subquery for each row, under a nested loop, in a recursion. What has come once is kept.
SELECT count(*), sum(x) FROM (SELECT (SELECT count(*) FROM lp.users u WHERE u.max_chats = s.n) AS x FROM staff s) y;
SELECT lp.asked();
SELECT count(*), sum(x) FROM (SELECT (SELECT count(*) FROM lp.users u JOIN staff t ON t.id = u.id WHERE t.n < s.n) AS x FROM staff s) y;
SELECT lp.asked();
SELECT count(*), sum(x) FROM (SELECT (SELECT count(*) FROM lp.users u JOIN lp.profiles p ON p.id = ANY (u.profile_ids) WHERE u.max_chats < s.n AND p.id > s.n) AS x FROM staff s) y;
SELECT lp.asked();
SELECT count(*) FROM staff s WHERE s.id NOT IN (SELECT id FROM lp.users);
SELECT lp.asked();
SELECT count(*) FROM staff s WHERE s.id < ALL (SELECT id + s.n FROM lp.users) OR s.n > 50;
SELECT lp.asked();
SELECT (SELECT max(max_chats) FROM lp.users) + n FROM staff WHERE n < 3;
SELECT lp.asked();
SELECT count(*) FROM staff s, LATERAL (SELECT * FROM lp.users u WHERE u.login_name > s.email ORDER BY login_name LIMIT 2) x;
SELECT lp.asked();
WITH RECURSIVE chain (id, depth) AS (SELECT 4000000030, 1 UNION ALL SELECT u.id, depth + 1 FROM chain c JOIN lp.users u ON u.id + 5 = c.id) SELECT max(depth), min(id) FROM chain;
SELECT lp.asked();
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET enable_material = off;
SELECT count(*) FROM staff s JOIN lp.users u ON u.login_name = s.email;
SELECT lp.asked();
SELECT count(*) FROM staff s LEFT JOIN (lp.users u JOIN staff t ON t.email = u.login_name) ON u.max_chats + t.n = s.n;
SELECT lp.asked();
SELECT count(*) FROM lp.users a JOIN lp.users b ON a.login_name = b.login_name;
SELECT lp.asked();
-- a subquery with a plan of its own on the inner side
SELECT count(*) FROM staff s LEFT JOIN ((SELECT id FROM narrow OFFSET 0) u JOIN staff t ON t.id = u.id) ON t.n = s.n;
SELECT lp.asked();
RESET enable_hashjoin;
RESET enable_mergejoin;
RESET enable_material;
-- EXISTS takes one row
SELECT EXISTS (SELECT FROM lp.users WHERE max_chats = 2), (SELECT lp.json_plan('SELECT EXISTS (SELECT FROM lp.users)', 'ANALYZE')->'Plans'->0->>'Actual Rows')::numeric::integer AS rows;
SELECT count(*) FROM staff s WHERE EXISTS (SELECT FROM lp.users u WHERE u.max_chats = s.n OFFSET 0);
SELECT lp.asked();

-- Whichever plan, the rows are those that a table here would show. (Deleted users are there when a condition speaks of them.)
CREATE TABLE here AS SELECT id, login_name, max_chats, is_enabled, deleted FROM lp.users WHERE deleted IS NOT NULL;
CREATE FUNCTION same(query text) RETURNS TABLE(rows integer, different_plans text) LANGUAGE plpgsql AS $$
DECLARE
	expected text[];
	found text[];
	method text;
BEGIN
	EXECUTE format('SELECT array_agg(x::text ORDER BY x::text) FROM (%s) x', replace(query, 'USERS', 'here')) INTO expected;
	rows := coalesce(cardinality(expected), 0);
	FOREACH method IN ARRAY '{hashjoin,mergejoin,nestloop}'::text[] LOOP
		SET LOCAL enable_hashjoin = off;
		SET LOCAL enable_mergejoin = off;
		SET LOCAL enable_nestloop = off;
		EXECUTE format('SET LOCAL enable_%s = on', method);
		EXECUTE format('SELECT array_agg(x::text ORDER BY x::text) FROM (%s) x', replace(query, 'USERS', 'lp.users')) INTO found;
		IF found IS DISTINCT FROM expected THEN
			different_plans := concat_ws(', ', different_plans, method);
		END IF;
	END LOOP;
	RETURN NEXT;
END $$;
SELECT query, same.* FROM unnest(ARRAY['SELECT s.n, u.login_name FROM staff s JOIN USERS u ON u.id = s.id AND u.deleted IS NOT NULL', 'SELECT s.n, u.login_name FROM staff s JOIN USERS u ON u.id = s.id AND NOT u.deleted WHERE s.n < 9',
	'SELECT s.n, u.login_name FROM staff s LEFT JOIN USERS u ON u.id = s.id AND NOT u.deleted WHERE s.n < 9', 'SELECT s.n, u.login_name FROM staff s LEFT JOIN USERS u ON u.id = s.id WHERE u.deleted IS NOT FALSE', 'SELECT s.n, u.login_name FROM staff s RIGHT JOIN USERS u ON u.id = s.id + 5 WHERE NOT u.deleted',
	'SELECT s.n, u.login_name FROM staff s FULL JOIN (SELECT * FROM USERS WHERE deleted OR max_chats > 2) u ON u.id = s.id', 'SELECT s.n FROM staff s WHERE s.id IN (SELECT id FROM USERS WHERE NOT deleted)', 'SELECT s.n FROM staff s WHERE s.n < 9 AND EXISTS (SELECT FROM USERS u WHERE u.id = s.id AND u.is_enabled AND NOT u.deleted)',
	'SELECT s.n FROM staff s WHERE NOT EXISTS (SELECT FROM USERS u WHERE u.id = s.id AND NOT u.deleted)', 'SELECT s.n FROM staff s WHERE s.n < 9 AND NOT EXISTS (SELECT FROM USERS u WHERE u.login_name = s.email AND u.deleted)', 'SELECT u.login_name FROM USERS u WHERE NOT u.deleted AND NOT EXISTS (SELECT FROM staff s WHERE s.id = u.id AND s.n > 30)',
	'SELECT a.id, b.id FROM USERS a JOIN USERS b ON b.id = a.id + 1 WHERE NOT a.deleted AND NOT b.deleted', 'SELECT s.n, u.login_name FROM staff s JOIN USERS u ON u.id = ANY (s.ids) AND NOT u.deleted', 'SELECT s.n, u.login_name FROM staff s JOIN USERS u ON u.deleted = (s.n = 3) AND u.max_chats = s.n',
	'SELECT s.n, x.login_name FROM staff s, LATERAL (SELECT u.login_name FROM USERS u WHERE u.id = s.id AND NOT u.deleted OFFSET 0) x', 'SELECT s.n, (SELECT u.login_name FROM USERS u WHERE u.id = s.id AND NOT u.deleted) FROM staff s', 'SELECT u.id, (SELECT count(*) FROM USERS v WHERE v.max_chats = u.max_chats AND v.deleted IS NOT TRUE) FROM USERS u WHERE u.deleted OR u.id < 4000000003',
	'SELECT u.id FROM USERS u JOIN staff s ON s.n = u.max_chats LEFT JOIN USERS v ON v.id = s.id AND v.is_enabled AND NOT v.deleted WHERE NOT u.deleted', 'SELECT id FROM USERS WHERE NOT deleted UNION ALL SELECT id FROM staff', 'SELECT id FROM USERS WHERE NOT deleted EXCEPT SELECT id FROM staff WHERE n < 30',
	'SELECT DISTINCT max_chats FROM USERS WHERE NOT deleted', 'SELECT id FROM USERS WHERE id IN (4000000001, 4000000007, 4000000099) AND deleted IS NOT NULL', 'SELECT id FROM USERS WHERE id = 4000000007 AND NOT deleted']) query, same(query);
DROP FUNCTION same(text);
DROP TABLE here;
SELECT lp.asked() \g /dev/null

-- By ids, again and again: the same ids are asked for once; when it is as many requests as a list would have cost, the list is.
SELECT count(*), count(x) FROM (SELECT (SELECT login_name FROM lp.users u WHERE u.id = 4000000001 + s.n * 0) AS x FROM staff s) y;
SELECT lp.asked();
SELECT n, x FROM (SELECT n, (SELECT login_name FROM lp.users u WHERE u.id = s.id) AS x FROM staff s WHERE n BETWEEN 6 AND 8 ORDER BY n) y;
SELECT lp.asked();
SELECT count(*), count(x), count(*) FILTER (WHERE x = email) FROM (SELECT email, (SELECT login_name FROM lp.users u WHERE u.id = s.id) AS x FROM staff s OFFSET 0) y;
SELECT lp.asked();
SELECT count(*), count(x) FROM (SELECT (SELECT login_name FROM lp.users u WHERE u.id = s.id AND u.deleted IS NOT NULL) AS x FROM staff s) y;
SELECT lp.asked();
-- as the planner is told that there are few rows
CREATE FUNCTION few() RETURNS SETOF staff LANGUAGE sql VOLATILE ROWS 1 AS 'TABLE staff';
SELECT lp.plan('SELECT f.email, u.login_name FROM few() f LEFT JOIN lp.users u ON u.id = f.id');
SELECT count(*), count(u.id) FROM few() f LEFT JOIN lp.users u ON u.id = f.id;
SELECT lp.asked();
SELECT plan->'Requests' AS requests, plan->'Listings' AS listings FROM (SELECT lp.json_plan('SELECT f.email, u.login_name FROM few() f LEFT JOIN lp.users u ON u.id = f.id', 'ANALYZE')->'Plans'->1 AS plan) x;
UPDATE pg_class SET reltuples = 20000 WHERE oid = 'lp.users'::regclass;
SELECT count(*), count(u.id) FROM few() f LEFT JOIN lp.users u ON u.id = f.id;
SELECT count(*), count(u.id) FROM few() f LEFT JOIN lp.users u ON u.id = ANY (f.ids) WHERE f.n < 20;
SELECT count(*), count(u.id) FROM few() f LEFT JOIN lp.users u ON u.id = nullif(f.id, 4000000001) WHERE f.n < 3;
SELECT lp.asked() \g /dev/null
SELECT count(*), count(u.id) FROM few() f LEFT JOIN lp.users u ON u.id = nullif(f.id, 4000000001) WHERE f.n < 3;
SELECT lp.asked();
-- more than 200 at a time are a list, which serves for all that follow
SELECT count(*), count(u.id) FROM few() f, LATERAL (SELECT array_agg(f.id + i) AS ids FROM generate_series(0, 200) i) a LEFT JOIN lp.users u ON u.id = ANY (a.ids) WHERE f.n < 4;
SELECT lp.asked();
UPDATE pg_class SET reltuples = -1 WHERE oid = 'lp.users'::regclass;

-- Prepared statements, with plans for these parameters and for any
PREPARE one (bigint) AS SELECT login_name FROM lp.users WHERE id = $1;
PREPARE several (bigint[]) AS SELECT login_name FROM lp.users WHERE id = ANY ($1) ORDER BY 1;
PREPARE busy (integer, boolean) AS SELECT count(*) FROM lp.users WHERE max_chats = $1 AND is_enabled = $2;
SET plan_cache_mode = force_custom_plan;
SELECT lp.plan('EXECUTE one (4000000001)');
SELECT lp.plan('EXECUTE several (''{4000000003,4000000002}'')');
EXECUTE one (4000000001);
EXECUTE several ('{4000000003,4000000002}');
EXECUTE busy (2, true);
SELECT lp.asked();
SET plan_cache_mode = force_generic_plan;
SELECT lp.plan('EXECUTE one (4000000001)');
SELECT lp.plan('EXECUTE several (''{4000000003,4000000002}'')');
EXECUTE one (4000000002);
EXECUTE one (NULL);
EXECUTE several ('{4000000003,4000000002,NULL}');
EXECUTE several (NULL);
EXECUTE busy (2, true);
EXECUTE busy (3, true);
SELECT lp.asked();
RESET plan_cache_mode;
ALTER FOREIGN TABLE lp.users ALTER COLUMN login_name OPTIONS (ADD attribute 'nickname');
EXECUTE one (4000000002);
ALTER FOREIGN TABLE lp.users ALTER COLUMN login_name OPTIONS (DROP attribute);
EXECUTE one (4000000002);
DEALLOCATE ALL;
SELECT lp.asked() \g /dev/null

-- Cursors: nothing is asked before the first row is wanted, nor for what has come
BEGIN;
DECLARE c CURSOR FOR SELECT login_name FROM narrow;
SELECT lp.asked();
FETCH 2 FROM c;
FETCH 1 FROM c;
MOVE ALL FROM c;
FETCH 1 FROM c;
SELECT lp.asked();
DECLARE s SCROLL CURSOR FOR SELECT login_name FROM narrow;
FETCH 3 FROM s;
FETCH BACKWARD 1 FROM s;
FETCH LAST FROM s;
FETCH FIRST FROM s;
MOVE BACKWARD ALL FROM s;
FETCH 1 FROM s;
SELECT lp.asked();
DECLARE h CURSOR WITH HOLD FOR SELECT login_name FROM narrow ORDER BY id;
DECLARE early CURSOR FOR SELECT login_name FROM narrow;
FETCH 1 FROM early;
CLOSE early;
DECLARE never CURSOR FOR SELECT login_name FROM narrow;
COMMIT;
SELECT lp.asked();
FETCH 2 FROM h;
CLOSE h;
SELECT lp.asked();
-- one that ends with its transaction, or with a savepoint, in the middle
BEGIN;
DECLARE c CURSOR FOR SELECT login_name FROM narrow;
FETCH 1 FROM c;
SAVEPOINT a;
DECLARE d CURSOR FOR SELECT login_name FROM narrow;
FETCH 1 FROM d;
ROLLBACK TO a;
FETCH 1 FROM d; -- ERROR
ROLLBACK TO a;
FETCH 1 FROM c;
ROLLBACK;
SELECT lp.asked();
-- in PL/pgSQL, with an error on the way
DO $$
DECLARE
	r record;
	n integer := 0;
BEGIN
	FOR r IN SELECT u.login_name, s.n FROM narrow u JOIN staff s ON s.id = u.id ORDER BY u.id LOOP
		n := n + 1;
		EXIT WHEN n = 30;
	END LOOP;
	RAISE INFO '% rows', n;
	BEGIN
		FOR r IN SELECT login_name FROM narrow LOOP
			PERFORM 1 / (n - 31);
			n := n + 1;
		END LOOP;
	EXCEPTION WHEN division_by_zero THEN
		RAISE INFO '% at %', SQLERRM, r.login_name;
	END;
	SELECT login_name INTO r FROM narrow;
	RAISE INFO '%', r.login_name;
END $$;
SELECT lp.asked();
-- a request that is slow is cancelled at once
CALL lp.fault('{"method": "GET", "action": "delay", "ms": 30000}');
SET statement_timeout = '100ms';
SELECT count(*) FROM narrow; -- ERROR
\echo :LAST_ERROR_SQLSTATE
RESET statement_timeout;
SELECT count(*) FROM narrow;

-- Views, partitions and locks, with the rows that they have
CREATE VIEW gone WITH (security_barrier) AS SELECT id, login_name, deleted FROM lp.users WHERE deleted;
SELECT * FROM gone;
SELECT * FROM gone WHERE id = 4000000007;
CREATE TABLE people (gone boolean, login_name text, max_chats integer, id bigint) PARTITION BY LIST (max_chats);
CREATE FOREIGN TABLE people_lp (max_chats integer, id bigint, login_name text, gone boolean OPTIONS (attribute 'deleted')) SERVER acme OPTIONS (resource 'users');
ALTER TABLE people ATTACH PARTITION people_lp FOR VALUES IN (0, 1, 2, 3, 4);
CREATE TABLE people_here PARTITION OF people DEFAULT;
INSERT INTO people VALUES (true, 'here@example.com', 9, 9), (false, 'there@example.com', 10, 10);
SELECT tableoid::regclass, count(*) FROM people GROUP BY 1 ORDER BY 1;
SELECT tableoid::regclass, count(*) FROM people WHERE gone GROUP BY 1 ORDER BY 1;
SELECT p.login_name, s.n FROM people p JOIN staff s ON s.id = p.id WHERE s.n = 5;
ANALYZE people;
SELECT count(*) > 20 AS sampled FROM (SELECT unnest(histogram_bounds::text::text[]) FROM pg_stats WHERE tablename = 'people' AND attname = 'login_name' AND inherited) s;
DROP TABLE people;
DROP VIEW gone;
SELECT u.login_name, s.n FROM lp.users u JOIN staff s ON s.id = u.id WHERE s.n = 2 FOR UPDATE;
SELECT u.login_name, s.n FROM lp.users u JOIN staff s ON s.id = u.id WHERE s.n = 2 FOR UPDATE OF s;
UPDATE staff SET email = u.nickname FROM lp.users u WHERE u.id = staff.id AND staff.n < 3 RETURNING staff.n, staff.email, u.max_chats;
DELETE FROM staff USING lp.users u WHERE u.login_name = staff.email AND u.max_chats = 4 RETURNING staff.n;
SELECT lp.asked() \g /dev/null

-- Parallel plans may be around it; a transaction may be read only
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SELECT count(*) FROM staff s JOIN lp.users u ON u.id = s.id;
SELECT count(*) FROM lp.users u JOIN (SELECT email FROM staff GROUP BY email) s ON u.login_name = s.email;
RESET parallel_setup_cost;
RESET parallel_tuple_cost;
RESET min_parallel_table_scan_size;
BEGIN READ ONLY;
SELECT count(*) FROM lp.users;
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE;
SELECT count(*) FROM lp.skills;
COMMIT;

-- By whose rights: those of the user on the table, and of the user's mapping, or PUBLIC's; of a view, the owner's
CREATE ROLE regress_reader;
CREATE ROLE regress_other;
GRANT USAGE ON SCHEMA lp, public TO regress_reader, regress_other;
CREATE FUNCTION try(query text) RETURNS text LANGUAGE sql AS $$ SELECT concat_ws(' | ', state, message, hint) FROM lp.mistake('SELECT * FROM (' || query || ') x') $$;
CREATE VIEW names AS SELECT login_name FROM lp.users;
CREATE FUNCTION names_as_definer() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER AS 'SELECT login_name FROM lp.users';
CREATE FUNCTION names_as_caller() RETURNS SETOF text LANGUAGE sql AS 'SELECT login_name FROM lp.users';
GRANT SELECT ON names TO regress_reader;
SET ROLE regress_reader;
SELECT try('SELECT login_name FROM lp.users');
RESET ROLE;
GRANT SELECT (id, login_name) ON lp.users TO regress_reader;
SET ROLE regress_reader;
SELECT try('SELECT login_name FROM lp.users');
SELECT try('SELECT email FROM lp.users');
SELECT try('SELECT login_name FROM lp.users WHERE false');
EXPLAIN (COSTS OFF) SELECT login_name FROM lp.users WHERE id = 4000000001;
SELECT count(*) FROM names;
SELECT count(*) FROM names_as_definer();
SELECT try('SELECT * FROM names_as_caller()');
RESET ROLE;
CREATE USER MAPPING FOR regress_reader SERVER acme OPTIONS (token 'wrong-token');
CREATE USER MAPPING FOR regress_other SERVER acme OPTIONS (token 'lp-token');
SET ROLE regress_reader;
SELECT try('SELECT login_name FROM lp.users');
SELECT count(*) FROM names;
RESET ROLE;
ALTER USER MAPPING FOR regress_reader SERVER acme OPTIONS (DROP token);
SET ROLE regress_reader;
SELECT try('SELECT login_name FROM lp.users');
RESET ROLE;
DROP USER MAPPING FOR regress_reader SERVER acme;
CREATE USER MAPPING FOR PUBLIC SERVER acme OPTIONS (token 'lp-token');
SET ROLE regress_reader;
-- USAGE on the server is not needed to read a table of it
SELECT count(*) FROM (SELECT login_name FROM lp.users) u;
RESET ROLE;
DROP USER MAPPING FOR PUBLIC SERVER acme;
-- a view of a role that has no credentials; one that asks with the rights of its reader
ALTER VIEW names OWNER TO regress_other;
GRANT SELECT ON lp.users TO regress_other;
DROP USER MAPPING FOR regress_other SERVER acme;
SELECT try('SELECT * FROM names');
ALTER VIEW names SET (security_invoker = true);
SELECT count(*) FROM names;
-- a cursor keeps the role that it was opened by
BEGIN;
GRANT SELECT ON lp.users TO regress_reader;
DECLARE c CURSOR FOR SELECT login_name FROM lp.users;
SET LOCAL ROLE regress_reader;
FETCH 1 FROM c;
COMMIT;
DROP FUNCTION names_as_definer(), names_as_caller(), try(text);
DROP VIEW names;
REVOKE ALL ON SCHEMA lp, public FROM regress_reader, regress_other;
REVOKE ALL ON lp.users FROM regress_reader, regress_other;
DROP ROLE regress_reader, regress_other;

-- Reads leave no record, whatever log_calls says
SELECT count(*) FROM lp_requests WHERE path = 'table';
SET lpusers.log_calls = off;
SELECT count(*) FROM narrow;
RESET lpusers.log_calls;
SELECT count(*) FROM lp_requests WHERE path = 'table';
-- after all this, no more connections are open than may be used at a time
SELECT lp.sim('open')::integer <= 4 AS few;
DROP FOREIGN TABLE narrow;
DROP FUNCTION few();
DROP TABLE staff;
\i sql/include/finish.sql

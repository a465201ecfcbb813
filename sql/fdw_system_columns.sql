-- fdw_system_columns: ctid, xmin and the like of a foreign table are refused, wherever a statement refers to them
\set with_tables on
\set with_people on
\i sql/include/start.sql
\pset tuples_only on
INSERT INTO lp.people SELECT * FROM lp.staff('ann', 1, 5);
CREATE TABLE staff AS SELECT id, login_name FROM lp.users;
CREATE VIEW named AS SELECT ctid, id, login_name FROM lp.users;
CREATE VIEW checked AS SELECT * FROM lp.users WHERE ctid IS NOT NULL WITH CHECK OPTION;
CREATE TABLE people (id bigint, login_name text, site text) PARTITION BY LIST (site);
CREATE TABLE people_here PARTITION OF people FOR VALUES IN ('here');
CREATE FOREIGN TABLE people_lp PARTITION OF people FOR VALUES IN ('lp') SERVER acme OPTIONS (resource 'users');
CREATE TABLE local_parent (id bigint, login_name text);
CREATE FOREIGN TABLE child () INHERITS (local_parent) SERVER acme OPTIONS (resource 'users');
SELECT lp.sim('log', method => 'DELETE');

-- the message
SELECT ctid FROM lp.users; -- ERROR
\echo :LAST_ERROR_SQLSTATE
CREATE FOREIGN TABLE lp.logins (login text OPTIONS (attribute 'loginName')) SERVER acme OPTIONS (resource 'users');
CREATE FOREIGN TABLE lp.numbers (number bigint OPTIONS (attribute 'id')) SERVER acme OPTIONS (resource 'users');
SELECT xmin FROM lp.logins; -- ERROR
SELECT cmax FROM lp.numbers; -- ERROR
SELECT ctid FROM lp.skills; -- ERROR

-- in batches, as PostgreSQL's manual has it, and other habits
WITH delete_batch AS (SELECT l.ctid FROM lp.users l WHERE l.login_name IN ('ann1@example.com', 'ann2@example.com') LIMIT 2)
	DELETE FROM lp.users dl USING delete_batch del WHERE dl.ctid = del.ctid; -- ERROR
SELECT n, state, message FROM unnest(ARRAY[
	$$DELETE FROM lp.users WHERE ctid = ANY (ARRAY(SELECT ctid FROM lp.users WHERE login_name = 'ann1@example.com'))$$,
	$$DELETE FROM lp.users WHERE ctid IN (SELECT ctid FROM lp.users LIMIT 1)$$,
	$$DELETE FROM lp.users u USING (SELECT ctid FROM lp.users LIMIT 1) x WHERE u.ctid = x.ctid$$,
	$$DELETE FROM lp.users a USING lp.users b WHERE a.login_name = b.login_name AND a.ctid < b.ctid$$,
	$$DELETE FROM lp.users WHERE ctid = '(4294967295,0)'$$,
	$$DELETE FROM lp.users WHERE id = 4000000001 RETURNING ctid$$,
	$$DELETE FROM lp.users u USING staff s WHERE s.id = u.id RETURNING s.id, u.xmin$$,
	$$DELETE FROM staff USING lp.users u WHERE u.ctid = staff.ctid$$,
	$$DELETE FROM staff s USING lp.users u WHERE u.id = s.id RETURNING u.ctid$$,
	$$UPDATE lp.users SET nickname = 'x', full_name = 'x' WHERE xmin = '0' AND id = 4000000001$$,
	$$UPDATE lp.users SET nickname = 'x', full_name = 'x' WHERE id = 4000000001 RETURNING xmin$$,
	$$UPDATE lp.users SET nickname = ctid::text, full_name = 'x' WHERE id = 4000000001$$,
	$$UPDATE lp.users u SET nickname = 'x', full_name = 'x' FROM (SELECT ctid FROM lp.users LIMIT 1) x WHERE x.ctid = u.ctid$$,
	$$INSERT INTO lp.users (login_name, full_name, nickname, email, password_sh, is_enabled, max_chats, profile_ids, member_of) SELECT * FROM lp.staff('bob', 1, 1) RETURNING ctid$$,
	$$INSERT INTO lp.users (login_name, full_name, nickname, email, password_sh, is_enabled, max_chats, profile_ids, member_of) SELECT * FROM lp.staff('bob', 1, 1) ON CONFLICT DO NOTHING RETURNING (xmax = 0)$$,
	$$INSERT INTO checked (login_name, full_name, nickname, email, password_sh, is_enabled, max_chats, profile_ids, member_of) SELECT * FROM lp.staff('bob', 1, 1)$$,
	$$UPDATE checked SET nickname = 'x', full_name = 'x' WHERE id = 4000000001$$,
	$$INSERT INTO staff SELECT id, ctid::text FROM lp.users$$
	]) WITH ORDINALITY c (command, n), lp.mistake(command);

-- reading: list, condition, order, group, joins of all kinds, subqueries, set operations, windows, a whole view, locks
SELECT n, state, message FROM unnest(ARRAY[
	$$SELECT u.xmin, id FROM lp.users u$$,
	$$SELECT id FROM lp.users WHERE xmax::text = '0'$$,
	$$SELECT id FROM lp.users ORDER BY ctid$$,
	$$SELECT count(*) FROM lp.users GROUP BY ctid$$,
	$$SELECT max(id) FROM lp.users HAVING count(ctid) > 1$$,
	$$SELECT count(DISTINCT ctid) FROM lp.users$$,
	$$SELECT row_number() OVER (PARTITION BY ctid) FROM lp.users$$,
	$$SELECT s.id FROM staff s JOIN lp.users u ON u.ctid = s.ctid$$,
	$$SELECT s.id FROM staff s LEFT JOIN lp.users u ON u.id = s.id AND u.ctid < s.ctid$$,
	$$SELECT s.id FROM staff s FULL JOIN lp.users u ON u.id = s.id WHERE u.ctid IS NULL$$,
	$$SELECT (SELECT max(ctid) FROM lp.users u WHERE u.id = s.id) FROM staff s$$,
	$$SELECT id FROM lp.users u WHERE EXISTS (SELECT FROM staff s WHERE s.ctid = u.ctid)$$,
	$$SELECT id FROM lp.users u WHERE EXISTS (SELECT FROM staff s WHERE s.ctid = u.ctid OFFSET 0)$$,
	$$SELECT id FROM lp.users u, LATERAL (SELECT s.id FROM staff s WHERE s.ctid = u.ctid OFFSET 0) x (n)$$,
	$$SELECT id FROM lp.users u, LATERAL (VALUES (u.ctid)) x (n) WHERE n IS NOT NULL$$,
	$$SELECT id FROM lp.users u, LATERAL unnest(ARRAY[u.ctid]) x$$,
	$$SELECT ctid FROM staff UNION ALL SELECT ctid FROM lp.users$$,
	$$SELECT ctid FROM lp.users EXCEPT SELECT ctid FROM staff$$,
	$$SELECT ctid FROM named$$,
	$$SELECT * FROM named$$,
	$$WITH u AS MATERIALIZED (SELECT ctid FROM lp.users) SELECT * FROM u$$,
	$$SELECT ctid FROM lp.users FOR UPDATE$$,
	$$EXPLAIN SELECT ctid FROM lp.users$$,
	$$EXPLAIN DELETE FROM lp.users WHERE ctid IS NOT NULL$$,
	$$COPY (SELECT ctid FROM lp.users) TO PROGRAM 'cat >/dev/null'$$,
	$$CREATE TABLE copied AS SELECT ctid AS place FROM lp.users$$,
	$$DECLARE c CURSOR WITH HOLD FOR SELECT ctid FROM lp.users$$,
	$$DO 'BEGIN PERFORM ctid FROM lp.users; END'$$
	]) WITH ORDINALITY c (command, n), lp.mistake(command);
PREPARE places (bigint) AS SELECT ctid FROM lp.users WHERE id = $1;
SET plan_cache_mode = force_generic_plan;
EXECUTE places (4000000001); -- ERROR
RESET plan_cache_mode;
EXECUTE places (4000000001); -- ERROR
DEALLOCATE places;

-- partitions, children, parts of a union: by the names of their parents; rows that are routed
SELECT n, state, message FROM unnest(ARRAY[
	$$SELECT ctid FROM people$$,
	$$DELETE FROM people WHERE ctid IN (SELECT ctid FROM people LIMIT 1)$$,
	$$UPDATE people SET login_name = login_name WHERE site = 'lp' RETURNING ctid$$,
	$$SELECT ctid FROM local_parent$$,
	$$DELETE FROM local_parent WHERE ctid IS NOT NULL$$,
	$$SELECT place FROM (SELECT ctid AS place FROM lp.users UNION ALL SELECT ctid FROM staff) x WHERE place IS NOT NULL$$,
	$$INSERT INTO people VALUES (NULL, 'bob@example.com', 'lp') RETURNING ctid$$,
	$$INSERT INTO people VALUES (NULL, 'bob@example.com', 'lp') RETURNING xmin, login_name$$
	]) WITH ORDINALITY c (command, n), lp.mistake(command);
-- nothing was sent: no one was changed, created or deleted
SELECT lp.requests();
SELECT count(*), count(*) FILTER (WHERE deleted) AS deleted, count(*) FILTER (WHERE u->>'nickname' ~ '^ann') AS as_before FROM lp.account;

-- What is no system column of ours: tableoid, those of other tables, of other partitions; whole rows; locks that need a ctid.
SELECT DISTINCT tableoid::regclass FROM lp.users;
SELECT u.tableoid::regclass, s.ctid FROM lp.users u JOIN staff s ON s.id = u.id WHERE s.id = 4000000001;
INSERT INTO people VALUES (1, 'here', 'here') RETURNING ctid, tableoid::regclass;
SELECT ctid FROM people WHERE site = 'here';
SELECT login_name FROM people WHERE login_name = 'here' FOR UPDATE;
SELECT x.* FROM people x WHERE login_name = 'ann1@example.com' ORDER BY x.id FOR SHARE;
SELECT login_name FROM local_parent WHERE login_name = 'ann1@example.com' FOR UPDATE;
UPDATE staff SET login_name = 'x' FROM people p WHERE p.login_name = staff.login_name AND p.login_name ~ '^ann1' RETURNING staff.id, p.tableoid::regclass;
DELETE FROM staff USING local_parent p WHERE p.login_name = staff.login_name AND p.login_name ~ '^ann2' RETURNING staff.id;
DELETE FROM people WHERE login_name = 'here' RETURNING tableoid::regclass;
SELECT count(*) FROM (SELECT id, login_name FROM named) x;
SELECT count(*) FROM lp.account WHERE NOT deleted;
\pset tuples_only off
DROP TABLE people, local_parent, staff CASCADE;
DROP VIEW named, checked;
\i sql/include/finish.sql

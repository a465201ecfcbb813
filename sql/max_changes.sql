-- max_changes: no command updates or deletes more users than lpusers.max_changes, unless it is told to
\set with_tables on
\set with_people on
\i sql/include/start.sql
ALTER SERVER acme OPTIONS (ADD batch_size '2', ADD max_connections '1');
\pset tuples_only on
SHOW lpusers.max_changes;
SELECT context, boot_val, min_val, max_val FROM pg_settings WHERE name = 'lpusers.max_changes';
SET lpusers.max_changes = -1; -- ERROR
INSERT INTO lp.people SELECT * FROM lp.staff('ann', 1, 12);
CREATE VIEW lp.state AS SELECT count(*) AS users, count(*) FILTER (WHERE deleted) AS deleted, count(*) FILTER (WHERE u->>'nickname' = 'x') AS x FROM lp.account;
CREATE PROCEDURE lp.undo() LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('lpusers.max_changes', '0', true);
	UPDATE lp.users SET nickname = 'a', full_name = 'x' WHERE nickname = 'x';
	PERFORM lp.sim('log', method => 'DELETE');
END $$;
CALL lp.undo();

-- Calls: each counts its own users.
CREATE FUNCTION lp.ids(n integer) RETURNS bigint[] LANGUAGE sql AS 'SELECT array_agg(5000000000 + i) FROM generate_series(1, n) i';
SELECT * FROM lp_delete_users('12345678', lp.ids(101)); -- ERROR
\echo :LAST_ERROR_SQLSTATE
SELECT status FROM lp_delete_users('12345678', lp.ids(100));
SELECT * FROM lp_update_users('12345678', (SELECT jsonb_agg(person('x' || i, jsonb_build_object('id', 5000000000 + i)) - 'passwordSh') FROM generate_series(1, 101) i)); -- ERROR
\echo :LAST_ERROR_SQLSTATE
SET lpusers.max_changes = 1;
SELECT state, message, detail FROM lp.mistake($$SELECT lp_delete_users('12345678', '{4000000001, 4000000002}')$$);
SELECT i, status FROM generate_series(1, 3) i, LATERAL lp_delete_users('12345678', ARRAY[5000000000 + i]);
-- what creates users is not concerned, nor what resets a password
SELECT status FROM lp_create_users('12345678', people('bob', 3));
SELECT status FROM lp_reset_password('12345678', 4000000001, 'Other-5678');
SET lpusers.max_changes = 0;
SELECT status FROM lp_delete_users('12345678', lp.ids(201));
RESET lpusers.max_changes;
SELECT lp.requests();

-- Foreign tables: what is too much is refused before anything is sent; up to the limit all goes in batches.
SET lpusers.max_changes = 5;
UPDATE lp.users SET nickname = 'x', full_name = 'x'; -- ERROR
\echo :LAST_ERROR_SQLSTATE
DELETE FROM lp.users; -- ERROR
\echo :LAST_ERROR_SQLSTATE
DELETE FROM lp.users WHERE id <= 4000000006; -- ERROR
SELECT lp.requests();
TABLE lp.state;
UPDATE lp.users SET nickname = 'x', full_name = 'x' WHERE id <= 4000000005;
SELECT line, count(*) FROM lp.requests() line GROUP BY 1 ORDER BY 1;
TABLE lp.state;
CALL lp.undo();
-- a row that a join brings twice is one user
UPDATE lp.users u SET nickname = 'x', full_name = 'x' FROM generate_series(1, 3) i WHERE u.id <= 4000000005;
TABLE lp.state;
CALL lp.undo();
-- the parts of a query count together, statements each for themselves
WITH a AS (UPDATE lp.users SET nickname = 'x', full_name = 'x' WHERE id <= 4000000004), b AS (UPDATE lp.users SET nickname = 'x', full_name = 'x' WHERE id BETWEEN 4000000005 AND 4000000008) SELECT 'main query'; -- ERROR
TABLE lp.state;
CALL lp.undo();
-- plans that are kept have the limit of the statement
PREPARE change (bigint) AS UPDATE lp.users SET nickname = 'x', full_name = 'x' WHERE id <= $1;
EXECUTE change (4000000006); -- ERROR
SET lpusers.max_changes = 6;
EXECUTE change (4000000006);
TABLE lp.state;
DEALLOCATE change;
SET lpusers.max_changes = 5;
CALL lp.undo();
-- EXPLAIN alone has nothing to refuse
EXPLAIN (COSTS OFF) DELETE FROM lp.users;
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) DELETE FROM lp.users; -- ERROR
-- the setting of a function
CREATE FUNCTION lp.change_all() RETURNS void LANGUAGE sql SET lpusers.max_changes = 0 AS $$UPDATE lp.users SET nickname = 'x', full_name = 'x'$$;
SELECT lp.change_all();
SHOW lpusers.max_changes;
TABLE lp.state;
CALL lp.undo();

-- With RETURNING, row triggers, a check option or an AFTER trigger of the statement each row goes as it comes, up to the limit.
SELECT state, message, detail FROM lp.mistake($$UPDATE lp.users SET nickname = 'x', full_name = 'x' WHERE id <= 4000000006 RETURNING id$$);
SELECT line, count(*) FROM lp.requests() line GROUP BY 1 ORDER BY 1;
TABLE lp.state;
CALL lp.undo();
SELECT state, message, detail FROM lp.mistake($$DELETE FROM lp.users WHERE login_name ~ '^bob' OR id > 4000000009 RETURNING id$$);
TABLE lp.state;
SELECT lp.sim('log', method => 'DELETE');
UPDATE lp.users SET nickname = 'x', full_name = 'x' WHERE id <= 4000000005 RETURNING id;
CALL lp.undo();
CREATE FUNCTION lp.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER after_row AFTER UPDATE ON lp.users FOR EACH ROW EXECUTE FUNCTION lp.nothing();
SELECT state, message, detail FROM lp.mistake($$UPDATE lp.users SET nickname = 'x', full_name = 'x'$$);
DROP TRIGGER after_row ON lp.users;
CALL lp.undo();
CREATE VIEW lp.checked AS SELECT * FROM lp.users WHERE NOT deleted WITH CHECK OPTION;
SELECT state, message, detail FROM lp.mistake($$UPDATE lp.checked SET nickname = 'x', full_name = 'x'$$);
DROP VIEW lp.checked;
CALL lp.undo();
CREATE TRIGGER after_statement AFTER UPDATE ON lp.users FOR EACH STATEMENT EXECUTE FUNCTION lp.nothing();
SELECT state, message, detail FROM lp.mistake($$UPDATE lp.users SET nickname = 'x', full_name = 'x'$$);
DROP TRIGGER after_statement ON lp.users;
CALL lp.undo();
SET lpusers.max_changes = 1;
SELECT state, message, detail FROM lp.mistake($$UPDATE lp.users SET nickname = 'x', full_name = 'x' RETURNING id$$);
CALL lp.undo();

-- The partitions of a table are counted together.
CREATE TABLE sites (id bigint, login_name text, nickname text, full_name text, site text) PARTITION BY LIST (site);
CREATE FOREIGN TABLE site_a PARTITION OF sites FOR VALUES IN ('a') SERVER acme OPTIONS (resource 'users');
CREATE FOREIGN TABLE site_b PARTITION OF sites FOR VALUES IN ('b') SERVER acme OPTIONS (resource 'users');
CREATE TABLE site_c PARTITION OF sites FOR VALUES IN ('c');
INSERT INTO sites SELECT 4000000000, 'c' || i, 'c', 'c', 'c' FROM generate_series(1, 10) i;
SET lpusers.max_changes = 5;
UPDATE sites SET nickname = 'x', full_name = 'x' WHERE id <= 4000000003; -- ERROR
TABLE lp.state;
SELECT lp.sim('log', method => 'DELETE');
UPDATE sites SET nickname = 'x', full_name = 'x' WHERE id <= 4000000002 AND tableoid <> 'site_b'::regclass;
SELECT count(*) FROM sites WHERE nickname = 'x' AND tableoid = 'site_c'::regclass;
TABLE lp.state;
DROP TABLE sites;

-- 0: any number, in batches as they come; any limit may be larger than a batch
CALL lp.undo();
SET lpusers.max_changes = 0;
UPDATE lp.users SET nickname = 'x', full_name = 'x' WHERE id <= 4000000008 AND NOT deleted;
SELECT line, count(*) FROM lp.requests() line GROUP BY 1 ORDER BY 1;
SET lpusers.max_changes = 1000;
INSERT INTO lp.people SELECT * FROM lp.staff('cid', 1, 25);
SELECT plan->'Users' AS users, plan->'Batch Size' AS size FROM (SELECT lp.json_plan($$DELETE FROM lp.users WHERE login_name ~ '^cid'$$, 'ANALYZE') AS plan) x;
SELECT lp.requests();
-- a user whom the account refuses in a later batch, one who is gone already
INSERT INTO lp.people SELECT * FROM lp.staff('dan', 1, 6);
SELECT lp.sim('log', method => 'DELETE');
CALL lp.fault('{"method": "PUT", "login": "dan5@example.com", "action": "status", "status": 400, "times": 2}');
SELECT state, message, detail FROM lp.mistake($$UPDATE lp.users SET nickname = 'x', full_name = 'x' WHERE login_name ~ '^dan'$$);
SELECT lp.sim('faults', method => 'DELETE') \g /dev/null
SELECT count(*) FROM lp.account WHERE login ~ '^dan' AND u->>'nickname' = 'x';
\pset tuples_only off
RESET lpusers.max_changes;
\i sql/include/finish.sql

-- sync_run: CALL lp_sync(): what is within the limits is applied, the rest waits; what is held or fails is counted; marks
\set with_sync on
\i sql/include/start.sql
CREATE VIEW state AS SELECT sync, state, why, linked, differing, waiting, blocked FROM lp_syncs;
SELECT count(*) FROM lp_sync_define('staff', '12345678', 'hr.people', 'key', limits => '{"create": 5, "adopt": 1}');
SELECT hr.join('p' || n) FROM generate_series(1, 5) n;
CALL lp_sync('staff');
CALL lp_deliver();
CALL lp_sync('staff');
SELECT * FROM state;
-- over the limit: the class waits as a plan that is there to be confirmed, the rest is applied
SELECT status FROM lp_create_users('12345678', person('known'));
SELECT hr.join('late1'), hr.join('known', '{"login": "known@example.com", "email": "known@example.com"}');
CALL lp_sync('staff');
SELECT state, action, users, "limit", over, reason FROM lp_sync_plans WHERE plan = (SELECT max(plan) FROM lp_sync_plans);
SELECT * FROM state;
SELECT action, queued, held FROM lp_sync_apply((SELECT max(plan) FROM lp_sync_plans), '{"create": 1}');
CALL lp_deliver();
CALL lp_sync('staff');
-- not in a transaction block, not for all to call, not where nothing can be written
BEGIN;
CALL lp_sync('staff'); -- ERROR
ROLLBACK;
CREATE FUNCTION hr.inside() RETURNS void LANGUAGE plpgsql AS $$ BEGIN CALL lp_sync('staff'); END $$;
SELECT hr.inside(); -- ERROR
CALL lp_sync('nothing'); -- ERROR
CREATE ROLE regress_clerk;
SET ROLE regress_clerk;
CALL lp_sync('staff'); -- ERROR
RESET ROLE;
GRANT EXECUTE ON PROCEDURE lp_sync TO regress_clerk;
SET ROLE regress_clerk;
-- (the name of the superuser differs)
\set VERBOSITY terse
CALL lp_sync('staff'); -- ERROR
\set VERBOSITY default
CALL lp_sync();
RESET ROLE;
SELECT current_user = session_user AS myself;
SELECT failures FROM _lp_sync;

-- held and failed runs are written down, the error is raised, and the third in a row quarantines
DELETE FROM hr.staff WHERE key IN ('p1', 'p2');
CALL lp_sync('staff');
SELECT * FROM state;
-- a plan that is held is not applied by a further run
ALTER VIEW hr.people RENAME COLUMN key TO number;
CALL lp_sync('staff'); -- ERROR
SELECT sync, state, why FROM state;
CALL lp_sync('staff'); -- ERROR
SELECT sync, state, why FROM state;
ALTER VIEW hr.people RENAME COLUMN number TO key;
CALL lp_sync('staff'); -- ERROR
SELECT count(*) FROM lp_requests WHERE state = 'pending';
SELECT lp_sync_resume('staff');
SELECT hr.join('p1'), hr.join('p2');
CALL lp_sync('staff');
SELECT * FROM state;
-- a view that was dropped and is made anew is another one, until the sync is defined again; so is the server
SELECT pg_get_viewdef('hr.people') AS query \gset
SELECT lp_sync_plan('staff') AS plan \gset
DROP VIEW hr.people;
CREATE VIEW hr.people AS :query
SELECT lp_sync_diff('staff'); -- ERROR
SELECT lp_sync_plan('staff'); -- ERROR
SELECT lp_sync_apply(:plan); -- ERROR
CALL lp_sync('staff'); -- ERROR
SELECT sync, state, why FROM state;
SELECT count(*) FROM lp_sync_define('staff', '12345678', 'hr.people', 'key', limits => '{"create": 5, "adopt": 1}');
CALL lp_sync('staff');
SELECT sync, state, why FROM state;
BEGIN;
SET LOCAL client_min_messages = warning;
DROP SERVER acme CASCADE;
SELECT * FROM attempt($$SELECT lp_sync_diff('staff')$$); -- ERROR
CREATE SERVER acme FOREIGN DATA WRAPPER lpusers OPTIONS (account '12345678', base_url 'http://127.0.0.1:1');
CREATE USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (token 'lp-token');
SELECT * FROM attempt($$SELECT lp_sync_diff('staff')$$); -- ERROR
ROLLBACK;
-- of all syncs one that fails does not stop the others
CREATE VIEW hr.raising AS SELECT key, login AS login_name, (1 / (length(key) * 0))::text AS full_name, key AS employee_id FROM hr.staff;
SELECT count(*) FROM lp_sync_define('a_first', '12345678', 'hr.raising', 'key');
CALL lp_sync(); -- ERROR
SELECT sync, state, why FROM state ORDER BY sync;
SELECT current_user = session_user AS myself;
SELECT lp_sync_drop('a_first');

-- Watched tables: each statement marks its keys, before and after; a run looks at these and removes exactly their marks.
SELECT lp_sync_watch('hr.staff', 'staff', 'keyy'); -- ERROR
SELECT lp_sync_watch('hr.staff', 'nothing', 'key'); -- ERROR
SELECT lp_sync_watch('hr.people', 'staff', 'key'); -- ERROR
SELECT lp_sync_watch(NULL, 'staff', 'key'); -- ERROR
SELECT lp_sync_watch('hr.staff', 'staff', 'key, nick'); -- ERROR
SELECT lp_sync_watch('hr.staff', 'staff', 'key); SELECT (nick'); -- ERROR
SELECT lp_sync_watch('hr.staff', 'staff', 'max(key)'); -- ERROR
SELECT lp_sync_watch('hr.staff', 'staff', 'staff::text'); -- ERROR
SELECT lp_sync_watch('hr.staff', 'staff', 'ctid'); -- ERROR
SELECT lp_sync_watch('hr.staff', 'staff', 'staff.key');
SELECT lp_sync_watch('hr.staff', 'staff', 'key'); -- ERROR
SELECT relation, alias, columns, types, expression FROM _lp_sync_watch;
CREATE VIEW marks AS SELECT coalesce('waits: ' || source_key, c.row::text, changed::text) AS mark, count(*) FROM _lp_sync_mark
	LEFT JOIN LATERAL jsonb_array_elements(CASE jsonb_typeof(changed) WHEN 'array' THEN changed END) c (row) ON true GROUP BY 1 ORDER BY 1;
SELECT hr.join('w1'), hr.join('w2');
SELECT * FROM marks;
UPDATE hr.staff SET chats = 4 WHERE key = 'w1';
UPDATE hr.staff SET key = 'w3', login = 'w3@x.example', email = 'w3@x.example' WHERE key = 'w2';
DELETE FROM hr.staff WHERE key = 'p5';
UPDATE hr.staff SET chats = 4 WHERE false;
SELECT * FROM marks;
INSERT INTO hr.staff (key) VALUES (NULL);
DELETE FROM hr.staff WHERE key IS NULL;
SELECT * FROM marks;
CALL lp_sync('staff', watched => true);
SELECT action, source_key FROM lp_sync_changes WHERE plan = (SELECT max(plan) FROM lp_sync_changes) GROUP BY 1, 2 ORDER BY 2;
SELECT * FROM marks;
-- nothing is marked: no plan, no request
SELECT max(id) AS plan FROM _lp_sync_plan \gset
CALL lp_sync('staff', true);
SELECT max(id) = :plan AS same FROM _lp_sync_plan;
-- a statement without rows marks nothing, TRUNCATE neither; a rollback takes marks back
BEGIN;
UPDATE hr.staff SET chats = 9;
SELECT sum(count) > 5 AS marked FROM marks;
ROLLBACK;
BEGIN;
TRUNCATE hr.staff;
SELECT * FROM marks;
ROLLBACK;
-- the role that changes the table needs no right on the sync
GRANT USAGE ON SCHEMA hr TO regress_clerk;
GRANT SELECT, UPDATE ON hr.staff TO regress_clerk;
SET ROLE regress_clerk;
UPDATE hr.staff SET chats = 6 WHERE key = 'p3';
SELECT lp_sync_watch('hr.staff', 'staff', 'key'); -- ERROR
RESET ROLE;
SELECT * FROM marks;
-- a full run removes what it saw, too
CALL lp_sync('staff');
SELECT * FROM marks;
SELECT lp_sync_unwatch('hr.staff');
UPDATE hr.staff SET chats = 7 WHERE key = 'p3';
SELECT * FROM marks;
SELECT lp_sync_unwatch('hr.staff');
-- the change of a user who has an unfinished request is looked at after that, and till then nothing is asked
SELECT count(*) FROM lp_sync_watch('hr.staff', 'staff', 'key');
DELETE FROM _lp_sync_mark;
CALL lp_deliver();
UPDATE hr.staff SET chats = 8 WHERE key = 'p3';
CALL lp_sync('staff', true);
UPDATE hr.staff SET chats = 9 WHERE key = 'p3';
CALL lp_sync('staff', true);
SELECT * FROM marks;
CALL lp_sync('staff', true);
SELECT * FROM marks;
CALL lp_deliver();
CALL lp_sync('staff', true);
SELECT * FROM marks;
SELECT attribute, old, new FROM lp_sync_changes WHERE plan = (SELECT max(plan) FROM lp_sync_changes) AND source_key = 'p3';
CALL lp_deliver();
-- The statements of others do not fail for the sync, whatever becomes of the table: then a run looks at all keys, and says why.
ALTER TABLE hr.staff RENAME COLUMN key TO number;
UPDATE hr.staff SET chats = 7 WHERE number = 'p3';
SELECT * FROM marks;
CALL lp_sync('staff', true);
SELECT * FROM marks;
SELECT sync, why FROM state;
SELECT attribute, old, new FROM lp_sync_changes WHERE plan = (SELECT max(plan) FROM lp_sync_changes) AND source_key = 'p3';
CALL lp_deliver();
CALL lp_sync('staff');
SELECT sync, why FROM state;
ALTER TABLE hr.staff RENAME COLUMN number TO key;
ALTER TABLE hr.staff RENAME TO people_of_hr;
UPDATE hr.people_of_hr SET chats = 6 WHERE key = 'p3';
ALTER TABLE hr.people_of_hr RENAME TO staff;
SELECT * FROM marks;
CALL lp_sync('staff', true);
CALL lp_deliver();
UPDATE hr.staff SET key = key || repeat('x', 2000) WHERE key = 'late1';
SELECT * FROM marks;
UPDATE hr.staff SET key = 'late1' WHERE key LIKE 'late1%';
SELECT lp_sync_unwatch('hr.staff') IS NOT NULL AS dropped;
CALL lp_sync('staff', true);
SELECT * FROM marks;
-- an expression is evaluated by the run, as the sync's owner, and found by its names where it was written
CREATE TABLE hr.skills (person int, skill text);
CREATE FUNCTION hr.key_of(person int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'evaluated'; RETURN 'p' || 12 / person; END $$;
SET search_path = hr, public;
SELECT count(*) FROM lp_sync_watch('skills', 'staff', 'key_of(person)');
RESET search_path;
SELECT columns, types, expression FROM _lp_sync_watch;
INSERT INTO hr.skills VALUES (4, 'x'), (4, 'y'), (3, 'z');
SELECT * FROM marks;
CALL lp_sync('staff', true);
INSERT INTO hr.skills VALUES (0, 'x');
CALL lp_sync('staff', true);
SELECT sync, why FROM state;
INSERT INTO hr.skills VALUES (6, 'x');
DROP FUNCTION hr.key_of;
CALL lp_sync('staff', true);
SELECT sync, state, why FROM state;
SELECT lp_sync_unwatch('hr.skills') IS NOT NULL AS dropped;
SELECT count(*) FROM lp_sync_watch('hr.skills', 'staff', '(SELECT s.key FROM hr.staff s WHERE s.key = ''p'' || skills.person)');
UPDATE hr.skills SET skill = 'a' WHERE person = 3;
CALL lp_sync('staff', true);
-- A trigger of one's own marks nothing: neither of a table that is not watched, nor what is not a row of one that is.
GRANT CREATE ON SCHEMA hr TO regress_clerk;
GRANT TRIGGER, INSERT, DELETE ON hr.skills TO regress_clerk;
SELECT id AS watch FROM _lp_sync_watch \gset
SET ROLE regress_clerk;
CREATE TABLE hr.mine (person int, key text);
CREATE TRIGGER mine AFTER INSERT ON hr.mine REFERENCING NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION _lp_sync_mark_trigger(:watch);
INSERT INTO hr.mine VALUES (1, 'p1'), (2, 'p2');
CREATE TRIGGER others AFTER INSERT ON hr.skills REFERENCING NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION _lp_sync_mark_trigger(99);
CREATE TRIGGER again AFTER INSERT ON hr.skills REFERENCING NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION _lp_sync_mark_trigger(:watch);
CREATE TRIGGER no_rows AFTER INSERT ON hr.skills FOR EACH STATEMENT EXECUTE FUNCTION _lp_sync_mark_trigger(:watch);
INSERT INTO hr.skills VALUES (2, 'x');
RESET ROLE;
SELECT * FROM marks;
DROP TABLE hr.mine, hr.skills;
CALL lp_sync('staff', true);
DELETE FROM _lp_sync_watch;
-- a partitioned table, and what is written to a partition by its name
CREATE TABLE hr.parts (key text, n int) PARTITION BY LIST (n);
CREATE TABLE hr.part1 PARTITION OF hr.parts FOR VALUES IN (1);
SELECT count(*) FROM lp_sync_watch('hr.parts', 'staff', 'key');
INSERT INTO hr.parts VALUES ('through the root', 1);
INSERT INTO hr.part1 VALUES ('by name', 1);
SELECT * FROM marks;
SELECT count(*) FROM lp_sync_watch('hr.part1', 'staff', 'key');
INSERT INTO hr.part1 VALUES ('by name', 1);
INSERT INTO hr.parts VALUES ('through the root', 1);
SELECT * FROM marks;
-- the sync is gone: the statements of others go on
SELECT lp_sync_drop('staff');
INSERT INTO hr.parts VALUES ('x', 1);
SELECT * FROM marks;
SELECT _lp_sync_mark_trigger(); -- ERROR
CREATE TRIGGER wrong AFTER INSERT ON hr.staff FOR EACH ROW EXECUTE FUNCTION _lp_sync_mark_trigger('1');
INSERT INTO hr.staff (key) VALUES ('x'); -- ERROR
DROP TRIGGER wrong ON hr.staff;
CREATE TRIGGER wrong AFTER INSERT ON hr.staff FOR EACH STATEMENT EXECUTE FUNCTION _lp_sync_mark_trigger('1', 'key');
INSERT INTO hr.staff (key) VALUES ('x'); -- ERROR

DROP VIEW state, marks;
DROP OWNED BY regress_clerk;
DROP ROLE regress_clerk;
\i sql/include/finish.sql

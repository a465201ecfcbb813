-- trigger_partitions: a user for each row that is inserted into a partitioned table, and none for a row that moves
\set with_queue on
\i sql/include/start.sql
CREATE ROLE regress_hr;
CREATE ROLE regress_other;
CREATE SCHEMA hr AUTHORIZATION regress_hr;
GRANT USAGE ON FOREIGN SERVER acme TO regress_hr;
CREATE USER MAPPING FOR regress_hr SERVER acme OPTIONS (token 'lp-token');
GRANT EXECUTE ON FUNCTION lp_create_users_trigger(), lp_enqueue_rows(regclass, text, text) TO regress_hr;
CREATE FUNCTION base(more jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql AS $$
	SELECT '{"loginName": "login || ''@example.com''", "fullName": "login", "nickname": "login", "email": "login || ''@example.com''", "passwordSh": "''Start-1234''", "isEnabled": true,
		"maxChats": 3, "profileIds": "ARRAY[1002]", "memberOf": 2001}'::jsonb || more $$;
CREATE VIEW seen AS SELECT login_name, state, error, source_table, source_key, send_as FROM lp_requests ORDER BY id;
GRANT SELECT ON seen TO regress_hr;
SET ROLE regress_hr;
CREATE TABLE hr.staff (id integer, login text, status text, PRIMARY KEY (id, status)) PARTITION BY LIST (status);
CREATE TABLE hr.staff_active PARTITION OF hr.staff FOR VALUES IN ('active');
CREATE TABLE hr.staff_left PARTITION OF hr.staff FOR VALUES IN ('left') PARTITION BY RANGE (id);
CREATE TABLE hr.staff_left_1 PARTITION OF hr.staff_left FOR VALUES FROM (0) TO (1000);
SELECT count(*) FROM lp_attach_trigger('hr.staff', '12345678', base());
SELECT tgrelid::regclass AS "table", tgname, tgtype & 1 AS by_row FROM pg_trigger WHERE tgfoid = 'lp_create_users_trigger()'::regprocedure;

-- A row that moves is not new.
INSERT INTO hr.staff VALUES (1, 'pm1', 'active'), (2, 'pm2', 'active'), (3, 'pm3', 'left');
UPDATE hr.staff SET status = 'left';
UPDATE hr.staff SET status = 'active', login = login || 'x' WHERE id = 3;
SELECT * FROM seen;
-- COPY, ON CONFLICT, and rows of all levels
COPY hr.staff FROM stdin;
4	copy4	active
5	copy5	left
\.
INSERT INTO hr.staff VALUES (4, 'copy4', 'active'), (6, 'conf6', 'active') ON CONFLICT (id, status) DO UPDATE SET login = excluded.login || '!';
SELECT * FROM seen OFFSET 3;
RESET ROLE;
SELECT forget();
SET ROLE regress_hr;
-- MERGE shows moved rows as inserted: then all that it inserts is held
CREATE TABLE hr.feed (id integer, status text);
INSERT INTO hr.feed VALUES (4, 'left'), (7, 'active');
MERGE INTO hr.staff s USING hr.feed f ON s.id = f.id WHEN MATCHED THEN UPDATE SET status = f.status WHEN NOT MATCHED THEN INSERT VALUES (f.id, 'merge' || f.id, f.status);
SELECT login_name, state, reason FROM lp_results ORDER BY id;
-- ... and mode=sync refuses it
BEGIN;
SELECT count(*) FROM lp_detach_trigger('hr.staff');
SELECT count(*) FROM lp_attach_trigger('hr.staff', '12345678', base(), mode => 'sync');
MERGE INTO hr.staff s USING (VALUES (4, 'active'), (9, 'active')) f (id, status) ON s.id = f.id WHEN MATCHED THEN UPDATE SET status = f.status WHEN NOT MATCHED THEN INSERT VALUES (f.id, 'merge' || f.id, f.status); -- ERROR
ROLLBACK;
-- ... not if nothing moved, also if rows are updated, deleted or had moved before
UPDATE hr.feed SET id = id + 1;
DELETE FROM hr.feed WHERE id = 5;
INSERT INTO hr.feed VALUES (6, 'active'), (2, 'gone');
BEGIN;
UPDATE hr.staff SET status = 'active' WHERE id = 1;
DELETE FROM hr.staff WHERE id = 5;
MERGE INTO hr.staff s USING hr.feed f ON s.id = f.id WHEN MATCHED AND f.status = 'gone' THEN DELETE WHEN MATCHED THEN UPDATE SET login = s.login || '?' WHEN NOT MATCHED THEN INSERT VALUES (f.id, 'merge' || f.id, f.status);
INSERT INTO hr.staff VALUES (10, 'ins10', 'active');
COMMIT;
-- ... also in a function, in a subtransaction, in a transaction that moved rows before
CREATE FUNCTION hr.feed_in(integer, text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	MERGE INTO hr.staff s USING (SELECT i AS id FROM generate_series($1, $1 + 10, 10) i) f ON s.id = f.id WHEN MATCHED THEN UPDATE SET status = $2 WHEN NOT MATCHED THEN INSERT VALUES (f.id, 'merge' || f.id, $2);
EXCEPTION WHEN division_by_zero THEN NULL;
END $$;
BEGIN;
SELECT hr.feed_in(6, 'left');
SELECT hr.feed_in(6, 'left');
SELECT hr.feed_in(8, 'left');
COMMIT;
SELECT login_name, state, reason FROM lp_results ORDER BY id OFFSET 2;
RESET ROLE;
SELECT forget();
SET ROLE regress_hr;
-- what a trigger within an INSERT moves does not count
CREATE FUNCTION hr.promote() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	UPDATE hr.staff SET status = 'left' WHERE id = NEW.id - 1 AND status = 'active';
	RETURN NULL;
END $$;
CREATE TRIGGER a AFTER INSERT ON hr.staff FOR EACH ROW EXECUTE FUNCTION hr.promote();
INSERT INTO hr.staff VALUES (11, 'ins11', 'active'), (12, 'ins12', 'active');
SELECT id, status FROM hr.staff WHERE id IN (10, 11, 12) ORDER BY id;
SELECT login_name, state, reason FROM lp_results ORDER BY id;
DROP TRIGGER a ON hr.staff;
RESET ROLE;
SELECT forget();
SET ROLE regress_hr;
SELECT count(*) FROM lp_detach_trigger('hr.staff');

-- With a condition and on_update: who was active before the move is not new after it.
SELECT count(*) FROM lp_attach_trigger('hr.staff', '12345678', base(), $$status <> 'left' AND login <> 'later'$$, on_update => true);
CREATE TABLE hr.staff_b PARTITION OF hr.staff FOR VALUES IN ('b');
INSERT INTO hr.staff VALUES (20, 'mv20', 'active'), (21, 'mv21', 'left'), (22, 'later', 'active');
UPDATE hr.staff SET status = 'b' WHERE id = 20;
UPDATE hr.staff SET login = 'mv22' WHERE id = 22;
UPDATE hr.staff SET login = 'mv22x' WHERE id = 22;
SELECT * FROM seen;
-- what becomes true by a move is queued by hand
UPDATE hr.staff SET status = 'active' WHERE id = 21;
SELECT * FROM seen OFFSET 2;
SELECT lp_enqueue_rows('hr.staff', 'id = 21');
SELECT * FROM seen OFFSET 2;
SELECT * FROM lp_detach_trigger('hr.staff');
RESET ROLE;
SELECT forget();

-- One statement is held as a whole, whatever its partitions.
ALTER SERVER acme OPTIONS (ADD hold_above '10');
SET ROLE regress_hr;
SELECT count(*) FROM lp_attach_trigger('hr.staff', '12345678', base());
INSERT INTO hr.staff SELECT i, 'load' || i, (ARRAY['active', 'left', 'b'])[1 + i % 3] FROM generate_series(101, 150) i;
SELECT state, count(*) FROM lp_results GROUP BY 1;
RESET ROLE;
ALTER SERVER acme OPTIONS (DROP hold_above);
SELECT forget();

-- A partition that another role owns: the users are sent as the owner of the table with the trigger, and known by its name.
CREATE TABLE hr.staff_new (login text, status text NOT NULL, id integer NOT NULL);
ALTER TABLE hr.staff_new OWNER TO regress_other;
ALTER TABLE hr.staff ATTACH PARTITION hr.staff_new FOR VALUES IN ('new');
SET ROLE regress_hr;
INSERT INTO hr.staff VALUES (30, 'po30', 'new');
SELECT * FROM seen;
SELECT count(*) FROM lp_detach_trigger('hr.staff');
-- also by a row trigger, which the partition has a copy of, under a name that the partitioned table got later
RESET ROLE;
SELECT forget();
SELECT hook('hr.staff', 'ROW', base('{"loginName": "staff.login", "nickname": "NEW.login", "when": "NEW.status <> ''left'' AND staff.login <> ''''", "email": "login", "fullName": "login"}'), 'INSERT OR UPDATE');
INSERT INTO hr.staff VALUES (31, 'po31', 'new'), (32, '', 'new');
UPDATE hr.staff SET login = 'po32' WHERE id = 32;
DROP TRIGGER hook ON hr.staff;
SELECT hook('hr.staff', 'ROW', base('{"loginName": "NEW.login", "nickname": "NEW.login", "email": "login", "fullName": "login"}'));
INSERT INTO hr.staff_new VALUES ('po33', 'new', 33);
ALTER TABLE hr.staff RENAME TO crew;
ALTER TABLE hr.crew OWNER TO CURRENT_USER;
INSERT INTO hr.staff_new VALUES ('po34', 'new', 34);
ALTER TABLE hr.crew OWNER TO regress_hr;
INSERT INTO hr.staff_new VALUES ('po35', 'new', 35);
SELECT login_name, state, error, source_table, source_key, CASE WHEN send_as = current_user THEN 'me' ELSE send_as END AS send_as FROM lp_requests ORDER BY id;
ALTER TABLE hr.crew RENAME TO staff;
SELECT forget();
-- mode=sync: with the credentials of that owner
DROP TRIGGER hook ON hr.staff;
SELECT hook('hr.staff', 'ROW', base('{"loginName": "login || ''@example.com''", "mode": "sync"}'));
INSERT INTO hr.staff_new VALUES ('po36', 'new', 36);
SELECT login_name, state, send_as FROM lp_requests ORDER BY id;
DROP TRIGGER hook ON hr.staff;
SELECT forget();
ALTER TABLE hr.staff DETACH PARTITION hr.staff_new;

-- A trigger on a partition of its own: rows by the partition's name.
SET ROLE regress_hr;
SELECT count(*) FROM lp_attach_trigger('hr.staff_active', '12345678', base(), 'true', on_update => true);
INSERT INTO hr.staff VALUES (40, 'root40', 'active');
INSERT INTO hr.staff_active VALUES (41, 'leaf41', 'active');
UPDATE hr.staff SET status = 'active' WHERE id = 3;
SELECT * FROM seen;
SELECT count(*) FROM lp_detach_trigger('hr.staff_active');
-- a table that becomes a partition keeps its trigger, for rows by its own name
CREATE TABLE hr.joins (id integer NOT NULL, login text, status text NOT NULL);
SELECT count(*) FROM lp_attach_trigger('hr.joins', '12345678', base());
INSERT INTO hr.joins VALUES (50, 'own50', 'joins');
ALTER TABLE hr.staff ATTACH PARTITION hr.joins FOR VALUES IN ('joins');
INSERT INTO hr.staff VALUES (51, 'root51', 'joins');
INSERT INTO hr.joins VALUES (52, 'own52', 'joins');
SELECT login_name, source_table FROM seen OFFSET 1;
-- written by hand, FOR EACH ROW, it takes a row that moves for a new one, and says so once a session
RESET ROLE;
SELECT forget();
SELECT hook('hr.staff_b', 'ROW', base('{"loginName": "login", "email": "login", "fullName": "login", "nickname": "login"}'));
UPDATE hr.staff SET status = 'b' WHERE id = 2;
UPDATE hr.staff SET status = 'b' WHERE id = 41;
SELECT login_name, source_table FROM seen;

SET client_min_messages = warning;
DROP SCHEMA hr CASCADE;
RESET client_min_messages;
DROP USER MAPPING FOR regress_hr SERVER acme;
REVOKE ALL ON FOREIGN SERVER acme FROM regress_hr;
REVOKE ALL ON FUNCTION lp_create_users_trigger(), lp_enqueue_rows(regclass, text, text) FROM regress_hr;
DROP VIEW seen;
DROP FUNCTION base(jsonb);
DROP ROLE regress_hr, regress_other;
\i sql/include/finish.sql

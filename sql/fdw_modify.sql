-- fdw_modify: statements that write a foreign table, and what goes on around them
\set with_tables on
\set with_people on
\i sql/include/start.sql
-- one connection, so that requests come in the order of the rows
ALTER SERVER acme OPTIONS (ADD batch_size '10', ADD max_connections '1');
CREATE TABLE log (n serial, line text);
CREATE FUNCTION lp.note() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	sent text := (SELECT string_agg(r, '; ') FROM lp.requests() r);
BEGIN
	INSERT INTO log (line) VALUES (concat_ws(' ', TG_WHEN, TG_OP, TG_LEVEL,
		CASE WHEN TG_LEVEL = 'ROW' THEN concat_ws(' ', 'old:' || (OLD.id - 4000000000) || '/' || OLD.login_name || '/' || OLD.nickname,
			'new:' || coalesce((NEW.id - 4000000000)::text, '-') || '/' || NEW.login_name || '/' || NEW.nickname || '/' || coalesce(NEW.password_sh, '-')) END,
		'sent: ' || sent));
	RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE FUNCTION lp.noted() RETURNS SETOF text LANGUAGE sql AS $$ WITH gone AS (DELETE FROM log RETURNING *) SELECT line FROM gone ORDER BY n $$;
\pset tuples_only on

-- Row triggers: one request for each user; AFTER triggers see what the account made of it, and no password.
CREATE TRIGGER before_row BEFORE INSERT OR UPDATE OR DELETE ON lp.users FOR EACH ROW EXECUTE FUNCTION lp.note();
CREATE TRIGGER after_row AFTER INSERT OR UPDATE OR DELETE ON lp.users FOR EACH ROW EXECUTE FUNCTION lp.note();
INSERT INTO lp.users (:columns) SELECT * FROM lp.staff('ann', 1, 2);
SELECT lp.noted();
COPY lp.users (login_name, full_name, nickname, email, password_sh, is_enabled, max_chats, profile_ids, member_of) FROM stdin WITH (FORMAT csv);
ann3@example.com,Ann,a,a@example.com,Start-1234,t,3,{1002},2001
ann4@example.com,Ann,a,a@example.com,Start-1234,t,3,{1002},2001
\.
SELECT lp.noted();
UPDATE lp.users SET nickname = 'x', full_name = 'x', password_sh = 'Other-5678' WHERE login_name ~ '^ann[12]';
SELECT lp.noted();
DELETE FROM lp.users WHERE login_name ~ '^ann[12]';
SELECT lp.noted();
DROP TRIGGER before_row ON lp.users;
-- only AFTER, only for one of the operations: the others go in batches
DROP TRIGGER after_row ON lp.users;
CREATE TRIGGER after_row AFTER UPDATE ON lp.users FOR EACH ROW EXECUTE FUNCTION lp.note();
INSERT INTO lp.users (:columns) SELECT * FROM lp.staff('bob', 1, 3);
SELECT lp.requests();
UPDATE lp.users SET nickname = 'y', full_name = 'x' WHERE login_name ~ '^bob[12]';
SELECT lp.noted();
DELETE FROM lp.users WHERE login_name ~ '^bob[12]';
SELECT lp.requests();
DROP TRIGGER after_row ON lp.users;
-- BEFORE triggers that change a row, skip it, set a password, set what cannot be set
CREATE FUNCTION lp.meddle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	CASE current_setting('lpsim.meddle')
		WHEN 'change' THEN NEW.nickname := upper(NEW.nickname); NEW.description := 'by trigger'; NEW.member_of := NULL;
		WHEN 'skip' THEN IF NEW.login_name ~ '1@' THEN RETURN NULL; END IF;
		WHEN 'password' THEN NEW.password_sh := 'Trigger-1';
		WHEN 'id' THEN NEW.id := 4000000001;
		WHEN 'date' THEN NEW.date_updated := now();
		WHEN 'entity' THEN NEW.entity := '{}';
		WHEN 'nothing' THEN NULL;
	END CASE;
	RETURN NEW;
END $$;
CREATE TRIGGER meddle BEFORE INSERT OR UPDATE ON lp.users FOR EACH ROW EXECUTE FUNCTION lp.meddle();
SET lpsim.meddle = 'change';
INSERT INTO lp.users (login_name, full_name, nickname, email, password_sh, is_enabled, max_chats, profile_ids, member_of)
	SELECT login_name, full_name, nickname, email, password_sh, is_enabled, max_chats, '{1001}', member_of FROM lp.staff('cid', 1, 2) RETURNING nickname, description, member_of;
SET lpsim.meddle = 'skip';
INSERT INTO lp.users (:columns) SELECT * FROM lp.staff('dan', 1, 2) RETURNING login_name;
UPDATE lp.users SET max_chats = 9, full_name = 'x' WHERE login_name ~ '^cid' RETURNING login_name, max_chats;
SET lpsim.meddle = 'password';
UPDATE lp.users SET max_chats = 8, full_name = 'x' WHERE login_name ~ '^cid2' RETURNING login_name, max_chats, password_sh;
SET lpsim.meddle = 'change';
UPDATE lp.users SET max_chats = 7, full_name = 'x', nickname = 'lower' WHERE login_name ~ '^dan2' RETURNING login_name, nickname, description, member_of;
SET lpsim.meddle = 'nothing';
UPDATE lp.users SET description = NULL, full_name = 'x' WHERE login_name ~ '^dan2';
SELECT login, u->>'nickname', u->>'description', u->'memberOf'->'agentGroupId', u->'maxChats', u->>'passwordSh' FROM lp.account WHERE NOT deleted AND login ~ '^(cid|dan)' ORDER BY id;
SELECT lp.sim('log', method => 'DELETE');
SET lpsim.meddle = 'id';
UPDATE lp.users SET max_chats = 8, full_name = 'x' WHERE login_name ~ '^cid2'; -- ERROR
SET lpsim.meddle = 'date';
UPDATE lp.users SET max_chats = 8, full_name = 'x' WHERE login_name ~ '^cid2'; -- ERROR
SET lpsim.meddle = 'entity';
UPDATE lp.users SET max_chats = 8, full_name = 'x' WHERE login_name ~ '^cid2'; -- ERROR
SELECT lp.requests();
DROP TRIGGER meddle ON lp.users;
RESET lpsim.meddle;
-- Statement triggers: all is done when AFTER comes.
CREATE TRIGGER before_statement BEFORE INSERT OR UPDATE OR DELETE ON lp.users FOR EACH STATEMENT EXECUTE FUNCTION lp.note();
CREATE TRIGGER after_statement AFTER INSERT OR UPDATE OR DELETE ON lp.users FOR EACH STATEMENT EXECUTE FUNCTION lp.note();
INSERT INTO lp.users (:columns) SELECT * FROM lp.staff('eve', 1, 12);
SELECT lp.noted();
UPDATE lp.users SET nickname = 'y', full_name = 'x' WHERE login_name ~ '^eve[12]@';
SELECT lp.noted();
DELETE FROM lp.users WHERE login_name ~ '^eve[12]@';
SELECT lp.noted();
COPY lp.users (login_name, full_name, nickname, email, password_sh, is_enabled, max_chats, profile_ids, member_of) FROM stdin WITH (FORMAT csv);
eve13@example.com,Eve,a,a@example.com,Start-1234,t,3,{1002},2001
\.
SELECT lp.noted();
DROP TRIGGER before_statement ON lp.users;
DROP TRIGGER after_statement ON lp.users;

-- Views with a check option: what is wrong already is not sent; the password is not shown.
CREATE VIEW lp.small AS SELECT * FROM lp.users WHERE NOT deleted AND max_chats < 5 WITH CHECK OPTION;
INSERT INTO lp.small (:columns) SELECT * FROM lp.staff('fay', 1, 2);
SELECT lp.requests();
INSERT INTO lp.small (:columns) SELECT login_name, full_name, nickname, email, password_sh, is_enabled, 5 + max_chats, profile_ids, member_of FROM lp.staff('fay', 3, 3); -- ERROR
\echo :LAST_ERROR_SQLSTATE
UPDATE lp.small SET max_chats = max_chats + 5, full_name = 'x' WHERE login_name ~ '^fay'; -- ERROR
UPDATE lp.small SET max_chats = max_chats - 1, full_name = 'x' WHERE login_name ~ '^fay';
SELECT lp.requests();
CREATE VIEW lp.odd AS SELECT * FROM lp.users WHERE id % 2 = 7 WITH CHECK OPTION;
SELECT state, message, detail ~ '^Failing row contains .*gil1@example.com' AS row, detail ~ 'Start-1234' AS secret FROM attempt($$INSERT INTO lp.odd (login_name, full_name, nickname, email, password_sh, is_enabled, max_chats, profile_ids, member_of) SELECT * FROM lp.staff('gil', 1, 1)$$);
CREATE VIEW lp.smaller AS SELECT * FROM lp.small WHERE max_chats > 1 WITH LOCAL CHECK OPTION;
INSERT INTO lp.smaller (:columns) SELECT login_name, full_name, nickname, email, password_sh, is_enabled, 0, profile_ids, member_of FROM lp.staff('fay', 3, 3); -- ERROR
INSERT INTO lp.smaller (:columns) SELECT login_name, full_name, nickname, email, password_sh, is_enabled, 9, profile_ids, member_of FROM lp.staff('fay', 3, 3); -- ERROR
CREATE TABLE names (name text);
INSERT INTO names VALUES ('gil2'), ('gil3');
CREATE VIEW lp.known AS SELECT * FROM lp.users u WHERE nickname IN (SELECT name FROM names) AND EXISTS (SELECT FROM names WHERE 'Full ' || name = u.full_name OR u.full_name = '')
	WITH CHECK OPTION;
INSERT INTO lp.known (:columns) SELECT * FROM lp.staff('gil', 2, 3) RETURNING login_name;
INSERT INTO lp.known (:columns) SELECT * FROM lp.staff('gil', 4, 4); -- ERROR
UPDATE lp.known SET nickname = 'gil5', full_name = 'Full gil2' WHERE login_name ~ '^gil2'; -- ERROR
UPDATE lp.known SET max_chats = 2, full_name = 'Full gil2' WHERE login_name ~ '^gil2';
DROP VIEW lp.smaller, lp.small, lp.odd, lp.known;
DROP TABLE names;
SELECT lp.requests();

-- Data-modifying CTEs: each is carried out once, read or not.
CREATE TABLE archive (id bigint, login text);
WITH gone AS (DELETE FROM lp.users WHERE login_name ~ '^eve[3-9]@' RETURNING id, login_name) INSERT INTO archive SELECT * FROM gone;
SELECT count(*) FROM archive;
WITH quiet AS (UPDATE lp.users SET nickname = 'quiet', full_name = 'x' WHERE login_name ~ '^eve1[0-3]@'), made AS (INSERT INTO lp.users (:columns) SELECT * FROM lp.staff('hal', 1, 12))
	SELECT 'main query';
SELECT lp.requests();
SELECT count(*) FROM lp.account WHERE u->>'nickname' = 'quiet' OR login ~ '^hal';
-- the same users read and written by one statement: no scan is a snapshot
WITH u AS (UPDATE lp.users SET nickname = 'new', full_name = 'x' WHERE login_name = 'hal1@example.com' RETURNING nickname) SELECT u.nickname, old.nickname FROM u, lp.users old WHERE old.login_name = 'hal1@example.com';
SELECT lp.sim('log', method => 'DELETE');

-- PL/pgSQL: a request for each statement; an error is caught, what was done stays done.
DO $$
DECLARE
	r record;
BEGIN
	FOR i IN 1 .. 3 LOOP
		INSERT INTO lp.people SELECT * FROM lp.staff('ian', i, i);
	END LOOP;
	FOR r IN UPDATE lp.users SET nickname = 'loop', full_name = 'x' WHERE login_name ~ '^ian' RETURNING login_name LOOP
		BEGIN
			INSERT INTO lp.people SELECT r.login_name, s.full_name, s.nickname, s.email, s.password_sh, true, 3, s.profile_ids, 2001 FROM lp.staff('x', 1, 1) s;
		EXCEPTION WHEN fdw_error THEN
			RAISE INFO '% %', r.login_name, SQLERRM;
		END;
	END LOOP;
	DELETE FROM lp.users WHERE login_name ~ '^ian1';
	IF NOT FOUND THEN
		RAISE INFO 'not found';
	END IF;
END $$;
SELECT lp.requests();
-- Prepared statements: generic and custom plans; a changed server is noticed.
PREPARE add (text, int, int) AS INSERT INTO lp.people SELECT * FROM lp.staff($1, $2, $3);
PREPARE change (text, text) AS UPDATE lp.users SET nickname = $2, full_name = 'x' WHERE login_name = $1;
PREPARE remove (bigint) AS DELETE FROM lp.users WHERE id = $1;
EXECUTE add ('jim', 1, 2);
SET plan_cache_mode = force_generic_plan;
EXECUTE add ('jim', 3, 14);
EXECUTE change ('jim3@example.com', 'a');
EXECUTE change ('jim4@example.com', 'b');
EXECUTE remove (1);
SELECT id AS jim FROM lp.account WHERE login = 'jim14@example.com' \gset
EXECUTE remove (:jim);
SELECT lp.requests();
ALTER SERVER acme OPTIONS (SET batch_size '5');
EXECUTE add ('jim', 14, 20);
EXPLAIN (COSTS OFF) EXECUTE change ('x', 'y');
SELECT lp.requests();
RESET plan_cache_mode;
DEALLOCATE ALL;
ALTER SERVER acme OPTIONS (SET batch_size '10');

-- Partitions: rows that are routed to the account, by INSERT, COPY and UPDATE; two accounts with other column orders.
CREATE TABLE staff (site text, login_name text, full_name text, nickname text, email text, password_sh text, is_enabled boolean, max_chats integer, profile_ids bigint[],
	member_of bigint, id bigint) PARTITION BY LIST (site);
CREATE TABLE staff_paper PARTITION OF staff DEFAULT;
CREATE FOREIGN TABLE staff_lp PARTITION OF staff FOR VALUES IN ('lp') SERVER acme OPTIONS (resource 'users');
ALTER FOREIGN TABLE staff_lp ALTER COLUMN site OPTIONS (ADD attribute 'description');
CREATE SERVER other FOREIGN DATA WRAPPER lpusers OPTIONS (account '12345678', base_url :'url', batch_size '3', max_connections '1');
CREATE USER MAPPING FOR CURRENT_USER SERVER other OPTIONS (token 'lp-token');
CREATE FOREIGN TABLE staff_other (id bigint, member_of bigint, login_name text, full_name text, nickname text, email text, password_sh text, is_enabled boolean, max_chats integer,
	profile_ids bigint[], site text OPTIONS (attribute 'description')) SERVER other OPTIONS (resource 'users');
ALTER TABLE staff ATTACH PARTITION staff_other FOR VALUES IN ('other');
INSERT INTO staff (site, login_name, full_name, nickname, email, password_sh, is_enabled, max_chats, profile_ids, member_of)
	SELECT (ARRAY['lp', 'paper', 'other'])[1 + row_number() OVER () % 3], s.* FROM lp.staff('kim', 1, 36) s;
-- the tables of two servers are written at the same time
SELECT r->>'method' AS method, jsonb_array_length(r->'logins') AS users, count(*) FROM lp.log() r GROUP BY 1, 2 ORDER BY 1, 2;
COPY staff (site, login_name, full_name, nickname, email, password_sh, is_enabled, max_chats, profile_ids, member_of) FROM stdin WITH (FORMAT csv);
lp,leo1@example.com,Leo,a,a@example.com,Start-1234,t,3,{1002},2001
paper,leo2@example.com,Leo,a,a@example.com,Start-1234,t,3,{1002},2001
other,leo3@example.com,Leo,a,a@example.com,Start-1234,t,3,{1002},2001
lp,leo4@example.com,Leo,a,a@example.com,Start-1234,t,3,{1002},2001
\.
SELECT lp.requests();
INSERT INTO staff (site, login_name, full_name, nickname, email, password_sh, is_enabled, max_chats, profile_ids, member_of) SELECT 'lp', s.* FROM lp.staff('leo', 5, 6) s
	RETURNING tableoid::regclass, login_name, id IS NOT NULL AS id, password_sh;
INSERT INTO staff (site, login_name, full_name, nickname, email, password_sh, is_enabled, max_chats, profile_ids, member_of) SELECT 'other', s.* FROM lp.staff('leo', 5, 7) s ON CONFLICT DO NOTHING;
SELECT lp.requests();
SELECT tableoid::regclass, count(*) FROM staff WHERE site IN ('lp', 'paper', 'other') GROUP BY 1 ORDER BY 1;
SELECT site, count(*), count(DISTINCT login_name) FROM staff_lp GROUP BY 1 ORDER BY 1;
SELECT lp.sim('log', method => 'DELETE');
-- rows that move into the account go in batches; out of it they do not move
UPDATE staff SET site = 'lp' WHERE site = 'paper' AND login_name ~ '^leo';
SELECT lp.requests();
UPDATE staff SET site = 'lp' WHERE site = 'paper' AND login_name ~ '^kim(1|2)' RETURNING tableoid::regclass, id IS NOT NULL AS id;
SELECT lp.requests();
SELECT site, count(*) FROM staff_paper GROUP BY 1;
INSERT INTO staff (site, login_name, full_name, nickname, email, password_sh, is_enabled, max_chats, profile_ids, member_of) SELECT 'paper', s.* FROM lp.staff('mia', 1, 24) s;
UPDATE staff SET site = 'lp' WHERE site = 'paper' AND login_name ~ '^mia';
SELECT lp.requests();
SELECT site, count(*) FROM staff_paper GROUP BY 1;
UPDATE staff SET site = 'lp', full_name = 'x' WHERE login_name = 'kim4@example.com'; -- ERROR
SELECT lp.sim('log', method => 'DELETE');
-- UPDATE and DELETE of all partitions: each in its own batches; both accounts of this test are the same one
UPDATE staff SET nickname = 'all', full_name = 'x' WHERE login_name ~ '^kim' AND tableoid::regclass::text = 'staff_' || site;
SELECT lp.requests();
SELECT site, count(*) FROM staff_lp WHERE nickname = 'all' GROUP BY 1 ORDER BY 1;
DELETE FROM staff WHERE login_name ~ '^leo' AND tableoid::regclass::text = 'staff_' || site RETURNING tableoid::regclass, login_name;
DELETE FROM staff WHERE login_name ~ '^mia' AND tableoid::regclass::text = 'staff_' || site;
SELECT lp.requests();
-- statement triggers of the partitioned table, too, come when all is done
CREATE TRIGGER after_statement AFTER INSERT OR UPDATE OR DELETE ON staff FOR EACH STATEMENT EXECUTE FUNCTION lp.note();
UPDATE staff SET nickname = 'note', full_name = 'x' WHERE login_name ~ '^kim[236]@' AND tableoid::regclass::text = 'staff_' || site;
SELECT lp.noted();
COPY staff (site, login_name, full_name, nickname, email, password_sh, is_enabled, max_chats, profile_ids, member_of) FROM stdin WITH (FORMAT csv);
lp,ned1@example.com,Ned,a,a@example.com,Start-1234,t,3,{1002},2001
other,ned2@example.com,Ned,a,a@example.com,Start-1234,t,3,{1002},2001
\.
SELECT lp.noted();
INSERT INTO staff (site, login_name, full_name, nickname, email, password_sh, is_enabled, max_chats, profile_ids, member_of) SELECT 'paper', s.* FROM lp.staff('ned', 3, 4) s;
SELECT lp.noted();
UPDATE staff SET site = 'lp' WHERE site = 'paper' AND login_name ~ '^ned';
-- from 16 on rows that move go in one batch
SELECT replace(n, '1 -> 201 x2', '2 -> 201') FROM lp.noted() n;
DROP TRIGGER after_statement ON staff;
MERGE INTO staff s USING (SELECT 'x' AS login) x ON s.login_name = x.login WHEN MATCHED THEN DELETE; -- ERROR
-- whose mapping: that of the owner of a view on the partitioned table
CREATE ROLE regress_lp_owner;
CREATE ROLE regress_lp_clerk;
CREATE USER MAPPING FOR regress_lp_owner SERVER acme OPTIONS (token 'lp-token');
GRANT USAGE ON FOREIGN SERVER acme TO regress_lp_owner;
GRANT EXECUTE ON FUNCTION lp_create_users, lp_update_users TO regress_lp_owner;
GRANT ALL ON staff TO regress_lp_owner;
CREATE VIEW staff_view AS SELECT * FROM staff;
ALTER VIEW staff_view OWNER TO regress_lp_owner;
GRANT ALL ON staff_view TO regress_lp_clerk;
GRANT USAGE ON SCHEMA lp TO regress_lp_clerk;
DELETE FROM lp_requests;
SET ROLE regress_lp_clerk;
INSERT INTO staff_view (site, login_name, full_name, nickname, email, password_sh, is_enabled, max_chats, profile_ids, member_of) SELECT 'lp', s.* FROM lp.staff('nat', 1, 2) s;
UPDATE staff_view SET nickname = 'x', full_name = 'x' WHERE site = 'lp' AND login_name ~ '^nat';
RESET ROLE;
SELECT operation, login_name, requested_by, send_as FROM lp_results ORDER BY id;
DROP VIEW staff_view;
DROP TABLE staff;
DROP USER MAPPING FOR regress_lp_owner SERVER acme;
REVOKE ALL ON FOREIGN SERVER acme FROM regress_lp_owner;
REVOKE ALL ON FUNCTION lp_create_users, lp_update_users FROM regress_lp_owner;
REVOKE ALL ON SCHEMA lp FROM regress_lp_clerk;
DROP ROLE regress_lp_owner, regress_lp_clerk;
DROP USER MAPPING FOR CURRENT_USER SERVER other;
DROP SERVER other;
SELECT lp.sim('log', method => 'DELETE');

-- EXPLAIN sends nothing; ANALYZE does, and counts.
\pset tuples_only off
EXPLAIN (COSTS OFF) INSERT INTO lp.people SELECT * FROM lp.staff('nia', 1, 25);
EXPLAIN (COSTS OFF) INSERT INTO lp.users (:columns) SELECT * FROM lp.staff('nia', 1, 25) RETURNING id;
EXPLAIN (COSTS OFF) UPDATE lp.users SET nickname = 'x' WHERE id = 1;
EXPLAIN (COSTS OFF) UPDATE lp.users SET nickname = 'x' RETURNING id;
EXPLAIN (VERBOSE, COSTS OFF) DELETE FROM lp.users WHERE login_name ~ 'x';
SELECT lp.requests();
CREATE FUNCTION lp.run_plan(command text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (ANALYZE, BUFFERS OFF, COSTS OFF, SUMMARY OFF) ' || command LOOP
		RETURN NEXT regexp_replace(regexp_replace(line, '(Bytes: |Time: |time=)[\d.]+(\.\.[\d.]+)?', '\1N', 'g'), '(rows=\d+)\.00', '\1');
	END LOOP;
END $$;
SELECT lp.run_plan($$INSERT INTO lp.people SELECT * FROM lp.staff('nia', 1, 25)$$);
SELECT lp.run_plan($$INSERT INTO lp.people SELECT * FROM lp.staff('nia', 1, 26) ON CONFLICT DO NOTHING$$);
SELECT lp.run_plan($$UPDATE lp.users SET nickname = 'x', full_name = 'x' WHERE login_name ~ '^nia'$$);
SELECT lp.run_plan($$UPDATE lp.users SET nickname = 'y', full_name = 'x' WHERE login_name ~ '^nia2' RETURNING id$$);
SELECT lp.run_plan($$DELETE FROM lp.users WHERE login_name ~ '^nia'$$);
DO $$
DECLARE
	plan jsonb;
BEGIN
	EXECUTE $_$EXPLAIN (ANALYZE, FORMAT JSON) INSERT INTO lp.people SELECT * FROM lp.staff('oda', 1, 1)$_$ INTO plan;
	RAISE INFO '% %', plan#>'{0,Plan,Request}', plan#>'{0,Plan,Batch Size}';
	RAISE INFO '% % %', plan#>'{0,Plan,Requests}', plan#>'{0,Plan,Bytes}' > '500', plan#>'{0,Plan,Remote Time}' > '0';
END $$;
SELECT line, count(*) FROM lp.requests() line GROUP BY 1 ORDER BY 1;

-- A statement has one batch size, and shows it, whatever becomes of the server meanwhile.
CREATE FUNCTION lp.resize(size text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('ALTER SERVER acme OPTIONS (SET batch_size %L, SET max_connections ''2'')', size);
	RETURN true;
END $$;
SELECT line FROM lp.run_plan($$INSERT INTO lp.people SELECT s.* FROM (SELECT lp.resize('5000') OFFSET 0) r, lp.staff('pia', 1, 25) s$$) line WHERE line ~ '^  Batch Size';
SELECT lp.requests();
ALTER SERVER acme OPTIONS (SET batch_size '10', SET max_connections '1');
SELECT line FROM lp.run_plan($$UPDATE lp.users SET nickname = 'x', full_name = 'x' FROM (SELECT lp.resize('1') OFFSET 0) r WHERE login_name ~ '^pia'$$) line WHERE line ~ '^  Batch Size';
SELECT line, count(*) FROM lp.requests() line GROUP BY 1 ORDER BY 1;
ALTER SERVER acme OPTIONS (SET batch_size '10', SET max_connections '1');
SELECT line FROM lp.run_plan($$DELETE FROM lp.users USING (SELECT lp.resize('3') OFFSET 0) r WHERE login_name ~ '^pia' AND r IS NOT NULL$$) line WHERE line ~ '^  Batch Size';
SELECT lp.requests();
ALTER SERVER acme OPTIONS (SET batch_size '10', SET max_connections '1');

-- The option updatable, of the server and of the table, which counts more.
CREATE FOREIGN TABLE lp.firm (id bigint, login_name text, nickname text, full_name text) SERVER acme OPTIONS (resource 'users', updatable 'on');
CREATE TABLE places (login_name text, site text) PARTITION BY LIST (site);
CREATE FOREIGN TABLE place_lp PARTITION OF places FOR VALUES IN ('lp') SERVER acme OPTIONS (resource 'users', updatable 'off');
INSERT INTO places VALUES ('x', 'lp'); -- ERROR
DROP TABLE places;
INSERT INTO lp.people SELECT * FROM lp.staff('qi', 1, 2);
ALTER FOREIGN TABLE lp.users OPTIONS (ADD updatable 'off');
UPDATE lp.users SET nickname = 'x', full_name = 'x' WHERE login_name ~ '^qi'; -- ERROR
\echo :LAST_ERROR_SQLSTATE
DELETE FROM lp.users WHERE login_name ~ '^qi'; -- ERROR
INSERT INTO lp.users (login_name) VALUES ('x'); -- ERROR
COPY lp.users (login_name) FROM PROGRAM 'echo x'; -- ERROR
EXPLAIN DELETE FROM lp.users; -- ERROR
ALTER SERVER acme OPTIONS (ADD updatable 'off');
INSERT INTO lp.people SELECT * FROM lp.staff('qi', 3, 3); -- ERROR
UPDATE lp.firm SET nickname = 'firm', full_name = 'x' WHERE login_name ~ '^qi' RETURNING login_name, nickname;
SELECT relname, pg_relation_is_updatable(oid, false) FROM pg_class WHERE relnamespace = 'lp'::regnamespace AND relkind = 'f' AND relname IN ('users', 'people', 'firm') ORDER BY 1;
ALTER FOREIGN TABLE lp.users OPTIONS (SET updatable 'on');
DELETE FROM lp.users WHERE login_name ~ '^qi';
SELECT count(*) FROM lp.account WHERE login ~ '^qi' AND NOT deleted;
ALTER FOREIGN TABLE lp.users OPTIONS (SET updatable 'perhaps'); -- ERROR
ALTER FOREIGN TABLE lp.users OPTIONS (ADD updateable 'off'); -- ERROR
ALTER FOREIGN TABLE lp.users OPTIONS (DROP updatable);
ALTER SERVER acme OPTIONS (DROP updatable);
DROP FOREIGN TABLE lp.firm;
SELECT lp.requests() \g /dev/null

-- refused by PostgreSQL itself
TRUNCATE lp.users; -- ERROR
MERGE INTO lp.users u USING (SELECT 'x' AS login) x ON u.login_name = x.login WHEN MATCHED THEN DELETE; -- ERROR
CREATE TRIGGER news AFTER INSERT ON lp.users REFERENCING NEW TABLE AS new FOR EACH STATEMENT EXECUTE FUNCTION lp.note(); -- ERROR
SELECT table_name, is_insertable_into FROM information_schema.tables WHERE table_schema = 'lp' AND table_name IN ('users', 'people', 'skills') ORDER BY 1;
SELECT relname, pg_relation_is_updatable(oid, false) FROM pg_class WHERE relnamespace = 'lp'::regnamespace AND relkind = 'f' ORDER BY 1;
DROP TABLE log, archive;
\i sql/include/finish.sql

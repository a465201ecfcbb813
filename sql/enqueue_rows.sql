-- enqueue_rows: several triggers of a table, by account and by name; rows that are there already; names in expressions
\set with_queue on
\i sql/include/start.sql
CREATE ROLE regress_clerk;
CREATE SERVER emea FOREIGN DATA WRAPPER lpusers OPTIONS (account '55550001', base_url :'url');
CREATE USER MAPPING FOR CURRENT_USER SERVER emea OPTIONS (token 'lp-token');
CREATE FUNCTION base(more jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql AS $$
	SELECT '{"loginName": "login", "fullName": "login", "nickname": "login", "email": "login", "passwordSh": "''Start-1234''", "isEnabled": true,
		"maxChats": 3, "profileIds": "ARRAY[1002]", "memberOf": 2001}'::jsonb || more $$;
CREATE VIEW seen AS SELECT account, login_name, state, error, reason, source_key FROM lp_requests ORDER BY id;
CREATE SCHEMA hr;
GRANT USAGE ON SCHEMA hr TO regress_clerk;
CREATE TABLE hr.emp (id integer PRIMARY KEY, login text, country text);

-- One trigger for each account, or under a name of its own.
SELECT count(*) FROM lp_attach_trigger('hr.emp', '12345678', base(), $$country = 'US'$$);
SELECT count(*) FROM lp_attach_trigger('hr.emp', '55550001', base(), $$country <> 'US'$$, on_update => true);
SELECT count(*) FROM lp_attach_trigger('hr.emp', '12345678', base()); -- ERROR
SELECT count(*) FROM lp_attach_trigger('hr.emp', '12345678', base('{"loginName": "''vip-'' || login"}'), $$login ~ '^vip'$$, name => 'VIP "x"');
SELECT hook('hr.emp', 'STATEMENT', '{"loginName": "login", "email": "login", "fullName": "login", "nickname": "login", "when": "country IS NULL"}');
SELECT tgname FROM pg_trigger WHERE tgrelid = 'hr.emp'::regclass AND tgfoid = 'lp_create_users_trigger()'::regprocedure ORDER BY 1;
INSERT INTO hr.emp VALUES (1, 'us', 'US'), (2, 'de', 'DE'), (3, 'vip', 'US'), (4, 'none', NULL);
SELECT account, login_name FROM seen ORDER BY 2;
SELECT forget();
SELECT state, message, detail, hint FROM attempt($$SELECT lp_detach_trigger('hr.emp')$$);
SELECT state, message, detail, hint FROM attempt($$SELECT lp_detach_trigger('hr.emp', '12345678')$$);
SELECT lp_detach_trigger('hr.emp', '99');
SELECT lp_detach_trigger('hr.emp', name => 'hook');
SELECT lp_detach_trigger('hr.emp', '55550001', 'VIP "x"');

-- no such table
SELECT f, a.* FROM unnest('{"lp_attach_trigger(0, ''12345678'', base())","lp_detach_trigger(0)","lp_enqueue_rows(0)","lp_attach_trigger(4294967295, ''12345678'', base())"}'::text[]) f,
	LATERAL (SELECT state, message, detail, hint FROM attempt('SELECT ' || f)) a;

-- Rows that are there already go through the mapping of one trigger, with its condition.
SELECT state, message, detail, hint FROM attempt($$SELECT lp_enqueue_rows('hr.emp')$$);
SELECT state, message, detail, hint FROM attempt($$SELECT lp_enqueue_rows('hr.emp', name => 'nosuch')$$);
SELECT lp_enqueue_rows('hr.emp', name => '12345678');
SELECT lp_enqueue_rows('hr.emp', name => '55550001');
SELECT lp_enqueue_rows('hr.emp', 'id > 3', 'VIP "x"');
SELECT lp_enqueue_rows('hr.emp', 'NEW.id = 3 AND emp.login LIKE ''v%'' -- comment', 'VIP "x"');
SELECT lp_enqueue_rows('hr.emp', name => 'hook');
-- what is in the queue is not queued again
SELECT lp_enqueue_rows('hr.emp', name => 'hook');
SELECT * FROM seen;
SELECT body->>'loginName' AS login FROM bodies;
SELECT forget();
-- one by one they are detached
SELECT lp_detach_trigger('hr.emp', '55550001');
SELECT lp_detach_trigger('hr.emp', name => 'VIP "x"');
SELECT lp_detach_trigger('hr.emp');
SELECT lp_detach_trigger('hr.emp');
-- with one trigger no name is needed, also if it is a pair
SELECT lp_enqueue_rows('hr.emp');
SELECT forget();
DROP TRIGGER hook ON hr.emp;
SELECT count(*) FROM lp_attach_trigger('hr.emp', '12345678', base(), 'true', on_update => true);
SELECT lp_enqueue_rows('hr.emp', NULL, NULL);
SELECT forget();
-- held like a load; one transaction counts
ALTER SERVER acme OPTIONS (ADD hold_above '3');
SELECT lp_enqueue_rows('hr.emp');
SELECT state, count(*) FROM lp_requests GROUP BY 1;
SELECT forget();
BEGIN;
INSERT INTO hr.emp VALUES (5, 'five', 'US');
SELECT lp_enqueue_rows('hr.emp', 'id < 4');
COMMIT;
SELECT login_name, state FROM seen;
SELECT forget();
ALTER SERVER acme OPTIONS (DROP hold_above);
-- held for the set-up, failed for the data
ALTER SERVER acme OPTIONS (SET account '88');
SELECT lp_enqueue_rows('hr.emp', 'id = 1');
ALTER SERVER acme OPTIONS (SET account '12345678');
INSERT INTO hr.emp (id) VALUES (6);
SELECT forget();
SELECT lp_enqueue_rows('hr.emp', 'id = 6');
SELECT * FROM seen;
SELECT forget();
-- the caller must own the table and may call it; what is wrong with the condition is said
SELECT n, m.* FROM (VALUES (1, $$NULL$$), (2, $$'hr.emp', 'nosuch'$$), (3, $$'hr.emp', 'id'$$), (4, $$'hr.emp', 'id = ('$$), (5, $$'hr.emp', '1 / (id - id) = 1'$$), (6, $$'pg_class'$$),
	(7, $$'seen'$$)) v (n, arguments), LATERAL mistake('SELECT lp_enqueue_rows(' || arguments || ')') m ORDER BY n;
\set SHOW_CONTEXT errors
SELECT lp_enqueue_rows('hr.emp', 'nosuch'); -- ERROR
SELECT lp_enqueue_rows('hr.emp', '1 / (id - id) = 1'); -- ERROR
\set SHOW_CONTEXT never
GRANT ALL ON hr.emp TO regress_clerk;
SET ROLE regress_clerk;
SELECT lp_enqueue_rows('hr.emp'); -- ERROR
RESET ROLE;
GRANT EXECUTE ON FUNCTION lp_enqueue_rows(regclass, text, text) TO regress_clerk;
SET ROLE regress_clerk;
SELECT lp_enqueue_rows('hr.emp'); -- ERROR
RESET ROLE;
BEGIN READ ONLY;
SELECT lp_enqueue_rows('hr.emp'); -- ERROR
ROLLBACK;
-- expressions run as the table's owner, also if a superuser calls, and may not do what lasts longer
CREATE ROLE regress_tenant;
GRANT CREATE, USAGE ON SCHEMA hr TO regress_tenant;
GRANT EXECUTE ON FUNCTION lp_create_users_trigger TO regress_tenant;
GRANT EXECUTE ON FUNCTION base(jsonb) TO regress_tenant;
GRANT USAGE ON FOREIGN SERVER acme TO regress_tenant;
CREATE USER MAPPING FOR regress_tenant SERVER acme OPTIONS (token 'lp-token');
SET ROLE regress_tenant;
CREATE FUNCTION hr.who() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN current_user; END $$;
CREATE FUNCTION hr.planned() RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'planned as %', current_user; RETURN 'x'; END $$;
CREATE TABLE hr.own (login text);
INSERT INTO hr.own VALUES ('own');
RESET ROLE;
SELECT count(*) FROM lp_attach_trigger('hr.own', '12345678', base('{"loginName": "login || hr.who()", "fullName": "hr.planned()"}'));
SELECT lp_enqueue_rows('hr.own');
SELECT login_name, state FROM seen;
SELECT forget();
SET ROLE regress_tenant;
CREATE OR REPLACE FUNCTION hr.who() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RESET ROLE; RETURN current_user; END $$;
RESET ROLE;
SELECT lp_enqueue_rows('hr.own'); -- ERROR
SELECT current_user <> 'regress_tenant' AS again;
DROP TABLE hr.own;
DROP FUNCTION hr.who(), hr.planned();
DROP USER MAPPING FOR regress_tenant SERVER acme;
DROP OWNED BY regress_tenant;
DROP ROLE regress_tenant;
-- on_error=raise holds here, too; mode=sync is queued
SELECT count(*) FROM lp_detach_trigger('hr.emp');
SELECT hook('hr.emp', 'STATEMENT', '{"loginName": "login", "email": "login", "fullName": "login", "nickname": "login", "on_error": "raise"}');
SELECT lp_enqueue_rows('hr.emp'); -- ERROR
DROP TRIGGER hook ON hr.emp;
SELECT count(*) FROM lp_attach_trigger('hr.emp', '12345678', base(), mode => 'sync');
SELECT lp_enqueue_rows('hr.emp', 'id = 1');
SELECT login_name, state FROM seen;
SELECT forget();
SELECT count(*) FROM lp_detach_trigger('hr.emp');
-- a table that inherits has rows of its own; a partition has the trigger of its table
CREATE TABLE hr.heir () INHERITS (hr.emp);
INSERT INTO hr.heir VALUES (7, 'seven', 'US');
SELECT count(*) FROM lp_attach_trigger('hr.emp', '12345678', base());
SELECT lp_enqueue_rows('hr.emp', 'id > 4 AND login IS NOT NULL');
SELECT login_name FROM seen;
SELECT forget();
CREATE TABLE hr.parted (id integer, login text) PARTITION BY LIST (id);
CREATE TABLE hr.part PARTITION OF hr.parted DEFAULT;
SELECT hook('hr.parted', 'ROW', '{"loginName": "login", "email": "login", "fullName": "login", "nickname": "login"}');
SELECT state, message, hint FROM attempt($$SELECT lp_enqueue_rows('hr.part')$$);
SELECT state, message, hint FROM attempt($$SELECT lp_enqueue_rows('hr.heir')$$);
SELECT lp_enqueue_rows('hr.parted');
DROP TABLE hr.parted, hr.heir;
-- a renamed trigger is one that was written by hand
ALTER TRIGGER lpusers_12345678_insert ON hr.emp RENAME TO mine;
SELECT lp_detach_trigger('hr.emp');
DROP TRIGGER mine ON hr.emp;

-- Expressions may call the row NEW, which a rename of the table does not touch, or by its present name.
SELECT count(*) FROM lp_attach_trigger('hr.emp', '12345678', base('{"loginName": "NEW.login", "email": "new.login", "fullName": "emp.login", "nickname": "(SELECT count(*)::text FROM hr.emp WHERE emp.country = NEW.country)",
	"description": "(row_to_json(emp)->>''login'') || (row_to_json(NEW)->>''id'') || (SELECT emp.country) || (row_to_json(emp.*)->>''login'')"}'), 'NEW.id > 0 AND emp.id < 100', true);
TRUNCATE hr.emp;
INSERT INTO hr.emp VALUES (1, 'first', 'US'), (200, 'second', 'US');
UPDATE hr.emp SET id = 2 WHERE id = 200;
SELECT body->'fullName' AS full_name, body->'nickname' AS nickname, body->'description' AS description FROM bodies;
SELECT forget();
ALTER TABLE hr.emp RENAME TO staff;
SELECT message, argument FROM mistake($$INSERT INTO hr.staff VALUES (3, 'third', 'US')$$);
SELECT count(*) FROM lp_detach_trigger('hr.staff');
SELECT count(*) FROM lp_attach_trigger('hr.staff', '12345678', base('{"loginName": "NEW.login", "nickname": "NEW.login", "fullName": "login"}'));
ALTER TABLE hr.staff RENAME TO "new";
INSERT INTO hr."new" VALUES (4, 'fourth', 'US');
ALTER TABLE hr."new" RENAME COLUMN country TO "new";
INSERT INTO hr."new" VALUES (5, 'fifth', 'US');
SELECT message, argument FROM mistake($$SELECT lp_attach_trigger('hr."new"', '55550001', base('{"fullName": "new.nosuch"}'))$$);
ALTER TABLE hr."new" RENAME TO emp;
SELECT message, argument FROM mistake($$SELECT lp_attach_trigger('hr.emp', '55550001', base('{"fullName": "emp.nosuch"}'))$$);
SELECT message, argument FROM mistake($$SELECT lp_attach_trigger('hr.emp', '55550001', base('{"fullName": "old.login"}'))$$);
SELECT message, argument FROM mistake($$SELECT lp_attach_trigger('hr.emp', '55550001', base('{"fullName": "$1"}'))$$);
SELECT login_name, state FROM seen;
SELECT forget();

-- Generated columns have their value, also virtual ones, which triggers see as null.
SELECT CASE WHEN current_setting('server_version_num')::integer >= 180000 THEN 'VIRTUAL' ELSE 'STORED' END AS kind \gset
CREATE TABLE hr.made (id integer PRIMARY KEY, first text, gone integer, "Last Name" text, login text GENERATED ALWAYS AS (lower(first || '.' || "Last Name")) :kind, long varchar(30) GENERATED ALWAYS AS (first || ' ' || "Last Name") :kind);
ALTER TABLE hr.made DROP COLUMN gone;
SELECT count(*) FROM lp_attach_trigger('hr.made', '12345678', base('{"fullName": "NEW.long", "nickname": "made.long"}'), $$long <> 'A A'$$, true);
INSERT INTO hr.made (id, first, "Last Name") VALUES (1, 'Ann', 'O''Hara'), (2, 'A', 'A');
UPDATE hr.made SET first = 'B' WHERE id = 2;
UPDATE hr.made SET first = 'C' WHERE id = 2;
SELECT lp_enqueue_rows('hr.made', $$login = 'c.a'$$);
SELECT login_name, body->'fullName' AS full_name, body->'nickname' AS nickname FROM bodies;
SELECT forget();

SET client_min_messages = warning;
DROP SCHEMA hr CASCADE;
RESET client_min_messages;
DROP USER MAPPING FOR CURRENT_USER SERVER emea;
DROP SERVER emea;
REVOKE ALL ON FUNCTION lp_enqueue_rows(regclass, text, text) FROM regress_clerk;
DROP VIEW seen;
DROP FUNCTION base(jsonb);
DROP ROLE regress_clerk;
\i sql/include/finish.sql

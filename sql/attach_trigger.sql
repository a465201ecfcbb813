-- attach_trigger: lp_attach_trigger() writes the trigger and checks first; whose rights count when it fires, and what is held
\set with_queue on
\i sql/include/start.sql
CREATE ROLE regress_hr;
CREATE ROLE regress_clerk;
CREATE SCHEMA hr AUTHORIZATION regress_hr;
CREATE SCHEMA clerk AUTHORIZATION regress_clerk;
GRANT USAGE ON FOREIGN SERVER acme TO regress_hr;
CREATE USER MAPPING FOR regress_hr SERVER acme OPTIONS (token 'lp-token');
-- The clerk may insert, and nothing else; the users are sent as the owner of the table.
SET ROLE regress_hr;
CREATE TABLE hr.people (id integer PRIMARY KEY, email text, name text);
GRANT USAGE ON SCHEMA hr TO regress_clerk;
GRANT INSERT ON hr.people TO regress_clerk;
CREATE FUNCTION hr.secret(text) RETURNS text LANGUAGE sql AS $$ SELECT $1 || ' of ' || current_user $$;
CREATE FUNCTION hr.nick(text) RETURNS text LANGUAGE sql AS $$ SELECT 'nick ' || $1 || ' by ' || current_user || ' under ' || current_setting('search_path') $$;
SELECT hook('hr.people', 'STATEMENT'); -- ERROR
RESET ROLE;
SELECT p, has_function_privilege('regress_hr', p, 'EXECUTE') FROM unnest(ARRAY['lp_create_users_trigger()', 'lp_attach_trigger(regclass,text,jsonb,text,boolean,text,text)', 'lp_detach_trigger(regclass,text,text)', 'lp_enqueue_rows(regclass,text,text)']) p;
GRANT EXECUTE ON FUNCTION lp_create_users_trigger() TO regress_hr;
SET ROLE regress_hr;
SELECT hook('hr.people', 'STATEMENT', '{"nickname": "nick(name)"}');
SET ROLE regress_clerk;
SET search_path = clerk, public;
INSERT INTO hr.people VALUES (1, 'ann@example.com', 'Ann');
SHOW search_path;
SELECT login_name, state, requested_by, send_as, server, source_table, source_key FROM lp_results;
SELECT * FROM hr.people; -- ERROR
SELECT * FROM lp_requests; -- ERROR
SELECT * FROM lp_payloads; -- ERROR
RESET ROLE;
RESET search_path;
SELECT body->>'nickname' AS nickname FROM bodies;
-- what lies in the clerk's search_path is not found: neither function nor operator
CREATE FUNCTION clerk.lower(text) RETURNS text LANGUAGE sql AS $$ SELECT 'planted'::text $$;
CREATE FUNCTION clerk.glue(text, text) RETURNS text LANGUAGE sql AS $$ SELECT 'planted'::text $$;
CREATE OPERATOR clerk.|| (LEFTARG = text, RIGHTARG = text, FUNCTION = clerk.glue);
CREATE FUNCTION clerk.only_here(text) RETURNS text LANGUAGE sql AS $$ SELECT 'planted'::text $$;
DROP TRIGGER hook ON hr.people;
SET ROLE regress_hr;
SELECT hook('hr.people', 'ROW', '{"nickname": "lower(name) || lower(''X'')"}');
SET ROLE regress_clerk;
SET search_path = clerk, pg_catalog, public;
SELECT lower('Ann') AS planted, text 'a' || text 'x' AS planted;
INSERT INTO hr.people VALUES (2, 'bob@example.com', 'Bob');
-- nor what lies in a temporary schema
RESET search_path;
CREATE FUNCTION pg_temp.lower(text) RETURNS text LANGUAGE sql AS $$ SELECT 'planted'::text $$;
CREATE TEMP TABLE people (id integer, email text, name text);
INSERT INTO hr.people VALUES (3, 'cid@example.com', 'Cid');
RESET ROLE;
DROP TABLE pg_temp.people;
DROP FUNCTION pg_temp.lower(text);
SELECT login_name, body->>'nickname' AS nickname FROM bodies OFFSET 1;
DROP TRIGGER hook ON hr.people;
SELECT hook('hr.people', 'ROW', '{"nickname": "only_here(name)"}');
SET ROLE regress_clerk;
SET search_path = clerk, public;
SELECT * FROM mistake($$INSERT INTO hr.people VALUES (4, 'dan@example.com', 'Dan')$$);
RESET ROLE;
RESET search_path;
-- expressions run with the clerk's rights
REVOKE EXECUTE ON FUNCTION hr.secret(text) FROM PUBLIC;
DROP TRIGGER hook ON hr.people;
SELECT hook('hr.people', 'STATEMENT', '{"nickname": "secret(name)"}');
SET ROLE regress_hr;
INSERT INTO hr.people VALUES (4, 'dan@example.com', 'Dan');
SET ROLE regress_clerk;
SELECT * FROM mistake($$INSERT INTO hr.people VALUES (5, 'eve@example.com', 'Eve')$$);
RESET ROLE;
SELECT login_name, requested_by, send_as FROM lp_requests ORDER BY id;
DROP TRIGGER hook ON hr.people;
SELECT hook('hr.people', 'STATEMENT', '{"nickname": "(SELECT max(p.name) FROM people p)"}');
SET ROLE regress_clerk;
SELECT * FROM mistake($$INSERT INTO hr.people VALUES (5, 'eve@example.com', 'Eve')$$);
RESET ROLE;
-- without EXECUTE on the function the trigger still fires, it only cannot be made
REVOKE EXECUTE ON FUNCTION lp_create_users_trigger() FROM regress_hr;
DROP TRIGGER hook ON hr.people;
SELECT hook('hr.people', 'STATEMENT');
SET ROLE regress_clerk;
INSERT INTO hr.people VALUES (5, 'eve@example.com', 'Eve');
RESET ROLE;
SELECT login_name, requested_by, send_as FROM lp_requests ORDER BY id OFFSET 4;
-- mode=sync is sent as the owner, too
DROP TRIGGER hook ON hr.people;
SELECT hook('hr.people', 'STATEMENT', '{"mode": "sync"}');
SET ROLE regress_clerk;
INSERT INTO hr.people VALUES (6, 'sync@example.com', 'Sync');
SELECT current_user;
RESET ROLE;
SELECT login_name, path, state, requested_by, send_as FROM lp_requests ORDER BY id OFFSET 5;
DROP TRIGGER hook ON hr.people;
-- the clerk asked, also through a function that runs as another role
CREATE FUNCTION hr.hire(integer, text) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ INSERT INTO hr.people VALUES ($1, $2, $2) $$;
ALTER FUNCTION hr.hire(integer, text) OWNER TO regress_hr;
SELECT hook('hr.people', 'STATEMENT');
SET ROLE regress_clerk;
SELECT hr.hire(7, 'hire@example.com');
RESET ROLE;
SELECT login_name, path, state, requested_by, send_as FROM lp_requests ORDER BY id OFFSET 6;
DROP TRIGGER hook ON hr.people;

-- The set-up is wrong: the statement succeeds, its users are held, with one WARNING.
SELECT forget();
SELECT hook('hr.people', 'STATEMENT');
ALTER TABLE hr.people OWNER TO regress_clerk;
SET ROLE regress_clerk;
INSERT INTO hr.people VALUES (11, 'h1@example.com', 'H'), (12, 'h2@example.com', 'H'), (13, 'h3@example.com', NULL);
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER acme TO regress_clerk;
INSERT INTO hr.people VALUES (14, 'h4@example.com', 'H');
DROP TRIGGER hook ON hr.people;
SELECT hook('hr.people', 'ROW', '{"account": "nobody"}');
INSERT INTO hr.people VALUES (15, 'h5@example.com', 'H'), (16, 'h6@example.com', 'H'), (17, 'h7@example.com', 'H');
INSERT INTO hr.people VALUES (18, 'h8@example.com', 'H'), (19, 'H5@example.com', 'H');
INSERT INTO hr.people SELECT 1, 'none', 'x' WHERE false;
DROP TRIGGER hook ON hr.people;
SELECT account, server, login_name, state, error, reason, send_as, next_attempt_at, finished_at IS NOT NULL AS finished FROM lp_requests ORDER BY id;
SELECT login_name FROM bodies;
-- mended, released, delivered
CREATE USER MAPPING FOR regress_clerk SERVER acme OPTIONS (token 'lp-token');
SELECT lp_release('12345678');
SELECT lp_release('nobody'); -- an account without a server
SET client_min_messages = warning;
CALL lp_deliver();
RESET client_min_messages;
SELECT login_name, state, error, reason FROM lp_requests ORDER BY id;
-- mode=sync has nothing to hold
SELECT hook('hr.people', 'ROW', '{"account": "nobody", "mode": "sync"}');
INSERT INTO hr.people VALUES (20, 'h9@example.com', 'H'); -- ERROR
DROP TRIGGER hook ON hr.people;
SELECT forget();

-- hold_above: the statement that crosses it, and what follows in the transaction
\! curl -sSfo /dev/null -X POST $LPSIM_URL/_sim/reset
ALTER SERVER acme OPTIONS (ADD hold_above '3');
ALTER TABLE hr.people OWNER TO CURRENT_USER;
SELECT hook('hr.people', 'STATEMENT');
BEGIN;
INSERT INTO hr.people SELECT i, 'a' || i || '@example.com', 'A' FROM generate_series(101, 102) i;
INSERT INTO hr.people VALUES (103, 'a103@example.com', 'A');
INSERT INTO hr.people SELECT i, 'a' || i || '@example.com', 'A' FROM generate_series(104, 105) i;
INSERT INTO hr.people VALUES (106, 'a106@example.com', NULL), (107, 'a107@example.com', 'A');
COMMIT;
INSERT INTO hr.people SELECT i, 'b' || i || '@example.com', 'B' FROM generate_series(111, 113) i;
INSERT INTO hr.people SELECT i, 'c' || i || '@example.com', 'C' FROM generate_series(121, 124) i;
-- lp_enqueue_users() is never held, and does not count
BEGIN;
SELECT count(*) FROM lp_enqueue_users('12345678', people('d', 5));
INSERT INTO hr.people VALUES (131, 'd131@example.com', 'D');
COMMIT;
SELECT login_name, state, error, reason, next_attempt_at IS NOT NULL AS due FROM lp_requests ORDER BY id;
-- nothing of it is sent before it is released
SET client_min_messages = warning;
CALL lp_deliver();
SELECT state, count(*) FROM lp_requests GROUP BY 1 ORDER BY 1;
SELECT lp_release('12345678');
SELECT lp_release('12345678');
CALL lp_deliver();
RESET client_min_messages;
SELECT state, count(*) FROM lp_requests GROUP BY 1 ORDER BY 1;
\! curl -sSf "$LPSIM_URL/_sim/created"
SELECT forget();
ALTER SERVER acme OPTIONS (SET hold_above '0');
INSERT INTO hr.people SELECT i, 'e' || i || '@example.com', 'E' FROM generate_series(1001, 2500) i;
SELECT state, count(*) FROM lp_requests GROUP BY 1;
SELECT forget();
-- row by row it is crossed within the statement
DROP TRIGGER hook ON hr.people;
SELECT hook('hr.people', 'ROW');
ALTER SERVER acme OPTIONS (SET hold_above '2');
INSERT INTO hr.people SELECT i, 'f' || i || '@example.com', 'F' FROM generate_series(141, 144) i;
SELECT login_name, state FROM lp_requests ORDER BY id;
ALTER SERVER acme OPTIONS (DROP hold_above);
DROP TRIGGER hook ON hr.people;
SELECT forget();

-- lp_attach_trigger() writes the trigger; it checks first.
CREATE FUNCTION base(more jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_strip_nulls('{"loginName": "email", "fullName": "name", "nickname": "name", "email": "email", "passwordSh": "''Start-1234''", "isEnabled": "true",
		"maxChats": "3", "profileIds": "ARRAY[1002]", "memberOf": "jsonb_build_object(''agentGroupId'', 2001)"}' || more) $$;
CREATE VIEW hooks AS SELECT tgrelid::regclass AS "table", tgname, (tgtype & 1 = 1) AS by_row, CASE WHEN tgtype & 4 > 0 THEN 'INSERT' END AS ins, CASE WHEN tgtype & 16 > 0 THEN 'UPDATE' END AS upd, tgnewtable
	FROM pg_trigger WHERE tgfoid = 'lp_create_users_trigger()'::regprocedure ORDER BY 1::text, 2;
SELECT * FROM lp_attach_trigger('hr.people', '12345678', base());
SELECT * FROM hooks;
INSERT INTO hr.people VALUES (201, 'att1@example.com', 'A'), (202, 'att2@example.com', 'A');
SELECT login_name, state, source_table, source_key FROM lp_requests ORDER BY id;
SELECT * FROM lp_attach_trigger('hr.people', '12345678', base()); -- ERROR
SELECT * FROM lp_detach_trigger('hr.people');
SELECT * FROM lp_detach_trigger('hr.people');
SELECT forget();
-- condition, on_update, mode
SELECT * FROM lp_attach_trigger('hr.people', '12345678', base(), 'id < 1000 AND name <> ''it''''s''', true, 'sync');
SELECT * FROM hooks;
INSERT INTO hr.people VALUES (9999, 'att3@example.com', 'A'), (203, 'att4@example.com', 'A');
UPDATE hr.people SET id = id - 9000 WHERE id = 9999;
SELECT login_name, path, state FROM lp_requests ORDER BY id;
SELECT * FROM lp_detach_trigger('hr.people');
SELECT forget();
-- partitioned tables and partitions (see trigger_partitions)
CREATE TABLE hr.parts (id integer, email text, name text, region text, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
CREATE TABLE hr.parts_eu (name text, region text NOT NULL, gone integer, id integer NOT NULL, email text);
ALTER TABLE hr.parts_eu DROP COLUMN gone;
ALTER TABLE hr.parts ATTACH PARTITION hr.parts_eu FOR VALUES IN ('eu');
CREATE TABLE hr.parts_us PARTITION OF hr.parts FOR VALUES IN ('us');
SELECT * FROM lp_attach_trigger('hr.parts', '12345678', base(), 'parts.region IS NOT NULL', true);
SELECT * FROM hooks;
INSERT INTO hr.parts VALUES (1, 'p1@example.com', 'P', 'eu'), (2, 'p2@example.com', 'P', 'us');
INSERT INTO hr.parts_eu VALUES ('P', 'eu', 3, 'p3@example.com');
UPDATE hr.parts SET region = 'us' WHERE id = 1;
SELECT login_name, state, error, source_table, source_key FROM lp_requests ORDER BY id;
SELECT body FROM bodies;
SELECT * FROM lp_detach_trigger('hr.parts_eu');
SELECT * FROM lp_detach_trigger('hr.parts');
SELECT * FROM hooks;
SELECT forget();
SELECT * FROM lp_attach_trigger('hr.parts_us', '12345678', base());
INSERT INTO hr.parts VALUES (4, 'p4@example.com', 'P', 'us'), (5, 'p5@example.com', 'P', 'eu');
INSERT INTO hr.parts_us VALUES (6, 'p6@example.com', 'P', 'us');
SELECT login_name, source_table FROM lp_requests ORDER BY id;
SELECT * FROM lp_detach_trigger('hr.parts_us');
SELECT forget();
DROP TABLE hr.parts;
-- names and texts that need quotes
CREATE SCHEMA "Hr ""2""";
CREATE TABLE "Hr ""2"""."My Table" ("E-mail" text, name text);
SELECT * FROM lp_attach_trigger('"Hr ""2"""."My Table"', '12345678', base('{"loginName": "\"E-mail\"", "email": "\"My Table\".\"E-mail\"", "nickname": "''O''''Hara\\'' || E''\\n''"}'), '"E-mail" <> ''''');
INSERT INTO "Hr ""2"""."My Table" VALUES ('q@example.com', 'Q'), ('', 'Q');
SELECT * FROM bodies;
SELECT * FROM lp_detach_trigger('"Hr ""2"""."My Table"');
DROP SCHEMA "Hr ""2""" CASCADE;
SELECT forget();
-- it takes away what it made, not what was made by hand, and nothing else
SELECT hook('hr.people', 'STATEMENT');
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER nothing AFTER INSERT ON hr.people FOR EACH ROW EXECUTE FUNCTION nothing();
SELECT * FROM lp_attach_trigger('hr.people', '12345678', base());
SELECT * FROM lp_detach_trigger('hr.people');
SELECT tgname FROM pg_trigger WHERE tgrelid = 'hr.people'::regclass ORDER BY 1;
SELECT * FROM lp_detach_trigger('hr.people');
DROP FUNCTION nothing() CASCADE;
DROP TRIGGER hook ON hr.people;
-- what it refuses
SELECT lp_attach_trigger('hr.people', '12345678', '{"full_name": "name"}'); -- ERROR
SELECT lp_attach_trigger('hr.people', '12345678', '{"colour": "name"}'); -- ERROR
SELECT lp_attach_trigger('hr.people', '12345678', base('{"passwordSh": "Welcome1!"}')); -- ERROR, a text without quotes of its own
CREATE FUNCTION outside(text) RETURNS text LANGUAGE sql AS $$ SELECT $1 $$;
CREATE VIEW hr.seen AS SELECT * FROM hr.people;
CREATE MATERIALIZED VIEW hr.kept AS SELECT * FROM hr.people;
CREATE TEMP TABLE fleeting (id integer, email text, name text);
SELECT n, m.state, m.message, m.detail, m.argument FROM (VALUES
	(1, $$'hr.seen', '12345678', base()$$), (2, $$'hr.kept', '12345678', base()$$), (3, $$'fleeting', '12345678', base()$$),
	(5, $$NULL, '12345678', base()$$), (6, $$'hr.people', NULL, base()$$), (7, $$'hr.people', '12345678', NULL$$), (8, $$'hr.people', '12345678', base(), NULL, NULL$$),
	(9, $$'hr.people', '12345678', base(), NULL, false, NULL$$), (10, $$'hr.people', '12345678', '[]'$$), (11, $$'hr.people', '12345678', '"x"'$$), (12, $$'hr.people', '12345678', '{}'$$),
	(13, $$'hr.people', '12345678', base('{"maxChats": [3]}')$$), (14, $$'hr.people', '12345678', base() || '{"maxChats": null}'$$), (15, $$'hr.people', '../x', base()$$), (16, $$'hr.people', 'nobody', base()$$),
	(17, $$'hr.people', '12345678', base(), NULL, true$$), (18, $$'hr.people', '12345678', base(), NULL, false, 'later'$$), (19, $$'hr.people', '12345678', base(), ''$$),
	(20, $$'hr.people', '12345678', base(), 'nosuch'$$), (21, $$'hr.people', '12345678', base(), 'name'$$), (22, $$'hr.people', '12345678', base('{"no": "x"}')$$), (23, $$'hr.people', '12345678', base('{"id": "1"}')$$),
	(24, $$'hr.people', '12345678', base('{"email": null}')$$), (25, $$'hr.people', '12345678', base('{"passwordSh": null, "nickname": null}')$$), (26, $$'hr.people', '12345678', base('{"email": "nosuch"}')$$),
	(27, $$'hr.people', '12345678', base('{"email": "name ||"}')$$), (28, $$'hr.people', '12345678', base('{"email": "outside(email)"}')$$), (29, $$'hr.people', '12345678', base('{"maxChats": "name"}')$$),
	(30, $$'hr.people', '12345678', base('{"isEnabled": "1"}')$$), (31, $$'hr.people', '12345678', base('{"profileIds": "1002"}')$$), (32, $$'hr.people', '12345678', base('{"profileIds": "ARRAY[''x'']"}')$$),
	(33, $$'hr.people', '12345678', base('{"memberOf": "email"}')$$), (34, $$'hr.people', '12345678', base('{"email": "ARRAY[email]"}')$$), (35, $$'hr.people', '12345678', base('{"email": "true"}')$$),
	(36, $$'hr.people', '12345678', base('{"email": "hired.email"}')$$), (37, $$'hr.people', '12345678', base('{"email": "max(email)"}')$$), (38, $$'hr.people', '12345678', base('{"email": "unnest(ARRAY[email])"}')$$),
	(39, $$'hr.people', '12345678', base('{"email": "email; DROP TABLE hr.people"}')$$),
	(40, $$'hr.people', '12345678', base(), name => ''$$), (41, $$'hr.people', '12345678', base(), name => repeat('n', 49)$$),
	-- what the row of a trigger does not have, and a condition that is not boolean there
	(42, $$'hr.people', '12345678', base('{"email": "ctid::text"}')$$), (43, $$'hr.people', '12345678', base('{"email": "new.tableoid::regclass"}')$$), (44, $$'hr.people', '12345678', base('{"email": "people.xmin::text"}')$$),
	(45, $$'hr.people', '12345678', base(), 'null'$$), (46, $$'hr.people', '12345678', base(), 'ctid IS NULL'$$)) v (n, arguments), LATERAL mistake('SELECT lp_attach_trigger(' || arguments || ')') m ORDER BY n;
SELECT * FROM hooks;
-- numbers and booleans of JSON stand for themselves
SELECT * FROM lp_attach_trigger('hr.people', '12345678', '{"loginName": "email", "email": "email", "fullName": "name", "nickname": "name", "passwordSh": "''Start-1234''", "isEnabled": true, "changePwdNextLogin": false,
	"maxChats": 3.0, "memberOf": 2001, "profileIds": "ARRAY[1002]"}');
INSERT INTO hr.people VALUES (300, 'plain@example.com', 'Plain');
SELECT body FROM bodies WHERE login_name = 'plain@example.com';
SELECT count(*) FROM lp_detach_trigger('hr.people');
SELECT forget();
-- what it accepts: types of columns that are domains, json, numbers as text of the login
CREATE DOMAIN number AS integer;
CREATE DOMAIN numbers AS bigint[];
CREATE TABLE hr.typed (email varchar(100), name name, chats number, whole numeric(4,1) DEFAULT 3, real float8 DEFAULT 4e3, ids float4[] DEFAULT '{1002}', profiles numbers, data json, key uuid, enabled boolean NOT NULL DEFAULT true);
SELECT count(*) FROM lp_attach_trigger('hr.typed', '12345678', base('{"maxChats": "chats", "profileIds": "profiles", "memberOf": "data", "employeeId": "key", "isEnabled": "enabled", "pid": "chats",
	"description": "data->''about''", "isApiUser": "NULL::boolean", "allowedAppKeys": "name"}'));
INSERT INTO hr.typed (email, name, chats, profiles, data, key) VALUES ('typed@example.com', 'T', 4, '{1002}', '{"agentGroupId": 2001, "about": "x"}', '00000000-0000-0000-0000-000000000001');
SELECT * FROM queue;
SELECT * FROM bodies;
SELECT forget();
-- any type of numbers; whole numbers are sent as such
SELECT count(*) FROM lp_detach_trigger('hr.typed');
SELECT count(*) FROM lp_attach_trigger('hr.typed', '12345678', base('{"maxChats": "whole", "maxAsyncChats": "real", "profileIds": "ids", "memberOf": "2001::oid", "userTypeId": "2::float4"}'));
INSERT INTO hr.typed (email, name) VALUES ('number@example.com', 'N');
SELECT * FROM queue;
SELECT * FROM bodies;
SELECT forget();
DROP TABLE hr.typed;
DROP DOMAIN number, numbers;
-- rights: the owner of the table, with EXECUTE on the trigger function; the owner's set-up is looked at, not the caller's
ALTER TABLE hr.people OWNER TO regress_hr;
SET ROLE regress_clerk;
SELECT * FROM lp_attach_trigger('hr.people', '12345678', base()); -- ERROR
SELECT * FROM lp_detach_trigger('hr.people');
SET ROLE regress_hr;
SELECT * FROM lp_attach_trigger('hr.people', '12345678', base()); -- ERROR
RESET ROLE;
GRANT EXECUTE ON FUNCTION lp_create_users_trigger() TO regress_hr, regress_clerk;
SET ROLE regress_hr;
SELECT count(*) FROM lp_attach_trigger('hr.people', '12345678', base());
SET ROLE regress_clerk;
SELECT * FROM lp_attach_trigger('hr.people', '12345678', base()); -- ERROR
SELECT * FROM lp_detach_trigger('hr.people'); -- ERROR
SET ROLE regress_hr;
SELECT count(*) FROM lp_detach_trigger('hr.people');
RESET ROLE;
-- who may not have the trigger does not wait for the table either
\! "$PSQL" -AXqt -c BEGIN -c "LOCK TABLE hr.people IN ROW EXCLUSIVE MODE" -c "\\! \"\$PSQL\" -AXqt -c 'SET lock_timeout = 20000' -c 'SET ROLE regress_clerk' -c \"SELECT lp_attach_trigger('hr.people', '12345678', '{\\\"loginName\\\": \\\"email\\\"}')\" 2>&1" -c ROLLBACK
SET default_transaction_read_only = on;
SELECT lp_attach_trigger('hr.people', '12345678', base()); -- ERROR
RESET default_transaction_read_only;
DROP USER MAPPING FOR regress_hr SERVER acme;
SELECT lp_attach_trigger('hr.people', '12345678', base()); -- ERROR
REVOKE USAGE ON FOREIGN SERVER acme FROM regress_hr;
SELECT lp_attach_trigger('hr.people', '12345678', base()); -- ERROR

SET client_min_messages = warning;
DROP SCHEMA hr, clerk CASCADE;
RESET client_min_messages;
DROP USER MAPPING FOR regress_clerk SERVER acme;
REVOKE ALL ON FOREIGN SERVER acme FROM regress_clerk;
REVOKE ALL ON FUNCTION lp_create_users_trigger() FROM regress_hr, regress_clerk;
DROP ROLE regress_hr, regress_clerk;
DROP VIEW hooks;
DROP FUNCTION outside(text), base(jsonb);
\i sql/include/finish.sql

-- trigger_arguments: rows become users: both forms, each argument, each attribute; what is wrong, where it shows, and whose rights count
\set with_queue on
\i sql/include/start.sql

-- Written by hand, FOR EACH STATEMENT
CREATE TABLE staff (id integer PRIMARY KEY, email text, first_name text, last_name text, job text, active boolean DEFAULT true, team bigint DEFAULT 2001);
CREATE TRIGGER provision AFTER INSERT ON staff REFERENCING NEW TABLE AS hired FOR EACH STATEMENT
	EXECUTE FUNCTION lp_create_users_trigger('12345678', 'loginName=email', 'fullName=first_name || '' '' || last_name', 'nickname=first_name',
	'email=email', 'passwordSh=''Start-'' || id', 'changePwdNextLogin=true', 'isEnabled=true', 'maxChats=3', 'profileIds=ARRAY[1002]',
	'memberOf=jsonb_build_object(''agentGroupId'', team)', 'when=active', 'mode=queue', 'on_error=record');
INSERT INTO staff VALUES (1, 'ann@example.com', 'Ann', 'O''Hara', 'x', true), (2, 'bob@example.com', 'Bob', E'"B"\\\tx', 'x', true),
	(3, 'cid@example.com', 'Cid', 'é€😀', 'x', true), (4, 'off@example.com', 'Off', 'Duty', 'x', false), (5, 'null@example.com', 'Null', 'Active', 'x', NULL);
SELECT login_name, operation, path, account, server, state, attempts, next_attempt_at <= clock_timestamp() AS due, requested_by = current_user AS mine,
	send_as = current_user AS as_me, source_table, source_key, origin = lp_origin() AS here, status, user_id, finished_at FROM lp_requests ORDER BY id;
SELECT * FROM bodies;
INSERT INTO staff SELECT 9, 'none' WHERE false;
SELECT count(*) FROM lp_requests;
-- COPY, and INSERT with RETURNING
COPY staff (id, email, first_name, last_name) FROM stdin;
6	dan@example.com	Dan	D
7	eve@example.com	Eve	E
\.
INSERT INTO staff (id, email, first_name, last_name) VALUES (8, 'fay@example.com', 'Fay', 'F') RETURNING id;
SELECT login_name, state, source_key FROM lp_requests ORDER BY id OFFSET 3;
-- the rows are ordinary rows, with everything that their tables demand
SELECT count(*) FROM lp_requests WHERE id IS NULL OR enqueued_at IS NULL OR finished_at IS NOT NULL OR next_attempt_at IS NULL;
SELECT login_name FROM lp_requests WHERE account = '12345678' AND lower(login_name) = 'eve@example.com' AND state IN ('pending', 'sending', 'uncertain', 'held');
SELECT forget();
DROP TRIGGER provision ON staff;

-- FOR EACH ROW; UPDATE makes a user when the condition becomes true
CREATE TABLE t (id serial PRIMARY KEY, email text, name text, job text DEFAULT 'agent');
SELECT hook('t', 'ROW', '{"when": "job = ''agent''"}', 'INSERT OR UPDATE');
INSERT INTO t (email, name, job) VALUES ('ann@example.com', 'Ann', 'agent'), ('bob@example.com', 'Bob', 'clerk'), ('cid@example.com', 'Cid', NULL);
SELECT login_name, state, source_key FROM lp_requests ORDER BY id;
UPDATE t SET job = 'agent';
UPDATE t SET name = name || '!';
UPDATE t SET job = 'clerk';
UPDATE t SET job = NULL;
SELECT login_name, state, source_key FROM lp_requests ORDER BY id;
UPDATE t SET job = 'agent' WHERE name = 'Cid!';
INSERT INTO t (email, name, job) VALUES ('dan@example.com', 'Dan', 'agent');
INSERT INTO t (id, email, name, job) VALUES (2, 'bob2@example.com', 'Bob', 'agent') ON CONFLICT (id) DO UPDATE SET job = excluded.job, email = excluded.email;
SELECT login_name, state, error, source_key FROM lp_requests ORDER BY id OFFSET 3;
SELECT body->>'nickname' AS nickname FROM bodies;
SELECT forget();
-- in another session that begins with the UPDATE
\c -
\pset null NULL
\set ECHO all
UPDATE t SET job = 'clerk';
UPDATE t SET job = 'agent' WHERE id = 1;
INSERT INTO t (email, name) VALUES ('eve@example.com', 'Eve');
SELECT * FROM queue;
SELECT forget();
DROP TRIGGER hook ON t;

-- Each attribute, from types that fit and that do not: a row that is wrong is recorded as failed.
CREATE TABLE v (x integer);
CREATE DOMAIN whole AS integer;
CREATE DOMAIN yes AS boolean CHECK (VALUE);
CREATE DOMAIN wholes AS integer[];
CREATE DOMAIN document AS jsonb;
CREATE DOMAIN word AS varchar(20);
CREATE TYPE mood AS ENUM ('sad', 'true');
CREATE FUNCTION value_of(attribute text, expression text, more jsonb DEFAULT '{}', OUT state text, OUT sent text, OUT error text) LANGUAGE plpgsql AS $$
DECLARE
	m record;
BEGIN
	SELECT * INTO m FROM mistake(format('SELECT hook(''v'', ''STATEMENT'', %L); INSERT INTO v VALUES (1)',
		'{"loginName": "''v@example.com''", "fullName": "''V''", "nickname": "''V''", "email": "''v@example.com''"}'::jsonb || jsonb_build_object(attribute, expression) || more));
	SELECT q.state, (p.body->attribute)::text, q.error INTO state, sent, error FROM lp_requests q LEFT JOIN lp_payloads p ON p.request_id = q.id;
	IF m.state <> '00000' THEN
		state := m.state;
		error := m.message || coalesce(': ' || m.argument, '');
	ELSE
		DROP TRIGGER hook ON v;
	END IF;
	PERFORM forget();
END $$;
SELECT v.*, r.* FROM (VALUES
	('maxChats', '4'), ('maxChats', '4::smallint'), ('maxChats', '4::bigint'), ('maxChats', '4.0'), ('maxChats', '4.5'), ('maxChats', '-1'), ('maxChats', '''4''::text'),
	('maxChats', '''4''::varchar'), ('maxChats', '4::whole'), ('maxChats', '''007'''), ('maxChats', '''-007'''), ('maxChats', '''4 '''), ('maxChats', '''4''::char(3)'),
	('maxChats', '''four'''), ('maxChats', ''''''), ('maxChats', '''-'''), ('maxChats', '''NaN''::numeric'), ('maxChats', '''Infinity''::numeric'),
	('maxChats', '4.5::float8'), ('maxChats', '4::float8'), ('maxChats', 'true'), ('maxChats', 'NULL'), ('maxChats', 'NULL::integer'), ('maxChats', '''4''::jsonb'),
	('maxChats', '''"4"''::jsonb'), ('maxChats', '''"x"''::jsonb'), ('maxChats', '''null''::jsonb'), ('maxChats', '''4''::json'), ('maxChats', 'ARRAY[4]'),
	('maxChats', 'current_date'), ('maxChats', '9223372036854775807'), ('maxChats', '''9223372036854775808'''), ('maxChats', '1e30'),
	('maxAsyncChats', 'NULL'), ('maxAsyncChats', '''null''::jsonb'), ('maxAsyncChats', '''null''::json'),
	('userTypeId', '1'), ('userTypeId', '1.5'), ('userTypeId', '''1'''), ('userTypeId', '''null''::jsonb'),
	('isEnabled', 'true'), ('isEnabled', 'false'), ('isEnabled', 'true::yes'), ('isEnabled', '''true''::text'), ('isEnabled', '''false''::varchar(5)'), ('isEnabled', '''t''::text'),
	('isEnabled', '''yes''::text'), ('isEnabled', '1'), ('isEnabled', 'NULL'), ('isEnabled', 'NULL::boolean'), ('isEnabled', '''true''::jsonb'), ('isEnabled', '''"true"''::jsonb'),
	('isEnabled', '''"x"''::jsonb'), ('isEnabled', '''true''::mood'), ('isEnabled', '''sad''::mood'),
	('profileIds', 'ARRAY[1002]'), ('profileIds', 'ARRAY[1002, 4000000001]'), ('profileIds', 'ARRAY[1002]::smallint[]'), ('profileIds', 'ARRAY[1002]::numeric[]'),
	('profileIds', 'ARRAY[1002.5]'), ('profileIds', 'ARRAY[''1002'', ''1003'']'), ('profileIds', 'ARRAY[''01002'']'), ('profileIds', 'ARRAY[''x'']'), ('profileIds', 'ARRAY[1002]::wholes'),
	('profileIds', '''[0:1]={1002,1003}''::integer[]'), ('profileIds', '''{{1,2},{3,4}}''::integer[]'), ('profileIds', 'ARRAY[1002, NULL]'), ('profileIds', 'ARRAY[0]'),
	('profileIds', 'ARRAY[-1]'), ('profileIds', '''{}''::integer[]'), ('profileIds', 'NULL'), ('profileIds', 'NULL::integer[]'), ('profileIds', '1002'),
	('profileIds', '''{1002}'''), ('profileIds', '''[1002]'''), ('profileIds', '''[1002]''::jsonb'), ('profileIds', '''[1002]''::json'), ('profileIds', '''["1002"]''::jsonb'),
	('profileIds', '''[1002, null]''::jsonb'), ('profileIds', '''1002''::jsonb'), ('profileIds', '''null''::jsonb'), ('profileIds', '''{"a": 1}''::jsonb'),
	('skillIds', 'NULL'), ('skillIds', '''{}''::bigint[]'), ('skillIds', 'ARRAY[NULL::bigint]'), ('lobIds', '(SELECT array_agg(i) FROM generate_series(1, 3) i)'), ('permissionGroups', 'ARRAY[true]'),
	('memberOf', '''{"agentGroupId": 2001}''::jsonb'), ('memberOf', '''{"agentGroupId": 2001}''::json'), ('memberOf', '''{"agentGroupId": 2001}''::document'), ('memberOf', '''{"agentGroupId": "2001"}''::jsonb'),
	('memberOf', '''{"agentGroupId": -1}''::jsonb'), ('memberOf', '''{"agentGroupId": "x"}''::jsonb'), ('memberOf', '''{"agentGroupId": 2001, "assignmentDate": "2026-01-01"}''::jsonb'),
	('memberOf', '''{}''::jsonb'), ('memberOf', '''[]''::jsonb'), ('memberOf', '2001'), ('memberOf', '''{"agentGroupId": 2001}'''), ('memberOf', 'NULL'), ('memberOf', '''null''::jsonb'),
	('memberOf', 'ROW(1)'), ('managerOf', '''[{"agentGroupId": 2001}, {"agentGroupId": 2002}]''::jsonb'), ('managerOf', '''{"agentGroupId": 2001}''::jsonb'), ('managerOf', '''[]''::jsonb'),
	('managerOf', '''[null]''::jsonb'), ('managerOf', 'ARRAY[2001]'),
	('fullName', '''Ann''::varchar(10)'), ('fullName', '''Ann''::char(5)'), ('fullName', '''Ann''::name'), ('fullName', '''Ann''::word'), ('fullName', '''sad''::mood'), ('fullName', '7'),
	('fullName', '1.50'), ('fullName', '''2026-02-03''::date'), ('fullName', '''00000000-0000-0000-0000-000000000001''::uuid'), ('fullName', 'true'), ('fullName', 'ARRAY[''a'']'),
	('fullName', ''''''), ('fullName', '''  '''), ('fullName', 'NULL'), ('fullName', 'NULL::text'), ('fullName', '''"Ann"''::jsonb'), ('fullName', '''"Ann"''::json'), ('fullName', '''""''::jsonb'),
	('fullName', '''7''::jsonb'), ('fullName', '''null''::jsonb'), ('fullName', '''{"a": 1}''::json'), ('fullName', 'E''a"\\b\nc\td\x01é😀'''),
	('description', ''''''), ('description', 'NULL'), ('description', '''null''::jsonb'), ('description', '''"\u0000"''::json'), ('description', '''"\ud800"''::json'), ('employeeId', '12'),
	('loginName', '''w@example.com''::jsonb'), ('loginName', '''"w@example.com"''::jsonb'), ('loginName', '''"w@example.com"''::json'), ('loginName', '''w@example.com''::char(20)'), ('loginName', '17'),
	('loginName', 'NULL'), ('loginName', ''''''), ('loginName', 'ARRAY[''w'']'),
	('passwordSh', 'NULL'), ('passwordSh', ''''''), ('passwordSh', '''short'''), ('isApiUser', 'false'), ('isApiUser', 'NULL')) v (attribute, expression), LATERAL value_of(attribute, expression) r;
-- the login is the one that the account will name, whatever the type of its expression
CREATE TABLE doc (d jsonb);
SELECT hook('doc', 'STATEMENT', '{"loginName": "d->''email''", "email": "d->''email''", "fullName": "d->''name''", "nickname": "d->>''name''", "maxChats": "d->''chats''", "description": "d->''about''"}');
INSERT INTO doc VALUES ('{"email": "ann@example.com", "name": "Ann", "chats": "4", "about": null}'), ('{"email": "ANN@example.com", "name": "Ann", "chats": 4}'),
	('{"email": 7, "name": "x", "chats": 4}'), ('{"name": "x", "chats": []}');
SELECT * FROM queue;
SELECT * FROM bodies;
SELECT forget();
DROP TABLE doc;
-- API users have a key and no password, however they are marked
SELECT e AS api_user, k AS key, r.* FROM (VALUES ('true', '''k'''), ('true', 'NULL'), ('''true''', '''k'''), ('''true''::jsonb', '''k'''),
	('''"true"''::jsonb', '''k'''), ('true::yes', '''k'''), ('false', '''k'''), ('NULL', '''k''')) v (e, k),
	LATERAL value_of('isApiUser', e, jsonb_build_object('passwordSh', NULL, 'allowedAppKeys', k)) r;
-- without require_password no user needs one
ALTER SERVER acme OPTIONS (ADD require_password 'off');
SELECT * FROM value_of('passwordSh', NULL);
SELECT * FROM value_of('passwordSh', 'NULL::text');
ALTER SERVER acme OPTIONS (DROP require_password);
SELECT * FROM value_of('passwordSh', NULL);
-- several problems are all named
SELECT * FROM value_of('email', 'NULL', '{"maxChats": "''x''", "profileIds": "7", "nickname": null, "isEnabled": "1"}');
DROP TABLE v;
DROP FUNCTION value_of(text, text, jsonb);
DROP DOMAIN whole, yes, wholes, document, word;
DROP TYPE mood;

-- Names that need quotes; generated, dropped and added columns; keys of several columns and of none.
CREATE SCHEMA "Human ""Res""";
CREATE TABLE "Human ""Res"""."select" ("Key ""2""" numeric, "E-mail" text, gone integer, "né" text, "group" integer,
	"lower" text GENERATED ALWAYS AS (lower("E-mail")) STORED, "Key 1" text, at date, PRIMARY KEY ("Key 1", "Key ""2""", at));
ALTER TABLE "Human ""Res"""."select" DROP COLUMN gone;
SELECT hook('"Human ""Res"""."select"', 'STATEMENT', '{"loginName": "\"lower\"", "email": "\"select\".\"E-mail\"", "fullName": "\"né\"",
	"nickname": "\"né\" -- trailing comment", "maxChats": "\"group\""}');
INSERT INTO "Human ""Res"""."select" VALUES (1.50, 'Ann@Example.com', 'Ann', 4, DEFAULT, 'k"1', '2026-02-03'),
	('NaN', 'Bob@Example.com', 'Bob', 4, DEFAULT, '', '-infinity');
SELECT login_name, state, source_table, source_key FROM lp_requests ORDER BY id;
SELECT body FROM bodies;
SELECT forget();
DROP TRIGGER hook ON "Human ""Res"""."select";
SELECT hook('"Human ""Res"""."select"', 'ROW', '{"loginName": "\"lower\"", "email": "\"select\".\"E-mail\"", "fullName": "\"né\"",
	"nickname": "\"né\"", "maxChats": "added", "when": "added > 4"}', 'UPDATE');
ALTER TABLE "Human ""Res"""."select" ADD COLUMN added integer DEFAULT 4;
UPDATE "Human ""Res"""."select" SET at = '2026-02-04' WHERE "Key 1" = '';
UPDATE "Human ""Res"""."select" SET added = 5, "né" = 'Anna';
SELECT login_name, state, source_table, source_key FROM lp_requests ORDER BY id;
SELECT body FROM bodies;
SELECT forget();
-- table, schema and columns get other names
ALTER TABLE "Human ""Res"""."select" RENAME TO "from";
ALTER SCHEMA "Human ""Res""" RENAME TO "HR";
ALTER TABLE "HR"."from" RENAME "Key 1" TO k;
SELECT * FROM mistake($$UPDATE "HR"."from" SET added = added + 10$$);
DROP TRIGGER hook ON "HR"."from";
SELECT hook('"HR"."from"', 'ROW', '{"loginName": "\"lower\"", "email": "\"from\".\"E-mail\"", "fullName": "\"né\"", "nickname": "\"né\"", "maxChats": "added"}');
INSERT INTO "HR"."from" VALUES (3, 'Dan@Example.com', 'Dan', 4, DEFAULT, 'd', '2026-02-03', 9);
SELECT login_name, state, source_table, source_key FROM lp_requests ORDER BY id;
SELECT forget();
DROP TABLE "HR"."from";
DROP SCHEMA "HR";
-- no key; a table that changes after the first firing of this session
CREATE TABLE k (email text, name text, chats text);
SELECT hook('k', 'STATEMENT', '{"maxChats": "chats"}');
INSERT INTO k VALUES ('ann@example.com', 'Ann', '4');
ALTER TABLE k ALTER chats TYPE integer USING chats::integer;
INSERT INTO k VALUES ('bob@example.com', 'Bob', 4);
ALTER TABLE k ADD COLUMN id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY;
INSERT INTO k VALUES ('cid@example.com', 'Cid', 4);
ALTER TABLE k ALTER chats TYPE boolean USING true;
INSERT INTO k VALUES ('dan@example.com', 'Dan', true);
ALTER TABLE k DROP COLUMN chats;
SELECT * FROM mistake($$INSERT INTO k VALUES ('eve@example.com', 'Eve')$$);
ALTER TABLE k ADD COLUMN chats integer DEFAULT 5;
INSERT INTO k VALUES ('eve@example.com', 'Eve');
SELECT login_name, state, error, source_key FROM lp_requests ORDER BY id;
SELECT login_name, body->'maxChats' AS chats FROM bodies;
SELECT forget();
DROP TRIGGER hook ON k;
-- the same by rows
SELECT hook('k', 'ROW', '{"maxChats": "chats"}');
INSERT INTO k VALUES ('ann@example.com', 'Ann', DEFAULT, 4);
ALTER TABLE k ALTER chats DROP DEFAULT, ALTER chats TYPE text USING chats::text;
INSERT INTO k VALUES ('bob@example.com', 'Bob', DEFAULT, '6');
ALTER TABLE k ALTER chats TYPE boolean USING true, ADD COLUMN more integer;
INSERT INTO k VALUES ('cid@example.com', 'Cid', DEFAULT, true);
SELECT login_name, state, error FROM lp_requests ORDER BY id;
SELECT login_name, body->'maxChats' AS chats FROM bodies;
SELECT forget();
DROP TABLE k;
-- a trigger that is replaced is read anew
SELECT hook('t', 'ROW', '{"nickname": "lower(name)"}');
INSERT INTO t (email, name) VALUES ('ann@example.com', 'Ann');
DROP TRIGGER hook ON t;
SELECT hook('t', 'ROW', '{"nickname": "upper(name)"}');
INSERT INTO t (email, name) VALUES ('bob@example.com', 'Bob');
SELECT body->>'nickname' AS nickname FROM bodies;
SELECT forget();
DROP TRIGGER hook ON t;

-- Duplicates: in a statement, in a transaction, against the queue; upper and lower case alike.
SELECT hook('t', 'STATEMENT');
INSERT INTO t (email, name) VALUES ('ann@example.com', '1'), ('ANN@example.com', '2'), ('bob@example.com', '3'), (NULL, '4'), (NULL, '5');
BEGIN;
INSERT INTO t (email, name) VALUES ('cid@example.com', '6');
INSERT INTO t (email, name) VALUES ('Cid@example.com', '7');
COMMIT;
INSERT INTO t (email, name) VALUES ('cid@EXAMPLE.com', '8'), ('cid@example.com', '9');
-- the first of a statement is wrong: the second is taken
INSERT INTO t (email, name) VALUES ('dan@example.com', NULL), ('dan@example.com', '11');
SELECT login_name, state, error FROM lp_requests ORDER BY id;
-- what is finished does not stand in the way; what is held, sending or uncertain does
SELECT forget();
INSERT INTO t (email, name) SELECT s || '@example.com', s FROM unnest('{failed,created,held,sending,uncertain}'::text[]) s;
UPDATE lp_requests SET state = split_part(login_name, '@', 1), hold = CASE WHEN login_name ~ '^held' THEN 'threshold' END, cause = CASE WHEN login_name ~ '^failed' THEN 'refused' END;
INSERT INTO t (email, name) SELECT s || '@example.com', s FROM unnest('{failed,created,held,sending,uncertain}'::text[]) s;
SELECT login_name, state, error FROM lp_requests ORDER BY id OFFSET 5;
SELECT forget();
-- for another account it is another login
CREATE SERVER other FOREIGN DATA WRAPPER lpusers OPTIONS (account 'other', base_url :'url');
CREATE USER MAPPING FOR CURRENT_USER SERVER other OPTIONS (token 'lp-token');
CREATE TABLE u (LIKE t INCLUDING ALL);
SELECT hook('u', 'ROW', '{"account": "other"}');
INSERT INTO t (email, name) VALUES ('ann@example.com', '1');
INSERT INTO u (email, name) VALUES ('ann@example.com', '1');
SELECT account, server, state FROM lp_requests ORDER BY id;
SELECT forget();
DROP TABLE u;
DROP USER MAPPING FOR CURRENT_USER SERVER other;
DROP SERVER other;

-- Savepoints: what is rolled back is gone, and its login is free again.
BEGIN;
INSERT INTO t (email, name) VALUES ('ann@example.com', '1');
SAVEPOINT a;
INSERT INTO t (email, name) VALUES ('bob@example.com', '2');
ROLLBACK TO a;
INSERT INTO t (email, name) VALUES ('BOB@example.com', '3'), ('ann@example.com', '4');
SAVEPOINT b;
INSERT INTO t (email, name) VALUES ('cid@example.com', '5');
RELEASE b;
COMMIT;
SELECT login_name, state, error FROM lp_requests ORDER BY id;
SELECT login_name FROM bodies;
BEGIN;
INSERT INTO t (email, name) VALUES ('dan@example.com', '6');
ROLLBACK;
INSERT INTO t (id, email, name) VALUES (100, 'eve@example.com', '7'), (100, 'fay@example.com', '8'); -- ERROR
SELECT count(*) FROM lp_requests;
SELECT forget();

-- on_error=raise: any of these is an ERROR
DROP TRIGGER hook ON t;
SELECT hook('t', 'STATEMENT', '{"on_error": "raise"}');
INSERT INTO t (id, email, name) VALUES (201, 'ann@example.com', 'Ann');
SELECT * FROM mistake($$INSERT INTO t (id, email, name) VALUES (202, 'bob@example.com', 'Bob'), (203, 'cid@example.com', NULL)$$);
SELECT * FROM mistake($$INSERT INTO t (id, email, name) VALUES (202, NULL, 'Bob')$$);
SELECT * FROM mistake(format($$INSERT INTO t (id, email, name) VALUES (202, %L, 'Bob')$$, repeat('x', 255)));
SELECT * FROM mistake($$INSERT INTO t (id, email, name) VALUES (202, 'bob@example.com', 'Bob'), (203, 'Bob@example.com', 'Bob')$$);
SELECT * FROM mistake($$INSERT INTO t (id, email, name) VALUES (202, 'Ann@example.com', 'Ann')$$);
SELECT * FROM queue;
SELECT count(*) FROM t WHERE id > 201;
SELECT forget();
DROP TRIGGER hook ON t;

-- mode=sync: the row is there only if the user is
SELECT hook('t', 'ROW', '{"mode": "sync"}');
INSERT INTO t (id, email, name) VALUES (301, 'sync1@example.com', 'S') RETURNING id;
SELECT login_name, path, state, status, requested_by = current_user AS mine, send_as = current_user AS as_me, user_id IS NOT NULL AS known, error FROM lp_requests ORDER BY id;
SELECT count(*) FROM lp_payloads;
\! curl -sSf "$LPSIM_URL/_sim/count?method=POST"
-- refused by the account: neither the row nor the user, and what the account says
INSERT INTO t (id, email, name) VALUES (302, 'SYNC1@example.com', 'S'); -- ERROR
\echo :LAST_ERROR_SQLSTATE
\! curl -sSfo /dev/null -d '[{"method":"POST","action":"status","status":400},{"method":"POST","action":"status","status":403},{"method":"POST","action":"retry_after","value":"3600"},{"method":"POST","action":"status","status":503},{"method":"POST","action":"close"}]' $LPSIM_URL/_sim/faults
SELECT n, m.state, m.message, m.detail FROM generate_series(1, 4) n, LATERAL mistake(format($$INSERT INTO t (id, email, name) VALUES (302, 'sync%s@example.com', 'S')$$, n + 1)) m ORDER BY n;
SELECT state, regexp_replace(message, ': .*', '') AS message, detail FROM mistake($$INSERT INTO t (id, email, name) VALUES (302, 'sync6@example.com', 'S')$$);
SELECT count(*) FROM t WHERE id > 301;
-- refused here: nothing is sent
\! curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/log
SELECT * FROM mistake($$INSERT INTO t (id, email, name) VALUES (302, 'sync7@example.com', NULL)$$);
SELECT login_name, state FROM lp_requests ORDER BY id;
\! curl -sSf "$LPSIM_URL/_sim/count"
-- rolled back afterwards: the user remains, and is named
BEGIN;
INSERT INTO t (id, email, name) VALUES (303, 'sync8@example.com', 'S');
ROLLBACK;
BEGIN;
SAVEPOINT a;
INSERT INTO t (id, email, name) VALUES (303, 'sync9@example.com', 'S');
ROLLBACK TO a;
COMMIT;
SELECT count(*) FROM lp_requests WHERE login_name ~ 'sync[89]';
\! for n in 8 9; do curl -sSf "$LPSIM_URL/_sim/user?login=sync$n@example.com" | grep -oE '"loginName": ?"[^"]*"'; done
DROP TRIGGER hook ON t;
-- a statement's users go in one request, and all or none of its rows are there
SELECT hook('t', 'STATEMENT', '{"mode": "sync"}');
\! curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/log
INSERT INTO t (id, email, name) SELECT 303 + i, 'bulk' || i || '@example.com', 'B' FROM generate_series(1, 3) i;
SELECT * FROM mistake($$INSERT INTO t (id, email, name) VALUES (307, 'bulk4@example.com', 'B'), (308, 'bulk3@example.com', 'B')$$);
INSERT INTO t (id, email, name) SELECT 1, 'none', 'x' WHERE false;
SELECT id FROM t WHERE id > 303 ORDER BY id;
SELECT login_name, path, state FROM lp_requests WHERE login_name ~ 'bulk' ORDER BY id;
\! curl -sSf "$LPSIM_URL/_sim/log" | grep -o '"logins":\[[^]]*\]'
SELECT forget();
DROP TRIGGER hook ON t;

-- Triggers that cannot be read: the ERROR comes with the first row, and names the argument.
SELECT more, form, m.* FROM (VALUES ('{"no": "x"}'), ('{"loginname": "x"}'), ('{"": "x"}'), ('{"id": "1"}'), ('{"dateUpdated": "now()"}'), ('{"fullName": ""}'), ('{"fullName": " \n"}'), ('{"mode": "later"}'),
	('{"mode": ""}'), ('{"on_error": "x"}'), ('{"loginName": null}'), ('{"account": "../x"}'), ('{"account": ""}'), ('{"when": " "}'),
	('{"fullName": "nosuch"}'), ('{"fullName": "name ||"}'), ('{"fullName": "nosuch(name)"}'), ('{"fullName": "1, 2"}'), ('{"fullName": "name) FROM t; DELETE FROM t; SELECT (1"}'),
	('{"fullName": "(SELECT 1, 2)"}'), ('{"fullName": "generate_series(1, 2)"}'), ('{"fullName": "max(name)"}'), ('{"when": "nosuch"}'), ('{"when": "name"}'), ('{"fullName": "$9"}'), ('{"nickname": "id + true"}')) v (more),
	unnest('{STATEMENT,ROW}'::text[]) form, LATERAL mistake(format($$SELECT hook('t', %L, %L); INSERT INTO t (id, email, name) VALUES (400, 'bad@example.com', 'Bad'); DROP TRIGGER hook ON t; DELETE FROM t WHERE id = 400$$, form, more)) m ORDER BY form DESC, more COLLATE "C";
-- expressions that raise, when they run or already when they are planned
CREATE FUNCTION raises(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'no name for %', $1 USING ERRCODE = 'P0042'; END $$;
SELECT more, form, m.* FROM (VALUES ('{"fullName": "raises(name)"}'), ('{"nickname": "(1 / (id - id))::text"}'), ('{"nickname": "(1 / 0)::text"}'), ('{"maxChats": "name::integer"}'), ('{"memberOf": "name::jsonb"}'),
	('{"when": "1 / (id - id) = 1"}'), ('{"when": "1 / 0 = 1"}'), ('{"description": "(SELECT relname FROM pg_class)"}'), ('{"employeeId": "(SELECT raises(''x'')::integer)"}')) v (more),
	unnest('{STATEMENT,ROW}'::text[]) form, LATERAL mistake(format($$SELECT hook('t', %L, %L); INSERT INTO t (id, email, name) VALUES (400, 'bad@example.com', 'Bad'); DROP TRIGGER hook ON t; DELETE FROM t WHERE id = 400$$, form, more)) m ORDER BY form DESC, more COLLATE "C";
SELECT forget();
SELECT hook('t', 'ROW', '{"when": "1 / (id - 400) > 0"}', 'UPDATE');
INSERT INTO t (id, email, name) VALUES (400, 'upd@example.com', 'Upd');
SELECT * FROM mistake('UPDATE t SET id = 401 WHERE id = 400');
DROP TRIGGER hook ON t;
SELECT hook('t', 'ROW', '{"when": "id > 400"}', 'UPDATE');
UPDATE t SET id = 401 WHERE id = 400;
SELECT * FROM queue;
SELECT forget();
DROP TRIGGER hook ON t;
-- after a failure the trigger works as before
SELECT hook('t', 'ROW', '{"fullName": "CASE WHEN name = ''bad'' THEN raises(name) ELSE name END"}');
SELECT * FROM mistake($$INSERT INTO t (email, name) VALUES ('x@example.com', 'good'), ('y@example.com', 'bad')$$);
INSERT INTO t (email, name) VALUES ('x@example.com', 'good');
SELECT * FROM mistake($$INSERT INTO t (email, name) VALUES ('y@example.com', 'bad')$$);
SELECT * FROM queue;
SELECT forget();
DROP TRIGGER hook ON t;
-- without when= an UPDATE cannot say who is new, also when the same trigger has seen an INSERT
SELECT hook('t', 'ROW', '{}', 'INSERT OR UPDATE');
INSERT INTO t (id, email, name) VALUES (500, 'ins@example.com', 'Ins');
SELECT * FROM mistake('UPDATE t SET name = name WHERE id = 500');
SELECT * FROM queue;
SELECT forget();
DROP TRIGGER hook ON t;
-- kinds of triggers that it cannot be
CREATE VIEW tv AS SELECT * FROM t;
SELECT definition, m.state, m.message, m.detail FROM (VALUES ('BEFORE INSERT ON t FOR EACH ROW'), ('BEFORE INSERT ON t FOR EACH STATEMENT'), ('AFTER DELETE ON t FOR EACH ROW'), ('AFTER DELETE ON t FOR EACH STATEMENT'),
	('AFTER TRUNCATE ON t FOR EACH STATEMENT'), ('AFTER INSERT ON t FOR EACH STATEMENT'), ('AFTER UPDATE ON t REFERENCING NEW TABLE AS n FOR EACH STATEMENT'), ('AFTER UPDATE ON t FOR EACH ROW'),
	('INSTEAD OF INSERT ON tv FOR EACH ROW')) v (definition),
	LATERAL mistake(format($$CREATE TRIGGER odd %s EXECUTE FUNCTION lp_create_users_trigger('12345678', 'loginName=email');
		INSERT INTO %s (id, email, name) VALUES (501, 'odd@example.com', 'Odd'); UPDATE t SET name = 'x' WHERE id = 501; DELETE FROM t WHERE id = 501; TRUNCATE t$$,
		definition, substring(definition FROM 'ON (\w+)'))) m;
SELECT arguments, m.state, m.message, m.detail FROM (VALUES (''), ($$'12345678'$$), ($$'12345678', 'loginName'$$), ($$'12345678', '=x'$$), ($$'12345678', 'loginName=email', 'email=email', 'email=name'$$)) v (arguments),
	LATERAL mistake(format($$CREATE TRIGGER odd AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION lp_create_users_trigger(%s); INSERT INTO t (id, email, name) VALUES (501, 'odd@example.com', 'Odd')$$, arguments)) m;
SELECT lp_create_users_trigger(); -- ERROR
DROP VIEW tv;
-- a deferred constraint trigger fires at COMMIT
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION lp_create_users_trigger('12345678', 'loginName=email', 'fullName=name',
	'nickname=name', 'email=email', 'passwordSh=''Start-1234''', 'isEnabled=true', 'maxChats=3', 'profileIds=ARRAY[1002]');
BEGIN;
INSERT INTO t (id, email, name) VALUES (600, 'late1@example.com', 'L'), (601, 'late2@example.com', NULL), (602, 'Late1@example.com', 'L');
SELECT count(*) FROM lp_requests;
COMMIT;
SELECT * FROM queue;
SELECT forget();
DROP TRIGGER late ON t;

-- Firing within a firing: an expression, or another trigger, that inserts into the same table.
CREATE FUNCTION deputy(integer, text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	IF $1 < 1003 THEN
		INSERT INTO t (id, email, name) VALUES ($1 + 1, 'deputy' || $1 || '@example.com', $2);
	END IF;
	RETURN $2 || $1;
END $$;
SELECT hook('t', 'STATEMENT', '{"nickname": "public.deputy(id, name)"}');
INSERT INTO t (id, email, name) VALUES (1001, 'chief@example.com', 'C');
SELECT login_name, state, error, source_key FROM lp_requests ORDER BY id;
SELECT body->>'nickname' AS nickname, body->>'email' AS email FROM bodies;
SELECT forget();
DROP TRIGGER hook ON t;
SELECT hook('t', 'ROW', '{"nickname": "public.deputy(id, name)"}');
DELETE FROM t WHERE id > 1000;
INSERT INTO t (id, email, name) VALUES (1001, 'chief@example.com', 'C');
SELECT login_name, state, error, source_key FROM lp_requests ORDER BY id;
SELECT body->>'nickname' AS nickname, body->>'email' AS email FROM bodies;
SELECT forget();
-- one that changes the table while its trigger runs
CREATE OR REPLACE FUNCTION deputy(integer, text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	CREATE TEMP TABLE IF NOT EXISTS s (id integer);
	DROP TABLE s;
	GRANT SELECT ON t TO PUBLIC;
	IF $1 < 1013 THEN
		INSERT INTO t (id, email, name) VALUES ($1 + 1, 'deputy' || $1 || '@example.com', $2);
	END IF;
	REVOKE SELECT ON t FROM PUBLIC;
	RETURN $2 || $1;
END $$;
SET client_min_messages = warning;
INSERT INTO t (id, email, name) VALUES (1011, 'chief@example.com', 'C');
RESET client_min_messages;
SELECT login_name, state, error, source_key FROM lp_requests ORDER BY id;
SELECT body->>'nickname' AS nickname, body->>'email' AS email FROM bodies;
SELECT forget();
DROP TRIGGER hook ON t;
DROP FUNCTION deputy(integer, text);
CREATE FUNCTION follow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.id < 1102 THEN
		INSERT INTO t (id, email, name) VALUES (NEW.id + 1, 'follow' || NEW.id || '@example.com', NEW.name);
	END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER follow AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION follow();
SELECT hook('t', 'STATEMENT');
INSERT INTO t (id, email, name) VALUES (1100, 'first@example.com', 'F');
SELECT login_name, state, source_key FROM lp_requests ORDER BY id;
SELECT forget();
DROP TABLE t;
DROP FUNCTION follow();
DROP TABLE staff;
DROP FUNCTION raises(text);
\i sql/include/finish.sql

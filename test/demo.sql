-- demo.sql: what test/demo.sh plays. Variables: directory (the stand-in's Domain API), ca (its certificate authority),
-- page (a file). psql does not print comments: what is for the audience is echoed.

\pset footer off
\pset null ''

\echo
\echo == 1. A server is an account, a user mapping its credentials; role "hr" may create users
\echo
CREATE EXTENSION lpusers;
CREATE ROLE hr;
GRANT CREATE ON SCHEMA public TO hr;
CREATE SERVER acme FOREIGN DATA WRAPPER lpusers
    OPTIONS (account '12345678', domain_api_url :'directory', ca_file :'ca');
GRANT USAGE ON FOREIGN SERVER acme TO hr;
GRANT EXECUTE ON FUNCTION lp_create_users, lp_update_users, lp_create_users_trigger TO hr;
CREATE USER MAPPING FOR hr SERVER acme
    OPTIONS (client_id 'lp-client', client_secret 'lp-client-secret');

\echo
\echo == 2. Does the connection work? (The account has one user already.)
\echo
SET ROLE hr;
SELECT * FROM lp_check('12345678');

\echo == 3. The HR table: 48 employees in six teams, and a view of them as the account wants its users
\echo
CREATE TABLE employees AS
SELECT row_number() OVER (ORDER BY t.ord, f.ord) AS id, f.name AS first_name, t.name AS last_name,
       lower(f.name || '.' || t.name) || '@example.com' AS email, t.ord AS team
FROM unnest('{Alder,Birch,Cedar,Dill,Elder,Fern,Gorse,Hazel}'::text[]) WITH ORDINALITY f(name, ord),
     unnest('{Ghent,Lisbon,Malmo,Oslo,Porto,Turin}'::text[]) WITH ORDINALITY t(name, ord);
CREATE VIEW new_users AS
SELECT id, email, team, jsonb_build_object(
           'loginName', email, 'email', email, 'nickname', first_name,
           'fullName', first_name || ' ' || last_name,
           'passwordSh', 'Aa1!' || gen_random_uuid()::text, 'changePwdNextLogin', true,
           'isEnabled', true, 'maxChats', 3, 'profileIds', jsonb_build_array(1),
           'memberOf', jsonb_build_object('agentGroupId', team)) AS entity
FROM employees;

\echo
\echo == 4. Team 1, one request for each row: status 409 is a login that is taken, 201 a user that was created
\echo
SELECT n.email, r.status, r.ac_revision, r.body->>'id' AS user_id
FROM new_users n, LATERAL lp_create_users('12345678', n.entity) r
WHERE n.team = 1
ORDER BY n.id;

\echo == 5. Teams 2 to 6: 40 users with one request
\echo
SELECT r.status, r.ac_revision, n.users, r.error
FROM (SELECT jsonb_agg(entity ORDER BY id) AS entities, count(*) AS users FROM new_users WHERE team > 1) n,
     LATERAL lp_create_users('12345678', n.entities) r;

\echo == 6. Every user has a row in lp_results: who was not created, and why?
\echo
SELECT login_name, operation, state, status, error FROM lp_results WHERE state = 'failed' \gx
SELECT state, status, requests, median_seconds FROM lp_summary ORDER BY state;

\echo == 7. Such a call acts at once, and the account does not roll back: a WARNING says who is left there
\echo
BEGIN;
INSERT INTO employees VALUES (49, 'Quince', 'Tartu', 'quince.tartu@example.com', 1);
SELECT r.status FROM new_users n, LATERAL lp_create_users('12345678', n.entity) r WHERE n.id = 49;
ROLLBACK;
SELECT (SELECT count(*) FROM employees) AS employees, (SELECT count(*) FROM lp_results) AS results, detail AS account
FROM lp_check('12345678') WHERE step = 'read';

\echo == 8. From now on by itself: a trigger on an HR table. The INSERT waits for nobody and fails for nobody;
\echo == after its COMMIT a background worker creates the users. Sorrel has no e-mail address.
\echo
CREATE TABLE hires (id int PRIMARY KEY, first_name text, last_name text, email text);
SELECT count(*) AS triggers FROM lp_attach_trigger('hires', '12345678',
  $${"loginName": "email", "fullName": "first_name || ' ' || last_name", "nickname": "first_name", "email": "email",
     "passwordSh": "'Aa1!' || gen_random_uuid()::text", "isEnabled": "true", "maxChats": "3", "profileIds": "ARRAY[1]",
     "memberOf": "jsonb_build_object('agentGroupId', 1)"}$$);
INSERT INTO hires VALUES (101, 'Rowan', 'Utrecht', 'rowan.utrecht@example.com'), (102, 'Sorrel', 'Vigo', NULL),
                         (103, 'Thyme', 'Warsaw', 'thyme.warsaw@example.com');
\echo (Here the demo waits for the worker; it takes some milliseconds.)
\set ECHO none
DO $$ BEGIN
    FOR i IN 1 .. 300 LOOP
        EXIT WHEN NOT EXISTS (SELECT FROM lp_results WHERE state IN ('pending', 'sending'));
        PERFORM pg_sleep(0.1);
    END LOOP;
END $$;
\set ECHO queries
SELECT source_key->>'id' AS hire, login_name, state, status, error FROM lp_results WHERE source_table = 'public.hires' ORDER BY id;
SELECT account, pending, held, created, failed, worker_pid IS NOT NULL AS worker FROM lp_progress;

\echo == 9. The account is a table, too: who is in it, but in no HR table? (The one of step 7.) Disable that user.
\echo == (An update replaces the whole user, and the API does not show names: so the name is set again.)
\echo
RESET ROLE;
CREATE SCHEMA lp AUTHORIZATION hr;
SET ROLE hr;
IMPORT FOREIGN SCHEMA liveperson FROM SERVER acme INTO lp;
SELECT u.id, u.login_name, u.is_enabled, u.max_chats, u.member_of AS team
FROM lp.users u
WHERE NOT EXISTS (SELECT FROM employees e WHERE e.email = u.login_name)
  AND NOT EXISTS (SELECT FROM hires h WHERE h.email = u.login_name);
UPDATE lp.users SET is_enabled = false, full_name = 'Quince Tartu', employee_id = NULL WHERE login_name LIKE 'quince.%';
SELECT count(*) AS users, count(*) FILTER (WHERE NOT is_enabled) AS disabled FROM lp.users;

\echo == 10. The desired state: a view says who should have a user. All are there already, so it has not what a create
\echo == requires (a NOTICE). A plan shows it, and its number confirms it. Then Hazel Turin leaves.
\echo
RESET ROLE;
GRANT EXECUTE ON FUNCTION lp_sync_define, lp_sync_diff, lp_sync_plan, lp_sync_apply TO hr;
SET ROLE hr;
CREATE TABLE leavers (id int PRIMARY KEY);
CREATE VIEW staff AS
SELECT id, email AS login_name, email, first_name || ' ' || last_name AS full_name, id::text AS employee_id,
       first_name AS nickname, true AS is_enabled, 5 AS max_chats
FROM employees WHERE id NOT IN (SELECT id FROM leavers);
SELECT count(*) AS columns FROM lp_sync_define('staff', '12345678', 'staff', key => 'id');
SELECT lp_sync_plan('staff') AS plan \gset
SELECT action, users, "limit", over, reason FROM lp_sync_plans WHERE plan = :plan;
SELECT action, queued FROM lp_sync_apply(:plan, confirm => '{"adopt": 48}');
\echo (Here the demo waits for the worker; it takes some milliseconds.)
\set ECHO none
DO $$ BEGIN
    FOR i IN 1 .. 300 LOOP
        EXIT WHEN NOT EXISTS (SELECT FROM lp_results WHERE state IN ('pending', 'sending', 'uncertain'));
        PERFORM pg_sleep(0.1);
    END LOOP;
END $$;
\set ECHO queries
SELECT action, state, count(*) FROM lp_results WHERE plan = :plan GROUP BY 1, 2;
INSERT INTO leavers SELECT id FROM employees WHERE email LIKE 'hazel.turin@%';
SELECT action, login_name, attribute, old, new FROM lp_sync_diff('staff');
SELECT action, queued, waiting FROM lp_sync_apply(lp_sync_plan('staff'));
\echo (Here the demo waits for the worker; it takes some milliseconds.)
\set ECHO none
DO $$ BEGIN
    FOR i IN 1 .. 300 LOOP
        EXIT WHEN NOT EXISTS (SELECT FROM lp_results WHERE state IN ('pending', 'sending', 'uncertain'));
        PERFORM pg_sleep(0.1);
    END LOOP;
END $$;
\set ECHO queries
SELECT count(*) AS differences FROM lp_sync_diff('staff');
SELECT count(*) AS users, count(*) FILTER (WHERE NOT is_enabled) AS disabled FROM lp.users;

\echo == 11. One page for people without SQL: a verdict, what to do and who does it, charts, syncs
\echo
\pset format unaligned
\pset tuples_only on
\o :page
SELECT lp_report();
\o
\pset tuples_only off
\pset format aligned

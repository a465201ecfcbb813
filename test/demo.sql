-- demo.sql: what test/demo.sh plays. Variables: directory (the stand-in's Domain API), ca (its certificate authority).

\pset footer off
\pset null ''

\echo
\echo == 1. A server is an account, a user mapping its credentials; role "hr" may create users
CREATE EXTENSION lpusers;
CREATE ROLE hr;
GRANT CREATE ON SCHEMA public TO hr;
CREATE SERVER acme FOREIGN DATA WRAPPER lpusers
    OPTIONS (account '12345678', domain_api_url :'directory', ca_file :'ca');
GRANT USAGE ON FOREIGN SERVER acme TO hr;
GRANT EXECUTE ON FUNCTION lp_create_users, lp_create_users_trigger TO hr;
CREATE USER MAPPING FOR hr SERVER acme
    OPTIONS (client_id 'lp-client', client_secret 'lp-client-secret');

\echo
\echo == 2. Does the connection work? (The account has one user already.)
SET ROLE hr;
SELECT * FROM lp_check('12345678');

\echo == 3. The HR table: 48 employees in six teams
CREATE TABLE employees AS
SELECT row_number() OVER (ORDER BY t.ord, f.ord) AS id, f.name AS first_name, t.name AS last_name,
       lower(f.name || '.' || t.name) || '@example.com' AS email, t.ord AS team
FROM unnest('{Alder,Birch,Cedar,Dill,Elder,Fern,Gorse,Hazel}'::text[]) WITH ORDINALITY f(name, ord),
     unnest('{Ghent,Lisbon,Malmo,Oslo,Porto,Turin}'::text[]) WITH ORDINALITY t(name, ord);
-- the same people as the account wants them: attributes as in the API's documentation
CREATE VIEW new_users AS
SELECT id, email, team, jsonb_build_object(
           'loginName', email, 'email', email, 'nickname', first_name,
           'fullName', first_name || ' ' || last_name,
           'passwordSh', 'Aa1!' || gen_random_uuid(), 'changePwdNextLogin', true,
           'isEnabled', true, 'maxChats', 3, 'profileIds', jsonb_build_array(1),
           'memberOf', jsonb_build_object('agentGroupId', team)) AS entity
FROM employees;

\echo
\echo == 4. Team 1, one request for each row: one login is taken, the others are created
SELECT n.email, r.status, r.ac_revision, r.body->>'id' AS user_id
FROM new_users n, LATERAL lp_create_users('12345678', n.entity) r
WHERE n.team = 1
ORDER BY n.id;

\echo == 5. Teams 2 to 6: 40 users with one request
SELECT r.status, r.ac_revision, n.users, r.error
FROM (SELECT jsonb_agg(entity ORDER BY id) AS entities, count(*) AS users FROM new_users WHERE team > 1) n,
     LATERAL lp_create_users('12345678', n.entities) r;

\echo == 6. Every user has a row in lp_results: who was not created, and why?
SELECT login_name, operation, state, status, error FROM lp_results WHERE state = 'failed' \gx
SELECT state, status, requests, median_seconds FROM lp_summary ORDER BY state;

\echo == 7. The account does not roll back: a WARNING says so
BEGIN;
INSERT INTO employees VALUES (49, 'Quince', 'Tartu', 'quince.tartu@example.com', 1);
SELECT r.status FROM new_users n, LATERAL lp_create_users('12345678', n.entity) r WHERE n.id = 49;
ROLLBACK;
SELECT (SELECT count(*) FROM employees) AS employees, (SELECT count(*) FROM lp_results) AS results, detail AS account
FROM lp_check('12345678') WHERE step = 'read';

\echo == 8. From now on by itself: a trigger on an HR table, delivered after COMMIT
CREATE TABLE hires (id int PRIMARY KEY, first_name text, last_name text, email text);
SELECT count(*) AS triggers FROM lp_attach_trigger('hires', '12345678',
  $${"loginName": "email", "fullName": "first_name || ' ' || last_name", "nickname": "first_name", "email": "email",
     "passwordSh": "'Aa1!' || gen_random_uuid()", "isEnabled": "true", "maxChats": "3", "profileIds": "ARRAY[1]",
     "memberOf": "jsonb_build_object('agentGroupId', 1)"}$$);
INSERT INTO hires VALUES (101, 'Rowan', 'Utrecht', 'rowan.utrecht@example.com'), (102, 'Sorrel', 'Vigo', NULL),
                         (103, 'Thyme', 'Warsaw', 'thyme.warsaw@example.com');
-- the INSERT is done; a background worker delivers. Here we wait for it.
DO $$ BEGIN
    FOR i IN 1 .. 300 LOOP
        EXIT WHEN NOT EXISTS (SELECT FROM lp_results WHERE state IN ('pending', 'sending'));
        PERFORM pg_sleep(0.1);
    END LOOP;
END $$;
SELECT source_key->>'id' AS hire, login_name, state, status, error FROM lp_results WHERE source_table = 'public.hires' ORDER BY id \gx
SELECT pending, held, created, failed FROM lp_progress;

\echo == 9. The account is a table, too: who is in it, but in no HR table? (The one of step 7.)
RESET ROLE;
CREATE SCHEMA lp AUTHORIZATION hr;
SET ROLE hr;
IMPORT FOREIGN SCHEMA liveperson FROM SERVER acme INTO lp;
SELECT u.id, u.login_name, u.is_enabled, u.max_chats, u.member_of AS team
FROM lp.users u
WHERE NOT EXISTS (SELECT FROM employees e WHERE e.email = u.login_name)
  AND NOT EXISTS (SELECT FROM hires h WHERE h.email = u.login_name);
-- disable it; the name is not shown by the API and must be set again
UPDATE lp.users SET is_enabled = false, full_name = 'Quince Tartu', employee_id = NULL WHERE login_name LIKE 'quince.%';
SELECT count(*) AS users, count(*) FILTER (WHERE NOT is_enabled) AS disabled FROM lp.users;

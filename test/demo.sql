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
GRANT EXECUTE ON FUNCTION lp_create_users TO hr;
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

-- fdw_scan: foreign tables can be created, and say clearly that they cannot be used yet
\i sql/start.sql
CREATE FOREIGN TABLE users (id bigint, login_name text) SERVER acme;
CREATE FOREIGN TABLE wrong (id bigint) SERVER acme OPTIONS (resource 'users'); -- ERROR
CREATE FOREIGN TABLE wrong (id bigint OPTIONS (attribute 'id')) SERVER acme; -- ERROR
SELECT * FROM users; -- ERROR
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) FROM users WHERE id = 1; -- ERROR
EXPLAIN SELECT * FROM users; -- ERROR
INSERT INTO users VALUES (1, 'x'); -- ERROR
UPDATE users SET login_name = 'x'; -- ERROR
DELETE FROM users; -- ERROR
TRUNCATE users; -- ERROR
ANALYZE users;
IMPORT FOREIGN SCHEMA liveperson FROM SERVER acme INTO public; -- ERROR
\! curl -sSf "$LPSIM_URL/_sim/count"
DROP FOREIGN TABLE users;
\i sql/finish.sql

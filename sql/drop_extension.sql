-- drop_extension: DROP EXTENSION leaves nothing behind, and the backend that used it goes on
\i sql/include/start.sql
SELECT status FROM lp_create_users('12345678', person('ann'));
\i sql/include/finish.sql
CREATE SERVER other FOREIGN DATA WRAPPER lpusers OPTIONS (account 'x');
DROP EXTENSION lpusers; -- ERROR
DROP SERVER other;
DROP EXTENSION lpusers;
SELECT relname FROM pg_class WHERE relname ~ '^lp_';
SELECT proname FROM pg_proc WHERE proname ~ '^(lp_|lpusers)';
SELECT fdwname FROM pg_foreign_data_wrapper;
CREATE SERVER acme FOREIGN DATA WRAPPER lpusers OPTIONS (account '12345678'); -- ERROR
-- a rolled back installation
BEGIN;
CREATE EXTENSION lpusers;
ROLLBACK;
SELECT count(*) FROM pg_extension WHERE extname = 'lpusers';

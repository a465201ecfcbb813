\set ECHO none
-- queue_finish.sql: what the tests of the queue end with; itself not a test.
DROP FUNCTION mistake(text), hook(regclass, text, jsonb, text), forget();
DROP VIEW queue, bodies;
DELETE FROM lp_payloads;
\i sql/finish.sql
\i sql/worker_on.sql

\set ECHO none
-- sync_finish.sql: what the tests of lp_sync end with; itself not a test.
SET client_min_messages = warning;
DROP SCHEMA hr CASCADE;
RESET client_min_messages;
DELETE FROM lp_payloads;
DELETE FROM _lp_sync; DELETE FROM _lp_sync_link; DELETE FROM _lp_sync_plan; DELETE FROM _lp_sync_item; DELETE FROM _lp_sync_mark;
\i sql/finish.sql
\i sql/worker_on.sql

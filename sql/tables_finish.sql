\set ECHO none
-- tables_finish.sql: takes away what tables_start.sql made, before finish.sql.
SET client_min_messages = warning;
DROP SCHEMA lp CASCADE;
-- as small as it was before: other tests look at plans
TRUNCATE lp_requests CASCADE;
RESET client_min_messages;
RESET lpsim.url;
\set ECHO all

\set ECHO none
-- tables_finish.sql: takes away what tables_start.sql made, before finish.sql.
SET client_min_messages = warning;
DROP SCHEMA lp CASCADE;
RESET client_min_messages;
RESET lpsim.url;
\set ECHO all

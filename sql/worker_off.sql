\set ECHO none
-- worker_off.sql: from here on no worker delivers, CALL lp_deliver() decides when; itself not a test, and before start.sql.
-- worker_on.sql takes it back. A session begun now has the setting from its start.
\set SHOW_CONTEXT never
\setenv PGDATABASE :DBNAME
\setenv PGUSER :USER
\set psql `readlink -f /proc/$PPID/exe`
\setenv PSQL :psql
LOAD 'lpusers';
ALTER SYSTEM SET lpusers.worker = off;
SELECT pg_reload_conf() \g /dev/null
\! for i in $(seq 600); do [ "$("$PSQL" -AXqtc "LOAD 'lpusers'" -c "SHOW lpusers.worker")" = off ] && break; sleep 0.1; done
\c -
LOAD 'lpusers';
\pset tuples_only on
\pset format unaligned
SELECT 'lpusers.worker is ' || current_setting('lpusers.worker');
\pset tuples_only off
\set ECHO all

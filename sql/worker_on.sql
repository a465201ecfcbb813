\set ECHO none
-- worker_on.sql: undoes worker_off.sql, after finish.sql. No worker came in between.
\pset tuples_only on
SELECT 'worker: ' || coalesce(lp_worker_pid()::text, 'none');
ALTER SYSTEM RESET lpusers.worker;
SELECT pg_reload_conf() \g /dev/null
\! for i in $(seq 600); do [ "$("$PSQL" -AXqtc "LOAD 'lpusers'" -c "SHOW lpusers.worker")" = on ] && break; sleep 0.1; done
\pset tuples_only off
\set ECHO all

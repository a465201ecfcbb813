\set ECHO none
-- finish.sql: what the tests end with: drops what start.sql made. Whatever was tried, no login may exist twice in the account.
\if :{?with_tables}
SET client_min_messages = warning;
DROP SCHEMA lp CASCADE;
-- as small as it was before: other tests look at plans
TRUNCATE lp_requests CASCADE;
RESET client_min_messages;
RESET lpsim.url;
\endif
\if :{?with_queue}
DROP FUNCTION mistake(text), hook(regclass, text, jsonb, text), forget();
DROP VIEW queue, bodies;
DELETE FROM lp_payloads;
\endif
\if :{?with_sync}
SET client_min_messages = warning;
DROP SCHEMA hr CASCADE;
RESET client_min_messages;
DELETE FROM lp_payloads;
DELETE FROM _lp_sync; DELETE FROM _lp_sync_link; DELETE FROM _lp_sync_plan; DELETE FROM _lp_sync_item; DELETE FROM _lp_sync_watch; DELETE FROM _lp_sync_mark;
\endif
\! curl -sSf "$LPSIM_URL/_sim/duplicates"; echo
DROP FUNCTION attempt(text);
DROP FUNCTION people(text, integer);
DROP FUNCTION person(text, jsonb);
DROP USER MAPPING FOR CURRENT_USER SERVER acme;
DROP SERVER acme;
DELETE FROM lp_requests;
\if :{?no_worker}
-- no worker came in between
\pset tuples_only on
SELECT 'worker: ' || coalesce(lp_worker_pid()::text, 'none');
ALTER SYSTEM RESET lpusers.worker;
SELECT pg_reload_conf() \g /dev/null
\! for i in $(seq 600); do [ "$("$PSQL" -AXqtc "LOAD 'lpusers'" -c "SHOW lpusers.worker")" = on ] && break; sleep 0.1; done
\pset tuples_only off
\endif
\set ECHO all

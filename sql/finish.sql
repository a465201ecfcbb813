\set ECHO none
-- finish.sql: what the tests end with; itself not a test. Whatever was tried, no login may exist twice in the account.
\! curl -sSf "$LPSIM_URL/_sim/duplicates"; echo
DROP FUNCTION attempt(text);
DROP FUNCTION people(text, integer);
DROP FUNCTION person(text, jsonb);
DROP USER MAPPING FOR CURRENT_USER SERVER acme;
DROP SERVER acme;
DELETE FROM lp_requests;
\set ECHO all

-- connection_failures: when no answer comes, what is certain; kept connections
\i sql/include/start.sql
CREATE FUNCTION tried(name text) RETURNS TABLE (state text, message text, detail text, hint text) LANGUAGE sql AS $$
	SELECT * FROM attempt(format('SELECT lp_create_users(''12345678'', %L)', person(name))) $$;
-- many requests, one connection; also after answers that are errors, and across transactions
SELECT status FROM lp_create_users('12345678', person('a1'));
SELECT status FROM lp_create_users('12345678', person('a1'));
BEGIN;
SELECT status FROM lp_create_users('12345678', person('a2'));
COMMIT;
SELECT count(*) FROM generate_series(1, 20) n, LATERAL lp_delete_users('12345678', ARRAY[n]);
\! curl -sSf "$LPSIM_URL/_sim/connections"
-- an error of SQL in between does not end it
SELECT 1 / (status - status) FROM lp_delete_users('12345678', '{1}'); -- ERROR
SELECT status FROM lp_create_users('12345678', person('a3'));
\! curl -sSf "$LPSIM_URL/_sim/connections"
-- a change of the mapping does
ALTER USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (SET token 'lp-token');
SELECT status FROM lp_create_users('12345678', person('a4'));
\! curl -sSf "$LPSIM_URL/_sim/connections"

-- No server listens: certainly nothing was sent.
ALTER SERVER acme OPTIONS (SET base_url 'http://127.0.0.1:1');
SELECT * FROM lp_validate_users(person('b1'));
SELECT * FROM tried('b1');
-- Not trusted, or not TLS at all: likewise.
ALTER SERVER acme OPTIONS (SET base_url :'tls_url');
SELECT * FROM tried('b2');
\set not_tls `printf %s "$LPSIM_URL" | sed s/http/https/`
ALTER SERVER acme OPTIONS (SET base_url :'not_tls', ADD ca_file :'ca');
SELECT * FROM tried('b3');
ALTER SERVER acme OPTIONS (SET base_url :'tls_url');
SELECT status FROM lp_create_users('12345678', person('b4'));
ALTER SERVER acme OPTIONS (SET ca_file '/nonexistent/ca.pem');
SELECT * FROM tried('b5');
ALTER SERVER acme OPTIONS (SET base_url :'url', DROP ca_file);
SELECT count(*) AS recorded FROM lp_results WHERE login_name ~ '^b' AND login_name <> 'b4@example.com';
\! for i in 1 2 3 4 5; do curl -sSf "$LPSIM_URL/_sim/count?login=b$i@example.com"; done

-- The request went out and no whole answer came: it may have been carried out. Each was sent once.
ALTER SERVER acme OPTIONS (ADD timeout '700ms');
\! curl -sSfo /dev/null -d '[{"action":"silence","login":"c1@example.com"},{"action":"silence","applied":true,"login":"c2@example.com"},{"action":"headers_only","applied":true,"login":"c3@example.com"},{"action":"drip","login":"c4@example.com"}]' $LPSIM_URL/_sim/faults
SELECT n, t.* FROM generate_series(1, 4) n, LATERAL tried('c' || n) t;
ALTER SERVER acme OPTIONS (SET timeout '10s');
\! curl -sSfo /dev/null -d '[{"action":"reset","login":"c5@example.com"},{"action":"reset","applied":true,"login":"c6@example.com"},{"action":"close","login":"c7@example.com"},{"action":"close","applied":true,"login":"c8@example.com"},{"action":"half","applied":true,"login":"c9@example.com"},{"action":"half","reset":true,"login":"c10@example.com"},{"action":"wrong_length","applied":true,"login":"c11@example.com"}]' $LPSIM_URL/_sim/faults
SELECT n, t.* FROM generate_series(5, 11) n, LATERAL tried('c' || n) t;
\! for i in 1 2 3 4 5 6 7 8 9 10 11; do curl -sSf "$LPSIM_URL/_sim/count?method=POST&login=c$i@example.com"; done | sort | uniq -c | tr -s ' '
-- A kept connection that dies under a request: libcurl would send it again by itself.
\! curl -sSfo /dev/null -d '[{"action":"reset","kept_only":true,"applied":true,"login":"d1@example.com"},{"action":"close","kept_only":true,"applied":true,"login":"d2@example.com"}]' $LPSIM_URL/_sim/faults
SELECT status FROM lp_create_users('12345678', person('d0'));
SELECT * FROM tried('d1');
SELECT status FROM lp_create_users('12345678', person('d3'));
SELECT * FROM tried('d2');
\! curl -sSf "$LPSIM_URL/_sim/count?method=POST&login=d1@example.com"; curl -sSf "$LPSIM_URL/_sim/count?method=POST&login=d2@example.com"; curl -sSf "$LPSIM_URL/_sim/faults" | grep -o '"struck":[0-9]*' | sort | uniq -c | tr -s ' '
-- PUT and DELETE likewise: each once
\! curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/faults; curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/log; curl -sSfo /dev/null -d '[{"method":"DELETE","action":"reset"},{"method":"PUT","action":"reset","times":2}]' $LPSIM_URL/_sim/faults
SELECT status FROM lp_create_users('12345678', person('d4'));
SELECT * FROM attempt($$SELECT lp_delete_users('12345678', '{1}')$$);
SELECT status FROM lp_create_users('12345678', person('d5'));
SELECT * FROM attempt($$SELECT lp_reset_password('12345678', 1, 'Start-4321')$$);
SELECT status FROM lp_create_users('12345678', person('d6'));
SELECT * FROM attempt(format('SELECT lp_update_users(''12345678'', %L)', person('d7', '{"id": 1}')));
\! curl -sSf "$LPSIM_URL/_sim/count?method=DELETE"; curl -sSf "$LPSIM_URL/_sim/count?method=PUT"

-- A proxy.
ALTER SERVER acme OPTIONS (ADD proxy 'http://127.0.0.1:1');
SELECT * FROM tried('e2');
ALTER SERVER acme OPTIONS (SET base_url 'http://lp.example.com', SET proxy :'url');
\! curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/log
-- the stand-in is no proxy, but it gets the request
SELECT status FROM lp_delete_users('12345678', '{1}');
\! curl -sSf "$LPSIM_URL/_sim/count?method=DELETE"
-- statement_timeout ends a wait at once, with its own SQLSTATE
ALTER SERVER acme OPTIONS (SET base_url :'url', DROP proxy);
\! curl -sSfo /dev/null -d '{"action":"silence","login":"f1@example.com"}' $LPSIM_URL/_sim/faults
SET statement_timeout = '700ms';
DO $$ BEGIN PERFORM lp_create_users('12345678', person('f1')); EXCEPTION WHEN query_canceled THEN RAISE INFO '% %', SQLSTATE, SQLERRM; END $$;
RESET statement_timeout;
\! curl -sSf "$LPSIM_URL/_sim/count?login=f1@example.com"
SELECT status FROM lp_create_users('12345678', person('f2'));
DROP FUNCTION tried(text);
\i sql/include/finish.sql

-- base_url: origins, escaping, and the two forms of Retry-After
\i sql/include/start.sql
-- an origin with a slash at its end is the same origin
\set slash :url '/'
ALTER SERVER acme OPTIONS (SET base_url :'slash');
SELECT status FROM lp_create_users('12345678', person('ann'));
\! curl -sSf "$LPSIM_URL/_sim/log" | grep -o '"path":"[^"]*"'
ALTER SERVER acme OPTIONS (SET base_url :'url');
-- the scheme may be in capitals
\set capitals `printf %s "$LPSIM_TLS_URL" | sed s/https/HTTPS/`
ALTER SERVER acme OPTIONS (SET base_url :'capitals', ADD ca_file :'ca');
SELECT status FROM lp_delete_users('12345678', '{1}');
ALTER SERVER acme OPTIONS (SET base_url :'url', DROP ca_file);
\! curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/log
-- the version goes into the query
ALTER SERVER acme OPTIONS (ADD api_version '10.25');
SELECT status FROM lp_delete_users('12345678', '{1}');
\! curl -sSf "$LPSIM_URL/_sim/log" | grep -o '"query":"[^"]*"'
ALTER SERVER acme OPTIONS (DROP api_version, ADD timeout '900ms');

-- Retry-After that does not fit into "timeout" is not waited for: the 429 is the answer. One that names no time is a second.
\! curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/log
\! curl -sSfo /dev/null -d '[{"action":"retry_after","value":"1"},{"action":"retry_after","value":"0"},{"action":"retry_after","value":"-5"},{"action":"retry_after","value":"soon"},{"action":"retry_after","value":"99999999999999999999"}]' $LPSIM_URL/_sim/faults
\! curl -sSfo /dev/null -d '[{"action":"retry_after","value":"Fri, 01 Jan 2100 00:00:00 GMT"},{"action":"retry_after","value":"Sun, 06 Nov 1994 08:49:37 GMT"},{"action":"retry_after","value":"Sunday, 06-Nov-94 08:49:37 GMT"},{"action":"retry_after","value":"1 2"},{"action":"status","status":429}]' $LPSIM_URL/_sim/faults
SELECT n, r.status FROM generate_series(1, 10) n, LATERAL lp_delete_users('12345678', ARRAY[n]) r;
\! curl -sSf "$LPSIM_URL/_sim/count?method=DELETE"
-- one that fits is waited for, and the request is sent again; in the past means now, but never sooner than a second
ALTER SERVER acme OPTIONS (SET timeout '10s');
\! curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/log
\! curl -sSfo /dev/null -d '{"action":"retry_after","value":"Sun, 06 Nov 1994 08:49:37 GMT"}' $LPSIM_URL/_sim/faults
SELECT status FROM lp_create_users('12345678', person('bob'));
\! curl -sSf "$LPSIM_URL/_sim/log" > results/url.tmp
\set log `cat results/url.tmp; rm -f results/url.tmp`
SELECT e->'status' AS status, e->'logins' AS logins, e->'applied' AS applied,
	(e->>'at')::float8 - lag((e->>'at')::float8) OVER (ORDER BY e->'seq') >= 1 AS a_second_later
FROM jsonb_array_elements(:'log') e;
\i sql/include/finish.sql

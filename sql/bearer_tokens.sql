-- bearer_tokens: the three ways to get a bearer, how long one is kept, and what is said when there is none
\i sql/include/start.sql
ALTER SERVER acme OPTIONS (DROP base_url, ADD domain_api_url :'tls_url', ADD ca_file :'ca');
CREATE FUNCTION create_one(name text) RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(': ', status, error) FROM lp_create_users('12345678', person(name)) $$;

-- OAuth 2.0: one token for many requests.
ALTER USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (DROP token, ADD client_id 'lp-client', ADD client_secret 'lp-client-secret');
SELECT create_one('ann'), create_one('bob'), create_one('cid');
\! curl -sSf "$LPSIM_URL/_sim/log" | grep -oE '"(method|path|content_type)":("[^"]*"|null)' | paste - - -
-- it expired in the account: renewed once, and the user is created once
\! curl -sSfo /dev/null -X POST $LPSIM_URL/_sim/tokens/expire
SELECT create_one('dan');
\! curl -sSf "$LPSIM_URL/_sim/count?path=/app/token"; curl -sSf "$LPSIM_URL/_sim/count?login=dan@example.com&status=401"; curl -sSf "$LPSIM_URL/_sim/count?login=dan@example.com&status=201"
-- 401 also with a fresh one: the answer, after two POSTs
\! curl -sSfo /dev/null -d '{"path":"/users","method":"POST","action":"status","status":401,"times":2}' $LPSIM_URL/_sim/faults
SELECT create_one('eve');
\! curl -sSf "$LPSIM_URL/_sim/count?path=/app/token"; curl -sSf "$LPSIM_URL/_sim/count?login=eve@example.com"
-- refused for ever: another one is asked for once, not for each row; when the account takes it, all is as before
SELECT create_one('eva');
\! curl -sSfo /dev/null -X POST $LPSIM_URL/_sim/tokens/expire; curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/log
\! curl -sSfo /dev/null -d '{"path":"/users","method":"POST","action":"status","status":401,"times":0}' $LPSIM_URL/_sim/faults
SELECT create_one('eva' || i) FROM generate_series(1, 10) i;
\! curl -sSf "$LPSIM_URL/_sim/count?path=/app/token"; curl -sSf "$LPSIM_URL/_sim/count?path=/users"
\! curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/faults
SELECT create_one('evi'), create_one('evu');
\! curl -sSfo /dev/null -X POST $LPSIM_URL/_sim/tokens/expire
SELECT create_one('evo');
\! curl -sSf "$LPSIM_URL/_sim/count?path=/app/token"
-- 403 is no reason for another token
\! curl -sSfo /dev/null -d '{"path":"/users","method":"POST","action":"status","status":403}' $LPSIM_URL/_sim/faults
SELECT create_one('fay');
\! curl -sSf "$LPSIM_URL/_sim/count?path=/app/token"; curl -sSf "$LPSIM_URL/_sim/count?login=fay@example.com"
-- a service that does not say how long it lives
\! curl -sSfo /dev/null -X POST $LPSIM_URL/_sim/tokens/expire; curl -sSfo /dev/null -d '{"expires_in":false}' $LPSIM_URL/_sim/config; curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/log
SELECT create_one('gil'), create_one('hal');
\! curl -sSf "$LPSIM_URL/_sim/count?path=/app/token"
-- a life of no time: one for each request, none is used twice; the one 401 is that of the expired one
\! curl -sSfo /dev/null -X POST $LPSIM_URL/_sim/tokens/expire; curl -sSfo /dev/null -d '{"expires_in":true}' $LPSIM_URL/_sim/config; curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/log
\! curl -sSfo /dev/null -d '{"path":"/app/token","action":"body","body":"{\"access_token\":\"lp-token\",\"expires_in\":\"0.001\"}","times":3}' $LPSIM_URL/_sim/faults
SELECT create_one('ian') || pg_sleep(0.01), create_one('jim') || pg_sleep(0.01), create_one('kim');
\! curl -sSf "$LPSIM_URL/_sim/count?path=/app/token"; curl -sSf "$LPSIM_URL/_sim/count?status=401"
-- the mapping changed: what was kept for it is forgotten
\! curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/log
SELECT create_one('leo');
ALTER USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (SET client_secret 'wrong-secret');
SELECT create_one('mia'); -- ERROR
\echo :LAST_ERROR_SQLSTATE
ALTER USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (SET client_secret 'lp-client-secret', SET client_id 'a&grant_type=b');
SELECT create_one('mia'); -- ERROR
ALTER USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (SET client_id 'lp-client');
SELECT create_one('mia');
\! curl -sSf "$LPSIM_URL/_sim/count?path=/app/token"; curl -sSf "$LPSIM_URL/_sim/count?login=mia@example.com"

-- Token services in trouble: nothing was sent to the account.
ALTER SERVER acme OPTIONS (ADD timeout '2s');
\! curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/faults
\! curl -sSfo /dev/null -d '[{"path":"/app/token","action":"status","status":500},{"path":"/app/token","action":"status","status":403},{"path":"/app/token","action":"retry_after","value":"30"},{"path":"/app/token","action":"html"},{"path":"/app/token","action":"not_json"},{"path":"/app/token","action":"empty"},{"path":"/app/token","action":"reset"},{"path":"/app/token","action":"half"},{"path":"/app/token","action":"redirect","location":"https://127.0.0.1:1/"}]' $LPSIM_URL/_sim/faults
\! curl -sSfo /dev/null -d '[{"path":"/app/token","action":"body","body":"{}"},{"path":"/app/token","action":"body","body":"{\"access_token\":null}"},{"path":"/app/token","action":"body","body":"{\"access_token\":\"\"}"},{"path":"/app/token","action":"body","body":"{\"access_token\":\"a b\"}"},{"path":"/app/token","action":"body","body":"{\"access_token\":\"a\\r\\nX-Evil: 1\"}"},{"path":"/app/token","action":"body","body":"{\"access_token\":\"a\\u0000b\"}"},{"path":"/app/token","action":"body","body":"{\"access_token\":\"\\u00e4\"}"},{"path":"/app/token","action":"body","status":401,"body":"client_secret=lp-client-secret","content_type":"text/plain"}]' $LPSIM_URL/_sim/faults
\! curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/log
ALTER USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (SET client_id 'lp-client');
SELECT n, state, message, detail FROM generate_series(1, 17) n, LATERAL attempt('SELECT create_one(''nan'' || ' || n || ')');
\! curl -sSf "$LPSIM_URL/_sim/count?path=/app/token"; curl -sSf "$LPSIM_URL/_sim/count?path=/users"; curl -sSf "$LPSIM_URL/_sim/faults" | grep -c '"struck":1'
ALTER SERVER acme OPTIONS (DROP timeout);

-- what it says is shown, unless it quotes the secret, in whatever spelling
\! curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/faults; curl -sSfo /dev/null -d '[{"path":"/app/token","action":"body","status":400,"body":"{\"error\":\"client lp-client is blocked\"}"},{"path":"/app/token","action":"body","status":400,"body":"{\"message\":\"client secret lp-client-secret is expired\"}"},{"path":"/app/token","action":"body","status":400,"body":"{\"message\":\"client_secret=lp%2Dclient%2Dsecret\"}"}]' $LPSIM_URL/_sim/faults
SELECT n, state, message, detail FROM generate_series(1, 3) n, LATERAL attempt('SELECT create_one(''ned'' || ' || n || ')');
\! curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/log

-- token_url is asked instead of the Domain API, if it is set
\set token_url :tls_url '/sentinel/api/v2/account/12345678/app/token'
ALTER SERVER acme OPTIONS (ADD base_url :'url', ADD token_url :'token_url', SET domain_api_url 'https://127.0.0.1:1');
SELECT create_one('ola');

-- The Login service.
ALTER USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (DROP client_id, DROP client_secret, ADD username 'lp-user',
	ADD password 'lp-user-password');
ALTER SERVER acme OPTIONS (SET domain_api_url :'tls_url');
\! curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/log
SELECT create_one('pam'), create_one('pia');
\! curl -sSf "$LPSIM_URL/_sim/log" | grep -oE '"(method|path|query|content_type)":("[^"]*"|null)' | paste - - - -
ALTER SERVER acme OPTIONS (ADD login_url :'tls_url', SET domain_api_url 'https://127.0.0.1:1');
SELECT create_one('quy');
\! curl -sSfo /dev/null -X POST $LPSIM_URL/_sim/tokens/expire
SELECT create_one('rob');
\! curl -sSf "$LPSIM_URL/_sim/count?path=/login"
\! curl -sSfo /dev/null -d '{"path":"/login","action":"status","status":451}' $LPSIM_URL/_sim/faults
ALTER USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (SET username 'lp-user');
SELECT create_one('sam'); -- ERROR
\echo :LAST_ERROR_SQLSTATE
ALTER USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (SET password E'pass"word\\é');
SELECT create_one('sam'); -- ERROR
\! curl -sSf "$LPSIM_URL/_sim/count?login=sam@example.com"

-- A ready bearer: no service is asked, and a 401 is final.
ALTER USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (DROP username, DROP password, ADD token 'lp-token');
\! curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/log
SELECT create_one('tom');
ALTER USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (SET token 'expired-token');
SELECT create_one('una');
\! curl -sSf "$LPSIM_URL/_sim/count"; curl -sSf "$LPSIM_URL/_sim/count?login=una@example.com"
ALTER USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (SET token 'a b');
SELECT create_one('vic'); -- ERROR
\echo :LAST_ERROR_SQLSTATE
ALTER USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (SET token 'ä');
SELECT create_one('vic'); -- ERROR
\! curl -sSf "$LPSIM_URL/_sim/count?login=vic@example.com"

-- Bearers do not cross from one role to another.
ALTER USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (DROP token, ADD client_id 'lp-client', ADD client_secret 'lp-client-secret');
CREATE ROLE regress_clerk;
GRANT USAGE ON FOREIGN SERVER acme TO regress_clerk;
GRANT EXECUTE ON FUNCTION lp_create_users(text, jsonb) TO regress_clerk;
CREATE USER MAPPING FOR regress_clerk SERVER acme OPTIONS (client_id 'lp-client', client_secret 'wrong-secret');
\! curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/log
SELECT create_one('wil');
SET ROLE regress_clerk;
SELECT create_one('xia'); -- ERROR
RESET ROLE;
ALTER USER MAPPING FOR regress_clerk SERVER acme OPTIONS (SET client_secret 'lp-client-secret');
SET ROLE regress_clerk;
SELECT create_one('xia'), create_one('yan');
RESET ROLE;
SELECT create_one('zoe');
\! curl -sSf "$LPSIM_URL/_sim/log" > results/auth.tmp
\set log `cat results/auth.tmp; rm -f results/auth.tmp`
-- which bearer (by number) and which connection went with which user
SELECT e->'logins'->>0 AS login, dense_rank() OVER (ORDER BY first) AS bearer, e->>'status' AS status
FROM (SELECT e, min((e->>'seq')::int) OVER (PARTITION BY e->>'bearer') AS first FROM jsonb_array_elements(:'log') e
	  WHERE e->>'path' ~ '/users$') e ORDER BY (e->>'seq')::int;
SELECT count(*) AS connections_of_both FROM (
	SELECT e->>'connection' FROM jsonb_array_elements(:'log') e WHERE e->>'path' ~ '/users$'
	GROUP BY 1 HAVING count(DISTINCT e->>'bearer') > 1) e;
DROP USER MAPPING FOR regress_clerk SERVER acme;
REVOKE ALL ON FOREIGN SERVER acme FROM regress_clerk;
REVOKE ALL ON FUNCTION lp_create_users(text, jsonb) FROM regress_clerk;
DROP ROLE regress_clerk;
DROP FUNCTION create_one(text);
\i sql/include/finish.sql

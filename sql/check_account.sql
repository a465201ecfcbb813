-- check_account: lp_check() in success, and at each step that can fail
\i sql/include/start.sql
CREATE FUNCTION steps(n integer DEFAULT 0, OUT step text, OUT ok boolean, OUT detail text) RETURNS SETOF record LANGUAGE sql AS $$
	SELECT step, ok, regexp_replace(regexp_replace(detail, 'http(s?)://127\.0\.0\.1:\d+', 'http\1://...'),
		'\d+ ms$|(?<=(account|service|API): ).*(?=\. (Nothing|Outcome))', '...') FROM lp_check('12345678') $$;
SELECT * FROM steps();
-- it sends one GET, and writes nothing
\! curl -sSf "$LPSIM_URL/_sim/log" | grep -oE '"(method|path|query)":"[^"]*"'
SELECT count(*) FROM lp_results;
BEGIN READ ONLY;
SELECT step, ok FROM steps();
ROLLBACK;
\! curl -sSfo /dev/null -d '[{"loginName":"a"},{"loginName":"b"}]' $LPSIM_URL/_sim/users
SELECT * FROM steps();

-- the read fails
\! curl -sSfo /dev/null -d '{"forbid":true}' $LPSIM_URL/_sim/config
SELECT * FROM steps();
\! curl -sSfo /dev/null -d '{"forbid":false}' $LPSIM_URL/_sim/config
\! curl -sSfo /dev/null -d '[{"action":"status","status":500},{"action":"html"},{"action":"not_json"},{"action":"empty"},{"action":"body","body":"{}"},{"action":"half","times":2},{"action":"redirect","location":"https://127.0.0.1:1/"}]' $LPSIM_URL/_sim/faults
SELECT n, s.* FROM generate_series(1, 7) n, LATERAL steps(n) s WHERE s.step = 'read';
-- no revision in the answer
\! curl -sSfo /dev/null -d '{"revision_header":"none"}' $LPSIM_URL/_sim/config
SELECT * FROM steps();
\! curl -sSfo /dev/null -d '{"revision_header":"ETag"}' $LPSIM_URL/_sim/config
SELECT step, ok FROM steps();

-- the token fails
ALTER USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (SET token 'wrong-token');
SELECT * FROM steps();
ALTER USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (DROP token);
SELECT * FROM steps();
\set token_url :tls_url '/sentinel/api/v2/account/12345678/app/token'
ALTER SERVER acme OPTIONS (ADD ca_file :'ca', ADD token_url :'token_url', ADD login_url :'tls_url');
ALTER USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (ADD client_id 'lp-client', ADD client_secret 'wrong');
SELECT * FROM steps();
ALTER USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (SET client_secret 'lp-client-secret');
SELECT step, ok, detail FROM steps() WHERE step = 'token';
-- a token that is kept proves nothing
\! curl -sSfo /dev/null -d '{"path":"/app/token","action":"status","status":401}' $LPSIM_URL/_sim/faults
SELECT * FROM steps();
SELECT step, ok, detail FROM steps() WHERE step = 'token';
ALTER USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (DROP client_id, DROP client_secret, ADD username 'lp-user',
	ADD password 'lp-user-password');
SELECT step, ok, detail FROM steps() WHERE step = 'token';

-- the domain fails: nothing listens there
ALTER SERVER acme OPTIONS (DROP base_url, ADD domain_api_url 'https://127.0.0.1:1');
SELECT * FROM steps();
-- the account fails
ALTER SERVER acme OPTIONS (ADD base_url 'http://127.0.0.1:1', DROP domain_api_url);
SELECT * FROM steps();
DROP FUNCTION steps(integer);
\i sql/include/finish.sql

-- secret_files: secrets from files, read anew each time; neither a secret nor a path is ever in a message
\i sql/include/start.sql
CREATE FUNCTION token_step() RETURNS text LANGUAGE sql AS $$
	SELECT concat(CASE WHEN ok THEN 'ok: ' END, detail) FROM lp_check('12345678') WHERE step = 'token' $$;
CREATE FUNCTION read_step() RETURNS text LANGUAGE sql AS $$
	SELECT regexp_replace(detail, '(status \d+).*', '\1') FROM lp_check('12345678') WHERE step = 'read' $$;
\! mkdir -p results; printf 'lp-token' > results/secret.tmp
\set dir `pwd`
\set file :dir '/results/secret.tmp'
\set folder :dir '/results'
\set pipe :dir '/results/secret.pipe'
ALTER USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (DROP token, ADD token_file :'file');
SELECT token_step(), read_step();
-- line ends at the end are not part of it
\! printf 'lp-token\r\n\n' > results/secret.tmp
SELECT token_step(), read_step();
-- rotated: no DDL, no new session
\! printf 'another\n' > results/secret.tmp
SELECT token_step(), read_step();
\! printf 'lp-token\n' > results/secret.tmp
SELECT token_step(), read_step();
-- unusable ones
\! : > results/secret.tmp
SELECT token_step();
\! printf '\n' > results/secret.tmp
SELECT token_step();
\! printf 'hush\nhush\n' > results/secret.tmp
SELECT token_step();
\! printf 'hush\000hush\n' > results/secret.tmp
SELECT token_step();
\! printf 'hush\thush\n' > results/secret.tmp
SELECT token_step();
\! printf 'hush hush\n' > results/secret.tmp
SELECT token_step();
\! head -c 65537 /dev/zero | tr '\000' x > results/secret.tmp
SELECT token_step();
\! rm -f results/secret.tmp
SELECT token_step();
SELECT * FROM lp_create_users('12345678', person('ann')); -- ERROR
\echo :LAST_ERROR_SQLSTATE
-- neither a directory, nor a pipe without a writer, which does not block
ALTER USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (SET token_file :'folder');
SELECT token_step();
\! rm -f results/secret.pipe; mkfifo results/secret.pipe
ALTER USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (SET token_file :'pipe');
SELECT token_step();
\! rm -f results/secret.pipe

-- the other secrets
\set token_url :tls_url '/sentinel/api/v2/account/12345678/app/token'
ALTER SERVER acme OPTIONS (ADD ca_file :'ca', ADD token_url :'token_url', ADD login_url :'tls_url');
ALTER USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (DROP token_file, ADD client_id 'lp-client', ADD client_secret_file :'file');
SELECT token_step();
\! printf 'lp-client-secret\n' > results/secret.tmp
SELECT token_step(), read_step();
ALTER USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (DROP client_id, DROP client_secret_file, ADD username 'lp-user',
	ADD password_file :'file');
\! rm -f results/secret.tmp
SELECT token_step();
\! printf 'lp-user-password\n' > results/secret.tmp
SELECT token_step(), read_step();
-- of a proxy: asked for before anything is sent anywhere
ALTER USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (DROP username, DROP password_file, ADD token 'lp-token',
	ADD proxy_user 'p', ADD proxy_password_file :'file');
ALTER SERVER acme OPTIONS (ADD proxy 'http://127.0.0.1:1');
\! rm -f results/secret.tmp
\! curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/log
SELECT step, detail FROM lp_check('12345678') WHERE step = 'read';
SELECT * FROM lp_create_users('12345678', person('ann')); -- ERROR
\! printf 'hush\n' > results/secret.tmp
SELECT state, message, detail FROM attempt($$SELECT lp_create_users('12345678', person('ann'))$$);
\! rm -f results/secret.tmp
\! curl -sSf "$LPSIM_URL/_sim/count"
ALTER SERVER acme OPTIONS (DROP proxy);
DROP FUNCTION token_step();
DROP FUNCTION read_step();
\i sql/include/finish.sql

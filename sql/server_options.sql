-- server_options: every option of servers and user mappings, and what the validator says of wrong ones
\i sql/include/start.sql
DROP USER MAPPING FOR CURRENT_USER SERVER acme;

-- The account is required, and it is an account id.
CREATE SERVER s FOREIGN DATA WRAPPER lpusers; -- ERROR
\echo :LAST_ERROR_SQLSTATE
CREATE SERVER s FOREIGN DATA WRAPPER lpusers OPTIONS (domain 'va.ac.liveperson.net'); -- ERROR
SELECT left(account, 20) AS account, length(account), state, message, detail
FROM unnest(ARRAY['12345678', 'le_-Az09', 'x', repeat('9', 64), repeat('9', 65), '', ' ', '12 34', '../../x', '12/34', '1%2f',
				  '12?v=1', 'ä', E'12\n', E'12\r\nHost: x']) AS account,
LATERAL attempt(format('CREATE SERVER s FOREIGN DATA WRAPPER lpusers OPTIONS (account %L); DROP SERVER s', account));

-- Values of server options: added to a server, read back by a call that finds no mapping, taken away.
CREATE FUNCTION try_server(name text, value text, OUT state text, OUT complaint text) LANGUAGE plpgsql AS $$
DECLARE
	r record;
BEGIN
	SELECT * INTO r FROM attempt(format('CREATE SERVER tried FOREIGN DATA WRAPPER lpusers OPTIONS (account ''1'', %I %L);'
		' DROP SERVER tried', name, value));
	state := r.state;
	complaint := concat_ws(' / ', r.message, r.detail, r.hint);
END $$;
SELECT name, value, t.* FROM (VALUES
	('domain', 'va.ac.liveperson.net'), ('domain', 'x'), ('domain', 'https://va.ac.liveperson.net'), ('domain', 'a b'),
	('domain', 'va.ac.liveperson.net:443'), ('domain', 'va.ac.liveperson.net/x'), ('domain', 'u@va.ac.liveperson.net'),
	('domain', '.x'), ('domain', '-x'), ('domain', ''),
	('api_version', '4.0'), ('api_version', '6.0'), ('api_version', '10.25'), ('api_version', ''), ('api_version', '4'), ('api_version', '4.'),
	('api_version', '.0'), ('api_version', '4.0.1'), ('api_version', '4.0&x=1'), ('api_version', '1.00000000000000000'),
	('connect_timeout', '500ms'), ('connect_timeout', '5s'), ('connect_timeout', '1min'), ('connect_timeout', '250'),
	('connect_timeout', '0'), ('connect_timeout', '-1s'), ('connect_timeout', '5 weeks'), ('connect_timeout', 'soon'),
	('timeout', '30'), ('timeout', ' 30 '), ('timeout', '1.5'), ('timeout', '30000'), ('max_response_size', '64'), ('max_response_size', '67108864'),
	('timeout', '1h'), ('timeout', '2h'), ('timeout', '60s'), ('timeout', '1.5s'), ('timeout', '64MB'),
	('batch_size', '1'), ('batch_size', '10000'), ('batch_size', '0'), ('batch_size', '10001'), ('batch_size', 'many'),
	('batch_size', '1.4'), ('batch_size', '5s'), ('batch_size', '99999999999'),
	('max_connections', '64'), ('max_connections', '65'), ('max_connections', '0'),
	('rate_limit', '0'), ('rate_limit', '0.5'), ('rate_limit', '-1'), ('rate_limit', 'NaN'), ('rate_limit', 'Infinity'), ('rate_limit', '0.001'), ('rate_limit', '1e-300'),
	('rate_limit', 'fast'),
	('max_retries', '0'), ('max_retries', '-1'), ('max_retries', '1000'), ('max_retries', '1001'),
	('max_response_size', '64MB'), ('max_response_size', '1kB'), ('max_response_size', '1023MB'), ('max_response_size', '1GB'),
	('max_response_size', '1B'), ('max_response_size', '60s'),
	('hold_above', '0'), ('hold_above', '2147483647'), ('hold_above', '-1'),
	('delivery', 'on'), ('delivery', 'paused'), ('delivery', 'off'), ('delivery', 'PAUSED'),
	('max_list_size', '1GB'), ('max_list_size', '500GB'), ('max_list_size', '100B'), ('max_list_size', '1000'), ('if_match', 'off'), ('if_match', 'required'), ('if_match', 'on'),
	('require_password', 'off'), ('require_password', 'on'), ('require_password', 'no'), ('require_password', 'maybe'),
	('updatable', 'off'), ('updatable', 'true'), ('updatable', 'never'), ('updateable', 'off'))
	AS v (name, value), LATERAL try_server(name, value) t;

-- Origins, URLs, files, the proxy.
SELECT name, value, t.* FROM (VALUES
	('base_url', 'https://gateway.example.com'), ('base_url', 'https://gateway.example.com:8443'),
	('base_url', 'http://127.0.0.1:8080'), ('base_url', 'https://[::1]:8443'), ('base_url', 'https://gateway.example.com/'),
	('base_url', 'https://gateway.example.com/lp'), ('base_url', 'https://u:p@gateway.example.com'),
	('base_url', 'https://gateway.example.com?x=1'), ('base_url', 'https://gateway.example.com#x'),
	('base_url', 'https://gateway.example.com?'), ('base_url', 'https://gateway.example.com#'),
	('base_url', 'ftp://gateway.example.com'), ('base_url', 'file:///etc/passwd'), ('base_url', 'gateway.example.com'),
	('base_url', 'https://'), ('base_url', 'https://a b'), ('base_url', 'https://gateway.example.com:99999'),
	('domain_api_url', 'https://api.liveperson.net'), ('domain_api_url', 'http://api.liveperson.net'),
	('domain_api_url', 'https://api.liveperson.net/api'), ('domain_api_url', 'api.liveperson.net'),
	('login_url', 'https://va.agentvep.liveperson.net'), ('login_url', 'http://va.agentvep.liveperson.net'),
	('login_url', 'https://va.agentvep.liveperson.net/x'), ('login_url', 'https://u@va.agentvep.liveperson.net'),
	('token_url', 'https://va.sentinel.liveperson.net/sentinel/api/v2/account/1/app/token'),
	('token_url', 'http://va.sentinel.liveperson.net/token'), ('token_url', 'https://va.sentinel.liveperson.net/token?x=1'),
	('token_url', 'https://u:p@va.sentinel.liveperson.net/token'),
	('ca_file', '/etc/ssl/ca.pem'), ('ca_file', 'ca.pem'), ('ca_file', '../ca.pem'), ('ca_file', ''),
	('proxy', 'http://proxy:3128'), ('proxy', 'https://proxy:3128'), ('proxy', 'socks5h://proxy:1080'), ('proxy', 'proxy:3128'),
	('proxy', 'http://u:p@proxy:3128'), ('proxy', 'http://proxy:3128/x'), ('proxy', 'file:///x'), ('proxy', 'foo://proxy:1'),
	('proxy', 'http://proxy:0'), ('base_url', 'http://h:0'), ('proxy', ''))
	AS v (name, value), LATERAL try_server(name, value) t;

-- No control character in any option, whatever it is for: it could end up in a header.
CREATE VIEW options AS SELECT * FROM (VALUES
	('s', 'domain'), ('s', 'base_url'), ('s', 'domain_api_url'), ('s', 'login_url'), ('s', 'token_url'), ('s', 'api_version'),
	('s', 'connect_timeout'), ('s', 'timeout'), ('s', 'batch_size'), ('s', 'max_connections'), ('s', 'rate_limit'),
	('s', 'max_retries'), ('s', 'max_response_size'), ('s', 'max_list_size'), ('s', 'if_match'), ('s', 'hold_above'), ('s', 'delivery'), ('s', 'require_password'), ('s', 'updatable'),
	('s', 'ca_file'), ('s', 'proxy'), ('s', 'account'), ('m', 'client_id'), ('m', 'client_secret'), ('m', 'client_secret_file'),
	('m', 'token'), ('m', 'token_file'), ('m', 'username'), ('m', 'password'), ('m', 'password_file'), ('m', 'proxy_user'),
	('m', 'proxy_password'), ('m', 'proxy_password_file')) AS v (catalog, name);
CREATE FUNCTION try_option(catalog text, name text, value text, OUT state text, OUT complaint text) LANGUAGE sql AS $$
	SELECT state, concat_ws(' / ', message, detail, hint)
	FROM attempt(CASE WHEN catalog = 's' THEN format('ALTER SERVER acme OPTIONS (%s %I %L)',
			CASE WHEN name IN ('account', 'base_url') THEN 'SET' ELSE 'ADD' END, name, value)
		ELSE format('CREATE USER MAPPING FOR PUBLIC SERVER acme OPTIONS (%I %L)', name, value) END) $$;
SELECT t.state, regexp_replace(t.complaint, '"\w+"', '"..."') AS complaint, count(*)
FROM options o, unnest(ARRAY[E'\r', E'\n', E'\r\n', E'\t', E'\x01', E'\x7f']) AS c,
LATERAL try_option(o.catalog, o.name, 'secret' || c || 'X-Evil: 1') t GROUP BY 1, 2 ORDER BY 1, 2;
-- nor an empty one
SELECT t.state, regexp_replace(t.complaint, '"\w+"', '"..."') AS complaint, count(*)
FROM options o, LATERAL try_option(o.catalog, o.name, '') t GROUP BY 1, 2 ORDER BY 1, 2;

-- Unknown options: the nearest one is named, if it is near.
SELECT name, t.* FROM unnest(ARRAY['acount', 'Account', 'acocunt', 'domian', 'base-url', 'base_uri', 'token_uri', 'conect_timeout',
								   'time_out', 'batchsize', 'max_conections', 'ratelimit', 'requirepassword', 'cafile', 'client_id',
								   'fetch_size', 'user', repeat('x', 100)]) AS name,
LATERAL try_server(name, 'x') t;
SELECT name, t.* FROM unnest(ARRAY['clientid', 'client-secret', 'client_secert', 'client_secret_fil', 'tokens', 'user', 'user_name',
								   'pasword', 'passwd', 'account', 'proxyuser', 'oauth_consumer_key']) AS name,
LATERAL try_option('m', name, 'x') t;
ALTER FOREIGN DATA WRAPPER lpusers OPTIONS (account '1'); -- ERROR
-- an option of the other catalog is none here
SELECT catalog, name, t.state FROM options,
LATERAL try_option(CASE catalog WHEN 's' THEN 'm' ELSE 's' END, name, '1') t
WHERE t.state <> 'HV00D' AND name NOT IN ('account', 'base_url');

-- Options that do not go together.
CREATE SERVER s FOREIGN DATA WRAPPER lpusers OPTIONS (account '1', domain 'va.ac.liveperson.net', base_url 'https://x'); -- ERROR
\echo :LAST_ERROR_SQLSTATE
SELECT options, state, message, detail FROM unnest(ARRAY[
	'', 'client_id ''i'', client_secret ''hush''', 'client_id ''i'', client_secret_file ''/f''', 'token ''hush''',
	'token_file ''/f''', 'username ''u'', password ''hush''', 'username ''u'', password_file ''/f''',
	'token ''hush'', proxy_user ''p'', proxy_password ''hush''', 'proxy_user ''p'', proxy_password_file ''/f''',
	'client_id ''i''', 'client_secret ''hush''', 'client_secret_file ''/f''', 'username ''u''', 'password ''hush''',
	'password_file ''/f''', 'proxy_user ''p''', 'proxy_password ''hush''',
	'token ''hush'', client_id ''i''', 'token ''hush'', client_id ''i'', client_secret ''hush''',
	'token ''hush'', username ''u'', password ''hush''', 'client_id ''i'', client_secret ''hush'', username ''u'', password ''hush''',
	'token ''hush'', token_file ''/f''', 'client_id ''i'', client_secret ''hush'', client_secret_file ''/f''',
	'username ''u'', password ''hush'', password_file ''/f''',
	'proxy_user ''p'', proxy_password ''hush'', proxy_password_file ''/f''']) AS options,
LATERAL attempt(format('CREATE USER MAPPING FOR PUBLIC SERVER acme %s; DROP USER MAPPING FOR PUBLIC SERVER acme',
	CASE WHEN options <> '' THEN 'OPTIONS (' || options || ')' END));
SELECT count(*) AS mappings FROM pg_user_mappings WHERE srvname = 'acme';

-- ALTER: the outcome is what is checked.
CREATE SERVER s FOREIGN DATA WRAPPER lpusers OPTIONS (account '1', timeout '5s');
ALTER SERVER s OPTIONS (DROP account); -- ERROR
ALTER SERVER s OPTIONS (SET account 'a b'); -- ERROR
ALTER SERVER s OPTIONS (SET account '2', DROP timeout, ADD domain 'va.ac.liveperson.net');
ALTER SERVER s OPTIONS (base_url 'https://x'); -- ERROR
ALTER SERVER s OPTIONS (DROP domain, ADD base_url 'https://x');
SELECT srvoptions FROM pg_foreign_server WHERE srvname = 's';
CREATE USER MAPPING FOR PUBLIC SERVER s OPTIONS (client_id 'i', client_secret 'hush');
ALTER USER MAPPING FOR PUBLIC SERVER s OPTIONS (DROP client_secret); -- ERROR
ALTER USER MAPPING FOR PUBLIC SERVER s OPTIONS (ADD token 'hush'); -- ERROR
ALTER USER MAPPING FOR PUBLIC SERVER s OPTIONS (DROP client_id, DROP client_secret, ADD token 'hush');
ALTER USER MAPPING FOR PUBLIC SERVER s OPTIONS (DROP token);
SELECT umoptions FROM pg_user_mappings WHERE srvname = 's';

-- What decides where credentials go, or which file is read, is a superuser's.
CREATE ROLE regress_admin;
GRANT USAGE ON FOREIGN DATA WRAPPER lpusers TO regress_admin;
GRANT ALL ON SCHEMA public TO regress_admin;
ALTER SERVER s OWNER TO regress_admin;
SET ROLE regress_admin;
SELECT name, t.* FROM (VALUES
	('base_url', 'https://gateway.example.com'), ('domain_api_url', 'https://x.liveperson.net'),
	('login_url', 'https://x.liveperson.net'), ('token_url', 'https://x.liveperson.net/t'), ('ca_file', '/x'), ('proxy', 'http://x'),
	('domain', 'va.ac.liveperson.net'), ('domain', 'VA.AC.LivePerson.NET'), ('domain', 'example.com'),
	('domain', 'evil-liveperson.net'), ('domain', 'liveperson.net'), ('domain', '.liveperson.net'),
	('domain', 'x.liveperson.net.example.com'), ('timeout', '5s'))
	AS v (name, value), LATERAL try_server(name, value) t;
SELECT options, state, message FROM unnest(ARRAY['client_id ''i'', client_secret_file ''/f''', 'token_file ''/f''',
	'username ''u'', password_file ''/f''', 'proxy_user ''p'', proxy_password_file ''/f''', 'token ''hush''']) AS options,
LATERAL attempt(format('CREATE USER MAPPING FOR CURRENT_USER SERVER s OPTIONS (%s);'
	' DROP USER MAPPING FOR CURRENT_USER SERVER s', options));
-- even a harmless change of a server that has such an option (it would be checked as a whole) is refused
ALTER SERVER s OPTIONS (ADD timeout '5s'); -- ERROR
RESET ROLE;
DROP USER MAPPING FOR PUBLIC SERVER s;
DROP SERVER s;
REVOKE ALL ON SCHEMA public FROM regress_admin;
REVOKE ALL ON FOREIGN DATA WRAPPER lpusers FROM regress_admin;
DROP ROLE regress_admin;

-- What stands in the catalog although the validator would refuse it (put there by a superuser) is refused at use.
CREATE USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (token 'lp-token');
UPDATE pg_foreign_server SET srvoptions = srvoptions || '{timeout=never}' WHERE srvname = 'acme';
SELECT * FROM lp_check('12345678'); -- ERROR
\echo :LAST_ERROR_SQLSTATE
UPDATE pg_foreign_server SET srvoptions = array_remove(srvoptions, 'timeout=never') || '{nonsense=1}' WHERE srvname = 'acme';
SELECT * FROM lp_check('12345678'); -- ERROR
UPDATE pg_foreign_server SET srvoptions = array_remove(srvoptions, 'nonsense=1') WHERE srvname = 'acme';
SELECT step, ok FROM lp_check('12345678');

DROP FUNCTION try_option(text, text, text);
DROP FUNCTION try_server(text, text);
DROP VIEW options;
\i sql/include/finish.sql

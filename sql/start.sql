\set ECHO none
-- start.sql: what the tests begin with; itself not a test. The extension, a server "acme" for the stand-in account with a
-- mapping for the current user, and helpers. Tests work alone and in any order. finish.sql takes it all away again.
\set SHOW_CONTEXT never
\pset format unaligned
\pset null NULL
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS lpusers;
RESET client_min_messages;
\getenv url LPSIM_URL
\getenv tls_url LPSIM_TLS_URL
\getenv ca LPSIM_CA
CREATE SERVER acme FOREIGN DATA WRAPPER lpusers OPTIONS (account '12345678', base_url :'url');
CREATE USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (token 'lp-token');

-- A user whom the account accepts; "more" overrides and adds, null takes an attribute away.
CREATE FUNCTION person(name text, more jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
	SELECT jsonb_strip_nulls(jsonb_build_object('loginName', name || '@example.com', 'fullName', 'Full ' || name,
		'nickname', name, 'email', name || '@example.com', 'passwordSh', 'Start-1234', 'isEnabled', true, 'maxChats', 3,
		'profileIds', '[1002]'::jsonb, 'memberOf', '{"agentGroupId": 2001}'::jsonb) || more) $$;

-- n of them: prefix1 ...
CREATE FUNCTION people(prefix text, n integer) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
	SELECT jsonb_agg(person(prefix || i) ORDER BY i) FROM generate_series(1, n) i $$;

-- Run a command and say how it ended. What libcurl says differs between its versions, and ports differ always: "...".
CREATE FUNCTION attempt(command text, OUT state text, OUT message text, OUT detail text, OUT hint text)
LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE command;
	state := '00000';
	message := 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state := RETURNED_SQLSTATE, message := MESSAGE_TEXT, detail := PG_EXCEPTION_DETAIL,
		hint := PG_EXCEPTION_HINT;
	detail := nullif(detail, '');
	hint := nullif(hint, '');
	message := regexp_replace(message, '(the account|service|Domain API): .*', '\1: ...');
END $$;
\set ECHO all

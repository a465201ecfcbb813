\set ECHO none
-- start.sql: what the tests begin with: the extension, a server "acme" for the stand-in account with a mapping for the
-- current user, and helpers. finish.sql drops all of it. Tests work alone and in any order. What a test has besides, it
-- asks for with variables of psql:
--
--	with_queue			no worker, so that CALL lp_deliver() decides when to deliver; views of the queue
--	with_tables			the account as foreign tables in the schema lp, and requests to the stand-in account
--	with_people			also: all users of the account as a view, another client that changes one, and rows to insert
--	with_sync			no worker; staff in the schema hr, a view over it as the source of the sync "staff", and
--						"acct", a relation in place of the account
\if :{?with_sync}
\set no_worker on
\endif
\if :{?with_queue}
\set no_worker on
\endif

\if :{?no_worker}
-- a session begun now has the setting from its start
\setenv PGDATABASE :DBNAME
\setenv PGUSER :USER
\set psql `readlink -f /proc/$PPID/exe`
\setenv PSQL :psql
LOAD 'lpusers';
ALTER SYSTEM SET lpusers.worker = off;
SELECT pg_reload_conf() \g /dev/null
\! for i in $(seq 600); do [ "$("$PSQL" -AXqtc "LOAD 'lpusers'" -c "SHOW lpusers.worker")" = off ] && break; sleep 0.1; done
\c -
LOAD 'lpusers';
\pset tuples_only on
\pset format unaligned
SELECT 'lpusers.worker is ' || current_setting('lpusers.worker');
\pset tuples_only off
\endif

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

\if :{?with_queue}
CREATE VIEW queue AS SELECT login_name, state, error, reason FROM lp_requests ORDER BY id;
CREATE VIEW bodies AS SELECT r.login_name, p.body FROM lp_requests r JOIN lp_payloads p ON p.request_id = r.id ORDER BY r.id;
CREATE FUNCTION forget() RETURNS void LANGUAGE sql AS 'DELETE FROM lp_payloads; DELETE FROM lp_requests';

-- CREATE TRIGGER hook for a table with the columns email, name and job; "more" overrides and adds arguments, null takes one away.
CREATE FUNCTION hook(target regclass, form text, more jsonb DEFAULT '{}', event text DEFAULT 'INSERT') RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE TRIGGER hook AFTER %s ON %s %s FOR EACH %s EXECUTE FUNCTION lp_create_users_trigger(%L, %s)', event, target,
		CASE form WHEN 'STATEMENT' THEN 'REFERENCING NEW TABLE AS hired' END, form, coalesce(more->>'account', '12345678'),
		(SELECT string_agg(quote_literal(key || '=' || value), ', ' ORDER BY key) FROM jsonb_each_text(jsonb_strip_nulls('{
			"loginName": "email", "fullName": "name", "nickname": "name", "email": "email", "passwordSh": "''Start-1234''", "isEnabled": "true",
			"maxChats": "3", "profileIds": "ARRAY[1002]", "memberOf": "jsonb_build_object(''agentGroupId'', 2001)"}' || (more - 'account')))));
END $$;

-- The ERROR of a command, and the argument that its context names.
CREATE FUNCTION mistake(command text, OUT state text, OUT message text, OUT detail text, OUT argument text) LANGUAGE plpgsql AS $$
DECLARE
	context text;
BEGIN
	EXECUTE command;
	state := '00000';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state := RETURNED_SQLSTATE, message := MESSAGE_TEXT, detail := PG_EXCEPTION_DETAIL, context := PG_EXCEPTION_CONTEXT;
	detail := nullif(detail, '');
	argument := substring(context FROM 'argument "([^\n]*)" of lp_create_users_trigger');
END $$;
\endif

\if :{?with_tables}
SET lpsim.url = :'url';
CREATE SCHEMA lp;
IMPORT FOREIGN SCHEMA liveperson FROM SERVER acme INTO lp;

-- Ask the stand-in account something, or tell it something: a body. See lpsim --help.
CREATE FUNCTION lp.sim(what text, body text DEFAULT NULL, method text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	CREATE TEMP TABLE answers (line text);
	EXECUTE format('COPY answers FROM PROGRAM %L (FORMAT csv, QUOTE E''\x01'', DELIMITER E''\x02'')',
		format('curl -sSf %s %s "%s/_sim/%s"; echo', '-X ' || method, '-d ''' || replace(body, '''', '''\''''') || '''',
			current_setting('lpsim.url'), what));
	SELECT string_agg(line, '') INTO answer FROM answers;
	DROP TABLE answers;
	RETURN answer;
END $$;
CREATE PROCEDURE lp.tell(what text, body text) LANGUAGE plpgsql AS $$ BEGIN PERFORM lp.sim(what, body); END $$;
CREATE PROCEDURE lp.config(what text) LANGUAGE sql AS $$ CALL lp.tell('config', what) $$;
CREATE PROCEDURE lp.fault(what text) LANGUAGE sql AS $$ CALL lp.tell('faults', what) $$;

-- What the next GET is answered; an entity with these members.
CREATE PROCEDURE lp.next_answer(body text) LANGUAGE sql AS $$
	CALL lp.fault(jsonb_build_object('method', 'GET', 'action', 'body', 'body', body)::text) $$;

-- Lines in their order; the same many times in a row is one.
CREATE FUNCTION lp.runs(lines text[]) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT line || CASE WHEN count(*) > 1 THEN ' x' || count(*) ELSE '' END FROM
		(SELECT n, line, n - row_number() OVER (PARTITION BY line ORDER BY n) AS run FROM unnest(lines) WITH ORDINALITY u (line, n)) r
	GROUP BY line, run ORDER BY min(n) $$;

-- The log since the last time.
CREATE FUNCTION lp.log() RETURNS SETOF jsonb LANGUAGE plpgsql AS $$
DECLARE
	log jsonb := lp.sim('log');
BEGIN
	PERFORM lp.sim('log', method => 'DELETE');
	RETURN QUERY SELECT * FROM jsonb_array_elements(log);
END $$;

-- What was asked for since the last time.
CREATE FUNCTION lp.requests() RETURNS SETOF text LANGUAGE sql AS $$
	SELECT lp.runs(ARRAY(
		SELECT concat_ws(' ', r->>'method', regexp_replace(substring(r->>'path' from 'le-users/(.*)'), '\d+', '{id}'),
			CASE WHEN r->>'method' IN ('POST', 'PUT') THEN jsonb_array_length(r->'logins') WHEN r->>'method' = 'DELETE' THEN jsonb_array_length(r->'ids') END,
			'-> ' || (r->>'status'), '(' || (r->>'fault') || ')')
		FROM lp.log() r)) $$;

-- The GETs since the last time, without ids, for they go at the same time.
CREATE FUNCTION lp.asked() RETURNS SETOF text LANGUAGE sql AS $$
	SELECT lp.runs(ARRAY(
		SELECT regexp_replace(substring(r->>'path' from 'le-users/(.*)'), '\d+', '{id}') || '?' || regexp_replace(r->>'query', 'v=4.0&', '') ||
			CASE WHEN r->>'status' NOT IN ('200', '404') THEN ' -> ' || (r->>'status') ELSE '' END
		FROM lp.log() r WHERE r->>'path' LIKE '%/le-users/%' AND r->>'method' = 'GET')) $$;

-- The plan of a query, without the long first part of each path, and alike for all versions of PostgreSQL.
CREATE FUNCTION lp.plan(query text, options text DEFAULT 'COSTS OFF') RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	line text;
BEGIN
	FOR line IN EXECUTE format('EXPLAIN (%s) %s', options, query) LOOP
		line := regexp_replace(line, '/api/account/12345678/configuration/le-users/(.*)v=4.0&', '\1');
		line := regexp_replace(line, '\$\d+|\(InitPlan \d+\)\.col\d+', '$n', 'g');
		RETURN NEXT regexp_replace(line, ' \(returns \$n\)', '');
	END LOOP;
END $$;

CREATE FUNCTION lp.json_plan(query text, options text DEFAULT 'COSTS OFF') RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	plan jsonb;
BEGIN
	EXECUTE format('EXPLAIN (FORMAT JSON, %s) %s', options, query) INTO plan;
	RETURN (plan->0->'Plan') - 'Disabled';
END $$;

-- How a command fails.
CREATE FUNCTION lp.mistake(command text, OUT state text, OUT message text, OUT detail text, OUT hint text, OUT context text)
LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE command;
	state := '00000';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state := RETURNED_SQLSTATE, message := MESSAGE_TEXT, detail := PG_EXCEPTION_DETAIL,
		hint := PG_EXCEPTION_HINT, context := PG_EXCEPTION_CONTEXT;
	detail := nullif(detail, '');
	hint := nullif(hint, '');
	context := substring(context from '^column [^\n]*');
END $$;
\endif

\if :{?with_people}
-- All its users, with everything, deleted and hidden too.
CREATE VIEW lp.account AS
	SELECT (u->>'id')::bigint AS id, u->>'loginName' AS login, (u->>'deleted')::boolean AS deleted, u
	FROM jsonb_array_elements(lp.sim('users')::jsonb) u;

-- Another client changes a user.
CREATE FUNCTION lp.poke(who text, more jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	entity jsonb := (lp.sim('user?login=' || who)::jsonb - 'passwordSh') || more;
BEGIN
	EXECUTE format('COPY (SELECT 1) TO PROGRAM %L', format('cat >/dev/null; curl -sSfo /dev/null -X PUT -H "Authorization: Bearer lp-token" -H "Content-Type: application/json" -d ''%s'' "%s/api/account/12345678/configuration/le-users/users/%s?v=4.0"',
		entity, current_setting('lpsim.url'), entity->>'id'));
	RETURN 'poked';
END $$;

-- A table of just what a new user needs, and new people for it.
\set columns 'login_name, full_name, nickname, email, password_sh, is_enabled, max_chats, profile_ids, member_of'
CREATE FOREIGN TABLE lp.people (login_name text, full_name text, nickname text, email text, password_sh text, is_enabled boolean,
	max_chats integer, profile_ids bigint[], member_of bigint) SERVER acme OPTIONS (resource 'users');
CREATE FUNCTION lp.staff(prefix text, first integer, last integer) RETURNS TABLE (login_name text, full_name text, nickname text,
	email text, password_sh text, is_enabled boolean, max_chats integer, profile_ids bigint[], member_of bigint)
LANGUAGE sql IMMUTABLE AS $$
	SELECT prefix || i || '@example.com', 'Full ' || prefix || i, prefix || i, prefix || i || '@example.com', 'Start-1234', true, 3,
		ARRAY[1002::bigint], 2001::bigint FROM generate_series(first, last) i $$;
\endif

\if :{?with_sync}
TRUNCATE _lp_sync, _lp_sync_plan, _lp_sync_item, _lp_sync_watch RESTART IDENTITY;
CREATE SCHEMA hr;
CREATE TABLE hr.staff (key text, login text, email text, name text, nick text, chats numeric, enabled boolean, profile_ids bigint[],
	team bigint, skill_ids bigint[], description text);
CREATE VIEW hr.people AS
	SELECT key, login AS login_name, email, name AS full_name, key AS employee_id, nick AS nickname, enabled AS is_enabled, chats AS max_chats,
		profile_ids, team AS member_of, skill_ids, description, 'Start-' || md5(key) AS password_sh FROM hr.staff;
CREATE TABLE hr.acct (id bigint, login_name text, email text, nickname text, is_enabled boolean, max_chats numeric, profile_ids bigint[],
	member_of bigint, skill_ids bigint[], description text, deleted boolean);

-- A person of the source, and a user who is as the source says; "more" overrides, null takes away.
CREATE FUNCTION hr.join(who text, more jsonb DEFAULT '{}') RETURNS void LANGUAGE sql AS $$
	INSERT INTO hr.staff SELECT * FROM jsonb_populate_record(NULL::hr.staff, jsonb_build_object('key', who, 'login', who || '@x.example',
		'email', who || '@x.example', 'name', 'Full ' || who, 'nick', who, 'chats', 3, 'enabled', true, 'profile_ids', '[1002]'::jsonb, 'team', 2001)
		|| more) $$;
CREATE FUNCTION hr.account(user_id bigint, who text, more jsonb DEFAULT '{}') RETURNS void LANGUAGE sql AS $$
	INSERT INTO hr.acct SELECT * FROM jsonb_populate_record(NULL::hr.acct, jsonb_build_object('id', user_id, 'login_name', who || '@x.example',
		'email', who || '@x.example', 'nickname', who, 'is_enabled', true, 'max_chats', 3, 'profile_ids', '[1002]'::jsonb, 'member_of', 2001) || more) $$;
-- The link between the two, as if the sync had last sent this.
CREATE FUNCTION hr.link(user_id bigint, who text, state text DEFAULT 'active', by_us boolean DEFAULT true, base jsonb DEFAULT '{}',
	hidden jsonb DEFAULT NULL, since timestamptz DEFAULT now()) RETURNS void LANGUAGE sql AS $$
	INSERT INTO _lp_sync_link (sync, source_key, user_id, login_name, state, by_us, base, hidden, since)
	SELECT id, who, user_id, who || '@x.example', link.state, by_us, base,
		coalesce(hidden, jsonb_build_object('fullName', 'Full ' || who, 'employeeId', who)), since FROM _lp_sync WHERE name = 'staff' $$;
CREATE FUNCTION hr.forget() RETURNS void LANGUAGE sql AS $$
	TRUNCATE hr.staff, hr.acct, _lp_sync_link, _lp_sync_plan, _lp_sync_item, _lp_sync_watch, _lp_sync_mark; DELETE FROM lp_payloads; DELETE FROM lp_requests;
	UPDATE _lp_sync SET base_rows = NULL, base_listed = NULL, source_rows = NULL, listed = NULL $$;
\endif
\set ECHO all

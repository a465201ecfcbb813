\set ECHO none
-- tables_start.sql: what the tests of written foreign tables begin with, after start.sql; itself not a test. The table
-- lp.users of the stand-in account, and questions to that. tables_finish.sql takes it away again.
SET lpsim.url = :'url';
CREATE SCHEMA lp;
IMPORT FOREIGN SCHEMA liveperson LIMIT TO (users, skills) FROM SERVER acme INTO lp;

-- Ask the stand-in account something, or tell it something: a body. See lpsim --help.
CREATE FUNCTION lp.sim(what text, body text DEFAULT NULL, method text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	CREATE TEMP TABLE answers (line text);
	EXECUTE format('COPY answers FROM PROGRAM %L (FORMAT csv, QUOTE E''\x01'', DELIMITER E''\x02'')',
		format('curl -sSf %s %s "%s/_sim/%s"; echo', '-X ' || method, '-d ''' || body || '''', current_setting('lpsim.url'), what));
	SELECT string_agg(line, '') INTO answer FROM answers;
	DROP TABLE answers;
	RETURN answer;
END $$;
CREATE PROCEDURE lp.config(what text) LANGUAGE plpgsql AS $$ BEGIN PERFORM lp.sim('config', what); END $$;
CREATE PROCEDURE lp.fault(what text) LANGUAGE plpgsql AS $$ BEGIN PERFORM lp.sim('faults', what); END $$;

-- What was asked for since the last time; the same many times in a row is one line.
CREATE FUNCTION lp.requests() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	log jsonb := lp.sim('log');
BEGIN
	PERFORM lp.sim('log', method => 'DELETE');
	RETURN QUERY
	SELECT line || CASE WHEN count(*) > 1 THEN ' x' || count(*) ELSE '' END FROM
		(SELECT n, line, n - row_number() OVER (PARTITION BY line ORDER BY n) AS run FROM
			(SELECT n, concat_ws(' ', r->>'method', regexp_replace(substring(r->>'path' from 'le-users/(.*)'), '\d+', '{id}'),
					CASE WHEN r->>'method' IN ('POST', 'PUT') THEN jsonb_array_length(r->'logins') WHEN r->>'method' = 'DELETE' THEN jsonb_array_length(r->'ids') END,
					'-> ' || (r->>'status'), '(' || (r->>'fault') || ')')
				FROM jsonb_array_elements(log) WITH ORDINALITY e (r, n)) a (n, line)) b
		GROUP BY line, run ORDER BY min(n);
END $$;

-- All its users, with everything, deleted and hidden too.
CREATE VIEW lp.account AS
	SELECT (u->>'id')::bigint AS id, u->>'loginName' AS login, (u->>'deleted')::boolean AS deleted, u
	FROM jsonb_array_elements(lp.sim('users')::jsonb) u;

-- Somebody else changes a user.
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
\set ECHO all

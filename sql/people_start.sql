\set ECHO none
-- people_start.sql: what the tests of written foreign tables have besides, after tables_start.sql; itself not a test. The whole
-- account at a glance, somebody else who changes it, and people to be hired. tables_finish.sql takes it away again.

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

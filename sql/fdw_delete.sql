-- fdw_delete: users who are deleted
\set with_tables on
\set with_people on
\i sql/include/start.sql
-- one connection, so that users are read in the order of their rows
ALTER SERVER acme OPTIONS (ADD max_connections '1');
ALTER SERVER acme OPTIONS (ADD batch_size '10');
INSERT INTO lp.people SELECT * FROM lp.staff('ann', 1, 45);
SELECT lp.requests();
DELETE FROM lp_requests;
-- batches; logins and ids are on record
DELETE FROM lp.users WHERE login_name ~ '^ann(1|2)\d@';
SELECT lp.requests();
SELECT operation, path, state, status, count(*), count(login_name), count(user_id), count(DISTINCT batch) FROM lp_results GROUP BY 1, 2, 3, 4;
SELECT count(*) FILTER (WHERE deleted) AS deleted, count(*) FILTER (WHERE NOT deleted) AS there FROM lp.account;
DELETE FROM lp.users WHERE id = ANY (ARRAY[4000000001, 4000000002]);
SELECT lp.requests();
DELETE FROM lp.users WHERE login_name = 'nobody';
DELETE FROM lp.users WHERE id = 1;
SELECT lp.requests();
-- RETURNING: a request for each, and the row as it was
DELETE FROM lp.users WHERE login_name ~ '^ann[34]@' RETURNING login_name, full_name, is_enabled, profile_ids, member_of, entity->'nickname' AS nickname,
	users.* IS NULL AS empty, tableoid::regclass;
SELECT lp.requests();
DELETE FROM lp.users u USING (VALUES ('ann5@example.com', 'a'), ('ann5@example.com', 'b'), ('ann6@example.com', 'c')) v (login, note)
	WHERE u.login_name = v.login RETURNING u.login_name, v.note IN ('a', 'b', 'c') AS note, u.deleted;
SELECT lp.requests();
-- a join that brings a row twice
DELETE FROM lp.users u USING (VALUES (1), (2)) v WHERE u.login_name ~ '^ann7@';
SELECT lp.requests();
-- names in the table that are no text; no login in it; none at all
CREATE FOREIGN TABLE lp.mine (login varchar(50) OPTIONS (attribute 'loginName'), id bigint) SERVER acme OPTIONS (resource 'users');
CREATE FOREIGN TABLE lp.bare (id bigint) SERVER acme OPTIONS (resource 'users');
DELETE FROM lp_requests;
DELETE FROM lp.mine WHERE login ~ '^ann8@';
DELETE FROM lp.bare WHERE id = 4000000009 RETURNING *;
SELECT login_name, user_id, state FROM lp_requests ORDER BY id;
SELECT lp.requests();

-- Another client has deleted some meanwhile: that is no error, and the others are deleted.
CREATE FUNCTION lp.elsewhere(id bigint) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM lp_delete_users('12345678', ARRAY[id]); RETURN true; END $$;
DELETE FROM lp_requests;
DELETE FROM lp.users WHERE login_name ~ '^ann3[0-4]@' AND (login_name !~ '^ann3[13]@' OR lp.elsewhere(id));
SELECT lp.requests();
SELECT path, login_name, state, status, error FROM lp_results ORDER BY id;
DELETE FROM lp.users WHERE login_name ~ '^ann3[56]@' AND (login_name !~ '^ann35@' OR lp.elsewhere(id)) RETURNING login_name;
SELECT lp.requests();
-- An account that carries out a part of what it refuses: a rollback says whom that concerns.
CALL lp.config('{"bulk": "partial"}');
BEGIN;
DELETE FROM lp.users WHERE login_name ~ '^ann3[7-9]@' AND (login_name !~ '^ann38@' OR lp.elsewhere(id));
ROLLBACK;
SELECT lp.requests();
CALL lp.config('{"bulk": "all_or_nothing"}');
-- Changed after the statement has read it, say enabled: not deleted, nor are those that are sent with it. Another user does not matter.
SELECT * FROM attempt($$DELETE FROM lp.users WHERE login_name ~ '^ann4[01]@' AND lp.poke('ann41@example.com', '{"isEnabled": false}') IS NOT NULL$$);
SELECT lp.requests();
INSERT INTO lp.people SELECT * FROM lp.staff('eve', 1, 30);
SELECT lp.sim('log', method => 'DELETE');
DELETE FROM lp.users WHERE login_name ~ '^eve1@' AND lp.poke('ann41@example.com', '{"isEnabled": true}') IS NOT NULL;
CALL lp.fault('[{"method":"DELETE","action":"status","status":412,"times":2}]');
DELETE FROM lp.users WHERE login_name ~ '^eve2@';
SELECT lp.requests();
-- more than 24 at a time are read by one listing
ALTER SERVER acme OPTIONS (SET batch_size '30');
DELETE FROM lp.users WHERE login_name ~ '^eve';
SELECT lp.requests();
-- A 404 that is no answer of the account's: the user is there.
CALL lp.fault('{"method":"DELETE","action":"status","status":404}');
SELECT * FROM attempt($$DELETE FROM lp.users WHERE login_name ~ '^ann40@'$$);
SELECT lp.requests();
-- Refused, and failures: which one, how many are done
ALTER SERVER acme OPTIONS (SET batch_size '2');
CALL lp.fault('[{"method":"DELETE","action":"status","status":403,"skip":1}]');
SELECT * FROM attempt($$DELETE FROM lp.users WHERE login_name ~ '^ann4[0-3]@'$$);
CALL lp.fault('[{"method":"DELETE","action":"reset","applied":true}]');
SELECT * FROM attempt($$DELETE FROM lp.users WHERE login_name ~ '^ann4[23]@'$$);
CALL lp.fault('[{"method":"DELETE","action":"status","status":503}]');
SELECT * FROM attempt($$DELETE FROM lp.users WHERE login_name ~ '^ann4[45]@'$$);
SELECT lp.requests();
SELECT login FROM lp.account WHERE NOT deleted ORDER BY id;
DELETE FROM lp.users;
SELECT count(*) FROM lp.account WHERE NOT deleted;
-- the deleted are shown; there is nothing to be done
DELETE FROM lp.users WHERE deleted AND login_name ~ '^ann4\d@';
SELECT lp.requests();
SELECT count(*) FROM lp.account WHERE NOT deleted;
\i sql/include/finish.sql

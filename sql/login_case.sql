-- login_case: upper and lower case of a login are one user
\set with_tables on
\set with_people on
\i sql/include/start.sql
-- the database's locale decides what is upper and lower case, ASCII is always known
SELECT lp.sim('users', jsonb_agg(person('x', jsonb_build_object('loginName', login)))::text)
	FROM unnest('{ann@example.com,BOB@example.com,Straße@example.com,with space,"quo\"te",""}'::text[]) login;
INSERT INTO lp.people SELECT login, 'x', 'x', 'x@example.com', 'Start-1234', true, 3, '{1002}', 2001
	FROM unnest('{ANN@EXAMPLE.COM,bob@example.com,Bob@Example.com,straße@example.com,WITH SPACE,"QUO\"TE",cid@example.com,CID@example.com,"ann@example.com ",an@example.com}'::text[]) login
ON CONFLICT DO NOTHING;
SELECT lp.requests();
SELECT '"' || login || '"' AS login, count(*) FROM lp.account GROUP BY 1 ORDER BY min(id);
-- many: neither collisions nor growth change that
INSERT INTO lp.people SELECT * FROM lp.staff('many', 1, 2000) ON CONFLICT DO NOTHING;
INSERT INTO lp.people SELECT upper(login_name), full_name, nickname, email, password_sh, is_enabled, max_chats, profile_ids, member_of FROM lp.staff('many', 1, 2001)
	ON CONFLICT DO NOTHING RETURNING login_name;
SELECT line, count(*) FROM lp.requests() line GROUP BY 1 ORDER BY 1;
SELECT count(*), count(DISTINCT lower(login)) FROM lp.account;
-- users without a login, with one that is no string, with one that the database cannot hold
CALL lp.fault('{"method":"GET","action":"body","body":"[{\"id\": 1}, {\"id\": 2, \"loginName\": null}, {\"id\": 3, \"loginName\": 7}, {\"id\": 4, \"loginName\": {\"a\": 1}}, {\"id\": 5, \"loginName\": \"dan@example.com\"}]"}');
INSERT INTO lp.people SELECT login, 'x', 'x', 'x@example.com', 'Start-1234', true, 3, '{1002}', 2001 FROM unnest('{7,dan@example.com}'::text[]) login ON CONFLICT DO NOTHING RETURNING login_name;
CALL lp.fault('[{"method":"GET","action":"nul"},{"method":"GET","action":"bad_utf8"},{"method":"GET","action":"not_json","status":200},{"method":"GET","action":"deep"}]');
SELECT state, message FROM generate_series(1, 4), LATERAL attempt($$INSERT INTO lp.people SELECT * FROM lp.staff('eve', 1, 1) ON CONFLICT DO NOTHING$$);
SELECT count(*) FROM lp.account WHERE login ~ '^eve';
\i sql/include/finish.sql

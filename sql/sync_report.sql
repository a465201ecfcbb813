-- sync_report: what the report says of syncs, to whom
\set with_sync on
\i sql/include/start.sql
SET TimeZone = 'UTC';
CREATE FUNCTION said(page text, pattern text) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT regexp_replace(array_to_string(m, ' | '), 'plan \d+', 'plan N', 'g') FROM regexp_matches(page, pattern, 'g') m $$;
CREATE FUNCTION section(account text DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(regexp_replace(substring(lp_report(account) FROM '<section><h2>Kept in sync.*?</section>'), ' class="(n|wide)"', '', 'g'), 'nothing') $$;
CREATE FUNCTION syncs() RETURNS SETOF text LANGUAGE sql AS $$
	SELECT said(section(), '<tr><th scope="row">([^<]*)<small>([^<]*)</small></th><td>([^<]*)</td><td>([^<]*)</td><td>([^<]*)</td><td>([^<]*)</td><td>([^<]*)</td>') $$;
CREATE FUNCTION verdict() RETURNS SETOF text LANGUAGE sql AS $$ SELECT said(section(), '<p>([^<]*)') $$;
-- no sync, no section
SELECT section();
-- one that has not run yet, and its first run
SELECT count(*) FROM lp_sync_define('staff', '12345678', 'hr.people', 'key', limits => '{"create": 5, "adopt": 0}');
SELECT syncs();
SELECT hr.join('p' || n) FROM generate_series(1, 5) n;
CALL lp_sync('staff');
CALL lp_deliver();
CALL lp_sync('staff');
SELECT syncs();
SELECT verdict();
SELECT said(section(), '<p class="none">([^<]*)');
-- over the limit, to be adopted, and blocked: also by a plan of some keys
SELECT status FROM lp_create_users('12345678', person('known'));
SELECT hr.join('late' || n) FROM generate_series(1, 2) n;
SELECT hr.join('known', '{"login": "known@example.com", "email": "known@example.com"}');
SELECT hr.join('twin' || n, '{"login": "<b>&twin@x.example"}') FROM generate_series(1, 2) n;
UPDATE hr.staff SET chats = 4 WHERE key = 'p1';
CALL lp_sync('staff', false);
SELECT action, users, reason FROM lp_sync_plans WHERE plan = (SELECT max(plan) FROM lp_sync_plans) AND action = 'blocked';
SELECT syncs();
SELECT lp_sync_plan('staff', '{late1,late2,known,p1}') AS plan \gset
SELECT count(*) FROM lp_sync_apply(:plan);
SELECT syncs();
SELECT verdict();
SELECT said(section(), '<tr><td>([^<]*)</td><td>([^<]*)</td><th scope="row">([^<]*)<small>([^<]*)</small></th><td>');
SELECT said(section(), '<tr><td>([^<]*)</td><td>([^<]*)</td><th scope="row">([^<]*)<small>([^<]*)</small></th></tr>');
-- confirmed, the plan of all keys is there still; a newer run looks anew
SELECT action, queued, held FROM lp_sync_apply(:plan, '{"adopt": 1, "create": 2}');
SELECT verdict();
DELETE FROM hr.staff WHERE key LIKE 'twin%';
CALL lp_deliver();
CALL lp_sync('staff');
SELECT syncs();
SELECT verdict();
-- the source came back short, three times
DELETE FROM hr.staff WHERE key LIKE 'p%';
CALL lp_sync('staff');
SELECT said(section(), '<tr><td>([^<]*)</td><td>([^<]*)</td><th scope="row">([^<]*)<small>([^<]*)</small></th><td>');
CALL lp_sync('staff');
CALL lp_sync('staff');
SELECT syncs();
SELECT verdict();
-- a copy of the database
UPDATE _lp_sync SET state = 'active', origin = '1/1/1';
SELECT verdict();
-- one page, well-formed; of one account; to others what they may see
SELECT xml_is_well_formed_document(replace(lp_report(), '<!DOCTYPE html>', '')) AS well_formed;
SELECT section('12345678') = section() AS same;
CREATE ROLE regress_stranger;
CREATE ROLE regress_reader;
GRANT USAGE ON SCHEMA hr TO regress_stranger;
SET ROLE regress_stranger;
SELECT section();
RESET ROLE;
ALTER SERVER acme OWNER TO regress_reader;
SET ROLE regress_reader;
SELECT said(section(), '<tr><th scope="row">([^<]*)<small>');
RESET ROLE;
ALTER SERVER acme OWNER TO CURRENT_USER;
DROP OWNED BY regress_stranger;
DROP ROLE regress_stranger, regress_reader;
DROP FUNCTION said(text, text), section(text), syncs(), verdict();
\i sql/include/finish.sql

-- report: the HTML page about what was asked for
\set with_queue on
\i sql/include/start.sql
SET TimeZone = 'UTC';
CREATE FUNCTION said(page text, pattern text) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT array_to_string(m, ' ') FROM regexp_matches(page, pattern, 'g') m $$;
-- nothing was asked for
SELECT said(lp_report(), '<p class="none">([^<]*)');
SELECT said(lp_report(), '<dt>([^<]*)</dt><dd>([^<]*)');
-- what the page says is what lp_results says
INSERT INTO lp_requests (account, operation, path, server, requested_by, send_as, login_name, state, hold, cause, next_attempt_at, attempts, error, reason, enqueued_at, finished_at)
SELECT CASE WHEN i > 30 THEN '87654321' ELSE '12345678' END, 'create', 'queue', 'acme', CURRENT_USER, CURRENT_USER, 'user' || i || '@example.com',
	CASE WHEN i % 10 = 0 THEN 'failed' WHEN i = 33 THEN 'held' WHEN i = 35 THEN 'pending' ELSE 'created' END, CASE WHEN i = 33 THEN 'threshold' END, CASE WHEN i % 10 = 0 THEN 'refused' END, CASE WHEN i = 35 THEN now() END, 1,
	CASE WHEN i % 20 = 0 THEN 'loginName exists' WHEN i % 10 = 0 THEN '<script>alert("x")</script> & ''more''' END,
	CASE WHEN i = 33 THEN 'wait' END, now() - i * interval '1 day', CASE WHEN i NOT IN (33, 35) THEN now() - i * interval '1 day' + i * interval '1 second' END
FROM generate_series(0, 40) i;
INSERT INTO lp_requests (account, operation, path, server, requested_by, send_as, login_name, state, enqueued_at)
VALUES ('12345678', 'delete', 'direct', 'acme', CURRENT_USER, CURRENT_USER, 'gone@example.com', 'done', now());
SELECT said(lp_report(since => '60 days'), '<dt>([^<]*)</dt><dd>([^<]*)');
SELECT said(lp_report('12345678'), '<dt>([^<]*)</dt><dd>([^<]*)');
SELECT said(lp_report('87654321', '60 days'), '<tr><td>([^<]*)</td><th scope="row">([^<]*)<small>([^<]*)</small></th><td>[^<]*</td></tr>');
SELECT said(lp_report(since => '60 days'), '<td>(\d+)</td><td>(held|pending)</td><th scope="row">([^<]*)<small>([^<]*)');
SELECT count(*) FROM said(lp_report(since => '9 days'), '<rect class="created"');
SELECT said(lp_report(since => '0 days'), '<title>[^<]*: ([^<]*)</title>');
-- well-formed, self-contained, and nobody's text is markup
SELECT xml_is_well_formed_document(replace(lp_report(since => '60 days'), '<!DOCTYPE html>', '')) AS well_formed,
	lp_report(since => '60 days') !~* '<script|https?:|url\(|@import' AS self_contained;
SELECT said(lp_report(since => '60 days'), '<th scope="row">(&lt;script[^<]*)<small>');
-- a reason that names the login is one reason; long lists of logins are cut
UPDATE lp_requests SET error = 'loginName exists: ' || login_name || ' (id ' || id || ')' WHERE error = 'loginName exists';
SELECT said(lp_report(since => '60 days'), '<th scope="row">(loginName[^<]*)<small>([^<]*)');
-- who has no login is known by the row
UPDATE lp_requests SET login_name = NULL, source_table = CASE WHEN login_name ~ '20' THEN 'hr.people' END,
	source_key = CASE WHEN login_name ~ '20' THEN '{"id": 7}'::jsonb END, error = 'none' WHERE login_name ~ 'user(20|40)@';
SELECT said(lp_report(since => '60 days'), '<th scope="row">(none[^<]*)<small>([^<]*)');
UPDATE lp_requests SET state = 'failed', hold = NULL, cause = 'refused', error = 'all' WHERE operation = 'create';
SELECT said(lp_report(since => '60 days'), '<tr><td>(\d+)</td><th scope="row">(all) <small>[^<]*( and \d+ more)');
-- the scale of the picture is a round number above the highest bar, and half of it
SELECT n, said(_lp_chart('{2026-11-01}', ARRAY[n], '{0}', '{0}'), 'text-anchor="end">([1-9]\d*)</text>') FROM unnest('{0,1,3,9,11,376,1000,1001}'::bigint[]) n;
-- bad periods
SELECT lp_report(since => '-1 day'); -- ERROR
SELECT lp_report(since => '500 days'); -- ERROR
SELECT lp_report(since => '178000000 years'); -- ERROR
SELECT lp_report(since => NULL); -- ERROR
SELECT lp_report(since => '7'); -- ERROR
-- an account that nothing is known of, or nothing to the caller: the same words; and no context of functions of ours
\set SHOW_CONTEXT always
SELECT lp_report('87654322'); -- ERROR
SELECT lp_report('<b>x</b>'); -- ERROR
\set SHOW_CONTEXT never
-- others see their own
CREATE ROLE regress_stranger;
SET ROLE regress_stranger;
SELECT lp_report('12345678'); -- ERROR
SELECT said(lp_report(since => '60 days'), '<dt>(created|failed)</dt><dd>([^<]*)');
RESET ROLE;
DROP ROLE regress_stranger;
-- durations
SELECT s, _lp_duration(s) FROM unnest('{0,0.2,1,90,119.96,120,7199,7200,172800,1e7,NULL}'::float8[]) s;
DROP FUNCTION said;
\i sql/include/finish.sql

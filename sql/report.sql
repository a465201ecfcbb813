-- report: the HTML page about what was asked for
\set with_queue on
\i sql/include/start.sql
SET TimeZone = 'UTC';
CREATE FUNCTION said(page text, pattern text) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT array_to_string(m, ' ') FROM regexp_matches(page, pattern, 'g') m $$;
CREATE FUNCTION verdict(page text) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT said(page, '<p class="verdict (\w*)"><span aria-hidden="true">[^<]*</span> ([^<]*)') $$;
CREATE FUNCTION tiles(page text) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT said(page, '<dt>([^<]*)</dt><dd class="\w*">([^<]*)<small>([^<]*)') $$;
-- what to do: how many people, what is wrong, details and people, who does what
CREATE FUNCTION todo(page text) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT regexp_replace(regexp_replace(t, '</td><td class="wide">.*', ''), '(<[^>]*>)+', '|', 'g') FROM regexp_split_to_table(page, '<tr>') t WHERE t ~ '<td class="do">' $$;
CREATE FUNCTION request(login text, state text, cause text DEFAULT NULL, error text DEFAULT NULL, source integer DEFAULT NULL, hold text DEFAULT NULL,
	status integer DEFAULT NULL, mended boolean DEFAULT false, account text DEFAULT '12345678', operation text DEFAULT 'create', action text DEFAULT NULL,
	since interval DEFAULT '0 s') RETURNS integer LANGUAGE sql AS $$
	INSERT INTO lp_requests (account, operation, action, path, server, requested_by, send_as, login_name, state, hold, cause, next_attempt_at, status, mended, error, reason,
		source_table, source_key, enqueued_at, finished_at)
	SELECT account, operation, action, 'queue', 'acme', CURRENT_USER, CURRENT_USER, login, state, hold, cause, CASE WHEN state = 'pending' THEN now() END, status, mended,
		CASE WHEN state <> 'held' THEN error END, CASE WHEN state = 'held' THEN error END, CASE WHEN source IS NOT NULL THEN 'hr.staff' END,
		CASE WHEN source IS NOT NULL THEN jsonb_build_object('id', source) END, at - since, CASE WHEN state IN ('created', 'done', 'failed') THEN at - since + interval '2 s' END
	FROM (SELECT now() - interval '1 hour' AS at) x RETURNING 1 $$;
-- nothing was asked for
SELECT verdict(lp_report());
SELECT said(lp_report(), '<p class="none">([^<]*)');
SELECT said(lp_report(), '<(?:h2|h3|dt|table)>([^<]*)');
-- all is well
SELECT request('a@example.com', 'created', source => 1);
SELECT verdict(lp_report());
SELECT said(lp_report(), '<h\d>([^<]*)');
-- a person is counted once; a failure that was mended is not one
SELECT request('b@example.com', 'failed', 'refused', '"email" is required and must not be null', 2);
SELECT request('b@example.com', 'failed', 'refused', '"email" is required and must not be null', 2);
SELECT request('c@example.com', 'failed', 'refused', '"email" is required and must not be null', 3, mended => true);
SELECT request('c@example.com', 'created', source => 3);
SELECT verdict(lp_report());
SELECT tiles(lp_report());
SELECT todo(lp_report());
SELECT forget();
-- each kind of failure and of hold: in words, what to do, and who does it
SELECT sum(request('d' || i || '@example.com', 'failed', 'refused', '"loginName" is already in the queue', i)) FROM generate_series(1, 7) i;
SELECT request(NULL, 'failed', 'refused', '"email" is required and must not be null; "fullName" is required and must not be empty', 8);
SELECT request('e1@example.com', 'failed', 'refused', 'login exists: user 4000000001 (disabled)', status => 409) + request('e2@example.com', 'failed', 'refused', 'login exists: user 4000000002 (disabled)', status => 409) AS requests;
SELECT request('f@example.com', 'failed', 'refused', 'maxChats has the wrong type', status => 400);
SELECT request('g@example.com', 'failed', 'gave_up', 'given up after 6 attempts: service unavailable', status => 503);
SELECT request('h@example.com', 'failed', 'unknown', 'outcome unknown');
SELECT request('i@example.com', 'held', error => 'more than 1 users', hold => 'threshold', source => 9);
SELECT request('j@example.com', 'held', error => 'refused', hold => 'credentials');
SELECT request('k@example.com', 'held', error => 'no server', hold => 'setup');
SELECT request('l@example.com', 'held', error => 'elsewhere', hold => 'elsewhere');
SELECT request('m@example.com', 'pending', error => 'could not connect');
SELECT request('n@example.com', 'pending', since => '-59 minutes');
SELECT verdict(lp_report());
SELECT tiles(lp_report());
SELECT todo(lp_report());
-- a paused account is said, also when it is the only one and nothing is wrong besides
ALTER SERVER acme OPTIONS (ADD delivery 'paused');
SELECT verdict(lp_report());
SELECT t FROM todo(lp_report()) t WHERE t ~ 'paused';
SELECT forget();
SELECT verdict(lp_report('12345678'));
ALTER SERVER acme OPTIONS (DROP delivery);
-- accounts and tables, and what happened to users who were there
SELECT sum(request('o' || i || '@example.com', 'created', source => i, account => CASE WHEN i > 1200 THEN '87654321' ELSE '12345678' END)) FROM generate_series(1, 1234) i;
SELECT request('p@example.com', 'created', account => '87654321');
SELECT sum(request('q' || i || '@example.com', 'created', since => '40 days')) FROM generate_series(1, 3) i;
SELECT request('r1@example.com', 'done', operation => 'update', action => 'disable') + request('r2@example.com', 'done', operation => 'delete') +
	request('r3@example.com', 'failed', 'refused', 'no such user', operation => 'update', action => 'disable') + request('r3@example.com', 'superseded', operation => 'update', action => 'disable') AS requests;
SELECT tiles(lp_report());
SELECT said(lp_report(), '<tr><th scope="row">([^<]*)<small>([^<]*)</small></th><td class="n">([^<]*)</td>');
SELECT said(lp_report(), '<tr><th scope="row" class="day">(\w+)</th><td class="n">([^<]*)</td><td class="n">([^<]*)</td><td class="n">([^<]*)</td></tr>');
SELECT said(lp_report(), '<td>([a-z]+, [a-z]+)</td><th scope="row">([^<]*)<small>([^<]*)');
SELECT tiles(lp_report('87654321'));
SELECT said(lp_report(), '<h\d>([^<]*)');
SELECT count(*) FROM said(lp_report(since => '9 days'), '<g>');
SELECT forget();
SELECT request('s@example.com', 'created', since => '-1 hour');
SELECT said(lp_report(since => '0 days'), '<title>[^<]*: ([^<]*)</title>');
SELECT forget();
-- well-formed, self-contained, and no text is markup
SELECT request('<b>s</b>@example.com', 'failed', 'refused', '<script>alert("x")</script> & ''more''', 1);
SELECT request('<b>s</b>@example.com', 'failed', 'refused', '<script>alert("x")</script> & ''more''', operation => 'update', action => 'disable');
SELECT xml_is_well_formed_document(replace(lp_report(), '<!DOCTYPE html>', '')) AS well_formed, lp_report() !~* '<script|https?:|url\(|@import|<b>' AS self_contained;
SELECT count(*) FROM said(lp_report(), '&lt;script&gt;alert\(&quot;x&quot;\)&lt;/script&gt; &amp; &#39;more&#39;');
-- the scale of the picture is a round number above the highest bar, and half of it; one user is seen beside many
SELECT n, said(_lp_chart('x', 'created', '{2026-11-01}', ARRAY[n], '{0}', 160), 'text-anchor="end">([1-9][\d,]*)</text>') FROM unnest('{0,1,3,9,11,376,1000,1001}'::bigint[]) n;
SELECT said(_lp_chart('x', 'failed', '{2026-11-01,2026-11-02}', '{1000,1}', '{0,1}', 80), '<(rect class="\w+" [^>]*)/>');
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
SELECT verdict(lp_report(since => '60 days'));
RESET ROLE;
DROP ROLE regress_stranger;
-- durations
SELECT s, _lp_duration(s) FROM unnest('{0,0.2,1,90,119.96,120,7199,7200,172800,1e7,NULL}'::float8[]) s;
DROP FUNCTION request, todo, tiles, verdict, said;
\i sql/include/finish.sql

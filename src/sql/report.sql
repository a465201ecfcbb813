/* report.sql: the report. */

/* Text for HTML, also inside of an attribute's quotes. */
CREATE FUNCTION @extschema@._lp_html(plain text) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	BEGIN ATOMIC
		SELECT replace(replace(replace(replace(replace(coalesce(plain, ''),
			'&', '&amp;'), '<', '&lt;'), '>', '&gt;'), '"', '&quot;'), '''', '&#39;');
	END;
COMMENT ON FUNCTION @extschema@._lp_html(text) IS 'internal: text escaped for HTML';

/* So many seconds as a person says it: 340 ms, 12.5 s, 4 min, 3.2 h, 2 d. */
CREATE FUNCTION @extschema@._lp_duration(seconds double precision) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	BEGIN ATOMIC
		SELECT CASE WHEN seconds IS NULL THEN '&#8211;'
					WHEN seconds < 1 THEN round(seconds * 1000) || ' ms'
					WHEN seconds < 120 THEN round(seconds::numeric, 1) || ' s'
					WHEN seconds < 7200 THEN round(seconds / 60) || ' min'
					WHEN seconds < 172800 THEN round((seconds / 3600)::numeric, 1) || ' h'
					ELSE round(seconds / 86400) || ' d' END;
	END;
COMMENT ON FUNCTION @extschema@._lp_duration(double precision) IS 'internal: seconds as a person says them';

/*
 * A bar chart of days as SVG: what was created, what failed, what is open. Three arrays of the same length, oldest first;
 * the days are for the labels.
 */
CREATE FUNCTION @extschema@._lp_chart(days date[], created bigint[], failed bigint[], open bigint[]) RETURNS text
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	width constant numeric := 720;
	height constant numeric := 180;
	n integer := cardinality(days);
	step numeric := width / greatest(n, 1);
	most numeric := (SELECT max(c + f + o) FROM unnest(created, failed, open) AS u(c, f, o));
	scale numeric := 10 ^ floor(log(greatest(most, 1)));
	top numeric;
	bars text;
	labels text;
BEGIN
	/* a round number, and even, so that half of it is a number of users, too */
	SELECT min(t) INTO top FROM unnest(ARRAY[1, 2, 4, 6, 8, 10]) x, LATERAL (SELECT round(x * scale) AS t) r
	WHERE t >= greatest(most, 2);
	SELECT string_agg(
		format('<g><title>%s: %s created, %s failed, %s open</title>', d, c, f, o)
		|| format('<rect class="created" x="%s" y="%s" width="%s" height="%s"/>', x, y_created, w, h_created)
		|| format('<rect class="failed" x="%s" y="%s" width="%s" height="%s"/>', x, y_created - h_failed, w, h_failed)
		|| format('<rect class="open" x="%s" y="%s" width="%s" height="%s"/></g>', x, y_created - h_failed - h_open, w, h_open),
		'' ORDER BY i)
	INTO bars
	FROM (SELECT i, d, c, f, o, round((i - 1) * step + step * 0.1, 2) AS x, round(step * 0.8, 2) AS w,
				 round(c * height / top, 2) AS h_created, round(f * height / top, 2) AS h_failed,
				 round(o * height / top, 2) AS h_open, 10 + height - round(c * height / top, 2) AS y_created
		  FROM unnest(days, created, failed, open) WITH ORDINALITY AS u(d, c, f, o, i)) b;
	SELECT string_agg(format('<text x="%s" y="%s" text-anchor="%s">%s</text>', round((i - 0.5) * step, 1), height + 28,
							 CASE WHEN i = 1 AND n > 2 THEN 'start' WHEN i = n AND n > 2 THEN 'end' ELSE 'middle' END,
							 to_char(days[i], 'DD Mon')), '')
	INTO labels
	FROM (SELECT DISTINCT i FROM unnest(ARRAY[1, (n + 1) / 2, n]) i) p;
	RETURN format('<svg role="img" aria-label="Users per day: created, failed and open; the table Day by day has the numbers" viewBox="-40 0 %s %s">', width + 50, height + 36)
		|| (SELECT string_agg(format('<line class="grid" x1="0" x2="%s" y1="%s" y2="%s"/><text x="-6" y="%s" text-anchor="end">%s</text>',
									 width, 10 + height - share * height, 10 + height - share * height,
									 14 + height - share * height, round(top * share)), '')
			FROM unnest(ARRAY[0, 0.5, 1]) share)
		|| coalesce(bars, '') || coalesce(labels, '') || '</svg>';
END;
$$;
COMMENT ON FUNCTION @extschema@._lp_chart(date[], bigint[], bigint[], bigint[]) IS 'internal: users per day as a bar chart in SVG';

/*
 * An HTML table with a caption, from its header cells and rows that are already HTML; a sentence instead if it has no rows.
 * A table that is wider than the screen scrolls by itself, also with the keyboard.
 */
CREATE FUNCTION @extschema@._lp_html_table(caption text, headers text[], rows text, nothing text) RETURNS text
	LANGUAGE sql STABLE
	BEGIN ATOMIC
		SELECT CASE WHEN rows IS NULL THEN '<p class="none">' || nothing || '</p>'
			ELSE '<div class="table" role="region" tabindex="0" aria-label="' || caption || '"><table><caption>' || caption || '</caption><thead><tr>'
				|| (SELECT string_agg('<th scope="col">' || h || '</th>', '' ORDER BY i) FROM unnest(headers) WITH ORDINALITY u(h, i))
				|| '</tr></thead><tbody>' || rows || '</tbody></table></div>' END;
	END;
COMMENT ON FUNCTION @extschema@._lp_html_table(text, text[], text, text) IS 'internal: a table in HTML';

/* The start of the page, with its style. */
CREATE FUNCTION @extschema@._lp_report_head() RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	BEGIN ATOMIC
		SELECT '<!DOCTYPE html>' || E'\n' || '<html lang="en"><head><meta charset="utf-8"/>'
			|| '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
			|| '<title>LivePerson users: report</title><style>' || $css$
:root { color-scheme: light dark; --text: #1c2733; --soft: #5b6b7b; --ground: #ffffff; --line: #d7dee5; --tile: #f3f6f9;
	--created: #1f7a4d; --failed: #b3261e; --open: #965800; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --soft: #9aa8b5; --ground: #12181f; --line: #2c3742; --tile: #1b242d;
	--created: #4cc38a; --failed: #ff8a80; --open: #ffb74d; } }
@media print { :root { --text: #000; --soft: #444; --ground: #fff; --tile: #fff; } tr, svg, .legend { break-inside: avoid; } h2 { break-after: avoid; } }
body { margin: 2rem auto; max-width: 60rem; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--ground); }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; } .about, .none { color: var(--soft); }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); gap: .75rem; margin: 1.5rem 0; }
.tile { background: var(--tile); border: 1px solid var(--line); border-radius: .5rem; padding: .75rem 1rem; }
dt { color: var(--soft); font-size: .875rem; } dd { margin: 0; font-size: 1.5rem; font-variant-numeric: tabular-nums; }
.tile.created dd { color: var(--created); } .tile.failed dd { color: var(--failed); } .tile.open dd { color: var(--open); }
svg { width: 100%; height: auto; overflow: visible; } svg text { fill: var(--soft); font-size: 11px; } .grid { stroke: var(--line); }
rect.created { fill: var(--created); } rect.failed { fill: var(--failed); } rect.open { fill: var(--open); }
.legend span { margin-right: 1em; } .legend span::before { content: ""; display: inline-block; width: .75em; height: .75em; margin-right: .4em; background: currentColor; print-color-adjust: exact; }
.legend .created { color: var(--created); } .legend .failed { color: var(--failed); } .legend .open { color: var(--open); }
table { border-collapse: collapse; width: 100%; } caption { text-align: left; color: var(--soft); padding-bottom: .25rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .75rem .3rem 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
td { font-variant-numeric: tabular-nums; } .table { overflow-x: auto; }
tbody th { font-weight: normal; width: 100%; white-space: normal; overflow-wrap: anywhere; min-width: 8rem; } tbody th.day { width: auto; min-width: 0; white-space: nowrap; }
small { display: block; color: var(--soft); }
@media (max-width: 40rem) { svg text { font-size: 20px; } }
@media print { body { margin: 0; max-width: none; font-size: 10pt; } dl { grid-template-columns: repeat(6, auto); } .table { overflow: visible; } }
$css$ || '</style></head>';
	END;
COMMENT ON FUNCTION @extschema@._lp_report_head() IS 'internal: head of the page of a report';

/*
 * The section about the syncs that the caller may see, of one account, or of all (null); empty if there are none. What is
 * blocked or waits is what the last plan of all keys found, and plans of single keys since. A table has 200 rows.
 */
CREATE FUNCTION @extschema@._lp_report_syncs(account text) RETURNS text
	LANGUAGE sql STABLE
	BEGIN ATOMIC
		WITH s AS MATERIALIZED (
			SELECT y.*, coalesce((SELECT max(p.plan) FROM @extschema@.lp_sync_plans p
								  WHERE p.sync = y.sync AND p.made_at <= y.last_run), 0::bigint) AS since_plan
			FROM @extschema@.lp_syncs y WHERE _lp_report_syncs.account IS NULL OR y.account = _lp_report_syncs.account
		), plan AS MATERIALIZED (
			SELECT p.* FROM @extschema@.lp_sync_plans p JOIN s ON s.sync = p.sync AND p.plan >= s.since_plan
		), open AS (
			/* a newer plan asks for the same users again */
			SELECT DISTINCT ON (sync, action) * FROM plan
			WHERE (over AND state IN ('draft', 'applied') OR state = 'draft' AND reason <> '')
			  AND coalesce(action, '') NOT IN ('blocked', 'wait')
			ORDER BY sync, action, plan DESC
		), stuck AS MATERIALIZED (
			SELECT DISTINCT p.sync, coalesce(c.source_key, c.login_name) AS who,
				   replace(coalesce(c.reason, ''), coalesce(c.login_name, ''), '...') AS kind
			FROM plan p JOIN @extschema@.lp_sync_changes c ON c.plan = p.plan AND c.action = p.action
			WHERE p.action = 'blocked'
		), counted AS (
			SELECT s.*, coalesce((SELECT sum(o.users) FROM open o WHERE o.sync = s.sync AND o.over), 0::numeric) AS to_confirm FROM s
		), part AS (
			SELECT
			(SELECT string_agg(format('<tr><th scope="row">%s <small>%s</small></th><td>%s</td><td>%s</td><td>%s</td><td>%s</td><td>%s</td><td>%s</td></tr>',
									  @extschema@._lp_html(sync), @extschema@._lp_html(concat_ws('; ', source || ', account ' || account, why)),
									  state, to_char(linked, 'FM999,999,999,990'), to_char(differing, 'FM999,999,999,990'),
									  to_char(to_confirm, 'FM999,999,999,990'), to_char(blocked, 'FM999,999,999,990'),
									  coalesce(to_char(last_run, 'YYYY-MM-DD HH24:MI'), '&#8211;')), '' ORDER BY sync) FROM counted) AS syncs,
			(SELECT string_agg(format('<tr><td>%s</td><td>%s</td><th scope="row">%s <small>%s</small></th><td>%s</td></tr>',
									  to_char(users, 'FM999,999,999,990'), coalesce(action, 'all'), @extschema@._lp_html(sync || ', plan ' || plan),
									  @extschema@._lp_html(reason), to_char(made_at, 'YYYY-MM-DD HH24:MI')), '' ORDER BY sync, plan, action)
			 FROM (SELECT * FROM open ORDER BY sync, plan, action LIMIT 200) o) AS waiting,
			(SELECT string_agg(format('<tr><td>%s</td><td>%s</td><th scope="row">%s <small>%s</small></th></tr>', to_char(n, 'FM999,999,999,990'),
									  @extschema@._lp_html(sync), @extschema@._lp_html(kind), who), '' ORDER BY n DESC, sync, kind)
			 FROM (SELECT sync, kind, count(*) AS n, @extschema@._lp_html(array_to_string((array_agg(who ORDER BY who))[1:20], ', '))
						  || CASE WHEN count(*) > 20 THEN format(' and %s more', count(*) - 20) ELSE '' END AS who
				   FROM stuck GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT 200) k) AS blocked,
			(SELECT concat_ws(' ', CASE WHEN count(*) FILTER (WHERE state = 'quarantined') > 0
										THEN format('Quarantined until lp_sync_resume(): %s.', string_agg(sync, ', ' ORDER BY sync) FILTER (WHERE state = 'quarantined')) END,
							  CASE WHEN count(*) FILTER (WHERE state = 'copy') > 0
								   THEN format('Defined in another database, stopped until lp_sync_resume(): %s.', string_agg(sync, ', ' ORDER BY sync) FILTER (WHERE state = 'copy')) END,
							  format('Users waiting for confirmation: %s; blocked: %s.', to_char(sum(to_confirm), 'FM999,999,999,990'),
									 to_char((SELECT count(*) FROM stuck), 'FM999,999,999,990'))) FROM counted) AS verdict
		)
		SELECT CASE WHEN syncs IS NULL THEN '' ELSE '<section><h2>Kept in sync</h2><p>' || @extschema@._lp_html(verdict) || '</p>'
			|| @extschema@._lp_html_table('What the last run of each sync found',
				ARRAY['Sync, and its source', 'State', 'Linked', 'Differing', 'To confirm', 'Blocked', 'Last run'], syncs, '')
			|| @extschema@._lp_html_table('Waiting for confirmation', ARRAY['Users', 'Action', 'Sync, and what to do', 'Planned'], waiting,
				'Nothing waits for confirmation.')
			|| @extschema@._lp_html_table('Blocked, most frequent first', ARRAY['Users', 'Sync', 'Reason, and keys'], blocked, 'Nothing is blocked.')
			|| '</section>' END
		FROM part;
	END;
COMMENT ON FUNCTION @extschema@._lp_report_syncs(text) IS 'internal: the section of a report about syncs';

/*
 * The page: creates, and queued updates and deletes, from a day to a day, of one account, or of all (null). Of one reason it names 20 logins; a table has
 * 200 rows: beyond that, query lp_results.
 */
CREATE FUNCTION @extschema@._lp_report_page(account text, start date, stop date) RETURNS text
	LANGUAGE sql STABLE
	BEGIN ATOMIC
		WITH r AS MATERIALIZED (
			SELECT q.id, coalesce(q.login_name, q.source_table || ' ' || q.source_key::text, '(no login)') AS login,
				   q.state, q.enqueued_at, q.finished_at,
				   /* what differs from user to user is no reason of its own */
				   regexp_replace(replace(coalesce(q.error, q.reason, 'no trouble is on record'), coalesce(q.login_name, ''), '...'),
								  '\(id \d+\)', '(id ...)') AS kind, q.enqueued_at::date AS day,
				   extract(epoch FROM q.finished_at - q.enqueued_at)::double precision AS seconds,
				   q.state IN ('pending', 'sending', 'uncertain', 'held') AS open
			FROM @extschema@.lp_results q
			WHERE q.operation = 'create' AND q.enqueued_at >= _lp_report_page.start::timestamptz
			  AND (_lp_report_page.account IS NULL OR q.account = _lp_report_page.account)
		), c AS MATERIALIZED (
			SELECT q.action, q.state, q.enqueued_at, coalesce(q.login_name, 'user ' || q.user_id) AS login,
				   q.state IN ('pending', 'sending', 'uncertain', 'held') AS open,
				   replace(coalesce(q.error, q.reason, 'no trouble is on record'), coalesce(q.login_name, ''), '...') AS kind
			FROM @extschema@.lp_results q
			WHERE q.operation IN ('update', 'delete') AND q.path = 'queue' AND q.state <> 'superseded'
			  AND q.enqueued_at >= _lp_report_page.start::timestamptz
			  AND (_lp_report_page.account IS NULL OR q.account = _lp_report_page.account)
		), per_day AS (
			SELECT d.day::date AS day, count(r.id) FILTER (WHERE r.state = 'created') AS created,
				   count(r.id) FILTER (WHERE r.state = 'failed') AS failed, count(r.id) FILTER (WHERE r.open) AS open,
				   percentile_cont(0.5) WITHIN GROUP (ORDER BY r.seconds) FILTER (WHERE r.state = 'created') AS median,
				   percentile_cont(0.95) WITHIN GROUP (ORDER BY r.seconds) FILTER (WHERE r.state = 'created') AS p95
			FROM generate_series(_lp_report_page.start::timestamp, _lp_report_page.stop::timestamp, interval '1 day') d(day) LEFT JOIN r ON r.day = d.day::date
			GROUP BY 1
		), per_reason AS (
			SELECT r.stuck, r.kind, CASE WHEN r.stuck THEN r.state END AS state, count(*) AS n, max(r.enqueued_at) AS latest, min(r.enqueued_at) AS since,
				   @extschema@._lp_html(array_to_string((array_agg(r.login ORDER BY r.id DESC))[1:20], ', '))
				   || CASE WHEN count(*) > 20 THEN format(' and %s more', count(*) - 20) ELSE '' END AS logins
			FROM (SELECT *, state <> 'failed' AS stuck FROM r
				  WHERE state IN ('failed', 'held') OR open AND enqueued_at < clock_timestamp() - interval '10 minutes') r
			GROUP BY 1, 2, 3
		), part AS (
			SELECT
			(SELECT string_agg(format('<tr><th scope="row" class="day">%s</th><td>%s</td><td>%s</td><td>%s</td></tr>',
									  @extschema@._lp_html(action), done, failed, open), '' ORDER BY action)
			 FROM (SELECT action, count(*) FILTER (WHERE state = 'done') AS done, count(*) FILTER (WHERE state = 'failed') AS failed,
						  count(*) FILTER (WHERE open) AS open FROM c GROUP BY 1) a) AS changes,
			(SELECT string_agg(format('<tr><td>%s</td><td>%s</td><th scope="row">%s <small>%s</small></th><td>%s</td></tr>', n,
									  @extschema@._lp_html(action) || ', ' || state, @extschema@._lp_html(kind), logins,
									  to_char(latest, 'YYYY-MM-DD HH24:MI')), '' ORDER BY n DESC, action, state, kind)
			 FROM (SELECT action, state, kind, count(*) AS n, max(enqueued_at) AS latest,
						  @extschema@._lp_html(array_to_string((array_agg(login ORDER BY enqueued_at DESC))[1:20], ', '))
						  || CASE WHEN count(*) > 20 THEN format(' and %s more', count(*) - 20) ELSE '' END AS logins
				   FROM c WHERE state IN ('failed', 'held') OR open AND enqueued_at < clock_timestamp() - interval '10 minutes'
				   GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1, 2, 3 LIMIT 200) k) AS unchanged,
			(SELECT string_agg(format('<div class="tile %s"><dt>%s</dt><dd>%s</dd></div>', class, label, value), '' ORDER BY i)
			 FROM (SELECT count(*) FILTER (WHERE state = 'created') AS created, count(*) FILTER (WHERE state = 'failed') AS failed,
						  count(*) FILTER (WHERE open AND state <> 'held') AS waiting, count(*) FILTER (WHERE state = 'held') AS held,
						  percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) FILTER (WHERE state = 'created') AS median,
						  percentile_cont(0.95) WITHIN GROUP (ORDER BY seconds) FILTER (WHERE state = 'created') AS p95
				   FROM r) t,
				  LATERAL (VALUES (1, 'created', 'created', t.created::text), (2, 'failed', 'failed', t.failed::text),
						   (3, 'open', 'waiting', t.waiting::text), (4, 'open', 'held', t.held::text),
						   (5, '', 'half within', @extschema@._lp_duration(t.median)),
						   (6, '', '95 % within', @extschema@._lp_duration(t.p95))) v(i, class, label, value)) AS tiles,
			(SELECT @extschema@._lp_chart(array_agg(day ORDER BY day), array_agg(created ORDER BY day), array_agg(failed ORDER BY day),
										 array_agg(open ORDER BY day)) FROM per_day) AS chart,
			(SELECT string_agg(format('<tr><th scope="row" class="day">%s</th><td>%s</td><td>%s</td><td>%s</td><td>%s</td><td>%s</td></tr>',
									  day, created, failed, open, @extschema@._lp_duration(median), @extschema@._lp_duration(p95)),
							   '' ORDER BY day DESC) FROM per_day WHERE created + failed + open > 0) AS times,
			(SELECT string_agg(format('<tr><td>%s</td><th scope="row">%s <small>%s</small></th><td>%s</td></tr>', n,
									  @extschema@._lp_html(kind), logins, to_char(latest, 'YYYY-MM-DD HH24:MI')), '' ORDER BY n DESC, kind)
			 FROM (SELECT * FROM per_reason WHERE NOT stuck ORDER BY n DESC, kind LIMIT 200) f) AS reasons,
			(SELECT string_agg(format('<tr><td>%s</td><td>%s</td><th scope="row">%s <small>%s</small></th><td>%s</td></tr>', n, state,
									  @extschema@._lp_html(kind), logins, to_char(since, 'YYYY-MM-DD HH24:MI')), '' ORDER BY n DESC, state, kind)
			 FROM (SELECT * FROM per_reason WHERE stuck ORDER BY n DESC, state, kind LIMIT 200) w) AS stuck,
			(SELECT string_agg(format('<tr><th scope="row" class="day">%s</th><td>%s</td><td>%s</td></tr>', to_char(hour, 'YYYY-MM-DD HH24:00'), n,
									  round(n / 3600.0, 2)), '' ORDER BY n DESC, hour)
			 FROM (SELECT date_trunc('hour', finished_at) AS hour, count(*) AS n FROM r WHERE state = 'created' AND finished_at IS NOT NULL
				   GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 5) h) AS hours
		)
		SELECT @extschema@._lp_report_head() || '<body><main>'
			|| format('<h1>LivePerson users</h1><p class="about">%s, %s to %s, made %s</p>',
					  CASE WHEN _lp_report_page.account IS NULL THEN 'All accounts' ELSE 'Account ' || @extschema@._lp_html(_lp_report_page.account) END,
					  _lp_report_page.start, _lp_report_page.stop,
					  to_char(clock_timestamp(), 'YYYY-MM-DD HH24:MI TZ'))
			|| '<dl>' || tiles || '</dl>'
			|| '<section><h2>Per day</h2>' || chart
			|| '<p class="legend"><span class="created">created</span><span class="failed">failed</span><span class="open">open</span></p>'
			|| '</section><section><h2>Not created, and why</h2>'
			|| @extschema@._lp_html_table('Most frequent first', ARRAY['Users', 'Reason, and logins', 'Latest'], reasons, 'Nothing failed.')
			|| '</section><section><h2>Stuck</h2>'
			|| @extschema@._lp_html_table('Held, or waiting for more than ten minutes', ARRAY['Users', 'State', 'Reason, and logins', 'Since'], stuck,
										 'Nothing is stuck.')
			|| CASE WHEN changes IS NULL THEN '' ELSE '</section><section><h2>Updated and deleted</h2>'
			|| @extschema@._lp_html_table('Requests that were queued, by what they do', ARRAY['Action', 'Done', 'Failed', 'Open'], changes, '')
			|| @extschema@._lp_html_table('Not done, and why', ARRAY['Users', 'Action', 'Reason, and users', 'Latest'], unchanged,
										 'Nothing failed, nothing is stuck.') END
			|| '</section>' || @extschema@._lp_report_syncs(_lp_report_page.account) || '<section><h2>Throughput</h2>'
			|| @extschema@._lp_html_table('The busiest hours', ARRAY['Hour', 'Created', 'Per second'], hours, 'Nothing was created.')
			|| '</section><section><h2>Day by day</h2>'
			|| @extschema@._lp_html_table('Days on which something was asked for; time from request to user',
										 ARRAY['Day', 'Created', 'Failed', 'Open', 'Half within', '95 % within'], times, 'Nothing was asked for.')
			|| '</section></main></body></html>' || E'\n'
		FROM part;
	END;
COMMENT ON FUNCTION @extschema@._lp_report_page(text, date, date) IS 'internal: the page of a report';

/*
 * One page about the creates that were asked for since a while ago: how many per day, how long it took, what failed and
 * why, what is stuck; about queued updates and deletes, and about syncs, if there are any. Shows what the views
 * show to the caller. Needs nothing from elsewhere: style and pictures are in the page, there is no script. Parameters: one account, or null for all; how far back. Returns HTML.
 */
CREATE FUNCTION @extschema@.lp_report(account text DEFAULT NULL, since interval DEFAULT '30 days') RETURNS text
	AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL RESTRICTED COST 10000;
COMMENT ON FUNCTION @extschema@.lp_report(text, interval)
	IS 'one HTML page about creates since a while ago: per day, how long, failures by reason, what is stuck, throughput; queued updates and deletes; syncs';


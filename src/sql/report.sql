/* report.sql: the report. */

/*
 * Escape text for HTML, also inside the quotes of an attribute. Control characters, and those that change the direction of
 * a text, become blanks: keys, names and errors are written by other roles.
 */
CREATE FUNCTION @extschema@._lp_html(plain text) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	BEGIN ATOMIC
		SELECT replace(replace(replace(replace(replace(
			regexp_replace(coalesce(plain, ''), '[\u0001-\u001f\u007f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]', ' ', 'g'),
			'&', '&amp;'), '<', '&lt;'), '>', '&gt;'), '"', '&quot;'), '''', '&#39;');
	END;
COMMENT ON FUNCTION @extschema@._lp_html(text) IS 'internal: text escaped for HTML';

/* Format a number of seconds: 340 ms, 12.5 s, 4 min, 3.2 h, 2 d. */
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
COMMENT ON FUNCTION @extschema@._lp_duration(double precision) IS 'internal: formatted duration';

/* Format a count: 4,770. */
CREATE FUNCTION @extschema@._lp_count(n bigint) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	BEGIN ATOMIC
		SELECT to_char(n, 'FM999,999,999,999,990');
	END;
COMMENT ON FUNCTION @extschema@._lp_count(bigint) IS 'internal: a count with thousands separators';

/*
 * A bar chart of days as SVG: full bars of a class (created, failed), with hollow bars for open requests on top. Arrays
 * of the same length, oldest first; the days are for the labels.
 */
CREATE FUNCTION @extschema@._lp_chart(label text, class text, days date[], full_bars bigint[], open_bars bigint[], height numeric)
	RETURNS text
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	width constant numeric := 720;
	n integer := cardinality(days);
	step numeric := width / greatest(n, 1);
	most numeric := (SELECT max(f + o) FROM unnest(full_bars, open_bars) AS u(f, o));
	scale numeric := 10 ^ floor(log(greatest(most, 1)));
	top numeric;
	bars text;
	labels text;
BEGIN
	/* a round number, and even, so that half of it is a number of users, too */
	SELECT min(t) INTO top FROM unnest(ARRAY[1, 2, 4, 6, 8, 10]) x, LATERAL (SELECT round(x * scale) AS t) r
	WHERE t >= greatest(most, 2);
	/* a bar has at least three units, so that one user is visible beside a thousand */
	SELECT string_agg(
		format('<g><title>%s: %s %s%s</title>', to_char(d, 'YYYY-MM-DD'), f, class, CASE WHEN o > 0 THEN ', ' || o || ' open' ELSE '' END)
		|| CASE WHEN f > 0 THEN format('<rect class="%s" x="%s" y="%s" width="%s" height="%s"/>', class, x, y - h_full, w, h_full) ELSE '' END
		|| CASE WHEN o > 0 THEN format('<rect class="open" x="%s" y="%s" width="%s" height="%s"/>', x, y - h_full - h_open, w, h_open) ELSE '' END
		|| '</g>', '' ORDER BY i)
	INTO bars
	FROM (SELECT i, d, f, o, round((i - 1) * step + step * 0.1, 2) AS x, round(step * 0.8, 2) AS w, 10 + height AS y,
				 CASE WHEN f > 0 THEN greatest(round(f * height / top, 2), 3) ELSE 0 END AS h_full,
				 CASE WHEN o > 0 THEN greatest(round(o * height / top, 2), 3) ELSE 0 END AS h_open
		  FROM unnest(days, full_bars, open_bars) WITH ORDINALITY AS u(d, f, o, i)) b;
	SELECT string_agg(format('<text x="%s" y="%s" text-anchor="%s">%s</text>', round((i - 0.5) * step, 1), height + 28,
							 CASE WHEN i = 1 AND n > 2 THEN 'start' WHEN i = n AND n > 2 THEN 'end' ELSE 'middle' END,
							 to_char(days[i], 'DD Mon')), '')
	INTO labels
	FROM (SELECT DISTINCT i FROM unnest(ARRAY[1, (n + 1) / 2, n]) i) p;
	RETURN format('<svg role="img" aria-label="%s; the table Day by day has the numbers" viewBox="-50 0 %s %s">', label, width + 60, height + 36)
		|| (SELECT string_agg(format('<line class="grid" x1="0" x2="%s" y1="%s" y2="%s"/><text x="-6" y="%s" text-anchor="end">%s</text>',
									 width, 10 + height - share * height, 10 + height - share * height,
									 14 + height - share * height, to_char(round(top * share), 'FM999,999,999,990')), '')
			FROM unnest(ARRAY[0, 0.5, 1]) share)
		|| coalesce(bars, '') || coalesce(labels, '') || '</svg>';
END;
$$;
COMMENT ON FUNCTION @extschema@._lp_chart(text, text, date[], bigint[], bigint[], numeric) IS 'internal: users per day as a bar chart in SVG';

/*
 * An HTML table with a caption, from its header cells and rows that are already HTML; a sentence instead if it has no rows.
 * A header that begins with # is one of a column of numbers, whose cells are of class "n"; with ~, of a column that a phone
 * does not show, class "wide"; with #~, of both. A table that is wider than the
 * screen scrolls by itself, also with the keyboard.
 */
CREATE FUNCTION @extschema@._lp_html_table(caption text, headers text[], rows text, nothing text) RETURNS text
	LANGUAGE sql STABLE
	BEGIN ATOMIC
		SELECT CASE WHEN rows IS NULL THEN '<p class="none">' || nothing || '</p>'
			ELSE '<div class="table" role="region" tabindex="0" aria-label="' || caption || '"><table><caption>' || caption || '</caption><thead><tr>'
				|| (SELECT string_agg(CASE WHEN starts_with(h, '#~') THEN '<th scope="col" class="n wide">' WHEN starts_with(h, '#') THEN '<th scope="col" class="n">' WHEN starts_with(h, '~')
									  THEN '<th scope="col" class="wide">' ELSE '<th scope="col">' END || ltrim(h, '#~') || '</th>', '' ORDER BY i) FROM unnest(headers) WITH ORDINALITY u(h, i))
				|| '</tr></thead><tbody>' || rows || '</tbody></table></div>' END;
	END;
COMMENT ON FUNCTION @extschema@._lp_html_table(text, text[], text, text) IS 'internal: a table in HTML';

/*
 * The problem of a request that has not led to a user, the remedy and the role responsible for it, in words for readers
 * who do not know SQL. "known": it has the id of a user of the account.
 */
CREATE FUNCTION @extschema@._lp_advice(state text, hold text, cause text, status integer, known boolean, paused boolean,
									   OUT what text, OUT todo text, OUT who text)
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	BEGIN ATOMIC
		SELECT a.words[1], a.words[2], a.words[3]
		FROM (SELECT CASE
			WHEN hold = 'threshold' THEN ARRAY['More people in one load than usual: they wait for an approval',
				'Approve the load with lp_release(), or drop it with lp_discard()', 'HR decides, DBA']
			WHEN hold = 'credentials' THEN ARRAY['LivePerson refuses the credentials',
				'Renew them in the user mapping, then lp_release()', 'LivePerson administrator, DBA']
			WHEN hold = 'elsewhere' THEN ARRAY['Queued in another copy of this database',
				'Make sure that the other copy is stopped, then lp_adopt()', 'DBA']
			WHEN state = 'held' THEN ARRAY['The set-up of the database is incomplete', 'Correct it, then lp_release()', 'DBA']
			WHEN state <> 'failed' AND paused THEN ARRAY['Delivery is paused',
				'ALTER SERVER ... OPTIONS (SET delivery ''on'')', 'DBA']
			WHEN state <> 'failed' THEN ARRAY['Waiting for more than ten minutes',
				'It is tried again by itself; if it stays, run lp_check()', 'DBA']
			WHEN cause = 'gave_up' THEN ARRAY['LivePerson gave no usable response, several times',
				'Send it again with lp_retry(), which first looks for the user', 'DBA']
			WHEN cause = 'unknown' THEN ARRAY['Sent, but it is not known whether it was carried out',
				'Look for the user in LivePerson', 'LivePerson administrator']
			WHEN known OR status = 409 THEN ARRAY['A user with this login exists already',
				'The same person: enable or update that user. Another person: choose another login', 'HR']
			WHEN status IS NULL THEN ARRAY['The HR data are incomplete, not valid, or queued twice',
				'Correct the rows, and queue them again with lp_enqueue_rows()', 'HR, DBA']
			ELSE ARRAY['LivePerson refuses the data', 'Correct the rows, and queue them again with lp_enqueue_rows()', 'HR, LivePerson administrator']
			END AS words) a;
	END;
COMMENT ON FUNCTION @extschema@._lp_advice(text, text, text, integer, boolean, boolean)
	IS 'internal: problem of a request, its remedy and the role responsible';

/*
 * A person of a request: login and row of the HR table, as far as known; and the problem without user-specific parts, so
 * that equal problems can be grouped. A key can be of any length: 100 characters of it are enough to find the row.
 */
CREATE FUNCTION @extschema@._lp_person(login_name text, user_id bigint, source_table text, source_key jsonb, trouble text,
									   OUT name text, OUT problem text)
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	BEGIN ATOMIC
		SELECT coalesce(login_name || coalesce(' (' || source_table || ' ' || k.key || ')', ''), source_table || ' ' || k.key,
						'user ' || user_id, '(no login)'),
			   regexp_replace(regexp_replace(replace(trouble, coalesce(login_name, ''), '...'), '\(id \d+\)', '(id ...)'), 'user \d+', 'user ...')
		FROM (SELECT CASE WHEN length(a.key) > 100 THEN left(a.key, 100) || '...' ELSE a.key END AS key
			  FROM (SELECT string_agg(j.value, ', ') AS key FROM jsonb_each_text(source_key) j) a) k;
	END;
COMMENT ON FUNCTION @extschema@._lp_person(text, bigint, text, jsonb, text) IS 'internal: person of a request, and its problem without user-specific parts';

/* Replace attribute names in an error by common words: "email" is required ... -> e-mail address is missing. */
CREATE FUNCTION @extschema@._lp_plain_words(problem text) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	BEGIN ATOMIC
		SELECT replace(replace(replace(replace(replace(replace(replace(replace(replace(
			regexp_replace(problem, ' is required( and must not be (null|empty))?', ' is missing', 'g'),
			'"loginName"', 'login'), '"fullName"', 'full name'), '"nickname"', 'nickname'), '"email"', 'e-mail address'),
			'"passwordSh"', 'first password'), '"profileIds"', 'profile'), '"memberOf"', 'team'), '"maxChats"', 'number of chats'),
			'"isEnabled"', 'enabled or not');
	END;
COMMENT ON FUNCTION @extschema@._lp_plain_words(text) IS 'internal: an error with common words for attributes';

/*
 * The start of the page, with its style. Colours are in variables, a set for each way to show the page; their contrast is
 * measured by a test (test/t).
 */
CREATE FUNCTION @extschema@._lp_report_head() RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	BEGIN ATOMIC
		SELECT '<!DOCTYPE html>' || E'\n' || '<html lang="en"><head><meta charset="utf-8"/>'
			|| '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
			|| '<title>LivePerson users: report</title><style>' || $css$
:root { color-scheme: light dark; --text: #1c2733; --soft: #556372; --ground: #ffffff; --line: #c9d2da; --tile: #f3f6f9;
	--link: #0b5cad; --created: #1f7a4d; --failed: #b3261e; --open: #8a5200; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --soft: #9aa8b5; --ground: #12181f; --line: #33404c; --tile: #1b242d;
	--link: #7ab8ff; --created: #4cc38a; --failed: #ff8a80; --open: #ffb74d; } }
@media print { :root { --text: #000000; --soft: #444444; --ground: #ffffff; --line: #999999; --tile: #ffffff;
	--link: #000000; --created: #1f7a4d; --failed: #b3261e; --open: #8a5200; } }
body { margin: 2rem auto; max-width: 60rem; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--ground); }
h1 { margin: 0; font-size: 1.5rem; } h2 { margin: 2.5rem 0 .5rem; font-size: 1.25rem; } h3 { margin: 1rem 0 0; font-size: 1rem; }
p { margin: .5rem 0; } a { color: var(--link); } .about, .none, .note { color: var(--soft); }
.verdict { margin: 1.5rem 0 1rem; padding: .75rem 1rem; border-left: .4rem solid var(--created); background: var(--tile); font-size: 1.25rem; font-weight: 600; }
.verdict.todo { border-color: var(--failed); } .verdict.empty { border-color: var(--line); }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .75rem; margin: 1rem 0; }
.tile { background: var(--tile); border: 1px solid var(--line); border-radius: .5rem; padding: .5rem 1rem .75rem; }
dt { color: var(--soft); font-size: .875rem; } dd { margin: 0; font-size: 1.75rem; line-height: 1.25; font-variant-numeric: tabular-nums; } dd small { font-size: .875rem; }
.tile.created dd { color: var(--created); } .tile.failed dd { color: var(--failed); } .tile.open dd { color: var(--open); } dd small, .tile dd.zero { color: var(--soft); }
svg { display: block; width: 100%; height: auto; overflow: visible; } svg text { fill: var(--soft); font-size: 11px; } .grid { stroke: var(--line); }
rect.created { fill: var(--created); } rect.failed { fill: var(--failed); } rect.open { fill: var(--ground); stroke: var(--open); stroke-width: 1.5; }
.legend span { margin-right: 1em; white-space: nowrap; } .legend span::before { content: ""; display: inline-block; box-sizing: border-box; width: .75em; height: .75em;
	margin-right: .4em; border: 2px solid currentColor; print-color-adjust: exact; }
.legend .created::before, .legend .failed::before { background: currentColor; } .legend .created { color: var(--created); } .legend .failed { color: var(--failed); } .legend .open { color: var(--open); }
table { border-collapse: collapse; width: 100%; } caption { text-align: left; color: var(--soft); padding-bottom: .25rem; }
th, td { text-align: left; vertical-align: top; padding: .35rem 1rem .35rem 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
td, .n { font-variant-numeric: tabular-nums; } .n { text-align: right; } .table { overflow-x: auto; margin: .5rem 0 1rem; }
tbody th { font-weight: normal; width: 100%; white-space: normal; overflow-wrap: anywhere; min-width: 10rem; } tbody th.day { width: auto; min-width: 0; white-space: nowrap; }
td.do { white-space: normal; min-width: 12rem; } small { display: block; color: var(--soft); } strong { font-weight: 600; }
@media (max-width: 40rem) { body { margin: 1rem auto; } svg text { font-size: 20px; } .verdict { font-size: 1.1rem; } dl { grid-template-columns: 1fr 1fr; } th, td { padding-right: .6rem; }
	#todo thead, .wide { display: none; } #todo tr { display: grid; grid-template-columns: 3rem 1fr; border-bottom: 1px solid var(--line); } #todo tbody * { border: 0; } #todo td.do { grid-column: 2; padding-top: 0; } }
@media print { body { margin: 0; max-width: none; font-size: 10pt; } dl { grid-template-columns: repeat(4, 1fr); } .table { overflow: visible; }
	tr, svg, .legend, .tile, .verdict { break-inside: avoid; } h2, h3, caption { break-after: avoid; } a { text-decoration: none; } }
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
		WITH known AS MATERIALIZED (
			SELECT p.plan, p.sync, p.made_at, p.state, p.action, p.users, p.over, p.reason FROM @extschema@.lp_sync_plans p
		), s AS MATERIALIZED (
			SELECT y.sync, y.account, y.source, y.state, y.why, y.last_run, y.linked, y.differing, y.blocked, max(k.plan) AS since_plan
			FROM @extschema@.lp_syncs y LEFT JOIN known k ON k.sync = y.sync AND k.made_at <= y.last_run
			WHERE _lp_report_syncs.account IS NULL OR y.account = _lp_report_syncs.account
			GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
		), plan AS MATERIALIZED (
			SELECT k.* FROM known k JOIN s ON s.sync = k.sync AND k.plan >= coalesce(s.since_plan, 0::bigint)
		), open AS (
			/* a newer plan requests the same users again */
			SELECT DISTINCT ON (sync, action) * FROM plan
			WHERE (over AND state IN ('draft', 'applied') OR state = 'draft' AND reason <> '')
			  AND coalesce(action, '') NOT IN ('blocked', 'wait')
			ORDER BY sync, action, plan DESC
		), stuck AS MATERIALIZED (
			SELECT DISTINCT p.sync, coalesce(c.source_key, c.login_name) AS who,
				   replace(coalesce(c.reason, ''), coalesce(c.login_name, ''), '...') AS kind
			FROM plan p, LATERAL (SELECT i.source_key, i.login_name, i.reason FROM @extschema@.lp_sync_changes i
								  WHERE i.plan = p.plan AND i.action = 'blocked' OFFSET 0) c
			WHERE p.action = 'blocked'
		), counted AS (
			SELECT s.*, coalesce((SELECT sum(o.users) FROM open o WHERE o.sync = s.sync AND o.over), 0::numeric) AS to_confirm FROM s
		), part AS (
			SELECT
			(SELECT string_agg(format('<tr><th scope="row">%s<small>%s</small></th><td>%s</td><td class="n">%s</td><td class="n">%s</td><td class="n">%s</td>'
									  '<td class="n">%s</td><td class="wide">%s</td></tr>',
									  @extschema@._lp_html(sync), @extschema@._lp_html(concat_ws('; ', source || ', account ' || account, why)),
									  state, @extschema@._lp_count(linked), @extschema@._lp_count(differing),
									  @extschema@._lp_count(to_confirm::bigint), @extschema@._lp_count(blocked),
									  coalesce(to_char(last_run, 'YYYY-MM-DD HH24:MI'), '&#8211;')), '' ORDER BY sync) FROM counted) AS syncs,
			(SELECT string_agg(format('<tr><td class="n">%s</td><td>%s</td><th scope="row">%s<small>%s</small></th><td class="wide">%s</td></tr>',
									  @extschema@._lp_count(users), coalesce(action, 'all'), @extschema@._lp_html(sync || ', plan ' || plan),
									  @extschema@._lp_html(reason), to_char(made_at, 'YYYY-MM-DD HH24:MI')), '' ORDER BY sync, plan, action)
			 FROM (SELECT * FROM open ORDER BY sync, plan, action LIMIT 200) o) AS waiting,
			(SELECT string_agg(format('<tr><td class="n">%s</td><td>%s</td><th scope="row">%s<small>%s</small></th></tr>', @extschema@._lp_count(n),
									  @extschema@._lp_html(sync), @extschema@._lp_html(kind), who), '' ORDER BY n DESC, sync, kind)
			 FROM (SELECT sync, kind, count(*) AS n, @extschema@._lp_html(array_to_string((array_agg(who ORDER BY who))[1:20], ', '))
						  || CASE WHEN count(*) > 20 THEN format(' and %s more', count(*) - 20) ELSE '' END AS who
				   FROM stuck GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT 200) k) AS blocked,
			(SELECT concat_ws(' ', CASE WHEN count(*) FILTER (WHERE state = 'quarantined') > 0
										THEN format('Quarantined until lp_sync_resume(): %s.', string_agg(sync, ', ' ORDER BY sync) FILTER (WHERE state = 'quarantined')) END,
							  CASE WHEN count(*) FILTER (WHERE state = 'copy') > 0
								   THEN format('Defined in another database, stopped until lp_sync_resume(): %s.', string_agg(sync, ', ' ORDER BY sync) FILTER (WHERE state = 'copy')) END,
							  format('Users waiting for confirmation: %s; blocked: %s.', @extschema@._lp_count(sum(to_confirm)::bigint),
									 @extschema@._lp_count((SELECT count(*) FROM stuck)))) FROM counted) AS verdict
		)
		SELECT CASE WHEN syncs IS NULL THEN '' ELSE '<section><h2>Kept in sync</h2><p>' || @extschema@._lp_html(verdict) || '</p>'
			|| @extschema@._lp_html_table('What the last run of each sync found',
				ARRAY['Sync, and its source', 'State', '#Linked', '#Differing', '#To confirm', '#Blocked', '~Last run'], syncs, '')
			|| @extschema@._lp_html_table('Waiting for confirmation', ARRAY['#Users', 'Action', 'Sync, and what to do', '~Planned'], waiting,
				'Nothing waits for confirmation.')
			|| @extschema@._lp_html_table('Blocked, most frequent first', ARRAY['#Users', 'Sync', 'Reason, and keys'], blocked, 'Nothing is blocked.')
			|| '</section>' END
		FROM part;
	END;
COMMENT ON FUNCTION @extschema@._lp_report_syncs(text) IS 'internal: the section of a report about syncs';

/*
 * The first sentence of the page, and the need for action: people without a user, of these the loads that wait for an
 * approval, other held ones and waiting ones; paused accounts.
 */
CREATE FUNCTION @extschema@._lp_verdict(asked bigint, created bigint, without_user bigint, approval bigint, held bigint, paused text,
										OUT todo boolean, OUT words text)
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	BEGIN ATOMIC
		SELECT without_user > 0 OR paused <> '',
			CASE WHEN asked = 0 THEN 'No user was requested in this time'
				 WHEN without_user = 0 THEN 'Everyone who was requested has a user (' || @extschema@._lp_count(created) || ')'
				 WHEN without_user = 1 THEN 'One person has no user'
				 ELSE @extschema@._lp_count(without_user) || ' people have no user' END
			|| CASE WHEN approval > 0 THEN '; ' || @extschema@._lp_count(approval) || CASE WHEN approval = 1 THEN ' waits' ELSE ' wait' END
					|| ' for your approval' ELSE '' END
			|| CASE WHEN held > approval THEN '; ' || @extschema@._lp_count(held - approval) || CASE WHEN held - approval = 1 THEN ' is' ELSE ' are' END
					|| ' held until the set-up is corrected' ELSE '' END
			|| CASE WHEN paused <> '' THEN '; delivery is paused: account ' || paused ELSE '' END || '.';
	END;
COMMENT ON FUNCTION @extschema@._lp_verdict(bigint, bigint, bigint, bigint, bigint, text) IS 'internal: the first sentence of a report';

/*
 * The page: creates, updates and deletes from a day to a day, of one account, or of all (null). A person is counted once,
 * however often it was requested: by its row in the HR table, else its login. Of one reason it names five people; a table
 * has 200 rows: beyond that, query lp_results. The log may have millions of rows: few columns of them are read, once, and
 * all columns only of those that are not done. Compiling a query of this length takes longer than to execute it.
 */
CREATE FUNCTION @extschema@._lp_report_page(account text, start date, stop date) RETURNS text
	LANGUAGE sql STABLE SET jit = off
	BEGIN ATOMIC
		WITH halted AS MATERIALIZED (
			SELECT ARRAY(SELECT s.oid FROM pg_catalog.pg_foreign_server s WHERE 'delivery=paused' = ANY (s.srvoptions)) AS servers
		), q AS MATERIALIZED (
			/*
			 * The requests of the period, few columns of each. "change" is null for a create; "marks" is what has become of the
			 * request: 1 created, 2 failed, 4 waiting, 8 held, 16 for an approval, 32 mended, 64 done.
			 */
			SELECT q.account, CASE WHEN q.operation <> 'create' THEN coalesce(q.action, q.operation) END AS change,
				   CASE WHEN q.state = 'created' THEN 1 WHEN q.state = 'done' THEN 64 WHEN q.mended THEN 32 WHEN q.state = 'failed' THEN 2
						WHEN q.hold = 'threshold' THEN 24 WHEN q.state = 'held' THEN 8 ELSE 4 END AS marks,
				   q.source_table, coalesce(q.source_table || ' ' || q.source_key::text, q.account || ' ' || lower(q.login_name), q.id::text) AS person,
				   q.enqueued_at::date AS day, date_trunc('hour', q.finished_at) AS hour, date_part('epoch', q.finished_at - q.enqueued_at) AS seconds
			FROM @extschema@.lp_results q
			WHERE q.operation IN ('create', 'update', 'delete') AND q.state <> 'superseded'
			  AND q.enqueued_at >= _lp_report_page.start::timestamptz
			  AND (_lp_report_page.account IS NULL OR q.account = _lp_report_page.account)
		), problem AS MATERIALIZED (
			/* those that are not done, with all that is said of them */
			SELECT q.*, q.state IN ('pending', 'sending', 'uncertain') AS waiting, n.name, n.problem,
				   CASE WHEN q.server_oid <> 0 THEN q.server_oid = ANY (h.servers) END AS halted,
				   coalesce(q.source_table || ' ' || q.source_key::text, q.account || ' ' || lower(q.login_name), q.id::text) AS person
			FROM @extschema@.lp_results q, halted h,
				 LATERAL @extschema@._lp_person(q.login_name, q.user_id, q.source_table, q.source_key, coalesce(q.error, q.reason, '')) n
			WHERE q.operation IN ('create', 'update', 'delete') AND q.state NOT IN ('created', 'done', 'superseded') AND NOT q.mended
			  AND q.enqueued_at >= _lp_report_page.start::timestamptz
			  AND (_lp_report_page.account IS NULL OR q.account = _lp_report_page.account)
		), before AS MATERIALIZED (
			/* the same time before */
			SELECT q.account, count(*) FILTER (WHERE q.operation = 'create' AND q.state = 'created') AS created,
				   bool_and(q.server_oid = ANY (h.servers)) FILTER (WHERE q.state IN ('pending', 'sending', 'uncertain') AND q.server_oid <> 0) AS halted
			FROM @extschema@.lp_results q, halted h
			WHERE q.operation IN ('create', 'update', 'delete') AND q.state <> 'superseded'
			  AND q.enqueued_at >= (_lp_report_page.start - (_lp_report_page.stop - _lp_report_page.start + 1))::timestamptz
			  AND q.enqueued_at < _lp_report_page.start::timestamptz
			  AND (_lp_report_page.account IS NULL OR q.account = _lp_report_page.account)
			GROUP BY 1
		), counts AS MATERIALIZED (
			SELECT account, change, marks, day, CASE WHEN change IS NULL AND marks = 1 THEN hour END AS hour, count(*) AS n FROM q GROUP BY 1, 2, 3, 4, 5
		), a AS MATERIALIZED (
			SELECT u.account, coalesce((SELECT bool_and(w.halted) FROM (SELECT p.halted FROM problem p WHERE p.account = u.account AND p.waiting
																		UNION ALL SELECT b.halted FROM before b WHERE b.account = u.account) w),
									   @extschema@.lp_account_is_paused(u.account)) AS paused
			FROM (SELECT c.account FROM counts c UNION SELECT b.account FROM before b
				  UNION SELECT _lp_report_page.account WHERE _lp_report_page.account IS NOT NULL) u
		), people AS MATERIALIZED (
			SELECT p.account, p.origin, count(*) FILTER (WHERE marks & 1 <> 0) AS created, count(*) FILTER (WHERE marks & 2 <> 0) AS failed,
				   count(*) FILTER (WHERE marks & 4 <> 0) AS waiting, count(*) FILTER (WHERE marks & 8 <> 0) AS held,
				   count(*) FILTER (WHERE marks & 16 <> 0) AS approval, count(*) FILTER (WHERE marks & 32 <> 0) AS mended,
				   count(*) FILTER (WHERE marks & 14 <> 0) AS without_user
			FROM (SELECT account, coalesce(source_table, 'without a table') AS origin, person, bit_or(marks) AS marks
				  FROM q WHERE change IS NULL GROUP BY 1, 2, 3) p
			GROUP BY 1, 2
		), times AS MATERIALIZED (
			/* of each day, and of all (null) */
			SELECT day, percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY seconds) AS seconds
			FROM q WHERE change IS NULL AND marks = 1 GROUP BY GROUPING SETS ((day), ())
		), total AS MATERIALIZED (
			SELECT p.*, t.seconds[1] AS median, t.seconds[2] AS p95,
				   coalesce((SELECT sum(n) FROM counts WHERE change IS NULL), 0)::bigint AS asked,
				   coalesce((SELECT sum(b.created) FROM before b), 0)::bigint AS before
			FROM (SELECT coalesce(sum(created), 0)::bigint AS created, coalesce(sum(failed), 0)::bigint AS failed,
						 coalesce(sum(waiting), 0)::bigint AS waiting, coalesce(sum(held), 0)::bigint AS held,
						 coalesce(sum(approval), 0)::bigint AS approval, coalesce(sum(without_user), 0)::bigint AS without_user,
						 coalesce(sum(mended), 0)::bigint AS mended FROM people) p,
				 (SELECT seconds FROM times WHERE day IS NULL) t
		), per_day AS MATERIALIZED (
			SELECT d.day::date AS day, coalesce(c.created, 0) AS created, coalesce(c.failed, 0) AS failed, coalesce(c.mended, 0) AS mended,
				   coalesce(c.open, 0) AS open, t.seconds[1] AS median, t.seconds[2] AS p95
			FROM generate_series(_lp_report_page.start::timestamp, _lp_report_page.stop::timestamp, interval '1 day') d(day)
			LEFT JOIN (SELECT day, (sum(n) FILTER (WHERE marks = 1))::bigint AS created, (sum(n) FILTER (WHERE marks = 2))::bigint AS failed,
							  (sum(n) FILTER (WHERE marks = 32))::bigint AS mended, (sum(n) FILTER (WHERE marks & 12 <> 0))::bigint AS open
					   FROM counts WHERE change IS NULL GROUP BY 1) c ON c.day = d.day::date
			LEFT JOIN times t ON t.day = d.day::date
		), todo AS (
			SELECT count(DISTINCT p.person) AS n, v.what, v.todo, v.who, @extschema@._lp_plain_words(p.problem) AS detail, min(p.enqueued_at) AS since,
				   array_agg(DISTINCT p.name) AS names
			FROM problem p JOIN a ON a.account = p.account,
				 LATERAL @extschema@._lp_advice(p.state, p.hold, p.cause, p.status, p.user_id IS NOT NULL, coalesce(p.halted, a.paused)) v
			WHERE p.operation = 'create' AND (NOT p.waiting OR coalesce(p.halted, a.paused) OR p.enqueued_at < clock_timestamp() - interval '10 minutes')
			GROUP BY 2, 3, 4, 5
		), part AS (
			SELECT
			(SELECT string_agg(format('<tr><td class="n">%s</td><th scope="row"><strong>%s</strong><small>%s</small><small>%s</small></th>'
									  '<td class="do"><strong>%s</strong>: %s</td><td class="wide">%s</td></tr>',
									  @extschema@._lp_count(n), @extschema@._lp_html(what), @extschema@._lp_html(detail),
									  @extschema@._lp_html(array_to_string(names[1:5], ', '))
									  || CASE WHEN cardinality(names) > 5 THEN ' and ' || @extschema@._lp_count(cardinality(names) - 5) || ' more' ELSE '' END,
									  @extschema@._lp_html(who), @extschema@._lp_html(todo), to_char(since, 'YYYY-MM-DD HH24:MI')),
							   '' ORDER BY n DESC, what, detail)
			 FROM (SELECT * FROM todo ORDER BY n DESC, what, detail LIMIT 200) t) AS todo,
			(SELECT string_agg(format('<div class="tile %s"><dt>%s</dt><dd class="%s">%s<small>%s</small></dd></div>', class, label,
									  CASE WHEN value = 0 THEN 'zero' ELSE 'some' END, @extschema@._lp_count(value), coalesce(more, '')), '' ORDER BY i)
			 FROM total t,
				  LATERAL (VALUES (1, 'created', 'Created', t.created, CASE WHEN t.before > 0 THEN 'the same time before: ' || @extschema@._lp_count(t.before) END),
						   (2, 'failed', 'Failed', t.failed, CASE WHEN t.mended > 0 THEN 'mended since: ' || @extschema@._lp_count(t.mended) END),
						   (3, 'open', 'Held for a decision', t.held, NULL), (4, 'open', 'Waiting to be sent', t.waiting, NULL))
						  v(i, class, label, value, more)) AS tiles,
			(SELECT format('<p class="verdict %s"><span aria-hidden="true">%s</span> %s</p>', CASE WHEN v.todo THEN 'todo' WHEN t.asked = 0 THEN 'empty' ELSE 'good' END,
						   CASE WHEN v.todo THEN '&#9650;' WHEN t.asked = 0 THEN '&#8211;' ELSE '&#10003;' END, @extschema@._lp_html(v.words))
			 FROM total t, LATERAL @extschema@._lp_verdict(t.asked, t.created, t.without_user, t.approval, t.held,
				coalesce((SELECT string_agg(account, ', ' ORDER BY account) FROM a WHERE paused), '')) v) AS verdict,
			(SELECT @extschema@._lp_chart('Users created per day', 'created', array_agg(day ORDER BY day), array_agg(created ORDER BY day),
										  array_agg(0::bigint), 160) FROM per_day) AS chart_created,
			(SELECT @extschema@._lp_chart('Users per day that failed or are open', 'failed', array_agg(day ORDER BY day), array_agg(failed ORDER BY day),
										  array_agg(open ORDER BY day), 80) FROM per_day HAVING sum(failed + open) > 0) AS chart_failed,
			(SELECT string_agg(format('<tr><th scope="row" class="day">%s</th><td class="n">%s</td><td class="n">%s</td><td class="n wide">%s</td><td class="n">%s</td>'
									  '<td class="n wide">%s</td><td class="n wide">%s</td></tr>', to_char(day, 'YYYY-MM-DD'), @extschema@._lp_count(created), @extschema@._lp_count(failed),
									  @extschema@._lp_count(mended), @extschema@._lp_count(open), @extschema@._lp_duration(median), @extschema@._lp_duration(p95)),
							   '' ORDER BY day DESC) FROM per_day WHERE created + failed + mended + open > 0) AS days,
			(SELECT string_agg(format('<tr><th scope="row">%s<small>%s</small></th><td class="n">%s</td><td class="n">%s</td><td class="n">%s</td><td class="n">%s</td></tr>',
									  @extschema@._lp_html(account) || CASE WHEN paused THEN ' (paused)' ELSE '' END, @extschema@._lp_html(origin),
									  @extschema@._lp_count(created), @extschema@._lp_count(failed), @extschema@._lp_count(held), @extschema@._lp_count(waiting)),
							   '' ORDER BY account, origin)
			 FROM (SELECT p.*, a.paused FROM people p JOIN a ON a.account = p.account ORDER BY p.account, p.origin LIMIT 200) s
			 HAVING count(*) > 1) AS sources,
			(SELECT string_agg(format('<tr><th scope="row" class="day">%s</th><td class="n">%s</td><td class="n">%s</td><td class="n">%s</td></tr>',
									  @extschema@._lp_html(action), @extschema@._lp_count(coalesce(done, 0)), @extschema@._lp_count(coalesce(failed, 0)),
									  @extschema@._lp_count(coalesce(open, 0))), '' ORDER BY action)
			 FROM (SELECT change AS action, (sum(n) FILTER (WHERE marks = 64))::bigint AS done, (sum(n) FILTER (WHERE marks = 2))::bigint AS failed,
						  (sum(n) FILTER (WHERE marks & 12 <> 0))::bigint AS open
				   FROM counts WHERE change IS NOT NULL GROUP BY 1) a) AS changes,
			(SELECT string_agg(format('<tr><td class="n">%s</td><td>%s</td><th scope="row">%s<small>%s</small></th><td class="wide">%s</td></tr>', @extschema@._lp_count(n),
									  @extschema@._lp_html(action) || ', ' || state, @extschema@._lp_html(problem), names,
									  to_char(latest, 'YYYY-MM-DD HH24:MI')), '' ORDER BY n DESC, action, state, problem)
			 FROM (SELECT coalesce(action, operation) AS action, state, problem, count(*) AS n, max(enqueued_at) AS latest,
						  @extschema@._lp_html(array_to_string((array_agg(name ORDER BY enqueued_at DESC))[1:5], ', '))
						  || CASE WHEN count(*) > 5 THEN ' and ' || @extschema@._lp_count(count(*) - 5) || ' more' ELSE '' END AS names
				   FROM problem WHERE operation <> 'create' AND (NOT waiting OR enqueued_at < clock_timestamp() - interval '10 minutes')
				   GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1, 2, 3 LIMIT 200) k) AS unchanged,
			(SELECT string_agg(format('<tr><th scope="row" class="day">%s</th><td class="n">%s</td></tr>', to_char(hour, 'YYYY-MM-DD HH24:00'), @extschema@._lp_count(n)),
							   '' ORDER BY n DESC, hour)
			 FROM (SELECT hour, sum(n)::bigint AS n FROM counts WHERE hour IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 5) h) AS hours
		)
		SELECT @extschema@._lp_report_head() || '<body><main>'
			|| format('<h1>LivePerson users</h1><p class="about">%s, %s to %s. Made %s; times are in %s.</p>',
					  CASE WHEN _lp_report_page.account IS NULL THEN 'All accounts' ELSE 'Account ' || @extschema@._lp_html(_lp_report_page.account) END,
					  to_char(_lp_report_page.start, 'YYYY-MM-DD'), to_char(_lp_report_page.stop, 'YYYY-MM-DD'), to_char(clock_timestamp(), 'YYYY-MM-DD HH24:MI'),
					  @extschema@._lp_html(current_setting('TimeZone')))
			|| verdict || CASE WHEN asked = 0 THEN '<p class="none">A user is requested when a row is inserted into a table that has the trigger of lpusers.'
											  || ' If that has happened, ask the DBA for SELECT * FROM lp_progress.</p>'
				ELSE '<dl>' || tiles || '</dl>' || CASE WHEN total.created > 0 THEN '<p class="note">From request to user: half within ' || @extschema@._lp_duration(median)
					|| ', 95 of 100 within ' || @extschema@._lp_duration(p95) || '.</p>' ELSE '' END
				|| CASE WHEN todo IS NULL THEN '' ELSE '<section id="todo"><h2>What to do</h2>'
				|| @extschema@._lp_html_table('People without a user, by reason, most frequent first', ARRAY['#People', 'Reason, and who', 'Who does what', '~Since'],
											 replace(todo, '<small></small>', ''), '') || '</section>' END
				|| '<section><h2>Per day</h2><h3>Created</h3>' || chart_created
				|| coalesce('<h3>Failed or open</h3>' || chart_failed || '<p class="legend"><span class="failed">failed, and not mended since</span>'
					|| '<span class="open">open: held or waiting</span></p>', '') || '</section>'
				|| CASE WHEN sources IS NULL THEN '' ELSE '<section><h2>By account</h2>'
				|| @extschema@._lp_html_table('People, by account and the table that they come from', ARRAY['Account, and table', '#Created', '#Failed', '#Held', '#Waiting'],
											 sources, '') || '</section>' END END
			|| CASE WHEN changes IS NULL THEN '' ELSE '<section><h2>Leavers and other changes</h2>'
			|| @extschema@._lp_html_table('Updates and deletes of users, by what they do', ARRAY['Action', '#Done', '#Failed', '#Open'], changes, '')
			|| @extschema@._lp_html_table('Not done, and why', ARRAY['#Users', 'Action', 'Reason, and users', '~Latest'], replace(unchanged, '<small></small>', ''),
										 'Nothing failed, nothing is stuck.') || '</section>' END
			|| @extschema@._lp_report_syncs(_lp_report_page.account)
			|| CASE WHEN asked = 0 THEN '' ELSE '<section><h2>Day by day</h2>'
			|| @extschema@._lp_html_table('Requests, by the day on which they were made; time from request to user',
										 ARRAY['Day', '#Created', '#Failed', '#~Mended', '#Open', '#~Half within', '#~95 of 100 within'], days, '')
			|| CASE WHEN hours IS NULL THEN '' ELSE @extschema@._lp_html_table('The busiest hours', ARRAY['Hour', '#Users created'], hours, '') END
			|| '</section>' END
			|| '<p class="note">This page is made of the log of requests, which keeps finished ones for '
			|| @extschema@._lp_html(coalesce(regexp_replace(current_setting('lpusers.retention', true), '^(\d+)d$', '\1 days'), '90 days'))
			|| '. Users who were deleted in LivePerson since still count as created: who has a user now, only the account knows.</p></main></body></html>' || E'\n'
		FROM part, total;
	END;
COMMENT ON FUNCTION @extschema@._lp_report_page(text, date, date) IS 'internal: the page of a report';

/*
 * One page about the requests of a period until now: a verdict, actions and their owners, users per day, updates and
 * deletes, syncs, times. The page shows what the views show to the caller. It has its style and pictures inside, and no
 * script. Parameters: one account, or null for all; length of the period. Returns HTML.
 */
CREATE FUNCTION @extschema@.lp_report(account text DEFAULT NULL, since interval DEFAULT '30 days') RETURNS text
	AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL RESTRICTED COST 10000;
COMMENT ON FUNCTION @extschema@.lp_report(text, interval)
	IS 'one HTML page for managers about the requests of a period until now: people without a user and what to do, users per day, updates and deletes, syncs, times';

# shellcheck shell=bash disable=SC2154,SC2034	# variables of run.sh and setup.sh
#
# group_sync.sh: the desired state: plans, runs, and what waits for whom.  To be sourced by run.sh.
# shellcheck source=test/bench/group_scan.sh
. "$here/group_scan.sh"
# shellcheck source=test/bench/group_latency.sh
. "$here/group_latency.sh"

answer_ms=20

# source_rows N: that many people who are as users.awk has made the users: ten attributes and the key.
source_rows()
{
	echo "SELECT i AS key, 'user' || lpad(i::text, 6, '0') || '@example.com' AS login_name,
		'user' || lpad(i::text, 6, '0') || '@example.com' AS email, 'Full Name ' || i AS full_name, 'E' || lpad(i::text, 6, '0') AS employee_id,
		'nick' || i AS nickname, true AS is_enabled, 3 AS max_chats, '{1001,1002}'::bigint[] AS profile_ids,
		'{2001,2002,2003}'::bigint[] AS skill_ids, 3000 + i % 1000 AS member_of FROM generate_series(0, $1 - 1) i"
}

# synced N: an account of N users, all of them linked by a sync, and nothing differs.  The links are those of a plan that adopts them, which
# to deliver would take long.
synced()
{
	load_users "$1"
	ask -c 'TRUNCATE lp_requests, lp_payloads, _lp_sync, _lp_sync_link, _lp_sync_plan, _lp_sync_item, _lp_sync_mark' \
		-c 'DROP TABLE IF EXISTS people CASCADE' -c 'SET ROLE bench_plain' -c "CREATE TABLE people AS $(source_rows "$1")" \
		-c 'ALTER TABLE people ADD PRIMARY KEY (key)' -c 'ANALYZE people' \
		-c "SELECT FROM lp_sync_define('people', '12345678', 'people', 'key', limits => '{\"adopt\": null, \"update\": null, \"disable\": null}')" \
		-c "SELECT lp_sync_plan('people')" \
		-c 'INSERT INTO _lp_sync_link (sync, source_key, user_id, login_name, state, by_us, base, hidden, date_updated) SELECT sync, source_key, user_id,
			login_name, $$active$$, false, base, hidden, date_updated FROM _lp_sync_item WHERE action = $$adopt$$' \
		-c "SELECT bench_expect(count(*), $1) FROM lp_sync_links" -c "SELECT bench_expect(count(*), 0) FROM lp_sync_diff('people')" \
		-c 'TRUNCATE lp_requests, lp_payloads, _lp_sync_plan, _lp_sync_item' -c 'VACUUM ANALYZE _lp_sync_link' >/dev/null
}

# One of a hundred has another number of chats in the source.
one_percent()
{
	ask -c 'UPDATE people SET max_chats = 4 WHERE key % 100 = 0' -c 'VACUUM ANALYZE people'
}

# What a plan may take: three counts of the listing, the source alone, and 0.15 s more.
allowed_plan()
{
	paste -d ' ' "$(values count)" "$(values source)" | awk '{ printf("%.1f - %.1f\n", $1 * 3 + $4 + 150, $3 * 3 + $6) }' >"$(values allowed)"
}

# grown STATEMENT: megabytes of its own that a session has at the peak of a statement, beyond those before it.
grown()
{
	local pid anon before=0 peak=0 fifo=$work/tmp/grown out=$work/tmp/grown.pid

	rm -f "$fifo" "$out"
	mkfifo "$fifo"
	psql -XqAt -v ON_ERROR_STOP=1 -o /dev/null <"$fifo" &
	exec 8>"$fifo"
	cat >&8 <<-END
		SET ROLE bench_plain;
		LOAD 'lpusers';
		$connected;
		\\o $out
		SELECT pg_backend_pid();
		\\o /dev/null
	END
	until [ -s "$out" ]; do sleep 0.05; done
	pid=$(cat "$out")
	before=$(anonymous "$pid")
	printf '%s;\n\\q\n' "$1" >&8
	exec 8>&-
	while anon=$(anonymous "$pid") && [ -n "$anon" ]; do
		[ "$anon" -le "$peak" ] || peak=$anon
		sleep 0.002
	done
	wait
	awk -v from="$before" -v to="$peak" 'BEGIN { printf("%.1f\n", (to - from) / 1024) }'
}

# Kilobytes of memory that a process shares with no other.
anonymous()
{
	sed -n 's/^RssAnon:[[:space:]]*\([0-9]*\) kB/\1/p' "/proc/$1/status" 2>/dev/null
}

# in_sync WHAT: requests, or rows written, of a run with nothing to do.
in_sync()
{
	local rows="SELECT sum(n_tup_ins) FROM pg_stat_all_tables WHERE relname ~ '^_lp_sync_(item|link|mark)|^lp_(requests|payloads)\$'" before

	before=$(ask -c "$rows")
	sim DELETE log >/dev/null
	ask -c 'SET client_min_messages = warning' -c 'SET ROLE bench_plain' -c "CALL lp_sync('people')" -c 'SELECT pg_stat_force_next_flush()' >/dev/null
	if [ "$1" = requests ]; then
		sim GET 'count?path=/api/account/'
	else
		echo $(($(ask -c "$rows") - before))
	fi
}

limit_put()
{
	configure "{\"delay_ms\": $answer_ms}"
	"$work/bin/limit_put" "$url$users_path" 900 100
	configure '{"delay_ms": 0}'
}

# A delivery of 900 updates that a run has queued; not of those that limit_put has written.
changes_delivered()
{
	ask -c 'UPDATE people SET max_chats = max_chats + 1 WHERE key BETWEEN 1000 AND 1899' -c 'SET client_min_messages = warning' -c 'SET ROLE bench_plain' \
		-c "CALL lp_sync('people')"
	configure "{\"delay_ms\": $answer_ms}"
	timed bench_plain 'SELECT' 'CALL lp_deliver()' \
		"(SELECT count(*) FROM lp_requests WHERE operation = 'update' AND state = 'done') = 900"
	configure '{"delay_ms": 0}'
	ask -c 'TRUNCATE lp_requests, lp_payloads'
}

# Milliseconds from COMMIT to done of a leaver, while 10,000 users are created.
leaver_beside_hires()
{
	ask -c 'TRUNCATE lp_requests, lp_payloads'
	configure '{"delay_ms": 200}'
	set_worker on 1min >/dev/null
	ask -c 'SET ROLE bench_plain' -c "SELECT count(*) FROM lp_enqueue_users('12345678', bench_users('hire$RANDOM.', 1, 10000))" >/dev/null
	wait_for 60 nothing_created
	ask -c "DELETE FROM people WHERE key = (SELECT max(key) FROM people)" -c 'SET client_min_messages = warning' -c 'SET ROLE bench_plain' -c "CALL lp_sync('people')"
	wait_for 120 leavers_left
	ask -c "SELECT round(extract(epoch FROM d.finished_at - d.enqueued_at) * 1000) FROM lp_requests d
		WHERE action = 'disable' AND EXISTS (SELECT FROM lp_requests c WHERE c.operation = 'create' AND (c.finished_at IS NULL OR c.finished_at > d.finished_at))"
	configure '{"delay_ms": 0}'
	wait_for 120 unfinished_creates
	set_worker off 3s >/dev/null
	wait_for 60 workers
}

nothing_created()
{
	ask -c "SELECT (NOT EXISTS (SELECT FROM lp_requests WHERE state = 'created'))::int"
}

leavers_left()
{
	ask -c "SELECT count(*) FROM lp_requests WHERE action = 'disable' AND state <> 'done'"
}

unfinished_creates()
{
	ask -c "SELECT count(*) FROM lp_requests WHERE state IN ('pending', 'sending', 'uncertain')"
}

# marked TABLE: of 10,000 rows.
marked()
{
	timed bench_plain "TRUNCATE _lp_sync_mark; UPDATE $1 SET n = n + 1 WHERE key < 10; VACUUM $1" "UPDATE $1 SET n = n + 1"
}

group_sync()
{
	local many some

	many=$(larger 100000 10000)
	some=$(larger 10000 1000)
	before_round() { ask -c 'TRUNCATE _lp_sync_plan, _lp_sync_item'; }
	synced "$many"
	one_percent
	contender count our_list "SELECT bench_expect(count(*), $many) FROM lp.users"
	contender source our_list "SELECT bench_expect(count(p), $many) FROM people p"
	contender diff our_list "SELECT bench_expect(count(*), $((many / 100))) FROM lp_sync_diff('people')"
	contender plan our_list "SELECT lp_sync_plan('people')" "(SELECT count(*) FROM _lp_sync_item) = $((many / 100))"
	contender memory grown "SELECT lp_sync_plan('people')"
	measure
	allowed_plan
	row "$many users, 10 attributes: lpusers, count(*) of the list" ms count
	row "...: the source alone" ms source
	row "...: lp_sync_diff(), 1 % differ" ms diff count
	row "...: lp_sync_plan(), 1 % differ" ms plan count
	row "...: against 3 counts, the source and 150 ms" ms plan allowed '<= 1'
	row_at_most "...: memory of a plan, work_mem 4 MB" MB memory 28

	before_round() { :; }
	synced "$some"
	contender requests in_sync requests
	contender rows in_sync rows
	measure
	row_at_most "$some users in sync, CALL lp_sync(): requests" n requests 4
	row_at_most "...: rows written" n rows 0

	synced 2000
	contender put limit_put
	contender updated changes_delivered
	measure
	row '900 updates, 20 ms: one list and 9 PUTs, plain C' ms put
	row '...: CALL lp_deliver() of a plan' ms updated put '<= 1.3'

	contender leaver leaver_beside_hires
	measure
	row_at_most "a leaver beside 10000 hires, 200 ms: COMMIT to done" ms leaver 2500

	ask -c 'SET ROLE bench_plain' -c 'DROP TABLE IF EXISTS unwatched, watched' -c 'CREATE TABLE unwatched AS SELECT i AS key, 0 AS n FROM generate_series(1, 10000) i' \
		-c 'CREATE TABLE watched AS TABLE unwatched' -c "SELECT FROM lp_sync_watch('watched', 'people', 'key')"
	contender unwatched marked unwatched
	contender watched marked watched
	measure
	row 'UPDATE of 10,000 rows: alone' ms unwatched
	row '...: with the triggers of lp_sync_watch()' ms watched unwatched '<= 2'
}

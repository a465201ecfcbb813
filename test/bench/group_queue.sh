# shellcheck shell=bash disable=SC2154,SC2034	# variables of run.sh and setup.sh
#
# group_queue.sh: filling the queue, and draining it.  To be sourced by run.sh.

queue_users=$(larger 10000 1000)

# insert TABLE: milliseconds of an INSERT of all rows, in a session that has done it once.
insert()
{
	timed bench_fast "TRUNCATE $1; INSERT INTO $1 VALUES (0, 'q0@example.com', 'Full Name', 1, true); DELETE FROM $1" \
		"INSERT INTO $1 SELECT i, 'q' || i || '@example.com', 'Full Name', 1, true FROM generate_series(1, $queue_users) i"
}

# The same, and then rows like those of the queue by plain SQL, with nothing to work out: what the trigger could take.
insert_floor()
{
	timed bench_fast "TRUNCATE plain, floor_requests, floor_payloads; CALL bench_floor(1); TRUNCATE plain, floor_requests, floor_payloads" \
		"CALL bench_floor($queue_users)"
}

# What is written down while all of it is delivered, by plain SQL: what a delivery could take if sending took no time.
drain_floor()
{
	timed bench_fast "TRUNCATE plain, floor_requests, floor_payloads; CALL bench_floor($queue_users)" 'CALL bench_drain_floor()'
}

# limit_send BATCH CONNECTIONS DELAY
limit_send()
{
	set_delay "$3"
	"$work/bin/limit_multi" "$fast_url$users_path" "$queue_users" "$1" "$2" l.
}

# drain BATCH CONNECTIONS DELAY: milliseconds of a delivery of as many users as there are rows.
drain()
{
	fresh
	insert hooked >/dev/null
	ask -c "DELETE FROM lp_requests WHERE login_name = 'q0@example.com'"
	ask -c "ALTER SERVER fast OPTIONS (SET batch_size '$1', SET max_connections '$2')"
	set_delay "$3"
	timed bench_fast 'SELECT' 'CALL lp_deliver()' \
		"(SELECT count(*) FROM lp_requests WHERE state = 'created') = $queue_users"
}

# The same, as the account saw it: milliseconds from the first request to the end of the last one.
sent()
{
	fast GET span >/dev/null
	drain "$@" >/dev/null && fast GET span
}

# With pgsql-http: batches of rows made to JSON, the answers read and written down.
http_send()
{
	[ -n "$have_http" ] || { echo n/a; return; }
	insert plain >/dev/null
	set_delay "$2"
	timed bench_fast 'CREATE TEMP TABLE outcome (login text, id bigint, status int)' \
		"INSERT INTO outcome SELECT u.\"loginName\", u.id, r.status
		 FROM (SELECT json_agg(json_build_object('loginName', email, 'fullName', name, 'nickname', name, 'email', email,
		 			'passwordSh', 'Start-1234', 'isEnabled', active, 'maxChats', 3, 'profileIds', ARRAY[1001])) AS body
		 		FROM plain GROUP BY (id - 1) / $1) b,
		 	LATERAL http_account('POST', '$fast_url$users_path', b.body::text) r,
		 	LATERAL jsonb_to_recordset(r.content::jsonb) AS u(\"loginName\" text, id bigint)" \
		"(SELECT count(id) FROM outcome WHERE status = 201) = $queue_users"
}

# With pg_net: the same batches, all of them in its table at once; what came of a user is not written down.
net_send()
{
	[ -n "$have_net" ] || { echo n/a; return; }
	insert plain >/dev/null
	set_delay "$2"
	timed bench_fast "TRUNCATE net._http_response;
		CREATE TEMP TABLE batch AS SELECT jsonb_agg(jsonb_build_object('loginName', email, 'fullName', name, 'nickname', name,
			'email', email, 'passwordSh', 'Start-1234', 'isEnabled', active, 'maxChats', 3, 'profileIds', ARRAY[1001])) AS body
			FROM plain GROUP BY (id - 1) / $1" \
		"CALL net_send('$fast_url$users_path')" \
		"(SELECT count(*) FROM net._http_response WHERE status_code = 201) = $queue_users / $1"
}

# Bytes of a user who is queued and delivered: in the write-ahead log, and in lp_requests afterwards.
wal_of_user()
{
	local before=''

	fresh
	before=$(ask -c 'SELECT pg_current_wal_insert_lsn()')
	insert hooked >/dev/null && ask -c 'SET client_min_messages = warning' -c 'SET ROLE bench_fast' -c 'CALL lp_deliver()'
	ask -c "SELECT round((pg_current_wal_insert_lsn() - '$before') / $queue_users)"
}

# Right after wal_of_user.
disk_of_user()
{
	ask -c 'VACUUM FULL lp_requests'
	ask -c "SELECT round(pg_total_relation_size('lp_requests')::numeric / $queue_users)"
}

# Changes of users that the account has: with a delay for each answer of the account that behaves as one.
change_users=$(larger 10000 1000)
change_requests=$((change_users / 100))

# serial_puts DELAY: milliseconds of the same users put back, 100 a request, one request after the other, by curl.
serial_puts()
{
	local i begun

	load_users "$change_users"
	configure '{"select_all": false}'
	for ((i = 0; i < change_requests; i++)); do
		awk -v from=$((i * 100)) -v to=$((i * 100 + 100)) -f "$top/test/bench/users.awk" >"$work/tmp/put.$i"
		[ "$i" = 0 ] || echo next
		printf '%s\n' "url = \"$url$users_path\"" 'request = PUT' 'output = /dev/null' 'fail' \
			'header = "Authorization: Bearer lp-token"' 'header = "Content-Type: application/json"' 'header = "If-Match: -1"' \
			"data-binary = \"@$work/tmp/put.$i\""
	done >"$work/tmp/puts"
	configure "{\"delay_ms\": $1}"
	begun=${EPOCHREALTIME/,/.}
	curl -sS -K "$work/tmp/puts" || return
	awk -v from="$begun" -v to="${EPOCHREALTIME/,/.}" 'BEGIN { printf "%.1f - 0\n", (to - from) * 1000 }'
	configure '{"delay_ms": 0}'
}

# queued_changes DELAY: milliseconds of a delivery of as many changes.
queued_changes()
{
	fresh
	load_users "$change_users"
	configure '{"select_all": false}'
	ask -c 'SET ROLE bench_plain' -c "SELECT count(*) FROM lp_enqueue_changes('12345678', (SELECT jsonb_agg(jsonb_build_object(
		'id', 5000000000 + i, 'maxChats', 7, 'fullName', 'Full Name', 'employeeId', i::text)) FROM generate_series(1, $change_users) i))" >/dev/null
	configure "{\"delay_ms\": $1}"
	timed bench_plain 'SELECT' 'CALL lp_deliver()' "(SELECT count(*) FROM lp_requests WHERE state = 'done') = $change_users"
	configure '{"delay_ms": 0}'
}

group_queue()
{
	contender plain insert plain
	contender floor insert_floor
	contender hooked insert hooked
	contender c_20 limit_send 100 8 20
	contender sent_20 sent 100 8 20
	contender ours_20 drain 100 8 20
	contender drain_floor drain_floor
	contender c_0 limit_send 1000 8 0
	contender ours_0 drain 1000 8 0
	contender puts_20 serial_puts 20
	contender changes_20 queued_changes 20
	contender wal wal_of_user
	contender disk disk_of_user
	peer http_0 http_send 1000 0
	peer net_20 net_send 100 20
	peer http_20 http_send 100 20
	measure
	row "INSERT of $queue_users rows: alone" ms plain
	row "INSERT of $queue_users rows: and rows like the queue's by plain SQL" ms floor plain
	row "INSERT of $queue_users rows: with the trigger to the queue" ms hooked plain '<= 3.5'
	row '...: against the same rows by plain SQL' ms hooked floor '<= 1.3'
	row "send $queue_users, 100 a request, 8 connections, 20 ms: plain C" ms c_20
	row "...: lpusers, from the first request to the last answer" ms sent_20 c_20 '<= 1.1'
	row "...: lpusers, CALL lp_deliver()" ms ours_20 c_20 '<= 1.3'
	row "...: pgsql-http, one connection, no queue" ms http_20 c_20
	row "...: pg_net, all requests at once, the users' outcomes not recorded" ms net_20 c_20
	row "send $queue_users, 1000 a request, 8 connections, 0 ms: plain C" ms c_0
	row "...: what is written down meanwhile, by plain SQL at once" ms drain_floor c_0
	row "...: pgsql-http, which keeps no queue" ms http_0 c_0
	row "...: lpusers, CALL lp_deliver()" ms ours_0 c_0
	row "...: lpusers against pgsql-http" ms ours_0 http_0 '>= 2.8'
	row "change $change_users, 100 a request, 1 connection, 20 ms: curl, PUTs only" ms puts_20
	row '...: lpusers, CALL lp_deliver(), queued changes' ms changes_20 puts_20 '<= 1.3'
	row 'a user, queued and delivered: write-ahead log, no full pages' B wal
	row 'a user, delivered: what is kept in lp_requests, with indexes' B disk
}

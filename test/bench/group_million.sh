# shellcheck shell=bash disable=SC2154,SC2034	# variables of run.sh and setup.sh
#
# group_million.sh: a million users, once through everything.  To be sourced by run.sh.  It takes some minutes, and is
# measured once: what counts here is that nothing grows with the number.
# shellcheck source=test/bench/group_queue.sh
. "$here/group_queue.sh"
# shellcheck source=test/bench/group_memory.sh
. "$here/group_memory.sh"

# private_peak N: mebibytes that a backend needs for one INSERT of so many rows at the most, without what it shares.
private_peak()
{
	fresh
	psql -XqAt -v ON_ERROR_STOP=1 <<-END
		SET ROLE bench_fast;
		INSERT INTO hooked SELECT i, 'q' || i || '@example.com', 'Full Name', 1, true FROM generate_series(1, $1) i;
		SELECT round((substring(status FROM 'VmHWM:\s+(\d+)')::numeric - substring(status FROM 'RssShmem:\s+(\d+)')::numeric) / 1024, 1)
		FROM pg_read_file('/proc/self/status') status;
	END
}

# A queue of that many; others are waiting behind whatever is claimed.
million_queued()
{
	queue_users=$1
	before_round() { fresh; }
	contender "insert_$1" per_user "$1" insert hooked
	contender "drain_$1" per_user "$1" drain 1000 8 0
	contender "wal_$1" wal_of_user
	contender "disk_$1" disk_of_user
	measure
	row "$1 users: trigger to the queue, a row" us "insert_$1"
	row "$1 users: drained, 1000 a request, 8 connections, 0 ms, a user" us "drain_$1"
	row "$1 users: write-ahead log of a user" B "wal_$1"
	row "$1 users: kept of a user" B "disk_$1"
}

# An account of that many.
million_listed()
{
	before_round() { :; }
	load_users "$1"
	contender "read_$1" per_user "$1" limit_list read
	contender "count_$1" per_user "$1" our_list "SELECT bench_expect(count(*), $1) FROM lp.users"
	contender "table_$1" per_user "$1" table_made 'SELECT * FROM lp.twelve' "$connected" "$1"
	measure
	row "$1 users: download and read, plain C, a user" us "read_$1"
	row "$1 users: lpusers, count(*), a user" us "count_$1" "read_$1"
	row "$1 users: lpusers, CREATE TABLE AS, 12 columns, a user" us "table_$1" "read_$1"
}

# What is shown of that many requests of three months, which are done for a day and more.
million_shown()
{
	fresh
	ask -c "INSERT INTO lp_requests (account, operation, path, server, requested_by, requested_by_oid, send_as, send_as_oid,
			login_name, state, attempts, origin, enqueued_at, finished_at, user_id, status, evidence)
		SELECT '12345678', 'create', 'queue', 'fast', current_user, r, current_user, r, 'u' || i || '@example.com', 'created', 1,
			lp_origin(), at, at + interval '2 s', 4000000000 + i, 201, 'answer'
		FROM generate_series(1, $1) i, (SELECT current_user::regrole::oid r) x,
			LATERAL (SELECT now() - interval '1 day 1 minute' - interval '89 days' * ($1 - i) / $1 AS at) y" -c 'VACUUM ANALYZE lp_requests'
	before_round() { :; }
	contender "report_$1" timed "$PGUSER" 'SELECT' 'SELECT lp_report()'
	contender "progress_$1" timed "$PGUSER" 'SELECT' 'SELECT * FROM lp_progress'
	rounds=3 measure
	row_at_most "$1 requests of 90 days: lp_report()" ms "report_$1" 1000
	row_at_most "$1 requests of 90 days: lp_progress" ms "progress_$1" 20
}

group_million()
{
	local rounds=1 few many

	few=$(larger 10000 1000)
	many=$(larger 1000000 10000)
	million_queued "$few"
	million_queued "$many"
	series peak_few private_peak "$few"
	series peak_many private_peak "$many"
	paste -d ' ' "$(values peak_few)" "$(values peak_many)" | awk '{ print $2 - $1 }' >"$(values insert_growth)"
	row_at_most "peak of memory, INSERT of $many rows with the trigger against $few" MB insert_growth 64
	million_listed "$many"
	million_shown "$many"
}

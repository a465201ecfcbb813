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
}

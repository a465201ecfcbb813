# shellcheck shell=bash disable=SC2154,SC2034	# variables of run.sh and setup.sh
#
# group_growth.sh: how time, memory and descriptors grow: users in the queue and in a plan, accounts of one backend and of
# one delivery.  To be sourced by run.sh.  Scans are in group memory, databases in test/databases.sh, a million users in
# the queue in group million.
# shellcheck source=test/bench/group_queue.sh
. "$here/group_queue.sh"
# shellcheck source=test/bench/group_memory.sh
. "$here/group_memory.sh"
# shellcheck source=test/bench/group_sync.sh
. "$here/group_sync.sh"

growth_queue()
{
	local n

	for n in "$@"; do
		queue_users=$n
		before_round() { fresh; }
		contender "insert_$n" per_user "$n" insert hooked
		contender "drain_$n" per_user "$n" drain 100 8 0
		measure
		row "$n users: trigger to the queue, a row" us "insert_$n"
		row "$n users: drained, 100 a request, 8 connections, 0 ms, a user" us "drain_$n"
	done
}

# One user of a hundred differs.
growth_plan()
{
	local n

	for n in "$@"; do
		before_round() { ask -c 'TRUNCATE _lp_sync_plan, _lp_sync_item'; }
		synced "$n"
		one_percent
		contender "plan_$n" per_user "$n" our_list "SELECT lp_sync_plan('people')" "(SELECT count(*) FROM _lp_sync_item) = $((n / 100))"
		contender "memory_$n" grown "SELECT lp_sync_plan('people')"
		measure
		row "$n users: lp_sync_plan(), 1 % differ, a user" us "plan_$n"
		row '...: memory, MB' MB "memory_$n"
	done
}

# many_accounts N: servers of as many accounts, account 20000001 and so on.
many_accounts()
{
	psql -XqAt -v ON_ERROR_STOP=1 >/dev/null <<-END
		SET ROLE bench_plain;
		SELECT format('CREATE SERVER many%s FOREIGN DATA WRAPPER lpusers OPTIONS (account %L, base_url %L)', i, 20000000 + i, '$url'),
			format('CREATE USER MAPPING FOR bench_plain SERVER many%s OPTIONS (token %L)', i, 'lp-token')
		FROM generate_series((SELECT count(*) FROM pg_foreign_server WHERE srvname ~ '^many') + 1, $1) i
		\\gexec
	END
}

# each_account N STATEMENT [CONDITION]: milliseconds of a statement over the accounts, an account; then what the session
# has: peak of memory, and open descriptors in place of the time that it worked.
each_account()
{
	psql -XqAt -F ' ' -v ON_ERROR_STOP=1 <<-END
		SET ROLE bench_plain;
		SET client_min_messages = warning;
		SET lpusers.log_calls = off;
		SELECT clock_timestamp() AS begun \\gset
		\\o /dev/null
		$2;
		\\o
		SELECT round(extract(epoch FROM clock_timestamp() - :'begun') * 1000 / $1, 3), bench_peak(),
			(SELECT count(*) FROM pg_ls_dir('/proc/self/fd')) WHERE ${3:-true};
	END
}

called_accounts()
{
	each_account "$1" "SELECT bench_expect(count(*) FILTER (WHERE c.status = 201), $1)
		FROM generate_series(1, $1) i, LATERAL lp_create_users((20000000 + i)::text, bench_users('k' || i || '.', 1, 1)) c"
}

delivered_accounts()
{
	ask -c 'TRUNCATE lp_requests, lp_payloads'
	ask -c 'SET ROLE bench_plain' -c "SELECT count(*) FROM generate_series(1, $1) i,
		LATERAL lp_enqueue_users((20000000 + i)::text, bench_users('d' || i || '.', 1, 1))" >/dev/null
	each_account "$1" 'CALL lp_deliver()' "(SELECT count(*) FROM lp_requests WHERE state = 'created') = $1"
}

growth_accounts()
{
	local n

	for n in "$@"; do
		before_round() { sim POST reset >/dev/null; }
		many_accounts "$n"
		contender "calls_$n" called_accounts "$n"
		contender "delivered_$n" delivered_accounts "$n"
		measure
		row "$n accounts: one call each in one session, a call (worked: descriptors)" ms "calls_$n"
		row "$n accounts: one user each, one delivery, a user (worked: descriptors)" ms "delivered_$n"
	done
	ask -c "SELECT format('DROP SERVER %I CASCADE', srvname) FROM pg_foreign_server WHERE srvname ~ '^many'" >"$work/tmp/drop"
	ask -f "$work/tmp/drop" 2>/dev/null
}

group_growth()
{
	local rounds=$((rounds > 3 ? 3 : rounds))

	if [ -n "$quick" ]; then
		growth_queue 100 1000
		growth_plan 100 1000
		growth_accounts 1 20
	else
		growth_queue 100 1000 10000 100000
		growth_plan 100 1000 10000 100000 1000000
		growth_accounts 1 20 100 400
	fi
}

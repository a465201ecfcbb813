# shellcheck shell=bash disable=SC2154,SC2034	# variables of run.sh and setup.sh
#
# group_latency.sh: how soon things happen: from COMMIT to the request, and from a cancel to its end.  To be sourced by
# run.sh.  Here a median is one of single events, not of rounds.
# shellcheck source=test/bench/group_scan.sh
. "$here/group_scan.sh"

set_worker()
{
	ask -c "LOAD 'lpusers'" -c "ALTER SYSTEM SET lpusers.worker = $1" -c "ALTER SYSTEM SET lpusers.idle_timeout = '$2'" \
		-c 'SELECT FROM pg_reload_conf()'
}

workers()
{
	ask -c "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE '%lpusers%'"
}

# wait_for SECONDS COMMAND...: until it prints 0.
wait_for()
{
	local i

	for ((i = 0; i < $1 * 20; i++)); do
		[ "$("${@:2}")" != 0 ] || return 0
		sleep 0.05
	done
	die "timed out: ${*:2}"
}

unfinished()
{
	ask -c "SELECT count(*) FROM lp_requests WHERE state <> 'created'"
}

# commits PREFIX N PAUSE: milliseconds from each commit to the arrival of its login at the account.
commits()
{
	ask -c 'SET ROLE bench_plain' -c "CALL bench_commits('$1', $2, $3)"
	wait_for 60 unfinished
	sim GET log >"$work/tmp/log"
	psql -XqAt -v ON_ERROR_STOP=1 -v prefix="$1" <<-END
		\\set log \`cat '$work/tmp/log'\`
		SELECT round(extract(epoch FROM to_timestamp((entry->>'at')::float8) - c.at) * 1000, 2)
		FROM jsonb_array_elements(:'log'::jsonb) entry, jsonb_array_elements_text(entry->'logins') AS seen (login)
		JOIN commits c USING (login) WHERE login LIKE :'prefix' || '%' ORDER BY c.at;
	END
}

# Each time after the last worker has left.
commits_to_start()
{
	local i

	for ((i = 0; i < $1; i++)); do
		wait_for 60 workers
		commits "start$i." 1 0
	done
}

group_commits()
{
	local n

	n=$(larger 50 10)
	fresh
	set_worker on 1min
	commits warm. 1 0 >/dev/null
	series running commits run. "$n" 0.05
	series back_to_back commits back. "$n" 0
	set_worker on 100ms
	series started commits_to_start "$(larger 20 3)"
	set_worker off 3s
	wait_for 60 workers
	row_at_most 'COMMIT to request, worker running, every 50 ms' ms running 20
	row_at_most 'COMMIT to request, worker running, back to back' ms back_to_back 20
	row_at_most 'COMMIT to request, worker to be started' ms started 150
}

# cancelled ROLE STATEMENT: milliseconds from the time-out of a statement to its end; nothing unless it is a cancel.
cancelled()
{
	local patience=700

	psql -XqAt <<-END
		SET ROLE $1;
		SET client_min_messages = warning;
		LOAD 'lpusers';
		SET statement_timeout = $patience;
		SELECT clock_timestamp() AS begun \\gset
		\\o /dev/null
		$2;
		\\o
		SELECT round(extract(epoch FROM clock_timestamp() - :'begun') * 1000 - $patience, 2)
		WHERE :'LAST_ERROR_SQLSTATE' = '57014';
	END
}

# phase LABEL NAME COMMAND...: so often.
phase()
{
	contender "$2" "${@:3}"
	phases+=("$2|$1")
}

# start_peer SCRIPT: a peer of test/perl/LpPeer.pm in the background; sets $peer_url.
start_peer()
{
	local file

	file=$(mktemp "$work/tmp/peer.XXXXXX")
	perl -I"$top/test/perl" -MLpPeer -e '$| = 1; my $peer = eval shift; print $peer ? $peer->url : "none", "\n"; sleep' \
		"$1" >"$file" 2>/dev/null 3>&- 4>&- &
	helpers+=($!)
	until [ -s "$file" ]; do sleep 0.05; done
	peer_url=$(cat "$file")
}

# account_at NAME URL [OPTIONS]: a server for an account that is elsewhere.
account_at()
{
	ask -c "CREATE SERVER at_$1 FOREIGN DATA WRAPPER lpusers OPTIONS (account '$1', base_url '$2', connect_timeout '100s'${3:+, $3})" \
		-c "CREATE USER MAPPING FOR bench_plain SERVER at_$1 OPTIONS (token 'lp-token')"
}

call_of()
{
	echo "SELECT status FROM lp_create_users('$1', bench_users('$2', 1, 1)${3:-})"
}

# with_fault FAULT COMMAND...
with_fault()
{
	sim DELETE faults >/dev/null
	fault "$1"
	"${@:2}"
	sim DELETE faults >/dev/null
}

delivery_cancelled()
{
	ask -c 'TRUNCATE lp_requests, lp_payloads, hooked_plain'
	ask -c 'SET ROLE bench_plain' -c "INSERT INTO hooked_plain VALUES (1, 'late@example.com', 'Full Name', 1, true)"
	cancelled bench_plain 'CALL lp_deliver()'
}

cancel_phases()
{
	local silence='"action": "silence", "seconds": 100, "times": 0' post='"method": "POST", "path": "/users"'

	phases=()
	account_at resolve http://account.slow.test
	phase 'resolving the name' resolve cancelled bench_plain "$(call_of resolve a)"
	start_peer 'LpPeer::full_backlog()'
	if [ "$peer_url" != none ]; then
		account_at connect "$peer_url"
		phase 'connecting' connect cancelled bench_plain "$(call_of connect b)"
	fi
	start_peer 'LpPeer::start(LpPeer::silent())'
	account_at handshake "https${peer_url#http}"
	phase 'TLS handshake' handshake cancelled bench_plain "$(call_of handshake c)"
	start_peer 'LpPeer::start(LpPeer::deaf(), receive => 65536)'
	account_at send "$peer_url"
	phase 'sending' send cancelled bench_plain \
		"$(call_of send d " || jsonb_build_array(bench_users('e', 1, 1)->0 || jsonb_build_object('description', repeat('x', 8000000)))")"
	phase 'waiting for the answer' answer with_fault "{$post, $silence}" cancelled bench_plain "$(call_of 12345678 f)"
	phase 'the answer drips' drip with_fault "{$post, \"action\": \"drip\", \"bytes\": 1, \"ms\": 1000, \"times\": 0}" \
		cancelled bench_plain "$(call_of 12345678 g)"
	phase 'waiting after a 429' later with_fault "{$post, \"action\": \"retry_after\", \"value\": \"30\"}" \
		cancelled bench_plain "$(call_of 12345678 h)"
	phase 'CALL lp_deliver() waits' deliver with_fault "{$post, $silence}" delivery_cancelled
	phase 'a list drips' list with_fault '{"method": "GET", "action": "drip", "bytes": 1000, "ms": 50, "times": 0}' \
		cancelled bench_plain 'SELECT count(*) FROM lp.users'
	phase 'a list at full speed' full cancelled bench_plain \
		'SELECT count(*) FROM lp.users a, lp.twelve b, generate_series(1, 100)'
	phase 'INSERT into the foreign table waits' insert with_fault "{$post, $silence}" cancelled bench_plain \
		"INSERT INTO lp.users (login_name, full_name, nickname, email, password_sh, is_enabled, max_chats, profile_ids)
			VALUES ('i@example.com', 'Full Name', 'nick', 'i@example.com', 'Start-1234', true, 3, '{1001}')"
}

group_latency()
{
	local entry

	group_commits
	load_users "$(larger 100000 10000)"
	before_round() { :; }
	cancel_phases
	measure
	for entry in "${phases[@]}"; do
		row_at_most "cancel while: ${entry#*|}" ms "${entry%%|*}" 50
	done
	touch "$work/tmp/go"
}

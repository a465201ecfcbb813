# shellcheck shell=bash disable=SC2154,SC2034	# variables of run.sh and setup.sh
#
# database.sh: the server that is measured, and how a statement is.  To be sourced.

ask()
{
	psql -XqAt -v ON_ERROR_STOP=1 "$@" </dev/null
}

start_database()
{
	local preload=''

	[ ! -e "$("$PG_CONFIG" --pkglibdir)/pg_net.so" ] || preload=pg_net
	LD_PRELOAD=$top/test/slowdns.so SLOWDNS_DIR=$work/tmp start_server autovacuum=off max_wal_size=4GB \
		"shared_preload_libraries=$preload"
	ask -c "LOAD 'lpusers'" -c 'ALTER SYSTEM SET lpusers.worker = off' -c 'SELECT FROM pg_reload_conf()'
	ask -v fast_url="$fast_url" -v url="$url" -v tls_url="$tls_url" -v http2_url="${http2_url:-https://127.0.0.1:1}" -v ca="$work/certs/ca.pem" \
		-v bundle="$work/certs/bundle.pem" -f "$top/test/bench/bench.sql"
}

# What else could be used: $have_http, $have_curl, $have_net, $have_python.
add_peers()
{
	have_http=$(add_peer http http)
	have_curl=$(add_peer pg_curl curl)
	have_net=$(add_peer pg_net net)
	have_python=$(add_peer plpython3u python)
}

# add_peer EXTENSION FILE: make it and what it needs if it can be had.
add_peer()
{
	[ "$(ask -c "SELECT count(*) FROM pg_available_extensions WHERE name = '$1'")" = 1 ] || return 0
	ask -c "CREATE EXTENSION $1" && ask -v url="$url" -f "$top/test/bench/peer_$2.sql" && echo yes
}

# timed ROLE BEFORE STATEMENT [CONDITION]: milliseconds of a statement in a session that has carried out another one, the
# peak of the session's memory in MB, and for how many of the milliseconds its processor worked.  Nothing if the condition
# is not true afterwards.
timed()
{
	psql -XqAt -F ' ' -v ON_ERROR_STOP=1 <<-END
		SET ROLE $1;
		SET client_min_messages = warning;
		LOAD 'lpusers';
		\\o /dev/null
		$2;
		\\o
		SELECT clock_timestamp() AS begun, bench_worked() AS begun_work \\gset
		\\o /dev/null
		$3;
		\\o
		SELECT round(extract(epoch FROM clock_timestamp() - :'begun') * 1000, 2), bench_peak(),
			round(bench_worked() - :begun_work, 2) WHERE ${4:-true};
	END
}

# The account, and the queue of the database, as at the beginning.
fresh()
{
	sim POST reset >/dev/null
	set_delay 0
	ask -c 'TRUNCATE lp_requests, lp_payloads, plain, hooked, hooked_plain'
}

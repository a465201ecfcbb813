#!/bin/bash
#
# databases.sh: what many databases, or many accounts, cost on one server.
#
#	bash test/databases.sh
#
# Some databases ask for a worker at the same time, with the default
# max_worker_processes of 8 and with more; then one database has some accounts.
# The stand-in account takes half a second for each request.  Prints how many
# workers came, how much memory each has of its own, how many files it has open,
# how long it took, and what was left: the figures in docs/operations.md.

# shellcheck disable=SC2119
set -euo pipefail
# shellcheck source=test/setup.sh
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

ask()
{
	psql -XqAt -v ON_ERROR_STOP=1 "$@"
}

# users ACCOUNT N: a statement that queues them.
users()
{
	cat <<-END
		SELECT count(*) FROM lp_enqueue_users('$1', (SELECT jsonb_agg(jsonb_build_object(
			'loginName', 'u' || n || '@example.com', 'email', 'u' || n || '@example.com', 'fullName', 'N N', 'nickname', 'N',
			'passwordSh', 'Aa1!' || gen_random_uuid(), 'isEnabled', true, 'maxChats', 3, 'profileIds', '[1]'::jsonb,
			'memberOf', '{"agentGroupId": 1}'::jsonb)) FROM generate_series(1, $2) n))
	END
}

# account DATABASE NAME ID: a server in that database.
account()
{
	ask -d "$1" -c "CREATE SERVER $2 FOREIGN DATA WRAPPER lpusers OPTIONS (account '$3', base_url '$LPSIM_URL')" \
		-c "CREATE USER MAPPING FOR CURRENT_USER SERVER $2 OPTIONS (token 'lp-token')"
}

workers()
{
	ask -c "SELECT pid FROM pg_stat_activity WHERE backend_type = 'lpusers worker'"
}

# Megabytes that a process has for itself.
own_memory()
{
	awk '/^Private/ { kb += $2 } END { printf "%.1f", kb / 1024 }' "/proc/$1/smaps_rollup" 2>/dev/null || true
}

# descriptors PID: how many files and connections it has open.
descriptors()
{
	find "/proc/$1/fd" -type l 2>/dev/null | wc -l
}

# left DATABASE...: users who are not created.
left()
{
	local db

	for db in "$@"; do
		ask -d "$db" -c "SELECT count(*) FROM lp_requests WHERE state <> 'created'"
	done | awk '{ n += $1 } END { print n }'
}

# watch WHAT BEGUN DATABASE...: until everything is delivered, or no worker is left, and the launcher has started none for
# longer than it waits.
watch()
{
	local what=$1 begun=$2 pids pid most=0 memory='' files='' rest alone=0

	shift 2
	while :; do
		pids=$(workers)
		rest=$(left "$@")
		if [ "$(wc -w <<<"$pids")" -gt "$most" ]; then
			most=$(wc -w <<<"$pids")
			memory=$(for pid in $pids; do own_memory "$pid"; echo; done | sort -n | tail -n 1)
			files=$(for pid in $pids; do descriptors "$pid"; done | sort -n | tail -n 1)
		fi
		if [ -n "$pids" ]; then alone=0; else alone=$((alone + 1)); fi
		if [ "$rest" = 0 ] || [ "$alone" = 150 ]; then break; fi
		sleep 0.1
	done
	printf '%-50s %8d %8s %8s %8s %8d\n' "$what" "$most" "$memory" "$files" \
		"$(awk -v a="$begun" -v b="$(date +%s%N)" 'BEGIN { printf "%.1f", (b - a) / 1e9 }')" "$rest"
}

# The account as at the beginning, half a second a request, and no worker that is about to leave.
fresh()
{
	curl -sS -o /dev/null -X POST "$LPSIM_URL/_sim/reset"
	curl -sS -o /dev/null -d '{"delay_ms": 500}' "$LPSIM_URL/_sim/config"
	while [ -n "$(workers)" ]; do sleep 0.1; done
}

# databases N: as many with an account each, all of which ask at once.
databases()
{
	local i begun names=()

	for ((i = 1; i <= $1; i++)); do names+=("db$i"); done
	for i in "${names[@]}"; do
		[ "$(ask -c "SELECT count(*) FROM pg_database WHERE datname = '$i'")" = 0 ] || continue
		ask -c "CREATE DATABASE $i"
		ask -d "$i" -c 'CREATE EXTENSION lpusers'
		account "$i" acme 12345678
	done
	fresh
	begun=$(date +%s%N)
	for i in "${names[@]}"; do
		ask -d "$i" -c 'TRUNCATE lp_requests, lp_payloads' -c "$(users 12345678 10 | sed "s/'u'/'$i'/g")" >/dev/null
	done
	watch "$1 databases, max_worker_processes = $(ask -c 'SHOW max_worker_processes')" "$begun" "${names[@]}"
}

# accounts N: of one database.
accounts()
{
	local i begun

	ask -c 'CREATE EXTENSION IF NOT EXISTS lpusers'
	ask -c 'TRUNCATE lp_requests, lp_payloads'
	for ((i = 1 + $(ask -c 'SELECT count(*) FROM pg_foreign_server'); i <= $1; i++)); do
		account postgres "acme$i" "$((10000000 + i))"
	done
	fresh
	begun=$(date +%s%N)
	for ((i = 1; i <= $1; i++)); do users "$((10000000 + i))" 10 | sed "s/'u'/'a$i.'/g"; echo ';'; done |
		ask -1 >/dev/null
	watch "1 database with $1 accounts" "$begun" postgres
}

play()
{
	printf '%-50s %8s %8s %8s %8s %8s\n' '' workers MB files seconds left
	databases 1
	databases 13
	stop_server
	start_server max_worker_processes=80 max_connections=200
	databases 13
	databases 64
	accounts 20
	accounts 400
}

need_packages
drop_root "$@"
private_postgres
build all test/lpsim/lpsim
start_server shared_preload_libraries=lpusers lpusers.databases=postgres
export work top
mapfile -t functions < <(declare -F | awk '{ print $3 }')
export -f "${functions[@]}"
"$top/test/lpsim/lpsim" --account '*' -- bash -euo pipefail -c play databases.sh

#!/usr/bin/env bash
#
# run.sh [rounds [calls|queue]]: what a call and the queue cost, side by side with plain C and libcurl doing the same job.
#
# Rounds alternate between the two, over plain HTTP and TLS, so that whatever else the machine does hits both. The table
# has the median of the rounds in microseconds, and their ratio. The stand-in account's own time is in both.
set -euo pipefail
# shellcheck source=test/setup.sh
. "$(dirname "${BASH_SOURCE[0]}")/../setup.sh"

need_packages
drop_root "$@"
private_postgres
build all test/lpsim
rounds=${1:-5}
part=${2:-all}
gcc -O2 -Wall -Wextra -o "$work/limit" test/bench/limit.c $(pkg-config --cflags --libs libcurl 2>/dev/null || echo -lcurl)
gcc -O2 -Wall -Wextra -o "$work/limit_multi" test/bench/limit_multi.c $(pkg-config --cflags --libs libcurl 2>/dev/null || echo -lcurl)
make_certs "$work/certs"
start_server

cat >"$work/rows.sh" <<'ROWS'
set -euo pipefail
path=/api/account/12345678/configuration/le-users/users?v=4.0
psql -XqAt -v ON_ERROR_STOP=1 -v url="$LPSIM_URL" -v tls="$LPSIM_TLS_URL" -v ca="$CA" -f test/bench/bench.sql

median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

# row LABEL SERVER CALLS USERS URL [CA]
row()
{
	local label=$1 server=$2 calls=$3 users=$4 url=$5 ca=${6:-} n limits=() ours=()

	for n in $(seq "$ROUNDS"); do
		limits+=("$("$LIMIT" "$url$path" "$calls" "$users" "c.$server.$users.$n." $ca)")
		ours+=("$(psql -XqAt -c "SET lpusers.log_calls = off" -c "SELECT bench('$server', 's.$server.$users.$n.', $calls, $users)")")
	done
	c=$(printf '%s\n' "${limits[@]}" | median)
	s=$(printf '%s\n' "${ours[@]}" | median)
	awk -v l="$label" -v c="$c" -v s="$s" 'BEGIN { printf "%-44s %10.1f %10.1f %8.2f\n", l, c, s, s / c }'
}

printf '%-44s %10s %10s %8s\n' 'one call, in microseconds' 'plain C' lpusers ratio
row 'one user, kept connection' plain 1000 1 "$LPSIM_URL"
row '100 users' plain 50 100 "$LPSIM_URL"
row '1000 users' plain 10 1000 "$LPSIM_URL"
row 'one user, TLS, kept connection' tls 1000 1 "$LPSIM_TLS_URL" "$CA"
echo
psql -XqAt -c "SET lpusers.log_calls = off" -c "SELECT * FROM bench_reconnect(20)" | while IFS='|' read -r what us; do
	printf '%-44s %10s %10.1f\n' "$what" '' "$us"
done
ROWS
cat >"$work/queue_rows.sh" <<'ROWS'
set -euo pipefail
path=/api/account/12345678/configuration/le-users/users?v=4.0
psql -XqAt -c "LOAD 'lpusers'" -c "ALTER SYSTEM SET lpusers.worker = off" -c "SELECT FROM pg_reload_conf()"
psql -XqAt -v ON_ERROR_STOP=1 -v url="$LPSIM_URL" -f test/bench/queue.sql
median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
row() { awk -v l="$1" -v c="$2" -v s="$3" 'BEGIN { printf "%-44s %10.1f %10.1f %8.2f\n", l, c, s, s / c }'; }
# inserted FUNCTION ROUND: in a session that has done it once with one row, so that libraries and plans are there
inserted() { psql -XqAt -c "SET ROLE bench_queue" -c "SELECT ${1//N/1}" -c "SELECT ${1//N/10000}" | tail -n 1; }
plain=() bare=() hooked=() limit=() drain=()
for n in $(seq "$ROUNDS"); do
	plain+=("$(inserted "bench_insert('plain', 'p$n.' || N || '.', N)")")
	bare+=("$(inserted "bench_floor('f$n.' || N || '.', N)")")
	hooked+=("$(inserted "bench_insert('hooked', 'h$n.' || N || '.', N)")")
	limit+=("$("$LIMIT_MULTI" "$LPSIM_URL$path" 10000 100 8 "l$n.")")
	begin=$(date +%s%N)
	psql -XqAt -c "SET client_min_messages = warning" -c "CALL lp_deliver()"
	drain+=("$(awk -v a="$begin" -v b="$(date +%s%N)" 'BEGIN { print (b - a) / 1e6 }')")
done
echo
printf '%-44s %10s %10s %8s\n' 'in milliseconds' limit lpusers ratio
row 'INSERT of 10,000 rows, alone and with trigger' "$(printf '%s\n' "${plain[@]}" | median)" "$(printf '%s\n' "${hooked[@]}" | median)"
row '  ... and the same rows by plain SQL' "$(printf '%s\n' "${plain[@]}" | median)" "$(printf '%s\n' "${bare[@]}" | median)"
row 'send 10,000 users, account takes 20 ms' "$(printf '%s\n' "${limit[@]}" | median)" "$(printf '%s\n' "${drain[@]}" | median)"
psql -XqAt -c "SELECT 'left in the queue: ' || count(*) FROM lp_results WHERE path = 'queue' AND state <> 'created'"
ROWS
export LIMIT_MULTI=$work/limit_multi
export ROUNDS=$rounds LIMIT=$work/limit CA=$work/certs/ca.pem
psql -XqAt -c "CREATE EXTENSION lpusers"
[ "$part" = queue ] ||
	test/lpsim --tls-port 0 --tls-cert "$work/certs/server.pem" --tls-key "$work/certs/server.key" -- bash "$work/rows.sh"
[ "$part" = calls ] || test/lpsim --delay 20 -- bash "$work/queue_rows.sh"

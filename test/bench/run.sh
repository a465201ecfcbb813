#!/usr/bin/env bash
#
# run.sh: how fast lpusers is, side by side with plain C and with what could be used instead.
#
#	bash test/bench/run.sh [--quick] [--busy] [--pause] [--rounds N] [--output FILE] [GROUP ...]
#
#	--quick		smaller sizes and 3 rounds: does everything work?  Not for figures
#	--busy		the machine has other things to do: compare the smallest values
#	--pause		after each step do nothing for as long as it took: others use the machine, and this runs with priority
#	--rounds N	how often each row is measured (default 11)
#	--output	where the report goes (default lpusers-bench.md in the current directory)
#	GROUP		calls, tls, queue, scan, write, table, memory, latency, scale, sync or distance (default:
#				all these), or growth or million, which take some minutes each
#
# Builds a private copy, starts a private server and a stand-in account, and prints a table for each group: median,
# smallest and largest of the rounds, ratio, aim.  What is compared is measured in turn, round by round.  A peer that
# is not installed (pgsql-http, pg_curl and pg_net from their sources; Debian: postgresql-plpython3-NN, nghttp2-proxy) is
# n/a.  The exit status is 0 if
# everything could be measured, whatever came of it.
set -euo pipefail
# shellcheck source=test/setup.sh
. "$(dirname "${BASH_SOURCE[0]}")/../setup.sh"

usage()
{
	sed -n '5,12s/^#[[:space:]]\{0,1\}//p' "${BASH_SOURCE[0]}"
	exit "$1"
}

arguments=("$@")
rounds=11
quick=
busy=
pause=
output=lpusers-bench.md
groups=()
while [ $# -gt 0 ]; do
	case $1 in
		--quick) quick=yes; rounds=3 ;;
		--busy) busy=yes ;;
		--pause) pause=yes ;;
		--rounds) rounds=${2:?}; shift ;;
		--output) output=${2:?}; shift ;;
		-h | --help) usage 0 ;;
		calls | tls | queue | scan | write | table | memory | latency | scale | sync | distance | growth | million) groups+=("$1") ;;
		*) usage 2 >&2 ;;
	esac
	shift
done
[ ${#groups[@]} -gt 0 ] || groups=(calls tls queue scan write table memory latency scale sync distance)

# Opened by the caller, and kept when root is dropped.
if [ -z "${LPUSERS_WORK:-}" ]; then
	exec 3>&1 4>"$output"
	need_packages
fi
drop_root ${arguments[0]+"${arguments[@]}"}

here=$top/test/bench
helpers=()
# shellcheck source=test/bench/rows.sh
. "$here/rows.sh"
# shellcheck source=test/bench/account.sh
. "$here/account.sh"
# shellcheck source=test/bench/database.sh
. "$here/database.sh"

# larger SIZE SMALLER: the size, or the smaller one with --quick.
larger()
{
	if [ -z "$quick" ]; then echo "$1"; else echo "$2"; fi
}

at_exit()
{
	[ ${#helpers[@]} = 0 ] || kill "${helpers[@]}" 2>/dev/null
}

build_limits()
{
	local server=(-I"$("$PG_CONFIG" --includedir-server)" -I"$("$PG_CONFIG" --includedir)" -Isrc)
	local libs=(-L"$("$PG_CONFIG" --pkglibdir)" -L"$("$PG_CONFIG" --libdir)" -lpgcommon -lpgport)
	local curl json flags=(-O2 -Wall -Wextra -Wno-sign-compare)

	mkdir "$work/bin" "$work/values"
	read -r -a curl <<<"$(curl-config --cflags --libs | tr '\n' ' ')"
	read -r -a json <<<"$(pkg-config --cflags --libs json-c)"
	gcc "${flags[@]}" -o "$work/bin/limit" "$here/limit.c" "$here/limits.c" "${curl[@]}"
	gcc "${flags[@]}" -o "$work/bin/limit_put" "$here/limit_put.c" "$here/limits.c" "${curl[@]}"
	gcc "${flags[@]}" -o "$work/bin/limit_multi" "$here/limit_multi.c" "$here/limits.c" "${curl[@]}"
	gcc "${flags[@]}" -o "$work/bin/limit_get" "$here/limit_get.c" "$here/limits.c" "${curl[@]}"
	make_fast_account "${flags[@]}"
	gcc "${flags[@]}" "${server[@]}" -o "$work/bin/limit_scan" "$here/limit_scan.c" "$here/limits.c" test/standalone.c \
		src/json/array_reader.c src/json/object_scanner.c src/json/lexer.c "${libs[@]}" "${curl[@]}" "${json[@]}"
}

# As large as the one a client trusts as a rule.
make_bundle()
{
	make_certs "$work/certs" >/dev/null
	cat "$work/certs/ca.pem" /etc/ssl/certs/ca-certificates.crt >"$work/certs/bundle.pem" 2>/dev/null || true
}

describe_machine()
{
	show '%s, libcurl %s, json-c %s, %s; Linux %s, %s CPUs.\n' "$("$PG_CONFIG" --version)" \
		"$(curl-config --version | sed 's/libcurl //')" "$(pkg-config --modversion json-c)" "gcc $(gcc -dumpfullversion)" \
		"$(uname -r)" "$(nproc)"
	show '%d rounds%s%s. pgsql-http: %s; pg_curl: %s; pg_net: %s; PL/Python: %s; HTTP/2: %s.\n' "$rounds" "${quick:+, --quick: not for figures}" \
		"${busy:+, --busy: ratios and aims are of the smallest values}" \
		"${have_http:-n/a}" "${have_curl:-n/a}" "${have_net:-n/a}" "${have_python:-n/a}" "$([ -n "$http2_url" ] && echo nghttpx || echo n/a)"
}

main()
{
	local group

	private_postgres
	build all test/lpsim/lpsim test/slowdns.so
	build_limits
	make_bundle
	start_accounts
	start_http2
	start_database
	add_peers
	describe_machine
	for group in "${groups[@]}"; do
		# shellcheck source=/dev/null
		. "$here/group_$group.sh"
		heading "$group"
		before_round() { fresh; }
		"group_$group"
		show '\nLoad of the machine: %s.\n' "$(cut -d ' ' -f 1-3 /proc/loadavg)"
	done
	summary
	[ ${#failures[@]} = 0 ] || die "could not be measured: ${failures[*]}"
}

main

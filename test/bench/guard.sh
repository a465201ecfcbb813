#!/usr/bin/env bash
#
# guard.sh: have the hot paths become more expensive?  Counts instructions, not time.
#
#	bash test/bench/guard.sh			compare with test/bench/guard.counts
#	bash test/bench/guard.sh --update	write the counts of this machine's versions there
#
# What one more user, call or row costs: the difference between so many and twice as many, with valgrind's callgrind.  The
# counts depend on compiler, libraries and processor, so each line of the file names those it was made with, and is
# compared only with the same; where there is none for these, nothing is compared, and a message says so.  A count
# that is higher by more than the margin fails.
set -euo pipefail
# shellcheck source=test/setup.sh
. "$(dirname "${BASH_SOURCE[0]}")/../setup.sh"

update=
case ${1:-} in
	'') ;;
	--update) update=yes ;;
	*) sed -n '5,6s/^#[[:space:]]\{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac

if [ -z "${LPUSERS_WORK:-}" ]; then
	# kept when root is dropped
	[ -z "$update" ] || exec 4<>"$top/test/bench/guard.counts"
	need_packages valgrind
fi
drop_root "$@"

here=$top/test/bench
counts=$here/guard.counts
# shellcheck source=test/bench/account.sh
. "$here/account.sh"
# shellcheck source=test/bench/database.sh
. "$here/database.sh"

# Percent.  How often the network has to be looked at is not the same each time; all else is.
margin=5
margin_network=20

# The versions that decide how many instructions there are.
environment()
{
	printf '%s PostgreSQL-%s gcc-%s libcurl-%s json-c-%s glibc-%s%s\n' "$(uname -m)" "$(pg_version)" "$(gcc -dumpfullversion)" \
		"$(curl-config --version | sed 's/libcurl //')" "$(pkg-config --modversion json-c)" \
		"$(getconf GNU_LIBC_VERSION | sed 's/glibc //')" "$(grep -q -w -m 1 avx2 /proc/cpuinfo && echo -avx2)"
}

# Instructions in a file that callgrind wrote.
total()
{
	sed -n 's/^\(totals\|summary\): *\([0-9]*\).*/\2/p' "$1" | tail -n 1
}

# ---------------------------------------------------------------------------------------------------------- the reader

build_reader()
{
	gcc -O2 -I"$("$PG_CONFIG" --includedir-server)" -Isrc -o "$work/guard_reader" "$here/guard_reader.c" test/standalone.c \
		src/json/array_reader.c src/json/object_scanner.c src/json/lexer.c -L"$("$PG_CONFIG" --pkglibdir)" -L"$("$PG_CONFIG" --libdir)" -lpgcommon -lpgport
}

# count_reader USERS
count_reader()
{
	awk -v from=0 -v to="$1" -f "$here/users.awk" >"$work/tmp/list"
	valgrind -q --tool=callgrind --callgrind-out-file="$work/tmp/reader.$1" "$work/guard_reader" <"$work/tmp/list" >/dev/null
	echo "$work/tmp/reader.$1"
}

# --------------------------------------------------------------------------------------------------------- the backend

# Every backend counts what it does inside of these functions.
wrap_postgres()
{
	local bindir

	bindir=$("$PG_CONFIG" --bindir)
	mv "$bindir/postgres" "$bindir/postgres.real"
	cat >"$bindir/postgres" <<-WRAPPER
		#!/bin/sh
		case " \$* " in
		*" --boot "* | *" --single "* | *" --check "* | *" -V "* | *" --version "*) exec "$bindir/postgres.real" "\$@" ;;
		esac
		exec valgrind -q --tool=callgrind --trace-children=yes --callgrind-out-file="$work/callgrind/%p" \\
			--toggle-collect=lp_create_users --toggle-collect=lp_create_users_trigger \\
			--toggle-collect=lpuIterateForeignScan "$bindir/postgres.real" "\$@"
	WRAPPER
	chmod +x "$bindir/postgres"
	mkdir "$work/callgrind"
}

# Accounts, and a server whose backends are counted, with the database of the benchmark.
start_backends()
{
	mkdir "$work/bin"
	make_fast_account
	make_certs "$work/certs" >/dev/null
	start_accounts
	start_database
	stop_server
	wrap_postgres
	start_server
}

# in_backend STATEMENT...: what they do in a session of its own; prints the number of its file.
in_backend()
{
	local pid statement args=()

	for statement in "$@"; do args+=(-c "$statement"); done
	pid=$(ask -c 'SELECT pg_backend_pid()' "${args[@]}" | head -n 1)
	# it writes its file as it ends
	while [ -e "/proc/$pid" ]; do sleep 0.05; done
	echo "$work/callgrind/$pid"
}

# Instructions of such a file between the beginning of a request and its end, and while a list is received.
in_network()
{
	callgrind_annotate --inclusive=yes --threshold=100 "$1" 2>/dev/null | tr -d , |
		awk '/:lpu_http_perform / || (/:lpu_http_turn / && !n) { n = $1 } END { print n + 0 }'
}

# calls SETTING CALLS USERS
calls()
{
	in_backend "SET lpusers.log_calls = $1" "SET ROLE bench_fast" "SELECT FROM bench_calls('g', $2, $3,
		\$\$SELECT count(*) FILTER (WHERE status = 201) FROM bodies, LATERAL lp_create_users('12345678', body)\$\$)"
}

# scanned USERS: with all columns of a table made; the list is read once before.
scanned()
{
	load_users "$1"
	in_backend 'SET ROLE bench_plain' 'SELECT FROM lp.skills' "SELECT bench_expect(count(t), $1) FROM lp.twelve t"
}

# One that fires the trigger first, so that everything is there that is made once.
rows()
{
	in_backend 'SET ROLE bench_fast' "INSERT INTO hooked VALUES (0, 'first' || $1 || '@example.com', 'Full Name', 1, true)" \
		"INSERT INTO hooked SELECT $1 + i, 'g' || $1 + i || '@example.com', 'Full Name', 1, true FROM generate_series(1, $1) i" \
		'TRUNCATE hooked'
}

# ------------------------------------------------------------------------------------------------------------- counting

failed=

# judge NAME MARGIN COUNT: compare with what is stored, or store it.
judge()
{
	local stored

	stored=$(awk -F '\t' -v name="$1" -v environment="$environment" '$1 == name && $3 == environment { print $2 }' "$counts" | tail -n 1)
	if [ -n "$update" ]; then
		printf '%s\t%d\t%s\n' "$1" "$3" "$environment" >>"$work/tmp/new"
		echo "guard: $1: $3 instructions${stored:+, were $stored}"
	elif [ "$(($3 * 100))" -gt "$((stored * (100 + $2)))" ]; then
		echo "guard: $1: $3 instructions, more than $2 % above the stored $stored"
		failed=yes
	elif [ "$(($3 * 100))" -lt "$((stored * (100 - $2)))" ]; then
		echo "guard: $1: $3 instructions, less than the stored $stored: write it down"
	else
		echo "guard: $1: $3 instructions, stored $stored, ok"
	fi
}

# Write the new counts to fd 4, in place of those of the same environment.
store()
{
	[ -n "$update" ] || return 0
	ENVIRONMENT=$environment perl -e '
		open(my $file, "+<&=", 4) or die $!;
		my @lines = sort((grep { !/\t\Q$ENV{ENVIRONMENT}\E$/ } <$file>), <STDIN>);
		seek($file, 0, 0);
		print $file @lines;
		$file->flush;
		truncate($file, tell($file)) or die $!;' <"$work/tmp/new"
}

# difference NAME UNITS COMMAND...: the command's count for UNITS more, where its last argument is how many.  That of the
# network apart.
difference()
{
	local one two network=0

	one=$("${@:3}" "$2")
	two=$("${@:3}" "$((2 * $2))")
	if [ "$(in_network "$two")" != 0 ]; then
		network=$((($(in_network "$two") - $(in_network "$one")) / $2))
		# a list comes in pieces as large as time will have it
		[ "$3" = scanned ] || judge "$1: network" "$margin_network" "$network"
	fi
	judge "$1" "$margin" "$((($(total "$two") - $(total "$one")) / $2 - network))"
}

call_of_100()
{
	calls off "$1" 100
}

single_call()
{
	calls "$1" "$2" 1
}

main()
{
	environment=$(environment)
	if [ -z "$update" ] && ! grep -qF "	$environment" "$counts"; then
		echo "guard: skipped, no counts are stored for $environment; bash test/bench/guard.sh --update writes them"
		return
	fi
	private_postgres
	build all test/lpsim/lpsim test/slowdns.so
	build_reader
	difference 'a user of a list, 4 attributes read' 1000 count_reader

	start_backends
	difference 'a call that creates a user' 50 single_call off
	difference 'a call that creates a user, recorded' 50 single_call on
	difference 'a call that creates 100 users' 5 call_of_100
	difference 'a row that a trigger enqueues' 200 rows
	difference 'a user of a foreign table, 12 columns' 500 scanned
	stop_server
	store
	[ -z "$failed" ]
}

main

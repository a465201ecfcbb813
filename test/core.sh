#!/usr/bin/env bash
#
# core.sh: PostgreSQL's own regression tests, beside lpusers.
#
# Three runs of core's parallel schedule, each with a server of its own:
#	without		the library is not loaded: what this installation says by itself
#	preloaded	shared_preload_libraries = 'lpusers', and a worker that is busy in another database
#	in use		the same; besides, the extension is in the database of the tests, and each test begins with a scan of one of
#				its foreign tables, which puts its hook around the executor for the rest of the session
# Each test must come out as in the first run. One that differs from what PostgreSQL expects in all runs alike is not ours:
# the sources are not quite the server's, or this machine is not as its authors'. A test that comes out otherwise has a
# second try, for some of core's depend on timing.
#
# The sources of PostgreSQL are in the directory that LPUSERS_PG_SOURCE names, else they are downloaded from where this
# machine's own apt gets Debian's packages. Without any this script is skipped: status 77.
set -euo pipefail
# shellcheck source=test/setup.sh
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
# shellcheck source=test/pg_source.sh
. "$(dirname "${BASH_SOURCE[0]}")/pg_source.sh"

skipped=77
connections=20					# at most, as core's own Makefile has it

# skip WHY
skip()
{
	echo "core: skipped: $*"
	exit $skipped
}

# ---------------------------------------------------------------------------
# The sources
# ---------------------------------------------------------------------------

# need_source: $source is a directory with the sources of the server we test with, as good as they can be had.
need_source()
{
	local major version

	source=${LPUSERS_PG_SOURCE:-}
	if [ -n "$source" ]; then
		[ -e "$source/src/test/regress/regress.c" ] || die "LPUSERS_PG_SOURCE=$source has no src/test/regress/regress.c"
		return 0
	fi
	command -v apt-get >/dev/null || skip "there is no apt-get; name a directory with PostgreSQL's sources in LPUSERS_PG_SOURCE"
	major=$(pg_version)
	source=$work/postgresql
	for version in $(list_sources "$major"); do
		! get_source "$major" "$version" "$source" || return 0
	done
	skip "the sources of PostgreSQL $major cannot be downloaded"
}

# ---------------------------------------------------------------------------
# What the tests need
# ---------------------------------------------------------------------------

# library FILE: a C file as a library, beside it. REFINT_VERBOSE is how core's tests want contrib/spi.
library()
{
	# shellcheck disable=SC2046	# several words
	gcc -std=gnu99 -O2 -fPIC -shared -w -DREFINT_VERBOSE -I"$("$PG_CONFIG" --includedir-server)" $("$PG_CONFIG" --cppflags) -o "${1%.c}.so" "$1"
}

# make_tests: $regress is a copy of core's tests, with their libraries in $libraries.
make_tests()
{
	local name

	regress=$work/core
	libraries=$work/libraries
	mkdir "$regress" "$libraries"
	cp -R "$source"/src/test/regress/{sql,expected,data,parallel_schedule,resultmap} "$regress/"
	cp "$source/src/test/regress/regress.c" "$libraries/"
	library "$libraries/regress.c"
	for name in autoinc refint; do			# of contrib/spi, which some versions use
		[ ! -e "$source/contrib/spi/$name.c" ] || ! grep -rql "$name" "$regress/sql" || {
			cp "$source/contrib/spi/$name.c" "$libraries/"
			library "$libraries/$name.c"
		}
	done
	cat >"$libraries/hooked.c" <<'HOOKED'
#define _GNU_SOURCE
#include "postgres.h"
#include <dlfcn.h>
#include "executor/executor.h"
#include "fmgr.h"

PG_MODULE_MAGIC;
PG_FUNCTION_INFO_V1(hooked);

/* Is the first hook around the executor's run that of lpusers? */
Datum
hooked(PG_FUNCTION_ARGS)
{
	Dl_info		info;

	PG_RETURN_BOOL(ExecutorRun_hook != NULL && dladdr((void *) ExecutorRun_hook, &info) != 0 &&
				   strstr(info.dli_fname, "lpusers") != NULL);
}
HOOKED
	library "$libraries/hooked.c"
}

# use_everywhere: a first test makes the extension and a foreign table, all others begin with a scan of it.
use_everywhere()
{
	local file

	cat >"$work/first.sql" <<-SQL
		SET client_min_messages = warning;
		CREATE SCHEMA lpusers_core;
		CREATE EXTENSION lpusers SCHEMA lpusers_core;
		CREATE SERVER lpusers_nobody FOREIGN DATA WRAPPER lpusers OPTIONS (account '1', base_url 'http://127.0.0.1:1');
		CREATE USER MAPPING FOR PUBLIC SERVER lpusers_nobody OPTIONS (token 'x');
		IMPORT FOREIGN SCHEMA liveperson LIMIT TO (users) FROM SERVER lpusers_nobody INTO lpusers_core;
		CREATE FUNCTION lpusers_core.hooked() RETURNS boolean LANGUAGE c AS '$libraries/hooked';
		GRANT USAGE ON SCHEMA lpusers_core TO PUBLIC;
		GRANT SELECT ON lpusers_core.users TO PUBLIC;
	SQL
	cat >"$work/scan.sql" <<-'SQL'
		SELECT id FROM lpusers_core.users LIMIT 0;
		SELECT lpusers_core.hooked();
	SQL
	sed 's/~$/ /' >"$work/scan.out" <<-'SQL'	# psql's headings end in blanks
		SELECT id FROM lpusers_core.users LIMIT 0;
		 id~
		----
		(0 rows)

		SELECT lpusers_core.hooked();
		 hooked~
		--------
		 t
		(1 row)

	SQL
	for file in "$regress"/sql/*.sql; do cat "$work/scan.sql" "$file" >"$work/tmp/file" && cp "$work/tmp/file" "$file"; done
	for file in "$regress"/expected/*.out; do cat "$work/scan.out" "$file" >"$work/tmp/file" && cp "$work/tmp/file" "$file"; done
	cp "$work/first.sql" "$regress/sql/lpusers_first.sql"
	cp "$work/first.sql" "$regress/expected/lpusers_first.out"
	{ echo 'test: lpusers_first'; cat "$source/src/test/regress/parallel_schedule"; } >"$regress/parallel_schedule"
}

# ---------------------------------------------------------------------------
# A run
# ---------------------------------------------------------------------------

# A server in its first state, with more settings if given.
fresh_server()
{
	[ ! -e "$work/data" ] || stop_server
	rm -rf "$work/data"
	start_server "$@"
}

# A worker that has something to do in a database of its own, all the time: its account is unreachable.
busy_worker()
{
	createdb hr
	psql -XqAt -v ON_ERROR_STOP=1 -d hr >/dev/null <<-'SQL'
		CREATE EXTENSION lpusers;
		CREATE SERVER acme FOREIGN DATA WRAPPER lpusers OPTIONS (account '12345678', base_url 'http://127.0.0.1:1', max_retries '1000');
		CREATE USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (token 'x');
		SELECT count(*) FROM lp_enqueue_users('12345678', (SELECT jsonb_agg(jsonb_build_object('loginName', 'u' || n, 'fullName', 'u', 'nickname', 'u',
			'email', 'u@example.com', 'passwordSh', 'Start-1234', 'isEnabled', true, 'maxChats', 3, 'profileIds', ARRAY[1])) FROM generate_series(1, 50) n));
	SQL
	[ "$(worker_pid)" != '' ] || die "there is no worker"
}

worker_pid() { psql -XqAtc 'SELECT lp_worker_pid()' -d hr; }

# run_core RUN: results in $work/RUN, names of the tests that failed in $work/RUN.failed.
run_core()
{
	local status=0 began=$SECONDS

	rm -rf "${work:?}/$1" "$regress/results" "$regress/testtablespace"
	cd "$regress"
	run_group "$(dirname "$("$PG_CONFIG" --pgxs)")/../test/regress/pg_regress" --inputdir=. --outputdir=. --bindir="$("$PG_CONFIG" --bindir)" \
		--dlpath="$libraries" --max-concurrent-tests=20 --max-connections=$connections --schedule=parallel_schedule \
		>"$work/log/core-$1.log" 2>&1 || status=$?
	cd "$top"
	mv "$regress/results" "$work/$1" 2>/dev/null || { tail -n 20 "$work/log/core-$1.log"; die "the tests did not run"; }
	failed_tests "$work/log/core-$1.log" >"$work/$1.failed"
	[ "$status" != 0 ] || [ ! -s "$work/$1.failed" ] || die "pg_regress says all is well, and has failures"
	if [ "$status" != 0 ] && [ ! -s "$work/$1.failed" ]; then
		tail -n 20 "$work/log/core-$1.log"
		die "pg_regress failed, and names no test"
	fi
	tests=$(find "$work/$1" -name '*.out' | wc -l)
	printf '%-10s %s tests, %s differ from what PostgreSQL expects, %s s\n' "$1" "$tests" "$(wc -l <"$work/$1.failed")" $((SECONDS - began))
}

# 15 writes "test strings ... FAILED   12 ms" and "     strings      ... FAILED", 16 and later "not ok 12   + strings   12 ms".
failed_tests()
{
	sed -nE -e 's/^(test)? *([a-z0-9_]+) +\.\.\. FAILED.*/\2/p' -e 's/^not ok [0-9]+ +[-+] ([a-z0-9_]+) .*/\1/p' "$1" | sort
}

# difference RUN TEST: how it came out otherwise than in the run "without". In the run "in use" a test begins with the scan, and
# a list of all that there is has what is ours: rows, and with them their number and the width of columns.
difference()
{
	local before="$work/without/$2.out" after="$work/$1/$2.out"

	if [ "$1" != in_use ]; then
		diff "$before" "$after" 2>&1 || true
	elif [ -e "$before" ]; then
		diff <(narrow <"$before") <(tail -n +$(($(wc -l <"$work/scan.out") + 1)) "$after" | narrow) |
			grep -E '^[<>]' | grep -vE 'lpusers|lp_(adopt|purge|release)|\{token=x\}|\([0-9]+ rows?\)' || true
	else
		cat "$after"			# what makes ours
	fi
}

narrow() { sed -E 's/ +/ /g; s/-+/-/g; s/^ | $//g'; }

# differing RUN: the tests that came out otherwise than in the run "without".
differing()
{
	local name

	while read -r name; do
		[ -z "$(difference "$1" "$name")" ] || echo "$name"
	done <"$work/$1.failed"
}

# like_without RUN COMMAND: a run that must come out as the first one; COMMAND makes the server for it.
like_without()
{
	local run=$1 try names name

	for try in first second; do
		"${@:2}"
		run_core "$run"
		names=$(differing "$run")
		[ -n "$names" ] || break
		echo "$run, $try try: otherwise than without lpusers: ${names//$'\n'/ }"
	done
	for name in $names; do
		failed=yes
		echo "--- $name"
		difference "$run" "$name" | head -n 60
	done
	if grep -E 'terminated by signal|TRAP:|PANIC:' "$work/log/server.log"; then failed=yes; fi
	[ -n "$(worker_pid)" ] || { echo "$run: the worker is gone"; failed=yes; }
}

preloaded()
{
	fresh_server shared_preload_libraries=lpusers lpusers.databases=hr
	busy_worker
}

main()
{
	[ -n "${LPUSERS_WORK:-}" ] || need_packages
	drop_root "$@"
	private_postgres
	need_source
	build all
	make_tests
	failed=
	echo "core: $(postgres --version), tests of PostgreSQL $(sed -n "s/^PACKAGE_VERSION='\(.*\)'/\1/p" "$source/configure")"

	fresh_server
	run_core without
	all=$tests
	like_without preloaded preloaded
	use_everywhere
	like_without in_use preloaded
	stop_server
	if [ -s "$work/without.failed" ]; then echo "core: without lpusers, too, otherwise than expected: $(paste -sd ' ' "$work/without.failed")"; fi
	[ -z "$failed" ] || { echo "core: failed"; exit 1; }
	echo "core: $all tests come out as without lpusers"
}

main "$@"

#!/bin/bash
#
# run.sh: all tests, in a directory and a PostgreSQL of their own.
#
#	bash test/run.sh [--long] [--keep] [--jobs N] [regress|tap [name ...]]
#
#	--long		also the tests that take minutes (LPUSERS_LONG=1)
#	--keep		keep the work directory and say where it is (LPUSERS_KEEP=1)
#	--jobs N	TAP tests at the same time (LPUSERS_JOBS=N; default: one more than
#				there are processors, they wait most of the time)
#	regress		only pg_regress, or only the tests named (deliver_users, ...), those
#				of sessions that meet (specs/) too
#	tap			only the TAP tests, or only those named (001_create_and_check, ...)
#
# Where tests are named, the form of the source (layers, style, ...) is not checked.
#
# PG_CONFIG chooses the PostgreSQL to test with.  LPUSERS_OLD_PG_CONFIG names that
# of an older version, from which pg_upgrade is tested (045_pg_upgrade); --long
# finds one by itself if Debian's packages of another version are installed.  The
# last line is "N passed, N failed": pg_regress tests and TAP files, and what else
# failed on the way.  The exit status is 0 only if nothing failed.

set -euo pipefail
# shellcheck source=test/setup.sh
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

usage()
{
	sed -n '5,13s/^#[[:space:]]\{0,1\}//p' "${BASH_SOURCE[0]}"
	exit "$1"
}

arguments=("$@")
mode=all
while [ $# -gt 0 ]; do
	case $1 in
		--long) export LPUSERS_LONG=1 ;;
		--keep) export LPUSERS_KEEP=1 ;;
		--jobs) export LPUSERS_JOBS=${2:?}; shift ;;
		-h | --help) usage 0 ;;
		regress | tap) mode=$1; shift; break ;;
		*) usage 2 >&2 ;;
	esac
	shift
done
names=("$@")

exec 3>&1						# the terminal, wherever stdout goes
passed=0
failed=0
step=							# the step under way
finished=
steplog=/dev/null

# ---------------------------------------------------------------------------
# Steps
# ---------------------------------------------------------------------------

now()
{
	echo "${EPOCHREALTIME/[.,]/}"
}

# report NAME RESULT START
report()
{
	local ms=$((($(now) - $3) / 1000))

	printf '%-14s %-6s %4d.%d s\n' "$1" "$2" $((ms / 1000)) $((ms % 1000 / 100)) >&3
}

# step NAME COMMAND: one without which nothing goes on.  It may be a function
# that sets variables.  If it fails, at_exit shows what it said.
step()
{
	step=$1
	started=$(now)
	[ -z "$work" ] || steplog=$work/log/step.log
	shift
	if [ "$steplog" = /dev/null ]; then
		"$@"
	else
		"$@" >"$steplog" 2>&1
	fi
	report "$step" ok "$started"
	step=
}

# check NAME COMMAND: one that may fail while the rest still makes sense.
check()
{
	local log=$work/log/check.log

	started=$(now)
	if run_group "${@:2}" >"$log" 2>&1; then
		report "$1" ok "$started"
	else
		report "$1" FAILED "$started"
		head -n 60 "$log"
		failed=$((failed + 1))
	fi
}

# What was under way when we were told to end: the last words of what was written last.
last_words()
{
	local log

	find "$work/log" "$top/tmp_check/log" -name '*log*' -type f -size +0 -printf '%T@ %p\n' 2>/dev/null | sort -rn | head -n 4 |
		while read -r _ log; do
			echo "--- $log"
			tail -n 12 "$log"
		done
}

at_exit()
{
	exec >&3 2>&1
	if [ -n "$step" ]; then
		report "$step" FAILED "$started"
		[ ! -s "$steplog" ] || tail -n 200 "$steplog"
		[ "$step" = "drop root" ] || failed=$((failed + 1))
	elif [ -z "$finished" ] && [ "$1" != 0 ]; then
		[ -z "$work" ] || last_words
		echo "ended early, status $1"
		failed=$((failed + 1))
	fi
	[ "$1" = 0 ] && [ -z "$finished" ] || echo "$passed passed, $failed failed"
}

# ---------------------------------------------------------------------------
# The two runners
# ---------------------------------------------------------------------------

# run_tests KIND [make args]: make installcheck, restricted to one runner, so that
# a failure of the first does not hide the second.  Counts with count_KIND.
run_tests()
{
	local kind=$1 log=$work/log/$1.log status=0 before=$failed result=ok

	shift
	started=$(now)
	run_group in_make "$@" installcheck >"$log" 2>&1 || status=$?
	"count_$kind" "$log"
	if [ "$status" != 0 ] && [ "$failed" = "$before" ]; then
		failed=$((failed + 1))	# it did not come as far as its tests
		[ "$kind-$counted" != tap-0 ] || tail -n 60 "$log"
	fi
	[ "$failed" = "$before" ] || result=FAILED
	report "$kind" "$result" "$started"
	if [ "$result" != ok ]; then "explain_$kind" "$log"; fi
	"close_$kind" "$log"
	[ "$counted" != 0 ] || echo "no $kind tests were run"
}

# pg_regress ends in one of (15 puts blanks around it, 16 a "# " before it)
#	All 3 tests passed.
#	1 of 3 tests failed.
regress_closing='^[# ]*(All [0-9]+ tests passed|[0-9]+ of [0-9]+ tests (passed|failed)).*[^ ]'

count_regress()
{
	local words

	counted=0
	while read -r -a words; do
		[ "${words[0]}" != '#' ] || words=("${words[@]:1}")
		if [ "${words[0]}" = All ]; then
			counted=$((counted + words[1]))
			passed=$((passed + words[1]))
		else
			counted=$((counted + words[2]))
			if [ "${words[4]%[.,]}" = failed ]; then
				failed=$((failed + words[0]))
				passed=$((passed + words[2] - words[0]))
			else				# "2 of 3 tests passed, 1 failed test(s) ignored."
				passed=$((passed + words[0]))
				failed=$((failed + words[2] - words[0]))
			fi
		fi
	done < <(grep -E "$regress_closing" "$1" || true)
}

close_regress()
{
	grep -oE "$regress_closing" "$1" | sed 's/^ *//' || true
}

explain_regress()
{
	if [ -s regression.diffs ]; then
		head -n 200 regression.diffs
	else
		tail -n 60 "$1"
	fi
}

# pg_isolation_regress ends in the same words.
count_isolation() { count_regress "$1"; }
close_isolation() { close_regress "$1"; }
explain_isolation()
{
	if [ -s output_iso/regression.diffs ]; then
		head -n 200 output_iso/regression.diffs
	else
		tail -n 60 "$1"
	fi
}

# prove writes "test/t/001_create_and_check.pl .. ok", with --timer between [time] and
# durations, and "Files=3, Tests=20, ..." at the end.
tap_file='^(\[[0-9:]+\] )?[^ ]+\.(pl|t) \.+ *'

count_tap()
{
	local files ok skipped

	files=$(sed -n 's/^Files=\([0-9]*\),.*/\1/p' "$1" | tail -n 1)
	ok=$(grep -cE "${tap_file}ok" "$1" || true)
	skipped=$(grep -cE "${tap_file}skipped" "$1" || true)
	counted=${files:-0}
	passed=$((passed + ok))
	[ "$counted" = 0 ] || failed=$((failed + counted - ok - skipped))
}

close_tap()
{
	grep -E "${tap_file}skipped" "$1" || true
	grep -E '^(All tests successful|Files=|Result: )' "$1" || true
}

explain_tap()
{
	local file name log

	sed -n '/^Test Summary Report/,/^Files=/{/^Files=/!p;}' "$1" | head -n 60
	sed -nE 's/^([^ ]+\.(pl|t)) +\(Wstat:.*/\1/p' "$1" | while read -r file; do
		! grep -qE "^(\[[0-9:]+\] )?$file \.+ *ok" "$1" || continue
		name=$(basename "${file%.*}")
		for log in tmp_check/log/*"$name"*; do
			[ -s "$log" ] || continue
			echo "--- $log"
			grep -A 8 -E '^(\[.*\))? *not ok [0-9]' "$log" | head -n 60 || true
			tail -n 20 "$log"
		done
	done
}

# ---------------------------------------------------------------------------
# Main
# ---------------------------------------------------------------------------

# The extension in an older PostgreSQL, for the test of pg_upgrade.
build_old()
{
	local new=$PG_CONFIG

	export PG_CONFIG=$LPUSERS_OLD_PG_CONFIG
	private_postgres
	build all
	quiet clean.log in_make clean || die "cannot remove the build"
	LPUSERS_OLD_INSTALL=$(dirname "$("$PG_CONFIG" --bindir)")
	export LPUSERS_OLD_INSTALL PG_CONFIG=$new
}

check_tree()
{
	check layers perl test/check_layers
	check style perl test/check_style
	check promises perl test/check_promises
	check indent perl test/check_indent
	check version in_make check-version
	check released perl test/check_released
	check meta perl test/check_meta
	check reader check_reader
}

# The reader of lists against json-c.
check_reader()
{
	in_make test/reader_diff && test/reader_diff test/corpus/reader/*
}

# No server process has crashed. In the logs of the TAP tests signals 6 and 9 are not counted: some
# tests kill processes, or fill the disk until the server panics. A failed assertion has a line of
# its own.
check_logs()
{
	! {
		grep -sE 'TRAP:|PANIC:|terminated by signal|Failed process was running' "$work/log/server.log"
		grep -sHE 'TRAP:|PANIC:|terminated by signal (4|7|8|11)\b' tmp_check/log/*.log |
			grep -v 'No space left on device'
		true
	} | grep .
}

# Names as users write them: 001_create_and_check, 001_create_and_check.pl or test/t/001_create_and_check.pl.
tap_paths()
{
	local name path paths=()

	for name in "${names[@]}"; do
		path=test/t/$(basename "$name" .pl).pl
		[ -e "$path" ] || die "there is no test $path"
		paths+=("$path")
	done
	echo "${paths[*]}"
}

# run_regress: pg_regress and pg_isolation_regress, or only the tests named.
run_regress()
{
	local name sql=() specs=()

	for name in "${names[@]}"; do
		if [ -e "specs/$name.spec" ]; then specs+=("$name"); else sql+=("$name"); fi
	done
	if [ ${#names[@]} = 0 ]; then
		run_tests regress ISOLATION= TAP_TESTS=
		run_tests isolation REGRESS= TAP_TESTS=
	else
		[ ${#sql[@]} = 0 ] || run_tests regress "REGRESS=${sql[*]}" ISOLATION= TAP_TESTS=
		[ ${#specs[@]} = 0 ] || run_tests isolation "ISOLATION=${specs[*]}" REGRESS= TAP_TESTS=
	fi
}

# where_possible STATUS COMMAND: that status means it cannot be done here; its last line says why.
where_possible()
{
	local status=0

	"${@:2}" || status=$?
	[ "$status" != "$1" ] || return 0
	return $status
}

# run_long: what takes minutes and is no test of its own. All have their own servers but the first.
run_long()
{
	echo "with the library preloaded:"
	stop_server
	start_server shared_preload_libraries=lpusers
	run_tests regress ISOLATION= TAP_TESTS=
	stop_server
	long_check fuzz where_possible 2 bash test/fuzz.sh 120
	long_check sanitize bash test/sanitize.sh
	long_check sqlsmith bash test/sqlsmith.sh 300
	long_check core where_possible 77 bash test/core.sh
}

# A check whose last line is worth reading when it succeeds, too.
long_check()
{
	check "$@"
	tail -n 1 "$work/log/check.log"
}

main()
{
	local tap=(REGRESS= ISOLATION= "PROVE_FLAGS=--timer -j ${LPUSERS_JOBS:-$(($(nproc) + 1))}")

	if [ -z "${LPUSERS_WORK:-}" ]; then step packages need_packages ${LPUSERS_LONG:+sqlsmith}; fi
	step "drop root" drop_root ${arguments[0]+"${arguments[@]}"}
	[ -z "${LPUSERS_LONG:-}" ] || : "${LPUSERS_OLD_PG_CONFIG:=$(older_pg_config)}"
	[ -z "${LPUSERS_OLD_PG_CONFIG:-}" ] || step "old postgres" build_old
	step postgres private_postgres
	if [ ${#names[@]} -gt 0 ]; then
		if [ "$mode" = tap ]; then tap+=("PROVE_TESTS=$(tap_paths)"); fi
	fi
	echo "$(postgres --version), as $(id -un)"
	# shellcheck disable=SC2034	# of setup.sh
	[ "$mode" != all ] || with_bitcode=yes
	step build build all test/lpsim/lpsim
	[ ${#names[@]} -gt 0 ] || check_tree
	step server start_server

	[ "$mode" = tap ] || run_regress
	[ "$mode" = regress ] || run_tests tap "${tap[@]}"
	[ "$mode" != all ] || [ -z "${LPUSERS_LONG:-}" ] || run_long
	check logs check_logs
	finished=yes
	[ "$failed" = 0 ] && [ "$passed" != 0 ]
}

main

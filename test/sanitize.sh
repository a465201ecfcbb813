#!/usr/bin/env bash
#
# sanitize.sh [names...]: the regression run with lpusers built for the address and undefined-behaviour sanitizers.
#
# PostgreSQL itself is the installed one, without them: their runtime is loaded before it. So the memory that lpusers, libcurl
# and json-c take with malloc() is watched; what palloc() hands out lies in one piece with its neighbours, and is a matter for
# valgrind.sh. A report ends its process and fails this script.
set -euo pipefail
# shellcheck source=test/setup.sh
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

need_packages
drop_root "$@"
private_postgres

runtime=$(gcc -print-file-name=libasan.so)
[ -e "$runtime" ] || die "this compiler has no address sanitizer"
build all test/lpsim/lpsim COPT="-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -O1"

# A library that PostgreSQL needs takes its first memory while it holds a lock that the runtime's start takes, too: then the
# server would wait for ever. The constructor of a library that goes first takes some before.
printf '%s\n' '#include <stdlib.h>' '__attribute__((constructor)) static void first(void) { free(malloc(1)); }' >"$work/first.c"
gcc -shared -fPIC -O0 -Wl,-z,initfirst -o "$work/first.so" "$work/first.c"

# The server's own binary with the runtime loaded: only the server needs it. Leaks are not asked for: a process of the server ends
# without giving back what it has.
reports=$work/sanitizer
mkdir "$reports"
bindir=$("$PG_CONFIG" --bindir)
mv "$bindir/postgres" "$bindir/postgres.real"
cat >"$bindir/postgres" <<WRAPPER
#!/bin/sh
export LD_PRELOAD="$runtime $work/first.so"
export ASAN_OPTIONS="detect_leaks=0:abort_on_error=1:handle_segv=0:log_path=$reports/asan"
export UBSAN_OPTIONS="print_stacktrace=1:abort_on_error=1:log_path=$reports/ubsan"
exec "$bindir/postgres.real" "\$@"
WRAPPER
chmod +x "$bindir/postgres"
timeout 60 postgres --version >/dev/null || die "the server does not run with the sanitizers loaded"

start_server
status=0
run_group make -s installcheck TAP_TESTS= ISOLATION= ${1:+REGRESS="$*"} >"$work/log/regress.log" 2>&1 || status=$?
stop_server || true
tail -n 4 "$work/log/regress.log"
[ "$status" = 0 ] || echo "sanitize: some results differ, which timing may cause; what counts here is memory"
if [ -n "$(ls -A "$reports")" ] || grep -E 'terminated by signal' "$work/log/server.log"; then
	head -n 60 "$reports"/* || true
	echo "sanitize: a report, see above"
	exit 1
fi
grep -qE '^[# ]*(All|[0-9]+ of) [0-9]+ tests' "$work/log/regress.log" || die "no tests were run"
echo "sanitize: no report"

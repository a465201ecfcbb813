#!/usr/bin/env bash
#
# valgrind.sh [--short | names...]: the regression run with every server process under valgrind's memcheck.
#
# All of it takes half an hour; --short runs one test of each part, without those that wait or read long lists.
#
# What PostgreSQL and the libraries do by themselves is not ours: an error counts when lpusers.so is on its stack.
set -euo pipefail
# shellcheck source=test/setup.sh
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

short=(one_call_one_request request_log create_users_result create_users_payload response_status bearer_tokens
	secret_files server_options check_account fdw_objects fdw_pushdown fdw_import fdw_delete
	trigger_arguments attach_trigger trigger_partitions enqueue_rows enqueue_users request_ownership
	queue_table_extended deliver_changes sync_diff sync_plan)

need_packages valgrind
drop_root "$@"
if [ "${1:-}" = --short ]; then set -- "${short[@]}"; fi
private_postgres
build all test/lpsim/lpsim

logs=$work/valgrind
mkdir "$logs"
bindir=$("$PG_CONFIG" --bindir)

# PostgreSQL writes padding bytes to its files, computes checksums over them, and looks for them in hash tables; it
# suppresses that in its own runs too.
cat >"$work/valgrind.supp" <<'SUPPRESSIONS'
{
	padding_written
	Memcheck:Param
	pwrite64(buf)
	fun:pwrite*
}
{
	padding_in_checksum
	Memcheck:Value8
	fun:pg_comp_crc32c*
}
{
	padding_in_invalidation_message
	Memcheck:Cond
	...
	fun:ReceiveSharedInvalidMessages
}
{
	padding_in_invalidation_message
	Memcheck:Value8
	...
	fun:ReceiveSharedInvalidMessages
}
{
	padding_in_checksum_4
	Memcheck:Value4
	fun:pg_comp_crc32c*
}
{
	regexps_move_in_their_cache
	Memcheck:Overlap
	fun:__memcpy_chk
	fun:RE_compile_and_cache
}
SUPPRESSIONS

# The server's own binary, under valgrind: pg_ctl finds it by its name. What is forked goes on under it; what a test starts by
# COPY FROM PROGRAM does not, it is not ours and would take most of the time.
mv "$bindir/postgres" "$bindir/postgres.real"
cat >"$bindir/postgres" <<WRAPPER
#!/bin/sh
case " \$* " in
*" --boot "* | *" --single "* | *" --check "* | *" -V "* | *" --version "*) exec "$bindir/postgres.real" "\$@" ;;
esac
exec valgrind --quiet --leak-check=no --num-callers=40 --fullpath-after= \\
	--log-file="$logs/%p.log" --suppressions="$work/valgrind.supp" \\
	"$bindir/postgres.real" "\$@"
WRAPPER
chmod +x "$bindir/postgres"

start_server
# Timeouts in the tests are about the account, not about how slow this is.
make -s installcheck TAP_TESTS= ISOLATION= ${1:+REGRESS="$*"} >"$work/regress.log" 2>&1 || status=$?
stop_server
tail -n 4 "$work/regress.log"
[ -z "${status:-}" ] || echo "valgrind: some results differ, which timing may cause; what counts here is memory"

# Errors are separated by empty lines; ours have a frame in lpusers.so, shown by its source file. One is in every query's
# way, and says nothing: the hook around the executor.
ours=$(TOP=$top perl -0777 -ne 'print grep { s/^.* run_and_drain \(.*\n//mgr =~ /lpusers\.so|\Q$ENV{TOP}\E\/src\// }
	map { "$_\n" } split /^==\d+== *\n/m' "$logs"/*.log)
processes=$(find "$logs" -name '*.log' | wc -l)
if [ -n "$ours" ]; then
	printf '%s\n' "$ours" | head -n 200
	echo "valgrind: errors with lpusers on the stack, $processes processes"
	exit 1
fi
echo "valgrind: no error with lpusers on the stack, $processes processes"

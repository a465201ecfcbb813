# shellcheck shell=bash disable=SC2154,SC2034	# variables of run.sh and setup.sh
#
# group_table.sh: foreign tables of an account that takes 20 ms for a response: what waits, and what need not.  To be
# sourced by run.sh.
# shellcheck source=test/bench/group_write.sh
. "$here/group_write.sh"

first_id=5000000001
answer_ms=20
set_values="max_chats = 5, full_name = 'New Name', employee_id = login_name"
changing='SET lpusers.log_calls = off; SET lpusers.max_changes = 0'

# slow USERS: the account has so many, and takes its time from now on.
slow()
{
	load_users "$1"
	configure "{\"select_all\": false, \"delay_ms\": $answer_ms}"
	ask -c 'ANALYZE lp.users'
}

# at_a_distance OPTIONS STATEMENT [CONDITION]: in a session that is connected.
at_a_distance()
{
	timed bench_plain "$1; $connected" "${@:2}"
	configure '{"delay_ms": 0}'
}

inserted()
{
	written 100 "$answer_ms" off "INSERT INTO fast.users ($columns) $(new_rows t)"
}

# One listing, and then requests of 100 users one after the other.
c_update()
{
	local list sent

	slow "$table_users"
	list=$(limit_list read | cut -d ' ' -f 1)
	sent=$("$work/bin/limit_multi" "$url$users_path" "$table_users" 100 1 u. | cut -d ' ' -f 1)
	configure '{"delay_ms": 0}'
	awk -v a="$list" -v b="$sent" 'BEGIN { print a + b }'
}

updated()
{
	slow "$table_users"
	at_a_distance "$changing" "UPDATE lp.users SET $set_values"
}

# half REMAINDER: every second user, in a session of its own.
half()
{
	timed bench_plain "$changing; $connected" "UPDATE lp.users SET $set_values WHERE id % 2 = $1" | cut -d ' ' -f 1
}

# halves HOW: both halves, at the same time or one after the other; milliseconds of both together.
halves()
{
	local begun pids=() status=0

	slow "$table_users"
	begun=${EPOCHREALTIME/,/.}
	if [ "$1" = together ]; then
		half 0 >/dev/null & pids+=($!)
		half 1 >/dev/null & pids+=($!)
		wait "${pids[0]}" || status=1
		wait "${pids[1]}" || status=1
	else
		half 0 >/dev/null && half 1 >/dev/null || status=1
	fi
	[ "$status" = 0 ] && awk -v from="$begun" -v to="${EPOCHREALTIME/,/.}" 'BEGIN { print (to - from) * 1000 }'
	configure '{"delay_ms": 0}'
}

c_gets()
{
	slow "$1"
	"$work/bin/limit_get" "$url${users_path%\?*}/%s?v=4.0" "$first_id" 100 8
	configure '{"delay_ms": 0}'
}

c_list()
{
	slow "$1"
	limit_list read
	configure '{"delay_ms": 0}'
}

# looked_up USERS QUERY: 100 local rows and their users.
looked_up()
{
	slow "$1"
	at_a_distance SELECT "SELECT bench_expect(count(*), 100) FROM $2"
}

updated_some()
{
	load_users "$memory_users"
	ask -c "ALTER SERVER plain OPTIONS (SET batch_size '$1')"
	timed bench_plain "$changing; SELECT count(*) FROM lp.users" "UPDATE lp.users SET $set_values WHERE id < $first_id + 600"
	ask -c "ALTER SERVER plain OPTIONS (SET batch_size '100')"
}

# Of each round: how much more memory the first took than the second.
more_memory()
{
	paste -d ' ' "$(values "$1")" "$(values "$2")" | awk '{ print $2 - $5 }' >"$(values "more_$1")"
}

group_table()
{
	local n

	table_users=$(larger 900 300)
	memory_users=$(larger 60000 5000)
	ask -c 'CREATE TABLE chosen AS SELECT '"$first_id"' + i AS id FROM generate_series(0, 99) i' -c 'ANALYZE chosen' \
		-c 'GRANT SELECT ON chosen TO bench_plain'
	before_round() { ask -c 'TRUNCATE lp_requests, lp_payloads'; }
	contender c8 limit_send 100 8 20
	contender insert inserted
	contender c_update c_update
	contender update updated
	contender one_by_one halves one_by_one
	contender together halves together
	for n in 1000 "$(larger 20000 2000)"; do
		contender "gets_$n" c_gets "$n"
		contender "list_$n" c_list "$n"
		contender "any_$n" looked_up "$n" 'lp.users WHERE id = ANY (ARRAY(SELECT id FROM chosen))'
		contender "join_$n" looked_up "$n" 'chosen JOIN lp.users USING (id)'
	done
	contender count_600 our_list 'SELECT count(*) FROM lp.users'
	contender update_30 updated_some 30
	contender update_300 updated_some 300
	measure
	row "INSERT of $write_users users, 100 a request, 8 connections: plain C" ms c8
	row '...: lpusers' ms insert c8 '<= 1.3'
	row "UPDATE of $table_users users: a listing and then the requests, plain C" ms c_update
	row '...: lpusers' ms update c_update '<= 1.3'
	row 'two UPDATEs of half of them, one after the other' ms one_by_one
	row '...: both at once' ms together one_by_one '<= 1.2'
	for n in 1000 "$(larger 20000 2000)"; do
		row "100 of $n users by id: plain C, 8 at a time" ms "gets_$n"
		row '...: a listing, plain C' ms "list_$n"
		row '...: id = ANY (ARRAY(SELECT id ...))' ms "any_$n" "gets_$n" '<= 1.3'
		row '...: join on id' ms "join_$n" "$(better "gets_$n" "list_$n")" '<= 1.3'
	done
	more_memory update_30 count_600
	more_memory update_300 count_600
	row_at_most "UPDATE of 600 of $memory_users users, batch_size 30: memory, above count(*)" MB more_update_30 16
	row_at_most '...: batch_size 300' MB more_update_300 16
}

# better A B: the one that took less time.
better()
{
	local a b

	read -r a _ <<<"$(statistics "$(values "$1")")"
	read -r b _ <<<"$(statistics "$(values "$2")")"
	if awk -v a="$a" -v b="$b" 'BEGIN { exit a > b }'; then echo "$1"; else echo "$2"; fi
}

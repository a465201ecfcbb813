# shellcheck shell=bash disable=SC2154,SC2034	# variables of run.sh and setup.sh
#
# group_write.sh: writing users through a foreign table, batch after batch.  To be sourced by run.sh.
# shellcheck source=test/bench/group_queue.sh
. "$here/group_queue.sh"
# shellcheck source=test/bench/group_scan.sh
. "$here/group_scan.sh"

write_users=$(larger 10000 1000)

columns='login_name, full_name, nickname, email, password_sh, is_enabled, max_chats, profile_ids'

# rows PREFIX: that many users as rows.
new_rows()
{
	echo "SELECT '$1' || i || '@example.com', 'Full Name', 'nick', '$1' || i || '@example.com', 'Start-1234', true, 3, '{1001}'::bigint[]
		FROM generate_series(1, $write_users) i"
}

# written BATCH DELAY LOG STATEMENT
written()
{
	ask -c "ALTER SERVER fast OPTIONS (SET batch_size '$1')"
	set_delay "$2"
	timed bench_fast "SET lpusers.log_calls = $3; SELECT FROM fast.users" "$4"
}

copied()
{
	ask -c "\\copy ($(new_rows c | tr '\n' ' ')) TO '$work/tmp/rows'" 2>/dev/null
	written "$1" "$2" "$3" "COPY fast.users ($columns) FROM '$work/tmp/rows'"
}

# existing LOG STATEMENT: with users that are there.
existing()
{
	load_users "$write_users"
	configure '{"select_all": false}'
	timed bench_plain "SET lpusers.log_calls = $1; SET lpusers.max_changes = 0; $connected" "$2"
}

group_write()
{
	contender c_100 limit_send 100 8 0
	contender insert_100 written 100 0 off "INSERT INTO fast.users ($columns) $(new_rows i)"
	contender logged_100 written 100 0 on "INSERT INTO fast.users ($columns) $(new_rows l)"
	contender copy_100 copied 100 0 off
	contender c_1000 limit_send 1000 8 0
	contender insert_1000 written 1000 0 off "INSERT INTO fast.users ($columns) $(new_rows i)"
	contender update existing off "UPDATE lp.users SET max_chats = 5, full_name = 'New Name', employee_id = login_name"
	contender delete existing off 'DELETE FROM lp.users'
	measure
	row "INSERT $write_users users, 100 a request: plain C, 8 connections" ms c_100
	row '...: lpusers, INSERT ... SELECT' ms insert_100 c_100
	row '...: lpusers, recorded' ms logged_100 c_100
	row '...: lpusers, COPY' ms copy_100 c_100
	row "INSERT $write_users users, 1000 a request: plain C, 8 connections" ms c_1000
	row '...: lpusers, INSERT ... SELECT' ms insert_1000 c_1000
	row "UPDATE of $write_users users" ms update
	row "DELETE of $write_users users" ms delete
}

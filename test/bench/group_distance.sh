# shellcheck shell=bash disable=SC2154,SC2034	# variables of run.sh and setup.sh
#
# group_distance.sh: the main paths, with an account that takes 0, 20 and 100 ms for a response.  To be sourced by run.sh.
# shellcheck source=test/bench/group_calls.sh
. "$here/group_calls.sh"
# shellcheck source=test/bench/group_table.sh
. "$here/group_table.sh"
# shellcheck source=test/bench/group_sync.sh
. "$here/group_sync.sh"

# far_calls COMMAND...: of an account at that distance; milliseconds.
far_calls()
{
	set_delay "$answer_ms"
	"$@" | awk '{ print $1 / 1000 }'
}

# The writes of one listing and nine requests, without the time that users.awk needs.
far_changes()
{
	slow "$table_users"
	"$work/bin/limit_put" "$url$users_path" "$table_users" 100
	configure '{"delay_ms": 0}'
}

distance_contenders()
{
	contender "c_one_$1" far_calls limit_call kept "$fast_url" 5 1 c.
	contender "one_$1" far_calls our_calls fast off 5 1 o.
	contender "c_call_$1" far_calls limit_call kept "$fast_url" 5 100 c.
	contender "call_$1" far_calls our_calls fast off 5 100 o.
	contender "c_send_$1" limit_send 100 8 "$1"
	contender "drain_$1" drain 100 8 "$1"
	contender "insert_$1" inserted
	contender "c_update_$1" far_changes
	contender "update_$1" updated
	contender "c_list_$1" c_list 1000
	contender "list_$1" looked_up 1000 '(SELECT FROM lp.users LIMIT 100) u'
	contender "c_gets_$1" c_gets 1000
	contender "any_$1" looked_up 1000 'lp.users WHERE id = ANY (ARRAY(SELECT id FROM chosen))'
	contender "join_$1" looked_up 1000 'chosen JOIN lp.users USING (id)'
}

distance_rows()
{
	row "$1 ms: a call, 1 user: plain C" ms "c_one_$1"
	row '...: lpusers' ms "one_$1" "c_one_$1"
	row "$1 ms: a call, 100 users: plain C" ms "c_call_$1"
	row '...: lpusers' ms "call_$1" "c_call_$1"
	row "$1 ms: $queue_users creates, 100 a request, 8 connections: plain C" ms "c_send_$1"
	row '...: lpusers, CALL lp_deliver()' ms "drain_$1" "c_send_$1"
	row '...: lpusers, INSERT into the foreign table' ms "insert_$1" "c_send_$1"
	row "$1 ms: $table_users changes, a listing and PUTs of 100: plain C" ms "c_update_$1"
	row '...: lpusers, UPDATE of the foreign table' ms "update_$1" "c_update_$1"
	row '...: lpusers, CALL lp_deliver() of a plan' ms "synced_$1" "c_update_$1"
	row "$1 ms: a listing of 1000 users: plain C" ms "c_list_$1"
	row '...: lpusers' ms "list_$1" "c_list_$1"
	row "$1 ms: 100 of 1000 users by id: plain C, 8 at a time" ms "c_gets_$1"
	row '...: lpusers, id = ANY (ARRAY(SELECT id ...))' ms "any_$1" "c_gets_$1"
	row '...: lpusers, join on id' ms "join_$1" "c_gets_$1"
}

group_distance()
{
	local ms

	table_users=900
	ask -c 'DROP TABLE IF EXISTS chosen' -c "CREATE TABLE chosen AS SELECT $first_id + i AS id FROM generate_series(0, 99) i" \
		-c 'ANALYZE chosen' -c 'GRANT SELECT ON chosen TO bench_plain'
	for ms in 0 20 100; do
		answer_ms=$ms
		before_round() { fresh; }
		distance_contenders "$ms"
		measure
		before_round() { :; }
		synced 2000
		contender "synced_$ms" changes_delivered
		measure
		distance_rows "$ms"
	done
}

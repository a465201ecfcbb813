# shellcheck shell=bash disable=SC2154,SC2034	# variables of run.sh and setup.sh
#
# group_scale.sh: how cost grows with users a call, connections, and the account's time.  To be sourced by run.sh.  Scans
# are in group memory.
# shellcheck source=test/bench/group_calls.sh
. "$here/group_calls.sh"
# shellcheck source=test/bench/group_queue.sh
. "$here/group_queue.sh"

scale_calls()
{
	local sizes=(1 10 100 1000 10000) n calls

	[ -z "$quick" ] || sizes=(1 10 100)
	for n in "${sizes[@]}"; do
		calls=$((n < 100 ? 100 : n < 10000 ? 10 : 3))
		contender "c_$n" limit_call kept "$fast_url" "$calls" "$n" "c$n."
		contender "ours_$n" our_calls fast off "$calls" "$n" "o$n."
	done
	measure
	for n in "${sizes[@]}"; do
		row "a call of $n users: plain C" us "c_$n"
		row "a call of $n users: lpusers" us "ours_$n" "c_$n"
	done
}

scale_delivery()
{
	local n ms

	for n in 1 2 4 8 16 32; do
		contender "c_$n" limit_send 100 "$n" 20
		contender "ours_$n" drain 100 "$n" 20
	done
	for ms in 0 100; do
		contender "c_8_$ms" limit_send 100 8 "$ms"
		contender "ours_8_$ms" drain 100 8 "$ms"
	done
	measure
	for n in 1 2 4 8 16 32; do
		row "$queue_users users, 100 a request, 20 ms, $n connections: plain C" ms "c_$n"
		row "$queue_users users, 100 a request, 20 ms, $n connections: lpusers" ms "ours_$n" "c_$n"
	done
	for ms in 0 100; do
		row "$queue_users users, 100 a request, $ms ms, 8 connections: plain C" ms "c_8_$ms"
		row "$queue_users users, 100 a request, $ms ms, 8 connections: lpusers" ms "ours_8_$ms" "c_8_$ms"
	done
}

group_scale()
{
	scale_calls
	scale_delivery
}

# shellcheck shell=bash disable=SC2154,SC2034	# variables of run.sh and setup.sh
#
# group_memory.sh: how time and memory of a scan grow with the account.  To be sourced by run.sh.
# shellcheck source=test/bench/group_scan.sh
. "$here/group_scan.sh"

# per_user USERS COMMAND...: microseconds of a user instead of milliseconds.
per_user()
{
	"${@:2}" | awk -v n="$1" '{ print $1 * 1000 / n, $2, $3 * 1000 / n }'
}

# Of each round: how much more memory the largest scan took than the smallest.
growth()
{
	paste -d ' ' "$(values "$1")" "$(values "$2")" | awk '{ print $5 - $2 }' >"$(values growth)"
}

group_memory()
{
	local sizes=(100 1000 10000 100000 400000) n last

	[ -z "$quick" ] || sizes=(100 10000 20000)
	last=${sizes[-1]}
	before_round() { :; }
	for n in "${sizes[@]}"; do
		load_users "$n"
		contender "read_$n" per_user "$n" limit_list read
		contender "count_$n" per_user "$n" our_list "SELECT bench_expect(count(*), $n) FROM lp.users"
		peer "http_$n" per_user "$n" http_list \
			"SELECT bench_expect(count(*), $n) FROM $http_get, jsonb_array_elements(content::jsonb)"
		measure
		row "$n users: download and read, plain C, a user" us "read_$n"
		row "$n users: lpusers, count(*), a user" us "count_$n" "read_$n"
		row "$n users: pgsql-http, count(*), a user" us "http_$n" "read_$n"
	done
	growth count_100 "count_$last"
	row_at_most "peak of memory, $last users against 100" MB growth 16
	row "time of a user, $last users against 10000" us "count_$last" count_10000 '<= 1.3'
}

# shellcheck shell=bash disable=SC2154,SC2034	# variables of run.sh and setup.sh
#
# group_scan.sh: reading users.  To be sourced by run.sh.

# limit_list WAY: milliseconds and memory of plain C.
limit_list()
{
	"$work/bin/limit_scan" "$1" "$url$users_path"
}

# Sessions have connected before they are measured.
connected='SELECT FROM lp.skills'
http_connected="SELECT status FROM http_account('GET', '$url/_sim/revision')"
http_get="http_account('GET', '$url$users_path')"

# our_list STATEMENT [CONDITION]
our_list()
{
	timed bench_plain "$connected" "$@"
}

http_list()
{
	[ -n "$have_http" ] || { echo n/a; return; }
	timed bench_plain "$http_connected" "$@"
}

python_list()
{
	[ -n "$have_python" ] || { echo n/a; return; }
	timed bench_plain 'SELECT' "SELECT bench_expect(python_count('GET', '$url$users_path'), $1)"
}

# The list is one line; it has neither of these two characters.
copy_list()
{
	timed bench_plain 'CREATE TEMP TABLE lines (line text)' \
		"COPY lines FROM PROGRAM 'curl -s -H \"Authorization: Bearer lp-token\" \"$url$users_path\"'
			(FORMAT csv, QUOTE e'\\x01', DELIMITER e'\\x02');
		 SELECT bench_expect(count(*), $1) FROM lines, jsonb_array_elements(line::jsonb)"
}

count_contenders()
{
	contender download limit_list download
	contender reader limit_list read
	contender json_c limit_list json-c
	contender count our_list "SELECT bench_expect(count(*), $1) FROM lp.users"
	contender twelve our_list "SELECT bench_expect(count(t), $1) FROM lp.twelve t"
	contender first our_list 'SELECT FROM lp.users LIMIT 1'
	contender cursor our_list 'BEGIN; DECLARE c CURSOR FOR SELECT id FROM lp.users; FETCH c'
	peer http_count http_list "SELECT bench_expect(count(*), $1) FROM $http_get, jsonb_array_elements(content::jsonb)"
	peer http_length http_list "SELECT bench_expect(json_array_length(content::json), $1) FROM $http_get"
	peer python python_list "$1"
	peer copy copy_list "$1"
}

count_rows()
{
	row "$1 users: download only, the stand-in's ceiling" ms download
	row "$1 users: download and read, plain C" ms reader download
	row "$1 users: download and json-c, user by user, plain C" ms json_c reader
	row "$1 users: lpusers, count(*)" ms count reader '<= 1.5'
	row "$1 users: lpusers, 12 columns made" ms twelve reader
	row "$1 users: lpusers, LIMIT 1 against count(*)" ms first count '<= 0.05'
	row "$1 users: lpusers, the first FETCH of a cursor" ms cursor count
	row "$1 users: pgsql-http, count(*) of jsonb_array_elements()" ms http_count reader
	row "$1 users: pgsql-http, json_array_length()" ms http_length reader
	row "$1 users: PL/Python, json.loads()" ms python reader
	row "$1 users: COPY FROM PROGRAM 'curl', jsonb_array_elements()" ms copy reader
	row "$1 users: lpusers against pgsql-http, count(*)" ms count http_count '>= 13'
}

# selected NAME STATEMENT: with what the query needs and no more.  The stand-in makes the list at the first time.
selected()
{
	our_list "$2" >/dev/null
	contender "$1" our_list "$2"
	measure
}

# table_made QUERY BEFORE USERS
table_made()
{
	timed bench_plain "DROP TABLE IF EXISTS made; $2" "CREATE TABLE made AS $1" "(SELECT count(*) FROM made) = $3"
}

http_table()
{
	[ -n "$have_http" ] || { echo n/a; return; }
	table_made "SELECT u.* FROM $http_get, jsonb_to_recordset(content::jsonb) AS u(id bigint, \"loginName\" text,
			\"fullName\" text, nickname text, email text, \"isEnabled\" boolean, \"maxChats\" int, \"profileIds\" bigint[],
			\"skillIds\" bigint[], \"memberOf\" jsonb, \"employeeId\" text, \"dateUpdated\" timestamp)" \
		"$http_connected" "$1"
}

group_scan()
{
	local many some

	many=$(larger 100000 10000)
	some=$(larger 10000 1000)
	before_round() { :; }
	load_users "$many"
	count_contenders "$many"
	measure
	count_rows "$many"

	configure '{"select_all": false}'
	selected selected "SELECT bench_expect(count(*), $many) FROM lp.users"
	selected selected_twelve "SELECT bench_expect(count(t), $many) FROM lp.twelve t"
	row "$many users: lpusers, count(*), only ids asked for" ms selected count
	row "$many users: lpusers, 12 columns, only these asked for" ms selected_twelve twelve

	load_users "$some"
	contender reader limit_list read
	contender ctas table_made 'SELECT * FROM lp.twelve' "$connected" "$some"
	peer http_ctas http_table "$some"
	measure
	row "CREATE TABLE AS, 12 columns, $some users: download and read, C" ms reader
	row "CREATE TABLE AS, 12 columns, $some users: lpusers" ms ctas reader
	row "CREATE TABLE AS, 12 columns, $some users: pgsql-http" ms http_ctas reader
	row "CREATE TABLE AS, 12 columns, $some users: against pgsql-http" ms ctas http_ctas '>= 3.4'
}

# shellcheck shell=bash disable=SC2154,SC2034	# variables of run.sh and setup.sh
#
# group_calls.sh: one create call, body of so many users.  To be sourced by run.sh.

# limit_call HOW URL CALLS USERS PREFIX [CA]
limit_call()
{
	"$work/bin/limit" "$1" "$2$users_path" "${@:3}"
}

# sql_calls SERVER SETTING CALLS USERS PREFIX QUERY: microseconds of a call in a backend.
sql_calls()
{
	ask -F ' ' -c "SET $2" -c "SET ROLE bench_$1" \
		-c "SELECT took, '-', worked FROM bench_calls('$5', $3, $4, \$bench\$$6\$bench\$)"
}

our_calls()
{
	sql_calls "$1" "lpusers.log_calls = $2" "$3" "$4" "$5" \
		"SELECT count(*) FILTER (WHERE status = 201) FROM bodies, LATERAL lp_create_users('12345678', body)"
}

# http_calls CALLS USERS PREFIX CONDITION: with pgsql-http.
http_calls()
{
	[ -n "$have_http" ] || { echo n/a; return; }
	sql_calls fast 'http.keepalive = on' "$1" "$2" "$3" \
		"SELECT count(*) FILTER (WHERE status = 201 AND $4)
		 FROM bodies, LATERAL http_account('POST', '$fast_url$users_path', body::text)"
}

# With pg_curl; the response is text.
curl_calls()
{
	[ -n "$have_curl" ] || { echo n/a; return; }
	sql_calls fast 'client_min_messages = warning' "$1" "$2" "$3" \
		"SELECT count(curl_account('POST', '$fast_url$users_path', body::text)::jsonb) FROM bodies"
}

python_calls()
{
	[ -n "$have_python" ] || { echo n/a; return; }
	sql_calls fast 'client_min_messages = warning' "$1" "$2" "$3" \
		"SELECT count(*) FILTER (WHERE python_count('POST', '$fast_url$users_path', body::text) = $2) FROM bodies"
}

# own_time USERS CALLS: microseconds that the stand-in itself works for a call.
own_time()
{
	local before after

	before=$(fast GET cpu) && limit_call kept "$fast_url" "$2" "$1" o. >/dev/null && after=$(fast GET cpu) &&
		awk -v us="$((after - before))" -v n="$2" 'BEGIN { print us / n }'
}

# jsonb_only USERS CALLS: what the function's types ask for: jsonb to be sent as text, and a text like it back as jsonb.
jsonb_only()
{
	sql_calls fast 'client_min_messages = warning' "$2" "$1" j. 'SELECT count(*) FILTER (WHERE body::text::jsonb IS NOT NULL) FROM bodies'
}

# calls_of USERS CALLS: contenders for calls of so many users.
calls_of()
{
	contender "own_$1" own_time "$1" "$2"
	contender "c_$1" limit_call kept "$fast_url" "$2" "$1" "c$1."
	contender "new_$1" limit_call new "$fast_url" "$2" "$1" "n$1."
	contender "jsonb_$1" jsonb_only "$1" "$2"
	contender "ours_$1" our_calls fast off "$2" "$1" "o$1."
	contender "logged_$1" our_calls fast on "$2" "$1" "l$1."
	peer "http_$1" http_calls "$2" "$1" "h$1." true
	peer "read_$1" http_calls "$2" "$1" "r$1." 'content::jsonb IS NOT NULL'
	peer "curl_$1" curl_calls "$2" "$1" "u$1."
	peer "python_$1" python_calls "$2" "$1" "p$1."
}

# calls_rows USERS WHAT AIM AIM_OF_READING
calls_rows()
{
	row "$2: plain C, kept connection" us "c_$1"
	row "$2: of that the stand-in itself works" us "own_$1" "c_$1"
	row "$2: plain C, a new connection each" us "new_$1" "c_$1"
	row "$2: no network: jsonb to text, and text to jsonb" us "jsonb_$1" "c_$1"
	row "$2: lpusers, log_calls off" us "ours_$1" "c_$1" "$3"
	row "$2: lpusers, each call recorded" us "logged_$1" "c_$1"
	row "$2: pgsql-http" us "http_$1" "c_$1"
	row "$2: pgsql-http, answer as jsonb" us "read_$1" "c_$1"
	row "$2: pg_curl, answer as jsonb" us "curl_$1" "c_$1"
	row "$2: PL/Python, answer read" us "python_$1" "c_$1"
	[ -z "${4:-}" ] || row "$2: lpusers against pgsql-http, answer as jsonb" us "ours_$1" "read_$1" "$4"
}

group_calls()
{
	calls_of 1 "$(larger 1000 200)"
	calls_of 100 "$(larger 100 20)"
	calls_of 1000 "$(larger 20 5)"
	measure
	calls_rows 1 '1 user' '<= 1.3'
	calls_rows 100 '100 users' '' '<= 0.8'
	calls_rows 1000 '1000 users' '' '<= 1.0'
}

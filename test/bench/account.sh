# shellcheck shell=bash disable=SC2154,SC2034	# variables of run.sh and setup.sh
#
# account.sh: the stand-in accounts that the groups talk to.  To be sourced.
#
# start_accounts sets $fast_url, one that takes users at next to no cost; $url and $tls_url, one that behaves as the real
# one.  start_http2 sets $http2_url if there is nghttpx to put before that, which speaks HTTP/1.1.

users_path='/api/account/12345678/configuration/le-users/users?v=4.0'

# first_line FILE: when it is there.
first_line()
{
	local i

	for ((i = 0; i < 100; i++)); do
		[ ! -s "$1" ] || { head -n 1 "$1"; return; }
		sleep 0.1
	done
	die "the stand-in account does not start"
}

# make_fast_account CFLAG...: the program.
make_fast_account()
{
	gcc -O2 "$@" -o "$work/bin/fast_account" "$top/test/bench/fast_account.c" "$top/test/bench/limits.c" -lcurl -lpthread
}

start_accounts()
{
	local urls=$work/urls

	"$work/bin/fast_account" "$work/fast_url" >"$work/log/fast_account.log" 2>&1 3>&- 4>&- &
	fast_url=$(first_line "$work/fast_url")
	"$top/test/lpsim/lpsim" --account '*' --max-age 86400 --url-file "$urls" --tls-port 0 --tls-cert "$work/certs/server.pem" \
		--tls-key "$work/certs/server.key" >"$work/log/lpsim.log" 2>&1 3>&- 4>&- &
	url=$(first_line "$urls")
	tls_url=$(tail -n 1 "$urls")
}

# Its copy is ended with us.
start_http2()
{
	local port=${url##*:} nghttpx i

	http2_url=
	nghttpx=$(PATH=$PATH:/usr/sbin command -v nghttpx) || return 0
	cp "$nghttpx" "$work/bin/nghttpx"
	port=$((port < 60000 ? port + 1000 : port - 1000))
	"$work/bin/nghttpx" --conf=/dev/null --frontend="127.0.0.1,$port" --backend="127.0.0.1,${url##*:}" --workers=1 \
		--no-ocsp "$work/certs/server.key" "$work/certs/server.pem" >"$work/log/nghttpx.log" 2>&1 3>&- 4>&- &
	for ((i = 0; i < 50; i++)); do
		if curl -sf -o /dev/null --cacert "$work/certs/ca.pem" "https://127.0.0.1:$port/_sim/revision"; then
			http2_url=https://127.0.0.1:$port
			return 0
		fi
		sleep 0.1
	done
	echo "nghttpx does not start: no HTTP/2" >&2
}

# sim METHOD PATH [BODY]: a request to the control interface.  fast: to that of the fast one.
sim()
{
	curl -sf -X "$1" ${3+--data-binary "$3"} "$url/_sim/$2"
}

fast()
{
	curl -sf -X "$1" ${3+--data-binary "$3"} "$fast_url/_sim/$2"
}

configure()
{
	sim POST config "$1" >/dev/null
}

# set_delay MS: of the fast one.
set_delay()
{
	fast POST config "{\"delay_ms\":$1}" >/dev/null
}

fault()
{
	sim POST faults "$1" >/dev/null
}

# load_users N: so many users of about 800 bytes, who answer with every attribute whatever is asked for.
load_users()
{
	local from

	sim POST reset >/dev/null
	for ((from = 0; from < $1; from += 50000)); do
		awk -v from="$from" -v to="$(($1 < from + 50000 ? $1 : from + 50000))" -f "$top/test/bench/users.awk" |
			sim POST users @- >/dev/null
	done
	configure '{"select_all": true}'
	# the stand-in makes the list when it is asked for the first time
	curl -sf -o /dev/null -H 'Authorization: Bearer lp-token' "$url$users_path"
}

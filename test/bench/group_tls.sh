# shellcheck shell=bash disable=SC2154,SC2034	# variables of run.sh and setup.sh
#
# group_tls.sh: what TLS costs.  To be sourced by run.sh.
# shellcheck source=test/bench/group_calls.sh
. "$here/group_calls.sh"

# reconnects SERVER CALLS: milliseconds of a call that has to connect anew, because the account closes the connection after
# each. Nothing, if it was not so.
reconnects()
{
	local before after took

	fault '{"method": "DELETE", "path": "/users", "times": 0, "action": "status", "status": 200, "body": "{}",
		"headers": {"Connection": "close"}}'
	before=$(sim GET connections)
	took=$(sql_calls "$1" 'lpusers.log_calls = off' "$2" 1 r. \
		"SELECT count(*) FROM bodies, LATERAL lp_delete_users('12345678', ARRAY[length(body::text)]::bigint[])" |
		awk '{ print $1 / 1000, $2, $3 / 1000 }')
	after=$(sim GET connections)
	sim DELETE faults >/dev/null
	[ "$((after - before))" -gt "$2" ] && echo "$took"
}

# The first call of a backend reads the certificates.
first_call()
{
	timed bench_bundle 'SELECT' "SELECT status FROM lp_delete_users('12345678', '{1}')"
}

http2_calls()
{
	[ -n "$http2_url" ] || { echo n/a; return; }
	"$@"
}

group_tls()
{
	local calls

	calls=$(larger 1000 100)
	contender c_tls limit_call kept "$tls_url" "$calls" 1 c. "$work/certs/ca.pem"
	contender ours_tls our_calls tls off "$calls" 1 o.
	contender new_tls limit_call new "$tls_url" "$((calls / 10))" 1 n. "$work/certs/bundle.pem"
	contender reconnects reconnects bundle "$((calls / 10))"
	contender one_authority reconnects tls "$((calls / 10))"
	contender first_call first_call
	contender c_http2 http2_calls limit_call kept "$http2_url" "$calls" 1 d. "$work/certs/ca.pem"
	contender ours_http2 http2_calls our_calls http2 off "$calls" 1 p.
	measure
	row '1 user, kept connection: plain C' us c_tls
	row '1 user, kept connection: lpusers' us ours_tls c_tls '<= 1.3'
	row '1 user, a new connection each: plain C' us new_tls
	row_at_most '1 call, a new connection each: lpusers' ms reconnects 3
	row_at_most '1 call, a new connection each, ca_file of one certificate: lpusers' ms one_authority 3
	row 'first call of a backend, reads the CA bundle: lpusers' ms first_call
	row '1 user, HTTP/2 behind nghttpx: plain C' us c_http2
	row '1 user, HTTP/2 behind nghttpx: lpusers' us ours_http2 c_http2
}

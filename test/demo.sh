#!/bin/bash
#
# demo.sh: from nothing to a table of results, in less than a minute.
#
#	bash test/demo.sh [--report FILE]
#
#	--report	keep the HTML page that its last step makes
#
# Installs what is missing (Debian, Ubuntu), builds lpusers, starts a throwaway
# PostgreSQL and a stand-in account, and plays test/demo.sql against them.
# Nothing else outside of this machine is contacted, and at exit everything but
# that page is gone.
# The exit status is 0 only if the account ends up as it should: each login
# exactly once.

# shellcheck disable=SC2119
set -euo pipefail
# shellcheck source=test/setup.sh
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

usage()
{
	sed -n '5,7s/^#[[:space:]]\{0,1\}//p' "${BASH_SOURCE[0]}"
	exit "$1"
}

arguments=("$@")
report=
while [ $# -gt 0 ]; do
	case $1 in
		--report) report=${2:?}; shift ;;
		-h | --help) usage 0 ;;
		*) usage 2 >&2 ;;
	esac
	shift
done

# Opened by the caller, and kept when root is dropped.
if [ -n "$report" ] && [ -z "${LPUSERS_WORK:-}" ]; then exec 4>"$report"; fi

heading()
{
	printf '\n== %s\n' "$*"
}

# account PATH [curl args]: a control request to the stand-in account.
account()
{
	curl -sS --fail --noproxy '*' --max-time 30 "${@:2}" "$LPSIM_URL/_sim/$1"
}

# Play the SQL script; what psql said is also in $work/log/demo.log.
play_sql()
{
	psql -X -q -e -v ON_ERROR_STOP=1 -v directory="$LPSIM_TLS_URL" -v ca="$top/test/certs/ca.pem" \
		-v page="$work/tmp/report.html" <"$top/test/demo.sql" 2>&1 | tee "$work/log/demo.log"
}

# What must be true now, whatever was printed.  Each line of the answer is a fault.
faults()
{
	account users >"$work/tmp/users.json"
	grep -q '<dt>Created</dt><dd class="some">49<.*<dt>Failed</dt><dd class="some">2<.*</html>' "$work/tmp/report.html" ||
		echo "the report does not say so"
	grep -q '^WARNING: .*rolled back here, but not in account' "$work/log/demo.log" ||
		echo "there was no warning after ROLLBACK"
	psql -X -q -A -t -v ON_ERROR_STOP=1 <<-'END'
		\set users `cat "$TMPDIR/users.json"`
		WITH found AS (
			SELECT u->>'loginName' AS login, count(*) AS n FROM jsonb_array_elements(:'users') u GROUP BY 1
		), expected AS (
			SELECT email AS login FROM employees UNION SELECT 'quince.tartu@example.com'
			UNION SELECT email FROM hires WHERE email IS NOT NULL
		)
		SELECT format('the account has %s %s times', coalesce(f.login, e.login), coalesce(f.n, 0))
		FROM expected e FULL JOIN found f USING (login)
		WHERE f.n IS DISTINCT FROM 1 OR e.login IS NULL
		UNION ALL
		SELECT format('%s results instead of %s: %s %s', count(r.id), x.n, x.state, coalesce(x.status::text, ''))
		FROM (VALUES ('created', 201, 49), ('failed', 409, 1)) x(state, status, n)
		LEFT JOIN lp_results r ON r.state = x.state AND r.status = x.status
		GROUP BY x.state, x.status, x.n HAVING count(r.id) <> x.n;
	END
}

# Everything that needs the stand-in account; lpsim runs this and ends with it.
play()
{
	local wrong

	# a user that exists in the account already
	account users -o /dev/null -d '[{"loginName": "cedar.ghent@example.com", "fullName": "Cedar Ghent",
		"nickname": "Cedar", "email": "cedar.ghent@example.com", "isEnabled": true, "maxChats": 3, "profileIds": [1]}]'
	play_sql
	echo "It has $(wc -c <"$work/tmp/report.html") bytes, needs nothing from elsewhere, and prints well. ${report:+It is in $report.}"
	[ -n "$report" ] || echo "To look at it: bash test/demo.sh --report report.html"
	wrong=$(faults)
	heading "Check: the account itself was asked"
	if [ -n "$wrong" ]; then
		printf '%s\n' "$wrong" >&2
		die "the account is not as it should be"
	fi
	echo "Each of the 48 employees is in it exactly once, so are the two hires with an e-mail address and the one rolled back."
}

main()
{
	if [ -z "${LPUSERS_WORK:-}" ]; then
		heading "Build lpusers, start a throwaway PostgreSQL and a stand-in account (less than a minute)"
		need_packages
	fi
	drop_root ${arguments[0]+"${arguments[@]}"}
	private_postgres
	build all test/lpsim/lpsim
	make_certs "$top/test/certs"
	start_server
	echo "$(postgres --version), user $(id -un), in $work"

	export work top report
	export -f play play_sql faults account heading die
	"$top/test/lpsim/lpsim" --tls-port 0 --tls-cert "$top/test/certs/server.pem" --tls-key "$top/test/certs/server.key" \
		-- bash -euo pipefail -c play demo.sh || die "the demo failed"
	[ -z "$report" ] || cat "$work/tmp/report.html" >&4

	heading "With a real account"
	cat <<-'END'
		Leave domain_api_url and ca_file out; the account's hosts are then found by themselves:
		  CREATE SERVER acme FOREIGN DATA WRAPPER lpusers OPTIONS (account 'YOUR ACCOUNT ID');
		  CREATE USER MAPPING FOR hr SERVER acme OPTIONS (client_id '...', client_secret '...');
		The two are an OAuth 2.0 client that the account's administrator registered. Run lp_check()
		first: it writes nothing. Every later step is the one shown above; README.md has the rest.
	END
}

main

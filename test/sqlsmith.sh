#!/usr/bin/env bash
#
# sqlsmith.sh [seconds]: random SQL against a database with foreign tables, a trigger and a queue, for some time.
#
# SQLsmith (Debian's package) writes queries from what the catalogs offer: tables, views, foreign tables, functions. It runs as
# a role that may use all of lpusers, beside a worker and a stand-in account. The server must not go down, and no error of ours
# may be an internal one (XX000); what PostgreSQL's own code has to say is counted.
set -euo pipefail
# shellcheck source=test/setup.sh
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

command -v sqlsmith >/dev/null || need_packages sqlsmith
[ -n "${LPUSERS_WORK:-}" ] || need_packages
drop_root "$@"
private_postgres
build all test/lpsim/lpsim
seconds=${1:-300}
seed=${LPUSERS_SEED:-$RANDOM}
start_server log_error_verbosity=verbose "log_min_error_statement=error" lpusers.idle_timeout=1s

cat >"$work/setup.sql" <<'SQL'
CREATE EXTENSION lpusers;
CREATE ROLE smith LOGIN;
CREATE SERVER acme FOREIGN DATA WRAPPER lpusers OPTIONS (account '12345678', base_url :'url', timeout '2s', hold_above '0', batch_size '20');
GRANT USAGE ON FOREIGN SERVER acme TO smith;
CREATE USER MAPPING FOR smith SERVER acme OPTIONS (token 'lp-token');
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO smith;
CREATE SCHEMA lp AUTHORIZATION smith;
CREATE SCHEMA hr AUTHORIZATION smith;
SET ROLE smith;
IMPORT FOREIGN SCHEMA liveperson FROM SERVER acme INTO lp;
CREATE FOREIGN TABLE lp.odd (id bigint, login text OPTIONS (attribute 'loginName'), max_chats smallint, skill_ids jsonb, member_of jsonb, entity jsonb OPTIONS (attribute '*'))
	SERVER acme OPTIONS (resource 'users');
CREATE TABLE hr.hires (id serial PRIMARY KEY, email text, name text, team bigint, active boolean);
CREATE TABLE hr.parts (email text, team bigint) PARTITION BY LIST (team);
CREATE TABLE hr.part1 PARTITION OF hr.parts DEFAULT;
CREATE VIEW hr.drift AS SELECT h.email, u.id, u.is_enabled FROM hr.hires h LEFT JOIN lp.users u ON u.login_name = h.email;
INSERT INTO hr.hires (email, name, team, active) SELECT 'agent' || n || '@example.com', 'x' || n, n % 3, n % 2 = 0 FROM generate_series(1, 50) n;
SELECT lp_attach_trigger('hr.hires', '12345678', $${"loginName": "email", "fullName": "name", "nickname": "name", "email": "email",
	"passwordSh": "'Start-1234'", "isEnabled": "active", "maxChats": "3", "profileIds": "ARRAY[team]"}$$);
SELECT count(*) FROM lp_enqueue_users('12345678', (SELECT jsonb_agg(jsonb_build_object('loginName', email || n, 'fullName', name, 'nickname', name, 'email', email,
	'passwordSh', 'Start-1234', 'isEnabled', true, 'maxChats', 3, 'profileIds', ARRAY[1])) FROM hr.hires, generate_series(1, 5) n));
SQL

# LPSIM_URL is what the stand-in gives its command.
cat >"$work/smith" <<'SMITH'
#!/usr/bin/env bash
psql -XqAt -v ON_ERROR_STOP=1 -v url="$LPSIM_URL" -f "$1/setup.sql" >/dev/null || exit 3
# it ends by itself when the server goes away
timeout "$2" sqlsmith --target="host=$PGHOST dbname=postgres user=smith" --seed="$3" --exclude-catalog --verbose >"$1/log/sqlsmith.out" 2>"$1/log/sqlsmith.err"
[ $? = 124 ] || exit 4
SMITH
chmod +x "$work/smith"
status=0
run_group test/lpsim/lpsim --users 200 --max-age $((seconds + 300)) -- "$work/smith" "$work" "$seconds" "$seed" || status=$?
case $status in
	0) ;;
	3) die "the database could not be set up" ;;
	*) tail -n 5 "$work/log/sqlsmith.err" "$work/log/server.log"; echo "sqlsmith: it ended early (seed $seed)"; exit 1 ;;
esac
psql -XqAtc 'SELECT 1' >/dev/null || die "the server is gone (seed $seed)"

# Errors by SQLSTATE; internal ones by where they were raised.
cat >"$work/judge.pl" <<'JUDGE'
use strict;
use warnings;

my %ours = map { $_ => 1 } split(/ /, shift);
my (%codes, %internal, $pending, $down, $bad);

while (<>)
{
	$down = $_ if /terminated by signal|TRAP:|PANIC:/;
	$pending = [ $1, $2 ] if /ERROR:  (\w{5}): (.*)/;
	next unless $pending && /LOCATION:  \w+, (\w+\.c):/;
	$codes{ $pending->[0] }++;
	$internal{"$1: $pending->[1]"}++ if $pending->[0] eq 'XX000';
	$bad = 1 if $pending->[0] eq 'XX000' && $ours{$1};
	undef $pending;
}
my @codes = sort { $codes{$b} <=> $codes{$a} } keys %codes;
print 'errors: ', join(', ', map { "$_ $codes{$_}" } @codes), "\n";
print "internal: $_ ($internal{$_} times)\n" foreach sort keys %internal;
print "down: $down" if $down;
exit($down || $bad ? 1 : 0);
JUDGE
if ! perl "$work/judge.pl" "$(cd src && echo *.c)" "$work/log/server.log"; then
	echo "sqlsmith: failed (seed $seed)"
	exit 1
fi
queries=$(tr '\r' '\n' <"$work/log/sqlsmith.err" | sed -n 's/^queries: \([0-9]*\).*/\1/p' | tail -n 1)
echo "sqlsmith: ${queries:-some} queries in $seconds s, the server is well (seed $seed)"

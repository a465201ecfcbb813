# An INSERT of many rows into a table with the trigger: the memory of the backend does not grow with their number. LPUSERS_LONG: a million.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LpUsers;
use PostgreSQL::Test::Utils;
use Test::More;

plan(skip_all => 'needs /proc as Linux has it') unless -e "/proc/$$/status";

my $node = LpUsers::server(conf => "lpusers.worker = off\nautovacuum = off\nmax_wal_size = '4GB'\nlog_statement = none\n");
$node->safe_psql('postgres', q{
	CREATE SERVER acme FOREIGN DATA WRAPPER lpusers OPTIONS (account '12345678', base_url 'http://127.0.0.1:1', hold_above '0');
	CREATE USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (token 'lp-token');
	CREATE TABLE staff (id int PRIMARY KEY, email text, name text);
	SELECT FROM lp_attach_trigger('staff', '12345678', '{"loginName": "email", "email": "email", "fullName": "name", "nickname": "name",
		"passwordSh": "''Start-1234''", "isEnabled": "true", "maxChats": "3", "profileIds": "ARRAY[1001]"}');});

# Peak of a backend that inserts so many rows, without what it shares, in MB.
sub peak
{
	my ($n) = @_;
	my $session = LpUsers::session($node);

	$session->query('TRUNCATE staff, lp_requests, lp_payloads');
	my $pid = $session->query('SELECT pg_backend_pid()');
	$session->query("INSERT INTO staff SELECT i, 's' || i || '\@example.com', 'Full Name' FROM generate_series(1, $n) i");
	my %kb = slurp_file("/proc/$pid/status") =~ /^(VmHWM|RssShmem):\s+(\d+)/mg;
	is($session->query('SELECT count(*) FROM lp_requests'), $n, "$n rows: all are in the queue");
	$session->quit;
	return ($kb{VmHWM} - $kb{RssShmem}) / 1024;
}

# a slow machine may need minutes
$LpUsers::patience *= 5;
my $few  = peak(10_000);
my $n    = $ENV{LPUSERS_LONG} ? 1_000_000 : 100_000;
my $many = peak($n);
note(sprintf('%.1f MB for 10,000 rows, %.1f MB for %d', $few, $many, $n));
cmp_ok($many - $few, '<', 20, "MB more for $n rows than for 10,000");
done_testing();

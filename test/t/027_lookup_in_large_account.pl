# A lookup in a large account: one listing of 100,000 users answers for a few, and the memory it takes is the bytes that
# came, not a tree of them.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP;
use LpUsers;
use Test::More;

plan(skip_all => 'needs /proc as Linux has it') unless -e "/proc/$$/status";

my $sim  = LpUsers::account('--users', 100_000);
my $node = LpUsers::server(conf => "lpusers.worker = off\n");

LpUsers::connect_account($node, $sim);
my $session = LpUsers::session($node);

# The most memory that the backend has had, in MB.
sub peak_mb
{
	my $pid = $session->query('SELECT pg_backend_pid()');

	open(my $in, '<', "/proc/$pid/status") or die "status of $pid: $!";
	my ($kb) = join('', <$in>) =~ /^VmHWM:\s+(\d+) kB/m;
	close($in);
	return $kb / 1024;
}

subtest 'a lookup finds two users among 100,000' => sub {
	my $users = '[' . join(',', map { LpUsers::user($_) } 'ann', 'bob') . ']';
	$session->query("SELECT count(*) FROM lp_enqueue_users('12345678', '$users')");
	$sim->post('faults', { method => 'POST', path => '/le-users/users', action => 'reset', applied => JSON::PP::true, times => 2 });
	$session->run('CALL lp_deliver()');
	is($session->query('SELECT count(*) FROM lp_requests WHERE state = \'uncertain\''), 2, 'no answer came');

	$session->query('UPDATE lp_requests SET next_attempt_at = now()');
	my $before = peak_mb();
	$session->run('CALL lp_deliver()');
	my $growth = peak_mb() - $before;
	is($session->query('SELECT count(*) FROM lp_results WHERE state = \'created\' AND evidence = \'lookup\' AND user_id IS NOT NULL'),
		2, 'both were found among the others');
	is($sim->count(method => 'POST', path => '/le-users/users'), 2, 'and not sent again');
	# as a tree it took 168 MB, as it came 11
	cmp_ok($growth, '<', 40, 'MB of memory');
	note("$growth MB");
};

done_testing();

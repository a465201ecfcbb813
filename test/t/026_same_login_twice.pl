# Two hires with one login and the same data: the second is not taken for the first, although a lookup finds a user with
# just what was sent. Its answer is lost, so that it is looked up.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP;
use LpUsers;
use Test::More;

my $sim  = LpUsers::account();
my $node = LpUsers::server(conf => "lpusers.worker = off\n");

LpUsers::connect_account($node, $sim);

# Queue users and deliver them, looked up if need be.
sub deliver
{
	my $users = '[' . join(',', map { LpUsers::user($_) } @_) . ']';

	$node->safe_psql('postgres', "SELECT lp_enqueue_users('12345678', '$users')");
	$node->safe_psql('postgres', 'CALL lp_deliver()');
	$node->safe_psql('postgres', "UPDATE lp_requests SET next_attempt_at = now() WHERE state IN ('pending', 'uncertain')");
	$node->safe_psql('postgres', 'CALL lp_deliver()');
	return;
}

subtest 'the second request of a login fails' => sub {
	deliver('ann');
	$sim->post('faults', { method => 'POST', path => '/le-users/users', action => 'reset', applied => JSON::PP::false, login => 'ann@example.com' });
	deliver('ann', 'bob', 'cid');
	is($node->safe_psql('postgres', 'SELECT login_name, state, error FROM lp_results ORDER BY id'),
		join("\n",
			'ann@example.com|created|',
			'ann@example.com|failed|login exists: another request has created it',
			'bob@example.com|created|',
			'cid@example.com|created|'),
		'the second one failed, and says why; the others are created');
	is($node->safe_psql('postgres', "SELECT evidence FROM lp_results WHERE state = 'failed'"), 'lookup', 'it was looked up');
	is($sim->users_with("$_\@example.com"), 1, "$_ exists once") foreach qw(ann bob cid);
};

done_testing();

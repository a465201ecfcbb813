# The main job over a real connection, as a new user would try it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LpUsers;
use Test::More;

my $sim  = LpUsers::account();
my $node = LpUsers::server();

LpUsers::connect_account($node, $sim);

subtest 'lp_check() passes and a user is created once' => sub {
	is($node->safe_psql('postgres', "SELECT step, ok FROM lp_check('12345678')"),
		"domain|t\ntoken|t\nread|t\nrevision|t", 'lp_check');
	is($node->safe_psql('postgres', LpUsers::create_sql('ann')), '201|', 'a user is created');
	is($sim->users_with('ann@example.com'), 1, 'the account has it once');
	is($sim->count(method => 'POST', path => '/users', login => 'ann@example.com'), 1, 'one POST carried it');
	is($node->safe_psql('postgres', 'SELECT state, login_name, status FROM lp_results'),
		'created|ann@example.com|201', 'it is on record');
};

done_testing();

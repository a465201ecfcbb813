# Every SQL block of the README runs as it stands, in order, in one session; an output that is shown below a block is what
# comes out. Only the port of the stand-in account and times differ.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LpUsers;
use Test::More;

my $sim  = LpUsers::account();
my $node = LpUsers::server();

cmp_ok(LpUsers::test_document($node, 'README.md', replace => { 'http://127.0.0.1:8080' => $sim->url }), '>=', 20,
	'the README has SQL blocks');

# What the queue section says of its example.
LpUsers::wait_for(
	sub { $node->safe_psql('postgres', "SELECT count(*) FROM lp_results WHERE login_name = 'fern\@example.com' AND state = 'created'") == 1 },
	'the hire to be created');
is($sim->users_with('fern@example.com'), 1, 'the active hire has a user');
is($sim->users_with('heath@example.com'), 0, 'the inactive one has none');
like($node->safe_psql('postgres', "SELECT error FROM lp_results WHERE source_key ->> 'id' = '2' AND source_table = 'hr.hires'"),
	qr/"loginName" is required/, 'the one without e-mail is on record as failed');

done_testing();

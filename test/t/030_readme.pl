# Every SQL block of the README runs as it stands, in order, in one session; an output that is shown below a block is what
# comes out. Only the port of the stand-in account and times differ.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LpUsers;
use PostgreSQL::Test::Utils;
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

# To be rid of it.
{
	my ($sql) = slurp_file("$LpUsers::top/README.md") =~ /To be rid of all of it: `([^`]*)`/;
	my ($status, undef, $err) = LpUsers::try_sql($node, $sql, on_error_stop => 1);

	is($status, 0, 'the examples can be dropped again') or diag($err);
	is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_class WHERE relnamespace::regnamespace::text !~ '^(pg_|information_schema)'}), 0, '... all of them');
	is($node->safe_psql('postgres', q{SELECT string_agg(rolname, ' ') FROM pg_roles WHERE rolname !~ '^pg_' AND NOT rolsuper}), '', '... and the roles');
}

done_testing();

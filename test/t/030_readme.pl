# Every block of the README runs as it stands, in order; an output that is shown below a block is what comes out. Only the port
# of the stand-in account, what stands for an account of one's own, and times differ.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LpUsers;
use PostgreSQL::Test::Utils;
use Test::More;

my $sim     = LpUsers::account();
my $node    = LpUsers::server();
my %replace = ('http://127.0.0.1:8080' => $sim->url);

subtest 'every block of README.md runs' => sub {
	cmp_ok(-s "$LpUsers::top/README.md", '<=', 18_000, 'the README is short');

	# The first two blocks are an example of an account that is set up.
	$node->safe_psql('postgres', 'CREATE DATABASE opening');
	$node->safe_psql('opening', 'CREATE EXTENSION lpusers');
	LpUsers::connect_account($node, LpUsers::account(), db => 'opening');
	is(LpUsers::test_document($node, 'README.md', db => 'opening', only => [ 0, 1 ], settle => 1), 2, 'an example at the top');
	$node->safe_psql('postgres', 'DROP DATABASE opening WITH (FORCE)');

	# The rest begins with an installation.
	$node->safe_psql('postgres', 'DROP EXTENSION lpusers');
	$replace{"account 'YOUR ACCOUNT ID'"} = "account '12345678', base_url '" . $sim->url . "'";
	$replace{"'YOUR ACCOUNT ID'"} = "'12345678'";
	$replace{"client_id '...', client_secret '...'"} = "token 'lp-token'";
	cmp_ok(LpUsers::test_document($node, 'README.md', only => [ 2, -1 ], settle => 1, replace => \%replace), '>=', 20, 'the README has blocks');

	# What it says of its examples.
	is($sim->users_with('fern@example.com'), 1, 'the active hire has a user');
	is($sim->users_with('heath@example.com'), 0, 'the inactive one has none');
	is($sim->users_with('agent2200@example.com'), 1, 'the mass hire was released');
	is($node->safe_psql('postgres', q{SELECT is_enabled FROM lp.users WHERE login_name = 'fern@example.com'}), 't', 'the one who was hired again is enabled');

	# To remove it.
	{
		my ($sql) = slurp_file("$LpUsers::top/README.md") =~ /To remove everything that this page creates: `([^`]*)`/;
		my ($status, undef, $err) = LpUsers::try_sql($node, $sql, on_error_stop => 1);

		is($status, 0, 'the examples can be dropped again') or diag($err);
		is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_class WHERE relnamespace::regnamespace::text !~ '^(pg_|information_schema)'}), 0, '... all of them');
		is($node->safe_psql('postgres', q{SELECT string_agg(rolname, ' ') FROM pg_roles WHERE rolname !~ '^pg_' AND NOT rolsuper}), '', '... and the roles');
	}
};

done_testing();

# A session that uses more accounts than it keeps connections for.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LpUsers;
use PostgreSQL::Test::Utils;
use Test::More;

my $accounts = 400;
my $sim     = LpUsers::account();
my $node    = LpUsers::server(conf => "lpusers.worker = off\nmax_files_per_process = 150\n");
my $session = LpUsers::session($node);
my $pid     = $session->query('SELECT pg_backend_pid()');

# Each is an account of its own for lpusers; the stand-in says of all but one that it does not exist, which is an answer.
$session->query(qq{SET client_min_messages = warning;
	DO \$\$ BEGIN FOR i IN 1 .. $accounts LOOP
		EXECUTE format('CREATE SERVER s%s FOREIGN DATA WRAPPER lpusers OPTIONS (account ''A%s'', base_url ''$sim->{url}'')', i, i);
		EXECUTE format('CREATE USER MAPPING FOR CURRENT_USER SERVER s%s OPTIONS (token ''lp-token'')', i);
	END LOOP; END \$\$});
LpUsers::connect_account($node, $sim);
my $before = LpUsers::sockets_of($pid);

subtest 'calls close the connections used longest ago' => sub {
	is($session->query(qq{SELECT count(*) FROM generate_series(1, $accounts) i, LATERAL lp_delete_users('A' || i, '{1}') r WHERE r.status = 404}), $accounts, 'all are answered');
	# an idle connection, and the two descriptors of the handle that keeps it; PostgreSQL lends a third of its descriptors
	cmp_ok(LpUsers::sockets_of($pid) - $before, '<=', 50, 'those used longest ago are closed');
	is($session->query(LpUsers::create_sql('ann')), '201|', 'another one is answered, too');
	is($session->query('SELECT count(*) > 0 FROM pg_ls_waldir()'), 't', 'and PostgreSQL opens files');
};

subtest 'a delivery does, too' => sub {
	# all of them in one delivery
	$session->query(qq{SELECT count(*) FROM generate_series(1, $accounts) i, LATERAL lp_enqueue_users('A' || i, '} . LpUsers::user('bob') . q{')});
	$session->run('CALL lp_deliver()');
	is($session->query(q{SELECT string_agg(DISTINCT state || ' ' || status, ', ') FROM lp_requests WHERE operation = 'create' AND path = 'queue'}), 'held 404', 'a delivery reaches all of them')
	  or diag($session->query(q{SELECT state, status, error, reason, count(*) FROM lp_requests GROUP BY 1, 2, 3, 4}));
	cmp_ok(LpUsers::sockets_of($pid) - $before, '<=', 50, '... and keeps few');
};

done_testing();

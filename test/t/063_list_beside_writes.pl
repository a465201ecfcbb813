# A statement that reads a long listing while it waits for its own writes: the service does not wait for the reader.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LpUsers;
use PostgreSQL::Test::Utils;
use Test::More;

my $sim  = LpUsers::account('--users', 60000);
my $node = LpUsers::server(conf => "lpusers.worker = off\nlpusers.max_changes = 0\n");
LpUsers::connect_account($node, $sim, options => "timeout '20s'");
LpUsers::import_tables($node);
my $session = LpUsers::session($node);

# Lists are reset if their client takes nothing for a second; the write has this fault.
sub beside
{
	my ($fault, $sql, $title) = @_;

	$sim->remove('faults');
	$sim->post('faults', { method => 'GET', path => '/le-users/users', action => 'impatient', ms => 1000, times => 0 });
	$sim->post('faults', { times => 1, %$fault });
	my (undef, $err) = $session->run($sql);
	is($err, '', $title);
	$session->nothing_left($title);
	return;
}

subtest 'writes beside an open list' => sub {
	my $update = q{UPDATE lp.users SET nickname = 'n', full_name = 'F', employee_id = 'e' WHERE id < 4000000150};
	beside({ method => 'PUT', action => 'delay', ms => 3000 }, $update, 'a write that takes long');
	beside({ method => 'PUT', action => 'retry_after', value => '3' }, $update, 'a write that is to be sent later');
	beside({ method => 'DELETE', action => 'delay', ms => 3000 },
		q{SELECT count(*) FROM lp.users u, LATERAL lp_delete_users('12345678', ARRAY[u.id]) d WHERE u.id = 4000000020 OR u.id = 4000059000},
		'a call that takes long');
	# the file of the listing is needed in a subtransaction, and read after it
	beside({ method => 'DELETE', action => 'delay', ms => 3000 }, q{DO $$
	DECLARE
		u record;
	BEGIN
		FOR u IN SELECT id FROM lp.users LOOP
			IF u.id = 4000000030 THEN
				BEGIN
					PERFORM lp_delete_users('12345678', ARRAY[u.id]);
				EXCEPTION WHEN division_by_zero THEN
					NULL;
				END;
			END IF;
		END LOOP;
	END $$}, 'a call in a subtransaction');
};

done_testing();

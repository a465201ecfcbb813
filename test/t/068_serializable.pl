# SERIALIZABLE transactions that hire at the same time: none of them fails because of the queue.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LpUsers;
use Test::More;

my $sim  = LpUsers::account();
my $node = LpUsers::server(conf => "lpusers.worker = off\n");
LpUsers::connect_account($node, $sim);
$node->safe_psql('postgres', q{
	CREATE TABLE hires (id int PRIMARY KEY, email text);
	SELECT FROM lp_attach_trigger('hires', '12345678', '{"loginName": "email", "fullName": "''Full''", "nickname": "''nick''",
		"email": "email", "passwordSh": "''Start-1234''", "isEnabled": "true", "maxChats": "3", "profileIds": "ARRAY[1001]"}');});
my @sessions = map { LpUsers::session($node) } 1 .. 4;

my $session = $sessions[0];

subtest 'concurrent SERIALIZABLE transactions commit' => sub {
	# Each has hired before the first commits, and the last commits first.
	foreach my $round (1 .. 3)
	{
		my @failed;

		$_->query('BEGIN ISOLATION LEVEL SERIALIZABLE') foreach @sessions;
		foreach my $hire (0 .. 7)
		{
			my $id = 100 * $round + $hire;
			my (undef, $err) = $sessions[$hire % 4]->run("INSERT INTO hires VALUES ($id, 's$id\@example.com')");

			push @failed, $err if $err ne '';
		}
		foreach my $session (reverse @sessions)
		{
			my (undef, $err) = $session->run('COMMIT');

			push @failed, $err if $err ne '';
		}
		is("@failed", '', "round $round: no hire fails");
	}
	is($session->query("SELECT count(*) FROM lp_requests r JOIN lp_payloads p ON p.request_id = r.id WHERE r.state = 'pending'"), 24, 'all are in the queue');
};

subtest 'a login that occurs twice fails' => sub {
	# A login that is there twice: in one statement at once, in the queue when it is delivered.
	$session->query("BEGIN ISOLATION LEVEL SERIALIZABLE; INSERT INTO hires VALUES (1, 'twice\@example.com'), (2, 'TWICE\@example.com'); INSERT INTO hires VALUES (3, 'twice\@example.com'); COMMIT");
	is($session->query("SELECT string_agg(state, ' ' ORDER BY id) FROM lp_requests WHERE lower(login_name) = 'twice\@example.com'"), 'pending failed pending', 'twice: in a statement it is seen at once');
	$session->run('CALL lp_deliver()');
	is($session->query("SELECT string_agg(state, ' ' ORDER BY id) FROM lp_requests WHERE lower(login_name) = 'twice\@example.com'"), 'created failed failed', '... in the queue when it is delivered');
	is($session->query("SELECT count(*) FROM lp_requests WHERE state = 'created'"), 25, 'all others are created');
};

is($sim->text('duplicates') =~ s/\s//gr, '[]', 'no login is there twice');
done_testing();

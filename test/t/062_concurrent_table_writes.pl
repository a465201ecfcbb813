# UPDATE and DELETE of foreign tables while other sessions, and the queue, write users of the same account.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LpUsers;
use PostgreSQL::Test::Utils;
use Test::More;

my $sim  = LpUsers::account();
my $node = LpUsers::server(conf => "lpusers.worker = off\nlpusers.max_changes = 0\n");
LpUsers::connect_account($node, $sim, options => "timeout '20s', batch_size '20'");
LpUsers::import_tables($node);
my $session = LpUsers::session($node);
my $other   = LpUsers::session($node);
my $set     = q{nickname = 'changed', full_name = 'x', employee_id = 'x'};

$session->query("SELECT status FROM lp_create_users('12345678', (SELECT jsonb_agg(person('u' || i)) FROM generate_series(1, 120) i))");

# Users with a value of an attribute.
sub having { my ($session, $what) = @_; return $session->query("SELECT count(*) FROM lp.users WHERE $what"); }

subtest 'two sessions update at once' => sub {
	$sim->post('config', { delay_ms => 30 });
	$sim->remove('log');
	$session->send("UPDATE lp.users SET $set WHERE id % 2 = 0");
	$other->send("UPDATE lp.users SET $set WHERE id % 2 = 1");
	foreach my $s ($session, $other)
	{
		my (undef, $err) = $s->take;
		is($err, '', 'UPDATE of other users at the same time');
	}
	is(having($session, q{nickname = 'changed'}), 120, 'all are changed');
	is($sim->stale, 0, 'they have waited for each other');
};

subtest 'a long statement lets another one write' => sub {
	$sim->post('config', { delay_ms => 300 });
	$sim->remove('log');
	$session->send("UPDATE lp.users SET $set WHERE id < 4000000120");
	LpUsers::wait_for(sub { $sim->count(method => 'PUT', status => 200) > 0 }, 'the first batch');
	my (undef, $err) = $other->run("UPDATE lp.users SET nickname = 'between', full_name = 'x', employee_id = 'x' WHERE id = 4000000120");
	is($err, '', 'the one that comes second');
	(undef, $err) = $session->take;
	is($err, '', 'the one that comes first');
	like(join(' ', map { scalar(@{ $_->{logins} }) } grep { $_->{method} eq 'PUT' } @{ $sim->get('log') }), qr/^20 (20 )+1 (20 )*19$/, 'it has its turn before the end');
	cmp_ok(scalar(grep { $_->{method} eq 'GET' && $_->{path} =~ m{/users$} } @{ $sim->get('log') }), '<=', 3, 'after that, users are read once more');
	is($sim->stale, 0, 'they have waited for each other');
	is(having($session, q{nickname IN ('changed', 'between')}), 120, 'all are changed');
	$sim->post('config', { delay_ms => 30 });
};

# ------------------------------------------------------------------------------------------- beside a delivery

my $err;

subtest 'an update beside a delivery' => sub {
	$session->query("SELECT count(*) FROM lp_enqueue_users('12345678', (SELECT jsonb_agg(person('q' || i)) FROM generate_series(1, 400) i))");
	$other->send("CALL lp_deliver('12345678')");
	LpUsers::wait_for(sub { $session->query("SELECT count(*) FROM lp_requests WHERE state = 'created' AND path = 'queue'") > 0 }, 'the first results');
	foreach my $i (1 .. 2)
	{
		my (undef, $err) = $session->run("UPDATE lp.users SET nickname = 'd$i', full_name = 'x', employee_id = 'x' WHERE id <= 4000000030");

		is($err, '', 'UPDATE beside a delivery');
		is(having($session, "nickname = 'd$i'"), 30, 'all are changed');
	}
	(undef, $err) = $other->take;
	unlike($err, qr/ERROR|WARNING/, 'the delivery ends well');
	is($session->query("SELECT count(*) FROM lp_requests WHERE state = 'created' AND path = 'queue'"), 400, 'all are created');
};

is($sim->text('duplicates') =~ s/\s//gr, '[]', 'no login is there twice');

subtest 'another client that keeps writing' => sub {
	my $writer = LpUsers::session($node);

	# a call without if_match takes no lock, as any other client of the account
	$writer->send(q{DO $$ BEGIN FOR i IN 1 .. 40 LOOP
		PERFORM lp_update_users('12345678', person('u120') || '{"id": 4000000120, "nickname": "other"}'); PERFORM pg_sleep(0.02); END LOOP; END $$});
	(undef, $err) = $session->run("UPDATE lp.users SET nickname = 'beside', full_name = 'x', employee_id = 'x' WHERE id <= 4000000060");
	is($err, '', 'UPDATE while another client changes other users');
	is(having($session, q{nickname = 'beside'}), 60, 'all are changed');
	(undef, $err) = $writer->take;
	is($err, '', 'the other client');
};

# Users that the statement itself has just listed are written on condition that nothing has changed since.
subtest 'the account changes between the listing and the first write' => sub {
	$session->query(q{CREATE FUNCTION change(user_id bigint, at bigint, name text) RETURNS text LANGUAGE plpgsql AS $$
		BEGIN
			IF user_id = at THEN PERFORM lp_update_users('12345678', person(name) || jsonb_build_object('id', 4000000000 + substr(name, 2)::int, 'nickname', 'theirs')); END IF;
			RETURN 'mine';
		END $$});
	my $update = sub { my ($at, $name) = @_; return "UPDATE lp.users SET nickname = change(id, 4000000000 + $at, '$name'), full_name = 'x', employee_id = 'x' WHERE id <= 4000000060"; };

	$sim->remove('log');
	(undef, $err) = $session->run($update->(0, ''));
	is($err, '', 'no change');
	is(join(' ', map { $_->{method} } @{ $sim->get('log') }), 'GET PUT PUT PUT', 'no change: users are not read again');

	$sim->remove('log');
	(undef, $err) = $session->run($update->(30, 'u119'));
	is($err, '', 'another user is changed');
	is(join(' ', map { "$_->{method} $_->{status}" } @{ $sim->get('log') }), 'GET 200 PUT 200 PUT 412 GET 200 PUT 200 PUT 200 PUT 200', 'another user is changed: users are read again at once');
	is(having($session, q{nickname = 'mine'}) . ' ' . having($session, q{nickname = 'theirs'}), '60 1', 'another user is changed: both are as wanted');

	$sim->remove('log');
	(undef, $err) = $session->run($update->(30, 'u7'));
	like($err, qr/ERROR:  40001: could not update user "u7\@example\.com" .*DETAIL:  Attribute "\w+" is not what the statement has read\./s, 'a user of the statement is changed: 40001');
	is($sim->count(method => 'PUT', status => 200), 1, 'a user of the statement is changed: only by the other one');

	$sim->remove('log');
	(undef, $err) = $session->run(q{DELETE FROM lp.users WHERE id <= 4000000060 AND change(id, 4000000030, 'u8') = 'mine'});
	like($err, qr/ERROR:  40001: could not delete user "u8\@example\.com"/, 'a user that is to be deleted is changed: 40001');
	is($sim->count(method => 'DELETE', status => 200), 0, 'a user that is to be deleted is changed: none is deleted');
};

subtest 'lock_timeout while another session writes' => sub {
	LpUsers::connect_account($node, $sim, server => 'hasty', options => "timeout '300ms', batch_size '20'");
	$node->safe_psql('postgres', q{CREATE SCHEMA hasty; IMPORT FOREIGN SCHEMA liveperson LIMIT TO (users) FROM SERVER hasty INTO hasty});
	$sim->post('config', { delay_ms => 0 });
	$sim->post('faults', { method => 'PUT', action => 'silence', seconds => 100 });
	$session->send("UPDATE lp.users SET $set WHERE id <= 4000000003");
	LpUsers::wait_for(sub { $sim->get('faults')->[0]{struck} }, 'the fault');
	$sim->remove('log');
	(undef, $err) = $other->run("UPDATE hasty.users SET $set WHERE id = 4000000100");
	like($err, qr/ERROR:  55P03: could not lock the revision of account "12345678" in time.*Nothing was sent/s, 'no lock: 55P03');
	(undef, $err) = $other->run("DELETE FROM hasty.users WHERE id = 4000000100");
	like($err, qr/ERROR:  55P03: .*Nothing was sent/s, 'no lock for DELETE: 55P03');
	is($sim->count(method => 'PUT') + $sim->count(method => 'DELETE'), 0, 'nothing was sent');
	$other->query('SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE \'UPDATE lp.users%\' AND state = \'active\'');
	(undef, $err) = $session->take;
	like($err, qr/57014/, 'cancelled');
	$sim->remove('faults');
	(undef, $err) = $other->run("UPDATE hasty.users SET $set WHERE id = 4000000100");
	is($err, '', 'the lock went with the statement');
};

done_testing();

# Queued updates and deletes beside creates, other writers and other clients of the account: who waits for whom, and that all end done.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP;
use LpUsers;
use Test::More;

my $account = '12345678';
my $sim     = LpUsers::account();
my $node    = LpUsers::server(conf => "lpusers.worker = on\nlpusers.max_changes = 0\nlog_min_messages = warning\n");
LpUsers::connect_account($node, $sim, options => "timeout '20s', batch_size '100', max_connections '1'");
LpUsers::import_tables($node);
my $session = LpUsers::session($node);
my $other   = LpUsers::session($node);
my $first   = 4_000_000_000;

sub create { my ($prefix, $n) = @_; return $session->query("SELECT count(*) FROM lp_enqueue_users('$account', (SELECT jsonb_agg(person('$prefix' || i)) FROM generate_series(1, $n) i))"); }

# Changes of users 1 .. n, by id: with what the account does not show.
sub change
{
	my ($from, $to, $set) = @_;

	return $session->query("SELECT count(*) FROM lp_enqueue_changes('$account', (SELECT jsonb_agg('$set'::jsonb
		|| jsonb_build_object('id', $first + i, 'fullName', 'F' || i, 'employeeId', i::text)) FROM generate_series($from, $to) i))");
}

sub count { my ($where) = @_; return $other->query("SELECT count(*) FROM lp_requests WHERE $where"); }
sub finished { my ($what) = @_; LpUsers::wait_for(sub { count("state NOT IN ('created', 'done', 'failed', 'superseded')") == 0 }, $what); return; }
sub log_of { my ($method) = @_; return grep { $_->{method} eq $method && $_->{path} =~ m{/le-users/users} } @{ $sim->get('log') }; }
sub forget { $session->query('DELETE FROM lp_payloads; DELETE FROM lp_requests'); $sim->remove('log'); return; }

$session->query("SELECT status FROM lp_create_users('$account', (SELECT jsonb_agg(person('u' || i)) FROM generate_series(1, 900) i))");

subtest 'many updates in one chain' => sub {
	forget();
	change(1, 900, '{"nickname": "alone"}');
	finished('900 updates');
	is(count(q{state = 'done'}), 900, '900 updates are done');
	is(scalar(log_of('PUT')), 9, '... with nine requests');
	is(scalar(grep { $_->{path} =~ /users$/ } log_of('GET')), 1, '... and one listing');
	is_deeply([ map { $_->{if_match} =~ /(\d+)/ } log_of('PUT') ], [ map { $_ + ((log_of('PUT'))[0]{if_match} =~ /(\d+)/)[0] } 0 .. 8 ], '... each with the revision that the one before has made');
	is(scalar(grep { $_->{nickname} eq 'alone' && $_->{fullName} =~ /^F/ } @{ $sim->get('users') }), 900, 'all are changed in the account');
};

subtest 'a leaver overtakes a bulk hire' => sub {
	forget();
	$sim->post('config', { delay_ms => 200 });
	create('hire', 2000);
	LpUsers::wait_for(sub { count(q{state = 'created'}) > 0 }, 'the first hires');
	my $before = count(q{state = 'created'});
	change(7, 7, '{"isEnabled": false}');
	LpUsers::wait_for(sub { count(q{action = 'disable' AND state = 'done'}) == 1 }, 'the leaver');
	my $waited = $other->query(q{SELECT extract(epoch FROM finished_at - enqueued_at) FROM lp_requests WHERE action = 'disable'});
	my $since  = count(q{operation = 'create' AND state = 'created' AND finished_at < (SELECT finished_at FROM lp_requests WHERE action = 'disable')}) - $before;
	note("a leaver waits $waited s");
	cmp_ok($since, '<=', 500, "a leaver waits while $since of 2000 users are created");
	cmp_ok(count(q{operation = 'create' AND state = 'pending'}), '>', 0, '... and others still wait');
	$sim->post('config', { delay_ms => 0 });
	finished('the hires');
	is(count(q{state = 'created'}), 2000, 'all are created');
	is($sim->stale, 0, 'no write was stale');
};

subtest '900 updates beside running creates' => sub {
	forget();
	$sim->post('config', { delay_ms => 20 });
	create('more', 1000);
	LpUsers::wait_for(sub { count(q{state = 'created'}) > 0 }, 'the first hires');
	change(1, 900, '{"nickname": "beside"}');
	finished('updates and creates');
	is(count(q{operation = 'update' AND state = 'done'}), 900, '900 updates beside creates: all are done');
	is(count(q{operation = 'create' AND state = 'created'}), 1000, '... and all users are created');
	is($sim->stale, 0, 'no write was stale');
};

is($sim->text('duplicates') =~ s/\s//gr, '[]', 'no login is there twice');

subtest 'queued changes beside a foreign table' => sub {
	forget();
	change(1, 600, '{"nickname": "queue"}');
	foreach my $i (1 .. 2)
	{
		my (undef, $err) = $session->run("UPDATE lp.users SET description = 'd$i', full_name = 'x', employee_id = 'x' WHERE id BETWEEN $first + 601 AND $first + 630");
		is($err, '', 'UPDATE of a foreign table beside queued updates');
	}
	finished('600 updates');
	is(count(q{operation = 'update' AND path = 'queue' AND state = 'done'}), 600, '600 updates beside a foreign table: all are done');
	is(scalar(grep { ($_->{description} // '') eq 'd2' } @{ $sim->get('users') }), 30, '... and those of the foreign table');
	is($sim->stale, 0, 'they have waited for each other');
};

subtest 'queued changes beside other clients' => sub {
	# Another client writes before each of the first PUTs, then less often.
	forget();
	$sim->post('config', { delay_ms => 5 });
	$sim->post('faults', { method => 'PUT', action => 'meddle', user => sprintf('%d', $first + 900), set => { description => 'theirs' }, times => 3 });
	$sim->post('faults', { method => 'PUT', action => 'meddle', skip => 3, times => 4 });
	change(1, 60, '{"nickname": "restless"}');
	finished('updates beside another client');
	is(count(q{state = 'done' AND attempts = 1}), 60, '60 updates beside another client: all are done');
	cmp_ok($sim->stale, '>=', 3, '... after some stale writes');
	my @few = grep { $_->{status} == 200 } log_of('PUT');
	cmp_ok(scalar(@{ $few[0]{ids} }), '<=', 10, '... of which few go at a time after two');
	is(scalar(grep { $_->{nickname} eq 'restless' } @{ $sim->get('users') }), 60, 'all are changed');
	is($sim->get('users')->[899]{description}, 'theirs', '... and the write of the other client is not lost');
	my %applied;
	foreach my $entry (grep { $_->{applied} && $_->{status} == 200 } log_of('PUT')) { $applied{"$_ $entry->{if_match}"}++ foreach @{ $entry->{ids} }; }
	is(scalar(grep { $_ > 1 } values %applied), 0, 'no user was written twice at one revision');
};

done_testing();

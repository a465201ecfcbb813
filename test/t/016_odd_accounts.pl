# Accounts that store another login than was sent, or show late what they did: what was created is found, and not sent again.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP;
use LpUsers;
use Test::More;

my $account = '12345678';
my $true    = JSON::PP::true;
my $sim     = LpUsers::account();
my $node    = LpUsers::server(conf => "lpusers.worker = off\n");
LpUsers::connect_account($node, $sim);
$node->safe_psql('postgres', 'CREATE SCHEMA lp; IMPORT FOREIGN SCHEMA liveperson FROM SERVER acme INTO lp');
my $session = LpUsers::session($node);

sub fresh
{
	$sim->reset;
	$sim->remove('faults');
	$session->query('DELETE FROM lp_payloads; DELETE FROM lp_requests');
	return;
}

# Queue users with long logins, and one with a short one.
sub queue_people
{
	$session->query(qq{SELECT count(*) FROM lp_enqueue_users('$account', (SELECT jsonb_agg(jsonb_build_object(
		'loginName', format('person%s.with.a.long.name\@example.com', i), 'email', format('p%s\@example.com', i), 'fullName', 'Full ' || i, 'nickname', 'nick', 'passwordSh', 'Start-1234',
		'isEnabled', true, 'maxChats', 3, 'profileIds', '[1001]'::jsonb)) FROM generate_series(1, 8) i))});
	return;
}

sub deliver { my ($times) = @_; foreach (1 .. $times // 1) { $session->run("CALL lp_deliver('$account')"); $session->due_now; } return; }
sub states { return $session->query("SELECT string_agg(concat_ws(' ', state, n), ', ' ORDER BY state) FROM (SELECT state, count(*) AS n FROM lp_requests GROUP BY 1) x"); }
sub posts { return $sim->count(method => 'POST', path => '/le-users/users'); }
sub wrong_ids
{
	my %email = map { $_->{id} => $_->{email} } @{ $sim->get('users') };
	my @rows = split(/\n/, $session->query(q(SELECT user_id, 'p' || substr(login_name, 7, 1) || '@example.com' FROM lp_requests WHERE user_id IS NOT NULL)));

	return join(' ', grep { my ($id, $mail) = split(/\|/); ($email{$id} // '') ne $mail } @rows);
}

subtest 'logins that are cut' => sub {
	fresh();
	$sim->post('config', { normalise => 'cut' });
	queue_people();
	deliver(2);
	is(states(), 'created 8', 'all are created');
	is(wrong_ids(), '', 'each with its own id');
	is(posts(), 1, 'by one request');
};

subtest 'logins that are cut, in another order' => sub {
	fresh();
	$sim->post('config', { normalise => 'cut' });
	$sim->post('faults', { method => 'POST', action => 'misname', form => 'reversed', applied => $true, times => 0 });
	queue_people();
	deliver(3);
	is(wrong_ids(), '', 'none has the id of another');
	is(posts(), 1, 'none is sent again');
};

# ---------------------------------------------------------------------------------------------- what is shown late, or otherwise

my $empty = { method => 'GET', path => '/le-users/users', action => 'status', status => 200, body => '[]', times => 0 };

sub queue_one { $session->query(qq{SELECT count(*) FROM lp_enqueue_users('$account', '} . LpUsers::user('late') . q{')}); return; }

subtest 'a create without a response, which the list lacks for a while' => sub {
	fresh();
	$sim->post('faults', { method => 'POST', action => 'reset', applied => $true });
	$sim->post('faults', $empty);
	queue_one();
	deliver(5);
	is(states(), 'uncertain 1', 'the account says that the login exists: it is looked up again');
	$sim->remove('faults');
	deliver(1);
	is(states(), 'created 1', 'it was created by the first request');
	is(posts(), 2, 'which was repeated once');
	# not for ever
	fresh();
	$sim->post('faults', { method => 'POST', action => 'reset', applied => $true });
	$sim->post('faults', $empty);
	queue_one();
	deliver(4);
	$session->query(q(UPDATE lp_requests SET sent_at = sent_at - interval '10 min'));
	deliver(1);
	is(states(), 'failed 1', 'it has failed after a while');
};

subtest 'an UPDATE that was refused and carried out' => sub {
	fresh();
	$sim->post('users', [ map { decode_json(LpUsers::user("u$_")) } 1, 2 ]);
	$sim->post('faults', { method => 'PUT', path => '/le-users/users', action => 'status', status => 409, applied => $true, body => '{"message":"Entity already exists"}' });
	my (undef, $err) = $session->run("UPDATE lp.users SET max_chats = 8, full_name = 'F', employee_id = NULL");
	is($err, '', 'no error');
	is($session->query('SELECT min(max_chats), max(max_chats) FROM lp.users'), '8|8', 'both are as they were wanted');
};

subtest 'a clock that was set back' => sub {
	fresh();
	queue_one();
	$session->query(q(UPDATE lp_requests SET next_attempt_at = next_attempt_at + interval '1 year'));
	is($session->query('SELECT lp_release(array_agg(id)) FROM lp_requests'), 1, 'a request that waits for a year is released');
	is($session->query('SELECT lp_release(array_agg(id)) FROM lp_requests'), 0, '... once');
	$session->run("CALL lp_deliver('$account')");
	is(states(), 'created 1', 'it is sent');
};

subtest 'empty lists and texts' => sub {
	fresh();
	$sim->post('faults', { %$empty, body => '[{"id":1,"loginName":"a","deleted":false,"isEnabled":true,"skillIds":{},"profileIds":[],"description":[],"maxChats":{},"memberOf":{},"managerOf":{ }}]' });
	is($session->query('SELECT skill_ids, profile_ids, description IS NULL, max_chats IS NULL, member_of IS NULL, manager_of FROM lp.users'), '{}|{}|t|t|t|{}', '{} and [] are empty');
};

done_testing();

# Requests of one user, some by id and some by login: in the order in which they were queued, and none is lost when the user gets another login.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP;
use LpUsers;
use Test::More;

my $account = '12345678';
my $first   = 4_000_000_000;
my $sim     = LpUsers::account();
my $node    = LpUsers::server(conf => "lpusers.worker = off\n");
LpUsers::connect_account($node, $sim, options => "timeout '20s'");
$node->safe_psql('postgres', q{
	CREATE ROLE regress_clerk LOGIN;
	GRANT USAGE ON FOREIGN SERVER acme TO regress_clerk;
	GRANT EXECUTE ON FUNCTION lp_enqueue_changes TO regress_clerk;
	CREATE USER MAPPING FOR regress_clerk SERVER acme OPTIONS (token 'lp-token');});
LpUsers::import_tables($node);
my $session = LpUsers::session($node);

sub fresh
{
	my ($n) = @_;

	$sim->reset;
	$session->query('RESET ROLE; DELETE FROM lp_payloads; DELETE FROM lp_requests');
	$sim->post('users', [ map { decode_json(LpUsers::user("u$_", maxChats => 1)) } 1 .. $n ]);
	return;
}

# Queue a change of user n, by "id" or by "login", as this role.
sub change
{
	my ($by, $n, $set, $role) = @_;
	my %user = (%$set, fullName => 'F', employeeId => '1', $by eq 'id' ? (id => $first + $n) : (loginName => "u$n\@example.com"));

	$session->query('SET ROLE ' . ($role // 'none') . "; SELECT count(*) FROM lp_enqueue_changes('$account', '" . encode_json(\%user) . "'); RESET ROLE");
	return;
}

sub deliver { my ($out, $err) = $session->run('CALL lp_deliver()'); unlike($err, qr/ERROR|WARNING/, 'CALL lp_deliver()'); return; }
sub states { return $session->query("SELECT string_agg(concat_ws(' ', state, error), ', ' ORDER BY id) FROM lp_requests WHERE state <> 'superseded'"); }
sub user { my ($n) = @_; my ($user) = grep { $_->{id} == $first + $n } @{ $sim->get('users') }; return $user; }
sub user_json { my ($n) = @_; return encode_json(user($n)); }
# The values of maxChats that were sent for the user, in order.
sub is_user { my ($n, $login, $chats, $what) = @_; my $user = user($n); is("$user->{loginName} $user->{maxChats}", "$login\@example.com $chats", $what); return; }

subtest 'a change by login behind a rename' => sub {
	fresh(2);
	change('id', 1, { loginName => 'new1@example.com' });
	change('login', 1, { maxChats => 5 });
	deliver();
	is(states(), 'done, done', 'both are done');
	is_user(1, 'new1', 5, 'the user has both');
	is($session->query('SELECT string_agg(concat(login_name, user_id), \' \' ORDER BY id) FROM lp_requests'), "4000000001 u1\@example.com4000000001", 'on record as queued, with the id');
};

foreach my $order ([ 'login', 'id' ], [ 'id', 'login' ])
{
	subtest "by $order->[0], then by $order->[1]" => sub {
		fresh(1);
		change($order->[0], 1, { maxChats => 5 });
		change($order->[1], 1, { maxChats => 7 });
		deliver();
		is(states(), 'done, done', 'both are done');
		is_user(1, 'u1', 7, 'the newer one comes last');
	};
	# an older one that is more urgent by its phase, or less
	subtest "by $order->[0], then by $order->[1], of other phases" => sub {
		fresh(1);
		change($order->[0], 1, { isEnabled => JSON::PP::true, maxChats => 5 });
		change($order->[1], 1, { isEnabled => JSON::PP::false });
		deliver();
		is(states(), 'done, done', 'both are done');
		is(user(1)->{isEnabled} ? 1 : 0, 0, 'a leaver stays disabled');
	};
	subtest "by $order->[0], the outcome is not known, then by $order->[1]" => sub {
		fresh(1);
		change($order->[0], 1, { maxChats => 5 });
		$sim->post('faults', { method => 'PUT', path => '/le-users/users', action => 'status', status => 500, applied => JSON::PP::false });
		deliver();
		is(states() =~ /^uncertain/ ? 1 : 0, 1, 'the older one is in doubt');
		change($order->[1], 1, { maxChats => 7 });
		deliver();
		is(join(' ', $session->query("SELECT string_agg(state, ' ' ORDER BY id) FROM lp_requests")), 'uncertain pending', 'the newer one waits');
		$session->due_now;
		deliver();
		is(states(), 'done, done', 'both are done');
		is_user(1, 'u1', 7, 'the newer one comes last');
	};
}

subtest 'a newer one does not take an older one past the request of another role' => sub {
	fresh(1);
	change('id', 1, { maxChats => 3 });
	$sim->post('faults', { method => 'PUT', path => '/le-users/users', action => 'status', status => 500, applied => JSON::PP::false });
	deliver();
	change('login', 1, { maxChats => 5 });
	deliver();
	is($session->query("SELECT string_agg(state || ' ' || user_id, ', ' ORDER BY id) FROM lp_requests"), 'uncertain 4000000001, pending 4000000001', 'its user is known');
	change('id', 1, { maxChats => 7 }, 'regress_clerk');
	change('login', 1, { nickname => 'last' });
	$session->due_now;
	deliver();
	is($session->query("SELECT string_agg(state, ' ' ORDER BY id) FROM lp_requests"), 'done done done done', 'all are done');
	is(user(1)->{maxChats} . ' ' . user(1)->{nickname}, '7 last', 'in the order in which they were queued');
};

subtest 'a rename as another role' => sub {
	fresh(2);
	change('id', 1, { loginName => 'new1@example.com' });
	change('login', 1, { maxChats => 5 }, 'regress_clerk');
	change('login', 2, { maxChats => 6 }, 'regress_clerk');
	deliver();
	is(states(), 'done, done, done', 'all are done');
	is_user(1, 'new1', 5, 'the user has both');
	is_user(2, 'u2', 6, 'another user is as before');
};

subtest 'a rename that is refused' => sub {
	fresh(2);
	$sim->post('config', { unique => JSON::PP::true });
	change('id', 1, { loginName => 'u2@example.com' });
	change('login', 1, { maxChats => 5 });
	deliver();
	like(states(), qr/^failed loginName exists.*, done$/, 'the change is not lost');
	is_user(1, 'u1', 5, 'the user has it');
};

subtest 'a login that a new user takes' => sub {
	fresh(1);
	change('id', 1, { loginName => 'new1@example.com' });
	$session->query("SELECT lp_enqueue_users('$account', '" . LpUsers::user('u1') . "')");
	change('login', 1, { maxChats => 5 });
	deliver();
	is(states(), 'done, created, done', 'all are done');
	is_user(1, 'new1', 1, 'the user with the new login is not meant');
};

subtest 'a request by login between two by id, which are not merged past it' => sub {
	foreach my $in_one_call (0, 1)
	{
		fresh(1);
		change('id', 1, { isEnabled => JSON::PP::true });
		if ($in_one_call)
		{
			my %common = (fullName => 'F', employeeId => '1');

			$session->query("SELECT count(*) FROM lp_enqueue_changes('$account', '"
				. encode_json([ { %common, loginName => 'u1@example.com', isEnabled => JSON::PP::false }, { %common, id => $first + 1, maxChats => 6 } ]) . "')");
		}
		else
		{
			change('login', 1, { isEnabled => JSON::PP::false });
			change('id', 1, { maxChats => 6 });
		}
		deliver();
		is($session->query("SELECT string_agg(state, ' ' ORDER BY id) FROM lp_requests"), 'done done done', 'all are done');
		is((user(1)->{isEnabled} ? 1 : 0) . ' ' . user(1)->{maxChats}, '0 6', 'a leaver stays disabled');
	}
};

subtest 'a request by id between two by login' => sub {
	fresh(1);
	change('login', 1, { isEnabled => JSON::PP::true });
	change('id', 1, { isEnabled => JSON::PP::false });
	change('login', 1, { maxChats => 6 });
	deliver();
	is($session->query("SELECT string_agg(state, ' ' ORDER BY id) FROM lp_requests"), 'done done done', 'all are done');
	is((user(1)->{isEnabled} ? 1 : 0) . ' ' . user(1)->{maxChats}, '0 6', 'a leaver stays disabled');
};

subtest 'a request by the login that an older one gives to the user' => sub {
	fresh(1);
	change('id', 1, { loginName => 'u9@example.com' });
	change('login', 9, { isEnabled => JSON::PP::false });
	deliver();
	is(states(), 'done, done', 'both are done');
	is_user(1, 'u9', 1, 'the user has the login');
	is(user(1)->{isEnabled} ? 1 : 0, 0, 'and is disabled');
};

subtest 'a login that passes from one user to another' => sub {
	fresh(2);
	change('id', 1, { loginName => 'new1@example.com' });
	change('id', 2, { loginName => 'u1@example.com' });
	change('login', 1, { isEnabled => JSON::PP::false });
	deliver();
	is(states(), 'done, done, done', 'all are done');
	is(join(' ', map { user($_)->{loginName} . (user($_)->{isEnabled} ? ' 1' : ' 0') } 1, 2), 'new1@example.com 1 u1@example.com 0', 'the user who has the login by then is disabled');
};

foreach my $wait ('a retry', 'a lookup', 'a release')
{
	subtest "by login, which waits for $wait, then by id" => sub {
		fresh(2);
		change('login', 1, { isEnabled => JSON::PP::true, maxChats => 5 });
		$session->query("UPDATE lp_requests SET next_attempt_at = '2100-01-01'") if $wait eq 'a retry';
		# as a deliverer leaves it that is killed while it sends
		$session->query("UPDATE lp_requests SET state = 'uncertain', attempts = 1, sent_at = now(), next_attempt_at = '2100-01-01'") if $wait eq 'a lookup';
		$session->query("UPDATE lp_requests SET state = 'held', hold = 'setup', reason = 'test', held_at = now(), next_attempt_at = NULL") if $wait eq 'a release';
		change('login', 7, { maxChats => 5 });
		$session->query("UPDATE lp_requests SET next_attempt_at = '2100-01-01' WHERE login_name = 'u7\@example.com'");
		change('id', 1, { isEnabled => JSON::PP::false });
		change('id', 2, { isEnabled => JSON::PP::false });
		deliver();
		is($session->query("SELECT string_agg(concat(state, user_id), ' ' ORDER BY id) FROM lp_requests"),
			{ 'a retry' => 'pending', 'a lookup' => 'uncertain', 'a release' => 'held' }->{$wait} . '4000000001 pending pending4000000001 done4000000002', 'the newer one waits, and one for another user does not');
		$session->query("UPDATE lp_requests SET state = CASE state WHEN 'held' THEN 'pending' ELSE state END, hold = NULL, reason = NULL, held_at = NULL, next_attempt_at = now() WHERE user_id = $first + 1");
		deliver();
		is($session->query("SELECT string_agg(state, ' ' ORDER BY id) FROM lp_requests"), 'done pending done done', 'both are done');
		is((user(1)->{isEnabled} ? 1 : 0) . ' ' . user(1)->{maxChats}, '0 5', 'a leaver stays disabled');
	};
}

# A create, alone or with others, whose login an older request by id takes from its user, and does so only later.
foreach my $n (1, 6)
{
	foreach my $older ('delete', 'rename')
	{
		foreach my $sent ('not sent', 'sent before')
		{
			subtest "$n created after a $older by id that waits, $sent" => sub {
				fresh(2);
				$older eq 'delete' ? $session->query("SELECT lp_enqueue_deletes('$account', ARRAY[$first + 1])") : change('id', 1, { loginName => 'new1@example.com' });
				$session->query("UPDATE lp_requests SET next_attempt_at = '2100-01-01'");
				$session->query("SELECT count(*) FROM lp_enqueue_users('$account', '[" . join(',', map { LpUsers::user($_ == 1 ? 'u1' : "n$_") } 1 .. $n) . "]')");
				$session->query("UPDATE lp_requests SET state = 'uncertain', attempts = 1, sent_at = now() WHERE operation = 'create' AND login_name ~ '^u1'") if $sent ne 'not sent';
				deliver();
				is($session->query(q{SELECT string_agg(DISTINCT concat_ws(' ', state, error, reason), ', ') FROM lp_requests WHERE login_name ~ '^u1' AND operation = 'create'}),
					'pending user 4000000001 has this login until request ' . $session->query('SELECT min(id) FROM lp_requests') . ' is done', 'waits');
				is($session->query(q{SELECT attempts FROM lp_requests WHERE login_name ~ '^u1' AND operation = 'create'}), $sent eq 'not sent' ? 0 : 1, 'no attempt is counted');
				is($session->query(q{SELECT count(*) FROM lp_requests WHERE state = 'created'}), $n - 1, 'others are created');
				$session->due_now;
				deliver();
				is(states(), 'done' . ', created' x $n, 'created when the login is free');
				is($sim->count(method => 'POST', path => '/users', login => 'u1@example.com'), 1, '... by one request');
			};
		}
	}
}

subtest 'a create after a delete by id of another user that waits' => sub {
	fresh(2);
	$session->query("SELECT lp_enqueue_deletes('$account', ARRAY[$first + 1])");
	$session->query("UPDATE lp_requests SET next_attempt_at = '2100-01-01'");
	$session->query("SELECT lp_enqueue_users('$account', '[" . LpUsers::user('u2') . "]')");
	deliver();
	is(states(), 'pending, failed login exists: user 4000000002 (enabled)', 'fails');
};

# Two users of the account have one login, in another case.
# The lookup of a create compares the user with what was sent, and sends the user again if it is gone: a change waits for it.
foreach my $operation ('update', 'delete')
{
	subtest "a create that is to be looked up, and an $operation by id of its user" => sub {
		fresh(1);
		$sim->post('faults', { method => 'POST', path => '/users', action => 'reset', applied => JSON::PP::true });
		$session->query("SELECT lp_enqueue_users('$account', '" . LpUsers::user('late', maxChats => 1) . "')");
		deliver();
		like(states(), qr/^uncertain/, 'the response to the create is lost');
		my ($late) = map { $_->{id} } grep { $_->{loginName} eq 'late@example.com' } @{ $sim->get('users') };
		change('id', 1, { maxChats => 6 });
		$operation eq 'update' ? change('id', $late - $first, { maxChats => 7 }) : $session->query("SELECT lp_enqueue_deletes('$account', '{$late}')");
		deliver();
		like(states(), qr/^uncertain[^,]*, done, pending$/, 'other users are changed before the lookup, and this one is not');
		foreach (1 .. 2) { $session->due_now; deliver(); }
		is(states(), 'created, done, done', 'the user was created, and then changed');
		is($sim->users_with('late@example.com'), $operation eq 'update' ? 1 : 0, 'the account has the user as it was changed last');
		is($sim->count(method => 'POST', path => '/users'), 1, '... and the user was sent once');
	};
}

subtest 'a login that several users have' => sub {
	my $several = 'several users have this login: 4000000001 and 4000000003';

	foreach my $n (1, 6)
	{
		fresh(2);
		$sim->post('users', [ decode_json(LpUsers::user('U1')) ]);
		$session->query("SELECT count(*) FROM lp_enqueue_users('$account', '[" . join(',', map { LpUsers::user($_ == 1 ? 'u1' : "n$_") } 1 .. $n) . "]')");
		$session->query("UPDATE lp_requests SET state = 'uncertain', attempts = 1, sent_at = now(), next_attempt_at = now() WHERE login_name ~ '^u1'") if $n == 1;
		deliver();
		is($session->query(q{SELECT concat_ws(' ', state, cause, error, user_id) FROM lp_requests WHERE login_name ~ '^u1'}), 'failed ' . ($n == 1 ? 'gave_up' : 'refused') . " $several", 'a create of ' . ($n == 1 ? 'unknown outcome' : 'six'));
	}
	fresh(2);
	$sim->post('users', [ decode_json(LpUsers::user('U1')) ]);
	change('login', 1, { maxChats => 5 });
	$session->query("SELECT count(*) FROM lp_enqueue_users('$account', '" . LpUsers::user('n1') . "')");
	deliver();
	is(states(), "failed $several, created", 'a change by login fails');
	is_user($_->[0], $_->[1], $_->[2], "$_->[1] is as before") foreach [ 1, 'u1', 1 ], [ 3, 'U1', 3 ];
	fresh(2);
	$sim->post('users', [ decode_json(LpUsers::user('U1')) ]);
	$session->query(qq{SELECT lp_enqueue_changes('$account', '{"loginName": "u1\@example.com", "isEnabled": false, "fullName": "F", "employeeId": "1"}')});
	$session->query("UPDATE lp_requests SET operation = 'delete', action = 'delete', phase = 2");
	deliver();
	is(states(), "failed $several", 'so does a delete');
	is(scalar(grep { !$_->{deleted} } @{ $sim->get('users') }), 3, '... of which there is none');
};

# A response gives two users one id, or an id that no user has: it does not name them.
subtest 'ids of a 201 that cannot be' => sub {
	my @two = map { LpUsers::user($_) } 'a1', 'a2';

	foreach my $ids ([ 7, 7 ], [ 0, -1 ], [ 7, -7 ], [ '"7"', '7.0' ])
	{
		fresh(0);
		$session->query("SELECT count(*) FROM lp_enqueue_users('$account', '[" . join(',', @two, map { LpUsers::user("b$_") } 1 .. 4) . "]')");
		$sim->post('faults', { method => 'POST', path => '/le-users/users', action => 'body', applied => JSON::PP::true, times => 1,
			body => '[' . join(',', map { sprintf('{"id": %s, "loginName": "%s"}', $ids->[$_], ('a1@example.com', 'a2@example.com')[$_]) } 0, 1) . ']' });
		deliver();
		$session->due_now;
		deliver();
		is($session->query(q{SELECT count(*) FILTER (WHERE state = 'created') || ' ' || count(*) FILTER (WHERE user_id > 4000000000) || ' ' || count(DISTINCT user_id) FROM lp_requests}), $ids->[1] eq '-7' ? '6 5 6' : '6 6 6', "ids @$ids: looked up");
		is($sim->count(method => 'POST', path => '/users'), 1, '... and not sent again');
	}
};

subtest 'an answer that is another user' => sub {
	foreach my $answer (user_json(2), '{"loginName": "u1@example.com"}')
	{
		fresh(2);
		change('id', 1, { maxChats => 7 });
		$sim->post('faults', { method => 'GET', path => "/le-users/users/" . ($first + 1), skip => 1, action => 'body', body => $answer });
		$session->run('CALL lp_deliver()');
		is($session->query('SELECT state FROM lp_requests'), 'pending', 'is not taken for the user: the request waits for its retry');
		is_user(2, 'u2', 1, 'nor changed');
		$session->due_now;
		deliver();
		is(states(), 'done', 'done by the retry');
		is_user(1, 'u1', 7, 'the user has it');
	}
};

subtest 'an answer that is another user, for a foreign table' => sub {
	fresh(2);
	foreach my $do ('SELECT max_chats FROM lp.users', 'UPDATE lp.users SET max_chats = 7')
	{
		$sim->post('faults', { method => 'GET', path => "/le-users/users/" . ($first + 1), action => 'body', body => user_json(2) });
		my ($out, $err) = $session->run("$do WHERE id = " . ($first + 1));
		like($err, qr/the response is another user/, $do);
		$sim->remove('faults');
	}
	is_user(2, 'u2', 1, 'the other user is as before');
};

done_testing();

# lp_sync end to end, with the worker: joiners, movers, leavers, re-hires, renames and names instead of ids; the second plan is
# empty, and users without a link are not touched.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP;
use LpUsers;
use Test::More;

my $sim  = LpUsers::account();
my $node = LpUsers::server();
LpUsers::connect_account($node, $sim);
my $session = LpUsers::session($node);
my $json    = JSON::PP->new->canonical;

sub q1 { my ($sql) = @_; return $session->query($sql); }
sub account_user { my ($login) = @_; my ($u) = grep { $_->{loginName} eq $login && !$_->{deleted} } @{ $sim->get('users') }; return $u; }
sub at_rest { return q1(q{SELECT count(*) FROM lp_requests WHERE state IN ('pending', 'sending', 'uncertain')}) eq '0'; }
sub actions { return q1(q{SELECT coalesce(string_agg(DISTINCT action || ' ' || source_key, ', ' ORDER BY action || ' ' || source_key), '') FROM lp_sync_diff('staff')}); }

# A run, and all of it delivered.
sub run_sync
{
	my ($what) = @_;
	my ($out, $err) = $session->run(q{CALL lp_sync('staff')});

	unlike($err, qr/ERROR|WARNING/, "$what: it runs");
	LpUsers::wait_for(\&at_rest, "$what: the queue to be empty");
	is(q1(q{SELECT string_agg(state || ': ' || coalesce(error, reason, ''), ', ') FROM lp_requests WHERE state IN ('failed', 'held')}), '',
		"$what: nothing failed");
	return;
}

q1(q{
	CREATE TABLE staff (emp_no int PRIMARY KEY, email text, name text, role text, team text, chats int, leaves date);
	CREATE VIEW lp_people AS SELECT emp_no, lower(email) AS login_name, email, name AS full_name, emp_no AS employee_id, split_part(name, ' ', 1) AS nickname,
		true AS is_enabled, chats AS max_chats, ARRAY[role] AS profiles, team AS agent_group, 'Aa1!' || md5(email) AS password_sh
		FROM staff WHERE leaves IS NULL OR leaves > current_date;
	SELECT lp_sync_define('staff', '12345678', 'lp_people', 'emp_no', limits => '{"adopt": 5, "update": null}')});
my @groups = split(/\n/, do { q1(q{CREATE SCHEMA lp; IMPORT FOREIGN SCHEMA liveperson FROM SERVER acme INTO lp}); q1('SELECT name FROM lp.agent_groups ORDER BY id') });

# A user that the sync must not change, and a user that exists before the person is in the source.
q1("SELECT status FROM lp_create_users('12345678', '[" . LpUsers::user('stranger', profileIds => [1002]) . "," . LpUsers::user('known', profileIds => [1002], maxChats => 9) . "]')");
my $stranger = $json->encode(account_user('stranger@example.com'));

subtest 'joiners, and one who is there already' => sub {
	q1("INSERT INTO staff SELECT n, 'P' || n || '\@x.example', 'Person ' || n, CASE n % 2 WHEN 0 THEN 'agent' ELSE 'Agent Manager' END, '$groups[0]', 3 FROM generate_series(1, 20) n");
	q1("INSERT INTO staff VALUES (100, 'known\@example.com', 'Known Person', 'Agent', '$groups[0]', 4)");
	run_sync('joiners');
	is(q1(q{SELECT state || count(*) FROM lp_sync_links GROUP BY state}), 'active21', 'all are linked');
	is(actions(), '', 'the second plan is empty');
	is_deeply([ account_user('p2@x.example')->{profileIds}, account_user('p3@x.example')->{profileIds} ], [ [1002], [1003] ], 'profiles by their names');
	is(account_user('known@example.com')->{maxChats}, 4, 'the adopted one is as the source says');
	is(account_user('known@example.com')->{fullName}, 'Known Person', 'and has the name of the source: the API does not show the one it had');
};

subtest 'an account in sync' => sub {
	my $requests = $sim->count(path => '/le-users');
	my $rows     = q1('SELECT count(*) FROM _lp_sync_item');

	run_sync('in sync');
	cmp_ok($sim->count(path => '/le-users') - $requests, '<=', 4, 'at most four requests');
	is(q1('SELECT count(*) FROM _lp_sync_item'), $rows, 'no row for a user');
	is(q1('SELECT state FROM lp_syncs'), 'in sync', 'the view says so');
};

subtest 'movers' => sub {
	q1("UPDATE staff SET chats = 8, role = 'Night Agent' WHERE emp_no = 1");
	q1("UPDATE staff SET team = '$groups[1]' WHERE emp_no = 3");
	q1("UPDATE staff SET email = 'married\@x.example', name = 'Married Person' WHERE emp_no = 2");
	my $id = account_user('p2@x.example')->{id};
	run_sync('movers');
	is(actions(), '', 'the second plan is empty');
	is_deeply([ @{ account_user('p1@x.example') }{qw(maxChats profileIds fullName employeeId)} ], [ 8, [1005], 'Person 1', '1' ],
		'an update keeps what the API hides');
	is_deeply([ @{ account_user('married@x.example') }{qw(id fullName)} ], [ $id, 'Married Person' ], 'a new login, the same user');
};

subtest 'leavers and re-hires' => sub {
	my $id = account_user('p5@x.example')->{id};

	q1('UPDATE staff SET leaves = current_date WHERE emp_no IN (5, 6)');
	run_sync('leavers');
	is(actions(), '', 'the second plan is empty');
	is(account_user('p5@x.example')->{isEnabled} ? 1 : 0, 0, 'a leaver is disabled');
	is(account_user('p5@x.example')->{fullName}, 'Person 5', 'and keeps the name');
	is(q1(q{SELECT string_agg(source_key || state || by_us, ' ' ORDER BY source_key) FROM lp_sync_links WHERE state <> 'active'}),
		'5disabledtrue 6disabledtrue', 'the links know who did it');
	q1('UPDATE staff SET leaves = NULL, chats = 7 WHERE emp_no = 5');
	run_sync('re-hire');
	is_deeply([ @{ account_user('p5@x.example') }{qw(id maxChats)}, account_user('p5@x.example')->{isEnabled} ? 1 : 0 ], [ $id, 7, 1 ],
		'a re-hire is the same user, enabled again and as the source says');
	is(actions(), '', 'the second plan is empty');
	q1("SELECT lp_sync_define('staff', '12345678', 'lp_people', 'emp_no', delete_after => '1 day', limits => '{\"delete\": 5, \"update\": null}')");
	q1(q{UPDATE _lp_sync_link SET since = since - interval '2 days'});
	run_sync('delete');
	is(account_user('p6@x.example'), undef, 'deleted when the time is over');
	is(q1(q{SELECT state || by_us FROM lp_sync_links WHERE source_key = '6'}), 'gonetrue', 'the link is gone');
	q1('UPDATE staff SET leaves = NULL WHERE emp_no = 6');
	run_sync('late re-hire');
	isnt(account_user('p6@x.example'), undef, 'who comes back later is created anew');
	is(actions(), '', 'the second plan is empty');
};

subtest 'a request of an older plan' => sub {
	q1('UPDATE staff SET chats = 2 WHERE emp_no = 10');
	$sim->post('faults', { method => 'PUT', path => '/users', action => 'status', status => 400, times => 0 });
	q1(q{CALL lp_sync('staff')});
	LpUsers::wait_for(\&at_rest, 'the update to fail');
	$sim->remove('faults');
	my $id = q1(q{SELECT max(id) FROM lp_requests WHERE state = 'failed' AND plan IS NOT NULL});
	q1('UPDATE staff SET chats = 4 WHERE emp_no = 10');
	q1(q{CALL lp_sync('staff')});
	LpUsers::wait_for(\&at_rest, 'the newer plan');
	is(account_user('p10@x.example')->{maxChats}, 4, 'a newer plan has another value');
	my ($out, $err) = $session->run("SELECT lp_retry(ARRAY[$id])");
	like($err, qr/ERROR:  22023: request $id of plan \d+ cannot be sent again\nDETAIL:  Plan \d+ of the same sync was applied since\.\nHINT:  Make a new plan\./,
		'the older request is not sent again');
	is(account_user('p10@x.example')->{maxChats}, 4, 'and the value stays');
	q1("SELECT lp_discard(ARRAY[$id])");
};

subtest 'drift' => sub {
	q1("SET lpusers.max_changes = 0; UPDATE lp.users SET max_chats = 1, full_name = 'Person 7', employee_id = '7' WHERE login_name = 'p7\@x.example'");
	q1("UPDATE lp.users SET is_enabled = false, full_name = 'Person 8', employee_id = '8' WHERE login_name = 'p8\@x.example'");
	q1("DELETE FROM lp.users WHERE login_name = 'p9\@x.example'");
	is(q1(q{SELECT string_agg(action || source_key || ': ' || reason, ', ' ORDER BY source_key) FROM lp_sync_diff('staff') WHERE action <> 'recreate' OR attribute = 'loginName'}) =~ s/user \d+/user N/r,
		'update7: changed in the account, reopen8: disabled in the account, recreate9: user N is gone', 'it is seen');
	run_sync('drift');
	is(account_user('p7@x.example')->{maxChats}, 3, 'an attribute is overwritten');
	is(account_user('p8@x.example')->{isEnabled} ? 1 : 0, 0, 'what others closed stays closed');
	is(q1(q{SELECT string_agg(action || ' ' || users, ', ' ORDER BY action) FROM lp_sync_plans WHERE plan = (SELECT max(plan) FROM lp_sync_plans) AND over}),
		'recreate 1, reopen 1', 'until it is confirmed');
	q1(q{SELECT lp_sync_apply((SELECT max(plan) FROM lp_sync_plans), '{"recreate": 1, "reopen": 1}')});
	LpUsers::wait_for(\&at_rest, 'the queue to be empty');
	is(actions(), '', 'the second plan is empty');
};

is($json->encode(account_user('stranger@example.com')), $stranger, 'a user without a link was not touched');
is($sim->text('duplicates') =~ s/\s//gr, '[]', 'no login is there twice');

# A mark of a transaction that commits after a run has looked is seen by the next.
subtest 'marks' => sub {
	my $other = LpUsers::session($node);

	q1(q{SELECT lp_sync_watch('staff', 'staff', 'emp_no')});
	q1('UPDATE staff SET chats = 2 WHERE emp_no = 10');
	$other->query('BEGIN; UPDATE staff SET chats = 6 WHERE emp_no = 11; UPDATE staff SET chats = 6 WHERE emp_no = 12');
	q1(q{CALL lp_sync('staff', true)});
	LpUsers::wait_for(\&at_rest, 'the queue to be empty');
	is(account_user('p10@x.example')->{maxChats}, 2, 'what is committed is seen');
	$other->query('COMMIT');
	is(q1('SELECT string_agg(c.row ->> 0, $$,$$ ORDER BY c.row ->> 0) FROM _lp_sync_mark, jsonb_array_elements(changed) c (row)'), '11,12', 'the marks of the other are there');
	q1(q{CALL lp_sync('staff', true)});
	LpUsers::wait_for(\&at_rest, 'the queue to be empty');
	is(account_user('p11@x.example')->{maxChats}, 6, 'and seen by the next run');
	is(q1('SELECT count(*) FROM _lp_sync_mark'), '0', 'no mark is left');
};

# What was planned is compared with the links again when it is applied.
subtest 'links that change between plan and apply' => sub {
	q1('UPDATE staff SET leaves = current_date WHERE emp_no = 13');
	my $plan = q1(q{SELECT lp_sync_plan('staff')});
	q1(q{SELECT lp_sync_unlink('staff', '{13}')});
	is(q1("SELECT action || ' ' || queued || ' ' || stale FROM lp_sync_apply($plan)"), 'disable 0 1', 'a user who was unlinked is not touched');
	$sim->post('users', [ { loginName => 'both@x.example', nickname => 'b', email => 'both@x.example', fullName => 'Both', isEnabled => \1, maxChats => 1, profileIds => [1002] } ]);
	q1(q{CREATE VIEW others AS SELECT 'o1' AS key, 'both@x.example' AS login_name, 'Both Two' AS full_name, '2' AS employee_id;
		SELECT count(*) FROM lp_sync_define('others', '12345678', 'others', 'key')});
	q1("INSERT INTO staff VALUES (200, 'both\@x.example', 'Both One', 'Agent', '$groups[0]', 4)");
	my ($first, $second) = (q1(q{SELECT lp_sync_plan('staff')}), q1(q{SELECT lp_sync_plan('others')}));
	q1("SELECT lp_sync_apply($first, '{\"adopt\": 1}')");
	is(q1("SELECT action || ' ' || queued || ' ' || stale FROM lp_sync_apply($second, '{\"adopt\": 1}')"), 'adopt 0 1', 'a user has one sync');
	LpUsers::wait_for(\&at_rest, 'the queue to be empty');
	is(account_user('both@x.example')->{fullName}, 'Both One', 'that of the first');
	q1(q{SELECT lp_sync_drop('others')});
};

subtest 'a login that is corrected before the user is created' => sub {
	q1(q{ALTER SERVER acme OPTIONS (ADD delivery 'paused')});
	q1("INSERT INTO staff VALUES (201, 'typo\@x.example', 'Typo', 'Agent', '$groups[0]', 4)");
	q1(q{CALL lp_sync('staff')});
	q1(q{UPDATE staff SET email = 'right@x.example' WHERE emp_no = 201});
	is(actions(), 'wait 201', 'it waits for the create');
	q1(q{ALTER SERVER acme OPTIONS (SET delivery 'on')});
	LpUsers::wait_for(sub { account_user('typo@x.example') && at_rest() }, 'the create');
	run_sync('the correction');
	is(account_user('typo@x.example'), undef, 'then the user is renamed');
	isnt(account_user('right@x.example'), undef, '... and is one');
};

subtest 'a run wakes the worker for what an earlier one has left' => sub {
	q1(q{ALTER SERVER acme OPTIONS (SET delivery 'paused')});
	q1(q{UPDATE staff SET email = 'woken@x.example' WHERE emp_no = 201; CALL lp_sync('staff')});
	q1('SELECT lp_worker_stop()');
	LpUsers::wait_for(sub { q1('SELECT lp_worker_pid() IS NULL') eq 't' }, 'the worker to leave');
	q1(q{ALTER SERVER acme OPTIONS (SET delivery 'on')});
	is(actions(), 'wait 201', 'there is no worker');
	q1(q{CALL lp_sync('staff')});
	LpUsers::wait_for(\&at_rest, 'what was queued');
	isnt(account_user('woken@x.example'), undef, 'it is delivered');
};

subtest 'a list that comes back short' => sub {
	q1('UPDATE staff SET leaves = current_date WHERE emp_no = 14');
	my $short = $json->encode([ grep { !$_->{deleted} && $_->{loginName} ne 'p14@x.example' } @{ $sim->get('users') } ]);

	$sim->post('faults', { method => 'GET', path => '/users', action => 'body', body => '[]', times => 0 });
	like(($session->run(q{CALL lp_sync('staff', true)}))[1], qr/the account's list is empty/, 'an empty one says nothing of a user');
	$sim->remove('faults');
	$sim->post('faults', { method => 'GET', path => '/users', action => 'body', body => $short, times => 0 });
	$session->run(q{CALL lp_sync('staff', true)});
	is(q1(q{SELECT state || by_us FROM lp_sync_links WHERE source_key = '14'}), 'gonefalse', 'a user who is not in it counts as gone');
	$sim->remove('faults');
	run_sync('the whole list');
	is(account_user('p14@x.example')->{isEnabled} ? 1 : 0, 0, 'until it is there again: the leaver is disabled');
	is(q1(q{SELECT state || by_us FROM lp_sync_links WHERE source_key = '14'}), 'disabledtrue', 'and linked');
};

# What a person does with links in an open transaction does not stop the delivery.
subtest 'an open transaction' => sub {
	my $other = LpUsers::session($node);
	my $sent  = $sim->count(method => 'PUT');

	q1('UPDATE staff SET chats = 5 WHERE emp_no IN (15, 16, 17)');
	$sim->post('faults', { method => 'PUT', path => '/users', action => 'delay', ms => 2000 });
	q1(q{CALL lp_sync('staff')});
	LpUsers::wait_for(sub { q1(q{SELECT count(*) FROM lp_requests WHERE state = 'sending'}) eq '3' && $sim->count(method => 'PUT') > $sent }, 'the updates to be under way');
	$other->query(q{BEGIN; SELECT lp_sync_unlink('staff', '{15}')});
	LpUsers::wait_for(\&at_rest, 'the updates to be done');
	is(q1(q{SELECT string_agg(source_key || ' ' || state, ', ' ORDER BY source_key) FROM lp_sync_changes WHERE plan = (SELECT max(plan) FROM lp_sync_changes) AND attribute = 'maxChats'}),
		'15 done, 16 done, 17 done', 'they are, while it is open');
	$other->query('ROLLBACK');
	is(q1(q{SELECT base ->> 'maxChats' FROM _lp_sync_link WHERE source_key = '15'}), '3', 'the link of one was locked');
	run_sync('the next run');
	is(q1(q{SELECT base ->> 'maxChats' FROM _lp_sync_link WHERE source_key = '15'}), '5', 'the next plan writes it');
	is(actions(), '', 'nothing is left');
};

subtest 'a source that does not fit into work_mem' => sub {
	q1(q{CREATE VIEW big AS SELECT i AS k, 'b' || i || '@x.example' AS login_name, repeat('n', 100) AS full_name, i::text AS employee_id FROM generate_series(1, 3000) i;
		SELECT count(*) FROM lp_sync_define('big', '12345678', 'big', 'k')});
	my ($out, $err) = $session->run(q{SET work_mem = '64kB'; SELECT count(DISTINCT source_key) FROM lp_sync_diff('big'); SELECT lp_sync_plan('big') > 0; RESET work_mem});
	is("$out$err", "3000\nt", 'no file is left to the end of the transaction');
	q1(q{SELECT lp_sync_drop('big')});
};

done_testing();

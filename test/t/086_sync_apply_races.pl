# lp_sync_apply beside others: transactions with one snapshot, other syncs of the account, requests of others and retries.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LpUsers;
use Test::More;

my $sim  = LpUsers::account();
my $node = LpUsers::server(conf => "lpusers.worker = off\n");
LpUsers::connect_account($node, $sim);
my $session = LpUsers::session($node);
my $other   = LpUsers::session($node);

sub q1 { my ($sql) = @_; return $session->query($sql); }
sub deliver { return $session->run(q{CALL lp_deliver('12345678')}); }
sub account_user { my ($login) = @_; my ($u) = grep { $_->{loginName} eq $login && !$_->{deleted} } @{ $sim->get('users') }; return $u; }
sub diff { return q1(q{SELECT coalesce(string_agg(DISTINCT action || ' ' || source_key, ', '), '') FROM lp_sync_diff('staff')}); }
sub plan { my ($keys, $sync) = @_; return q1("SELECT lp_sync_plan('@{[ $sync // 'staff' ]}'" . ($keys ? ", '{$keys}'" : '') . ')'); }

# What an apply does: "action queued/held/stale".
sub apply
{
	my ($plan, $confirm) = @_;
	return q1("SELECT coalesce(string_agg(action || ' ' || queued || '/' || held || '/' || stale, ', ' ORDER BY action), '') FROM lp_sync_apply($plan" .
			($confirm ? ", '$confirm'" : '') . ')');
}

# All is delivered, and nothing differs.
sub in_sync
{
	my ($what) = @_;

	q1(q{CALL lp_sync('staff')});
	deliver();
	is(diff(), '', "$what: nothing differs");
	is(q1(q{SELECT coalesce(string_agg(DISTINCT state || coalesce(error, reason, ''), ', '), '') FROM lp_requests WHERE state NOT IN ('created', 'done')}), '', '... and all is done');
	return;
}

q1(q{
	CREATE TABLE staff (emp_no int PRIMARY KEY, chats int DEFAULT 3, here boolean DEFAULT true, login text);
	CREATE VIEW lp_people AS SELECT emp_no, coalesce(login, 'p' || emp_no || '@x.example') AS login_name, 'p' || emp_no || '@x.example' AS email, 'Person ' || emp_no AS full_name,
		emp_no AS employee_id, 'Person' AS nickname, true AS is_enabled, chats AS max_chats, '{1001}'::bigint[] AS profile_ids, 'Aa1!' || md5(emp_no::text) AS password_sh
		FROM staff WHERE here;
	INSERT INTO staff SELECT generate_series(1, 40);
	SELECT lp_sync_define('staff', '12345678', 'lp_people', 'emp_no', limits => '{"disable": 2, "update": null}')});
q1(q{CREATE SCHEMA lp; IMPORT FOREIGN SCHEMA liveperson FROM SERVER acme INTO lp});
in_sync('the first run');

subtest 'transactions with one snapshot' => sub {
	q1('UPDATE staff SET here = false WHERE emp_no IN (1, 2, 3, 4)');
	my ($first, $second) = (plan('1,2'), plan('3,4'));

	for my $level ('REPEATABLE READ', 'SERIALIZABLE')
	{
		my ($out, $err) = $session->run("BEGIN ISOLATION LEVEL $level; SELECT lp_sync_apply($second)");
		like($err, qr/ERROR:  0A000: cannot apply a plan in a transaction whose isolation level is $level\n.*Nothing was queued\.\nHINT:  Use isolation level READ COMMITTED\./, "$level is refused");
		$session->run('ROLLBACK');
		like(q1("BEGIN ISOLATION LEVEL $level; SELECT lp_sync_plan('staff', '{1}') > 0; ROLLBACK"), qr/t/, '... a plan may be made');
		like(q1("BEGIN ISOLATION LEVEL $level READ ONLY; SELECT count(*) FROM lp_sync_diff('staff', '{1}'); ROLLBACK"), qr/1/, '... and a difference looked at');
	}
	$other->query("BEGIN; SELECT lp_sync_apply($first)");
	$session->send("SELECT held FROM lp_sync_apply($second)");
	LpUsers::wait_for(sub { $node->safe_psql('postgres', q{SELECT count(*) FROM pg_locks WHERE NOT granted}) ne '0' }, 'the second to wait');
	$other->query('COMMIT');
	is(($session->take)[0], '2', 'READ COMMITTED: the limit counts what another transaction has queued');
	deliver();
	for my $level ('repeatable read', 'serializable')
	{
		q1("SET default_transaction_isolation = '$level'");
		$other->query("BEGIN; SELECT name FROM _lp_sync FOR UPDATE");
		$session->send(q{CALL lp_sync('staff')});
		LpUsers::wait_for(sub { $node->safe_psql('postgres', q{SELECT count(*) FROM pg_locks WHERE NOT granted}) ne '0' }, 'the run to wait');
		$other->query("UPDATE _lp_sync SET why = 'else'; UPDATE staff SET chats = chats + 1 WHERE emp_no = 5; COMMIT");
		unlike(($session->take)[1], qr/ERROR|WARNING/, "default $level: a run is READ COMMITTED");
		q1('RESET default_transaction_isolation');
		deliver();
	}
	is(account_user('p5@x.example')->{maxChats}, 5, '... and sees what was committed while it waited');
	q1('UPDATE staff SET here = true');
	in_sync('back again');
};

# What others did before the request was sent is theirs; what an unanswered request did is ours.
subtest 'who disabled and deleted' => sub {
	my $links = q{SELECT string_agg(source_key || ' ' || state || ' ' || by_us, ', ' ORDER BY source_key) FROM lp_sync_links WHERE source_key IN ('6', '7')};

	q1(q{SELECT lp_sync_define('staff', '12345678', 'lp_people', 'emp_no', limits => '{"disable": null, "update": null}')});
	q1('UPDATE staff SET here = false WHERE emp_no = 6');
	q1("CALL lp_sync('staff')");
	q1(q{SET lpusers.max_changes = 0; UPDATE lp.users SET is_enabled = false, full_name = 'Person 6', employee_id = '6' WHERE login_name = 'p6@x.example'});
	my $sent = $sim->count(method => 'PUT');
	deliver();
	is($sim->count(method => 'PUT') - $sent, 0, 'nothing is sent for a user who is disabled already');
	is(q1("$links"), '6 disabled false, 7 active true', 'others did it');
	q1('UPDATE staff SET here = true WHERE emp_no = 6');
	is(diff(), 'reopen 6', 'the re-hire is asked for');
	q1(q{SELECT lp_sync_apply(lp_sync_plan('staff'), '{"reopen": 1}')});
	deliver();
	q1('UPDATE staff SET here = false WHERE emp_no = 7');
	q1("CALL lp_sync('staff')");
	$sim->post('faults', { method => 'PUT', path => '/users', action => 'close', applied => \1, times => 1 });
	deliver();
	is(account_user('p7@x.example')->{isEnabled} ? 1 : 0, 0, 'a request was carried out, its answer was lost');
	$session->due_now;
	deliver();
	is(q1("SELECT evidence FROM lp_requests WHERE id = (SELECT max(id) FROM lp_requests WHERE action = 'disable')"), 'lookup', '... and looked up');
	is(q1($links), '6 active true, 7 disabled true', '... and is ours');
	q1('UPDATE staff SET here = true WHERE emp_no = 7');
	is(diff(), 'enable 7', 'the re-hire is not asked for');
	in_sync('enabled');

	q1(q{SELECT lp_sync_define('staff', '12345678', 'lp_people', 'emp_no', leavers => 'delete', limits => '{"delete": 2, "update": null}')});
	q1('UPDATE staff SET here = false WHERE emp_no = 6');
	q1("CALL lp_sync('staff')");
	q1("DELETE FROM lp.users WHERE login_name = 'p6\@x.example'");
	deliver();
	is(q1($links), '6 gone false, 7 active true', 'a user whom others deleted');
	q1('UPDATE staff SET here = true WHERE emp_no = 6');
	is(diff(), 'recreate 6', '... is not created again unasked');
	q1(q{SELECT lp_sync_apply(lp_sync_plan('staff'), '{"recreate": 1}')});
	deliver();
	q1(q{SELECT lp_sync_define('staff', '12345678', 'lp_people', 'emp_no', limits => '{"disable": null, "update": null}')});
	in_sync('back again');
};

subtest 'a key that was linked since it was planned' => sub {
	q1('INSERT INTO staff VALUES (101)');
	$sim->post('faults', { method => 'POST', path => '/users', action => 'status', status => 400, times => 0 });
	q1(q{CALL lp_sync('staff')});
	deliver();
	$sim->remove('faults');
	my $id = q1(q{SELECT max(id) FROM lp_requests WHERE state = 'failed'});
	my $plan = plan();
	q1("SELECT lp_retry(ARRAY[$id])");
	is(apply($plan), 'create 0/0/1', 'it is being created');
	deliver();
	is(q1(q{SELECT state FROM lp_sync_links WHERE source_key = '101'}), 'active', 'it is linked');
	is(diff(), '', 'nothing is left');
	is($sim->text('duplicates') =~ s/\s//gr, '[]', 'no login is there twice');
};

subtest 'a key that was created meanwhile' => sub {
	q1('INSERT INTO staff VALUES (103)');
	$sim->post('faults', { method => 'POST', path => '/users', action => 'status', status => 400, times => 0 });
	q1(q{CALL lp_sync('staff')});
	deliver();
	$sim->remove('faults');
	my $id = q1(q{SELECT max(id) FROM lp_requests WHERE state = 'failed'});
	my $plan = plan();
	q1("SELECT lp_retry(ARRAY[$id])");
	deliver();
	is(apply($plan), 'create 0/0/1', 'is not created again');
	is(diff(), '', 'nothing is left');
};

# Of two syncs the second sees what the first has queued.
subtest 'two syncs of an account at once' => sub {
	q1(q{CREATE TABLE others (key text, login text);
		CREATE VIEW other_people AS SELECT key, login AS login_name, login AS email, key AS full_name, key AS employee_id, 'Person' AS nickname, true AS is_enabled, 1 AS max_chats,
			'{1001}'::bigint[] AS profile_ids, 'Aa1!' || md5(key) AS password_sh FROM others;
		SELECT lp_sync_define('others', '12345678', 'other_people', 'key')});
	$sim->post('users', [ { loginName => 'both@x.example', nickname => 'both', email => 'both@x.example', fullName => 'Both', isEnabled => \1, maxChats => 1, profileIds => [1001] } ]);
	q1(q{INSERT INTO staff VALUES (110, 3, true, 'both@x.example'), (111, 3, true, 'new@x.example'); INSERT INTO others VALUES ('o1', 'both@x.example'), ('o2', 'new@x.example')});
	my ($first, $second) = (plan(), plan(undef, 'others'));
	$other->query(qq{BEGIN; SELECT lp_sync_apply($first, '{"adopt": 1, "create": 1}')});
	$session->send(qq{SELECT string_agg(action || ' ' || queued || '/' || stale, ', ' ORDER BY action) FROM lp_sync_apply($second, '{"adopt": 1, "create": 1}')});
	LpUsers::wait_for(sub { $node->safe_psql('postgres', q{SELECT count(*) FROM pg_locks WHERE NOT granted}) ne '0' }, 'the second to wait');
	$other->query('COMMIT');
	is(($session->take)[0], 'adopt 0/1, create 0/1', 'the second sync has neither');
	deliver();
	is(q1(q{SELECT string_agg(sync || source_key, ', ' ORDER BY source_key) FROM lp_sync_links WHERE login_name IN ('both@x.example', 'new@x.example')}), 'staff110, staff111', 'one sync has them');
	is(diff(), '', 'nothing is left');
	is($sim->text('duplicates') =~ s/\s//gr, '[]', 'no login is there twice');
	q1(q{SELECT lp_sync_drop('others')});
};

subtest 'a request of others between plan and apply' => sub {
	q1('UPDATE staff SET chats = 9 WHERE emp_no IN (11, 12)');
	my $plan = plan();
	my $id = account_user('p11@x.example')->{id};
	q1(qq{SELECT lp_enqueue_changes('12345678', '[{"id": $id, "nickname": "Nick", "fullName": "Person 11", "employeeId": "11"}]')});
	is(apply($plan), 'update 1/0/1', 'its user is left for another plan');
	deliver();
	is(diff(), 'update 11', '... which has it');
	in_sync('done');
	is_deeply([ @{ account_user('p12@x.example') }{qw(maxChats)} ], [9], 'the other was updated');
};

subtest 'a held class of a watched run' => sub {
	q1(q{SELECT lp_sync_define('staff', '12345678', 'lp_people', 'emp_no', limits => '{"disable": 0, "update": null}'); SELECT lp_sync_watch('staff', 'staff', 'emp_no')});
	q1('UPDATE staff SET here = false WHERE emp_no = 21');
	q1(q{CALL lp_sync('staff', true)});
	my $held = q1('SELECT max(plan) FROM lp_sync_plans');
	q1('UPDATE staff SET here = false WHERE emp_no = 22');
	q1('UPDATE staff SET chats = 8 WHERE emp_no = 23');
	q1(q{CALL lp_sync('staff', true)});
	cmp_ok(q1('SELECT max(plan) FROM lp_sync_plans'), '>', $held, 'another run, of other keys');
	my $xmin = q1("SELECT xmin FROM _lp_sync_item WHERE plan = $held");
	is(apply($held), 'disable 0/1/0', 'the first is not superseded');
	is(q1("SELECT xmin FROM _lp_sync_item WHERE plan = $held"), $xmin, '... and what stays held is not written');
	is(apply($held, '{"disable": 1}'), 'disable 1/0/0', '... and can be confirmed');
	deliver();
	is(account_user('p21@x.example')->{isEnabled} ? 1 : 0, 0, 'the leaver is disabled');
	q1('UPDATE staff SET chats = 7 WHERE emp_no = 24');
	$held = q1('SELECT max(plan) FROM lp_sync_plans');
	q1(q{CALL lp_sync('staff')});
	deliver();
	like(($session->run("SELECT lp_sync_apply($held, '{\"disable\": 1}')"))[1], qr/55000: plan $held is superseded/, 'a plan of all keys supersedes it');
};

subtest 'a list that has users twice' => sub {
	q1('CREATE VIEW twice AS SELECT * FROM lp.users UNION ALL SELECT * FROM lp.users; UPDATE staff SET chats = chats + 1 WHERE emp_no IN (31, 32)');
	q1(q{INSERT INTO others VALUES ('o3', 'p33@x.example'); SELECT lp_sync_define('others', '12345678', 'other_people', 'key'); SELECT lp_sync_unlink('staff', '{33}')});
	is(q1(q{SELECT string_agg(action || ' ' || source_key, ', ' ORDER BY source_key) FROM lp_sync_diff('staff', '{31,32}', 'twice')}), 'update 31, update 32', 'has each once');
	is(q1(q{SELECT string_agg(DISTINCT action, ', ') FROM lp_sync_diff('others', '{o3}', 'twice')}), 'adopt', 'a login is not that of several users');
};

done_testing();

# Runs of lp_sync: what joiners are sent, and what happens to the account while it is listed.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP;
use LpSync;
use LpUsers;
use Test::More;

LpSync::start();

sub q1 { my ($sql) = @_; return $admin->query($sql); }
sub user { my ($login) = @_; return grep { $_->{loginName} eq $login && !$_->{deleted} } @{ $sim->get('users') }; }

# What the last plan has, but for the users who are as the source says.
sub planned { return q1(q{SELECT coalesce(string_agg(DISTINCT action || ' ' || source_key, ', '), '') FROM _lp_sync_item WHERE plan = (SELECT max(id) FROM _lp_sync_plan)}); }

# A run; while the account is listed, the queue is delivered.
sub run_beside_delivery
{
	my $run = LpUsers::session($node);

	$sim->remove('log');
	$sim->post('faults', { method => 'GET', path => '/le-users/users', action => 'stall', seconds => 5, times => 1 });
	my $pid = $run->query('SELECT pg_backend_pid()');
	$run->send(q{CALL lp_sync('staff')});
	LpUsers::wait_for(sub { $sim->count(method => 'GET', path => '/le-users/users') > 0 }, 'the list to be asked for');
	q1('CALL lp_deliver()');
	is(q1(q{SELECT count(*) FROM lp_requests WHERE state NOT IN ('created', 'done')}), '0', 'what was queued is delivered');
	is(q1("SELECT state FROM pg_stat_activity WHERE pid = $pid"), 'active', '... before the list has ended');
	$run->take;
	$run->quit;
	return;
}

subtest 'add_only: a joiner gets what is only added to' => sub {
	linked();
	q1(q{
		CREATE VIEW hr.skilled AS SELECT p.*, '{3001}'::bigint[] AS skill_ids FROM hr.people p;
		SELECT count(*) FROM lp_sync_define('staff', '12345678', 'hr.skilled', 'key', add_only => '{skill_ids}', limits => '{"recreate": null, "update": null}');
		INSERT INTO hr.staff VALUES ('a', 'a@x.example', 3)});
	run_sync('a joiner');
	q1('CALL lp_deliver()');
	is_deeply((user('a@x.example'))[0]{skillIds}, [3001], 'it is sent with the create');
	is(q1(q{SELECT base -> 'skillIds' FROM _lp_sync_link WHERE source_key = 'a'}), '[3001]', 'and counted as added by the sync');
	run_sync('again');
	is(planned(), '', 'nothing differs then');

	$sim->post('change', { user => 'a@x.example', set => { deleted => JSON::PP::true } });
	run_sync('deleted by an admin');
	is(planned(), 'recreate a', 'the user is created again');
	q1('CALL lp_deliver()');
	is_deeply((user('a@x.example'))[0]{skillIds}, [3001], '... with what is only added to');
	run_sync('after that');
	is(planned(), '', '... and nothing differs then');

	q1(q{CREATE OR REPLACE VIEW hr.skilled AS SELECT p.*, '{}'::bigint[] AS skill_ids FROM hr.people p});
	run_sync('taken away');
	q1('CALL lp_deliver()');
	is(scalar(@{ (user('a@x.example'))[0]{skillIds} // [] }), 0, 'what the sync added with the create it takes away again');
	q1(q{SELECT count(*) FROM lp_sync_define('staff', '12345678', 'hr.people', 'key', limits => '{"create": null, "enable": null, "disable": null, "adopt": null, "reopen": null, "recreate": null}');
		DROP VIEW hr.skilled});
};

subtest 'what is settled while the account is listed' => sub {
	linked('p1', 'p2', 'p3');
	q1(q{UPDATE hr.staff SET enabled = false WHERE key = 'p1'; CALL lp_sync('staff')});
	q1('CALL lp_deliver()');
	# a joiner; one who is back; one who leaves, and is back before that is delivered
	q1(q{INSERT INTO hr.staff VALUES ('new', 'new@x.example', 3); UPDATE hr.staff SET enabled = true WHERE key = 'p1'; UPDATE hr.staff SET enabled = false WHERE key = 'p2'; CALL lp_sync('staff')});
	is(planned(), 'create new, disable p2, enable p1', 'planned');
	q1(q{UPDATE hr.staff SET enabled = true WHERE key = 'p2'});
	run_beside_delivery();
	is(planned(), 'wait new, wait p1, wait p2', 'a run whose list is from before that leaves them');
	to_rest('and the next one');
	all_is_right('at rest');
	is(q1('SELECT state FROM lp_sync_links WHERE source_key = $$p2$$'), 'active', 'who was back is enabled');
};

subtest 'the settings of the session' => sub {
	linked();
	q1(q{
		CREATE TABLE hr.dated (day date, at timestamptz, login text, chats int);
		CREATE VIEW hr.dated_people AS SELECT day AS key, login AS login_name, login AS email, 'Full ' || login AS full_name, at AS employee_id, login AS nickname,
			true AS is_enabled, chats AS max_chats, '{1001}'::bigint[] AS profile_ids, day AS description, 'Start-1234' AS password_sh FROM hr.dated;
		SELECT count(*) FROM lp_sync_define('dated', '12345678', 'hr.dated_people', 'key');
		SELECT lp_sync_watch('hr.dated', 'dated', 'day');
		INSERT INTO hr.dated VALUES ('2000-03-04', '2000-03-04 05:06:07+00', 'd1@x.example', 3), ('2000-12-31', '2000-12-31 05:06:07+00', 'd2@x.example', 3);
		CALL lp_sync('dated')});
	q1('CALL lp_deliver()');
	my $others = LpUsers::session($node);
	$others->query(q{SET datestyle = 'German'; SET timezone = 'Asia/Tokyo'; SET intervalstyle = 'iso_8601'});
	is($others->query(q{SELECT count(*) FROM lp_sync_diff('dated')}), '0', 'nothing differs for a session with others');
	$others->query(q{SET datestyle = 'SQL, DMY'; UPDATE hr.dated SET chats = 4 WHERE login = 'd1@x.example'});
	q1(q{CALL lp_sync('dated', watched => true)});
	is(planned(), 'update 2000-03-04', 'a mark that another session made is that of the same day');
	$others->quit;
	q1(q{SELECT lp_sync_unwatch('hr.dated'); SELECT lp_sync_drop('dated'); DROP VIEW hr.dated_people; DROP TABLE hr.dated});
};

subtest 'text that a view reads as dates' => sub {
	my $left = sub { my ($session) = @_; return $session->query(q{SELECT count(*) FROM lp_sync_diff('typed', against => 'hr.typed_none')}); };

	q1(q{
		CREATE TABLE hr.typed (key text, leaves text);
		INSERT INTO hr.typed VALUES ('t1', '03/12/2026');
		CREATE VIEW hr.typed_people AS SELECT key, key || '@x.example' AS login_name, 'Full' AS full_name, key AS employee_id, 3 AS max_chats, 'Start-1234' AS password_sh
			FROM hr.typed WHERE leaves::date = '2026-12-03';
		CREATE TABLE hr.typed_none (id bigint, login_name text, is_enabled boolean, max_chats int, profiles text[], manager_of bigint[]);
		SELECT count(*) FROM lp_sync_define('typed', '12345678', 'hr.typed_people', 'key')});
	is($left->($admin), '0', 'MDY, as the server has it: March');
	q1(q{DO $$ BEGIN EXECUTE format($f$ALTER DATABASE %I SET datestyle = 'SQL, DMY'$f$, current_database()); END $$});
	isnt($left->($admin), '0', 'DMY, as a new session of the database has it: December');
	my $other = LpUsers::session($node);
	$other->query(q{SET datestyle = 'ISO, MDY'});
	isnt($left->($other), '0', '... whichever the session that calls has');
	q1('ALTER ROLE CURRENT_USER SET datestyle = MDY');
	is($left->($other), '0', q{the setting of the sync's owner precedes that of the database});
	$other->quit;
	q1(q{ALTER ROLE CURRENT_USER RESET datestyle; DO $$ BEGIN EXECUTE format('ALTER DATABASE %I RESET datestyle', current_database()); END $$;
		SELECT lp_sync_drop('typed'); DROP VIEW hr.typed_people; DROP TABLE hr.typed, hr.typed_none});
};

subtest 'NULL in an array' => sub {
	q1(q{
		CREATE TABLE hr.half (key text, role text, managed bigint);
		INSERT INTO hr.half VALUES ('h1', NULL, 2001), ('h2', 'Agent', NULL), ('h3', 'Agent', 2001);
		CREATE VIEW hr.half_people AS SELECT key, key || '@x.example' AS login_name, 'Full' AS full_name, key AS employee_id, 3 AS max_chats,
			ARRAY[role] AS profiles, ARRAY[managed, 2001] AS manager_of FROM hr.half;
		CREATE TABLE hr.half_acct (id bigint, login_name text, is_enabled boolean, max_chats int, profiles text[], manager_of bigint[]);
		INSERT INTO hr.half_acct SELECT n, 'h' || n || '@x.example', true, 3, '{Agent Manager}', '{2001}' FROM generate_series(1, 3) n;
		SELECT count(*) FROM lp_sync_define('half', '12345678', 'hr.half_people', 'key')});
	is(q1(q{SELECT string_agg(concat_ws(' ', action, source_key, reason), ', ' ORDER BY source_key) FROM lp_sync_diff('half', against => 'hr.half_acct')}),
		'blocked h1 profileIds must not hold NULL, blocked h2 managerOf must not hold NULL, adopt h3 differs', 'is no value, and clears nothing');
	q1(q{SELECT lp_sync_drop('half'); DROP VIEW hr.half_people; DROP TABLE hr.half, hr.half_acct});
};

subtest 'runs of some keys, and of all' => sub {
	my $state = sub { return q1(q{SELECT state, coalesce(why, '') FROM lp_syncs WHERE sync = 'staff'}) };
	my $whole = sub { return ($admin->run(q{CALL lp_sync('staff')}))[1] };
	my $watched = sub { my ($key) = @_; q1("UPDATE hr.staff SET chats = chats + 1 WHERE key = '$key'"); return ($admin->run(q{CALL lp_sync('staff', watched => true)}))[1] };

	linked(map { "p$_" } 1 .. 6);
	q1(q{CREATE TABLE hr.away AS SELECT * FROM hr.staff WHERE key IN ('p5', 'p6'); DELETE FROM hr.staff WHERE key IN ('p5', 'p6');
		SELECT lp_sync_watch('hr.staff', 'staff', 'key'); CALL lp_sync('staff')});
	like($state->(), qr/^failing\|the source is short/, 'a run is held');
	unlike($watched->('p1'), qr/ERROR|WARNING/, 'one of some keys is not');
	like($state->(), qr/^failing\|the source is short/, '... and does not say that all is well');
	q1('CALL lp_deliver()');
	$whole->();
	$watched->('p2');
	q1('CALL lp_deliver()');
	$whole->();
	like($state->(), qr/^quarantined\|the source is short/, 'the third is quarantined');
	like($whole->(), qr/ERROR:  55000: sync "staff" is quarantined\nDETAIL:  The last run: the source is short.*\nHINT:  Call lp_sync_resume/, 'a run of it alone is an error');
	like(($admin->run('CALL lp_sync()'))[1], qr/WARNING:  55000: sync "staff" is quarantined/, 'one of all syncs is a warning');
	like($state->(), qr/^quarantined\|the source is short/, 'and it is still said why');
	q1(q{SELECT lp_sync_resume('staff'); INSERT INTO hr.staff SELECT * FROM hr.away; DROP TABLE hr.away; CALL lp_sync('staff')});
	like($state->(), qr/^(in sync|differing)\|$/, 'the cause is mended');

	q1(q{DELETE FROM _lp_sync_mark});
	$sim->post('faults', { method => 'GET', path => '/le-users/users', action => 'body', body => '[]' });
	like($watched->('p3'), qr/WARNING.*is held: the account's list is empty/, 'an empty list');
	is(q1(q{SELECT count(*) FROM lp_requests WHERE state = 'pending'}), '0', '... makes nothing');
	$sim->post('faults', { method => 'GET', path => '/le-users/users', action => 'body', body => '[]' });
	is(q1(q{SELECT count(*) FROM lp_sync_plan('staff', '{p4}')}), '1', 'likewise a plan of some keys');
	like(($admin->run('SELECT lp_sync_apply((SELECT max(id) FROM _lp_sync_plan))'))[1], qr/ERROR:  55000/, '... which is not applied');
	like(($admin->run('BEGIN; DELETE FROM hr.staff; SELECT lp_sync_plan($$staff$$, $${p4}$$)'))[1], qr/ERROR:  22023: source hr.people of sync "staff" is empty/, 'an empty source');
	q1('ROLLBACK; SELECT lp_sync_unwatch($$hr.staff$$)');
};

subtest 'a leaver who was disabled and is enabled again' => sub {
	linked('p1', 'p2');
	q1(q{DELETE FROM hr.staff WHERE key = 'p2'; CALL lp_sync('staff')});
	q1('CALL lp_deliver()');
	$sim->post('change', { user => 'p2@x.example', set => { isEnabled => JSON::PP::true } });
	is(q1(q{SELECT DISTINCT action, reason FROM lp_sync_diff('staff')}), 'disable|not in the source, enabled in the account since', 'the reason says so');
	$sim->post('change', { user => 'p2@x.example', set => { loginName => 'other@x.example' } });
	is(q1(q{SELECT DISTINCT action, reason FROM lp_sync_diff('staff')}), 'disable|not in the source, enabled in the account since, the loginName was p2@x.example', '... also of a new login');
	q1(q{UPDATE _lp_sync SET leavers = 'delete', limits = '{"delete": null, "adopt": null}' WHERE name = 'staff'; CALL lp_sync('staff')});
	is(planned(), 'delete p2', 'planned');
	q1('CALL lp_deliver()');
	is(q1(q{SELECT state FROM lp_requests ORDER BY id DESC LIMIT 1}), 'done', 'and deleted');
	q1(q{UPDATE _lp_sync SET leavers = 'disable'});
};

subtest 'a user who was deleted and made anew by hand' => sub {
	linked('p1', 'p2');
	my ($old) = map { $_->{id} } user('p2@x.example');
	$sim->post('change', { user => 'p2@x.example', set => { deleted => JSON::PP::true } });
	$sim->post('users', [ person('p2') ]);
	my ($new) = map { $_->{id} } user('p2@x.example');
	is(q1(q{SELECT action, reason FROM lp_sync_diff('staff')}), "blocked|loginName is that of user $new, and user $old is gone: lp_sync_unlink() gives up its link", 'is blocked, with the way out');
	q1(q{SELECT lp_sync_unlink('staff', '{p2}')});
	to_rest('unlinked');
	is(q1(q{SELECT user_id FROM lp_sync_links WHERE source_key = 'p2'}), $new, 'the new user is adopted');
};

subtest 'a login with capitals that are not ASCII' => sub {
	linked();
	q1(qq{INSERT INTO hr.staff VALUES ('a', 'J\xC3\x96RG\@x.example', 3); CALL lp_sync('staff')});
	q1(qq{TRUNCATE _lp_sync_item; UPDATE hr.staff SET key = 'b'});
	is(q1(q{SELECT action FROM lp_sync_diff('staff') GROUP BY action}), 'wait', 'is that of its request');
	q1('DELETE FROM lp_payloads; DELETE FROM lp_requests');
};

subtest 'what is renamed, and errors of a comparison' => sub {
	linked('p1');
	q1(q{UPDATE _lp_sync SET owner = 'before', server = 'before', source = 'before'; CALL lp_sync('staff')});
	is(q1(q{SELECT owner <> 'before', server, source FROM _lp_sync}), 't|acme|hr.people', 'names are those of now');
	$sim->post('change', { user => 'p1@x.example', set => { isEnabled => JSON::PP::false } });
	q1(q{UPDATE _lp_sync SET delete_after = '294000 years'; UPDATE _lp_sync_link SET state = 'disabled', by_us = true; DELETE FROM hr.staff});
	my $err = ($admin->run(q{SELECT * FROM lp_sync_diff('staff')}))[1];
	like($err, qr/ERROR:  22008/, 'an error inside the comparison');
	unlike($err, qr/candidate|SQL statement/, '... does not show the statement');
};

done_testing;

# What lp_syncs says after runs of marked keys: "in sync" only if these have left nothing.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP;
use LpSync;
use LpUsers;
use Test::More;

my $limits = '"create": null, "update": null, "enable": null, "disable": null, "delete": null, "adopt": null, "reopen": null, "recreate": null, "relink": null';

LpSync::start();

sub q1 { my ($sql) = @_; return $admin->query($sql); }
sub watched { return ($admin->run(q{CALL lp_sync('staff', watched => true)}))[1]; }
sub says { return q1(q{SELECT concat_ws(' ', state, differing, waiting, blocked) FROM lp_syncs WHERE sync = 'staff'}); }
sub marks { return q1('SELECT count(*) FROM _lp_sync_mark'); }
sub user { my ($login) = @_; return grep { $_->{loginName} eq $login && !$_->{deleted} } @{ $sim->get('users') }; }
sub defined_as { my ($more) = @_; return q1("SELECT count(*) FROM lp_sync_define('staff', '$LpSync::account', 'hr.people', 'key', limits => '{$limits, $more}')"); }

# In sync, and hr.staff is watched.
sub fresh
{
	linked('p1', 'p2', 'p3');
	q1(q{CALL lp_sync('staff')});
	is(says(), 'in sync 0 0 0', 'in sync');
	return;
}

q1(q{SELECT lp_sync_watch('hr.staff', 'staff', 'key')});

subtest 'a change that is not delivered' => sub {
	fresh();
	q1(q{UPDATE hr.staff SET chats = 4 WHERE key = 'p1'});
	watched();
	is(says(), 'differing 0 1 0', 'is waited for');
	q1(q{UPDATE hr.staff SET chats = 5 WHERE key = 'p1'});
	watched();
	is(says(), 'differing 0 1 0', 'a user with two changes counts once');
	q1('CALL lp_deliver()');
	is(says(), 'differing 0 1 0', 'delivered, but for the second');
	watched();
	q1('CALL lp_deliver()');
	is(says(), 'in sync 0 0 0', 'both are done');
};

subtest 'a change that is held in the queue' => sub {
	fresh();
	q1(q{UPDATE hr.staff SET chats = 4 WHERE key = 'p1'});
	watched();
	$sim->post('faults', { method => 'PUT', action => 'status', status => 403 });
	q1('CALL lp_deliver()');
	is(q1('SELECT state FROM lp_requests'), 'held', 'held');
	is(says(), 'differing 0 1 0', 'is waited for');
};

subtest 'a change that fails' => sub {
	fresh();
	q1(q{UPDATE hr.staff SET chats = 4 WHERE key = 'p1'});
	watched();
	$sim->post('faults', { method => 'PUT', action => 'status', status => 400 });
	q1('CALL lp_deliver()');
	is(q1('SELECT state FROM lp_requests'), 'failed', 'failed');
	is(says(), 'differing 1 0 0', 'is a difference');
	watched();
	is(says(), 'differing 1 0 0', 'as long as the key is not checked again');
	is(q1('SELECT count(*) FROM lp_requests'), 1, '... and it is not sent again every minute');
	q1(q{UPDATE hr.staff SET chats = 3 WHERE key = 'p1'});
	watched();
	is(says(), 'in sync 0 0 0', 'taken back in the source');
	q1(q{UPDATE hr.staff SET chats = 4 WHERE key = 'p1'});
	watched();
	$sim->post('faults', { method => 'PUT', action => 'status', status => 400 });
	q1('CALL lp_deliver()');
	q1(q{SELECT lp_retry(ARRAY[max(id)]) FROM lp_requests});
	is(says(), 'differing 0 1 0', 'tried again');
	q1('CALL lp_deliver()');
	is(says(), 'in sync 0 0 0', '... and done');
};

subtest 'a request that is discarded' => sub {
	fresh();
	q1(q{UPDATE hr.staff SET chats = 4 WHERE key = 'p1'});
	watched();
	q1('SELECT lp_discard(array_agg(id)) FROM lp_requests');
	is(says(), 'differing 1 0 0', 'leaves a difference');
};

subtest 'a row that is blocked' => sub {
	fresh();
	q1(q{INSERT INTO hr.staff VALUES ('new', 'p1@x.example', 3)});
	watched();
	is(says(), 'differing 0 0 1', 'counts');
	q1(q{UPDATE hr.staff SET chats = 4 WHERE key = 'new'});
	watched();
	is(says(), 'differing 0 0 1', 'once');
	q1(q{DELETE FROM hr.staff WHERE key = 'new'});
	watched();
	is(says(), 'in sync 0 0 0', 'until it is corrected');
};

subtest 'a row that has changed since it was planned' => sub {
	fresh();
	q1(q{SELECT lp_sync_unwatch('hr.staff'); UPDATE hr.staff SET chats = 4 WHERE key = 'p1'});
	my $plan = q1(q{SELECT lp_sync_plan('staff', '{p1}')});
	is(says(), 'differing 1 0 0', 'planned');
	q1(q{UPDATE hr.staff SET chats = 5 WHERE key = 'p1'});
	is(q1("SELECT stale FROM lp_sync_apply($plan)"), 1, 'stale');
	is(says(), 'differing 1 0 0', 'still differs');
	q1(q{CALL lp_sync('staff')});
	q1('CALL lp_deliver()');
	q1(q{CALL lp_sync('staff')});
	is(says(), 'in sync 0 0 0', 'until a run of all keys');
	q1(q{SELECT lp_sync_watch('hr.staff', 'staff', 'key')});
};

subtest 'a run of marked keys that fails' => sub {
	fresh();
	my $sick = sub { $sim->post('faults', { method => 'GET', path => '/le-users/users', @_ }); };

	foreach my $fault ([ 'fails', qr/could not list users/, action => 'status', status => 403 ], [ 'is held', qr/list is empty/, action => 'body', body => '[]' ])
	{
		my ($how, $why, @fault) = @$fault;

		q1(q{UPDATE hr.staff SET chats = chats + 1 WHERE key = 'p1'});
		$sick->(@fault);
		like(watched(), qr/ERROR|WARNING/, "it $how");
		like(q1('SELECT state, why FROM lp_syncs'), qr/^failing\|.*$why/, '... and the state says so');
		is(q1('SELECT failures FROM _lp_sync'), 0, '... but it does not count for the quarantine');
		watched();
		is(q1('SELECT state, why FROM lp_syncs'), 'differing|', 'until the next one');
		q1('CALL lp_deliver()');
		is(says(), 'in sync 0 0 0', 'delivered');
	}
	my $other = LpUsers::session($node);
	$other->query(q{BEGIN; SELECT FROM _lp_sync FOR UPDATE});
	like(($admin->run(q{SET lock_timeout = '100ms'; CALL lp_sync('staff')}))[1], qr/ERROR:  55P03/, 'a run that waits for a lock');
	$other->query('ROLLBACK');
	like(($admin->run(q{RESET lock_timeout; CALL lp_sync('staff', true)}))[1], qr/^$/, 'nothing is marked');
	is(says(), 'in sync 0 0 0', 'then nothing is said of it');
	$other->quit;
};

subtest 'defined anew while a plan waits' => sub {
	fresh();
	defined_as('"rename": 0');
	is(says(), 'new 0 0 0', 'no plan of this definition');
	watched();
	is(says(), 'new 0 0 0', 'nothing is marked');
	q1(q{CALL lp_sync('staff')});
	is(says(), 'in sync 0 0 0', 'a plan of all keys');
	q1(q{UPDATE hr.staff SET login = 'q1@x.example' WHERE key = 'p1'});
	watched();
	is(says(), 'waiting for confirmation 1 0 0', 'waits');
	is(marks(), 0, 'the mark is gone');
	defined_as('"rename": null');
	is(says(), 'new 1 0 0', 'no plan of this definition');
	watched();
	q1('CALL lp_deliver()');
	is(scalar(user('q1@x.example')), 1, 'a run of marked keys has what waited');
	is(says(), 'new 0 0 0', 'the others are not known');
	q1(q{CALL lp_sync('staff')});
	is(says(), 'in sync 0 0 0', 'a plan of all keys');
};

subtest 'a plan of all keys that waits is not marked' => sub {
	fresh();
	defined_as('"rename": 0');
	q1(q{UPDATE hr.staff SET login = 'q1@x.example' WHERE key = 'p1'; DELETE FROM _lp_sync_mark});
	q1(q{CALL lp_sync('staff')});
	is(says(), 'waiting for confirmation 1 0 0', 'waits');
	defined_as('"rename": null');
	is(marks(), 0, 'a run of marked keys is not asked for what its guards may have held');
	is(says(), 'new 1 0 0', 'no plan of this definition');
};

subtest 'a person who has left while the create is in the queue' => sub {
	foreach my $run ('watched', 'of all keys')
	{
		my $run_sync = sub { return $run eq 'watched' ? watched() : ($admin->run(q{CALL lp_sync('staff')}))[1]; };

		fresh();
		q1(q{INSERT INTO hr.staff VALUES ('new', 'new@x.example', 3), ('other', 'other@x.example', 3)});
		$run_sync->();
		q1(q{DELETE FROM hr.staff WHERE key = 'new'});
		is(q1(q{SELECT action, source_key, login_name FROM lp_sync_diff('staff', '{new}')}), 'wait|new|new@x.example', "$run: is a difference");
		like($run_sync->(), qr/1 queued request was withdrawn/, 'not sent yet: withdrawn');
		is(q1(q{SELECT login_name, state, reason FROM lp_requests ORDER BY id}), "new\@x.example|superseded|withdrawn: not in the source\nother\@x.example|pending|", '... with the reason');
		is(q1(q{SELECT DISTINCT action, state FROM lp_sync_changes WHERE source_key = 'new' ORDER BY 1}), "create|superseded\nwait|superseded", '... also in the plans');
		is(marks(), 0, 'and nothing is left to look at') if $run eq 'watched';
		q1('CALL lp_deliver()');
		is(scalar(user('new@x.example')), 0, 'no user is created');
		is(scalar(user('other@x.example')), 1, '... but the other one');
		q1(q{CALL lp_sync('staff')});
		is(says(), 'in sync 0 0 0', 'in sync');
		q1(q{INSERT INTO hr.staff VALUES ('new', 'new@x.example', 3)});
		$run_sync->();
		q1('CALL lp_deliver()');
		is(scalar(user('new@x.example')), 1, 'hired after all');
	}
};

subtest 'a person who has left while the create is under way' => sub {
	fresh();
	q1(q{INSERT INTO hr.staff VALUES ('new', 'new@x.example', 3)});
	watched();
	$sim->post('faults', { method => 'POST', path => '/le-users/users', action => 'reset', applied => JSON::PP::true });
	q1('CALL lp_deliver()');
	is(q1('SELECT state FROM lp_requests'), 'uncertain', 'sent, and no response');
	q1(q{DELETE FROM hr.staff WHERE key = 'new'});
	unlike(watched(), qr/withdrawn/, 'not withdrawn');
	is(says(), 'differing 0 1 0', 'waited for');
	is(marks(), 1, '... and marked');
	$admin->due_now;
	q1('CALL lp_deliver()');
	is(q1('SELECT state FROM lp_requests'), 'created', 'created');
	is(says(), 'differing 0 1 0', 'not looked at since');
	watched();
	q1('CALL lp_deliver()');
	is((user('new@x.example'))[0]{isEnabled} ? 1 : 0, 0, 'the next run disables the user');
	is(says(), 'in sync 0 0 0', 'in sync');
};

subtest 'a person who is back and has left again' => sub {
	fresh();
	q1(q{DELETE FROM hr.staff WHERE key = 'p3'});
	watched();
	q1('CALL lp_deliver()');
	q1(q{INSERT INTO hr.staff VALUES ('p3', 'p3@x.example', 3)});
	watched();
	q1(q{DELETE FROM hr.staff WHERE key = 'p3'});
	is(q1(q{SELECT action, source_key FROM lp_sync_diff('staff', '{p3}')}), 'wait|p3', 'is a difference');
	like(watched(), qr/1 queued request was withdrawn/, 'the enable is withdrawn');
	q1('CALL lp_deliver()');
	is((user('p3@x.example'))[0]{isEnabled} ? 1 : 0, 0, 'the user stays disabled');
	is(says(), 'in sync 0 0 0', 'in sync');
};

done_testing();

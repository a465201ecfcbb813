# A login that passes from one user to another: who is to get it waits for the user who has it, whatever becomes of that request.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP;
use LpSync;
use LpUsers;
use Test::More;

my $unfinished = q{SELECT count(*) FROM lp_requests WHERE state IN ('pending', 'sending', 'uncertain')};
my ($true, $false) = (JSON::PP::true, JSON::PP::false);

LpSync::start(options => "timeout '20s'");

sub q1 { my ($sql) = @_; return $admin->query($sql); }
sub states { return q1(q{SELECT string_agg(login_name || ' ' || state, ', ' ORDER BY id) FROM lp_requests}) =~ s/\@x\.example//gr; }

# What is done to the first rename.
my @faults = (
	[ '500', { action => 'status', status => 500, applied => $false } ], [ '503, applied', { action => 'status', status => 503, applied => $true } ],
	[ 'reset', { action => 'reset', applied => $false } ], [ 'reset, applied', { action => 'reset', applied => $true } ],
	[ 'a response that names no user', { action => 'misname', form => 'empty_array', applied => $false } ],
	[ '429', { action => 'retry_after', value => '1' } ]);

# Deliver what is due, until nothing is.
sub deliver_all
{
	foreach (1 .. 6)
	{
		$admin->due_now;
		q1('CALL lp_deliver()');
		last if q1($unfinished) eq '0';
	}
	return;
}

sub set_worker
{
	my ($on) = @_;

	q1("ALTER SYSTEM SET lpusers.worker = $on");
	q1('SELECT pg_reload_conf()');
	LpUsers::wait_for(sub { q1('SHOW lpusers.worker') eq $on }, 'the setting');
	return;
}

foreach my $fault (@faults)
{
	my ($name, $strike) = @$fault;

	subtest "a chain of renames: $name" => sub {
		linked('p1', 'p2', 'p3');
		q1(q{UPDATE hr.staff SET login = CASE key WHEN 'p1' THEN 'free@x.example' WHEN 'p2' THEN 'p1@x.example' ELSE 'p2@x.example' END});
		run_sync('the plan');
		$sim->post('faults', { method => 'PUT', path => '/le-users/users', times => 1, %$strike });
		q1('CALL lp_deliver()');
		unlike(states(), qr/failed/, 'none fails');
		like(states(), qr/p1 uncertain, p2 pending, p3 pending/, 'those who need the login wait') if $name =~ /^[5r]/;
		is(q1(q{SELECT reason FROM lp_requests WHERE login_name = 'p2@x.example'}), 'the loginName is free when request ' . q1('SELECT min(id) FROM lp_requests') . ' is done', '... with the reason')
			if $name =~ /^[5r]/;
		deliver_all();
		is(states(), 'p1 done, p2 done, p3 done', 'all are done');
		all_is_right($name);
	};

	subtest "a joiner with the login of a user who is renamed: $name" => sub {
		linked('p1', 'p2');
		q1(q{UPDATE hr.staff SET login = 'free@x.example' WHERE key = 'p1'; INSERT INTO hr.staff VALUES ('new', 'p1@x.example', 3)});
		run_sync('the plan');
		$sim->post('faults', { method => 'PUT', path => '/le-users/users', times => 1, %$strike });
		q1('CALL lp_deliver()');
		unlike(states(), qr/failed/, 'none fails');
		deliver_all();
		is(states(), 'p1 done, p1 created', 'both are done');
		all_is_right($name);
	};
}

# The worker, with its own delays.
foreach my $who ('a rename', 'a create')
{
	subtest "$who waits in the worker" => sub {
		linked('p1', 'p2');
		q1(q{UPDATE hr.staff SET login = 'free@x.example' WHERE key = 'p1'});
		q1($who eq 'a rename' ? q{UPDATE hr.staff SET login = 'p1@x.example' WHERE key = 'p2'} : q{INSERT INTO hr.staff VALUES ('new', 'p1@x.example', 3)});
		run_sync('the plan');
		$sim->post('faults', { method => 'PUT', path => '/le-users/users', times => 1, action => 'status', status => 503 });
		$sim->remove('log');
		set_worker('on');
		q1('SELECT _lp_wake()');
		LpUsers::wait_for(sub { q1($unfinished) eq '0' }, 'the worker');
		is(states(), $who eq 'a rename' ? 'p1 done, p2 done' : 'p1 done, p1 created', 'both are done');
		cmp_ok($sim->count(method => 'GET', path => '/le-users/users'), '<', 30, 'the account is not listed without end meanwhile');
		set_worker('off');
		LpUsers::wait_for(sub { q1('SELECT lp_worker_pid()') eq '' }, 'the worker to leave');
		all_is_right($who);
	};
}

subtest 'the user who has the login keeps it' => sub {
	linked('p1', 'p2');
	q1(q{UPDATE hr.staff SET login = CASE key WHEN 'p1' THEN 'free@x.example' ELSE 'p1@x.example' END});
	run_sync('the plan');
	$sim->post('faults', { method => 'PUT', path => '/le-users/users', times => 2, action => 'status', status => 400 });
	deliver_all();
	is(states(), 'p1 failed, p2 failed', 'the account decides about the second');
};

done_testing();

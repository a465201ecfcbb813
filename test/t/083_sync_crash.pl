# kill -9 in each step of a sync: of the session that compares, plans, applies or runs it, and of the deliverer, CALL or worker, while it
# reads, writes and settles. Afterwards runs bring the account into the desired state: each login exactly once, and the links are right.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP;
use LpSync;
use LpUsers;
use Test::More;

my ($true, $false) = (JSON::PP::true, JSON::PP::false);
my ($holder, $victim);

LpSync::start(options => "timeout '30s', batch_size '1', max_connections '2'", conf => "restart_after_crash = on\n");

sub q1 { my ($sql) = @_; return $admin->query($sql); }
sub fault { my ($method, %fault) = @_; $sim->post('faults', { method => $method, path => '/le-users/users', %fault }); return; }
sub hold { my ($lock) = @_; $holder = LpUsers::session($node); $holder->query("BEGIN; LOCK $lock MODE"); return; }
sub waits { my ($pid) = @_; LpUsers::wait_for(sub { q1("SELECT wait_event_type FROM pg_stat_activity WHERE pid = $pid") eq 'Lock' }, 'the process to wait for a lock'); return; }

sub is_idle { my ($pid) = @_; LpUsers::wait_for(sub { q1("SELECT state FROM pg_stat_activity WHERE pid = $pid") eq 'idle in transaction' }, 'the statement to end'); return; }

# One person for each action: update, rename, disable, enable, delete, create, adopt.
sub scene
{
	linked(map { "p$_" } 1 .. 6);
	$sim->post('users', [ LpSync::person('known', maxChats => 9) ]);
	$sim->post('change', { user => "p$_\@x.example", set => { isEnabled => $false } }) foreach 4, 6;
	q1(q{
		UPDATE _lp_sync_link SET state = 'disabled', by_us = true, since = now() - interval '2 days' WHERE source_key IN ('p4', 'p6');
		DELETE FROM hr.staff WHERE key IN ('p3', 'p6');
		UPDATE hr.staff SET chats = 5 WHERE key = 'p1';
		UPDATE hr.staff SET login = 'new2@x.example' WHERE key = 'p2';
		INSERT INTO hr.staff VALUES ('joiner', 'joiner@x.example', 3), ('known', 'known@x.example', 3)});
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

# A session that executes this, and its process.
sub begin_statement
{
	my ($sql) = @_;

	$victim = LpUsers::session($node);
	my $pid = $victim->query('SELECT pg_backend_pid()');
	$victim->send($sql);
	return $pid;
}

# The server has crashed with it, and is back. What is held is let go.
sub kill_and_wait
{
	my ($pid) = @_;

	LpUsers::kill_backend($node, $pid);
	$_->quit foreach grep { defined } $victim, $holder, $admin;
	$victim = $holder = undef;
	$admin = LpUsers::session($node);
	$sim->remove('faults');
	return;
}

sub comes_right
{
	my ($what) = @_;

	account_is_quiet();
	to_rest($what);
	all_is_right($what);
	is(q1(q{SELECT string_agg(source_key || ' ' || state, ', ' ORDER BY source_key) FROM lp_sync_links}),
		'joiner active, known active, p1 active, p2 active, p3 disabled, p4 active, p5 active, p6 gone', "$what: everybody's link");
	return;
}

# ---------------------------------------------------------------------------------------------- the session of the sync

# Before, the statement (%s: a plan), and how it is known that it is there.
my $reading = [ sub { fault('GET', action => 'silence') }, sub { unanswered(1, 'GET') } ];
my @steps = (
	[ 'diff', @$reading, q{SELECT count(*) FROM lp_sync_diff('staff')} ],
	[ 'plan, reading', @$reading, q{SELECT lp_sync_plan('staff')} ],
	[ 'plan, writing', sub { hold('_lp_sync_item IN SHARE') }, \&waits, q{SELECT lp_sync_plan('staff')} ],
	[ 'apply, reading the source', sub { hold('hr.staff IN ACCESS EXCLUSIVE') }, \&waits, 'SELECT count(*) FROM lp_sync_apply(%s)' ],
	[ 'apply, queueing', sub { hold('lp_requests IN SHARE') }, \&waits, 'SELECT count(*) FROM lp_sync_apply(%s)' ],
	[ 'apply, before COMMIT', sub { }, \&is_idle, 'BEGIN; SELECT count(*) FROM lp_sync_apply(%s)' ],
	[ 'CALL, reading', @$reading, q{CALL lp_sync('staff')} ],
	[ 'CALL, queueing', sub { hold('lp_payloads IN SHARE') }, \&waits, q{CALL lp_sync('staff')} ]);

foreach my $step (@steps)
{
	my ($name, $before, $reached, $sql) = @$step;

	subtest "killed: $name" => sub {
		scene();
		my $plan = $sql =~ /%s/ ? q1(q{SELECT lp_sync_plan('staff')}) : 0;

		$sql =~ s/%s/$plan/;
		$before->();
		my $pid = begin_statement($sql);
		$reached->($pid);
		kill_and_wait($pid);
		is(q1('SELECT count(*) FROM lp_requests'), '0', 'nothing is queued');
		is(scalar(writes()), 0, 'nothing was sent');
		is(q1("SELECT state FROM lp_sync_plans WHERE plan = $plan LIMIT 1"), 'draft', 'the plan is as it was') if $plan;
		comes_right($name);
	};
}

# ---------------------------------------------------------------------------------------------- the deliverer

my @moments = (
	[ 'reading', @$reading ],
	[ 'PUT, applied', sub { fault('PUT', action => 'silence', applied => $true, skip => 1) }, sub { unanswered(1, 'PUT') } ],
	[ 'PUT, not applied', sub { fault('PUT', action => 'silence', applied => $false, skip => 1) }, sub { unanswered(1, 'PUT') } ],
	[ 'PUT, applied later', sub { fault('PUT', action => 'delay', ms => 1500, skip => 1) }, sub { unanswered(1, 'PUT') } ],
	[ 'DELETE, applied', sub { fault('DELETE', action => 'silence', applied => $true) }, sub { unanswered(1, 'DELETE') } ],
	[ 'POST, applied', sub { fault('POST', action => 'silence', applied => $true) }, sub { unanswered(1, 'POST') } ],
	[ 'POST, not applied', sub { fault('POST', action => 'silence', applied => $false) }, sub { unanswered(1, 'POST') } ],
	[ 'writing links', sub { hold('_lp_sync_link IN SHARE') }, \&waits ]);

foreach my $moment (@moments)
{
	my ($name, $before, $reached) = @$moment;

	foreach my $kind ('CALL', 'worker')
	{
		subtest "$kind, killed: $name" => sub {
			my $pid;

			scene();
			run_sync('the plan');
			is(q1('SELECT count(*) FROM lp_requests'), '7', 'a request for each action');
			$before->();
			set_worker('on') if $kind eq 'worker';
			if ($kind eq 'worker')
			{
				q1('SELECT _lp_wake()');
				$pid = LpUsers::wait_for(sub { q1('SELECT lp_worker_pid()') }, 'the worker');
			}
			$pid //= begin_statement('CALL lp_deliver()');
			$reached->($pid);
			kill_and_wait($pid);
			set_worker('off') if $kind eq 'worker';
			LpUsers::wait_for(sub { q1('SELECT lp_worker_pid()') eq '' }, 'the worker to leave') if $kind eq 'worker';
			comes_right("$kind, $name");
		};
	}
}

unlike(LpUsers::log_since($node, 0), qr/TRAP:|PANIC:|signal 11/, 'nothing crashed by itself');
done_testing();

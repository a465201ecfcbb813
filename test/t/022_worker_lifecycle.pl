# The worker: started and woken by a commit, gone when there is nothing to do, and never ended by an error.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP;
use LpUsers;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $sim  = LpUsers::account();
my $node = LpUsers::server(conf => "log_min_messages = debug1\nlog_min_error_statement = panic\nmax_prepared_transactions = 5\n" .
	"log_statement = all\nlog_parameter_max_length = 0\nmax_worker_processes = 8\nautovacuum = off\n");
LpUsers::connect_account($node, $sim, options => "timeout '30s'");
my $session = LpUsers::session($node);
my $serial = 0;

sub q1 { my ($sql) = @_; return $session->query($sql); }
sub enqueue_sql { my (@names) = @_; return "SELECT lp_enqueue_users('12345678', '[" . join(',', map { LpUsers::user($_) } @names) . "]')"; }
sub enqueue { my (@names) = @_; return split(/\n/, q1(enqueue_sql(@names))); }
sub fresh { my ($name) = @_; return $name . ++$serial; }
sub state_of { my ($name, $in) = @_; return ($in // $session)->query("SELECT state FROM lp_requests WHERE login_name = '$name\@example.com'"); }
sub posts { my ($name) = @_; return $sim->count(method => 'POST', path => '/users', login => "$name\@example.com"); }

# All of these are created, each by one POST, and the account has each once.
sub delivered
{
	my ($what, @names) = @_;
	my $list = join(',', map { "'$_\@example.com'" } @names);

	LpUsers::wait_for(sub { q1("SELECT count(*) FROM lp_requests WHERE login_name IN ($list) AND state = 'created'") == @names }, "$what: created");
	my (%sent, %there);
	$sent{$_}++ foreach map { @{ $_->{logins} } } grep { $_->{method} eq 'POST' } @{ $sim->get('log') };
	$there{ $_->{loginName} }++ foreach grep { !$_->{deleted} } @{ $sim->get('users') };
	is(join(' ', grep { ($sent{"$_\@example.com"} // 0) != 1 } @names), '', "$what: one POST for each login");
	is(join(' ', grep { ($there{"$_\@example.com"} // 0) != 1 } @names), '', "$what: the account has each once");
	return;
}

sub workers { my ($db) = @_; return q1("SELECT pid FROM pg_stat_activity WHERE backend_type = 'lpusers worker' AND datname = '" . ($db // 'postgres') . "'"); }
sub no_worker { my ($db) = @_; LpUsers::wait_for(sub { workers($db) eq '' }, 'the worker to leave'); return; }
sub worker { my ($db) = @_; return LpUsers::wait_for(sub { workers($db) }, 'a worker'); }

# Housekeeping, as CALL does it where no worker runs.
sub keep_house
{
	setting('lpusers.worker', 'off');
	q1('CALL lp_deliver()');
	setting('lpusers.worker', 'on');
	return;
}

sub setting
{
	my ($name, $value) = @_;

	q1("ALTER SYSTEM SET $name = $value");
	q1('SELECT pg_reload_conf()');
	LpUsers::wait_for(sub { q1("SELECT current_setting('$name')") eq $value =~ s/'//gr }, "$name = $value");
	return;
}

# Workers that were asked for since that offset of the log.
sub registered
{
	my ($offset) = @_;

	return scalar(() = LpUsers::log_since($node, $offset) =~ / registering background worker "lpusers worker/g);
}

# The next POST is answered later (that many milliseconds); wait until it has arrived.
sub slow_down { my ($ms) = @_; $sim->remove('faults'); $sim->post('faults', { method => 'POST', path => '/users', action => 'delay', ms => $ms }); return; }

# The next POST, or as many, is answered when the faults are removed.
sub hold_back { my ($n) = @_; $sim->remove('faults'); $sim->post('faults', { method => 'POST', path => '/users', action => 'hold', times => $n // 1 }); return; }

sub arrived
{
	LpUsers::wait_for(sub { grep { $_->{struck} > 0 } @{ $sim->get('faults') } }, 'the request to arrive');
	return;
}

# What waits for its next attempt is due now.
sub due_now { $session->due_now(wake => 1); return; }

subtest 'a commit starts or wakes the worker' => sub {
	is(workers(), '', 'no worker before anything is queued');
	is(q1('SELECT lp_worker_stop()'), 'f', 'nobody to stop');
	{
		my $start = time();

		enqueue('first');
		delivered('without any configuration', 'first');
		note(sprintf('first user created %.0f ms after its commit', 1000 * (time() - $start)));
		my $pid = worker();
		is(q1('SELECT lp_worker_pid()'), $pid, 'lp_worker_pid()');
		is(q1("SELECT worker_pid, pending, created, paused FROM lp_progress WHERE account = '12345678'"), "$pid|0|1|f", 'lp_progress');
	}
	{
		my (@names, @committed, @ms);

		for (1 .. 15)
		{
			push @names, fresh('woken');
			push @committed, q1('BEGIN; ' . enqueue_sql($names[-1]) . '; SELECT extract(epoch FROM clock_timestamp()); COMMIT') =~ s/.*\n//sr;
			# some back to back, some when the worker sleeps
			LpUsers::wait_for(sub { state_of($names[-1]) eq 'created' }, 'created') if $_ % 3;
		}
		delivered('a running worker is woken', @names);
		my %at;
		foreach my $entry (grep { $_->{method} eq 'POST' } @{ $sim->get('log') })
		{
			$at{$_} //= $entry->{at} foreach @{ $entry->{logins} };
		}
		@ms = sort { $a <=> $b } map { 1000 * ($at{"$names[$_]\@example.com"} - $committed[$_]) } 0 .. $#names;
		note(sprintf('from commit to POST: median %.1f ms, longest %.1f ms', $ms[ @ms / 2 ], $ms[-1]));
		cmp_ok($ms[ @ms / 2 ], '<', 2000, 'from commit to POST at once');
		like(workers(), qr/^\d+$/, 'one worker');
	}
	{
		my @sessions = map { LpUsers::session($node) } 1 .. 8;
		my @names = map { fresh('crowd') } @sessions;
		my $before = workers();
		my $offset;

		setting('lpusers.idle_timeout', "'200ms'");
		no_worker();
		setting('lpusers.idle_timeout', "'10s'");
		$offset = -s $node->logfile;
		$sessions[$_]->send(enqueue_sql($names[$_])) foreach 0 .. $#sessions;
		$_->take foreach @sessions;
		delivered('eight commits at once', @names);
		is(registered($offset), 1, 'eight commits at once: one worker was asked for');
		like(workers(), qr/^\d+$/, 'eight commits at once: there is one');
		isnt(workers(), $before, '... and not the one of before');
		$_->quit foreach @sessions;
		setting('lpusers.idle_timeout', "'200ms'");
		no_worker();
	}
};

subtest 'a rollback starts no worker' => sub {
	foreach my $case ([ 'ROLLBACK', 'ROLLBACK', 0 ], [ 'an error', "SELECT 1/0; COMMIT", 0 ],
		[ 'ROLLBACK TO SAVEPOINT', 'ROLLBACK TO a; COMMIT', 0 ], [ 'an inner RELEASE, rolled back', 'RELEASE b; ROLLBACK TO a; COMMIT', 0 ],
		[ 'RELEASE', 'RELEASE a; COMMIT', 1 ], [ 'ROLLBACK TO a later one', 'SAVEPOINT c; SELECT _lp_wake(); ROLLBACK TO c; COMMIT', 1 ])
	{
		my ($what, $end, $kept) = @$case;
		my $name = fresh('rolled');
		my $offset = -s $node->logfile;

		$session->run('BEGIN; SAVEPOINT a; ' . ($end =~ /RELEASE b/ ? 'SAVEPOINT b; ' : '') . enqueue_sql($name) . "; $end");
		is(q1("SELECT count(*) FROM lp_requests WHERE login_name = '$name\@example.com'"), $kept, "$what: rows left: $kept");
		is(q1('SELECT count(*) FROM lp_payloads WHERE request_id NOT IN (SELECT id FROM lp_requests)'), 0, "$what: no payload without a row");
		$kept ? delivered($what, $name) : is(posts($name), 0, "$what: nothing sent");
		# the log may have it later than the commit returns
		is(registered($offset), $kept, "$what: workers asked for: $kept");
		no_worker();
	}
};

subtest 'a worker that leaves overlooks no commit' => sub {
	my @names = map { fresh('leaving') } 1 .. 40;

	# each commit meets the worker as it leaves
	setting('lpusers.idle_timeout', '0');
	foreach my $name (@names)
	{
		my $end = time() + 5;

		enqueue($name);
		usleep(500) until state_of($name) eq 'created' || time() > $end;
		last if time() > $end;
	}
	is(q1("SELECT count(*) FROM lp_requests WHERE state <> 'created'"), 0, 'no commit is overlooked by a worker that is about to leave');
	q1("SELECT _lp_wake()");
	delivered('commits while the worker leaves', @names);
	setting('lpusers.idle_timeout', "'1s'");
	no_worker();

	q1('CREATE DATABASE short_lived');
	$node->safe_psql('short_lived', 'CREATE EXTENSION lpusers');
	LpUsers::connect_account($node, $sim, db => 'short_lived');
	$node->safe_psql('short_lived', enqueue_sql('short_lived'));
	LpUsers::wait_for(sub { posts('short_lived') }, 'the other database to deliver');
	my ($status, undef, $err) = LpUsers::try_sql($node, 'DROP DATABASE short_lived');
	is($err, '', 'DROP DATABASE soon after a delivery');
	is(workers('short_lived'), '', '... its worker is gone');
	is($sim->users_with('short_lived@example.com'), 1, '... its user exists');
	setting('lpusers.idle_timeout', "'200ms'");
};

subtest 'the worker stays for retries' => sub {
	my $name = fresh('retry');

	$sim->post('faults', { method => 'POST', path => '/users', action => 'status', status => 503 });
	enqueue($name);
	LpUsers::wait_for(sub { state_of($name) eq 'uncertain' }, '503: uncertain');
	my $pid = worker();
	my $end = time() + 1;
	while (time() < $end) { last if workers() ne $pid; usleep(50_000); }
	is(workers(), $pid, 'the worker stays while a row waits for its retry, five times its idle_timeout');
	is(posts($name), 1, '... and does not send it before');
	is(q1("SELECT next_attempt_at - sent_at BETWEEN '4 s' AND '7 s' FROM lp_requests WHERE login_name = '$name\@example.com'"), 't', '... which is after 5 s');
	due_now();
	LpUsers::wait_for(sub { state_of($name) eq 'created' }, 'retried');
	is($sim->users_with("$name\@example.com"), 1, 'retried: created once');
	is(posts($name), 2, 'retried: two POSTs, the refused one and another');
	no_worker();
};

subtest 'pg_stat_activity shows the worker' => sub {
	my ($name, $behind) = (fresh('seen'), fresh('behind'));

	hold_back();
	enqueue($name);
	arrived();
	my $pid = worker();
	my $has = LpUsers::while_waiting($session, $pid);
	is("$has->{snapshot} $has->{transaction} $has->{locks}", '- - - userlock', 'no transaction, snapshot or lock but its own while it waits for the network');
	is(q1("SELECT backend_type, application_name, state, query, wait_event_type, wait_event IS NOT NULL, usename FROM pg_stat_activity WHERE pid = $pid"),
		'lpusers worker|lpusers worker|idle|delivering|Extension|t|' . q1("SELECT rolname FROM pg_roles WHERE oid = 10"), 'pg_stat_activity');
	is(q1("SELECT string_agg(DISTINCT locktype || ' ' || mode, ', ') FROM pg_locks WHERE pid = $pid"), 'userlock ExclusiveLock, userlock ShareLock', '... only its own locks');
	is(state_of($name), 'sending', 'the row is being sent');
	is(q1("SELECT sending, worker_pid FROM lp_progress"), "1|$pid", 'lp_progress while it is being sent');
	like((LpUsers::try_sql($node, 'CALL lp_deliver()'))[2], qr/NOTICE: .*is already being delivered by another process/, 'CALL meanwhile: another process delivers');
	# a commit is noticed while a request is under way; what it is sent with is another matter
	enqueue($behind);
	# a reload, too, disturbs nothing
	q1('SELECT pg_reload_conf()');
	$sim->remove('faults');
	delivered('with others looking', $name, $behind);
	is(workers() || $pid, $pid, 'it was one worker all the time');
	no_worker();
	is(q1("SELECT worker_pid FROM lp_progress"), '', 'lp_progress: no worker');
};

# ------------------------------------------------------------------------------------------------- off, stop, cancel, terminate

# In a second database: delivery is paused and resumed; how soon that is noticed is looked at later, at the end of this file.
my $resumed;
my $second;

subtest 'the worker obeys off, stop, cancel and terminate' => sub {
	{
		my ($under_way, $later, $next) = map { fresh('off') } 1 .. 3;
		my $offset;

		hold_back();
		enqueue($under_way);
		arrived();
		setting('lpusers.worker', 'off');
		$offset = -s $node->logfile;
		enqueue($later);
		$sim->remove('faults');
		no_worker();
		is(state_of($under_way), 'created', 'lpusers.worker = off: what is under way is settled');
		is(state_of($later), 'pending', '... what comes later waits');
		is(registered($offset), 0, '... and no worker is asked for');
		is(posts($later), 0, '... nor is anything sent');
		setting('lpusers.worker', 'on');
		enqueue($next);
		delivered('lpusers.worker = on again', $under_way, $later, $next);
		no_worker();
	}
	q1('CREATE DATABASE second');
	$node->safe_psql('second', 'CREATE EXTENSION lpusers');
	LpUsers::connect_account($node, $sim, db => 'second', options => "delivery 'paused'");
	$second = LpUsers::session($node, db => 'second');
	$second->query(enqueue_sql('second'));
	my $second_pid = worker('second');
	LpUsers::wait_for(sub { $second->query("SELECT count(*) FROM pg_stat_activity WHERE pid = $second_pid AND state = 'idle'") }, 'the paused worker to sleep');
	is(state_of('second', $second), 'pending', 'paused: a row waits');
	is($second->query("SELECT paused, pending, worker_pid FROM lp_progress"), "t|1|$second_pid", 'paused: lp_progress says so');

	{
		my ($under_way, $later, $afterwards) = map { fresh('stop') } 1 .. 3;

		hold_back();
		enqueue($under_way);
		arrived();
		my $pid = worker();
		enqueue($later);
		is(q1('SELECT lp_worker_stop()'), 't', 'lp_worker_stop()');
		$sim->remove('faults');
		LpUsers::wait_for(sub { workers() ne $pid }, 'the worker to leave');
		is(state_of($under_way), 'created', 'lp_worker_stop(): what is under way is settled');
		is(state_of($later), 'pending', '... the rest waits');
		is(posts($later), 0, '... and is not sent');
		enqueue($afterwards);
		delivered('after lp_worker_stop() the next commit', $under_way, $later, $afterwards);
		no_worker();

		($under_way, $later) = map { fresh('stop') } 1, 2;
		hold_back();
		enqueue($under_way);
		arrived();
		q1('SELECT lp_worker_stop()');
		enqueue($later);
		$sim->remove('faults');
		delivered('a commit after lp_worker_stop(), before the worker has left', $under_way, $later);
		no_worker();

		# a service that does not respond does not keep a worker that has to stop
		($under_way, $later) = map { fresh('stop') } 1, 2;
		hold_back();
		enqueue($under_way);
		arrived();
		$pid = worker();
		my $start = time();
		q1('SELECT lp_worker_stop()');
		LpUsers::wait_for(sub { workers() ne $pid }, 'the worker to leave');
		cmp_ok(time() - $start, '<', 25, 'lp_worker_stop(): requests in flight have 10 s');
		is(state_of($under_way), 'sending', '... and are left to the next worker');
		$sim->remove('faults');
		enqueue($later);
		LpUsers::wait_for(sub { $session->due_now(wake => 1); state_of($under_way) eq 'created' }, 'what was under way to be looked up and sent');
		is($sim->users_with("$under_way\@example.com"), 1, '... once');
		no_worker();
	}
	{
		my ($under_way, $later, $next) = map { fresh('end') } 1 .. 3;
		my ($pid, $start);

		# cancelled: the request is given up, the worker is not
		slow_down(20_000);
		enqueue($under_way);
		arrived();
		$pid = worker();
		q1("SELECT pg_cancel_backend($pid)");
		LpUsers::wait_for(sub { due_now(); state_of($under_way) eq 'created' || state_of($under_way) eq 'uncertain' }, 'the cancelled request to be given up');
		is(workers(), $pid, 'pg_cancel_backend(): the worker goes on');
		q1("SELECT pg_cancel_backend($pid)");
		LpUsers::wait_for(sub { due_now(); state_of($under_way) eq 'created' }, 'looked up, sent if absent');
		is($sim->users_with("$under_way\@example.com"), 1, 'pg_cancel_backend(): the user exists once');

		# terminated
		no_worker();
		slow_down(20_000);
		enqueue($later);
		arrived();
		$pid = worker();
		$start = time();
		q1("SELECT pg_terminate_backend($pid)");
		no_worker();
		cmp_ok(time() - $start, '<', 5, 'pg_terminate_backend() while it waits for an answer: at once');
		note(sprintf('terminated after %.0f ms', 1000 * (time() - $start)));
		is(state_of($later), 'sending', '... its row says that it was being sent');
		$sim->remove('faults');
		enqueue($next);
		LpUsers::wait_for(sub { due_now(); state_of($later) eq 'created' }, 'looked up, sent if absent');
		is($sim->users_with("$later\@example.com"), 1, '... and is taken over by the next: the user exists once');
		delivered('the commit that started the next', $next);
		q1("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'lpusers worker' AND datname = 'postgres'");
		no_worker();
	}
};

subtest 'pause and resume act on a running delivery' => sub {
	{
		my @names = map { fresh('pause') } 1 .. 200;
		my $created = "SELECT count(*) FROM lp_requests WHERE login_name ~ '^pause' AND state = 'created'";

		q1("ALTER SERVER acme OPTIONS (ADD batch_size '5', ADD max_connections '2')");
		$sim->post('config', { delay_ms => 60 });
		enqueue(@names);
		# the first claim knows no options and takes 100
		LpUsers::wait_for(sub { q1($created) >= 105 }, 'some to be created');
		q1("ALTER SERVER acme OPTIONS (ADD delivery 'paused')");
		my $before = q1($created);
		my $pid = worker();
		LpUsers::wait_for(sub { q1("SELECT state = 'idle' AND NOT EXISTS (SELECT FROM lp_requests WHERE state = 'sending') FROM pg_stat_activity WHERE pid = $pid") eq 't' },
			'the worker to settle');
		my $sent = q1($created);
		# batch_size times max_connections each: what is under way, what is ready, what is answered, and one claim under way
		cmp_ok($sent - $before, '<=', 40, "paused in the middle of a delivery: @{[ $sent - $before ]} more are sent");
		cmp_ok($sent, '<', 200, '... not all');
		is(q1("SELECT count(*) FROM lp_requests WHERE login_name ~ '^pause' AND state = 'pending'"), 200 - $sent, '... the rest waits');
		is(q1("SELECT paused FROM lp_progress"), 't', '... and lp_progress says so');
		is(workers(), $pid, '... the worker stays');
		$sim->post('config', { delay_ms => 0 });
		q1("ALTER SERVER acme OPTIONS (DROP delivery, DROP batch_size, DROP max_connections); SELECT _lp_wake()");
		delivered('resumed', @names);
		no_worker();
	}

	$second->query("ALTER SERVER acme OPTIONS (SET delivery 'on')");
	$resumed = time();
};

subtest 'an error does not end the worker' => sub {
	my ($claimed, $settled) = map { fresh('error') } 1, 2;
	my $offset = -s $node->logfile;

	q1(q{CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF NEW.state = TG_ARGV[0] THEN RAISE EXCEPTION 'not now'; END IF; RETURN NEW; END $$;
		CREATE TRIGGER no BEFORE UPDATE ON lp_requests FOR EACH ROW EXECUTE FUNCTION no('sending')});
	enqueue($claimed);
	LpUsers::wait_for(sub { state_of($claimed) eq 'held' }, 'the row to be held');
	is(q1("SELECT hold, reason FROM lp_requests WHERE login_name = '$claimed\@example.com'"), 'setup|the row cannot be claimed: not now', 'an error at the claim: the row is held');
	q1("DROP TRIGGER no ON lp_requests; SELECT lp_release('12345678')");
	my $pid = worker();
	delivered('an error at the claim', $claimed);
	is(workers() || $pid, $pid, 'an error at the claim: the same worker goes on');
	no_worker();

	$offset = -s $node->logfile;
	q1("CREATE TRIGGER no BEFORE UPDATE ON lp_requests FOR EACH ROW EXECUTE FUNCTION no('created')");
	enqueue($settled);
	LpUsers::wait_for(sub { LpUsers::log_since($node, $offset) =~ /WARNING:  request \d+ is passed over: not now/ }, 'the warning in the log');
	$pid = worker();
	# the turn of the account is over, and the next one finds a row that is being sent by no process
	LpUsers::wait_for(sub { state_of($settled) ne 'sending' }, 'the next turn');
	is(q1("SELECT state, attempts, status, evidence, user_id FROM lp_requests WHERE login_name = '$settled\@example.com'"), 'uncertain|1|||',
		'an error at the settlement: the outcome is unknown');
	is($sim->users_with("$settled\@example.com"), 1, '... and the user exists');
	q1('DROP TRIGGER no ON lp_requests');
	LpUsers::wait_for(sub { due_now(); state_of($settled) eq 'created' }, 'a lookup');
	is(q1("SELECT evidence FROM lp_requests WHERE login_name = '$settled\@example.com'"), 'lookup', 'an error at the settlement: looked up');
	delivered('an error at the settlement', $settled);
	is(workers() || $pid, $pid, 'an error at the settlement: the same worker goes on');
	no_worker();

	# a table locked while the answer comes; a cancel ends that wait, not the worker; settings for people are not for it
	my $locker = LpUsers::session($node);
	q1("ALTER DATABASE postgres SET lock_timeout = '1ms'");
	foreach my $cancel (0, 1)
	{
		my $what = $cancel ? 'a locked table and a cancel' : 'a locked table';
		my $name = fresh('locked');

		$offset = -s $node->logfile;
		hold_back();
		enqueue($name);
		arrived();
		$pid = worker();
		$locker->query('SET lock_timeout = 0; BEGIN; LOCK TABLE lp_requests IN ACCESS EXCLUSIVE MODE');
		$sim->remove('faults');
		LpUsers::wait_for(sub { q1("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid") eq 't' }, 'the worker to wait for the lock');
		if ($cancel)
		{
			q1("SELECT pg_cancel_backend($pid)");
			LpUsers::wait_for(sub { LpUsers::log_since($node, $offset) =~ /ERROR:  canceling statement due to user request/ }, 'the wait to be cancelled');
		}
		is(workers(), $pid, "$what: the worker goes on");
		$locker->query('COMMIT');
		LpUsers::wait_for(sub { $cancel && due_now(); state_of($name) eq 'created' }, "$what: created");
		is(q1("SELECT evidence FROM lp_requests WHERE login_name = '$name\@example.com'"), $cancel ? 'lookup' : 'answer', "$what: how it is known");
		delivered($what, $name);
		no_worker();
	}
	q1('ALTER DATABASE postgres RESET lock_timeout');

	# waiting for a lock it can be terminated
	my $name = fresh('error');
	hold_back();
	enqueue($name);
	arrived();
	$pid = worker();
	$locker->query('BEGIN; LOCK TABLE lp_requests IN ACCESS EXCLUSIVE MODE');
	$sim->remove('faults');
	LpUsers::wait_for(sub { q1("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid") eq 't' }, 'the worker to wait for the lock');
	# a lookup this early finds only existing users
	LpUsers::wait_for(sub { $sim->users_with("$name\@example.com") }, 'the account to have the user');
	q1("SELECT pg_terminate_backend($pid)");
	no_worker();
	$locker->query('COMMIT');
	q1('SELECT _lp_wake()');
	LpUsers::wait_for(sub { due_now(); state_of($name) eq 'created' }, 'a lookup');
	delivered('terminated while it waits for a lock', $name);
	$locker->quit;
	no_worker();
};

subtest 'servers and mappings that disappear' => sub {
	q1('CREATE ROLE leaver LOGIN; GRANT USAGE ON FOREIGN SERVER acme TO leaver; GRANT EXECUTE ON FUNCTION lp_enqueue_users TO leaver;' .
		"CREATE USER MAPPING FOR leaver SERVER acme OPTIONS (token 'lp-token'); ALTER SERVER acme OPTIONS (ADD delivery 'paused')");
	my $leaver = LpUsers::session($node, role => 'leaver');
	setting('lpusers.idle_timeout', "'10min'");
	$leaver->query(enqueue_sql('by_leaver'));
	enqueue('by_other');
	my $pid = worker();
	$leaver->quit;
	q1('REVOKE EXECUTE ON FUNCTION lp_enqueue_users FROM leaver; DROP OWNED BY leaver');
	q1("ALTER SERVER acme OPTIONS (DROP delivery); SELECT _lp_wake()");
	delivered('DROP OWNED: others', 'by_other');
	LpUsers::wait_for(sub { state_of('by_leaver') eq 'held' }, 'DROP OWNED: held');
	like(q1("SELECT reason FROM lp_requests WHERE login_name = 'by_leaver\@example.com'"), qr/12345678/, 'DROP OWNED of the sender: held, with the reason');
	is(posts('by_leaver'), 0, '... nothing was sent');
	q1("DROP ROLE leaver; SELECT lp_release('12345678')");
	LpUsers::wait_for(sub { state_of('by_leaver') eq 'held' }, 'DROP ROLE: held');
	like(q1("SELECT reason FROM lp_requests WHERE login_name = 'by_leaver\@example.com'"), qr/role "leaver" does not exist/, 'DROP ROLE of the sender: held, with the reason');
	is(workers(), $pid, '... the worker did not end');
	setting('lpusers.idle_timeout', "'200ms'");
	q1("CREATE ROLE leaver; GRANT USAGE ON FOREIGN SERVER acme TO leaver; CREATE USER MAPPING FOR leaver SERVER acme OPTIONS (token 'lp-token');
		SELECT lp_release('12345678')");
	is(state_of('by_leaver'), 'held', 'another role of that name inherits nothing');
	is(q1("SELECT lp_discard(ARRAY(SELECT id FROM lp_requests WHERE state = 'held'))"), 1, '... and the owner of the tables discards it');

	q1('CREATE DATABASE third');
	$node->safe_psql('third', 'CREATE EXTENSION lpusers');
	LpUsers::connect_account($node, $sim, db => 'third');
	hold_back();
	$node->safe_psql('third', enqueue_sql('third'));
	arrived();
	like(worker('third'), qr/^\d+$/, 'a worker of another database');
	is((LpUsers::try_sql($node, 'SET client_min_messages = warning; DROP EXTENSION lpusers CASCADE', db => 'third'))[2], '', 'DROP EXTENSION while a request is under way');
	$sim->remove('faults');
	# the error is logged; a reload spares us the wait after it
	LpUsers::wait_for(sub { q1('SELECT pg_reload_conf()'); workers('third') eq '' }, 'the worker to leave');
	is($node->safe_psql('third', 'CREATE EXTENSION lpusers; SELECT count(*) FROM lp_requests'), 0, '... and CREATE EXTENSION again');
	LpUsers::connect_account($node, $sim, db => 'third');
	$node->safe_psql('third', enqueue_sql('third_again'));
	LpUsers::wait_for(sub { $node->safe_psql('third', 'SELECT state FROM lp_requests') eq 'created' }, 'the new queue to be delivered');
	is($sim->users_with('third@example.com'), 1, '... the first user exists');
	no_worker('third');
};

subtest 'two databases have two workers' => sub {
	my @names = map { fresh('two') } 1, 2;

	LpUsers::wait_for(sub { state_of('second', $second) eq 'created' }, 'delivery to be resumed by ALTER SERVER alone');
	my $noticed = $second->query("SELECT extract(epoch FROM sent_at) - $resumed FROM lp_requests WHERE login_name = 'second\@example.com'");
	cmp_ok($noticed, '<', 45, 'ALTER SERVER … delivery is noticed by a worker that sleeps');
	note(sprintf('delivery = on was noticed after %.1f s', $noticed));
	is(posts('second'), 1, '... and its row sent once');
	hold_back(2);
	$second->query(enqueue_sql($names[0]));
	enqueue($names[1]);
	my ($one, $other) = (worker('second'), worker());
	isnt($one, $other, 'two databases have a worker each');
	is($second->query('SELECT lp_worker_pid()'), $one, '... lp_worker_pid() in one');
	is(q1('SELECT lp_worker_pid()'), $other, '... and in the other');
	$sim->remove('faults');
	LpUsers::wait_for(sub { state_of($names[0], $second) eq 'created' && state_of($names[1]) eq 'created' }, 'both to be delivered');
	is(join(' ', map { posts($_) } @names), '1 1', 'each sends its own');
	no_worker('second');
	no_worker();
};

subtest 'the worker stays while there are prepared transactions' => sub {
	my ($kept, $dropped) = map { fresh('prepared') } 1, 2;

	no_worker();
	q1('BEGIN; ' . enqueue_sql($kept) . "; PREPARE TRANSACTION 'kept'");
	q1('BEGIN; ' . enqueue_sql($dropped) . "; PREPARE TRANSACTION 'dropped'");
	my $pid = worker();
	my $end = time() + 1;
	while (time() < $end) { last if workers() ne $pid; usleep(50_000); }
	is(workers(), $pid, 'the worker stays while there are prepared transactions');
	is(posts($kept), 0, '... and nothing of them is sent');
	q1("ROLLBACK PREPARED 'dropped'");
	q1("COMMIT PREPARED 'kept'");
	delivered('COMMIT PREPARED', $kept);
	is(q1("SELECT count(*) FROM lp_requests WHERE login_name = '$dropped\@example.com'"), 0, 'ROLLBACK PREPARED: no row');
	is(posts($dropped), 0, 'ROLLBACK PREPARED: nothing is sent');
	no_worker();
};

subtest 'housekeeping removes secrets and old requests' => sub {
	my ($good, $bad) = map { fresh('secret') } 1, 2;
	my $secret = 'Hush-4711-never';
	my $script = $node->basedir . '/enqueue.sql';
	my $offset = -s $node->logfile;

	setting('log_min_messages', 'debug5');
	append_to_file($script, "SELECT lp_enqueue_users('12345678', :users::jsonb);\n");
	# maxChats of -1 the account refuses
	$sim->post('faults', { method => 'POST', path => '/users', login => "$bad\@example.com", times => 0, action => 'status', status => 400 });
	foreach my $name ($good, $bad)
	{
		delivered('queued by bind parameter', $good) if $name eq $bad;	# not in one batch
		$node->command_ok([ 'pgbench', '-n', '-t', '1', '-M', 'extended', '-D', 'users=[' . LpUsers::user($name, passwordSh => $secret) . ']', '-f', $script,
			$node->connstr('postgres') ], 'a user is queued by bind parameter');
	}
	LpUsers::wait_for(sub { state_of($bad) eq 'failed' }, 'refused by the account: failed');
	$sim->remove('faults');
	setting('log_min_messages', 'debug1');
	my $log = LpUsers::log_since($node, $offset);
	like($log, qr/DEBUG:  .*lp_enqueue_users/, 'the log at debug5 shows statements');
	unlike($log, qr/\Q$secret\E|lp-token/, '... but no password and no token');

	my $payloads = "SELECT count(*) FROM lp_payloads p JOIN lp_requests r ON r.id = p.request_id WHERE r.login_name";
	is(q1("SELECT count(*) FROM lp_payloads p LEFT JOIN lp_requests r ON r.id = p.request_id WHERE r.state IS DISTINCT FROM 'failed'"), 0, 'no payload stays after created');
	is(q1("$payloads = '$bad\@example.com' AND p.body ->> 'passwordSh' = '$secret'"), 1, 'failed: the payload is kept for lp_retry()');
	keep_house();
	is(q1("$payloads = '$bad\@example.com'"), 1, '... within keep_secrets');
	my $rows = q1('SELECT count(*) FROM lp_requests');
	q1("UPDATE lp_requests SET finished_at = finished_at - interval '2 days' WHERE state = 'failed'");
	keep_house();
	is(q1("SELECT count(*) FROM lp_payloads WHERE body::text ~ 'passwordSh'"), 0, '... and not longer');
	is(q1('SELECT count(*) FROM lp_requests'), $rows, 'within retention the rows stay');
	like(($session->run("SELECT lp_retry(ARRAY(SELECT id FROM lp_requests WHERE login_name = '$bad\@example.com'))"))[1], qr/ERROR:  22023/, 'lp_retry() without the secrets is refused');
	q1("UPDATE lp_requests SET finished_at = finished_at - interval '91 days', enqueued_at = enqueued_at - interval '91 days' WHERE login_name = '$good\@example.com'");
	keep_house();
	is(q1("SELECT count(*) FROM lp_requests WHERE login_name = '$good\@example.com'"), 0, 'after retention a finished row leaves');
	is(q1('SELECT count(*) FROM lp_requests'), $rows - 1, '... and no other');

	# the worker does it, too, when it comes
	q1("UPDATE lp_requests SET finished_at = finished_at - interval '91 days' WHERE login_name = '$bad\@example.com'");
	no_worker();
	enqueue(fresh('housekeeper'));
	LpUsers::wait_for(sub { state_of($bad) eq '' }, 'the worker to keep house');
	is(state_of($bad), '', 'the worker removes what is too old');
	no_worker();

	# so does CALL, but only where no worker may
	my $once = fresh('once');
	my $old  = "SELECT id FROM lp_requests WHERE login_name = '$once\@example.com'";
	enqueue($once);
	delivered('one that grows old', $once);
	no_worker();
	q1("UPDATE lp_requests SET finished_at = finished_at - interval '91 days' WHERE id IN ($old)");
	q1('CALL lp_deliver()');
	isnt(q1($old), '', 'CALL leaves to the worker what is too old');
	setting('lpusers.worker', 'off');
	q1('CALL lp_deliver()');
	is(q1($old), '', '... and removes it if there is none');
	setting('lpusers.worker', 'on');
};

subtest 'without a worker slot the queue waits' => sub {
	my @waiting = map { fresh('noslot') } 1 .. 3;
	$session->quit;
	$second->quit;
	$node->append_conf('postgresql.conf', "max_worker_processes = 0\nmax_logical_replication_workers = 0\n");
	$node->restart;
	$session = LpUsers::session($node);
	{
		my $offset = -s $node->logfile;
		my (undef, $err) = $session->run(enqueue_sql($waiting[0]));

		is($err, '', 'no background worker slot: COMMIT succeeds without a word to the client');
		is(state_of($waiting[0]), 'pending', '... the row waits');
		like(LpUsers::log_since($node, $offset), qr/LOG:  no background worker slot is free for lpusers: what was queued in database \d+ waits/, '... the log says why');
		is(q1('SELECT pending, worker_pid FROM lp_progress'), '1|', '... lp_progress shows a row and no worker');
		enqueue($waiting[1]);
		is(scalar(() = LpUsers::log_since($node, $offset) =~ /no background worker slot/g), 2, '... each commit tries');
		is((LpUsers::try_sql($node, 'CALL lp_deliver()'))[0], 0, 'CALL lp_deliver() delivers');
		delivered('by CALL', @waiting[0, 1]);
		enqueue($waiting[2]);
		is($node->safe_psql('second', enqueue_sql('second_waiting')) =~ /\d/, 1, 'another database');
	}
	$session->quit;
	$node->append_conf('postgresql.conf', "max_worker_processes = 8\nshared_preload_libraries = 'lpusers'\nlpusers.databases = 'postgres, no_such_database, second, third'\n");
	{
		my $offset = -s $node->logfile;
		my $more = fresh('preloaded');
		my $start = time();

		$node->restart;
		$session = LpUsers::session($node);
		# a commit and the preloaded worker at the same time
		enqueue($more);
		delivered('preloaded: what waited and what comes at the same time', $waiting[2], $more);
		LpUsers::wait_for(sub { $sim->users_with('second_waiting@example.com') }, 'the other database');
		is(posts('second_waiting'), 1, 'preloaded: another database delivers what waited, too');
		LpUsers::wait_for(sub { LpUsers::log_since($node, $offset) =~ /FATAL:  database "no_such_database" does not exist/ }, 'the log to tell of the database that is not there');
		my $last = fresh('preloaded');
		my $pid = workers();
		enqueue($last);
		delivered('preloaded: the next', $last);
		no_worker();
		no_worker('second');
		setting('lpusers.idle_timeout', "'10min'");
		enqueue(fresh('preloaded'));
		delivered('a preloaded worker that has left is started again', "preloaded$serial");
		is(q1('SELECT lp_worker_pid()'), worker(), '... and known');
		my $fatal = () = LpUsers::log_since($node, $offset) =~ /database "no_such_database" does not exist/g;
		cmp_ok($fatal, '<=', 1 + (time() - $start) / 10, 'a database that is not there is tried once in ten seconds');
	}

	# One slot, and two databases that want it: the launcher has the second one served when the first is done.
	setting('lpusers.idle_timeout', "'200ms'");
	$session->quit;
	$node->append_conf('postgresql.conf', "max_worker_processes = 2\nlpusers.databases = 'postgres'\n");
	$node->restart;
	$session = LpUsers::session($node);
	{
		my $offset = -s $node->logfile;
		my ($first, $other) = map { fresh('slot') } 1, 2;

		no_worker();
		hold_back();
		enqueue($first);
		arrived();
		$node->safe_psql('second', enqueue_sql($other));
		$sim->remove('faults');
		like(LpUsers::log_since($node, $offset), qr/LOG:  no background worker slot is free/, 'one slot, two databases: there is none for the second');
		LpUsers::wait_for(sub { $node->safe_psql('second', "SELECT state FROM lp_requests WHERE login_name = '$other\@example.com'") eq 'created' },
			'the second database');
		is(posts($other), 1, '... until the first has no more use for it; nobody asked again');
		delivered('the first database', $first);
	}

	is($sim->text('duplicates') =~ s/\s//gr, '[]', 'no login exists twice');
	is(q1("SELECT count(*) FROM lp_requests WHERE state NOT IN ('created', 'failed')"), 0, 'nothing is left over');
};

unlike(LpUsers::log_since($node, 0), qr/terminated by signal|TRAP:|PANIC:/, 'nothing crashed');

done_testing();

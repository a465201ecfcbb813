# Fault by fault, what becomes of queued updates and deletes; and the deliverer killed at each of its steps.
#
# A cell strikes the second of three writes (or a read), and then asks the account: was each user written once at most for each
# revision, and as it was wanted in the end? The database: which state, which words? The process: is a memory context left over?
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP;
use LpUsers;
use Test::More;

my $account = '12345678';
my $first   = 4_000_000_000;
my $short   = '700ms';
my ($true, $false) = (JSON::PP::true, JSON::PP::false);

my $sim  = LpUsers::account();
my $node = LpUsers::server(conf => "lpusers.worker = off\nlpusers.idle_timeout = '200ms'\nlog_min_error_statement = panic\nautovacuum = off\nrestart_after_crash = on\n");
LpUsers::connect_account($node, $sim, options => "timeout '20s', batch_size '1', max_connections '2', max_response_size '64MB'");
my $admin   = LpUsers::session($node);
my $session = LpUsers::session($node);

my $closed_port = LpUsers::closed_port();

# ---------------------------------------------------------------------------------------------- scenes

sub people { my (@n) = @_; return '[' . join(',', map { LpUsers::user("u$_") } @n) . ']'; }

# The account has users 1 .. n, the queue is empty.
sub fresh
{
	my ($n) = @_;

	$sim->reset;
	$admin->query('DELETE FROM lp_payloads; DELETE FROM lp_requests');
	$sim->post('users', [ map { decode_json(LpUsers::user("u$_")) } 1 .. $n ]);
	$sim->remove('log');
	return;
}

# Queue a change of each, with what the account does not show as a plan has it. "hidden": one that cannot be looked up.
sub queue
{
	my ($operation, $n, %options) = @_;

	if ($operation eq 'delete')
	{
		$admin->query("SELECT count(*) FROM lp_enqueue_deletes('$account', ARRAY(SELECT $first + i FROM generate_series(1, $n) i))");
		return;
	}
	$admin->query("SELECT count(*) FROM lp_enqueue_changes('$account', (SELECT jsonb_agg(jsonb_build_object('id', $first + i, 'nickname', 'new' || i,
		'fullName', 'F' || i, 'employeeId', i::text)) FROM generate_series(1, $n) i))");
	$admin->query(q(UPDATE lp_payloads SET body = json_build_object('set', json_build_object('nickname', body->'set'->'nickname'),
		'hidden', json_build_object('fullName', body->'set'->'fullName', 'employeeId', body->'set'->'employeeId')))) unless $options{hidden};
	return;
}

sub state_of { my ($i) = @_; return $admin->query("SELECT coalesce(string_agg(DISTINCT state, ' '), 'none') FROM lp_requests WHERE user_id = $first + $i"); }
sub says { my ($i) = @_; return $admin->query("SELECT concat_ws(' ', status, error, reason) FROM lp_requests WHERE user_id = $first + $i"); }
sub states { return $admin->query("SELECT coalesce(string_agg(state || n, ' ' ORDER BY state), '') FROM (SELECT state, count(*) AS n FROM lp_requests GROUP BY 1) x"); }
sub writes { return grep { $_->{method} =~ /PUT|DELETE/ } @{ $sim->get('log') }; }
sub contexts { return $session->query(q{SELECT coalesce(string_agg(name, ', '), '') FROM pg_backend_memory_contexts WHERE name LIKE 'lpusers%'
	AND name !~ '^lpusers (bearers|options|servers|silences|silent senders|turns|worker|answered mappings)$'}); }

sub method_of { my ($operation) = @_; return $operation eq 'delete' ? 'DELETE' : 'PUT'; }

# Each of n users is as it was wanted, on record, and was written once at most for each revision.
sub check_end
{
	my ($operation, $n, $what) = @_;
	my %user = map { $_->{id} - $first => $_ } @{ $sim->get('users') };
	my @wrong = grep { $operation eq 'delete' ? !$user{$_}{deleted} : $user{$_}{nickname} ne "new$_" || $user{$_}{fullName} ne "F$_" || $user{$_}{maxChats} != 3 } 1 .. $n;
	my %applied;

	is("@wrong", '', "$what: all are as they were wanted");
	is(states(), "done$n", "$what: and on record");
	is($admin->query('SELECT count(*) FROM lp_payloads'), 0, "$what: no payload is left");
	foreach my $entry (grep { $_->{applied} } writes()) { $applied{"$_ $entry->{if_match}"}++ foreach @{ $entry->{ids} }; }
	is_deeply([ grep { $applied{$_} > 1 } sort keys %applied ], [], "$what: at most one write of a user at a revision");
	is(scalar(grep { !defined $_->{if_match} || $_->{if_match} =~ /-1/ } writes()), 0, "$what: none without a revision");
	return;
}

sub deliver
{
	my (undef, $err) = $session->run("CALL lp_deliver('$account')");

	unlike($err, qr/ERROR|WARNING|XX000/, 'CALL lp_deliver()');
	return;
}

sub set_options { $admin->query("ALTER SERVER acme OPTIONS (SET $_[0])"); return; }

# ---------------------------------------------------------------------------------------------- the matrix

# What is done to the second of three writes, and how that ends; options of the server meanwhile.
#	struck, rest: states after one CALL		says: what the struck row says
my @faults = (
	[ 'reset before', { action => 'reset', applied => $false }, 'uncertain', 'done', qr/no response from the account/ ],
	[ 'reset after', { action => 'reset', applied => $true }, 'uncertain', 'done', qr/no response from the account/ ],
	[ 'half answer', { action => 'half', applied => $true }, 'uncertain', 'done', qr/no response from the account/, { PUT => 1 } ],
	[ 'wrong length', { action => 'wrong_length', applied => $true }, 'uncertain', 'done', qr/no response from the account/ ],
	[ '429', { action => 'retry_after', value => '1' }, 'pending', 'pending', qr/^429 / ],
	[ '429, an hour', { action => 'retry_after', value => '3600' }, 'pending', 'pending', qr/^429 / ],
	[ '503 before', { action => 'status', status => 503, applied => $false }, 'uncertain', 'done', qr/^503 / ],
	[ '503 after', { action => 'status', status => 503, applied => $true }, 'uncertain', 'done', qr/^503 / ],
	[ 'gateway HTML', { action => 'html' }, 'uncertain', 'done', qr/^502 / ],
	[ 'silence before', { action => 'silence', applied => $false }, 'uncertain', 'done', qr/no response from the account/, {}, $short ],
	[ 'silence after', { action => 'silence', applied => $true }, 'uncertain', 'done', qr/no response from the account/, {}, $short ],
	[ 'not JSON', { action => 'not_json', applied => $true }, 'done', 'done', qr/^$|^200$/, { PUT => 1 } ],
	[ 'no user named', { action => 'misname', form => 'empty_array', applied => $true }, 'done', 'done', qr/^$|^200$/, { PUT => 1 } ],
	[ 'an error with 200', { action => 'body', status => 200, body => '{"error":{"message":"no"}}', applied => $false }, 'uncertain', 'done', qr/the response is an error/ ],
	[ 'too large', { action => 'huge', bytes => 400_000, applied => $true }, 'done', 'done', qr/^$|^200$/ ],
	[ 'token expiry', { action => 'status', status => 401 }, 'held', 'held', qr/401/ ],
	[ 'forbidden', { action => 'status', status => 403 }, 'held', 'held', qr/^403 / ],
	[ 'elsewhere', { action => 'page', status => 404 }, 'held', 'held', qr/^404 / ],
	[ 'stale', { action => 'meddle' }, 'done', 'done', qr/^200$/ ],
	[ 'refused once', { action => 'error' }, 'failed', 'done', qr/^400 as the test asked for/ ]);

# The struck row may be tried again: what was held or has failed, by people.
sub mend
{
	$sim->remove('faults');
	$admin->query("SELECT lp_release('$account')");
	$admin->query("SELECT lp_retry(coalesce(array_agg(id), '{}')) FROM lp_requests WHERE state = 'failed'");
	$admin->due_now;
	return;
}

foreach my $operation ('update', 'delete')
{
	my $method = method_of($operation);

	foreach my $fault (@faults)
	{
		my ($name, $strike, $struck, $rest, $says, $only, $timeout) = @$fault;

		# of a delete the answer says nothing: a broken one is no worse than none
		next if $only && %$only && !$only->{$method};
		subtest "$operation, $name" => sub {
			fresh(3);
			queue($operation, 3);
			set_options("timeout '$timeout'") if $timeout;
			set_options("max_response_size '64kB'") if $name eq 'too large';
			$sim->post('faults', { method => $method, path => '/le-users/users', skip => 1, %$strike });
			deliver();
			is(scalar(grep { $_->{fault} } @{ $sim->get('log') }), 1, 'one write was struck');
			is(state_of(1), 'done', 'what was before is done');
			is(state_of(2), $struck, "what was struck: $struck");
			is(state_of(3), $rest, "what comes after: $rest");
			like(says(2), $says, 'what it says');
			is(contexts(), '', 'no memory context is left over');
			is(scalar(grep { grep { $_ == $first + 2 } @{ $_->{ids} } } writes()), $name eq 'stale' ? 2 : 1, 'it was sent once');
			set_options("timeout '20s'") if $timeout;
			set_options("max_response_size '64MB'") if $name eq 'too large';
			mend();
			deliver();
			check_end($operation, 3, 'in the end');
			is(contexts(), '', 'no memory context is left over in the end');
		};
	}
}

# Reads: nothing is written, and nothing fails.
my @reads = (
	[ 'reset', { action => 'reset', times => 0 }, 'pending' ], [ 'half', { action => 'half', times => 0 }, 'pending' ],
	[ '503', { action => 'status', status => 503 }, 'pending' ], [ 'HTML', { action => 'html' }, 'pending' ],
	[ '429', { action => 'retry_after', value => '1' }, 'pending' ], [ 'silence', { action => 'silence' }, 'pending', $short ],
	[ 'not JSON', { action => 'not_json' }, 'pending' ], [ '403', { action => 'status', status => 403 }, 'held' ],
	[ 'page', { action => 'page', status => 404 }, 'held' ], [ 'unreachable', undef, 'pending' ]);
foreach my $size (3, 30)
{
	foreach my $fault (@reads)
	{
		my ($name, $strike, $state, $timeout) = @$fault;

		foreach my $skip ($name =~ /unreachable|reset|half/ ? 0 : (0, 1))
		{
			subtest "read of $size users, $name, request " . ($skip + 1) => sub {
				fresh($size);
				queue('update', $size);
				set_options("timeout '$timeout'") if $timeout;
				$strike ? $sim->post('faults', { method => 'GET', path => '/le-users/users', skip => $skip, %$strike }) : set_options("base_url 'http://127.0.0.1:$closed_port'");
				deliver();
				is(states(), "$state$size", "all are $state");
				is($admin->query('SELECT count(*) FROM lp_requests WHERE attempts > 0'), 0, 'no attempt is counted');
				is(scalar(writes()), 0, 'nothing was written');
				is(contexts(), '', 'no memory context is left over');
				set_options("timeout '20s'") if $timeout;
				set_options("base_url '" . $sim->url . "'") unless $strike;
				mend();
				deliver();
				check_end('update', $size, 'in the end');
			};
		}
	}
}

# A service that shows users late: a request for the user gets 404, or a list lacks them, once or twice.  The user is not gone.
my $no_user = { method => 'GET', path => '/le-users/users/4', action => 'status', status => 404, body => '{"message":"no such user"}' };
my $empty = { method => 'GET', path => '/le-users/users', action => 'status', status => 200, body => '[]', headers => { 'ac-revision' => '1' } };
my %late = (
	'404 and an empty list of ids' => [ 1, [ { %$no_user, times => 2 }, $empty ] ],
	'an empty list of ids and an empty list' => [ 30, [ { %$no_user, times => 1 }, { %$empty, times => 2 } ] ],
	'an empty list' => [ 30, [ { %$empty, skip => 1 } ] ]);
foreach my $operation ('update', 'delete')
{
	foreach my $name (sort keys %late)
	{
		subtest "$operation, the user is shown late: $name" => sub {
			my ($n, $faults) = @{ $late{$name} };

			fresh($n);
			queue($operation, $n);
			$sim->post('faults', $_) foreach @$faults;
			deliver();
			$sim->remove('faults');
			check_end($operation, $n, 'in the end');
		};
	}
}
subtest 'users who are gone' => sub {
	foreach my $n (2, 30)
	{
		fresh($n + 1);
		$sim->post('change', { user => sprintf('%d', $first + 1), delete => $true });
		queue('delete', $n);
		deliver();
		check_end('delete', $n, "$n users, one is deleted already");
		queue('update', 1);
		deliver();
		like(says(1), qr/the user is gone/, 'an update of a deleted user fails');
	}
};

# What the account does not show cannot be looked up: it is sent again, with the same value.
subtest 'a hidden attribute after a lost answer' => sub {
	fresh(1);
	queue('update', 1, hidden => 1);
	$sim->post('faults', { method => 'PUT', action => 'reset', applied => $true });
	deliver();
	is(state_of(1), 'uncertain', 'in doubt');
	$admin->due_now;
	deliver();
	check_end('update', 1, 'in the end');
	is(scalar(writes()), 2, 'it was sent twice');
};

# A write that comes late is refused by the account.
subtest 'a late write' => sub {
	fresh(1);
	queue('update', 1);
	set_options("timeout '$short'");
	$sim->post('faults', { method => 'PUT', action => 'delay', ms => 2000 });
	deliver();
	is(state_of(1), 'uncertain', 'in doubt');
	$admin->due_now;
	set_options("timeout '20s'");
	deliver();
	check_end('update', 1, 'before it comes');
	LpUsers::wait_for(sub { !grep { $_->{status} == 0 } writes() }, 'the late write');
	is(join(' ', map { $_->{status} } sort { $a->{seq} <=> $b->{seq} } writes()), '412 200', 'the late one is refused');
	check_end('update', 1, 'after it has come');
};

# Given up after max_retries, and retried: it is looked up first.
subtest 'given up' => sub {
	fresh(1);
	queue('update', 1);
	set_options("max_retries '2'") if $admin->query("ALTER SERVER acme OPTIONS (ADD max_retries '2')") // 1;
	$sim->post('faults', { method => 'PUT', action => 'status', status => 500, applied => $false, times => 3 });
	foreach (1 .. 4) { deliver(); $admin->due_now; }
	is($admin->query('SELECT state, cause, attempts, error FROM lp_requests') =~ s/:.*//r, 'failed|gave_up|3|given up after 3 attempts', 'given up');
	is(scalar(writes()), 3, 'sent three times');
	# another client does it meanwhile
	$sim->post('change', { user => sprintf('%d', $first + 1), set => { nickname => 'new1', fullName => 'F1' } });
	$admin->query("SELECT lp_retry(array_agg(id)) FROM lp_requests");
	deliver();
	check_end('update', 1, 'retried');
	is(scalar(writes()), 3, 'it was not sent again');
	$admin->query('ALTER SERVER acme OPTIONS (DROP max_retries)');
};

# ---------------------------------------------------------------------------------------------- the deliverer is killed

# Settlement waits for a lock, when it is about to write this state.
my $holder;
sub hold_settlement
{
	$admin->query(q{
		CREATE OR REPLACE FUNCTION hold_settlement() RETURNS trigger LANGUAGE plpgsql AS
			$$ BEGIN PERFORM pg_catalog.pg_advisory_xact_lock_shared(77); RETURN NEW; END $$;
		CREATE OR REPLACE TRIGGER hold BEFORE UPDATE ON lp_requests FOR EACH ROW WHEN (NEW.state = 'done')
			EXECUTE FUNCTION hold_settlement()});
	$holder = LpUsers::session($node);
	$holder->query('BEGIN; SELECT pg_advisory_xact_lock(77)');
	return;
}

sub unanswered { my ($method) = @_; LpUsers::wait_for(sub { $sim->count(status => 0, method => $method, path => '/le-users/users') == 1 }, "an unanswered $method"); return; }
# The next write is under way, or has its answer, before the result of the first one is on record.
sub sent_ahead { my ($method) = @_; LpUsers::wait_for(sub { $sim->count(method => $method, path => '/le-users/users') == 2 }, "a second $method"); return; }
sub waits { my ($pid) = @_; LpUsers::wait_for(sub { $admin->query("SELECT wait_event_type FROM pg_stat_activity WHERE pid = $pid") eq 'Lock' }, 'the deliverer to wait for a lock'); return; }

subtest 'a deliverer killed in each step' => sub {
	my %steps = (
		'reading' => [ sub { $sim->post('faults', { method => 'GET', action => 'silence' }) }, sub { unanswered('GET') } ],
		'written, not applied' => [ sub { $sim->post('faults', { method => $_[0], action => 'silence', applied => $false }) }, sub { unanswered($_[0]) } ],
		'written, applied' => [ sub { $sim->post('faults', { method => $_[0], action => 'silence', applied => $true }) }, sub { unanswered($_[0]) } ],
		'written, applied later' => [ sub { $sim->post('faults', { method => $_[0], action => 'delay', ms => 1500 }) }, sub { unanswered($_[0]) } ],
		'one settled' => [ sub { $sim->post('faults', { method => $_[0], action => 'silence', applied => $true, skip => 1 }) }, sub { unanswered($_[0]) } ],
		'answered' => [ \&hold_settlement, sub { waits($_[1]); sent_ahead($_[0]) } ]);

	foreach my $operation ('update', 'delete')
	{
		foreach my $step (sort keys %steps)
		{
			subtest "$operation, killed: $step" => sub {
				my ($prepare, $reached) = @{ $steps{$step} };
				my $method = method_of($operation);
				my $deliverer = LpUsers::session($node);

				fresh(4);
				queue($operation, 4);
				my $pid = $deliverer->query('SELECT pg_backend_pid()');
				$prepare->($method);
				$deliverer->send("CALL lp_deliver('$account')");
				$reached->($method, $pid);
				LpUsers::kill_backend($node, $pid);
				$_->quit foreach grep { defined } $deliverer, $admin, $session, $holder;
				$holder = undef;
				$admin   = LpUsers::session($node);
				$session = LpUsers::session($node);
				$admin->query('DROP FUNCTION IF EXISTS hold_settlement CASCADE');
				$sim->remove('faults');
				like(states(), qr/sending/, 'what was claimed is on record');
				deliver();
				unlike(states(), qr/sending/, '... and in doubt now');
				LpUsers::wait_for(sub { !grep { $_->{status} == 0 && ($_->{fault} // '') ne 'silence' } @{ $sim->get('log') } }, 'the account to be at rest');
				$admin->due_now;
				deliver();
				check_end($operation, 4, 'in the end');
			};
		}
	}
	# The extension is dropped while a write is under way: the log says whom it was about.
	{
		my $deliverer = LpUsers::session($node);

		fresh(2);
		queue('update', 2);
		$sim->post('faults', { method => 'PUT', action => 'delay', ms => 1000 });
		$deliverer->send("CALL lp_deliver('$account')");
		unanswered('PUT');
		$admin->query('DROP EXTENSION lpusers CASCADE');
		my (undef, $err) = $deliverer->take;
		like($err, qr/ERROR:  42P01: the queue of account "$account" was dropped during delivery/, 'dropped: the CALL ends');
		like(LpUsers::log_since($node, 0), qr/extension "lpusers" was dropped while 1 user of account "$account" was being changed\n.*The outcome is unknown: 4000000001\./,
			'dropped: the log says who');
	}
};

unlike(LpUsers::log_since($node, 0), qr/TRAP:|PANIC:|signal 11/, 'nothing crashed by itself');

done_testing();

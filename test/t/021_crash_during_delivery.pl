# A deliverer, or the whole server, dies in the middle of a delivery: each login is created exactly once all the same.
#
# Killed with SIGKILL: the backend that runs CALL lp_deliver(), the worker, the postmaster; and stopped with -m immediate.
# At moments that the stand-in account holds open, or a lock that keeps the deliverer from writing down a result. The account
# takes a login twice: a POST too many makes a second user. synchronous_commit is off, and the WAL writer slow: what must
# not be taken back by a crash has to be flushed by the extension itself.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP;
use LpDelivery;
use LpUsers;
use Test::More;
use Time::HiRes qw(time usleep);

$sim  = LpUsers::account();
$node = LpUsers::server(conf => "restart_after_crash = on\nsynchronous_commit = off\nwal_writer_delay = '10s'\nwal_writer_flush_after = '1GB'\n" .
	$LpDelivery::conf);
LpUsers::connect_account($node, $sim, options => $LpDelivery::options);

# ---------------------------------------------------------------------------------------------- ways to die

sub come_up
{
	LpUsers::wait_for(sub { $node->start(fail_ok => 1) }, 'the server to start');
	return;
}

sub crash
{
	my ($kind, $pid) = @_;

	if ($kind eq 'postmaster')
	{
		$node->kill9;
		# its children notice, and only then another can start
		LpUsers::wait_for(sub { !kill(0, $pid) }, 'the deliverer to end');
		come_up();
	}
	elsif ($kind eq 'immediate')
	{
		$node->stop('immediate');
		come_up();
	}
	else
	{
		LpUsers::kill_backend($node, $pid);
	}
	connect_anew();
	return;
}

# The first retry delay has just begun. It is made longer, so that it is not over while the test looks at other things.
sub delay_has_begun
{
	my ($what) = @_;

	is($admin->query("WITH now AS MATERIALIZED (SELECT clock_timestamp() AS at), u AS (UPDATE lp_requests SET next_attempt_at = next_attempt_at + interval '1 hour' FROM now
		WHERE state = 'uncertain' RETURNING next_attempt_at - interval '1 hour' - at > interval '1 s' AS ahead) SELECT bool_and(ahead) FROM u"), 't',
		"$what: the first retry delay has just begun");
	return;
}

# What was under way is looked up, not before the first retry delay; CALL does it, or the worker once it is woken. What was to be
# looked up before the crash is looked up at once.
sub recover
{
	my ($what, $kind, $states, $lookup, $posts, $gets) = @_;
	my $found = $lookup ? 'created6' : $states =~ s/sending/uncertain/r;

	if ($kind eq 'worker')
	{
		LpUsers::wait_for(sub { states() eq $found }, "$what: the worker to come back by itself");
		pass("$what: the worker comes back by itself and takes over what was under way");
		delay_has_begun($what) unless $lookup;
		enqueue('next');
		LpUsers::wait_for(sub { states() eq ($lookup ? 'created7' : 'created1 uncertain6') }, 'the worker to see to it');
	}
	else
	{
		deliver();
		is(states(), $found, "$what: whatever was claimed is in doubt");
		delay_has_begun($what) unless $lookup;
	}
	is(posts() - $posts, $kind eq 'worker' ? 1 : 0, "$what: nothing is sent again before it is looked up");
	is(gets() - $gets, $lookup ? 1 : 0, "$what: nor looked up before the first retry delay");
	account_is_quiet();
	due_now();
	if ($kind eq 'worker')
	{
		$admin->query('SELECT _lp_wake()');
		LpUsers::wait_for(sub { states() eq 'created7' }, 'the worker to be done');
		set_worker('off');
		LpUsers::wait_for(sub { $admin->query('SELECT lp_worker_pid()') eq '' }, 'the worker to leave');
	}
	else
	{
		deliver();
	}
	is(gets() - $gets, 1, "$what: one listing");
	return;
}

sub dies
{
	my ($kind, $moment) = @_;
	my $what  = "$kind, $moment";
	my $m     = $moments{$moment};
	my @names = map { "n$_" } 1 .. 6;
	my $pid   = reach($kind, $moment, $what, @names);
	# a listing that is under way when the deliverer dies is made anew
	my ($posts, $gets) = (posts(), gets());

	crash($kind, $pid);
	let_go();
	# a result may be taken back by the crash (synchronous_commit = off): then the row is again "sending", and looked up
	my %known = map { $_ => 1 } $m->{states}, $moment eq 'one settled' ? 'sending6' : ();
	# a worker may be back by now
	$known{ $m->{lookup} ? 'created6' : 'uncertain6' } = 1 if $kind eq 'worker';
	my $states = states();
	ok($known{$states}, "$what: claimed is claimed") or diag($states);
	recover($what, $kind, $states, $m->{lookup}, $posts, $gets);
	is(posts(), $m->{posts} + ($kind eq 'worker' ? 1 : 0), "$what: POSTs");
	each_once($what, @names, $kind eq 'worker' ? 'next' : ());
	return;
}

subtest 'killed in each step, nothing is lost or sent twice' => sub {
	fresh();
	dies('backend', $_) foreach 'not applied', 'applied later', 'applied', 'answered', 'one settled', 'looking up', 'looked up';
	dies('postmaster', $_) foreach 'not applied', 'applied', 'answered', 'looking up';
	dies('immediate', $_) foreach 'not applied', 'applied later', 'answered', 'looked up';
	dies('worker', $_) foreach 'not applied', 'applied later', 'applied', 'answered', 'looking up', 'looked up';
};

subtest 'killed at a random moment, nothing is lost or sent twice' => sub {
	dice();
	my $rounds = $ENV{LPUSERS_LONG} ? 40 : 6;
	foreach my $round (1 .. $rounds)
	{
		my @names = map { "r$_" } 1 .. 60;
		my $kind  = one_of('backend', 'postmaster', 'immediate');
		my @faults = random_faults();
		my $ms    = int(rand(300));
		my $what  = "round $round, $kind after $ms ms";

		fresh(batch_size => 7, max_connections => 3, timeout => '700ms');
		enqueue(@names);
		$sim->post('faults', \@faults);
		$deliverer = LpUsers::session($node);
		$deliverer->send("CALL lp_deliver('$account')");
		LpUsers::wait_for(sub { $sim->count(path => '/le-users/users') > 0 }, 'the first request');
		usleep($ms * 1000);
		my $pid = deliverer_pid('backend');
		if ($pid ne '')
		{
			crash($kind, $pid);
		}
		else
		{
			$deliverer->take;
			$deliverer->quit;
			$deliverer = undef;
		}
		my $turns = finish_by_calls($what, 60);
		each_once($what, @names);
		note("$what: " . posts() . ' POSTs, ' . gets() . " GETs, $turns turns");
	}
};

subtest 'workers that start with the server take over' => sub {
	set_worker('on');
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'lpusers'\nlpusers.databases = 'postgres'\nlpusers.idle_timeout = '60s'\n");
	$admin->quit;
	$node->restart;
	$admin = LpUsers::session($node);
	{
		my @names = ('b1', 'b2');

		fresh(batch_size => 100, timeout => '60s');
		fault('POST', action => 'silence', applied => JSON::PP::true);
		LpUsers::wait_for(sub { $admin->query('SELECT lp_worker_pid()') ne '' }, 'the worker that starts with the server');
		enqueue(@names);
		unanswered(1, 'POST');
		my $pid = deliverer_pid('worker');
		crash('worker', $pid);
		LpUsers::wait_for(sub { $admin->query('SELECT lp_worker_pid()') =~ /^(?!$pid$)\d+$/ }, 'another worker');
		pass('preloaded: a worker that was killed comes back by itself');
		LpUsers::wait_for(sub { states() eq 'uncertain2' }, 'the other worker to see to it');
		crash('postmaster', $admin->query('SELECT lp_worker_pid()'));
		LpUsers::wait_for(sub { states() eq 'created2' }, 'the worker to be done');
		pass('preloaded: after the end of the postmaster it is finished without anybody');
		is(posts() . ' ' . gets(), '2 1', 'preloaded: one POST a user, one listing');
		each_once('preloaded worker', @names);
	}
	{
		# the worker has left; the backend that delivers is killed
		fresh();
		$admin->query("ALTER SYSTEM SET lpusers.idle_timeout = '100ms'");
		$admin->query('SELECT pg_reload_conf(), _lp_wake()');
		LpUsers::wait_for(sub { $admin->query('SELECT lp_worker_pid()') eq '' }, 'the worker to leave');
		set_worker('off');
		enqueue('b3');
		fault('POST', action => 'silence', applied => JSON::PP::true);
		start_delivery('backend');
		unanswered(1, 'POST');
		set_worker('on');
		crash('backend', deliverer_pid('backend'));
		# the postmaster forgets a worker that left because it was idle; the launcher does not
		LpUsers::wait_for(sub { states() ne 'sending1' }, 'the worker that had left to come after the crash restart');
		is(states(), 'uncertain1', 'preloaded, the worker had left: it comes after the crash restart');
		$admin->query('SELECT _lp_wake()');
		LpUsers::wait_for(sub { states() eq 'uncertain1' }, 'the worker to see to it');
		due_now();
		$admin->query('SELECT _lp_wake()');
		LpUsers::wait_for(sub { states() eq 'created1' }, 'the worker to be done');
		each_once('preloaded worker, it had left', 'b3');
	}

	$admin->quit;
	$node->stop;
};

unlike(LpUsers::log_since($node, 0), qr/PANIC|TRAP|terminated by signal (?!9\b)/, 'nothing died but what was killed');
done_testing();

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
use LpUsers;
use Test::More;
use Time::HiRes qw(time usleep);

my $account = '12345678';
my $sim     = LpUsers::account();
my $node    = LpUsers::server(conf => "restart_after_crash = on\nlpusers.worker = off\nlpusers.idle_timeout = '200ms'\n" .
	"synchronous_commit = off\nwal_writer_delay = '10s'\nwal_writer_flush_after = '1GB'\nlog_min_messages = error\nlog_statement = none\n" .
	"checkpoint_timeout = '1h'\nautovacuum = off\n");
LpUsers::connect_account($node, $sim, options => "timeout '60s', batch_size '2', max_connections '2'");

my ($deliverer, $admin);

# ---------------------------------------------------------------------------------------------- steps

sub fresh
{
	my (%options) = @_;

	$sim->reset;
	$sim->post('config', { unique => JSON::PP::false });
	$admin = LpUsers::session($node) unless $admin;
	$admin->query('DELETE FROM lp_payloads; DELETE FROM lp_requests');
	$admin->query("ALTER SERVER acme OPTIONS (SET $_ '$options{$_}')") foreach sort keys %options;
	return;
}

sub enqueue
{
	my (@names) = @_;
	my $json = '[' . join(',', map { LpUsers::user($_) } @names) . ']';

	# that it is there after the crash is up to whoever enqueues
	is($admin->query("SET synchronous_commit = on; SELECT count(*) FROM lp_enqueue_users('$account', '$json'); RESET synchronous_commit"),
		scalar(@names), 'enqueued');
	return;
}

sub fault { my ($method, %fault) = @_; $sim->post('faults', { method => $method, path => '/le-users/users', %fault }); return; }
sub posts { return $sim->count(method => 'POST', path => '/le-users/users'); }
sub gets  { return $sim->count(method => 'GET', path => '/le-users/users'); }

sub due_now { $admin->query("UPDATE lp_requests SET next_attempt_at = clock_timestamp() WHERE state IN ('pending', 'uncertain')"); return; }
sub states { return $admin->query("SELECT coalesce(string_agg(state || n, ' ' ORDER BY state), '') FROM (SELECT state, count(*) AS n FROM lp_requests GROUP BY 1) x"); }
sub deliver { my ($out, $err) = $admin->run("CALL lp_deliver('$account')"); unlike($err, qr/ERROR|WARNING|FATAL/, 'CALL lp_deliver()'); return; }

sub set_worker
{
	my ($on) = @_;

	$admin->query("ALTER SYSTEM SET lpusers.worker = $on");
	$admin->query('SELECT pg_reload_conf()');
	LpUsers::wait_for(sub { $admin->query('SHOW lpusers.worker') eq $on }, 'the setting');
	return;
}

# So many requests have come and are not answered.
sub unanswered
{
	my ($n, $method) = @_;

	LpUsers::wait_for(sub { $sim->count(status => 0, method => $method, path => '/le-users/users') == $n }, "$n unanswered requests");
	return;
}

# Nothing that the account is still at, but what it never answers.
sub account_is_quiet
{
	LpUsers::wait_for(sub { !grep { $_->{status} == 0 && ($_->{fault} // '') !~ /^(silence|reset|close)$/ } @{ $sim->get('log') } },
		'the account to have done what it is at');
	return;
}

# Each of the users is there once, on record as created, without its payload; none was sent again after it was created.
sub each_once
{
	my ($what, @names) = @_;
	my $rows  = decode_json($admin->query(q{SELECT coalesce(json_agg(row_to_json(x)), '[]') FROM (SELECT split_part(login_name, '@', 1) AS name,
		state, user_id, error, reason, (SELECT count(*) FROM lp_payloads p WHERE p.request_id = r.id) AS payloads FROM lp_requests r) x}));
	my %row   = map { $_->{name} => $_ } @$rows;
	my (%ids, %wrong, %applied, %again);

	push @{ $ids{ $_->{loginName} =~ s/\@example\.com$//r } }, $_->{id} foreach @{ $sim->get('users') };
	foreach my $name (@names)
	{
		my $row = $row{$name} // {};
		my $is  = join(' ', 'users', scalar(@{ $ids{$name} // [] }), map { "$_ " . ($row->{$_} // '') } qw(state error reason payloads));

		$is .= ' wrong id' unless ($row->{user_id} // 0) == ($ids{$name}[0] // -1);
		$wrong{$name} = $is unless $is eq 'users 1 state created error  reason  payloads 0';
	}
	is_deeply(\%wrong, {}, "$what: each user once, and on record") or diag(explain(\%wrong));
	is(scalar(@$rows) . ' ' . scalar(keys %ids), scalar(@names) . ' ' . scalar(@names), "$what: nobody else");
	foreach my $entry (sort { $a->{seq} <=> $b->{seq} } grep { $_->{method} eq 'POST' && $_->{path} =~ m{/le-users/users$} } @{ $sim->get('log') })
	{
		$again{$_} = 1 foreach grep { $applied{$_} } @{ $entry->{logins} };
		next unless $entry->{applied};
		$applied{$_} = 1 foreach @{ $entry->{logins} };
	}
	is(join(' ', sort keys %again), '', "$what: nobody is sent again who is there");
	is($admin->query("SELECT count(*) FROM pg_locks WHERE locktype = 'userlock'"), 0, "$what: no lock is left") unless $what =~ /worker/;
	return;
}

# ---------------------------------------------------------------------------------------------- ways to die

sub deliverer_pid
{
	my ($kind) = @_;

	return $admin->query('SELECT lp_worker_pid()') if $kind eq 'worker';
	return $admin->query("SELECT pid FROM pg_stat_activity WHERE query LIKE 'CALL lp_deliver%' AND state = 'active' AND pid <> pg_backend_pid()");
}

sub come_up
{
	LpUsers::wait_for(sub { $node->start(fail_ok => 1) }, 'the server to start');
	return;
}

sub crash
{
	my ($kind, $pid) = @_;
	my $started = $admin->query('SELECT pg_postmaster_start_time()');

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
		my $offset = -s $node->logfile;
		kill('KILL', $pid) or die "kill $pid: $!";
		# the postmaster ends all others, and starts anew
		LpUsers::wait_for(sub { LpUsers::log_since($node, $offset) =~ /database system is ready to accept connections/ }, 'the crash restart');
	}
	$_->quit foreach grep { defined } $deliverer, $admin;
	$deliverer = undef;
	LpUsers::wait_for(sub { $node->psql('postgres', 'SELECT 1') == 0 }, 'the server to answer');
	$admin = LpUsers::session($node);
	return;
}

# ---------------------------------------------------------------------------------------------- moments

# Keep the deliverer from writing down that somebody is created: the payload cannot leave. Claiming only reads it.
my $holder;
sub hold_payloads
{
	$holder = LpUsers::session($node);
	$holder->query('BEGIN; SELECT count(*) FROM (SELECT FROM lp_payloads FOR UPDATE) x');
	return;
}

sub waits_for_payloads
{
	my ($pid) = @_;

	LpUsers::wait_for(sub { $admin->query("SELECT wait_event_type FROM pg_stat_activity WHERE pid = $pid") eq 'Lock' }, 'the deliverer to wait for a lock');
	return;
}

# before: faults, and what else is to be prepared; reached: wait for it; applied: is what went out first carried out?
my %moments = (
	'not applied' => { applied => 0, before => sub { fault('POST', action => 'silence', times => 2, applied => JSON::PP::false) },
		reached => sub { unanswered(2, 'POST') } },
	'applied later' => { applied => 1, before => sub { fault('POST', action => 'delay', ms => 1500, times => 2) },
		reached => sub { unanswered(2, 'POST') } },
	'applied' => { applied => 1, before => sub { fault('POST', action => 'silence', times => 2, applied => JSON::PP::true) },
		reached => sub { unanswered(2, 'POST') } },
	'answered' => { applied => 1, before => \&hold_payloads, reached => \&waits_for_payloads },
	'one settled' => { applied => 1, settled => 2, before => sub { fault('POST', action => 'delay', ms => 1, login => 'n1@example.com');
			fault('POST', action => 'silence', times => 2, applied => JSON::PP::true) },
		reached => sub { unanswered(2, 'POST'); LpUsers::wait_for(sub { states() =~ /created2/ }, 'one batch to be settled') } },
	'looking up' => { applied => 1, lookup => 1, before => sub { fault('GET', action => 'silence') },
		reached => sub { unanswered(1, 'GET') } },
	'looked up' => { applied => 1, lookup => 1, before => \&hold_payloads, reached => \&waits_for_payloads });

sub start_delivery
{
	my ($kind) = @_;

	if ($kind eq 'worker')
	{
		set_worker('on');
		$admin->query('SELECT lp_wake()');
		LpUsers::wait_for(sub { $admin->query('SELECT lp_worker_pid()') ne '' }, 'the worker');
		return;
	}
	$deliverer = LpUsers::session($node);
	$deliverer->send("CALL lp_deliver('$account')");
	return;
}

# What was under way is looked up, not before the first retry delay; CALL does it, or the worker once it is woken.
sub recover
{
	my ($what, $kind) = @_;
	my ($posts, $gets) = (posts(), gets());

	if ($kind eq 'worker')
	{
		is($admin->query('SELECT lp_worker_pid()'), '', "$what: nobody is there by itself");
		is($admin->query("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'lpusers worker'"), 0, "$what: no worker runs");
		enqueue('next');
		LpUsers::wait_for(sub { states() !~ /sending|pending/ }, 'the worker to see to it');
	}
	else
	{
		deliver();
	}
	unlike(states(), qr/sending|pending/, "$what: whatever was claimed is in doubt");
	is(posts() - $posts, $kind eq 'worker' ? 1 : 0, "$what: nothing is sent again before it is looked up");
	# what was to be looked up before the crash may be looked up at once
	is(gets() - $gets, 0, "$what: nor looked up before the first retry delay") unless $what =~ /look/;
	is($admin->query("SELECT count(*) FROM lp_requests WHERE state = 'uncertain' AND next_attempt_at < clock_timestamp() + interval '1 s'"), 0,
		"$what: which has just begun") unless $what =~ /look/;
	account_is_quiet();
	due_now();
	if ($kind eq 'worker')
	{
		$admin->query('SELECT lp_wake()');
		LpUsers::wait_for(sub { $admin->query("SELECT count(*) FROM lp_requests WHERE state <> 'created'") eq '0' }, 'the worker to be done');
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

	fresh();
	if ($m->{lookup})
	{
		fault('POST', action => 'reset', times => 3, applied => JSON::PP::true);
		enqueue(@names);
		deliver();
		is(states(), 'uncertain6', "$what: in doubt");
		due_now();
	}
	enqueue(@names) unless $m->{lookup};
	$m->{before}->();
	start_delivery($kind);
	my $pid = LpUsers::wait_for(sub { deliverer_pid($kind) }, 'the deliverer');
	like($pid, qr/^\d+$/, "$what: one deliverer");
	$m->{reached}->($pid);
	crash($kind, $pid);
	$holder->quit if $holder;
	$holder = undef;
	my $settled = $m->{settled} // 0;
	# a result may be taken back by the crash: then the row is again "sending", and looked up
	like(states(), $m->{lookup} ? qr/^(sending\d ?)?(uncertain\d)?$/ : $settled ? qr/^(created2 )?sending[46]$/ : qr/^sending6$/,
		"$what: claimed is claimed");
	recover($what, $kind);
	# of three batches two were out, or three where one was settled
	my $first = $m->{lookup} || $settled ? 3 : 2;
	my $again = $m->{lookup} || $settled ? 0 : $m->{applied} ? 1 : 3;
	is(posts(), $first + $again + ($kind eq 'worker' ? 1 : 0), "$what: POSTs");
	each_once($what, @names, $kind eq 'worker' ? 'next' : ());
	return;
}

fresh();
dies('backend', $_) foreach 'not applied', 'applied later', 'applied', 'answered', 'one settled', 'looking up', 'looked up';
dies('postmaster', $_) foreach 'not applied', 'applied', 'answered', 'looking up';
dies('immediate', $_) foreach 'not applied', 'applied later', 'answered', 'looked up';
dies('worker', $_) foreach 'not applied', 'applied later', 'applied', 'answered', 'looking up', 'looked up';

# ---------------------------------------------------------------------------------------------- at any moment

my $seed = $ENV{LPUSERS_SEED} // time() * 1000 % 1_000_000;
srand($seed);
note("seed $seed: LPUSERS_SEED=$seed repeats the faults");
diag("seed $seed") if $ENV{LPUSERS_LONG};

sub one_of { return $_[int(rand(@_))]; }

# Faults of the first POSTs and listings, at random.
sub random_faults
{
	my @faults;

	foreach (1 .. 6)
	{
		my $applied = one_of(JSON::PP::true, JSON::PP::false);
		my %fault = %{ one_of({ action => 'silence' }, { action => 'reset' }, { action => 'close' }, { action => 'status', status => 503 },
				{ action => 'half' }, { action => 'not_json' }) };
		push @faults, { method => one_of('POST', 'POST', 'POST', 'GET'), path => '/le-users/users', %fault, applied => $applied };
		push @faults, { method => 'POST', path => '/le-users/users', action => 'delay', ms => int(rand(300)) };
	}
	push @faults, { method => 'POST', path => '/le-users/users', action => 'retry_after', value => '1' } if rand() < 0.5;
	$_->{skip} = int(rand(8)) foreach @faults;
	return @faults;
}

my $rounds = $ENV{LPUSERS_LONG} ? 40 : 6;
foreach my $round (1 .. $rounds)
{
	my @names = map { "r$_" } 1 .. 60;
	my $kind  = one_of('backend', 'postmaster', 'immediate');
	my @faults = random_faults();
	my $ms    = int(rand(300));
	my $what  = "round $round, $kind after $ms ms";
	my $turns = 0;

	fresh(batch_size => 7, max_connections => 3, timeout => '700ms');
	enqueue(@names);
	$sim->post('faults', \@faults);
	$deliverer = LpUsers::session($node);
	$deliverer->send("CALL lp_deliver('$account')");
	LpUsers::wait_for(sub { posts() > 0 }, 'the first POST');
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
	while (states() ne 'created60' && $turns++ < 15)
	{
		deliver();
		account_is_quiet();
		due_now();
	}
	is(states(), 'created60', "$what: all are created");
	each_once($what, @names);
	note("$what: " . posts() . ' POSTs, ' . gets() . " GETs, $turns turns");
}

# ---------------------------------------------------------------------------------------------- workers that start with the server

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
	is(posts() . ' ' . gets(), '1 1', 'preloaded: one POST, one listing');
	each_once('preloaded worker', @names);
}
{
	# the worker has left; the backend that delivers is killed
	fresh();
	$admin->query("ALTER SYSTEM SET lpusers.idle_timeout = '100ms'");
	$admin->query('SELECT pg_reload_conf(), lp_wake()');
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
	$admin->query('SELECT lp_wake()');
	LpUsers::wait_for(sub { states() eq 'uncertain1' }, 'the worker to see to it');
	due_now();
	$admin->query('SELECT lp_wake()');
	LpUsers::wait_for(sub { states() eq 'created1' }, 'the worker to be done');
	each_once('preloaded worker, it had left', 'b3');
}

$admin->quit;
$node->stop;
unlike(LpUsers::log_since($node, 0), qr/PANIC|TRAP|terminated by signal (?!9\b)/, 'nothing died but what was killed');
done_testing();

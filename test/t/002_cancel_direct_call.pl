# Cancel, statement_timeout and terminate end a direct call in every phase, at once and with their own SQLSTATE; so do a
# recovery conflict and the end of the server. Whether the rollback warns tells if the account may have got the users.
#
# That a phase is reached is what the peer of the call says, and that the backend waits. A peer holds a call for minutes;
# the bound below only tells "at once" from that, on any machine. The note at the end has the measured latencies.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LpInterrupt;
use LpPeer;
use LpUsers;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

plan(skip_all => 'needs /proc as Linux has it') unless -e "/proc/$$/fd" && -e '/proc/net/tcp';

my $ca       = "ca_file '$LpUsers::top/test/certs/ca.pem'";
my $bound    = $LpInterrupt::bound;
my %expected = %LpInterrupt::expected;

my $sim    = LpUsers::account();
my $tokens = LpUsers::account('--account', 'token');
my $domain = LpUsers::account('--account', 'domain');

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(allows_streaming => 1);
my $slow = LpInterrupt::start_with_slow_resolver($node);
$node->safe_psql('postgres', 'CREATE EXTENSION lpusers; CREATE TABLE witness (phase text)');

my $admin = LpUsers::session($node);
my $interrupt = LpInterrupt::new($node, $admin);

# ---------------------------------------------------------------------------------------------- accounts and phases

# A foreign server for an account of that name.
sub new_account
{
	my ($account, $options, $mapping) = @_;

	$mapping //= "token 'lp-token'";
	$admin->query(qq{
		CREATE SERVER "s_$account" FOREIGN DATA WRAPPER lpusers
			OPTIONS (account '$account', connect_timeout '200s', timeout '200s', $options);
		CREATE USER MAPPING FOR CURRENT_USER SERVER "s_$account" OPTIONS ($mapping);});
	return;
}

# A phase is: account (default 12345678); fault and where (which stand-in account, default $sim); sql; seen => a number
# that grows when a peer has seen the call come so far; warns => has the body been handed out?; posts => how often the
# stand-in got the POST; level => seen is not counted but is a state; after => what to wait for when the call has ended.
my $silent = LpPeer::start(LpPeer::silent());
my $deaf   = LpPeer::start(LpPeer::deaf(), receive => 65536);
my $full   = LpPeer::full_backlog();
my @phases;

sub sim_phase
{
	my ($name, $fault, %more) = @_;

	push @phases, { name => $name, sim => $sim, posts => 1, warns => 1,
		fault => { method => 'POST', path => '/users', times => 0, %$fault },
		seen => sub { return $sim->count(method => 'POST', path => '/users', login => 'first@example.com'); }, %more };
	return;
}

new_account('12345678', "base_url '$sim->{url}'");
new_account('resolve', "base_url 'http://account.slow.test'");
push @phases, { name => 'resolving the name', account => 'resolve', seen => sub { return LpInterrupt::names_asked($slow); },
	after => sub { LpInterrupt::resolver_returns($slow, @_); } };

new_account('connect', "base_url '" . ($full ? $full->url : 'http://127.0.0.1:1') . "'");
push @phases, { name => 'connecting', account => 'connect', seen => sub { return $full->tried; }, level => 1,
	skip => !$full && 'the queue of a listening socket cannot be filled here' };

new_account('handshake', "base_url '" . $silent->url =~ s/^http:/https:/r . "', $ca");
push @phases, { name => 'TLS handshake', account => 'handshake',
	seen => sub { return scalar(() = $silent->lines(qr/^bytes/)); } };

new_account('proxy', "base_url 'https://account.example', proxy '" . $silent->url . "'");
push @phases, { name => 'proxy CONNECT', account => 'proxy',
	seen => sub { return scalar(() = $silent->lines(qr/^bytes/)); } };

new_account('send', "base_url '" . $deaf->url . "'");
push @phases, { name => 'sending', account => 'send', warns => 1,
	sql => LpUsers::create_large_sql('first', 24_000_000) =~ s/12345678/send/r,
	seen => sub { return scalar(() = $deaf->lines(qr/^filling/)); } };

sim_phase('waiting for the answer', { action => 'silence', seconds => 200 });
sim_phase('waiting, users created', { action => 'silence', seconds => 200, applied => \1 });
sim_phase('receiving the body slowly', { action => 'drip', bytes => 1, ms => 2000 });
sim_phase('receiving only headers', { action => 'headers_only', seconds => 200 });
sim_phase('waiting after a 429', { action => 'retry_after', value => '30' }, warns => 0);

new_account('token', "base_url '$tokens->{url}', token_url '$tokens->{tls_url}/sentinel/api/v2/account/token/app/token', $ca",
	"client_id 'lp-client', client_secret 'lp-client-secret'");
push @phases, { name => 'obtaining a token', account => 'token', sim => $tokens, posts => 0,
	fault => { path => '/app/token', action => 'silence', seconds => 200, times => 0 },
	seen => sub { return $tokens->count(path => '/app/token'); } };

new_account('domain', "domain_api_url '$domain->{tls_url}', $ca");
push @phases, { name => 'asking the Domain API', account => 'domain', sim => $domain, posts => 0,
	fault => { path => 'baseURI.json', action => 'silence', seconds => 200, times => 0 },
	seen => sub { return $domain->count(path => 'baseURI.json'); } };

# ---------------------------------------------------------------------------------------------- one interruption

sub backend_pid { my ($session) = @_; return $session->query('SELECT pg_backend_pid()'); }

# A phase as LpInterrupt knows it: the call is made in a transaction that has done something before.
sub phase_of
{
	my ($phase) = @_;
	my $account = $phase->{account} // '12345678';
	my $sql     = $phase->{sql} // LpUsers::create_sql('first') =~ s/12345678/$account/r;

	return {
		%$phase,
		prepare => sub {
			return unless $phase->{sim};
			$phase->{sim}->reset;
			$phase->{sim}->post('faults', $phase->{fault});
		},
		statement => sub { return "BEGIN;\nINSERT INTO witness VALUES ('$phase->{name}');\nSET LOCAL statement_timeout = $_[0];\n$sql"; } };
}

# Make the call and end it. Returns latency, offset of the log before it, output and errors.
sub interrupt { my ($phase, @how) = @_; return $interrupt->end(phase_of($phase), @how); }

# The session goes on: state of the transaction, nothing written, and the next call.
sub goes_on
{
	my ($title, $session) = @_;
	my ($out, $err) = $session->run('SELECT 1');

	like($err, qr/ERROR:  25P02/, "$title: the transaction is aborted");
	$session->query('ROLLBACK');
	is($session->query("SELECT (SELECT count(*) FROM witness) + (SELECT count(*) FROM lp_results WHERE login_name LIKE 'first%')"),
		'0', "$title: nothing is left of it");
	is($session->query(LpUsers::create_sql('second')), '201|', "$title: the next call is answered");
	return;
}

sub try_phase
{
	my ($phase, $how, $session, $pid) = @_;
	my $title = "$phase->{name}, $how";
	my ($latency, $offset, $out, $err) = interrupt($phase, $how, $session, $pid);

	like($err, $expected{$how}, "$title: SQLSTATE");
	is($out, '', "$title: no row");
	cmp_ok($latency, '<', $bound, "$title: at once");

	LpUsers::wait_for(sub { !-e "/proc/$pid" }, 'the backend to end') if $how eq 'terminate';
	my $log = LpUsers::log_since($node, $offset);
	my $warning = qr/WARNING: .*rolled back here, and account .* may have carried it out \(outcome unknown\): create of \d+ users?: first\@/;
	if ($phase->{warns})
	{
		is(scalar(() = $log =~ /$warning/g), 1, "$title: the log has one warning");
		like($err, $warning, "$title: and so has the client") if $how ne 'terminate';
	}
	else
	{
		unlike($log . $err, qr/rolled back here/, "$title: no warning, nothing was sent");
	}
	is($phase->{sim}->count(method => 'POST', path => '/users', login => 'first@example.com'), $phase->{posts},
		"$title: number of POSTs")
	  if $phase->{sim};

	$phase->{after}->($pid) if $phase->{after};
	return if $how eq 'terminate';
	$sim->reset;
	goes_on($title, $session);
	return;
}

subtest 'cancel, timeout and terminate end a call in each phase' => sub {
	foreach my $phase (@phases)
	{
	  SKIP:
		{
			skip($phase->{skip}, 1) if $phase->{skip};
			my $session = LpUsers::session($node);
			my $pid     = backend_pid($session);

			# libcurl keeps some sockets for as long as it is used: they are there after the first call
			try_phase($phase, 'cancel', $session, $pid);
			my $sockets = LpUsers::sockets_of($pid);
			try_phase($phase, $_, $session, $pid) foreach qw(timeout cancel);
			is(LpUsers::sockets_of($pid), $sockets, "$phase->{name}: no socket is left open");
			try_phase($phase, 'terminate', $session, $pid);
			$session->quit;
		}
	}

	# After a call was ended in its own account, that account can be used again too.
	foreach my $pair ([ $tokens, 'token' ], [ $domain, 'domain' ])
	{
		my ($account, $name) = @$pair;
		my $session = LpUsers::session($node);
		my ($phase) = grep { ($_->{account} // '') eq $name } @phases;

		interrupt($phase, 'cancel', $session, backend_pid($session));
		$session->query('ROLLBACK');
		$account->reset;
		is($session->query(LpUsers::create_sql('again') =~ s/12345678/$name/r), '201|', "$phase->{name}: afterwards it works");
		is($account->users_with('again@example.com'), 1, "$phase->{name}: the user is there");
		$session->quit;
	}
};

subtest 'a cancel inside PL/pgSQL and savepoints' => sub {
	# WHEN OTHERS catches what went wrong with the call, but no cancel.
	{
		my $session = LpUsers::session($node);
		my $pid     = backend_pid($session);
		my ($phase) = grep { $_->{name} eq 'waiting for the answer' } @phases;
		my $block   = "DO \$do\$ BEGIN PERFORM * FROM (" . LpUsers::create_sql('first')
		  . ") c; EXCEPTION WHEN OTHERS THEN RAISE NOTICE 'caught %', SQLSTATE; END \$do\$";

		$sim->reset;
		$sim->post('faults', { method => 'POST', path => '/users', action => 'reset' });
		my ($out, $err) = $session->run($block);
		like($err, qr/WARNING: .*outcome unknown.*NOTICE:  00000: caught 08006/s, 'WHEN OTHERS catches 08006, and the warning is given');
		unlike($err, qr/ERROR:/, 'and nothing else is raised');

		foreach my $how (qw(cancel timeout terminate))
		{
			my ($latency, $offset, $o, $e) = interrupt({ %$phase, sql => $block }, $how, $session, $pid);
			like($e, $expected{$how}, "WHEN OTHERS, $how: SQLSTATE");
			unlike($e, qr/caught/, "WHEN OTHERS, $how: not swallowed");
			$session->run('ROLLBACK') if $how ne 'terminate';
		}
		$session->quit;
	}

	# A rollback to a savepoint makes the transaction usable again.
	{
		my $session = LpUsers::session($node);
		my $pid     = backend_pid($session);
		my ($phase) = grep { $_->{name} eq 'waiting for the answer' } @phases;

		my ($latency, $offset, $out, $err) =
		  interrupt({ %$phase, sql => "SAVEPOINT s;\n" . LpUsers::create_sql('first') }, 'cancel', $session, $pid);
		like($err, $expected{cancel}, 'savepoint: SQLSTATE');
		$sim->remove('faults');
		$session->query('ROLLBACK TO s');
		is($session->query(LpUsers::create_sql('second')), '201|', 'savepoint: the next call is answered');
		$session->query('COMMIT');
		is($session->query('SELECT count(*) FROM witness'), '1', 'savepoint: the transaction is committed');
		is($session->query("SELECT string_agg(login_name, ', ') FROM lp_results WHERE id >= (SELECT max(id) FROM lp_results)"),
			'second@example.com', 'savepoint: and the record of the call after it');
		$session->quit;
	}
};

subtest 'a recovery conflict ends a call on a standby' => sub {
	$node->safe_psql('postgres', 'CREATE TABLE dead AS SELECT generate_series(1, 100) AS i');
	$node->backup('backup');
	my $standby = PostgreSQL::Test::Cluster->new('standby');
	$standby->init_from_backup($node, 'backup', has_streaming => 1);
	$standby->append_conf('postgresql.conf', "max_standby_streaming_delay = 0\nhot_standby_feedback = off\n");
	$standby->start;

	my $session  = LpUsers::session($standby);
	my $observer = LpUsers::session($standby);
	my $pid      = backend_pid($session);
	$sim->reset;
	$sim->post('faults', { method => 'GET', path => '/users', action => 'silence', seconds => 200 });
	$session->send("BEGIN ISOLATION LEVEL REPEATABLE READ;\nSELECT count(*) FROM dead;\nSELECT step, ok FROM lp_check('12345678')");
	LpUsers::wait_for(
		sub {
			return $sim->count(method => 'GET', path => '/users')
			  && $observer->query("SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = $pid") eq 't';
		},
		'lp_check() to wait');
	$node->safe_psql('postgres', 'DELETE FROM dead');
	my $since = time();
	$node->safe_psql('postgres', 'VACUUM dead');
	ok($session->has_error(60), 'a recovery conflict ends a call');
	note(sprintf('recovery conflict: %.0f ms after VACUUM', (time() - $since) * 1000));
	my ($out, $err) = $session->take;
	like($err, qr/ERROR:  40001: canceling statement due to conflict with recovery/, 'and is told as such');
	# recovery may signal once more while the transaction is being aborted: then it ends the connection
	my (undef, $ended) = eval { $session->run('ROLLBACK') };
	$session = LpUsers::session($standby) if $@ || $ended =~ /FATAL:  40001: terminating connection due to conflict with recovery/;
	$sim->reset;
	is($session->query("SELECT bool_and(ok) FROM lp_check('12345678')"), 't', 'the next call is answered');
	my ($o, $e) = $session->run(LpUsers::create_sql('first'));
	like($e, qr/ERROR:  25006/, 'a standby does not write');
	is($sim->count(method => 'POST'), 0, 'nor sends');
	$_->quit foreach $session, $observer;
	$standby->stop('fast');
};

subtest 'a shutdown ends a call' => sub {
	foreach my $mode (qw(fast immediate))
	{
		my $session = LpUsers::session($node);
		my $pid     = backend_pid($session);
		my ($phase) = grep { $_->{name} eq 'waiting for the answer' } @phases;

		$interrupt->start(phase_of($phase), $session, $pid, 0) or die "the call ended by itself: $session->{err}";
		my $since = time();
		$node->stop($mode);
		my $took = time() - $since;
		cmp_ok($took, '<', 60, "stop, $mode: the server ends while a call waits");
		note(sprintf('pg_ctl stop -m %s: %.0f ms', $mode, $took * 1000));
		my ($out, $err) = $session->take;
		like($err, $mode eq 'fast' ? $expected{terminate} : qr/57P02|server closed the connection/, "stop, $mode: the client is told");
		is($sim->count(method => 'POST', path => '/users', login => 'first@example.com'), 1, "stop, $mode: one POST");
		$session->quit;
		$admin->quit;
		$node->start;
		$admin = $interrupt->{admin} = LpUsers::session($node);
		$sim->reset;
		is($admin->query(LpUsers::create_sql('second')), '201|', "stop, $mode: it works after the restart");
		is($admin->query("SELECT count(*) FROM witness WHERE phase = '$phase->{name}'"), '1', "stop, $mode: only what was committed is there");
	}

	$interrupt->note_latencies;
};

done_testing();

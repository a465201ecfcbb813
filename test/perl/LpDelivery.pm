# LpDelivery.pm: a delivery that is brought to a moment and disturbed there, and what must have become of it in the end.
#
#	($sim, $node) = (LpUsers::account(), LpUsers::server(conf => $LpDelivery::conf));
#	LpUsers::connect_account($node, $sim, options => $LpDelivery::options);
#	my $pid = reach('backend', 'applied', 'the title of the tests', 'n1', 'n2');
#	... something happens to the server ...; connect_anew();
#	account_is_quiet(); due_now(); deliver();
#	each_once('the title of the tests', 'n1', 'n2');
#
# The account takes a login twice: a POST too many makes a second user. $admin is a session that asks and prepares.
package LpDelivery;

use strict;
use warnings;
use Exporter 'import';
use JSON::PP;
use LpUsers;
use Test::More;
use Time::HiRes qw(time);

our @EXPORT = qw($account $sim $node $admin $deliverer $holder %moments
	fresh enqueue fault posts gets due_now states deliver set_worker unanswered let_go account_is_quiet each_once connect_anew deliverer_pid
	start_delivery prepare approach reach dice one_of random_faults finish_by_calls);

our $account = '12345678';
our ($sim, $node, $admin, $deliverer, $holder);

# Nothing but the delivery writes, and not more than it has to; no worker until one is asked for.
our $conf = "lpusers.worker = off\nlpusers.idle_timeout = '200ms'\nlog_min_messages = error\nlog_statement = none\n" .
	"checkpoint_timeout = '1h'\nautovacuum = off\n";
our $options = "timeout '60s', batch_size '2', max_connections '2'";

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

	# that it is there after the crash is up to the session that enqueues
	is($admin->query("SET synchronous_commit = on; SELECT count(*) FROM lp_enqueue_users('$account', '$json'); RESET synchronous_commit"),
		scalar(@names), 'enqueued');
	return;
}

sub fault { my ($method, %fault) = @_; $sim->post('faults', { method => $method, path => '/le-users/users', %fault }); return; }
sub posts { return $sim->count(method => 'POST', path => '/le-users/users'); }
# Lookups; the listing before many users are sent asks for fewer attributes.
sub gets  { return scalar(grep { $_->{method} eq 'GET' && $_->{query} =~ /nickname/ } @{ $sim->get('log') }); }

sub due_now { $admin->due_now; return; }
sub states { return $admin->query("SELECT coalesce(string_agg(state || n, ' ' ORDER BY state), '') FROM (SELECT state, count(*) AS n FROM lp_requests WHERE account = '$account' GROUP BY 1) x"); }
sub deliver { my ($out, $err) = $admin->run("CALL lp_deliver('$account')"); unlike($err, qr/ERROR|WARNING|FATAL/, 'CALL lp_deliver()'); return; }

sub set_worker
{
	my ($on) = @_;

	$admin->query("ALTER SYSTEM SET lpusers.worker = $on");
	$admin->query('SELECT pg_reload_conf()');
	LpUsers::wait_for(sub { $admin->query('SHOW lpusers.worker') eq $on }, 'the setting');
	return;
}

# Wait until this number of requests have arrived and have no response.
sub unanswered
{
	my ($n, $method) = @_;

	LpUsers::wait_for(sub { $sim->count(status => 0, method => $method, path => '/le-users/users') == $n }, "$n unanswered requests");
	return;
}

# Let the account respond to the requests that it holds.
sub let_go { $sim->remove('faults') if grep { $_->{fault}{action} eq 'hold' } @{ $sim->get('faults') }; return; }

# Nothing that the account is still at, but what it never answers.
sub account_is_quiet
{
	LpUsers::wait_for(sub { !grep { $_->{status} == 0 && ($_->{fault} // '') !~ /^(silence|reset|close)$/ } @{ $sim->get('log') } },
		'the account to have done what it is at');
	return;
}

# Each user exists once, is recorded as created, and has no payload; none was sent again after its
# creation.
sub each_once
{
	my ($what, @names) = @_;
	my $rows  = decode_json($admin->query("SELECT coalesce(json_agg(row_to_json(x)), '[]') FROM (SELECT split_part(login_name, '\@', 1) AS name, state,
		user_id, error, reason, (SELECT count(*) FROM lp_payloads p WHERE p.request_id = r.id) AS payloads FROM lp_requests r WHERE account = '$account') x"));
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
# Reconnect after the sessions have ended with the server.
sub connect_anew
{
	$_->quit foreach grep { defined } $deliverer, $admin, $holder;
	$deliverer = $holder = undef;
	LpUsers::wait_until_up($node);
	$admin = LpUsers::session($node);
	return;
}

# CALL until all are created; failed requests are due again at once. Returns the number of calls.
sub finish_by_calls
{
	my ($what, $n) = @_;
	my $turns = 0;

	while (states() ne "created$n" && $turns++ < 15)
	{
		deliver();
		account_is_quiet();
		due_now();
	}
	is(states(), "created$n", "$what: all are created");
	return $turns;
}

# ---------------------------------------------------------------------------------------------- moments

sub deliverer_pid
{
	my ($kind) = @_;

	return $admin->query('SELECT lp_worker_pid()') if $kind eq 'worker';
	return $admin->query("SELECT pid FROM pg_stat_activity WHERE query LIKE 'CALL lp_deliver%' AND state = 'active' AND pid <> pg_backend_pid()");
}

# Keep the deliverer from recording that a user is created: the payload cannot leave. Claiming only reads it.
# A settlement waits before it writes anything; what only reads the tables, or claims, does not.
sub hold_settlement
{
	$admin->query(q{
		CREATE OR REPLACE FUNCTION hold_settlement() RETURNS trigger LANGUAGE plpgsql AS
			$$ BEGIN PERFORM pg_catalog.pg_advisory_xact_lock_shared(77); RETURN NEW; END $$;
		CREATE OR REPLACE TRIGGER hold BEFORE UPDATE ON lp_requests FOR EACH ROW WHEN (NEW.state = 'created')
			EXECUTE FUNCTION hold_settlement()});
	$holder = LpUsers::session($node);
	$holder->query('BEGIN; SELECT pg_advisory_xact_lock(77)');
	return;
}

sub waits_for_lock
{
	my ($pid) = @_;

	LpUsers::wait_for(sub { $admin->query("SELECT wait_event_type FROM pg_stat_activity WHERE pid = $pid") eq 'Lock' }, 'the deliverer to wait for a lock');
	return;
}

# Keep the deliverer from claiming anything.
sub hold_requests
{
	$holder = LpUsers::session($node);
	$holder->query('BEGIN; LOCK lp_requests IN SHARE MODE');
	return;
}

# Wait until two requests are under way, and the last two users are claimed.
sub two_under_way { unanswered(2, 'POST'); LpUsers::wait_for(sub { states() eq 'sending6' }, 'all to be claimed'); return; }

# Wait until all six are created, and none is recorded.
sub answered
{
	my ($pid) = @_;

	two_under_way();
	let_go();
	waits_for_lock($pid);
	LpUsers::wait_for(sub { $sim->count(status => 201, method => 'POST', path => '/le-users/users') == 3 }, 'three answers');
	return;
}

# before: faults, and what else is to be prepared; reached: wait for it; states: what is on record then; posts: how many there
# will have been in the end if the delivery breaks off there, of six users by twos: what was not carried out is sent again, up
# to five each alone.
our %moments = (
	'claiming' => { posts => 3, states => 'pending6', before => \&hold_requests, reached => \&waits_for_lock },
	'not applied' => { posts => 5, states => 'sending6', before => sub { fault('POST', action => 'silence', times => 2, applied => JSON::PP::false) },
		reached => \&two_under_way },
	# when the account is let go
	'applied later' => { posts => 4, states => 'sending6', before => sub { fault('POST', action => 'hold', times => 2) }, reached => \&two_under_way },
	'applied' => { posts => 4, states => 'sending6', before => sub { fault('POST', action => 'silence', times => 2, applied => JSON::PP::true) },
		reached => \&two_under_way },
	'answered' => { posts => 3, states => 'sending6', before => sub { hold_settlement(); fault('POST', action => 'hold', times => 2) },
		reached => \&answered },
	'one settled' => { posts => 3, states => 'created2 sending4', before => sub { fault('POST', action => 'delay', ms => 1, login => 'n1@example.com');
			fault('POST', action => 'silence', times => 2, applied => JSON::PP::true) },
		reached => sub { unanswered(2, 'POST'); LpUsers::wait_for(sub { states() eq 'created2 sending4' }, 'one batch to be settled') } },
	'looking up' => { posts => 3, states => 'uncertain6', lookup => 1, before => sub { fault('GET', action => 'silence') },
		reached => sub { unanswered(1, 'GET') } },
	'listed later' => { posts => 3, states => 'uncertain6', lookup => 1, before => sub { fault('GET', action => 'hold') },
		reached => sub { unanswered(1, 'GET') } },
	'looked up' => { posts => 3, states => 'uncertain6', lookup => 1, before => \&hold_settlement, reached => \&waits_for_lock });

sub start_delivery
{
	my ($kind) = @_;

	if ($kind eq 'worker')
	{
		set_worker('on');
		$admin->query('SELECT _lp_wake()');
		LpUsers::wait_for(sub { $admin->query('SELECT lp_worker_pid()') ne '' }, 'the worker');
		return;
	}
	$deliverer = LpUsers::session($node);
	$deliverer->send("CALL lp_deliver('$account')");
	return;
}
# These users are queued, and all is prepared for that moment.
sub prepare
{
	my ($moment, $what, @names) = @_;
	my $m = $moments{$moment};

	fresh();
	if ($m->{lookup})
	{
		fault('POST', action => 'reset', times => @names / 2, applied => JSON::PP::true);
		enqueue(@names);
		deliver();
		is(states(), 'uncertain' . @names, "$what: in doubt");
		# no crash may lose this
		$admin->query('SET synchronous_commit = on');
		due_now();
		$admin->query('RESET synchronous_commit');
	}
	enqueue(@names) unless $m->{lookup};
	$m->{before}->();
	return;
}

# They are delivered by CALL ("backend") or the worker, until it is at that moment. Returns who delivers.
sub approach
{
	my ($kind, $moment, $what) = @_;

	start_delivery($kind);
	my $pid = LpUsers::wait_for(sub { deliverer_pid($kind) }, 'the deliverer');
	like($pid, qr/^\d+$/, "$what: one deliverer");
	$moments{$moment}->{reached}->($pid);
	return $pid;
}

sub reach
{
	my ($kind, $moment, $what, @names) = @_;

	prepare($moment, $what, @names);
	return approach($kind, $moment, $what);
}

# ---------------------------------------------------------------------------------------------- dice

# The seed, which is said; LPUSERS_SEED repeats the dice, if not the timing.
sub dice
{
	my $seed = $ENV{LPUSERS_SEED} // time() * 1000 % 1_000_000;

	srand($seed);
	note("seed $seed: LPUSERS_SEED=$seed repeats the dice");
	diag("seed $seed") if $ENV{LPUSERS_LONG};
	return;
}

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
		# an account that responded with success has the user
		$applied = JSON::PP::true if $fault{action} =~ /half|not_json/;
		push @faults, { method => one_of('POST', 'POST', 'POST', 'GET'), path => '/le-users/users', %fault, applied => $applied };
		push @faults, { method => 'POST', path => '/le-users/users', action => 'delay', ms => int(rand(300)) };
	}
	push @faults, { method => 'POST', path => '/le-users/users', action => 'retry_after', value => '1' } if rand() < 0.5;
	$_->{skip} = int(rand(8)) foreach @faults;
	return @faults;
}
1;

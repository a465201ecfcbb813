# An account that is away for a day: nothing is lost, nothing is given up, and all is done when it is back.
#
# Time passes by moving the times of the requests back.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use IO::Socket::INET;
use JSON::PP;
use LpUsers;
use Test::More;

my $account = '12345678';
my $first   = 4_000_000_000;
my $sim     = LpUsers::account();
my $node    = LpUsers::server(conf => "lpusers.worker = off\nlpusers.idle_timeout = '200ms'\n");
LpUsers::connect_account($node, $sim, options => "timeout '20s', max_retries '1', batch_size '10', hold_above '0'");
my $session = LpUsers::session($node);

sub hire
{
	my ($prefix, $n) = @_;

	return $session->query("SELECT count(*) FROM lp_enqueue_users('$account', '[" . join(',', map { LpUsers::user("$prefix$_") } 1 .. $n) . "]')");
}

sub pass_hour
{
	my $sets = join(', ', map { "$_ = $_ - interval '1 hour'" } qw(next_attempt_at enqueued_at sent_at finished_at held_at));

	$session->query("UPDATE lp_requests SET $sets");
	return;
}

sub states { return $session->query("SELECT string_agg(concat_ws(' ', operation, state, n), ', ') FROM (SELECT operation, state, count(*) AS n FROM lp_requests GROUP BY 1, 2 ORDER BY 1, 2) s"); }

my $closed = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1) or die "listen: $@";
my $port   = $closed->sockport;
close($closed);

my %away = (
	'nothing listens' => sub { $session->query("ALTER SERVER acme OPTIONS (SET base_url 'http://127.0.0.1:$port')"); },
	'429 to everything' => sub { $sim->post('faults', { path => '/le-users/users', action => 'retry_after', value => '3000', times => 0 }); });
my %back = (
	'nothing listens' => sub { $session->query("ALTER SERVER acme OPTIONS (SET base_url '$sim->{url}')"); },
	'429 to everything' => sub { $sim->remove('faults'); });

foreach my $kind (sort keys %away)
{
	subtest $kind => sub {
		$sim->reset;
		$session->query('DELETE FROM lp_payloads; DELETE FROM lp_requests');
		$sim->post('users', [ map { decode_json(LpUsers::user("u$_")) } 1 .. 4 ]);
		$away{$kind}->();
		is(hire('before', 30), 30, 'hires');
		$session->query("SELECT count(*) FROM lp_enqueue_changes('$account', (SELECT jsonb_agg(jsonb_build_object('id', $first + i, 'maxChats', 9,
			'fullName', 'F', 'employeeId', '1')) FROM generate_series(1, 2) i)); SELECT count(*) FROM lp_enqueue_deletes('$account', ARRAY[$first + 3])");
		foreach my $hour (1 .. 25)
		{
			my ($out, $err) = $session->run('CALL lp_deliver()');

			unlike($err, qr/ERROR|WARNING/, "hour $hour") if $err =~ /ERROR|WARNING/;
			hire('later', 3) if $hour == 12;
			pass_hour();
		}
		is(states(), 'create pending 33, delete pending 1, update pending 2', 'after a day all of them wait');
		is($session->query('SELECT count(*) FROM lp_requests WHERE attempts > 0'), 0, '... and no attempt is counted');
		is($session->query('SELECT count(*) FROM lp_requests WHERE sent_at IS NOT NULL'), 0, '... nothing was sent') if $kind eq 'nothing listens';
		is($session->query('SELECT pending FROM lp_progress'), 36, '... as lp_progress says');
		isnt($session->query('SELECT last_error FROM lp_progress'), '', '... with the reason');
		# the worker of the next day keeps house first: what is pending keeps what is to be sent
		$session->query("ALTER SYSTEM SET lpusers.worker = on; SELECT pg_reload_conf()");
		LpUsers::wait_for(sub { LpUsers::try_sql($node, 'SHOW lpusers.worker'); (LpUsers::try_sql($node, "LOAD 'lpusers'; SHOW lpusers.worker"))[1] eq 'on' }, 'the worker to be on');
		$back{$kind}->();
		LpUsers::wait_for(sub { $session->due_now(wake => 1); states() eq 'create created 33, delete done 1, update done 2' }, 'all to be done');
		is(states(), 'create created 33, delete done 1, update done 2', 'when the account is back all is done');
		is(scalar(grep { !$_->{deleted} } @{ $sim->get('users') }), 36, '... each user is there once');
		is($sim->text('duplicates') =~ s/\s//gr, '[]', '... no login twice');
		$session->query("SELECT lp_worker_stop(); ALTER SYSTEM SET lpusers.worker = off; SELECT pg_reload_conf()");
		LpUsers::wait_for(sub { $session->query('SELECT lp_worker_pid()') eq '' }, 'the worker to leave');
	};
}
done_testing();

# The answer to a create of 5,000 users names them in the opposite order: matching costs hardly more than in order, and a cancel
# ends it. Work is compared, as processor time of the backend, so that a busy machine makes no difference.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LpUsers;
use PostgreSQL::Test::Utils;
use Test::More;

plan(skip_all => 'needs /proc/PID/schedstat as Linux has it') unless -e "/proc/$$/schedstat";

my $users = 5000;
my $sim   = LpUsers::account();
my $node  = LpUsers::server(conf => "lpusers.worker = off\n");
LpUsers::connect_account($node, $sim, options => "timeout '200s'");
my $session = LpUsers::session($node);
my $other   = LpUsers::session($node);
my $pid     = $session->query('SELECT pg_backend_pid()');
my $call    = "SELECT c.status FROM bodies, LATERAL lp_create_users('12345678', body) c";

# without records: writing 5,000 of them is more work than all else
$session->query(qq{
	SET lpusers.log_calls = off;
	CREATE TEMP TABLE bodies AS SELECT jsonb_agg(jsonb_build_object('loginName', format('r%s\@example.com', i), 'fullName', 'Full', 'nickname', 'nick',
		'email', format('r%s\@example.com', i), 'passwordSh', 'Start-1234', 'isEnabled', true, 'maxChats', 3, 'profileIds', jsonb_build_array(1001))) AS body
	FROM generate_series(1, $users) i});

# Milliseconds that a processor has worked for the backend.
sub worked { return (split(/ /, slurp_file("/proc/$pid/schedstat")))[0] / 1e6; }

# So long it works for a call of users that are not there yet.
sub work_of_call
{
	my $before;

	$sim->post('reset', {});
	$before = worked();
	is($session->query($call), 201, 'the call');
	return worked() - $before;
}

my $in_order;

sub reverse_answers { $sim->post('faults', { method => 'POST', action => 'misname', form => 'reversed', times => 0 }); return; }

subtest 'matching is linear' => sub {
	$in_order = work_of_call();
	my $again = work_of_call();

	$in_order = $again if $again < $in_order;
	reverse_answers();
	my $reversed = work_of_call();
	$sim->remove('faults');
	note(sprintf('in order %.0f ms, reversed %.0f ms of work', $in_order, $reversed));
	cmp_ok($reversed, '<', 2 * $in_order, 'the opposite order takes less than twice the work of the same order');
};

subtest 'a cancel ends a call whose answer is there' => sub {
	my $before;

	$sim->post('reset', {});
	reverse_answers();
	$sim->remove('log');
	$session->send($call);
	LpUsers::wait_for(sub { $sim->count(method => 'POST', status => 201) == 1 }, 'the answer');
	$before = worked();
	$other->query("SELECT pg_cancel_backend($pid)");
	my (undef, $err) = $session->take;
	my $after = worked() - $before;
	note(sprintf('%.0f ms of work after the cancel: %s', $after, $err eq '' ? 'it came too late' : 'cancelled'));
	like($err, qr/ERROR:  57014/, 'cancelled') unless $err eq '';
	like($err, qr/account "12345678".*create of $users users: r/, 'a WARNING names the users') unless $err eq '';
	cmp_ok($after, '<', 3 * $in_order, 'it does not go on working');
	is($session->query('SELECT 1'), 1, 'the session goes on');
};

done_testing();

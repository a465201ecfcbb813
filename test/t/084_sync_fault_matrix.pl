# Each action of a sync with each fault of its requests: when all is at rest the account is as the source says, the links are right,
# no login was created twice, and no user was written twice at one revision.
#
# A cell has three people; each is a request of its own, and the second is struck.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use IO::Socket::INET;
use JSON::PP;
use LpSync;
use LpUsers;
use Test::More;

my ($true, $false) = (JSON::PP::true, JSON::PP::false);
my @keys = ('p1', 'p2', 'p3');
my $short = '300ms';

LpSync::start(options => "timeout '20s', batch_size '1', max_connections '2'");
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1) or die "listen: $@";
my $closed_port = $listener->sockport;
close($listener);

sub q1 { my ($sql) = @_; return $admin->query($sql); }

# The links, and the users, of people whom the sync disabled a while ago.
sub disabled
{
	my ($days) = @_;

	$sim->post('change', { user => sprintf('%d', $LpSync::first + 1 + $_), set => { isEnabled => $false } }) foreach 1 .. 3;
	q1("UPDATE _lp_sync_link SET state = 'disabled', by_us = true, since = now() - $days * interval '1 day'");
	return;
}

# What comes before a cell, the method that carries it out, and the action in the plan.
my %actions = (
	create => [ POST => sub { linked(); q1("INSERT INTO hr.staff SELECT k, k || '\@x.example', 3 FROM unnest('{p1,p2,p3}'::text[]) k") } ],
	adopt => [ PUT => sub { linked(@keys); q1('DELETE FROM _lp_sync_link; UPDATE hr.staff SET chats = 5') } ],
	# the link gets the new key at once, the differences are an update
	relink => [ PUT => sub { linked(@keys); q1(q{UPDATE hr.staff SET key = 'new' || key, chats = 5}); run_sync('relink') } ],
	update => [ PUT => sub { linked(@keys); q1('UPDATE hr.staff SET chats = 5') } ],
	rename => [ PUT => sub { linked(@keys); q1(q{UPDATE hr.staff SET login = 'new' || login, chats = 5}) } ],
	disable => [ PUT => sub { linked(@keys); q1('DELETE FROM hr.staff') } ],
	enable => [ PUT => sub { linked(@keys); disabled(0); q1('UPDATE hr.staff SET chats = 5') } ],
	delete => [ DELETE => sub { linked(@keys); disabled(2); q1('DELETE FROM hr.staff') } ]);

# What strikes; "not": actions that it has no meaning for; timeout: the server's meanwhile.
my @faults = (
	[ 'unreachable' ],
	[ 'reset before', { action => 'reset', applied => $false } ], [ 'reset after', { action => 'reset', applied => $true } ],
	[ '500 before', { action => 'status', status => 500, applied => $false } ], [ '500 after', { action => 'status', status => 500, applied => $true } ],
	[ '429', { action => 'retry_after', value => '1' } ],
	[ '412', { action => 'status', status => 412 }, not => qr/create/ ],
	[ 'another client writes', { action => 'meddle', user => sprintf('%d', $LpSync::first + 3), set => { description => 'theirs' } }, not => qr/create/ ],
	[ 'half an answer', { action => 'half', applied => $true } ],
	[ 'answer lost', { action => 'silence', applied => $true }, timeout => $short ], [ 'request lost', { action => 'silence', applied => $false }, timeout => $short ],
	[ 'canceled, applied', { action => 'silence', applied => $true }, cancel => 1 ], [ 'canceled, not applied', { action => 'silence', applied => $false }, cancel => 1 ]);

# The delivery is canceled while it waits for the answer.
sub deliver_and_cancel
{
	my ($method) = @_;
	my $session = LpUsers::session($node);
	my $pid = $session->query('SELECT pg_backend_pid()');

	$session->send('CALL lp_deliver()');
	unanswered(1, $method);
	q1("SELECT pg_cancel_backend($pid)");
	my (undef, $err) = $session->take;
	like($err, qr/ERROR:  57014/, 'the delivery is canceled');
	$session->quit;
	return;
}

foreach my $action (sort keys %actions)
{
	my ($method, $scene) = @{ $actions{$action} };

	foreach my $fault (@faults)
	{
		my ($name, $strike, %how) = @$fault;

		next if $how{not} && $action =~ $how{not};
		subtest "$action, $name" => sub {
			$scene->();
			run_sync('the plan');
			is(q1(q{SELECT string_agg(DISTINCT action, ' ') FROM lp_sync_changes WHERE state = 'queued'}), $action eq 'relink' ? 'update' : $action, 'what is queued');
			$strike ? $sim->post('faults', { method => $method, path => '/le-users/users', skip => 1, %$strike }) : q1("ALTER SERVER acme OPTIONS (SET base_url 'http://127.0.0.1:$closed_port')");
			q1("ALTER SERVER acme OPTIONS (SET timeout '$how{timeout}')") if $how{timeout};
			$how{cancel} ? deliver_and_cancel($method) : $admin->run('CALL lp_deliver()');
			LpUsers::wait_for(sub { scalar(grep { $_->{fault} } @{ $sim->get('log') }) == 1 }, 'a request to be struck') if $strike;
			q1("ALTER SERVER acme OPTIONS (SET timeout '20s')") if $how{timeout};
			$strike ? $sim->remove('faults') : q1("ALTER SERVER acme OPTIONS (SET base_url '" . $sim->url . "')");
			is(to_rest($action), 0, 'the requests of the one plan were enough');
			all_is_right("$action, $name");
			is(q1(q{SELECT string_agg(DISTINCT state, ' ') FROM lp_requests}), $action eq 'create' ? 'created' : 'done', 'all requests are done');
			is((grep { $_->{id} == $LpSync::first + 3 } @{ $sim->get('users') })[0]{description}, 'theirs', 'what the other client wrote is there') if $name =~ /another client/ && $action ne 'delete';
		};
	}
}

unlike(LpUsers::log_since($node, 0), qr/TRAP:|PANIC:|signal 11/, 'nothing crashed');
done_testing();

# LpInterrupt.pm: statements that are ended while they wait: by cancel, statement_timeout, or terminate.
#
#	my $interrupt = LpInterrupt::new($node, $admin);		# $admin is a session that nothing else uses meanwhile
#	my ($latency, $offset, $out, $err) = $interrupt->end($phase, 'cancel', $session, $pid);
#	like($err, $LpInterrupt::expected{cancel});
#
# A phase is a hash: name; prepare => sub that is called before, if any; statement => sub that returns the SQL to wait in,
# given the statement_timeout in ms; seen => sub that returns a number which grows when a peer has seen the statement come so
# far, or, with level => 1, one which is not 0 while that is so; wait => what the backend has to wait for then, as
# pg_stat_activity tells it, default Extension, or ''; after => sub that is called with the pid when it has ended;
# before => SQL in the statement before the timeout begins to count, if any.
package LpInterrupt;

use strict;
use warnings;
use LpUsers;
use Test::More;
use Time::HiRes qw(time);

# The errors that the client gets.
our %expected = (
	cancel    => qr/ERROR:  57014: canceling statement due to user request/,
	timeout   => qr/ERROR:  57014: canceling statement due to statement timeout/,
	terminate => qr/FATAL:  57P01: terminating connection due to administrator command/);

# A peer holds a call for minutes; this only tells "at once" from that, on any machine. In seconds.
our $bound = 5;

sub new { my ($node, $admin) = @_; return bless { node => $node, admin => $admin, latency => {} }, 'LpInterrupt'; }

sub is_waiting
{
	my ($self, $pid, $what) = @_;

	return 1 if $what eq '';
	return $self->{admin}->query("SELECT wait_event_type = '$what' FROM pg_stat_activity WHERE pid = $pid") eq 't';
}

# Send the statement of a phase. True if the phase is reached, false if it ended before.
sub start
{
	my ($self, $phase, $session, $pid, $timeout) = @_;
	my $there = 0;

	$phase->{prepare}->() if $phase->{prepare};
	my $seen = $phase->{level} ? 0 : $phase->{seen}->();
	$session->send($phase->{statement}->($timeout));
	LpUsers::wait_for(
		sub {
			$there = $phase->{seen}->() > $seen && $self->is_waiting($pid, $phase->{wait} // 'Extension');
			return $there || $session->has_error;
		},
		"the phase: $phase->{name}");
	return $there;
}

# Send it and end it. Returns latency in seconds, offset of the log before it, output and errors.
sub end
{
	my ($self, $phase, $how, $session, $pid) = @_;
	my $logfile = $self->{node}->logfile;
	my $offset  = -s $logfile;
	my $since;

	if ($how eq 'timeout')
	{
		# a slow machine may need more than the first time-out to come so far
		foreach my $ms (300, 1500, 6000, 24000)
		{
			$offset = -s $logfile;
			$since  = time() + $ms / 1000;
			if ($self->start($phase, $session, $pid, $ms))
			{
				# what comes before may take longer than the time-out, which does not count yet
				$since = time() + $ms / 1000 if $phase->{before};
				last;
			}
			$session->take;
			$session->run('ROLLBACK');
			$phase->{after}->($pid) if $phase->{after};
		}
	}
	else
	{
		$self->start($phase, $session, $pid, 0) or die "$phase->{name}: the call ended by itself: $session->{err}";
		$since = time();
		$self->{admin}->send("SELECT pg_${how}_backend($pid)");
	}
	die "$phase->{name}: $how does not end the call" unless $session->has_error($LpUsers::patience);
	my $latency = time() - $since;
	$self->{admin}->take if $how ne 'timeout';
	push @{ $self->{latency}{$how} }, $latency * 1000;
	return ($latency, $offset, $session->take);
}

# Print the latencies as notes of the test.
sub note_latencies
{
	my ($self) = @_;

	foreach my $how (sort keys %{ $self->{latency} })
	{
		my @sorted = sort { $a <=> $b } @{ $self->{latency}{$how} };

		note(sprintf('%s: %d calls ended, latency median %.1f ms, longest %.1f ms', $how, scalar(@sorted),
				$sorted[ $#sorted / 2 ], $sorted[-1]));
	}
	return;
}

# ---------------------------------------------------------------------------------------------- a resolver that hangs

# Start a server whose name resolver hangs for names ending in .slow.test, see slowdns.c. Returns the directory that steers it.
sub start_with_slow_resolver
{
	my ($node) = @_;
	my $dir    = PostgreSQL::Test::Utils::tempdir();
	my @before = grep { defined && $_ ne '' } $ENV{LD_PRELOAD};

	local $ENV{LD_PRELOAD} = join(':', @before, "$LpUsers::top/test/slowdns.so");
	local $ENV{SLOWDNS_DIR} = $dir;
	$node->start;
	return $dir;
}

# Return the number of requested names.
sub names_asked
{
	my ($dir) = @_;
	open(my $in, '<', "$dir/asked") or return 0;
	my $n = () = <$in>;
	close($in);
	return $n;
}

# The resolver's thread goes on after the call has ended, and holds a socket until it returns.
sub resolver_returns
{
	my ($dir, $pid) = @_;

	PostgreSQL::Test::Utils::append_to_file("$dir/go", '');
	LpUsers::wait_for(sub { my @threads = glob("/proc/$pid/task/*"); return @threads <= 1 }, 'the resolver to return');
	unlink("$dir/go");
	return;
}

1;

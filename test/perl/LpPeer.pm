# LpPeer.pm: peers on loopback that misbehave where a well-built HTTP server cannot.
#
#	my $peer = LpPeer::start(LpPeer::http('rst'), tls => 1);	# forks; one process for each connection
#	$peer->url; $peer->port;
#	$peer->lines(qr/^complete .* ann\@/);						# what it saw, as lines of text
#	my $full = LpPeer::full_backlog();							# connections to it are never made
#
# The scripts, each a sub that serves one connection:
#	silent()		reads what comes, says "bytes" at the first of them, never answers
#	deaf()			never reads, says "filling" when much is waiting to be read
#	http(END)		answers 201 to everything, but ends the first connection as END says during its second request:
#					fin, rst, cut (TLS: no close_notify), headers_fin, headers_rst (after the headers), half_status,
#					idle (after its first answer, when the test says $peer->hang_up); says "begun", "complete" and "closed"
#	script(SUB)		for each request SUB->(connection, its head, number of the connection, number of the request on it) answers
#					as it likes; when it returns false, the connection is over. Requests have no body
#	proxy()			takes CONNECT, says all that it sees of it, and passes bytes on; user and password as arguments
package LpPeer;

use strict;
use warnings;
use Fcntl;
use File::Temp;
use IO::Select;
use IO::Socket::INET;
use MIME::Base64;
use POSIX ();
use Socket qw(SOL_SOCKET SO_LINGER SO_RCVBUF MSG_PEEK);
use Time::HiRes qw(usleep);

# Nothing here outlives a test that was killed for longer than this, in seconds.
my $lifespan = 900;

my @groups;

END
{
	my $status = $?;
	foreach my $group (@groups)
	{
		kill('KILL', -$group);
		waitpid($group, 0);
	}
	$? = $status;
}

# Return why this Perl cannot speak TLS with ALPN, or nothing if it can.
sub tls_trouble
{
	return 'IO::Socket::SSL is not installed (Debian: libio-socket-ssl-perl)' unless eval { require IO::Socket::SSL; 1 };
	return 'IO::Socket::SSL without ALPN' unless IO::Socket::SSL->can_alpn;
	return;
}

# Listen on a free port and serve each connection by a process of its own. Options: tls => 1, alpn => [...], certs =>
# directory, receive => size of the receive buffer.
sub start
{
	my ($serve, %options) = @_;
	my $dir      = File::Temp->newdir();
	my $log      = "$dir/log";
	my $signal   = "$dir/hang_up";
	my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 64, Proto => 'tcp')
	  or die "listen: $@";

	$listener->sockopt(SO_RCVBUF, $options{receive}) if $options{receive};
	my $port = $listener->sockport;
	sysopen(my $out, $log, O_WRONLY | O_CREAT | O_APPEND) or die "$log: $!";
	my $pid = fork() // die "fork: $!";
	if ($pid == 0)
	{
		my $status = eval { accept_all($listener, $serve, $out, { %options, signal => $signal }); 0; } // 1;
		POSIX::_exit($status);
	}
	eval { POSIX::setpgid($pid, $pid) };
	push @groups, $pid;
	close($listener);
	return bless { port => $port, log => $log, signal => $signal, dir => $dir, pid => $pid, scheme => $options{tls} ? 'https' : 'http' },
	  'LpPeer';
}

sub accept_all
{
	my ($listener, $serve, $out, $options) = @_;
	my $n = 0;

	# what the test has open, pipes to psql above all, must not stay open here
	POSIX::close($_) foreach grep { $_ != fileno($listener) && $_ != fileno($out) } 3 .. 255;
	POSIX::setpgid(0, 0);
	alarm($lifespan);
	$SIG{CHLD} = 'IGNORE';
	$SIG{PIPE} = 'IGNORE';
	while (my $connection = $listener->accept)
	{
		$n++;
		syswrite($out, "connection $n\n");
		my $pid = fork() // die "fork: $!";
		if ($pid == 0)
		{
			my $say = sub { return syswrite($out, join(' ', @_) =~ s/[\r\n]+/ | /gr . "\n"); };

			close($listener);
			alarm($lifespan);
			eval { $serve->(secured($connection, $options), $n, $say, $options->{signal}); 1; }
			  or $say->($@ eq "closed\n" ? "closed $n" : "error $n $@");
			POSIX::_exit(0);
		}
		close_for_good($connection);
	}
	return;
}

# Perl counts the users of a descriptor's number, and does not know that accept_all() closed some: its close() alone may
# leave the connection open.
sub close_for_good
{
	my ($connection, @how) = @_;
	my $fd = fileno($connection);

	$connection->close(@how);
	POSIX::close($fd);
	return;
}

sub secured
{
	my ($connection, $options) = @_;

	return $connection unless $options->{tls};
	IO::Socket::SSL->start_SSL($connection, SSL_server => 1, SSL_cert_file => "$options->{certs}/server.pem",
		SSL_key_file => "$options->{certs}/server.key",
		$options->{alpn} ? (SSL_alpn_protocols => $options->{alpn}) : ())
	  or die "TLS: $IO::Socket::SSL::SSL_ERROR";
	return $connection;
}

sub port { return $_[0]{port}; }
sub url { return "$_[0]{scheme}://127.0.0.1:$_[0]{port}"; }

# Tell waiting peers to end the connection now.
sub hang_up
{
	my ($self) = @_;

	open(my $out, '>', $self->{signal}) or die "$self->{signal}: $!";
	close($out);
	return;
}

# Return the matching lines of its output so far.
sub lines
{
	my ($self, $pattern) = @_;

	open(my $in, '<', $self->{log}) or die "$self->{log}: $!";
	chomp(my @lines = <$in>);
	close($in);
	return grep { $_ =~ $pattern } @lines;
}

sub stop
{
	my ($self) = @_;

	kill('KILL', -$self->{pid});
	waitpid($self->{pid}, 0);
	@groups = grep { $_ != $self->{pid} } @groups;
	return;
}

# ---------------------------------------------------------------------------------------------- no answer

sub forever { sleep($lifespan) while 1; return; }

sub silent
{
	return sub {
		my ($connection, $n, $say) = @_;
		my $said;

		while (sysread($connection, my $bytes, 65536))
		{
			$say->("bytes $n") unless $said++;
		}
		$say->("closed $n");
	};
}

# The receive buffer of the listener should be smaller than what is sent.
sub deaf
{
	return sub {
		my ($connection, $n, $say) = @_;

		for (;;)
		{
			recv($connection, my $seen, 16384, MSG_PEEK);
			last if length($seen // '') >= 16384;
			usleep(10_000);
		}
		$say->("filling $n");
		forever();
	};
}

# A listening socket whose queue is full: on Linux a further SYN stays unanswered. Undef where that does not work.
sub full_backlog
{
	my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 1, Proto => 'tcp')
	  or die "listen: $@";
	my $self = bless { port => $listener->sockport, listener => $listener, scheme => 'http', kept => [] }, 'LpPeer::Full';

	listen($listener, 0);
	for (1 .. 64)
	{
		my $probe = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $self->{port}, Proto => 'tcp',
			Timeout => 0.5);
		return $self unless $probe;
		push @{ $self->{kept} }, $probe;
	}
	return;
}

# ---------------------------------------------------------------------------------------------- HTTP/1.1

# End a connection: fin (over TLS after a close_notify), cut (without one), rst.
sub end_connection
{
	my ($connection, $how) = @_;

	setsockopt($connection, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0)) if $how eq 'rst';
	close_for_good($connection, $connection->isa('IO::Socket::SSL') ? (SSL_no_shutdown => $how eq 'fin' ? 0 : 1) : ());
	return;
}

sub read_more
{
	my ($connection, $buffer) = @_;

	return sysread($connection, $$buffer, 65536, length($$buffer));
}

# Return the login in a body, or nothing.
sub login_of { return $_[0] =~ /"loginName"\s*:\s*"([^"]*)"/ ? $1 : '-'; }

# The response to a POST.
sub created
{
	my ($body) = @_;

	return sprintf('{"id": 4711, "loginName": "%s"}', login_of($body));
}

sub http
{
	my ($end) = @_;

	return sub {
		my ($connection, $n, $say, $signal) = @_;
		my $buffer = '';

		for (my $k = 1;; $k++)
		{
			my $struck = $n == 1 && $k == 2;

			while ($buffer !~ /\r\n\r\n/)
			{
				read_more($connection, \$buffer) or return $say->("closed $n");
			}
			my ($head, $body) = split(/\r\n\r\n/, $buffer, 2);
			my ($method) = $head =~ /^(\S+)/;
			my ($length) = $head =~ /^content-length:\s*(\d+)/im;
			$say->("begun $n $method");
			if ($struck && $end =~ /^headers_(.*)/) { return end_connection($connection, $1); }
			while (length($body) < ($length // 0))
			{
				read_more($connection, \$body) or return $say->("partial $n $method");
			}
			$say->("complete $n $method " . login_of($body));
			$buffer = '';
			if ($struck && $end eq 'half_status')
			{
				syswrite($connection, 'HTTP/1.1 20');
				return end_connection($connection, 'fin');
			}
			if ($struck && $end ne 'idle') { return end_connection($connection, $end); }
			my ($status, $answer) = $method eq 'POST' ? ('201 Created', created($body)) : ('200 OK', '[]');
			syswrite($connection, sprintf("HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
						. "ac-revision: 7\r\n\r\n%s", $status, length($answer), $answer));
			if ($n == 1 && $end eq 'idle')
			{
				usleep(10_000) until -e $signal;
				end_connection($connection, 'fin');
				return $say->("closed $n");
			}
		}
	};
}

sub script
{
	my ($answer) = @_;

	return sub {
		my ($connection, $n, $say) = @_;
		my $buffer = '';

		for (my $k = 1;; $k++)
		{
			while ($buffer !~ /\r\n\r\n/)
			{
				read_more($connection, \$buffer) or return $say->("closed $n");
			}
			(my $head, $buffer) = split(/\r\n\r\n/, $buffer, 2);
			$say->("request $n $head");
			$answer->($connection, $head, $n, $k) or return;
		}
	};
}

# ---------------------------------------------------------------------------------------------- a proxy

# Takes CONNECT if the credentials are right, else answers 407. Says the CONNECT with its headers, and all bytes as hex.
sub proxy
{
	my ($user, $password) = @_;
	my $expected = 'Basic ' . encode_base64("$user:$password", '');

	return sub {
		my ($connection, $n, $say) = @_;
		my $head = '';

		while ($head !~ /\r\n\r\n/) { read_more($connection, \$head) or return; }
		$say->("request $n $head");
		my ($host, $port) = $head =~ /^CONNECT ([^ :]+):(\d+) /;
		my ($given) = $head =~ /^Proxy-Authorization: ([^\r\n]*)/im;
		if (!defined $port || ($given // '') ne $expected)
		{
			syswrite($connection, "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n");
			return;
		}
		my $target = IO::Socket::INET->new(PeerAddr => $host, PeerPort => $port, Proto => 'tcp') or die "connect: $@";
		syswrite($connection, "HTTP/1.1 200 Connection established\r\n\r\n");
		my %other = ($connection => $target, $target => $connection);
		my $select = IO::Select->new($connection, $target);
		while (my @ready = $select->can_read)
		{
			foreach my $from (@ready)
			{
				sysread($from, my $bytes, 65536) or return;
				$say->("passed $n " . unpack('H*', $bytes));
				syswrite($other{$from}, $bytes);
			}
		}
	};
}

# ---------------------------------------------------------------------------------------------- the full backlog
package LpPeer::Full;

sub port { return $_[0]{port}; }
sub url { return "$_[0]{scheme}://127.0.0.1:$_[0]{port}"; }

# Connections that are being tried: SYN sent, no answer.
sub tried
{
	my ($self) = @_;
	my $port = sprintf('%04X', $self->{port});

	open(my $in, '<', '/proc/net/tcp') or return 0;
	my $n = grep { /^\s*\d+: [0-9A-F]+:[0-9A-F]+ [0-9A-F]+:$port 02 / } <$in>;
	close($in);
	return $n;
}

1;

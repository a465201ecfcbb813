# LpUsers.pm: common parts of the TAP tests: a server with the extension, a stand-in account, and
# queries to both.
#
#	my $sim = LpUsers::account();                       # test/lpsim/lpsim, plain and TLS; ends with the test
#	my $node = LpUsers::server();                       # PostgreSQL with the extension in database postgres
#	LpUsers::connect_account($node, $sim);              # server "acme" and a mapping for the superuser
#	LpUsers::import_tables($node);                      # lp.users
#	$sim->post('faults', { action => 'silence' });
#	is($sim->count(method => 'POST', path => '/users'), 1);
package LpUsers;

use strict;
use warnings;
use Cwd qw(abs_path);
use File::Basename;
use File::Temp;
use HTTP::Tiny;
use IO::Socket::INET;
use IPC::Run;
use JSON::PP;
use POSIX qw(WNOHANG);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep time);

our $top = abs_path(dirname(__FILE__) . '/../..');

# Maximum time, in seconds, that a test waits for an event.
our $patience = $PostgreSQL::Test::Utils::timeout_default // 180;

# ---------------------------------------------------------------------------------------------- the stand-in account

my @children;

# Start test/lpsim/lpsim with further options; it ends with the test.
sub account
{
	my (@options) = @_;
	my $dir = File::Temp->newdir();
	my $url_file = "$dir/urls";

	my $pid = fork() // die "fork: $!";
	if ($pid == 0)
	{
		open(STDIN,  '<', '/dev/null');
		open(STDOUT, '>', '/dev/null');
		exec("$top/test/lpsim/lpsim", '--url-file', $url_file, '--tls-port', '0', '--tls-cert', "$top/test/certs/server.pem",
			'--tls-key', "$top/test/certs/server.key", @options)
		  or POSIX::_exit(127);
	}
	push @children, $pid;
	wait_for(sub { -s $url_file }, 'lpsim to listen');
	open(my $in, '<', $url_file) or die "$url_file: $!";
	chomp(my ($url, $tls_url) = <$in>);
	close($in);
	return bless {
		pid => $pid, url => $url, tls_url => $tls_url, dir => $dir,
		http => HTTP::Tiny->new(keep_alive => 0, timeout => 60)
	}, 'LpUsers::Account';
}

# A child process of the test, ended with it.
sub remember_child { push @children, @_; return; }

END
{
	my $status = $?;
	foreach my $pid (@children)
	{
		kill('KILL', $pid);
		waitpid($pid, 0);
	}
	$? = $status;
}

# ---------------------------------------------------------------------------------------------- PostgreSQL

# A running server with the extension in database postgres. Options: name, conf => extra lines, init => [initdb options],
# install_path => another installation of PostgreSQL.
sub server
{
	my (%options) = @_;
	my @installation = map { defined $options{$_} ? ($_ => $options{$_}) : () } 'install_path';
	my $node = PostgreSQL::Test::Cluster->new($options{name} // 'main', @installation);

	# the caller's locale must have no effect
	$node->init(extra => [ '--encoding=UTF8', '--locale=C', @{ $options{init} // [] } ]);
	$node->append_conf('postgresql.conf', $options{conf}) if $options{conf};
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION lpusers');
	return $node;
}

# Wait until the server accepts connections. psql gets no standard input: while a server recovers, psql ends before it has read
# a statement, and IPC::Run, which writes it, dies of a broken pipe.
sub wait_until_up
{
	my ($node) = @_;
	my @psql = ('psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', 'SELECT 1');

	wait_for(sub { IPC::Run::run(\@psql, '<', '/dev/null', '>', '/dev/null', '2>', '/dev/null') }, 'the server to answer');
	return;
}

# Kill a process of the server, and wait for the crash restart: until the postmaster has noticed the death, it accepts
# connections that it closes then.
sub kill_backend
{
	my ($node, $pid) = @_;
	my $offset = -s $node->logfile;

	kill('KILL', $pid) or die "kill $pid: $!";
	wait_for(sub { log_since($node, $offset) =~ /all server processes terminated; reinitializing/ }, 'the crash restart');
	wait_until_up($node);
	return;
}

# Create a foreign server for the account, by default over plain HTTP and with the ready token.
# Options: server, db, options (more server options as SQL), mapping (its options as SQL), tls => 1.
sub connect_account
{
	my ($node, $sim, %options) = @_;
	my $server  = $options{server}  // 'acme';
	my $mapping = $options{mapping} // "token 'lp-token'";
	my $url     = $options{tls} ? $sim->{tls_url} : $sim->{url};
	my $more    = join(', ', grep { defined } $options{tls} ? "ca_file '$top/test/certs/ca.pem'" : undef,
		$options{options});

	$more = ", $more" if $more ne '';
	$node->safe_psql($options{db} // 'postgres', qq{
		CREATE SERVER $server FOREIGN DATA WRAPPER lpusers OPTIONS (account '12345678', base_url '$url'$more);
		CREATE USER MAPPING FOR CURRENT_USER SERVER $server OPTIONS ($mapping);});
	return;
}

# The account's users as foreign table lp.users, and person(name): a user whom the account accepts, as jsonb.
sub import_tables
{
	my ($node) = @_;

	$node->safe_psql('postgres', q{
		CREATE SCHEMA lp;
		IMPORT FOREIGN SCHEMA liveperson LIMIT TO (users) FROM SERVER acme INTO lp;
		CREATE FUNCTION person(name text) RETURNS jsonb LANGUAGE sql AS $$
			SELECT jsonb_build_object('loginName', name || '@example.com', 'fullName', 'Full', 'nickname', name, 'email', name || '@example.com',
				'passwordSh', 'Start-1234', 'isEnabled', true, 'maxChats', 3, 'profileIds', ARRAY[1001], 'memberOf', '{"agentGroupId": 2001}'::jsonb) $$;});
	return;
}

# A port of this machine on which no server listens.
sub closed_port
{
	my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1) or die "listen: $@";
	my $port = $listener->sockport;

	close($listener);
	return $port;
}

# A valid user to create, as a JSON text; its login is NAME@example.com. Further attributes override.
sub user
{
	my ($name, %more) = @_;

	return JSON::PP->new->canonical->encode({
			loginName => "$name\@example.com", fullName => "Full $name", nickname => $name,
			email => "$name\@example.com", passwordSh => 'Start-1234', isEnabled => JSON::PP::true, maxChats => 3,
			profileIds => [1], memberOf => { agentGroupId => 1 }, %more });
}

# A call that creates one user, as SQL.
sub create_sql
{
	my ($name, %more) = @_;
	my $json = user($name, %more);

	$json =~ s/'/''/g;
	return "SELECT status, error FROM lp_create_users('12345678', '$json')";
}

# The same in a request of so many bytes: other users are created, too.
sub create_large_sql
{
	my ($name, $bytes) = @_;
	my $users = int($bytes / 800_000) + 1;

	return create_sql($name) =~ s/'(\{.*\})'/jsonb_build_array('$1'::jsonb) || (SELECT jsonb_agg('$1'::jsonb ||
		jsonb_build_object('loginName', 'filler' || i || '\@example.com', 'description', repeat('x', 800000))) FROM generate_series(1, $users) i)/r;
}

# psql with the SQLSTATE in its messages: (exit status, stdout, stderr).
sub try_sql
{
	my ($node, $sql, %options) = @_;
	my ($out, $err) = ('', '');
	my $status = $node->psql($options{db} // 'postgres', "\\set VERBOSITY verbose\n$sql",
		stdout => \$out, stderr => \$err, on_error_stop => $options{on_error_stop} // 0,
		extra_params => $options{extra_params} // []);

	return ($status, $out, $err);
}

# Wait until a condition is true; die after the maximum time.
sub wait_for
{
	my ($true, $what) = @_;
	my $end = time() + $patience;

	while (time() < $end)
	{
		my $result = $true->();
		return $result if $result;
		usleep(10_000);
	}
	die "timed out waiting for $what";
}

# What a process has while it waits for the network: a hash of snapshot ("xmin xid"), transaction (when it began) and locks,
# "-" for none. Another session is asked until it says the same twice and shows that wait: a process that has just sent
# something may still be in the middle of a statement.
sub while_waiting
{
	my ($session, $pid) = @_;
	my $last = '';
	my $sample = wait_for(
		sub {
			my $now = $session->query(qq{SELECT concat_ws('|', a.wait_event_type, a.state_change,
				coalesce(a.backend_xmin::text, '-') || ' ' || coalesce(a.backend_xid::text, '-'), coalesce(a.xact_start::text, '-'),
				coalesce((SELECT string_agg(DISTINCT l.locktype, ' ' ORDER BY l.locktype) FROM pg_locks l WHERE l.pid = a.pid AND l.locktype <> 'virtualxid'), '-'))
				FROM pg_stat_activity a WHERE a.pid = $pid});
			my $same = $now eq $last && $now =~ /^Extension\|/;
			$last = $now;
			return $same ? $now : '';
		}, 'the process to wait for the network');
	my %has;

	(undef, undef, @has{ 'snapshot', 'transaction', 'locks' }) = split(/\|/, $sample);
	return \%has;
}

# The part of the server's log that was written since this offset (-s of the file).
sub log_since
{
	my ($node, $offset) = @_;

	return substr(slurp_file($node->logfile), $offset);
}

# ---------------------------------------------------------------------------------------------- documents

# The blocks of a document of the source tree: { kind, code, text, line }; kind is sql or sh, text is what is shown right
# below, if anything.
sub document_blocks
{
	my ($document) = @_;
	my $text = slurp_file("$top/$document");
	my @blocks;

	while ($text =~ /^```(sql|sh)\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?/msg)
	{
		my ($kind, $code, $output) = ($1, $2, $3);
		my $line = 2 + (substr($text, 0, $-[0]) =~ tr/\n//);
		push @blocks, { kind => $kind, code => $code, text => $output, line => $line };
	}
	return @blocks;
}

# Until the worker has done with what the blocks so far have queued; a paused account keeps what it has.
my $settle = 'DO $settle$ BEGIN FOR i IN 1 .. 600 LOOP EXIT WHEN to_regclass(\'lp_progress\') IS NULL; EXIT WHEN NOT EXISTS (SELECT FROM lp_progress'
  . " WHERE NOT paused AND pending + sending + uncertain > 0); PERFORM pg_sleep(0.05); END LOOP; END \$settle\$;\n";

# The make that is beside the stub.
my ($make) = grep { -x } map { "$_/make" } split(/:/, $ENV{PATH});

# Programs that a document names and a test does not run: what installs or builds is only looked at.
my %stubs = (
	# the user that is named decides the role; without it psql connects as a role that is not there. The user postgres cannot read
	# the directory of the source tree: homes usually have mode 0700.
	sudo => <<'END',
user=
while [ $# -gt 0 ]; do
	case $1 in
		-u) user=$2; shift 2 ;;
		*) break ;;
	esac
done
[ "$user" != postgres ] || { export PGUSER=$LPUSERS_SUPERUSER PGDATABASE=postgres; cd /; }
exec "$@"
END
	make    => qq{exec $make -s -n "\$@" >/dev/null\n},
	bash    => qq{exec /bin/bash -n "\$1"\n},
	install => qq{mkdir -p "\${\@: -1}"\n},
	map { $_ => "exit 0\n" } qw(apt-get docker dpkg-buildpackage pg_buildext pg_ctlcluster)
);

# A directory in which the commands of documents run: the files of the source tree, and programs that take the place of others.
sub _shell_directory
{
	my $directory = File::Temp->newdir();

	mkdir("$directory/bin") or die "mkdir: $!";
	symlink($_, "$directory/" . basename($_)) foreach glob("$top/*");
	foreach my $name (keys %stubs)
	{
		append_to_file("$directory/bin/$name", "#!/bin/bash\n$stubs{$name}");
		chmod(0755, "$directory/bin/$name");
	}
	return $directory;
}

# A block of shell commands as a line of psql. Its last line may open the session of the SQL blocks that follow.
sub _shell_line
{
	my ($node, $directory, $i, $code) = @_;
	my $session = $code =~ s/^sudo -u postgres psql(?: (\w+))?\n\z//m ? '\c ' . ($1 // 'postgres') . "\n" : '';
	my ($host, $port) = ($node->host, $node->port);

	# the stand-in account runs already
	$code =~ s/(lpsim --port) \d+ &/$1 0 -- true/;
	append_to_file("$directory/block$i", <<"END" . $code);
cd '$directory'
unset MAKEFLAGS MAKELEVEL MFLAGS
export PATH='$directory/bin':\$PATH PGHOST='$host' PGPORT=$port LPUSERS_SUPERUSER=\${PGUSER:-\$(id -un)}
export PGUSER=nobody_in_particular
END
	return "\\! /bin/bash -eo pipefail $directory/block$i >$directory/block$i.out 2>&1; echo \$? >$directory/block$i.status\n$session";
}

# Run the blocks of a document as they stand, in order, the SQL in one session. An output that is shown is what comes out, but
# for times and the ids that the account gives; without one there is no error, unless the block says "-- ERROR". Commands of
# the shell run as the user that they name, see %stubs. Returns how many blocks there are.
# Options: db; replace => { what the document says => what is so here }; settle => 1: wait for the queue between blocks;
# only => [first, last] blocks, from 0.
sub test_document
{
	my ($node, $document, %options) = @_;
	my %replace = %{ $options{replace} // {} };
	my @said    = sort { length($b) <=> length($a) } keys %replace;
	my @blocks  = document_blocks($document);
	my $script  = '';
	my $file    = File::Temp->new(SUFFIX => '.sql');
	my $directory = _shell_directory();
	my $out;

	my ($first, $last) = @{ $options{only} // [ 0, $#blocks ] };
	@blocks = @blocks[ $first .. ($last < 0 ? $#blocks : $last) ];
	foreach my $i (0 .. $#blocks)
	{
		my $code = $blocks[$i]{code};

		$code =~ s/\Q$_\E/$replace{$_}/g foreach @said;
		$script .= "\\echo <<<$i>>>\n";
		$script .= $blocks[$i]{kind} eq 'sh' ? _shell_line($node, $directory, $i, $code) : $code . ($options{settle} ? $settle : '');
	}
	print $file "$script\\echo <<<end>>>\n";
	close($file);
	IPC::Run::run([ 'psql', '-X', '-q', '-d', $node->connstr($options{db} // 'postgres'), '-f', "$file" ], '>', \$out, '2>&1');
	foreach my $i (0 .. $#blocks)
	{
		my $block = $blocks[$i];
		my $shell = $block->{kind} eq 'sh';
		my ($got) = $out =~ /<<<$i>>>\n(.*?)<<</s;

		$got = slurp_file("$directory/block$i.out") if $shell && -e "$directory/block$i.out";
		$got //= 'nothing: psql ended before';
		$got =~ s/\Q$replace{$_}\E/$_/g foreach @said;
		if ($shell)
		{
			my $status = -e "$directory/block$i.status" ? slurp_file("$directory/block$i.status") : "not run\n";

			is($status, "0\n", "$document:$block->{line}: the commands succeed") or diag($got);
		}
		if (defined $block->{text})
		{
			ok(index(_plain($got), _plain($block->{text})) >= 0, "$document:$block->{line}: the output is the one shown")
			  or diag("got:\n$got\n$document:\n$block->{text}");
		}
		elsif (!$shell && $block->{code} !~ /-- ERROR/)
		{
			unlike($got, qr/ERROR|FATAL|psql ended/, "$document:$block->{line}: no error") or diag($got);
		}
	}
	return scalar(@blocks);
}

# Without what differs from run to run: times, ids that the account gives, blanks.
sub _plain
{
	my ($text) = @_;

	$text =~ s/\d+ ms/N ms/g;
	$text =~ s/\(id \d+\)/(id N)/g;
	$text =~ s/\bPID \d+/PID N/g;
	$text =~ s/\b\d+\.\d{3}\b/T/g;
	$text =~ s/[ \t]+$//mg;
	$text =~ s/ {2,}/ /g;
	$text =~ s/-{2,}/--/g;
	$text =~ s/\n+$/\n/;
	return $text;
}

# Return the number of sockets of a process.
sub sockets_of
{
	my ($pid) = @_;

	return scalar(grep { (readlink($_) // '') =~ /^socket:/ } glob("/proc/$pid/fd/*"));
}

# ---------------------------------------------------------------------------------------------- a session of psql

# A psql that stays connected: my $s = LpUsers::session($node, db => …, role => …); it ends with the test.
#	my ($out, $err) = $s->run($sql);			errors are verbose, with their SQLSTATE
#	$s->send($sql); …; ($out, $err) = $s->take;	the same in two steps
package LpUsers::Session;

use strict;
use warnings;
use IO::Select;
use IPC::Open3;
use Symbol qw(gensym);

sub LpUsers::session
{
	my ($node, %options) = @_;
	my $self = bless { out => '', err => '', mark => 0, said => '' }, 'LpUsers::Session';
	my $error = $self->{from_err} = gensym;

	local $ENV{PGCLIENTENCODING} = $options{encoding} // 'UTF8';
	local $ENV{PGUSER} = $options{role} if $options{role};
	$self->{pid} = open3($self->{to}, $self->{from_out}, $error,
		'psql', '-XAtq', '-v', 'VERBOSITY=verbose', '-d', $node->connstr($options{db} // 'postgres'));
	LpUsers::remember_child($self->{pid});
	$self->run('SELECT 1');
	return $self;
}

sub send
{
	my ($self, $sql) = @_;

	$self->{mark}++;
	syswrite($self->{to}, "$sql\n;\n\\echo =$self->{mark}=\n\\warn =$self->{mark}=\n")
	  // die "psql has ended ($!): $self->{said}";
	return;
}

# What was printed until the mark; until the end of psql if it ends.
sub take
{
	my ($self) = @_;
	my %buffer = (out => \$self->{out}, err => \$self->{err});
	my $mark   = "=$self->{mark}=\n";
	my $end    = Time::HiRes::time() + $LpUsers::patience;
	my $select = IO::Select->new($self->{from_out}, $self->{from_err});

	while ($select->count && grep { index(${ $buffer{$_} }, $mark) < 0 } keys %buffer)
	{
		my @ready = $select->can_read($end - Time::HiRes::time());

		# nothing may also mean that a signal came: newer versions of IPC::Run listen for children that ended
		die "timed out waiting for psql: $self->{out} $self->{err}" unless @ready || Time::HiRes::time() < $end;
		foreach my $handle (@ready)
		{
			my $to = $handle == $self->{from_out} ? $buffer{out} : $buffer{err};
			$select->remove($handle) unless sysread($handle, $$to, 65536, length($$to));
		}
	}
	my ($out, $err) = map { s/\Q$mark\E//r } ($self->{out}, $self->{err});
	$self->{out} = $self->{err} = '';
	$self->{said} = $err if $err ne '';
	chomp($out);
	return ($out, $err);
}

sub run { my ($self, $sql) = @_; $self->send($sql); return $self->take; }

# Does what is under way have an error by now, or within so many seconds? To be called between send() and take().
sub has_error
{
	my ($self, $seconds) = @_;
	my $end = Time::HiRes::time() + ($seconds // 0);

	while ($self->{err} !~ /(?:ERROR|FATAL):  |server closed the connection/)
	{
		my $left = $end - Time::HiRes::time();
		return 0 unless IO::Select->new($self->{from_err})->can_read($left > 0 ? $left : 0);
		return 0 unless sysread($self->{from_err}, $self->{err}, 65536, length($self->{err}));
	}
	return 1;
}

# Return the output of statements that must succeed.
sub query
{
	my ($self, $sql) = @_;
	my ($out, $err) = $self->run($sql);

	die "unexpected error: $err" if $err =~ /(?:ERROR|FATAL):/;
	return $out;
}

# What waits for its next attempt is due now; with wake => 1 the worker is told. A deliverer that writes the same rows in
# another order meanwhile is no matter.
sub due_now
{
	my ($self, %options) = @_;
	my $err;

	do
	{
		(undef, $err) = $self->run("UPDATE lp_requests SET next_attempt_at = clock_timestamp()
			WHERE state IN ('pending', 'uncertain') AND next_attempt_at > clock_timestamp()");
	} while ($err =~ /ERROR:  40P01/);
	die "unexpected error: $err" if $err =~ /(?:ERROR|FATAL):/;
	$self->query('SELECT _lp_wake()') if $options{wake};
	return;
}

# A test: the scans of this session have left nothing, no list under way and no temporary file of the server.
sub nothing_left
{
	my ($self, $title) = @_;

	return Test::More::is($self->query("SELECT (SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'lpusers listing') || ' lists, ' ||
		(SELECT count(*) FROM pg_ls_tmpdir()) || ' files'"), '0 lists, 0 files', "$title: nothing is left");
}

sub quit
{
	my ($self) = @_;

	close($self->{to});
	waitpid($self->{pid}, 0);
	return;
}

# ----------------------------------------------------------------------------------------------
# queries to the account
package LpUsers::Account;

use JSON::PP;

sub url { return $_[0]{url}; }
sub tls_url { return $_[0]{tls_url}; }

sub _request
{
	my ($self, $method, $path, $body) = @_;
	my $answer = $self->{http}->request($method, "$self->{url}/_sim/$path",
		{ defined $body ? (content => ref $body ? JSON::PP::encode_json($body) : $body) : () });

	die "lpsim: $method $path: $answer->{status} $answer->{content}" unless $answer->{success};
	return $answer->{content};
}

# get('log'), get('users'): decoded JSON. text('created'): as it is. post('faults', {…}), remove('log'). A body may also be
# a JSON text.
sub get { my ($self, $path) = @_; return JSON::PP::decode_json($self->_request('GET', $path)); }
sub text { my ($self, $path) = @_; return $self->_request('GET', $path); }
sub post { my ($self, $path, $body) = @_; return $self->_request('POST', $path, $body // {}); }
sub remove { my ($self, $path) = @_; return $self->_request('DELETE', $path); }
sub reset { my ($self) = @_; return $self->_request('POST', 'reset'); }

# Logged requests that match: method, path (substring), login, status.
sub count
{
	my ($self, %match) = @_;

	return 0 + $self->text('count?' . $self->{http}->www_form_urlencode(\%match));
}

# Return the number of writes that the account has refused because of the revision.
sub stale { my ($self) = @_; return scalar(grep { $_->{status} == 412 } @{ $self->get('log') }); }

# Return the number of undeleted users with this login.
sub users_with
{
	my ($self, $login) = @_;

	return scalar(grep { !$_->{deleted} && $_->{loginName} eq $login } @{ $self->get('users') });
}

sub stop
{
	my ($self) = @_;

	kill('TERM', $self->{pid});
	waitpid($self->{pid}, 0);
	return;
}

1;

# TLS, redirects and proxies: the bearer token is sent only to the configured host, after its certificate was verified.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use IO::Socket::INET;
use LpPeer;
use LpUsers;
use MIME::Base64;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $certs = "$LpUsers::top/test/certs";
my $files = PostgreSQL::Test::Utils::tempdir();
my $sim   = LpUsers::account();

# A proxy that the environment names, in every way there is. Nothing may come to it.
my $unwanted = LpPeer::start(LpPeer::silent());
my $node;
{
	my @names = map { ($_, uc) } qw(http_proxy https_proxy all_proxy);

	local @ENV{@names} = ($unwanted->url) x @names;
	local @ENV{qw(no_proxy NO_PROXY)} = ('none.example') x 2;
	$node = LpUsers::server();
}
my $session = LpUsers::session($node);

# Replace the server "acme".
sub account_with
{
	my ($url, $options, $mapping) = @_;

	$options = $options ? ", $options" : '';
	$mapping = $mapping ? ", $mapping" : '';
	$session->query(qq{
		DROP SERVER IF EXISTS acme CASCADE;
		CREATE SERVER acme FOREIGN DATA WRAPPER lpusers OPTIONS (account '12345678', base_url '$url'$options);
		CREATE USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (token 'lp-token'$mapping);});
	return;
}

sub create { my ($name) = @_; return $session->run(LpUsers::create_sql($name)); }

sub refused
{
	my ($title) = @_;
	my ($out, $err) = create('refused');

	is($out, '', "$title: no row");
	like($err, qr/ERROR:  08001: could not connect to the account: .*DETAIL:  Nothing was sent\./s, "$title: 08001");
	unlike($err, qr/rolled back here/, "$title: no warning");
	return $err;
}

subtest 'an unverified certificate gets no bearer' => sub {
	account_with($sim->{tls_url}, "ca_file '$certs/ca.pem'");
	is_deeply([ create('good') ], [ '201|', '' ], 'a good certificate: answered');
	is_deeply([ map { $_->{tls} ? 'TLS' : 'plain' } @{ $sim->get('log') } ], ['TLS'], 'a good certificate: over TLS');
	like($sim->{tls_url}, qr/127\.0\.0\.1/, 'the name was an address');
	account_with($sim->{tls_url} =~ s/127\.0\.0\.1/localhost/r, "ca_file '$certs/ca.pem'");
	is_deeply([ create('localhost') ], [ '201|', '' ], 'the other name of the certificate: answered');

	$sim->reset;
	account_with($sim->{tls_url});
	like(refused('the system does not know the authority'), qr/certificate/i, 'the message speaks of the certificate');
	account_with($sim->{tls_url}, "ca_file '$certs/otherca.pem'");
	like(refused('another authority'), qr/certificate/i, 'the message speaks of the certificate');
	is(scalar(@{ $sim->get('log') }), 0, 'the account saw no request');

	foreach my $bad (qw(expired wrongname unknown))
	{
		my $other = LpUsers::account('--tls-cert', "$certs/$bad.pem", '--tls-key', "$certs/$bad.key");

		account_with($other->{tls_url}, "ca_file '$certs/ca.pem'");
		my $err = refused("certificate $bad");
		like($err, $bad eq 'wrongname' ? qr/127\.0\.0\.1|subject/i : qr/certificate/i, "certificate $bad: the message says so");
		is(scalar(@{ $other->get('log') }), 0, "certificate $bad: the account saw no request");
	}

	# TLS 1.1: a server that can nothing better, and proof that it works for a client that accepts it.
	SKIP:
	{
		my $port    = PostgreSQL::Test::Cluster::get_free_port();
		my @old     = ('-tls1_1', '-cipher', 'ALL:@SECLEVEL=0');
		my $pid     = fork() // die "fork: $!";
		my $connect = sub {
			return system("openssl s_client @old -connect 127.0.0.1:$port -CAfile $certs/ca.pem >$files/client 2>&1 </dev/null") == 0;
		};

		if ($pid == 0)
		{
			open(STDIN,  '<', '/dev/null');
			open(STDOUT, '>', "$files/served");
			open(STDERR, '>&', \*STDOUT);
			exec('openssl', 's_server', @old, '-accept', "127.0.0.1:$port", '-cert', "$certs/server.pem", '-key',
				"$certs/server.key", '-www')
			  or POSIX::_exit(127);
		}
		LpUsers::remember_child($pid);
		LpUsers::wait_for(
			sub { return IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) || waitpid($pid, POSIX::WNOHANG()) },
			's_server to listen');
		skip('this openssl does not speak TLS 1.1', 1) unless $connect->();
		like(slurp_file("$files/client"), qr/TLSv1\.1/, 'TLS 1.1: the server speaks it');
		account_with("https://127.0.0.1:$port", "ca_file '$certs/ca.pem'");
		refused('TLS 1.1');
		ok($connect->(), 'TLS 1.1: the server is still there');
	}
};

subtest 'five calls share a connection' => sub {
	account_with($sim->{tls_url}, "ca_file '$certs/ca.pem'");
	$sim->reset;
	my $connections = $sim->text('connections');
	is_deeply([ create("user$_") ], [ '201|', '' ], "call $_: answered") foreach 1 .. 5;
	is($sim->text('connections') - $connections, 1, 'five calls need one connection');
};

subtest 'redirects are not followed' => sub {
	foreach my $tls (0, 1)
	{
		my $title = 'redirect' . ($tls ? ', TLS' : '');
		my $goal  = LpPeer::start(LpPeer::silent());

		account_with($tls ? $sim->{tls_url} : $sim->{url}, $tls ? "ca_file '$certs/ca.pem'" : undef);
		$sim->reset;
		foreach my $code (302, 307, 308)
		{
			$sim->post('faults', { method => 'POST', path => '/users', action => 'redirect', status => $code,
					location => $goal->url . '/elsewhere' });
			my ($row, $problem) = create("redirect$code");
			like($row, qr/^$code\|./, "$title: the row has status $code and an error");
			is($problem, '', "$title: it is no error of SQL");
			is($sim->count(login => "redirect$code\@example.com"), 1, "$title: one POST");
		}
		is_deeply([ $goal->lines(qr/./) ], [], "$title: no request reached its target");
		is(0 + $sim->text('created'), 0, "$title: no user is created");
	}
};

subtest 'proxy variables of the environment are ignored' => sub {
	is_deeply([ $unwanted->lines(qr/./) ], [], 'the proxies of the environment were not used');

	my $proxy   = LpPeer::start(LpPeer::proxy('carrier', 'pigeon:7'));
	my $through = "ca_file '$certs/ca.pem', proxy '" . $proxy->url . "'";
	my ($host_port) = $sim->{tls_url} =~ m{//(.*)};
	account_with($sim->{tls_url}, $through, "proxy_user 'carrier', proxy_password 'pigeon:7'");
	$sim->reset;
	is_deeply([ create("proxied$_") ], [ '201|', '' ], "proxy: call $_ is answered") foreach 1, 2;
	is($sim->users_with('proxied1@example.com'), 1, 'proxy: the user is there');
	my @requests = $proxy->lines(qr/^request/);
	is(scalar(@requests), 1, 'proxy: both calls went through one CONNECT');
	like($requests[0], qr/^request 1 CONNECT \Q$host_port\E HTTP/, 'proxy: to the account');
	like($requests[0], qr/Proxy-Authorization: Basic \Q${\ encode_base64('carrier:pigeon:7', '')}\E \|/, 'proxy: with its credentials');
	unlike($requests[0], qr/lp-token|(?<!Proxy-)Authorization/, 'proxy: without the bearer');
	my $passed = join('', map { pack('H*', (split)[2]) } $proxy->lines(qr/^passed/));
	cmp_ok(length($passed), '>', 1000, 'proxy: it passed bytes on');
	unlike($passed, qr/lp-token|proxied1|Start-1234|pigeon/, 'proxy: of which it can read nothing');
	is(scalar(grep { $_->{bearer} ne '-token' } @{ $sim->get('log') }), 0, 'proxy: the account got the bearer');

	account_with($sim->{tls_url}, $through, "proxy_user 'carrier', proxy_password 'wrong'");
	$sim->reset;
	like(refused('proxy, wrong password'), qr/407/, 'proxy, wrong password: the message says so');
	account_with($sim->{tls_url}, $through);
	like(refused('proxy, no password'), qr/407/, 'proxy, no password: the message says so');
	is(scalar(@{ $sim->get('log') }), 0, 'proxy: the account saw no request');
	my $gone = PostgreSQL::Test::Cluster::get_free_port();
	account_with($sim->{tls_url}, "ca_file '$certs/ca.pem', proxy 'http://127.0.0.1:$gone'");
	refused('proxy that does not listen');
	is(scalar(@{ $sim->get('log') }), 0, 'a proxy that is not there is not passed by');
};

done_testing();

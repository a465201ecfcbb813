# What the environment of the server says to libcurl and its TLS library has no effect: proxies, exceptions to a proxy, .netrc and
# .curlrc, certificates, files for the keys of TLS sessions.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LpPeer;
use LpUsers;
use PostgreSQL::Test::Utils;
use Test::More;

my $certs = "$LpUsers::top/test/certs";
my $home  = PostgreSQL::Test::Utils::tempdir();
my $sim   = LpUsers::account();
my ($host_port) = $sim->tls_url =~ m{//(.*)};
my $unwanted = LpPeer::start(LpPeer::silent());		# to which nothing may come
my $proxy = LpPeer::start(LpPeer::proxy('carrier', 'pigeon:7'));

append_to_file("$home/$_", "machine 127.0.0.1 login from-netrc password from-netrc-4711\n") foreach '.netrc', '_netrc', 'netrc';
append_to_file("$home/.curlrc", "proxy = \"" . $unwanted->url . "\"\ninsecure\nheader = \"X-Curlrc: yes\"\n");
mkdir("$home/certs") or die "mkdir: $!";
my $hash = `openssl x509 -hash -noout -in '$certs/ca.pem'` =~ s/\n//r;
append_to_file("$home/certs/$hash.0", slurp_file("$certs/ca.pem"));

my %environment = (
	(map { $_ => $unwanted->url, uc($_) => $unwanted->url } qw(http_proxy https_proxy all_proxy ftp_proxy ws_proxy socks_proxy)),
	# the proxy of an option is to be passed by
	no_proxy => '*', NO_PROXY => '127.0.0.1,localhost,.liveperson.net',
	HOME => $home, CURL_HOME => $home, XDG_CONFIG_HOME => $home, NETRC => "$home/netrc",
	# the authority of the stand-in account is to be trusted
	SSL_CERT_FILE => "$certs/ca.pem", SSL_CERT_DIR => "$home/certs", CURL_CA_BUNDLE => "$certs/ca.pem", CURL_CA_PATH => "$home/certs",
	SSLKEYLOGFILE => "$home/keys", CURL_SSL_BACKEND => 'none-such', CURL_DEBUG => 'all', CURL_TRACE => 'all', CURL_VERBOSE => '1',
	CURL_IPRESOLVE => '6', CURL_NETRC => "$home/netrc", CURL_PROXY => $unwanted->url, REQUEST_METHOD => 'GET', HTTP_PROXY => $unwanted->url);
my $node;
{
	local @ENV{ keys %environment } = values %environment;
	$node = LpUsers::server(conf => "lpusers.worker = off\n");
}
my $session = LpUsers::session($node);

# ---------------------------------------------------------------------- requests ignore the environment

sub account_with
{
	my ($url, $options, $mapping) = @_;

	$session->query("DROP SERVER IF EXISTS acme CASCADE;
		CREATE SERVER acme FOREIGN DATA WRAPPER lpusers OPTIONS (account '12345678', base_url '$url'$options);
		CREATE USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (token 'lp-token'$mapping)");
	return;
}
sub create { my ($name) = @_; return $session->run(LpUsers::create_sql($name)); }

subtest 'requests ignore the environment' => sub {
	# The environment that the postmaster was started with.
	my $of_server = slurp_file('/proc/' . $session->query("SELECT pg_read_file('postmaster.pid')") =~ s/\n.*//sr . '/environ');
	is(join(' ', grep { index("\0$of_server\0", "\0$_=$environment{$_}\0") < 0 } sort keys %environment), '', 'the server has this environment');

	account_with($sim->url, '', '');
	is_deeply([ create('plain') ], [ '201|', '' ], 'http: the account is reached, by no proxy');
	account_with($sim->tls_url, ", ca_file '$certs/ca.pem'", '');
	is_deeply([ create('secured') ], [ '201|', '' ], 'https: the account is reached, by no proxy');
	my @log = @{ $sim->get('log') };
	is(join(' ', map { $_->{bearer} } @log), join(' ', map { '-token' } @log), '... with the bearer, not with what a .netrc says');
	is_deeply([ $unwanted->lines(qr/./) ], [], '... nothing came to the proxies of the environment');
	ok(!-e "$home/keys", 'no key of a TLS session is written');

	account_with($sim->tls_url, '', '');
	my ($out, $err) = create('untrusted');
	is($out, '', 'an authority that only the environment names: no answer');
	like($err, qr/ERROR:  08001: .*certificate/s, '... the certificate is not trusted');

	$sim->remove('log');
	account_with($sim->tls_url, ", ca_file '$certs/ca.pem', proxy '" . $proxy->url . "'", ", proxy_user 'carrier', proxy_password 'pigeon:7'");
	is_deeply([ create('proxied') ], [ '201|', '' ], 'a proxy as an option: the account is reached');
	is(scalar(grep { /CONNECT \Q$host_port\E / } $proxy->lines(qr/^request/)), 1, '... through the proxy, whatever no_proxy says');
	account_with($sim->tls_url, ", ca_file '$certs/ca.pem', proxy 'http://127.0.0.1:1'", '');
	($out, $err) = create('bypassed');
	like($err, qr/ERROR:  08001/, '... and not if the proxy is not there');
};

subtest 'the worker ignores the environment' => sub {
	# the worker has the same environment
	$node->safe_psql('postgres', $_) foreach 'ALTER SYSTEM SET lpusers.worker = on', 'SELECT pg_reload_conf()';
	LpUsers::wait_for(sub { $session->query('SHOW lpusers.worker') eq 'on' }, 'the setting');
	account_with($sim->tls_url, ", ca_file '$certs/ca.pem', proxy '" . $proxy->url . "'", ", proxy_user 'carrier', proxy_password 'pigeon:7'");
	$session->query("SELECT lp_enqueue_users('12345678', '[" . LpUsers::user('queued') . "]')");
	LpUsers::wait_for(sub { $session->query("SELECT state FROM lp_results WHERE login_name = 'queued\@example.com'") eq 'created' }, 'the worker to deliver');
	is(scalar(grep { /CONNECT \Q$host_port\E / } $proxy->lines(qr/^request/)), 2, 'the worker goes through the proxy');
	is_deeply([ $unwanted->lines(qr/./) ], [], 'nothing came to the proxies of the environment');
	ok(!-e "$home/keys", 'no key of a TLS session is written');

	$session->quit;
	$sim->stop;
};

done_testing();

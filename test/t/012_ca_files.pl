# Certificate authorities: read once for the connections of a mapping, and those of one file are never those of another.
use strict;
use warnings;
use File::Copy;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LpUsers;
use PostgreSQL::Test::Utils;
use Test::More;

my $certs   = "$LpUsers::top/test/certs";
my $files   = PostgreSQL::Test::Utils::tempdir();
my $sim     = LpUsers::account();
my $node    = LpUsers::server();
my $session = LpUsers::session($node);

sub create { my ($name) = @_; return $session->run(LpUsers::create_sql($name)); }
sub ca_file { my ($file) = @_; $session->query("ALTER SERVER acme OPTIONS (SET ca_file '$file')"); return; }
sub close_after { my (%fault) = @_; $sim->post('faults', { method => 'POST', path => '/users', action => 'close', %fault }); return; }

sub refused
{
	my ($title) = @_;
	my ($out, $err) = create('refused');

	is($out, '', "$title: no row");
	like($err, qr/ERROR:  08001: could not connect to the account: .*(certificate|trust anchors).*DETAIL:  Nothing was sent\./is, "$title: 08001");
	return;
}

LpUsers::connect_account($node, $sim, tls => 1);

subtest 'a certificate file is read once for the connections of a mapping' => sub {
	# The file is gone when the connection is made anew. A new session proves that it is not taken from elsewhere. From 8.17 on
	# libcurl reads it each time if it was built with a directory of certificates.
	my ($libcurl) = qx(curl --version) =~ m{libcurl/(\d+\.\d+)};
	my $caches = version->parse("v$libcurl") < v8.17;
	copy("$certs/ca.pem", "$files/ca.pem") or die "copy: $!";
	ca_file("$files/ca.pem");
	my $connections = $sim->text('connections');
	is_deeply([ create('before') ], [ '201|', '' ], 'the first call reads it');
	unlink("$files/ca.pem") or die "unlink: $!";
	close_after();
	like((create('closed'))[1], qr/ERROR:  08006/, 'the connection is closed');
	SKIP:
	{
		skip "libcurl $libcurl reads it for each connection", 2 unless $caches;
		is_deeply([ create('after') ], [ '201|', '' ], 'a new connection does not read it again');
		is($sim->text('connections') - $connections, 2, 'it was a new connection');
	}
	my ($status, $out, $err) = LpUsers::try_sql($node, LpUsers::create_sql('elsewhere') . ';');
	like($err, qr/ERROR:  08001: .*Nothing was sent/s, 'another session misses it');
	is($sim->count(login => 'elsewhere@example.com'), 0, 'and sends nothing');
};

subtest 'connections of one certificate file are not used with another' => sub {
	$sim->reset;
	foreach my $n (1, 2)
	{
		ca_file("$certs/ca.pem");
		is_deeply([ create("mine$n") ], [ '201|', '' ], "$n: trusted");
		ca_file("$certs/otherca.pem");
		refused("$n: another authority");
	}
	is(scalar(grep { $_->{method} eq 'POST' } @{ $sim->get('log') }), 2, 'two requests arrived');

	# Several in one file, of which the one that is needed is the last.
	append_to_file("$files/many.pem", slurp_file("$certs/otherca.pem") . slurp_file("$certs/ca.pem"));
	ca_file("$files/many.pem");
	is_deeply([ create("many$_") ], [ '201|', '' ], "the second of a file, call $_") foreach 1, 2;
	close_after();
	like((create('many3'))[1], qr/ERROR:  08006/, '... the connection is closed');
	is_deeply([ create('many4') ], [ '201|', '' ], '... and made anew');

	# What is no certificate, or not there.
	foreach my $bad ([ 'empty', '' ], [ 'text', "not a certificate\n" ], [ 'damaged', "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" ])
	{
		append_to_file("$files/$bad->[0]", $bad->[1]);
		ca_file("$files/$bad->[0]");
		refused("a file that is $bad->[0]");
		ca_file("$certs/ca.pem");
		is_deeply([ create("after_$bad->[0]") ], [ '201|', '' ], '... and a good one after it');
	}

	# The system's authorities do not know ours, before and after.
	$session->query('ALTER SERVER acme OPTIONS (DROP ca_file)');
	refused('the authorities of the system');
	$session->query("ALTER SERVER acme OPTIONS (ADD ca_file '$certs/ca.pem')");
	is_deeply([ create('last') ], [ '201|', '' ], 'with ca_file again');

	# Connections of one mapping that are made at the same time.
	$session->query("ALTER SERVER acme OPTIONS (ADD batch_size '1', ADD max_connections '4')");
	$session->query("SELECT lp_enqueue_users('12345678', '[" . join(',', map { LpUsers::user("batch$_") } 1 .. 8) . "]')");
	LpUsers::wait_for(sub { $session->query("SELECT count(*) FROM lp_requests WHERE login_name ~ '^batch' AND state = 'created'") == 8 }, 'the worker to deliver');
	is(scalar(grep { $sim->users_with("batch$_\@example.com") == 1 } 1 .. 8), 8, 'the worker, with connections at the same time');
};

unlike(LpUsers::log_since($node, 0), qr/terminated by signal|TRAP:|PANIC:/, 'nothing crashed');
done_testing();

# A list as a stream of bytes: compressed, in chunks, until the end of the connection, over TLS; whole, and broken in every
# one of these ways. The peers of LpPeer send bytes that no well-built server would.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use Digest::MD5 qw(md5_base64);
use IO::Compress::Gzip qw(gzip);
use LpPeer;
use LpUsers;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = LpUsers::server();
my $certs = "$LpUsers::top/test/certs";
$node->safe_psql('postgres', qq{
	CREATE SERVER acme FOREIGN DATA WRAPPER lpusers OPTIONS (account '12345678', base_url 'http://127.0.0.1:1', ca_file '$certs/ca.pem', timeout '60s');
	CREATE USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (token 'lp-token');
	CREATE SCHEMA lp; IMPORT FOREIGN SCHEMA liveperson FROM SERVER acme INTO lp;});
my $session = LpUsers::session($node);
my $broken = qr/ERROR:  08006: could not list users/;
my ($out, $err);

# A list of so many users as JSON that does not compress well, and the head of its answer.
sub json_list { my ($n) = @_; return '[' . join(',', map { qq({"id":$_,"loginName":"peer$_","fullName":") . md5_base64($_) . '"}' } 1 .. $n) . ']'; }
sub head { my (@headers) = @_; return join("\r\n", 'HTTP/1.1 200 OK', 'Content-Type: application/json', @headers, '', ''); }
sub chunked { my ($bytes, $n) = @_; return join('', map { sprintf("%x\r\n%s\r\n", length($_), $_) } unpack("(a$n)*", $bytes)); }

my $list = json_list(20000);
my $length = 'Content-Length: ' . length($list);
gzip(\$list => \my $zipped) or die 'gzip';
my $zipped_head = head('Content-Encoding: gzip', 'Content-Length: ' . length($zipped));
my $damaged = $zipped;
substr($damaged, length($damaged) / 2, 40) = "\xff" x 40;
my $repetitive = '[' . join(',', ('{"id":1,"loginName":"' . 'x' x 1000 . '"}') x 10000) . ']';
gzip(\$repetitive => \my $bomb) or die 'gzip';

subtest 'a list in each encoding, whole and broken' => sub {
	# What the peer sends, and whether that is a list (of how many) or an error.
	my %answers = (
		'whole'                        => [ head($length) . $list, 20000 ],
		'gzip'                         => [ $zipped_head . $zipped, 20000 ],
		'gzip in chunks'               => [ head('Content-Encoding: gzip', 'Transfer-Encoding: chunked') . chunked($zipped, 1000) . "0\r\n\r\n", 20000 ],
		'gzip that becomes 10 MB'      => [ head('Content-Encoding: gzip', 'Content-Length: ' . length($bomb)) . $bomb, 10000 ],
		'chunks of a byte'             => [ head('Transfer-Encoding: chunked') . chunked(json_list(300), 1) . "0\r\n\r\n", 300 ],
		'until the end of the connection' => [ head('Connection: close') . $list, 20000 ],
		'gzip, cut'                    => [ $zipped_head . substr($zipped, 0, length($zipped) / 2), $broken ],
		'gzip, cut, its length right'  => [ head('Content-Encoding: gzip', 'Content-Length: ' . int(length($zipped) / 2)) . substr($zipped, 0, length($zipped) / 2), $broken ],
		'gzip, damaged'                => [ $zipped_head . $damaged, $broken ],
		'gzip that is none'            => [ head('Content-Encoding: gzip', $length) . $list, $broken ],
		'an encoding that nobody asked for' => [ head('Content-Encoding: rot13', $length) . $list, $broken ],
		'cut at the end of the connection' => [ head('Connection: close') . substr($list, 0, length($list) / 2), $broken ],
		'a chunk without a size'       => [ head('Transfer-Encoding: chunked') . chunked(substr($list, 0, 1_000_000), 50000) . "what\r\n", $broken ],
		'chunks without an end'        => [ head('Transfer-Encoding: chunked') . chunked($list, 50000), $broken ],
		'a list and another'           => [ head('Content-Length: ' . 2 * length($list)) . $list . $list, $broken ],
		'a length too small'           => [ head('Content-Length: 1000000') . $list, $broken ],
		'an endless header'            => [ "HTTP/1.1 200 OK\r\nX: " . 'x' x 2_000_000, $broken ],
		'a head that is cut'           => [ substr(head($length), 0, 30), $broken ],
		'no HTTP'                      => [ "220 mail.example ESMTP\r\n", $broken ],
		'204 and a list'               => [ "HTTP/1.1 204 No Content\r\n$length\r\n\r\n$list", 0 ],);

	foreach my $title (sort keys %answers)
	{
		my ($bytes, $expected) = @{ $answers{$title} };

		foreach my $tls (0, 1)
		{
			next if $tls && LpPeer::tls_trouble();
			# over TLS the end of a connection is announced, or it is none
			my $peer = LpPeer::start(LpPeer::script(sub { my ($connection) = @_; print {$connection} $bytes; LpPeer::end_connection($connection, 'fin'); return 0; }),
				tls => $tls, certs => $certs, alpn => [ 'h2', 'http/1.1' ]);

			$session->query("ALTER SERVER acme OPTIONS (SET base_url '" . $peer->url . "')");
			my $how = $tls ? "$title, TLS" : $title;
			($out, $err) = $session->run('SELECT count(*), count(DISTINCT login_name) > 0 FROM lp.users');
			if (ref $expected)
			{
				like($err, $expected, $how);
				is($out, '', "$how: no row");
			}
			else
			{
				is("$out$err", $expected ? "$expected|t" : '0|f', $how);
			}
			my @requests = $peer->lines(qr/^request/);
			is(scalar(grep { m{ GET /api/account/12345678/configuration/le-users/users\?.* HTTP/1\.1 } } @requests), scalar(@requests),
				"$how: asked over HTTP/1.1, for a connection of its own");
			$peer->stop;
		}
	}
};

subtest 'the end of a list is read after the connection is closed' => sub {
	# The service has sent all and closed the connection, and the reader has not taken all: what is still to be read stays, also
	# when another request begins meanwhile.
	{
		my $some = json_list(5800);
		my $peer = LpPeer::start(LpPeer::script(sub {
			my ($connection, $head) = @_;
			my ($close, $body) = $head =~ m{/users/\d} ? ('keep-alive', '{"id":1,"loginName":"peer1"}') : ('close', $some);
			print {$connection} head("Connection: $close", 'Content-Length: ' . length($body)) . $body;
			return $close ne 'close';
		}));
		cmp_ok(length($some), '>', 400_000, 'more than is taken at first');
		cmp_ok(length($some), '<', 440_000, '... and the rest fits into the socket');
		$session->query("ALTER SERVER acme OPTIONS (SET base_url '" . $peer->url . "')");
		$session->query(q{CREATE FUNCTION later(n bigint) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
			IF n = 1 THEN PERFORM pg_sleep(0.5); END IF; RETURN (SELECT login_name FROM lp.users WHERE id = 1); END $$});
		($out, $err) = $session->run('SELECT count(*), count(CASE WHEN id IN (1, 5000) THEN later(id) END) FROM lp.users');
		is("$out$err", '5800|2', 'a list that waits for its reader, and another request');
		$peer->stop;
	}
};

subtest 'bytes after the end of a list' => sub {
	# More comes than the answer said, and the reader has not taken all: libcurl 8.14 then wants to be called again and again.
	# That must keep neither the reader from the rest nor a request to another account from its answer.
	{
		my $peer = LpPeer::start(LpPeer::script(sub { my ($connection) = @_; print {$connection} head($length) . $list . 'more'; return 1; }));
		my $other = LpPeer::start(LpPeer::script(sub {
			my ($connection) = @_;
			my $one = '{"id":1,"loginName":"peer1"}';
			print {$connection} head('Content-Length: ' . length($one)) . $one;
			return 1;
		}));
		$session->query("ALTER SERVER acme OPTIONS (SET base_url '" . $peer->url . "')");
		$session->query("CREATE SERVER other FOREIGN DATA WRAPPER lpusers OPTIONS (account 'other', base_url '" . $other->url . "', timeout '60s');
			CREATE USER MAPPING FOR CURRENT_USER SERVER other OPTIONS (token 'lp-token');
			CREATE SCHEMA other; IMPORT FOREIGN SCHEMA liveperson FROM SERVER other INTO other");
		($out, $err) = $session->run('SELECT count(*), count(CASE WHEN id IN (1, 2, 10000) THEN (SELECT o.login_name FROM other.users o WHERE o.id = u.id - u.id + 1) END)
			FROM lp.users u');
		is("$out$err", '20000|3', 'a list with more behind it, and requests to another account');
		$_->stop foreach $peer, $other;
	}
};

my $log = slurp_file($node->logfile);
unlike($log, qr/temporary file leak|resource was not closed|leaked/, 'the log knows of no leak');
unlike($log, qr/PANIC|TRAP|terminated by signal/, 'nor of a crash');
done_testing();

# A POST is sent once: also when a kept connection dies under it, where libcurl would send it again by itself.
#
# The peers of LpPeer end their first connection during its second request, and serve every further connection well: a
# request that is repeated would be answered 201.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LpPeer;
use LpUsers;
use Test::More;

my $certs       = "$LpUsers::top/test/certs";
my $tls_trouble = LpPeer::tls_trouble();
my $sim         = LpUsers::account();
my $node        = LpUsers::server();
my $session     = LpUsers::session($node);
my $accounts    = 0;

# A new account "aN" at this URL; returns its name.
sub account_at
{
	my ($url, $tls) = @_;
	my $account = 'a' . ++$accounts;
	my $ca      = $tls ? ", ca_file '$certs/ca.pem'" : '';

	$session->query(qq{
		CREATE SERVER $account FOREIGN DATA WRAPPER lpusers OPTIONS (account '$account', base_url '$url'$ca);
		CREATE USER MAPPING FOR CURRENT_USER SERVER $account OPTIONS (token 'lp-token');});
	return $account;
}

# Create a user, in a request of so many bytes.
sub create
{
	my ($account, $name, $size) = @_;
	my $sql = $size ? LpUsers::create_large_sql($name, $size) : LpUsers::create_sql($name);

	return $session->run($sql =~ s/12345678/$account/r);
}

sub records
{
	my ($account) = @_;

	return $session->query("SELECT string_agg(login_name || ' ' || state, ', ' ORDER BY id) FROM lp_results WHERE account = '$account' AND login_name NOT LIKE 'filler%'");
}

sub unknown_outcome
{
	my ($err, $title) = @_;

	like($err, qr/ERROR:  08006: no response from the account.*DETAIL:  Outcome unknown/s, "$title: 08006, outcome unknown");
	like($err, qr/WARNING: .*may have carried it out.*second\@example\.com/, "$title: the rollback names the user");
	return;
}

# Three calls of one session; the connection dies under the second.
sub three_calls
{
	my ($title, $peer, $whole, $size) = @_;
	my $account = account_at($peer->url, $peer->{scheme} eq 'https');
	my ($out, $err) = create($account, 'first');

	is("$out$err", '201|', "$title: the first call is answered");
	($out, $err) = create($account, 'second', $size);
	is($out, '', "$title: the second call returns no row");
	unknown_outcome($err, $title);
	my @second = $peer->lines(qr/^complete \d+ POST second\@/);
	is(scalar(@second), $whole, "$title: the peer read the second POST " . ($whole ? 'once' : 'never to its end'));
	($out, $err) = create($account, 'third');
	is("$out$err", '201|', "$title: the third call is answered");
	my @begun = map { /^begun (\d+)/ } $peer->lines(qr/^begun \d+ POST/);
	like("@begun", qr/^1 1 [2-9]$/, "$title: three POSTs, the last on a new connection");
	is(records($account), 'first@example.com created, third@example.com created', "$title: the record");
	is_deeply([ $peer->lines(qr/^error/) ], [], "$title: the peer had no trouble");
	return;
}

# The peer closes between two calls, as a server does after its keep-alive time.
sub idle_close
{
	my ($title, $peer) = @_;
	my $account = account_at($peer->url, $peer->{scheme} eq 'https');

	foreach my $name (qw(first second))
	{
		my ($out, $err) = create($account, $name);
		is("$out$err", '201|', "$title: the $name call is answered");
		is(scalar(() = $peer->lines(qr/^complete \d+ POST $name\@/)), 1, "$title: one POST of the $name call");
		next if $name eq 'second';
		$peer->hang_up;
		LpUsers::wait_for(sub { $peer->lines(qr/^closed 1/) }, 'the peer to close');
	}
	is(scalar(() = $peer->lines(qr/^connection/)), 2, "$title: the second call made a connection");
	return;
}

# A GET may be repeated.
sub kept_get
{
	my ($title, $peer) = @_;
	my $account = account_at($peer->url, $peer->{scheme} eq 'https');

	foreach my $name (qw(first second third))
	{
		my $read = $session->query("SELECT ok FROM lp_check('$account') WHERE step = 'read'");
		is($read, 't', "$title: the $name lp_check() can read");
	}
	is(scalar(() = $peer->lines(qr/^complete 1 GET/)), 2, "$title: the second died");
	is(scalar(() = $peer->lines(qr/^complete [2-9] GET/)), 2, "$title: and was repeated");
	return;
}

my %whole = (headers_fin => 0, headers_rst => 0);
my $large = 16_000_000;		# more than the buffers of a connection take: it dies in the middle of the body

subtest 'a POST on a plain connection that dies is not repeated' => sub {
	foreach my $end (qw(fin rst half_status headers_fin headers_rst))
	{
		three_calls("HTTP/1.1, $end", LpPeer::start(LpPeer::http($end)), $whole{$end} // 1);
	}
	three_calls('HTTP/1.1, large', LpPeer::start(LpPeer::http('headers_rst')), 0, $large);
	idle_close('HTTP/1.1, idle', LpPeer::start(LpPeer::http('idle')));
	kept_get('HTTP/1.1, GET', LpPeer::start(LpPeer::http('fin')));
};

subtest 'a POST on a TLS connection that dies is not repeated' => sub {
	SKIP:
	{
		skip($tls_trouble, 1) if $tls_trouble;
		foreach my $end (qw(fin cut rst half_status headers_fin headers_rst))
		{
			three_calls("TLS, $end", LpPeer::start(LpPeer::http($end), tls => 1, certs => $certs), $whole{$end} // 1);
		}
		three_calls('TLS, large', LpPeer::start(LpPeer::http('headers_rst'), tls => 1, certs => $certs), 0, $large);
		idle_close('TLS, idle', LpPeer::start(LpPeer::http('idle'), tls => 1, certs => $certs));
		kept_get('TLS, GET', LpPeer::start(LpPeer::http('fin'), tls => 1, certs => $certs));
	}
};

subtest 'HTTP/1.1 is used with a server that offers HTTP/2' => sub {
	# All requests are HTTP/1.1, also to a peer that prefers HTTP/2.
	SKIP:
	{
		skip($tls_trouble, 1) if $tls_trouble;
		three_calls('HTTP/2 is offered', LpPeer::start(LpPeer::http('fin'), tls => 1, certs => $certs, alpn => [ 'h2', 'http/1.1' ]), 1);
	}
};

subtest 'the account got each POST once' => sub {
	# The stand-in account: was it carried out, and how often?
	foreach my $tls (0, 1)
	{
		my $account = '12345678';

		LpUsers::connect_account($node, $sim, server => "sim$tls", tls => $tls);
		foreach my $action (qw(reset close))
		{
			foreach my $applied (0, 1)
			{
				my $title = ($tls ? 'TLS' : 'plain') . ", $action " . ($applied ? 'after' : 'before') . ' it is carried out';
				my ($out, $err);

				$sim->reset;
				($out, $err) = create($account, 'first');
				is("$out$err", '201|', "$title: the first call is answered");
				$sim->post('faults', { method => 'POST', path => '/users', kept_only => \1, times => 0,
						action => $action, applied => $applied ? \1 : \0 });
				($out, $err) = create($account, 'second');
				unknown_outcome($err, $title);
				is($sim->count(method => 'POST', path => '/users', login => 'second@example.com'), 1, "$title: one POST");
				is($sim->users_with('second@example.com'), $applied, "$title: the account has the user $applied times");
				is($sim->get('faults')->[0]{struck}, 1, "$title: the fault struck once");
				($out, $err) = create($account, 'third');
				is("$out$err", '201|', "$title: the next call is answered");
				is($sim->text('duplicates') =~ s/\s//gr, '[]', "$title: no login exists twice");
			}
		}
		# A GET that breaks off is sent once more, also on a connection that was made for it.
		foreach my $times (1, 2)
		{
			my $fresh = LpUsers::session($node);

			$sim->reset;
			$sim->post('faults', { method => 'GET', path => '/users', action => 'reset', times => $times });
			is($fresh->query("SELECT ok FROM lp_check('$account') WHERE step = 'read'"), $times == 1 ? 't' : 'f',
				"tls $tls: a GET that breaks off $times times in a row");
			is($sim->count(method => 'GET', path => '/users'), 2, "tls $tls: ... was sent twice");
			$fresh->quit;
		}
		$session->query("DROP SERVER sim$tls CASCADE");
	}
};

done_testing();

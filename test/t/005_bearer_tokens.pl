# Authentication: how a bearer is obtained, kept, renewed and given up, and that no secret is ever seen.
#
# Everything goes over TLS to the addresses that the Domain API names.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use File::Temp;
use LpUsers;
use POSIX qw(mkfifo);
use Test::More;
use Time::HiRes qw(usleep time);

# What must never be read anywhere.
my @secrets = ('lp-client-secret', 'lp-user-password', 'wrong-secret-71', 'wrong-password-72', 'tok-secret-0001', 'lp-token',
	'old-token-73', 'Start-1234');

my $sim  = LpUsers::account();
my $node = LpUsers::server(conf => "log_min_messages = debug5\nlog_statement = none\n");
my $dir  = File::Temp->newdir();

# The text of DDL is not ours: it is kept out of the log here.
sub ddl
{
	my ($sql) = @_;

	$node->safe_psql('postgres', "SET log_min_messages = fatal; SET log_min_error_statement = panic; $sql");
	return;
}

# A server for account 12345678 (all services looked up), and a role with a mapping on it.
sub add_role
{
	my ($role, $mapping, %options) = @_;
	my $server = $options{server} // 'acme';

	ddl(qq{CREATE ROLE $role LOGIN; GRANT USAGE ON FOREIGN SERVER $server TO $role;
		GRANT EXECUTE ON FUNCTION lp_create_users TO $role; CREATE USER MAPPING FOR $role SERVER $server OPTIONS ($mapping)});
	return;
}

sub token_requests { return $sim->count(method => 'POST', path => '/app/token'); }
sub logins { return $sim->count(method => 'POST', path => '/login'); }
sub posts { return $sim->count(method => 'POST', path => '/configuration/le-users/users'); }

# The create must fail with this SQLSTATE and message, and the account must see nothing.
sub fails_unsent
{
	my ($session, $name, $code, $message, $what) = @_;
	my $before = posts();
	my ($out, $err) = $session->run(LpUsers::create_sql($name));

	like($err, qr/ERROR:  $code: .*$message/s, "$what: $code");
	is($out, '', "$what: no row");
	is(posts() - $before, 0, "$what: the account saw no POST");
	is($sim->users_with("$name\@example.com"), 0, "$what: nobody was created");
	return $err;
}

ddl("CREATE SERVER acme FOREIGN DATA WRAPPER lpusers OPTIONS (account '12345678', domain_api_url '" . $sim->tls_url .
	"', ca_file '$LpUsers::top/test/certs/ca.pem')");
my $oauth = "client_id 'lp-client', client_secret 'lp-client-secret'";
add_role('oauth', $oauth);
add_role('ready', "token 'lp-token'");
add_role('login', "username 'lp-user', password 'lp-user-password'");

subtest 'each authentication method obtains a bearer' => sub {
	foreach my $way ([ 'oauth', 1, 0 ], [ 'ready', 0, 0 ], [ 'login', 0, 1 ])
	{
		my ($role, $tokens, $logins) = @$way;

		$sim->remove('log');
		my $session = LpUsers::session($node, role => $role);
		foreach my $n (1 .. 3)
		{
			is($session->query(LpUsers::create_sql("$role$n")), '201|', "$role: user $n is created");
			is($sim->users_with("$role$n\@example.com"), 1, "$role: user $n exists once");
		}
		is(token_requests(), $tokens, "$role: requests to the token service in a session");
		is(logins(), $logins, "$role: requests to the Login service in a session");
		is(scalar(grep { !$_->{tls} } @{ $sim->get('log') }), 0, "$role: all over TLS");
		$session->quit;
	}
};

subtest 'a bearer is renewed when it expires or is rejected' => sub {
	# Shortly before it expires: with a life of 8 s, 2 s before its end. No request ever goes out with an old token.
	$sim->post('config', { token_ttl => 8 });
	foreach my $role ('oauth', 'login')
	{
		$sim->remove('log');
		my $session = LpUsers::session($node, role => $role);
		my $calls = 0;

		LpUsers::wait_for(
			sub {
				$session->query("SELECT ok FROM lp_check('12345678')");
				$calls++;
				return token_requests() + logins() >= 2;
			}, 'a renewal');
		cmp_ok($calls, '>', 1, "$role: kept for more than one call");
		is($sim->count(status => 401), 0, "$role: renewed before it expired");
		$session->quit;
	}
	$sim->post('config', { token_ttl => 3600 });

	foreach my $role ('oauth', 'login')
	{
		my $session = LpUsers::session($node, role => $role);

		$session->query(LpUsers::create_sql("$role-first"));
		$sim->post('tokens/expire');
		$sim->remove('log');
		is($session->query(LpUsers::create_sql("$role-renewed")), '201|', "$role: created with a renewed token");
		is(token_requests() + logins(), 1, "$role: renewed once");
		is(posts(), 2, "$role: two POSTs, one of them refused");
		is($sim->count(method => 'POST', path => '/users', status => 401), 1, "$role: ... with 401");
		is($sim->users_with("$role-renewed\@example.com"), 1, "$role: one user");

		$sim->post('faults', { path => '/le-users', action => 'status', status => 401, times => 0 });
		$sim->remove('log');
		like($session->query(LpUsers::create_sql("$role-refused")), qr/^401\|./, "$role: every token refused is a row");
		is(posts(), 2, "$role: exactly two POSTs");
		is(token_requests() + logins(), 1, "$role: renewed once, then given up");
		is($sim->users_with("$role-refused\@example.com"), 0, "$role: none applied");
		$sim->remove('faults');
		is($session->query(LpUsers::create_sql("$role-again")), '201|', "$role: the next call works");
		is($node->safe_psql('postgres', "SELECT state, status FROM lp_results WHERE login_name = '$role-refused\@example.com'"),
			'failed|401', "$role: on record");
		$session->quit;
	}

	{
		my $session = LpUsers::session($node, role => 'ready');

		$sim->post('faults', { path => '/le-users', action => 'status', status => 401, times => 0 });
		$sim->remove('log');
		like($session->query(LpUsers::create_sql('ready-refused')), qr/^401\|/, 'a ready token refused is a row');
		is(posts(), 1, 'it is not sent again with the same token');
		$sim->remove('faults');
		$session->quit;
	}
};

subtest 'DDL on a mapping drops its bearer' => sub {
	my @sessions = map { LpUsers::session($node, role => 'oauth') } 1 .. 2;
	my $n = 0;

	foreach my $change (
		"ALTER USER MAPPING FOR oauth SERVER acme OPTIONS (SET client_id 'lp-client')",
		"ALTER SERVER acme OPTIONS (ADD timeout '50s')",
		"ALTER SERVER acme OPTIONS (DROP timeout)",
		"DROP USER MAPPING FOR oauth SERVER acme; CREATE USER MAPPING FOR oauth SERVER acme OPTIONS ($oauth)")
	{
		my ($what) = $change =~ /^(\w+ \w+)/;

		$_->query(LpUsers::create_sql('ddl' . ++$n)) foreach @sessions;
		$sim->remove('log');
		$_->query(LpUsers::create_sql('ddl' . ++$n)) foreach @sessions;
		is(token_requests(), 0, "$what: before it both sessions keep their tokens");
		ddl($change);
		$_->query(LpUsers::create_sql('ddl' . ++$n)) foreach @sessions;
		is(token_requests(), 2, "$what: both sessions ask anew");
	}

	# while a request is under way
	$sim->post('faults', { path => '/users', action => 'delay', ms => 2000 });
	$sim->remove('log');
	$sessions[0]->send(LpUsers::create_sql('ddl-meanwhile'));
	LpUsers::wait_for(sub { posts() == 1 }, 'the request');
	ddl("ALTER USER MAPPING FOR oauth SERVER acme OPTIONS (SET client_id 'lp-client')");
	is(($sessions[0]->take)[0], '201|', 'ALTER under way: the request is answered');
	is($sim->users_with('ddl-meanwhile@example.com'), 1, 'ALTER under way: one user');
	is($sessions[0]->query(LpUsers::create_sql('ddl-afterwards')), '201|', 'ALTER under way: the next call works');
	is(token_requests(), 1, 'ALTER under way: ... with a new token');

	# rolled back
	my $root = LpUsers::session($node);
	$root->query("SET log_min_messages = fatal; BEGIN; ALTER USER MAPPING FOR ready SERVER acme OPTIONS (SET token 'old-token-73'); SET LOCAL ROLE ready");
	like($root->query(LpUsers::create_sql('ddl-inside')), qr/^401\|/, 'ALTER rolled back: it counts in its transaction');
	$root->query('ROLLBACK');
	is($root->query('SET ROLE ready; ' . LpUsers::create_sql('ddl-rolled-back')), '201|', 'ALTER rolled back: and not afterwards');
	$root->quit;

	ddl("DROP USER MAPPING FOR oauth SERVER acme");
	foreach my $i (0, 1)
	{
		fails_unsent($sessions[$i], "dropped$i", '28000', 'no credentials of role "oauth"', "mapping dropped, session $i");
	}
	ddl("CREATE USER MAPPING FOR oauth SERVER acme");
	fails_unsent($sessions[0], 'empty', '28000', 'has no credentials', 'an empty mapping');
	ddl("ALTER USER MAPPING FOR oauth SERVER acme OPTIONS (ADD client_id 'lp-client', ADD client_secret 'wrong-secret-71')");
	my $err = fails_unsent($sessions[0], 'wrong', '28000', 'the token service refused the credentials', 'a wrong secret');
	like($err, qr/status 401: invalid_client\. Nothing was sent to the account/, 'a wrong secret: what the service said');
	ddl("ALTER USER MAPPING FOR oauth SERVER acme OPTIONS (SET client_secret 'lp-client-secret')");
	is($sessions[0]->query(LpUsers::create_sql('right')), '201|', 'the right secret again');
	ddl("ALTER USER MAPPING FOR login SERVER acme OPTIONS (SET password 'wrong-password-72')");
	my $session = LpUsers::session($node, role => 'login');
	fails_unsent($session, 'wrong', '28000', 'the Login service refused the credentials.*status 401', 'a wrong password');
	ddl("ALTER USER MAPPING FOR login SERVER acme OPTIONS (SET password 'lp-user-password')");
	is($session->query(LpUsers::create_sql('right2')), '201|', 'the right password again');
	$_->quit foreach @sessions, $session;
};

# ------------------------------------------------------------------------------------------------- secrets in files

sub write_file
{
	my ($name, $content) = @_;

	open(my $out, '>:raw', "$dir/$name") or die "$dir/$name: $!";
	print $out $content;
	close($out) or die "$dir/$name: $!";
	return;
}

subtest 'secrets in files are read at use' => sub {
	write_file('secret', "lp-client-secret\n");
	write_file('token', 'lp-token');
	write_file('password', "lp-user-password\r\n");
	add_role('file_oauth', "client_id 'lp-client', client_secret_file '$dir/secret'");
	add_role('file_token', "token_file '$dir/token'");
	add_role('file_login', "username 'lp-user', password_file '$dir/password'");

	foreach my $role ('file_oauth', 'file_token', 'file_login')
	{
		my $session = LpUsers::session($node, role => $role);
		is($session->query(LpUsers::create_sql($role)), '201|', "$role: the secret is read from the file");
		$session->quit;
	}

	# Rotation without DDL.
	{
		my $token = LpUsers::session($node, role => 'file_token');
		is($token->query(LpUsers::create_sql('rotate1')), '201|', 'before the rotation');
		write_file('token', "old-token-73\n");
		like($token->query(LpUsers::create_sql('rotate2')), qr/^401\|/, 'another token is used at once');
		write_file('token', "lp-token\n");
		is($token->query(LpUsers::create_sql('rotate3')), '201|', 'and the right one again');

		# rotated while the request is under way: 401, read again, sent again
		write_file('token', 'old-token-73');
		$sim->post('faults', { path => '/users', action => 'delay', ms => 4000 });
		$sim->remove('log');
		$token->send(LpUsers::create_sql('rotate4'));
		LpUsers::wait_for(sub { posts() == 1 }, 'the request with the old token');
		write_file('token', 'lp-token');
		my ($out, $err) = $token->take;
		is($out, '201|', 'a token rotated under way is read again after the 401');
		is(posts(), 2, '... with two POSTs');
		is($sim->users_with('rotate4@example.com'), 1, '... and one user');

		my $oauth = LpUsers::session($node, role => 'file_oauth');
		write_file('secret', "wrong-secret-71\n");
		fails_unsent($oauth, 'rotate5', '28000', 'the token service refused', 'a wrong secret in the file');
		write_file('secret', "lp-client-secret\n");
		is($oauth->query(LpUsers::create_sql('rotate6')), '201|', 'the right secret in the file');
		$_->quit foreach $token, $oauth;
	}

	mkfifo("$dir/fifo", 0600) or die "mkfifo: $!";
	mkdir("$dir/directory") or die "mkdir: $!";
	write_file('empty', '');
	write_file('newlines', "\n\n");
	write_file('large', 'x' x 70_000);
	write_file('lines', "lp-token\nold-token-73\n");
	write_file('nul', "lp-token\0old-token-73");
	write_file('blanks', 'old-token-73 and more');
	write_file('unreadable', 'lp-token');
	chmod(0, "$dir/unreadable");

	foreach my $case (
		[ 'missing', 'No such file' ],
		[ 'unreadable', 'Permission denied' ],
		[ 'empty', 'It is empty' ],
		[ 'newlines', 'It is empty' ],
		[ 'directory', '(It is not a regular file|Is a directory)' ],
		[ 'fifo', 'It is not a regular file' ],
		[ 'large', 'larger than 64 kB' ],
		[ 'lines', 'must hold one line' ],
		[ 'nul', 'must hold one line' ])
	{
		my ($file, $detail) = @$case;

	  SKIP:
		{
			skip 'root may read everything', 1 if $file eq 'unreadable' && $> == 0;
			foreach my $set ([ 'file_token', 'token_file' ], [ 'file_oauth', 'client_secret_file' ],
				[ 'file_login', 'password_file' ])
			{
				my ($role, $option) = @$set;

				ddl("ALTER USER MAPPING FOR $role SERVER acme OPTIONS (SET $option '$dir/$file')");
				my $session = LpUsers::session($node, role => $role);
				my $before = token_requests() + logins();
				my $err = fails_unsent($session, "file-$file", '28000',
					"could not read the file of option \"$option\".*$detail", "$option, $file");
				unlike($err, qr/\Q$dir\E/, "$option, $file: the path is not shown");
				is(token_requests() + logins(), $before, "$option, $file: no service is asked");
				$session->quit;
			}
		}
	}
	{
		ddl("ALTER USER MAPPING FOR file_token SERVER acme OPTIONS (SET token_file '$dir/blanks')");
		my $session = LpUsers::session($node, role => 'file_token');
		fails_unsent($session, 'file-blanks', '28000', 'is not a bearer', 'a token with blanks in a file');
		$session->quit;
	}
};

subtest 'unusual lifetimes of a bearer' => sub {
	my $long = '9' x 400;
	my $lives = 0;
	foreach my $expires ('missing', 'null', '0', '-1', '"0"', '1e400', $long, '"3600"', '3600.5', '"nan"', '"inf"', '"soon"', '[]', 'true')
	{
		my $member = $expires eq 'missing' ? '' : ",\"expires_in\":$expires";
		my $label = 'expires_in ' . substr($expires, 0, 20);

		$sim->remove('log');
		$sim->post('faults', { path => '/app/token', action => 'body', times => 0,
			body => "{\"access_token\":\"lp-token\",\"token_type\":\"Bearer\"$member}" });
		my $session = LpUsers::session($node, role => 'oauth');
		is($session->query("SELECT bool_and(ok) FROM lp_check('12345678')"), 't', "$label: the token is used");
		is($session->query(LpUsers::create_sql('life' . $lives++)), '201|', "$label: again");
		is(token_requests(), 1, "$label: and kept");
		$session->quit;
		$sim->remove('faults');
	}
};

subtest 'unusual tokens' => sub {
	my %config = ('a blank' => 'tok-secret-0001 x', 'a leading blank' => ' tok-secret-0001',
		'CRLF' => "tok-secret-0001\r\nX-Evil: 1", 'LF' => "tok-secret-0001\n", 'a tab' => "tok-secret-0001\t",
		'DEL' => "tok-secret-0001\x7f", 'non-ASCII' => "tok-secret-0001\x{e9}", 'nothing' => '');

	foreach my $role ('oauth', 'login')
	{
		foreach my $what (sort keys %config)
		{
			$sim->post('config', { token_token => $config{$what} });
			my $session = LpUsers::session($node, role => $role);
			fails_unsent($session, 'odd-token', '08001', 'responded with status 200 and nothing usable',
				"$role, a token with $what");
			$session->quit;
		}
		$sim->post('config', { token_token => 'tok-secret-0001' });
		my $session = LpUsers::session($node, role => $role);
		is($session->query(LpUsers::create_sql("odd-$role")), '201|', "$role: a good token of that service");
		$session->quit;
	}
	$sim->post('config', { token_token => undef });
	foreach my $body ('{}', '[]', '"tok-secret-0001"', '{"access_token":null}', '{"access_token":["tok-secret-0001"]}',
		'{"access_token":{"a":1}}', '{"access_token":"tok-secret-0001\u0000x"}', '{"access_token":"tok-secret-0001"', '')
	{
		$sim->post('faults', { path => '/app/token', action => 'body', body => $body });
		my $session = LpUsers::session($node, role => 'oauth');
		fails_unsent($session, 'odd-answer', '08001', 'nothing usable', "the token service answers '$body'");
		$session->quit;
		$sim->remove('faults');
	}
};

subtest 'a token service that fails' => sub {
	ddl("ALTER SERVER acme OPTIONS (ADD timeout '5s', ADD max_response_size '1MB')");
	foreach my $service ([ 'oauth', '/app/token', 'token service' ], [ 'login', '/login', 'Login service' ])
	{
		my ($role, $path, $name) = @$service;

		foreach my $case (
			[ 'status 400', '28000', 'refused the credentials.*status 400', { action => 'status', status => 400 } ],
			[ 'status 401', '28000', 'refused the credentials.*status 401', { action => 'status', status => 401 } ],
			[ 'status 403', '28000', 'refused the credentials.*status 403', { action => 'status', status => 403 } ],
			[ 'status 451', '28000', 'refused the credentials.*status 451', { action => 'status', status => 451 } ],
			[ 'status 429', '53400', 'asks to wait 3600 s', { action => 'retry_after', value => '3600' } ],
			[ 'status 500', '08001', 'responded with status 500', { action => 'status', status => 500 } ],
			[ 'status 503', '08001', 'responded with status 503', { action => 'status', status => 503 } ],
			[ 'a redirect', '08001', 'responded with status 302', { action => 'redirect', location => $sim->tls_url . '/x' } ],
			[ 'HTML', '08001', 'responded with status 502', { action => 'html' } ],
			[ 'what is not JSON', '08001', 'responded with status 200', { action => 'not_json', status => 200 } ],
			[ 'a refusal in text', '28000', 'refused the credentials.*status 400', { action => 'not_json', status => 400 } ],
			[ 'an echo', '28000', 'refused the credentials.*status 400', { action => 'echo' } ],
			[ 'nothing', '08001', 'responded with status 200', { action => 'empty', status => 200 } ],
			[ 'silence', '08001', 'could not reach', { action => 'silence' } ],
			[ 'a reset', '08001', 'could not reach', { action => 'reset' } ],
			[ 'half', '08001', 'could not reach', { action => 'half' } ],
			[ 'too much', '08001', 'nothing usable', { action => 'huge', bytes => 3_000_000, status => 200 } ],
			[ 'deep', '08001', 'nothing usable', { action => 'deep' } ])
		{
			my ($what, $code, $message, $fault) = @$case;
			my $session = LpUsers::session($node, role => $role);

			$sim->post('faults', { path => $path, %$fault });
			my $err = fails_unsent($session, 'failing', $code, "the $name.*$message|$message.*the $name", "$name, $what");
			like($err, qr/DETAIL: .*Nothing was sent to the account\./, "$name, $what: the detail says that nothing was sent");
			$sim->remove('faults');
			is($session->query("SELECT bool_and(ok) FROM lp_check('12345678')"), 't', "$name, $what: the next call works");
			$session->quit;
		}
	}

	# A short wait that the service asks for is kept.
	{
		my $session = LpUsers::session($node, role => 'oauth');
		my $start = time();

		$sim->remove('log');
		$sim->post('faults', { path => '/app/token', action => 'retry_after', value => '1' });
		is($session->query(LpUsers::create_sql('patient')), '201|', 'a 429 of the token service is waited for');
		cmp_ok(time() - $start, '>=', 1, '... for as long as it says');
		is(token_requests(), 2, '... and asked once more');
		is($sim->users_with('patient@example.com'), 1, '... and the user exists once');
		$session->quit;
	}

	# The Domain API may not send credentials elsewhere.
	foreach my $answer ('evil.example.com', 'liveperson.net.example.com', 'evil-liveperson.net', '', 'a b', 'x@va.ac.liveperson.net',
		'va.ac.liveperson.net/path', 'va.ac.liveperson.net:8443')
	{
		$sim->post('config', { domain_answer => $answer });
		my $session = LpUsers::session($node, role => 'oauth');
		fails_unsent($session, 'elsewhere', '08001', '(is not believed|nothing usable)', "Domain API answers '$answer'");
		$session->quit;
	}
	$sim->post('config', { domain_answer => undef });
};

subtest 'no secret is in the log or the statistics views' => sub {
	# Our own errors keep the statement out of the log: its literals may be passwords.
	{
		my $session = LpUsers::session($node);
		my $user = LpUsers::user('literal');
		my $before = $sim->count();

		ddl("CREATE USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS ($oauth)");
		foreach my $call ("lp_reset_password('12345678', -1, 'Start-1234')", "lp_reset_password(NULL, 1, 'Start-1234')",
			"lp_update_users('12345678', '$user', -5)", "lp_update_users('12345678', '$user')", "lp_create_users(NULL, '$user')",
			"lp_create_users('nobody', '$user')", "lp_create_users('../x', '$user')", "lp_create_users('12345678', '[$user,$user]')",
			"lp_create_users('12345678', '[$user,{}]')", "lp_reset_password('nobody', 1, 'Start-1234')")
		{
			my ($out, $err) = $session->run("SELECT * FROM $call");
			like($err, qr/ERROR:  (22023|22004|28000):/, 'refused: ' . substr($call, 0, 40));
			unlike($err, qr/Start-1234/, '... without the password');
		}
		is($sim->count(), $before, 'nothing was sent');
		$session->quit;
	}

	is(scalar(grep { $_ > 1 } map { $sim->users_with($_->{loginName}) } @{ $sim->get('users') }), 0, 'no login exists twice');
	my $log = LpUsers::log_since($node, 0);
	cmp_ok($log =~ tr/\n//, '>', 1000, 'the server logged at level debug5');
	foreach my $secret (@secrets)
	{
		ok(index($log, $secret) < 0, 'a secret is not in the log') or diag($log =~ /(.*\Q$secret\E.*)/);
	}
};

done_testing();

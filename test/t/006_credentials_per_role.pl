# Who acts with which credentials: each role's request carries its own bearer on its own connection.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LpUsers;
use Test::More;

my $sim  = LpUsers::account();
my $node = LpUsers::server();

# Every mapping gets a random token of its own from the token service, so that the bearer tells the mapping.
my $credentials = "client_id 'lp-client', client_secret 'lp-client-secret'";
my $options = "account '12345678', base_url '" . $sim->url . "', token_url '" . $sim->tls_url .
	"/sentinel/api/v2/account/12345678/app/token', ca_file '$LpUsers::top/test/certs/ca.pem'";

$node->safe_psql('postgres', qq{
	CREATE SERVER acme FOREIGN DATA WRAPPER lpusers OPTIONS ($options);
	CREATE ROLE anna LOGIN; CREATE ROLE bert LOGIN; CREATE ROLE clara LOGIN; CREATE ROLE dora LOGIN; CREATE ROLE emil LOGIN;
	CREATE ROLE writers; GRANT writers TO anna, bert, clara, dora;
	GRANT USAGE ON FOREIGN SERVER acme TO writers;
	GRANT EXECUTE ON FUNCTION lp_create_users, lp_update_users, lp_delete_users, lp_reset_password TO writers;
	CREATE USER MAPPING FOR anna SERVER acme OPTIONS ($credentials);
	CREATE USER MAPPING FOR bert SERVER acme OPTIONS ($credentials);
	GRANT CREATE ON SCHEMA public TO bert;
	SET ROLE bert;
	CREATE FUNCTION as_bert(users jsonb) RETURNS SETOF lp_response LANGUAGE sql SECURITY DEFINER
		SET search_path = public, pg_temp AS \$\$ SELECT * FROM lp_create_users('12345678', users) \$\$;
	CREATE FUNCTION as_caller(users jsonb) RETURNS SETOF lp_response LANGUAGE sql SECURITY INVOKER
		AS \$\$ SELECT * FROM lp_create_users('12345678', users) \$\$;});

# The POST that carried this login: { bearer, connection, … }.
sub post_of
{
	my ($name) = @_;
	my @found = grep {
		my $entry = $_;
		$entry->{method} eq 'POST' && grep { $_ eq "$name\@example.com" } @{ $entry->{logins} }
	} @{ $sim->get('log') };

	is(scalar(@found), 1, "$name: one POST");
	is($sim->users_with("$name\@example.com"), 1, "$name: one user");
	return $found[0];
}

# The server whose credentials were used for this login.
sub server_of
{
	my ($name) = @_;

	return $node->safe_psql('postgres', "SELECT server FROM lp_results WHERE login_name = '$name\@example.com'");
}

sub call_function { my ($function, $name) = @_; return "SELECT status, error FROM $function('" . LpUsers::user($name) . "')"; }

sub same
{
	my ($what, @posts) = @_;

	is(scalar(keys %{ { map { $_->{bearer} => 1 } @posts } }), 1, "$what: the same bearer");
	is(scalar(keys %{ { map { $_->{connection} => 1 } @posts } }), 1, "$what: the same connection");
	return;
}

sub different
{
	my ($what, @posts) = @_;

	is(scalar(keys %{ { map { $_->{bearer} => 1 } @posts } }), scalar(@posts), "$what: different bearers");
	is(scalar(keys %{ { map { $_->{connection} => 1 } @posts } }), scalar(@posts), "$what: different connections");
	return;
}

# ------------------------------------------------------------------------------------------------- SET ROLE

my $session = LpUsers::session($node);
my @anna;
my @bert;

subtest 'each role sends its own bearer' => sub {
	foreach my $n (1 .. 3)
	{
		foreach my $role ('anna', 'bert')
		{
			is($session->query("SET ROLE $role; " . LpUsers::create_sql("$role$n")), '201|', "$role, call $n");
		}
	}
	is($session->query('SET ROLE anna; ' . call_function('as_bert', 'definer1')), '201|', 'anna calls what acts as bert');
	is($session->query(LpUsers::create_sql('anna4')), '201|', 'anna by herself after that');
	is($session->query(call_function('as_caller', 'invoker1')), '201|', 'anna calls what acts as its caller');
	# both in one statement
	is($session->query("SELECT (SELECT status FROM as_bert('" . LpUsers::user('definer2') . "')), (SELECT status FROM " .
			"lp_create_users('12345678', '" . LpUsers::user('anna5') . "'))"), '201|201', 'both in one statement');
	$session->query("SET SESSION AUTHORIZATION bert");
	is($session->query(LpUsers::create_sql('bert4')), '201|', 'SET SESSION AUTHORIZATION');
	$session->query('RESET SESSION AUTHORIZATION');

	@anna = map { post_of($_) } 'anna1', 'anna2', 'anna3', 'anna4', 'anna5', 'invoker1';
	@bert = map { post_of($_) } 'bert1', 'bert2', 'bert3', 'bert4', 'definer1', 'definer2';
	same('anna', @anna);
	same('bert', @bert);
	different('anna and bert', $anna[0], $bert[0]);
	is($sim->count(method => 'POST', path => '/app/token'), 2, 'one token for each of them');

	is($session->query("RESET ROLE; SELECT login_name, requested_by, send_as FROM lp_results
			WHERE login_name ~ '^(anna1|bert1|definer1|definer2|anna5|invoker1)\@' ORDER BY 1"),
		"anna1\@example.com|anna|anna\nanna5\@example.com|anna|anna\nbert1\@example.com|bert|bert\n" .
		"definer1\@example.com|anna|bert\ndefiner2\@example.com|anna|bert\ninvoker1\@example.com|anna|anna",
		'who asked, and with whose credentials');

	# An error in what acts as bert gives anna herself back.
	{
		my ($out, $err) = $session->run("SET ROLE anna; SELECT * FROM as_bert('[]')");
		like($err, qr/ERROR:  22023:/, 'an error in what acts as bert');
		is($session->query('SELECT current_user'), 'anna', 'anna is herself again');
		is($session->query(LpUsers::create_sql('anna6')), '201|', 'and writes');
		same('anna, after an error', $anna[0], post_of('anna6'));
	}
	$session->query("BEGIN; " . LpUsers::create_sql('anna7') . "; SET LOCAL ROLE bert");
	$session->query(LpUsers::create_sql('bert7') . '; COMMIT; ' . LpUsers::create_sql('anna8'));
	same('anna, around a transaction', $anna[0], post_of('anna7'), post_of('anna8'));
	same('bert, in the transaction of anna', $bert[0], post_of('bert7'));
};

# ------------------------------------------------------------------------------------------------- PUBLIC's mapping

sub refused
{
	my ($role, $sql, $code, $message, $what) = @_;
	my $before = $sim->count(path => '/le-users');
	my ($out, $err) = $session->run("SET ROLE $role; $sql");

	like($err, qr/ERROR:  $code: .*$message/s, $what);
	is($sim->count(path => '/le-users'), $before, "$what: the account was not asked");
	return;
}

subtest 'the mapping of PUBLIC' => sub {
	refused('clara', LpUsers::create_sql('clara0'), '28000', 'no credentials of role "clara".*HINT:  CREATE USER MAPPING FOR "?clara"?',
		'a role without mapping');
	$node->safe_psql('postgres', "CREATE USER MAPPING FOR PUBLIC SERVER acme OPTIONS ($credentials)");
	is($session->query("SET ROLE clara; " . LpUsers::create_sql('clara1')), '201|', 'a role with the mapping of PUBLIC');
	is($session->query("SET ROLE dora; " . LpUsers::create_sql('dora1')), '201|', 'another one');
	is($session->query("SET ROLE anna; " . LpUsers::create_sql('anna9')), '201|', 'a role with both');
	my $clara = post_of('clara1');
	same('both act with the mapping of PUBLIC', $clara, post_of('dora1'));
	same('the own mapping beats that of PUBLIC', $anna[0], post_of('anna9'));
	different('PUBLIC, anna, bert', $clara, $anna[0], $bert[0]);

	$node->safe_psql('postgres', "CREATE USER MAPPING FOR clara SERVER acme OPTIONS ($credentials)");
	is($session->query("SET ROLE clara; " . LpUsers::create_sql('clara2')), '201|', 'clara gets a mapping of her own');
	is($session->query("SET ROLE dora; " . LpUsers::create_sql('dora2')), '201|', 'dora still has that of PUBLIC');
	my $own = post_of('clara2');
	different('clara by herself, and as PUBLIC', $own, $clara);
	same('dora', $clara, post_of('dora2'));
	$node->safe_psql('postgres', 'DROP USER MAPPING FOR clara SERVER acme');
	is($session->query("SET ROLE clara; " . LpUsers::create_sql('clara3')), '201|', 'clara is PUBLIC again');
	is(post_of('clara3')->{bearer}, $clara->{bearer}, '... with its bearer');
};

subtest 'a call needs EXECUTE and USAGE' => sub {
	refused('emil', LpUsers::create_sql('emil0'), '42501', 'permission denied for function lp_create_users', 'a role without EXECUTE');
	$node->safe_psql('postgres', 'GRANT EXECUTE ON FUNCTION lp_create_users TO emil');
	refused('emil', LpUsers::create_sql('emil0'), '42501', 'permission denied for the server.*GRANT USAGE ON FOREIGN SERVER',
		'a role without USAGE');
	refused('emil', "SELECT * FROM lp_check('12345678')", '42501', 'permission denied for the server', 'lp_check without USAGE');
	refused('emil', "SELECT * FROM lp_check('87654321')", '28000', 'no server for account "87654321"', 'an account without server');
	$node->safe_psql('postgres', 'GRANT USAGE ON FOREIGN SERVER acme TO emil');
	is($session->query("SET ROLE emil; " . LpUsers::create_sql('emil1')), '201|', 'with both it works');
	$node->safe_psql('postgres', 'REVOKE USAGE ON FOREIGN SERVER acme FROM emil');
	refused('emil', LpUsers::create_sql('emil2'), '42501', 'permission denied for the server', 'USAGE taken away is seen at once');

	# A right of the caller does not help what acts as another role, nor the reverse.
	$node->safe_psql('postgres', 'REVOKE writers FROM bert');
	refused('anna', call_function('as_bert', 'definer3'), '42501', 'permission denied for function lp_create_users',
		'what acts as bert without his rights');
	$node->safe_psql('postgres', 'GRANT writers TO bert');
	is($session->query('SET ROLE emil; ' . call_function('as_bert', 'definer4')), '201|', 'emil may let bert act');
	# (a GRANT on the server drops what was kept for it, so the bearers are new)
	is($session->query('SET ROLE bert; ' . LpUsers::create_sql('bert8')), '201|', 'bert by himself');
	same('bert, and who lets him act', post_of('definer4'), post_of('bert8'));
};

subtest 'two servers of one account' => sub {
	$node->safe_psql('postgres', qq{
		CREATE SERVER second FOREIGN DATA WRAPPER lpusers OPTIONS ($options);
		GRANT USAGE ON FOREIGN SERVER second TO anna, dora;
		CREATE USER MAPPING FOR anna SERVER second OPTIONS ($credentials);});
	refused('anna', LpUsers::create_sql('two0'), '42P08', 'more than one server for account "12345678".*on 2 of them.*REVOKE USAGE',
		'two servers for an account');
	is($session->query("SET ROLE dora; " . LpUsers::create_sql('two1')), '201|', 'a server without a mapping does not count');
	is(server_of('two1'), 'acme', '... and it is the one with the mapping');
	$node->safe_psql('postgres', "CREATE USER MAPPING FOR PUBLIC SERVER second OPTIONS ($credentials)");
	refused('dora', LpUsers::create_sql('two2'), '42P08', 'more than one server', 'two servers with a mapping of PUBLIC');
	$node->safe_psql('postgres', 'REVOKE USAGE ON FOREIGN SERVER second FROM dora');
	is($session->query("SET ROLE dora; " . LpUsers::create_sql('two3')), '201|', 'REVOKE USAGE resolves it');
	is($session->query("SET ROLE bert; " . LpUsers::create_sql('two4')), '201|', 'bert has USAGE on one');
	$node->safe_psql('postgres', 'GRANT USAGE ON FOREIGN SERVER second TO bert');
	is($session->query("SET ROLE bert; " . LpUsers::create_sql('two5')), '201|', 'his own mapping beats that of PUBLIC elsewhere');
	same('bert', post_of('two4'), post_of('two5'));
	is(server_of('two5'), 'acme', '... it is his own');
	$node->safe_psql('postgres', 'REVOKE USAGE ON FOREIGN SERVER second FROM anna');
	is($session->query("SET ROLE anna; " . LpUsers::create_sql('two6')), '201|', 'REVOKE USAGE resolves it for anna');
	is(server_of('two6'), 'acme', '... on the first server');
	$node->safe_psql('postgres', 'REVOKE USAGE ON FOREIGN SERVER acme FROM writers; GRANT USAGE ON FOREIGN SERVER second TO anna');
	is($session->query("SET ROLE anna; " . LpUsers::create_sql('two7')), '201|', 'or the other way round');
	is(server_of('two7'), 'second', '... on the second server');
	different('two servers', post_of('two6'), post_of('two7'));
	$node->safe_psql('postgres', 'GRANT USAGE ON FOREIGN SERVER acme TO writers; DROP SERVER second CASCADE');
	is($session->query("SET ROLE anna; " . LpUsers::create_sql('two8')), '201|', 'one server again');
	is(server_of('two8'), 'acme', '... the first');

	# Servers of other wrappers with the same option do not count.
	$node->safe_psql('postgres', "CREATE FOREIGN DATA WRAPPER other; CREATE SERVER other FOREIGN DATA WRAPPER other
		OPTIONS (account '12345678'); GRANT USAGE ON FOREIGN SERVER other TO PUBLIC; CREATE USER MAPPING FOR PUBLIC SERVER other");
	is($session->query("SET ROLE anna; " . LpUsers::create_sql('other1')), '201|', 'a server of another wrapper does not count');
	$session->quit;
};

# The owner of a server sets its account, and may give each role USAGE and a mapping: that must not divert requests.
subtest 'a server of an owner without USAGE on the wrapper serves its owner only' => sub {
	my ($mallory, $anna) = map { LpUsers::session($node) } 1 .. 2;
	my $theirs = "SELECT status FROM lp_create_users('12345678', '%s')";

	$node->safe_psql('postgres', qq{
		CREATE ROLE mallory LOGIN; CREATE ROLE member LOGIN; CREATE ROLE erna LOGIN; GRANT writers TO erna; GRANT mallory TO member;
		GRANT EXECUTE ON FUNCTION lp_create_users TO mallory, member;
		CREATE SERVER stray FOREIGN DATA WRAPPER lpusers OPTIONS (account '12345678', base_url '@{[ $sim->url ]}');
		ALTER SERVER stray OWNER TO mallory});
	$mallory->query(q{SET ROLE mallory; GRANT USAGE ON FOREIGN SERVER stray TO PUBLIC});
	$mallory->query("CREATE USER MAPPING FOR $_ SERVER stray OPTIONS (token 'lp-token')") foreach qw(mallory anna erna member);
	$anna->query('SET ROLE anna');
	is($anna->query(LpUsers::create_sql('stray1')), '201|', 'a second mapping by the owner of another server does not count');
	is(server_of('stray1'), 'acme', '... the request went to the first server');
	is($node->safe_psql('postgres', "SELECT count(*) FROM lp_results WHERE server = 'stray'"), '0', '... and no row is of the other');

	is($node->safe_psql('postgres', "SET ROLE erna; " . sprintf($theirs, LpUsers::user('stray2'))), '201', 'nor before that of PUBLIC');
	is(server_of('stray2'), 'acme', '... the first server again');
	is($mallory->query(sprintf($theirs, LpUsers::user('stray3'))), '201', 'the owner can');
	is($mallory->query('SET ROLE member; ' . sprintf($theirs, LpUsers::user('stray4'))), '201', '... and a member of the owner');
	$node->safe_psql('postgres', 'REVOKE USAGE ON FOREIGN SERVER acme FROM writers');
	my ($status, undef, $error) = $node->psql('postgres', "SET ROLE erna; " . sprintf($theirs, LpUsers::user('stray5')));
	like($error, qr/permission denied for the server of account "12345678".*has no USAGE on the foreign-data wrapper lpusers/s,
		'without another server the message says why');
	$node->safe_psql('postgres', 'GRANT USAGE ON FOREIGN DATA WRAPPER lpusers TO mallory');
	is($node->safe_psql('postgres', "SET ROLE erna; " . sprintf($theirs, LpUsers::user('stray6'))), '201',
		'with USAGE on the wrapper it serves everybody whom it has mapped');
	$node->safe_psql('postgres', 'REVOKE USAGE ON FOREIGN DATA WRAPPER lpusers FROM mallory; DROP SERVER stray CASCADE;
		GRANT USAGE ON FOREIGN SERVER acme TO writers');
	$_->quit foreach $mallory, $anna;
};

is($sim->text('duplicates') =~ s/\s//gr, '[]', 'no login exists twice');

done_testing();

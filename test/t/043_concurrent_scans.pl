# Several lists and GETs by id at the same time: in one query, in cursors, in functions that a scan calls, beside direct
# calls; each keeps its own connection and its own patience. And all of that on a standby.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LpPeer;
use LpUsers;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

plan(skip_all => 'needs /proc as Linux has it') unless -e "/proc/$$/fd";

my $users = 6000;
my $first = 4000000001;
my $sim   = LpUsers::account('--users', $users);
my $node  = PostgreSQL::Test::Cluster->new('main');
$node->init(allows_streaming => 1, extra => [ '--encoding=UTF8', '--locale=C' ]);
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION lpusers');
LpUsers::connect_account($node, $sim, options => "timeout '60s', connect_timeout '20s'");
$node->safe_psql('postgres', 'CREATE SCHEMA lp; IMPORT FOREIGN SCHEMA liveperson FROM SERVER acme INTO lp');
my $session = LpUsers::session($node);
$session->query('ANALYZE lp.users');	# so that it knows when GETs are cheaper than a list

sub clean { $sim->remove($_) foreach 'faults', 'log'; return; }
sub fault { my (%rule) = @_; $sim->post('faults', { method => 'GET', %rule }); return; }
sub lists { return scalar(grep { $_->{path} =~ m{/le-users/\w+$} } @{ $sim->get('log') }); }
sub gets  { return scalar(grep { $_->{path} =~ m{/users/\d+$} } @{ $sim->get('log') }); }
sub id    { return $first + $_[0] - 1; }
sub ids   { return join(', ', map { id($_) } @_); }

subtest 'GETs by id run in parallel' => sub {
	clean();
	is($session->query('SELECT string_agg(login_name, \' \' ORDER BY id) FROM lp.users WHERE id IN (' . ids(1, 500, 6000) . ')'),
		'agent00001 agent00500 agent06000', 'three users by id');
	is(gets() . lists(), '30', '... by three GETs');

	clean();
	my $before = $sim->text('connections');
	is($session->query('SELECT count(*) FROM lp.users WHERE id = ANY (ARRAY[' . ids(1 .. 12) . ', ' . ids(1 .. 6) . ', 0, -5, NULL])'), 12, 'a dozen of them, some twice');
	is(gets(), 12, '... by a GET for each');
	cmp_ok($sim->text('connections') - $before, '<=', 4, '... over max_connections connections');
	$session->query("ALTER SERVER acme OPTIONS (max_connections '1')");
	clean();
	$before = $sim->text('connections');
	is($session->query('SELECT count(*) FROM lp.users WHERE id IN (' . ids(1 .. 5) . ')'), 5, 'one at a time');
	is($sim->text('connections') - $before, 1, '... over one connection');
	$session->query("ALTER SERVER acme OPTIONS (SET max_connections '8')");

	clean();
	is($session->query('SELECT count(*) FROM lp.users WHERE id IN (' . ids(1 .. 3) . ', 17, 4711)'), 3, 'users who are not there are no rows');
	fault(path => '/users/' . id(2), action => 'status', status => 410);
	is($session->query('SELECT count(*) FROM lp.users WHERE id IN (' . ids(1 .. 3) . ')'), 2, '410: not there');

	# One of them fails: so does the query, wherever it is among them, and however many came before.
	my @bad = (
		[ 'cut',          { action => 'half' },                     '08006' ],
		[ 'reset',        { action => 'half', reset => \1 },        '08006' ],
		[ 'no JSON',      { action => 'not_json' },                 '08006' ],
		[ 'empty',        { action => 'empty' },                    '08006' ],
		[ 'another type', { action => 'body', body => '{"id":"x","loginName":"y"}' }, '08006' ],
		[ 'more than it', { action => 'body', body => '{"id":1,"loginName":"x"} {}' }, '08006' ],
		[ '503',          { action => 'status', status => 503 },    '08006' ],
		[ '403',          { action => 'status', status => 403 },    '42501' ],
		[ '401',          { action => 'status', status => 401 },    '28000' ],
		[ '429 for long', { action => 'retry_after', value => '90' }, '53400' ],);
	foreach my $bad (@bad)
	{
		my ($title, $rule, $sqlstate) = @$bad;

		foreach my $nth (1, 7, 20)
		{
			clean();
			fault(path => '/users/' . id($nth), times => 0, %$rule);
			my ($out, $err) = $session->run('SELECT login_name FROM lp.users WHERE id IN (' . ids(1 .. 20) . ')');
			like($err, qr/ERROR:  $sqlstate: /, "$title, user $nth");
			is($out, '', '... no row');
		}
		$session->nothing_left($title);
	}
	clean();
	fault(path => '/users/' . id(3), action => 'retry_after', value => '1');
	is($session->query('SELECT count(*) FROM lp.users WHERE id IN (' . ids(1 .. 6) . ')'), 6, '429: asked again');
	is(gets(), 7, '... once');

	# Several with a token that has expired: each is asked once more, the token service once.
	my $tokens = LpUsers::account('--users', 50);
	LpUsers::connect_account($node, $tokens, server => 'tokens',
		options => "token_url '$tokens->{tls_url}/sentinel/api/v2/account/12345678/app/token', ca_file '$LpUsers::top/test/certs/ca.pem'",
		mapping => "client_id 'lp-client', client_secret 'lp-client-secret'");
	$session->query('CREATE SCHEMA t; IMPORT FOREIGN SCHEMA liveperson FROM SERVER tokens INTO t');
	is($session->query('SELECT count(*) FROM t.users WHERE id IN (' . ids(1 .. 4) . ')'), 4, 'a token');
	$tokens->post('tokens/expire');
	$tokens->remove('log');
	is($session->query('SELECT count(*) FROM t.users WHERE id IN (' . ids(1 .. 4) . ')'), 4, 'the token has expired');
	is($tokens->count(path => '/app/token'), 1, '... one new token');
	is($tokens->count(method => 'GET', status => 401) . $tokens->count(method => 'GET', status => 200), '44', '... all are answered');
	$session->query('DROP SERVER tokens CASCADE');
};

subtest 'connections that were left alone are opened again' => sub {
	# The first connection is good; of the next two nothing comes of the TLS handshake. No statement waits for them while the first row
	# is worked at for longer than connect_timeout: they are sent anew. When a statement waits, connect_timeout holds.
	SKIP:
	{
		skip(LpPeer::tls_trouble(), 1) if LpPeer::tls_trouble();
		my $certs = "$LpUsers::top/test/certs";
		my $answer = sub {
			my ($kept) = @_;

			return LpPeer::script(sub {
				my ($connection, $head) = @_;
				my ($id) = $head =~ m{/users/(\d+)};
				my $body = qq({"id":$id,"loginName":"user$id"});
				print {$connection} "HTTP/1.1 200 OK\r\nContent-Length: " . length($body) . "\r\n\r\n$body";
				return $kept;
			});
		};
		my $start = sub {
			my ($kept) = @_;

			return LpPeer::start(sub {
					my ($connection, $n, $say) = @_;
					LpPeer::forever() if $n != 1 && $n != 4;
					$answer->($kept)->(LpPeer::secured($connection, { tls => 1, certs => $certs }), $n, $say);
				});
		};
		my $peer = $start->(1);
		my $url = $peer->url =~ s/^http:/https:/r;
		$session->query(qq{
			CREATE SERVER slow FOREIGN DATA WRAPPER lpusers OPTIONS (account 'slow', base_url '$url', ca_file '$certs/ca.pem', connect_timeout '3s', max_connections '3');
			CREATE USER MAPPING FOR CURRENT_USER SERVER slow OPTIONS (token 'lp-token');
			CREATE FOREIGN TABLE slow (id bigint, login_name text) SERVER slow OPTIONS (resource 'users')});
		is($session->query("SELECT login_name, pg_sleep(CASE id WHEN 1 THEN 5 ELSE 0 END) FROM slow WHERE id IN (1, 2, 3)"), "user1|\nuser2|\nuser3|",
			'connections that nobody looked after are given up');
		is(scalar(() = $peer->lines(qr/^request 1 GET/)), 3, '... or the request goes over the one that is good');
		$peer->stop;

		$peer = $start->(0);
		$url = $peer->url =~ s/^http:/https:/r;
		$session->query("ALTER SERVER slow OPTIONS (SET base_url '$url')");
		my $since = time();
		my ($out, $err) = $session->run('SELECT login_name FROM slow WHERE id IN (1, 2, 3)');
		like($err, qr/ERROR:  08001: could not get user 2: could not connect/, 'somebody waits: connect_timeout holds');
		cmp_ok(time() - $since, '<', 60, '... once');
		is(scalar(() = $peer->lines(qr/^connection/)), 3, '... and nothing is tried again');
		($out, $err) = $session->run('SELECT login_name, pg_sleep(CASE id WHEN 1 THEN 5 ELSE 0 END) FROM slow WHERE id IN (1, 2)');
		like($err, qr/ERROR:  08001: could not get user 2: could not connect/, 'left alone, and again without success');
		$peer->stop;
		$session->query('DROP SERVER slow CASCADE');
		$session->nothing_left('connections that are not made');
	}
};

subtest 'several lists in one query' => sub {
	my @queries = (
		[ 'users and skills', 'SELECT count(*), count(DISTINCT u.id), count(DISTINCT s.id) FROM lp.users u JOIN lp.skills s ON s.id = ANY (u.skill_ids)', 2 ],
		[ 'a self-join',      'SELECT count(*) FROM lp.users a JOIN lp.users b ON a.nickname = b.login_name', 2 ],
		[ 'UNION ALL',        'SELECT count(*) FROM (SELECT login_name FROM lp.users UNION ALL SELECT nickname FROM lp.users) u', 2 ],
		[ 'five tables',      'SELECT (SELECT count(*) FROM lp.users), (SELECT count(*) > 0 FROM lp.skills), (SELECT count(*) > 0 FROM lp.profiles), (SELECT count(*) > 0 FROM lp.agent_groups), (SELECT count(*) > 0 FROM lp.lobs)', 5 ],
		[ 'NOT EXISTS',       "SELECT count(*) FROM lp.users a WHERE NOT EXISTS (SELECT FROM lp.users b WHERE b.login_name = a.email)", 2 ],
		[ 'a recursive query', 'WITH RECURSIVE r(n, login) AS (SELECT 1, min(login_name) FROM lp.users UNION ALL SELECT n + 1, u.login_name FROM r JOIN lp.users u ON u.nickname = r.login WHERE n < 3) SELECT count(*) FROM r', 2 ],
		[ 'a loop over a subquery', 'SELECT count(*), count(DISTINCT x.n) FROM (SELECT * FROM lp.users LIMIT 50) u, LATERAL (SELECT max(s.id) + u.id AS n FROM lp.skills s OFFSET 0) x', 2 ],
		[ 'a subquery for each row', 'SELECT sum((SELECT count(*) FROM (SELECT id FROM lp.skills OFFSET 0) s WHERE s.id = ANY (u.skill_ids))) FROM lp.users u', 2 ],
		[ 'a merge of two',   'SELECT count(*) FROM (SELECT id FROM lp.users ORDER BY id) a FULL JOIN (SELECT id FROM lp.users ORDER BY id) b USING (id)', 2 ],);
	my %result = ('users and skills' => '12000|6000|2', 'five tables' => '6000|t|t|t|t', 'UNION ALL' => '12000', 'a recursive query' => '3', 'a loop over a subquery' => '50|50', 'a subquery for each row' => '12000');
	foreach my $query (@queries)
	{
		my ($title, $sql, $n) = @$query;

		foreach my $settings ('', 'enable_hashjoin', 'enable_hashjoin, enable_mergejoin')
		{
			next if $settings =~ /,/ && $title =~ /self-join|NOT EXISTS|merge/;	# some seconds of comparing
			clean();
			is($session->query("BEGIN; " . join('', map { "SET LOCAL $_ = off;" } split(/, /, $settings)) . " $sql; COMMIT"), $result{$title} // $users,
				"$title" . ($settings ? " without $settings" : ''));
			is(lists(), $n, "... $n lists");
		}
	}
	$session->nothing_left('queries of several lists');

	# Two cursors in turn: both under way, each list larger than what is read ahead of it.
	clean();
	fault(path => '/le-users/users', action => 'drip', bytes => 32768, ms => 5, times => 0);
	$session->query("BEGIN;\nDECLARE a CURSOR FOR SELECT login_name, entity FROM lp.users;\nDECLARE b CURSOR FOR SELECT login_name, entity FROM lp.users;\nFETCH 1 FROM b");
	is($session->query("DO \$\$ DECLARE a refcursor = 'a'; b refcursor = 'b'; x record; y record; n int = 0; BEGIN
		LOOP FETCH a INTO x; EXIT WHEN NOT FOUND; n := n + 1; FETCH b INTO y;
		IF y.login_name <> 'agent' || to_char(n + 1, 'FM00000') OR x.login_name <> 'agent' || to_char(n, 'FM00000') THEN RAISE 'at %: % %', n, x, y; END IF; END LOOP;
		PERFORM set_config('my.n', n::text, false); END \$\$;\nSELECT current_setting('my.n')"), $users, 'two cursors in turn');
	$session->query('COMMIT');
};

# ------------------------------------------------------------------------------------------------- functions and calls

my ($out, $err);

subtest 'functions and calls inside a scan' => sub {
	$session->query(q{
		CREATE FUNCTION skill_names(ids bigint[]) RETURNS text LANGUAGE sql AS $$ SELECT string_agg(name, ',' ORDER BY id) FROM lp.skills WHERE id = ANY (ids) $$;
		CREATE FUNCTION login(wanted bigint) RETURNS text LANGUAGE plpgsql AS $$ DECLARE r record; BEGIN
			FOR r IN SELECT login_name FROM lp.users WHERE id = wanted LOOP RETURN r.login_name; END LOOP; RETURN 'nobody'; END $$;
		CREATE FUNCTION failing(wanted bigint) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
			RETURN (SELECT login_name FROM lp.users WHERE id = wanted)::int::text; EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE; END $$});
	clean();
	is($session->query("SELECT DISTINCT skill_names(skill_ids) <> '' FROM (SELECT * FROM lp.users LIMIT 20) u"), 't', 'a function of each row that lists');
	is($session->query("SELECT count(*) FROM (SELECT id, login_name FROM lp.users WHERE entity IS NOT NULL OFFSET 0) u WHERE id % 100 = 1 AND login(id) = login_name"), 60,
		'... that gets a user');
	is($session->query("SELECT count(*), max(failing(id)) FROM lp.users WHERE id % 500 = 1 AND entity IS NOT NULL"), '12|22P02', '... that fails, and is caught');
	is($session->query("BEGIN;\nDECLARE c CURSOR FOR SELECT login(id), entity->>'loginName' FROM lp.users;\nFETCH 2 FROM c"), "agent00001|agent00001\nagent00002|agent00002",
		'... in a cursor');
	is($session->query("FETCH 2 FROM c;\nCOMMIT"), "agent00003|agent00003\nagent00004|agent00004", '... that goes on');
	$session->nothing_left('functions');

	# Direct calls while a list is under way.
	clean();
	$session->query('CREATE TABLE made AS SELECT u.login_name, r.status FROM (SELECT login_name, entity FROM lp.users) u, LATERAL lp_create_users($$12345678$$,
		jsonb_build_object($$loginName$$, $$copy-of-$$ || u.login_name, $$fullName$$, u.login_name, $$nickname$$, u.login_name, $$email$$, $$a@example.com$$,
		$$passwordSh$$, $$Start-1234$$, $$isEnabled$$, true, $$maxChats$$, 3, $$profileIds$$, u.entity->$$profileIds$$, $$memberOf$$, $${"agentGroupId": 2001}$$::jsonb)) r
		WHERE u.login_name LIKE $$%50$$');
	is($session->query('SELECT count(*), count(DISTINCT login_name), string_agg(DISTINCT status::text, $$ $$) FROM made'), '60|60|201', 'direct calls for the rows of a scan');
	is($sim->count(method => 'POST'), 60, '... each sent once');
	is($session->query("SELECT count(*) FROM lp.users WHERE login_name LIKE 'copy-of-%'"), 60, '... and made');
	$session->nothing_left('direct calls');

	fault(path => '/le-users/users', action => 'stall', seconds => 1000);
	$session->query("BEGIN;\nDECLARE c CURSOR FOR SELECT entity FROM lp.users;\nFETCH 1 FROM c");
	is($session->query("SELECT string_agg(ok::text, ' ') FROM lp_check('12345678')") =~ s/true ?//gr, '', 'lp_check() while a list is under way');
	is($session->query(LpUsers::create_sql('besides')), '201|', 'a direct call, too');
	$session->query("COMMIT");

	# The mapping changes while a list is under way: it goes on, the next one is another.
	$sim->post('faults', { method => 'GET', action => 'drip', bytes => 65536, ms => 10 });
	$session->query("BEGIN;\nDECLARE c CURSOR FOR SELECT entity FROM lp.users;\nFETCH 1 FROM c");
	$session->query("ALTER USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (SET token 'wrong')");
	is(scalar(() = $session->query('FETCH ALL FROM c') =~ /"loginName"/g), $users + 60, 'a list goes on while its mapping changes');
	($out, $err) = $session->run('SELECT count(*) FROM lp.users');
	like($err, qr/ERROR:  28000/, '... and the next one is refused');
	$session->query('ROLLBACK');
	is($session->query('SELECT count(*) FROM lp.users'), $users + 61, '... until that is rolled back');

	# More lists than the process may have connections.
	$node->append_conf('postgresql.conf', "max_files_per_process = 100\n");
	$node->restart;
	$session->quit;
	$session = LpUsers::session($node);
	fault(path => '/le-users/users', action => 'stall', seconds => 1000, times => 0);
	my $opened = 0;
	$session->query('BEGIN');
	foreach my $n (1 .. 60)
	{
		($out, $err) = $session->run("DECLARE c$n CURSOR FOR SELECT entity FROM lp.users;\nFETCH 1 FROM c$n");
		last if $err =~ /ERROR/;
		$opened = $n;
	}
	like($err, qr/ERROR:  53000: could not list users: could not connect to the account: no file descriptor is left/, "more lists than connections: $opened could be opened");
	cmp_ok($opened, '>=', 5, '... and not before');
	$session->query('ROLLBACK');
	clean();
	is($session->query('SELECT count(*) FROM lp.users'), $users + 61, '... afterwards it works');
	$session->nothing_left('more lists than connections');
};

# ------------------------------------------------------------------------------------------------- a standby

my $log;

subtest 'concurrent scans on a standby' => sub {
	$node->backup('backup');
	my $standby = PostgreSQL::Test::Cluster->new('standby');
	$standby->init_from_backup($node, 'backup', has_streaming => 1);
	$standby->start;
	$session->quit;
	$session = LpUsers::session($standby);
	$users += 61;
	is($session->query('SELECT pg_is_in_recovery(), count(*) FROM lp.users'), "t|$users", 'a standby lists');
	is($session->query('SELECT login_name FROM lp.users WHERE id IN (' . ids(1, 2) . ')'), "agent00001\nagent00002", '... gets users by id');
	is($session->query("SELECT count(*) FROM lp.users u JOIN lp.skills s ON s.id = ANY (u.skill_ids)"), 12000, '... joins');
	is(scalar(() = $session->query("BEGIN;\nDECLARE c CURSOR FOR SELECT u.entity FROM lp.users u, generate_series(1, 3) WHERE u.entity IS NOT NULL;\nFETCH 1 FROM c;\nFETCH ALL FROM c;\nCOMMIT") =~ /"loginName"/g),
		3 * $users, '... has cursors');
	($out, $err) = $session->run("DELETE FROM lp.users WHERE id = " . id(1));
	like($err, qr/ERROR:  25006/, '... and does not write');
	is($sim->count(method => 'DELETE'), 0, '... nor send');
	$session->nothing_left('a standby');
	$session->quit;
	$standby->stop('fast');

	$log = slurp_file($node->logfile) . slurp_file($standby->logfile);
};

unlike($log, qr/temporary file leak|resource was not closed|PANIC|TRAP|terminated by signal/, 'the logs know of no leak and no crash');
done_testing();

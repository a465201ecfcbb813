# What goes wrong in the middle of a list is an ERROR, however many rows were returned before; what is no success never
# looks like an empty table; and the session goes on with the next statement, with nothing left of the failed one.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LpUsers;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

# Several times what is read before the first row, so that a failure in the middle comes after rows.
my $users = 5000;

my $sim  = LpUsers::account('--users', $users);
my $node = LpUsers::server();
LpUsers::connect_account($node, $sim, options => "timeout '20s'");
$node->safe_psql('postgres', 'CREATE SCHEMA lp; IMPORT FOREIGN SCHEMA liveperson FROM SERVER acme INTO lp; CREATE TABLE copied (id bigint, profiles bigint[])');

my $session = LpUsers::session($node);
my $pid     = $session->query('SELECT pg_backend_pid()');

# Enough columns for a list of several megabytes.
my $wide = 'SELECT id, login_name, full_name, email, nickname, profile_ids, skill_ids, member_of, employee_id, entity';

# The reading of lists is struck.
sub fault { my (%rule) = @_; $sim->remove($_) foreach 'faults', 'log'; $sim->post('faults', { method => 'GET', path => '/le-users/users', %rule }); return; }
sub gets { return $sim->count(method => 'GET', path => '/le-users/users'); }
sub hex_of { my ($bytes) = @_; return { action => 'spoil', hex => unpack('H*', $bytes) }; }

$session->query('SELECT count(*) FROM lp.users');
my $sockets = LpUsers::sockets_of($pid);

# The next statement is answered, and nothing is left of the last one: sockets are those of kept connections.
sub goes_on
{
	my ($title) = @_;

	$sim->remove('faults');
	is($session->query('SELECT count(*), min(id) > 0 FROM lp.users'), "$users|t", "$title: the next statement is answered");
	$session->nothing_left($title);
	cmp_ok(LpUsers::sockets_of($pid), '<=', $sockets, "$title: no socket is left open");
	return;
}

# ------------------------------------------------------------------------------------------------- after rows

# In four ways of reading: a plain query, a copy, a cursor that has shown rows, a block that catches it.
sub breaks
{
	my ($title, $rule, $error) = @_;
	my ($out, $err);

	fault(%$rule, times => 0);
	($out, $err) = $session->run("$wide FROM lp.users");
	like($err, $error, "$title: a query");
	is($out, '', "$title: of which no row is shown");
	($out, $err) = $session->run("INSERT INTO copied SELECT id, profile_ids FROM lp.users WHERE entity IS NOT NULL");
	like($err, $error, "$title: a copy");
	is($session->query('SELECT count(*) FROM copied'), '0', "$title: of which nothing is kept");
	($out, $err) = $session->run("BEGIN;\nDECLARE c CURSOR FOR $wide FROM lp.users;\nSELECT 'fetched';\nFETCH 10 FROM c;");
	is(scalar(() = $out =~ /^\d+\|agent/mg), 10, "$title: a cursor shows what came before");
	($out, $err) = $session->run('FETCH ALL FROM c');
	like($err, $error, "$title: and then the error");
	$session->query('ROLLBACK');
	($out, $err) = $session->run("DO \$\$ DECLARE r record; n int = 0; BEGIN
		FOR r IN $wide FROM lp.users LOOP n := n + 1; END LOOP; RAISE NOTICE 'whole';
		EXCEPTION WHEN OTHERS THEN RAISE NOTICE 'ERROR:  %: after %', SQLSTATE, n; END \$\$");
	like($err, $error, "$title: a block that catches it");
	my ($n) = $err =~ /after (\d+)/;
	cmp_ok($n // 0, '>', $users / 3, "$title: after rows");
	goes_on($title);
	return;
}

my $broken = qr/ERROR:  08006:/;
my ($out, $err);

subtest 'a failure after rows were returned is an error' => sub {
	my $large  = 'x' x 1_100_000;
	my @faults = (
		[ 'cut',                   { action => 'half' },                       $broken ],
		[ 'reset',                 { action => 'half', reset => \1 },          $broken ],
		[ 'a length too large',    { action => 'wrong_length' },               $broken ],
		[ 'chunks that break off', { action => 'half', chunked => \1 },        $broken ],
		[ 'chunks, then a reset',  { action => 'half', chunked => \1, reset => \1 }, $broken ],
		[ 'garbage',               hex_of('garbage'),                          $broken ],
		[ 'an HTML page',          hex_of("<html>\n<head>"),                   $broken ],
		[ 'the end, and then more', hex_of(']'),                               $broken ],
		[ 'an element that is a number', hex_of('4711,'),                      $broken ],
		[ 'an element that is null',     hex_of('null,'),                      $broken ],
		[ 'a list in the list',          hex_of('[],'),                        $broken ],
		[ 'bad UTF-8',             hex_of("{\"id\":1,\"loginName\":\"\xff\"},"), $broken ],
		[ 'a NUL byte',            hex_of("{\"id\":1,\"loginName\":\"\0\"},"), $broken ],
		[ 'a NUL between users',   hex_of("\0"),                               $broken ],
		[ 'an escaped NUL',        hex_of('{"id":1,"loginName":"\u0000"},'),   $broken ],
		[ 'too deep',              hex_of('{"id":1,"x":' . '[' x 40 . ']' x 40 . '},'),   $broken ],
		[ 'an endless element',    hex_of("{\"id\":1,\"x\":\"$large\"},"),     $broken ],
		[ 'a text where a number has to be', hex_of('{"id":"many","loginName":"agent"},'), qr/ERROR:  22P02:/ ],
		[ 'an object where a number has to be', hex_of('{"id":{"a":1},"loginName":"agent"},'), qr/ERROR:  22P02:/ ],
		[ 'a number that is too large', hex_of('{"id":99999999999999999999,"loginName":"agent"},'), qr/ERROR:  22003:/ ],
		[ 'a text where a list has to be', hex_of('{"id":1,"loginName":"agent","profileIds":"none"},'), qr/ERROR:  22P02:/ ],);

	breaks(@$_) foreach @faults;

	# Whose value it was.
	fault(%{ hex_of('{"id":815,"loginName":"agent","profileIds":["x"]},') });
	($out, $err) = $session->run("$wide FROM lp.users");
	like($err, qr/22P02: invalid input syntax.*CONTEXT:  column "profile_ids" \(attribute "profileIds"\) of foreign table "users", entity with id 815/s,
		'the entity, the attribute and the column of a wrong value are named');

	# What was not requested does no harm.
	fault(%{ hex_of('{"id":815,"loginName":"agent","profileIds":["x"],"x":"\u0000"},') });
	is($session->query('SELECT count(id) FROM lp.users'), $users + 1, 'a wrong value that nobody wants is no failure');

	# Where the reader stopped is said, the answer is not quoted.
	fault(%{ hex_of('{"id":1,"loginName":"s3cret" "x"},') });
	($out, $err) = $session->run("$wide FROM lp.users");
	like($err, qr/ERROR:  08006: could not list users of account "12345678": the response cannot be read\nDETAIL:  .* at byte \d+\./,
		'what cannot be read is told with its place');
	unlike($err, qr/s3cret/, 'and not quoted');
};

subtest 'a response that is no list is an error' => sub {
	my @refusals = (
		[ 'no body',       { action => 'empty' },                         '08006', 1 ],
		[ 'no JSON',       { action => 'not_json' },                      '08006', 1 ],
		[ 'deep',          { action => 'deep' },                          '08006', 1 ],
		[ 'a gateway',     { action => 'html' },                          '08006', 1 ],
		[ 'half a list, shorter than it says', { action => 'body', body => '[{"id":1}' }, '08006', 1 ],
		[ 'null',          { action => 'body', body => 'null' },          '08006', 1 ],
		[ 'no answer',     { action => 'close' },                         '08006' ],
		[ 'a reset',       { action => 'reset' },                         '08006' ],
		[ 'a redirect',    { action => 'redirect', location => 'http://127.0.0.1:1/' }, 'HV000', 1 ],
		[ '304',           { action => 'status', status => 304, body => '' }, 'HV000', 1 ],
		[ '400',           { action => 'status', status => 400 },         'HV000', 1 ],
		[ '401',           { action => 'status', status => 401 },         '28000', 1 ],
		[ '403',           { action => 'status', status => 403 },         '42501', 1 ],
		[ '404',           { action => 'status', status => 404 },         'HV000', 1 ],
		[ '500',           { action => 'status', status => 500 },         '08006', 1 ],
		[ '503',           { action => 'status', status => 503 },         '08006', 1 ],
		[ '503 with a list', { action => 'status', status => 503, body => '[{"id":1}]' }, '08006', 1 ],
		[ '429 for too long', { action => 'retry_after', value => '30' }, '53400', 1 ],);

	# an empty list
	fault(action => 'status', status => 204, body => '');
	is($session->query('SELECT count(*) FROM lp.users'), '0', '204 is an empty list');
	gets();

	foreach my $refusal (@refusals)
	{
		my ($title, $rule, $sqlstate, $gets) = @$refusal;

		fault(%$rule, times => 0);
		($out, $err) = $session->run('SELECT count(*) FROM lp.users');
		like($err, qr/ERROR:  $sqlstate: could not list users/, "$title: $sqlstate");
		is($out, '', "$title: no row");
		is(gets(), $gets, "$title: asked once") if $gets;	# libcurl repeats a GET when a kept connection ends
	}
	goes_on('refusals');

	foreach my $pair ([ skills => 'skills' ], [ profiles => 'profiles' ], [ agent_groups => 'agentGroups' ], [ lobs => 'lobs' ])
	{
		my ($table, $path) = @$pair;

		$sim->post('faults', { path => "/$path", action => 'half' });
		($out, $err) = $session->run("SELECT count(*) FROM lp.$table");
		like($err, $broken, "$table, cut");
	}
};

subtest 'a GET is repeated after 429, and once after 401' => sub {
	fault(action => 'retry_after', value => '1');
	is($session->query('SELECT count(*) FROM lp.users'), $users, '429: asked again after the time it names');
	is(gets(), 2, '... twice');

	my $tokens = LpUsers::account('--users', 100);
	LpUsers::connect_account($node, $tokens, server => 'tokens',
		options => "token_url '$tokens->{tls_url}/sentinel/api/v2/account/12345678/app/token', ca_file '$LpUsers::top/test/certs/ca.pem'",
		mapping => "client_id 'lp-client', client_secret 'lp-client-secret'");
	my $other = LpUsers::session($node);
	$other->query('CREATE SCHEMA t; IMPORT FOREIGN SCHEMA liveperson FROM SERVER tokens INTO t');
	is($other->query('SELECT count(*) FROM t.users'), 100, 'with a token of the token service');
	$tokens->post('tokens/expire');
	is($other->query('SELECT count(*), count(DISTINCT id) FROM t.users'), '100|100', '401: asked again with a new token');
	is($tokens->count(method => 'GET', status => 401) . $tokens->count(method => 'GET', status => 200) . $tokens->count(path => '/app/token'),
		'122', '... once');
	$tokens->post('faults', { method => 'GET', action => 'status', status => 401, times => 2 });
	($out, $err) = $other->run('SELECT count(*) FROM t.users');
	like($err, qr/ERROR:  28000: could not list users/, '401 again: refused');
	is($other->query('SELECT count(*) FROM t.users'), 100, '... and the next statement is answered');
	$tokens->post('tokens/expire');
	$tokens->post('faults', { path => '/app/token', action => 'status', status => 503 });
	($out, $err) = $other->run('SELECT count(*) FROM t.users');
	like($err, qr/ERROR:  08001: could not list users: .*token service/, 'no new token: refused');
	$tokens->post('tokens/expire');
	is($other->query("SELECT count(*) FROM t.users WHERE id IN (SELECT id FROM t.users WHERE login_name < 'agent00050')"), 49, '401 before a join');
	$other->quit;
};

# ------------------------------------------------------------------------------------------------- time

my $log;

subtest 'a list that takes too long is an error' => sub {
	# Slow, but never silent for long: as long as it takes. The pauses are a fiftieth of the patience, the whole is more.
	$session->query("ALTER SERVER acme OPTIONS (SET timeout '1s')");
	fault(action => 'drip', bytes => 32768, ms => 20);
	my $since = time();
	is($session->query("SELECT count(entity) FROM lp.users"), $users, 'a slow list is read to its end');
	cmp_ok(time() - $since, '>', 1, '... for longer than the option timeout');

	$session->query("ALTER SERVER acme OPTIONS (SET timeout '500ms')");
	foreach my $silence ([ 'before the headers', { action => 'silence', seconds => 200 } ],
		[ 'after the headers', { action => 'headers_only', seconds => 200 } ],
		[ 'in the middle', { action => 'stall', seconds => 200 } ],
		[ 'in the middle of chunks', { action => 'stall', seconds => 200, chunked => \1 } ])
	{
		my ($title, $rule) = @$silence;

		fault(%$rule, times => 0);
		$since = time();
		($out, $err) = $session->run("$wide FROM lp.users");
		my $took = time() - $since;
		like($err, qr/ERROR:  08006: could not list users of account "12345678": nothing came for 500 ms/, "silence $title");
		cmp_ok($took, '>=', 0.5, '... after that time');
		cmp_ok($took, '<',  60,  '... and not much more');
		goes_on("silence $title");
	}

	# No statement waits: then silence is no failure. What was sent meanwhile is there.
	fault(action => 'stall', seconds => 2);
	$session->query('BEGIN');
	$session->query("DECLARE c CURSOR FOR $wide FROM lp.users");
	$since = time();
	is(scalar(() = $session->query('FETCH 5 FROM c') =~ /^\d+\|/mg), 5, 'a list that stalls: its first rows');
	LpUsers::wait_for(sub { $sim->get('log')->[0]{bytes_out} > 1_800_000 && time() - $since > 2 }, 'the stand-in to go on');
	is($session->query('MOVE ALL FROM c') . $session->query("SELECT 'x'"), 'x', 'the rest');
	is($session->query('FETCH 1 FROM c'), '', '... to its end');
	$session->query('COMMIT');
	goes_on('a list that stalls');
	$session->query("ALTER SERVER acme OPTIONS (SET timeout '20s')");

	$log = slurp_file($node->logfile);
	unlike($log, qr/temporary file leak|resource was not closed|leaked/, 'the log knows of no leak');
};

# Each path says it in the same words, and again: libcurl 7.88 refused to use the handle of a failed request for a list.
subtest 'a host that cannot be resolved' => sub {
	my $why = qr/Could not resolve host: nowhere\.invalid/;

	$node->safe_psql('postgres', q{CREATE SERVER nowhere FOREIGN DATA WRAPPER lpusers OPTIONS (account 'N', base_url 'http://nowhere.invalid');
		CREATE USER MAPPING FOR CURRENT_USER SERVER nowhere OPTIONS (token 'lp-token'); CREATE SCHEMA nowhere;
		IMPORT FOREIGN SCHEMA liveperson LIMIT TO (users) FROM SERVER nowhere INTO nowhere});
	foreach my $time (1 .. 2)
	{
		like($session->query(q{SELECT string_agg(detail, ' ') FROM lp_check('N')}), $why, 'lp_check');
		like(($session->run(q{SELECT * FROM lp_delete_users('N', '{1}')}))[1], $why, 'a call');
		like(($session->run($_))[1], qr/ERROR:  08001: .*$why/, $_) foreach 'SELECT id FROM nowhere.users', 'SELECT id FROM nowhere.users WHERE id = 1';
	}
	$session->query(q{SELECT lp_enqueue_users('N', jsonb_build_object('loginName', 'n', 'email', 'n@x.example', 'fullName', 'N', 'nickname', 'n', 'passwordSh', 'Start-1234',
		'isEnabled', true, 'maxChats', 1, 'profileIds', ARRAY[1], 'memberOf', '{"agentGroupId": 1}'::jsonb)); SELECT lp_enqueue_changes('N', '{"id": 1, "maxChats": 1}')});
	LpUsers::wait_for(sub { $session->query("SELECT count(*) FROM lp_requests WHERE account = 'N' AND error IS NOT NULL") == 2 }, 'both to be tried');
	is($session->query("SELECT count(*) FROM lp_requests WHERE account = 'N' AND error LIKE '%Could not resolve host: nowhere.invalid'"), 2, 'a queued create and a queued change');
	$node->safe_psql('postgres', q{DROP SERVER nowhere CASCADE; DELETE FROM lp_requests});
};

unlike($log, qr/PANIC|TRAP|terminated by signal/, 'nor of a crash');
done_testing();

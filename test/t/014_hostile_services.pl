# What a hostile account, token service, Login service or Domain API can cost: peak memory of the process and its processor time, for
# each way in which something is read from them; and what can be seen of secrets that they repeat and of characters that they choose.
# 008_hostile_responses has what each single response becomes. LPUSERS_LONG: each case in each way.
use strict;
use warnings;
use Compress::Raw::Zlib;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP;
use LpPeer;
use LpUsers;
use PostgreSQL::Test::Utils;
use Test::More;

plan(skip_all => 'needs /proc as Linux has it') unless -e "/proc/$$/clear_refs" && -e "/proc/$$/schedstat";

my $account = '12345678';
my $MB      = 1024 * 1024;
my $certs   = "$LpUsers::top/test/certs";
my $sim     = LpUsers::account();
my $node    = LpUsers::server(conf => "lpusers.worker = off\nlog_min_messages = log\n");
my ($true, $false) = (JSON::PP::true, JSON::PP::false);
my $root    = LpUsers::session($node);
my $n       = 0;

sub user { my (%more) = @_; return LpUsers::user('u' . ++$n, %more); }

# The ways: what they ask the account for, and the statements.
$root->query(qq{
	CREATE SERVER acme FOREIGN DATA WRAPPER lpusers OPTIONS (account '$account', base_url '$sim->{url}', domain_api_url '$sim->{tls_url}', ca_file '$certs/ca.pem',
		token_url '$sim->{tls_url}/sentinel/api/v2/account/$account/app/token', login_url '$sim->{tls_url}', timeout '2s', max_response_size '4MB', max_list_size '16MB', max_retries '0');
	CREATE USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (token 'lp-token');
	CREATE SERVER oauth FOREIGN DATA WRAPPER lpusers OPTIONS (account 'oauth', base_url '$sim->{url}', ca_file '$certs/ca.pem',
		token_url '$sim->{tls_url}/sentinel/api/v2/account/$account/app/token', timeout '2s', max_response_size '4MB');
	CREATE USER MAPPING FOR CURRENT_USER SERVER oauth OPTIONS (client_id 'lp-client', client_secret 'lp-client-secret');
	CREATE SERVER login FOREIGN DATA WRAPPER lpusers OPTIONS (account '$account-login', base_url '$sim->{url}', ca_file '$certs/ca.pem', login_url '$sim->{tls_url}',
		timeout '2s', max_response_size '4MB');
	CREATE USER MAPPING FOR CURRENT_USER SERVER login OPTIONS (username 'lp-user', password 'lp-user-password');
	CREATE SERVER domain FOREIGN DATA WRAPPER lpusers OPTIONS (account '$account-domain', domain_api_url '$sim->{tls_url}', ca_file '$certs/ca.pem', timeout '2s', max_response_size '4MB');
	CREATE USER MAPPING FOR CURRENT_USER SERVER domain OPTIONS (token 'lp-token');
	CREATE SCHEMA lp; IMPORT FOREIGN SCHEMA liveperson FROM SERVER acme INTO lp;
	CREATE TABLE staff (id int PRIMARY KEY, login_name text, full_name text, employee_id text, nickname text, email text, password_sh text, is_enabled bool, max_chats int, profiles text[]);
	INSERT INTO staff SELECT i, 's' || i || '\@x.example', 's', i, 's', 's' || i || '\@x.example', 'Start-1234', true, 3, '{Agent}' FROM generate_series(1, 20) i;
	SELECT lp_sync_define('staff', '$account', 'staff', 'id')});
$sim->post('users', [ map { decode_json($_) } LpUsers::user('there', id => 5, passwordSh => 'x') ]);
my $insert = 'INSERT INTO lp.users (login_name, email, full_name, nickname, password_sh, is_enabled, max_chats, profile_ids)';
my %ways = (
	call      => [ { method => 'POST', path => '/users' }, sub { return "SELECT status, error FROM lp_create_users('$account', '[" . user() . "]')" } ],
	update    => [ { method => 'PUT', path => '/users' }, sub { return "SELECT status, error FROM lp_update_users('$account', '[" . user(id => 5) . "]')" } ],
	check     => [ { method => 'GET', path => '/users' }, sub { return "SELECT ok, detail FROM lp_check('$account')" } ],
	scan      => [ { method => 'GET', path => '/users' }, sub { return 'SELECT count(*), max(length(entity::text)) FROM lp.users' } ],
	cursor    => [ { method => 'GET', path => '/users' }, sub { return "BEGIN;\nDECLARE c CURSOR FOR SELECT * FROM lp.users;\nFETCH 1 FROM c;\nSELECT pg_sleep(0.2);\nMOVE ALL FROM c;\nROLLBACK" } ],
	skills    => [ { method => 'GET', path => '/skills' }, sub { return 'SELECT count(*) FROM lp.skills' } ],
	insert    => [ { method => 'POST', path => '/users' }, sub { return "$insert VALUES ('i" . ++$n . "\@x', 'i\@x', 'i', 'i', 'Start-1234', true, 3, '{1}')" } ],
	change    => [ { method => 'GET', path => '/users' }, sub { return "UPDATE lp.users SET max_chats = 4, full_name = 'x' WHERE id = 5" } ],
	put       => [ { method => 'PUT', path => '/users' }, sub { return "UPDATE lp.users SET max_chats = 4, full_name = 'x' WHERE id = 5" } ],
	queue     => [ { method => 'POST', path => '/users' }, sub { return "SELECT count(*) FROM lp_enqueue_users('$account', '[" . user() . "]');\nCALL lp_deliver('$account')" } ],
	listed    => [ { method => 'GET', path => '/users' }, sub { return "SELECT count(*) FROM lp_enqueue_users('$account', '[" . join(',', map { user() } 1 .. 8) . "]');\nCALL lp_deliver('$account')" } ],
	changes   => [ { method => 'PUT', path => '/users' }, sub { return "SELECT lp_enqueue_changes('$account', '{\"id\": 5, \"maxChats\": 2, \"fullName\": \"x\"}');\nCALL lp_deliver('$account')" } ],
	read      => [ { method => 'GET', path => '/users' }, sub { return "SELECT lp_enqueue_changes('$account', '{\"id\": 5, \"maxChats\": 2, \"fullName\": \"x\"}');\nCALL lp_deliver('$account')" } ],
	sync      => [ { method => 'GET', path => '/users' }, sub { return "SELECT count(*) FROM lp_sync_diff('staff')" } ],
	names     => [ { method => 'GET', path => '/profiles' }, sub { return "SELECT count(*) FROM lp_sync_diff('staff')" } ],
	token     => [ { path => '/app/token' }, sub { return "SELECT status, error FROM lp_create_users('oauth', '[" . user() . "]')" } ],
	login     => [ { path => '/login' }, sub { return "SELECT status, error FROM lp_create_users('$account-login', '[" . user() . "]')" } ],
	domain    => [ { path => '/baseURI' }, sub { return "SELECT status, error FROM lp_create_users('$account-domain', '[" . user() . "]')" } ]);

# Seconds that a processor has worked for a process.
sub processor_time { my ($pid) = @_; return (split(/ /, slurp_file("/proc/$pid/schedstat")))[0] / 1e9; }

# Run the statements of a way with this fault; returns peak of memory above what there was, in MB, seconds of processor time, and what
# was said. An own session each, so that memory that stays with a process is not hidden by an earlier case.
sub measure
{
	my ($way, %fault) = @_;
	my ($match, $sql) = @{ $ways{$way} };
	my $session = LpUsers::session($node);
	my $pid = $session->query('SELECT pg_backend_pid()');

	$sim->remove('faults');
	# libraries and catalogs are loaded
	$session->run("SELECT count(*) FROM lp.skills; SELECT count(*) FROM lp_check('$account')");
	$sim->post('faults', { %$match, times => 0, %fault });
	append_to_file("/proc/$pid/clear_refs", "5\n");
	my ($before) = slurp_file("/proc/$pid/status") =~ /^VmRSS:\s+(\d+)/m;
	my $worked = processor_time($pid);
	my ($out, $err) = eval { $session->run($sql->()) };
	($out, $err) = ('', "HANGS $@") unless defined $out;
	my ($peak, $seconds);
	if (-e "/proc/$pid/status")
	{
		($peak) = slurp_file("/proc/$pid/status") =~ /^VmHWM:\s+(\d+)/m;
		$seconds = processor_time($pid) - $worked;
	}
	my ($struck) = map { $_->{struck} } @{ $sim->get('faults') };

	$session->run('ROLLBACK') unless $err =~ /HANGS/;
	$session->quit;
	$root->query("TRUNCATE lp_requests, lp_payloads; SELECT 1");
	return { memory => defined $peak ? ($peak - $before) / 1024 : undef, seconds => $seconds, out => $out, err => $err, struck => $struck };
}

# ---------------------------------------------------------------------------------------------- memory and time

# A response in memory may take four times max_response_size as a tree, besides its text and copies of that; a list takes no more
# memory when it is larger. What is measured is the growth of the process: libcurl and json-c allocate outside of PostgreSQL.
# What a piece of a compressed list becomes depends on how the pieces arrive, so that such a list takes now less and now more; 21 to
# 49 MB were seen. The work is bounded by the sizes: at most 0.4 s were seen.
my $limit = 4 * 4 + 3 * 4 + 20;
my $limit_compressed = 8 + 1 + 34 + 20;
my $most_seconds = 6;
my $text  = '"' . 'x' x 1000 . '",';
my %costly = (
	'a list without end'    => { action => 'endless', status => 200 },
	'texts without end'     => { action => 'endless', status => 200, unit => $text },
	'empty objects'         => { action => 'bomb', bytes => 4 * $MB - 1000, status => 200 },
	'objects, as allowed'   => { action => 'bomb', bytes => 59_000, status => 200 },
	'numbers'               => { action => 'huge', bytes => 4 * $MB - 1000, status => 200, unit => '0,' },
	'numbers, as allowed'   => { action => 'huge', bytes => 390_000, status => 200, unit => '0,' },
	'texts, as allowed'     => { action => 'huge', bytes => 4 * $MB - 2000, status => 200, unit => $text },
	'nested arrays'         => { action => 'deep', depth => 1_000_000, of => 'array' },
	'nested objects'        => { action => 'deep', depth => 300_000, of => 'object' },
	'many attributes'       => { action => 'wide', members => 150_000, status => 200 },
	'an error of objects'   => { action => 'bomb', bytes => 4 * $MB - 1000, status => 400 },
	'an error without end'  => { action => 'endless', status => 400 },
	'a long error'          => { action => 'huge', bytes => 4 * $MB - 2000, status => 400, unit => $text });

# The test of what a case has cost.
sub within_limits
{
	my ($title, $m, $most_memory) = @_;

	note(sprintf('%-34s %6.1f MB %5.2f s  %s', $title, $m->{memory} // 0, $m->{seconds} // 0, substr("$m->{out} $m->{err}" =~ s/\s+/ /gr, 0, 160)));
	unlike($m->{err}, qr/HANGS|server closed|FATAL|XX000|53200/, "$title: it ends, without a crash and an internal error") or return;
	cmp_ok($m->{memory}, '<', $most_memory // $limit, "$title: memory");
	cmp_ok($m->{seconds}, '<', $most_seconds, "$title: processor time");
	return;
}

# The pairs of a case and a way that are tried: each way with the cases that cost it most, each case in the ways that are named.
sub pairs
{
	my ($cases, $ways, $worst, @always) = @_;
	my %worst  = map { $_ => 1 } @$worst;
	my %always = map { $_ => 1 } @always;
	my @pairs;

	foreach my $case (@$cases)
	{
		push @pairs, map { [ $case, $_ ] } grep { $ENV{LPUSERS_LONG} || $worst{$case} || $always{$_} } @$ways;
	}
	return @pairs;
}

foreach my $pair (pairs([ sort keys %costly ], [ sort keys %ways ], [ 'a list without end', 'objects, as allowed', 'a long error' ], 'call', 'scan'))
{
	my ($what, $way) = @$pair;
	my $m = measure($way, %{ $costly{$what} });

	within_limits("$what, $way", $m) if ok($m->{struck}, "$what, $way: it was asked for");
}

# Compressed: libcurl unpacks it piece by piece.
{
	my ($deflate) = Compress::Raw::Zlib::Deflate->new(-WindowBits => WANT_GZIP, -AppendOutput => 1);
	my $bomb = '';
	$deflate->deflate($_, $bomb) foreach '[', ('{"id":4711,"loginName":"someone@example.com"},' x 20_000) x 300;
	$deflate->flush($bomb);
	cmp_ok(length($bomb), '<', $MB, 'a bomb of less than 1 MB');
	my $peer = LpPeer::start(LpPeer::script(sub {
		my ($connection) = @_;
		syswrite($connection, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: " . length($bomb) . "\r\n\r\n$bomb");
		return 0;
	}));
	$root->query("ALTER SERVER acme OPTIONS (SET base_url '" . $peer->url . "')");
	foreach my $way (qw(check scan cursor read sync listed))
	{
		within_limits("a compressed list of 276 MB, $way", measure($way, action => 'close'), $limit_compressed);
	}
	$root->query("ALTER SERVER acme OPTIONS (SET base_url '$sim->{url}')");
	$peer->stop;
}

# What never comes, or a byte at a time. A list that is read by a statement may take as long as the statement.
$root->query("ALTER SERVER $_ OPTIONS (SET timeout '400ms')") foreach qw(acme oauth login domain);
my %slow = ('no answer' => { action => 'silence' }, 'half an answer' => { action => 'stall' }, 'headers only' => { action => 'headers_only' },
	'byte by byte' => { action => 'drip', bytes => 1, ms => 100 });
foreach my $pair (pairs([ sort keys %slow ], [ sort keys %ways ], [ 'no answer' ], 'call', 'check', 'scan', 'changes', 'domain'))
{
	my ($what, $way) = @$pair;

	next if $what eq 'byte by byte' && $way =~ /^(?:scan|cursor|skills|change|sync|names)$/;
	within_limits("$what, $way", measure($way, %{ $slow{$what} }));
}
$root->query("ALTER SERVER $_ OPTIONS (SET timeout '5s')") foreach qw(acme oauth login domain);

# What a caller gives: checking users is ended like any other statement.
{
	my $session = LpUsers::session($node);

	$session->query("CREATE TEMP TABLE many AS SELECT jsonb_agg(jsonb_build_object('loginName', i || '\@example.com')) AS users FROM generate_series(1, 600000) i");
	foreach my $call ('SELECT count(*) FROM many, lp_validate_users(users)', "SELECT count(*) FROM many, lp_enqueue_users('$account', users)")
	{
		my $pid = $session->query('SELECT pg_backend_pid()');
		my $worked = processor_time($pid);
		my (undef, $err) = $session->run("SET statement_timeout = '200ms'; $call; RESET statement_timeout");
		like($err, qr/ERROR:  57014:/, "$call: ended by statement_timeout");
		cmp_ok(processor_time($pid) - $worked, '<', 2, '... soon');
		$session->query('RESET statement_timeout');
	}
	$session->quit;
}

# ---------------------------------------------------------------------------------------------- secrets

# Bearer, passwords and client secret in each spelling that JSON allows, in errors of any shape, also behind more than 1 MB of
# something else. They are in no row, no message, no view and no log.
my $bearer = 'bearer/"tok+en%41-4711';
my $secret = 'client/"sec+ret%41-4712';
my $login_password = 'login/"pass+word%41-4713';
my $password = 'Pass/"word+%41-4714';
my @secrets = ($bearer, $secret, $login_password, $password);
{
	my $quoted = sub { return "'" . $_[0] =~ s/'/''/gr . "'" };
	$root->query('SET log_statement = none; ALTER USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (SET token ' . $quoted->($bearer) . ');
		ALTER USER MAPPING FOR CURRENT_USER SERVER oauth OPTIONS (SET client_secret ' . $quoted->($secret) . ');
		ALTER USER MAPPING FOR CURRENT_USER SERVER login OPTIONS (SET password ' . $quoted->($login_password) . ')');
}
my $json = JSON::PP->new->ascii->canonical;
my %with_password = (
	call   => sub { return "SELECT * FROM lp_create_users('$account', '" . user(passwordSh => $password) . "')" },
	update => sub { return "SELECT * FROM lp_update_users('$account', '" . user(id => 5, passwordSh => $password) . "')" },
	reset  => sub { return "SELECT * FROM lp_reset_password('$account', 5, '$password')" },
	insert => sub { return "$insert VALUES ('i" . ++$n . "\@x', 'i\@x', 'i', 'i', '$password', true, 3, '{1}')" },
	put    => sub { return "UPDATE lp.users SET password_sh = '$password', full_name = 'x' WHERE id = 5" },
	queue  => sub { return "SELECT count(*) FROM lp_enqueue_users('$account', '" . user(passwordSh => $password) . "');\nCALL lp_deliver('$account')" },
	changes => sub { return "SELECT count(*) FROM lp_enqueue_changes('$account', '{\"id\": 5, \"passwordSh\": " . $json->allow_nonref->encode($password) . ", \"fullName\": \"x\"}');\nCALL lp_deliver('$account')" });
my $session = LpUsers::session($node);
$session->query('SET log_statement = none; SET log_min_error_statement = panic');
my $offset = -s $node->logfile;

# What a client may find of the secrets; a part of eight characters is one, too.
sub told
{
	my ($text) = @_;

	return join(' ', grep { my $s = $_; grep { index($text, substr($s, $_, 8)) >= 0 } 0 .. length($s) - 8 } @secrets);
}
is(told("x $password x"), $password, 'a secret would be found');

sub nothing_told
{
	my ($what, $out, $err) = @_;

	is(told("$out$err"), '', "$what: nobody is told") or diag(substr("$out$err", 0, 500));
	my $kept = $root->query("SELECT coalesce(string_agg(r::text, ''), '') || (SELECT coalesce(string_agg(p::text, ''), '') FROM lp_progress p) || lp_report() FROM lp_requests r");
	is(told($kept), '', "$what: nor does a table or view");
	$root->query('TRUNCATE lp_requests, lp_payloads');
	return;
}

# The stand-in takes any bearer when the fault strikes first.
my @encodings = qw(mixed plain slash unicode upper);
foreach my $pair (pairs(\@encodings, [ sort keys %with_password ], ['mixed'], 'call', 'changes'))
{
	my ($encoding, $way) = @$pair;

	foreach my $status (400, 500)
	{
		$sim->remove('faults');
		$sim->post('faults', { path => '/users', method => $way =~ /call|insert|queue/ ? 'POST' : 'PUT', action => 'leak', encoding => $encoding, status => $status, times => 0 });
		$sim->post('faults', { path => '/users', method => 'GET', action => 'body', status => 200, body => '[]', times => 0 }) if $way =~ /queue/;
		nothing_told("leak, $encoding, $status, $way", $session->run($with_password{$way}->()));
	}
}
foreach my $encoding (@encodings)
{
	foreach my $way ([ check => '/users', "SELECT * FROM lp_check('$account')" ], [ scan => '/users', 'SELECT * FROM lp.users' ], [ sync => '/users', "SELECT * FROM lp_sync_diff('staff')" ],
		[ token => '/app/token', "SELECT * FROM lp_check('oauth')" ], [ login => '/login', "SELECT * FROM lp_check('$account-login')" ])
	{
		foreach my $status (200, 401)
		{
			$sim->remove('faults');
			$sim->post('faults', { path => $way->[1], action => 'leak', encoding => $encoding, status => $status, times => 0 });
			nothing_told("leak, $encoding, $status, $way->[0]", $session->run($way->[2]));
		}
	}
}

# Spellings of a whole response: behind or in front of much else, percent-encoded, in parts.
my $escaped = join('', map { sprintf('\\u%04x', ord) } split(//, $password));
my $percent = join('', map { sprintf('%%%02X', ord) } split(//, $password));
my $both    = join('', map { sprintf('%%%02x', ord) } split(//, $escaped));
my $padding = '"' . 'x' x (1100 * 1024) . '"';
my %bodies = (
	'escaped, behind 1 MB'        => "{\"pad\":$padding,\"message\":\"$escaped\"}",
	'escaped, before 1 MB'        => "{\"message\":\"$escaped\",\"pad\":$padding}",
	'across the end of a piece'   => '{"pad":"' . 'x' x (1024 * 1024 - 30) . "\",\"message\":\"$escaped\"}",
	'before many values'          => "{\"message\":\"$escaped\",\"pad\":[" . join(',', ('{}') x 400_000) . ']}',
	'percent-encoded'             => "{\"message\":\"$percent\"}",
	'escaped and percent-encoded' => "{\"message\":\"$both\"}",
	'an attribute of its own'     => "{\"message\":\"m\",\"data\":{\"passwordSh\":\"$escaped\"}}",
	'a name'                      => "{\"message\":\"m\",\"$escaped\":1}",
	'a field'                     => "{\"message\":\"m\",\"fields\":[\"$escaped\"]}",
	'an internal code'            => "{\"message\":\"m\",\"internalCode\":\"$escaped\"}",
	'not JSON'                    => "<html>$escaped $percent</html>",
	'bearer'                      => '{"message":"m","sent":' . $json->allow_nonref->encode("Bearer $bearer") . '}',
	'success'                     => '[{"id":4711,"loginName":"x","passwordSh":"' . $escaped . '"}]');
foreach my $pair (pairs([ sort keys %bodies ], [ sort keys %with_password ], [ 'escaped, behind 1 MB', 'before many values', 'success' ], 'call', 'changes'))
{
	my ($what, $way) = @$pair;

	foreach my $status ($what eq 'success' ? 201 : (400, 201))
	{
		$sim->remove('faults');
		$sim->post('faults', { path => '/users', method => $way =~ /call|insert|queue/ ? 'POST' : 'PUT', action => 'body', status => $status, body => $bodies{$what}, times => 0 });
		nothing_told("$what, $status, $way", $session->run($with_password{$way}->()));
	}
}
is(told(LpUsers::log_since($node, $offset)), '', 'nor does the log');

# ---------------------------------------------------------------------------------------------- control characters

# Nothing that a terminal or a page would obey, or that turns the direction of a text, passes into what people read.
my $odd = qr/[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|\xe2\x80[\x8b-\x8f\xa8-\xae]|\xe2\x81[\xa0-\xaf]|\xef\xbb\xbf|\xf3\xa0[\x80-\x81]/;
foreach my $way (sort keys %ways)
{
	$sim->remove('faults');
	$sim->post('faults', { %{ $ways{$way}[0] }, action => 'controls', times => 0 });
	my ($out, $err) = $session->run($ways{$way}[1]->());
	$session->run('ROLLBACK');
	unlike("$out$err", $odd, "controls, $way: none is told");
	unlike($root->query("SELECT coalesce(string_agg(concat(r.error, r.reason), ''), '') || lp_report() FROM lp_requests r"), $odd, "controls, $way: none is in error, reason or report");
	$root->query('TRUNCATE lp_requests, lp_payloads');
}
unlike(join('', grep { !/statement:/ } split(/^/, LpUsers::log_since($node, $offset))), $odd, 'nor in the log');

unlike(LpUsers::log_since($node, 0), qr/terminated by signal|TRAP:|PANIC:/, 'nothing crashed');
$_->quit foreach $root, $session;
$sim->stop;
done_testing();

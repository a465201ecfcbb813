# Hostile input: options, arguments of the trigger, mappings, headers of answers, users. Whatever it is, the outcome is one of
# those that are documented: no internal error, no crash.
#
# Inputs are made from pieces that mean something, cut, doubled and mixed, and from bytes that mean nothing. In CI a few seconds
# of always the same; with LPUSERS_LONG ten times as much, and other ones each time. LPUSERS_SEED repeats a run. The reader of
# lists has a fuzzer of its own (fuzz.sh).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP;
use LpUsers;
use Test::More;
use Time::HiRes qw(time);

my $seed = $ENV{LPUSERS_SEED} || ($ENV{LPUSERS_LONG} ? int(time()) % 1_000_000 : 1);
my $rounds = $ENV{LPUSERS_LONG} ? 10 : 1;
srand($seed);
diag("fuzz: seed $seed (LPUSERS_SEED=$seed repeats it)");

my $account = '12345678';
my $sim  = LpUsers::account();
my $node = LpUsers::server(conf => "lpusers.worker = off\nlog_min_messages = fatal\n");
LpUsers::connect_account($node, $sim, options => "timeout '2s', hold_above '0'");
$sim->post('config', { unique => JSON::PP::false });
my $root = LpUsers::session($node);
my $pid  = $root->query(q{
	CREATE FUNCTION attempt(sql text) RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		detail text;
	BEGIN
		EXECUTE sql;
		RETURN '00000';
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
		RETURN SQLSTATE || ' ' || SQLERRM || ' / ' || coalesce(detail, '');
	END $$;
	CREATE SERVER fuzzed FOREIGN DATA WRAPPER lpusers OPTIONS (account 'fuzzed');
	CREATE TABLE hires (id int PRIMARY KEY, email text, name text, team bigint, active boolean, more jsonb);
	SET client_min_messages = error; SELECT pg_backend_pid()});

# ---------------------------------------------------------------------------------------------- dice

sub pick { return $_[ rand(@_) ]; }
sub number { return pick(0, 1, -1, 2, 100, 1e9, '2147483647', '2147483648', '-2147483649', '9223372036854775807', '9223372036854775808', '1e400', '0x10', '1.5', '-0', 'NaN', int(rand(1e6))); }

# Characters that PostgreSQL takes: no NUL, valid UTF-8.
sub noise { return join('', map { pick(map({ chr } 1 .. 126), "\x{e4}", "\x{20ac}", "\x{1f600}", "\x{202e}", "\x{feff}", "'", '"', '\\', '%', '=', '$') } 1 .. rand(shift // 20)); }

# Cut, double, put in, swap.
sub bend
{
	my ($text) = @_;
	my $at = int(rand(length($text) + 1));

	return pick(sub { substr($text, 0, $at) }, sub { substr($text, $at) }, sub { $text . $text }, sub { substr($text, 0, $at) . noise(4) . substr($text, $at) },
		sub { uc($text) }, sub { " $text " }, sub { $text =~ s/(.)(.)/$2$1/r }, sub { $text x 50 }, sub { $text . "\n" }, sub { $text })->();
}

sub literal { my ($text) = @_; return "'" . $text =~ s/'/''/gr . "'" if $text !~ /\\/; return "E'" . $text =~ s/([\\'])/$1$1/gr . "'"; }
sub dollar { my ($text) = @_; my $tag = 'q'; $tag .= 'q' while index($text, "\$$tag\$") >= 0; return "\$$tag\$$text\$$tag\$"; }

# Run statements, many at a time; all outcomes must be expected ones. Returns how often each was met.
sub try_all
{
	my ($what, $expected, @statements) = @_;
	my (%met, @wrong);
	my $utf8 = sub { my $text = shift; utf8::encode($text); return $text; };

	while (my @some = splice(@statements, 0, 100))
	{
		my ($out, $err) = $root->run($utf8->('SELECT attempt(s) FROM unnest(ARRAY[' . join(",\n", map { dollar($_) } @some) . ']) WITH ORDINALITY u(s, n) ORDER BY n'));
		my @got = split(/\n(?=[0-9A-Z]{5}(?: |$))/m, $out);

		push @wrong, "psql: $err" if $err =~ /ERROR|FATAL|server closed/;
		push @wrong, scalar(@got) . ' outcomes of ' . scalar(@some) if @got != @some;
		foreach my $i (0 .. $#got)
		{
			my ($code) = $got[$i] =~ /^(\w{5})/;
			$met{ $code // '?' }++;
			push @wrong, "$some[$i]\n=> $got[$i]" if ($code // '?') !~ $expected;
		}
	}
	is(scalar(@wrong), 0, "$what: every outcome is a known one") or diag($utf8->(join("\n", @wrong > 5 ? @wrong[ 0 .. 4 ] : @wrong)));
	is($root->query('SELECT pg_backend_pid()'), $pid, "$what: the backend is the same");
	note("$what: " . join(', ', map { "$_ $met{$_}" } sort keys %met));
	return \%met;
}

# ---------------------------------------------------------------------------------------------- options

my %values = (
	account => [ '12345678', 'a' x 64 ], domain => [ 'va.ac.liveperson.net', 'localhost' ], base_url => [ 'http://127.0.0.1:1', 'https://[::1]:443', 'https://u:p@x/', 'https://x?y#z' ],
	domain_api_url => ['https://api.liveperson.net'], login_url => ['https://x.y:65536'], token_url => ['https://x/y/z'], api_version => ['4.0'], connect_timeout => [ '5s', '1h', '0', '1us' ],
	timeout => [ '60s', '1ms', '1d' ], batch_size => [ '1', '10000' ], max_connections => ['64'], rate_limit => [ '0.5', '1e5', 'inf', 'nan' ], max_retries => ['1000'],
	max_response_size => [ '64MB', '1kB', '1TB' ], hold_above => ['2147483647'], delivery => [ 'on', 'paused' ], require_password => [ 'on', 'off', 'yes' ], ca_file => ['/x'],
	proxy => [ 'http://127.0.0.1:3128', 'socks5h://x:1' ], client_id => ['x'], client_secret => ['y'], client_secret_file => ['/z'], token => ['t'], token_file => ['/t'],
	username => ['u'], password => ['p'], password_file => ['/p'], proxy_user => ['u'], proxy_password => ['p'], proxy_password_file => ['/p'],
	resource => [ 'users', 'skills', 'lobs' ], attribute => [ 'loginName', '*', 'memberOf' ]);
my @names = sort keys %values;
my %names = (table => ['resource'], column => ['attribute'], server => [ grep { /^(?:account|domain|.*url|api_version|.*timeout|batch.*|max.*|rate.*|hold.*|delivery|require.*|ca_file|proxy)$/ } @names ]);

# An option of this kind of object, mostly.
sub option
{
	my ($kind) = @_;
	my $name = rand() < 0.9 ? pick(@{ $names{$kind} }) : pick(@names);
	my $value = rand() < 0.3 ? pick(@{ $values{$name} }) : rand() < 0.5 ? bend(pick(@{ $values{$name} })) : pick(number(), noise(30), '', ' ', "\t", 'x' x 5000);

	$name = bend($name) if rand() < 0.1;
	$name = noise(10) . 'x' if rand() < 0.05;
	return '"' . substr($name =~ s/"/""/gr, 0, 60) . '" ' . literal($value);
}
sub options { my ($kind) = @_; my %once = map { option($kind) =~ /^(\S+) (.*)/s ? ($1 => $2) : () } 0 .. rand(3); return join(', ', map { "$_ $once{$_}" } sort keys %once); }

subtest 'random options' => sub {
	$names{mapping} = [ grep { my $name = $_; !grep { $_ eq $name } map { @$_ } @names{qw(table column server)} } @names ];

	# What one may be told: syntax, undefined or doubled options, bad values, an account that is missing.
	my $told = qr/^(?:00000|22023|42601|42602|42622|42710|42704|HV00D|HV024|HV00J|22P05|22021|42501)$/;
	try_all('options', $told,
		map { pick("CREATE SERVER s$_ FOREIGN DATA WRAPPER lpusers OPTIONS (account '1', " . options('server') . ')', 'ALTER SERVER fuzzed OPTIONS (ADD ' . option('server') . ')',
			"CREATE SERVER s$_ FOREIGN DATA WRAPPER lpusers OPTIONS (" . options('server') . ')',
			'CREATE USER MAPPING FOR PUBLIC SERVER fuzzed OPTIONS (' . options('mapping') . '); DROP USER MAPPING FOR PUBLIC SERVER fuzzed',
			"CREATE FOREIGN TABLE f$_ (id bigint OPTIONS (" . option('column') . '), x text OPTIONS (' . option('column') . ')) SERVER fuzzed OPTIONS (' . options('table') . ')') } 1 .. 800 * $rounds);
	# what was accepted can be read
	my $servers = $root->query("SELECT string_agg(format('EXPLAIN SELECT * FROM %s', f.oid::regclass), E'\\n') FROM pg_class f WHERE f.relkind = 'f' AND relname ~ '^f[0-9]'") // '';
	try_all('tables whose options were accepted', qr/^00000$/, split(/\n/, $servers)) if $servers ne '';
};

# ---------------------------------------------------------------------------------------------- arguments of the trigger

my @attributes = qw(loginName fullName nickname email passwordSh isEnabled maxChats profileIds memberOf managerOf skillIds employeeId isApiUser description allowedAppKeys when mode on_error id noSuchThing);
my @expressions = ('email', 'name', 'team', 'active', 'more', "'x'", 'NULL', 'ARRAY[team]', 'ARRAY[NULL::bigint]', "jsonb_build_object('agentGroupId', team)", '1', 'true', "email || ' ' || name", '1/0',
	'(SELECT email)', 'count(*)', 'generate_series(1,2)', 'hires', 'hires.*', '*', 'now()', '$1', '$1.email', 'x y', 'email) END, (1', ') END, CASE WHEN true THEN (1', "email -- ", 'email /*', 'email; SELECT 1',
	'(SELECT 1) FROM hires; --', 'row(1,2)', "'{}'::jsonb", "'\\x00'::bytea", 'int4range(1,2)', "'NaN'::float8", "repeat('x', 1200000)", 'random()', 'rank() OVER ()', 'queue', 'sync', 'raise', 'record', '');
sub argument
{
	my ($attribute) = @_;
	my $expression = rand() < 0.8 ? pick(@expressions) : rand() < 0.7 ? bend(pick(@expressions)) : noise(20);

	$expression = pick('queue', 'queue', 'sync', 'x') if $attribute eq 'mode';
	$expression = pick('record', 'raise', 'x') if $attribute eq 'on_error';
	return rand() < 0.98 ? "$attribute=$expression" : noise(20);
}
sub arguments
{
	my %once = map { pick(@attributes) => 1 } 0 .. rand(4);
	my @login = rand() < 0.9 ? 'loginName=email' : ();

	delete $once{loginName} if @login;
	return join(', ', map { literal($_) } rand() < 0.97 ? $account : noise(5), @login, map { argument($_) } sort keys %once);
}

subtest 'random trigger arguments' => sub {
	# The expressions are also those of an attacker who knows how the query is built, so anything that SQL has to say of a user's
	# input may be met; what must not is an internal error, a file, a resource or a connection that failed.
	my $known = qr/^(?:00000|0A...|21...|22...|25006|28...|39P01|42...|54...)$/;

	my @rows = ("(1, 'a\@b', 'A B', 1, true, '{}')", "(2, NULL, NULL, NULL, NULL, NULL)", "(3, '', '', 0, false, '[1]')", "(4, E'x\\ty', repeat('x', 3000), -1, true, '\"s\"')", "(5, 'a\@b', 'twice', 1, true, 'null')");
	my @firings;
	foreach my $n (1 .. 300 * $rounds)
	{
		my $trigger = rand() < 0.9 ? pick('AFTER INSERT ON hires REFERENCING NEW TABLE AS n FOR EACH STATEMENT', 'AFTER INSERT ON hires FOR EACH ROW') : pick('AFTER INSERT OR UPDATE ON hires FOR EACH ROW', 'BEFORE INSERT ON hires FOR EACH ROW',
			'AFTER DELETE ON hires FOR EACH ROW', 'AFTER INSERT ON hires FOR EACH STATEMENT', 'AFTER UPDATE ON hires FOR EACH ROW');
		push @firings, "CREATE TRIGGER t $trigger EXECUTE FUNCTION lp_create_users_trigger(" . arguments() . "); TRUNCATE hires; INSERT INTO hires VALUES " . join(', ', map { pick(@rows) } 1)
		  . "; UPDATE hires SET active = NOT active; INSERT INTO hires VALUES (10, 'q\@q', 'q', 1, true, NULL), (11, NULL, 'q', 1, NULL, NULL); DELETE FROM hires; DROP TRIGGER t ON hires";
	}
	my $met = try_all('arguments of the trigger', $known, @firings);
	cmp_ok($met->{'00000'} // 0, '>', 20, '... of which some are in order');
	$root->query('DROP TRIGGER IF EXISTS t ON hires');

	try_all('mappings', $known,
		map {
			my %mapping = (loginName => 'email', email => 'email', nickname => 'name', fullName => 'name', passwordSh => "'Start-1234'", isEnabled => 'active', maxChats => '3', profileIds => 'ARRAY[team]', map { pick(@attributes) => rand() < 0.7 ? pick(@expressions) : rand() < 0.5 ? bend(pick(@expressions)) : noise(20) } 1 .. rand(3));
			my $json = JSON::PP->new->canonical->encode(rand() < 0.9 ? \%mapping : pick([], [1], { a => undef }, { loginName => 1 }, { loginName => ['x'] }));
			"SELECT count(*) FROM lp_attach_trigger('hires', " . literal(rand() < 0.9 ? $account : noise(5)) . ', ' . literal($json) . '::jsonb, '
			  . (rand() < 0.5 ? 'NULL' : literal(pick(@expressions))) . ', ' . pick('true', 'false') . ', ' . literal(pick('queue', 'sync', 'x')) . "); SELECT count(*) FROM lp_detach_trigger('hires')"
		} 1 .. 300 * $rounds);
};

# ---------------------------------------------------------------------------------------------- headers of an answer

# A header's value as a server may send it: no line ends. An account that answers with such a library can send these only.
my @header = ('5', '0', '-1', '42', '"42"', 'W/"42"', 'W/42', '"42', '42"', '9223372036854775807', '9223372036854775808', '00042', ' 42 ', '4 2', '+42', '0x2a', '42.0', '', '"', 'W/', 'W/"', 'Wed, 21 Oct 2015 07:28:00 GMT',
	'Wed, 21 Oct 2115 07:28:00 GMT', 'Sunday, 06-Nov-94 08:49:37 GMT', 'Sun Nov  6 08:49:37 1994', 'tomorrow', '1e9', 'NaN', '99999999999999999999', '/api/account/1/users/5', 'http://127.0.0.1:1/', 'https://[', '../x', 'x' x 2000);
sub header { return rand() < 0.6 ? pick(@header) : rand() < 0.6 ? bend(pick(@header)) =~ s/[^ -~]//gr : noise(30) =~ s/[^ -~]//gr; }

# What is a revision: a whole number, also dressed as an ETag.
sub revision
{
	my ($value) = @_;

	return unless defined $value && $value =~ /^[ \t]*(?:W\/)?"?([0-9]+)"?[ \t]*$/;
	my $digits = $1 =~ s/^0+(?=.)//r;
	return length($digits) < 19 || (length($digits) == 19 && $digits le '9223372036854775807') ? $digits : undef;
}

subtest 'random response headers' => sub {
	my (@wrong, %waits);
	foreach my $n (1 .. 150 * $rounds)
	{
		my %headers = map { pick('ac-revision', 'AC-Revision', 'ETag', 'Location', 'Retry-After', 'Content-Type') => header() } 0 .. rand(3);
		my ($first) = grep { lc($_) eq 'ac-revision' } sort keys %headers;
		my $both = grep({ lc($_) eq 'ac-revision' } keys %headers) > 1;
		my $status = pick(200, 201, 204, 400, 302, 500);

		delete $headers{'AC-Revision'} if $both;
		$first = 'ac-revision' if $both;
		$sim->remove('faults');
		$sim->post('faults', { method => 'POST', path => '/le-users/users', action => 'status', status => $status, headers => \%headers, body => '{"id":1}' });
		my ($out, $err) = $root->run("SELECT status, ac_revision FROM lp_create_users('$account', '" . LpUsers::user("header$n") . "')");
		my $want = revision($first ? $headers{$first} : undef) // revision($headers{ETag}) // '';
		push @wrong, encode_json(\%headers) . " => $out, not $status|$want; $err" if $out ne "$status|$want" || $err ne '';
	}
	is(scalar(@wrong), 0, 'headers: status and revision, and nothing else') or diag(join("\n", @wrong > 5 ? @wrong[ 0 .. 4 ] : @wrong));

	# After 429 the queue waits: 1 s at least, a day at most, whatever the header says.
	@wrong = ();
	foreach my $n (1 .. 60 * $rounds)
	{
		my $value = header();

		$sim->remove('faults');
		$sim->post('faults', { method => 'POST', path => '/le-users/users', action => 'status', status => 429, headers => { 'Retry-After' => $value } });
		my ($out, $err) = $root->run("DELETE FROM lp_requests; SELECT count(*) FROM lp_enqueue_users('$account', '" . LpUsers::user("wait$n") . "'); CALL lp_deliver('$account');
			SELECT state, status, extract(epoch FROM next_attempt_at - sent_at) BETWEEN 0.99 AND 86400 * 2 FROM lp_requests");
		push @wrong, "'$value' => $out; $err" if $out !~ /\npending\|429\|t$/ || $err =~ /ERROR|WARNING/;
	}
	is(scalar(@wrong), 0, 'Retry-After: a wait that is bounded') or diag(join("\n", @wrong > 5 ? @wrong[ 0 .. 4 ] : @wrong));
	$sim->remove('faults');
};

# ---------------------------------------------------------------------------------------------- users

sub value
{
	my ($depth) = @_;

	return pick(undef, JSON::PP::true, JSON::PP::false, number() . '', 0 + int(rand(1e6)), -1, 1.5, '', noise(20), 'x' x 300, '2020-01-01 00:00:00') if $depth > 2 || rand() < 0.6;
	return [ map { value($depth + 1) } 1 .. rand(4) ] if rand() < 0.5;
	return { map { pick(@attributes, 'agentGroupId', noise(6)) => value($depth + 1) } 1 .. rand(4) };
}

subtest 'random users' => sub {
	my $good = decode_json(LpUsers::user('fuzz'));
	my @documents = map {
		my %user = (%$good, map { pick(@attributes) => value(0) } 1 .. rand(3));
		delete $user{ pick(keys %user) } if rand() < 0.1;
		JSON::PP->new->canonical->allow_nonref->encode(pick(\%user, \%user, [ \%user, { %$good, loginName => 'other' } ], value(0)))
	} 1 .. 400 * $rounds;
	try_all('users', qr/^(?:00000|22023|22P02|22P05|22021|54001|2200G|22003)$/,
		map { 'SELECT count(*) FROM lp_validate_users(' . literal($_) . "); SELECT count(*) FROM lp_enqueue_users('$account', " . literal($_) . "); SELECT count(*) FROM lp_create_users('$account', " . literal($_) . ')' } @documents);
	$root->query('TRUNCATE lp_payloads, lp_requests');
};

unlike(LpUsers::log_since($node, 0), qr/terminated by signal|TRAP:|PANIC:/, 'nothing crashed');
done_testing();

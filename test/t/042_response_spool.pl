# Between the network and the reader: a cursor that pauses takes the rest of its list off the network, a slow reader does not
# keep the account waiting, what does not fit into memory goes through a temporary file and comes back in order, and memory
# does not grow with the account. A reader that wants little reads little.
use strict;
use warnings;
use Digest::MD5 qw(md5_hex);
use FindBin;
use lib "$FindBin::RealBin/../perl";
use IO::Socket::INET;
use IO::Socket::UNIX;
use LpUsers;
use POSIX qw(ceil);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

plan(skip_all => 'needs /proc as Linux has it') unless -e "/proc/$$/fd";

# The account: long texts of all sizes, 24 MB of them. That is more than memory and the kernel's buffers take of a list.
my @texts = map { my $n = $_; substr(join('', map { md5_hex("$n $_") } 1 .. 3000), 0, ($n * 7919) % 96000) } 1 .. 500;
my $sim = LpUsers::account();
$sim->post('users', '[' . join(',', map { qq({"loginName":"user$_","email":"$_","nickname":"$_","fullName":"","description":"$texts[$_ - 1]"}) } 1 .. @texts) . ']');
my $expected = join("\n", map { $_ . '|' . md5_hex($texts[ $_ - 1 ]) } 1 .. @texts);
my $columns  = 'substr(login_name, 5), md5(description)';

my $node = LpUsers::server(conf => "log_temp_files = 0\n");
LpUsers::connect_account($node, $sim, options => "timeout '60s'");
$node->safe_psql('postgres', 'CREATE SCHEMA lp; IMPORT FOREIGN SCHEMA liveperson FROM SERVER acme INTO lp; CREATE TABLE seen (nr serial, n text, sum text)');
my $admin   = LpUsers::session($node);
my $session = LpUsers::session($node);
my $pid     = $session->query('SELECT pg_backend_pid()');

is($session->query("SELECT $columns FROM lp.users"), $expected, 'long texts, read without a pause');
my $whole = $sim->get('log')->[-1]{bytes_out};
cmp_ok($whole, '>', 20_000_000, 'a list of more than 20 MB');

# The account hangs up when a reader takes nothing for so long. Real ones wait longer, and so would this test.
my $patience = 400;
sub impatient { $sim->remove($_) foreach 'faults', 'log'; $sim->post('faults', { method => 'GET', path => '/users', action => 'impatient', ms => $patience, times => 0 }); return; }
sub sent { return $sim->get('log')->[-1]{bytes_out}; }

sub hung_up { return $sim->get('log')->[-1]{fault} =~ /hung up/; }

# Until everything was sent, or the account has hung up: how much was sent?
sub sent_in_the_end { LpUsers::wait_for(sub { sent() >= $whole || hung_up() }, 'the end of the list'); return sent(); }

sub temporary { my ($size, $n) = split(/\|/, $admin->query('SELECT coalesce(sum(size), 0), count(*) FROM pg_ls_tmpdir()')); return wantarray ? ($size, $n) : $size; }

subtest 'the stand-in account resets a list that is not read' => sub {
	impatient();
	{
		my $lazy = IO::Socket::INET->new(PeerAddr => $sim->url =~ s{^http://}{}r, Proto => 'tcp') or die "connect: $@";

		syswrite($lazy, "GET /api/account/12345678/configuration/le-users/users?v=4.0&select=\$all HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer lp-token\r\n\r\n");
		LpUsers::wait_for(sub { $sim->count(method => 'GET') }, 'the request');
		LpUsers::wait_for(\&hung_up, 'the account to hang up');
		cmp_ok(sent(), '<', $whole / 2, 'the account hangs up on a reader that does not read');
	}
};

# ------------------------------------------------------------------------------------------------- an idle cursor

# A cursor shows its first rows, is idle until the account has sent all or lost its patience, and then shows the rest.
sub idle
{
	my ($title, $begin, $fetch, $rest, $end) = @_;

	impatient();
	$session->query($begin);
	my $first = $session->query($fetch);
	is(sent_in_the_end(), $whole, "$title: the account could send all");
	my ($size, $files) = temporary();
	is($files, 1, "$title: into a temporary file");
	cmp_ok($size, '>', $whole - 9_000_000, '... but for what memory holds');
	my $more = $session->query($rest);
	is($first . ($first ne '' && $more ne '' ? "\n" : '') . $more, $expected, "$title: all texts, in order");
	$session->query($end);
	$session->nothing_left($title);
	return;
}

my $declare = "DECLARE c CURSOR FOR SELECT $columns FROM lp.users";
my $rows;

# A portal of the extended protocol, as drivers use it that fetch so many rows at a time.
sub message { my ($type, $body) = @_; return $type . pack('N', 4 + length($body)) . $body; }

# Rows until a message of that type; dies at an error.
sub rows_until
{
	my ($in, $last) = @_;
	my @rows;

	for (;;)
	{
		read($in, my $head, 5) == 5 or die 'the server has closed the connection';
		my ($type, $size) = unpack('aN', $head);
		read($in, my $body, $size - 4) if $size > 4;
		push @rows, join('|', unpack('x2 (N/a)*', $body)) if $type eq 'D';
		die $body if $type eq 'E';
		return join("\n", @rows) if $type eq $last;
	}
}

subtest 'an idle cursor takes its list off the network' => sub {
	idle('FETCH 1', "BEGIN;\n$declare", 'FETCH 1 FROM c', 'FETCH ALL FROM c', 'COMMIT');
	idle('FETCH 100', "BEGIN;\n$declare", 'FETCH 100 FROM c', "FETCH 200 FROM c;\nFETCH 100 FROM c;\nFETCH 1 FROM c;\nFETCH ALL FROM c", 'CLOSE c; COMMIT');
	idle('FETCH in a savepoint that is rolled back', "BEGIN;\n$declare", "SAVEPOINT s;\nFETCH 3 FROM c;\nROLLBACK TO s", 'FETCH ALL FROM c', 'COMMIT');
	idle('FETCH around savepoints and a block that fails', "BEGIN;\n$declare",
		"FETCH 3 FROM c;\nSAVEPOINT s;\nFETCH 4 FROM c;\nROLLBACK TO s;\nDO 'BEGIN PERFORM 1 / 0; EXCEPTION WHEN OTHERS THEN NULL; END'",
		"FETCH 5 FROM c;\nRELEASE s;\nFETCH ALL FROM c", 'COMMIT');
	idle('a filter', "BEGIN;\nDECLARE c NO SCROLL CURSOR FOR SELECT $columns FROM lp.users WHERE login_name LIKE 'user%'",
		'FETCH FORWARD 1 FROM c', 'FETCH ALL FROM c', 'COMMIT');

	# WITH HOLD: at COMMIT the rest becomes PostgreSQL's own.
	impatient();
	$session->query("BEGIN;\nDECLARE c CURSOR WITH HOLD FOR SELECT $columns FROM lp.users");
	$rows = $session->query('FETCH 2 FROM c');
	is(sent_in_the_end(), $whole, 'WITH HOLD: the account could send all');
	$session->query('COMMIT');
	is("$rows\n" . $session->query('FETCH ALL FROM c'), $expected, 'WITH HOLD: all texts, in order');
	$session->query('CLOSE c');
	$session->nothing_left('WITH HOLD');

	# psql with FETCH_COUNT, which is a cursor.
	impatient();
	is($node->safe_psql('postgres', "\\set FETCH_COUNT 7\nSELECT $columns FROM lp.users"), $expected, 'FETCH_COUNT: all texts, in order');

	{
		my $client = IO::Socket::UNIX->new(Peer => $node->host . '/.s.PGSQL.' . $node->port) or die "connect: $!";
		my $user = getpwuid($<);

		impatient();
		print {$client} message('', pack('N', 196608) . "user\0$user\0database\0postgres\0\0");
		rows_until($client, 'Z');
		print {$client} message('Q', "BEGIN\0");
		rows_until($client, 'Z');
		print {$client} message('P', "\0SELECT $columns FROM lp.users\0" . pack('n', 0)) . message('B', "\0\0" . pack('nnn', 0, 0, 0))
		  . message('E', "\0" . pack('N', 20)) . message('H', '');
		$rows = rows_until($client, 's');
		is(scalar(split(/\n/, $rows)), 20, 'extended protocol: so many rows');
		is(sent_in_the_end(), $whole, '... and the account could send all');
		print {$client} message('E', "\0" . pack('N', 1)) . message('H', '');
		$rows .= "\n" . rows_until($client, 's');
		print {$client} message('E', "\0" . pack('N', 0)) . message('S', '');
		is("$rows\n" . rows_until($client, 'Z'), $expected, '... all texts, in order');
	}
};

# ------------------------------------------------------------------------------------------------- PL/pgSQL

sub loop_is_whole
{
	my ($title, $sql) = @_;

	impatient();
	$session->query('TRUNCATE seen');
	$session->query($sql);
	is($session->query('SELECT n, sum FROM seen ORDER BY nr'), $expected, "$title: all texts, in order");
	is(sent(), $whole, '... and the account could send all');
	$session->nothing_left($title);
	return;
}

my $loop = "FOR r IN SELECT substr(login_name, 5) AS n, md5(description) AS sum FROM lp.users LOOP";
my $nap  = $patience * 2 / 1000;
my $slow = "INSERT INTO seen (n, sum) VALUES (r.n, r.sum); IF r.n IN ('1', '60') THEN PERFORM pg_sleep($nap); END IF;";

subtest 'a slow loop reads the whole list' => sub {
	# The body of the loop is slower than the account's patience.
	loop_is_whole('a loop with a slow body', "DO \$\$ DECLARE r record; BEGIN $loop $slow END LOOP; END \$\$");
	loop_is_whole('a loop that catches errors', "DO \$\$ DECLARE r record; BEGIN $loop BEGIN PERFORM 1 / 0; EXCEPTION WHEN OTHERS THEN $slow END; END LOOP; END \$\$");
	loop_is_whole('a loop that commits', "DO \$\$ DECLARE r record; BEGIN $loop $slow COMMIT; END LOOP; END \$\$");
	loop_is_whole('a loop in a block that is rolled back later', "DO \$\$ DECLARE r record; a text[]; b text[]; BEGIN
		BEGIN $loop a := a || r.n; b := b || r.sum; IF r.n = '1' THEN PERFORM pg_sleep($nap); END IF; END LOOP; PERFORM 1 / 0;
		EXCEPTION WHEN OTHERS THEN INSERT INTO seen (n, sum) SELECT * FROM unnest(a, b); END; END \$\$");

	# A query that is slow at each row: it takes what has come meanwhile, and not a fixed piece of it.
	$sim->remove($_) foreach 'faults', 'log';
	my $explain = $session->query("EXPLAIN (ANALYZE, FORMAT JSON) SELECT pg_sleep(1), description FROM lp.users LIMIT 3");
	my ($bytes) = $explain =~ /"Bytes": (\d+)/;
	cmp_ok($bytes, '>', 2_000_000, 'a slow reader does not keep the account waiting');
};

# ------------------------------------------------------------------------------------------------- who wants little

# The account has sent little when it is closed.
sub little
{
	my ($title, $sql) = @_;

	impatient();
	$session->query($sql);
	cmp_ok(sent(), '<', $whole / 2, "$title: little is read");
	$session->nothing_left($title);
	return;
}

subtest 'LIMIT reads little' => sub {
	little('LIMIT', 'SELECT login_name, description FROM lp.users LIMIT 3');
	little('EXISTS', 'SELECT EXISTS (SELECT FROM lp.users WHERE description IS NOT NULL)');
	little('SELECT INTO of PL/pgSQL', "DO \$\$ DECLARE t text; BEGIN SELECT description INTO t FROM lp.users; END \$\$");
	little('a cursor over a LIMIT', "BEGIN;\nDECLARE c CURSOR FOR SELECT description FROM lp.users LIMIT 2;\nFETCH 5 FROM c;\nCOMMIT");
	little('an error of the query', "DO \$\$ BEGIN PERFORM 1 / (length(description) - length(description)) FROM lp.users; EXCEPTION WHEN division_by_zero THEN NULL; END \$\$");

	# The first row is there before the last is sent, which here never is; a pause does not wait for it either.
	$sim->remove('faults');
	$sim->post('faults', { method => 'GET', path => '/users', action => 'stall', seconds => 1000, times => 0 });
	is($session->query("SELECT $columns FROM lp.users LIMIT 1"), (split(/\n/, $expected))[0], 'the first row comes at once');
	is($session->query("BEGIN;\n$declare;\nFETCH 2 FROM c"), join("\n", (split(/\n/, $expected))[ 0, 1 ]), 'a pause waits for nobody');

	# Another query of the session has nothing to do with that cursor: 200 pauses of it take no 200 patient looks at the network.
	$session->query('DECLARE other CURSOR FOR SELECT generate_series(1, 1000)');
	my $since = time();
	$session->query("DO \$\$ DECLARE o refcursor = 'other'; n int; BEGIN FOR i IN 1 .. 200 LOOP FETCH o INTO n; END LOOP; END \$\$");
	cmp_ok(time() - $since, '<', 40, 'a pause of another cursor does not look after this one');

	# Closed early, or rolled back.
	$session->query('CLOSE c');
	$session->nothing_left('a cursor closed early');
	my $sockets = LpUsers::sockets_of($pid);
	$session->query("SAVEPOINT s;\n$declare;\nFETCH 2 FROM c");
	is(LpUsers::sockets_of($pid), $sockets + 1, 'a cursor in a savepoint has a connection');
	$session->query('ROLLBACK TO s');
	is(LpUsers::sockets_of($pid), $sockets, '... which is closed when the savepoint is rolled back');
	$session->nothing_left('a cursor whose savepoint is rolled back');
	$session->query('COMMIT');
};

subtest 'the file is read while it is written' => sub {
	$sim->remove($_) foreach 'faults', 'log';
	$sim->post('faults', { method => 'GET', path => '/users', action => 'stall', seconds => 2, times => 1 });
	$session->query("BEGIN;\n$declare");
	$rows = $session->query('FETCH 100 FROM c');
	cmp_ok(sent(), '<=', $whole / 2 + 1, 'half of a list has come');
	cmp_ok(temporary(), '>', 1_000_000, '... and some of it is in a file');
	LpUsers::wait_for(sub { sent() > $whole / 2 + 1 }, 'the other half');
	$rows .= "\n" . $session->query("FETCH 1 FROM c");
	cmp_ok(temporary(), '>', 5_000_000, 'the rest is added to the file');
	is("$rows\n" . $session->query('FETCH ALL FROM c'), $expected, '... and read in order');
	$session->query('COMMIT');
};

# ------------------------------------------------------------------------------------------------- no room

# The cursor cannot pause; what it showed before stands, and the session goes on.
sub no_room
{
	my ($title, $error) = @_;
	my ($out, $err) = $session->run("BEGIN;\n$declare;\nFETCH 1 FROM c");

	like($err, $error, "$title: told");
	$session->query('ROLLBACK');
	$session->nothing_left($title);
	return;
}

subtest 'a full disk is an error' => sub {
	$session->query("SET temp_file_limit = '4MB'");
	no_room('temp_file_limit', qr/ERROR:  53400: temporary file size exceeds "?temp_file_limit"?/);
	my ($out, $err) = $session->run("DO \$\$ DECLARE r record; BEGIN $loop $slow END LOOP; EXCEPTION WHEN configuration_limit_exceeded THEN RAISE NOTICE 'caught'; END \$\$");
	like($err, qr/NOTICE:  00000: caught/, 'temp_file_limit: caught by a block');
	$session->nothing_left('temp_file_limit in a block');
	is($session->query('SELECT count(*) FROM lp.users'), scalar(@texts), 'a short list needs no file');
	$session->query('RESET temp_file_limit');

	SKIP:
	{
		skip('no prlimit here', 2) unless system("prlimit --pid $pid --fsize=20000000:unlimited >/dev/null 2>&1") == 0;
		no_room('a disk that is full', qr/ERROR:  \w{5}: could not write to file "base\/pgsql_tmp\//);
		system("prlimit --pid $pid --fsize=unlimited:unlimited");
	}
	is($session->query("BEGIN;\n$declare;\nFETCH 1 FROM c;\nFETCH ALL FROM c;\nCOMMIT"), $expected, 'with room again: all texts, in order');

	# A failed cursor of an outer transaction is dead, and in no other cursor's way.
	$sim->post('faults', { method => 'GET', path => '/users', action => 'half' });
	$session->query("BEGIN;\n$declare;\nSAVEPOINT s");
	($out, $err) = $session->run('FETCH ALL FROM c');
	like($err, qr/ERROR:  08006/, 'a cursor fails in a savepoint');
	$session->query("ROLLBACK TO s;\n" . $declare =~ s/ c / d /r);
	is($session->query("FETCH 1 FROM d;\nFETCH ALL FROM d"), $expected, '... another one pauses and goes on');
	($out, $err) = $session->run('FETCH 1 FROM c');
	like($err, qr/ERROR:  55000/, '... and the failed one is dead');
	$session->query('ROLLBACK');
	$session->nothing_left('a failed cursor');
};

# ------------------------------------------------------------------------------------------------- memory

# Peak memory of the backend during a statement, in kB.
sub peak
{
	my ($sql) = @_;

	append_to_file("/proc/$pid/clear_refs", "5\n");
	my $result = $session->query($sql);
	my ($peak) = slurp_file("/proc/$pid/status") =~ /^VmHWM:\s+(\d+)/m;
	return ($peak, $result);
}

# An account of so many bytes; 66 are a user.
sub huge
{
	my ($size) = @_;

	$sim->remove('faults');
	$sim->post('faults', { method => 'GET', path => '/users', action => 'huge', bytes => int($size), times => 0 });
	return;
}

sub grows
{
	my ($title, $sql, $size) = @_;

	huge(6_600);
	my ($small) = peak($sql);
	huge($size);
	my ($large, $result) = peak($sql);
	cmp_ok($large - $small, '<', 16 * 1024, "$title: memory does not grow with the account");
	note("$title: $small kB with 100 users, $large kB with " . int($size / 66));
	return $result;
}
my $log;

subtest 'memory does not grow with the account' => sub {
	my $size = $ENV{LPUSERS_LONG} ? 330_000_000 : 33_000_000;
	my $seen = grows('a count', 'SELECT count(*) FROM lp.users', $size);
	cmp_ok($seen, '>=', $size / 66, '... of very many');
	grows('a cursor that pauses', "BEGIN;\nDECLARE c CURSOR FOR SELECT id FROM lp.users;\nFETCH 1 FROM c;\nMOVE ALL FROM c;\nCOMMIT", $size);
	grows('a table', "CREATE TEMP TABLE t AS SELECT id, login_name FROM lp.users LIMIT 100000; DROP TABLE t", $size);

	SKIP:
	{
		skip('takes a minute: --long', 3) unless $ENV{LPUSERS_LONG};
		my %took;

		foreach my $n (1, 4)
		{
			huge($n * 100_000_000);
			my $start = time();
			$session->query('SELECT count(*) FROM lp.users');
			$took{$n} = time() - $start;
		}
		cmp_ok($took{4} / $took{1}, '<', 8, 'four times the users take about four times as long');
		note(sprintf('100 MB: %.2f s, 400 MB: %.2f s', $took{1}, $took{4}));

		# a temporary file of more than one segment of 1 GB
		huge(1_300_000_000);
		$session->query("BEGIN;\nDECLARE c CURSOR FOR SELECT id FROM lp.users;\nFETCH 1 FROM c");
		cmp_ok(temporary(), '>', 1_250_000_000, 'more than 1 GB in temporary files');
		my $count = $session->query("DO \$\$ DECLARE c refcursor = 'c'; n bigint; BEGIN MOVE FORWARD ALL FROM c; GET DIAGNOSTICS n = ROW_COUNT; PERFORM set_config('my.n', n::text, false); END \$\$;\nSELECT current_setting('my.n')");
		$session->query('COMMIT');
		is($count + 1, ceil(1_300_000_000 / 66), '... and all of it is read');
	}

	$log = slurp_file($node->logfile);
};

unlike($log, qr/temporary file leak|resource was not closed|PANIC|TRAP|terminated by signal/, 'the log knows of no leak and no crash');
done_testing();

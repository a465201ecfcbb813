# Writing a foreign table while others are at it, cancelled, killed, dumped; what it leaves in the log and in memory.
#
# After each failure the account itself is asked: no login twice, and who was announced as left behind is there.
use strict;
use warnings;
use FindBin;
use File::Temp;
use lib "$FindBin::RealBin/../perl";
use LpUsers;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

# "At once", on any machine, against faults of minutes.
my $bound = 5;

my $sim  = LpUsers::account();
my $node = LpUsers::server(conf => "log_statement = none\nrestart_after_crash = on\n");
LpUsers::connect_account($node, $sim, options => "timeout '200s', batch_size '10', max_connections '1'");
$node->safe_psql('postgres', q{
	CREATE SCHEMA lp;
	IMPORT FOREIGN SCHEMA liveperson LIMIT TO (users) FROM SERVER acme INTO lp;
	CREATE FOREIGN TABLE lp.people (login_name text, full_name text, nickname text, email text, password_sh text, is_enabled boolean,
		max_chats integer, profile_ids bigint[]) SERVER acme OPTIONS (resource 'users');
	CREATE FUNCTION staff(prefix text, first integer, last integer) RETURNS SETOF lp.people LANGUAGE sql IMMUTABLE AS $$
		SELECT prefix || i || '@example.com', 'Full', prefix || i, prefix || '@example.com', 'Start-1234', true, 3, '{1001}'::bigint[] FROM generate_series(first, last) i $$;});
my $session = LpUsers::session($node);
my $other   = LpUsers::session($node);

# Users who are not deleted. There may be many: they are not parsed.
sub there { my ($pattern) = @_; return scalar(grep { /"deleted":false/ && /"loginName":"$pattern/ } split(/\{"id":/, $sim->text('users'))); }
sub records { my ($pattern) = @_; return $other->query("SELECT count(*) FROM lp_requests WHERE login_name ~ '^$pattern'"); }
sub nobody_twice { my ($what) = @_; is($sim->text('duplicates') =~ s/\s//gr, '[]', "$what: nobody is there twice"); return; }

# ------------------------------------------------------------------------------------------------- cancel, terminate, time out

# Start a statement, wait until its fault has struck, end it, and return its error and how long that took. Other faults may come
# before that one.
sub struck
{
	my ($sql, $fault, $end, @others) = @_;
	my $pid = $session->query('SELECT pg_backend_pid()');
	my $rule;

	$sim->remove('faults');
	$sim->post('faults', { $fault->{action} eq 'silence' ? (seconds => 200) : (), %$fault });
	$sim->post('faults', $_) foreach @others;
	$session->send($sql);
	LpUsers::wait_for(sub { $rule = $sim->get('faults')->[0]; $rule->{struck} }, 'the fault') unless $end eq 'timeout';
	my $start = time;
	$other->query("SELECT pg_${end}_backend($pid)") unless $end eq 'timeout';
	my (undef, $err) = $session->take;
	my $took = time - $start;
	$sim->remove('faults');
	return ($err, $took);
}

subtest 'a writing statement ends at once' => sub {
	my @phases = (
		[ 'the first batch',    'INSERT', 'a', { method => 'POST', action => 'silence', applied => \1 }, 10, qr/outcome unknown\): create of 10 user/ ],
		[ 'a later batch',      'INSERT', 'b', { method => 'POST', action => 'silence', skip => 2 }, 20, qr/but not in account "12345678": create of 20 user/ ],
		[ 'a wait after a 429', 'INSERT', 'c', { method => 'POST', action => 'retry_after', value => '100', skip => 1 }, 10, qr/create of 10 user/ ],
		[ 'the look for logins', 'INSERT ON CONFLICT', 'd', { method => 'GET', action => 'silence' }, 0, undef ],
		[ 'the look after a refusal', 'INSERT', 'e', { method => 'GET', action => 'silence' }, 10, qr/create of 10 user/, 15 ],
	);
	foreach my $phase (@phases)
	{
		my ($name, $statement, $prefix, $fault, $there, $warning, $bad) = @$phase;
		my $number = 0;

		foreach my $end ('cancel', 'terminate')
		{
			my $who = $prefix . ++$number . '-';
			my $sql = "INSERT INTO lp.people SELECT login_name, full_name, nickname, email, " .
				(defined $bad ? "CASE WHEN nickname = '$who$bad' THEN 'x' ELSE password_sh END" : 'password_sh') .
				", is_enabled, max_chats, profile_ids FROM staff('$who', 1, 30)";
			my $log = -s $node->logfile;
			my $again = $sql =~ s/CASE.*? END/password_sh/r . ' ON CONFLICT DO NOTHING';

			$sql .= ' ON CONFLICT DO NOTHING' if $statement =~ /CONFLICT/;
			my ($err, $took) = struck($sql, $fault, $end);
			my $code = $end eq 'cancel' ? '57014' : '57P01';
			like($err, qr/(ERROR|FATAL):  $code/, "$end in $name: $code");
			cmp_ok($took, '<', $bound, "$end in $name: at once");
			$session = LpUsers::session($node) if $end eq 'terminate';
			is(there($who), $there, "$end in $name: $there are there");
			is(records($who), 0, "$end in $name: the record went with the transaction");
			if (defined $warning)
			{
				like($err, $warning, "$end in $name: a WARNING") if $end eq 'cancel';
				LpUsers::wait_for(sub { LpUsers::log_since($node, $log) =~ /rolled back here/ }, 'the line in the log');
				like(LpUsers::log_since($node, $log), $warning, "$end in $name: a line in the log");
			}
			else
			{
				unlike(LpUsers::log_since($node, $log), qr/rolled back here/, "$end in $name: no WARNING");
			}
			is($session->query("$again; SELECT 1"), 1, "$end in $name: the statement is repeated");
			is(there($who), 30, "$end in $name: now all are there");
			nobody_twice("$end in $name");
		}
	}
	# UPDATE and DELETE; users are read a second time since another client changes the account
	my ($bystander) = map { $_->{id} } grep { $_->{loginName} =~ /^b1-1@/ } @{ $sim->get('users') };
	foreach my $phase (
		[ 'the reading of users', q{UPDATE lp.users SET nickname = 'x', full_name = 'x' WHERE login_name ~ '^a1-'}, { method => 'GET', path => '/users/', action => 'silence', skip => 12 },
			qr/update of 10 user/, { method => 'PUT', action => 'meddle', skip => 1, user => "$bystander", set => { nickname => 'other' } } ],
		[ 'the putting back', q{UPDATE lp.users SET nickname = 'y', full_name = 'x' WHERE login_name ~ '^a1-'}, { method => 'PUT', action => 'silence', applied => \1 },
			qr/outcome unknown\): update of 10 user/ ],
		[ 'the deletion', q{DELETE FROM lp.users WHERE login_name ~ '^a1-'}, { method => 'DELETE', action => 'silence', skip => 1, applied => \1 },
			qr/but not in account "12345678": delete of 10 user.*outcome unknown\): delete of 10 user/s ])
	{
		my ($name, $sql, $fault, $warning, @others) = @$phase;
		my ($err, $took) = struck($sql, $fault, 'cancel', @others);

		like($err, qr/ERROR:  57014/, "cancel in $name: 57014");
		cmp_ok($took, '<', $bound, "cancel in $name: at once");
		like($err, $warning, "cancel in $name: a WARNING");
		is($session->query("$sql; SELECT 1"), 1, "cancel in $name: the statement is repeated");
	}
	is(there('a1-'), 0, 'all are deleted');
	{
		my ($err) = struck("SET statement_timeout = '1s'; INSERT INTO lp.people SELECT * FROM staff('f', 1, 20)",
			{ method => 'POST', action => 'silence', skip => 1, applied => \1 }, 'timeout');

		like($err, qr/ERROR:  57014: canceling statement due to statement timeout/, 'statement_timeout: 57014');
		like($err, qr/create of 10 user.*outcome unknown\): create of 10 user/s, 'statement_timeout: WARNINGs for what is certain and what is not');
		is(there('f'), 20, 'statement_timeout: they are there');
		$session->query('RESET statement_timeout');
		nobody_twice('statement_timeout');
	}
};

subtest 'a killed backend' => sub {
	$sim->remove('faults');
	$sim->post('faults', { method => 'POST', action => 'silence', seconds => 200, skip => 1, applied => \1 });
	my $pid = $session->query('SELECT pg_backend_pid()');
	$session->send("INSERT INTO lp.people SELECT * FROM staff('kill', 1, 30)");
	LpUsers::wait_for(sub { $sim->get('faults')->[0]{struck} }, 'the fault');
	LpUsers::kill_backend($node, $pid);
	$sim->remove('faults');
	$session = LpUsers::session($node);
	$other   = LpUsers::session($node);
	is(there('kill'), 20, 'killed: two batches are there');
	is(records('kill'), 0, 'killed: no record is');
	$session->query("INSERT INTO lp.people SELECT * FROM staff('kill', 1, 30) ON CONFLICT DO NOTHING");
	is(there('kill'), 30, 'killed: the repeated statement creates the others');
	is(records('kill'), 10, '... and has a record of these');
	nobody_twice('killed');
};

# ------------------------------------------------------------------------------------------------- others at the same time

sub puts { my ($status) = @_; return $sim->count(method => 'PUT', path => '/users', status => $status); }

# Run a statement; another client of the account changes a user right before the first PUT comes in. Returns its error.
sub overtaken
{
	my ($sql, %change) = @_;

	$sim->remove('log');
	$sim->remove('faults');
	$sim->post('faults', { method => 'PUT', action => 'meddle', %change });
	my (undef, $err) = $session->run($sql);
	$sim->remove('faults');
	return $err;
}

subtest 'other sessions write at the same time' => sub {
	$session->query("INSERT INTO lp.people SELECT * FROM staff('ann', 1, 2) UNION ALL SELECT * FROM staff('bob', 1, 2)");
	my %id = map { $_->{loginName} =~ s/@.*//r => $_->{id} } @{ $sim->get('users') };
	my $rename = sub { my ($who, $name) = @_; return "UPDATE lp.users SET nickname = '$name', full_name = 'x' WHERE id = $id{$who}"; };
	my $named  = sub { my ($who) = @_; return (grep { $_->{id} == $id{$who} } @{ $sim->get('users') })[0]{nickname}; };

	foreach my $status (412, 409)
	{
		$sim->post('config', { stale_status => $status });
		is(overtaken($rename->('ann1', "one$status"), user => "$id{bob1}", set => { nickname => "other$status" }), '',
			"another user was changed, $status: no error");
		is($named->('ann1'), "one$status", "another user was changed, $status: the update is there");
		is($named->('bob1'), "other$status", "another user was changed, $status: so is the other's");
		is(puts($status) . ' ' . puts(200), '1 1', "another user was changed, $status: it was refused once, then accepted");
		is($other->query("SELECT string_agg(state, ' ') FROM lp_requests WHERE login_name ~ '^ann1' AND operation = 'update' AND status = $status"), '',
			"another user was changed, $status: the first try is not on record");

		my $err = overtaken($rename->('ann1', 'two'), user => "$id{ann1}", set => { nickname => "theirs$status" });
		like($err, qr/ERROR:  40001: could not update user "ann1\@example\.com" \(id $id{ann1}\) of account "12345678": it was changed meanwhile/, "the same user was changed, $status: 40001");
		like($err, qr/DETAIL:  Attribute "nickname" is not what the statement has read\./, "the same user was changed, $status: the attribute");
		is($named->('ann1'), "theirs$status", "the same user was changed, $status: theirs stays");
		unlike($err, qr/WARNING/, "the same user was changed, $status: nothing was done");
		is(puts($status) . ' ' . puts(200), '1 0', "the same user was changed, $status: it was refused once");

		$err = overtaken($rename->('bob2', 'gone'), user => "$id{bob2}", delete => \1);
		like($err, qr/ERROR:  40001: .*DETAIL:  It was deleted\./s, "the user was deleted, $status: 40001");
		$session->query("INSERT INTO lp.people SELECT * FROM staff('bob', 2, 2)");
		%id = map { $_->{loginName} =~ s/@.*//r => $_->{id} } grep { !$_->{deleted} } @{ $sim->get('users') };
	}
	$sim->post('config', { stale_status => 412 });

	# Sessions of this database wait for each other. What the second one has read may not be so any more when it is its turn.
	foreach my $who ('bob1', 'ann1')
	{
		my $what = "another session changes $who";
		my $pid  = $other->query('SELECT pg_backend_pid()');

		$sim->remove('log');
		$sim->post('faults', { method => 'PUT', action => 'hold' });
		$session->send($rename->('ann1', "before $who"));
		LpUsers::wait_for(sub { $sim->get('faults')->[0]{struck} }, 'the request');
		$other->send($rename->($who, 'after'));
		LpUsers::wait_for(sub { $node->safe_psql('postgres', "SELECT wait_event_type FROM pg_stat_activity WHERE pid = $pid") eq 'Lock' },
			'the other session to wait for the lock');
		$sim->remove('faults');
		my ($first, $second) = map { ($_->take)[1] } $session, $other;
		is($first, '', "$what: the first has no error");
		is($named->('ann1'), "before $who", "$what: the update of the first is there");
		if ($who eq 'ann1')
		{
			like($second, qr/ERROR:  40001: .*DETAIL:  Attribute "nickname" is not what the statement has read\./s, "$what: 40001");
		}
		else
		{
			is($second, '', "$what: nor has the second");
			is($named->($who), 'after', "$what: so is that of the second");
		}
		is(puts(200) . ' ' . puts(412), ($who eq 'ann1' ? 1 : 2) . ' 0', "$what: no PUT is refused");
	}

	# Two sessions, each with users of its own: every change of one makes the revision of the other old.
	{
		my @script = map { my $who = $_; join(';', map { "UPDATE lp.users SET nickname = 'round$_', full_name = 'x' WHERE login_name ~ '^${who}[12]\@'" } 1 .. 15) } 'ann', 'bob';

		$sim->remove('log');
		$session->send($script[0]);
		$other->send($script[1]);
		is(($_->take)[1], '', 'two sessions at the same time: no error') foreach $session, $other;
		is(puts(200) . ' ' . puts(412), '30 0', 'two sessions at the same time: each update is one PUT, and none is refused');
		is($named->($_), 'round15', "two sessions at the same time: $_") foreach 'ann1', 'ann2', 'bob1', 'bob2';
	}

	# Two sessions load the same people.
	{
		my $load = "INSERT INTO lp.people SELECT * FROM staff('both', 1, 95) ON CONFLICT DO NOTHING";

		$session->send($load);
		$other->send($load);
		my @err = map { ($_->take)[1] } $session, $other;
		is("@err", ' ', 'two sessions load the same people: no error');
		is(there('both'), 95, 'two sessions load the same people: all are there');
		nobody_twice('two sessions load the same people');
	}
};

subtest 'the log names what was left behind' => sub {
	my $offset = -s $node->logfile;
	my $file = "$node->{_basedir}/people.csv";

	$node->safe_psql('postgres', "COPY (SELECT * FROM staff('log', 1, 25)) TO '$file' (FORMAT csv)");
	$sim->post('faults', { method => 'POST', action => 'status', status => 400, login => 'log15@example.com', times => 0 });
	foreach my $sql ("COPY lp.people FROM '$file' (FORMAT csv)", "INSERT INTO lp.people VALUES ('log15\@example.com', 'x', 'x', 'x', 'Start-1234', true, 3, '{1001}')",
		"DO \$\$ BEGIN INSERT INTO lp.people VALUES ('log15\@example.com', 'x', 'x', 'x', 'Start-1234', true, 3, '{1001}'); END \$\$",
		"DO \$\$ BEGIN EXECUTE 'INSERT INTO lp.people VALUES (''log15\@example.com'', ''x'', ''x'', ''x'', ''Start-1234'', true, 3, NULL)'; END \$\$",
		"UPDATE lp.users SET password_sh = 'Start-1234', full_name = 'x', skill_ids = '{0}' WHERE login_name ~ '^ann1'",
		"UPDATE lp.users SET password_sh = 'Start-1234', max_chats = 1 WHERE login_name ~ '^ann1'",
		"UPDATE lp.users SET password_sh = 'Start-1234', nickname = '', full_name = 'x' WHERE login_name ~ '^ann1'")
	{
		my (undef, $err) = $session->run($sql);
		like($err, qr/ERROR:  (HV000|22023|55000)/, 'an error: ' . substr($sql, 0, 40));
	}
	$sim->remove('faults');
	unlike(LpUsers::log_since($node, $offset), qr/Start-1234/, 'no password in the log');
	like(LpUsers::log_since($node, $offset), qr/DETAIL:  User "log15\@example\.com": as the test asked for/, 'but who was refused');
};

# ------------------------------------------------------------------------------------------------- memory

sub grows
{
	my ($what, $sql, $limit) = @_;

	$session->query("TRUNCATE memory; ALTER SEQUENCE row_number RESTART; $sql");
	my ($n, $bytes) = split(/\|/, $session->query('SELECT count(*), max(bytes) - min(bytes) FROM memory'));
	is($n, 2, "$what: memory was looked at twice");
	cmp_ok($bytes, '<', $limit, "$what: it grows by less than " . $limit / 1024 . ' kB');
	note("$what: $bytes bytes");
	return;
}
my $columns = 'login_name, full_name, nickname, email, password_sh, is_enabled, max_chats, profile_ids';

subtest 'memory does not grow with the statement' => sub {
	# A statement of many rows looks at its own memory on the way: it does not grow, but for the ids and logins that it has to know.
	$session->query(q{
		SET client_min_messages = warning;
		SET lpusers.max_changes = 0;
		ALTER SERVER acme OPTIONS (SET batch_size '100');
		CREATE TABLE memory (n integer, bytes bigint);
		CREATE SEQUENCE row_number;
		CREATE FUNCTION look(value text, VARIADIC at integer[]) RETURNS text LANGUAGE plpgsql AS $$
		BEGIN
			IF nextval('row_number') = ANY (at) THEN
				INSERT INTO memory SELECT currval('row_number'), sum(used_bytes) FROM pg_backend_memory_contexts;
			END IF;
			RETURN value;
		END $$;});
	my $rest = 'full_name, nickname, email, password_sh, is_enabled, max_chats, profile_ids';
	grows('INSERT of 10,000', "INSERT INTO lp.people SELECT look(login_name, 1100, 9900), $rest FROM staff('mem', 1, 10000)", 200 * 1024);
	# with a volatile default PostgreSQL 16 and later insert row by row: then this is a request for each
	$session->query('CREATE FUNCTION look_stably(text, integer, integer) RETURNS text STABLE LANGUAGE sql AS $$ SELECT look($1, $2, $3) $$');
	grows('COPY of 10,000', "ALTER FOREIGN TABLE lp.people ALTER nickname SET DEFAULT look_stably('x', 1100, 9900);
		COPY lp.people (login_name, full_name, email, password_sh, is_enabled, max_chats, profile_ids) FROM PROGRAM 'seq 10000 | sed \"s/.*/copy&\@example.com,x,x,Start-1234,t,3,{1001}/\"' (FORMAT csv)", 200 * 1024);
	$session->query('ALTER FOREIGN TABLE lp.people ALTER nickname DROP DEFAULT');
	is(there('mem') . ' ' . there('copy'), '10000 10000', 'they are there');
	grows('INSERT RETURNING of 3,000', "WITH i AS (INSERT INTO lp.users ($columns) SELECT look(login_name, 300, 2900), $rest FROM staff('ret', 1, 3000) RETURNING id) SELECT count(*) FROM i", 500 * 1024);
	# nor with the account, of which some are read again, more than a list of ids takes; without column "entity" all are
	if (-e "/proc/$$/status")
	{
		my $fresh = LpUsers::session($node);
		my $pid   = $fresh->query('SELECT pg_backend_pid()');
		my $peak  = sub { return slurp_file("/proc/$pid/status") =~ /VmHWM:\s+(\d+)/ ? $1 : die; };

		$fresh->query(q{ALTER SERVER acme OPTIONS (SET batch_size '300'); SET lpusers.max_changes = 0;
			CREATE FOREIGN TABLE lp.narrow (id bigint, login_name text, nickname text, full_name text) SERVER acme OPTIONS (resource 'users');
			SELECT count(nickname) FROM lp.narrow});
		my $before = $peak->();
		$sim->remove('log');
		$fresh->query(q{UPDATE lp.narrow SET nickname = 'narrow', full_name = 'x' WHERE login_name ~ '^mem[1-6][0-9][0-9]@'});
		is(join(' ', map { $_->{method} } @{ $sim->get('log') }), 'GET GET PUT PUT', 'UPDATE of 600, batch_size 300: they are read again at once');
		cmp_ok($peak->() - $before, '<', 16 * 1024, 'UPDATE of 600, batch_size 300: memory, in kB');
		$fresh->query(q{ALTER SERVER acme OPTIONS (SET batch_size '100'); DROP FOREIGN TABLE lp.narrow});
		$fresh->quit;
	}
	# up to 1,000 rows wait: it looks when 100 of them do
	grows('UPDATE of 10,000', "UPDATE lp.users SET nickname = look('x', 1100, 9100), full_name = 'x' WHERE login_name ~ '^mem'", 500 * 1024);
	grows('UPDATE RETURNING of 3,000', "WITH u AS (UPDATE lp.users SET nickname = look('y', 300, 2900), full_name = 'x' WHERE login_name ~ '^ret' RETURNING id) SELECT count(*) FROM u", 500 * 1024);
	grows('DELETE RETURNING of 3,000', "WITH d AS (DELETE FROM lp.users WHERE login_name ~ '^ret' AND look('', 300, 2900) = '' RETURNING id) SELECT count(*) FROM d", 500 * 1024);
	grows('DELETE of 10,000', "DELETE FROM lp.users WHERE login_name ~ '^mem' AND look('', 1100, 9100) = ''", 500 * 1024);
	is(there('mem') . ' ' . there('ret'), '0 0', 'they are deleted');
};

subtest 'foreign tables in a dump' => sub {
	{
		my $dir = File::Temp->newdir();

		$session->query("CREATE VIEW lp.active AS SELECT id, login_name FROM lp.users WHERE NOT deleted;
			ALTER FOREIGN TABLE lp.people ALTER login_name OPTIONS (ADD attribute 'loginName'), ALTER nickname SET DEFAULT 'nick'");
		$sim->remove('log');
		$node->command_ok([ 'pg_dump', '--file', "$dir/dump", '--dbname', $node->connstr('postgres') ], 'pg_dump');
		is($sim->count(path => '/'), 0, 'pg_dump asks the account for nothing');
		$node->safe_psql('postgres', 'CREATE DATABASE restored');
		$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/dump", '-d', $node->connstr('restored') ], 'it is restored');
		my $definition = q{SELECT string_agg(format('%s %s %s %s %s', c.relname, t.ftoptions, a.attname, format_type(a.atttypid, a.atttypmod), a.attfdwoptions), ';' ORDER BY c.relname, a.attnum)
			FROM pg_foreign_table t JOIN pg_class c ON c.oid = t.ftrelid JOIN pg_attribute a ON a.attrelid = c.oid WHERE a.attnum > 0};
		is($node->safe_psql('restored', $definition), $node->safe_psql('postgres', $definition), 'the foreign tables are the same');
		is($node->safe_psql('restored', "INSERT INTO lp.people ($columns) SELECT * FROM staff('restored', 1, 3); SELECT count(*) FROM lp.active WHERE login_name ~ '^restored'"), '3', 'and can be used');
		$node->command_ok([ 'pg_dump', '--schema-only', '--file', "$dir/schema", '--dbname', $node->connstr('postgres') ], 'pg_dump of the schema only');
		unlike(slurp_file("$dir/schema"), qr/restored1|copy1\b/, '... has no users');
		is($node->safe_psql('postgres', "SELECT count(*) > 5000 FROM lp.active"), 't', 'the original is untouched');
	}

	nobody_twice('at the end');
};

unlike(LpUsers::log_since($node, 0), qr/TRAP:|PANIC:|signal 11/, 'nothing crashed');

done_testing();

# What remains when the transaction of a direct call fails: a WARNING and one line in the log, and what fails first.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LpUsers;
use Test::More;

my $sim  = LpUsers::account();
my $node = LpUsers::server(conf => "log_statement = none\nlog_min_error_statement = panic\nmax_prepared_transactions = 5\nwal_level = replica\n" .
	"max_wal_senders = 4\nhot_standby = on\n");
LpUsers::connect_account($node, $sim, options => "timeout '5s'");
my $session = LpUsers::session($node);

sub posts { return $sim->count(method => 'POST', path => '/users'); }
sub exists_once { my ($name, $what) = @_; is($sim->users_with("$name\@example.com"), 1, "$what: the account has the user once"); return; }
sub records { my ($name) = @_; return $node->safe_psql('postgres', "SELECT count(*) FROM lp_results WHERE login_name = '$name\@example.com'"); }

# Lines of the log about what was rolled back, since that offset.
sub lines_since
{
	my ($offset) = @_;

	return grep { /rolled back here/ } split(/\n/, LpUsers::log_since($node, $offset));
}

# Statements with literals are kept out of the log by settings: here it is our own lines that are looked at.
# Run this; so many WARNINGs and as many lines in the log must come, of which the first names these logins.
sub warns
{
	my ($what, $sql, $n, @names) = @_;
	my $offset = -s $node->logfile;
	my ($out, $err) = $session->run($sql);
	my @warnings = $err =~ /(^WARNING:.*$)/mg;
	my @lines = lines_since($offset);

	is(scalar(@warnings), $n, "$what: WARNINGs: $n") or diag($err);
	is(scalar(@lines), $n, "$what: lines in the log: $n") or diag(join("\n", @lines));
	foreach my $name (@names)
	{
		like($warnings[0] // '', qr/\b\Q$name\E\@example\.com/, "$what: the WARNING names $name");
		like($lines[0] // '', qr/\b\Q$name\E\@example\.com/, "$what: the line in the log names $name");
	}
	unlike(LpUsers::log_since($node, $offset), qr/Start-1234|"loginName"/, "$what: no payload in the log");
	is($session->query('SELECT 1'), '1', "$what: the session goes on") unless $what =~ /SAVEPOINT/;
	return ($out, $err);
}

my $create = \&LpUsers::create_sql;

# ------------------------------------------------------------------------------------------------- rollback

my ($out, $err);

subtest 'a rollback names what it cannot undo' => sub {
	warns('COMMIT', 'BEGIN; ' . $create->('commit') . '; COMMIT', 0);
	is(records('commit'), 1, 'COMMIT: on record');
	warns('autocommit', $create->('auto'), 0);

	($out, $err) = warns('ROLLBACK', 'BEGIN; ' . $create->('rollback') . '; ROLLBACK', 1, 'rollback');
	exists_once('rollback', 'ROLLBACK');
	is(records('rollback'), 0, 'ROLLBACK: the record is part of the transaction');
	like($err, qr/WARNING:  01000: rolled back here, but not in account "12345678": create of 1 user: rollback\@example\.com \(id \d+\)/,
		'ROLLBACK: account, operation, login and id');

	warns('an error after the call', 'BEGIN; ' . $create->('later') . '; SELECT 1/0; COMMIT', 1, 'later');
	exists_once('later', 'an error after the call');
	warns('an error in the same statement', "SELECT status, 1/(status - 201) FROM lp_create_users('12345678', '" .
		LpUsers::user('same') . "')", 1, 'same');
	exists_once('same', 'an error in the same statement');
	warns('a second call that is refused', 'BEGIN; ' . $create->('good') . "; SELECT * FROM lp_create_users('12345678', '[]'); COMMIT", 1, 'good');
	warns('two calls', 'BEGIN; ' . $create->('two1') . '; ' . $create->('two2') . '; ROLLBACK', 1, 'two1', 'two2');
	warns('no call', 'BEGIN; SELECT 1; ROLLBACK', 0);
	warns('a read only call', "BEGIN; SELECT count(*) FROM lp_check('12345678'); ROLLBACK", 0);

	# What the account rejected has no effect.
	warns('a rejected create', 'BEGIN; ' . $create->('rollback') . '; ROLLBACK', 0);
	is(records('rollback'), 0, 'a rejected create: rolled back like anything');
	$sim->post('faults', { path => '/users', action => 'status', status => 401 });
	warns('401', 'BEGIN; ' . $create->('unauthorized') . '; ROLLBACK', 0);

	# Who is not known to be there.
	$sim->post('faults', { method => 'POST', path => '/users', action => 'status', status => 500, applied => \1 });
	(undef, $err) = warns('500', 'BEGIN; ' . $create->('maybe500') . '; ROLLBACK', 1, 'maybe500');
	like($err, qr/may have carried it out \(outcome unknown\): create of 1 user/, '500: it says so');
	$sim->post('faults', { method => 'POST', path => '/users', action => 'reset', applied => \1 });
	(undef, $err) = warns('no answer', $create->('maybereset'), 1, 'maybereset');
	like($err, qr/outcome unknown.*ERROR:  08006|ERROR:  08006.*outcome unknown/s, 'no answer: the error and the WARNING');
	exists_once('maybereset', 'no answer');
	$sim->post('faults', { method => 'POST', path => '/users', action => 'silence', applied => \1 });
	warns('statement_timeout', "SET statement_timeout = '3s'; " . $create->('timeout'), 1, 'timeout');
	$session->query('RESET statement_timeout');
	exists_once('timeout', 'statement_timeout');

	# The certain and the uncertain are told apart.
	$sim->post('faults', { method => 'POST', path => '/users', login => 'mixed2@example.com', action => 'status', status => 500 });
	warns('certain and uncertain', 'BEGIN; ' . join(';', map { $create->("mixed$_") } 1 .. 3) . '; ROLLBACK', 2, 'mixed1', 'mixed3');

	$sim->post('faults', { method => 'POST', path => '/users', action => 'status', status => 500, times => 5 });
	(undef, $err) = warns('several uncertain', 'BEGIN; ' . join(';', map { $create->("uncertain$_") } 1 .. 5) . '; ROLLBACK', 1,
		map { "uncertain$_" } 1 .. 5);
	like($err, qr/create of 5 users/, 'several uncertain: all in one');
	$sim->remove('faults');

	# Other operations.
	my ($id) = map { $_->{id} } grep { $_->{loginName} eq 'commit@example.com' } @{ $sim->get('users') };
	(undef, $err) = warns('reset', "BEGIN; SELECT status FROM lp_reset_password('12345678', $id, 'Start-1234-new'); ROLLBACK", 1);
	like($err, qr/reset of 1 user: id $id$/m, 'reset: by id');
	(undef, $err) = warns('update', "BEGIN; SELECT status FROM lp_update_users('12345678', '" .
		LpUsers::user('commit', id => $id) . "'); ROLLBACK", 1, 'commit');
	like($err, qr/update of 1 user: commit\@example\.com \(id $id\)$/m, 'update: login and id');
	(undef, $err) = warns('delete', "BEGIN; SELECT status FROM lp_delete_users('12345678', ARRAY[$id]); ROLLBACK", 1);
	like($err, qr/delete of 1 user: id $id$/m, 'delete: by id');
	warns('several operations', 'BEGIN; ' . $create->('several1') . "; SELECT status FROM lp_delete_users('12345678', ARRAY[
		(SELECT user_id FROM lp_results WHERE login_name = 'several1\@example.com')]); ROLLBACK", 2, 'several1');

	# log_calls off: no record, the same WARNING.
	warns('log_calls off', 'SET lpusers.log_calls = off; BEGIN; ' . $create->('unlogged') . '; ROLLBACK; RESET lpusers.log_calls', 1, 'unlogged');
};

subtest 'a rollback to a savepoint names what it cannot undo' => sub {
	warns('ROLLBACK TO SAVEPOINT', 'BEGIN; SAVEPOINT a; ' . $create->('sp1') . '; ROLLBACK TO SAVEPOINT a', 1, 'sp1');
	is(posts() > 0 && $sim->users_with('sp1@example.com'), 1, 'ROLLBACK TO SAVEPOINT: sent is sent');
	warns('SAVEPOINT, COMMIT afterwards', 'COMMIT', 0);
	is(records('sp1'), 0, 'ROLLBACK TO SAVEPOINT: the record is gone');
	warns('SAVEPOINT kept', 'BEGIN; SAVEPOINT a; ' . $create->('sp2') . '; RELEASE SAVEPOINT a; COMMIT', 0);
	is(records('sp2'), 1, 'SAVEPOINT kept: on record');
	warns('RELEASEd SAVEPOINT, ROLLBACK', 'BEGIN; SAVEPOINT a; ' . $create->('sp3') . '; RELEASE SAVEPOINT a; ROLLBACK', 1, 'sp3');
	warns('nested SAVEPOINTs', 'BEGIN; SAVEPOINT a; SAVEPOINT b; ' . $create->('sp4') . '; RELEASE b; SAVEPOINT c; ' . $create->('sp5') .
		'; RELEASE c; ROLLBACK TO a', 1, 'sp4', 'sp5');
	warns('nested SAVEPOINTs, COMMIT afterwards', 'COMMIT', 0);
	warns('only the inner SAVEPOINT', 'BEGIN; ' . $create->('sp6') . '; SAVEPOINT a; ' . $create->('sp7') . '; ROLLBACK TO a; COMMIT', 1, 'sp7');
	is(records('sp6'), 1, 'only the inner SAVEPOINT: the outer call is on record');
	is(records('sp7'), 0, 'only the inner SAVEPOINT: the inner is not');
	(undef, $err) = warns('inner, then outer SAVEPOINT', 'BEGIN; ' . $create->('sp8') . '; SAVEPOINT a; ' . $create->('sp9') . '; ROLLBACK TO a; ROLLBACK', 2, 'sp9');
	unlike(($err =~ /(WARNING.*)/g)[1], qr/sp9/, 'inner, then outer SAVEPOINT: each is named once');

	my $block = sub { my ($body) = @_; return "DO \$\$ DECLARE n int; BEGIN $body END \$\$"; };
	my $perform = sub { my ($name) = @_; return "PERFORM lp_create_users('12345678', '" . LpUsers::user($name) . "');"; };
	warns('an exception caught in PL/pgSQL', $block->('BEGIN ' . $perform->('caught1') .
			"RAISE EXCEPTION 'no'; EXCEPTION WHEN raise_exception THEN NULL; END; " . $perform->('caught2')), 1, 'caught1');
	exists_once($_, 'an exception caught in PL/pgSQL') foreach 'caught1', 'caught2';
	is(records('caught1') . records('caught2'), '01', 'an exception caught in PL/pgSQL: the records');
	warns('a block without exception', $block->('BEGIN ' . $perform->('nocatch') . ' EXCEPTION WHEN OTHERS THEN NULL; END;'), 0);
	warns('ROLLBACK in a procedure', $block->($perform->('proc1') . 'ROLLBACK; ' . $perform->('proc2') . 'COMMIT;'), 1, 'proc1');
	is(records('proc1') . records('proc2'), '01', 'ROLLBACK in a procedure: the records');

	(undef, $err) = warns('a subtransaction for each call', $block->("FOR i IN 1..60 LOOP BEGIN PERFORM lp_create_users('12345678',
		jsonb_build_object('loginName', 'each' || i || '\@example.com', 'fullName', 'x', 'nickname', 'x', 'email', 'x', 'passwordSh',
		'Start-1234', 'isEnabled', true, 'maxChats', 1, 'profileIds', '[1]'::jsonb)); EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP;
		RAISE EXCEPTION 'no';"), 1, 'each1', 'each50');
	like($err, qr/create of 60 users: .* and 10 more$/m, 'a subtransaction for each call: one message');

	# Many calls: at most 50 names, then a count.
	{
		my $many = $block->("FOR i IN 1..60 LOOP PERFORM lp_create_users('12345678', jsonb_build_object('loginName', 'many' || i ||
		'\@example.com', 'fullName', 'x', 'nickname', 'x', 'email', 'x', 'passwordSh', 'Start-1234', 'isEnabled', true,
		'maxChats', 1, 'profileIds', '[1]'::jsonb)); END LOOP; RAISE EXCEPTION 'no';");
		my (undef, $err) = warns('many calls', $many, 1, 'many1', 'many50');
		my ($warning) = $err =~ /(WARNING.*)/;
		like($warning, qr/create of 60 users: .* and 10 more$/, 'many calls: a count of the rest');
		is(scalar(() = $warning =~ /\@example\.com/g), 50, 'many calls: 50 names');
		my $array = '[' . join(',', map { LpUsers::user("bulk$_") } 1 .. 70) . ']';
		(undef, $err) = warns('one call of many', "BEGIN; SELECT status FROM lp_create_users('12345678', '$array'); ROLLBACK", 1, 'bulk1', 'bulk50');
		like($err, qr/create of 70 users: .* and 20 more$/m, 'one call of many: a count of the rest');
		my $long = 'x' x 230;
		$array = '[' . join(',', map { LpUsers::user("$_$long") } 1 .. 60) . ']';
		(undef, $err) = warns('very long names', "BEGIN; SELECT status FROM lp_create_users('12345678', '$array'); ROLLBACK", 1);
		like($err, qr/create of 60 users: 1x{200,}/, 'very long names: as many as fit');
	}
};

subtest 'a failure at COMMIT names what it cannot undo' => sub {
	$session->query('CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED)');
	(undef, $err) = warns('a deferred constraint', 'BEGIN; INSERT INTO child VALUES (1); ' . $create->('deferred') . '; COMMIT', 1, 'deferred');
	like($err, qr/ERROR:  23503/, 'a deferred constraint: the error');
	exists_once('deferred', 'a deferred constraint');
	is(records('deferred'), 0, 'a deferred constraint: no record');

	{
		my $other = LpUsers::session($node);
		$session->query('CREATE TABLE counter (id int PRIMARY KEY, n int); INSERT INTO counter VALUES (1, 0), (2, 0)');
		$session->query('BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT sum(n) FROM counter; UPDATE counter SET n = 1 WHERE id = 1; ' .
			$create->('serial'));
		$other->query('BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT sum(n) FROM counter; UPDATE counter SET n = 1 WHERE id = 2; COMMIT');
		(undef, $err) = warns('a serialization failure at COMMIT', 'COMMIT', 1, 'serial');
		like($err, qr/ERROR:  40001/, 'a serialization failure at COMMIT: the error');
		exists_once('serial', 'a serialization failure at COMMIT');
		$other->quit;
	}
};

subtest 'the line in the log at each level and when the session ends' => sub {
	foreach my $level ('error', 'log', 'fatal', 'panic', 'warning', 'notice', 'debug1')
	{
		my $offset = -s $node->logfile;
		$session->query("SET log_min_messages = $level");
		(undef, $err) = $session->run('BEGIN; ' . $create->("level-$level") . '; ROLLBACK');
		$session->query('RESET log_min_messages');
		like($err, qr/WARNING:  01000: rolled back here/, "log_min_messages = $level: the WARNING");
		my @lines = lines_since($offset);
		my $wanted = 1;
		is(scalar(@lines), $wanted, "log_min_messages = $level: one line in the log") or diag(join("\n", @lines));
		like($lines[0] // '', qr/level-\Q$level\E\@example\.com/, "log_min_messages = $level: it names the user");
	}
	{
		my $offset = -s $node->logfile;
		(undef, $err) = $session->run('SET client_min_messages = error; BEGIN; ' . $create->('quiet') . '; ROLLBACK; RESET client_min_messages');
		unlike($err, qr/WARNING/, 'client_min_messages = error: no WARNING');
		is(scalar(lines_since($offset)), 1, 'client_min_messages = error: the line in the log');
	}
	# A name that the client's encoding lacks must not fail the abort.
	{
		my $latin = LpUsers::session($node, encoding => 'LATIN1');
		my $offset = -s $node->logfile;
		my $pid = $latin->query('SELECT pg_backend_pid()');
		my $sql = LpUsers::create_sql('odd') =~ s/odd\@/\\u65e5\\u672c\@/gr;

		is($latin->query("BEGIN; $sql"), '201|', 'a name outside of the encoding of the client');
		(undef, my $err) = $latin->run('ROLLBACK');
		like($err, qr/^WARNING:  01000: rolled back here, .*create of 1 user: \?+\@example\.com \(id \d+\)\n/, '... is replaced in the WARNING');
		unlike($err, qr/ERROR/, '... which raises no error');
		my @lines = lines_since($offset);
		is(scalar(@lines), 1, '... and is one line in the log');
		like($lines[0], qr/\xe6\x97\xa5\xe6\x9c\xac\@example\.com/, '... with the name as it is');
		is($latin->query('SELECT pg_backend_pid()'), $pid, '... and the session goes on');
		unlike(LpUsers::log_since($node, $offset), qr/ERROR|PANIC|ABORT state/, '... in good order');
		$latin->quit;
	}
	{
		my $victim = LpUsers::session($node);
		my $offset = -s $node->logfile;
		my $pid = $victim->query('BEGIN; SELECT pg_backend_pid()');
		$victim->query($create->('terminated'));
		$session->query("SELECT pg_terminate_backend($pid)");
		LpUsers::wait_for(sub { scalar(lines_since($offset)) }, 'the line in the log');
		$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid") or die 'still there';
		my @lines = lines_since($offset);
		is(scalar(@lines), 1, 'terminate in an open transaction: one line in the log');
		like($lines[0], qr/terminated\@example\.com/, 'terminate in an open transaction: it names the user');
		exists_once('terminated', 'terminate in an open transaction');
		is(records('terminated'), 0, 'terminate in an open transaction: no record');
	}
	{
		my $victim = LpUsers::session($node);
		my $offset = -s $node->logfile;
		$victim->query('BEGIN');
		$victim->query($create->('gone'));
		$victim->quit;
		LpUsers::wait_for(sub { scalar(lines_since($offset)) }, 'the line in the log');
		like((lines_since($offset))[0], qr/gone\@example\.com/, 'a client that leaves: the line in the log');
	}
};

subtest 'PREPARE TRANSACTION after a call is refused' => sub {
	(undef, $err) = warns('PREPARE TRANSACTION after a call', 'BEGIN; ' . $create->('prepared') . "; PREPARE TRANSACTION 'one'", 1, 'prepared');
	like($err, qr/ERROR:  0A000: cannot PREPARE a transaction that has written/, 'PREPARE TRANSACTION after a call is refused');
	is($session->query('SELECT count(*) FROM pg_prepared_xacts'), '0', '... and nothing is prepared');
	warns('PREPARE TRANSACTION without a call', "BEGIN; INSERT INTO counter VALUES (3, 3); PREPARE TRANSACTION 'two'", 0);
	warns('COMMIT PREPARED', "COMMIT PREPARED 'two'", 0);
	is($session->query('SELECT n FROM counter WHERE id = 3'), '3', 'PREPARE TRANSACTION without a call works');
	warns('PREPARE after lp_check', "BEGIN; SELECT count(*) FROM lp_check('12345678'); INSERT INTO counter VALUES (4, 4); PREPARE TRANSACTION 'three'", 0);
	$session->query("ROLLBACK PREPARED 'three'");
	warns('PREPARE after a call rolled back to a savepoint', 'BEGIN; SAVEPOINT a; ' . $create->('prepared2') .
		"; ROLLBACK TO a; PREPARE TRANSACTION 'four'", 1, 'prepared2');
	$session->run("ROLLBACK PREPARED 'four'");
};

# ------------------------------------------------------------------------------------------------- what fails first

# A statement that fails before anything is sent.
sub fails_first
{
	my ($what, $sql, $code) = @_;
	my $before = $sim->count(path => '/le-users');
	my $offset = -s $node->logfile;
	my ($out, $err) = $session->run($sql);

	like($err, qr/ERROR:  $code:/, "$what: $code");
	unlike($err, qr/WARNING/, "$what: no WARNING");
	is($sim->count(path => '/le-users'), $before, "$what: nothing was sent");
	is(scalar(lines_since($offset)), 0, "$what: no line in the log");
	return;
}

subtest 'a local failure sends nothing' => sub {
	$session->query(q{CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not today'; END $$;
		CREATE TRIGGER no BEFORE INSERT ON lp_requests FOR EACH ROW EXECUTE FUNCTION no()});
	fails_first('a trigger on lp_requests that raises', $create->('first1'), 'P0001');
	$session->query('DROP TRIGGER no ON lp_requests; CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
		CREATE TRIGGER no BEFORE INSERT ON lp_requests FOR EACH ROW EXECUTE FUNCTION nothing()');
	fails_first('a trigger that drops the row', $create->('first2'), 'XX000');
	$session->query('DROP TRIGGER no ON lp_requests; ALTER TABLE lp_requests ADD CONSTRAINT short CHECK (login_name !~ \'first\')');
	fails_first('a CHECK', $create->('first3'), '23514');
	$session->query('ALTER TABLE lp_requests DROP CONSTRAINT short; ALTER TABLE lp_requests RENAME TO elsewhere');
	fails_first('a table renamed', $create->('first4'), '42P01');
	$session->query('ALTER TABLE elsewhere RENAME TO lp_requests; ALTER TABLE lp_requests RENAME login_name TO other_name');
	fails_first('a column renamed', $create->('first5'), '42703');
	$session->query('ALTER TABLE lp_requests RENAME other_name TO login_name; ALTER SEQUENCE lp_batch_seq RENAME TO other_seq');
	fails_first('a sequence renamed', $create->('first6'), '42P01');
	$session->query('ALTER SEQUENCE other_seq RENAME TO lp_batch_seq; CREATE ROLE table_owner; ALTER TABLE lp_requests OWNER TO table_owner; REVOKE INSERT ON lp_requests FROM table_owner');
	fails_first('an owner without rights', $create->('first7'), '42501');
	$session->query('ALTER TABLE lp_requests OWNER TO CURRENT_USER');
	{
		my $locker = LpUsers::session($node);

		$locker->query('BEGIN; LOCK TABLE lp_requests');
		fails_first('a table locked by another', "SET lock_timeout = '100ms'; " . $create->('first8'), '55P03');
		$locker->quit;
	}
	$session->query('RESET lock_timeout');
	is($session->query($create->('first9')), '201|', 'after all that a call works');
	is(records('first9'), 1, '... and is on record');
};

subtest 'READ ONLY transactions and standbys refuse to write' => sub {
	foreach my $call ("lp_create_users('12345678', '" . LpUsers::user('ro') . "')", "lp_update_users('12345678', '" . LpUsers::user('ro', id => 5) . "')",
		"lp_delete_users('12345678', '{5}')", "lp_reset_password('12345678', 5, 'Start-1234')")
	{
		my ($name) = $call =~ /^(\w+)/;
		fails_first("$name in a READ ONLY transaction", "BEGIN READ ONLY; SELECT * FROM $call; ROLLBACK", '25006');
	}
	is($session->query("BEGIN READ ONLY; SELECT bool_and(ok) FROM lp_check('12345678'); COMMIT"), 't', 'lp_check in a READ ONLY transaction');

	$node->backup('base');
	my $standby = PostgreSQL::Test::Cluster->new('standby');
	$standby->init_from_backup($node, 'base', has_streaming => 1);
	$standby->start;
	$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
	my $primary_session = $session;
	$session = LpUsers::session($standby);
	is($session->query('SELECT pg_is_in_recovery()'), 't', 'a standby');
	foreach my $call ("lp_create_users('12345678', '" . LpUsers::user('ro') . "')", "lp_update_users('12345678', '" . LpUsers::user('ro', id => 5) . "')",
		"lp_delete_users('12345678', '{5}')", "lp_reset_password('12345678', 5, 'Start-1234')")
	{
		my ($name) = $call =~ /^(\w+)/;
		fails_first("$name on a standby", "SELECT * FROM $call", '25006');
	}
	is($session->query("SELECT bool_and(ok) FROM lp_check('12345678')"), 't', 'lp_check on a standby');
	is($session->query("SELECT count(*) > 0 FROM lp_results"), 't', 'lp_results on a standby');
	is($session->query("SELECT count(*) FROM lp_validate_users('[{}]')") > 0, 1, 'lp_validate_users on a standby');
	$standby->promote;
	$standby->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die 'not promoted';
	is($session->query($create->('promoted')), '201|', 'the same session after its promotion');
	exists_once('promoted', 'after the promotion');
	is($session->query("SELECT split_part(origin, '/', 3) > (SELECT split_part(origin, '/', 3) FROM lp_results WHERE login_name = 'commit\@example.com' LIMIT 1)
		FROM lp_results WHERE login_name = 'promoted\@example.com'"), 't', 'its record has the new timeline');
	$session->quit;
	$primary_session->quit;
};

is($sim->text('duplicates') =~ s/\s//gr, '[]', 'no login exists twice');
unlike(LpUsers::log_since($node, 0), qr/terminated by signal|TRAP:|PANIC:/, 'nothing crashed');

done_testing();

# High availability as docs/high-availability.md sets it up: a primary and a streaming standby with the same configuration.
# What is read on the standby and what is refused there; failovers after which the queue goes on with no command but the
# promotion; the old primary that comes back as a standby; what a standby that lags has lost. That copies which were not
# meant to promote send nothing is in 023_copied_database.
use strict;
use warnings;
use CPAN::Meta::YAML;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP;
use LpUsers;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $sim = LpUsers::account();
my $one = LpUsers::server(name => 'one', conf => "wal_level = replica\nmax_wal_senders = 6\nhot_standby = on\nwal_log_hints = on\n" .
	"wal_keep_size = '256MB'\nautovacuum = off\nlpusers.worker = off\n");
$one->safe_psql('postgres', 'CREATE DATABASE hr');
$one->safe_psql('hr', 'CREATE EXTENSION lpusers');
LpUsers::connect_account($one, $sim, db => 'hr', options => "batch_size '1', max_connections '4', hold_above '30'");
$one->safe_psql('hr', q{
	CREATE SCHEMA lp;
	IMPORT FOREIGN SCHEMA liveperson FROM SERVER acme INTO lp;
	CREATE TABLE staff (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text);
	SELECT lp_attach_trigger('staff', '12345678', $${"loginName": "name || '@example.com'", "email": "name || '@example.com'",
		"fullName": "name", "nickname": "name", "passwordSh": "'Aa1!' || gen_random_uuid()", "isEnabled": "true", "maxChats": "3",
		"profileIds": "ARRAY[1]", "memberOf": "jsonb_build_object('agentGroupId', 1)"}$$)});
# the whole of the recipe: the same on every node
$one->append_conf('postgresql.conf', "shared_preload_libraries = 'lpusers'\nlpusers.databases = 'hr'\nlpusers.after_promotion = resume\nlpusers.worker = on\n");
$one->restart;
$one->backup('base');
my $two = PostgreSQL::Test::Cluster->new('two');
$two->init_from_backup($one, 'base', has_streaming => 1);
$two->start;

sub sql { my ($node, $sql) = @_; return $node->safe_psql('hr', $sql); }
sub hire { my ($node, @names) = @_; return sql($node, 'INSERT INTO staff (name) VALUES ' . join(', ', map { "('$_')" } @names)); }
sub posts { my ($name) = @_; return $sim->count(method => 'POST', path => '/users', login => "$name\@example.com"); }
sub row { my ($node, $name, $columns) = @_; return sql($node, "SELECT $columns FROM lp_requests WHERE login_name = '$name\@example.com' ORDER BY id"); }
sub left { my ($node) = @_; return sql($node, "SELECT count(*) FROM lp_requests WHERE state IN ('pending', 'sending', 'uncertain')"); }
sub delivered { my ($node, $what) = @_; LpUsers::wait_for(sub { left($node) == 0 }, $what); return; }
sub replayed { my ($from, $to) = @_; $from->wait_for_catchup($to, 'replay', $from->lsn('insert')); return; }
sub faults { my (@faults) = @_; $sim->remove('faults'); $sim->post('faults', [ map { { method => 'POST', path => '/users', %$_ } } @faults ]) if @faults; return; }

sub setting
{
	my ($node, $name, $value) = @_;

	$node->append_conf('postgresql.conf', "$name = $value\n");
	$node->reload;
	LpUsers::wait_for(sub { sql($node, "SELECT current_setting('$name')") eq $value =~ s/'//gr }, "$name = $value");
	return;
}

# Promote, and nothing else.
sub promoted
{
	my ($node, $what) = @_;
	my $start = time();

	$node->promote;
	LpUsers::wait_for(sub { sql($node, 'SELECT pg_is_in_recovery()') eq 'f' && left($node) == 0 }, "$what: the queue to go on by itself");
	note(sprintf('%s: delivered %.1f s after the promotion', $what, time() - $start));
	return;
}

subtest 'a standby reads the account and the queue' => sub {
	hire($one, 'ann', 'bob');
	hire($one, '');
	delivered($one, 'the first to be delivered');
	replayed($one, $two);
	is(sql($two, 'SELECT pg_is_in_recovery()'), 't', 'the second is a standby');
	is(sql($two, q{SELECT step, ok FROM lp_check('12345678')}), "domain|t\ntoken|t\nread|t\nrevision|t", 'lp_check()');
	is(sql($two, 'SELECT login_name FROM lp.users ORDER BY 1'), "ann\@example.com\nbob\@example.com", 'the account as a table');
	is(sql($two, q{SELECT u.nickname FROM lp_results r JOIN lp.users u ON u.id = r.user_id ORDER BY 1}), "ann\nbob", '... joined with the records, by id');
	like(sql($two, 'EXPLAIN (ANALYZE, COSTS OFF) SELECT count(*) FROM lp.users'), qr/Requests: 1/, '... EXPLAIN ANALYZE');
	cmp_ok(sql($two, 'SELECT count(*) FROM lp.profiles'), '>', 0, '... profiles');
	is(sql($two, $_), sql($one, $_), "as on the primary: $_") foreach 'SELECT * FROM lp_results ORDER BY id',
		'SELECT * FROM lp_summary ORDER BY state', 'SELECT account, pending, held, created, failed, paused, last_error FROM lp_progress', 'SELECT lp_origin()';
	is(sql($two, 'SELECT worker_pid IS NULL, lp_worker_pid() IS NULL FROM lp_progress'), 't|t', 'no worker is there');
	is(sql($two, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'lpusers%'}), 0, '... nor a launcher');
	like(sql($two, 'SELECT lp_report()'), qr{<dt>Created</dt><dd class="some">2<}, 'lp_report()');
	is(sql($two, 'SELECT count(*) FROM lp_validate_users($$' . LpUsers::user('cyd') . '$$)'), 0, 'lp_validate_users()');
	{
		my $queries = CPAN::Meta::YAML->read("$LpUsers::top/monitoring/postgres_exporter.yaml")->[0];
		my $rows = sub { my ($node, $name) = @_; return sql($node, "SELECT count(*) FROM (" . ($queries->{$name}{query} =~ s/\n$//r) . ') q'); };

		is($rows->($two, $_), 0, "no metrics of $_ on a standby") foreach sort keys %$queries;
		cmp_ok($rows->($one, $_), '>', 0, "... but $_ on the primary") foreach grep { $_ ne 'lpusers_sync' } sort keys %$queries;	# no sync is here
	}
	{
		my $reader = LpUsers::session($two, db => 'hr');

		is($reader->query(q{SELECT bool_and(ok) FROM lp_check('12345678')}), 't', 'a session that has a bearer');
		sql($one, q{ALTER USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (SET token 'wrong')});
		replayed($one, $two);
		like($reader->query(q{SELECT detail FROM lp_check('12345678') WHERE NOT ok}), qr/^status 401/, '... uses another when ALTER USER MAPPING is replayed');
		sql($one, q{ALTER USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (SET token 'lp-token')});
		replayed($one, $two);
		is($reader->query(q{SELECT bool_and(ok) FROM lp_check('12345678')}), 't', '... and once more');
		$reader->quit;
	}
};

subtest 'a standby refuses to write' => sub {
	{
		my $writes = sub { my $n = 0; $n += $sim->count(method => $_) foreach qw(POST PUT DELETE); return $n; };
		my $before = $writes->();
		my $user = LpUsers::user('nobody');

		foreach my $case ([ "SELECT * FROM lp_create_users('12345678', '$user')", 'lp_create_users()' ],
			[ q{SELECT * FROM lp_update_users('12345678', '{"id": 1}')}, 'lp_update_users()' ],
			[ q{SELECT * FROM lp_delete_users('12345678', '{1}')}, 'lp_delete_users()' ],
			[ q{SELECT * FROM lp_reset_password('12345678', 1, 'Bb2?12345678')}, 'lp_reset_password()' ],
			[ "SELECT lp_enqueue_users('12345678', '$user')", 'lp_enqueue_users()' ],
			[ q{CALL lp_deliver('12345678')}, 'lp_deliver()' ], [ q{SELECT lp_retry('{3}')}, 'lp_retry()' ], [ q{SELECT lp_discard('{3}')}, 'lp_discard()' ],
			[ q{SELECT lp_release('12345678')}, 'lp_release()' ], [ 'SELECT lp_adopt()', 'lp_adopt()' ], [ q{SELECT lp_purge('1 day')}, 'lp_purge()' ],
			[ q{SELECT lp_detach_trigger('staff')}, 'DROP TRIGGER' ], [ q{INSERT INTO lp.users (login_name) VALUES ('x')}, 'INSERT' ],
			[ 'UPDATE lp.users SET max_chats = 1', 'UPDATE' ], [ 'DELETE FROM lp.users', 'DELETE' ], [ q{INSERT INTO staff (name) VALUES ('x')}, 'INSERT' ])
		{
			my ($sql, $what) = @$case;

			like((LpUsers::try_sql($two, $sql, db => 'hr'))[2], qr/ERROR:  25006: cannot execute \Q$what\E in a read-only transaction/, 'refused: ' . substr($sql, 0, 50));
		}
		is($writes->(), $before, 'nothing of it was sent');
	}

	# A query that waits for the account does not hold up recovery longer than the standby is told to wait for queries.
	{
		my $reader = LpUsers::session($two, db => 'hr');
		my $start;

		setting($two, 'max_standby_streaming_delay', 0);
		$sim->post('faults', { method => 'GET', path => '/users', action => 'silence' });
		$reader->send('SELECT count(*) FROM lp.users');
		LpUsers::wait_for(sub { grep { $_->{struck} > 0 } @{ $sim->get('faults') } }, 'the listing to be asked for');
		$start = time();
		sql($one, 'ALTER FOREIGN TABLE lp.users OPTIONS (SET resource $$users$$)');
		like(($reader->take)[1], qr/ERROR:  40001: canceling statement due to conflict with recovery/, 'recovery ends a query that waits for the account');
		cmp_ok(time() - $start, '<', 20, '... at once');
		$sim->remove('faults');
		$reader->quit;
	}
};

subtest 'a synchronous standby takes over' => sub {
	# What a clerk was told is committed is on the standby, each hire with its request, whenever the primary dies.
	{
		my $clerk = LpUsers::session($one, db => 'hr');
		my (@told, @there);

		$one->append_conf('postgresql.conf', "synchronous_standby_names = '*'\n");
		$one->reload;
		LpUsers::wait_for(sub { sql($one, 'SELECT sync_state FROM pg_stat_replication') eq 'sync' }, 'the standby to be synchronous');
		$sim->post('config', { delay_ms => 30 });
		faults({ login => 'sync5@example.com', action => 'silence', applied => JSON::PP::true });
		foreach my $n (1 .. 25)
		{
			$clerk->query("INSERT INTO staff (name) VALUES ('sync$n')");
			push @told, "sync$n";
		}
		LpUsers::wait_for(sub { sql($one, "SELECT count(*) FROM lp_requests WHERE login_name ~ '^sync' AND state = 'created'") >= 5 }, 'some to be created');
		LpUsers::wait_for(sub { $sim->get('faults')->[0]{struck} }, 'a request whose answer is lost');
		$one->stop('immediate');
		$sim->post('config', { delay_ms => 0 });
		faults();
		promoted($two, 'a synchronous standby');
		is(sql($two, "SELECT string_agg(name, ' ' ORDER BY id) FROM staff WHERE name ~ '^sync'"), "@told", 'a synchronous standby has lost no hire');
		is(sql($two, "SELECT count(*) FROM lp_requests WHERE login_name ~ '^sync' AND state = 'created'"), 25, '... all are created');
		is(scalar(grep { $sim->users_with("$_\@example.com") != 1 } @told), 0, '... each exists once');
		is(row($two, 'sync5', 'evidence'), 'lookup', '... one at least was looked up');
		is(posts('sync5'), 1, '... and not sent again');
		hire($two, 'later');
		LpUsers::wait_for(sub { row($two, 'later', 'state') eq 'created' }, 'the new primary to go on');
		is(posts('later'), 1, 'the new primary goes on');
	}
};

subtest 'the old primary returns as a standby' => sub {
	# It crashed and its timeline ended; pg_rewind recovers it (with the library preloaded) and makes it like the new one.
	{
		my $conf = slurp_file($one->data_dir . '/postgresql.conf');

		# before PostgreSQL 16 pg_rewind learns of the new timeline from a checkpoint only
		sql($two, 'CHECKPOINT');
		command_ok([ 'pg_rewind', '--target-pgdata', $one->data_dir, '--source-server', $two->connstr('postgres'), '--config-file', $one->data_dir . '/postgresql.conf' ],
			'pg_rewind of the old primary');
		open(my $out, '>', $one->data_dir . '/postgresql.conf') or die $!;
		print $out $conf, "synchronous_standby_names = ''\n";
		close($out);
		$one->enable_streaming($two);
		$one->set_standby_mode;
		$one->start;
		replayed($two, $one);
		is(sql($one, 'SELECT pg_is_in_recovery()'), 't', '... which is a standby now');
		is(sql($one, 'SELECT * FROM lp_results ORDER BY id'), sql($two, 'SELECT * FROM lp_results ORDER BY id'), '... with the records of the new one');
		is(sql($one, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'lpusers%'}), 0, '... and delivers nothing');
	}
};

subtest 'a standby that lags takes over' => sub {
	# "one" knows everything until here; what happens after is on "two" only, which dies.
	{
		my @load = map { "load$_" } 1 .. 31;

		setting($two, 'lpusers.worker', 'off');
		faults({ login => 'refused@example.com', action => 'status', status => 400 });
		hire($two, 'refused');
		sql($two, 'CALL lp_deliver()');
		hire($two, @load);
		hire($two, qw(settled answer_lost never_applied discarded));
		is(sql($two, 'SELECT state, count(*) FROM lp_requests WHERE state IN ($$held$$, $$pending$$) GROUP BY 1 ORDER BY 1'), "held|31\npending|4", 'held by hold_above, and pending');
		replayed($two, $one);
		$one->stop;

		faults({ login => 'answer_lost@example.com', action => 'silence', applied => JSON::PP::true }, { login => 'never_applied@example.com', action => 'silence' });
		sql($two, q{SELECT lp_discard(array_agg(id)) FROM lp_requests WHERE login_name = 'discarded@example.com'});
		sql($two, q{SELECT lp_release('12345678')});
		sql($two, q{SELECT lp_retry(array_agg(id)) FROM lp_requests WHERE login_name = 'refused@example.com'});
		hire($two, 'unknown');
		setting($two, 'lpusers.worker', 'on');
		sql($two, 'SELECT _lp_wake()');
		LpUsers::wait_for(sub { sql($two, q{SELECT count(*) FROM lp_requests WHERE state = 'created' AND login_name ~ '^(settled|load|refused|unknown)'}) == 34 }, 'the primary to deliver');
		LpUsers::wait_for(sub { 2 == grep { $_->{struck} > 0 } @{ $sim->get('faults') } }, 'both requests to arrive');
		$two->stop('immediate');
		faults();
		$one->start;
		is(row($one, 'settled', 'state'), 'pending', 'what was settled on the primary is pending on the standby');
		promoted($one, 'a standby that lags');

		is(row($one, 'settled', 'state, evidence'), 'created|lookup', 'settled: looked up');
		is(posts('settled'), 1, '... and not sent again');
		is(row($one, 'answer_lost', 'state, evidence'), 'created|lookup', 'sent, the answer lost: looked up');
		is(posts('answer_lost'), 1, '... and not sent again');
		is(row($one, 'never_applied', 'state, evidence'), 'created|answer', 'sent, never carried out: looked up and sent');
		is(posts('never_applied'), 2, '... again');
		is(sql($one, q{SELECT count(*) FROM staff WHERE name = 'unknown'}) . row($one, 'unknown', '1'), '0', 'a hire that was not replayed is lost with its request');
		is(sql($one, q{SELECT login_name FROM lp.users u WHERE NOT EXISTS (SELECT FROM staff s WHERE s.name || '@example.com' = u.login_name)}),
			'unknown@example.com', '... and shows as drift');
		is(row($one, 'discarded', 'state'), 'created', 'a decision that was not replayed is lost, too');
		is(row($one, 'refused', 'state'), 'failed', 'retried with success, not replayed: failed as before');
		sql($one, q{SELECT lp_retry(array_agg(id)) FROM lp_requests WHERE login_name = 'refused@example.com'});
		delivered($one, 'the retry');
		note('retried: ' . row($one, 'refused', 'state, evidence, error'));
		is($sim->users_with('refused@example.com'), 1, '... and a retry does not create it twice');

		is(sql($one, q{SELECT state, count(*) FROM lp_requests WHERE login_name ~ '^load' GROUP BY 1}), 'held|31', 'what was held is held');
		is(sql($one, q{SELECT lp_release('12345678')}), 31, 'lp_release() lets it go');
		delivered($one, 'what was released');
		is(sql($one, q{SELECT DISTINCT state, evidence FROM lp_requests WHERE login_name ~ '^load'}), 'created|lookup', '... it was released before: looked up');
		is(scalar(grep { posts($_) != 1 || $sim->users_with("$_\@example.com") != 1 } @load), 0, '... and not sent again');
	}
};

is($sim->text('duplicates') =~ s/\s//gr, '[]', 'no login exists twice');
unlike(LpUsers::log_since($_, 0), qr/terminated by signal|TRAP:|PANIC:|duplicate key/, $_->name . ': nothing crashed, no duplicate key') foreach $one, $two;

done_testing();

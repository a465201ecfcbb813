# Copies of a database: a dump restored, a template, a promoted copy, a restore to a point in time. Only one of them sends.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LpUsers;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $sim  = LpUsers::account();
my $main = LpUsers::server(conf => "wal_level = replica\nmax_wal_senders = 6\nhot_standby = on\nautovacuum = off\n" .
	"lpusers.worker = off\nlpusers.idle_timeout = '200ms'\n");
$main->enable_archiving;
$main->restart;
$main->safe_psql('postgres', 'CREATE DATABASE hr');
$main->safe_psql('hr', 'CREATE EXTENSION lpusers');
LpUsers::connect_account($main, $sim, db => 'hr', options => "batch_size '1', max_connections '2', timeout '30s'");
my $dir = File::Temp->newdir();

sub sql { my ($node, $sql, $db) = @_; return $node->safe_psql($db // 'hr', $sql); }
sub enqueue_sql { my (@names) = @_; return "SELECT lp_enqueue_users('12345678', '[" . join(',', map { LpUsers::user($_) } @names) . "]')"; }
sub posts { my ($name) = @_; return $sim->count(method => 'POST', path => '/users', (defined $name ? (login => "$name\@example.com") : ())); }
sub deliver { my ($node, $db) = @_; my @result = LpUsers::try_sql($node, 'CALL lp_deliver()', db => $db // 'hr'); is($result[0], 0, 'CALL lp_deliver()') or diag($result[2]); return; }
sub states { my ($node, $db) = @_; return sql($node, "SELECT string_agg(split_part(login_name, '\@', 1) || ' ' || state, ', ' ORDER BY id) FROM lp_requests WHERE login_name !~ '^old'", $db); }
sub left { my ($node, $db) = @_; return sql($node, "SELECT count(*) FROM lp_requests WHERE state NOT IN ('created', 'failed')", $db); }
sub no_worker { my ($node) = @_; LpUsers::wait_for(sub { sql($node, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'lpusers worker'", 'postgres') == 0 }, 'workers to leave'); return; }
sub settings { my ($node, @lines) = @_; $node->append_conf('postgresql.conf', join("\n", @lines) . "\n"); $node->reload; return; }

sub worker_is { my ($node, $value) = @_; settings($node, "lpusers.worker = $value"); LpUsers::wait_for(sub { sql($node, 'SELECT lp_worker_pid(); SHOW lpusers.worker') =~ /$value/ }, "worker = $value"); return; }

# Everything that is unfinished in this copy is held, neither CALL nor worker sends anything.
sub is_held
{
	my ($what, $node, $db, $n) = @_;
	my $requests = $sim->count(path => '/le-users');

	deliver($node, $db);
	worker_is($node, 'on');
	sql($node, 'SELECT _lp_wake()', $db);
	LpUsers::wait_for(sub { sql($node, "SELECT count(*) FROM lp_requests WHERE state IN ('pending', 'sending', 'uncertain')", $db) == 0 }, "$what: held");
	is(sql($node, "SELECT lp_release('12345678')", $db), 0, "$what: lp_release() does not touch them");
	no_worker($node);
	is(sql($node, "SELECT count(*) FROM lp_requests WHERE state = 'held' AND reason ~ '^written elsewhere \\(\\d+/\\d+/\\d+, here is \\d+/\\d+/\\d+\\).*lp_adopt'", $db), $n, "$what: all are held, with the reason");
	is(left($node, $db), $n, "$what: none is in another state");
	is(sql($node, 'SELECT held FROM lp_progress', $db), $n, "$what: lp_progress shows them");
	is($sim->count(path => '/le-users'), $requests, "$what: neither CALL nor worker sent anything");
	worker_is($node, 'off');
	return;
}

# ------------------------------------------------------------------------------------------------- rows in all states

my @unknown = ('unknown_there', 'unknown_absent');
my @sending = ('sending_there', 'sending_absent');
my @pending = ('pending1', 'pending2', 'pending_dropped');
my $all = 'twin pending, twin pending, unknown_there uncertain, unknown_absent uncertain, sending_there sending, sending_absent sending, ' .
	'pending1 pending, pending2 pending, pending_dropped pending';
my $unfinished = 9;
my $before;

subtest 'requests in all states' => sub {
	sql($main, enqueue_sql('old1', 'old2'));
	deliver($main);
	is(sql($main, "SELECT count(*) FROM lp_requests WHERE state = 'created'"), 2, 'two are created');
	# a failed one, queued anew and then retried: two rows of one login, both to be sent
	$sim->post('faults', { method => 'POST', path => '/users', login => 'twin@example.com', action => 'status', status => 400 });
	sql($main, enqueue_sql('twin'));
	deliver($main);
	sql($main, enqueue_sql('twin'));
	sql($main, "SELECT lp_retry(ARRAY(SELECT id FROM lp_requests WHERE state = 'failed'))");
	sql($main, "UPDATE lp_requests SET next_attempt_at = now() + '1 hour' WHERE state = 'pending'");
	sql($main, enqueue_sql(@unknown));
	$sim->remove('faults');
	$sim->post('faults', [ { method => 'POST', path => '/users', login => 'unknown_there@example.com', action => 'status', status => 503, applied => JSON::PP::true },
		{ method => 'POST', path => '/users', login => 'unknown_absent@example.com', action => 'status', status => 503 } ]);
	deliver($main);
	sql($main, "UPDATE lp_requests SET next_attempt_at = now() + '1 hour' WHERE state = 'uncertain'");
	sql($main, enqueue_sql(@sending));
	$sim->remove('faults');
	$sim->post('faults', [ { method => 'POST', path => '/users', login => 'sending_there@example.com', action => 'silence', applied => JSON::PP::true },
		{ method => 'POST', path => '/users', login => 'sending_absent@example.com', action => 'silence' } ]);
	{
		my $caller = LpUsers::session($main, db => 'hr');
		my $pid = $caller->query('SELECT pg_backend_pid()');

		$caller->send('CALL lp_deliver()');
		LpUsers::wait_for(sub { 2 == grep { $_->{struck} > 0 } @{ $sim->get('faults') } }, 'both requests to arrive');
		sql($main, "SELECT pg_terminate_backend($pid)");
		$caller->take;
		LpUsers::wait_for(sub { sql($main, "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid") == 0 }, 'the caller to end');
	}
	$sim->remove('faults');
	sql($main, enqueue_sql(@pending));
	sql($main, "UPDATE lp_requests SET next_attempt_at = now() WHERE login_name ~ '^twin'");
	is(states($main), $all, 'rows in all states');
	is(sql($main, 'SELECT count(DISTINCT origin) FROM lp_requests'), 1, 'they carry one origin');
	is(sql($main, 'SELECT DISTINCT origin FROM lp_requests'), sql($main, "SELECT system_identifier || '/' || (SELECT oid FROM pg_database WHERE datname = 'hr')
		|| '/' || timeline_id FROM pg_control_system(), pg_control_checkpoint()"), '... of system, database and timeline');
	is(sql($main, 'SELECT DISTINCT origin = lp_origin() FROM lp_requests'), 't', '... lp_origin() says the same');
	$before = posts();
};

# ------------------------------------------------------------------------------------------------- the copies

my $elsewhere = LpUsers::server(name => 'elsewhere', conf => "lpusers.worker = off\nlpusers.idle_timeout = '200ms'\n");
my $standby = PostgreSQL::Test::Cluster->new('standby');
my $restored = PostgreSQL::Test::Cluster->new('restored');

subtest 'a restored dump and a template hold unfinished requests' => sub {
	$main->command_ok([ 'pg_dump', '--format', 'custom', '--file', "$dir/hr", '--dbname', $main->connstr('hr') ], 'pg_dump');
	sql($main, 'CREATE DATABASE dumped', 'postgres');
	$main->command_ok([ 'pg_restore', '--exit-on-error', '--dbname', $main->connstr('dumped'), "$dir/hr" ], 'restored in another database');
	sql($elsewhere, 'CREATE DATABASE hr', 'postgres');
	$elsewhere->command_ok([ 'pg_restore', '--exit-on-error', '--dbname', $elsewhere->connstr('hr'), "$dir/hr" ], 'restored in another cluster');
	sql($main, 'CREATE DATABASE copied TEMPLATE hr', 'postgres');
	$main->backup('base');
	sql($main, "SELECT pg_create_restore_point('before_delivery')");
	$standby->init_from_backup($main, 'base', has_streaming => 1);
	# the archive is the original's: what another writes there, a restore could read in the middle
	$standby->append_conf('postgresql.conf', "archive_mode = off\n");
	$standby->start;
	$main->wait_for_catchup($standby, 'replay', $main->lsn('insert'));
	{
		my $file = sql($main, 'SELECT pg_walfile_name(pg_switch_wal())');
		LpUsers::wait_for(sub { sql($main, "SELECT last_archived_wal >= '$file' FROM pg_stat_archiver") eq 't' }, 'the archive to be complete');
	}
	$restored->init_from_backup($main, 'base', has_restoring => 1, standby => 0);
	$restored->append_conf('postgresql.conf', "archive_mode = off\nrecovery_target_name = 'before_delivery'\nrecovery_target_action = 'promote'\n");

	foreach my $copy ([ 'a dump in another database', $main, 'dumped' ], [ 'a dump in another cluster', $elsewhere, 'hr' ], [ 'a template copy', $main, 'copied' ])
	{
		my ($what, $node, $db) = @$copy;

		is(states($node, $db), $all, "$what: as they were");
		# the original must not deliver while the worker is on for a copy in the same cluster
		is_held($what, $node, $db, $unfinished);
	}
	is(states($main), $all, 'the original is untouched');
};

subtest 'a promoted copy holds unfinished requests' => sub {
	$standby->promote;
	LpUsers::wait_for(sub { sql($standby, 'SELECT pg_is_in_recovery()') eq 'f' }, 'the standby to be promoted');
	is_held('a promoted copy', $standby, 'hr', $unfinished);
	is(sql($standby, "SELECT count(*) FROM lp_requests WHERE state = 'held' AND split_part(origin, '/', 3)::int < split_part(lp_origin(), '/', 3)::int"), $unfinished,
		'a promoted copy: what tells is the timeline');
	is(posts(), $before, 'no copy has sent anything');

	# The original goes on, with the copy running.
	sql($main, "SELECT lp_discard(ARRAY(SELECT id FROM lp_requests WHERE login_name = 'pending_dropped\@example.com'))");
	sql($main, "UPDATE lp_requests SET next_attempt_at = now() WHERE state = 'uncertain'");
	worker_is($standby, 'on');
	worker_is($main, 'on');
	sql($main, 'SELECT _lp_wake()');
	sql($standby, enqueue_sql('new_in_copy'));
	LpUsers::wait_for(sub { sql($main, "UPDATE lp_requests SET next_attempt_at = now() WHERE state = 'uncertain' AND next_attempt_at > now(); SELECT _lp_wake()"); left($main) == 0 }, 'the original to deliver');
	no_worker($main);
	worker_is($main, 'off');
	LpUsers::wait_for(sub { sql($standby, "SELECT state FROM lp_requests WHERE login_name = 'new_in_copy\@example.com'") eq 'created' }, 'the copy to deliver what was queued there');
	is(posts('new_in_copy'), 1, 'the promoted copy delivers what is queued there, meanwhile');
	is(sql($standby, "SELECT count(*) FROM lp_requests WHERE state = 'held'"), $unfinished, '... and nothing else');
	no_worker($standby);
	worker_is($standby, 'off');
	is(states($main) =~ s/^twin (\w+), twin (\w+)/'twin ' . join('+', sort($1, $2))/er, 'twin created+failed, unknown_there created, unknown_absent created, ' .
		'sending_there created, sending_absent created, pending1 created, pending2 created', 'the original delivers everything but what was discarded');
	is(posts('pending_dropped'), 0, '... which nobody has sent');
	is($sim->users_with("$_\@example.com"), 1, "$_ exists once") foreach 'twin', @unknown, @sending, 'pending1', 'pending2';
	is(posts('unknown_there'), 1, 'unknown_there was looked up, not sent again');
	is(posts('sending_there'), 1, 'sending_there was looked up, not sent again');
};

subtest 'a restore to a point in time holds unfinished requests' => sub {
	$restored->start;
	LpUsers::wait_for(sub { sql($restored, 'SELECT pg_is_in_recovery()') eq 'f' }, 'the restore to end');
	is(states($restored), $all, 'restored to a point in time: as they were');
	is_held('restored to a point in time', $restored, 'hr', $unfinished);
};

# ------------------------------------------------------------------------------------------------- lp_adopt()

sub deliver_quietly { my ($node, $db) = @_; LpUsers::try_sql($node, 'CALL lp_deliver()', db => $db); return; }

subtest 'lp_adopt() looks up before it sends' => sub {
	my $posts = posts();
	foreach my $copy ([ 'a dump in another cluster', $elsewhere, 'hr' ], [ 'a dump in another database', $main, 'dumped' ], [ 'a template copy', $main, 'copied' ],
		[ 'a promoted copy', $standby, 'hr' ], [ 'restored to a point in time', $restored, 'hr' ])
	{
		my ($what, $node, $db) = @$copy;
		my $gets = $sim->count(method => 'GET', path => '/users');

		is(sql($node, 'SELECT lp_adopt()', $db), $unfinished, "$what: lp_adopt()");
		is(sql($node, 'SELECT count(*) FROM lp_requests WHERE origin <> lp_origin() AND state NOT IN (\'created\', \'failed\')', $db), 0, "$what: they are of this database now");
		is(sql($node, 'SELECT lp_adopt()', $db), 0, "$what: lp_adopt() again has nothing to do");
		worker_is($node, 'on') if $db eq 'hr';
		sql($node, 'SELECT _lp_wake()', $db);
		is(sql($node, "SELECT count(*) FROM lp_requests WHERE state = 'uncertain' AND next_attempt_at < clock_timestamp() + interval '1 s'", $db), 0,
			"$what: the account may still be at what the original sent");
		sql($node, "UPDATE lp_requests SET next_attempt_at = now() WHERE state IN ('pending', 'uncertain')", $db);
		LpUsers::wait_for(sub { deliver_quietly($node, $db); left($node, $db) == 0 }, "$what: delivered");
		no_worker($node);
		worker_is($node, 'off');
		is(sql($node, "SELECT string_agg(DISTINCT state || ' ' || evidence, ', ') FROM lp_requests WHERE login_name !~ '^(old|twin|pending_dropped|new_in_copy)'", $db), 'created lookup',
			"$what: what the original created was looked up");
		cmp_ok($sim->count(method => 'GET', path => '/users'), '>', $gets, "$what: there was a listing");
		is(posts('pending_dropped'), 1, "$what: what no one had sent was sent by the first who adopted it, and once");
		is(sql($node, "SELECT string_agg(state, ', ' ORDER BY state) FROM lp_requests WHERE login_name ~ '^twin'", $db), 'created, failed', "$what: of two rows of one login one is created");
	}

	is(posts($_), 1, "$_: one POST over the original and five copies") foreach 'unknown_there', 'sending_there', 'pending1', 'pending2', 'pending_dropped';
	is(posts($_), 2, "$_: two POSTs, the lost one and another, over the original and five copies") foreach 'unknown_absent', 'sending_absent';
	is($sim->users_with("$_\@example.com"), 1, "$_ exists once, over the original and five copies") foreach 'old1', 'old2', 'twin', @unknown, @sending, @pending;
	is($sim->text('duplicates') =~ s/\s//gr, '[]', 'no login exists twice');
	$standby->stop;
	$restored->stop;
	$elsewhere->stop;
};

subtest 'a failover in the middle of a delivery holds it' => sub {
	my @names = map { "failover$_" } 1 .. 30;
	my $heir = PostgreSQL::Test::Cluster->new('heir');
	my $start;

	$main->backup('second');
	$heir->init_from_backup($main, 'second', has_streaming => 1);
	$heir->append_conf('postgresql.conf', "shared_preload_libraries = 'lpusers'\nlpusers.databases = 'hr'\nlpusers.after_promotion = 'resume'\nlpusers.worker = on\n");
	$heir->start;
	# two rows of one login again, which wait for an hour, on whichever server
	sql($main, enqueue_sql($names[19]));
	sql($main, "UPDATE lp_requests SET state = 'failed', cause = 'refused', finished_at = now(), next_attempt_at = NULL WHERE login_name = '$names[19]\@example.com'");
	sql($main, enqueue_sql($names[19]));
	sql($main, "SELECT lp_retry(ARRAY(SELECT id FROM lp_requests WHERE login_name = '$names[19]\@example.com' AND state = 'failed'))");
	sql($main, "UPDATE lp_requests SET next_attempt_at = now() + '1 hour' WHERE login_name = '$names[19]\@example.com'");
	my $due = sql($main, "SELECT DISTINCT next_attempt_at FROM lp_requests WHERE login_name = '$names[19]\@example.com'");
	# the delivery comes to a stop with six created and two under way, one of which is carried out
	$sim->remove('log');
	$sim->post('faults', [ map { { method => 'POST', path => '/users', action => 'silence', seconds => 600, skip => 6, applied => $_ } } JSON::PP::true, JSON::PP::false ]);
	worker_is($main, 'on');
	sql($main, enqueue_sql(@names[0 .. 18, 20 .. 29]));
	LpUsers::wait_for(sub { 2 == grep { $_->{struck} } @{ $sim->get('faults') } }, 'two requests to be under way');
	LpUsers::wait_for(sub { sql($main, "SELECT count(*) FROM lp_requests WHERE login_name ~ '^failover' AND state = 'created'") == 6 }, 'six to be created');
	$main->wait_for_catchup($heir, 'replay', $main->lsn('flush'));
	is(sql($heir, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'lpusers worker'"), 0, 'a standby has no worker');
	like((LpUsers::try_sql($heir, 'CALL lp_deliver()', db => 'hr'))[2], qr/ERROR:  25006/, '... and CALL is refused there');
	like((LpUsers::try_sql($heir, enqueue_sql('nobody'), db => 'hr'))[2], qr/ERROR:  25006/, '... as is queueing');
	$main->stop('immediate');
	is(posts(), 8, 'failover in the middle of a delivery: after eight POSTs');
	my ($carried_out, $lost) = map { my $applied = $_; map { $_->{logins}[0] =~ s/@.*//r } grep { $_->{method} eq 'POST' && $_->{status} == 0 && !$_->{applied} == !$applied } @{ $sim->get('log') } } 1, 0;
	$heir->promote;
	$start = time();
	LpUsers::wait_for(sub { sql($heir, 'SELECT pg_is_in_recovery()') eq 'f' && left($heir) == 2 }, 'the heir to deliver by itself');
	note(sprintf('delivered %.1f s after the promotion', time() - $start));
	is(sql($heir, "SELECT string_agg(state || ' ' || next_attempt_at, ', ' ORDER BY state) FROM lp_requests WHERE state <> 'created' AND login_name ~ '^failover'"),
		"pending $due, uncertain $due", '... but what was to wait: it is looked up first, and not earlier than it was due');
	is(sql($heir, "SELECT string_agg(login_name, ' ') FROM lp_requests WHERE login_name ~ '^failover' AND evidence = 'lookup'"), "$carried_out\@example.com",
		'... who was created by a request under way was looked up');
	sql($heir, "UPDATE lp_requests SET next_attempt_at = now() WHERE state IN ('pending', 'uncertain'); SELECT _lp_wake()");
	LpUsers::wait_for(sub { left($heir) == 0 }, 'the heir to deliver what waited');
	is(sql($heir, "SELECT string_agg(state || ' ' || n, ', ' ORDER BY state) FROM (SELECT state, count(*) AS n FROM lp_requests WHERE login_name ~ '^failover' GROUP BY 1) x"),
		'created 30, failed 1', 'failover with resume: all are created, and of two rows of one login one is not');
	is(scalar(grep { $sim->users_with("$_\@example.com") != 1 } @names), 0, '... each exists once');
	# the second row of that login may be sent, too, and is refused then
	my $twin = $names[19];
	is(join(' ', map { "$_ " . posts($_) } grep { $_ ne $twin && posts($_) != 1 } @names), "$lost 2", '... each was sent once, and what was not carried out once more');
	is(scalar(grep { $_->{method} eq 'POST' && $_->{applied} && $_->{logins}[0] eq "$twin\@example.com" } @{ $sim->get('log') }), 1, '... and was carried out once');
	is(sql($heir, "SELECT count(*) FROM lp_requests WHERE state = 'held' AND login_name ~ '^failover'"), 0, '... nothing is held');
	is($sim->text('duplicates') =~ s/\s//gr, '[]', 'no login exists twice');
	unlike(LpUsers::log_since($heir, 0), qr/terminated by signal|TRAP:|PANIC:/, 'the heir did not crash');
	unlike(LpUsers::log_since($heir, 0), qr/duplicate key/, '... nor meet a duplicate of its own');
};

unlike(LpUsers::log_since($_, 0), qr/terminated by signal|TRAP:|PANIC:|duplicate key/, 'nothing crashed, no duplicate key') foreach $main, $elsewhere, $standby, $restored;

done_testing();

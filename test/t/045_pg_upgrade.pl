# A move to a new major version with pg_upgrade: everything is kept as it was, nothing is sent while it goes on, and what was
# unfinished is held until lp_adopt(). LPUSERS_OLD_INSTALL is an older PostgreSQL with the extension (run.sh).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LpUsers;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

plan(skip_all => 'no older PostgreSQL: LPUSERS_OLD_PG_CONFIG names one') unless $ENV{LPUSERS_OLD_INSTALL};

my $sim  = LpUsers::account();
my $conf = "lpusers.worker = off\nlpusers.idle_timeout = '200ms'\n";
# as a server that delivers by itself: also while pg_upgrade has started it?
my $preload = "shared_preload_libraries = 'lpusers'\nlpusers.databases = 'postgres, hr'\n";
my $old = LpUsers::server(name => 'old', install_path => $ENV{LPUSERS_OLD_INSTALL}, conf => $conf);
my $new = PostgreSQL::Test::Cluster->new('new');

sub sql { my ($node, $sql, $db) = @_; return $node->safe_psql($db // 'hr', $sql); }
sub posts { my ($name) = @_; return $sim->count(method => 'POST', path => '/users', login => "$name\@example.com"); }
sub deliver { my ($node) = @_; is((LpUsers::try_sql($node, 'CALL lp_deliver()', db => 'hr'))[0], 0, 'CALL lp_deliver()'); return; }
sub fault { my ($name, %fault) = @_; $sim->post('faults', { method => 'POST', path => '/users', login => "$name\@example.com", %fault }); return; }
sub state_of { my ($node, $name) = @_; return sql($node, "SELECT string_agg(state, ', ' ORDER BY id) FROM lp_requests WHERE login_name = '$name\@example.com'"); }
sub worker_is { my ($node, $value) = @_; $node->append_conf('postgresql.conf', "lpusers.worker = $value\n"); $node->reload; return; }
sub hire { my ($node, $table, @names) = @_; return sql($node, "SET ROLE clerk; INSERT INTO hr.$table VALUES " . join(', ', map { "('$_')" } @names)); }

# ------------------------------------------------------------------------------------------------- the old cluster

my $grants = 'GRANT EXECUTE ON FUNCTION lp_create_users_trigger, lp_enqueue_users, lp_sync_define, lp_sync_plan, lp_sync_apply,
	lp_sync_watch TO owner; GRANT EXECUTE ON FUNCTION lp_adopt TO clerk';
my $unfinished = 6;

# pg_dump puts options into an order of its own
sub options { my ($column) = @_; return "ARRAY(SELECT unnest($column) ORDER BY 1)"; }
my %kept;
my %before;
my $old_origin;

subtest 'the old cluster has requests in all states' => sub {
	sql($old, 'CREATE ROLE owner; CREATE ROLE clerk; CREATE DATABASE hr', 'postgres');
	sql($old, "CREATE EXTENSION lpusers; $grants");
	LpUsers::connect_account($old, $sim, db => 'hr', options => "batch_size '1', max_connections '2', timeout '30s', hold_above '3'");
	sql($old, q{GRANT USAGE ON FOREIGN SERVER acme TO owner; CREATE USER MAPPING FOR owner SERVER acme OPTIONS (token 'lp-token');
		CREATE SCHEMA lp; IMPORT FOREIGN SCHEMA liveperson FROM SERVER acme INTO lp;
		CREATE SCHEMA hr AUTHORIZATION owner; GRANT USAGE ON SCHEMA hr TO clerk; SET ROLE owner;
		CREATE TABLE hr.statement (name text PRIMARY KEY, active boolean DEFAULT true);
		CREATE TABLE hr.rows (LIKE hr.statement INCLUDING ALL);
		CREATE TABLE hr.parts (name text, active boolean DEFAULT true) PARTITION BY LIST (name);
		CREATE TABLE hr.part PARTITION OF hr.parts DEFAULT;
		GRANT ALL ON ALL TABLES IN SCHEMA hr TO clerk});
	foreach my $table ('statement', 'rows', 'parts')
	{
		my $on_update = $table eq 'rows' ? 'true' : 'false';

		sql($old, qq{SET ROLE owner; SELECT lp_attach_trigger('hr.$table', '12345678', \$\${"loginName": "name || '\@example.com'", "fullName": "'Full ' || name",
			"nickname": "name", "email": "name || '\@example.com'", "passwordSh": "'Start-1234'", "isEnabled": "true", "maxChats": "3", "profileIds": "ARRAY[1]",
			"memberOf": "jsonb_build_object('agentGroupId', 1)"}\$\$, condition => 'active', on_update => $on_update)});
	}

	# A sync with two users, one of whom is to be changed by a plan that was not applied.
	sql($old, q{SET ROLE owner;
		CREATE TABLE hr.staff (key text PRIMARY KEY, chats int);
		CREATE VIEW hr.synced AS SELECT key, key || '@example.com' AS login_name, key || '@example.com' AS email, key AS full_name, key AS employee_id, key AS nickname,
			true AS is_enabled, chats AS max_chats, '{1001}'::bigint[] AS profile_ids, 'Start-1234' AS password_sh FROM hr.staff;
		SELECT lp_sync_define('staff', '12345678', 'hr.synced', 'key'); SELECT lp_sync_watch('hr.staff', 'staff', 'key');
		INSERT INTO hr.staff VALUES ('synced1', 3), ('synced2', 3)});
	sql($old, q{CALL lp_sync('staff')});
	deliver($old);
	sql($old, q{UPDATE hr.staff SET chats = 5 WHERE key = 'synced1'; SELECT lp_sync_plan('staff')});

	hire($old, $_, "created_$_") foreach 'statement', 'rows', 'parts';
	fault('failed', action => 'status', status => 400);
	hire($old, 'statement', 'failed');
	deliver($old);
	sql($old, LpUsers::create_sql('direct'));
	sql($old, q{INSERT INTO lp.users (login_name, email, full_name, nickname, password_sh, is_enabled, max_chats, profile_ids, member_of)
		VALUES ('written@example.com', 'written@example.com', 'Full', 'written', 'Start-1234', true, 3, '{1}', 1);
		DELETE FROM lp.users WHERE login_name = 'direct@example.com'});
	$sim->remove('faults');
	fault('unknown_there', action => 'status', status => 503, applied => JSON::PP::true);
	fault('unknown_absent', action => 'status', status => 503);
	hire($old, 'rows', 'unknown_there', 'unknown_absent');
	deliver($old);
	sql($old, "UPDATE lp_requests SET next_attempt_at = now() + '1 hour' WHERE state = 'uncertain'");
	$sim->remove('faults');
	fault('sending_there', action => 'silence', applied => JSON::PP::true);
	fault('sending_absent', action => 'silence');
	hire($old, 'statement', 'sending_there', 'sending_absent');
	{
		my $caller = LpUsers::session($old, db => 'hr');
		my $pid = $caller->query('SELECT pg_backend_pid()');

		$caller->send('CALL lp_deliver()');
		LpUsers::wait_for(sub { 2 == grep { $_->{struck} > 0 } @{ $sim->get('faults') } }, 'both requests to arrive');
		sql($old, "SELECT pg_terminate_backend($pid)");
		$caller->take;
		LpUsers::wait_for(sub { sql($old, "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid") == 0 }, 'the caller to end');
	}
	$sim->remove('faults');
	hire($old, 'statement', 'many1', 'many2', 'many3', 'many4');
	hire($old, 'parts', 'pending');
	sql($old, 'SELECT lp_enqueue_users(\'12345678\', \'[' . LpUsers::user('enqueued') . ']\')');

	is(sql($old, "SELECT string_agg(state || ' ' || n, ', ' ORDER BY state) FROM (SELECT state, count(*) n FROM lp_requests GROUP BY 1) s"),
		'created 7, done 1, failed 1, held 4, pending 2, sending 2, uncertain 2', 'requests in every state');
	%kept = (
		requests => 'SELECT r FROM lp_requests r ORDER BY id',
		payloads => 'SELECT p FROM lp_payloads p ORDER BY request_id',
		results  => 'SELECT r FROM lp_results r ORDER BY id',
		summary  => 'SELECT s FROM lp_summary s ORDER BY s::text',
		servers  => 'SELECT srvname, srvowner::regrole, ' . options('srvoptions') . ', srvacl FROM pg_foreign_server',
		mappings => 'SELECT srvname, usename, ' . options('umoptions') . ' FROM pg_user_mappings ORDER BY usename',
		triggers => 'SELECT tgrelid::regclass, pg_get_triggerdef(oid), tgenabled FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1, 2',
		columns  => q{SELECT attrelid::regclass, attname, format_type(atttypid, atttypmod), attfdwoptions, ftoptions FROM pg_attribute
			JOIN pg_foreign_table ON ftrelid = attrelid WHERE attnum > 0 ORDER BY attrelid::regclass::text, attnum},
		'numbers given' => 'SELECT (SELECT last_value FROM lp_requests_id_seq), (SELECT last_value FROM lp_batch_seq), ' .
			join(', ', map { "(SELECT last_value FROM _lp_sync${_}_id_seq)" } '', '_plan', '_item', '_mark'),
		syncs => 'SELECT s FROM _lp_sync s', links => 'SELECT l FROM _lp_sync_link l ORDER BY source_key', plans => 'SELECT p FROM _lp_sync_plan p ORDER BY id',
		items => 'SELECT i FROM _lp_sync_item i ORDER BY id', marks => 'SELECT m FROM _lp_sync_mark m ORDER BY id');
	%before = map { $_ => sql($old, $kept{$_}) } keys %kept;
	$old_origin = sql($old, 'SELECT lp_origin()');
};

# ------------------------------------------------------------------------------------------------- pg_upgrade

my $log;
my $requests;

subtest 'pg_upgrade succeeds and sends nothing' => sub {
	my $checksums = sql($old, 'SHOW data_checksums') eq 'off' && $new->pg_version >= 18 ? ['--no-data-checksums'] : [];
	$new->init(extra => [ '--encoding=UTF8', '--locale=C', @$checksums ]);
	$old->stop;
	$log = { map { $_->name => -s $_->logfile // 0 } $old, $new };
	$_->append_conf('postgresql.conf', "$conf$preload" . "lpusers.worker = on\n") foreach $old, $new;
	$requests = $sim->count(path => '/api/');
	my ($from, $to) = map { $_->config_data('--bindir') } $old, $new;
	note("from $from to $to");
	$new->command_ok([ 'pg_upgrade', '--no-sync', '--old-datadir', $old->data_dir, '--new-datadir', $new->data_dir, '--old-bindir', $from, '--new-bindir', $to,
		'--socketdir', $new->host, '--old-port', $old->port, '--new-port', $new->port, @$_ ], "pg_upgrade @$_") foreach ['--check'], [];
	is($sim->count(path => '/api/'), $requests, 'pg_upgrade: nothing was sent meanwhile');
	foreach my $server (glob($new->data_dir . '/pg_upgrade_output.d/*/log/pg_upgrade_server.log'))
	{
		fail("$server is left, as after a failure");
	}
};

subtest 'everything is kept' => sub {
	$new->append_conf('postgresql.conf', "lpusers.worker = off\n");
	$new->start;
	is(sql($new, $kept{$_}), $before{$_}, "kept: $_") foreach sort keys %kept;
	my @origins = map { [ split(m{/}) ] } $old_origin, sql($new, 'SELECT lp_origin()');
	isnt($origins[1][0], $origins[0][0], 'the system identifier is another');
	is($origins[1][1], $origins[0][1], '... the OID of the database is not');

	sql($new, 'CREATE DATABASE fresh', 'postgres');
	sql($new, "CREATE EXTENSION lpusers; $grants", 'fresh');
	my $catalog = slurp_file("$LpUsers::top/test/upgrade/catalog.sql");
	is(sql($new, $catalog), sql($new, $catalog, 'fresh'), 'the extension is as one that is installed anew');
	like(sql($new, '\dx+ lpusers'), qr/function lp_adopt\(\)/, '\dx+ shows its objects');
	is(sql($new, '\dx+ lpusers'), sql($new, '\dx+ lpusers', 'fresh'), '... the same');
	is(sql($new, 'ALTER EXTENSION lpusers UPDATE; SELECT extversion = default_version FROM pg_extension JOIN pg_available_extensions ON name = extname
		WHERE name = \'lpusers\''), 't', 'there is nothing to update');
};

subtest 'nothing is sent again' => sub {
	deliver($new);
	worker_is($new, 'on');
	sql($new, 'SELECT _lp_wake()');
	LpUsers::wait_for(sub { sql($new, "SELECT count(*) FROM lp_requests WHERE state IN ('pending', 'sending', 'uncertain')") == 0 }, 'the worker to hold them');
	is(sql($new, "SELECT count(*) FROM lp_requests WHERE state = 'held' AND reason ~ '^written elsewhere'"), $unfinished, 'what was unfinished is held');
	is(sql($new, "SELECT lp_release('12345678')"), 0, '... and not released by accident');
	is($sim->count(path => '/api/'), $requests, '... nobody has asked the account for anything');
	hire($new, $_, "new_$_") foreach 'statement', 'rows', 'parts';
	LpUsers::wait_for(sub { 3 == grep { $sim->users_with("new_$_\@example.com") } 'statement', 'rows', 'parts' }, 'new hires to be delivered');
	is(posts('pending'), 0, 'new hires are delivered, and nothing else');
};

# ------------------------------------------------------------------------------------------------- lp_adopt()

my @all;

subtest 'lp_adopt() continues what was unfinished' => sub {
	is(sql($new, 'SET ROLE clerk; SELECT lp_adopt()'), $unfinished, 'lp_adopt(), by whom it was granted to');
	LpUsers::wait_for(sub {
		sql($new, "UPDATE lp_requests SET next_attempt_at = now() WHERE state = 'uncertain' AND next_attempt_at > now(); SELECT _lp_wake()");
		sql($new, "SELECT count(*) FROM lp_requests WHERE state NOT IN ('created', 'done', 'failed', 'held')") == 0 }, 'the worker to deliver');
	foreach my $name ('unknown_there', 'sending_there')
	{
		is(state_of($new, $name) . ' ' . posts($name), 'created 1', "$name: looked up, not sent again");
		is(sql($new, "SELECT evidence FROM lp_requests WHERE login_name = '$name\@example.com'"), 'lookup', '... and it says so');
	}
	is(state_of($new, $_) . ' ' . posts($_), 'created 2', "$_: looked up, and sent again") foreach 'unknown_absent', 'sending_absent';
	is(state_of($new, $_) . ' ' . posts($_), 'created 1', "$_: sent once") foreach 'pending', 'enqueued';
	is(state_of($new, 'many1') . ' ' . posts('many1'), 'held 0', 'too many at once: still held');
	is(sql($new, "SELECT lp_release('12345678')"), 4, '... until they are released');
	is(sql($new, "SELECT lp_retry(ARRAY(SELECT id FROM lp_requests WHERE state = 'failed'))"), 1, 'what had failed can be retried');
	LpUsers::wait_for(sub { sql($new, "SELECT bool_and(state IN ('created', 'done')) FROM lp_requests") eq 't' }, 'these to be created');
	is(posts($_), 1, "$_: sent once") foreach map { "many$_" } 1 .. 4;
	@all = (map({ ("created_$_", "new_$_") } 'statement', 'rows', 'parts'), map({ "many$_" } 1 .. 4), 'failed', 'written', 'pending', 'enqueued',
		map({ ("unknown_$_", "sending_$_") } 'there', 'absent'), 'synced1', 'synced2');
	is(join(' ', grep { $sim->users_with("$_\@example.com") != 1 } @all), '', 'each of them exists once');
};

is($sim->text('duplicates') =~ s/\s//gr, '[]', 'no login exists twice');

subtest 'a sync waits for lp_sync_resume() and goes on' => sub {
	is(sql($new, 'SELECT sync, owner, source, state, linked FROM lp_syncs'), 'staff|owner|hr.synced|copy|2', 'the sync waits, too');
	is(sql($new, q{SELECT action, source_key, attribute, old, new FROM lp_sync_diff('staff')}), 'update|synced1|maxChats|3|5', '... and can be looked at');
	my $plan = sql($new, 'SELECT max(plan) FROM lp_sync_plans');
	like((LpUsers::try_sql($new, "SELECT lp_sync_apply($plan)", db => 'hr'))[2], qr/ERROR:  55000: sync "staff" was defined in another database/, '... its plan is not applied');
	sql($new, q{SELECT lp_sync_resume('staff')});
	is(sql($new, "SET ROLE owner; SELECT action, queued FROM lp_sync_apply($plan)"), 'update|1', '... before lp_sync_resume()');
	sql($new, q{SET ROLE owner; UPDATE hr.staff SET chats = 6 WHERE key = 'synced2'});
	LpUsers::wait_for(sub { sql($new, "SELECT bool_and(state IN ('created', 'done')) FROM lp_requests") eq 't' }, 'the update');
	sql($new, q{CALL lp_sync('staff', watched => true)});
	LpUsers::wait_for(sub { sql($new, "SELECT bool_and(state IN ('created', 'done')) FROM lp_requests") eq 't' }, 'the other update');
	is(sql($new, q{SELECT count(*) FROM lp_sync_diff('staff')}), 0, 'a key that a trigger has marked is looked at; nothing differs');
};

subtest 'new requests are delivered' => sub {
	is(sql($new, 'SELECT count(*) FROM lp.users'), scalar(@all), 'the foreign tables show them');
	is(sql($new, "UPDATE lp.users SET max_chats = 4, full_name = 'Full', employee_id = '1' WHERE login_name = 'written\@example.com' RETURNING max_chats"), '4',
		'... and are written to');
	sql($new, "SET ROLE clerk; INSERT INTO hr.rows VALUES ('later', false); UPDATE hr.rows SET active = true WHERE name = 'later'");
	LpUsers::wait_for(sub { $sim->users_with('later@example.com') }, 'the trigger on UPDATE');
	like(sql($new, 'SELECT lp_report()'), qr/<html/, 'lp_report()');
	foreach my $table ('statement', 'rows', 'parts')
	{
		like(sql($new, "SET ROLE owner; SELECT lp_detach_trigger('hr.$table')"), qr/DROP TRIGGER/, "$table: the trigger is taken off");
	}
};

unlike(LpUsers::log_since($_, $log->{ $_->name }), qr/terminated by signal|TRAP:|PANIC:|duplicate key/, $_->name . ': nothing crashed') foreach $old, $new;

done_testing();

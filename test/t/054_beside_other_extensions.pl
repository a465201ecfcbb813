# PostgreSQL stays well with lpusers in it: preloaded, beside other extensions, and when what it works on goes away meanwhile.
#
# 011 has dumps of the queue and extensions that come and go, 022 the worker, 023 copies, 024 logical replication, 009 and 022
# prepared transactions. Here: foreign tables in all of that, event triggers, parallel query, other wrappers, busy objects.
use strict;
use warnings;
use FindBin;
use File::Temp;
use lib "$FindBin::RealBin/../perl";
use JSON::PP;
use LpUsers;
use PostgreSQL::Test::Utils;
use Test::More;

my $sim  = LpUsers::account('--users', 300);
my $node = LpUsers::server(conf => "shared_preload_libraries = 'lpusers'\nlpusers.databases = 'postgres'\nlpusers.idle_timeout = '200ms'\n"
	  . "max_prepared_transactions = 5\nlog_min_error_statement = panic\n");
my $dir  = File::Temp->newdir();
LpUsers::connect_account($node, $sim, options => "timeout '60s', batch_size '10'");
my $root = LpUsers::session($node);
$root->query('CREATE SCHEMA lp; IMPORT FOREIGN SCHEMA liveperson FROM SERVER acme INTO lp');

sub started { return $node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()'); }
my $began = started();

# What must fail with this SQLSTATE, in this session.
sub fails
{
	my ($what, $code, $sql, $session) = @_;
	my (undef, $err) = ($session // $root)->run($sql);

	like($err, qr/(?:ERROR|FATAL):  $code:/, "$what: $code");
	return $err;
}

sub arrived
{
	LpUsers::wait_for(sub { grep { $_->{struck} > 0 } @{ $sim->get('faults') } }, 'the request to arrive');
	return;
}

subtest 'dump and restore of foreign tables' => sub {
	# A dump declares foreign tables and asks the account nothing; what it restores is the same to the last word.
	{
		my $before = $sim->count(path => '/le-users');
		my $dump = sub {
			my ($db) = @_;
			$node->command_ok([ 'pg_dump', '--schema-only', '--file', "$dir/$db", '--dbname', $node->connstr($db) ], "pg_dump of $db");
			# it begins with a random word in some versions
			return slurp_file("$dir/$db") =~ s/^\\(?:un)?restrict .*$//gmr;
		};
		my $first = $dump->('postgres');
		like($first, qr/CREATE FOREIGN TABLE lp\.users .*?resource 'users'/s, 'the dump has the foreign tables');
		like($first, qr/CREATE USER MAPPING FOR .*token 'lp-token'/s, '... and the mapping');
		$node->safe_psql('postgres', 'CREATE DATABASE restored');
		$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/postgres", '-d', $node->connstr('restored') ], 'psql restores it');
		is($dump->('restored'), $first, 'the dump of the restored database is the same');
		is($sim->count(path => '/le-users'), $before, 'the account was not asked');
		is($node->safe_psql('restored', 'SELECT count(*) FROM lp.users'), 300, 'the restored table works');

		# on demand a dump has the rows, but not so that they would be created again
		$node->command_ok([ 'pg_dump', '--data-only', '--include-foreign-data', 'acme', '--table', 'lp.users', '--file', "$dir/rows", '--dbname', $node->connstr('postgres') ],
			'pg_dump --include-foreign-data');
		like(slurp_file("$dir/rows"), qr/^COPY lp\.users \(.*\) FROM stdin;\n(?:.*agent00001.*)/m, '... has the rows');
		my ($out, $err);
		IPC::Run::run([ 'psql', '-X', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/rows", '-d', $node->connstr('restored') ], '>', \$out, '2>', \$err);
		like($err, qr/ERROR:/, '... whose restore is refused');
		is(scalar(@{ $sim->get('users') }), 300, '... and creates nobody');
	}
};

subtest 'event triggers' => sub {
	$root->query(q{
		CREATE TABLE ddl (n serial, tag text, what text);
		CREATE FUNCTION note_end() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
			INSERT INTO public.ddl (tag, what) SELECT command_tag, object_type FROM pg_event_trigger_ddl_commands(); END $$;
		CREATE FUNCTION note_drop() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
			INSERT INTO public.ddl (tag, what) SELECT 'drop', object_type FROM pg_event_trigger_dropped_objects(); END $$;
		CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not today'; END $$;
		CREATE EVENT TRIGGER note_end ON ddl_command_end EXECUTE FUNCTION note_end();
		CREATE EVENT TRIGGER note_drop ON sql_drop EXECUTE FUNCTION note_drop();
		CREATE TABLE hires (login text);
		TRUNCATE ddl});
	my $attach = q{SELECT count(*) FROM lp_attach_trigger('hires', '12345678', $${"loginName": "login", "email": "login", "nickname": "login", "fullName": "login",
		"passwordSh": "'Start-1234'", "isEnabled": "true", "maxChats": "3", "profileIds": "ARRAY[1]"}$$)};
	my $seen = "SELECT string_agg(tag || ' ' || what, ', ' ORDER BY n) FROM ddl";

	$root->query($attach);
	is($root->query($seen), 'CREATE TRIGGER trigger', 'lp_attach_trigger() is DDL for event triggers');
	$root->query("TRUNCATE ddl; SELECT count(*) FROM lp_detach_trigger('hires')");
	is($root->query($seen), 'drop trigger', 'so is lp_detach_trigger()');
	$root->query('TRUNCATE ddl; CREATE SCHEMA again; TRUNCATE ddl; IMPORT FOREIGN SCHEMA liveperson FROM SERVER acme INTO again; DROP SCHEMA again CASCADE');
	like($root->query($seen), qr/^(?:CREATE FOREIGN TABLE foreign table, (?:ALTER FOREIGN TABLE foreign table, )?){5}drop schema, .*drop foreign table/, 'so is IMPORT FOREIGN SCHEMA');
	$root->query('CREATE EVENT TRIGGER refuse ON ddl_command_start EXECUTE FUNCTION refuse()');
	like(fails('an event trigger that refuses', 'P0001', $attach), qr/not today/, '... in its own words');
	$root->query('ALTER EVENT TRIGGER refuse DISABLE');
	is($root->query("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'hires'::regclass"), 0, '... and no trigger is there');
	$root->query('DROP EVENT TRIGGER refuse; DROP EVENT TRIGGER note_end; DROP EVENT TRIGGER note_drop');
	# an extension under an event trigger, too
	$node->safe_psql('postgres', 'CREATE DATABASE evented');
	is($node->safe_psql('evented', q{CREATE TABLE ddl (tag text); CREATE FUNCTION note() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.ddl VALUES (tg_tag); END $$;
		CREATE EVENT TRIGGER note ON ddl_command_end EXECUTE FUNCTION note(); CREATE EXTENSION lpusers; DROP EXTENSION lpusers;
		SELECT count(*) FROM ddl WHERE tag LIKE '%EXTENSION'}), 2, 'CREATE and DROP EXTENSION under an event trigger');
};

subtest 'parallel query, plans, cursors' => sub {
	my $parallel = $root->query('SHOW server_version_num') >= 160000 ? 'debug_parallel_query' : 'force_parallel_mode';
	my $session = LpUsers::session($node);

	$session->query("CREATE TABLE local AS SELECT id, login_name, max_chats FROM lp.users; INSERT INTO local SELECT -n, 'x' || n, 1 FROM generate_series(1, 20000) n; ANALYZE local;
		SET $parallel = on; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 2");
	like($session->query('EXPLAIN SELECT count(*) FROM local'), qr/Gather/, 'a parallel plan');
	is($session->query("SELECT count(*) FROM local, lp_validate_users(jsonb_build_array(jsonb_build_object('loginName', login_name))) WHERE id > 0"),
		$session->query("SELECT 300 * count(*) FROM lp_validate_users('[{\"loginName\": \"x\"}]')"), 'lp_validate_users() in parallel workers');
	is($session->query('SELECT count(*), sum(l.max_chats) = sum(u.max_chats) FROM local l JOIN lp.users u USING (id)'), '300|t', 'a join with a foreign table beside a parallel scan');
	is($session->query('SELECT count(*) FROM (SELECT DISTINCT u.id FROM lp.users u JOIN local l ON l.login_name = u.login_name WHERE l.id > 0) x'), 300, 'a foreign table under a parallel plan');
	is($session->query('SELECT count(*) FROM lp_results, lp_progress, lp_summary'), 0, 'the views in parallel mode');
	is($session->query(LpUsers::create_sql('parallel')), '201|', 'a call in parallel mode');

	# a plan that is kept sees what the server's options are now
	$session->query("SET plan_cache_mode = force_generic_plan; PREPARE one(bigint) AS SELECT login_name FROM lp.users WHERE id = \$1");
	my ($id) = map { $_->{id} } grep { $_->{loginName} =~ /^agent00001/ } @{ $sim->get('users') };
	like($session->query("EXECUTE one($id)"), qr/^agent00001/, 'a prepared statement');
	$root->query("ALTER SERVER acme OPTIONS (ADD api_version '5.0')");
	like($session->query("EXECUTE one($id)"), qr/^agent00001/, '... after ALTER SERVER');
	like((grep { $_->{method} eq 'GET' } @{ $sim->get('log') })[-1]{query}, qr/v=5\.0/, '... asks with the new option');
	$root->query('ALTER SERVER acme OPTIONS (DROP api_version); ALTER FOREIGN TABLE lp.users ALTER login_name OPTIONS (ADD attribute \'nickname\')');
	unlike($session->query("EXECUTE one($id)"), qr/^agent00001@/, '... after ALTER FOREIGN TABLE shows the new attribute');
	$root->query('ALTER FOREIGN TABLE lp.users ALTER login_name OPTIONS (DROP attribute)');

	$session->query('BEGIN; DECLARE held CURSOR WITH HOLD FOR SELECT id FROM lp.users; FETCH 5 FROM held; COMMIT');
	is(scalar(split(/\n/, $session->query('FETCH ALL FROM held'))), 296, 'a cursor WITH HOLD outlives its transaction');
	$session->query('CLOSE held; CREATE MATERIALIZED VIEW copied AS SELECT id, login_name FROM lp.users WITH NO DATA; REFRESH MATERIALIZED VIEW copied');
	is($session->query('SELECT count(*) FROM copied'), 301, 'a materialized view');
	$session->query("BEGIN; SELECT count(*) FROM lp.users; INSERT INTO local VALUES (0, 'prepared', 1); PREPARE TRANSACTION 'scanned'; COMMIT PREPARED 'scanned'");
	is($session->query("SELECT count(*) FROM local WHERE login_name = 'prepared'"), 1, 'a transaction that has only read can be prepared');
	fails('one that has written cannot', '0A000', "BEGIN; UPDATE lp.users SET max_chats = 5, full_name = 'x' WHERE login_name = 'parallel\@example.com'; PREPARE TRANSACTION 'written'", $session);
	$session->run('ROLLBACK');
	$session->quit;
};

subtest 'other wrappers and extensions' => sub {
	SKIP:
	{
		skip 'contrib is not installed', 6 if $root->query("SELECT count(*) FROM pg_available_extensions WHERE name IN ('postgres_fdw', 'file_fdw', 'citext', 'pg_trgm')") < 4;
		my ($host, $port) = ($node->host, $node->port);
		my $me = $root->query('SELECT current_user');
		open(my $out, '>', "$dir/people.csv") or die $!;
		print $out "agent00001,7\nagent00002,8\n";
		close($out);
		$root->query(qq{CREATE EXTENSION postgres_fdw; CREATE EXTENSION file_fdw; CREATE EXTENSION citext; CREATE EXTENSION pg_trgm;
			CREATE SERVER here FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '$host', port '$port', dbname 'restored');
			CREATE USER MAPPING FOR CURRENT_USER SERVER here OPTIONS (user '$me');
			CREATE FOREIGN TABLE far_users (id bigint, login_name text, max_chats int) SERVER here OPTIONS (schema_name 'lp', table_name 'users');
			CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
			CREATE FOREIGN TABLE people (name text, chats int) SERVER files OPTIONS (filename '$dir/people.csv', format 'csv');
			CREATE FOREIGN TABLE insensitive (id bigint, login_name citext) SERVER acme OPTIONS (resource 'users')});
		is($root->query('SELECT count(*) FROM lp.users u JOIN far_users f USING (id)'), 301, 'postgres_fdw reads our table in another database, beside ours');
		is($root->query("SELECT sum(p.chats) FROM people p JOIN lp.users u ON u.login_name LIKE p.name || '%'"), 15, 'file_fdw beside ours');
		is($root->query("SELECT count(*) FROM insensitive WHERE login_name LIKE 'AGENT0000_%'"), 9, 'a type of another extension');
		is($root->query("SELECT count(*) FROM lp.users WHERE login_name % 'agent00001\@example.com'") > 0 ? 1 : 0, 1, 'an operator of another extension');
		like(fails('a write through postgres_fdw that is refused', '55000', "UPDATE far_users SET max_chats = 9 WHERE login_name = 'parallel\@example.com'"),
			qr/it would lose "fullName"/, '... in our words');
	}
};

# ---------------------------------------------------------------------------------------------- busy objects

# A scan, an INSERT or a CALL is in the middle of a request; another session drops the object.
sub busy
{
	my ($db, $sql) = @_;
	my $session = LpUsers::session($node, db => $db);

	$sim->remove('faults');
	$sim->post('faults', { path => '/le-users', action => 'silence', times => 0 });
	$session->send($sql);
	arrived();
	return $session;
}

subtest 'DROP of objects in use' => sub {
	my $insert = "INSERT INTO lp.users (login_name, email, full_name, nickname, password_sh, is_enabled, max_chats, profile_ids) VALUES ('busy\@x', 'busy\@x', 'x', 'x', 'Start-1234', true, 3, '{1}')";
	foreach my $case ([ 'a scan', 'SELECT count(*) FROM lp.users' ], [ 'an INSERT', $insert ], [ 'a call', LpUsers::create_sql('busy') ])
	{
		my ($what, $sql) = @$case;

		$node->safe_psql('postgres', 'CREATE DATABASE doomed TEMPLATE template0');
		$node->safe_psql('doomed', 'CREATE EXTENSION lpusers');
		LpUsers::connect_account($node, $sim, db => 'doomed', options => "timeout '60s'");
		$node->safe_psql('doomed', 'CREATE SCHEMA lp; IMPORT FOREIGN SCHEMA liveperson FROM SERVER acme INTO lp');
		my $session = busy('doomed', $sql);

		# who waits for locks waits no longer than that; what needs none does not wait
		if ($what ne 'a call')
		{
			foreach my $ddl ('DROP FOREIGN TABLE lp.users', 'DROP EXTENSION lpusers CASCADE', 'ALTER FOREIGN TABLE lp.users DROP pid', 'DROP SCHEMA lp CASCADE')
			{
				my (undef, undef, $err) = LpUsers::try_sql($node, "SET client_min_messages = error; SET lock_timeout = '100ms'; $ddl", db => 'doomed');
				like($err, qr/ERROR:  55P03/, "$what in progress: $ddl waits for it");
			}
		}
		is((LpUsers::try_sql($node, "ALTER SERVER acme OPTIONS (SET timeout '50s'); ALTER USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (SET token 'lp-token')", db => 'doomed'))[2], '',
			"$what in progress: ALTER SERVER and ALTER USER MAPPING do not wait");
		# PostgreSQL waits 5 s for it: once is enough
		like((LpUsers::try_sql($node, 'DROP DATABASE doomed'))[2], qr/ERROR:  55006/, "$what in progress: DROP DATABASE is refused") if $what eq 'a scan';
		$sim->remove('faults');
		my $start = time();
		is((LpUsers::try_sql($node, 'DROP DATABASE doomed WITH (FORCE)'))[2], '', "$what in progress: DROP DATABASE WITH (FORCE) is not");
		cmp_ok(time() - $start, '<', 30, '... and does not take long');
		like(($session->take)[1], qr/57P01/, '... the session ends');
	}
	# a call's own objects may go while it waits for the account: it has nothing more to do with them
	{
		$node->safe_psql('postgres', 'CREATE DATABASE doomed TEMPLATE template0');
		$node->safe_psql('doomed', 'CREATE EXTENSION lpusers');
		LpUsers::connect_account($node, $sim, db => 'doomed', options => "timeout '60s'");
		my $session = LpUsers::session($node, db => 'doomed');
		$sim->remove('faults');
		$sim->post('faults', { path => '/le-users', action => 'delay', ms => 1000 });
		$session->send(LpUsers::create_sql('orphan'));
		arrived();
		is((LpUsers::try_sql($node, 'DROP USER MAPPING FOR CURRENT_USER SERVER acme; DROP SERVER acme', db => 'doomed'))[2], '', 'server and mapping go while a call is in progress');
		is(($session->take)[0], '201|', '... which is carried out all the same');
		is($session->query('SELECT state FROM lp_requests'), 'created', '... and on record');
		$session->quit;
	}
	is($sim->users_with('busy@x'), 0, 'what was silenced was not carried out');
	is($root->query('SELECT count(*) FROM lp.users WHERE NOT deleted'), scalar(grep { !$_->{deleted} } @{ $sim->get('users') }), 'the server is well');
	is(started(), $began, '... and the same as ever');
};

unlike(LpUsers::log_since($node, 0), qr/terminated by signal|TRAP:|PANIC:/, 'nothing crashed');

done_testing();

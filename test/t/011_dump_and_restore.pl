# Dump and restore, schemas of any name, and extensions that come and go under a running session.
use strict;
use warnings;
use FindBin;
use File::Temp;
use lib "$FindBin::RealBin/../perl";
use LpUsers;
use PostgreSQL::Test::Utils;
use Test::More;

my $sim  = LpUsers::account();
my $node = LpUsers::server();
my $dir  = File::Temp->newdir();

sub exists_once { my ($name, $what) = @_; is($sim->users_with("$name\@example.com"), 1, "$what: the user exists once"); return; }

subtest 'a dump is restored with queue and credentials' => sub {
	LpUsers::connect_account($node, $sim);
	$node->safe_psql('postgres', LpUsers::create_sql("before$_")) foreach 1 .. 3;
	$node->safe_psql('postgres', 'CREATE ROLE writer; GRANT EXECUTE ON FUNCTION lp_create_users TO writer');
	my $columns = q{SELECT r FROM lp_requests r ORDER BY id};
	my $rows = $node->safe_psql('postgres', $columns);
	is(scalar(split(/\n/, $rows)), 3, 'three requests to dump');
	my ($id, $batch) = split(/\|/, $node->safe_psql('postgres', 'SELECT max(id), max(batch) FROM lp_requests'));

	foreach my $format ('custom', 'plain', 'directory')
	{
		my $db = "restored_$format";

		$node->safe_psql('postgres', "CREATE DATABASE $db");
		$node->command_ok([ 'pg_dump', '--format', $format, '--file', "$dir/$format", '--dbname', $node->connstr('postgres') ], "pg_dump, $format");
		if ($format eq 'plain')
		{
			$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/$format", '-d', $node->connstr($db) ], 'psql restores it');
		}
		else
		{
			$node->command_ok([ 'pg_restore', '--exit-on-error', '--dbname', $node->connstr($db), "$dir/$format" ], "pg_restore, $format");
		}
		is($node->safe_psql($db, $columns), $rows, "$format: the requests are there, to the last column");
		is($node->safe_psql($db, 'SELECT srvoptions = (SELECT srvoptions FROM pg_foreign_server), (SELECT count(*) FROM pg_user_mappings
				WHERE umoptions IS NOT NULL) FROM pg_foreign_server'), 't|1', "$format: server and mapping are there");
		is($node->safe_psql($db, "SELECT has_function_privilege('writer', 'lp_create_users(text, jsonb)', 'EXECUTE'),
				has_function_privilege('writer', 'lp_delete_users(text, bigint[], bigint)', 'EXECUTE')"), 't|f', "$format: so are the rights");
		is($node->safe_psql($db, LpUsers::create_sql("after-$format")), '201|', "$format: a call works");
		exists_once("after-$format", $format);
		is($node->safe_psql($db, "SELECT id > $id, batch > $batch FROM lp_requests WHERE login_name = 'after-$format\@example.com'"), 't|t',
			"$format: ids and batches go on");
		is($node->safe_psql($db, 'SELECT count(*) FROM lp_requests'), '4', "$format: nothing overwritten");
		is($node->safe_psql($db, "SELECT count(*) FROM lp_results WHERE login_name ~ '^before'"), '3', "$format: the views show them");
	}
	# twice is as good as once
	$node->command_ok([ 'pg_dump', '--format', 'custom', '--file', "$dir/again", '--dbname', $node->connstr('restored_custom') ], 'a restored database is dumped');
	$node->safe_psql('postgres', 'CREATE DATABASE again');
	$node->command_ok([ 'pg_restore', '--exit-on-error', '--dbname', $node->connstr('again'), "$dir/again" ], '... and restored');
	is($node->safe_psql('again', 'SELECT count(*) FROM lp_requests'), '4', '... with all rows');
	$node->command_ok([ 'pg_dump', '--schema-only', '--file', "$dir/schema", '--dbname', $node->connstr('postgres') ], 'pg_dump of the schema only');
	unlike(slurp_file("$dir/schema"), qr/before1|COPY.*lp_requests/, '... has no requests');

	# a restore with a token that no longer fits: an empty mapping passes
	$node->safe_psql('again', 'DROP USER MAPPING FOR CURRENT_USER SERVER acme; CREATE USER MAPPING FOR CURRENT_USER SERVER acme');
	is((LpUsers::try_sql($node, LpUsers::create_sql('empty'), db => 'again'))[2] =~ /ERROR:  (\w+)/ ? $1 : '', '28000', 'an empty mapping is refused at use');

	# as a copy of the database
	$node->safe_psql('postgres', 'CREATE DATABASE copied TEMPLATE restored_plain');
	is($node->safe_psql('copied', LpUsers::create_sql('copied')), '201|', 'a copied database works');
	is($node->safe_psql('copied', "SELECT count(DISTINCT origin) FROM lp_requests"), '3', '... and says in its rows where they were written');
};

# ------------------------------------------------------------------------------------------------- DROP EXTENSION

my $session;
my $objects;
my ($out, $err);

subtest 'DROP EXTENSION in a running session' => sub {
	$node->safe_psql('postgres', 'CREATE DATABASE cleanup');
	$session = LpUsers::session($node, db => 'cleanup');
	$objects = q{SELECT string_agg(n, ' ' ORDER BY n) FROM (SELECT 'function ' || proname FROM pg_proc WHERE proname ~ '^lp_|^lpusers' UNION ALL
		SELECT 'class ' || relname FROM pg_class WHERE relname ~ '^lp_|^lpusers' UNION ALL SELECT 'type ' || typname FROM pg_type WHERE typname ~ '^_?lp_'
		UNION ALL SELECT 'server ' || srvname FROM pg_foreign_server UNION ALL SELECT 'wrapper ' || fdwname FROM pg_foreign_data_wrapper
		UNION ALL SELECT 'mapping ' || umid FROM pg_user_mappings UNION ALL SELECT 'trigger ' || evtname FROM pg_event_trigger) o(n)};

	is($session->query($objects), '', 'a database without lpusers');
	$session->query('CREATE EXTENSION lpusers');
	LpUsers::connect_account($node, $sim, db => 'cleanup');
	is($session->query(LpUsers::create_sql('cleanup1')), '201|', 'a call');
	($out, $err) = $session->run('DROP EXTENSION lpusers');
	like($err, qr/ERROR:  2BP01:.*server acme depends/s, 'DROP EXTENSION is refused while there is a server');
	($out, $err) = $session->run('ALTER EXTENSION lpusers SET SCHEMA pg_catalog');
	like($err, qr/ERROR:  0A000/, 'ALTER EXTENSION SET SCHEMA is refused');
	$session->query('SET client_min_messages = warning; DROP EXTENSION lpusers CASCADE');
	is($session->query($objects), '', 'DROP EXTENSION CASCADE leaves nothing');
	($out, $err) = $session->run(LpUsers::create_sql('cleanup2'));
	like($err, qr/ERROR:  42883/, 'a call is no longer possible');

	# Again and again in one session, with calls between.
	foreach my $n (1 .. 3)
	{
		$session->query('CREATE EXTENSION lpusers');
		LpUsers::connect_account($node, $sim, db => 'cleanup');
		is($session->query(LpUsers::create_sql("again$n-1")), '201|', "created again, $n: a call");
		is($session->query(LpUsers::create_sql("again$n-2")), '201|', "created again, $n: another");
		is($session->query('SELECT count(*), min(id) FROM lp_requests'), '2|1', "created again, $n: a fresh table");
		$session->query('BEGIN; DROP EXTENSION lpusers CASCADE; ROLLBACK');
		is($session->query(LpUsers::create_sql("again$n-3")), '201|', "created again, $n: after a DROP rolled back");
		$session->query('DROP EXTENSION lpusers CASCADE');
	}
	is($session->query('BEGIN; CREATE EXTENSION lpusers; CREATE SERVER acme FOREIGN DATA WRAPPER lpusers OPTIONS (account \'12345678\', base_url \'' .
		$sim->url . '\'); CREATE USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (token \'lp-token\'); ' . LpUsers::create_sql('within')), '201|',
		'all in one transaction');
	($out, $err) = $session->run('ROLLBACK');
	like($err, qr/WARNING:  01000: rolled back here, .*within\@example\.com/, '... which is rolled back, with its extension');
	is($session->query($objects), '', '... and nothing is left');
};

# ------------------------------------------------------------------------------------------------- schemas

my $n = 0;

subtest 'schemas of any name' => sub {
	foreach my $schema ('Odd Schema', 'select', 'per%cent', '100%s%n', 'UPPER', 'a.b', 'x' x 63, 'semi;colon', 'lp_requests')
	{
		my $quoted = '"' . $schema . '"';
		my $renamed = '"renamed ' . ++$n . '%d"';

		$session->query("CREATE SCHEMA $quoted; CREATE EXTENSION lpusers SCHEMA $quoted");
		LpUsers::connect_account($node, $sim, db => 'cleanup');
		my $call = sub { my ($in, $name) = @_; return LpUsers::create_sql("schema$n-$name") =~ s/lp_create_users/$in.lp_create_users/r; };
		is($session->query($call->($quoted, 1)), '201|', "schema $quoted: a call");
		is($session->query("SELECT state FROM $quoted.lp_results"), 'created', "schema $quoted: on record");
		$session->query("ALTER SCHEMA $quoted RENAME TO $renamed");
		is($session->query($call->($renamed, 2)), '201|', "schema $quoted: renamed, in the same session");
		is($session->query("SELECT count(*) FROM $renamed.lp_results"), '2', "schema $quoted: renamed, on record");
		# another table takes the place of ours
		$session->query("CREATE SCHEMA $quoted; CREATE TABLE $quoted.lp_requests (LIKE $renamed.lp_requests INCLUDING ALL); CREATE SEQUENCE $quoted.lp_batch_seq");
		is($session->query($call->($renamed, 3)), '201|', "schema $quoted: with another one of its old name");
		$session->query("ALTER SCHEMA $renamed RENAME TO swap; ALTER SCHEMA $quoted RENAME TO $renamed; ALTER SCHEMA swap RENAME TO $quoted");
		is($session->query($call->($quoted, 4)), '201|', "schema $quoted: its old name again");
		is($session->query("SELECT count(*) FROM $quoted.lp_requests"), '4', "schema $quoted: all on record");
		is($session->query("SELECT count(*) FROM $renamed.lp_requests"), '0', "schema $quoted: nothing in the other table");
		is($session->query("SELECT count(*) FROM $quoted.lp_validate_users('{}') WHERE problem IS NOT NULL") > 0, 1, "schema $quoted: lp_validate_users");
		is($session->query("SELECT bool_and(ok) FROM $quoted.lp_check('12345678')"), 't', "schema $quoted: lp_check");
		exists_once("schema$n-$_", "schema $quoted, call $_") foreach 1 .. 4;
		if ($schema eq 'Odd Schema')
		{
			$node->safe_psql('postgres', 'CREATE DATABASE odd');
			$node->command_ok([ 'pg_dump', '--format', 'custom', '--file', "$dir/odd", '--dbname', $node->connstr('cleanup') ], 'pg_dump of an odd schema');
			$node->command_ok([ 'pg_restore', '--exit-on-error', '--dbname', $node->connstr('odd'), "$dir/odd" ], 'pg_restore of an odd schema');
			is($node->safe_psql('odd', "SELECT count(*) FROM $quoted.lp_requests"), '4', 'its requests are there');
			is($node->safe_psql('odd', $call->($quoted, 5)), '201|', 'a call works');
		}
		$session->query("DROP EXTENSION lpusers CASCADE; DROP SCHEMA $quoted CASCADE; DROP SCHEMA $renamed CASCADE");
		is($session->query($objects), '', "schema $quoted: nothing is left");
	}

	# Two databases of one server do not share anything.
	{
		my @two = map { LpUsers::session($node, db => $_) } 'postgres', 'restored_plain';
		is($two[$_]->query(LpUsers::create_sql("two$_")), '201|', "two databases, $_") foreach 0, 1;
		is($two[0]->query("SELECT count(*) FROM lp_requests WHERE login_name = 'two1\@example.com'"), '0', 'each has its own records');
		$_->quit foreach @two;
	}
};

subtest 'CREATE EXTENSION needs a superuser, DROP DATABASE ends the worker' => sub {
	$node->safe_psql('postgres', 'CREATE ROLE plain LOGIN CREATEDB; GRANT CREATE ON DATABASE cleanup TO plain');
	($out, $err) = LpUsers::session($node, db => 'cleanup', role => 'plain')->run('CREATE SCHEMA mine; CREATE EXTENSION lpusers SCHEMA mine');
	like($err, qr/ERROR:  42501/, 'CREATE EXTENSION is for superusers');

	# A session that has called holds nothing but itself.
	$session->query('CREATE EXTENSION lpusers');
	LpUsers::connect_account($node, $sim, db => 'cleanup');
	is($session->query(LpUsers::create_sql('last')), '201|', 'a call before the end');
	$session->quit;
	$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = 'cleanup'") or die 'a session stays';
	$node->safe_psql('postgres', 'DROP DATABASE cleanup');
	is($node->safe_psql('postgres', "SELECT count(*) FROM pg_database WHERE datname = 'cleanup'"), '0', 'DROP DATABASE');

	my $open = LpUsers::session($node, db => 'odd');
	is($open->query(LpUsers::create_sql('forced') =~ s/lp_create_users/"Odd Schema".lp_create_users/r), '201|', 'a call in a database to be dropped');
	$node->safe_psql('postgres', 'DROP DATABASE odd WITH (FORCE)');
	is($node->safe_psql('postgres', "SELECT count(*) FROM pg_database WHERE datname = 'odd'"), '0', 'DROP DATABASE WITH (FORCE)');
	is($node->safe_psql('postgres', LpUsers::create_sql('afterwards')), '201|', 'the server is well');
};

is($sim->text('duplicates') =~ s/\s//gr, '[]', 'no login exists twice');
unlike(LpUsers::log_since($node, 0), qr/terminated by signal|TRAP:|PANIC:/, 'nothing crashed');

done_testing();

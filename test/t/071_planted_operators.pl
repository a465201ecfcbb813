# What a role without rights plants where the extension is going to be, is, or was: operators, functions, casts, types and views.
# Nothing of it ever runs as another role, not in CREATE EXTENSION by a superuser, not in ALTER EXTENSION UPDATE, not when the
# extension is used, nor after its schema was renamed; and no object of the extension refers to it. LpPlanted.pm says what there is.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LpPlanted;
use LpUsers;
use PostgreSQL::Test::Utils;
use Test::More;

my $account = '12345678';
my $sim     = LpUsers::account();
my $node    = LpUsers::server(conf => "lpusers.worker = off\nlpusers.idle_timeout = 1h\nlog_min_error_statement = panic\nfsync = off\n");
my $n       = 0;

$node->safe_psql('postgres', 'CREATE ROLE planter LOGIN; CREATE DATABASE planted OWNER planter');
my $model;
{
	my $session = LpUsers::session($node);
	$model = LpPlanted::model($session);
	$session->quit;
}
note("types: $model->{types}; operators: $model->{operators}; functions: $model->{functions}; views: $model->{views}");
cmp_ok(scalar(() = $model->{$_->[0]} =~ /,/g), '>', $_->[1], "the extension uses $_->[0]")
  foreach [ types => 20 ], [ operators => 20 ], [ functions => 80 ], [ views => 10 ];
{
	my $planter = LpUsers::session($node, db => 'planted', role => 'planter');
	$planter->query('CREATE SCHEMA place; SET search_path = place; ' . LpPlanted::sql($model, 'place'));
	cmp_ok($planter->query("SELECT count(*) FROM pg_catalog.pg_operator WHERE oprnamespace = 'place'::regnamespace"), '>', 10_000, 'operators are planted');
	cmp_ok($planter->query("SELECT count(*) FROM pg_catalog.pg_proc WHERE pronamespace = 'place'::regnamespace"), '>', 3000, 'functions are planted');
	$planter->quit;
}

# A superuser's session in a copy of that database, with the planted schema under this name; public is there, too.
sub copy_with
{
	my ($db, $schema) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $db TEMPLATE planted OWNER planter");
	my $root = LpUsers::session($node, db => $db);
	$root->query('SET search_path = pg_catalog');
	$root->query('DROP SCHEMA public') if $schema eq 'public';
	$root->query("ALTER SCHEMA place RENAME TO $schema; GRANT USAGE ON SCHEMA $schema TO PUBLIC");
	return $root;
}

# What the objects of the extension refer to outside of pg_catalog and the extension.
my $foreign = q{
	WITH member AS (SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
		WHERE d.refclassid = 'pg_extension'::regclass AND e.extname = 'lpusers' AND d.deptype = 'e'),
	ours AS (SELECT classid, objid FROM member
		UNION SELECT 'pg_rewrite'::regclass, r.oid FROM pg_rewrite r JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = r.ev_class
		UNION SELECT 'pg_class'::regclass, i.indexrelid FROM pg_index i JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = i.indrelid
		UNION SELECT 'pg_constraint'::regclass, c.oid FROM pg_constraint c JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = c.conrelid
		UNION SELECT 'pg_attrdef'::regclass, a.oid FROM pg_attrdef a JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = a.adrelid
		UNION SELECT 'pg_type'::regclass, t.oid FROM pg_type t JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = t.typrelid
		UNION SELECT 'pg_class'::regclass, s.objid FROM pg_depend s JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = s.refobjid
			WHERE s.refclassid = 'pg_class'::regclass AND s.classid = 'pg_class'::regclass AND s.deptype = 'i'
		UNION SELECT 'pg_type'::regclass, t.typarray FROM pg_type t JOIN member m ON (m.classid = 'pg_class'::regclass AND m.objid = t.typrelid)
			OR (m.classid = 'pg_type'::regclass AND m.objid = t.oid))
	SELECT pg_describe_object(d.classid, d.objid, d.objsubid), pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid)
	FROM pg_depend d JOIN ours o ON o.classid = d.classid AND o.objid = d.objid
	WHERE d.refclassid NOT IN ('pg_extension'::regclass, 'pg_namespace'::regclass, 'pg_language'::regclass) AND d.refobjid >= 16384
	  AND NOT EXISTS (SELECT FROM ours x WHERE x.classid = d.refclassid AND x.objid = d.refobjid)};
# A body that is a text is parsed when it runs.
my $unpinned = q{SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
	JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass AND e.extname = 'lpusers' JOIN pg_language l ON l.oid = p.prolang
	WHERE l.lanname <> 'c' AND p.prosqlbody IS NULL AND p.proconfig[1] IS DISTINCT FROM 'search_path=pg_catalog, pg_temp'};

sub nothing_ran
{
	my ($what, $offset) = @_;
	my $ran = LpPlanted::ran(LpUsers::log_since($node, $offset));

	is(join(', ', map { "$ran->{$_} as $_" } grep { $_ ne 'planter' } sort keys %$ran), '', "$what: nothing planted ran as another role");
	is($node->safe_psql('postgres', "SELECT rolsuper FROM pg_roles WHERE rolname = 'planter'"), 'f', "$what: planter is no superuser");
	return;
}

# A login name of its own
sub user { return LpUsers::user('u' . ++$n); }

# Use all of the extension that is in this schema, under a search_path that finds what is planted first; the statements of this
# test name their operators and functions.
sub use_all
{
	my ($what, $root, $s, $planted) = @_;
	my $works = sub {
		my ($sql, $session) = @_;
		my ($out, $err) = ($session // $root)->run($sql);
		my ($error) = $err =~ /^(ERROR.*)/m;
		is($error // '', '', "$what: " . substr($sql =~ s/\s+/ /gr, 0, 70));
		return $out;
	};

	$root->query("SET search_path = $planted, pg_catalog");
	$works->("CREATE SERVER acme FOREIGN DATA WRAPPER lpusers OPTIONS (account '$account', base_url '$sim->{url}');
		CREATE USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (token 'lp-token'); GRANT USAGE ON FOREIGN SERVER acme TO planter;
		CREATE USER MAPPING FOR planter SERVER acme OPTIONS (token 'lp-token');
		GRANT EXECUTE ON FUNCTION $s.lp_create_users, $s.lp_enqueue_users, $s.lp_create_users_trigger, $s.lp_sync_define, $s.lp_sync_diff, $s.lp_sync_plan,
			$s.lp_sync_apply, $s.lp_release(pg_catalog.text), $s.lp_adopt, $s.lp_purge, $s.lp_enqueue_rows TO planter; GRANT EXECUTE ON PROCEDURE $s.lp_deliver, $s.lp_sync TO planter;
		CREATE SCHEMA hr; IMPORT FOREIGN SCHEMA liveperson FROM SERVER acme INTO hr;
		CREATE TABLE hr.hires (login pg_catalog.text PRIMARY KEY); CREATE TABLE hr.staff (id pg_catalog.int4 PRIMARY KEY, login_name pg_catalog.text,
			full_name pg_catalog.text, employee_id pg_catalog.text, nickname pg_catalog.text, email pg_catalog.text, password_sh pg_catalog.text, is_enabled pg_catalog.bool,
			max_chats pg_catalog.int4, profiles pg_catalog.text[])") unless $root->query("SELECT pg_catalog.count(*) FROM pg_catalog.pg_foreign_server");
	my $json = q({"loginName": "login", "email": "login", "nickname": "login", "fullName": "login", "passwordSh": "'Start-1234'::pg_catalog.text", "isEnabled": true,
		"maxChats": 3, "profileIds": "ARRAY[1]"});
	$works->("SELECT * FROM $s.lp_attach_trigger('hr.hires'::pg_catalog.regclass, '$account'::pg_catalog.text, \$\$$json\$\$::pg_catalog.jsonb)");
	$works->("INSERT INTO hr.hires VALUES ('t${\ ++$n}\@example.com')");
	$works->("SELECT $s.lp_enqueue_rows('hr.hires'::pg_catalog.regclass)");
	$works->("SELECT * FROM $s.lp_enqueue_users('$account'::pg_catalog.text, '[" . user() . "]'::pg_catalog.jsonb)");
	$works->("SELECT status FROM $s.lp_create_users('$account'::pg_catalog.text, '[" . user() . "]'::pg_catalog.jsonb)");
	$works->("SELECT * FROM $s.lp_check('$account'::pg_catalog.text)");
	$works->("CALL $s.lp_deliver()");
	$works->("INSERT INTO hr.staff VALUES ($n, 's$n\@example.com', 's', '$n', 's', 's$n\@example.com', 'Start-1234', true, 3, '{Agent}')");
	$works->("SELECT $s.lp_sync_define('staff'::pg_catalog.text, '$account'::pg_catalog.text, 'hr.staff'::pg_catalog.regclass, 'id'::pg_catalog.name)");
	$works->("SELECT * FROM $s.lp_sync_diff('staff'::pg_catalog.text)");
	$works->("SELECT $s.lp_sync_watch('hr.staff'::pg_catalog.regclass, 'staff'::pg_catalog.text, 'id'::pg_catalog.text)");
	$works->("UPDATE hr.staff SET max_chats = 4");
	$works->("CALL $s.lp_sync('staff'::pg_catalog.text)");
	$works->("CALL $s.lp_deliver()");
	$works->("CALL $s.lp_sync(watched => true)");
	$works->("SELECT $s.lp_sync_unlink('staff'::pg_catalog.text, '{none}'::pg_catalog.text[])");
	$works->("SELECT * FROM $s.$_") foreach qw(lp_results lp_summary lp_progress lp_syncs lp_sync_links lp_sync_plans lp_sync_changes lp_report());
	$works->("SELECT $s.lp_release('$account'::pg_catalog.text)");
	$works->("SELECT $s.lp_adopt()");
	$works->("SELECT $s.lp_purge('1 day'::pg_catalog.interval)");
	$works->("SELECT $s.lp_sync_unwatch('hr.staff'::pg_catalog.regclass)");
	$works->("SELECT $s.lp_sync_drop('staff'::pg_catalog.text)");
	$works->("SELECT count(*) FROM hr.users; DELETE FROM hr.users WHERE login_name OPERATOR(pg_catalog.=) 's'::pg_catalog.text");
	$works->("SELECT $s.lp_detach_trigger('hr.hires'::pg_catalog.regclass)");

	# the role itself, with temporary objects of the same names before all others; what it runs as itself is its own affair
	my $planter = LpUsers::session($node, db => $root->query('SELECT pg_catalog.current_database()'), role => 'planter');
	$planter->query("CREATE TEMP TABLE lp_requests (id pg_catalog.int8); CREATE TEMP TABLE lp_payloads (id pg_catalog.int8); CREATE TEMP TABLE _lp_sync (id pg_catalog.int8);
		CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK ($planted.planted_check(VALUE)); CREATE DOMAIN pg_temp.int8 AS pg_catalog.int8 CHECK ($planted.planted_check('x'));
		CREATE DOMAIN pg_temp.regclass AS pg_catalog.oid CHECK ($planted.planted_check('x')); CREATE DOMAIN pg_temp.jsonb AS pg_catalog.jsonb CHECK ($planted.planted_check('x'));
		CREATE VIEW pg_temp.pg_foreign_server AS SELECT * FROM pg_catalog.pg_foreign_server WHERE $planted.planted_check('x');
		CREATE VIEW pg_temp.pg_roles AS SELECT * FROM pg_catalog.pg_roles WHERE $planted.planted_check('x'); SET search_path = pg_temp, $planted, pg_catalog");
	$works->("SELECT * FROM $s.lp_enqueue_users('$account'::pg_catalog.text, '[" . user() . "]'::pg_catalog.jsonb)", $planter);
	$works->("CALL $s.lp_deliver()", $planter);
	$works->("SELECT * FROM $s.$_", $planter) foreach qw(lp_results lp_summary lp_progress lp_syncs lp_sync_plans);
	$works->("SELECT $s.lp_release('$account'::pg_catalog.text), $s.lp_adopt(), $s.lp_purge('1 day'::pg_catalog.interval)", $planter);
	$planter->quit;

	# and the worker, in a database with that search_path
	$root->query('ALTER DATABASE ' . $root->query('SELECT pg_catalog.current_database()') . " SET search_path = $planted, pg_catalog");
	worker('on');
	$works->("SELECT * FROM $s.lp_enqueue_users('$account'::pg_catalog.text, '[" . user() . "]'::pg_catalog.jsonb)");
	LpUsers::wait_for(sub { $root->query("SELECT state FROM $s.lp_results ORDER BY id USING OPERATOR(pg_catalog.>) LIMIT 1") eq 'created' }, 'the worker to deliver');
	worker('off');
	$root->query("SELECT $s.lp_worker_stop()");
	LpUsers::wait_for(sub { $root->query("SELECT $s.lp_worker_pid() IS NULL") eq 't' }, 'the worker to leave');
	return;
}

sub worker
{
	my ($on) = @_;

	$node->safe_psql('postgres', $_) foreach "ALTER SYSTEM SET lpusers.worker = $on", 'SELECT pg_reload_conf()';
	LpUsers::wait_for(sub { $node->safe_psql('postgres', 'SHOW lpusers.worker') eq $on }, "worker $on");
	return;
}

subtest 'objects planted before CREATE EXTENSION are not used' => sub {
	foreach my $case ([ 'in_public', 'public' ], [ 'in_schema', '"My Schema"' ])
	{
		my ($db, $schema) = @$case;
		my $what = "planted before, in $schema";
		my $root = copy_with($db, $schema);
		my $offset = -s $node->logfile;

		$root->query("BEGIN; SET LOCAL search_path = pg_temp, $schema, pg_catalog; CREATE EXTENSION lpusers SCHEMA $schema");
		is($root->query('SHOW search_path'), "pg_temp, $schema, pg_catalog", "$what: the script's search_path ends with it");
		$root->query('COMMIT');
		nothing_ran("$what, CREATE EXTENSION", $offset);
		is($root->query("SET search_path = pg_catalog; $foreign"), '', "$what: nothing refers to what is outside of pg_catalog and the extension");
		is($root->query($unpinned), '', "$what: each body that is a text has a search_path");
		use_all($what, $root, $schema, $schema);
		nothing_ran("$what, use", $offset);

		# what is planted is taken where the search_path is not pinned
		my $planter = LpUsers::session($node, db => $db, role => 'planter');
		$planter->query("SET search_path = $schema, pg_catalog; SELECT (1::pg_catalog.oid = 'pg_class'::pg_catalog.regclass), (2.0::pg_catalog.numeric * 3), lower('X'::pg_catalog.name), 'x'::text");
		my $ran = LpUsers::log_since($node, $offset);
		like($ran, qr/planted $_.*: ran as planter/, "$what: it would be taken: $_") foreach 'operator on oid, regclass', 'operator on numeric, integer', 'lower\(name\)', 'domain';
		$_->quit foreach $root, $planter;
	}
};

# ---------------------------------------------------------------------------------------------- before ALTER EXTENSION UPDATE

chomp(my $sharedir = qx(pg_config --sharedir));

my @made_up = map { "$sharedir/extension/$_" } ('lpusers--planted.sql', 'lpusers--planted--1.0.sql');

END
{
	my $status = $?;
	unlink(@made_up) if @made_up;
	$? = $status;
}

subtest 'objects planted before ALTER EXTENSION UPDATE are not used' => sub {
	SKIP:
	{
		skip("$sharedir/extension cannot be written to", 1) unless -w "$sharedir/extension";
		unlink(@made_up);
		append_to_file($made_up[0], slurp_file("$LpUsers::top/src/lpusers--1.0.sql") . slurp_file("$LpUsers::top/test/upgrade/undo-0.9.sql"));
		append_to_file($made_up[1], slurp_file("$LpUsers::top/test/upgrade/lpusers--0.9--1.0.sql"));
		my $what = 'planted before an update';
		my $root = copy_with('updated', '"My Schema"');
		$root->query(q{CREATE EXTENSION lpusers SCHEMA "My Schema" VERSION 'planted'});
		my $offset = -s $node->logfile;
		$root->query('SET search_path = pg_temp, "My Schema", pg_catalog; ALTER EXTENSION lpusers UPDATE');
		nothing_ran("$what, ALTER EXTENSION UPDATE", $offset);
		is($root->query("SET search_path = pg_catalog; $foreign"), '', "$what: nothing refers to what is outside of pg_catalog and the extension");
		use_all($what, $root, '"My Schema"', '"My Schema"');
		nothing_ran("$what, use", $offset);
		$root->quit;
	}
};

subtest 'objects planted after a rename of the schema are not used' => sub {
	{
		my $what = 'planted where the extension was';
		my $root = copy_with('renamed', 'place2');
		$root->query('CREATE SCHEMA "Old name"; GRANT USAGE ON SCHEMA "Old name" TO PUBLIC; CREATE EXTENSION lpusers SCHEMA "Old name"');
		use_all('before the rename', $root, '"Old name"', 'place2');
		$root->query('ALTER SCHEMA "Old name" RENAME TO "new name"; ALTER SCHEMA place2 RENAME TO "Old name"');
		my $offset = -s $node->logfile;

		# what a statement with the old name could call
		my $planter = LpUsers::session($node, db => 'renamed', role => 'planter');
		$planter->query(q{SET search_path = pg_catalog;
			DO $do$
			DECLARE f record;
			BEGIN
				FOR f IN SELECT p.oid, p.proname, pg_get_function_arguments(p.oid) AS arguments, pg_get_function_result(p.oid) AS result
					FROM pg_proc p WHERE p.pronamespace = '"new name"'::regnamespace AND p.prokind = 'f' AND pg_get_function_result(p.oid) !~ 'trigger|fdw_handler|record|lp_response'
				LOOP
					EXECUTE format('CREATE FUNCTION "Old name".%I(%s) RETURNS %s LANGUAGE plpgsql AS $f$ BEGIN RAISE LOG ''planted %s: ran as %%'', current_user; RETURN%s; END $f$',
						f.proname, f.arguments, f.result, f.proname, CASE WHEN f.result ~ 'SETOF' OR f.result = 'void' THEN '' ELSE ' NULL' END);
				END LOOP;
			END $do$;
			CREATE TABLE "Old name".lp_requests (id bigint); CREATE TABLE "Old name".lp_payloads (request_id bigint); CREATE TABLE "Old name"._lp_sync (id bigint)});
		$planter->quit;
		use_all($what, $root, '"new name"', '"Old name"');
		nothing_ran($what, $offset);
		is($root->query('SELECT (SELECT pg_catalog.count(*) FROM "Old name".lp_requests), (SELECT pg_catalog.count(*) FROM "Old name".lp_payloads)'), '0|0', "$what: its tables are empty");
		$root->quit;
	}

	$sim->stop;
};

done_testing();

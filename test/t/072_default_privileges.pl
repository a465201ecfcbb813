# Default privileges of a database do not open what the extension closes, and rights on its views do not write its tables.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LpUsers;
use Test::More;

my $account = '12345678';
my $sim     = LpUsers::account();
my $node    = LpUsers::server(conf => "lpusers.worker = off\n");

$node->safe_psql('postgres', 'CREATE ROLE app LOGIN; CREATE ROLE writer LOGIN; GRANT pg_write_all_data TO writer; CREATE DATABASE opened');
my $root = LpUsers::session($node, db => 'opened');
$root->query(q{
	ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO app, PUBLIC; ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO app WITH GRANT OPTION;
	ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO app; ALTER DEFAULT PRIVILEGES GRANT ALL ON TYPES TO app;
	ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO app; ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON ROUTINES TO app;
	CREATE EXTENSION lpusers;
	CREATE TABLE control (i int); CREATE FUNCTION control() RETURNS int LANGUAGE sql AS 'SELECT 1'});
is($root->query(q{SELECT has_table_privilege('app', 'control', 'UPDATE'), has_function_privilege('app', 'control()', 'EXECUTE')}), 't|t',
	'the default privileges are in force');

# ---------------------------------------------------------------------- default privileges do not open the extension

my $app;

subtest 'default privileges do not open the extension' => sub {
	# the rights that are left are those of an installation without default privileges
	my $rights = q{
		SELECT c.oid::regclass::text, a.grantee::regrole, a.privilege_type FROM pg_class c, aclexplode(c.relacl) a, pg_depend d
		WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e' AND a.grantee <> c.relowner
		UNION ALL SELECT p.oid::regprocedure::text, a.grantee::regrole, a.privilege_type FROM pg_proc p,
		aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a, pg_depend d, pg_extension e
		WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e' AND a.grantee <> p.proowner
		AND d.refobjid = e.oid AND e.extname = 'lpusers'
		UNION ALL SELECT t.typname::text, a.grantee::regrole, a.privilege_type FROM pg_type t, aclexplode(coalesce(t.typacl, acldefault('T', t.typowner))) a
		WHERE t.typname = 'lp_response' AND a.grantee <> t.typowner ORDER BY 1, 2, 3};
	is($root->query($rights), $node->safe_psql('postgres', $rights), 'rights are those without default privileges');
	unlike($root->query($rights), qr/\bapp\b/, 'none of them is for app');

	$root->query(qq{CREATE SERVER acme FOREIGN DATA WRAPPER lpusers OPTIONS (account '$account', base_url '$sim->{url}');
		CREATE USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (token 'lp-token');
		SELECT lp_enqueue_users('$account', '[} . LpUsers::user('waiting') . q{]')});
	$app = LpUsers::session($node, db => 'opened', role => 'app');
	foreach my $sql ('SELECT body FROM lp_payloads', 'SELECT * FROM lp_requests', 'DELETE FROM lp_requests', 'UPDATE lp_requests SET state = NULL',
		'TRUNCATE lp_payloads', "SELECT nextval('lp_batch_seq')", "SELECT setval('lp_requests_id_seq', 1)", 'CALL lp_deliver()',
		"SELECT lp_create_users('$account', '[]')", "SELECT lp_update_users('$account', '[]')", "SELECT lp_delete_users('$account', '{1}')",
		"SELECT lp_reset_password('$account', 1, 'x')", "SELECT lp_enqueue_users('$account', '[]')", "SELECT lp_release('$account')",
		'SELECT lp_adopt()', "SELECT lp_purge('0')", 'SELECT lp_worker_stop()',
		'CREATE TRIGGER x AFTER INSERT ON lp_requests EXECUTE FUNCTION suppress_redundant_updates_trigger()')
	{
		my (undef, $err) = $app->run($sql);
		like($err, qr/ERROR:  42501: /, "app: $sql");
	}
	is($app->query('SELECT count(*) FROM lp_results'), 0, 'app reads the view, and sees nothing of others');
};

subtest 'rights on views do not write tables' => sub {
	# rights that were granted afterwards, or for everything
	$root->query('GRANT ALL ON lp_results, lp_summary, lp_progress TO app');
	foreach my $role ('app', 'writer')
	{
		my $session = LpUsers::session($node, db => 'opened', role => $role);

		foreach my $view ('lp_results', 'lp_summary', 'lp_progress')
		{
			foreach my $sql ("UPDATE $view SET account = 'other'", "DELETE FROM $view", "INSERT INTO $view (account) VALUES ('other')")
			{
				my (undef, $err) = $session->run($sql);
				like($err, qr/ERROR:  55000: cannot \w+ (?:into|from)? ?view "$view"/, "$role with rights on the view: $sql");
			}
		}
		$session->quit;
	}
};

subtest 'granted rights survive a change of owner' => sub {
	# rights that an administrator gave stay when the owner changes
	$root->query('GRANT EXECUTE ON FUNCTION lp_enqueue_users TO app; CREATE ROLE other; ALTER TABLE lp_requests OWNER TO other; ALTER TABLE lp_payloads OWNER TO other');
	is($root->query(q{SELECT has_table_privilege('app', 'lp_payloads', 'SELECT'), has_function_privilege('app', 'lp_enqueue_users(text, jsonb)', 'EXECUTE')}),
		'f|t', 'after a change of owner');

	$_->quit foreach $root, $app;
	$sim->stop;
};

done_testing();

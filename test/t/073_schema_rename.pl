# ALTER SCHEMA ... RENAME of the extension's schema: the queue goes on, and nothing of a new schema with the old name is run.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LpUsers;
use Test::More;

my $account = '12345678';
my $sim     = LpUsers::account();
my $node    = LpUsers::server(conf => "lpusers.worker = off\nlpusers.idle_timeout = 1h\n");
my $n       = 0;

$node->safe_psql('postgres', 'CREATE ROLE low LOGIN; CREATE DATABASE renamed');
my $root = LpUsers::session($node, db => 'renamed');
$root->query(qq{CREATE SCHEMA "Old name"; CREATE EXTENSION lpusers SCHEMA "Old name"; SET search_path = "Old name";
	CREATE SERVER acme FOREIGN DATA WRAPPER lpusers OPTIONS (account '$account', base_url '$sim->{url}');
	CREATE USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (token 'lp-token')});

sub enqueue { return $root->query("SELECT count(*) FROM lp_enqueue_users('$account', '[" . LpUsers::user('user' . ++$n) . "]')"); }

sub everything
{
	my ($what) = @_;

	is(enqueue(), 1, "$what: queued");
	my (undef, $err) = $root->run('CALL lp_deliver()');
	like($err, qr/1 created, 0 failed/, "$what: delivered");
	is($root->query("SELECT state FROM lp_results ORDER BY id DESC LIMIT 1"), 'created', "$what: lp_results");
	is($root->query('SELECT sum(requests) FROM lp_summary'), $n, "$what: lp_summary");
	is($root->query('SELECT created FROM lp_progress'), $n, "$what: lp_progress");
	like($root->query('SELECT lp_report()'), qr{<dt>Created</dt><dd class="some">$n<}, "$what: lp_report()");
	return;
}

# ---------------------------------------------------------------------- nothing in a schema of the old name is run

my $low;

subtest 'nothing in a schema of the old name is run' => sub {
	everything('before');
	$root->query('ALTER SCHEMA "Old name" RENAME TO "new name"; SET search_path = "new name"');

	# what may be planted: everything that a statement with the old name could call
	$root->query(q{CREATE SCHEMA "Old name"; GRANT CREATE, USAGE ON SCHEMA "Old name" TO PUBLIC});
	$low = LpUsers::session($node, db => 'renamed', role => 'low');
	$low->query(q{
		DO $do$
		DECLARE f record;
		BEGIN
			FOR f IN SELECT p.proname, pg_get_function_arguments(p.oid) AS arguments, p.prokind, pg_get_function_result(p.oid) AS result
				FROM pg_proc p WHERE p.pronamespace = '"new name"'::regnamespace AND p.prokind = 'f'
				AND pg_get_function_result(p.oid) NOT IN ('trigger', 'fdw_handler') AND pg_get_function_result(p.oid) !~ 'record|lp_response'
			LOOP
				EXECUTE format('CREATE FUNCTION "Old name".%I(%s) RETURNS %s LANGUAGE plpgsql AS $f$ BEGIN
					RAISE LOG ''planted %s ran as %%'', current_user; RETURN; END $f$',
					f.proname, f.arguments, CASE WHEN f.result ~ 'SETOF' THEN f.result ELSE 'void' END, f.proname);
			END LOOP;
		END $do$;
		CREATE TABLE "Old name".lp_requests (id bigint); CREATE TABLE "Old name".lp_payloads (request_id bigint)});
	my $offset = -s $node->logfile;
	everything('renamed, and another schema has the old name');
	unlike(LpUsers::log_since($node, $offset), qr/LOG:  planted \w+ ran/, 'nothing planted ran');
	$root->query('DROP SCHEMA "Old name" CASCADE; ALTER SCHEMA "new name" RENAME TO "Old name"; SET search_path = "Old name"');
	everything('renamed back');
};

# ---------------------------------------------------------------------- a running worker continues after the rename

sub created { return $root->query("SELECT count(*) FROM lp_results WHERE state = 'created'"); }

subtest 'a running worker continues after the rename' => sub {
	# a worker that is there already
	$node->safe_psql('postgres', 'ALTER SYSTEM SET lpusers.worker = on');
	$node->safe_psql('postgres', 'SELECT pg_reload_conf()');
	LpUsers::wait_for(sub { $root->query('SHOW lpusers.worker') eq 'on' }, 'the worker may run');
	enqueue();
	LpUsers::wait_for(sub { created() == $n }, 'delivered by the worker');
	my $pid = $root->query('SELECT lp_worker_pid()');
	$root->query('ALTER SCHEMA "Old name" RENAME TO third; SET search_path = third');
	enqueue();
	LpUsers::wait_for(sub { created() == $n }, 'delivered by the worker after the rename');
	is($root->query('SELECT lp_worker_pid()'), $pid, 'the worker is the same');

	$_->quit foreach $root, $low;
	$sim->stop;
};

done_testing();

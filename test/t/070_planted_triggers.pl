# Code that other roles attach to the queue's tables: triggers, deferred triggers, cursors that outlive the statement. It must run
# neither as the worker's superuser nor as the role that enqueues or delivers, and CALL lp_deliver() must leave the session its role.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LpUsers;
use Test::More;

my $account = '12345678';
my $sim     = LpUsers::account();
my $node    = LpUsers::server(conf => "lpusers.worker = off\n");

# Database "owned": the extension belongs to inst, no longer a superuser. Database "postgres": to
# the superuser.
$node->safe_psql('postgres', q{CREATE ROLE inst LOGIN SUPERUSER; CREATE ROLE hr LOGIN; CREATE ROLE app LOGIN; CREATE DATABASE owned});
my $boss = LpUsers::session($node, db => 'owned');
my $inst = LpUsers::session($node, db => 'owned', role => 'inst');
$inst->query('CREATE EXTENSION lpusers; GRANT CREATE ON SCHEMA public TO inst');
$boss->query('ALTER ROLE inst NOSUPERUSER');
my $super = LpUsers::session($node);
foreach my $session ($boss, $super)
{
	$session->query(qq{CREATE SERVER acme FOREIGN DATA WRAPPER lpusers OPTIONS (account '$account', base_url '$sim->{url}');
		GRANT USAGE ON FOREIGN SERVER acme TO hr; CREATE USER MAPPING FOR hr SERVER acme OPTIONS (token 'lp-token');
		GRANT EXECUTE ON FUNCTION lp_enqueue_users TO hr; GRANT EXECUTE ON PROCEDURE lp_deliver TO hr;
		GRANT EXECUTE ON FUNCTION lp_release(text), lp_adopt(), lp_purge(interval) TO hr});
}
my $hr = LpUsers::session($node, db => 'owned', role => 'hr');
my $hr_super = LpUsers::session($node, role => 'hr');

my $n = 0;

sub enqueue_sql { return "SELECT count(*) FROM lp_enqueue_users('$account', '[" . LpUsers::user('user' . ++$n) . "]')"; }

# The function that is planted: it says who it runs as, and takes what it can get.
sub plant_sql
{
	my ($name, $role, $do) = @_;

	return qq{CREATE FUNCTION $name() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN
		RAISE LOG 'planted % by $role ran as % in a session of %', TG_NAME, current_user, session_user;
		IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN ALTER ROLE $role SUPERUSER; END IF;
		$do; RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END; END \$\$;};
}

sub worker
{
	my ($on) = @_;
	$node->safe_psql('postgres', "ALTER SYSTEM SET lpusers.worker = $on");
	$node->safe_psql('postgres', 'SELECT pg_reload_conf()');
	LpUsers::wait_for(sub { $super->query('SHOW lpusers.worker') eq $on && $hr->query('SHOW lpusers.worker') eq $on }, "worker $on");
	return;
}

sub fails
{
	my ($session, $sql, $pattern, $what) = @_;
	my (undef, $err) = $session->run($sql);

	like($err, $pattern, $what);
	return;
}

sub is_super { my ($role) = @_; return $super->query("SELECT rolsuper FROM pg_roles WHERE rolname = '$role'"); }

my $denied_later  = qr/ERROR:  (?:42501: )?cannot fire deferred trigger within security-restricted operation/;
# what a trigger raises for a row concerns this row
my $denied_cursor = qr/(?:ERROR:  (?:42501: )?|WARNING:  (?:01000: )?request \d+ is passed over: )cannot create a cursor WITH HOLD within security-restricted operation/;

# ---------------------------------------------------------------------------------------------- the owner, no superuser

subtest 'deferred triggers and cursors of an owner who is no superuser' => sub {
	my $offset = -s $node->logfile;

	$inst->query(plant_sql('public.later', 'inst', 'NULL')
		. plant_sql('public.hold', 'inst', q{EXECUTE 'DECLARE h CURSOR WITH HOLD FOR SELECT 1'})
		. plant_sql('public.setting', 'inst', q{PERFORM pg_catalog.set_config('search_path', 'planted', false)}));

	# at the insert: in the session of a clerk, and of a superuser
	$inst->query('CREATE CONSTRAINT TRIGGER later AFTER INSERT ON lp_requests DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW EXECUTE FUNCTION public.later()');
	fails($hr, enqueue_sql(), $denied_later, 'deferred to the commit of a clerk: refused');
	$boss->query("SET ROLE hr");
	fails($boss, enqueue_sql(), $denied_later, 'deferred to the commit of a superuser: refused');
	$boss->query('RESET ROLE');
	$inst->query('DROP TRIGGER later ON lp_requests');

	# the settings that an ordinary trigger makes end with the statement, and it runs as the owner
	$inst->query('CREATE TRIGGER setting BEFORE INSERT ON lp_requests FOR EACH ROW EXECUTE FUNCTION public.setting()');
	my $path = $hr->query('SHOW search_path');
	is($hr->query(enqueue_sql()), 1, 'an ordinary trigger of the owner: queued');
	is($hr->query('SHOW search_path'), $path, '... the search_path that it sets does not reach the clerk');
	$inst->query('DROP TRIGGER setting ON lp_requests');

	foreach my $kind ([ 'later', $denied_later, 'CONSTRAINT TRIGGER x AFTER UPDATE ON lp_requests DEFERRABLE INITIALLY DEFERRED' ],
		[ 'hold', $denied_cursor, 'TRIGGER x BEFORE UPDATE ON lp_requests' ])
	{
		my ($function, $denied, $trigger) = @$kind;

		$inst->query("CREATE $trigger FOR EACH ROW EXECUTE FUNCTION public.$function()");
		fails($hr, 'CALL lp_deliver()', $denied, "$function: CALL by a clerk");
		fails($boss, 'CALL lp_deliver()', $denied, "$function: CALL by a superuser");
		my $since = -s $node->logfile;
		worker('on');
		$hr->query(enqueue_sql());
		LpUsers::wait_for(sub { LpUsers::log_since($node, $since) =~ $denied }, "$function: the worker's statement is refused");
		is($boss->query("SELECT count(*) FROM lp_requests WHERE state <> 'pending'"), 0, "$function: nothing is delivered");
		worker('off');
		$inst->query('DROP TRIGGER x ON lp_requests');
	}
	fails($hr, 'CALL lp_deliver()', qr/NOTICE:  00000: account "$account": [1-9]\d* created/, 'without triggers it is delivered');

	# retry and discard
	$boss->query("UPDATE lp_requests SET state = 'failed', cause = 'refused'; INSERT INTO lp_payloads SELECT id, '{}' FROM lp_requests ON CONFLICT DO NOTHING");
	$inst->query('CREATE CONSTRAINT TRIGGER x AFTER UPDATE OR DELETE ON lp_requests DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW EXECUTE FUNCTION public.later()');
	fails($hr, 'SELECT lp_retry(ARRAY[max(id)]) FROM lp_results', $denied_later, 'lp_retry()');
	fails($hr, 'SELECT lp_discard(ARRAY[max(id)]) FROM lp_results', $denied_later, 'lp_discard()');
	$inst->query('DROP TRIGGER x ON lp_requests');
	$boss->query('TRUNCATE lp_requests, lp_payloads');

	my $log = LpUsers::log_since($node, $offset);
	like($log, qr/LOG:  planted setting by inst ran as inst in a session of hr/, 'what ran ran as the owner');
	unlike($log, qr/LOG:  planted \w+ by inst ran as (?!inst\b)/, '... and as nobody else');
	is(is_super('inst'), 'f', 'inst is no superuser');
};

# ---------------------------------------------------------------------------------------------- the owner of the tables

subtest 'tables that get another owner' => sub {
	my $tables = "FROM pg_class c JOIN pg_depend d ON d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype = 'e' WHERE c.relkind IN ('r', 'S')";
	my $alter = sub { my ($owner, $where) = @_; $super->query("DO \$\$ DECLARE t regclass; BEGIN FOR t IN SELECT c.oid $tables AND $where LOOP EXECUTE format('ALTER TABLE %s OWNER TO $owner', t); END LOOP; END \$\$"); return; };
	my $me = $super->query('SELECT current_user');
	my $refused = qr/ERROR:  (?:42501: )?the tables of extension "lpusers" have different owners.*DETAIL:  Table "lp_requests" belongs to role "app", table "lp_payloads" to role "$me"\..*HINT:  Use ALTER TABLE/s;

	$hr_super->query(enqueue_sql());
	$alter->('app', "c.relname = 'lp_requests'");
	fails($hr_super, enqueue_sql(), $refused, 'one table: nothing is queued, and the error says why');
	fails($hr_super, 'CALL lp_deliver()', $refused, '... nor delivered');
	fails($super, "SELECT lp_release('$account')", $refused, '... nor released');
	$alter->($me, "c.relname = 'lp_requests'");
	fails($hr_super, 'CALL lp_deliver()', qr/: 1 created/, 'given back: delivered');

	# all of them: nothing is sent whose result could not be written
	$alter->('app', "c.relkind = 'r'");
	is($hr_super->query(enqueue_sql()), 1, 'all tables: queued');
	fails($hr_super, 'CALL lp_deliver()', qr/ERROR:  (?:42501: )?the tables of extension "lpusers" belong to role "app", the extension to role "$me"/, '... and not delivered');
	my $since = -s $node->logfile;
	worker('on');
	$hr_super->query(enqueue_sql());
	LpUsers::wait_for(sub { LpUsers::log_since($node, $since) =~ /ERROR:  the tables of extension "lpusers" belong to role "app"/ }, '... by the worker, whose error is in the log');
	is($super->query(q{SELECT count(*) FROM lp_requests WHERE state = 'pending'}), 2, '... both wait');
	worker('off');
	$alter->($me, "c.relkind = 'r'");
	fails($hr_super, 'CALL lp_deliver()', qr/: 2 created/, 'given back: delivered');
	$super->query('DELETE FROM lp_payloads; DELETE FROM lp_requests');
};

# ---------------------------------------------------------------------------------------------- TRIGGER on the tables

subtest 'triggers of a role that has TRIGGER on the tables' => sub {
	my $offset = -s $node->logfile;

	$super->query('CREATE SCHEMA app AUTHORIZATION app; GRANT TRIGGER ON lp_requests, lp_payloads TO app;
		GRANT EXECUTE ON FUNCTION lp_create_users_trigger TO app');
	my $app = LpUsers::session($node, role => 'app');
	$app->query(plant_sql('app.plain', 'app', 'NULL') . plant_sql('pg_temp.temporary', 'app', 'NULL') . q{
		CREATE FUNCTION app.condition(text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
			RAISE LOG 'planted condition by app ran as % in a session of %', current_user, session_user; RETURN true; END $$;
		CREATE FUNCTION app.condition(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT app.condition($1)';
		CREATE OPERATOR app.=== (FUNCTION = app.condition, LEFTARG = text, RIGHTARG = text);
		CREATE DOMAIN app.checked AS text CHECK (app.condition(VALUE))});
	my $trusted = 'suppress_redundant_updates_trigger()';
	my $refused = qr/ERROR:  (?:42501: )?trigger "x" on table "(lp_requests|lp_payloads)" is not allowed/;
	my @kinds = (
		[ 'an ordinary one', 'TRIGGER x BEFORE INSERT OR UPDATE ON lp_requests FOR EACH ROW EXECUTE FUNCTION app.plain()',
			qr/DETAIL:  Function app\.plain\(\) belongs to role "app", which neither owns the table nor is a superuser\./ ],
		[ 'on the payloads', 'TRIGGER x AFTER INSERT OR DELETE ON lp_payloads FOR EACH ROW EXECUTE FUNCTION app.plain()', qr/app\.plain/ ],
		[ 'for each statement', 'TRIGGER x AFTER INSERT OR UPDATE ON lp_requests EXECUTE FUNCTION app.plain()', qr/app\.plain/ ],
		[ 'a deferred one', 'CONSTRAINT TRIGGER x AFTER INSERT OR UPDATE ON lp_requests DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
			EXECUTE FUNCTION app.plain()', qr/app\.plain/ ],
		[ 'a temporary function', 'TRIGGER x BEFORE INSERT OR UPDATE ON lp_requests FOR EACH ROW EXECUTE FUNCTION pg_temp.temporary()',
			qr/temporary\(\) belongs to role "app"/ ],
		[ 'in WHEN', "TRIGGER x BEFORE UPDATE ON lp_requests FOR EACH ROW WHEN (app.condition(NEW.state)) EXECUTE FUNCTION $trusted",
			qr/app\.condition\(text\) belongs/ ],
		[ 'an operator in WHEN', "TRIGGER x BEFORE UPDATE ON lp_requests FOR EACH ROW WHEN (NEW.state OPERATOR(app.===) 'x') EXECUTE FUNCTION $trusted",
			qr/app\.condition\(text,text\) belongs/ ],
		[ 'a domain in WHEN', "TRIGGER x BEFORE UPDATE ON lp_requests FOR EACH ROW WHEN (NEW.state::app.checked IS NOT NULL) EXECUTE FUNCTION $trusted",
			qr/WHEN condition uses a domain/ ],
		[ 'expressions of our own trigger', "TRIGGER x AFTER INSERT ON lp_requests REFERENCING NEW TABLE AS n FOR EACH STATEMENT
			EXECUTE FUNCTION lp_create_users_trigger('$account', 'loginName=app.condition(state)')", qr/cannot feed the queue/ ]);
	foreach my $kind (@kinds)
	{
		my ($what, $trigger, $detail) = @$kind;

		$hr_super->query('BEGIN; ' . enqueue_sql() . '; COMMIT');
		$app->query("CREATE $trigger");
		fails($hr_super, enqueue_sql(), $refused, "$what: nothing is queued");
		my (undef, $err) = $hr_super->run('CALL lp_deliver()');
		like($err, $refused, "$what: CALL does not deliver");
		like($err, $detail, "$what: it says why");
		$super->query('ALTER TABLE lp_requests DISABLE TRIGGER x') unless $trigger =~ /lp_payloads/;
		is($hr_super->query(enqueue_sql()), 1, "$what: disabled, it does no harm") unless $trigger =~ /lp_payloads/;
		$super->query('DROP TRIGGER x ON ' . ($trigger =~ /lp_payloads/ ? 'lp_payloads' : 'lp_requests'));
	}

	# the worker says so in the log, and goes on when it is gone
	my $since = -s $node->logfile;
	my $pending = $super->query("SELECT count(*) FROM lp_requests WHERE state = 'pending'");
	cmp_ok($pending, '>', 0, 'there are requests to deliver');
	$app->query("CREATE $kinds[0][1]");
	worker('on');
	$super->query('SELECT _lp_wake()');
	LpUsers::wait_for(sub { LpUsers::log_since($node, $since) =~ $refused }, 'the worker refuses the trigger');
	is($super->query("SELECT count(*) FROM lp_requests WHERE state = 'pending'"), $pending, 'the worker delivers nothing');
	$super->query('DROP TRIGGER x ON lp_requests; SELECT _lp_wake()');
	LpUsers::wait_for(sub { $super->query("SELECT count(*) FROM lp_requests WHERE state = 'created'") >= $pending }, 'delivery goes on');
	worker('off');
	unlike(LpUsers::log_since($node, $offset), qr/LOG:  planted \w+ by app ran/, 'nothing planted ran');
	is(is_super('app'), 'f', 'app is no superuser');

	# a superuser's own triggers are allowed
	$super->query('TRUNCATE lp_requests, lp_payloads; ' . plant_sql('public.mine', 'postgres', 'NULL')
		. 'CREATE TRIGGER x BEFORE INSERT OR UPDATE ON lp_requests FOR EACH ROW EXECUTE FUNCTION public.mine()');
	is($hr_super->query(enqueue_sql()), 1, 'a trigger of a superuser: queued');
	$super->query('DROP TRIGGER x ON lp_requests; TRUNCATE lp_requests, lp_payloads');
};

# ---------------------------------------------------------------------------------------------- errors between commits

subtest 'an error between the commits of CALL' => sub {
	my $who = "SELECT concat_ws(' ', current_user, session_user, current_setting('is_superuser'), current_setting('search_path'))";

	# the trigger raises at its Nth firing; the sequence counts over the commits. An error that may be a row's own would only
	# hold the row, or leave it to the next deliverer.
	$super->query(q{CREATE SEQUENCE public.fired;
		CREATE FUNCTION public.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF nextval('public.fired') = 100 THEN RAISE 'planted error' USING ERRCODE = 'disk_full'; END IF;
			RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END; END $$;
		CREATE TRIGGER a BEFORE UPDATE OR DELETE ON lp_requests FOR EACH ROW EXECUTE FUNCTION public.fail();
		CREATE TRIGGER b BEFORE UPDATE OR DELETE ON lp_payloads FOR EACH ROW EXECUTE FUNCTION public.fail();
		CREATE TRIGGER c BEFORE UPDATE OR DELETE ON lp_requests EXECUTE FUNCTION public.fail();
		CREATE TRIGGER d BEFORE UPDATE OR DELETE ON lp_payloads EXECUTE FUNCTION public.fail()});
	my $clerk = LpUsers::session($node, role => 'hr');
	$super->query('SET ROLE hr; SET search_path = public, app');
	$clerk->query('SET search_path = app, public');
	foreach my $case ([ 'a clerk', $clerk, 'hr hr off app, public' ], [ 'a superuser that is SET ROLE hr', $super, 'hr postgres off public, app' ])
	{
		my ($what, $session, $before) = @$case;
		my $failed = 0;

		is($session->query($who), $before, "$what: before");
		foreach my $nth (1 .. 20)
		{
			$node->safe_psql('postgres', 'TRUNCATE lp_requests, lp_payloads; SELECT setval(\'public.fired\', 100 - ' . $nth . ')');
			$session->query(enqueue_sql());
			my (undef, $err) = $session->run('CALL lp_deliver()');
			last unless $err =~ /ERROR:  53100: planted error/;
			$failed++;
			is($session->query($who), $before, "$what: after an error at firing $nth");
		}
		cmp_ok($failed, '>=', 3, "$what: errors in $failed places");
		is($session->query($who), $before, "$what: after a CALL without error");

		# in a subtransaction, too
		$node->safe_psql('postgres', q{SELECT setval('public.fired', 99)});
		$session->query(q{DO $$ BEGIN PERFORM lp_retry(array_agg(id)) FROM lp_results; EXCEPTION WHEN OTHERS THEN NULL; END $$});
		is($session->query($who), $before, "$what: after an error that was caught");
	}
};

subtest 'the error of the worker that keeps it from delivering anything' => sub {
	my $owner = $super->query("RESET ROLE; ALTER TABLE lp_requests DISABLE TRIGGER USER; ALTER TABLE lp_payloads DISABLE TRIGGER USER; TRUNCATE lp_requests, lp_payloads; SELECT tableowner FROM pg_tables WHERE tablename = 'lp_requests'");

	worker('on');
	$super->query("ALTER SERVER acme OPTIONS (ADD delivery 'paused')");
	$hr_super->query(enqueue_sql());
	LpUsers::wait_for(sub { $super->query('SELECT lp_worker_pid()') ne '' }, 'the worker');
	$super->query(q{UPDATE lp_requests SET next_attempt_at = now() - interval '1 min'; ALTER TABLE lp_requests OWNER TO app; ALTER SERVER acme OPTIONS (DROP delivery)});
	LpUsers::wait_for(sub { $hr_super->query('SELECT last_error FROM lp_progress') =~ /^not delivered since \S+ \S+: the tables of extension "lpusers" have different owners$/ },
		'lp_progress to show it to the role that waits');
	$super->query(qq{ALTER TABLE lp_requests OWNER TO "$owner"; SELECT _lp_wake()});
	LpUsers::wait_for(sub { $super->query('SELECT state FROM lp_requests') eq 'created' }, 'the hire');
	is($hr_super->query('SELECT last_error FROM lp_progress'), '', '... and nothing more afterwards');
	worker('off');
};

$_->quit foreach $boss, $inst, $super, $hr, $hr_super;
$sim->stop;
done_testing();

# Syncs that are dropped, defined and watched by two sessions at once: what one has begun is refused or follows, and nothing crashes.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LpUsers;
use Test::More;

my $sim  = LpUsers::account();
my $node = LpUsers::server(conf => "lpusers.worker = off\n");
LpUsers::connect_account($node, $sim);
my $session = LpUsers::session($node);
my $first   = LpUsers::session($node);

sub q1 { my ($sql) = @_; return $session->query($sql); }
sub defined_as { my ($more) = @_; return "SELECT count(*) FROM lp_sync_define('staff', '12345678', 'lp_people', 'emp_no'$more)"; }
sub wait_for_lock { my ($what) = @_; LpUsers::wait_for(sub { q1(q{SELECT count(*) FROM pg_locks WHERE NOT granted}) ne '0' }, $what); return; }

# The source waits at a gate, an advisory lock, while the statement runs; return output and errors of the plan.
sub beside_plan
{
	my ($sql, $keys) = @_;

	q1('SELECT pg_advisory_lock(7)');
	$first->send("SELECT lp_sync_plan('staff'$keys)");
	wait_for_lock('the plan to read the source');
	q1($sql);
	q1('SELECT pg_advisory_unlock(7)');
	return $first->take;
}

# The second statement waits for the transaction of the first; return its output and errors.
sub beside_transaction
{
	my ($one, $two) = @_;

	q1("BEGIN; $one");
	$first->send($two);
	wait_for_lock($two);
	q1('COMMIT');
	return $first->take;
}

q1(q{
	CREATE TABLE staff (emp_no int PRIMARY KEY, login text);
	CREATE FUNCTION gate() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN true; END $$;
	CREATE VIEW lp_people AS SELECT emp_no, login AS login_name, login AS email, login AS full_name, login AS nickname, emp_no AS employee_id, '{1002}'::bigint[] AS profile_ids, 3 AS max_chats, 2001 AS member_of,
		true AS is_enabled, 'Aa1!' || md5(login) AS password_sh FROM staff WHERE gate();
	INSERT INTO staff SELECT n, 'p' || n || '@x.example' FROM generate_series(1, 3) n});

subtest 'dropped while a plan is made' => sub {
	foreach my $keys ('', q{, '{1}'})
	{
		q1(defined_as(''));
		my (undef, $err) = beside_plan(q{SELECT lp_sync_drop('staff')}, $keys);

		like($err, qr/ERROR:  42704: sync "staff" does not exist\nDETAIL:  It was dropped while the plan was made\./, 'the plan is refused');
		is(q1('SELECT (SELECT count(*) FROM _lp_sync_plan), (SELECT count(*) FROM _lp_sync_item)'), '0|0', 'nothing is left of it');
	}
	q1(q{CREATE FUNCTION drops() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM public.lp_sync_drop('self'); RETURN true; EXCEPTION WHEN undefined_object THEN RETURN true; END $$;
		CREATE VIEW self AS SELECT p.* FROM lp_people p WHERE drops(); SELECT lp_sync_define('self', '12345678', 'self', 'emp_no')});
	like(($session->run(q{SELECT lp_sync_plan('self')}))[1], qr/ERROR:  42704: sync "self" does not exist/, 'by its own source');
};

subtest 'defined anew while a plan is made' => sub {
	q1(defined_as(''));
	foreach my $keys ('', q{, '{1}'})
	{
		my ($plan) = beside_plan(defined_as(q{, add_only => '{profile_ids}'}), $keys);

		is(q1("SELECT DISTINCT state, over FROM lp_sync_plans WHERE plan = $plan"), 'expired|f', 'the plan has expired');
		like(($session->run("SELECT lp_sync_apply($plan)"))[1], qr/ERROR:  55000: plan \d+ has expired\nDETAIL:  .*while the sync is defined as it was/, 'it is not applied');
	}
	is(q1('SELECT count(*) FROM lp_requests'), '0', 'nothing was queued');
	q1(defined_as(''));
	my $plan = q1(q{SELECT lp_sync_plan('staff')});
	is(q1("SELECT action, queued FROM lp_sync_apply($plan)"), 'create|3', 'a plan that is made now is applied');
};

subtest 'plans that count for the limits' => sub {
	my $old = sub { my ($age, $rest) = @_; return q1("BEGIN; UPDATE _lp_sync_plan SET made_at = now() - interval '$age'; $rest; SELECT lp_sync_plan('staff', '{}') > 0;
		SELECT count(*) FROM _lp_sync_plan p WHERE EXISTS (SELECT FROM _lp_sync_item i WHERE i.plan = p.id AND i.request IS NOT NULL); ROLLBACK") =~ /(\d+)$/ ? $1 : '?'; };
	my $count = q1('SELECT count(DISTINCT plan) FROM _lp_sync_item WHERE request IS NOT NULL');

	q1(q{ALTER SYSTEM SET lpusers.retention = '1min'});
	q1('SELECT pg_reload_conf()');
	LpUsers::wait_for(sub { q1('SHOW lpusers.retention') eq '1min' }, 'the setting');
	is($old->('23 hours', q{UPDATE _lp_sync_item SET state = 'done', queued_at = now() - interval '23 hours'; UPDATE lp_requests SET state = 'created'}), $count,
		'kept for a day, whatever the retention of requests is');
	is($old->('25 hours', q{UPDATE lp_requests SET state = 'created'}), $count, 'as long as an item was applied in the last day');
	is($old->('49 hours', q{UPDATE _lp_sync_item SET queued_at = now() - interval '25 hours'}), $count, 'as long as a request has not ended');
	is($old->('49 hours', q{UPDATE _lp_sync_item SET queued_at = now() - interval '25 hours'; UPDATE lp_requests SET state = 'created'}), '0', 'and no longer');
	q1(q{ALTER SYSTEM SET lpusers.retention = 0});
	q1('SELECT pg_reload_conf()');
	LpUsers::wait_for(sub { q1('SHOW lpusers.retention') eq '0' }, 'the setting');
	is($old->('49 hours', q{UPDATE _lp_sync_item SET queued_at = now() - interval '25 hours'; UPDATE lp_requests SET state = 'created'}), '0', 'nor with a retention of 0');
	q1('ALTER SYSTEM RESET lpusers.retention');
	q1('SELECT pg_reload_conf()');
	LpUsers::wait_for(sub { q1('SHOW lpusers.retention') ne '0' }, 'the setting');
};

subtest 'a plan that is deleted before it is applied' => sub {
	my $plan = q1(q{SELECT lp_sync_plan('staff')});
	my (undef, $err) = beside_transaction("SELECT FROM _lp_sync FOR UPDATE; DELETE FROM _lp_sync_plan WHERE id = $plan", "SELECT lp_sync_apply($plan)");

	like($err, qr/ERROR:  42704: plan $plan does not exist/, 'it does not exist');
};

subtest 'one name, two owners' => sub {
	q1(q{CREATE ROLE one LOGIN; CREATE ROLE two LOGIN; GRANT SELECT ON lp_people TO one, two; GRANT EXECUTE ON FUNCTION lp_sync_define, lp_sync_drop TO one, two;
		GRANT USAGE ON FOREIGN SERVER acme TO one, two; CREATE USER MAPPING FOR one SERVER acme OPTIONS (token 'lp-token'); CREATE USER MAPPING FOR two SERVER acme OPTIONS (token 'lp-token')});
	my $define = q{SELECT count(*) FROM lp_sync_define('same', '12345678', 'lp_people', 'emp_no')};
	my $second = LpUsers::session($node, role => 'two');

	($first, $second) = ($second, $first);
	foreach my $drop ('', q{SELECT lp_sync_drop('same'); })
	{
		my (undef, $err) = beside_transaction("SET LOCAL ROLE one; $drop$define", $define);

		like($err, qr/ERROR:  42501: permission denied for sync "same"/, 'the second may not replace what the first has defined');
		is(q1(q{SELECT owner, version FROM _lp_sync WHERE name = 'same'}), 'one|1', 'it is not the owner');
	}
	($first, $second) = ($second, $first);
	$second->quit;
	my ($out, $err) = beside_transaction("SELECT lp_sync_drop('same'); SET LOCAL ROLE one; $define", $define);
	is("$out$err", '11', 'a superuser replaces it');
	is(q1(q{SELECT owner, version FROM _lp_sync WHERE name = 'same'}), 'one|2', 'and does not become the owner');
};

subtest 'watched and dropped at once' => sub {
	my (undef, $err) = beside_transaction(q{SELECT lp_sync_watch('staff', 'staff', 'emp_no')}, q{SELECT lp_sync_drop('staff')});

	unlike($err, qr/ERROR/, 'the drop follows');
	is(q1('SELECT count(*) FROM _lp_sync_watch'), '0', 'no watch is left');
	q1(q{UPDATE staff SET login = 'new@x.example' WHERE emp_no = 1});
	is(q1('SELECT count(*) FROM _lp_sync_mark'), '0', 'and nothing is marked');
	q1(defined_as(''));
	(undef, $err) = beside_transaction(q{SELECT lp_sync_drop('staff')}, q{SELECT lp_sync_watch('staff', 'staff', 'emp_no')});
	like($err, qr/ERROR:  42704: sync "staff" does not exist/, 'what is dropped is not watched');
};

unlike(LpUsers::log_since($node, 0), qr/terminated by signal|TRAP:|PANIC:/, 'nothing crashed');
done_testing();

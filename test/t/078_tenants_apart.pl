# What one tenant of a database can do to the syncs, reports and watched tables of another: nothing that the documents do not say.
# "north" and "south" have an account each; "south" attacks.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LpUsers;
use Test::More;
use Time::HiRes qw(time);

my %account = (north => '71000001', south => '72000001');
my %sim     = map { $_ => LpUsers::account('--account', $account{$_}) } sort keys %account;
my $node = LpUsers::server(conf => "lpusers.worker = off\nlog_min_messages = fatal\n");
my $root = LpUsers::session($node);

$root->query('CREATE ROLE north LOGIN; CREATE ROLE south LOGIN; CREATE ROLE clerk LOGIN; CREATE ROLE dba LOGIN; GRANT north, south TO dba; GRANT CREATE ON SCHEMA public TO north, south');
foreach my $tenant (sort keys %account)
{
	$root->query(qq{CREATE SCHEMA $tenant AUTHORIZATION $tenant;
		CREATE SERVER $tenant FOREIGN DATA WRAPPER lpusers OPTIONS (account '$account{$tenant}', base_url '$sim{$tenant}{url}');
		GRANT USAGE ON FOREIGN SERVER $tenant TO $tenant; CREATE USER MAPPING FOR $tenant SERVER $tenant OPTIONS (token 'lp-token');
		GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO $tenant, dba; GRANT EXECUTE ON ALL PROCEDURES IN SCHEMA public TO $tenant, dba});
}
my %session = map { $_ => LpUsers::session($node, role => $_) } qw(north south dba);
my ($north, $south, $dba) = @session{qw(north south dba)};
foreach my $tenant (sort keys %account)
{
	$session{$tenant}->query(qq{CREATE TABLE $tenant.staff (key text PRIMARY KEY, login text);
		CREATE FUNCTION $tenant.nickname(login text) RETURNS text STABLE LANGUAGE plpgsql AS \$\$ BEGIN RETURN login; END \$\$;
		CREATE VIEW $tenant.people AS SELECT key, login AS login_name, login AS email, login AS full_name, key AS employee_id, $tenant.nickname(login) AS nickname,
			true AS is_enabled, 3 AS max_chats, '{1001}'::bigint[] AS profile_ids, 'Start-1234' AS password_sh FROM $tenant.staff});
}
# that of south is the first by name
$south->query(q{SELECT count(*) FROM lp_sync_define('00south', '72000001', 'south.people', 'key'); INSERT INTO south.staff VALUES ('s', 's@x.example')});
$north->query(q{SELECT count(*) FROM lp_sync_define('north', '71000001', 'north.people', 'key'); INSERT INTO north.staff VALUES ('n', 'n@x.example')});

sub runs { return $root->query(q{SELECT coalesce(max(last_run)::text, '') FROM lp_syncs WHERE sync = 'north'}); }

# CALL lp_sync() of all, after which that of north has run.
sub north_runs
{
	my ($what) = @_;
	my $before = runs();
	my (undef, $err) = $dba->run('CALL lp_sync()');

	isnt(runs(), $before, "$what: the next sync runs");
	return $err;
}

sub boom
{
	my ($raise) = @_;

	$south->query("CREATE OR REPLACE FUNCTION south.nickname(login text) RETURNS text STABLE LANGUAGE plpgsql AS \$\$ BEGIN $raise; RETURN login; END \$\$");
	return;
}

subtest 'a source that raises any error' => sub {
	foreach my $code ('57014', '57P01', '57P03', '58030', '40001', 'P0004', 'XX000')
	{
		boom("RAISE EXCEPTION 'boom' USING ERRCODE = '$code'");
		like(north_runs($code), qr/WARNING:  01000: sync "00south" failed: boom/, '... and the failure is told');
		is($root->query(q{SELECT failures || ' ' || why FROM _lp_sync WHERE name = '00south'}), '1 boom', '... and counted');
		$south->query(q{SELECT lp_sync_resume('00south')});
	}
	boom('PERFORM pg_sleep(60)');
	my $before = runs();
	my $start = time;
	my (undef, $err) = $dba->run(q{SET statement_timeout = '2s'; CALL lp_sync()});
	like($err, qr/ERROR:  57014: canceling statement due to statement timeout/, 'a real timeout');
	cmp_ok(time - $start, '<', 30, '... ends the call at once');
	is(runs(), $before, '... and runs nothing else');
	$dba->query('RESET statement_timeout');
	my $pid = $dba->query('SELECT pg_backend_pid()');
	$dba->send('CALL lp_sync()');
	LpUsers::wait_for(sub { $root->query("SELECT wait_event FROM pg_stat_activity WHERE pid = $pid") eq 'PgSleep' }, 'the source to be read');
	$root->query("SELECT pg_cancel_backend($pid)");
	like(($dba->take)[1], qr/ERROR:  57014: canceling statement due to user request/, 'likewise a cancel');
	is(runs(), $before, '... and runs nothing else');
	boom('NULL');
	$south->query(q{SELECT lp_sync_resume('00south')});
};

subtest 'characters that change how a text is shown' => sub {
	boom(q{RAISE EXCEPTION E'boom \u202e<b>\x1b[31m\nWARNING:  forged' USING HINT = E'\u202ehint\x1b'});
	unlike(north_runs('they'), qr/\x1b|\xE2\x80\xAE|^WARNING:  forged/m, '... are not in the messages');
	is($root->query(q{SELECT why FROM lp_syncs WHERE sync = '00south'}), 'boom <b> [31m WARNING: forged (hint)', '... nor stored');
	boom('NULL');
	$south->query(q{SELECT lp_sync_resume('00south')});
	foreach my $name (q{E'zz\x1b[31m'}, q{E'zz\nWARNING:  forged'}, q{U&'zz\202e'}, q{' zz'})
	{
		like(($south->run("SELECT lp_sync_define($name, '72000001', 'south.people', 'key')"))[1], qr/ERROR:  22023: .*parameter "sync"/, "sync $name");
	}
	$root->query(q{CREATE TABLE public.old AS SELECT * FROM lp_requests WHERE false;
		INSERT INTO lp_requests (account, operation, path, server, server_oid, requested_by, requested_by_oid, send_as, send_as_oid, login_name, state, cause, error, origin, source_table, source_key, enqueued_at, finished_at)
		SELECT '72000001', 'create', 'queue', 'south', s.oid, 'south', r.oid, 'south', r.oid, NULL, 'failed', 'refused', U&'wrong \202e', lp_origin(), 'south.staff',
			jsonb_build_object('key', U&'\202e' || repeat('<', 150000)), now(), now() FROM pg_foreign_server s, pg_roles r WHERE s.srvname = 'south' AND r.rolname = 'south'});
	my $page = $root->query('SELECT lp_report()');
	unlike($page, qr/\xE2\x80\xAE/, 'nor are they in the report');
	cmp_ok(length($page), '<', 100_000, 'where a long key is shortened');
	$root->query('DROP TABLE public.old; DELETE FROM lp_requests');
};

subtest 'locks that a transaction keeps' => sub {
	$south->query(q{BEGIN; SELECT lp_sync_pause('00south')});
	my $start = time;
	like(north_runs('an idle transaction'), qr/WARNING:  01000: sync "00south" failed: canceling statement due to lock timeout/, '... is told');
	cmp_ok(time - $start, '<', 150, '... and waited for, but not longer');
	$south->query('ROLLBACK');
	is($root->query(q{SELECT failures FROM _lp_sync WHERE name = '00south'}), '0', '... but not counted');

	# another sync of the server, by another role
	$root->query(q{GRANT USAGE ON FOREIGN SERVER north TO south; CREATE USER MAPPING FOR south SERVER north OPTIONS (token 'lp-token')});
	$south->query(q{SELECT count(*) FROM lp_sync_define('southern', '71000001', 'south.people', 'key')});
	my $plan = $south->query(q{SELECT lp_sync_plan('southern')});
	$south->query("BEGIN; SELECT count(*) FROM lp_sync_apply($plan)");
	my $other = $north->query(q{SELECT lp_sync_plan('north')});
	like(($north->run("SET lock_timeout = '1s'; SELECT * FROM lp_sync_apply($other)"))[1], qr/ERROR:  55P03: could not lock the plans of account "71000001" in time\nDETAIL:  .*Nothing was queued/,
		'a plan of the same server that is not committed');
	$north->query('RESET lock_timeout');
	$south->query(q{ROLLBACK; SELECT lp_sync_drop('southern')});
	$root->query('DROP USER MAPPING FOR south SERVER north; REVOKE USAGE ON FOREIGN SERVER north FROM south');
	# plans of another server
	$plan = $south->query(q{SELECT lp_sync_plan('00south')});
	$south->query("BEGIN; SELECT count(*) FROM lp_sync_apply($plan)");
	$north->query('CALL lp_sync($$north$$)');
	pass('a plan of another server is not waited for');
	$south->query('ROLLBACK');
};

subtest 'policies of a table run as its owner' => sub {
	$dba->query('CREATE TEMP TABLE x (); SELECT 1');
	$root->query('CREATE SCHEMA vault AUTHORIZATION dba');
	$dba->query('CREATE TABLE vault.secret AS SELECT 1 AS x');
	$south->query(q{CREATE TABLE south.rls (id int PRIMARY KEY, login text); INSERT INTO south.rls VALUES (1, 'r@x.example');
		CREATE FUNCTION south.policy() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
			RAISE NOTICE 'policy runs as %', current_user; RETURN true; END $$;
		ALTER TABLE south.rls ENABLE ROW LEVEL SECURITY; ALTER TABLE south.rls FORCE ROW LEVEL SECURITY;
		CREATE POLICY p ON south.rls USING (south.policy())});
	my (undef, $err) = $dba->run(q{SELECT lp_attach_trigger('south.rls', '72000001', '{"loginName": "login", "email": "login", "nickname": "login", "fullName": "login",
		"passwordSh": "''Start-1234''", "isEnabled": "true", "maxChats": "3", "profileIds": "ARRAY[1]"}')});
	like($err, qr/policy runs as south/, 'lp_attach_trigger() counts the rows');
	like($err, qr/rows already in table south\.rls are not queued: 1/, '... all of them');
	unlike($err, qr/policy runs as dba/, '... not as its caller');
	(undef, $err) = $dba->run(q{SELECT lp_enqueue_rows('south.rls')});
	unlike($err, qr/policy runs as dba/, 'nor does lp_enqueue_rows()');
};

subtest 'watches' => sub {
	$north->query(q{CREATE TABLE public.wp (key text PRIMARY KEY); SELECT lp_sync_watch('public.wp', 'north', 'key'); ALTER TABLE public.wp RENAME TO wp_new});
	$south->query(q{CREATE TABLE public.wp (key text); SELECT lp_sync_unwatch('public.wp')});
	$north->query(q{INSERT INTO public.wp_new VALUES ('n')});
	is($root->query('SELECT count(*) FROM _lp_sync_mark'), '1', 'a table of the same name does not end another');
	$north->query(q{DROP TABLE public.wp_new});
	$south->query(q{DROP TABLE public.wp});
	$north->query(q{CREATE TABLE public.wp (key text); SELECT lp_sync_unwatch('public.wp'); DROP TABLE public.wp});
	is($root->query('SELECT count(*) FROM _lp_sync_watch'), '0', 'what is left of a dropped table is removed by its name');
	$root->query('DELETE FROM _lp_sync_mark');
};

subtest 'settings of the session that writes a row' => sub {
	$north->query(q{SELECT lp_attach_trigger('north.staff', '71000001', '{"loginName": "login", "email": "login", "nickname": "login", "fullName": "login",
		"passwordSh": "''Start-1234''", "isEnabled": "true", "maxChats": "3", "profileIds": "ARRAY[1]"}'); GRANT USAGE ON SCHEMA north TO clerk; GRANT INSERT ON north.staff TO clerk});
	my $clerk = LpUsers::session($node, role => 'clerk');
	$clerk->query(q{SET quote_all_identifiers = on; INSERT INTO north.staff VALUES ('q', 'q@x.example')});
	is($root->query(q{SELECT source_table FROM lp_requests WHERE login_name = 'q@x.example'}), 'north.staff', 'quote_all_identifiers does not change source_table');
	$clerk->quit;
	$north->query(q{SET quote_all_identifiers = on; SELECT count(*) FROM lp_sync_define('north', '71000001', 'north.people', 'key'); RESET quote_all_identifiers;
		SELECT lp_detach_trigger('north.staff'); DELETE FROM north.staff WHERE key = 'q'});
	is($root->query(q{SELECT source FROM _lp_sync WHERE name = 'north'}), 'north.people', '... nor the name of a source');
	$root->query('DELETE FROM lp_requests');
};

# A server of south for the account of north, which cannot be reached.
sub stranger
{
	my ($options) = @_;

	$root->query(q{GRANT USAGE ON FOREIGN DATA WRAPPER lpusers TO south});
	$south->query(qq{CREATE SERVER fake FOREIGN DATA WRAPPER lpusers OPTIONS (account '71000001', domain 'x.liveperson.net' $options);
		CREATE USER MAPPING FOR south SERVER fake OPTIONS (token 'x-mine-token')});
	return;
}

subtest 'a server of another role for the same account' => sub {
	$north->query(q{CALL lp_sync('north')});
	$root->query('CALL lp_deliver()');
	stranger(q{, delivery 'paused'});
	is($north->query(q{SELECT lp_account_is_paused('71000001')}), 'f', 'its pause is not that of the account');
	my $id = $root->query(q{SELECT user_id FROM _lp_sync_link WHERE source_key = 'n'});
	$south->query(qq{SELECT lp_enqueue_changes('71000001', '[{"id": $id, "maxChats": 5, "fullName": "x", "employeeId": "1"}]')});
	is($root->query(q{SELECT server || ' ' || state FROM lp_requests ORDER BY id DESC LIMIT 1}), 'fake pending', 'its request waits');
	$north->query(q{SELECT lp_sync_watch('north.staff', 'north', 'key'); UPDATE north.staff SET login = 'n2@x.example'; CALL lp_sync('north', watched => true)});
	is($root->query('SELECT count(*) FROM _lp_sync_mark'), '0', '... which keeps no key out of a run');
	$root->query(qq{INSERT INTO _lp_sync_mark (sync, source_key) SELECT sync, 'n' FROM _lp_sync_link WHERE user_id = $id});
	$root->query(q{DELETE FROM lp_requests WHERE server = 'north'});
	$north->query(q{CALL lp_sync('north', watched => true)});
	is($root->query(q{SELECT count(*) FROM _lp_sync_mark}), '0', '... nor one that waited');
	is($north->query(q{SELECT paused FROM lp_progress WHERE account = '71000001'}), 'f', 'and the queue of north is not paused');
	is($root->query(q{SELECT paused FROM lp_progress WHERE account = '71000001'}), 'f', '... for an administrator neither');
	unlike($north->query('SELECT lp_report()'), qr/delivery is paused/, '... nor in the report');
	$root->query('DELETE FROM lp_requests WHERE server = $$north$$');
	is($root->query(q{SELECT paused FROM lp_progress WHERE account = '71000001'}), 't', 'if all that waits is paused, it is');

	# the server of a sync is gone
	$root->query('DELETE FROM lp_requests; DROP SERVER north CASCADE');
	$south->query(q{ALTER SERVER fake OPTIONS (DROP delivery); GRANT USAGE ON FOREIGN SERVER fake TO PUBLIC; CREATE USER MAPPING FOR north SERVER fake OPTIONS (token 'planted')});
	like(($north->run(q{CALL lp_sync('north')}))[1], qr/ERROR:  55000: server "north" of sync "north" does not exist\nHINT:  Call lp_sync_define/, 'another server is not taken for one that was dropped');
};

done_testing;

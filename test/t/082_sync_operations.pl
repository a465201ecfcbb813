# lp_sync where databases are operated: rights, READ ONLY transactions, dump and restore, a standby and its promotion.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use File::Temp;
use LpUsers;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $sim  = LpUsers::account();
my $node = LpUsers::server(conf => "lpusers.worker = off\nwal_level = replica\nmax_wal_senders = 4\nhot_standby = on\n");
LpUsers::connect_account($node, $sim);
my $session = LpUsers::session($node);

sub q1 { my ($sql) = @_; return $session->query($sql); }
sub account_user { my ($login) = @_; my ($u) = grep { $_->{loginName} eq $login && !$_->{deleted} } @{ $sim->get('users') }; return $u; }

# "ok", or the SQLSTATE of a statement by a role, in a session of its own.
sub by
{
	my ($role, $sql, %options) = @_;
	my $s = LpUsers::session($options{node} // $node, role => $role, db => $options{db});
	my ($out, $err) = $s->run($sql);

	$s->quit;
	return $err =~ /(?:ERROR|FATAL):  (\w+)/ ? $1 : 'ok';
}

# All is delivered, and nothing differs.
sub in_sync
{
	my ($what, $s) = @_;

	$s //= $session;
	unlike(($s->run('CALL lp_deliver()'))[1], qr/ERROR|WARNING/, "$what: it is delivered");
	is($s->query(q{SELECT coalesce(string_agg(state || ': ' || coalesce(error, reason, ''), ', '), '') FROM lp_requests WHERE state NOT IN ('created', 'done')}),
		'', "$what: all is done");
	is($s->query(q{SELECT coalesce(string_agg(action || ' ' || source_key, ', '), '') FROM lp_sync_diff('staff')}), '', "$what: nothing differs");
	return;
}

my @functions = qw(lp_sync_define lp_sync_diff lp_sync_plan lp_sync_apply lp_sync_unlink lp_sync_pause lp_sync_resume lp_sync_drop lp_sync_watch
	lp_sync_unwatch);
my $roles = 'people_owner, member, noinherit_member, clerk';
q1(qq{
	CREATE ROLE people_owner LOGIN; CREATE ROLE member LOGIN IN ROLE people_owner; CREATE ROLE clerk LOGIN; CREATE ROLE releaser LOGIN; CREATE ROLE stranger LOGIN;
	CREATE ROLE noinherit_member LOGIN NOINHERIT IN ROLE people_owner; CREATE ROLE server_owner LOGIN;
	GRANT USAGE ON FOREIGN SERVER acme TO people_owner, server_owner; CREATE USER MAPPING FOR people_owner SERVER acme OPTIONS (token 'lp-token');
	GRANT EXECUTE ON FUNCTION @{[ join(', ', @functions) ]} TO $roles; GRANT EXECUTE ON PROCEDURE lp_sync TO $roles;
	CREATE SCHEMA hr AUTHORIZATION people_owner; GRANT USAGE ON SCHEMA hr TO PUBLIC; SET ROLE people_owner;
	CREATE TABLE hr.staff (emp_no int PRIMARY KEY, login text, name text, chats int);
	CREATE FUNCTION hr.reader() RETURNS text STABLE LANGUAGE sql AS 'SELECT current_user::text';
	CREATE VIEW hr.lp_people AS SELECT emp_no, login AS login_name, login AS email, name AS full_name, emp_no AS employee_id, name AS nickname, true AS is_enabled,
		chats AS max_chats, '{1001}'::bigint[] AS profile_ids, 'Aa1!' || md5(login) AS password_sh, hr.reader() AS description FROM hr.staff;
	INSERT INTO hr.staff SELECT n, 'p' || n || '\@x.example', 'Person ' || n, 3 FROM generate_series(1, 10) n;
	SELECT lp_sync_define('staff', '12345678', 'hr.lp_people', 'emp_no', limits => '{"update": null}');
	CREATE FUNCTION hr.release(plan bigint, confirm jsonb) RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
		AS 'SELECT sum(queued)::bigint FROM lp_sync_apply(plan, confirm)';
	REVOKE EXECUTE ON FUNCTION hr.release FROM PUBLIC; GRANT EXECUTE ON FUNCTION hr.release TO releaser;
	RESET ROLE});
q1(q{CALL lp_sync('staff')});
in_sync('the first run');
is(join(' ', sort map { $_->{description} } @{ $sim->get('users') }), join(' ', ('people_owner') x 10), 'a superuser has called it: the source was read as the owner');

# ---------------------------------------------------------------------------------------------- rights

subtest 'who may' => sub {
	my $plan = q1(q{SELECT lp_sync_plan('staff', '{}')});
	# in this order: what is dropped comes last
	my @steps = (
		[ diff => q{SELECT * FROM lp_sync_diff('staff')} ], [ plan => q{SELECT lp_sync_plan('staff')} ], [ apply => 'SELECT * FROM lp_sync_apply(lp_sync_plan(%s))' ],
		[ CALL => q{CALL lp_sync('staff')} ], [ pause => q{SELECT lp_sync_pause('staff')} ], [ resume => q{SELECT lp_sync_resume('staff')} ],
		[ unlink => q{SELECT lp_sync_unlink('staff', '{none}')} ], [ watch => q{SELECT lp_sync_watch('hr.staff', 'staff', 'emp_no')} ],
		[ unwatch => q{SELECT lp_sync_unwatch('hr.staff')} ],
		[ define => q{SELECT lp_sync_define('staff', '12345678', 'hr.lp_people', 'emp_no', limits => '{"update": null}')} ],
		[ drop => q{BEGIN; SELECT lp_sync_drop('staff'); ROLLBACK} ]);

	foreach my $step (@steps)
	{
		my ($name, $sql) = @$step;

		$sql =~ s/lp_sync_plan\(%s\)/$plan/;
		$plan = q1(q{SELECT lp_sync_plan('staff', '{}')}) if $name eq 'apply';
		$sql = "SELECT * FROM lp_sync_apply($plan)" if $name eq 'apply';
		foreach my $role ('stranger', 'releaser', 'clerk', 'noinherit_member', 'server_owner')
		{
			is(by($role, $sql), '42501', "$name: $role may not");
		}
		is(by('noinherit_member', "SET ROLE people_owner; $sql"), 'ok', "$name: as the owner by SET ROLE") unless $name =~ /apply|watch|define/;
		is(by('member', $sql), 'ok', "$name: a member of the owner's role may");
	}
	q1(q{CALL lp_sync('staff')});
	is(q1(q{SELECT string_agg(sync || ' ' || owner || ' ' || state, ', ') FROM lp_syncs}), 'staff people_owner in sync', 'and nothing has changed');
};

subtest 'who sees' => sub {
	my @views = qw(lp_syncs lp_sync_links lp_sync_plans lp_sync_changes);
	my $seen = sub { my ($role) = @_; return q1("SET ROLE $role; SELECT concat_ws(' ', " . join(', ', map { "(SELECT count(*) > 0 FROM $_)" } @views) . '); RESET ROLE'); };

	q1('ALTER SERVER acme OWNER TO server_owner');
	is($seen->($_), 't t t t', "$_ sees syncs, links, plans and changes") foreach 'people_owner', 'member', 'server_owner';
	is($seen->($_), 'f f f f', "$_ sees nothing") foreach 'stranger', 'clerk', 'releaser', 'noinherit_member';
	q1('ALTER SERVER acme OWNER TO CURRENT_USER');
};

subtest 'two persons' => sub {
	q1('UPDATE hr.staff SET chats = 4 WHERE emp_no = 1');
	my $plan = q1(q{SET ROLE member; SELECT lp_sync_plan('staff'); RESET ROLE});

	is(by('releaser', "SELECT * FROM lp_sync_apply($plan)"), '42501', 'who releases may not apply');
	is(by('stranger', "SELECT hr.release($plan, NULL)"), '42501', 'nor may others release');
	my $releaser = LpUsers::session($node, role => 'releaser');
	is($releaser->query("SELECT hr.release($plan, '{\"update\": 1}')"), '1', 'a SECURITY DEFINER function of the owner around one step');
	is(q1('SELECT requested_by, send_as, source_table FROM lp_requests ORDER BY id DESC LIMIT 1'), 'releaser|people_owner|hr.lp_people', 'sent as the owner; who asked for it is on record');
	is(q1("SELECT made_by, state FROM lp_sync_plans WHERE plan = $plan"), 'member|applied', 'who made the plan is on record');
	in_sync('released');
};

# ---------------------------------------------------------------------------------------------- personal data

# The tables and views of the extension that have this text somewhere, with the number of rows.
sub places
{
	my ($text) = @_;
	my @tables = split(/\n/, q1(q{SELECT c.oid::regclass FROM pg_depend d JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
		WHERE d.deptype = 'e' AND c.relkind = 'r' AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'lpusers') ORDER BY c.relname}));

	return join(' ', grep { q1("SELECT count(*) > 0 FROM $_ t WHERE t::text ~ '$text'") eq 't' } @tables);
}

subtest 'the recipe of docs/privacy.md erases a person' => sub {
	# The account has given the id; the last user of the sync leaves, after a change of the login.
	q1(q{UPDATE hr.staff SET login = 'other@x.example', name = 'Person Ten' WHERE emp_no = 10});
	q1(q{CALL lp_sync('staff')});
	in_sync('renamed');
	q1(q{SELECT lp_sync_watch('hr.staff', 'staff', 'emp_no'); DELETE FROM hr.staff WHERE emp_no = 10; SELECT lp_sync_unwatch('hr.staff'); CALL lp_sync('staff')});
	in_sync('left');
	my $id = q1(q{SELECT user_id FROM lp_sync_links WHERE source_key = '10'});
	my %said = ("'fern\@example.com'" => "'other\@x.example'", 4000000099 => $id, "'{1}'" => "'{10}'", "source_key = '1'" => "source_key = '10'");
	my ($export, $unlink, $erase) = map { my $what = $_; (grep { $_->{code} =~ $what } LpUsers::document_blocks('docs/privacy.md'))[0]{code} }
		qr/_lp_sync_link l/, qr/^SELECT lp_sync_unlink\(sync, '\{1\}'/, qr/^BEGIN;/;

	foreach my $code ($export, $unlink, $erase) { $code =~ s/\Q$_\E/$said{$_}/g foreach keys %said; }
	my $exported = q1($export);
	like($exported, qr/$_/, "exported: $_") foreach 'p10@x.example', 'other@x.example', 'Person 10', 'Person Ten', '"employeeId": "10"';
	is(places('p10@x|other@x|Person (10|Ten)'), '_lp_sync_item _lp_sync_link lp_requests', 'where the person is');
	is(q1($unlink), '1', 'the link');
	foreach my $statement (split(/;\n/, $erase)) { q1($statement); }
	is(places("p10\@x|other\@x|Person (10|Ten)|$id"), '', 'nothing is left');
	is(q1(q{SELECT count(*) FROM lp_sync_links}), '9', 'the others are');
	q1(q{CALL lp_sync('staff')});
	in_sync('afterwards');
	$sim->post('change', { user => $id + 0, delete => JSON::PP::true });
	q1(q{INSERT INTO hr.staff VALUES (10, 'p10@x.example', 'Person 10', 3); CALL lp_sync('staff')});
	in_sync('another with the number');
};

# ---------------------------------------------------------------------------------------------- READ ONLY

subtest 'READ ONLY' => sub {
	my $rows = 'SELECT (SELECT count(*) FROM _lp_sync_plan), (SELECT count(*) FROM _lp_sync_item), (SELECT last_run FROM _lp_sync)';
	my $before = q1($rows);
	my $plan = q1('SELECT max(id) FROM _lp_sync_plan');

	q1('UPDATE hr.staff SET chats = 5 WHERE emp_no = 2');
	is(q1(q{BEGIN READ ONLY; SELECT action, source_key, old, new FROM lp_sync_diff('staff'); COMMIT}), 'update|2|3|5', 'diff works');
	foreach my $sql ("lp_sync_plan('staff')", "lp_sync_apply($plan)", "lp_sync_pause('staff')", "lp_sync_resume('staff')", "lp_sync_drop('staff')", "lp_sync_unlink('staff', '{1}')",
		q{lp_sync_define('staff', '12345678', 'hr.lp_people', 'emp_no')}, "lp_sync_watch('hr.staff', 'staff', 'emp_no')")
	{
		my ($name) = $sql =~ /(\w+)/;
		my (undef, $err) = $session->run("BEGIN READ ONLY; SELECT $sql; ");

		like($err, qr/ERROR:  25006: cannot execute .* in a read-only transaction/, "$name is refused");
		$session->run('ROLLBACK');
	}
	my (undef, $err) = $session->run(q{SET default_transaction_read_only = on; CALL lp_sync('staff')});
	q1('RESET default_transaction_read_only');
	like($err, qr/ERROR:  25006: cannot execute lp_sync\(\) in a read-only transaction/, 'CALL is refused');
	is(q1($rows), $before, 'nothing was written');
	q1('UPDATE hr.staff SET chats = 3 WHERE emp_no = 2');
};

# ---------------------------------------------------------------------------------------------- dump and restore

subtest 'dump and restore' => sub {
	my $file = File::Temp->newdir();
	my %kept = (
		definition => 'SELECT name, account, server, owner, source, key, create_only, limits, state, base_rows, base_listed, origin FROM _lp_sync',
		links => 'SELECT l FROM _lp_sync_link l ORDER BY source_key', plans => 'SELECT p FROM _lp_sync_plan p ORDER BY id', items => 'SELECT i FROM _lp_sync_item i ORDER BY id',
		marks => 'SELECT m FROM _lp_sync_mark m ORDER BY id');

	q1(q{SET ROLE people_owner; SELECT lp_sync_watch('hr.staff', 'staff', 'emp_no'); RESET ROLE; UPDATE hr.staff SET chats = 6 WHERE emp_no = 3; SELECT lp_sync_plan('staff', '{3}')});
	my $plan = q1('SELECT max(plan) FROM lp_sync_plans');
	my %before = map { $_ => q1($kept{$_}) } keys %kept;
	$node->command_ok([ 'pg_dump', '--format', 'custom', '--file', "$file/dump", '--dbname', $node->connstr('postgres') ], 'pg_dump');
	q1('CREATE DATABASE restored');
	$node->command_ok([ 'pg_restore', '--exit-on-error', '--dbname', $node->connstr('restored'), "$file/dump" ], 'pg_restore');
	my $restored = LpUsers::session($node, db => 'restored');
	is($restored->query($kept{$_}), $before{$_}, "kept: $_") foreach sort keys %kept;
	is($restored->query('SELECT sync, owner, state FROM lp_syncs'), 'staff|people_owner|copy', 'the copy is one');
	is($restored->query(q{SELECT action, source_key, attribute FROM lp_sync_diff('staff')}), 'update|3|maxChats', 'diff works in the copy');
	my $requests = $sim->count(path => '/le-users', method => 'PUT');
	my $new = $restored->query(q{SELECT lp_sync_plan('staff')});
	cmp_ok($new, '>', $plan, 'plans can be made, and their numbers go on');
	foreach my $p ($plan, $new)
	{
		my (undef, $err) = $restored->run("SELECT * FROM lp_sync_apply($p)");
		like($err, qr/ERROR:  55000: sync "staff" was defined in another database\nDETAIL:  .*\nHINT:  .*lp_sync_resume\(\)/, 'but not applied');
	}
	like(($restored->run(q{CALL lp_sync('staff')}))[1], qr/NOTICE:  00000: sync "staff" is of another database\nHINT:  Call lp_sync_resume/, 'CALL says so');
	$restored->query('CALL lp_deliver()');
	is($sim->count(path => '/le-users', method => 'PUT'), $requests, 'nothing was sent');
	is(by('clerk', q{SELECT lp_sync_resume('staff')}, db => 'restored'), '42501', 'not everybody may resume it');
	is(by('member', q{SELECT lp_sync_resume('staff')}, db => 'restored'), 'ok', 'a member of the owner may');
	is($restored->query("SELECT action, queued FROM lp_sync_apply($new)"), 'update|1', 'then the plan is applied');
	in_sync('in the copy', $restored);
	is(account_user('p3@x.example')->{maxChats}, 6, 'the copy has changed the account');
	$restored->query('UPDATE hr.staff SET chats = 7 WHERE emp_no = 4');
	$restored->query(q{CALL lp_sync('staff', true)});
	in_sync('watched in the copy', $restored);
	is(account_user('p4@x.example')->{maxChats}, 7, 'the triggers of the copy mark keys for its sync');
	is($restored->query(q{SELECT count(*) FROM lp_sync_define('second', '12345678', 'hr.lp_people', 'emp_no'); SELECT count(DISTINCT id) FROM _lp_sync}), "11\n2",
		'numbers of new syncs go on');
	$restored->quit;
	q1('SELECT lp_sync_unwatch($$hr.staff$$); UPDATE hr.staff SET chats = CASE emp_no WHEN 3 THEN 6 ELSE 7 END WHERE emp_no IN (3, 4)');
	is(q1(q{SELECT count(*) FROM lp_sync_diff('staff')}), '0', 'the original sees what the copy did, and has nothing to do');
};

# ---------------------------------------------------------------------------------------------- a standby

my $standby = PostgreSQL::Test::Cluster->new('standby');
$node->backup('base');
$standby->init_from_backup($node, 'base');
$standby->enable_streaming($node);
$standby->start;
my $there = LpUsers::session($standby);

subtest 'on a standby' => sub {
	q1('UPDATE hr.staff SET chats = 8 WHERE emp_no = 5; DELETE FROM hr.staff WHERE emp_no = 6');
	my $plan = q1(q{SELECT lp_sync_plan('staff')});
	$node->wait_for_catchup($standby, 'replay', $node->lsn('flush'));
	is($there->query('SELECT sync, state, linked FROM lp_syncs'), 'staff|differing|10', 'the views show what the primary has written');
	is($there->query(q{SELECT action, source_key, old, new FROM lp_sync_diff('staff')}), "disable|6|true|false\nupdate|5|3|8", 'diff works');
	is($there->query(q{SELECT action, source_key FROM lp_sync_diff('staff', keys => '{5}')}), 'update|5', '... for some keys');
	foreach my $sql (q{SELECT lp_sync_plan('staff')}, "SELECT lp_sync_apply($plan)", q{CALL lp_sync('staff')}, q{SELECT lp_sync_pause('staff')})
	{
		my (undef, $err) = $there->run($sql);

		like($err, qr/ERROR:  25006: cannot execute \w+\(\) in a read-only transaction/, "refused: $sql");
	}
};

subtest 'after its promotion' => sub {
	my $plan = q1('SELECT max(plan) FROM lp_sync_plans');
	my $requests = $sim->count(path => '/le-users', method => 'PUT');

	$node->wait_for_catchup($standby, 'replay', $node->lsn('flush'));
	$session->quit;
	$node->stop('immediate');
	$standby->promote;
	LpUsers::wait_for(sub { $standby->safe_psql('postgres', 'SELECT pg_is_in_recovery()') eq 'f' }, 'the promotion');
	$session = LpUsers::session($standby);
	is(q1('SELECT state FROM lp_syncs'), 'copy', 'it waits to be told that the old primary is gone');
	my (undef, $err) = $session->run("SELECT lp_sync_apply($plan)");
	like($err, qr/ERROR:  55000: sync "staff" was defined in another database\nDETAIL:  This database is a copy, or was promoted\./, 'apply is refused');
	like(($session->run(q{CALL lp_sync('staff')}))[1], qr/NOTICE:  00000: sync "staff" is of another database/, 'CALL says so');
	is($sim->count(path => '/le-users', method => 'PUT'), $requests, 'nothing was sent');

	# where the settings say that a promoted standby goes on, it does
	q1('ALTER SYSTEM SET lpusers.after_promotion = resume');
	q1('SELECT pg_reload_conf()');
	LpUsers::wait_for(sub { q1('SHOW lpusers.after_promotion') eq 'resume' }, 'the setting');
	isnt(q1('SELECT state FROM lp_syncs'), 'copy', 'with after_promotion = resume it is none');
	is(q1("SELECT action, queued FROM lp_sync_apply($plan) ORDER BY 1"), "disable|1\nupdate|1", 'the plan of the old primary is applied');
	in_sync('after the promotion');
	is(account_user('p5@x.example')->{maxChats}, 8, 'a mover has moved');
	is(account_user('p6@x.example')->{isEnabled} ? 1 : 0, 0, 'a leaver is disabled');
	q1('ALTER SYSTEM RESET lpusers.after_promotion');
	q1('SELECT pg_reload_conf()');
	LpUsers::wait_for(sub { q1('SHOW lpusers.after_promotion') eq 'hold' }, 'the setting');

	# and else when it is resumed
	is(q1('SELECT state FROM lp_syncs'), 'copy', 'without it it waits again');
	q1(q{SELECT lp_sync_resume('staff')});
	q1(q{INSERT INTO hr.staff VALUES (11, 'p11@x.example', 'Person 11', 3); INSERT INTO hr.staff VALUES (6, 'p6@x.example', 'Person 6', 3); UPDATE hr.staff SET login = 'new1@x.example' WHERE emp_no = 1});
	unlike(($session->run(q{CALL lp_sync('staff')}))[1], qr/ERROR|WARNING|another database/, 'resumed: CALL runs');
	in_sync('resumed');
	is(q1('SELECT count(*) FROM lp_sync_links WHERE state = $$active$$'), '11', 'all are linked');
	is($sim->text('duplicates') =~ s/\s//gr, '[]', 'no login exists twice');
};

unlike(LpUsers::log_since($_, 0), qr/terminated by signal|TRAP:|PANIC:/, $_->name . ': nothing crashed') foreach $node, $standby;
done_testing();

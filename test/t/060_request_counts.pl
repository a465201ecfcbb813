# What each path costs in requests, connections, bytes, statements and row versions, exactly: costs that creep in show here,
# whatever the machine. Each path runs in a session of its own, so that its connections are its own too.
#
# Statements are those that the extension runs inside of the one that was sent, as pg_stat_statements counts them; without
# it they are not compared.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LpUsers;
use PostgreSQL::Test::Utils;
use Test::More;

my $statements = -e `pg_config --sharedir` =~ s/\n//r . '/extension/pg_stat_statements.control';
my $sim  = LpUsers::account();
my $node = LpUsers::server(conf => "autovacuum = off\n"
	  . ($statements ? "shared_preload_libraries = 'pg_stat_statements'\npg_stat_statements.track = all\n" : ''));
my $admin = LpUsers::session($node);

LpUsers::connect_account($node, $sim, options => "max_connections '3', hold_above '0'");
$admin->query(q{
	LOAD 'lpusers';
	ALTER SYSTEM SET lpusers.worker = off;
	ALTER SYSTEM SET lpusers.max_changes = 0;
	SELECT pg_reload_conf();
	CREATE SCHEMA lp;
	IMPORT FOREIGN SCHEMA liveperson FROM SERVER acme INTO lp;
	CREATE TABLE hires (id int PRIMARY KEY, email text);
	SELECT FROM lp_attach_trigger('hires', '12345678', '{"loginName": "email", "fullName": "''Full''", "nickname": "''nick''",
		"email": "email", "passwordSh": "''Start-1234''", "isEnabled": "true", "maxChats": "3", "profileIds": "ARRAY[1001]"}');
	CREATE FUNCTION person(i int) RETURNS jsonb LANGUAGE sql AS $$
		SELECT jsonb_build_object('loginName', format('r%s@example.com', i), 'fullName', 'Full', 'nickname', 'nick',
			'email', format('r%s@example.com', i), 'passwordSh', 'Start-1234', 'isEnabled', true, 'maxChats', 3,
			'profileIds', jsonb_build_array(1001)) $$;
	CREATE FUNCTION people(n int) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_agg(person(i)) FROM generate_series(1, n) i $$;
	CREATE TABLE new_rows AS SELECT format('r%s@example.com', i) AS login_name, 'Full' AS full_name, 'nick' AS nickname,
		format('r%s@example.com', i) AS email, 'Start-1234' AS password_sh, true AS is_enabled, 3 AS max_chats,
		'{1001}'::bigint[] AS profile_ids FROM generate_series(1, 250) i;
	CREATE ROLE regress_client SUPERUSER LOGIN;});
LpUsers::connect_account($node, $sim, server => 'client',
	options => "token_url '$sim->{tls_url}/sentinel/api/v2/account/12345678/app/token', ca_file '$LpUsers::top/test/certs/ca.pem'");
$admin->query(q{DROP USER MAPPING FOR CURRENT_USER SERVER client;
	CREATE USER MAPPING FOR regress_client SERVER client OPTIONS (client_id 'lp-client', client_secret 'lp-client-secret')});
$admin->query('CREATE EXTENSION pg_stat_statements') if $statements;
LpUsers::wait_for(sub { $node->safe_psql('postgres', "LOAD 'lpusers'; SHOW lpusers.worker") eq 'off' }, 'the worker to be off');

# ---------------------------------------------------------------------------------------------- counting

# Row versions that were inserted, updated and deleted, of the tables with a row for each user.
sub row_versions
{
	return [
		split(/\|/, $admin->query(q{SELECT sum(n_tup_ins), sum(n_tup_upd), sum(n_tup_del) FROM pg_stat_all_tables
			WHERE relname IN ('lp_requests', 'lp_payloads', '_lp_sync_link', '_lp_sync_item', '_lp_sync_mark')}))
	];
}

# What the extension's C code runs: expressions of triggers, functions of the queue. What these run in turn is another
# matter, and so is what the test itself runs. What a foreign table sends when the statement ends is recorded outside of the
# executor, at top level.
sub inner_statements
{
	return $admin->query(q{SELECT coalesce(sum(calls), 0) FROM pg_stat_statements WHERE (NOT toplevel OR query ~ 'public\._?lp_')
		AND query ~ '^(SELECT (CASE WHEN|public\.lp_|[a-z_, ]+ FROM public\.lp_)|INSERT|UPDATE|DELETE)' AND query !~ 'r\.state|u\.state'});
}

# "POST 3, GET 1", the number of connections, and how many bytes of bodies went each way.
sub traffic
{
	my (%requests, %connections);
	my ($sent, $received) = (0, 0);

	foreach my $request (@{ $sim->get('log') })
	{
		$requests{ $request->{method} }++;
		$connections{ $request->{connection} }++;
		$sent += $request->{bytes_in};
		$received += $request->{bytes_out};
	}
	return (join(', ', map { "$_ $requests{$_}" } sort keys %requests), scalar(keys %connections), $sent, $received);
}

# path(name, SQL, what it must cost): requests, connections, sent, received, statements, rows => [inserted, updated,
# deleted]. Bytes are compared only where they are given. at_most => statements, where it depends on time how many: a
# deliverer looks around every now and then. before => SQL in the same session, not counted. role => whose.
sub path
{
	my ($name, $sql, %expected) = @_;
	my $session = LpUsers::session($node, role => delete $expected{role});

	$session->query("SET client_min_messages = error; $expected{before}") if $expected{before};
	$session->query('SELECT pg_stat_force_next_flush()');
	$sim->remove('log');
	$admin->query('SELECT pg_stat_statements_reset()') if $statements;
	my $rows = row_versions();
	$session->query("SET client_min_messages = error; $sql; SELECT pg_stat_force_next_flush()");
	$session->query('SELECT 1');
	my $inner = $statements ? inner_statements() : $expected{statements} // 0;
	my $now   = row_versions();
	my ($requests, $connections, $sent, $received) = traffic();
	my %cost = (
		requests => $requests, connections => $connections, statements => $inner,
		rows => join(' ', map { $now->[$_] - $rows->[$_] } 0 .. 2));

	if (my $most = delete $expected{at_most})
	{
		cmp_ok(delete $cost{statements}, '<=', $most, "$name: statements");
		$expected{statements} = undef;
		$cost{statements} = undef;
	}
	$cost{sent} = $sent if defined $expected{sent};
	$cost{received} = $received if defined $expected{received};
	delete $expected{before};
	is_deeply(\%cost, { statements => 0, rows => '0 0 0', %expected }, $name)
	  or diag(explain({ %cost, sent => $sent, received => $received }));
	$session->quit;
	return;
}

# The account has so many users, and there was no request yet.
sub fresh
{
	my ($n) = @_;

	$sim->reset;
	$admin->query('TRUNCATE lp_requests, lp_payloads, hires');
	$admin->query("SET lpusers.log_calls = off; SELECT status FROM lp_create_users('12345678', people($n))") if $n;
	return;
}

subtest 'cost of direct calls' => sub {
	fresh(0);
	path('a call that creates a user', "SELECT status FROM lp_create_users('12345678', person(1))",
		requests => 'POST 1', connections => 1, sent => 167, statements => 2, rows => '1 1 0');
	path('99 more', "SELECT status FROM generate_series(2, 100) i, lp_create_users('12345678', person(i))",
		requests => 'POST 99', connections => 1, statements => 198, rows => '99 99 0');
	path('a call that leaves no record', "SELECT status FROM lp_create_users('12345678', person(101))",
		before => 'SET lpusers.log_calls = off', requests => 'POST 1', connections => 1);
	path('a call that is refused', "SELECT status FROM lp_create_users('12345678', person(1))",
		requests => 'POST 1', connections => 1, statements => 2, rows => '1 1 0');
	path('a call that deletes 3 users', "SELECT status FROM lp_delete_users('12345678', '{4000000001,4000000002,4000000003}')",
		requests => 'DELETE 1', connections => 1, sent => 40, statements => 2, rows => '3 3 0');
	path('lp_check()', "SELECT * FROM lp_check('12345678')", requests => 'GET 1', connections => 1);
	fresh(0);
	path('a call that creates 100 users', "SELECT status FROM lp_create_users('12345678', people(100))",
		requests => 'POST 1', connections => 1, sent => 16985, statements => 2, rows => '100 100 0');
	path('the first call with client credentials', "SELECT status FROM lp_delete_users('12345678', '{1}')",
		role => 'regress_client', requests => 'DELETE 1, POST 1', connections => 2, statements => 2, rows => '1 1 0');
	path('the second one', "SELECT status FROM lp_delete_users('12345678', '{1}')", role => 'regress_client',
		before => "SELECT status FROM lp_delete_users('12345678', '{1}')", requests => 'DELETE 1', connections => 1, statements => 2, rows => '1 1 0');
};

subtest 'cost of the queue' => sub {
	fresh(0);
	path('250 rows that a trigger enqueues', "INSERT INTO hires SELECT i, format('r%s\@example.com', i) FROM generate_series(1, 250) i",
		requests => '', connections => 0, statements => 10, rows => '500 0 0');
	path('a row more in a session that has read the trigger', q{INSERT INTO hires VALUES (251, 'r251@example.com')},
		before => q{INSERT INTO hires VALUES (252, 'r252@example.com')},
		requests => '', connections => 0, statements => 2, rows => '2 0 0');
	$sim->post('config', { delay_ms => 700 });
	path('252 users delivered, 100 a request', 'CALL lp_deliver()', requests => 'GET 1, POST 3', connections => 3, sent => 43131, at_most => 12,
		rows => '0 504 252');
	$sim->post('config', { delay_ms => 0 });
	path('nothing to deliver', 'CALL lp_deliver()', requests => '', connections => 0, at_most => 4);
	path('a row whose login exists', q{INSERT INTO hires VALUES (253, 'r1@example.com'); CALL lp_deliver()},
		requests => 'POST 1', connections => 1, at_most => 21, rows => '2 2 0');
	fresh(0);
	$sim->post('users', [ map { { loginName => "r$_\@example.com", nickname => 'nick', isEnabled => 'true' } } 1 .. 1000 ]);
	path('1,000 people who are all known', q{SELECT count(*) FROM lp_enqueue_users('12345678', people(1000)); CALL lp_deliver()},
		requests => 'GET 1', connections => 1, at_most => 45, rows => '2000 2000 0');
	foreach my $bulk ([ 'all_or_nothing', 'GET 3, POST 39' ], [ 'partial', 'GET 3, POST 7' ])
	{
		fresh(0);
		$sim->post('config', { bulk => $bulk->[0], delay_ms => 200 });
		path("64 users, 4 of them guilty, $bulk->[0]", q{SELECT count(*) FROM lp_enqueue_users('12345678', (SELECT jsonb_agg(person(i)
				|| CASE WHEN i IN (1, 20, 33, 64) THEN '{"passwordSh": "short"}' ELSE '{}' END::jsonb) FROM generate_series(1, 64) i)); CALL lp_deliver()},
			requests => $bulk->[1], connections => 3, at_most => 60, rows => '128 132 60');
	}
	$sim->post('config', { bulk => 'all_or_nothing', delay_ms => 0 });
	# The state of a request is in the conditions of the indexes: space that pages keep for updates could not be used.
	is($admin->query(q{SELECT n_tup_upd > 500, n_tup_hot_upd FROM pg_stat_all_tables WHERE relname = 'lp_requests'}), 't|0', 'no update of a request is HOT');
	is($admin->query(q{SELECT string_agg(c.relname, ' ') FROM pg_class c, pg_depend d WHERE d.objid = c.oid AND d.classid = 'pg_class'::regclass
		AND d.refclassid = 'pg_extension'::regclass AND c.reloptions::text ~ 'fillfactor'}), '', '... and no table keeps space for it');
};

subtest 'cost of reading foreign tables' => sub {
	fresh(250);
	path('count(*) of a foreign table', 'SELECT count(*) FROM lp.users', requests => 'GET 1', connections => 1, received => 4501);
	path('a few columns', 'SELECT id, login_name FROM lp.users', requests => 'GET 1', connections => 1);
	path('a user by id', 'SELECT * FROM lp.users WHERE id = 4000000001', requests => 'GET 1', connections => 1);
	path('3 users by id', 'SELECT * FROM lp.users WHERE id IN (4000000001, 4000000002, 4000000003)', requests => 'GET 3', connections => 3);
	path('a list that is joined, and wanted again', 'SELECT count(*) FROM generate_series(1, 3) i LEFT JOIN lp.users ON i < 3',
		requests => 'GET 1', connections => 1);
	path('LIMIT', 'SELECT id FROM lp.users LIMIT 1', requests => 'GET 1', connections => 1);
	path('EXPLAIN', 'EXPLAIN SELECT * FROM lp.users', requests => '', connections => 0);
	path('ANALYZE', 'ANALYZE lp.users', requests => 'GET 1', connections => 1);
};

subtest 'cost of writing foreign tables' => sub {
	my $columns = 'login_name, full_name, nickname, email, password_sh, is_enabled, max_chats, profile_ids';

	fresh(0);
	$sim->post('config', { delay_ms => 700 });
	path('250 rows inserted, 100 a request', "INSERT INTO lp.users ($columns) SELECT * FROM new_rows",
		requests => 'POST 3', connections => 3, sent => 42787, statements => 6, rows => '250 250 0');
	$sim->post('config', { delay_ms => 0 });
	path('250 rows again, ON CONFLICT DO NOTHING', "INSERT INTO lp.users ($columns) SELECT * FROM new_rows ON CONFLICT DO NOTHING",
		requests => 'GET 1', connections => 1);
	path('250 rows updated', "UPDATE lp.users SET max_chats = 5, full_name = 'New', employee_id = 'E'",
		requests => 'GET 1, PUT 3', connections => 1, statements => 6, rows => '250 250 0');
	path('one row updated', "UPDATE lp.users SET max_chats = 6, full_name = 'New', employee_id = 'E' WHERE id = 4000000001",
		requests => 'GET 2, PUT 1', connections => 1, statements => 2, rows => '1 1 0');
	path('250 rows deleted', 'DELETE FROM lp.users', requests => 'DELETE 3, GET 1', connections => 1, sent => 3253, statements => 6, rows => '250 250 0');
	fresh(0);
	path('3 rows inserted, RETURNING', "INSERT INTO lp.users ($columns) SELECT * FROM new_rows LIMIT 3 RETURNING id",
		requests => 'POST 3', connections => 1, statements => 6, rows => '3 3 0');
	fresh(0);
	$admin->query('COPY new_rows TO PROGRAM $$cat >' . $sim->{dir} . '/rows$$');
	$sim->post('config', { delay_ms => 700 });
	path('250 rows copied', "COPY lp.users ($columns) FROM '$sim->{dir}/rows'",
		requests => 'POST 3', connections => 3, sent => 42787, statements => 6, rows => '250 250 0');
};

# ---------------------------------------------------------------------------------------------- the desired state

# What is written for users: links and items; the row of the sync and that of a plan are not counted.
fresh(250);
$admin->query(q{
	CREATE TABLE staff AS SELECT i AS key, format('r%s@example.com', i) AS login_name, 'Full' AS full_name, 'E' || i AS employee_id, 'nick' AS nickname,
		format('r%s@example.com', i) AS email, 'Start-1234' AS password_sh, true AS is_enabled, 3 AS max_chats, '{1001}'::bigint[] AS profile_ids FROM generate_series(1, 250) i;
	SELECT lp_sync_define('staff', '12345678', 'staff', 'key', limits => '{"adopt": null, "update": null, "create": null}')});
my $sync = q{CALL lp_sync('staff')};
path('250 users adopted by a sync', $sync, requests => 'GET 1', connections => 1, rows => '750 250 0', at_most => 100);
path('... and looked at', 'CALL lp_deliver()', requests => 'GET 2', connections => 1, rows => '250 750 250', at_most => 100);
path('an account in sync', $sync, requests => 'GET 1', connections => 1, rows => '0 0 0', at_most => 100);
path('lp_sync_diff()', q{SELECT count(*) FROM lp_sync_diff('staff')}, requests => 'GET 1', connections => 1, rows => '0 0 0', at_most => 100);
path('against a relation', q{SELECT count(*) FROM lp_sync_diff('staff', against => 'against')}, before => 'CREATE TABLE against AS SELECT key AS id, login_name, email, nickname, is_enabled, max_chats, profile_ids FROM staff',
	requests => '', connections => 0, at_most => 100);
path('a watched run with nothing marked', q{CALL lp_sync('staff', watched => true)}, requests => '', connections => 0, rows => '0 0 0', at_most => 100);
$admin->query('UPDATE staff SET max_chats = 4');
path('250 updates planned and queued', $sync, requests => 'GET 1', connections => 1, rows => '750 250 0', at_most => 100);
path('250 updates delivered', 'CALL lp_deliver()', requests => 'GET 2, PUT 3', connections => 1, rows => '0 1000 250', at_most => 100);
path('the account in sync again', $sync, requests => 'GET 1', connections => 1, rows => '0 0 0', at_most => 100);

done_testing();

# Writing through a foreign table needs EXECUTE on the function that does the same, and USAGE on the server; and the query of
# docs/security.md names each role that can write to an account, and no other.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LpUsers;
use Test::More;

my $sim  = LpUsers::account();
my $node = LpUsers::server(conf => "lpusers.worker = off\n");
my $root = LpUsers::session($node);

LpUsers::connect_account($node, $sim);
$root->query(q{
	CREATE ROLE hr; CREATE ROLE member ROLE hr; CREATE ROLE batch; CREATE ROLE nightly NOINHERIT IN ROLE batch;
	CREATE ROLE caller; CREATE ROLE mapless; CREATE ROLE columns;
	CREATE ROLE clerk; CREATE ROLE data IN ROLE pg_write_all_data; CREATE ROLE shell IN ROLE pg_execute_server_program;
	CREATE ROLE inserter; CREATE ROLE planter; CREATE ROLE trigger_only; CREATE ROLE stranger; CREATE ROLE reader IN ROLE pg_read_all_data;
	GRANT CREATE ON SCHEMA public TO hr;
	CREATE SCHEMA lp; IMPORT FOREIGN SCHEMA liveperson FROM SERVER acme INTO lp; GRANT USAGE ON SCHEMA lp TO PUBLIC;
	CREATE USER MAPPING FOR PUBLIC SERVER acme OPTIONS (token 'lp-token');
	CREATE SERVER private FOREIGN DATA WRAPPER lpusers OPTIONS (account 'private');
	CREATE USER MAPPING FOR caller SERVER private OPTIONS (token 'x');
	GRANT USAGE ON FOREIGN SERVER private TO caller, mapless;
	GRANT USAGE ON FOREIGN SERVER acme TO hr, batch, caller, columns, reader;
	GRANT EXECUTE ON FUNCTION lp_create_users_trigger TO hr, planter;
	GRANT EXECUTE ON FUNCTION lp_delete_users TO batch; GRANT EXECUTE ON FUNCTION lp_create_users TO caller, mapless;
	GRANT EXECUTE ON FUNCTION lp_update_users TO columns;
	GRANT ALL ON lp.users TO clerk, batch; GRANT UPDATE (nickname) ON lp.users TO columns; GRANT SELECT ON lp.users TO data, columns;
	CREATE ROLE personnel; CREATE ROLE applier IN ROLE hr; CREATE ROLE operator; GRANT EXECUTE ON FUNCTION lp_sync_define TO hr;
	GRANT EXECUTE ON FUNCTION lp_sync_apply TO applier; GRANT EXECUTE ON FUNCTION lp_release(text) TO operator;
	SET ROLE hr; CREATE TABLE staff (id int, login text, name text); GRANT DELETE ON staff TO personnel; GRANT SELECT ON staff TO inserter;
	CREATE VIEW some_staff AS SELECT * FROM staff; GRANT UPDATE (name) ON some_staff TO columns;
	CREATE VIEW people AS SELECT id, login AS login_name, name AS full_name, id AS employee_id FROM some_staff;
	SELECT lp_sync_define('staff', '12345678', 'people', 'id');
	CREATE TABLE hires (login text); GRANT INSERT ON hires TO inserter; GRANT TRIGGER ON hires TO planter, trigger_only;
	RESET ROLE});
$root->query(q{SET ROLE hr; SELECT count(*) FROM lp_attach_trigger('hires', '12345678', '{"loginName": "login", "email": "login", "nickname": "login",
	"fullName": "login", "passwordSh": "login", "isEnabled": true, "maxChats": 3, "profileIds": "ARRAY[1]"}'); RESET ROLE});
$root->query("SELECT status FROM lp_create_users('12345678', '" . LpUsers::user('ann') . "')");

subtest 'a grant on a foreign table does not suffice to write' => sub {
	foreach my $role (qw(clerk data))
	{
		my (undef, $err) = $root->run("SET ROLE $role; DELETE FROM lp.users");
		like($err, qr/42501: permission denied for foreign server acme.*HINT:  GRANT USAGE/s, "$role: no USAGE");
		$root->query("RESET ROLE; GRANT USAGE ON FOREIGN SERVER acme TO $role");
		(undef, $err) = $root->run("SET ROLE $role; DELETE FROM lp.users");
		like($err, qr/42501: permission denied for function lp_delete_users.*HINT:  GRANT EXECUTE/s, "$role: no EXECUTE");
		$root->query("RESET ROLE; REVOKE USAGE ON FOREIGN SERVER acme FROM $role");
	}
	is($sim->count(method => 'DELETE', path => '/le-users'), 0, 'nothing was sent');
};

subtest 'the query names each role that can write' => sub {
	my ($query) = grep { $_->{code} =~ /^SELECT r.rolname AS role/m } LpUsers::document_blocks('docs/security.md');
	my ($inserts, $updates) = map { "$_ on tables of the extension" } 'INSERT', 'UPDATE';
	my @hires = map { "$_ on hires" } qw(INSERT TRIGGER UPDATE);
	my $hr = join(', ', @hires, 'lp_create_users_trigger on tables of its own');
	my ($people, $some_staff, $staff) = map { "rows of $_ (sync staff)" } qw(people some_staff staff);
	my @sources = ($people, $some_staff, $staff);
	is($root->query($query->{code}), join("\n",
		'applier|acme|applier|' . join(', ', @hires, 'lp_create_users_trigger on tables of its own', 'lp_sync_apply of sync staff', @sources),
		"applier|acme|hr|" . join(', ', $hr, @sources),
		'batch|acme|batch|DELETE on lp.users, lp_delete_users',
		'caller|acme|caller|lp_create_users',
		"columns|acme|columns|UPDATE on lp.users, lp_update_users, $some_staff",
		(map { "data|acme|$_|" . join(', ', 'INSERT on hires', $inserts, 'UPDATE on hires', $updates, @sources) } 'data', 'pg_write_all_data'),
		"hr|acme|hr|" . join(', ', $hr, @sources),
		'inserter|acme|inserter|INSERT on hires',
		'nightly|acme|batch|DELETE on lp.users, lp_delete_users',
		'operator|acme|operator|lp_release of what others queued',
		"personnel|acme|personnel|$staff",
		'planter|acme|planter|TRIGGER on hires',
		'shell|acme|pg_execute_server_program|becoming a superuser',
		'caller|private|caller|lp_create_users',
		(map { "data|private|$_|$inserts, $updates" } 'data', 'pg_write_all_data'),
		'operator|private|operator|lp_release of what others queued',
		'shell|private|pg_execute_server_program|becoming a superuser'), 'the query lists each role that can write');

	# what the query says of calls and tables is so
	my %delete = map { $_ => '42501' } qw(clerk data caller columns inserter planter stranger reader mapless);
	foreach my $role (sort(keys %delete), qw(batch nightly))
	{
		my (undef, $err) = $root->run("BEGIN; SET ROLE $role;" . ($role eq 'nightly' ? 'SET ROLE batch;' : '') . 'DELETE FROM lp.users WHERE id = 1; ROLLBACK');
		my ($state) = $err =~ /ERROR:  (\w{5}):/;
		$root->query('ROLLBACK; RESET ROLE') if $err;
		is($state // '+', $delete{$role} // '+', "DELETE by $role");
	}

	$root->quit;
};

done_testing();

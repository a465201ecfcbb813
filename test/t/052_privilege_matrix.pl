# Who may what: every role on every object of the extension, as the catalogs name them. A new object without a line here fails.
#
# Roles: "nobody" has nothing · usage has USAGE on the server and no mapping · mapped has a mapping and no USAGE · owner owns the
# server and has a mapping · holder has both, and owns a table with the trigger, and the foreign tables · member is a member of
# holder · tenant is at home on another server · root is the superuser. What each of them gets, in this order:
#	+ it works		- 42501		c 28000, no credentials		others: their SQLSTATE
# First as the extension is installed, then with EXECUTE on everything. 010_rights_and_search_path asks about direct calls in detail.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LpTraps;
use LpUsers;
use Test::More;

my $account = '12345678';
my $sim     = LpUsers::account();
my $node    = LpUsers::server(conf => "lpusers.worker = off\nlog_min_error_statement = panic\n");
my $root    = LpUsers::session($node);
my @roles   = qw(nobody usage mapped owner holder member tenant root);

sub users { return '[' . join(',', map { LpUsers::user($_) } @_) . ']'; }

# ---------------------------------------------------------------------------------------------- the scene

$root->query(join('; ', map { "CREATE ROLE $_ NOSUPERUSER" } grep { $_ ne 'root' } @roles) . q{; GRANT holder TO member;
	GRANT CREATE ON SCHEMA public TO holder});
foreach my $server ([ 'acme', $account, 'owner' ], [ 'elsewhere', 'tenant-account', 'tenant' ], [ 'plain', 'plain', 'owner' ])
{
	my ($name, $id, $owner) = @$server;
	my $url = $name eq 'plain' ? '' : ", base_url '$sim->{url}'";

	$root->query("CREATE SERVER $name FOREIGN DATA WRAPPER lpusers OPTIONS (account '$id'$url);
		GRANT USAGE ON FOREIGN DATA WRAPPER lpusers TO $owner; ALTER SERVER $name OWNER TO $owner");
}
$root->query("CREATE USER MAPPING FOR $_ SERVER acme OPTIONS (token 'lp-token')") foreach 'mapped', 'owner', 'holder', 'CURRENT_USER';
$root->query(qq{
	CREATE USER MAPPING FOR tenant SERVER elsewhere OPTIONS (token 'lp-token');
	GRANT USAGE ON FOREIGN SERVER acme, plain TO usage, holder;
	GRANT EXECUTE ON FUNCTION lp_create_users, lp_enqueue_users, lp_create_users_trigger TO holder, owner, tenant;
	CREATE SCHEMA lp AUTHORIZATION holder; GRANT USAGE ON SCHEMA lp TO PUBLIC;
	CREATE SCHEMA free; GRANT ALL ON SCHEMA free TO PUBLIC;
	SET ROLE holder;
	IMPORT FOREIGN SCHEMA liveperson FROM SERVER acme INTO lp;
	CREATE VIEW lp.as_holder AS SELECT id, login_name FROM lp.users;
	CREATE VIEW lp.as_caller WITH (security_invoker) AS SELECT id, login_name FROM lp.users;
	GRANT SELECT ON lp.as_holder, lp.as_caller TO PUBLIC;
	CREATE TABLE hires (login text); CREATE TABLE other_hires (login text); GRANT INSERT ON hires TO nobody;
	RESET ROLE});
my $mapping = q({"loginName": "login", "email": "login", "nickname": "left(login, 9)", "fullName": "'Name ' || login",
	"passwordSh": "'Start-' || length(login) || '1234'", "isEnabled": "true", "maxChats": "1 + 2", "profileIds": "ARRAY[1]"});
$root->query("SET ROLE holder; SELECT lp_attach_trigger('hires', '$account', \$\$$mapping\$\$); RESET ROLE");

# A row of each kind.
my @rows = (
	[ owner  => "SELECT count(*) FROM lp_create_users('$account', '" . users('by-owner') . "')" ],
	[ holder   => "SELECT count(*) FROM lp_enqueue_users('$account', '" . users('by-holder') . "')" ],
	[ nobody => "INSERT INTO hires VALUES ('hired\@example.com')" ],
	[ tenant => "SELECT count(*) FROM lp_enqueue_users('tenant-account', '" . users('by-tenant') . "')" ],
	[ holder   => "INSERT INTO lp.users (login_name, email, full_name, nickname, password_sh, is_enabled, max_chats, profile_ids)
		VALUES ('by-table\@example.com', 'by-table\@example.com', 'x', 'x', 'Start-1234', true, 3, '{1}')" ],
	[ holder   => "CREATE FUNCTION for_members() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
		AS \$\$ SELECT count(*) FROM lp_enqueue_users('$account', '" . users('by-member') . "') \$\$" ],
	[ member => 'SELECT for_members()' ]);
$root->query("SET ROLE $_->[0]; $_->[1]; RESET ROLE") foreach @rows;
my $failed = $root->query("UPDATE lp_requests SET state = 'failed', cause = 'refused', finished_at = now() WHERE login_name = 'by-holder\@example.com' RETURNING id");
my $user_id = $root->query("SELECT user_id FROM lp_requests WHERE login_name = 'by-table\@example.com'");

# ---------------------------------------------------------------------------------------------- asking

# What a role gets for a statement that is rolled back; CALL cannot be.
sub attempt
{
	my ($role, $sql) = @_;
	my $set = $role eq 'root' ? 'RESET ROLE' : "SET ROLE $role";
	my ($begin, $end) = $sql =~ /^CALL/ ? ('', '') : ('BEGIN; ', '; ROLLBACK');
	my (undef, $err) = $root->run("$begin$set; $sql$end; RESET ROLE");
	$root->query('RESET ROLE');
	my ($code) = $err =~ /(?:ERROR|FATAL):  (\w{5}):/;

	return !defined $code ? '+' : $code eq '42501' ? '-' : $code eq '28000' ? 'c' : "($code)";
}

sub matrix
{
	my ($what, $sql, $want) = @_;

	is(join('', map { attempt($_, $sql) } @roles), $want, $what) or diag("roles: @roles");
	return;
}

sub same_names
{
	my ($what, $there, $expected) = @_;
	my %there = map { $_ => 1 } @$there;
	my %expected = map { $_ => 1 } @$expected;

	is(join(' ', grep { !$expected{$_} } sort @$there), '', "$what: each has a line in this test");
	is(join(' ', grep { !$there{$_} } sort @$expected), '', "$what: each line has something to tell");
	return;
}

# Every object of this catalog is expected, and the other way round.
sub same_objects
{
	my ($what, $sql, $expected) = @_;

	same_names($what, [ split(/\n/, $root->query($sql)) ], $expected);
	return;
}

# ---------------------------------------------------------------------------------------------- functions

my ($all, $none, $writer, $mine) = ('++++++++', '-------+', '-c-++c-+', '----++-+');
my %functions;

my $ours = q{FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'lpusers'};

subtest 'rights on functions' => sub {
	my $json = users('somebody');

	# name => [as installed, with EXECUTE, call]. Only what is the same in both may PUBLIC execute.
	%functions = (
		lpusers_handler         => [ $all, $all, 'SELECT lpusers_handler() IS NULL' ],
		lpusers_validator       => [ $all, $all, "SELECT lpusers_validator('{}', 'pg_foreign_data_wrapper'::regclass)" ],
		lp_create_users         => [ '---++c-+', $writer, "SELECT * FROM lp_create_users('$account', '$json')" ],
		lp_update_users         => [ $none, $writer, "SELECT * FROM lp_update_users('$account', jsonb '$json' -> 0 || '{\"id\": 5}')" ],
		lp_delete_users         => [ $none, $writer, "SELECT * FROM lp_delete_users('$account', '{5}')" ],
		lp_reset_password       => [ $none, $writer, "SELECT * FROM lp_reset_password('$account', 5, 'Start-1234')" ],
		lp_validate_users       => [ $all, $all, "SELECT * FROM lp_validate_users('$json')" ],
		lp_check                => [ $writer, $writer, "SELECT * FROM lp_check('$account')" ],
		lp_enqueue_users        => [ '---++c-+', $writer, "SELECT * FROM lp_enqueue_users('$account', '$json')" ],
		lp_enqueue_changes      => [ $none, $writer, "SELECT * FROM lp_enqueue_changes('$account', '{\"id\": 5, \"maxChats\": 1}')" ],
		lp_enqueue_deletes      => [ $none, $writer, "SELECT * FROM lp_enqueue_deletes('$account', '{6}')" ],
		lp_enqueue_rows         => [ $none, $mine, "SELECT lp_enqueue_rows('hires')" ],
		lp_deliver              => [ $none, $all, "CALL lp_deliver('plain')" ],
		lp_create_users_trigger => [ '---(39P01)(39P01)(39P01)(39P01)(39P01)', '(39P01)' x 8, 'SELECT lp_create_users_trigger()' ],
		# on the table of holder: its owner, and members
		lp_attach_trigger       => [ $mine, $mine, "SELECT * FROM lp_attach_trigger('other_hires', '$account', \$\$$mapping\$\$)" ],
		lp_detach_trigger       => [ $mine, $mine, "SELECT * FROM lp_detach_trigger('hires')" ],
		lp_retry                => [ $mine, $mine, "SELECT lp_retry('{$failed}')" ],
		lp_discard              => [ $mine, $mine, "SELECT lp_discard('{$failed}')" ],
		lp_release              => [ $none, $all, "SELECT lp_release('$account')" ],
		lp_adopt                => [ $none, $all, 'SELECT lp_adopt()' ],
		lp_purge                => [ $none, $all, "SELECT lp_purge('1 day')" ],
		lp_worker_stop          => [ $none, $all, 'SELECT lp_worker_stop()' ],
		lp_worker_pid           => [ $all, $all, 'SELECT lp_worker_pid()' ],
		_lp_worker_missing      => [ $all, $all, 'SELECT _lp_worker_missing()' ],
		lp_origin               => [ $all, $all, 'SELECT lp_origin()' ],
		lp_account_is_paused    => [ $all, $all, "SELECT lp_account_is_paused('$account')" ],
		lp_report               => [ $all, $all, 'SELECT length(lp_report())' ],
		_lp_html                => [ $all, $all, "SELECT _lp_html('<')" ],
		_lp_html_table          => [ $all, $all, "SELECT _lp_html_table('x', '{x}', 'x', 'x')" ],
		_lp_duration            => [ $all, $all, 'SELECT _lp_duration(1)' ],
		_lp_chart               => [ $all, $all, "SELECT _lp_chart('x', 'created', '{today}', '{1}', '{1}', 80)" ],
		_lp_count               => [ $all, $all, 'SELECT _lp_count(1)' ],
		_lp_plain_words         => [ $all, $all, "SELECT _lp_plain_words('x')" ],
		_lp_advice              => [ $all, $all, "SELECT _lp_advice('failed', NULL, 'refused', 400, false, false)" ],
		_lp_person              => [ $all, $all, "SELECT _lp_person('x', 1, 'x', '{}', 'x')" ],
		_lp_verdict             => [ $all, $all, "SELECT _lp_verdict(1, 1, 0, 0, 0, '')" ],
		_lp_report_head         => [ $all, $all, 'SELECT _lp_report_head()' ],
		_lp_report_page         => [ $all, $all, "SELECT _lp_report_page('$account', 'today', 'today')" ],
		_lp_report_syncs        => [ $all, $all, "SELECT _lp_report_syncs('$account')" ],
		_lp_lay_change          => [ $none, $all, "SELECT _lp_lay_change('{}', '{}')" ],
		_lp_backoff             => [ $none, $all, 'SELECT _lp_backoff(1)' ],
		_lp_is_here             => [ $all, $all, "SELECT _lp_is_here('1/2/3', '1/2/4')" ],
		_lp_role_here           => [ $all, $all, "SELECT _lp_role_here('1/2/3', '1/2/4', 10, 'x')" ],
		_lp_server_here         => [ $all, $all, "SELECT _lp_server_here('1/2/3', '1/2/4', 10, 'x')" ],
		# a sync that is not there, nothing else is asked before that
		(map { $_->[0] => [ '-------(42704)', '(42704)' x 8, $_->[1] ] } (
			[ lp_sync_diff => "SELECT * FROM lp_sync_diff('none')" ], [ lp_sync_plan => "SELECT lp_sync_plan('none')" ],
			[ lp_sync_apply => 'SELECT * FROM lp_sync_apply(1)' ], [ lp_sync => "CALL lp_sync('none')" ],
			[ lp_sync_watch => "SELECT lp_sync_watch('hires', 'none', 'id')" ], [ lp_sync_unlink => "SELECT lp_sync_unlink('none', '{1}')" ],
			[ lp_sync_pause => "SELECT lp_sync_pause('none')" ], [ lp_sync_resume => "SELECT lp_sync_resume('none')" ],
			[ lp_sync_drop => "SELECT lp_sync_drop('none')" ])),
		# of the table of holder, which has no such column
		lp_sync_define          => [ '-------(42703)', '-c--(42703)c-(42703)', "SELECT * FROM lp_sync_define('mine', '$account', 'hires', 'id')" ],
		lp_sync_unwatch         => [ $none, $mine, "SELECT lp_sync_unwatch('hires')" ],
		_lp_sync_mark_trigger   => [ '(39P01)' x 8, '(39P01)' x 8, 'SELECT _lp_sync_mark_trigger()' ],
		_lp_sync_is_mine        => [ $all, $all, "SELECT _lp_sync_is_mine('x', 10, 'x', 10, '1/2/3', '1/2/3')" ],
		_lp_sync_item_state     => [ $all, $all, "SELECT _lp_sync_item_state('queued', NULL)" ],
		_lp_sync_limit          => [ $all, $all, "SELECT _lp_sync_limit('{}', 'create', 1)" ],
		_lp_sync_fold           => [ $none, $all, "SELECT _lp_sync_fold('x')" ],
		_lp_sync_entity         => [ $none, $all, "SELECT _lp_sync_entity('[]', 'new')" ],
		_lp_sync_parts          => [ $none, $all, "SELECT _lp_sync_parts('[]', 'new')" ],
		_lp_set_target          => [ $none, $all, "SELECT _lp_set_target('{}', '{}', '[]')" ],
		_lp_set_added           => [ $none, $all, "SELECT _lp_set_added('{}', '{}', '[]')" ],
		_lp_set_taken           => [ $none, $all, "SELECT _lp_set_taken('{}', '[]')" ],
		_lp_wake                => [ $none, $all, 'SELECT _lp_wake()' ]);
	same_objects('functions', "SELECT p.proname $ours JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid", [ keys %functions ]);

	my $before = $sim->count(path => '/le-users');
	matrix("$_, as installed", $functions{$_}[2], $functions{$_}[0]) foreach sort keys %functions;
	$root->query("GRANT EXECUTE ON ALL ROUTINES IN SCHEMA public TO PUBLIC");
	matrix("$_, with EXECUTE", $functions{$_}[2], $functions{$_}[1]) foreach sort keys %functions;
	# who may send, did: 5 functions twice or once, by owner, holder, and root
	is($sim->count(path => '/le-users', status => 401), 0, 'nobody came to the account without a right');
	cmp_ok($sim->count(path => '/le-users'), '>', $before, '... and those with one did');
};

subtest 'rights on tables, views, sequences and types' => sub {
	my %relations = (lp_requests => 'r', lp_payloads => 'r', lp_results => 'v', lp_summary => 'v', lp_progress => 'v', lp_requests_id_seq => 'S', lp_batch_seq => 'S',
		(map { $_ => 'r', $_ . '_id_seq' => 'S' } qw(_lp_sync _lp_sync_plan _lp_sync_item _lp_sync_watch _lp_sync_mark)), _lp_sync_link => 'r',
		(map { $_ => 'v' } qw(lp_syncs lp_sync_links lp_sync_plans lp_sync_changes)));
	my $owned = "SELECT c.relname || ' ' || c.relkind::text $ours JOIN pg_class c ON d.classid = 'pg_class'::regclass AND d.objid = c.oid";
	same_objects('relations', "$owned WHERE c.relkind <> 'c' UNION SELECT c.relname || ' S' FROM pg_class c WHERE c.relname = 'lp_requests_id_seq'",
		[ map { "$_ $relations{$_}" } keys %relations ]);
	# arrays, which belong to the extension from 17 on, have the rights of their elements
	same_objects('types', "SELECT t.typname $ours JOIN pg_type t ON d.classid = 'pg_type'::regclass AND d.objid = t.oid WHERE t.typelem = 0
		AND (t.typrelid = 0 OR EXISTS (SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind = 'c'))", ['lp_response']);
	same_objects('what else there is', "SELECT DISTINCT d.classid::regclass $ours", [qw(pg_proc pg_class pg_type pg_foreign_data_wrapper)]);

	my %privileges = (r => [qw(SELECT INSERT UPDATE DELETE TRUNCATE REFERENCES TRIGGER)], S => [qw(USAGE SELECT UPDATE)]);
	$privileges{v} = $privileges{r};
	foreach my $relation (sort keys %relations)
	{
		my $kind = $relations{$relation};
		my $function = $kind eq 'S' ? 'has_sequence_privilege' : 'has_table_privilege';
		my $have = $root->query("SELECT string_agg(r || ' ' || p, ', ' ORDER BY r, p) FROM unnest('{" . join(',', @roles[ 0 .. 6 ]) . "}'::name[]) r, unnest('{"
			  . join(',', @{ $privileges{$kind} }) . "}'::text[]) p WHERE $function(r, '$relation', p)"
			  . ($kind eq 'S' ? '' : " OR p IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES') AND has_any_column_privilege(r, '$relation', p)"));

		is($have, $kind eq 'v' ? join(', ', map { "$_ SELECT" } sort @roles[ 0 .. 6 ]) : '', "$relation: privileges");
	}
	my %statements = (
		'SELECT * FROM lp_requests' => $none, 'SELECT * FROM lp_payloads' => $none, 'DELETE FROM lp_payloads' => $none,
		"UPDATE lp_requests SET send_as = 'holder'" => $none, 'TRUNCATE lp_requests' => $none, 'LOCK TABLE lp_payloads' => $none,
		"INSERT INTO lp_payloads VALUES (1, '{}')" => $none, "SELECT nextval('lp_requests_id_seq')" => $none, "SELECT setval('lp_batch_seq', 1)" => $none,
		'SELECT * FROM lp_results' => $all, 'SELECT * FROM lp_summary' => $all, 'SELECT * FROM lp_progress' => $all,
		'DELETE FROM lp_results' => '(55000)' x 8, 'UPDATE lp_results SET error = NULL' => '(55000)' x 8, 'DELETE FROM lp_progress' => '(55000)' x 8,
		'ALTER TABLE lp_requests DISABLE TRIGGER ALL' => $none, 'DROP TABLE lp_payloads CASCADE' => '-------(2BP01)',
		'ALTER FUNCTION lp_release(text) RESET search_path' => $none, 'COMMENT ON VIEW lp_results IS NULL' => $none);
	matrix($_, $_, $statements{$_}) foreach sort keys %statements;
};

subtest 'rows that a role sees' => sub {
	my %sees = (nobody => 'hired', usage => '', mapped => '', tenant => 'by-tenant', holder => 'by-holder by-member by-table hired', member => 'by-holder by-member by-table hired',
		owner => 'by-holder by-member by-owner by-table hired', root => 'by-holder by-member by-owner by-table by-tenant hired');
	foreach my $role (@roles)
	{
		my $set = $role eq 'root' ? 'RESET ROLE' : "SET ROLE $role";
		my @seen = split(/ /, $sees{$role});
		my $queued = grep { !/by-owner|by-table/ } @seen;

		is($root->query("$set; SELECT string_agg(split_part(login_name, '\@', 1), ' ' ORDER BY login_name) FROM lp_results"), $sees{$role}, "lp_results: $role sees '$sees{$role}'");
		is($root->query('SELECT coalesce(sum(requests), 0) FROM lp_summary'), scalar(@seen), "lp_summary: $role has as many");
		is($root->query('SELECT coalesce(sum(pending + sending + uncertain + held + created + done + failed), 0) FROM lp_progress'), $queued, "lp_progress: $role has those of the queue");
		$root->query('RESET ROLE');
	}
};

# ---------------------------------------------------------------------------------------------- server, mapping and their options

sub known_options
{
	my ($sql) = @_;
	my (undef, $err) = $root->run($sql);

	return [ $err =~ /^HINT:  Valid options are: (.*)\.$/m ? split(/, /, $1) : "no list: $err" ];
}

subtest 'rights on servers, mappings and options' => sub {
	# Each option: a clause that sets it, and may only a superuser?
	my %server_options = (
		account => [ "SET account 'other'" ], domain => [ "ADD domain 'va.ac.liveperson.net'" ], base_url => [ "ADD base_url 'https://example.com'", 1 ],
		domain_api_url => [ "ADD domain_api_url 'https://example.com'", 1 ], login_url => [ "ADD login_url 'https://example.com'", 1 ],
		token_url => [ "ADD token_url 'https://example.com/t'", 1 ], api_version => [ "ADD api_version '5.0'" ], connect_timeout => [ "ADD connect_timeout '1s'" ],
		timeout => [ "ADD timeout '1s'" ], batch_size => [ "ADD batch_size '5'" ], if_match => [ "ADD if_match 'off'" ], max_list_size => [ "ADD max_list_size '1MB'" ],
		updatable => [ "ADD updatable 'off'" ], max_connections => [ "ADD max_connections '5'" ], rate_limit => [ "ADD rate_limit '5'" ],
		max_retries => [ "ADD max_retries '5'" ], max_response_size => [ "ADD max_response_size '1MB'" ], hold_above => [ "ADD hold_above '5'" ],
		delivery => [ "ADD delivery 'paused'" ], require_password => [ "ADD require_password 'off'" ], ca_file => [ "ADD ca_file '/etc/passwd'", 1 ],
		proxy => [ "ADD proxy 'http://127.0.0.1:1'", 1 ]);
	my %mapping_options = (
		client_id => [ "client_id 'x', client_secret 'y'" ], client_secret => [ "client_secret 'y', client_id 'x'" ], client_secret_file => [ "client_id 'x', client_secret_file '/y'", 1 ],
		token => [ "token 'x'" ], token_file => [ "token_file '/x'", 1 ], username => [ "username 'x', password 'y'" ], password => [ "password 'x', username 'x'" ],
		password_file => [ "username 'x', password_file '/y'", 1 ], proxy_user => [ "token 'x', proxy_user 'x', proxy_password 'y'" ],
		proxy_password => [ "token 'x', proxy_password 'y', proxy_user 'x'" ], proxy_password_file => [ "token 'x', proxy_user 'x', proxy_password_file '/x'", 1 ]);
	same_names('server options', known_options("ALTER SERVER plain OPTIONS (ADD x_________________x '1')"), [ keys %server_options ]);
	same_names('mapping options', known_options("CREATE USER MAPPING FOR CURRENT_USER SERVER plain OPTIONS (x_________________x '1')"), [ keys %mapping_options ]);
	foreach my $option (sort keys %server_options)
	{
		my ($clause, $superuser) = @{ $server_options{$option} };

		matrix("server option $option", "ALTER SERVER plain OPTIONS ($clause)", $superuser ? $none : '---+---+');
		# beside an option of the superuser nothing is for others: it could turn it against its purpose
		$clause =~ s/^ADD/SET/ if $option eq 'base_url';
		matrix("server option $option beside base_url", "ALTER SERVER acme OPTIONS ($clause)", $option eq 'domain' ? '-------(HV024)' : $none);
	}
	foreach my $option (sort keys %mapping_options)
	{
		my ($clause, $superuser) = @{ $mapping_options{$option} };

		# one's own with USAGE; that of any role by the owner of the server
		matrix("mapping option $option", "CREATE USER MAPPING FOR CURRENT_USER SERVER plain OPTIONS ($clause)", $superuser ? $none : '-+-+++-+');
		matrix("mapping option $option of somebody else", "CREATE USER MAPPING FOR PUBLIC SERVER plain OPTIONS ($clause)", $superuser ? $none : '---+---+');
	}
	my %ddl = (
		"CREATE SERVER s FOREIGN DATA WRAPPER lpusers OPTIONS (account '1')" => '---+--++', 'DROP SERVER acme CASCADE' => '---+---+',
		'ALTER FOREIGN DATA WRAPPER lpusers NO VALIDATOR' => $none, 'DROP USER MAPPING FOR holder SERVER acme' => '---++--+',
		'CREATE FOREIGN TABLE free.users (id bigint) SERVER acme OPTIONS (resource $$users$$)' => '-+-+++-+',
		'IMPORT FOREIGN SCHEMA liveperson FROM SERVER acme INTO free' => '-+-+++-+',
		"ALTER FOREIGN TABLE lp.users OPTIONS (SET resource 'skills')" => $mine, "ALTER FOREIGN TABLE lp.users ALTER id OPTIONS (ADD attribute 'pid')" => $mine);
	matrix($_, $_, $ddl{$_}) foreach sort keys %ddl;
};

subtest 'rights on foreign tables' => sub {
	# Reading is as core has it for every foreign table: a right to the table, and a mapping. Writing needs EXECUTE on the function,
	# which PUBLIC has by now, and USAGE on the server; an UPDATE or DELETE begins to read first.
	$sim->post('config', { unique => JSON::PP::false });
	my $insert = "INSERT INTO lp.users (login_name, email, full_name, nickname, password_sh, is_enabled, max_chats, profile_ids) VALUES ('x\@x', 'x\@x', 'x', 'x', 'Start-1234', true, 3, '{1}')";
	my %foreign = (
		'SELECT * FROM lp.users' => [ '----+c-+', 'cc+++cc+' ], "SELECT * FROM lp.users WHERE id = $user_id" => [ '----+c-+', 'cc+++cc+' ], 'SELECT * FROM lp.skills' => [ '----+c-+', 'cc+++cc+' ],
		$insert => [ '----+c-+', '-c-++c-+' ], "UPDATE lp.users SET max_chats = 4, full_name = 'x' WHERE id = $user_id" => [ '----+c-+', 'cc-++cc+' ],
		"DELETE FROM lp.users WHERE id = $user_id" => [ '----+c-+', 'cc-++cc+' ], 'TRUNCATE lp.users' => [ '(0A000)' x 8, '(0A000)' x 8 ],
		# the view of holder asks as holder
		'SELECT * FROM lp.as_holder' => [ $all, $all ], 'SELECT * FROM lp.as_caller' => [ '----+c-+', 'cc+++cc+' ]);
	matrix("$_: without a right to the table", $_, $foreign{$_}[0]) foreach sort keys %foreign;
	$root->query('GRANT ALL ON ALL TABLES IN SCHEMA lp TO PUBLIC');
	matrix("$_: with a right to the table", $_, $foreign{$_}[1]) foreach sort keys %foreign;
	$root->query('REVOKE ALL ON ALL TABLES IN SCHEMA lp FROM PUBLIC');
};

subtest 'objects planted in the search_path are not used' => sub {
	# 010 has the calls, 025 the queue and its worker; here everything that runs as another role, and the trigger.
	is($root->query("SELECT string_agg(p.proname, ' ' ORDER BY 1) $ours JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid WHERE p.prosecdef
		AND p.proconfig IS DISTINCT FROM '{\"search_path=pg_catalog, pg_temp\"}'"), '', 'each definer function has a fixed search_path');
	is($root->query("SELECT string_agg(p.proname, ' ' ORDER BY 1) $ours JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid JOIN pg_language l ON l.oid = p.prolang
		WHERE l.lanname = 'plpgsql' AND p.proconfig[1] IS DISTINCT FROM 'search_path=pg_catalog, pg_temp'"), '', '... and so has all PL/pgSQL, which the worker runs');

	$root->query('CREATE ROLE eve');
	$root->query(LpTraps::sql('eve'));
	$root->query(q{GRANT INSERT ON hires TO eve; GRANT USAGE ON FOREIGN SERVER acme TO eve; CREATE USER MAPPING FOR eve SERVER acme OPTIONS (token 'lp-token');
		SET ROLE holder; GRANT SELECT ON lp.as_holder, lp.users TO eve; CREATE TABLE sync_hires (login text); GRANT INSERT ON sync_hires TO eve;
		RESET ROLE});
	$root->query("SET ROLE holder; SELECT lp_attach_trigger('sync_hires', '$account', \$\$$mapping\$\$, mode => 'sync'); RESET ROLE");
	is($root->query("SELECT count(*) $ours JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid WHERE p.prosecdef"), 0, 'no function is SECURITY DEFINER');
	my @definers = qw(lp_adopt lp_purge lp_release);		# which act as the owner of the tables
	foreach my $path ('evil, pg_catalog, public', 'pg_temp, evil, pg_catalog, public')
	{
		my $eve = LpUsers::session($node);
		my @calls = map { $functions{$_}[2] =~ s/\b(lp_\w+\()/public.$1/r } @definers, qw(lp_enqueue_users lp_create_users lp_delete_users lp_check lp_validate_users lp_deliver);
		my $n = length($path);

		$eve->query("SET ROLE eve; SET search_path = $path; CREATE TEMP TABLE lp_requests (id pg_catalog.int8); CREATE TEMP TABLE lp_payloads (id pg_catalog.int8);
			CREATE TEMP TABLE pg_foreign_server (oid pg_catalog.oid); CREATE TEMP TABLE hires (login pg_catalog.text)");
		push @calls, "INSERT INTO public.hires VALUES ('queue$n\@example.com')", "INSERT INTO public.sync_hires VALUES ('sync$n\@example.com')",
		  'SELECT pg_catalog.count(*) FROM lp.as_holder', 'SELECT pg_catalog.count(*) FROM lp.users', 'SELECT pg_catalog.count(*) FROM public.lp_results',
		  'SELECT pg_catalog.count(*) FROM public.lp_progress', 'SELECT pg_catalog.count(*) FROM public.lp_summary';
		foreach my $call (@calls)
		{
			my (undef, $err) = $eve->run($call);
			is($err =~ /^(ERROR.*)/m ? $1 : '', '', 'as eve, under ' . "$path: " . substr($call, 0, 60));
		}
		is($sim->users_with("sync$n\@example.com"), 1, "under $path: the trigger has created its user");
		is($root->query("SELECT state, send_as, requested_by FROM lp_requests WHERE login_name = 'queue$n\@example.com'"), 'pending|holder|eve', "under $path: and queued the other");
		$eve->quit;
	}
	is($root->query('SELECT string_agg(DISTINCT who || $$ $$ || what, $$, $$) FROM evil.sprung'), '', 'no trap sprang');
	is(join(' ', LpUsers::log_since($node, 0) =~ /(trap \S+ sprung by \w+)/g), '', '... nor in what was rolled back');
	$root->query("SET ROLE eve; SET search_path = evil, pg_catalog; SELECT 'a'::pg_catalog.text = 'b'; RESET search_path; RESET ROLE");
};

like(LpUsers::log_since($node, 0), qr/trap = sprung by eve/, '... and they would have');
unlike(LpUsers::log_since($node, 0), qr/terminated by signal|TRAP:|PANIC:/, 'nothing crashed');

done_testing();

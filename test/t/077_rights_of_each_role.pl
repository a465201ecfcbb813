# The matrix of privileges, test/privileges.matrix: what each role gets for each statement on each object of the extension, tried in
# a session of that role. Objects come from the catalogs: one without a line fails, as does a line without an object.
#
# Three passes: as installed; installed under default privileges that grant everything to PUBLIC, which makes no difference; and
# after GRANT ALL on all tables, routines and sequences of the schema to PUBLIC. LPUSERS_MATRIX=1 prints the lines as they are.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LpUsers;
use PostgreSQL::Test::Utils;
use Test::More;

my $account = '12345678';
my $sim     = LpUsers::account();
my $node    = LpUsers::server(conf => "lpusers.worker = off\nlog_min_messages = fatal\n");
my $version = $node->safe_psql('postgres', "SELECT current_setting('server_version_num')::int / 10000");

# What the predefined roles are called in the matrix, and since when they are there.
my %predefined = (read => [ 'pg_read_all_data', 15 ], write => [ 'pg_write_all_data', 15 ], monitor => [ 'pg_monitor', 15 ],
	signal => [ 'pg_signal_backend', 15 ], subscr => [ 'pg_create_subscription', 16 ], maintain => [ 'pg_maintain', 17 ]);
my @plain = qw(nobody clerk tenant hr owner dbo);

# ---------------------------------------------------------------------------------------------- the file

# Lines of three or four parts: object | statement | outcomes as installed | outcomes after GRANT, if they differ.
my (@columns, @lines);

# "-/+17": + since 17.
sub of_version
{
	my ($outcome) = @_;
	my ($before, $since, $from) = $outcome =~ m{^(.+)/(.+?)(1\d)$} or return $outcome;

	return $version >= $from ? $since : $before;
}

subtest 'the matrix can be read' => sub {
	foreach my $line (split(/\n/, slurp_file("$LpUsers::top/test/privileges.matrix")))
	{
		next if $line =~ /^#|^\s*$/;
		my ($object, $statement, @outcomes) = map { s/^\s+|\s+$//gr } split(/ \| /, $line);

		if ($object eq 'object') { @columns = split(/\s+/, $outcomes[0]); next; }
		push @lines, { object => $object, statement => $statement, text => $line,
			installed => [ map { of_version($_) } split(/\s+/, $outcomes[0]) ], granted => [ map { of_version($_) } split(/\s+/, $outcomes[1] // $outcomes[0]) ] };
	}
	is(join(' ', sort @columns), join(' ', sort @plain, keys %predefined, 'root'), 'columns of the matrix');
};

my @roles = grep { !$predefined{$_} || $predefined{$_}[1] <= $version } @columns;
my %place = map { $columns[$_] => $_ } 0 .. $#columns;

# ---------------------------------------------------------------------------------------------- the scene

# "dbo" owns the database, "owner" the extension, which it created as a superuser; "hr" a table with the trigger, a sync, and the
# foreign tables; "clerk" writes to that table and may call functions; "tenant" has a server and a table of its own.
$node->safe_psql('postgres', join('; ', map { "CREATE ROLE $_ LOGIN" } @plain, map { $predefined{$_}[1] <= $version ? $_ : () } sort keys %predefined)
	  . '; CREATE ROLE root LOGIN SUPERUSER; ALTER ROLE owner SUPERUSER');
$node->safe_psql('postgres', "GRANT $predefined{$_}[0] TO $_") foreach grep { $predefined{$_} } @roles;
my $mapping = qq({"loginName": "login", "email": "login", "nickname": "login", "fullName": "login", "passwordSh": "'Start-1234'", "isEnabled": "true",
	"maxChats": "3", "profileIds": "ARRAY[1]"});

sub scene
{
	my ($db, $before) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $db OWNER dbo");
	my $owner = LpUsers::session($node, db => $db, role => 'owner');
	$owner->query("$before; CREATE EXTENSION lpusers");
	$owner->quit;
	my $root = LpUsers::session($node, db => $db, role => 'root');
	$root->query(qq{
		CREATE SERVER acme FOREIGN DATA WRAPPER lpusers OPTIONS (account '$account', base_url '$sim->{url}');
		CREATE SERVER other FOREIGN DATA WRAPPER lpusers OPTIONS (account 'other', base_url '$sim->{url}'); ALTER SERVER other OWNER TO tenant;
		GRANT USAGE ON FOREIGN SERVER acme TO hr, clerk;
		CREATE USER MAPPING FOR hr SERVER acme OPTIONS (token 'lp-token'); CREATE USER MAPPING FOR clerk SERVER acme OPTIONS (token 'lp-token');
		CREATE USER MAPPING FOR root SERVER acme OPTIONS (token 'lp-token'); CREATE USER MAPPING FOR tenant SERVER other OPTIONS (token 'lp-token');
		GRANT EXECUTE ON FUNCTION lp_create_users, lp_enqueue_users TO clerk;
		GRANT EXECUTE ON FUNCTION lp_create_users, lp_update_users, lp_delete_users, lp_enqueue_users, lp_enqueue_changes, lp_enqueue_deletes,
			lp_enqueue_rows, lp_create_users_trigger, lp_sync_define, lp_sync_diff, lp_sync_plan, lp_sync_apply, lp_sync_unlink, lp_sync_pause,
			lp_sync_resume, lp_sync_drop, lp_sync_watch, lp_sync_unwatch TO hr, tenant;
		GRANT EXECUTE ON PROCEDURE lp_sync TO hr, tenant;
		CREATE SCHEMA hr AUTHORIZATION hr; CREATE SCHEMA tenant AUTHORIZATION tenant; CREATE SCHEMA free; GRANT ALL ON SCHEMA free TO PUBLIC;
		GRANT USAGE ON SCHEMA hr, tenant TO PUBLIC;
		SET ROLE hr; IMPORT FOREIGN SCHEMA liveperson FROM SERVER acme INTO hr;
		CREATE TABLE hr.hires (login text); CREATE TABLE hr.free (login text); GRANT INSERT ON hr.hires TO clerk;
		CREATE TABLE hr.staff (id int PRIMARY KEY, login_name text, full_name text, employee_id text, password_sh text);
		SELECT lp_attach_trigger('hr.hires', '$account', \$\$$mapping\$\$);
		SELECT lp_sync_define('staff', '$account', 'hr.staff', 'id');
		SELECT count(*) FROM lp_enqueue_users('$account', '[${\ LpUsers::user('by-hr')}]');
		SET ROLE clerk; INSERT INTO hr.hires VALUES ('hired\@example.com');
		SET ROLE tenant; CREATE TABLE tenant.hires (login text);
		SELECT lp_attach_trigger('tenant.hires', 'other', \$\$$mapping\$\$);
		SELECT count(*) FROM lp_enqueue_users('other', '[${\ LpUsers::user('by-tenant')}]');
		RESET ROLE;
		ALTER TABLE lp_requests DISABLE TRIGGER ALL; UPDATE lp_requests SET state = 'failed', cause = 'refused', finished_at = now() WHERE id = 1;
		ALTER TABLE lp_requests ENABLE TRIGGER ALL;
		INSERT INTO _lp_sync_plan (sync, made_by, whole, source_rows, listed, version) VALUES (1, 'hr', true, 0, 0, 1);
		INSERT INTO _lp_sync_link (sync, source_key, user_id, state, by_us) VALUES (1, '1', 5, 'active', true);
		INSERT INTO _lp_sync_item (plan, sync, action, state) VALUES (1, 1, 'create', 'planned')});
	return $root;
}

$sim->post('config', { unique => JSON::PP::false });
my $grant_all = join('; ', map { "ALTER DEFAULT PRIVILEGES $_" } map { my $where = $_; map { "${where}GRANT ALL ON $_ TO PUBLIC" } qw(TABLES SEQUENCES FUNCTIONS TYPES) }
	  '', 'FOR ROLE owner ');
my %root = (plain => scene('plain', 'SELECT 1'),
	defaults => scene('defaults', "$grant_all; ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO PUBLIC"));
$node->safe_psql('postgres', 'ALTER ROLE owner NOSUPERUSER');

# ---------------------------------------------------------------------------------------------- the objects

my $members = q{FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'lpusers'};
my $objects = qq{
	SELECT CASE p.prokind WHEN 'p' THEN 'procedure ' ELSE 'function ' END || p.oid::regprocedure $members JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
	UNION ALL SELECT CASE c.relkind WHEN 'r' THEN 'table ' WHEN 'v' THEN 'view ' WHEN 'S' THEN 'sequence ' ELSE c.relkind::text || ' ' END || c.oid::regclass
		$members JOIN pg_class c ON d.classid = 'pg_class'::regclass AND d.objid = c.oid WHERE c.relkind <> 'c'
	-- of identity columns
	UNION SELECT 'sequence ' || s.objid::regclass $members JOIN pg_depend s ON s.refclassid = 'pg_class'::regclass AND s.refobjid = d.objid AND s.deptype = 'i'
		AND s.classid = 'pg_class'::regclass JOIN pg_class q ON q.oid = s.objid AND q.relkind = 'S' WHERE d.classid = 'pg_class'::regclass
	-- the types of tables and views, and arrays, have the rights of these and of their elements
	UNION ALL SELECT 'type ' || t.oid::regtype $members JOIN pg_type t ON d.classid = 'pg_type'::regclass AND d.objid = t.oid WHERE t.typelem = 0
		AND (t.typrelid = 0 OR EXISTS (SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind = 'c'))
	UNION ALL SELECT 'wrapper ' || w.fdwname $members JOIN pg_foreign_data_wrapper w ON d.classid = 'pg_foreign_data_wrapper'::regclass AND d.objid = w.oid
	UNION ALL SELECT 'other ' || pg_describe_object(d.classid, d.objid, 0) $members
		WHERE d.classid NOT IN ('pg_proc'::regclass, 'pg_class'::regclass, 'pg_type'::regclass, 'pg_foreign_data_wrapper'::regclass)};
my @found = split(/\n/, $root{plain}->query($objects));

# The kinds of statement that each object of a kind must have a line for.
my %needed = (function => ['call'], procedure => ['call'], type => [ 'use', 'alter', 'drop' ], wrapper => [ 'use', 'alter', 'drop' ],
	table => [qw(select insert update delete truncate lock trigger references reindex alter drop)], view => [qw(select insert update delete truncate trigger alter drop)],
	sequence => [qw(select nextval setval alter drop)]);

# A column that can be written, and what an INSERT and an UPDATE take for it.
sub column_of
{
	my ($relation) = @_;

	return split(/\|/, $root{plain}->query("SELECT quote_ident(attname), format('NULL::%s', atttypid::regtype) FROM pg_attribute WHERE attrelid = '$relation'::regclass
		AND attnum > 0 AND attidentity = '' ORDER BY attnum LIMIT 1"));
}

# Statements that are refused before anything happens, or change nothing.
my %sql_of = (
	table => sub {
		my ($t) = @_;
		my ($column, $null) = column_of($t);
		my ($key, $types) = split(/\|/, $root{plain}->query("SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum), string_agg(format('%I %s', a.attname, a.atttypid::regtype
			|| CASE WHEN a.attcollation <> 0 THEN ' COLLATE \"C\"' ELSE '' END), ', ' ORDER BY a.attnum)
			FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) WHERE i.indisprimary AND i.indrelid = '$t'::regclass"));
		return (select => "SELECT $column FROM $t LIMIT 1", insert => "INSERT INTO $t ($column) SELECT $null WHERE false", update => "UPDATE $t SET $column = DEFAULT WHERE false",
			delete => "DELETE FROM $t WHERE false", truncate => "TRUNCATE $t", lock => "LOCK TABLE $t IN ACCESS EXCLUSIVE MODE",
			trigger => "CREATE TRIGGER x BEFORE INSERT ON $t EXECUTE FUNCTION suppress_redundant_updates_trigger()",
			references => "CREATE TABLE free.x ($types, FOREIGN KEY ($key) REFERENCES $t ($key))", reindex => "REINDEX TABLE $t",
			alter => "ALTER TABLE $t SET (fillfactor = 90)", drop => "DROP TABLE $t");
	},
	view => sub {
		my ($v) = @_;
		my ($column, $null) = column_of($v);
		return (select => "SELECT $column FROM $v LIMIT 1", insert => "INSERT INTO $v ($column) SELECT $null WHERE false", update => "UPDATE $v SET $column = $null WHERE false",
			delete => "DELETE FROM $v WHERE false", truncate => "TRUNCATE $v", trigger => "CREATE TRIGGER x INSTEAD OF INSERT ON $v FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
			alter => "ALTER VIEW $v SET (security_barrier = false)", drop => "DROP VIEW $v");
	},
	sequence => sub {
		my ($s) = @_;
		return (select => "SELECT last_value FROM $s", nextval => "SELECT nextval('$s')", setval => "SELECT setval('$s', 1000)", alter => "ALTER SEQUENCE $s CACHE 2", drop => "DROP SEQUENCE $s");
	},
	type => sub { my ($t) = @_; return (use => "CREATE TABLE free.x (x $t)", alter => "ALTER TYPE $t ADD ATTRIBUTE x int", drop => "DROP TYPE $t"); },
	wrapper => sub {
		my ($w) = @_;
		return (use => "CREATE SERVER x FOREIGN DATA WRAPPER $w OPTIONS (account '1')", alter => "ALTER FOREIGN DATA WRAPPER $w NO VALIDATOR", drop => "DROP FOREIGN DATA WRAPPER $w");
	});

# ---------------------------------------------------------------------------------------------- lines and objects

my %statements = map { /^(\S+) (.*)/ ? ($_ => $sql_of{$1} ? { $sql_of{$1}->($2) } : {}) : () } @found;

# The SQL of a line; a call is written out in the file.
sub sql_of { my ($line) = @_; return $statements{ $line->{object} }{ $line->{statement} } // $line->{statement}; }

subtest 'each object has a line, and each line an object' => sub {
	my %lines_of;
	push @{ $lines_of{ $_->{object} } }, $_ foreach @lines;
	is(join(', ', grep { !$lines_of{$_} } sort @found), '', 'each object has a line in test/privileges.matrix');
	is(join(', ', grep { !exists $statements{$_} && !/^also / } sort keys %lines_of), '', 'each line has an object');
	foreach my $object (sort keys %statements)
	{
		my ($kind) = $object =~ /^(\S+)/;
		my %has = map { $_->{statement} => 1 } @{ $lines_of{$object} // [] };

		# of a function there may be several calls
		next if $kind =~ /function|procedure/ && %has;
		is(join(' ', grep { !$has{$_} } @{ $needed{$kind} // ['?'] }), '', "$object: each kind of statement has a line");
	}
};

# ---------------------------------------------------------------------------------------------- trying

# Each statement in a subtransaction that is rolled back; CALL, which must not be in one, by itself.
my $attempt = q{CREATE FUNCTION pg_temp.attempt(sql text) RETURNS text LANGUAGE plpgsql AS $f$ BEGIN
	EXECUTE sql;
	RAISE SQLSTATE 'LPU00';
EXCEPTION WHEN OTHERS THEN RETURN CASE SQLSTATE WHEN 'LPU00' THEN '+' WHEN '42501' THEN '-' WHEN '28000' THEN 'c' ELSE SQLSTATE END; END $f$};

# The number of rows that a role sees
sub outcome_of_call
{
	my ($session, $sql) = @_;
	my (undef, $err) = $session->run($sql);
	my ($code) = $err =~ /(?:ERROR|FATAL):  (\w{5}):/;

	return !defined $code ? '+' : $code eq '42501' ? '-' : $code eq '28000' ? 'c' : $code;
}

sub try_role
{
	my ($db, $role) = @_;
	my $session = LpUsers::session($node, db => $db, role => $role);
	my @outcomes;

	$session->query("SET client_min_messages = error; SET lock_timeout = '5s'; $attempt");
	my @together = grep { sql_of($lines[$_]) !~ /^CALL|^rows of/ } 0 .. $#lines;
	my @got = split(/\n/, $session->query('SELECT pg_temp.attempt(s) FROM unnest(ARRAY[' . join(",\n", map { '$q$' . sql_of($lines[$_]) . '$q$' } @together)
		  . ']) WITH ORDINALITY u (s, n) ORDER BY n'));
	@outcomes[@together] = @got;
	foreach my $i (grep { sql_of($lines[$_]) =~ /^CALL|^rows of/ } 0 .. $#lines)
	{
		my $sql = sql_of($lines[$i]);

		$outcomes[$i] = $sql =~ /^rows of (.*)/ ? $session->query("SELECT count(*) FROM $1") : outcome_of_call($session, $sql);
	}
	$session->quit;
	return @outcomes;
}

sub try_all_roles
{
	my ($db, $what, $kind) = @_;
	my %got = map { $_ => [ try_role($db, $_) ] } @roles;

	foreach my $i (0 .. $#lines)
	{
		my $line = $lines[$i];
		my @is = map { $got{$_}[$i] // '?' } @roles;

		is(join(' ', @is), join(' ', map { $line->{$kind}[ $place{$_} ] // '?' } @roles), "$what: $line->{object}, $line->{statement}") or diag("roles: @roles");
		$line->{"got $kind"} = join(' ', @is) if $ENV{LPUSERS_MATRIX};
	}
	return;
}

subtest 'each statement as each role' => sub {
	try_all_roles('plain', 'as installed', 'installed');

	# The query of docs/security.md names the roles that can write to the account: those that get a + here, and no others.
	my $writes = qr/^(?:function[ ]lp_(?:(?:create|update|delete)_users\(|reset_password|enqueue_|attach_trigger|release|adopt|sync_apply)
	|table[ ]\S+[ ][|][ ](?:insert|update|trigger)|also[ ]the[ ](?:foreign[ ])?table[ ])/x;
	my ($query) = grep { $_->{code} =~ /^SELECT r.rolname AS role/m } LpUsers::document_blocks('docs/security.md');
	my %writers;
	foreach my $line (grep { "$_->{object} | $_->{statement}" =~ $writes && $_->{statement} !~ /^SELECT count/ } @lines)
	{
		$writers{$_} = 1 foreach grep { $line->{installed}[ $place{$_} ] eq '+' } @roles;
	}
	is(join(' ', sort grep { $_ ne 'root' } keys %writers), 'clerk hr owner write', 'roles that can write to the account');
	is($root{plain}->query("SELECT string_agg(DISTINCT role, ' ' ORDER BY role) FROM (" . $query->{code} =~ s/^RESET ROLE;\n//r =~ s/;\s*\z//r . ") q WHERE server = 'acme'"),
		'clerk hr owner write', 'the query of docs/security.md names them');
	try_all_roles('defaults', 'under default privileges', 'installed');
	$root{plain}->query('GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO PUBLIC; GRANT ALL ON ALL ROUTINES IN SCHEMA public TO PUBLIC');
	try_all_roles('plain', 'everything granted', 'granted');
	if ($ENV{LPUSERS_MATRIX})
	{
		diag(join(' | ', $_->{object}, $_->{statement}, $_->{'got installed'}, $_->{'got granted'} eq $_->{'got installed'} ? () : $_->{'got granted'})) foreach @lines;
	}

	# The worker is a process of the superuser: the role that may signal processes cannot end it.
	$sim->post('faults', { method => 'POST', path => '/users', action => 'hold', times => 0 });
	$node->safe_psql('postgres', $_) foreach 'ALTER SYSTEM SET lpusers.worker = on', 'SELECT pg_reload_conf()';
	LpUsers::wait_for(sub { $root{plain}->query('SHOW lpusers.worker') eq 'on' }, 'the setting');
	$root{plain}->query("SELECT lp_enqueue_users('$account', '[" . LpUsers::user('held') . "]')");
	my $pid = LpUsers::wait_for(sub { $root{plain}->query("SELECT lp_worker_pid() FROM lp_requests WHERE state = 'sending' AND login_name = 'held\@example.com'") }, 'the worker');
	foreach my $role (grep { $_ ne 'root' } @roles)
	{
		my $session = LpUsers::session($node, db => 'plain', role => $role);

		foreach my $function ('pg_cancel_backend', 'pg_terminate_backend')
		{
			is(outcome_of_call($session, "SELECT $function($pid)"), '-', "$function() of the worker by $role");
		}
		$session->quit;
	}
	$sim->remove('faults');
	LpUsers::wait_for(sub { $root{plain}->query("SELECT state FROM lp_requests WHERE login_name = 'held\@example.com'") eq 'created' }, 'the worker to deliver');

	$_->quit foreach values %root;
	$sim->stop;
};

done_testing();

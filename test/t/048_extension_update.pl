# Updates: from each released version, and a made-up earlier one, to what a fresh installation has.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use Digest::SHA;
use File::Copy;
use File::Path qw(make_path);
use LpUsers;
use PostgreSQL::Test::Utils;
use Test::More;

my $catalog = slurp_file("$LpUsers::top/test/upgrade/catalog.sql");

# ------------------------------------------------------------------------------------------------- frozen scripts

# Run check_released in a tree that has these files.
sub check_released
{
	my (%files) = @_;
	my $dir = PostgreSQL::Test::Utils::tempdir();

	make_path("$dir/src", "$dir/test");
	append_to_file("$dir/$_", $files{$_}) foreach keys %files;
	my $out = qx($^X "$LpUsers::top/test/check_released" "$dir" 2>&1);
	return ($? >> 8, $out);
}

subtest 'released scripts are unchanged' => sub {
	my $script   = "CREATE TABLE t ();\n";
	my $sum      = Digest::SHA::sha256_hex($script);
	my $open     = "## 1.1.0 (unreleased)\n\n## 1.0.0 (2026-12-01)\n";
	my $install  = 'src/lpusers--1.0.sql';

	my $list = "# a comment\n\n$sum  $install\n";
	my %good = ('CHANGELOG.md' => $open, 'test/released.sha256' => $list, $install => $script);

	foreach my $case (
		[ 'as released', 0, qr/^check_released: 1 scripts, 1\.1 may still change$/ ],
		[ 'with scripts of the next version', 0, qr/^check_released/, 'src/lpusers--1.1.sql' => '', 'src/lpusers--1.0--1.1.sql' => '' ],
		[ 'changed', 1, qr/^src\/lpusers--1\.0\.sql was released and has changed/, $install => "CREATE TABLE t (i int);\n" ],
		[ 'gone', 1, qr/^src\/lpusers--1\.0\.sql was released and is not there/, $install => undef ],
		[ 'not listed', 1, qr/^src\/lpusers--1\.0\.sql belongs to version 1\.0, which is released/, 'test/released.sha256' => "#\n" ],
		[ 'the next version is out', 1, qr/^src\/lpusers--1\.0--1\.1\.sql belongs to version 1\.1/, 'CHANGELOG.md' => "## 1.1.0 (2027-01-01)\n",
			'src/lpusers--1.0--1.1.sql' => '' ],
		[ 'a list that cannot be read', 1, qr/cannot be read: src/, 'test/released.sha256' => "$install $sum\n" ])
	{
		my ($what, $status, $says, %other) = @$case;
		my %files = (%good, %other);

		delete $files{$_} foreach grep { !defined $files{$_} } keys %files;
		my ($got, $out) = check_released(%files);
		is($got, $status, "released scripts, $what: status $status");
		like($out, qr/$says/m, "released scripts, $what: it says so");
	}
	is(system($^X, "$LpUsers::top/test/check_released"), 0, 'our own released scripts');
};

# ------------------------------------------------------------------------------------------------- a made-up version

my $node = LpUsers::server();
my ($newest) = $node->safe_psql('postgres', "SELECT default_version FROM pg_available_extensions WHERE name = 'lpusers'");
chomp(my $sharedir = qx(pg_config --sharedir));
my $extensions = "$sharedir/extension";
my @made_up = map { "$extensions/$_" } ('lpusers--0.9.sql', 'lpusers--0.9--1.0.sql');

# lpusers--0.9.sql and its update, where the server looks for them; they go with the test.
sub make_up
{
	append_to_file($made_up[0], slurp_file("$LpUsers::top/src/lpusers--1.0.sql") . slurp_file("$LpUsers::top/test/upgrade/undo-0.9.sql"));
	copy("$LpUsers::top/test/upgrade/lpusers--0.9--1.0.sql", $made_up[1]) or die "copy: $!";
	return;
}

END
{
	my $status = $?;
	unlink(@made_up) if @made_up;
	$? = $status;
}

my @versions = grep { $_ ne $newest }
  map { m{src/lpusers--([^-]+)\.sql$} } split(/\n/, slurp_file("$LpUsers::top/test/released.sha256"));
if (-w $extensions)
{
	unlink(@made_up);
	make_up();
	push @versions, '0.9';
}
else
{
	note("$extensions cannot be written to: no made-up version");
}

# ------------------------------------------------------------------------------------------------- updates

sub listing { my ($db) = @_; return $node->safe_psql($db, $catalog); }

# What differs, as lines of a diff.
sub difference
{
	my ($from, $to) = @_;
	my %from = map { $_ => 1 } split(/\n/, $from);
	my %to   = map { $_ => 1 } split(/\n/, $to);

	return join("\n", (map { "- $_" } grep { !$to{$_} } sort keys %from), (map { "+ $_" } grep { !$from{$_} } sort keys %to));
}

my $fresh = listing('postgres');

subtest 'an update gives what a fresh installation has' => sub {
	like($fresh, qr/^view public\.lp_results \| definition/m,             'the listing has views');
	like($fresh, qr/^table public\.lp_requests \| column 1 \| id bigint/m, '... columns');
	unlike($fresh, qr/NOT COMPARED/, '... and knows every kind of object that belongs to the extension');

	my $rows = "SELECT r.login_name, r.state, r.attempts, p.body FROM lp_requests r JOIN lp_payloads p ON p.request_id = r.id ORDER BY r.id";
	foreach my $version (@versions)
	{
		my $db = "from_$version";

		$node->safe_psql('postgres', qq{CREATE DATABASE "$db"});
		$node->safe_psql($db, qq{CREATE EXTENSION lpusers VERSION '$version';
			INSERT INTO lp_requests (account, operation, path, requested_by, send_as, login_name, state, cause, attempts)
				SELECT 'a', 'create', 'queue', 'x', 'x', 'u' || i, 'failed', 'refused', i FROM generate_series(1, 3) i;
			INSERT INTO lp_payloads (request_id, body) SELECT id, '{}' FROM lp_requests});
		my $before = $node->safe_psql($db, $rows);

		isnt(difference(listing($db), $fresh), '', "$version is not $newest");
		$node->safe_psql($db, 'ALTER EXTENSION lpusers UPDATE');
		is($node->safe_psql($db, "SELECT extversion FROM pg_extension WHERE extname = 'lpusers'"), $newest, "$version becomes $newest");
		is(difference(listing($db), $fresh), '', "$version updated is as $newest installed");
		is($node->safe_psql($db, $rows), $before, "$version: the requests are kept");
		is($node->safe_psql($db, "SELECT count(*) > 0 FROM lp_validate_users('[{}]')"), 't', "$version: it works");
	}
};

subtest 'an update keeps rights, comments and configuration tables' => sub {
	foreach my $slip (
		"COMMENT ON FUNCTION _lp_wake() IS 'x'", "COMMENT ON COLUMN lp_requests.error IS NULL", "COMMENT ON EXTENSION lpusers IS 'x'",
		'GRANT EXECUTE ON FUNCTION lp_purge(interval) TO PUBLIC', 'GRANT SELECT ON lp_payloads TO PUBLIC', 'GRANT SELECT (id) ON lp_requests TO PUBLIC',
		'REVOKE SELECT ON lp_results FROM PUBLIC', 'GRANT USAGE ON SEQUENCE lp_batch_seq TO PUBLIC', 'GRANT USAGE ON FOREIGN DATA WRAPPER lpusers TO PUBLIC',
		'ALTER FUNCTION _lp_wake() COST 7', 'ALTER FUNCTION _lp_wake() PARALLEL SAFE', 'ALTER FUNCTION lp_purge(interval) SET search_path = pg_catalog',
		'ALTER FUNCTION lp_purge(interval) SECURITY DEFINER', q{UPDATE pg_proc SET prosrc = prosrc || ' ' WHERE proname = 'lp_purge'},
		'ALTER TABLE lp_requests ADD COLUMN more text', 'ALTER TABLE lp_requests ALTER COLUMN login_name SET NOT NULL',
		'ALTER TABLE lp_requests ALTER COLUMN state SET DEFAULT 1', 'ALTER TABLE lp_requests DROP CONSTRAINT lp_requests_state_check',
		'ALTER TABLE lp_payloads ALTER COLUMN body SET STORAGE EXTERNAL', 'ALTER TABLE lp_requests SET (fillfactor = 50)',
		'ALTER TABLE lp_requests SET UNLOGGED', 'ALTER TABLE lp_payloads ENABLE ROW LEVEL SECURITY', 'ALTER TABLE lp_payloads REPLICA IDENTITY FULL',
		'DROP INDEX lp_requests_in_flight', 'ALTER INDEX lp_requests_due SET (fillfactor = 50)', 'CREATE INDEX ON lp_requests (error)',
		'CREATE TRIGGER t BEFORE UPDATE ON lp_requests FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()',
		'ALTER VIEW lp_results SET (security_barrier = false)', 'CREATE OR REPLACE VIEW lp_summary WITH (security_barrier) AS SELECT * FROM lp_summary',
		'ALTER SEQUENCE lp_batch_seq CYCLE', 'ALTER SEQUENCE lp_requests_id_seq CACHE 9', 'ALTER TYPE lp_response ADD ATTRIBUTE more text',
		'ALTER TABLE lp_requests OWNER TO pg_monitor', 'ALTER FUNCTION _lp_wake() OWNER TO pg_monitor', 'ALTER FOREIGN DATA WRAPPER lpusers NO VALIDATOR',
		'ALTER EXTENSION lpusers DROP FUNCTION _lp_wake()', 'CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$; ALTER EXTENSION lpusers ADD FUNCTION f()',
		"UPDATE pg_extension SET extcondition[1] = 'WHERE false' WHERE extname = 'lpusers'", 'CREATE POLICY p ON lp_requests USING (true)',
		'CREATE STATISTICS s ON account, state FROM lp_requests', 'CREATE SCHEMA s; CREATE TYPE s.kind AS ENUM (); ALTER EXTENSION lpusers ADD TYPE s.kind')
	{
		my $after = $node->safe_psql('postgres', "SET allow_system_table_mods = on; BEGIN; $slip; $catalog; ROLLBACK");

		isnt(difference($after, $fresh), '', "it would be noticed: $slip");
	}
	is(difference(listing('postgres'), $fresh), '', 'all of that was rolled back');
};

done_testing();

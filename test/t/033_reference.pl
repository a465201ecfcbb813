# docs/reference.md is what test/make_reference writes: no function, column or setting without its comment, none forgotten.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use File::Temp;
use LpUsers;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = LpUsers::server(conf => "shared_preload_libraries = 'lpusers'\n");
my ($made, $err);

local $ENV{PGHOST}     = $node->host;
local $ENV{PGPORT}     = $node->port;
local $ENV{PGDATABASE} = 'postgres';

subtest 'the reference is current' => sub {
	ok(IPC::Run::run([ 'bash', "$LpUsers::top/test/make_reference", '--here' ], '>', \$made, '2>', \$err), 'test/make_reference runs')
	  or diag($err);

	# After a change to a comment this shows what to change in the document; patch -p0 takes it.
	my $new = File::Temp->new;
	print $new $made;
	close($new);
	my $difference;
	ok(IPC::Run::run([ 'diff', '-u', '--label', 'docs/reference.md', '--label', 'docs/reference.md', "$LpUsers::top/docs/reference.md", "$new" ],
			'>', \$difference, '2>&1'), 'docs/reference.md is what it writes')
	  or diag("$difference\nbash test/make_reference > docs/reference.md");

	unlike($made, qr/\|  \|$/m, 'nothing is without a comment');
	is($node->safe_psql('postgres', q{
		SELECT string_agg(p.proname, ' ') FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
		WHERE d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'lpusers') AND obj_description(p.oid, 'pg_proc') IS NULL}),
		'', 'no function is without a comment');
};

subtest 'each SQLSTATE is in the reference' => sub {
	# Each SQLSTATE that the sources raise is in the table, under the number that PostgreSQL gives it.
	{
		my ($sharedir) = run_command([ 'pg_config', '--sharedir' ]);
		my %number = map { /^(\w{5})\s+\S\s+ERRCODE_(\w+)/ ? ($2 => $1) : () } split(/\n/, slurp_file("$sharedir/errcodes.txt"));
		my %raised;

		foreach my $file (glob("$LpUsers::top/src/*.c $LpUsers::top/src/*/*.c"))
		{
			$raised{$_} = 1 foreach slurp_file($file) =~ /(?:errcode\(|lpu_problem_new\(|LPU_\w+,)\s*ERRCODE_(\w+)/g;
		}
		delete $raised{WARNING};
		cmp_ok(scalar(keys %raised), '>=', 30, 'the sources raise SQLSTATEs');
		is(join(' ', sort grep { !defined $number{$_} || $made !~ /^\| $number{$_} \| /m } keys %raised), '', 'each is in the table');
	}
};

subtest 'each option is in the reference' => sub {
	# So is each option that the validator takes.
	foreach my $sql ("CREATE SERVER x FOREIGN DATA WRAPPER lpusers OPTIONS (no_such_thing_at_all '')",
		"CREATE SERVER x FOREIGN DATA WRAPPER lpusers OPTIONS (account '1'); CREATE USER MAPPING FOR CURRENT_USER SERVER x OPTIONS (no_such_thing_at_all '')")
	{
		my (undef, undef, $err) = LpUsers::try_sql($node, $sql);
		my ($names) = $err =~ /Valid options are: (.*)\./;

		cmp_ok(scalar(split(/, /, $names // '')), '>=', 10, 'the validator names its options');
		is(join(' ', grep { $made !~ /^\| `$_` \| .* \| (?:yes|no) \| \S/m } split(/, /, $names // '')), '', 'each has a line and a meaning');
	}
};

done_testing();

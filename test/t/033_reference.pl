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
ok(IPC::Run::run([ 'bash', "$LpUsers::top/test/make_reference", '--here' ], '>', \$made, '2>', \$err), 'test/make_reference runs')
  or diag($err);

# Whoever changed a comment finds here what to change in the document; patch -p0 takes it.
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

done_testing();

# The library exports what PostgreSQL looks for by name, and nothing else: other symbols can neither take the place of those of
# another module nor be taken for them.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LpUsers;
use PostgreSQL::Test::Utils;
use Test::More;

my $library = `pg_config --pkglibdir` =~ s/\n//r . '/lpusers.so';
plan(skip_all => "there is no $library") unless -e $library;
my $names = `nm -D --defined-only '$library' 2>/dev/null`;
plan(skip_all => 'nm does not list the symbols') if $? != 0 || $names eq '';
my @exported = sort map { (split)[-1] } split(/\n/, $names);

# The functions that the install script names, and the entry points of background processes.
my $script = join('', map { slurp_file($_) } glob("$LpUsers::top/src/sql/*.sql"));
my %expected = map { $_ => 1 } qw(Pg_magic_func _PG_init lpu_launcher_main lpu_worker_main lpu_worker_main_by_name);
while ($script =~ /^CREATE (?:FUNCTION|PROCEDURE) \@extschema\@\.(\w+)[^;]*?\bAS 'MODULE_PATHNAME'(?:, '(\w+)')?/mg)
{
	$expected{ $2 // $1 } = $expected{ 'pg_finfo_' . ($2 // $1) } = 1;
}

subtest 'only what PostgreSQL looks up by name is exported' => sub {
	cmp_ok(scalar(keys %expected), '>', 60, 'functions of the install script');
	is(join(' ', grep { !$expected{$_} } @exported), '', 'nothing else is exported');
	my %exported = map { $_ => 1 } @exported;
	is(join(' ', grep { !$exported{$_} } sort keys %expected), '', 'all of these are');
};

done_testing();

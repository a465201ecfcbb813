# Every SQL block of docs/ runs as it stands, in order, and outputs that are shown are what comes out. The tutorial begins in
# an empty database, the others go on in it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use File::Basename;
use File::Temp;
use LpUsers;
use PostgreSQL::Test::Utils;
use Test::More;

my $sim    = LpUsers::account();
my $node   = LpUsers::server();
my $secret = File::Temp->new;
my @order  = map { "docs/$_.md" } qw(tutorial cookbook operations high-availability security);
my %sql    = map { $_ => 1 } grep { LpUsers::sql_blocks($_) } map { 'docs/' . basename($_) } glob("$LpUsers::top/docs/*.md");

print $secret "lp-token\n";
close($secret);
chmod(0600, "$secret");
$node->safe_psql('postgres', 'CREATE DATABASE tutorial');
foreach my $document (@order)
{
	cmp_ok(LpUsers::test_document($node, $document, db => 'tutorial', settle => 1,
			replace => { 'http://127.0.0.1:8080' => $sim->url, '/run/secrets/liveperson' => "$secret" }), '>', 0, "$document has SQL blocks");
	delete $sql{$document};
}
is(join(' ', sort keys %sql), '', 'no document with SQL is left out');

# What the documents link to is there: files, and headings of files.
foreach my $path (glob("$LpUsers::top/*.md $LpUsers::top/docs/*.md"))
{
	my $text = slurp_file($path);
	my @broken;

	while ($text =~ /\]\(([^)\s]*)\)/g)
	{
		my ($file, $anchor) = split(/#/, $1, 2);
		next if $file =~ /^https?:/;
		my $target = $file eq '' ? $path : dirname($path) . "/$file";

		push(@broken, $1 // $file), next unless -e $target;
		next unless defined $anchor;
		my %anchors = map { anchor($_) => 1 } slurp_file($target) =~ /^#+ (.*)$/mg;
		push(@broken, "$file#$anchor") unless $anchors{$anchor};
	}
	is(join(' ', @broken), '', basename($path) . ': its links lead somewhere');
}

done_testing();

# A heading as GitHub names it in an address.
sub anchor
{
	my ($heading) = @_;

	$heading = lc($heading);
	$heading =~ s/[^a-z0-9 _-]//g;
	$heading =~ tr/ /-/;
	return $heading;
}

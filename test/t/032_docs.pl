# Every block of docs/ runs as it stands, in order, and outputs that are shown are what comes out. The tutorial makes its own
# database, the others go on in it. Commands of the shell run as the user that they name, see LpUsers.pm.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use File::Basename;
use File::Temp;
use LpUsers;
use PostgreSQL::Test::Utils;
use Test::More;

my $sim     = LpUsers::account();
my $node    = LpUsers::server();
my $secrets = File::Temp->newdir();
my @order   = ((map { "docs/$_.md" } qw(tutorial cookbook queue foreign-tables functions reporting operations high-availability security
	performance privacy upgrade-and-uninstall)), 'CONTRIBUTING.md');
my %left    = map { $_ => 1 } grep { LpUsers::document_blocks($_) } map { 'docs/' . basename($_) } glob("$LpUsers::top/docs/*.md");
my %replace = (
	'http://127.0.0.1:8080' => $sim->url,
	'/run/secrets' => "$secrets/secrets",
	# an account of one's own
	"account 'YOUR ACCOUNT ID'" => "account '12345678', base_url '" . $sim->url . "'",
	"'YOUR ACCOUNT ID'" => "'12345678'",
	"client_id '...', client_secret '...'" => "token 'lp-token'");

subtest 'every block of the documents runs' => sub {
	foreach my $document (@order)
	{
		my $db = $document =~ /tutorial|CONTRIBUTING/ ? 'postgres' : 'tutorial';

		cmp_ok(LpUsers::test_document($node, $document, db => $db, settle => 1, replace => \%replace), '>', 0, "$document has blocks");
		delete $left{$document};
	}

	# The desired state has an account and a database of its own.
	my $other = LpUsers::account();
	cmp_ok(LpUsers::test_document($node, 'docs/sync.md', db => 'postgres', settle => 1, replace => { 'http://127.0.0.1:8080' => $other->url }),
		'>', 0, 'docs/sync.md has blocks');
	delete $left{'docs/sync.md'};
	is(join(' ', sort keys %left), '', 'no document with blocks is left out');
};

# ---------------------------------------------------------------------- links lead to files and headings

# A heading as GitHub names it in an address.
sub anchor
{
	my ($heading) = @_;

	$heading = lc($heading);
	$heading =~ s/[^a-z0-9 _-]//g;
	$heading =~ tr/ /-/;
	return $heading;
}

subtest 'links lead to files and headings' => sub {
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
};

done_testing();

# Every SQL block of the README runs as it stands, in order, in one session; an output that is shown below a block is what
# comes out. Only the port of the stand-in account and times differ.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LpUsers;
use PostgreSQL::Test::Utils;
use Test::More;

my $sim    = LpUsers::account();
my $node   = LpUsers::server();
my $readme = slurp_file("$LpUsers::top/README.md");
my $url    = $sim->url;
my @blocks;

# A block, and the text right below it, if there is one.
while ($readme =~ /^```sql\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?/msg)
{
	my ($sql, $text) = ($1, $2);
	my $line = 2 + (substr($readme, 0, $-[0]) =~ tr/\n//);
	push @blocks, { sql => $sql, text => $text, line => $line };
}
cmp_ok(scalar(@blocks), '>=', 20, 'the README has SQL blocks');

$node->safe_psql('postgres', 'DROP EXTENSION lpusers; CREATE EXTENSION lpusers');
my $script = join('', map { "\\echo <<<$_>>>\n$blocks[$_]{sql}" } 0 .. $#blocks) . "\\echo <<<end>>>\n";
$script =~ s{http://127\.0\.0\.1:8080}{$url}g;
my $file = "$PostgreSQL::Test::Utils::tmp_check/readme.sql";
append_to_file($file, $script);
my ($out, $err);
IPC::Run::run([ 'psql', '-X', '-d', $node->connstr('postgres'), '-f', $file ], '>', \$out, '2>&1');
$out =~ s/\Q$url\E/http:\/\/127.0.0.1:8080/g;

foreach my $i (0 .. $#blocks)
{
	my $block = $blocks[$i];
	my ($got) = $out =~ /<<<$i>>>\n(.*?)<<</s;

	$got //= '';
	if (defined $block->{text})
	{
		ok(index(plain($got), plain($block->{text})) >= 0, "line $block->{line}: the output is what the README shows")
		  or diag("got:\n$got\nREADME:\n$block->{text}");
	}
	elsif ($block->{sql} !~ /-- ERROR/)
	{
		unlike($got, qr/ERROR|FATAL/, "line $block->{line}: no error") or diag($got);
	}
}

# What the queue section says of its example.
LpUsers::wait_for(
	sub { $node->safe_psql('postgres', "SELECT count(*) FROM lp_results WHERE login_name = 'fern\@example.com' AND state = 'created'") == 1 },
	'the hire to be created');
is($sim->users_with('fern@example.com'), 1, 'the active hire has a user');
is($sim->users_with('heath@example.com'), 0, 'the inactive one has none');
like($node->safe_psql('postgres', "SELECT error FROM lp_results WHERE source_key ->> 'id' = '2' AND source_table = 'hr.hires'"),
	qr/"loginName" is required/, 'the one without e-mail is on record as failed');

done_testing();

# Without what differs from run to run: times, ids that the account gives, blanks.
sub plain
{
	my ($text) = @_;

	$text =~ s/\d+ ms/N ms/g;
	$text =~ s/\(id \d+\)/(id N)/g;
	$text =~ s/\b\d+\.\d{3}\b/T/g;
	$text =~ s/[ \t]+$//mg;
	$text =~ s/ {2,}/ /g;
	$text =~ s/-{2,}/--/g;
	$text =~ s/\n+$/\n/;
	return $text;
}

# The colours of the report's page can be told apart, in each way to show it: light, dark and print. No browser is needed: the
# style is read from the install script, where each colour is a variable, and the contrast is that of WCAG 2.
use strict;
use warnings;
use FindBin;
use Test::More;

open(my $file, '<', "$FindBin::RealBin/../../src/sql/report.sql") or die "report.sql: $!";
my $source = do { local $/; <$file> };
close($file);
my ($css) = $source =~ /\$css\$(.*?)\$css\$/s or die 'report.sql has no style';

# The variables of each scheme.
my %scheme;
$scheme{light} = { $css =~ /\A\s*:root \{ (.*?) \}/s ? variables($1) : () };
foreach my $medium ([ dark => 'prefers-color-scheme: dark' ], [ print => 'print' ])
{
	my ($name, $condition) = @$medium;
	$scheme{$name} = { $css =~ /\@media \(?\Q$condition\E\)? \{ :root \{ (.*?) \}/s ? variables($1) : () };
}
my $rules = $css =~ s/:root \{ .*? \}//gsr;

sub variables { my ($text) = @_; return $text =~ /--(\w+): (#[0-9a-f]{6});/g; }

sub luminance
{
	my ($colour) = @_;
	my @channels = map { $_ / 255 } map { hex } $colour =~ /([0-9a-f]{2})/g;
	my ($r, $g, $b) = map { $_ <= 0.03928 ? $_ / 12.92 : (($_ + 0.055) / 1.055)**2.4 } @channels;

	return 0.2126 * $r + 0.7152 * $g + 0.0722 * $b;
}

sub contrast
{
	my ($bright, $dim) = sort { $b <=> $a } map { luminance($_) } @_;

	return ($bright + 0.05) / ($dim + 0.05);
}

subtest 'the contrast of known pairs' => sub {
	is(sprintf('%.2f %.2f', contrast('#ffffff', '#000000'), contrast('#777777', '#ffffff')), '21.00 4.48', 'contrast, of known pairs');
};

subtest 'each scheme has all colours' => sub {
	# All colours are variables, and each scheme has all of them.
	unlike($rules, qr/#[0-9a-f]{3,6}\b|\brgba?\(|\bhsla?\(/i, 'no colour but in variables');
	my %used = map { $_ => 1 } $rules =~ /var\(--(\w+)\)/g;
	is_deeply([ sort keys %{ $scheme{$_} } ], [ sort keys %used ], "$_: the variables that are used") foreach sort keys %scheme;
};

subtest 'texts and bars can be told from the ground' => sub {
	# What is written with, and what is drawn with.
	my %text  = map { $_ => 1 } $rules =~ /(?:(?<![-\w])color|svg text \{ fill): var\(--(\w+)\)/g;
	my %drawn = map { $_ => 1 } $rules =~ /rect\.\w+ \{ (?:fill: var\(--ground\); stroke|fill): var\(--(\w+)\)/g;
	is(join(' ', sort keys %drawn), 'created failed open', 'bars');
	ok($text{text} && $text{soft} && $text{link} && $text{failed}, 'texts');
	foreach my $name (sort keys %scheme)
	{
		my $colours = $scheme{$name};

		foreach my $ground ('ground', 'tile')
		{
			cmp_ok(contrast($colours->{$_}, $colours->{$ground}), '>=', 4.5, "$name: text of colour $_ on $ground") foreach sort keys %text;
		}
		cmp_ok(contrast($colours->{$_}, $colours->{ground}), '>=', 3, "$name: bar of colour $_") foreach sort keys %drawn;
	}
};

subtest 'bars differ in more than their hue' => sub {
	# Full and hollow bars differ in more than their hue, and what failed is in a picture of its own.
	like($rules, qr/rect\.open \{ fill: var\(--ground\); stroke: var\(--open\)/, 'open: hollow');
	like($rules, qr/rect\.failed \{ fill: var\(--failed\); \}/, 'failed: full');
};

done_testing();

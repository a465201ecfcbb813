# LpDisk.pm: small private file systems, to be filled up by a test.
#
#	use LpDisk tables => '16m', wal => '8m';		# before all other modules; skips the whole test where it is not allowed
#	my $path = LpDisk::path('tables');
#	LpDisk::fill('tables'); ... LpDisk::empty('tables');
#
# They are in memory, and mounted in name spaces that the test is started in once more: no other process sees them, no right is
# needed where users may have name spaces of their own, and they go with the test. Its user is who it was: PostgreSQL does not
# run as root, which it would be in the name space that may mount.
package LpDisk;

use strict;
use warnings;
use Errno qw(ENOSPC);
use File::Temp qw(tempdir);
use IPC::Run;
use Test::More;

# Before PostgreSQL's own modules take the standard output away.
sub import
{
	my (undef, %disks) = @_;

	return if $ENV{LPUSERS_DISKS};
	my $dir    = tempdir('lpdisk.XXXXXX', TMPDIR => 1);
	my @names  = sort keys %disks;
	my $script = 'status=0; ' . join(' && ', map { "mkdir '$dir/$_' && mount -t tmpfs -o size=$disks{$_},mode=0700 tmpfs '$dir/$_'" } @names) .
		" && { \"\$\@\" || status=\$?; cd /; " . join('; ', map { "umount '$dir/$_'" } @names) . "; rm -r '$dir'; exit \$status; }";
	my $group  = (split(/ /, $())[0];
	my @enter  = ('unshare', '--user', '--map-root-user', '--mount', 'sh', '-c', $script, 'sh', 'unshare', '--user', "--map-user=$<", "--map-group=$group");

	my $said = '';
	my $may  = eval { IPC::Run::run([ @enter, 'true' ], '<', \undef, '>&', \$said) };
	if (!$may)
	{
		system('rm', '-r', $dir);
		plan(skip_all => 'a file system of its own is not to be had here: ' . ((split(/\n/, $said || $@))[0] // 'unshare failed'));
	}
	$ENV{LPUSERS_DISKS} = $dir;
	mkdir($dir);
	exec(@enter, $^X, (map { "-I$_" } @INC), $0, @ARGV) or die "unshare: $!";
}

sub path { my ($name) = @_; return "$ENV{LPUSERS_DISKS}/$name"; }

# Write until the file system is full.
sub fill
{
	my ($name) = @_;

	open(my $out, '>', path($name) . '/filler') or die "filler: $!";
	foreach my $size (1_048_576, 4096, 1)
	{
		while (1) { last unless defined syswrite($out, '0' x $size); }
		die "filler: $!" unless $! == ENOSPC;
	}
	close($out);
	return;
}

sub empty { my ($name) = @_; unlink(path($name) . '/filler'); return; }

1;

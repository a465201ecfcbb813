# A disk is full in the middle of a delivery: that of the queue's tables, where a statement fails, or that of the WAL, where the
# server goes down. Once there is room again, each login is created exactly once, and nothing hangs.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LpDisk tables => '16m', wal => '16m';
use LpDelivery;
use LpUsers;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $segment = 1024 * 1024;
my $wal     = LpDisk::path('wal') . '/pg_wal';
my @names   = map { "n$_" } 1 .. 6;

$sim  = LpUsers::account();
$node = LpUsers::server(init => [ "--waldir=$wal", '--wal-segsize=1' ],
	conf => "restart_after_crash = on\nwal_level = minimal\nmax_wal_senders = 0\nwal_recycle = off\nmin_wal_size = '2MB'\nmax_wal_size = '8MB'\n$LpDelivery::conf");
LpUsers::connect_account($node, $sim, options => $LpDelivery::options);
$admin = LpUsers::session($node);

mkdir(LpDisk::path('tables') . '/pg') or die "mkdir: $!";
$admin->query("CREATE TABLESPACE small LOCATION '" . LpDisk::path('tables') . "/pg'");
# no place is kept for later versions of a row
$admin->query('ALTER TABLE lp_requests SET (fillfactor = 100)');
# not their indexes: a row that fits into its table, and not into an index, leaves its place to the next
$admin->query('ALTER TABLE lp_requests SET TABLESPACE small; ALTER TABLE lp_payloads SET TABLESPACE small');

# ---------------------------------------------------------------------------------------------- the tables' disk

# The tables are small, and what is dead in them stays in its place while a snapshot may see it.
my $witness;
sub keep_dead_rows
{
	$admin->query('TRUNCATE lp_requests, lp_payloads');
	$witness = LpUsers::session($node);
	$witness->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
	return;
}

# The disk is full, and so are the pages of lp_requests: rows of another account take what is left in them.
sub no_room_for_rows
{
	my $err = '';

	LpDisk::fill('tables');
	while ($err eq '')
	{
		(undef, $err) = $admin->run("INSERT INTO lp_requests (account, operation, path, requested_by, send_as, state) SELECT 'filler', 'create', 'direct', 'x', 'x', 'created'");
	}
	like($err, qr/ERROR:  53100: could not extend file/, 'the tables have no room');
	return;
}

sub room_for_rows
{
	LpDisk::empty('tables');
	$witness->quit if $witness;
	$witness = undef;
	return;
}

# Who delivers has failed, and is gone.
sub has_failed
{
	my ($what, $kind, $offset) = @_;

	if ($kind eq 'worker')
	{
		LpUsers::wait_for(sub { LpUsers::log_since($node, $offset) =~ /\[\d+\] ERROR:  could not extend file/ }, 'the worker to fail');
		pass("$what: the worker has failed");
	}
	else
	{
		my (undef, $err) = $deliverer->take;
		like($err, qr/ERROR:  53100: could not extend file/, "$what: CALL has failed");
		$deliverer->quit;
		$deliverer = undef;
	}
	return;
}

# The expected number of POSTs. A response that arrives while the deliverer cannot record it allows
# the last one.
sub posts_of { my ($moment) = @_; return $moment eq 'applied later' ? 3 : $moments{$moment}->{posts}; }

# All are created in the end; by the worker as well, if it is one.
sub all_are_created
{
	my ($what, $kind, $n) = @_;

	account_is_quiet();
	if ($kind eq 'worker')
	{
		LpUsers::wait_for(sub { due_now(); $admin->query('SELECT _lp_wake()'); states() eq "created$n" }, 'the worker to be done');
		set_worker('off');
		LpUsers::wait_for(sub { $admin->query('SELECT lp_worker_pid()') eq '' }, 'the worker to leave');
	}
	else
	{
		deliver();
		due_now();
		finish_by_calls($what, $n);
	}
	return;
}

sub tables_full
{
	my ($moment, $kind) = @_;
	my $what   = "tables, $moment, $kind";
	my $offset = -s $node->logfile;

	keep_dead_rows();
	if ($moment eq 'claiming')
	{
		fresh();
		enqueue(@names);
		no_room_for_rows();
		start_delivery($kind);
	}
	else
	{
		prepare($moment, $what, @names);
		approach($kind, $moment, $what);
		no_room_for_rows();
		let_go();
		$holder->quit if $holder;
		$holder = undef;
	}
	has_failed($what, $kind, $offset);
	is(states(), $moments{$moment}->{states}, "$what: no more is on record than was known");
	is(posts(), 0, "$what: nothing was sent") if $moment eq 'claiming';
	room_for_rows();
	all_are_created($what, $kind, 6);
	is(posts(), posts_of($moment), "$what: POSTs");
	each_once($what, @names);
	return;
}

subtest 'the disk of the tables is full' => sub {
	# Who queues is told, and nothing is left of it.
	fresh();
	no_room_for_rows();
	my (undef, $error) = $admin->run("SELECT count(*) FROM lp_enqueue_users('$account', '" . LpUsers::user('nobody') . "')");
	like($error, qr/ERROR:  53100: could not extend file/, 'tables, queueing: it fails');
	is(states(), '', 'tables, queueing: nothing is queued');
	room_for_rows();

	foreach my $kind ('backend', 'worker')
	{
		tables_full($_, $kind) foreach 'claiming', 'applied later', 'answered', 'listed later';
	}
};

# ---------------------------------------------------------------------------------------------- the disk of the WAL

# What is left of the segment that is written.
sub left_in_segment { return $admin->query("SELECT $segment - ((pg_current_wal_insert_lsn() - '0/0') % $segment)::int"); }

sub later_segments
{
	my $now = $admin->query('SELECT pg_walfile_name(pg_current_wal_insert_lsn())');

	return grep { $_ gt $now } map { m{/([0-9A-F]{24})$} } glob("$wal/*");
}

# The disk is full, and so is the last segment but for a few bytes.
sub no_room_for_wal
{
	LpDisk::fill('wal');
	for (;;)
	{
		my $left = left_in_segment();
		my $more = later_segments() ? $left + 100 : int(($left - 300) * 0.9);

		last if $more <= 0;
		$admin->query("SET synchronous_commit = on; SELECT FROM pg_logical_emit_message(false, 'filler', repeat('x', $more)); RESET synchronous_commit");
	}
	return;
}

# Another session needs more than there is.
sub write_wal
{
	$admin->send("SELECT count(pg_logical_emit_message(false, 'filler', repeat('x', 100000))) FROM generate_series(1, 200)");
	return;
}

# The server went down; with room for its WAL it comes up.
sub comes_back
{
	my ($what, $offset) = @_;
	my $pidfile = $node->data_dir . '/postmaster.pid';

	LpUsers::wait_for(sub { LpUsers::log_since($node, $offset) =~ /PANIC:.*No space left on device/ }, "$what: the server to notice");
	# it starts anew by itself, unless recovery finds no room either
	LpUsers::wait_for(sub { !-e $pidfile || LpUsers::log_since($node, $offset) =~ /database system is ready to accept connections/ }, "$what: the server to go down");
	LpDisk::empty('wal');
	if (!-e $pidfile)
	{
		$node->{_pid} = undef;
		$node->start;
	}
	connect_anew();
	return;
}

sub wal_full
{
	my ($moment, $kind, $by) = @_;
	my $what = "WAL, $moment, $kind, $by";

	reach($kind, $moment, $what, @names);
	my $offset = -s $node->logfile;
	no_room_for_wal();
	let_go();
	$holder->quit if $holder;
	$holder = undef;
	write_wal() if $by eq 'by another session';
	comes_back($what, $offset);
	# a worker may be back by now
	my %known = map { $_ => 1 } $moments{$moment}->{states},
		$kind ne 'worker' ? () : $moments{$moment}->{lookup} ? 'created6' : 'uncertain6';
	my $states = states();
	ok($known{$states}, "$what: what was on record still is") or diag($states);
	all_are_created($what, $kind, 6);
	is(posts(), posts_of($moment), "$what: POSTs");
	each_once($what, @names);
	return;
}

subtest 'the disk of the WAL is full' => sub {
	wal_full($_, 'backend', 'by the delivery') foreach 'claiming', 'applied later', 'answered', 'looked up';
	wal_full($_, 'worker', 'by the delivery') foreach 'applied later', 'answered';
	wal_full('applied', 'backend', 'by another session');
	wal_full('looking up', 'worker', 'by another session');
};

subtest 'a disk that is full at a random moment' => sub {
	dice();
	my $rounds = $ENV{LPUSERS_LONG} ? 30 : 3;
	foreach my $round (1 .. $rounds)
	{
		my @many   = map { "r$_" } 1 .. 40;
		my $disk   = one_of('tables', 'wal');
		my $kind   = one_of('backend', 'worker');
		my @faults = random_faults();
		my ($before, $after) = (int(rand(200)), int(rand(300)));
		my $what   = "round $round, $disk, $kind, after $before ms";
		my $offset = -s $node->logfile;

		keep_dead_rows() if $disk eq 'tables';
		fresh(batch_size => 7, max_connections => 3, timeout => '700ms');
		enqueue(@many);
		$sim->post('faults', \@faults);
		start_delivery($kind);
		LpUsers::wait_for(sub { $sim->count(path => '/le-users/users') > 0 }, 'the first request');
		usleep($before * 1000);
		if ($disk eq 'tables')
		{
			no_room_for_rows();
			usleep($after * 1000);
			room_for_rows();
		}
		else
		{
			# the one that needs more first
			LpDisk::fill('wal');
			write_wal();
			comes_back($what, $offset);
		}
		if ($deliverer)
		{
			$deliverer->take;
			$deliverer->quit;
			$deliverer = undef;
		}
		all_are_created($what, $kind, 40);
		each_once($what, @many);
		note("$what: " . posts() . ' POSTs, ' . gets() . ' GETs');
	}

	$admin->quit;
	$node->stop;
	my $log = LpUsers::log_since($node, 0);
	unlike($log, qr/PANIC:(?!.*No space left on device)|TRAP|terminated by signal (?!6\b)/, 'nothing died but for want of room');
};

done_testing();

# A streaming standby is promoted in the middle of a delivery, and the old primary is gone: each login is created exactly once
# all the same, at whatever step that happens, whether the standby knew of it or had not heard of the claim yet.
#
# The new primary goes on by itself (lpusers.after_promotion = resume), by CALL or by a worker that starts with the promotion; or
# it holds everything until lp_adopt() is called. Then the same at any moment. With LPUSERS_LONG each step in each way.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LpDelivery;
use LpUsers;
use PostgreSQL::Test::Cluster;
use Test::More;
use Time::HiRes qw(usleep);

# ---------------------------------------------------------------------------------------------- primary and standby

my $root = LpUsers::server(name => 'root', init => [ '--wal-segsize=1' ], conf => "wal_level = replica\nmax_wal_senders = 4\nhot_standby = on\n$LpDelivery::conf");
$sim = LpUsers::account();
LpUsers::connect_account($root, $sim, options => $LpDelivery::options);
$root->backup('base');
$root->stop;

my $pairs = 0;
my ($primary, $heir);
my %policies = (
	adopt => "lpusers.after_promotion = 'hold'\n",
	call => "lpusers.after_promotion = 'resume'\n",
	worker => "lpusers.after_promotion = 'resume'\nlpusers.worker = on\nshared_preload_libraries = 'lpusers'\nlpusers.databases = 'postgres'\n" .
		"lpusers.idle_timeout = '60s'\n");

# A primary and its standby, as both were at the beginning.
sub new_pair
{
	my ($policy) = @_;

	$pairs++;
	$node = PostgreSQL::Test::Cluster->new("primary$pairs");
	$node->init_from_backup($root, 'base');
	$node->start;
	$primary = $node;
	$heir = PostgreSQL::Test::Cluster->new("heir$pairs");
	$heir->init_from_backup($root, 'base');
	$heir->enable_streaming($node);
	$heir->append_conf('postgresql.conf', $policies{$policy});
	$heir->start;
	$admin->quit if $admin;
	$admin = LpUsers::session($node);
	return;
}

# Asked of the standby: the primary hears of it seconds later.
sub caught_up
{
	my $lsn = $node->lsn('flush');

	LpUsers::wait_for(sub { $heir->safe_psql('postgres', "SELECT pg_last_wal_replay_lsn() >= '$lsn'") eq 't' }, 'the standby to catch up');
	return;
}

# From here on the standby hears nothing.
sub cut_off
{
	$heir->safe_psql('postgres', "ALTER SYSTEM SET primary_conninfo = ''");
	$heir->reload;
	LpUsers::wait_for(sub { $heir->safe_psql('postgres', 'SELECT count(*) FROM pg_stat_wal_receiver') eq '0' }, 'the standby to be cut off');
	return;
}

# The primary ends, the standby takes its place.
sub fail_over
{
	my ($how) = @_;

	$how eq 'kill' ? $node->kill9 : $node->stop($how);
	let_go();
	$heir->promote;
	LpUsers::wait_for(sub { $heir->safe_psql('postgres', 'SELECT pg_is_in_recovery()') eq 'f' }, 'the promotion');
	$node = $heir;
	connect_anew();
	return;
}

# What the new primary does about it, until all is created.
sub go_on
{
	my ($what, $policy, $n) = @_;
	my ($posts, $gets) = (posts(), gets());
	my ($done) = states() =~ /created(\d+)/ ? $1 : 0;

	if ($policy eq 'worker')
	{
		LpUsers::wait_for(sub { account_is_quiet(); due_now(); $admin->query('SELECT _lp_wake()'); states() eq "created$n" }, 'the worker to be done');
	}
	else
	{
		deliver();
		if ($policy eq 'adopt')
		{
			like(states(), qr/^(created\d+ ?)?(held\d+)?$/, "$what: all is held");
			$admin->query('SELECT lp_adopt()');
			deliver();
		}
		# the account may still be at what the old primary sent
		is(posts() . ' ' . gets(), "$posts $gets", "$what: nothing is sent, nor looked up at once");
		is($admin->query("SELECT count(*) FROM lp_requests WHERE state = 'uncertain' AND next_attempt_at > clock_timestamp() + interval '1 s'"), $n - $done,
			"$what: but after the first retry delay");
		account_is_quiet();
		due_now();
		finish_by_calls($what, $n);
	}
	return;
}

# Two data directories more would not matter, two hundred would.
sub retire
{
	my ($what) = @_;

	unlike(LpUsers::log_since($node, 0), qr/PANIC|TRAP|terminated by signal|duplicate key/, "$what: the new primary is well");
	$node->stop('immediate');
	$_->clean_node foreach $primary, $heir;
	return;
}

# ---------------------------------------------------------------------------------------------- at each step

sub promoted
{
	my ($moment, $kind, $policy, $late) = @_;
	my $what  = "$moment, by $kind, " . ($late ? 'the standby is late' : 'the standby knows') . ", $policy";
	my @names = map { "n$_" } 1 .. 6;

	new_pair($policy);
	prepare($moment, $what, @names);
	my $before = states();
	caught_up();
	cut_off() if $late;
	approach($kind, $moment, $what);
	caught_up() unless $late;
	fail_over('immediate');
	is(states(), $late ? $before : $moments{$moment}->{states}, "$what: the new primary knows what the standby has heard of") unless $policy eq 'worker';
	go_on($what, $policy, 6);
	is(posts(), $moments{$moment}->{posts}, "$what: POSTs");
	each_once($what, @names);
	retire($what);
	return;
}

my @moments  = ('claiming', 'not applied', 'applied later', 'answered', 'one settled', 'looking up');
my @policies = sort keys %policies;

subtest 'a promotion at each step' => sub {
	my @ways     = map { my $late = $_; map { my $kind = $_; map { [ $kind, $_, $late ] } @policies } 'backend', 'worker' } 0, 1;
	push @moments, 'applied', 'looked up' if $ENV{LPUSERS_LONG};
	foreach my $i (0 .. $#moments)
	{
		# each step in another way
		promoted($moments[$i], @$_) foreach $ENV{LPUSERS_LONG} ? @ways : $ways[ $i * 5 % @ways ];
	}
};

subtest 'a promotion at a random moment' => sub {
	dice();
	my $rounds = $ENV{LPUSERS_LONG} ? 20 : 1;
	foreach my $round (1 .. $rounds)
	{
		my @names  = map { "r$_" } 1 .. 40;
		my $policy = one_of(@policies);
		my $kind   = one_of('backend', 'worker');
		my $how    = one_of('immediate', 'fast', 'kill');
		my @faults = random_faults();
		my ($before, $after) = (int(rand(150)), int(rand(150)));
		my $what   = "round $round, by $kind, $how after $before + $after ms, $policy";

		new_pair($policy);
		fresh(batch_size => 7, max_connections => 3, timeout => '700ms');
		enqueue(@names);
		caught_up();
		$sim->post('faults', \@faults);
		start_delivery($kind);
		LpUsers::wait_for(sub { $sim->count(path => '/le-users/users') > 0 }, 'the first request');
		usleep($before * 1000);
		cut_off() if one_of(0, 1);
		usleep($after * 1000);
		fail_over($how);
		go_on($what, $policy, 40);
		each_once($what, @names);
		note("$what: " . posts() . ' POSTs, ' . gets() . ' GETs');
		retire($what);
	}

	$admin->quit;
};

is($sim->text('duplicates') =~ s/\s//gr, '[]', 'no login exists twice');
done_testing();

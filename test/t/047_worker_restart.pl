# A worker that did not leave by itself comes back; one whose database is gone does not, and leaves nothing in the log.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP;
use LpUsers;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $sim  = LpUsers::account();
my $node = LpUsers::server(conf => "log_min_messages = debug1\nmax_worker_processes = 8\nautovacuum = off\nlpusers.idle_timeout = '10min'\n");
my %session;

LpUsers::connect_account($node, $sim);

sub in_db { my ($db, $sql) = @_; $session{$db} //= LpUsers::session($node, db => $db); return $session{$db}->query($sql); }
sub forget { my ($db) = @_; $session{$db}->quit; delete $session{$db}; return; }
sub enqueue { my ($db, $name) = @_; return in_db($db, "SELECT lp_enqueue_users('12345678', '" . LpUsers::user($name) . "')"); }
sub state_of { my ($db, $name) = @_; return in_db($db, "SELECT state FROM lp_requests WHERE login_name = '$name\@example.com'"); }
sub worker { my ($db) = @_; return in_db('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'lpusers worker' AND datname = '$db'"); }
sub oid_of { my ($db) = @_; return in_db('postgres', "SELECT oid FROM pg_database WHERE datname = '$db'"); }
sub starts { my ($offset, $name) = @_; return scalar(() = LpUsers::log_since($node, $offset) =~ /starting background worker process "lpusers worker for database $name"/g); }
sub terminate { my ($pid) = @_; in_db('postgres', "SELECT pg_terminate_backend($pid)"); return; }

sub make_database
{
	my ($db) = @_;

	in_db('postgres', qq{CREATE DATABASE "$db"});
	in_db($db, 'CREATE EXTENSION lpusers');
	LpUsers::connect_account($node, $sim, db => $db);
	return;
}

# A request of this database is under way, and never answered. Returns the worker.
sub hang
{
	my ($db, $name) = @_;
	my $before = $sim->count(status => 0, method => 'POST', path => '/users');

	$sim->post('faults', { method => 'POST', path => '/users', action => 'silence', login => "$name\@example.com" });
	enqueue($db, $name);
	LpUsers::wait_for(sub { $sim->count(status => 0, method => 'POST', path => '/users') > $before }, "$name to arrive");
	return worker($db);
}

# It is looked up, and sent if absent.
sub recovers
{
	my ($db, $name) = @_;

	LpUsers::wait_for(sub { $session{$db}->due_now(wake => 1); state_of($db, $name) eq 'created' }, "$name to be created");
	is($sim->users_with("$name\@example.com"), 1, "$name exists once");
	return;
}

sub setting
{
	my ($name, $value) = @_;

	in_db('postgres', "ALTER SYSTEM SET $name = $value");
	in_db('postgres', 'SELECT pg_reload_conf()');
	LpUsers::wait_for(sub { in_db('postgres', "SELECT current_setting('$name')") eq $value }, "$name = $value");
	return;
}

subtest 'without preloading' => sub {
	my $offset = -s $node->logfile;
	my ($pid, $dropped);

	make_database('short_lived');
	$dropped = oid_of('short_lived');
	hang('short_lived', 'short');
	forget('short_lived');
	is((LpUsers::try_sql($node, 'DROP DATABASE short_lived WITH (FORCE)'))[0], 0, 'DROP DATABASE … WITH (FORCE) in the middle of a delivery');

	$pid = hang('postgres', 'ended');
	terminate($pid);
	LpUsers::wait_for(sub { worker('postgres') eq '' }, 'the worker to end');
	is(state_of('postgres', 'ended'), 'sending', 'a worker was terminated, its row stays');
	LpUsers::wait_for(sub { worker('postgres') =~ /^(?!$pid$)\d+$/ }, 'another worker');
	is(starts($offset, oid_of('postgres')), 2, 'the postmaster starts it again, without a commit');
	LpUsers::wait_for(sub { state_of('postgres', 'ended') ne 'sending' }, 'the row to be taken over');
	recovers('postgres', 'ended');

	LpUsers::wait_for(sub { starts($offset, $dropped) == 2 }, 'the worker of the database that is gone to be tried');
	LpUsers::wait_for(sub { LpUsers::log_since($node, $offset) =~ /unregistering background worker "lpusers worker for database $dropped"/ }, '... and forgotten');
	unlike(LpUsers::log_since($node, $offset), qr/FATAL:  database|does not exist/, '... without a word in the log');

	is(in_db('postgres', 'SELECT lp_worker_stop()'), 't', 'lp_worker_stop()');
	LpUsers::wait_for(sub { worker('postgres') eq '' }, 'the worker to leave');
	my $oid = oid_of('postgres');
	LpUsers::wait_for(sub { LpUsers::log_since($node, $offset) =~ /unregistering background worker "lpusers worker for database $oid"/ }, '... for good');
};

# With the launcher.
make_database('HR2');
forget('HR2');
forget('postgres');
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'lpusers'\nlpusers.databases = 'postgres, Capital, \"HR2\"'\n");
my $offset = -s $node->logfile;
my $start  = time();
$node->restart;

subtest 'with the launcher' => sub {
	my $pid = LpUsers::wait_for(sub { worker('postgres') }, 'the worker that starts with the server');
	my $oid = oid_of('postgres');

	like(LpUsers::wait_for(sub { worker('HR2') }, 'the worker of a name in double quotes'), qr/^\d+$/, 'a name in double quotes is not folded');
	hang('postgres', 'terminated');
	$start = time();
	terminate($pid);
	LpUsers::wait_for(sub { worker('postgres') =~ /^(?!$pid$)\d+$/ }, 'another worker');
	cmp_ok(time() - $start, '<', 30, 'a worker that was terminated is started again at once');
	LpUsers::wait_for(sub { state_of('postgres', 'terminated') ne 'sending' }, 'the row to be taken over');
	recovers('postgres', 'terminated');

	$pid = worker('postgres');
	$start = time();
	terminate($pid);
	LpUsers::wait_for(sub { worker('postgres') =~ /^(?!$pid$)\d+$/ }, 'another worker');
	cmp_ok(time() - $start, '<', 45, 'the next time after a while');

	is(in_db('postgres', 'SELECT lp_worker_stop()'), 't', 'lp_worker_stop()');
	LpUsers::wait_for(sub { worker('postgres') eq '' }, 'the worker to leave');
	setting('lpusers.worker', 'off');
	setting('lpusers.worker', 'on');
	is(in_db('postgres', 'SELECT lp_worker_pid()'), '', 'one that has left is not started by switching on');
};

subtest 'off and on' => sub {
	make_database('Other');
	enqueue('Other', 'before');
	LpUsers::wait_for(sub { state_of('Other', 'before') eq 'created' }, 'delivered');
	setting('lpusers.worker', 'off');
	LpUsers::wait_for(sub { worker('Other') eq '' && worker('postgres') eq '' }, 'the workers to leave');
	enqueue('postgres', 'while_off');
	is(state_of('postgres', 'while_off'), 'pending', 'off: a row waits');
	setting('lpusers.worker', 'on');
	LpUsers::wait_for(sub { state_of('postgres', 'while_off') eq 'created' }, 'on: what was queued meanwhile to be delivered');
	LpUsers::wait_for(sub { worker('Other') ne '' }, 'the worker that was switched off to be there again');
	pass('off and on: what was queued meanwhile is delivered without another commit');
};

subtest 'databases that are gone' => sub {
	my $oid = oid_of('Other');
	my $from = -s $node->logfile;

	hang('Other', 'gone');
	forget('Other');
	is((LpUsers::try_sql($node, 'DROP DATABASE "Other" WITH (FORCE)'))[0], 0, 'DROP DATABASE … WITH (FORCE)');
	LpUsers::wait_for(sub { LpUsers::log_since($node, $from) =~ /unregistering background worker "lpusers worker for database $oid"/ }, 'its worker to be forgotten');
	unlike(LpUsers::log_since($node, $from), qr/FATAL:  database|does not exist/, '... without a word in the log');

	my $log = LpUsers::log_since($node, $offset);
	is((() = $log =~ /FATAL:  database "capital" does not exist/g), 1, 'a name that is no database is one line in the log');
	like($log, qr/HINT:  Names in lpusers\.databases are folded to lower case unless they are double-quoted\./, '... with a hint');
	is(starts($offset, 'capital'), 1, '... it is tried once');
};

subtest 'DROP EXTENSION names what is under way' => sub {
	my $from = -s $node->logfile;

	$sim->post('faults', { method => 'POST', path => '/users', action => 'hold', login => 'lost@example.com' });
	enqueue('postgres', 'lost');
	LpUsers::wait_for(sub { grep { $_->{struck} > 0 && ($_->{fault}{login} // '') eq 'lost@example.com' } @{ $sim->get('faults') } }, 'the request to arrive');
	in_db('postgres', 'SET client_min_messages = warning; DROP EXTENSION lpusers CASCADE');
	$sim->remove('faults');
	LpUsers::wait_for(sub { LpUsers::log_since($node, $from) =~ /ERROR:  the queue of account "12345678" was dropped during delivery/ }, 'the worker to notice');
	like(LpUsers::log_since($node, $from),
		qr/LOG:  extension "lpusers" was dropped while 1 user of account "12345678" was being created\n.*DETAIL:  The outcome is unknown: lost\@example\.com\./, 'the log names it');
	LpUsers::wait_for(sub { worker('postgres') eq '' }, 'the worker to leave');
};

unlike(LpUsers::log_since($node, 0), qr/terminated by signal|TRAP:|PANIC:/, 'nothing crashed');
done_testing();

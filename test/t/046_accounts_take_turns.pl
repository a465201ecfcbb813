# Several accounts of one worker: none keeps the others from their turn. The locks of an account.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP;
use LpUsers;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my @accounts = qw(1001 1002 1003);
my %sim      = map { $_ => LpUsers::account('--account', $_) } @accounts;
my $node     = LpUsers::server(conf => "log_min_messages = debug1\nmax_worker_processes = 8\nautovacuum = off\nlpusers.idle_timeout = '200ms'\n");
my $session  = LpUsers::session($node);
my $serial   = 0;

sub q1 { my ($sql) = @_; return $session->query($sql); }
sub fresh { my ($name) = @_; return $name . ++$serial; }
sub enqueue { my ($account, @names) = @_; q1("SELECT lp_enqueue_users('$account', '[" . join(',', map { LpUsers::user($_) } @names) . "]')"); return; }
sub state_of { my ($name) = @_; return q1("SELECT state FROM lp_requests WHERE login_name = '$name\@example.com'"); }
sub created { my ($name) = @_; LpUsers::wait_for(sub { state_of($name) eq 'created' }, "$name to be created"); return; }
sub worker { return q1("SELECT pid FROM pg_stat_activity WHERE backend_type = 'lpusers worker'"); }
sub no_worker { LpUsers::wait_for(sub { worker() eq '' }, 'the worker to leave'); return; }
sub due_now { $session->due_now(wake => 1); return; }
sub option { my ($account, $sql) = @_; q1("ALTER SERVER s$account OPTIONS ($sql)"); return; }

sub fault { my ($account, %fault) = @_; $sim{$account}->post('faults', { method => 'POST', path => '/users', %fault }); return; }

sub arrived
{
	my ($account) = @_;

	LpUsers::wait_for(sub { grep { $_->{struck} > 0 } @{ $sim{$account}->get('faults') } }, 'the request to arrive');
	return;
}

foreach my $account (@accounts)
{
	q1("CREATE SERVER s$account FOREIGN DATA WRAPPER lpusers OPTIONS (account '$account', base_url '$sim{$account}{url}', timeout '60s');
		CREATE USER MAPPING FOR CURRENT_USER SERVER s$account OPTIONS (token 'lp-token')");
}

subtest 'an account that never answers' => sub {
	my ($hangs, $other, $again) = map { fresh('hang') } 1 .. 3;
	my $start;

	fault(1001, action => 'silence', times => 0);
	enqueue(1001, $hangs);
	arrived(1001);
	$start = time();
	enqueue(1002, $other);
	created($other);
	cmp_ok(time() - $start, '<', 30, 'another account has its turn at once');
	is(state_of($hangs), 'sending', '... while the request is under way');
	# the account itself goes on with its other connections
	$sim{1001}->remove('faults');
	enqueue(1001, $again);
	created($again);
	is(state_of($hangs), 'sending', 'so does the account itself, with another connection');

	my $pid = worker();
	q1("SELECT pg_terminate_backend($pid)");
	no_worker();
	q1('SELECT _lp_wake()');
	LpUsers::wait_for(sub { due_now(); state_of($hangs) eq 'created' }, 'what hung to be looked up and sent');
	is($sim{1001}->users_with("$hangs\@example.com"), 1, '... once');
	no_worker();
};

subtest 'a listing that never comes' => sub {
	my ($doubt, $other) = map { fresh('list') } 1, 2;
	my $start;

	fault(1001, action => 'status', status => 503);
	$sim{1001}->post('faults', { method => 'GET', path => '/users', action => 'silence' });
	enqueue(1001, $doubt);
	LpUsers::wait_for(sub { state_of($doubt) eq 'uncertain' }, '503: uncertain');
	due_now();
	LpUsers::wait_for(sub { grep { $_->{fault}{method} eq 'GET' && $_->{struck} > 0 } @{ $sim{1001}->get('faults') } }, 'the listing to be asked for');
	$start = time();
	enqueue(1002, $other);
	created($other);
	cmp_ok(time() - $start, '<', 30, 'another account has its turn at once');
	is(state_of($doubt), 'uncertain', '... while the listing is under way');
	$sim{1001}->remove('faults');
	q1('SELECT pg_cancel_backend(lp_worker_pid())');
	LpUsers::wait_for(sub { due_now(); state_of($doubt) eq 'created' }, 'another lookup');
	no_worker();
};

subtest 'slow accounts share the worker' => sub {
	my %names = map { my $account = $_; $account => [ map { fresh("slow$account-") } 1 .. 40 ] } @accounts;
	my (%first, %last);

	foreach my $account (@accounts)
	{
		option($account, "ADD batch_size '2', ADD max_connections '1'");
		$sim{$account}->post('config', { delay_ms => 100 });
	}
	enqueue($_, @{ $names{$_} }) foreach @accounts;
	LpUsers::wait_for(sub { q1("SELECT count(*) FROM lp_requests WHERE login_name ~ '^slow' AND state = 'created'") == 120 }, 'all to be created');
	foreach my $account (@accounts)
	{
		my @at = sort { $a <=> $b } map { $_->{at} } grep { $_->{method} eq 'POST' && "@{ $_->{logins} }" =~ /slow/ } @{ $sim{$account}->get('log') };
		is(scalar(@at), 20, "account $account: one POST for each batch");
		($first{$account}, $last{$account}) = @at[ 0, -1 ];
		$sim{$account}->post('config', { delay_ms => 0 });
		option($account, 'DROP batch_size, DROP max_connections');
	}
	foreach my $account (@accounts)
	{
		is(scalar(grep { $first{$account} > $last{$_} } @accounts), 0, "account $account did not wait for the end of another");
	}
	no_worker();
};

subtest 'CALL delivers accounts side by side' => sub {
	my ($hangs, $other) = map { fresh('call') } 1, 2;
	my $caller = LpUsers::session($node);

	q1("ALTER SYSTEM SET lpusers.worker = off; SELECT pg_reload_conf()") if 0;
	$node->append_conf('postgresql.conf', 'lpusers.worker = off');
	$node->reload;
	LpUsers::wait_for(sub { q1('SHOW lpusers.worker') eq 'off' }, 'the setting');
	no_worker();
	fault(1001, action => 'silence', times => 0);
	enqueue(1001, $hangs);
	enqueue(1002, $other);
	q1("UPDATE lp_requests SET next_attempt_at = next_attempt_at - interval '1 min', sent_at = sent_at - interval '1 min'");
	like(q1("SELECT last_error FROM lp_progress WHERE account = '1002'"), qr/^not delivered since \S+ \S+: lpusers.worker is off$/,
		'lp_progress says since when, and why, nothing is delivered');
	my $pid = $caller->query('SELECT pg_backend_pid()');
	$caller->send('CALL lp_deliver()');
	created($other);
	q1("UPDATE lp_requests SET sent_at = sent_at - interval '1 min' WHERE account = '1002'");
	unlike(q1("SELECT coalesce(last_error, '') FROM lp_progress WHERE account = '1002'"), qr/^not delivered/, '... and does not when nothing waits');
	is(state_of($hangs), 'sending', 'one account hangs, the other is delivered');
	my $start = time();
	q1("SELECT pg_cancel_backend($pid)");
	like(($caller->take)[1], qr/57014/, 'CALL is cancelled');
	cmp_ok(time() - $start, '<', 3, '... at once');
	is($caller->query("SELECT count(*) FROM pg_locks WHERE locktype = 'userlock' AND pid = $pid"), 0, '... and has released its locks');
	$sim{1001}->remove('faults');
	LpUsers::wait_for(sub { $caller->run('CALL lp_deliver()'); $session->due_now; state_of($hangs) eq 'created' }, 'what hung');
	$caller->quit;
	$node->append_conf('postgresql.conf', 'lpusers.worker = on');
	$node->reload;
	LpUsers::wait_for(sub { q1('SHOW lpusers.worker') eq 'on' }, 'the setting');
};

subtest 'housekeeping waits for no session' => sub {
	my ($refused, $next) = map { fresh('house') } 1, 2;
	my $locker = LpUsers::session($node);
	my $start;

	fault(1003, action => 'status', status => 400);
	enqueue(1003, $refused);
	LpUsers::wait_for(sub { state_of($refused) eq 'failed' }, 'a failed request, whose payload is kept');
	$sim{1003}->remove('faults');
	no_worker();
	$node->append_conf('postgresql.conf', "lpusers.keep_secrets = 0\n");
	$node->reload;
	LpUsers::wait_for(sub { q1('SHOW lpusers.keep_secrets') eq '0' }, 'the setting');
	$locker->query('BEGIN; SELECT count(*) FROM (SELECT FROM lp_payloads FOR UPDATE) x');
	$start = time();
	enqueue(1003, $next);
	created($next);
	cmp_ok(time() - $start, '<', 30, 'a payload that a session has locked keeps no delivery waiting');
	$locker->query('COMMIT');
	$locker->quit;
	no_worker();
};

subtest 'the lock of the deliverer is released behind its back' => sub {
	my @names  = map { fresh('unlock') } 1 .. 8;
	my $offset = -s $node->logfile;

	option(1003, "ADD batch_size '1', ADD max_connections '1'");
	q1(q{CREATE FUNCTION unlock() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF NEW.state = 'created' THEN PERFORM pg_catalog.pg_advisory_unlock_all(); END IF; RETURN NULL; END $$;
		CREATE TRIGGER unlock AFTER UPDATE ON lp_requests FOR EACH ROW EXECUTE FUNCTION unlock()});
	enqueue(1003, @names);
	LpUsers::wait_for(sub { LpUsers::log_since($node, $offset) =~ /ERROR:  lock on the queue of account "1003" was released during delivery/ },
		'the deliverer to notice');
	q1('DROP TRIGGER unlock ON lp_requests');
	LpUsers::wait_for(sub { due_now(); q1("SELECT count(*) FROM lp_requests WHERE login_name ~ '^unlock' AND state = 'created'") == @names }, 'all to be created');
	is(scalar(grep { $sim{1003}->users_with("$_\@example.com") != 1 } @names), 0, 'each exists once');
	option(1003, 'DROP batch_size, DROP max_connections');
	no_worker();
};

subtest 'a conditional write and a delivery take turns' => sub {
	my @names  = map { fresh('both') } 1 .. 60;
	my $writer = LpUsers::session($node);
	q1("SELECT lp_create_users('1002', '" . LpUsers::user('changed') . "')");
	my ($id) = map { $_->{id} } grep { $_->{loginName} eq 'changed@example.com' } @{ $sim{1002}->get('users') };
	my $user   = LpUsers::user('changed', id => $id + 0);
	my $write  = "SELECT status FROM lp_update_users('1002', '[$user]', 999999)";
	my $done   = "SELECT count(*) FROM lp_requests WHERE login_name ~ '^both' AND state = 'created'";
	my $left;

	# the delivery takes some 6 s; it lets go after 2
	option(1002, "ADD batch_size '1', ADD max_connections '1'");
	$sim{1002}->post('config', { delay_ms => 100 });
	enqueue(1002, @names);
	LpUsers::wait_for(sub { q1($done) > 2 }, 'the delivery to begin');
	is($writer->query($write), 412, 'the write is sent in the middle of a delivery');
	$left = @names - q1($done);
	cmp_ok($left, '>', 0, "... of which $left users are not created");
	LpUsers::wait_for(sub { q1($done) == @names }, 'the delivery to go on');
	$sim{1002}->post('config', { delay_ms => 0 });
	no_worker();

	# a request of the queue that hangs
	my $hangs = fresh('lock');
	option(1002, "SET max_connections '4', SET timeout '1s'");
	fault(1002, action => 'delay', ms => 3000);
	option(1002, "SET timeout '20s'");
	enqueue(1002, $hangs);
	arrived(1002);
	option(1002, "SET timeout '1s'");
	my (undef, $err) = $writer->run($write);
	like($err, qr/ERROR:  55P03: could not lock the revision of account "1002" in time.*Nothing was sent/s, 'not within timeout: nothing is sent');
	is($writer->query("SELECT count(*) FROM pg_locks WHERE locktype = 'userlock' AND pid = pg_backend_pid()"), 0, '... and no lock is left');
	option(1002, "SET timeout '60s'");
	my $pid = $writer->query('SELECT pg_backend_pid()');
	my $start = time();
	fault(1002, action => 'silence');
	enqueue(1002, fresh('lock'));
	LpUsers::wait_for(sub { q1("SELECT count(*) FROM pg_locks WHERE locktype = 'userlock' AND mode = 'ShareLock'") > 0 && state_of("lock$serial") eq 'sending' }, 'a request under way');
	$writer->send($write);
	LpUsers::wait_for(sub { q1("SELECT count(*) FROM pg_locks WHERE pid = $pid AND NOT granted") > 0 }, 'the write to wait');
	q1("SELECT pg_cancel_backend($pid)");
	like(($writer->take)[1], qr/57014/, 'the wait is cancelled');
	is($writer->query("SELECT count(*) FROM pg_locks WHERE locktype = 'userlock' AND pid = pg_backend_pid()"), 0, '... and no lock is left');
	$sim{1002}->remove('faults');
	q1('SELECT pg_cancel_backend(lp_worker_pid())');
	LpUsers::wait_for(sub { due_now(); state_of("lock$serial") eq 'created' }, 'the other to be looked up and sent');
	created($hangs);
	no_worker();
	$writer->quit;
};

is($sim{$_}->text('duplicates') =~ s/\s//gr, '[]', "account $_: no login exists twice") foreach @accounts;
unlike(LpUsers::log_since($node, 0), qr/terminated by signal|TRAP:|PANIC:/, 'nothing crashed');
done_testing();

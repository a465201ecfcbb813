# Fault, moment, path: each thing that can go wrong with a request, at each moment of a connection, on each way to the account.
#
# A cell of the matrix strikes one request, and then asks
#	- the account: was each login sent once at most, and is it there once at most?
#	- the database: which error, which state, which words?
#	- the process: is a connection, a socket or a memory context left over?
#	- the same session once more: does the next call work, and is each login there exactly once when it is done?
# A cell that makes no sense is listed with the reason. CI meets each fault on each path, at one moment; LPUSERS_LONG at all of
# them. The account takes a login twice (unique => false): a POST too many makes a second user.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use File::Temp;
use JSON::PP;
use LpUsers;
use Test::More;
use Time::HiRes qw(time);

my $started = time();
my $account = '12345678';
my $short   = '700ms';

# ---------------------------------------------------------------------------------------------- server and account

# Names that end in .slow.test do not resolve, at once: no question leaves this machine.
my $resolver = File::Temp->newdir();
open(my $go, '>', "$resolver/go") or die "$resolver/go: $!";
close($go);
$ENV{SLOWDNS_DIR} = "$resolver";
my $node;
{
	local $ENV{LD_PRELOAD} = join(':', grep { defined && $_ ne '' } $ENV{LD_PRELOAD}, "$LpUsers::top/test/slowdns.so");
	$node = LpUsers::server(conf => "lpusers.worker = off\nlpusers.idle_timeout = '1min'\nlog_min_error_statement = panic\n");
}
my $sim = LpUsers::account();
my %port = map { $_->[0] => $_->[1] =~ /:(\d+)$/ } [ plain => $sim->url ], [ tls => $sim->tls_url ];

my $closed_port = LpUsers::closed_port();

my %options = (base_url => $sim->url, timeout => '20s', batch_size => 2, max_connections => 1, max_response_size => '64MB',
	ca_file => "$LpUsers::top/test/certs/ca.pem", token_url => $sim->tls_url . "/sentinel/api/v2/account/$account/app/token");
$node->safe_psql('postgres', qq{
	CREATE SERVER acme FOREIGN DATA WRAPPER lpusers OPTIONS (account '$account');
	CREATE USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (token 'lp-token');
	CREATE SCHEMA lp;
	IMPORT FOREIGN SCHEMA liveperson LIMIT TO (users) FROM SERVER acme INTO lp});
my $admin   = LpUsers::session($node);
my $session = LpUsers::session($node);
my $pid     = $session->query('SELECT pg_backend_pid()');

# ---------------------------------------------------------------------------------------------- the three axes

# What is done to the request, and how that ends:
#	broken		no whole answer: outcome unknown			unsent		no connection
#	unsaid		an answer that does not tell the outcome	busy		429 and a short wait
#	too_busy	... a long one								renewed		401 at first
#	fine		slow, but well								dropped		well, but too large to be kept
my ($true, $false) = (JSON::PP::true, JSON::PP::false);
my @faults = (
	[ 'reset before', 'broken', { action => 'reset', applied => $false } ],
	[ 'reset after', 'broken', { action => 'reset', applied => $true } ],
	[ 'half answer', 'broken', { action => 'half', applied => $true } ],
	[ 'wrong length', 'broken', { action => 'wrong_length', applied => $true } ],
	[ '429', 'busy', { action => 'retry_after', value => '1' } ],
	[ '429, an hour', 'too_busy', { action => 'retry_after', value => '3600' } ],
	[ '503 before', 'unsaid', { action => 'status', status => 503, applied => $false } ],
	[ '503 after', 'unsaid', { action => 'status', status => 503, applied => $true } ],
	[ 'gateway HTML', 'unsaid', { action => 'html' } ],
	[ 'silence before', 'broken', { action => 'silence', applied => $false }, { timeout => $short } ],
	[ 'silence after', 'broken', { action => 'silence', applied => $true }, { timeout => $short } ],
	[ 'drip', 'fine', { action => 'drip', bytes => 100, ms => 10 } ],
	[ 'drip, too slow', 'broken', { action => 'drip', bytes => 10, ms => 50 }, { timeout => $short } ],
	[ 'DNS failure', 'unsent', undef, { base_url => 'http://account.slow.test:80' } ],
	[ 'refused', 'unsent', undef, { base_url => "http://127.0.0.1:$closed_port" } ],
	[ 'TLS failure', 'unsent', undef, { base_url => $sim->tls_url, ca_file => undef } ],
	[ 'token expiry', 'renewed', { action => 'status', status => 401 }, {}, "client_id 'lp-client', client_secret 'lp-client-secret'" ],
	[ 'too large', 'dropped', { action => 'huge', bytes => 400_000, applied => $true }, { max_response_size => '64kB' } ]);

my @moments = ('first request', 'reused connection', 'second of three');

# The ways to the account. "size": users in one request, few of the queue go one by one; "seed": they exist before.
my %paths = (
	direct => { method => 'POST', size => 1, run => \&run_direct, expect => \&expect_direct, again => \&again_direct },
	CALL   => { method => 'POST', size => 1, run => \&run_call, expect => \&expect_queue, again => \&again_call },
	worker => { method => 'POST', size => 1, run => \&run_worker, expect => \&expect_queue, again => \&again_worker },
	insert => { method => 'POST', size => 2, run => \&run_insert, expect => \&expect_statement, again => \&again_insert },
	update => { method => 'PUT', size => 2, seed => 1, run => \&run_update, expect => \&expect_statement, again => \&again_update },
	scan   => { method => 'GET', size => 1, seed => 1, run => \&run_scan, expect => \&expect_scan, again => \&again_scan });
my @paths = ('direct', 'insert', 'update', 'scan', 'CALL', 'worker');

# Why a cell makes no sense, or undef.
sub senseless
{
	my ($fault, $moment, $path) = @_;
	my ($name, $ends) = @$fault;

	return 'a connection that is kept needs no name, no connect, no handshake' if $ends eq 'unsent' && $moment ne 'first request';
	return 'an update reads before it writes: its PUT is never the first request' if $path eq 'update' && $ends ne 'unsent' && $moment eq 'first request';
	return 'a listing carries nothing out: see "before"' if $path eq 'scan' && $name =~ /after$/;
	return;
}

# ---------------------------------------------------------------------------------------------- questions

sub emails { return map { "$_\@example.com" } @_; }
sub listed { return join(', ', map { "'$_'" } emails(@_)); }
sub users_json { return '[' . join(',', map { LpUsers::user($_) } @_) . ']'; }

# The requests of a login that the account may have carried out.
sub sent
{
	my ($method, $login) = @_;

	return grep { my $entry = $_; $entry->{method} eq $method && $entry->{status} != 401 && $entry->{status} != 429
			&& grep { $_ eq $login } @{ $entry->{logins} } } @{ $sim->get('log') };
}

# Connections of a process to the account, as "plain tls".
sub connections
{
	my ($process) = @_;
	my %inode = map { (readlink($_) // '') =~ /^socket:\[(\d+)\]/ ? ($1 => 1) : () } glob("/proc/$process/fd/*");
	my %count = (plain => 0, tls => 0);

	open(my $in, '<', '/proc/net/tcp') or die "/proc/net/tcp: $!";
	while (<$in>)
	{
		my ($to, $inode) = /^\s*\d+: \S+ [0-9A-F]{8}:([0-9A-F]{4}) \S+ \S+ \S+ \S+\s+\d+\s+\d+ (\d+)/ or next;
		foreach my $kind (keys %count) { $count{$kind}++ if $inode{$inode} && hex($to) == $port{$kind}; }
	}
	close($in);
	return \%count;
}

# Descriptors that are no files: sockets, pipes and the like.
sub descriptors { my ($process) = @_; return scalar(grep { (readlink($_) // '') !~ m{^/} } glob("/proc/$process/fd/*")); }

# Memory contexts beside those that are kept for ever, of the session and of the worker, which tells the log.
my $kept = 'lpusers (?:bearers|options|servers|silences|silent senders|turns|worker|answered mappings)';
sub contexts { return $session->query("SELECT string_agg(name, ', ') FROM pg_backend_memory_contexts WHERE name LIKE 'lpusers%' AND name !~ '^$kept\$'"); }
sub contexts_of
{
	my ($process) = @_;
	my $offset = -s $node->logfile;
	my $log;

	$admin->query("SELECT pg_log_backend_memory_contexts($process)");
	LpUsers::wait_for(sub { ($log = LpUsers::log_since($node, $offset)) =~ /Grand total: / }, 'the memory contexts of the worker');
	return join(', ', grep { !/^$kept$/ } $log =~ /level: \d+; (lpusers[^:]*): /g);
}

sub states
{
	my (@names) = @_;

	return $admin->query("SELECT coalesce(string_agg(DISTINCT state, ' ' ORDER BY state), 'no row') FROM lp_requests WHERE login_name IN ("
		  . listed(@names, 'nobody') . ')');
}

# What the rows of these say: columns of lp_requests, without repeating.
sub rows_say
{
	my ($what, @names) = @_;

	return $admin->query("SELECT DISTINCT $what FROM lp_requests WHERE login_name IN (" . listed(@names) . ')');
}

# ---------------------------------------------------------------------------------------------- steps of a cell

# Have exactly these options beside the account. All connections are dropped by that: what comes next is the first request.
sub set_server
{
	my (%more) = @_;
	my %want = (%options, %more);
	my %have = map { /^([^=]*)/ ? ($1 => 1) : () } split(/\n/, $admin->query("SELECT unnest(srvoptions) FROM pg_foreign_server"));
	my @change;

	foreach my $option (sort keys %want)
	{
		push @change, ($have{$option} ? 'SET' : 'ADD') . " $option '$want{$option}'" if defined $want{$option};
		push @change, "DROP $option" if !defined $want{$option} && $have{$option};
	}
	$admin->query('ALTER SERVER acme OPTIONS (' . join(', ', @change) . ')');
	return;
}

my $mapping = '';
sub set_mapping
{
	my ($set) = @_;

	return if $set eq $mapping;
	$mapping = $set;
	$admin->query("DROP USER MAPPING FOR CURRENT_USER SERVER acme; CREATE USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS ($set)");
	return;
}

my $cells = 0;
sub new_cell
{
	my ($fault, $moment, $path) = @_;
	my ($name, $ends, $strike, $set, $credentials) = @$fault;
	my $size  = $paths{$path}{size};
	my $three = $moment eq 'second of three';
	my @names = map { "c$cells-$_" } 1 .. ($three ? 3 : 1) * $size;

	$cells++;
	# `timeout` is the longest silence of a listing, which is not held in memory either: there its elements have a limit
	$ends = 'fine' if $path eq 'scan' && $name eq 'drip, too slow';
	$ends = 'broken' if $path eq 'scan' && $ends eq 'dropped';
	# what only reads may be repeated, and libcurl does that when a connection that was used is gone
	# a GET that breaks off is sent once more, unless a part of a list was read
	$ends = 'fine' if $path eq 'scan' && ($name eq 'reset before' || $name eq 'half answer' && $moment eq 'second of three');
	$strike = { action => 'body', body => '[{"id":1,"loginName":"' . 'x' x 1_100_000 . '"}]' } if $path eq 'scan' && $name eq 'too large';
	return {
		moment => $moment, path => $path, ends => $ends, strike => $strike, set => $set // {}, mapping => $credentials // "token 'lp-token'",
		names => \@names, done => $three ? [ @names[ 0 .. $size - 1 ] ] : [], struck => [ $three ? @names[ $size .. 2 * $size - 1 ] : @names ],
		rest => $three ? [ @names[ 2 * $size .. 3 * $size - 1 ] ] : [] };
}

sub prepare
{
	my ($cell) = @_;

	$sim->reset;
	$sim->post('config', { unique => $false });
	$admin->query('DELETE FROM lp_payloads; DELETE FROM lp_requests');
	set_server(%{ $cell->{set} });
	set_mapping($cell->{mapping});
	$sim->post('users', [ map { decode_json(LpUsers::user($_)) } @{ $cell->{names} } ]) if $paths{ $cell->{path} }{seed};
	return;
}

# Have a connection that was used, then lay the trap.
sub lay_trap
{
	my ($cell) = @_;
	my $path = $paths{ $cell->{path} };
	my %rule = (method => $path->{method}, path => '/le-users/users');

	if ($cell->{moment} eq 'reused connection')
	{
		$path->{run}({ %$cell, names => $path->{seed} ? $cell->{names} : ["warm$cells"], ends => 'fine' });
		$sim->remove('log');
		$admin->query('DELETE FROM lp_requests');
		# the bearer that is in the cache expires, instead of being refused by a rule
		return $sim->post('tokens/expire') if $cell->{ends} eq 'renewed';
	}
	$rule{login} = "$cell->{struck}[0]\@example.com" unless $cell->{path} eq 'scan';
	$rule{path} .= '/' . (grep { $_->{loginName} eq "$cell->{struck}[0]\@example.com" } @{ $sim->get('users') })[0]{id}
	  if $cell->{path} eq 'scan' && $cell->{moment} eq 'second of three';
	$sim->post('faults', { %rule, %{ $cell->{strike} } }) if $cell->{strike};
	return;
}

# The request was struck at the moment that was meant.
sub check_moment
{
	my ($cell) = @_;
	my @struck = grep { $_->{fault} || $_->{status} == 401 } @{ $sim->get('log') };

	return is(scalar(@struck), 0, 'no request came') if $cell->{ends} eq 'unsent';
	is(scalar(@struck), 1, 'one request was struck');
	is(@struck && $struck[0]{nth} == 1 ? 'first request' : 'later', $cell->{moment} eq 'first request' ? 'first request' : 'later', '... at that moment');
	return;
}

# Each login was sent once at most, and is there once at most; "exactly": once.
sub check_account
{
	my ($cell, $when, $exactly) = @_;
	my $path = $paths{ $cell->{path} };
	my %users = map { $_ => 0 } emails(@{ $cell->{names} });
	my %wrong;

	$users{ $_->{loginName} }++ foreach grep { exists $users{ $_->{loginName} } } @{ $sim->get('users') };
	foreach my $login (sort keys %users)
	{
		my $sent = $path->{method} eq 'GET' ? 0 : sent($path->{method}, $login);

		$wrong{$login} = "there $users{$login} times" if $users{$login} > 1 || ($exactly && $users{$login} != 1);
		$wrong{$login} .= ", sent $sent times" if $sent > 1 && !$exactly;
	}
	is_deeply(\%wrong, {}, "$when: each login " . ($exactly ? 'once' : 'once at most')) or diag(explain(\%wrong, $sim->get('log')));
	return;
}

# Nothing is left over in the process that did it.
sub check_process
{
	my ($process, $when, $worker) = @_;
	my $now = connections($process);
	my $all = $now->{plain} + $now->{tls};
	my $other = $worker ? connections($pid) : { plain => 0, tls => 0 };

	cmp_ok($now->{plain}, '<=', 1, "$when: a connection at most");
	cmp_ok($now->{tls}, '<=', 1, "$when: to the token service, too");
	LpUsers::wait_for(sub { $sim->text('open') == $all + $other->{plain} + $other->{tls} }, 'the account to have as many connections as we');
	is($worker ? contexts_of($process) : contexts(), '', "$when: no memory context is left over");
	return;
}

sub try_cell
{
	my ($cell) = @_;
	my $path = $paths{ $cell->{path} };
	my $worker = $cell->{path} eq 'worker';
	my $process;

	prepare($cell);
	lay_trap($cell);
	my ($out, $err) = $path->{run}($cell);
	$process = $worker ? $admin->query('SELECT lp_worker_pid()') : $pid;
	unlike($err, qr/XX000|57P01|server closed/, 'no internal error');
	check_moment($cell);
	check_account($cell, 'after the fault');
	$path->{expect}($cell, $out, $err);
	check_process($process, 'after the fault', $worker);

	# mended: the same session goes on
	$sim->remove('faults');
	set_server() if %{ $cell->{set} };
	$path->{again}($cell);
	check_account($cell, 'in the end', 1);
	check_process($process, 'in the end', $worker);
	return;
}

# ---------------------------------------------------------------------------------------------- path: direct call

sub direct_sql
{
	my ($json) = @_;

	return "SELECT r.status, r.error FROM jsonb_array_elements('$json') WITH ORDINALITY u(entity, n),
		LATERAL lp_create_users('$account', u.entity) r";
}

sub run_direct { my ($cell) = @_; return $session->run(direct_sql(users_json(@{ $cell->{names} }))); }

my %direct = (
	broken => { error => qr/^ERROR:  08006: no response from the account: .*^DETAIL:  Outcome unknown: /ms, unknown => 1 },
	unsent => { error => qr/^ERROR:  08001: could not connect to the account: .*^DETAIL:  Nothing was sent\.$/ms },
	unsaid => { row => qr/^50[23]\|./, state => 'failed', reason => 'outcome unknown' },
	busy => { row => qr/^201\|$/, state => 'created' },
	too_busy => { row => qr/^429\|./, state => 'failed' },
	renewed => { row => qr/^201\|$/, state => 'created' },
	fine => { row => qr/^201\|$/, state => 'created' },
	dropped => { row => qr/^201\|the response is larger than max_response_size/, state => 'failed', reason => 'outcome unknown' });

# Nothing was said; or, as an answer that is dropped names no user, that.
sub no_error
{
	my ($err, $unnamed) = @_;

	return is($err, '', 'no error') unless $unnamed;
	like($err, qr/\AWARNING:  01000: account "\d+" did not name \d+ users? in its response: outcome unknown\nDETAIL:[^\n]*\nHINT:[^\n]*\nLOCATION:[^\n]*\n?\z/,
		'no error, but a warning');
	return;
}

sub expect_direct
{
	my ($cell, $out, $err) = @_;
	my $want = $direct{ $cell->{ends} };
	my @rows = split(/\n/, $out);

	if ($want->{row})
	{
		no_error($err, $cell->{ends} eq 'dropped');
		is(scalar(@rows), scalar(@{ $cell->{names} }), 'a row for each');
		like($rows[ @{ $cell->{done} } ] // '', $want->{row}, 'the row');
		is(states(@{ $cell->{struck} }), $want->{state}, 'its state');
		is(rows_say("coalesce(reason, '')", @{ $cell->{struck} }), $want->{reason} // '', 'its reason');
		return;
	}
	like($err, $want->{error}, 'the error');
	is(states(@{ $cell->{names} }), 'no row', 'the record is rolled back');
	warned($cell, $err, $want->{unknown});
	is(scalar(sent('POST', $_)), 0, "$_ is not sent any more") foreach emails(@{ $cell->{rest} });
	return;
}

# The WARNING of a rollback names the users that certainly exist, and those that may exist.
sub warned
{
	my ($cell, $err, $unknown) = @_;
	my @certain = sort $err =~ /rolled back here, but not in account "[^"]*": [^:]*: (.*)/g;
	my @perhaps = $err =~ /may have carried it out \(outcome unknown\): [^:]*: (.*)/g;

	is(join(', ', map { s/ \(id \d+\)//gr } sort split(/, /, join(', ', @certain))), join(', ', sort(emails(@{ $cell->{done} }))),
		'the warning has those who are done') if $cell->{ends} ne 'unsent';
	is(join(', ', map { s/ \(id \d+\)//gr } @perhaps), $unknown ? join(', ', emails(@{ $cell->{struck} })) : '', 'and those who are perhaps');
	return;
}

# As the HINT says: look in the account before it is sent again.
sub again_direct
{
	my ($cell) = @_;
	my @missing = grep { !$sim->users_with("$_\@example.com") } @{ $cell->{names} };
	my ($out, $err) = $session->run(direct_sql(users_json(@missing, "next$cells")));

	is($err, '', 'the next call: no error');
	is($out, join("\n", map { '201|' } @missing, 1), 'the next call works');
	return;
}

# ---------------------------------------------------------------------------------------------- paths: the queue

sub enqueue
{
	my (@names) = @_;

	return $session->query("SELECT count(*) FROM lp_enqueue_users('$account', '" . users_json(@names) . "')");
}

sub due_now
{
	$admin->due_now(wake => 1);
	return;
}

sub run_call
{
	my ($cell) = @_;

	enqueue(@{ $cell->{names} });
	return $session->run("CALL lp_deliver('$account')");
}

# Until the worker has nothing more to do now; what has to wait a second for a 429 is waited for.
sub settled
{
	my ($ends) = @_;
	my $busy = $ends eq 'busy' ? "OR state = 'pending'" : '';

	LpUsers::wait_for(sub { $admin->query("SELECT count(*) FROM lp_requests WHERE state = 'sending' $busy
			OR state IN ('pending', 'uncertain') AND next_attempt_at < clock_timestamp() + interval '300 ms'") eq '0' }, 'the worker to be done');
	return ('', '');
}

sub run_worker
{
	my ($cell) = @_;

	enqueue(@{ $cell->{names} });
	return settled($cell->{ends});
}

# State of what was struck, of what comes after it; what the struck rows say.
my %queued = (
	broken   => { struck => 'uncertain', rest => 'created', says => qr/no response from the account/ },
	unsent   => { struck => 'pending', rest => 'pending', says => qr/could not connect to the account/ },
	unsaid   => { struck => 'uncertain', rest => 'created', says => qr/^50[23] ./ },
	busy     => { struck => 'pending', rest => 'created', says => qr/^429 ./ },
	too_busy => { struck => 'pending', rest => 'pending', says => qr/^429 ./ },
	renewed  => { struck => 'created', rest => 'created' },
	fine     => { struck => 'created', rest => 'created' },
	dropped  => { struck => 'uncertain', rest => 'created', says => qr/^201 .*does not name the user/ });

sub expect_queue
{
	my ($cell, $out, $err) = @_;
	my %want = %{ $queued{ $cell->{ends} } };

	# a worker is patient, and so is a CALL that has something else in hand: it may meet the user again
	%want = %{ $queued{fine} } if $cell->{ends} eq 'busy' && ($cell->{path} eq 'worker' || states(@{ $cell->{struck} }) eq 'created');
	unlike($err, qr/ERROR|WARNING/, 'no error');
	is(states(@{ $cell->{done} }), 'created', 'what was before is created') if @{ $cell->{done} };
	is(states(@{ $cell->{struck} }), $want{struck}, "what was struck: $want{struck}");
	is(states(@{ $cell->{rest} }), $want{rest}, "what comes after: $want{rest}") if @{ $cell->{rest} };
	like(rows_say("concat_ws(' ', status, error, reason)", @{ $cell->{struck} }), $want{says} // qr/^201$/, 'what it says');
	return;
}

sub finished
{
	my ($cell) = @_;

	is(states(@{ $cell->{names} }, "next$cells"), 'created', 'in the end all are created');
	is($admin->query('SELECT count(*) FROM lp_payloads'), '0', 'and no payload is left');
	is($admin->query('SELECT count(*) FROM lp_requests WHERE user_id IS NULL'), '0', 'each has its id');
	return;
}

sub again_call
{
	my ($cell) = @_;

	enqueue("next$cells");
	due_now();
	my (undef, $err) = $session->run("CALL lp_deliver('$account')");
	unlike($err, qr/ERROR|WARNING/, 'the next CALL: no error');
	finished($cell);
	return;
}

sub again_worker
{
	my ($cell) = @_;

	enqueue("next$cells");
	due_now();
	LpUsers::wait_for(sub { $admin->query("SELECT count(*) FROM lp_requests WHERE state <> 'created'") eq '0' }, 'the worker to finish');
	finished($cell);
	return;
}

# ---------------------------------------------------------------------------------------------- paths: statements on a foreign table

sub insert_sql
{
	my ($conflict, @names) = @_;

	return 'INSERT INTO lp.users (login_name, email, full_name, nickname, password_sh, is_enabled, max_chats, profile_ids) VALUES '
	  . join(', ', map { "('$_\@example.com', '$_\@example.com', 'Full $_', '$_', 'Start-1234', true, 3, '{1}')" } @names) . " $conflict";
}

sub update_sql
{
	my ($chats, @names) = @_;

	return "UPDATE lp.users SET max_chats = $chats, full_name = 'Full ' || nickname WHERE login_name IN (" . listed(@names) . ')';
}

sub run_insert { my ($cell) = @_; return $session->run(insert_sql('', @{ $cell->{names} })); }

# What is only to warm the connection up changes something else.
sub run_update { my ($cell) = @_; return $session->run(update_sql($cell->{ends} eq 'fine' && !$cell->{strike} ? 3 : 7, @{ $cell->{names} })); }

my %statement = (
	broken   => { error => qr/^ERROR:  08006: (?:could not \w+ users: )?no response from the account: .*^DETAIL:  Outcome unknown: /ms },
	unsent   => { error => qr/^ERROR:  08001: (?:could not \w+ users: )?could not connect to the account: / },
	unsaid   => { error => qr/^ERROR:  08006: could not (?:create|update) users.*: status 50[23]\n.*^DETAIL:  Outcome unknown\./ms },
	busy     => {},
	too_busy => { error => qr/^ERROR:  53400: could not (?:create|update) users.*: status 429$/m },
	renewed  => {},
	fine     => {},
	dropped  => {});

sub expect_statement
{
	my ($cell, $out, $err) = @_;
	my $want = $statement{ $cell->{ends} };
	my $done = $cell->{path} eq 'insert' ? 'exist in the account by now' : 'have been updated';

	if (!$want->{error})
	{
		my $unnamed = $cell->{path} eq 'insert' && $cell->{ends} eq 'dropped';
		no_error($err, $unnamed);
		is(states(@{ $cell->{ $unnamed ? 'struck' : 'names' } }), $unnamed ? 'failed' : $cell->{path} eq 'insert' ? 'created' : 'done',
			'on record');
		return;
	}
	like($err, $want->{error}, 'the error');
	like($err, qr/^DETAIL: .*"\Q$cell->{struck}[0]\E\@example\.com"/m, 'which names a user') if $cell->{ends} ne 'unsent' || $cell->{path} eq 'insert';
	if (@{ $cell->{done} }) { like($err, qr/Of this statement 2 users $done\./, 'and what is done'); }
	else { unlike($err, qr/Of this statement/, 'nothing is done'); }
	is(states(@{ $cell->{names} }), 'no row', 'the record is rolled back');
	warned($cell, $err, $cell->{ends} =~ /^(?:broken|unsaid)$/);
	is(scalar(sent($paths{ $cell->{path} }{method}, $_)), 0, "$_ is not sent any more") foreach emails(@{ $cell->{rest} });
	return;
}

sub again_insert
{
	my ($cell) = @_;
	my (undef, $err) = $session->run(insert_sql('ON CONFLICT DO NOTHING', @{ $cell->{names} }, "next$cells"));

	is($err, '', 'an interrupted load is repeated');
	return;
}

sub again_update
{
	my ($cell) = @_;
	my (undef, $err) = $session->run(update_sql(7, @{ $cell->{names} }));

	is($err, '', 'the update is repeated');
	is(join(' ', map { $_->{maxChats} } @{ $sim->get('users') }), join(' ', map { 7 } @{ $cell->{names} }), 'all are updated');
	return;
}

# ---------------------------------------------------------------------------------------------- path: scan

sub scan_sql
{
	my ($cell) = @_;
	my $sql = 'SELECT login_name, full_name, skill_ids FROM lp.users';
	# three GETs, one after the other
	my @ids = $cell->{moment} eq 'second of three' ? map { $_->{id} } @{ $sim->get('users') } : ();

	return (@ids ? join(' UNION ALL ', map { "$sql WHERE id = $_" } @ids) : $sql) . ' ORDER BY 1';
}

sub run_scan { my ($cell) = @_; return $session->run(scan_sql($cell)); }

my %scanned = (
	broken   => qr/^ERROR:  08006: could not (?:list users|get user)/,
	unsent   => qr/^ERROR:  08001: could not (?:list users|get user \d+): could not connect to the account/,
	unsaid   => qr/^ERROR:  08006: could not .* of account "$account": status 50[23]$/m,
	too_busy => qr/^ERROR:  53400: could not .* of account "$account": status 429$/m);

sub rows_of { my ($cell) = @_; return join("\n", map { "$_||" } sort(emails(@{ $cell->{names} }))); }

sub expect_scan
{
	my ($cell, $out, $err) = @_;
	my $error = $scanned{ $cell->{ends} };

	like($err, $error ? $error : qr/^$/, $error ? 'the error' : 'no error');
	is($out, $error ? '' : rows_of($cell), $error ? 'and no row' : 'all rows');
	return;
}

sub again_scan
{
	my ($cell) = @_;
	my ($out, $err) = $session->run(scan_sql($cell));

	is("$err$out", rows_of($cell), 'the next scan has all rows');
	return;
}

# ---------------------------------------------------------------------------------------------- all cells

sub set_worker
{
	my ($on) = @_;

	$admin->query("ALTER SYSTEM SET lpusers.worker = $on");
	$admin->query('SELECT pg_reload_conf()');
	LpUsers::wait_for(sub { $_->query('SHOW lpusers.worker') eq $on }, 'the setting') foreach $admin, $session;
	return;
}

# Each path with each fault once; long, at all moments.
sub chosen
{
	my ($fault, $moment, $path) = @_;
	my @sensible = grep { !senseless($faults[$fault], $_, $paths[$path]) } @moments;

	return $ENV{LPUSERS_LONG} || $sensible[ ($fault + $path) % @sensible ] eq $moment;
}

subtest 'each fault at each moment on each path' => sub {
	# What a session keeps for ever is there from here on.
	set_server();
	set_mapping("token 'lp-token'");
	like((run_direct({ names => ['first'] }))[0], qr/^201/, 'a call');

	my (%count, %reasons);
	foreach my $p (0 .. $#paths)
	{
		my $path = $paths[$p];
		my $begun = time();
		my $descriptors;

		set_worker('on') if $path eq 'worker';
		foreach my $f (0 .. $#faults)
		{
			foreach my $moment (@moments)
			{
				my $why  = senseless($faults[$f], $moment, $path);
				my $name = "$faults[$f][0], $moment, $path";

				if ($why) { $reasons{$why}{$name} = 1; next; }
				if (!chosen($f, $moment, $p)) { $count{'left to LPUSERS_LONG'}++; next; }
				$count{$path}++;
				subtest($name => sub { try_cell(new_cell($faults[$f], $moment, $path)); });
				$descriptors //= descriptors($pid);
			}
		}
		cmp_ok(descriptors($pid), '<=', $descriptors + 2, "$path: no descriptor is left open");
		note(sprintf('%s: %d cells, %.1f s', $path, $count{$path}, time() - $begun));
	}
	set_worker('off');
	foreach my $why (sort keys %reasons)
	{
		note("makes no sense, $why:");
		note("    $_") foreach sort keys %{ $reasons{$why} };
		$count{'make no sense'} += keys %{ $reasons{$why} };
	}
	diag(sprintf('fault matrix: %s; %.0f s', join(', ', map { "$_ $count{$_}" } sort keys %count), time() - $started));
};

unlike(LpUsers::log_since($node, 0), qr/terminated by signal|TRAP:|PANIC:/, 'nothing crashed');

done_testing();

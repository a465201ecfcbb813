# Cancel, statement_timeout and terminate end a scan in every phase, at once and with their own SQLSTATE, and nothing of it
# is left: no connection, no temporary file, no memory. The note at the end has the measured latencies.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LpInterrupt;
use LpPeer;
use LpUsers;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

plan(skip_all => 'needs /proc as Linux has it') unless -e "/proc/$$/fd" && -e '/proc/net/tcp';

my $users  = 3000;
my $ca     = "ca_file '$LpUsers::top/test/certs/ca.pem'";
my $sim    = LpUsers::account('--users', $users);
my $tokens = LpUsers::account('--account', 'token');
my $domain = LpUsers::account('--account', 'domain');

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--encoding=UTF8', '--locale=C' ]);
my $slow = LpInterrupt::start_with_slow_resolver($node);
$node->safe_psql('postgres', 'CREATE EXTENSION lpusers; CREATE TABLE witness (phase text)');
my $admin     = LpUsers::session($node);
my $interrupt = LpInterrupt::new($node, $admin);

# ------------------------------------------------------------------------------------------------- the phases

# A foreign server for an account of that name, and its tables in a schema of that name.
sub new_account
{
	my ($account, $options, $mapping) = @_;

	$mapping //= "token 'lp-token'";
	$admin->query(qq{
		CREATE SERVER "s_$account" FOREIGN DATA WRAPPER lpusers OPTIONS (account '$account', connect_timeout '200s', timeout '200s', $options);
		CREATE USER MAPPING FOR CURRENT_USER SERVER "s_$account" OPTIONS ($mapping);
		CREATE SCHEMA "$account"; IMPORT FOREIGN SCHEMA liveperson FROM SERVER "s_$account" INTO "$account"});
	return;
}

my $list   = '/le-users/users';
my $silent = LpPeer::start(LpPeer::silent());
my $full   = LpPeer::full_backlog();
my @phases;

# In all phases but the first ones the account is a stand-in, which a fault strikes; before => what comes before the timeout
# begins to count; sql => the statement to end.
sub phase
{
	my ($name, %more) = @_;

	push @phases, {
		name => $name,
		prepare => sub { return unless $more{sim}; $more{sim}->remove($_) foreach 'faults', 'log'; $more{sim}->post('faults', { method => 'GET', path => $list, times => 0, %{ $more{fault} } }); },
		statement => sub { return "BEGIN;\nINSERT INTO witness VALUES ('$name');\n" . ($more{before} // '') . "SET LOCAL statement_timeout = $_[0];\n$more{sql}"; },
		%more };
	return;
}

sub bytes_seen { return scalar(() = $silent->lines(qr/^bytes/)); }
sub asked { my ($account, $path) = @_; return sub { return $account->count(path => $path); } }

# Enough of the list has been sent for rows to have been read.
sub flows { return ($sim->get('log')->[-1] // { bytes_out => 0 })->{bytes_out} > 200_000; }

# Is a statement of that kind being carried out?
sub runs { my ($word) = @_; return $admin->query("SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND state = 'active' AND query ~ '^\\s*$word'"); }

new_account('12345678', "base_url '$sim->{url}'");
new_account('resolve', "base_url 'http://account.slow.test'");
new_account('connect', "base_url '" . ($full ? $full->url : 'http://127.0.0.1:1') . "'");
new_account('handshake', "base_url '" . $silent->url =~ s/^http:/https:/r . "', $ca");
new_account('token', "base_url '$tokens->{url}', token_url '$tokens->{tls_url}/sentinel/api/v2/account/token/app/token', $ca",
	"client_id 'lp-client', client_secret 'lp-client-secret'");
new_account('domain', "domain_api_url '$domain->{tls_url}', $ca");
$admin->query('ANALYZE "12345678".users');
$admin->query(q{CREATE FUNCTION catches() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT count(entity) FROM "12345678".users);
	EXCEPTION WHEN OTHERS THEN RAISE NOTICE 'caught %', SQLSTATE; RETURN NULL; END $$});

phase('resolving the name', sql => 'SELECT count(*) FROM resolve.users', seen => sub { return LpInterrupt::names_asked($slow); },
	after => sub { LpInterrupt::resolver_returns($slow, @_); });
phase('connecting', sql => 'SELECT count(*) FROM connect.users', seen => sub { return $full->tried; }, level => 1,
	skip => !$full && 'the queue of a listening socket cannot be filled here');
phase('TLS handshake', sql => 'SELECT count(*) FROM handshake.users', seen => \&bytes_seen);
phase('obtaining a token', sql => 'SELECT count(*) FROM token.users', sim => $tokens,
	fault => { method => 'POST', path => '/app/token', action => 'silence', seconds => 200 }, seen => asked($tokens, '/app/token'));
phase('asking the Domain API', sql => 'SELECT count(*) FROM domain.users', sim => $domain,
	fault => { path => 'baseURI.json', action => 'silence', seconds => 200 }, seen => asked($domain, 'baseURI.json'));

my %sim = (sim => $sim, seen => asked($sim, $list));
my $wide = 'SELECT count(entity) FROM "12345678".users';
my $cursor = 'DECLARE c CURSOR FOR SELECT id, entity FROM "12345678".users;';
phase('waiting for the headers', %sim, sql => $wide, fault => { action => 'silence', seconds => 200 });
phase('waiting for the body',    %sim, sql => $wide, fault => { action => 'headers_only', seconds => 200 });
phase('between bytes',           %sim, sql => $wide, fault => { action => 'drip', bytes => 4000, ms => 20 }, seen => \&flows, level => 1);
phase('in the middle',           %sim, sql => $wide, fault => { action => 'stall', seconds => 200 }, seen => \&flows, level => 1);
phase('waiting after a 429',     %sim, sql => $wide, fault => { action => 'retry_after', value => '30' });
phase('in a block that catches errors', %sim, sql => 'SELECT catches()', fault => { action => 'stall', seconds => 200 }, seen => \&flows, level => 1);
phase('draining before a pause', %sim, sql => "$cursor\nFETCH 1 FROM c", fault => { action => 'drip', bytes => 4000, ms => 20 }, seen => \&flows, level => 1);
# none is answered: whether one takes the connection of another that was would be chance
phase('GETs by id',              %sim, sql => 'SELECT login_name FROM "12345678".users WHERE id IN (4000000001, 4000000002, 4000000003)',
	fault => { path => '/users/400000000', action => 'silence', seconds => 200 }, seen => sub { return $sim->count(path => '/users/400000000') == 3; }, level => 1);
phase('reading from the file',   %sim, before => "DECLARE c CURSOR FOR SELECT id FROM \"12345678\".users;\nFETCH 1 FROM c;\n", sql => 'MOVE ALL FROM c',
	fault => { action => 'huge', bytes => 150_000_000 }, seen => sub { return runs('MOVE'); }, level => 1, wait => '', row => 1);

# ------------------------------------------------------------------------------------------------- ending them

sub try_phase
{
	my ($phase, $how, $session, $pid) = @_;
	my $title = "$phase->{name}, $how";
	my ($latency, $offset, $out, $err) = $interrupt->end($phase, $how, $session, $pid);

	like($err, $LpInterrupt::expected{$how}, "$title: SQLSTATE");
	unlike($err, qr/caught/, "$title: not swallowed");
	is($out, $phase->{row} ? '4999999999' : '', "$title: no row");
	cmp_ok($latency, '<', $LpInterrupt::bound, "$title: at once");
	$phase->{after}->($pid) if $phase->{after};
	if ($how eq 'terminate')
	{
		LpUsers::wait_for(sub { !-e "/proc/$pid" }, 'the backend to end');
		$session = $admin;
	}
	else
	{
		($out, $err) = $session->run('SELECT 1');
		like($err, qr/ERROR:  25P02/, "$title: the transaction is aborted");
		$session->query('ROLLBACK');
	}
	$session->nothing_left($title);
	is($session->query('SELECT count(*) FROM witness'), '0', "$title: nor a row");
	$sim->remove('faults');
	is($session->query($wide), $users, "$title: the next scan is whole");
	return;
}

subtest 'cancel, timeout and terminate end a scan in each phase' => sub {
	foreach my $phase (@phases)
	{
	  SKIP:
		{
			skip($phase->{skip}, 1) if $phase->{skip};
			my $session = LpUsers::session($node);
			my $pid     = $session->query('SELECT pg_backend_pid()');

			# libcurl keeps some sockets for as long as it is used: they are there after the first one
			try_phase($phase, 'cancel', $session, $pid);
			my $sockets = LpUsers::sockets_of($pid);
			try_phase($phase, $_, $session, $pid) foreach qw(timeout cancel);
			is(LpUsers::sockets_of($pid), $sockets, "$phase->{name}: no socket is left open");
			try_phase($phase, 'terminate', $session, $pid);
			$session->quit;
		}
	}

	# A savepoint makes the transaction usable again, cursors and all.
	{
		my $session = LpUsers::session($node);
		my ($phase) = grep { $_->{name} eq 'in the middle' } @phases;

		$sim->remove($_) foreach 'faults', 'log';
		$session->query("BEGIN;\nDECLARE d CURSOR FOR SELECT id, entity FROM \"12345678\".users;\nFETCH 1 FROM d");
		my ($latency, $offset, $out, $err) =
		  $interrupt->end({ %$phase, statement => sub { return "SAVEPOINT s;\n$wide"; } }, 'cancel', $session, $session->query('SELECT pg_backend_pid()'));
		like($err, $LpInterrupt::expected{cancel}, 'savepoint: SQLSTATE');
		$sim->remove('faults');
		$session->query('ROLLBACK TO s');
		is($session->query($wide), $users, 'savepoint: the next scan is whole');
		is(scalar(() = $session->query('FETCH ALL FROM d') =~ /"loginName"/g), $users - 1, 'savepoint: a cursor from before it goes on');
		$session->query('COMMIT');
		$session->nothing_left('savepoint');
		is($session->query('SELECT count(*) FROM witness'), '0', 'savepoint: nor a row');
		$session->quit;
	}

	my $log = slurp_file($node->logfile);
	unlike($log, qr/temporary file leak|resource was not closed|PANIC|TRAP|terminated by signal/, 'the log knows of no leak and no crash');
	$interrupt->note_latencies;
};

done_testing();

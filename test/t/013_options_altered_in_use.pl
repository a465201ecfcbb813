# Options that are altered while a session reads or uses them: the next statement goes by what is in the catalogs.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LpUsers;
use Test::More;

my $sim   = LpUsers::account('--users', '30');
my $node  = LpUsers::server(conf => "lpusers.worker = off\n");
my $admin = LpUsers::session($node);

sub posts { return $sim->count(method => 'POST', path => '/le-users/users'); }
sub puts { return $sim->count(method => 'PUT', path => '/le-users/users'); }

# A server altered after a session has read its row, and before the session keeps what it has read.
subtest 'altered while it is read' => sub {
	my $session = LpUsers::session($node);
	my $pid     = $session->query('SELECT pg_backend_pid()');

	LpUsers::connect_account($node, $sim, server => $_) foreach 'race', 'other';
	# this reads which mapping the role has, but not yet the mapping itself
	my ($out, $err) = $session->run(LpUsers::create_sql('ann'));
	like($err, qr/more than one server/, 'two servers for one account');
	$session->query('DROP SERVER other CASCADE');

	$admin->query('BEGIN; LOCK TABLE pg_user_mapping IN ACCESS EXCLUSIVE MODE');
	$admin->query("ALTER SERVER race OPTIONS (SET base_url 'http://127.0.0.1:9', ADD connect_timeout '1s')");
	$session->send(LpUsers::create_sql('ann'));
	my $watcher = LpUsers::session($node);
	LpUsers::wait_for(sub { $watcher->query("SELECT count(*) FROM pg_locks WHERE pid = $pid AND NOT granted AND relation = 'pg_user_mapping'::regclass") },
		'the session to wait for the mapping');
	$admin->query('COMMIT');
	($out, $err) = $session->take;
	like($err, qr/08001: could not connect/, 'the statement goes by the new options');
	($out, $err) = $session->run(LpUsers::create_sql('ann'));
	like($err, qr/08001: could not connect/, 'and so does the next');
	is(posts(), 0, 'the account saw nothing');
	$admin->query('DROP SERVER race CASCADE');
	$_->quit foreach $session, $watcher;
};

# Credentials that are altered while a statement or a delivery uses them.
my $token_url = $sim->tls_url . '/sentinel/api/v2/account/12345678/app/token';
LpUsers::connect_account($node, $sim, mapping => "client_id 'lp-client', client_secret 'lp-client-secret'",
	options => "token_url '$token_url', ca_file '$LpUsers::top/test/certs/ca.pem', batch_size '2', max_connections '1'");
$admin->query('CREATE SCHEMA lp; IMPORT FOREIGN SCHEMA liveperson FROM SERVER acme INTO lp');

# Start the command, alter the mapping when it has sent something, and let it end.
sub altered_meanwhile
{
	my ($session, $command, $sent) = @_;
	my $before = $sent->();

	$sim->post('config', { delay_ms => 50 });
	$session->send($command);
	LpUsers::wait_for(sub { $sent->() > $before }, 'the first request');
	$admin->query("ALTER USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (SET client_secret 'revoked')");
	my ($out, $err) = $session->take;
	$sim->post('config', { delay_ms => 0 });
	unlike($err, qr/ERROR/, 'what has begun goes on');
	return $out;
}

sub restore_mapping
{
	$admin->query("ALTER USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (SET client_secret 'lp-client-secret')");
	return;
}

subtest 'altered while a statement runs' => sub {
	my $session = LpUsers::session($node);
	my $out     = altered_meanwhile($session, "UPDATE lp.users SET nickname = 'r', full_name = 'F', employee_id = 'e' RETURNING 1", \&puts);
	my $err;

	is(() = $out =~ /1/g, 30, 'all are updated');
	($out, $err) = $session->run("SELECT status FROM lp_delete_users('12345678', '{4000000001}')");
	like($err, qr/28000: .*the token service refused/, 'a call has the new credentials');
	($out, $err) = $session->run('SELECT count(*) FROM lp.users');
	like($err, qr/28000: .*the token service refused/, 'a scan, too');
	restore_mapping();
	is($session->query('SELECT count(*) FROM lp.users'), 30, 'and those that are right again');
	$session->quit;
};

subtest 'altered while a cursor is open' => sub {
	my $session = LpUsers::session($node);
	my ($out, $err);

	$session->query('BEGIN; DECLARE c CURSOR FOR SELECT login_name FROM lp.users WHERE id = ANY (ARRAY(SELECT generate_series(4000000001, 4000000010)))');
	$session->query('FETCH 1 FROM c');
	$admin->query("ALTER USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (SET client_id 'other-client')");
	# what reads the catalogs here accepts the invalidation
	($out, $err) = $session->run('SAVEPOINT a; SELECT count(*) FROM lp.skills');
	like($err, qr/28000: .*the token service refused/, 'a statement that begins now has the new credentials');
	is($session->query('ROLLBACK TO a; FETCH ALL FROM c') =~ tr/\n//, 8, 'the cursor goes on with those it has');
	($out, $err) = $session->run('SELECT count(*) FROM lp.skills');
	like($err, qr/28000: .*the token service refused/, '... and does not lend them');
	$session->query('ROLLBACK');
	$admin->query("ALTER USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (SET client_id 'lp-client')");
	$session->quit;
};

subtest 'altered while the queue is delivered' => sub {
	my $session = LpUsers::session($node);
	my $people  = sub { my ($prefix) = @_; return '[' . join(',', map { LpUsers::user("$prefix$_") } 1 .. 20) . ']'; };
	my $states  = "SELECT string_agg(state || n, ' ' ORDER BY state) FROM (SELECT state, count(*) AS n FROM lp_requests WHERE operation = 'create' GROUP BY 1) x";

	$session->query("SELECT count(*) FROM lp_enqueue_users('12345678', '" . $people->('one') . "')");
	altered_meanwhile($session, "CALL lp_deliver('12345678')", \&posts);
	like($session->query($states), qr/^created[1-9]\d? held[1-9]\d?$/, 'the next claim has the new credentials, and none is lost');
	is($session->query("SELECT count(*) FROM lp_requests WHERE login_name ~ '^one'"), 20, 'all are on record');
	$session->query("SELECT count(*) FROM lp_enqueue_users('12345678', '" . $people->('two') . "')");
	$session->run("CALL lp_deliver('12345678')");
	is($session->query("SELECT count(*) FROM lp_requests WHERE state = 'held' AND login_name ~ '^two'"), 20, 'the next delivery holds all');
	$session->quit;
};

done_testing();

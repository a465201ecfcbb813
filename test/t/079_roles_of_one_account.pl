# Roles that do not trust each other send to one account, by one server or by two: the requests of one keep none of the
# other waiting.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use IO::Socket::INET;
use JSON::PP;
use LpUsers;
use Test::More;
use Time::HiRes qw(time);

my $account = '12345678';
my $sim     = LpUsers::account();
my $node    = LpUsers::server(conf => "lpusers.idle_timeout = '10min'\nmax_files_per_process = 100\n");
my $closed  = LpUsers::closed_port();
my $serial  = 0;

LpUsers::connect_account($node, $sim, server => 'shared', options => "token_url 'https://127.0.0.1:$closed/token', timeout '60s', hold_above '0'");
$node->safe_psql('postgres', qq{
	CREATE ROLE north LOGIN; CREATE ROLE south LOGIN;
	GRANT EXECUTE ON FUNCTION lp_enqueue_users(text, jsonb), lp_enqueue_changes(text, jsonb), lp_enqueue_deletes(text, bigint[]), lp_discard(bigint[]) TO north, south;
	CREATE SERVER fake FOREIGN DATA WRAPPER lpusers OPTIONS (account '$account', base_url 'http://127.0.0.1:$closed');
	GRANT USAGE ON FOREIGN SERVER shared TO north;
	CREATE USER MAPPING FOR north SERVER shared OPTIONS (token 'lp-token');});
my $dba   = LpUsers::session($node);
my $north = LpUsers::session($node, role => 'north');
my $south = LpUsers::session($node, role => 'south');

# South has this server, and no other.
sub south_has
{
	my ($server, $mapping) = @_;

	$dba->query("DELETE FROM lp_requests WHERE send_as = 'south'");
	$dba->query("DROP USER MAPPING IF EXISTS FOR south SERVER $_; REVOKE USAGE ON FOREIGN SERVER $_ FROM south") foreach qw(shared fake);
	$dba->query("GRANT USAGE ON FOREIGN SERVER $server TO south; CREATE USER MAPPING FOR south SERVER $server OPTIONS ($mapping)");
	return;
}

sub change { my ($session, $id, $set) = @_; return $session->query("SELECT lp_enqueue_changes('$account', '[{\"id\": $id, \"fullName\": \"F\", \"employeeId\": \"1\", $set}]')"); }
sub hire { my ($session, $name) = @_; $session->query("SELECT lp_enqueue_users('$account', '[" . LpUsers::user($name) . "]')"); return; }
sub state_of { my ($role) = @_; return $dba->query("SELECT string_agg(state, ' ' ORDER BY id) FROM lp_requests WHERE send_as = '$role' AND state <> 'superseded'"); }

sub is_soon
{
	my ($state, $what) = @_;
	my $end = time() + 60;

	Time::HiRes::usleep(50_000) while state_of('north') ne $state && time() < $end;
	is(state_of('north'), $state, $what);
	return;
}

sub again
{
	$dba->query("DELETE FROM lp_requests");
	return;
}

foreach my $case ([ 'another server is not reached', 'fake', "token 'x-token-1'" ], [ "another mapping's token service is not reached", 'shared', "client_id 'x', client_secret 'yyyyyyyyyyyy'" ])
{
	my ($name, @has) = @{$case};

	subtest $name => sub {
		$sim->reset;
		again();
		hire($north, 'first' . ++$serial);
		is_soon('created', 'without the other role');
		south_has(@has);
		foreach my $id (1 .. 3)
		{
			change($south, 4_000_000_100 + $id, '"isEnabled": false');
			hire($north, 'next' . ++$serial);
			is_soon(join(' ', ('created') x ($id + 1)), "beside $id changes that wait");
		}
		hire($south, "south$_") foreach 1 .. 8;
		change($north, $dba->query("SELECT min(user_id) FROM lp_requests WHERE send_as = 'north'"), '"maxChats": 5');
		is_soon('created created created created done', 'a change, beside creates that wait');
		is(state_of('south'), join(' ', ('pending') x 11), 'what is not reached waits');
		LpUsers::wait_for(sub { $dba->query("SELECT count(*) FROM lp_requests WHERE send_as = 'south' AND error LIKE 'could not %: %'") == 11 }, 'each row that waits to say why');
	};
}

# Requests of a role whose credentials the account refuses are held.
subtest 'held requests of another role neither order nor reserve' => sub {
	$sim->reset;
	again();
	$sim->post('users', [ map { decode_json(LpUsers::user("u$_")) } 1 .. 2 ]);
	south_has('shared', "token 'no-such-token'");
	change($south, 4_000_000_001, '"maxChats": 1');
	hire($south, 'same');
	$south->query("SELECT lp_enqueue_deletes('$account', ARRAY[4000000002])");
	LpUsers::wait_for(sub { state_of('south') eq 'held held held' }, 'its requests to be held');
	change($north, 4_000_000_001, '"maxChats": 2');
	change($north, 4_000_000_002, '"isEnabled": false');
	hire($north, 'same');
	is_soon('done done created', 'those of this role are carried out');
	is(state_of('south'), 'held held held', '... and nothing of the other');
	$dba->query("ALTER USER MAPPING FOR south SERVER shared OPTIONS (SET token 'lp-token'); SELECT lp_release('$account')");
	LpUsers::wait_for(sub { state_of('south') eq 'done failed done' }, 'the others, once they are released');
	is(state_of('south'), 'done failed done', 'a released create finds the user');
	is($sim->users_with('same@example.com'), 1, '... who was created once');
};

# Servers of other owners for the same account: their services accept and never answer.  What the role that owns one sends
# keeps nothing waiting that another role sends by another server.
my $silent = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 128) or die "listen: $@";

sub owner_of_silent_server
{
	my ($role) = @_;
	my $port = $silent->sockport;

	$dba->query("CREATE ROLE $role LOGIN; GRANT USAGE ON FOREIGN DATA WRAPPER lpusers TO $role; CREATE SCHEMA $role AUTHORIZATION $role;
		GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO $role;
		CREATE SERVER $role FOREIGN DATA WRAPPER lpusers OPTIONS (account '$account', base_url 'http://127.0.0.1:$port', timeout '2min');
		ALTER SERVER $role OWNER TO $role");
	my $session = LpUsers::session($node, role => $role);
	$session->query("CREATE USER MAPPING FOR $role SERVER $role OPTIONS (token 'x-token-1');
		IMPORT FOREIGN SCHEMA liveperson LIMIT TO (users) FROM SERVER $role INTO $role");
	return $session;
}

sub is_in_flight
{
	my ($role) = @_;

	LpUsers::wait_for(sub { state_of($role) =~ /^sending/ }, "the requests of $role to be under way");
	return;
}

sub north_is_served
{
	my ($beside) = @_;
	my $id = ($sim->post('users', [ decode_json(LpUsers::user('n' . ++$serial)) ]), $sim->get('users')->[-1]{id})[1];

	$dba->query("DELETE FROM lp_requests WHERE send_as = 'north'");
	hire($north, 'beside' . ++$serial);
	change($north, $id, '"maxChats": 5');
	is_soon('created done', "a hire and a change beside $beside");
	my (undef, $err) = $north->run("SET statement_timeout = '20s'; UPDATE lp.users SET max_chats = 7, full_name = 'F', employee_id = '1' WHERE id = $id");
	is($err, '', "an UPDATE of a foreign table beside $beside");
	return;
}

subtest 'servers of other owners whose services do not answer' => sub {
	$sim->reset;
	again();
	$dba->query("CREATE SCHEMA lp; IMPORT FOREIGN SCHEMA liveperson LIMIT TO (users) FROM SERVER shared INTO lp; GRANT USAGE ON SCHEMA lp TO north;
		GRANT SELECT, UPDATE ON lp.users TO north; GRANT EXECUTE ON FUNCTION lp_update_users(text, jsonb, bigint) TO north");
	my %owner = map { $_ => owner_of_silent_server($_) } qw(east west far);
	change($owner{east}, 4_000_000_001, '"maxChats": 1');
	is_in_flight('east');
	north_is_served('a change');
	hire($owner{west}, "west$_") foreach 1 .. 2;
	is_in_flight('west');
	north_is_served('creates');
	$owner{far}->send("INSERT INTO far.users (login_name, full_name, nickname, email, password_sh, is_enabled, max_chats, profile_ids, member_of)
		VALUES ('far\@example.com', 'F', 'far', 'far\@example.com', 'Start-1234', true, 3, '{1}', 1)");
	LpUsers::wait_for(sub { $dba->query("SELECT count(*) FROM pg_stat_activity WHERE usename = 'far' AND wait_event_type = 'Extension'") }, 'the INSERT to wait');
	north_is_served("another session's INSERT");
	is(state_of('east') . ' ' . state_of('west'), 'sending sending sending', 'the others wait');
};

# Services that accept and never answer: some wait for a delete, the others for a create, and the worker sees all at the same moment.
# Of the descriptors for connections, a third of max_files_per_process, a role uses at most half; each account needs three.
subtest 'silent accounts of one role do not use up the descriptors of the worker' => sub {
	my $silent = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 128) or die "listen: $@";
	my $port   = $silent->sockport;
	my @connections;
	my $connected = sub { while (my $connection = $silent->accept) { push @connections, $connection; } return scalar(@connections); };

	$silent->blocking(0);
	$sim->reset;
	again();
	$dba->query("CREATE SERVER silent$_ FOREIGN DATA WRAPPER lpusers OPTIONS (account 'S$_', base_url 'http://127.0.0.1:$port', timeout '4min');
		GRANT USAGE ON FOREIGN SERVER silent$_ TO south; CREATE USER MAPPING FOR south SERVER silent$_ OPTIONS (token 'x-token-1')") foreach 1 .. 20;
	$south->query('BEGIN;' . join(';', map { "SELECT lp_enqueue_deletes('S$_', '{4000000001}')" } 1 .. 10) . ';' .
		join(';', map { "SELECT lp_enqueue_users('S$_', '[" . LpUsers::user("s$_") . "]')" } 11 .. 20) . '; COMMIT');
	LpUsers::wait_for(sub { $connected->() >= 2 }, 'some to be sent');
	foreach my $n (1 .. 3)
	{
		hire($north, 'beside' . ++$serial);
		is_soon(join(' ', ('created') x $n), 'another account is served');
	}
	cmp_ok($connected->(), '<=', 5, 'the silent accounts have no more than half of the connections');
	is($dba->query("SELECT count(*) FROM lp_requests WHERE error IS NOT NULL"), 0, 'no request has an error');
};

done_testing();

# The reader of lists takes users of 1 MB: a larger one would make the account unreadable for all.  No write makes one.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP;
use LpUsers;
use Test::More;

my $sim  = LpUsers::account();
my $node = LpUsers::server(conf => "lpusers.worker = off\n");
LpUsers::connect_account($node, $sim);
my $session = LpUsers::session($node);
my $id = ($sim->reset, $sim->post('users', [ decode_json(LpUsers::user('grows')) ]), $sim->get('users')->[-1]{id})[2];
my $change = sub { return "jsonb_build_object('id', $id, '$_[0]', repeat('x', $_[1]), 'fullName', 'F', 'employeeId', '1')"; };
my $user = "'" . LpUsers::user('huge') . "'::jsonb || jsonb_build_object('zz', repeat('x', 1100000))";
my $refused = qr/ERROR:  22023: .*\nDETAIL:  .*is larger than 1 MB/;

$session->query("SELECT lp_enqueue_changes('12345678', " . $change->($_, 600_000) . ')') foreach qw(zz1 zz2);
is($session->query('SELECT string_agg(state, $$ $$) FROM lp_requests'), 'pending pending', 'queued changes are not merged beyond it');
$session->query("SELECT lp_enqueue_changes('12345678', " . $change->('zz3', 10) . ')');
is($session->query('SELECT string_agg(state, $$ $$ ORDER BY id) FROM lp_requests'), 'pending superseded pending', '... a small one is');
$session->query('CALL lp_deliver()');
is($session->query("SELECT string_agg(state || coalesce(': ' || error, ''), ', ' ORDER BY id) FROM lp_requests WHERE state <> 'superseded'"), 'done, failed: the user would be larger than 1 MB',
	'what would make the user larger is failed');
like(($session->run("SELECT status FROM lp_update_users('12345678', $user || '{\"id\": $id}')"))[1], $refused, 'lp_update_users');
like(($session->run("SELECT status FROM lp_create_users('12345678', jsonb_build_array('" . LpUsers::user('small') . "'::jsonb, $user))"))[1], qr/User 2: is larger than 1 MB\. Nothing was sent/, 'lp_create_users');
is($session->query("SELECT ordinal || ' ' || problem FROM lp_validate_users($user)"), '1 is larger than 1 MB', 'lp_validate_users');
$session->query(q{CREATE SCHEMA lp; CREATE FOREIGN TABLE lp.users (id bigint, login_name text, email text, full_name text, nickname text, password_sh text, is_enabled boolean,
	max_chats int, profile_ids bigint[], member_of jsonb, employee_id text, zz1 text OPTIONS (attribute 'zz1'), zz3 text OPTIONS (attribute 'zz3')) SERVER acme OPTIONS (resource 'users')});
like(($session->run("UPDATE lp.users SET zz3 = repeat('x', 600000), full_name = 'F', employee_id = '1' WHERE id = $id"))[1], $refused, 'UPDATE of a foreign table');
like(($session->run("INSERT INTO lp.users (login_name, email, full_name, nickname, password_sh, is_enabled, max_chats, profile_ids, member_of, zz3) VALUES
	('i\@x.example', 'i\@x.example', 'I', 'i', 'Start-1234', true, 3, '{1}', '{\"agentGroupId\": 1}', repeat('x', 1100000))"))[1], $refused, 'INSERT');
is($session->query("SELECT length(zz1) FROM lp.users WHERE id = $id"), '600000', 'the account can be read');
done_testing();

# Users that a service shows with few attributes, with their password, as another user, or with values that are not the API's: nothing is
# written back that was not read, and no user is shown or changed for another.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP;
use LpUsers;
use Test::More;

my $account = '12345678';
my $true    = JSON::PP::true;
my $sim     = LpUsers::account();
my $node    = LpUsers::server(conf => "lpusers.worker = off\n");
# the responses that are made up have no revision
LpUsers::connect_account($node, $sim, options => "if_match 'off'");
LpUsers::import_tables($node);
my $session = LpUsers::session($node);

# Users 4000000001 and so on, with all attributes; their names are shown.
sub fresh
{
	my ($n, %more) = @_;

	$sim->reset;
	$sim->remove('faults');
	$session->query('DELETE FROM lp_payloads; DELETE FROM lp_requests');
	$sim->post('users', [ map { decode_json(LpUsers::user("u$_", description => 'kept', passwordSh => undef, %more)) } 1 .. $n // 1 ]);
	return map { $_->{id} } @{ $sim->get('users') };
}

# The service answers GETs of users by this.
sub shows { my ($body) = @_; $sim->post('faults', { method => 'GET', path => '/users', action => 'body', status => 200, body => $body, times => 0 }); return; }
sub puts { return $sim->count(method => 'PUT', path => '/le-users/users'); }
sub said { my ($sql) = @_; my ($out, $err) = $session->run($sql); return $out . $err; }
sub rows { return $session->query("SELECT concat_ws(' ', state, error, reason) FROM lp_requests ORDER BY id"); }

# Queue a change of a user, and deliver it.
sub change
{
	my ($set) = @_;
	$session->query("SELECT count(*) FROM lp_enqueue_changes('$account', '$set')");
	$session->run("CALL lp_deliver('$account')");
	return rows();
}

sub entity { my ($id, %more) = @_; return { %{ decode_json(LpUsers::user('u1', description => 'kept')) }, passwordSh => undef, id => $id, %more }; }

subtest 'a user with few attributes is not written back' => sub {
	my ($id) = fresh();
	my $few = encode_json([ { id => $id, loginName => 'u1@example.com', deleted => JSON::PP::false, pid => 'x' } ]);

	shows($few);
	like(said("UPDATE lp.users SET max_chats = 5, full_name = 'F' WHERE login_name = 'u1\@example.com'"), qr/ERROR:  55000: cannot update user .*account has not shown all of its attributes/, 'listed');
	like(said("UPDATE lp.users SET max_chats = 5, full_name = 'F' WHERE id = $id"), qr/ERROR:  55000: cannot update user .*"email"/s, 'by its id');
	$sim->remove('faults');
	shows($few =~ s/^\[|\]$//gr);
	like(change(qq({"id": $id, "maxChats": 5, "fullName": "F"})), qr/^failed .*the account has not shown all attributes of the user: "email" is missing/, 'queued');
	foreach my $attribute (qw(loginName email isEnabled profileIds))
	{
		my $user = entity($id);

		delete $user->{$attribute};
		$sim->remove('faults');
		shows(encode_json($user));
		like(said("UPDATE lp.users SET max_chats = 5, full_name = 'F' WHERE id = $id"), qr/ERROR/, "without $attribute");
	}
	is(puts(), 0, 'nothing was sent');
	is($sim->get('users')->[0]{description}, 'kept', 'nothing is lost');
};

subtest 'a password that the service shows' => sub {
	my ($id) = fresh();
	my $shown = entity($id, passwordSh => '********', oldPassword => 'Old-1234', fullName => 'Full');
	my $escaped = encode_json([$shown]);

	$session->query('ALTER FOREIGN TABLE lp.users ADD pw text OPTIONS (attribute \'passwordSh\'), ADD plain text OPTIONS (attribute \'*\')') unless $session->query("SELECT count(*) FROM pg_attribute WHERE attname = 'pw'");
	# the name of an attribute can be written with an escape
	$escaped =~ s/passwordSh/password\\u0053h/;
	shows($escaped);
	my $seen = said('SELECT entity, plain, pw, password_sh FROM lp.users');
	like($seen, qr/u1\@example.com/, 'the user is shown');
	unlike($seen, qr/\*\*\*|Old-1234|password/, 'without it');
	said("UPDATE lp.users SET max_chats = 5, full_name = 'F' WHERE id = $id");
	is(puts(), 1, 'an update is sent');
	$sim->remove('faults');
	shows($escaped =~ s/^\[|\]$//gr);
	change(qq({"id": $id, "maxChats": 6, "fullName": "F"}));
	is(puts(), 2, 'a queued change, too');
	unlike(encode_json($sim->get('log')), qr/\*\*\*\*/, 'neither has it');

	# the response to a create repeats it
	$sim->remove('faults');
	$sim->post('faults', { method => 'POST', path => '/users', action => 'body', status => 201, body => encode_json([ entity(5, passwordSh => 'Start-1234', loginName => 'n@example.com') ]) });
	$seen = said("INSERT INTO lp.users (login_name, email, full_name, nickname, password_sh, is_enabled, max_chats, profile_ids) VALUES ('n\@example.com', 'n', 'n', 'n', 'Start-1234', true, 1, '{1}') RETURNING id, entity, plain");
	like($seen, qr/^5\|/, 'RETURNING');
	unlike($seen, qr/Start-1234/, 'does not show it');
	$sim->post('faults', { method => 'POST', path => '/users', action => 'body', status => 201, body => '' });
	unlike(said("INSERT INTO lp.users (entity) SELECT person('m') RETURNING entity"), qr/Start-1234/, 'nor the entity as it was sent');
};

subtest 'the response to an update is another user' => sub {
	my ($id) = fresh(2);
	$sim->post('faults', { method => 'PUT', path => '/users', action => 'body', status => 200, body => encode_json([ entity(77, loginName => 'stranger@example.com') ]) });
	unlike(said("UPDATE lp.users SET max_chats = 5, full_name = 'F' WHERE id = $id RETURNING id, login_name"), qr/77|stranger/, 'it is not shown');
};

subtest 'deleted, in other words' => sub {
	foreach my $yes ('1', '"1"', '"t"', '"yes"', '"TRUE"')
	{
		my ($id) = fresh();
		my $user = encode_json(entity($id));

		$user =~ s/^\{/{"deleted":$yes,/;
		shows($user);
		is(said("SELECT id FROM lp.users WHERE id = $id"), '', "$yes: by id");
		like(change(qq({"id": $id, "maxChats": 6, "fullName": "F"})), qr/^failed .*gone/, "$yes: queued");
		is(puts(), 0, "$yes: nothing sent");
	}
};

subtest 'an error with the status of a success' => sub {
	my ($id)  = fresh();
	my $where = "WHERE login_name = 'u1\@example.com'";
	my $user  = encode_json({ %{ entity($id) }, fullName => 'F' });
	my %writes = (
		PUT    => [ "UPDATE lp.users SET max_chats = 5, full_name = 'F' $where", "SELECT status, error FROM lp_update_users('$account', '$user')" ],
		DELETE => [ "DELETE FROM lp.users $where", "SELECT status, error FROM lp_delete_users('$account', '{$id}')" ]);

	foreach my $method (sort keys %writes)
	{
		foreach my $status (200, 207)
		{
			my ($table, $call) = @{ $writes{$method} };

			$sim->post('faults', { method => $method, path => '/users', action => 'body', status => $status, body => '{"error":{"message":"no"}}', times => 2 });
			like(said($table), qr/ERROR:  08006: .*status $status, but the response is an error/s, "$table, $status");
			like(said($call), qr/status $status, but the response is an error/, "$call, $status");
		}
	}
	is(scalar(@{ $sim->get('users') }), 1, 'the user is there');
};

subtest 'ids and numbers' => sub {
	my ($id) = fresh();

	shows('[{"id":"","loginName":"x@example.com"}]');
	like(said('SELECT count(*) FROM lp.users'), qr/ERROR.*an entity has no id/, 'a blank id');
	foreach my $odd ("+$id", " $id ", 'x', '')
	{
		$sim->remove('faults');
		shows(encode_json(entity($odd)));
		like(said("SELECT login_name FROM lp.users WHERE id = $id"), qr/ERROR.*(?:the response is another user|an entity has no id)/, "id \"$odd\"");
	}
	fresh();
	like(said("UPDATE lp.users SET profile_ids = '{{1,2},{3,4}}', full_name = 'F' WHERE id = $id"), qr/ERROR.*"profileIds" must be an array of positive whole numbers/s, 'an array of arrays');
};

done_testing();

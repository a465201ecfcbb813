# INSERT and COPY of more users than a request takes: several requests at a time, and what is reported when one of them fails.
#
# After each failure the account is asked: the ERROR counts the users of the statement that are there, no login is there twice,
# and the WARNING names those that a rollback leaves there.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use LpUsers;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $sim  = LpUsers::account();
my $node = LpUsers::server(conf => "lpusers.worker = off\nlpusers.max_changes = 0\n");
LpUsers::connect_account($node, $sim, options => "timeout '20s', batch_size '5', max_connections '4'");
$node->safe_psql('postgres', q{
	CREATE SCHEMA lp;
	IMPORT FOREIGN SCHEMA liveperson LIMIT TO (users) FROM SERVER acme INTO lp;
	CREATE FOREIGN TABLE lp.people (login_name text, full_name text, nickname text, email text, password_sh text, is_enabled boolean,
		max_chats integer, profile_ids bigint[]) SERVER acme OPTIONS (resource 'users');
	CREATE FUNCTION staff(prefix text, last integer, bad integer[] DEFAULT '{}', more text DEFAULT '') RETURNS SETOF lp.people LANGUAGE sql IMMUTABLE AS $$
		SELECT prefix || i || '@example.com', 'Full', prefix || i, prefix || i || '@example.com', CASE WHEN i = ANY (bad) THEN 'short' ELSE 'Start-1234' END,
			true, 3, '{1001}'::bigint[] FROM generate_series(1, last) i $$;});
my $session = LpUsers::session($node);
my $other   = LpUsers::session($node);

# Users with these logins who are not deleted, and those whom the account holds twice.
sub there { my ($prefix) = @_; return scalar(grep { !$_->{deleted} && $_->{loginName} =~ /^$prefix\d/ } @{ $sim->get('users') }); }
sub twice { return $sim->text('duplicates') =~ s/\s//gr; }
sub posts { return [ grep { $_->{method} eq 'POST' && $_->{path} =~ m{/users$} } @{ $sim->get('log') } ]; }

sub fault { my (%fault) = @_; $sim->post('faults', { method => 'POST', path => '/users', %fault }); return; }

my $statements = 0;

# Requests that are under way at a time, at most, while a statement runs.
sub most_at_a_time
{
	my ($sql) = @_;
	my $most = 0;
	my $end = 'end' . ++$statements;

	$sim->remove('log');
	$sim->post('config', { delay_ms => 200 });
	$session->send("$sql; SELECT 1 AS $end WHERE false");
	until ($session->has_error(0) || $other->query("SELECT count(*) FROM pg_stat_activity WHERE state = 'idle' AND query ~ '$end ' AND pid <> pg_backend_pid()"))
	{
		my $n = grep { $_->{status} == 0 } @{ posts() };

		$most = $n if $n > $most;
		usleep(5000);
	}
	my (undef, $err) = $session->take;
	$sim->post('config', { delay_ms => 0 });
	is($err, '', "$sql: no error");
	return $most;
}

# Run a statement that fails; what its ERROR and WARNINGs say of users who are done, and how many are there. The account takes
# its time, so that as many requests are in flight as may be when the first one ends.
sub fails
{
	my ($name, $prefix, $sql, $error, %expected) = @_;

	$sim->remove('log');
	$sim->post('config', { delay_ms => 300 });
	my (undef, $err) = $session->run($sql);
	$sim->post('config', { delay_ms => 0 });
	my $there = there($prefix);
	my $counted = $err =~ /Of this statement (\d+) user/ ? $1 : 0;
	my $warned = 0;

	like($err, $error, "$name: the ERROR");
	is($counted, $there - ($expected{more} // 0), "$name: it counts who is there") or diag($err);
	$warned += $1 while $err =~ /rolled back here.*?create of (\d+) user/g;
	is($warned, $there + ($expected{doubtful} // 0), "$name: so does the WARNING") or diag($err);
	is(twice(), '[]', "$name: no login is there twice");
	is($session->query('SELECT count(*) FROM lp_requests'), 0, "$name: no record is left");
	$sim->remove('faults');
	return $err;
}

subtest 'up to max_connections requests at a time' => sub {
	is(most_at_a_time(q{INSERT INTO lp.people SELECT * FROM staff('a', 52)}), 4, 'INSERT: as many as max_connections');
	is(there('a'), 52, 'INSERT: all are there');
	is(join(',', sort { $a <=> $b } map { scalar(@{ $_->{logins} }) } @{ posts() }), '2,' . join(',', (5) x 10), 'INSERT: batches of batch_size');
	is($session->query(q{SELECT count(*) || ' ' || count(DISTINCT batch) || ' ' || count(user_id) FROM lp_requests WHERE state = 'created'}), '52 11 52', 'INSERT: all are on record');
	$session->query(q{COPY (SELECT * FROM staff('b', 40)) TO '} . $sim->{dir} . q{/rows'});
	is(most_at_a_time("COPY lp.people FROM '$sim->{dir}/rows'"), 4, 'COPY: as many as max_connections');
	is(there('b'), 40, 'COPY: all are there');
	is(most_at_a_time(q{INSERT INTO lp.people SELECT * FROM staff('a', 60) ON CONFLICT DO NOTHING}), 2, 'ON CONFLICT DO NOTHING: those who are not there');
	is(there('a'), 60, 'ON CONFLICT DO NOTHING: all are there');
	is(twice(), '[]', 'no login is there twice');
	# more rows than are handed over at a time
	$session->query(q{INSERT INTO lp.people SELECT * FROM staff('c', 503)});
	is(there('c'), 503, 'many: all are there');
	is($session->query(q{SELECT count(*) FROM lp_requests r JOIN (SELECT (u->>'id')::bigint AS id, u->>'loginName' AS login FROM jsonb_array_elements('} .
		$sim->text('users') =~ s/'/''/gr . q{'::jsonb) u) a ON a.id = r.user_id AND a.login = r.login_name WHERE r.login_name ~ '^c'}), 503, 'many: each with its id');
};

subtest 'what was certainly not carried out is sent again' => sub {
	$session->query('DELETE FROM lp_requests');
	fault(action => 'retry_after', value => '1', skip => 1, times => 2);
	$session->query(q{INSERT INTO lp.people SELECT * FROM staff('d', 40)});
	is(there('d') . ' ' . twice(), '40 []', '429: waited for, each is created once');
	$sim->remove('faults');
	# three of those that are in flight together
	fault(action => 'status', status => 413, times => 3);
	$sim->post('config', { delay_ms => 300 });
	$session->query(q{INSERT INTO lp.people SELECT * FROM staff('e', 40)});
	$sim->post('config', { delay_ms => 0 });
	is(there('e') . ' ' . twice(), '40 []', '413: sent in halves, each is created once');
	$sim->remove('faults');
	is($session->query(q{SELECT count(*) || ' ' || count(DISTINCT login_name) FROM lp_requests WHERE state = 'created'}), '80 80', 'what was not carried out has no record');
	LpUsers::connect_account($node, $sim, server => 'client', mapping => "client_id 'lp-client', client_secret 'lp-client-secret'",
		options => "token_url '$sim->{tls_url}/sentinel/api/v2/account/12345678/app/token', ca_file '$LpUsers::top/test/certs/ca.pem', batch_size '5', max_connections '4'");
	$session->query(q{CREATE FOREIGN TABLE lp.others (login_name text, full_name text, nickname text, email text, password_sh text, is_enabled boolean,
		max_chats integer, profile_ids bigint[]) SERVER client OPTIONS (resource 'users')});
	$session->query(q{INSERT INTO lp.others SELECT * FROM staff('f', 1)});
	$sim->post('tokens/expire', {});
	$session->query(q{INSERT INTO lp.others SELECT * FROM staff('g', 40)});
	is(there('g') . ' ' . twice(), '40 []', '401: another bearer, each is created once');
	$session->query('DELETE FROM lp_requests');
};

subtest 'the ERROR counts all who exist' => sub {
	fails('guilty user', 'h', q{INSERT INTO lp.people SELECT * FROM staff('h', 40, '{13}')}, qr/DETAIL:  User "h13\@example\.com": the password/);
	$session->query(q{INSERT INTO lp.people SELECT * FROM staff('h', 40) ON CONFLICT DO NOTHING; DELETE FROM lp_requests});
	is(there('h') . ' ' . twice(), '40 []', 'guilty user: the statement can be repeated');
	fails('two of them', 'i', q{INSERT INTO lp.people SELECT * FROM staff('i', 40, '{8,18}')}, qr/DETAIL:  User "i8\@example\.com": the password/, doubtful => 5);
	$sim->post('config', { bulk => 'partial' });
	fails('an account that carries out the others', 'j', q{INSERT INTO lp.people SELECT * FROM staff('j', 40, '{8,18}')}, qr/DETAIL:  User "j8\@example\.com": the password/,
		more => 4, doubtful => 1);
	$sim->post('config', { bulk => 'all_or_nothing' });
	fault(action => 'reset', applied => \1, skip => 2);
	fails('no answer', 'k', q{INSERT INTO lp.people SELECT * FROM staff('k', 40)}, qr/ERROR:  08006: .*DETAIL:  Outcome unknown: the request was sent\. 5 users, the first is/s, more => 5);
	fault(action => 'status', status => 500, skip => 2);
	fails('500', 'l', q{INSERT INTO lp.people SELECT * FROM staff('l', 40)}, qr/DETAIL:  Outcome unknown\. 5 users/, doubtful => 5);
	fault(action => 'status', status => 403, skip => 2);
	fails('403', 'm', q{INSERT INTO lp.people SELECT * FROM staff('m', 40)}, qr/ERROR:  42501: .*status 403/);
	fails('a row that is wrong', 'n', q{INSERT INTO lp.people SELECT s.login_name, s.full_name, s.nickname, CASE WHEN nickname <> 'n23' THEN email END, password_sh, is_enabled,
		max_chats, profile_ids FROM staff('n', 40) s}, qr/DETAIL:  Row 23, user "n23\@example\.com": "email" is required/);
	$session->query(q{ALTER SERVER acme OPTIONS (SET base_url 'http://127.0.0.1:1')});
	fails('nothing listens', 'o', q{INSERT INTO lp.people SELECT * FROM staff('o', 40)}, qr/ERROR:  08001: .*Nothing was sent\./s);
	$session->query("ALTER SERVER acme OPTIONS (SET base_url '$sim->{url}')");
};

subtest 'rows are collected while requests are in flight' => sub {
	my $pid = $session->query('SELECT pg_backend_pid()');

	$session->query(q{CREATE FUNCTION pause(login text, at text, seconds float8) RETURNS text LANGUAGE plpgsql AS $$
		BEGIN
			IF login = at AND seconds > 0 THEN PERFORM pg_sleep(seconds); ELSIF login = at THEN PERFORM pg_advisory_xact_lock_shared(59); END IF;
			RETURN login;
		END $$; DELETE FROM lp_requests});
	my $rest = 'full_name, nickname, email, password_sh, is_enabled, max_chats, profile_ids';
	$other->query('SELECT pg_advisory_lock(59)');
	fault(action => 'hold', times => 2);
	$session->send("INSERT INTO lp.people SELECT pause(login_name, 's12\@example.com', 0), $rest FROM staff('s', 40)");
	LpUsers::wait_for(sub { $other->query("SELECT wait_event FROM pg_stat_activity WHERE pid = $pid") eq 'advisory' }, 'the query to stop at a row of the third batch');
	LpUsers::wait_for(sub { $sim->get('faults')->[0]{struck} == 2 }, 'two requests to be in flight');
	is($other->query("SELECT count(*) FROM pg_locks WHERE pid = $pid AND locktype = 'userlock'"), 0, 'other sessions may write meanwhile');
	$sim->remove('faults');
	$other->query('SELECT pg_advisory_unlock(59)');
	my (undef, $err) = $session->take;
	is($err, '', 'no error');
	is(there('s') . ' ' . twice(), '40 []', 'all are there');

	$session->query("ALTER SERVER acme OPTIONS (SET timeout '1s')");
	$sim->post('config', { delay_ms => 100 });
	(undef, $err) = $session->run("INSERT INTO lp.people SELECT pause(login_name, 't12\@example.com', 2), $rest FROM staff('t', 40)");
	is($err, '', 'the time of the query does not count for the option "timeout"');
	is(there('t') . ' ' . twice(), '40 []', 'all are there');
	$sim->post('config', { delay_ms => 0 });
	fault(action => 'silence', seconds => 200, skip => 2);
	$session->query('DELETE FROM lp_requests');
	$err = fails('an account that does not answer', 'u', q{INSERT INTO lp.people SELECT * FROM staff('u', 40)}, qr/ERROR:  08006: .*Outcome unknown: the request was sent/s,
		more => 0, doubtful => 5);
	$session->query("ALTER SERVER acme OPTIONS (SET timeout '20s')");

	# a value that is refused at once, while the requests of earlier rows are in flight
	fails('a value that is wrong', 'v', q{INSERT INTO lp.people SELECT login_name, full_name, nickname, CASE WHEN nickname = 'v23' THEN repeat('x', 300) ELSE email END, password_sh, is_enabled,
		max_chats, CASE WHEN nickname = 'v23' THEN ARRAY[0] ELSE profile_ids END FROM staff('v', 40)}, qr/DETAIL:  Row 23, user "v23\@example\.com": "profileIds" must be an array of positive whole numbers/);
};

subtest 'a cancelled statement names what it cannot undo' => sub {
	my $pid = $session->query('SELECT pg_backend_pid()');

	fault(action => 'silence', seconds => 200, applied => \1, skip => 2, times => 2);
	$session->send(q{INSERT INTO lp.people SELECT * FROM staff('p', 40)});
	LpUsers::wait_for(sub { $sim->get('faults')->[0]{struck} == 2 && there('p') == 40 }, 'all to be there');
	my $start = Time::HiRes::time();
	$other->query("SELECT pg_cancel_backend($pid)");
	my (undef, $err) = $session->take;
	like($err, qr/ERROR:  57014/, 'cancel: 57014');
	cmp_ok(Time::HiRes::time() - $start, '<', 5, 'cancel: at once');
	like($err, qr/but not in account "12345678": create of 30 user/, 'cancel: those that were answered');
	like($err, qr/outcome unknown\): create of 10 user/, 'cancel: those that were not, in one WARNING');
	$sim->remove('faults');
};

subtest 'writers take turns' => sub {
	$session->query(q{DELETE FROM lp_requests});
	$sim->remove('log');
	$sim->post('config', { delay_ms => 100 });
	$session->send(q{INSERT INTO lp.people SELECT * FROM staff('q', 2000)});
	LpUsers::wait_for(sub { $sim->count(method => 'POST', status => 201) > 0 }, 'the first of them');
	my (undef, $err) = $other->run(q{UPDATE lp.users SET nickname = 'changed', full_name = 'x' WHERE login_name ~ '^a'});
	is($err, '', 'UPDATE beside an INSERT');
	(undef, $err) = $session->take;
	is($err, '', 'INSERT beside an UPDATE');
	is(there('q'), 2000, '... all are there');
	my @methods = map { $_->{method} } @{ $sim->get('log') };
	like(join(' ', @methods), qr/PUT.*POST/, 'they have taken turns');
	is(scalar(grep { $_->{status} == 412 } @{ $sim->get('log') }), 0, '... and waited for each other');

	# the queue writes, too
	$session->query('SET client_min_messages = warning; DROP SERVER client CASCADE; RESET client_min_messages; DELETE FROM lp_requests');
	$sim->remove('log');
	$session->query(q{SELECT count(*) FROM lp_enqueue_changes('12345678', '{"loginName": "a1@example.com", "maxChats": 9, "fullName": "x"}')});
	$session->send(q{INSERT INTO lp.people SELECT * FROM staff('r', 2000)});
	LpUsers::wait_for(sub { $sim->count(method => 'POST', status => 201) > 0 }, 'the first of them');
	$other->query(q{CALL lp_deliver('12345678')});
	is($other->query(q{SELECT state FROM lp_requests WHERE operation = 'update' AND path = 'queue'}), 'done', 'an update of the queue beside an INSERT');
	(undef, $err) = $session->take;
	is($err, '', '... which ends well');
	@methods = map { $_->{method} } @{ $sim->get('log') };
	like(join(' ', @methods), qr/PUT.*POST/, 'they have taken turns');
	is(scalar(grep { $_->{status} == 412 } @{ $sim->get('log') }), 0, '... and waited for each other');
};

done_testing();

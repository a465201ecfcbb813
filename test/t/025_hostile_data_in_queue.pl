# What hostile data, settings, accounts and people try with the queue: nothing is run with another role's rights, nothing
# ends the server, one account's trouble stays its own, and each user is created once and accounted for.
#
# Two servers: on "main" the worker delivers, on "quiet" it is off but where a test says so, and CALL delivers.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP;
use LpTraps;
use LpUsers;
use Test::More;
use Time::HiRes qw(time usleep);

my $conf  = "log_min_error_statement = panic\nautovacuum = off\nmax_worker_processes = 20\nmax_prepared_transactions = 5\n";
my $main  = LpUsers::server(name => 'main', conf => $conf . "lpusers.idle_timeout = '2s'\n");
my $quiet = LpUsers::server(name => 'quiet', conf => $conf . "lpusers.worker = off\nlpusers.idle_timeout = '1s'\n");
my $serial = 0;

# Accounts: a stand-in each.
my %sim = map { $_ => LpUsers::account('--account', $_) } qw(aaa bbb ccc);

# ---------------------------------------------------------------------------------------------- steps

# A database of its own, with a server for each account and the ready token; returns a superuser's session in it.
sub database
{
	my ($node, $db, %options) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $db " . ($options{create} // ''));
	$node->safe_psql($db, 'CREATE EXTENSION lpusers');
	my $session = LpUsers::session($node, db => $db, encoding => $options{encoding} // 'UTF8');
	foreach my $account (@{ $options{accounts} // ['aaa'] })
	{
		my $more = $options{options} ? ", $options{options}" : '';

		$session->query("CREATE SERVER $account FOREIGN DATA WRAPPER lpusers OPTIONS (account '$account', base_url '$sim{$account}{url}'$more);
			CREATE USER MAPPING FOR CURRENT_USER SERVER $account OPTIONS (token 'lp-token')");
		$sim{$account}->reset;
	}
	return $session;
}

sub fresh { my ($name) = @_; return $name . ++$serial; }
sub json_of { my (@users) = @_; return '[' . join(',', map { LpUsers::user(ref $_ ? @$_ : $_) } @users) . ']'; }
sub enqueue_sql { my ($account, @users) = @_; my $json = json_of(@users) =~ s/'/''/gr; return "SELECT lp_enqueue_users('$account', '$json')"; }
sub enqueue { my ($session, $account, @users) = @_; return split(/\n/, $session->query(enqueue_sql($account, @users))); }
sub row { my ($session, $name, $columns) = @_; return $session->query("SELECT $columns FROM lp_requests WHERE login_name = '$name\@example.com'"); }
sub state_of { my ($session, $name) = @_; return row($session, $name, 'state'); }
sub is_created { my ($session, $name) = @_; LpUsers::wait_for(sub { state_of($session, $name) eq 'created' }, "$name created"); return; }
sub posts { my ($account, $name) = @_; return $sim{$account}->count(method => 'POST', path => '/users', $name ? (login => "$name\@example.com") : ()); }
sub due_now { my ($session) = @_; $session->due_now(wake => 1); return; }
sub worker_of { my ($session) = @_; return $session->query('SELECT lp_worker_pid()'); }

sub deliver
{
	my ($session, $account) = @_;
	my (undef, $err) = $session->run('CALL lp_deliver(' . ($account ? "'$account'" : '') . ')');

	unlike($err, qr/ERROR|WARNING|FATAL/, 'CALL lp_deliver()');
	return $err;
}

sub once
{
	my ($what, $account, $posts, @names) = @_;

	is(join(' ', map { $sim{$account}->users_with("$_\@example.com") } @names), join(' ', map { 1 } @names), "$what: the account has each once");
	is(join(' ', map { posts($account, $_) } @names), join(' ', map { $posts } @names), "$what: POSTs for each: $posts") if defined $posts;
	return;
}

sub worker_setting
{
	my ($node, $value) = @_;

	$node->safe_psql('postgres', "ALTER SYSTEM SET lpusers.worker = $value");
	$node->safe_psql('postgres', 'SELECT pg_reload_conf()');
	LpUsers::wait_for(sub { $node->safe_psql('postgres', 'SHOW lpusers.worker') eq $value }, "lpusers.worker = $value");
	return;
}

sub workers_gone
{
	my ($session) = @_;

	LpUsers::wait_for(sub { worker_of($session) eq '' && $session->query("SELECT count(*) FROM pg_stat_activity
		WHERE backend_type = 'lpusers worker' AND datname = current_database()") eq '0' }, 'the worker to leave');
	return;
}

sub arrived
{
	my ($account) = @_;
	LpUsers::wait_for(sub { grep { $_->{struck} > 0 } @{ $sim{$account}->get('faults') } }, 'the request to arrive');
	return;
}

# ---------------------------------------------------------------------------------------------- a steady inflow: begun here

# One session commits a new user every 50 ms until a doubtful row of its account is looked up and another account has its
# turn, or too much time is over. How it ends is looked at below, after the rest.
my %flow = map { $_ => LpUsers::account('--account', $_) } qw(steady other);
$sim{$_} = $flow{$_} foreach keys %flow;
my $inflow = database($main, 'inflow', accounts => [ 'steady', 'other' ]);
my $flood = LpUsers::session($main, db => 'inflow');
my $started = $main->safe_psql('postgres', 'SELECT pg_postmaster_start_time()');
{
	$sim{steady}->post('faults', { method => 'POST', login => "doubtful\@example.com", action => 'status', status => 503 });
	enqueue($inflow, 'steady', 'doubtful');
	LpUsers::wait_for(sub { state_of($inflow, 'doubtful') eq 'uncertain' }, 'a doubtful row');
	$sim{steady}->post('config', { delay_ms => 300 });
	my $user = LpUsers::user('flow#') =~ s/'/''/gr;
	$flood->send("DO \$\$ DECLARE seen boolean := false; BEGIN
		FOR i IN 1 .. 1200 LOOP
			PERFORM lp_enqueue_users('steady', replace('[$user]', '#', i::text)::jsonb);
			COMMIT;
			PERFORM pg_sleep(0.05);
			seen := (SELECT count(*) = 2 FROM lp_requests WHERE login_name IN ('doubtful\@example.com', 'beside\@example.com') AND state = 'created');
			IF seen THEN RAISE NOTICE 'both after % users', i; EXIT; END IF;
		END LOOP;
		IF NOT seen THEN RAISE NOTICE 'starved'; END IF;
	END \$\$");
	LpUsers::wait_for(sub { posts('steady', 'flow5') }, 'the inflow');
	enqueue($inflow, 'other', 'beside');
}

subtest 'many invalid users in one statement' => sub {
	my $session = database($main, 'many');
	my $offset = -s $main->logfile;
	my $after = fresh('after');

	is($session->query("SELECT count(*) FROM lp_enqueue_users('aaa', (SELECT jsonb_agg(1) FROM generate_series(1, 1002)))"), 1002, 'users that are none: each has a request');
	is($session->query('SELECT state, count(*), count(error), count(*) FILTER (WHERE next_attempt_at IS NOT NULL) FROM lp_requests GROUP BY 1'), 'failed|1002|1002|0',
		'users that are none: each is failed and says why');
	is($session->query('SELECT count(*) FROM lp_payloads'), 0, 'users that are none: there is nothing to send');
	# a good one behind them is told apart
	is($session->query("SELECT count(*) FROM lp_enqueue_users('aaa', (SELECT jsonb_agg(1) FROM generate_series(1, 1200)) || '" . json_of($after) . "')"), 1201, 'a good one behind 1200 bad ones');
	is_created($session, $after);
	is($session->query('SELECT state, count(*) FROM lp_requests GROUP BY 1 ORDER BY 1'), "created|1\nfailed|2202", 'a good one behind 1200 bad ones: created, they are failed');
	once('a good one behind 1200 bad ones', 'aaa', 1, $after);
	is(posts('aaa'), 1, 'users that are none: nothing is sent for them');

	# should such a row be there all the same, it fails alone
	my $beside = fresh('beside');
	$session->query("INSERT INTO lp_requests (account, operation, path, requested_by, send_as, send_as_oid, state, next_attempt_at, origin)
		VALUES ('aaa', 'create', 'queue', current_user, current_user, current_user::regrole, 'pending', now(), lp_origin());
		INSERT INTO lp_payloads SELECT max(id), '1' FROM lp_requests");
	enqueue($session, 'aaa', $beside);
	is_created($session, $beside);
	LpUsers::wait_for(sub { $session->query("SELECT count(*) FROM lp_requests WHERE login_name IS NULL AND state = 'pending'") == 0 }, 'the row without login');
	is($session->query("SELECT count(*) FROM lp_requests WHERE login_name IS NULL AND state = 'held'"), 1, 'a row without login: held');
	unlike(LpUsers::log_since($main, $offset), qr/terminated by signal|server process|crash/, 'no process was ended by a signal');
	is($main->safe_psql('postgres', 'SELECT pg_postmaster_start_time()'), $started, 'the server is the same');
};

subtest 'a hostile owner of the database' => sub {
	$quiet->safe_psql('postgres', 'CREATE ROLE villain LOGIN');
	my $session = database($quiet, 'hostile', accounts => [], create => 'OWNER villain');
	my $offset = -s $quiet->logfile;
	my @names = map { fresh('hostile') } 1 .. 4;

	$sim{aaa}->reset;
	$session->query(LpTraps::sql('villain'));
	$session->query(qq{
		GRANT EXECUTE ON FUNCTION lp_enqueue_users(text, jsonb), lp_release(text), lp_adopt(), lp_purge(interval), lp_worker_stop() TO villain;
		GRANT EXECUTE ON PROCEDURE lp_deliver(text) TO villain;
		CREATE TABLE seen (state text); GRANT ALL ON seen TO PUBLIC;
		CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN INSERT INTO public.seen VALUES (NEW.state); RETURN NULL; END \$\$;
		CREATE TRIGGER see AFTER UPDATE ON lp_requests FOR EACH ROW WHEN (NEW.state = 'created') EXECUTE FUNCTION see();
		CREATE SERVER aaa FOREIGN DATA WRAPPER lpusers OPTIONS (account 'aaa', base_url '$sim{aaa}{url}');
		GRANT USAGE ON FOREIGN SERVER aaa TO villain;
		SET ROLE villain;
		CREATE USER MAPPING FOR villain SERVER aaa OPTIONS (token 'lp-token');
		RESET ROLE;});
	$session->query($_) foreach map { "SET ROLE villain; ALTER DATABASE hostile SET $_; RESET ROLE" } 'search_path = evil, pg_catalog, public', "lock_timeout = '1ms'",
	  "statement_timeout = '1ms'", 'default_transaction_read_only = on', 'default_transaction_isolation = serializable', "idle_in_transaction_session_timeout = '1ms'";
	$session->query('ALTER DATABASE hostile SET session_replication_role = replica');

	# villain itself in spite of all that, but with the search_path and serializable
	local $ENV{PGOPTIONS} = '-c statement_timeout=0 -c lock_timeout=0 -c default_transaction_read_only=off -c idle_in_transaction_session_timeout=0';
	my $villain = LpUsers::session($quiet, db => 'hostile', role => 'villain');
	is($villain->query('SHOW search_path'), 'evil, pg_catalog, public', 'hostile: the search_path');
	$villain->query("SELECT pg_catalog.lower('X'::pg_catalog.text), lower('X'::pg_catalog.text), 'a'::pg_catalog.text = 'b'::pg_catalog.text, 2::pg_catalog.float8 * '1 s'::pg_catalog.interval");
	$villain->query('SELECT count(*) FROM pg_prepared_xacts');
	is($session->query("SELECT string_agg(DISTINCT what, ' ' ORDER BY what) FROM evil.sprung WHERE who = 'villain'"), '* = lower', 'hostile: the traps work');
	my $sprung = "SELECT coalesce(string_agg(DISTINCT who || ' ' || what, ', '), '') FROM evil.sprung WHERE who <> 'villain'";

	my @ids = enqueue($villain, 'aaa', @names[ 0, 1 ]);
	is($session->query($sprung), '', 'hostile: nothing was run with the rights of the tables\' owner by lp_enqueue_users()');
	# one is looked up on the way
	$sim{aaa}->post('faults', { method => 'POST', path => '/users', action => 'status', status => 503, applied => JSON::PP::true, times => 2 });
	deliver($villain, 'aaa');
	is($session->query("SELECT string_agg(state, ' ') FROM lp_requests"), 'uncertain uncertain', 'hostile: 503');
	due_now($session);
	deliver($villain, 'aaa');
	is($session->query($sprung), '', 'hostile: nor by CALL lp_deliver()');
	is($session->query("SELECT string_agg(state || ' ' || evidence, ' ') FROM lp_requests"), 'created lookup created lookup', 'hostile: CALL lp_deliver() delivers');
	$villain->run("SELECT lp_retry(ARRAY[$ids[0]]); SELECT lp_discard(ARRAY[$ids[0]]); SELECT lp_release('aaa'); SELECT lp_adopt(); SELECT lp_purge('1 day')");
	is($session->query($sprung), '', 'hostile: nor by what people do with rows');
	my $before = $session->query('SELECT count(*) FROM seen');

	$session->query('TRUNCATE evil.sprung');
	worker_setting($quiet, 'on');
	$villain->query(enqueue_sql('aaa', $names[2]));
	is_created($session, $names[2]);
	$sim{aaa}->post('faults', { method => 'POST', path => '/users', action => 'status', status => 503 });
	$villain->query(enqueue_sql('aaa', $names[3]));
	LpUsers::wait_for(sub { state_of($session, $names[3]) eq 'uncertain' }, '503: uncertain');
	due_now($session);
	is_created($session, $names[3]);
	worker_setting($quiet, 'off');
	workers_gone($session);
	is($session->query($sprung), '', 'hostile: nor by the worker');
	my $log = LpUsers::log_since($quiet, $offset);
	is(join(', ', sort grep { !/villain$/ } $log =~ /(trap \S+ sprung by \w+)/g), '', 'hostile: nor was it rolled back');
	like($log, qr/trap \S+ sprung by villain/, '... which the log would show');
	unlike($log, qr/canceling statement|could not serialize|read-only transaction/, 'hostile: settings of the database do not disturb');
	is($session->query('SELECT count(*) FROM seen') - $before, 2, 'hostile: the worker\'s session_replication_role is origin');
	once('hostile', 'aaa', undef, @names);
};

subtest 'errors of one account do not delay another' => sub {
	my $session = database($main, 'trouble', accounts => [ 'aaa', 'bbb' ]);
	my ($stuck, @names) = map { fresh('trouble') } 1 .. 4;
	my $offset = -s $main->logfile;

	$session->query(q{CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not %', TG_ARGV[0]; END $$;
		CREATE TRIGGER no BEFORE UPDATE ON lp_requests FOR EACH ROW WHEN (NEW.account = 'aaa') EXECUTE FUNCTION no('this account');
		CREATE TRIGGER keep BEFORE DELETE ON lp_requests FOR EACH STATEMENT EXECUTE FUNCTION no('housekeeping');});
	$session->query('BEGIN; ' . enqueue_sql('aaa', $stuck) . '; ' . enqueue_sql('bbb', $names[0]) . '; COMMIT');
	is_created($session, $names[0]);
	LpUsers::wait_for(sub { LpUsers::log_since($main, $offset) =~ /WARNING:  request \d+ is passed over: not this account/ }, 'the warning for one row');
	my $pid = worker_of($session);
	enqueue($session, 'bbb', $names[1]);
	is_created($session, $names[1]);
	is(state_of($session, $stuck), 'pending', 'an account with an error in every round: its row waits');
	LpUsers::wait_for(sub { LpUsers::log_since($main, $offset) =~ /ERROR:  not housekeeping/ }, 'the error of housekeeping');
	enqueue($session, 'bbb', $names[2]);
	is_created($session, $names[2]);
	is(worker_of($session), $pid, 'errors of an account and of housekeeping: the worker is the same');
	once('an account beside one with errors', 'bbb', 1, @names);
	is(posts('aaa'), 0, 'an account with an error at the claim: nothing is sent');
	$session->query('DROP TRIGGER no ON lp_requests; SELECT lp_worker_stop()');
	LpUsers::wait_for(sub { $session->query('SELECT lp_worker_pid()') eq '' }, 'the worker to leave');
	$session->query('SELECT _lp_wake()');
	is_created($session, $stuck);
	once('the account that had the error', 'aaa', 1, $stuck);
};

# ---------------------------------------------------------------------------------------------- secrets in answers, large users

# Delivered by CALL or by the worker; returns when none is unfinished.
sub settle_all
{
	my ($session, $by) = @_;

	deliver($session) if $by eq 'CALL';
	LpUsers::wait_for(sub { $session->query("SELECT count(*) FROM lp_requests WHERE state IN ('pending', 'sending')") == 0 }, "$by: all settled");
	return;
}

subtest 'secrets in responses and large users' => sub {
	foreach my $by ('CALL', 'worker')
	{
		my $session = database($by eq 'CALL' ? $quiet : $main, 'answers');
		my %password = (plain => 'Geheim-4711', quoted => 'Ge"heim\\47/11', umlaut => "Geh\x{e4}im-4711");

		foreach my $kind (sort keys %password)
		{
			my $quoted = JSON::PP->new->ascii->allow_nonref->encode($password{$kind});
			my $slashed = $quoted =~ s/^"|"$//gr =~ s{/}{\\/}gr;
			my $utf8 = JSON::PP->new->utf8->allow_nonref->encode($password{$kind}) =~ s/^"|"$//gr;

			foreach my $fault ([ 'in words', { action => 'body', status => 400, body => "{\"message\":\"password " . $slashed . " is too weak\"}" } ],
				[ 'raw', { action => 'body', status => 400, content_type => 'text/plain', body => "password " . JSON::PP->new->allow_nonref->decode($quoted) . " is too weak" } ],
				[ 'array', { action => 'body', status => 403, body => "[{\"passwordSh\":\"$slashed\"}]" } ], [ 'echo', { action => 'echo' } ])
			{
				my ($what, $rule) = @$fault;
				my $name = fresh('answer');
				my $user = LpUsers::user($name, passwordSh => 'PASSWORD') =~ s/"PASSWORD"/$quoted/r =~ s/'/''/gr;

				$sim{aaa}->remove('faults');
				$sim{aaa}->post('faults', { method => 'POST', path => '/users', %$rule });
				$session->query("SELECT lp_enqueue_users('aaa', '[$user]')");
				settle_all($session, $by);
				my $state = ($rule->{status} // 0) == 403 ? 'held' : 'failed';
				is(state_of($session, $name), $state, "$by, the answer repeats a password ($kind, $what): $state");
				my $error = row($session, $name, "coalesce(error, '') || coalesce(reason, '')");
				isnt($error, '', "$by, the answer repeats a password ($kind, $what): it says something");
				unlike($error, qr/heim|im-4711|4711 is/, "$by, the answer repeats a password ($kind, $what): not the password");
			}
		}
		$sim{aaa}->remove('faults');
		$sim{aaa}->post('faults', { method => 'POST', path => '/users', action => 'body', status => 400, body => '{"message":"Ge\\u0068eim/47 is too weak"}' });
		is($session->query("SELECT status, error FROM lp_create_users('aaa', '" . LpUsers::user(fresh('direct'), passwordSh => 'Geheim/47') . "')"),
			'400|status 400; the response repeats a secret and is not shown', 'a direct call, likewise');

		# a user that is stored out of line, and one too large to be sent
		my ($large, $huge, $small) = map { fresh('large') } 1 .. 3;
		my $text = "(SELECT jsonb_build_object('description', string_agg(md5(random()::text), '')) FROM generate_series(1, N))";
		my $list = join(' || ', map { my ($name, $n) = @$_; 'jsonb_build_array(' . "'" . LpUsers::user($name) . "'::jsonb || " . $text =~ s/N/$n/r . ')' } [ $large, 16_000 ], [ $huge, 40_000 ], [ $small, 1 ]);
		$session->query("SELECT count(*) FROM lp_enqueue_users('aaa', $list)");
		is(row($session, $huge, 'state, error'), 'failed|the user is larger than 1 MB', "$by: a user of 1.2 MB is failed at once");
		is($session->query("SELECT count(*) FROM lp_payloads WHERE length(body::text) > 1048576"), 0, "$by: and is not kept to be sent after all");
		like(($session->run("SELECT lp_retry(ARRAY(SELECT id FROM lp_requests WHERE login_name = '$huge\@example.com'))"))[1], qr/ERROR:  22023/, "$by: lp_retry() refuses it");
		settle_all($session, $by);
		is(row($session, $large, 'state, error'), 'created|', "$by: a user of 500 kB is created");
		is(state_of($session, $small), 'created', "$by: one beside them, too");
		once("$by: large users", 'aaa', 1, $large, $small);
		is(length((grep { $_->{loginName} eq "$large\@example.com" } @{ $sim{aaa}->get('users') })[0]{description}), 512_000, "$by: it has all of its text");
		is(posts('aaa', $huge), 0, "$by: the one of 1.2 MB is not sent");
	}
};

# ---------------------------------------------------------------------------------------------- CALL: partial success

my $session = database($quiet, 'calls', accounts => [ 'aaa', 'bbb' ]);

sub fresh_calls
{
	$sim{$_}->reset foreach qw(aaa bbb);
	$session->query("DELETE FROM lp_payloads; DELETE FROM lp_requests");
	return;
}

subtest 'a batch that is refused and then gets 403' => sub {
	my @names = map { fresh('partial') } 1 .. 8;
	my $guilty = splice(@names, 2, 1);

	fresh_calls();
	$sim{aaa}->post('config', { bulk => 'partial' });
	enqueue($session, 'aaa', @names, [ $guilty, passwordSh => 'short' ]);
	$sim{aaa}->post('faults', { method => 'POST', path => '/users', skip => 1, times => 0, action => 'status', status => 403 });
	deliver($session, 'aaa');
	is(row($session, $_, 'state, evidence, user_id IS NOT NULL'), 'created|lookup|t', 'refused, then 403: who is there is created, by lookup') foreach @names;
	is(row($session, $guilty, 'state, hold'), 'held|credentials', 'refused, then 403: the guilty one is held');
	is(posts('aaa'), 2, 'refused, then 403: one POST, and one of what was absent');
	is($sim{aaa}->users_with("$guilty\@example.com"), 0, 'refused, then 403: the guilty one is not there');
	once('refused, then 403', 'aaa', 1, @names);
};

subtest 'rejected credentials and expired secrets' => sub {
	my @names = map { fresh('refused') } 1 .. 200;

	fresh_calls();
	$session->query(q{ALTER USER MAPPING FOR CURRENT_USER SERVER aaa OPTIONS (DROP token, ADD client_id 'lp-client', ADD client_secret 'wrong-secret');
		ALTER SERVER aaa OPTIONS (ADD batch_size '1', ADD domain_api_url 'DOMAIN', ADD ca_file 'CA')} =~ s/DOMAIN/$sim{aaa}{tls_url}/r =~ s{CA'}{$LpUsers::top/test/certs/ca.pem'}r);
	enqueue($session, 'aaa', @names);
	deliver($session, 'aaa');
	my $tokens = $sim{aaa}->count(method => 'POST', path => '/app/token');
	cmp_ok($tokens, '>=', 1, 'refused credentials: the token service was asked');
	cmp_ok($tokens, '<=', 5, "refused credentials: it was asked $tokens times for 200 users");
	is($session->query("SELECT state, count(*), count(reason), count(held_at), sum(attempts) FROM lp_requests GROUP BY 1"), 'held|200|200|200|' . $session->query('SELECT sum(attempts) FROM lp_requests'),
		'refused credentials: all are held with the reason');
	is($session->query("SELECT count(*) FROM lp_requests WHERE reason ~ 'token service refused'"), 200, '... which is the token service\'s');
	unlike($session->query('SELECT DISTINCT reason FROM lp_requests'), qr/wrong-secret/, '... without the secret');

	# held for a while, but enqueued long ago: the payload is there as long as keep_secrets from when it was held
	$session->query("UPDATE lp_requests SET enqueued_at = enqueued_at - interval '5 days'");
	deliver($session, 'aaa');
	is($session->query('SELECT count(*) FROM lp_payloads'), 200, 'held just now, enqueued five days ago: secrets stay');
	$session->query("UPDATE lp_requests SET held_at = held_at - interval '31 days' WHERE login_name = '$names[7]\@example.com'");
	deliver($session, 'aaa');
	is($session->query('SELECT count(*) FROM lp_payloads'), 199, 'held a month ago: secrets go');
	is($session->query("SELECT count(*) FROM lp_requests r WHERE login_name = '$names[7]\@example.com' AND NOT EXISTS (SELECT FROM lp_payloads WHERE request_id = r.id)"), 1, '... those of the right row');

	$session->query("ALTER USER MAPPING FOR CURRENT_USER SERVER aaa OPTIONS (SET client_secret 'lp-client-secret'); ALTER SERVER aaa OPTIONS (SET batch_size '100')");
	is($session->query("SELECT lp_release('aaa')"), 199, 'released');
	deliver($session, 'aaa');
	is($session->query('SELECT state, count(*) FROM lp_requests GROUP BY 1 ORDER BY 1'), "created|199\nheld|1", 'released: created, but for the one whose secrets are gone');
	is($sim{aaa}->text('created') + 0, 199, 'released: the account has 199 more');
	is($sim{aaa}->text('duplicates') =~ s/\s//gr, '[]', 'released: none twice');
	$session->query("ALTER USER MAPPING FOR CURRENT_USER SERVER aaa OPTIONS (DROP client_id, DROP client_secret, ADD token 'lp-token')");
};

subtest 'concurrent lp_retry() sends once' => sub {
	my $name = fresh('retry');
	my ($one, $two) = map { LpUsers::session($quiet, db => 'calls') } 1 .. 2;

	fresh_calls();
	$sim{aaa}->post('faults', { method => 'POST', path => '/users', action => 'status', status => 400 });
	my ($id) = enqueue($session, 'aaa', $name);
	deliver($session, 'aaa');
	is(row($session, $name, 'state, status'), 'failed|400', 'to be retried: failed');
	$one->query("BEGIN; SELECT lp_retry(ARRAY[$id])");
	my $pid = $two->query('SELECT pg_backend_pid()');
	$two->send("SELECT lp_retry(ARRAY[$id])");
	LpUsers::wait_for(sub { $session->query("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid") eq 't' }, 'the second to wait');
	$one->query('COMMIT');
	my ($out, $err) = $two->take;
	is($out, '', 'two who retry: the second changes nothing');
	like($err, qr/ERROR:  22023: .*is not a failed request/, '... and is told so');
	deliver($session, 'aaa');
	due_now($session);
	deliver($session, 'aaa');
	due_now($session);
	deliver($session, 'aaa');
	is(state_of($session, $name), 'created', 'two who retry: created');
	once('two who retry', 'aaa', 2, $name);

	# the second waits while the row is claimed and being sent
	$name = fresh('retry');
	$sim{aaa}->post('faults', { method => 'POST', path => '/users', action => 'status', status => 400 });
	($id) = enqueue($session, 'aaa', $name);
	deliver($session, 'aaa');
	$sim{aaa}->remove('faults');
	$sim{aaa}->post('faults', { method => 'POST', path => '/users', action => 'delay', ms => 800 });
	$two->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM lp_requests LIMIT 1');
	$one->query("SELECT lp_retry(ARRAY[$id])");
	# it was sent before, so it is looked up first
	deliver($session, 'aaa');
	due_now($session);
	$one->send("CALL lp_deliver('aaa')");
	arrived('aaa');
	($out, $err) = $two->run("SELECT lp_retry(ARRAY[$id])");
	like($err, qr/ERROR:  (?:40001|22023)/, 'retry with an old snapshot while the row is being sent: refused');
	$two->query('ROLLBACK');
	$one->take;
	deliver($session, 'aaa');
	is(state_of($session, $name), 'created', 'retry with an old snapshot: created');
	once('retry with an old snapshot', 'aaa', 2, $name);
};

subtest 'a lookup uses the credentials of its request' => sub {
	my ($first, $second) = map { fresh('role') } 1 .. 2;

	fresh_calls();
	$session->query(q{CREATE ROLE hr_one LOGIN; CREATE ROLE hr_two LOGIN;
		GRANT USAGE ON FOREIGN SERVER aaa TO hr_one, hr_two;
		GRANT EXECUTE ON FUNCTION lp_enqueue_users(text, jsonb) TO hr_one, hr_two;
		CREATE USER MAPPING FOR hr_one SERVER aaa OPTIONS (token 'lp-token');
		CREATE USER MAPPING FOR hr_two SERVER aaa OPTIONS (token 'lp-token');});
	$sim{aaa}->post('faults', { method => 'POST', path => '/users', times => 2, action => 'status', status => 503, applied => JSON::PP::true });
	LpUsers::session($quiet, db => 'calls', role => 'hr_one')->query(enqueue_sql('aaa', $first));
	LpUsers::session($quiet, db => 'calls', role => 'hr_two')->query(enqueue_sql('aaa', $second));
	deliver($session, 'aaa');
	is($session->query('SELECT string_agg(state, \' \') FROM lp_requests'), 'uncertain uncertain', 'two roles: both in doubt');
	$session->query("ALTER USER MAPPING FOR hr_one SERVER aaa OPTIONS (SET token 'revoked')");
	due_now($session);
	deliver($session, 'aaa');
	is(join(' ', map { row($session, $_, 'state, evidence, user_id IS NOT NULL') } $first, $second), 'created|lookup|t created|lookup|t', 'a revoked token: the other role\'s is used for the lookup');
	is($sim{aaa}->count(method => 'GET', path => '/users', status => 401), 1, '... after the revoked one was tried once');
	once('a revoked token', 'aaa', 1, $first, $second);
};

subtest 'control characters in texts' => sub {
	my $ascii = database($quiet, 'bytes', create => "ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0", encoding => 'SQL_ASCII');
	my @names = map { fresh('bytes') } 1 .. 4;
	my $json = json_of(map { $_ eq $names[1] ? [ $_, nickname => 'BYTES' ] : $_ } @names) =~ s/BYTES/M\xfcller/r;

	$ascii->query("SELECT lp_enqueue_users('aaa', '$json')");
	deliver($ascii, 'aaa');
	is(join(' ', map { state_of($ascii, $_) } @names), 'created failed created created', 'SQL_ASCII: one of four is not UTF-8, it alone fails');
	is(row($ascii, $names[1], 'error'), 'the user cannot be sent as UTF-8', '... and says why');
	once('SQL_ASCII', 'aaa', 1, @names[ 0, 2, 3 ]);
	is($sim{aaa}->text('created') + 0, 3, 'SQL_ASCII: nobody else');
};

subtest 'adopted requests that are held for another reason' => sub {
	my ($sent, $held) = map { fresh('adopted') } 1 .. 2;

	fresh_calls();
	$session->query(q{ALTER SERVER aaa OPTIONS (ADD hold_above '1'); CREATE TABLE hired (name text);
		SELECT lp_attach_trigger('hired', 'aaa', '{"loginName": "name", "fullName": "name", "nickname": "name", "email": "name", "passwordSh": "''Start-1234''",
			"isEnabled": "true", "maxChats": "1", "profileIds": "ARRAY[1]", "memberOf": "jsonb_build_object(''agentGroupId'', 1)"}')});
	$session->query("INSERT INTO hired VALUES ('$held\@example.com'), ('more-$held\@example.com')");
	enqueue($session, 'aaa', $sent);
	is($session->query('SELECT string_agg(state, \' \' ORDER BY id) FROM lp_requests'), 'held held pending', 'more than hold_above: held');
	$session->query("UPDATE lp_requests SET origin = '1/1/1'");
	deliver($session, 'aaa');
	like(row($session, $sent, 'state, reason'), qr/^held\|written elsewhere/, 'another system: all are held');
	is($session->query("SELECT lp_release('aaa')"), 0, 'another system: lp_release() is not for that');
	is($session->query('SELECT lp_adopt()'), 1, 'lp_adopt(): what was to be sent there');
	is(row($session, $held, "state, reason !~ 'written elsewhere', origin = lp_origin()"), 'held|t|t', 'lp_adopt(): what hold_above held there is still held, here');
	due_now($session);
	deliver($session, 'aaa');
	is($session->query('SELECT string_agg(state, \' \' ORDER BY id) FROM lp_requests'), 'held held created', 'adopted: created, the others are held');
	is(posts('aaa'), 1, 'adopted: one POST');
	cmp_ok($sim{aaa}->count(method => 'GET', path => '/users'), '>=', 1, '... after a lookup');
	is($session->query("SELECT lp_release('aaa')"), 2, 'then released');
	deliver($session, 'aaa');
	once('adopted, then released', 'aaa', 1, $sent, $held, "more-$held");
	$session->query("ALTER SERVER aaa OPTIONS (DROP hold_above)");
};

subtest 'CALL leaves later retries to the worker' => sub {
	my ($again, $cancelled) = map { fresh('left') } 1 .. 2;
	my $other = LpUsers::session($quiet, db => 'calls');
	my $pid = $other->query('SELECT pg_backend_pid()');

	fresh_calls();
	enqueue($session, 'aaa', $again);
	is(worker_of($session), '', 'no worker: it is off');
	worker_setting($quiet, 'on');
	$sim{aaa}->post('faults', { method => 'POST', path => '/users', action => 'status', status => 503 });
	my $err = deliver($session, 'aaa');
	like($err, qr/0 created, .*1 to be tried again/, 'CALL: 503');
	LpUsers::wait_for(sub { worker_of($session) ne '' }, 'the worker that CALL starts');
	# the UPDATE alone wakes no worker
	$session->query('UPDATE lp_requests SET next_attempt_at = now() - interval \'1 s\'');
	is_created($session, $again);
	once('CALL: 503', 'aaa', 2, $again);
	worker_setting($quiet, 'off');
	workers_gone($session);

	fresh_calls();
	enqueue($session, 'aaa', $cancelled);
	worker_setting($quiet, 'on');
	is(worker_of($session), '', 'no worker: nobody asked for it');
	$sim{aaa}->post('faults', { method => 'POST', path => '/users', action => 'silence' });
	$other->send("CALL lp_deliver('aaa')");
	arrived('aaa');
	my $start = time();
	$session->query("SELECT pg_cancel_backend($pid)");
	(undef, $err) = $other->take;
	like($err, qr/ERROR:  57014/, 'CALL: cancelled');
	cmp_ok(time() - $start, '<', 5, 'CALL: cancelled at once');
	LpUsers::wait_for(sub { worker_of($session) ne '' }, 'the worker that a cancelled CALL starts');
	LpUsers::wait_for(sub { state_of($session, $cancelled) eq 'uncertain' }, 'the worker to take over');
	$session->query('UPDATE lp_requests SET next_attempt_at = now() - interval \'1 s\'');
	is_created($session, $cancelled);
	once('CALL: cancelled', 'aaa', 2, $cancelled);
	worker_setting($quiet, 'off');
	workers_gone($session);
};

subtest 'accounts that have to wait do not delay others' => sub {
	foreach my $case ('Retry-After', 'rate_limit')
	{
		foreach my $end ('lp_worker_stop()', 'lpusers.worker = off')
		{
			my @waiting = map { fresh('wait') } 1 .. 3;
			my $beside = fresh('beside');

			fresh_calls();
			$session->query("ALTER SERVER aaa OPTIONS (SET batch_size '1', ADD max_connections '1'" . ($case eq 'rate_limit' ? ", ADD rate_limit '0.05'" : '') . ')');
			$sim{aaa}->post('faults', { method => 'POST', path => '/users', times => 0, action => 'retry_after', value => '30' }) if $case eq 'Retry-After';
			$session->query(enqueue_sql('aaa', @waiting));
			worker_setting($quiet, 'on');
			my $start = time();
			$session->query('SELECT _lp_wake()');
			LpUsers::wait_for(sub { posts('aaa') }, "$case: the first request");
			$session->query(enqueue_sql('bbb', $beside));
			is_created($session, $beside);
			my $took = time() - $start;
			cmp_ok($took, '<', 15, "$case: another account is delivered meanwhile");
			note(sprintf('%s: the other account after %.1f s', $case, $took));
			$start = time();
			$end =~ /stop/ ? is($session->query('SELECT lp_worker_stop()'), 't', "$case: $end") : worker_setting($quiet, 'off');
			workers_gone($session);
			$took = time() - $start;
			cmp_ok($took, '<', 15, "$case, $end: the worker leaves");
			note(sprintf('%s, %s: gone after %.1f s', $case, $end, $took));
			worker_setting($quiet, 'off') if $end =~ /stop/;
			is(posts('aaa'), 1, "$case, $end: one POST to the account that waits");
			my $created = $case eq 'rate_limit' ? 1 : 0;
			is($session->query("SELECT count(*) FROM lp_requests WHERE account = 'aaa' AND state = 'pending' AND next_attempt_at > now() + interval '5 s'"),
				2, "$case, $end: the others wait for their time") if $case eq 'rate_limit';
			is($session->query("SELECT count(*) FROM lp_requests WHERE account = 'aaa' AND state = 'pending'"), 3 - $created, "$case, $end: nobody is lost");
			$sim{aaa}->remove('faults');
			$session->query('ALTER SERVER aaa OPTIONS (DROP max_connections' . ($case eq 'rate_limit' ? ', DROP rate_limit' : '') . ')');
			due_now($session);
			deliver($session, 'aaa');
			once("$case, $end: delivered later", 'aaa', $case eq 'rate_limit' ? 1 : undef, @waiting);
			once("$case, $end: the other account", 'bbb', 1, $beside);
		}
	}
};

subtest 'a steady inflow is delivered completely' => sub {
	{
		my (undef, $err) = $flood->take;

		like($err, qr/both after \d+ users/, 'steady inflow: a doubtful row of the account is looked up, and another account has its turn, before it ends');
		note($err =~ /(both after \d+ users)/);
		LpUsers::wait_for(sub { $inflow->query("SELECT count(*) FROM lp_requests WHERE state <> 'created'") == 0 }, 'the inflow to be delivered');
		my $n = $inflow->query("SELECT count(*) FROM lp_requests WHERE account = 'steady'");
		is($sim{steady}->text('created') + 0, $n, 'steady inflow: as many users as requests');
		is($sim{steady}->text('duplicates') =~ s/\s//gr, '[]', 'steady inflow: none twice');
		my %sent;
		$sent{$_}++ foreach map { @{ $_->{logins} } } grep { $_->{method} eq 'POST' } @{ $sim{steady}->get('log') };
		is(join(' ', grep { $sent{$_} != ($_ eq "doubtful\@example.com" ? 2 : 1) } sort keys %sent), '', 'steady inflow: one POST for each, two for the one that was refused with 503');
		once('steady inflow: the other account', 'other', 1, 'beside');
	}

	is($main->safe_psql('postgres', 'SELECT pg_postmaster_start_time()'), $started, 'the server has not been restarted');
	unlike(LpUsers::slurp_file($_->logfile), qr/terminated by signal|PANIC|TRAP/, 'no process ended by a signal: ' . $_->name) foreach $main, $quiet;
};

done_testing();

# Many sessions queue users while the account misbehaves at random: in the end the counts add up, and memory has stayed flat.
#
# What was asked for is in a table that is written in the same transactions. Some users have a password that is refused. Now and
# then the worker is told to leave, or terminated. The account is one of two kinds: it creates all or nothing of a batch, and
# takes a login twice, so that a POST too many makes a second user; or it creates the good ones of a batch that it refuses, and
# refuses a login that exists. 20,000 users in some minutes with LPUSERS_LONG, else 2,000 in 20 s. LPUSERS_SEED repeats the
# dice, if not the timing.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP;
use LpUsers;
use Test::More;
use Time::HiRes qw(time usleep);

my $long     = $ENV{LPUSERS_LONG};
my $seed     = $ENV{LPUSERS_SEED} || int(time()) % 1_000_000;
my $sessions = 8;
my $users    = $long ? 20_000 : 2_000;
my $pause    = $long ? 1.4 : 0.8;			# between two transactions of a session, at most, in seconds
my $share    = $users / $sessions;
srand($seed);

my $sim  = LpUsers::account('--delay', 5);
my $node = LpUsers::server(conf => "lpusers.idle_timeout = '2s'\nlog_min_messages = error\nlog_min_error_statement = panic\n");
LpUsers::connect_account($node, $sim, options => "timeout '1s', batch_size '50', max_connections '4', max_retries '1000', hold_above '0'",
	mapping => "token 'lp-token'");
my $partial = rand() < 0.3;
$sim->post('config', $partial ? { bulk => 'partial' } : { unique => JSON::PP::false });

# The HR system: half of the sessions insert into a table with the trigger, half queue by hand.
$node->safe_psql('postgres', q{
	CREATE TABLE asked (login text PRIMARY KEY, good boolean NOT NULL);
	CREATE TABLE hires (login text PRIMARY KEY, good boolean NOT NULL);
	CREATE FUNCTION password_of(good boolean) RETURNS text LANGUAGE sql AS $$ SELECT CASE WHEN good THEN 'Start-1234' ELSE 'short' END $$;
	SELECT lp_attach_trigger('hires', '12345678', $${"loginName": "login", "fullName": "'Full ' || login", "nickname": "left(login, 8)",
		"email": "login", "passwordSh": "public.password_of(good)", "isEnabled": "true", "maxChats": "3", "profileIds": "ARRAY[1]"}$$);

	CREATE PROCEDURE hire(who text, total int, pause float8, seed float8, by_trigger boolean) LANGUAGE plpgsql AS $$
	DECLARE
		n int := 0;
		size int;
		lost boolean;
	BEGIN
		PERFORM setseed(seed);
		WHILE n < total LOOP
			size := least(total - n, 1 + floor(random() ^ 3 * 40)::int);
			lost := random() < 0.05;
			DELETE FROM now_hired;
			INSERT INTO now_hired SELECT format('%s-%s%s@example.com', who, n + i, CASE WHEN lost THEN '-lost' END), random() > 0.01
				FROM generate_series(1, size) i;
			INSERT INTO asked SELECT * FROM now_hired;
			IF by_trigger THEN
				INSERT INTO hires SELECT * FROM now_hired;
			ELSE
				PERFORM count(*) FROM lp_enqueue_users('12345678', (SELECT jsonb_agg(jsonb_build_object('loginName', login, 'fullName', 'Full ' || login,
					'nickname', left(login, 8), 'email', login, 'passwordSh', password_of(good), 'isEnabled', true, 'maxChats', 3,
					'profileIds', ARRAY[1])) FROM now_hired));
			END IF;
			IF lost THEN
				ROLLBACK;
			ELSE
				COMMIT;
				n := n + size;
			END IF;
			PERFORM pg_sleep(random() * pause);
		END LOOP;
	END $$});
my $admin = LpUsers::session($node);

# ---------------------------------------------------------------------------------------------- dice

# A listing that is complete and wrong cannot be told from a right one, nor can a success of a batch that was refused.
my ($true, $false) = (JSON::PP::true, JSON::PP::false);
my @mischief = (
	sub { return { action => 'reset', applied => $false } },
	sub { return { action => 'reset', applied => $true } },
	sub { return { action => 'close', applied => $true } },
	sub { return { action => 'half', applied => $true, reset => $true } },
	sub { return { action => 'wrong_length', applied => $true } },
	sub { return { action => 'status', status => 500 + int(rand(4)), applied => $false } },
	sub { return { action => 'status', status => 503, applied => $true } },
	sub { return { action => 'html' } },
	sub { return { action => 'retry_after', value => '1' } },
	sub { return { action => 'silence', applied => rand() < 0.5 ? $true : $false, seconds => 3 } },
	sub { return { action => 'delay', ms => int(rand(1800)) } },
	sub { return { action => 'drip', bytes => 1 + int(rand(200)), ms => 20 } },
	sub { return { method => 'GET', action => 'retry_after', value => '1' } },
	sub { return { method => 'GET', action => 'status', status => 503 } },
	# what is due, or in doubt, is held from then on
	sub { return { method => 'GET', action => 'status', status => 403 } });

# The account's mood for the next moment.
sub roll
{
	my @rules = map { { %{ $mischief[ rand(@mischief) ]->() }, path => '/le-users/users' } } 1 .. rand(3);

	$sim->remove('faults');
	$sim->post('faults', \@rules) if @rules;
	return;
}

# ---------------------------------------------------------------------------------------------- memory

my (%samples, %gone);

# Memory of its own of a process, in kB; what it shares with others is the server's.
sub sample
{
	my ($name, $pid) = @_;

	open(my $in, '<', "/proc/$pid/status") or return;
	my ($kb) = join('', <$in>) =~ /^RssAnon:\s*(\d+)/m;
	close($in);
	push @{ $samples{"$name $pid"} }, $kb if $kb;
	return;
}

sub median { my @sorted = sort { $a <=> $b } @_; return $sorted[ @sorted / 2 ]; }

# Growth from the second quarter of a process's life to its last, or undef if it was short.
sub growth
{
	my @kb = @{ $_[0] };
	my $quarter = int(@kb / 4);

	return if $quarter < 3;
	return median(@kb[ -$quarter .. -1 ]) - median(@kb[ $quarter .. 2 * $quarter - 1 ]);
}

# ---------------------------------------------------------------------------------------------- the soak

my @hirers;

sub hiring { return $admin->query("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CALL hire%' AND state = 'active'"); }
sub open_rows { return $admin->query("SELECT count(*) FROM lp_requests WHERE state NOT IN ('created', 'failed')"); }
sub release { return $admin->query("SELECT lp_release('12345678')"); }
sub worker { return $admin->query('SELECT lp_worker_pid()'); }

sub watch
{
	sample('session', $_->{pid}) foreach @hirers;
	my $worker = worker();
	sample('worker', $worker) if $worker ne '';
	return;
}
my $disturbances = 0;
my $released = 0;
my $took;

subtest 'random faults while many sessions queue users' => sub {
	my $begun = time();
	foreach my $i (1 .. $sessions)
	{
		my $session = LpUsers::session($node);
		my $pid = $session->query('CREATE TEMP TABLE now_hired (login text, good boolean); SELECT pg_backend_pid()');
		$session->send(sprintf("CALL hire('s%d', %d, %s, %s, %s)", $i, $share, $pause, rand(), $i % 2 ? 'true' : 'false'));
		push @hirers, { session => $session, pid => $pid };
	}

	my $rounds = 0;
	while (hiring() > 0)
	{
		roll();
		watch();
		# not towards the end: the worker's memory is looked at over a while
		if ($rounds++ % 25 == 24 && $rounds < ($long ? 500 : 60))
		{
			$admin->query(rand() < 0.5 ? 'SELECT lp_worker_stop()' : 'SELECT pg_terminate_backend(lp_worker_pid())');
			$disturbances++;
		}
		$released += release() if $rounds % 5 == 0;
		usleep(100_000);
	}
	foreach my $hirer (@hirers)
	{
		my (undef, $err) = $hirer->{session}->take;
		is($err, '', 'a session has hired without trouble');
	}
	my $hired = time() - $begun;

	# The account is well again. What failed waits 5 s and more: for the short run that is too long.
	my $patience = time() + ($long ? 240 : 0);
	$sim->remove('faults');
	is($admin->query("SELECT count(*) FROM lp_requests WHERE state = 'held' AND hold IS DISTINCT FROM 'credentials'"), 0, 'rows are held for credentials only');
	while ((my $open = open_rows()) > 0)
	{
		die "timed out with $open rows open" if time() > $begun + $hired + $LpUsers::patience + 240;
		watch();
		# a refused listing may still be written down
		$released += release();
		$admin->query('SELECT _lp_wake()');
		$admin->due_now(wake => 1) if time() > $patience;
		usleep(200_000);
	}
	$took = time() - $begun;
};

# ---------------------------------------------------------------------------------------------- the counts

# The first of many names are enough to read.
sub some { my @names = sort @_; return @names > 5 ? join(' ', @names[ 0 .. 4 ], '... of ' . @names) : join(' ', @names); }
my (%applied, %struck);
my $requests = 0;

subtest 'the counts add up' => sub {
	my %there;
	$there{ $_->{loginName} }++ foreach @{ $sim->get('users') };
	foreach my $entry (grep { $_->{path} =~ m{/le-users/users$} } @{ $sim->get('log') })
	{
		$requests++;
		$struck{ $entry->{fault} }++ if $entry->{fault};
		next unless $entry->{method} eq 'POST' && $entry->{applied};
		$applied{$_}++ foreach @{ $entry->{logins} };
	}
	my %asked = map { split(/\|/) } split(/\n/, $admin->query("SELECT login || '|' || good FROM asked"));
	my @good = grep { $asked{$_} eq 'true' } keys %asked;

	is(scalar(keys %asked), $users, "as many users as were to be hired: $users");
	is(some(grep { $there{$_} > 1 } keys %there), '', 'no login is there twice');
	is(some(grep { !$there{$_} } @good), '', 'everybody is there');
	is(some(grep { ($asked{$_} // 'false') ne 'true' } keys %there), '', 'nobody is there who was not asked for, was rolled back, or refused');
	is($admin->query("SELECT string_agg(state || ' ' || n, ', ' ORDER BY state) FROM (SELECT state, count(*) AS n FROM lp_requests GROUP BY 1) x"),
		join(', ', 'created ' . @good, @good < $users ? 'failed ' . ($users - @good) : ()), 'the states add up');
	is($admin->query("SELECT count(*) FROM asked a FULL JOIN lp_requests r ON r.login_name = a.login
		WHERE a.login IS NULL OR r.id IS NULL OR r.state <> CASE WHEN a.good THEN 'created' ELSE 'failed' END"), '0', 'row by row');
	is($admin->query("SELECT DISTINCT error FROM lp_requests WHERE state = 'failed' AND error !~ 'passwordSh' LIMIT 5"), '', 'what failed failed for its password');
	is($admin->query('SELECT count(*) FROM lp_payloads p JOIN lp_requests r ON r.id = p.request_id WHERE r.state = $$created$$'), '0', 'no payload of a created user is left');
	is(some(grep { $applied{$_} > 1 } keys %applied), '', 'no login was carried out twice') unless $partial;
};

subtest 'memory stays flat' => sub {
	my %most = (session => 0, worker => 0);
	my $looked = 0;
	foreach my $key (sort keys %samples)
	{
		my ($kind) = split(/ /, $key);
		my $growth = growth($samples{$key});

		next unless defined $growth;
		$looked++ if $kind eq 'worker';
		$most{$kind} = $growth if $growth > $most{$kind};
	}
	cmp_ok($looked, '>', 0, 'a worker was watched for a while');
	cmp_ok($most{session}, '<', 2048, 'sessions do not grow (kB)');
	# a lookup holds the listing of the account, which grows: 1 kB a user is more than it takes
	cmp_ok($most{worker}, '<', 4096 + $users, 'nor do workers (kB)');
	unlike(LpUsers::log_since($node, 0), qr/terminated by signal|TRAP:|PANIC:/, 'nothing crashed');

	diag(sprintf('soak: seed %d, an account that creates %s; %d users in %.0f s, %.0f users/s; %d requests, %d of them struck (%s); %d disturbances of the worker; %d rows held and released; growth in kB: sessions %d, worker %d',
		$seed, $partial ? 'some' : 'all or nothing', $users, $took, $users / $took, $requests, eval { my $n = 0; $n += $_ foreach values %struck; $n },
		join(' ', map { "$_ $struck{$_}" } sort keys %struck), $disturbances, $released, $most{session}, $most{worker}));
};

done_testing();
